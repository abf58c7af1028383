//! Starting the workload, with its standard streams: pipes or a terminal, to the output ring and to whoever
//! attaches.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::attach::{self, Attachable};
use crate::clock;
use crate::descriptors;
use crate::error::{AgentError, Context, StartError};
use crate::flow::Flow;
use crate::guest::Guest;
use crate::output;
use crate::output_ring::{OutputRing, Stream};
use crate::process::{self, Namespaces, Stdio};
use crate::proto::{Health, Phase, Process, VmSpec};
use crate::starting::Child;
use crate::storage::Device;
use crate::terminal::{self, Terminal};

/// How long the output may take to reach the drive once the workload has ended.
const OUTPUT_DEADLINE: Duration = Duration::from_secs(5);

/// The streams of a running workload.
#[derive(Debug)]
pub struct Streams {
    attachable: Arc<Attachable>,
    drained: oneshot::Receiver<()>,
    /// The workload's end of its terminal, until it has ended.
    slave: Option<OwnedFd>,
}

impl Streams {
    /// Waits until the output is complete on the drive, then lets those go who are attached. One of them who
    /// does not read on holds it up for a while, not for ever.
    pub async fn drain(mut self) {
        self.slave = None;
        if timeout(OUTPUT_DEADLINE, &mut self.drained).await.is_err() {
            self.attachable.flow.release();
            let _ = timeout(OUTPUT_DEADLINE, &mut self.drained).await;
        }
        self.attachable.end();
    }
}

/// Our ends of the workload's streams, on its way to execve.
enum Ends {
    Pipes { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    Terminal { channel: OwnedFd, open_stdin: bool },
}

/// Starts the workload and sees it through execve.
pub async fn start(
    guest: &Guest,
    spec: &VmSpec,
    ring: OutputRing<Device>,
) -> Result<(Child, Streams), StartError> {
    let session = spec.session.unwrap_or_default();
    let no_process = Process::default();
    let process = spec.process.as_ref().unwrap_or(&no_process);
    let (stdio, ends) = connect(process, session.open_stdin)?;
    let (namespaces, channel) = descriptors::channel()?;
    let starting = process::start_first(&guest.world, process, stdio, channel, &guest.reaper)?;
    let workload = starting.executed(&guest.reaper, |_| Ok(())).await??;
    guest.workload_runs(&workload, Namespaces::receive(&namespaces)?);
    let flow = Flow::new(ring.capacity(), ring.head(), session.await_reader);
    let taken = take_up(ends).context(|| "take up the workload's streams".into())?;
    let attachable = Attachable::new(Arc::clone(&flow), taken.input, taken.terminal, session.stdin_once);
    let attachable = guest.make_attachable(attachable);
    let drained = output::start(ring, taken.sources, flow).context(|| "record the output".into())?;
    guest.status.publish(|status| {
        status.set_phase(Phase::Running);
        status.started_at_unix_ns = clock::unix_ns();
        status.timings.get_or_insert_default().workload_started_us = clock::since_boot_us();
        status.health = spec.health_check.as_ref().map(|_| Health::starting());
    });
    Ok((workload, Streams { attachable, drained, slave: taken.slave }))
}

fn connect(process: &Process, open_stdin: bool) -> Result<(Stdio, Ends), AgentError> {
    if process.terminal {
        let (ours, channel) = descriptors::channel()?;
        let stdio = Stdio::Terminal(terminal::Request { channel, size: process.console_size });
        return Ok((stdio, Ends::Terminal { channel: ours, open_stdin }));
    }
    let (stdout, stdout_writer) = process::pipe()?;
    let (stderr, stderr_writer) = process::pipe()?;
    let (stdin, stdin_writer) = if open_stdin {
        let (reader, writer) = process::pipe()?;
        (reader, Some(writer))
    } else {
        let null = OpenOptions::new().read(true).open("/dev/null").context(|| "open /dev/null".into())?;
        (OwnedFd::from(null), None)
    };
    let stdio = Stdio::Streams { stdin, stdout: stdout_writer, stderr: stderr_writer };
    Ok((stdio, Ends::Pipes { stdin: stdin_writer, stdout, stderr }))
}

struct Taken {
    input: Option<tokio::net::unix::pipe::Sender>,
    terminal: Option<OwnedFd>,
    slave: Option<OwnedFd>,
    sources: Vec<(OwnedFd, Stream)>,
}

fn take_up(ends: Ends) -> io::Result<Taken> {
    match ends {
        Ends::Pipes { stdin, stdout, stderr } => Ok(Taken {
            input: stdin.map(tokio::net::unix::pipe::Sender::from_owned_fd).transpose()?,
            terminal: None,
            slave: None,
            sources: vec![(stdout, Stream::Stdout), (stderr, Stream::Stderr)],
        }),
        Ends::Terminal { channel, open_stdin } => {
            let Terminal { master, slave } = terminal::receive(&channel).map_err(io::Error::other)?;
            let input = if open_stdin { Some(attach::writer(master.try_clone()?)?) } else { None };
            let terminal = Some(master.try_clone()?);
            Ok(Taken { input, terminal, slave: Some(slave), sources: vec![(master, Stream::Stdout)] })
        }
    }
}
