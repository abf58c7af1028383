//! All of the guest's device nodes, for a workload that is to have them.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::error::{AgentError, Context};

/// A device node.
#[derive(Debug)]
pub struct Device {
    path: PathBuf,
    kind: SFlag,
    mode: Mode,
    number: u64,
}

/// Directories in /dev that are filesystems of their own, and what the workload gets anyway.
const OWN: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages"];

/// What the kernel has put into /dev. To be called while that is the agent's.
pub fn list() -> Vec<Device> {
    let mut found = Vec::new();
    // What cannot be read is not there.
    let _ = collect(Path::new("/dev"), &mut found);
    found
}

fn collect(directory: &Path, found: &mut Vec<Device>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let kind = metadata.file_type();
        if kind.is_dir() {
            if !OWN.iter().any(|own| path == Path::new(own)) {
                collect(&path, found)?;
            }
        } else if kind.is_char_device() || kind.is_block_device() {
            let kind = if kind.is_block_device() { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
            let mode = Mode::from_bits_truncate(metadata.mode());
            found.push(Device { path, kind, mode, number: metadata.rdev() });
        }
    }
    Ok(())
}

/// Makes the nodes in the workload's /dev, besides those that are there.
pub fn create(devices: &[Device]) -> Result<(), AgentError> {
    for device in devices {
        let make = || -> io::Result<()> {
            if let Some(directory) = device.path.parent() {
                fs::create_dir_all(directory)?;
            }
            match mknod(&device.path, device.kind, device.mode, device.number) {
                Err(Errno::EEXIST) => Ok(()),
                result => Ok(result?),
            }
        };
        make().context(|| format!("create {}", device.path.display()))?;
    }
    Ok(())
}
