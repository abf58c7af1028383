//! Files and directories that the guest has open.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;

/// One open file or directory.
#[derive(Debug)]
pub struct Handle {
    pub fd: OwnedFd,
    pub node: u64,
}

#[derive(Debug)]
pub struct Handles {
    open: RwLock<HashMap<u64, Arc<Handle>>>,
    next: AtomicU64,
    limit: usize,
}

impl Handles {
    pub fn new(limit: usize) -> Self {
        Self { open: RwLock::default(), next: AtomicU64::new(1), limit }
    }

    /// Takes a file in. ENFILE when there are too many.
    pub fn insert(&self, handle: Handle) -> Result<u64, Errno> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= self.limit {
            return Err(Errno::NFILE);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        open.insert(id, Arc::new(handle));
        Ok(id)
    }

    pub fn get(&self, id: u64) -> Result<Arc<Handle>, Errno> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.get(&id).cloned().ok_or(Errno::BADF)
    }

    pub fn remove(&self, id: u64) -> Option<Arc<Handle>> {
        self.open.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
}
