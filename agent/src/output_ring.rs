//! The output ring of docs/control-drive.md: framed records of the workload's output, the newest kept.
//!
//! A device takes whole sectors only. The last, partly filled sector therefore stays in memory and is written
//! again with what follows; rounding up to a sector overwrites at most 511 bytes of the oldest records, which
//! the tail accounts for like any other overwriting.

use std::collections::VecDeque;
use std::io;

use crate::control_drive::{BLOCK_BYTES, Region, u32_at, u64_at};
use crate::storage::{AlignedBuffer, SECTOR_BYTES, Storage};

pub const RECORD_HEADER_BYTES: usize = 20;
pub const MAX_PAYLOAD_BYTES: usize = 65536;
/// Room for several full records: the larger a batch, the fewer writes, but all of it is resident memory.
const MAX_BATCH_BYTES: usize = 320 * 1024;
const SECTOR: u64 = SECTOR_BYTES as u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    Stdout = 1,
    Stderr = 2,
}

/// Collects records into a batch and writes it. One writer at a time owns the region.
#[derive(Debug)]
pub struct OutputRing<S> {
    storage: S,
    header_offset: u64,
    ring_offset: u64,
    capacity: u64,
    head: u64,
    tail: u64,
    /// Positions at which a record begins, ascending, some way apart: where the tail may move to.
    checkpoints: VecDeque<u64>,
    checkpoint_spacing: u64,
    /// Bytes from `batch_position`, the start of head's sector, on; `filled` of them are in use.
    batch: AlignedBuffer,
    batch_position: u64,
    filled: usize,
    batch_limit: usize,
    header: AlignedBuffer,
}

impl<S: Storage> OutputRing<S> {
    /// Takes over the ring at `region`: empty when its header is blank or invalid, else what an earlier boot
    /// wrote stays until it is overwritten.
    pub fn open(mut storage: S, region: Region) -> io::Result<Self> {
        let mut header = AlignedBuffer::new(BLOCK_BYTES);
        storage.read_at(&mut header.as_mut_slice()[..SECTOR_BYTES], region.offset)?;
        let capacity = region.length - BLOCK_BYTES as u64;
        let (head, tail) = decode_header(header.as_slice(), capacity).unwrap_or((0, 0));
        // A batch takes at most a quarter of the ring, so that moving the tail ahead of it keeps the rest.
        let batch_limit =
            usize::try_from(capacity / 4).map_or(MAX_BATCH_BYTES, |most| most.min(MAX_BATCH_BYTES));
        let mut ring = Self {
            storage,
            header_offset: region.offset,
            ring_offset: region.offset + BLOCK_BYTES as u64,
            capacity,
            head,
            tail,
            checkpoints: VecDeque::from([head]),
            checkpoint_spacing: (capacity / 1024).max(64),
            batch: AlignedBuffer::new(batch_limit + 2 * SECTOR_BYTES),
            batch_position: head - head % SECTOR,
            filled: usize::try_from(head % SECTOR).unwrap_or(0),
            batch_limit,
            header,
        };
        if ring.filled > 0 {
            let offset = ring.ring_offset + ring.batch_position % capacity;
            ring.storage.read_at(&mut ring.batch.as_mut_slice()[..SECTOR_BYTES], offset)?;
        }
        Ok(ring)
    }

    /// Where the next payload may be read into; empty when the batch must be written first.
    pub fn payload_space(&mut self) -> &mut [u8] {
        let start = self.filled + RECORD_HEADER_BYTES;
        let end = (start + MAX_PAYLOAD_BYTES).min(self.batch_limit + SECTOR_BYTES);
        self.batch.as_mut_slice().get_mut(start..end).unwrap_or_default()
    }

    /// Makes a record of the first `length` bytes (at least one) of [`OutputRing::payload_space`].
    pub fn push(&mut self, stream: Stream, time_unix_ns: i64, length: usize) {
        let position = self.batch_position + self.filled as u64;
        if self.checkpoints.back().is_none_or(|last| position - last >= self.checkpoint_spacing) {
            self.checkpoints.push_back(position);
        }
        let record = &mut self.batch.as_mut_slice()[self.filled..self.filled + RECORD_HEADER_BYTES + length];
        let (header, payload) = record.split_at_mut(RECORD_HEADER_BYTES);
        header.fill(0);
        header[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        header[4] = stream as u8;
        header[8..16].copy_from_slice(&time_unix_ns.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&header[..16]), payload);
        header[16..].copy_from_slice(&crc.to_le_bytes());
        self.filled += record.len();
    }

