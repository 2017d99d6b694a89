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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cost::DOLLAR;
    use crate::model::time::{TimeZone, parse};
    use crate::model::{Line, Tokens};
    use crate::store::{KeyDraft, Opening};
    use std::path::PathBuf;

    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A store in Berlin, and a key that may cost ten dollars a day.
    fn berlin(name: &str) -> (Folder, Store, ApiKey) {
        let folder = Folder(std::env::temp_dir().join(format!("claude-relay-{name}-{}", std::process::id())));
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let opening = Opening { data_dir: &folder.0, encryption_key: "a key for a test of budgets 12345", zone };
        let store = Store::open(&opening).unwrap();
        let draft = KeyDraft { name: Some("k".into()), ..KeyDraft::default() };
        let (_, key) = store.create_key("cr_", &draft).unwrap();
        let key = ApiKey { daily_cost_limit: 10 * DOLLAR, ..key };
        (folder, store, key)
    }

    fn at(text: &str) -> i64 {
        parse(text).unwrap()
    }

    /// A request that came at an instant and costs three dollars.
    fn pay(budgets: &Budgets, store: &Store, key: &ApiKey, at_ms: i64) -> std::result::Result<(), Refused> {
        let purse = budgets.check(store, key, || at_ms)?;
        finish(&purse, store, key, at_ms);
        Ok(())
    }

    fn finish(purse: &Purse, store: &Store, key: &ApiKey, at_ms: i64) {
        let line = Line {
            at_ms,
            key_seq: key.seq,
            model: "claude-opus-4-6".into(),
            tokens: Some(Tokens { output: 120_000, ..Tokens::default() }),
            ..Line::default()
        };
        let receipt = store.record(line);
        assert_eq!(receipt.cost(), 3 * DOLLAR);
        purse.add(store, at_ms, receipt.cost());
        receipt.wait().unwrap();
    }

    fn spent(budgets: &Budgets, store: &Store, key: &ApiKey, at_ms: i64) -> [i64; 4] {
        let spent = budgets.spent(store, key.seq, || at_ms).unwrap();
        Budget::ALL.map(|budget| spent.of(budget) / DOLLAR)
    }

    #[test]
    fn a_day_of_twenty_five_hours_is_one_budget_and_the_next_begins_at_midnight() {
        let (_folder, store, key) = berlin("dst");
        let budgets = Budgets::default();
        // Saturday, 23:59 in summer; Sunday begins a minute later and has 25 hours.
        for _ in 0..2 {
            pay(&budgets, &store, &key, at("2026-10-24T21:59:00Z")).unwrap();
        }
        let (first, last) = (at("2026-10-24T22:00:00Z"), at("2026-10-25T22:59:59Z"));
        for at_ms in [first, at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"), last] {
            assert_eq!(spent(&budgets, &store, &key, at_ms), [0, 6, 6, 6], "a new day, the same week");
        }
        for at_ms in [first, at("2026-10-25T00:30:00Z"), at("2026-10-25T01:30:00Z"), last] {
            pay(&budgets, &store, &key, at_ms).unwrap();
        }
        let refused = budgets.check(&store, &key, || last);
        let ends = at("2026-10-25T23:00:00Z");
        assert!(
            matches!(refused, Err(Refused::Budget { budget: Budget::Daily, current, ends_at_ms: Some(found), .. })
                if current == 12 * DOLLAR && found == ends),
            "{refused:?}"
        );
        assert_eq!(spent(&budgets, &store, &key, last), [12, 18, 18, 18]);
        // Monday: a new day and a new week, in the same month.
        pay(&budgets, &store, &key, ends).unwrap();
        assert_eq!(spent(&budgets, &store, &key, ends), [3, 3, 21, 21]);
        // What a restart reads is the same, to the last cent, whichever instant it is asked for.
        for at_ms in [at("2026-10-24T21:59:59Z"), last, ends, at("2026-11-01T00:00:00Z")] {
            let read = spent(&Budgets::default(), &store, &key, at_ms);
            assert_eq!(read, spent(&budgets, &store, &key, at_ms));
        }
        assert_eq!(spent(&budgets, &store, &key, at("2026-10-31T23:00:00Z")), [0, 3, 0, 21], "November");
        store.close();
    }

    #[test]
    fn what_began_before_midnight_is_paid_from_the_day_it_began_in() {
        let (_folder, store, key) = berlin("midnight");
        let budgets = Budgets::default();
        let (before, after) = (at("2026-03-28T22:59:59Z"), at("2026-03-28T23:00:00Z"));
        let purse = budgets.check(&store, &key, || before).unwrap();
        pay(&budgets, &store, &key, after).unwrap();
        finish(&purse, &store, &key, before);
        assert_eq!(spent(&budgets, &store, &key, after), [3, 6, 6, 6]);
        assert_eq!(spent(&Budgets::default(), &store, &key, after), [3, 6, 6, 6]);
        // Clocks that are set back find the day as it was.
        assert_eq!(spent(&budgets, &store, &key, before), [3, 6, 6, 6]);
        assert_eq!(spent(&budgets, &store, &key, after), [3, 6, 6, 6]);
        store.close();
    }

    #[test]
    fn the_first_budget_that_is_spent_refuses() {
        let (_folder, store, key) = berlin("order");
        let budgets = Budgets::default();
        let now = at("2026-11-24T12:00:00Z");
        pay(&budgets, &store, &key, now).unwrap();
        let judged = |daily, weekly, monthly, total| {
            let key = ApiKey {
                daily_cost_limit: daily * DOLLAR,
                weekly_cost_limit: weekly * DOLLAR,
                monthly_cost_limit: monthly * DOLLAR,
                total_cost_limit: total * DOLLAR,
                ..key.clone()
            };
            match budgets.check(&store, &key, || now) {
                Ok(_) => None,
                Err(Refused::Budget { budget, .. }) => Some(budget),
                Err(other) => panic!("{other:?}"),
            }
        };
        for (limits, expected) in [
            ((0, 0, 0, 0), None),
            ((4, 4, 4, 4), None),
            ((3, 3, 3, 3), Some(Budget::Daily)),
            ((4, 3, 3, 3), Some(Budget::Weekly)),
            ((0, 0, 3, 3), Some(Budget::Monthly)),
            ((0, 4, 0, 2), Some(Budget::Total)),
        ] {
            let (daily, weekly, monthly, total) = limits;
            assert_eq!(judged(daily, weekly, monthly, total), expected, "{limits:?}");
        }
        store.close();
    }
}
