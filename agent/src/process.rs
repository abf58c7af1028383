//! Starting a process in the workload's world: the first one, which makes it, and those that join it.
//!
//! Between fork and exec a child may allocate: the agent's other thread holds no lock of Rust's, and musl keeps its
//! own consistent across fork.
//!
//! What joins the world is forked twice. A process is in the PID namespace of its birth: the agent's own child, which
//! the workload cannot see, stop or trace, gives up what is the agent's, and only what it forks then is born beside the
//! workload, as the user, with nothing of the agent's open.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{
    ForkResult, Gid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, fork, pipe2, setsid,
};

use crate::capabilities;
use crate::cgroup::{Cgroup, Group};
use crate::descriptors;
use crate::devices;
use crate::environment;
use crate::error::{AgentError, Context, StartError};
use crate::etc_files;
use crate::guest::send_signal;
use crate::helper;
use crate::init_process;
use crate::mounts;
use crate::proto::{Mount, Network, Process, Rlimit};
use crate::reaper::Reaper;
use crate::resources::Settings;
use crate::starting::{Child, Starting, announce, await_word};
use crate::systemd;
use crate::terminal;
use crate::user::{self, Identity};
use crate::volumes::{self, Sources};

/// The world that the workload lives in, and what a process needs to be put there.
#[derive(Debug)]
pub struct World {
    pub hostname: String,
    /// None for a guest without one.
    pub network: Option<Network>,
    pub read_only: bool,
    /// The workload runs under an init process.
    pub init: bool,
    pub systemd: bool,
    /// What the host mounts into the root, in order.
    pub mounts: Vec<Mount>,
    pub cgroup: Option<Cgroup>,
    pub settings: Settings,
}

impl World {
    /// Whether the host mounts something just there.
    pub fn has_mount_at(&self, path: &str) -> bool {
        self.mounts.iter().any(|each| each.destination == path)
    }
}

/// Descriptors of a running workload's namespaces: they stay valid, and the same, whatever becomes of its pid.
#[derive(Debug)]
pub struct Namespaces {
    pid: File,
    mount: File,
}

impl Namespaces {
    /// Takes those that the workload's first child has sent, once it has made its world and before it executed.
    pub fn receive(channel: &OwnedFd) -> Result<Self, AgentError> {
        let [pid, mount] = descriptors::receive(channel)?.map(File::from);
        Ok(Self { pid, mount })
    }

    /// Sends the calling process's own.
    fn send(channel: &OwnedFd) -> Result<(), AgentError> {
        let open = |kind: &str| {
            let path = format!("/proc/self/ns/{kind}");
            File::open(&path).context(|| format!("open {path}"))
        };
        descriptors::send(channel, [open("pid")?.as_fd(), open("mnt")?.as_fd()])
    }

    /// Puts the calling process into the mount namespace alone.
    pub fn join_mounts(&self) -> Result<(), AgentError> {
        setns(&self.mount, CloneFlags::CLONE_NEWNS).context(|| "join the mount namespace".into())
    }
}

/// The place of a process that joins the world.
#[derive(Debug, Clone, Copy)]
pub struct Beside<'a> {
    pub namespaces: &'a Namespaces,
    pub group: Group,
}

/// The child's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Its ends of them.
    Streams { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal, which it allocates itself.
    Terminal(terminal::Request),
}

/// A pipe of which no child inherits an end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), AgentError> {
    pipe2(OFlag::O_CLOEXEC).context(|| "create a pipe".into())
}

/// Forks the child that makes the world and becomes the workload. Its namespaces come over `channel`, whose other end
/// the caller has.
pub fn start_first(
    world: &World,
    process: &Process,
    stdio: Stdio,
    channel: OwnedFd,
    reaper: &Reaper,
) -> Result<Starting, AgentError> {
    let own = File::open("/proc/self/ns/pid").context(|| "open the PID namespace".into())?;
    // Only children are affected, never the agent itself.
    unshare(CloneFlags::CLONE_NEWPID).context(|| "enter a PID namespace".into())?;
    let forked = fork_child(reaper, |_| become_first(world, process, &stdio, &channel));
    setns(own, CloneFlags::CLONE_NEWPID).context(|| "leave the PID namespace".into())?;
    let (child, report) = forked?;
    Ok(Starting::direct(child, report))
}

