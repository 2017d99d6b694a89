//! Moving in from the original, and back out: its data is read here and turned into the relay's nouns; what is written is
//! written by `store`, in one transaction.
//!
//! A migration runs on a thread of its own, one at a time. It reads and works out everything first, so that the relay's
//! database is held only for the writing; until its commit it can be cancelled, and then it has changed nothing.

mod accounts;
mod date;
pub mod export;
mod fields;
mod file;
mod intake;
mod live;
mod records;

use crate::error::{Error, Kind, Result};
use crate::model::Sensitive;
use crate::model::moved::MovedAdmin;
use crate::model::remarks::Failure;
use crate::model::secret;
use crate::model::tally::{self, Tally};
use crate::model::time::{iso, iso_or_empty, now_ms};
use crate::store::{Import, Spool, Step, Store};
use intake::Intake;
use live::Address;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Migrations that are remembered until the program ends.
const REMEMBERED: usize = 20;
/// Records of an export are parsed one inside the other.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Where the data comes from.
pub enum Source {
    /// A live Redis.
    Redis {
        /// `redis://` or `rediss://`, with user, password and database.
        url: Sensitive,
        /// PEM of the roots to trust in place of the system's.
        roots: Option<String>,
    },
    /// The text of an export.
    Json(Sensitive),
}

/// What is to be migrated.
pub struct Request {
    /// From where.
    pub source: Source,
    /// The original's `ENCRYPTION_KEY`.
    pub encryption_key: Sensitive,
    /// The original's offset from UTC in whole hours; `None` where the source is to say it, or its default.
    pub offset_hours: Option<i64>,
    /// A key of the original in the clear, to prove the encryption key by.
    pub sample: Option<Sensitive>,
    /// The admin of `data/init.json`.
    pub admin: Option<MovedAdmin>,
    /// Do everything and take it back.
    pub is_dry_run: bool,
}

/// How far a migration is; shared with those who ask.
pub(crate) struct Progress {
    id: String,
    source: &'static str,
    is_dry_run: bool,
    started_at_ms: i64,
    done: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
    stage: Mutex<Stage>,
}

/// What a migration does, and what came of it.
enum Stage {
    Running(Step),
    Ended { at_ms: i64, failure: Option<Error>, report: Value },
}

