//! The network as far as every guest has one: the loopback interface.

use std::fs;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{AgentError, Context};

nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);

/// Brings up `lo`; the kernel then gives it 127.0.0.1/8 and ::1 by itself.
pub fn bring_up_loopback() -> Result<(), AgentError> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context(|| "open a socket for lo".into())?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = libc::c_char::from_ne_bytes([*byte]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an ifreq, which `request` is.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }
        .context(|| "bring up lo".into())?;
    Ok(())
}

/// As Docker does for each container: a process without privileges may bind any port and send pings.
pub fn relax_sysctls() {
    for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        // A kernel without the setting has no such restriction to lift.
        let _ = fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    }
}
