//! The workload's control group: all controllers enabled, and the kernel's record of what it killed.
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::device_filter;

const MOUNT: &str = "/cgroup";
const GROUP: &str = "/cgroup/workload";

/// The group, if the kernel has control groups at all.
#[derive(Debug)]
pub struct Cgroup {
    processes: File,
}

impl Cgroup {
    /// Creates the group. `None` when the kernel has none: the workload runs without.
    pub fn create() -> Option<Self> {
        fs::create_dir(MOUNT).ok()?;
        mount(Some("cgroup2"), MOUNT, Some("cgroup2"), MsFlags::empty(), None::<&str>).ok()?;
        let controllers = fs::read_to_string(format!("{MOUNT}/cgroup.controllers")).ok()?;
        let enable: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        // A controller that cannot be enabled is missing from the workload's view, nothing more.
        let _ = fs::write(format!("{MOUNT}/cgroup.subtree_control"), enable.join(" "));
        fs::create_dir(GROUP).ok()?;
        // A kernel without it runs the workload all the same: what it can spoil is its own guest's story.
        let _ = File::open(GROUP).and_then(|directory| device_filter::attach(directory.as_fd()));
        let processes = OpenOptions::new().write(true).open(format!("{GROUP}/cgroup.procs")).ok()?;
        Some(Self { processes })
    }

    /// Moves the calling process into the group, or where the workload is within it: an init like systemd
    /// spreads its processes over groups below, and then this one may have none itself.
    pub fn join(&self, workload: Option<Pid>) {
        if (&self.processes).write_all(b"0").is_ok() {
            return;
        }
        // Failing this costs accounting, not correctness.
        let _ = workload.and_then(group_of).map(|group| fs::write(group.join("cgroup.procs"), "0"));
    }
}

/// The directory of a process's group: `0::/workload/init.scope` in /proc/<pid>/cgroup, as the agent sees it.
fn group_of(process: Pid) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(MOUNT).join(path))
}

/// How many processes the kernel's OOM killer has ended: the workload's, or without a memory controller all.
pub fn oom_kills() -> u64 {
    let events = fs::read_to_string(format!("{GROUP}/memory.events"));
    let text = events.or_else(|_| fs::read_to_string("/proc/vmstat")).unwrap_or_default();
    parse_oom_kills(&text)
}

fn parse_oom_kills(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill "))
        .and_then(|count| count.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_either_file() {
        assert_eq!(parse_oom_kills("low 0\nhigh 0\nmax 0\noom 1\noom_kill 2\noom_group_kill 0\n"), 2);
        assert_eq!(parse_oom_kills("nr_free_pages 5\noom_kill 1\n"), 1);
        assert_eq!(parse_oom_kills(""), 0);
    }
}
