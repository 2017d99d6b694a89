//! `GET /admin/system`: the process, its machine, and what was found when it was last looked at. No secrets.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::titled;
use super::money::PRICES_LIFE_MS;
use super::process;
use super::session::Admin;
use super::settings::zone;
use crate::model::time::{iso, now_ms};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Free space below which an admin should act, and below which nothing works soon, in bytes.
const DISK_LOW_BYTES: u64 = 512 * 1024 * 1024;
const DISK_FULL_BYTES: u64 = 64 * 1024 * 1024;
/// Ledger lines waiting for their commit at which the disk is too slow for what is relayed.
const LEDGER_WAITING_MANY: usize = 256;
/// Downloaded prices that are this many days old have missed several renewals.
const PRICES_OLD_DAYS: i64 = 7;

/// What came of each background job's last run.
#[derive(Debug, Default)]
pub(crate) struct Jobs(Mutex<BTreeMap<&'static str, (bool, i64)>>);

impl Server {
    /// Notes that a background job has run at an instant, and whether it succeeded.
    pub fn note_job(&self, name: &'static str, is_ok: bool, at_ms: i64) {
        self.jobs.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (is_ok, at_ms));
    }
}

/// How something was found.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum State {
    Ok,
    Warning,
    Error,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Error => "error",
        }
    }
}

struct Check {
    name: String,
    found: Found,
    at_ms: i64,
}

/// What a check found: a sentence, and for readers of another language its code and the figures that stand in it.
struct Found {
    state: State,
    code: &'static str,
    figures: Value,
    message: String,
}

fn found(state: State, code: &'static str, figures: Value, message: String) -> Found {
    Found { state, code, figures, message }
}

/// `GET /admin/system`.
pub(crate) fn system(server: &Server, _: &Admin, _: &Call) -> Result<Answer, Answer> {
    let now = now_ms();
    let disk = process::disk_bytes(&server.config.data_dir);
    // Before anything else that asks the database, so that its answer's time is its own.
    let checks = checks(server, disk, now);
    let (keys, lines) = server.store.rough_counts().map_err(titled("Failed to read the system's state"))?;
    let (file_bytes, log_bytes) = server.store.file_bytes();
    let accounts = server.store.accounts();
    let prices = server.store.prices();
    let fetched_at_ms = prices.fetched_at_ms();
    let (watchers, watchers_max) = server.watchers.taken();
    let uptime_ms = i64::try_from(server.started.elapsed().as_millis()).unwrap_or(i64::MAX);
    let health = checks.iter().map(|check| check.found.state).max().unwrap_or(State::Ok);
    Ok(Answer::data(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "startedAt": iso(now.saturating_sub(uptime_ms)),
        "uptimeSeconds": server.uptime_s(),
        "checkedAt": iso(now),
        "process": { "residentBytes": process::resident_bytes(), "threads": process::threads() },
        "pools": pools(server),
        "connections": connections(server),
        "watchers": { "open": watchers, "max": watchers_max },
        "database": { "fileBytes": file_bytes, "walBytes": log_bytes },
        "ledger": { "waiting": server.store.ledger_waiting(), "lines": lines },
        "counts": {
            "keys": keys,
            "accounts": accounts.len(),
            "accountsUsable": accounts.iter().filter(|account| account.is_usable()).count(),
        },
        "timeZone": zone(&server.config),
        "upstreamHost": host(&server.config.claude_api_url),
        "prices": {
            "edition": prices.edition(),
            "names": prices.names(),
            "fetchedAt": fetched_at_ms.map(iso),
            "ageSeconds": fetched_at_ms.map(|at| (now - at).max(0) / 1000),
        },
        "disk": disk.map(|(free, total)| json!({ "freeBytes": free, "totalBytes": total })),
        "health": health.as_str(),
        "checks": checks.iter().map(|check| json!({
            "name": check.name,
            "status": check.found.state.as_str(),
            "code": check.found.code,
            "figures": check.found.figures,
            "message": check.found.message,
            "checkedAt": iso(check.at_ms),
        })).collect::<Vec<_>>(),
    })))
}

/// `pools`: workers, and how many of them are busy.
pub(super) fn pools(server: &Server) -> Value {
    let figures = &server.figures;
    json!({
        "relay": { "size": figures.relay_size(), "busy": figures.relay_busy() },
        "control": {
            "size": figures.control_size(), "busy": figures.control_busy(), "waiting": figures.control_queued(),
        },
    })
}

