//! Restoring a backup: everything is checked first, then staged, and put in place at the next start, before the database is
//! opened. Whenever it is killed, the next start finds the database wholly before or wholly after.
//!
//! ```text
//! restore.upload   the file as it came
//! restore.part/    what is in it, while it is checked
//! restore.ready/   the same, checked and synced: made by one rename, gone when all of it is in place
//! ```

use super::snapshot::Manifest;
use super::{Store, lock_folder, schema};
use crate::error::{Error, Kind, Result};
use crate::model::secret::Cipher;
use crate::model::time::{iso, now_ms};
use crate::model::vault::{Checker, HEAD_BYTES, Opener, TAG_BYTES};
use crate::model::{Sensitive, secret};
use crate::told::sentences;
use rusqlite::{Connection, OpenFlags};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const UPLOAD: &str = "restore.upload";
const PART: &str = "restore.part";
const READY: &str = "restore.ready";
/// In `restore.ready`: the name of the folder that the live database will be kept in.
const KEPT_AS: &str = "kept-as";
const DATABASE: &str = "relay.db";
const KEY_FILE: &str = "encryption.key";
const PIECE_BYTES: usize = 64 * 1024;
/// Longest description of a backup.
const MANIFEST_BYTES_MAX: usize = 64 * 1024;

sentences! {
    /// Why a backup is not restored, or not made.
    pub(super) enum Unrestored {
        Busy "backup_running" => "A backup or a restore is already under way",
        NoBackup "no_backup" => "This is not a backup of claude-relay",
        WrongPassphrase "wrong_passphrase" => "The passphrase is wrong or the file is damaged",
        OtherVersion "backup_version" => "This backup cannot be read: it was made by another version",
        OtherKey "backup_key" => "The setting ENCRYPTION_KEY is another key than the backup's: set it to that one, or remove it, so \
            that the backup's key is put in its file",
        BlankKey "backup_key_blank" => "The backup's key begins or ends with a blank, which a key file cannot hold: set \
            ENCRYPTION_KEY to it",
        Unusable "backup_unusable" { problem: String } => "The database in this backup cannot be used: {problem}",
    }
}

fn refused(why: Unrestored) -> Error {
    Error::saying(Kind::Invalid, why)
}

/// A backup that was checked and waits for the next start.
#[derive(Clone, Debug)]
pub struct Staged {
    /// When its snapshot was taken.
    pub created_at: String,
    /// API keys in it.
    pub keys: i64,
    /// Accounts in it.
    pub accounts: i64,
    /// Its schema; an older one is upgraded at the next start.
    pub schema_version: i64,
    /// The folder, in the data folder, that the database of now will be kept in.
    pub kept_as: String,
}

/// A file that is being received.
pub struct Upload {
    file: File,
    path: PathBuf,
}

