//! The way back: the original's export format 2.0, which its own import reads, written record by record.
//!
//! A full export holds the accounts' secrets as the original stores them, sealed under the encryption key of where it goes
//! (`decrypted: false`); its proxies are in the clear there, and so they are here. A sanitised one holds no secret at all.

mod fields;

use super::records::REDACTED;
use crate::error::{Error, Kind, Result};
use crate::model::secret::{self, Cipher};
use crate::model::time::{
    TimeZone, day_text, hour_text, hours_from_utc, iso, iso_or_empty, now_ms, offset_hours, zone_name,
};
use crate::model::{Account, AccountKind, Sensitive, Usage};
use crate::store::{ExportedKey, ExportedUsage, Exporter, Store};
use fields::record;
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
    let ciphers = target.map(Ciphers::new).transpose()?;
    let now_ms = now_ms();
    let exporter = store.exporter(target.map(Sensitive::expose), now_ms / 1000 - HOURS_KEPT_S)?;
    let (offset_hours, is_whole) = offset_hours(store.zone(), now_ms);
    let zone = hours_from_utc(offset_hours);
    let mut writing =
        Writing { out, store, now_ms, zone: &zone, exporter: &exporter, ciphers: ciphers.as_ref(), left_out: 0 };
    let mut metadata = json!({
        "version": "2.0", "exportDate": iso(now_ms), "sanitized": target.is_none(), "decrypted": false,
        "types": ["all"], "keysLeftOut": writing.unusable()?,
        "timezoneOffset": offset_hours, "timezone": zone_name(store.zone()),
    });
    if !is_whole {
        metadata["timezoneNote"] = json!("timezoneOffset is rounded down to a whole hour, as the original counts by");
    }
    writing.text(&format!("{{\"metadata\":{metadata},\"data\":{{\"apiKeys\":["))?;
    writing.keys()?;
    writing.text("],\"claudeAccounts\":[")?;
    writing.accounts(false)?;
    writing.text("],\"claudeConsoleAccounts\":[")?;
    writing.accounts(true)?;
    writing.text("],\"geminiAccounts\":[],\"admins\":[],\"globalModelStats\":")?;
    let global = writing.global()?;
    writing.json(&global)?;
    writing.text("}}")
}

/// What seals the secrets of accounts: the later versions' Console accounts have a salt of their own.
struct Ciphers {
    subscription: Cipher,
    console: Cipher,
}

impl Ciphers {
    fn new(key: &Sensitive) -> Result<Ciphers> {
        let failed = |error: secret::Error| Error::internal("deriving the encryption key failed", error.to_string());
        Ok(Ciphers {
            subscription: Cipher::new(key.expose()).map_err(failed)?,
            console: Cipher::of_console_accounts(key.expose()).map_err(failed)?,
        })
    }

    fn of(&self, kind: AccountKind) -> &Cipher {
        if kind == AccountKind::ApiKey { &self.console } else { &self.subscription }
    }
}

struct Writing<'a> {
    out: &'a mut dyn Write,
    store: &'a Store,
    now_ms: i64,
    /// In which hours are told, by whole hours from UTC.
    zone: &'a TimeZone,
    exporter: &'a Exporter,
    ciphers: Option<&'a Ciphers>,
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
        if self.ciphers.is_none() {
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
            if self.ciphers.is_some() && !exported.is_usable {
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
        let shown = match self.ciphers {
            Some(_) => hash.clone(),
            None => format!("{}...{REDACTED}", hash.get(..HASH_SHOWN).unwrap_or_default()),
        };
        let bound = self.store.account_by_id(&key.claude_account_id);
        let is_bound_to_console = bound.is_some_and(|account| account.kind == AccountKind::ApiKey);
        let mut record = record(&fields::of_key(key, shown, is_bound_to_console));
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
            // The one whole hour that begins in this one, where its zone is not at whole hours.
            3 => Some((2, hour_text((found.bucket + 3599).div_euclid(3600) * 3600, self.zone))),
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

    /// The accounts with an API key, or the others.
    fn accounts(&mut self, with_api_key: bool) -> Result<()> {
        let mut is_first = true;
        for account in self.store.accounts().iter() {
            if (account.kind == AccountKind::ApiKey) == with_api_key {
                self.separate(&mut is_first)?;
                let record = self.account(account)?;
                self.json(&record)?;
            }
        }
        Ok(())
    }

    fn account(&self, account: &Account) -> Result<Map<String, Value>> {
        let seal = |clear: &str| -> Result<String> {
            match self.ciphers {
                Some(ciphers) => ciphers
                    .of(account.kind)
                    .seal_for_original(clear)
                    .map_err(|error| Error::internal("sealing a secret failed", error.to_string())),
                None if clear.is_empty() => Ok(String::new()),
                None => Ok(REDACTED.to_owned()),
            }
        };
        let secret = |secret: &Option<Sensitive>| secret.as_ref().map(Sensitive::expose).unwrap_or_default().to_owned();
        let password = secret(&self.store.account_password(&account.id)?);
        let (access, refresh) = (secret(&account.access_token), secret(&account.refresh_token));
        let api_key = secret(&account.api_key);
        let mut fields = fields::of_account(account, self.now_ms);
        fields.push(("proxy", self.proxy(account)));
        fields.push(("lastUsedAt", iso_or_empty(self.store.account_last_used_ms(&account.id)?)));
        fields.push(("email", seal(&account.email)?));
        fields.push(("password", seal(&password)?));
        if account.kind == AccountKind::ApiKey {
            fields.extend(fields::of_console(account));
            fields.push(("apiKey", seal(&api_key)?));
            return Ok(record(&fields));
        }
        fields.push(("accessToken", seal(&access)?));
        fields.push(("refreshToken", seal(&refresh)?));
        if !access.is_empty() {
            let (expires_at_ms, scopes) = fields::end_and_scopes(account, self.now_ms);
            let both = json!({
                "accessToken": access, "refreshToken": refresh, "expiresAt": expires_at_ms, "scopes": scopes,
            });
            fields.push(("claudeAiOauth", seal(&both.to_string())?));
        }
        Ok(record(&fields))
    }

    fn proxy(&self, account: &Account) -> String {
        let Some(proxy) = &account.proxy else { return String::new() };
        let password = proxy.password.as_ref().filter(|_| self.ciphers.is_some()).map(Sensitive::expose);
        // The original knows no proxy that resolves names.
        let scheme = if proxy.scheme == "socks5h" { "socks5" } else { &proxy.scheme };
        json!({
            "type": scheme, "host": proxy.host, "port": proxy.port, "username": proxy.username, "password": password,
        })
        .to_string()
    }
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
    Value::Object(record(&pairs))
}

fn total_counts(usage: &Usage) -> Value {
    let tokens = &usage.tokens;
    Value::Object(record(&[
        ("totalTokens", (tokens.input + tokens.output).to_string()),
        ("totalInputTokens", tokens.input.to_string()),
        ("totalOutputTokens", tokens.output.to_string()),
        ("totalCacheCreateTokens", tokens.cache_creation().to_string()),
        ("totalCacheReadTokens", tokens.cache_read.to_string()),
        ("totalAllTokens", tokens.all().to_string()),
        ("totalRequests", usage.requests.to_string()),
    ]))
}
