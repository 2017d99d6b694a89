//! What an account proves itself with, refreshed when its life ends.

use super::upstream::{Call, Upstream};
use crate::claude::oauth::{self, Denial};
use crate::error::{Error, Kind, Result};
use crate::model::time::now_ms;
use crate::model::{Account, AccountKind, Sensitive};
use crate::store::{Store, TokenPair};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// An access token is refreshed this long before its end, as in the original.
const REFRESH_AHEAD_MS: i64 = 60_000;
/// The largest answer of a token endpoint that is read, in bytes.
pub(super) const GRANT_BYTES_MAX: u64 = 64 * 1024;

/// One lock an account, so that a single-use refresh token is never sent twice.
#[derive(Default)]
pub(super) struct Credentials {
    refreshing: Mutex<HashMap<i64, Arc<Mutex<()>>>>,
}

impl Credentials {
    /// The secret to send with a request on this account.
    ///
    /// # Errors
    /// There is none, or its life is over and it cannot be refreshed.
    pub(super) fn of(
        &self,
        account: &Account,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<Sensitive> {
        match account.kind {
            AccountKind::ApiKey => account.api_key.clone(),
            AccountKind::SetupToken => account.access_token.clone(),
            AccountKind::OAuth => return self.access_token(account, store, upstream, token_url),
        }
        .ok_or_else(|| Error::new(Kind::NoAccount, "No access token available"))
    }

    fn access_token(
        &self,
        account: &Account,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<Sensitive> {
        if let Some(token) = fresh(account) {
            return Ok(token);
        }
        let lock = self.lock_of(account);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Another worker may have refreshed while this one waited.
        let account =
            store.account_by_id(&account.id).ok_or_else(|| Error::new(Kind::NoAccount, "Account not found"))?;
        if let Some(token) = fresh(&account) {
            return Ok(token);
        }
        match refresh(&account, store, upstream, token_url) {
            Ok(pair) => Ok(pair.access_token),
            Err(error) => {
                log::warn!("account {} was not refreshed: {error}", account.name);
                let alive = account.expires_at_ms.is_none_or(|end| end > now_ms());
                account.access_token.clone().filter(|_| alive).ok_or(error)
            }
        }
    }

    /// Refreshes an account's access token, whether or not it needs to be.
    ///
    /// # Errors
    /// No such account; it has no refresh token; the token endpoint refused or could not be reached.
    pub(super) fn refresh_now(
        &self,
        id: &str,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<TokenPair> {
        let find = || store.account_by_id(id).ok_or_else(|| Error::not_found("Account not found"));
        let lock = self.lock_of(&*find()?);
        let _turn = lock.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock: what another worker has put in place meanwhile is what must be sent.
        refresh(&*find()?, store, upstream, token_url)
    }

    fn lock_of(&self, account: &Account) -> Arc<Mutex<()>> {
        let mut locks = self.refreshing.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(account.seq).or_default())
    }
}

/// The access token, if it lives long enough to be used without a refresh.
fn fresh(account: &Account) -> Option<Sensitive> {
    let lives = account.expires_at_ms.is_none_or(|end| end > now_ms() + REFRESH_AHEAD_MS);
    account.access_token.clone().filter(|_| lives)
}

fn refresh(account: &Account, store: &Store, upstream: &Upstream, token_url: &str) -> Result<TokenPair> {
    let Some(refresh_token) = &account.refresh_token else {
        return Err(Error::new(Kind::NoAccount, "No refresh token available - manual token update required"));
    };
    let body = oauth::refresh_request(refresh_token.expose());
    let answer = upstream.fetch(&Call::json(token_url, &body, account.proxy.as_ref()), GRANT_BYTES_MAX)?;
    match oauth::read_grant(answer.status, &answer.body) {
        Ok(grant) => {
            let pair = TokenPair {
                access_token: Sensitive::new(grant.access_token),
                refresh_token: grant.refresh_token.map(Sensitive::new),
                expires_at_ms: grant.expires_in_s.map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000))),
                scopes: grant.scopes,
            };
            store.rotate_tokens(&account.id, &pair)?;
            log::info!("account {} refreshed its access token", account.name);
            Ok(pair)
        }
        Err(Denial::InvalidGrant) => {
            let message = "The refresh token is no longer valid: sign in again";
            store.mark_account_error(&account.id, message)?;
            Err(Error::new(Kind::NoAccount, message))
        }
        Err(Denial::Other(reason)) => Err(Error::new(Kind::Upstream, format!("Token refresh failed: {reason}"))),
    }
}
