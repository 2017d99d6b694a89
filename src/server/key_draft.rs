//! What an admin sends to make or change a key, read and checked: the rules and words of the contract (section 11), and those
//! of what came later.

use super::Server;
use super::call::Answer;
use super::dialect::invalid;
use super::keys::LIMIT_MAX;
use crate::model::cost::DOLLAR;
use crate::model::{ExpirationMode, time};
use crate::store::KeyDraft;
use serde_json::{Map, Value};

/// Keys that are made at once.
const BATCH_KEYS_MAX: i64 = 500;
/// Tags of a key.
const TAGS_MAX: usize = 20;
const TAG_CHARACTERS_MAX: usize = 50;
/// Models that a key is restricted to.
const ALLOWED_MODELS_MAX: usize = 100;
const MODEL_BYTES_MAX: usize = 256;
/// The largest limit of cost, dollars.
const COST_LIMIT_MAX: f64 = 1_000_000.0;
/// The longest life from the first use: ten years.
const ACTIVATION_DAYS_MAX: i64 = 3650;

type Members = Map<String, Value>;

/// Reads a key that is to be made.
pub(super) fn of_new(server: &Server, body: &Members) -> Result<KeyDraft, Answer> {
    let default_limit = i64::try_from(server.config.default_token_limit).unwrap_or(LIMIT_MAX);
    let read_name = name(body.get("name"))?;
    let read_description = description(body.get("description"))?;
    let token_limit = match body.get("tokenLimit") {
        None => default_limit,
        Some(value) => limit(Some(value), 0, "Token limit must be a non-negative integer")?.unwrap_or(0),
    };
    let is_active = body.get("isActive").filter(|value| !value.is_null());
    Ok(KeyDraft {
        name: Some(read_name),
        description: read_description,
        token_limit: Some(token_limit),
        concurrency_limit: limit(body.get("concurrencyLimit"), 0, "Concurrency limit must be a non-negative integer")?,
        rate_limit_window: limit(
            body.get("rateLimitWindow"),
            1,
            "Rate limit window must be a positive integer (minutes)",
        )?,
        rate_limit_requests: limit(body.get("rateLimitRequests"), 1, "Rate limit requests must be a positive integer")?,
        is_active: boolean(is_active, "isActive must be a boolean")?,
        ..common(server, body)?
    })
}

/// Reads the keys that are to be made from one template: their names are numbered.
pub(super) fn of_many(server: &Server, body: &Members) -> Result<Vec<KeyDraft>, Answer> {
    let wrong = "count must be a whole number from 1 to 500";
    let count = limit(body.get("count"), 1, wrong)?.filter(|count| *count <= BATCH_KEYS_MAX);
    let count = count.ok_or_else(|| invalid(wrong))?;
    let template = body.get("template").and_then(Value::as_object);
    let template = template.ok_or_else(|| invalid("template must be an object"))?;
    let draft = of_new(server, template)?;
    let base = draft.name.clone().unwrap_or_default();
    let numbered = |number: i64| {
        let name = name(Some(&Value::String(format!("{base}_{number}"))))?;
        Ok(KeyDraft { name: Some(name), ..draft.clone() })
    };
    (1..=count).map(numbered).collect()
}

/// Reads what is to be changed of a key.
pub(super) fn of_change(server: &Server, body: &Members) -> Result<KeyDraft, Answer> {
    Ok(KeyDraft {
        name: body.get("name").map(|value| name(Some(value))).transpose()?,
        description: description(body.get("description"))?,
        token_limit: limit(body.get("tokenLimit"), 0, "Token limit must be a non-negative integer")?,
        concurrency_limit: limit(body.get("concurrencyLimit"), 0, "Concurrency limit must be a non-negative integer")?,
        rate_limit_window: limit(
            body.get("rateLimitWindow"),
            0,
            "Rate limit window must be a non-negative integer (minutes)",
        )?,
        rate_limit_requests: limit(
            body.get("rateLimitRequests"),
            0,
            "Rate limit requests must be a non-negative integer",
        )?,
        is_active: boolean(body.get("isActive"), "isActive must be a boolean")?,
        ..common(server, body)?
    })
}

