//! Steps two to five for one request: choose an account, prove it, send, judge; and on with the next account while nothing
//! was sent to the client and the bounds on tries and time allow.

use super::select::{Choice, Chosen, Nobody, Wanted};
use super::upstream::{Call, Opened};
use super::{Purpose, Relay, Request};
use crate::claude::events::Scanner;
use crate::claude::limits::RateLimits;
use crate::claude::verdict::{self, Action, Facts, Verdict};
use crate::claude::{headers, session};
use crate::error::{Error, Kind, Result};
use crate::model::time::now_ms;
use crate::model::{Account, AccountKind, ApiKey, Budget, Sensitive, rest};
use crate::store::Conversation;
use serde::Deserialize;
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// What is read of an error's body to judge it, in bytes.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// Between two looks for a conversation's own account.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The bounds on what is done for one request before its answer starts.
#[derive(Clone, Copy, Debug)]
pub struct Failover {
    /// Accounts that are tried.
    pub accounts_max: usize,
    /// Time after which no further account is tried.
    pub time_max: Duration,
    /// How long a conversation waits for its own account when its history holds thinking.
    pub affinity_wait: Duration,
}

/// Why a request got no answer.
#[derive(Debug)]
pub enum Unserved {
    /// All accounts rest; the first is back at this instant, Unix milliseconds.
    Resting(i64),
    /// All accounts have as many requests as they may.
    Busy,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Unserved {
    fn from(error: Error) -> Unserved {
        Unserved::Failed(error)
    }
}

/// One request on its way from account to account.
pub(super) struct Course<'a> {
    request: &'a Request<'a>,
    family: Option<&'a str>,
    conversation: Option<Conversation>,
    started: Instant,
    tried: Vec<i64>,
    /// The time that one account has kept its head back. It is not what the others are given: whoever has waited so long for
    /// one is to have an answer from another.
    stalled: Option<Duration>,
    /// Whether it stays with the account of its conversation, if that is there.
    is_faithful: bool,
    /// The end of the wait for that account, once it has begun, Unix milliseconds.
    wait_end_ms: Option<i64>,
    /// The answer that the client gets if no account has a better one.
    kept: Option<(Opened, Chosen)>,
    /// The last failure without an answer.
    failed: Option<Error>,
}

/// What an account made of it.
enum Attempt {
    /// An answer for the client.
    Answer(Box<Opened>),
    /// An answer that the next account may better.
    Worse(Box<Opened>),
    /// None, and another account may have one.
    Failed(Error),
    /// None, and none is wanted any more.
    Over(Error),
}

/// What was found in the end: the answer, the account that gave it, and how many were tried.
pub(super) struct Served {
    pub(super) opened: Opened,
    pub(super) chosen: Chosen,
    pub(super) attempts: u32,
    pub(super) conversation: Option<Conversation>,
}

