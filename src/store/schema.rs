//! Migrations, embedded from `schema/`, and the fingerprint that ties a database to its encryption key.

use super::snapshot;
use crate::error::{Error, Kind, Result};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};
use std::path::Path;

/// In order; the database's `user_version` says how many have been applied.
const MIGRATIONS: &[&str] = &[
    include_str!("../../schema/0001_initial.sql"),
    include_str!("../../schema/0002_oauth_sessions.sql"),
    include_str!("../../schema/0003_key_windows.sql"),
    include_str!("../../schema/0004_costs.sql"),
    include_str!("../../schema/0005_key_limits.sql"),
    include_str!("../../schema/0006_standings.sql"),
    include_str!("../../schema/0007_ledger_indexes.sql"),
    include_str!("../../schema/0008_key_sums.sql"),
    include_str!("../../schema/0009_imported_keys.sql"),
    include_str!("../../schema/0010_settings.sql"),
    include_str!("../../schema/0011_told_limits.sql"),
    include_str!("../../schema/0012_unlisted_requests.sql"),
    include_str!("../../schema/0013_refresh_in_doubt.sql"),
];

/// The newest schema that this program knows.
pub(super) fn known_version() -> i64 {
    MIGRATIONS.len() as i64
}

/// Brings the database to the newest schema, one transaction a step, after a snapshot of how it was.
///
/// # Errors
/// The database was written by a newer program, or SQLite fails.
pub(super) fn migrate(db: &mut Connection, data_dir: &Path) -> Result<()> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = known_version();
    if found > known {
        return Err(Error::new(
            Kind::Internal,
            format!("the database has schema version {found}, this program knows {known}: use a newer claude-relay"),
        ));
    }
    if (1..known).contains(&found) {
        snapshot::before_upgrade(db, data_dir, found)?;
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
        let folder = std::env::temp_dir().join(format!("claude-relay-schema-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        migrate(&mut db, &folder).unwrap();
        migrate(&mut db, &folder).unwrap();
        let snapshots: Vec<_> = std::fs::read_dir(folder.join("backups")).unwrap().collect();
        assert_eq!(snapshots.len(), 1, "one upgrade, one snapshot");
        let kept = Connection::open(snapshots[0].as_ref().unwrap().path()).unwrap();
        let version: i64 = kept.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        std::fs::remove_dir_all(&folder).unwrap();
        let kept: (i64, i64, i64, i64) = db
            .query_row(
                "SELECT bucket, cache_read_tokens, unpriced_requests, cost_input FROM rollups WHERE subject = 7",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .unwrap();
        assert_eq!(kept, (20_261_123, 50, 3, 0));
    }

    #[test]
    fn sums_of_keys_are_made_from_the_rollups_and_follow_them() {
        let mut db = Connection::open_in_memory().unwrap();
        for sql in &MIGRATIONS[..7] {
            db.execute_batch(sql).unwrap();
        }
        db.pragma_update(None, "user_version", 7).unwrap();
        let add = |db: &Connection, more: i64| {
            for (scope, subject) in [(0, 0), (1, 7), (1, 8), (2, 7)] {
                for (span, bucket) in [(0, 0), (1, 202_611), (2, 20_261_123), (3, 1_795_392_000)] {
                    for model in ["a", "b"] {
                        let sums: Vec<String> = (0..12).map(|column| (more + column).to_string()).collect();
                        db.execute_batch(&format!(
                            "INSERT INTO rollups VALUES ({scope}, {subject}, {span}, {bucket}, '{model}', {})
                             ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
                                 output_tokens = output_tokens + excluded.output_tokens,
                                 cost_input = cost_input + excluded.cost_input",
                            sums.join(", ")
                        ))
                        .unwrap();
                    }
                }
            }
        };
        add(&db, 1);
        let folder = std::env::temp_dir().join(format!("claude-relay-sums-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        migrate(&mut db, &folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        add(&db, 100);
        let sums = "sum(requests), sum(input_tokens), sum(output_tokens), sum(cache_creation_5m_tokens),
            sum(cache_creation_1h_tokens), sum(cache_read_tokens), sum(cost_input), sum(cost_output),
            sum(cost_cache_write), sum(cost_cache_read), sum(cost_web_search), sum(unpriced_requests)";
        let tokens = "sum(input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
            + cache_read_tokens),
            sum(cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search)";
        let rows = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
        assert_eq!((rows("SELECT count(*) FROM key_sums"), rows("SELECT count(*) FROM key_use")), (4, 4));
        let rollups = "FROM rollups WHERE scope = 1 AND span";
        for (kept, computed) in [
            (
                "SELECT * FROM key_sums".to_owned(),
                format!("SELECT span, bucket, subject, {sums} {rollups} < 2 GROUP BY 1, 2, 3"),
            ),
            (
                "SELECT * FROM key_use".to_owned(),
                format!("SELECT span, subject, bucket, {tokens} {rollups} > 1 GROUP BY 1, 2, 3"),
            ),
        ] {
            for sql in [format!("{kept} EXCEPT {computed}"), format!("{computed} EXCEPT {kept}")] {
                assert_eq!(rows(&format!("SELECT count(*) FROM ({sql})")), 0, "{sql}");
            }
        }
    }
}
