//! The last step: bytes pass untouched, usage is read off a side copy, and the ledger gets its line however it ends.
//!
//! Everything but the end of an answer is given out as it comes. The end waits until the line is committed, so that an
//! answer which a client saw finish is in the ledger whatever happens next.

use super::Purpose;
use super::admit::Caller;
use super::flights::{Boarded, Flight};
use super::forward::Served;
use super::select::Chosen;
use super::standing::{Seat, Standings};
use super::totals::Totals;
use super::upstream::Opened;
use crate::claude::events::Scanner;
use crate::claude::usage;
use crate::error::{Error, Kind, Result};
use crate::model::time::Buckets;
use crate::model::{Account, Line, Tokens};
use crate::store::{Conversation, Store};
use std::sync::Arc;
use std::time::Instant;

/// One read of the upstream's answer.
const PIECE_BYTES: usize = 16 * 1024;
/// A JSON answer is read for its usage up to this size; a larger one passes all the same and is billed as partial.
const COPY_BYTES_MAX: usize = 8 * 1024 * 1024;

/// An answer on its way to the client. It belongs to the client from now on: no other account is tried.
pub struct Answer {
    opened: Opened,
    body: Body,
    meter: Meter,
}

enum Body {
    Stream(Box<Stream>),
    Whole(Box<Whole>),
}

/// A stream: its end is an event, so every piece can be given out as it comes.
struct Stream {
    scanner: Scanner,
    piece: Vec<u8>,
}

/// A body that ends with its last byte: one piece is held back until it is known whether it is the last.
#[derive(Default)]
struct Whole {
    held: Vec<u8>,
    next: Vec<u8>,
    copy: Vec<u8>,
    length: Option<u64>,
    received: u64,
    started: bool,
    ended: bool,
}

impl Answer {
    pub(super) fn new(
        served: Served,
        caller: Caller,
        kept: (Arc<Store>, Arc<Totals>, Arc<Standings>),
        flight: Boarded,
    ) -> Answer {
        let Served { opened, chosen: Chosen { account, seat, reason }, attempts, conversation } = served;
        let is_stream = opened.is_event_stream();
        let body = if is_stream {
            Body::Stream(Box::new(Stream { scanner: Scanner::new(), piece: Vec::new() }))
        } else {
            Body::Whole(Box::new(Whole { length: content_length(&opened), ..Whole::default() }))
        };
        let upstream_request_id = opened.fields.get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let line = Line {
            request_id: flight.request_id.clone(),
            at_ms: flight.at_ms,
            key_seq: caller.key.seq,
            account_seq: account.seq,
            stream: is_stream,
            status: opened.status,
            upstream_request_id,
            attempts,
            account_reason: reason.into(),
            first_byte_ms: elapsed_ms(flight.at),
            ..Line::default()
        };
        flight.is_answered_now();
        let (store, totals, standings) = kept;
        // What is not billed has no line: as if it had been written already.
        let is_settled = flight.purpose == Purpose::CountTokens;
        let conversation = conversation.filter(|_| !is_settled && opened.status < 300);
        let meter = Meter {
            store,
            totals,
            standings,
            caller,
            account,
            seat: Some(seat),
            conversation,
            flight,
            line,
            is_settled,
        };
        Answer { opened, body, meter }
    }

    /// Status code of the upstream.
    pub fn status(&self) -> u16 {
        self.opened.status
    }

    /// Header fields of the upstream, as it sent them.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.opened.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }

    /// The body's length, where the upstream announced it.
    pub fn length(&self) -> Option<u64> {
        content_length(&self.opened)
    }

    /// The request's place in the list of those that run.
    pub fn flight(&self) -> Arc<Flight> {
        self.meter.flight.flight()
    }

    /// Whether an admin wants it to end before it is whole.
    pub fn is_cut(&self) -> bool {
        self.meter.flight.is_ended() && !self.meter.is_settled
    }

    /// Whether the answer is an event stream.
    pub fn is_stream(&self) -> bool {
        matches!(self.body, Body::Stream(_))
    }

    /// Whether an event of the relay's own may be written now without breaking one of the upstream's.
    pub fn is_at_boundary(&self) -> bool {
        match &self.body {
            Body::Stream(stream) => stream.scanner.at_boundary(),
            Body::Whole(_) => false,
        }
    }

