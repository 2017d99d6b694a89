//! The requests that run: who asked, which account answers, how far it is, and the wish to end one.
//!
//! As many as there are relay workers at most. A running stream writes to its own atomics; the list is locked when a request
//! begins and ends, and when somebody looks.

use super::Purpose;
use crate::claude::usage::Usage;
use crate::model::{Account, ApiKey, Line};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// One request that runs.
#[derive(Debug)]
pub struct Flight {
    /// The id that the client sees in `X-Request-ID`.
    pub request_id: String,
    /// Arrival, Unix milliseconds.
    pub at_ms: i64,
    /// Arrival on the clock that durations are measured by.
    pub at: Instant,
    /// What it asks for.
    pub purpose: Purpose,
    /// The key's identifier.
    pub key_id: String,
    /// The key's name.
    pub key_name: String,
    /// The model that the request names.
    pub model: Option<String>,
    /// Whether it asks for a stream.
    pub stream: bool,
    key_seq: i64,
    account: Mutex<Option<Arc<Account>>>,
    is_answered: AtomicBool,
    attempts: AtomicU32,
    is_ended: AtomicBool,
    bytes: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
    cache_creation: AtomicU64,
    cache_read: AtomicU64,
}

/// Tokens that the upstream has reported so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SoFar {
    /// Prompt tokens that no cache held.
    pub input: u64,
    /// Tokens the model wrote.
    pub output: u64,
    /// Cache writes of both lives.
    pub cache_creation: u64,
    /// Prompt tokens read from a cache.
    pub cache_read: u64,
}

impl Flight {
    /// A request that begins.
    pub fn new(request_id: &str, (at_ms, at): (i64, Instant), purpose: Purpose, key: &ApiKey) -> Flight {
        Flight {
            request_id: request_id.to_owned(),
            at_ms,
            at,
            purpose,
            key_id: key.id.clone(),
            key_name: key.name.clone(),
            model: None,
            stream: false,
            key_seq: key.seq,
            account: Mutex::default(),
            is_answered: AtomicBool::new(false),
            attempts: AtomicU32::new(0),
            is_ended: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
            input: AtomicU64::new(0),
            output: AtomicU64::new(0),
            cache_creation: AtomicU64::new(0),
            cache_read: AtomicU64::new(0),
        }
    }

    /// Notes the account that is tried now.
    pub(super) fn tries(&self, account: &Arc<Account>) {
        self.attempts.fetch_add(1, Relaxed);
        *self.lock_account() = Some(Arc::clone(account));
    }

    /// Notes that the upstream's head is there.
    pub(super) fn is_answered_now(&self) {
        self.is_answered.store(true, Relaxed);
    }

    /// Notes bytes of the answer, and what they reported. Called for each piece: a few plain stores.
    pub(super) fn passes(&self, bytes: usize, usage: Option<&Usage>) {
        self.bytes.fetch_add(bytes as u64, Relaxed);
        if let Some(usage) = usage {
            self.input.store(usage.input_tokens, Relaxed);
            self.output.store(usage.output_tokens, Relaxed);
            self.cache_creation
                .store(usage.cache_creation_5m_input_tokens + usage.cache_creation_1h_input_tokens, Relaxed);
            self.cache_read.store(usage.cache_read_input_tokens, Relaxed);
        }
    }

    /// The account that is tried or answers; `None` until one was chosen.
    pub fn account(&self) -> Option<Arc<Account>> {
        self.lock_account().clone()
    }

    fn lock_account(&self) -> MutexGuard<'_, Option<Arc<Account>>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the upstream's head is there.
    pub fn is_answered(&self) -> bool {
        self.is_answered.load(Relaxed)
    }

    /// Whether an admin wants it to end.
    pub fn is_ended(&self) -> bool {
        self.is_ended.load(Relaxed)
    }

    /// Bytes of the answer that have come.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// What was reported so far.
    pub fn tokens(&self) -> SoFar {
        SoFar {
            input: self.input.load(Relaxed),
            output: self.output.load(Relaxed),
            cache_creation: self.cache_creation.load(Relaxed),
            cache_read: self.cache_read.load(Relaxed),
        }
    }

    /// The ledger line of a request that has no answer: it was ended, its client has left, or no account had one. `status`
    /// is what its client was told.
    pub fn unanswered_line(&self, status: u16) -> Line {
        let total_ms = i64::try_from(self.at.elapsed().as_millis()).unwrap_or(i64::MAX);
        Line {
            request_id: self.request_id.clone(),
            at_ms: self.at_ms,
            key_seq: self.key_seq,
            account_seq: self.account().map_or(0, |account| account.seq),
            model: self.model.as_deref().map_or_else(|| "unknown".to_owned(), super::meter::shortened),
            status,
            attempts: self.attempts.load(Relaxed),
            first_byte_ms: total_ms,
            total_ms,
            ..Line::default()
        }
    }
}

/// All requests that run, in the order in which they came.
#[derive(Debug, Default)]
pub struct Flights {
    running: Mutex<BTreeMap<u64, Arc<Flight>>>,
    next: AtomicU64,
}

impl Flights {
    /// Lists a request until the result is dropped.
    pub fn enter(self: &Arc<Flights>, flight: Flight) -> Boarded {
        let (number, flight) = (self.next.fetch_add(1, Relaxed), Arc::new(flight));
        self.lock().insert(number, Arc::clone(&flight));
        Boarded { flights: Arc::clone(self), number, flight }
    }

    /// How many of those that run asked for a stream.
    pub fn streams(&self) -> usize {
        self.lock().values().filter(|flight| flight.stream).count()
    }

    /// The requests that run, oldest first.
    pub fn running(&self) -> Vec<Arc<Flight>> {
        self.lock().values().cloned().collect()
    }

    /// Makes a request end within about a second, as if its client had left but for what the client is told. `false` if
    /// there is none with this id.
    pub fn end(&self, request_id: &str) -> bool {
        let running = self.lock();
        let Some(flight) = running.values().find(|flight| flight.request_id == request_id) else { return false };
        flight.is_ended.store(true, Relaxed);
        true
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Flight>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request in the list; it leaves it on drop.
#[derive(Debug)]
pub struct Boarded {
    flights: Arc<Flights>,
    number: u64,
    flight: Arc<Flight>,
}

impl Boarded {
    /// The request, to be kept beyond its listing.
    pub fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.flight)
    }
}

impl std::ops::Deref for Boarded {
    type Target = Flight;

    fn deref(&self) -> &Flight {
        &self.flight
    }
}

impl Drop for Boarded {
    fn drop(&mut self) {
        self.flights.lock().remove(&self.number);
    }
}
