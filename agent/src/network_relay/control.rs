//! What the launcher and its relay say to each other before the VMM runs: the launcher hands over the tap's
//! packet socket, and the relay says that it is ready, or why not.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv, recvmsg, send,
    sendmsg, socketpair,
};

/// No message of an error begins with it.
const READY: &[u8] = &[0];
const MAX_MESSAGE_BYTES: usize = 4096;

/// The launcher's end, then the relay's.
pub fn channel() -> Result<(OwnedFd, OwnedFd), String> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| format!("cannot make a socket: {error}"))
}

/// Hands a descriptor over to the relay. If that has ended, [`verdict`] tells.
pub fn hand_over(channel: &OwnedFd, descriptor: &OwnedFd) {
    let descriptors = [descriptor.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let _ = sendmsg::<()>(channel.as_raw_fd(), &[IoSlice::new(b"d")], &rights, MsgFlags::MSG_NOSIGNAL, None);
}

/// Waits for the descriptor. An error when the launcher has ended, or nothing of the kind has come.
pub fn take_over(channel: &OwnedFd) -> Result<OwnedFd, String> {
    let mut byte = [0; 1];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let message =
        recvmsg::<()>(channel.as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
            .map_err(|error| format!("cannot take over the tap: {error}"))?;
    let number = message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
        ControlMessageOwned::ScmRights(numbers) => numbers.first().copied(),
        _ => None,
    });
    // SAFETY: the kernel has just made this descriptor for us, and has room for one only.
    number
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .ok_or_else(|| "the VMM's launcher has ended".into())
}

/// Tells the launcher how the start has gone. Whether it still listens is its own affair.
pub fn tell(channel: &OwnedFd, result: Result<(), &str>) {
    let message = result.map_or_else(str::as_bytes, |()| READY);
    let message = &message[..message.len().min(MAX_MESSAGE_BYTES)];
    let _ = send(channel.as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL);
}

/// Waits for what the relay tells; `None` when it has ended without a word.
pub fn verdict(channel: &OwnedFd) -> Option<Result<(), String>> {
    let mut buffer = [0; MAX_MESSAGE_BYTES];
    let mut receive = || recv(channel.as_raw_fd(), &mut buffer, MsgFlags::empty());
    // That the relay has ended without having taken the descriptor is told before what it had said.
    let received = receive().or_else(|error| if error == Errno::ECONNRESET { receive() } else { Err(error) });
    let count = received.unwrap_or(0);
    match &buffer[..count] {
        [] => None,
        READY => Some(Ok(())),
        message => Some(Err(String::from_utf8_lossy(message).into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;

    #[test]
    fn a_descriptor_crosses() {
        let (launcher, relay) = channel().unwrap();
        hand_over(&launcher, &File::open("/dev/zero").unwrap().into());
        let mut byte = [1; 1];
        File::from(take_over(&relay).unwrap()).read_exact(&mut byte).unwrap();
        assert_eq!(byte, [0]);
    }

    #[test]
    fn a_launcher_that_ends_is_an_error() {
        let (launcher, relay) = channel().unwrap();
        drop(launcher);
        assert_eq!(take_over(&relay).unwrap_err(), "the VMM's launcher has ended");
        tell(&relay, Ok(()));
    }

    #[test]
    fn the_launcher_hears_of_a_relay_that_ended_before_it_took_over() {
        let (launcher, relay) = channel().unwrap();
        hand_over(&launcher, &File::open("/dev/null").unwrap().into());
        tell(&relay, Err("no"));
        drop(relay);
        assert_eq!(verdict(&launcher), Some(Err("no".into())));
    }

    #[test]
    fn the_launcher_hears_how_it_went() {
        let (launcher, relay) = channel().unwrap();
        tell(&relay, Ok(()));
        assert_eq!(verdict(&launcher), Some(Ok(())));
        tell(&relay, Err("no"));
        assert_eq!(verdict(&launcher), Some(Err("no".into())));
        let long = "x".repeat(10_000);
        tell(&relay, Err(&long));
        assert_eq!(verdict(&launcher), Some(Err(long[..MAX_MESSAGE_BYTES].into())));
        drop(relay);
        assert_eq!(verdict(&launcher), None);
        hand_over(&launcher, &File::open("/dev/null").unwrap().into());
    }
}
