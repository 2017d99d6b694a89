//! Accounts of the original: those of a subscription, and the Console accounts of its later versions, which hold an API key
//! and the address of any Anthropic-compatible service.

use super::fields::Fields;
use super::records::REDACTED;
use crate::error::{Error, Kind, Result};
use crate::model::moved::MovedAccount;
use crate::model::proxy::BadProxy;
use crate::model::remarks::{Failure, Note, Reason};
use crate::model::secret::Cipher;
use crate::model::time::parse;
use crate::model::{AccountKind, AccountType, Proxy, Sensitive, url};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Requests at a time that an account may be limited to; more is taken as no limit.
const CONCURRENCY_MAX: i64 = 10_000;
/// Words for an account that waits for something to pass. What is still so will be seen again at its first request.
const PASSING: [&str; 5] = ["rate_limited", "overloaded", "quota_exceeded", "temp_error", "active"];
/// Marks of a stop that the original made itself and would have ended itself.
const OWN_STOPS: [&str; 4] =
    ["rateLimitAutoStopped", "fiveHourAutoStopped", "quotaAutoStopped", "tempErrorAutoStopped"];

/// Which of the original's records an account was read from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// Tokens of a subscription.
    Subscription,
    /// An API key with a base URL.
    Console,
}

/// What opens the secrets of a source, and how many it did.
pub(super) struct Secrets {
    encryption_key: Sensitive,
    cipher: Cipher,
    /// Console accounts are sealed under a key of their own, derived when the first is met.
    console: Option<Cipher>,
    /// Whether the source has them in the clear, whatever they look like.
    is_clear: bool,
    opened: u64,
    closed: u64,
}

/// A secret as it was found.
enum Found {
    Clear(Sensitive),
    /// It looks sealed in the oldest form and does not open: the original took it for what it is.
    AsItStands(Sensitive),
    Closed,
}

impl Secrets {
    pub(super) fn new(encryption_key: &Sensitive) -> Result<Secrets> {
        let cipher = Cipher::new(encryption_key.expose()).map_err(underivable)?;
        Ok(Secrets {
            encryption_key: encryption_key.clone(),
            cipher,
            console: None,
            is_clear: false,
            opened: 0,
            closed: 0,
        })
    }

    pub(super) fn fingerprint(&self) -> String {
        self.cipher.fingerprint()
    }

    /// The source says that it was decrypted.
    pub(super) fn are_clear(&mut self) {
        self.is_clear = true;
    }

    /// Whether the encryption key has opened anything.
    ///
    /// # Errors
    /// It opened less than it did not: it is another.
    pub(super) fn proven(&self) -> Result<bool> {
        if self.closed > self.opened {
            let failure = Failure::WrongKey { closed: self.closed, all: self.closed + self.opened };
            return Err(Error::saying(Kind::Invalid, failure));
        }
        Ok(self.opened > 0)
    }

