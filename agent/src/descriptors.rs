//! Descriptors that a child hands to the agent, over a socket of its own: the child may be in another root, and
//! what it has opened there has no path here.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg,
    socketpair,
};

use crate::error::{AgentError, Context};

/// A socket for one message: the agent's end, then the child's.
pub fn channel() -> Result<(OwnedFd, OwnedFd), AgentError> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .context(|| "create a socket".into())
}

/// Hands over two descriptors.
pub fn send(channel: &OwnedFd, pair: [BorrowedFd<'_>; 2]) -> Result<(), AgentError> {
    let descriptors = pair.map(|descriptor| descriptor.as_raw_fd());
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(channel.as_raw_fd(), &[IoSlice::new(b"d")], &rights, MsgFlags::empty(), None)
        .context(|| "hand over descriptors".into())
        .map(drop)
}

/// Takes the two that a child has sent before it executed.
pub fn receive(channel: &OwnedFd) -> Result<[OwnedFd; 2], AgentError> {
    let mut byte = [0; 1];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(channel.as_raw_fd(), &mut buffers, Some(&mut space), flags)
        .context(|| "take over descriptors".into())?;
    let received = message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
        // SAFETY: the kernel has just made these descriptors for us.
        ControlMessageOwned::ScmRights(numbers) => Some(
            numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect::<Vec<_>>(),
        ),
        _ => None,
    });
    let received = received.unwrap_or_default();
    let count = received.len();
    received
        .try_into()
        .map_err(|_| AgentError::Invalid(format!("a child has sent {count} descriptors, expected 2")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    #[test]
    fn two_descriptors_cross_in_order() {
        let (ours, theirs) = channel().unwrap();
        let (null, zero) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
        send(&theirs, [null.as_fd(), zero.as_fd()]).unwrap();
        let [null, zero] = receive(&ours).unwrap().map(File::from);
        let mut byte = [1; 1];
        assert_eq!((&null).read(&mut byte).unwrap(), 0);
        assert_eq!((&zero).read(&mut byte).unwrap(), 1);
    }

    #[test]
    fn a_child_that_sends_nothing_is_an_error() {
        let (ours, theirs) = channel().unwrap();
        receive(&ours).unwrap_err();
        drop(theirs);
        assert!(receive(&ours).unwrap_err().to_string().contains("sent 0 descriptors"));
    }
}
