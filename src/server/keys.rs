//! `/admin/api-keys`: rules, wording and JSON of the contract (section 11), with what `PUT` ignored there taken up.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::session::Admin;
use crate::model::time::{self, iso, iso_or_empty, now_ms};
use crate::model::{ApiKey, Usage};
use crate::store::{KeyDraft, KeyUsage};
use serde::Serialize;
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

const DAY_MS: i64 = 86_400_000;
/// The largest limit: what a JSON number holds exactly.
const LIMIT_MAX: i64 = (1 << 53) - 1;

/// A key as a list shows it. Never with its hash.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    token_limit: i64,
    concurrency_limit: i64,
    rate_limit_window: i64,
    rate_limit_requests: i64,
    is_active: bool,
    claude_account_id: &'a str,
    enable_model_restriction: bool,
    restricted_models: &'a [String],
    created_at: String,
    last_used_at: String,
    expires_at: &'a str,
    created_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    usage: ShownUsage,
    current_concurrency: i64,
}

/// `GET /admin/api-keys`.
pub(crate) fn list(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let failed = titled("Failed to get API keys");
    let (store, now) = (&server.store, now_ms());
    let keys = store.keys().map_err(&failed)?;
    let usage = store.keys_usage(now).map_err(&failed)?;
    let shown: Vec<Shown<'_>> = keys.iter().map(|key| shown(server, key, &usage.of(key.seq), now)).collect();
    Ok(Answer::data(shown))
}

fn shown<'a>(server: &Server, key: &'a ApiKey, usage: &KeyUsage, now: i64) -> Shown<'a> {
    Shown {
        id: &key.id,
        name: &key.name,
        description: &key.description,
        token_limit: key.token_limit,
        concurrency_limit: key.concurrency_limit,
        rate_limit_window: key.rate_limit_window,
        rate_limit_requests: key.rate_limit_requests,
        is_active: key.is_active,
        claude_account_id: &key.claude_account_id,
        enable_model_restriction: key.enable_model_restriction,
        restricted_models: &key.restricted_models,
        created_at: iso(key.created_at_ms),
        last_used_at: iso_or_empty(key.last_used_at_ms),
        expires_at: &key.expires_at,
        created_by: "admin",
        updated_at: key.updated_at_ms.map(iso),
        usage: ShownUsage::new(usage, key.created_at_ms, now),
        current_concurrency: server.relay.running(key.seq),
    }
}

