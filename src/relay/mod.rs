//! The main path, one file a step: `admit`, `select`, `credential`, `upstream` (forward), `meter`.
//! No client socket is touched here, and no SQL is written.

pub mod admit;
mod affinity;
mod budgets;
mod credential;
mod faults;
mod flights;
mod forward;
mod meter;
mod models;
mod names;
mod notices;
mod pace;
mod permits;
mod pooled;
mod pricing;
mod select;
mod sign_in;
mod standing;
mod totals;
mod trial;
mod upstream;
mod watch;
mod windows;

pub use flights::{Boarded, Flight, Flights, SoFar};
pub use forward::{Failover, Unserved};
pub use meter::Answer;
use notices::Reached;
pub use notices::{NoticeFigures, NoticeTrial, Notices};
pub use pace::Done;
pub use standing::{Standing, Standings};
pub use totals::{ModelTotal, Totals};
pub use trial::Trial;
pub use upstream::Bounds;
pub use watch::Departed;

use crate::error::{Error, Kind, Result};
use crate::model::time::now_ms;
use crate::model::{Account, AccountEvent, ApiKey, Spent};
use crate::store::{Store, WindowUse};
use admit::{Ask, Caller, Gate, Refused};
use forward::Course;
use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use upstream::Upstream;

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
    /// What is done for one request before its answer starts.
    pub failover: Failover,
    /// How long a request may wait for one of its key's places; zero refuses at once.
    pub concurrency_wait: Duration,
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
    /// Where the model's name stands in the body, quotation marks included.
    pub model_at: Option<Range<usize>>,
    /// `metadata.user_id`.
    pub user_id: Option<&'a str>,
    /// Its place in the list of those that run; what the ledger will say of it.
    pub flight: Boarded,
    /// Answers whether the client has left and its bill is not waited for, or not any longer.
    pub departed: Departed,
    /// Answers whether the client has left: then nobody is asked any more.
    pub left: Departed,
}

/// The main path's state.
pub struct Relay {
    store: Arc<Store>,
    settings: Settings,
    gate: Gate,
    standings: Arc<Standings>,
    credentials: credential::Credentials,
    upstream: Arc<Upstream>,
    notices: Arc<Notices>,
    totals: Arc<Totals>,
    flights: Arc<Flights>,
    lists: models::Lists,
}

impl Relay {
    /// A relay over a store.
    ///
    /// # Errors
    /// The file of further roots cannot be used; the store's.
    pub fn new(store: Arc<Store>, settings: Settings) -> Result<Relay> {
        let upstream = Arc::new(Upstream::new(settings.bounds, settings.upstream_ca_file.as_deref())?);
        let notices = Arc::new(Notices::new(Arc::clone(&upstream), Arc::clone(&store)));
        let standings = Arc::new(Standings::load(Arc::clone(&store), Arc::clone(&notices))?);
        let gate = Gate { prefix: settings.api_key_prefix.clone(), wait: settings.concurrency_wait, ..Gate::default() };
        Ok(Relay {
            store,
            settings,
            gate,
            credentials: credential::Credentials::new(Arc::clone(&standings)),
            standings,
            upstream,
            notices,
            totals: Arc::default(),
            flights: Arc::default(),
            lists: models::Lists::default(),
        })
    }

    /// Who is calling, and may they. Everything that can be known before the body is read.
    ///
    /// # Errors
    /// Why the caller is refused.
    pub fn admit(&self, ask: &Ask<'_>) -> std::result::Result<Caller, Refused> {
        let admitted = self.gate.admit(&self.store, ask);
        if let Some(reached) = admitted.as_ref().err().and_then(Reached::of)
            && self.notices.tells_of_limits()
            && let Ok(key) = admit::identify(&self.store, &self.settings.api_key_prefix, ask.clear)
        {
            self.notices.limit_reached(&key, &reached);
        }
        admitted
    }

    /// What an admin is told of through a webhook.
    pub fn notices(&self) -> &Notices {
        &self.notices
    }

