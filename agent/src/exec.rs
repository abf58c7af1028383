//! One `Exec` call: a process beside the workload, its streams carried over the call's.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tonic::{Status, Streaming};

use crate::attach;
use crate::cgroup::Group;
use crate::descriptors;
use crate::error::{AgentError, Context};
use crate::guest::Guest;
use crate::process::{self, Stdio};
use crate::proto::exec_request::Request;
use crate::proto::exec_response::Response;
use crate::proto::{ExecExited, ExecRequest, ExecResponse, ExecStarted, Exit, Process};
use crate::starting::{Child, Starting, inner_pid};
use crate::terminal::{self, Terminal};

/// Answers in flight: enough to keep the connection busy, little enough to hold back a process whose output
/// nobody takes.
pub const ANSWERS_IN_FLIGHT: usize = 8;
const READ_BYTES: usize = 32 * 1024;
const DISCARD_BYTES: usize = 4 * 1024;
/// What a process leaves behind may hold its pipes open: how long all in all to wait for more of its output once it has
/// ended.
pub const ORPHAN_OUTPUT_GRACE: Duration = Duration::from_millis(200);
/// The most that a process can have written into a pipe that has not been read: fs.pipe-max-size, unless it is set.
const MAX_PIPE_BYTES: usize = 1 << 20;

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
    terminal: Option<Terminal>,
}

/// What is left of a call whose caller has gone.
struct Left {
    child: Child,
    outputs: Vec<Output>,
    slave: Option<OwnedFd>,
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
        Ok(Some(left)) => {
            drop((requests, answers));
            left.discard().await;
        }
        Err(status) => {
            // Fails when the caller is gone, who then does not need it.
            let _ = answers.send(Err(status)).await;
        }
    }
}

/// Returns what is left of the call by a process that runs on without the caller.
async fn run(
    guest: &Guest,
    requests: &mut Streaming<ExecRequest>,
    answers: &Answers,
) -> Result<Option<Left>, Status> {
    let (process, detached) = first_request(requests).await?;
    let (starting, ends) = start(guest, &process)?;
    let executed = tokio::select! {
        executed = guest.executed(starting, Group::Exec) => executed?,
        () = answers.closed() => return Ok(None),
    };
    let mut child = match executed {
        Ok(child) => child,
        Err(error) => {
            let exit = Some(Exit { code: error.code.into(), ..Exit::default() });
            send(answers, Response::Exited(ExecExited { exit, error: error.message })).await?;
            return Ok(None);
        }
    };
    let Streams { stdin, mut outputs, terminal } = take_up(ends).context(|| "take up streams".into())?;
    let answered = send(answers, Response::Started(ExecStarted { pid: inner_pid(child.pid()) })).await;
    let (master, mut slave) = terminal.map(|terminal| (terminal.master, terminal.slave)).unzip();
    if detached {
        return Ok(Some(Left { child, outputs, slave }));
    }
    let (ended, has_ended) = watch::channel(false);
    let output = async {
        let forwards =
            outputs.iter_mut().map(|(pipe, wrap)| forward(pipe, answers, has_ended.clone(), *wrap));
        join_all(forwards).await;
    };
    let end = async {
        if answered.is_err() {
            child.kill();
        }
        let exit = wait_or_kill(&mut child, answers).await;
        slave = None;
        // The output is still there to hear it.
        let _ = ended.send(true);
        exit
    };
    let end = tokio::select! {
        ((), exit) = async { tokio::join!(output, end) } => End::Exited(exit),
        () = feed(stdin, master.as_ref(), requests) => End::Detached,
    };
    match end {
        End::Exited(exit) => {
            send(answers, Response::Exited(ExecExited { exit: Some(exit), error: String::new() })).await?;
            Ok(None)
        }
        End::Detached => Ok(Some(Left { child, outputs, slave })),
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

impl Left {
    /// Takes what nobody wants, so that the process is not held up by it.
    async fn discard(self) {
        let Self { mut child, outputs, slave } = self;
        let takes = outputs.into_iter().map(|(mut pipe, _)| async move {
            let mut buffer = vec![0; DISCARD_BYTES];
            while pipe.read(&mut buffer).await.is_ok_and(|length| length > 0) {}
        });
        let release = async {
            child.exit().await;
            drop(slave);
        };
        tokio::join!(join_all(takes), release);
    }
}

async fn first_request(requests: &mut Streaming<ExecRequest>) -> Result<(Process, bool), Status> {
    match requests.message().await?.and_then(|message| message.request) {
        Some(Request::Start(process)) => Ok((process, false)),
        Some(Request::StartDetached(process)) => Ok((process, true)),
        _ => Err(Status::invalid_argument("the first request must be `start`")),
    }
}

fn start(guest: &Guest, process: &Process) -> Result<(Starting, Ends), Status> {
    let (stdio, ends) = connect(process).map_err(|error| Status::resource_exhausted(error.to_string()))?;
    Ok((guest.start_beside(process, stdio, Group::Exec)?, ends))
}

fn connect(process: &Process) -> Result<(Stdio, Ends), AgentError> {
    if process.terminal {
        let (ours, channel) = descriptors::channel()?;
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
            let terminal = terminal::receive(&channel).map_err(std::io::Error::other)?;
            Ok(Streams {
                stdin: attach::writer(terminal.master.try_clone()?)?,
                outputs: vec![(attach::reader(terminal.master.try_clone()?)?, Response::Stdout)],
                terminal: Some(terminal),
            })
        }
    }
}

impl From<AgentError> for Status {
    fn from(error: AgentError) -> Self {
        Self::internal(error.to_string())
    }
}

/// The process's end; it is killed, with its process group, when the caller goes away.
async fn wait_or_kill(child: &mut Child, answers: &Answers) -> Exit {
    tokio::select! {
        exit = child.exit() => return exit,
        () = answers.closed() => {}
    }
    child.kill();
    child.exit().await
}

/// Carries one stream until it ends or the caller goes. Once the process has ended, what it may have written is
/// carried, and for a while what comes after it: what it has left behind may write for ever.
async fn forward(
    pipe: &mut pipe::Receiver,
    answers: &Answers,
    mut has_ended: watch::Receiver<bool>,
    wrap: fn(Vec<u8>) -> Response,
) {
    let mut buffer = vec![0; READ_BYTES];
    let (mut patience, mut room) = (ORPHAN_OUTPUT_GRACE, MAX_PIPE_BYTES);
    while room > 0 {
        let length = if *has_ended.borrow_and_update() {
            let began = Instant::now();
            let length = timeout(patience, pipe.read(&mut buffer)).await.unwrap_or(Ok(0));
            patience = patience.saturating_sub(began.elapsed());
            room = room.saturating_sub(*length.as_ref().unwrap_or(&0));
            length
        } else {
            tokio::select! {
                length = pipe.read(&mut buffer) => length,
                Ok(()) = has_ended.changed() => continue,
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
