//! Holding back writes to the VM's disk, so that the host can copy a consistent one.
//!
//! ```text
//! Thawed ── freeze ──► Freezing ── no write is under way any more ──► Frozen
//!    ▲                    │                                             │
//!    └─── once it is done, if it was given up meanwhile ── thaw, or time is up
//! ```
//!
//! The kernel waits for the writes under way, cannot be told to stop waiting, and a workload can make one that never
//! ends. So each freeze has a thread of its own, which alone waits, and nobody waits for that.

use std::fmt::Debug;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use crate::error::{AgentError, Context};

/// However long the host asks for: a workload must not hang for ever because a host has gone.
const LONGEST: Duration = Duration::from_secs(600);
/// How long the guest's end waits for a freeze under way. The workload has gone with its writes: what is left is
/// to write out what they have written.
const LAST_FREEZE: Duration = Duration::from_secs(30);

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
    #[error("the disk is being frozen already, which waits for the writes under way to end")]
    Freezing,
    #[error(
        "a write to the disk has not ended within {} ms, and holds up all others: end the process that makes it",
        .0.as_millis()
    )]
    Stuck(Duration),
    #[error("the freeze was given up while it waited for the writes under way to end")]
    GivenUp,
    #[error("the guest is ending")]
    Ending,
    #[error("start a thread to freeze the disk: {0}")]
    Thread(io::Error),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// The kernel's part; tests have one of their own, whose freeze does not end.
trait Kernel: Debug + Send + Sync {
    /// Returns when no write is under way.
    fn freeze(&self, directory: &File) -> Result<(), Errno>;
    fn thaw(&self, directory: &File) -> Result<(), Errno>;
}

#[derive(Debug)]
struct Linux;

impl Kernel for Linux {
    fn freeze(&self, directory: &File) -> Result<(), Errno> {
        // SAFETY: the descriptor is open, and the argument, which the kernel does not look at, is an int.
        unsafe { ioctl::freeze(directory.as_raw_fd(), &mut 0) }.map(drop)
    }

    fn thaw(&self, directory: &File) -> Result<(), Errno> {
        // SAFETY: as for the freeze.
        unsafe { ioctl::thaw(directory.as_raw_fd(), &mut 0) }.map(drop)
    }
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Thawed,
    /// The kernel has been asked, without the lock.
    Freezing { given_up: bool },
    /// With the mount point of the filesystem.
    Frozen(File),
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    /// Counts the freezes, so that a thread's time ends none but its own.
    generation: u64,
    ending: bool,
}

/// Freezes and thaws one filesystem. It is thawed at the latest when the time is up, by the thread that froze it.
#[derive(Debug)]
pub struct Freezer {
    mount_point: &'static str,
    kernel: Box<dyn Kernel>,
    state: Mutex<State>,
    thawed: Condvar,
    /// A freeze under way has ended, one way or the other.
    settled: Notify,
}

impl Freezer {
    pub fn new(mount_point: &'static str) -> Arc<Self> {
        Self::with(mount_point, Box::new(Linux))
    }

    fn with(mount_point: &'static str, kernel: Box<dyn Kernel>) -> Arc<Self> {
        let (state, thawed, settled) = (Mutex::default(), Condvar::new(), Notify::new());
        Arc::new(Self { mount_point, kernel, state, thawed, settled })
    }

    /// Writes everything out and holds back further writes, for at most `limit`, which is also how long that may take.
    pub async fn freeze(self: &Arc<Self>, limit: Duration) -> Result<(), FreezeError> {
        let limit = limit.min(LONGEST);
        let freezer = Arc::clone(self);
        let (answer, result) = oneshot::channel();
        let thread = thread::Builder::new().name("freeze".into());
        thread.spawn(move || freezer.hold(limit, answer)).map_err(FreezeError::Thread)?;
        let Ok(result) = timeout(limit, result).await else {
            self.thaw();
            return Err(FreezeError::Stuck(limit));
        };
        // The thread answers before it ends.
        result.unwrap_or(Err(FreezeError::GivenUp))
    }

    /// Lets writes go on, or gives up the freeze under way. Returns whether writes were still held back.
    pub fn thaw(&self) -> bool {
        self.thaw_locked(&mut self.lock())
    }