/// The original's usage object (section 11.2): three buckets and the averages over the key's life.
#[derive(Serialize)]
pub(crate) struct ShownUsage {
    total: Bucket,
    daily: Bucket,
    monthly: Bucket,
    averages: Averages,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bucket {
    tokens: i64,
    input_tokens: i64,
    output_tokens: i64,
    cache_create_tokens: i64,
    cache_read_tokens: i64,
    all_tokens: i64,
    requests: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Averages {
    rpm: Value,
    tpm: Value,
    daily_requests: Value,
    daily_tokens: Value,
}

impl ShownUsage {
    pub(crate) fn new(usage: &KeyUsage, created_at_ms: i64, now: i64) -> ShownUsage {
        let days = ((now - created_at_ms) as f64 / DAY_MS as f64).ceil().max(1.0);
        let rounded = |value: f64| number((value * 100.0).round() / 100.0);
        let (requests, tokens) = (usage.total.requests as f64, input_and_output(&usage.total) as f64);
        ShownUsage {
            total: Bucket::new(&usage.total),
            daily: Bucket::new(&usage.daily),
            monthly: Bucket::new(&usage.monthly),
            averages: Averages {
                rpm: rounded(requests / (days * 1440.0)),
                tpm: rounded(tokens / (days * 1440.0)),
                daily_requests: rounded(requests / days),
                daily_tokens: rounded(tokens / days),
            },
        }
    }
}

impl Bucket {
    fn new(usage: &Usage) -> Bucket {
        Bucket {
            tokens: input_and_output(usage),
            input_tokens: usage.tokens.input,
            output_tokens: usage.tokens.output,
            cache_create_tokens: usage.tokens.cache_creation(),
            cache_read_tokens: usage.tokens.cache_read,
            all_tokens: usage.tokens.all(),
            requests: usage.requests,
        }
    }
}

fn input_and_output(usage: &Usage) -> i64 {
    usage.tokens.input + usage.tokens.output
}

/// A number as JavaScript writes it: without `.0`.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < LIMIT_MAX as f64 { json!(value as i64) } else { json!(value) }
}

/// `POST /admin/api-keys`.
pub(crate) fn create(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let default_limit = i64::try_from(server.config.default_token_limit).unwrap_or(LIMIT_MAX);
    let draft = KeyDraft {
        name: Some(name(call.body.get("name"))?),
        description: description(call.body.get("description"))?,
        token_limit: Some(match call.body.get("tokenLimit") {
            None => default_limit,
            Some(value) => limit(Some(value), 0, "Token limit must be a non-negative integer")?.unwrap_or(0),
        }),
        concurrency_limit: limit(
            call.body.get("concurrencyLimit"),
            0,
            "Concurrency limit must be a non-negative integer",
        )?,
        rate_limit_window: limit(
            call.body.get("rateLimitWindow"),
            1,
            "Rate limit window must be a positive integer (minutes)",
        )?,
        rate_limit_requests: limit(
            call.body.get("rateLimitRequests"),
            1,
            "Rate limit requests must be a positive integer",
        )?,
        enable_model_restriction: boolean(
            call.body.get("enableModelRestriction"),
            "Enable model restriction must be a boolean",
        )?,
        restricted_models: models(call.body.get("restrictedModels"))?,
        is_active: boolean(call.member("isActive"), "isActive must be a boolean")?,
        expires_at: expiry(call.body.get("expiresAt"))?,
        claude_account_id: account(server, call.body.get("claudeAccountId"))?,
    };
    let prefix = &server.config.api_key_prefix;
    let (clear, key) = server.store.create_key(prefix, &draft).map_err(titled("Failed to create API key"))?;
    log::info!("{} made API key {:?}", admin.username, key.name);
    Ok(Answer::data(json!({
        "id": key.id,
        "apiKey": clear,
        "name": key.name,
        "description": key.description,
        "tokenLimit": key.token_limit,
        "concurrencyLimit": key.concurrency_limit,
        "rateLimitWindow": key.rate_limit_window,
        "rateLimitRequests": key.rate_limit_requests,
        "isActive": key.is_active,
        "claudeAccountId": key.claude_account_id,
        "enableModelRestriction": key.enable_model_restriction,
        "restrictedModels": key.restricted_models,
        "createdAt": iso(key.created_at_ms),
        "expiresAt": key.expires_at,
        "createdBy": "admin",
    })))
}

/// `PUT /admin/api-keys/:keyId`.
pub(crate) fn update(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let body = &call.body;
    let draft = KeyDraft {
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
        enable_model_restriction: boolean(
            body.get("enableModelRestriction"),
            "Enable model restriction must be a boolean",
        )?,
        restricted_models: models(body.get("restrictedModels"))?,
        is_active: boolean(body.get("isActive"), "isActive must be a boolean")?,
        expires_at: expiry(body.get("expiresAt"))?,
        claude_account_id: account(server, body.get("claudeAccountId"))?,
    };
    server.store.update_key(call.id(), &draft).map_err(titled("Failed to update API key"))?;
    Ok(Answer::done("API key updated successfully"))
}

/// `DELETE /admin/api-keys/:keyId`.
pub(crate) fn delete(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    server.store.delete_key(call.id()).map_err(titled("Failed to delete API key"))?;
    log::info!("{} deleted API key {:?}", admin.username, call.id());
    Ok(Answer::done("API key deleted successfully"))
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
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match number {
        Some(number) if (min..=LIMIT_MAX).contains(&number) => Ok(Some(number)),
        _ => Err(invalid(wrong)),
    }
}

fn boolean(value: Option<&Value>, wrong: &str) -> Result<Option<bool>, Answer> {
    value.map(|value| value.as_bool().ok_or_else(|| invalid(wrong))).transpose()
}

fn models(value: Option<&Value>) -> Result<Option<Vec<String>>, Answer> {
    let Some(value) = value else { return Ok(None) };
    let items = value.as_array().ok_or_else(|| invalid("Restricted models must be an array"))?;
    let names: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    names.map(Some).ok_or_else(|| invalid("Restricted models must be an array of model names"))
}

/// Null and empty mean never; anything else must be an instant.
fn expiry(value: Option<&Value>) -> Result<Option<String>, Answer> {
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
    Err(invalid("Expiry must be an ISO 8601 date"))
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
