//! The calls of the service that copy files. A helper does the work; what is here carries bytes between its pipe
//! and the caller, no faster than the slower of the two.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, fcntl};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use crate::copy_error::{CopyError, read_report};
use crate::copy_in::copy_in;
use crate::copy_out::{copy_out, stat};
use crate::error::AgentError;
use crate::guest::Guest;
use crate::helper::{self, Helper, Workshop};
use crate::process;
use crate::proto::copy_in_request::Request;
use crate::proto::{
    CopyInRequest, CopyInResponse, CopyOutRequest, CopyOutResponse, StatPathRequest, StatPathResponse,
};

/// Answers in flight, each of at most [`PIECE_BYTES`].
pub const ANSWERS_IN_FLIGHT: usize = 4;
const PIECE_BYTES: usize = 128 * 1024;
/// The kernel allocates only what is used.
const PIPE_BYTES: i32 = 512 * 1024;

type Answers = mpsc::Sender<Result<CopyOutResponse, Status>>;

/// Which way the data goes, seen from the helper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    In,
    Out,
}

/// Our ends of a helper's pipes.
struct Pipes {
    data: OwnedFd,
    report: OwnedFd,
}

pub async fn stat_path(guest: &Guest, request: StatPathRequest) -> Result<StatPathResponse, Status> {
    let (pipes, _helper) = start(guest, Flow::Out, move |workshop| {
        let answer = stat(&workshop.root, &request).map(|found| found.encode_to_vec());
        report(workshop.report, answer);
    })?;
    let answer = answer_of(pipes.report).await?;
    StatPathResponse::decode(answer.as_slice()).map_err(|error| Status::internal(error.to_string()))
}

/// Serves the call to its end. `answers` closes when the caller cancels: then the helper's pipe does too.
pub async fn serve_out(guest: Arc<Guest>, request: CopyOutRequest, answers: Answers) {
    if let Err(status) = run_out(&guest, request, &answers).await {
        // Fails when the caller is gone, who then does not need it.
        let _ = answers.send(Err(status)).await;
    }
}

async fn run_out(guest: &Guest, request: CopyOutRequest, answers: &Answers) -> Result<(), Status> {
    let (pipes, _helper) = start(guest, Flow::Out, move |workshop| {
        let copied = copy_out(&workshop.root, &request, workshop.data).map(|()| Vec::new());
        report(workshop.report, copied);
    })?;
    let mut data = pipe::Receiver::from_owned_fd(pipes.data)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        while piece.len() < PIECE_BYTES && data.read_buf(&mut piece).await? > 0 {}
        if piece.is_empty() {
            break;
        }
        let answer = Ok(CopyOutResponse { piece });
        answers.send(answer).await.map_err(|_| Status::cancelled("the caller has gone"))?;
    }
    answer_of(pipes.report).await.map(drop)
}

/// Dropped when the caller cancels: the helper then finds that its input ends before its time.
pub async fn serve_in(
    guest: &Guest,
    mut requests: Streaming<CopyInRequest>,
) -> Result<CopyInResponse, Status> {
    let Some(Request::Start(order)) = requests.message().await?.and_then(|message| message.request) else {
        return Err(Status::invalid_argument("the first request must be `start`"));
    };
    let (pipes, _helper) = start(guest, Flow::In, move |workshop| {
        let copied =
            copy_in(&workshop.root, &order, std::io::BufReader::with_capacity(PIECE_BYTES, &workshop.data));
        report(workshop.report, copied.map(|()| Vec::new()));
    })?;
    let mut data = pipe::Sender::from_owned_fd(pipes.data)?;
    while let Some(message) = requests.message().await? {
        let Some(Request::Piece(piece)) = message.request else {
            return Err(Status::invalid_argument("every request but the first must be a piece"));
        };
        // The helper has had enough: its report says why.
        if data.write_all(&piece).await.is_err() {
            break;
        }
    }
    drop(data);
    answer_of(pipes.report).await.map(|_| CopyInResponse {})
}

fn start(guest: &Guest, flow: Flow, work: impl FnOnce(Workshop)) -> Result<(Pipes, Helper), Status> {
    let pipes = || -> Result<_, AgentError> { Ok((process::pipe()?, process::pipe()?)) };
    let (data, report) = pipes().map_err(|error| Status::resource_exhausted(error.to_string()))?;
    // A refinement: without it the copy is slower, not wrong.
    let _ = fcntl(&data.0, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
    let (ours, theirs) = if flow == Flow::Out { data } else { (data.1, data.0) };
    let helper =
        guest.in_workload(|namespaces| helper::start(namespaces, &theirs, &report.1, &guest.reaper, work))?;
    Ok((Pipes { data: ours, report: report.0 }, helper))
}

/// What a helper says at its end.
fn report(mut pipe: File, answer: Result<Vec<u8>, CopyError>) {
    let bytes = match answer {
        Ok(answer) => [&[0][..], &answer].concat(),
        Err(error) => error.encode(),
    };
    // When this fails nobody reads it.
    let _ = pipe.write_all(&bytes);
}

async fn answer_of(report: OwnedFd) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    pipe::Receiver::from_owned_fd(report)?.read_to_end(&mut bytes).await?;
    read_report(&bytes).map(<[u8]>::to_vec)
}
