//! A helper's work for `CopyOut`: a file or a tree of the workload's filesystem as records.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::FileStat;
use nix::sys::statfs::{
    BPF_FS_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, DEVPTS_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC, SYSFS_MAGIC, TRACEFS_MAGIC, fstatfs,
};
use nix::unistd::{Whence, lseek};

use crate::copy_error::CopyError;
use crate::copy_stream::{DATA_BYTES, RecordWriter};
use crate::guest_path::{GuestRoot, kind_of, link_of, name_in, stat_of, xattrs_of};
use crate::proto::{
    CopyEntry, CopyOutRequest, CopySegment, CopySegments, CopyXattr, FileKind, StatPathRequest,
    StatPathResponse,
};

/// What the kernel makes up: of no use elsewhere, and without an end in places. Named, it is copied; it is left out
/// where it is only part of a tree.
const MADE_UP: [FsType; 8] = [
    BPF_FS_MAGIC,
    CGROUP2_SUPER_MAGIC,
    DEBUGFS_MAGIC,
    DEVPTS_SUPER_MAGIC,
    PROC_SUPER_MAGIC,
    SECURITYFS_MAGIC,
    SYSFS_MAGIC,
    TRACEFS_MAGIC,
];
/// Files whose size only reading tells: those of /proc say 0.
const MAX_MADE_UP_BYTES: u64 = 4 << 20;
/// Further data of a file with more holes counts as one piece.
const MAX_SEGMENTS: usize = 20_000;
/// Names of further links are kept so far; those beyond become files of their own.
const MAX_LINKS: usize = 500_000;
/// Longest path that is copied: directories can be nested deeper than any path can name.
const MAX_PATH_BYTES: usize = 65_536;

pub fn stat(root: &GuestRoot, request: &StatPathRequest) -> Result<StatPathResponse, CopyError> {
    let fail = |error| CopyError::of(&request.path, error);
    let named = root.name(&request.path, request.follow).map_err(fail)?;
    let stat = stat_of(&named).map_err(fail)?;
    let kind = kind_of(&stat);
    Ok(StatPathResponse {
        kind: kind.into(),
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mtime_sec: stat.st_mtime,
        mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        link: if kind == FileKind::Symlink { link_of(&named).map_err(fail)? } else { Vec::new() },
    })
}

/// Writes what is at the path, the path itself as "".
pub fn copy_out(root: &GuestRoot, request: &CopyOutRequest, out: impl Write) -> Result<(), CopyError> {
    let fail = |error| CopyError::of(&request.path, error);
    let named = root.name(&request.path, request.follow).map_err(fail)?;
    let is_whole = request.path.iter().all(|&byte| byte == b'/' || byte == b'.');
    let mut walk = Walk {
        root,
        writer: RecordWriter::new(out),
        prefix: &request.path,
        links: HashMap::new(),
        devices: if is_whole { root.name(b"/dev", true).and_then(|dev| device_of(&dev)).ok() } else { None },
    };
    walk.entry(named, Vec::new(), true)?.map_or(Ok(()), |directory| walk.tree(directory))?;
    walk.writer.finish().map_err(CopyError::from)
}

/// A directory whose names are being gone through.
struct Level {
    directory: File,
    path: Vec<u8>,
    /// In reverse order.
    names: Vec<Vec<u8>>,
}

struct Walk<'a, W> {
    root: &'a GuestRoot,
    writer: RecordWriter<W>,
    /// What was asked for, for messages.
    prefix: &'a [u8],
    /// The path of the first name of each inode that has several.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// The filesystem at /dev, when everything is copied: the host has devices of its own.
    devices: Option<u64>,
}

