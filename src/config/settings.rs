//! The table of settings: the name in the file, the name in the environment, how it is written, and how a text becomes a
//! value. A setting is added here and in [`Config`]; that the example file has it too is tested.

use super::Config;
use crate::model::Sensitive;
use crate::model::moved::whole;
use crate::model::notice::{Happening, Preset};
use crate::model::url::is_authority;
use jiff::tz::TimeZone;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// One setting.
pub(super) struct Setting {
    /// Name in the file.
    pub(super) name: &'static str,
    /// Name in the environment and in `.env`.
    pub(super) environment: &'static str,
    /// How it is written in the file.
    pub(super) kind: Kind,
    /// Reads a text into the settings; the error says what is allowed.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// How a setting is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Text,
    /// Text of which the empty one is a value, also in the environment.
    Clearable,
    Number,
    TextOrNumber,
    Boolean,
    /// Text that must not be shown.
    Secret,
}

impl Kind {
    /// For the reader of a fault.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Kind::Text | Kind::Clearable | Kind::Secret => "a JSON string",
            Kind::Number => "a JSON number",
            Kind::TextOrNumber => "a JSON string or number",
            Kind::Boolean => "true or false",
        }
    }
}

/// A day, in milliseconds: the longest of all waits.
const DAY_MS: u64 = 86_400_000;

macro_rules! settings {
    ($($name:ident, $environment:literal, $kind:ident, $read:expr;)*) => {
        &[$(Setting {
            name: stringify!($name),
            environment: $environment,
            kind: Kind::$kind,
            set: |config, text| {
                config.$name = $read(text)?;
                Ok(())
            },
        }),*]
    };
}

