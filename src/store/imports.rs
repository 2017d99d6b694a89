//! Writing an import: everything in one transaction, read back and compared before it commits. A failure or a kill at any
//! moment leaves the database as it was.

use super::{Spool, Store, origins};
use crate::error::{Error, Kind as Fault, Result};
use crate::model::moved::{LaterKey, MovedAccount, MovedAdmin, MovedKey};
use crate::model::remarks::{Failure, Reason};
use crate::model::tally::{Kind, Tally};
use crate::model::time::now_ms;
use crate::model::{Proxy, Sensitive};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params, params};

/// What stands in the place of a hash for a key of which only the bill is left. No SHA-256 begins so.
const GONE: &str = "gone:";

/// What is to be written.
pub struct Import<'a> {
    /// Keys and sums, prepared.
    pub spool: &'a Spool,
    /// Accounts.
    pub accounts: &'a [MovedAccount],
    /// Admins.
    pub admins: &'a [MovedAdmin],
    /// The fingerprint of the original's encryption key.
    pub fingerprint: &'a str,
    /// The original's encryption key, the pepper of its keys.
    pub encryption_key: &'a str,
    /// Do everything and take it back.
    pub is_dry_run: bool,
}

impl Store {
    /// Writes an import, verifies it and commits. `goes_on` is asked between the steps, the last time just before the
    /// commit.
    ///
    /// # Errors
    /// What was read back is not what was to be written; `goes_on`'s; SQLite's. Nothing has changed then.
    pub fn import(&self, import: &Import<'_>, tally: &mut Tally, goes_on: &dyn Fn(Step) -> Result<()>) -> Result<()> {
        let mut db = self.write();
        db.execute("ATTACH DATABASE ?1 AS spool", [import.spool.path().to_string_lossy()])?;
        let done = self.import_attached(&mut db, import, tally, goes_on);
        if let Err(error) = db.execute("DETACH DATABASE spool", []) {
            log::warn!("the spool of an import could not be detached: {error}");
        }
        done?;
        self.reload_peppers(&db)?;
        self.reload_roster(&db)
    }

    fn import_attached(
        &self,
        db: &mut Connection,
        import: &Import<'_>,
        tally: &mut Tally,
        goes_on: &dyn Fn(Step) -> Result<()>,
    ) -> Result<()> {
        goes_on(Step::Writing)?;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(TABLES)?;
        transaction.execute(&format!("INSERT INTO temp.import_used {USED}"), [])?;
        let origin = self.write_origin(&transaction, import)?;
        write_keys(&transaction, origin, tally)?;
        goes_on(Step::Writing)?;
        let accounts = self.write_accounts(&transaction, import, tally)?;
        write_admins(&transaction, import, tally)?;
        tally.of(Kind::Usage).written = write_usage(&transaction, origin)?;
        goes_on(Step::Verifying)?;
        verify_usage(&transaction, tally)?;
        verify_keys(&transaction, tally)?;
        self.verify_accounts(&transaction, &accounts, tally)?;
        verify_admins(&transaction, import, tally)?;
        transaction.execute_batch("DROP TABLE temp.import_seqs; DROP TABLE temp.import_used")?;
        goes_on(Step::Committing)?;
        if import.is_dry_run {
            transaction.rollback()?
        } else {
            transaction.commit()?
        }
        Ok(())
    }

    fn write_origin(&self, db: &Connection, import: &Import<'_>) -> Result<i64> {
        if let Some(origin) = Store::origin(db, import.fingerprint)? {
            return Ok(origin);
        }
        let known: i64 = db.query_row("SELECT count(*) FROM origins", [], |row| row.get(0))?;
        if known >= origins::ORIGINS_MAX as i64 {
            return Err(Error::saying(Fault::Invalid, Failure::ManyOrigins { max: origins::ORIGINS_MAX }));
        }
        db.execute(
            "INSERT INTO origins (fingerprint, pepper, imported_at_ms) VALUES (?1, ?2, ?3)",
            params![import.fingerprint, self.seal(import.encryption_key)?, now_ms()],
        )?;
        Ok(db.last_insert_rowid())
    }

