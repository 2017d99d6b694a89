//! The admin's statistics: the members of the recorded answers, and what a query may ask for.

use crate::harness::relay::Start;
use crate::harness::upstream::json;
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::message;
use serde_json::Value;

/// A recorded answer of the original.
fn recorded(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/admin-api/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).expect(&path)).unwrap()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Compares members, their order and their types. Of a list the last items are compared; `apiKeys` is keyed by ids, so its
/// values are.
fn same_shape(expected: &Value, found: &Value, at: &str) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) if at.ends_with("/apiKeys") => {
            if let (Some(expected), Some(found)) = (expected.values().next_back(), found.values().next_back()) {
                same_shape(expected, found, &format!("{at}/*"));
            }
        }
        (Value::Object(expected), Value::Object(found)) => {
            let names: Vec<&String> = expected.keys().collect();
            assert_eq!(found.keys().collect::<Vec<_>>(), names, "{at}");
            for (name, value) in expected {
                same_shape(value, &found[name], &format!("{at}/{name}"));
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            if let Some(expected) = expected.last() {
                same_shape(expected, found.last().expect(at), &format!("{at}[]"));
            }
        }
        // No prices have been downloaded here.
        (Value::String(_), Value::Null) if at.ends_with("lastUpdated") || at.ends_with("nextUpdate") => {}
        _ => assert_eq!(kind(found), kind(expected), "{at}"),
    }
}

fn get(relay: &Relay, target: &str) -> Value {
    let response = relay.admin("GET", target, &Value::Null);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()
}

fn refusal(relay: &Relay, target: &str) -> String {
    let response = relay.admin("GET", target, &Value::Null);
    assert_eq!(response.status, 400, "{target}: {}", response.text());
    response.json()["error"].as_str().unwrap().to_owned()
}

/// A relay that has relayed a few requests: models by key.
fn used() -> (Relay, crate::harness::Key) {
    let upstream = Upstream::start(|request| {
        let model = request.json()["model"].as_str().unwrap().to_owned();
        json(200, &message(&model, 1000, 200))
    });
    let (relay, first) = Relay::with_upstream(&upstream);
    let second = relay.add_key("second");
    for (key, model) in [
        (&first, "claude-sonnet-4-5"),
        (&first, "claude-sonnet-4-5"),
        (&first, "claude-opus-4-6"),
        (&second, "claude-haiku-4-5-20251001"),
    ] {
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(relay.message(key, body.as_bytes()).status, 200);
    }
    (relay, first)
}

#[test]
fn every_answer_has_the_members_of_the_recorded_one() {
    let (relay, key) = used();
    for (target, name) in [
        ("/admin/dashboard", "dashboard"),
        ("/admin/usage-stats?period=daily", "usage-stats.daily"),
        ("/admin/model-stats?period=daily", "model-stats.daily"),
        ("/admin/usage-trend?granularity=day&days=7", "usage-trend.day.7"),
        ("/admin/usage-trend?granularity=hour", "usage-trend.hour"),
        ("/admin/api-keys-usage-trend?granularity=day&days=7", "api-keys-usage-trend.day.7"),
        ("/admin/api-keys-usage-trend?granularity=hour", "api-keys-usage-trend.hour"),
        (&format!("/admin/api-keys/{}/model-stats?period=daily", key.id), "key-model-stats.daily"),
        ("/admin/usage-costs?period=today", "usage-costs.today"),
    ] {
        same_shape(&recorded(name), &get(&relay, target), name);
    }
}

