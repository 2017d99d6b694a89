//! Lays the sources over the defaults, the weakest first, and collects what is wrong. Which settings there are and what they
//! allow is in `settings.rs`.

use super::settings::{Kind, SETTINGS, Setting};
use super::{Config, Faults, Sources, dotenv};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The original's limit, which was in force in its production mode.
const PRODUCTION_ADDRESS_LIMIT: u32 = 1000;

pub(super) fn resolve(sources: &Sources) -> Result<Config, Faults> {
    let mut resolving = Resolving::default();
    if let Some((path, text)) = &sources.file {
        resolving.apply_file(path, text);
    }
    let mut node_env = sources.environment.get("NODE_ENV").cloned();
    match sources.dotenv.as_deref().map(dotenv::parse) {
        // Of a name that is there twice the last counts.
        Some(Ok(pairs)) => {
            let pairs: BTreeMap<String, String> = pairs.into_iter().collect();
            node_env = node_env.or_else(|| pairs.get("NODE_ENV").cloned());
            resolving.apply_environment(".env", &pairs);
        }
        Some(Err(fault)) => resolving.faults.push(format!(".env: {fault}")),
        None => {}
    }
    resolving.apply_environment("environment", &sources.environment);
    if node_env.as_deref() == Some("production") && !resolving.names.contains("address_limit") {
        resolving.config.address_limit = PRODUCTION_ADDRESS_LIMIT;
    }
    if resolving.faults.is_empty() { Ok(resolving.config) } else { Err(Faults(resolving.faults)) }
}

#[derive(Default)]
struct Resolving {
    config: Config,
    faults: Vec<String>,
    /// The settings that a source has named.
    names: BTreeSet<&'static str>,
}

impl Resolving {
    /// Names that are not known are faults here: this file is the program's own.
    fn apply_file(&mut self, path: &Path, text: &str) {
        let shown = path.display().to_string();
        let members: Map<String, Value> = match serde_json::from_str(text.trim_start_matches('\u{feff}')) {
            Ok(members) => members,
            Err(error) => return self.faults.push(format!("{shown}: must be a JSON object: {error}")),
        };
        for (name, value) in members {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                self.faults.push(format!("{shown}: unknown setting {name:?}"));
                continue;
            };
            match (&value, setting.kind) {
                // As if it were not there.
                (Value::Null, _) => {}
                (Value::String(text), Kind::Text | Kind::Clearable | Kind::TextOrNumber | Kind::Secret) => {
                    self.set(&shown, &name, setting, text);
                }
                (Value::Number(number), Kind::Number | Kind::TextOrNumber) => {
                    self.set(&shown, &name, setting, &number.to_string());
                }
                (Value::Bool(value), Kind::Boolean) => self.set(&shown, &name, setting, &value.to_string()),
                _ => {
                    let wanted = setting.kind.wanted();
                    self.fault(&shown, &name, setting, &format!("written as {wanted}"), &value.to_string());
                }
            }
        }
    }

    /// Names that are not known belong to others. An empty value is as good as none: compose files pass on what is not set
    /// that way.
    fn apply_environment(&mut self, source: &str, pairs: &BTreeMap<String, String>) {
        for setting in SETTINGS {
            if let Some(text) = pairs.get(setting.environment)
                && (!text.is_empty() || setting.kind == Kind::Clearable)
            {
                self.config.fixed.insert(setting.name);
                self.set(source, setting.environment, setting, text);
            }
        }
    }

    fn set(&mut self, source: &str, name: &str, setting: &Setting, text: &str) {
        // A blank at the end of a secret may be part of it: another key would be derived without.
        let value = if setting.kind == Kind::Secret { text } else { text.trim() };
        self.names.insert(setting.name);
        if let Err(allowed) = (setting.set)(&mut self.config, value) {
            self.fault(source, name, setting, &allowed, &format!("{text:?}"));
        }
    }

    fn fault(&mut self, source: &str, name: &str, setting: &Setting, allowed: &str, found: &str) {
        let found = if setting.kind == Kind::Secret { String::new() } else { format!(", found {found}") };
        self.faults.push(format!("{source}: {name} must be {allowed}{found}"));
    }
}
