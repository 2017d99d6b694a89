//! API keys: looked up by hash on every request, made and changed by the admin.

use super::{Store, rows};
use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::model::{ApiKey, ExpirationMode, secret, time};
use rusqlite::{Connection, OptionalExtension, Row, named_params};

/// What an admin may set on a key. `None` leaves a member as it is.
#[derive(Clone, Default)]
pub struct KeyDraft {
    /// 1–100 characters.
    pub name: Option<String>,
    /// Up to 500 characters.
    pub description: Option<String>,
    /// Tokens per window; 0 = none.
    pub token_limit: Option<i64>,
    /// Requests at the same time; 0 = none.
    pub concurrency_limit: Option<i64>,
    /// Minutes; 0 = none.
    pub rate_limit_window: Option<i64>,
    /// Requests per window; 0 = none.
    pub rate_limit_requests: Option<i64>,
    /// The admin's switch.
    pub is_active: Option<bool>,
    /// Bound account; empty = none.
    pub claude_account_id: Option<String>,
    /// Whether the deny list is in force.
    pub enable_model_restriction: Option<bool>,
    /// The deny list.
    pub restricted_models: Option<Vec<String>>,
    /// End of life as the admin wrote it, checked before; empty = never.
    pub expires_at: Option<String>,
    /// Up to 20, 1–50 characters each.
    pub tags: Option<Vec<String>>,
    /// The only models; empty = all.
    pub allowed_models: Option<Vec<String>>,
    /// Pico-dollars a local day; 0 = none.
    pub daily_cost_limit: Option<i64>,
    /// Pico-dollars a local week; 0 = none.
    pub weekly_cost_limit: Option<i64>,
    /// Pico-dollars a local month; 0 = none.
    pub monthly_cost_limit: Option<i64>,
    /// Pico-dollars for all time; 0 = none.
    pub total_cost_limit: Option<i64>,
    /// Pico-dollars per window; 0 = none.
    pub rate_limit_cost: Option<i64>,
    /// What the life is counted from.
    pub expiration_mode: Option<ExpirationMode>,
    /// Days of a life that is counted from the first use.
    pub activation_days: Option<i64>,
    /// Whether the shared pool may stand in for a bound account.
    pub account_fallback: Option<bool>,
}

/// What a key is called.
#[derive(Clone, Debug)]
pub struct KeyLabel {
    /// Its row number.
    pub seq: i64,
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, Unix milliseconds.
    pub created_at_ms: i64,
}

impl Store {
    /// Finds a key by its clear text. Only the hash comes near SQL.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_by_clear_text(&self, clear: &str) -> Result<Option<ApiKey>> {
        let peppers = self.peppers();
        // A key that was moved here was hashed with another pepper, and nothing else tells it from one made here.
        let others = peppers.iter().map(|other| other.pepper.expose());
        for pepper in std::iter::once(self.pepper.as_str()).chain(others) {
            let hash = secret::hash_api_key(clear, pepper);
            let found = self.read(|db| {
                let mut statement =
                    db.prepare_cached("SELECT * FROM api_keys WHERE key_hash = ?1 AND deleted_at_ms IS NULL")?;
                Ok(statement.query_row([&hash], rows::api_key).optional()?)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Finds a key by its identifier.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_by_id(&self, id: &str) -> Result<Option<ApiKey>> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM api_keys WHERE id = ?1 AND deleted_at_ms IS NULL")?;
            Ok(statement.query_row([id], rows::api_key).optional()?)
        })
    }

    /// All keys that are not deleted, oldest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn keys(&self) -> Result<Vec<ApiKey>> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM api_keys WHERE deleted_at_ms IS NULL ORDER BY seq")?;
            let keys = statement.query_map([], rows::api_key)?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(keys)
        })
    }

    /// What all keys that are not deleted are called, oldest first: a fifth of the time that their records take.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_labels(&self) -> Result<Vec<KeyLabel>> {
        self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT seq, id, name, created_at_ms FROM api_keys WHERE deleted_at_ms IS NULL ORDER BY seq",
            )?;
            let label = |row: &Row<'_>| {
                Ok(KeyLabel { seq: row.get(0)?, id: row.get(1)?, name: row.get(2)?, created_at_ms: row.get(3)? })
            };
            Ok(statement.query_map([], label)?.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// When each key that is not deleted was made (Unix milliseconds), and whether it is switched on.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_births(&self) -> Result<Vec<(i64, bool)>> {
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT created_at_ms, is_active FROM api_keys WHERE deleted_at_ms IS NULL")?;
            let births = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(births.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Makes a key. Gives back its clear text, which is kept nowhere, and the record.
    ///
    /// # Errors
    /// The draft contradicts itself; SQLite's.
    pub fn create_key(&self, prefix: &str, draft: &KeyDraft) -> Result<(String, ApiKey)> {
        let made = self.create_keys(prefix, std::slice::from_ref(draft))?;
        made.into_iter().next().ok_or_else(|| Error::not_found("API key not found"))
    }

    /// Makes many keys in one transaction, all or none, in the order of the drafts.
    ///
    /// # Errors
    /// A draft contradicts itself; SQLite's.
    pub fn create_keys(&self, prefix: &str, drafts: &[KeyDraft]) -> Result<Vec<(String, ApiKey)>> {
        let mut made = Vec::with_capacity(drafts.len());
        let mut db = self.write();
        let transaction = db.transaction()?;
        for draft in drafts {
            let id = secret::new_uuid().map_err(no_random)?;
            let (clear, hash) = self.new_clear_key(prefix)?;
            transaction.execute(
                "INSERT INTO api_keys (id, key_hash, name, description, token_limit, concurrency_limit,
                     rate_limit_window, rate_limit_requests, is_active, claude_account_id, enable_model_restriction,
                     restricted_models, created_at_ms, expires_at)
                 VALUES (:id, :hash, '', '', 0, 0, 0, 0, 1, '', 0, '[]', :now, '')",
                named_params! { ":id": id, ":hash": hash, ":now": now_ms() },
            )?;
            made.push((clear, apply(&transaction, &id, draft)?));
        }
        transaction.commit()?;
        Ok(made)
    }

    /// A new clear key and its hash.
    pub(super) fn new_clear_key(&self, prefix: &str) -> Result<(String, String)> {
        let clear = secret::new_api_key(prefix).map_err(no_random)?;
        let hash = secret::hash_api_key(&clear, &self.pepper);
        Ok((clear, hash))
    }

    /// Changes what the draft names.
    ///
    /// # Errors
    /// No such key; the key would contradict itself; SQLite's.
    pub fn update_key(&self, id: &str, draft: &KeyDraft) -> Result<()> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        let changed = transaction.execute(
            "UPDATE api_keys SET updated_at_ms = ?2 WHERE id = ?1 AND deleted_at_ms IS NULL",
            (id, now_ms()),
        )?;
        if changed == 0 {
            return Err(Error::not_found("API key not found"));
        }
        apply(&transaction, id, draft)?;
        transaction.commit()?;
        Ok(())
    }
}

