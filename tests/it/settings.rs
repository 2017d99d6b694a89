//! What an admin sets in the pages: precedence, bounds, what holds at once, and what never comes back.

use crate::harness::Relay;
use crate::harness::client::Response;
use crate::harness::relay::Start;
use serde_json::{Value, json as value};

fn put(relay: &Relay, body: &Value) -> Response {
    relay.admin("PUT", "/admin/settings", body)
}

fn settings(relay: &Relay) -> Value {
    let response = relay.admin("GET", "/admin/settings", &Value::Null);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["data"].clone()
}

fn start() -> Start {
    Start::new()
}

#[test]
fn what_is_set_holds_at_once_and_over_a_restart_and_can_be_forgotten() {
    let relay = start().run();
    let before = settings(&relay);
    assert_eq!(before["title"], value!({ "value": "Claude Relay", "source": "default", "fixed": false }));
    assert_eq!(before["retentionDays"]["value"], 30);
    assert_eq!((&before["timeZone"]["value"], &before["restartNeeded"]), (&value!("UTC+8"), &value!(false)));
    let body = value!({
        "title": "  Home  ", "description": "for all", "logoUrl": "/logo.svg", "retentionDays": 7, "timeZone": "Europe/Berlin",
    });
    let saved = put(&relay, &body);
    assert_eq!((saved.status, &saved.json()["message"]), (200, &value!("Settings saved")), "{}", saved.text());
    let after = settings(&relay);
    assert_eq!(saved.json()["data"], after);
    assert_eq!(after["title"], value!({ "value": "Home", "source": "stored", "fixed": false }));
    assert_eq!((&after["retentionDays"]["value"], &after["priceSource"]["fixed"]), (&value!(7), &value!(true)));
    let about =
        value!({ "success": true, "data": { "title": "Home", "description": "for all", "logoUrl": "/logo.svg" } });
    assert_eq!(relay.get("/web/about", &[]).json(), about);
    // Days are counted anew from the next start only.
    assert_eq!((&after["timeZone"]["inForce"], &after["restartNeeded"]), (&value!("UTC+8"), &value!(true)));
    assert_eq!(relay.admin("GET", "/admin/system", &Value::Null).json()["data"]["timeZone"], "UTC+8");
    let relay = relay.kill_and_restart(start());
    let after = settings(&relay);
    assert_eq!(after["timeZone"]["inForce"], "Europe/Berlin");
    assert_eq!((&after["title"]["value"], &after["restartNeeded"]), (&value!("Home"), &value!(false)));
    assert_eq!(relay.admin("GET", "/admin/system", &Value::Null).json()["data"]["timeZone"], "Europe/Berlin");
    let forgotten = put(&relay, &value!({ "title": null, "timeZone": null, "retentionDays": null, "logoUrl": null }));
    let forgotten = &forgotten.json()["data"];
    assert_eq!(
        (&forgotten["title"]["value"], &forgotten["title"]["source"]),
        (&before["title"]["value"], &value!("default"))
    );
    assert_eq!((&forgotten["timeZone"]["value"], &forgotten["restartNeeded"]), (&value!("UTC+8"), &value!(true)));
    assert_eq!(relay.count("SELECT count(*) FROM settings"), 1, "the description");
}

#[test]
fn retention_that_is_set_holds_for_the_next_pruning() {
    let upstream = crate::harness::Upstream::start(|_| {
        crate::harness::upstream::json(200, &crate::samples::message("claude-sonnet-4-5", 1, 1))
    });
    let relay = start().upstream(&upstream).with("CLEANUP_INTERVAL", "1000").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    assert_eq!(relay.message(&key, crate::samples::REQUEST).status, 200);
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("UPDATE ledger SET at_ms = at_ms - 3 * 86400000", []).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 1);
    assert_eq!(put(&relay, &value!({ "retentionDays": 2 })).status, 200);
    crate::harness::eventually("the line is removed", || relay.count("SELECT count(*) FROM ledger") == 0);
}

