//! The connection: one guest, from its greeting to its end.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::Mode;

use crate::abi::IN_HEADER_BYTES;
use crate::dispatch;
use crate::hello::{self, HELLO_BYTES, MAX_MESSAGE_BYTES};
use crate::options::Options;
use crate::owners::Owners;
use crate::reply::Reply;
use crate::sandbox;
use crate::share::{Opened, Share};

/// How many requests are worked on at once: while one waits for the disk, others go on.
const WORKERS: usize = 4;
const WORKER_STACK_BYTES: usize = 128 * 1024;

/// Serves one connection to its end.
pub fn run(options: &Options) -> Result<(), String> {
    let opened = Opened::new(&options.path)?;
    let (root, stat) = (opened.fd.try_clone().map_err(|error| error.to_string())?, opened.stat);
    let stream = accept_once(options)?;
    // The guest's kernel has applied the umask of whoever makes a file.
    rustix::process::umask(Mode::empty());
    let owners =
        greet(&stream, options, &opened).map_err(|error| format!("the guest's greeting: {error}"))?;
    let share = Share::new(opened, owners, options.read_only);
    sandbox::enter(&root, &stat, options.read_only)?;
    drop(root);
    serve(&share, &stream).map_err(|error| error.to_string())
}

/// The agent connects before its workload runs. After that nobody can: the socket is gone.
fn accept_once(options: &Options) -> Result<UnixStream, String> {
    let path = &options.socket;
    let told = |error: io::Error| format!("cannot listen on {}: {error}", path.display());
    let listener = UnixListener::bind(path).map_err(told)?;
    let (stream, _) = listener.accept().map_err(told)?;
    fs::remove_file(path).map_err(told)?;
    Ok(stream)
}

fn greet(mut stream: &UnixStream, options: &Options, opened: &Opened) -> io::Result<Owners> {
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes)?;
    let Some(workload) = hello::decode_guest(&bytes) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not one of this version"));
    };
    stream.write_all(&hello::encode_server(u32::from(opened.stat.stx_mode)))?;
    Ok(Owners::new(options.owner, workload))
}

/// Answers requests until the guest ends the connection.
pub fn serve(share: &Share, stream: &UnixStream) -> io::Result<()> {
    let input = Mutex::new(BufReader::with_capacity(64 * 1024, stream));
    let output = Mutex::new(stream);
    thread::scope(|scope| {
        let worker = || work(share, &input, &output);
        let mut workers = Vec::new();
        for _ in 0..WORKERS {
            workers.push(thread::Builder::new().stack_size(WORKER_STACK_BYTES).spawn_scoped(scope, worker)?);
        }
        let results = workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(())));
        results.fold(Ok(()), Result::and)
    })
}

/// Whoever has the input reads one request, lets the next worker have it, and answers.
fn work(share: &Share, input: &Mutex<BufReader<&UnixStream>>, output: &Mutex<&UnixStream>) -> io::Result<()> {
    let (mut request, mut reply) = (Vec::new(), Reply::new());
    let result = loop {
        let read = next_request(&mut input.lock().unwrap_or_else(PoisonError::into_inner), &mut request);
        let length = match read {
            Ok(0) => break Ok(()),
            Ok(length) => length,
            Err(error) => break Err(error),
        };
        if let Some(answer) = dispatch::answer(share, &request[..length], &mut reply) {
            let written = output.lock().unwrap_or_else(PoisonError::into_inner).write_all(answer);
            if let Err(error) = written {
                break Err(error);
            }
        }
    };
    // The others may wait for more: there is no more.
    let _ = output.lock().unwrap_or_else(PoisonError::into_inner).shutdown(std::net::Shutdown::Both);
    result
}

/// Reads a whole request to the start of `buffer`, which grows as needed, and returns its length: 0 at the end
/// of the connection. An error when a length is impossible.
fn next_request(input: &mut BufReader<&UnixStream>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if input.fill_buf()?.is_empty() {
        return Ok(0);
    }
    let mut head = [0; 4];
    input.read_exact(&mut head)?;
    let length = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
    if !(IN_HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
        let message = format!("a request of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    buffer[..4].copy_from_slice(&head);
    input.read_exact(&mut buffer[4..length])?;
    Ok(length)
}
