//! Reads a live Redis: with SCAN, never KEYS, in batches, and nothing is written there.

use super::Progress;
use super::fields::Fields;
use super::intake::Intake;
use super::records::{Name, name};
use crate::error::{Error, Kind, Result};
use crate::model::Sensitive;
use crate::model::remarks::{Failure, Reason};
use redis::{Client, Connection, RedisError, RedisResult, TlsCertificates};
use std::collections::HashMap;
use std::time::Duration;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Names that one SCAN is to look at.
const SCAN_COUNT: usize = 1000;
/// Records of one pipeline.
const BATCH: usize = 500;

/// From a key's hash to its identifier.
const INDEX: &str = "apikey:hash_map";

/// A hash as it comes.
type Hash = HashMap<Vec<u8>, Vec<u8>>;
/// A piece of one.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a Redis is and how it is trusted.
pub(super) struct Address {
    pub(super) url: Sensitive,
    /// PEM of the roots to trust in place of the system's.
    pub(super) roots: Option<String>,
}

/// Reads all records.
pub(super) fn read(address: &Address, intake: &mut Intake, progress: &Progress) -> Result<()> {
    let mut connection = connect(address)?;
    let count: u64 = redis::cmd("DBSIZE").query(&mut connection).map_err(|error| fault(&error))?;
    progress.set_total(count);
    let mut cursor: u64 = 0;
    loop {
        progress.goes_on()?;
        let scanned: RedisResult<(u64, Vec<Vec<u8>>)> =
            redis::cmd("SCAN").arg(cursor).arg("COUNT").arg(SCAN_COUNT).query(&mut connection);
        let (next, names) = scanned.map_err(|error| fault(&error))?;
        for batch in names.chunks(BATCH) {
            progress.goes_on()?;
            take(batch, &mut connection, intake)?;
            progress.add(batch.len() as u64);
        }
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    // Now, for a key that was made meanwhile was entered there before it was stored.
    index(&mut connection, intake, progress)
}

/// Reads the index of keys, which may be large, piece by piece.
fn index(connection: &mut Connection, intake: &mut Intake, progress: &Progress) -> Result<()> {
    let mut cursor: u64 = 0;
    loop {
        progress.goes_on()?;
        let scanned: RedisResult<(u64, Entries)> =
            redis::cmd("HSCAN").arg(INDEX).arg(cursor).arg("COUNT").arg(SCAN_COUNT).query(connection);
        let (next, entries) = match scanned {
            // Then it is no index.
            Err(error) if error.code() == Some("WRONGTYPE") => return Ok(()),
            scanned => scanned.map_err(|error| fault(&error))?,
        };
        for (hash, id) in entries {
            if let (Ok(hash), Ok(id)) = (std::str::from_utf8(&hash), std::str::from_utf8(&id)) {
                intake.index(hash, id)?;
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

fn connect(address: &Address) -> Result<Connection> {
    let url = address.url.expose();
    let client = match &address.roots {
        None => Client::open(url),
        Some(pem) => {
            let roots = TlsCertificates { client_tls: None, root_cert: Some(pem.clone().into_bytes()) };
            Client::build_with_tls(url, roots)
        }
    };
    // The library's words may quote the URL, and with it the password.
    let client = client.map_err(|_| Error::saying(Kind::Invalid, Failure::NoRedisUrl))?;
    let connection = client.get_connection_with_timeout(CONNECT_TIMEOUT).map_err(|error| fault(&error))?;
    connection.set_read_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| fault(&error))?;
    connection.set_write_timeout(Some(ANSWER_TIMEOUT)).map_err(|error| fault(&error))?;
    Ok(connection)
}

/// Redis's errors name commands and reasons, no values.
fn fault(error: &RedisError) -> Error {
    let failure = match error.kind() {
        redis::ErrorKind::AuthenticationFailed => Failure::RedisLogin,
        _ => {
            let said = error.detail().map(|detail| format!("{}: {detail}", error.category()));
            Failure::Redis { problem: said.unwrap_or_else(|| error.to_string()) }
        }
    };
    Error::saying(Kind::Invalid, failure)
}

fn take(batch: &[Vec<u8>], connection: &mut Connection, intake: &mut Intake) -> Result<()> {
    let mut wanted = Vec::new();
    let mut pipeline = redis::pipe();
    for bytes in batch {
        let Ok(text) = std::str::from_utf8(bytes) else {
            intake.other("?", Reason::NoText);
            continue;
        };
        match name(text) {
            Name::Other(reason) => intake.other(text, reason),
            found => {
                pipeline.cmd("HGETALL").arg(text);
                wanted.push((text, found));
            }
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let answers: RedisResult<Vec<RedisResult<Hash>>> = pipeline.ignore_errors().query(connection);
    for ((text, found), answer) in wanted.iter().zip(answers.map_err(|error| fault(&error))?) {
        match answer {
            Ok(fields) if fields.is_empty() => intake.other(text, Reason::Gone),
            Ok(fields) => intake.record(text, found, &Fields::from(texts(fields)))?,
            Err(_) => intake.other(text, Reason::OtherType),
        }
    }
    Ok(())
}

/// Fields are UTF-8 where the original wrote them; what is not is shown as it can be.
fn texts(fields: Hash) -> HashMap<String, String> {
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
    };
    fields.into_iter().map(|(name, value)| (text(name), text(value))).collect()
}