/// Forks the child that forks `process`.
pub fn start_beside(
    world: &World,
    process: &Process,
    place: Beside<'_>,
    stdio: Stdio,
    reaper: &Reaper,
) -> Result<Starting, AgentError> {
    let (starter, report) = fork_child(reaper, |report| fork_beside(world, process, place, &stdio, report))?;
    Ok(Starting::by(starter, report))
}

/// Forks a child that does `run` and, should that come back, tells why.
fn fork_child(
    reaper: &Reaper,
    run: impl FnOnce(&UnixStream) -> Result<Infallible, StartError>,
) -> Result<(Child, UnixStream), AgentError> {
    let (ours, theirs) = UnixStream::pair().context(|| "create a socket".into())?;
    // SAFETY: see the head of the file for why the child may do more than async-signal-safe calls.
    match unsafe { fork() }.context(|| "start a process".into())? {
        ForkResult::Parent { child } => Ok((Child::new(child, reaper), ours)),
        ForkResult::Child => {
            let Err(error) = run(&theirs);
            give_up(&theirs, &error)
        }
    }
}

/// The end of a child that has failed to become the process.
fn give_up(report: &UnixStream, error: &StartError) -> ! {
    // When even this fails, the agent sees an end without bytes and then this exit code.
    let _ = (&*report).write_all(&error.encode());
    // SAFETY: _exit never returns and runs nothing of the parent's that was copied into the child.
    unsafe { libc::_exit(i32::from(error.code)) }
}

fn become_first(
    world: &World,
    process: &Process,
    stdio: &Stdio,
    channel: &OwnedFd,
) -> Result<Infallible, StartError> {
    leave_the_agent(world)?;
    if let Some(cgroup) = &world.cgroup {
        cgroup.join(Group::Workload)?;
    }
    setsid().context(|| "setsid".into())?;
    make_world(world)?;
    Namespaces::send(channel)?;
    let terminal = allocate_terminal(stdio, true)?;
    if process.idle {
        if world.read_only {
            mounts::make_root_read_only()?;
        }
        helper::wait_for_the_end();
    }
    let identity = identity_of(world, process)?;
    create_cwd(cwd_of(process))?;
    if world.read_only {
        mounts::make_root_read_only()?;
    }
    connect_stdio(stdio, terminal.as_ref(), &identity)?;
    let program = become_user(world, process, &identity)?;
    if terminal.is_some() {
        terminal::take_control()?;
    }
    if world.init {
        init_process::stay_behind()?;
    }
    program.execute()
}

fn fork_beside(
    world: &World,
    process: &Process,
    Beside { namespaces, group }: Beside<'_>,
    stdio: &Stdio,
    report: &UnixStream,
) -> Result<Infallible, StartError> {
    leave_the_agent(world)?;
    setns(&namespaces.pid, CloneFlags::CLONE_NEWPID).context(|| "enter the PID namespace".into())?;
    join_world(world, namespaces, group)?;
    let terminal = allocate_terminal(stdio, false)?;
    let identity = identity_of(world, process)?;
    connect_stdio(stdio, terminal.as_ref(), &identity)?;
    let has_terminal = terminal.is_some();
    // Not to be dropped once it is closed.
    std::mem::forget(terminal);
    close_others(report.as_raw_fd())?;
    let program = become_user(world, process, &identity)?;
    // SAFETY: this process has one thread, a fork of it may do anything.
    match unsafe { fork() }.context(|| "start a process".into())? {
        ForkResult::Child => {
            await_word(report).context(|| "wait for the agent".into())?;
            setsid().context(|| "setsid".into())?;
            if has_terminal {
                terminal::take_control()?;
            }
            program.execute()
        }
        ForkResult::Parent { child } => {
            if announce(report, child).is_err() {
                // Nobody waits for it any more.
                let _ = send_signal(child, libc::SIGKILL);
            }
            // SAFETY: as in give_up.
            unsafe { libc::_exit(0) }
        }
    }
}

/// What sets any child apart from the agent.
fn leave_the_agent(world: &World) -> Result<(), AgentError> {
    reset_signals()?;
    // The agent is exempt from the OOM killer; the workload is not.
    let _ = fs::write("/proc/self/oom_score_adj", world.settings.oom_score_adj.to_string());
    Ok(())
}

fn allocate_terminal(stdio: &Stdio, is_console: bool) -> Result<Option<File>, AgentError> {
    match stdio {
        Stdio::Terminal(request) => terminal::allocate(request, is_console).map(Some),
        Stdio::Streams { .. } => Ok(None),
    }
}

