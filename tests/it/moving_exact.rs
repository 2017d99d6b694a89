//! Moving in where the original has rules of its own: what it looked up, what it took for a date, a number, a secret.

use crate::harness::client::Connection;
use crate::harness::redis::Redis;
use crate::harness::relay::Start;
use crate::harness::{Key, Relay};
use crate::moving_in::{from_redis, migrate};
use crate::moving_later::{list, notes, of, put};
use claude_relay::model::secret::{Cipher, hash_api_key};
use serde_json::{Value, json};

const ORIGINAL_KEY: &str = "TestEncKeyFixtureA0123456789abcd";

const OWN_KEY: &str = "the relay has a key of its own here";

fn clear(id: &str) -> String {
    format!("cr_{id:0>64}")
}

fn hash(id: &str) -> String {
    hash_api_key(&clear(id), ORIGINAL_KEY)
}

/// What the relay says to the holder of a key.
fn status(relay: &Relay, id: &str) -> (u16, Value) {
    let key = Key { id: id.to_owned(), clear: clear(id) };
    let response = relay.get("/api/v1/key-info", &[("x-api-key", &key.clear)]);
    (response.status, response.json()["keyInfo"]["id"].clone())
}

#[test]
fn the_index_of_keys_decides_which_text_opens_which_key() {
    let redis = Redis::start();
    let key = |id: &str, hash: &str| {
        let fields = [("id", id), ("name", id), ("isActive", "true"), ("apiKey", hash)];
        put(&redis, &format!("apikey:{id}"), &fields[..if hash.is_empty() { 3 } else { 4 }]);
    };
    let entry = |hash: &str, id: &str| put(&redis, "apikey:hash_map", &[(hash, id)]);
    key("plain", &hash("plain"));
    entry(&hash("plain"), "plain");
    // Its entry was lost: the original refused it.
    key("lost", &hash("lost"));
    // Its record has no hash, or another one.
    key("bare", "");
    entry(&hash("bare"), "bare");
    key("moved", &hash("moved-record"));
    entry(&hash("moved"), "moved");
    // Two records have one hash; the index says whose it is. The older one is the other.
    key("a-copy", &hash("shared"));
    key("owner", &hash("shared"));
    entry(&hash("shared"), "owner");
    // A copy with an entry of its own.
    key("twin", &hash("plain"));
    entry(&hash("twin"), "twin");
    // Two texts open one key.
    key("double", &hash("double"));
    entry(&hash("double"), "double");
    entry(&hash("double-2"), "double");
    entry(&hash("gone"), "gone");
    key("nothing", "");
    put(&redis, "apikey:deleted", &[("id", "deleted"), ("name", "deleted"), ("isDeleted", "true")]);
    put(&redis, "apikey:deleted", &[("apiKey", &hash("deleted"))]);
    // Enough for Redis to give them out in pieces.
    for number in 0..2500 {
        entry(&format!("{number:064}"), "none");
    }

    let relay = Start::new().run();
    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!(state["state"], "done", "{state}");
    let opened = |id: &str| (200, Value::from(id));
    for id in ["plain", "bare", "moved", "owner", "twin", "double"] {
        let (status, found) = status(&relay, id);
        if id == "owner" {
            assert_eq!(status, 401, "its text is another");
        } else {
            assert_eq!((status, found), opened(id), "{id}");
        }
    }
    assert_eq!(status(&relay, "shared"), opened("owner"));
    for id in ["lost", "moved-record", "a-copy", "double-2", "gone", "nothing", "deleted"] {
        assert_eq!(status(&relay, id).0, 401, "{id}");
    }
    let keys = list(&relay, "/admin/api-keys");
    for (id, is_active) in [("plain", true), ("lost", false), ("a-copy", false), ("owner", true), ("bare", true)] {
        assert_eq!(of(&keys, id)["isActive"], is_active, "{id}");
    }
    let told = notes(&state);
    for note in [
        "2 keys: its index of keys (apikey:hash_map) did not have them",
        "3 keys: its index of keys (apikey:hash_map) found them by another text",
        "1 key: its index of keys (apikey:hash_map) found them by several texts",
    ] {
        assert!(told.contains(note), "{note} is not in {told}");
    }
    assert_eq!(state["report"]["apiKeys"]["skipped"], 1, "{state}");

    let content = || relay.query("SELECT * FROM api_keys ORDER BY seq");
    let before = content();
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    assert_eq!(content(), before, "a second import changes nothing");

    // A source without an index, rebuilt by hand, is read by its records.
    redis.run(&["DEL", "apikey:hash_map"]);
    let other = Start::new().run();
    assert_eq!(migrate(&other, &from_redis(&redis))["state"], "done");
    assert_eq!(status(&other, "lost"), opened("lost"));
    assert_eq!(status(&other, "moved-record"), opened("moved"));
}

