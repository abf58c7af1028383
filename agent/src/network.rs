//! The guest's interfaces: the loopback that every guest has, and eth0 of a guest with a network.

use std::fs;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::error::{AgentError, Context};
use crate::interface::Interface;
use crate::probing;
use crate::proto::Network;

/// The guest's one interface beside `lo`.
pub const ETH0: &str = "eth0";
/// `ETH_MIN_MTU` of linux/if_ether.h; `ETH_MAX_MTU` is the type's.
const MIN_MTU: u16 = 68;

/// Brings up `lo`; the kernel then gives it 127.0.0.1/8 and ::1 by itself.
pub fn bring_up_loopback() -> Result<(), AgentError> {
    Interface::new("lo")?.bring_up()
}

/// As Docker does for each container: a process without privileges may bind any port and send pings.
pub fn relax_sysctls() {
    for (name, value) in [("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")] {
        // A kernel without the setting has no such restriction to lift.
        let _ = fs::write(format!("/proc/sys/net/ipv4/{name}"), value);
    }
}

/// The interface of a guest with a network.
#[derive(Debug)]
pub struct Eth0 {
    interface: Interface,
    plan: Plan,
}

impl Eth0 {
    /// Waits for the interface, and gives it all that settings of the user's, which come next, may change.
    pub fn find(network: &Network, limit: Duration) -> Result<Self, AgentError> {
        let plan = Plan::of(network)?;
        let interface = Interface::new(ETH0)?;
        if !probing::appears(limit, || interface.exists()) {
            let message = format!("the guest has no {ETH0}: its kernel lacks virtio_net");
            return Err(AgentError::Invalid(message));
        }
        interface.set_mtu(plan.mtu)?;
        // The network has none: programs would take an address of its own making for a way out.
        interface.disable_ipv6()?;
        announce()?;
        Ok(Self { interface, plan })
    }

    /// From here on there is a network.
    pub fn bring_up(&self) -> Result<(), AgentError> {
        let Self { interface, plan: Plan { address, netmask, gateway, .. } } = self;
        interface.set_address(*address, *netmask)?;
        interface.bring_up()?;
        if address & netmask != gateway & netmask {
            interface.add_host_route(*gateway)?;
        }
        interface.add_default_route(*gateway)
    }
}

/// Has the kernel announce the address when the interface comes up (RFC 5227, section 2.3): whoever wants to connect
/// to a guest that has not said anything yet would not know where it is.
fn announce() -> Result<(), AgentError> {
    let setting = format!("/proc/sys/net/ipv4/conf/{ETH0}/arp_notify");
    fs::write(&setting, "1").context(|| format!("write {setting}"))
}

/// The spec's values, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    address: Ipv4Addr,
    netmask: Ipv4Addr,
    gateway: Ipv4Addr,
    mtu: u16,
}

impl Plan {
    fn of(network: &Network) -> Result<Self, AgentError> {
        Ok(Self {
            address: machine_address(&network.address)?,
            netmask: netmask(network.prefix_length)?,
            gateway: machine_address(&network.gateway)?,
            mtu: mtu(network.mtu)?,
        })
    }
}

/// The kernel would take some others, and do nothing.
fn machine_address(text: &str) -> Result<Ipv4Addr, AgentError> {
    text.parse()
        .ok()
        .filter(|address: &Ipv4Addr| {
            !(address.is_unspecified()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast())
        })
        .ok_or_else(|| AgentError::Invalid(format!("{text:?} is not the IPv4 address of a machine")))
}

/// A prefix of no length is none.
fn netmask(prefix_length: u32) -> Result<Ipv4Addr, AgentError> {
    match prefix_length {
        1..=32 => Ok(Ipv4Addr::from_bits(u32::MAX << (32 - prefix_length))),
        _ => Err(AgentError::Invalid(format!("a network's prefix cannot have {prefix_length} bits"))),
    }
}

