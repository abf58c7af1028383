//! The workload's health check: run at intervals beside the workload, told in the guest's status. The rules are
//! Docker's, <https://docs.docker.com/reference/dockerfile/#healthcheck>.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cgroup::Group;
use crate::clock;
use crate::error::Context;
use crate::exec::ORPHAN_OUTPUT_GRACE;
use crate::guest::{Guest, GuestError};
use crate::process::{self, Stdio};
use crate::proto::{Health, HealthCheck, HealthResult, HealthState, Process};
use crate::starting::Starting;

/// As many as Docker keeps.
const LOG_RESULTS: usize = 5;
/// Five of them fit into the status together with an error.
const OUTPUT_BYTES: usize = 512;
/// A check without an exit code: out of time, or never started.
const NO_EXIT: i32 = -1;

impl Health {
    pub fn starting() -> Self {
        Self { state: HealthState::Starting.into(), ..Self::default() }
    }

    /// Takes up a check's result. `since_start` is when the check began, counted from the workload's start.
    fn record(&mut self, result: HealthResult, check: &HealthCheck, since_start: Duration) {
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.set_state(HealthState::Healthy);
        } else if self.state() != HealthState::Starting || since_start >= nanos(check.start_period_ns) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.set_state(HealthState::Unhealthy);
            }
        }
        if self.log.len() >= LOG_RESULTS {
            self.log.drain(..=self.log.len() - LOG_RESULTS);
        }
        self.log.push(result);
    }
}

/// Until the next check: shorter while the workload is still coming up.
fn pause(health: &Health, check: &HealthCheck, since_start: Duration) -> Duration {
    let starting = health.state() == HealthState::Starting && since_start < nanos(check.start_period_ns);
    nanos(if starting { check.start_interval_ns } else { check.interval_ns })
}

/// Looks after the workload's health for as long as it runs. `process` is the workload's own.
pub async fn watch(guest: Arc<Guest>, check: HealthCheck, process: Process) {
    let probe = Process { args: check.args.clone(), terminal: false, ..process };
    let started = Instant::now();
    let mut health = Health::starting();
    loop {
        sleep(pause(&health, &check, started.elapsed())).await;
        let since_start = started.elapsed();
        let started_at_unix_ns = clock::unix_ns();
        let Some((exit_code, output)) = run(&guest, &probe, nanos(check.timeout_ns)).await else {
            return;
        };
        let finished_at_unix_ns = clock::unix_ns();
        health.record(
            HealthResult { started_at_unix_ns, finished_at_unix_ns, exit_code, output },
            &check,
            since_start,
        );
        guest.status.publish(|status| status.health = Some(health.clone()));
    }
}

/// Runs the check once: its exit code and what it printed. `None` when there is no workload any more.
async fn run(guest: &Guest, probe: &Process, limit: Duration) -> Option<(i32, String)> {
    let deadline = Instant::now() + limit;
    let out_of_time = || Some((NO_EXIT, format!("Health check exceeded timeout ({})", seconds(limit))));
    let (starting, mut output) = match start(guest, probe) {
        Ok(started) => started,
        Err(GuestError::NotRunning) => return None,
        Err(error) => return Some((NO_EXIT, cut(error.to_string().as_bytes()))),
    };
    // The workload can hold up a process that is being started beside it.
    let Ok(executed) = timeout_at(deadline, guest.executed(starting, Group::HealthCheck)).await else {
        return out_of_time();
    };
    let mut child = match executed {
        Ok(Ok(child)) => child,
        Ok(Err(error)) => return Some((error.code.into(), cut(error.message.as_bytes()))),
        Err(error) => return Some((NO_EXIT, cut(error.to_string().as_bytes()))),
    };
    let mut printed = Vec::new();
    let ended = timeout_at(deadline, async {
        // Until both have ended: what fills the pipe must not hold up the check.
        let mut open = true;
        loop {
            tokio::select! {
                exit = child.exit() => break exit,
                more = read_some(&mut output, &mut printed), if open => open = more,
            }
        }
    });
    let Ok(exit) = ended.await else {
        child.kill();
        child.exit().await;
        return out_of_time();
    };
    // What the check has left behind may write for ever.
    let enough = Instant::now() + ORPHAN_OUTPUT_GRACE;
    while timeout_at(enough, read_some(&mut output, &mut printed)).await.unwrap_or(false) {}
    Some((i32::try_from(exit.code).unwrap_or(NO_EXIT), cut(&printed)))
}

