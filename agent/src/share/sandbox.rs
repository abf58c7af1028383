//! What this process may do once it serves: nothing beyond what it shares, whatever a guest talks it into.
//! Landlock bounds its files to the shared tree, by where a file is and not by how it was reached; seccomp
//! leaves it the system calls of a file server. Neither needs privileges, and each is used where the kernel
//! has it.

use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
};
use rustix::fs::{FileType, Statx};

use crate::share::file_type;
use crate::system_calls;

/// Shuts this process in, with all threads that it starts afterwards.
pub fn enter(shared: &OwnedFd, stat: &Statx, read_only: bool) -> Result<(), String> {
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("cannot give up privileges: {error}"))?;
    restrict_files(shared, stat, read_only).map_err(|error| format!("cannot enter Landlock: {error}"))?;
    system_calls::allow_only(SYSTEM_CALLS).map_err(|error| format!("cannot enter seccomp: {error}"))
}

/// Kernels before 5.19 forbid every move between directories to whoever uses Landlock: there it is left out.
fn restrict_files(shared: &OwnedFd, stat: &Statx, read_only: bool) -> Result<(), landlock::RulesetError> {
    let abi = ABI::V5;
    let mut access = if read_only { AccessFs::from_read(abi) } else { AccessFs::from_all(abi) };
    if file_type(stat) == FileType::RegularFile {
        access &= AccessFs::from_file(abi);
    }
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .create()?
        .add_rule(PathBeneath::new(shared, access))?
        .restrict_self()?;
    Ok(())
}

/// Files, the two sockets, threads and memory. No execve, no new socket, no other process.
const SYSTEM_CALLS: &[i64] = &[
    // The connection.
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_shutdown,
    libc::SYS_ppoll,
    // Files.
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_copy_file_range,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_unlinkat,
    libc::SYS_renameat2,
    libc::SYS_readlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_getxattr,
    libc::SYS_setxattr,
    libc::SYS_listxattr,
    libc::SYS_removexattr,
    libc::SYS_fcntl,
    // Threads.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_prctl,
    libc::SYS_tgkill,
    libc::SYS_kill,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
];
