//! `/admin/settings`: what an admin may change in the pages. The environment is stronger than what is stored, and that is
//! stronger than the file and the defaults; the names, the bounds and the reading of each setting are the configuration's.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, plain, titled};
use super::session::Admin;
use crate::config::Config;
use crate::error::Result as Done;
use crate::model::Sensitive;
use crate::model::notice::{Happening, Hook, Notice};
use crate::model::time::{iso, now_ms};
use crate::store::{SettingChange, Store};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

type Outcome = Result<Answer, Answer>;

const DAY_MS: u64 = 86_400_000;
/// How a secret is shown.
const MASK: &str = "***";
/// Members of `/admin/settings` and their names in the file; those of the webhook stand in an object of their own.
const PLAIN: [(&str, &str); 6] = [
    ("timeZone", "system_timezone"),
    ("retentionDays", "token_usage_retention_ms"),
    ("priceSource", "pricing_url"),
    ("title", "web_title"),
    ("description", "web_description"),
    ("logoUrl", "web_logo_url"),
];
const WEBHOOK: [(&str, &str); 4] =
    [("url", "webhook_url"), ("secret", "webhook_secret"), ("preset", "webhook_preset"), ("events", "webhook_events")];

/// The settings as they are now, and what they are made of.
pub(crate) struct Settings {
    /// Without what is stored.
    sources: Config,
    now: RwLock<Arc<Now>>,
    /// One change at a time.
    changing: Mutex<()>,
}

struct Now {
    config: Arc<Config>,
    stored: BTreeSet<String>,
}

impl Now {
    fn read(sources: &Config, store: &Store) -> Done<Now> {
        let stored = store.settings()?;
        let pairs = stored.iter().map(|(name, value)| (name.as_str(), value.expose()));
        let config = Arc::new(sources.with_stored(pairs));
        Ok(Now { config, stored: stored.into_iter().map(|(name, _)| name).collect() })
    }
}

impl Settings {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn load(sources: Config, store: &Store) -> Done<Settings> {
        let now = Now::read(&sources, store)?;
        Ok(Settings { sources, now: RwLock::new(Arc::new(now)), changing: Mutex::default() })
    }

    /// The settings as they are now. The time zone among them is in force from the next start.
    pub(crate) fn now(&self) -> Arc<Config> {
        Arc::clone(&self.state().config)
    }

