//! Where a key's window began, and what was used in it: what the ledger says, and how many requests it knows nothing of.

use super::Store;
use crate::error::Result;
use rusqlite::{OptionalExtension, Row, named_params};

/// What a key has used of a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WindowUse {
    /// The window's first request, Unix milliseconds.
    pub start_ms: i64,
    /// Requests that have come.
    pub requests: i64,
    /// Tokens of all kinds that were reported.
    pub tokens: i64,
    /// What they cost, pico-dollars; what has no price costs nothing.
    pub cost: i64,
}

/// What ledger lines add to a window. A line without a price has no costs at all.
const USED: &str = "coalesce(sum(input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
        + cache_read_tokens), 0) AS tokens,
    coalesce(sum(cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search), 0) AS cost";

fn window(row: &Row<'_>) -> rusqlite::Result<WindowUse> {
    Ok(WindowUse {
        start_ms: row.get("start_ms")?,
        requests: row.get("requests")?,
        tokens: row.get("tokens")?,
        cost: row.get("cost")?,
    })
}

impl Store {
    /// The window that a key began last, with what the ledger has of it; `None` if it began none since `since_ms`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn window_use(&self, key_seq: i64, since_ms: i64) -> Result<Option<WindowUse>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT start_ms, unlisted FROM key_windows WHERE key_seq = ?1 AND start_ms > ?2")?;
            let begun = |row: &Row<'_>| Ok((row.get("start_ms")?, row.get("unlisted")?));
            let begun: Option<(i64, i64)> = statement.query_row([key_seq, since_ms], begun).optional()?;
            let Some((start_ms, unlisted)) = begun else { return Ok(None) };
            let mut statement = db.prepare_cached(&format!(
                "SELECT :start AS start_ms, count(*) + :unlisted AS requests, {USED}
                 FROM ledger WHERE key_seq = :key AND at_ms >= :start"
            ))?;
            let named = named_params! { ":key": key_seq, ":start": start_ms, ":unlisted": unlisted };
            Ok(Some(statement.query_row(named, window)?))
        })
    }

    /// The windows of all keys that are not over at `now_ms`, by row number, with what the ledger has of them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn windows_use(&self, now_ms: i64) -> Result<Vec<(i64, WindowUse)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(&format!(
                "SELECT seq, start_ms, count(ledger.id) + unlisted AS requests, {USED}
                 FROM api_keys JOIN key_windows ON key_windows.key_seq = seq
                 LEFT JOIN ledger ON ledger.key_seq = seq AND ledger.at_ms >= start_ms
                 WHERE deleted_at_ms IS NULL AND rate_limit_window > 0
                     AND start_ms > :now - rate_limit_window * 60000
                 GROUP BY seq"
            ))?;
            let found = statement
                .query_map(named_params! { ":now": now_ms }, |row| Ok((row.get("seq")?, window(row)?)))?
                .collect::<rusqlite::Result<_>>()?;
            Ok(found)
        })
    }

    /// Forgets the windows that were over at `now_ms`. Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prune_windows(&self, now_ms: i64) -> Result<usize> {
        let removed = self.write().execute(
            "DELETE FROM key_windows WHERE start_ms <= ?1 - 60000 *
                 (SELECT rate_limit_window FROM api_keys WHERE seq = key_seq)",
            [now_ms],
        )?;
        Ok(removed)
    }

    /// Notes that a key's window begins.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin_window(&self, key_seq: i64, start_ms: i64) -> Result<()> {
        self.write().execute(
            "INSERT INTO key_windows (key_seq, start_ms) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET start_ms = excluded.start_ms, unlisted = 0",
            [key_seq, start_ms],
        )?;
        Ok(())
    }

    /// Keeps that a request counts in the window that a key began at `start_ms`, though it will have no ledger line. Nobody
    /// waits for that.
    pub fn count_unlisted(&self, key_seq: i64, start_ms: i64) {
        self.ledger.aside(move |db| {
            db.prepare_cached("UPDATE key_windows SET unlisted = unlisted + 1 WHERE key_seq = ?1 AND start_ms = ?2")?
                .execute([key_seq, start_ms])
                .map(drop)
        });
    }
}
