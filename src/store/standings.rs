//! How accounts stand, kept over a restart: rests, windows, what happened, and which conversation stays with which account.
//!
//! The relay holds all of it in memory and decides by that. What changes is handed to the ledger's thread, which commits it
//! with the lines; no request waits for it.

use super::Store;
use crate::error::Result;
use crate::model::{AccountEvent, Rest, RestReason, RestSource, Scope, Window};
use rusqlite::{Row, named_params};

/// Events that are kept of one account.
const EVENTS_MAX: i64 = 200;

/// A conversation of one key, as a hash.
pub type Conversation = [u8; 16];

/// Which account a conversation stays with, and when it was last used, Unix milliseconds.
pub type Affinity = (Conversation, i64, i64);

/// What was kept, by the row number of its account.
#[derive(Default)]
pub struct Standings {
    /// Rests, also those that are over.
    pub rests: Vec<(i64, Rest)>,
    /// Windows.
    pub windows: Vec<(i64, Window)>,
    /// Conversations, the last used first.
    pub affinities: Vec<Affinity>,
}

/// Changes a row only while its account exists: it may have been deleted while this waited.
const IF_EXISTS: &str = "WHERE EXISTS (SELECT 1 FROM accounts WHERE seq = :account)";

impl Store {
    /// What was kept. Of the conversations, the `affinities_max` that were used last.
    ///
    /// # Errors
    /// SQLite's.
    pub fn standings(&self, affinities_max: usize) -> Result<Standings> {
        self.read(|db| {
            let rests = db
                .prepare("SELECT * FROM account_rests")?
                .query_map([], |row| Ok((row.get("account_seq")?, rest(row)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let windows = db
                .prepare("SELECT * FROM account_windows")?
                .query_map([], |row| Ok((row.get("account_seq")?, window(row)?)))?
                .collect::<rusqlite::Result<_>>()?;
            let affinities = db
                .prepare("SELECT * FROM affinities ORDER BY used_at_ms DESC LIMIT ?1")?
                .query_map([i64::try_from(affinities_max).unwrap_or(i64::MAX)], |row| {
                    Ok((row.get("conversation")?, row.get("account_seq")?, row.get("used_at_ms")?))
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Standings { rests, windows, affinities })
        })
    }

    /// Keeps a rest, in the place of the one of its scope.
    pub fn keep_rest(&self, account_seq: i64, rest: Rest) {
        self.ledger.aside(move |db| {
            db.prepare_cached(&format!(
                "INSERT OR REPLACE INTO account_rests
                     (account_seq, scope, reason, source, since_ms, until_ms, message, failures)
                 SELECT :account, :scope, :reason, :source, :since, :until, :message, :failures {IF_EXISTS}"
            ))?
            .execute(named_params! {
                ":account": account_seq, ":scope": rest.scope.as_str(), ":reason": rest.reason.as_str(),
                ":source": rest.source.as_str(), ":since": rest.since_ms, ":until": rest.until_ms,
                ":message": rest.message, ":failures": rest.failures,
            })
            .map(drop)
        });
    }

    /// Forgets the rests of an account: all, or those of the given scopes.
    pub fn forget_rests(&self, account_seq: i64, scopes: Option<Vec<Scope>>) {
        self.ledger.aside(move |db| {
            let Some(scopes) = &scopes else {
                return db.execute("DELETE FROM account_rests WHERE account_seq = ?1", [account_seq]).map(drop);
            };
            for scope in scopes {
                db.prepare_cached("DELETE FROM account_rests WHERE account_seq = ?1 AND scope = ?2")?
                    .execute((account_seq, scope.as_str()))?;
            }
            Ok(())
        });
    }

    /// Keeps what an answer said of the vendor's windows.
    pub fn keep_windows(&self, account_seq: i64, windows: Vec<Window>) {
        self.ledger.aside(move |db| {
            for window in &windows {
                db.prepare_cached(&format!(
                    "INSERT OR REPLACE INTO account_windows
                         (account_seq, name, utilization, status, reset_at_ms, seen_at_ms)
                     SELECT :account, :name, :utilization, :status, :reset, :seen {IF_EXISTS}"
                ))?
                .execute(named_params! {
                    ":account": account_seq, ":name": window.name, ":utilization": window.utilization,
                    ":status": window.status, ":reset": window.reset_at_ms, ":seen": window.seen_at_ms,
                })?;
            }
            Ok(())
        });
    }

    /// Keeps which account a conversation stays with.
    pub fn keep_affinity(&self, (conversation, account_seq, used_at_ms): Affinity) {
        self.ledger.aside(move |db| {
            db.prepare_cached(&format!(
                "INSERT OR REPLACE INTO affinities (conversation, account_seq, used_at_ms)
                 SELECT :conversation, :account, :used {IF_EXISTS}"
            ))?
            .execute(named_params! { ":conversation": conversation, ":account": account_seq, ":used": used_at_ms })
            .map(drop)
        });
    }

    /// Removes conversations that were not used since an instant, and the oldest past `affinities_max`. Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prune_affinities(&self, before_ms: i64, affinities_max: usize) -> Result<usize> {
        let db = self.write();
        let old = db.execute("DELETE FROM affinities WHERE used_at_ms < ?1", [before_ms])?;
        let more = db.execute(
            "DELETE FROM affinities WHERE conversation IN
                 (SELECT conversation FROM affinities ORDER BY used_at_ms DESC LIMIT -1 OFFSET ?1)",
            [i64::try_from(affinities_max).unwrap_or(i64::MAX)],
        )?;
        Ok(old + more)
    }

    /// Notes what happened to an account.
    pub fn note_account_event(&self, account_seq: i64, event: AccountEvent) {
        self.ledger.aside(move |db| {
            db.prepare_cached(&format!(
                "INSERT INTO account_events (account_seq, at_ms, kind, reason, scope, until_ms, source, status, message)
                 SELECT :account, :at, :kind, :reason, :scope, :until, :source, :status, :message {IF_EXISTS}"
            ))?
            .execute(named_params! {
                ":account": account_seq, ":at": event.at_ms, ":kind": event.kind, ":reason": event.reason,
                ":scope": event.scope, ":until": event.until_ms, ":source": event.source, ":status": event.status,
                ":message": event.message,
            })?;
            db.prepare_cached(
                "DELETE FROM account_events WHERE account_seq = :account AND id <=
                     (SELECT id FROM account_events WHERE account_seq = :account ORDER BY id DESC LIMIT 1 OFFSET :kept)",
            )?
            .execute(named_params! { ":account": account_seq, ":kept": EVENTS_MAX })
            .map(drop)
        });
    }

    /// What happened to an account, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn account_events(&self, account_seq: i64, limit: i64) -> Result<Vec<AccountEvent>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM account_events WHERE account_seq = ?1 ORDER BY id DESC LIMIT ?2")?;
            let found = statement.query_map([account_seq, limit], |row| {
                Ok(AccountEvent {
                    at_ms: row.get("at_ms")?,
                    kind: row.get("kind")?,
                    reason: row.get("reason")?,
                    scope: row.get("scope")?,
                    until_ms: row.get("until_ms")?,
                    source: row.get("source")?,
                    status: row.get("status")?,
                    message: row.get("message")?,
                })
            })?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// What an account has cost on the local day of an instant, pico-dollars.
    ///
    /// # Errors
    /// SQLite's.
    pub fn account_cost_of_day(&self, account_seq: i64, at_ms: i64) -> Result<i64> {
        let (span, bucket) = self.bucket(super::Period::Day(at_ms));
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT coalesce(sum(cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search), 0)
                 FROM rollups WHERE scope = 2 AND span = ?1 AND bucket = ?2 AND subject = ?3",
            )?;
            Ok(statement.query_row([span, bucket, account_seq], |row| row.get(0))?)
        })
    }
}

/// What a newer program may have written reads as a pause that any success ends.
fn rest(row: &Row<'_>) -> rusqlite::Result<Rest> {
    let (reason, source, scope): (String, String, String) = (row.get("reason")?, row.get("source")?, row.get("scope")?);
    Ok(Rest {
        reason: RestReason::parse(&reason).unwrap_or(RestReason::Unreachable),
        scope: Scope::parse(&scope),
        since_ms: row.get("since_ms")?,
        until_ms: row.get("until_ms")?,
        source: RestSource::parse(&source).unwrap_or(RestSource::Guess),
        message: row.get("message")?,
        failures: row.get("failures")?,
    })
}

fn window(row: &Row<'_>) -> rusqlite::Result<Window> {
    Ok(Window {
        name: row.get("name")?,
        utilization: row.get("utilization")?,
        status: row.get("status")?,
        reset_at_ms: row.get("reset_at_ms")?,
        seen_at_ms: row.get("seen_at_ms")?,
    })
}