    fn state(&self) -> Arc<Now> {
        Arc::clone(&self.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where notices go.
    pub(crate) fn hook(&self) -> Option<Hook> {
        let config = self.now();
        Some(Hook {
            url: config.webhook_url.clone()?,
            secret: config.webhook_secret.clone(),
            preset: config.webhook_preset,
            events: config.webhook_events.clone(),
            relay: config.web_title.clone(),
        })
    }
}

/// `GET /web/about`: what the pages are called.
pub(crate) fn about(server: &Server, _: &Call) -> Outcome {
    let config = server.settings.now();
    Ok(Answer::data(json!({
        "title": config.web_title, "description": config.web_description, "logoUrl": config.web_logo_url,
    })))
}

/// `GET /admin/settings`.
pub(crate) fn show(server: &Server, _: &Admin, _: &Call) -> Outcome {
    Ok(Answer::data(shown(server)))
}

/// `PUT /admin/settings`: all or nothing.
pub(crate) fn update(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let settings = &server.settings;
    let _turn = settings.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let changes = changes(&settings.now(), &call.body)?;
    let failed = titled("Failed to save settings");
    server.store.change_settings(&changes).map_err(&failed)?;
    let now = Now::read(&settings.sources, &server.store).map_err(&failed)?;
    *settings.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(now);
    server.relay.notices().aim(settings.hook());
    let names: Vec<&str> = changes.iter().map(|change| change.name).collect();
    log::info!("{} changed the settings {names:?}", admin.username);
    Ok(Answer::json(200, &json!({ "success": true, "message": "Settings saved", "data": shown(server) })))
}

/// `POST /admin/settings/webhook/test`: sends one notice now.
pub(crate) fn test_webhook(server: &Server, admin: &Admin, _: &Call) -> Outcome {
    let notice = Notice {
        event: Happening::Test,
        at_ms: now_ms(),
        account: None,
        key: None,
        model: None,
        details: json!({}),
        message: format!("This is a test, sent by {}", admin.username),
    };
    let tried = server.relay.notices().try_now(&notice).ok_or_else(|| invalid("No webhook URL is set"))?;
    Ok(Answer::data(json!({
        "ok": tried.is_ok, "status": tried.status, "latencyMs": tried.latency_ms, "message": tried.message,
    })))
}

/// What a body asks to be changed: what has its value already is left alone.
fn changes(now: &Config, body: &Map<String, Value>) -> Result<Vec<SettingChange>, Answer> {
    let mut wanted: Vec<(String, &'static str, Option<String>)> = Vec::new();
    for (member, value) in body {
        if member == "webhook" {
            webhook_changes(value, &mut wanted)?;
            continue;
        }
        let name = name_of(&PLAIN, member).ok_or_else(|| invalid(&format!("Unknown setting {member:?}")))?;
        wanted.push((member.clone(), name, text_of(member, value)?));
    }
    let mut changes = Vec::new();
    for (member, name, text) in wanted {
        if let Some(change) = change(now, &member, name, text)? {
            changes.push(change);
        }
    }
    Ok(changes)
}

fn name_of(names: &[(&str, &'static str)], member: &str) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == member).map(|(_, name)| *name)
}

fn webhook_changes(value: &Value, wanted: &mut Vec<(String, &'static str, Option<String>)>) -> Result<(), Answer> {
    let members = match value {
        Value::Null => {
            wanted.extend(WEBHOOK.map(|(member, name)| (format!("webhook.{member}"), name, None)));
            return Ok(());
        }
        Value::Object(members) => members,
        _ => return Err(invalid("webhook must be an object or null")),
    };
    for (member, value) in members {
        let shown = format!("webhook.{member}");
        if member == "removeSecret" {
            let is_wanted = value.as_bool().ok_or_else(|| invalid("webhook.removeSecret must be a boolean"))?;
            if is_wanted {
                wanted.push(("webhook.secret".to_owned(), "webhook_secret", None));
            }
            continue;
        }
        let name = name_of(&WEBHOOK, member).ok_or_else(|| invalid(&format!("Unknown setting {shown:?}")))?;
        let text = text_of(&shown, value)?;
        let is_secret = matches!(member.as_str(), "url" | "secret");
        // A secret that a form sends back as it was shown is kept.
        let is_kept = text.as_deref().is_none_or(|text| text.is_empty() || text.ends_with(MASK));
        if !(is_secret && is_kept) {
            wanted.push((shown, name, text));
        }
    }
    Ok(())
}

/// A member's value as the configuration reads it; `None` forgets what is stored.
fn text_of(member: &str, value: &Value) -> Result<Option<String>, Answer> {
    match (member, value) {
        (_, Value::Null) => Ok(None),
        ("retentionDays", value) => {
            let days = value.as_u64().filter(|days| (1..=36_525).contains(days));
            let days = days.ok_or_else(|| invalid("retentionDays must be a whole number from 1 to 36525"))?;
            Ok(Some((days * DAY_MS).to_string()))
        }
        ("webhook.events", Value::Array(names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            Ok(Some(names.ok_or_else(|| invalid("webhook.events must be an array of names"))?.join(",")))
        }
        // Without a title or a zone of its own, the file's or the default's counts.
        ("title" | "timeZone", Value::String(text)) if text.trim().is_empty() => Ok(None),
        ("webhook.events", _) => Err(invalid("webhook.events must be an array of names")),
        (_, Value::String(text)) => Ok(Some(text.trim().to_owned())),
        _ => Err(invalid(&format!("{member} must be text"))),
    }
}

/// One change, unless it changes nothing.
fn change(
    now: &Config,
    member: &str,
    name: &'static str,
    text: Option<String>,
) -> Result<Option<SettingChange>, Answer> {
    let is_secret = matches!(name, "webhook_url" | "webhook_secret");
    let Some(text) = text else {
        return Ok(Some(SettingChange { name, value: None, is_secret }));
    };
    if name == "system_timezone" && text == zone(now) {
        return Ok(None);
    }
    let mut changed = now.clone();
    changed.set(name, &text).map_err(|allowed| invalid(&format!("{member} must be {allowed}")))?;
    if changed == *now {
        return Ok(None);
    }
    if now.is_fixed(name) {
        let variable = Config::environment_name(if now.fixed.contains(name) { name } else { "timezone_offset" });
        let message = format!("{member} is fixed by the environment ({variable})");
        return Err(plain(409, &message, &message));
    }
    Ok(Some(SettingChange { name, value: Some(Sensitive::new(text)), is_secret }))
}

/// A zone as it is shown: its name, or its offset where none is named.
pub(super) fn zone(config: &Config) -> String {
    config.system_timezone.clone().unwrap_or_else(|| format!("UTC{:+}", config.timezone_offset))
}

fn shown(server: &Server) -> Value {
    let state = server.settings.state();
    let config = &state.config;
    let one = |name: &str, value: Value| {
        let is_fixed = config.is_fixed(name);
        let source = if is_fixed {
            "environment"
        } else if state.stored.contains(name) {
            "stored"
        } else {
            "default"
        };
        json!({ "value": value, "source": source, "fixed": is_fixed })
    };
    let secret = |name: &str, secret: &Option<Sensitive>, masked: &dyn Fn(&str) -> String| {
        let mut shown = one(name, json!(secret.as_ref().map(|secret| masked(secret.expose())).unwrap_or_default()));
        shown["isSet"] = json!(secret.is_some());
        shown
    };
    let values = [
        json!(zone(config)),
        days(config.token_usage_retention_ms),
        json!(config.pricing_url),
        json!(config.web_title),
        json!(config.web_description),
        json!(config.web_logo_url),
    ];
    let mut all: Map<String, Value> =
        PLAIN.iter().zip(values).map(|((member, name), value)| ((*member).to_owned(), one(name, value))).collect();
    all["timeZone"]["inForce"] = json!(zone(&server.config));
    let events: Vec<&str> = config.webhook_events.iter().map(|event| event.as_str()).collect();
    let webhook = json!({
        "url": secret("webhook_url", &config.webhook_url, &masked_url),
        "secret": secret("webhook_secret", &config.webhook_secret, &|_| MASK.to_owned()),
        "preset": one("webhook_preset", json!(config.webhook_preset.as_str())),
        "events": one("webhook_events", json!(events)),
        "state": figures(server),
    });
    all.insert("webhook".to_owned(), webhook);
    all.insert("restartNeeded".to_owned(), json!(config.time_zone() != *server.store.zone()));
    Value::Object(all)
}

/// Whole days as a whole number.
fn days(ms: u64) -> Value {
    if ms.is_multiple_of(DAY_MS) { json!(ms / DAY_MS) } else { json!(ms as f64 / DAY_MS as f64) }
}

/// Where it goes, without the path that lets one write there.
fn masked_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    format!("{scheme}://{host}/{MASK}")
}

fn figures(server: &Server) -> Value {
    let figures = server.relay.notices().figures();
    json!({
        "waiting": figures.waiting,
        "sent": figures.sent,
        "failed": figures.failed,
        "dropped": figures.dropped,
        "lastSentAt": figures.sent_at_ms.map(iso),
        "lastError": figures.error.as_ref().map(|(message, _)| message),
        "lastErrorAt": figures.error.as_ref().map(|(_, at_ms)| iso(*at_ms)),
    })
}
