//! What the spec says of limits and privileges, made ready for the processes that it is about.

use std::fs;

use crate::capabilities;
use crate::cgroup::{self, Cgroup};
use crate::error::{AgentError, Context};
use crate::memory_limit::MemoryLimitError;
use crate::proto::{Names, Privileges, ResourceChange, Resources, Rlimit, VmSpec};

/// Settings of every process of the workload, the first one and those beside it.
#[derive(Debug, Default)]
pub struct Settings {
    pub privileges: Privileges,
    pub names: Names,
    pub oom_score_adj: i32,
    pub rlimits: Vec<Rlimit>,
}

impl Settings {
    pub fn of(spec: &VmSpec) -> Self {
        let resources = spec.resources.clone().unwrap_or_default();
        Self {
            privileges: resources.privileges.unwrap_or_else(capabilities::default_privileges),
            names: resources.names.unwrap_or_default(),
            oom_score_adj: resources.oom_score_adj,
            rlimits: spec.process.as_ref().map(|process| process.rlimits.clone()).unwrap_or_default(),
        }
    }
}

/// Sets the kernel's settings. The kernel is the workload's own: it may have any.
pub fn apply_sysctls(resources: &Resources) -> Result<(), AgentError> {
    for (name, value) in &resources.sysctls {
        let path = sysctl_path(name)
            .ok_or_else(|| AgentError::Invalid(format!("{name:?} is not the name of a sysctl")))?;
        fs::write(path, value).context(|| format!("set sysctl {name} to {value:?}"))?;
    }
    Ok(())
}

/// As sysctl(8) has it: the first separator tells which one is meant, the other is part of a name.
fn sysctl_path(name: &str) -> Option<String> {
    let swapped: String = match name.find(['.', '/']).and_then(|at| name[at..].chars().next()) {
        Some('/') => name.to_owned(),
        _ => name
            .chars()
            .map(|letter| match letter {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
    };
    let is_path = swapped.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    (is_path && !swapped.contains('\0')).then(|| format!("/proc/sys/{swapped}"))
}

/// Why limits cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("the guest's kernel has no control groups for {0}")]
    Missing(&'static str),
    #[error(transparent)]
    Memory(#[from] MemoryLimitError),
    #[error(transparent)]
    Agent(#[from] AgentError),
}

/// Changes the workload's limits; memory first, for that alone can be refused. May block.
pub fn update(cgroup: Option<&Cgroup>, change: &ResourceChange) -> Result<(), UpdateError> {
    if let Some(returned) = change.returned_memory_bytes {
        let memory = cgroup.and_then(|cgroup| cgroup.memory.as_ref());
        memory.ok_or(UpdateError::Missing("memory"))?.change(returned)?;
    }
    if let Some(quota) = change.cpu_quota_us {
        cgroup::set_cpu_quota(quota).context(|| "limit the processors".into())?;
    }
    if let Some(limit) = change.pids_limit {
        cgroup::set_pids_limit(limit).context(|| "limit the processes".into())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctls_are_named_with_dots_or_slashes() {
        let path = |name| sysctl_path(name).unwrap_or_default();
        assert_eq!(path("net.ipv4.ip_forward"), "/proc/sys/net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eth0.100/forwarding"), "/proc/sys/net/ipv4/conf/eth0.100/forwarding");
        assert_eq!(path("net.ipv4.conf.eth0/100.forwarding"), "/proc/sys/net/ipv4/conf/eth0.100/forwarding");
        for bad in ["", ".", "..", "a..b", "../../etc/passwd", "net/../../x", "a//b", "/etc"] {
            assert_eq!(sysctl_path(bad), None, "{bad:?}");
        }
    }
}
