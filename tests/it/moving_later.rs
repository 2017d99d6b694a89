//! Moving in from a later version of the original: Console accounts, and what its keys have beside.

use crate::harness::redis::Redis;
use crate::harness::relay::Start;
use crate::harness::{Key, Relay, Upstream, upstream};
use crate::moving_in::{from_redis, migrate};
use crate::samples::message;
use serde_json::{Value, json};

/// Sealed by OpenSSL under scrypt of the tests' encryption key with the salt of Console accounts.
const CONSOLE_KEY: &str = "sk-third-party-0123456789";
const CONSOLE_KEY_SEALED: &str = "000102030405060708090a0b0c0d0e0f:\
     9c671b578b0443b6778b68d2fab666d8701d4511f34302ce01b58c0b50ce7ce9";

pub fn put(redis: &Redis, name: &str, fields: &[(&str, &str)]) {
    let mut command = vec!["HSET", name];
    command.extend(fields.iter().flat_map(|(field, value)| [*field, *value]));
    redis.run(&command);
}

/// A key in the clear, which is hashed on its way as the original's own import does.
fn put_key(redis: &Redis, id: &str, fields: &[(&str, &str)]) -> Key {
    let clear = format!("cr_{id:0>64}");
    let common = [("id", id), ("name", id), ("apiKey", clear.as_str()), ("isActive", "true")];
    put(redis, &format!("apikey:{id}"), &common);
    put(redis, &format!("apikey:{id}"), fields);
    Key { id: id.to_owned(), clear }
}

pub fn of<'a>(list: &'a [Value], id: &str) -> &'a Value {
    list.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("{id} is not there"))
}

pub fn list(relay: &Relay, target: &str) -> Vec<Value> {
    relay.admin("GET", target, &Value::Null).json()["data"].as_array().unwrap().clone()
}

pub fn notes(state: &Value) -> String {
    state["report"]["notes"].as_array().unwrap().iter().map(|note| format!("{}\n", note.as_str().unwrap())).collect()
}

