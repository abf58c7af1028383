//! Waiting for devices: a driver may still be probing one when the module is loaded.

use std::time::{Duration, Instant};

/// How long a device may take to appear after the modules are loaded.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Asks until the device is there, at least once; false when it is not within `limit`.
pub fn appears(limit: Duration, is_there: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_micros(200);
    while !is_there() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_device_may_come_after_a_while_or_never() {
        let looks = Cell::new(0);
        let third_time = || {
            looks.set(looks.get() + 1);
            looks.get() == 3
        };
        assert!(appears(DEADLINE, third_time));
        assert!(appears(Duration::ZERO, || true));
        assert!(!appears(Duration::ZERO, || false));
    }
}
