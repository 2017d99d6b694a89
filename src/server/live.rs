//! What runs at this moment: the list, ending one request of it, and all of it as an event stream.

use super::SECURITY_LOG;
use super::Server;
use super::call::{Answer, Call};
use super::dialect::plain;
use super::process;
use super::session::Admin;
use super::system::{connections, pools};
use super::watch::{Outlet, Over, Watched, event};
use crate::model::time::{iso, now_ms};
use crate::relay::{Flight, Purpose};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

type Outcome = Result<Answer, Answer>;

/// Requests of one event.
const LISTED_MAX: usize = 100;
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Changes of memory below this are none, in bytes.
const MEMORY_STEP: u64 = 1024 * 1024;

/// `GET /admin/requests/running`.
pub(crate) fn running(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let flights = server.relay.flights().running();
    let listed: Vec<Value> = flights.iter().map(|flight| item(flight)).collect();
    Ok(Answer::data(json!({ "count": listed.len(), "requests": listed })))
}

/// `DELETE /admin/requests/running/:id`.
pub(crate) fn end(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    if !server.relay.flights().end(call.id()) {
        return Err(plain(404, "Request not found", "No such request runs"));
    }
    log::info!(target: SECURITY_LOG, "{:?} ended the running request {:?}", admin.username, call.id());
    Ok(Answer::done("The request is being ended"))
}

fn item(flight: &Flight) -> Value {
    let (account, tokens) = (flight.account(), flight.tokens());
    json!({
        "id": flight.request_id,
        "keyId": flight.key_id,
        "keyName": flight.key_name,
        "accountId": account.as_ref().map(|account| &account.id),
        "accountName": account.as_ref().map(|account| &account.name),
        "model": flight.model,
        "stream": flight.stream,
        "purpose": match flight.purpose {
            Purpose::Message => "message",
            Purpose::CountTokens => "count_tokens",
        },
        "startedAt": iso(flight.at_ms),
        "seconds": flight.at.elapsed().as_secs(),
        "state": if flight.is_answered() { "streaming" } else { "waiting for upstream" },
        "tokens": {
            "input": tokens.input,
            "output": tokens.output,
            "cacheCreate": tokens.cache_creation,
            "cacheRead": tokens.cache_read,
            "total": tokens.input + tokens.output + tokens.cache_creation + tokens.cache_read,
        },
        "bytes": flight.bytes(),
    })
}

/// `GET /admin/live`. Nothing of it is reckoned when nobody watches.
pub(crate) fn live(_: &Server, _: &Call) -> Result<Watched, Answer> {
    Ok(Watched::events(watch))
}

fn watch(server: &Server, outlet: &mut Outlet<'_>) -> Result<(), Over> {
    let mut shown = Value::Null;
    loop {
        let now = picture(server);
        let essence = essence(&now);
        if essence != shown {
            let mut text = String::new();
            event(&mut text, "live", None, &now);
            outlet.send(text.as_bytes())?;
            shown = essence;
        }
        outlet.wait(LOOK_EVERY)?;
    }
}

/// What an event shows.
fn picture(server: &Server) -> Value {
    let flights = server.relay.flights().running();
    let listed: Vec<Value> = flights.iter().take(LISTED_MAX).map(|flight| item(flight)).collect();
    let minutes = server.relay.totals().minutes();
    let mean = |of: fn(&crate::relay::Done) -> u64| {
        let sum: u64 = minutes.iter().map(of).sum();
        sum as f64 / minutes.len() as f64
    };
    let minutes: Vec<Value> =
        minutes.iter().map(|done| json!({ "requests": done.requests, "tokens": done.tokens })).collect();
    json!({
        "at": iso(now_ms()),
        "running": { "count": flights.len(), "requests": listed },
        "perMinute": { "requests": mean(|done| done.requests), "tokens": mean(|done| done.tokens) },
        "minutes": minutes,
        "pools": pools(server),
        "connections": connections(server),
        "accounts": accounts(server, &flights),
        "residentBytes": process::resident_bytes(),
    })
}

/// All accounts, each with how many requests it answers now.
fn accounts(server: &Server, flights: &[Arc<Flight>]) -> Vec<Value> {
    let mut in_flight: HashMap<i64, u64> = HashMap::new();
    for account in flights.iter().filter_map(|flight| flight.account()) {
        *in_flight.entry(account.seq).or_default() += 1;
    }
    let roster = server.store.accounts();
    let one = |account: &Arc<crate::model::Account>| {
        let count = in_flight.get(&account.seq).copied().unwrap_or(0);
        json!({ "id": account.id, "name": account.name, "inFlight": count })
    };
    roster.iter().map(one).collect()
}

/// A picture without what changes by itself.
fn essence(picture: &Value) -> Value {
    let mut essence = picture.clone();
    essence["at"] = Value::Null;
    if let Some(bytes) = essence["residentBytes"].as_u64() {
        essence["residentBytes"] = json!(bytes / MEMORY_STEP);
    }
    for request in essence["running"]["requests"].as_array_mut().into_iter().flatten() {
        request["seconds"] = Value::Null;
    }
    essence
}
