//! What the first start makes up: the encryption key and the admin.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::time::{iso, now_ms};
use crate::model::{Sensitive, secret};
use crate::server::hash_password;
use crate::store::Store;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The admin that a first start made.
pub(super) struct FirstAdmin {
    pub(super) username: String,
    /// `None` when the configuration gave one.
    pub(super) made_up_password: Option<Sensitive>,
}

/// The configured encryption key, else the key file's, which is made at the first start.
pub(super) fn encryption_key(config: &Config) -> Result<Sensitive> {
    if let Some(key) = &config.encryption_key {
        return Ok(key.clone());
    }
    let path = config.data_dir.join("encryption.key");
    let shown = path.display();
    match fs::read_to_string(&path) {
        Ok(text) if text.trim().is_empty() => Err(Error::new(
            crate::error::Kind::Internal,
            format!("{shown} is empty: put the key back, or set ENCRYPTION_KEY"),
        )),
        Ok(text) => Ok(Sensitive::new(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(&config.data_dir).map_err(|error| {
                Error::internal(format!("cannot make the data folder {}", config.data_dir.display()), error)
            })?;
            let key = secret::new_encryption_key()
                .map_err(|error| Error::internal("no random numbers", error.to_string()))?;
            write_private(&path, key.as_bytes())?;
            Ok(Sensitive::new(key))
        }
        Err(error) => Err(Error::internal(format!("cannot read {shown}"), error)),
    }
}

/// Makes the admin of a database that has none.
pub(super) fn first_admin(config: &Config, store: &Store) -> Result<Option<FirstAdmin>> {
    if store.has_admin()? {
        return Ok(None);
    }
    let random = |error: secret::Error| Error::internal("no random numbers", error.to_string());
    let username = match &config.admin_username {
        Some(name) => name.clone(),
        None => format!("cr_admin_{}", &secret::new_uuid().map_err(random)?[..8]),
    };
    let made_up_password = match &config.admin_password {
        Some(_) => None,
        None => Some(Sensitive::new(secret::new_password().map_err(random)?)),
    };
    let password = config.admin_password.as_ref().or(made_up_password.as_ref());
    let password = password.map(Sensitive::expose).unwrap_or_default();
    if let Some(password) = &made_up_password {
        let file = serde_json::json!({
            "initializedAt": iso(now_ms()),
            "adminUsername": username,
            "adminPassword": password.expose(),
            "version": "1.0.0",
        });
        let path = config.data_dir.join("init.json");
        // Left over from a start that ended before the admin was made.
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(Error::internal(format!("cannot replace {}", path.display()), error));
        }
        write_private(&path, format!("{file:#}\n").as_bytes())?;
    }
    store.create_admin(&username, &hash_password(password)?)?;
    Ok(Some(FirstAdmin { username, made_up_password }))
}

/// Writes a new file that only this user can read, durably.
fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()?;
        // The name must survive a power cut as well.
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(|error| Error::internal(format!("cannot write {}", path.display()), error))
}
