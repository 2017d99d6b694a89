//! The way back: the original's export format 2.0, which its own import reads, written record by record.
//!
//! A full export holds the accounts' secrets as the original stores them, sealed under the encryption key of where it goes
//! (`decrypted: false`); its proxies are in the clear there, and so they are here. A sanitised one holds no secret at all.

use super::records::REDACTED;
use crate::error::{Error, Kind, Result};
use crate::model::secret::Cipher;
use crate::model::time::{TimeZone, day_text, hour_text, iso, iso_or_empty, now_ms};
use crate::model::{Account, AccountKind, ApiKey, Sensitive, Usage};
use crate::store::{ExportedKey, ExportedUsage, Exporter, Store};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;

/// Hours that the original keeps, in seconds.
const HOURS_KEPT_S: i64 = 7 * 24 * 3600;
/// Characters of a hash that a sanitised export shows.
const HASH_SHOWN: usize = 10;

/// Sums by the text of their bucket, and those of each model.
type Buckets = BTreeMap<String, Usage>;

/// Writes everything. `target` is the encryption key of where it goes; without one the export is sanitised.
///
/// # Errors
/// SQLite's; whoever receives it has left.
pub fn write(store: &Store, target: Option<&Sensitive>, out: &mut dyn Write) -> Result<()> {
    let cipher = target
        .map(|key| Cipher::new(key.expose()))
        .transpose()
        .map_err(|error| Error::internal("deriving the encryption key failed", error.to_string()))?;
    let exporter = store.exporter(target.map(Sensitive::expose), now_ms() / 1000 - HOURS_KEPT_S)?;
    let mut writing =
        Writing { out, store, zone: store.zone(), exporter: &exporter, cipher: cipher.as_ref(), left_out: 0 };
    let accounts = store.accounts();
    let consoles = accounts.iter().filter(|account| account.kind == AccountKind::ApiKey).count();
    let metadata = json!({
        "version": "2.0", "exportDate": iso(now_ms()), "sanitized": target.is_none(), "decrypted": false,
        "types": ["all"], "keysLeftOut": writing.unusable()?, "accountsLeftOut": consoles,
    });
    writing.text(&format!("{{\"metadata\":{metadata},\"data\":{{\"apiKeys\":["))?;
    writing.keys()?;
    writing.text("],\"claudeAccounts\":[")?;
    let mut is_first = true;
    for account in accounts.iter().filter(|account| account.kind != AccountKind::ApiKey) {
        writing.separate(&mut is_first)?;
        let record = writing.account(account)?;
        writing.json(&record)?;
    }
    writing.text("],\"geminiAccounts\":[],\"admins\":[],\"globalModelStats\":")?;
    let global = writing.global()?;
    writing.json(&global)?;
    writing.text("}}")
}

struct Writing<'a> {
    out: &'a mut dyn Write,
    store: &'a Store,
    zone: &'a TimeZone,
    exporter: &'a Exporter,
    cipher: Option<&'a Cipher>,
    left_out: u64,
}

fn gone(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::from_source(Kind::ClientGone, "the export could not be sent", error)
}

