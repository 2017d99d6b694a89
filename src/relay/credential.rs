//! What an account proves itself with, refreshed when its life ends.

use super::standing::Standings;
use super::upstream::{Call, TOKEN_ENDPOINT, Upstream};
use crate::claude::oauth::{self, Denial};
use crate::error::{Error, Kind, Result};
use crate::model::time::now_ms;
use crate::model::{Account, AccountEvent, AccountKind, Sensitive};
use crate::store::{Store, TokenPair};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// An access token is refreshed this long before its end, as in the original.
const REFRESH_AHEAD_MS: i64 = 60_000;
/// The background refreshes between this long before the end and half of that, spread by account, so that no request waits
/// for a token endpoint.
const BACKGROUND_AHEAD_MS: i64 = 600_000;
/// After a failed refresh the background waits this long, and twice as long after each further one up to the maximum.
const BACKGROUND_RETRY: Duration = Duration::from_secs(30);
const BACKGROUND_RETRY_MAX: Duration = Duration::from_secs(600);
/// The largest answer of a token endpoint that is read, in bytes.
pub(super) const GRANT_BYTES_MAX: u64 = 64 * 1024;

/// After a failed refresh the endpoint is left alone for this long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What is said when the endpoint refuses a refresh token for good; and when it may be for an answer that never came.
const REFUSED: &str = "The refresh token is no longer valid: sign in again";
const LOST: &str =
    "The refresh token is no longer valid, probably because the answer to an earlier refresh was lost: sign in again";

/// One turn an account, so that a single-use refresh token is never sent twice.
pub(super) struct Credentials {
    turns: Mutex<HashMap<i64, Arc<Mutex<Turn>>>>,
    standings: Arc<Standings>,
}

/// What is known of an account's refreshes. Whoever holds it may refresh.
#[derive(Default)]
struct Turn {
    /// When the last one failed, if none has succeeded since.
    failed_at: Option<Instant>,
    /// How many have failed in a row.
    failures: u32,
    /// A pair that was granted and could not yet be kept, with the refresh token that was spent for it.
    unsaved: Option<(Sensitive, TokenPair)>,
    /// A refresh token that was refused for good while the access token lived on. It is not sent again.
    refused: Option<Sensitive>,
}

impl Credentials {
    /// What refreshes do to an account is told to its standing.
    pub(super) fn new(standings: Arc<Standings>) -> Credentials {
        Credentials { turns: Mutex::default(), standings }
    }

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

    /// The secret that an account has now, if it lives; nothing is refreshed and nothing waited for.
    pub(super) fn at_hand(&self, account: &Account) -> Option<Sensitive> {
        match account.kind {
            AccountKind::ApiKey => account.api_key.clone(),
            AccountKind::SetupToken => account.access_token.clone(),
            AccountKind::OAuth => living(account),
        }
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
        let asked = Instant::now();
        let turn = self.turn_of(account);
        let mut turn = match (turn.try_lock(), living(account)) {
            (Ok(turn), _) => turn,
            // Somebody refreshes already; until then the old token does.
            (Err(TryLockError::WouldBlock), Some(token)) => return Ok(token),
            (Err(_), _) => turn.lock().unwrap_or_else(PoisonError::into_inner),
        };
        // Another worker may have refreshed while this one waited.
        let account =
            store.account_by_id(&account.id).ok_or_else(|| Error::new(Kind::NoAccount, "Account not found"))?;
        if let Some(token) = fresh(&account) {
            return Ok(token);
        }
        // Those who waited share a failure: each trying again, they would wait for one another without end.
        let has_failed = turn.failed_at.is_some_and(|at| at > asked || at.elapsed() < RETRY_AFTER);
        let refreshed = if has_failed {
            Err(Error::new(Kind::Upstream, "Token refresh failed a moment ago"))
        } else {
            self.refresh(&mut turn, &account, store, upstream, token_url)
        };
        match refreshed {
            Ok(pair) => Ok(pair.access_token),
            Err(error) => {
                log::warn!("account {:?} was not refreshed: {error}", account.name);
                living(&account).ok_or(error)
            }
        }
    }

