//! What keys may cost: budgets by day, week, month, window and in total, to the last pico-dollar of the ledger; and the wait
//! for a place.

use crate::harness::client::{Connection, Response};
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, chunk, json, send, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use claude_relay::model::time::{TimeZone, now_ms, parse};
use claude_relay::model::{Budget, time};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Dollars of one answer of [`upstream`]: 1000 in, 1000 out, 10 and 20 written to the caches, 40 read from them.
const ONE: f64 = 0.018_169_5;
const PICO: f64 = 1e12;

fn upstream() -> Upstream {
    Upstream::start(|request| match request.target.as_str() {
        "/v1/messages/count_tokens" => json(200, r#"{"input_tokens":9}"#),
        _ => json(200, &message("claude-sonnet-4-5", 1000, 1000)),
    })
}

fn start(upstream: &Upstream) -> Start {
    Start::new().upstream(upstream).with("SYSTEM_TIMEZONE", "Europe/Berlin")
}

fn run(start: Start) -> Relay {
    let relay = start.run();
    relay.add_api_key_account("first", "sk-ant-secret-of-first");
    relay
}

fn key(relay: &Relay, members: Value) -> Key {
    let mut body = value!({ "name": "k", "tokenLimit": 0 });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    relay.add_key_with(&body)
}

fn close(found: &Value, expected: f64) -> bool {
    (found.as_f64().unwrap() - expected).abs() < 1e-13
}

/// What the ledger says that a key has cost, pico-dollars.
fn billed(relay: &Relay, key: &Key) -> i64 {
    relay.count(&format!(
        "SELECT coalesce(sum(cost_input + cost_output + cost_cache_write + cost_cache_read + cost_web_search), 0)
         FROM ledger WHERE key_seq = (SELECT seq FROM api_keys WHERE id = '{}')",
        key.id
    ))
}

fn report(relay: &Relay, key: &Key, target: &str) -> Value {
    let answer = relay.get(target, &[("x-api-key", &key.clear)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

fn listed(relay: &Relay, key: &Key) -> Value {
    let list = relay.admin("GET", "/admin/api-keys", &Value::Null).json();
    list["data"].as_array().unwrap().iter().find(|item| item["id"] == key.id.as_str()).unwrap().clone()
}

#[test]
fn a_budget_that_is_spent_refuses_and_says_until_when() {
    let upstream = upstream();
    let relay = run(start(&upstream));
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    let cases = [
        ("dailyCostLimit", "Daily cost limit exceeded", "for today", Some(Budget::Daily)),
        ("weeklyCostLimit", "Weekly cost limit exceeded", "for this week", Some(Budget::Weekly)),
        ("monthlyCostLimit", "Monthly cost limit exceeded", "for this month", Some(Budget::Monthly)),
        ("totalCostLimit", "Total cost limit exceeded", "in total", Some(Budget::Total)),
        ("rateLimitCost", "Rate limit cost exceeded", "for this window", None),
    ];
    for (member, title, span, budget) in cases {
        let key = key(&relay, value!({ member: 0.03, "rateLimitWindow": 7 }));
        let before = now_ms();
        for _ in 0..2 {
            assert_eq!(relay.message(&key, REQUEST).status, 200, "{member}");
        }
        let refused = relay.message(&key, STREAM_REQUEST);
        let body = refused.json();
        assert_eq!((refused.status, &body["error"]), (429, &value!(title)));
        assert_eq!(body["message"], format!("This key has used $0.0363 of its $0.0300 {span}"));
        assert!(close(&body["currentCost"], 2.0 * ONE) && close(&body["costLimit"], 0.03), "{body}");
        assert_eq!((body["currentCost"].as_f64().unwrap() * PICO).round() as i64, billed(&relay, &key));
        let expected = match budget {
            Some(budget) => budget.ends_at_ms(now_ms(), &zone),
            None => Some(parse(body["resetAt"].as_str().unwrap()).unwrap()),
        };
        assert_eq!(body["resetAt"], expected.map_or(Value::Null, |at_ms| value!(time::iso(at_ms))), "{member}");
        let retry_after = refused.field("retry-after").map(|seconds| seconds.parse::<i64>().unwrap());
        match expected {
            Some(at_ms) => {
                let left = (at_ms - now_ms()) / 1000;
                assert!((left.min(86_400) - 2..=(left + 2).min(86_400)).contains(&retry_after.unwrap()), "{member}");
            }
            None => assert_eq!(retry_after, None),
        }
        let is_long = retry_after.is_none_or(|seconds| seconds > 60);
        assert_eq!(refused.field("x-should-retry"), is_long.then_some("false"), "{member}: SDKs sleep for all of it");
        if budget.is_none() {
            let length = expected.unwrap() - before;
            assert!((7 * 60_000..7 * 60_000 + 10_000).contains(&length), "{length}");
        }
        // Counting tokens is not billed, and reports are not refused.
        let fields = [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
        assert_eq!(relay.post("/api/v1/messages/count_tokens", &fields, REQUEST).status, 200);
        for found in [report(&relay, &key, "/v1/key-info"), report(&relay, &key, "/v1/usage"), listed(&relay, &key)] {
            let limit = &found["limits"][member];
            assert!(close(&limit["limit"], 0.03) && close(&limit["used"], 2.0 * ONE), "{found}");
            assert_eq!((&limit["remaining"], &limit["resetAt"]), (&value!(0), &body["resetAt"]), "{member}");
        }
        // More is allowed at once.
        let more = relay.admin("PUT", &format!("/admin/api-keys/{}", key.id), &value!({ member: "0.05" }));
        assert_eq!(more.status, 200, "{}", more.text());
        assert_eq!(relay.message(&key, REQUEST).status, 200, "{member}");
        assert_eq!(relay.message(&key, REQUEST).json()["error"], title);
        let none = relay.admin("PUT", &format!("/admin/api-keys/{}", key.id), &value!({ member: null }));
        assert_eq!(none.status, 200);
        assert_eq!(relay.message(&key, REQUEST).status, 200, "{member}");
    }
}

#[test]
fn a_refused_request_counts_nowhere() {
    let upstream = upstream();
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "totalCostLimit": 0.01, "rateLimitWindow": 5, "rateLimitRequests": 2 }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).json()["error"], "Total cost limit exceeded");
    }
    let limits = &report(&relay, &key, "/api/v1/usage")["limits"];
    assert_eq!((&limits["rateLimitRequests"]["used"], &limits["requests"]), (&value!(1), &value!(2)));
    assert_eq!((upstream.received().len(), relay.count("SELECT count(*) FROM ledger")), (1, 1));
}

#[test]
fn a_restart_keeps_every_count() {
    let upstream = upstream();
    let relay = run(start(&upstream));
    let members = value!({
        "dailyCostLimit": 0.05, "weeklyCostLimit": 1, "monthlyCostLimit": 2, "totalCostLimit": 3,
        "rateLimitWindow": 60, "rateLimitCost": 0.5, "rateLimitRequests": 10,
    });
    let key = key(&relay, members);
    for _ in 0..2 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    let before = report(&relay, &key, "/v1/key-info")["limits"].clone();
    assert_eq!(before, listed(&relay, &key)["limits"]);
    assert!(close(&before["weeklyCostLimit"]["used"], 2.0 * ONE));
    let relay = relay.kill_and_restart(start(&upstream));
    // The list reads all windows at once, the report reads one.
    assert_eq!(listed(&relay, &key)["limits"], before);
    let relay = relay.kill_and_restart(start(&upstream));
    assert_eq!(report(&relay, &key, "/v1/key-info")["limits"], before);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let refused = relay.message(&key, REQUEST).json();
    assert!(close(&refused["currentCost"], 3.0 * ONE), "{refused}");
    assert_eq!(billed(&relay, &key), (3.0 * ONE * PICO).round() as i64);
    let relay = relay.kill_and_restart(start(&upstream));
    assert_eq!(relay.message(&key, REQUEST).json()["currentCost"], refused["currentCost"]);
}

#[test]
fn lines_of_other_days_count_in_their_own_spans_only() {
    let upstream = upstream();
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "dailyCostLimit": 0.01, "totalCostLimit": 0.03 }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(relay.message(&key, REQUEST).json()["error"], "Daily cost limit exceeded");
    // As if it had been another day: the sums of days move, that of all time stays.
    rusqlite::Connection::open(relay.database())
        .unwrap()
        .execute("UPDATE rollups SET bucket = bucket - 1000000 WHERE span = 2", [])
        .unwrap();
    let relay = relay.kill_and_restart(start(&upstream));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let refused = relay.message(&key, REQUEST).json();
    assert_eq!(refused["error"], "Daily cost limit exceeded");
    assert!(close(&refused["currentCost"], ONE), "{refused}");
    let limits = listed(&relay, &key)["limits"].clone();
    assert!(close(&limits["totalCostLimit"]["used"], 2.0 * ONE), "{limits}");
}