    /// Ends an answer that broke off: the ledger gets its line, and the permit is free, before the client is told. `told` is
    /// the status of the answer that it gets instead, if none has begun.
    ///
    /// # Errors
    /// The ledger line could not be kept.
    pub fn end(&mut self, told: Option<u16>) -> Result<()> {
        if let Some(status) = told {
            self.meter.line.status = status;
        }
        if let Body::Stream(stream) = &self.body
            && !self.meter.is_settled
        {
            self.meter.take_stream(&stream.scanner);
        }
        self.meter.settle_and_wait()
    }

    /// The client has left: reads on for as long as the bill is waited for, and drops what comes.
    pub fn drain(&mut self) {
        self.meter.leave();
        while !self.opened.is_abandoned() && matches!(self.next_piece(), Ok(Some(_))) {}
    }

    /// The next piece for the client; `None` is the end, and then the ledger has its line.
    ///
    /// # Errors
    /// The upstream broke off or fell silent; the client has left; the ledger line could not be kept.
    pub fn next_piece(&mut self) -> Result<Option<&[u8]>> {
        match &mut self.body {
            Body::Stream(stream) => stream.next_piece(&mut self.opened, &mut self.meter),
            Body::Whole(whole) => whole.next_piece(&mut self.opened, &mut self.meter),
        }
    }
}

impl Stream {
    fn next_piece(&mut self, opened: &mut Opened, meter: &mut Meter) -> Result<Option<&[u8]>> {
        self.piece.resize(PIECE_BYTES, 0);
        let length = match opened.read(&mut self.piece) {
            Ok(length) => length,
            // What breaks behind `message_stop` takes nothing from the answer.
            Err(_) if self.scanner.saw_stop() => 0,
            Err(error) => return Err(error),
        };
        self.piece.truncate(length);
        if length == 0 {
            return end_of_stream(&self.scanner, meter).map(|()| None);
        }
        let stop_at = self.scanner.feed(&self.piece).stop_at;
        meter.flight.passes(length, Some(self.scanner.usage()));
        if stop_at.is_some() {
            meter.line.complete = true;
            meter.take_stream(&self.scanner);
            meter.settle_and_wait()?;
        }
        Ok(Some(&self.piece))
    }
}

/// The upstream has closed its stream. Only `message_stop`, or an error event of its own, makes that an ending.
fn end_of_stream(scanner: &Scanner, meter: &mut Meter) -> Result<()> {
    meter.take_stream(scanner);
    meter.settle_and_wait()?;
    let is_whole = scanner.saw_stop() || scanner.error().is_some() || meter.line.status >= 400;
    if is_whole {
        return Ok(());
    }
    Err(Error::new(Kind::Upstream, "The upstream ended its answer before it was complete"))
}

impl Whole {
    fn next_piece(&mut self, opened: &mut Opened, meter: &mut Meter) -> Result<Option<&[u8]>> {
        if !self.started {
            self.started = true;
            self.read(opened)?;
        }
        std::mem::swap(&mut self.held, &mut self.next);
        meter.flight.passes(self.held.len(), None);
        if self.held.is_empty() {
            if !meter.is_settled {
                self.settle(meter)?;
            }
            return Ok(None);
        }
        self.read(opened)?;
        if self.ended {
            self.settle(meter)?;
        }
        Ok(Some(&self.held))
    }

    /// Reads one piece ahead and keeps a copy for the meter.
    fn read(&mut self, opened: &mut Opened) -> Result<()> {
        self.next.clear();
        if self.ended {
            return Ok(());
        }
        self.next.resize(PIECE_BYTES, 0);
        let length = opened.read(&mut self.next)?;
        self.next.truncate(length);
        self.received += length as u64;
        self.ended = length == 0;
        if self.ended && self.length.is_some_and(|length| length != self.received) {
            return Err(Error::new(Kind::Upstream, "Connection reset by Claude API server"));
        }
        if self.copy.len() + length <= COPY_BYTES_MAX {
            self.copy.extend_from_slice(&self.next);
        }
        Ok(())
    }

    fn settle(&mut self, meter: &mut Meter) -> Result<()> {
        let is_copied = self.copy.len() as u64 == self.received;
        if let Some(reading) = is_copied.then(|| usage::from_message_json(&self.copy)).flatten() {
            meter.take(&reading.usage, reading.model);
        }
        meter.line.complete = is_copied;
        self.copy = Vec::new();
        meter.settle_and_wait()
    }
}

