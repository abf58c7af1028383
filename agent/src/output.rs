//! The thread that carries the workload's stdout and stderr from their pipes to the output ring. It is apart
//! from the service so that neither a slow disk nor a busy host delays the other.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::oneshot;

use crate::clock;
use crate::console;
use crate::flow::Flow;
use crate::output_ring::{OutputRing, Stream};
use crate::storage::Storage;

/// What a burst can hold while the thread writes; the kernel allocates only what is used.
const PIPE_BYTES: i32 = 256 * 1024;
const STACK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Source {
    pipe: std::fs::File,
    stream: Stream,
}

/// Starts the thread. The receiver completes when the sources have ended and all of it is on the drive.
pub fn start<S>(
    ring: OutputRing<S>,
    sources: Vec<(OwnedFd, Stream)>,
    flow: Arc<Flow>,
) -> io::Result<oneshot::Receiver<()>>
where
    S: Storage + Send + 'static,
{
    let sources = sources.into_iter().map(|(pipe, stream)| {
        // Both are refinements: without them the pump is slower or flushes later, not wrong. The first is for
        // pipes alone, a terminal refuses it.
        let _ = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Source { pipe: pipe.into(), stream }
    });
    let sources = sources.collect();
    let (done, finished) = oneshot::channel();
    thread::Builder::new().name("output".into()).stack_size(STACK_BYTES).spawn(move || {
        pump(ring, sources, &flow);
        // Nobody waits any more when the guest is already going down.
        let _ = done.send(());
    })?;
    Ok(finished)
}

/// Reads what is there, writes it, waits for more. Bytes are never held back for a fuller batch: a batch
/// grows by itself while the previous one is being written.
fn pump<S: Storage>(ring: OutputRing<S>, mut sources: Vec<Source>, flow: &Flow) {
    let mut ring = Some(ring);
    while !sources.is_empty() {
        wait_readable(&sources);
        loop {
            let read = read_round(ring.as_mut(), &mut sources);
            if let Some(Err(error)) = ring.as_mut().map(OutputRing::flush) {
                console::report(&format!("output is no longer recorded: {error}"));
                ring = None; // the workload must not block on a log that cannot be written
            }
            if let Some(ring) = &ring {
                flow.wrote(ring.head());
            }
            if !read {
                break;
            }
        }
    }
}

fn wait_readable(sources: &[Source]) {
    let mut descriptors: Vec<PollFd<'_>> =
        sources.iter().map(|source| PollFd::new(source.pipe.as_fd(), PollFlags::POLLIN)).collect();
    // An interrupted wait only costs a round of reads that find nothing.
    let _ = poll(&mut descriptors, PollTimeout::NONE);
}

/// Takes from the pipes in turn until they are empty or the batch is full; returns whether there may be more.
fn read_round<S: Storage>(mut ring: Option<&mut OutputRing<S>>, sources: &mut Vec<Source>) -> bool {
    let mut discard = [0; 4096];
    loop {
        let mut progress = false;
        let mut full = false;
        sources.retain_mut(|source| {
            let space = ring.as_mut().map_or(&mut discard[..], |ring| ring.payload_space());
            if space.is_empty() {
                full = true;
                return true;
            }
            match source.pipe.read(space) {
                Ok(0) => false,
                Ok(length) => {
                    if let Some(ring) = ring.as_mut() {
                        ring.push(source.stream, clock::unix_ns(), length);
                    }
                    progress = true;
                    true
                }
                Err(error) => {
                    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAGAIN | Errno::EINTR))
                }
            }
        });
        if full || !progress {
            return full;
        }
    }
}
