//! What keys have spent of their budgets, read from the sums of the ledger.

use super::Store;
use crate::error::Result;
use crate::model::Budget;
use crate::model::time::{Buckets, day_after};
use std::collections::HashMap;

/// The cost of a row of `rollups`, pico-dollars.
const COST: &str = "cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search";

/// The span and the buckets of `rollups` that a budget is the sum of; seven days make a week.
fn buckets_of(budget: Budget, bucket: i64) -> (i64, Vec<i64>) {
    match budget {
        Budget::Total => (0, vec![bucket]),
        Budget::Monthly => (1, vec![bucket]),
        Budget::Daily => (2, vec![bucket]),
        Budget::Weekly => (2, (0..7).map(|day| day_after(bucket, day)).collect()),
    }
}

impl Store {
    /// What a key has spent in one span of a budget (see [`Budget::bucket`]), pico-dollars, as far as it is committed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_spent(&self, key_seq: i64, budget: Budget, bucket: i64) -> Result<i64> {
        let (span, buckets) = buckets_of(budget, bucket);
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT coalesce(sum({COST}), 0) FROM rollups
                 WHERE scope = 1 AND span = ?1 AND bucket = ?2 AND subject = ?3"
            ))?;
            let mut spent = 0_i64;
            // One look-up a bucket: a range of buckets would read all other keys' rows too.
            for bucket in buckets {
                spent += statement.query_row([span, bucket, key_seq], |row| row.get::<_, i64>(0))?;
            }
            Ok(spent)
        })
    }

    /// What every key with a weekly limit has spent this week, pico-dollars, by row number.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn weekly_spent(&self, now_ms: i64) -> Result<HashMap<i64, i64>> {
        let monday = Buckets::of(now_ms, &self.zone).week;
        self.read(|db| {
            // A look-up for each key: its days lie together.
            let mut statement = db.prepare_cached(
                "SELECT seq, (SELECT coalesce(sum(cost), 0) FROM key_use
                     WHERE span = 2 AND subject = seq AND bucket BETWEEN ?1 AND ?2)
                 FROM api_keys WHERE weekly_cost_limit > 0",
            )?;
            let week = [monday, day_after(monday, 6)];
            let spent = statement.query_map(week, |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(spent.collect::<rusqlite::Result<_>>()?)
        })
    }
}