impl Writing<'_> {
    fn text(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).map_err(gone)
    }

    fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut *self.out, value).map_err(gone)
    }

    fn separate(&mut self, is_first: &mut bool) -> Result<()> {
        if std::mem::take(is_first) { Ok(()) } else { self.text(",") }
    }

    /// Keys that would not work where the export goes: their hashes were made with another encryption key.
    fn unusable(&mut self) -> Result<u64> {
        if self.cipher.is_none() {
            return Ok(0);
        }
        let exporter = self.exporter;
        exporter.keys(&mut |exported| {
            self.left_out += u64::from(!exported.is_usable);
            Ok(())
        })?;
        Ok(self.left_out)
    }

    fn keys(&mut self) -> Result<()> {
        let (exporter, mut is_first) = (self.exporter, true);
        exporter.keys(&mut |exported| {
            if self.cipher.is_some() && !exported.is_usable {
                return Ok(());
            }
            self.separate(&mut is_first)?;
            let record = self.key(exported)?;
            self.json(&record)
        })
    }

    /// A key as the original stores it: every value is text.
    fn key(&self, exported: &ExportedKey) -> Result<Map<String, Value>> {
        let ExportedKey { key, hash, .. } = exported;
        let shown = match self.cipher {
            Some(_) => hash.clone(),
            None => format!("{}...{REDACTED}", hash.get(..HASH_SHOWN).unwrap_or_default()),
        };
        let mut record = fields(&key_fields(key, shown));
        if let Some(at_ms) = key.updated_at_ms {
            record.insert("updatedAt".to_owned(), json!(iso(at_ms)));
        }
        record.insert("usageStats".to_owned(), self.stats(key.seq)?);
        Ok(record)
    }

    fn stats(&self, key_seq: i64) -> Result<Value> {
        let mut total = Usage::default();
        let mut spans: [Buckets; 3] = Default::default();
        let mut models: BTreeMap<String, [Buckets; 2]> = BTreeMap::new();
        self.exporter.usage(key_seq, &mut |found: ExportedUsage| {
            let Some((place, bucket)) = self.bucket(&found) else {
                total.add(&found.usage);
                return Ok(());
            };
            spans[place].entry(bucket.clone()).or_default().add(&found.usage);
            if place < 2 {
                models.entry(found.model).or_default()[place].entry(bucket).or_default().add(&found.usage);
            }
            Ok(())
        })?;
        let of_models: Map<String, Value> = models
            .into_iter()
            .map(|(model, [daily, monthly])| {
                (model, json!({ "daily": shown(&daily, false), "monthly": shown(&monthly, false) }))
            })
            .collect();
        let [daily, monthly, hourly] = &spans;
        Ok(json!({
            "total": if total.requests == 0 { json!({}) } else { total_counts(&total) },
            "daily": shown(daily, true), "monthly": shown(monthly, true), "hourly": shown(hourly, true),
            "models": of_models, "costTotal": null, "costDaily": {}, "costMonthly": {}, "costHourly": {},
            "opusTotal": null, "opusWeekly": {},
        }))
    }

    /// The place of a bucket among days, months and hours, and its text; `None` for all time.
    fn bucket(&self, found: &ExportedUsage) -> Option<(usize, String)> {
        match found.span {
            1 => Some((1, format!("{:04}-{:02}", found.bucket / 100, found.bucket % 100))),
            2 => Some((0, day_text(found.bucket))),
            3 => Some((2, hour_text(found.bucket, self.zone))),
            _ => None,
        }
    }

    fn global(&self) -> Result<Value> {
        let mut spans: [BTreeMap<String, Buckets>; 3] = Default::default();
        self.exporter.usage(0, &mut |found: ExportedUsage| {
            if let Some((place, bucket)) = self.bucket(&found) {
                spans[place].entry(bucket).or_default().entry(found.model).or_default().add(&found.usage);
            }
            Ok(())
        })?;
        let [daily, monthly, hourly] = spans.map(|buckets| -> Map<String, Value> {
            buckets.into_iter().map(|(bucket, models)| (bucket, shown(&models, false))).collect()
        });
        Ok(json!({
            "daily": daily, "monthly": monthly, "hourly": hourly, "monthlyMonths": [], "globalTotal": null,
            "globalDaily": {}, "globalMonthly": {},
        }))
    }

    fn account(&self, account: &Account) -> Result<Map<String, Value>> {
        let seal = |clear: &str| -> Result<String> {
            match self.cipher {
                Some(cipher) => cipher
                    .seal_for_original(clear)
                    .map_err(|error| Error::internal("sealing a secret failed", error.to_string())),
                None if clear.is_empty() => Ok(String::new()),
                None => Ok(REDACTED.to_owned()),
            }
        };
        let secret = |secret: &Option<Sensitive>| secret.as_ref().map(Sensitive::expose).unwrap_or_default().to_owned();
        let password = secret(&self.store.account_password(&account.id)?);
        let (access, refresh) = (secret(&account.access_token), secret(&account.refresh_token));
        let mut record = fields(&account_fields(account));
        record.insert("proxy".to_owned(), json!(self.proxy(account)));
        let last_used_ms = self.store.account_last_used_ms(&account.id)?;
        record.insert("lastUsedAt".to_owned(), json!(iso_or_empty(last_used_ms)));
        for (name, clear) in [
            ("email", account.email.as_str()),
            ("password", &password),
            ("accessToken", access.as_str()),
            ("refreshToken", &refresh),
        ] {
            record.insert(name.to_owned(), json!(seal(clear)?));
        }
        if !access.is_empty() {
            let both = json!({
                "accessToken": access, "refreshToken": refresh, "expiresAt": account.expires_at_ms,
                "scopes": account.scopes,
            });
            record.insert("claudeAiOauth".to_owned(), json!(seal(&both.to_string())?));
        }
        Ok(record)
    }

    fn proxy(&self, account: &Account) -> String {
        let Some(proxy) = &account.proxy else { return String::new() };
        let password = proxy.password.as_ref().filter(|_| self.cipher.is_some()).map(Sensitive::expose);
        // The original knows no proxy that resolves names.
        let scheme = if proxy.scheme == "socks5h" { "socks5" } else { &proxy.scheme };
        json!({
            "type": scheme, "host": proxy.host, "port": proxy.port, "username": proxy.username, "password": password,
        })
        .to_string()
    }
}

