//! Prices of the admin's own: stronger than every table, read exactly, with the multipliers that the table has.

use super::tables::{PER_MILLION, WHOLE};
use super::{Edition, Fault, Price, PriceTable, RateLine, Rates, decimal};
use crate::model::time;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Overrides that there may be.
pub const OVERRIDES_MAX: usize = 500;
/// Rate lines of one override, beside the first.
const TIERS_MAX: usize = 8;
/// The highest rate, dollars per million tokens.
const RATE_MAX: i64 = 100_000;
/// The highest price of one search, dollars.
const SEARCH_MAX: i64 = 1000;
/// The largest prompt that a tier may begin behind, tokens.
const ABOVE_MAX: i64 = 100_000_000;

impl PriceTable {
    /// This table with other overrides: model and rates as the admin gave them. They are one edition, named by the instant of
    /// the last change (Unix milliseconds).
    ///
    /// # Errors
    /// The first model and member that are wrong.
    pub fn with_overrides(&self, overrides: &[(String, Value)], changed_at_ms: i64) -> Result<PriceTable, Fault> {
        if overrides.len() > OVERRIDES_MAX {
            return Err(Fault(format!("There may be at most {OVERRIDES_MAX} overrides")));
        }
        let base = PriceTable { overrides: None, ..self.clone() };
        let mut prices = HashMap::new();
        for (model, rates) in overrides {
            let price = base.overriding(model, rates).map_err(|fault| Fault(format!("{model}: {fault}")))?;
            prices.insert(model.clone(), Arc::new(price));
        }
        let version = format!("override {}", time::iso(changed_at_ms));
        let edition = Edition { version, prices, web_search: self.own.web_search };
        Ok(PriceTable { overrides: (!overrides.is_empty()).then_some(edition), ..base })
    }

    fn overriding(&self, model: &str, rates: &Value) -> Result<Price, String> {
        if !(1..=256).contains(&model.len()) || model.chars().any(char::is_control) {
            return Err("a model's name has 1 to 256 bytes and no control characters".to_owned());
        }
        let members = rates.as_object().ok_or("must be an object with rates, or null")?;
        let known = ["input", "output", "cacheWrite5m", "cacheWrite1h", "cacheRead", "webSearch", "tiers"];
        if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("{unknown} is not known here"));
        }
        let mut lines = vec![RateLine { from_ms: i64::MIN, above: 0, rates: rates_of(members)? }];
        for tier in tiers(members)? {
            lines.push(tier_line(tier, lines.last().map_or(0, |line| line.above))?);
        }
        let table = self.find(model);
        let searches = match members.get("webSearch") {
            None | Some(Value::Null) => table.as_ref().map_or(self.own.web_search, |found| found.price.web_search),
            Some(value) => amount(value, WHOLE, SEARCH_MAX).ok_or_else(|| wrong("webSearch", SEARCH_MAX))?,
        };
        let (fast, geo) = table.map(|found| (found.price.fast, found.price.geo.clone())).unwrap_or_default();
        Ok(Price { lines, fast, geo, web_search: searches })
    }
}

fn tiers(members: &Map<String, Value>) -> Result<&[Value], String> {
    match members.get("tiers") {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(tiers)) if tiers.len() <= TIERS_MAX => Ok(tiers),
        Some(_) => Err(format!("tiers must be an array of at most {TIERS_MAX}")),
    }
}

/// A tier, which must begin behind the one before it.
fn tier_line(tier: &Value, before: i64) -> Result<RateLine, String> {
    let members = tier.as_object().ok_or("a tier must be an object")?;
    let known = ["above", "input", "output", "cacheWrite5m", "cacheWrite1h", "cacheRead"];
    if let Some(unknown) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(format!("{unknown} is not known in a tier"));
    }
    let above = members.get("above").and_then(Value::as_i64).filter(|above| (1..=ABOVE_MAX).contains(above));
    let above = above.ok_or_else(|| format!("above must be a whole number from 1 to {ABOVE_MAX}"))?;
    if above <= before {
        return Err("tiers must be in rising order of above".to_owned());
    }
    Ok(RateLine { from_ms: i64::MIN, above, rates: rates_of(members)? })
}

fn rates_of(members: &Map<String, Value>) -> Result<Rates, String> {
    let rate = |name: &str| {
        let value = members.get(name).unwrap_or(&Value::Null);
        amount(value, PER_MILLION, RATE_MAX).ok_or_else(|| wrong(name, RATE_MAX))
    };
    Ok(Rates {
        input: rate("input")?,
        output: rate("output")?,
        write_5m: rate("cacheWrite5m")?,
        write_1h: rate("cacheWrite1h")?,
        read: rate("cacheRead")?,
    })
}

