//! The conductor: from the first instruction of PID 1 to the reboot that ends the virtual machine.

use std::fs;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl::set_dumpable;
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::unistd::sethostname;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::cgroup::{self, Cgroup};
use crate::clock;
use crate::clock_sync;
use crate::cmdline;
use crate::console;
use crate::control_drive::{self, BLOCK_BYTES, ControlDriveError, Region, SPEC_HEADER_BYTES, Superblock};
use crate::error::{AgentError, Context};
use crate::freeze::Freezer;
use crate::guest::{Guest, ShutdownOrder};
use crate::health;
use crate::modules;
use crate::mounts;
use crate::names;
use crate::network::{self, Eth0};
use crate::output_ring::OutputRing;
use crate::probing;
use crate::process::World;
use crate::proto::{Exit, Phase, Root, VmSpec};
use crate::reaper::Reaper;
use crate::resources::{self, Settings};
use crate::service::{self, Server};
use crate::shares;
use crate::snapshot;
use crate::starting::Child;
use crate::status::StatusBoard;
use crate::storage::{AlignedBuffer, Device, Storage};
use crate::swap::Swap;
use crate::volumes;
use crate::workload;

/// Ctrl-Alt-Delete, which is how a VMM without the service asks: as `docker stop` would.
const KEYBOARD_GRACE_MS: u64 = 10_000;
/// How long what is killed at the end may take to be gone.
const LEAVING: Duration = Duration::from_secs(1);
/// The first read takes superblock, status and all of most specs in one: each request is an exit of the machine.
const FIRST_READ_BYTES: usize = 32 * 1024;

/// Runs the guest from boot to reboot.
pub fn run() -> ! {
    // What the agent forks has its rights and descriptors for a while: nothing of the workload's may look at either.
    let _ = set_dumpable(false);
    let resumed_at = snapshot::resumed_at(std::env::args().skip(1));
    clock::begin_at(resumed_at.unwrap_or_default());
    let started_us = clock::since_boot_us();
    if let Err(error) = boot(resumed_at.is_some(), started_us) {
        console::report(&error.to_string());
    }
    restart()
}

/// Ends the machine. On x86 a guest cannot power Firecracker off: a reset is what ends it.
fn restart() -> ! {
    match reboot(RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        // PID 1 may always reboot; without that nothing better is left than to stop consuming the host.
        Err(_) => loop {
            std::thread::park();
        },
    }
}

/// Everything up to a status on the control drive; from there on failures are told there.
fn boot(resumed: bool, started_us: u64) -> Result<(), AgentError> {
    if !resumed {
        mounts::mount_proc()?;
    }
    let line = fs::read_to_string("/proc/cmdline").context(|| "read /proc/cmdline".into())?;
    let arguments = cmdline::parse(&line);
    if arguments.probe {
        restart();
    }
    let control_device = arguments.control_device.as_deref();
    if !resumed {
        mounts::mount_dev()?;
        // The agent is what reports an out-of-memory condition: it must outlive it.
        let _ = fs::write("/proc/self/oom_score_adj", "-1000");
        modules::load_all(Path::new("/modules"));
        if let Some(port) = arguments.snapshot_port {
            return go_on_from_snapshot(port, control_device);
        }
    }

    let ControlDrive { device, superblock, spec, head } = open_control_drive(control_device)?;
    let clone = || device.try_clone().context(|| "share the control drive".into());
    let known = within(head.as_slice(), superblock.status);
    let status =
        StatusBoard::open(clone()?, superblock.status, known).context(|| "read the status".into())?;
    // Written with the next: nobody waits for this word alone.
    status.publish_later(|status| {
        status.set_phase(Phase::Booting);
        status.timings.get_or_insert_default().agent_started_us = started_us;
    });
    clock::set_from_host(spec.host_time_unix_ns);
    if resumed {
        clock_sync::set_now();
    }
    let ring = OutputRing::open(clone()?, superblock.output).context(|| "read the output ring".into())?;

    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.context(|| "start the runtime".into())?.block_on(live(spec, status, ring))
}

/// Everything that all guests of a kernel have in common has been done. From here on this one is another than those
/// that go on from the same snapshot: first its random numbers are.
fn go_on_from_snapshot(port: u32, control_device: Option<&str>) -> Result<(), AgentError> {
    // What loads after the start of others is the snapshot's here: the clock is set with it.
    modules::load_all(Path::new("/modules/later"));
    snapshot::wait(port);
    snapshot::seed_random_numbers(&open_control_drive(control_device)?.spec.seed)?;
    match snapshot::start_anew()? {}
}

/// The drive as it is found.
struct ControlDrive {
    device: Device,
    superblock: Superblock,
    spec: VmSpec,
    /// What the first read has brought of it.
    head: AlignedBuffer,
}

