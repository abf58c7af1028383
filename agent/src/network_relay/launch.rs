//! The VMM's launcher, from the arguments to the VMM.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, fork};
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::control;
use crate::descriptors;
use crate::namespace;
use crate::options::{LinkOption, Options};
use crate::serve::{self, Relay};
use crate::tap;

/// Becomes the VMM, with its network beside it, or returns why not. Returns without an error in the relay
/// only, when that is done.
pub fn run(options: &Options) -> Result<(), String> {
    // Not by pid: that could be another process's by the time the relay opens it.
    let vmm = pidfd_open(getpid(), PidfdFlags::empty())
        .map_err(|error| format!("cannot open the VMM's process: {error}"))?;
    let (channel, relays_end) = control::channel()?;
    let (vmm_stream, relay_stream) = match options.link {
        LinkOption::Socket(_) => {
            descriptors::stream_pair().map(|(ours, theirs)| (Some(ours), Some(theirs)))?
        }
        LinkOption::Tap(_) => (None, None),
    };
    // SAFETY: this process has no other threads.
    match unsafe { fork() }.map_err(|error| format!("cannot fork: {error}"))? {
        ForkResult::Child => {
            drop((channel, vmm_stream));
            serve::run(options, Relay { channel: relays_end, vmm, stream: relay_stream });
            Ok(())
        }
        ForkResult::Parent { child } => {
            drop((relays_end, relay_stream, vmm));
            if let LinkOption::Tap(name) = &options.link {
                // While passt starts.
                namespace::enter()?;
                control::hand_over(&channel, &tap::create(name)?);
            }
            await_relay(&channel, child)?;
            become_vmm(options, vmm_stream)
        }
    }
}

fn await_relay(channel: &OwnedFd, relay: Pid) -> Result<(), String> {
    control::verdict(channel).unwrap_or_else(|| {
        let mut status = 0;
        // SAFETY: waitpid(2) writes an int, which `status` is.
        let ended = Errno::result(unsafe { libc::waitpid(relay.as_raw(), &raw mut status, 0) });
        let ending =
            ended.map_or_else(|error| error.to_string(), |_| ExitStatus::from_raw(status).to_string());
        Err(format!("the network's relay has ended before it was ready: {ending}"))
    })
}

fn become_vmm(options: &Options, stream: Option<OwnedFd>) -> Result<(), String> {
    let (program, arguments) = options.vmm.split_first().ok_or("the command of the VMM is missing")?;
    if let (LinkOption::Socket(number), Some(stream)) = (&options.link, stream) {
        // Last, for it may take the place of anything here.
        leave_open_as(stream, *number)?;
    }
    let error = Command::new(program).args(arguments).exec();
    Err(format!("cannot execute {}: {error}", program.display()))
}

/// Leaves a descriptor to what is executed, by this number.
fn leave_open_as(descriptor: OwnedFd, number: RawFd) -> Result<(), String> {
    if descriptor.as_raw_fd() == number {
        descriptors::make_inheritable(&descriptor)?;
        let _ = descriptor.into_raw_fd();
        return Ok(());
    }
    // SAFETY: dup2(2) takes numbers. What it closes belongs to nobody who would still use it before the VMM
    // does.
    Errno::result(unsafe { libc::dup2(descriptor.as_raw_fd(), number) })
        .map(drop)
        .map_err(|error| format!("cannot open the VMM's socket as the descriptor {number}: {error}"))
}
