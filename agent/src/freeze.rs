//! Holding back writes to the VM's disk, so that the host can copy a consistent one.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;

use crate::error::{AgentError, Context};

/// However long the host asks for: a workload must not hang for ever because a host has gone.
const LONGEST: Duration = Duration::from_secs(600);

mod ioctl {
    use nix::libc::c_int;

    // FIFREEZE and FITHAW of linux/fs.h; the kernel ignores the argument.
    nix::ioctl_readwrite!(freeze, b'X', 119, c_int);
    nix::ioctl_readwrite!(thaw, b'X', 120, c_int);
}

/// Why the disk cannot be frozen.
#[derive(Debug, Error)]
pub enum FreezeError {
    #[error("the disk is frozen already")]
    Frozen,
    #[error("the guest is ending")]
    Ending,
    #[error(transparent)]
    Agent(#[from] AgentError),
}

#[derive(Debug, Default)]
struct State {
    /// The mount point, while its filesystem is frozen.
    frozen: Option<File>,
    /// Counts the freezes, so that a timer ends none but its own.
    generation: u64,
    ending: bool,
}

/// Freezes and thaws one filesystem. It is thawed at the latest when the time is up, by a thread of its own.
#[derive(Debug)]
pub struct Freezer {
    mount_point: &'static str,
    state: Mutex<State>,
    thawed: Condvar,
}

impl Freezer {
    pub fn new(mount_point: &'static str) -> Arc<Self> {
        Arc::new(Self { mount_point, state: Mutex::default(), thawed: Condvar::new() })
    }

    /// Writes everything out and holds back further writes for at most `limit`. Blocks until it is so.
    pub fn freeze(self: &Arc<Self>, limit: Duration) -> Result<(), FreezeError> {
        let mut state = self.lock();
        if state.ending {
            return Err(FreezeError::Ending);
        }
        if state.frozen.is_some() {
            return Err(FreezeError::Frozen);
        }
        let mount_point = self.mount_point;
        let directory = File::open(mount_point).context(|| format!("open {mount_point}"))?;
        // SAFETY: the descriptor is open, and the argument, which the kernel does not look at, is an int.
        match unsafe { ioctl::freeze(directory.as_raw_fd(), &mut 0) } {
            Ok(_) => {}
            Err(Errno::EBUSY) => return Err(FreezeError::Frozen),
            Err(error) => return Err(error).context(|| format!("freeze {mount_point}")).map_err(Into::into),
        }
        state.frozen = Some(directory);
        state.generation += 1;
        let (freezer, generation) = (Arc::clone(self), state.generation);
        let timer = thread::Builder::new().spawn(move || freezer.thaw_after(limit.min(LONGEST), generation));
        if let Err(error) = timer {
            self.thaw_locked(&mut state);
            return Err(error).context(|| "start a timer".into()).map_err(Into::into);
        }
        Ok(())
    }

    /// Lets writes go on. Returns whether they were still held back.
    pub fn thaw(&self) -> bool {
        self.thaw_locked(&mut self.lock())
    }

    /// Thaws for good: the disks are about to be sealed, which a frozen one would prevent.
    pub fn end(&self) {
        let mut state = self.lock();
        state.ending = true;
        self.thaw_locked(&mut state);
    }

    fn thaw_after(&self, limit: Duration, generation: u64) {
        let is_frozen = |state: &mut State| state.frozen.is_some() && state.generation == generation;
        let waited = self.thawed.wait_timeout_while(self.lock(), limit, is_frozen);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_frozen(&mut state) {
            self.thaw_locked(&mut state);
        }
    }

    fn thaw_locked(&self, state: &mut State) -> bool {
        let Some(directory) = state.frozen.take() else {
            return false;
        };
        self.thawed.notify_all();
        // SAFETY: as for the freeze. It fails when someone else has thawed it, which comes to the same.
        unsafe { ioctl::thaw(directory.as_raw_fd(), &mut 0) }.is_ok()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_frozen_says_so() {
        let freezer = Freezer::new("/proc");
        let error = freezer.freeze(Duration::from_secs(1)).unwrap_err();
        assert!(matches!(error, FreezeError::Agent(_)), "{error}");
        assert!(error.to_string().starts_with("freeze /proc: "), "{error}");
        assert!(!freezer.thaw());
    }

    #[test]
    fn nothing_is_frozen_once_the_guest_ends() {
        let freezer = Freezer::new("/proc");
        freezer.end();
        assert!(matches!(freezer.freeze(Duration::ZERO).unwrap_err(), FreezeError::Ending));
    }
}
