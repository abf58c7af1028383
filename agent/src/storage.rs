//! Block devices written past the page cache: what is written is at once in the host's file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::slice;

use crate::control_drive::BLOCK_BYTES;

/// The unit in which a device can be written. virtio-blk offers 512 unless told otherwise, which neither
/// Firecracker nor firectl's QEMU does.
pub const SECTOR_BYTES: usize = 512;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(4096))]
struct Page([u8; BLOCK_BYTES]);

/// Zeroed bytes at a page boundary, as O_DIRECT wants them.
#[derive(Debug)]
pub struct AlignedBuffer(Box<[Page]>);

impl AlignedBuffer {
    /// Room for at least `bytes`, rounded up to whole pages.
    pub fn new(bytes: usize) -> Self {
        Self(vec![Page([0; BLOCK_BYTES]); bytes.div_ceil(BLOCK_BYTES)].into_boxed_slice())
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: a Page is exactly BLOCK_BYTES bytes without padding (size equals alignment), the pages of
        // a boxed slice are contiguous, and u8 has no alignment or validity requirements.
        unsafe { slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * BLOCK_BYTES) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` makes the access exclusive.
        unsafe { slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * BLOCK_BYTES) }
    }
}

/// Where sectors are written: the control drive's device, or a plain vector under test.
pub trait Storage {
    /// Writes `bytes` at `offset`; both are multiples of [`SECTOR_BYTES`] and the memory is aligned.
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `bytes`, under the same conditions.
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
}

/// A block device opened with O_DIRECT. Clones share the descriptor, each write names its own offset.
#[derive(Debug)]
pub struct Device {
    file: File,
}

impl Device {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(path)?;
        Ok(Self { file })
    }

    pub fn length(&mut self) -> io::Result<u64> {
        self.file.seek(SeekFrom::End(0))
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()? })
    }
}

impl Storage for Device {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(bytes, offset)
    }
}

#[cfg(test)]
pub mod memory {
    use super::*;

    /// A drive in memory that checks what a device would check.
    #[derive(Debug)]
    pub struct MemoryStorage(pub Vec<u8>);

    impl Storage for MemoryStorage {
        fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
            let start = range_start(bytes, offset)?;
            let target = self.0.get_mut(start..start + bytes.len());
            target.ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(bytes);
            Ok(())
        }

        fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            let start = range_start(bytes, offset)?;
            let source = self.0.get(start..start + bytes.len());
            bytes.copy_from_slice(source.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        }
    }

    fn range_start(bytes: &[u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let aligned = start.is_multiple_of(SECTOR_BYTES)
            && bytes.len().is_multiple_of(SECTOR_BYTES)
            && bytes.as_ptr().align_offset(SECTOR_BYTES) == 0;
        aligned.then_some(start).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }
}
