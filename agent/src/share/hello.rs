//! How guest and server greet each other on a new connection, before the first FUSE message. Both sides are
//! built from this file. Numbers are little-endian.
//!
//! | bytes | guest to server | server to guest |
//! | --- | --- | --- |
//! | 0..8 | magic with version | the same |
//! | 8..12 | uid of the workload's user | type and mode of what is shared, as st_mode has it |
//! | 12..16 | its gid | 0 |

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

pub const HELLO_BYTES: usize = 16;
/// Largest data of one FUSE message: what a kernel sends with its default of 256 pages.
pub const MAX_DATA_BYTES: usize = 1 << 20;
/// Largest message, in either direction: a WRITE, whose headers have 80 bytes.
pub const MAX_MESSAGE_BYTES: usize = 80 + MAX_DATA_BYTES;
const MAGIC: &[u8; 8] = b"FCSHARE1";

/// The greeting that carries two numbers.
fn encode(first: u32, second: u32) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&first.to_le_bytes());
    bytes[12..].copy_from_slice(&second.to_le_bytes());
    bytes
}

/// Its two numbers; `None` when it is no greeting of this version.
fn decode(bytes: &[u8; HELLO_BYTES]) -> Option<(u32, u32)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let number = |at: usize| rest.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    Some((number(0)?, number(4)?))
}

pub fn encode_guest(ids: Ids) -> [u8; HELLO_BYTES] {
    encode(ids.uid, ids.gid)
}

pub fn decode_guest(bytes: &[u8; HELLO_BYTES]) -> Option<Ids> {
    decode(bytes).map(|(uid, gid)| Ids { uid, gid })
}

pub fn encode_server(mode: u32) -> [u8; HELLO_BYTES] {
    encode(mode, 0)
}

pub fn decode_server(bytes: &[u8; HELLO_BYTES]) -> Option<u32> {
    decode(bytes).map(|(mode, _)| mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_are_understood_or_refused() {
        let ids = Ids { uid: 1000, gid: 0xffff_fffe };
        assert_eq!(decode_guest(&encode_guest(ids)), Some(ids));
        assert_eq!(decode_server(&encode_server(0o040_755)), Some(0o040_755));
        let mut other = encode_server(0);
        other[7] = b'2';
        assert_eq!(decode_server(&other), None);
    }
}