    /// Another access token for one that was refused: the one that has come in its place meanwhile, or a new one.
    ///
    /// # Errors
    /// As for refreshing.
    pub(super) fn renew(
        &self,
        account: &Account,
        refused: &Sensitive,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<Sensitive> {
        let asked = Instant::now();
        let turn = self.turn_of(account);
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        let account =
            store.account_by_id(&account.id).ok_or_else(|| Error::new(Kind::NoAccount, "Account not found"))?;
        if let Some(token) = account.access_token.clone().filter(|token| token != refused) {
            return Ok(token);
        }
        if turn.failed_at.is_some_and(|at| at > asked || at.elapsed() < RETRY_AFTER) {
            return Err(Error::new(Kind::Upstream, "Token refresh failed a moment ago"));
        }
        let renewed = self.refresh(&mut turn, &account, store, upstream, token_url);
        if let (Err(error), Some(refresh_token)) = (&renewed, &account.refresh_token)
            && error.kind() == Kind::NoAccount
        {
            // Both tokens were refused: nothing is left to live on.
            turn.refused = None;
            store.mark_account_error(&account.id, refresh_token, error.message())?;
        }
        renewed.map(|pair| pair.access_token)
    }

    /// Refreshes an account's access token, whether or not it needs to be; if an admin wants it, also with a refresh token
    /// that was refused before.
    ///
    /// # Errors
    /// No such account; it has no refresh token; the token endpoint refused or could not be reached.
    pub(super) fn refresh_now(
        &self,
        id: &str,
        is_wanted: bool,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<TokenPair> {
        let find = || store.account_by_id(id).ok_or_else(|| Error::not_found("Account not found"));
        let turn = self.turn_of(&*find()?);
        let mut turn = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if is_wanted {
            turn.refused = None;
        }
        // Read in turn: what another worker has put in place meanwhile is what must be sent.
        self.refresh(&mut turn, &*find()?, store, upstream, token_url)
    }

    fn refresh(
        &self,
        turn: &mut Turn,
        account: &Account,
        store: &Store,
        upstream: &Upstream,
        token_url: &str,
    ) -> Result<TokenPair> {
        let refreshed = granted(turn, account, store, upstream, token_url).and_then(|(spent, pair)| {
            // Kept before it is used, and kept in mind until then: what was spent for it is worth nothing any more.
            turn.unsaved = Some((spent.clone(), pair.clone()));
            let is_current = store.rotate_tokens(&account.id, &spent, &pair)?;
            turn.unsaved = None;
            if is_current {
                log::info!("account {:?} refreshed its access token", account.name);
                return Ok(pair);
            }
            Err(Error::new(Kind::Upstream, "The account was signed in anew meanwhile, try again"))
        });
        turn.failed_at = refreshed.is_err().then(Instant::now);
        turn.failures = if refreshed.is_err() { turn.failures.saturating_add(1) } else { 0 };
        match &refreshed {
            Ok(_) => self.note(account, "refresh", "The access token was refreshed"),
            // The end of a sign-in is noted by whoever finds it: it may end the account, too.
            Err(error) if error.kind() == Kind::NoAccount => {}
            // Of failures in a row the first is enough.
            Err(error) if turn.failures == 1 => self.note(account, "refresh_failed", error.message()),
            Err(_) => {}
        }
        refreshed
    }

    fn note(&self, account: &Account, kind: &str, message: &str) {
        self.standings.note(account, AccountEvent::new(now_ms(), kind, message));
    }

    /// Whether the background should refresh an account's token now.
    pub(super) fn is_due(&self, account: &Account, now_ms: i64) -> bool {
        let is_refreshable =
            account.kind == AccountKind::OAuth && account.refresh_token.is_some() && account.is_usable();
        let ahead_ms = BACKGROUND_AHEAD_MS - account.seq.wrapping_mul(7919).rem_euclid(BACKGROUND_AHEAD_MS / 2);
        if !is_refreshable || account.expires_at_ms.is_none_or(|end| end > now_ms + ahead_ms) {
            return false;
        }
        let turn = self.turn_of(account);
        // Whoever holds the turn refreshes already.
        let Ok(turn) = turn.try_lock() else { return false };
        if turn.refused == account.refresh_token {
            // Nothing is left but to stop it when its time has come.
            return !serves_on(account);
        }
        let pause = BACKGROUND_RETRY.saturating_mul(1 << turn.failures.saturating_sub(1).min(8));
        turn.failed_at.is_none_or(|at| at.elapsed() >= pause.min(BACKGROUND_RETRY_MAX))
    }

    fn turn_of(&self, account: &Account) -> Arc<Mutex<Turn>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(account.seq).or_default())
    }
}

