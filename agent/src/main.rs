//! PID 1 of firectl's guests. It lives in the initramfs, puts the workload into namespaces of its own, records
//! what becomes of it on the control drive, and serves the host over vsock.

mod attach;
mod blocking;
mod capabilities;
mod cgroup;
mod clock;
mod clock_sync;
mod cmdline;
mod console;
mod control_drive;
mod copy;
mod copy_error;
mod copy_in;
mod copy_out;
mod copy_stream;
mod copy_tree;
mod descriptors;
mod device_filter;
mod devices;
mod environment;
mod error;
mod etc_files;
mod exec;
mod flow;
mod freeze;
#[cfg(test)]
mod golden;
mod guest;
mod guest_path;
mod health;
mod helper;
mod init;
mod init_process;
mod interface;
mod link;
mod memory_limit;
mod modules;
mod mount_options;
mod mount_point;
mod mounts;
mod names;
mod network;
mod output;
mod output_ring;
mod pace;
mod probing;
mod process;
mod processes;
mod proto;
mod reaper;
mod resources;
#[cfg(test)]
mod scratch;
mod service;
#[allow(dead_code, reason = "the server has the other half")]
#[path = "share/hello.rs"]
mod share_hello;
mod share_pump;
mod shares;
mod snapshot;
mod starting;
mod stats;
mod status;
mod storage;
mod swap;
mod systemd;
mod terminal;
mod user;
mod volumes;
mod workload;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::process::id() != 1 {
        if std::env::args().nth(1).as_deref() == Some(share_pump::ARGUMENT) {
            return share_pump::run();
        }
        eprintln!(
            "firectl-agent {} is the init of a guest: it only runs as PID 1",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::from(2);
    }
    init::run()
}
