//! Terminals of the workload's world. A child allocates its own, in the devpts that the workload sees, so that
//! its name means there what it means everywhere; the agent gets the other end over a socket.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::mount::{MsFlags, mount};
use nix::unistd::{Uid, dup2_stderr, dup2_stdin, dup2_stdout, fchown};

use crate::descriptors;
use crate::error::{AgentError, Context};
use crate::proto::ConsoleSize;

/// Of the devpts instance itself: /dev/ptmx may be anything that the workload has put there.
const MULTIPLEXER: &str = "/dev/pts/ptmx";
const CONSOLE: &str = "/dev/console";

/// What a child allocates its terminal with.
#[derive(Debug)]
pub struct Request {
    /// The agent's end of the terminal is sent over this.
    pub channel: OwnedFd,
    pub size: Option<ConsoleSize>,
}

/// The agent's ends of a terminal.
#[derive(Debug)]
pub struct Terminal {
    /// Non-blocking.
    pub master: OwnedFd,
    /// Held for as long as the process runs: a master whose slaves are all closed for a moment, because the process
    /// opens its terminal anew, reads as if it had ended.
    pub slave: OwnedFd,
}

/// Allocates a terminal in the child, sends both of its ends to the agent and returns the slave. `is_console` makes it
/// the world's /dev/console too, as in Docker.
pub fn allocate(request: &Request, is_console: bool) -> Result<File, AgentError> {
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(MULTIPLEXER)
        .context(|| format!("open {MULTIPLEXER}"))?;
    let locked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which lives.
    let unlocked = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const locked) };
    Errno::result(unlocked).context(|| "unlock a terminal".into())?;
    // SAFETY: TIOCGPTPEER takes flags and returns a descriptor.
    let slave = unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)
    };
    let slave = Errno::result(slave).context(|| "open a terminal".into())?;
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    let slave = unsafe { File::from_raw_fd(slave) };
    if let Some(size) = &request.size {
        resize(&master, size).context(|| "set the size of a terminal".into())?;
    }
    if is_console {
        make_console(&master)?;
    }
    descriptors::send(&request.channel, [master.as_fd(), slave.as_fd()])?;
    Ok(slave)
}

fn make_console(master: &File) -> Result<(), AgentError> {
    let mut number: libc::c_uint = 0;
    // SAFETY: TIOCGPTN writes one unsigned int, to a live one.
    let named = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    Errno::result(named).context(|| "name a terminal".into())?;
    fs::write(CONSOLE, "").context(|| format!("create {CONSOLE}"))?;
    let path = format!("/dev/pts/{number}");
    mount(Some(path.as_str()), CONSOLE, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .context(|| format!("bind {path} to {CONSOLE}"))
}

/// Makes the terminal the calling process's standard streams. It belongs to the user, who may open it again; its
/// group stays that of terminals.
pub fn connect(slave: &File, user: Uid) -> Result<(), AgentError> {
    fchown(slave, Some(user), None).context(|| "give the terminal to the user".into())?;
    dup2_stdin(slave).context(|| "connect stdin".into())?;
    dup2_stdout(slave).context(|| "connect stdout".into())?;
    dup2_stderr(slave).context(|| "connect stderr".into())
}

/// Makes the terminal that is stdin the controlling one of the calling session leader.
pub fn take_control() -> Result<(), AgentError> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })
        .context(|| "take the terminal".into())
        .map(drop)
}

/// Takes the ends that a child has sent before it executed.
pub fn receive(channel: &OwnedFd) -> Result<Terminal, AgentError> {
    let [master, slave] = descriptors::receive(channel)?;
    fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK))
        .context(|| "take over a terminal".into())?;
    Ok(Terminal { master, slave })
}

/// Sets the size; whoever is in the terminal's foreground is told, if it has changed.
pub fn resize(master: impl AsFd, size: &ConsoleSize) -> Result<(), Errno> {
    let bounded = |length: u32| u16::try_from(length).unwrap_or(u16::MAX);
    let size = libc::winsize {
        ws_row: bounded(size.height),
        ws_col: bounded(size.width),
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize, which lives.
    Errno::result(unsafe { libc::ioctl(master.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};

    /// The line discipline works in the kernel's own time.
    fn read(master: &OwnedFd) -> std::io::Result<Vec<u8>> {
        let mut bytes = [0; 8];
        loop {
            match File::from(master.try_clone()?).read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                length => return length.map(|length| bytes[..length].to_vec()),
            }
        }
    }

    #[test]
    fn a_terminal_crosses_the_socket_with_its_size() {
        let (ours, channel) = descriptors::channel().unwrap();
        let request = Request { channel, size: Some(ConsoleSize { height: 12, width: 70_000 }) };
        let mut slave = allocate(&request, false).unwrap();
        let terminal = receive(&ours).unwrap();
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes one winsize, to a live one.
        unsafe { libc::ioctl(slave.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        assert_eq!((size.ws_row, size.ws_col), (12, u16::MAX));
        slave.write_all(b"hi\n").unwrap();
        assert_eq!(read(&terminal.master).unwrap(), b"hi\r\n");
    }

    #[test]
    fn a_terminal_that_its_process_has_closed_has_not_ended() {
        let (ours, channel) = descriptors::channel().unwrap();
        drop(allocate(&Request { channel, size: None }, false).unwrap());
        let Terminal { master, slave } = receive(&ours).unwrap();
        let mut byte = [0; 1];
        let error = File::from(master.try_clone().unwrap()).read(&mut byte).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        drop(slave);
        assert_eq!(read(&master).unwrap_err().raw_os_error(), Some(libc::EIO));
    }
}