#[test]
fn what_has_no_price_costs_nothing_and_is_counted() {
    let upstream = Upstream::start(|_| json(200, &message("house-1", 1000, 1000)));
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "dailyCostLimit": 0.000001, "rateLimitWindow": 5, "rateLimitCost": 0.000001 }));
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    let found = report(&relay, &key, "/v1/usage");
    assert_eq!(found["usage"]["total"]["requests"], 3);
    assert_eq!((&found["usage"]["total"]["cost"], &found["usage"]["remaining"]), (&value!(0), &value!(0.000001)));
    assert_eq!(found["limits"]["rateLimitCost"]["used"], 0);
}

#[test]
fn a_client_that_leaves_has_spent_what_was_reported() {
    let upstream = Upstream::start(|_| {
        let first = events("claude-sonnet-4-5", 1000, 5).remove(0);
        vec![stream_head(), chunk(first), Step::AwaitEnd(Arc::default())]
    });
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "totalCostLimit": 0.000001 }));
    let mut connection = Connection::open(relay.address);
    connection.request("POST", "/api/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    assert!(connection.chunk().unwrap().is_some());
    drop(connection);
    eventually("its line is written", || billed(&relay, &key) > 0);
    let refused = relay.message(&key, REQUEST).json();
    assert_eq!(refused["error"], "Total cost limit exceeded");
    // 1000 in, 1 out, and the caches.
    assert!(close(&refused["currentCost"], 0.003 + 0.000_015 + 0.000_169_5), "{refused}");
    assert_eq!(billed(&relay, &key), (refused["currentCost"].as_f64().unwrap() * PICO).round() as i64);
}

