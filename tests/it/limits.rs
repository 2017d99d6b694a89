//! Limits: a key's window, guesses of a password, requests of one address.

use crate::harness::client::{Connection, fetch};
use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::{Step, chunk, json, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use claude_relay::model::time::{now_ms, parse};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// An upstream whose every answer reports 50 + 10 + 20 + 40 + 5 = 125 tokens.
fn upstream() -> Upstream {
    Upstream::start(|_| json(200, &message("m", 50, 5)))
}

fn start(upstream: &Upstream) -> Relay {
    let relay = Start::new().upstream(upstream).run();
    relay.add_api_key_account("first", "sk-ant-secret-of-first");
    relay
}

/// A key with a window of five minutes.
fn key(relay: &Relay, requests: i64, tokens: i64) -> Key {
    let requests = (requests > 0).then_some(requests);
    relay.add_key_with(
        &value!({ "name": "k", "rateLimitWindow": 5, "rateLimitRequests": requests, "tokenLimit": tokens }),
    )
}

/// Moves a key's window into the past, as if the clock had gone on. The relay must be restarted to see it.
fn age(relay: &Relay, minutes: i64) {
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("UPDATE key_windows SET start_ms = start_ms - ?1", [minutes * 60_000]).unwrap();
    db.execute("UPDATE ledger SET at_ms = at_ms - ?1", [minutes * 60_000]).unwrap();
}

#[test]
fn a_window_that_is_full_refuses_in_the_words_of_the_contract() {
    let upstream = upstream();
    let relay = start(&upstream);
    let by_requests = key(&relay, 2, 0);
    // What fails validation has counted.
    assert_eq!(relay.message(&by_requests, b"{}").status, 400);
    assert_eq!(relay.message(&by_requests, REQUEST).status, 200);
    for body in [REQUEST, STREAM_REQUEST] {
        let refused = relay.message(&by_requests, body);
        let reset_at = refused.json()["resetAt"].as_str().unwrap().to_owned();
        let left_ms = parse(&reset_at).unwrap() - now_ms();
        assert!((290_000..=300_000).contains(&left_ms), "{left_ms}");
        let expected = format!(
            r#"{{"error":"Rate limit exceeded","message":"已达到请求次数限制 (2 次)，将在 5 分钟后重置","currentRequests":2,"requestLimit":2,"resetAt":"{reset_at}","remainingMinutes":5}}"#
        );
        assert_eq!((refused.status, refused.text()), (429, expected));
        // The official SDKs would sleep for all of it.
        let retry_after: i64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((290..=300).contains(&retry_after), "{retry_after}");
        assert_eq!(refused.field("x-should-retry"), Some("false"));
        assert_eq!(refused.field("content-type"), Some("application/json; charset=utf-8"));
    }
    let by_tokens = key(&relay, 0, 100);
    assert_eq!(relay.message(&by_tokens, REQUEST).status, 200);
    let refused = relay.message(&by_tokens, REQUEST);
    let reset_at = refused.json()["resetAt"].as_str().unwrap().to_owned();
    let expected = format!(
        r#"{{"error":"Rate limit exceeded","message":"已达到 Token 使用限制 (100 tokens)，将在 5 分钟后重置","currentTokens":125,"tokenLimit":100,"resetAt":"{reset_at}","remainingMinutes":5}}"#
    );
    assert_eq!((refused.status, refused.text()), (429, expected));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn reports_cost_nothing_and_a_token_limit_without_a_window_is_not_enforced() {
    let upstream = upstream();
    let relay = start(&upstream);
    let one = key(&relay, 1, 0);
    for _ in 0..3 {
        for target in ["/api/v1/key-info", "/api/v1/usage"] {
            assert_eq!(relay.get(target, &[("x-api-key", &one.clear)]).status, 200);
        }
    }
    assert_eq!(relay.message(&one, REQUEST).status, 200);
    assert_eq!(relay.get("/api/v1/key-info", &[("x-api-key", &one.clear)]).status, 200, "also when it is full");
    let without = relay.add_key_with(&value!({ "name": "k", "tokenLimit": 1 }));
    for _ in 0..3 {
        assert_eq!(relay.message(&without, REQUEST).status, 200);
    }
}

#[test]
fn parallel_requests_never_pass_the_limit_together() {
    let upstream = upstream();
    let relay = start(&upstream);
    let key = key(&relay, 10, 0);
    let (passed, refused) = (AtomicU32::new(0), AtomicU32::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..5 {
                    match relay.message(&key, REQUEST).status {
                        200 => passed.fetch_add(1, Ordering::Relaxed),
                        429 => refused.fetch_add(1, Ordering::Relaxed),
                        other => panic!("{other}"),
                    };
                }
            });
        }
    });
    assert_eq!((passed.into_inner(), refused.into_inner()), (10, 30));
    assert_eq!(upstream.received().len(), 10);
}

