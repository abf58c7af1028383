//! firectl-share: serves one directory or file of the host to one guest, which mounts it through FUSE. It is
//! started beside the VM, runs as the user who started that, and ends with the guest's connection.

mod abi;
mod attributes;
mod directories;
mod dispatch;
mod files;
mod handles;
#[allow(dead_code, reason = "the guest has the other half")]
mod hello;
mod links;
mod lookup;
mod nodes;
mod options;
mod owners;
mod reply;
mod request;
mod sandbox;
mod serve;
mod share;
#[path = "../system_calls.rs"]
mod system_calls;
#[cfg(test)]
mod test_share;
#[cfg(test)]
mod tests;
mod xattrs;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let result = options::parse(&arguments).and_then(|options| serve::run(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("firectl-share: {message}");
            ExitCode::FAILURE
        }
    }
}