fn no_random(error: secret::Error) -> Error {
    Error::internal("no random numbers", error.to_string())
}

/// Writes what the draft names, and gives back the record as it is now.
fn apply(db: &Connection, id: &str, draft: &KeyDraft) -> Result<ApiKey> {
    let list = |names: &Option<Vec<String>>| {
        let json = names.as_ref().map(serde_json::to_string).transpose();
        json.map_err(|error| Error::internal("a list of an API key cannot be written", error))
    };
    db.prepare_cached(
        "UPDATE api_keys SET
             name = coalesce(:name, name), description = coalesce(:description, description),
             token_limit = coalesce(:token_limit, token_limit),
             concurrency_limit = coalesce(:concurrency_limit, concurrency_limit),
             rate_limit_window = coalesce(:rate_limit_window, rate_limit_window),
             rate_limit_requests = coalesce(:rate_limit_requests, rate_limit_requests),
             is_active = coalesce(:is_active, is_active),
             claude_account_id = coalesce(:claude_account_id, claude_account_id),
             enable_model_restriction = coalesce(:enable_model_restriction, enable_model_restriction),
             restricted_models = coalesce(:restricted_models, restricted_models),
             tags = coalesce(:tags, tags), allowed_models = coalesce(:allowed_models, allowed_models),
             daily_cost_limit = coalesce(:daily, daily_cost_limit),
             weekly_cost_limit = coalesce(:weekly, weekly_cost_limit),
             monthly_cost_limit = coalesce(:monthly, monthly_cost_limit),
             total_cost_limit = coalesce(:total, total_cost_limit),
             rate_limit_cost = coalesce(:rate_limit_cost, rate_limit_cost),
             expiration_mode = coalesce(:expiration_mode, expiration_mode),
             activation_days = coalesce(:activation_days, activation_days),
             account_fallback = coalesce(:account_fallback, account_fallback)
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": id, ":name": draft.name, ":description": draft.description,
        ":token_limit": draft.token_limit, ":concurrency_limit": draft.concurrency_limit,
        ":rate_limit_window": draft.rate_limit_window, ":rate_limit_requests": draft.rate_limit_requests,
        ":is_active": draft.is_active, ":claude_account_id": draft.claude_account_id,
        ":enable_model_restriction": draft.enable_model_restriction,
        ":restricted_models": list(&draft.restricted_models)?,
        ":tags": list(&draft.tags)?, ":allowed_models": list(&draft.allowed_models)?,
        ":daily": draft.daily_cost_limit, ":weekly": draft.weekly_cost_limit,
        ":monthly": draft.monthly_cost_limit, ":total": draft.total_cost_limit,
        ":rate_limit_cost": draft.rate_limit_cost,
        ":expiration_mode": draft.expiration_mode.map(ExpirationMode::name),
        ":activation_days": draft.activation_days, ":account_fallback": draft.account_fallback,
    })?;
    if let Some(text) = &draft.expires_at {
        db.prepare_cached("UPDATE api_keys SET expires_at = ?2, expires_at_ms = ?3 WHERE id = ?1")?.execute((
            id,
            text,
            time::parse(text),
        ))?;
    }
    let key = db.prepare_cached("SELECT * FROM api_keys WHERE id = ?1")?.query_row([id], rows::api_key)?;
    if key.expiration_mode == ExpirationMode::Activation && key.activation_days < 1 {
        return Err(Error::invalid("activationDays must be at least 1 when expirationMode is activation"));
    }
    Ok(key)
}
