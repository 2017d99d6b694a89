//! All SQL lives here, one file a noun. Nothing here knows HTTP.
//!
//! Three roads lead to the database file: a few *reader* connections shared by all workers, one *writer* connection for
//! what an admin or a token refresh changes (`synchronous=FULL`: a commit survives a power cut), and the ledger's own
//! thread (`synchronous=NORMAL`: a commit survives `kill -9`; the WAL is synced by the next full commit or checkpoint).
//! An admin who looks through the ledger has a reader apart, so that no request waits for that.

mod account_usage;
mod accounts;
mod admins;
mod api_keys;
mod budgets;
mod exports;
mod imports;
mod key_life;
mod key_trend;
mod ledger;
mod lines;
mod oauth_sessions;
mod origins;
mod prices;
mod reports;
mod restore;
mod rows;
mod schema;
mod settings;
mod snapshot;
mod spool;
mod standings;
mod told_limits;
mod usage;
mod windows;

pub use account_usage::AccountsUsage;
pub use accounts::{AccountDraft, TokenPair};
pub use admins::Session;
pub use api_keys::{KeyDraft, KeyLabel};
pub use exports::{ExportedKey, ExportedUsage, Exporter};
pub use imports::{Import, Step};
pub use key_trend::{KeyTrend, TrendKey};
pub use ledger::Receipt;
pub use lines::{KeptLine, LineFilter, LinePage, Named, Place, StatusFilter};
pub use oauth_sessions::OauthSession;
pub use reports::{KeyBill, Span};
pub use restore::{Staged, Upload, apply_staged};
pub use settings::{SettingChange, kept_setting};
pub use snapshot::{Backup, Snapshot};
pub use spool::{Indexed, Spool};
pub use standings::{Affinity, Conversation, Standings};
pub use told_limits::ToldLimit;
pub use usage::{KeyUsage, KeysUsage, Period};
pub use windows::WindowUse;

use crate::error::{Error, Kind, Result};
use crate::model::secret::Cipher;
use crate::model::{Account, PriceTable};
use jiff::tz::TimeZone;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

/// Reader connections: a query takes microseconds, so two serve all workers.
const READERS: usize = 2;
/// How long a write waits for another connection's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages that the write-ahead log may grow by before a commit folds it in itself. The background thread does it long
/// before, so that no client waits for the disk.
const WAL_PAGES_MAX: i64 = 8000;
/// Page cache of each connection, in KiB.
const CACHE_KIB: i64 = 256;

/// The database, the cipher that seals its secrets, and the accounts as they stand.
pub struct Store {
    writer: Mutex<Connection>,
    readers: Vec<Mutex<Connection>>,
    next_reader: AtomicUsize,
    /// For reads of the ledger that take milliseconds.
    scanner: Mutex<Connection>,
    ledger: ledger::Writer,
    cipher: Cipher,
    pepper: String,
    /// Of keys that other installations issued; replaced as a whole.
    peppers: RwLock<Arc<Vec<origins::Pepper>>>,
    zone: TimeZone,
    /// All accounts with their secrets open; replaced as a whole whenever one changes.
    roster: RwLock<Arc<Vec<Arc<Account>>>>,
    /// The prices that the next line is priced by; replaced as a whole.
    prices: RwLock<Arc<PriceTable>>,
    path: PathBuf,
    /// Held while a snapshot is taken or a backup is staged.
    maintenance: Mutex<()>,
    /// Held for the life of the process: no second one may open this database.
    _lock: File,
}

/// What it takes to open a store.
pub struct Opening<'a> {
    /// The folder of the database; made if it does not exist.
    pub data_dir: &'a Path,
    /// The text that the cipher's keys are derived from; also the pepper of API keys.
    pub encryption_key: &'a str,
    /// The zone in which days, hours and months are counted.
    pub zone: TimeZone,
}

