//! Directories of the host, live: a server on the host, FUSE in between, vsock as the wire.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use crate::error::{AgentError, Context};
use crate::proto::{Process, Share};
use crate::share_hello::{HELLO_BYTES, Ids, decode_server, encode_guest};
use crate::share_pump;
use crate::user;

const DEVICE: &str = "/dev/fuse";
/// Where the agent has them; the workload's namespace gets a copy at each destination.
const DIRECTORY: &str = "/shares";
/// The host's server listens before the guest boots; only a host under load takes long to answer.
const CONNECT_SECONDS: i64 = 30;
/// Options of AF_VSOCK sockets: <https://github.com/torvalds/linux/blob/master/include/uapi/linux/vm_sockets.h>
const SO_VM_SOCKETS_BUFFER_SIZE: i32 = 0;
const SO_VM_SOCKETS_BUFFER_MAX_SIZE: i32 = 2;
const SO_VM_SOCKETS_CONNECT_TIMEOUT: i32 = 6;
/// How much may be on its way in each direction: two of the largest messages.
const BUFFER_BYTES: u64 = 2 << 20;

/// A share that is mounted, but not yet where the workload sees it.
#[derive(Debug)]
pub struct MountedShare {
    /// Path of the mount in the agent's own namespace.
    source: String,
    destination: String,
    is_directory: bool,
}

/// Mounts all shares for the workload's user.
pub fn mount_all(shares: &[Share], process: &Process) -> Result<Vec<MountedShare>, AgentError> {
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    fs::create_dir_all(DIRECTORY).context(|| format!("create {DIRECTORY}"))?;
    // A user that cannot be found fails the workload's start, which says so better.
    let owner = user::ids_below(crate::mounts::ROOT, &process.user).unwrap_or((0, 0));
    let owner = Ids { uid: owner.0, gid: owner.1 };
    shares.iter().enumerate().map(|(index, share)| mount_one(index, share, owner)).collect()
}

fn mount_one(index: usize, share: &Share, owner: Ids) -> Result<MountedShare, AgentError> {
    let (connection, mode) =
        greet(share.port, owner).context(|| format!("reach the host for {}", share.destination))?;
    let is_directory = mode & libc::S_IFMT == libc::S_IFDIR;
    let source = format!("{DIRECTORY}/{index}");
    make_mount_point(&source, is_directory).context(|| format!("create {source}"))?;
    let device = OpenOptions::new().read(true).write(true).open(DEVICE);
    let device = device.context(|| format!("open {DEVICE}, which the guest's kernel needs for shares"))?;
    let options = format!(
        "fd={},rootmode={:o},user_id=0,group_id=0,default_permissions,allow_other",
        device.as_raw_fd(),
        mode & libc::S_IFMT,
    );
    // What is set-user-ID is so for the host's users, who are others.
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    flags.set(MsFlags::MS_RDONLY, share.read_only);
    mount(Some("host"), source.as_str(), Some("fuse.firectl"), flags, Some(options.as_str()))
        .context(|| format!("mount {}", share.destination))?;
    share_pump::spawn(device.into(), connection).context(|| format!("serve {}", share.destination))?;
    Ok(MountedShare { source, destination: share.destination.clone(), is_directory })
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

/// A share in the workload's namespace, on its way to its destination.
#[derive(Debug)]
pub struct Placement<'a> {
    share: &'a MountedShare,
    tree: OwnedFd,
}

/// Takes the shares along. To be called in the workload's namespace before it enters its root.
pub fn take_along(shares: &[MountedShare]) -> Result<Vec<Placement<'_>>, AgentError> {
    shares
        .iter()
        .map(|share| {
            let tree = open_tree(&share.source).context(|| format!("take {} along", share.destination))?;
            Ok(Placement { share, tree })
        })
        .collect()
}

/// Mounts a share where the workload sees it, once its root is `/`: links of the image lead nowhere else.
pub fn place(placement: &Placement<'_>) -> Result<(), AgentError> {
    let MountedShare { destination, is_directory, .. } = placement.share;
    make_mount_point(destination, *is_directory).context(|| format!("create {destination}"))?;
    move_mount(&placement.tree, destination).context(|| format!("mount {destination}"))
}

fn make_mount_point(path: &str, is_directory: bool) -> std::io::Result<()> {
    if is_directory {
        return fs::create_dir_all(path);
    }
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent)?;
    }
    if Path::new(path).exists() { Ok(()) } else { File::create(path).map(drop) }
}

fn open_tree(path: &str) -> Result<OwnedFd, Errno> {
    use rustix::mount::OpenTreeFlags;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(rustix::fs::CWD, path, flags)
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
}

fn move_mount(tree: &OwnedFd, path: &str) -> Result<(), Errno> {
    use rustix::mount::MoveMountFlags;
    // Links at the end of the path are followed, as those on the way are: the image's, below its own root.
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    rustix::mount::move_mount(tree, "", rustix::fs::CWD, path, flags)
        .map_err(|error| Errno::from_raw(error.raw_os_error()))
}
