//! Regular files: opening, reading, writing.

use std::ffi::CStr;

use rustix::fs::{
    FallocateFlags, FileType, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, openat, seek,
};
use rustix::io::{Errno, pread, pwrite};

use crate::abi::open;
use crate::handles::Handle;
use crate::hello::{Ids, MAX_DATA_BYTES};
use crate::lookup::Found;
use crate::nodes::{self, Node, Version};
use crate::reply::Reply;
use crate::share::{Share, file_type, permitted_mode};

/// What the guest's flags may mean on the host. O_DIRECT is left out: the guest's buffers are not ours.
const OPEN_FLAGS: OFlags = OFlags::RDWR
    .union(OFlags::WRONLY)
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::DSYNC)
    .union(OFlags::SYNC);

/// Whether a file opened with these flags could be changed through it.
pub fn writes(flags: u32) -> bool {
    let flags = OFlags::from_bits_retain(flags);
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

/// A file that the guest has made and opened.
#[derive(Debug)]
pub struct Created {
    pub found: Found,
    pub handle: u64,
}

impl Share {
    /// Opens a regular file. Nothing else is ever opened for reading or writing: a FIFO would block, a device
    /// do worse; the guest's kernel opens its own in their place.
    pub fn open(&self, id: u64, flags: u32) -> Result<(u64, u32), Errno> {
        let node = self.nodes.get(id)?;
        if file_type(&nodes::stat(&node.fd)?) != FileType::RegularFile {
            return Err(Errno::NXIO);
        }
        let flags = OFlags::from_bits_retain(flags) & OPEN_FLAGS;
        if flags.contains(OFlags::TRUNC) {
            self.drop_set_ids(&node.fd)?;
        }
        let fd = self.reopen(&node.fd, flags)?;
        let unchanged = self.nodes.is_unchanged(id, Version::of(&nodes::stat(&fd)?));
        let handle = self.keep(id, &node, fd)?;
        Ok((handle, if unchanged { open::KEEP_CACHE } else { 0 }))
    }

    /// Takes an open file in; its node stays open with it.
    pub fn keep(&self, id: u64, node: &Node, fd: std::os::fd::OwnedFd) -> Result<u64, Errno> {
        let handle = self.handles.insert(Handle { fd, node: id })?;
        self.nodes.pin(id, node);
        Ok(handle)
    }

    pub fn release(&self, handle: u64) -> Result<(), Errno> {
        let handle = self.handles.remove(handle).ok_or(Errno::BADF)?;
        self.nodes.unpin(handle.node);
        Ok(())
    }

    /// Makes a file, or opens one that someone has made since the guest looked, and is no link.
    pub fn create(&self, parent: u64, name: &CStr, how: (u32, u32), maker: Ids) -> Result<Created, Errno> {
        let (flags, mode) = how;
        let directory = self.nodes.get(parent)?;
        let host_flags = OFlags::from_bits_retain(flags) & OPEN_FLAGS;
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(
            &directory.fd,
            name,
            (host_flags - OFlags::TRUNC) | new,
            permitted_mode(FileType::RegularFile, mode),
        );
        let fd = match made {
            Ok(fd) => fd,
            Err(Errno::EXIST) if !OFlags::from_bits_retain(flags).contains(OFlags::EXCL) => {
                let found = self.lookup_in(parent, &directory, name)?;
                let opened = self.open(found.id, flags);
                return match opened {
                    Ok((handle, _)) => Ok(Created { found, handle }),
                    Err(error) => {
                        self.nodes.forget(found.id, 1);
                        Err(error)
                    }
                };
            }
            Err(error) => return Err(error),
        };
        self.give_to_maker(&fd, &directory.fd, maker)?;
        let path = self.reopen(&fd, OFlags::PATH)?;
        let found = self.found(parent, &directory, name, path)?;
        self.keep_created(found, fd)
    }

    fn keep_created(&self, found: Found, fd: std::os::fd::OwnedFd) -> Result<Created, Errno> {
        let kept = self.nodes.get(found.id).and_then(|node| self.keep(found.id, &node, fd));
        match kept {
            Ok(handle) => Ok(Created { found, handle }),
            Err(error) => {
                self.nodes.forget(found.id, 1);
                Err(error)
            }
        }
    }

    /// Makes a file that has no name.
    pub fn create_unnamed(&self, parent: u64, flags: u32, mode: u32, maker: Ids) -> Result<Created, Errno> {
        let directory = self.nodes.get(parent)?;
        let flags = OFlags::from_bits_retain(flags) & (OPEN_FLAGS | OFlags::EXCL);
        let flags = flags | OFlags::TMPFILE | OFlags::CLOEXEC;
        let fd = openat(&directory.fd, c".", flags, permitted_mode(FileType::RegularFile, mode))?;
        self.give_to_maker(&fd, &directory.fd, maker)?;
        let path = self.reopen(&fd, OFlags::PATH)?;
        let found = self.found(parent, &directory, c"", path)?;
        self.keep_created(found, fd)
    }

    pub fn read(&self, handle: u64, offset: u64, size: u32, reply: &mut Reply) -> Result<(), Errno> {
        let handle = self.handles.get(handle)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX).min(MAX_DATA_BYTES);
        reply.fill(size, |buffer| {
            let mut filled = 0;
            while filled < buffer.len() {
                let position = offset.checked_add(filled as u64).ok_or(Errno::OVERFLOW)?;
                match pread(&handle.fd, &mut buffer[filled..], position) {
                    Ok(0) => break,
                    Ok(bytes) => filled += bytes,
                    Err(Errno::INTR) => {}
                    Err(_) if filled > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            Ok(filled)
        })
    }

    /// Returns how much was written: less than all when the disk is full or a limit is reached.
    pub fn write(&self, handle: u64, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let handle = self.handles.get(handle)?;
        self.drop_set_ids(&handle.fd)?;
        let mut written = 0;
        while written < data.len() {
            let position = offset.checked_add(written as u64).ok_or(Errno::FBIG)?;
            match pwrite(&handle.fd, &data[written..], position) {
                Ok(0) => break,
                Ok(bytes) => written += bytes,
                Err(Errno::INTR) => {}
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        u32::try_from(written).map_err(|_| Errno::INVAL)
    }

    /// Makes what was written reach the host's disk.
    pub fn sync(&self, handle: u64, data_only: bool) -> Result<(), Errno> {
        let handle = self.handles.get(handle)?;
        if data_only { fdatasync(&handle.fd) } else { fsync(&handle.fd) }
    }

    pub fn allocate(&self, handle: u64, range: (u64, u64), mode: u32) -> Result<(), Errno> {
        let handle = self.handles.get(handle)?;
        self.drop_set_ids(&handle.fd)?;
        fallocate(&handle.fd, FallocateFlags::from_bits_retain(mode), range.0, range.1)
    }

    /// SEEK_DATA and SEEK_HOLE; the rest the guest knows itself.
    pub fn seek(&self, handle: u64, offset: u64, whence: u32) -> Result<u64, Errno> {
        let handle = self.handles.get(handle)?;
        let position = match whence {
            3 => SeekFrom::Data(offset),
            4 => SeekFrom::Hole(offset),
            _ => return Err(Errno::INVAL),
        };
        if offset > i64::MAX.cast_unsigned() {
            return Err(Errno::NXIO);
        }
        seek(&handle.fd, position)
    }

    pub fn copy(&self, from: (u64, u64), to: (u64, u64), length: u64) -> Result<u32, Errno> {
        let (source, target) = (self.handles.get(from.0)?, self.handles.get(to.0)?);
        self.drop_set_ids(&target.fd)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
        let (mut offset, mut position) = (from.1, to.1);
        let copied = copy_file_range(&source.fd, Some(&mut offset), &target.fd, Some(&mut position), length)?;
        u32::try_from(copied).map_err(|_| Errno::INVAL)
    }
}
