//! Moving in from the original: from a real Redis with its recorded database, and from its three exports.

use crate::harness::redis::{Redis, original, original_json};
use crate::harness::relay::Start;
use crate::harness::{Relay, Upstream, eventually, upstream};
use crate::samples::message;
use claude_relay::model::secret::Cipher;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

const ORIGINAL_KEY: &str = "TestEncKeyFixtureA0123456789abcd";
const OWN_KEY: &str = "the relay has a key of its own here";

fn start() -> Relay {
    Start::new().with("ENCRYPTION_KEY", OWN_KEY).run()
}

/// Begins a migration and waits for its end.
pub fn migrate(relay: &Relay, body: &Value) -> Value {
    let response = relay.admin("POST", "/admin/migrate", body);
    assert_eq!(response.status, 200, "{}", response.text());
    ended(relay, response.json()["data"]["id"].as_str().unwrap())
}

pub fn ended(relay: &Relay, id: &str) -> Value {
    let mut state = Value::Null;
    eventually("the migration ends", || {
        state = relay.admin("GET", &format!("/admin/migrate/{id}"), &Value::Null).json()["data"].clone();
        state["state"] != "running"
    });
    state
}

pub fn from_redis(redis: &Redis) -> Value {
    json!({ "source": "redis", "url": redis.url(), "encryptionKey": ORIGINAL_KEY })
}

pub fn from_export(name: &str) -> Value {
    json!({ "source": "json", "export": original_json(name), "encryptionKey": ORIGINAL_KEY })
}

/// Everything in the database that a migration may change.
fn content(relay: &Relay) -> BTreeMap<&'static str, Vec<Vec<Sql>>> {
    let tables =
        ["accounts", "admins", "api_keys", "imported_hashes", "imported_usage", "ledger", "origins", "rollups"];
    tables.into_iter().map(|table| (table, relay.query(&format!("SELECT * FROM {table}")))).collect()
}

/// A report's counts: read, written, skipped, verified.
fn counts(state: &Value, kind: &str) -> [i64; 4] {
    ["read", "written", "skipped", "verified"].map(|count| state["report"][kind][count].as_i64().unwrap())
}

fn keys_of(relay: &Relay) -> BTreeMap<String, Value> {
    let list = relay.admin("GET", "/admin/api-keys", &Value::Null).json();
    list["data"].as_array().unwrap().iter().map(|key| (key["id"].as_str().unwrap().to_owned(), key.clone())).collect()
}

/// Every key of the original authenticates, or is refused for its own reason; what it has used is what it had used.
fn assert_keys(relay: &Relay) {
    let expected = original_json("expectations.json.gz");
    for (reference, key) in expected["apiKeys"].as_object().unwrap() {
        let clear = key["apiKey"].as_str().unwrap();
        let response = relay.get("/api/v1/key-info", &[("x-api-key", clear)]);
        let wanted = match reference.as_str() {
            "disabled" => (401, Some("API key is disabled")),
            "expired" | "cleaned" if key["present"] == true => (401, Some("API key has expired")),
            _ if key["present"] == true => (200, None),
            _ => (401, Some("API key not found")),
        };
        let found = response.json();
        assert_eq!((response.status, found["message"].as_str()), wanted, "{reference}");
        if response.status == 200 {
            assert_eq!(found["keyInfo"]["id"], key["id"], "{reference}");
        }
    }
    let found = keys_of(relay);
    let recorded = original_json("admin-api/api-keys.json");
    let recorded = recorded["data"].as_array().unwrap();
    assert_eq!(found.len(), recorded.len());
    for key in recorded {
        let here = &found[key["id"].as_str().unwrap()];
        for (member, value) in key.as_object().unwrap() {
            match member.as_str() {
                // It was being used when the list was read.
                "currentConcurrency" => {}
                // A field of the first release that means nothing.
                "requestLimit" => {}
                // The relay's own sums have a cost beside.
                "usage" => {
                    for (name, count) in value["total"].as_object().unwrap() {
                        assert_eq!(&here["usage"]["total"][name], count, "{} {name}", key["name"]);
                    }
                }
                _ => assert_eq!(&here[member], value, "{} {member}", key["name"]),
            }
        }
    }
}

