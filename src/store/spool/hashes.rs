//! The original's index of keys, from hash to identifier. It is the only way in which the original finds a key: what a key's
//! record says of its hash is worth nothing beside it.

use super::Spool;
use crate::error::Result;
use crate::model::secret::sign;
use rusqlite::params;

const BY_ID: &str = "CREATE INDEX hashes_by_id ON hashes (id)";
/// Keys that are found under another hash than that of their record get the one of the index; of several the first.
const FOUND: &str = "
    UPDATE keys SET record = json_set(record, '$.hash', (SELECT min(hash) FROM hashes WHERE hashes.id = keys.id))
    WHERE id IN (SELECT id FROM hashes)
        AND NOT EXISTS (SELECT 1 FROM hashes WHERE hash = record ->> '$.hash' AND hashes.id = keys.id)";
/// Keys that nothing finds, though they have a hash and were not deleted.
const REFUSED: &str = "
    UPDATE keys SET record = json_set(record, '$.is_active', json('false'))
    WHERE id NOT IN (SELECT id FROM hashes) AND record ->> '$.hash' IS NOT NULL
        AND record ->> '$.deleted_at_ms' IS NULL";
/// Keys whose hash is that of another key. Each is looked up by itself: joined, the two tables are compared row by row.
const TAKEN: &str = "
    SELECT id FROM
        (SELECT id, (SELECT hashes.id FROM hashes WHERE hash = record ->> '$.hash') AS owner FROM keys)
    WHERE owner <> id AND owner IN (SELECT id FROM keys)";
const SEVERAL: &str = "
    SELECT count(*) FROM (SELECT 1 FROM hashes WHERE id IN (SELECT id FROM keys) GROUP BY id HAVING count(*) > 1)";

/// What the index made of the keys, as counts of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Indexed {
    /// Switched off, for the original did not find them.
    pub refused: usize,
    /// Found under another hash than that of their record.
    pub found: usize,
    /// Found under several hashes, of which a key has one here.
    pub several: usize,
}

impl Spool {
    /// Keeps an entry of the index.
    ///
    /// # Errors
    /// SQLite's.
    pub fn add_hash(&mut self, hash: &str, id: &str) -> Result<()> {
        self.db.prepare_cached("INSERT OR REPLACE INTO hashes VALUES (?1, ?2)")?.execute([hash, id])?;
        self.added()
    }

    /// Lets the index win over the records of the keys. A source without an index changes nothing.
    ///
    /// # Errors
    /// SQLite's.
    pub fn apply_index(&mut self, pepper: &str) -> Result<Indexed> {
        if !self.db.prepare("SELECT 1 FROM hashes")?.exists([])? {
            return Ok(Indexed::default());
        }
        self.db.execute_batch(BY_ID)?;
        let found = self.db.execute(FOUND, [])?;
        let refused = self.db.execute(REFUSED, [])?;
        let taken: Vec<String> =
            self.db.prepare(TAKEN)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        for id in taken {
            // A hash that is of no key's text, for which each has one of its own here.
            let hash = hex::encode(sign(pepper.as_bytes(), format!("no text:{id}").as_bytes()));
            let sql = "UPDATE keys SET record = json_set(record, '$.hash', ?2) WHERE id = ?1";
            self.db.prepare_cached(sql)?.execute(params![id, hash])?;
        }
        let several: i64 = self.db.query_row(SEVERAL, [], |row| row.get(0))?;
        Ok(Indexed { refused, found, several: usize::try_from(several).unwrap_or_default() })
    }

    /// The names of keys that have no hash.
    ///
    /// # Errors
    /// SQLite's.
    pub fn hashless(&self, each: &mut dyn FnMut(&str)) -> Result<()> {
        let sql = "SELECT record ->> '$.name' FROM keys WHERE record ->> '$.hash' IS NULL";
        let mut statement = self.db.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(&row.get::<_, String>(0)?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{machine_steps, steps::TABLES};
    use super::*;
    use rusqlite::Connection;

    /// What a statement costs for so many keys that the index all has.
    fn steps(sql: &str, count: i64) -> i64 {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(TABLES).unwrap();
        for number in 0..count {
            let (id, hash) = (format!("key-{number}"), format!("{:064x}", number * 7919));
            let record = format!(r#"{{"name":"a","hash":"{hash}"}}"#);
            db.execute("INSERT INTO keys VALUES (?1, 0, ?2)", [&id, &record]).unwrap();
            db.execute("INSERT INTO hashes VALUES (?1, ?2)", [&hash, &id]).unwrap();
        }
        db.execute_batch(BY_ID).unwrap();
        machine_steps(&db, sql)
    }

    #[test]
    fn the_index_of_ten_times_the_keys_costs_ten_times_as_much() {
        for sql in [FOUND, REFUSED, TAKEN, SEVERAL] {
            let (few, many) = (steps(sql, 200), steps(sql, 2000));
            assert!(few > 0 && many < 15 * few, "{few} and {many} steps: {sql}");
        }
    }
}
