//! Workers: how many requests they may have (seats), how a request gets to one of them (hand-off), and their loop.
//! What a worker does with a request is `front`'s and the service's.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::conn::Conn;
use super::figures::Figures;
use super::front::Front;
use super::head::Head;
use super::{Pool, lock};

/// Requests that may wait for a control worker.
pub(super) const CONTROL_QUEUE_MAX: usize = 1024;
/// Memory reserved for a worker's stack; only what is used is ever touched.
const STACK_BYTES: usize = 512 * 1024;
/// Requests a worker serves in a row for one lingering client before others get a chance.
const TURNS_MAX: usize = 100;

/// The right of one request to a worker. Taken at admission, given back when the answer ends.
#[derive(Debug)]
pub(super) struct Seat {
    figures: Arc<Figures>,
    pool: Pool,
    is_held: bool,
}

impl Seat {
    /// A seat, if one is free. Counting instead of trying a queue: a burst on idle workers is never refused, however slow
    /// they are to wake.
    pub(super) fn take(figures: &Arc<Figures>, pool: Pool) -> Option<Seat> {
        let gauge = figures.gauge(pool);
        let seats = gauge.size.load(Relaxed) + gauge.queue_max.load(Relaxed);
        gauge.admitted.fetch_update(SeqCst, SeqCst, |admitted| (admitted < seats).then_some(admitted + 1)).ok()?;
        Some(Seat { figures: figures.clone(), pool, is_held: true })
    }

    /// Gives the seat back just before the last byte is sent, so that a client who has its answer finds a seat free.
    pub(super) fn release(&mut self) {
        if self.is_held {
            self.is_held = false;
            self.figures.gauge(self.pool).admitted.fetch_sub(1, SeqCst);
        }
    }

    /// Takes it again, even if another has it by now, because the last byte has to wait for the client.
    pub(super) fn retake(&mut self) {
        if !self.is_held {
            self.is_held = true;
            self.figures.gauge(self.pool).admitted.fetch_add(1, SeqCst);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.release();
    }
}

/// A request on its way to a worker.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) conn: Box<Conn>,
    pub(super) head: Arc<Head>,
    pub(super) seat: Seat,
    pub(super) pool: Pool,
}

/// The workers of one pool. The one that became idle last is woken first: its stack is warm, and the others' memory
/// stays untouched.
#[derive(Debug)]
pub(super) struct Crew {
    line: Mutex<Line>,
    cells: Vec<Cell>,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Job>,
    idle: Vec<usize>,
    is_closed: bool,
}

/// Where one worker sleeps.
#[derive(Debug, Default)]
struct Cell {
    call: Mutex<Call>,
    came: Condvar,
}

#[derive(Debug, Default)]
enum Call {
    #[default]
    None,
    Serve(Job),
    Leave,
}

impl Crew {
    pub(super) fn new(size: usize) -> Crew {
        Crew { line: Mutex::default(), cells: (0..size).map(|_| Cell::default()).collect() }
    }

    /// Hands a request to an idle worker, or to the next one that has finished.
    pub(super) fn submit(&self, job: Job) {
        let mut line = lock(&self.line);
        let Some(worker) = line.idle.pop() else {
            line.waiting.push_back(job);
            return;
        };
        drop(line);
        self.call(worker, Call::Serve(job));
    }

    /// Sends idle workers away, and busy ones when they have finished and nothing waits.
    pub(super) fn close(&self) {
        let mut line = lock(&self.line);
        line.is_closed = true;
        let idle = std::mem::take(&mut line.idle);
        drop(line);
        for worker in idle {
            self.call(worker, Call::Leave);
        }
    }

    fn call(&self, worker: usize, call: Call) {
        if let Some(cell) = self.cells.get(worker) {
            *lock(&cell.call) = call;
            cell.came.notify_one();
        }
    }

    /// The next request for this worker; `None` when it shall leave.
    fn next(&self, worker: usize) -> Option<Job> {
        let cell = self.cells.get(worker)?;
        {
            let mut line = lock(&self.line);
            if let Some(job) = line.waiting.pop_front() {
                return Some(job);
            }
            if line.is_closed {
                return None;
            }
            line.idle.push(worker);
        }
        let mut call = lock(&cell.call);
        loop {
            match std::mem::take(&mut *call) {
                Call::None => call = cell.came.wait(call).unwrap_or_else(std::sync::PoisonError::into_inner),
                Call::Serve(job) => return Some(job),
                Call::Leave => return None,
            }
        }
    }
}

/// Starts the workers of one pool, named after it.
pub(super) fn start(front: &Arc<Front>, pool: Pool, name: &str) -> io::Result<Vec<thread::JoinHandle<()>>> {
    let size = front.crew(pool).cells.len();
    let mut threads = Vec::with_capacity(size);
    for worker in 0..size {
        let front = front.clone();
        let started = thread::Builder::new()
            .name(format!("{name}-{worker}"))
            .stack_size(STACK_BYTES)
            .spawn(move || work(&front, pool, worker));
        threads.push(started?);
    }
    Ok(threads)
}

/// A worker's life. It holds no buffers while idle.
fn work(front: &Arc<Front>, pool: Pool, worker: usize) {
    while let Some(job) = front.crew(pool).next(worker) {
        let mut job = Some(job);
        let mut turns = 1;
        while let Some(this) = job.take() {
            job = front.serve(this, turns < TURNS_MAX);
            turns += 1;
        }
    }
}
