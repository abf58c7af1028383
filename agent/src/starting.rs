//! Children of the agent's on their way to execve, and until their end.
//!
//! A child reports over a socket that closes when it executes: bytes are a [`StartError`], an end without bytes means
//! that execve has succeeded. What is to run beside the workload is forked once more, by a child that the workload
//! cannot see (`process`); that one first tells the pid of the other, and stays until the agent waits for it.

use std::io;
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

    /// Waits until the process has executed, or says why it could not.
    pub async fn executed(mut self, reaper: &Reaper) -> Result<Result<Child, StartError>, AgentError> {
        let report = self.report.take().ok_or_else(|| AgentError::Invalid("it was asked before".into()))?;
        match self.watch(report, reaper).await.context(|| "watch a process start".into())? {
            Some(error) => Ok(Err(error)),
            None => match self.process.take() {
                Some(process) => Ok(Ok(process)),
                None => Err(AgentError::Invalid("the process was killed before it had started".into())),
            },
        }
    }

    async fn watch(&mut self, report: UnixStream, reaper: &Reaper) -> io::Result<Option<StartError>> {
        report.set_nonblocking(true)?;
        let mut report = tokio::net::UnixStream::from_std(report)?;
        let mut bytes = Vec::new();
        if let Some(starter) = &self.starter {
            (&mut report).take((1 + PID_BYTES) as u64).read_to_end(&mut bytes).await?;
            if let Some(pid) = decode_pid(&bytes) {
                bytes.clear();
                // A child that is traced might have written this in the name of its parent.
                if parent_of(pid) == Some(starter.pid) {
                    self.process = Some(Child::new(pid, reaper));
                }
                // Released, the starter ends, and what it has forked becomes the agent's child.
                report.write_all(&[FORKED]).await?;
                self.starter = None;
            }
        }
        (&mut report).take((1 + MAX_MESSAGE_BYTES) as u64).read_to_end(&mut bytes).await?;
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

/// The starter's part: tells the agent the pid, and waits until it is heard.
pub fn announce(report: &UnixStream, pid: Pid) -> io::Result<()> {
    use std::io::{Read, Write};
    let mut message = vec![FORKED];
    message.extend_from_slice(&pid.as_raw().to_le_bytes());
    (&*report).write_all(&message)?;
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
    use std::io::{BufRead, BufReader, Write};
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
        for (announced, is_believed) in [(pid_of(&stranger), false), (own, true)] {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let reaper = Reaper::default();
            let starting = Starting::by(Child::new(pid_of(&starter), &reaper), ours);
            let announcing = std::thread::spawn(move || announce(&theirs, announced).unwrap());
            let executed = run(starting.executed(&reaper));
            announcing.join().unwrap();
            let believed = executed.ok().and_then(Result::ok);
            assert_eq!(believed.map(|child| child.pid()), is_believed.then_some(own));
        }
        send_signal(own, libc::SIGKILL).unwrap();
        stranger.kill().unwrap();
        stranger.wait().unwrap();
        starter.wait().unwrap();
    }

    #[test]
    fn a_start_that_nobody_waits_for_is_killed() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let (mut process, reaper) = (sleeper(), Reaper::default());
        let starting = Starting::direct(Child::new(pid_of(&process), &reaper), ours);
        run(async {
            timeout(Duration::from_millis(1), starting.executed(&reaper)).await.unwrap_err();
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
        let executed = run(Starting::direct(Child::new(pid_of(&process), &reaper), ours).executed(&reaper));
        assert_eq!(executed.unwrap().unwrap_err(), error);
        process.wait().unwrap();
    }
}
