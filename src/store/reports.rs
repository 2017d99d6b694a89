//! Reports: every figure is a sum of rollups, which were written in the transactions of their ledger lines; so two reports
//! over the same lines cannot differ.

use super::{Period, Store, rows};
use crate::error::Result;
use crate::model::Bill;
use rusqlite::{Row, named_params};
use std::collections::{BTreeMap, HashMap};

/// The sums of a group of rollups, under the names that [`rows::bill`] reads.
const SUMS: &str = "sum(requests) AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens,
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
    fn columns(self) -> (i64, i64, i64) {
        match self {
            Span::Days(first, last) => (2, first, last),
            Span::Hours(first, last) => (3, first, last),
        }
    }
}

/// What the largest keys have used in each bucket of a span.
#[derive(Clone, Debug, Default)]
pub struct KeyTrend {
    /// Keys that used anything, largest first: id, name and all tokens in the whole span. Deleted keys are left out.
    pub keys: Vec<(String, String, i64)>,
    /// Tokens by bucket and by position in `keys`, for the first so many keys that were asked for.
    pub buckets: HashMap<i64, BTreeMap<usize, i64>>,
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
    pub fn models_of_key(&self, key_seq: i64, period: Period) -> Result<Vec<(String, Bill)>> {
        let (span, bucket) = self.bucket(period);
        self.models_of_key_between(key_seq, span, bucket, bucket)
    }

    /// What each model was used for in local days (`yyyymmdd`, both included), by one key.
    ///
    /// # Errors
    /// SQLite's.
    pub fn models_of_key_in_days(&self, key_seq: i64, first: i64, last: i64) -> Result<Vec<(String, Bill)>> {
        self.models_of_key_between(key_seq, 2, first, last)
    }

    fn models_of_key_between(&self, key_seq: i64, span: i64, first: i64, last: i64) -> Result<Vec<(String, Bill)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT model, {SUMS} FROM rollups
                 WHERE scope = 1 AND subject = ?1 AND span = ?2 AND bucket BETWEEN ?3 AND ?4
                 GROUP BY model ORDER BY model"
            ))?;
            let found =
                statement.query_map([key_seq, span, first, last], by_model)?.collect::<rusqlite::Result<_>>()?;
            Ok(found)
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

    /// Who used how much in each bucket of a span. Buckets are told apart for the largest `keys_max` keys.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_trend(&self, span: Span, keys_max: usize) -> Result<KeyTrend> {
        const TOKENS: &str = "input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
             + cache_read_tokens";
        let (span, first, last) = span.columns();
        self.read(|db| {
            let mut sums = db.prepare_cached(&format!(
                "SELECT api_keys.seq, api_keys.id, api_keys.name, used.tokens FROM
                     (SELECT subject, sum({TOKENS}) AS tokens FROM rollups
                      WHERE scope = 1 AND span = ?1 AND bucket BETWEEN ?2 AND ?3 GROUP BY subject) AS used
                 JOIN api_keys ON api_keys.seq = used.subject
                 WHERE api_keys.deleted_at_ms IS NULL AND used.tokens > 0 ORDER BY used.tokens DESC, api_keys.seq"
            ))?;
            let found: Vec<(i64, String, String, i64)> = sums
                .query_map([span, first, last], |row| {
                    Ok((row.get("seq")?, row.get("id")?, row.get("name")?, row.get("tokens")?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let mut trend = KeyTrend::default();
            let mut each = db.prepare_cached(&format!(
                "SELECT bucket, sum({TOKENS}) AS tokens FROM rollups
                 WHERE scope = 1 AND subject = :key AND span = :span AND bucket BETWEEN :first AND :last GROUP BY bucket"
            ))?;
            for (position, (seq, id, name, tokens)) in found.into_iter().enumerate() {
                trend.keys.push((id, name, tokens));
                if position >= keys_max {
                    continue;
                }
                let names = named_params! { ":key": seq, ":span": span, ":first": first, ":last": last };
                let mut rows = each.query(names)?;
                while let Some(row) = rows.next()? {
                    let bucket = trend.buckets.entry(row.get("bucket")?).or_default();
                    bucket.insert(position, row.get("tokens")?);
                }
            }
            Ok(trend)
        })
    }

    /// What all keys together have used in a period. `with_deleted` says whether keys that are deleted count.
    ///
    /// # Errors
    /// SQLite's.
    pub fn total(&self, period: Period, with_deleted: bool) -> Result<Bill> {
        if with_deleted {
            let mut total = Bill::default();
            self.models(period)?.iter().for_each(|(_, bill)| total.add(bill));
            return Ok(total);
        }
        let (span, bucket) = self.bucket(period);
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT {SUMS} FROM rollups JOIN api_keys ON api_keys.seq = subject
                 WHERE scope = 1 AND span = ?1 AND bucket = ?2 AND deleted_at_ms IS NULL HAVING count(*) > 0"
            ))?;
            let mut rows = statement.query([span, bucket])?;
            Ok(rows.next()?.map(rows::bill).transpose()?.unwrap_or_default())
        })
    }
}
