//! Migrations, embedded from `schema/`, and the fingerprint that ties a database to its encryption key.

use crate::error::{Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// In order; the database's `user_version` says how many have been applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../../schema/0001_initial.sql"),
    include_str!("../../schema/0002_oauth_sessions.sql"),
    include_str!("../../schema/0003_key_windows.sql"),
    include_str!("../../schema/0004_costs.sql"),
    include_str!("../../schema/0005_key_limits.sql"),
    include_str!("../../schema/0006_standings.sql"),
    include_str!("../../schema/0007_ledger_indexes.sql"),
    include_str!("../../schema/0010_settings.sql"),
];

/// Brings the database to the newest schema, one transaction a step.
///
/// # Errors
/// The database was written by a newer program, or SQLite fails.
pub(super) fn migrate(db: &mut Connection) -> Result<()> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(Error::new(
            Kind::Internal,
            format!("the database has schema version {found}, this program knows {known}: use a newer claude-relay"),
        ));
    }
    for (step, sql) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", step as i64 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Remembers the key's fingerprint at first use, and refuses another key afterwards.
///
/// # Errors
/// The key is not the one that this database's secrets were sealed with.
pub(super) fn check_fingerprint(db: &mut Connection, fingerprint: &str) -> Result<()> {
    let known: Option<String> =
        db.query_row("SELECT value FROM meta WHERE name = 'key_fingerprint'", [], |row| row.get("value")).optional()?;
    match known {
        Some(known) if known == fingerprint => Ok(()),
        Some(_) => Err(Error::new(
            Kind::Internal,
            "the encryption key is not the one this database was made with: \
             set ENCRYPTION_KEY, or put back the file encryption.key that belongs to it",
        )),
        None => {
            db.execute("INSERT INTO meta (name, value) VALUES ('key_fingerprint', ?1)", [fingerprint])?;
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_from_before_there_were_prices_are_kept_and_have_none() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch(MIGRATIONS[0]).unwrap();
        db.pragma_update(None, "user_version", 1).unwrap();
        db.execute_batch(
            "INSERT INTO rollups VALUES (1, 7, 2, 20261123, 'm', 3, 10, 20, 30, 40, 50), (0, 0, 0, 0, 'm', 3, 1, 2, 3, 4, 5)",
        )
        .unwrap();
        migrate(&mut db).unwrap();
        migrate(&mut db).unwrap();
        let kept: (i64, i64, i64, i64) = db
            .query_row(
                "SELECT bucket, cache_read_tokens, unpriced_requests, cost_input FROM rollups WHERE subject = 7",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap();
        assert_eq!(kept, (20_261_123, 50, 3, 0));
    }
}
