//! The one background thread: work that nobody waits for. Each job is timed and logged; none can stop the others.

use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::server::Server;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A job: its name, and what it did in a few words.
type Job = (&'static str, fn(&Server) -> Result<String>);

const JOBS: [Job; 3] = [("sessions", prune_sessions), ("prices", refresh_prices), ("checkpoint", checkpoint)];

/// How long the end of the program waits for the job that runs: a download may take longer, and nothing is lost with it.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// The running thread.
pub(super) struct Background {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread. Prices are looked after at once; the first round comes after one interval.
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
    let interval = Duration::from_millis(server.cleanup_interval_ms());
    work(server, ("prices", refresh_prices));
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        JOBS.into_iter().for_each(|job| work(server, job));
    }
}

fn work(server: &Server, (name, job): Job) {
    let start = Instant::now();
    let done = catch_unwind(AssertUnwindSafe(|| job(server)));
    let elapsed_ms = start.elapsed().as_millis();
    match done {
        Ok(Ok(did)) => log::info!("job {name}: {did} in {elapsed_ms} ms"),
        Ok(Err(error)) => log::error!("job {name} failed after {elapsed_ms} ms: {error}"),
        Err(_) => log::error!("job {name} panicked after {elapsed_ms} ms"),
    }
}

fn refresh_prices(server: &Server) -> Result<String> {
    server.refresh_prices(now_ms())
}

fn prune_sessions(server: &Server) -> Result<String> {
    let removed = server.prune_sessions(now_ms())?;
    Ok(format!("{removed} ended sessions removed"))
}

fn checkpoint(server: &Server) -> Result<String> {
    server.checkpoint().map(|()| "write-ahead log folded in".to_owned())
}