#[test]
fn bad_values_are_told_and_change_nothing() {
    let relay = start().run();
    for (body, told) in [
        (value!({ "title": 5 }), "title must be text"),
        (value!({ "title": "a\nb" }), "title must be one line of at most 200 characters"),
        (value!({ "description": "x".repeat(201) }), "description must be one line of at most 200 characters"),
        (value!({ "timeZone": "Mars/Base" }), "timeZone must be an IANA time zone such as Europe/Berlin"),
        (value!({ "retentionDays": 0 }), "retentionDays must be a whole number from 1 to 36525"),
        (value!({ "retentionDays": 1.5 }), "retentionDays must be a whole number from 1 to 36525"),
        (value!({ "retentionDays": "7" }), "retentionDays must be a whole number from 1 to 36525"),
        (value!({ "priceSource": "ftp://x" }), "priceSource must be an http:// or https:// URL with a host"),
        (value!({ "logoUrl": "//x" }), "logoUrl must be an http:// or https:// URL, or a path that begins with /"),
        (value!({ "colour": "red" }), "Unknown setting \"colour\""),
        (value!({ "webhook": 5 }), "webhook must be an object or null"),
        (value!({ "webhook": { "url": "file:///x" } }), "webhook.url must be an http:// or https:// URL with a host"),
        (
            value!({ "webhook": { "url": "http://user:pass@x/" } }),
            "webhook.url must be an http:// or https:// URL with a host",
        ),
        (value!({ "webhook": { "secret": "short" } }), "webhook.secret must be at least 8 characters long"),
        (value!({ "webhook": { "preset": "icq" } }), "webhook.preset must be one of generic, slack, feishu"),
        (value!({ "webhook": { "events": "all" } }), "webhook.events must be an array of names"),
        (value!({ "webhook": { "removeSecret": 1 } }), "webhook.removeSecret must be a boolean"),
        (value!({ "webhook": { "proxy": "x" } }), "Unknown setting \"webhook.proxy\""),
    ] {
        // Nothing of a body that has one bad member is taken.
        let mut whole = body.clone();
        whole.as_object_mut().unwrap().entry("description").or_insert("taken?".into());
        let refused = put(&relay, &whole);
        assert_eq!((refused.status, refused.json()), (400, value!({ "error": told, "message": told })), "{body}");
    }
    for events in [value!([]), value!(["test"]), value!(["x"]), value!([1])] {
        let refused = put(&relay, &value!({ "webhook": { "events": events } }));
        assert_eq!(refused.status, 400);
        assert!(refused.json()["message"].as_str().unwrap().starts_with("webhook.events must be "));
    }
    assert_eq!(relay.count("SELECT count(*) FROM settings"), 0);
    assert_eq!(put(&relay, &value!({})).status, 200);
}

#[test]
fn the_environment_is_stronger_than_what_is_stored() {
    let start = start();
    let folder = std::sync::Arc::clone(&start.folder);
    let again = |settings: &[(&str, &str)]| {
        let mut next = Start { folder: std::sync::Arc::clone(&folder), ..self::start() };
        for (name, text) in settings {
            next = next.with(name, text);
        }
        next
    };
    let relay = start.run();
    assert_eq!(put(&relay, &value!({ "title": "stored", "timeZone": "Europe/Berlin" })).status, 200);
    std::fs::write(folder.0.join(".env"), "WEB_DESCRIPTION='of .env'\n").unwrap();
    let relay = relay.kill_and_restart(again(&[("WEB_TITLE", "of the environment"), ("TIMEZONE_OFFSET", "2")]));
    let found = settings(&relay);
    assert_eq!(found["title"], value!({ "value": "of the environment", "source": "environment", "fixed": true }));
    assert_eq!((&found["description"]["value"], &found["description"]["fixed"]), (&value!("of .env"), &value!(true)));
    assert_eq!((&found["timeZone"]["value"], &found["timeZone"]["fixed"]), (&value!("UTC+2"), &value!(true)));
    for (body, told) in [
        (value!({ "title": "mine" }), "title is fixed by the environment (WEB_TITLE)"),
        (value!({ "description": "" }), "description is fixed by the environment (WEB_DESCRIPTION)"),
        (value!({ "timeZone": "Asia/Tokyo" }), "timeZone is fixed by the environment (TIMEZONE_OFFSET)"),
    ] {
        let refused = put(&relay, &body);
        assert_eq!((refused.status, refused.json()), (409, value!({ "error": told, "message": told })));
    }
    // A form that sends everything back as it was shown is no change.
    let same =
        value!({ "title": "of the environment", "description": "of .env", "timeZone": "UTC+2", "retentionDays": 30 });
    assert_eq!(put(&relay, &same).status, 200);
    assert_eq!(relay.count("SELECT count(*) FROM settings"), 2);
    // Without the environment the stored one is back.
    std::fs::write(folder.0.join(".env"), "").unwrap();
    let relay = relay.kill_and_restart(again(&[]));
    let found = settings(&relay);
    assert_eq!(
        (&found["title"]["value"], &found["timeZone"]["inForce"]),
        (&value!("stored"), &value!("Europe/Berlin"))
    );
}

