//! What the workload uses of the guest.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::thread::available_parallelism;

use crate::cgroup;
use crate::clock;
use crate::memory_limit::guest_memory;
use crate::network::ETH0;
use crate::proto::{InterfaceStats, StatsResponse};

/// Reads everything anew.
pub fn read() -> StatsResponse {
    let (total, available) = guest_memory().unwrap_or_default();
    let mut stats = StatsResponse {
        since_boot_ns: u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX),
        processors: available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
        guest_memory_bytes: total,
        guest_available_bytes: available,
        eth0: File::open("/proc/net/dev").ok().and_then(|table| interface(BufReader::new(table), ETH0)),
        ..StatsResponse::default()
    };
    cgroup::read_usage(&mut stats);
    stats
}

/// What /proc/net/dev says of an interface. It is read line by line: a privileged workload may have any number of
/// interfaces.
fn interface(table: impl BufRead, name: &str) -> Option<InterfaceStats> {
    let counts = |line: &str| {
        let line = line.trim_start().strip_prefix(name)?.strip_prefix(':')?;
        line.split_whitespace().map(|number| number.parse().ok()).collect::<Option<Vec<u64>>>()
    };
    let counts = table.lines().map_while(Result::ok).find_map(|line| counts(&line))?;
    let column = |at: usize| counts.get(at).copied();
    Some(InterfaceStats {
        rx_bytes: column(0)?,
        rx_packets: column(1)?,
        rx_errors: column(2)?,
        rx_dropped: column(3)?,
        tx_bytes: column(8)?,
        tx_packets: column(9)?,
        tx_errors: column(10)?,
        tx_dropped: column(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

    fn eth0(rows: &str) -> Option<InterfaceStats> {
        interface(format!("{HEAD}{rows}").as_bytes(), "eth0")
    }

    #[test]
    fn an_interface_has_eight_counts() {
        let lo = "    lo:     90       1    0    0    0     0          0         0       90       1    0    0    0     0       0          0\n";
        let row = "  eth0: 18446744073709551615 22 3 4 5 6 7 8 900 10 11 12 13 14 15 16\n";
        let expected = InterfaceStats {
            rx_bytes: u64::MAX,
            rx_packets: 22,
            rx_errors: 3,
            rx_dropped: 4,
            tx_bytes: 900,
            tx_packets: 10,
            tx_errors: 11,
            tx_dropped: 12,
        };
        assert_eq!(eth0(&format!("{lo}{row}")), Some(expected));
        // Kernels of old wrote no space before large numbers.
        assert_eq!(eth0(&row.replace(": ", ":")), Some(expected));
        assert_eq!(eth0(lo), None);
    }

    #[test]
    fn what_is_not_such_a_row_tells_nothing() {
        for rows in [
            "",
            " eth0: 1 2 3 4 5 6 7 8 9 10 11\n",
            " eth0: 1 2 3 4 5 6 7 8 9 10 11 many 13 14 15 16\n",
            " eth01: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
            " veth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
            " eth0.7: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n",
        ] {
            assert_eq!(eth0(rows), None, "{rows}");
        }
    }
}