/// Every secret is the expected one, sealed under the relay's own key.
fn assert_accounts(relay: &Relay) {
    let own = Cipher::new(OWN_KEY).unwrap();
    let expected = original_json("expectations.json.gz");
    let rows = relay.query(
        "SELECT id, email, password, access_token, refresh_token, proxy, name, is_active, account_type, status,
             error_message, coalesce(expires_at_ms, ''), scopes FROM accounts",
    );
    assert_eq!(rows.len(), expected["accounts"].as_object().unwrap().len());
    for row in rows {
        let text = |column: usize| match &row[column] {
            Sql::Text(text) => text.clone(),
            Sql::Integer(number) => number.to_string(),
            other => panic!("{other:?}"),
        };
        let account = &expected["accounts"][text(0)];
        for (column, name) in [(1, "email"), (2, "password"), (3, "accessToken"), (4, "refreshToken")] {
            let sealed = text(column);
            assert!(sealed.is_empty() || sealed.starts_with("v2:"));
            assert_eq!(own.open(&sealed).unwrap(), account["plaintext"][name].as_str().unwrap_or_default(), "{name}");
        }
        let proxy: Value = serde_json::from_str(&own.open(&text(5)).unwrap()).unwrap_or_default();
        for member in ["type", "host", "username", "password"] {
            assert_eq!(proxy[member], account["proxy"][member], "{member} of {}", text(6));
        }
        assert_eq!(proxy["port"].as_u64(), account["proxy"]["port"].as_u64());
        assert_eq!(text(6), account["name"]);
        assert_eq!(text(7) == "1", account["isActive"]);
        assert_eq!(text(8), account["accountType"].as_str().unwrap_or("shared"));
        assert_eq!(text(9), account["status"]);
        assert_eq!(text(10), account["errorMessage"]);
        assert_eq!(text(11), account["expiresAt"].as_str().unwrap_or_default());
        assert_eq!(text(12), account["scopes"]);
    }
}

/// The recorded days, months, models and totals.
fn assert_statistics(relay: &Relay) {
    let sums = |sql: &str| -> Vec<i64> {
        let number = |value: &Sql| match value {
            Sql::Integer(number) => *number,
            Sql::Null => 0,
            other => panic!("{other:?}"),
        };
        relay.query(sql)[0].iter().map(number).collect()
    };
    const SUMS: &str = "SELECT sum(input_tokens), sum(output_tokens), sum(requests), sum(cache_creation_5m_tokens),
        sum(cache_read_tokens) FROM rollups WHERE scope = 0";
    let of = |item: &Value, names: [&str; 5]| names.map(|name| item[name].as_i64().unwrap_or_default()).to_vec();
    let names = ["inputTokens", "outputTokens", "requests", "cacheCreateTokens", "cacheReadTokens"];
    for day in original_json("admin-api/usage-trend.day.30.json")["data"].as_array().unwrap() {
        let bucket = day["date"].as_str().unwrap().replace('-', "");
        assert_eq!(sums(&format!("{SUMS} AND span = 2 AND bucket = {bucket}")), of(day, names), "{bucket}");
    }
    for model in original_json("admin-api/model-stats.monthly.json")["data"].as_array().unwrap() {
        let found = sums(&format!(
            "{SUMS} AND span = 1 AND bucket = 202611 AND model = '{}'",
            model["model"].as_str().unwrap()
        ));
        assert_eq!(found, of(model, names), "{}", model["model"]);
    }
    for model in original_json("admin-api/usage-costs.all.json")["data"]["modelCosts"].as_array().unwrap() {
        let found = sums(&format!("{SUMS} AND span = 0 AND model = '{}'", model["model"].as_str().unwrap()));
        // The original has no requests here.
        let names = ["input_tokens", "output_tokens", "", "cache_creation_input_tokens", "cache_read_input_tokens"];
        let mut wanted = of(&model["usage"], names);
        wanted[2] = found[2];
        assert_eq!(found, wanted, "{}", model["model"]);
    }
    let overview = relay.admin("GET", "/admin/dashboard", &Value::Null).json()["data"]["overview"].clone();
    for (member, expected) in [
        ("totalApiKeys", 17),
        ("totalClaudeAccounts", 8),
        ("totalRequestsUsed", 60),
        ("totalInputTokensUsed", 22_678),
        ("totalOutputTokensUsed", 10_637),
        ("totalCacheCreateTokensUsed", 40_535),
        ("totalCacheReadTokensUsed", 366_136),
    ] {
        assert_eq!(overview[member], expected, "{member}");
    }
}

