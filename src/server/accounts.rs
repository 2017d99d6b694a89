//! `/admin/claude-accounts`: the contract's JSON (section 12), with kinds of accounts beside OAuth. A secret that was set
//! is never read back.

use super::Server;
use super::account_draft::draft;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::money;
use super::session::Admin;
use crate::error::{Error, Result as Fallible};
use crate::model::time::{iso, iso_or_empty, now_ms};
use crate::model::{Account, AccountKind, Bill, Proxy, Rest, RestReason, Window};
use crate::relay::Standing;
use crate::store::AccountsUsage;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

type Outcome = Result<Answer, Answer>;

/// An account as a list shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    email: String,
    is_active: bool,
    proxy: Value,
    status: &'a str,
    error_message: &'a str,
    account_type: &'static str,
    created_at: String,
    last_used_at: String,
    last_refresh_at: String,
    /// Milliseconds as text, as in the original.
    expires_at: String,
    scopes: &'a [String],
    rate_limit_status: Value,
    kind: &'static str,
    base_url: Option<&'a str>,
    model_mapping: &'a BTreeMap<String, String>,
    priority: i64,
    schedulable: bool,
    max_concurrency: i64,
    in_flight: i64,
    expires_on: Option<String>,
    is_expired: bool,
    daily_cost_limit: Value,
    token_expires_at: Option<String>,
    rest: Option<Value>,
    rests: Vec<Value>,
    windows: Value,
    other_windows: Vec<Value>,
    usage: Value,
    bound_keys: i64,
    affinities: usize,
}

/// `GET /admin/claude-accounts`.
pub(crate) fn list(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let failed = titled("Failed to get Claude accounts");
    let (accounts, now) = (server.store.accounts(), now_ms());
    let usage = server.store.accounts_usage(now).map_err(&failed)?;
    let shown: Fallible<Vec<Shown<'_>>> = accounts
        .iter()
        .map(|account| {
            let last_used = server.store.account_last_used_ms(&account.id)?;
            Ok(shown(server, account, last_used, &usage, now))
        })
        .collect();
    Ok(Answer::data(shown.map_err(failed)?))
}

fn shown<'a>(
    server: &Server,
    account: &'a Account,
    last_used_at_ms: Option<i64>,
    usage: &AccountsUsage,
    now_ms: i64,
) -> Shown<'a> {
    let standing = server.relay.standings().of(account.seq);
    let rests: Vec<&Rest> = standing.rests.iter().filter(|rest| rest.until_ms > now_ms).collect();
    // What keeps most requests away for longest comes first.
    let worst =
        rests.iter().max_by_key(|rest| (!rest.reason.is_soft(), rest.scope.as_str() == "account", rest.until_ms));
    let window = |name: &str| standing.windows.iter().find(|window| window.name == name).map(window_json);
    let others = standing.windows.iter().filter(|window| !["5h", "7d"].contains(&window.name.as_str()));
    Shown {
        id: &account.id,
        name: &account.name,
        description: &account.description,
        email: account.masked_email(),
        is_active: account.is_active,
        proxy: account.proxy.as_ref().map_or(Value::Null, proxy_json),
        status: &account.status,
        error_message: &account.error_message,
        account_type: account.account_type.as_str(),
        created_at: iso(account.created_at_ms),
        last_used_at: iso_or_empty(last_used_at_ms),
        last_refresh_at: iso_or_empty(account.last_refresh_at_ms),
        expires_at: account.expires_at_ms.map(|at| at.to_string()).unwrap_or_default(),
        scopes: &account.scopes,
        rate_limit_status: rate_limit_status(&standing, now_ms),
        kind: account.kind.as_str(),
        base_url: account.base_url.as_deref(),
        model_mapping: &account.model_mapping,
        priority: account.priority,
        schedulable: account.schedulable,
        max_concurrency: account.max_concurrency,
        in_flight: standing.in_flight,
        expires_on: account.expires_on_ms.map(iso),
        is_expired: account.is_expired(now_ms),
        daily_cost_limit: money::dollars(account.daily_cost_limit),
        token_expires_at: account.expires_at_ms.map(iso),
        rest: worst.map(|rest| rest_json(rest)),
        rests: rests.iter().map(|rest| rest_json(rest)).collect(),
        windows: json!({ "fiveHour": window("5h"), "sevenDay": window("7d") }),
        other_windows: others.map(window_json).collect(),
        usage: json!({
            "today": bill_json(&usage.today(account.seq)),
            "total": bill_json(&usage.total(account.seq)),
        }),
        bound_keys: usage.bound_keys(&account.id),
        affinities: server.relay.standings().affinities_of(account.seq, now_ms),
    }
}

