//! The settings: defaults, then the file, then `.env`, then the environment, the later the stronger.
//!
//! The environment's names are the original's where it had the setting, so that its `.env` goes on working; names of the
//! original that mean nothing here (Redis, JWT and the like) are accepted and ignored. Only this room reads the environment
//! and the settings' files. Every fault is told at once, each in one line.

mod dotenv;
mod settings;

use crate::model::Sensitive;
use jiff::tz::{Offset, TimeZone};
use serde_json::Value;
use settings::SETTINGS;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// All settings, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address to listen on.
    pub host: String,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// Folder of the database and the key file.
    pub data_dir: PathBuf,
    /// Threads for relayed requests: the most that run at the same time.
    pub relay_workers: usize,
    /// Threads for everything else.
    pub control_workers: usize,
    /// Text that the keys for secrets are derived from, and the pepper of API keys; `None` takes the key file.
    pub encryption_key: Option<Sensitive>,
    /// What every API key begins with.
    pub api_key_prefix: String,
    /// Name of the first admin; `None` makes one up.
    pub admin_username: Option<String>,
    /// Password of the first admin; `None` makes one up.
    pub admin_password: Option<Sensitive>,
    /// How long a session may be idle, milliseconds.
    pub admin_session_timeout_ms: u64,
    /// Messages URL of the upstream.
    pub claude_api_url: String,
    /// `anthropic-version` for clients that send none.
    pub claude_api_version: String,
    /// PEM file with roots to trust beside Mozilla's.
    pub upstream_ca_file: Option<PathBuf>,
    /// OAuth authorization endpoint.
    pub oauth_authorize_url: String,
    /// OAuth token endpoint.
    pub oauth_token_url: String,
    /// Price list in LiteLLM's format; empty never fetches one.
    pub pricing_url: String,
    /// Connecting to the upstream, with proxy and TLS, milliseconds.
    pub connect_timeout_ms: u64,
    /// From a request's end to the head of its answer, milliseconds.
    pub first_byte_timeout_ms: u64,
    /// Silence within an answer, milliseconds.
    pub idle_timeout_ms: u64,
    /// A whole exchange, milliseconds.
    pub total_timeout_ms: u64,
    /// Largest body of a relayed request, bytes.
    pub request_body_bytes_max: u64,
    /// How long running answers may go on after SIGTERM, milliseconds.
    pub shutdown_grace_ms: u64,
    /// Token limit of a new key that names none; 0 is none.
    pub default_token_limit: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`; the original's `http`, `verbose` and `silly` are understood.
    pub log_level: log::LevelFilter,
    /// IANA name of the zone in which days and months are counted; overrides the offset.
    pub system_timezone: Option<String>,
    /// Hours east of UTC, −12 to 14, where no zone is named.
    pub timezone_offset: i8,
    /// How often the background jobs run, milliseconds.
    pub cleanup_interval_ms: u64,
    /// Title of the pages.
    pub web_title: String,
    /// Whether pages of every origin may call.
    pub enable_cors: bool,
    /// Whether the last `X-Forwarded-For` entry is the client's address.
    pub trust_proxy: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            host: "0.0.0.0".into(),
            port: 3000,
            data_dir: "./data".into(),
            relay_workers: 128,
            control_workers: 4,
            encryption_key: None,
            api_key_prefix: "cr_".into(),
            admin_username: None,
            admin_password: None,
            admin_session_timeout_ms: 86_400_000,
            claude_api_url: "https://api.anthropic.com/v1/messages".into(),
            claude_api_version: "2023-06-01".into(),
            upstream_ca_file: None,
            oauth_authorize_url: "https://claude.ai/oauth/authorize".into(),
            oauth_token_url: "https://platform.claude.com/v1/oauth/token".into(),
            pricing_url: "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
                .into(),
            connect_timeout_ms: 10_000,
            first_byte_timeout_ms: 300_000,
            idle_timeout_ms: 300_000,
            total_timeout_ms: 3_600_000,
            request_body_bytes_max: 32 * 1024 * 1024,
            shutdown_grace_ms: 30_000,
            default_token_limit: 1_000_000,
            log_level: log::LevelFilter::Info,
            system_timezone: None,
            timezone_offset: 8,
            cleanup_interval_ms: 3_600_000,
            web_title: "Claude Relay".into(),
            enable_cors: false,
            trust_proxy: false,
        }
    }
}

impl Config {
    /// Resolves the sources into settings.
    ///
    /// # Errors
    /// Every fault of every source.
    pub fn load(sources: Sources) -> Result<Config, Faults> {
        let mut loading = Loading::default();
        if let Some((path, text)) = &sources.file {
            loading.apply_file(path, text);
        }
        match sources.dotenv.as_deref().map(dotenv::parse) {
            Some(Ok(pairs)) => loading.apply_environment(".env", &pairs.into_iter().collect()),
            Some(Err(fault)) => loading.faults.push(format!(".env: {fault}")),
            None => {}
        }
        loading.apply_environment("environment", &sources.environment);
        if loading.faults.is_empty() { Ok(loading.config) } else { Err(Faults(loading.faults)) }
    }

    /// The zone in which days and months are counted.
    pub fn time_zone(&self) -> TimeZone {
        let named = self.system_timezone.as_deref().and_then(|name| TimeZone::get(name).ok());
        named.unwrap_or_else(|| TimeZone::fixed(Offset::constant(self.timezone_offset)))
    }
}

/// Where settings come from, as values.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file named by `--config`, and its content.
    pub file: Option<(PathBuf, String)>,
    /// Content of `.env` in the working directory.
    pub dotenv: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// Reads this process's sources.
    ///
    /// # Errors
    /// A file that is named or there cannot be read.
    pub fn from_process(file: Option<&Path>) -> Result<Sources, Faults> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|error| (error.kind(), format!("{}: cannot be read: {error}", path.display())))
        };
        let file = match file {
            None => None,
            Some(path) => Some((path.to_owned(), read(path).map_err(|(_, fault)| Faults(vec![fault]))?)),
        };
        let dotenv = match read(Path::new(".env")) {
            Ok(text) => Some(text),
            Err((std::io::ErrorKind::NotFound, _)) => None,
            Err((_, fault)) => return Err(Faults(vec![fault])),
        };
        // A name or value that is no text is none of ours.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Sources { file, dotenv, environment: environment.collect() })
    }
}

/// What is wrong with the settings: one line each.
#[derive(Debug)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

#[derive(Default)]
struct Loading {
    config: Config,
    faults: Vec<String>,
}

impl Loading {
    fn apply_file(&mut self, path: &Path, text: &str) {
        let shown = path.display();
        let members = match serde_json::from_str::<Value>(text) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return self.faults.push(format!("{shown}: must be a JSON object")),
            Err(error) => return self.faults.push(format!("{shown}: {error}")),
        };
        for (name, value) in members {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                self.faults.push(format!("{shown}: unknown setting {name:?}"));
                continue;
            };
            let text = match value {
                Value::Null => continue,
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(value) => value.to_string(),
                _ => {
                    self.faults.push(format!("{shown}: {name} must be a single value"));
                    continue;
                }
            };
            self.set(&shown.to_string(), &name, setting, &text);
        }
    }

    fn apply_environment(&mut self, source: &str, pairs: &BTreeMap<String, String>) {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
            if let Some(text) = pairs.get(setting.environment)
                && !text.is_empty()
                && seen.insert(setting.environment)
            {
                self.set(source, setting.environment, setting, text);
            }
        }
    }

    fn set(&mut self, source: &str, name: &str, setting: &settings::Setting, text: &str) {
        if let Err(allowed) = (setting.set)(&mut self.config, text) {
            let found = if setting.is_secret { String::new() } else { format!(", found {text:?}") };
            self.faults.push(format!("{source}: {name} must be {allowed}{found}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: Option<&str>, dotenv: Option<&str>, environment: &[(&str, &str)]) -> Result<Config, Faults> {
        Config::load(Sources {
            file: file.map(|text| ("c.json".into(), text.to_owned())),
            dotenv: dotenv.map(str::to_owned),
            environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        })
    }

    #[test]
    fn the_example_holds_every_setting_at_its_default() {
        let text = include_str!("../../config.example.json");
        assert_eq!(load(Some(text), None, &[]).unwrap(), Config::default());
        let members: serde_json::Map<String, Value> = serde_json::from_str(text).unwrap();
        let names: Vec<&str> = members.keys().map(String::as_str).collect();
        let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names, known);
        assert!(members.iter().all(|(_, value)| !value.is_object()));
    }

    #[test]
    fn the_environment_beats_dotenv_beats_the_file() {
        let file = r#"{"port": 1, "host": "a", "relay_workers": 7, "claude_api_version": null}"#;
        let config =
            load(Some(file), Some("PORT=2\nHOST=b\nRELAY_WORKERS=\n"), &[("PORT", "3"), ("OTHER", "x")]).unwrap();
        assert_eq!((config.port, config.host.as_str(), config.relay_workers), (3, "b", 7));
        assert_eq!(config.claude_api_version, "2023-06-01");
    }

    #[test]
    fn a_dotenv_of_the_original_is_read() {
        let text = "# comment\nexport PORT=3001\nJWT_SECRET=unused\nENCRYPTION_KEY=\"0123456789abcdef0123456789abcdef\"\nREDIS_HOST=localhost\nTRUST_PROXY=true\nLOG_LEVEL=http\nTIMEZONE_OFFSET=0 # UTC\nADMIN_PASSWORD='pass#word 1'\n";
        let config = load(None, Some(text), &[]).unwrap();
        assert_eq!((config.port, config.trust_proxy, config.timezone_offset), (3001, true, 0));
        assert_eq!(config.log_level, log::LevelFilter::Info);
        assert_eq!(config.admin_password.unwrap().expose(), "pass#word 1");
        assert_eq!(config.encryption_key.unwrap().expose().len(), 32);
    }

    #[test]
    fn every_fault_is_told_once_with_its_source_and_no_secret() {
        let faults = load(
            Some(r#"{"prot": 1, "relay_workers": 0, "host": []}"#),
            Some("TIMEZONE_OFFSET=99\n"),
            &[
                ("PORT", "70000"),
                ("CLAUDE_API_URL", "ftp://x"),
                ("SYSTEM_TIMEZONE", "Mars/Base"),
                ("ADMIN_PASSWORD", "hunter2"),
                ("LOG_LEVEL", "loud"),
                ("ENABLE_CORS", "maybe"),
                ("API_KEY_PREFIX", "a b"),
            ],
        )
        .unwrap_err()
        .to_string();
        for part in [
            "c.json: unknown setting \"prot\"",
            "c.json: relay_workers must be",
            "c.json: host must be a single value",
            ".env: TIMEZONE_OFFSET must be",
            "environment: PORT must be a number from 0 to 65535, found \"70000\"",
            "environment: CLAUDE_API_URL must be",
            "environment: SYSTEM_TIMEZONE must be",
            "environment: ADMIN_PASSWORD must be",
            "environment: LOG_LEVEL must be",
            "environment: ENABLE_CORS must be",
            "environment: API_KEY_PREFIX must be",
        ] {
            assert_eq!(faults.lines().filter(|line| line.starts_with(part)).count(), 1, "{part}: {faults}");
        }
        assert!(!faults.contains("hunter2"));
        assert!(load(Some("{"), None, &[]).is_err() && load(Some("[]"), None, &[]).is_err());
    }

    #[test]
    fn zones_and_offsets_are_told_apart() {
        let at = jiff::Timestamp::from_second(1_785_000_000).unwrap();
        let offset = |config: &Config| config.time_zone().to_offset(at).seconds() / 3600;
        assert_eq!(offset(&Config::default()), 8);
        assert_eq!(offset(&load(None, None, &[("TIMEZONE_OFFSET", "0")]).unwrap()), 0);
        assert_eq!(offset(&load(None, None, &[("TIMEZONE_OFFSET", "-7")]).unwrap()), -7);
        let berlin = load(None, None, &[("SYSTEM_TIMEZONE", "Europe/Berlin"), ("TIMEZONE_OFFSET", "3")]).unwrap();
        assert_eq!(offset(&berlin), 2);
    }
}
