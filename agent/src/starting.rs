//! Children of the agent's on their way to execve, and until their end.
//!
//! A child reports over a socket that closes when it executes: bytes are a [`StartError`], an end without bytes means
//! that execve has succeeded. What is to run beside the workload is forked once more, by a child that the workload
//! cannot see (`process`). That one first tells the pid of the other, and both wait for a byte: until the agent waits
//! for the process and has put it into its control group.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use crate::error::{AgentError, Context, MAX_MESSAGE_BYTES, StartError};
use crate::guest::send_signal;
use crate::proto::Exit;
use crate::reaper::Reaper;

/// Comes before a pid, where a [`StartError`] has its exit code, which is never this.
const FORKED: u8 = 0;
const PID_BYTES: usize = 4;
/// A byte for the starter and one for the process.
const GO_ON: [u8; 2] = [0; 2];

/// A process that the agent waits for. Until its exit has been heard of nobody else has its pid.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    exit: oneshot::Receiver<Exit>,
    ended: Option<Exit>,
}

impl Child {
    /// To be called right after the fork, as [`Reaper::watch`].
    pub fn new(pid: Pid, reaper: &Reaper) -> Self {
        Self { pid, exit: reaper.watch(pid), ended: None }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end. May be cancelled, and called again.
    pub async fn exit(&mut self) -> Exit {
        if let Some(exit) = self.ended {
            return exit;
        }
        // The reaper lives as long as the agent.
        let exit = (&mut self.exit).await.unwrap_or_default();
        self.ended = Some(exit);
        exit
    }

    /// Kills it and its process group, unless it has ended.
    pub fn kill(&mut self) {
        if self.ended.is_some() {
            return;
        }
        match self.exit.try_recv() {
            Err(oneshot::error::TryRecvError::Empty) => {
                let _ = send_signal(Pid::from_raw(-self.pid.as_raw()), libc::SIGKILL);
                let _ = send_signal(self.pid, libc::SIGKILL);
            }
            ended => self.ended = Some(ended.unwrap_or_default()),
        }
    }
}

/// A child on its way to execve; it is killed when nobody waits for that any more.
#[derive(Debug)]
pub struct Starting {
    /// Forks the process, if that is not the agent's own child from the start.
    starter: Option<Child>,
    process: Option<Child>,
    report: Option<UnixStream>,
}

impl Starting {
    /// A child that becomes the process.
    pub fn direct(process: Child, report: UnixStream) -> Self {
        Self { starter: None, process: Some(process), report: Some(report) }
    }

    /// A child that forks the process.
    pub fn by(starter: Child, report: UnixStream) -> Self {
        Self { starter: Some(starter), process: None, report: Some(report) }
    }

    /// Waits until the process has executed, or says why it could not. One that is forked by another is admitted to
    /// the workload's world by `admit`.
    pub async fn executed(
        mut self,
        reaper: &Reaper,
        admit: impl FnOnce(Pid) -> Result<(), AgentError>,
    ) -> Result<Result<Child, StartError>, AgentError> {
        let report = self.report.take().ok_or_else(|| AgentError::Invalid("it was asked before".into()))?;
        match self.watch(report, reaper, admit).await? {
            Some(error) => Ok(Err(error)),
            None => match self.process.take() {
                Some(process) => Ok(Ok(process)),
                None => Err(AgentError::Invalid("the process was killed before it had started".into())),
            },
        }
    }

