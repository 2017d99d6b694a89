//! Accounts: the roster that selection reads, and the named verbs that change an account. There is no "save it all".

use super::Store;
use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::model::{Account, AccountKind, AccountType, Proxy, Sensitive, secret};
use rusqlite::{Connection, OptionalExtension, named_params};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// Reads all accounts, oldest first.
const ALL: &str = "SELECT * FROM accounts ORDER BY seq";

/// What an admin may set on an account. `None` leaves a member as it is; an outer `Some(None)` clears it.
#[derive(Default)]
pub struct AccountDraft {
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Kind; set at creation only.
    pub kind: Option<AccountKind>,
    /// Shared or dedicated.
    pub account_type: Option<AccountType>,
    /// The admin's switch.
    pub is_active: Option<bool>,
    /// Whether the pool may choose it.
    pub schedulable: Option<bool>,
    /// 1–100.
    pub priority: Option<i64>,
    /// E-mail address.
    pub email: Option<String>,
    /// Password of the original's form; kept sealed, used for nothing.
    pub password: Option<String>,
    /// Access and refresh token with their life.
    pub tokens: Option<TokenPair>,
    /// A refresh token alone.
    pub refresh_token: Option<String>,
    /// API key of the Console.
    pub api_key: Option<String>,
    /// Base URL.
    pub base_url: Option<Option<String>>,
    /// Proxy.
    pub proxy: Option<Option<Proxy>>,
    /// Names of models and what the upstream calls them.
    pub model_mapping: Option<BTreeMap<String, String>>,
    /// Requests at the same time; 0 = any number.
    pub max_concurrency: Option<i64>,
    /// The end of its use, Unix milliseconds.
    pub expires_on_ms: Option<Option<i64>>,
    /// Pico-dollars of one local day; 0 = any amount.
    pub daily_cost_limit: Option<i64>,
}

/// What a token endpoint grants.
#[derive(Clone, Debug)]
pub struct TokenPair {
    /// Access token.
    pub access_token: Sensitive,
    /// Refresh token; `None` keeps the one there is.
    pub refresh_token: Option<Sensitive>,
    /// End of the access token's life, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Scopes; empty keeps those there are.
    pub scopes: Vec<String>,
}

impl Store {
    /// All accounts as they stand. Cheap: the list is shared, not copied.
    pub fn accounts(&self) -> Arc<Vec<Arc<Account>>> {
        self.roster.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One account as it stands.
    pub fn account_by_id(&self, id: &str) -> Option<Arc<Account>> {
        self.accounts().iter().find(|account| account.id == id).cloned()
    }

    /// Makes an account and gives it back as it stands.
    ///
    /// # Errors
    /// SQLite's.
    pub fn create_account(&self, draft: &AccountDraft) -> Result<Arc<Account>> {
        let id = secret::new_uuid().map_err(|error| Error::internal("no random numbers", error.to_string()))?;
        let mut db = self.write();
        let transaction = db.transaction()?;
        transaction.execute(
            "INSERT INTO accounts (id, name, description, kind, account_type, is_active, schedulable, priority,
                 status, error_message, email, password, access_token, refresh_token, api_key, proxy, scopes, created_at_ms)
             VALUES (:id, '', '', :kind, 'shared', 1, 1, 50, 'created', '', '', '', '', '', '', '', '', :now)",
            named_params! {
                ":id": id,
                ":kind": draft.kind.unwrap_or(AccountKind::OAuth).as_str(),
                ":now": now_ms(),
            },
        )?;
        self.apply(&transaction, &id, draft)?;
        transaction.commit()?;
        self.reload_roster(&db)?;
        drop(db);
        self.account_by_id(&id).ok_or_else(|| Error::not_found("Account not found"))
    }

