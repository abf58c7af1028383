//! A packet socket on a tap: what the VMM writes to the tap is received from it, and what is sent to it can
//! be read from the tap; packet(7). The kernel has taken off the tag of a VLAN by then, so that such a frame
//! is an untagged one here.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce, SocketError};
use nix::sys::socket::{getsockopt, setsockopt};

/// Room for some dozens of the largest frames, of which the guest sends several at once.
const RECEIVE_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Opens one for all protocols, in the network namespace of this process.
pub fn open(interface: &str) -> io::Result<OwnedFd> {
    // With no protocol, so that nothing is received before it is bound.
    // SAFETY: socket(2) takes no pointers.
    let number =
        Errno::result(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    // What the relay sends is not for itself.
    set_option(&socket, libc::PACKET_IGNORE_OUTGOING)?;
    // Sending fails with ENOBUFS when the tap's queue is full, where a queueing discipline would drop the
    // frame and say nothing. The tap takes frames out of the socket's account, so its buffer's size would be
    // no limit.
    set_option(&socket, libc::PACKET_QDISC_BYPASS)?;
    // As much as is allowed to whoever may not have more.
    if setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        setsockopt(&socket, RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    bind(&socket, interface)?;
    Ok(socket)
}

/// Takes note of an error that was to be told, such as that the tap is down.
pub fn clear_error(socket: &OwnedFd) {
    let _ = getsockopt(socket, SocketError);
}

fn set_option(socket: &OwnedFd, option: libc::c_int) -> nix::Result<()> {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: setsockopt(2) reads `size` bytes, which `on` has.
    Errno::result(unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), size)
    })
    .map(drop)
}

fn bind(socket: &OwnedFd, interface: &str) -> nix::Result<()> {
    // SAFETY: sockaddr_ll is plain data for which all zeroes is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or_default().to_be();
    address.sll_ifindex = libc::c_int::try_from(if_nametoindex(interface)?).unwrap_or_default();
    let size = libc::socklen_t::try_from(size_of_val(&address)).unwrap_or_default();
    // SAFETY: bind(2) reads `size` bytes, which `address` has.
    Errno::result(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) }).map(drop)
}
