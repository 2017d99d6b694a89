//! What an admin has set in the pages. The names are those of the configuration file; secrets are sealed.

use super::Store;
use crate::error::{Error, Result};
use crate::model::Sensitive;
use crate::model::time::now_ms;
use rusqlite::{Connection, OpenFlags, OptionalExtension, named_params};
use std::path::Path;

/// One change: a value to be kept, or to be forgotten.
pub struct SettingChange {
    /// Name in the configuration file.
    pub name: &'static str,
    /// As text; `None` forgets it.
    pub value: Option<Sensitive>,
    /// Whether it is sealed.
    pub is_secret: bool,
}

impl Store {
    /// All that was set, by name. A secret that cannot be opened any more is left out.
    ///
    /// # Errors
    /// SQLite's.
    pub fn settings(&self) -> Result<Vec<(String, Sensitive)>> {
        let rows: Vec<(String, String, bool)> = self.read(|db| {
            let mut statement = db.prepare_cached("SELECT name, value, is_sealed FROM settings ORDER BY name")?;
            let rows =
                statement.query_map([], |row| Ok((row.get("name")?, row.get("value")?, row.get("is_sealed")?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })?;
        let mut settings = Vec::new();
        for (name, value, is_sealed) in rows {
            let clear = if is_sealed { self.cipher.open(&value) } else { Ok(value) };
            match clear {
                Ok(clear) => settings.push((name, Sensitive::new(clear))),
                Err(error) => log::error!("the stored setting {name} is left out: it is {error}"),
            }
        }
        Ok(settings)
    }

    /// Makes all the changes or none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn change_settings(&self, changes: &[SettingChange]) -> Result<()> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        for SettingChange { name, value, is_secret } in changes {
            let Some(value) = value else {
                transaction.execute("DELETE FROM settings WHERE name = ?1", [name])?;
                continue;
            };
            let kept = if *is_secret { self.seal(value.expose())? } else { value.expose().to_owned() };
            transaction.execute(
                "INSERT INTO settings (name, value, is_sealed, updated_at_ms) VALUES (:name, :value, :sealed, :now)
                 ON CONFLICT DO UPDATE SET value = excluded.value, is_sealed = excluded.is_sealed,
                     updated_at_ms = excluded.updated_at_ms",
                named_params! { ":name": name, ":value": kept, ":sealed": is_secret, ":now": now_ms() },
            )?;
        }
        transaction.commit()?;
        Ok(())
    }
}

/// A setting that must be known before a store can be opened, and that is no secret. `None` where there is no database yet,
/// or one from before there were settings.
///
/// # Errors
/// SQLite's.
pub fn kept_setting(data_dir: &Path, name: &str) -> Result<Option<String>> {
    let path = data_dir.join("relay.db");
    if !path.exists() {
        return Ok(None);
    }
    let read = || -> rusqlite::Result<Option<String>> {
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        db.busy_timeout(super::BUSY_TIMEOUT)?;
        let table = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'settings'";
        if db.query_row(table, [], |_| Ok(())).optional()?.is_none() {
            return Ok(None);
        }
        let value = "SELECT value FROM settings WHERE name = ?1 AND is_sealed = 0";
        db.query_row(value, [name], |row| row.get("value")).optional()
    };
    read().map_err(|error| Error::internal(format!("cannot read {}", path.display()), error))
}
