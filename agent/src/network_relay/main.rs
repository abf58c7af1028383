//! firectl-network: gives a VM a user-mode network by passt(1), with no privileges. It is the VMM's launcher:
//! it forks a relay, which starts passt and stays beside the VM, and becomes the VMM.
//!
//! ```text
//!   guest ─ QEMU ─────── stream ──────────────┬─ relay, with the filter ─ stream ─ passt ─ the host's sockets
//!   guest ─ Firecracker ─ tap ─ packet socket ─┘
//! ```
//!
//! The relay is there for two reasons. passt connects what a guest sends to 127.0.0.1 to the loopback
//! interface of the host, so somebody has to look at each frame. And Firecracker opens a tap by its name, in
//! its own network namespace, where passt cannot be.

mod control;
mod descriptors;
mod filter;
mod frames;
mod launch;
#[path = "../link.rs"]
mod link;
mod namespace;
mod note;
mod options;
mod packet_socket;
mod passt;
mod relay;
mod sandbox;
mod serve;
#[path = "../system_calls.rs"]
mod system_calls;
mod tap;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = options::parse(&arguments).and_then(|options| launch::run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("firectl: {message}");
            ExitCode::FAILURE
        }
    }
}
