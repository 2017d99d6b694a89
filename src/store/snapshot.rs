//! Snapshots: the whole database as it stood at one moment, taken while everything goes on. As files beside the database,
//! and as a backup that leaves this machine, sealed under a passphrase and with the key material in it.

use super::restore::Unrestored;
use super::{Store, connect};
use crate::error::{Error, Kind, Result};
use crate::model::Sensitive;
use crate::model::time::{iso, now_ms};
use crate::model::vault::Sealer;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, TryLockError};

/// The folder of local snapshots, in the data folder.
const FOLDER: &str = "backups";
/// How a file's name ends while it is written.
const PARTIAL: &str = ".partial";
/// How the names of those begin that the schedule makes and removes.
const SCHEDULED: &str = "relay-";
const PIECE_BYTES: usize = 64 * 1024;

/// What a backup says of itself, before the database in it: its length in four bytes, then JSON.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    /// When the snapshot was taken.
    pub(super) created_at: String,
    /// The key that seals the database's secrets.
    pub(super) encryption_key: Sensitive,
    /// Length of the database that follows.
    pub(super) database_bytes: u64,
}

/// A local snapshot.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Its file's name.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was made.
    pub created_at: String,
}

impl Store {
    pub(super) fn data_dir(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// The right to take a snapshot or to restore one: one at a time.
    ///
    /// # Errors
    /// `Limited`: another is under way.
    pub(super) fn maintenance(&self) -> Result<MutexGuard<'_, ()>> {
        match self.maintenance.try_lock() {
            Ok(turn) => Ok(turn),
            Err(TryLockError::Poisoned(turn)) => Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => Err(Error::saying(Kind::Limited, Unrestored::Busy)),
        }
    }

    /// A backup: the snapshot is taken now, and written out by the value that is given back.
    ///
    /// # Errors
    /// Another is under way; the disk's; SQLite's.
    pub fn backup(&self, passphrase: &Sensitive) -> Result<Backup> {
        let _turn = self.maintenance()?;
        let path = self.data_dir().join(format!("backup{PARTIAL}"));
        let created_at = iso(now_ms());
        vacuum_into(&connect(&self.path, "NORMAL")?, &path)?;
        // Without a name it cannot be left over, whatever happens.
        let opened = File::open(&path).and_then(|file| fs::remove_file(&path).map(|()| file));
        let file = opened.map_err(|error| Error::internal("the snapshot cannot be read", error))?;
        let bytes = file.metadata().map_err(|error| Error::internal("the snapshot cannot be read", error))?.len();
        let (sealer, head) = Sealer::new(passphrase)
            .map_err(|error| Error::internal("the backup cannot be sealed", error.to_string()))?;
        let manifest = serde_json::json!({
            "program": concat!("claude-relay ", env!("CARGO_PKG_VERSION")), "createdAt": created_at,
            "encryptionKey": self.pepper, "databaseBytes": bytes,
        });
        Ok(Backup { file, bytes, manifest: manifest.to_string(), sealer, head: head.to_vec() })
    }

    /// Takes a snapshot beside the database and removes the oldest of the schedule beyond `keep`.
    ///
    /// # Errors
    /// Another is under way; the disk's; SQLite's.
    pub fn take_snapshot(&self, keep: usize) -> Result<Snapshot> {
        let _turn = self.maintenance()?;
        let path = snapshot_path(self.data_dir(), SCHEDULED)?;
        take(&connect(&self.path, "NORMAL")?, &path)?;
        let known = self.snapshots()?;
        let scheduled: Vec<&Snapshot> = known.iter().filter(|known| known.name.starts_with(SCHEDULED)).collect();
        for old in scheduled.iter().skip(keep.max(1)) {
            let path = self.data_dir().join(FOLDER).join(&old.name);
            fs::remove_file(&path)
                .map_err(|error| Error::internal(format!("cannot remove {}", path.display()), error))?;
        }
        let made = known.into_iter().find(|known| path.ends_with(&known.name));
        made.ok_or_else(|| Error::not_found("The snapshot is not there"))
    }

    /// The local snapshots, newest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        let folder = self.data_dir().join(FOLDER);
        let read = || -> io::Result<Vec<Snapshot>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&folder)? {
                let entry = entry?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let Some(created_at) = instant_of(&name) else { continue };
                found.push(Snapshot { created_at, bytes: entry.metadata()?.len(), name });
            }
            found.sort_by(|one, other| (&other.created_at, &other.name).cmp(&(&one.created_at, &one.name)));
            Ok(found)
        };
        match read() {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => read.map_err(|error| Error::internal(format!("cannot read {}", folder.display()), error)),
        }
    }
}