impl<'a> Course<'a> {
    /// At the beginning.
    pub(super) fn new(key: &ApiKey, request: &'a Request<'a>) -> Course<'a> {
        let header = request.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-claude-code-session-id"));
        let header = header.map(|(_, value)| *value);
        Course {
            request,
            family: request.flight.model.as_deref().and_then(rest::family),
            conversation: session::conversation(key.seq, header, request.user_id, request.body),
            started: Instant::now(),
            tried: Vec::new(),
            stalled: None,
            is_faithful: true,
            wait_end_ms: None,
            kept: None,
            failed: None,
        }
    }

    /// The way from account to account, until one answers or none is left.
    pub(super) fn run(mut self, relay: &Relay, key: &ApiKey) -> std::result::Result<Served, Unserved> {
        loop {
            let chosen = match self.next(relay, key)? {
                Ok(chosen) => chosen,
                Err(nobody) => return self.end(nobody),
            };
            self.tried.push(chosen.account.seq);
            self.request.flight.tries(&chosen.account);
            match self.attempt(relay, &chosen.account) {
                Attempt::Answer(opened) => return Ok(self.served(*opened, chosen)),
                Attempt::Worse(opened) => self.keep(*opened, chosen),
                Attempt::Failed(error) => self.failed = Some(error),
                Attempt::Over(error) => return Err(error.into()),
            }
        }
    }

    /// The next account; `Err` says why there is none.
    fn next(&mut self, relay: &Relay, key: &ApiKey) -> Result<std::result::Result<Chosen, Nobody>> {
        let Failover { accounts_max, time_max, affinity_wait } = relay.settings.failover;
        let elapsed = self.started.elapsed().saturating_sub(self.stalled.unwrap_or_default());
        let is_spent = self.tried.len() >= accounts_max || elapsed >= time_max;
        if !self.tried.is_empty() && is_spent {
            return Ok(Err(Nobody::default()));
        }
        loop {
            // What has begun may go on for its bill; nothing is begun for a client that has left.
            if (self.request.left)() || (self.request.departed)() {
                return Err(Error::new(Kind::ClientGone, "The client has left"));
            }
            let accounts = relay.store.accounts();
            let now = now_ms();
            let wanted = Wanted {
                key,
                family: self.family,
                conversation: self.conversation.filter(|_| self.is_faithful),
                tried: &self.tried,
                over_budget: &over_budget(relay, &accounts, now)?,
                day_end_ms: Budget::Daily.ends_at_ms(now, relay.store.zone()),
            };
            match relay.standings.choose(&accounts, &wanted, now) {
                Choice::Serve(chosen) => return Ok(Ok(chosen)),
                Choice::Nobody(nobody) => return Ok(Err(nobody)),
                Choice::Away(back_ms) => self.wait(back_ms, now, affinity_wait),
            }
        }
    }

    /// The conversation's own account is away until about `back_ms`. A history that holds thinking is worth a short wait.
    fn wait(&mut self, back_ms: i64, now_ms: i64, bound: Duration) {
        let bound_ms = i64::try_from(bound.as_millis()).unwrap_or(i64::MAX);
        let end_ms = *self.wait_end_ms.get_or_insert(now_ms + bound_ms);
        // The body is looked through once, and only for a wait that could help.
        let is_first = end_ms == now_ms + bound_ms;
        self.is_faithful = back_ms < end_ms && (!is_first || session::has_thinking(self.request.body));
        if self.is_faithful {
            let left = Duration::from_millis(u64::try_from(back_ms - now_ms).unwrap_or(0));
            std::thread::sleep(left.clamp(Duration::from_millis(5), LOOK_EVERY));
        }
    }

    /// One account's try: proves it, sends, judges; after a refusal of its token once more with a new one.
    fn attempt(&mut self, relay: &Relay, account: &Account) -> Attempt {
        let (store, upstream, token_url) = (&relay.store, &relay.upstream, &relay.settings.oauth_token_url);
        let mut secret = match relay.credentials.of(account, store, upstream, token_url) {
            Ok(secret) => secret,
            Err(error) => return self.unproved(relay, account, error),
        };
        let mut may_refresh = account.kind == AccountKind::OAuth && account.refresh_token.is_some();
        loop {
            let asked = Instant::now();
            let mut opened = match self.open(relay, account, &secret) {
                Ok(opened) => opened,
                Err(error) => {
                    if error.kind() == Kind::UpstreamTimeout {
                        self.stalled.get_or_insert_with(|| asked.elapsed());
                    }
                    return self.unreached(relay, account, error);
                }
            };
            let verdict = match self.judge(relay, account, &mut opened, may_refresh) {
                Ok(verdict) => verdict,
                Err(error) => return self.unreached(relay, account, error),
            };
            match verdict.action {
                Action::Pass => return Attempt::Answer(Box::new(opened)),
                Action::Next => return Attempt::Worse(Box::new(opened)),
                Action::Refresh => {
                    may_refresh = false;
                    match relay.credentials.renew(account, &secret, store, upstream, token_url) {
                        Ok(renewed) => secret = renewed,
                        Err(error) => {
                            log::warn!("account {:?} was refused and not refreshed: {error}", account.name);
                            self.note_end_of_sign_in(relay, account, &error);
                            // Judged again, with nothing left to try.
                            return match self.judge(relay, account, &mut opened, false) {
                                Ok(_) => Attempt::Worse(Box::new(opened)),
                                Err(error) => self.unreached(relay, account, error),
                            };
                        }
                    }
                }
            }
        }
    }

    fn open(&self, relay: &Relay, account: &Account, secret: &Sensitive) -> Result<Opened> {
        let Request { fields, query, body, flight, departed, .. } = self.request;
        let version = &relay.settings.claude_api_version;
        let fields = headers::upward(fields.iter().copied(), account.kind, secret.expose(), version);
        let body = self.body_for(account, body);
        let url = relay.url(account, flight.purpose, *query);
        let call = Call::post(url, fields, &body, account.proxy.as_ref());
        relay.upstream.open(&call, Some(departed.clone()))
    }

    /// The body as it goes to an account: the client's bytes, but for the model's name where the account calls it otherwise.
    fn body_for(&self, account: &Account, body: &'a [u8]) -> Cow<'a, [u8]> {
        let mapped = self.request.flight.model.as_deref().and_then(|model| account.model_mapping.get(model));
        match (mapped, &self.request.model_at) {
            (Some(name), Some(at)) => {
                let name = serde_json::Value::from(name.as_str()).to_string();
                Cow::Owned([&body[..at.start], name.as_bytes(), &body[at.end..]].concat())
            }
            _ => Cow::Borrowed(body),
        }
    }

    /// Judges an answer and does to the account what the verdict says. Of an answer that is none of errors, the first piece
    /// is awaited: until it is there, another account could still serve.
    fn judge(&mut self, relay: &Relay, account: &Account, opened: &mut Opened, may_refresh: bool) -> Result<Verdict> {
        let now = now_ms();
        let limits = RateLimits::read(opened.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())), now);
        relay.standings.saw(account, &limits, now);
        let is_good = (200..300).contains(&opened.status);
        let status = if is_good { status_at_start(opened)? } else { opened.status };
        // Counting has limits of its own: what they say of an account says nothing of its messages.
        let is_counting = self.request.flight.purpose == Purpose::CountTokens;
        if (200..300).contains(&status) {
            if !is_counting {
                relay.standings.succeeded(account, self.family, now);
            }
            return Ok(Verdict { action: Action::Pass, effect: verdict::Effect::None });
        }
        let said = Said::read(opened.read_ahead(ERROR_BYTES_MAX));
        let facts = Facts {
            status,
            kind: &said.kind,
            message: &said.message,
            limits: &limits,
            may_refresh,
            family: self.family,
            now_ms: now,
        };
        let verdict = verdict::judge(&facts);
        log::debug!("account {:?} answered {status} {:?}: {:?}", account.name, said.kind, verdict.action);
        if !(is_counting && status == 429) {
            relay.standings.apply(account, &verdict.effect, Some(status), &said.message, now);
        }
        Ok(verdict)
    }

    /// The account has nothing to prove itself with now.
    fn unproved(&self, relay: &Relay, account: &Account, error: Error) -> Attempt {
        match error.kind() {
            // The token endpoint, or the way to it.
            Kind::Upstream | Kind::UpstreamTimeout => {
                relay.standings.unreached(account, error.message(), now_ms());
                Attempt::Failed(error)
            }
            Kind::NoAccount => {
                self.note_end_of_sign_in(relay, account, &error);
                Attempt::Failed(error)
            }
            _ => Attempt::Over(error),
        }
    }

    /// Notes in the account's history that this request has found its refresh token refused for good.
    fn note_end_of_sign_in(&self, relay: &Relay, account: &Account, error: &Error) {
        let now = relay.store.account_by_id(&account.id);
        if account.status != "error" && now.is_some_and(|now| now.status == "error") {
            relay.note_end_of_sign_in(account, error);
        }
    }

    /// No answer came.
    fn unreached(&self, relay: &Relay, account: &Account, error: Error) -> Attempt {
        match error.kind() {
            Kind::Upstream | Kind::UpstreamTimeout => {
                log::warn!("account {:?} gave no answer: {error}", account.name);
                relay.standings.unreached(account, error.message(), now_ms());
                Attempt::Failed(error)
            }
            _ => Attempt::Over(error),
        }
    }

    /// Keeps an answer for the client in case none is better: one about the account's own credential is the worst.
    fn keep(&mut self, opened: Opened, chosen: Chosen) {
        let is_private = |status| matches!(status, 401..=403);
        if self.kept.is_none() || !is_private(opened.status) {
            self.kept = Some((opened, chosen));
        }
    }

    fn served(self, opened: Opened, chosen: Chosen) -> Served {
        let attempts = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        Served { opened, chosen, attempts, conversation: self.conversation }
    }

    /// No account is left. The client gets the best answer there was; where all accounts are used up, when to come again.
    fn end(mut self, nobody: Nobody) -> std::result::Result<Served, Unserved> {
        log::warn!("id={} no account is left: {nobody}", self.request.flight.request_id);
        match (self.kept.take(), nobody.until_ms) {
            // All are used up: the upstream's own words, and the first end of all.
            (Some((mut opened, chosen)), Some(until_ms)) if opened.status == 429 => {
                opened.retry_at_the_latest(until_ms, now_ms());
                Ok(self.served(opened, chosen))
            }
            (Some((opened, chosen)), _) => Ok(self.served(opened, chosen)),
            (None, _) => Err(match (self.failed, nobody.until_ms) {
                (Some(error), _) => Unserved::Failed(error),
                (None, Some(until_ms)) => Unserved::Resting(until_ms),
                (None, None) if nobody.is_busy() => Unserved::Busy,
                (None, None) => Unserved::Failed(nobody.as_error()),
            }),
        }
    }
}

