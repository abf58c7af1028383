//! Time: the host's, handed over on the control drive, and the guest's own.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};

/// How far the guest's clock may be ahead of the lower bound: start-up of the VMM, a slow kernel.
const TOLERANCE: Duration = Duration::from_secs(60);

/// What the kernel's clock showed when this start began, in microseconds: 0, or the age of the snapshot that it
/// goes on from.
static START_US: AtomicU64 = AtomicU64::new(0);

/// Time since the guest started: its kernel, or the snapshot that it goes on from.
pub fn since_boot() -> Duration {
    kernel_age().saturating_sub(Duration::from_micros(START_US.load(Ordering::Relaxed)))
}

/// Lets [`since_boot`] begin at this age of the kernel.
pub fn begin_at(kernel_age: Duration) {
    START_US.store(u64::try_from(kernel_age.as_micros()).unwrap_or(0), Ordering::Relaxed);
}

/// What the kernel has counted since it started.
pub fn kernel_age() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// [`since_boot`] in microseconds, as the status carries it.
pub fn since_boot_us() -> u64 {
    u64::try_from(since_boot().as_micros()).unwrap_or(u64::MAX)
}

/// Nanoseconds since the Unix epoch.
pub fn unix_ns() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_or(Duration::ZERO, Duration::from);
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

/// A kernel with a driver for the machine's real-time clock takes its time from there at boot, whole seconds, and adds
/// half a one (`rtc_hctosys`): so much may its clock be ahead. KVM's clock, of guests without such a driver, is exact.
const RTC_LEAD_NS: i64 = 500_000_000;

/// The time that the clock must be set to, if any. The spec was written before the guest started, so that
/// `host_ns + boot` is a lower bound of the time now; so is what the guest's clock shows less its possible `lead_ns`.
/// Of the two the later is taken: callers put right a clock that is behind.
fn correction(host_ns: i64, boot: Duration, guest_ns: i64, lead_ns: i64) -> Option<i64> {
    let boot_ns = i64::try_from(boot.as_nanos()).ok()?;
    let lower = host_ns.checked_add(boot_ns)?;
    let upper = lower.checked_add(i64::try_from(TOLERANCE.as_nanos()).ok()?)?;
    let right = if guest_ns > upper { lower } else { lower.max(guest_ns - lead_ns) };
    (host_ns > 0 && right != guest_ns).then_some(right)
}

/// Sets the clock when it is behind the host's, or ahead.
pub fn set_from_host(host_ns: i64) {
    let lead_ns = if Path::new("/dev/rtc0").exists() { RTC_LEAD_NS } else { 0 };
    if let Some(ns) = correction(host_ns, since_boot(), unix_ns(), lead_ns) {
        let time = TimeSpec::new(ns / 1_000_000_000, ns % 1_000_000_000);
        // A guest whose clock cannot be set still runs its workload.
        let _ = clock_settime(ClockId::CLOCK_REALTIME, time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_set_only_when_it_is_wrong() {
        const S: i64 = 1_000_000_000;
        let boot = Duration::from_secs(2);
        for (host, guest, lead, expected) in [
            (1000 * S, 1002 * S, 0, None),
            (1000 * S, 1062 * S, 0, None),
            (1000 * S, 1002 * S - 1, 0, Some(1002 * S)),
            (1000 * S, 1062 * S + 1, 0, Some(1002 * S)),
            (1000 * S, 0, 0, Some(1002 * S)),
            (0, 0, 0, None),
            (-5, 0, 0, None),
            (i64::MAX, 0, 0, None),
            (1000 * S, 1002 * S, S / 2, None),
            (1000 * S, 1002 * S + S / 3, S / 2, Some(1002 * S)),
            (1000 * S, 1002 * S - S / 3, S / 2, Some(1002 * S)),
            (1000 * S, 1010 * S, S / 2, Some(1010 * S - S / 2)),
            (1000 * S, 1100 * S, S / 2, Some(1002 * S)),
        ] {
            assert_eq!(correction(host, boot, guest, lead), expected, "{host} {guest} {lead}");
        }
    }
}
