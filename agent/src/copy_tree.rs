//! Copying a directory with everything that its files are: owners, modes, times, extended attributes, links,
//! devices, holes. What is copied does not change meanwhile: the workload does not run yet.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsString};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use crate::error::{AgentError, Context};

/// Largest list of names, and largest value, of a file's attributes: XATTR_LIST_MAX, XATTR_SIZE_MAX.
const MAX_XATTR_BYTES: usize = 65536;

/// Copies the directory `source` to `target`, which must not exist.
pub fn copy_tree(source: &Path, target: &Path) -> Result<(), AgentError> {
    Copier { links: HashMap::new() }.copy(source, target)
}

struct Copier {
    /// Where the first of several names of a file has been copied to, by device and number.
    links: HashMap<(u64, u64), OsString>,
}

impl Copier {
    fn copy(&mut self, source: &Path, target: &Path) -> Result<(), AgentError> {
        let metadata = fs::symlink_metadata(source).context(|| format!("look at {}", source.display()))?;
        let kind = metadata.file_type();
        if !kind.is_dir() && metadata.nlink() > 1 {
            let key = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&key) {
                return fs::hard_link(first, target).context(|| format!("link {}", target.display()));
            }
            self.links.insert(key, target.as_os_str().to_os_string());
        }
        let failed = || format!("copy {} to {}", source.display(), target.display());
        if kind.is_dir() {
            fs::create_dir(target).context(failed)?;
            for entry in fs::read_dir(source).context(failed)? {
                let name = entry.context(failed)?.file_name();
                self.copy(&source.join(&name), &target.join(&name))?;
            }
        } else if kind.is_file() {
            copy_file(source, target, metadata.len()).context(failed)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(source).context(failed)?, target).context(failed)?;
        } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
            make_node(&metadata, target).context(failed)?;
        } else {
            return Ok(()); // a socket, which nobody serves
        }
        copy_attributes(source, target, &metadata).context(failed)
    }
}

/// The data, hole by hole.
fn copy_file(source: &Path, target: &Path, length: u64) -> io::Result<()> {
    let mut from = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(source)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(target)?;
    to.set_len(length)?;
    let mut position = 0;
    while let Some(start) = seek(&from, position, libc::SEEK_DATA)? {
        let end = seek(&from, start, libc::SEEK_HOLE)?.unwrap_or(length);
        io::Seek::seek(&mut from, io::SeekFrom::Start(start))?;
        io::Seek::seek(&mut to, io::SeekFrom::Start(start))?;
        io::copy(&mut io::Read::take(&mut from, end - start), &mut to)?;
        position = end;
    }
    Ok(())
}

/// The next data or hole from `position` on; `None` where there is none.
fn seek(file: &File, position: u64, whence: i32) -> io::Result<Option<u64>> {
    let position = libc::off64_t::try_from(position).map_err(io::Error::other)?;
    // SAFETY: lseek takes numbers and touches no memory.
    match Errno::result(unsafe { libc::lseek64(file.as_raw_fd(), position, whence) }) {
        Ok(found) => Ok(u64::try_from(found).ok()),
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_node(metadata: &Metadata, target: &Path) -> Result<(), Errno> {
    let kind = SFlag::from_bits_truncate(metadata.mode());
    mknod(target, kind & SFlag::S_IFMT, Mode::from_bits_truncate(0o600), metadata.rdev())
}

/// Owner first: a change of owner takes capabilities and setuid bits away. Times last.
fn copy_attributes(source: &Path, target: &Path, metadata: &Metadata) -> io::Result<()> {
    lchown(target, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.file_type().is_symlink() {
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    copy_xattrs(source, target)?;
    let accessed = TimeSpec::new(metadata.atime(), metadata.atime_nsec());
    let modified = TimeSpec::new(metadata.mtime(), metadata.mtime_nsec());
    utimensat(nix::fcntl::AT_FDCWD, target, &accessed, &modified, UtimensatFlags::NoFollowSymlink)?;
    Ok(())
}

fn copy_xattrs(source: &Path, target: &Path) -> io::Result<()> {
    let source = CString::new(source.as_os_str().as_bytes())?;
    let target = CString::new(target.as_os_str().as_bytes())?;
    let mut names = vec![0_u8; MAX_XATTR_BYTES];
    // SAFETY: the path ends in NUL, and the buffer is as long as is said.
    let length = unsafe { libc::llistxattr(source.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = match Errno::result(length) {
        Ok(length) => usize::try_from(length).unwrap_or(0),
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for name in names[..length].split_inclusive(|&byte| byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else { continue };
        // What overlayfs keeps for itself is no attribute of the file.
        if name.to_bytes().starts_with(b"trusted.overlay.") {
            continue;
        }
        copy_xattr(&source, &target, name, &mut value)?;
    }
    Ok(())
}

fn copy_xattr(source: &CStr, target: &CStr, name: &CStr, value: &mut Vec<u8>) -> Result<(), Errno> {
    value.resize(MAX_XATTR_BYTES, 0);
    // SAFETY: path and name end in NUL, and the buffer is as long as is said.
    let length =
        unsafe { libc::lgetxattr(source.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    let length = usize::try_from(Errno::result(length)?).unwrap_or(0);
    // SAFETY: as above; `length` bytes of the buffer have just been filled.
    let set = unsafe { libc::lsetxattr(target.as_ptr(), name.as_ptr(), value.as_ptr().cast(), length, 0) };
    Errno::result(set).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_copy_has_everything_that_the_files_have() {
        let scratch = Scratch::new("copy");
        let (source, target) = (scratch.path().join("source"), scratch.path().join("target"));
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::write(source.join("sub/file"), "contents").unwrap();
        fs::set_permissions(source.join("sub/file"), fs::Permissions::from_mode(0o2751)).unwrap();
        fs::hard_link(source.join("sub/file"), source.join("other-name")).unwrap();
        symlink("/nowhere", source.join("link")).unwrap();
        let sparse = File::create(source.join("sparse")).unwrap();
        sparse.set_len(64 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (64 << 20) - 3).unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o1777)).unwrap();
        let time = TimeSpec::new(1_000_000_000, 123_456_789);
        utimensat(nix::fcntl::AT_FDCWD, &source, &time, &time, UtimensatFlags::NoFollowSymlink).unwrap();

        copy_tree(&source, &target).unwrap();

        let root = fs::metadata(&target).unwrap();
        assert_eq!(
            (root.mode() & 0o7777, root.mtime(), root.mtime_nsec()),
            (0o1777, 1_000_000_000, 123_456_789)
        );
        let file = fs::metadata(target.join("sub/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.nlink()), (0o2751, 2));
        assert_eq!(file.ino(), fs::metadata(target.join("other-name")).unwrap().ino());
        assert_eq!(fs::read(target.join("other-name")).unwrap(), b"contents");
        assert_eq!(fs::read_link(target.join("link")).unwrap(), Path::new("/nowhere"));
        let sparse = fs::metadata(target.join("sparse")).unwrap();
        assert_eq!(sparse.len(), 64 << 20);
        assert!(sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
        assert!(fs::read(target.join("sparse")).unwrap().ends_with(b"\0end"));
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let scratch = Scratch::new("there");
        let error = copy_tree(scratch.path(), scratch.path()).unwrap_err().to_string();
        assert!(error.starts_with("copy "), "{error}");
    }
}
