//! Being ready for a snapshot: the host may keep the guest's memory from here, and let other guests go on from it
//! instead of booting. Nothing of a guest's own has happened by then: no drive has been read, no random number taken.

use std::convert::Infallible;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};
use nix::unistd::{execv, read, write};

use crate::clock;
use crate::error::{AgentError, Context};

/// The agent's first argument when it goes on; the second is the kernel's age by then, in microseconds.
const RESUMED: &str = "resumed";
/// As much as the kernel's generator holds.
const SEED_BYTES: usize = 32;

/// Tells the host that the guest is ready, and returns once it shall go on: when the connection ends. A snapshot
/// ends it, in this guest and in every other that goes on from there (`VIRTIO_VSOCK_EVENT_TRANSPORT_RESET`); so does
/// a host that makes none, or is gone.
pub fn wait(port: u32) {
    // Nobody who listens is as good as an end.
    let _ = await_end(port);
}

fn await_end(port: u32) -> Result<(), Errno> {
    let host: OwnedFd = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    connect(host.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_HOST, port))?;
    // The connection stands on both sides only when something has come through it.
    write(&host, b"r")?;
    while read(&host, &mut [0; 16])? > 0 {}
    Ok(())
}

/// Starts this program anew: its addresses and its canary are not those of every guest of the snapshot.
pub fn start_anew() -> Result<Infallible, AgentError> {
    let age = clock::kernel_age().as_micros().to_string();
    let words = ["/init", RESUMED, &age].map(CString::new);
    let words: Vec<CString> = words.into_iter().flatten().collect();
    execv(c"/proc/self/exe", &words).context(|| "start the agent anew".into())
}

/// The kernel's age when the guest went on, in an agent that [`start_anew`] has started.
pub fn resumed_at(mut arguments: impl Iterator<Item = String>) -> Option<Duration> {
    arguments.next().filter(|word| word == RESUMED)?;
    arguments.next()?.parse().ok().map(Duration::from_micros)
}

/// `struct rand_pool_info` of `linux/random.h`, with room for a seed.
#[repr(C)]
struct Pool {
    entropy_bits: libc::c_int,
    bytes: libc::c_int,
    seed: [u8; SEED_BYTES],
}

mod ioctl {
    // RNDADDENTROPY and RNDRESEEDCRNG, random(4).
    nix::ioctl_write_ptr!(add_entropy, b'R', 0x03, [libc::c_int; 2]);
    nix::ioctl_none!(reseed, b'R', 0x07);
}

/// Makes the kernel's random numbers this guest's own.
pub fn seed_random_numbers(seed: &[u8]) -> Result<(), AgentError> {
    let Ok(seed) = <[u8; SEED_BYTES]>::try_from(seed) else {
        return Err(AgentError::Invalid(format!("a seed has {SEED_BYTES} bytes, this one {}", seed.len())));
    };
    add(&Pool { entropy_bits: 8 * 32, bytes: 32, seed }).context(|| "seed the random numbers".into())
}

fn add(pool: &Pool) -> io::Result<()> {
    let device = std::fs::File::options().write(true).open("/dev/urandom")?;
    // SAFETY: the kernel reads the two integers, and as many bytes behind them as the second says, all of them live.
    unsafe { ioctl::add_entropy(device.as_raw_fd(), (&raw const *pool).cast()) }?;
    // SAFETY: takes no argument.
    unsafe { ioctl::reseed(device.as_raw_fd()) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_knows_that_it_goes_on() {
        let after = |words: &[&str]| resumed_at(words.iter().map(|&word| word.to_owned()));
        assert_eq!(after(&["resumed", "612345"]), Some(Duration::from_micros(612_345)));
        assert_eq!(after(&[]), None);
        assert_eq!(after(&["resumed"]), None);
        assert_eq!(after(&["resumed", "soon"]), None);
        assert_eq!(after(&["quiet", "1"]), None);
    }

    #[test]
    fn a_seed_of_another_length_is_refused() {
        let error = seed_random_numbers(&[1; 31]).map_err(|error| error.to_string());
        assert_eq!(error, Err("a seed has 32 bytes, this one 31".to_owned()));
    }

    #[test]
    fn a_host_that_does_not_listen_holds_nobody_up() {
        wait(1);
    }
}