fn start(guest: &Guest, probe: &Process) -> Result<(Starting, pipe::Receiver), GuestError> {
    let (reader, writer) = process::pipe()?;
    let stderr = writer.try_clone().context(|| "share a pipe".into())?;
    let null = OpenOptions::new().read(true).open("/dev/null").context(|| "open /dev/null".into())?;
    let stdio = Stdio::Streams { stdin: OwnedFd::from(null), stdout: writer, stderr };
    let starting = guest.start_beside(probe, stdio, Group::HealthCheck)?;
    let output = pipe::Receiver::from_owned_fd(reader).context(|| "read a check's output".into())?;
    Ok((starting, output))
}

/// Reads once, and keeps what is worth keeping. Returns whether there may be more.
async fn read_some(output: &mut pipe::Receiver, printed: &mut Vec<u8>) -> bool {
    let mut buffer = [0; 1024];
    let length = output.read(&mut buffer).await.unwrap_or(0);
    let room = OUTPUT_BYTES.saturating_sub(printed.len());
    printed.extend_from_slice(&buffer[..length.min(room)]);
    length > 0
}

/// Text of at most [`OUTPUT_BYTES`].
fn cut(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(OUTPUT_BYTES));
    text
}

fn nanos(ns: u64) -> Duration {
    Duration::from_nanos(ns)
}

fn seconds(duration: Duration) -> String {
    format!("{}s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn check() -> HealthCheck {
        HealthCheck {
            args: vec!["true".into()],
            interval_ns: 30 * SECOND,
            timeout_ns: SECOND,
            start_period_ns: 10 * SECOND,
            start_interval_ns: SECOND,
            retries: 2,
        }
    }

    fn result(exit_code: i32) -> HealthResult {
        HealthResult { exit_code, ..HealthResult::default() }
    }

    fn after(codes: &[(i32, u64)]) -> Health {
        let mut health = Health::starting();
        for &(code, second) in codes {
            health.record(result(code), &check(), Duration::from_secs(second));
        }
        health
    }

    #[test]
    fn one_success_makes_healthy_and_failures_in_a_row_unhealthy() {
        assert_eq!(after(&[]).state(), HealthState::Starting);
        assert_eq!(after(&[(0, 1)]).state(), HealthState::Healthy);
        assert_eq!(after(&[(0, 1), (1, 40)]).state(), HealthState::Healthy);
        let unhealthy = after(&[(0, 1), (1, 40), (-1, 70)]);
        assert_eq!((unhealthy.state(), unhealthy.failing_streak), (HealthState::Unhealthy, 2));
        let again = after(&[(0, 1), (1, 40), (1, 70), (0, 100)]);
        assert_eq!((again.state(), again.failing_streak), (HealthState::Healthy, 0));
    }

    #[test]
    fn failures_within_the_start_period_do_not_count_until_a_success() {
        assert_eq!(after(&[(1, 1), (1, 2), (1, 9)]).failing_streak, 0);
        assert_eq!(after(&[(1, 9), (1, 10)]).failing_streak, 1);
        assert_eq!(after(&[(1, 10), (1, 11)]).state(), HealthState::Unhealthy);
        assert_eq!(after(&[(0, 1), (1, 2), (1, 3)]).state(), HealthState::Unhealthy);
    }

    #[test]
    fn the_last_five_results_are_kept() {
        let codes: Vec<(i32, u64)> = (1..=9).map(|code| (code, 100)).collect();
        let kept: Vec<i32> = after(&codes).log.iter().map(|result| result.exit_code).collect();
        assert_eq!(kept, [5, 6, 7, 8, 9]);
    }

    #[test]
    fn checks_come_faster_while_the_workload_starts() {
        let pause_at = |codes: &[(i32, u64)], second| {
            pause(&after(codes), &check(), Duration::from_secs(second)).as_secs()
        };
        assert_eq!(pause_at(&[], 0), 1);
        assert_eq!(pause_at(&[], 10), 30);
        assert_eq!(pause_at(&[(0, 1)], 1), 30);
    }

    #[test]
    fn output_is_cut_between_characters() {
        assert_eq!(cut(&"\u{20ac}".repeat(400).into_bytes()).len(), 510);
        assert_eq!(cut(b"\xff"), "\u{fffd}");
    }
}
