//! Permits: how many requests of a key run at the same time, and who waits for one of them to end.
//!
//! Whoever waits does so on its own relay worker, in the order of arrival. As many may wait for a key as it may run, and no
//! longer than the operator allows.

use super::admit::Refused;
use super::watch::Departed;
use crate::model::ApiKey;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long one step of waiting is: the longest that a client's leaving goes unnoticed.
const STEP: Duration = Duration::from_millis(500);

/// Requests that run or wait, by key. Only keys that have some are listed.
#[derive(Debug, Default)]
pub(super) struct Permits {
    by_key: Mutex<HashMap<i64, Slots>>,
    /// Told whenever a permit comes back or somebody stops waiting.
    freed: Condvar,
}

/// The requests of one key.
#[derive(Debug, Default)]
struct Slots {
    running: i64,
    /// Tickets of those who wait, the first first.
    waiting: VecDeque<u64>,
    next_ticket: u64,
}

impl Permits {
    /// Takes a permit. Where all are taken, waits for up to `wait`, behind those who wait already, unless the client leaves.
    ///
    /// # Errors
    /// As many requests run as the key may have at a time.
    pub(super) fn take(
        self: &Arc<Permits>,
        key: &ApiKey,
        wait: Duration,
        departed: &Departed,
    ) -> std::result::Result<Permit, Refused> {
        let (seq, limit) = (key.seq, key.concurrency_limit);
        let mut by_key = self.lock();
        let slots = by_key.entry(seq).or_default();
        if limit <= 0 || (slots.running < limit && slots.waiting.is_empty()) {
            slots.running += 1;
            return Ok(Permit { permits: Arc::clone(self), key_seq: seq, has_waited: false });
        }
        let refused = Refused::Concurrency { current: slots.running, limit };
        if wait.is_zero() || i64::try_from(slots.waiting.len()).unwrap_or(i64::MAX) >= limit {
            return Err(refused);
        }
        let ticket = slots.next_ticket;
        slots.next_ticket += 1;
        slots.waiting.push_back(ticket);
        let is_served = self.wait(by_key, (seq, ticket, limit), Instant::now() + wait, departed);
        if is_served { Ok(Permit { permits: Arc::clone(self), key_seq: seq, has_waited: true }) } else { Err(refused) }
    }

