//! The main path, one file a step: `admit`, `select`, `credential`, `upstream` (forward), `meter`.
//! No client socket is touched here, and no SQL is written.

pub mod admit;
mod credential;
mod flights;
mod meter;
mod pace;
mod pricing;
mod select;
mod sign_in;
mod totals;
mod upstream;
mod watch;
mod windows;

pub use flights::{Boarded, Flight, Flights, SoFar};
pub use meter::{Answer, Tag};
pub use pace::Done;
pub use totals::Totals;
pub use upstream::Bounds;
pub use watch::Departed;

use crate::claude::headers;
use crate::error::Result;
use crate::model::Account;
use crate::store::Store;
use admit::{Caller, Permits, Refused};
use std::path::PathBuf;
use std::sync::Arc;
use upstream::{Call, Upstream};

/// What the main path needs to know of the configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Prefix of all API keys.
    pub api_key_prefix: String,
    /// The messages URL of accounts without a base URL of their own.
    pub claude_api_url: String,
    /// `anthropic-version` for clients that send none.
    pub claude_api_version: String,
    /// Token endpoint for refreshes.
    pub oauth_token_url: String,
    /// PEM file with further roots.
    pub upstream_ca_file: Option<PathBuf>,
    /// How long each part of an exchange may take.
    pub bounds: Bounds,
}

/// What a request asks of the upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// An answer, which is billed.
    Message,
    /// How many tokens a message would cost; asking costs nothing and is kept nowhere.
    CountTokens,
}

/// A request as the main path sees it.
pub struct Request<'a> {
    /// Header fields as the client sent them.
    pub fields: &'a [(&'a str, &'a [u8])],
    /// The query string, without the question mark.
    pub query: Option<&'a str>,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// What the ledger will say of it.
    pub tag: Tag,
    /// Answers whether the client has left.
    pub departed: Departed,
}

/// The main path's state.
pub struct Relay {
    store: Arc<Store>,
    settings: Settings,
    permits: Arc<Permits>,
    windows: windows::Windows,
    turns: select::Turns,
    credentials: credential::Credentials,
    upstream: Upstream,
    totals: Arc<Totals>,
    flights: Arc<Flights>,
}

impl Relay {
    /// A relay over a store.
    ///
    /// # Errors
    /// The file of further roots cannot be used.
    pub fn new(store: Arc<Store>, settings: Settings) -> Result<Relay> {
        let upstream = Upstream::new(settings.bounds, settings.upstream_ca_file.as_deref())?;
        Ok(Relay {
            store,
            settings,
            permits: Arc::default(),
            windows: windows::Windows::default(),
            turns: select::Turns::default(),
            credentials: credential::Credentials::default(),
            upstream,
            totals: Arc::default(),
            flights: Arc::default(),
        })
    }

    /// Who is calling, and may they. Everything that can be known before the body is read. `at_ms`: when the request came.
    ///
    /// # Errors
    /// Why the caller is refused.
    pub fn admit(&self, key: Option<&str>, purpose: Purpose, at_ms: i64) -> std::result::Result<Caller, Refused> {
        // Asking what a message would cost uses nothing of a window.
        let windows = (purpose == Purpose::Message).then_some(&self.windows);
        admit::admit(&self.store, &self.permits, windows, &self.settings.api_key_prefix, key, at_ms)
    }

    /// Requests of a key that run now.
    pub fn running(&self, key_seq: i64) -> i64 {
        self.permits.running(key_seq)
    }

    /// What has been relayed since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The requests that run now.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Relays one request and gives back its answer as soon as the upstream's head is there.
    ///
    /// # Errors
    /// No account can serve; the upstream gave no answer; the client has left.
    pub fn relay(&self, caller: Caller, request: Request<'_>) -> Result<Answer> {
        let account = self.turns.select(&self.store.accounts(), &caller.key)?;
        request.tag.flight.tries(&account);
        let secret = self.credentials.of(&account, &self.store, &self.upstream, &self.settings.oauth_token_url)?;
        let fields = headers::upward(
            request.fields.iter().copied(),
            account.kind,
            secret.expose(),
            &self.settings.claude_api_version,
        );
        let call = Call::post(
            self.url(&account, request.tag.purpose, request.query),
            fields,
            request.body,
            account.proxy.as_ref(),
        );
        let opened = self.upstream.open(&call, Some(request.departed))?;
        let kept = (Arc::clone(&self.store), Arc::clone(&self.totals));
        Ok(Answer::new(opened, caller, account, kept, request.tag))
    }

    fn url(&self, account: &Account, purpose: Purpose, query: Option<&str>) -> String {
        let mut url = match &account.base_url {
            Some(base) => format!("{base}/v1/messages"),
            None => self.settings.claude_api_url.clone(),
        };
        if purpose == Purpose::CountTokens {
            let path_end = url.find('?').unwrap_or(url.len());
            url.insert_str(path_end, "/count_tokens");
        }
        match query {
            None | Some("") => url,
            Some(query) if url.contains('?') => format!("{url}&{query}"),
            Some(query) => format!("{url}?{query}"),
        }
    }
}
