//! Swap space: a file on the VM's own disk, beside the directories of the overlay, which takes there only what is
//! swapped.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::error::{AgentError, Context};

/// On a disk that is the workload's root it can be seen, but neither written nor removed while it is in use.
const NAME: &str = ".firectl-swap";

/// Swap space in use.
#[derive(Debug)]
pub struct Swap {
    path: String,
}

impl Swap {
    /// Makes `bytes` of swap space on the filesystem at `directory`.
    pub fn enable(directory: &str, bytes: u64) -> Result<Self, AgentError> {
        let page = page_size();
        let pages = u32::try_from(bytes / page as u64).map_err(|_| {
            AgentError::Invalid(format!("{bytes} bytes of swap are more than a kernel takes"))
        })?;
        let length = i64::from(pages) * i64::try_from(page).unwrap_or(4096);
        let path = format!("{directory}/{NAME}");
        // Left by a guest that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).context(|| "remove the old swap file".into());
            }
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .context(|| "create the swap file".into())?;
        fallocate(&file, FallocateFlags::empty(), 0, length)
            .context(|| format!("take {bytes} bytes of the disk for swap"))?;
        file.write_all_at(&header(pages, page), 0)
            .and_then(|()| file.sync_all())
            .context(|| "write the swap file".into())?;
        let name = c_string(&path)?;
        // SAFETY: swapon reads one string that ends with a zero.
        Errno::result(unsafe { libc::swapon(name.as_ptr(), 0) }).context(|| "turn on swap".into())?;
        Ok(Self { path })
    }

    /// Ends it: as long as it is there its disk cannot be sealed. The workload must be gone.
    pub fn disable(&self) {
        if let Ok(name) = c_string(&self.path) {
            // SAFETY: swapoff reads one string that ends with a zero. When it fails, the next start removes
            // the file.
            unsafe { libc::swapoff(name.as_ptr()) };
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn c_string(path: &str) -> Result<CString, AgentError> {
    CString::new(path).map_err(|error| AgentError::Invalid(error.to_string()))
}

fn page_size() -> usize {
    // SAFETY: sysconf takes a number and touches no memory.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// The first page: after 1024 bytes version 1 and the number of the last page, at the end the magic.
/// `union swap_header` of <https://github.com/torvalds/linux/blob/master/include/linux/swap.h>
fn header(pages: u32, page: usize) -> Vec<u8> {
    let mut bytes = vec![0; page];
    bytes[1024..1028].copy_from_slice(&1u32.to_ne_bytes());
    bytes[1028..1032].copy_from_slice(&pages.saturating_sub(1).to_ne_bytes());
    bytes[page - 10..].copy_from_slice(b"SWAPSPACE2");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_mkswaps() {
        let bytes = header(16, 4096);
        assert_eq!(bytes.len(), 4096);
        assert_eq!(&bytes[4086..], b"SWAPSPACE2");
        assert_eq!((bytes[1024], bytes[1028]), (1, 15));
    }
}