#[test]
fn console_accounts_come_over_with_their_key_address_models_and_limits() {
    let service = Upstream::start(|_| upstream::json(200, &message("glm-5", 100, 20)));
    let relay = Start::new().run();
    let redis = Redis::start();
    put(
        &redis,
        "claude_console_account:c1",
        &[
            ("id", "c1"),
            ("platform", "claude-console"),
            ("name", "another service"),
            ("description", "for the weekend"),
            ("apiUrl", &format!("{}/v1/messages", service.url())),
            ("apiKey", CONSOLE_KEY_SEALED),
            ("priority", "20"),
            ("supportedModels", r#"{"claude-opus-4-6":"glm-5","claude-sonnet-4-5":"claude-sonnet-4-5"}"#),
            ("userAgent", "claude-cli/1.0.69 (external, cli)"),
            ("isActive", "false"),
            ("schedulable", "false"),
            ("quotaAutoStopped", "true"),
            ("status", "quota_exceeded"),
            ("errorMessage", "Daily quota exceeded: $10.01 / $10.00"),
            ("accountType", "dedicated"),
            ("dailyQuota", "10"),
            ("maxConcurrentTasks", "3"),
            ("subscriptionExpiresAt", "2099-12-31T00:00:00.000Z"),
            ("createdAt", "2026-01-05T06:07:08.000Z"),
            ("proxy", ""),
        ],
    );
    put(&redis, "claude_console_account:bad", &[("id", "bad"), ("name", "bad"), ("apiUrl", "here"), ("apiKey", "k")]);
    redis.run(&["SADD", "shared_claude_console_accounts", "c1"]);
    let key = put_key(&redis, "bound", &[("claudeAccountId", ""), ("claudeConsoleAccountId", "c1")]);

    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(state["report"]["accounts"]["written"], 1, "{state}");
    assert_eq!(state["report"]["accounts"]["verified"], 1, "{state}");
    assert_eq!(state["report"]["accounts"]["skipped"], 1, "{state}");
    assert_eq!(state["report"]["encryptionKeyProven"], true, "{state}");
    assert!(notes(&state).contains("asked only for the models of a list"), "{state}");
    let accounts = list(&relay, "/admin/claude-accounts");
    let account = of(&accounts, "c1");
    for (member, expected) in [
        ("name", json!("another service")),
        ("description", json!("for the weekend")),
        ("kind", json!("api_key")),
        ("accountType", json!("dedicated")),
        ("isActive", json!(true)),
        ("schedulable", json!(true)),
        ("status", json!("active")),
        ("errorMessage", json!("")),
        ("priority", json!(20)),
        ("baseUrl", json!(service.url())),
        ("modelMapping", json!({ "claude-opus-4-6": "glm-5" })),
        ("maxConcurrency", json!(3)),
        ("dailyCostLimit", json!(10)),
        ("createdAt", json!("2026-01-05T06:07:08.000Z")),
    ] {
        assert_eq!(account[member], expected, "{member} of {account}");
    }
    assert!(account["expiresOn"].as_str().unwrap().starts_with("2099-12-31T00:00:00"), "{account}");
    assert!(!account.to_string().contains(CONSOLE_KEY));

    let answer = relay
        .message(&key, br#"{"model":"claude-opus-4-6","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let asked = &service.received()[0];
    assert_eq!(asked.json()["model"], "glm-5");
    assert_eq!(asked.field("x-api-key"), Some(CONSOLE_KEY));
    assert_eq!(asked.field("authorization"), Some(format!("Bearer {CONSOLE_KEY}").as_str()));
    assert!(asked.target.starts_with("/v1/messages"), "{}", asked.target);

    let again = migrate(&relay, &from_redis(&redis));
    assert_eq!(again["report"]["accounts"]["written"], 0, "{again}");
    assert_eq!(list(&relay, "/admin/claude-accounts").len(), 1);
}

#[test]
fn a_console_account_proves_the_encryption_key_too() {
    let relay = Start::new().run();
    let redis = Redis::start();
    put(
        &redis,
        "claude_console_account:c1",
        &[("id", "c1"), ("name", "c"), ("apiUrl", "https://c.example"), ("apiKey", CONSOLE_KEY_SEALED)],
    );
    let mut body = from_redis(&redis);
    body["encryptionKey"] = json!("an encryption key that is not this one");
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "failed", "{state}");
    assert!(state["error"].as_str().unwrap().contains("encryption key is not the one"), "{state}");
    assert_eq!(list(&relay, "/admin/claude-accounts").len(), 0);
}

#[test]
fn what_later_keys_have_beside_is_kept_where_there_is_a_place_and_told_where_there_is_none() {
    let relay = Start::new().run();
    let redis = Redis::start();
    put_key(
        &redis,
        "rich",
        &[
            ("tags", r#"["team a","home"]"#),
            ("dailyCostLimit", "2.5"),
            ("weeklyOpusCostLimit", "30"),
            ("totalCostLimit", "100"),
            ("rateLimitCost", "0.75"),
            ("rateLimitWindow", "60"),
            ("enableClientRestriction", "true"),
            ("allowedClients", r#"["claude_code"]"#),
            ("permissions", r#"["claude","gemini"]"#),
        ],
    );
    put_key(&redis, "waiting", &[("expirationMode", "activation"), ("activationDays", "30"), ("isActivated", "false")]);
    let hours = [("expirationMode", "activation"), ("activationUnit", "hours"), ("activationDays", "25")];
    put_key(&redis, "hours", &hours);
    put_key(
        &redis,
        "begun",
        &[
            ("expirationMode", "activation"),
            ("activationDays", "30"),
            ("isActivated", "true"),
            ("activatedAt", "2026-11-01T00:00:00.000Z"),
            ("expiresAt", "2099-01-01T00:00:00.000Z"),
        ],
    );
    let foreign = put_key(&redis, "foreign", &[("permissions", r#"["gemini"]"#)]);
    let old_word = put_key(&redis, "old-word", &[("permissions", "all")]);
    let listed = put_key(&redis, "listed", &[("permissions", "openai, claude")]);
    put_key(&redis, "grouped", &[("claudeAccountId", "group:7")]);

    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(state["report"]["apiKeys"]["written"], 8, "{state}");
    let keys = list(&relay, "/admin/api-keys");
    let rich = of(&keys, "rich");
    for (member, expected) in [
        ("tags", json!(["team a", "home"])),
        ("dailyCostLimit", json!(2.5)),
        ("weeklyCostLimit", json!(30)),
        ("totalCostLimit", json!(100)),
        ("rateLimitCost", json!(0.75)),
        ("rateLimitWindow", json!(60)),
        ("isActive", json!(true)),
    ] {
        assert_eq!(rich[member], expected, "{member} of {rich}");
    }
    let life = |id: &str| {
        let key = of(&keys, id);
        (key["expirationMode"].clone(), key["activationDays"].clone(), key["expiresAt"].clone())
    };
    assert_eq!(life("waiting"), (json!("activation"), json!(30), json!("")));
    assert_eq!(life("hours"), (json!("activation"), json!(2), json!("")));
    assert_eq!(life("begun"), (json!("fixed"), json!(30), json!("2099-01-01T00:00:00.000Z")));
    assert_eq!(of(&keys, "grouped")["claudeAccountId"], "");
    let status = |key: &Key| relay.get("/api/v1/key-info", &[("x-api-key", &key.clear)]).status;
    assert_eq!((status(&foreign), status(&old_word), status(&listed)), (401, 200, 200));
    let notes = notes(&state);
    for told in [
        "1 key: their weekly limit",
        "1 key: only certain clients",
        "1 key: their life from the first use was counted in hours",
        "1 key: they had no right to Claude",
        "1 key: they were bound to a group",
    ] {
        assert!(notes.contains(told), "{told} is not in {notes}");
    }
}