#[test]
fn secrets_that_look_sealed_are_none_where_the_source_is_decrypted_or_nothing_opens_them() {
    const PASSWORD: &str = "5f4dcc3b5aa765d61d8327deb882cf99";
    let password = |relay: &Relay| -> String {
        let sealed = relay.query("SELECT password FROM accounts WHERE id = 'a'");
        let rusqlite::types::Value::Text(sealed) = &sealed[0][0] else { panic!("{sealed:?}") };
        Cipher::new(OWN_KEY).unwrap().open(sealed).unwrap()
    };
    let start = || Start::new().with("ENCRYPTION_KEY", OWN_KEY).run();
    let account = |password: &str| {
        json!({ "id": "a", "name": "a", "isActive": "true", "password": password, "accessToken": "sk-ant-oat01-a",
            "refreshToken": "sk-ant-ort01-a" })
    };
    let export = |decrypted: bool, password: &str| {
        json!({ "source": "json", "encryptionKey": ORIGINAL_KEY, "export": {
            "metadata": { "version": "2.0", "decrypted": decrypted, "sanitized": false },
            "data": { "apiKeys": [], "claudeAccounts": [account(password)] } } })
    };
    let pair = format!("{PASSWORD}:{PASSWORD}");
    for (decrypted, text) in [(true, PASSWORD), (true, pair.as_str()), (false, PASSWORD)] {
        let relay = start();
        let state = migrate(&relay, &export(decrypted, text));
        assert_eq!(state["state"], "done", "{state}");
        assert_eq!(password(&relay), text);
        assert_eq!(notes(&state).contains("is kept as it stands"), !decrypted, "{state}");
    }
    let state = migrate(&start(), &export(false, &pair));
    assert!(state["error"].as_str().unwrap().contains("encryption key is not the one"), "{state}");
    assert_eq!(state["errorDetail"]["code"], "wrong_key", "{state}");

    let (relay, redis) = (start(), Redis::start());
    put(&redis, "claude:account:a", &[("id", "a"), ("name", "a"), ("password", PASSWORD), ("accessToken", "t")]);
    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!((&state["state"], password(&relay).as_str()), (&json!("done"), PASSWORD), "{state}");
}

fn export(decrypted: bool, data: &Value) -> Value {
    json!({ "source": "json", "encryptionKey": ORIGINAL_KEY, "export": {
        "metadata": { "version": 2.0, "decrypted": decrypted }, "data": data } })
}

#[test]
fn ends_of_keys_are_the_dates_that_the_original_took_them_for() {
    let redis = Redis::start();
    let ends = [
        ("2020/01/05", 401),
        ("Sun, 05 Jan 2020 00:00:00 GMT", 401),
        ("2020-1-5", 401),
        ("2020", 401),
        ("2020-01", 401),
        ("January 5 2020", 401),
        ("2020-01-05T08:00:00+08:00", 401),
        // No date at all: it never ended there.
        ("1577836800000", 200),
        ("when I say so", 200),
        ("2099/01/05", 200),
        ("", 200),
        // Meant as a date, and nobody knows which.
        ("2020-13-45", 401),
        ("2020年1月5日", 401),
    ];
    for (number, (end, _)) in ends.iter().enumerate() {
        let (id, clear) = (format!("k{number}"), clear(&format!("k{number}")));
        let fields = [("id", id.as_str()), ("name", end), ("apiKey", &clear), ("isActive", "true"), ("expiresAt", end)];
        put(&redis, &format!("apikey:{id}"), &fields);
    }
    let relay = Start::new().run();
    let state = migrate(&relay, &from_redis(&redis));
    assert_eq!(state["state"], "done", "{state}");
    for (number, (end, expected)) in ends.iter().enumerate() {
        assert_eq!(status(&relay, &format!("k{number}")).0, *expected, "{end}");
    }
    assert!(notes(&state).contains("2 keys: the end of their life is no date that can be read"), "{state}");
    let keys = list(&relay, "/admin/api-keys");
    assert_eq!((&of(&keys, "k11")["isActive"], &of(&keys, "k7")["isActive"]), (&json!(false), &json!(true)));
}

