//! Where settings come from: the file, `.env` and the environment as values, and the reading of this process's own.
//!
//! What the texts mean is not decided here.

use super::settings;
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where settings come from, as values.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file named by `--config`, and its content.
    pub file: Option<(PathBuf, String)>,
    /// Content of `.env` in the working directory.
    pub dotenv: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// Reads this process's sources. No `.env` is no fault; a file that is named must be there.
    ///
    /// # Errors
    /// What is named or there and cannot be read.
    pub fn from_process(file: Option<&Path>) -> Result<Sources, Faults> {
        let mut sources = Sources::default();
        let mut faults = Vec::new();
        let told = |path: &Path, error| format!("{}: cannot be read: {error}", path.display());
        if let Some(path) = file {
            match std::fs::read_to_string(path) {
                Ok(text) => sources.file = Some((path.to_owned(), text)),
                Err(error) => faults.push(told(path, error)),
            }
        }
        let path = Path::new(".env");
        match std::fs::read_to_string(path) {
            Ok(text) => sources.dotenv = Some(text),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => faults.push(told(path, error)),
        }
        for (name, value) in std::env::vars_os() {
            // A name that is no text is none of ours.
            let Some(name) = name.to_str() else { continue };
            match value.into_string() {
                Ok(value) => drop(sources.environment.insert(name.to_owned(), value)),
                Err(_) if settings::is_known(name) => faults.push(format!("environment: {name} must be UTF-8")),
                Err(_) => {}
            }
        }
        if faults.is_empty() { Ok(sources) } else { Err(Faults(faults)) }
    }

    /// Names of the original that are set and mean nothing here, each with the reason.
    pub fn without_effect(&self) -> Vec<(&'static str, &'static str)> {
        let pairs = self.dotenv.as_deref().and_then(|text| super::dotenv::parse(text).ok()).unwrap_or_default();
        let is_set = |name: &str| self.environment.contains_key(name) || pairs.iter().any(|(set, _)| set == name);
        settings::WITHOUT_EFFECT.iter().copied().filter(|(name, _)| is_set(name)).collect()
    }
}

/// What is wrong with the settings, at least one line: where it was found, the setting, what is allowed, what was found. A
/// secret is never shown.
#[derive(Debug)]
pub struct Faults(pub(super) Vec<String>);

impl Faults {
    /// The faults, each one line.
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for Faults {}