impl Upload {
    /// Takes a piece.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path)
            && error.kind() != ErrorKind::NotFound
        {
            log::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

impl Store {
    /// Begins to receive a backup.
    ///
    /// # Errors
    /// The disk's.
    pub fn begin_upload(&self) -> Result<Upload> {
        let name = secret::new_uuid().map_err(|error| Error::internal("no random numbers", error.to_string()))?;
        let path = self.data_dir().join(format!("{UPLOAD}-{name}"));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| Error::internal(format!("cannot write {}", path.display()), error))?;
        Ok(Upload { file, path })
    }

    /// Checks a backup and stages it for the next start. `has_key_file` says that this relay's encryption key is in its
    /// file and will be replaced; otherwise it is a setting, and must be the backup's.
    ///
    /// # Errors
    /// `Invalid`: the file or the passphrase is wrong, in words for the admin. Nothing has changed then.
    pub fn stage_restore(&self, upload: Upload, passphrase: &Sensitive, has_key_file: bool) -> Result<Staged> {
        let _turn = self.maintenance()?;
        let folder = self.data_dir();
        remove_folder(&folder.join(PART))?;
        remove_folder(&folder.join(READY))?;
        let staged = self.check_and_stage(folder, upload, passphrase, has_key_file);
        if staged.is_err() {
            remove_folder(&folder.join(PART))?;
        }
        staged
    }

    fn check_and_stage(
        &self,
        folder: &Path,
        mut upload: Upload,
        passphrase: &Sensitive,
        has_key_file: bool,
    ) -> Result<Staged> {
        let opener = check(&mut upload.file, passphrase)?;
        let part = folder.join(PART);
        let failed = |error: io::Error| Error::internal(format!("cannot write {}", part.display()), error);
        fs::DirBuilder::new().mode(0o700).create(&part).map_err(failed)?;
        let manifest = unpack(&mut upload.file, opener, &part.join(DATABASE))?;
        if !has_key_file && manifest.encryption_key.expose() != self.pepper {
            return Err(refused(Unrestored::OtherKey));
        }
        if has_key_file && manifest.encryption_key.expose().trim() != manifest.encryption_key.expose() {
            return Err(refused(Unrestored::BlankKey));
        }
        let mut staged = inspect(&part.join(DATABASE), &manifest)?;
        staged.kept_as = format!("before-restore-{}", iso(now_ms()).replace([':', '-'], "").replace('.', "-"));
        write_private(&part.join(KEPT_AS), staged.kept_as.as_bytes()).map_err(failed)?;
        if has_key_file {
            write_private(&part.join(KEY_FILE), manifest.encryption_key.expose().as_bytes()).map_err(failed)?;
        }
        let stage = || -> io::Result<()> {
            sync_folder(&part)?;
            fs::rename(&part, folder.join(READY))?;
            sync_folder(folder)
        };
        stage().map_err(failed)?;
        Ok(staged)
    }
}

/// Reads the whole file once and compares its tag. It stands behind its head afterwards.
fn check(file: &mut File, passphrase: &Sensitive) -> Result<Opener> {
    let unreadable = |error: io::Error| Error::internal("the uploaded backup cannot be read", error);
    let length = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    file.rewind().map_err(unreadable)?;
    let no_backup = || refused(Unrestored::NoBackup);
    let Some(mut left) = length.checked_sub((HEAD_BYTES + TAG_BYTES) as u64) else { return Err(no_backup()) };
    let mut head = [0; HEAD_BYTES];
    file.read_exact(&mut head).map_err(unreadable)?;
    let mut checker = Checker::new(&head, passphrase).map_err(|_| no_backup())?;
    let mut piece = vec![0; PIECE_BYTES];
    while left > 0 {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(piece.len()));
        file.read_exact(&mut piece[..wanted]).map_err(unreadable)?;
        checker.check(&piece[..wanted]);
        left -= wanted as u64;
    }
    let mut tag = [0; TAG_BYTES];
    file.read_exact(&mut tag).map_err(unreadable)?;
    file.seek(SeekFrom::Start(HEAD_BYTES as u64)).map_err(unreadable)?;
    checker.finish(&tag).map_err(|_| refused(Unrestored::WrongPassphrase))
}

/// Decrypts a file that was checked: its description, and the database into a file.
fn unpack(file: &mut File, mut opener: Opener, database: &Path) -> Result<Manifest> {
    let failed = |error: io::Error| Error::internal(format!("cannot write {}", database.display()), error);
    let damaged = || refused(Unrestored::OtherVersion);
    let mut out = File::options().write(true).create_new(true).mode(0o600).open(database).map_err(failed)?;
    let mut left = file.metadata().map_err(failed)?.len() - (HEAD_BYTES + TAG_BYTES) as u64;
    let (mut piece, mut start, mut manifest) = (vec![0; PIECE_BYTES], Vec::new(), None);
    loop {
        let wanted = piece.len().min(usize::try_from(left).unwrap_or(piece.len()));
        file.read_exact(&mut piece[..wanted]).map_err(failed)?;
        left -= wanted as u64;
        let mut clear = opener.open(&piece[..wanted]);
        let is_last = left == 0;
        if is_last {
            clear.extend(opener.finish().map_err(|_| damaged())?);
        }
        if manifest.is_some() {
            out.write_all(&clear).map_err(failed)?;
        } else {
            start.extend_from_slice(&clear);
            if let Some((read, rest)) = read_manifest(&start).ok_or_else(damaged)? {
                out.write_all(rest).map_err(failed)?;
                manifest = Some(read);
                start = Vec::new();
            }
        }
        if is_last {
            break;
        }
    }
    out.sync_all().map_err(failed)?;
    let manifest: Manifest = manifest.ok_or_else(damaged)?;
    if out.metadata().map_err(failed)?.len() != manifest.database_bytes {
        return Err(damaged());
    }
    Ok(manifest)
}

/// The description at the start and what follows it; an inner `None` while it is not all there.
fn read_manifest(start: &[u8]) -> Option<Option<(Manifest, &[u8])>> {
    let Some((length, rest)) = start.split_first_chunk() else { return Some(None) };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok().filter(|length| *length <= MANIFEST_BYTES_MAX)?;
    let Some((json, rest)) = rest.split_at_checked(length) else { return Some(None) };
    serde_json::from_slice(json).ok().map(|manifest| Some((manifest, rest)))
}

