//! Descriptors: new ones, and those that a process was left by the one that forked it.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

/// Both ends of a stream.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd), String> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| format!("cannot make a socket: {error}"))
}

/// Closes all but the standard three and `kept`: whoever waits for the end of a pipe would wait for this
/// process. Nothing else in it may own one.
pub fn close_others(kept: &[&OwnedFd]) -> Result<(), String> {
    let mut numbers: Vec<u32> = kept.iter().map(|kept| kept.as_raw_fd().cast_unsigned()).collect();
    numbers.sort_unstable();
    let mut first = libc::STDERR_FILENO.cast_unsigned() + 1;
    for number in numbers {
        close_range(first, number.saturating_sub(1))?;
        first = number + 1;
    }
    close_range(first, u32::MAX)
}

/// Lets a process that is executed have it.
pub fn make_inheritable(descriptor: &OwnedFd) -> Result<(), String> {
    fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty()))
        .map(drop)
        .map_err(|error| format!("cannot keep a descriptor open: {error}"))
}

/// Closes `first` to `last`; nothing when there is none between them.
fn close_range(first: u32, last: u32) -> Result<(), String> {
    if first > last {
        return Ok(());
    }
    // SAFETY: close_range(2) takes numbers. No descriptor in the range has an owner in this process.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
        .map(drop)
        .map_err(|error| format!("cannot close the descriptors that are not needed: {error}"))
}
