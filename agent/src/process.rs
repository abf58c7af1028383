//! Starting a process in the workload's world: the first one, which makes it, and those that join it.
//!
//! The child reports over a close-on-exec pipe: bytes are a [`StartError`], an end without bytes means that
//! execve has succeeded. Between fork and exec the child may allocate: the agent's other thread holds no lock
//! of Rust's, and musl keeps its own consistent across fork.

use std::convert::Infallible;
use std::fs;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::{
    ForkResult, Gid, Pid, Uid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchown, fork, pipe2,
    setsid,
};

use crate::capabilities;
use crate::cgroup::Cgroup;
use crate::devices;
use crate::environment;
use crate::error::{AgentError, Context, StartError};
use crate::helper;
use crate::init_process;
use crate::mounts;
use crate::network;
use crate::proto::{Mount, Process, Rlimit};
use crate::resources::Settings;
use crate::systemd;
use crate::terminal;
use crate::user::{self, Identity};
use crate::volumes::{self, Sources};

/// The world that the workload lives in, and what a process needs to be put there.
#[derive(Debug)]
pub struct World {
    pub hostname: String,
    pub read_only: bool,
    /// The workload runs under an init process.
    pub init: bool,
    pub systemd: bool,
    /// What the host mounts into the root, in order.
    pub mounts: Vec<Mount>,
    pub cgroup: Option<Cgroup>,
    pub settings: Settings,
}

/// Descriptors of a running workload's namespaces: they stay valid, and the same, whatever becomes of its pid.
#[derive(Debug)]
pub struct Namespaces {
    pid: File,
    mount: File,
    /// There are control groups.
    cgroup: bool,
}

impl Namespaces {
    pub fn of(workload: Pid) -> Result<Self, AgentError> {
        let open = |owner: &str, kind: &str| {
            let path = format!("/proc/{owner}/ns/{kind}");
            File::open(&path).context(|| format!("open {path}"))
        };
        let owner = workload.to_string();
        Ok(Self {
            pid: open(&owner, "pid")?,
            mount: open(&owner, "mnt")?,
            cgroup: Path::new(crate::cgroup::MAIN).is_dir(),
        })
    }

    /// Puts the calling process into the mount namespace alone.
    pub fn join_mounts(&self) -> Result<(), AgentError> {
        setns(&self.mount, CloneFlags::CLONE_NEWNS).context(|| "join the mount namespace".into())
    }
}

/// Where the child's place is.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// PID 1 of new namespaces.
    First,
    /// Beside the workload.
    Beside(&'a Namespaces),
}

/// The child's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// Its ends of them.
    Streams { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    /// A terminal, which it allocates itself.
    Terminal(terminal::Request),
}

/// A child on its way to execve.
#[derive(Debug)]
pub struct Started {
    pub pid: Pid,
    /// Ends when execve has succeeded; else carries a [`StartError`].
    pub outcome: OwnedFd,
}

/// A pipe of which no child inherits an end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd), AgentError> {
    pipe2(OFlag::O_CLOEXEC).context(|| "create a pipe".into())
}

/// Forks a child that becomes `process`.
pub fn start(
    world: &World,
    process: &Process,
    place: Place<'_>,
    stdio: Stdio,
) -> Result<Started, AgentError> {
    let (outcome, report) = pipe()?;
    let own = File::open("/proc/self/ns/pid").context(|| "open the PID namespace".into())?;
    // Only children are affected, never the agent itself.
    match place {
        Place::First => unshare(CloneFlags::CLONE_NEWPID),
        Place::Beside(namespaces) => setns(&namespaces.pid, CloneFlags::CLONE_NEWPID),
    }
    .context(|| "enter the PID namespace".into())?;
    // SAFETY: see the head of the file for why the child may do more than async-signal-safe calls.
    let forked = unsafe { fork() };
    if matches!(forked, Ok(ForkResult::Child)) {
        let Err(error) = run_child(world, process, place, &stdio);
        // When even this fails, the parent sees an end without bytes and then this exit code.
        let _ = File::from(report).write_all(&error.encode());
        // SAFETY: _exit never returns and runs nothing of the parent's that was copied into the child.
        unsafe { libc::_exit(i32::from(error.code)) }
    }
    setns(own, CloneFlags::CLONE_NEWPID).context(|| "leave the PID namespace".into())?;
    match forked.context(|| "start a process".into())? {
        ForkResult::Parent { child } => Ok(Started { pid: child, outcome }),
        ForkResult::Child => Err(AgentError::Invalid("unreachable: the child has left above".into())),
    }
}

