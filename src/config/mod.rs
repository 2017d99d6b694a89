//! The settings: defaults, then the file, then `.env`, then the environment, the later the stronger.
//!
//! The environment's names are the original's where it had the setting, so that its `.env` goes on working. Only this room
//! reads the environment and the settings' files, and it reads nothing else: what a setting leads to is decided where it is
//! used. Every fault is told at once, each in one line.

mod dotenv;
mod resolve;
mod settings;
mod sources;

pub use sources::{Faults, Sources};

use crate::model::Sensitive;
use crate::model::notice::{Happening, Preset};
use jiff::tz::{Offset, TimeZone};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// All settings, valid. `settings.rs` has their names, their bounds and how they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Address or host name to listen on.
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
    /// Password of the first admin, at least 8 characters; `None` makes one up.
    pub admin_password: Option<Sensitive>,
    /// How long a session may be idle, milliseconds.
    pub admin_session_timeout_ms: u64,
    /// Messages URL of the upstream, http or https; the other paths are derived from it.
    pub claude_api_url: String,
    /// `anthropic-version` for clients that send none.
    pub claude_api_version: String,
    /// PEM file with roots to trust beside Mozilla's.
    pub upstream_ca_file: Option<PathBuf>,
    /// OAuth authorization endpoint, which the admin's browser opens.
    pub oauth_authorize_url: String,
    /// OAuth token endpoint. It was `console.anthropic.com` until June 2026.
    pub oauth_token_url: String,
    /// Price list in LiteLLM's format; empty never fetches one.
    pub pricing_url: String,
    /// Connecting to the upstream, with proxy and TLS, milliseconds.
    pub connect_timeout_ms: u64,
    /// From a request's end to the head of its answer, milliseconds. Long prompts take minutes.
    pub first_byte_timeout_ms: u64,
    /// Silence within an answer, milliseconds.
    pub idle_timeout_ms: u64,
    /// A whole exchange, milliseconds.
    pub total_timeout_ms: u64,
    /// Accounts that are tried for one request before its answer starts.
    pub failover_accounts_max: usize,
    /// Time after which no further account is tried, milliseconds.
    pub failover_time_max_ms: u64,
    /// How long a conversation whose history holds thinking waits for its own account, milliseconds.
    pub affinity_wait_ms: u64,
    /// How long an answer is read on after its client has left, milliseconds; 0 ends it at once.
    pub client_gone_drain_ms: u64,
    /// Largest body of a relayed request, bytes. The vendor's limit for messages is 32 MB.
    pub request_body_bytes_max: u64,
    /// How long running answers may go on after SIGTERM, milliseconds.
    pub shutdown_grace_ms: u64,
    /// Token limit of a new key that names none; 0 is none. The original took 0 for its default.
    pub default_token_limit: u64,
    /// How long a request may wait for one of its key's places when all are taken, milliseconds; 0 refuses it at once.
    pub concurrency_wait_ms: u64,
    /// The least severe lines that are logged. The original's `http`, `verbose` and `silly` are understood.
    pub log_level: log::LevelFilter,
    /// A log file of this size is rotated, bytes. Written as the original's: `10m`, `512k`, `1g`, or a number.
    pub log_max_size: u64,
    /// Rotated log files that are kept. The original's `14d` is understood as 14: its files were daily.
    pub log_max_files: u32,
    /// IANA name of the zone in which days and months are counted; see [`Config::time_zone`].
    pub system_timezone: Option<String>,
    /// Hours east of UTC, −12 to 14, where no zone is named. The original took 0 for 8.
    pub timezone_offset: i8,
    /// How often the background jobs run, milliseconds.
    pub cleanup_interval_ms: u64,
    /// How long single requests are kept, milliseconds; totals stay. The original read this setting and kept its own times.
    pub token_usage_retention_ms: u64,
    /// Hours between two snapshots of the database, which are kept beside it; 0 takes none.
    pub snapshot_interval_hours: u32,
    /// Scheduled snapshots that are kept.
    pub snapshots_kept: u32,
    /// Title of the pages.
    pub web_title: String,
    /// One line about this relay, for its pages; may be empty.
    pub web_description: String,
    /// Address of a logo for the pages; empty takes the built-in one, and so does `/assets/logo.png`, which the original's
    /// sample file names and which never existed.
    pub web_logo_url: String,
    /// Whether pages of every origin may call.
    pub enable_cors: bool,
    /// Whether the last `X-Forwarded-For` entry is the client's address.
    pub trust_proxy: bool,
    /// Requests from one address in 15 minutes; 0 is no limit. All who sit behind one address share it. The original had
    /// 1000 where `NODE_ENV` was `production`, and so has this where it is and nothing else is set.
    pub address_limit: u32,
    /// What a bearer must present to read `/metrics`; `None` leaves them to the admin.
    pub metrics_token: Option<Sensitive>,
    /// Where an admin is told what happens, http or https; a secret, because whoever knows it can write there.
    pub webhook_url: Option<Sensitive>,
    /// What notices are signed with, at least 8 characters.
    pub webhook_secret: Option<Sensitive>,
    /// In whose form notices are written.
    pub webhook_preset: Preset,
    /// What is told: names with commas between, or `all`.
    pub webhook_events: Vec<Happening>,
    /// The names of the settings that the environment or `.env` decides. No source can set this itself.
    pub fixed: BTreeSet<&'static str>,
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
            failover_accounts_max: 4,
            failover_time_max_ms: 30_000,
            affinity_wait_ms: 5000,
            client_gone_drain_ms: 0,
            request_body_bytes_max: 32 * 1024 * 1024,
            shutdown_grace_ms: 30_000,
            default_token_limit: 1_000_000,
            concurrency_wait_ms: 0,
            log_level: log::LevelFilter::Info,
            log_max_size: 10 * 1024 * 1024,
            log_max_files: 5,
            system_timezone: None,
            timezone_offset: 8,
            cleanup_interval_ms: 3_600_000,
            token_usage_retention_ms: 2_592_000_000,
            snapshot_interval_hours: 24,
            snapshots_kept: 7,
            web_title: "Claude Relay".into(),
            web_description: String::new(),
            web_logo_url: String::new(),
            enable_cors: false,
            trust_proxy: false,
            address_limit: 0,
            metrics_token: None,
            webhook_url: None,
            webhook_secret: None,
            webhook_preset: Preset::Generic,
            webhook_events: Happening::CHOICE.to_vec(),
            fixed: BTreeSet::new(),
        }
    }
}

