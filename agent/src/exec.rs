//! One `Exec` call: a process beside the workload, its streams carried over the call's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use crate::attach;
use crate::error::{AgentError, Context, StartError};
use crate::guest::{Guest, send_signal};
use crate::process::{self, Started, Stdio};
use crate::proto::exec_request::Request;
use crate::proto::exec_response::Response;
use crate::proto::{ExecExited, ExecRequest, ExecResponse, ExecStarted, Exit, Process};
use crate::terminal;

/// Answers in flight: enough to keep the connection busy, little enough to hold back a process whose output
/// nobody takes.
pub const ANSWERS_IN_FLIGHT: usize = 8;
const READ_BYTES: usize = 32 * 1024;
const DISCARD_BYTES: usize = 4 * 1024;
/// A process that outlives its parent may hold the pipes open: how long to wait for more of its output.
const ORPHAN_OUTPUT_GRACE: Duration = Duration::from_millis(200);

type Answers = mpsc::Sender<Result<ExecResponse, Status>>;

/// Our ends of the process's streams, while it is on its way to execve.
enum Ends {
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { channel: OwnedFd },
}

/// A source of output, and what carries a piece of it.
type Output = (pipe::Receiver, fn(Vec<u8>) -> Response);

/// Our ends of a running process's streams.
struct Streams {
    stdin: pipe::Sender,
    outputs: Vec<Output>,
    terminal: Option<OwnedFd>,
}

/// How the caller's part in the call has ended.
enum End {
    Exited(Exit),
    Detached,
}

/// Serves the call to its end. `answers` closes when the caller cancels.
pub async fn serve(guest: Arc<Guest>, mut requests: Streaming<ExecRequest>, answers: Answers) {
    match run(&guest, &mut requests, &answers).await {
        Ok(None) => {}
        Ok(Some(outputs)) => {
            drop((requests, answers));
            discard(outputs).await;
        }
        Err(status) => {
            // Fails when the caller is gone, who then does not need it.
            let _ = answers.send(Err(status)).await;
        }
    }
}

/// Returns what a process still writes to that runs on without the caller.
async fn run(
    guest: &Guest,
    requests: &mut Streaming<ExecRequest>,
    answers: &Answers,
) -> Result<Option<Vec<Output>>, Status> {
    let (process, detached) = first_request(requests).await?;
    let (started, exit, ends) = start(guest, &process)?;
    let pid = started.pid;
    if let Some(error) = read_outcome(started.outcome).await? {
        let exit = Some(Exit { code: error.code.into(), ..Exit::default() });
        send(answers, Response::Exited(ExecExited { exit, error: error.message })).await?;
        return Ok(None);
    }
    let Streams { stdin, mut outputs, terminal } = take_up(ends).context(|| "take up streams".into())?;
    let answered = send(answers, Response::Started(ExecStarted { pid: inner_pid(pid) })).await;
    if detached {
        return Ok(Some(outputs));
    }
    answered?;

    let (exited, has_exited) = watch::channel(false);
    let output = async {
        let forwards =
            outputs.iter_mut().map(|(pipe, wrap)| forward(pipe, answers, has_exited.clone(), *wrap));
        join_all(forwards).await;
    };
    let end = async {
        let exit = wait_or_kill(pid, exit, answers).await;
        // The output is still there to hear it.
        let _ = exited.send(true);
        exit
    };
    let end = tokio::select! {
        ((), exit) = async { tokio::join!(output, end) } => End::Exited(exit),
        () = feed(stdin, terminal.as_ref(), requests) => End::Detached,
    };
    match end {
        End::Exited(exit) => {
            send(answers, Response::Exited(ExecExited { exit: Some(exit), error: String::new() })).await?;
            Ok(None)
        }
        End::Detached => Ok(Some(outputs)),
    }
}

/// Waits for all of a few futures.
async fn join_all(futures: impl Iterator<Item = impl Future<Output = ()>>) {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    std::future::poll_fn(|context| {
        pending.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if pending.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Takes what nobody wants, so that the process is not held up by it.
async fn discard(outputs: Vec<Output>) {
    let takes = outputs.into_iter().map(|(mut pipe, _)| async move {
        let mut buffer = vec![0; DISCARD_BYTES];
        while pipe.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
    });
    join_all(takes).await;
}

async fn first_request(requests: &mut Streaming<ExecRequest>) -> Result<(Process, bool), Status> {
    match requests.message().await?.and_then(|message| message.request) {
        Some(Request::Start(process)) => Ok((process, false)),
        Some(Request::StartDetached(process)) => Ok((process, true)),
        _ => Err(Status::invalid_argument("the first request must be `start`")),
    }
}

fn start(guest: &Guest, process: &Process) -> Result<(Started, oneshot::Receiver<Exit>, Ends), Status> {
    let (stdio, ends) = connect(process).map_err(|error| Status::resource_exhausted(error.to_string()))?;
    let (started, exit) = guest.start_beside(process, stdio)?;
    Ok((started, exit, ends))
}

fn connect(process: &Process) -> Result<(Stdio, Ends), AgentError> {
    if process.terminal {
        let (ours, channel) = terminal::channel()?;
        let request = terminal::Request { channel, size: process.console_size };
        return Ok((Stdio::Terminal(request), Ends::Terminal { channel: ours }));
    }
    let (stdin, stdout, stderr) = (process::pipe()?, process::pipe()?, process::pipe()?);
    let stdio = Stdio::Streams { stdin: stdin.0, stdout: stdout.1, stderr: stderr.1 };
    Ok((stdio, Ends::Pipes { stdin: stdin.1, stdout: stdout.0, stderr: stderr.0 }))
}

fn take_up(ends: Ends) -> std::io::Result<Streams> {
    match ends {
        Ends::Pipes { stdin, stdout, stderr } => Ok(Streams {
            stdin: pipe::Sender::from_owned_fd(stdin)?,
            outputs: vec![
                (pipe::Receiver::from_owned_fd(stdout)?, Response::Stdout),
                (pipe::Receiver::from_owned_fd(stderr)?, Response::Stderr),
            ],
            terminal: None,
        }),
        Ends::Terminal { channel } => {
            let master = terminal::receive(&channel).map_err(std::io::Error::other)?;
            Ok(Streams {
                stdin: attach::writer(master.try_clone()?)?,
                outputs: vec![(attach::reader(master.try_clone()?)?, Response::Stdout)],
                terminal: Some(master),
            })
        }
    }
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

/// Carries the caller's input until it ends. Completes when the caller leaves the process to itself: else the
/// call ends when the process does.
async fn feed(stdin: pipe::Sender, terminal: Option<&OwnedFd>, requests: &mut Streaming<ExecRequest>) {
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
            Some(Request::Resize(size)) => {
                if let Some(terminal) = terminal {
                    // Fails for a terminal that is gone, which then has no size.
                    let _ = terminal::resize(terminal, &size);
                }
            }
            Some(Request::Detach(_)) => return,
            Some(Request::Start(_) | Request::StartDetached(_)) | None => {}
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