fn run_child(
    world: &World,
    process: &Process,
    place: Place<'_>,
    stdio: &Stdio,
) -> Result<Infallible, StartError> {
    reset_signals()?;
    if let Some(cgroup) = &world.cgroup {
        cgroup.join(matches!(place, Place::First));
    }
    let settings = &world.settings;
    // The agent is exempt from the OOM killer; the workload is not.
    let _ = fs::write("/proc/self/oom_score_adj", settings.oom_score_adj.to_string());
    setsid().context(|| "setsid".into())?;
    match place {
        Place::First => make_world(world)?,
        Place::Beside(namespaces) => join_world(namespaces)?,
    }
    let terminal = match stdio {
        Stdio::Terminal(request) => Some(terminal::allocate(request, matches!(place, Place::First))?),
        Stdio::Streams { .. } => None,
    };

    if process.idle {
        if world.read_only {
            mounts::make_root_read_only()?;
        }
        helper::wait_for_the_end();
    }
    let mut identity = user::look_up(&process.user)?;
    user::add_groups(&mut identity, &settings.privileges.groups)?;
    let cwd = if process.cwd.is_empty() { "/" } else { &process.cwd };
    if matches!(place, Place::First) {
        create_cwd(cwd)?;
        if world.read_only {
            mounts::make_root_read_only()?;
        }
    }
    set_limits(settings.rlimits.iter().chain(&process.rlimits))?;
    capabilities::limit_bounding_set(&settings.privileges)?;
    match (stdio, &terminal) {
        (Stdio::Streams { stdin, stdout, stderr }, _) => connect_streams(stdin, [stdout, stderr], &identity)?,
        (Stdio::Terminal(_), Some(slave)) => terminal::connect(slave, Uid::from_raw(identity.uid))?,
        (Stdio::Terminal(_), None) => {}
    }
    // A directory that only root may enter is entered before root is given up, as runc does.
    let entered = enter_cwd(cwd);
    capabilities::become_user(&identity, &settings.privileges)?;
    entered.or_else(|_| enter_cwd(cwd))?;
    if world.init && matches!(place, Place::First) {
        init_process::stay_behind()?;
    }
    execute(process, &environment::environment(&world.hostname, &process.env, &identity.home))
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
    mounts::furnish_root(privileges.unmasked, |path| is_mounted(world, path))?;
    devices::create(&devices)?;
    if world.systemd {
        systemd::furnish()?;
    }
    volumes::attach(&world.mounts, &sources)?;
    write_identity_files(world)
}

/// Whether the host mounts something just there.
fn is_mounted(world: &World, path: &str) -> bool {
    world.mounts.iter().any(|each| each.destination == path)
}

fn join_world(namespaces: &Namespaces) -> Result<(), AgentError> {
    if namespaces.cgroup {
        // The control group is another one than the workload's, and is to look like a root as well.
        unshare(CloneFlags::CLONE_NEWCGROUP).context(|| "unshare the cgroup namespace".into())?;
    }
    namespaces.join_mounts()?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Ok(())
}

/// The files that tell the workload where it is, as Docker gives them to every container.
fn write_identity_files(world: &World) -> Result<(), AgentError> {
    let World { hostname, settings, .. } = world;
    if world.mounts.iter().any(|each| each.destination == "/etc" && each.read_only) {
        return Ok(()); // all of it is the user's own
    }
    match fs::create_dir("/etc") {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).context(|| "create /etc".into());
        }
        _ => {}
    }
    let files = [
        ("/etc/hostname", format!("{hostname}\n")),
        ("/etc/hosts", network::hosts_file(hostname, &settings.names)),
        ("/etc/resolv.conf", network::resolver_file(&settings.names)),
    ];
    for (path, contents) in files {
        // The user's own file is what counts there.
        if !is_mounted(world, path) {
            write_file(path, &contents)?;
        }
    }
    if fs::symlink_metadata("/etc/mtab").is_err() {
        symlink("/proc/mounts", "/etc/mtab").context(|| "create /etc/mtab".into())?;
    }
    Ok(())
}

/// Replaces whatever is there: an image may have a link into a directory that only exists on its builder.
fn write_file(path: &str, contents: &str) -> Result<(), AgentError> {
    if fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        fs::remove_file(path).context(|| format!("replace {path}"))?;
    }
    fs::write(path, contents).context(|| format!("write {path}"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).context(|| format!("write {path}"))
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

/// The streams belong to the user, who may open them again as /dev/stdout.
fn connect_streams(
    stdin: &OwnedFd,
    [stdout, stderr]: [&OwnedFd; 2],
    identity: &Identity,
) -> Result<(), AgentError> {
    for stream in [stdout, stderr] {
        let owner = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
        fchown(stream.as_fd(), Some(owner.0), Some(owner.1))
            .context(|| "give the streams to the user".into())?;
    }
    dup2_stdin(stdin).context(|| "connect stdin".into())?;
    dup2_stdout(stdout).context(|| "connect stdout".into())?;
    dup2_stderr(stderr).context(|| "connect stderr".into())
}

fn execute(process: &Process, variables: &[String]) -> Result<Infallible, StartError> {
    let name = process.args.first().ok_or_else(|| StartError::refused("no command specified"))?;
    let arguments = environment::c_strings(&process.args)?;
    let path = environment::find_executable(name, variables)?;
    let program = environment::c_strings(std::slice::from_ref(&path))?;
    let variables = environment::c_strings(variables)?;
    execve(&program[0], &arguments, &variables).map_err(|error| environment::exec_failure(&path, error))
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