/// A rest as pages show it.
fn rest_json(rest: &Rest) -> Value {
    json!({
        "reason": rest.reason.as_str(),
        "scope": rest.scope.as_str(),
        "since": iso(rest.since_ms),
        "until": iso(rest.until_ms),
        "source": rest.source.as_str(),
        "message": rest.message,
        "isSoft": rest.reason.is_soft(),
    })
}

fn window_json(window: &Window) -> Value {
    json!({
        "name": window.name,
        "utilization": window.utilization,
        "status": window.status,
        "resetAt": window.reset_at_ms.map(iso),
        "seenAt": iso(window.seen_at_ms),
    })
}

fn bill_json(bill: &Bill) -> Value {
    let tokens = &bill.usage.tokens;
    json!({
        "requests": bill.usage.requests,
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "cacheCreateTokens": tokens.cache_creation(),
        "cacheReadTokens": tokens.cache_read,
        "allTokens": tokens.all(),
        "cost": money::dollars(bill.cost.total()),
        "unpricedRequests": bill.unpriced_requests,
    })
}

/// The rest of the whole account for a limit of the vendor's, while it lasts.
pub(super) fn rate_limit(standing: &Standing, now_ms: i64) -> Option<&Rest> {
    let is_limit = |rest: &&Rest| {
        rest.reason == RestReason::RateLimit && rest.scope.as_str() == "account" && rest.until_ms > now_ms
    };
    standing.rests.iter().find(is_limit)
}

/// The original's member.
fn rate_limit_status(standing: &Standing, now_ms: i64) -> Value {
    match rate_limit(standing, now_ms) {
        Some(rest) => json!({
            "isRateLimited": true,
            "rateLimitedAt": iso(rest.since_ms),
            "minutesRemaining": (rest.until_ms - now_ms + 59_999) / 60_000,
        }),
        None => json!({ "isRateLimited": false, "rateLimitedAt": null, "minutesRemaining": 0 }),
    }
}

fn proxy_json(proxy: &Proxy) -> Value {
    serde_json::from_str(&proxy.to_shown()).unwrap_or(Value::Null)
}

/// `POST /admin/claude-accounts`.
pub(crate) fn create(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let mut draft = draft(call, None)?;
    if draft.name.is_none() {
        return Err(invalid("Name is required"));
    }
    let kind = match call.member("kind") {
        None => AccountKind::OAuth,
        Some(kind) => kind
            .as_str()
            .and_then(AccountKind::parse)
            .ok_or_else(|| invalid("Kind must be one of: oauth, api_key, setup_token"))?,
    };
    if kind == AccountKind::ApiKey && draft.api_key.is_none() {
        return Err(invalid("An API key is required (apiKey)"));
    }
    if kind == AccountKind::SetupToken && draft.tokens.is_none() {
        return Err(invalid("A setup token is required (claudeAiOauth.accessToken)"));
    }
    draft.kind = Some(kind);
    let account = server.store.create_account(&draft).map_err(titled("Failed to create Claude account"))?;
    log::info!("{} made account {:?}", admin.username, account.name);
    Ok(Answer::data(json!({
        "id": account.id,
        "name": account.name,
        "description": account.description,
        "email": account.email,
        "isActive": account.is_active,
        "proxy": account.proxy.as_ref().map(proxy_json),
        "accountType": account.account_type.as_str(),
        "status": account.status,
        "createdAt": iso(account.created_at_ms),
        "expiresAt": account.expires_at_ms.map(|at| at.to_string()).unwrap_or_default(),
        "scopes": account.scopes,
        "kind": account.kind.as_str(),
        "priority": account.priority,
        "schedulable": account.schedulable,
    })))
}

/// `PUT /admin/claude-accounts/:accountId`.
pub(crate) fn update(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let failed = titled("Failed to update Claude account");
    let account = server.store.account_by_id(call.id());
    let account = account.ok_or_else(|| failed(Error::not_found("Account not found")))?;
    let draft = draft(call, account.proxy.as_ref())?;
    server.store.update_account(call.id(), &draft).map_err(&failed)?;
    if draft.tokens.is_some() || draft.refresh_token.is_some() || draft.api_key.is_some() {
        server.relay.standings().signed_in(account.seq);
    }
    Ok(Answer::done("Claude account updated successfully"))
}

/// `DELETE /admin/claude-accounts/:accountId`. Keys that are bound to it are refused from now on, until they are bound anew.
pub(crate) fn delete(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let name = server.store.delete_account(call.id()).map_err(titled("Failed to delete Claude account"))?;
    log::info!("{} deleted account {name:?} (id {:?})", admin.username, call.id());
    Ok(Answer::done("Claude account deleted successfully"))
}
