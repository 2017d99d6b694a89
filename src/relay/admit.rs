//! Step one: who is calling, may they, and is there room for one more of their requests.

use super::windows::{Counted, Windows};
use crate::error::{Error, Result};
use crate::model::ApiKey;
use crate::model::time::now_ms;
use crate::store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

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
}

impl Caller {
    /// Gives the permit back. Done before the last bytes of an answer go out: a client that has them may call again at
    /// once, and must find its place free.
    pub(super) fn leave(&mut self) {
        self.permit = None;
    }

    /// Adds what the request has used to its key's window.
    pub(super) fn add_tokens(&self, tokens: i64) {
        if let Some(counted) = &self.counted {
            counted.add_tokens(tokens);
        }
    }
}

/// Finds the key and checks all that can be known before the body is read. From here on the request counts in its key's
/// window, also if its body turns out to be wrong, as in the original. `at_ms` is when it arrived, which its ledger line
/// will say too.
///
/// Without windows the request is not counted.
///
/// # Errors
/// Why the caller is refused.
pub(super) fn admit(
    store: &Store,
    permits: &Arc<Permits>,
    windows: Option<&Windows>,
    prefix: &str,
    clear: Option<&str>,
    at_ms: i64,
) -> std::result::Result<Caller, Refused> {
    let key = identify(store, prefix, clear)?;
    let permit = permits.take(&key)?;
    let counted = match windows {
        Some(windows) => windows.count(store, &key, at_ms)?,
        None => None,
    };
    Ok(Caller { key, permit: Some(permit), counted })
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

/// Requests that run, by key. Only keys that have some are listed.
#[derive(Debug, Default)]
pub struct Permits {
    running: Mutex<HashMap<i64, i64>>,
}

impl Permits {
    fn take(self: &Arc<Permits>, key: &ApiKey) -> std::result::Result<Permit, Refused> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let count = running.entry(key.seq).or_default();
        if key.concurrency_limit > 0 && *count >= key.concurrency_limit {
            return Err(Refused::Concurrency { current: *count, limit: key.concurrency_limit });
        }
        *count += 1;
        Ok(Permit { permits: Arc::clone(self), key_seq: key.seq })
    }

    /// How many requests of a key run now.
    pub fn running(&self, key_seq: i64) -> i64 {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&key_seq).copied().unwrap_or(0)
    }
}

/// The right to run one request; given back on drop, however the request ends.
#[derive(Debug)]
struct Permit {
    permits: Arc<Permits>,
    key_seq: i64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut running = self.permits.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = running.get_mut(&self.key_seq) {
            *count -= 1;
            if *count <= 0 {
                running.remove(&self.key_seq);
            }
        }
    }
}
