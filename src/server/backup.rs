//! `/admin/export`, `/admin/backup`, `/admin/restore` and `/admin/backups`: everything out, and back in.

use super::Server;
use super::call::{Answer, Call, Download, Upload};
use super::dialect::{invalid, said, titled};
use super::router::percent_decode;
use super::session::Admin;
use crate::error::{Error, Kind};
use crate::http::Head;
use crate::migrate::export;
use crate::model::Sensitive;
use crate::model::remarks::Failure;
use crate::model::time::{iso, now_ms};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

type Outcome = Result<Answer, Answer>;

/// A passphrase is guessed on somebody else's machine, at leisure.
const PASSPHRASE_CHARACTERS_MIN: usize = 12;
const PASSPHRASE_CHARACTERS_MAX: usize = 1000;
/// Largest backup that is taken, in bytes: it lies on the disk, not in memory.
const BACKUP_BYTES_MAX: u64 = 16 * 1024 * 1024 * 1024;
/// How long it may take to come.
const BACKUP_TIME_MAX: Duration = Duration::from_secs(3600);

fn today() -> String {
    iso(now_ms()).get(..10).unwrap_or_default().to_owned()
}

/// What is refused because something else is under way, else a failure under a title.
fn busy_or(title: &'static str) -> impl Fn(Error) -> Answer {
    move |error| match error.kind() {
        Kind::Limited => said(409, &error),
        Kind::Invalid => said(400, &error),
        _ => titled(title)(error),
    }
}

/// `GET /admin/export`: without any secret.
pub(crate) fn export_sanitised(server: &Server, _: &Admin, _: &Call) -> Result<Download, Answer> {
    Ok(export_download(server, None, format!("claude-relay-export-sanitized-{}.json", today())))
}

/// `POST /admin/export`: with the accounts' secrets, sealed under the encryption key of where they go.
pub(crate) fn export_full(server: &Server, admin: &Admin, call: &Call) -> Result<Download, Answer> {
    let key = call.text("encryptionKey").filter(|key| !key.is_empty());
    let key = Sensitive::new(key.ok_or_else(|| invalid("encryptionKey is required"))?.to_owned());
    log::warn!(target: super::SECURITY_LOG, "{:?} exported everything, secrets too", admin.username);
    Ok(export_download(server, Some(key), format!("claude-relay-export-{}.json", today())))
}

fn export_download(server: &Server, key: Option<Sensitive>, file_name: String) -> Download {
    let store = Arc::clone(&server.store);
    let write = Box::new(move |out: &mut dyn std::io::Write| export::write(&store, key.as_ref(), out));
    Download { file_name, content_type: "application/json; charset=utf-8", write }
}

/// `POST /admin/backup`.
pub(crate) fn backup(server: &Server, admin: &Admin, call: &Call) -> Result<Download, Answer> {
    let passphrase = call.text("passphrase").unwrap_or_default();
    if !(PASSPHRASE_CHARACTERS_MIN..=PASSPHRASE_CHARACTERS_MAX).contains(&passphrase.chars().count()) {
        return Err(invalid("passphrase must be text of 12 to 1000 characters"));
    }
    let passphrase = Sensitive::new(passphrase.to_owned());
    let backup = server.store.backup(&passphrase).map_err(busy_or("Failed to make a backup"))?;
    log::warn!(target: super::SECURITY_LOG, "{:?} took a backup", admin.username);
    Ok(Download {
        file_name: format!("claude-relay-{}.backup", today()),
        content_type: "application/octet-stream",
        write: Box::new(move |out| backup.write(out)),
    })
}

/// `POST /admin/restore`: the body is the file. The passphrase is in a field of the head, percent-encoded: a body of many
/// gigabytes has no room for it, and no log has fields.
pub(crate) fn restore(server: &Server, admin: &Admin, head: &Head, upload: &mut Upload<'_>) -> Outcome {
    let given = head.header("x-backup-passphrase").and_then(|value| std::str::from_utf8(value).ok());
    let passphrase = given.and_then(percent_decode).filter(|passphrase| !passphrase.is_empty());
    let passphrase =
        passphrase.ok_or_else(|| invalid("X-Backup-Passphrase must hold the percent-encoded passphrase"))?;
    if server.migrations.is_running() {
        return Err(said(409, &Error::saying(Kind::Limited, Failure::Running)));
    }
    let failed = busy_or("Failed to restore the backup");
    let mut file = server.store.begin_upload().map_err(&failed)?;
    upload.read(BACKUP_BYTES_MAX, BACKUP_TIME_MAX, "16GB", &mut |piece| file.write(piece))?;
    let has_key_file = server.config.encryption_key.is_none();
    let staged = server.store.stage_restore(file, &Sensitive::new(passphrase), has_key_file).map_err(&failed)?;
    log::warn!(target: super::SECURITY_LOG, "{:?} restored the backup of {}", admin.username, staged.created_at);
    server.restart_after_answer();
    let body = json!({
        "success": true,
        "message": "The backup is whole and will be in place in a moment: the relay is restarting. Sign in again then",
        "data": {
            "keys": staged.keys, "accounts": staged.accounts, "schemaVersion": staged.schema_version,
            "createdAt": staged.created_at, "keptAs": staged.kept_as,
        },
    });
    Ok(Answer::json(200, &body))
}

/// `GET /admin/backups`: the snapshots beside the database.
pub(crate) fn list(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let snapshots = server.store.snapshots().map_err(titled("Failed to list the snapshots"))?;
    let config = &server.config;
    Ok(Answer::data(json!({
        "intervalHours": config.snapshot_interval_hours, "keep": config.snapshots_kept, "snapshots": snapshots,
    })))
}

/// `POST /admin/backups`: takes one now.
pub(crate) fn snapshot(server: &Server, admin: &Admin, _: &Call) -> Outcome {
    let kept = server.config.snapshots_kept as usize;
    let snapshot = server.store.take_snapshot(kept).map_err(busy_or("Failed to take a snapshot"))?;
    log::info!("{} took a snapshot", admin.username);
    Ok(Answer::data(snapshot))
}

impl Server {
    /// Takes a snapshot if the schedule says so. Gives back what was done, for the log.
    ///
    /// # Errors
    /// The store's.
    pub fn scheduled_snapshot(&self, now_ms: i64) -> crate::error::Result<Option<String>> {
        let interval_ms = i64::from(self.config.snapshot_interval_hours) * 3_600_000;
        if interval_ms == 0 {
            return Ok(None);
        }
        let newest = self.store.snapshots()?.into_iter().next();
        let last_ms = newest.and_then(|newest| crate::model::time::parse(&newest.created_at));
        // A clock that was set back must not end the schedule.
        if last_ms.is_some_and(|last_ms| (last_ms..last_ms.saturating_add(interval_ms)).contains(&now_ms)) {
            return Ok(None);
        }
        let made = self.store.take_snapshot(self.config.snapshots_kept as usize)?;
        Ok(Some(format!("{} of {} bytes", made.name, made.bytes)))
    }
}