    /// Opens a secret in either of the original's forms. What is in neither was stored in the clear.
    fn open(&mut self, stored: &str, source: Source) -> Result<Found> {
        let is_hex = |text: &str| {
            text.len() >= 32 && text.len().is_multiple_of(32) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let is_sealed = match stored.split_once(':') {
            Some((iv, ciphertext)) => iv.len() == 32 && is_hex(iv) && is_hex(ciphertext),
            // A key of another service may look like the oldest form, which no Console account was ever in.
            None => is_hex(stored) && source == Source::Subscription,
        };
        if self.is_clear || !is_sealed {
            return Ok(Found::Clear(Sensitive::new(stored.to_owned())));
        }
        let cipher = match source {
            Source::Subscription => &self.cipher,
            Source::Console => {
                if self.console.is_none() {
                    let derived = Cipher::of_console_accounts(self.encryption_key.expose()).map_err(underivable)?;
                    self.console = Some(derived);
                }
                self.console.as_ref().unwrap_or(&self.cipher)
            }
        };
        Ok(match cipher.open(stored) {
            Ok(clear) => {
                self.opened += 1;
                Found::Clear(Sensitive::new(clear))
            }
            Err(_) if !stored.contains(':') => Found::AsItStands(Sensitive::new(stored.to_owned())),
            Err(_) => {
                self.closed += 1;
                Found::Closed
            }
        })
    }
}

fn underivable(error: crate::model::secret::Error) -> Error {
    Error::internal("deriving the encryption key failed", error.to_string())
}

/// Why a record is no account that can be used.
pub(super) fn unfit(id: &str, fields: &Fields, source: Source) -> Option<Reason> {
    let secrets = ["accessToken", "refreshToken", "claudeAiOauth", "apiKey"];
    if secrets.iter().any(|name| fields.text(name).contains(REDACTED)) {
        Some(Reason::TokensCutOff)
    } else if id.is_empty() || (fields.text("name").is_empty() && fields.text("createdAt").is_empty()) {
        Some(Reason::Leftover)
    } else if source == Source::Console && base_url(fields.text("apiUrl")).is_none() {
        Some(Reason::NoAddress)
    } else {
        None
    }
}

/// An account with its secrets open, and what the admin should know of it.
pub(super) fn account(
    id: &str,
    fields: &Fields,
    source: Source,
    secrets: &mut Secrets,
    now_ms: i64,
) -> Result<(MovedAccount, Vec<Note>)> {
    let name = fields.text("name").to_owned();
    let mut notes = Vec::new();
    let mut open = |field: &str| -> Result<Sensitive> {
        Ok(match secrets.open(fields.text(field), source)? {
            Found::Clear(secret) => secret,
            Found::AsItStands(secret) => {
                notes.push(Note::SecretKept { field: field.to_owned(), account: name.clone() });
                secret
            }
            Found::Closed => {
                notes.push(Note::SecretLost { field: field.to_owned(), account: name.clone() });
                Sensitive::new(String::new())
            }
        })
    };
    let (email, password, api_key) = (open("email")?, open("password")?, open("apiKey")?);
    let tokens = tokens(fields, &mut open)?;
    notes.extend(left_off(&name, fields));
    let (proxy, fault) = proxy(fields);
    let (model_mapping, was_list) = models(fields);
    if was_list {
        notes.push(Note::ModelList { account: name.clone() });
    }
    // The original's own stop is not the admin's switch.
    let is_own_stop = OWN_STOPS.iter().any(|mark| fields.is_true(mark));
    let mut account = MovedAccount {
        id: id.to_owned(),
        description: fields.text("description").to_owned(),
        kind: match source {
            Source::Console => AccountKind::ApiKey,
            Source::Subscription => kind(fields, &tokens),
        },
        account_type: AccountType::parse(fields.text("accountType")).unwrap_or(AccountType::Shared),
        is_active: fields.is_true("isActive") || fields.is_true("quotaAutoStopped"),
        schedulable: fields.text("schedulable") != "false" || is_own_stop,
        priority: fields.limit("priority").filter(|priority| (1..=100).contains(priority)).unwrap_or(50),
        status: status(fields).to_owned(),
        error_message: fields.text("errorMessage").to_owned(),
        email,
        password,
        access_token: tokens.access,
        refresh_token: tokens.refresh,
        api_key,
        base_url: match fields.known("baseUrl") {
            Some(own) => base_url(own),
            None => base_url(fields.text("apiUrl")).filter(|_| source == Source::Console),
        },
        model_mapping,
        max_concurrency: fields.limit("maxConcurrentTasks").filter(|max| *max <= CONCURRENCY_MAX).unwrap_or(0),
        daily_cost_limit: fields.dollars("dailyQuota").unwrap_or(0),
        expires_on_ms: fields.instant("subscriptionExpiresAt"),
        proxy,
        expires_at_ms: tokens.expires_at_ms,
        scopes: tokens.scopes,
        created_at_ms: fields.instant("createdAt").unwrap_or(now_ms),
        updated_at_ms: fields.instant("updatedAt"),
        last_used_at_ms: fields.instant("lastUsedAt"),
        last_refresh_at_ms: fields.instant("lastRefreshAt"),
        name,
    };
    if account.status != "error" {
        account.error_message = String::new();
    }
    if let Some(fault) = fault {
        // Never a direct connection in its place.
        account.is_active = false;
        account.status = "error".to_owned();
        account.error_message = format!("Its proxy cannot be used: {fault}");
        notes.push(Note::ProxyUnusable { account: account.name.clone(), fault });
    }
    Ok((account, notes))
}

/// What is not taken over of an account's settings.
fn left_off(name: &str, fields: &Fields) -> Vec<Note> {
    let mut notes = Vec::new();
    if fields.text("apiUrl").contains('?') {
        notes.push(Note::QueryCut { account: name.to_owned() });
    }
    for limit in ["priority", "maxConcurrentTasks", "dailyQuota"] {
        if fields.dollars(limit).is_none() {
            notes.push(Note::NoNumber { field: limit.to_owned(), account: name.to_owned() });
        }
    }
    notes
}

/// Tokens of a subscription, and what is known of them.
struct Tokens {
    access: Sensitive,
    refresh: Sensitive,
    expires_at_ms: Option<i64>,
    scopes: String,
}

/// Written by hand or by a later version, tokens may be in their common record alone, and with them their end and scopes.
fn tokens(fields: &Fields, open: &mut dyn FnMut(&str) -> Result<Sensitive>) -> Result<Tokens> {
    let instant = |text: &str| text.parse().ok().or_else(|| parse(text));
    let mut tokens = Tokens {
        access: open("accessToken")?,
        refresh: open("refreshToken")?,
        // What an export of this relay has in the place of no end, it says itself.
        expires_at_ms: instant(fields.text("expiresAt")).filter(|_| !fields.is_true("hasNoEnd")),
        scopes: fields.text("scopes").to_owned(),
    };
    if tokens.access.expose().is_empty() && tokens.refresh.expose().is_empty() {
        let both: Map<String, Value> = serde_json::from_str(open("claudeAiOauth")?.expose()).unwrap_or_default();
        let scopes: Vec<&str> = match both.get("scopes") {
            Some(Value::Array(scopes)) => scopes.iter().filter_map(Value::as_str).collect(),
            scopes => scopes.and_then(Value::as_str).into_iter().collect(),
        };
        let (scopes, both) = (scopes.join(" "), Fields::from(both.clone()));
        let of = |name: &str| Sensitive::new(both.text(name).to_owned());
        (tokens.access, tokens.refresh) = (of("accessToken"), of("refreshToken"));
        tokens.expires_at_ms = tokens.expires_at_ms.or_else(|| instant(both.text("expiresAt")));
        if tokens.scopes.is_empty() {
            tokens.scopes = scopes;
        }
    }
    Ok(tokens)
}

fn proxy(fields: &Fields) -> (Option<Proxy>, Option<BadProxy>) {
    match fields.text("proxy") {
        "" | "null" => (None, None),
        json => match Proxy::from_json(json, None) {
            Ok(mut proxy) => {
                if proxy.scheme == "socks5" && fields.is_true("proxyResolvesNames") {
                    proxy.scheme = "socks5h".to_owned();
                }
                (Some(proxy), None)
            }
            Err(fault) => (None, Some(fault)),
        },
    }
}

/// A Console account's address without the path of the one route and its query, which some admins wrote with it.
fn base_url(text: &str) -> Option<String> {
    let text = text.split('?').next().unwrap_or_default().trim().trim_end_matches('/');
    url::base(text.strip_suffix("/v1/messages").unwrap_or(text))
}

/// The models that an upstream calls otherwise, and whether the original's list said which ones an account may be asked for.
fn models(fields: &Fields) -> (BTreeMap<String, String>, bool) {
    if let Some(own) = fields.known("modelMapping") {
        return (serde_json::from_str(own).unwrap_or_default(), false);
    }
    let listed: Value = serde_json::from_str(fields.text("supportedModels")).unwrap_or_default();
    let is_list = listed.as_object().is_some_and(|names| !names.is_empty())
        || listed.as_array().is_some_and(|names| !names.is_empty());
    let renamed = listed.as_object().into_iter().flatten().filter_map(|(name, upstream)| {
        let upstream = upstream.as_str().map(str::trim).filter(|upstream| !upstream.is_empty() && *upstream != name)?;
        Some((name.clone(), upstream.to_owned()))
    });
    (renamed.collect(), is_list)
}

/// A token without a refresh token is one of long life, entered by hand, unless an export of this relay says otherwise.
fn kind(fields: &Fields, tokens: &Tokens) -> AccountKind {
    let own = AccountKind::parse(fields.text("kind")).filter(|kind| *kind != AccountKind::ApiKey);
    let is_alone = tokens.refresh.expose().is_empty() && !tokens.access.expose().is_empty();
    own.unwrap_or(if is_alone { AccountKind::SetupToken } else { AccountKind::OAuth })
}

/// Later versions have further words for accounts that an admin must look after.
fn status(fields: &Fields) -> &'static str {
    match fields.text("status") {
        "created" | "" => "created",
        word if PASSING.contains(&word) => "active",
        _ => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_without_the_route() {
        for (text, expected) in [
            ("https://api.example.com", Some("https://api.example.com")),
            (" https://api.example.com/claude/ ", Some("https://api.example.com/claude")),
            ("https://api.example.com/v1/messages", Some("https://api.example.com")),
            ("http://10.0.0.7:3000/api/v1/messages/", Some("http://10.0.0.7:3000/api")),
            ("https://api.example.com/v1/messages?beta=true", Some("https://api.example.com")),
            ("https://api.example.com/?a=b/v1/messages", Some("https://api.example.com")),
            ("api.example.com", None),
            ("ftp://api.example.com", None),
            ("https://user:word@example.com", None),
            ("https:///v1/messages", None),
            ("", None),
        ] {
            assert_eq!(base_url(text).as_deref(), expected, "{text}");
        }
    }
}