impl Progress {
    fn set_total(&self, total: u64) {
        self.total.store(total.max(self.done.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    fn add(&self, records: u64) {
        let done = self.done.fetch_add(records, Ordering::Relaxed) + records;
        // SCAN may show a record twice, and new ones come.
        self.total.fetch_max(done, Ordering::Relaxed);
    }

    /// Whether to go on.
    ///
    /// # Errors
    /// An admin has cancelled.
    fn goes_on(&self) -> Result<()> {
        if self.is_cancelled.load(Ordering::Relaxed) {
            return Err(Error::saying(Kind::ClientGone, Failure::Cancelled));
        }
        Ok(())
    }

    /// Goes to another step, if nobody has cancelled.
    fn enter(&self, step: Step) -> Result<()> {
        let mut stage = lock(&self.stage);
        self.goes_on()?;
        *stage = Stage::Running(step);
        Ok(())
    }

    fn end(&self, failure: Option<Error>, tally: &Tally) {
        let report = serde_json::to_value(tally).unwrap_or_default();
        *lock(&self.stage) = Stage::Ended { at_ms: now_ms(), failure, report };
    }

    fn shown(&self) -> Value {
        let stage = lock(&self.stage);
        let (state, phase, ended_at_ms, failure, report) = match &*stage {
            Stage::Running(step) => ("running", word(*step), None, None, &Value::Null),
            Stage::Ended { at_ms, failure, report } => {
                let state = match failure {
                    None => "done",
                    Some(error) if error.kind() == Kind::ClientGone => "cancelled",
                    Some(_) => "failed",
                };
                (state, "done", Some(*at_ms), failure.as_ref(), report)
            }
        };
        let ended_at = Some(iso_or_empty(ended_at_ms)).filter(|text| !text.is_empty());
        json!({
            "id": self.id, "state": state, "phase": phase,
            "done": self.done.load(Ordering::Relaxed), "total": self.total.load(Ordering::Relaxed),
            "dryRun": self.is_dry_run, "source": self.source,
            "startedAt": iso(self.started_at_ms), "endedAt": ended_at, "report": report,
            "error": failure.map(Error::message), "errorDetail": failure.and_then(Error::told),
        })
    }
}

fn word(step: Step) -> &'static str {
    match step {
        Step::Reading => "reading",
        Step::Preparing => "preparing",
        Step::Writing => "writing",
        Step::Verifying | Step::Committing => "verifying",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of a wish to cancel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cancelled {
    /// It will end soon and have changed nothing.
    Yes,
    /// It has ended, or commits just now.
    TooLate,
    /// There is none of this name.
    Unknown,
}

/// The migrations of this process.
#[derive(Default)]
pub struct Migrations {
    known: Mutex<VecDeque<Arc<Progress>>>,
}

impl Migrations {
    /// Begins a migration and gives back its name.
    ///
    /// # Errors
    /// `Limited`: one is running already. No random numbers, no thread.
    pub fn start(&self, store: Arc<Store>, request: Request) -> Result<String> {
        let id = secret::new_uuid().map_err(|error| Error::internal("no random numbers", error.to_string()))?;
        let progress = Arc::new(Progress {
            id: id.clone(),
            source: if matches!(request.source, Source::Json(_)) { "json" } else { "redis" },
            is_dry_run: request.is_dry_run,
            started_at_ms: now_ms(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            is_cancelled: AtomicBool::new(false),
            stage: Mutex::new(Stage::Running(Step::Reading)),
        });
        let mut known = lock(&self.known);
        if known.iter().any(|other| is_running(other)) {
            return Err(Error::saying(Kind::Limited, Failure::Running));
        }
        let mine = Arc::clone(&progress);
        std::thread::Builder::new()
            .name("migration".into())
            .stack_size(STACK_BYTES)
            .spawn(move || run(&store, request, &mine))
            .map_err(|error| Error::internal("cannot start the migration's thread", error))?;
        known.push_back(progress);
        if known.len() > REMEMBERED {
            known.pop_front();
        }
        Ok(id)
    }

    /// Whether one is running.
    pub fn is_running(&self) -> bool {
        lock(&self.known).iter().any(|progress| is_running(progress))
    }

    /// How far a migration is, as it is shown.
    pub fn shown(&self, id: &str) -> Option<Value> {
        lock(&self.known).iter().find(|progress| progress.id == id).map(|progress| progress.shown())
    }

    /// All that are remembered, the newest first, as each is shown.
    pub fn all(&self) -> Vec<Value> {
        lock(&self.known).iter().rev().map(|progress| progress.shown()).collect()
    }

    /// Asks a migration to end.
    pub fn cancel(&self, id: &str) -> Cancelled {
        let known = lock(&self.known);
        let Some(progress) = known.iter().find(|progress| progress.id == id) else { return Cancelled::Unknown };
        // Under the lock under which it goes on to its commit.
        let stage = lock(&progress.stage);
        match *stage {
            Stage::Running(Step::Committing) | Stage::Ended { .. } => Cancelled::TooLate,
            Stage::Running(_) => {
                progress.is_cancelled.store(true, Ordering::Relaxed);
                Cancelled::Yes
            }
        }
    }
}

fn is_running(progress: &Progress) -> bool {
    matches!(*lock(&progress.stage), Stage::Running(_))
}

fn run(store: &Store, request: Request, progress: &Progress) {
    let what = if request.is_dry_run { "the dry run of a migration" } else { "a migration" };
    log::info!("{what} from {} begins", progress.source);
    let mut tally = Tally::default();
    let done = catch_unwind(AssertUnwindSafe(|| migrate(store, request, progress, &mut tally)));
    match done {
        Ok(Ok(())) => {
            log::info!("{what} is done: {}", serde_json::to_string(&tally).unwrap_or_default());
            progress.end(None, &tally);
        }
        Ok(Err(error)) => {
            log::warn!("{what} ended and has changed nothing: {error}");
            progress.end(Some(error), &tally);
        }
        Err(_) => {
            log::error!("{what} panicked and has changed nothing");
            progress.end(Some(Error::saying(Kind::Internal, Failure::Panicked)), &tally);
        }
    }
}

fn migrate(store: &Store, request: Request, progress: &Progress, tally: &mut Tally) -> Result<()> {
    let spool = Spool::create(store)?;
    let mut intake = Intake::new(spool, &request.encryption_key, request.offset_hours, store.zone())?;
    let read = match request.source {
        Source::Redis { url, roots } => live::read(&Address { url, roots }, &mut intake, progress),
        Source::Json(text) => file::read(text.expose(), &mut intake, progress),
    };
    let read = read.and_then(|()| intake.finish(request.sample.as_ref()));
    *tally = std::mem::take(&mut intake.tally);
    read?;
    if let Some(admin) = request.admin {
        tally.of(tally::Kind::Admins).read += 1;
        intake.admins.push(admin);
    }
    progress.enter(Step::Preparing)?;
    let (fingerprint, lost) = (intake.fingerprint(), intake.lost());
    intake.spool.prepare(&fingerprint, &store.prices(), &lost, &|| progress.goes_on())?;
    let accounts: Vec<_> = intake.accounts.into_values().collect();
    let import = Import {
        spool: &intake.spool,
        accounts: &accounts,
        admins: &intake.admins,
        fingerprint: &fingerprint,
        encryption_key: request.encryption_key.expose(),
        is_dry_run: request.is_dry_run,
    };
    store.import(&import, tally, &|step| progress.enter(step))
}
