//! A key's window: so many requests and tokens, or so much money, in so many minutes, counted from the first request.
//!
//! The counts live in memory; after a restart they are read back from the ledger, and from the count of those requests that
//! have no line there. A token limit without a window is not enforced, as in the original.

use super::admit::Refused;
use crate::error::Result;
use crate::model::ApiKey;
use crate::store::{Store, WindowUse};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const MINUTE_MS: i64 = 60_000;

/// A key's window, once it is known whether there is one.
type Counts = Mutex<Option<WindowUse>>;

/// The windows of all keys that have used one since the start: at most one a key.
#[derive(Debug, Default)]
pub(super) struct Windows {
    by_key: Mutex<HashMap<i64, Arc<Counts>>>,
    /// Whether the windows of all keys were read from the store.
    is_filled: AtomicBool,
}

/// A request that was counted, to which its tokens are added later.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Arc<Counts>,
    /// The window's begin, Unix milliseconds.
    pub(super) start_ms: i64,
}

impl Counted {
    /// Adds what the request has used and what that cost (pico-dollars), unless its window is over.
    pub(super) fn add(&self, tokens: i64, cost: i64) {
        if let Some(window) = lock(&self.counts).as_mut().filter(|window| window.start_ms == self.start_ms) {
            window.tokens = window.tokens.saturating_add(tokens);
            window.cost = window.cost.saturating_add(cost);
        }
    }
}

impl Windows {
    /// Counts a request that came at `now_ms`, or refuses it: check and count are one step. A key without a window is not
    /// counted; a refused request is not either.
    pub(super) fn count(
        &self,
        store: &Store,
        key: &ApiKey,
        now_ms: i64,
    ) -> std::result::Result<Option<Counted>, Refused> {
        let Some(length_ms) = key.window_ms() else { return Ok(None) };
        let counts = self.counts_of(key.seq);
        let mut current = lock(&counts);
        load(&mut current, store, key, length_ms, now_ms).map_err(Refused::Failed)?;
        let mut window = match *current {
            Some(window) if !is_over(&window, length_ms, now_ms) => window,
            _ => begin(store, key, now_ms).map_err(Refused::Failed)?,
        };
        let check = check(&window, key, length_ms, now_ms);
        if check.is_ok() {
            window.requests += 1;
        }
        *current = Some(window);
        drop(current);
        check.map(|()| Some(Counted { counts, start_ms: window.start_ms }))
    }

    /// The window that a key is in at `now_ms`; none is begun.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn current(&self, store: &Store, key: &ApiKey, now_ms: i64) -> Result<Option<WindowUse>> {
        let Some(length_ms) = key.window_ms() else { return Ok(None) };
        let counts = self.counts_of(key.seq);
        let mut current = lock(&counts);
        load(&mut current, store, key, length_ms, now_ms)?;
        Ok(current.filter(|window| !is_over(window, length_ms, now_ms)))
    }

    /// The same for many keys, by row number: what is not known yet is read from the store in one go, once.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn all(&self, store: &Store, keys: &[ApiKey], now_ms: i64) -> Result<HashMap<i64, WindowUse>> {
        if !self.is_filled.load(Ordering::Relaxed) {
            for (key_seq, window) in store.windows_use(now_ms)? {
                // A window that is known already may hold more than what is committed.
                lock(&self.counts_of(key_seq)).get_or_insert(window);
            }
            self.is_filled.store(true, Ordering::Relaxed);
        }
        // Nobody must wait for the list of all because one of them is being changed.
        let by_key: HashMap<i64, Arc<Counts>> = lock(&self.by_key).clone();
        let current = |key: &ApiKey| {
            let (length_ms, window) = (key.window_ms()?, (*lock(by_key.get(&key.seq)?))?);
            (!is_over(&window, length_ms, now_ms)).then_some((key.seq, window))
        };
        Ok(keys.iter().filter_map(current).collect())
    }

    fn counts_of(&self, key_seq: i64) -> Arc<Counts> {
        Arc::clone(lock(&self.by_key).entry(key_seq).or_default())
    }
}

/// Reads a window that is not known yet.
fn load(current: &mut Option<WindowUse>, store: &Store, key: &ApiKey, length_ms: i64, now_ms: i64) -> Result<()> {
    if current.is_none() {
        *current = store.window_use(key.seq, now_ms.saturating_sub(length_ms))?;
    }
    Ok(())
}

