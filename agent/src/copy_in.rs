//! A helper's work for `CopyIn`: records become files of the workload's filesystem. The records are the host's, but
//! may stand for an archive that somebody was given: a path leads through no link that the same copy has made.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};

use crate::copy_error::{CopyError, shown};
use crate::copy_stream::RecordReader;
use crate::guest_path::{GuestRoot, kind_of, name_in, set_xattr, stat_of};
use crate::proto::copy_record::Record;
use crate::proto::{CopyEntry, CopyInStart, CopySegment, FileKind};

/// A file is this until it is whole.
const UNFINISHED: &[u8] = b".firectl-cp-unfinished";

/// Writes what the records say; what a copy that is cut off was at is removed.
pub fn copy_in(root: &GuestRoot, start: &CopyInStart, input: impl Read) -> Result<(), CopyError> {
    let fail = |error| CopyError::of(&start.directory, error);
    let directory = root.name(&start.directory, true).map_err(fail)?;
    if kind_of(&stat_of(&directory).map_err(fail)?) != FileKind::Directory {
        return Err(CopyError::wrong(format!("{}: not a directory", shown(&start.directory))));
    }
    let mut copy = Copy {
        root,
        prefix: start.directory.clone(),
        records: RecordReader::new(input),
        parent: None,
        links: HashSet::new(),
        directories: Vec::new(),
    };
    let mut record = copy.records.next()?;
    loop {
        record = match record {
            Record::Entry(entry) => copy.entry(&entry)?,
            Record::Data(_) => return Err(CopyError::invalid("data without a file")),
            Record::End(_) => return copy.finish(),
        };
    }
}

struct Copy<'a, R> {
    root: &'a GuestRoot,
    prefix: Vec<u8>,
    records: RecordReader<R>,
    /// The directory of the last entry: the next is most often in it too.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Paths of the symlinks that this copy has made.
    links: HashSet<Vec<u8>>,
    /// Directories get their times when nothing is written into them any more.
    directories: Vec<CopyEntry>,
}

