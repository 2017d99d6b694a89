//! Which limits of keys an admin was told of as reached.

use super::Store;
use crate::error::Result;
use rusqlite::{OptionalExtension, named_params};

/// A limit that was reached: a key has one entry for each name, the last.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ToldLimit {
    /// The key's row number.
    pub key_seq: i64,
    /// Which limit.
    pub name: &'static str,
    /// What it allows: pico-dollars, or a count.
    pub allowed: i64,
    /// The end of the span that it was reached in, Unix milliseconds; `None` = none.
    pub ends_at_ms: Option<i64>,
}

impl ToldLimit {
    /// What there is one entry of: the key and the limit's name.
    pub fn place(&self) -> (i64, &'static str) {
        (self.key_seq, self.name)
    }
}

impl Store {
    /// Whether this was told.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_limit_told(&self, limit: &ToldLimit) -> Result<bool> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT 1 FROM told_limits
                 WHERE key_seq = :key AND name = :name AND allowed = :allowed AND ends_at_ms IS :ends",
            )?;
            let named = named_params! {
                ":key": limit.key_seq, ":name": limit.name, ":allowed": limit.allowed, ":ends": limit.ends_at_ms,
            };
            Ok(statement.query_row(named, |_| Ok(())).optional()?.is_some())
        })
    }

    /// Notes that this was told, in place of what was told of the same limit before.
    ///
    /// # Errors
    /// SQLite's.
    pub fn note_limit_told(&self, limit: &ToldLimit) -> Result<()> {
        self.write().execute(
            "INSERT INTO told_limits (key_seq, name, allowed, ends_at_ms) VALUES (:key, :name, :allowed, :ends)
             ON CONFLICT DO UPDATE SET allowed = excluded.allowed, ends_at_ms = excluded.ends_at_ms",
            named_params! {
                ":key": limit.key_seq, ":name": limit.name, ":allowed": limit.allowed, ":ends": limit.ends_at_ms,
            },
        )?;
        Ok(())
    }

    /// Forgets those whose span has ended by an instant. Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prune_told_limits(&self, now_ms: i64) -> Result<usize> {
        Ok(self.write().execute("DELETE FROM told_limits WHERE ends_at_ms <= ?1", [now_ms])?)
    }
}