#[test]
fn numbers_are_what_javascript_takes_out_of_them() {
    let relay = Start::new().run();
    let data = json!({ "apiKeys": [
        { "id": "a", "name": "a", "apiKey": clear("a"), "isActive": "true", "tokenLimit": 60.0,
            "concurrencyLimit": "3.9", "rateLimitWindow": "60 minutes", "rateLimitRequests": "7e3",
            "dailyCostLimit": "2.5 USD",
            "usageStats": { "total": { "totalInputTokens": 10.0, "totalOutputTokens": "5.0", "totalRequests": 1 } } },
        { "id": "b", "name": "b", "apiKey": clear("b"), "isActive": "true", "tokenLimit": "many",
            "concurrencyLimit": "NaN", "rateLimitWindow": "" },
        // Of before there were two kinds of tokens.
        { "id": "old", "name": "old", "apiKey": clear("old"), "isActive": "true", "usageStats": {
            "total": { "totalTokens": "15", "totalRequests": "3" },
            "monthly": { "2026-01": { "tokens": "5", "requests": "1" }, "2026-02": { "tokens": "5", "requests": "1" },
                "2026-03": { "tokens": "5", "requests": "1" } } } },
    ], "claudeAccounts": null, "claudeConsoleAccounts": null, "geminiAccounts": null, "admins": null,
        "globalModelStats": null });
    let state = migrate(&relay, &export(true, &data));
    assert_eq!(state["state"], "done", "{state}");
    let keys = list(&relay, "/admin/api-keys");
    for (member, expected) in [
        ("tokenLimit", json!(60)),
        ("concurrencyLimit", json!(3)),
        ("rateLimitWindow", json!(60)),
        ("rateLimitRequests", json!(7)),
        ("dailyCostLimit", json!(2.5)),
    ] {
        assert_eq!(of(&keys, "a")[member], expected, "{member}");
    }
    assert_eq!(of(&keys, "a")["usage"]["total"]["allTokens"], 15);
    assert_eq!(of(&keys, "b")["tokenLimit"], 0);
    assert!(notes(&state).contains("1 key: a limit of theirs is no number"), "{state}");
    let values = &state["report"]["noteDetails"][1]["values"];
    assert_eq!((&values["count"], &values["change"]["code"]), (&json!(1), &json!("limit_unreadable")), "{state}");
    let total = &of(&keys, "old")["usage"]["total"];
    assert_eq!(
        (&total["inputTokens"], &total["outputTokens"], &total["allTokens"]),
        (&json!(4), &json!(11), &json!(15))
    );
    let months = "SELECT sum(input_tokens + output_tokens) FROM rollups WHERE scope = 1 AND span = 1";
    assert!(relay.count(months) <= 15);
}

#[test]
fn accounts_written_by_hand_or_beside_the_form_are_kept_whole() {
    let relay = Start::new().run();
    let data = json!({ "apiKeys": null, "claudeAccounts": [
        { "id": "o", "name": "o", "isActive": "true", "claudeAiOauth": { "accessToken": "sk-ant-oat01-o",
            "refreshToken": "sk-ant-ort01-o", "expiresAt": 4_070_908_800_000_i64, "scopes": ["user:inference", "user:profile"] } },
    ], "claudeConsoleAccounts": [
        { "id": "c", "name": "c", "isActive": "true", "apiUrl": "https://c.example/claude/v1/messages?beta=true", "apiKey": "k",
            "dailyQuota": "none" },
    ] });
    let mut body = export(true, &data);
    body["export"] = json!(format!("\u{feff}{}", body["export"]));
    let state = migrate(&relay, &body);
    assert_eq!(state["state"], "done", "{state}");
    let accounts = list(&relay, "/admin/claude-accounts");
    let row = relay.query("SELECT expires_at_ms, scopes, kind FROM accounts WHERE id = 'o'");
    assert_eq!(
        row[0],
        [4_070_908_800_000_i64.into(), "user:inference user:profile".to_owned().into(), "oauth".to_owned().into()]
    );
    assert_eq!(of(&accounts, "c")["baseUrl"], "https://c.example/claude");
    assert!(notes(&state).contains("The address of account \"c\" had a query"), "{state}");
    assert!(notes(&state).contains("dailyQuota of account \"c\" is no number"), "{state}");
}