fn mtu(bytes: u32) -> Result<u16, AgentError> {
    u16::try_from(bytes)
        .ok()
        .filter(|&bytes| bytes >= MIN_MTU)
        .ok_or_else(|| AgentError::Invalid(format!("an MTU cannot be {bytes} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    use nix::sched::{CloneFlags, unshare};

    fn network(address: &str, prefix_length: u32, gateway: &str, mtu: u32) -> Network {
        let (address, gateway) = (address.to_owned(), gateway.to_owned());
        Network { address, prefix_length, gateway, mtu, ..Network::default() }
    }

    #[test]
    fn values_are_checked_at_both_sides_of_their_limits() {
        let plan = |address, length, gateway, mtu| Plan::of(&network(address, length, gateway, mtu));
        let expected = Plan {
            address: Ipv4Addr::new(10, 0, 2, 15),
            netmask: Ipv4Addr::new(255, 255, 254, 0),
            gateway: Ipv4Addr::new(10, 0, 2, 2),
            mtu: 1500,
        };
        assert_eq!(plan("10.0.2.15", 23, "10.0.2.2", 1500).ok(), Some(expected));
        for (length, netmask) in [(1, Ipv4Addr::new(128, 0, 0, 0)), (32, Ipv4Addr::BROADCAST)] {
            assert_eq!(super::netmask(length).ok(), Some(netmask));
        }
        for mtu in [68, 65_535] {
            assert_eq!(super::mtu(mtu).ok().map(u32::from), Some(mtu));
        }
        let error = |network: &Network| Plan::of(network).map_err(|error| error.to_string());
        for length in [0, 33, u32::MAX] {
            let message = format!("a network's prefix cannot have {length} bits");
            assert_eq!(error(&network("10.0.2.15", length, "10.0.2.2", 1500)), Err(message));
        }
        for mtu in [0, 67, 65_536, u32::MAX] {
            let message = format!("an MTU cannot be {mtu} bytes");
            assert_eq!(error(&network("10.0.2.15", 24, "10.0.2.2", mtu)), Err(message));
        }
        for bad in
            ["", "10.0.2", "10.0.2.256", "fd00::1", "0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
        {
            let message = format!("{bad:?} is not the IPv4 address of a machine");
            assert_eq!(error(&network(bad, 24, "10.0.2.2", 1500)), Err(message.clone()));
            assert_eq!(error(&network("10.0.2.15", 24, bad, 1500)), Err(message));
        }
    }

    /// A machine's eth0, connected to `far`.
    const PLUGGED_IN: [&str; 2] = ["link add eth0 type veth peer name far", "link set far up"];

    /// Runs `test` in a network of its own, once ip(8) has made what it needs there.
    fn in_own_network(needs: &[&str], test: impl FnOnce() + Send) {
        let test_thread = std::thread::current();
        let name = test_thread.name().unwrap_or_default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let made = unshare(CloneFlags::CLONE_NEWNET).map_err(|error| error.to_string());
                match made.and_then(|()| needs.iter().try_for_each(|need| run_ip(need).map(drop))) {
                    Ok(()) => test(),
                    Err(error) => eprintln!("skipped {name}: no network of its own: {error}"),
                }
            });
        });
    }

    fn run_ip(arguments: &str) -> Result<String, String> {
        let output = Command::new("ip").args(arguments.split(' ')).output();
        let output = output.map_err(|error| format!("ip: {error}"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    }

    fn ip(arguments: &str) -> String {
        run_ip(arguments).unwrap()
    }

    #[test]
    fn loopback_has_its_addresses_when_it_is_up() {
        in_own_network(&["link show dev lo"], || {
            bring_up_loopback().unwrap();
            assert!(ip("-o addr show dev lo").contains("inet 127.0.0.1/8"));
        });
    }

    #[test]
    fn a_guest_without_the_driver_is_told_so() {
        in_own_network(&[], || {
            let found = Eth0::find(&network("10.0.2.15", 24, "10.0.2.2", 1500), Duration::ZERO);
            let message = "the guest has no eth0: its kernel lacks virtio_net";
            assert_eq!(found.unwrap_err().to_string(), message);
        });
    }

    #[test]
    fn eth0_is_what_the_spec_says() {
        in_own_network(&PLUGGED_IN, || {
            Eth0::find(&network("10.0.2.15", 24, "10.0.2.2", 1400), Duration::ZERO)
                .unwrap()
                .bring_up()
                .unwrap();
            let link = ip("-o link show dev eth0");
            assert!(link.contains("<BROADCAST,MULTICAST,UP,") && link.contains(" mtu 1400 "), "{link}");
            let address = ip("-o addr show dev eth0");
            assert!(address.contains(" inet 10.0.2.15/24 brd 10.0.2.255 "), "{address}");
            assert!(!address.contains("inet6"), "{address}");
            assert!(ip("-o addr show dev far").contains("inet6"), "this kernel has no IPv6 to leave out");
            let routes = ip("-4 route show");
            assert!(routes.contains("default via 10.0.2.2 dev eth0"), "{routes}");
            assert!(routes.contains("10.0.2.0/24 dev eth0"), "{routes}");
        });
    }

    #[test]
    fn a_gateway_may_be_outside_the_network() {
        in_own_network(&PLUGGED_IN, || {
            // Too small for IPv6, which eth0 then has no settings of.
            Eth0::find(&network("10.0.2.15", 32, "192.168.7.1", 1279), Duration::ZERO)
                .unwrap()
                .bring_up()
                .unwrap();
            let routes = ip("-4 route show");
            assert!(routes.contains("default via 192.168.7.1 dev eth0"), "{routes}");
            assert!(routes.contains("192.168.7.1 dev eth0 scope link"), "{routes}");
        });
    }
}