#[test]
fn figures_are_those_of_the_requests() {
    let (relay, key) = used();
    // 1000 input, 200 output, 10 and 20 cache writes, 40 reads, at 3, 15, 3.75, 6 and 0.3 dollars per million, twice.
    let models = get(&relay, "/admin/model-stats?period=monthly");
    let sonnet = &models["data"][0];
    assert_eq!(models["data"][1]["model"], "claude-opus-4-6");
    assert_eq!(sonnet["model"], "claude-sonnet-4-5");
    assert_eq!(
        sonnet["costs"].to_string(),
        r#"{"input":0.006,"output":0.006,"cacheWrite":0.000315,"cacheRead":0.000024,"total":0.012339}"#
    );
    assert_eq!(
        sonnet["formatted"].to_string(),
        r#"{"input":"$0.0060","output":"$0.0060","cacheWrite":"$0.000315","cacheRead":"$0.000024","total":"$0.0123"}"#
    );
    assert_eq!(sonnet["pricing"].to_string(), r#"{"input":3,"output":15,"cacheWrite":3.75,"cacheRead":0.3}"#);
    assert_eq!((&sonnet["requests"], &sonnet["usage"]["totalTokens"]), (&2.into(), &2540.into()));
    let of_key = get(&relay, &format!("/admin/api-keys/{}/model-stats?period=daily", key.id));
    assert_eq!(of_key["data"][0]["costs"], sonnet["costs"]);
    assert_eq!(of_key["data"][0]["usingDynamicPricing"], false);
    let trend = get(&relay, "/admin/usage-trend?granularity=hour");
    assert_eq!(trend["data"].as_array().unwrap().len(), 25);
    assert_eq!(trend["data"][24]["requests"].as_i64().unwrap() + trend["data"][23]["requests"].as_i64().unwrap(), 4);
    let keys = get(&relay, "/admin/api-keys-usage-trend?granularity=hour");
    assert_eq!((&keys["totalApiKeys"], &keys["topApiKeys"][0]), (&2.into(), &key.id.clone().into()));
    let dashboard = get(&relay, "/admin/dashboard");
    assert_eq!(dashboard["data"]["recentActivity"]["apiKeysCreatedToday"], 2);
    // A key that is deleted takes its use out of the totals, not out of the day.
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{}", key.id), &Value::Null).status, 200);
    let dashboard = get(&relay, "/admin/dashboard");
    assert_eq!(dashboard["data"]["overview"]["totalRequestsUsed"], 1);
    assert_eq!(dashboard["data"]["recentActivity"]["requestsToday"], 4);
}

#[test]
fn usage_without_a_price_is_marked_and_counts_as_nothing() {
    let upstream = Upstream::start(|_| json(200, &message("house-model-1", 1000, 200)));
    let (relay, key) = Relay::with_upstream(&upstream);
    assert_eq!(relay.message(&key, crate::samples::REQUEST).status, 200);
    for target in [
        "/admin/model-stats".to_owned(),
        format!("/admin/api-keys/{}/model-stats", key.id),
        "/admin/usage-costs".to_owned(),
    ] {
        let data = get(&relay, &target)["data"].clone();
        let item = data.get("modelCosts").map_or(&data[0], |models| &models[0]);
        assert_eq!((&item["model"], &item["unpriced"]), (&"house-model-1".into(), &true.into()), "{target}");
        assert_eq!(item["costs"]["total"].to_string(), "0");
        assert_eq!(item["formatted"]["total"], "$0.000000");
    }
    assert_eq!(get(&relay, "/admin/usage-costs")["data"]["totalCosts"]["unpriced"], true);
    let unpriced = "SELECT count(*) FROM ledger WHERE billed = 1 AND cost_input IS NULL AND price_version IS NULL";
    assert_eq!(relay.count(unpriced), 1);
}

#[test]
fn ranges_are_bounded_and_what_cannot_be_read_is_empty() {
    let upstream = Upstream::start(|_| json(200, &message("claude-opus-4-6", 1, 2)));
    let (relay, key) = Relay::with_upstream(&upstream);
    assert_eq!(relay.message(&key, crate::samples::REQUEST).status, 200);
    for (days, items) in
        [("", 7), ("0", 7), ("x", 7), ("-3", 0), ("1", 1), ("30", 30), ("366", 366), ("1000000000", 366)]
    {
        for route in ["usage-trend", "api-keys-usage-trend"] {
            let trend = get(&relay, &format!("/admin/{route}?days={days}"));
            assert_eq!(trend["data"].as_array().unwrap().len(), items, "{route} {days}");
        }
    }
    let hours = |route: &str, start: &str, end: &str| {
        format!("/admin/{route}?granularity=hour&startDate={start}&endDate={end}")
    };
    let (start, day_later) = ("2026-01-01%2000:00:00", "2026-01-02%2000:00:00");
    assert_eq!(get(&relay, &hours("usage-trend", start, day_later))["data"].as_array().unwrap().len(), 25);
    let too_long = hours("usage-trend", start, "2026-01-02+00:00:01");
    assert_eq!(refusal(&relay, &too_long), "小时粒度查询时间范围不能超过24小时");
    assert_eq!(
        refusal(&relay, &hours("api-keys-usage-trend", start, "2027-01-01")),
        "Date range cannot exceed 31 days"
    );
    for route in ["usage-trend", "api-keys-usage-trend"] {
        for (from, to) in [(day_later, start), ("soon", "later")] {
            assert_eq!(get(&relay, &hours(route, from, to))["data"].to_string(), "[]", "{route}");
        }
    }
    let custom = |start: &str, end: &str| {
        format!("/admin/api-keys/{}/model-stats?period=custom&startDate={start}&endDate={end}", key.id)
    };
    let reversed = custom("2026-01-02", "2026-01-01");
    assert_eq!(refusal(&relay, &reversed), "Start date must be before or equal to end date");
    assert_eq!(refusal(&relay, &custom("2026-01-01", "2026-02-01")), "Date range cannot exceed 31 days");
    // A range without use is empty; the original showed today's.
    for empty in [custom("2026-01-01", "2026-01-31"), custom("soon", "later"), "/admin/api-keys/*/model-stats".into()] {
        assert_eq!(get(&relay, &empty)["data"].to_string(), "[]", "{empty}");
    }
    let half = format!("/admin/api-keys/{}/model-stats?period=custom&startDate=2026-01-01", key.id);
    assert_eq!(get(&relay, &half)["data"].as_array().unwrap().len(), 1);
}

/// A price list in LiteLLM's form with one model that the program does not know and one that it does.
const PRICE_LIST: &str = r#"{"claude-next-1":{"input_cost_per_token":2e-06,"output_cost_per_token":8e-06,"litellm_provider":"anthropic"},
    "claude-opus-4-6":{"input_cost_per_token":1,"output_cost_per_token":1,"litellm_provider":"anthropic"}}"#;

