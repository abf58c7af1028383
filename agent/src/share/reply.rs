//! Putting an answer together: `fuse_out_header` and what follows it.

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::abi::OUT_HEADER_BYTES;
use crate::hello::Ids;

/// How long the guest may believe what it was told of a name or a file: what happens on the host is seen
/// after at most this.
const VALID_SECONDS: u64 = 1;

/// One answer; the buffer is used again for the next.
#[derive(Debug)]
pub struct Reply {
    /// Its length is the most that was ever needed; only the first `length` bytes are the answer.
    buffer: Vec<u8>,
    length: usize,
}

/// What the guest is told of a file.
#[derive(Debug)]
pub struct Attributes {
    pub stat: Statx,
    pub ino: u64,
    pub ids: Ids,
}

impl Reply {
    pub fn new() -> Self {
        Self { buffer: vec![0; 4096], length: OUT_HEADER_BYTES }
    }

    /// Begins a new answer.
    pub fn begin(&mut self) {
        self.length = OUT_HEADER_BYTES;
    }

    /// The answer with its header. An error has nothing but a header.
    pub fn finish(&mut self, unique: u64, result: Result<(), Errno>) -> &[u8] {
        let error = match result {
            Ok(()) => 0,
            Err(errno) => {
                self.begin();
                -errno.raw_os_error()
            }
        };
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        self.buffer[..4].copy_from_slice(&length.to_le_bytes());
        self.buffer[4..8].copy_from_slice(&error.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&unique.to_le_bytes());
        &self.buffer[..self.length]
    }

    /// Bytes of the answer so far, without the header.
    pub fn body_length(&self) -> usize {
        self.length - OUT_HEADER_BYTES
    }

    /// Room for `length` bytes at the end; `fill` returns how many of them it has used.
    pub fn fill(
        &mut self,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let end = self.length + length;
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        let used = fill(&mut self.buffer[self.length..end])?;
        self.length += used.min(length);
        Ok(())
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        self.buffer[self.length..end].copy_from_slice(bytes);
        self.length = end;
    }

    pub fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    /// `fuse_attr_out`.
    pub fn attributes(&mut self, attributes: &Attributes) {
        self.u64(VALID_SECONDS);
        self.u64(0); // nanoseconds, padding
        self.attr(attributes);
    }

    /// `fuse_entry_out`. Node 0 says that there is none, for directory listings.
    pub fn entry(&mut self, node: u64, attributes: Option<&Attributes>) {
        self.u64(node);
        self.u64(0); // generation: a number is that of one file for ever
        let valid = if attributes.is_some() { VALID_SECONDS } else { 0 };
        self.u64(valid);
        self.u64(valid);
        self.u64(0); // nanoseconds of both
        match attributes {
            Some(attributes) => self.attr(attributes),
            None => self.bytes(&[0; 88]),
        }
    }

    /// `fuse_attr`.
    fn attr(&mut self, Attributes { stat, ino, ids }: &Attributes) {
        self.u64(*ino);
        self.u64(stat.stx_size);
        self.u64(stat.stx_blocks);
        let times = [&stat.stx_atime, &stat.stx_mtime, &stat.stx_ctime];
        for time in times {
            self.u64(time.tv_sec.cast_unsigned());
        }
        for time in times {
            self.u32(time.tv_nsec);
        }
        self.u32(u32::from(stat.stx_mode));
        self.u32(stat.stx_nlink);
        self.u32(ids.uid);
        self.u32(ids.gid);
        self.u32(0); // device number: nodes of devices open nothing in the guest
        self.u32(stat.stx_blksize);
        self.u32(0); // flags
    }

    /// `fuse_open_out`.
    pub fn opened(&mut self, handle: u64, flags: u32) {
        self.u64(handle);
        self.u32(flags);
        self.u32(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_header_alone() {
        let mut reply = Reply::new();
        reply.u64(7);
        let bytes = reply.finish(9, Err(Errno::NOENT)).to_vec();
        assert_eq!(
            bytes,
            [&16_u32.to_le_bytes()[..], &(-2_i32).to_le_bytes(), &9_u64.to_le_bytes()].concat()
        );
    }

    #[test]
    fn a_listing_without_a_node_has_the_size_of_one_with() {
        let mut reply = Reply::new();
        reply.entry(0, None);
        assert_eq!(reply.body_length(), 128);
    }
}
