//! How much memory the workload may have: less than the guest has, so that it is the workload that runs out of
//! it, in its own control group, and the agent is there to tell.

use std::fs;
use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::cgroup::read_number;

/// What stays out of the workload's reach: this much, or a 32nd of the guest's memory.
const LEAST_RESERVE_BYTES: u64 = 8 << 20;
const RESERVED_PART: u64 = 32;
/// Less, and not even a shell starts.
const LEAST_LIMIT_BYTES: u64 = 4 << 20;
/// Reclaim may have to write to a slow disk.
const RECLAIM_ATTEMPTS: u32 = 20;
const RECLAIM_PAUSE: Duration = Duration::from_millis(50);

/// Why the limit cannot be changed.
#[derive(Debug, Error)]
pub enum MemoryLimitError {
    #[error("that would leave the workload {limit} bytes, of which it needs {LEAST_LIMIT_BYTES} at least")]
    TooLittle { limit: u64 },
    #[error("the workload uses {used} bytes and would be left with {limit}")]
    InUse { used: u64, limit: u64 },
    #[error("cannot set the limit: {0}")]
    Io(#[from] io::Error),
}

/// The limit as it was set at boot, when nothing of the guest's memory had been returned.
#[derive(Debug)]
pub struct MemoryLimit {
    outer: &'static str,
    inner: &'static str,
    shown: &'static str,
    limit: u64,
    /// Beyond `limit`, for what runs beside the workload while it is at its limit.
    margin: u64,
}

impl MemoryLimit {
    /// Limits `inner`, the workload's group, in which `shown` is the one that the workload sees, and `outer`, which
    /// has besides it what exec starts.
    pub fn set(outer: &'static str, [inner, shown]: [&'static str; 2], swap_bytes: u64) -> io::Result<Self> {
        let (total, available) = guest_memory()?;
        let (limit, margin) = limit_of(total, available);
        let memory = Self { outer, inner, shown, limit, margin };
        memory.write(limit)?;
        if swap_bytes > 0 {
            for group in [inner, shown] {
                fs::write(format!("{group}/memory.swap.max"), swap_bytes.to_string())?;
            }
        }
        Ok(memory)
    }

    fn write(&self, limit: u64) -> io::Result<()> {
        fs::write(format!("{}/memory.max", self.outer), (limit + self.margin).to_string())?;
        fs::write(format!("{}/memory.max", self.inner), limit.to_string())?;
        fs::write(format!("{}/memory.max", self.shown), limit.to_string())
    }

    /// Takes `returned` bytes of what there was at boot away from the workload. What it uses, or what exec has
    /// started beside it, and cannot do without is not taken: the limit then stays as it is.
    pub fn change(&self, returned: u64) -> Result<(), MemoryLimitError> {
        let limit = self.limit.saturating_sub(returned);
        if limit < LEAST_LIMIT_BYTES {
            return Err(MemoryLimitError::TooLittle { limit });
        }
        let result = match self.reclaim(limit) {
            Ok(None) => self.write(limit).map_err(MemoryLimitError::from),
            Ok(Some(excess)) => Err(excess),
            Err(error) => Err(error.into()),
        };
        let unset = [self.inner, self.outer].map(|group| fs::write(format!("{group}/memory.high"), "max"));
        unset.into_iter().collect::<io::Result<()>>()?;
        result
    }

    /// Has the kernel reclaim what is beyond `limit`; returns what it cannot. Setting memory.max would kill at once
    /// for what does not fit, memory.high only reclaims.
    fn reclaim(&self, limit: u64) -> io::Result<Option<MemoryLimitError>> {
        let groups = [(self.inner, limit), (self.outer, limit + self.margin)];
        let mut excess = None;
        for attempt in 0..RECLAIM_ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(RECLAIM_PAUSE);
            }
            excess = None;
            for (group, limit) in groups {
                fs::write(format!("{group}/memory.high"), limit.to_string())?;
                let used = read_number(&format!("{group}/memory.current")).unwrap_or(0);
                if used > limit {
                    excess.get_or_insert(MemoryLimitError::InUse { used, limit });
                }
            }
            if excess.is_none() {
                break;
            }
        }
        Ok(excess)
    }
}

/// The workload's limit, and the margin beyond it.
fn limit_of(total: u64, available: u64) -> (u64, u64) {
    let reserve = (total / RESERVED_PART).max(LEAST_RESERVE_BYTES);
    (available.saturating_sub(reserve).max(LEAST_LIMIT_BYTES), reserve / 2)
}

/// What the guest's kernel manages, and what of it is to be had, in bytes; proc_meminfo(5).
pub fn guest_memory() -> io::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo")?;
    parse_memory(&text).ok_or_else(|| io::Error::other("/proc/meminfo tells no memory"))
}

fn parse_memory(text: &str) -> Option<(u64, u64)> {
    let kib = |key: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((kib("MemTotal:")?.checked_mul(1024)?, kib("MemAvailable:")?.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_of_the_memory_stays_the_guests() {
        let mib = |count: u64| count << 20;
        assert_eq!(limit_of(mib(128), mib(100)), (mib(92), mib(4)));
        assert_eq!(limit_of(mib(1024), mib(1000)), (mib(968), mib(16)));
        assert_eq!(limit_of(mib(16), mib(6)), (LEAST_LIMIT_BYTES, mib(4)), "never too little to start");
    }

    #[test]
    fn meminfo_is_in_kib() {
        let text = "MemTotal:         480000 kB\nMemFree:  5 kB\nMemAvailable:     400000 kB\n";
        assert_eq!(parse_memory(text), Some((480_000 << 10, 400_000 << 10)));
        assert_eq!(parse_memory("MemTotal: 1 kB\n"), None);
    }
}