    /// Waits until a ticket is the first and there is room. `false` when the time is over or the client has left.
    fn wait(
        &self,
        mut by_key: MutexGuard<'_, HashMap<i64, Slots>>,
        (seq, ticket, limit): (i64, u64, i64),
        until: Instant,
        departed: &Departed,
    ) -> bool {
        loop {
            let slots = by_key.entry(seq).or_default();
            let is_served = slots.waiting.front() == Some(&ticket) && slots.running < limit;
            let left = until.saturating_duration_since(Instant::now());
            if is_served || left.is_zero() || departed() {
                slots.waiting.retain(|waiting| *waiting != ticket);
                if is_served {
                    slots.running += 1;
                }
                // The next one may be served as well: two permits can come back at once.
                self.freed.notify_all();
                return is_served;
            }
            by_key = self.freed.wait_timeout(by_key, left.min(STEP)).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many requests of a key run now.
    pub(super) fn running(&self, key_seq: i64) -> i64 {
        self.lock().get(&key_seq).map_or(0, |slots| slots.running)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i64, Slots>> {
        self.by_key.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run one request; given back on drop, however the request ends.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    key_seq: i64,
    /// Whether it was not there at once.
    pub(super) has_waited: bool,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut by_key = self.permits.lock();
        if let Some(slots) = by_key.get_mut(&self.key_seq) {
            slots.running -= 1;
            if !slots.waiting.is_empty() {
                self.permits.freed.notify_all();
            } else if slots.running <= 0 {
                by_key.remove(&self.key_seq);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    const LONG: Duration = Duration::from_secs(20);

    fn key(limit: i64) -> ApiKey {
        ApiKey { seq: 1, concurrency_limit: limit, ..ApiKey::default() }
    }

    fn stays() -> Departed {
        Arc::new(|| false)
    }

    fn waiting(permits: &Permits, count: usize) {
        let start = Instant::now();
        while permits.lock().get(&1).map_or(0, |slots| slots.waiting.len()) != count {
            assert!(start.elapsed() < LONG, "never {count} waiting");
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_waits_is_served_in_the_order_of_arrival() {
        let permits = Arc::<Permits>::default();
        let taken: Vec<Permit> = (0..3).map(|_| permits.take(&key(3), Duration::ZERO, &stays()).unwrap()).collect();
        let served = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..3 {
                let (permits, served) = (&permits, &served);
                scope.spawn(move || {
                    let permit = permits.take(&key(3), LONG, &stays()).unwrap();
                    assert!(permit.has_waited);
                    served.lock().unwrap().push((number, permit));
                });
                waiting(permits, number + 1);
            }
            assert!(permits.take(&key(3), LONG, &stays()).is_err(), "as many may wait as may run");
            for (count, permit) in taken.into_iter().enumerate() {
                drop(permit);
                waiting(&permits, 2 - count);
            }
        });
        let mut served = served.into_inner().unwrap();
        served.sort_by_key(|(number, _)| *number);
        assert_eq!((served.len(), permits.running(1)), (3, 3));
        drop(served);
        assert!(permits.lock().is_empty());
    }

    #[test]
    fn the_first_who_came_is_the_first_served() {
        let permits = Arc::<Permits>::default();
        let mut first = Some(permits.take(&key(2), Duration::ZERO, &stays()).unwrap());
        let _second = permits.take(&key(2), Duration::ZERO, &stays()).unwrap();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for number in 0..2 {
                let (permits, order) = (&permits, &order);
                scope.spawn(move || {
                    let permit = permits.take(&key(2), LONG, &stays()).unwrap();
                    order.lock().unwrap().push(number);
                    drop(permit);
                });
                waiting(permits, number + 1);
            }
            first.take();
        });
        assert_eq!(*order.lock().unwrap(), [0, 1]);
    }

    #[test]
    fn time_that_is_over_and_a_client_that_left_end_the_wait_and_free_the_place() {
        let permits = Arc::<Permits>::default();
        let one = permits.take(&key(1), Duration::ZERO, &stays()).unwrap();
        let start = Instant::now();
        let refused = permits.take(&key(1), Duration::from_millis(50), &stays());
        assert!(matches!(refused, Err(Refused::Concurrency { current: 1, limit: 1 })));
        assert!(start.elapsed() >= Duration::from_millis(50));
        let has_left = Arc::new(AtomicBool::new(false));
        let sign = Arc::clone(&has_left);
        let departed: Departed = Arc::new(move || sign.load(Ordering::Relaxed));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| permits.take(&key(1), LONG, &departed).is_err());
            waiting(&permits, 1);
            // One waits, so there is no room for another.
            assert!(permits.take(&key(1), LONG, &stays()).is_err());
            let start = Instant::now();
            has_left.store(true, Ordering::Relaxed);
            assert!(waiter.join().unwrap());
            assert!(start.elapsed() < Duration::from_secs(1));
        });
        drop(one);
        assert!(permits.lock().is_empty());
    }

    #[test]
    fn whoever_comes_later_does_not_overtake_and_a_key_without_a_limit_never_waits() {
        let permits = Arc::<Permits>::default();
        let one = permits.take(&key(1), Duration::ZERO, &stays()).unwrap();
        permits.lock().get_mut(&1).unwrap().waiting.push_back(77);
        drop(one);
        assert!(permits.take(&key(1), Duration::ZERO, &stays()).is_err());
        let two = permits.take(&key(0), Duration::ZERO, &stays()).unwrap();
        assert_eq!((permits.running(1), two.has_waited), (1, false));
    }
}
