//! Ethernet frames in a stream, and those that wait to go on. In a stream each frame comes after its length,
//! as QEMU's `-netdev socket` and passt have it:
//!
//! ```text
//!   u32, big endian  length of the frame
//!   ...              the frame
//! ```
//!
//! One buffer holds the frames of one direction. They are checked and sent where they have been received:
//!
//! ```text
//!   0        start                  checked                    end         room
//!   │ sent   │ rest of a frame begun │ frames that may be sent  │ part of a frame │
//! ```

use crate::filter::ETHERNET_HEADER_BYTES;

pub const PREFIX_BYTES: usize = 4;
pub const MIN_FRAME_BYTES: usize = ETHERNET_HEADER_BYTES;
/// A whole IPv4 packet, which the host's kernel will only cut up afterwards.
pub const MAX_FRAME_BYTES: usize = ETHERNET_HEADER_BYTES + 65_535;
/// The room that any frame has place in.
pub const MAX_ENTRY_BYTES: usize = PREFIX_BYTES + MAX_FRAME_BYTES;

/// Memory that is kept when nothing waits; more than that goes back to the kernel.
const KEPT_BYTES: usize = 256 * 1024;

/// The frames of one direction, in bounded memory.
#[derive(Debug)]
pub struct Frames {
    bytes: Box<[u8]>,
    start: usize,
    /// How many bytes from `start` are the rest of a frame that has been sent in part.
    begun: usize,
    checked: usize,
    end: usize,
}

impl Frames {
    /// At least one frame must fit in.
    pub fn new(capacity: usize) -> Self {
        debug_assert!(capacity >= MAX_ENTRY_BYTES);
        Self { bytes: vec![0; capacity].into(), start: 0, begun: 0, checked: 0, end: 0 }
    }

    /// Whether there is something to send.
    pub const fn waiting(&self) -> bool {
        self.start < self.checked
    }

    /// Where to receive; say with [`Frames::received`] how much it was. A frame has place in it unless others
    /// wait.
    pub fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.end < MAX_ENTRY_BYTES {
            self.move_down();
        }
        &mut self.bytes[self.end..]
    }

    pub fn received(&mut self, count: usize) {
        self.end += count;
    }

    /// Drops the oldest frames that have not been begun, if that takes it, so that a frame has place.
    pub fn make_room(&mut self) {
        if self.room().len() >= MAX_ENTRY_BYTES {
            return;
        }
        // Some more than that, not to move everything again for each frame.
        let wanted = self.bytes.len() / 4;
        let first = self.start + self.begun;
        let mut kept = first;
        while let Some(next) = self.frame_end(kept)
            && kept - first < wanted
        {
            kept = next;
        }
        self.copy_down(kept, first);
        self.checked -= kept - first;
        self.end -= kept - first;
    }

    /// Looks at what has been received, and takes out the frames that do not pass. An error when a length is
    /// impossible: nothing says where the next frame begins then.
    pub fn check(&mut self, passes: impl Fn(&[u8]) -> bool) -> Result<(), String> {
        let (mut from, mut to) = (self.checked, self.checked);
        while let Some(length) = self.length_at(from) {
            if !(MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&length) {
                return Err(format!(
                    "a frame of {length} bytes, expected {MIN_FRAME_BYTES} to {MAX_FRAME_BYTES}"
                ));
            }
            let next = from + PREFIX_BYTES + length;
            if next > self.end {
                break;
            }
            if passes(&self.bytes[from + PREFIX_BYTES..next]) {
                if to < from {
                    self.bytes.copy_within(from..next, to);
                }
                to += next - from;
            }
            from = next;
        }
        self.copy_down(from, to);
        self.checked = to;
        self.end -= from - to;
        Ok(())
    }

    /// What to send next in one piece: the rest of a frame begun, or else as many whole frames as fit into
    /// `limit`, and one at least.
    pub fn piece(&self, limit: usize) -> &[u8] {
        if self.begun > 0 {
            return &self.bytes[self.start..self.start + self.begun];
        }
        let mut end = self.start;
        while let Some(next) = self.frame_end(end)
            && (end == self.start || next - self.start <= limit)
        {
            end = next;
        }
        &self.bytes[self.start..end]
    }

    /// Says how much of [`Frames::piece`] has been sent.
    pub fn sent(&mut self, count: usize) {
        let sent = self.start + count;
        let mut boundary = self.start + self.begun;
        while boundary < sent
            && let Some(next) = self.frame_end(boundary)
        {
            boundary = next;
        }
        self.begun = boundary - sent;
        self.start = sent;
        if self.start == self.end {
            self.begin_anew();
        }
    }

    /// What is empty begins at the front, in the memory that is there already. What a burst needed is given
    /// back.
    fn begin_anew(&mut self) {
        if self.end > KEPT_BYTES {
            *self = Self::new(self.bytes.len());
        }
        (self.start, self.checked, self.end) = (0, 0, 0);
    }

    /// The end of the checked frame that begins at `position`.
    fn frame_end(&self, position: usize) -> Option<usize> {
        if position >= self.checked {
            return None;
        }
        self.length_at(position).map(|length| position + PREFIX_BYTES + length)
    }

    fn length_at(&self, position: usize) -> Option<usize> {
        let prefix = self.bytes[position..self.end].first_chunk::<PREFIX_BYTES>()?;
        usize::try_from(u32::from_be_bytes(*prefix)).ok()
    }

    fn move_down(&mut self) {
        self.copy_down(self.start, 0);
        self.checked -= self.start;
        self.end -= self.start;
        self.start = 0;
    }

    /// Moves all from `from` on, which for no distance at all would not be free.
    fn copy_down(&mut self, from: usize, to: usize) {
        if to < from {
            self.bytes.copy_within(from..self.end, to);
        }
    }
}

