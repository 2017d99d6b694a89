//! What a key holder may ask about the own key. Costs no permit and no request of a window.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::titled;
use super::key_limits::{Limits, Resets, Used, remaining};
use super::keys::{ShownUsage, expires_at};
use crate::error::Result as Checked;
use crate::model::ApiKey;
use crate::model::time::{iso, now_ms};
use serde::Serialize;
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

fn used(server: &Server, key: &ApiKey, now: i64) -> Checked<Used> {
    Ok(Used {
        spent: server.relay.spent(key.seq)?,
        window: server.relay.window(key, now)?,
        running: server.relay.running(key.seq),
    })
}

/// `GET …/v1/key-info`.
pub(crate) fn key_info(server: &Server, key: &ApiKey, _: &Call) -> Outcome {
    let failed = titled("Failed to get key info");
    let now = now_ms();
    let usage = server.store.key_usage(key.seq, now).map_err(&failed)?;
    let used = used(server, key, now).map_err(&failed)?;
    let body = json!({
        "keyInfo": {
            "id": key.id,
            "name": key.name,
            "tokenLimit": key.token_limit,
            "usage": ShownUsage::new(&usage, key.created_at_ms, now).with_costs(&usage),
            "expiresAt": expires_at(key),
            "allowedModels": key.allowed_models,
        },
        "limits": Limits::new(key, &used, &Resets::after(now, server.store.zone())),
        "timestamp": iso(now),
    });
    Ok(Answer::json(200, &body))
}

/// The usage with what desktop switchers read.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanUsage<'a> {
    #[serde(flatten)]
    usage: ShownUsage,
    is_valid: bool,
    plan_name: &'a str,
    remaining: Value,
    unit: &'static str,
}

/// The limits behind the original's two numbers.
#[derive(Serialize)]
struct PlanLimits {
    tokens: i64,
    requests: i64,
    #[serde(flatten)]
    limits: Limits,
}

/// `GET …/v1/usage`.
pub(crate) fn usage(server: &Server, key: &ApiKey, _: &Call) -> Outcome {
    let failed = titled("Failed to get usage stats");
    let now = now_ms();
    let usage = server.store.key_usage(key.seq, now).map_err(&failed)?;
    let used = used(server, key, now).map_err(&failed)?;
    let body = json!({
        "usage": PlanUsage {
            usage: ShownUsage::new(&usage, key.created_at_ms, now).with_costs(&usage),
            is_valid: true,
            plan_name: &key.name,
            remaining: remaining(key, &used),
            unit: "USD",
        },
        "limits": PlanLimits {
            tokens: key.token_limit,
            requests: key.rate_limit_requests,
            limits: Limits::new(key, &used, &Resets::after(now, server.store.zone())),
        },
        "timestamp": iso(now),
    });
    Ok(Answer::json(200, &body))
}
