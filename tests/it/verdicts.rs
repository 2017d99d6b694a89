//! The table of verdicts end to end: what an account answers, what the client sees, which accounts are asked, what rests.

mod rows;

use crate::harness::relay::Start;
use crate::harness::upstream::{Received, Step, json, send};
use crate::harness::{Key, Relay, Upstream};
use crate::samples::message;
use claude_relay::model::time::{now_ms, parse};
use rows::Row;
use serde_json::{Value, json as value};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// A request that belongs to no conversation before it.
fn request(model: &str) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let words = format!("hi {}", NEXT.fetch_add(1, Ordering::Relaxed));
    value!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": words }] })
        .to_string()
        .into_bytes()
}

const OPUS: &str = "claude-opus-4-5";

/// What the account that fails answers next.
type Scripted = Arc<Mutex<(u16, Vec<(String, String)>, String)>>;

/// An upstream where the account `bad` answers as scripted and all others well; with a token endpoint that always grants a
/// token which is `bad` again.
fn upstream(script: &Scripted) -> Upstream {
    let script = Arc::clone(script);
    Upstream::start(move |request| {
        if request.target == "/token" {
            let body =
                value!({ "access_token": format!("bad-{}", now_ms()), "refresh_token": "r", "expires_in": 3600 });
            return json(200, &body.to_string());
        }
        if !credential(request).starts_with("bad") {
            return json(200, &message("claude-opus-4-5", 5, 5));
        }
        let (status, fields, body) = script.lock().unwrap().clone();
        let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{fields}Content-Length: {}\r\n\r\n",
            body.len()
        );
        vec![send(head), Step::Send(body.into_bytes())]
    })
}

fn credential(request: &Received) -> &str {
    let bearer = request.field("authorization").and_then(|value| value.strip_prefix("Bearer "));
    request.field("x-api-key").or(bearer).unwrap_or_default()
}

fn body(row: &Row) -> String {
    match row.kind.as_str() {
        "" => row.message.clone(),
        kind => value!({ "type": "error", "error": { "type": kind, "message": row.message } }).to_string(),
    }
}

/// A relay with the account that fails, chosen first, and one that does not.
struct Pair {
    relay: Relay,
    upstream: Upstream,
    key: Key,
    bad: String,
}

impl Pair {
    fn start(script: &Scripted) -> Pair {
        let upstream = upstream(script);
        let token_url = format!("http://{}/token", upstream.address);
        let relay = Start::new().upstream(&upstream).with("OAUTH_TOKEN_URL", &token_url).run();
        relay.add_account(&value!({ "name": "good", "kind": "api_key", "apiKey": "good", "priority": 2 }));
        let key = relay.add_key("k");
        Pair { relay, upstream, key, bad: String::new() }
    }

    /// Puts another account that fails in the place of the last one.
    fn fresh(&mut self, may_refresh: bool) {
        if !self.bad.is_empty() {
            let gone = self.relay.admin("DELETE", &format!("/admin/claude-accounts/{}", self.bad), &Value::Null);
            assert_eq!(gone.status, 200);
        }
        let account = match may_refresh {
            true => value!({ "name": "bad", "priority": 1,
                "claudeAiOauth": { "accessToken": "bad", "refreshToken": "r", "expiresAt": now_ms() + 3_600_000 } }),
            false => value!({ "name": "bad", "kind": "api_key", "apiKey": "bad", "priority": 1 }),
        };
        self.bad = self.relay.add_account(&account)["id"].as_str().unwrap().to_owned();
    }

    fn shown(&self) -> Value {
        let list = self.relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
        list["data"].as_array().unwrap().iter().find(|account| account["id"] == *self.bad).unwrap().clone()
    }

    /// Accounts that were asked since the last time, in order.
    fn asked(&self) -> Vec<String> {
        let mut received = self.upstream.received.lock().unwrap();
        let asked = received.iter().filter(|request| request.target != "/token");
        let asked = asked.map(|request| credential(request).split('-').next().unwrap().to_owned()).collect();
        received.clear();
        asked
    }
}

#[test]
fn every_row_holds_end_to_end() {
    let script: Scripted = Arc::default();
    let mut pair = Pair::start(&script);
    for row in rows::rows(now_ms() / 1000) {
        let name = format!("{} {} {:?} {:?} ({})", row.status, row.kind, row.message, row.fields, row.source);
        *script.lock().unwrap() = (row.status, row.fields.clone(), body(&row));
        pair.fresh(row.may_refresh);
        let before_s = now_ms() / 1000;
        let answer = pair.relay.message(&pair.key, &request(OPUS));
        let asked = pair.asked();
        let shown = pair.shown();
        match row.action.as_str() {
            "pass" => {
                assert_eq!((answer.status, answer.text()), (row.status, body(&row)), "{name}");
                assert_eq!(asked, ["bad"], "{name}");
            }
            "next" => {
                assert_eq!((answer.status, asked), (200, vec!["bad".to_owned(), "good".to_owned()]), "{name}");
            }
            // The new token is refused like the old one: then the next account serves.
            _ => {
                assert_eq!((answer.status, asked), (200, ["bad", "bad", "good"].map(str::to_owned).to_vec()), "{name}")
            }
        }
        if row.action != "refresh" {
            assert_eq!(shown["status"] == "error", row.effect == "stop", "{name}");
            check_rest(&pair, &row, &shown["rest"], before_s, &name);
        }
    }
}

/// The rest is the one that the row names, and while it lasts the account is not asked for what rests.
fn check_rest(pair: &Pair, row: &Row, shown: &Value, before_s: i64, name: &str) {
    let Some((reason, scope, end_s)) = row.rest() else {
        return assert!(shown.is_null(), "{name}: {shown}");
    };
    assert_eq!((&shown["reason"], &shown["scope"]), (&value!(reason), &value!(scope)), "{name}");
    let lasts_s = parse(shown["until"].as_str().unwrap()).unwrap() / 1000 - before_s;
    match end_s {
        // A little more than the header said, at most a twentieth and half a minute; and the test takes its time.
        Some(end_s) => assert!((end_s - 30..=end_s + 31.min(2 + end_s / 20)).contains(&lasts_s), "{name}: {lasts_s}"),
        None => assert!((4..=61).contains(&lasts_s), "{name}: {lasts_s}"),
    }
    assert_eq!(shown["source"], if end_s.is_some() { "header" } else { "guess" }, "{name}");
    assert_eq!(pair.relay.message(&pair.key, &request(OPUS)).status, 200);
    assert_eq!(pair.asked(), ["good"], "{name}: it rests");
    pair.relay.message(&pair.key, &request("claude-haiku-4-5"));
    let first = if scope == "account" { "good" } else { "bad" };
    assert_eq!(pair.asked()[0], first, "{name}: what does not rest is served");
}
