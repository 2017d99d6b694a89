//! How a refusal reads: the one table from error kind to status, and the two dialects. On relayed paths the contract's
//! bodies where it fixes one, and the Anthropic shape where it does not; on all others the original's JSON.

use super::call::Answer;
use super::money;
use crate::error::{Error, Kind};
use crate::http::{Fault, Head};
use crate::model::time::{iso, now_ms};
use crate::model::{Budget, cost};
use crate::relay::Unserved;
use crate::relay::admit::Refused;
use serde_json::{Value, json};

/// The status of each kind of error.
fn status(kind: Kind) -> u16 {
    match kind {
        Kind::Invalid => 400,
        Kind::Unauthorized => 401,
        Kind::Forbidden => 403,
        Kind::NotFound => 404,
        Kind::TooLarge => 413,
        Kind::Limited => 429,
        Kind::Overloaded | Kind::NoAccount => 503,
        Kind::Upstream => 502,
        Kind::UpstreamTimeout => 504,
        // Nobody reads it; the log shows that the client closed the request.
        Kind::ClientGone => 499,
        Kind::Internal => 500,
    }
}

/// What a client may be told. The text of a fault of ours stays in the log.
fn public_message(error: &Error) -> &str {
    match error.kind() {
        Kind::Internal => "Internal server error",
        _ => error.message(),
    }
}

/// An Anthropic error (upstream-facts 5.2).
pub(crate) fn anthropic(status: u16, kind: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "type": "error", "error": { "type": kind, "message": message } }))
}

/// `{"error":title,"message":…}` of an admin route whose work failed.
pub(crate) fn titled(title: &'static str) -> impl Fn(Error) -> Answer {
    move |error| {
        if error.kind() == Kind::Internal {
            log::error!("{title}: {error}");
        }
        let body = json!({ "error": title, "message": public_message(&error) });
        Answer::json(status(error.kind()), &named(body, &error))
    }
}

/// A body with the name of its sentence, by which pages say it in their own language, if it has one.
fn named(mut body: Value, error: &Error) -> Value {
    if let Some(told) = error.told() {
        body["code"] = json!(told.code());
        body["values"] = json!(told.values());
    }
    body
}

/// What an error says, with nothing to add.
pub(crate) fn said(status: u16, error: &Error) -> Answer {
    let text = public_message(error);
    Answer::json(status, &named(json!({ "error": text, "message": text }), error))
}

/// `{"error":text}` of an admin route whose input is at fault. The text is also the `message` that pages show.
pub(crate) fn invalid(text: &str) -> Answer {
    Answer::json(400, &json!({ "error": text, "message": text }))
}

/// `{"error":title,"message":…}`.
pub(crate) fn plain(status: u16, title: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": title, "message": message }))
}

/// A request that cannot be read, in the shape of the original's error handler (contract section 7.2).
fn fault(status: u16, title: &str, message: &str, request_id: &str) -> Answer {
    let body = json!({ "error": title, "message": message, "requestId": request_id, "timestamp": iso(now_ms()) });
    Answer::json(status, &body)
}

/// A request whose body or path cannot be read.
pub(crate) fn parse_fault(request_id: &str, message: &str) -> Answer {
    fault(400, "Bad Request", message, request_id)
}

/// A request whose body is written in a way that is not read here.
pub(crate) fn unsupported(request_id: &str, message: &str) -> Answer {
    fault(415, "Unsupported Media Type", message, request_id)
}

/// A relayed request whose body is no JSON.
pub(crate) fn no_json(request_id: &str) -> Answer {
    fault(400, "Invalid request", "Request body must be a valid JSON object", request_id)
}

/// A path parameter whose percent-encoding is broken.
pub(crate) fn bad_path(request_id: &str) -> Answer {
    parse_fault(request_id, "The path is not valid percent-encoding")
}

/// Whether clients of the API call this path.
fn is_relayed_path(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    ["api", "claude", "v1"].iter().any(|prefix| first.eq_ignore_ascii_case(prefix))
}

