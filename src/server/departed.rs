//! Whether anybody still waits for an answer: its client, or the bill of a client that has left.

use super::Server;
use crate::http::Exchange;
use crate::relay::{Departed, Flight};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Answers that are read to their end though their client has left: no more than a quarter of the workers do so at a time.
#[derive(Debug)]
pub(super) struct Drains {
    running: AtomicUsize,
    at_once_max: usize,
    /// How long one may go on; zero is not at all.
    time_max: Duration,
}

/// One of them; its place is free again on drop.
struct Drain {
    drains: Arc<Drains>,
    end: Instant,
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.drains.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drains {
    pub(super) fn new(workers: usize, time_max: Duration) -> Drains {
        Drains { running: AtomicUsize::new(0), at_once_max: workers.div_ceil(4), time_max }
    }

    fn begin(self: &Arc<Self>) -> Option<Drain> {
        if self.time_max.is_zero() {
            return None;
        }
        let is_room = |running| (running < self.at_once_max).then_some(running + 1);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_room).ok()?;
        Some(Drain { drains: Arc::clone(self), end: Instant::now() + self.time_max })
    }
}

/// What answers whether nobody waits for a request's answer any more: the process must end now, an admin has ended it, or
/// its client has left and its bill is not waited for, or not any longer. Without a flight no bill is.
pub(super) fn departed(server: &Server, exchange: &Exchange, flight: Option<&Arc<Flight>>) -> Departed {
    let (client, give_up, flight) = (exchange.client(), Arc::clone(&server.give_up), flight.cloned());
    let drains = Arc::clone(&server.drains);
    // Set when the client is first seen to have left.
    let drain: Mutex<Option<Option<Drain>>> = Mutex::new(None);
    Arc::new(move || {
        if give_up.load(Ordering::Relaxed) || flight.as_ref().is_some_and(|flight| flight.is_ended()) {
            return true;
        }
        if !client.is_gone() {
            return false;
        }
        let mut drain = drain.lock().unwrap_or_else(PoisonError::into_inner);
        let drain = drain.get_or_insert_with(|| flight.as_ref().and_then(|_| drains.begin()));
        drain.as_ref().is_none_or(|drain| Instant::now() >= drain.end)
    })
}
