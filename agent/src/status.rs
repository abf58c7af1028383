//! The guest's own account of itself: written to the control drive's status slots, and to whoever waits.

use std::io;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::clock;
use crate::console;
use crate::control_drive::{self, BLOCK_BYTES, Region};
use crate::proto::{Exit, Phase, VmStatus};
use crate::storage::{AlignedBuffer, Storage};

/// Writes the two slots in turn, so that one of them is whole at any moment.
#[derive(Debug)]
struct SlotWriter<S> {
    storage: S,
    region: Region,
    sequence: u64,
    buffer: AlignedBuffer,
}

impl<S: Storage> SlotWriter<S> {
    fn open(mut storage: S, region: Region, known: Option<&[u8]>) -> io::Result<Self> {
        let mut buffer = AlignedBuffer::new(2 * BLOCK_BYTES);
        match known.and_then(|bytes| bytes.get(..2 * BLOCK_BYTES)) {
            Some(bytes) => buffer.as_mut_slice().copy_from_slice(bytes),
            None => storage.read_at(buffer.as_mut_slice(), region.offset)?,
        }
        let (first, second) = buffer.as_slice().split_at(BLOCK_BYTES);
        let sequence = control_drive::status_sequence(first).max(control_drive::status_sequence(second));
        Ok(Self { storage, region, sequence, buffer })
    }

    fn write(&mut self, status: &VmStatus) -> io::Result<()> {
        self.sequence += 1;
        let slot = control_drive::encode_status_slot(self.sequence, status);
        self.buffer.as_mut_slice()[..BLOCK_BYTES].copy_from_slice(&slot[..]);
        // The first slot takes the odd numbers.
        let offset = self.region.offset + (self.sequence - 1) % 2 * BLOCK_BYTES as u64;
        self.storage.write_at(&self.buffer.as_slice()[..BLOCK_BYTES], offset)
    }
}

/// The one place where the status changes.
#[derive(Debug)]
pub struct StatusBoard<S> {
    writer: Mutex<SlotWriter<S>>,
    current: watch::Sender<VmStatus>,
}

impl<S: Storage> StatusBoard<S> {
    /// `known` are the region's bytes where they have been read already.
    pub fn open(storage: S, region: Region, known: Option<&[u8]>) -> io::Result<Self> {
        Ok(Self {
            writer: Mutex::new(SlotWriter::open(storage, region, known)?),
            current: watch::Sender::new(VmStatus::default()),
        })
    }

    /// Changes the status: first on the drive, then for those who wait.
    pub fn publish(&self, change: impl FnOnce(&mut VmStatus)) {
        let mut status = self.current.borrow().clone();
        change(&mut status);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writer.write(&status) {
            console::report(&format!("cannot write the status: {error}"));
        }
        drop(writer);
        self.current.send_replace(status);
    }

    /// Changes what the next [`StatusBoard::publish`] writes.
    pub fn publish_later(&self, change: impl FnOnce(&mut VmStatus)) {
        self.current.send_modify(change);
    }

    pub fn current(&self) -> VmStatus {
        self.current.borrow().clone()
    }

    pub fn subscribe(&self) -> watch::Receiver<VmStatus> {
        self.current.subscribe()
    }

    /// The workload never ran.
    pub fn publish_failure(&self, code: u8, message: &str) {
        self.publish(|status| {
            status.set_phase(Phase::Failed);
            status.finished_at_unix_ns = clock::unix_ns();
            message.clone_into(&mut status.error);
            status.exit = Some(Exit { code: code.into(), ..Exit::default() });
        });
    }

    /// Last words of a panic: does nothing when the lock is held, for then the panic came from here.
    pub fn publish_panic(&self, message: &str) {
        let Ok(mut writer) = self.writer.try_lock() else {
            return;
        };
        let mut status = self.current.borrow().clone();
        let ran = status.phase() == Phase::Running;
        status.set_phase(if ran { Phase::Exited } else { Phase::Failed });
        status.finished_at_unix_ns = clock::unix_ns();
        message.clone_into(&mut status.error);
        status.exit = Some(Exit { code: 125, ..Exit::default() });
        // There is no one left to tell.
        let _ = writer.write(&status);
    }
}