/// What each key used of each model in the recorded four weeks.
fn assert_models_of_keys(relay: &Relay) {
    let keys = original_json("expectations.json.gz");
    for reference in ["default", "unicode", "legacy1", "future", "conc3", "ratereq"] {
        let id = keys["apiKeys"][reference]["id"].as_str().unwrap();
        let target = format!("/admin/api-keys/{id}/model-stats?period=custom&startDate=2026-10-29&endDate=2026-11-24");
        let by_model = |list: &Value| -> BTreeMap<String, Vec<Value>> {
            let names =
                ["requests", "inputTokens", "outputTokens", "cacheCreateTokens", "cacheReadTokens", "allTokens"];
            let items = list["data"].as_array().unwrap().iter();
            items
                .map(|item| (item["model"].as_str().unwrap().to_owned(), names.map(|name| item[name].clone()).to_vec()))
                .collect()
        };
        let recorded = original_json(&format!("admin-api/key-model-stats.{reference}.custom.json"));
        let found = relay.admin("GET", &target, &Value::Null).json();
        assert_eq!(by_model(&found), by_model(&recorded), "{reference}");
    }
}

#[test]
fn everything_in_a_redis_of_the_original_comes_over_and_a_second_time_changes_nothing() {
    let (redis, relay) = (Redis::with_original(), start());
    let empty = content(&relay);
    let mut body = from_redis(&redis);
    body["init"] = json!(original("init.json"));
    body["dryRun"] = json!(true);
    let dry = migrate(&relay, &body);
    assert_eq!((&dry["state"], &dry["dryRun"]), (&json!("done"), &json!(true)), "{dry}");
    assert_eq!(content(&relay), empty, "a dry run changes nothing");

    body["dryRun"] = json!(false);
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(state["report"], dry["report"], "a dry run tells what will be");
    assert_eq!(counts(&state, "apiKeys"), [17, 17, 0, 17]);
    assert_eq!(counts(&state, "accounts"), [8, 8, 0, 8]);
    assert_eq!(counts(&state, "admins"), [1, 1, 0, 1]);
    let [read, written, skipped, verified] = counts(&state, "usage");
    assert_eq!((read, skipped, written), (268, 0, verified));
    assert_eq!(counts(&state, "other"), [34, 0, 34, 0], "{state}");
    assert_eq!(state["report"]["encryptionKeyProven"], true);
    assert!(state["done"].as_u64() >= Some(327), "{state}");
    assert_eq!(state["done"], state["total"]);

    assert_keys(&relay);
    assert_accounts(&relay);
    assert_statistics(&relay);
    assert_models_of_keys(&relay);
    assert_eq!(relay.login("fixture_admin", "Fixture-A-passw0rd").status, 200);
    assert_eq!(relay.count("SELECT count(*) FROM api_keys WHERE deleted_at_ms IS NOT NULL"), 2);
    // A session of the original, and the forged kind it accepted, are nobody here.
    let session = original_json("expectations.json.gz")["admin"]["liveSessionToken"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {session}");
    assert_eq!(relay.get("/admin/api-keys", &[("Authorization", &bearer)]).status, 401);

    let moved = content(&relay);
    let again = migrate(&relay, &body);
    assert_eq!(again["state"], "done", "{again}");
    assert_eq!(counts(&again, "apiKeys"), [17, 0, 17, 17]);
    assert_eq!(counts(&again, "accounts"), [8, 0, 8, 0]);
    assert_eq!(counts(&again, "usage"), [268, 0, 0, 0]);
    assert_eq!(content(&relay), moved, "a second import changes nothing");
    for export in ["enhanced-decrypted.json.gz", "enhanced-sanitized.json.gz", "basic.json.gz"] {
        assert_eq!(migrate(&relay, &from_export(export))["state"], "done");
        assert_eq!(content(&relay), moved, "{export} has nothing that is not here");
    }
    for secret in [ORIGINAL_KEY, "sk-ant-ort01", "p%40ss", "cr_f759"] {
        assert!(!relay.log().contains(secret), "{secret} is in the log");
    }
    let relay = relay.kill_and_restart(Start::new().with("ENCRYPTION_KEY", OWN_KEY));
    assert_keys(&relay);
}

#[test]
fn the_exports_of_the_original_come_over_likewise() {
    for export in ["enhanced-decrypted.json.gz", "basic.json.gz"] {
        let relay = start();
        let state = migrate(&relay, &from_export(export));
        assert_eq!(state["state"], "done", "{state}");
        assert_eq!(counts(&state, "apiKeys"), [17, 17, 0, 17]);
        assert_eq!(counts(&state, "accounts"), [8, 8, 0, 8]);
        assert_accounts(&relay);
        if export == "basic.json.gz" {
            // It has no usage, but keys that work.
            let key =
                original_json("expectations.json.gz")["apiKeys"]["default"]["apiKey"].as_str().unwrap().to_owned();
            assert_eq!(relay.get("/api/v1/key-info", &[("x-api-key", &key)]).status, 200);
            assert_eq!(relay.count("SELECT count(*) FROM rollups"), 0);
            continue;
        }
        assert_keys(&relay);
        assert_statistics(&relay);
        assert_models_of_keys(&relay);
        // Redis tells the hours of a key apart by model, and an export does not; nothing may count twice.
        let hours = "SELECT sum(requests) FROM rollups WHERE scope = 1 AND span = 3";
        let before = relay.count(hours);
        let redis = Redis::with_original();
        assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
        assert_eq!(relay.count(hours), before);
        assert_statistics(&relay);
        assert_models_of_keys(&relay);
        assert_keys(&relay);
    }
}

#[test]
fn a_sanitised_export_is_refused_for_accounts_and_a_full_one_completes_it() {
    let relay = start();
    let state = migrate(&relay, &from_export("enhanced-sanitized.json.gz"));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(counts(&state, "accounts"), [8, 0, 8, 0]);
    assert_eq!(counts(&state, "apiKeys"), [17, 0, 17, 0]);
    let reasons = state["report"]["skipped"].to_string();
    assert!(reasons.contains("the export is sanitised: its tokens are not in it"), "{reasons}");
    assert_eq!(relay.count("SELECT count(*) FROM accounts"), 0);
    assert!(keys_of(&relay).is_empty(), "a key without its hash works for nobody");
    let state = migrate(&relay, &from_export("enhanced-decrypted.json.gz"));
    assert_eq!(counts(&state, "apiKeys"), [17, 17, 0, 17]);
    assert_keys(&relay);
    assert_accounts(&relay);
    assert_statistics(&relay);
}

#[test]
fn a_relay_in_use_keeps_what_it_has_and_gets_what_has_grown_since() {
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-20250514", 1000, 200)));
    let relay = Start::new().with("ENCRYPTION_KEY", OWN_KEY).upstream(&upstream).run();
    relay.add_api_key_account("own", "sk-ant-own");
    let own = relay.add_key("own");
    let body = br#"{"model":"claude-sonnet-4-20250514","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(relay.message(&own, body).status, 200);
    let redis = Redis::with_original();
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    let total = |id: &str| keys_of(&relay)[id]["usage"]["total"]["requests"].as_i64().unwrap();
    assert_eq!(total(&own.id), 1);
    let expected = original_json("expectations.json.gz");
    let key = &expected["apiKeys"]["default"];
    let (id, clear) = (key["id"].as_str().unwrap(), key["apiKey"].as_str().unwrap());
    let used = total(id);
    // It is used here, and goes on being used there; its admin renames it here.
    let moved = crate::harness::Key { id: id.to_owned(), clear: clear.to_owned() };
    assert_eq!(relay.message(&moved, body).status, 200);
    for name in [format!("usage:{id}"), format!("usage:daily:{id}:2026-11-23"), format!("usage:monthly:{id}:2026-11")] {
        let (input, requests) = if name.matches(':').count() == 1 {
            ("totalInputTokens", "totalRequests")
        } else {
            ("inputTokens", "requests")
        };
        redis.run(&["HINCRBY", &name, input, "40"]);
        redis.run(&["HINCRBY", &name, requests, "2"]);
    }
    let scope = "model:monthly:claude-sonnet-4-20250514:2026-11";
    for name in [format!("usage:{id}:{scope}"), format!("usage:{scope}")] {
        redis.run(&["HINCRBY", &name, "inputTokens", "40"]);
        redis.run(&["HINCRBY", &name, "requests", "2"]);
    }
    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(total(id), used + 1 + 2);
    assert_eq!(total(&own.id), 1);
    let whole = "SELECT sum(requests) FROM rollups WHERE scope = 0 AND span = 0";
    let of_keys = "SELECT sum(requests) FROM rollups WHERE scope = 1 AND span = 0";
    assert_eq!(relay.count(whole), 64 + 2 + 2);
    assert_eq!(relay.count(of_keys), 64 + 2 + 2);
    // Records that end by their age take nothing with them.
    redis.run(&[
        "DEL",
        &format!("usage:{id}:{scope}"),
        &format!("usage:monthly:{id}:2026-11"),
        &format!("usage:{scope}"),
    ]);
    let before = content(&relay);
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    assert_eq!(content(&relay), before);
}

#[test]
fn a_wrong_encryption_key_is_recognised_before_anything_is_written() {
    let (redis, relay) = (Redis::with_original(), start());
    let before = content(&relay);
    let mut body = from_redis(&redis);
    body["encryptionKey"] = json!("another key");
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "failed");
    assert!(
        state["error"].as_str().unwrap().starts_with("The encryption key is not the one of this source"),
        "{state}"
    );
    // A full export has no encrypted secret: only a key in the clear can prove it.
    let mut body = from_export("enhanced-decrypted.json.gz");
    let key = original_json("expectations.json.gz")["apiKeys"]["default"]["apiKey"].clone();
    body["sampleApiKey"] = key;
    body["encryptionKey"] = json!("another key");
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "failed");
    assert!(state["error"].as_str().unwrap().starts_with("The sample API key is none of this source"), "{state}");
    assert_eq!(content(&relay), before);
    body["encryptionKey"] = json!(ORIGINAL_KEY);
    let state = migrate(&relay, &body);
    assert_eq!((&state["state"], &state["report"]["encryptionKeyProven"]), (&json!("done"), &json!(true)));
}

