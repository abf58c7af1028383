//! The tap that a VMM opens by its name.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::unistd::geteuid;

use crate::link::Link;
use crate::packet_socket;

/// The longest packets that passt sends, so that none is too long for the tap.
const MTU: u16 = 65_520;

// <https://elixir.bootlin.com/linux/v6.12/source/include/uapi/linux/if_tun.h>
const INT_BYTES: usize = size_of::<libc::c_int>();
nix::ioctl_write_ptr_bad!(tun_set_iff, nix::request_code_write!(b'T', 202, INT_BYTES), libc::ifreq);
nix::ioctl_write_int!(tun_set_persist, b'T', 203);
nix::ioctl_write_int!(tun_set_owner, b'T', 204);

/// Makes a tap in the network namespace of this process, which this user can open without privileges, and
/// returns a packet socket on it.
pub fn create(name: &str) -> Result<OwnedFd, String> {
    make(&open_device()?, name).map_err(|error| format!("cannot make the tap {name}: {error}"))
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

/// The host's end has no address, and is not to give itself one.
fn make(device: &File, name: &str) -> io::Result<OwnedFd> {
    let link = Link::new(name)?;
    make_persistent(device, link.request())?;
    link.set_mtu(MTU)?;
    link.disable_ipv6()?;
    link.bring_up()?;
    packet_socket::open(name)
}

fn make_persistent(device: &File, mut request: libc::ifreq) -> nix::Result<()> {
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
