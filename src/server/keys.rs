//! `/admin/api-keys`: rules, wording and JSON of the contract (section 11), with what `PUT` ignored there taken up.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::key_draft;
use super::key_limits::{Limits, Resets, Used};
use super::key_page::{self, Cut};
use super::money::dollars;
use super::session::Admin;
use crate::error::{Error, Kind};
use crate::model::time::{iso, iso_or_empty, now_ms};
use crate::model::{ApiKey, Bill, ExpirationMode, Usage};
use crate::store::{KeyUsage, KeysUsage};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;

type Outcome = Result<Answer, Answer>;

const DAY_MS: i64 = 86_400_000;
/// How long a deleted key can be restored.
pub(super) const DELETED_LIFE_MS: i64 = 30 * DAY_MS;
/// The largest limit: what a JSON number holds exactly.
pub(super) const LIMIT_MAX: i64 = (1 << 53) - 1;

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
    expires_at: String,
    created_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<String>,
    usage: ShownUsage,
    current_concurrency: i64,
    tags: &'a [String],
    allowed_models: &'a [String],
    daily_cost_limit: Value,
    weekly_cost_limit: Value,
    monthly_cost_limit: Value,
    total_cost_limit: Value,
    rate_limit_cost: Value,
    expiration_mode: &'static str,
    activation_days: i64,
    activated_at: Option<String>,
    account_fallback: bool,
    limits: Limits,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_at: Option<String>,
}

/// `GET /admin/api-keys`: the whole list as in the original, or one page of it.
pub(crate) fn list(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let failed = titled("Failed to get API keys");
    let (store, now) = (&server.store, now_ms());
    let is_deleted = call.query("deleted").is_some_and(|deleted| deleted == "true");
    let keys = if is_deleted { store.deleted_keys() } else { store.keys() }.map_err(&failed)?;
    let Some(asked) = key_page::asked(call)? else {
        let usage = store.keys_usage(now).map_err(&failed)?;
        return Ok(Answer::data(all_shown(server, &keys, &usage, now).map_err(failed)?));
    };
    let Cut { keys, total, tags } = asked.cut(server, keys, now).map_err(&failed)?;
    let usage = store.usage_of_keys(&keys, now).map_err(&failed)?;
    let data = all_shown(server, &keys, &usage, now).map_err(failed)?;
    Ok(Answer::json(200, &Page { success: true, data, total, limit: asked.limit, offset: asked.offset, tags }))
}

/// A part of the list, how long the list is, and the tags that its keys have.
#[derive(Serialize)]
struct Page<'a> {
    success: bool,
    data: Vec<Shown<'a>>,
    total: usize,
    limit: usize,
    offset: usize,
    tags: BTreeSet<String>,
}

fn all_shown<'a>(
    server: &Server,
    keys: &'a [ApiKey],
    usage: &KeysUsage,
    now: i64,
) -> crate::error::Result<Vec<Shown<'a>>> {
    let windows = server.relay.windows(keys, now)?;
    let resets = Resets::after(now, server.store.zone());
    let one = |key: &'a ApiKey| {
        let used = Used {
            spent: usage.spent(key.seq),
            window: windows.get(&key.seq).copied(),
            running: server.relay.running(key.seq),
        };
        shown(key, &usage.of(key.seq), &used, &resets, now)
    };
    Ok(keys.iter().map(one).collect())
}

fn shown<'a>(key: &'a ApiKey, usage: &KeyUsage, used: &Used, resets: &Resets, now: i64) -> Shown<'a> {
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
        expires_at: expires_at(key),
        created_by: "admin",
        updated_at: key.updated_at_ms.map(iso),
        usage: ShownUsage::new(usage, key.created_at_ms, now).with_costs(usage),
        current_concurrency: used.running,
        tags: &key.tags,
        allowed_models: &key.allowed_models,
        daily_cost_limit: dollars(key.daily_cost_limit),
        weekly_cost_limit: dollars(key.weekly_cost_limit),
        monthly_cost_limit: dollars(key.monthly_cost_limit),
        total_cost_limit: dollars(key.total_cost_limit),
        rate_limit_cost: dollars(key.rate_limit_cost),
        expiration_mode: key.expiration_mode.name(),
        activation_days: key.activation_days,
        activated_at: key.activated_at_ms.map(iso),
        account_fallback: key.account_fallback,
        limits: Limits::new(key, used, resets),
        deleted_at: key.deleted_at_ms.map(iso),
        purge_at: key.deleted_at_ms.map(|at_ms| iso(at_ms.saturating_add(DELETED_LIFE_MS))),
    }
}

