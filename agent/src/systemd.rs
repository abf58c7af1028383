//! What systemd needs of its world to be an image's init: <https://systemd.io/CONTAINER_INTERFACE>. Podman gives
//! it the same when an image's command is systemd.

use nix::mount::{MsFlags, mount};

use crate::error::{AgentError, Context};

const CGROUP: &str = "/sys/fs/cgroup";

/// Directories in memory, each with its mode: nothing of an earlier boot may be in them.
const IN_MEMORY: [(&str, &str); 3] =
    [("/run", "mode=755"), ("/run/lock", "mode=1777"), ("/tmp", "mode=1777")];

/// Adds to a furnished root, before it is made read-only.
pub fn furnish() -> Result<(), AgentError> {
    for (path, mode) in IN_MEMORY {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(error).context(|| format!("create {path}"));
            }
            _ => {}
        }
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(mode))
            .context(|| format!("mount {path}"))?;
    }
    // Only this mount of it becomes writable, whose root is the workload's own group.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(None::<&str>, CGROUP, None::<&str>, flags, None::<&str>)
        .context(|| format!("make {CGROUP} writable"))
}
