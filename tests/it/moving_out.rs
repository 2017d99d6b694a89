//! The way back: the export is read here by a reader of its own, written from the description of the original's format.

use crate::harness::redis::{Redis, original_json};
use crate::harness::relay::Start;
use crate::harness::{Key, Relay, Upstream, upstream};
use crate::moving_in::{from_redis, migrate};
use crate::samples::message;
use claude_relay::model::secret::{Cipher, hash_api_key};
use rusqlite::types::Value as Sql;
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
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data {
    api_keys: Vec<ApiKey>,
    claude_accounts: Vec<Record>,
    #[serde(default)]
    claude_console_accounts: Vec<Record>,
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
    let Metadata { version, sanitized, decrypted, types, keys_left_out, export_date } = &export.metadata;
    assert_eq!(
        (version.as_str(), *sanitized, *decrypted, types.as_slice()),
        ("2.0", false, false, &["all".to_owned()][..])
    );
    assert_eq!(*keys_left_out, 1, "a key made here would not work there");
    assert_eq!(export.data.claude_console_accounts.len(), 1);
    assert!(export_date.ends_with('Z') && export.data.gemini_accounts.is_empty() && export.data.admins.is_empty());

    let recorded: Export = serde_json::from_value({
        let mut recorded = original_json("enhanced-decrypted.json.gz");
        let metadata = recorded["metadata"].as_object_mut().unwrap();
        metadata.insert("keysLeftOut".to_owned(), json!(0));
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
    relay.add_api_key_account("console", "sk-third-party-1");
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
    assert!(!text.contains("sk-third-party"));
    assert_eq!(export.data.claude_console_accounts[0]["apiKey"], "[REDACTED]");
    assert_eq!(relay.admin("POST", "/admin/export", &json!({})).status, 400);
    assert_eq!(relay.get("/admin/export", &[]).status, 401);
}

/// The columns of every row of a table by its identifier, secrets open, without what is of this database alone.
fn rows(relay: &Relay, table: &str) -> BTreeMap<String, BTreeMap<String, Sql>> {
    let text = |value: &Sql| match value {
        Sql::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let names = relay.query(&format!("SELECT name FROM pragma_table_info('{table}')"));
    let cipher = Cipher::new(SHARED_KEY).unwrap();
    let mut found = BTreeMap::new();
    for row in relay.query(&format!("SELECT * FROM {table}")) {
        let mut columns: BTreeMap<String, Sql> = names.iter().map(|name| text(&name[0])).zip(row).collect();
        for name in ["email", "password", "access_token", "refresh_token", "api_key", "proxy"] {
            columns
                .entry(name.to_owned())
                .and_modify(|sealed| *sealed = Sql::Text(cipher.open(&text(sealed)).unwrap()));
        }
        columns.remove("seq");
        found.insert(text(&columns["id"]), columns);
    }
    found
}

const SHARED_KEY: &str = "an encryption key for both of them";

#[test]
fn everything_that_an_admin_set_comes_back() {
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-20250514", 1000, 200)));
    let start = || Start::new().with("ENCRYPTION_KEY", SHARED_KEY).with("SYSTEM_TIMEZONE", "Asia/Kolkata");
    let relay = start().upstream(&upstream).run();
    let id = |account: Value| account["id"].as_str().unwrap().to_owned();
    let oauth = id(relay.add_account(&json!({
        "name": "subscription", "description": "of the family", "email": "a@example.com", "password": "5f4dcc3b5aa765d6",
        "claudeAiOauth": { "accessToken": "sk-ant-oat01-a", "refreshToken": "sk-ant-ort01-a",
            "expiresAt": 4_070_908_800_000_i64, "scopes": ["user:inference", "user:profile"] },
        "accountType": "dedicated", "priority": 7, "schedulable": false, "maxConcurrency": 3, "dailyCostLimit": 12.345678,
        "expiresOn": "2099-06-30T12:00:00Z", "modelMapping": { "claude-a": "claude-b" },
        "proxy": { "type": "socks5h", "host": "proxy.example", "port": 1080, "username": "u", "password": "p@ss" },
    })));
    relay.add_account(&json!({ "name": "no refresh", "claudeAiOauth": { "accessToken": "sk-ant-oat01-b" } }));
    let setup = id(relay.add_account(&json!({ "name": "setup", "kind": "setup_token",
        "claudeAiOauth": { "accessToken": "sk-ant-oat01-c", "scopes": ["user:inference"] }, "isActive": false })));
    let console = id(relay.add_account(&json!({
        "name": "service", "description": "another vendor's", "kind": "api_key", "apiKey": "sk-service-1",
        "baseUrl": "https://service.example/api", "modelMapping": { "claude-opus-4-6": "other-1", "x": "x" },
        "accountType": "dedicated", "priority": 90, "schedulable": false, "maxConcurrency": 9, "dailyCostLimit": 0.000001,
        "expiresOn": "2098-01-01T00:00:00Z", "email": "b@example.com",
        "proxy": { "type": "http", "host": "10.0.0.1", "port": 8080, "username": null, "password": null },
    })));
    let plain = relay.add_api_key_account("first", "sk-ant-api03-first");
    relay.add_key_with(&json!({
        "name": "all", "description": "everything", "tokenLimit": 5000, "concurrencyLimit": 2, "rateLimitWindow": 60,
        "rateLimitRequests": 30, "rateLimitCost": 0.75, "dailyCostLimit": 1.5, "weeklyCostLimit": 9.25,
        "monthlyCostLimit": 20.1, "totalCostLimit": 999_999.123457_f64, "isActive": false, "claudeAccountId": oauth,
        "accountFallback": true, "enableModelRestriction": true, "restrictedModels": ["claude-x"],
        "allowedModels": ["claude-a", "claude-sonnet-4-20250514"], "tags": ["home", "team a"],
        "expiresAt": "2099-12-31T08:00:00+08:00",
    }));
    relay.add_key_with(&json!({ "name": "bound", "claudeAccountId": console }));
    let begun = relay.add_key_with(&json!({ "name": "begun", "expirationMode": "activation", "activationDays": 30 }));
    relay.add_key_with(&json!({ "name": "waiting", "expirationMode": "activation", "activationDays": 5 }));
    let body = br#"{"model":"claude-sonnet-4-20250514","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(relay.message(&begun, body).status, 200);

    let (export, text) = full(&relay, SHARED_KEY);
    let metadata: Value = serde_json::from_str::<Value>(&text).unwrap()["metadata"].clone();
    assert_eq!((&metadata["timezoneOffset"], &metadata["timezone"]), (&json!(5), &json!("Asia/Kolkata")));
    assert!(metadata["timezoneNote"].is_string());
    // What the original needs to use them.
    let of = |list: &[Record], id: &str| list.iter().find(|record| record["id"] == id).unwrap().clone();
    let token = of(&export.data.claude_accounts, &setup);
    let year_on = token["expiresAt"].parse::<i64>().unwrap() - 365 * 86_400_000;
    assert!((year_on - claude_relay::model::time::now_ms()).abs() < 60_000, "{token:?}");
    let other = of(&export.data.claude_console_accounts, &console);
    let sealed_as_there = Cipher::of_console_accounts(SHARED_KEY).unwrap();
    assert_eq!(sealed_as_there.open(&other["apiKey"]).unwrap(), "sk-service-1");
    assert_eq!(other["apiUrl"], "https://service.example/api");
    assert_eq!(of(&export.data.claude_console_accounts, &plain)["apiUrl"], "https://api.anthropic.com");
    let ends: Vec<bool> = ["begun", "waiting"]
        .iter()
        .map(|name| {
            let key = export.data.api_keys.iter().find(|key| key.record["name"] == *name).unwrap();
            key.record["expiresAt"].is_empty()
        })
        .collect();
    assert_eq!(ends, [false, true]);

    let fresh = start().upstream(&upstream).run();
    let state = migrate(&fresh, &json!({ "source": "json", "export": text, "encryptionKey": SHARED_KEY }));
    assert_eq!((&state["state"], &state["report"]["notes"]), (&json!("done"), &json!([])), "{state}");
    for table in ["api_keys", "accounts"] {
        let (there, here) = (rows(&relay, table), rows(&fresh, table));
        assert_eq!(there.len(), here.len());
        for (id, columns) in &there {
            for (name, value) in columns {
                // It says when an account's record changed, and does not come along.
                if table == "accounts" && name == "updated_at_ms" {
                    continue;
                }
                assert_eq!(&here[id][name], value, "{name} of {:?}", columns["name"]);
            }
        }
    }
    let hours = "SELECT bucket, requests, input_tokens FROM rollups WHERE scope = 0 AND span = 3";
    assert_eq!(fresh.query(hours), relay.query(hours), "half an hour is no hour");
    assert_eq!(fresh.message(&begun, body).status, 200);
}
