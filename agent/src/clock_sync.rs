//! Keeping the clock right after boot. A guest's clock goes wrong when its host sleeps, is corrected, or counts
//! with a frequency that is not quite the one the guest was told. Three things say what time it is: KVM's clock
//! device, to the microsecond; a real-time clock, which counts the host's seconds but need not begin them when the
//! host does; and every caller of the service, who sends the time along.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime, clock_settime};
use tokio::time::sleep;
use tonic::{Request, Status};

use crate::clock::unix_ns;
use crate::modules;

/// Metadata of a call: the caller's clock, in nanoseconds since the Unix epoch.
const TIME_KEY: &str = "firectl-time";
/// From the workload's start to the first look, and to the modules that can wait.
const AFTER_START: Duration = Duration::from_millis(500);
/// Between two looks: seldom enough to let an idle guest be idle.
const INTERVAL: Duration = Duration::from_secs(10);
/// A clock that is wrong by less is made to run faster or slower until it is right: programs see no leap.
const LEAP_NS: i64 = 100_000_000;
/// Errors that are not worth an adjustment: reading takes as long.
const KVM_NOISE_NS: i64 = 50_000;
const RTC_NOISE_NS: i64 = 20_000_000;
const CALL_NOISE_NS: i64 = 5_000_000;
/// A call takes its time: only a clock that is further ahead than that is surely wrong.
const SLOWEST_CALL_NS: i64 = 10_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;
/// How closely the beginning of a second is looked for.
const RTC_STEP: Duration = Duration::from_millis(2);
/// How far before and after its beginning a second is checked.
const RTC_MARGIN_NS: i64 = 40_000_000;

/// Counts adjustments, so that what was measured against the clock before one is not taken for true after it.
static ADJUSTMENTS: AtomicU64 = AtomicU64::new(0);

/// Puts the clock right at once, where KVM's clock is there to tell: before anybody looks at it.
pub fn set_now() {
    if let Some(offset) = KvmClock::open().and_then(|clock| clock.offset()) {
        leap(offset);
    }
}

/// Looks after the clock for as long as the guest lives.
pub async fn keep() {
    // Not at boot, nor beside a workload that ends at once: nobody waits for it.
    sleep(AFTER_START).await;
    modules::load_all(Path::new("/modules/later"));
    if let Some(clock) = KvmClock::open() {
        loop {
            clock.look();
            sleep(INTERVAL).await;
        }
    }
    if let Ok(rtc) = File::open("/dev/rtc0") {
        watch_rtc(&Rtc(rtc)).await;
    }
}

/// Takes a caller's word for the time: it was that when the call began.
// The signature is that of an interceptor.
#[allow(clippy::result_large_err, clippy::unnecessary_wraps)]
pub fn hear(request: Request<()>) -> Result<Request<()>, Status> {
    let said = request.metadata().get(TIME_KEY).and_then(|value| value.to_str().ok()?.parse().ok());
    if let Some(offset) = said.and_then(|host_ns| offset_from_caller(host_ns, unix_ns())) {
        adjust(offset);
    }
    Ok(request)
}

/// What the clock lacks, if a caller's word proves that it is wrong.
fn offset_from_caller(host_ns: i64, guest_ns: i64) -> Option<i64> {
    let offset = host_ns.checked_sub(guest_ns)?;
    (host_ns > 0 && !(-SLOWEST_CALL_NS..=CALL_NOISE_NS).contains(&offset)).then_some(offset)
}

/// Puts the clock right by so much.
fn adjust(offset_ns: i64) {
    // A guest whose clock cannot be set still runs its workload.
    if offset_ns.abs() < LEAP_NS {
        let _ = slew(offset_ns);
    } else {
        leap(offset_ns);
    }
    ADJUSTMENTS.fetch_add(1, Ordering::Relaxed);
}

/// Sets the clock.
fn leap(offset_ns: i64) {
    let ns = unix_ns().saturating_add(offset_ns);
    let time = TimeSpec::new(ns.div_euclid(SECOND_NS), ns.rem_euclid(SECOND_NS));
    let _ = clock_settime(ClockId::CLOCK_REALTIME, time);
}

