//! What the host mounts into the workload's root: volumes, snapshots of host directories, memory.
//!
//! Disks are mounted where only the agent sees them, and volumes are filled there. The workload's first child
//! takes descriptors of them into its own root, because after the chroot no path leads to them any more.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;

use crate::cmdline::is_device_name;
use crate::copy_tree::copy_tree;
use crate::error::{AgentError, Context};
use crate::mount_options;
use crate::mount_point::{create_mount_point, resolve};
use crate::mounts::{self, ROOT};
use crate::proto::{Mount, ShareMount, SnapshotMount, TmpfsMount, VolumeMount};
use crate::shares;

/// Each disk is mounted below it, under the name of its device.
const STAGE: &str = "/volumes";
/// The part of a volume's disk that the workload sees: renaming is then all it takes to have it filled.
const DATA: &str = "data";
const FILLING: &str = "filling";

/// What a mount shows.
enum Source<'a> {
    Volume(&'a VolumeMount),
    Snapshot(&'a SnapshotMount),
    Tmpfs(&'a TmpfsMount),
    Share(&'a ShareMount),
}

fn source_of(each: &Mount) -> Option<Source<'_>> {
    let volume = each.volume.as_ref().map(Source::Volume);
    let snapshot = each.snapshot.as_ref().map(Source::Snapshot);
    let share = each.share.as_ref().map(Source::Share);
    volume.or(snapshot).or(share).or_else(|| each.tmpfs.as_ref().map(Source::Tmpfs))
}

/// Mounts the disks and fills volumes; the root must be there, and the workload not.
pub fn stage(mounts: &[Mount]) -> Result<(), AgentError> {
    let disks = disks_of(mounts);
    if disks.is_empty() {
        return Ok(());
    }
    fs::create_dir(STAGE).context(|| format!("create {STAGE}"))?;
    for (device, read_only) in disks {
        mount_disk(device, read_only)?;
    }
    for each in mounts {
        if let Some(volume) = &each.volume
            && volume.fill
        {
            let source = resolve(Path::new(ROOT), Path::new(&each.destination))
                .context(|| format!("find {} in the image", each.destination))?;
            fill(&stage_of(&volume.device), &source)?;
        }
    }
    Ok(())
}

/// The devices, and whether each can only be read.
fn disks_of(mounts: &[Mount]) -> BTreeMap<&str, bool> {
    let mut disks = BTreeMap::new();
    for each in mounts {
        match source_of(each) {
            Some(Source::Volume(volume)) => {
                let read_only = each.read_only && !volume.fill;
                disks
                    .entry(volume.device.as_str())
                    .and_modify(|all: &mut bool| *all &= read_only)
                    .or_insert(read_only);
            }
            Some(Source::Snapshot(snapshot)) => {
                disks.insert(snapshot.device.as_str(), true);
            }
            Some(Source::Tmpfs(_) | Source::Share(_)) | None => {}
        }
    }
    disks
}

fn stage_of(device: &str) -> PathBuf {
    Path::new(STAGE).join(device)
}

fn mount_disk(device: &str, read_only: bool) -> Result<(), AgentError> {
    let path = mounts::wait_for_device(device)?;
    let target = stage_of(device);
    fs::create_dir(&target).context(|| format!("create {}", target.display()))?;
    let flags = if read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    mount(Some(path.as_str()), &target, Some("ext4"), flags | MsFlags::MS_RELATIME, None::<&str>)
        .context(|| format!("mount the disk {path}"))
}

/// Copies the image's directory `source` into an empty volume. The copy gets its name when it is whole: what a
/// power cut leaves of one is removed by the next.
fn fill(disk: &Path, source: &Path) -> Result<(), AgentError> {
    let (data, filling) = (disk.join(DATA), disk.join(FILLING));
    let failed = || format!("fill the volume from {}", source.display());
    if filling.exists() {
        fs::remove_dir_all(&filling).context(failed)?;
    }
    if fs::read_dir(&data).context(failed)?.next().is_some() || !source.exists() {
        return Ok(());
    }
    if !source.is_dir() {
        let path = source.strip_prefix(ROOT).unwrap_or(source);
        return Err(AgentError::Invalid(format!("/{} is not a directory in the image", path.display())));
    }
    copy_tree(source, &filling).inspect_err(|_| {
        let _ = fs::remove_dir_all(&filling);
    })?;
    let directory = open(disk, OFlag::O_RDONLY | OFlag::O_DIRECTORY, Mode::empty()).context(failed)?;
    nix::unistd::syncfs(&directory).context(failed)?;
    fs::rename(&filling, &data).context(failed)
}

/// Where the disks are mounted that [`stage`] has mounted.
pub fn staged() -> Vec<PathBuf> {
    fs::read_dir(STAGE).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Descriptors of what is to be bound into the root, one for each mount that is not memory.
#[derive(Debug)]
pub struct Sources(Vec<Option<OwnedFd>>);

impl Sources {
    /// Opens them in this process's mount namespace, while their paths still lead there.
    pub fn open(mounts: &[Mount]) -> Result<Self, AgentError> {
        mounts.iter().map(open_source).collect::<Result<_, _>>().map(Self)
    }
}

fn open_source(each: &Mount) -> Result<Option<OwnedFd>, AgentError> {
    let path = match source_of(each) {
        Some(Source::Volume(volume)) => stage_of(&volume.device).join(DATA),
        Some(Source::Snapshot(snapshot)) => {
            if !is_device_name(&snapshot.entry) {
                return Err(AgentError::Invalid(format!("{:?} names no snapshot", snapshot.entry)));
            }
            stage_of(&snapshot.device).join(&snapshot.entry)
        }
        Some(Source::Share(share)) => shares::stage_of(share.port),
        Some(Source::Tmpfs(_)) => return Ok(None),
        None => {
            return Err(AgentError::Invalid(format!("the mount at {} has no source", each.destination)));
        }
    };
    open(&path, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
        .context(|| format!("open {}", path.display()))
        .map(Some)
}

/// Mounts everything in order; this process is in the workload's root already, and /proc is there.
pub fn attach(mounts: &[Mount], sources: &Sources) -> Result<(), AgentError> {
    for (each, source) in mounts.iter().zip(&sources.0) {
        let failed = || format!("mount something at {}", each.destination);
        let target = resolve(Path::new("/"), Path::new(&each.destination)).context(failed)?;
        if target.starts_with("/proc") || target == Path::new("/") {
            return Err(AgentError::Invalid(format!(
                "nothing can be mounted at {}, which is {}",
                each.destination,
                target.display()
            )));
        }
        match (source_of(each), source) {
            // Read-only in itself, if it is.
            (Some(Source::Share(_)), Some(source)) => bind(source, &target, false)?,
            (_, Some(source)) => bind(source, &target, each.read_only)?,
            (Some(Source::Tmpfs(tmpfs)), None) => mount_tmpfs(&target, &tmpfs.options, each.read_only)?,
            _ => {}
        }
    }
    Ok(())
}

fn bind(source: &OwnedFd, target: &Path, read_only: bool) -> Result<(), AgentError> {
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    let failed = || format!("mount at {}", target.display());
    let is_directory = fs::metadata(&from).context(failed)?.is_dir();
    create_mount_point(target, is_directory).context(failed)?;
    mount(Some(from.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).context(failed)?;
    if read_only {
        mounts::remount_read_only(target, MsFlags::MS_RELATIME)?;
    }
    Ok(())
}

/// As runc does: a directory that is there keeps its mode.
fn mount_tmpfs(target: &Path, options: &[String], read_only: bool) -> Result<(), AgentError> {
    let failed = || format!("mount a tmpfs at {}", target.display());
    let mode = fs::metadata(target).ok().filter(fs::Metadata::is_dir).map(|found| found.permissions().mode());
    create_mount_point(target, true).context(failed)?;
    let (mut flags, data) = mount_options::parse(options);
    if read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    let inherited = mode.map(|mode| format!("mode={:04o}", mode & 0o7777));
    let data: Vec<_> = inherited.into_iter().chain(data).collect();
    mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(data.join(",").as_str())).context(failed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn volume(device: &str, read_only: bool, fill: bool) -> Mount {
        let volume = Some(VolumeMount { device: device.into(), fill });
        Mount { destination: "/data".into(), read_only, volume, ..Mount::default() }
    }

    #[test]
    fn a_disk_is_read_only_when_every_use_of_it_is() {
        let snapshot = Some(SnapshotMount { device: "vdf".into(), entry: "0".into() });
        let memory = Some(TmpfsMount { options: vec![] });
        let mounts = [
            volume("vdd", true, false),
            volume("vdd", false, false),
            volume("vde", true, false),
            volume("vdg", true, true),
            Mount { destination: "/s".into(), read_only: true, snapshot, ..Mount::default() },
            Mount { destination: "/t".into(), tmpfs: memory, ..Mount::default() },
        ];
        let disks: Vec<_> = disks_of(&mounts).into_iter().collect();
        assert_eq!(disks, [("vdd", false), ("vde", true), ("vdf", true), ("vdg", false)]);
    }

    #[test]
    fn a_volume_is_filled_once_and_whole() {
        let scratch = Scratch::new("fill");
        let (disk, image) = (scratch.path().join("disk"), scratch.path().join("image"));
        fs::create_dir_all(disk.join(DATA)).unwrap();
        // What a power cut has left.
        fs::create_dir_all(disk.join(FILLING).join("half")).unwrap();
        fs::create_dir_all(&image).unwrap();
        fs::set_permissions(&image, fs::Permissions::from_mode(0o750)).unwrap();
        fs::write(image.join("file"), "from the image").unwrap();

        fill(&disk, &image).unwrap();
        assert_eq!(fs::read(disk.join("data/file")).unwrap(), b"from the image");
        assert_eq!(fs::metadata(disk.join(DATA)).unwrap().permissions().mode() & 0o7777, 0o750);
        assert!(!disk.join(FILLING).exists() && !disk.join("data/half").exists());

        fs::write(disk.join("data/file"), "changed").unwrap();
        fill(&disk, &image).unwrap();
        assert_eq!(fs::read(disk.join("data/file")).unwrap(), b"changed");
    }

    #[test]
    fn a_volume_stays_empty_where_the_image_has_nothing_and_fails_where_it_has_a_file() {
        let scratch = Scratch::new("nofill");
        let disk = scratch.path().join("disk");
        fs::create_dir_all(disk.join(DATA)).unwrap();
        fill(&disk, &scratch.path().join("missing")).unwrap();
        assert!(fs::read_dir(disk.join(DATA)).unwrap().next().is_none());
        fs::write(scratch.path().join("file"), "").unwrap();
        let error = fill(&disk, &scratch.path().join("file")).unwrap_err().to_string();
        assert!(error.ends_with("is not a directory in the image"), "{error}");
    }
}
