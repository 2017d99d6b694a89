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

const JOBS: [Job; 2] = [("sessions", prune_sessions), ("checkpoint", checkpoint)];

/// The running thread.
pub(super) struct Background {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread; its first round comes after one interval.
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
    /// Ends the thread after the job that runs.
    pub(super) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the background thread had panicked");
        }
    }
}

fn run(server: &Server, stopped: &Receiver<()>) {
    let interval = Duration::from_millis(server.cleanup_interval_ms());
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        for (name, job) in JOBS {
            let start = Instant::now();
            let done = catch_unwind(AssertUnwindSafe(|| job(server)));
            let elapsed_ms = start.elapsed().as_millis();
            match done {
                Ok(Ok(did)) => log::info!("job {name}: {did} in {elapsed_ms} ms"),
                Ok(Err(error)) => log::error!("job {name} failed after {elapsed_ms} ms: {error}"),
                Err(_) => log::error!("job {name} panicked after {elapsed_ms} ms"),
            }
        }
    }
}

fn prune_sessions(server: &Server) -> Result<String> {
    let removed = server.prune_sessions(now_ms())?;
    Ok(format!("{removed} ended sessions removed"))
}

fn checkpoint(server: &Server) -> Result<String> {
    server.checkpoint().map(|()| "write-ahead log folded in".to_owned())
}