/// A clock that was set back by more than a window must not make one that never ends.
fn is_over(window: &WindowUse, length_ms: i64, now_ms: i64) -> bool {
    now_ms.saturating_sub(window.start_ms).saturating_abs() >= length_ms
}

fn begin(store: &Store, key: &ApiKey, now_ms: i64) -> Result<WindowUse> {
    store.begin_window(key.seq, now_ms)?;
    Ok(WindowUse { start_ms: now_ms, ..WindowUse::default() })
}

/// Requests first, as in the original, then tokens, then money.
fn check(window: &WindowUse, key: &ApiKey, length_ms: i64, now_ms: i64) -> std::result::Result<(), Refused> {
    let reset_at_ms = window.start_ms.saturating_add(length_ms);
    let remaining_minutes = (reset_at_ms - now_ms + MINUTE_MS - 1) / MINUTE_MS;
    if key.rate_limit_requests > 0 && window.requests >= key.rate_limit_requests {
        let (current, limit) = (window.requests, key.rate_limit_requests);
        return Err(Refused::Requests { current, limit, reset_at_ms, remaining_minutes });
    }
    if key.token_limit > 0 && window.tokens >= key.token_limit {
        let (current, limit) = (window.tokens, key.token_limit);
        return Err(Refused::Tokens { current, limit, reset_at_ms, remaining_minutes });
    }
    if key.rate_limit_cost > 0 && window.cost >= key.rate_limit_cost {
        let (current, limit) = (window.cost, key.rate_limit_cost);
        return Err(Refused::WindowCost { current, limit, reset_at_ms });
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Current count, minutes that remain; `None` passes. Tokens are told apart by a minus sign.
    fn judged(requests: i64, tokens: i64, limits: (i64, i64), now_ms: i64) -> Option<(i64, i64)> {
        let window = WindowUse { start_ms: 1000, requests, tokens, cost: 0 };
        let key = ApiKey { rate_limit_requests: limits.0, token_limit: limits.1, ..ApiKey::default() };
        match check(&window, &key, 5 * MINUTE_MS, now_ms) {
            Ok(()) => None,
            Err(Refused::Requests { current, remaining_minutes, .. }) => Some((current, remaining_minutes)),
            Err(Refused::Tokens { current, remaining_minutes, .. }) => Some((-current, remaining_minutes)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn money_is_the_last_of_a_windows_limits() {
        let window = WindowUse { start_ms: 1000, requests: 3, tokens: 30, cost: 500 };
        let judged = |requests, tokens, cost| {
            let key = ApiKey {
                rate_limit_requests: requests,
                token_limit: tokens,
                rate_limit_cost: cost,
                ..ApiKey::default()
            };
            check(&window, &key, 5 * MINUTE_MS, 2000)
        };
        assert!(judged(0, 0, 501).is_ok());
        let refused = judged(4, 31, 500);
        assert!(
            matches!(refused, Err(Refused::WindowCost { current: 500, limit: 500, reset_at_ms: 301_000 })),
            "{refused:?}"
        );
        assert!(matches!(judged(3, 0, 1), Err(Refused::Requests { .. })));
        assert!(matches!(judged(0, 30, 1), Err(Refused::Tokens { .. })));
    }

    #[test]
    fn a_limit_is_reached_when_it_is_used_up_and_requests_come_first() {
        for (requests, tokens, limits, now_ms, expected) in [
            (0, 0, (1, 1), 1000, None),
            (1, 0, (1, 0), 1000, Some((1, 5))),
            (1, 0, (1, 0), 1001, Some((1, 5))),
            (1, 0, (1, 0), 61_000, Some((1, 4))),
            (1, 0, (1, 0), 300_999, Some((1, 1))),
            (9, 99, (0, 100), 1000, None),
            (9, 100, (0, 100), 1000, Some((-100, 5))),
            (9, 250, (9, 100), 1000, Some((9, 5))),
            (9, 250, (10, 100), 1000, Some((-250, 5))),
        ] {
            assert_eq!(judged(requests, tokens, limits, now_ms), expected, "{requests} {tokens} {limits:?} {now_ms}");
        }
    }
}
