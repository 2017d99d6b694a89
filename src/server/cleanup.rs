//! `POST /admin/cleanup`: what the background thread does by itself, now.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::titled;
use super::session::Admin;
use crate::model::time::now_ms;
use serde_json::json;

/// Ends sessions that are over. Nothing that an admin made is removed: an expired key stays in the list and is refused, so
/// that its holder reads why. An account that fails is judged anew with every request, so none needs to be reset.
pub(crate) fn cleanup(server: &Server, admin: &Admin, _: &Call) -> Result<Answer, Answer> {
    let ended = server.prune_sessions(now_ms()).map_err(titled("Cleanup failed"))?;
    log::info!("{} cleaned up: {ended} sessions ended", admin.username);
    let body = json!({
        "success": true,
        "message": "Cleanup completed",
        "data": { "expiredKeysRemoved": 0, "errorAccountsReset": 0 },
    });
    Ok(Answer::json(200, &body))
}
