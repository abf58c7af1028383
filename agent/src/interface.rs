//! One network interface, set up by the ioctls of netdevice(7): IPv4 needs nothing more, and every kernel has them.

use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_char, c_int, c_short, c_ushort};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{AgentError, Context};

mod ioctl {
    nix::ioctl_read_bad!(get_flags, libc::SIOCGIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_mtu, libc::SIOCSIFMTU, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_netmask, libc::SIOCSIFNETMASK, libc::ifreq);
    nix::ioctl_write_ptr_bad!(add_route, libc::SIOCADDRT, libc::rtentry);
}

/// An interface by its name, whether or not there is one.
#[derive(Debug)]
pub struct Interface {
    name: &'static str,
    /// Any socket of the address family will do.
    socket: OwnedFd,
}

impl Interface {
    pub fn new(name: &'static str) -> Result<Self, AgentError> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .context(|| format!("open a socket for {name}"))?;
        Ok(Self { name, socket })
    }

    pub fn exists(&self) -> bool {
        self.flags().is_ok()
    }

    pub fn set_mtu(&self, mtu: u16) -> Result<(), AgentError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = c_int::from(mtu);
        // SAFETY: the descriptor is open, and SIOCSIFMTU reads an ifreq, which `request` is.
        unsafe { ioctl::set_mtu(self.socket.as_raw_fd(), &raw const request) }
            .context(|| format!("set the MTU of {} to {mtu}", self.name))?;
        Ok(())
    }

    /// Gives the interface its only address. The kernel derives the broadcast address from it.
    pub fn set_address(&self, address: Ipv4Addr, netmask: Ipv4Addr) -> Result<(), AgentError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        // SAFETY: the descriptor is open, and SIOCSIFADDR reads an ifreq, which `request` is.
        unsafe { ioctl::set_address(self.socket.as_raw_fd(), &raw const request) }
            .context(|| format!("give {} the address {address}", self.name))?;
        request.ifr_ifru.ifru_netmask = socket_address(netmask);
        // SAFETY: as above.
        unsafe { ioctl::set_netmask(self.socket.as_raw_fd(), &raw const request) }
            .context(|| format!("give {} the netmask {netmask}", self.name))?;
        Ok(())
    }

    pub fn bring_up(&self) -> Result<(), AgentError> {
        let failed = || format!("bring up {}", self.name);
        let mut request = self.request();
        // All flags are set at once: those that it has, such as multicast, are to stay.
        let up = c_short::try_from(libc::IFF_UP).unwrap_or_default();
        request.ifr_ifru.ifru_flags = self.flags().context(failed)? | up;
        // SAFETY: the descriptor is open, and SIOCSIFFLAGS reads an ifreq, which `request` is.
        unsafe { ioctl::set_flags(self.socket.as_raw_fd(), &raw const request) }.context(failed)?;
        Ok(())
    }

    /// Says that `host` is on the other side of the interface, whatever its own network is.
    pub fn add_host_route(&self, host: Ipv4Addr) -> Result<(), AgentError> {
        let mut route = self.route(libc::RTF_HOST);
        route.rt_dst = socket_address(host);
        self.add_route(&route).context(|| format!("add the route to {host}"))
    }

    /// Sends what is for nobody nearer to `gateway`, which must be in reach.
    pub fn add_default_route(&self, gateway: Ipv4Addr) -> Result<(), AgentError> {
        let mut route = self.route(libc::RTF_GATEWAY);
        route.rt_gateway = socket_address(gateway);
        self.add_route(&route).context(|| format!("add the default route by {gateway}"))
    }

    fn flags(&self) -> Result<c_short, Errno> {
        let mut request = self.request();
        // SAFETY: the descriptor is open, and SIOCGIFFLAGS fills an ifreq, which `request` is.
        unsafe { ioctl::get_flags(self.socket.as_raw_fd(), &raw mut request) }?;
        // SAFETY: the kernel has set the flags, and any number is a value of theirs.
        Ok(unsafe { request.ifr_ifru.ifru_flags })
    }

    fn request(&self) -> libc::ifreq {
        // SAFETY: ifreq is plain data for which all zeroes is a valid value.
        let mut request: libc::ifreq = unsafe { mem::zeroed() };
        // The last byte stays zero.
        let space = request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1);
        for (target, byte) in space.zip(self.name.bytes()) {
            *target = c_char::from_ne_bytes([byte]);
        }
        request
    }

    /// A route to everywhere, but for what its flags say.
    fn route(&self, flags: c_ushort) -> libc::rtentry {
        // SAFETY: rtentry is plain data and a pointer, which may be null.
        let mut route: libc::rtentry = unsafe { mem::zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_flags = libc::RTF_UP | flags;
        route
    }

    fn add_route(&self, route: &libc::rtentry) -> Result<(), Errno> {
        let mut name = self.request().ifr_name;
        let route = libc::rtentry { rt_dev: name.as_mut_ptr(), ..*route };
        // SAFETY: the descriptor is open, and SIOCADDRT reads an rtentry and the name it leads to; both live, and the
        // name ends with a zero.
        unsafe { ioctl::add_route(self.socket.as_raw_fd(), &raw const route) }.map(drop)
    }
}

/// A `struct sockaddr_in` without a port: the address comes after it, in network order.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(|octet| c_char::from_ne_bytes([octet]));
    let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    libc::sockaddr { sa_family: family, sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0] }
}
