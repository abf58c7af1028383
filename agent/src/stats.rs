//! What the workload uses of the guest.

use std::thread::available_parallelism;

use crate::cgroup;
use crate::clock;
use crate::memory_limit::guest_memory;
use crate::proto::StatsResponse;

/// Reads everything anew.
pub fn read() -> StatsResponse {
    let (total, available) = guest_memory().unwrap_or_default();
    let mut stats = StatsResponse {
        since_boot_ns: u64::try_from(clock::since_boot().as_nanos()).unwrap_or(u64::MAX),
        processors: available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1)),
        guest_memory_bytes: total,
        guest_available_bytes: available,
        ..StatsResponse::default()
    };
    cgroup::read_usage(&mut stats);
    stats
}
