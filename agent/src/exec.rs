//! One `Exec` call: a process beside the workload, its streams carried over the call's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::error::{AgentError, Context, StartError};
use crate::guest::{Guest, send_signal};
use crate::process::{self, Started, Stdio};
use crate::proto::exec_request::Request;
use crate::proto::exec_response::Response;
use crate::proto::{ExecExited, ExecRequest, ExecResponse, ExecStarted, Exit, Process};

/// Answers in flight: enough to keep the connection busy, little enough to hold back a process whose output
/// nobody takes.
pub const ANSWERS_IN_FLIGHT: usize = 8;
const READ_BYTES: usize = 32 * 1024;
/// A process that outlives its parent may hold the pipes open: how long to wait for more of its output.
const ORPHAN_OUTPUT_GRACE: Duration = Duration::from_millis(200);

type Answers = mpsc::Sender<Result<ExecResponse, Status>>;

/// Our ends of the pipes.
struct Streams {
    stdin: pipe::Sender,
    stdout: pipe::Receiver,
    stderr: pipe::Receiver,
}

/// Serves the call to its end. `answers` closes when the caller cancels.
pub async fn serve(guest: Arc<Guest>, mut requests: Streaming<ExecRequest>, answers: Answers) {
    if let Err(status) = run(&guest, &mut requests, &answers).await {
        // Fails when the caller is gone, who then does not need it.
        let _ = answers.send(Err(status)).await;
    }
}

async fn run(guest: &Guest, requests: &mut Streaming<ExecRequest>, answers: &Answers) -> Result<(), Status> {
    let process = first_request(requests).await?;
    let (started, exit, streams) = start(guest, &process)?;
    let pid = started.pid;
    if let Some(error) = read_outcome(started.outcome).await? {
        return send(
            answers,
            Response::Exited(ExecExited {
                exit: Some(Exit { code: error.code.into(), ..Exit::default() }),
                error: error.message,
            }),
        )
        .await;
    }
    send(answers, Response::Started(ExecStarted { pid: inner_pid(pid) })).await?;

    let (exited, has_exited) = watch::channel(false);
    let mut streams = streams;
    let output = async {
        tokio::join!(
            forward(&mut streams.stdout, answers, has_exited.clone(), Response::Stdout),
            forward(&mut streams.stderr, answers, has_exited.clone(), Response::Stderr),
        )
    };
    let end = async {
        let exit = wait_or_kill(pid, exit, answers).await;
        // The two above are still there to hear it.
        let _ = exited.send(true);
        exit
    };
    let exit = tokio::select! {
        (_, exit) = async { tokio::join!(output, end) } => exit,
        never = feed(streams.stdin, requests) => never,
    };
    send(answers, Response::Exited(ExecExited { exit: Some(exit), error: String::new() })).await
}

async fn first_request(requests: &mut Streaming<ExecRequest>) -> Result<Process, Status> {
    match requests.message().await?.and_then(|message| message.request) {
        Some(Request::Start(process)) if process.terminal => {
            Err(Status::unimplemented("exec with a terminal is not supported by this agent"))
        }
        Some(Request::Start(process)) => Ok(process),
        _ => Err(Status::invalid_argument("the first request must be `start`")),
    }
}

fn start(guest: &Guest, process: &Process) -> Result<(Started, oneshot::Receiver<Exit>, Streams), Status> {
    let pipes = || -> Result<_, AgentError> { Ok((process::pipe()?, process::pipe()?, process::pipe()?)) };
    let (stdin, stdout, stderr) = pipes().map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let stdio = Stdio { stdin: stdin.0, stdout: stdout.1, stderr: stderr.1 };
    let (started, exit) = guest.start_beside(process, stdio)?;
    let ours = || -> std::io::Result<Streams> {
        Ok(Streams {
            stdin: pipe::Sender::from_owned_fd(stdin.1)?,
            stdout: pipe::Receiver::from_owned_fd(stdout.0)?,
            stderr: pipe::Receiver::from_owned_fd(stderr.0)?,
        })
    };
    let streams = ours().map_err(|error| Status::internal(error.to_string()))?;
    Ok((started, exit, streams))
}

/// Waits until a child has executed, or says why it could not.
pub async fn read_outcome(outcome: OwnedFd) -> Result<Option<StartError>, AgentError> {
    let mut bytes = Vec::new();
    let mut reader = pipe::Receiver::from_owned_fd(outcome).context(|| "watch a child start".into())?;
    reader.read_to_end(&mut bytes).await.context(|| "watch a child start".into())?;
    Ok(StartError::decode(&bytes))
}

impl From<AgentError> for Status {
    fn from(error: AgentError) -> Self {
        Self::internal(error.to_string())
    }
}

/// The process's end; it is killed, with its process group, when the caller goes away.
async fn wait_or_kill(pid: Pid, mut exit: oneshot::Receiver<Exit>, answers: &Answers) -> Exit {
    let exit = tokio::select! {
        exit = &mut exit => exit,
        () = answers.closed() => {
            // Still unreaped, so the numbers are still the process's own.
            let _ = send_signal(Pid::from_raw(-pid.as_raw()), libc::SIGKILL);
            let _ = send_signal(pid, libc::SIGKILL);
            exit.await
        }
    };
    // The reaper lives as long as the agent.
    exit.unwrap_or_default()
}

/// Carries one stream until it ends, the caller goes, or the process has exited and nothing more comes.
async fn forward(
    pipe: &mut pipe::Receiver,
    answers: &Answers,
    mut exited: watch::Receiver<bool>,
    wrap: fn(Vec<u8>) -> Response,
) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let length = if *exited.borrow_and_update() {
            timeout(ORPHAN_OUTPUT_GRACE, pipe.read(&mut buffer)).await.unwrap_or(Ok(0))
        } else {
            tokio::select! {
                length = pipe.read(&mut buffer) => length,
                Ok(()) = exited.changed() => continue,
            }
        };
        let Some(bytes) = length.ok().filter(|&length| length > 0).map(|length| buffer[..length].to_vec())
        else {
            return;
        };
        if send(answers, wrap(bytes)).await.is_err() {
            return;
        }
    }
}

/// Carries the caller's input until it ends. Never completes: the call ends when the process does.
async fn feed(stdin: pipe::Sender, requests: &mut Streaming<ExecRequest>) -> Exit {
    let mut stdin = Some(stdin);
    // An error is the caller's going, which `answers` tells as well.
    while let Ok(Some(message)) = requests.message().await {
        match message.request {
            Some(Request::Stdin(bytes)) => {
                if let Some(pipe) = stdin.as_mut()
                    && pipe.write_all(&bytes).await.is_err()
                {
                    stdin = None; // the process has closed its end; what still comes is nobody's
                }
            }
            Some(Request::CloseStdin(_)) => stdin = None,
            Some(Request::Start(_)) | None => {}
        }
    }
    drop(stdin);
    std::future::pending().await
}

async fn send(answers: &Answers, response: Response) -> Result<(), Status> {
    let message = ExecResponse { response: Some(response) };
    answers.send(Ok(message)).await.map_err(|_| Status::cancelled("the caller has gone"))
}

/// The pid that the process itself sees, the innermost of `NSpid` in /proc/<pid>/status; 0 when it has ended
/// and been reaped.
fn inner_pid(pid: Pid) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse_inner_pid(&status).unwrap_or(0)
}

fn parse_inner_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_pid_is_the_last() {
        assert_eq!(parse_inner_pid("Name:\tsh\nNSpid:\t61\t7\nNSsid:\t61\t7\n"), Some(7));
        assert_eq!(parse_inner_pid("Name:\tsh\n"), None);
    }
}