/// What is read alike for a new key and for a change.
fn common(server: &Server, body: &Members) -> Result<KeyDraft, Answer> {
    let cost = |name: &str| cost_limit(body.get(name), name);
    Ok(KeyDraft {
        enable_model_restriction: boolean(
            body.get("enableModelRestriction"),
            "Enable model restriction must be a boolean",
        )?,
        restricted_models: restricted_models(body.get("restrictedModels"))?,
        expires_at: expiry(server, body.get("expiresAt"))?,
        claude_account_id: account(server, body.get("claudeAccountId"))?,
        tags: tags(body.get("tags"))?,
        allowed_models: allowed_models(body.get("allowedModels"))?,
        daily_cost_limit: cost("dailyCostLimit")?,
        weekly_cost_limit: cost("weeklyCostLimit")?,
        monthly_cost_limit: cost("monthlyCostLimit")?,
        total_cost_limit: cost("totalCostLimit")?,
        rate_limit_cost: cost("rateLimitCost")?,
        expiration_mode: expiration_mode(body.get("expirationMode"))?,
        activation_days: activation_days(body.get("activationDays"))?,
        account_fallback: boolean(body.get("accountFallback"), "accountFallback must be a boolean")?,
        ..KeyDraft::default()
    })
}

fn name(value: Option<&Value>) -> Result<String, Answer> {
    let name = value.and_then(Value::as_str).filter(|name| !name.trim().is_empty());
    let name = name.ok_or_else(|| invalid("Name is required and must be a non-empty string"))?;
    // The original counts UTF-16 code units.
    if name.encode_utf16().count() > 100 {
        return Err(invalid("Name must be less than 100 characters"));
    }
    Ok(name.to_owned())
}

fn description(value: Option<&Value>) -> Result<Option<String>, Answer> {
    match value {
        None => Ok(None),
        Some(Value::Null | Value::Bool(false)) => Ok(Some(String::new())),
        Some(Value::String(text)) if text.encode_utf16().count() <= 500 => Ok(Some(text.clone())),
        Some(_) => Err(invalid("Description must be a string with less than 500 characters")),
    }
}

/// Reads a limit: a whole number, or text that is one. Absent, null and empty leave it as it is.
fn limit(value: Option<&Value>, min: i64, wrong: &str) -> Result<Option<i64>, Answer> {
    let number = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => return Ok(None),
        Some(Value::Number(number)) => number
            .as_i64()
            .or_else(|| number.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64)),
        Some(Value::String(text)) => whole_number(text.trim()),
        Some(_) => None,
    };
    match number {
        Some(number) if (min..=LIMIT_MAX).contains(&number) => Ok(Some(number)),
        _ => Err(invalid(wrong)),
    }
}

/// A text that JavaScript takes for a whole number: `5`, `5.0`, `1e3`, `0x10`.
fn whole_number(text: &str) -> Option<i64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        let is_clean = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        return i64::from_str_radix(digits, 16).ok().filter(|_| is_clean);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = text.parse().ok().filter(|_| is_number)?;
    (number.fract() == 0.0 && number.abs() <= LIMIT_MAX as f64).then_some(number as i64)
}

/// Whether null and empty stand for something that is sent, which then means none.
fn is_none(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(str::is_empty)
}

/// Reads an amount of dollars into pico-dollars, to a millionth of a dollar. What is more than nothing stays more.
pub(super) fn cost_limit(value: Option<&Value>, name: &str) -> Result<Option<i64>, Answer> {
    let Some(value) = value else { return Ok(None) };
    if is_none(value) {
        return Ok(Some(0));
    }
    let dollars = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let dollars = dollars.filter(|dollars| (0.0..=COST_LIMIT_MAX).contains(dollars));
    let dollars =
        dollars.ok_or_else(|| invalid(&format!("{name} must be an amount in USD from 0 to {COST_LIMIT_MAX}")))?;
    let millionths = (dollars * 1e6).round() as i64;
    Ok(Some(if dollars > 0.0 { millionths.max(1) } else { 0 } * (DOLLAR / 1_000_000)))
}

fn boolean(value: Option<&Value>, wrong: &str) -> Result<Option<bool>, Answer> {
    value.map(|value| value.as_bool().ok_or_else(|| invalid(wrong))).transpose()
}

fn restricted_models(value: Option<&Value>) -> Result<Option<Vec<String>>, Answer> {
    let Some(value) = value else { return Ok(None) };
    let items = value.as_array().ok_or_else(|| invalid("Restricted models must be an array"))?;
    let names: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    names.map(Some).ok_or_else(|| invalid("Restricted models must be an array of model names"))
}

/// Reads a list of texts, each trimmed and none twice. Null and empty text are the empty list.
fn texts(
    value: Option<&Value>,
    items_max: usize,
    fits: impl Fn(&str) -> bool,
    wrong: &str,
) -> Result<Option<Vec<String>>, Answer> {
    let items = match value {
        None => return Ok(None),
        Some(value) if is_none(value) => return Ok(Some(Vec::new())),
        Some(value) => value.as_array().ok_or_else(|| invalid(wrong))?,
    };
    let mut found: Vec<String> = Vec::new();
    for item in items {
        let text = item.as_str().map(str::trim).filter(|text| !text.is_empty() && fits(text));
        let text = text.ok_or_else(|| invalid(wrong))?;
        if !found.iter().any(|known| known == text) {
            found.push(text.to_owned());
        }
        if found.len() > items_max {
            return Err(invalid(wrong));
        }
    }
    Ok(Some(found))
}

