//! What is mounted where: in the initramfs for the agent, in the new root for the workload.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
use nix::unistd::{chdir, chroot};

use crate::cmdline::is_device_name;
use crate::error::{AgentError, Context};
use crate::probing;
use crate::proto::{Root, RootMode};
use crate::volumes;

/// Where the agent, which stays in the initramfs, sees the workload's root and its parts.
pub const ROOT: &str = "/root";
const BASE: &str = "/base";
const UPPER: &str = "/upper";

/// One call of mount(2).
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    source: &'a str,
    target: &'a str,
    kind: &'a str,
    flags: MsFlags,
    data: &'a str,
    /// A kernel built without this filesystem runs the workload all the same.
    optional: bool,
}

impl Mount<'_> {
    fn perform(&self) -> Result<(), AgentError> {
        create_directory(self.target)?;
        let data = (!self.data.is_empty()).then_some(self.data);
        match mount(Some(self.source), self.target, Some(self.kind), self.flags, data) {
            Err(Errno::ENODEV) if self.optional => Ok(()),
            result => result.context(|| format!("mount {} on {}", self.source, self.target)),
        }
    }
}

const NOSUID_NOEXEC: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC);
const NOSUID_NOEXEC_NODEV: MsFlags = NOSUID_NOEXEC.union(MsFlags::MS_NODEV);

/// The agent's own: the kernel command line and processes, then devices.
pub fn mount_proc() -> Result<(), AgentError> {
    simple("proc", "/proc", NOSUID_NOEXEC_NODEV, "").perform()
}

pub fn mount_dev() -> Result<(), AgentError> {
    simple("devtmpfs", "/dev", NOSUID_NOEXEC, "mode=0755").perform()
}

const fn simple<'a>(kind: &'a str, target: &'a str, flags: MsFlags, data: &'a str) -> Mount<'a> {
    Mount { source: kind, target, kind, flags, data, optional: false }
}

/// Waits until `/dev/<name>` is there: a driver may still be probing it.
pub fn wait_for_device(name: &str) -> Result<String, AgentError> {
    if !is_device_name(name) {
        return Err(AgentError::Invalid(format!("{name:?} is not the name of a device")));
    }
    let path = format!("/dev/{name}");
    if !probing::appears(probing::DEADLINE, || Path::new(&path).exists()) {
        let seconds = probing::DEADLINE.as_secs();
        return Err(AgentError::Invalid(format!("{path} did not appear within {seconds} s")));
    }
    Ok(path)
}

/// The mounts that make up the root, in order.
fn root_plan<'a>(root: &Root, base: &'a str, upper: &'a str) -> Result<Vec<Mount<'a>>, AgentError> {
    let ext4 =
        |source, target, flags| Mount { source, target, kind: "ext4", flags, data: "", optional: false };
    match root.mode() {
        RootMode::Overlay => Ok(vec![
            Mount {
                // Without it the guest would keep a copy of what it already has in reach.
                data: if root.base_dax { "dax" } else { "" },
                ..ext4(base, BASE, MsFlags::MS_RDONLY | MsFlags::MS_NOATIME)
            },
            ext4(upper, UPPER, MsFlags::MS_NOATIME),
            // redirect_dir lets directories of the image be renamed; index=off as in Docker.
            simple(
                "overlay",
                ROOT,
                MsFlags::MS_NOATIME,
                "lowerdir=/base,upperdir=/upper/upper,workdir=/upper/work,redirect_dir=on,index=off",
            ),
        ]),
        RootMode::Disk => Ok(vec![ext4(base, ROOT, MsFlags::MS_NOATIME)]),
        RootMode::Unspecified => Err(AgentError::Invalid("the spec names no root mode".into())),
    }
}

/// Mounts the workload's root at [`ROOT`].
pub fn mount_root(root: &Root) -> Result<(), AgentError> {
    let base = wait_for_device(&root.base_device)?;
    let upper = match root.mode() {
        RootMode::Overlay => wait_for_device(&root.upper_device)?,
        RootMode::Disk | RootMode::Unspecified => String::new(),
    };
    for step in root_plan(root, &base, &upper)? {
        step.perform()?;
        if step.target == UPPER {
            create_directory("/upper/upper")?;
            create_directory("/upper/work")?;
        }
    }
    Ok(())
}

/// Where the disk is mounted that the VM writes to.
pub fn writable_disk(mode: Option<RootMode>) -> &'static str {
    match mode {
        Some(RootMode::Disk) => ROOT,
        Some(RootMode::Overlay | RootMode::Unspecified) | None => UPPER,
    }
}

/// Makes the disks consistent for good: nothing can be written afterwards. The workload must be gone.
pub fn seal_disks() {
    for target in [UPPER.into(), ROOT.into()].into_iter().chain(volumes::staged()) {
        // In each mode one of the first two is not a disk, and remounting it fails or does nothing.
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        let _ = mount(None::<&str>, &target, None::<&str>, flags, None::<&str>);
    }
    nix::unistd::sync();
}

/// Makes [`ROOT`] the root of this process and of its mount namespace. pivot_root(2) cannot leave an
/// initramfs, hence the mount that covers it.
/// <https://docs.kernel.org/filesystems/ramfs-rootfs-initramfs.html>
pub fn enter_root() -> Result<(), AgentError> {
    chdir(ROOT).context(|| "enter the root".into())?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).context(|| "move the root".into())?;
    chroot(".").context(|| "chroot".into())?;
    chdir("/").context(|| "enter the root".into())
}