/// The status of an answer by its beginning: a stream may begin, and end, with an error event.
fn status_at_start(opened: &mut Opened) -> Result<u16> {
    let status = opened.status;
    let is_stream = opened.is_event_stream();
    let first = opened.first_piece()?;
    if !is_stream {
        return Ok(status);
    }
    let mut scanner = Scanner::new();
    scanner.feed(first);
    let error = scanner.error().filter(|_| !scanner.saw_start());
    Ok(error.map_or(status, |error| verdict::status_of_event(&error.kind)))
}

/// Accounts that have used up what they may cost on this local day.
fn over_budget(relay: &Relay, accounts: &[std::sync::Arc<Account>], now_ms: i64) -> Result<Vec<i64>> {
    let limited = accounts.iter().filter(|account| account.daily_cost_limit > 0);
    let spent = limited.map(|account| Ok((account, relay.store.account_cost_of_day(account.seq, now_ms)?)));
    let over = spent
        .filter(|found: &Result<_>| found.as_ref().map_or(true, |(account, cost)| *cost >= account.daily_cost_limit));
    over.map(|found| found.map(|(account, _)| account.seq)).collect()
}

/// What an error's body says.
pub(super) struct Said {
    pub(super) kind: String,
    pub(super) message: String,
}

impl Said {
    /// Reads the vendor's shape, out of an event too; a body of another shape is its own message.
    pub(super) fn read(body: &[u8]) -> Said {
        #[derive(Deserialize)]
        struct Body {
            error: Inner,
        }
        #[derive(Deserialize)]
        struct Inner {
            #[serde(default, rename = "type")]
            kind: String,
            #[serde(default)]
            message: String,
        }
        let event = body.windows(5).position(|part| part == b"data:").map(|at| &body[at + 5..]);
        let line = event.map(|data| data.split(|byte| *byte == b'\n').next().unwrap_or_default());
        let parsed = serde_json::from_slice::<Body>(body).or_else(|_| serde_json::from_slice(line.unwrap_or_default()));
        match parsed {
            Ok(Body { error: Inner { kind, message } }) => Said { kind, message },
            Err(_) => Said {
                kind: String::new(),
                message: String::from_utf8_lossy(&body[..body.len().min(2000)]).into_owned(),
            },
        }
    }
}
