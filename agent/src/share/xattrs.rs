//! Extended attributes: those of users, and only these. Others mean something to the host's kernel.

use std::ffi::CStr;

use rustix::fs::{XattrFlags, getxattr, getxattr_query, listxattr, listxattr_query, removexattr, setxattr};
use rustix::io::Errno;

use crate::owners;
use crate::reply::Reply;
use crate::share::{Share, descriptor_path};

/// The kernel's own bound, XATTR_SIZE_MAX and XATTR_LIST_MAX.
const MAX_BYTES: usize = 64 * 1024;
const PREFIX: &[u8] = b"user.";

fn check(name: &CStr) -> Result<(), Errno> {
    if name.to_bytes() == b"security.capability" {
        return Err(Errno::NODATA); // asked before each write
    }
    if !name.to_bytes().starts_with(PREFIX) {
        return Err(Errno::OPNOTSUPP);
    }
    if name == owners::ATTRIBUTE { Err(Errno::PERM) } else { Ok(()) }
}

impl Share {
    pub fn set_xattr(&self, id: u64, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
        check(name).map_err(|error| if error == Errno::NODATA { Errno::OPNOTSUPP } else { error })?;
        let node = self.nodes.get(id)?;
        setxattr(descriptor_path(&node.fd), name, value, XattrFlags::from_bits_retain(flags))
    }

    pub fn remove_xattr(&self, id: u64, name: &CStr) -> Result<(), Errno> {
        check(name)?;
        removexattr(descriptor_path(&self.nodes.get(id)?.fd), name)
    }

    /// With a size of 0 only the length is asked for.
    pub fn get_xattr(&self, id: u64, name: &CStr, size: u32, reply: &mut Reply) -> Result<(), Errno> {
        check(name).map_err(|error| if error == Errno::PERM { Errno::NODATA } else { error })?;
        let path = descriptor_path(&self.nodes.get(id)?.fd);
        if size == 0 {
            return length(getxattr_query(path, name)?, reply);
        }
        reply.fill(buffer_size(size), |buffer| getxattr(&path, name, &mut buffer[..]))
    }

    pub fn list_xattrs(&self, id: u64, size: u32, reply: &mut Reply) -> Result<(), Errno> {
        let path = descriptor_path(&self.nodes.get(id)?.fd);
        let mut names = vec![0; listxattr_query(&path)?.min(MAX_BYTES)];
        if !names.is_empty() {
            let used = listxattr(&path, &mut names[..])?;
            names.truncate(used);
        }
        let visible: Vec<u8> = names
            .split_inclusive(|&byte| byte == 0)
            .filter(|name| name.starts_with(PREFIX) && *name != owners::ATTRIBUTE.to_bytes_with_nul())
            .flatten()
            .copied()
            .collect();
        if size == 0 {
            return length(visible.len(), reply);
        }
        if visible.len() > buffer_size(size) {
            return Err(Errno::RANGE);
        }
        reply.bytes(&visible);
        Ok(())
    }
}

fn buffer_size(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX).min(MAX_BYTES)
}

/// `fuse_getxattr_out`.
fn length(bytes: usize, reply: &mut Reply) -> Result<(), Errno> {
    reply.u32(u32::try_from(bytes).map_err(|_| Errno::TOOBIG)?);
    reply.u32(0);
    Ok(())
}
