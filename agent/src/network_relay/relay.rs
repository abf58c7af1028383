//! Passes frames on between the VMM and passt, until one of them ends.
//!
//! What the guest sends waits in the VMM while passt cannot take it. What passt sends is always taken, and
//! dropped when the guest is too slow, as a switch does: passt drops it too when its socket is full, but the
//! passt of Debian 12 may have sent the length of a frame by then, and the stream would have no meaning from
//! there on. <https://passt.top/passt/tree/tap.c?id=7c7625d#n74>

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{MsgFlags, recv, send};

use crate::filter;
use crate::frames::{Frames, MAX_ENTRY_BYTES, MAX_FRAME_BYTES, MIN_FRAME_BYTES, PREFIX_BYTES, prefix};
use crate::packet_socket;

/// Of the guest's frames; more of them wait in the VMM or its socket.
const FROM_GUEST_BYTES: usize = 256 * 1024;
/// Of frames to the guest: as many as a guest lets others send before it has taken any. A smaller buffer drops
/// more of them.
const TO_GUEST_BYTES: usize = 4 * 1024 * 1024;

/// The passt of Debian 12 reads whatever its socket holds, and takes a frame that does not end there by one
/// more read. That is right as long as no frame is in more than two parts, the first with the whole length in
/// it. A message of this size is one part to the kernel, and a larger frame alone in its message is two.
/// <https://passt.top/passt/tree/tap.c?id=7c7625d#n872>,
/// <https://elixir.bootlin.com/linux/v6.12/source/net/unix/af_unix.c> (`UNIX_SKB_FRAGS_SZ`)
const PASST_MESSAGE_BYTES: usize = 32 * 1024;

/// How many packets are received from a tap before others have their turn.
const MAX_PACKETS_AT_ONCE: usize = 64;

/// When to try again where nothing tells that there is room: from the first pause, twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Where the VMM's frames are.
#[derive(Debug)]
pub enum Link {
    /// A stream of frames.
    Stream(OwnedFd),
    /// A packet socket on the VMM's tap.
    Packets(OwnedFd),
}

impl Link {
    fn descriptor(&self) -> &OwnedFd {
        let (Self::Stream(descriptor) | Self::Packets(descriptor)) = self;
        descriptor
    }
}

/// How receiving went.
#[derive(Debug, PartialEq, Eq)]
enum Received {
    /// Perhaps nothing, but the other side is there.
    Open,
    Ended,
}

/// How sending went.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// All, or what the other side has room for: poll(2) tells when there is more.
    AsMuchAsFits,
    /// The kernel has no room, and will not tell.
    NoRoom,
    Ended,
}

/// Returns when passt or the VMM has ended: `vmm` is a pidfd. An error when a stream has lost its meaning.
pub fn run(link: &Link, passt: &OwnedFd, vmm: &OwnedFd) -> Result<(), String> {
    let mut from_guest = Frames::new(FROM_GUEST_BYTES);
    let mut to_guest = Frames::new(TO_GUEST_BYTES);
    let mut pause = None;
    loop {
        let Some([vmm, passt_is, link_is]) = wait(link, passt, vmm, [&from_guest, &to_guest], pause)? else {
            continue;
        };
        if !vmm.is_empty() {
            return Ok(());
        }
        let readable = |events: PollFlags| events.intersects(!PollFlags::POLLOUT);
        if readable(passt_is) {
            to_guest.make_room();
            if receive_stream(passt, &mut to_guest)? == Received::Ended {
                return Ok(());
            }
            to_guest.check(|_| true)?;
        }
        if readable(link_is) {
            if receive_from_guest(link, &mut from_guest)? == Received::Ended {
                return Ok(());
            }
            from_guest.check(filter::passes)?;
        }
        let sent = [
            send_stream(passt, &mut from_guest, PASST_MESSAGE_BYTES)?,
            match link {
                Link::Stream(stream) => send_stream(stream, &mut to_guest, TO_GUEST_BYTES)?,
                Link::Packets(socket) => send_packets(socket, &mut to_guest),
            },
        ];
        if sent.contains(&Sent::Ended) {
            return Ok(());
        }
        pause = sent.contains(&Sent::NoRoom).then(|| match pause {
            Some(pause) => LONGEST_PAUSE.min(pause * 2),
            None => FIRST_PAUSE,
        });
    }
}

