//! Budgets: what each key has spent this day, week, month and ever, kept in memory so that no request adds up anything.
//!
//! A sum is read from the ledger's sums when its span is first met, and from then on every line adds its cost to it. Every
//! request meets the spans that it comes in before it has a line, so what is read never lacks a line that is still on its way,
//! and none counts twice. After a restart the sums are read again.

use super::admit::Refused;
use crate::error::Result;
use crate::model::time::Buckets;
use crate::model::{ApiKey, Budget, Spent};
use crate::store::Store;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What all keys that were used since the start have spent: at most one entry a key.
#[derive(Debug, Default)]
pub(super) struct Budgets {
    by_key: Mutex<HashMap<i64, Arc<Mutex<Sums>>>>,
}

/// For each budget, in the order of [`Budget::ALL`], its span (see [`Budget::bucket`]) and what was spent in it, pico-dollars.
#[derive(Debug, Default)]
struct Sums([Option<(i64, i64)>; 4]);

/// The budgets of a key that a request was admitted under, to which its cost is added.
#[derive(Debug)]
pub(super) struct Purse(Arc<Mutex<Sums>>);

impl Purse {
    /// Adds what a request that came at `at_ms` has cost: to the spans that it came in, as its ledger line does.
    pub(super) fn add(&self, store: &Store, at_ms: i64, cost: i64) {
        let buckets = Buckets::of(at_ms, store.zone());
        let mut sums = lock(&self.0);
        for (budget, sum) in Budget::ALL.into_iter().zip(&mut sums.0) {
            if let Some((_, spent)) = sum.as_mut().filter(|(bucket, _)| *bucket == budget.bucket(&buckets)) {
                *spent = spent.saturating_add(cost);
            }
        }
    }
}

impl Budgets {
    /// Checks all budgets of a key at the instant that `clock` tells, Unix milliseconds. It is asked when it is this
    /// request's turn, so that no span comes after one that follows it.
    ///
    /// # Errors
    /// The first budget that is spent; the store's.
    pub(super) fn check(
        &self,
        store: &Store,
        key: &ApiKey,
        clock: impl FnOnce() -> i64,
    ) -> std::result::Result<Purse, Refused> {
        let sums = self.sums_of(key.seq);
        let mut locked = lock(&sums);
        let now_ms = clock();
        let spent = locked.at(store, key.seq, now_ms).map_err(Refused::Failed)?;
        drop(locked);
        for budget in Budget::ALL {
            let (current, limit) = (spent.of(budget), key.cost_limit(budget));
            if limit > 0 && current >= limit {
                let ends_at_ms = budget.ends_at_ms(now_ms, store.zone());
                return Err(Refused::Budget { budget, current, limit, ends_at_ms });
            }
        }
        Ok(Purse(sums))
    }

    /// What a key has spent of its budgets until now.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn spent(&self, store: &Store, key_seq: i64, clock: impl FnOnce() -> i64) -> Result<Spent> {
        let sums = self.sums_of(key_seq);
        let mut locked = lock(&sums);
        locked.at(store, key_seq, clock())
    }

    fn sums_of(&self, key_seq: i64) -> Arc<Mutex<Sums>> {
        Arc::clone(lock(&self.by_key).entry(key_seq).or_default())
    }
}

impl Sums {
    /// What was spent in the spans that hold an instant. One that is not the known one is read: usually it has just begun;
    /// after a clock was set back it is an old one.
    fn at(&mut self, store: &Store, key_seq: i64, now_ms: i64) -> Result<Spent> {
        let buckets = Buckets::of(now_ms, store.zone());
        let mut spent = [0; 4];
        for ((budget, sum), spent) in Budget::ALL.into_iter().zip(&mut self.0).zip(&mut spent) {
            let bucket = budget.bucket(&buckets);
            *spent = match *sum {
                Some((known, spent)) if known == bucket => spent,
                _ => store.key_spent(key_seq, budget, bucket)?,
            };
            *sum = Some((bucket, *spent));
        }
        let [daily, weekly, monthly, total] = spent;
        Ok(Spent { daily, weekly, monthly, total })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
