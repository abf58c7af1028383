//! Carries FUSE messages between the guest's kernel and the host's server. It runs as a process of its own: a
//! copy of the agent that does nothing else, with /dev/fuse as its standard input and the connection as its
//! standard output. When either ends it ends, and the kernel then fails whatever is done on the share.
//! Both sides' messages begin with their length, so that they go through as they are.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;

use crate::share_hello::MAX_MESSAGE_BYTES;

/// The argument that makes the agent's program this process.
pub const ARGUMENT: &str = "share-pump";
const OUT_HEADER_BYTES: usize = 16;
const STACK_BYTES: usize = 64 * 1024;

/// Starts the process. The reaper takes its end.
pub fn spawn(device: OwnedFd, connection: OwnedFd) -> io::Result<()> {
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).env_clear().stdin(Stdio::from(device)).stdout(Stdio::from(connection));
    command.spawn().map(drop)
}

/// The life of the process.
pub fn run() -> ExitCode {
    match pump() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            crate::console::report(&format!("a shared directory has ended: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn pump() -> io::Result<()> {
    let device = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let connection = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (device_too, connection_too) = (device.try_clone()?, connection.try_clone()?);
    let (ended, end) = mpsc::channel();
    let other = ended.clone();
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || other.send(carry_requests(device, connection)))?;
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(move || ended.send(carry_replies(connection_too, device_too)))?;
    // The process's end ends the other.
    end.recv().unwrap_or(Ok(()))
}

/// Each read of the device is one whole request.
fn carry_requests(mut device: File, mut connection: File) -> io::Result<()> {
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        match device.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => connection.write_all(&buffer[..length])?,
            // Whoever asked has been interrupted before the request was read.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()), // unmounted
            Err(error) => return Err(error),
        }
    }
}

/// Each write to the device must be one whole reply.
fn carry_replies(connection: File, mut device: File) -> io::Result<()> {
    let mut connection = BufReader::with_capacity(64 * 1024, connection);
    let mut buffer = vec![0; MAX_MESSAGE_BYTES];
    loop {
        if connection.fill_buf()?.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the host's server is gone"));
        }
        connection.read_exact(&mut buffer[..OUT_HEADER_BYTES])?;
        let length = buffer.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(OUT_HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a reply of {length} bytes")));
        }
        connection.read_exact(&mut buffer[OUT_HEADER_BYTES..length])?;
        match device.write(&buffer[..length]) {
            // Whoever asked has been killed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            result => drop(result?),
        }
    }
}