pub(super) static SETTINGS: &[Setting] = settings! {
    host, "HOST", Text, host;
    port, "PORT", Number, |text| number(text, 0..=65_535);
    data_dir, "DATA_DIR", Text, |text| path(text)?.ok_or_else(|| "a folder".to_owned());
    relay_workers, "RELAY_WORKERS", Number, |text| number(text, 1..=4096);
    control_workers, "CONTROL_WORKERS", Number, |text| number(text, 1..=64);
    encryption_key, "ENCRYPTION_KEY", Secret, |text| secret(text, 1);
    api_key_prefix, "API_KEY_PREFIX", Text, prefix;
    admin_username, "ADMIN_USERNAME", Text, username;
    admin_password, "ADMIN_PASSWORD", Secret, |text| secret(text, 8);
    admin_session_timeout_ms, "ADMIN_SESSION_TIMEOUT", Number, |text| number(text, 60_000..=365 * DAY_MS);
    claude_api_url, "CLAUDE_API_URL", Text, url;
    claude_api_version, "CLAUDE_API_VERSION", Text, token;
    upstream_ca_file, "UPSTREAM_CA_FILE", Text, path;
    oauth_authorize_url, "OAUTH_AUTHORIZE_URL", Text, url;
    oauth_token_url, "OAUTH_TOKEN_URL", Text, url;
    pricing_url, "PRICING_URL", Clearable, |text: &str| if text.is_empty() { Ok(String::new()) } else { url(text) };
    connect_timeout_ms, "UPSTREAM_CONNECT_TIMEOUT", Number, |text| number(text, 100..=DAY_MS);
    first_byte_timeout_ms, "UPSTREAM_FIRST_BYTE_TIMEOUT", Number, |text| number(text, 100..=DAY_MS);
    idle_timeout_ms, "UPSTREAM_IDLE_TIMEOUT", Number, |text| number(text, 100..=DAY_MS);
    total_timeout_ms, "UPSTREAM_TOTAL_TIMEOUT", Number, |text| number(text, 1000..=DAY_MS);
    failover_accounts_max, "FAILOVER_ACCOUNTS_MAX", Number, |text| number(text, 1..=32);
    failover_time_max_ms, "FAILOVER_TIME_MAX", Number, |text| number(text, 0..=DAY_MS);
    affinity_wait_ms, "AFFINITY_WAIT", Number, |text| number(text, 0..=60_000);
    client_gone_drain_ms, "CLIENT_GONE_DRAIN", Number, |text| number(text, 0..=600_000);
    request_body_bytes_max, "REQUEST_BODY_BYTES_MAX", Number, |text| number(text, 1024..=1 << 30);
    shutdown_grace_ms, "SHUTDOWN_GRACE", Number, |text| number(text, 0..=DAY_MS);
    default_token_limit, "DEFAULT_TOKEN_LIMIT", Number, |text| number(text, 0..=(1 << 53) - 1);
    concurrency_wait_ms, "CONCURRENCY_WAIT", Number, |text| number(text, 0..=60_000);
    log_level, "LOG_LEVEL", Text, log_level;
    log_max_size, "LOG_MAX_SIZE", TextOrNumber, log_size;
    log_max_files, "LOG_MAX_FILES", TextOrNumber, |text: &str| number(text.trim_end_matches('d'), 1..=1000);
    system_timezone, "SYSTEM_TIMEZONE", Text, zone;
    timezone_offset, "TIMEZONE_OFFSET", Number, offset;
    cleanup_interval_ms, "CLEANUP_INTERVAL", Number, |text| number(text, 1000..=30 * DAY_MS);
    token_usage_retention_ms, "TOKEN_USAGE_RETENTION", Number, |text| number(text, DAY_MS..=36_525 * DAY_MS);
    snapshot_interval_hours, "SNAPSHOT_INTERVAL_HOURS", Number, |text| number(text, 0..=8760);
    snapshots_kept, "SNAPSHOTS_KEPT", Number, |text| number(text, 1..=1000);
    web_title, "WEB_TITLE", Text, line;
    web_description, "WEB_DESCRIPTION", Text, line;
    web_logo_url, "WEB_LOGO_URL", Text, logo;
    enable_cors, "ENABLE_CORS", Boolean, boolean;
    trust_proxy, "TRUST_PROXY", Boolean, boolean;
    address_limit, "ADDRESS_RATE_LIMIT", Number, |text| number(text, 0..=1_000_000_000);
    metrics_token, "METRICS_TOKEN", Secret, |text| secret(text, 16);
    webhook_url, "WEBHOOK_URL", Secret, secret_url;
    webhook_secret, "WEBHOOK_SECRET", Secret, |text| secret(text, 8);
    webhook_preset, "WEBHOOK_PRESET", Text, |text| Preset::parse(text).ok_or_else(|| "one of generic, slack, feishu".to_owned());
    webhook_events, "WEBHOOK_EVENTS", Text, events;
};

/// What the original reads from the environment and this program does not, and why. A `.env` may go on naming them.
pub(super) static WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("REDIS_HOST", NO_REDIS),
    ("REDIS_PORT", NO_REDIS),
    ("REDIS_PASSWORD", NO_REDIS),
    ("REDIS_DB", NO_REDIS),
    ("REDIS_ENABLE_TLS", NO_REDIS),
    ("JWT_SECRET", "sessions are random tokens in the database"),
    ("WEB_SESSION_SECRET", "sessions are random tokens in the database"),
    ("CLAUDE_BETA_HEADER", "the client's own anthropic-beta is passed on"),
    ("DEFAULT_PROXY_TIMEOUT", "it cut healthy streams; UPSTREAM_IDLE_TIMEOUT and its like bound what they name"),
    ("MAX_PROXY_RETRIES", "the original never used it"),
    ("HEALTH_CHECK_INTERVAL", "the original never used it"),
    ("DEBUG", "the original never used it; see LOG_LEVEL"),
    ("HOT_RELOAD", "the original never used it"),
];

const NO_REDIS: &str = "there is no Redis: all data is in DATA_DIR";

