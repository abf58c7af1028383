//! firectl-network as a program, with shell scripts in the place of passt and the VMM.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, chown};
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Command, Output, Stdio};

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::{Pid, geteuid};
    use rustix::process::{PidfdFlags, pidfd_open};

    /// Sends every frame back, in the background, until its socket is closed.
    const ECHO: &str = r#"
        while [ "$1" != --fd ]; do shift; done
        cat <&"$2" >&"$2" 2>/dev/null &
    "#;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("firectl-network-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// A command in the place of passt.
        fn passt(&self, script: &str) -> Vec<String> {
            let path = self.0.join("passt");
            fs::write(&path, script).unwrap();
            // Not executed itself: a process that is just being started elsewhere might still have it open.
            vec!["sh".into(), path.to_str().unwrap().into()]
        }

        fn noted(&self, name: &str) -> Pid {
            let line = fs::read_to_string(self.0.join(format!("{name}.pid"))).unwrap();
            Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn launcher(scratch: &Scratch, link: &[&str], passt: &[String], vmm: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_firectl-network"));
        command.arg("--directory").arg(&scratch.0).args(link).arg("--").args(passt).args(["-4", "--"]);
        command.args(["sh", "-c", vmm]).stdin(Stdio::null());
        command
    }

    fn run(scratch: &Scratch, link: &[&str], passt: &[String], vmm: &str) -> Output {
        launcher(scratch, link, passt, vmm).output().unwrap()
    }

    fn start(command: &mut Command) -> Child {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn text(bytes: &[u8]) -> &str {
        str::from_utf8(bytes).unwrap()
    }

    /// A process that has ended may still wait for somebody to take note of it.
    fn wait_for_end(process: Pid) {
        let pid = rustix::process::Pid::from_raw(process.as_raw()).unwrap();
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
    }

    #[test]
    fn a_vmm_gets_a_socket_and_all_ends_with_it() {
        let scratch = Scratch::new("socket");
        let passt = scratch.passt(ECHO);
        let vmm = r"
            printf '\0\0\0\016aaaaaaaaaaaa\010\006' >&9
            head -c 18 <&9 | od -An -tx1
        ";
        for _ in 0..2 {
            let output = run(&scratch, &["--socket", "9"], &passt, vmm);
            assert_eq!(text(&output.stderr), "");
            let expected = " 00 00 00 0e 61 61 61 61 61 61 61 61 61 61 61 61\n 08 06\n";
            assert_eq!(text(&output.stdout), expected);
            wait_for_end(scratch.noted("relay"));
            wait_for_end(scratch.noted("passt"));
        }
    }

    #[test]
    fn any_descriptor_can_be_asked_for() {
        let scratch = Scratch::new("descriptor");
        let passt = scratch.passt(ECHO);
        // This process may have been left some sockets by whoever started it.
        let list = r#"for fd in /proc/$$/fd/*; do readlink "$fd"; done | grep -c '^socket:'"#;
        let inherited = Command::new("sh").args(["-c", list]).output().unwrap().stdout;
        let count = |line: &str| line.trim().parse::<usize>().unwrap();
        // Those that the launcher itself uses, too.
        for number in ["3", "4", "5", "6", "7", "8", "9", "100"] {
            let vmm = format!("readlink /proc/$$/fd/{number}; {list}");
            let output = run(&scratch, &["--socket", number], &passt, &vmm);
            let (link, sockets) = text(&output.stdout).split_once('\n').unwrap();
            assert!(link.starts_with("socket:["), "{link}");
            assert!(count(sockets) <= count(text(&inherited)) + 1, "{sockets}");
        }
        let output = run(&scratch, &["--socket", "2147483647"], &passt, "echo started");
        let message =
            "firectl: cannot open the VMM's socket as the descriptor 2147483647: EBADF: Bad file number\n";
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", message));
    }

    #[test]
    fn the_vmm_is_the_process_that_was_started_and_the_others_are_noted() {
        let scratch = Scratch::new("notes");
        let passt = scratch.passt(ECHO);
        let mut vmm = start(&mut launcher(
            &scratch,
            &["--socket", "9"],
            &passt,
            "echo $$; exec >/dev/null 2>/dev/null; read line",
        ));
        // The relay and passt have let go of the log: it ends with the VMM's hold on it.
        let (mut output, mut log) = (String::new(), String::new());
        vmm.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        vmm.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert_eq!((output, log), (format!("{}\n", vmm.id()), String::new()));
        for (note, name) in [("relay", "firectl-network"), ("passt", "cat")] {
            let path = scratch.0.join(format!("{note}.pid"));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
            let line = fs::read_to_string(&path).unwrap();
            let stat = fs::read_to_string(format!("/proc/{}/stat", scratch.noted(note))).unwrap();
            // The state is the third field, and the time of its start the twenty-second.
            let start_of =
                |line: &str| line.rsplit(')').next().unwrap().split(' ').nth(20).map(str::to_owned);
            assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
            assert_eq!(start_of(&line), start_of(&stat));
            assert!(stat.contains(&format!("({name})")), "{stat}");
        }
        drop(vmm.stdin.take());
        vmm.wait().unwrap();
        wait_for_end(scratch.noted("relay"));
    }

    #[test]
    fn passts_end_ends_the_relay() {
        let scratch = Scratch::new("passt-ends");
        let passt = scratch.passt(ECHO);
        // To it, the network has ended: there is no more to read.
        let mut vmm = start(&mut launcher(&scratch, &["--socket", "9"], &passt, "echo up; cat <&9"));
        vmm.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        kill(scratch.noted("passt"), Signal::SIGKILL).unwrap();
        wait_for_end(scratch.noted("relay"));
        assert!(vmm.wait().unwrap().success());
    }

    #[test]
    fn signals_of_a_terminal_do_not_end_the_relay() {
        let scratch = Scratch::new("signals");
        let passt = scratch.passt(ECHO);
        let vmm = r"
            echo up
            read line
            printf '\0\0\0\016aaaaaaaaaaaa\010\006' >&9
            head -c 18 <&9
        ";
        let mut vmm = start(&mut launcher(&scratch, &["--socket", "9"], &passt, vmm));
        vmm.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
        for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGTSTP] {
            kill(scratch.noted("relay"), signal).unwrap();
        }
        assert_eq!(vmm.wait_with_output().unwrap().stdout.len(), 18);
    }

    #[test]
    fn without_passt_the_vmm_is_not_started() {
        let scratch = Scratch::new("passt-fails");
        for (script, log) in [
            ("echo 'no route' >&2; exit 3", "no route\nfirectl: passt has ended with status 3\n"),
            ("kill -9 $$", "firectl: passt has ended with signal: 9 (SIGKILL)\n"),
            ("exit 0", "firectl: passt has ended with status 0 and left no process in the background\n"),
            (
                "kill -9 $PPID",
                "firectl: the network's relay has ended before it was ready: signal: 9 (SIGKILL)\n",
            ),
        ] {
            let passt = scratch.passt(script);
            let output = run(&scratch, &["--socket", "9"], &passt, "echo started");
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("", log));
            assert_eq!(output.status.code(), Some(1));
        }
        let output = run(&scratch, &["--socket", "9"], &["/nowhere/passt".into()], "echo started");
        let log = "firectl: cannot execute /nowhere/passt: No such file or directory (os error 2)\n";
        assert_eq!((text(&output.stdout), text(&output.stderr)), ("", log));
    }

    #[test]
    fn what_else_is_wrong_is_told() {
        let scratch = Scratch::new("wrong");
        let passt = scratch.passt(ECHO);
        let output = Command::new(env!("CARGO_BIN_EXE_firectl-network")).arg("--tap").output().unwrap();
        assert_eq!(text(&output.stderr), "firectl: --tap needs a value\n");
        let missing = Scratch(scratch.0.join("missing"));
        let log = text(&run(&missing, &["--socket", "9"], &passt, "echo started").stderr).to_owned();
        assert!(
            log.starts_with("firectl: cannot note the process ")
                && log.contains("/missing/passt.pid: No such")
        );
        let mut command = Command::new(env!("CARGO_BIN_EXE_firectl-network"));
        command.arg("--directory").arg(&scratch.0).args(["--socket", "9", "--"]).args(&passt);
        let output = command.args(["--", "/nowhere/vmm"]).output().unwrap();
        let log = "firectl: cannot execute /nowhere/vmm: No such file or directory (os error 2)\n";
        assert_eq!(text(&output.stderr), log);
        wait_for_end(scratch.noted("relay"));
    }

    #[test]
    fn a_vmm_gets_a_tap_in_a_network_of_its_own() {
        let scratch = Scratch::new("tap");
        let passt = scratch.passt(ECHO);
        let vmm = "grep CapEff /proc/self/status; id -u; tail -n +3 /proc/net/dev | cut -d: -f1 | sort; \
                   cat /proc/sys/net/ipv6/conf/vm0/disable_ipv6 2>/dev/null || echo 1";
        let users: &[u32] = if geteuid().is_root() { &[0, 65_534] } else { &[geteuid().as_raw()] };
        for &user in users {
            let mut command = launcher(&scratch, &["--tap", "vm0"], &passt, vmm);
            if geteuid().is_root() {
                chown(&scratch.0, Some(user), Some(user)).unwrap();
                for note in ["relay.pid", "passt.pid"] {
                    let _ = fs::remove_file(scratch.0.join(note));
                }
                command.uid(user).gid(user);
            }
            let output = command.output().unwrap();
            if cannot_have_taps(text(&output.stderr)) {
                eprintln!("skipped: {}", text(&output.stderr));
                return;
            }
            assert_eq!(text(&output.stderr), "");
            let lines: Vec<&str> = text(&output.stdout).lines().map(str::trim).collect();
            let [capabilities, uid, interfaces @ .., ipv6] = &lines[..] else { panic!("{lines:?}") };
            assert_eq!(*capabilities == "CapEff:\t0000000000000000", user != 0, "{capabilities}");
            assert_eq!(*uid, user.to_string());
            assert!(interfaces.contains(&"vm0") && interfaces.contains(&"lo"), "{interfaces:?}");
            assert!(!interfaces.contains(&"eth0"), "{interfaces:?}");
            assert_eq!(*ipv6, "1");
            wait_for_end(scratch.noted("relay"));
        }
    }

    /// A host, or a container, may forbid what a tap takes.
    fn cannot_have_taps(log: &str) -> bool {
        log.contains("modprobe tun") || log.contains("user namespaces") || log.contains("CAP_SYS_ADMIN")
    }

    #[test]
    fn a_launcher_that_cannot_go_on_leaves_no_relay() {
        let scratch = Scratch::new("left");
        let passt = scratch.passt(&format!("echo $PPID >{}/relay\n{ECHO}", scratch.0.display()));
        // A tap cannot have the name of the loopback interface.
        let output = run(&scratch, &["--tap", "lo"], &passt, "echo started");
        let log = text(&output.stderr);
        assert!(cannot_have_taps(log) || log.starts_with("firectl: cannot make the tap lo: "), "{log}");
        assert_eq!(text(&output.stdout), "");
        let relay = fs::read_to_string(scratch.0.join("relay")).unwrap();
        wait_for_end(Pid::from_raw(relay.trim().parse().unwrap()));
    }
}
