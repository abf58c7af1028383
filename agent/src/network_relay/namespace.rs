//! A network namespace of the VMM's own, which any user can have inside a user namespace.

use std::fs;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

/// Leaves the host's network. A user keeps uid and gid, and has all rights over the new network until
/// something is executed.
pub fn enter() -> Result<(), String> {
    let (uid, gid) = (geteuid(), getegid());
    if uid.is_root() {
        return unshare(CloneFlags::CLONE_NEWNET).map_err(|error| {
            format!("cannot make a network namespace: {error}; --network as root needs CAP_SYS_ADMIN")
        });
    }
    let what = "cannot make a user namespace with a network namespace";
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|error| format!("{what}: {error}{}", hint(error)))?;
    // Without setgroups(2): only so may a user map a group; user_namespaces(7).
    for (file, line) in
        [("setgroups", "deny".to_owned()), ("uid_map", map_to_itself(uid)), ("gid_map", map_to_itself(gid))]
    {
        let path = format!("/proc/self/{file}");
        fs::write(&path, line).map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            format!("{what}: cannot write {path}: {error}{}", hint(errno))
        })?;
    }
    Ok(())
}

fn map_to_itself(id: impl std::fmt::Display) -> String {
    format!("{id} {id} 1")
}

/// What forbids it on a host, where it is the host.
const fn hint(error: Errno) -> &'static str {
    match error {
        Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS => {
            "; --network needs unprivileged user namespaces, see sysctl kernel.unprivileged_userns_clone, \
             kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_forbids_it_is_told_of() {
        for error in [Errno::EPERM, Errno::EACCES, Errno::ENOSPC, Errno::EUSERS] {
            assert!(hint(error).contains("user.max_user_namespaces"), "{error}");
        }
        assert_eq!(hint(Errno::EINVAL), "");
    }
}
