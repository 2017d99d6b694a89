//! Where prices come from: the table of the repository, and the download in LiteLLM's form
//! (`model_prices_and_context_window.json`), which operators of the original already fetch.

use super::{Edition, Factor, Price, PriceTable, RateLine, Rates, decimal};
use crate::model::time;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

/// The repository's table.
const OWN: &str = include_str!("../prices.json");
/// The largest download that is read, in bytes.
pub const FETCHED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Dollars per million tokens, in pico-dollars a token: ten to this power.
pub(super) const PER_MILLION: i32 = 6;
/// Dollars in pico-dollars: ten to this power.
pub(super) const WHOLE: i32 = 12;
/// What LiteLLM's names of tiers say: `…_above_200k_tokens`.
const FETCHED_TIER_ABOVE: i64 = 200_000;
/// Decimals of a multiplier.
const FACTOR_DECIMALS: i32 = 3;

/// Why a table cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault(pub(super) String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnTable<'a> {
    version: &'a str,
    #[serde(rename = "about")]
    _about: &'a str,
    #[serde(borrow)]
    web_search: &'a RawValue,
    models: Vec<OwnModel<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnModel<'a> {
    id: &'a str,
    #[serde(default, borrow)]
    aliases: Vec<&'a str>,
    fast: Option<&'a RawValue>,
    #[serde(default, borrow)]
    geo: BTreeMap<&'a str, &'a RawValue>,
    rates: Vec<OwnRates<'a>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnRates<'a> {
    from: Option<&'a str>,
    #[serde(default)]
    above: i64,
    #[serde(borrow)]
    input: &'a RawValue,
    output: &'a RawValue,
    write_5m: &'a RawValue,
    write_1h: &'a RawValue,
    read: &'a RawValue,
}

fn number(value: &RawValue, shift: i32) -> Result<i64, Fault> {
    decimal::scaled(value.get(), shift).ok_or_else(|| Fault(format!("{} is not a usable amount", value.get())))
}

fn factor(value: &RawValue) -> Result<Factor, Fault> {
    let numerator = number(value, FACTOR_DECIMALS)?;
    Ok(Factor { numerator, denominator: 1000 })
}

impl OwnRates<'_> {
    fn line(&self) -> Result<RateLine, Fault> {
        let from_ms = match self.from {
            None => i64::MIN,
            Some(day) => time::parse(day).ok_or_else(|| Fault(format!("{day} is no date")))?,
        };
        let rates = Rates {
            input: number(self.input, PER_MILLION)?,
            output: number(self.output, PER_MILLION)?,
            write_5m: number(self.write_5m, PER_MILLION)?,
            write_1h: number(self.write_1h, PER_MILLION)?,
            read: number(self.read, PER_MILLION)?,
        };
        Ok(RateLine { from_ms, above: self.above, rates })
    }
}

impl OwnModel<'_> {
    fn price(&self, web_search: i64) -> Result<Price, Fault> {
        let mut geo = Vec::new();
        for (place, value) in &self.geo {
            geo.push(((*place).to_owned(), factor(value)?));
        }
        Ok(Price {
            lines: self.rates.iter().map(OwnRates::line).collect::<Result<_, _>>()?,
            fast: self.fast.map(factor).transpose()?,
            geo,
            web_search,
        })
    }
}

/// An entry of LiteLLM's table. A member that is not a number says nothing.
#[derive(Deserialize)]
struct FetchedModel<'a> {
    #[serde(borrow)]
    litellm_provider: Option<&'a RawValue>,
    input_cost_per_token: Option<&'a RawValue>,
    output_cost_per_token: Option<&'a RawValue>,
    cache_creation_input_token_cost: Option<&'a RawValue>,
    cache_creation_input_token_cost_above_1hr: Option<&'a RawValue>,
    cache_read_input_token_cost: Option<&'a RawValue>,
    input_cost_per_token_above_200k_tokens: Option<&'a RawValue>,
    output_cost_per_token_above_200k_tokens: Option<&'a RawValue>,
    cache_creation_input_token_cost_above_200k_tokens: Option<&'a RawValue>,
    cache_creation_input_token_cost_above_1hr_above_200k_tokens: Option<&'a RawValue>,
    cache_read_input_token_cost_above_200k_tokens: Option<&'a RawValue>,
}

