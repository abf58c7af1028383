//! `--init`: a process that is PID 1 in front of the workload, as Docker's tini is. It passes signals on, reaps
//! what has lost its parent, and ends as the workload does. The child that was to become the workload stays
//! behind as this process and forks the workload: no file of the image's has a part in it.
//! <https://github.com/krallin/tini>

use std::mem::MaybeUninit;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork, getpid, setpgid};

use crate::error::{AgentError, Context};
use crate::guest::send_signal;

/// What a fault of the process itself raises: held back, it would loop in it for ever.
const FAULTS: [Signal; 7] = [
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGABRT,
    Signal::SIGTRAP,
    Signal::SIGSYS,
];

/// Returns in the workload-to-be; the calling process never does.
pub fn stay_behind() -> Result<(), AgentError> {
    let mut held = SigSet::all();
    for fault in FAULTS {
        held.remove(fault);
    }
    // Signals are waited for, not handled. Blocked they reach even the init of a PID namespace, for which
    // those without a handler are ignored.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&held), None).context(|| "hold back signals".into())?;
    // SAFETY: this process has one thread, a fork of it may do anything.
    match unsafe { fork() }.context(|| "start the workload below its init".into())? {
        ForkResult::Parent { child } => attend(child),
        ForkResult::Child => {
            take_foreground();
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
                .context(|| "reset the signal mask".into())
        }
    }
}

/// A group of its own, so that job control works, and the terminal's foreground if there is a terminal.
fn take_foreground() {
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    // SAFETY: tcsetpgrp takes two numbers. SIGTTOU is blocked; without a terminal it fails, rightly.
    unsafe { libc::tcsetpgrp(libc::STDIN_FILENO, getpid().as_raw()) };
}

/// The life of PID 1: signals to the workload, and its end as ours.
fn attend(workload: Pid) -> ! {
    // SAFETY: prctl reads a C string that lives; close_range takes numbers. Nothing of the agent's stays open,
    // and nothing keeps open what the workload may close.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"init".as_ptr());
        libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
    }
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset initializes the set; sigwaitinfo reads it and may write nothing with a null pointer.
    // It takes the C library's own signals too, which nobody sends.
    let mut next = || unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::sigwaitinfo(all.as_ptr(), std::ptr::null_mut())
    };
    loop {
        let signal = next();
        if signal == libc::SIGCHLD {
            reap(workload);
        } else if signal > 0 && signal != libc::SIGTTIN && signal != libc::SIGTTOU {
            // Fails when the workload has just ended, which SIGCHLD is about to say.
            let _ = send_signal(workload, signal);
        }
    }
}

/// Signals stand for any number of children: takes all that have ended, and ends with the workload.
fn reap(workload: Pid) {
    let mut exit = None;
    loop {
        let mut status = 0;
        // SAFETY: waitpid writes one int, to a live one.
        match Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
            Ok(pid) if pid == workload.as_raw() => exit = Some(status),
            Ok(pid) if pid > 0 => {}
            _ => break,
        }
    }
    if let Some(status) = exit {
        let code =
            if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
        // SAFETY: _exit never returns and runs nothing of the agent's.
        unsafe { libc::_exit(code) }
    }
}