fn connect_stdio(stdio: &Stdio, terminal: Option<&File>, identity: &Identity) -> Result<(), AgentError> {
    if let Stdio::Streams { stdin, stdout, stderr } = stdio {
        connect_streams(stdin, [stdout, stderr], identity)?;
    }
    terminal.map_or(Ok(()), |slave| terminal::connect(slave, Uid::from_raw(identity.uid)))
}

fn identity_of(world: &World, process: &Process) -> Result<Identity, StartError> {
    let mut identity = user::look_up(&process.user)?;
    user::add_groups(&mut identity, &world.settings.privileges.groups)?;
    Ok(identity)
}

fn cwd_of(process: &Process) -> &str {
    if process.cwd.is_empty() { "/" } else { &process.cwd }
}

/// Takes on the limits and rights of the user, in the working directory, and finds what is to be executed.
fn become_user(world: &World, process: &Process, identity: &Identity) -> Result<Program, StartError> {
    let World { hostname, settings, .. } = world;
    set_limits(settings.rlimits.iter().chain(&process.rlimits))?;
    capabilities::limit_bounding_set(&settings.privileges)?;
    // A directory that only root may enter is entered before root is given up, as runc does.
    let entered = enter_cwd(cwd_of(process));
    capabilities::become_user(identity, &settings.privileges)?;
    entered.or_else(|_| enter_cwd(cwd_of(process)))?;
    Program::find(process, &environment::environment(hostname, &process.env, &identity.home))
}

/// Closes everything but the standard streams and `kept`. The values that own what is closed must not be dropped.
fn close_others(kept: RawFd) -> Result<(), AgentError> {
    for (first, last) in [(libc::STDERR_FILENO + 1, kept - 1), (kept + 1, RawFd::MAX)] {
        if first <= last {
            // SAFETY: close_range takes numbers. This child never unwinds, and uses nothing of what is closed.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
                .context(|| "close descriptors".into())?;
        }
    }
    Ok(())
}

/// A handler of the agent's must not run in the child, and what it ignores must not stay ignored.
pub fn reset_signals() -> Result<(), AgentError> {
    // SAFETY: setting the default disposition installs no code.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.context(|| "reset SIGPIPE".into())?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
        .context(|| "reset the signal mask".into())
}

fn make_world(world: &World) -> Result<(), AgentError> {
    let mut namespaces = CloneFlags::CLONE_NEWNS;
    if world.cgroup.is_some() {
        namespaces |= CloneFlags::CLONE_NEWCGROUP;
    }
    unshare(namespaces).context(|| "unshare".into())?;
    let privileges = &world.settings.privileges;
    let devices = if privileges.all_devices { devices::list() } else { Vec::new() };
    let sources = Sources::open(&world.mounts)?;
    mounts::enter_root()?;
    mounts::furnish_root(privileges.unmasked, |path| world.has_mount_at(path))?;
    devices::create(&devices)?;
    if world.systemd {
        systemd::furnish()?;
    }
    etc_files::write(world)?;
    volumes::attach(&world.mounts, &sources)?;
    etc_files::cover(world)
}

fn join_world(world: &World, namespaces: &Namespaces, group: Group) -> Result<(), AgentError> {
    if let Some(cgroup) = &world.cgroup {
        // The control group is another one than the workload's, and is to look like a root as well.
        cgroup.join(group)?;
        unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "unshare the cgroup namespace".into())?;
        // In a group that is full it could not fork any more.
        cgroup.leave()?;
    }
    namespaces.join_mounts()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// Docker creates a missing working directory, and its parents, as root's.
fn create_cwd(cwd: &str) -> Result<(), StartError> {
    if !cwd.starts_with('/') {
        return Err(StartError::refused(format!(
            "the working directory '{cwd}' is invalid, it needs to be an absolute path"
        )));
    }
    if Path::new(cwd).is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(cwd).map_err(|error| {
        let reason = if Path::new(cwd).exists() { "not a directory".into() } else { error.to_string() };
        StartError::refused(format!("cannot mkdir: {cwd}: {reason}"))
    })
}

fn enter_cwd(cwd: &str) -> Result<(), StartError> {
    chdir(cwd).map_err(|error| StartError {
        code: if error == Errno::ENOENT { 127 } else { 126 },
        message: format!("chdir to cwd (\"{cwd}\") failed: {}", environment::describe(error)),
    })
}

