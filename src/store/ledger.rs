//! The ledger's one writer: a thread that commits the lines that have come, together with their sums, in one transaction.
//!
//! A worker hands over its line and waits for the commit before it sends its last bytes. Lines that arrive while a commit
//! runs are taken by the next one, so a busy relay pays one commit for many lines and an idle one waits for nothing.

use crate::error::{Error, Kind, Result};
use crate::model::time::{Buckets, now_ms};
use crate::model::{Bill, Cost, Line, Usage};
use jiff::tz::TimeZone;
use rusqlite::{Connection, TransactionBehavior, params};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

/// Lines that wait for the writer; past that, workers wait.
const QUEUE_LINES_MAX: usize = 4096;
/// Lines of one transaction.
const BATCH_LINES_MAX: usize = 512;
/// Tries of one batch before its workers are told that it cannot be kept.
const TRIES: u32 = 3;
/// How long a try waits for another connection's transaction. A large import holds its own for some seconds, on a slow
/// machine for more, and no bill may be lost to it.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest a worker waits for a commit: all tries.
const COMMIT_WAIT_MAX: Duration = Duration::from_secs(100);

const PENDING: u8 = 0;
const COMMITTED: u8 = 1;
const FAILED: u8 = 2;

/// A line on its way into the ledger.
pub struct Receipt {
    state: Arc<AtomicU8>,
    cost: i64,
    is_priced: bool,
}

impl Receipt {
    /// What the line costs, pico-dollars; 0 for one without a price.
    pub fn cost(&self) -> i64 {
        self.cost
    }

    /// Whether the line has a price.
    pub fn is_priced(&self) -> bool {
        self.is_priced
    }

    /// Waits until the line is committed. To be called by the thread that handed the line over.
    ///
    /// # Errors
    /// The line could not be kept: the disk is full, or the writer is gone.
    pub fn wait(self) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.state.load(Ordering::Acquire) {
                COMMITTED => return Ok(()),
                PENDING if start.elapsed() < COMMIT_WAIT_MAX => {
                    thread::park_timeout(Duration::from_secs(1));
                }
                _ => return Err(Error::new(Kind::Internal, "the ledger line could not be committed")),
            }
        }
    }
}

/// A line's cost and the edition of the price table it comes from; `None` for a line without a price.
pub(super) type Priced = Option<(Cost, String)>;

/// A small change that is committed with the lines and that nobody waits for. It may run more than once.
type Aside = Box<dyn Fn(&Connection) -> rusqlite::Result<()> + Send>;

enum Work {
    Line(Box<Entry>),
    Aside(Aside),
}

struct Entry {
    line: Line,
    priced: Priced,
    state: Arc<AtomicU8>,
    worker: Thread,
}

impl Entry {
    fn settle(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        self.worker.unpark();
    }
}

/// Lines that wait for their commit.
#[derive(Default)]
struct Waiting {
    lines: AtomicUsize,
    /// Since when the oldest of them waits at most, Unix milliseconds.
    since_ms: AtomicI64,
}

impl Waiting {
    fn begin(&self) {
        if self.lines.fetch_add(1, Ordering::Relaxed) == 0 {
            self.since_ms.store(now_ms(), Ordering::Relaxed);
        }
    }

    /// `lines` have been settled; what waits still has come after `began_ms`.
    fn end(&self, lines: usize, began_ms: i64) {
        self.lines.fetch_sub(lines, Ordering::Relaxed);
        self.since_ms.store(began_ms, Ordering::Relaxed);
    }
}