#[test]
fn what_cannot_be_migrated_is_told_and_changes_nothing() {
    let relay = start();
    let before = content(&relay);
    let base = from_export("basic.json.gz");
    for (change, message) in [
        (json!({ "source": "file" }), "source must be redis or json"),
        (json!({ "encryptionKey": "" }), "encryptionKey is required"),
        (json!({ "encryptionKey": 7 }), "encryptionKey is required"),
        (json!({ "export": null }), "export is required: the content of an export file"),
        (json!({ "export": [1] }), "export is required: the content of an export file"),
        (json!({ "source": "redis" }), "url is required"),
        (json!({ "dryRun": "yes" }), "dryRun must be a boolean"),
        (json!({ "timezoneOffset": 99 }), "timezoneOffset must be a whole number from -14 to 14"),
        (json!({ "timezoneOffset": "later" }), "timezoneOffset must be a whole number from -14 to 14"),
        (json!({ "timezoneOffset": true }), "timezoneOffset must be a whole number from -14 to 14"),
        (json!({ "init": "{}" }), "init must be the content of data/init.json, with adminUsername and adminPassword"),
    ] {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let response = relay.admin("POST", "/admin/migrate", &body);
        assert_eq!((response.status, response.json()["message"].as_str()), (400, Some(message)), "{change}");
    }
    for (body, error) in [
        (json!({ "source": "redis", "url": "redis://:secret-word@127.0.0.1:1/0" }), "Redis cannot be read"),
        (json!({ "source": "redis", "url": "http://secret-word" }), "url must be redis://"),
        (json!({ "source": "json", "export": {} }), "export is not an export of the original"),
        (
            json!({ "source": "json", "export": { "metadata": { "version": "9" }, "data": {} } }),
            "export must be of version",
        ),
        (json!({ "source": "json", "export": "{\"metadata\":" }), "export is not an export of the original"),
    ] {
        let mut body = body;
        body["encryptionKey"] = json!(ORIGINAL_KEY);
        let state = migrate(&relay, &body);
        assert_eq!(state["state"], "failed", "{state}");
        let found = state["error"].as_str().unwrap();
        assert!(found.starts_with(error) && !found.contains("secret-word"), "{found}");
    }
    assert!(!relay.log().contains("secret-word"));
    let none = "/admin/migrate/00000000-0000-4000-8000-000000000000";
    assert_eq!(relay.admin("GET", none, &Value::Null).status, 404);
    assert_eq!(relay.admin("DELETE", none, &Value::Null).status, 404);
    assert_eq!(content(&relay), before);
    assert!(
        std::fs::read_dir(relay.folder.0.join("data"))
            .unwrap()
            .all(|entry| { !entry.unwrap().file_name().to_string_lossy().contains("spool") })
    );
}

