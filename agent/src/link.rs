//! A network interface by its name, whether or not there is one: what netdevice(7) has for it, which every kernel has.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::{c_char, c_int, c_short};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

mod ioctl {
    nix::ioctl_read_bad!(get_flags, libc::SIOCGIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
}

#[derive(Debug)]
pub struct Link<'a> {
    pub name: &'a str,
    /// Any socket of the address family will do.
    socket: OwnedFd,
}

impl<'a> Link<'a> {
    pub fn new(name: &'a str) -> nix::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        Ok(Self { name, socket })
    }

    pub fn set_mtu(&self, mtu: u16) -> nix::Result<()> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = c_int::from(mtu);
        // SAFETY: the descriptor is open, and SIOCSIFMTU reads an ifreq, which `request` is.
        unsafe { ioctl::set_mtu(self.socket.as_raw_fd(), &raw const request) }.map(drop)
    }

    pub fn bring_up(&self) -> nix::Result<()> {
        let mut request = self.request();
        // All flags are set at once: those that it has, such as multicast, are to stay.
        let up = c_short::try_from(libc::IFF_UP).unwrap_or_default();
        request.ifr_ifru.ifru_flags = self.flags()? | up;
        // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an ifreq, which `request` is.
        unsafe { ioctl::set_flags(self.socket.as_raw_fd(), &raw const request) }.map(drop)
    }

    pub fn flags(&self) -> nix::Result<c_short> {
        let mut request = self.request();
        // SAFETY: the descriptor is open, and SIOCGIFFLAGS fills an ifreq, which `request` is.
        unsafe { ioctl::get_flags(self.socket.as_raw_fd(), &raw mut request) }?;
        // SAFETY: the kernel has set the flags, and any number is a value of theirs.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    /// It gives itself no address, and asks for no routers.
    pub fn disable_ipv6(&self) -> io::Result<()> {
        match fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", self.name), "1") {
            // A kernel without IPv6 does neither anyway, nor does an interface whose MTU is too small for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Names the interface to an ioctl, and says nothing else yet.
    pub fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // The last byte stays zero.
        let space = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (target, byte) in space.zip(self.name.bytes()) {
            *target = c_char::from_ne_bytes([byte]);
        }
        request
    }
}

impl AsFd for Link<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
