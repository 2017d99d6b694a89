//! Reports: sums read from the rollups, and the way in to the ledger.

use super::{Receipt, Store, ledger, rows};
use crate::error::Result;
use crate::model::time::Buckets;
use crate::model::{ApiKey, Bill, Budget, Line, Spent};
use std::collections::HashMap;
use std::time::Duration;

/// Spans of time that reports count by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Period {
    /// Since the beginning.
    Total,
    /// The local month that holds an instant.
    Month(i64),
    /// The local day that holds an instant.
    Day(i64),
}

/// What one key has used, and what that cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyUsage {
    /// Since the beginning.
    pub total: Bill,
    /// This local day.
    pub daily: Bill,
    /// This local month.
    pub monthly: Bill,
}

/// What all keys have used, by row number.
#[derive(Clone, Debug, Default)]
pub struct KeysUsage {
    total: HashMap<i64, Bill>,
    daily: HashMap<i64, Bill>,
    monthly: HashMap<i64, Bill>,
    /// Pico-dollars this week, of keys that have a limit of it.
    weekly_spent: HashMap<i64, i64>,
}

impl KeysUsage {
    /// What one key has used.
    pub fn of(&self, key_seq: i64) -> KeyUsage {
        let of = |used: &HashMap<i64, Bill>| used.get(&key_seq).copied().unwrap_or_default();
        KeyUsage { total: of(&self.total), daily: of(&self.daily), monthly: of(&self.monthly) }
    }

    /// What one key has spent of its budgets. The week is known only where it has a limit.
    pub fn spent(&self, key_seq: i64) -> Spent {
        let cost = |used: &HashMap<i64, Bill>| used.get(&key_seq).map_or(0, |bill| bill.cost.total());
        Spent {
            daily: cost(&self.daily),
            weekly: self.weekly_spent.get(&key_seq).copied().unwrap_or_default(),
            monthly: cost(&self.monthly),
            total: cost(&self.total),
        }
    }
}

impl Store {
    /// Prices a line and hands it to the ledger's thread.
    pub fn record(&self, line: Line) -> Receipt {
        let priced = self.prices().cost(&line);
        self.ledger.send(line, priced)
    }

    /// Prices and commits lines that come from elsewhere than a request, all or none, and waits for it. Many at a time are
    /// far faster than one by one; while it runs, requests wait for their own lines, so ten thousand are enough.
    ///
    /// # Errors
    /// SQLite's.
    pub fn record_all(&self, lines: Vec<Line>) -> Result<()> {
        const CACHE_KIB: i64 = 128 * 1024;
        let prices = self.prices();
        let priced = |line: Line| {
            let cost = prices.cost(&line);
            (line, cost)
        };
        let lines = lines.into_iter().map(priced).collect();
        let mut db = self.write();
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        let done = ledger::commit_all(&mut db, &self.zone, lines);
        db.pragma_update(None, "cache_size", -super::CACHE_KIB)?;
        Ok(done?)
    }

    /// Ledger lines that wait for their commit.
    pub fn ledger_waiting(&self) -> usize {
        self.ledger.waiting()
    }

    /// How long the oldest of these has waited at most, milliseconds.
    pub fn ledger_lag_ms(&self) -> i64 {
        self.ledger.lag_ms()
    }