impl<W: Write> Walk<'_, W> {
    fn tree(&mut self, directory: Level) -> Result<(), CopyError> {
        let mut levels = vec![directory];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                levels.pop();
                continue;
            };
            let path =
                if level.path.is_empty() { name.clone() } else { [&level.path, &b"/"[..], &name].concat() };
            let named = match name_in(&level.directory, &name) {
                // Removed meanwhile.
                Err(Errno::ENOENT) => continue,
                named => named.map_err(|error| self.failure(&path, error))?,
            };
            let Some(next) = self.entry(named, path, false)? else {
                continue;
            };
            levels.push(next);
        }
        Ok(())
    }

    /// Writes one entry; returns it if it is a directory that is to be gone through.
    fn entry(&mut self, named: OwnedFd, path: Vec<u8>, is_first: bool) -> Result<Option<Level>, CopyError> {
        let stat = stat_of(&named).map_err(|error| self.failure(&path, error))?;
        let mut entry = entry_of(&path, &stat);
        match entry.kind() {
            FileKind::Directory => return self.directory(named, entry, &stat, is_first),
            FileKind::File => self.file(named, entry, &stat)?,
            FileKind::Symlink => {
                entry.link = link_of(&named).map_err(|error| self.failure(&path, error))?;
                self.writer.entry(entry)?;
            }
            FileKind::CharacterDevice | FileKind::BlockDevice => {
                entry.dev_major = libc::major(stat.st_rdev);
                entry.dev_minor = libc::minor(stat.st_rdev);
                self.writer.entry(entry)?;
            }
            FileKind::Fifo => self.writer.entry(entry)?,
            FileKind::Socket | FileKind::Link | FileKind::Unspecified if path.is_empty() => {
                return Err(CopyError::wrong(format!(
                    "{}: a socket cannot be copied",
                    crate::copy_error::shown(self.prefix)
                )));
            }
            FileKind::Socket | FileKind::Link | FileKind::Unspecified => {}
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        named: OwnedFd,
        mut entry: CopyEntry,
        stat: &FileStat,
        is_first: bool,
    ) -> Result<Option<Level>, CopyError> {
        let path = entry.path.clone();
        if path.len() > MAX_PATH_BYTES {
            return Err(CopyError::invalid("a path of more than 65536 bytes"));
        }
        let directory = self
            .root
            .open(&named, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
            .map_err(|error| self.failure(&path, error))?;
        entry.xattrs = xattrs(&directory)?;
        self.writer.entry(entry)?;
        let is_left_out = !is_first && (is_made_up(&directory) || self.devices == Some(stat.st_dev));
        if is_left_out {
            return Ok(None);
        }
        let names = names_in(&directory).map_err(|error| self.failure(&path, error))?;
        Ok(Some(Level { directory, path, names }))
    }

    fn file(&mut self, named: OwnedFd, mut entry: CopyEntry, stat: &FileStat) -> Result<(), CopyError> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.set_kind(FileKind::Link);
                entry.link.clone_from(first);
                entry.size = 0;
                return Ok(self.writer.entry(entry)?);
            }
            if self.links.len() < MAX_LINKS {
                self.links.insert((stat.st_dev, stat.st_ino), entry.path.clone());
            }
        }
        let path = entry.path.clone();
        let file = self
            .root
            .open(&named, OFlag::O_RDONLY | OFlag::O_NONBLOCK)
            .map_err(|error| self.failure(&path, error))?;
        entry.xattrs = xattrs(&file)?;
        if entry.size == 0 && is_made_up(&file) {
            return self.made_up_file(&file, entry);
        }
        let size = entry.size;
        let holes = u64::try_from(stat.st_blocks).unwrap_or(0) * 512 < size;
        let segments = if holes { segments_of(&file, size) } else { None };
        let whole = [CopySegment { offset: 0, length: size }];
        entry.segments = segments.clone().map(|segments| CopySegments { segments });
        self.writer.entry(entry)?;
        for segment in segments.as_deref().unwrap_or(&whole) {
            self.data(&file, segment).map_err(|error| self.named(&path, error))?;
        }
        Ok(())
    }

    /// What was said to be there must come: a file that has shrunk meanwhile ends in zeros, as in GNU tar.
    fn data(&mut self, file: &File, segment: &CopySegment) -> io::Result<()> {
        let mut offset = segment.offset;
        let end = segment.offset + segment.length;
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(DATA_BYTES).min(DATA_BYTES);
            let mut piece = vec![0; wanted];
            let mut filled = 0;
            while filled < wanted {
                match file.read_at(&mut piece[filled..], offset + filled as u64)? {
                    0 => break,
                    length => filled += length,
                }
            }
            self.writer.data(piece)?;
            offset += wanted as u64;
        }
        Ok(())
    }

    fn made_up_file(&mut self, file: &File, mut entry: CopyEntry) -> Result<(), CopyError> {
        let mut contents = Vec::new();
        let read = file.take(MAX_MADE_UP_BYTES).read_to_end(&mut contents);
        read.map_err(|error| self.named(&entry.path, error))?;
        entry.size = contents.len() as u64;
        self.writer.entry(entry)?;
        for piece in contents.chunks(DATA_BYTES) {
            self.writer.data(piece.to_vec())?;
        }
        Ok(())
    }

    fn failure(&self, path: &[u8], error: Errno) -> CopyError {
        let full =
            if path.is_empty() { self.prefix.to_vec() } else { [self.prefix, &b"/"[..], path].concat() };
        CopyError::of(&full, error)
    }

    fn named(&self, path: &[u8], error: io::Error) -> CopyError {
        match error.raw_os_error() {
            Some(number) => self.failure(path, Errno::from_raw(number)),
            None => error.into(),
        }
    }
}

fn entry_of(path: &[u8], stat: &FileStat) -> CopyEntry {
    let kind = kind_of(stat);
    CopyEntry {
        path: path.to_vec(),
        kind: kind.into(),
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if kind == FileKind::File { u64::try_from(stat.st_size).unwrap_or(0) } else { 0 },
        mtime_sec: stat.st_mtime,
        mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ..CopyEntry::default()
    }
}

fn xattrs(file: &File) -> Result<Vec<CopyXattr>, CopyError> {
    let found = xattrs_of(file)?;
    Ok(found.into_iter().map(|(name, value)| CopyXattr { name, value }).collect())
}

fn device_of(named: &OwnedFd) -> Result<u64, Errno> {
    stat_of(named).map(|stat| stat.st_dev)
}

fn is_made_up(file: &File) -> bool {
    fstatfs(file).is_ok_and(|found| MADE_UP.contains(&found.filesystem_type()))
}

/// All names, the last first.
fn names_in(directory: &File) -> Result<Vec<Vec<u8>>, Errno> {
    let own =
        directory.try_clone().map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
    let mut names = Vec::new();
    for entry in Dir::from_fd(own.into())?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_by(|a, b| b.cmp(a));
    Ok(names)
}

/// Where a file of `size` bytes has data; `None` where the filesystem cannot tell.
fn segments_of(file: &File, size: u64) -> Option<Vec<CopySegment>> {
    let end = i64::try_from(size).ok()?;
    let mut segments = Vec::new();
    let mut at = 0;
    while at < end {
        let data = match lseek(file, at, Whence::SeekData) {
            Err(Errno::ENXIO) => break,
            data => data.ok()?,
        };
        let hole = lseek(file, data, Whence::SeekHole).ok()?.min(end);
        if data >= end || hole <= data {
            break;
        }
        let until = if segments.len() == MAX_SEGMENTS { end } else { hole };
        segments.push(CopySegment {
            offset: u64::try_from(data).ok()?,
            length: u64::try_from(until - data).ok()?,
        });
        at = until;
    }
    Some(segments)
}
