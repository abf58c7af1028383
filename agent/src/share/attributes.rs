//! Attributes: modes, owners, sizes, times.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, Statx, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, XattrFlags, chmodat,
    chownat, ftruncate, removexattr, setxattr, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use crate::abi::setattr;
use crate::hello::Ids;
use crate::nodes;
use crate::owners::{self, Mapping, Owners};
use crate::reply::Attributes;
use crate::request::Fields;
use crate::share::{SET_IDS, Share, descriptor_path, file_type, permitted_mode};

/// `fuse_setattr_in`.
#[derive(Debug)]
pub struct Changes {
    valid: u32,
    handle: u64,
    size: u64,
    atime: Timespec,
    mtime: Timespec,
    mode: u32,
    ids: Ids,
}

impl Changes {
    pub fn parse(fields: &mut Fields<'_>) -> Result<Self, Errno> {
        let valid = fields.u32()?;
        fields.skip(4)?;
        let (handle, size) = (fields.u64()?, fields.u64()?);
        fields.skip(8)?; // lock owner
        let (atime, mtime) = (fields.u64()?.cast_signed(), fields.u64()?.cast_signed());
        fields.skip(8)?; // ctime
        let (atime_ns, mtime_ns) = (fields.u32()?, fields.u32()?);
        fields.skip(4)?; // of ctime
        let mode = fields.u32()?;
        fields.skip(4)?;
        let ids = Ids { uid: fields.u32()?, gid: fields.u32()? };
        let time = |tv_sec, tv_nsec: u32| Timespec { tv_sec, tv_nsec: tv_nsec.into() };
        if atime_ns >= 1_000_000_000 || mtime_ns >= 1_000_000_000 {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            valid,
            handle,
            size,
            atime: time(atime, atime_ns),
            mtime: time(mtime, mtime_ns),
            mode,
            ids,
        })
    }

    fn has(&self, bit: u32) -> bool {
        self.valid & bit != 0
    }
}

impl Share {
    pub fn set_attributes(&self, id: u64, changes: &Changes) -> Result<Attributes, Errno> {
        let node = self.nodes.get(id)?;
        let fd = &*node.fd;
        if changes.has(setattr::MODE) {
            self.change_mode(fd, &nodes::stat(fd)?, changes.mode)?;
        }
        if changes.has(setattr::UID | setattr::GID) {
            let uid = changes.has(setattr::UID).then_some(changes.ids.uid);
            let gid = changes.has(setattr::GID).then_some(changes.ids.gid);
            self.change_owner(fd, uid, gid)?;
        }
        if changes.has(setattr::SIZE) {
            self.drop_set_ids(fd)?;
            if changes.has(setattr::FH) {
                let handle = self.handles.get(changes.handle)?;
                ftruncate(&handle.fd, changes.size)?;
            } else if file_type(&nodes::stat(fd)?) == FileType::RegularFile {
                ftruncate(self.reopen(fd, OFlags::WRONLY)?, changes.size)?;
            } else {
                return Err(Errno::INVAL);
            }
        }
        if changes.has(setattr::ATIME | setattr::MTIME) {
            let choose = |set, now, time| match (changes.has(set), changes.has(now)) {
                (false, _) => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                (true, true) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
                (true, false) => time,
            };
            let times = Timestamps {
                last_access: choose(setattr::ATIME, setattr::ATIME_NOW, changes.atime),
                last_modification: choose(setattr::MTIME, setattr::MTIME_NOW, changes.mtime),
            };
            let (directory, name) = self.descriptor(fd);
            utimensat(directory, name, &times, AtFlags::empty())?;
        }
        self.attributes(fd)
    }

    fn change_mode(&self, fd: &OwnedFd, stat: &Statx, mode: u32) -> Result<(), Errno> {
        let (directory, name) = self.descriptor(fd);
        chmodat(directory, name, permitted_mode(file_type(stat), mode), AtFlags::empty())
    }