fn fields(pairs: &[(&str, String)]) -> Map<String, Value> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Value::String(value.clone()))).collect()
}

fn key_fields(key: &ApiKey, hash: String) -> Vec<(&'static str, String)> {
    vec![
        ("id", key.id.clone()),
        ("name", key.name.clone()),
        ("description", key.description.clone()),
        ("apiKey", hash),
        ("tokenLimit", key.token_limit.to_string()),
        ("concurrencyLimit", key.concurrency_limit.to_string()),
        ("rateLimitWindow", key.rate_limit_window.to_string()),
        ("rateLimitRequests", key.rate_limit_requests.to_string()),
        ("isActive", key.is_active.to_string()),
        ("claudeAccountId", key.claude_account_id.clone()),
        ("enableModelRestriction", key.enable_model_restriction.to_string()),
        ("restrictedModels", json!(key.restricted_models).to_string()),
        ("createdAt", iso(key.created_at_ms)),
        ("lastUsedAt", iso_or_empty(key.last_used_at_ms)),
        ("expiresAt", key.expires_at.clone()),
        ("createdBy", "admin".to_owned()),
    ]
}

fn account_fields(account: &Account) -> Vec<(&'static str, String)> {
    vec![
        ("id", account.id.clone()),
        ("name", account.name.clone()),
        ("description", account.description.clone()),
        ("expiresAt", account.expires_at_ms.map(|at| at.to_string()).unwrap_or_default()),
        ("scopes", account.scopes.join(" ")),
        ("isActive", account.is_active.to_string()),
        ("accountType", account.account_type.as_str().to_owned()),
        ("createdAt", iso(account.created_at_ms)),
        ("lastRefreshAt", iso_or_empty(account.last_refresh_at_ms)),
        ("status", account.status.clone()),
        ("errorMessage", account.error_message.clone()),
    ]
}

/// The original has `tokens` (input and output) in the records that are not of a model.
fn shown(buckets: &Buckets, with_tokens: bool) -> Value {
    buckets.iter().map(|(bucket, usage)| (bucket.clone(), counts(usage, with_tokens))).collect::<Map<_, _>>().into()
}

fn counts(usage: &Usage, with_tokens: bool) -> Value {
    let tokens = &usage.tokens;
    let mut pairs = vec![
        ("inputTokens", tokens.input.to_string()),
        ("outputTokens", tokens.output.to_string()),
        ("cacheCreateTokens", tokens.cache_creation().to_string()),
        ("cacheReadTokens", tokens.cache_read.to_string()),
        ("allTokens", tokens.all().to_string()),
        ("requests", usage.requests.to_string()),
    ];
    if with_tokens {
        pairs.insert(0, ("tokens", (tokens.input + tokens.output).to_string()));
    }
    Value::Object(fields(&pairs))
}

fn total_counts(usage: &Usage) -> Value {
    let tokens = &usage.tokens;
    Value::Object(fields(&[
        ("totalTokens", (tokens.input + tokens.output).to_string()),
        ("totalInputTokens", tokens.input.to_string()),
        ("totalOutputTokens", tokens.output.to_string()),
        ("totalCacheCreateTokens", tokens.cache_creation().to_string()),
        ("totalCacheReadTokens", tokens.cache_read.to_string()),
        ("totalAllTokens", tokens.all().to_string()),
        ("totalRequests", usage.requests.to_string()),
    ]))
}
