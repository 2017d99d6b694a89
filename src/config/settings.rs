//! The table of settings: the name in the file, the name in the environment, and how a text becomes a value.

use super::Config;
use crate::model::Sensitive;
use jiff::tz::TimeZone;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// One setting.
pub(super) struct Setting {
    /// Name in the file.
    pub(super) name: &'static str,
    /// Name in the environment.
    pub(super) environment: &'static str,
    /// Whether its value must not be shown.
    pub(super) is_secret: bool,
    /// Reads a text into the settings; the error says what is allowed.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
}

/// A day, in milliseconds: the longest of all waits.
const DAY_MS: u64 = 86_400_000;

macro_rules! settings {
    ($($name:ident, $environment:literal, $read:expr;)*) => {
        &[$(Setting {
            name: stringify!($name),
            environment: $environment,
            is_secret: is_secret(stringify!($name)),
            set: |config, text| {
                config.$name = $read(text.trim())?;
                Ok(())
            },
        }),*]
    };
}

pub(super) static SETTINGS: &[Setting] = settings! {
    host, "HOST", host;
    port, "PORT", |text| number(text, 0..=65_535);
    data_dir, "DATA_DIR", |text: &str| Ok::<_, String>(text.into());
    relay_workers, "RELAY_WORKERS", |text| number(text, 1..=4096);
    control_workers, "CONTROL_WORKERS", |text| number(text, 1..=64);
    encryption_key, "ENCRYPTION_KEY", |text| secret(text, 1);
    api_key_prefix, "API_KEY_PREFIX", prefix;
    admin_username, "ADMIN_USERNAME", username;
    admin_password, "ADMIN_PASSWORD", |text| secret(text, 8);
    admin_session_timeout_ms, "ADMIN_SESSION_TIMEOUT", |text| number(text, 60_000..=365 * DAY_MS);
    claude_api_url, "CLAUDE_API_URL", url;
    claude_api_version, "CLAUDE_API_VERSION", token;
    upstream_ca_file, "UPSTREAM_CA_FILE", |text: &str| Ok::<_, String>(Some(text.into()));
    oauth_authorize_url, "OAUTH_AUTHORIZE_URL", url;
    oauth_token_url, "OAUTH_TOKEN_URL", url;
    pricing_url, "PRICING_URL", |text: &str| if text.is_empty() { Ok(String::new()) } else { url(text) };
    connect_timeout_ms, "UPSTREAM_CONNECT_TIMEOUT", |text| number(text, 100..=DAY_MS);
    first_byte_timeout_ms, "UPSTREAM_FIRST_BYTE_TIMEOUT", |text| number(text, 100..=DAY_MS);
    idle_timeout_ms, "UPSTREAM_IDLE_TIMEOUT", |text| number(text, 100..=DAY_MS);
    total_timeout_ms, "UPSTREAM_TOTAL_TIMEOUT", |text| number(text, 1000..=DAY_MS);
    request_body_bytes_max, "REQUEST_BODY_BYTES_MAX", |text| number(text, 1024..=1 << 30);
    shutdown_grace_ms, "SHUTDOWN_GRACE", |text| number(text, 0..=DAY_MS);
    default_token_limit, "DEFAULT_TOKEN_LIMIT", |text| number(text, 0..=(1 << 53) - 1);
    log_level, "LOG_LEVEL", log_level;
    system_timezone, "SYSTEM_TIMEZONE", zone;
    timezone_offset, "TIMEZONE_OFFSET", |text| number(text, -12..=14);
    cleanup_interval_ms, "CLEANUP_INTERVAL", |text| number(text, 1000..=30 * DAY_MS);
    web_title, "WEB_TITLE", title;
    enable_cors, "ENABLE_CORS", boolean;
    trust_proxy, "TRUST_PROXY", boolean;
};

const fn is_secret(name: &str) -> bool {
    matches!(name.as_bytes(), b"encryption_key" | b"admin_password")
}

fn number<T>(text: &str, allowed: RangeInclusive<T>) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    match text.parse() {
        Ok(number) if allowed.contains(&number) => Ok(number),
        _ => Err(format!("a number from {} to {}", allowed.start(), allowed.end())),
    }
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("true or false".into()),
    }
}

fn secret(text: &str, characters_min: usize) -> Result<Option<Sensitive>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.chars().count() < characters_min {
        return Err(format!("at least {characters_min} characters long"));
    }
    Ok(Some(Sensitive::new(text.to_owned())))
}

fn host(text: &str) -> Result<String, String> {
    let is_host = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if is_host { Ok(text.to_owned()) } else { Err("an address or a host name".into()) }
}

fn prefix(text: &str) -> Result<String, String> {
    let is_prefix = (1..=20).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_prefix { Ok(text.to_owned()) } else { Err("1 to 20 letters, digits, - or _".into()) }
}

fn username(text: &str) -> Result<Option<String>, String> {
    match text.chars().count() {
        0 => Ok(None),
        1..=100 => Ok(Some(text.to_owned())),
        _ => Err("at most 100 characters long".into()),
    }
}

fn title(text: &str) -> Result<String, String> {
    if text.chars().count() <= 200 { Ok(text.to_owned()) } else { Err("at most 200 characters long".into()) }
}

fn token(text: &str) -> Result<String, String> {
    let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(text.to_owned()) } else { Err("a header value without blanks".into()) }
}

fn url(text: &str) -> Result<String, String> {
    let wrong = || "an http:// or https:// URL with a host".to_owned();
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).ok_or_else(wrong)?;
    let is_clean = rest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    if is_clean && !host.is_empty() && !host.starts_with(':') && !host.contains('@') {
        Ok(text.to_owned())
    } else {
        Err(wrong())
    }
}

fn log_level(text: &str) -> Result<log::LevelFilter, String> {
    use log::LevelFilter::{Debug, Error, Info, Trace, Warn};
    match text.to_ascii_lowercase().as_str() {
        "error" => Ok(Error),
        "warn" => Ok(Warn),
        "info" | "http" => Ok(Info),
        "debug" | "verbose" => Ok(Debug),
        "trace" | "silly" => Ok(Trace),
        _ => Err("one of error, warn, info, debug, trace".into()),
    }
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
