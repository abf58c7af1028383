//! The workload's control groups: its limits, and the kernel's record of what it uses and what was killed.
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html>
//!
//! ```text
//! /cgroup            the agent
//!   workload         limits of the whole: processors, memory less what the agent needs, processes
//!     main           the workload's own limits
//!       root         the workload itself, which sees this group as its root; its limits are here once more
//!       checks       its health checks: root takes no processes any more once the workload has groups of its own
//!     exec           limits of what exec has started; it gets its share of the processors whatever main is doing
//!       root         what exec has started
//! ```
//!
//! Whoever is root in a cgroup namespace can mount its root group writable, from a user namespace if need be, and
//! change what limits that. So what counts is one group further up, which nobody but the agent can reach. The mount
//! option nsdelegate, which is meant for this, is not enough: in a namespace made below it does not protect the root
//! above, and it would keep Docker or systemd from taking in what exec has started.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;

use nix::mount::{MsFlags, mount};
use nix::unistd::Pid;

use crate::device_filter;
use crate::error::{AgentError, Context};
use crate::memory_limit::MemoryLimit;
use crate::proto::{Resources, StatsResponse};

const MOUNT: &str = "/cgroup";
const GROUP: &str = "/cgroup/workload";
pub const MAIN: &str = "/cgroup/workload/main";
const MAIN_ROOT: &str = "/cgroup/workload/main/root";
const CHECKS: &str = "/cgroup/workload/main/checks";
const EXEC: &str = "/cgroup/workload/exec";
const EXEC_ROOT: &str = "/cgroup/workload/exec/root";

/// Microseconds in which a quota of processor time is to be had, Docker's too.
const CPU_PERIOD_US: u32 = 100_000;

/// Whose processes have a group of their own.
#[derive(Debug, Clone, Copy)]
pub enum Group {
    Workload,
    /// The image chooses what they do, as with the workload, whose limits they are under.
    HealthCheck,
    Exec,
}

/// The groups, if the kernel has control groups at all.
#[derive(Debug)]
pub struct Cgroup {
    agent: File,
    workload: File,
    checks: File,
    exec: File,
    pub memory: Option<MemoryLimit>,
}

impl Cgroup {
    /// Creates the groups. `None` when the kernel has none: the workload runs without, unless it was to be
    /// limited.
    pub fn create(resources: &Resources) -> Result<Option<Self>, AgentError> {
        match Self::make(resources) {
            Ok(mut cgroup) => {
                // A kernel without memory control groups kills by its own judgement, which spares the agent.
                cgroup.memory = MemoryLimit::set(GROUP, [MAIN, MAIN_ROOT], resources.swap_bytes).ok();
                set_cpu_quota(resources.cpu_quota_us)
                    .context(|| "limit the processors".into())
                    .or_else(|error| if resources.cpu_quota_us == 0 { Ok(()) } else { Err(error) })?;
                set_pids_limit(resources.pids_limit)
                    .context(|| "limit the processes".into())
                    .or_else(|error| if resources.pids_limit == 0 { Ok(()) } else { Err(error) })?;
                Ok(Some(cgroup))
            }
            Err(_) if resources.cpu_quota_us == 0 && resources.pids_limit == 0 => Ok(None),
            Err(error) => Err(error).context(|| "create the workload's control group".into()),
        }
    }

