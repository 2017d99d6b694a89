//! What is removed by time alone: by the background thread as often as `CLEANUP_INTERVAL` says, and by
//! `POST /admin/cleanup` at once. Nothing that an admin made is among it, but for keys that were deleted a month ago.

use super::call::{Answer, Call};
use super::dialect::titled;
use super::session::{ABSOLUTE_LIFE_FACTOR, Admin};
use super::{Server, keys};
use crate::error::Result as Checked;
use crate::model::time::now_ms;
use serde_json::json;

/// Ledger lines that the route removes; what is left the background removes in its time.
const LINES_AT_ONCE: usize = 5_000;

/// One kind of what is removed.
pub struct Cleanup {
    /// The job's name.
    pub name: &'static str,
    /// What is said of it, behind a number.
    pub did: &'static str,
    /// Removes what is over at an instant (Unix milliseconds), at most so many ledger lines, and gives back how many.
    pub remove: fn(&Server, i64, usize) -> Checked<usize>,
}

/// All of it.
pub const CLEANUPS: [Cleanup; 6] = [
    Cleanup { name: "sessions", did: "ended sessions removed", remove: sessions },
    Cleanup { name: "sign-ins", did: "sign-ins forgotten that nobody finished", remove: sign_ins },
    Cleanup { name: "windows", did: "windows of keys forgotten that are over", remove: windows },
    Cleanup { name: "affinities", did: "conversations forgotten", remove: affinities },
    Cleanup { name: "retention", did: "ledger lines removed, their sums stay", remove: retention },
    Cleanup { name: "deleted keys", did: "keys purged that were deleted long ago", remove: deleted_keys },
];

fn sessions(server: &Server, now_ms: i64, _: usize) -> Checked<usize> {
    let idle_max = server.session_timeout_ms();
    let life_max = idle_max.saturating_mul(ABSOLUTE_LIFE_FACTOR);
    server.store.prune_sessions(now_ms.saturating_sub(idle_max), now_ms.saturating_sub(life_max))
}

fn sign_ins(server: &Server, now_ms: i64, _: usize) -> Checked<usize> {
    server.store.prune_sign_ins(now_ms)
}

fn windows(server: &Server, now_ms: i64, _: usize) -> Checked<usize> {
    server.store.prune_windows(now_ms)
}

fn affinities(server: &Server, now_ms: i64, _: usize) -> Checked<usize> {
    server.relay.prune(now_ms)
}

fn retention(server: &Server, now_ms: i64, lines_max: usize) -> Checked<usize> {
    let retention_ms = i64::try_from(server.settings.now().token_usage_retention_ms).unwrap_or(i64::MAX);
    server.store.prune_ledger(now_ms.saturating_sub(retention_ms), lines_max)
}

fn deleted_keys(server: &Server, now_ms: i64, _: usize) -> Checked<usize> {
    server.store.purge_keys(now_ms.saturating_sub(keys::DELETED_LIFE_MS))
}

/// `POST /admin/cleanup`. An expired key stays in the list and is refused, so that its holder reads why; an account that fails
/// is judged anew with every request. So the contract's two counts are always 0.
pub(crate) fn cleanup(server: &Server, admin: &Admin, _: &Call) -> Result<Answer, Answer> {
    for Cleanup { name, did, remove } in CLEANUPS {
        let count = remove(server, now_ms(), LINES_AT_ONCE).map_err(titled("Cleanup failed"))?;
        log::info!("{} cleaned up {name}: {count} {did}", admin.username);
    }
    let body = json!({
        "success": true,
        "message": "Cleanup completed",
        "data": { "expiredKeysRemoved": 0, "errorAccountsReset": 0 },
    });
    Ok(Answer::json(200, &body))
}