/// `connections`: clients' connections, and the bodies that they sent.
pub(super) fn connections(server: &Server) -> Value {
    let figures = &server.figures;
    json!({ "open": figures.connections_open(), "bodiesBytes": figures.bodies_in_flight_bytes() })
}

fn checks(server: &Server, disk: Option<(u64, u64)>, now: i64) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut add = |name: &str, found: Found, at_ms: i64| {
        checks.push(Check { name: name.to_owned(), found, at_ms });
    };
    add("database", database(server), now);
    add("ledger", ledger(server.store.ledger_waiting()), now);
    add("disk", disk_check(disk), now);
    add("accounts", accounts(server, now), now);
    add("prices", prices(server, now), now);
    let jobs = server.jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, (is_ok, at_ms)) in jobs.iter() {
        let found = match is_ok {
            true => found(State::Ok, "done", json!({}), "done".to_owned()),
            false => found(State::Error, "failed", json!({}), "failed, the log says why".to_owned()),
        };
        add(&format!("job:{name}"), found, *at_ms);
    }
    checks
}

fn database(server: &Server) -> Found {
    let start = Instant::now();
    if !server.store.is_healthy() {
        return found(State::Error, "silent", json!({}), "does not answer, the log says why".to_owned());
    }
    let elapsed_ms = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
    found(State::Ok, "answers", json!({ "ms": elapsed_ms }), format!("answers in {elapsed_ms} ms"))
}

fn ledger(waiting: usize) -> Found {
    let state = if waiting >= LEDGER_WAITING_MANY { State::Warning } else { State::Ok };
    found(state, "waiting", json!({ "lines": waiting }), format!("{waiting} lines wait for their commit"))
}

fn disk_check(disk: Option<(u64, u64)>) -> Found {
    let Some((free, _)) = disk else {
        let message = "the free space of the data folder is not known".to_owned();
        return found(State::Warning, "unknownSpace", json!({}), message);
    };
    let state = match free {
        ..DISK_FULL_BYTES => State::Error,
        DISK_FULL_BYTES..DISK_LOW_BYTES => State::Warning,
        _ => State::Ok,
    };
    let free_mb = free / (1024 * 1024);
    found(state, "free", json!({ "bytes": free }), format!("{free_mb} MB free"))
}

fn accounts(server: &Server, now: i64) -> Found {
    let accounts = server.store.accounts();
    let all = accounts.len();
    let usable = accounts.iter().filter(|account| account.is_usable()).count();
    let is_resting = |seq| server.relay.standings().of(seq).is_resting(now);
    let serving = accounts
        .iter()
        .filter(|one| one.is_usable() && one.schedulable && !one.is_expired(now) && !is_resting(one.seq))
        .count();
    let state = match usable {
        0 => State::Error,
        usable if serving == 0 || usable < accounts.iter().filter(|account| account.is_active).count() => {
            State::Warning
        }
        _ => State::Ok,
    };
    found(state, "usable", json!({ "usable": serving, "all": all }), format!("{serving} of {all} can serve now"))
}

fn prices(server: &Server, now: i64) -> Found {
    let prices = server.store.prices();
    match prices.fetched_at_ms() {
        _ if server.settings.now().pricing_url.is_empty() => {
            let edition = prices.edition();
            found(State::Ok, "table", json!({ "edition": edition }), format!("the table of {edition}"))
        }
        None => {
            let message = "not downloaded yet: models newer than this program have no price".to_owned();
            found(State::Warning, "notDownloaded", json!({}), message)
        }
        Some(at_ms) => {
            let days = (now - at_ms).max(0) / PRICES_LIFE_MS;
            let state = if days >= PRICES_OLD_DAYS { State::Warning } else { State::Ok };
            found(state, "downloaded", json!({ "days": days }), format!("downloaded {days} days ago"))
        }
    }
}

/// The host of a URL, without what may be secret in it.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_without_its_credentials() {
        for (url, expected) in [
            ("https://api.anthropic.com/v1/messages", "api.anthropic.com"),
            ("http://user:secret@host:8080/x?token=secret", "host:8080"),
            ("http://[::1]:9?x", "[::1]:9"),
            ("https://user:se@cret@host#x", "host"),
        ] {
            assert_eq!(host(url), expected);
        }
    }

    #[test]
    fn little_free_space_is_said() {
        for (free, state) in [(0, State::Error), (DISK_FULL_BYTES, State::Warning), (DISK_LOW_BYTES, State::Ok)] {
            assert_eq!(disk_check(Some((free, 1 << 40))).state, state, "{free}");
        }
        assert_eq!(disk_check(None).state, State::Warning);
    }
}
