//! The table that judges an answer: what an error of the upstream means for the client's request and for the account.
//!
//! First row that fits decides. An end comes from the header or it is a guess; guesses start short, grow with each failure
//! in a row, and are bounded. A limit without an end marks nothing.

use super::limits::RateLimits;
use crate::model::{RestReason, RestSource, Scope};

/// What becomes of the request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// The client gets this answer: it is about its request, and another account would say the same.
    Pass,
    /// The next account is tried.
    Next,
    /// The access token is refreshed and the same account tried once more.
    Refresh,
}

/// What becomes of the account.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// It rests, in whole or for a family of models. `until_ms` is `None` where the end must be guessed.
    Rest {
        /// Why.
        reason: RestReason,
        /// What of it.
        scope: Scope,
        /// The end that the header told, Unix milliseconds.
        until_ms: Option<i64>,
    },
    /// It is stopped until an admin acts.
    Stop,
}

impl Effect {
    /// Where the end of a rest is known from.
    pub fn source(&self) -> RestSource {
        match self {
            Effect::Rest { until_ms: Some(_), .. } => RestSource::Header,
            _ => RestSource::Guess,
        }
    }
}

/// The judgement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// What becomes of the request.
    pub action: Action,
    /// What becomes of the account.
    pub effect: Effect,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Status of the answer.
    pub status: u16,
    /// `error.type` of its body; empty if it has none.
    pub kind: &'a str,
    /// `error.message` of its body, or the start of a body that is no JSON.
    pub message: &'a str,
    /// What its header says of limits.
    pub limits: &'a RateLimits,
    /// Whether a refresh of the account's token may help: it has a refresh token that this request has not yet spent.
    pub may_refresh: bool,
    /// The family of the model that was asked for.
    pub family: Option<&'a str>,
    /// When the answer came, Unix milliseconds.
    pub now_ms: i64,
}

/// What a row says.
enum Then {
    Pass,
    Next,
    /// Refresh, where that may help; otherwise this row does not fit.
    Refresh,
    Stop,
    /// A rest of the whole account, of guessed length.
    Rest(RestReason),
    /// A rest for the family of models, of guessed length.
    RestFamily(RestReason),
    /// A rest for as long as the header says, if it says so.
    Limit,
}

/// One row: statuses from and to, `error.type`, a part of the message in lower case; empty fits all.
struct Row(u16, u16, &'static str, &'static str, Then);

/// Facts: the vendor's pages "Errors" and "Rate limits"; what peers have met is told by its message.
const TABLE: &[Row] = &[
    Row(200, 299, "", "", Then::Pass),
    // 400: the client's fault, but for two that are the account's.
    Row(400, 400, "", "organization has been disabled", Then::Stop),
    Row(400, 400, "", "credit balance is too low", Then::Rest(RestReason::Billing)),
    // 401: the credential. The client's own never goes up, so it is always the account's.
    Row(401, 401, "", "", Then::Refresh),
    Row(401, 401, "", "revoked", Then::Stop),
    Row(401, 401, "", "has been disabled", Then::Stop),
    Row(401, 401, "", "", Then::Rest(RestReason::Authentication)),
    Row(402, 402, "", "", Then::Rest(RestReason::Billing)),
    // 403: the vendor does not want this account, or not here, or not for this.
    Row(403, 403, "", "oauth authentication is currently not allowed for this organization", Then::Stop),
    Row(403, 403, "", "has been disabled", Then::Stop),
    Row(403, 403, "", "token has been revoked", Then::Refresh),
    Row(403, 403, "", "token has been revoked", Then::Stop),
    Row(403, 403, "", "", Then::Rest(RestReason::Permission)),
    // 404: a model that this account does not have may be another's.
    Row(404, 404, "not_found_error", "model", Then::Next),
    // 429: a limit of the account, unless it says which option it lacks.
    Row(429, 429, "", "extra usage", Then::Next),
    Row(429, 429, "", "long context", Then::Next),
    Row(429, 429, "", "", Then::Limit),
    // 5xx: the vendor's trouble, or that of what stands before it; another account may be served elsewhere.
    Row(529, 529, "", "", Then::RestFamily(RestReason::Overloaded)),
    Row(500, 599, "", "overloaded", Then::RestFamily(RestReason::Overloaded)),
    Row(500, 599, "", "", Then::Next),
    // All else is about the request.
    Row(0, 999, "", "", Then::Pass),
];

/// Judges an answer.
pub fn judge(facts: &Facts<'_>) -> Verdict {
    let message = facts.message.to_lowercase();
    let fits = |row: &&Row| {
        let Row(from, to, kind, mark, then) = row;
        (*from..=*to).contains(&facts.status)
            && (kind.is_empty() || *kind == facts.kind)
            && message.contains(mark)
            && (facts.may_refresh || !matches!(then, Then::Refresh))
    };
    let rest = |reason, scope, until_ms| Effect::Rest { reason, scope, until_ms };
    let (action, effect) = match TABLE.iter().find(fits).map(|row| &row.4) {
        None | Some(Then::Pass) => (Action::Pass, Effect::None),
        Some(Then::Next) => (Action::Next, Effect::None),
        Some(Then::Refresh) => (Action::Refresh, Effect::None),
        Some(Then::Stop) => (Action::Next, Effect::Stop),
        Some(Then::Rest(reason)) => (Action::Next, rest(*reason, Scope::Account, None)),
        Some(Then::RestFamily(reason)) => (Action::Next, rest(*reason, scope_of(facts.family), None)),
        Some(Then::Limit) => {
            let effect = match facts.limits.exhausted(facts.family, facts.now_ms) {
                Some((scope, until_ms)) => rest(RestReason::RateLimit, scope, Some(until_ms)),
                None => Effect::None,
            };
            (Action::Next, effect)
        }
    };
    Verdict { action, effect }
}

fn scope_of(family: Option<&str>) -> Scope {
    family.map_or(Scope::Account, |family| Scope::Family(family.to_owned()))
}

/// The status that an error event at the start of a stream would have had as an answer of its own (the vendor's page
/// "Errors"); what is not listed there counts as 500.
pub fn status_of_event(kind: &str) -> u16 {
    match kind {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => 500,
    }
}

/// How long a guessed rest lasts, milliseconds, after so many failures in a row, the first being 1.
pub fn guessed_ms(reason: RestReason, failures: u32) -> i64 {
    let (first_s, max_s) = match reason {
        RestReason::RateLimit => (10, 600),
        RestReason::Overloaded => (5, 60),
        RestReason::Authentication | RestReason::Billing => (60, 1800),
        RestReason::Permission => (10, 600),
        RestReason::Unreachable => (5, 300),
    };
    let doublings = failures.saturating_sub(1).min(16);
    (i64::from(first_s) << doublings).min(max_s) * 1000
}

#[cfg(test)]
mod tests;
