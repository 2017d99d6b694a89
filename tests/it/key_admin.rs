//! Keys in the admin's hands: everything that can be set, batches, a new clear text, deletion and the way back, allow lists,
//! and lives that begin with the first use.

use crate::harness::relay::Start;
use crate::harness::upstream::json;
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use claude_relay::model::time::{iso, now_ms, parse};
use serde_json::{Value, json as value};

const DAY_MS: i64 = 86_400_000;

fn relay() -> (Upstream, Relay) {
    let upstream = Upstream::start(|_| json(200, &message("claude-sonnet-4-5", 1000, 1000)));
    let relay = Start::new().upstream(&upstream).run();
    relay.add_api_key_account("first", "sk-ant-secret-of-first");
    (upstream, relay)
}

fn list(relay: &Relay, query: &str) -> Vec<Value> {
    let answer = relay.admin("GET", &format!("/admin/api-keys{query}"), &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["data"].as_array().unwrap().clone()
}

fn listed(relay: &Relay, key: &Key) -> Value {
    list(relay, "").into_iter().find(|item| item["id"] == key.id.as_str()).expect("it is listed")
}

fn put(relay: &Relay, key: &Key, body: &Value) -> (u16, Value) {
    let answer = relay.admin("PUT", &format!("/admin/api-keys/{}", key.id), body);
    (answer.status, answer.json())
}

fn act(relay: &Relay, key: &Key, action: &str) -> (u16, Value) {
    let answer = relay.admin("POST", &format!("/admin/api-keys/{}/{action}", key.id), &Value::Null);
    (answer.status, answer.json())
}

fn delete(relay: &Relay, key: &Key) {
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{}", key.id), &Value::Null).status, 200);
}

/// Writes to the database beside the running relay.
fn write(relay: &Relay, sql: &str) {
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    assert_eq!(db.execute(sql, []).unwrap(), 1, "{sql}");
}

#[test]
fn everything_that_can_be_set_is_kept_and_shown() {
    let (_upstream, relay) = relay();
    let members = value!({
        "name": "Ann", "description": "of the third floor", "isActive": false, "expiresAt": "2031-01-01",
        "tags": [" family ", "family", "third floor"], "allowedModels": ["claude-sonnet-4-5"],
        "dailyCostLimit": 1.5, "weeklyCostLimit": "7.25", "monthlyCostLimit": 30, "totalCostLimit": 0.000001,
        "rateLimitCost": 0.1, "expirationMode": "fixed", "activationDays": 30, "accountFallback": true,
    });
    let made = relay.admin("POST", "/admin/api-keys", &members).json()["data"].clone();
    let key = Key { id: made["id"].as_str().unwrap().to_owned(), clear: made["apiKey"].as_str().unwrap().to_owned() };
    let expected = |name: &str| match name {
        "tags" => value!(["family", "third floor"]),
        "weeklyCostLimit" => value!(7.25),
        _ => members[name].clone(),
    };
    let shown = listed(&relay, &key);
    for name in members.as_object().unwrap().keys() {
        assert_eq!((&made[name], &shown[name]), (&expected(name), &expected(name)), "{name}");
    }
    assert!(shown.get("apiKey").is_none() && shown.get("deletedAt").is_none());
    assert_eq!(shown["activatedAt"], Value::Null);
    // What a change does not name stays, and null or nothing takes a limit away.
    assert_eq!(put(&relay, &key, &value!({ "name": "Bob" })).0, 200);
    let renamed = listed(&relay, &key);
    for name in members.as_object().unwrap().keys().filter(|name| *name != "name") {
        assert_eq!(renamed[name], expected(name), "{name}");
    }
    assert_eq!(renamed["name"], "Bob");
    let none = value!({
        "isActive": true, "expiresAt": null, "tags": [], "allowedModels": null, "dailyCostLimit": "",
        "weeklyCostLimit": null, "monthlyCostLimit": 0, "totalCostLimit": null, "rateLimitCost": 0,
        "activationDays": null, "accountFallback": false, "description": "",
    });
    assert_eq!(put(&relay, &key, &none).0, 200);
    let bare = listed(&relay, &key);
    for name in ["dailyCostLimit", "weeklyCostLimit", "monthlyCostLimit", "totalCostLimit", "rateLimitCost"] {
        assert_eq!(bare[name], 0, "{name}");
    }
    assert_eq!((&bare["tags"], &bare["allowedModels"], &bare["expiresAt"]), (&value!([]), &value!([]), &value!("")));
    assert_eq!((&bare["isActive"], &bare["accountFallback"]), (&value!(true), &value!(false)));
    assert_eq!(bare["limits"], value!({}));
    let plain = relay.add_key("plain");
    let shown = listed(&relay, &plain);
    assert_eq!((&shown["expirationMode"], &shown["activationDays"]), (&value!("fixed"), &value!(0)));
}

#[test]
fn what_cannot_be_is_refused_in_clear_words_and_changes_nothing() {
    let (_upstream, relay) = relay();
    let key = relay.add_key_with(&value!({ "name": "Ann", "dailyCostLimit": 5, "tags": ["a"] }));
    let before = listed(&relay, &key);
    let many = |count: usize| (0..count).map(|number| number.to_string()).collect::<Vec<_>>();
    let tags = "Tags must be an array of at most 20 texts of 1 to 50 characters";
    let models = "Allowed models must be an array of at most 100 model names";
    let days = "activationDays must be a whole number from 0 to 3650";
    let mode = "expirationMode must be fixed or activation";
    for (name, wrong, text) in [
        ("name", value!(" "), "Name is required and must be a non-empty string"),
        ("name", value!("x".repeat(101)), "Name must be less than 100 characters"),
        ("description", value!("x".repeat(501)), "Description must be a string with less than 500 characters"),
        ("isActive", value!("yes"), "isActive must be a boolean"),
        ("expiresAt", value!("soon"), "Expiry must be an ISO 8601 date"),
        ("tags", value!("a"), tags),
        ("tags", value!([1]), tags),
        ("tags", value!([""]), tags),
        ("tags", value!(["x".repeat(51)]), tags),
        ("tags", value!(many(21)), tags),
        ("allowedModels", value!({ "a": 1 }), models),
        ("allowedModels", value!([null]), models),
        ("allowedModels", value!(many(101)), models),
        ("dailyCostLimit", value!(-0.01), "dailyCostLimit must be an amount in USD from 0 to 1000000"),
        ("weeklyCostLimit", value!("much"), "weeklyCostLimit must be an amount in USD from 0 to 1000000"),
        ("monthlyCostLimit", value!(1_000_001), "monthlyCostLimit must be an amount in USD from 0 to 1000000"),
        ("totalCostLimit", value!(true), "totalCostLimit must be an amount in USD from 0 to 1000000"),
        ("rateLimitCost", value!([]), "rateLimitCost must be an amount in USD from 0 to 1000000"),
        ("expirationMode", value!("never"), mode),
        ("expirationMode", value!(null), mode),
        ("activationDays", value!(1.5), days),
        ("activationDays", value!(3651), days),
        ("expirationMode", value!("activation"), "activationDays must be at least 1 when expirationMode is activation"),
        ("accountFallback", value!(1), "accountFallback must be a boolean"),
    ] {
        let expected = (400, value!({ "error": text, "message": text }));
        assert_eq!(put(&relay, &key, &value!({ name: wrong, "tokenLimit": 7 })), expected, "{name}");
        let mut body = value!({ "name": "new", "tokenLimit": 7 });
        body[name] = wrong.clone();
        let answer = relay.admin("POST", "/admin/api-keys", &body);
        assert_eq!((answer.status, answer.json()), expected, "{name}");
    }
    let after = listed(&relay, &key);
    assert_eq!((after, list(&relay, "").len()), (before, 1));
    let missing = Key { id: "nobody".into(), clear: String::new() };
    let unknown = value!({ "error": "Failed to update API key", "message": "API key not found" });
    assert_eq!(put(&relay, &missing, &value!({ "name": "x" })), (404, unknown));
}

#[test]
fn a_key_with_a_new_text_stops_the_old_one_at_once() {
    let (_upstream, relay) = relay();
    let old = relay.add_key_with(&value!({ "name": "Ann", "tags": ["a"], "totalCostLimit": 9 }));
    assert_eq!(relay.message(&old, REQUEST).status, 200);
    let (status, answer) = act(&relay, &old, "rotate");
    let data = &answer["data"];
    assert_eq!((status, &data["id"], &data["name"]), (200, &value!(old.id), &value!("Ann")));
    let new = Key { id: old.id.clone(), clear: data["apiKey"].as_str().unwrap().to_owned() };
    assert!(new.clear.starts_with("cr_") && new.clear != old.clear);
    let refused = relay.message(&old, REQUEST);
    assert_eq!((refused.status, &refused.json()["message"]), (401, &value!("API key not found")));
    assert_eq!(relay.message(&new, REQUEST).status, 200);
    let shown = listed(&relay, &new);
    assert_eq!((&shown["usage"]["total"]["requests"], &shown["tags"]), (&value!(2), &value!(["a"])));
    assert!(!relay.log().contains(&new.clear));
    delete(&relay, &new);
    let gone = value!({ "error": "Failed to rotate API key", "message": "API key not found" });
    assert_eq!(act(&relay, &new, "rotate"), (404, gone));
}

#[test]
fn a_batch_is_made_as_a_whole_or_not_at_all() {
    let (_upstream, relay) = relay();
    let batch = |body: &Value| {
        let answer = relay.admin("POST", "/admin/api-keys/batch", body);
        (answer.status, answer.json())
    };
    let template = value!({ "name": "course", "dailyCostLimit": 2, "tags": ["course"], "concurrencyLimit": 2 });
    let (status, answer) = batch(&value!({ "count": 500, "template": template }));
    assert_eq!(status, 200, "{answer}");
    let made = answer["data"].as_array().unwrap();
    let names: Vec<&str> = made.iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!((names.len(), names[0], names[499]), (500, "course_1", "course_500"));
    let shown = list(&relay, "");
    assert_eq!(shown.len(), 500);
    assert!(shown.iter().all(|key| key["dailyCostLimit"] == 2 && key["tags"] == value!(["course"])));
    let distinct: std::collections::BTreeSet<&str> = made.iter().map(|key| key["apiKey"].as_str().unwrap()).collect();
    assert_eq!(distinct.len(), 500);
    for item in [&made[0], &made[499]] {
        let key = Key { id: String::new(), clear: item["apiKey"].as_str().unwrap().to_owned() };
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    let count = "count must be a whole number from 1 to 500";
    for (body, text) in [
        (value!({ "template": { "name": "x" } }), count),
        (value!({ "count": 0, "template": { "name": "x" } }), count),
        (value!({ "count": 501, "template": { "name": "x" } }), count),
        (value!({ "count": 1.5, "template": { "name": "x" } }), count),
        (value!({ "count": 2 }), "template must be an object"),
        (value!({ "count": 2, "template": ["x"] }), "template must be an object"),
        (value!({ "count": 2, "template": {} }), "Name is required and must be a non-empty string"),
        // The tenth name would be too long.
        (value!({ "count": 10, "template": { "name": "x".repeat(98) } }), "Name must be less than 100 characters"),
        (
            value!({ "count": 2, "template": { "name": "x", "expirationMode": "activation" } }),
            "activationDays must be at least 1 when expirationMode is activation",
        ),
    ] {
        assert_eq!(batch(&body), (400, value!({ "error": text, "message": text })), "{body}");
    }
    assert_eq!(list(&relay, "").len(), 500);
}

#[test]
fn a_deleted_key_keeps_its_bill_and_can_come_back() {
    let (_upstream, relay) = relay();
    let (key, other) =
        (relay.add_key_with(&value!({ "name": "Ann", "allowedModels": ["claude-sonnet-4-5"] })), relay.add_key("Bob"));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let before = now_ms();
    delete(&relay, &key);
    assert_eq!(relay.message(&key, REQUEST).status, 401);
    assert_eq!(list(&relay, "").len(), 1);
    let deleted = list(&relay, "?deleted=true");
    assert_eq!((deleted.len(), &deleted[0]["id"], &deleted[0]["name"]), (1, &value!(key.id), &value!("Ann")));
    assert_eq!(deleted[0]["usage"]["total"]["requests"], 1);
    let at = |name: &str| parse(deleted[0][name].as_str().unwrap()).unwrap();
    assert!((before..=now_ms()).contains(&at("deletedAt")));
    assert_eq!(at("purgeAt") - at("deletedAt"), 30 * DAY_MS);
    // A second deletion, and the return of one that was never away.
    let again = relay.admin("DELETE", &format!("/admin/api-keys/{}", key.id), &Value::Null);
    assert_eq!((again.status, &again.json()["message"]), (404, &value!("API key not found")));
    let (status, body) = act(&relay, &other, "restore");
    assert_eq!(
        (status, body),
        (400, value!({ "error": "Failed to restore API key", "message": "API key is not deleted" }))
    );
    let done = value!({ "success": true, "message": "API key restored successfully" });
    assert_eq!(act(&relay, &key, "restore"), (200, done));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!((list(&relay, "").len(), list(&relay, "?deleted=true").len()), (2, 0));
    let back = listed(&relay, &key);
    assert_eq!(back["usage"]["total"]["requests"], 2);
    assert_eq!((&back["allowedModels"], back.get("deletedAt")), (&value!(["claude-sonnet-4-5"]), None));
}

#[test]
fn a_key_that_was_deleted_long_ago_is_purged_and_its_bill_stays() {
    let upstream = Upstream::start(|_| json(200, &message("claude-sonnet-4-5", 1000, 1000)));
    let relay = Start::new().upstream(&upstream).with("CLEANUP_INTERVAL", "1000").run();
    relay.add_api_key_account("first", "sk-ant-secret-of-first");
    let members = value!({ "name": "Ann", "description": "secret plan", "tags": ["a"], "rateLimitWindow": 5, "rateLimitRequests": 9 });
    let (old, young) = (relay.add_key_with(&members), relay.add_key("Bob"));
    assert_eq!(relay.message(&old, REQUEST).status, 200);
    delete(&relay, &old);
    delete(&relay, &young);
    let age = |key: &Key, days: i64, more_ms: i64| {
        let at_ms = now_ms() - days * DAY_MS + more_ms;
        write(&relay, &format!("UPDATE api_keys SET deleted_at_ms = {at_ms} WHERE id = '{}'", key.id));
    };
    age(&young, 30, 60_000);
    age(&old, 30, 0);
    eventually("the old one is purged", || list(&relay, "?deleted=true").len() == 1);
    assert_eq!(list(&relay, "?deleted=true")[0]["id"], young.id.as_str());
    let gone = value!({ "error": "Failed to restore API key", "message": "API key not found" });
    assert_eq!(act(&relay, &old, "restore"), (404, gone));
    assert_eq!(relay.message(&old, REQUEST).status, 401);
    let row = &relay
        .query(&format!("SELECT name, description, tags, length(key_hash) FROM api_keys WHERE id = '{}'", old.id))[0];
    let text = |text: &str| rusqlite::types::Value::Text(text.to_owned());
    assert_eq!((&row[0], &row[1], &row[2]), (&text("Ann"), &text(""), &text("[]")));
    assert_ne!(row[3], rusqlite::types::Value::Integer(64), "no hash is left");
    assert_eq!(relay.count("SELECT count(*) FROM key_windows"), 0);
    assert_eq!(relay.count("SELECT count(*) FROM ledger JOIN api_keys ON seq = key_seq WHERE name = 'Ann'"), 1);
    let today = relay.admin("GET", "/admin/dashboard", &Value::Null).json();
    assert_eq!(today["data"]["recentActivity"]["requestsToday"], 1);
    eventually("the log says so", || relay.log().contains("job deleted keys: 1 keys purged"));
    assert_eq!(act(&relay, &young, "restore").0, 200);
}

#[test]
fn only_allowed_models_are_served() {
    let (upstream, relay) = relay();
    let key = relay.add_key_with(&value!({ "name": "k", "allowedModels": ["claude-opus-4-6"] }));
    let fields = [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
    for target in ["/api/v1/messages", "/api/v1/messages/count_tokens"] {
        let refused = relay.post(target, &fields, REQUEST);
        assert_eq!(
            (refused.status, refused.text().as_str()),
            (403, r#"{"error":{"type":"forbidden","message":"暂无该模型访问权限"}}"#)
        );
    }
    assert!(upstream.received().is_empty());
    // Without a model the upstream judges.
    assert_eq!(relay.message(&key, br#"{"messages":[{"role":"user","content":"a"}]}"#).status, 200);
    assert_eq!(put(&relay, &key, &value!({ "allowedModels": ["claude-opus-4-6", "claude-sonnet-4-5"] })).0, 200);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let denied = value!({ "enableModelRestriction": true, "restrictedModels": ["claude-sonnet-4-5"] });
    assert_eq!(put(&relay, &key, &denied).0, 200);
    assert_eq!(relay.message(&key, REQUEST).status, 403, "what is denied is not allowed");
}

#[test]
fn a_life_that_begins_with_the_first_use_begins_then_and_ends() {
    let (upstream, relay) = relay();
    let members = value!({
        "name": "k", "expirationMode": "activation", "activationDays": 2, "expiresAt": "2020-01-01",
        "concurrencyLimit": 1, "isActive": false,
    });
    let key = relay.add_key_with(&members);
    // Neither a report nor a refused request is a use.
    assert_eq!(relay.message(&key, REQUEST).status, 401);
    assert_eq!(put(&relay, &key, &value!({ "isActive": true })).0, 200);
    let info = relay.get("/v1/key-info", &[("x-api-key", &key.clear)]).json();
    assert_eq!(info["keyInfo"]["expiresAt"], "");
    assert_eq!((&listed(&relay, &key)["activatedAt"], &listed(&relay, &key)["expiresAt"]), (&Value::Null, &value!("")));
    let before = now_ms();
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let shown = listed(&relay, &key);
    let start = parse(shown["activatedAt"].as_str().unwrap()).unwrap();
    assert!((before..=now_ms()).contains(&start));
    assert_eq!(shown["expiresAt"], iso(start + 2 * DAY_MS));
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(listed(&relay, &key)["activatedAt"], shown["activatedAt"], "only the first use counts");
    let age = |at_ms: i64| {
        write(&relay, &format!("UPDATE api_keys SET activated_at_ms = {at_ms} WHERE id = '{}'", key.id));
    };
    age(now_ms() - 2 * DAY_MS + 60_000);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    age(now_ms() - 2 * DAY_MS - 1000);
    let refused = relay.message(&key, REQUEST);
    assert_eq!((refused.status, &refused.json()["message"]), (401, &value!("API key has expired")));
    assert_eq!(put(&relay, &key, &value!({ "activationDays": 3 })).0, 200);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    // The end that the admin named is in force in the other mode.
    assert_eq!(put(&relay, &key, &value!({ "expirationMode": "fixed" })).0, 200);
    assert_eq!(relay.message(&key, REQUEST).json()["message"], "API key has expired");
}

#[test]
fn a_database_from_before_has_keys_without_limits() {
    let (upstream, relay) = relay();
    let key = relay.add_key("old");
    let database = relay.database();
    let again = relay.folder.clone();
    drop(relay);
    let new = database.with_extension("new");
    // All of it in one file, so that it can be moved.
    let db = rusqlite::Connection::open(&database).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(db);
    std::fs::rename(&database, &new).unwrap();
    let db = rusqlite::Connection::open(&database).unwrap();
    for schema in [
        include_str!("../../schema/0001_initial.sql"),
        include_str!("../../schema/0002_oauth_sessions.sql"),
        include_str!("../../schema/0003_key_windows.sql"),
        include_str!("../../schema/0004_costs.sql"),
    ] {
        db.execute_batch(schema).unwrap();
    }
    db.execute("ATTACH ?1 AS new", [new.to_str().unwrap()]).unwrap();
    for table in ["meta", "admins", "accounts", "api_keys"] {
        let names = format!("SELECT group_concat(name) FROM pragma_table_info('{table}')");
        let names: String = db.query_row(&names, [], |row| row.get(0)).unwrap();
        db.execute(&format!("INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}"), []).unwrap();
    }
    db.pragma_update(None, "user_version", 4).unwrap();
    drop(db);
    let relay = Start { folder: again, ..Start::new().upstream(&upstream) }.run();
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let shown = listed(&relay, &key);
    assert_eq!(
        (&shown["limits"], &shown["expirationMode"], &shown["tags"]),
        (&value!({}), &value!("fixed"), &value!([]))
    );
}