/// A snapshot before the schema changes: a newer program can be taken back.
pub(super) fn before_upgrade(db: &Connection, data_dir: &Path, version: i64) -> Result<()> {
    let path = snapshot_path(data_dir, &format!("before-schema-{version}-"))?;
    take(db, &path)?;
    log::info!("the schema will be upgraded: a snapshot of the database is in {}", path.display());
    Ok(())
}

/// The path of a new snapshot, its folder made.
fn snapshot_path(data_dir: &Path, start: &str) -> Result<PathBuf> {
    let folder = data_dir.join(FOLDER);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Error::internal(format!("cannot make {}", folder.display()), error));
        }
        _ => {}
    }
    let at = iso(now_ms()).replace([':', '-'], "").replace('.', "-");
    Ok(folder.join(format!("{start}{at}.db")))
}

/// The instant in a snapshot's name, as it is written elsewhere.
fn instant_of(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".db")?;
    // yyyymmddThhmmss-mmmZ
    let at = stem.get(stem.len().checked_sub(20)?..)?;
    let text = format!(
        "{}-{}-{}:{}:{}.{}",
        at.get(..4)?,
        at.get(4..6)?,
        at.get(6..11)?,
        at.get(11..13)?,
        at.get(13..15)?,
        at.get(16..)?
    );
    crate::model::time::parse(&text).map(iso)
}

fn take(db: &Connection, path: &Path) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(PARTIAL);
    let partial = PathBuf::from(partial);
    vacuum_into(db, &partial)?;
    let name = || -> io::Result<()> {
        fs::rename(&partial, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    name().map_err(|error| Error::internal(format!("cannot write {}", path.display()), error))
}

/// Writes the database as it stands into a new file that only this user can read. Writers go on meanwhile.
fn vacuum_into(db: &Connection, path: &Path) -> Result<()> {
    let failed = |error: io::Error| Error::internal(format!("cannot write {}", path.display()), error);
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let copied = db.execute("VACUUM INTO ?1", [path.to_string_lossy()]);
    if let Err(error) = copied {
        fs::remove_file(path).map_err(failed)?;
        return Err(error.into());
    }
    file.sync_all().map_err(failed)
}

/// A snapshot on its way out.
pub struct Backup {
    file: File,
    bytes: u64,
    manifest: String,
    sealer: Sealer,
    head: Vec<u8>,
}

impl Backup {
    /// Writes the backup, piece by piece.
    ///
    /// # Errors
    /// The disk's; whoever receives it has left.
    pub fn write(mut self, out: &mut dyn Write) -> Result<()> {
        let length = u32::try_from(self.manifest.len()).unwrap_or(u32::MAX);
        let mut copy = || -> io::Result<()> {
            out.write_all(&self.head)?;
            out.write_all(&self.sealer.seal(&length.to_be_bytes()))?;
            out.write_all(&self.sealer.seal(self.manifest.as_bytes()))?;
            let (mut piece, mut left) = (vec![0; PIECE_BYTES], self.bytes);
            while left > 0 {
                let read = self.file.read(&mut piece)?;
                if read == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                left = left.saturating_sub(read as u64);
                out.write_all(&self.sealer.seal(&piece[..read]))?;
            }
            Ok(())
        };
        let copied = copy();
        let ended = copied.and_then(|()| out.write_all(&self.sealer.finish()));
        ended.map_err(|error| Error::from_source(Kind::ClientGone, "the backup could not be sent", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshots_name_tells_its_instant() {
        let path = snapshot_path(&std::env::temp_dir(), SCHEDULED).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let at = instant_of(&name).unwrap();
        assert!(at.ends_with('Z') && at.len() == 24, "{name} {at}");
        assert_eq!(instant_of("before-schema-4-20261123T001108-235Z.db").unwrap(), "2026-11-23T00:11:08.235Z");
        for wrong in ["relay.db", "relay-20261123T001108-235Z.db.partial", "x.db", "relay-2026112ßT001108-235Z.db"] {
            assert_eq!(instant_of(wrong), None, "{wrong}");
        }
    }
}