#[test]
fn a_budget_is_overshot_by_what_was_in_flight_and_no_more() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(200, &message("claude-sonnet-4-5", 1000, 1000)));
        steps
    });
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "dailyCostLimit": 0.001 }));
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..6).map(|_| scope.spawn(|| relay.message(&key, REQUEST).status)).collect();
        eventually("all are in flight", || upstream.received().len() == 6);
        gate.store(true, Ordering::Relaxed);
        assert!(running.into_iter().all(|running| running.join().unwrap() == 200));
    });
    let refused = relay.message(&key, REQUEST).json();
    assert!(close(&refused["currentCost"], 6.0 * ONE), "{refused}");
    assert_eq!(billed(&relay, &key), (6.0 * ONE * PICO).round() as i64);
}

#[test]
fn whoever_takes_over_a_place_finds_its_cost_counted() {
    let upstream = upstream();
    let relay = run(start(&upstream).with("CONCURRENCY_WAIT", "30000"));
    // One at a time: two and a half answers are three, never four.
    let key = key(&relay, value!({ "totalCostLimit": 2.5 * ONE, "concurrencyLimit": 1 }));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..4).map(|_| relay.message(&key, REQUEST).status).collect::<Vec<_>>()))
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 3, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)));
    assert_eq!(billed(&relay, &key), (3.0 * ONE * PICO).round() as i64);
}