/// The end of a key's life that is in force: as the admin wrote it, or counted from the first use; empty = never, or not yet.
pub(super) fn expires_at(key: &ApiKey) -> String {
    match key.expiration_mode {
        ExpirationMode::Fixed => key.expires_at.clone(),
        ExpirationMode::Activation => iso_or_empty(key.ends_at_ms()),
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
    /// Dollars; what has no price costs nothing here. The original's statistics have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    cost: Option<Value>,
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
        let (requests, tokens) = (usage.total.usage.requests as f64, input_and_output(&usage.total.usage) as f64);
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

impl ShownUsage {
    /// The same with what each bucket cost.
    pub(super) fn with_costs(mut self, usage: &KeyUsage) -> ShownUsage {
        let buckets = [&mut self.total, &mut self.daily, &mut self.monthly];
        for (bucket, bill) in buckets.into_iter().zip([&usage.total, &usage.daily, &usage.monthly]) {
            bucket.cost = Some(dollars(bill.cost.total()));
        }
        self
    }
}

impl Bucket {
    fn new(bill: &Bill) -> Bucket {
        let usage = &bill.usage;
        Bucket {
            tokens: input_and_output(usage),
            input_tokens: usage.tokens.input,
            output_tokens: usage.tokens.output,
            cache_create_tokens: usage.tokens.cache_creation(),
            cache_read_tokens: usage.tokens.cache_read,
            all_tokens: usage.tokens.all(),
            requests: usage.requests,
            cost: None,
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
    let draft = key_draft::of_new(server, &call.body)?;
    let prefix = &server.config.api_key_prefix;
    let (clear, key) = server.store.create_key(prefix, &draft).map_err(refused("Failed to create API key"))?;
    log::info!("{} made API key {:?}", admin.username, key.name);
    Ok(Answer::data(made(&clear, &key)))
}

/// `POST /admin/api-keys/batch`.
pub(crate) fn create_many(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let drafts = key_draft::of_many(server, &call.body)?;
    let prefix = &server.config.api_key_prefix;
    let keys = server.store.create_keys(prefix, &drafts).map_err(refused("Failed to create API keys"))?;
    log::info!("{} made {} API keys", admin.username, keys.len());
    let keys: Vec<Value> = keys.iter().map(|(clear, key)| made(clear, key)).collect();
    Ok(Answer::data(keys))
}

/// A key with its clear text: the only time that it is shown.
fn made(clear: &str, key: &ApiKey) -> Value {
    json!({
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
        "expiresAt": expires_at(key),
        "createdBy": "admin",
        "tags": key.tags,
        "allowedModels": key.allowed_models,
        "dailyCostLimit": dollars(key.daily_cost_limit),
        "weeklyCostLimit": dollars(key.weekly_cost_limit),
        "monthlyCostLimit": dollars(key.monthly_cost_limit),
        "totalCostLimit": dollars(key.total_cost_limit),
        "rateLimitCost": dollars(key.rate_limit_cost),
        "expirationMode": key.expiration_mode.name(),
        "activationDays": key.activation_days,
        "activatedAt": key.activated_at_ms.map(iso),
        "accountFallback": key.account_fallback,
    })
}

/// `PUT /admin/api-keys/:keyId`.
pub(crate) fn update(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let draft = key_draft::of_change(server, &call.body)?;
    server.store.update_key(call.id(), &draft).map_err(refused("Failed to update API key"))?;
    Ok(Answer::done("API key updated successfully"))
}

/// `DELETE /admin/api-keys/:keyId`.
pub(crate) fn delete(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let name = server.store.delete_key(call.id()).map_err(titled("Failed to delete API key"))?;
    log::info!("{} deleted API key {name:?} (id {:?})", admin.username, call.id());
    Ok(Answer::done("API key deleted successfully"))
}

/// `POST /admin/api-keys/:keyId/restore`.
pub(crate) fn restore(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let name = server.store.restore_key(call.id()).map_err(titled("Failed to restore API key"))?;
    log::info!("{} restored API key {name:?} (id {:?})", admin.username, call.id());
    Ok(Answer::done("API key restored successfully"))
}

/// `POST /admin/api-keys/:keyId/rotate`.
pub(crate) fn rotate(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let prefix = &server.config.api_key_prefix;
    let (clear, key) = server.store.rotate_key(prefix, call.id()).map_err(titled("Failed to rotate API key"))?;
    log::info!("{} gave API key {:?} a new text", admin.username, key.name);
    Ok(Answer::data(made(&clear, &key)))
}

/// What the store refuses because of what was sent is told like every other such fault.
fn refused(title: &'static str) -> impl Fn(Error) -> Answer {
    move |error| if error.kind() == Kind::Invalid { invalid(error.message()) } else { titled(title)(error) }
}
