//! Refresh tokens over crashes: what is granted is kept before it is used.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Received, Step, json, send};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use claude_relay::model::time::now_ms;
use serde_json::{Value, json as value};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A token endpoint whose refresh tokens work once: one is spent as soon as anything of the pair that was granted for it is
/// used (the leeway of servers that rotate, for an answer that never arrived). What was granted and used is lost for whoever
/// did not keep it.
#[derive(Default)]
struct Endpoint {
    /// The pair in use, and the one that was granted for it and not used yet.
    current: u32,
    granted: Option<u32>,
    grants: u32,
    next: u32,
}

impl Endpoint {
    /// Takes note of a token of the pair `number`. Whether it is any good.
    fn uses(&mut self, number: u32) -> bool {
        if self.granted == Some(number) {
            self.current = number;
            self.granted = None;
        }
        self.current == number
    }

    fn grant(&mut self, refresh: &str, expires_in_s: u32) -> Vec<Step> {
        let number = refresh.strip_prefix("refresh-").and_then(|number| number.parse().ok()).unwrap();
        if !self.uses(number) {
            return json(400, r#"{"error":"invalid_grant"}"#);
        }
        self.next += 1;
        self.grants += 1;
        self.granted = Some(self.next);
        let next = self.next;
        let body = value!({ "access_token": format!("access-{next}"), "refresh_token": format!("refresh-{next}"), "expires_in": expires_in_s });
        json(200, &body.to_string())
    }
}

/// An API and its token endpoint. Every access token lives `life_s`.
fn upstream(endpoint: &Arc<Mutex<Endpoint>>, life_s: u32) -> Upstream {
    let endpoint = Arc::clone(endpoint);
    Upstream::start(move |request| {
        let mut endpoint = endpoint.lock().unwrap();
        if request.target == "/token" {
            return endpoint.grant(request.json()["refresh_token"].as_str().unwrap(), life_s);
        }
        let bearer = request.field("authorization").unwrap().strip_prefix("Bearer access-").unwrap();
        match endpoint.uses(bearer.parse().unwrap()) {
            true => json(200, &message("m", 1, 1)),
            false => json(401, r#"{"type":"error","error":{"type":"authentication_error","message":"token_expired"}}"#),
        }
    })
}

fn start(upstream: &Upstream) -> Start {
    Start::new().upstream(upstream).with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address))
}

fn add_account(relay: &Relay, expires_at_ms: i64) -> Value {
    relay.add_account(&value!({ "name": "a",
        "claudeAiOauth": { "accessToken": "access-0", "refreshToken": "refresh-0", "expiresAt": expires_at_ms } }))
}

fn account(relay: &Relay) -> Value {
    relay.admin("GET", "/admin/claude-accounts", &Value::Null).json()["data"][0].clone()
}

/// Kinds and messages of what happened to an account, newest first.
fn history(relay: &Relay, id: &str) -> Vec<(String, String)> {
    let events = relay.admin("GET", &format!("/admin/claude-accounts/{id}/events"), &Value::Null).json();
    let text = |event: &Value, member: &str| event[member].as_str().unwrap().to_owned();
    events["data"].as_array().unwrap().iter().map(|event| (text(event, "kind"), text(event, "message"))).collect()
}

#[test]
fn a_kill_at_any_moment_of_many_refreshes_never_loses_the_account() {
    let endpoint: Arc<Mutex<Endpoint>> = Arc::default();
    // Shorter than the relay refreshes ahead of: each request finds its token in need of a new one.
    let upstream = upstream(&endpoint, 30);
    let mut relay = start(&upstream).run();
    add_account(&relay, 1);
    let key = relay.add_key("k");
    let mut kills = 0_u64;
    while endpoint.lock().unwrap().grants < 200 {
        let pause = Duration::from_micros(kills * 1709 % 23_000);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    // It may be dead by now.
                    let Some(mut client) = Connection::try_open(relay.address) else { return };
                    loop {
                        if client.try_request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST).is_err() {
                            return;
                        }
                        match client.response() {
                            Ok(answer) => assert_eq!(answer.status, 200, "{}", answer.text()),
                            Err(_) => return,
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(5) + pause);
            relay.signal("-KILL");
        });
        kills += 1;
        relay = relay.kill_and_restart(start(&upstream));
        assert_eq!(account(&relay)["status"], "active", "after {kills} kills");
    }
    assert!(kills >= 10, "{kills}");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
}