    /// Where the next record begins, once everything pending is written.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// How many bytes of records the ring holds.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether records wait to be written.
    pub fn has_pending(&self) -> bool {
        self.batch_position + self.filled as u64 > self.head
    }

    /// Writes the batch. The tail has moved past whatever it overwrites before the first byte does so.
    pub fn flush(&mut self) -> io::Result<()> {
        if !self.has_pending() {
            return Ok(());
        }
        let new_head = self.batch_position + self.filled as u64;
        let padded = self.filled.next_multiple_of(SECTOR_BYTES);
        if self.move_tail(self.batch_position + padded as u64) {
            self.write_header()?;
        }
        self.write_batch(padded)?;
        self.keep_partial_sector();
        self.head = new_head;
        // The next batch's room is made together with the announcement of this one: one header, not two.
        self.move_tail((new_head + self.batch_limit as u64 + SECTOR).next_multiple_of(SECTOR));
        self.write_header()
    }

    /// Drops the oldest records that writing up to `end` overwrites. Returns whether there were any.
    fn move_tail(&mut self, end: u64) -> bool {
        let oldest = end.saturating_sub(self.capacity);
        if self.tail >= oldest {
            return false;
        }
        while self.checkpoints.front().is_some_and(|&position| position < oldest) {
            self.checkpoints.pop_front();
        }
        // What is not yet announced is no tail: the ring is then empty up to the head.
        self.tail = self.checkpoints.front().map_or(self.head, |&position| position.min(self.head));
        true
    }

    fn write_batch(&mut self, padded: usize) -> io::Result<()> {
        let within = self.batch_position % self.capacity;
        let until_end = usize::try_from(self.capacity - within).unwrap_or(usize::MAX);
        let (first, second) = self.batch.as_slice()[..padded].split_at(padded.min(until_end));
        self.storage.write_at(first, self.ring_offset + within)?;
        if second.is_empty() {
            return Ok(());
        }
        self.storage.write_at(second, self.ring_offset)
    }

    fn keep_partial_sector(&mut self) {
        let whole = self.filled - self.filled % SECTOR_BYTES;
        self.batch.as_mut_slice().copy_within(whole..self.filled, 0);
        self.batch_position += whole as u64;
        self.filled -= whole;
    }

