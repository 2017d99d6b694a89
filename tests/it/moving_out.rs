//! The way back: the export is read here by a reader of its own, written from the description of the original's format.

use crate::harness::redis::{Redis, original_json};
use crate::harness::relay::Start;
use crate::harness::{Key, Relay, Upstream, upstream};
use crate::moving_in::{from_redis, migrate};
use crate::samples::message;
use claude_relay::model::secret::{Cipher, hash_api_key};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ORIGINAL_KEY: &str = "TestEncKeyFixtureA0123456789abcd";
type Record = BTreeMap<String, String>;

/// The original's format 2.0: in a raw record every value is text.
#[derive(Deserialize)]
struct Export {
    metadata: Metadata,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    version: String,
    sanitized: bool,
    decrypted: bool,
    export_date: String,
    types: Vec<String>,
    keys_left_out: u64,
    accounts_left_out: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    api_keys: Vec<ApiKey>,
    claude_accounts: Vec<Record>,
    gemini_accounts: Vec<Value>,
    admins: Vec<Value>,
    global_model_stats: Global,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ApiKey {
    usage_stats: Stats,
    #[serde(flatten)]
    record: Record,
}

#[derive(Deserialize)]
struct Stats {
    total: Record,
    daily: BTreeMap<String, Record>,
    monthly: BTreeMap<String, Record>,
    hourly: BTreeMap<String, Record>,
    models: BTreeMap<String, ByModel>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct ByModel {
    daily: BTreeMap<String, Record>,
    monthly: BTreeMap<String, Record>,
}

#[derive(Deserialize)]
struct Global {
    daily: BTreeMap<String, BTreeMap<String, Record>>,
    monthly: BTreeMap<String, BTreeMap<String, Record>>,
    hourly: BTreeMap<String, BTreeMap<String, Record>>,
}

fn full(relay: &Relay, key: &str) -> (Export, String) {
    let response = relay.admin("POST", "/admin/export", &json!({ "encryptionKey": key }));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.field("content-disposition").unwrap().starts_with("attachment; filename=\"claude-relay-export-"));
    (serde_json::from_slice(&response.body).unwrap(), response.text())
}

#[test]
fn a_full_export_has_every_key_hash_account_and_sum_and_comes_in_again() {
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-20250514", 1000, 200)));
    let relay = Start::new().upstream(&upstream).run();
    let redis = Redis::with_original();
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    relay.add_api_key_account("console", "sk-ant-console");
    let own = relay.add_key("made here");
    let (export, _) = full(&relay, ORIGINAL_KEY);
    let Metadata { version, sanitized, decrypted, types, keys_left_out, accounts_left_out, export_date } =
        &export.metadata;
    assert_eq!(
        (version.as_str(), *sanitized, *decrypted, types.as_slice()),
        ("2.0", false, false, &["all".to_owned()][..])
    );
    assert_eq!((*keys_left_out, *accounts_left_out), (1, 1), "a key made here would not work there");
    assert!(export_date.ends_with('Z') && export.data.gemini_accounts.is_empty() && export.data.admins.is_empty());

    let recorded: Export = serde_json::from_value({
        let mut recorded = original_json("enhanced-decrypted.json.gz");
        let metadata = recorded["metadata"].as_object_mut().unwrap();
        metadata.extend([("keysLeftOut".to_owned(), json!(0)), ("accountsLeftOut".to_owned(), json!(0))]);
        for account in recorded["data"]["claudeAccounts"].as_array_mut().unwrap() {
            account["claudeAiOauth"] = json!(account["claudeAiOauth"].to_string());
        }
        recorded
    })
    .unwrap();
    assert_eq!(export.data.api_keys.len(), 17);
    for key in &export.data.api_keys {
        let before = recorded.data.api_keys.iter().find(|known| known.record["id"] == key.record["id"]).unwrap();
        for (name, value) in &before.record {
            // A field of the first release that means nothing.
            if name != "requestLimit" {
                assert_eq!(key.record.get(name), Some(value), "{name} of {}", key.record["name"]);
            }
        }
        let (now, then) = (&key.usage_stats, &before.usage_stats);
        assert_eq!((&now.total, &now.daily, &now.monthly), (&then.total, &then.daily, &then.monthly));
        assert_eq!(now.models, then.models, "{}", key.record["name"]);
    }
    let clear = original_json("expectations.json.gz");
    let cipher = Cipher::new(ORIGINAL_KEY).unwrap();
    assert_eq!(export.data.claude_accounts.len(), 8);
    for account in &export.data.claude_accounts {
        let expected = &clear["accounts"][&account["id"]];
        for name in ["email", "password", "accessToken", "refreshToken"] {
            let sealed = &account[name];
            assert!(sealed.is_empty() || sealed.split_once(':').is_some_and(|(iv, _)| iv.len() == 32), "{sealed}");
            assert_eq!(cipher.open(sealed).unwrap(), expected["plaintext"][name].as_str().unwrap_or_default());
        }
        let before = recorded.data.claude_accounts.iter().find(|known| known["id"] == account["id"]).unwrap();
        for name in ["name", "description", "isActive", "scopes", "expiresAt", "createdAt", "status", "errorMessage"] {
            assert_eq!(account[name], before[name], "{name}");
        }
        let proxy: Value = serde_json::from_str(&account["proxy"]).unwrap_or_default();
        assert_eq!(proxy["password"], expected["proxy"]["password"]);
    }
    assert_eq!(export.data.global_model_stats.monthly, recorded.data.global_model_stats.monthly);
    assert_eq!(export.data.global_model_stats.daily, recorded.data.global_model_stats.daily);

    // What is used here goes back with the rest.
    let expected = &clear["apiKeys"]["default"];
    let moved =
        Key { id: expected["id"].as_str().unwrap().to_owned(), clear: expected["apiKey"].as_str().unwrap().to_owned() };
    let body = br#"{"model":"claude-sonnet-4-20250514","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    let requests = |export: &Export| -> i64 {
        let key = export.data.api_keys.iter().find(|key| key.record["id"] == moved.id).unwrap();
        key.usage_stats.total["totalRequests"].parse().unwrap()
    };
    let before = requests(&export);
    // The console's account alone has nothing that ends.
    let unbound = json!({ "claudeAccountId": null });
    assert_eq!(relay.admin("PUT", &format!("/admin/api-keys/{}", moved.id), &unbound).status, 200);
    assert_eq!(relay.message(&moved, body).status, 200);
    let (export, text) = full(&relay, ORIGINAL_KEY);
    assert_eq!(requests(&export), before + 1);
    let of_hours =
        |export: &Export| -> usize { export.data.api_keys.iter().map(|key| key.usage_stats.hourly.len()).sum() };
    assert!(of_hours(&export) > 0 && !export.data.global_model_stats.hourly.is_empty());

