//! Paths in the workload's filesystem, resolved within it whatever links it has put there, and what they name.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

use crate::proto::FileKind;

/// What a descriptor only names, without opening it.
const NAME_ONLY: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// The root of a mount namespace that was joined, and a way to open what was named in it.
#[derive(Debug)]
pub struct GuestRoot {
    root: OwnedFd,
    /// The agent's own /proc/self/fd: the workload's procfs does not know us.
    descriptors: OwnedFd,
}

impl GuestRoot {
    /// `descriptors` is /proc/self/fd of a procfs that knows this process.
    pub fn new(descriptors: OwnedFd) -> Result<Self, Errno> {
        let root = open("/", NAME_ONLY | OFlag::O_DIRECTORY, Mode::empty())?;
        Ok(Self { root, descriptors })
    }

    /// Names what is at `path`. Links are followed within the root, the last one only if asked for or if a slash
    /// follows it; those of /proc, which lead anywhere, never.
    pub fn name(&self, path: &[u8], follow: bool) -> Result<OwnedFd, Errno> {
        let mut flags = NAME_ONLY;
        if !follow {
            flags |= OFlag::O_NOFOLLOW;
        }
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let path = if path.is_empty() { b"/" } else { path };
        openat2(&self.root, path, OpenHow::new().flags(flags).resolve(resolve))
    }

    /// Opens what was named, and nothing that has taken its place since.
    pub fn open(&self, named: &impl AsFd, flags: OFlag) -> Result<File, Errno> {
        let number = named.as_fd().as_raw_fd().to_string();
        openat(&self.descriptors, number.as_str(), flags | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
    }
}

/// Names an entry of a directory, itself if it is a link.
pub fn name_in(directory: &impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(directory, name, NAME_ONLY | OFlag::O_NOFOLLOW, Mode::empty())
}

/// What was named.
pub fn stat_of(named: &impl AsFd) -> Result<FileStat, Errno> {
    fstatat(named, "", AtFlags::AT_EMPTY_PATH)
}

/// Where a named symlink leads.
pub fn link_of(named: &impl AsFd) -> Result<Vec<u8>, Errno> {
    use std::os::unix::ffi::OsStringExt;
    readlinkat(named, "").map(OsStringExt::into_vec)
}

pub fn kind_of(stat: &FileStat) -> FileKind {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => FileKind::File,
        SFlag::S_IFDIR => FileKind::Directory,
        SFlag::S_IFLNK => FileKind::Symlink,
        SFlag::S_IFCHR => FileKind::CharacterDevice,
        SFlag::S_IFBLK => FileKind::BlockDevice,
        SFlag::S_IFIFO => FileKind::Fifo,
        SFlag::S_IFSOCK => FileKind::Socket,
        _ => FileKind::Unspecified,
    }
}

/// The extended attributes of an open file; none where the filesystem has none.
pub fn xattrs_of(file: &File) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let names = sized(|buffer| {
        // SAFETY: the descriptor is open, and the kernel writes at most as many bytes as the buffer has.
        unsafe { libc::flistxattr(file.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    });
    let names = match names {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut found = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let text = CString::new(name)?;
        let value = sized(|buffer| {
            let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            // SAFETY: as above, and the name ends in a NUL.
            unsafe { libc::fgetxattr(file.as_raw_fd(), text.as_ptr(), pointer, length) }
        });
        match value {
            Ok(value) => found.push((name.to_vec(), value)),
            // Removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Sets one extended attribute of an open file.
pub fn set_xattr(file: &File, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the descriptor is open, the name ends in a NUL, and the value is read up to its length.
    let result =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What a call gives that tells the size of its answer when asked with no room for one.
fn sized(call: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    loop {
        let size = usize::try_from(call(&mut [])).map_err(|_| io::Error::last_os_error())?;
        let mut buffer = vec![0; size];
        if size == 0 {
            return Ok(buffer);
        }
        match usize::try_from(call(&mut buffer)) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // It has grown in between.
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) => {}
            Err(_) => return Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_within_the_root_and_those_of_proc_are_not() {
        let descriptors = || open("/proc/self/fd", NAME_ONLY, Mode::empty()).unwrap();
        let root = GuestRoot::new(descriptors()).unwrap();
        let named = root.name(b"/proc/self", false).unwrap();
        assert_eq!(kind_of(&stat_of(&named).unwrap()), FileKind::Symlink);
        assert_eq!(link_of(&named).unwrap(), std::process::id().to_string().into_bytes());
        let named = root.name(b"/proc/self/", false).unwrap();
        assert_eq!(kind_of(&stat_of(&named).unwrap()), FileKind::Directory);
        assert_eq!(root.name(b"/proc/self/root", true).unwrap_err(), Errno::ELOOP);
        assert_eq!(root.name(b"/proc/self/root/etc", false).unwrap_err(), Errno::ELOOP);

        let directory = std::env::temp_dir().join(format!("guest-path-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc/../../../etc", directory.join("up")).unwrap();
        let inner = GuestRoot { root: File::open(&directory).unwrap().into(), descriptors: descriptors() };
        let expected = stat_of(&File::open(directory.join("etc")).unwrap()).unwrap().st_ino;
        for path in ["up", "/up/", "../../up/.", "/etc"] {
            assert_eq!(stat_of(&inner.name(path.as_bytes(), true).unwrap()).unwrap().st_ino, expected);
        }
        let opened = inner.open(&inner.name(b"up", true).unwrap(), OFlag::O_RDONLY).unwrap();
        assert_eq!(stat_of(&opened).unwrap().st_ino, expected);
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn extended_attributes_are_read_as_they_were_set() {
        let path = std::env::temp_dir().join(format!("guest-path-xattr-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        if set_xattr(&file, b"user.long", &[9; 3000]).is_ok() {
            set_xattr(&file, b"user.empty", b"").unwrap();
            let mut found = xattrs_of(&file).unwrap();
            found.sort();
            assert_eq!(found, [(b"user.empty".to_vec(), vec![]), (b"user.long".to_vec(), vec![9; 3000])]);
        }
        std::fs::remove_file(path).unwrap();
    }
}