impl FetchedModel<'_> {
    fn is_of_anthropic(&self) -> bool {
        self.litellm_provider.is_some_and(|provider| provider.get() == "\"anthropic\"")
    }

    /// `None` when a rate that every request needs is missing or cannot be kept exactly. Rates of caches that are missing
    /// follow from the input's by the vendor's general rule: 1.25, 2 and 0.1 times.
    fn price(&self, web_search: i64) -> Option<Price> {
        let rate = |value: Option<&RawValue>| decimal::scaled(value?.get(), WHOLE);
        let or_rule = |value: Option<&RawValue>, input: i64, percent: i64| match value {
            None => input.checked_mul(percent).filter(|rate| rate % 100 == 0).map(|rate| rate / 100),
            some => rate(some),
        };
        let input = rate(self.input_cost_per_token)?;
        let base = Rates {
            input,
            output: rate(self.output_cost_per_token)?,
            write_5m: or_rule(self.cache_creation_input_token_cost, input, 125)?,
            write_1h: or_rule(self.cache_creation_input_token_cost_above_1hr, input, 200)?,
            read: or_rule(self.cache_read_input_token_cost, input, 10)?,
        };
        let mut lines = vec![RateLine { from_ms: i64::MIN, above: 0, rates: base }];
        if let Some(input) = rate(self.input_cost_per_token_above_200k_tokens) {
            let rates = Rates {
                input,
                output: rate(self.output_cost_per_token_above_200k_tokens).unwrap_or(base.output),
                write_5m: or_rule(self.cache_creation_input_token_cost_above_200k_tokens, input, 125)?,
                write_1h: or_rule(self.cache_creation_input_token_cost_above_1hr_above_200k_tokens, input, 200)?,
                read: or_rule(self.cache_read_input_token_cost_above_200k_tokens, input, 10)?,
            };
            lines.push(RateLine { from_ms: i64::MIN, above: FETCHED_TIER_ABOVE, rates });
        }
        Some(Price { lines, fast: None, geo: Vec::new(), web_search })
    }
}

impl PriceTable {
    /// The table of the repository alone.
    ///
    /// # Errors
    /// It cannot be read; a test keeps that from being released.
    pub fn own() -> Result<PriceTable, Fault> {
        Ok(PriceTable { own: own(OWN)?, fetched: None, overrides: None })
    }

    /// This table with downloaded prices in place of earlier ones. `self` stays as it is, so a bad download changes nothing.
    ///
    /// # Errors
    /// It is too large, is no such table, or has not one price that can be used.
    pub fn with_fetched(&self, json: &[u8], at_ms: i64) -> Result<PriceTable, Fault> {
        let mut prices = HashMap::new();
        for (name, entry) in entries(json)? {
            let model = serde_json::from_str::<FetchedModel<'_>>(entry.get()).ok();
            if let Some(price) = model.and_then(|model| model.price(self.own.web_search)) {
                prices.insert(name, Arc::new(price));
            }
        }
        if prices.is_empty() {
            return Err(Fault("the price table has no price of a Claude model".to_owned()));
        }
        let version = format!("fetched {}", time::iso(at_ms));
        let edition = Edition { version, prices, web_search: self.own.web_search };
        Ok(PriceTable { fetched: Some((edition, at_ms)), ..self.clone() })
    }

    /// The part of a download that [`PriceTable::with_fetched`] reads: of some thousand models a few dozen.
    ///
    /// # Errors
    /// It is too large or is no such table.
    pub fn claude_part(json: &[u8]) -> Result<String, Fault> {
        serde_json::to_string(&entries(json)?).map_err(|error| Fault(error.to_string()))
    }
}

/// The entries that are of Anthropic or carry a name of Claude.
fn entries(json: &[u8]) -> Result<BTreeMap<String, &RawValue>, Fault> {
    if json.len() > FETCHED_BYTES_MAX {
        return Err(Fault(format!("the price table has more than {FETCHED_BYTES_MAX} bytes")));
    }
    let mut entries: BTreeMap<String, &RawValue> =
        serde_json::from_slice(json).map_err(|error| Fault(format!("the price table is no JSON object: {error}")))?;
    entries.retain(|name, entry| {
        let model = serde_json::from_str::<FetchedModel<'_>>(entry.get());
        model.is_ok_and(|model| name.starts_with("claude") || model.is_of_anthropic())
    });
    Ok(entries)
}

fn own(json: &str) -> Result<Edition, Fault> {
    let table: OwnTable<'_> = serde_json::from_str(json).map_err(|error| Fault(error.to_string()))?;
    let web_search = number(table.web_search, WHOLE)?;
    let mut prices = HashMap::new();
    for model in &table.models {
        let price = Arc::new(model.price(web_search)?);
        for name in model.aliases.iter().chain([&model.id]) {
            if prices.insert((*name).to_owned(), Arc::clone(&price)).is_some() {
                return Err(Fault(format!("{name} has two prices")));
            }
        }
    }
    Ok(Edition { version: table.version.to_owned(), prices, web_search })
}
