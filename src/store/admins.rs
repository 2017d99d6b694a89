//! The admin and the admin's sessions: two tables, two name spaces.

use super::Store;
use crate::error::{Error, Result};
use crate::model::secret;
use crate::model::time::now_ms;
use rusqlite::{OptionalExtension, Row};

/// A session that exists and is alive. Made by a login and by nothing else.
#[derive(Clone, Debug)]
pub struct Session {
    /// SHA-256 of the token.
    pub token_hash: String,
    /// Whose session it is.
    pub username: String,
    /// Unix milliseconds.
    pub login_at_ms: i64,
    /// Unix milliseconds of the last request that used it.
    pub active_at_ms: i64,
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    Ok(Session {
        token_hash: row.get("token_hash")?,
        username: row.get("username")?,
        login_at_ms: row.get("login_at_ms")?,
        active_at_ms: row.get("active_at_ms")?,
    })
}

impl Store {
    /// Whether there is an admin yet.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_admin(&self) -> Result<bool> {
        self.read(|db| Ok(db.query_row("SELECT count(*) FROM admins", [], |row| row.get::<_, i64>(0))? > 0))
    }

    /// The admin's name and password hash, if the name exists.
    ///
    /// # Errors
    /// SQLite's.
    pub fn admin_password_hash(&self, username: &str) -> Result<Option<String>> {
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT password_hash FROM admins WHERE username = ?1")?;
            Ok(statement.query_row([username], |row| row.get("password_hash")).optional()?)
        })
    }

    /// Makes an admin.
    ///
    /// # Errors
    /// The name is taken; SQLite's.
    pub fn create_admin(&self, username: &str, password_hash: &str) -> Result<()> {
        self.write().execute(
            "INSERT INTO admins (username, password_hash, created_at_ms) VALUES (?1, ?2, ?3)",
            (username, password_hash, now_ms()),
        )?;
        Ok(())
    }

    /// Changes an admin's name and password and ends all of that admin's sessions, in one transaction.
    ///
    /// # Errors
    /// No such admin; SQLite's.
    pub fn change_admin(&self, username: &str, new_username: &str, password_hash: &str) -> Result<()> {
        let mut db = self.write();
        let transaction = db.transaction()?;
        transaction.execute("DELETE FROM sessions WHERE username = ?1", [username])?;
        let changed = transaction.execute(
            "UPDATE admins SET username = ?2, password_hash = ?3, updated_at_ms = ?4 WHERE username = ?1",
            (username, new_username, password_hash, now_ms()),
        )?;
        if changed == 0 {
            return Err(Error::not_found("Administrator credentials not found"));
        }
        transaction.commit()?;
        Ok(())
    }

    /// Opens a session for an admin whose password hash is still the one that was checked. Gives back its token, of which
    /// only the hash is kept; `None` if the password has changed meanwhile.
    ///
    /// # Errors
    /// SQLite's.
    pub fn create_session(&self, username: &str, checked_hash: &str) -> Result<Option<String>> {
        let token =
            secret::new_session_token().map_err(|error| Error::internal("no random numbers", error.to_string()))?;
        let made = self.write().execute(
            "INSERT INTO sessions (token_hash, username, login_at_ms, active_at_ms)
             SELECT ?1, ?2, ?3, ?3 WHERE EXISTS (SELECT 1 FROM admins WHERE username = ?2 AND password_hash = ?4)",
            (secret::hash_session_token(&token), username, now_ms(), checked_hash),
        )?;
        Ok((made == 1).then_some(token))
    }

    /// Finds a session by its token, alive or not.
    ///
    /// # Errors
    /// SQLite's.
    pub fn session(&self, token: &str) -> Result<Option<Session>> {
        let hash = secret::hash_session_token(token);
        self.read(|db| {
            let mut statement = db.prepare_cached("SELECT * FROM sessions WHERE token_hash = ?1")?;
            Ok(statement.query_row([&hash], session).optional()?)
        })
    }

    /// Notes that a session was used. A session that has ended meanwhile stays ended.
    ///
    /// # Errors
    /// SQLite's.
    pub fn touch_session(&self, session: &Session) -> Result<()> {
        self.write()
            .execute("UPDATE sessions SET active_at_ms = ?2 WHERE token_hash = ?1", (&session.token_hash, now_ms()))?;
        Ok(())
    }

    /// Ends a session; one that does not exist is no error.
    ///
    /// # Errors
    /// SQLite's.
    pub fn end_session(&self, token: &str) -> Result<()> {
        self.write().execute("DELETE FROM sessions WHERE token_hash = ?1", [secret::hash_session_token(token)])?;
        Ok(())
    }

    /// Removes sessions that ended by idleness or age. Gives back how many.
    ///
    /// # Errors
    /// SQLite's.
    pub fn prune_sessions(&self, idle_before_ms: i64, login_before_ms: i64) -> Result<usize> {
        Ok(self.write().execute(
            "DELETE FROM sessions WHERE active_at_ms < ?1 OR login_at_ms < ?2",
            (idle_before_ms, login_before_ms),
        )?)
    }
}