    /// Gives back those that were not here before.
    fn write_accounts<'a>(
        &self,
        db: &Connection,
        import: &Import<'a>,
        tally: &mut Tally,
    ) -> Result<Vec<&'a MovedAccount>> {
        let mut written = Vec::new();
        for account in import.accounts {
            let known = "SELECT 1 FROM accounts WHERE id = ?1";
            if db.prepare_cached(known)?.exists([&account.id])? {
                tally.skip(Kind::Accounts, Reason::Here, &account.name);
                continue;
            }
            self.insert_account(db, account)?;
            tally.of(Kind::Accounts).written += 1;
            written.push(account);
        }
        Ok(written)
    }

    fn insert_account(&self, db: &Connection, account: &MovedAccount) -> Result<()> {
        let seal = |secret: &Sensitive| self.seal(secret.expose());
        let proxy = account.proxy.as_ref().map(Proxy::to_stored).unwrap_or_default();
        db.execute(
            "INSERT INTO accounts (id, name, description, kind, account_type, is_active, schedulable, priority, status,
                 error_message, email, password, access_token, refresh_token, api_key, base_url, model_mapping,
                 max_concurrency, daily_cost_limit, expires_on_ms, proxy, expires_at_ms, scopes, created_at_ms,
                 updated_at_ms, last_used_at_ms, last_refresh_at_ms)
             VALUES (:id, :name, :description, :kind, :account_type, :is_active, :schedulable, :priority, :status,
                 :error_message, :email, :password, :access_token, :refresh_token, :api_key, :base_url, :mapping,
                 :concurrency, :daily, :expires_on, :proxy, :expires_at, :scopes, :created, :updated, :last_used, :last_refresh)",
            named_params! {
                ":id": account.id, ":name": account.name, ":description": account.description,
                ":kind": account.kind.as_str(), ":account_type": account.account_type.as_str(),
                ":is_active": account.is_active, ":schedulable": account.schedulable, ":priority": account.priority,
                ":status": account.status, ":error_message": account.error_message,
                ":email": seal(&account.email)?, ":password": seal(&account.password)?,
                ":access_token": seal(&account.access_token)?, ":refresh_token": seal(&account.refresh_token)?,
                ":api_key": seal(&account.api_key)?, ":base_url": account.base_url,
                ":mapping": serde_json::json!(account.model_mapping).to_string(),
                ":concurrency": account.max_concurrency, ":daily": account.daily_cost_limit,
                ":expires_on": account.expires_on_ms,
                ":proxy": self.seal(&proxy)?, ":expires_at": account.expires_at_ms, ":scopes": account.scopes,
                ":created": account.created_at_ms, ":updated": account.updated_at_ms,
                ":last_used": account.last_used_at_ms, ":last_refresh": account.last_refresh_at_ms,
            },
        )?;
        Ok(())
    }

    /// Opens the secrets of the accounts that were written and compares them with the source's.
    fn verify_accounts(&self, db: &Connection, written: &[&MovedAccount], tally: &mut Tally) -> Result<()> {
        for account in written {
            let mut statement = db.prepare_cached("SELECT * FROM accounts WHERE id = ?1")?;
            let mut rows = statement.query([&account.id])?;
            let row = rows.next()?.ok_or_else(|| mismatch("an account is not there"))?;
            let found = self.account(row)?;
            let same = |kept: &Option<Sensitive>, moved: &Sensitive| {
                kept.as_ref().map_or("", Sensitive::expose) == moved.expose()
            };
            let is_same = same(&found.access_token, &account.access_token)
                && same(&found.refresh_token, &account.refresh_token)
                && same(&found.api_key, &account.api_key)
                && found.email == account.email.expose()
                && found.proxy == account.proxy;
            if !is_same {
                return Err(mismatch("an account's secrets are not those of the source"));
            }
            tally.of(Kind::Accounts).verified += 1;
        }
        Ok(())
    }
}

/// How far an import is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// It reads its source.
    Reading,
    /// It works out the sums.
    Preparing,
    /// It writes.
    Writing,
    /// It reads back what it wrote.
    Verifying,
    /// From here on it cannot be cancelled.
    Committing,
}

fn mismatch(what: &str) -> Error {
    Error::saying(Fault::Internal, Failure::TakenBack { problem: what.to_owned() })
}