/// Waits for something to do; tells what has happened to the VMM, passt and the link, or `None` for nothing
/// to know of.
fn wait(
    link: &Link,
    passt: &OwnedFd,
    vmm: &OwnedFd,
    [from_guest, to_guest]: [&Frames; 2],
    pause: Option<Duration>,
) -> Result<Option<[PollFlags; 3]>, String> {
    let (input, output) = (PollFlags::POLLIN, PollFlags::POLLOUT);
    let when = |condition, events| if condition { events } else { PollFlags::empty() };
    // A packet socket always has room, if not its tap.
    let is_stream = matches!(link, Link::Stream(_));
    let mut polled = [
        PollFd::new(vmm.as_fd(), input),
        PollFd::new(passt.as_fd(), input | when(from_guest.waiting(), output)),
        PollFd::new(
            link.descriptor().as_fd(),
            when(!from_guest.waiting(), input) | when(to_guest.waiting() && is_stream, output),
        ),
    ];
    match ppoll(&mut polled, pause.map(Into::into), None) {
        Ok(_) => Ok(Some(polled.map(|polled| polled.revents().unwrap_or(PollFlags::POLLERR)))),
        Err(Errno::EINTR) => Ok(None),
        Err(error) => Err(format!("cannot wait for frames: {error}")),
    }
}

/// The guest's frames, if it has sent some and none wait; its end, or an error that was to be taken, in any
/// case.
fn receive_from_guest(link: &Link, frames: &mut Frames) -> Result<Received, String> {
    match link {
        // Only its end is told of while frames wait.
        Link::Stream(_) if frames.waiting() => Ok(Received::Ended),
        Link::Stream(stream) => receive_stream(stream, frames),
        Link::Packets(socket) if frames.waiting() => {
            packet_socket::clear_error(socket);
            Ok(Received::Open)
        }
        Link::Packets(socket) => {
            receive_packets(socket, frames);
            Ok(Received::Open)
        }
    }
}

fn receive_stream(stream: &OwnedFd, frames: &mut Frames) -> Result<Received, String> {
    match recv(stream.as_raw_fd(), frames.room(), MsgFlags::MSG_DONTWAIT) {
        Ok(0) | Err(Errno::ECONNRESET) => Ok(Received::Ended),
        Ok(count) => {
            frames.received(count);
            Ok(Received::Open)
        }
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Open),
        Err(error) => Err(format!("cannot receive frames: {error}")),
    }
}

/// Puts each frame behind its length. What is no frame is dropped; an error is the tap's, and passes.
fn receive_packets(socket: &OwnedFd, frames: &mut Frames) {
    // The length of the whole frame is told, if longer than the buffer.
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    for _ in 0..MAX_PACKETS_AT_ONCE {
        let room = frames.room();
        if room.len() < MAX_ENTRY_BYTES {
            return;
        }
        let (head, body) = room.split_at_mut(PREFIX_BYTES);
        let Ok(length) = recv(socket.as_raw_fd(), &mut body[..MAX_FRAME_BYTES], flags) else {
            return;
        };
        if (MIN_FRAME_BYTES..=MAX_FRAME_BYTES).contains(&length) {
            head.copy_from_slice(&prefix(length));
            frames.received(PREFIX_BYTES + length);
        }
    }
}

fn send_stream(stream: &OwnedFd, frames: &mut Frames, limit: usize) -> Result<Sent, String> {
    while frames.waiting() {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(stream.as_raw_fd(), frames.piece(limit), flags) {
            Ok(count) => frames.sent(count),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(Errno::ENOBUFS | Errno::ENOMEM) => return Ok(Sent::NoRoom),
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Sent::Ended),
            Err(error) => return Err(format!("cannot send frames: {error}")),
        }
    }
    Ok(Sent::AsMuchAsFits)
}

