//! The one background thread: work that nobody waits for. Each job is timed and logged; none can stop the others.

use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::server::{CLEANUPS, Cleanup, Server};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A job: its name, how often it runs, and what it did in a few words; `None` when there was nothing to do.
struct Job {
    name: &'static str,
    every: Every,
    work: Work,
}

type Work = fn(&Server) -> Result<Option<String>>;

/// How often a job runs.
enum Every {
    /// At the start and every hour from then on.
    Hour,
    /// Twice a minute.
    HalfMinute,
}

impl Every {
    fn interval(&self) -> Duration {
        match self {
            Every::Hour => Duration::from_secs(3600),
            Every::HalfMinute => Duration::from_secs(30),
        }
    }

    fn first_wait(&self) -> Duration {
        match self {
            Every::Hour => Duration::ZERO,
            Every::HalfMinute => self.interval(),
        }
    }
}

/// How long the end of the program waits for the job that runs: a download may take longer, and nothing is lost with it.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// What the thread does beside the cleanups.
const JOBS: [Job; 4] = [
    Job { name: "prices", every: Every::Hour, work: refresh_prices },
    Job { name: "snapshot", every: Every::Hour, work: take_snapshot },
    Job { name: "tokens", every: Every::HalfMinute, work: refresh_tokens },
    // Often enough that the log stays small and no commit has to do it.
    Job { name: "checkpoint", every: Every::HalfMinute, work: checkpoint },
];

/// The running thread.
pub(super) struct Background {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread.
pub(super) fn start(server: Arc<Server>) -> Result<Background> {
    let (stop, stopped) = channel();
    let thread = std::thread::Builder::new()
        .name("background".into())
        .stack_size(512 * 1024)
        .spawn(move || run(&server, &stopped))
        .map_err(|error| Error::internal("cannot start the background thread", error))?;
    Ok(Background { stop, thread })
}

impl Background {
    /// Ends the thread after the job that runs, or leaves it to the end of the process.
    pub(super) fn stop(self) {
        drop(self.stop);
        let start = Instant::now();
        while !self.thread.is_finished() {
            if start.elapsed() > STOP_WAIT {
                log::warn!("a background job still runs: leaving it");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.thread.join().is_err() {
            log::error!("the background thread had panicked");
        }
    }
}

fn run(server: &Server, stopped: &Receiver<()>) {
    let start = Instant::now();
    let mut due: Vec<(&Job, Instant)> = JOBS.iter().map(|job| (job, start + job.every.first_wait())).collect();
    let mut cleanup_due = start + cleanup_interval(server);
    loop {
        let next = due.iter().map(|(_, due)| *due).chain([cleanup_due]).min().unwrap_or(cleanup_due);
        let wait = next.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
            return;
        }
        for (job, due) in &mut due {
            if Instant::now() >= *due {
                perform(server, job.name, || (job.work)(server));
                *due = Instant::now() + job.every.interval();
            }
        }
        if Instant::now() >= cleanup_due {
            for Cleanup { name, did, remove } in CLEANUPS {
                perform(server, name, || {
                    let removed = remove(server, now_ms(), usize::MAX)?;
                    Ok((removed > 0).then(|| format!("{removed} {did}")))
                });
            }
            cleanup_due = Instant::now() + cleanup_interval(server);
        }
    }
}

fn cleanup_interval(server: &Server) -> Duration {
    Duration::from_millis(server.cleanup_interval_ms())
}

fn perform(server: &Server, name: &'static str, work: impl FnOnce() -> Result<Option<String>>) {
    let start = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(work));
    let elapsed_ms = start.elapsed().as_millis();
    server.note_job(name, matches!(done, Ok(Ok(_))), now_ms());
    match done {
        Ok(Ok(Some(did))) => log::info!("job {name}: {did} in {elapsed_ms} ms"),
        Ok(Ok(None)) => log::debug!("job {name}: nothing to do, in {elapsed_ms} ms"),
        Ok(Err(error)) => log::error!("job {name} failed after {elapsed_ms} ms: {error}"),
        Err(_) => log::error!("job {name} panicked after {elapsed_ms} ms"),
    }
}

fn refresh_prices(server: &Server) -> Result<Option<String>> {
    server.refresh_prices(now_ms())
}

fn take_snapshot(server: &Server) -> Result<Option<String>> {
    server.scheduled_snapshot(now_ms())
}

fn refresh_tokens(server: &Server) -> Result<Option<String>> {
    let refreshed = server.refresh_tokens(now_ms());
    Ok((refreshed > 0).then(|| format!("{refreshed} access tokens refreshed")))
}

fn checkpoint(server: &Server) -> Result<Option<String>> {
    server.checkpoint().map(|()| None)
}