#[test]
fn the_least_that_remains_is_what_switchers_show() {
    let upstream = upstream();
    let relay = run(start(&upstream));
    let none = key(&relay, value!({ "name": "Ann" }));
    let found = report(&relay, &none, "/v1/usage");
    assert_eq!(found["usage"]["remaining"], Value::Null);
    assert_eq!((&found["usage"]["isValid"], &found["usage"]["planName"]), (&value!(true), &value!("Ann")));
    assert_eq!((&found["usage"]["unit"], &found["limits"]), (&value!("USD"), &value!({ "tokens": 0, "requests": 0 })));
    assert_eq!(report(&relay, &none, "/v1/key-info")["limits"], value!({}));
    let some = key(
        &relay,
        value!({ "dailyCostLimit": 1, "totalCostLimit": 0.5, "rateLimitCost": 0.1, "concurrencyLimit": 3 }),
    );
    // No window, no limit of it.
    let found = report(&relay, &some, "/v1/usage");
    assert_eq!((&found["usage"]["remaining"], &found["limits"]["rateLimitCost"]), (&value!(0.5), &Value::Null));
    let changed = relay.admin("PUT", &format!("/admin/api-keys/{}", some.id), &value!({ "rateLimitWindow": 5 }));
    assert_eq!(changed.status, 200);
    assert_eq!(relay.message(&some, REQUEST).status, 200);
    let found = report(&relay, &some, "/v1/usage");
    assert!(close(&found["usage"]["remaining"], 0.1 - ONE), "{found}");
    assert!(close(&found["usage"]["daily"]["cost"], ONE), "{found}");
    let expected = value!({ "limit": 3, "used": 0, "remaining": 3, "resetAt": null });
    assert_eq!(found["limits"]["concurrencyLimit"], expected);
    assert_eq!(listed(&relay, &some)["limits"], report(&relay, &some, "/v1/key-info")["limits"]);
}

/// An upstream whose answers wait for a gate.
fn gated() -> (Upstream, Arc<AtomicBool>) {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(200, &message("claude-sonnet-4-5", 1, 1)));
        steps
    });
    (upstream, gate)
}

