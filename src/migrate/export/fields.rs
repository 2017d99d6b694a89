//! Keys and accounts field by field, under the names of the original and its later versions, every value as text. What those
//! have no name for stands under the relay's own, which the original passes over and this relay's import reads first.

use super::super::date;
use crate::model::time::{iso, iso_or_empty};
use crate::model::{Account, AccountKind, ApiKey, ExpirationMode, cost};
use serde_json::{Map, Value, json};

/// Where the original sends what an account without an address of its own serves.
const DEFAULT_URL: &str = "https://api.anthropic.com";
/// What the original takes for the end of a token that names none.
const YEAR_MS: i64 = 365 * 86_400_000;
/// What a setup token may do.
const SETUP_SCOPE: &str = "user:inference";

pub(super) fn record(pairs: &[(&str, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::String(value.clone()))).collect()
}

/// A key. `is_bound_to_console` tells of which of the original's two kinds its account is.
pub(super) fn of_key(key: &ApiKey, hash: String, is_bound_to_console: bool) -> Vec<(&'static str, String)> {
    let bound = key.claude_account_id.clone();
    let (subscription, console) = if is_bound_to_console { (String::new(), bound) } else { (bound, String::new()) };
    let is_begun = key.expiration_mode == ExpirationMode::Fixed || key.activated_at_ms.is_some();
    vec![
        ("id", key.id.clone()),
        ("name", key.name.clone()),
        ("description", key.description.clone()),
        ("apiKey", hash),
        ("tokenLimit", key.token_limit.to_string()),
        ("concurrencyLimit", key.concurrency_limit.to_string()),
        ("rateLimitWindow", key.rate_limit_window.to_string()),
        ("rateLimitRequests", key.rate_limit_requests.to_string()),
        ("rateLimitCost", dollars(key.rate_limit_cost)),
        ("dailyCostLimit", dollars(key.daily_cost_limit)),
        ("weeklyCostLimit", dollars(key.weekly_cost_limit)),
        ("monthlyCostLimit", dollars(key.monthly_cost_limit)),
        ("totalCostLimit", dollars(key.total_cost_limit)),
        ("isActive", key.is_active.to_string()),
        ("claudeAccountId", subscription),
        ("claudeConsoleAccountId", console),
        ("accountFallback", key.account_fallback.to_string()),
        ("enableModelRestriction", key.enable_model_restriction.to_string()),
        ("restrictedModels", json!(key.restricted_models).to_string()),
        ("allowedModels", json!(key.allowed_models).to_string()),
        ("tags", json!(key.tags).to_string()),
        ("createdAt", iso(key.created_at_ms)),
        ("lastUsedAt", iso_or_empty(key.last_used_at_ms)),
        ("expiresAt", end(key)),
        ("expirationMode", key.expiration_mode.name().to_owned()),
        ("activationDays", key.activation_days.to_string()),
        ("activationUnit", "days".to_owned()),
        ("isActivated", is_begun.to_string()),
        ("activatedAt", iso_or_empty(key.activated_at_ms)),
        ("createdBy", "admin".to_owned()),
    ]
}

/// The end of a key's life: as its admin wrote it where the original reads the same instant there.
fn end(key: &ApiKey) -> String {
    let end_ms = key.ends_at_ms();
    let is_same = key.expiration_mode == ExpirationMode::Fixed
        && date::parse(&key.expires_at) == end_ms
        && (end_ms.is_some() || !date::looks_like_one(&key.expires_at));
    if is_same { key.expires_at.clone() } else { iso_or_empty(end_ms) }
}

fn dollars(pico: i64) -> String {
    cost::dollars(pico).to_string()
}

/// When an account's token ends, and what it may do. In the original, a setup token without an end is taken for one that has
/// ended, and nothing can refresh it.
pub(super) fn end_and_scopes(account: &Account, now_ms: i64) -> (Option<i64>, Vec<String>) {
    if account.kind != AccountKind::SetupToken {
        return (account.expires_at_ms, account.scopes.clone());
    }
    let scopes = if account.scopes.is_empty() { vec![SETUP_SCOPE.to_owned()] } else { account.scopes.clone() };
    (account.expires_at_ms.or(Some(now_ms + YEAR_MS)), scopes)
}

/// What accounts of both kinds have.
pub(super) fn of_account(account: &Account, now_ms: i64) -> Vec<(&'static str, String)> {
    let (expires_at_ms, scopes) = end_and_scopes(account, now_ms);
    let resolves_names = account.proxy.as_ref().is_some_and(|proxy| proxy.scheme == "socks5h");
    vec![
        ("id", account.id.clone()),
        ("name", account.name.clone()),
        ("description", account.description.clone()),
        ("kind", account.kind.as_str().to_owned()),
        ("expiresAt", expires_at_ms.map(|at| at.to_string()).unwrap_or_default()),
        ("hasNoEnd", account.expires_at_ms.is_none().to_string()),
        ("scopes", scopes.join(" ")),
        ("isActive", account.is_active.to_string()),
        ("schedulable", account.schedulable.to_string()),
        ("priority", account.priority.to_string()),
        ("accountType", account.account_type.as_str().to_owned()),
        ("maxConcurrentTasks", account.max_concurrency.to_string()),
        ("dailyQuota", dollars(account.daily_cost_limit)),
        ("subscriptionExpiresAt", iso_or_empty(account.expires_on_ms)),
        ("baseUrl", account.base_url.clone().unwrap_or_default()),
        ("modelMapping", json!(account.model_mapping).to_string()),
        ("proxyResolvesNames", resolves_names.to_string()),
        ("createdAt", iso(account.created_at_ms)),
        ("lastRefreshAt", iso_or_empty(account.last_refresh_at_ms)),
        ("status", account.status.clone()),
        ("errorMessage", account.error_message.clone()),
    ]
}

/// What an account with an API key has beside.
pub(super) fn of_console(account: &Account) -> [(&'static str, String); 3] {
    [
        ("platform", "claude-console".to_owned()),
        ("apiUrl", account.base_url.clone().unwrap_or_else(|| DEFAULT_URL.to_owned())),
        ("supportedModels", json!(account.model_mapping).to_string()),
    ]
}