/// No such route: the contract's body on every path (section 7.1).
pub(crate) fn no_route(head: &Head) -> Answer {
    let message = format!("Route {} not found", head.target());
    Answer::json(404, &json!({ "error": "Not Found", "message": message, "timestamp": iso(now_ms()) }))
}

/// Every worker is busy. On relayed paths the status that clients of the API know and retry by themselves.
pub(crate) fn overloaded(head: &Head) -> Answer {
    let message = "The relay is at its limit of simultaneous requests, try again";
    let answer = if is_relayed_path(head.path()) {
        anthropic(529, "overloaded_error", message)
    } else {
        plain(503, "Service Unavailable", message)
    };
    answer.with("Retry-After", "1")
}

/// A request that HTTP itself does not allow; its path may not be known, so both readings are given.
pub(crate) fn malformed(fault: &Fault) -> Answer {
    anthropic(fault.status, "invalid_request_error", fault.message)
}

/// A caller who may not be served: the contract's bodies.
pub(crate) fn refused(refused: &Refused) -> Answer {
    let invalid_key = |message: &str| plain(401, "Invalid API key", message);
    match refused {
        Refused::MissingKey => {
            plain(401, "Missing API key", "Please provide an API key in the x-api-key header or Authorization header")
        }
        Refused::KeyLength => plain(401, "Invalid API key format", "API key format is invalid"),
        Refused::KeyPrefix => invalid_key("Invalid API key format"),
        Refused::UnknownKey => invalid_key("API key not found"),
        Refused::DisabledKey => invalid_key("API key is disabled"),
        Refused::ExpiredKey => invalid_key("API key has expired"),
        Refused::Concurrency { current, limit } => Answer::json(
            429,
            &json!({
                "error": "Concurrency limit exceeded",
                "message": format!("Too many concurrent requests. Limit: {limit} concurrent requests"),
                "currentConcurrency": current,
                "concurrencyLimit": limit,
            }),
        ),
        Refused::Requests { current, limit, reset_at_ms, remaining_minutes } => {
            let body = json!({
                "error": "Rate limit exceeded",
                "message": format!("已达到请求次数限制 ({limit} 次)，将在 {remaining_minutes} 分钟后重置"),
                "currentRequests": current,
                "requestLimit": limit,
                "resetAt": iso(*reset_at_ms),
                "remainingMinutes": remaining_minutes,
            });
            again_in(Answer::json(429, &body), seconds_until(*reset_at_ms))
        }
        Refused::Tokens { current, limit, reset_at_ms, remaining_minutes } => {
            let body = json!({
                "error": "Rate limit exceeded",
                "message": format!("已达到 Token 使用限制 ({limit} tokens)，将在 {remaining_minutes} 分钟后重置"),
                "currentTokens": current,
                "tokenLimit": limit,
                "resetAt": iso(*reset_at_ms),
                "remainingMinutes": remaining_minutes,
            });
            again_in(Answer::json(429, &body), seconds_until(*reset_at_ms))
        }
        Refused::WindowCost { current, limit, reset_at_ms } => {
            too_costly(("Rate limit cost exceeded", "for this window"), *current, *limit, Some(*reset_at_ms))
        }
        Refused::Budget { budget, current, limit, ends_at_ms } => {
            let words = match budget {
                Budget::Daily => ("Daily cost limit exceeded", "for today"),
                Budget::Weekly => ("Weekly cost limit exceeded", "for this week"),
                Budget::Monthly => ("Monthly cost limit exceeded", "for this month"),
                Budget::Total => ("Total cost limit exceeded", "in total"),
            };
            too_costly(words, *current, *limit, *ends_at_ms)
        }
        Refused::Model => {
            Answer::json(403, &json!({ "error": { "type": "forbidden", "message": "暂无该模型访问权限" } }))
        }
        Refused::Failed(error) => {
            log::error!("an API key could not be checked: {error}");
            let answer = plain(503, "Authentication error", "Internal server error during authentication");
            answer.with("Retry-After", "1")
        }
    }
}