    /// Thaws for good: the disks are about to be sealed, which neither one that is frozen nor one that is being frozen
    /// can be.
    pub async fn end(&self) {
        {
            let mut state = self.lock();
            state.ending = true;
            self.thaw_locked(&mut state);
        }
        let settled = async {
            while matches!(self.lock().phase, Phase::Freezing { .. }) {
                self.settled.notified().await;
            }
        };
        // After that what cannot be sealed is lost, but the end is told.
        let _ = timeout(LAST_FREEZE, settled).await;
    }

    /// The life of a freeze's thread.
    fn hold(&self, limit: Duration, answer: oneshot::Sender<Result<(), FreezeError>>) {
        let (result, generation) = match self.begin() {
            Ok(generation) => (Ok(()), Some(generation)),
            Err(error) => (Err(error), None),
        };
        let is_awaited = answer.send(result).is_ok();
        if let Some(generation) = generation {
            // A caller that has gone copies nothing, and does not thaw either.
            self.thaw_after(if is_awaited { limit } else { Duration::ZERO }, generation);
        }
    }

    /// Freezes; returns the freeze's number.
    fn begin(&self) -> Result<u64, FreezeError> {
        let directory = self.enter_freezing()?;
        let result = self.kernel.freeze(&directory);
        let mut state = self.lock();
        let given_up = matches!(state.phase, Phase::Freezing { given_up: true });
        state.phase = if result.is_ok() { Phase::Frozen(directory) } else { Phase::Thawed };
        state.generation += 1;
        if given_up {
            self.thaw_locked(&mut state);
        }
        self.settled.notify_one();
        match result {
            Ok(()) if state.ending => Err(FreezeError::Ending),
            Ok(()) if given_up => Err(FreezeError::GivenUp),
            Ok(()) => Ok(state.generation),
            Err(Errno::EBUSY) => Err(FreezeError::Frozen),
            Err(error) => Err(error).context(|| format!("freeze {}", self.mount_point)).map_err(Into::into),
        }
    }

    fn enter_freezing(&self) -> Result<File, FreezeError> {
        let mut state = self.lock();
        if state.ending {
            return Err(FreezeError::Ending);
        }
        match state.phase {
            Phase::Thawed => {}
            Phase::Freezing { .. } => return Err(FreezeError::Freezing),
            Phase::Frozen(_) => return Err(FreezeError::Frozen),
        }
        let mount_point = self.mount_point;
        let directory = File::open(mount_point).context(|| format!("open {mount_point}"))?;
        state.phase = Phase::Freezing { given_up: false };
        Ok(directory)
    }

    fn thaw_after(&self, limit: Duration, generation: u64) {
        let is_frozen =
            |state: &mut State| matches!(state.phase, Phase::Frozen(_)) && state.generation == generation;
        let waited = self.thawed.wait_timeout_while(self.lock(), limit, is_frozen);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_frozen(&mut state) {
            self.thaw_locked(&mut state);
        }
    }

