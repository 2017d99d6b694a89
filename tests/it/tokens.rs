//! Access tokens: refreshed once, kept before they are used.

use crate::harness::relay::Start;
use crate::harness::upstream::{Step, json};
use crate::harness::{Upstream, eventually};
use crate::samples::{REQUEST, message};
use serde_json::json as value;
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

/// A token endpoint whose refresh tokens work once, and an API that takes only the newest access token.
fn rotating(delay: Duration) -> Upstream {
    let spent = Mutex::new(HashSet::new());
    Upstream::start(move |request| {
        if request.target != "/token" {
            return json(200, &message("m", 1, 1));
        }
        let body = request.json();
        assert_eq!(
            (&body["grant_type"], &body["client_id"]),
            (&"refresh_token".into(), &"9d1c250a-e61b-44d9-88ed-5944d1962f5e".into())
        );
        let token = body["refresh_token"].as_str().unwrap().to_owned();
        if !spent.lock().unwrap().insert(token.clone()) || token == "revoked" {
            return json(400, r#"{"error":"invalid_grant","error_description":"spent"}"#);
        }
        if token == "trouble" {
            return json(503, "oops");
        }
        let mut steps = vec![Step::Wait(delay)];
        steps.extend(json(
            200,
            &format!(r#"{{"access_token":"access-of-{token}","refresh_token":"{token}+","expires_in":3600}}"#),
        ));
        steps
    })
}

fn start(upstream: &Upstream) -> Start {
    Start::new().upstream(upstream).with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address))
}

fn account(refresh: &str, expires_at: i64) -> serde_json::Value {
    value!({ "name": refresh, "claudeAiOauth": { "accessToken": "old", "refreshToken": refresh, "expiresAt": expires_at, "scopes": ["user:inference"] } })
}

#[test]
fn many_requests_that_find_one_expired_token_refresh_it_once() {
    let upstream = rotating(Duration::from_millis(200));
    let relay = start(&upstream).with("RELAY_WORKERS", "64").run();
    relay.add_account(&account("first", 1));
    let key = relay.add_key("k");
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert_eq!(relay.message(&key, REQUEST).status, 200));
        }
    });
    let received = upstream.received();
    assert_eq!(received.iter().filter(|request| request.target == "/token").count(), 1);
    for request in received.iter().filter(|request| request.target != "/token") {
        assert_eq!(request.field("authorization"), Some("Bearer access-of-first"));
        assert_eq!(request.field("anthropic-beta"), Some("oauth-2025-04-20"));
    }
    let again = relay.kill_and_restart(start(&upstream));
    assert_eq!(again.message(&key, REQUEST).status, 200);
    assert_eq!(
        upstream.received().iter().filter(|request| request.target == "/token").count(),
        1,
        "the new pair was kept"
    );
}

#[test]
fn every_refresh_stands_in_the_accounts_history() {
    let upstream = rotating(Duration::ZERO);
    let relay = start(&upstream).run();
    let history = |id: &serde_json::Value| -> Vec<String> {
        let path = format!("/admin/claude-accounts/{}/events", id.as_str().unwrap());
        let events = relay.admin("GET", &path, &serde_json::Value::Null).json()["data"].clone();
        let events = events.get("events").cloned().unwrap_or(events);
        events.as_array().unwrap().iter().rev().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
    };
    // Nobody waits for these lines.
    let shows = |id: &serde_json::Value, expected: &[&str]| {
        eventually(&format!("the history is {expected:?}"), || history(id) == expected);
    };
    let refresh = |id: &serde_json::Value| {
        let path = format!("/admin/claude-accounts/{}/refresh", id.as_str().unwrap());
        relay.admin("POST", &path, &serde_json::Value::Null).status
    };
    let made = relay.add_account(&account("first", 1));
    let key = relay.add_key_with(&value!({ "name": "k", "claudeAccountId": made["id"] }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(refresh(&made["id"]), 200);
    shows(&made["id"], &["refresh", "refresh"]);
    let made = relay.add_account(&account("trouble", claude_relay::model::time::now_ms() + 600_000));
    assert_eq!([refresh(&made["id"]), refresh(&made["id"])], [502, 400], "the endpoint had spent it");
    shows(&made["id"], &["refresh_failed", "refresh_failed"]);
    let made = relay.add_account(&account("revoked", claude_relay::model::time::now_ms() + 600_000));
    assert_eq!(refresh(&made["id"]), 400);
    shows(&made["id"], &["refresh_failed"]);
}

#[test]
fn a_revoked_sign_in_is_an_error_of_the_account_and_trouble_is_not() {
    let upstream = rotating(Duration::ZERO);
    let relay = start(&upstream).run();
    let status = |name: &str| {
        let list = relay.admin("GET", "/admin/claude-accounts", &serde_json::Value::Null).json();
        let found = list["data"].as_array().unwrap().iter().find(|account| account["name"] == name).unwrap().clone();
        found["status"].as_str().unwrap().to_owned()
    };
    for (name, http, expected) in [("revoked", 503, "error"), ("trouble", 502, "active")] {
        let made = relay.add_account(&account(name, 1));
        let key = relay.add_key_with(&value!({ "name": name, "claudeAccountId": made["id"] }));
        assert_eq!(relay.message(&key, REQUEST).status, http, "{name}");
        assert_eq!(status(name), expected);
    }
    // While the old token lives, trouble with its refresh costs nothing.
    let soon = claude_relay::model::time::now_ms() + 30_000;
    let made = relay.add_account(&value!({ "name": "living", "claudeAiOauth": { "accessToken": "old", "refreshToken": "trouble", "expiresAt": soon } }));
    let key = relay.add_key_with(&value!({ "name": "living", "claudeAccountId": made["id"] }));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(upstream.received().last().unwrap().field("authorization"), Some("Bearer old"));
}
