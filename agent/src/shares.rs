//! Directories of the host, live: a server on the host, FUSE in between, vsock as the wire.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use crate::error::{AgentError, Context};
use crate::mounts::ROOT;
use crate::proto::{Mount, Process};
use crate::share_hello::{HELLO_BYTES, Ids, decode_server, encode_guest};
use crate::share_pump;
use crate::user;

const DEVICE: &str = "/dev/fuse";
const STAGE: &str = "/shares";
/// The host's server listens before the guest boots; only a host under load takes long to answer.
const CONNECT_SECONDS: i64 = 30;
/// Options of AF_VSOCK sockets: <https://github.com/torvalds/linux/blob/master/include/uapi/linux/vm_sockets.h>
const SO_VM_SOCKETS_BUFFER_SIZE: i32 = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: i32 = 2;
const SO_VM_SOCKETS_CONNECT_TIMEOUT: i32 = 6;
/// How much may be on its way in each direction: two of the largest messages.
const BUFFER_BYTES: u64 = 2 << 20;

/// Where the agent has the share of a port; the workload's namespace gets it at its destination.
pub fn stage_of(port: u32) -> PathBuf {
    Path::new(STAGE).join(port.to_string())
}

/// Mounts all shares, for the workload's user; the root must be there.
pub fn stage(mounts: &[Mount], process: Option<&Process>) -> Result<(), AgentError> {
    let mut shares = mounts.iter().filter_map(|each| Some((each, each.share.as_ref()?.port))).peekable();
    if shares.peek().is_none() {
        return Ok(());
    }
    fs::create_dir(STAGE).context(|| format!("create {STAGE}"))?;
    // A user that cannot be found fails the workload's start, which says so better.
    let ids = process.and_then(|process| user::ids_below(ROOT, &process.user)).unwrap_or((0, 0));
    shares.try_for_each(|(each, port)| mount_one(each, port, Ids { uid: ids.0, gid: ids.1 }))
}

fn mount_one(each: &Mount, port: u32, owner: Ids) -> Result<(), AgentError> {
    let destination = &each.destination;
    let (connection, mode) =
        greet(port, owner).context(|| format!("reach the host's server of {destination}"))?;
    let target = stage_of(port);
    let made = if mode & libc::S_IFMT == libc::S_IFDIR {
        fs::create_dir(&target)
    } else {
        File::create_new(&target).map(drop)
    };
    made.context(|| format!("create {}", target.display()))?;
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device =
        device.context(|| format!("open {DEVICE}, which the guest's kernel needs for {destination}"))?;
    let options = format!(
        "fd={},rootmode={:o},user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd(),
        mode & libc::S_IFMT,
    );
    // What is set-user-ID is so for the host's users, who are others.
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, each.read_only);
    mount(Some("host"), &target, Some("fuse.firectl"), flags, Some(options.as_str()))
        .context(|| format!("mount {destination}"))?;
    share_pump::spawn(device.into(), connection).context(|| format!("serve {destination}"))
}

/// Connects, says whom the user's files belong to, and hears what is shared.
fn greet(port: u32, owner: Ids) -> std::io::Result<(OwnedFd, u32)> {
    let socket = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = libc::timeval { tv_sec: CONNECT_SECONDS, tv_usec: 0 };
    set_option(&socket, libc::AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &seconds)?;
    set_option(&socket, libc::AF_VSOCK, SO_VM_SOCKETS_BUFFER_MAX_SIZE, &BUFFER_BYTES)?;
    set_option(&socket, libc::AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &BUFFER_BYTES)?;
    connect(socket.as_raw_fd(), &VsockAddr::new(libc::VMADDR_CID_HOST, port))?;
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &seconds)?;
    let mut connection = File::from(socket);
    connection.write_all(&encode_guest(owner))?;
    let mut bytes = [0; HELLO_BYTES];
    connection.read_exact(&mut bytes)?;
    let mode = decode_server(&bytes).ok_or_else(|| {
        std::io::Error::new(std::io::ErrorKind::InvalidData, "the host's server is of another version")
    })?;
    let for_ever = libc::timeval { tv_sec: 0, tv_usec: 0 };
    set_option(&connection, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &for_ever)?;
    Ok((connection.into(), mode))
}

fn set_option<T>(socket: &impl AsRawFd, level: i32, name: i32, value: &T) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the descriptor is open, and the kernel reads `length` bytes of a value that lives.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    Errno::result(result).map(drop)
}
