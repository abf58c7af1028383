//! The records of `copy.proto` on their way through a pipe, each preceded by its length.

use std::io::{self, ErrorKind, Read, Write};

use prost::Message;

use crate::proto::copy_record::Record;
use crate::proto::{CopyEnd, CopyEntry, CopyRecord};

/// Data in one record; small enough for a guest with little memory.
pub const DATA_BYTES: usize = 128 * 1024;
/// What a record of the host's may take: extended attributes and a map of a sparse file are the longest.
const MAX_RECORD_BYTES: usize = 4 << 20;
/// Small records leave together.
const GATHERED_BYTES: usize = 64 * 1024;

/// Writes records; small ones are gathered.
#[derive(Debug)]
pub struct RecordWriter<W> {
    out: W,
    gathered: Vec<u8>,
}

impl<W: Write> RecordWriter<W> {
    pub fn new(out: W) -> Self {
        Self { out, gathered: Vec::with_capacity(GATHERED_BYTES) }
    }

    pub fn entry(&mut self, entry: CopyEntry) -> io::Result<()> {
        self.record(Record::Entry(entry))
    }

    pub fn data(&mut self, data: Vec<u8>) -> io::Result<()> {
        self.record(Record::Data(data))
    }

    /// Says that the copy is whole.
    pub fn finish(mut self) -> io::Result<()> {
        self.record(Record::End(CopyEnd {}))?;
        self.flush()
    }

    fn record(&mut self, record: Record) -> io::Result<()> {
        CopyRecord { record: Some(record) }.encode_length_delimited(&mut self.gathered)?;
        if self.gathered.len() < GATHERED_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

/// Reads records until the one that says that the copy is whole.
#[derive(Debug)]
pub struct RecordReader<R> {
    input: R,
    buffer: Vec<u8>,
}

impl<R: Read> RecordReader<R> {
    pub fn new(input: R) -> Self {
        Self { input, buffer: Vec::new() }
    }

    /// The next record; an input that ends without having said so is an error.
    pub fn next(&mut self) -> io::Result<Record> {
        let length = self.length()?;
        self.buffer.resize(length, 0);
        self.input.read_exact(&mut self.buffer)?;
        let record = CopyRecord::decode(self.buffer.as_slice()).map_err(io::Error::other)?;
        record.record.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "a record of no known kind"))
    }

    fn length(&mut self) -> io::Result<usize> {
        let mut length = 0;
        for shift in (0..28).step_by(7) {
            let mut byte = [0];
            self.input.read_exact(&mut byte)?;
            length |= usize::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return if length <= MAX_RECORD_BYTES { Ok(length) } else { break };
            }
        }
        Err(io::Error::new(ErrorKind::InvalidData, "a record that is too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Vec::new();
        let mut writer = RecordWriter::new(&mut bytes);
        let entry = CopyEntry { path: b"a/\xff".to_vec(), size: 300_000, ..CopyEntry::default() };
        writer.entry(entry.clone()).unwrap();
        for _ in 0..3 {
            writer.data(vec![7; 100_000]).unwrap();
        }
        writer.finish().unwrap();
        let mut reader = RecordReader::new(bytes.as_slice());
        assert_eq!(reader.next().unwrap(), Record::Entry(entry));
        for _ in 0..3 {
            assert_eq!(reader.next().unwrap(), Record::Data(vec![7; 100_000]));
        }
        assert_eq!(reader.next().unwrap(), Record::End(CopyEnd {}));
        assert_eq!(reader.next().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_too_long_or_no_record_is_refused() {
        for bytes in [&[0xff; 8][..], &[0x81, 0x80, 0x80, 0x02], &[0], &[2, 0xff, 0xff]] {
            let error = RecordReader::new(bytes).next().unwrap_err();
            assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "{bytes:?}");
        }
        assert_eq!(RecordReader::new(&[5, 1][..]).next().unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }
}
