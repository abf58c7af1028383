//! Notes of processes, as the supervisor makes them: the process's line of /proc/PID/stat, by which firectl
//! knows it for that process and no later one of the same pid.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::unistd::Pid;

/// Writes `NAME.pid` into `directory`.
pub fn write(directory: &Path, name: &str, process: Pid) -> Result<(), String> {
    let path = directory.join(format!("{name}.pid"));
    read_stat(process)
        .and_then(|line| {
            File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?.write_all(&line)
        })
        .map_err(|error| format!("cannot note the process {process} in {}: {error}", path.display()))
}

fn read_stat(process: Pid) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{process}/stat"))
}
