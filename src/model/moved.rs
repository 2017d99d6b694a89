//! What moves here from an installation of the original, as values: read by `migrate`, written by `store`.

use super::{AccountKind, AccountType, Proxy, Sensitive, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An API key. Only its hash moves; its clear text is known to its holder alone.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MovedKey {
    /// Its identifier.
    pub id: String,
    /// SHA-256 of key and pepper in lower-case hex; `None` for a key that can no longer be used, of which only the bill is
    /// left.
    pub hash: Option<String>,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Tokens per window; 0 = none.
    pub token_limit: i64,
    /// Requests at the same time; 0 = none.
    pub concurrency_limit: i64,
    /// Minutes; 0 = none.
    pub rate_limit_window: i64,
    /// Requests per window; 0 = none.
    pub rate_limit_requests: i64,
    /// The admin's switch.
    pub is_active: bool,
    /// Bound account; empty = none.
    pub claude_account_id: String,
    /// Whether the deny list is in force.
    pub enable_model_restriction: bool,
    /// The deny list.
    pub restricted_models: Vec<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub last_used_at_ms: Option<i64>,
    /// The end of its life as its admin wrote it; empty = never.
    pub expires_at: String,
    /// The same as an instant.
    pub expires_at_ms: Option<i64>,
    /// When it was deleted, Unix milliseconds.
    pub deleted_at_ms: Option<i64>,
    /// What later versions of the original keep beside.
    pub later: LaterKey,
}

/// Members of a key that the original's later versions added. Amounts are pico-dollars, 0 = none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LaterKey {
    /// Labels.
    pub tags: Vec<String>,
    /// Limit of a local day.
    pub daily_cost_limit: i64,
    /// Limit of a week.
    pub weekly_cost_limit: i64,
    /// Limit of a month: this relay's own, as the next two.
    pub monthly_cost_limit: i64,
    /// The only models that it may use; empty = all.
    pub allowed_models: Vec<String>,
    /// Whether the pool may serve it where its own account cannot.
    pub account_fallback: bool,
    /// Limit of all time.
    pub total_cost_limit: i64,
    /// Limit of a window.
    pub rate_limit_cost: i64,
    /// Whether its life begins with its first use.
    pub is_activated_by_use: bool,
    /// Days of such a life.
    pub activation_days: i64,
    /// Its first use, Unix milliseconds.
    pub activated_at_ms: Option<i64>,
}

/// An account with its secrets open.
#[derive(Clone, Debug)]
pub struct MovedAccount {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// How it proves itself.
    pub kind: AccountKind,
    /// Whom it serves.
    pub account_type: AccountType,
    /// The admin's switch.
    pub is_active: bool,
    /// Whether the pool may choose it.
    pub schedulable: bool,
    /// 1–100.
    pub priority: i64,
    /// `created`, `active` or `error`.
    pub status: String,
    /// Why the status is `error`.
    pub error_message: String,
    /// E-mail address; may be empty, as all secrets.
    pub email: Sensitive,
    /// Password, used for nothing.
    pub password: Sensitive,
    /// Access token.
    pub access_token: Sensitive,
    /// Refresh token.
    pub refresh_token: Sensitive,
    /// API key of a Console account.
    pub api_key: Sensitive,
    /// Base URL of a Console account.
    pub base_url: Option<String>,
    /// Names of models as clients send them, and as its upstream calls them.
    pub model_mapping: BTreeMap<String, String>,
    /// Requests at a time; 0 = any number.
    pub max_concurrency: i64,
    /// What it may cost on a local day, pico-dollars; 0 = any amount.
    pub daily_cost_limit: i64,
    /// The end of its use, Unix milliseconds.
    pub expires_on_ms: Option<i64>,
    /// The proxy it is reached through.
    pub proxy: Option<Proxy>,
    /// End of the access token's life, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Scopes, separated by spaces.
    pub scopes: String,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub last_used_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub last_refresh_at_ms: Option<i64>,
}

/// An admin.
#[derive(Clone, Debug)]
pub struct MovedAdmin {
    /// The name to sign in with.
    pub username: String,
    /// Bcrypt, of any of its prefixes.
    pub password_hash: Sensitive,
    /// Unix milliseconds.
    pub created_at_ms: i64,
}

/// What was used in one bucket of time.
#[derive(Clone, Debug, PartialEq)]
pub struct MovedUsage {
    /// The key's identifier; empty for all keys together.
    pub key_id: String,
    /// 0 all time, 1 month, 2 day, 3 hour, as in the rollups.
    pub span: i64,
    /// 0, `yyyymm`, `yyyymmdd`, or the Unix second at which the hour began.
    pub bucket: i64,
    /// Empty where the original did not tell models apart.
    pub model: String,
    /// What was used.
    pub usage: Usage,
}

/// The whole number that a text begins with, as JavaScript's parseInt and with it the original takes it; what is too large is the largest.
pub fn whole(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len());
    let digits = &digits[..end];
    (!digits.is_empty()).then(|| sign * digits.parse().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_out_of_texts() {
        for (text, expected) in [
            ("60", Some(60)),
            (" 60 ", Some(60)),
            ("60.0", Some(60)),
            ("5.5", Some(5)),
            ("-3.5", Some(-3)),
            ("+8", Some(8)),
            ("8h", Some(8)),
            ("99999999999999999999", Some(i64::MAX)),
            ("", None),
            ("h8", None),
            ("-", None),
        ] {
            assert_eq!(whole(text), expected, "{text}");
        }
    }
}