    fn write_header(&mut self) -> io::Result<()> {
        let bytes = self.header.as_mut_slice();
        bytes[..8].copy_from_slice(&self.head.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.tail.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        self.storage.write_at(&self.header.as_slice()[..SECTOR_BYTES], self.header_offset)
    }
}

/// Head and tail, when the header is valid and they make sense together.
fn decode_header(bytes: &[u8], capacity: u64) -> Option<(u64, u64)> {
    let (head, tail) = (u64_at(bytes, 0), u64_at(bytes, 8));
    let valid = crc32c::crc32c(&bytes[..16]) == u32_at(bytes, 16);
    // Positions never come near 2^63: that would take centuries of output.
    (valid && tail <= head && head - tail <= capacity && head < 1 << 62).then_some((head, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::storage::memory::MemoryStorage;

    const RING: usize = 64 * 1024;
    const REGION: Region = Region { offset: 0, length: (BLOCK_BYTES + RING) as u64 };

    fn drive() -> MemoryStorage {
        MemoryStorage(vec![0; BLOCK_BYTES + RING])
    }

    fn payload(number: usize, length: usize) -> Vec<u8> {
        (0..length).map(|index| (number * 7 + index).to_le_bytes()[0]).collect()
    }

    fn push(ring: &mut OutputRing<MemoryStorage>, number: usize, length: usize) {
        let stream = if number.is_multiple_of(3) { Stream::Stderr } else { Stream::Stdout };
        if ring.payload_space().len() < length {
            ring.flush().unwrap();
        }
        ring.payload_space()[..length].copy_from_slice(&payload(number, length));
        ring.push(stream, 1_700_000_000_000_000_000 + i64::try_from(number).unwrap(), length);
    }

    /// Numbers and lengths of all records on the drive, after checking that each is whole.
    fn records(drive: &MemoryStorage) -> Vec<(usize, usize)> {
        let (head, tail) = decode_header(&drive.0[..], RING as u64).unwrap();
        let at = |position: u64| drive.0[BLOCK_BYTES + usize::try_from(position).unwrap() % RING];
        let bytes: Vec<u8> = (tail..head).map(at).collect();
        let mut rest = &bytes[..];
        let mut found = Vec::new();
        while !rest.is_empty() {
            let length = u32_at(rest, 0) as usize;
            let number = usize::try_from(u64_at(rest, 8) - 1_700_000_000_000_000_000).unwrap();
            let (record, next) = rest.split_at(RECORD_HEADER_BYTES + length);
            assert_eq!(record[RECORD_HEADER_BYTES..], payload(number, length), "record {number}");
            let crc = crc32c::crc32c_append(crc32c::crc32c(&record[..16]), &record[20..]);
            assert_eq!(u32_at(record, 16), crc, "record {number}");
            found.push((number, length));
            rest = next;
        }
        found
    }

    #[test]
    fn the_newest_records_are_whole_after_every_flush() {
        let mut ring = OutputRing::open(drive(), REGION).unwrap();
        let mut seed = 1_u32;
        for number in 1..1500 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = 1 + (seed >> 8) as usize % if number % 50 == 0 { 9000 } else { 300 };
            push(&mut ring, number, length);
            if seed >> 30 != 0 {
                continue;
            }
            ring.flush().unwrap();
            let found = records(&ring.storage);
            let first = found.first().unwrap().0;
            assert!(found.iter().map(|record| record.0).eq(first..=number), "after {number}");
            let kept: usize = found.iter().map(|record| record.1 + RECORD_HEADER_BYTES).sum();
            assert!(first == 1 || kept > RING / 2, "{kept} bytes kept after {number}");
        }
    }

    #[test]
    fn a_ring_that_wraps_has_its_golden_bytes() {
        let mut ring = OutputRing::open(drive(), REGION).unwrap();
        for number in 0..150 {
            push(&mut ring, number, 1 + number * 397 % 1500);
            if number % 4 == 0 {
                ring.flush().unwrap();
            }
        }
        ring.flush().unwrap();
        assert!(ring.head > RING as u64 && ring.tail > 0);
        golden::check("output-ring.bin", &ring.storage.0);
    }

    #[test]
    fn a_second_boot_continues_where_the_first_ended() {
        for first_length in [1, 491, 492, 493, 700] {
            let mut ring = OutputRing::open(drive(), REGION).unwrap();
            push(&mut ring, 0, first_length);
            ring.flush().unwrap();
            let mut ring = OutputRing::open(ring.storage, REGION).unwrap();
            push(&mut ring, 1, 10);
            ring.flush().unwrap();
            assert_eq!(records(&ring.storage), [(0, first_length), (1, 10)]);
        }
    }

    #[test]
    fn a_header_that_makes_no_sense_is_an_empty_ring() {
        let header = |head: u64, tail: u64| {
            let mut bytes = [0; 20];
            bytes[..8].copy_from_slice(&head.to_le_bytes());
            bytes[8..16].copy_from_slice(&tail.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..16]);
            bytes[16..].copy_from_slice(&crc.to_le_bytes());
            decode_header(&bytes, 4096)
        };
        assert_eq!(header(4096, 0), Some((4096, 0)));
        assert_eq!(header(4097, 0), None);
        assert_eq!(header(1, 2), None);
        assert_eq!(header(1 << 62, 1 << 62), None);
        assert_eq!(decode_header(&[1; 20], 4096), None);
    }

    #[test]
    fn space_is_offered_until_the_batch_is_full() {
        let mut ring = OutputRing::open(drive(), REGION).unwrap();
        let mut total = 0;
        while !ring.payload_space().is_empty() {
            let length = ring.payload_space().len();
            total += length;
            ring.push(Stream::Stdout, 0, length);
        }
        assert!((RING / 8..RING / 2).contains(&total), "{total}");
        ring.flush().unwrap();
        assert!(!ring.payload_space().is_empty());
    }
}