    // The relay reads its own export as it reads the original's.
    let other = Start::new().run();
    let body = json!({ "source": "json", "export": text, "encryptionKey": ORIGINAL_KEY });
    let state = migrate(&other, &body);
    assert_eq!((&state["state"], &state["report"]["encryptionKeyProven"]), (&json!("done"), &json!(true)), "{state}");
    assert_eq!(other.get("/api/v1/key-info", &[("x-api-key", &moved.clear)]).status, 200);
    assert_eq!(other.get("/api/v1/key-info", &[("x-api-key", &own.clear)]).status, 401);
}

#[test]
fn keys_made_here_go_to_an_installation_with_the_same_encryption_key() {
    let relay = Start::new().with("ENCRYPTION_KEY", "shared with the original").run();
    let key = relay.add_key("made here");
    let (export, _) = full(&relay, "shared with the original");
    assert_eq!(export.metadata.keys_left_out, 0);
    assert_eq!(export.data.api_keys[0].record["apiKey"], hash_api_key(&key.clear, "shared with the original"));
    assert!(export.data.api_keys[0].usage_stats.total.is_empty());
}

#[test]
fn an_export_without_a_key_for_its_secrets_has_none() {
    let relay = Start::new().run();
    let redis = Redis::with_original();
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    let response = relay.admin("GET", "/admin/export", &Value::Null);
    assert_eq!(response.status, 200);
    let export: Export = serde_json::from_slice(&response.body).unwrap();
    assert!(export.metadata.sanitized);
    assert_eq!((export.data.api_keys.len(), export.data.claude_accounts.len()), (17, 8));
    let text = response.text();
    let clear = original_json("expectations.json.gz");
    for key in clear["apiKeys"].as_object().unwrap().values() {
        assert!(!text.contains(key["sha256"].as_str().unwrap()));
    }
    for secret in ["sk-ant-", "sockpass123", "httppass-456", "@example.com", "hunter2"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(relay.admin("POST", "/admin/export", &json!({})).status, 400);
    assert_eq!(relay.get("/admin/export", &[]).status, 401);
}