/// adjtime(3), by the name that every C library has it under.
fn slew(offset_ns: i64) -> std::io::Result<()> {
    // SAFETY: a timex is integers alone, for which zero is a value.
    let mut order: libc::timex = unsafe { std::mem::zeroed() };
    order.modes = libc::ADJ_OFFSET_SINGLESHOT;
    order.offset = offset_ns / 1000;
    // SAFETY: the kernel reads and writes one timex, a live one.
    let state = unsafe { libc::adjtimex(&raw mut order) };
    if state < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// The host's clock, as KVM shows it to its guests. <https://docs.kernel.org/virt/kvm/ptp_kvm.html>
struct KvmClock(File);

impl KvmClock {
    /// `None` without KVM, and on hosts whose own clock does not allow it.
    fn open() -> Option<Self> {
        let clock = Self(File::open("/dev/ptp0").ok()?);
        clock.offset().map(|_| clock)
    }

    fn look(&self) {
        if let Some(offset) = self.offset().filter(|offset| offset.abs() > KVM_NOISE_NS) {
            adjust(offset);
        }
    }

    /// What the guest's clock lacks; of several looks the one that took the least time.
    fn offset(&self) -> Option<i64> {
        // FD_TO_CLOCKID of clock_gettime(2).
        let id = ClockId::from_raw((!self.0.as_raw_fd() << 3) | 3);
        let looks = (0..3).filter_map(|_| {
            let before = unix_ns();
            let host = i64::try_from(Duration::from(clock_gettime(id).ok()?).as_nanos()).ok()?;
            let after = unix_ns();
            let took = after.checked_sub(before)?;
            Some((took, host - before - took / 2))
        });
        looks.min_by_key(|&(took, _)| took.abs()).map(|(_, offset)| offset)
    }
}

mod ioctl {
    use nix::libc::c_int;

    /// `struct rtc_time` of linux/rtc.h.
    #[repr(C)]
    #[derive(Debug, Default, Clone, Copy)]
    pub struct RtcTime {
        pub sec: c_int,
        pub min: c_int,
        pub hour: c_int,
        pub mday: c_int,
        /// From 0.
        pub mon: c_int,
        /// From 1900.
        pub year: c_int,
        pub rest: [c_int; 3],
    }

    nix::ioctl_read!(read_time, b'p', 0x09, RtcTime);
}

struct Rtc(File);

impl Rtc {
    /// Whole seconds since the Unix epoch.
    fn seconds(&self) -> Option<i64> {
        let mut time = ioctl::RtcTime::default();
        // SAFETY: the descriptor is open, and the kernel fills one rtc_time, which is integers alone.
        unsafe { ioctl::read_time(self.0.as_raw_fd(), &raw mut time) }.ok()?;
        let days = days_since_epoch(i64::from(time.year) + 1900, i64::from(time.mon) + 1, time.mday.into());
        Some(((days * 24 + i64::from(time.hour)) * 60 + i64::from(time.min)) * 60 + i64::from(time.sec))
    }

    /// What the guest's clock is ahead of this one, measured where a second of this one begins.
    async fn lead(&self) -> Option<i64> {
        let first = self.seconds()?;
        for _ in 0..1000 {
            let before = unix_ns();
            let now = self.seconds()?;
            if now != first {
                return Some(before - now * SECOND_NS);
            }
            sleep(RTC_STEP).await;
        }
        None // it stands still
    }
}

/// Notices when the two clocks part. Which of them began its seconds rightly is not known, hence only changes
/// count.
async fn watch_rtc(rtc: &Rtc) {
    let mut known: Option<(u64, i64)> = None;
    loop {
        let adjustments = ADJUSTMENTS.load(Ordering::Relaxed);
        match known {
            Some((at, lead)) if at == adjustments => {
                if !in_step(rtc, lead).await
                    && let Some(now) = rtc.lead().await
                    && ADJUSTMENTS.load(Ordering::Relaxed) == adjustments
                    && (now - lead).abs() > RTC_NOISE_NS
                {
                    adjust(lead - now);
                    let leapt = (now - lead).abs() >= LEAP_NS;
                    known = leapt.then(|| (ADJUSTMENTS.load(Ordering::Relaxed), lead));
                    // What is still being made up for must not be taken for another error.
                    sleep(if leapt { INTERVAL } else { INTERVAL * 30 }).await;
                    continue;
                }
            }
            _ => {
                let Some(lead) = rtc.lead().await else { return };
                known = (ADJUSTMENTS.load(Ordering::Relaxed) == adjustments).then_some((adjustments, lead));
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Looks just before and just after a second should begin: two reads, and nothing between them.
async fn in_step(rtc: &Rtc, lead: i64) -> bool {
    let now = unix_ns();
    let next = (now - lead + RTC_MARGIN_NS).div_euclid(SECOND_NS) + 1;
    let begins = next * SECOND_NS + lead;
    let wait = |until: i64| Duration::from_nanos(u64::try_from(until - unix_ns()).unwrap_or(0));
    sleep(wait(begins - RTC_MARGIN_NS)).await;
    let (before, early) = (rtc.seconds(), unix_ns() < begins);
    sleep(wait(begins + RTC_MARGIN_NS)).await;
    early && before == Some(next - 1) && rtc.seconds() == Some(next)
}

/// <https://howardhinnant.github.io/date_algorithms.html#days_from_civil>
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_proves_a_clock_wrong_that_is_behind_or_far_ahead() {
        const NOW: i64 = 1_700_000_000 * SECOND_NS;
        for (guest, expected) in [
            (NOW, None),
            (NOW - CALL_NOISE_NS, None),
            (NOW - CALL_NOISE_NS - 1, Some(CALL_NOISE_NS + 1)),
            (0, Some(NOW)),
            (NOW + SLOWEST_CALL_NS, None),
            (NOW + SLOWEST_CALL_NS + 1, Some(-SLOWEST_CALL_NS - 1)),
        ] {
            assert_eq!(offset_from_caller(NOW, guest), expected, "{guest}");
        }
        assert_eq!(offset_from_caller(-1, NOW), None);
        assert_eq!(offset_from_caller(i64::MIN, NOW), None);
    }

    #[test]
    fn days_are_counted_as_the_calendar_does() {
        for (date, days) in [
            ((1970, 1, 1), 0),
            ((2000, 2, 29), 11_016),
            ((2000, 3, 1), 11_017),
            ((2026, 11, 24), 20_781),
            ((2100, 3, 1), 47_541),
        ] {
            assert_eq!(days_since_epoch(date.0, date.1, date.2), days, "{date:?}");
        }
    }
}
