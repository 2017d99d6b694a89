//! Where a key's window began, and what the ledger says was used in it.

use super::Store;
use crate::error::Result;
use rusqlite::{OptionalExtension, named_params};

/// What a key has used of a window.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WindowUse {
    /// The window's first request, Unix milliseconds.
    pub start_ms: i64,
    /// Requests that have come.
    pub requests: i64,
    /// Tokens of all kinds that were reported.
    pub tokens: i64,
}

impl Store {
    /// The window that a key began last, with what the ledger has of it; `None` if it began none since `since_ms`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn window_use(&self, key_seq: i64, since_ms: i64) -> Result<Option<WindowUse>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT start_ms FROM key_windows WHERE key_seq = ?1 AND start_ms > ?2")?;
            let start: Option<i64> = statement.query_row([key_seq, since_ms], |row| row.get("start_ms")).optional()?;
            let Some(start_ms) = start else { return Ok(None) };
            let mut statement = db.prepare_cached(
                "SELECT count(*) AS requests, coalesce(sum(input_tokens + output_tokens + cache_creation_5m_tokens
                     + cache_creation_1h_tokens + cache_read_tokens), 0) AS tokens
                 FROM ledger WHERE key_seq = :key AND at_ms >= :start",
            )?;
            let found = statement.query_row(named_params! { ":key": key_seq, ":start": start_ms }, |row| {
                Ok(WindowUse { start_ms, requests: row.get("requests")?, tokens: row.get("tokens")? })
            });
            Ok(Some(found?))
        })
    }

    /// Notes that a key's window begins.
    ///
    /// # Errors
    /// SQLite's.
    pub fn begin_window(&self, key_seq: i64, start_ms: i64) -> Result<()> {
        self.write().execute(
            "INSERT INTO key_windows (key_seq, start_ms) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET start_ms = excluded.start_ms",
            [key_seq, start_ms],
        )?;
        Ok(())
    }
}
