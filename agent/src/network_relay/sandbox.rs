//! What the relay may do once it relays: pass bytes on between the descriptors that it has, whatever a guest
//! talks it into. No files, no new sockets, no other processes.

use std::fs::File;

use landlock::{ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr};
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{
    Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setgid, setgroups, setuid,
};

use crate::system_calls;

/// Shuts this process in, which has one thread.
pub fn enter() -> Result<(), String> {
    detach().map_err(|error| format!("cannot detach the network's relay: {error}"))?;
    if geteuid().is_root() {
        become_nobody()?;
    }
    let forbid_privileges = || -> nix::Result<()> {
        nix::sys::prctl::set_no_new_privs()?;
        // Its notes are there by now: nobody has to look for it by its environment, which this hides.
        set_dumpable(false)
    };
    forbid_privileges().map_err(|error| format!("cannot give up privileges: {error}"))?;
    forbid_files().map_err(|error| format!("cannot enter Landlock: {error}"))?;
    system_calls::allow_only(SYSTEM_CALLS).map_err(|error| format!("cannot enter seccomp: {error}"))
}

/// Lets go of the log and the working directory, and of signals that are meant for others.
fn detach() -> std::io::Result<()> {
    chdir("/")?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // Only now: passt would have inherited it.
    for ignored in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP, Signal::SIGPIPE] {
        // SAFETY: there is no handler that could do anything.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// As root, the relay becomes whom the kernel takes for nobody.
fn become_nobody() -> Result<(), String> {
    const NOBODY: u32 = 65_534;
    let drop_user = || -> nix::Result<()> {
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY))?;
        setuid(Uid::from_raw(NOBODY))
    };
    drop_user().map_err(|error| format!("cannot become the user {NOBODY}: {error}"))?;
    if setuid(Uid::from_raw(0)).is_ok() || setgid(Gid::from_raw(0)).is_ok() {
        return Err(format!("the user {NOBODY} could become root again"));
    }
    Ok(())
}

/// Used where the kernel has it.
fn forbid_files() -> Result<(), landlock::RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .create()?
        .restrict_self()
        .map(drop)
}

const SYSTEM_CALLS: &[i64] = &[
    // Frames, and the word to the launcher.
    libc::SYS_ppoll,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_getsockopt,
    libc::SYS_close,
];