    /// Changes what the draft names.
    ///
    /// # Errors
    /// No such account; SQLite's.
    pub fn update_account(&self, id: &str, draft: &AccountDraft) -> Result<()> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        let changed = transaction.execute(
            "UPDATE accounts SET updated_at_ms = :now WHERE id = :id",
            named_params! { ":id": id, ":now": now_ms() },
        )?;
        if changed == 0 {
            return Err(Error::not_found("Account not found"));
        }
        self.apply(&transaction, id, draft)?;
        transaction.commit()?;
        self.reload_roster(&db)
    }

    /// Removes an account and its secrets. What it served stays in the ledger. Gives back its name.
    ///
    /// # Errors
    /// No such account; SQLite's.
    pub fn delete_account(&self, id: &str) -> Result<String> {
        let db = self.write();
        let deleted = db.query_row("DELETE FROM accounts WHERE id = ?1 RETURNING name", [id], |row| row.get("name"));
        let name = deleted.optional()?.ok_or_else(|| Error::not_found("Account not found"))?;
        self.reload_roster(&db)?;
        Ok(name)
    }

    /// Puts a refreshed token pair in place, durably: when this returns, a power cut cannot lose it. A refresh token works
    /// once, so nothing may use the new access token before. `spent` is the refresh token that the pair was granted for: if
    /// the account has another one by now, an admin has signed it in anew, and `false` says that nothing was changed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rotate_tokens(&self, id: &str, spent: &Sensitive, pair: &TokenPair) -> Result<bool> {
        let mut db = self.write();
        if !self.has_refresh_token(id, spent) {
            return Ok(false);
        }
        let transaction = db.transaction()?;
        self.set_tokens(&transaction, id, pair)?;
        transaction.commit()?;
        self.reload_roster(&db).map(|()| true)
    }

    /// Marks an account whose refresh token was refused for good, until an admin acts. An account that has another one by
    /// now is left alone.
    ///
    /// # Errors
    /// SQLite's.
    pub fn mark_account_error(&self, id: &str, refused: &Sensitive, message: &str) -> Result<()> {
        let db = self.write();
        if !self.has_refresh_token(id, refused) {
            return Ok(());
        }
        db.execute("UPDATE accounts SET status = 'error', error_message = ?2 WHERE id = ?1", [id, message])?;
        self.reload_roster(&db)
    }

    /// Notes what will stop an account at the end of its access token's life. It serves until then. An account that has
    /// another refresh token by now is left alone.
    ///
    /// # Errors
    /// SQLite's.
    pub fn warn_of_account(&self, id: &str, refused: &Sensitive, message: &str) -> Result<()> {
        let db = self.write();
        if !self.has_refresh_token(id, refused) {
            return Ok(());
        }
        db.execute("UPDATE accounts SET error_message = ?2 WHERE id = ?1 AND status <> 'error'", [id, message])?;
        self.reload_roster(&db)
    }

    /// Notes that a refresh token was sent and not answered. An account that has another one by now is left alone.
    ///
    /// # Errors
    /// SQLite's.
    pub fn doubt_refresh(&self, id: &str, sent: &Sensitive) -> Result<()> {
        let db = self.write();
        if !self.has_refresh_token(id, sent) {
            return Ok(());
        }
        db.execute("UPDATE accounts SET refresh_in_doubt = 1 WHERE id = ?1", [id])?;
        self.reload_roster(&db)
    }

    /// Stops an account, as it was when its upstream gave it up, until an admin acts. `false` says that it is stopped already,
    /// is no more, or has another credential by now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn stop_account(&self, account: &Account, message: &str) -> Result<bool> {
        let db = self.write();
        let is_same = |now: &Account| now.api_key == account.api_key && now.access_token == account.access_token;
        if !self.account_by_id(&account.id).is_some_and(|now| is_same(&now)) {
            return Ok(false);
        }
        let sql = "UPDATE accounts SET status = 'error', error_message = ?2 WHERE id = ?1 AND status <> 'error'";
        if db.execute(sql, [&account.id, message])? == 0 {
            return Ok(false);
        }
        self.reload_roster(&db).map(|()| true)
    }

    /// Ends such a stop: the account is tried again.
    ///
    /// # Errors
    /// SQLite's.
    pub fn end_stop(&self, id: &str) -> Result<()> {
        let db = self.write();
        db.execute(
            "UPDATE accounts SET error_message = '',
                 status = CASE WHEN access_token = '' AND api_key = '' THEN 'created' ELSE 'active' END
             WHERE id = ?1 AND status = 'error'",
            [id],
        )?;
        self.reload_roster(&db)
    }

    /// Whether this is the account's refresh token now. To be asked under the writer's lock: the roster changes only there.
    fn has_refresh_token(&self, id: &str, token: &Sensitive) -> bool {
        self.account_by_id(id).is_some_and(|account| account.refresh_token.as_ref() == Some(token))
    }

    fn apply(&self, db: &Connection, id: &str, draft: &AccountDraft) -> Result<()> {
        let seal = |clear: &String| self.seal(clear);
        db.execute(
            "UPDATE accounts SET
                 name = coalesce(:name, name), description = coalesce(:description, description),
                 account_type = coalesce(:account_type, account_type), is_active = coalesce(:is_active, is_active),
                 schedulable = coalesce(:schedulable, schedulable), priority = coalesce(:priority, priority),
                 email = coalesce(:email, email), password = coalesce(:password, password),
                 max_concurrency = coalesce(:max_concurrency, max_concurrency),
                 daily_cost_limit = coalesce(:daily_cost_limit, daily_cost_limit),
                 model_mapping = coalesce(:model_mapping, model_mapping),
                 refresh_token = coalesce(:refresh_token, refresh_token),
                 refresh_in_doubt = iif(:refresh_token IS NULL, refresh_in_doubt, 0)
             WHERE id = :id",
            named_params! {
                ":id": id, ":name": draft.name, ":description": draft.description,
                ":account_type": draft.account_type.map(AccountType::as_str),
                ":is_active": draft.is_active, ":schedulable": draft.schedulable, ":priority": draft.priority,
                ":max_concurrency": draft.max_concurrency, ":daily_cost_limit": draft.daily_cost_limit,
                ":model_mapping": draft.model_mapping.as_ref().map(|mapping| serde_json::json!(mapping).to_string()),
                ":email": draft.email.as_ref().map(seal).transpose()?,
                ":password": draft.password.as_ref().map(seal).transpose()?,
                ":refresh_token": draft.refresh_token.as_ref().map(seal).transpose()?,
            },
        )?;
        if draft.refresh_token.is_some() {
            db.execute(
                "UPDATE accounts SET status = 'created', error_message = '' WHERE id = ?1 AND status = 'error'",
                [id],
            )?;
        }
        if let Some(key) = &draft.api_key {
            db.execute(
                "UPDATE accounts SET api_key = ?2, status = 'active', error_message = '' WHERE id = ?1",
                [id, self.seal(key)?.as_str()],
            )?;
        }
        if let Some(url) = &draft.base_url {
            db.execute("UPDATE accounts SET base_url = ?2 WHERE id = ?1", (id, url))?;
        }
        if let Some(end) = &draft.expires_on_ms {
            db.execute("UPDATE accounts SET expires_on_ms = ?2 WHERE id = ?1", (id, end))?;
        }
        if let Some(proxy) = &draft.proxy {
            let json = proxy.as_ref().map(Proxy::to_stored).unwrap_or_default();
            db.execute("UPDATE accounts SET proxy = ?2 WHERE id = ?1", [id, self.seal(&json)?.as_str()])?;
        }
        if let Some(pair) = &draft.tokens {
            self.set_tokens(db, id, pair)?;
        }
        Ok(())
    }

    fn set_tokens(&self, db: &Connection, id: &str, pair: &TokenPair) -> Result<()> {
        let refresh = pair.refresh_token.as_ref().map(|token| self.seal(token.expose())).transpose()?;
        let scopes = Some(pair.scopes.join(" ")).filter(|scopes| !scopes.is_empty());
        db.execute(
            "UPDATE accounts SET access_token = :access, refresh_token = coalesce(:refresh, refresh_token), refresh_in_doubt = 0,
                 expires_at_ms = :expires, scopes = coalesce(:scopes, scopes), status = 'active', error_message = '',
                 last_refresh_at_ms = :now
             WHERE id = :id",
            named_params! {
                ":id": id, ":access": self.seal(pair.access_token.expose())?, ":refresh": refresh,
                ":expires": pair.expires_at_ms, ":scopes": scopes, ":now": now_ms(),
            },
        )?;
        Ok(())
    }

    pub(super) fn seal(&self, clear: &str) -> Result<String> {
        self.cipher.seal(clear).map_err(|error| Error::internal("sealing a secret failed", error.to_string()))
    }

    /// Reads the accounts anew. Called under the writer's lock, so that an older list never replaces a newer one.
    pub(super) fn reload_roster(&self, db: &Connection) -> Result<()> {
        let mut statement = db.prepare_cached(ALL)?;
        let mut rows = statement.query([])?;
        let mut roster = Vec::new();
        while let Some(row) = rows.next()? {
            roster.push(Arc::new(self.account(row)?));
        }
        *self.roster.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(roster);
        Ok(())
    }

    /// When each account was last used according to the ledger's thread, for a list. Selection keeps its own clock.
    ///
    /// # Errors
    /// SQLite's.
    pub fn account_last_used_ms(&self, id: &str) -> Result<Option<i64>> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT last_used_at_ms FROM accounts WHERE id = ?1")?;
            Ok(statement.query_row([id], |row| row.get("last_used_at_ms")).optional()?.flatten())
        })
    }
}
