//! What an admin does with an account that has trouble: a test, a wake-up call, a look at its history.

use super::Server;
use super::account_draft;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::session::Admin;
use crate::error::Error;
use crate::model::time::{iso, now_ms};
use crate::model::{Account, AccountEvent};
use serde_json::{Value, json};
use std::sync::Arc;

type Outcome = Result<Answer, Answer>;

/// Events of one answer, unless it is asked for fewer.
const EVENTS_MAX: i64 = 200;
/// The longest name of a model, in bytes.
const MODEL_BYTES_MAX: usize = 200;

/// `POST /admin/claude-accounts/:accountId/test`: one small real request.
pub(crate) fn test(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let account = account(server, call)?;
    let model = match call.member("model") {
        None => None,
        Some(Value::String(name)) if (1..=MODEL_BYTES_MAX).contains(&name.len()) => Some(name.as_str()),
        Some(_) => return Err(invalid("Model must be the name of a model")),
    };
    let tried = server.relay.try_account(&account, model);
    log::info!("{} tested account {:?}: ok={} status={}", admin.username, account.name, tried.is_ok, tried.status);
    Ok(Answer::data(json!({
        "ok": tried.is_ok,
        "status": tried.status,
        "latencyMs": tried.latency_ms,
        "model": tried.model,
        "message": tried.message,
    })))
}

/// `POST /admin/proxies/test`: whether the upstream can be reached through a proxy. `accountId` names the account whose
/// password a masked one stands for.
pub(crate) fn test_proxy(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let account = call.text("accountId").and_then(|id| server.store.account_by_id(id));
    let before = account.as_ref().and_then(|account| account.proxy.as_ref());
    let proxy = account_draft::proxy(call, before)?.flatten().ok_or_else(|| invalid("A proxy is required (proxy)"))?;
    let tried = server.relay.try_proxy(&proxy);
    log::info!("{} tested a proxy at {}:{}: ok={}", admin.username, proxy.host, proxy.port, tried.is_ok());
    Ok(Answer::data(match tried {
        Ok((target, latency_ms)) => json!({
            "ok": true, "latencyMs": latency_ms, "target": target, "message": "The upstream was reached through the proxy",
        }),
        Err(error) => json!({ "ok": false, "latencyMs": null, "target": null, "message": error.message() }),
    }))
}

/// `POST /admin/claude-accounts/:accountId/wake`: ends its rests, and a stop that the machine made.
pub(crate) fn wake(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    let account = account(server, call)?;
    server.store.end_stop(&account.id).map_err(titled("Failed to wake Claude account"))?;
    server.relay.standings().wake(&account, now_ms());
    log::info!("{} woke account {:?}", admin.username, account.name);
    Ok(Answer::done("Claude account is ready again"))
}

/// `GET /admin/claude-accounts/:accountId/events`: its history, newest first.
pub(crate) fn events(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let limit = match call.query("limit") {
        None => EVENTS_MAX,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=EVENTS_MAX).contains(limit))
            .ok_or_else(|| invalid(&format!("limit must be a whole number from 1 to {EVENTS_MAX}")))?,
    };
    let account = account(server, call)?;
    let failed = titled("Failed to get account events");
    let events = server.store.account_events(account.seq, limit).map_err(failed)?;
    Ok(Answer::data(events.iter().map(event_json).collect::<Vec<_>>()))
}

fn event_json(event: &AccountEvent) -> Value {
    json!({
        "at": iso(event.at_ms),
        "kind": event.kind,
        "reason": event.reason,
        "scope": event.scope,
        "until": event.until_ms.map(iso),
        "source": event.source,
        "status": event.status,
        "message": event.message,
    })
}

fn account(server: &Server, call: &Call) -> Result<Arc<Account>, Answer> {
    let found = server.store.account_by_id(call.id());
    found.ok_or_else(|| titled("Account not found")(Error::not_found("Account not found")))
}
