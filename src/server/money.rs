//! Costs and prices as the contract writes them (section 12.16). Amounts are exact until here; a JSON number is the double
//! nearest to the exact value, the text is rounded half up from it.
//!
//! Readers of the original expect numbers everywhere. So usage without a price counts as nothing in the numbers, and an
//! item that holds such usage says so with a member of its own, `"unpriced":true`, which priced items do not have. Likewise
//! `webSearch` stands beside the four kinds of the contract only where something was paid for it; it is in the total.

use crate::model::cost::{self, DOLLAR};
use crate::model::price::{PriceSource, Rates};
use crate::model::{Bill, Cost, PriceTable};
use serde_json::{Map, Value, json};

/// How long downloaded prices are held for fresh, milliseconds.
pub(super) const PRICES_LIFE_MS: i64 = 86_400_000;

/// An amount in dollars, a whole one without `.0`, as JavaScript writes it.
pub(super) fn dollars(pico: i64) -> Value {
    if pico % DOLLAR == 0 { json!(pico / DOLLAR) } else { json!(cost::dollars(pico)) }
}

/// The five members of `costs` and of `formatted`, each written by `write`.
fn members(cost: &Cost, names: [&str; 5], write: impl Fn(i64) -> Value) -> Value {
    let amounts = [cost.input, cost.output, cost.cache_write, cost.cache_read, cost.total()];
    let mut found: Map<String, Value> =
        names.into_iter().zip(amounts).map(|(name, amount)| (name.to_owned(), write(amount))).collect();
    if cost.web_search > 0 {
        found.insert("webSearch".to_owned(), write(cost.web_search));
    }
    Value::Object(found)
}

const BY_KIND: [&str; 5] = ["input", "output", "cacheWrite", "cacheRead", "total"];
const TOTALS: [&str; 5] = ["inputCost", "outputCost", "cacheCreateCost", "cacheReadCost", "totalCost"];

fn text(pico: i64) -> Value {
    Value::String(cost::dollars_text(pico))
}

/// `costs` of a model.
pub(super) fn costs(cost: &Cost) -> Value {
    members(cost, BY_KIND, dollars)
}

/// `formatted` of a model.
pub(super) fn formatted(cost: &Cost) -> Value {
    members(cost, BY_KIND, text)
}

/// `totalCosts` of all models.
pub(super) fn total_costs(cost: &Cost) -> Value {
    let mut totals = members(cost, TOTALS, dollars);
    totals["formatted"] = members(cost, TOTALS, text);
    totals
}

/// `pricing`: dollars per million tokens for a small prompt, now. Zeros where there is no price.
pub(super) fn pricing(prices: &PriceTable, model: &str, now_ms: i64) -> Value {
    let none = Rates::default();
    let found = prices.find(model);
    let rates = found.as_ref().and_then(|found| found.price.rates(now_ms, 0)).unwrap_or(&none);
    let per_million = |rate: i64| dollars(rate.saturating_mul(1_000_000));
    json!({
        "input": per_million(rates.input),
        "output": per_million(rates.output),
        "cacheWrite": per_million(rates.write_5m),
        "cacheRead": per_million(rates.read),
    })
}

/// `usingDynamicPricing`: whether the price is a downloaded one.
pub(super) fn is_fetched(prices: &PriceTable, model: &str) -> bool {
    prices.find(model).is_some_and(|found| found.source == PriceSource::Downloaded)
}

/// Adds `"unpriced":true` to an item that holds usage without a price, and of how many requests it is.
pub(super) fn mark_unpriced(item: &mut Value, bill: &Bill) {
    if bill.unpriced_requests > 0 {
        item["unpriced"] = json!(true);
        item["unpricedRequests"] = json!(bill.unpriced_requests);
    }
}