#[test]
fn a_token_that_is_refused_is_refreshed_once_for_all_who_meet_the_refusal() {
    let endpoint = Arc::new(Mutex::new(Endpoint { next: 7, ..Endpoint::default() }));
    let upstream = upstream(&endpoint, 3600);
    let relay = start(&upstream).with("RELAY_WORKERS", "64").run();
    // The vendor knows the refresh token and has taken the access token back long before its end.
    relay.add_account(&value!({ "name": "a",
        "claudeAiOauth": { "accessToken": "access-5", "refreshToken": "refresh-0", "expiresAt": now_ms() + 3_600_000 } }));
    let key = relay.add_key("k");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(relay.message(&key, REQUEST).status, 200));
        }
    });
    assert_eq!(endpoint.lock().unwrap().grants, 1);
    assert!(account(&relay)["rest"].is_null());
    assert!(upstream.received().iter().any(|request| request.field("authorization") == Some("Bearer access-5")));
}

#[test]
fn a_token_near_its_end_is_refreshed_in_the_background_and_failures_are_in_the_history() {
    let endpoint: Arc<Mutex<Endpoint>> = Arc::default();
    let good = upstream(&endpoint, 3600);
    let relay = start(&good).run();
    let id = add_account(&relay, now_ms() + 120_000)["id"].as_str().unwrap().to_owned();
    let bad = relay.add_account(&value!({ "name": "b",
        "claudeAiOauth": { "accessToken": "access-0", "refreshToken": "refresh-77", "expiresAt": now_ms() + 120_000 } }));
    let kinds = |id: &str| history(&relay, id).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
    let deadline = std::time::Instant::now() + Duration::from_secs(45);
    while endpoint.lock().unwrap().grants == 0 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(endpoint.lock().unwrap().grants, 1, "without any request");
    eventually("the history says so", || kinds(&id) == ["refresh"]);
    eventually("and of the other one that it failed", || {
        kinds(bad["id"].as_str().unwrap()).first().is_some_and(|kind| kind == "refresh_failed")
    });
}

const LOST: &str =
    "The refresh token is no longer valid, probably because the answer to an earlier refresh was lost: sign in again";

