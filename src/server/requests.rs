//! `/admin/requests`: the ledger line by line, with filters and a cursor.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, plain, titled};
use super::money;
use super::session::Admin;
use crate::model::cost::dollars_text;
use crate::model::time::{iso, parse_in};
use crate::model::{Cost, Outcome};
use crate::store::{KeptLine, LineFilter, Place, StatusFilter};
use serde_json::{Value, json};

type Served = Result<Answer, Answer>;

/// Lines of a page that names no number.
const LIMIT: usize = 50;
/// Most lines of a page.
const LIMIT_MAX: usize = 200;
/// Longest name of a model in a filter, in bytes: no line has a longer one.
const MODEL_BYTES_MAX: usize = 256;
/// Characters of a request's id.
const REQUEST_ID_LENGTH: usize = 11;

/// `GET /admin/requests`.
pub(crate) fn list(server: &Server, _: &Admin, call: &Call) -> Served {
    let filter = filter(server, call)?;
    let limit = number(call, "limit", LIMIT, LIMIT_MAX)?;
    let before = match given(call, "cursor") {
        None => None,
        Some(text) => Some(place(&text).ok_or_else(|| invalid("cursor is not one that this relay gave out"))?),
    };
    let page = server.store.ledger_lines(&filter, before, limit).map_err(titled("Failed to read the requests"))?;
    let lines: Vec<Value> = page.lines.iter().map(item).collect();
    Ok(Answer::data(json!({ "requests": lines, "nextCursor": page.next.map(cursor), "scanned": page.scanned })))
}

/// `GET /admin/requests/:id`: by the line's number or by the id that the client saw.
pub(crate) fn one(server: &Server, _: &Admin, call: &Call) -> Served {
    let id = call.id();
    let is_request_id = id.len() == REQUEST_ID_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let found = match id.parse::<i64>() {
        _ if is_request_id => server.store.ledger_line_of_request(id),
        Ok(number) => server.store.ledger_line(number),
        Err(_) => return Err(invalid("the id is neither a line's number nor a request's id")),
    };
    let found = found.map_err(titled("Failed to read the request"))?;
    found
        .map(|line| Answer::data(item(&line)))
        .ok_or_else(|| plain(404, "Request not found", "No such request is kept"))
}

/// A parameter that is not empty.
pub(super) fn given(call: &Call, name: &str) -> Option<String> {
    call.query(name).filter(|text| !text.is_empty())
}

/// A parameter that is a number from 1 to `max`.
pub(super) fn number(call: &Call, name: &str, default: usize, max: usize) -> Result<usize, Answer> {
    let Some(text) = given(call, name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=max).contains(number));
    number.ok_or_else(|| invalid(&format!("{name} must be a number from 1 to {max}")))
}

/// Reads the filters of a list or a download.
pub(super) fn filter(server: &Server, call: &Call) -> Result<LineFilter, Answer> {
    let failed = titled("Failed to read the requests");
    let mut filter = LineFilter { from_ms: instant(server, call, "from")?, ..LineFilter::default() };
    filter.to_ms = instant(server, call, "to")?;
    if let Some(id) = given(call, "keyId") {
        let seq = server.store.key_seq(&id).map_err(&failed)?;
        filter.key_seq = Some(seq.ok_or_else(|| plain(404, "API key not found", "keyId names no API key"))?);
    }
    if let Some(id) = given(call, "accountId") {
        let seqs = server.store.account_seqs(&id).map_err(&failed)?;
        if seqs.is_empty() {
            return Err(plain(404, "Account not found", "accountId names no account"));
        }
        filter.account_seqs = Some(seqs);
    }
    filter.model = given(call, "model");
    if filter.model.as_ref().is_some_and(|model| model.len() > MODEL_BYTES_MAX) {
        return Err(invalid("model is too long"));
    }
    filter.status = given(call, "status").map(|text| status(&text)).transpose()?;
    Ok(filter)
}

fn status(text: &str) -> Result<StatusFilter, Answer> {
    let code = || text.parse().ok().filter(|code| (100..=599).contains(code)).map(StatusFilter::Code);
    Outcome::parse(text)
        .map(StatusFilter::Outcome)
        .or_else(code)
        .ok_or_else(|| invalid("status must be ok, error, partial or a code from 100 to 599"))
}

fn instant(server: &Server, call: &Call, name: &str) -> Result<Option<i64>, Answer> {
    let Some(text) = given(call, name) else { return Ok(None) };
    let at_ms = parse_in(&text, server.store.zone());
    at_ms.map(Some).ok_or_else(|| invalid(&format!("{name} must be an ISO-8601 instant or Unix milliseconds")))
}

/// A place as its reader sees it.
fn cursor(place: Place) -> String {
    format!("{:x}-{:x}", place.at_ms, place.id)
}

fn place(cursor: &str) -> Option<Place> {
    let (at_ms, id) = cursor.split_once('-')?;
    let number = |text: &str| i64::from_str_radix(text, 16).ok().filter(|number| *number >= 0);
    Some(Place { at_ms: number(at_ms)?, id: number(id)? })
}

fn item(kept: &KeptLine) -> Value {
    let KeptLine { id, line, priced, key, account } = kept;
    json!({
        "id": id,
        "requestId": line.request_id,
        "at": iso(line.at_ms),
        "keyId": key.as_ref().map(|key| &key.id),
        "keyName": key.as_ref().map(|key| &key.name),
        "keyDeleted": key.as_ref().is_none_or(|key| key.is_deleted),
        "accountId": account.as_ref().map(|account| &account.id),
        "accountName": account.as_ref().map(|account| &account.name),
        "accountDeleted": account.as_ref().is_none_or(|account| account.is_deleted),
        "model": line.model,
        "stream": line.stream,
        "status": line.status,
        "complete": line.complete,
        "outcome": Outcome::of(line.status, line.complete).as_str(),
        "tokens": line.tokens.map(|tokens| json!({
            "input": tokens.input,
            "output": tokens.output,
            "cacheCreate5m": tokens.cache_creation_5m,
            "cacheCreate1h": tokens.cache_creation_1h,
            "cacheRead": tokens.cache_read,
            "total": tokens.all(),
        })),
        "webSearchRequests": line.web_search_requests,
        "cost": priced.as_ref().map(|(cost, _)| parts(cost)),
        "costText": priced.as_ref().map(|(cost, _)| dollars_text(cost.total())),
        "priceVersion": priced.as_ref().map(|(_, version)| version),
        "attempts": line.attempts,
        "accountReason": line.account_reason,
        "firstByteMs": line.first_byte_ms,
        "totalMs": line.total_ms,
        "upstreamRequestId": line.upstream_request_id,
        "serviceTier": line.service_tier,
        "speed": line.speed,
        "geo": line.inference_geo,
    })
}

fn parts(cost: &Cost) -> Value {
    json!({
        "input": money::dollars(cost.input),
        "output": money::dollars(cost.output),
        "cacheWrite": money::dollars(cost.cache_write),
        "cacheRead": money::dollars(cost.cache_read),
        "webSearch": money::dollars(cost.web_search),
        "total": money::dollars(cost.total()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_they_were_and_others_are_refused() {
        let here = Place { at_ms: 1_795_392_668_235, id: 77 };
        assert_eq!(place(&cursor(here)), Some(here));
        for bad in ["", "-", "1", "x-1", "1-", "1--1", "-1-1", "1-fffffffffffffffff", "1-1-1"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
