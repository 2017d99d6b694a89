//! Reports: every figure is a sum of rollups, which were written in the transactions of their ledger lines; so two reports
//! over the same lines cannot differ.

use super::{Period, Store, rows};
use crate::error::Result;
use crate::model::{Bill, Usage};
use rusqlite::Row;
use std::collections::{BTreeMap, HashMap};

/// The sums of a group of rollups, under the names that [`rows::bill`] reads.
pub(super) const SUMS: &str = "sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
    sum(cache_creation_5m_tokens) AS cache_creation_5m_tokens, sum(cache_creation_1h_tokens) AS cache_creation_1h_tokens,
    sum(cache_read_tokens) AS cache_read_tokens, sum(cost_input) AS cost_input, sum(cost_output) AS cost_output,
    sum(cost_cache_write) AS cost_cache_write, sum(cost_cache_read) AS cost_cache_read,
    sum(cost_web_search) AS cost_web_search, sum(unpriced_requests) AS unpriced_requests";

/// A row of buckets of one size, both ends included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Span {
    /// Local days as `yyyymmdd`.
    Days(i64, i64),
    /// Local hours as the Unix seconds at which they begin.
    Hours(i64, i64),
}

impl Span {
    /// The span's code, first and last bucket, as in `rollups`.
    pub(super) fn columns(self) -> (i64, i64, i64) {
        match self {
            Span::Days(first, last) => (2, first, last),
            Span::Hours(first, last) => (3, first, last),
        }
    }
}

/// What a key has used.
#[derive(Clone, Debug)]
pub struct KeyBill {
    /// The key's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it has been deleted.
    pub is_deleted: bool,
    /// Its use and what that cost.
    pub bill: Bill,
}

fn by_model(row: &Row<'_>) -> rusqlite::Result<(String, Bill)> {
    Ok((row.get("model")?, rows::bill(row)?))
}

impl Store {
    /// What each model was used for in a period, by all keys, deleted ones too.
    ///
    /// # Errors
    /// SQLite's.
    pub fn models(&self, period: Period) -> Result<Vec<(String, Bill)>> {
        let (span, bucket) = self.bucket(period);
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM rollups WHERE scope = 0 AND subject = 0 AND span = ?1 AND bucket = ?2 ORDER BY model",
            )?;
            let found = statement.query_map([span, bucket], by_model)?.collect::<rusqlite::Result<_>>()?;
            Ok(found)
        })
    }

    /// What each model was used for in a period, by one key.
    ///
    /// # Errors
    /// SQLite's.
    pub fn models_of_key(&self, key_seq: i64, period: Period) -> Result<BTreeMap<String, Bill>> {
        let (span, bucket) = self.bucket(period);
        self.models_of_key_in(key_seq, span, &[bucket])
    }

    /// What each model was used for in local days (`yyyymmdd`), by one key.
    ///
    /// # Errors
    /// SQLite's.
    pub fn models_of_key_in_days(&self, key_seq: i64, days: &[i64]) -> Result<BTreeMap<String, Bill>> {
        self.models_of_key_in(key_seq, 2, days)
    }

    fn models_of_key_in(&self, key_seq: i64, span: i64, buckets: &[i64]) -> Result<BTreeMap<String, Bill>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM rollups WHERE scope = 1 AND span = ?1 AND bucket = ?2 AND subject = ?3",
            )?;
            let mut models: BTreeMap<String, Bill> = BTreeMap::new();
            // One look-up a bucket: a range of buckets would read all other keys' rows too.
            for bucket in buckets {
                for found in statement.query_map([span, *bucket, key_seq], by_model)? {
                    let (model, bill) = found?;
                    models.entry(model).or_default().add(&bill);
                }
            }
            Ok(models)
        })
    }

    /// What was used in each bucket of a span, by all keys. Buckets without use are absent.
    ///
    /// # Errors
    /// SQLite's.
    pub fn trend(&self, span: Span) -> Result<HashMap<i64, Bill>> {
        let (span, first, last) = span.columns();
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT bucket, {SUMS} FROM rollups
                 WHERE scope = 0 AND subject = 0 AND span = ?1 AND bucket BETWEEN ?2 AND ?3 GROUP BY bucket"
            ))?;
            let found = statement
                .query_map([span, first, last], |row| Ok((row.get("bucket")?, rows::bill(row)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(found)
        })
    }

    /// What was used in a span, by bucket and model, by all keys or by one. Bounded by the span and by the number of models.
    ///
    /// # Errors
    /// SQLite's.
    pub fn use_in(&self, span: Span, key_seq: Option<i64>) -> Result<Vec<(i64, String, Bill)>> {
        let (span, first, last) = span.columns();
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM rollups WHERE scope = ?1 AND span = ?2 AND bucket BETWEEN ?3 AND ?4 AND subject = ?5",
            )?;
            let scope = i64::from(key_seq.is_some());
            let found = statement.query_map([scope, span, first, last, key_seq.unwrap_or(0)], |row| {
                Ok((row.get("bucket")?, row.get("model")?, rows::bill(row)?))
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What each key has used in a span, deleted ones too: the `keys_max` that cost most, dearest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keys_in(&self, span: Span, keys_max: usize) -> Result<Vec<KeyBill>> {
        let (span, first, last) = span.columns();
        self.read(|db| {
            // Added up here: a temporary table would take longer.
            let mut statement =
                db.prepare_cached("SELECT * FROM rollups WHERE scope = 1 AND span = ?1 AND bucket BETWEEN ?2 AND ?3")?;
            let mut bills: HashMap<i64, Bill> = HashMap::new();
            let mut rows = statement.query([span, first, last])?;
            while let Some(row) = rows.next()? {
                bills.entry(row.get("subject")?).or_default().add(&rows::bill(row)?);
            }
            let mut largest: Vec<(i64, Bill)> = bills.into_iter().collect();
            largest.sort_by_key(|(seq, bill)| std::cmp::Reverse((bill.cost.total(), bill.usage.tokens.all(), *seq)));
            let mut named = db.prepare_cached("SELECT id, name, deleted_at_ms FROM api_keys WHERE seq = ?1")?;
            let mut found = Vec::new();
            for (seq, bill) in largest.into_iter().take(keys_max) {
                let key = named.query_row([seq], |row| {
                    let deleted: Option<i64> = row.get("deleted_at_ms")?;
                    Ok(KeyBill { id: row.get("id")?, name: row.get("name")?, is_deleted: deleted.is_some(), bill })
                });
                found.push(key?);
            }
            Ok(found)
        })
    }

    /// What all keys together have used in a period. `with_deleted` says whether keys that are deleted count.
    ///
    /// # Errors
    /// SQLite's.
    pub fn total(&self, period: Period, with_deleted: bool) -> Result<Usage> {
        let (span, bucket) = self.bucket(period);
        self.read(|db| {
            let sum = |sql: &str| -> Result<Usage> {
                let mut sum = Usage::default();
                for usage in db.prepare_cached(sql)?.query_map([span, bucket], rows::usage)? {
                    sum.add(&usage?);
                }
                Ok(sum)
            };
            let mut total = sum("SELECT * FROM rollups WHERE scope = 0 AND subject = 0 AND span = ?1 AND bucket = ?2")?;
            if !with_deleted {
                // Few keys are deleted; to add up all that are not would walk through thousands.
                total.remove(&sum("SELECT rollups.* FROM api_keys JOIN rollups ON rollups.subject = api_keys.seq
                     WHERE deleted_at_ms IS NOT NULL AND scope = 1 AND span = ?1 AND bucket = ?2")?);
            }
            Ok(total)
        })
    }
}
