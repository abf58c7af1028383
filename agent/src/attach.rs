//! The workload's standard streams as callers attend to them: what it reads, the size of its terminal, how far
//! its output has been taken.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::pipe;
use tokio::sync::{Mutex, mpsc, watch};
use tonic::{Status, Streaming};

use crate::flow::{Flow, Reader};
use crate::proto::attach_request::Request;
use crate::proto::{AttachRequest, AttachResponse, ConsoleSize, InputRequest};
use crate::terminal;

/// What callers can attach to.
#[derive(Debug)]
pub struct Attachable {
    pub flow: Arc<Flow>,
    /// Our end of what the workload reads; one caller writes at a time.
    input: Mutex<Option<pipe::Sender>>,
    terminal: Option<OwnedFd>,
    /// The input ends with the first caller who ends it.
    once: bool,
    ended: watch::Sender<bool>,
}

impl Attachable {
    pub fn new(
        flow: Arc<Flow>,
        input: Option<pipe::Sender>,
        terminal: Option<OwnedFd>,
        stdin_once: bool,
    ) -> Self {
        // A terminal has no end that could be passed on.
        let once = stdin_once && terminal.is_none();
        Self { flow, input: Mutex::new(input), terminal, once, ended: watch::Sender::new(false) }
    }

    /// The workload has ended: so do the calls.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    pub fn resize(&self, size: &ConsoleSize) -> Result<(), Status> {
        let master = self.terminal.as_ref();
        let master = master.ok_or_else(|| Status::failed_precondition("the workload has no terminal"))?;
        terminal::resize(master, size).map_err(|error| Status::internal(error.to_string()))
    }

    /// Writes what the caller sends until it ends, or the workload takes no more.
    pub async fn write_input(&self, mut requests: Streaming<InputRequest>) -> Result<(), Status> {
        let mut ended = self.ended.subscribe();
        let write = async {
            if self.input.lock().await.is_none() {
                return Err(Status::failed_precondition("the workload's input is closed"));
            }
            // An error is the caller's going, which ends its input as well.
            while let Ok(Some(request)) = requests.message().await {
                // Locked for a message at a time: several callers may type into one terminal.
                let mut input = self.input.lock().await;
                let Some(pipe) = input.as_mut() else { return Ok(()) };
                if pipe.write_all(&request.data).await.is_err() {
                    *input = None; // the workload has closed its end
                    return Ok(());
                }
            }
            Ok(())
        };
        // Whatever becomes of this call, the caller's input has ended with it.
        let _end = EndOfInput(self.once.then_some(self));
        tokio::select! {
            result = write => result,
            _ = ended.wait_for(|&ended| ended) => Ok(()),
        }
    }
}

/// Closes the input when dropped: a call that is cancelled is dropped, too.
struct EndOfInput<'a>(Option<&'a Attachable>);

impl Drop for EndOfInput<'_> {
    fn drop(&mut self) {
        // Nobody holds the lock but another caller who is writing, and then the input is still in use.
        if let Some(mut input) = self.0.and_then(|attachable| attachable.input.try_lock().ok()) {
            *input = None;
        }
    }
}

/// Serves an Attach call to its end.
pub async fn serve(
    attachable: Arc<Attachable>,
    mut requests: Streaming<AttachRequest>,
    answers: mpsc::Sender<Result<AttachResponse, Status>>,
) {
    let mut ended = attachable.ended.subscribe();
    let reader = match first_request(&attachable, &mut requests).await {
        Ok(reader) => reader,
        Err(status) => {
            // Fails when the caller is gone, who then does not need it.
            let _ = answers.send(Err(status)).await;
            return;
        }
    };
    if answers.send(Ok(AttachResponse { position: reader.position })).await.is_err() {
        return;
    }
    let follow = async {
        // The end of the requests, or an error, says no more than that the caller has nothing more to say.
        while let Ok(Some(message)) = requests.message().await {
            if let Some(Request::Taken(position)) = message.request {
                reader.taken(position);
            }
        }
    };
    tokio::select! {
        () = follow => {}
        () = answers.closed() => {}
        _ = ended.wait_for(|&ended| ended) => {}
    }
}

async fn first_request(
    attachable: &Attachable,
    requests: &mut Streaming<AttachRequest>,
) -> Result<Reader, Status> {
    match requests.message().await?.and_then(|message| message.request) {
        Some(Request::Start(start)) => Ok(attachable.flow.join(start.position)),
        _ => Err(Status::invalid_argument("the first request must be `start`")),
    }
}

/// Our end of a terminal or pipe, to write to.
pub fn writer(descriptor: OwnedFd) -> io::Result<pipe::Sender> {
    // A terminal's master is no pipe, yet read, written and polled like one. It is non-blocking already.
    pipe::Sender::from_owned_fd_unchecked(descriptor)
}

/// The same, to read from.
pub fn reader(descriptor: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd_unchecked(descriptor)
}