fn send_packets(socket: &OwnedFd, frames: &mut Frames) -> Sent {
    while frames.waiting() {
        let entry = frames.piece(0);
        let count = entry.len();
        match send(socket.as_raw_fd(), &entry[PREFIX_BYTES..], MsgFlags::MSG_DONTWAIT) {
            // The tap's queue is full, or the VMM has not opened the tap.
            Err(Errno::ENOBUFS | Errno::ENOMEM | Errno::EAGAIN) => return Sent::NoRoom,
            Err(Errno::EINTR) => {}
            // Dropped if it is longer than the tap takes, or the tap is down.
            Ok(_) | Err(_) => frames.sent(count),
        }
    }
    Sent::AsMuchAsFits
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread::{self, JoinHandle};

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    /// A relay in a thread, with the far ends of all that it has.
    struct Relayed {
        guest: UnixStream,
        passt: UnixStream,
        vmm: UnixStream,
        relay: JoinHandle<Result<(), String>>,
    }

    fn pair(kind: SockType) -> (UnixStream, OwnedFd) {
        let (far, near) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (far.into(), near)
    }

    fn relay(link: impl Fn(OwnedFd) -> Link, guest: SockType, passt: SockType) -> Relayed {
        let ((guest, near_guest), (passt, near_passt)) = (pair(guest), pair(passt));
        // Like a pidfd, it can be read once the other side has ended.
        let (vmm, near_vmm) = pair(SockType::Stream);
        let link = link(near_guest);
        let relay = thread::spawn(move || run(&link, &near_passt, &near_vmm));
        Relayed { guest, passt, vmm, relay }
    }

    fn relay_streams() -> Relayed {
        relay(Link::Stream, SockType::Stream, SockType::Stream)
    }

    /// An ARP frame of 18 bytes at least, with its number at its end.
    fn frame(number: u32, length: usize) -> Vec<u8> {
        let mut frame = vec![2; length];
        frame[12..14].copy_from_slice(&[0x08, 0x06]);
        frame[length - 4..].copy_from_slice(&number.to_be_bytes());
        frame
    }

    fn entry(frame: &[u8]) -> Vec<u8> {
        [&prefix(frame.len())[..], frame].concat()
    }

    fn to_loopback() -> Vec<u8> {
        let mut frame = vec![2; 14 + 20];
        frame[12..17].copy_from_slice(&[0x08, 0x00, 0x45, 0, 0]);
        frame[17] = 20;
        frame[30..34].copy_from_slice(&[127, 0, 0, 1]);
        frame
    }

    fn read_entry(stream: &mut UnixStream) -> Vec<u8> {
        let mut head = [0; PREFIX_BYTES];
        stream.read_exact(&mut head).unwrap();
        let mut frame = vec![0; usize::try_from(u32::from_be_bytes(head)).unwrap()];
        stream.read_exact(&mut frame).unwrap();
        frame
    }

    fn number(frame: &[u8]) -> u32 {
        u32::from_be_bytes(*frame.last_chunk().unwrap())
    }

    #[test]
    fn frames_cross_both_ways_and_the_filter_one_way() {
        let mut sides = relay_streams();
        let sent = [entry(&frame(1, 60)), entry(&to_loopback()), entry(&frame(2, 65_549))].concat();
        sides.guest.write_all(&sent).unwrap();
        assert_eq!(read_entry(&mut sides.passt), frame(1, 60));
        assert_eq!(read_entry(&mut sides.passt), frame(2, 65_549));
        sides.passt.write_all(&entry(&to_loopback())).unwrap();
        assert_eq!(read_entry(&mut sides.guest), to_loopback());
        drop(sides.vmm);
        sides.relay.join().unwrap().unwrap();
    }

    #[test]
    fn it_ends_with_either_side_and_when_a_stream_has_no_meaning() {
        let Relayed { passt, relay, guest: _guest, vmm: _vmm } = relay_streams();
        drop(passt);
        relay.join().unwrap().unwrap();

        let Relayed { guest, relay, passt: _passt, vmm: _vmm } = relay_streams();
        drop(guest);
        relay.join().unwrap().unwrap();

        for by_guest in [true, false] {
            let sides = relay_streams();
            let mut from = if by_guest { &sides.guest } else { &sides.passt };
            from.write_all(&[0, 0, 0, 13]).unwrap();
            let message = "a frame of 13 bytes, expected 14 to 65549";
            assert_eq!(sides.relay.join().unwrap().unwrap_err(), message);
        }
    }

    #[test]
    fn a_guest_waits_for_a_passt_that_does_not_read() {
        let mut sides = relay_streams();
        sides.guest.set_nonblocking(true).unwrap();
        // What is written in part is kept, to be written on.
        let (mut stream, mut written, mut total) = (Vec::new(), 0, 0);
        let mut entries = 0;
        for _ in 0..20_000 {
            if written == stream.len() {
                (stream, written) = (entry(&frame(entries, 4096)), 0);
                entries += 1;
            }
            match sides.guest.write(&stream[written..]) {
                Ok(count) => (written, total) = (written + count, total + count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        // The buffer, and what two sockets hold.
        assert!(total < FROM_GUEST_BYTES + 2 * 1024 * 1024, "{total}");
        sides.guest.set_nonblocking(false).unwrap();
        let mut guest = sides.guest.try_clone().unwrap();
        let rest = stream.split_off(written);
        let writer = thread::spawn(move || guest.write_all(&rest).unwrap());
        for expected in 0..entries {
            assert_eq!(number(&read_entry(&mut sides.passt)), expected);
        }
        writer.join().unwrap();
    }

    #[test]
    fn passt_never_waits_for_a_guest_and_what_goes_is_the_oldest() {
        const ENTRIES: u32 = 10_000;
        for (link, kind) in
            [(Link::Stream as fn(OwnedFd) -> Link, SockType::Stream), (Link::Packets, SockType::Datagram)]
        {
            let mut sides = relay(link, kind, SockType::Stream);
            for number in 0..ENTRIES {
                sides.passt.write_all(&entry(&frame(number, 1514))).unwrap();
            }
            let (mut last, mut count) = (None, 0);
            while last != Some(ENTRIES - 1) {
                let received = match kind {
                    SockType::Stream => read_entry(&mut sides.guest),
                    _ => {
                        let mut buffer = vec![0; 1514];
                        sides.guest.read_exact(&mut buffer).unwrap();
                        buffer
                    }
                };
                assert_eq!(received.len(), 1514);
                assert!(last < Some(number(&received)));
                last = Some(number(&received));
                count += 1;
            }
            assert!(count < ENTRIES, "15 MB have no place");
        }
    }

    #[test]
    fn packets_are_put_into_the_stream_of_passt_unless_they_are_no_frames() {
        let mut sides = relay(Link::Packets, SockType::SeqPacket, SockType::Stream);
        for packet in
            [frame(1, 18), vec![2; 13], frame(2, 65_549), frame(3, 65_550), to_loopback(), frame(4, 60)]
        {
            assert_eq!(sides.guest.write(&packet).unwrap(), packet.len());
        }
        for expected in [frame(1, 18), frame(2, 65_549), frame(4, 60)] {
            assert_eq!(read_entry(&mut sides.passt), expected);
        }
        sides.passt.write_all(&entry(&frame(5, 1514))).unwrap();
        let mut buffer = vec![0; 70_000];
        assert_eq!(sides.guest.read(&mut buffer).unwrap(), 1514);
    }

    #[test]
    fn passt_gets_messages_of_whole_frames() {
        let mut sides = relay(Link::Stream, SockType::Stream, SockType::SeqPacket);
        let lengths = [60, 65_549, 20_000, 12_000, 800, 30_000, 65_549, 40_000, 18];
        let sent: Vec<u8> =
            (0..).zip(lengths).flat_map(|(number, length)| entry(&frame(number, length))).collect();
        sides.guest.write_all(&sent).unwrap();
        let mut buffer = vec![0; 200_000];
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let count = sides.passt.read(&mut buffer).unwrap();
            let mut frames = Frames::new(200_000);
            frames.room()[..count].copy_from_slice(&buffer[..count]);
            frames.received(count);
            frames.check(|_| true).unwrap();
            assert_eq!(frames.piece(usize::MAX).len(), count, "whole frames");
            assert!(count <= PASST_MESSAGE_BYTES || frames.piece(0).len() == count, "{count}");
            received.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(received, sent);
    }
}
