//! The tap that a VMM opens by its name.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::geteuid;

use crate::packet_socket;

/// The longest packets that passt sends, so that none is too long for the tap.
const MTU: libc::c_int = 65_520;

// <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/if_tun.h>
const INT_BYTES: usize = size_of::<libc::c_int>();
nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, INT_BYTES), libc::ifreq);
nix::ioctl_write_int!(tun_set_persist, b'T', 203);
nix::ioctl_write_int!(tun_set_owner, b'T', 204);
nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);
nix::ioctl_write_ptr_bad!(set_interface_mtu, libc::SIOCSIFMTU, libc::ifreq);

/// Makes a tap in the network namespace of this process, which this user can open without privileges, and
/// returns a packet socket on it.
pub fn create(name: &str) -> Result<OwnedFd, String> {
    let device = open_device()?;
    make(&device, name)
        .and_then(|()| {
            disable_ipv6(name)?;
            bring_up(name)?;
            packet_socket::open(name)
        })
        .map_err(|error| format!("cannot make the tap {name}: {error}"))
}

fn open_device() -> Result<File, String> {
    const PATH: &str = "/dev/net/tun";
    File::options().read(true).write(true).open(PATH).map_err(|error| {
        let hint = match error.raw_os_error() {
            // The file may be there and the driver not.
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => "; load the driver: modprobe tun",
            _ => "",
        };
        format!("cannot open {PATH}: {error}{hint}")
    })
}

fn make(device: &File, name: &str) -> io::Result<()> {
    let mut request = request_for(name);
    // What Firecracker opens a tap with; a tap that is there must have the same.
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or_default();
    let device = device.as_raw_fd();
    // SAFETY: the descriptor is open, and TUNSETIFF reads an ifreq, which `request` is.
    unsafe { tun_set_iff(device, &raw const request) }?;
    // SAFETY: the descriptor is open, and TUNSETOWNER takes a number.
    unsafe { tun_set_owner(device, libc::c_ulong::from(geteuid().as_raw())) }?;
    // SAFETY: the descriptor is open, and TUNSETPERSIST takes a number.
    unsafe { tun_set_persist(device, 1) }?;
    Ok(())
}

/// The host's end has no address, and is not to give itself one. A kernel without IPv6 does not anyway.
fn disable_ipv6(name: &str) -> io::Result<()> {
    match fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn bring_up(name: &str) -> io::Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = request_for(name);
    request.ifr_ifru.ifru_mtu = MTU;
    // SAFETY: the descriptor is open, and SIOCSIFMTU reads an ifreq, which `request` is.
    unsafe { set_interface_mtu(socket.as_raw_fd(), &raw const request) }?;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an ifreq, which `request` is.
    unsafe { set_interface_flags(socket.as_raw_fd(), &raw const request) }?;
    Ok(())
}

fn request_for(name: &str) -> libc::ifreq {
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The zero at the end stays: the name's length has been checked.
    for (target, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(libc::IFNAMSIZ - 1)) {
        *target = libc::c_char::from_ne_bytes([byte]);
    }
    request
}