#[test]
fn hours_are_told_by_the_whole_hours_of_the_offset() {
    let data = json!({ "apiKeys": [{ "id": "a", "name": "a", "apiKey": clear("a"), "isActive": "true", "usageStats": {
        "hourly": { "2026-11-23:08": { "requests": "1", "inputTokens": "5" } } } }] });
    // 08:00 in a zone so many hours before UTC; without one, the original's default, or what an export of this relay says.
    let midnight = 1_795_392_000;
    for (offset, named, hours) in [
        (Value::Null, Value::Null, 8),
        (json!(""), Value::Null, 8),
        (json!("0"), Value::Null, 8),
        (json!("5.5"), Value::Null, 5),
        (json!("-3.5"), Value::Null, -3),
        (json!(-3.5), Value::Null, -3),
        (json!("9h"), Value::Null, 9),
        (Value::Null, json!(0), 0),
        (Value::Null, json!(-5), -5),
        (json!(2), json!(-5), 2),
    ] {
        let relay = Start::new().run();
        let mut body = export(true, &data);
        body["timezoneOffset"] = offset.clone();
        body["export"]["metadata"]["timezoneOffset"] = named.clone();
        let state = migrate(&relay, &body);
        assert_eq!(state["state"], "done", "{state}");
        let bucket = relay.count("SELECT bucket FROM rollups WHERE scope = 1 AND span = 3");
        assert_eq!(bucket, midnight + (8 - hours) * 3600, "{offset} {named}");
    }
}

#[test]
fn an_export_that_is_too_large_is_refused_in_words_that_its_client_can_read() {
    let relay = Start::new().run();
    let bearer = format!("Bearer {}", relay.token());
    let fields = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    // Sends everything before it reads anything.
    let refused = relay.post("/admin/migrate", &fields, &vec![b' '; 80 * 1024 * 1024]);
    assert_eq!((refused.status, &refused.json()["error"]), (413, &json!("Payload Too Large")));
    assert!(refused.json()["message"].as_str().unwrap().ends_with("read the Redis instead"));
    assert!(relay.process_figure("VmHWM") < 100_000, "it is read past, not kept");
    let fields = [fields[0], fields[1], ("Expect", "100-continue"), ("Content-Length", "80000000")];
    let mut connection = Connection::open(relay.address);
    let mut head = "POST /admin/migrate HTTP/1.1\r\nHost: relay\r\n".to_owned();
    fields.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    connection.send(format!("{head}\r\n").as_bytes());
    assert_eq!(connection.response().unwrap().status, 413, "who asks first need not send it");
}

#[test]
fn instants_out_of_range_stop_no_import_and_a_key_without_an_identifier_is_counted() {
    let relay = Start::new().run();
    let last = i64::MAX.to_string();
    let key = |id: &str| {
        json!({ "id": id, "name": "n", "isActive": "true", "apiKey": hash("far"), "expirationMode": "activation",
            "isActivated": "true", "activationDays": "30", "activatedAt": last, "expiresAt": "2099-01-01", "createdAt": last,
            "lastUsedAt": last, "updatedAt": last })
    };
    let state = migrate(&relay, &export(true, &json!({ "apiKeys": [key("far"), key("")] })));
    assert_eq!(state["state"], "done", "{state}");
    assert_eq!(state["report"]["apiKeys"], json!({ "read": 2, "written": 1, "skipped": 1, "verified": 1 }));
    assert_eq!(status(&relay, "far").0, 200);
    assert_eq!(list(&relay, "/admin/api-keys").len(), 1);
}

/// Requests in a bucket by all keys together, and by each of them.
fn requests(relay: &Relay, span: i64) -> (i64, i64) {
    let of = |scope: i64| {
        relay.count(&format!("SELECT coalesce(sum(requests), 0) FROM rollups WHERE scope = {scope} AND span = {span}"))
    };
    (of(0), of(1))
}

fn count_requests(redis: &Redis, records: &[(&str, &str)]) {
    for (name, count) in records {
        let field = if name.matches(':').count() == 1 { "totalRequests" } else { "requests" };
        put(redis, name, &[(field, count)]);
    }
}

fn put_keys(redis: &Redis, ids: &[&str]) {
    for id in ids {
        let clear = clear(id);
        let fields = [("id", *id), ("name", *id), ("apiKey", clear.as_str()), ("isActive", "true")];
        put(redis, &format!("apikey:{id}"), &fields);
    }
}

