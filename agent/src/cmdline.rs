//! The kernel command line: only what cannot wait for the control drive.
//! <https://docs.kernel.org/admin-guide/kernel-parameters.html>

/// What the host says to the agent on the kernel command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KernelArguments {
    /// `firectl.probe`: the host only wants to know whether a guest runs at all.
    pub probe: bool,
    /// `firectl.control=vdc`: the control drive's name below /dev.
    pub control_device: Option<String>,
    /// `firectl.snapshot=1025`: be ready for a snapshot, and say so on this vsock port of the host.
    pub snapshot_port: Option<u32>,
}

/// Reads the agent's own parameters; all others are the kernel's.
pub fn parse(line: &str) -> KernelArguments {
    let mut arguments = KernelArguments::default();
    for word in line.split_ascii_whitespace() {
        match word.split_once('=') {
            None if word == "firectl.probe" => arguments.probe = true,
            Some(("firectl.control", name)) if is_device_name(name) => {
                arguments.control_device = Some(name.to_owned());
            }
            Some(("firectl.snapshot", port)) => arguments.snapshot_port = port.parse().ok(),
            _ => {}
        }
    }
    arguments
}

/// Whether `name` is a plain name below /dev and not a path out of it.
pub fn is_device_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_parameters_are_found_among_the_kernels() {
        let arguments = parse("console=ttyS0 quiet firectl.control=vdc reboot=k\n");
        assert_eq!(arguments.control_device.as_deref(), Some("vdc"));
        assert!(!arguments.probe);
        assert!(parse("quiet firectl.probe").probe);
        assert_eq!(parse("firectl.control= firectl.probe=1 xfirectl.probe"), KernelArguments::default());
        assert_eq!(parse("firectl.control=../mem"), KernelArguments::default());
        assert_eq!(parse("quiet firectl.snapshot=1025").snapshot_port, Some(1025));
        assert_eq!(parse("firectl.snapshot=-1 firectl.snapshot="), KernelArguments::default());
        assert_eq!(parse("firectl.control=vdb firectl.control=vdc").control_device.as_deref(), Some("vdc"));
    }
}