/// A Redis whose SCAN never comes to an end.
fn endless_redis() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            // A command is an array of texts: `*2`, then a length and a text each.
            while let Some(Ok(head)) = lines.next() {
                let count: usize = head[1..].parse().unwrap();
                let words: Vec<String> =
                    (0..count).map(|_| (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()).1).collect();
                let answer: &[u8] = match words[0].as_str() {
                    "DBSIZE" => b":1000000\r\n",
                    "SCAN" => b"*2\r\n$1\r\n7\r\n*1\r\n$9\r\nsession:x\r\n",
                    _ => b"+OK\r\n",
                };
                if stream.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    port
}

#[test]
fn one_migration_runs_at_a_time_and_can_be_cancelled() {
    let relay = start();
    let before = content(&relay);
    let body = json!({
        "source": "redis", "url": format!("redis://127.0.0.1:{}", endless_redis()), "encryptionKey": ORIGINAL_KEY,
    });
    let response = relay.admin("POST", "/admin/migrate", &body);
    assert_eq!(response.status, 200);
    let path = format!("/admin/migrate/{}", response.json()["data"]["id"].as_str().unwrap());
    let state = || relay.admin("GET", &path, &Value::Null).json()["data"].clone();
    eventually("it reads", || state()["done"].as_u64() > Some(5));
    let running = state();
    assert_eq!(
        (&running["state"], &running["phase"], &running["total"]),
        (&json!("running"), &json!("reading"), &json!(1_000_000))
    );
    let second = relay.admin("POST", "/admin/migrate", &body);
    assert_eq!((second.status, second.json()["error"].as_str()), (409, Some("A migration is already running")));
    assert_eq!(second.json()["code"], "migration_running");
    assert_eq!(relay.restore("a%20passphrase%20of%20some%20length", b"x").status, 409);
    assert_eq!(relay.admin("DELETE", &path, &Value::Null).status, 200);
    eventually("it has ended", || state()["state"] != "running");
    assert_eq!((&state()["state"], &state()["error"]), (&json!("cancelled"), &json!("It was cancelled")));
    assert_eq!(relay.admin("DELETE", &path, &Value::Null).status, 409);
    assert_eq!(content(&relay), before);
    assert_eq!(migrate(&relay, &from_export("basic.json.gz"))["state"], "done", "the next one may run");
    let all = relay.admin("GET", "/admin/migrate", &Value::Null).json()["data"].clone();
    let told: Vec<_> = all.as_array().unwrap().iter().map(|one| (&one["source"], &one["state"])).collect();
    assert_eq!(told, [(&json!("json"), &json!("done")), (&json!("redis"), &json!("cancelled"))], "the newest first");
}

