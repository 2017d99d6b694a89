//! From account to account before the first byte: what one account refuses, another serves, and the client notices nothing.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Received, Step, chunk, json, last_chunk, send, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use claude_relay::model::time::{now_ms, parse};
use serde_json::{Value, json as value};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Answers as the API does: a stream where one is asked for.
fn good(request: &Received) -> Vec<Step> {
    if request.json()["stream"] != true {
        return json(200, &message("claude-sonnet-4-5", 5, 5));
    }
    let mut steps = vec![stream_head()];
    steps.extend(events("claude-sonnet-4-5", 5, 5).iter().map(chunk));
    steps.push(last_chunk());
    steps
}

/// An upstream at which an account answers by what its key begins with.
fn upstream(bad: impl Fn(&Received) -> Vec<Step> + Send + Sync + 'static) -> Upstream {
    Upstream::start(move |request| if key_of(request).starts_with("bad") { bad(request) } else { good(request) })
}

/// A request that belongs to no conversation before it, with one more member.
fn fresh(more: &str) -> Vec<u8> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let message = format!(r#"{{"role":"user","content":"hi {number}"}}"#);
    format!(r#"{{"model":"claude-sonnet-4-5","max_tokens":9{more},"messages":[{message}]}}"#).into_bytes()
}

fn key_of(request: &Received) -> &str {
    request.field("x-api-key").unwrap_or_default()
}

fn asked(upstream: &Upstream) -> Vec<String> {
    upstream.received.lock().unwrap().drain(..).map(|request| key_of(&request).to_owned()).collect()
}

fn add(relay: &Relay, key: &str, more: Value) -> String {
    let mut account = value!({ "name": key, "kind": "api_key", "apiKey": key });
    account.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    relay.add_account(&account)["id"].as_str().unwrap().to_owned()
}

/// A relay with an account that fails and is chosen first, and one that serves.
fn pair(start: Start) -> (Relay, Key) {
    let relay = start.run();
    add(&relay, "bad", value!({ "priority": 1 }));
    add(&relay, "good", value!({ "priority": 2 }));
    let key = relay.add_key("k");
    (relay, key)
}

fn account(relay: &Relay, name: &str) -> Value {
    let list = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
    list["data"].as_array().unwrap().iter().find(|account| account["name"] == name).unwrap().clone()
}

/// What the dashboard says of accounts that rest for a limit of the vendor's.
fn limited(relay: &Relay) -> Value {
    let dashboard = relay.admin("GET", "/admin/dashboard", &Value::Null).json();
    dashboard["data"]["overview"]["rateLimitedClaudeAccounts"].clone()
}

fn error(status: u16, kind: &str, more: &str) -> Vec<Step> {
    let body = value!({ "type": "error", "error": { "type": kind, "message": "no" } }).to_string();
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {length}\r\n\r\n");
    vec![send(head), send(body)]
}

#[test]
fn whatever_one_account_answers_the_client_sees_only_that_of_another() {
    type Fails = fn() -> Vec<Step>;
    let failures: [(&str, Fails); 13] = [
        ("401", || error(401, "authentication_error", "")),
        ("402", || error(402, "billing_error", "")),
        ("403", || error(403, "permission_error", "")),
        ("429", || error(429, "rate_limit_error", "retry-after: 30\r\n")),
        ("429 without an end", || error(429, "rate_limit_error", "")),
        ("500", || error(500, "api_error", "")),
        ("502", || vec![send("HTTP/1.1 502 X\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>")]),
        ("529", || error(529, "overloaded_error", "")),
        ("a reset before the head", || vec![Step::Reset]),
        ("half a head", || vec![send("HTTP/1.1 200 OK\r\nContent-"), Step::Close]),
        ("a stalled head", || vec![Step::Wait(Duration::from_secs(3)), Step::Close]),
        ("a head and then nothing", || vec![stream_head(), Step::Reset]),
        ("an error as the first event", || {
            let event = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n";
            vec![stream_head(), chunk(event), last_chunk()]
        }),
    ];
    for (name, fails) in failures {
        let upstream = upstream(move |_| fails());
        let (relay, key) = pair(Start::new().upstream(&upstream).with("UPSTREAM_FIRST_BYTE_TIMEOUT", "500"));
        for (body, expected) in [
            (REQUEST, message("claude-sonnet-4-5", 5, 5)),
            (STREAM_REQUEST, events("claude-sonnet-4-5", 5, 5).concat()),
        ] {
            let answer = relay.message(&key, body);
            assert_eq!((answer.status, answer.text()), (200, expected), "{name}");
        }
        assert_eq!(asked(&upstream)[..2], ["bad", "good"], "{name}");
        let lines = relay.query("SELECT attempts, account_reason, status FROM ledger ORDER BY id LIMIT 1");
        assert_eq!(lines[0], [2.into(), "failover".to_owned().into(), 200.into()], "{name}");
    }
}

#[test]
fn an_account_that_cannot_be_reached_is_put_behind_the_others() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstream = upstream(good);
    let relay = Start::new().upstream(&upstream).run();
    add(&relay, "gone", value!({ "priority": 1, "baseUrl": format!("http://{closed}") }));
    let key = relay.add_key("k");
    assert_eq!(relay.message(&key, REQUEST).status, 502);
    assert_eq!(
        (&account(&relay, "gone")["rest"]["reason"], &account(&relay, "gone")["rest"]["isSoft"]),
        (&value!("unreachable"), &value!(true))
    );
    assert_eq!(relay.message(&key, REQUEST).status, 502, "alone it is still tried");
    add(&relay, "good", value!({ "priority": 90 }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(relay.count("SELECT attempts FROM ledger"), 1, "the other one is asked first");
}

#[test]
fn tries_are_bounded_in_number_and_time_and_the_last_answer_passes_as_it_is() {
    let upstream = Upstream::start(|_| error(500, "api_error", "x-told: yes\r\n"));
    let relay = Start::new().upstream(&upstream).with("FAILOVER_ACCOUNTS_MAX", "3").run();
    for number in 0..6 {
        add(&relay, &format!("bad{number}"), value!({}));
    }
    let key = relay.add_key("k");
    let answer = relay.message(&key, REQUEST);
    assert_eq!((answer.status, answer.field("x-told")), (500, Some("yes")));
    assert_eq!(asked(&upstream).len(), 3);

    let slow = Upstream::start(|_| {
        let mut steps = vec![Step::Wait(Duration::from_millis(300))];
        steps.extend(error(500, "api_error", ""));
        steps
    });
    let relay = Start::new().upstream(&slow).with("FAILOVER_TIME_MAX", "500").run();
    for number in 0..6 {
        add(&relay, &format!("bad{number}"), value!({}));
    }
    assert_eq!(relay.message(&relay.add_key("k"), REQUEST).status, 500);
    assert_eq!(asked(&slow).len(), 2, "the second began within the bound, a third would not");

    let busy = Upstream::start(|_| error(529, "overloaded_error", "retry-after: 7\r\n"));
    let relay = Start::new().upstream(&busy).run();
    for number in 0..6 {
        add(&relay, &format!("bad{number}"), value!({}));
    }
    let answer = relay.message(&relay.add_key("k"), REQUEST);
    assert_eq!((answer.status, answer.field("retry-after")), (529, Some("7")));
    assert_eq!(asked(&busy).len(), 4);
}

#[test]
fn whatever_keeps_three_accounts_from_answering_a_fourth_serves() {
    let overloaded = |_: &Received| error(529, "overloaded_error", "");
    let silent = |_: &Received| vec![Step::Wait(Duration::from_secs(20))];
    type Bad = fn(&Received) -> Vec<Step>;
    for (what, bad, count) in [("overloaded", overloaded as Bad, 3), ("silent", silent as Bad, 1)] {
        for body in [REQUEST, STREAM_REQUEST] {
            let upstream = upstream(bad);
            let relay = Start::new()
                .upstream(&upstream)
                .with("UPSTREAM_FIRST_BYTE_TIMEOUT", "700")
                .with("FAILOVER_TIME_MAX", if what == "silent" { "300" } else { "30000" })
                .run();
            for number in 0..count {
                add(&relay, &format!("bad{number}"), value!({ "priority": 1 }));
            }
            add(&relay, "good", value!({ "priority": 2 }));
            let key = relay.add_key("k");
            assert_eq!(relay.message(&key, body).status, 200, "{what}");
            assert_eq!(asked(&upstream).len(), count + 1, "{what}");
        }
    }
    // What one account has kept its client waiting is excused, once.
    let upstream = upstream(silent);
    let start = Start::new().upstream(&upstream).with("UPSTREAM_FIRST_BYTE_TIMEOUT", "500");
    let relay = start.with("FAILOVER_TIME_MAX", "300").run();
    for number in 0..3 {
        add(&relay, &format!("bad{number}"), value!({}));
    }
    assert_eq!(relay.message(&relay.add_key("k"), REQUEST).status, 504);
    assert_eq!(asked(&upstream).len(), 2);
}

#[test]
fn limits_of_counting_say_nothing_of_messages() {
    let upstream = upstream(|_| error(429, "rate_limit_error", "retry-after: 30\r\n"));
    let (relay, key) = pair(Start::new().upstream(&upstream));
    let fields = [("x-api-key", key.clear.as_str()), ("content-type", "application/json")];
    assert_eq!(relay.post("/v1/messages/count_tokens", &fields, REQUEST).status, 200);
    assert_eq!(asked(&upstream), ["bad", "good"]);
    assert!(account(&relay, "bad")["rest"].is_null());
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert!(!account(&relay, "bad")["rest"].is_null(), "a message's limit does");
}

#[test]
fn when_all_rest_the_client_is_told_when_the_first_is_back_and_nobody_is_asked() {
    let upstream = Upstream::start(|request| {
        let wait = if key_of(request) == "bad-short" { 40 } else { 4000 };
        let reset = now_ms() / 1000 + wait;
        let windows =
            format!("anthropic-ratelimit-unified-status: rejected\r\nanthropic-ratelimit-unified-reset: {reset}");
        error(429, "rate_limit_error", &format!("retry-after: {wait}\r\n{windows}\r\n"))
    });
    let relay = Start::new().upstream(&upstream).run();
    add(&relay, "bad-short", value!({ "priority": 1 }));
    add(&relay, "bad-long", value!({ "priority": 2 }));
    let key = relay.add_key("k");
    let check = |relay: &Relay, what: &str| {
        for body in [REQUEST, STREAM_REQUEST] {
            let answer = relay.message(&key, body);
            let retry_after: i64 = answer.field("retry-after").expect(what).parse().unwrap();
            assert_eq!(answer.status, 429, "{what}");
            assert!((30..=44).contains(&retry_after), "{what}: {retry_after}");
            let body = answer.json();
            assert_eq!(
                (&body["type"], &body["error"]["type"]),
                (&value!("error"), &value!("rate_limit_error")),
                "{what}"
            );
        }
    };
    check(&relay, "both are asked and used up");
    assert_eq!(asked(&upstream), ["bad-short", "bad-long"]);
    check(&relay, "nobody is asked");
    assert!(asked(&upstream).is_empty());
    assert!(relay.log().contains("accounts=2 tried=0 unusable=0 resting=2 busy=0 over_budget=0"), "{}", relay.log());
    assert_eq!(limited(&relay), 2);
    // A rest survives the relay.
    std::thread::sleep(Duration::from_millis(100));
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    check(&relay, "after a restart");
    assert!(asked(&upstream).is_empty());
    // And ends when an admin says so.
    let shown = account(&relay, "bad-long");
    let id = shown["id"].as_str().unwrap();
    let left_s = parse(shown["rest"]["until"].as_str().unwrap()).unwrap() / 1000 - now_ms() / 1000;
    assert!((3950..=4031).contains(&left_s), "{left_s}");
    assert_eq!(relay.admin("POST", &format!("/admin/claude-accounts/{id}/wake"), &value!({})).status, 200);
    assert!(account(&relay, "bad-long")["rest"].is_null());
    assert_eq!(limited(&relay), 1);
    relay.message(&key, REQUEST);
    assert_eq!(asked(&upstream), ["bad-long"]);
    eventually("the history is kept", || {
        let history = relay.admin("GET", &format!("/admin/claude-accounts/{id}/events"), &Value::Null).json();
        let kinds = history["data"].as_array().unwrap().iter().map(|event| event["kind"].clone());
        kinds.eq(["rest", "wake", "rest"])
    });
}

#[test]
fn a_rest_ends_by_itself_and_a_success_clears_a_guess() {
    let is_well = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&is_well);
    let upstream = upstream(move |request| match well.load(Ordering::Relaxed) {
        true => good(request),
        false => error(429, "rate_limit_error", "retry-after: 2\r\n"),
    });
    let (relay, key) = pair(Start::new().upstream(&upstream));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let start = Instant::now();
    is_well.store(true, Ordering::Relaxed);
    asked(&upstream);
    eventually("the account is asked again", || {
        assert_eq!(relay.message(&key, &fresh("")).status, 200);
        asked(&upstream) == ["bad"]
    });
    assert!((1800..4000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let shown = account(&relay, "bad");
    assert!(shown["rest"].is_null() && shown["rateLimitStatus"]["isRateLimited"] == false);
    let history =
        relay.admin("GET", &format!("/admin/claude-accounts/{}/events", shown["id"].as_str().unwrap()), &Value::Null);
    eventually("the recovery is kept", || relay.count("SELECT count(*) FROM account_rests") == 0);
    assert_eq!(history.status, 200);
}

#[test]
fn a_bound_key_waits_for_its_own_account() {
    let upstream = upstream(|_| error(429, "rate_limit_error", "retry-after: 60\r\n"));
    let relay = Start::new().upstream(&upstream).run();
    let bad = add(&relay, "bad", value!({}));
    add(&relay, "good", value!({}));
    let key = relay.add_key_with(&value!({ "name": "bound", "claudeAccountId": bad }));
    for _ in 0..2 {
        let answer = relay.message(&key, REQUEST);
        assert_eq!(answer.status, 429);
        assert!(answer.field("retry-after").is_some());
    }
    assert_eq!(asked(&upstream), ["bad"], "the pool is not asked, and a resting account neither");
    let key = relay.add_key_with(&value!({ "name": "free", "claudeAccountId": bad, "accountFallback": true }));
    assert_eq!(relay.message(&key, REQUEST).status, 200, "unless the admin allows it");
    assert_eq!(relay.count("SELECT count(*) FROM ledger WHERE account_reason = 'fallback'"), 1);
}

/// A turn of a conversation.
fn turn(session: &str, number: usize, thinking: bool) -> String {
    let history: Vec<Value> = (0..number)
        .flat_map(|turn| {
            let block = if thinking {
                value!({ "type": "thinking", "thinking": "hm", "signature": "sig" })
            } else {
                value!({ "type": "text", "text": "ok" })
            };
            [
                value!({ "role": "user", "content": format!("{turn}") }),
                value!({ "role": "assistant", "content": [block] }),
            ]
        })
        .chain([value!({ "role": "user", "content": "go on" })])
        .collect();
    let user = value!({ "device_id": "d", "account_uuid": "", "session_id": session }).to_string();
    value!({ "model": "claude-sonnet-4-5", "max_tokens": 9, "messages": history, "metadata": { "user_id": user } })
        .to_string()
}

#[test]
fn a_conversation_stays_with_one_account_over_restarts_and_keys_never_share_one() {
    let upstream = Upstream::start(good);
    let start = || Start::new().upstream(&upstream);
    let mut relay = start().run();
    for name in ["a", "b", "c", "d"] {
        add(&relay, name, value!({}));
    }
    let (mine, other) = (relay.add_key("mine"), relay.add_key("other"));
    assert_eq!(relay.message(&mine, turn("s", 0, false).as_bytes()).status, 200);
    let home = asked(&upstream)[0].clone();
    for number in 1..30 {
        if number % 10 == 0 {
            relay = relay.kill_and_restart(start());
        }
        // Others use the pool meanwhile.
        relay.message(&other, turn(&format!("x{number}"), 0, false).as_bytes());
        asked(&upstream);
        assert_eq!(relay.message(&mine, turn("s", number, false).as_bytes()).status, 200);
        assert_eq!(asked(&upstream), std::slice::from_ref(&home), "turn {number}");
    }
    let of_others: Vec<String> = (0..4)
        .map(|_| {
            relay.message(&other, turn("s", 3, false).as_bytes());
            asked(&upstream)[0].clone()
        })
        .collect();
    assert!(of_others.iter().all(|name| *name == of_others[0]), "{of_others:?}");
    assert_ne!(of_others[0], home, "the least recently used one, not that of another key's conversation");
    assert_eq!(account(&relay, &home)["affinities"], 1 + relay.count("SELECT count(*) - 1 FROM affinities JOIN accounts ON seq = account_seq WHERE name = (SELECT name FROM accounts JOIN ledger ON accounts.seq = ledger.account_seq ORDER BY ledger.id LIMIT 1)"));
}

#[test]
fn a_history_with_thinking_waits_for_its_account_and_another_does_not() {
    let is_limited = Arc::new(AtomicBool::new(false));
    let trouble = Arc::new(Mutex::new((429, "")));
    let (limited, told) = (Arc::clone(&is_limited), Arc::clone(&trouble));
    let upstream = Upstream::start(move |request| match limited.swap(false, Ordering::Relaxed) {
        true => {
            let (status, kind) = *told.lock().unwrap();
            error(status, kind, "retry-after: 1\r\n")
        }
        false => good(request),
    });
    // Longer than an overload is waited for.
    let relay = Start::new().upstream(&upstream).with("AFFINITY_WAIT", "9000").run();
    add(&relay, "a", value!({}));
    add(&relay, "b", value!({}));
    let key = relay.add_key("k");
    for (thinking, status, kind) in [
        (true, 429, "rate_limit_error"),
        (false, 429, "rate_limit_error"),
        (true, 529, "overloaded_error"),
        (false, 529, "overloaded_error"),
    ] {
        *trouble.lock().unwrap() = (status, kind);
        let session = format!("{thinking} {status}");
        relay.message(&key, turn(&session, 1, thinking).as_bytes());
        let home = asked(&upstream)[0].clone();
        // Another conversation meets the limit of the account that is home to this one.
        is_limited.store(true, Ordering::Relaxed);
        let bound = relay.add_key_with(&value!({ "name": "b", "claudeAccountId": account(&relay, &home)["id"] }));
        assert_eq!(relay.message(&bound, REQUEST).status, status);
        asked(&upstream);
        let start = Instant::now();
        assert_eq!(relay.message(&key, turn(&session, 2, thinking).as_bytes()).status, 200);
        assert_eq!(asked(&upstream)[0] == home, thinking, "{status}");
        assert_eq!(start.elapsed() >= Duration::from_millis(800), thinking, "{status} {:?}", start.elapsed());
        eventually("the rest is over", || account(&relay, &home)["rest"].is_null());
    }
}

#[test]
fn priority_comes_first_then_headroom_then_requests_in_flight() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let used: Arc<Mutex<Vec<(String, &str)>>> = Arc::default();
    let shares = Arc::clone(&used);
    let upstream = Upstream::start(move |request| {
        let key = key_of(request);
        let share = shares.lock().unwrap().iter().find(|(name, _)| name == key).map_or("0.1", |(_, share)| *share);
        let field = format!(
            "anthropic-ratelimit-unified-5h-utilization: {share}\r\nanthropic-ratelimit-unified-5h-reset: {}\r\n",
            now_ms() / 1000 + 3000
        );
        let body = message("m", 1, 1);
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{field}Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut steps = vec![];
        if request.json()["slow"] == true {
            steps.push(Step::Gate(Arc::clone(&opened)));
        }
        steps.extend([send(head), send(body)]);
        steps
    });
    let relay = Start::new().upstream(&upstream).run();
    for (name, priority) in [("first", 1), ("second", 1), ("later", 50)] {
        add(&relay, name, value!({ "priority": priority }));
    }
    let key = relay.add_key("k");
    let next = || {
        assert_eq!(relay.message(&key, &fresh("")).status, 200);
        asked(&upstream)[0].clone()
    };
    assert_eq!([next(), next(), next()], ["first", "second", "first"], "in turn");
    used.lock().unwrap().push(("second".to_owned(), "0.8"));
    assert_eq!([next(), next(), next()], ["second", "first", "first"], "with more headroom");
    let windows = account(&relay, "second")["windows"].clone();
    assert_eq!(windows["fiveHour"]["utilization"], 0.8);
    used.lock().unwrap().clear();
    let slow = fresh(",\"slow\":true");
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| relay.message(&key, &slow).status);
        eventually("the slow one runs", || account(&relay, "first")["inFlight"] == 1);
        // The other has less headroom, and that comes first.
        relay.message(&key, &fresh(""));
        assert_eq!(asked(&upstream).last().unwrap(), "first");
        gate.store(true, Ordering::Relaxed);
        assert_eq!(waiting.join().unwrap(), 200);
    });
    assert_eq!(account(&relay, "first")["inFlight"], 0);
}