    fn make(resources: &Resources) -> io::Result<Self> {
        fs::create_dir(MOUNT)?;
        mount(Some("cgroup2"), MOUNT, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
        let controllers = fs::read_to_string(format!("{MOUNT}/cgroup.controllers"))?;
        let enable: Vec<String> = controllers.split_whitespace().map(|name| format!("+{name}")).collect();
        let enable = enable.join(" ");
        // A controller that cannot be enabled is missing from the workload's view, nothing more.
        let _ = fs::write(format!("{MOUNT}/cgroup.subtree_control"), &enable);
        for group in [GROUP, MAIN] {
            fs::create_dir(group)?;
            let _ = fs::write(format!("{group}/cgroup.subtree_control"), &enable);
        }
        for group in [MAIN_ROOT, CHECKS, EXEC, EXEC_ROOT] {
            fs::create_dir(group)?;
        }
        let all_devices = resources.privileges.as_ref().is_some_and(|privileges| privileges.all_devices);
        if !all_devices {
            // A kernel without it runs the workload all the same: what it can spoil is its own guest's story.
            let _ = File::open(GROUP).and_then(|directory| device_filter::attach(directory.as_fd()));
        }
        let processes = |group: &str| OpenOptions::new().write(true).open(format!("{group}/cgroup.procs"));
        Ok(Self {
            agent: processes(MOUNT)?,
            workload: processes(MAIN_ROOT)?,
            checks: processes(CHECKS)?,
            exec: processes(EXEC_ROOT)?,
            memory: None,
        })
    }

    /// Moves the calling process into a group: what is in none is not limited.
    pub fn join(&self, group: Group) -> Result<(), AgentError> {
        self.admit(Pid::from_raw(0), group)
    }

    /// Moves a process into a group, which takes it even if it is full: it is what starts processes that is held up.
    pub fn admit(&self, pid: Pid, group: Group) -> Result<(), AgentError> {
        let processes = match group {
            Group::Workload => &self.workload,
            Group::HealthCheck => &self.checks,
            Group::Exec => &self.exec,
        };
        write_pid(processes, pid).context(|| format!("join the control group of {group:?}"))
    }

    /// Moves the calling process back to the agent's.
    pub fn leave(&self) -> Result<(), AgentError> {
        write_pid(&self.agent, Pid::from_raw(0)).context(|| "leave the workload's control group".into())
    }
}

/// The calling process is 0.
fn write_pid(mut processes: &File, pid: Pid) -> io::Result<()> {
    processes.write_all(pid.to_string().as_bytes())
}

/// Limits all of the workload to `quota_us` of processor time in each period; 0 lifts the limit.
pub fn set_cpu_quota(quota_us: u32) -> io::Result<()> {
    let quota = if quota_us == 0 { "max".into() } else { quota_us.to_string() };
    // The outer one is what counts, the inner one what the workload reads.
    for group in [GROUP, MAIN_ROOT] {
        fs::write(format!("{group}/cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
    }
    Ok(())
}

/// How many processes and threads there may be. What is left of those that the kernel can manage is its own and the
/// agent's, which needs one to serve any call.
#[derive(Debug, PartialEq, Eq)]
struct PidsLimits {
    workload: u32,
    /// Its own, so that neither can keep the other from starting a process.
    exec: u32,
}

impl PidsLimits {
    /// Of the workload `limit` at most; 0 is no limit of the user's.
    fn of(manageable: u32, limit: u32) -> Self {
        let most = manageable / 2;
        Self { workload: if limit == 0 { most } else { limit.min(most) }, exec: manageable / 4 }
    }
}

/// Limits the workload's processes and threads, and those of exec; 0 leaves the workload half of what the kernel can
/// manage, and more than that it never has.
pub fn set_pids_limit(limit: u32) -> io::Result<()> {
    let limits = PidsLimits::of(manageable_pids()?, limit);
    let whole = limits.workload.saturating_add(limits.exec);
    for (group, limit) in
        [(GROUP, whole), (MAIN, limits.workload), (MAIN_ROOT, limits.workload), (EXEC, limits.exec)]
    {
        fs::write(format!("{group}/pids.max"), limit.to_string())?;
    }
    Ok(())
}

fn manageable_pids() -> io::Result<u32> {
    let setting = |name| -> io::Result<u32> {
        let text = fs::read_to_string(format!("/proc/sys/kernel/{name}"))?;
        text.trim().parse().map_err(io::Error::other)
    };
    Ok(setting("threads-max")?.min(setting("pid_max")?))
}

/// How many processes the kernel's OOM killer has ended: the workload's, or without a memory controller all.
pub fn oom_kills() -> u64 {
    let events = fs::read_to_string(format!("{GROUP}/memory.events"));
    let text = events.or_else(|_| fs::read_to_string("/proc/vmstat")).unwrap_or_default();
    value_of(&text, "oom_kill").unwrap_or(0)
}

/// Fills in what the groups tell of the workload's use.
pub fn read_usage(stats: &mut StatsResponse) {
    let read = |name: &str| fs::read_to_string(format!("{GROUP}/{name}")).unwrap_or_default();
    let number = |name: &str| read_number(&format!("{GROUP}/{name}")).unwrap_or(0);
    let cpu = read("cpu.stat");
    stats.cpu_usage_us = value_of(&cpu, "usage_usec").unwrap_or(0);
    stats.cpu_throttled_us = value_of(&cpu, "throttled_usec").unwrap_or(0);
    let memory = read("memory.stat");
    let given_back = value_of(&memory, "inactive_file").unwrap_or(0);
    stats.page_cache_bytes = value_of(&memory, "file").unwrap_or(0);
    stats.memory_bytes = number("memory.current").saturating_sub(given_back);
    stats.memory_limit_bytes = read_number(&format!("{MAIN}/memory.max")).unwrap_or(0);
    stats.swap_bytes = number("memory.swap.current");
    stats.pids = u32::try_from(number("pids.current")).unwrap_or(u32::MAX);
    let limit = read_number(&format!("{MAIN}/pids.max")).unwrap_or(0);
    stats.pids_limit = u32::try_from(limit).unwrap_or(0);
    let io = read("io.stat");
    stats.read_bytes = sum_of(&io, "rbytes");
    stats.written_bytes = sum_of(&io, "wbytes");
    stats.reads = sum_of(&io, "rios");
    stats.writes = sum_of(&io, "wios");
    stats.oom_kills = oom_kills();
}

/// A file of one number; `None` for "max".
pub fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number behind `key` in a file of `KEY NUMBER` lines.
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
        .and_then(|count| count.trim().parse().ok())
}

/// The numbers of `KEY=NUMBER` in all lines, which are devices.
fn sum_of(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found_in_either_file() {
        let kills = |text| value_of(text, "oom_kill");
        assert_eq!(kills("low 0\nhigh 0\nmax 0\noom 1\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills("nr_free_pages 5\noom_kill 1\n"), Some(1));
        assert_eq!(kills(""), None);
    }

    #[test]
    fn the_workload_and_exec_leave_the_agent_its_part() {
        let limits = |limit| PidsLimits::of(1000, limit);
        assert_eq!(limits(0), PidsLimits { workload: 500, exec: 250 });
        assert_eq!(limits(499), PidsLimits { workload: 499, exec: 250 });
        assert_eq!(limits(501), PidsLimits { workload: 500, exec: 250 });
    }

    #[test]
    fn the_devices_of_io_stat_are_added_up() {
        let text =
            "254:16 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n254:0 rbytes=1 wbytes=2 rios=3\n";
        assert_eq!((sum_of(text, "rbytes"), sum_of(text, "wios"), sum_of(text, "rios")), (4097, 0, 4));
        assert_eq!(sum_of("254:0 rbytes=x\n", "rbytes"), 0);
    }
}
