//! `GET …/v1/models`: relayed, remembered, bounded, and only what the key may use.

use crate::harness::client::Response;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, json};
use crate::harness::{Key, Relay, Upstream};
use serde_json::{Value, json as value};
use std::time::{Duration, Instant};

const LIST: &str = r#"{"data":[
    {"type":"model","id":"claude-opus-4-6","display_name":"Claude Opus 4.6","created_at":"2026-02-05T00:00:00Z","max_tokens":128000},
    {"type":"model","id":"claude-opus-4-5-20251101","display_name":"Claude Opus 4.5","created_at":"2025-11-01T00:00:00Z"},
    {"type":"model","id":"claude-new-9","display_name":"Claude New 9","created_at":"2026-11-01T00:00:00Z"}],
    "has_more":false,"first_id":"claude-opus-4-6","last_id":"claude-new-9"}"#;

fn get(relay: &Relay, key: &Key, target: &str) -> Response {
    relay.get(target, &[("x-api-key", &key.clear), ("anthropic-beta", "some-flag")])
}

fn ids(response: &Response) -> Vec<String> {
    assert_eq!(response.status, 200, "{}", response.text());
    let body = response.json();
    let ids: Vec<String> =
        body["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(body["first_id"].as_str(), ids.first().map(String::as_str));
    assert_eq!(body["last_id"].as_str(), ids.last().map(String::as_str));
    assert!(body["data"].as_array().unwrap().iter().all(|model| {
        model["type"] == "model" && model["display_name"].is_string() && model["created_at"].is_string()
    }));
    ids
}

#[test]
fn the_list_of_an_account_is_passed_on_under_all_prefixes_and_asked_for_once() {
    let upstream = Upstream::start(|_| json(200, LIST));
    let (relay, key) = Relay::with_upstream(&upstream);
    for prefix in ["/api", "/claude", ""] {
        let response = get(&relay, &key, &format!("{prefix}/v1/models?limit=1000"));
        assert_eq!(ids(&response), ["claude-opus-4-6", "claude-opus-4-5-20251101", "claude-new-9"]);
        assert_eq!(response.json()["data"][0]["max_tokens"], 128_000, "what the upstream says beside is kept");
        assert_eq!(response.json()["has_more"], false);
    }
    let received = upstream.received();
    assert_eq!(received.len(), 1, "remembered");
    assert_eq!(received[0].target, "/v1/models?limit=1000");
    assert_eq!(received[0].field("x-api-key"), Some("sk-ant-secret-of-first"));
    assert_eq!(received[0].field("anthropic-beta"), Some("some-flag"));
    assert_eq!(received[0].field("anthropic-version"), Some("2023-06-01"));
    // Pages are cut here.
    let page = get(&relay, &key, "/v1/models?limit=1&after_id=claude-opus-4-6");
    assert_eq!(ids(&page), ["claude-opus-4-5-20251101"]);
    assert_eq!(page.json()["has_more"], true);
    assert_eq!(ids(&get(&relay, &key, "/v1/models?before_id=claude-new-9&limit=1")), ["claude-opus-4-5-20251101"]);
    for bad in ["limit=0", "limit=1001", "limit=x", "after_id=nothing", "after_id=claude-new-9&before_id=claude-new-9"]
    {
        let refused = get(&relay, &key, &format!("/api/v1/models?{bad}"));
        assert_eq!(
            (refused.status, &refused.json()["error"]["type"]),
            (400, &value!("invalid_request_error")),
            "{bad}"
        );
    }
    // No line, no window, no permit.
    assert_eq!(relay.count("SELECT count(*) FROM ledger") + relay.count("SELECT count(*) FROM key_windows"), 0);
    let head =
        crate::harness::client::fetch(relay.address, "HEAD", "/api/v1/models", &[("x-api-key", &key.clear)], b"");
    assert_eq!(head.status, 200);
}

#[test]
fn one_model_is_found_by_each_of_its_names() {
    let upstream = Upstream::start(|_| json(200, LIST));
    let (relay, key) = Relay::with_upstream(&upstream);
    let found = get(&relay, &key, "/claude/v1/models/claude-new-9");
    assert_eq!((found.status, &found.json()["display_name"]), (200, &value!("Claude New 9")));
    let by_alias = get(&relay, &key, "/api/v1/models/claude-opus-4-5");
    assert_eq!((by_alias.status, &by_alias.json()["id"]), (200, &value!("claude-opus-4-5-20251101")));
    let missing = get(&relay, &key, "/v1/models/claude-nothing");
    let expected =
        value!({ "type": "error", "error": { "type": "not_found_error", "message": "model: claude-nothing" } });
    assert_eq!((missing.status, missing.json()), (404, expected));
}

#[test]
fn a_key_sees_only_what_it_may_use() {
    let upstream = Upstream::start(|_| json(200, LIST));
    let relay = Start::new().upstream(&upstream).run();
    relay.add_account(&value!({
        "name": "first", "kind": "api_key", "apiKey": "sk-1", "modelMapping": { "house-model": "claude-opus-4-6" },
    }));
    let denied = relay.add_key_with(&value!({
        "name": "denied", "enableModelRestriction": true, "restrictedModels": ["claude-opus-4-6", "claude-opus-4-5"],
    }));
    assert_eq!(ids(&get(&relay, &denied, "/v1/models")), ["claude-opus-4-5-20251101", "claude-new-9", "house-model"]);
    assert_eq!(get(&relay, &denied, "/v1/models/claude-opus-4-6").status, 404);
    assert_eq!(get(&relay, &denied, "/v1/models/claude-opus-4-5").status, 404, "the name is what is denied");
    // An allow list may name models in another way than the upstream does.
    let allowed = relay
        .add_key_with(&value!({ "name": "allowed", "allowedModels": ["claude-opus-4-5", "claude-new-9", "nothing"] }));
    assert_eq!(ids(&get(&relay, &allowed, "/v1/models")), ["claude-new-9", "claude-opus-4-5"]);
    assert_eq!(get(&relay, &allowed, "/v1/models/claude-opus-4-6").status, 404);
    assert_eq!(get(&relay, &allowed, "/v1/models/claude-opus-4-5").json()["id"], "claude-opus-4-5");
    // And without a key there is nothing to see.
    assert_eq!(relay.get("/v1/models", &[]).status, 401);
    assert_eq!(relay.get("/api/v1/models/x", &[("x-api-key", "cr_unknown-key")]).json()["error"], "Invalid API key");
}

#[test]
fn the_price_table_answers_where_no_account_does() {
    for (what, script) in [
        ("refuses", json(401, r#"{"type":"error"}"#)),
        ("talks nonsense", json(200, "<html>")),
        ("redirects", vec![Step::Send(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n".to_vec())]),
        (
            "is too large",
            vec![
                Step::Send(b"HTTP/1.1 200 X\r\nContent-Length: 2000000\r\n\r\n".to_vec()),
                Step::Send(vec![b' '; 2_000_000]),
            ],
        ),
        ("closes", vec![Step::Close]),
        ("hangs", vec![Step::Wait(Duration::from_secs(5)), Step::Close]),
    ] {
        let script = std::sync::Mutex::new(Some(script));
        let upstream = Upstream::start(move |_| script.lock().unwrap().take().unwrap_or_else(|| vec![Step::Close]));
        let (relay, key) = Relay::with_upstream(&upstream);
        let start = Instant::now();
        let found = ids(&get(&relay, &key, "/v1/models?limit=1000"));
        assert!(start.elapsed() < Duration::from_millis(2500), "{what}: {:?}", start.elapsed());
        assert!(found.iter().any(|id| id == "claude-opus-4-6") && found.iter().all(|id| id.starts_with("claude-")));
        // A failing account is left alone for a while, and nothing is held against it.
        ids(&get(&relay, &key, "/v1/models"));
        assert_eq!(upstream.received().len(), 1, "{what}");
        assert_eq!(relay.count("SELECT count(*) FROM account_rests"), 0, "{what}");
    }
    // Without any account, too.
    let relay = Start::new().run();
    let key = relay.add_key("k");
    assert!(ids(&get(&relay, &key, "/v1/models?limit=1000")).len() > 10);
    assert_eq!(ids(&get(&relay, &key, "/v1/models")).len(), 20);
    assert_eq!(get(&relay, &key, "/v1/models/claude-opus-4-5").json()["display_name"], "Claude Opus 4.5");
}

#[test]
fn the_second_account_answers_for_the_first() {
    let upstream = Upstream::start(|request| {
        if request.field("x-api-key") == Some("sk-bad") {
            vec![Step::Wait(Duration::from_secs(5))]
        } else {
            json(200, LIST)
        }
    });
    let relay = Start::new().upstream(&upstream).run();
    relay.add_api_key_account("bad", "sk-bad");
    relay.add_api_key_account("good", "sk-good");
    let key = relay.add_key("k");
    let start = Instant::now();
    assert_eq!(ids(&get(&relay, &key, "/v1/models")).len(), 3);
    assert!(start.elapsed() < Duration::from_millis(2500));
    // A key that is bound asks its own account, and no other.
    let accounts = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
    let id_of = |name: &str| {
        let found = accounts["data"].as_array().unwrap().iter().find(|account| account["name"] == name).unwrap();
        found["id"].as_str().unwrap().to_owned()
    };
    let bound = relay.add_key_with(&value!({ "name": "b", "claudeAccountId": id_of("bad") }));
    assert!(ids(&get(&relay, &bound, "/v1/models?limit=1000")).len() > 3, "the price table's");
}

#[test]
fn an_account_with_a_base_url_is_asked_there_with_its_own_credential() {
    let elsewhere = Upstream::start(|_| json(200, r#"{"data":[{"id":"glm-5","object":"model"}]}"#));
    let relay = Start::new().run();
    relay.add_account(&value!({
        "name": "x", "kind": "api_key", "apiKey": "sk-x", "baseUrl": format!("http://{}/anthropic", elsewhere.address),
    }));
    let key = relay.add_key("k");
    assert_eq!(ids(&get(&relay, &key, "/v1/models")), ["glm-5"]);
    assert_eq!(elsewhere.received()[0].target, "/anthropic/v1/models?limit=1000");
    assert!(elsewhere.received()[0].fields.iter().all(|(_, value)| !value.contains(&key.clear)));
}