impl Config {
    /// Resolves the sources into settings.
    ///
    /// # Errors
    /// Every fault of every source, also of a value that a stronger source replaces.
    pub fn load(sources: Sources) -> Result<Config, Faults> {
        resolve::resolve(&sources)
    }

    /// These settings with those that an admin has stored in place of the file's and the defaults, by their names in the
    /// file. What is fixed stays; what is not allowed any more is left out and logged.
    pub fn with_stored<'a>(&self, stored: impl Iterator<Item = (&'a str, &'a str)>) -> Config {
        let mut config = self.clone();
        for (name, text) in stored.filter(|(name, _)| !self.is_fixed(name)) {
            if let Err(allowed) = config.set(name, text) {
                log::warn!("the stored setting {name} is left out: it must be {allowed}");
            }
        }
        config
    }

    /// Sets one setting by its name in the file.
    ///
    /// # Errors
    /// What is allowed, in words that follow "must be".
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let setting = settings::SETTINGS.iter().find(|setting| setting.name == name).ok_or("a known setting")?;
        (setting.set)(self, text)
    }

    /// Whether the environment or `.env` decides a setting. A zone is named by either of its two.
    pub fn is_fixed(&self, name: &str) -> bool {
        self.fixed.contains(name) || (name == "system_timezone" && self.fixed.contains("timezone_offset"))
    }

    /// What a setting is called in the environment.
    pub fn environment_name(name: &str) -> &'static str {
        let found = settings::SETTINGS.iter().find(|setting| setting.name == name);
        found.map_or("", |setting| setting.environment)
    }

    /// The zone in which days and months are counted: the one that is named, else the offset.
    ///
    /// The original counted by the offset alone, and its sample file named `Asia/Shanghai` beside an offset of 8. Where a
    /// `.env` that grew out of it has that name still and another offset, the offset is the one that was meant.
    pub fn time_zone(&self) -> TimeZone {
        let fixed = || TimeZone::fixed(Offset::constant(self.timezone_offset));
        match self.system_timezone.as_deref() {
            None => fixed(),
            Some("Asia/Shanghai") if self.timezone_offset != 8 => fixed(),
            Some(name) => TimeZone::get(name).unwrap_or_else(|_| fixed()),
        }
    }
}

#[cfg(test)]
mod tests;
