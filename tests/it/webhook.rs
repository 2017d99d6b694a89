//! The webhook: what is told, how it is signed, and that nothing waits for it.

use crate::harness::client::Response;
use crate::harness::relay::Start;
use crate::harness::upstream::{Received, Step, json};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use claude_relay::model::secret::sign;
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::{Duration, Instant};

const SECRET: &str = "signing-secret-1";

fn aim(relay: &Relay, hook: &Upstream, more: &Value) {
    let mut webhook = value!({ "url": format!("http://{}/hook/path", hook.address), "secret": SECRET });
    webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let saved = relay.admin("PUT", "/admin/settings", &value!({ "webhook": webhook }));
    assert_eq!(saved.status, 200, "{}", saved.text());
}

fn figures(relay: &Relay) -> Value {
    relay.admin("GET", "/admin/settings", &Value::Null).json()["data"]["webhook"]["state"].clone()
}

fn test(relay: &Relay) -> Response {
    relay.admin("POST", "/admin/settings/webhook/test", &Value::Null)
}

/// What arrived, in the order of events' names and instants.
fn events(hook: &Upstream) -> Vec<Value> {
    hook.received().iter().map(Received::json).collect()
}

fn named<'a>(events: &'a [Value], event: &str) -> Vec<&'a Value> {
    events.iter().filter(|found| found["event"] == event).collect()
}