/// The region's bytes, if all of them have been read.
fn within(head: &[u8], region: Region) -> Option<&[u8]> {
    let start = usize::try_from(region.offset).ok()?;
    let length = usize::try_from(region.length).ok()?;
    head.get(start..start.checked_add(length)?)
}

/// Finds the drive, by name or else by its magic, and reads the orders from it.
fn open_control_drive(name: Option<&str>) -> Result<ControlDrive, AgentError> {
    let Some(name) = name else {
        for letter in 'a'..='z' {
            match read_control_drive(&format!("/dev/vd{letter}")) {
                Err(AgentError::Io { .. } | AgentError::ControlDrive(ControlDriveError::Magic)) => {}
                found => return found,
            }
        }
        return Err(AgentError::Invalid("no block device is a control drive".into()));
    };
    read_control_drive(&mounts::wait_for_device(name)?)
}

fn read_control_drive(path: &str) -> Result<ControlDrive, AgentError> {
    let mut device = Device::open(Path::new(path)).context(|| format!("open {path}"))?;
    let length = device.length().context(|| format!("measure {path}"))?;
    let first = FIRST_READ_BYTES.min(usize::try_from(length).unwrap_or(0) / BLOCK_BYTES * BLOCK_BYTES);
    let mut head = AlignedBuffer::new(first);
    device.read_at(head.as_mut_slice(), 0).context(|| format!("read {path}"))?;
    let block = head.as_slice().first_chunk().ok_or(ControlDriveError::Magic)?;
    let superblock = Superblock::decode(block, length)?;
    let spec = read_spec(&mut device, superblock.spec, head.as_slice())?;
    Ok(ControlDrive { device, superblock, spec, head })
}

/// Decodes the spec from what has been read already, or reads it.
fn read_spec(device: &mut Device, region: Region, read: &[u8]) -> Result<VmSpec, AgentError> {
    let offset = usize::try_from(region.offset).unwrap_or(usize::MAX);
    let Some(head) = read.get(offset..).filter(|head| head.len() >= BLOCK_BYTES) else {
        let mut head = AlignedBuffer::new(BLOCK_BYTES);
        device.read_at(head.as_mut_slice(), region.offset).context(|| "read the spec".into())?;
        return read_long_spec(device, region, head.as_slice());
    };
    read_long_spec(device, region, head)
}

/// `head` is the start of the region; more is read when the spec is longer.
fn read_long_spec(device: &mut Device, region: Region, head: &[u8]) -> Result<VmSpec, AgentError> {
    let bytes = SPEC_HEADER_BYTES + control_drive::spec_length(head, region.length)?;
    if bytes <= head.len() {
        return Ok(control_drive::decode_spec(head)?);
    }
    let mut whole = AlignedBuffer::new(bytes);
    device.read_at(whole.as_mut_slice(), region.offset).context(|| "read the spec".into())?;
    Ok(control_drive::decode_spec(whole.as_slice())?)
}

/// Prepares the world; what fails here is not the workload's fault, and its disks are not in use yet.
fn prepare(spec: &VmSpec) -> Result<World, AgentError> {
    let root = spec.root.clone().unwrap_or_default();
    mounts::mount_root(&root)?;
    sethostname(&spec.hostname).context(|| format!("set the hostname {:?}", spec.hostname))?;
    network::bring_up_loopback()?;
    network::relax_sysctls();
    volumes::stage(&spec.mounts)?;
    shares::stage(&spec.mounts, spec.process.as_ref())?;
    // Here, since a driver that was still probing its device had all the disks' time for it.
    let find_eth0 = |network| Eth0::find(network, probing::DEADLINE);
    let eth0 = spec.network.as_ref().map(find_eth0).transpose()?;
    let session = spec.session.unwrap_or_default();
    let resources = spec.resources.clone().unwrap_or_default();
    // Once eth0 is there, which they may be about; before it is up, so that it never was without them.
    resources::apply_sysctls(&resources)?;
    if let Some(eth0) = eth0 {
        eth0.bring_up()?;
    }
    names::set_domain(resources.names.as_ref())?;
    let cgroup = Cgroup::create(&resources)?;
    Ok(World {
        hostname: spec.hostname.clone(),
        network: spec.network.clone(),
        read_only: root.read_only,
        init: session.init,
        systemd: session.systemd,
        mounts: spec.mounts.clone(),
        cgroup,
        settings: Settings::of(spec),
    })
}

fn enable_swap(spec: &VmSpec) -> Result<Option<Swap>, AgentError> {
    let bytes = spec.resources.as_ref().map_or(0, |resources| resources.swap_bytes);
    if bytes == 0 {
        return Ok(None);
    }
    let disk = mounts::writable_disk(spec.root.as_ref().map(Root::mode));
    Swap::enable(disk, bytes).map(Some)
}