    /// Removes ledger lines from before an instant, few at a time so that the ledger's thread never waits long, and about
    /// `lines_max` in all. Gives back how many.
    ///
    /// # Errors
    /// SQLite's; what was removed until then stays removed.
    pub fn prune_ledger(&self, before_ms: i64, lines_max: usize) -> Result<usize> {
        const LINES_AT_A_TIME: usize = 500;
        // Longer than the ledger's thread waits between two looks at SQLite's lock: it must find it free.
        const PAUSE: Duration = Duration::from_millis(150);
        let mut removed = 0;
        loop {
            let now = self.write().execute(
                "DELETE FROM ledger WHERE id IN (SELECT id FROM ledger WHERE at_ms < ?1 ORDER BY at_ms LIMIT ?2)",
                (before_ms, LINES_AT_A_TIME as i64),
            )?;
            removed += now;
            if now < LINES_AT_A_TIME || removed >= lines_max {
                return Ok(removed);
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// How many keys there are, and how many sums are kept.
    ///
    /// # Errors
    /// SQLite's.
    pub fn counts(&self) -> Result<(i64, i64)> {
        const SQL: &str =
            "SELECT (SELECT count(*) FROM api_keys WHERE deleted_at_ms IS NULL), (SELECT count(*) FROM rollups)";
        self.read(|db| Ok(db.prepare_cached(SQL)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?))
    }

    /// What every key has used until now, and what it has spent of its budgets.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keys_usage(&self, now_ms: i64) -> Result<KeysUsage> {
        Ok(KeysUsage { weekly_spent: self.weekly_spent(now_ms)?, ..self.keys_bills(now_ms)? })
    }

    /// The same without what they have spent this week.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keys_bills(&self, now_ms: i64) -> Result<KeysUsage> {
        Ok(KeysUsage {
            total: self.usage_by_key(Period::Total)?,
            daily: self.usage_by_key(Period::Day(now_ms))?,
            monthly: self.usage_by_key(Period::Month(now_ms))?,
            weekly_spent: HashMap::new(),
        })
    }

    /// What a few keys have used until now: less to read than all of them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn usage_of_keys(&self, keys: &[ApiKey], now_ms: i64) -> Result<KeysUsage> {
        let monday = Buckets::of(now_ms, &self.zone).week;
        let mut found = KeysUsage::default();
        for key in keys {
            let usage = self.key_usage(key.seq, now_ms)?;
            found.total.insert(key.seq, usage.total);
            found.daily.insert(key.seq, usage.daily);
            found.monthly.insert(key.seq, usage.monthly);
            if key.weekly_cost_limit > 0 {
                found.weekly_spent.insert(key.seq, self.key_spent(key.seq, Budget::Weekly, monday)?);
            }
        }
        Ok(found)
    }

    /// What every key has used in a period, by the key's row number.
    ///
    /// # Errors
    /// SQLite's.
    fn usage_by_key(&self, period: Period) -> Result<HashMap<i64, Bill>> {
        let (span, bucket) = self.bucket(period);
        let from = match period {
            Period::Total | Period::Month(_) => "key_sums WHERE span = ?1 AND bucket = ?2",
            Period::Day(_) => "rollups WHERE scope = 1 AND span = ?1 AND bucket = ?2",
        };
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!("SELECT subject, {} FROM {from}", rows::BILL))?;
            let mut bills: HashMap<i64, Bill> = HashMap::new();
            // Added up here, as the rows lie: a temporary table for the sums would take longer.
            for found in statement.query_map([span, bucket], |row| Ok((row.get(0)?, rows::bill_at(row, 1)?)))? {
                let (subject, bill): (i64, Bill) = found?;
                bills.entry(subject).or_default().add(&bill);
            }
            Ok(bills)
        })
    }

    /// What one key has used until now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_usage(&self, key_seq: i64, now_ms: i64) -> Result<KeyUsage> {
        let of = |period| -> Result<Bill> {
            let (span, bucket) = self.bucket(period);
            self.read(|db| {
                let mut statement = db.prepare_cached(
                    "SELECT * FROM rollups WHERE scope = 1 AND subject = ?1 AND span = ?2 AND bucket = ?3",
                )?;
                let mut sum = Bill::default();
                for bill in statement.query_map([key_seq, span, bucket], rows::bill)? {
                    sum.add(&bill?);
                }
                Ok(sum)
            })
        };
        Ok(KeyUsage { total: of(Period::Total)?, daily: of(Period::Day(now_ms))?, monthly: of(Period::Month(now_ms))? })
    }

    pub(super) fn bucket(&self, period: Period) -> (i64, i64) {
        match period {
            Period::Total => (0, 0),
            Period::Month(at_ms) => (1, Buckets::of(at_ms, &self.zone).month),
            Period::Day(at_ms) => (2, Buckets::of(at_ms, &self.zone).day),
        }
    }
}