/// An upstream that answers with the status that a test sets.
fn upstream(status: &Arc<AtomicU16>, model: &'static str) -> Upstream {
    let status = Arc::clone(status);
    Upstream::start(move |_| match status.load(Ordering::Relaxed) {
        200 => json(200, &message(model, 1_000_000, 1)),
        status => {
            json(status, r#"{"type":"error","error":{"type":"authentication_error","message":"This is <not> valid"}}"#)
        }
    })
}

#[test]
fn an_account_that_goes_and_comes_back_is_told_once_each_with_a_signature_that_holds() {
    let hook = Upstream::start(|_| json(200, "ok"));
    let status = Arc::new(AtomicU16::new(401));
    let upstream = upstream(&status, "claude-sonnet-4-5");
    let (relay, key) = Relay::with_upstream(&upstream);
    aim(&relay, &hook, &value!({}));
    for _ in 0..3 {
        relay.message(&key, REQUEST);
    }
    eventually("the rest is told", || !named(&events(&hook), "account.down").is_empty());
    status.store(200, Ordering::Relaxed);
    let accounts = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
    let id = accounts["data"][0]["id"].as_str().unwrap();
    assert_eq!(relay.admin("POST", &format!("/admin/claude-accounts/{id}/wake"), &Value::Null).status, 200);
    eventually("its end is told", || !named(&events(&hook), "account.recovered").is_empty());
    for _ in 0..2 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    std::thread::sleep(Duration::from_millis(300));
    let found = events(&hook);
    assert_eq!(found.len(), 2, "{found:?}");
    let down = &found[0];
    assert_eq!(down["account"], value!({ "id": id, "name": "first" }));
    assert_eq!((&down["relay"], &down["key"], &down["model"]), (&value!("Claude Relay"), &Value::Null, &Value::Null));
    assert_eq!(down["details"]["reason"], "authentication");
    assert!(down["message"].as_str().unwrap().starts_with("Account \"first\" rests until "), "{down}");
    for received in hook.received() {
        assert_eq!(received.target, "/hook/path");
        assert_eq!(received.field("content-type"), Some("application/json"));
        let (at, v1) = received.field("x-relay-signature").unwrap().split_once(",v1=").unwrap();
        let at = at.strip_prefix("t=").unwrap();
        let signed = [format!("{at}.").as_bytes(), &received.body].concat();
        assert_eq!(v1, hex::encode(sign(SECRET.as_bytes(), &signed)));
        let age = claude_relay::model::time::now_ms() / 1000 - at.parse::<i64>().unwrap();
        assert!((0..30).contains(&age));
        let text = String::from_utf8(received.body).unwrap();
        assert!(!text.contains("sk-ant-secret") && !text.contains(&key.clear) && !text.contains(SECRET));
    }
    assert_eq!(figures(&relay)["sent"], 2);
}

#[test]
fn budgets_and_models_without_a_price_are_told_once() {
    let hook = Upstream::start(|_| json(204, ""));
    let status = Arc::new(AtomicU16::new(200));
    let (priced, unpriced) = (upstream(&status, "claude-sonnet-4-5"), upstream(&status, "house-model"));
    let (relay, key) = Relay::with_upstream(&priced);
    aim(&relay, &hook, &value!({}));
    let poor = relay.add_key_with(&value!({ "name": "poor", "dailyCostLimit": 1 }));
    assert_eq!(relay.message(&poor, REQUEST).status, 200);
    for _ in 0..3 {
        assert_eq!(relay.message(&poor, REQUEST).status, 429);
    }
    eventually("the budget is told", || !named(&events(&hook), "key.budget_reached").is_empty());
    let found = events(&hook);
    let told = named(&found, "key.budget_reached")[0];
    assert_eq!(
        (&told["key"]["name"], &told["details"]["limit"], &told["details"]["allowed"]),
        (&value!("poor"), &value!("daily"), &value!(1.0))
    );
    assert!(told["details"]["used"].as_f64().unwrap() > 3.0 && told["details"]["resetAt"].is_string());
    // A higher limit is another one.
    let raised = relay.admin("PUT", &format!("/admin/api-keys/{}", poor.id), &value!({ "dailyCostLimit": 2 }));
    assert_eq!((raised.status, relay.message(&poor, REQUEST).status), (200, 429));
    eventually("the other limit is told", || named(&events(&hook), "key.budget_reached").len() == 2);
    let start = Start::new().upstream(&unpriced);
    let relay = relay.kill_and_restart(start);
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    eventually("the model is told", || !named(&events(&hook), "model.unpriced").is_empty());
    std::thread::sleep(Duration::from_millis(300));
    let found = events(&hook);
    assert_eq!(named(&found, "model.unpriced").len(), 1, "{found:?}");
    assert_eq!(named(&found, "model.unpriced")[0]["model"], "house-model");
}

#[test]
fn a_limit_that_was_told_of_is_told_again_when_its_span_is_over_and_not_when_the_relay_restarts() {
    let hook = Upstream::start(|_| json(204, ""));
    let upstream = upstream(&Arc::new(AtomicU16::new(200)), "claude-sonnet-4-5");
    let start = || Start::new().upstream(&upstream).with("CLEANUP_INTERVAL", "1000");
    let relay = start().run();
    relay.add_api_key_account("first", "sk-1");
    aim(&relay, &hook, &value!({}));
    let limits = [
        ("daily", value!({ "name": "daily", "dailyCostLimit": 1 })),
        ("total", value!({ "name": "total", "totalCostLimit": 1 })),
        ("window", value!({ "name": "window", "rateLimitWindow": 60, "tokenLimit": 0, "rateLimitCost": 1 })),
        ("window_requests", value!({ "name": "requests", "rateLimitWindow": 60, "rateLimitRequests": 1 })),
        ("window_tokens", value!({ "name": "tokens", "rateLimitWindow": 60, "tokenLimit": 5 })),
    ];
    let keys = limits.map(|(name, body)| (name, relay.add_key_with(&body)));
    let told = |hook: &Upstream| {
        let events = events(hook);
        let limits = named(&events, "key.budget_reached").into_iter();
        let mut limits: Vec<String> =
            limits.map(|event| event["details"]["limit"].as_str().unwrap().to_owned()).collect();
        limits.sort_unstable();
        limits
    };
    for (name, key) in &keys {
        assert_eq!(relay.message(key, REQUEST).status, 200, "{name}");
        for _ in 0..2 {
            assert_eq!(relay.message(key, REQUEST).status, 429, "{name}");
        }
    }
    eventually("all are told", || figures(&relay)["sent"] == 5);
    assert_eq!(told(&hook), ["daily", "total", "window", "window_requests", "window_tokens"]);
    let tokens = events(&hook).into_iter().find(|event| event["details"]["limit"] == "window_tokens").unwrap();
    assert_eq!((&tokens["details"]["used"], &tokens["details"]["allowed"]), (&value!(1_000_071), &value!(5)));
    assert_eq!(tokens["message"], "Key \"tokens\" has reached its window limit of tokens: 1000071 of 5");
    let window = events(&hook).into_iter().find(|event| event["details"]["limit"] == "window").unwrap();
    assert_eq!((&window["key"]["name"], &window["details"]["allowed"]), (&value!("window"), &value!(1.0)));
    assert!(window["details"]["resetAt"].is_string() && window["details"]["used"].as_f64().unwrap() > 3.0);
    assert!(window["message"].as_str().unwrap().starts_with("Key \"window\" has reached its window limit: $3."));

    let relay = relay.kill_and_restart(start());
    for (name, key) in &keys {
        assert_eq!(relay.message(key, REQUEST).status, 429, "{name}");
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(told(&hook).len(), 5, "nothing is told twice");
    assert_eq!(relay.count("SELECT count(*) FROM told_limits"), 5);

    // As if a day had gone by.
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("UPDATE told_limits SET ends_at_ms = ends_at_ms - 86400000", []).unwrap();
    let left = "SELECT count(*) FROM told_limits";
    eventually("what has an end and is over is forgotten", || relay.count(left) == 1);
    let relay = relay.kill_and_restart(start());
    for (name, key) in &keys {
        assert_eq!(relay.message(key, REQUEST).status, 429, "{name}");
    }
    eventually("a new day's is told", || figures(&relay)["sent"] == 4);
    let twice = ["daily", "window", "window_requests", "window_tokens"].iter();
    assert!(twice.clone().all(|name| told(&hook).iter().filter(|told| told == name).count() == 2), "{:?}", told(&hook));
    assert_eq!(told(&hook).len(), 9);
}

#[test]
fn a_limit_that_the_webhook_did_not_take_is_told_after_a_restart() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let hook = Upstream::start(move |_| json(if up.load(Ordering::Relaxed) { 204 } else { 500 }, ""));
    let upstream = upstream(&Arc::new(AtomicU16::new(200)), "claude-sonnet-4-5");
    let (relay, _) = Relay::with_upstream(&upstream);
    aim(&relay, &hook, &value!({}));
    let poor = relay.add_key_with(&value!({ "name": "poor", "monthlyCostLimit": 1 }));
    assert_eq!([relay.message(&poor, REQUEST).status, relay.message(&poor, REQUEST).status], [200, 429]);
    eventually("it was not taken", || figures(&relay)["lastError"] == "The webhook answered with status 500");
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    is_up.store(true, Ordering::Relaxed);
    assert_eq!(relay.message(&poor, REQUEST).status, 429);
    eventually("it is told", || figures(&relay)["sent"] == 1);
}

#[test]
fn a_refresh_token_that_is_refused_is_told_and_events_that_are_not_chosen_are_not() {
    let hook = Upstream::start(|_| json(200, "{}"));
    let upstream = Upstream::start(|_| json(400, r#"{"error":"invalid_grant"}"#));
    let relay =
        Start::new().upstream(&upstream).with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address)).run();
    relay.add_account(&value!({ "name": "gone", "claudeAiOauth":
        { "accessToken": "old", "refreshToken": "spent", "expiresAt": 1, "scopes": ["user:inference"] } }));
    let key = relay.add_key("k");
    aim(&relay, &hook, &value!({ "events": ["account.refresh_failed"] }));
    for _ in 0..2 {
        assert_ne!(relay.message(&key, REQUEST).status, 200);
    }
    eventually("the refusal is told", || !hook.received().is_empty());
    std::thread::sleep(Duration::from_millis(200));
    let found = events(&hook);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(
        (&found[0]["event"], &found[0]["account"]["name"]),
        (&value!("account.refresh_failed"), &value!("gone"))
    );
    assert!(found[0]["message"].as_str().unwrap().contains("sign in again"));
}

#[test]
fn what_the_webhook_does_not_take_is_sent_again() {
    let calls = Arc::new(AtomicU16::new(0));
    let count = Arc::clone(&calls);
    let hook = Upstream::start(move |_| match count.fetch_add(1, Ordering::Relaxed) {
        0 => json(500, "no"),
        _ => json(200, "ok"),
    });
    let status = Arc::new(AtomicU16::new(401));
    let upstream = upstream(&status, "m");
    let (relay, key) = Relay::with_upstream(&upstream);
    aim(&relay, &hook, &value!({}));
    relay.message(&key, REQUEST);
    eventually("the failure shows", || figures(&relay)["lastError"] == "The webhook answered with status 500");
    eventually("it is taken", || figures(&relay)["sent"] == 1);
    assert_eq!((events(&hook).len(), &figures(&relay)["waiting"]), (2, &value!(0)));
    assert_eq!(events(&hook)[0], events(&hook)[1]);
}

#[test]
fn nothing_waits_for_a_webhook_that_hangs() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let hook = Upstream::start(move |_| {
        let mut steps = vec![Step::Gate(Arc::clone(&gate))];
        steps.extend(json(200, "ok"));
        steps
    });
    let status = Arc::new(AtomicU16::new(200));
    let upstream = upstream(&status, "house-model");
    let (relay, key) = Relay::with_upstream(&upstream);
    aim(&relay, &hook, &value!({}));
    let start = Instant::now();
    for _ in 0..10 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    let tried = test(&relay).json()["data"].clone();
    assert_eq!((&tried["ok"], &tried["status"]), (&value!(false), &value!(0)));
    assert_eq!(tried["message"], "The webhook gave no answer in time");
    assert!((4500..8000).contains(&tried["latencyMs"].as_i64().unwrap()), "{tried}");
    is_open.store(true, Ordering::Relaxed);
    eventually("what waited is taken", || figures(&relay)["sent"] == 1);
}

