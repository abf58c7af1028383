//! The running guest as the service sees it: the workload, and what may be done to it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::sync::mpsc;

use crate::attach::Attachable;
use crate::cgroup::Group;
use crate::error::{AgentError, StartError};
use crate::freeze::Freezer;
use crate::process::{self, Beside, Namespaces, Stdio, World};
use crate::proto::Process;
use crate::reaper::Reaper;
use crate::starting::{Child, Starting};
use crate::status::StatusBoard;
use crate::storage::Device;

/// A wish to end the guest.
#[derive(Debug, Clone, Copy)]
pub struct ShutdownOrder {
    /// Signal number; 0 is the spec's stop signal.
    pub signal: i32,
    pub grace_ms: u64,
}

/// The workload's first process, as long as it lives.
#[derive(Debug)]
struct Running {
    pid: Pid,
    namespaces: Namespaces,
}

/// Why something cannot be done to the workload.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("the workload does not run")]
    NotRunning,
    #[error(transparent)]
    Agent(#[from] AgentError),
    #[error("signal {0} is not a signal")]
    Signal(i32),
}

#[derive(Debug)]
pub struct Guest {
    pub world: World,
    pub status: StatusBoard<Device>,
    pub reaper: Reaper,
    pub freezer: Arc<Freezer>,
    /// Set when the workload is started.
    attachable: OnceLock<Arc<Attachable>>,
    running: Mutex<Option<Running>>,
    shutdown: mpsc::Sender<ShutdownOrder>,
}

/// Linux's signals, real-time ones included, without 0, which only asks.
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

impl Guest {
    pub fn new(
        world: World,
        status: StatusBoard<Device>,
        reaper: Reaper,
        freezer: Arc<Freezer>,
        shutdown: mpsc::Sender<ShutdownOrder>,
    ) -> Self {
        let (attachable, running) = (OnceLock::new(), Mutex::new(None));
        Self { world, status, reaper, freezer, attachable, running, shutdown }
    }

    /// The workload runs, in these namespaces. They are as its first child has made them: none that the workload may
    /// have entered since.
    pub fn workload_runs(&self, workload: &Child, namespaces: Namespaces) {
        *self.running() = Some(Running { pid: workload.pid(), namespaces });
    }

    /// From here on nothing can be done to the workload: its pid may be another's.
    pub fn workload_ended(&self) {
        *self.running() = None;
    }

    /// Takes up what callers can attach to; once.
    pub fn make_attachable(&self, attachable: Attachable) -> Arc<Attachable> {
        Arc::clone(self.attachable.get_or_init(|| Arc::new(attachable)))
    }

    /// The streams of the workload, while it runs.
    pub fn attachable(&self) -> Result<Arc<Attachable>, GuestError> {
        let running = self.running().is_some();
        self.attachable.get().filter(|_| running).cloned().ok_or(GuestError::NotRunning)
    }

    /// Starts a process beside the workload.
    pub fn start_beside(
        &self,
        process: &Process,
        stdio: Stdio,
        group: Group,
    ) -> Result<Starting, GuestError> {
        self.in_workload(|namespaces| {
            process::start_beside(&self.world, process, Beside { namespaces, group }, stdio, &self.reaper)
        })
    }

    /// Sees a process through execve that was started beside the workload.
    pub async fn executed(
        &self,
        starting: Starting,
        group: Group,
    ) -> Result<Result<Child, StartError>, AgentError> {
        let cgroup = self.world.cgroup.as_ref();
        starting.executed(&self.reaper, |pid| cgroup.map_or(Ok(()), |all| all.admit(pid, group))).await
    }

    /// Does what needs the workload's namespaces.
    pub fn in_workload<T>(
        &self,
        work: impl FnOnce(&Namespaces) -> Result<T, AgentError>,
    ) -> Result<T, GuestError> {
        let running = self.running();
        let running = running.as_ref().ok_or(GuestError::NotRunning)?;
        Ok(work(&running.namespaces)?)
    }

    pub fn signal_workload(&self, signal: i32) -> Result<(), GuestError> {
        let running = self.running();
        let running = running.as_ref().ok_or(GuestError::NotRunning)?;
        if !SIGNALS.contains(&signal) {
            return Err(GuestError::Signal(signal));
        }
        send_signal(running.pid, signal).map_err(|_| GuestError::NotRunning)
    }

    /// Asks the conductor to end the guest. An order while another waits adds nothing and is dropped.
    pub fn order_shutdown(&self, order: ShutdownOrder) {
        let _ = self.shutdown.try_send(order);
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// kill(2) for any signal number: nix has no real-time signals. A negative pid is a process group.
pub fn send_signal(pid: Pid, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two numbers and touches no memory.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}
