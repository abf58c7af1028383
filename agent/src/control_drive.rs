//! The control drive's format, as docs/control-drive.md draws it: superblock, spec and status slots.
//! Pure encoding and decoding; the output ring is in `output_ring`.

use prost::Message;
use thiserror::Error;

use crate::proto::{VmSpec, VmStatus};

pub const BLOCK_BYTES: usize = 4096;

const MAGIC: [u8; 8] = *b"FIRECTL\0";
const VERSION: u32 = 1;
const SUPERBLOCK_CRC_OFFSET: usize = 4092;
/// Length and checksum before the message.
pub const SPEC_HEADER_BYTES: usize = 8;
/// Sequence number, length and checksum before the message.
const SLOT_HEADER_BYTES: usize = 16;
const MAX_STATUS_BYTES: usize = BLOCK_BYTES - SLOT_HEADER_BYTES;
/// A spec this long is a mistake: the kernel takes at most 2 MiB of arguments and environment.
const MAX_SPEC_BYTES: usize = 4 << 20;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum ControlDriveError {
    #[error("no superblock: the magic bytes are missing")]
    Magic,
    #[error("version {0}, expected {VERSION}")]
    Version(u32),
    #[error("checksum of the {0} does not match")]
    Checksum(&'static str),
    #[error("the {name} region at {offset}+{length} is not within the drive of {drive} bytes")]
    Region { name: &'static str, offset: u64, length: u64, drive: u64 },
    #[error("the spec says it is {length} bytes long, its region has {room}")]
    SpecLength { length: usize, room: usize },
    #[error("the spec cannot be decoded: {0}")]
    SpecMessage(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    pub offset: u64,
    pub length: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Superblock {
    pub spec: Region,
    pub status: Region,
    pub output: Region,
}

/// The little-endian integer at `offset`; the caller has checked that it lies within.
pub fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

/// The little-endian integer at `offset`; the caller has checked that it lies within.
pub fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

/// A length in memory, which the kernel keeps below 2^63, as the 32-bit field of a message below 4 GiB.
fn length_field(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

impl Superblock {
    /// Decodes the first block of a drive of `drive_bytes`.
    pub fn decode(block: &[u8; BLOCK_BYTES], drive_bytes: u64) -> Result<Self, ControlDriveError> {
        if block[..8] != MAGIC {
            return Err(ControlDriveError::Magic);
        }
        if u32_at(block, SUPERBLOCK_CRC_OFFSET) != crc32c::crc32c(&block[..SUPERBLOCK_CRC_OFFSET]) {
            return Err(ControlDriveError::Checksum("superblock"));
        }
        let version = u32_at(block, 8);
        if version != VERSION {
            return Err(ControlDriveError::Version(version));
        }
        let region = |name, at, minimum: usize| {
            let region = Region { offset: u64_at(block, at), length: u64_at(block, at + 8) };
            let aligned = (region.offset | region.length).is_multiple_of(BLOCK_BYTES as u64);
            let end = region.offset.checked_add(region.length);
            if aligned && region.length >= minimum as u64 && end.is_some_and(|end| end <= drive_bytes) {
                Ok(region)
            } else {
                Err(ControlDriveError::Region {
                    name,
                    offset: region.offset,
                    length: region.length,
                    drive: drive_bytes,
                })
            }
        };
        Ok(Self {
            spec: region("spec", 16, BLOCK_BYTES)?,
            status: region("status", 32, 2 * BLOCK_BYTES)?,
            output: region("output", 48, 2 * BLOCK_BYTES)?,
        })
    }
}

/// Length of the spec message, from the head of its region of `room` bytes.
pub fn spec_length(head: &[u8], room: u64) -> Result<usize, ControlDriveError> {
    let length = u32_at(head, 0) as usize;
    let room = usize::try_from(room).unwrap_or(usize::MAX) - SPEC_HEADER_BYTES;
    if length > room.min(MAX_SPEC_BYTES) {
        return Err(ControlDriveError::SpecLength { length, room });
    }
    Ok(length)
}

/// Decodes the spec from its region, of which `bytes` holds at least header and message.
pub fn decode_spec(bytes: &[u8]) -> Result<VmSpec, ControlDriveError> {
    let length = spec_length(bytes, bytes.len() as u64)?;
    let message = &bytes[SPEC_HEADER_BYTES..SPEC_HEADER_BYTES + length];
    if crc32c::crc32c(message) != u32_at(bytes, 4) {
        return Err(ControlDriveError::Checksum("spec"));
    }
    VmSpec::decode(message).map_err(|error| ControlDriveError::SpecMessage(error.to_string()))
}

/// Encodes a status slot. An error text that makes the message too long is cut.
pub fn encode_status_slot(sequence: u64, status: &VmStatus) -> Box<[u8; BLOCK_BYTES]> {
    let mut message = status.encode_to_vec();
    if message.len() > MAX_STATUS_BYTES {
        let mut shortened = status.clone();
        let excess = message.len() - MAX_STATUS_BYTES;
        let keep = shortened.error.len().saturating_sub(excess);
        shortened.error.truncate(shortened.error.floor_char_boundary(keep));
        message = shortened.encode_to_vec();
    }
    let mut slot = Box::new([0; BLOCK_BYTES]);
    let end = SLOT_HEADER_BYTES + message.len();
    slot[..8].copy_from_slice(&sequence.to_le_bytes());
    slot[8..12].copy_from_slice(&length_field(message.len()));
    slot[SLOT_HEADER_BYTES..end].copy_from_slice(&message);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot[..12]), &message);
    slot[12..16].copy_from_slice(&crc.to_le_bytes());
    slot
}

/// The sequence number of a slot, 0 when it is empty or invalid.
pub fn status_sequence(slot: &[u8]) -> u64 {
    let length = u32_at(slot, 8) as usize;
    if length > MAX_STATUS_BYTES {
        return 0;
    }
    let message = &slot[SLOT_HEADER_BYTES..SLOT_HEADER_BYTES + length];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&slot[..12]), message);
    if crc == u32_at(slot, 12) { u64_at(slot, 0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::proto::{BootTimings, Exit, Phase, RootMode};

    fn head() -> Vec<u8> {
        golden::read("control-head.bin")
    }

    fn superblock(bytes: &[u8]) -> Result<Superblock, ControlDriveError> {
        Superblock::decode(bytes.first_chunk().unwrap(), 17 << 20)
    }

    /// Makes the checksum right again after a change.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        let crc = crc32c::crc32c(&bytes[..SUPERBLOCK_CRC_OFFSET]);
        bytes[SUPERBLOCK_CRC_OFFSET..BLOCK_BYTES].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_the_host_writes_is_read() {
        let bytes = head();
        let superblock = superblock(&bytes).unwrap();
        assert_eq!(superblock.status, Region { offset: 4096, length: 8192 });
        assert_eq!(superblock.output, Region { offset: 1 << 20, length: 4096 + 65536 });
        let spec = decode_spec(&bytes[usize::try_from(superblock.spec.offset).unwrap()..]).unwrap();
        assert_eq!(spec.vm_id, "00000000-0000-4000-8000-000000000000");
        assert_eq!((spec.hostname.as_str(), spec.stop_signal), ("box", 15));
        assert_eq!(spec.host_time_unix_ns, 1_700_000_000_000_000_000);
        let root = spec.root.unwrap();
        assert_eq!(
            (root.mode(), root.base_device.as_str(), root.read_only),
            (RootMode::Overlay, "vda", true)
        );
        let process = spec.process.unwrap();
        assert_eq!(process.args, ["/bin/echo", "h\u{e9}llo"]);
        assert_eq!(process.env, ["A=1"]);
        assert_eq!((process.cwd.as_str(), process.user.as_str()), ("/srv", "app:wheel"));
        assert_eq!((process.rlimits[0].soft, process.rlimits[0].hard), (1024, u64::MAX));
    }

    #[test]
    fn a_damaged_superblock_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = head();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(superblock(&with(0, b'f')), Err(ControlDriveError::Magic));
        assert_eq!(superblock(&with(4000, 1)), Err(ControlDriveError::Checksum("superblock")));
        assert_eq!(superblock(&sealed(with(8, 2))), Err(ControlDriveError::Version(2)));
        // Unaligned, and out of the drive: low and high byte of the spec's offset.
        for at in [16, 23] {
            let error = superblock(&sealed(with(at, 1))).unwrap_err();
            assert!(matches!(error, ControlDriveError::Region { name: "spec", .. }), "{error}");
        }
    }

    #[test]
    fn a_damaged_spec_is_refused() {
        let spec = &head()[12288..];
        let with = |at: usize, byte: u8| {
            let mut bytes = spec.to_vec();
            bytes[at] = byte;
            decode_spec(&bytes).unwrap_err()
        };
        assert_eq!(with(8, 0), ControlDriveError::Checksum("spec"));
        assert!(matches!(with(3, 0xff), ControlDriveError::SpecLength { .. }));
    }

    #[test]
    fn a_status_slot_has_its_golden_bytes() {
        let mut status = VmStatus {
            started_at_unix_ns: 1_700_000_001_000_000_000,
            finished_at_unix_ns: 1_700_000_002_000_000_000,
            exit: Some(Exit { code: 137, signal: 9, oom_killed: true }),
            error: "h\u{e9}llo".into(),
            timings: Some(BootTimings { agent_started_us: 1, root_mounted_us: 2, workload_started_us: 3 }),
            ..VmStatus::default()
        };
        status.set_phase(Phase::Exited);
        let slot = encode_status_slot(0x0102_0304_0506_0708, &status);
        golden::check("status-slot.bin", &slot[..]);
        assert_eq!(status_sequence(&slot[..]), 0x0102_0304_0506_0708);
    }

    #[test]
    fn a_status_that_is_too_long_loses_the_end_of_its_error() {
        let status =
            VmStatus { error: "\u{e9}".repeat(BLOCK_BYTES), started_at_unix_ns: -1, ..VmStatus::default() };
        let slot = encode_status_slot(1, &status);
        assert_eq!(status_sequence(&slot[..]), 1);
        let length = u32_at(&slot[..], 8) as usize;
        let decoded = VmStatus::decode(&slot[16..16 + length]).unwrap();
        assert!(decoded.error.len() > 4000 && status.error.starts_with(&decoded.error));
        assert_eq!(decoded.started_at_unix_ns, -1);
    }

    #[test]
    fn an_empty_or_damaged_slot_has_no_sequence() {
        assert_eq!(status_sequence(&[0; BLOCK_BYTES]), 0);
        let mut slot = encode_status_slot(5, &VmStatus { error: "x".into(), ..VmStatus::default() });
        slot[16] ^= 1;
        assert_eq!(status_sequence(&slot[..]), 0);
        slot[8..12].fill(0xff);
        assert_eq!(status_sequence(&slot[..]), 0);
    }
}
