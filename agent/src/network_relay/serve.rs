//! The relay's process, from the fork to the end of the VMM.

use std::os::fd::OwnedFd;

use nix::sys::stat::{Mode, umask};
use nix::unistd::getpid;

use crate::control;
use crate::descriptors;
use crate::note;
use crate::options::Options;
use crate::passt;
use crate::relay::{self, Link};
use crate::sandbox;

/// What the relay has from the launcher.
#[derive(Debug)]
pub struct Relay {
    pub channel: OwnedFd,
    /// A pidfd of the launcher, who becomes the VMM.
    pub vmm: OwnedFd,
    /// The VMM's frames; a packet socket comes over the channel where there is none.
    pub stream: Option<OwnedFd>,
}

/// Starts passt, tells the launcher, and relays.
pub fn run(options: &Options, process: Relay) {
    let Relay { channel, vmm, stream } = process;
    match prepare(options, &channel, &vmm, stream) {
        Ok((link, passt)) => {
            control::tell(&channel, Ok(()));
            drop(channel);
            // There is no log any more to write an error to.
            let _ = relay::run(&link, &passt, &vmm);
        }
        Err(message) => control::tell(&channel, Err(&message)),
    }
}

fn prepare(
    options: &Options,
    channel: &OwnedFd,
    vmm: &OwnedFd,
    stream: Option<OwnedFd>,
) -> Result<(Link, OwnedFd), String> {
    let kept: Vec<&OwnedFd> = [channel, vmm].into_iter().chain(stream.as_ref()).collect();
    descriptors::close_others(&kept)?;
    umask(Mode::from_bits_truncate(0o077));
    let passt = passt::start(&options.passt)?;
    note::write(&options.directory, "passt", passt.process)?;
    note::write(&options.directory, "relay", getpid())?;
    let link = match stream {
        Some(stream) => Link::Stream(stream),
        None => Link::Packets(control::take_over(channel)?),
    };
    sandbox::enter()?;
    Ok((link, passt.socket))
}