/// What the ledger will be told. Its line is written once: at the end, or when the answer is dropped before it.
struct Meter {
    store: Arc<Store>,
    totals: Arc<Totals>,
    standings: Arc<Standings>,
    caller: Caller,
    account: Arc<Account>,
    seat: Option<Seat>,
    /// The conversation that stays with the account from now on.
    conversation: Option<Conversation>,
    flight: Boarded,
    line: Line,
    is_settled: bool,
}

impl Meter {
    fn take_stream(&mut self, scanner: &Scanner) {
        if scanner.saw_start() || scanner.usage().is_reported() {
            self.take(&scanner.usage().clone(), scanner.model().map(str::to_owned));
        }
    }

    fn take(&mut self, usage: &usage::Usage, model: Option<String>) {
        self.line.model = model.map(|model| shortened(&model)).unwrap_or_default();
        self.line.tokens = Some(Tokens {
            input: count(usage.input_tokens),
            output: count(usage.output_tokens),
            cache_creation_5m: count(usage.cache_creation_5m_input_tokens),
            cache_creation_1h: count(usage.cache_creation_1h_input_tokens),
            cache_read: count(usage.cache_read_input_tokens),
        });
        self.line.web_search_requests = count(usage.web_search_requests);
        self.line.service_tier.clone_from(&usage.service_tier);
        self.line.speed.clone_from(&usage.speed);
        self.line.inference_geo.clone_from(&usage.inference_geo);
    }

    fn settle_and_wait(&mut self) -> Result<()> {
        if self.is_settled {
            self.leave();
            return Ok(());
        }
        self.settle().wait()
    }

    /// Gives the permit and the account's seat back.
    fn leave(&mut self) {
        self.caller.leave();
        self.seat = None;
    }

    fn settle(&mut self) -> crate::store::Receipt {
        self.is_settled = true;
        let mut line = std::mem::take(&mut self.line);
        if line.model.is_empty() {
            line.model = self.flight.model.as_deref().map_or_else(|| "unknown".to_owned(), shortened);
        }
        line.total_ms = elapsed_ms(self.flight.at);
        let tokens = line.tokens.unwrap_or_default();
        if let Some(conversation) = self.conversation.take().filter(|_| line.tokens.is_some()) {
            self.standings.pin(conversation, self.account.seq, line.at_ms);
        }
        log::info!(
            "relayed id={} key={:?} account={:?} reason={} attempts={} model={:?} status={} complete={} first_byte_ms={} \
             total_ms={} input={} output={} cache_5m={} cache_1h={} cache_read={}",
            line.request_id,
            self.caller.key.name,
            self.account.name,
            line.account_reason,
            line.attempts,
            line.model,
            line.status,
            line.complete,
            line.first_byte_ms,
            line.total_ms,
            tokens.input,
            tokens.output,
            tokens.cache_creation_5m,
            tokens.cache_creation_1h,
            tokens.cache_read,
        );
        self.line.status = line.status;
        let (at_ms, model, is_billed) = (line.at_ms, line.model.clone(), line.tokens.is_some());
        let receipt = self.store.record(line);
        let is_unpriced = is_billed && !receipt.is_priced();
        self.totals.add(&model, &tokens, (!is_unpriced).then(|| receipt.cost()));
        if is_unpriced {
            self.standings.notices.unpriced(&model, Buckets::of(at_ms, self.store.zone()).day);
        }
        self.caller.spend(&self.store, at_ms, tokens.all(), receipt.cost());
        self.leave();
        receipt
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.meter.is_settled {
            return;
        }
        if let Body::Stream(stream) = &self.body {
            self.meter.take_stream(&stream.scanner);
        }
        // Nobody waits for this commit: no client sees this answer finish.
        drop(self.meter.settle());
    }
}

fn content_length(opened: &Opened) -> Option<u64> {
    opened.fields.get("content-length")?.to_str().ok()?.trim().parse().ok()
}

/// The longest name of a model that is kept, in bytes. Whoever sends it chooses it.
const MODEL_BYTES_MAX: usize = 256;

/// A model's name, cut where it is no name any more.
pub(super) fn shortened(model: &str) -> String {
    let mut end = model.len().min(MODEL_BYTES_MAX);
    while !model.is_char_boundary(end) {
        end -= 1;
    }
    model[..end].to_owned()
}

fn count(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn elapsed_ms(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX)
}
