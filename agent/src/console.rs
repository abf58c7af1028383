//! The agent's last resort of speech: the kernel's log, which the host sees on the serial console.

use std::fs::OpenOptions;
use std::io::Write;

/// Logs with the priority of an error, so that a console made quiet still shows it.
pub fn report(message: &str) {
    if let Ok(mut log) = OpenOptions::new().write(true).open("/dev/kmsg") {
        // One write is one record; there is nobody left to tell when it fails.
        let _ = log.write_all(format!("<3>firectl-agent: {message}\n").as_bytes());
    }
}
