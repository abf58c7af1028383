//! Whose files are whose. A server that runs as root passes ids on as they are. Any other can only make files
//! of its own user: these are the workload's user's in the guest, whatever group of the user's they have;
//! everyone else's are nobody's. An owner that the guest gives to a file of the user's is kept beside it, in
//! an extended attribute that only this program looks at and that changes nothing on the host.

use rustix::fs::Statx;
use rustix::process::{getegid, geteuid, getgroups};

use crate::hello::Ids;

/// Where a given owner is kept, as "UID:GID".
pub const ATTRIBUTE: &std::ffi::CStr = c"user.firectl.owner";
/// Who owns what nobody in the guest owns; the kernel's own overflow id.
const NOBODY: u32 = 65534;

#[derive(Debug)]
pub enum Owners {
    /// The guest's ids are the host's.
    Same,
    Mapped(Mapping),
}

#[derive(Debug)]
pub struct Mapping {
    pub host_uid: u32,
    host_gids: Vec<u32>,
    pub guest: Ids,
}

impl Owners {
    /// For the user that this process runs as. `asked` is what the command line says, `workload` the guest.
    pub fn new(asked: Option<Ids>, workload: Ids) -> Self {
        let host_uid = geteuid().as_raw();
        if host_uid == 0 && asked.is_none() {
            return Self::Same;
        }
        let mut host_gids = vec![getegid().as_raw()];
        host_gids.extend(getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()));
        Self::Mapped(Mapping { host_uid, host_gids, guest: asked.unwrap_or(workload) })
    }

    /// The owner in the guest's eyes; `given` is what the attribute says.
    pub fn seen(&self, stat: &Statx, given: Option<Ids>) -> Ids {
        match self {
            Self::Same => Ids { uid: stat.stx_uid, gid: stat.stx_gid },
            Self::Mapped(mapping) => mapping.seen(stat, given),
        }
    }
}

impl Mapping {
    fn seen(&self, stat: &Statx, given: Option<Ids>) -> Ids {
        match given {
            Some(ids) if self.owns(stat) => ids,
            _ => Ids {
                uid: if self.owns(stat) { self.guest.uid } else { NOBODY },
                gid: if self.host_gids.contains(&stat.stx_gid) { self.guest.gid } else { NOBODY },
            },
        }
    }

    /// Whether the file is the user's, to whom alone its attribute is to be believed.
    pub fn owns(&self, stat: &Statx) -> bool {
        stat.stx_uid == self.host_uid
    }
}

pub fn encode(ids: Ids) -> String {
    format!("{}:{}", ids.uid, ids.gid)
}

pub fn decode(bytes: &[u8]) -> Option<Ids> {
    let (uid, gid) = std::str::from_utf8(bytes).ok()?.split_once(':')?;
    Some(Ids { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_survives_the_attribute() {
        let ids = Ids { uid: 999, gid: 4_294_967_294 };
        assert_eq!(decode(encode(ids).as_bytes()), Some(ids));
        for bytes in [&b""[..], b"1", b"1:", b":1", b"-1:1", b"1:1:1", b"4294967296:0", b"\xff:1"] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