/// What each key (kind 1), the whole (0) and each bucket of all keys (2) have used, in the order in which it lies.
const USED: &str = "
    SELECT 1, subject, 0, '', sum(requests), sum(input_tokens), sum(output_tokens),
        sum(cache_creation_5m_tokens + cache_creation_1h_tokens), sum(cache_read_tokens)
    FROM main.rollups WHERE scope = 1 AND span = 0 AND bucket = 0 GROUP BY subject
    UNION ALL SELECT 0, span, bucket, model, requests, input_tokens, output_tokens,
        cache_creation_5m_tokens + cache_creation_1h_tokens, cache_read_tokens
    FROM main.rollups WHERE scope = 0
    UNION ALL SELECT 2, span, bucket, '', sum(requests), sum(input_tokens), sum(output_tokens),
        sum(cache_creation_5m_tokens + cache_creation_1h_tokens), sum(cache_read_tokens)
    FROM main.rollups WHERE scope = 1 AND span > 0 GROUP BY span, bucket";

/// The rows that keys have here, and what was used before.
const TABLES: &str = "
    CREATE TEMP TABLE import_seqs (rank INTEGER PRIMARY KEY, seq INTEGER NOT NULL UNIQUE);
    CREATE TEMP TABLE import_used (kind INTEGER, x INTEGER, y INTEGER, z TEXT, a INTEGER, b INTEGER, c INTEGER, d INTEGER,
        e INTEGER);
    INSERT INTO import_seqs VALUES (0, 0)";

fn write_keys(db: &Connection, origin: i64, tally: &mut Tally) -> Result<()> {
    let mut keys = db.prepare("SELECT rank, record FROM spool.ranks JOIN spool.keys USING (id) ORDER BY rank")?;
    let mut rows = keys.query([])?;
    while let Some(row) = rows.next()? {
        let record: String = row.get("record")?;
        let key: MovedKey =
            serde_json::from_str(&record).map_err(|error| Error::internal("a spooled key cannot be read", error))?;
        let seq = write_key(db, &key, origin, tally)?;
        db.prepare_cached("INSERT INTO temp.import_seqs VALUES (?1, ?2)")?.execute([row.get("rank")?, seq])?;
    }
    Ok(())
}

/// Writes a key unless it is here, and gives back its row number.
fn write_key(db: &Connection, key: &MovedKey, origin: i64, tally: &mut Tally) -> Result<i64> {
    let known: Option<(i64, String)> = db
        .prepare_cached("SELECT seq, key_hash FROM api_keys WHERE id = ?1")?
        .query_row([&key.id], |row| Ok((row.get("seq")?, row.get("key_hash")?)))
        .optional()?;
    let is_taken = match &key.hash {
        Some(hash) => db
            .prepare_cached("SELECT 1 FROM api_keys WHERE key_hash = ?1 AND id <> ?2")?
            .exists([hash.as_str(), key.id.as_str()])?,
        None => false,
    };
    let hash = key.hash.as_deref().filter(|_| !is_taken);
    match known {
        Some((_, known)) if known.starts_with(GONE) && hash.is_some() => {}
        Some((seq, _)) => {
            if key.hash.is_some() {
                tally.skip(Kind::ApiKeys, Reason::Here, &key.name);
            }
            return Ok(seq);
        }
        None => {}
    }
    if is_taken {
        tally.skip(Kind::ApiKeys, Reason::HashTaken, &key.name);
    }
    let seq = put_key(db, key, hash)?;
    if let Some(hash) = hash {
        let sql = "INSERT INTO imported_hashes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET origin = excluded.origin";
        db.prepare_cached(sql)?.execute(params![hash, origin])?;
        tally.of(Kind::ApiKeys).written += 1;
    }
    Ok(seq)
}