/// The prefix of a frame whose length has been checked.
pub fn prefix(length: usize) -> [u8; PREFIX_BYTES] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(fill: u8, length: usize) -> Vec<u8> {
        let mut bytes = prefix(length).to_vec();
        bytes.resize(PREFIX_BYTES + length, fill);
        bytes
    }

    fn receive(frames: &mut Frames, bytes: &[u8]) {
        frames.room()[..bytes.len()].copy_from_slice(bytes);
        frames.received(bytes.len());
    }

    /// Everything that may be sent, in pieces of at most `limit`, of which at most `taken` is taken at once.
    fn send_all(frames: &mut Frames, limit: usize, taken: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while frames.waiting() {
            let count = frames.piece(limit).len().min(taken);
            all.extend_from_slice(&frames.piece(limit)[..count]);
            frames.sent(count);
        }
        all
    }

    #[test]
    fn frames_survive_any_division_of_the_stream() {
        let stream = [entry(1, 14), entry(2, 60), entry(3, 15), entry(4, 1514)].concat();
        for part in [1, 2, 3, 4, 5, 17, 18, 19, 100, stream.len()] {
            for taken in [1, 3, 64, stream.len()] {
                let mut frames = Frames::new(MAX_ENTRY_BYTES);
                let mut all = Vec::new();
                for bytes in stream.chunks(part) {
                    receive(&mut frames, bytes);
                    frames.check(|_| true).unwrap();
                    all.extend(send_all(&mut frames, 100, taken));
                }
                assert_eq!(all, stream, "in parts of {part}, out in {taken}");
            }
        }
    }

    #[test]
    fn what_does_not_pass_is_taken_out_and_nothing_else() {
        let stream =
            [entry(9, 14), entry(1, 20), entry(9, 100), entry(9, 14), entry(2, 30), entry(9, 14)].concat();
        for part in [1, 7, 33, stream.len()] {
            let mut frames = Frames::new(MAX_ENTRY_BYTES);
            for bytes in stream.chunks(part) {
                receive(&mut frames, bytes);
                frames.check(|frame| frame[0] != 9).unwrap();
            }
            assert_eq!(
                send_all(&mut frames, 1, 5),
                [entry(1, 20), entry(2, 30)].concat(),
                "in parts of {part}"
            );
        }
    }

    #[test]
    fn nothing_is_sent_that_has_not_been_checked() {
        let mut frames = Frames::new(MAX_ENTRY_BYTES);
        receive(&mut frames, &entry(1, 14));
        assert!(!frames.waiting());
        assert!(frames.piece(100).is_empty());
        frames.check(|_| true).unwrap();
        receive(&mut frames, &entry(2, 14)[..17]);
        frames.check(|_| true).unwrap();
        assert_eq!(send_all(&mut frames, 100, 100), entry(1, 14));
    }

    #[test]
    fn lengths_have_limits() {
        for (length, accepted) in
            [(0, false), (13, false), (14, true), (65_549, true), (65_550, false), (u32::MAX, false)]
        {
            let mut frames = Frames::new(MAX_ENTRY_BYTES);
            receive(&mut frames, &length.to_be_bytes());
            let result = frames.check(|_| true);
            if accepted {
                result.unwrap();
            } else {
                let message = format!("a frame of {length} bytes, expected 14 to 65549");
                assert_eq!(result.unwrap_err(), message);
            }
        }
        let mut frames = Frames::new(MAX_ENTRY_BYTES);
        receive(&mut frames, &entry(1, MAX_FRAME_BYTES));
        frames.check(|_| true).unwrap();
        assert_eq!(frames.piece(1).len(), MAX_ENTRY_BYTES);
    }

    #[test]
    fn a_piece_has_whole_frames_up_to_its_limit() {
        let mut frames = Frames::new(MAX_ENTRY_BYTES);
        receive(&mut frames, &[entry(1, 16), entry(2, 16), entry(3, 16)].concat());
        frames.check(|_| true).unwrap();
        for (limit, length) in [(0, 20), (20, 20), (39, 20), (40, 40), (59, 40), (60, 60), (1000, 60)] {
            assert_eq!(frames.piece(limit).len(), length, "{limit}");
        }
        // The rest of a frame begun goes alone.
        frames.sent(21);
        assert_eq!(frames.piece(1000).len(), 19);
        frames.sent(19);
        assert_eq!(frames.piece(1000), entry(3, 16));
    }

    #[test]
    fn a_full_buffer_drops_its_oldest_whole_frames() {
        let mut frames = Frames::new(2 * MAX_ENTRY_BYTES);
        let mut last = 0;
        for fill in 0..200 {
            frames.make_room();
            receive(&mut frames, &entry(fill, 1000));
            frames.check(|_| true).unwrap();
            if fill == 0 {
                frames.sent(1);
            }
            last = fill;
        }
        // The one that had been begun goes on, and the newest is there.
        let all = send_all(&mut frames, 1, 10_000);
        assert_eq!(all[..1003], entry(0, 1000)[1..]);
        let kept: Vec<u8> = all[1003..].chunks(1004).map(|entry| entry[PREFIX_BYTES]).collect();
        assert!(kept.len() < 131 && kept.is_sorted() && kept.last() == Some(&last), "{kept:?}");
        assert!(kept.windows(2).all(|pair| pair[1] - pair[0] == 1));
    }

    #[test]
    fn part_of_a_frame_is_kept_while_others_are_dropped() {
        let mut frames = Frames::new(MAX_ENTRY_BYTES);
        let stream: Vec<u8> = (0..250).flat_map(|fill| entry(fill, 1000)).collect();
        for bytes in stream.chunks(999) {
            frames.make_room();
            receive(&mut frames, bytes);
            frames.check(|_| true).unwrap();
        }
        let all = send_all(&mut frames, 1, 10_000);
        assert_eq!(all[all.len() - 1004..], entry(249, 1000));
    }
}