    async fn watch(
        &mut self,
        report: UnixStream,
        reaper: &Reaper,
        admit: impl FnOnce(Pid) -> Result<(), AgentError>,
    ) -> Result<Option<StartError>, AgentError> {
        let failed = || "watch a process start".into();
        report.set_nonblocking(true).context(failed)?;
        let mut report = tokio::net::UnixStream::from_std(report).context(failed)?;
        let mut bytes = Vec::new();
        if let Some(starter) = &self.starter {
            (&mut report).take((1 + PID_BYTES) as u64).read_to_end(&mut bytes).await.context(failed)?;
            if let Some(pid) = decode_pid(&bytes) {
                bytes.clear();
                // One that is traced might have written this in the name of its parent.
                if parent_of(pid) != Some(starter.pid) {
                    return Err(AgentError::Invalid(format!("{pid} is not the process that is started")));
                }
                self.process = Some(Child::new(pid, reaper));
                admit(pid)?;
                // The starter ends, and what it has forked becomes the agent's child.
                report.write_all(&GO_ON).await.context(failed)?;
                self.starter = None;
            }
        }
        let rest = (&mut report).take((1 + MAX_MESSAGE_BYTES) as u64).read_to_end(&mut bytes).await;
        rest.context(failed)?;
        Ok(StartError::decode(&bytes))
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        for child in [&mut self.starter, &mut self.process].into_iter().flatten() {
            child.kill();
        }
    }
}

/// The starter's part: tells the agent the pid of what it has forked, and waits until it is heard.
pub fn announce(report: &UnixStream, pid: Pid) -> io::Result<()> {
    let mut message = vec![FORKED];
    message.extend_from_slice(&pid.as_raw().to_le_bytes());
    (&*report).write_all(&message)?;
    await_word(report)
}

/// The part of what it has forked: waits until it may go on.
pub fn await_word(report: &UnixStream) -> io::Result<()> {
    (&*report).read_exact(&mut [0; 1])
}

fn decode_pid(bytes: &[u8]) -> Option<Pid> {
    let (&FORKED, pid) = bytes.split_first()? else { return None };
    Some(Pid::from_raw(i32::from_le_bytes(pid.try_into().ok()?))).filter(|pid| pid.as_raw() > 1)
}

fn parent_of(pid: Pid) -> Option<Pid> {
    status_field(pid, "PPid:")?.parse().ok().map(Pid::from_raw)
}

/// The pid that the process itself sees, the innermost; 0 when it has ended and been reaped.
pub fn inner_pid(pid: Pid) -> u32 {
    status_field(pid, "NSpid:").and_then(|pid| pid.parse().ok()).unwrap_or(0)
}

/// The last word of a line of /proc/PID/status.
fn status_field(pid: Pid, key: &str) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    last_word(&status, key).map(str::to_owned)
}

fn last_word<'a>(status: &'a str, key: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next_back()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    use std::time::Duration;
    use tokio::time::timeout;

    #[test]
    fn a_pid_is_told_after_a_byte_that_is_no_exit_code() {
        assert_eq!(decode_pid(&[FORKED, 61, 1, 0, 0]), Some(Pid::from_raw(317)));
        for bytes in [
            &[][..],
            &[125, 61, 1, 0, 0],
            &[FORKED, 61],
            &[FORKED, 1, 0, 0, 0],
            &[FORKED, 255, 255, 255, 255],
        ] {
            assert_eq!(decode_pid(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_innermost_pid_is_the_last() {
        let status = "Name:\tsh\nPPid:\t9\nNSpid:\t61\t7\nNSsid:\t61\t7\n";
        assert_eq!((last_word(status, "PPid:"), last_word(status, "NSpid:")), (Some("9"), Some("7")));
        assert_eq!(last_word("Name:\tsh\n", "NSpid:"), None);
    }

    /// Nobody reaps it but the test.
    fn sleeper() -> std::process::Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    fn pid_of(process: &std::process::Child) -> Pid {
        Pid::from_raw(i32::try_from(process.id()).unwrap())
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_starter_is_believed_about_its_own_child_alone() {
        let mut starter = Command::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(starter.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let own = Pid::from_raw(line.trim().parse().unwrap());
        let mut stranger = sleeper();
        // The second time, when the starter has lied, it is killed.
        for (announced, expected) in [(own, Some(own)), (pid_of(&stranger), None)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let reaper = Reaper::default();
            let starting = Starting::by(Child::new(pid_of(&starter), &reaper), ours);
            let announcing =
                std::thread::spawn(move || announce(&theirs, announced).and_then(|()| await_word(&theirs)));
            let mut admitted = None;
            let executed = run(starting.executed(&reaper, |pid| {
                admitted = Some(pid);
                Ok(())
            }));
            assert_eq!(announcing.join().unwrap().is_ok(), expected.is_some());
            assert_eq!(admitted, expected);
            assert_eq!(executed.ok().and_then(Result::ok).map(|child| child.pid()), expected);
        }
        assert_eq!(starter.wait().unwrap().signal(), Some(libc::SIGKILL));
        send_signal(own, libc::SIGKILL).unwrap();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn a_start_that_nobody_waits_for_is_killed() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (mut process, reaper) = (sleeper(), Reaper::default());
        let starting = Starting::direct(Child::new(pid_of(&process), &reaper), ours);
        run(async {
            timeout(Duration::from_millis(1), starting.executed(&reaper, |_| Ok(()))).await.unwrap_err();
        });
        assert_eq!(process.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn an_error_is_taken_whole_and_no_more_than_that() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let error = StartError::refused("x".repeat(MAX_MESSAGE_BYTES));
        let sent = [error.encode(), vec![b'y'; 100]].concat();
        (&theirs).write_all(&sent).unwrap();
        let reaper = Reaper::default();
        let mut process = sleeper();
        let starting = Starting::direct(Child::new(pid_of(&process), &reaper), ours);
        let executed = run(starting.executed(&reaper, |_| Ok(())));
        assert_eq!(executed.unwrap().unwrap_err(), error);
        process.wait().unwrap();
    }
}
