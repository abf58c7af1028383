//! Bytes that host and guest agree on, in `proto/testdata`: each side's tests write what that side writes and
//! read what the other does. `UPDATE_GOLDEN=1 cargo test` writes the guest's anew.

use std::env;
use std::fs;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../proto/testdata").join(name)
}

pub fn read(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

/// Asserts that `bytes` are those of the file.
pub fn check(name: &str, bytes: &[u8]) {
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path(name), bytes).unwrap();
    }
    assert!(read(name) == bytes, "{name} differs: the format has changed");
}
