//! Children of the agent's own, which work in the workload's mount namespace: what takes long, needs memory, or
//! touches what the workload has made, must be able to fail without PID 1. The workload does not see them, they
//! are in none of its other namespaces.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::panic;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, fork};
use tokio::time::timeout;

use crate::error::{AgentError, Context};
use crate::guest_path::GuestRoot;
use crate::process::{Namespaces, reset_signals};
use crate::reaper::Reaper;
use crate::starting::Child;

/// One for each directory on the way to a file.
const MAX_DESCRIPTORS: u64 = 16_384;

/// How long a helper may take to end once nobody waits for it.
const LEAVING: Duration = Duration::from_secs(5);

/// What a helper is given.
#[derive(Debug)]
pub struct Workshop {
    pub root: GuestRoot,
    /// The end of the pipe that carries the data.
    pub data: File,
    /// Where the helper says how it went.
    pub report: File,
}

/// A helper at work. When nobody waits for it any more it has a while to notice and to clean up; what is stuck in a
/// filesystem of the workload's is then killed.
#[derive(Debug)]
pub struct Helper(Option<Child>);

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            tokio::spawn(async move {
                if timeout(LEAVING, child.exit()).await.is_err() {
                    child.kill();
                }
            });
        }
    }
}

/// Forks a child that does `work` and ends.
pub fn start(
    namespaces: &Namespaces,
    data: &OwnedFd,
    report: &OwnedFd,
    reaper: &Reaper,
    work: impl FnOnce(Workshop),
) -> Result<Helper, AgentError> {
    // SAFETY: as in process::start, the child may do more than async-signal-safe calls.
    match unsafe { fork() }.context(|| "start a helper".into())? {
        ForkResult::Parent { child } => Ok(Helper(Some(Child::new(child, reaper)))),
        ForkResult::Child => {
            if let Ok(workshop) = enter(namespaces, data, report) {
                work(workshop);
            }
            // SAFETY: _exit never returns and runs nothing of the parent's that was copied into the child.
            unsafe { libc::_exit(0) }
        }
    }
}

fn enter(namespaces: &Namespaces, data: &OwnedFd, report: &OwnedFd) -> Result<Workshop, AgentError> {
    // The agent's own would end the guest.
    panic::set_hook(Box::new(|_| {
        // SAFETY: as above.
        unsafe { libc::_exit(101) }
    }));
    reset_signals()?;
    // The agent is exempt from the OOM killer; its helpers are not.
    let _ = fs::write("/proc/self/oom_score_adj", "0");
    // A refinement: without it only very deep trees cannot be copied.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let descriptors = open("/proc/self/fd", flags, Mode::empty()).context(|| "open /proc/self/fd".into())?;
    namespaces.join_mounts()?;
    umask(Mode::empty());
    let [data, report, descriptors] = keep_only([data, report, &descriptors])?;
    let root = GuestRoot::new(descriptors).context(|| "open the root".into())?;
    Ok(Workshop { root, data: data.into(), report: report.into() })
}

/// Does nothing until it is killed, for a workload that is only there for its namespaces. Nothing stays open.
pub fn wait_for_the_end() -> ! {
    // SAFETY: as in keep_only.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    loop {
        nix::unistd::pause();
    }
}

/// Moves descriptors to the lowest numbers and closes all others: pipes and connections of the agent's that stayed
/// open here would not end when it closes them.
fn keep_only(kept: [&OwnedFd; 3]) -> Result<[OwnedFd; 3], AgentError> {
    const FIRST: [i32; 3] = [0, 1, 2];
    for (number, descriptor) in FIRST.into_iter().zip(kept) {
        // SAFETY: dup2 takes two numbers. The agent's own first three, which are its console, are not among those
        // that are kept.
        Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })
            .context(|| "keep a descriptor".into())?;
    }
    // SAFETY: what is closed belongs to values that this child, which never unwinds, does not drop or use again.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) })
        .context(|| "close descriptors".into())?;
    // SAFETY: the three are open, and nothing else in this child owns them.
    Ok(FIRST.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}
