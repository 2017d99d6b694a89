//! A fixed pool of workers behind a queue, and the counter that admits to it.

use super::connection::Connection;
use super::exchange::Exchange;
use super::front::{Front, lock};
use super::head::Head;
use super::{Pool, Service};
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Rustls and deep JSON need some of it; pages that are never touched cost nothing.
const STACK_BYTES: usize = 512 * 1024;

/// A request on its way to a worker.
pub(super) struct Job {
    pub(super) connection: Box<Connection>,
    pub(super) head: Arc<Head>,
}

/// Requests that wait for a worker of one pool.
pub(super) struct Queue {
    jobs: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    /// Requests that were admitted and are not over: the door counts, so a burst on idle workers is never refused.
    admitted: AtomicUsize,
    admitted_max: usize,
}

impl Queue {
    /// A queue that admits as many requests as there are workers, and some that wait.
    pub(super) fn new(workers: usize, waiting_max: usize) -> Queue {
        Queue {
            jobs: Mutex::new(VecDeque::with_capacity(workers + waiting_max)),
            arrived: Condvar::new(),
            admitted: AtomicUsize::new(0),
            admitted_max: workers + waiting_max,
        }
    }

    /// Takes one place, if there is one.
    pub(super) fn admit(&self) -> bool {
        let one_more = |admitted| (admitted < self.admitted_max).then_some(admitted + 1);
        self.admitted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.admitted.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn push(&self, job: Job) {
        lock(&self.jobs).push_back(job);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Job {
        let mut jobs = lock(&self.jobs);
        loop {
            if let Some(job) = jobs.pop_front() {
                return job;
            }
            jobs = self.arrived.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Starts the workers of a pool.
pub(super) fn start(front: &Arc<Front>, service: &Arc<dyn Service>, pool: Pool, count: usize) -> io::Result<()> {
    let name = match pool {
        Pool::Relay => "relay",
        Pool::Control => "control",
    };
    for number in 0..count {
        let (front, service) = (Arc::clone(front), Arc::clone(service));
        std::thread::Builder::new().name(format!("{name}-{number}")).stack_size(STACK_BYTES).spawn(move || {
            loop {
                let job = front.queue(pool).pop();
                work(&front, &*service, pool, job);
            }
        })?;
    }
    Ok(())
}

/// Serves one request. Not inlined: the frame of a request would otherwise be held by every idle worker.
#[inline(never)]
fn work(front: &Arc<Front>, service: &dyn Service, pool: Pool, job: Job) {
    let exchange = Exchange::new(Arc::clone(front), pool, job);
    // What the panic leaves behind is the exchange, which aborts its connection on drop.
    if catch_unwind(AssertUnwindSafe(|| service.serve(exchange))).is_err() {
        log::error!("a worker panicked; its request was aborted");
    }
    front.figures.served.fetch_add(1, Ordering::Relaxed);
    front.figures.serving.fetch_sub(1, Ordering::Relaxed);
}
