//! A trial of one account: one small real request, outside of any key's limits and of the bill.

use super::Relay;
use super::upstream::Call;
use super::{Purpose, forward::Said};
use crate::claude::headers;
use crate::error::Result;
use crate::model::time::now_ms;
use crate::model::{Account, AccountEvent, Proxy};
use std::time::Instant;

/// The model that is asked when none is named: the vendor's smallest that all accounts have.
const MODEL: &str = "claude-haiku-4-5";
/// The largest answer that is read, in bytes.
const BYTES_MAX: u64 = 256 * 1024;

/// What came of a trial.
pub struct Trial {
    /// Whether the account has answered a message.
    pub is_ok: bool,
    /// Status of the answer; 0 when there was none.
    pub status: u16,
    /// From the request to the whole answer, milliseconds.
    pub latency_ms: u64,
    /// The model that was asked.
    pub model: String,
    /// What went wrong, in the upstream's words where it has some.
    pub message: String,
}

impl Relay {
    /// Tries an account with one small message. It takes at most half a minute, and marks nothing: an admin who looks into
    /// trouble decides what it means.
    pub fn try_account(&self, account: &Account, model: Option<&str>) -> Trial {
        let model = model.unwrap_or(MODEL);
        let name = account.model_mapping.get(model).map_or(model, String::as_str);
        let mut trial =
            Trial { is_ok: false, status: 0, latency_ms: 0, model: name.to_owned(), message: String::new() };
        let start = Instant::now();
        match self.small_message(account, name) {
            Ok((status, body)) => {
                trial.status = status;
                trial.is_ok = (200..300).contains(&status);
                trial.message = if trial.is_ok { "The account answers".to_owned() } else { Said::read(&body).message };
            }
            Err(error) => trial.message = error.message().to_owned(),
        }
        trial.latency_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let event = AccountEvent::new(now_ms(), "test", trial.message.clone());
        let status = (trial.status > 0).then(|| i64::from(trial.status));
        self.standings.note(account, AccountEvent { status, ..event });
        trial
    }

    /// Tries to reach the upstream through a proxy, in at most half a minute. Whatever the upstream answers, it was reached.
    /// Gives back the URL that was asked for and the time it took, milliseconds.
    ///
    /// # Errors
    /// Why it was not reached.
    pub fn try_proxy(&self, proxy: &Proxy) -> Result<(String, u64)> {
        let url = &self.settings.claude_api_url;
        // The root of its host: asking for it costs nothing and changes nothing.
        let authority = url.find("://").map_or(0, |at| at + 3);
        let end = url[authority..].find('/').map_or(url.len(), |at| authority + at);
        let root = format!("{}/", &url[..end]);
        let start = Instant::now();
        self.upstream.fetch(&Call::get_through(&root, Some(proxy)), BYTES_MAX)?;
        Ok((root, u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)))
    }

    fn small_message(&self, account: &Account, model: &str) -> Result<(u16, Vec<u8>)> {
        let secret = self.credentials.of(account, &self.store, &self.upstream, &self.settings.oauth_token_url)?;
        let body = serde_json::json!({
            "model": model, "max_tokens": 1, "messages": [{ "role": "user", "content": "Hi" }],
        });
        let (body, json) = (body.to_string(), ("content-type", &b"application/json"[..]));
        let fields =
            headers::upward([json].into_iter(), account.kind, secret.expose(), &self.settings.claude_api_version);
        let url = self.url(account, Purpose::Message, None);
        let call = Call::post(url, fields, body.as_bytes(), account.proxy.as_ref());
        let fetched = self.upstream.fetch(&call, BYTES_MAX)?;
        Ok((fetched.status, fetched.body))
    }
}
