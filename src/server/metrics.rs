//! `GET /metrics`: the original's JSON, and the text form that Prometheus reads.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::plain;
use super::process;
use super::registry::{BOUNDS_MS, Histogram};
use super::router;
use super::session::without_bearer;
use crate::http::{Head, Pool};
use crate::model::time::{iso, now_ms};
use crate::model::{Sensitive, cost};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::{Display, Write};
use subtle::ConstantTimeEq;

/// `GET /metrics`.
pub(crate) fn metrics(server: &Server, call: &Call) -> Result<Answer, Answer> {
    if server.config.metrics_token.as_ref().is_some_and(|token| !is_allowed(&call.head, token)) {
        let refusal = plain(401, "Unauthorized", "Please provide the metrics token");
        return Err(refusal.with("WWW-Authenticate", "Bearer"));
    }
    if wants_text(&call.head) {
        return Ok(Answer::content("text/plain; version=0.0.4; charset=utf-8", text(server).into_bytes()));
    }
    original(server)
}

fn is_allowed(head: &Head, token: &Sensitive) -> bool {
    let sent = head.header("authorization").and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    without_bearer(sent).as_bytes().ct_eq(token.expose().as_bytes()).into()
}

/// Whether the client reads Prometheus' text and not JSON. What takes anything gets the original's JSON.
fn wants_text(head: &Head) -> bool {
    let accepted = head.header("accept").map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
    let accepted = String::from_utf8_lossy(&accepted);
    let takes = |kind: &str| accepted.split(',').any(|part| part.split(';').next().unwrap_or_default().trim() == kind);
    (takes("text/plain") || takes("application/openmetrics-text")) && !takes("application/json")
}

/// The original's form (contract section 8.3).
fn original(server: &Server) -> Result<Answer, Answer> {
    let (keys, records) = server.store.counts().map_err(|error| {
        log::error!("metrics could not be read: {error}");
        Answer::json(500, &json!({ "error": "Failed to collect metrics" }))
    })?;
    // There is no heap of its own to tell of: all memory of this process is resident memory.
    let resident = process::resident_bytes();
    Ok(Answer::json(
        200,
        &json!({
            "totalApiKeys": keys,
            "totalClaudeAccounts": server.store.accounts().len(),
            "totalUsageRecords": records,
            "uptime": server.uptime_s(),
            "memory": {
                "rss": resident, "heapTotal": resident, "heapUsed": resident, "external": 0, "arrayBuffers": 0,
            },
            "timestamp": iso(now_ms()),
        }),
    ))
}

fn text(server: &Server) -> String {
    let mut page = Page(String::with_capacity(8 * 1024));
    page.requests(server);
    page.relay(server);
    page.front(server);
    page.family("claude_relay_uptime_seconds", "gauge", "Time since the start.");
    page.sample("claude_relay_uptime_seconds", &[], server.uptime_s());
    page.process();
    page.0
}

