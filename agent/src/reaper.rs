//! The one place where children are waited for. PID 1 inherits every orphan; those nobody asked about are
//! just reaped.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};

use crate::guest::send_signal;
use crate::proto::Exit;

/// Knows who waits for which child.
#[derive(Debug, Clone, Default)]
pub struct Reaper {
    waiting: Arc<Mutex<HashMap<Pid, oneshot::Sender<Exit>>>>,
    reaped: Arc<Notify>,
}

impl Reaper {
    /// Starts the task that owns SIGCHLD; before the first child.
    pub fn start() -> io::Result<Self> {
        let reaper = Self::default();
        let mut signals = signal(SignalKind::child())?;
        let task = reaper.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                task.reap();
            }
        });
        Ok(reaper)
    }

    /// Registers a child. To be called right after fork, before the task above gets to run again.
    pub fn watch(&self, pid: Pid) -> oneshot::Receiver<Exit> {
        let (sender, receiver) = oneshot::channel();
        self.lock().insert(pid, sender);
        receiver
    }

    /// Kills whatever is still waited for, and waits until it is gone.
    pub async fn kill_all(&self) {
        loop {
            let reaped = self.reaped.notified();
            {
                let waiting = self.lock();
                if waiting.is_empty() {
                    return;
                }
                for &pid in waiting.keys() {
                    let _ = send_signal(pid, libc::SIGKILL);
                }
            }
            reaped.await;
        }
    }

    /// Signals stand for any number of children: takes all that have ended.
    fn reap(&self) {
        let mut status = 0;
        loop {
            // SAFETY: waitpid writes one int, to a live one.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid <= 0 {
                self.reaped.notify_waiters();
                return;
            }
            let waiting = self.lock().remove(&Pid::from_raw(pid));
            if let (Some(sender), Some(exit)) = (waiting, exit_of(status)) {
                // Whoever waited may have gone.
                let _ = sender.send(exit);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Pid, oneshot::Sender<Exit>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a child has ended, with the shell's 128 + n for a signal; `None` when it has not. Read from the raw
/// status because nix knows no real-time signals.
fn exit_of(status: libc::c_int) -> Option<Exit> {
    let (code, signal) = if libc::WIFEXITED(status) {
        (libc::WEXITSTATUS(status), 0)
    } else if libc::WIFSIGNALED(status) {
        (128 + libc::WTERMSIG(status), libc::WTERMSIG(status))
    } else {
        return None;
    };
    Some(Exit { code: u32::try_from(code).ok()?, signal: u32::try_from(signal).ok()?, oom_killed: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_have_the_shells_codes() {
        let ended = |status| exit_of(status).map(|exit| (exit.code, exit.signal));
        assert_eq!(ended(3 << 8), Some((3, 0)));
        assert_eq!(ended(9), Some((137, 9)));
        assert_eq!(ended(37), Some((165, 37)), "a real-time signal");
        assert_eq!(ended(0x137f), None, "stopped");
    }
}
