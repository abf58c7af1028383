//! The thread that carries the workload's stdout and stderr from their pipes to the output ring. It is apart
//! from the service so that neither a slow disk nor a busy host delays the other.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use tokio::sync::oneshot;

use crate::clock;
use crate::console;
use crate::flow::Flow;
use crate::output_ring::{OutputRing, Stream};
use crate::pace::Pace;
use crate::storage::Storage;

/// What a burst can hold while the thread writes; the kernel allocates only what is used. A flood is taken when it
/// is half full, which is about one batch of the ring.
const PIPE_BYTES: i32 = 512 * 1024;
/// What a pseudo-terminal holds of its output; the kernel's limit has no interface.
const TERMINAL_BYTES: usize = 8 * 1024;
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
    let mut room = usize::MAX;
    let sources = sources.into_iter().map(|(pipe, stream)| {
        // Both are refinements: without them the pump is slower or flushes later, not wrong. The first is for
        // pipes alone, a terminal refuses it.
        let pipe_bytes = fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(PIPE_BYTES));
        room =
            room.min(pipe_bytes.ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(TERMINAL_BYTES));
        let _ = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        Source { pipe: pipe.into(), stream }
    });
    let sources = sources.collect();
    let pace = Pace::new(room);
    let (done, finished) = oneshot::channel();
    thread::Builder::new().name("output".into()).stack_size(STACK_BYTES).spawn(move || {
        pump(ring, sources, pace, &flow);
        // Nobody waits any more when the guest is already going down.
        let _ = done.send(());
    })?;
    Ok(finished)
}

/// Takes what is there and writes it, at the pace of `Pace`, until all sources have ended.
fn pump<S: Storage>(ring: OutputRing<S>, mut sources: Vec<Source>, mut pace: Pace, flow: &Flow) {
    let mut ring = Some(ring);
    while !sources.is_empty() {
        let pending = ring.as_ref().is_some_and(OutputRing::has_pending);
        wait(&sources, PollFlags::POLLIN, pending.then(|| pace.patience(Instant::now())));
        if !pace.hold().is_zero() {
            wait(&sources, PollFlags::empty(), Some(pace.hold())); // ends when a source does
        }
        let round = read_round(ring.as_mut(), &mut sources);
        pace.took(round.bytes);
        if round.is_full || sources.is_empty() || pace.patience(Instant::now()).is_zero() {
            if let Some(Err(error)) = ring.as_mut().map(OutputRing::flush) {
                console::report(&format!("output is no longer recorded: {error}"));
                ring = None; // the workload must not block on a log that cannot be written
            }
            pace.wrote(Instant::now());
            if let Some(ring) = &ring {
                flow.wrote(ring.head());
            }
        }
    }
}

fn wait(sources: &[Source], events: PollFlags, most: Option<Duration>) {
    let mut descriptors: Vec<PollFd<'_>> =
        sources.iter().map(|source| PollFd::new(source.pipe.as_fd(), events)).collect();
    // An interrupted wait only costs a round of reads that find nothing.
    let _ = ppoll(&mut descriptors, most.map(TimeSpec::from_duration), None);
}

/// What a round of reads has brought.
#[derive(Debug, Default)]
struct Round {
    /// Of each stream.
    bytes: [usize; 2],
    /// The batch must be written before more can be taken.
    is_full: bool,
}

/// Takes from the pipes in turn until they are empty or the batch is full.
fn read_round<S: Storage>(mut ring: Option<&mut OutputRing<S>>, sources: &mut Vec<Source>) -> Round {
    let mut discard = [0; 4096];
    let mut round = Round::default();
    loop {
        let mut progress = false;
        sources.retain_mut(|source| {
            let space = ring.as_mut().map_or(&mut discard[..], |ring| ring.payload_space());
            if space.is_empty() {
                round.is_full = true;
                return true;
            }
            match source.pipe.read(space) {
                Ok(0) => false,
                Ok(length) => {
                    if let Some(ring) = ring.as_mut() {
                        ring.push(source.stream, clock::unix_ns(), length);
                    }
                    round.bytes[source.stream as usize - 1] += length;
                    progress = true;
                    true
                }
                Err(error) => {
                    matches!(error.raw_os_error().map(Errno::from_raw), Some(Errno::EAGAIN | Errno::EINTR))
                }
            }
        });
        if round.is_full || !progress {
            return round;
        }
    }
}