/// Opens the database of a backup, and looks at all of it.
fn inspect(path: &Path, manifest: &Manifest) -> Result<Staged> {
    let refuse = |what: &str| refused(Unrestored::Unusable { problem: what.to_owned() });
    let look = || -> rusqlite::Result<(String, i64, Option<String>, i64, i64)> {
        let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        // Who was signed in when it was taken is not signed in now.
        db.execute("DELETE FROM sessions", [])?;
        let integrity = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        let version = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let sql = "SELECT (SELECT value FROM meta WHERE name = 'key_fingerprint') AS fingerprint,
                (SELECT count(*) FROM api_keys WHERE deleted_at_ms IS NULL) AS keys,
                (SELECT count(*) FROM accounts) AS accounts";
        db.query_row(sql, [], |row| {
            Ok((integrity, version, row.get("fingerprint")?, row.get("keys")?, row.get("accounts")?))
        })
    };
    let (integrity, version, fingerprint, keys, accounts) = look().map_err(|error| refuse(&error.to_string()))?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::internal("cannot sync a restore", error))?;
    if integrity != "ok" {
        return Err(refuse("it is damaged"));
    }
    if version > schema::known_version() {
        return Err(refuse("it was made by a newer claude-relay"));
    }
    let cipher = Cipher::new(manifest.encryption_key.expose())
        .map_err(|error| Error::internal("deriving the encryption key failed", error.to_string()))?;
    if fingerprint.as_deref() != Some(cipher.fingerprint().as_str()) {
        return Err(refuse("its key is not the one that its secrets were sealed with"));
    }
    Ok(Staged {
        created_at: manifest.created_at.clone(),
        keys,
        accounts,
        schema_version: version,
        kept_as: String::new(),
    })
}

/// Puts a staged backup in place, if there is one. To be called before anything reads the data folder. Gives back where the
/// database that was there is kept now.
///
/// # Errors
/// Another process holds the folder; the disk's. The next call goes on where this one stopped.
pub fn apply_staged(data_dir: &Path) -> Result<Option<PathBuf>> {
    if !data_dir.exists() {
        return Ok(None);
    }
    let _lock = lock_folder(data_dir)?;
    remove_folder(&data_dir.join(PART))?;
    remove_uploads(data_dir)?;
    let ready = data_dir.join(READY);
    if !ready.exists() {
        return Ok(None);
    }
    let failed = |error: io::Error| Error::internal("a restore could not be put in place", error);
    let kept_as = fs::read_to_string(ready.join(KEPT_AS)).map_err(failed)?;
    let kept = data_dir.join(kept_as.trim());
    if ready.join(DATABASE).exists() {
        keep_live(data_dir, &kept).map_err(failed)?;
        fs::rename(ready.join(DATABASE), data_dir.join(DATABASE)).map_err(failed)?;
        sync_folder(data_dir).map_err(failed)?;
    }
    if ready.join(KEY_FILE).exists() {
        fs::rename(ready.join(KEY_FILE), data_dir.join(KEY_FILE)).map_err(failed)?;
        sync_folder(data_dir).map_err(failed)?;
    }
    remove_folder(&ready)?;
    sync_folder(data_dir).map_err(failed)?;
    Ok(Some(kept))
}

/// Keeps the live database and its key under another name, the write-ahead log folded in: beside another database it would
/// be taken for that one's.
fn keep_live(data_dir: &Path, kept: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(kept) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let database = data_dir.join(DATABASE);
    if database.exists()
        && let Err(error) = fold_log(&database)
    {
        log::warn!("the database that is replaced cannot be opened, and is kept as it is: {error}");
    }
    // The file of the first password is about an admin who goes with the database.
    for name in ["relay.db-wal", "relay.db-shm", "init.json"] {
        match fs::rename(data_dir.join(name), kept.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    for name in [DATABASE, KEY_FILE] {
        let (live, copy) = (data_dir.join(name), kept.join(name));
        if !live.exists() {
            continue;
        }
        match fs::remove_file(&copy) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Where a file cannot have two names, its content is copied.
        if fs::hard_link(&live, &copy).is_err() {
            fs::copy(&live, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    sync_folder(kept)
}

fn fold_log(database: &Path) -> rusqlite::Result<()> {
    let db = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    db.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
}

fn remove_uploads(data_dir: &Path) -> Result<()> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(data_dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(UPLOAD) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    };
    remove().map_err(|error| Error::internal("what a restore has left cannot be removed", error))
}

fn remove_folder(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::from_source(Kind::Internal, format!("cannot remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// A name must survive a power cut as well as what it names.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
