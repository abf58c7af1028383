//! From a request to its answer.

use rustix::fs::{AtFlags, fstatfs};
use rustix::io::Errno;

use crate::abi::{self, fsync, getattr, init, op};
use crate::attributes::Changes;
use crate::directories::Listing;
use crate::files::{self, Created};
use crate::hello::MAX_DATA_BYTES;
use crate::lookup::Found;
use crate::reply::Reply;
use crate::request::{self, Fields, Header};
use crate::share::Share;

/// Answers one whole request. `None` is what needs no answer.
pub fn answer<'a>(share: &Share, request: &[u8], reply: &'a mut Reply) -> Option<&'a [u8]> {
    let (header, mut fields) = request::parse(request)?;
    reply.begin();
    let result = match header.opcode {
        op::FORGET | op::BATCH_FORGET => {
            // What is malformed is forgotten as far as it can be read: nobody waits for an answer.
            let _ = forget(share, header, &mut fields);
            return None;
        }
        // The operation goes on: none waits for anything but the host's disk.
        op::INTERRUPT => return None,
        opcode if share.read_only && changes(opcode, &fields) => Err(Errno::ROFS),
        _ => perform(share, header, &mut fields, reply),
    };
    Some(reply.finish(header.unique, result))
}

fn forget(share: &Share, header: Header, fields: &mut Fields<'_>) -> Result<(), Errno> {
    if header.opcode == op::FORGET {
        share.nodes.forget(header.node, fields.u64()?);
        return Ok(());
    }
    let count = fields.u32()?;
    fields.skip(4)?;
    for _ in 0..count {
        share.nodes.forget(fields.u64()?, fields.u64()?);
    }
    Ok(())
}

/// Whether an operation would change anything on the host.
fn changes(opcode: u32, fields: &Fields<'_>) -> bool {
    match opcode {
        op::OPEN => fields.peek_u32().is_none_or(files::writes),
        op::SETATTR | op::SYMLINK | op::MKNOD | op::MKDIR | op::UNLINK | op::RMDIR | op::RENAME => true,
        op::RENAME2 | op::LINK | op::WRITE | op::SETXATTR | op::REMOVEXATTR | op::CREATE => true,
        op::FALLOCATE | op::COPY_FILE_RANGE | op::TMPFILE => true,
        _ => false,
    }
}

fn perform(share: &Share, header: Header, fields: &mut Fields<'_>, reply: &mut Reply) -> Result<(), Errno> {
    let (node, maker) = (header.node, header.ids);
    match header.opcode {
        op::INIT => return initialize(fields, reply),
        op::DESTROY => {}
        op::LOOKUP => entry(reply, share.lookup(node, fields.name()?)?),
        op::GETATTR => {
            let flags = fields.u32()?;
            fields.skip(4)?;
            let attributes = if flags & getattr::FH != 0 {
                share.attributes(&share.handles.get(fields.u64()?)?.fd)?
            } else {
                share.attributes(&share.nodes.get(node)?.fd)?
            };
            reply.attributes(&attributes);
        }
        op::SETATTR => reply.attributes(&share.set_attributes(node, &Changes::parse(fields)?)?),
        op::READLINK => share.read_link(node, reply)?,
        op::SYMLINK => {
            let (name, target) = (fields.name()?, fields.string()?);
            entry(reply, share.make_link(node, name, target, maker)?);
        }
        op::MKNOD => {
            let mode = fields.u32()?;
            fields.skip(12)?;
            entry(reply, share.make_node(node, fields.name()?, mode, maker)?);
        }
        op::MKDIR => {
            let mode = fields.u32()?;
            fields.skip(4)?;
            entry(reply, share.make_directory(node, fields.name()?, mode, maker)?);
        }
        op::UNLINK => share.unlink(node, fields.name()?, AtFlags::empty())?,
        op::RMDIR => share.unlink(node, fields.name()?, AtFlags::REMOVEDIR)?,
        op::RENAME => {
            let directory = fields.u64()?;
            share.rename((node, fields.name()?), (directory, fields.name()?), 0)?;
        }
        op::RENAME2 => {
            let (directory, flags) = (fields.u64()?, fields.u32()?);
            fields.skip(4)?;
            share.rename((node, fields.name()?), (directory, fields.name()?), flags)?;
        }
        op::LINK => {
            let old = fields.u64()?;
            entry(reply, share.link(old, node, fields.name()?)?);
        }
        op::STATFS => statfs(share, node, reply)?,
        op::SETXATTR => {
            let (size, flags) = (fields.u32()?, fields.u32()?);
            let (name, value) =
                (fields.string()?, fields.bytes(usize::try_from(size).unwrap_or(usize::MAX))?);
            share.set_xattr(node, name, value, flags)?;
        }
        op::GETXATTR => {
            let size = fields.u32()?;
            fields.skip(4)?;
            share.get_xattr(node, fields.string()?, size, reply)?;
        }
        op::LISTXATTR => share.list_xattrs(node, fields.u32()?, reply)?,
        op::REMOVEXATTR => share.remove_xattr(node, fields.string()?)?,
        // Answered once for all: the guest's kernel says the same from then on without asking.
        op::IOCTL => return Err(Errno::NOTTY),
        _ => return perform_on_open(share, header, fields, reply),
    }
    Ok(())
}