/// Without a limit of its own, a process gets systemd's defaults for open files, which containers now have.
fn set_limits<'a>(limits: impl Iterator<Item = &'a Rlimit>) -> Result<(), AgentError> {
    setrlimit(Resource::RLIMIT_NOFILE, 1024, 524_288).context(|| "set RLIMIT_NOFILE".into())?;
    for limit in limits {
        let resource = parse_resource(&limit.r#type)
            .ok_or_else(|| AgentError::Invalid(format!("unknown resource limit {:?}", limit.r#type)))?;
        setrlimit(resource, limit.soft, limit.hard).context(|| format!("set {}", limit.r#type))?;
    }
    Ok(())
}

fn parse_resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::RLIMIT_AS,
        "RLIMIT_CORE" => Resource::RLIMIT_CORE,
        "RLIMIT_CPU" => Resource::RLIMIT_CPU,
        "RLIMIT_DATA" => Resource::RLIMIT_DATA,
        "RLIMIT_FSIZE" => Resource::RLIMIT_FSIZE,
        "RLIMIT_LOCKS" => Resource::RLIMIT_LOCKS,
        "RLIMIT_MEMLOCK" => Resource::RLIMIT_MEMLOCK,
        "RLIMIT_MSGQUEUE" => Resource::RLIMIT_MSGQUEUE,
        "RLIMIT_NICE" => Resource::RLIMIT_NICE,
        "RLIMIT_NOFILE" => Resource::RLIMIT_NOFILE,
        "RLIMIT_NPROC" => Resource::RLIMIT_NPROC,
        "RLIMIT_RSS" => Resource::RLIMIT_RSS,
        "RLIMIT_RTPRIO" => Resource::RLIMIT_RTPRIO,
        "RLIMIT_RTTIME" => Resource::RLIMIT_RTTIME,
        "RLIMIT_SIGPENDING" => Resource::RLIMIT_SIGPENDING,
        "RLIMIT_STACK" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

/// The streams belong to the user, who may open them again as /dev/stdin, /dev/stdout and /dev/stderr. What is no pipe
/// of the process's own stays as it is.
fn connect_streams(
    stdin: &OwnedFd,
    [stdout, stderr]: [&OwnedFd; 2],
    identity: &Identity,
) -> Result<(), AgentError> {
    let failed = || "give the streams to the user".into();
    for stream in [stdin, stdout, stderr] {
        let metadata = File::from(stream.try_clone().context(failed)?).metadata().context(failed)?;
        if metadata.file_type().is_fifo() {
            let owner = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
            fchown(stream.as_fd(), Some(owner.0), Some(owner.1)).context(failed)?;
        }
    }
    dup2_stdin(stdin).context(|| "connect stdin".into())?;
    dup2_stdout(stdout).context(|| "connect stdout".into())?;
    dup2_stderr(stderr).context(|| "connect stderr".into())
}

/// What a process executes.
struct Program {
    path: String,
    file: CString,
    arguments: Vec<CString>,
    variables: Vec<CString>,
}

impl Program {
    /// Finds it as the calling process, in the directory that it is in.
    fn find(process: &Process, variables: &[String]) -> Result<Self, StartError> {
        let name = process.args.first().ok_or_else(|| StartError::refused("no command specified"))?;
        let path = environment::find_executable(name, variables)?;
        Ok(Self {
            file: environment::c_string(&path)?,
            arguments: environment::c_strings(&process.args)?,
            variables: environment::c_strings(variables)?,
            path,
        })
    }

    fn execute(&self) -> Result<Infallible, StartError> {
        execve(&self.file, &self.arguments, &self.variables)
            .map_err(|error| environment::exec_failure(&self.path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_limits_have_their_runtime_spec_names() {
        assert_eq!(parse_resource("RLIMIT_NOFILE"), Some(Resource::RLIMIT_NOFILE));
        assert_eq!(parse_resource("nofile"), None);
    }

    #[test]
    fn a_working_directory_is_absolute() {
        let error = create_cwd("relative").unwrap_err();
        assert_eq!(error.code, 125);
        assert!(error.message.contains("'relative'"), "{error}");
        assert!(create_cwd("/proc/self/status").unwrap_err().message.contains("not a directory"));
    }
}