#[test]
fn keys_of_another_prefix_are_known_and_a_strange_one_is_refused_as_before() {
    let relay = start();
    let refused = |clear: &str| relay.get("/api/v1/key-info", &[("x-api-key", clear)]).json()["message"].clone();
    assert_eq!(refused("sk-relay-0123456789"), "Invalid API key format");
    let clear = format!("sk-relay-{}", "ab".repeat(32));
    let export = json!({
        "metadata": { "version": "2.0" },
        "data": { "apiKeys": [
            { "id": "in-the-clear", "name": "clear", "apiKey": clear, "isActive": "true", "expiresAt": "2099-01-01T00:00" },
            { "id": "bad", "name": "", "apiKey": "", "isActive": "true", "tokenLimit": "", "restrictedModels": "[" },
        ], "claudeAccounts": [
            { "id": "ghost", "status": "error", "errorMessage": "Account not found" },
            { "id": "bad-proxy", "name": "bad proxy", "isActive": "true", "accessToken": "sk-ant-oat01-x", "proxy": "{}" },
        ], "geminiAccounts": [{ "id": "g" }], "later": { "version": 7 } },
    });
    let state = migrate(&relay, &json!({ "source": "json", "export": export, "encryptionKey": "another" }));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(counts(&state, "apiKeys"), [2, 1, 1, 1], "{state}");
    assert_eq!(counts(&state, "accounts"), [2, 1, 1, 1], "{state}");
    assert_eq!(counts(&state, "other"), [1, 0, 1, 0], "{state}");
    assert_eq!(relay.get("/api/v1/key-info", &[("x-api-key", &clear)]).status, 200);
    assert_eq!(refused("sk-relay-0123456789"), "Invalid API key format");
    // Pages say in their own language what is said here in English.
    let notes = state["report"]["noteDetails"].as_array().unwrap();
    let note = notes.iter().find(|note| note["code"] == "proxy_unusable").unwrap();
    assert!(state["report"]["notes"].as_array().unwrap().contains(&note["text"]), "{state}");
    assert_eq!(
        (&note["values"]["account"], &note["values"]["fault"]["code"]),
        (&json!("bad proxy"), &json!("proxy_shape"))
    );
    let skipped = state["report"]["skipped"].as_array().unwrap();
    assert!(
        skipped.iter().any(|one| (&one["code"], &one["kind"]) == (&json!("leftover"), &json!("accounts"))),
        "{state}"
    );
    // A proxy that cannot be used is never a direct connection.
    let accounts = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json()["data"].clone();
    assert_eq!((&accounts[0]["isActive"], &accounts[0]["status"]), (&json!(false), &json!("error")));
    assert!(accounts[0]["errorMessage"].as_str().unwrap().starts_with("Its proxy cannot be used"));
}