/// The hand-over to the ledger's thread.
pub(super) struct Writer {
    queue: Mutex<Option<SyncSender<Work>>>,
    waiting: Arc<Waiting>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread on a connection of its own.
    pub(super) fn start(db: Connection, zone: TimeZone) -> Result<Writer> {
        db.busy_timeout(BUSY_TIMEOUT)?;
        let (sender, receiver) = sync_channel(QUEUE_LINES_MAX);
        let waiting = Arc::new(Waiting::default());
        let counter = Arc::clone(&waiting);
        let thread = thread::Builder::new()
            .name("ledger".into())
            .stack_size(512 * 1024)
            .spawn(move || run(db, &zone, &receiver, &counter))
            .map_err(|error| Error::internal("cannot start the ledger's thread", error))?;
        Ok(Writer { queue: Mutex::new(Some(sender)), waiting, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a line over. Waits while the queue is full.
    pub(super) fn send(&self, line: Line, priced: Priced) -> Receipt {
        let state = Arc::new(AtomicU8::new(PENDING));
        let cost = priced.as_ref().map_or(0, |(cost, _)| cost.total());
        let is_priced = priced.is_some();
        let entry = Entry { line, priced, state: Arc::clone(&state), worker: thread::current() };
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.waiting.begin();
        let sent = queue.is_some_and(|queue| queue.send(Work::Line(Box::new(entry))).is_ok());
        if !sent {
            self.waiting.end(1, now_ms());
            state.store(FAILED, Ordering::Release);
        }
        Receipt { state, cost, is_priced }
    }

    /// Hands a small change over, to be committed with the lines or soon. Waits while the queue is full. It must hold no
    /// secret's clear text and must not fail for reasons of its data: what fails is logged and forgotten.
    pub(super) fn aside(&self, change: impl Fn(&Connection) -> rusqlite::Result<()> + Send + 'static) {
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if queue.is_none_or(|queue| queue.send(Work::Aside(Box::new(change))).is_err()) {
            log::warn!("a small change came after the end and is not kept");
        }
    }

    /// Lines that wait for their commit.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.lines.load(Ordering::Relaxed)
    }

    /// How long the oldest of them has waited at most, milliseconds; 0 when none waits.
    pub(super) fn lag_ms(&self) -> i64 {
        match self.waiting() {
            0 => 0,
            _ => (now_ms() - self.waiting.since_ms.load(Ordering::Relaxed)).max(0),
        }
    }

    /// Commits what is queued and ends the thread.
    pub(super) fn stop(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
            && thread.join().is_err()
        {
            log::error!("the ledger's thread had panicked");
        }
    }
}

fn run(mut db: Connection, zone: &TimeZone, queue: &Receiver<Work>, waiting: &Waiting) {
    let (mut lines, mut asides) = (Vec::new(), Vec::new());
    while let Ok(first) = queue.recv() {
        for work in std::iter::once(first).chain(queue.try_iter().take(BATCH_LINES_MAX - 1)) {
            match work {
                Work::Line(entry) => lines.push(entry),
                Work::Aside(change) => asides.push(change),
            }
        }
        let began_ms = now_ms();
        let state = commit_with_retries(&mut db, zone, &lines, &asides);
        waiting.end(lines.len(), began_ms);
        for entry in lines.drain(..) {
            entry.settle(state);
        }
        asides.clear();
    }
}

fn commit_with_retries(db: &mut Connection, zone: &TimeZone, lines: &[Box<Entry>], asides: &[Aside]) -> u8 {
    for attempt in 1..=TRIES {
        match commit(db, zone, lines, asides) {
            Ok(()) => return COMMITTED,
            Err(error) => {
                log::error!("{} ledger lines not committed (try {attempt} of {TRIES}): {error}", lines.len());
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
    FAILED
}

/// Commits many lines in one transaction on another connection than the ledger's thread has.
pub(super) fn commit_all(db: &mut Connection, zone: &TimeZone, lines: Vec<(Line, Priced)>) -> rusqlite::Result<()> {
    let worker = thread::current();
    let entry = |(line, priced)| Box::new(Entry { line, priced, state: Arc::default(), worker: worker.clone() });
    commit(db, zone, &lines.into_iter().map(entry).collect::<Vec<_>>(), &[])
}

/// Makes the changes beside the lines. One that fails takes nothing with it.
fn make_asides(db: &Connection, asides: &[Aside]) -> rusqlite::Result<()> {
    for change in asides {
        db.execute_batch("SAVEPOINT aside")?;
        if let Err(error) = change(db) {
            log::error!("a small change was not kept: {error}");
            db.execute_batch("ROLLBACK TO aside")?;
        }
        db.execute_batch("RELEASE aside")?;
    }
    Ok(())
}

/// Which sum a line counts in: scope, subject, span, bucket, model (see `schema/`).
type Sum = (i64, i64, i64, i64, String);

fn commit(db: &mut Connection, zone: &TimeZone, lines: &[Box<Entry>], asides: &[Aside]) -> rusqlite::Result<()> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sums: BTreeMap<Sum, Bill> = BTreeMap::new();
    let mut used: BTreeMap<(i64, i64), i64> = BTreeMap::new();
    make_asides(&transaction, asides)?;
    for entry in lines {
        let Entry { line, priced, .. } = entry.as_ref();
        insert_line(&transaction, line, priced)?;
        if line.tokens.is_some() {
            count(&mut sums, line, priced, zone);
            let last = used.entry((line.key_seq, line.account_seq)).or_default();
            *last = line.at_ms.max(*last);
        }
    }
    for (sum, bill) in &sums {
        add_to_rollup(&transaction, sum, bill)?;
    }
    for ((key, account), at_ms) in used {
        let touch = |table: &str, seq: i64| {
            let sql =
                format!("UPDATE {table} SET last_used_at_ms = max(coalesce(last_used_at_ms, 0), ?2) WHERE seq = ?1");
            transaction.prepare_cached(&sql)?.execute([seq, at_ms])
        };
        touch("api_keys", key)?;
        touch("accounts", account)?;
    }
    transaction.commit()
}

fn count(sums: &mut BTreeMap<Sum, Bill>, line: &Line, priced: &Priced, zone: &TimeZone) {
    let buckets = Buckets::of(line.at_ms, zone);
    let spans = [(0, 0), (1, buckets.month), (2, buckets.day), (3, buckets.hour)];
    let bill = Bill {
        usage: Usage { requests: 1, tokens: line.tokens.unwrap_or_default() },
        cost: priced.as_ref().map(|(cost, _)| *cost).unwrap_or_default(),
        unpriced_requests: i64::from(priced.is_none()),
    };
    for (scope, subject) in [(0, 0), (1, line.key_seq), (2, line.account_seq)] {
        for (span, bucket) in spans {
            sums.entry((scope, subject, span, bucket, line.model.clone())).or_default().add(&bill);
        }
    }
}

fn insert_line(db: &Connection, line: &Line, priced: &Priced) -> rusqlite::Result<()> {
    let tokens = line.tokens.unwrap_or_default();
    let cost = priced.as_ref().map(|(cost, _)| cost);
    // Values by position: looking up thirty names takes longer than writing the row.
    db.prepare_cached(
        "INSERT INTO ledger (request_id, at_ms, key_seq, account_seq, model, stream, status, upstream_request_id, billed,
             complete, input_tokens, output_tokens, cache_creation_5m_tokens, cache_creation_1h_tokens, cache_read_tokens,
             web_search_requests, service_tier, speed, inference_geo, first_byte_ms, total_ms, attempts, account_reason,
             cost_input, cost_output, cost_cache_write, cost_cache_read, cost_web_search, price_version)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        line.request_id,
        line.at_ms,
        line.key_seq,
        line.account_seq,
        line.model,
        line.stream,
        line.status,
        line.upstream_request_id,
        line.tokens.is_some(),
        line.complete,
        tokens.input,
        tokens.output,
        tokens.cache_creation_5m,
        tokens.cache_creation_1h,
        tokens.cache_read,
        line.web_search_requests,
        line.service_tier,
        line.speed,
        line.inference_geo,
        line.first_byte_ms,
        line.total_ms,
        line.attempts,
        line.account_reason,
        cost.map(|cost| cost.input),
        cost.map(|cost| cost.output),
        cost.map(|cost| cost.cache_write),
        cost.map(|cost| cost.cache_read),
        cost.map(|cost| cost.web_search),
        priced.as_ref().map(|(_, version)| version),
    ])?;
    Ok(())
}

fn add_to_rollup(db: &Connection, sum: &Sum, bill: &Bill) -> rusqlite::Result<()> {
    let (scope, subject, span, bucket, model) = sum;
    let Bill { usage, cost, unpriced_requests } = bill;
    db.prepare_cached(
        "INSERT INTO rollups (scope, subject, span, bucket, model, requests, input_tokens, output_tokens,
             cache_creation_5m_tokens, cache_creation_1h_tokens, cache_read_tokens,
             cost_input, cost_output, cost_cache_write, cost_cache_read, cost_web_search, unpriced_requests)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT DO UPDATE SET
             requests = requests + excluded.requests,
             input_tokens = input_tokens + excluded.input_tokens,
             output_tokens = output_tokens + excluded.output_tokens,
             cache_creation_5m_tokens = cache_creation_5m_tokens + excluded.cache_creation_5m_tokens,
             cache_creation_1h_tokens = cache_creation_1h_tokens + excluded.cache_creation_1h_tokens,
             cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
             cost_input = cost_input + excluded.cost_input,
             cost_output = cost_output + excluded.cost_output,
             cost_cache_write = cost_cache_write + excluded.cost_cache_write,
             cost_cache_read = cost_cache_read + excluded.cost_cache_read,
             cost_web_search = cost_web_search + excluded.cost_web_search,
             unpriced_requests = unpriced_requests + excluded.unpriced_requests",
    )?
    .execute(params![
        scope,
        subject,
        span,
        bucket,
        model,
        usage.requests,
        usage.tokens.input,
        usage.tokens.output,
        usage.tokens.cache_creation_5m,
        usage.tokens.cache_creation_1h,
        usage.tokens.cache_read,
        cost.input,
        cost.output,
        cost.cache_write,
        cost.cache_read,
        cost.web_search,
        unpriced_requests,
    ])?;
    Ok(())
}