async fn live(spec: VmSpec, status: StatusBoard<Device>, ring: OutputRing<Device>) -> Result<(), AgentError> {
    let (world, swap) = match prepare(&spec).and_then(|world| Ok((world, enable_swap(&spec)?))) {
        Ok(ready) => ready,
        Err(error) => {
            mounts::seal_disks();
            status.publish_failure(125, &error.to_string());
            return Ok(());
        }
    };
    status.publish_later(|status| {
        status.timings.get_or_insert_default().root_mounted_us = clock::since_boot_us();
    });
    // Before the first child, and before the workload could take the port.
    let reaper = Reaper::start().context(|| "watch for children".into())?;
    let listener = service::bind();
    let (shutdown, orders) = mpsc::channel(4);
    let freezer = Freezer::new(mounts::writable_disk(spec.root.as_ref().map(Root::mode)));
    let guest = Arc::new(Guest::new(world, status, reaper, freezer, shutdown));
    report_panics(Arc::clone(&guest));

    let (workload, streams) = match workload::start(&guest, &spec, ring).await {
        Ok(started) => started,
        Err(error) => {
            mounts::seal_disks();
            guest.status.publish_failure(error.code, &error.message);
            return Ok(());
        }
    };
    let server = listener.map(|listener| Server::start(listener, Arc::clone(&guest)));
    tokio::spawn(clock_sync::keep());
    let checks = spec.health_check.clone().map(|check| {
        tokio::spawn(health::watch(Arc::clone(&guest), check, spec.process.clone().unwrap_or_default()))
    });
    let mut exit = wait_for_end(&guest, &spec, workload, orders).await;
    if let Some(checks) = checks {
        checks.abort();
    }
    exit.oom_killed = cgroup::oom_kills() > 0;
    // Complete before the end is told: first the output, then the disks, then the status.
    streams.drain().await;
    // What has been started beside the workload, or on its files, must not hold up the disks' end.
    guest.freezer.thaw();
    let _ = timeout(LEAVING, guest.reaper.kill_all()).await;
    guest.freezer.end().await;
    if let Some(swap) = swap {
        swap.disable();
    }
    mounts::seal_disks();
    guest.status.publish(|status| {
        status.set_phase(Phase::Exited);
        status.finished_at_unix_ns = clock::unix_ns();
        status.exit = Some(exit);
    });
    if let Some(server) = server {
        server.finish().await;
    }
    Ok(())
}

/// Waits for the workload, and ends it when asked to.
async fn wait_for_end(
    guest: &Guest,
    spec: &VmSpec,
    mut workload: Child,
    mut orders: mpsc::Receiver<ShutdownOrder>,
) -> Exit {
    // Without it the kernel resets the machine at once, disks and all.
    let _ = set_cad_enabled(false);
    let mut keyboard = signal(SignalKind::interrupt()).ok();
    let mut kill_at: Option<Instant> = None;
    let exit = loop {
        let order = tokio::select! {
            exit = workload.exit() => break exit,
            Some(order) = orders.recv() => order,
            Some(()) = pressed(keyboard.as_mut()) => ShutdownOrder { signal: 0, grace_ms: KEYBOARD_GRACE_MS },
            () = sleep_until(kill_at.unwrap_or_else(Instant::now)), if kill_at.is_some() => {
                ShutdownOrder { signal: libc::SIGKILL, grace_ms: 0 }
            }
        };
        kill_at = carry_out(guest, spec, order);
    };
    guest.workload_ended();
    exit
}

/// Sends what the order asks for; returns when to lose patience.
fn carry_out(guest: &Guest, spec: &VmSpec, order: ShutdownOrder) -> Option<Instant> {
    let stop_signal = i32::try_from(spec.stop_signal).ok().filter(|&signal| signal > 0);
    let signal = match order.signal {
        _ if order.grace_ms == 0 => libc::SIGKILL,
        0 => stop_signal.unwrap_or(libc::SIGTERM),
        signal => signal,
    };
    // Fails only when the workload has just ended, which is what was wanted.
    let _ = guest.signal_workload(signal);
    // Processes that wait for a frozen disk cannot even be killed, and a freeze may wait for one of them.
    guest.freezer.thaw();
    if signal == libc::SIGKILL {
        return None;
    }
    // A year is for ever, and does not overflow.
    Some(Instant::now() + Duration::from_millis(order.grace_ms.min(365 * 86_400_000)))
}

async fn pressed(keyboard: Option<&mut tokio::signal::unix::Signal>) -> Option<()> {
    match keyboard {
        Some(keyboard) => keyboard.recv().await,
        None => std::future::pending().await,
    }
}

/// A panic of PID 1 would be a panic of the kernel: its last words go on the drive, then the machine ends.
fn report_panics(guest: Arc<Guest>) {
    panic::set_hook(Box::new(move |information| {
        let message = format!("the agent panicked: {information}");
        console::report(&message);
        mounts::seal_disks();
        guest.status.publish_panic(&message);
        restart();
    }));
}
