//! Keeps the workload from the guest's disks. It may create device nodes, as in Docker, so that the nodes in
//! /dev are no protection: root could write the control drive, or the disk below its own filesystem.
//! A BPF program on its control group refuses to open any block device for reading or writing.
//! <https://docs.kernel.org/admin-guide/cgroup-v2.html#device-controller>

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction: <https://docs.kernel.org/bpf/standardization/instruction-set.html>
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

/// `bpf_cgroup_dev_ctx.access_type`: the low half is the type (1 is block), the high one the access (1 mknod,
/// 2 read, 4 write). A result of 0 refuses.
const PROGRAM: [Instruction; 10] = [
    instruction(0x61, 0x12, 0, 0),      // r2 = ctx->access_type
    instruction(0xbf, 0x23, 0, 0),      // r3 = r2
    instruction(0x57, 0x03, 0, 0xffff), // r3 &= 0xffff
    instruction(0xb7, 0x00, 0, 1),      // r0 = 1
    instruction(0x55, 0x03, 4, 1),      // not a block device: exit
    instruction(0x77, 0x02, 0, 16),     // r2 >>= 16
    instruction(0x57, 0x02, 0, 6),      // r2 &= read | write
    instruction(0x15, 0x02, 1, 0),      // only mknod: exit
    instruction(0xb7, 0x00, 0, 0),      // r0 = 0
    instruction(0x95, 0x00, 0, 0),      // exit
];

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

/// The start of `union bpf_attr` for BPF_PROG_LOAD; the kernel takes what is missing as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct AttachAttributes {
    target: i32,
    program: i32,
    attach_type: u32,
    flags: u32,
}

/// Attaches the program to the control group that `directory` is. It stays as long as the group.
pub fn attach(directory: BorrowedFd<'_>) -> io::Result<()> {
    let load = LoadAttributes {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(PROGRAM.len()).map_err(io::Error::other)?,
        instructions: PROGRAM.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
    };
    // SAFETY: `load` is laid out as bpf(2) has it, and what it points to lives as long as the program.
    let program = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of_val(&load)) };
    let program = i32::try_from(program).map_err(io::Error::other)?;
    if program < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let attach = AttachAttributes {
        target: directory.as_raw_fd(),
        program: program.as_raw_fd(),
        attach_type: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: `attach` is laid out as bpf(2) has it and holds two open descriptors.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const attach, size_of_val(&attach)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