#[test]
fn an_account_serves_no_more_at_a_time_no_longer_and_for_no_more_money_than_it_may() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(good(request));
        steps
    });
    let relay = Start::new().upstream(&upstream).run();
    let id = add(&relay, "a", value!({ "maxConcurrency": 1 }));
    let key = relay.add_key("k");
    let set = |body: Value| assert_eq!(relay.admin("PUT", &format!("/admin/claude-accounts/{id}"), &body).status, 200);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| relay.message(&key, REQUEST).status);
        eventually("the first runs", || account(&relay, "a")["inFlight"] == 1);
        let answer = relay.message(&key, REQUEST);
        assert_eq!((answer.status, answer.field("retry-after")), (529, Some("1")));
        assert_eq!(answer.json()["error"]["type"], "overloaded_error");
        gate.store(true, Ordering::Relaxed);
        assert_eq!(first.join().unwrap(), 200);
    });
    set(value!({ "expiresOn": "2020-01-01T00:00:00Z" }));
    assert_eq!((relay.message(&key, REQUEST).status, &account(&relay, "a")["isExpired"]), (503, &value!(true)));
    set(value!({ "expiresOn": null, "dailyCostLimit": 0.000001 }));
    let answer = relay.message(&key, REQUEST);
    let retry_after: i64 = answer.field("retry-after").unwrap().parse().unwrap();
    assert_eq!(answer.status, 429, "today's is used up");
    assert!((1..=86_400).contains(&retry_after), "until the day ends: {retry_after}");
    set(value!({ "dailyCostLimit": 5 }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
}

#[test]
fn a_model_goes_up_under_the_accounts_own_name_and_nothing_else_changes() {
    let upstream = Upstream::start(good);
    let relay = Start::new().upstream(&upstream).run();
    let mapping = value!({ "claude-sonnet-4-5": "vendor/so\"net" });
    add(&relay, "a", value!({ "modelMapping": mapping }));
    let key = relay.add_key("k");
    relay.message(&key, STREAM_REQUEST);
    let expected = String::from_utf8_lossy(STREAM_REQUEST).replace("\"claude-sonnet-4-5\"", r#""vendor/so\"net""#);
    assert_eq!(String::from_utf8_lossy(&upstream.received()[0].body), expected);
    let other = br#"{"model":"claude-opus-4-5","messages":[{"role":"user","content":"claude-sonnet-4-5"}]}"#;
    relay.message(&key, other);
    assert_eq!(upstream.received()[1].body, other);
    let refused = relay.admin(
        "POST",
        "/admin/claude-accounts",
        &value!({ "name": "x", "kind": "api_key", "apiKey": "k", "modelMapping": { "a": 7 } }),
    );
    assert_eq!(refused.status, 400);
}

#[test]
fn a_client_that_leaves_during_a_wait_or_a_failure_ends_it() {
    let upstream = upstream(|_| vec![Step::Wait(Duration::from_secs(1)), Step::Reset]);
    let (relay, key) = pair(Start::new().upstream(&upstream));
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    eventually("the first account is asked", || upstream.received().len() == 1);
    drop(client);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(asked(&upstream), ["bad"], "nobody waits for the second one's answer");
    assert_eq!(account(&relay, "good")["inFlight"], 0);
}

#[test]
fn an_account_whose_address_is_none_is_not_made_and_one_that_is_there_is_left_for_the_next() {
    let good = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let relay = Start::new().upstream(&good).run();
    let account = |url: &str| {
        let account = value!({ "name": "bad", "kind": "api_key", "apiKey": "sk-bad", "priority": 1, "baseUrl": url });
        relay.admin("POST", "/admin/claude-accounts", &account)
    };
    for url in ["http://{host}", "http://[::1", "http://host:99999", "http://host/a?b"] {
        let refused = account(url);
        let said = "Base URL must be an http or https URL without a query";
        assert_eq!((refused.status, &refused.json()["message"]), (400, &value!(said)), "{url}");
    }
    assert_eq!(account("http://host").status, 200);
    relay.add_api_key_account("good", "sk-good");
    let key = relay.add_key("k");
    // Kept before it was refused.
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("UPDATE accounts SET base_url = 'http://{host}' WHERE name = 'bad'", []).unwrap();
    let relay = relay.kill_and_restart(Start::new().upstream(&good));
    let answer = relay.message(&key, REQUEST);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let accounts = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
    assert_eq!(accounts["data"][0]["rest"]["message"], "The address of the Claude API is none");
    // A query that no URL may hold is the client's.
    let target = "/v1/messages?a=\u{7f}";
    let refused = relay.post(target, &[("x-api-key", &key.clear), ("Content-Type", "application/json")], REQUEST);
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[test]
fn many_who_find_an_account_stopped_at_once_stop_it_once() {
    let (here, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, opened) = (Arc::clone(&here), Arc::clone(&gate));
    let upstream = Upstream::start(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#;
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(400, body));
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| assert_ne!(relay.message(&key, REQUEST).status, 200));
        }
        eventually("all are on their way", || here.load(Ordering::Relaxed) == 12);
        gate.store(true, Ordering::Relaxed);
    });
    let account = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json()["data"][0].clone();
    assert_eq!(account["status"], "error");
    let target = format!("/admin/claude-accounts/{}/events", account["id"].as_str().unwrap());
    let events = || relay.admin("GET", &target, &Value::Null).json()["data"].as_array().unwrap().clone();
    eventually("the stop is in the history", || !events().is_empty());
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(events().len(), 1, "{:?}", events());
}

#[test]
fn a_late_answer_to_an_old_credential_does_not_stop_the_new_one() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        if request.field("x-api-key") == Some("sk-new") {
            return json(200, &message("m", 1, 1));
        }
        let body = r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#;
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(400, body));
        steps
    });
    let relay = Start::new().upstream(&upstream).run();
    let id = relay.add_api_key_account("a", "sk-old");
    let key = relay.add_key("k");
    std::thread::scope(|scope| {
        scope.spawn(|| relay.message(&key, REQUEST));
        eventually("it is on its way", || !upstream.received().is_empty());
        let renewed = relay.admin("PUT", &format!("/admin/claude-accounts/{id}"), &value!({ "apiKey": "sk-new" }));
        assert_eq!(renewed.status, 200);
        gate.store(true, Ordering::Relaxed);
    });
    assert_eq!(relay.message(&key, REQUEST).status, 200);
}