impl Store {
    /// Opens the database, migrates it, and starts the ledger's thread.
    ///
    /// # Errors
    /// Another process holds the folder; the encryption key is not the one this database was sealed with; SQLite's own.
    pub fn open(opening: &Opening<'_>) -> Result<Store> {
        let lock = lock_folder(opening.data_dir)?;
        Spool::remove_leftover(opening.data_dir)?;
        let path = opening.data_dir.join("relay.db");
        let cipher = Cipher::new(opening.encryption_key)
            .map_err(|error| Error::internal("deriving the encryption key failed", error.to_string()))?;
        let mut writer = connect(&path, "FULL")?;
        schema::migrate(&mut writer, opening.data_dir)?;
        schema::check_fingerprint(&mut writer, &cipher.fingerprint())?;
        let prices = prices::stored(&writer)?;
        let readers = (0..READERS).map(|_| connect(&path, "NORMAL").map(Mutex::new)).collect::<Result<Vec<_>>>()?;
        let ledger = ledger::Writer::start(connect(&path, "NORMAL")?, opening.zone.clone())?;
        let store = Store {
            writer: Mutex::new(writer),
            readers,
            next_reader: AtomicUsize::new(0),
            scanner: Mutex::new(connect(&path, "NORMAL")?),
            ledger,
            cipher,
            pepper: opening.encryption_key.to_owned(),
            peppers: RwLock::default(),
            zone: opening.zone.clone(),
            roster: RwLock::default(),
            prices: RwLock::new(Arc::new(prices)),
            path,
            maintenance: Mutex::new(()),
            _lock: lock,
        };
        store.reload_roster(&store.write())?;
        store.reload_peppers(&store.write())?;
        Ok(store)
    }

    /// The zone in which days, hours and months are counted.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Ends the ledger's thread after its last line.
    pub fn close(&self) {
        self.ledger.stop();
    }

    /// Folds the write-ahead log into the database, as far as readers allow.
    ///
    /// # Errors
    /// SQLite's.
    pub fn checkpoint(&self) -> Result<()> {
        self.write().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }

    /// Whether the database answers.
    pub fn is_healthy(&self) -> bool {
        self.read(|db| Ok(db.query_row("SELECT 1", [], |row| row.get::<_, i64>(0))?)).is_ok()
    }

    /// Where the database lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a query on a reader that is free, or on the next one in turn.
    fn read<T>(&self, query: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        for reader in &self.readers {
            if let Ok(db) = reader.try_lock() {
                return query(&db);
            }
        }
        let turn = self.next_reader.fetch_add(1, Ordering::Relaxed) % self.readers.len();
        query(&lock(&self.readers[turn]))
    }

    fn write(&self) -> MutexGuard<'_, Connection> {
        lock(&self.writer)
    }
}

/// A panic while a lock was held cannot leave SQLite half way: its transaction rolled back on drop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lock_folder(data_dir: &Path) -> Result<File> {
    let shown = data_dir.display();
    std::fs::create_dir_all(data_dir)
        .map_err(|error| Error::internal(format!("cannot make the data folder {shown}"), error))?;
    let path = data_dir.join("relay.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::internal(format!("cannot open {}", path.display()), error))?;
    file.try_lock().map_err(|error| {
        Error::internal(format!("another claude-relay is using the data folder {shown}"), error.to_string())
    })?;
    Ok(file)
}

fn connect(path: &Path, synchronous: &str) -> Result<Connection> {
    // Each connection has a mutex of ours around it, so SQLite's own would only be locked for nothing.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(BUSY_TIMEOUT)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", synchronous)?;
        db.pragma_update(None, "foreign_keys", "ON")?;
        db.pragma_update(None, "wal_autocheckpoint", WAL_PAGES_MAX)?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    };
    open().map_err(|error| Error::internal(format!("cannot open {}", path.display()), error))
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        let full = matches!(
            error.sqlite_error_code(),
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::DatabaseBusy)
        );
        let kind = if full { Kind::Overloaded } else { Kind::Internal };
        Error::from_source(kind, "database error", error)
    }
}