#[test]
fn a_redis_is_read_over_tls_by_a_user_who_may_only_read() {
    let (redis, relay) = (Redis::with_tls().filled(), start());
    redis.run(&["ACL", "SETUSER", "mover", "on", ">only:reads", "~*", "+@read", "+select"]);
    let url = format!("rediss://mover:only%3Areads@localhost:{}/0", redis.port);
    let mut body = json!({ "source": "redis", "url": url, "encryptionKey": ORIGINAL_KEY });
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "failed", "the certificate is nobody's");
    body["caCertificate"] = json!(redis.pem);
    body["url"] = json!(url.replace("only", "wrong"));
    let state = migrate(&relay, &body);
    assert_eq!(state["error"], "Redis cannot be read: it refused the user or the password");
    assert_eq!(state["errorDetail"]["code"], "redis_login");
    body["url"] = json!(url);
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "done", "{state}");
    assert_keys(&relay);
}

#[test]
fn an_import_that_reads_back_something_else_than_it_wrote_is_taken_back() {
    let relay = start();
    let body = from_export("enhanced-decrypted.json.gz");
    let database = rusqlite::Connection::open(relay.database()).unwrap();
    for (table, change, told) in [
        (
            "rollups",
            "UPDATE rollups SET input_tokens = input_tokens + 1 WHERE span = 0 AND model = new.model",
            "sums have not",
        ),
        ("rollups", "DELETE FROM rollups WHERE span = 2 AND bucket = 20261123 AND scope = 0", "sums have not"),
        ("api_keys", "UPDATE api_keys SET key_hash = 'x' || new.seq WHERE seq = new.seq", "keys that were written"),
        ("accounts", "UPDATE accounts SET refresh_token = '' WHERE seq = new.seq", "an account's secrets"),
    ] {
        database.execute_batch(&format!("CREATE TRIGGER fault AFTER INSERT ON {table} BEGIN {change}; END")).unwrap();
        let before = content(&relay);
        let state = migrate(&relay, &body);
        assert_eq!(state["state"], "failed", "{table}");
        let error = state["error"].as_str().unwrap();
        assert!(error.starts_with("The import was taken back: ") && error.contains(told), "{error}");
        assert_eq!(content(&relay), before, "{table}");
        database.execute_batch("DROP TRIGGER fault").unwrap();
    }
    assert_eq!(migrate(&relay, &body)["state"], "done");
    assert_statistics(&relay);
}
