//! How an interface gets its address and its routes: IPv4 needs nothing more than the ioctls of netdevice(7).

use std::mem;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use libc::{c_char, c_ushort};
use nix::errno::Errno;

use crate::error::{AgentError, Context};
use crate::link::Link;

mod ioctl {
    nix::ioctl_write_ptr_bad!(set_address, libc::SIOCSIFADDR, libc::ifreq);
    nix::ioctl_write_ptr_bad!(set_netmask, libc::SIOCSIFNETMASK, libc::ifreq);
    nix::ioctl_write_ptr_bad!(add_route, libc::SIOCADDRT, libc::rtentry);
}

/// An interface of the guest's, whether or not there is one of that name.
#[derive(Debug)]
pub struct Interface {
    link: Link<'static>,
}

impl Interface {
    pub fn new(name: &'static str) -> Result<Self, AgentError> {
        let link = Link::new(name).context(|| format!("open a socket for {name}"))?;
        Ok(Self { link })
    }

    pub fn exists(&self) -> bool {
        self.link.flags().is_ok()
    }

    pub fn set_mtu(&self, mtu: u16) -> Result<(), AgentError> {
        self.link.set_mtu(mtu).context(|| format!("set the MTU of {} to {mtu}", self.link.name))
    }

    pub fn disable_ipv6(&self) -> Result<(), AgentError> {
        self.link.disable_ipv6().context(|| format!("disable IPv6 on {}", self.link.name))
    }

    pub fn bring_up(&self) -> Result<(), AgentError> {
        self.link.bring_up().context(|| format!("bring up {}", self.link.name))
    }

    /// Gives the interface its only address. The kernel derives the broadcast address from it.
    pub fn set_address(&self, address: Ipv4Addr, netmask: Ipv4Addr) -> Result<(), AgentError> {
        let mut request = self.link.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        // SAFETY: the descriptor is open, and SIOCSIFADDR reads an ifreq, which `request` is.
        unsafe { ioctl::set_address(self.socket(), &raw const request) }
            .context(|| format!("give {} the address {address}", self.link.name))?;
        request.ifr_ifru.ifru_netmask = socket_address(netmask);
        // SAFETY: as above.
        unsafe { ioctl::set_netmask(self.socket(), &raw const request) }
            .context(|| format!("give {} the netmask {netmask}", self.link.name))?;
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

    fn socket(&self) -> RawFd {
        self.link.as_fd().as_raw_fd()
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
        let mut name = self.link.request().ifr_name;
        let route = libc::rtentry { rt_dev: name.as_mut_ptr(), ..*route };
        // SAFETY: the descriptor is open, and SIOCADDRT reads an rtentry and the name it leads to; both live, and the
        // name ends with a zero.
        unsafe { ioctl::add_route(self.socket(), &raw const route) }.map(drop)
    }
}

/// A `struct sockaddr_in` without a port: the address comes after it, in network order.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(|octet| c_char::from_ne_bytes([octet]));
    let family = libc::sa_family_t::try_from(libc::AF_INET).unwrap_or_default();
    libc::sockaddr { sa_family: family, sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0] }
}
