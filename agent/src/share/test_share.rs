//! A guest's kernel for tests: requests to a share on a temporary directory, answers taken apart.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::abi::{OUT_HEADER_BYTES, ROOT_ID, op};
use crate::dispatch;
use crate::hello::Ids;
use crate::owners::Owners;
use crate::reply::Reply;
use crate::share::{Opened, Share};

/// A directory that goes with the test.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("firectl-share-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = fs::canonicalize(std::env::temp_dir()).unwrap().join(name);
        fs::create_dir_all(path.join("shared")).unwrap();
        Self(path)
    }

    /// What is shared; the rest of the scratch directory lies outside.
    pub fn shared(&self) -> PathBuf {
        self.0.join("shared")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The ids under which the test's own user is seen.
pub const WORKLOAD: Ids = Ids { uid: 500, gid: 600 };

pub fn share(path: &Path, read_only: bool) -> Share {
    Share::new(Opened::new(path).unwrap(), Owners::new(Some(WORKLOAD), WORKLOAD), read_only)
}

/// A request as the kernel lays it out.
pub fn request(opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    request_as(WORKLOAD, opcode, node, body)
}

pub fn request_as(ids: Ids, opcode: u32, node: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + body.len()).unwrap();
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(opcode.to_le_bytes());
    bytes.extend(77_u64.to_le_bytes());
    bytes.extend(node.to_le_bytes());
    bytes.extend(ids.uid.to_le_bytes());
    bytes.extend(ids.gid.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// The body of the answer, or its errno.
pub fn ask_raw(share: &Share, request: &[u8]) -> Result<Vec<u8>, i32> {
    let mut reply = Reply::new();
    let answer = dispatch::answer(share, request, &mut reply).expect("an answer");
    assert_eq!(usize::try_from(number(answer, 0)).unwrap(), answer.len());
    assert_eq!(long(answer, 8), 77);
    match number(answer, 4).cast_signed() {
        0 => Ok(answer[OUT_HEADER_BYTES..].to_vec()),
        error => {
            assert_eq!(answer.len(), OUT_HEADER_BYTES, "an error has no body");
            Err(-error)
        }
    }
}

pub fn ask(share: &Share, opcode: u32, node: u64, body: &[u8]) -> Result<Vec<u8>, i32> {
    ask_raw(share, &request(opcode, node, body))
}

pub fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

pub fn name(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

/// Looks a path up; its node, or the errno of the first component that fails.
pub fn walk(share: &Share, path: &str) -> Result<u64, i32> {
    path.split('/').try_fold(ROOT_ID, |node, part| {
        ask(share, op::LOOKUP, node, &name(part)).map(|entry| long(&entry, 0))
    })
}

pub fn open(share: &Share, node: u64, flags: i32) -> Result<u64, i32> {
    let body = [&flags.to_le_bytes()[..], &[0; 4]].concat();
    ask(share, op::OPEN, node, &body).map(|opened| long(&opened, 0))
}

pub fn read(share: &Share, handle: u64) -> Result<Vec<u8>, i32> {
    let body = [&handle.to_le_bytes()[..], &[0; 8], &4096_u32.to_le_bytes(), &[0; 20]].concat();
    ask(share, op::READ, ROOT_ID, &body)
}

pub fn write(share: &Share, handle: u64, data: &[u8]) -> Result<Vec<u8>, i32> {
    let size = u32::try_from(data.len()).unwrap();
    let body = [&handle.to_le_bytes()[..], &[0; 8], &size.to_le_bytes(), &[0; 20], data].concat();
    ask(share, op::WRITE, ROOT_ID, &body)
}

/// CREATE with O_RDWR: the node and the handle.
pub fn create(share: &Share, ids: Ids, parent: u64, file: &str) -> Result<(u64, u64), i32> {
    let flags = (libc::O_RDWR | libc::O_CREAT).to_le_bytes();
    let body = [&flags[..], &0o644_u32.to_le_bytes(), &[0; 8], &name(file)].concat();
    ask_raw(share, &request_as(ids, op::CREATE, parent, &body)).map(|made| (long(&made, 0), long(&made, 128)))
}

/// Owner as GETATTR tells it.
pub fn owner(share: &Share, node: u64) -> Ids {
    let attributes = ask(share, op::GETATTR, node, &[0; 16]).unwrap();
    Ids { uid: number(&attributes, 16 + 68), gid: number(&attributes, 16 + 72) }
}
