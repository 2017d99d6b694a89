//! The prices in force: the repository's table and, beside it, the download that is kept so that a restart has it too.

use super::Store;
use crate::error::{Error, Result};
use crate::model::PriceTable;
use rusqlite::{Connection, OptionalExtension};
use std::sync::{Arc, PoisonError};

/// Where the download is kept: its instant in Unix milliseconds, a line feed, its text.
const META: &str = "fetched_prices";

impl Store {
    /// The prices that the next line is priced by. Cheap: the table is shared, not copied.
    pub fn prices(&self) -> Arc<PriceTable> {
        Arc::clone(&self.prices.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts downloaded prices in force and keeps them. Lines that are written already keep their cost. Gives back how many
    /// names have a price now.
    ///
    /// # Errors
    /// The download cannot be used, and then the prices stay as they are; SQLite's.
    pub fn take_fetched_prices(&self, json: &str, at_ms: i64) -> Result<usize> {
        let unusable = |fault| Error::internal("the downloaded prices cannot be used", fault);
        let json = PriceTable::claude_part(json.as_bytes()).map_err(unusable)?;
        let table = self.prices().with_fetched(json.as_bytes(), at_ms).map_err(unusable)?;
        self.write().execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            (META, format!("{at_ms}\n{json}")),
        )?;
        let names = table.names();
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        Ok(names)
    }
}

/// The repository's prices with the download of an earlier run. One that cannot be read any more is left out: the next
/// download replaces it.
pub(super) fn stored(db: &Connection) -> Result<PriceTable> {
    let own = PriceTable::own().map_err(|fault| Error::internal("the price table of this program", fault))?;
    let kept: Option<String> =
        db.query_row("SELECT value FROM meta WHERE name = ?1", [META], |row| row.get("value")).optional()?;
    let fetched = kept.as_deref().and_then(|kept| {
        let (at_ms, json) = kept.split_once('\n')?;
        own.with_fetched(json.as_bytes(), at_ms.parse().ok()?).ok()
    });
    Ok(fetched.unwrap_or(own))
}
