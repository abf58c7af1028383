//! Taking a request apart. Every byte of it is the guest's, so that nothing is believed before it is checked.

use std::ffi::CStr;

use rustix::io::Errno;

use crate::abi::IN_HEADER_BYTES;
use crate::hello::Ids;

/// The head of every request, `fuse_in_header`.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    pub opcode: u32,
    /// Returned with the answer.
    pub unique: u64,
    pub node: u64,
    /// Who asks, in the guest's numbers.
    pub ids: Ids,
}

/// The fields that follow, read in their order.
#[derive(Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

/// Splits a whole request. `None` when it is shorter than its header.
pub fn parse(bytes: &[u8]) -> Option<(Header, Fields<'_>)> {
    let (head, rest) = bytes.split_at_checked(IN_HEADER_BYTES)?;
    let mut head = Fields { rest: head.get(4..)? };
    let header = Header {
        opcode: head.u32().ok()?,
        unique: head.u64().ok()?,
        node: head.u64().ok()?,
        ids: Ids { uid: head.u32().ok()?, gid: head.u32().ok()? },
    };
    Some((header, Fields { rest }))
}

impl<'a> Fields<'a> {
    pub fn u32(&mut self) -> Result<u32, Errno> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// The next number, left where it is.
    pub fn peek_u32(&self) -> Option<u32> {
        self.rest.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub fn u64(&mut self) -> Result<u64, Errno> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    pub fn skip(&mut self, bytes: usize) -> Result<(), Errno> {
        self.bytes(bytes).map(drop)
    }

    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A string up to its NUL.
    pub fn string(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.rest).map_err(|_| Errno::INVAL)?;
        self.skip(text.count_bytes() + 1)?;
        Ok(text)
    }

    /// The name of a directory's entry: one component that stays below its directory.
    pub fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.string()?;
        check_name(name)?;
        Ok(name)
    }
}

fn check_name(name: &CStr) -> Result<(), Errno> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > 255 => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
        Fields { rest: bytes }.name().map(|name| name.to_bytes().to_vec())
    }

    #[test]
    fn a_name_is_one_component() {
        assert_eq!(name_of(b"a b\0rest").unwrap(), b"a b");
        assert_eq!(name_of(b"...\0").unwrap(), b"...");
        for bytes in [&b""[..], b"\0", b".\0", b"..\0", b"a/b\0", b"/\0", b"../x\0", b"without end"] {
            assert_eq!(name_of(bytes), Err(Errno::INVAL), "{bytes:?}");
        }
        let name_of_length = |length: usize| [vec![b'x'; length], vec![0]].concat();
        assert_eq!(name_of(&name_of_length(255)).unwrap().len(), 255);
        assert_eq!(name_of(&name_of_length(256)), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn fields_end_where_the_request_ends() {
        let mut fields = Fields { rest: &[1, 0, 0, 0, 2, 0, 0] };
        assert_eq!(fields.u32(), Ok(1));
        assert_eq!(fields.u32(), Err(Errno::INVAL));
        assert_eq!(fields.bytes(4), Err(Errno::INVAL));
        assert!(parse(&[0; IN_HEADER_BYTES - 1]).is_none());
        assert!(parse(&[0; IN_HEADER_BYTES]).is_some());
    }
}
