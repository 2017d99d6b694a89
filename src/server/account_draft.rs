//! What an admin's body sets on an account. A secret that comes back absent, null, empty or masked stays as it is.

use super::call::{Answer, Call};
use super::dialect::{invalid, said};
use super::key_draft::cost_limit;
use crate::error::{Error, Kind};
use crate::model::proxy::MASK;
use crate::model::time::parse;
use crate::model::{AccountType, Proxy, Sensitive, url};
use crate::store::{AccountDraft, TokenPair};
use crate::told::sentences;
use serde_json::Value;
use std::collections::BTreeMap;

/// Longest text of any member, in bytes.
const TEXT_BYTES_MAX: usize = 8192;
/// Requests that an account may be limited to at a time.
const CONCURRENCY_MAX: i64 = 10_000;
/// Models that one account may have under other names, and the longest name, in bytes.
const MAPPING_MAX: usize = 200;
const MODEL_BYTES_MAX: usize = 200;

sentences! {
    /// What may be wrong in a body that a page has checked.
    enum BadAccount {
        BaseUrl "base_url" => "Base URL must be an http or https URL without a query",
    }
}

/// Reads what the body sets.
///
/// # Errors
/// 400, which says what is wrong with the first member that is.
pub(super) fn draft(call: &Call, proxy_before: Option<&Proxy>) -> Result<AccountDraft, Answer> {
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
        model_mapping: model_mapping(call)?,
        max_concurrency: max_concurrency(call)?,
        expires_on_ms: expires_on(call)?,
        daily_cost_limit: cost_limit(call.body.get("dailyCostLimit"), "dailyCostLimit")?,
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
    let wrong = || said(400, &Error::saying(Kind::Invalid, BadAccount::BaseUrl));
    match call.body.get("baseUrl") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Some(None)),
        Some(value) => value.as_str().and_then(url::base).map(|url| Some(Some(url))).ok_or_else(wrong),
    }
}

/// The proxy that the body names. A masked password is that of the proxy before.
///
/// # Errors
/// 400, which says what is wrong with it.
pub(super) fn proxy(call: &Call, before: Option<&Proxy>) -> Result<Option<Option<Proxy>>, Answer> {
    match call.body.get("proxy") {
        None => Ok(None),
        Some(Value::Null | Value::Bool(false)) => Ok(Some(None)),
        Some(Value::String(text)) if text.is_empty() => Ok(Some(None)),
        Some(value) => {
            let proxy = Proxy::from_json(&value.to_string(), before);
            let proxy = proxy.map_err(|wrong| said(400, &Error::saying(Kind::Invalid, wrong)))?;
            Ok(Some(Some(proxy)))
        }
    }
}

fn model_mapping(call: &Call) -> Result<Option<BTreeMap<String, String>>, Answer> {
    let wrong = || {
        invalid(&format!(
            "Model mapping must be an object of at most {MAPPING_MAX} names of models, each with the name to send upstream"
        ))
    };
    let is_name = |name: &str| !name.is_empty() && name.len() <= MODEL_BYTES_MAX && !name.chars().any(char::is_control);
    match call.body.get("modelMapping") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(BTreeMap::new())),
        Some(Value::Object(names)) if names.len() <= MAPPING_MAX => {
            let pairs = names.iter().map(|(name, upstream)| {
                let upstream = upstream.as_str().map(str::trim).filter(|upstream| is_name(upstream) && is_name(name));
                upstream.map(|upstream| (name.clone(), upstream.to_owned())).ok_or_else(wrong)
            });
            pairs.collect::<Result<_, _>>().map(Some)
        }
        Some(_) => Err(wrong()),
    }
}

fn max_concurrency(call: &Call) -> Result<Option<i64>, Answer> {
    let wrong = || invalid(&format!("maxConcurrency must be a whole number from 0 (any number) to {CONCURRENCY_MAX}"));
    match call.body.get("maxConcurrency") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(0)),
        Some(value) => value.as_i64().filter(|value| (0..=CONCURRENCY_MAX).contains(value)).map(Some).ok_or_else(wrong),
    }
}

fn expires_on(call: &Call) -> Result<Option<Option<i64>>, Answer> {
    let wrong = || invalid("expiresOn must be an instant such as 2027-01-31T00:00:00Z, or null");
    match call.body.get("expiresOn") {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(None)),
        Some(Value::String(text)) if text.trim().is_empty() => Ok(Some(None)),
        Some(Value::String(text)) => parse(text).map(|at| Some(Some(at))).ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}
