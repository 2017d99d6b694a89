//! What was used: token counts, and the ledger line of one request.

use super::cost::Cost;
use std::borrow::Cow;

/// Counts of the five kinds of tokens that are priced apart.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tokens {
    /// Prompt tokens that no cache held.
    pub input: i64,
    /// Tokens the model wrote.
    pub output: i64,
    /// Tokens written to the five-minute cache.
    pub cache_creation_5m: i64,
    /// Tokens written to the one-hour cache.
    pub cache_creation_1h: i64,
    /// Prompt tokens read from a cache.
    pub cache_read: i64,
}

impl Tokens {
    /// Cache writes of both lives.
    pub fn cache_creation(&self) -> i64 {
        self.cache_creation_5m + self.cache_creation_1h
    }

    /// All kinds together.
    pub fn all(&self) -> i64 {
        self.input + self.output + self.cache_creation() + self.cache_read
    }

    /// Adds another count to this one.
    pub fn add(&mut self, other: &Tokens) {
        self.input += other.input;
        self.output += other.output;
        self.cache_creation_5m += other.cache_creation_5m;
        self.cache_creation_1h += other.cache_creation_1h;
        self.cache_read += other.cache_read;
    }
}

/// Requests and tokens of one bucket of a report.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Billed requests.
    pub requests: i64,
    /// Their tokens.
    pub tokens: Tokens,
}

impl Usage {
    /// Adds another bucket to this one.
    pub fn add(&mut self, other: &Usage) {
        self.requests += other.requests;
        self.tokens.add(&other.tokens);
    }

    /// Takes another bucket, which is part of this one, out of it.
    pub fn remove(&mut self, other: &Usage) {
        self.requests -= other.requests;
        self.tokens.input -= other.tokens.input;
        self.tokens.output -= other.tokens.output;
        self.tokens.cache_creation_5m -= other.tokens.cache_creation_5m;
        self.tokens.cache_creation_1h -= other.tokens.cache_creation_1h;
        self.tokens.cache_read -= other.tokens.cache_read;
    }
}

/// A bucket of a report with what it cost.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Bill {
    /// Requests and tokens.
    pub usage: Usage,
    /// What they cost, frozen when each line was written.
    pub cost: Cost,
    /// Requests among them that have no price, and are not in `cost`.
    pub unpriced_requests: i64,
}

impl Bill {
    /// Adds another bucket to this one.
    pub fn add(&mut self, other: &Bill) {
        self.usage.add(&other.usage);
        self.cost.add(&other.cost);
        self.unpriced_requests += other.unpriced_requests;
    }
}

/// One relayed request, as the ledger keeps it.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// The id that the client saw in `X-Request-ID`.
    pub request_id: String,
    /// Arrival, Unix milliseconds.
    pub at_ms: i64,
    /// Whose request it was.
    pub key_seq: i64,
    /// Which account answered.
    pub account_seq: i64,
    /// The model of the answer, else of the request, else `unknown`.
    pub model: String,
    /// Whether the answer was an event stream.
    pub stream: bool,
    /// The status the client was given.
    pub status: u16,
    /// The upstream's `request-id`, if it sent one.
    pub upstream_request_id: Option<String>,
    /// What the upstream reported so far; `None` when it reported nothing.
    pub tokens: Option<Tokens>,
    /// Web searches that the upstream reported.
    pub web_search_requests: i64,
    /// `usage.service_tier`, if reported.
    pub service_tier: Option<String>,
    /// `usage.speed`, if reported.
    pub speed: Option<String>,
    /// `usage.inference_geo`, if reported.
    pub inference_geo: Option<String>,
    /// Whether the whole answer was passed on; `false` marks a partial bill.
    pub complete: bool,
    /// Accounts that were tried, this one included.
    pub attempts: u32,
    /// Why this account was chosen: `bound`, `fallback`, `affinity`, `pool`, `failover`.
    pub account_reason: Cow<'static, str>,
    /// From arrival to the upstream's first byte, milliseconds.
    pub first_byte_ms: i64,
    /// From arrival to the end, milliseconds.
    pub total_ms: i64,
}

/// How a request ended: each line is exactly one of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Answered, and passed on whole.
    Ok,
    /// The client was given an error: status 400 or above.
    Error,
    /// An answer that was not passed on whole.
    Partial,
}

impl Outcome {
    /// The outcome of a line with this status and completeness.
    pub fn of(status: u16, complete: bool) -> Outcome {
        match (status, complete) {
            (400.., _) => Outcome::Error,
            (_, true) => Outcome::Ok,
            (_, false) => Outcome::Partial,
        }
    }

    /// The outcome's name: `ok`, `error` or `partial`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::Partial => "partial",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Outcome> {
        [Outcome::Ok, Outcome::Error, Outcome::Partial].into_iter().find(|outcome| outcome.as_str() == name)
    }
}