/// The records of a key's models end before those of the key, which was used with another model later that day.
#[test]
fn what_is_told_apart_by_model_only_for_all_keys_counts_once_on_every_way() {
    let redis = Redis::start();
    put_keys(&redis, &["a", "b"]);
    count_requests(
        &redis,
        &[
            ("usage:daily:a:2026-10-28", "2"),
            ("usage:a:model:daily:later:2026-10-28", "1"),
            ("usage:daily:b:2026-10-28", "1"),
            ("usage:b:model:daily:early:2026-10-28", "1"),
            ("usage:model:daily:early:2026-10-28", "2"),
            ("usage:model:daily:later:2026-10-28", "1"),
        ],
    );
    let (relay, other) = (Start::new().run(), Start::new().run());
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    assert_eq!(requests(&relay, 2), (3, 3));
    let response = relay.admin("POST", "/admin/export", &json!({ "encryptionKey": ORIGINAL_KEY }));
    let export = json!({ "source": "json", "export": response.text(), "encryptionKey": ORIGINAL_KEY });
    for relay in [&relay, &other] {
        for source in [&export, &from_redis(&redis), &export] {
            let state = migrate(relay, source);
            assert_eq!((&state["state"], requests(relay, 2)), (&json!("done"), (3, 3)), "{state}");
        }
    }
}

/// A source in use is not read at one instant.
#[test]
fn a_use_that_was_read_by_half_is_whole_after_the_next_import() {
    let redis = Redis::start();
    put_keys(&redis, &["a"]);
    let of_models = ["usage:a:model:monthly:m:2026-11", "usage:model:monthly:m:2026-11"];
    count_requests(&redis, &[("usage:a", "6"), ("usage:monthly:a:2026-11", "6")]);
    count_requests(&redis, &of_models.map(|name| (name, "5")));
    let relay = Start::new().run();
    for count in ["5", "6"] {
        count_requests(&redis, &of_models.map(|name| (name, count)));
        assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
        assert_eq!((requests(&relay, 0), requests(&relay, 1)), ((6, 6), (6, 6)), "{count} by model");
    }
}

#[test]
fn what_the_source_has_forgotten_since_stays_as_it_was() {
    let redis = Redis::start();
    put_keys(&redis, &["a"]);
    let months = [
        ("usage:monthly:a:2025-12", "5"),
        ("usage:a:model:monthly:m:2025-12", "3"),
        // One of them by a key that was deleted with its records.
        ("usage:model:monthly:m:2025-12", "4"),
    ];
    count_requests(&redis, &months);
    count_requests(&redis, &[("usage:a", "9")]);
    let relay = Start::new().run();
    let sums = "SELECT * FROM rollups";
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    let before = relay.query(sums);
    assert_eq!((requests(&relay, 0), requests(&relay, 1)), ((9, 9), (5, 5)));
    for (name, _) in months {
        redis.run(&["DEL", name]);
        assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
        assert_eq!(relay.query(sums), before, "without {name}");
    }
}

#[test]
fn all_time_is_never_less_than_its_months() {
    let redis = Redis::start();
    put_keys(&redis, &["a"]);
    count_requests(
        &redis,
        &[
            ("usage:a", "3"),
            // The end of a month whose records by key and model have ended before it.
            ("usage:monthly:a:2025-11", "2"),
            ("usage:model:monthly:m:2025-11", "1"),
            // Two of three by a key that was deleted with its records.
            ("usage:monthly:a:2025-12", "1"),
            ("usage:a:model:monthly:m:2025-12", "1"),
            ("usage:model:monthly:m:2025-12", "3"),
        ],
    );
    let relay = Start::new().run();
    assert_eq!(migrate(&relay, &from_redis(&redis))["state"], "done");
    assert_eq!((requests(&relay, 0), requests(&relay, 1)), ((5, 5), (5, 5)));
    let sums = relay.query("SELECT * FROM rollups");
    let response = relay.admin("POST", "/admin/export", &json!({ "encryptionKey": ORIGINAL_KEY }));
    let export = json!({ "source": "json", "export": response.text(), "encryptionKey": ORIGINAL_KEY });
    assert_eq!(migrate(&relay, &export)["state"], "done");
    assert_eq!(relay.query("SELECT * FROM rollups"), sums);
}