#[test]
fn a_test_tells_what_came_in_the_form_that_is_set() {
    let status = Arc::new(AtomicU16::new(200));
    let answer = Arc::clone(&status);
    let hook = Upstream::start(move |request| match answer.load(Ordering::Relaxed) {
        302 => vec![Step::Send(b"HTTP/1.1 302 X\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n".to_vec())],
        1 => json(200, r#"{"code":19021,"msg":"sign match fail"}"#),
        status => json(status, if request.target == "/hook/path" { "{}" } else { "elsewhere" }),
    });
    let relay = Start::new().run();
    aim(&relay, &hook, &value!({ "preset": "slack" }));
    let tried = test(&relay).json()["data"].clone();
    assert_eq!(
        (&tried["ok"], &tried["status"], &tried["message"]),
        (&value!(true), &value!(200), &value!("The webhook took it"))
    );
    assert_eq!(events(&hook)[0], value!({ "text": "[Claude Relay] This is a test, sent by keeper" }));
    status.store(302, Ordering::Relaxed);
    assert_eq!(test(&relay).json()["data"]["status"], 302);
    assert_eq!(hook.received().len(), 2, "a redirect is not followed");
    aim(&relay, &hook, &value!({ "preset": "feishu" }));
    status.store(1, Ordering::Relaxed);
    let tried = test(&relay).json()["data"].clone();
    assert_eq!((&tried["ok"], &tried["message"]), (&value!(false), &value!("The webhook answered with code 19021")));
    let body = events(&hook)[2].clone();
    assert_eq!((&body["msg_type"], body["sign"].as_str().map(str::len)), (&value!("text"), Some(44)));
    // One that nobody listens at.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    relay.admin("PUT", "/admin/settings", &value!({ "webhook": { "url": format!("http://{closed}/") } }));
    let tried = test(&relay).json()["data"].clone();
    assert_eq!((&tried["ok"], &tried["message"]), (&value!(false), &value!("The webhook could not be reached")));
}

#[test]
fn a_sign_in_that_ends_again_is_told_again() {
    let hook = Upstream::start(|_| json(204, ""));
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/token" => json(400, r#"{"error":"invalid_grant"}"#),
        _ => json(200, &message("m", 1, 1)),
    });
    let start = Start::new().upstream(&upstream).with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address));
    let relay = start.run();
    aim(&relay, &hook, &value!({}));
    let tokens = |number: u32| {
        let end = claude_relay::model::time::now_ms() + 3_600_000;
        let pair = [format!("access-{number}"), format!("refresh-{number}")];
        value!({ "name": "a", "claudeAiOauth": { "accessToken": pair[0], "refreshToken": pair[1], "expiresAt": end } })
    };
    let id = relay.add_account(&tokens(0))["id"].as_str().unwrap().to_owned();
    let told = || named(&events(&hook), "account.refresh_failed").len();
    for number in 1..=2 {
        let refresh = || relay.admin("POST", &format!("/admin/claude-accounts/{id}/refresh"), &Value::Null).status;
        assert_eq!((refresh(), refresh()), (400, 400));
        eventually("it is told", || told() == number);
        let signed_in = relay.admin("PUT", &format!("/admin/claude-accounts/{id}"), &tokens(number as u32));
        assert_eq!(signed_in.status, 200);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(told(), 2);
}

#[test]
fn a_limit_whose_notice_was_dropped_is_told_again() {
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let hook = Upstream::start(move |_| json(if up.load(Ordering::Relaxed) { 204 } else { 500 }, ""));
    let upstream = upstream(&Arc::new(AtomicU16::new(200)), "claude-sonnet-4-5");
    let (relay, _) = Relay::with_upstream(&upstream);
    aim(&relay, &hook, &value!({}));
    let poor = relay.add_key_with(&value!({ "name": "poor", "totalCostLimit": 1 }));
    assert_eq!([relay.message(&poor, REQUEST).status, relay.message(&poor, REQUEST).status], [200, 429]);
    eventually("it was not taken", || figures(&relay)["lastError"] == "The webhook answered with status 500");
    // Away, and later back.
    assert_eq!(relay.admin("PUT", "/admin/settings", &value!({ "webhook": null })).status, 200);
    eventually("nothing waits", || figures(&relay)["waiting"] == 0);
    is_up.store(true, Ordering::Relaxed);
    aim(&relay, &hook, &value!({}));
    assert_eq!(relay.message(&poor, REQUEST).status, 429);
    eventually("it is told", || figures(&relay)["sent"] == 1);
}
