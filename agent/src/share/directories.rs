//! Listing directories.

use std::ffi::CStr;
use std::mem::MaybeUninit;

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom, fsync, seek};
use rustix::io::Errno;

use crate::hello::MAX_DATA_BYTES;
use crate::nodes::Node;
use crate::reply::Reply;
use crate::share::Share;

/// `fuse_dirent` without its name; `fuse_entry_out` comes before it in READDIRPLUS.
const DIRENT_BYTES: usize = 24;
const ENTRY_BYTES: usize = 128;
/// What getdents64(2) is asked for at once: what does not fit into the answer is read again.
const LISTING_BYTES: usize = 16 * 1024;

/// Which part of a directory is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    pub handle: u64,
    /// 0, or what an earlier entry said is the place of the next.
    pub offset: u64,
    pub size: u32,
    /// With what a lookup of each would tell.
    pub plus: bool,
}

impl Share {
    pub fn open_directory(&self, id: u64) -> Result<u64, Errno> {
        let node = self.nodes.get(id)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&node.fd, c".", flags, rustix::fs::Mode::empty())?;
        self.keep(id, &node, fd)
    }

    pub fn list(&self, parent: u64, listing: Listing, reply: &mut Reply) -> Result<(), Errno> {
        let handle = self.handles.get(listing.handle)?;
        let directory = self.nodes.get(parent)?;
        let size = usize::try_from(listing.size).unwrap_or(usize::MAX).min(MAX_DATA_BYTES);
        if listing.offset > i64::MAX.cast_unsigned() {
            return Err(Errno::INVAL);
        }
        seek(&handle.fd, SeekFrom::Start(listing.offset))?;
        let mut buffer = [MaybeUninit::uninit(); LISTING_BYTES];
        let mut entries = RawDir::new(&handle.fd, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(_) if reply.body_length() > 0 => break,
                Err(error) => return Err(error),
            };
            let name = entry.file_name();
            let head = DIRENT_BYTES + if listing.plus { ENTRY_BYTES } else { 0 };
            let bytes = (head + name.count_bytes()).next_multiple_of(8);
            if reply.body_length() + bytes > size {
                break;
            }
            if listing.plus {
                self.add_lookup(parent, &directory, name, reply);
            }
            reply.u64(entry.ino());
            reply.u64(entry.next_entry_cookie());
            reply.u32(u32::try_from(name.count_bytes()).unwrap_or(0));
            reply.u32(dirent_type(entry.file_type()));
            reply.bytes(name.to_bytes());
            reply.bytes(&[0; 7][..bytes - head - name.count_bytes()]);
        }
        Ok(())
    }

    /// What a lookup would tell, or nothing: the guest asks again for what it needs.
    fn add_lookup(&self, parent: u64, directory: &Node, name: &CStr, reply: &mut Reply) {
        if matches!(name.to_bytes(), b"." | b"..") {
            return reply.entry(0, None);
        }
        match self.lookup_in(parent, directory, name) {
            Ok(found) => reply.entry(found.id, Some(&found.attributes)),
            Err(_) => reply.entry(0, None),
        }
    }

    pub fn sync_directory(&self, handle: u64) -> Result<(), Errno> {
        fsync(&self.handles.get(handle)?.fd)
    }
}

/// DT_DIR and so on: the file type's bits of st_mode.
fn dirent_type(kind: FileType) -> u32 {
    match kind {
        FileType::Unknown => 0,
        kind => kind.as_raw_mode() >> 12,
    }
}
