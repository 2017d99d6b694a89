//! `GET /metrics`: the original's JSON.

use super::Server;
use super::call::{Answer, Call};
use super::process;
use crate::model::time::{iso, now_ms};
use serde_json::json;

/// `GET /metrics`.
pub(crate) fn metrics(server: &Server, _: &Call) -> Result<Answer, Answer> {
    let (keys, records) = server.store.counts().map_err(|error| {
        log::error!("metrics could not be read: {error}");
        Answer::json(500, &json!({ "error": "Failed to collect metrics" }))
    })?;
    // There is no heap of its own to tell of: all memory of this process is resident memory.
    let resident = process::resident_bytes();
    Ok(Answer::json(
        200,
        &json!({
            "totalApiKeys": keys,
            "totalClaudeAccounts": server.store.accounts().len(),
            "totalUsageRecords": records,
            "uptime": server.uptime_s(),
            "memory": {
                "rss": resident, "heapTotal": resident, "heapUsed": resident, "external": 0, "arrayBuffers": 0,
            },
            "timestamp": iso(now_ms()),
        }),
    ))
}