/// Opening, and what is done with what is open.
fn perform_on_open(
    share: &Share,
    header: Header,
    fields: &mut Fields<'_>,
    reply: &mut Reply,
) -> Result<(), Errno> {
    let (node, maker) = (header.node, header.ids);
    match header.opcode {
        op::OPEN => {
            let flags = fields.u32()?;
            fields.skip(4)?; // how to open for FUSE's own purposes
            let (handle, flags) = share.open(node, flags)?;
            reply.opened(handle, flags);
        }
        op::CREATE | op::TMPFILE => {
            let (flags, mode) = (fields.u32()?, fields.u32()?);
            fields.skip(8)?; // the umask, which the guest's kernel has applied, and flags as of OPEN
            let Created { found, handle } = if header.opcode == op::CREATE {
                share.create(node, fields.name()?, (flags, mode), maker)?
            } else {
                share.create_unnamed(node, flags, mode, maker)?
            };
            entry(reply, found);
            reply.opened(handle, 0);
        }
        op::READ => share.read(fields.u64()?, fields.u64()?, fields.u32()?, reply)?,
        op::WRITE => {
            let (handle, offset) = (fields.u64()?, fields.u64()?);
            let size = fields.u32()?;
            fields.skip(20)?;
            let data = fields.bytes(usize::try_from(size).unwrap_or(usize::MAX))?;
            reply.u32(share.write(handle, offset, data)?);
            reply.u32(0);
        }
        op::RELEASE | op::RELEASEDIR => share.release(fields.u64()?)?,
        op::FSYNC => share.sync(fields.u64()?, fields.u32()? & fsync::DATA_ONLY != 0)?,
        op::OPENDIR => reply.opened(share.open_directory(node)?, 0),
        op::READDIR | op::READDIRPLUS => {
            let plus = header.opcode == op::READDIRPLUS;
            let (handle, offset) = (fields.u64()?, fields.u64()?);
            share.list(node, Listing { handle, offset, size: fields.u32()?, plus }, reply)?;
        }
        op::FSYNCDIR => share.sync_directory(fields.u64()?)?,
        op::FALLOCATE => {
            let (handle, range) = (fields.u64()?, (fields.u64()?, fields.u64()?));
            share.allocate(handle, range, fields.u32()?)?;
        }
        op::LSEEK => {
            let position = share.seek(fields.u64()?, fields.u64()?, fields.u32()?)?;
            reply.u64(position);
        }
        op::COPY_FILE_RANGE => {
            let from = (fields.u64()?, fields.u64()?);
            fields.skip(8)?; // the target's node
            let to = (fields.u64()?, fields.u64()?);
            reply.u32(share.copy(from, to, fields.u64()?)?);
            reply.u32(0);
        }
        // FLUSH too: nothing is held back here that closing a file would have to write.
        _ => return Err(Errno::NOSYS),
    }
    Ok(())
}

fn entry(reply: &mut Reply, found: Found) {
    reply.entry(found.id, Some(&found.attributes));
}

/// `fuse_init_in` and `fuse_init_out`.
fn initialize(fields: &mut Fields<'_>, reply: &mut Reply) -> Result<(), Errno> {
    const WANTED: u32 = init::ASYNC_READ
        | init::ATOMIC_O_TRUNC
        | init::BIG_WRITES
        | init::AUTO_INVAL_DATA
        | init::DO_READDIRPLUS
        | init::READDIRPLUS_AUTO
        | init::ASYNC_DIO
        | init::PARALLEL_DIROPS
        | init::MAX_PAGES
        | init::HANDLE_KILLPRIV_V2;
    /// Requests that the guest's kernel lets wait here before it makes readers and writers wait.
    const BACKGROUND: u16 = 64;
    let (major, minor) = (fields.u32()?, fields.u32()?);
    if major != abi::MAJOR || minor < abi::OLDEST_MINOR {
        return Err(Errno::PROTO);
    }
    let (readahead, offered) = (fields.u32()?, fields.u32()?);
    reply.u32(abi::MAJOR);
    reply.u32(abi::MINOR.min(minor));
    reply.u32(readahead.max(u32::try_from(MAX_DATA_BYTES).unwrap_or(u32::MAX)));
    reply.u32(offered & WANTED);
    reply.u16(BACKGROUND);
    reply.u16(BACKGROUND / 4 * 3);
    reply.u32(u32::try_from(MAX_DATA_BYTES).unwrap_or(u32::MAX));
    reply.u32(1); // granularity of times, in nanoseconds
    reply.u16(u16::try_from(MAX_DATA_BYTES / 4096).unwrap_or(u16::MAX));
    reply.u16(0); // alignment of mappings
    reply.bytes(&[0; 32]);
    Ok(())
}

/// `fuse_kstatfs`.
fn statfs(share: &Share, node: u64, reply: &mut Reply) -> Result<(), Errno> {
    let stat = fstatfs(&*share.nodes.get(node)?.fd)?;
    for value in [stat.f_blocks, stat.f_bfree, stat.f_bavail, stat.f_files, stat.f_ffree] {
        reply.u64(value);
    }
    for value in [stat.f_bsize, stat.f_namelen, stat.f_frsize] {
        reply.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }
    reply.bytes(&[0; 28]);
    Ok(())
}
