//! The prices in force: the repository's table and, beside it, the download that is kept so that a restart has it too.

use super::Store;
use crate::error::{Error, Result};
use crate::model::PriceTable;
use rusqlite::{Connection, OptionalExtension, Row};
use serde_json::Value;
use std::sync::{Arc, PoisonError};

/// Where the download is kept: its instant in Unix milliseconds, a line feed, its text.
const META: &str = "fetched_prices";
/// When the admin's own prices were changed last, Unix milliseconds.
const OVERRIDES_META: &str = "price_overrides_changed_at";

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
        // Under the writer's lock, as every change of the table: none is lost.
        let db = self.write();
        let table = self.prices().with_fetched(json.as_bytes(), at_ms).map_err(unusable)?;
        db.execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            (META, format!("{at_ms}\n{json}")),
        )?;
        let names = table.names();
        self.put_in_force(table);
        Ok(names)
    }

    /// Puts prices of the admin's own in force, or takes them away (`None`). Lines that are written already keep their cost.
    ///
    /// # Errors
    /// `NotFound`: there is none to be taken away; `Invalid`: one is wrong; SQLite's. Nothing is changed then.
    pub fn change_overrides(&self, changes: &[(String, Option<Value>)], now_ms: i64) -> Result<()> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        for (model, rates) in changes {
            let changed = match rates {
                None => transaction.execute("DELETE FROM price_overrides WHERE model = ?1", [model])?,
                Some(rates) => transaction.execute(
                    "INSERT INTO price_overrides (model, rates, updated_at_ms) VALUES (?1, ?2, ?3)
                     ON CONFLICT DO UPDATE SET rates = excluded.rates, updated_at_ms = excluded.updated_at_ms",
                    (model, rates.to_string(), now_ms),
                )?,
            };
            if changed == 0 {
                return Err(Error::not_found(format!("There is no override of {model}")));
            }
        }
        let changed_at_ms = changed_at_ms(&transaction)?.map_or(now_ms, |last| now_ms.max(last + 1));
        transaction.execute(
            "INSERT INTO meta (name, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
            (OVERRIDES_META, changed_at_ms.to_string()),
        )?;
        let all = overrides(&transaction)?;
        let table = self.prices().with_overrides(&all, changed_at_ms);
        let table = table.map_err(|fault| Error::invalid(fault.to_string()))?;
        transaction.commit()?;
        self.put_in_force(table);
        Ok(())
    }

    /// Models that were used without a price since a local day (`yyyymmdd`): requests and the last day, most requests first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn unpriced_models(&self, since_day: i64, limit: usize) -> Result<Vec<(String, i64, i64)>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT model, sum(unpriced_requests) AS requests, max(bucket) AS last_day FROM rollups
                 WHERE scope = 0 AND subject = 0 AND span = 2 AND bucket >= ?1 AND unpriced_requests > 0
                 GROUP BY model ORDER BY requests DESC, model LIMIT ?2",
            )?;
            let read = |row: &Row<'_>| Ok((row.get("model")?, row.get("requests")?, row.get("last_day")?));
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            Ok(statement.query_map([since_day, limit], read)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    fn put_in_force(&self, table: PriceTable) {
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }
}

/// When the overrides were changed last, Unix milliseconds.
fn changed_at_ms(db: &Connection) -> Result<Option<i64>> {
    let kept: Option<String> =
        db.query_row("SELECT value FROM meta WHERE name = ?1", [OVERRIDES_META], |row| row.get("value")).optional()?;
    Ok(kept.and_then(|kept| kept.parse().ok()))
}

/// The admin's own prices.
fn overrides(db: &Connection) -> Result<Vec<(String, Value)>> {
    let mut statement = db.prepare_cached("SELECT model, rates FROM price_overrides ORDER BY model")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let rates: String = row.get("rates")?;
        found.push((row.get("model")?, serde_json::from_str(&rates).unwrap_or_default()));
    }
    Ok(found)
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
    let table = fetched.unwrap_or(own);
    let (overrides, changed_at_ms) = (overrides(db)?, changed_at_ms(db)?.unwrap_or_default());
    table.with_overrides(&overrides, changed_at_ms).or_else(|fault| {
        log::error!("the stored prices of the admin are left out: {fault}");
        Ok(table)
    })
}
