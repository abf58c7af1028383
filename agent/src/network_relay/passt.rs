//! The start of passt(1), which goes into the background once it is ready.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use nix::sys::prctl::set_child_subreaper;
use nix::unistd::{Pid, getpid};

use crate::descriptors;

/// A passt that is ready.
#[derive(Debug)]
pub struct Passt {
    /// Its frames. It ends when this is closed.
    pub socket: OwnedFd,
    pub process: Pid,
}

/// Starts passt, and waits until it is ready. What it says is on stderr, and so in the log.
pub fn start(command: &[OsString]) -> Result<Passt, String> {
    let (program, arguments) = command.split_first().ok_or("the command of passt is missing")?;
    // Whoever goes into the background is left by its parent, and then a child of this process.
    set_child_subreaper(true).map_err(|error| format!("cannot become passt's parent: {error}"))?;
    let (socket, theirs) = descriptors::stream_pair()?;
    descriptors::make_inheritable(&theirs)?;
    let status = Command::new(program)
        .args(arguments)
        .arg("--fd")
        .arg(theirs.as_raw_fd().to_string())
        .status()
        .map_err(|error| format!("cannot execute {}: {error}", program.display()))?;
    if !status.success() {
        let ending = status.code().map_or_else(|| status.to_string(), |code| format!("status {code}"));
        return Err(format!("passt has ended with {ending}"));
    }
    let process =
        only_child().ok_or("passt has ended with status 0 and left no process in the background")?;
    Ok(Passt { socket, process })
}

/// The child of this process. Not every kernel lists the children of a process (`CONFIG_PROC_CHILDREN`).
fn only_child() -> Option<Pid> {
    match fs::read_to_string("/proc/thread-self/children") {
        Ok(children) => children.split_whitespace().next()?.parse().ok().map(Pid::from_raw),
        Err(_) => fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            (parent_of(process)? == getpid()).then(|| Pid::from_raw(process))
        }),
    }
}

/// The fourth field of /proc/PID/stat. The second, a name in parentheses, may have anything in it; proc(5).
fn parent_of(process: i32) -> Option<Pid> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = str::from_utf8(&stat[after_name..]).ok()?;
    fields.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_in_stat() {
        assert_eq!(parent_of(getpid().as_raw()), Some(nix::unistd::getppid()));
        assert_eq!(parent_of(i32::MAX), None);
    }
}
