//! `/admin/prices`: the table in force, what has no price, and prices of the admin's own.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::money::dollars;
use super::session::Admin;
use crate::error::Kind;
use crate::model::price::{Found, PriceSource, Rates};
use crate::model::time::{Buckets, day_after, day_text, iso, now_ms};
use serde_json::{Map, Value, json};

type Outcome = Result<Answer, Answer>;

/// Local days in which a model without a price counts as seen lately.
const LATELY_DAYS: i64 = 30;
/// Models without a price of one answer.
const UNPRICED_MAX: usize = 100;

/// `GET /admin/prices`.
pub(crate) fn show(server: &Server, _: &Admin, _: &Call) -> Outcome {
    Ok(Answer::data(state(server)?))
}

/// `PUT /admin/prices`: sets overrides, or removes them with `null`; all or none.
pub(crate) fn update(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    if let Some(unknown) = call.body.keys().find(|name| *name != "overrides") {
        return Err(invalid(&format!("{unknown} is not known here")));
    }
    let overrides = call.member("overrides").and_then(Value::as_object);
    let overrides = overrides.ok_or_else(|| invalid("overrides must be an object: model and rates, or null"))?;
    if overrides.is_empty() {
        return Err(invalid("overrides is empty"));
    }
    let changes: Vec<(String, Option<Value>)> = overrides
        .iter()
        .map(|(model, rates)| (model.clone(), Some(rates.clone()).filter(|rates| !rates.is_null())))
        .collect();
    server.store.change_overrides(&changes, now_ms()).map_err(|error| match error.kind() {
        Kind::Invalid => invalid(error.message()),
        _ => titled("Failed to save prices")(error),
    })?;
    let names: Vec<&str> = changes.iter().map(|(model, _)| model.as_str()).collect();
    log::info!("{} changed the prices of {names:?}", admin.username);
    saved("Prices saved", server)
}

/// `POST /admin/prices/refresh`: downloads the table now.
pub(crate) fn refresh(server: &Server, admin: &Admin, _: &Call) -> Outcome {
    let url = server.settings.now().pricing_url.clone();
    if url.is_empty() {
        return Err(invalid("No price source is set"));
    }
    let fetched = server.relay.fetch_prices(&url).map_err(titled("Failed to download prices"))?;
    // A download that is no price table is the fault of whoever offers it.
    let names = server.store.take_fetched_prices(&fetched, now_ms()).map_err(|error| {
        log::warn!("the price table of {url} was not taken: {error}");
        super::dialect::plain(502, "Failed to download prices", "The price source did not answer with usable prices")
    })?;
    log::info!("{} downloaded prices: {names} names have one", admin.username);
    saved(&format!("{names} names have a price"), server)
}

fn saved(message: &str, server: &Server) -> Outcome {
    Ok(Answer::json(200, &json!({ "success": true, "message": message, "data": state(server)? })))
}

fn state(server: &Server) -> Result<Value, Answer> {
    let now = now_ms();
    let prices = server.store.prices();
    let today = Buckets::of(now, server.store.zone()).day;
    let unpriced = server.store.unpriced_models(day_after(today, 1 - LATELY_DAYS), UNPRICED_MAX);
    let unpriced = unpriced.map_err(titled("Failed to read prices"))?;
    let fetched_at_ms = prices.fetched_at_ms();
    Ok(json!({
        "edition": prices.edition(),
        "names": prices.names(),
        "fetchedAt": fetched_at_ms.map(iso),
        "ageSeconds": fetched_at_ms.map(|at| (now - at).max(0) / 1000),
        "priceSource": server.settings.now().pricing_url,
        "overridesEdition": prices.overrides_edition(),
        "unpriced": unpriced.iter().map(|(model, requests, day)| json!({
            "model": model, "requests": requests, "lastDay": day_text(*day), "hasPriceNow": prices.find(model).is_some(),
        })).collect::<Vec<_>>(),
        "models": prices.all().into_iter().map(|(name, found)| entry(name, &found, now)).collect::<Vec<_>>(),
    }))
}

fn entry(name: &str, found: &Found<'_>, now_ms: i64) -> Value {
    let price = found.price;
    let current = price.rates(now_ms, 0);
    let source = match found.source {
        PriceSource::BuiltIn => "builtin",
        PriceSource::Downloaded => "downloaded",
        PriceSource::Override => "override",
    };
    let mut entry = Map::new();
    entry.insert("model".to_owned(), json!(name));
    entry.insert("source".to_owned(), json!(source));
    entry.insert("edition".to_owned(), json!(found.version));
    add_rates(&mut entry, current.unwrap_or(&Rates::default()));
    let others = price.lines().filter(|(_, _, rates)| current.is_none_or(|current| !std::ptr::eq(*rates, current)));
    let tiers = others.map(|(from_ms, above, rates)| {
        let mut tier = Map::new();
        tier.insert("from".to_owned(), json!((from_ms > i64::MIN).then(|| iso(from_ms))));
        tier.insert("above".to_owned(), json!(above));
        add_rates(&mut tier, rates);
        Value::Object(tier)
    });
    entry.insert("tiers".to_owned(), tiers.collect());
    entry.insert("webSearch".to_owned(), dollars(price.web_search()));
    entry.insert("fast".to_owned(), json!(price.fast()));
    let geo: Map<String, Value> = price.geo().map(|(place, factor)| (place.to_owned(), json!(factor))).collect();
    entry.insert("geo".to_owned(), Value::Object(geo));
    Value::Object(entry)
}

/// Dollars per million tokens.
fn add_rates(entry: &mut Map<String, Value>, rates: &Rates) {
    let named = [
        ("input", rates.input),
        ("output", rates.output),
        ("cacheWrite5m", rates.write_5m),
        ("cacheWrite1h", rates.write_1h),
        ("cacheRead", rates.read),
    ];
    for (name, rate) in named {
        entry.insert(name.to_owned(), dollars(rate.saturating_mul(1_000_000)));
    }
}
