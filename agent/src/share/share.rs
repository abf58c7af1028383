//! What is shared, and what its operations have in common.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, Statx, fstatfs, open, openat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use crate::handles::Handles;
use crate::hello::Ids;
use crate::nodes::{self, Key, Limits, Nodes};
use crate::owners::{self, Owners};
use crate::reply::Attributes;

/// Descriptors that are kept for files the guest knows of: more speed up what is seldom, and each holds an
/// inode in the host's memory.
const MAX_PATHS: usize = 64 * 1024;
/// Files that the guest may have open: more than a workload has, and little memory.
const MAX_HANDLES: usize = 64 * 1024;
/// Set-user-ID and set-group-ID.
pub const SET_IDS: u32 = 0o6000;
/// Descriptors for everything else: standard streams, sockets, what operations open for their own length.
const RESERVED: usize = 96;

/// One shared directory or file.
#[derive(Debug)]
pub struct Share {
    pub nodes: Nodes,
    pub handles: Handles,
    pub owners: Owners,
    pub read_only: bool,
    pub is_root: bool,
    pub root: Key,
    /// Where a descriptor is opened again with another access mode: only the kernel makes names here.
    descriptors: OwnedFd,
}

/// What is opened before the guest has said anything.
#[derive(Debug)]
pub struct Opened {
    pub fd: OwnedFd,
    pub stat: Statx,
    descriptors: OwnedFd,
}

impl Opened {
    /// Opens what is to be shared.
    pub fn new(path: &Path) -> Result<Self, String> {
        let told = |error: Errno| format!("cannot open {}: {error}", path.display());
        let fd = open_without_links(path)?;
        let stat = nodes::stat(&fd).map_err(told)?;
        match file_type(&stat) {
            FileType::Directory | FileType::RegularFile => {}
            _ => return Err(format!("{} is neither a directory nor a regular file", path.display())),
        }
        if is_proc(&fd).map_err(told)? {
            return Err(format!("{} is on procfs, which cannot be shared", path.display()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = open("/proc/self/fd", flags, Mode::empty())
            .map_err(|error| format!("cannot open /proc/self/fd: {error}"))?;
        Ok(Self { fd, stat, descriptors })
    }
}

/// Opens a path that had no links when the VM was made, one name after the other. A link that is there now may
/// have been put there by a guest that shares a directory above, and would lead wherever that guest likes.
fn open_without_links(path: &Path) -> Result<OwnedFd, String> {
    const ROOT: &str = "/";
    const FLAGS: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
    let told = |at: &Path, error: Errno| format!("cannot open {}: {error}", at.display());
    let mut reached = PathBuf::from(ROOT);
    let mut fd = open(ROOT, FLAGS, Mode::empty()).map_err(|error| told(&reached, error))?;
    let below = path.strip_prefix(ROOT);
    let below = below.map_err(|_| format!("cannot share {}: the path must be absolute", path.display()))?;
    for component in below.components() {
        let Component::Normal(name) = component else {
            return Err(format!("cannot share {}: the path must have no ..", path.display()));
        };
        reached.push(name);
        // As a directory first: without that flag a filesystem that is mounted on demand would not be.
        let opened = match openat(&fd, name, FLAGS | OFlags::DIRECTORY, Mode::empty()) {
            Err(Errno::NOTDIR) => openat(&fd, name, FLAGS, Mode::empty()),
            opened => opened,
        };
        fd = opened.map_err(|error| told(&reached, error))?;
        let stat = nodes::stat(&fd).map_err(|error| told(&reached, error))?;
        if file_type(&stat) == FileType::Symlink {
            let (path, link) = (path.display(), reached.display());
            return Err(format!(
                "cannot share {path}: {link} has become a symbolic link since the VM was made; make it what it was, or make the VM anew"
            ));
        }
    }
    Ok(fd)
}

impl Share {
    pub fn new(opened: Opened, owners: Owners, read_only: bool) -> Self {
        let (descriptors, handles) = divide_descriptors(raise_descriptor_limit());
        Self {
            root: Key::of(&opened.stat),
            nodes: Nodes::new(opened.fd, &opened.stat, Limits::new(descriptors)),
            handles: Handles::new(handles),
            owners,
            read_only,
            is_root: geteuid().is_root(),
            descriptors: opened.descriptors,
        }
    }

    /// Opens the file behind a descriptor, and never another.
    pub fn reopen(&self, fd: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = fd.as_raw_fd().to_string();
        openat(&self.descriptors, name, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
    }

    /// The path of a descriptor relative to its directory, for system calls that take no descriptor.
    pub fn descriptor(&self, fd: &OwnedFd) -> (&OwnedFd, String) {
        (&self.descriptors, fd.as_raw_fd().to_string())
    }

    /// What the guest is told of a file.
    pub fn attributes(&self, fd: &OwnedFd) -> Result<Attributes, Errno> {
        let stat = nodes::stat(fd)?;
        Ok(self.attributes_of(fd, stat))
    }

    pub fn attributes_of(&self, fd: &OwnedFd, stat: Statx) -> Attributes {
        let ino = if Key::of(&stat).device() == self.root.device() {
            stat.stx_ino
        } else {
            // Another filesystem mounted below: its numbers must not be taken for the first one's.
            let device = u64::from(stat.stx_dev_major) << 32 | u64::from(stat.stx_dev_minor);
            stat.stx_ino ^ device.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        };
        let ids = self.owners.seen(&stat, self.given_owner(fd, &stat));
        Attributes { stat, ino, ids }
    }

    /// The owner that the guest has given to a file.
    fn given_owner(&self, fd: &OwnedFd, stat: &Statx) -> Option<Ids> {
        let Owners::Mapped(mapping) = &self.owners else { return None };
        if !mapping.owns(stat) || !matches!(file_type(stat), FileType::Directory | FileType::RegularFile) {
            return None;
        }
        let mut value = [0; 24];
        let length = rustix::fs::getxattr(descriptor_path(fd), owners::ATTRIBUTE, &mut value[..]).ok()?;
        owners::decode(value.get(..length)?)
    }
}

/// An absolute path that leads to the file behind a descriptor of this process.
pub fn descriptor_path(fd: &OwnedFd) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

pub fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(u32::from(stat.stx_mode))
}

/// The mode that a guest may give to what it makes. A program that it wrote must not run with the rights of the
/// user who shares the directory, or with root's, when somebody on the host starts it. On a directory the bits
/// say what group new files have.
pub fn permitted_mode(kind: FileType, mode: u32) -> Mode {
    let forbidden = if kind == FileType::Directory { 0 } else { SET_IDS };
    Mode::from_raw_mode(mode & 0o7777 & !forbidden)
}

/// Whether a file is on procfs: through it this very process could be written to.
pub fn is_proc(fd: &OwnedFd) -> Result<bool, Errno> {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    Ok(u64::try_from(fstatfs(fd)?.f_type) == Ok(PROC_SUPER_MAGIC))
}

/// Lets this process have as many descriptors as it may, and returns how many: `usize::MAX` is no limit.
fn raise_descriptor_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let raised = getrlimit(Resource::Nofile).current;
    raised.map_or(usize::MAX, |value| usize::try_from(value).unwrap_or(usize::MAX))
}

/// How many descriptors nodes may keep, and how many files the guest may have open.
pub fn divide_descriptors(available: usize) -> (usize, usize) {
    let usable = available.saturating_sub(RESERVED).max(64);
    // An open file holds two: its own, and its node's.
    let paths = (usable / 2).min(MAX_PATHS);
    (paths, ((usable - paths) / 2).min(MAX_HANDLES))
}