#[test]
fn downloaded_prices_fill_the_gaps_and_are_kept() {
    let lists = Upstream::start(|_| json(200, PRICE_LIST));
    let upstream = Upstream::start(|request| {
        let model = request.json()["model"].as_str().unwrap().to_owned();
        json(200, &message(&model, 1000, 200))
    });
    let start = || Start::new().upstream(&upstream).with("PRICING_URL", &lists.url());
    let relay = start().run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("somebody");
    let status = |relay: &Relay| get(relay, "/admin/usage-costs")["data"]["pricingServiceStatus"].clone();
    eventually("the list has come", || status(&relay)["lastUpdated"].is_string());
    assert!(status(&relay)["nextUpdate"].is_string());
    assert!(lists.received()[0].body.is_empty());
    for model in ["claude-next-1", "claude-opus-4-6"] {
        let body = format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(relay.message(&key, body.as_bytes()).status, 200);
    }
    let costs = get(&relay, "/admin/usage-costs");
    let models = costs["data"]["modelCosts"].as_array().unwrap();
    let of = |name: &str| models.iter().find(|item| item["model"] == name).unwrap();
    // 1000 at 2, 200 at 8, 10 and 20 writes at 2.5 and 4, 40 reads at 0.2 dollars per million.
    assert_eq!(of("claude-next-1")["costs"]["total"].to_string(), "0.003713");
    assert_eq!(of("claude-next-1")["usingDynamicPricing"], true);
    assert_eq!(of("claude-opus-4-6")["usingDynamicPricing"], false);
    assert_eq!(of("claude-opus-4-6")["costs"]["input"].to_string(), "0.005");
    let versions = "SELECT count(*) FROM ledger WHERE price_version LIKE 'fetched %'";
    assert_eq!(relay.count(versions), 1);
    // After a restart the list is still there and is not asked for again.
    let known = status(&relay);
    let relay = relay.kill_and_restart(start());
    assert_eq!(status(&relay), known);
    assert_eq!(lists.received().len(), 1);
}
