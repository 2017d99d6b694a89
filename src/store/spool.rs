//! A database beside the real one, for as long as an import runs: what was read waits here in bounded memory, and here the
//! sums to be written are worked out, so that the import's one transaction has nothing left to do but write.
//!
//! It holds no secret in the clear, and loses nothing by being lost: a leftover is removed at the next start.

mod hashes;
mod steps;

pub use hashes::Indexed;

use super::Store;
use crate::error::{Error, Kind, Result};
use crate::model::moved::{MovedKey, MovedUsage};
use crate::model::remarks::Failure;
use crate::model::time::parse;
use crate::model::{Cost, PriceTable, Tokens, Usage};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::HashMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use steps::{
    ABSENT, FORGOTTEN, GROWTH, MISSING, OF_ALL, OF_KEYS, RESTS, RESTS_OF_ALL, SEED, SUMS, TABLES, USED_BY_ABSENT,
};

/// Its file in the data folder.
const FILE: &str = "migration.spool";
/// Page cache, in KiB.
const CACHE_KIB: i64 = 16 * 1024;
/// Records of one transaction of the spool, which costs no sync.
const BATCH_RECORDS: usize = 10_000;
/// The model of what the original did not count by model.
const UNKNOWN: &str = "unknown";

/// The database of one import.
pub struct Spool {
    db: Connection,
    path: PathBuf,
    in_batch: usize,
}

/// One sum on its way to `final`.
struct Sum {
    scope: i64,
    rank: i64,
    model: String,
    span: i64,
    bucket: i64,
    all: [i64; 5],
    new: [i64; 5],
}

/// What the months of one model and one subject come to.
#[derive(Default)]
struct Months {
    of: Option<(i64, i64, String)>,
    cost: Cost,
    requests: i64,
    unpriced: i64,
}

impl Spool {
    /// Removes what a killed import has left.
    pub(super) fn remove_leftover(data_dir: &Path) -> Result<()> {
        for ending in ["", "-journal", "-wal", "-shm"] {
            let path = data_dir.join(format!("{FILE}{ending}"));
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::internal(format!("cannot remove {}", path.display()), error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Makes an empty one beside the store's database.
    ///
    /// # Errors
    /// The disk's, SQLite's.
    pub fn create(store: &Store) -> Result<Spool> {
        let folder = store.path.parent().unwrap_or(Path::new("."));
        Spool::remove_leftover(folder)?;
        let path = folder.join(FILE);
        let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path);
        file.map_err(|error| Error::internal(format!("cannot make {}", path.display()), error))?;
        let db = Connection::open(&path)?;
        db.pragma_update(None, "journal_mode", "OFF")?;
        db.pragma_update(None, "synchronous", "OFF")?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.execute("ATTACH DATABASE ?1 AS relay", [store.path.to_string_lossy()])?;
        db.busy_timeout(super::BUSY_TIMEOUT)?;
        db.execute_batch(TABLES)?;
        Ok(Spool { db, path, in_batch: 0 })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a key. Of one that is read twice the last counts.
    ///
    /// # Errors
    /// SQLite's.
    pub fn add_key(&mut self, key: &MovedKey) -> Result<()> {
        let record = serde_json::to_string(key).map_err(|error| Error::internal("a key cannot be spooled", error))?;
        self.db.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3)")?.execute(params![
            key.id,
            key.created_at_ms,
            record
        ])?;
        self.added()
    }

    /// Keeps a sum. Of one that is read twice the last counts.
    ///
    /// # Errors
    /// SQLite's.
    pub fn add_usage(&mut self, moved: &MovedUsage) -> Result<()> {
        let Usage { requests, tokens } = &moved.usage;
        self.db.prepare_cached("INSERT OR REPLACE INTO raw VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(
            params![
                moved.key_id,
                moved.span,
                moved.bucket,
                moved.model,
                requests,
                tokens.input,
                tokens.output,
                tokens.cache_creation(),
                tokens.cache_read
            ],
        )?;
        self.added()
    }

    fn added(&mut self) -> Result<()> {
        self.in_batch += 1;
        if self.in_batch >= BATCH_RECORDS {
            self.in_batch = 0;
            self.db.execute_batch("COMMIT; BEGIN")?;
        }
        Ok(())
    }

