//! What anyone may ask about the process. Nothing here waits for an upstream.

use super::Server;
use super::call::{Answer, Call};
use super::logs::LOG_TAIL;
use super::process;
use crate::model::time::{iso, now_ms};
use serde_json::json;
use std::time::Instant;

type Outcome = Result<Answer, Answer>;

/// What the original calls itself; scripts look for it.
const SERVICE: &str = "claude-relay-service";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /`: to the pages; and the probe that clients send before anything else.
pub(crate) fn root(_: &Server, call: &Call) -> Outcome {
    if call.head.method() == "HEAD" {
        return Ok(Answer::empty(200));
    }
    let accepted = call.head.header("accept").unwrap_or_default();
    let is_page = accepted.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"));
    let (content_type, text) = match is_page {
        true => ("text/html; charset=utf-8", "<p>Found. Redirecting to /web</p>"),
        false => ("text/plain; charset=utf-8", "Found. Redirecting to /web"),
    };
    let answer = Answer { status: 302, ..Answer::content(content_type, text.as_bytes().to_vec()) };
    Ok(answer.with("Location", "/web").with("Vary", "Accept"))
}

/// `HEAD /api` and `HEAD /claude`: the probe of a client that is given this base URL.
pub(crate) fn probe(_: &Server, _: &Call) -> Outcome {
    Ok(Answer::empty(200))
}

/// `GET …/api/hello`: what Claude Code asks, mostly with HEAD, to see whether its base URL can be reached.
pub(crate) fn hello(_: &Server, _: &Call) -> Outcome {
    Ok(Answer::json(200, &json!({ "message": "hello" })))
}

/// `POST …/api/event_logging/batch`: what clients tell of themselves. Nothing of it is kept.
pub(crate) fn ignore() -> Answer {
    Answer::json(200, &json!({}))
}

/// `GET /health`.
pub(crate) fn health(server: &Server, _: &Call) -> Outcome {
    let (errors, warnings) = LOG_TAIL.faults();
    let start = Instant::now();
    let is_healthy = server.store.is_healthy();
    let latency = format!("{}ms", start.elapsed().as_millis());
    let database = if is_healthy {
        json!({ "status": "healthy", "connected": true, "latency": latency })
    } else {
        json!({ "status": "unhealthy", "connected": false, "error": "The database does not answer" })
    };
    let resident = format!("{}MB", process::resident_bytes() / (1024 * 1024));
    let now = iso(now_ms());
    let body = json!({
        "status": if is_healthy { "healthy" } else { "unhealthy" },
        "service": SERVICE,
        "version": VERSION,
        "timestamp": now,
        "uptime": server.uptime_s(),
        "memory": { "used": resident, "total": resident, "external": "0MB" },
        // The member keeps its name for scripts that read it; the store is SQLite.
        "components": {
            "redis": database,
            "logger": { "status": "healthy", "healthy": true, "timestamp": now },
        },
        "stats": { "requests": server.figures.requests_served(), "errors": errors, "warnings": warnings },
    });
    Ok(Answer::json(if is_healthy { 200 } else { 503 }, &body))
}

/// `GET /api/health`: whether any account can serve.
pub(crate) fn api_health(server: &Server, _: &Call) -> Outcome {
    let accounts = server.store.accounts();
    let active = accounts.iter().filter(|account| account.is_usable()).count();
    let body = json!({
        "status": if active > 0 { "healthy" } else { "unhealthy" },
        "service": SERVICE,
        "version": VERSION,
        "healthy": active > 0,
        "activeAccounts": active,
        "totalAccounts": accounts.len(),
        "timestamp": iso(now_ms()),
    });
    Ok(Answer::json(if active > 0 { 200 } else { 503 }, &body))
}

impl Server {
    /// Seconds since the start, to the millisecond.
    pub(crate) fn uptime_s(&self) -> f64 {
        (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0
    }
}