#[test]
fn a_restart_keeps_the_count_and_a_window_ends() {
    let upstream = upstream();
    let relay = start(&upstream);
    let (by_requests, by_tokens) = (key(&relay, 3, 0), key(&relay, 0, 200));
    for _ in 0..2 {
        assert_eq!(relay.message(&by_requests, REQUEST).status, 200);
    }
    assert_eq!(relay.message(&by_tokens, REQUEST).status, 200);
    let again = || Start::new().upstream(&upstream);
    let relay = relay.kill_and_restart(again());
    assert_eq!(relay.message(&by_requests, REQUEST).status, 200);
    assert_eq!(relay.message(&by_requests, REQUEST).json()["currentRequests"], 3);
    assert_eq!(relay.message(&by_tokens, REQUEST).status, 200, "one may overshoot");
    assert_eq!(relay.message(&by_tokens, REQUEST).json()["currentTokens"], 250);
    age(&relay, 4);
    let relay = relay.kill_and_restart(again());
    let refused = relay.message(&by_requests, REQUEST).json();
    assert_eq!((&refused["currentRequests"], &refused["remainingMinutes"]), (&value!(3), &value!(1)));
    age(&relay, 1);
    let relay = relay.kill_and_restart(again());
    for _ in 0..3 {
        assert_eq!(relay.message(&by_requests, REQUEST).status, 200);
    }
    assert_eq!(relay.message(&by_requests, REQUEST).status, 429);
}

#[test]
fn a_request_without_an_answer_counts_and_a_refused_one_does_not() {
    let upstream = Upstream::start(|_| vec![Step::Reset]);
    let relay = start(&upstream);
    let key = key(&relay, 2, 0);
    assert_eq!(relay.message(&key, REQUEST).status, 502);
    assert_eq!(relay.message(&key, REQUEST).status, 502);
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).json()["currentRequests"], 2);
    }
}

