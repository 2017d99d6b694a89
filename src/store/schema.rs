//! Migrations, embedded from `schema/`, and the fingerprint that ties a database to its encryption key.

use crate::error::{Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

/// In order; the database's `user_version` says how many have been applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../../schema/0001_initial.sql"),
    include_str!("../../schema/0002_oauth_sessions.sql"),
    include_str!("../../schema/0003_key_windows.sql"),
    include_str!("../../schema/0004_costs.sql"),
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