fn tags(value: Option<&Value>) -> Result<Option<Vec<String>>, Answer> {
    let fits = |tag: &str| tag.chars().count() <= TAG_CHARACTERS_MAX && !tag.chars().any(char::is_control);
    texts(value, TAGS_MAX, fits, "Tags must be an array of at most 20 texts of 1 to 50 characters")
}

fn allowed_models(value: Option<&Value>) -> Result<Option<Vec<String>>, Answer> {
    let fits = |model: &str| model.len() <= MODEL_BYTES_MAX;
    texts(value, ALLOWED_MODELS_MAX, fits, "Allowed models must be an array of at most 100 model names")
}

fn expiration_mode(value: Option<&Value>) -> Result<Option<ExpirationMode>, Answer> {
    let Some(value) = value else { return Ok(None) };
    let mode = value.as_str().and_then(ExpirationMode::parse);
    mode.map(Some).ok_or_else(|| invalid("expirationMode must be fixed or activation"))
}

fn activation_days(value: Option<&Value>) -> Result<Option<i64>, Answer> {
    let wrong = "activationDays must be a whole number from 0 to 3650";
    match value {
        Some(value) if is_none(value) => Ok(Some(0)),
        value => match limit(value, 0, wrong)? {
            Some(days) if days > ACTIVATION_DAYS_MAX => Err(invalid(wrong)),
            days => Ok(days),
        },
    }
}

/// Null and empty mean never; anything else must be an instant.
fn expiry(server: &Server, value: Option<&Value>) -> Result<Option<String>, Answer> {
    let text = match value {
        None => return Ok(None),
        Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => "?".to_owned(),
    };
    if text.is_empty() || time::parse(&text).is_some() {
        return Ok(Some(text));
    }
    // Without an offset it is meant in the relay's zone, as in all its pages; it is kept with one.
    let at_ms = time::parse_in(&text, server.store.zone());
    at_ms.map(|at_ms| Some(time::iso(at_ms))).ok_or_else(|| invalid("Expiry must be an ISO 8601 date"))
}

/// Any falsy value unbinds; anything else must be an account that exists.
fn account(server: &Server, value: Option<&Value>) -> Result<Option<String>, Answer> {
    match value {
        None => Ok(None),
        Some(Value::Null | Value::Bool(false)) => Ok(Some(String::new())),
        Some(Value::String(id)) if id.is_empty() || server.store.account_by_id(id).is_some() => Ok(Some(id.clone())),
        Some(_) => Err(invalid("Claude account not found")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn amounts_are_exact_to_a_millionth_and_never_become_none() {
        let read = |value: Value| cost_limit(Some(&value), "x").map_err(|answer| answer.status);
        for (value, pico) in [
            (json!(0), Some(0)),
            (json!(null), Some(0)),
            (json!(""), Some(0)),
            (json!(5), Some(5 * DOLLAR)),
            (json!(0.1), Some(DOLLAR / 10)),
            (json!(0.1 + 0.2), Some(3 * DOLLAR / 10)),
            (json!("12.345678"), Some(12_345_678_000_000)),
            (json!(999_999.999_999), Some(999_999_999_999_000_000)),
            (json!(1_000_000), Some(1_000_000 * DOLLAR)),
            (json!(1e-13), Some(1_000_000)),
        ] {
            assert_eq!(read(value.clone()), Ok(pico), "{value}");
        }
        for value in [json!(-1), json!(1_000_000.5), json!("NaN"), json!("inf"), json!("five"), json!(true), json!([1])]
        {
            assert_eq!(read(value.clone()), Err(400), "{value}");
        }
        assert_eq!(cost_limit(None, "x").map_err(|answer| answer.status), Ok(None));
    }

    #[test]
    fn lists_are_trimmed_single_and_bounded() {
        let read = |value: Value| tags(Some(&value)).map_err(|answer| answer.status);
        let some = |texts: &[&str]| Ok(Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()));
        assert_eq!(read(json!([" a ", "b", "a"])), some(&["a", "b"]));
        assert_eq!(read(json!(null)), some(&[]));
        assert_eq!(read(json!(["é".repeat(50)])), some(&[&"é".repeat(50)]));
        let many: Vec<String> = (0..21).map(|number| number.to_string()).collect();
        for value in [json!("a"), json!([1]), json!([""]), json!(["a\nb"]), json!(["a".repeat(51)]), json!(many)] {
            assert_eq!(read(value.clone()), Err(400), "{value}");
        }
    }
}
