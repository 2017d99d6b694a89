//! `/admin/claude-accounts`: the contract's JSON (section 12), with kinds of accounts beside OAuth. A secret that was set
//! is never read back.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::session::Admin;
use crate::error::Error;
use crate::model::proxy::MASK;
use crate::model::time::{iso, iso_or_empty};
use crate::model::{Account, AccountKind, AccountType, Proxy, Sensitive};
use crate::store::{AccountDraft, TokenPair};
use serde::Serialize;
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

/// Longest text of any member, in bytes.
const TEXT_BYTES_MAX: usize = 8192;

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
    priority: i64,
    schedulable: bool,
    token_expires_at: Option<String>,
}

/// `GET /admin/claude-accounts`.
pub(crate) fn list(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let accounts = server.store.accounts();
    let shown: Result<Vec<Shown<'_>>, Error> =
        accounts.iter().map(|account| Ok(shown(account, server.store.account_last_used_ms(&account.id)?))).collect();
    Ok(Answer::data(shown.map_err(titled("Failed to get Claude accounts"))?))
}

fn shown(account: &Account, last_used_at_ms: Option<i64>) -> Shown<'_> {
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
        rate_limit_status: json!({ "isRateLimited": false, "rateLimitedAt": null, "minutesRemaining": 0 }),
        kind: account.kind.as_str(),
        base_url: account.base_url.as_deref(),
        priority: account.priority,
        schedulable: account.schedulable,
        token_expires_at: account.expires_at_ms.map(iso),
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
    Ok(Answer::done("Claude account updated successfully"))
}

/// `DELETE /admin/claude-accounts/:accountId`.
pub(crate) fn delete(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    server.store.delete_account(call.id()).map_err(titled("Failed to delete Claude account"))?;
    log::info!("{} deleted account {:?}", admin.username, call.id());
    Ok(Answer::done("Claude account deleted successfully"))
}

/// Reads what the body sets. A secret that comes back absent, null, empty or masked stays as it is.
fn draft(call: &Call, proxy_before: Option<&Proxy>) -> Result<AccountDraft, Answer> {
    Ok(AccountDraft {
        name: name(call)?,
        description: text(call, "description", "Description must be text")?,
        kind: None,
        account_type: account_type(call)?,
        is_active: boolean(call, "isActive", "isActive must be a boolean")?,
        schedulable: boolean(call, "schedulable", "schedulable must be a boolean")?,
        priority: priority(call)?,
        email: text(call, "email", "Email must be text")?,
        password: secret(call, "password", "Password must be text")?,
        tokens: tokens(call)?,
        refresh_token: secret(call, "refreshToken", "Refresh token must be text")?,
        api_key: secret(call, "apiKey", "API key must be text")?,
        base_url: base_url(call)?,
        proxy: proxy(call, proxy_before)?,
    })
}

fn name(call: &Call) -> Result<Option<String>, Answer> {
    match call.body.get("name") {
        None => Ok(None),
        Some(value) => match value.as_str().map(str::trim) {
            Some(name) if !name.is_empty() && name.len() <= TEXT_BYTES_MAX => Ok(Some(name.to_owned())),
            _ => Err(invalid("Name is required")),
        },
    }
}

fn text(call: &Call, member: &str, wrong: &str) -> Result<Option<String>, Answer> {
    match call.member(member) {
        None => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
        Some(_) => Err(invalid(wrong)),
    }
}

fn secret(call: &Call, member: &str, wrong: &str) -> Result<Option<String>, Answer> {
    let found = text(call, member, wrong)?.map(|secret| secret.trim().to_owned());
    if found.as_deref().is_some_and(|secret| secret.chars().any(char::is_control)) {
        return Err(invalid(wrong));
    }
    Ok(found.filter(|secret| !secret.is_empty() && secret != MASK))
}

fn boolean(call: &Call, member: &str, wrong: &str) -> Result<Option<bool>, Answer> {
    match call.body.get(member) {
        None => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(Value::String(text)) if text == "true" || text == "false" => Ok(Some(text == "true")),
        Some(_) => Err(invalid(wrong)),
    }
}

fn priority(call: &Call) -> Result<Option<i64>, Answer> {
    let wrong = || invalid("Priority must be a whole number from 1 to 100");
    match call.member("priority") {
        None => Ok(None),
        Some(value) => value.as_i64().filter(|value| (1..=100).contains(value)).map(Some).ok_or_else(wrong),
    }
}

fn account_type(call: &Call) -> Result<Option<AccountType>, Answer> {
    let wrong = || invalid("Invalid account type. Must be \"shared\" or \"dedicated\"");
    match call.member("accountType") {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(value) => value.as_str().and_then(AccountType::parse).map(Some).ok_or_else(wrong),
    }
}

/// `claudeAiOauth`: `{accessToken, refreshToken?, expiresAt? (milliseconds), scopes?}`.
fn tokens(call: &Call) -> Result<Option<TokenPair>, Answer> {
    let wrong = |member: &str| invalid(&format!("claudeAiOauth.{member} is missing or invalid"));
    let object = match call.member("claudeAiOauth") {
        None | Some(Value::Bool(false)) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(invalid("claudeAiOauth must be an object")),
    };
    let token = |member: &str| -> Result<Option<Sensitive>, Answer> {
        match object.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.trim().chars().any(char::is_control) => Err(wrong(member)),
            Some(Value::String(text)) => {
                Ok(Some(text.trim()).filter(|text| !text.is_empty()).map(|text| Sensitive::new(text.to_owned())))
            }
            Some(_) => Err(wrong(member)),
        }
    };
    let access_token = token("accessToken")?.ok_or_else(|| wrong("accessToken"))?;
    let expires_at_ms = match object.get("expiresAt") {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) => Some(number.as_f64().ok_or_else(|| wrong("expiresAt"))? as i64),
        Some(Value::String(text)) => Some(text.trim().parse().map_err(|_| wrong("expiresAt"))?),
        Some(_) => return Err(wrong("expiresAt")),
    };
    let scopes = match object.get("scopes") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => {
            let scopes: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
            scopes.ok_or_else(|| wrong("scopes"))?
        }
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(_) => return Err(wrong("scopes")),
    };
    Ok(Some(TokenPair { access_token, refresh_token: token("refreshToken")?, expires_at_ms, scopes }))
}

fn base_url(call: &Call) -> Result<Option<Option<String>>, Answer> {
    let wrong = || invalid("Base URL must be an http or https URL without a query");
    let text = match call.body.get("baseUrl") {
        None => return Ok(None),
        Some(Value::Null) => return Ok(Some(None)),
        Some(value) => value.as_str().ok_or_else(wrong)?.trim().trim_end_matches('/'),
    };
    if text.is_empty() {
        return Ok(Some(None));
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
    let is_clean = !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#@".contains(&byte));
    if is_clean && !rest.starts_with('/') { Ok(Some(Some(text.to_owned()))) } else { Err(wrong()) }
}

fn proxy(call: &Call, before: Option<&Proxy>) -> Result<Option<Option<Proxy>>, Answer> {
    match call.body.get("proxy") {
        None => Ok(None),
        Some(Value::Null | Value::Bool(false)) => Ok(Some(None)),
        Some(Value::String(text)) if text.is_empty() => Ok(Some(None)),
        Some(value) => {
            let proxy = Proxy::from_json(&value.to_string(), before).map_err(|wrong| invalid(&wrong))?;
            Ok(Some(Some(proxy)))
        }
    }
}
