//! `/admin/prices`: the table in force, what has no price, overrides, and the download on demand.

use crate::harness::client::Response;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, json};
use crate::harness::{Relay, Upstream};
use crate::samples::{REQUEST, message};
use serde_json::{Value, json as value};
use std::sync::Mutex;

fn prices(relay: &Relay) -> Value {
    let response = relay.admin("GET", "/admin/prices", &Value::Null);
    assert_eq!(response.status, 200, "{}", response.text());
    response.json()["data"].clone()
}

fn put(relay: &Relay, overrides: &Value) -> Response {
    relay.admin("PUT", "/admin/prices", &value!({ "overrides": overrides }))
}

fn entry(prices: &Value, model: &str) -> Value {
    let found = prices["models"].as_array().unwrap().iter().find(|entry| entry["model"] == model);
    found.unwrap_or_else(|| panic!("no {model}")).clone()
}

fn rates(input: &str) -> Value {
    value!({ "input": input, "output": 10, "cacheWrite5m": 4, "cacheWrite1h": 8.5, "cacheRead": "0.25" })
}

/// Each line's edition and cost of input, in pico-dollars.
fn lines(relay: &Relay) -> Vec<(String, String)> {
    let rows =
        relay.query("SELECT coalesce(price_version, '-'), coalesce(cost_input, -1) || '' FROM ledger ORDER BY id");
    let text = |cell: &rusqlite::types::Value| match cell {
        rusqlite::types::Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    rows.iter().map(|row| (text(&row[0]), text(&row[1]))).collect()
}

#[test]
fn an_unpriced_model_comes_to_the_front_and_gets_a_price_from_then_on() {
    let upstream = Upstream::start(|_| json(200, &message("house-model", 50, 5)));
    let (relay, key) = Relay::with_upstream(&upstream);
    for _ in 0..2 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    let found = prices(&relay);
    let unpriced = &found["unpriced"][0];
    assert_eq!(
        (&unpriced["model"], &unpriced["requests"], &unpriced["hasPriceNow"]),
        (&value!("house-model"), &value!(2), &value!(false))
    );
    assert_eq!(found["overridesEdition"], Value::Null);
    let sonnet = entry(&found, "claude-sonnet-4-5");
    assert_eq!((&sonnet["source"], &sonnet["input"], &sonnet["output"]), (&value!("builtin"), &value!(3), &value!(15)));
    assert_eq!(sonnet["edition"], found["edition"]);
    let saved = put(&relay, &value!({ "house-model": rates("3.000001") }));
    assert_eq!(saved.status, 200, "{}", saved.text());
    let first = saved.json()["data"].clone();
    let edition = first["overridesEdition"].as_str().unwrap().to_owned();
    assert!(edition.starts_with("override 20"));
    let own = &first["models"][0];
    assert_eq!(
        (&own["model"], &own["source"], &own["edition"]),
        (&value!("house-model"), &value!("override"), &value!(edition))
    );
    assert_eq!(
        (&own["input"], &own["cacheRead"], &own["webSearch"]),
        (&value!(3.000001), &value!(0.25), &value!(0.01))
    );
    assert_eq!(first["unpriced"][0]["hasPriceNow"], true);
    relay.message(&key, REQUEST);
    // A change is a new edition; what is written stays.
    assert_eq!(put(&relay, &value!({ "house-model": rates("6") })).status, 200);
    relay.message(&key, REQUEST);
    let relay = relay.kill_and_restart(Start::new().upstream(&upstream));
    relay.message(&key, REQUEST);
    let second = prices(&relay)["overridesEdition"].as_str().unwrap().to_owned();
    assert_ne!(edition, second);
    let none = ("-".to_owned(), "-1".to_owned());
    let (before, after) = ((edition, (50 * 3_000_001).to_string()), (second, (50 * 6_000_000).to_string()));
    assert_eq!(lines(&relay), [none.clone(), none.clone(), before, after.clone(), after]);
    // Taken away, it has none again.
    assert_eq!(put(&relay, &value!({ "house-model": null })).json()["data"]["overridesEdition"], Value::Null);
    relay.message(&key, REQUEST);
    assert_eq!(lines(&relay).last(), Some(&none));
    let gone = put(&relay, &value!({ "house-model": null }));
    assert_eq!((gone.status, &gone.json()["message"]), (404, &value!("There is no override of house-model")));
}

#[test]
fn bad_prices_are_told_and_change_nothing() {
    let relay = Start::new().run();
    let mut tiers = rates("1");
    tiers["tiers"] = value!([{ "above": 0 }]);
    for (overrides, told) in [
        (value!({ "m": rates("-1") }), "m: input must be an amount in USD from 0 to 100000 with at most six decimals"),
        (value!({ "m": rates("1e6") }), "m: input must be an amount in USD from 0 to 100000 with at most six decimals"),
        (
            value!({ "m": rates("0.0000001") }),
            "m: input must be an amount in USD from 0 to 100000 with at most six decimals",
        ),
        (
            value!({ "good": rates("1"), "m": {} }),
            "m: input must be an amount in USD from 0 to 100000 with at most six decimals",
        ),
        (value!({ "m": 3 }), "m: must be an object with rates, or null"),
        (value!({ "m": tiers }), "m: above must be a whole number from 1 to 100000000"),
        (value!({ "": rates("1") }), ": a model's name has 1 to 256 bytes and no control characters"),
        (value!({}), "overrides is empty"),
        (value!([]), "overrides must be an object: model and rates, or null"),
    ] {
        let refused = put(&relay, &overrides);
        assert_eq!((refused.status, refused.json()), (400, value!({ "error": told, "message": told })), "{overrides}");
    }
    assert_eq!(relay.admin("PUT", "/admin/prices", &value!({ "models": {} })).status, 400);
    let found = prices(&relay);
    assert!(
        found["overridesEdition"].is_null() && found["models"].as_array().unwrap().iter().all(|m| m["model"] != "good")
    );
    assert_eq!(relay.count("SELECT count(*) FROM price_overrides"), 0);
}

#[test]
fn prices_are_downloaded_on_demand_and_a_bad_download_changes_nothing() {
    let said = std::sync::Arc::new(Mutex::new((500, String::from("{}"))));
    let script = std::sync::Arc::clone(&said);
    let list = Upstream::start(move |_| {
        let (status, body) = script.lock().unwrap().clone();
        if status == 0 { vec![Step::Reset] } else { json(status, &body) }
    });
    // Stored before a start without the environment's, so that nothing is ever asked of the built-in source.
    let relay = Start::new().run();
    let url = format!("http://{}/prices.json", list.address);
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("INSERT INTO settings VALUES ('pricing_url', ?1, 0, 0)", [&url]).unwrap();
    let relay = relay.kill_and_restart(Start::new().without("PRICING_URL"));
    let refresh = || relay.admin("POST", "/admin/prices/refresh", &Value::Null);
    for (status, body) in [(500, "{}"), (302, ""), (200, "<html>"), (200, "{}"), (200, "[]")] {
        *said.lock().unwrap() = (status, body.to_owned());
        let failed = refresh();
        assert_eq!((failed.status, &failed.json()["error"]), (502, &value!("Failed to download prices")), "{body}");
    }
    assert_eq!(put(&relay, &value!({ "claude-next-1": rates("2") })).status, 200);
    let good = r#"{"claude-next-1":{"litellm_provider":"anthropic","input_cost_per_token":1e-6,"output_cost_per_token":5e-6},
        "claude-next-2":{"litellm_provider":"anthropic","input_cost_per_token":1e-6,"output_cost_per_token":5e-6}}"#;
    *said.lock().unwrap() = (200, good.to_owned());
    let done = refresh();
    assert_eq!(done.status, 200, "{}", done.text());
    let found = prices(&relay);
    assert!(found["fetchedAt"].is_string() && found["ageSeconds"].as_i64().unwrap() < 10);
    assert_eq!(found["priceSource"], url);
    // The admin's own is stronger than the download; the rest of it counts.
    assert_eq!(entry(&found, "claude-next-1")["source"], "override");
    let next = entry(&found, "claude-next-2");
    assert_eq!(
        (&next["source"], &next["input"], &next["cacheWrite5m"]),
        (&value!("downloaded"), &value!(1), &value!(1.25))
    );
    // Models without an account come from the same table.
    let key = relay.add_key("k");
    assert_eq!(relay.get("/v1/models/claude-next-2", &[("x-api-key", &key.clear)]).status, 200);
    // What breaks is said of the price list, not of the API.
    said.lock().unwrap().0 = 0;
    assert_eq!(refresh().json()["message"], "Connection reset by price list server");
    assert_eq!(relay.admin("PUT", "/admin/settings", &value!({ "priceSource": "" })).status, 200);
    assert_eq!((refresh().status, &refresh().json()["error"]), (400, &value!("No price source is set")));
}
