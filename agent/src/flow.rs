//! Holding the workload back while somebody reads its output more slowly than it writes. The output ring keeps
//! the newest; a reader who says how far it has come loses nothing, because the ring is not overwritten under it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the workload is held back for a reader who was announced and has not come.
const READER_DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct State {
    /// End of what has been written.
    head: u64,
    /// Readers by number, with the position up to which each has taken.
    readers: Vec<(u64, u64)>,
    last_reader: u64,
    /// Where a reader who is still to come will begin.
    awaited: Option<u64>,
    /// Nobody is waited for any more.
    released: bool,
}

/// How far the output has been written, and taken.
#[derive(Debug)]
pub struct Flow {
    state: Mutex<State>,
    changed: Condvar,
    /// Bytes that may be written ahead of the slowest reader.
    limit: u64,
}

/// One who has joined; leaves when dropped.
#[derive(Debug)]
pub struct Reader {
    flow: Arc<Flow>,
    number: u64,
    /// Where its output begins.
    pub position: u64,
}

impl Flow {
    /// `head` is where the ring stands, `awaits_reader` whether somebody will read from there.
    pub fn new(capacity: u64, head: u64, awaits_reader: bool) -> Arc<Self> {
        let state = State { head, awaited: awaits_reader.then_some(head), ..State::default() };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), limit: capacity / 2 })
    }

    /// Says that everything up to `head` is on the drive, and waits until more may be written.
    pub fn wrote(&self, head: u64) {
        let mut state = self.lock();
        state.head = head;
        let mut deadline = None;
        while let Some(slowest) = state.slowest()
            && head.saturating_sub(slowest) >= self.limit
        {
            let now = Instant::now();
            // The deadline is for those who never come; whoever is there may take all day.
            let until = *deadline.get_or_insert(now + READER_DEADLINE);
            if state.awaited.is_some() && now >= until {
                state.awaited = None;
                continue;
            }
            let patience = if state.awaited.is_some() { until - now } else { READER_DEADLINE };
            let waited = self.changed.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Joins as a reader, from `position` or from what is written next.
    pub fn join(self: &Arc<Self>, position: Option<u64>) -> Reader {
        let mut state = self.lock();
        let position = position.map_or(state.head, |position| position.min(state.head));
        state.last_reader += 1;
        let number = state.last_reader;
        state.readers.push((number, position));
        state.awaited = None;
        drop(state);
        // What was held back for the awaited reader is held back for this one now, or no more.
        self.changed.notify_all();
        Reader { flow: Arc::clone(self), number, position }
    }

    /// From here on nothing is held back.
    pub fn release(&self) {
        self.lock().released = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The position that may not be overwritten; `None` when nobody cares.
    fn slowest(&self) -> Option<u64> {
        if self.released {
            return None;
        }
        self.readers.iter().map(|&(_, position)| position).chain(self.awaited).min()
    }
}

impl Reader {
    /// Says how far it has come. Nobody goes back.
    pub fn taken(&self, position: u64) {
        let mut state = self.flow.lock();
        let head = state.head;
        for (number, taken) in &mut state.readers {
            if *number == self.number {
                *taken = position.clamp(*taken, head);
            }
        }
        drop(state);
        self.flow.changed.notify_all();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.flow.lock().readers.retain(|&(number, _)| number != self.number);
        self.flow.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    /// Writes up to `head` in a thread of its own; the receiver hears when more may be written.
    fn write(flow: &Arc<Flow>, head: u64) -> mpsc::Receiver<()> {
        let (done, written) = mpsc::channel();
        let flow = Arc::clone(flow);
        thread::spawn(move || {
            flow.wrote(head);
            // The test may have ended.
            let _ = done.send(());
        });
        written
    }

    fn is_held(written: &mpsc::Receiver<()>) -> bool {
        written.recv_timeout(Duration::from_millis(50)).is_err()
    }

    #[test]
    fn nobody_holds_back_what_nobody_reads() {
        let flow = Flow::new(1000, 0, false);
        flow.wrote(1 << 40);
    }

    #[test]
    fn the_slowest_reader_counts_until_it_leaves() {
        let flow = Flow::new(1000, 0, false);
        let (slow, fast) = (flow.join(None), flow.join(None));
        flow.wrote(499);
        let written = write(&flow, 500);
        assert!(is_held(&written));
        fast.taken(500);
        assert!(is_held(&written));
        slow.taken(1);
        written.recv().unwrap();
        let written = write(&flow, 900);
        assert!(is_held(&written));
        drop(slow);
        written.recv().unwrap();
    }

    #[test]
    fn an_awaited_reader_takes_over_from_where_it_was_awaited() {
        let flow = Flow::new(1000, 7, true);
        let written = write(&flow, 600);
        assert!(is_held(&written));
        let reader = flow.join(Some(7));
        assert_eq!(reader.position, 7);
        assert!(is_held(&written));
        reader.taken(u64::MAX);
        written.recv().unwrap();
        assert_eq!(flow.join(None).position, 600, "from now on");
        assert_eq!(flow.join(Some(u64::MAX)).position, 600, "nobody is ahead of the writer");
    }

    #[test]
    fn a_release_lets_everything_through() {
        let flow = Flow::new(1000, 0, true);
        let reader = flow.join(Some(0));
        let written = write(&flow, 5000);
        assert!(is_held(&written));
        flow.release();
        written.recv().unwrap();
        drop(reader);
    }
}
