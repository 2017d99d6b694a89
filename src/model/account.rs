//! An account: a credential that the relay spends on behalf of its callers.

use super::{Proxy, Sensitive};
use std::collections::BTreeMap;

/// How an account proves itself to the upstream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccountKind {
    /// OAuth 2.0 sign-in with a refresh token.
    OAuth,
    /// A long-lived token of the subscription, without a refresh token.
    SetupToken,
    /// An API key of the Console, or of any Anthropic-compatible service.
    ApiKey,
}

impl AccountKind {
    /// The name used in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            AccountKind::OAuth => "oauth",
            AccountKind::SetupToken => "setup_token",
            AccountKind::ApiKey => "api_key",
        }
    }

    /// Reads the name used in JSON and in the database.
    pub fn parse(name: &str) -> Option<AccountKind> {
        [AccountKind::OAuth, AccountKind::SetupToken, AccountKind::ApiKey]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// Who may be served by an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AccountType {
    /// Every key that is not bound.
    Shared,
    /// Only keys that are bound to it.
    Dedicated,
}

impl AccountType {
    /// The name used in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            AccountType::Shared => "shared",
            AccountType::Dedicated => "dedicated",
        }
    }

    /// Reads the name used in JSON and in the database.
    pub fn parse(name: &str) -> Option<AccountType> {
        [AccountType::Shared, AccountType::Dedicated].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// An account with its secrets open, as the relay uses it. Never serialized as a whole.
#[derive(Clone, Debug)]
pub struct Account {
    /// Row number: what the ledger refers to. Never used again for another account.
    pub seq: i64,
    /// Public identifier, a UUID.
    pub id: String,
    /// Name given by the admin.
    pub name: String,
    /// Description given by the admin; may be empty.
    pub description: String,
    /// How it proves itself.
    pub kind: AccountKind,
    /// Whom it serves.
    pub account_type: AccountType,
    /// The admin's switch.
    pub is_active: bool,
    /// Whether the pool may choose it; a bound key uses it all the same.
    pub schedulable: bool,
    /// 1–100, lower is chosen first.
    pub priority: i64,
    /// `created` (no usable credential yet), `active` or `error`, as in the original.
    pub status: String,
    /// Why the status is `error`; empty otherwise.
    pub error_message: String,
    /// E-mail address, for the admin's eyes; may be empty.
    pub email: String,
    /// Access token or setup token.
    pub access_token: Option<Sensitive>,
    /// Single-use refresh token (RFC 6749 section 6).
    pub refresh_token: Option<Sensitive>,
    /// Whether the refresh token was sent and not answered: it may be spent.
    pub refresh_in_doubt: bool,
    /// API key of the Console.
    pub api_key: Option<Sensitive>,
    /// End of the access token's life, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Scopes that were granted.
    pub scopes: Vec<String>,
    /// Base URL of an Anthropic-compatible service, without a trailing slash; `None` is the configured upstream.
    pub base_url: Option<String>,
    /// Names of models as clients send them, and as this account's upstream calls them.
    pub model_mapping: BTreeMap<String, String>,
    /// Requests it may serve at the same time; 0 = any number.
    pub max_concurrency: i64,
    /// The end of its use, Unix milliseconds.
    pub expires_on_ms: Option<i64>,
    /// What it may cost on one local day, pico-dollars; 0 = any amount.
    pub daily_cost_limit: i64,
    /// The proxy it is reached through.
    pub proxy: Option<Proxy>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub last_used_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub last_refresh_at_ms: Option<i64>,
}

impl Account {
    /// Whether it has anything to prove itself with.
    pub fn has_credential(&self) -> bool {
        match self.kind {
            AccountKind::ApiKey => self.api_key.is_some(),
            AccountKind::SetupToken => self.access_token.is_some(),
            AccountKind::OAuth => self.access_token.is_some() || self.refresh_token.is_some(),
        }
    }

    /// Whether it may serve at all: switched on, not in error, with a credential.
    pub fn is_usable(&self) -> bool {
        self.is_active && self.status != "error" && self.has_credential()
    }

    /// Whether its use has ended at `now_ms`.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_on_ms.is_some_and(|end| now_ms >= end)
    }

    /// The e-mail address as a list shows it: `us***r@example.com`; for local parts of one or two characters `u***@…`.
    pub fn masked_email(&self) -> String {
        let Some((local, domain)) = self.email.split_once('@') else {
            return self.email.clone();
        };
        let letters: Vec<char> = local.chars().collect();
        match letters.as_slice() {
            [] => format!("***@{domain}"),
            [first] | [first, _] => format!("{first}***@{domain}"),
            [first, second, .., last] => format!("{first}{second}***{last}@{domain}"),
        }
    }
}
