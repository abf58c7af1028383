//! When the workload's output is taken from its pipes, and when it is written.
//!
//! A write to the drive costs the guest two exits to its VMM, however little it carries, and taking each line as
//! it comes costs two changes of the running thread. So what comes after a silence is written at once, what
//! follows it soon waits for more of its kind, and a flood is even left in its pipe meanwhile.

use std::time::{Duration, Instant};

/// How long output waits at most that follows other output.
const INTERVAL: Duration = Duration::from_millis(10);
/// The same for a flood. It is not seen at a terminal, and no more than this is lost when the guest crashes.
const LONGEST_HOLD: Duration = Duration::from_millis(50);
/// Waiting less is not worth the timer.
const SHORTEST_HOLD: Duration = Duration::from_micros(250);
/// What an interval must have brought, of one stream, to be a flood.
const FLOOD_BYTES: usize = 16 * 1024;

#[derive(Debug)]
pub struct Pace {
    /// What a source holds before its writer has to wait.
    room: usize,
    written_at: Option<Instant>,
    /// What has been taken since then, of each stream.
    taken: [usize; 2],
    /// For how long the sources may be left alone without one of them becoming full: found out from nothing, so that
    /// the start of a flood, or the screen of a program at a terminal, is not held up.
    hold: Duration,
    is_flood: bool,
}

impl Pace {
    /// For sources that hold `room` bytes each.
    pub fn new(room: usize) -> Self {
        Self { room, written_at: None, taken: [0; 2], hold: Duration::ZERO, is_flood: false }
    }

    /// How long what has been taken may still wait for more.
    pub fn patience(&self, now: Instant) -> Duration {
        self.written_at.map_or(Duration::ZERO, |then| (then + INTERVAL).saturating_duration_since(now))
    }

    /// How long the sources are best left alone before they are read. With both streams busy not at all: the
    /// order in which they came would be lost.
    pub fn hold(&self) -> Duration {
        if self.is_flood { self.hold } else { Duration::ZERO }
    }

    /// Counts what a round of reads has taken from each stream.
    pub fn took(&mut self, bytes: [usize; 2]) {
        if self.is_flood {
            self.fit_hold(bytes[0] + bytes[1]);
        }
        self.taken[0] += bytes[0];
        self.taken[1] += bytes[1];
    }

    /// Everything taken is on the drive.
    pub fn wrote(&mut self, now: Instant) {
        let [one, other] = self.taken;
        let recent = INTERVAL + LONGEST_HOLD;
        let soon = self.written_at.is_some_and(|then| now.saturating_duration_since(then) < recent);
        self.is_flood = soon && one.max(other) >= FLOOD_BYTES.min(self.room / 2) && one.min(other) == 0;
        self.written_at = Some(now);
        self.taken = [0; 2];
    }

    /// A source that was half full might have been full, had it been left a little longer.
    fn fit_hold(&mut self, bytes: usize) {
        if bytes >= self.room / 2 {
            self.hold /= 2;
            if self.hold < SHORTEST_HOLD {
                self.hold = Duration::ZERO;
            }
        } else if bytes < self.room / 4 {
            self.hold = (self.hold * 2).clamp(SHORTEST_HOLD, LONGEST_HOLD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 512 * 1024;

    /// A stream of `bytes_per_ms` on stdout for `ms`; returns how often it was written, and the longest hold.
    fn run(pace: &mut Pace, start: Instant, bytes_per_ms: usize, ms: u64) -> (usize, Duration) {
        let mut now = start;
        let (mut writes, mut longest) = (0, Duration::ZERO);
        while now < start + Duration::from_millis(ms) {
            let step = pace.hold().max(SHORTEST_HOLD);
            longest = longest.max(pace.hold());
            now += step;
            let bytes = bytes_per_ms * usize::try_from(step.as_micros()).unwrap() / 1000;
            pace.took([bytes.min(ROOM), 0]);
            if pace.patience(now).is_zero() || bytes >= ROOM {
                pace.wrote(now);
                writes += 1;
            }
        }
        (writes, longest)
    }

    #[test]
    fn what_comes_after_a_silence_is_written_at_once() {
        let mut pace = Pace::new(ROOM);
        let start = Instant::now();
        assert_eq!(pace.patience(start), Duration::ZERO);
        pace.took([5, 0]);
        pace.wrote(start);
        assert_eq!(pace.patience(start + Duration::from_millis(4)), Duration::from_millis(6));
        assert_eq!(pace.patience(start + Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(pace.hold(), Duration::ZERO);
    }

    #[test]
    fn lines_are_taken_as_they_come_and_written_together() {
        let (writes, longest) = run(&mut Pace::new(ROOM), Instant::now(), 800, 1000);
        assert!((90..=101).contains(&writes), "{writes}");
        assert_eq!(longest, Duration::ZERO);
    }

    #[test]
    fn a_flood_stays_in_its_pipe() {
        let (writes, longest) = run(&mut Pace::new(ROOM), Instant::now(), 2_000, 1000);
        assert!((19..=25).contains(&writes), "{writes}");
        assert_eq!(longest, LONGEST_HOLD);
    }

    #[test]
    fn a_pipe_does_not_stay_full() {
        let mut pace = Pace::new(ROOM);
        let start = Instant::now();
        run(&mut pace, start, 100_000, 100);
        assert!(pace.hold() * 100_000 < Duration::from_millis(ROOM as u64), "{:?}", pace.hold());
        // A flood that becomes a stream may wait longer again.
        run(&mut pace, start + Duration::from_millis(100), 2_000, 400);
        assert_eq!(pace.hold(), LONGEST_HOLD);
    }

    #[test]
    fn two_streams_keep_their_order() {
        let mut pace = Pace::new(ROOM);
        let start = Instant::now();
        for round in 0..4 {
            pace.took([100_000, 1]);
            pace.wrote(start + INTERVAL * round);
        }
        assert_eq!(pace.hold(), Duration::ZERO);
        for round in 4..8 {
            pace.took([100_000, 0]);
            pace.wrote(start + INTERVAL * round);
        }
        assert!(pace.hold() > Duration::ZERO);
    }
}