    /// How many keys and how many sums were read.
    ///
    /// # Errors
    /// SQLite's.
    pub fn counts(&self) -> Result<(i64, i64)> {
        let sql = "SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM raw)";
        Ok(self.db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?)
    }

    /// Whether a key with this hash was read.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_hash(&self, hash: &str) -> Result<bool> {
        let sql = "SELECT 1 FROM keys WHERE record ->> '$.hash' = ?1";
        Ok(self.db.query_row(sql, [hash], |_| Ok(())).optional()?.is_some())
    }

    /// Identifiers of keys that are known by what they used alone: they were deleted.
    ///
    /// # Errors
    /// SQLite's.
    pub fn orphans(&self) -> Result<Vec<String>> {
        let sql = "SELECT DISTINCT subject FROM raw WHERE subject <> '' AND subject NOT IN (SELECT id FROM keys)";
        let mut statement = self.db.prepare(sql)?;
        let found = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        Ok(found)
    }

    /// Works out the sums to be written. `goes_on` is asked between the steps. `lost` is the key that stands for all that
    /// were deleted without a trace; it is kept only if there were any. Gives back how many sums are new or have grown.
    ///
    /// # Errors
    /// SQLite's; `goes_on`'s.
    pub fn prepare(
        &mut self,
        fingerprint: &str,
        prices: &Arc<PriceTable>,
        lost: &MovedKey,
        goes_on: &dyn Fn() -> Result<()>,
    ) -> Result<i64> {
        let rank = "INSERT INTO ranks (id, seq)
            SELECT keys.id, seq FROM keys LEFT JOIN relay.api_keys AS known ON known.id = keys.id";
        let find = "SELECT id FROM relay.origins WHERE fingerprint = ?1";
        let origin: Option<i64> = self.db.query_row(find, [fingerprint], |row| row.get(0)).optional()?;
        let origin = origin.unwrap_or(0);
        if self.db.prepare("SELECT 1 FROM relay.api_keys WHERE id = ?1")?.exists([&lost.id])? {
            self.add_key(lost)?;
        }
        self.db.execute(&format!("{rank} ORDER BY keys.created_at_ms, keys.id"), [])?;
        self.db.execute(ABSENT, [origin])?;
        self.db.execute(SEED, [origin])?;
        self.db.execute(FORGOTTEN, params![origin, lost.id])?;
        for step in OF_KEYS {
            goes_on()?;
            self.db.execute(step, [])?;
        }
        self.db.execute(USED_BY_ABSENT, [origin])?;
        for step in OF_ALL {
            goes_on()?;
            self.db.execute(step, [])?;
        }
        self.place_lost(lost, rank)?;
        self.db.execute(RESTS, params![origin, lost.id])?;
        self.db.execute(RESTS_OF_ALL, [origin])?;
        let missing: i64 = self.db.query_row(MISSING, [], |row| row.get(0))?;
        if missing > 0 {
            let problem = format!("{missing} sums of the source would be less here than there");
            return Err(Error::saying(Kind::Internal, Failure::TakenBack { problem }));
        }
        let grown = self.price(origin, prices, goes_on)?;
        for step in GROWTH {
            self.db.execute(step, [])?;
        }
        self.db.execute_batch("COMMIT")?;
        Ok(grown)
    }

    /// Gives the key that stands for the lost ones its rank, if it has any use.
    fn place_lost(&mut self, lost: &MovedKey, rank: &str) -> Result<()> {
        if !self.db.prepare("SELECT 1 FROM stage WHERE rank = -1")?.exists([])? {
            return Ok(());
        }
        if !self.db.prepare("SELECT 1 FROM ranks WHERE id = ?1")?.exists([&lost.id])? {
            self.add_key(lost)?;
            self.db.execute(&format!("{rank} WHERE keys.id = ?1"), [&lost.id])?;
        }
        let sql = "UPDATE stage SET rank = (SELECT rank FROM ranks WHERE id = ?1) WHERE rank = -1";
        self.db.execute(sql, [&lost.id])?;
        Ok(())
    }

    fn price(&self, origin: i64, prices: &PriceTable, goes_on: &dyn Fn() -> Result<()>) -> Result<i64> {
        let mut statement = self.db.prepare(SUMS)?;
        let mut rows = statement.query([origin])?;
        let mut insert = self.db.prepare(
            "INSERT INTO final VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18,
                 ?19, ?20)",
        )?;
        let (mut months, mut grown) = (Months::default(), 0);
        let mut starts: HashMap<(i64, i64), i64> = HashMap::new();
        while let Some(row) = rows.next()? {
            let sum = sum(row)?;
            if sum.new == [0; 5] {
                continue;
            }
            let at_ms = *starts.entry((sum.span, sum.bucket)).or_insert_with(|| start_ms(sum.span, sum.bucket));
            let (cost, unpriced) = months.bill(&sum, at_ms, prices);
            let Sum { scope, rank, model, span, bucket, all, new } = sum;
            insert.execute(params![
                scope,
                span,
                bucket,
                rank,
                model,
                all[0],
                all[1],
                all[2],
                all[3],
                all[4],
                new[0],
                new[1],
                new[2],
                new[3],
                new[4],
                cost.input,
                cost.output,
                cost.cache_write,
                cost.cache_read,
                unpriced
            ])?;
            grown += 1;
            if grown % BATCH_RECORDS as i64 == 0 {
                goes_on()?;
            }
        }
        Ok(grown)
    }
}