    /// Requests of a key that run now, without those that only count tokens.
    pub fn running(&self, key_seq: i64) -> i64 {
        self.gate.permits.running(key_seq)
    }

    /// What a key has spent of its budgets until now.
    ///
    /// # Errors
    /// The store's.
    pub fn spent(&self, key_seq: i64) -> Result<Spent> {
        self.gate.budgets.spent(&self.store, key_seq, now_ms)
    }

    /// The window that a key is in.
    ///
    /// # Errors
    /// The store's.
    pub fn window(&self, key: &ApiKey, now_ms: i64) -> Result<Option<WindowUse>> {
        self.gate.windows.current(&self.store, key, now_ms)
    }

    /// The windows that keys are in, by row number.
    ///
    /// # Errors
    /// The store's.
    pub fn windows(&self, keys: &[ApiKey], now_ms: i64) -> Result<HashMap<i64, WindowUse>> {
        self.gate.windows.all(&self.store, keys, now_ms)
    }

    /// What has been relayed since the start.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The requests that run now.
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// Refreshes the access tokens that will soon end, one after another. Gives back how many. What fails is logged, noted in
    /// the account's history, and tried again later.
    pub fn refresh_ahead(&self, now_ms: i64) -> usize {
        let token_url = &self.settings.oauth_token_url;
        let due = |account: &&Arc<Account>| self.credentials.is_due(account, now_ms);
        let accounts = self.store.accounts();
        let refreshed = accounts.iter().filter(due).filter(|account| {
            let outcome = self.credentials.refresh_now(&account.id, false, &self.store, &self.upstream, token_url);
            if let Err(error) = &outcome {
                log::warn!("account {:?} was not refreshed ahead of time: {error}", account.name);
                self.note_end_of_sign_in(account, error);
            }
            outcome.is_ok()
        });
        refreshed.count()
    }

    /// Notes in an account's history that its refresh token was refused for good, or that it is stopped because of that.
    /// `account` is the account as it was before. Other failures were noted where they happened.
    fn note_end_of_sign_in(&self, account: &Account, error: &Error) {
        if error.kind() != Kind::NoAccount {
            return;
        }
        let now = self.store.account_by_id(&account.id);
        let is_stopped = account.status != "error" && now.is_some_and(|now| now.status == "error");
        // It has served on since its refresh token was refused, and that was told then.
        let kind = if is_stopped && !account.error_message.is_empty() { "stopped" } else { "refresh_failed" };
        let reason = Some(standing::SIGN_IN_OVER.to_owned());
        self.standings.note(account, AccountEvent { reason, ..AccountEvent::new(now_ms(), kind, error.message()) });
    }

    /// Forgets conversations that are over, accounts that are no more, and limits that were told of and begin anew. Gives
    /// back how many conversations.
    ///
    /// # Errors
    /// The store's.
    pub fn prune(&self, now_ms: i64) -> Result<usize> {
        let accounts = self.store.accounts();
        self.standings.retain(|seq| accounts.iter().any(|account| account.seq == seq));
        self.store.prune_told_limits(now_ms)?;
        self.store.prune_affinities(now_ms - affinity::LIFE_MS, affinity::AFFINITIES_MAX)
    }

    /// How the accounts stand.
    pub fn standings(&self) -> &Standings {
        &self.standings
    }

    /// Relays one request and gives back its answer as soon as it has begun. An account that fails *before* its answer starts
    /// is left for the next one; once the answer has started it belongs to the client.
    ///
    /// # Errors
    /// No account can serve; the upstream gave no answer; the client has left.
    pub fn relay(&self, caller: Caller, request: Request<'_>) -> std::result::Result<Answer, Unserved> {
        let served = Course::new(&caller.key, &request).run(self, &caller.key)?;
        let kept = (Arc::clone(&self.store), Arc::clone(&self.totals), Arc::clone(&self.standings));
        Ok(Answer::new(served, caller, kept, request.flight))
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