impl<R: Read> Copy<'_, R> {
    /// Makes one entry and returns the record after it.
    fn entry(&mut self, entry: &CopyEntry) -> Result<Record, CopyError> {
        let fail = |error| self.failure(&entry.path, error);
        check_path(&entry.path)?;
        let (above, name) = split(&entry.path);
        let parent = self.enter(above)?;
        let existing = match name_in(&parent, name) {
            Ok(named) => Some(kind_of(&stat_of(&named).map_err(fail)?)),
            Err(Errno::ENOENT) => None,
            Err(error) => return Err(fail(error)),
        };
        let is_directory = entry.kind() == FileKind::Directory;
        match existing {
            Some(FileKind::Directory) if !is_directory => {
                return Err(self.refusal(&entry.path, "cannot overwrite a directory with a non-directory"));
            }
            Some(kind) if is_directory && kind != FileKind::Directory => {
                return Err(self.refusal(&entry.path, "cannot overwrite a non-directory with a directory"));
            }
            _ => {}
        }
        if is_directory {
            if existing.is_none() {
                mkdirat(&parent, name, Mode::from_bits_truncate(0o700)).map_err(fail)?;
            }
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | NO_FOLLOW;
            let directory = openat(&parent, name, flags, Mode::empty()).map_err(fail)?;
            self.dress(&File::from(directory), entry)?;
            self.directories.push(entry.clone());
            return Ok(self.records.next()?);
        }
        let made = self.make(&parent, entry);
        // Gone when it has its name; still there when two names of one file were to change places.
        let placed = made.and_then(|next| {
            renameat(&parent, UNFINISHED, &parent, name).map_err(|error| self.failure(&entry.path, error))?;
            Ok(next)
        });
        let _ = unlinkat(&parent, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        if placed.is_ok() && entry.kind() == FileKind::Symlink {
            self.links.insert(entry.path.clone());
        }
        self.parent = Some((above.to_vec(), parent));
        placed
    }

    /// Makes what is no directory under a name of ours.
    fn make(&mut self, parent: &OwnedFd, entry: &CopyEntry) -> Result<Record, CopyError> {
        let failure = |error| CopyError::of(&self.full(&entry.path), error);
        // What a copy that was killed has left.
        let _ = unlinkat(parent, UNFINISHED, UnlinkatFlags::NoRemoveDir);
        let device = makedev(entry.dev_major.into(), entry.dev_minor.into());
        let node = |kind| mknodat(parent, UNFINISHED, kind, Mode::empty(), device).map_err(failure);
        match entry.kind() {
            FileKind::File => return self.file(parent, entry),
            FileKind::Link => {
                self.link(parent, entry)?;
                return Ok(self.records.next()?);
            }
            FileKind::Symlink => symlinkat(entry.link.as_slice(), parent, UNFINISHED).map_err(failure)?,
            FileKind::CharacterDevice => node(SFlag::S_IFCHR)?,
            FileKind::BlockDevice => node(SFlag::S_IFBLK)?,
            FileKind::Fifo => node(SFlag::S_IFIFO)?,
            FileKind::Directory | FileKind::Socket | FileKind::Unspecified => {
                return Err(CopyError::invalid(format!("{}: an entry of no known kind", shown(&entry.path))));
            }
        }
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fchownat(parent, UNFINISHED, Some(owner.0), Some(owner.1), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(failure)?;
        if entry.kind() != FileKind::Symlink {
            fchmodat(parent, UNFINISHED, mode_of(entry), FchmodatFlags::FollowSymlink).map_err(failure)?;
        }
        let time = time_of(entry);
        utimensat(parent, UNFINISHED, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(failure)?;
        Ok(self.records.next()?)
    }

    fn file(&mut self, parent: &OwnedFd, entry: &CopyEntry) -> Result<Record, CopyError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | NO_FOLLOW;
        let opened = openat(parent, UNFINISHED, flags, Mode::from_bits_truncate(0o600));
        let file = File::from(opened.map_err(|error| self.failure(&entry.path, error))?);
        let whole = [CopySegment { offset: 0, length: entry.size }];
        let segments = entry.segments.as_ref().map_or(&whole[..], |given| given.segments.as_slice());
        let next = self.contents(&file, entry, segments)?;
        file.set_len(entry.size).map_err(|error| self.io_failure(&entry.path, &error))?;
        self.dress(&file, entry)?;
        let time = time_of(entry);
        nix::sys::stat::futimens(&file, &time, &time).map_err(|error| self.failure(&entry.path, error))?;
        Ok(next)
    }

    /// Writes the data that belongs into the segments; returns the record after it.
    fn contents(
        &mut self,
        file: &File,
        entry: &CopyEntry,
        segments: &[CopySegment],
    ) -> Result<Record, CopyError> {
        let wrong = || CopyError::invalid(format!("{}: its data does not fit its size", shown(&entry.path)));
        let mut segments = segments.iter().filter(|segment| segment.length > 0);
        let mut current = segments.next().copied();
        loop {
            let data = match self.records.next()? {
                Record::Data(data) => data,
                next if current.is_none() => return Ok(next),
                _ => return Err(wrong()),
            };
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let segment = current.as_mut().ok_or_else(wrong)?;
                let length = usize::try_from(segment.length).unwrap_or(usize::MAX).min(rest.len());
                let end = segment.offset.checked_add(length as u64).filter(|&end| end <= entry.size);
                let next = end.ok_or_else(wrong)?;
                let (piece, after) = rest.split_at(length);
                file.write_all_at(piece, segment.offset)
                    .map_err(|error| self.io_failure(&entry.path, &error))?;
                segment.offset = next;
                segment.length -= length as u64;
                rest = after;
                if segment.length == 0 {
                    current = segments.next().copied();
                }
            }
        }
    }

    /// Owner first: changing it takes setuid and capabilities away.
    fn dress(&self, file: &File, entry: &CopyEntry) -> Result<(), CopyError> {
        let owner = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        nix::unistd::fchown(file, Some(owner.0), Some(owner.1))
            .map_err(|error| self.failure(&entry.path, error))?;
        fchmod(file, mode_of(entry)).map_err(|error| self.failure(&entry.path, error))?;
        for xattr in &entry.xattrs {
            // A filesystem without attributes, tmpfs for some, takes the file all the same; so does Docker.
            match set_xattr(file, &xattr.name, &xattr.value) {
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EPERM)) => {
                    return Err(self.io_failure(&entry.path, &error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn link(&self, parent: &OwnedFd, entry: &CopyEntry) -> Result<(), CopyError> {
        check_path(&entry.link)?;
        let (above, name) = split(&entry.link);
        let target = self.enter(above)?;
        linkat(&target, name, parent, UNFINISHED, AtFlags::empty())
            .map_err(|error| self.failure(&entry.path, error))
    }

    /// The directory that a path's last name belongs into; it is made if it is missing, as Docker does.
    fn enter(&self, path: &[u8]) -> Result<OwnedFd, CopyError> {
        let fail = |error| self.failure(path, error);
        if let Some((known, directory)) = &self.parent
            && known == path
        {
            return directory.try_clone().map_err(|error| self.io_failure(path, &error));
        }
        let prefixes = || ends_of_names(path).map(|end| &path[..end]);
        if prefixes().any(|above| self.links.contains(above)) {
            return Err(self.refusal(path, "the way leads through a link that the same copy has made"));
        }
        let full = self.full(path);
        match self.root.name(&full, true) {
            Ok(directory) => return Ok(directory),
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(fail(error)),
        }
        for above in prefixes() {
            if self.root.name(&self.full(above), true).is_ok() {
                continue;
            }
            let (outer, name) = split(above);
            let outer = self.root.name(&self.full(outer), true).map_err(fail)?;
            mkdirat(&outer, name, Mode::from_bits_truncate(0o755)).map_err(fail)?;
        }
        self.root.name(&full, true).map_err(fail)
    }

    fn finish(self) -> Result<(), CopyError> {
        for entry in self.directories.iter().rev() {
            let time = time_of(entry);
            let directory = self.root.name(&self.full(&entry.path), false);
            let directory = directory.map_err(|error| self.failure(&entry.path, error))?;
            let opened = self.root.open(&directory, OFlag::O_RDONLY | OFlag::O_DIRECTORY);
            let opened = opened.map_err(|error| self.failure(&entry.path, error))?;
            nix::sys::stat::futimens(&opened, &time, &time)
                .map_err(|error| self.failure(&entry.path, error))?;
        }
        Ok(())
    }

    fn full(&self, path: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), &b"/"[..], path].concat()
    }

    fn failure(&self, path: &[u8], error: Errno) -> CopyError {
        CopyError::of(&self.full(path), error)
    }

    fn io_failure(&self, path: &[u8], error: &std::io::Error) -> CopyError {
        self.failure(path, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    }

    fn refusal(&self, path: &[u8], reason: &str) -> CopyError {
        CopyError::wrong(format!("{}: {reason}", shown(&self.full(path))))
    }
}

const NO_FOLLOW: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC);

/// Names one after the other: none that is empty or leads elsewhere.
fn check_path(path: &[u8]) -> Result<(), CopyError> {
    let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
    if path.split(|&byte| byte == b'/').all(is_name) {
        return Ok(());
    }
    Err(CopyError::invalid(format!("{:?} is not a path of a copy", String::from_utf8_lossy(path))))
}

/// The path of the directory, empty for the first, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Where each name of a path ends.
fn ends_of_names(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|&(_, &byte)| byte == b'/').map(|(at, _)| at);
    slashes.chain((!path.is_empty()).then_some(path.len()))
}

fn mode_of(entry: &CopyEntry) -> Mode {
    Mode::from_bits_truncate(entry.mode & 0o7777)
}

fn time_of(entry: &CopyEntry) -> TimeSpec {
    TimeSpec::new(entry.mtime_sec, entry.mtime_nsec.min(999_999_999).into())
}
