//! The privileges of the workload: Docker's default set, for images are written against it.
//! <https://github.com/moby/moby/blob/master/daemon/pkg/oci/caps/defaults.go>

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use crate::error::{AgentError, Context};
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

/// Drops what the workload may never have: nothing that it executes gets it back.
pub fn limit_bounding_set() -> Result<(), AgentError> {
    let wanted: CapsHashSet = DEFAULT.into_iter().collect();
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

/// Becomes the user. Root keeps Docker's default set; for anyone else the kernel clears all when the uid
/// changes. The inheritable set is empty for everyone (CVE-2022-24769).
pub fn become_user(identity: &Identity) -> Result<(), AgentError> {
    let groups: Vec<Gid> = identity.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    setgroups(&groups).context(|| "setgroups".into())?;
    setresgid(gid, gid, gid).context(|| format!("setgid {gid}"))?;
    setresuid(uid, uid, uid).context(|| format!("setuid {uid}"))?;
    if uid.is_root() {
        let set: CapsHashSet = DEFAULT.into_iter().collect();
        let empty = CapsHashSet::new();
        for (kind, value) in
            [(CapSet::Inheritable, &empty), (CapSet::Effective, &set), (CapSet::Permitted, &set)]
        {
            caps::set(None, kind, value)
                .map_err(|error| AgentError::Invalid(format!("cannot set the capabilities: {error}")))?;
        }
    }
    Ok(())
}
