//! Names: making, renaming and removing them.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, RenameFlags, linkat, mkdirat, mknodat, readlinkat_raw, renameat_with, statx,
    symlinkat, unlinkat,
};
use rustix::io::Errno;

use crate::hello::Ids;
use crate::lookup::Found;
use crate::nodes::{self, FIELDS, Key, Node};
use crate::reply::Reply;
use crate::share::{Share, file_type, permitted_mode};

impl Share {
    pub fn make_directory(&self, parent: u64, name: &CStr, mode: u32, maker: Ids) -> Result<Found, Errno> {
        let directory = self.nodes.get(parent)?;
        mkdirat(&directory.fd, name, permitted_mode(FileType::Directory, mode))?;
        self.made(parent, &directory, name, (FileType::Directory, maker))
    }

    /// Makes an empty file, a FIFO or a socket. Never a device: on the host it would be one.
    pub fn make_node(&self, parent: u64, name: &CStr, mode: u32, maker: Ids) -> Result<Found, Errno> {
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Unknown => FileType::RegularFile,
            kind @ (FileType::RegularFile | FileType::Fifo | FileType::Socket) => kind,
            _ => return Err(Errno::PERM),
        };
        let directory = self.nodes.get(parent)?;
        mknodat(&directory.fd, name, kind, permitted_mode(kind, mode), 0)?;
        self.made(parent, &directory, name, (kind, maker))
    }

    pub fn make_link(&self, parent: u64, name: &CStr, target: &CStr, maker: Ids) -> Result<Found, Errno> {
        let directory = self.nodes.get(parent)?;
        symlinkat(target, &directory.fd, name)?;
        self.made(parent, &directory, name, (FileType::Symlink, maker))
    }

    /// Gives what was made to its maker, unless somebody has put something else in its place.
    fn made(
        &self,
        parent: u64,
        directory: &Node,
        name: &CStr,
        (kind, maker): (FileType, Ids),
    ) -> Result<Found, Errno> {
        let fd = nodes::open_path(&directory.fd, name)?;
        let stat = nodes::stat(&fd)?;
        let alone = kind == FileType::Directory || stat.stx_nlink == 1;
        if file_type(&stat) == kind && alone {
            self.give_to_maker(&fd, &directory.fd, maker)?;
        }
        self.found(parent, directory, name, fd)
    }

    pub fn read_link(&self, id: u64, reply: &mut Reply) -> Result<(), Errno> {
        const PATH_MAX: usize = 4096;
        let node = self.nodes.get(id)?;
        reply.fill(PATH_MAX, |buffer| readlinkat_raw(&*node.fd, c"", &mut buffer[..]))
    }

    /// A second name for a file.
    pub fn link(&self, id: u64, parent: u64, name: &CStr) -> Result<Found, Errno> {
        let node = self.nodes.get(id)?;
        let directory = self.nodes.get(parent)?;
        let (descriptors, descriptor) = self.descriptor(&node.fd);
        linkat(descriptors, descriptor, &directory.fd, name, AtFlags::SYMLINK_FOLLOW)?;
        self.lookup_in(parent, &directory, name)
    }

    pub fn unlink(&self, parent: u64, name: &CStr, flags: AtFlags) -> Result<(), Errno> {
        unlinkat(&self.nodes.get(parent)?.fd, name, flags)
    }

    /// Renames within the share; both directories are nodes, so that nothing can leave it.
    pub fn rename(&self, from: (u64, &CStr), to: (u64, &CStr), flags: u32) -> Result<(), Errno> {
        let flags = RenameFlags::from_bits_retain(flags);
        if !(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE).contains(flags) {
            return Err(Errno::INVAL);
        }
        let (source, target) = (self.nodes.get(from.0)?, self.nodes.get(to.0)?);
        renameat_with(&source.fd, from.1, &target.fd, to.1, flags)?;
        self.note_place(&target.fd, to);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.note_place(&source.fd, from);
        }
        Ok(())
    }

    /// Remembers where a file is now. When the host has been faster, the guest looks it up again.
    fn note_place(&self, directory: &OwnedFd, place: (u64, &CStr)) {
        if let Ok(stat) = statx(directory, place.1, AtFlags::SYMLINK_NOFOLLOW, FIELDS) {
            self.nodes.moved(&Key::of(&stat), place);
        }
    }
}