/// The access token, if it lives long enough to be used without a refresh.
fn fresh(account: &Account) -> Option<Sensitive> {
    let lives = account.expires_at_ms.is_none_or(|end| end > now_ms() + REFRESH_AHEAD_MS);
    account.access_token.clone().filter(|_| lives)
}

/// The access token, if its life is not over.
fn living(account: &Account) -> Option<Sensitive> {
    let lives = account.expires_at_ms.is_none_or(|end| end > now_ms());
    account.access_token.clone().filter(|_| lives)
}

/// Whether an account serves on whose refresh token was refused: as long as its access token surely lives.
fn serves_on(account: &Account) -> bool {
    account.expires_at_ms.is_some() && living(account).is_some()
}

/// An account's refresh token was refused for good: it stops, at once or with the end of its access token's life.
fn end(turn: &mut Turn, account: &Account, refused: &Sensitive, message: &str, store: &Store) -> Error {
    let noted = match serves_on(account) {
        true => {
            turn.refused = Some(refused.clone());
            store.warn_of_account(&account.id, refused, message)
        }
        false => {
            turn.refused = None;
            store.mark_account_error(&account.id, refused, message)
        }
    };
    noted.err().unwrap_or_else(|| Error::new(Kind::NoAccount, message))
}

/// What the endpoint grants for the account's refresh token, or granted before; and the token that was spent.
fn granted(
    turn: &mut Turn,
    account: &Account,
    store: &Store,
    upstream: &Upstream,
    token_url: &str,
) -> Result<(Sensitive, TokenPair)> {
    let Some(refresh_token) = &account.refresh_token else {
        return Err(Error::new(Kind::NoAccount, "No refresh token available - manual token update required"));
    };
    if let Some(kept) = turn.unsaved.take().filter(|(spent, _)| spent == refresh_token) {
        return Ok(kept);
    }
    let mut is_in_doubt = account.refresh_in_doubt;
    let refusal = |is_in_doubt: bool| if is_in_doubt { LOST } else { REFUSED };
    if turn.refused.as_ref() == Some(refresh_token) {
        return Err(end(turn, account, refresh_token, refusal(is_in_doubt), store));
    }
    // One that may be spent is sent again all the same: some endpoints take it again, and the others say that they do not.
    let body = oauth::refresh_request(refresh_token.expose());
    let call = Call::json(TOKEN_ENDPOINT, token_url, &body, account.proxy.as_ref());
    let sent = upstream.exchange(&call, GRANT_BYTES_MAX);
    // What stands before the endpoint may have lost its answer, too.
    if sent.is_in_doubt || sent.answer.as_ref().is_ok_and(|answer| answer.status >= 500) {
        is_in_doubt = true;
        if let Err(error) = store.doubt_refresh(&account.id, refresh_token) {
            log::warn!("account {:?} may have lost its refresh token, which could not be noted: {error}", account.name);
        }
    }
    let answer = sent.answer?;
    match oauth::read_grant(answer.status, &answer.body) {
        Ok(grant) => {
            let pair = TokenPair {
                access_token: Sensitive::new(grant.access_token),
                refresh_token: grant.refresh_token.map(Sensitive::new),
                expires_at_ms: grant.expires_in_s.map(|seconds| now_ms().saturating_add(seconds.saturating_mul(1000))),
                scopes: grant.scopes,
            };
            Ok((refresh_token.clone(), pair))
        }
        Err(Denial::InvalidGrant) => Err(end(turn, account, refresh_token, refusal(is_in_doubt), store)),
        Err(Denial::Other(reason)) => Err(Error::new(Kind::Upstream, format!("Token refresh failed: {reason}"))),
    }
}