    /// Gives a file away. The host's user owns it as before unless the server is root.
    pub fn change_owner(&self, fd: &OwnedFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        match &self.owners {
            Owners::Same => {
                let flags = AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW;
                chownat(fd, c"", uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)
            }
            Owners::Mapped(mapping) => {
                let Attributes { stat, ids, .. } = self.attributes(fd)?;
                let wanted = Ids { uid: uid.unwrap_or(ids.uid), gid: gid.unwrap_or(ids.gid) };
                if wanted == ids {
                    return Ok(());
                }
                if !mapping.owns(&stat) {
                    return Err(Errno::PERM);
                }
                note_owner(fd, &stat, mapping, wanted)?;
                self.drop_set_ids_of(fd, &stat)
            }
        }
    }

    /// The owner of what the guest has just made.
    pub fn give_to_maker(&self, fd: &OwnedFd, parent: &OwnedFd, maker: Ids) -> Result<(), Errno> {
        let untouched = match &self.owners {
            Owners::Same => Ids { uid: 0, gid: 0 },
            Owners::Mapped(mapping) => mapping.guest,
        };
        if maker == untouched {
            return Ok(());
        }
        // In a set-group-ID directory what is new has the directory's group.
        let above = self.attributes(parent)?;
        let inherits = u32::from(above.stat.stx_mode) & 0o2000 != 0;
        match &self.owners {
            Owners::Same => self.change_owner(fd, Some(maker.uid), (!inherits).then_some(maker.gid)),
            Owners::Mapped(mapping) => {
                let gid = if inherits { above.ids.gid } else { maker.gid };
                let stat = nodes::stat(fd)?;
                // Where it cannot be noted, the file is the workload's user's.
                let _ = note_owner(fd, &stat, mapping, Ids { uid: maker.uid, gid });
                Ok(())
            }
        }
    }

    /// Takes the set-id bits of a file away whose contents are about to change. The host's kernel does it by
    /// itself for everyone but root; the guest's, which says when it should be done, is not to be relied on.
    pub fn drop_set_ids(&self, fd: &OwnedFd) -> Result<(), Errno> {
        if self.is_root { self.drop_set_ids_of(fd, &nodes::stat(fd)?) } else { Ok(()) }
    }

    fn drop_set_ids_of(&self, fd: &OwnedFd, stat: &Statx) -> Result<(), Errno> {
        let mode = u32::from(stat.stx_mode);
        if file_type(stat) == FileType::RegularFile && mode & SET_IDS != 0 {
            return self.change_mode(fd, stat, mode);
        }
        Ok(())
    }
}

/// Notes an owner that the host's user cannot really give. Links and other things that can carry no attribute
/// stay the workload's user's; nobody looks at the owner of a link.
fn note_owner(fd: &OwnedFd, stat: &Statx, mapping: &Mapping, wanted: Ids) -> Result<(), Errno> {
    match file_type(stat) {
        FileType::Symlink => return Ok(()),
        FileType::Directory | FileType::RegularFile => {}
        _ => return Err(Errno::PERM),
    }
    let path = descriptor_path(fd);
    let result = if wanted == mapping.guest {
        match removexattr(&path, owners::ATTRIBUTE) {
            Err(Errno::NODATA) => Ok(()),
            result => result,
        }
    } else {
        let value = owners::encode(wanted);
        // A file that its owner may not write to can have no attribute set, and modes come before owners.
        match setxattr(&path, owners::ATTRIBUTE, value.as_bytes(), XattrFlags::empty()) {
            Err(Errno::ACCESS) => with_write_permission(fd, stat, || {
                setxattr(&path, owners::ATTRIBUTE, value.as_bytes(), XattrFlags::empty())
            }),
            result => result,
        }
    };
    result.map_err(|_| Errno::PERM)
}

/// Does something as if the mode of the user's own file let its owner write.
fn with_write_permission(
    fd: &OwnedFd,
    stat: &Statx,
    action: impl FnOnce() -> Result<(), Errno>,
) -> Result<(), Errno> {
    let path = descriptor_path(fd);
    let mode = u32::from(stat.stx_mode) & 0o7777;
    rustix::fs::chmod(&path, Mode::from_raw_mode(mode | 0o200))?;
    let result = action();
    rustix::fs::chmod(&path, Mode::from_raw_mode(mode))?;
    result
}
