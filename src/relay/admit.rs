//! Step one: who is calling, may they, and is there room for one more of their requests.

use super::Purpose;
use super::budgets::{Budgets, Purse};
use super::permits::{Permit, Permits};
use super::watch::Departed;
use super::windows::{Counted, Windows};
use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::model::{ApiKey, Budget};
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;

/// Lengths of a key's clear text that are worth a look-up, as in the original.
const KEY_LENGTH_MIN: usize = 10;
const KEY_LENGTH_MAX: usize = 512;

/// Why a caller is refused. The wording of each belongs to the dialect of the path.
#[derive(Debug)]
pub enum Refused {
    /// No key was sent.
    MissingKey,
    /// The key's length cannot be right.
    KeyLength,
    /// The key lacks the prefix of all keys.
    KeyPrefix,
    /// No such key.
    UnknownKey,
    /// The admin switched it off.
    DisabledKey,
    /// Its life is over.
    ExpiredKey,
    /// As many requests run as the key may have at a time.
    Concurrency {
        /// Requests that run now.
        current: i64,
        /// The key's limit.
        limit: i64,
    },
    /// The key's window holds as many requests as it may.
    Requests {
        /// Requests of the window.
        current: i64,
        /// The key's limit.
        limit: i64,
        /// The window's end, Unix milliseconds.
        reset_at_ms: i64,
        /// Until then, minutes, rounded up.
        remaining_minutes: i64,
    },
    /// The key's window has used as many tokens as it may.
    Tokens {
        /// Tokens of the window.
        current: i64,
        /// The key's limit.
        limit: i64,
        /// The window's end, Unix milliseconds.
        reset_at_ms: i64,
        /// Until then, minutes, rounded up.
        remaining_minutes: i64,
    },
    /// The key's window has cost as much as it may.
    WindowCost {
        /// Cost of the window, pico-dollars.
        current: i64,
        /// The key's limit, pico-dollars.
        limit: i64,
        /// The window's end, Unix milliseconds.
        reset_at_ms: i64,
    },
    /// The key has spent a budget.
    Budget {
        /// Which one.
        budget: Budget,
        /// What was spent of it, pico-dollars.
        current: i64,
        /// The key's limit, pico-dollars.
        limit: i64,
        /// When a new one begins, Unix milliseconds; `None` = never.
        ends_at_ms: Option<i64>,
    },
    /// The key may not use the model.
    Model,
    /// The check itself failed.
    Failed(Error),
}

/// A caller who may be served, with a permit that is given back on drop.
#[derive(Debug)]
pub struct Caller {
    /// The key's record as it stood at admission.
    pub key: ApiKey,
    permit: Option<Permit>,
    counted: Option<Counted>,
    purse: Option<Purse>,
}

impl Caller {
    /// When the window began that the request counts in, Unix milliseconds; `None` if it counts in none.
    pub fn window_start_ms(&self) -> Option<i64> {
        self.counted.as_ref().map(|counted| counted.start_ms)
    }

    /// Gives the permit back. Done before the last bytes of an answer go out: a client that has them may call again at
    /// once, and must find its place free.
    pub(super) fn leave(&mut self) {
        self.permit = None;
    }

    /// Adds what the request that came at `at_ms` has used, and what that cost (pico-dollars), to all that its key is
    /// bounded by. Done before the permit is given back: whoever gets it must find this counted.
    pub(super) fn spend(&self, store: &Store, at_ms: i64, tokens: i64, cost: i64) {
        if let Some(counted) = &self.counted {
            counted.add(tokens, cost);
        }
        if let Some(purse) = &self.purse {
            purse.add(store, at_ms, cost);
        }
    }
}

/// A request that wants to be admitted.
pub struct Ask<'a> {
    /// The key it brings, if any.
    pub clear: Option<&'a str>,
    /// What it wants.
    pub purpose: Purpose,
    /// When it came, Unix milliseconds; its ledger line will say so too.
    pub at_ms: i64,
    /// Answers whether its client has left.
    pub departed: Departed,
}

/// What the requests of all keys have used: what a request is admitted by.
#[derive(Debug, Default)]
pub(super) struct Gate {
    pub(super) permits: Arc<Permits>,
    /// The same for requests that only count tokens: Claude Code sends some thirty at once, and no message is to be refused
    /// for them.
    pub(super) counting: Arc<Permits>,
    pub(super) windows: Windows,
    pub(super) budgets: Budgets,
    /// What every key begins with.
    pub(super) prefix: String,
    /// How long a request may wait for a permit.
    pub(super) wait: Duration,
}

impl Gate {
    /// Finds the key and checks all that can be known before the body is read. From here on the request counts in its key's
    /// window, also if its body turns out to be wrong, as in the original. What is not billed counts in no window and no
    /// budget.
    ///
    /// # Errors
    /// Why the caller is refused.
    pub(super) fn admit(&self, store: &Store, ask: &Ask<'_>) -> std::result::Result<Caller, Refused> {
        let is_billed = ask.purpose == Purpose::Message;
        let mut key = identify(store, &self.prefix, ask.clear)?;
        if is_billed {
            // Nobody waits for a permit that is worth nothing.
            self.budgets.check(store, &key, now_ms)?;
        }
        let permits = if is_billed { &self.permits } else { &self.counting };
        let permit = permits.take(&key, self.wait, &ask.departed)?;
        if permit.has_waited {
            // Meanwhile the admin may have changed or deleted it.
            key = identify(store, &self.prefix, ask.clear)?;
        }
        // Checked again: what ran until now has cost something.
        let purse = is_billed.then(|| self.budgets.check(store, &key, now_ms)).transpose()?;
        let counted = if is_billed { self.windows.count(store, &key, ask.at_ms)? } else { None };
        if key.awaits_activation() {
            store.activate_key(key.seq, ask.at_ms).map_err(Refused::Failed)?;
        }
        Ok(Caller { key, permit: Some(permit), counted, purse })
    }
}

/// Finds the key without taking a permit: for routes that only report.
///
/// # Errors
/// Why the caller is refused.
pub fn identify(store: &Store, prefix: &str, clear: Option<&str>) -> std::result::Result<ApiKey, Refused> {
    let clear = clear.filter(|clear| !clear.is_empty()).ok_or(Refused::MissingKey)?;
    if !(KEY_LENGTH_MIN..=KEY_LENGTH_MAX).contains(&clear.len()) {
        return Err(Refused::KeyLength);
    }
    let has_prefix = clear.starts_with(prefix);
    if !has_prefix && !store.has_moved_keys() {
        return Err(Refused::KeyPrefix);
    }
    let found: Result<Option<ApiKey>> = store.key_by_clear_text(clear);
    let unknown = if has_prefix { Refused::UnknownKey } else { Refused::KeyPrefix };
    let key = found.map_err(Refused::Failed)?.ok_or(unknown)?;
    if !key.is_active {
        return Err(Refused::DisabledKey);
    }
    if key.is_expired(now_ms()) {
        return Err(Refused::ExpiredKey);
    }
    Ok(key)
}
