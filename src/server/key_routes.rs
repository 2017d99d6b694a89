//! What a key holder may ask about the own key. Costs no permit and no request of a window.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::titled;
use super::keys::ShownUsage;
use crate::model::ApiKey;
use crate::model::time::{iso, now_ms};
use serde_json::json;

type Outcome = Result<Answer, Answer>;

/// `GET …/v1/key-info`.
pub(crate) fn key_info(server: &Server, key: &ApiKey, _: &Call) -> Outcome {
    let now = now_ms();
    let usage = server.store.key_usage(key.seq, now).map_err(titled("Failed to get key info"))?;
    let body = json!({
        "keyInfo": {
            "id": key.id,
            "name": key.name,
            "tokenLimit": key.token_limit,
            "usage": ShownUsage::new(&usage, key.created_at_ms, now),
        },
        "timestamp": iso(now),
    });
    Ok(Answer::json(200, &body))
}

/// `GET …/v1/usage`.
pub(crate) fn usage(server: &Server, key: &ApiKey, _: &Call) -> Outcome {
    let now = now_ms();
    let usage = server.store.key_usage(key.seq, now).map_err(titled("Failed to get usage stats"))?;
    let body = json!({
        "usage": ShownUsage::new(&usage, key.created_at_ms, now),
        "limits": { "tokens": key.token_limit, "requests": key.rate_limit_requests },
        "timestamp": iso(now),
    });
    Ok(Answer::json(200, &body))
}
