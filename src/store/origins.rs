//! Installations of the original that were moved here: their peppers, with which the keys they issued go on working.

use super::Store;
use crate::error::{Error, Result};
use crate::model::Sensitive;
use rusqlite::{Connection, OptionalExtension};
use std::sync::{Arc, PoisonError};

/// Installations that can be moved into one relay. Each costs a look-up for a key that nobody knows.
pub(super) const ORIGINS_MAX: usize = 8;

/// What an installation mixed into the hashes of its keys.
pub(super) struct Pepper {
    /// Row number of the origin.
    pub(super) origin: i64,
    /// Its encryption key.
    pub(super) pepper: Sensitive,
}

impl Store {
    /// Whether keys were moved here. They begin as their installation had it, so that only a look-up can tell.
    pub fn has_moved_keys(&self) -> bool {
        !self.peppers().is_empty()
    }

    /// The peppers of all origins. Cheap: the list is shared, not copied.
    pub(super) fn peppers(&self) -> Arc<Vec<Pepper>> {
        Arc::clone(&self.peppers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the peppers anew. Called under the writer's lock.
    pub(super) fn reload_peppers(&self, db: &Connection) -> Result<()> {
        let mut statement = db.prepare("SELECT id, pepper FROM origins ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut peppers = Vec::new();
        while let Some(row) = rows.next()? {
            let sealed: String = row.get("pepper")?;
            let clear = self.cipher.open(&sealed).map_err(|error| {
                Error::internal("the pepper of keys that were moved here cannot be decrypted", error.to_string())
            })?;
            peppers.push(Pepper { origin: row.get("id")?, pepper: Sensitive::new(clear) });
        }
        *self.peppers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(peppers);
        Ok(())
    }

    /// The origin with an encryption key, if it was moved here before.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn origin(db: &Connection, fingerprint: &str) -> Result<Option<i64>> {
        let sql = "SELECT id FROM origins WHERE fingerprint = ?1";
        Ok(db.query_row(sql, [fingerprint], |row| row.get("id")).optional()?)
    }
}