/// What runc mounts for Docker, in its order:
/// <https://github.com/moby/moby/blob/master/daemon/pkg/oci/defaults.go>
const WORKLOAD_MOUNTS: [Mount<'_>; 7] = [
    simple("proc", "/proc", NOSUID_NOEXEC_NODEV, ""),
    simple("tmpfs", "/dev", MsFlags::MS_NOSUID.union(MsFlags::MS_STRICTATIME), "mode=755,size=65536k"),
    simple("devpts", "/dev/pts", NOSUID_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"),
    simple("tmpfs", "/dev/shm", NOSUID_NOEXEC_NODEV, "mode=1777,size=65536k"),
    Mount { optional: true, ..simple("mqueue", "/dev/mqueue", NOSUID_NOEXEC_NODEV, "") },
    simple("sysfs", "/sys", NOSUID_NOEXEC_NODEV.union(MsFlags::MS_RDONLY), ""),
    Mount {
        optional: true,
        ..simple("cgroup2", "/sys/fs/cgroup", NOSUID_NOEXEC_NODEV.union(MsFlags::MS_RDONLY), "")
    },
];

/// Character devices that every container has, with major and minor numbers:
/// <https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices>
const DEVICES: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const DEVICE_LINKS: [(&str, &str); 6] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("/proc/kcore", "/dev/core"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Docker's lists. They are no boundary here, the machine is: they keep programs that look at these files
/// behaving as they do in a container.
const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Mounts and creates below the new root what an image leaves to the runtime. A workload that is to be
/// `unmasked` may change what it finds there. `taken` says where the host mounts something of the user's instead.
pub fn furnish_root(unmasked: bool, taken: impl Fn(&str) -> bool) -> Result<(), AgentError> {
    umask(Mode::empty());
    for step in WORKLOAD_MOUNTS.into_iter().filter(|step| !taken(step.target)) {
        let kept = if unmasked { MsFlags::all().difference(MsFlags::MS_RDONLY) } else { MsFlags::all() };
        Mount { flags: step.flags & kept, ..step }.perform()?;
    }
    let mode = Mode::from_bits_truncate(0o666);
    for (path, major, minor) in DEVICES {
        mknod(path, SFlag::S_IFCHR, mode, makedev(major, minor)).context(|| format!("create {path}"))?;
    }
    for (target, path) in DEVICE_LINKS {
        symlink(target, path).context(|| format!("create {path}"))?;
    }
    if !unmasked {
        for path in MASKED_PATHS {
            mask(path)?;
        }
        for path in READ_ONLY_PATHS {
            make_read_only(path)?;
        }
    }
    umask(Mode::from_bits_truncate(0o022));
    Ok(())
}

fn mask(path: &str) -> Result<(), AgentError> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(()); // this kernel does not have it
    };
    if metadata.is_dir() {
        simple("tmpfs", path, MsFlags::MS_RDONLY, "size=0k").perform()
    } else {
        mount(Some("/dev/null"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context(|| format!("mask {path}"))
    }
}

fn make_read_only(path: &str) -> Result<(), AgentError> {
    if !Path::new(path).exists() {
        return Ok(()); // this kernel does not have it
    }
    mount(Some(path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context(|| format!("bind {path}"))?;
    remount_read_only(path, NOSUID_NOEXEC_NODEV)
}

/// Makes the root read-only, once everything below it is in place.
pub fn make_root_read_only() -> Result<(), AgentError> {
    remount_read_only("/", MsFlags::MS_NOATIME)
}

/// `flags` are those that the mount has and keeps.
pub fn remount_read_only(path: impl AsRef<Path>, flags: MsFlags) -> Result<(), AgentError> {
    let path = path.as_ref();
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .context(|| format!("make {} read-only", path.display()))
}

/// Creates one directory unless it is there.
fn create_directory(path: &str) -> Result<(), AgentError> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result.context(|| format!("create {path}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_a_base_below_a_writable_disk() {
        let root = Root { mode: RootMode::Overlay.into(), ..Root::default() };
        let plan = root_plan(&root, "/dev/vda", "/dev/vdb").unwrap();
        let summary: Vec<_> = plan.iter().map(|step| (step.source, step.target, step.kind)).collect();
        assert_eq!(
            summary,
            [("/dev/vda", BASE, "ext4"), ("/dev/vdb", UPPER, "ext4"), ("overlay", ROOT, "overlay")]
        );
        assert!(plan[0].flags.contains(MsFlags::MS_RDONLY));
        assert!(!plan[1].flags.contains(MsFlags::MS_RDONLY));
        assert_eq!((plan[0].data, plan[1].data), ("", ""));
    }

    #[test]
    fn a_base_in_memory_is_mapped_and_not_copied() {
        let root = Root { mode: RootMode::Overlay.into(), base_dax: true, ..Root::default() };
        let plan = root_plan(&root, "/dev/pmem0", "/dev/vda").unwrap();
        assert_eq!((plan[0].source, plan[0].data), ("/dev/pmem0", "dax"));
        assert_eq!((plan[1].source, plan[1].data), ("/dev/vda", ""));
    }

    #[test]
    fn a_disk_is_the_root_itself() {
        let root = Root { mode: RootMode::Disk.into(), ..Root::default() };
        let plan = root_plan(&root, "/dev/vda", "").unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!((plan[0].target, plan[0].flags), (ROOT, MsFlags::MS_NOATIME));
        root_plan(&Root::default(), "/dev/vda", "").unwrap_err();
    }

    #[test]
    fn a_device_is_named_not_pathed() {
        for name in ["", "../mem", "vd a"] {
            wait_for_device(name).unwrap_err();
        }
    }
}
