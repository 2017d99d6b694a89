//! API keys: looked up by hash on every request, made and changed by the admin.

use super::{Store, rows};
use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::model::{ApiKey, secret, time};
use rusqlite::{OptionalExtension, named_params};

/// What an admin may set on a key. `None` leaves a member as it is.
#[derive(Default)]
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

    /// Makes a key. Gives back its clear text, which is kept nowhere, and the record.
    ///
    /// # Errors
    /// SQLite's.
    pub fn create_key(&self, prefix: &str, draft: &KeyDraft) -> Result<(String, ApiKey)> {
        let random = |error: secret::Error| Error::internal("no random numbers", error.to_string());
        let clear = secret::new_api_key(prefix).map_err(random)?;
        let id = secret::new_uuid().map_err(random)?;
        let hash = secret::hash_api_key(&clear, &self.pepper);
        let mut db = self.write();
        let transaction = db.transaction()?;
        transaction.execute(
            "INSERT INTO api_keys (id, key_hash, name, description, token_limit, concurrency_limit, rate_limit_window,
                 rate_limit_requests, is_active, claude_account_id, enable_model_restriction, restricted_models,
                 created_at_ms, expires_at)
             VALUES (:id, :hash, '', '', 0, 0, 0, 0, 1, '', 0, '[]', :now, '')",
            named_params! { ":id": id, ":hash": hash, ":now": now_ms() },
        )?;
        apply(&transaction, &id, draft)?;
        transaction.commit()?;
        drop(db);
        let key = self.key_by_id(&id)?.ok_or_else(|| Error::not_found("API key not found"))?;
        Ok((clear, key))
    }

    /// Changes what the draft names.
    ///
    /// # Errors
    /// No such key; SQLite's.
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

    /// Takes a key out of service. Its record and its bill stay.
    ///
    /// # Errors
    /// No such key; SQLite's.
    pub fn delete_key(&self, id: &str) -> Result<()> {
        let changed = self.write().execute(
            "UPDATE api_keys SET deleted_at_ms = ?2 WHERE id = ?1 AND deleted_at_ms IS NULL",
            (id, now_ms()),
        )?;
        if changed == 0 {
            return Err(Error::not_found("API key not found"));
        }
        Ok(())
    }
}

fn apply(db: &rusqlite::Connection, id: &str, draft: &KeyDraft) -> Result<()> {
    let models = draft
        .restricted_models
        .as_ref()
        .map(serde_json::to_string)
        .transpose()
        .map_err(|error| Error::internal("restricted models cannot be written", error))?;
    db.execute(
        "UPDATE api_keys SET
             name = coalesce(:name, name), description = coalesce(:description, description),
             token_limit = coalesce(:token_limit, token_limit),
             concurrency_limit = coalesce(:concurrency_limit, concurrency_limit),
             rate_limit_window = coalesce(:rate_limit_window, rate_limit_window),
             rate_limit_requests = coalesce(:rate_limit_requests, rate_limit_requests),
             is_active = coalesce(:is_active, is_active),
             claude_account_id = coalesce(:claude_account_id, claude_account_id),
             enable_model_restriction = coalesce(:enable_model_restriction, enable_model_restriction),
             restricted_models = coalesce(:restricted_models, restricted_models)
         WHERE id = :id",
        named_params! {
            ":id": id, ":name": draft.name, ":description": draft.description,
            ":token_limit": draft.token_limit, ":concurrency_limit": draft.concurrency_limit,
            ":rate_limit_window": draft.rate_limit_window, ":rate_limit_requests": draft.rate_limit_requests,
            ":is_active": draft.is_active, ":claude_account_id": draft.claude_account_id,
            ":enable_model_restriction": draft.enable_model_restriction, ":restricted_models": models,
        },
    )?;
    if let Some(text) = &draft.expires_at {
        db.execute(
            "UPDATE api_keys SET expires_at = ?2, expires_at_ms = ?3 WHERE id = ?1",
            (id, text, time::parse(text)),
        )?;
    }
    Ok(())
}