/// Writes a key, in the place of one of which only the bill was left if there is one, and gives back its row number.
fn put_key(db: &Connection, key: &MovedKey, hash: Option<&str>) -> Result<i64> {
    let models = serde_json::to_string(&key.restricted_models)
        .map_err(|error| Error::internal("restricted models cannot be written", error))?;
    let deleted_at_ms = if hash.is_none() { key.deleted_at_ms.or(Some(now_ms())) } else { key.deleted_at_ms };
    let gone = format!("{GONE}{}", key.id);
    let mut statement = db.prepare_cached(
        "INSERT INTO api_keys (id, key_hash, name, description, token_limit, concurrency_limit, rate_limit_window,
             rate_limit_requests, is_active, claude_account_id, enable_model_restriction, restricted_models,
             created_at_ms, updated_at_ms, last_used_at_ms, expires_at, expires_at_ms, deleted_at_ms)
         VALUES (:id, :hash, :name, :description, :token_limit, :concurrency_limit, :rate_limit_window,
             :rate_limit_requests, :is_active, :claude_account_id, :enable_model_restriction, :restricted_models,
             :created, :updated, :last_used, :expires_at, :expires_at_ms, :deleted)
         ON CONFLICT (id) DO UPDATE SET key_hash = excluded.key_hash, name = excluded.name,
             description = excluded.description, token_limit = excluded.token_limit,
             concurrency_limit = excluded.concurrency_limit, rate_limit_window = excluded.rate_limit_window,
             rate_limit_requests = excluded.rate_limit_requests, is_active = excluded.is_active,
             claude_account_id = excluded.claude_account_id,
             enable_model_restriction = excluded.enable_model_restriction,
             restricted_models = excluded.restricted_models, created_at_ms = excluded.created_at_ms,
             updated_at_ms = excluded.updated_at_ms, last_used_at_ms = excluded.last_used_at_ms,
             expires_at = excluded.expires_at, expires_at_ms = excluded.expires_at_ms,
             deleted_at_ms = excluded.deleted_at_ms
         RETURNING seq",
    )?;
    let values = named_params! {
        ":id": key.id, ":hash": hash.unwrap_or(&gone), ":name": key.name, ":description": key.description,
        ":token_limit": key.token_limit, ":concurrency_limit": key.concurrency_limit,
        ":rate_limit_window": key.rate_limit_window, ":rate_limit_requests": key.rate_limit_requests,
        ":is_active": key.is_active, ":claude_account_id": key.claude_account_id,
        ":enable_model_restriction": key.enable_model_restriction, ":restricted_models": models,
        ":created": key.created_at_ms, ":updated": key.updated_at_ms, ":last_used": key.last_used_at_ms,
        ":expires_at": key.expires_at, ":expires_at_ms": key.expires_at_ms, ":deleted": deleted_at_ms,
    };
    let seq = statement.query_row(values, |row| row.get("seq"))?;
    if key.later != LaterKey::default() {
        put_later(db, seq, &key.later)?;
    }
    Ok(seq)
}

/// What the original's later versions keep of a key.
fn put_later(db: &Connection, seq: i64, later: &LaterKey) -> Result<()> {
    let list = |texts: &[String]| serde_json::json!(texts).to_string();
    db.prepare_cached(
        "UPDATE api_keys SET tags = :tags, daily_cost_limit = :daily, weekly_cost_limit = :weekly,
             monthly_cost_limit = :monthly, total_cost_limit = :total, allowed_models = :models,
             account_fallback = :fallback, rate_limit_cost = :window, expiration_mode = iif(:by_use, 'activation', 'fixed'),
             activation_days = :days, activated_at_ms = :activated
         WHERE seq = :seq",
    )?
    .execute(named_params! {
        ":seq": seq, ":tags": list(&later.tags), ":models": list(&later.allowed_models),
        ":fallback": later.account_fallback, ":monthly": later.monthly_cost_limit, ":daily": later.daily_cost_limit,
        ":weekly": later.weekly_cost_limit, ":total": later.total_cost_limit,
        ":window": later.rate_limit_cost, ":by_use": later.is_activated_by_use, ":days": later.activation_days,
        ":activated": later.activated_at_ms,
    })?;
    Ok(())
}

fn write_admins(db: &Connection, import: &Import<'_>, tally: &mut Tally) -> Result<()> {
    for admin in import.admins {
        let written = db.execute(
            "INSERT INTO admins (username, password_hash, created_at_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            params![admin.username, admin.password_hash.expose(), admin.created_at_ms],
        )?;
        if written == 0 {
            tally.skip(Kind::Admins, Reason::AdminHere, &admin.username);
        }
        tally.of(Kind::Admins).written += written as i64;
    }
    Ok(())
}