fn wrong(name: &str, dollars_max: i64) -> String {
    format!("{name} must be an amount in USD from 0 to {dollars_max} with at most six decimals")
}

/// A number, or the text of one, times ten to the power of `shift`; exactly or not at all. No amount has more than six
/// decimals.
fn amount(value: &Value, shift: i32, dollars_max: i64) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.len() <= 40 => text.clone(),
        _ => return None,
    };
    let millionths = decimal::scaled(&text, PER_MILLION).filter(|amount| *amount <= dollars_max * 1_000_000)?;
    millionths.checked_mul(10_i64.checked_pow(u32::try_from(shift - PER_MILLION).ok()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Line, Tokens};
    use serde_json::json;

    fn rates(input: Value) -> Value {
        json!({ "input": input, "output": "2.5", "cacheWrite5m": 0, "cacheWrite1h": 1e-6, "cacheRead": 0.1 })
    }

    fn with(model: &str, rates: Value) -> Result<PriceTable, Fault> {
        PriceTable::own().unwrap().with_overrides(&[(model.to_owned(), rates)], 1000)
    }

    #[test]
    fn an_override_is_stronger_than_the_table_and_keeps_its_multipliers() {
        let table = with("claude-opus-4-6", rates(json!(1.25))).unwrap();
        let found = table.find("claude-opus-4-6[1m]").unwrap();
        assert_eq!(found.version, "override 1970-01-01T00:00:01.000Z");
        let found = *found.price.rates(0, 1 << 40).unwrap();
        assert_eq!(found, Rates { input: 1_250_000, output: 2_500_000, write_5m: 0, write_1h: 1, read: 100_000 });
        let line = Line {
            model: "claude-opus-4-6".into(),
            speed: Some("fast".into()),
            web_search_requests: 1,
            tokens: Some(Tokens { input: 4, ..Tokens::default() }),
            ..Line::default()
        };
        let (cost, version) = table.cost(&line).unwrap();
        assert_eq!((cost.input, cost.web_search), (4 * 6 * 1_250_000, 10_000_000_000));
        assert!(version.starts_with("override "));
        // Its other names are other names.
        assert_eq!(table.find("claude-opus-4-6-20260205").unwrap().version, PriceTable::own().unwrap().edition());
        let fetched =
            table.with_fetched(br#"{"claude-z":{"input_cost_per_token":1e-6,"output_cost_per_token":1e-6}}"#, 5);
        assert!(fetched.unwrap().find("claude-opus-4-6").unwrap().version.starts_with("override "));
        assert!(table.with_overrides(&[], 2000).unwrap().find("claude-opus-4-6").unwrap().version.starts_with("20"));
    }

    #[test]
    fn tiers_hold_above_their_prompts() {
        let mut given = rates(json!(1));
        let mut tier = rates(json!(7));
        tier["above"] = json!(1000);
        given["tiers"] = json!([tier]);
        given["webSearch"] = json!("0.02");
        let table = with("own", given.clone()).unwrap();
        let price = table.find("own").unwrap().price;
        assert_eq!((price.rates(0, 1000).unwrap().input, price.rates(0, 1001).unwrap().input), (1_000_000, 7_000_000));
        assert_eq!(price.web_search, 20_000_000_000);
        given["tiers"] = json!([tier, tier]);
        assert!(with("own", given).unwrap_err().to_string().contains("rising order"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (given, named) in [
            (rates(json!(-1)), "m: input"),
            (rates(json!("1e9")), "m: input"),
            (rates(json!(0.0000001)), "m: input"),
            (rates(json!("three")), "m: input"),
            (rates(json!(null)), "m: input"),
            (json!({ "input": 1 }), "m: output"),
            (json!([1]), "m: must be an object"),
            (json!({ "inptu": 1 }), "m: inptu"),
        ] {
            let fault = with("m", given.clone()).unwrap_err().to_string();
            assert!(fault.starts_with(named), "{given}: {fault}");
        }
        for (member, value) in
            [("tiers", json!(1)), ("tiers", json!([1])), ("webSearch", json!(-1)), ("webSearch", json!("x"))]
        {
            let mut given = rates(json!(1));
            given[member] = value;
            assert!(with("m", given).is_err(), "{member}");
        }
        assert!(with("", rates(json!(1))).is_err() && with("a\nb", rates(json!(1))).is_err());
        let many: Vec<_> = (0..=OVERRIDES_MAX).map(|number| (number.to_string(), rates(json!(1)))).collect();
        assert!(PriceTable::own().unwrap().with_overrides(&many, 0).is_err());
    }
}