#[test]
fn the_webhooks_address_and_secret_never_come_back() {
    let start = || start().with("LOG_LEVEL", "trace");
    let relay = start().run();
    let (url, secret) = ("https://hooks.invalid/services/T0-address-secret", "signing-secret-1");
    let saved = put(
        &relay,
        &value!({ "webhook": { "url": url, "secret": secret, "preset": "slack", "events": ["account.down"] } }),
    );
    assert_eq!(saved.status, 200, "{}", saved.text());
    let found = settings(&relay)["webhook"].clone();
    assert_eq!((&found["url"]["value"], &found["url"]["isSet"]), (&value!("https://hooks.invalid/***"), &value!(true)));
    assert_eq!((&found["secret"]["value"], &found["secret"]["isSet"]), (&value!("***"), &value!(true)));
    assert_eq!((&found["preset"]["value"], &found["events"]["value"]), (&value!("slack"), &value!(["account.down"])));
    // What a form sends back masked, null, empty or not at all is kept.
    for kept in [
        value!({ "url": "https://hooks.invalid/***", "secret": "***" }),
        value!({ "url": null, "secret": "" }),
        value!({}),
    ] {
        assert_eq!(put(&relay, &value!({ "webhook": kept })).status, 200);
        assert_eq!(settings(&relay)["webhook"]["secret"]["isSet"], true);
    }
    // The name does not resolve, and the address is not told on that occasion either.
    let tried = relay.admin("POST", "/admin/settings/webhook/test", &Value::Null);
    assert_eq!(
        (tried.status, &tried.json()["data"]["ok"], &tried.json()["data"]["status"]),
        (200, &value!(false), &value!(0))
    );
    let relay = relay.kill_and_restart(start());
    assert_eq!(settings(&relay)["webhook"]["url"]["isSet"], true);
    let text = settings(&relay).to_string() + &tried.text() + &saved.text() + &relay.log();
    let stored: String = relay.query("SELECT value FROM settings").iter().map(|row| format!("{row:?}")).collect();
    for hidden in ["address-secret", secret] {
        assert!(!text.contains(hidden) && !stored.contains(hidden), "{hidden}");
    }
    assert_eq!(put(&relay, &value!({ "webhook": { "removeSecret": true } })).status, 200);
    let found = settings(&relay)["webhook"].clone();
    assert_eq!((&found["secret"]["isSet"], &found["url"]["isSet"]), (&value!(false), &value!(true)));
    assert_eq!(put(&relay, &value!({ "webhook": null })).status, 200);
    assert_eq!(relay.count("SELECT count(*) FROM settings"), 0);
    let refused = relay.admin("POST", "/admin/settings/webhook/test", &Value::Null);
    assert_eq!((refused.status, &refused.json()["error"]), (400, &value!("No webhook URL is set")));
}