/// An API, and a token endpoint that spends a refresh token at its first use and loses the answer to the first request.
fn losing(answer: fn() -> Vec<Step>) -> Upstream {
    let is_spent = Mutex::new(false);
    Upstream::start(move |request| {
        if request.target != "/token" {
            return json(200, &message("m", 1, 1));
        }
        match std::mem::replace(&mut *is_spent.lock().unwrap(), true) {
            false => answer(),
            true => json(400, r#"{"error":"invalid_grant"}"#),
        }
    })
}

fn asked_for_tokens(upstream: &Upstream) -> usize {
    upstream.received().iter().filter(|request| request.target == "/token").count()
}

fn aim(relay: &Relay, hook: &Upstream) {
    let webhook = value!({ "webhook": { "url": format!("http://{}/", hook.address) } });
    assert_eq!(relay.admin("PUT", "/admin/settings", &webhook).status, 200);
}

/// Events and messages that a webhook was told.
fn told(hook: &Upstream) -> Vec<(String, String)> {
    let text = |event: &Value, member: &str| event[member].as_str().unwrap().to_owned();
    hook.received().iter().map(Received::json).map(|event| (text(&event, "event"), text(&event, "message"))).collect()
}

#[test]
fn a_refresh_whose_answer_is_lost_is_tried_once_more_and_the_old_token_serves_to_its_end() {
    let endings: [fn() -> Vec<Step>; 4] = [
        || vec![Step::Close],
        || vec![Step::Reset],
        || vec![send("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{\"access_tok"), Step::Close],
        || json(502, "<html>"),
    ];
    let one = |ending: fn() -> Vec<Step>| {
        let (upstream, hook) = (losing(ending), Upstream::start(|_| json(204, "")));
        let relay = start(&upstream).run();
        aim(&relay, &hook);
        let end = now_ms() + 12_000;
        let id = add_account(&relay, end)["id"].as_str().unwrap().to_owned();
        let key = relay.add_key("k");
        // Lost; refused five seconds later; not sent again.
        for expected in [1, 2, 2] {
            assert_eq!(relay.message(&key, REQUEST).status, 200);
            assert_eq!(upstream.received().last().unwrap().field("authorization"), Some("Bearer access-0"));
            assert_eq!(asked_for_tokens(&upstream), expected);
            assert_eq!(account(&relay)["status"], "active");
            let said = if expected == 1 { "" } else { LOST };
            assert_eq!(account(&relay)["errorMessage"], said);
            if now_ms() < end - 6000 {
                std::thread::sleep(Duration::from_millis(5100));
            }
        }
        std::thread::sleep(Duration::from_millis(u64::try_from(end + 300 - now_ms()).unwrap()));
        eventually("the refusal is over five seconds ago", || relay.message(&key, REQUEST).status == 503);
        assert_eq!((asked_for_tokens(&upstream), &account(&relay)["status"]), (2, &value!("error")));
        assert_eq!(account(&relay)["errorMessage"], LOST);
        assert_eq!(history(&relay, &id)[0], ("stopped".to_owned(), LOST.to_owned()));
        eventually("the stop is told", || {
            told(&hook)
                .contains(&("account.down".to_owned(), format!("Account \"a\" is stopped until an admin acts: {LOST}")))
        });
        // A new sign-in ends it.
        let tokens = value!({ "claudeAiOauth":
            { "accessToken": "access-9", "refreshToken": "refresh-9", "expiresAt": now_ms() + 3_600_000 } });
        assert_eq!(relay.admin("PUT", &format!("/admin/claude-accounts/{id}"), &tokens).status, 200);
        assert_eq!(relay.message(&key, REQUEST).status, 200);
        assert_eq!((&account(&relay)["status"], &account(&relay)["errorMessage"]), (&value!("active"), &value!("")));
    };
    std::thread::scope(|scope| endings.map(|ending| scope.spawn(move || one(ending))).map(|one| one.join().unwrap()));
}

#[test]
fn a_lost_answer_is_remembered_over_a_kill_and_a_new_sign_in_ends_the_doubt() {
    let upstream = losing(|| vec![Step::Reset]);
    let relay = start(&upstream).run();
    let id = add_account(&relay, now_ms() + 30_000)["id"].as_str().unwrap().to_owned();
    let key = relay.add_key("k");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(account(&relay)["errorMessage"], "");
    let doubts = "SELECT refresh_in_doubt FROM accounts";
    assert_eq!(relay.count(doubts), 1);
    let relay = relay.kill_and_restart(start(&upstream));
    assert_eq!(relay.message(&key, REQUEST).status, 200, "the old token lives");
    assert_eq!((asked_for_tokens(&upstream), &account(&relay)["errorMessage"]), (2, &value!(LOST)));
    let tokens =
        value!({ "claudeAiOauth": { "accessToken": "access-9", "refreshToken": "refresh-9", "expiresAt": 1 } });
    assert_eq!(relay.admin("PUT", &format!("/admin/claude-accounts/{id}"), &tokens).status, 200);
    assert_eq!(relay.count(doubts), 0);
    let refresh = format!("/admin/claude-accounts/{id}/refresh");
    let refused = relay.admin("POST", &refresh, &Value::Null).json();
    assert_eq!(refused["message"], "The refresh token is no longer valid: sign in again");
}

#[test]
fn the_background_tells_of_a_lost_answer_and_of_its_end_and_a_dead_token_stops_at_once() {
    let (upstream, hook) = (losing(|| vec![Step::Reset]), Upstream::start(|_| json(204, "")));
    let relay = start(&upstream).run();
    aim(&relay, &hook);
    let id = add_account(&relay, now_ms() + 150_000)["id"].as_str().unwrap().to_owned();
    let deadline = std::time::Instant::now() + Duration::from_secs(90);
    while asked_for_tokens(&upstream) < 2 && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    let expected = |message: &str| format!("The tokens of account \"a\" were not refreshed: {message}");
    let reset = "Connection reset by token endpoint server";
    eventually("both are told", || {
        let messages: Vec<String> = told(&hook).into_iter().map(|(_, message)| message).collect();
        messages == [expected(reset), expected(LOST)]
    });
    let failed = |message: &str| ("refresh_failed".to_owned(), message.to_owned());
    assert_eq!(history(&relay, &id), [failed(LOST), failed(reset)]);
    let key = relay.add_key("k");
    assert_eq!(relay.message(&key, REQUEST).status, 200, "the old token lives");
    // By hand it is tried again, and refused again.
    let refreshed = relay.admin("POST", &format!("/admin/claude-accounts/{id}/refresh"), &Value::Null);
    assert_eq!((refreshed.status, refreshed.json()["message"].clone()), (400, value!(LOST)));
    assert_eq!((asked_for_tokens(&upstream), &account(&relay)["status"]), (3, &value!("active")));
    // Both tokens are refused: nothing is left to wait for.
    let revoking = Upstream::start(|request| match request.target.as_str() {
        "/token" => json(400, r#"{"error":"invalid_grant"}"#),
        _ => json(401, r#"{"type":"error","error":{"type":"authentication_error","message":"no"}}"#),
    });
    let relay = start(&revoking).run();
    add_account(&relay, now_ms() + 3_600_000);
    let key = relay.add_key("k");
    assert_ne!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(account(&relay)["status"], "error");
    assert_eq!(account(&relay)["errorMessage"], "The refresh token is no longer valid: sign in again");
}
