//! The life of an API key: its first use, a new clear text, deletion and the way back from it, and the end of its record.

use super::{Store, rows};
use crate::error::{Error, Result};
use crate::model::ApiKey;
use crate::model::time::now_ms;
use rusqlite::OptionalExtension;

fn no_key() -> Error {
    Error::not_found("API key not found")
}

impl Store {
    /// Notes when a key that lives from its first use was used first. A later call changes nothing.
    ///
    /// # Errors
    /// SQLite's.
    pub fn activate_key(&self, key_seq: i64, at_ms: i64) -> Result<()> {
        self.write()
            .prepare_cached("UPDATE api_keys SET activated_at_ms = ?2 WHERE seq = ?1 AND activated_at_ms IS NULL")?
            .execute([key_seq, at_ms])?;
        Ok(())
    }

    /// Takes a key out of service. Its record and its bill stay. Gives back its name.
    ///
    /// # Errors
    /// No such key; SQLite's.
    pub fn delete_key(&self, id: &str) -> Result<String> {
        let sql = "UPDATE api_keys SET deleted_at_ms = ?2 WHERE id = ?1 AND deleted_at_ms IS NULL RETURNING name";
        let name = self.write().query_row(sql, (id, now_ms()), |row| row.get("name")).optional()?;
        name.ok_or_else(no_key)
    }

    /// Puts a deleted key back into service, with its clear text, its limits and its bill. Gives back its name.
    ///
    /// # Errors
    /// No such key, or it is purged; it is not deleted; SQLite's.
    pub fn restore_key(&self, id: &str) -> Result<String> {
        let sql = "UPDATE api_keys SET deleted_at_ms = NULL, updated_at_ms = ?2
             WHERE id = ?1 AND deleted_at_ms IS NOT NULL AND purged_at_ms IS NULL RETURNING name";
        let name = self.write().query_row(sql, (id, now_ms()), |row| row.get("name")).optional()?;
        match name {
            Some(name) => Ok(name),
            None if self.key_by_id(id)?.is_some() => Err(Error::invalid("API key is not deleted")),
            None => Err(no_key()),
        }
    }

    /// Gives a key a new clear text; the old one is worth nothing from now on. Gives back the new one, which is kept nowhere,
    /// and the record.
    ///
    /// # Errors
    /// No such key; SQLite's.
    pub fn rotate_key(&self, prefix: &str, id: &str) -> Result<(String, ApiKey)> {
        let (clear, hash) = self.new_clear_key(prefix)?;
        let changed = self.write().execute(
            "UPDATE api_keys SET key_hash = ?2, updated_at_ms = ?3 WHERE id = ?1 AND deleted_at_ms IS NULL",
            (id, hash, now_ms()),
        )?;
        if changed == 0 {
            return Err(no_key());
        }
        let key = self.key_by_id(id)?.ok_or_else(no_key)?;
        Ok((clear, key))
    }

    /// The deleted keys that can be restored, the last deleted first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn deleted_keys(&self) -> Result<Vec<ApiKey>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT * FROM api_keys WHERE deleted_at_ms IS NOT NULL AND purged_at_ms IS NULL
                 ORDER BY deleted_at_ms DESC, seq DESC",
            )?;
            let keys = statement.query_map([], rows::api_key)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(keys)
        })
    }

    /// Ends the records of keys that were deleted up to an instant: their hashes and all that was set on them go. Row number,
    /// id and name stay, because the ledger and the statistics refer to them. Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn purge_keys(&self, until_ms: i64) -> Result<usize> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        // No hash is written like that, and each must be another.
        let purged = transaction.execute(
            "UPDATE api_keys SET key_hash = 'purged ' || id, purged_at_ms = ?2, description = '', is_active = 0,
                 claude_account_id = '', enable_model_restriction = 0, restricted_models = '[]', allowed_models = '[]',
                 tags = '[]'
             WHERE deleted_at_ms <= ?1 AND purged_at_ms IS NULL",
            [until_ms, now_ms()],
        )?;
        if purged > 0 {
            for table in ["key_windows", "told_limits"] {
                let sql = format!(
                    "DELETE FROM {table} WHERE key_seq IN (SELECT seq FROM api_keys WHERE purged_at_ms IS NOT NULL)"
                );
                transaction.execute(&sql, [])?;
            }
        }
        transaction.commit()?;
        Ok(purged)
    }
}