#[test]
fn requests_that_the_relay_itself_refuses_count_also_after_a_restart() {
    let upstream = upstream();
    let relay = start(&upstream);
    let key = relay.add_key_with(&value!({ "name": "k", "rateLimitWindow": 5, "rateLimitRequests": 6, "tokenLimit": 0,
        "allowedModels": ["claude-sonnet-4-5"] }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    for (body, status) in [(&b"{"[..], 400), (br#"{"messages":[]}"#, 400), (br#"{"model":"x","messages":[{}]}"#, 403)] {
        assert_eq!(relay.message(&key, body).status, status);
    }
    let id = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json()["data"][0]["id"].clone();
    let target = format!("/admin/claude-accounts/{}", id.as_str().unwrap());
    assert_eq!(relay.admin("PUT", &target, &value!({ "isActive": false })).status, 200);
    assert_eq!(relay.message(&key, REQUEST).status, 503, "no account is left");
    let used = |relay: &Relay| {
        relay.get("/api/v1/usage", &[("x-api-key", &key.clear)]).json()["limits"]["rateLimitRequests"]["used"].clone()
    };
    assert_eq!(used(&relay), 5);
    eventually("they are kept", || relay.count("SELECT unlisted FROM key_windows") == 4);
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    let list = relay.admin("GET", "/admin/api-keys", &Value::Null).json();
    assert_eq!(list["data"][0]["limits"]["rateLimitRequests"]["used"], 5);
    assert_eq!(used(&relay), 5);
    assert_eq!(relay.message(&key, b"{").status, 400);
    assert_eq!(relay.message(&key, REQUEST).json()["currentRequests"], 6);
    // A new window knows nothing of them.
    eventually("the last one is kept", || relay.count("SELECT unlisted FROM key_windows") == 5);
    age(&relay, 5);
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    assert_eq!(relay.message(&key, b"{").status, 400);
    assert_eq!(used(&relay), 1);
    eventually("it begins anew", || relay.count("SELECT unlisted FROM key_windows") == 1);
}

#[test]
fn a_client_that_leaves_has_used_what_was_reported_and_gives_its_slot_back() {
    let upstream = Upstream::start(|_| {
        let first = events("m", 50, 5).remove(0);
        vec![stream_head(), chunk(first), Step::AwaitEnd(Arc::default())]
    });
    let relay = start(&upstream);
    let key = relay.add_key_with(&value!({
        "name": "k", "rateLimitWindow": 5, "tokenLimit": 100, "concurrencyLimit": 1,
    }));
    let mut connection = Connection::open(relay.address);
    connection.request("POST", "/api/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    assert!(connection.chunk().unwrap().is_some());
    assert_eq!(relay.message(&key, REQUEST).json()["error"], "Concurrency limit exceeded");
    drop(connection);
    eventually("the window knows of its tokens", || relay.message(&key, REQUEST).json()["currentTokens"] == 121);
}

fn guess(relay: &Relay, from: &str, name: &str, password: &str) -> crate::harness::client::Response {
    let body = value!({ "username": name, "password": password }).to_string();
    let fields = [("Content-Type", "application/json"), ("X-Forwarded-For", from)];
    fetch(relay.address, "POST", "/web/auth/login", &fields, body.as_bytes())
}

#[test]
fn who_guesses_passwords_waits_and_the_admin_elsewhere_does_not() {
    let relay = Start::new().with("TRUST_PROXY", "true").run();
    for _ in 0..5 {
        assert_eq!(guess(&relay, "203.0.113.9", ADMIN.0, "wrong").status, 401);
    }
    for claimed in ["203.0.113.9", "198.51.100.1, 203.0.113.9"] {
        // The right password is refused as well: a guess that hits must not show.
        let refused = guess(&relay, claimed, ADMIN.0, ADMIN.1);
        assert_eq!((refused.status, &refused.json()["error"]), (429, &value!("Too Many Requests")), "{claimed}");
        let wait: u64 = refused.field("retry-after").unwrap().parse().unwrap();
        assert!((25..=30).contains(&wait), "{wait}");
    }
    assert_eq!(guess(&relay, "203.0.113.10", ADMIN.0, ADMIN.1).status, 200);
    assert_eq!(relay.admin("GET", "/admin/api-keys", &Value::Null).status, 200, "a session is not touched");
}

#[test]
fn a_header_frees_nobody_where_no_proxy_is_trusted() {
    let relay = Start::new().run();
    for turn in 0..5 {
        assert_eq!(guess(&relay, &format!("203.0.113.{turn}"), "nobody", "wrong").status, 401);
    }
    let refused = guess(&relay, "203.0.113.99", ADMIN.0, ADMIN.1);
    assert_eq!(refused.status, 429);
    // But who a proxy on this machine hides does not wait long for what others did.
    assert!(refused.field("retry-after").unwrap().parse::<u64>().unwrap() <= 5);
    eventually("the operator is told", || relay.log().contains("set TRUST_PROXY=true"));
    std::thread::sleep(std::time::Duration::from_secs(5));
    assert_eq!(guess(&relay, "203.0.113.99", ADMIN.0, ADMIN.1).status, 200);
}

#[test]
fn the_current_password_cannot_be_guessed_with_a_stolen_session() {
    let relay = Start::new().run();
    let change = value!({ "currentPassword": "wrong", "newPassword": "long-enough-password" });
    let statuses: Vec<u16> = (0..7).map(|_| relay.admin("POST", "/web/auth/change-password", &change).status).collect();
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
}

#[test]
fn an_address_that_asks_too_often_is_refused_and_no_other() {
    // The harness signs in: one request.
    let relay = Start::new().with("ADDRESS_RATE_LIMIT", "6").with("TRUST_PROXY", "true").run();
    let from = |address: &str, method: &str, target: &str| {
        fetch(relay.address, method, target, &[("X-Forwarded-For", address)], b"")
    };
    for _ in 0..9 {
        assert_eq!(from("203.0.113.9", "GET", "/health").status, 200);
        assert_eq!(from("203.0.113.9", "OPTIONS", "/api/v1/messages").status, 204);
    }
    for _ in 0..6 {
        assert_eq!(from("203.0.113.9", "GET", "/api/v1/usage").status, 401);
    }
    for (method, target) in [("GET", "/api/v1/usage"), ("POST", "/api/v1/messages"), ("GET", "/web")] {
        let refused = from("203.0.113.9", method, target);
        assert_eq!(
            (refused.status, refused.text().as_str()),
            (
                429,
                r#"{"error":"Too Many Requests","message":"Too many requests from this IP, please try again later.","retryAfter":900}"#
            )
        );
        assert_eq!((refused.field("retry-after"), refused.field("x-should-retry")), (Some("900"), Some("false")));
        assert_eq!(refused.field("x-ratelimit-limit"), Some("6"));
        assert_eq!(refused.field("x-ratelimit-remaining"), Some("0"));
        let reset_at = parse(refused.field("x-ratelimit-reset").unwrap()).unwrap();
        assert!((890_000..=901_000).contains(&(reset_at - now_ms())));
    }
    assert_eq!(from("203.0.113.9", "GET", "/health").status, 200);
    // The caller does not choose the address that counts.
    assert_eq!(from("203.0.113.10, 203.0.113.9", "GET", "/api/v1/usage").status, 429);
    assert_eq!(from("203.0.113.9, 203.0.113.10", "GET", "/api/v1/usage").status, 401);
}

#[test]
fn a_family_behind_one_address_is_not_limited_unless_that_is_asked_for() {
    for (mode, expected) in [("development", 401), ("production", 429)] {
        let relay = Start::new().with("NODE_ENV", mode).run();
        let mut connection = Connection::open(relay.address);
        let mut last = 0;
        for _ in 0..1001 {
            connection.request("GET", "/api/v1/usage", &[], b"");
            last = connection.response().unwrap().status;
        }
        assert_eq!(last, expected, "{mode}");
    }
}

#[test]
fn the_longest_window_there_can_be_never_ends_and_breaks_no_list() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let (relay, _) = Relay::with_upstream(&upstream);
    let key = relay
        .add_key_with(&value!({ "name": "k", "rateLimitWindow": 9_007_199_254_740_991_i64, "rateLimitRequests": 1 }));
    assert_eq!([relay.message(&key, REQUEST).status, relay.message(&key, REQUEST).status], [200, 429]);
    let list = relay.admin("GET", "/admin/api-keys", &Value::Null);
    assert_eq!(list.status, 200, "{}", list.text());
    let limit = value!({ "limit": 1, "used": 1, "remaining": 0, "resetAt": null });
    assert_eq!(list.json()["data"][1]["limits"]["rateLimitRequests"], limit);
    let usage = relay.get("/api/v1/usage", &[("x-api-key", &key.clear)]).json();
    assert_eq!(usage["limits"]["rateLimitRequests"], limit);
}