    fn thaw_locked(&self, state: &mut State) -> bool {
        match &mut state.phase {
            Phase::Thawed => false,
            Phase::Freezing { given_up } => {
                *given_up = true;
                false
            }
            Phase::Frozen(directory) => {
                // Fails when someone else has thawed it, which comes to the same.
                let was_frozen = self.kernel.thaw(directory).is_ok();
                state.phase = Phase::Thawed;
                self.thawed.notify_all();
                was_frozen
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// A filesystem with a write under way, which ends when the test says so.
    #[derive(Debug)]
    struct Busy {
        calls: mpsc::Sender<&'static str>,
        write_end: Mutex<mpsc::Receiver<()>>,
    }

    impl Kernel for Busy {
        fn freeze(&self, _: &File) -> Result<(), Errno> {
            let _ = self.calls.send("freeze");
            self.write_end.lock().unwrap().recv().map_err(|_| Errno::EIO)
        }

        fn thaw(&self, _: &File) -> Result<(), Errno> {
            let _ = self.calls.send("thaw");
            Ok(())
        }
    }

    struct Setting {
        freezer: Arc<Freezer>,
        /// What the kernel is asked to do.
        calls: mpsc::Receiver<&'static str>,
        write_end: mpsc::Sender<()>,
    }

    fn busy() -> Setting {
        let ((calls, called), (write_end, ended)) = (mpsc::channel(), mpsc::channel());
        let kernel = Box::new(Busy { calls, write_end: Mutex::new(ended) });
        Setting { freezer: Freezer::with("/proc", kernel), calls: called, write_end }
    }

    impl Setting {
        /// A freeze that waits for the write.
        fn begin(&self) -> thread::JoinHandle<Result<u64, FreezeError>> {
            let freezer = Arc::clone(&self.freezer);
            let freezing = thread::spawn(move || freezer.begin());
            assert_eq!(self.calls.recv(), Ok("freeze"));
            freezing
        }

        fn end_write(&self) {
            self.write_end.send(()).unwrap();
        }
    }

    #[tokio::test]
    async fn what_cannot_be_frozen_says_so() {
        let freezer = Freezer::new("/proc");
        let error = freezer.freeze(LONG).await.unwrap_err();
        assert!(matches!(error, FreezeError::Agent(_)), "{error}");
        assert!(error.to_string().starts_with("freeze /proc: "), "{error}");
        assert!(!freezer.thaw());
    }

    #[tokio::test]
    async fn nothing_is_frozen_once_the_guest_ends() {
        let freezer = Freezer::new("/proc");
        freezer.end().await;
        assert!(matches!(freezer.freeze(LONG).await.unwrap_err(), FreezeError::Ending));
    }

    #[tokio::test]
    async fn what_was_frozen_is_thawed_once() {
        let busy = busy();
        busy.end_write();
        busy.freezer.freeze(LONG).await.unwrap();
        assert!(matches!(busy.freezer.freeze(LONG).await.unwrap_err(), FreezeError::Frozen));
        assert!(busy.freezer.thaw());
        assert!(!busy.freezer.thaw());
        assert_eq!(busy.calls.try_iter().collect::<Vec<_>>(), ["freeze", "thaw"]);
    }

    #[tokio::test]
    async fn what_nobody_thaws_is_thawed_when_the_time_is_up() {
        let busy = busy();
        busy.end_write();
        // Not by the caller: by then the freeze has been answered.
        assert!(busy.freezer.begin().is_ok_and(|generation| generation == 1));
        busy.freezer.thaw_after(Duration::ZERO, 0);
        assert_eq!(busy.calls.try_iter().collect::<Vec<_>>(), ["freeze"], "another's time");
        busy.freezer.thaw_after(Duration::ZERO, 1);
        assert_eq!(busy.calls.try_iter().collect::<Vec<_>>(), ["thaw"]);
    }

    #[test]
    fn what_was_frozen_for_a_caller_that_has_gone_is_thawed_at_once() {
        let busy = busy();
        busy.end_write();
        let (answer, result) = oneshot::channel();
        drop(result);
        busy.freezer.hold(LONG, answer);
        assert_eq!(busy.calls.try_iter().collect::<Vec<_>>(), ["freeze", "thaw"]);
    }

    #[tokio::test]
    async fn a_freeze_that_waits_holds_up_nobody_and_is_undone_when_it_was_given_up() {
        let busy = busy();
        let freezing = busy.begin();
        assert!(matches!(busy.freezer.freeze(LONG).await.unwrap_err(), FreezeError::Freezing));
        assert!(!busy.freezer.thaw(), "nothing is held back yet");
        assert_eq!(busy.calls.try_recv(), Err(mpsc::TryRecvError::Empty), "nor can it be undone");
        busy.end_write();
        assert!(matches!(freezing.join().unwrap(), Err(FreezeError::GivenUp)));
        assert_eq!(busy.calls.try_recv(), Ok("thaw"));
        busy.end_write();
        busy.freezer.freeze(LONG).await.unwrap();
    }

    #[tokio::test]
    async fn a_write_that_does_not_end_is_told_when_the_time_is_up() {
        let busy = busy();
        let error = busy.freezer.freeze(Duration::from_millis(1)).await.unwrap_err();
        assert!(error.to_string().starts_with("a write to the disk has not ended within 1 ms"), "{error}");
        assert_eq!(busy.calls.recv(), Ok("freeze"));
        busy.end_write();
        assert_eq!(busy.calls.recv(), Ok("thaw"), "whoever waited for it has gone");
    }

    #[tokio::test]
    async fn the_end_waits_for_the_freeze_under_way() {
        let busy = busy();
        let freezing = busy.begin();
        let mut end = Box::pin(busy.freezer.end());
        tokio::select! {
            biased;
            () = &mut end => panic!("nothing has been thawed"),
            () = std::future::ready(()) => {}
        }
        busy.end_write();
        end.await;
        assert!(matches!(freezing.join().unwrap(), Err(FreezeError::Ending)));
        assert_eq!(busy.calls.try_recv(), Ok("thaw"));
    }
}
