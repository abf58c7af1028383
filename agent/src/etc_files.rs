//! The files in /etc that tell the workload where it is, as Docker gives them to every container.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{AgentError, Context};
use crate::mount_point::{create_mount_point, resolve};
use crate::names;
use crate::process::World;

/// Where the files are made that are mounted over the user's: in the workload's /dev, for as long as that takes.
const STAGE: &str = "/dev/.etc";

/// Path and contents of each file that is not the user's own mount.
type Files = Vec<(&'static str, String)>;

fn files(world: &World) -> Files {
    let World { hostname, settings, network, .. } = world;
    let network = network.as_ref();
    let all = [
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", names::hosts_file(hostname, &settings.names, network)),
        ("/etc/resolv.conf", names::resolver_file(&settings.names, network)),
    ];
    all.into_iter().filter(|(path, _)| !world.has_mount_at(path)).collect()
}

/// Writes the files into the image's /etc, before anything is mounted there.
pub fn write(world: &World) -> Result<(), AgentError> {
    match fs::create_dir("/etc") {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(error).context(|| "create /etc".into());
        }
        _ => {}
    }
    for (path, contents) in files(world) {
        write_file(path, &contents)?;
    }
    if fs::symlink_metadata("/etc/mtab").is_err() {
        symlink("/proc/mounts", "/etc/mtab").context(|| "create /etc/mtab".into())?;
    }
    Ok(())
}

/// Mounts the files over those of a directory that the user has mounted there, which keeps its own unchanged. A
/// directory that can only be read, and lacks one of them, goes without.
pub fn cover(world: &World) -> Result<(), AgentError> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    let etc = resolve(Path::new("/"), Path::new("/etc")).context(|| "find /etc".into())?;
    if device(&etc).ok() == device(Path::new("/")).ok() {
        return Ok(()); // they are there
    }
    fs::create_dir(STAGE).context(|| format!("create {STAGE}"))?;
    mount(
        Some("tmpfs"),
        STAGE,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("size=1m,mode=755"),
    )
    .context(|| format!("mount {STAGE}"))?;
    for (path, contents) in files(world) {
        let target = resolve(Path::new("/"), Path::new(path)).context(|| format!("find {path}"))?;
        match create_mount_point(&target, false) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => continue,
            made => made.context(|| format!("mount at {path}"))?,
        }
        let source = Path::new(STAGE).join(target.file_name().unwrap_or_default());
        write_file(&source, &contents)?;
        mount(Some(&source), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .context(|| format!("mount at {path}"))?;
    }
    // The files stay, as long as they are mounted.
    umount2(STAGE, MntFlags::MNT_DETACH).context(|| format!("unmount {STAGE}"))?;
    fs::remove_dir(STAGE).context(|| format!("remove {STAGE}"))
}

/// Replaces whatever is there: an image may have a link into a directory that only exists on its builder.
fn write_file(path: impl AsRef<Path>, contents: &str) -> Result<(), AgentError> {
    let path = path.as_ref();
    let failed = || format!("write {}", path.display());
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        fs::remove_file(path).context(|| format!("replace {}", path.display()))?;
    }
    fs::write(path, contents).context(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).context(failed)
}
