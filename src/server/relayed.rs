//! The main path's two ends: a client's request goes in, its answer comes out piece by piece.

use super::Server;
use super::call::{Answer as Whole, body_refused, check_uncompressed};
use super::departed::departed;
use super::dialect;
use super::fields::Template;
use super::session::without_bearer;
use crate::claude::request::{Shallow, error_event};
use crate::error::{Error, Kind};
use crate::http::{Exchange, Head, Reply};
use crate::model::ApiKey;
use crate::model::time::now_ms;
use crate::relay::admit::{self, Ask, Caller, Refused};
use crate::relay::{Answer, Flight, Purpose, Request};
use crate::store::Store;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long the body of a relayed request may take, at whatever rate: a relay worker waits for it.
const BODY_TIME_MAX: Duration = Duration::from_secs(900);

/// Ends an event that was cut in its middle: clients skip a `ping`, whatever its data.
const CUT_EVENT_END: &[u8] = b"\nevent: ping\n\n";

const NO_MESSAGES: &str = "Missing or invalid field: messages (must be an array)";

/// The key of a request: `x-api-key`, else `Authorization`, else `api-key`.
fn key_of(head: &Head) -> Option<&str> {
    let field = |name: &str| head.header(name).and_then(|value| std::str::from_utf8(value).ok()).map(str::trim);
    field("x-api-key")
        .filter(|key| !key.is_empty())
        .or_else(|| field("authorization").map(without_bearer).filter(|key| !key.is_empty()))
        .or_else(|| field("api-key").filter(|key| !key.is_empty()))
}

/// The guard of routes that only report to a key holder.
///
/// # Errors
/// The contract's refusals (section 13.1).
pub(crate) fn identify(server: &Server, head: &Head) -> Result<ApiKey, Whole> {
    admit::identify(&server.store, &server.config.api_key_prefix, key_of(head))
        .map_err(|refused| dialect::refused(&refused))
}

/// Relays one request: in as it came, out as it comes.
pub(crate) fn serve(server: &Server, mut exchange: Exchange, purpose: Purpose, request_id: &str) {
    let head = exchange.head_arc();
    let mut running = server.registry.relay_runs();
    let (at, at_ms) = (Instant::now(), now_ms());
    let opened = open(server, &mut exchange, &head, request_id, (purpose, at_ms, at));
    match opened {
        Ok(answer) => {
            running.has_answer();
            pass_on(server, exchange, &head, answer, request_id);
        }
        Err(refusal) => {
            log::warn!("refused id={request_id} {} status={}", head.path(), refusal.status);
            server.answer(exchange, request_id, refusal);
        }
    }
}

/// Admits, reads the body, and waits for an answer to begin.
fn open(
    server: &Server,
    exchange: &mut Exchange,
    head: &Head,
    request_id: &str,
    (purpose, at_ms, at): (Purpose, i64, Instant),
) -> Result<Answer, Whole> {
    let refused = |refused: Refused| dialect::refused(&refused);
    let ask = Ask { clear: key_of(head), purpose, at_ms, departed: departed(server, exchange, None) };
    let caller = server.relay.admit(&ask).map_err(refused)?;
    let mut unlisted = Unlisted { store: &server.store, key_seq: caller.key.seq, start_ms: caller.window_start_ms() };
    let bytes_max = server.config.request_body_bytes_max;
    let limit = format!("{}MB", bytes_max / (1024 * 1024));
    let body = exchange.read_body(bytes_max, BODY_TIME_MAX).map_err(|error| body_refused(&error, &limit))?;
    let shallow = Shallow::read(&body).map_err(|_| unreadable(head, &body, request_id))?;
    check(&caller, &shallow)?;
    let fields: Vec<(&str, &[u8])> = head.headers().collect();
    let mut flight = Flight::new(request_id, (at_ms, at), purpose, &caller.key);
    flight.model = shallow.model.as_deref().map(str::to_owned);
    flight.stream = shallow.stream;
    let boarded = server.relay.flights().enter(flight);
    let flight = boarded.flight();
    let request = Request {
        fields: &fields,
        query: head.query(),
        body: &body,
        model_at: shallow.model_at.clone(),
        user_id: shallow.user_id.as_deref(),
        flight: boarded,
        departed: departed(server, exchange, Some(&flight)),
        left: departed(server, exchange, None),
    };
    // The body lives until the answer has begun, not for its length.
    let answered = server.relay.relay(caller, request).map_err(|unserved| match flight.is_ended() {
        true => dialect::ended_by_admin(),
        false => dialect::unserved(&unserved),
    });
    if answered.as_ref().err().is_none_or(|refusal| unanswered(server, &flight, refusal)) {
        unlisted.start_ms = None;
    }
    answered
}

/// A request that was sent to an account and got no answer has a line in the ledger too, before its client is told. Whether
/// this one was.
fn unanswered(server: &Server, flight: &Flight, refusal: &Whole) -> bool {
    let has_line = flight.purpose == Purpose::Message && flight.account().is_some();
    if has_line && let Err(error) = server.store.record(flight.unanswered_line(refusal.status)).wait() {
        log::error!("id={} {error}", flight.request_id);
    }
    has_line
}

/// Keeps, when it is dropped, that a request counts in its key's window, unless it has or will have a ledger line.
struct Unlisted<'a> {
    store: &'a Store,
    key_seq: i64,
    start_ms: Option<i64>,
}