/// A relayed request that no account has served.
pub(crate) fn unserved(unserved: &Unserved) -> Answer {
    match unserved {
        Unserved::Resting(until_ms) => {
            let message = format!("All accounts are at their limits. The first is ready again at {}.", iso(*until_ms));
            again_in(anthropic(429, "rate_limit_error", &message), seconds_until(*until_ms))
        }
        Unserved::Busy => {
            let message = "All accounts have as many requests as they may have at a time, try again";
            anthropic(529, "overloaded_error", message).with("Retry-After", "1")
        }
        Unserved::Failed(error) => {
            log::warn!("a request got no answer: {error}");
            relay_failed(error)
        }
    }
}

/// A key that has spent what it may, in the manner of the original's later versions. Amounts are pico-dollars.
fn too_costly((title, span): (&str, &str), current: i64, limit: i64, reset_at_ms: Option<i64>) -> Answer {
    /// Nobody is sent away for longer than a day at once, in seconds: until then the admin may have raised the limit.
    const RETRY_AFTER_MAX: u64 = 86_400;
    let (used, allowed) = (cost::dollars_text(current), cost::dollars_text(limit));
    let body = json!({
        "error": title,
        "message": format!("This key has used {used} of its {allowed} {span}"),
        "currentCost": money::dollars(current),
        "costLimit": money::dollars(limit),
        "resetAt": reset_at_ms.map(iso),
    });
    let answer = Answer::json(429, &body);
    match reset_at_ms {
        Some(reset_at_ms) => again_in(answer, seconds_until(reset_at_ms).min(RETRY_AFTER_MAX)),
        None => answer.with(SHOULD_RETRY, "false"),
    }
}

/// What the official clients obey before anything else when they decide whether to try again.
const SHOULD_RETRY: &str = "x-should-retry";

/// Says when to come again. The official SDKs sleep for as long as they are told, be it a day: of a long wait their users
/// are told at once instead.
pub(crate) fn again_in(answer: Answer, seconds: u64) -> Answer {
    /// What SDKs waited for at the most when they still had a bound of their own, in seconds.
    const SLEPT_MAX: u64 = 60;
    let answer = answer.with("Retry-After", seconds.max(1).to_string());
    if seconds > SLEPT_MAX { answer.with(SHOULD_RETRY, "false") } else { answer }
}

/// From now until an instant, rounded up.
fn seconds_until(at_ms: i64) -> u64 {
    u64::try_from(at_ms.saturating_sub(now_ms())).unwrap_or(0).div_ceil(1000)
}

/// A relayed request that got no answer: the contract's body, with the status that a client's retries understand.
pub(crate) fn relay_failed(error: &Error) -> Answer {
    let message = public_message(error);
    let title = match error.kind() {
        Kind::UpstreamTimeout => "Upstream timeout",
        Kind::Upstream if message.starts_with("Connection refused") => "Upstream service unavailable",
        Kind::Upstream if message.starts_with("Unable to resolve") => "Upstream hostname resolution failed",
        Kind::Upstream => "Upstream connection error",
        _ => "Relay service error",
    };
    let body: Value = json!({ "error": title, "message": message, "timestamp": iso(now_ms()) });
    Answer::json(status(error.kind()), &body)
}

/// What the client of a request that an admin has ended is told.
pub(crate) const ENDED_BY_ADMIN: &str = "The request was ended by the administrator";

/// The answer to a request that an admin has ended before it had one. The official clients would try again at this status,
/// but not where they are told.
pub(crate) fn ended_by_admin() -> Answer {
    let body = json!({ "error": "Relay service error", "message": ENDED_BY_ADMIN, "timestamp": iso(now_ms()) });
    Answer::json(503, &body).with(SHOULD_RETRY, "false")
}

/// The `error.type` of an event that ends a stream.
pub(crate) fn event_type(error: &Error) -> &'static str {
    match error.kind() {
        Kind::UpstreamTimeout => "timeout_error",
        Kind::Overloaded => "overloaded_error",
        _ => "api_error",
    }
}