/// Whether the environment's name is that of a setting.
pub(super) fn is_known(environment: &str) -> bool {
    SETTINGS.iter().any(|setting| setting.environment == environment)
}

fn number<T>(text: &str, allowed: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("a whole number from {} to {}", allowed.start(), allowed.end())),
    }
}

/// The whole hours that a text begins with, as the original reads it: half ones and units are cut off.
fn offset(text: &str) -> Result<i8, String> {
    number(&whole(text).map_or_else(String::new, |hours| hours.to_string()), -12..=14)
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false".into()),
    }
}

fn secret(text: &str, characters_min: usize) -> Result<Option<Sensitive>, String> {
    match text.chars().count() {
        0 => Ok(None),
        count if count < characters_min => Err(format!("at least {characters_min} characters long")),
        _ => Ok(Some(Sensitive::new(text.to_owned()))),
    }
}

fn secret_url(text: &str) -> Result<Option<Sensitive>, String> {
    if text.is_empty() { Ok(None) } else { url(text).map(|url| Some(Sensitive::new(url))) }
}

fn events(text: &str) -> Result<Vec<Happening>, String> {
    Happening::parse_list(text).ok_or_else(|| {
        let names = Happening::CHOICE.map(Happening::as_str).join(", ");
        format!("all, or some of {names} with commas between")
    })
}

fn host(text: &str) -> Result<String, String> {
    let is_host = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if is_host { Ok(text.to_owned()) } else { Err("an address or a host name".into()) }
}

fn path(text: &str) -> Result<Option<PathBuf>, String> {
    Ok(Some(text).filter(|text| !text.is_empty()).map(PathBuf::from))
}

fn prefix(text: &str) -> Result<String, String> {
    let is_clean = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_clean && (1..=20).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("1 to 20 letters, digits, - or _".into())
    }
}

fn username(text: &str) -> Result<Option<String>, String> {
    line(text).map(|text| Some(text).filter(|text| !text.is_empty()))
}

fn line(text: &str) -> Result<String, String> {
    let is_line = text.chars().count() <= 200 && !text.chars().any(char::is_control);
    if is_line { Ok(text.to_owned()) } else { Err("one line of at most 200 characters".into()) }
}

fn logo(text: &str) -> Result<String, String> {
    match text {
        "" | "/assets/logo.png" => Ok(String::new()),
        _ if text.starts_with('/') && !text.starts_with("//") => line(text),
        _ => url(text).map_err(|_| "an http:// or https:// URL, or a path that begins with /".into()),
    }
}

fn token(text: &str) -> Result<String, String> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(text.to_owned()) } else { Err("a header value without blanks".into()) }
}

/// The rest of a URL, behind its server, is judged by the client that uses it.
fn url(text: &str) -> Result<String, String> {
    let wrong = || "an http:// or https:// URL with a host".to_owned();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
    let is_clean = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if is_clean && is_authority(authority) { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// The levels of this program and of the original's log library, which has some in between.
fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(Error),
        "warn" => Ok(Warn),
        "info" | "http" => Ok(Info),
        "debug" | "verbose" => Ok(Debug),
        "trace" | "silly" => Ok(Trace),
        _ => Err("one of error, warn, info, debug, trace (or http, verbose, silly)".into()),
    }
}

fn log_size(text: &str) -> Result<u64, String> {
    let text = text.to_ascii_lowercase();
    let (digits, unit) = match text.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if text.ends_with('k') => (digits, 1 << 10),
        Some(digits) if text.ends_with('m') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text.as_str(), 1),
    };
    let bytes = digits.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    bytes.filter(|bytes| (64 * 1024..=1 << 40).contains(bytes)).ok_or_else(|| "a size from 64k to 1024g".into())
}

fn zone(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    match TimeZone::get(text) {
        Ok(_) => Ok(Some(text.to_owned())),
        Err(_) => Err("an IANA time zone such as Europe/Berlin".into()),
    }
}