fn write_usage(db: &Connection, origin: i64) -> Result<i64> {
    let written = db.execute(
        "INSERT INTO main.rollups (scope, subject, span, bucket, model, requests, input_tokens, output_tokens,
             cache_creation_5m_tokens, cache_creation_1h_tokens, cache_read_tokens,
             cost_input, cost_output, cost_cache_write, cost_cache_read, cost_web_search, unpriced_requests)
         SELECT scope, seq, span, bucket, model, na, nb, nc, nd, 0, ne,
             cost_input, cost_output, cost_cache_write, cost_cache_read, 0, unpriced
         FROM spool.final CROSS JOIN temp.import_seqs USING (rank) WHERE true
         ON CONFLICT DO UPDATE SET requests = requests + excluded.requests,
             input_tokens = input_tokens + excluded.input_tokens,
             output_tokens = output_tokens + excluded.output_tokens,
             cache_creation_5m_tokens = cache_creation_5m_tokens + excluded.cache_creation_5m_tokens,
             cache_read_tokens = cache_read_tokens + excluded.cache_read_tokens,
             cost_input = cost_input + excluded.cost_input, cost_output = cost_output + excluded.cost_output,
             cost_cache_write = cost_cache_write + excluded.cost_cache_write,
             cost_cache_read = cost_cache_read + excluded.cost_cache_read,
             unpriced_requests = unpriced_requests + excluded.unpriced_requests",
        [],
    )?;
    db.execute(
        "INSERT INTO main.imported_usage
         SELECT ?1, scope, seq, span, bucket, model, a, b, c, d, e
         FROM spool.final CROSS JOIN temp.import_seqs USING (rank) WHERE true
         ON CONFLICT DO UPDATE SET requests = excluded.requests, input_tokens = excluded.input_tokens,
             output_tokens = excluded.output_tokens, cache_creation_tokens = excluded.cache_creation_tokens,
             cache_read_tokens = excluded.cache_read_tokens",
        [origin],
    )?;
    Ok(written as i64)
}

/// Sums that have not changed by exactly what was to be added.
const CHANGED: &str = "
    SELECT count(*) FROM (
        SELECT kind, x, y, z FROM (
            SELECT kind, x, y, z, a, b, c, d, e FROM temp.import_used
            UNION ALL SELECT kind, iif(kind = 1, seq, x), y, z, a, b, c, d, e
            FROM spool.growth LEFT JOIN temp.import_seqs ON kind = 1 AND rank = x)
        GROUP BY kind, x, y, z
        HAVING sum(a) <> 0 OR sum(b) <> 0 OR sum(c) <> 0 OR sum(d) <> 0 OR sum(e) <> 0)";

/// Reads back each key's total, each sum of all keys by bucket and model, and each bucket of all keys, and compares how they
/// have grown with what the source came to.
fn verify_usage(db: &Connection, tally: &mut Tally) -> Result<()> {
    let after = format!(
        "INSERT INTO temp.import_used SELECT kind, x, y, z, -a, -b, -c, -d, -e
         FROM (SELECT 0 AS kind, 0 AS x, 0 AS y, '' AS z, 0 AS a, 0 AS b, 0 AS c, 0 AS d, 0 AS e WHERE false
             UNION ALL {USED})"
    );
    db.execute(&after, [])?;
    let changed: i64 = db.query_row(CHANGED, [], |row| row.get(0))?;
    if changed > 0 {
        return Err(mismatch(&format!("{changed} sums have not grown by what was imported")));
    }
    let counts = tally.of(Kind::Usage);
    let expected: i64 = db.query_row("SELECT count(*) FROM spool.final", [], |row| row.get(0))?;
    if counts.written != expected {
        return Err(mismatch("not every sum was written"));
    }
    counts.verified = counts.written;
    Ok(())
}

fn verify_keys(db: &Connection, tally: &mut Tally) -> Result<()> {
    let counts = tally.of(Kind::ApiKeys);
    counts.verified = db.query_row(
        "SELECT count(*) FROM spool.keys AS s JOIN main.api_keys AS k ON k.id = s.id
         WHERE k.key_hash = s.record ->> '$.hash'",
        [],
        |row| row.get(0),
    )?;
    if counts.verified < counts.written {
        return Err(mismatch("keys that were written are not there"));
    }
    Ok(())
}

fn verify_admins(db: &Connection, import: &Import<'_>, tally: &mut Tally) -> Result<()> {
    for admin in import.admins {
        let sql = "SELECT 1 FROM admins WHERE username = ?1 AND password_hash = ?2";
        let is_there = db.prepare_cached(sql)?.exists([admin.username.as_str(), admin.password_hash.expose()])?;
        tally.of(Kind::Admins).verified += i64::from(is_there);
    }
    if tally.of(Kind::Admins).verified < tally.of(Kind::Admins).written {
        return Err(mismatch("an admin that was written is not there"));
    }
    Ok(())
}
