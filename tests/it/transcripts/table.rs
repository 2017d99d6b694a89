//! The table of deliberate differences.

use super::recorded::Recorded;

/// One deliberate difference.
pub struct Row {
    /// Names of transcripts, separated by blanks: whole, with a `*` at the end, or a group: `relayed` (the upstream's
    /// answer, passed on), `passed-on` (the same, not streamed), `streamed` (the original meant to stream), `web` (with a
    /// content security policy), `early` (the original answered before its second pack of header fields).
    who: &'static str,
    /// Places, separated by blanks; a `*` at the end takes all that begin so. `field:` is followed by a name.
    what: &'static str,
    /// The fault of the original by its number in the contract's register, or why this relay does otherwise.
    pub reason: &'static str,
}

const fn row(who: &'static str, what: &'static str, reason: &'static str) -> Row {
    Row { who, what, reason }
}

pub static DIFFERENCES: &[Row] = &[
    // Header fields.
    row(
        "early",
        "field:referrer-policy field:x-frame-options field:x-xss-protection field:cache-control field:pragma field:expires",
        "[BUG 73] every answer has all header fields",
    ),
    row(
        "cors-preflight-default dev-cors-preflight messages-too-large global-rate-limit global-rate-limit-messages",
        "field:x-request-id",
        "[BUG 73] as above",
    ),
    row("web", "field:content-security-policy", "the pages need nothing from elsewhere and nothing inline"),
    row("relayed", "field:strict-transport-security", "the relay speaks for its own host, not for the upstream's"),
    row("streamed", "field:cache-control", "a relayed stream is kept by nobody, like every other answer"),
    row("passed-on", "field:etag", "answers pass byte for byte as they come; the upstream sends no validator"),
    row("relayed", "field:vary", "a relayed answer has one encoding only, whatever the client accepts"),
    row("web-login-bad-json", "field:content-security-policy", "[BUG 73] it goes by the path, whatever the answer"),
    // Pages and sessions.
    row(
        "web-appjs",
        "status field:content-type",
        "the pages are others and bring files of their own names, under /web/assets",
    ),
    row("web-login-nonstring-password", "status body*", "what the client did wrong is told as such, with 400"),
    row(
        "web-user-garbage-token web-user-after-logout",
        "status body*",
        "[BUG 2] a token that is no session is refused",
    ),
    row("admin-with-forged-token", "status body*", "[BUG 1] a token that is no session is refused everywhere"),
    row("web-refresh-forged-token", "status body*", "[BUG 1] a token that is no session is refused and makes none"),
    row(
        "web-login-after-credentials-deleted web-user-after-credentials-deleted",
        "status body*",
        "[BUG 4] [BUG 5] nobody can delete the admin, and no time ends one",
    ),
    // Bodies that cannot be read.
    row(
        "web-login-bad-json admin-key-create-bad-json messages-bad-json messages-whitespace-body",
        "status body/error body/message",
        "[BUG 70] what is wrong with the body is said, with 400",
    ),
    row("messages-bad-json-no-key", "status body*", "who calls is asked before a body is read: strangers send none"),
    row("unknown-api-count-tokens", "status body*", "the extended interface has this route, for holders of a key"),
    // The admin's routes.
    row("admin-key-create-empty-strings", "body/data/tokenLimit body/data/concurrencyLimit", "[BUG 55] empty is none"),
    row("admin-key-update-missing admin-key-delete-missing admin-account-update-missing", "status", "[BUG 57] 404"),
    row("admin-account-create-bad-oauth", "status body*", "[BUG 59] a bare access token, of unknown expiry, is enough"),
    row("admin-account-update-null", "status body*", "[BUG 58] what the client did wrong is told as such, with 400"),
    row("admin-accounts-list admin-accounts-ghost", "body/data/0/proxy/password", "[BUG 14] passwords are masked"),
    row("admin-account-refresh-ok", "body/data/accessToken", "[BUG 14] a token that was granted is never shown again"),
    row("admin-account-refresh-missing", "status", "[BUG 13] [BUG 57] 404, and no account comes of it"),
    row("admin-account-refresh-no-token", "status", "400: only the admin can help, by signing the account in again"),
    row(
        "admin-oauth-exchange-unknown-session admin-oauth-exchange-session-used",
        "status body*",
        "[BUG 60] a session that is unknown or spent is refused before the token endpoint is asked",
    ),
    row(
        "admin-oauth-exchange-rejected admin-oauth-exchange-object-error",
        "status",
        "400: the token endpoint refused what was pasted; this program did not fail",
    ),
    // Statistics.
    row("admin-usage-costs-*", "body/data/totalCosts/unpriced*", "what has no price is marked, and costs nothing"),
    row(
        "admin-usage-costs-*",
        "body/data/pricingServiceStatus/lastUpdated body/data/pricingServiceStatus/nextUpdate",
        "null here: the prices are the built-in ones, and none are downloaded in tests",
    ),
    // The relay.
    row("messages-no-account messages-all-inactive", "status", "[BUG 32] 503, which clients try again"),
    row(
        "messages-null-message messages-null-message-stream",
        "status field:etag field:vary body*",
        "[BUG 31] the relay does not look into messages: the upstream judges them (it is scripted to answer here)",
    ),
    row("messages-restricted-model-stream", "field:content-type field:etag", "[BUG 29] one JSON error for both modes"),
    row(
        "messages-rate-limit-requests-stream messages-rate-limit-tokens",
        "field:retry-after field:x-should-retry",
        "a full window says when it ends, and that nobody is to sleep until then: the SDKs would",
    ),
    row("global-rate-limit global-rate-limit-messages", "field:x-should-retry", "as above"),
    row("key-info-ok", "body/keyInfo/expiresAt", "the holder of a key is told how long it lives"),
    row("key-info-concurrency-exceeded", "status body*", "[BUG 52] reports take no permit"),
    row(
        "upstream-reset-stream upstream-timeout-stream upstream-refused-stream upstream-enotfound-stream \
         messages-bound-proxy-down-stream",
        "field:content-type field:etag body",
        "[BUG 29] [BUG 37] an answer that never began is the JSON error of the other mode, with the same status",
    ),
    row("upstream-stream-cut", "body", "[BUG 24] a stream that breaks off ends with an error event"),
    row("upstream-json-cut", "status", "[BUG 24] a whole answer that breaks off is a 502"),
    row("upstream-utf8-split upstream-gzip-stream", "body", "[BUG 22] bytes pass untouched"),
    row("upstream-br-json", "body", "[BUG 23] no compressed answer is asked for"),
    row(
        "messages-bound-socks-denied messages-bound-socks-denied-stream messages-bound-http-proxy-407-stream",
        "status field:content-type field:etag body*",
        "a proxy that refuses is an upstream's fault, 502, whatever its kind; its own answer reaches nobody",
    ),
    row(
        "messages-bound-error-account",
        "status field:request-id field:strict-transport-security body*",
        "a bound key is served by its own account only",
    ),
    row("upstream-plain-http-json", "status field:etag field:vary body*", "[BUG 28] the URL's scheme is obeyed"),
    // The store is part of the process: what the original said without its Redis cannot come about.
    row(
        "redis-down-health redis-down-messages redis-down-login redis-down-admin redis-down-api-health",
        "status field:etag field:vary body*",
        "[BUG 50] [BUG 71] there is no Redis that could be down",
    ),
];

