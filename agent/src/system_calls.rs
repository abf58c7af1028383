//! The system calls that a process of the host leaves itself; seccomp(2).

use std::collections::BTreeMap;

use seccompiler::{SeccompAction, SeccompFilter, TargetArch};

/// Refuses all others from now on, to this thread and those that it starts.
pub fn allow_only(numbers: &[i64]) -> Result<(), seccompiler::Error> {
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        numbers.iter().map(|&number| (number, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, architecture)?;
    seccompiler::apply_filter(&seccompiler::BpfProgram::try_from(filter)?)
}
