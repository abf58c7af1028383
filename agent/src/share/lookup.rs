//! From a name to a node.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::nodes::{self, Key, Node};
use crate::reply::Attributes;
use crate::share::{Share, is_proc};

/// A file that the guest is about to be told of: its node has been counted.
#[derive(Debug)]
pub struct Found {
    pub id: u64,
    pub attributes: Attributes,
}

impl Share {
    /// Looks one component up. Links are not followed: the guest does that, in its own tree.
    pub fn lookup(&self, parent: u64, name: &CStr) -> Result<Found, Errno> {
        self.lookup_in(parent, &self.nodes.get(parent)?, name)
    }

    pub fn lookup_in(&self, parent: u64, directory: &Node, name: &CStr) -> Result<Found, Errno> {
        let fd = nodes::open_path(&directory.fd, name)?;
        self.found(parent, directory, name, fd)
    }

    /// Takes up a file that was found, or just made, as `name` in `directory`.
    pub fn found(&self, parent: u64, directory: &Node, name: &CStr, fd: OwnedFd) -> Result<Found, Errno> {
        let stat = nodes::stat(&fd)?;
        let key = Key::of(&stat);
        if key.device() != directory.key.device() && is_proc(&fd)? {
            return Err(Errno::ACCESS);
        }
        let attributes = self.attributes_of(&fd, stat);
        let id = self.nodes.enter(fd, &stat, (parent, name))?;
        Ok(Found { id, attributes })
    }
}