/// A page in the text form: families of samples.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{}{label}=\"{text}\"", if place == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn requests(&mut self, server: &Server) {
        let name = "claude_relay_http_requests_total";
        self.family(name, "counter", "Answers by route and status.");
        let routes: Vec<(&str, &str)> = router::routes().map(|(method, path, _)| (method, path)).collect();
        for (route, status, count) in server.registry.answered() {
            let (method, path) = routes.get(route).copied().unwrap_or(("", "none"));
            self.sample(name, &[("method", method), ("route", path), ("status", &status)], count);
        }
    }

    fn relay(&mut self, server: &Server) {
        self.one("claude_relay_relaying", "gauge", "Relayed requests that run now.", server.registry.relaying());
        let streams = server.relay.flights().streams();
        self.one("claude_relay_streams", "gauge", "Those of them that asked for an event stream.", streams);
        let help = "From a relayed request's arrival to the upstream's head.";
        self.histogram("claude_relay_first_byte_seconds", help, &server.registry.first_byte);
        let help = "From a relayed request's arrival to its answer's end.";
        self.histogram("claude_relay_request_seconds", help, &server.registry.total);
        let name = "claude_relay_tokens_total";
        self.family(name, "counter", "Tokens of billed answers, by model and kind.");
        let models = server.relay.totals().by_model();
        for (model, total) in &models {
            let tokens = &total.tokens;
            for (kind, count) in [
                ("input", tokens.input),
                ("output", tokens.output),
                ("cache_creation_5m", tokens.cache_creation_5m),
                ("cache_creation_1h", tokens.cache_creation_1h),
                ("cache_read", tokens.cache_read),
            ] {
                self.sample(name, &[("model", model), ("kind", kind)], count);
            }
        }
        let name = "claude_relay_cost_dollars_total";
        self.family(name, "counter", "What billed answers cost, by model; those without a price cost nothing here.");
        for (model, total) in &models {
            self.sample(name, &[("model", model)], cost::dollars(total.cost));
        }
        let name = "claude_relay_unpriced_answers_total";
        self.family(name, "counter", "Billed answers of a model that has no price.");
        for (model, total) in models.iter().filter(|(_, total)| total.unpriced > 0) {
            self.sample(name, &[("model", model)], total.unpriced);
        }
        self.accounts(server);
        let waiting = server.store.ledger_waiting();
        self.one("claude_relay_ledger_waiting", "gauge", "Ledger lines that wait for their commit.", waiting);
        let lag = server.store.ledger_lag_ms() as f64 / 1000.0;
        self.one("claude_relay_ledger_lag_seconds", "gauge", "How long the oldest of them has waited.", lag);
    }

    fn accounts(&mut self, server: &Server) {
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        let accounts = server.store.accounts();
        for account in accounts.iter() {
            let is_resting = || server.relay.standings().of(account.seq).is_resting(now_ms());
            let state = match account.status.as_str() {
                _ if !account.is_active => "inactive",
                _ if account.is_expired(now_ms()) => "expired",
                "active" if is_resting() => "resting",
                status => status,
            };
            *states.entry(state).or_default() += 1;
        }
        self.family("claude_relay_accounts", "gauge", "Accounts by state.");
        for (state, count) in states {
            self.sample("claude_relay_accounts", &[("state", state)], count);
        }
    }

    fn process(&mut self) {
        self.one("process_resident_memory_bytes", "gauge", "Resident memory.", process::resident_bytes());
        self.one("process_cpu_seconds_total", "counter", "Time of cores that was used.", process::cpu_seconds());
        self.one("process_threads", "gauge", "Threads.", process::threads());
        if let Some((open, max)) = process::descriptors() {
            self.one("process_open_fds", "gauge", "Open descriptors.", open);
            self.one("process_max_fds", "gauge", "Descriptors that may be open.", max);
        }
    }

    fn front(&mut self, server: &Server) {
        let figures = &server.figures;
        let pools = [
            ("relay", figures.relay_busy(), figures.relay_size(), Pool::Relay),
            ("control", figures.control_busy(), figures.control_size(), Pool::Control),
        ];
        self.family("claude_relay_workers", "gauge", "Workers by pool.");
        for (pool, _, size, _) in pools {
            self.sample("claude_relay_workers", &[("pool", pool)], size);
        }
        self.family("claude_relay_workers_busy", "gauge", "Workers that serve a request, by pool.");
        for (pool, busy, ..) in pools {
            self.sample("claude_relay_workers_busy", &[("pool", pool)], busy);
        }
        let queued = figures.control_queued();
        self.one("claude_relay_control_queued", "gauge", "Requests waiting for a control worker.", queued);
        let open = figures.connections_open();
        self.one("claude_relay_connections", "gauge", "Open connections.", open);
        let bytes = figures.bodies_in_flight_bytes();
        self.one("claude_relay_bodies_bytes", "gauge", "Request bodies in memory.", bytes);
        let name = "claude_relay_refused_total";
        self.family(name, "counter", "Requests and connections that were refused before a worker saw them.");
        for (why, count) in [
            ("relay_full", figures.refused_overloaded(Pool::Relay)),
            ("control_full", figures.refused_overloaded(Pool::Control)),
            ("malformed", figures.refused_malformed()),
            ("slow_head", figures.refused_slow_heads()),
            ("address", figures.refused_addresses()),
        ] {
            self.sample(name, &[("why", why)], count);
        }
        let pauses = figures.accept_pauses();
        self.one("claude_relay_accept_pauses_total", "counter", "How often accepting paused.", pauses);
        let panics = figures.panics();
        self.one(
            "claude_relay_panics_total",
            "counter",
            "Requests whose serving failed by a fault of the program.",
            panics,
        );
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.family(name, "histogram", help);
        let (counts, sum_ms) = histogram.cumulative();
        let bounds = BOUNDS_MS.iter().map(|ms| (*ms as f64 / 1000.0).to_string()).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(counts) {
            self.sample(&format!("{name}_bucket"), &[("le", &bound)], count);
        }
        self.sample(&format!("{name}_sum"), &[], sum_ms as f64 / 1000.0);
        self.sample(&format!("{name}_count"), &[], counts[BOUNDS_MS.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page(String::new());
        page.sample("a", &[("b", "x\"y\\z\n"), ("c", "d")], 1);
        page.sample("e", &[], 2.5);
        assert_eq!(page.0, "a{b=\"x\\\"y\\\\z\\n\",c=\"d\"} 1\ne 2.5\n");
    }
}