/// What a statement costs, in steps of SQLite's machine. Its parameters are all 1.
#[cfg(test)]
fn machine_steps(db: &Connection, sql: &str) -> i64 {
    let mut statement = db.prepare(sql).unwrap();
    for parameter in 1..=statement.parameter_count() {
        statement.raw_bind_parameter(parameter, 1).unwrap();
    }
    let mut rows = statement.raw_query();
    while rows.next().unwrap().is_some() {}
    drop(rows);
    i64::from(statement.get_status(rusqlite::StatementStatus::VmStep))
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The name goes now, the file when its last connection closes.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            log::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

fn sum(row: &Row<'_>) -> rusqlite::Result<Sum> {
    let mut all = [0; 5];
    let mut new = [0; 5];
    let is_rest = row.get_ref(2)?.as_str()? == UNKNOWN;
    for column in 0..5 {
        let (now, before): (i64, i64) = (row.get(5 + column)?, row.get(10 + column)?);
        // What has become less was removed there by its age, and stays here; but what was not told apart by model and is
        // now must not count twice.
        all[column] = if is_rest { now } else { now.max(before) };
        new[column] = all[column] - before;
    }
    Ok(Sum {
        scope: row.get(0)?,
        rank: row.get(1)?,
        model: row.get(2)?,
        span: row.get(3)?,
        bucket: row.get(4)?,
        all,
        new,
    })
}

/// When a bucket began, Unix milliseconds: its sum is priced by that instant.
fn start_ms(span: i64, bucket: i64) -> i64 {
    let date = |year: i64, month: i64, day: i64| parse(&format!("{year:04}-{month:02}-{day:02}")).unwrap_or_default();
    match span {
        1 => date(bucket / 100, bucket % 100, 1),
        2 => date(bucket / 10_000, bucket / 100 % 100, bucket % 100),
        _ => bucket.saturating_mul(1000),
    }
}

impl Months {
    /// What a sum costs, and how many of its requests have no price. All time costs what its months cost, so that no two
    /// reports differ.
    fn bill(&mut self, sum: &Sum, at_ms: i64, prices: &PriceTable) -> (Cost, i64) {
        let of = (sum.scope, sum.rank, sum.model.clone());
        if self.of.as_ref() != Some(&of) {
            *self = Months { of: Some(of), ..Months::default() };
        }
        if sum.span == 0 {
            return (self.cost, self.unpriced + sum.new[0] - self.requests);
        }
        let tokens = Tokens {
            input: sum.new[1],
            output: sum.new[2],
            cache_creation_5m: sum.new[3],
            cache_creation_1h: 0,
            cache_read: sum.new[4],
        };
        let priced = if sum.model == UNKNOWN { None } else { prices.cost_of_sum(&sum.model, at_ms, &tokens) };
        let unpriced = if priced.is_none() { sum.new[0] } else { 0 };
        let cost = priced.unwrap_or_default();
        if sum.span == 1 {
            self.cost.add(&cost);
            self.requests += sum.new[0];
            self.unpriced += unpriced;
        }
        (cost, unpriced)
    }
}