impl Drop for Unlisted<'_> {
    fn drop(&mut self) {
        if let Some(start_ms) = self.start_ms {
            self.store.count_unlisted(self.key_seq, start_ms);
        }
    }
}

/// The refusal of a body that is no JSON object, or that cannot be read as one. What does not say that it is JSON, and an
/// array, is to the original a request without members.
fn unreadable(head: &Head, body: &[u8], request_id: &str) -> Whole {
    if let Err(refusal) = check_uncompressed(head, request_id) {
        return refusal;
    }
    let kind = head.header("content-type").unwrap_or_default();
    let is_json = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let is_json = is_json.eq_ignore_ascii_case(b"application/json");
    if is_json && !body.is_empty() && !body.trim_ascii_start().starts_with(b"[") {
        return dialect::no_json(request_id);
    }
    dialect::plain(400, "Invalid request", NO_MESSAGES)
}

/// What the original checks of a request's body; all else is the upstream's to judge.
fn check(caller: &Caller, shallow: &Shallow<'_>) -> Result<(), Whole> {
    if !shallow.messages_is_array {
        return Err(dialect::plain(400, "Invalid request", NO_MESSAGES));
    }
    if shallow.messages_is_empty {
        return Err(dialect::plain(400, "Invalid request", "Messages array cannot be empty"));
    }
    if !caller.key.allows_model(shallow.model.as_deref()) {
        return Err(dialect::refused(&Refused::Model));
    }
    Ok(())
}

/// Passes the answer on as it comes.
fn pass_on(server: &Server, exchange: Exchange, head: &Head, mut answer: Answer, request_id: &str) {
    let mut fields = match answer.is_stream() {
        true => server.fields.of_stream(head, request_id),
        false => server.fields.of(head, request_id),
    };
    for (name, value) in crate::claude::headers::downward(answer.fields()) {
        if !Template::is_ours(name) && !name.eq_ignore_ascii_case("x-request-id") {
            fields.push(name, value);
        }
    }
    let count = |status| server.registry.count(head.method(), head.path(), status);
    if answer.is_stream() {
        count(answer.status());
        // Proxies in front of the relay must not hold events back.
        fields.push("X-Accel-Buffering", "no");
        let mut reply = exchange.begin(answer.status(), fields, None);
        if reply.flush_head().is_ok() {
            pump(server, &mut answer, reply, request_id);
        }
        return;
    }
    // A whole answer that breaks off before its first piece can still be told as an error.
    let (status, length) = (answer.status(), answer.length());
    match answer.next_piece() {
        Ok(first) => {
            count(status);
            let mut reply = exchange.begin(status, fields, length);
            if first.map_or(Ok(()), |piece| reply.write(piece)).is_ok() {
                pump(server, &mut answer, reply, request_id);
            }
        }
        Err(error) => {
            log::warn!("id={request_id} the answer broke off: {error}");
            let is_ended = answer.flight().is_ended();
            let refusal = if is_ended { dialect::ended_by_admin() } else { dialect::relay_failed(&error) };
            if let Err(error) = answer.end(Some(refusal.status)) {
                log::error!("id={request_id} {error}");
            }
            server.answer(exchange, request_id, refusal);
        }
    }
}

fn pump(server: &Server, answer: &mut Answer, mut reply: Reply, request_id: &str) {
    let (is_stream, flight) = (answer.is_stream(), answer.flight());
    // A client that does not read must not keep an answer that is to end now.
    let goes_on = || !server.give_up.load(Ordering::Relaxed) && !flight.is_ended();
    loop {
        // An upstream that never pauses is not looked up by the watch.
        let next = if answer.is_cut() { Err(ended()) } else { answer.next_piece() };
        let sent = match next {
            Ok(Some(piece)) if is_stream => reply.write_while(piece, &goes_on),
            Ok(Some(piece)) => reply.write(piece),
            Ok(None) => {
                if let Err(error) = reply.finish() {
                    log::debug!("id={request_id} the client left at the end: {error}");
                }
                return;
            }
            Err(error) => return break_off(server, answer, reply, &error, request_id),
        };
        if let Err(error) = sent {
            log::debug!("id={request_id} the client left: {error}");
            drop(reply);
            return answer.drain();
        }
    }
}

fn ended() -> Error {
    Error::new(Kind::ClientGone, dialect::ENDED_BY_ADMIN)
}

/// Ends an answer that the upstream did not: with an error event in a stream, with an aborted connection otherwise. It
/// never looks whole.
fn break_off(server: &Server, answer: &mut Answer, mut reply: Reply, error: &Error, request_id: &str) {
    log::warn!("id={request_id} the answer broke off: {error}");
    let is_ending = server.give_up.load(Ordering::Relaxed);
    let is_ended = answer.flight().is_ended();
    if error.kind() == Kind::ClientGone && !is_ending && !is_ended {
        return;
    }
    if !answer.is_stream() {
        return;
    }
    if let Err(error) = answer.end(None) {
        log::error!("id={request_id} {error}");
    }
    let message = match (is_ending, is_ended) {
        (true, _) => "The relay is shutting down",
        (_, true) => dialect::ENDED_BY_ADMIN,
        _ => error.message(),
    };
    let mut last = Vec::new();
    if !answer.is_at_boundary() {
        last.extend_from_slice(CUT_EVENT_END);
    }
    last.extend_from_slice(&error_event(dialect::event_type(error), message));
    if reply.write(&last).and_then(|()| reply.finish()).is_err() {
        log::debug!("id={request_id} the client left before it could be told");
    }
}
