//! Reading everything for an export: one state of the database, on a connection of its own, so that nobody waits for it.

use super::{Store, connect, rows};
use crate::error::{Error, Result};
use crate::model::{ApiKey, Sensitive, Usage};
use rusqlite::{Connection, OptionalExtension};
use std::collections::HashSet;

/// The use of a key or of all, ordered by whom and when: the rollups lie in another order, so they are copied once.
const TABLE: &str = "
    CREATE TEMP TABLE export_usage (subject INTEGER NOT NULL, span INTEGER NOT NULL, bucket INTEGER NOT NULL,
        model TEXT NOT NULL, requests INTEGER NOT NULL, input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL,
        cache_creation_5m_tokens INTEGER NOT NULL, cache_creation_1h_tokens INTEGER NOT NULL,
        cache_read_tokens INTEGER NOT NULL, PRIMARY KEY (subject, span, bucket, model)) WITHOUT ROWID;
    BEGIN";
const COPY: &str = "INSERT INTO export_usage
    SELECT iif(scope = 0, 0, subject), span, bucket, model, requests, input_tokens, output_tokens,
        cache_creation_5m_tokens, cache_creation_1h_tokens, cache_read_tokens
    FROM main.rollups WHERE scope < 2 AND (span < 3 OR bucket >= ?1)";

/// A key with the hash that it is known by.
pub struct ExportedKey {
    /// The key.
    pub key: ApiKey,
    /// Its hash.
    pub hash: String,
    /// Whether the hash was made with the pepper that was asked for.
    pub is_usable: bool,
}

/// One sum: span, bucket and model as in the rollups.
pub struct ExportedUsage {
    /// 0 all time, 1 month, 2 day, 3 hour.
    pub span: i64,
    /// 0, `yyyymm`, `yyyymmdd`, or the Unix second at which the hour began.
    pub bucket: i64,
    /// The model.
    pub model: String,
    /// What was used.
    pub usage: Usage,
}

/// One state of the database, being read.
pub struct Exporter {
    db: Connection,
    /// Origins whose pepper is the one that was asked for; `None` stands for this relay.
    usable: HashSet<Option<i64>>,
}

impl Store {
    /// Begins an export. `pepper` is the encryption key of where it will go, by which keys are usable there; hours before
    /// `hours_from` (Unix seconds) are left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn exporter(&self, pepper: Option<&str>, hours_from: i64) -> Result<Exporter> {
        let db = connect(&self.path, "NORMAL")?;
        db.execute_batch(TABLE)?;
        db.execute(COPY, [hours_from])?;
        let mut usable = HashSet::new();
        if pepper == Some(self.pepper.as_str()) {
            usable.insert(None);
        }
        for known in self.peppers().iter().filter(|known| pepper == Some(known.pepper.expose())) {
            usable.insert(Some(known.origin));
        }
        Ok(Exporter { db, usable })
    }

    /// The password that the original's form asked for; it is used for nothing and kept for the way back.
    ///
    /// # Errors
    /// It cannot be decrypted; SQLite's.
    pub fn account_password(&self, id: &str) -> Result<Option<Sensitive>> {
        let sealed: Option<String> = self.read(|db| {
            let mut statement = db.prepare_cached("SELECT password FROM accounts WHERE id = ?1")?;
            Ok(statement.query_row([id], |row| row.get("password")).optional()?)
        })?;
        let clear = self.cipher.open(sealed.as_deref().unwrap_or_default());
        let clear = clear.map_err(|error| Error::internal("a password cannot be decrypted", error.to_string()))?;
        Ok(Some(clear).filter(|clear| !clear.is_empty()).map(Sensitive::new))
    }
}

impl Exporter {
    /// All keys that are not deleted, oldest first.
    ///
    /// # Errors
    /// SQLite's; `each`'s.
    pub fn keys(&self, each: &mut dyn FnMut(&ExportedKey) -> Result<()>) -> Result<()> {
        let mut statement = self.db.prepare(
            "SELECT api_keys.*, origin FROM api_keys LEFT JOIN imported_hashes USING (key_hash)
             WHERE deleted_at_ms IS NULL ORDER BY seq",
        )?;
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let origin: Option<i64> = row.get("origin")?;
            let is_usable = self.usable.contains(&origin);
            each(&ExportedKey { key: rows::api_key(row)?, hash: row.get("key_hash")?, is_usable })?;
        }
        Ok(())
    }

    /// What a key has used, or, for 0, all keys together; in the order of span, bucket and model.
    ///
    /// # Errors
    /// SQLite's; `each`'s.
    pub fn usage(&self, key_seq: i64, each: &mut dyn FnMut(ExportedUsage) -> Result<()>) -> Result<()> {
        let mut statement = self
            .db
            .prepare_cached("SELECT * FROM temp.export_usage WHERE subject = ?1 ORDER BY span, bucket, model")?;
        let mut found = statement.query([key_seq])?;
        while let Some(row) = found.next()? {
            each(ExportedUsage {
                span: row.get("span")?,
                bucket: row.get("bucket")?,
                model: row.get("model")?,
                usage: rows::usage(row)?,
            })?;
        }
        Ok(())
    }
}
