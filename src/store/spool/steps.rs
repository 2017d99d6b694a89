//! The SQL that turns what was read into the relay's sums, step by step. What was counted of an origin before is part of the
//! picture, so that nothing counts twice, whatever its source has forgotten or tells apart now.

/// `hashes`: the index of keys. `raw`: what was read, as it was read. `ranks`: the keys in the order in which they will be
/// written, found by their row number here too: a later import looks up each sum of an earlier one by it. `stage`: the sums
/// as the relay has them; `rest` marks those that the original did not count by model. `final`: what each sum is, and what
/// of it is new, priced. `growth`: by how much each key (kind 1), each sum of all (0) and each bucket of all keys (2) grows,
/// for the comparison afterwards.
pub(super) const TABLES: &str = "
    CREATE TABLE keys (id TEXT PRIMARY KEY, created_at_ms INTEGER NOT NULL, record TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE hashes (hash TEXT PRIMARY KEY, id TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE raw (subject TEXT NOT NULL, span INTEGER NOT NULL, bucket INTEGER NOT NULL, model TEXT NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, d INTEGER NOT NULL, e INTEGER NOT NULL,
        PRIMARY KEY (subject, span, bucket, model)) STRICT, WITHOUT ROWID;
    CREATE TABLE ranks (rank INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, seq INTEGER UNIQUE) STRICT;
    CREATE TABLE stage (scope INTEGER NOT NULL, rank INTEGER NOT NULL, model TEXT NOT NULL, rest INTEGER NOT NULL,
        span INTEGER NOT NULL, bucket INTEGER NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, d INTEGER NOT NULL, e INTEGER NOT NULL,
        PRIMARY KEY (scope, rank, model, rest, span, bucket)) STRICT, WITHOUT ROWID;
    CREATE TABLE final (scope INTEGER NOT NULL, span INTEGER NOT NULL, bucket INTEGER NOT NULL, rank INTEGER NOT NULL,
        model TEXT NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, d INTEGER NOT NULL, e INTEGER NOT NULL,
        na INTEGER NOT NULL, nb INTEGER NOT NULL, nc INTEGER NOT NULL, nd INTEGER NOT NULL, ne INTEGER NOT NULL,
        cost_input INTEGER NOT NULL, cost_output INTEGER NOT NULL, cost_cache_write INTEGER NOT NULL,
        cost_cache_read INTEGER NOT NULL, unpriced INTEGER NOT NULL,
        PRIMARY KEY (scope, span, bucket, rank, model)) STRICT, WITHOUT ROWID;
    CREATE TABLE growth (kind INTEGER NOT NULL, x INTEGER NOT NULL, y INTEGER NOT NULL, z TEXT NOT NULL,
        a INTEGER NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, d INTEGER NOT NULL, e INTEGER NOT NULL) STRICT;
    BEGIN";

/// What was counted of this origin before counts as read: its records may have ended by their age there since.
pub(super) const SEED: &str = "
    INSERT INTO raw
    SELECT coalesce(known.id, ''), span, bucket, model, requests, input_tokens, output_tokens, cache_creation_tokens,
        cache_read_tokens
    FROM relay.imported_usage AS i LEFT JOIN relay.api_keys AS known ON known.seq = i.subject AND i.scope = 1
    WHERE origin = ?1 AND span > 0 AND model <> 'unknown' AND (i.scope = 0 OR known.id IN (SELECT id FROM keys))
    ON CONFLICT DO UPDATE SET a = max(a, excluded.a), b = max(b, excluded.b), c = max(c, excluded.c),
        d = max(d, excluded.d), e = max(e, excluded.e)";

/// What keys used beyond their models in buckets that the source has forgotten since counts as it was.
pub(super) const FORGOTTEN: &str = "
    INSERT INTO stage
    SELECT 1, rank, 'unknown', 1, span, bucket, requests, input_tokens, output_tokens, cache_creation_tokens,
        cache_read_tokens
    FROM relay.imported_usage AS i JOIN ranks ON ranks.seq = i.subject
    WHERE origin = ?1 AND i.scope = 1 AND i.span > 0 AND i.model = 'unknown' AND ranks.id <> ?2
        AND ranks.id IN (SELECT id FROM keys) AND NOT EXISTS (SELECT 1 FROM raw WHERE raw.subject = ranks.id
            AND raw.span = i.span AND raw.bucket = i.bucket AND raw.model IN ('', 'unknown'))";

/// Keys of this origin that this source does not have: an export leaves out those that were deleted.
pub(super) const ABSENT: &str = "
    INSERT INTO ranks (id, seq)
    SELECT id, seq FROM relay.api_keys
    WHERE seq IN (SELECT subject FROM relay.imported_usage WHERE origin = ?1 AND scope = 1)
        AND id NOT IN (SELECT id FROM keys)";
pub(super) const USED_BY_ABSENT: &str = "
    INSERT INTO stage
    SELECT 1, rank, model, model = 'unknown', span, bucket, requests, input_tokens, output_tokens, cache_creation_tokens,
        cache_read_tokens
    FROM relay.imported_usage AS i JOIN ranks ON ranks.seq = i.subject
    WHERE origin = ?1 AND i.scope = 1 AND ranks.id NOT IN (SELECT id FROM keys)";

/// What was not told apart before, by model or by deleted key, and may be now.
pub(super) const RESTS: &str = "
    INSERT INTO stage
    SELECT 1, rank, 'unknown', 1, i.span, i.bucket, 0, 0, 0, 0, 0
    FROM relay.imported_usage AS i JOIN ranks ON ranks.seq = i.subject
    WHERE origin = ?1 AND i.scope = 1 AND i.model = 'unknown' AND (ranks.id = ?2 OR EXISTS (SELECT 1 FROM raw
        WHERE raw.subject = ranks.id AND raw.span = i.span AND raw.bucket = i.bucket AND raw.model = ''))
    ON CONFLICT DO NOTHING";
/// The same of all keys together, in buckets of which anything is known.
pub(super) const RESTS_OF_ALL: &str = "
    INSERT INTO stage
    SELECT 0, 0, 'unknown', 1, span, bucket, 0, 0, 0, 0, 0
    FROM relay.imported_usage
    WHERE origin = ?1 AND scope = 0 AND model = 'unknown'
        AND (span, bucket) IN (SELECT span, bucket FROM stage WHERE scope = 0)
    ON CONFLICT DO NOTHING";

/// The steps from what was read to the sums of keys. Requests, input, output, cache writes and cache reads are a to e.
pub(super) const OF_KEYS: [&str; 4] = [
    // What the original counted by key and model.
    "INSERT INTO stage SELECT 1, rank, model, 0, span, bucket, a, b, c, d, e
     FROM raw JOIN ranks ON ranks.id = raw.subject WHERE span > 0 AND model <> ''",
    // What it counted by key only, beyond that.
    "INSERT INTO stage
     SELECT 1, rank, 'unknown', 1, span, bucket,
         max(0, sum(iif(model = '', a, -a))), max(0, sum(iif(model = '', b, -b))), max(0, sum(iif(model = '', c, -c))),
         max(0, sum(iif(model = '', d, -d))), max(0, sum(iif(model = '', e, -e)))
     FROM raw JOIN ranks ON ranks.id = raw.subject WHERE span > 0 GROUP BY raw.subject, span, bucket
     HAVING sum(iif(model = '', a, -a)) > 0 OR sum(iif(model = '', b, -b)) > 0 OR sum(iif(model = '', c, -c)) > 0
         OR sum(iif(model = '', d, -d)) > 0 OR sum(iif(model = '', e, -e)) > 0",
    // All time by model: the months, as far as they are kept.
    "INSERT INTO stage SELECT 1, rank, model, rest, 0, 0, sum(a), sum(b), sum(c), sum(d), sum(e)
     FROM stage WHERE scope = 1 AND span = 1 GROUP BY rank, model, rest",
    // All time beyond the months that are kept.
    "INSERT INTO stage
     SELECT 1, rank, 'unknown', 1, 0, 0, max(0, sum(a)), max(0, sum(b)), max(0, sum(c)), max(0, sum(d)), max(0, sum(e))
     FROM (SELECT rank, a, b, c, d, e FROM raw JOIN ranks ON ranks.id = raw.subject WHERE span = 0
         UNION ALL SELECT rank, -a, -b, -c, -d, -e FROM stage WHERE scope = 1 AND span = 0)
     GROUP BY rank HAVING sum(a) > 0 OR sum(b) > 0 OR sum(c) > 0 OR sum(d) > 0 OR sum(e) > 0
     ON CONFLICT DO UPDATE SET a = a + excluded.a, b = b + excluded.b, c = c + excluded.c, d = d + excluded.d,
         e = e + excluded.e",
];

/// The steps to the sums of all keys together.
pub(super) const OF_ALL: [&str; 6] = [
    // What the original counted by model, for all keys together.
    "INSERT INTO stage SELECT 0, 0, model, 0, span, bucket, a, b, c, d, e FROM raw WHERE subject = '' AND model <> ''",
    // Never less than its keys together. What has no model may be here under the name of one, so it is none of them.
    "INSERT INTO stage SELECT 0, 0, model, 0, span, bucket, sum(a), sum(b), sum(c), sum(d), sum(e)
     FROM stage WHERE scope = 1 AND rest = 0 AND model <> 'unknown' GROUP BY model, span, bucket
     ON CONFLICT DO UPDATE SET a = max(a, excluded.a), b = max(b, excluded.b), c = max(c, excluded.c),
         d = max(d, excluded.d), e = max(e, excluded.e)",
    // What keys used beyond that, by hours, days and months.
    "INSERT INTO stage
     SELECT 0, 0, 'unknown', 1, span, bucket, max(0, sum(a)), max(0, sum(b)), max(0, sum(c)), max(0, sum(d)),
         max(0, sum(e))
     FROM (SELECT span, bucket, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, sum(e) AS e
             FROM stage WHERE scope = 1 AND span > 0 GROUP BY span, bucket
         UNION ALL SELECT span, bucket, -a, -b, -c, -d, -e FROM stage WHERE scope = 0 AND span > 0)
     GROUP BY span, bucket HAVING sum(a) > 0 OR sum(b) > 0 OR sum(c) > 0 OR sum(d) > 0 OR sum(e) > 0",
    // All time: the months, when none of them is too small any more, and what keys used beyond these.
    "INSERT INTO stage SELECT 0, 0, model, rest, 0, 0, sum(a), sum(b), sum(c), sum(d), sum(e)
     FROM stage WHERE scope = 0 AND span = 1 GROUP BY model, rest
     ON CONFLICT DO UPDATE SET a = max(a, excluded.a), b = max(b, excluded.b), c = max(c, excluded.c),
         d = max(d, excluded.d), e = max(e, excluded.e)",
    "INSERT INTO stage
     SELECT 0, 0, 'unknown', 1, 0, 0, max(0, sum(a)), max(0, sum(b)), max(0, sum(c)), max(0, sum(d)), max(0, sum(e))
     FROM (SELECT a, b, c, d, e FROM stage WHERE scope = 1 AND span = 0
         UNION ALL SELECT -a, -b, -c, -d, -e FROM stage WHERE scope = 0 AND span = 0)
     HAVING sum(a) > 0 OR sum(b) > 0 OR sum(c) > 0 OR sum(d) > 0 OR sum(e) > 0
     ON CONFLICT DO UPDATE SET a = a + excluded.a, b = b + excluded.b, c = c + excluded.c, d = d + excluded.d,
         e = e + excluded.e",
    // What is in no key any more belongs to keys that were deleted: one stands for them all.
    "INSERT INTO stage
     SELECT 1, -1, 'unknown', 1, span, bucket, max(0, sum(a)), max(0, sum(b)), max(0, sum(c)), max(0, sum(d)),
         max(0, sum(e))
     FROM (SELECT span, bucket, a, b, c, d, e FROM stage WHERE scope = 0 AND span < 3
         UNION ALL SELECT span, bucket, -a, -b, -c, -d, -e FROM stage WHERE scope = 1 AND span < 3)
     GROUP BY span, bucket HAVING sum(a) > 0 OR sum(b) > 0 OR sum(c) > 0 OR sum(d) > 0 OR sum(e) > 0",
];

/// Every sum with what of it was added before: hours, days, months and all time of a model follow one another.
pub(super) const SUMS: &str = "
    SELECT s.scope, s.rank, s.model, s.span, s.bucket, s.a, s.b, s.c, s.d, s.e,
        coalesce(i.requests, 0), coalesce(i.input_tokens, 0), coalesce(i.output_tokens, 0),
        coalesce(i.cache_creation_tokens, 0), coalesce(i.cache_read_tokens, 0)
    FROM (SELECT scope, rank, model, span, bucket, sum(a) AS a, sum(b) AS b, sum(c) AS c, sum(d) AS d, sum(e) AS e
            FROM stage GROUP BY scope, rank, model, span, bucket) AS s
        LEFT JOIN ranks ON ranks.rank = s.rank AND s.scope = 1
        LEFT JOIN relay.imported_usage AS i ON i.origin = ?1 AND i.scope = s.scope AND i.span = s.span
            AND i.bucket = s.bucket AND i.subject = iif(s.scope = 0, 0, ranks.seq) AND i.model = s.model
    ORDER BY s.scope, s.rank, s.model, s.span DESC, s.bucket";

/// Sums of the source that are not wholly among those that were worked out from it.
pub(super) const MISSING: &str = "
    SELECT count(*) FROM raw
        LEFT JOIN ranks ON ranks.id = raw.subject
        LEFT JOIN (
            SELECT scope, rank, span, bucket, iif(scope = 1, '', model) AS model, sum(a) AS a, sum(b) AS b, sum(c) AS c,
                sum(d) AS d, sum(e) AS e
            FROM stage WHERE scope = 0 AND span > 0 OR scope = 1 AND span = 0 GROUP BY 1, 2, 3, 4, 5) AS s
        ON s.scope = (raw.subject <> '') AND s.rank = iif(raw.subject = '', 0, ranks.rank) AND s.span = raw.span
            AND s.bucket = raw.bucket AND s.model = raw.model
    WHERE (raw.subject = '' AND raw.model <> '' OR raw.subject <> '' AND raw.span = 0)
        AND (raw.a > coalesce(s.a, 0) OR raw.b > coalesce(s.b, 0) OR raw.c > coalesce(s.c, 0)
            OR raw.d > coalesce(s.d, 0) OR raw.e > coalesce(s.e, 0))";

pub(super) const GROWTH: [&str; 3] = [
    "INSERT INTO growth SELECT 1, rank, 0, '', sum(na), sum(nb), sum(nc), sum(nd), sum(ne)
     FROM final WHERE scope = 1 AND span = 0 GROUP BY rank",
    "INSERT INTO growth SELECT 0, span, bucket, model, na, nb, nc, nd, ne FROM final WHERE scope = 0",
    "INSERT INTO growth SELECT 2, span, bucket, '', sum(na), sum(nb), sum(nc), sum(nd), sum(ne)
     FROM final WHERE scope = 1 AND span > 0 GROUP BY span, bucket",
];

#[cfg(test)]
mod tests {
    use super::super::machine_steps;
    use super::*;
    use crate::store::schema;
    use rusqlite::Connection;

    /// What each step costs for keys that were all imported before; the source has half of them still.
    fn costs(count: i64) -> Vec<(&'static str, i64)> {
        let folder = std::env::temp_dir().join(format!("claude-relay-steps-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("relay.db");
        schema::migrate(&mut Connection::open(&path).unwrap(), &folder).unwrap();
        let db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "foreign_keys", false).unwrap();
        db.execute("ATTACH ?1 AS relay", [path.to_string_lossy()]).unwrap();
        db.execute_batch(TABLES).unwrap();
        for number in 1..=count {
            let id = format!("key-{number}");
            let sql =
                "INSERT INTO relay.api_keys (seq, id, key_hash, name, description, token_limit, concurrency_limit,
                    rate_limit_window, rate_limit_requests, is_active, claude_account_id, enable_model_restriction,
                    restricted_models, created_at_ms, expires_at)
                VALUES (?1, ?2, ?2, ?2, '', 0, 0, 0, 0, 1, '', 0, '[]', 0, '')";
            db.execute(sql, (number, &id)).unwrap();
            for (span, bucket) in [(0, 0), (1, 202_611), (2, 20_261_123)] {
                for model in ["m", "unknown"] {
                    let sql = "INSERT INTO relay.imported_usage VALUES (1, 1, ?1, ?2, ?3, ?4, 1, 1, 1, 1, 1)";
                    db.execute(sql, (number, span, bucket, model)).unwrap();
                }
                if number % 2 == 0 {
                    let sql = "INSERT INTO raw VALUES (?1, ?2, ?3, '', 2, 2, 2, 2, 2)";
                    db.execute(sql, (&id, span, bucket)).unwrap();
                }
            }
            if number % 2 == 0 {
                db.execute("INSERT INTO keys VALUES (?1, 0, '{}')", [&id]).unwrap();
                db.execute("INSERT INTO ranks (id, seq) VALUES (?1, ?2)", (&id, number)).unwrap();
            }
        }
        let mut steps = vec![ABSENT, SEED, FORGOTTEN];
        steps.extend(OF_KEYS);
        steps.push(USED_BY_ABSENT);
        steps.extend(OF_ALL);
        steps.extend([RESTS, RESTS_OF_ALL, MISSING, SUMS]);
        let costs = steps.into_iter().map(|sql| (sql, machine_steps(&db, sql))).collect();
        std::fs::remove_dir_all(&folder).unwrap();
        costs
    }

    #[test]
    fn a_second_import_of_ten_times_the_keys_costs_ten_times_as_much() {
        for ((sql, few), (_, many)) in costs(100).into_iter().zip(costs(1000)) {
            assert!(many < 15 * few.max(100), "{few} and {many} steps: {sql}");
        }
    }
}
