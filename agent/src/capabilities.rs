//! The privileges of the workload: Docker's default set unless told otherwise, for images are written against it.
//! <https://github.com/moby/moby/blob/master/daemon/pkg/oci/caps/defaults.go>

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::prctl::set_no_new_privs;
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::error::{AgentError, Context};
use crate::proto::Privileges;
use crate::user::Identity;

const DEFAULT: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// What a workload has for which nothing else was asked.
pub fn default_privileges() -> Privileges {
    Privileges { default_capabilities: true, ..Privileges::default() }
}

/// The set of a process with these privileges.
fn set_of(privileges: &Privileges) -> Result<CapsHashSet, AgentError> {
    if privileges.all_capabilities {
        return Ok(caps::runtime::thread_all_supported());
    }
    if privileges.default_capabilities {
        return Ok(DEFAULT.into_iter().collect());
    }
    let parse =
        |name: &String| name.parse().map_err(|_| AgentError::Invalid(format!("unknown capability {name:?}")));
    privileges.capabilities.iter().map(parse).collect()
}

/// Drops what the workload may never have: nothing that it executes gets it back.
pub fn limit_bounding_set(privileges: &Privileges) -> Result<(), AgentError> {
    let wanted = set_of(privileges)?;
    for capability in caps::all() {
        // A kernel older than the list does not know the newest ones: they are then not in the set either.
        if !wanted.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false)
        {
            caps::drop(None, CapSet::Bounding, capability)
                .map_err(|error| AgentError::Invalid(format!("cannot drop {capability}: {error}")))?;
        }
    }
    Ok(())
}

/// Becomes the user. Root keeps the set; for anyone else the kernel clears all when the uid changes. The
/// inheritable set is empty for everyone (CVE-2022-24769).
pub fn become_user(identity: &Identity, privileges: &Privileges) -> Result<(), AgentError> {
    let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups).context(|| "setgroups".into())?;
    setresgid(gid, gid, gid).context(|| format!("setgid {gid}"))?;
    setresuid(uid, uid, uid).context(|| format!("setuid {uid}"))?;
    if uid.is_root() {
        let set = set_of(privileges)?;
        let empty = CapsHashSet::new();
        for (kind, value) in
            [(CapSet::Inheritable, &empty), (CapSet::Effective, &set), (CapSet::Permitted, &set)]
        {
            caps::set(None, kind, value)
                .map_err(|error| AgentError::Invalid(format!("cannot set the capabilities: {error}")))?;
        }
    }
    if privileges.no_new_privileges {
        set_no_new_privs().context(|| "give up new privileges".into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_privileges_the_set_is_dockers() {
        let set: CapsHashSet = DEFAULT.into_iter().collect();
        assert_eq!(set_of(&default_privileges()).unwrap(), set);
    }

    #[test]
    fn a_set_is_exactly_what_is_named() {
        let privileges = Privileges {
            capabilities: vec!["CAP_SYS_TIME".into()],
            no_new_privileges: true,
            ..Privileges::default()
        };
        assert_eq!(set_of(&privileges).unwrap(), [Capability::CAP_SYS_TIME].into_iter().collect());
        assert_eq!(set_of(&Privileges::default()).unwrap().len(), 0);
        let wrong = Privileges { capabilities: vec!["CAP_FLY".into()], ..Privileges::default() };
        assert!(set_of(&wrong).unwrap_err().to_string().contains("CAP_FLY"));
    }
}
