//! Sign-ins that have begun. What could be used to finish one is sealed.

use super::Store;
use crate::error::{Error, Result};
use crate::model::time::now_ms;
use crate::model::{Proxy, Sensitive, secret};
use rusqlite::{OptionalExtension, named_params};

/// Life of a sign-in, milliseconds, as in the original.
const LIFE_MS: i64 = 600_000;
/// A sign-in that was never finished is told apart from an unknown one for this long, milliseconds.
const KEPT_AFTER_MS: i64 = 86_400_000;
/// Sign-ins that can be under way; past that the oldest goes.
const SESSIONS_MAX: i64 = 1000;

/// A sign-in that has begun.
pub struct OauthSession {
    /// Identifier, a UUID.
    pub id: String,
    /// The PKCE verifier.
    pub verifier: Sensitive,
    /// What the callback must bring back.
    pub state: String,
    /// The way to the token endpoint, which is also the account's.
    pub proxy: Option<Proxy>,
    /// Its end, Unix milliseconds.
    pub expires_at_ms: i64,
}

impl Store {
    /// Begins a sign-in with a new verifier and state.
    ///
    /// # Errors
    /// No random numbers; SQLite's.
    pub fn begin_sign_in(&self, proxy: Option<Proxy>) -> Result<OauthSession> {
        let random = |error: secret::Error| Error::internal("no random numbers", error.to_string());
        let now = now_ms();
        let session = OauthSession {
            id: secret::new_uuid().map_err(random)?,
            verifier: Sensitive::new(secret::new_pkce_verifier().map_err(random)?),
            state: secret::new_oauth_state().map_err(random)?,
            proxy,
            expires_at_ms: now + LIFE_MS,
        };
        let proxy = session.proxy.as_ref().map(Proxy::to_stored).unwrap_or_default();
        let mut db = self.write();
        let transaction = db.transaction()?;
        transaction.execute("DELETE FROM oauth_sessions WHERE expires_at_ms < ?1", [now - KEPT_AFTER_MS])?;
        transaction.execute(
            "DELETE FROM oauth_sessions WHERE id IN
                 (SELECT id FROM oauth_sessions ORDER BY expires_at_ms DESC LIMIT -1 OFFSET ?1)",
            [SESSIONS_MAX - 1],
        )?;
        transaction.execute(
            "INSERT INTO oauth_sessions (id, verifier, state, proxy, expires_at_ms)
             VALUES (:id, :verifier, :state, :proxy, :end)",
            named_params! {
                ":id": session.id, ":verifier": self.seal(session.verifier.expose())?, ":state": session.state,
                ":proxy": self.seal(&proxy)?, ":end": session.expires_at_ms,
            },
        )?;
        transaction.commit()?;
        Ok(session)
    }

    /// Forgets the sign-ins that were over for a while at `now_ms`; until then they can be told from those that never were.
    /// Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prune_sign_ins(&self, now_ms: i64) -> Result<usize> {
        Ok(self.write().execute("DELETE FROM oauth_sessions WHERE expires_at_ms < ?1", [now_ms - KEPT_AFTER_MS])?)
    }

    /// Finds a sign-in, over or not.
    ///
    /// # Errors
    /// A secret of it cannot be opened; SQLite's.
    pub fn oauth_session(&self, id: &str) -> Result<Option<OauthSession>> {
        let found: Option<(String, String, String, i64)> = self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM oauth_sessions WHERE id = ?1")?;
            let row = statement.query_row([id], |row| {
                Ok((row.get("verifier")?, row.get("state")?, row.get("proxy")?, row.get("expires_at_ms")?))
            });
            Ok(row.optional()?)
        })?;
        let Some((verifier, state, proxy, expires_at_ms)) = found else { return Ok(None) };
        let open = |sealed: &str| {
            let clear = self.cipher.open(sealed);
            clear.map_err(|error| Error::internal("a sign-in cannot be decrypted", error.to_string()))
        };
        let proxy = Some(open(&proxy)?).filter(|json| !json.is_empty());
        let proxy = proxy.map(|json| Proxy::from_json(&json, None)).transpose();
        Ok(Some(OauthSession {
            id: id.to_owned(),
            verifier: Sensitive::new(open(&verifier)?),
            state,
            proxy: proxy
                .map_err(|error| Error::internal("the proxy of a sign-in cannot be read", error.to_string()))?,
            expires_at_ms,
        }))
    }

    /// Ends a sign-in; one that does not exist is no error.
    ///
    /// # Errors
    /// SQLite's.
    pub fn end_sign_in(&self, id: &str) -> Result<()> {
        self.write().execute("DELETE FROM oauth_sessions WHERE id = ?1", [id])?;
        Ok(())
    }
}
