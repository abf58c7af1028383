//! The workload's processes, read from /proc as ps does: an image needs no ps of its own.
//! <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;

use crate::clock;
use crate::proto::{ProcessInfo, ProcessesResponse};
use crate::user;

/// Enough for anyone to look at; more is cut, and said to be.
const MAX_PROCESSES: usize = 4096;
const MAX_ARGUMENT_BYTES: u64 = 4096;
/// Of all arguments together: an answer must fit a message.
const MAX_TOTAL_BYTES: usize = 1 << 20;
/// Ticks a second in everything that /proc tells: USER_HZ.
const TICKS: u64 = 100;

/// Lists the processes of all PID namespaces below the agent's own.
pub fn list() -> ProcessesResponse {
    let users = user::names();
    let boot_ns = clock::unix_ns() - i64::try_from(clock::kernel_age().as_nanos()).unwrap_or(0);
    let mut found: Vec<(u32, u32, ProcessInfo)> = Vec::new();
    let mut total = 0;
    let mut is_cut = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if found.len() == MAX_PROCESSES || total > MAX_TOTAL_BYTES {
            is_cut = true;
            break;
        }
        // It may end at any moment.
        let Some((parent, mut info)) = read(pid, boot_ns) else { continue };
        info.user = users.get(&info.uid).cloned().unwrap_or_default();
        total += info.args.iter().map(String::len).sum::<usize>();
        found.push((pid, parent, info));
    }
    let inner: HashMap<u32, u32> = found.iter().map(|(pid, _, info)| (*pid, info.pid)).collect();
    let processes = found.into_iter().map(|(_, parent, info)| ProcessInfo {
        // A parent outside is the agent.
        parent_pid: inner.get(&parent).copied().unwrap_or(0),
        ..info
    });
    ProcessesResponse { processes: processes.collect(), is_cut }
}

/// A process by its pid here, with its parent's here. `None` for the agent and the kernel's own.
fn read(pid: u32, boot_ns: i64) -> Option<(u32, ProcessInfo)> {
    let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let status = text("status")?;
    let inner = inner_pid(&status)?;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (parent, info) = parse_stat(&String::from_utf8_lossy(&stat), boot_ns)?;
    let mut command_line = Vec::new();
    let file = File::open(format!("/proc/{pid}/cmdline")).ok()?;
    // A zombie has none, and a process that ends meanwhile neither.
    let _ = file.take(MAX_ARGUMENT_BYTES).read_to_end(&mut command_line);
    Some((parent, ProcessInfo { pid: inner, uid: uid_of(&status)?, args: arguments(&command_line), ..info }))
}

/// The pid in the namespace below ours, the second of `NSpid`.
fn inner_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The effective user.
fn uid_of(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn arguments(command_line: &[u8]) -> Vec<String> {
    let text = command_line.strip_suffix(&[0]).unwrap_or(command_line);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The fields of /proc/PID/stat; the name in the second may hold spaces and parentheses.
fn parse_stat(text: &str, boot_ns: i64) -> Option<(u32, ProcessInfo)> {
    let (head, rest) = text.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Numbered from 3, as in the manual.
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<i64>().ok());
    let amount = |field: usize| number(field).and_then(|value| u64::try_from(value).ok()).unwrap_or(0);
    let started_ns = i64::try_from(amount(22)).ok()?.checked_mul(1_000_000_000 / TICKS.cast_signed())?;
    let info = ProcessInfo {
        state: (*fields.first()?).to_owned(),
        terminal: terminal_name(u32::try_from(amount(7)).unwrap_or(0)),
        started_at_unix_ns: boot_ns.checked_add(started_ns)?,
        cpu_us: (amount(14) + amount(15)).saturating_mul(1_000_000 / TICKS),
        virtual_bytes: amount(23),
        resident_bytes: amount(24).saturating_mul(4096),
        nice: i32::try_from(number(19)?).ok()?,
        threads: u32::try_from(amount(20)).unwrap_or(0),
        name: name.to_owned(),
        ..ProcessInfo::default()
    };
    Some((u32::try_from(number(4)?).ok()?, info))
}

/// The name below /dev of a device number as `tty_nr` has it.
fn terminal_name(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    match major {
        0 => String::new(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        5 if minor == 1 => "console".into(),
        4 if minor >= 64 => format!("ttyS{}", minor - 64),
        4 => format!("tty{minor}"),
        _ => format!("{major}:{minor}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_from_behind_the_name() {
        let text = "61 (a) b (c) S 40 61 61 34816 61 4194304 1 2 3 4 150 50 0 0 20 -5 3 0 200 8192 2 rest";
        let (parent, info) = parse_stat(text, 1_000_000_000).unwrap();
        assert_eq!((parent, info.name.as_str(), info.state.as_str()), (40, "a) b (c", "S"));
        assert_eq!(
            (info.terminal.as_str(), info.cpu_us, info.nice, info.threads),
            ("pts/0", 2_000_000, -5, 3)
        );
        assert_eq!(
            (info.started_at_unix_ns, info.virtual_bytes, info.resident_bytes),
            (3_000_000_000, 8192, 8192)
        );
        assert!(parse_stat("61 (a", 0).is_none());
        assert!(parse_stat("", 0).is_none());
    }

    #[test]
    fn the_workloads_pid_is_the_second() {
        assert_eq!(inner_pid("Name:\tsh\nNSpid:\t61\t7\n"), Some(7));
        assert_eq!(
            inner_pid("Name:\tsh\nNSpid:\t61\t7\t1\n"),
            Some(7),
            "a namespace that the workload has made"
        );
        assert_eq!(inner_pid("Name:\tagent\nNSpid:\t1\n"), None);
    }

    #[test]
    fn arguments_may_be_empty_or_missing() {
        assert_eq!(arguments(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(arguments(b""), Vec::<String>::new());
        assert_eq!(arguments(b"nginx: worker"), ["nginx: worker"], "a title set by the process");
    }
}