fn begin(relay: &Relay, key: &Key) -> Connection {
    let mut connection = Connection::open(relay.address);
    connection.request("POST", "/api/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    connection
}

/// Waits until so many relayed requests are inside, running or waiting.
fn inside(relay: &Relay, count: u32) {
    let line = format!("claude_relay_relaying {count}");
    eventually("they are inside", || {
        relay.get("/metrics", &[("Accept", "text/plain")]).text().lines().any(|found| found == line)
    });
    // From there to the queue it is microseconds; a look from outside takes longer.
    std::thread::sleep(Duration::from_millis(50));
}

fn at_once(relay: &Relay, key: &Key) -> (Response, Duration) {
    let start = Instant::now();
    (relay.message(key, REQUEST), start.elapsed())
}

#[test]
fn a_request_waits_for_a_place_and_is_served() {
    let (upstream, gate) = gated();
    let relay = run(start(&upstream).with("CONCURRENCY_WAIT", "30000"));
    let key = key(&relay, value!({ "concurrencyLimit": 1 }));
    let mut first = begin(&relay, &key);
    eventually("the first runs", || upstream.received().len() == 1);
    let mut second = begin(&relay, &key);
    inside(&relay, 2);
    // As many may wait as may run: where one waits, the next is refused at once.
    let (refused, elapsed) = at_once(&relay, &key);
    assert!(refused.status == 429 && elapsed < Duration::from_secs(2), "{elapsed:?}");
    assert_eq!(
        refused.json(),
        value!({
            "error": "Concurrency limit exceeded",
            "message": "Too many concurrent requests. Limit: 1 concurrent requests",
            "currentConcurrency": 1, "concurrencyLimit": 1,
        })
    );
    assert_eq!(upstream.received().len(), 1, "who waits has not been sent");
    gate.store(true, Ordering::Relaxed);
    assert_eq!((first.response().unwrap().status, second.response().unwrap().status), (200, 200));
    assert_eq!(at_once(&relay, &key).0.status, 200);
}

#[test]
fn a_wait_ends_with_its_time_and_without_the_setting_there_is_none() {
    let (upstream, gate) = gated();
    let relay = run(start(&upstream).with("CONCURRENCY_WAIT", "700"));
    let key = key(&relay, value!({ "concurrencyLimit": 1 }));
    let mut first = begin(&relay, &key);
    eventually("the first runs", || upstream.received().len() == 1);
    let (refused, elapsed) = at_once(&relay, &key);
    assert_eq!((refused.status, &refused.json()["error"]), (429, &value!("Concurrency limit exceeded")));
    assert!((Duration::from_millis(700)..Duration::from_secs(3)).contains(&elapsed), "{elapsed:?}");
    gate.store(true, Ordering::Relaxed);
    assert_eq!(first.response().unwrap().status, 200);
    let relay = relay.kill_and_restart(start(&upstream));
    gate.store(false, Ordering::Relaxed);
    let mut first = begin(&relay, &key);
    eventually("the first runs", || upstream.received().len() == 2);
    let (refused, elapsed) = at_once(&relay, &key);
    assert!(refused.status == 429 && elapsed < Duration::from_millis(500), "{elapsed:?}");
    gate.store(true, Ordering::Relaxed);
    assert_eq!(first.response().unwrap().status, 200);
}

#[test]
fn who_leaves_while_waiting_makes_room_and_uses_nothing() {
    let (upstream, gate) = gated();
    let relay = run(start(&upstream).with("CONCURRENCY_WAIT", "30000"));
    let key = key(&relay, value!({ "concurrencyLimit": 1, "rateLimitWindow": 5, "rateLimitRequests": 50 }));
    let mut first = begin(&relay, &key);
    eventually("the first runs", || upstream.received().len() == 1);
    let second = begin(&relay, &key);
    inside(&relay, 2);
    let left_at = Instant::now();
    drop(second);
    // Its place in the queue is free again when the next one is not refused any more.
    let mut third = loop {
        let mut third = begin(&relay, &key);
        third.stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        match third.head() {
            Ok(refused) => assert_eq!(refused.status, 429),
            Err(_) => break third,
        }
    };
    assert!(left_at.elapsed() < Duration::from_millis(1500), "{:?}", left_at.elapsed());
    third.stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    gate.store(true, Ordering::Relaxed);
    assert_eq!((first.response().unwrap().status, third.response().unwrap().status), (200, 200));
    assert_eq!(upstream.received().len(), 2);
    assert_eq!(report(&relay, &key, "/v1/key-info")["limits"]["rateLimitRequests"]["used"], 2);
}

#[test]
fn a_key_that_is_taken_away_while_its_request_waits_is_refused() {
    let (upstream, gate) = gated();
    let relay = run(start(&upstream).with("CONCURRENCY_WAIT", "30000"));
    let key = key(&relay, value!({ "concurrencyLimit": 1 }));
    let mut first = begin(&relay, &key);
    eventually("the first runs", || upstream.received().len() == 1);
    let mut second = begin(&relay, &key);
    inside(&relay, 2);
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{}", key.id), &Value::Null).status, 200);
    gate.store(true, Ordering::Relaxed);
    assert_eq!(first.response().unwrap().status, 200);
    let refused = second.response().unwrap();
    assert_eq!((refused.status, &refused.json()["message"]), (401, &value!("API key not found")));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_wait_that_cannot_be_is_refused_at_the_start() {
    for wrong in ["60001", "-1", "soon"] {
        let out = Start::new().with("CONCURRENCY_WAIT", wrong).command().output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
        assert!(!out.status.success() && said.contains("CONCURRENCY_WAIT must be a whole number from 0 to 60000"));
    }
}

#[test]
fn an_answer_that_breaks_off_is_paid_as_far_as_it_came() {
    let upstream = Upstream::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        vec![send(head), chunk(events("claude-sonnet-4-5", 2000, 5).remove(0)), Step::Reset]
    });
    let relay = run(start(&upstream));
    let key = key(&relay, value!({ "monthlyCostLimit": 0.006 }));
    assert!(relay.message(&key, STREAM_REQUEST).text().contains("event: error"));
    let refused = relay.message(&key, REQUEST).json();
    assert_eq!(refused["error"], "Monthly cost limit exceeded");
    assert!(close(&refused["currentCost"], 0.006 + 0.000_015 + 0.000_169_5), "{refused}");
}
