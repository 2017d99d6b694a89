//! A sign-in's last step: the code that the admin brought back becomes tokens.

use super::Relay;
use super::credential::GRANT_BYTES_MAX;
use super::upstream::{Call, TOKEN_ENDPOINT};
use crate::claude::oauth::{self, Grant, Pasted};
use crate::error::{Error, Kind, Result};
use crate::store::{OauthSession, TokenPair};

impl Relay {
    /// Exchanges a code for tokens, through the sign-in's own proxy. The sign-in is not ended here.
    ///
    /// # Errors
    /// `Invalid`: the token endpoint refused the code; `Upstream` and `UpstreamTimeout`: it failed or gave no answer. The
    /// messages are fit for the admin and hold no secret.
    pub fn exchange_code(&self, session: &OauthSession, pasted: &Pasted) -> Result<Grant> {
        let verifier = session.verifier.expose();
        let body = oauth::exchange_request(&pasted.code, verifier, &session.state);
        let call = Call::json(TOKEN_ENDPOINT, &self.settings.oauth_token_url, &body, session.proxy.as_ref());
        let answer = self.upstream.fetch(&call, GRANT_BYTES_MAX).map_err(|error| {
            log::warn!("a sign-in got no answer: {error}");
            let message = "Token exchange failed: No response from server (network error or timeout)";
            Error::from_source(Kind::Upstream, message, error)
        })?;
        if let Ok(grant) = oauth::read_grant(answer.status, &answer.body) {
            return Ok(grant);
        }
        if answer.status == 200 {
            let message = "Token exchange failed: the answer holds no access token";
            return Err(Error::new(Kind::Upstream, message));
        }
        let said = oauth::refusal(answer.status, &answer.body, &[&pasted.code, verifier, &session.state]);
        let kind = if (400..500).contains(&answer.status) { Kind::Invalid } else { Kind::Upstream };
        Err(Error::new(kind, format!("Token exchange failed: {said}")))
    }

    /// Refreshes an account's tokens now.
    ///
    /// # Errors
    /// No such account; it has no refresh token; the token endpoint refused or could not be reached.
    pub fn refresh_account(&self, id: &str) -> Result<TokenPair> {
        let before = self.store.account_by_id(id).filter(|account| account.refresh_token.is_some());
        let token_url = &self.settings.oauth_token_url;
        let refreshed = self.credentials.refresh_now(id, true, &self.store, &self.upstream, token_url);
        if let (Err(error), Some(account)) = (&refreshed, before) {
            self.note_end_of_sign_in(&account, error);
        }
        refreshed
    }
}