impl Row {
    fn is_about(&self, recorded: &Recorded) -> bool {
        self.who.split_whitespace().any(|who| match who {
            "relayed" => is_passed_on(recorded),
            "early" => is_early(recorded),
            "web" => has_field(recorded, "content-security-policy"),
            "streamed" => {
                recorded.answer.as_ref().and_then(|answer| answer.field("cache-control")).as_deref() == Some("no-cache")
            }
            "passed-on" => is_passed_on(recorded) && has_field(recorded, "etag"),
            _ => fits(who, &recorded.name),
        })
    }

    pub fn covers(&self, place: &str) -> bool {
        self.what.split_whitespace().any(|what| fits(what, &place.replace("field ", "field:")))
    }
}

/// Whether the upstream answered, in the recording and here.
fn is_passed_on(recorded: &Recorded) -> bool {
    recorded.is_upstreams() && recorded.name != "messages-bound-error-account"
}

fn has_field(recorded: &Recorded, name: &str) -> bool {
    recorded.answer.as_ref().is_some_and(|answer| answer.field(name).is_some())
}

fn is_early(recorded: &Recorded) -> bool {
    recorded.answer.as_ref().is_some_and(|answer| answer.field("referrer-policy").as_deref() == Some("no-referrer"))
}

fn fits(pattern: &str, text: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => text.starts_with(start),
        None => pattern == text,
    }
}

/// The row that allows a difference.
pub fn row_of(recorded: &Recorded, place: &str) -> Option<usize> {
    DIFFERENCES.iter().position(|row| row.is_about(recorded) && row.covers(place))
}

/// All rows that a transcript must differ by.
pub fn expected(recorded: &Recorded) -> impl Iterator<Item = usize> + '_ {
    DIFFERENCES.iter().enumerate().filter(|(_, row)| row.is_about(recorded)).map(|(number, _)| number)
}
