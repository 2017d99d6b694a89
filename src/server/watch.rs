//! Answers that go on for as long as somebody reads them: event streams, and downloads of any length.
//!
//! Each holds a relay worker for its life, so their number is bounded, and none outlives its reason: it ends when the
//! client leaves, when the admin's session ends, and when the relay is told to stop. A client that does not read is asked
//! about all that, too, and never waited for longer than the front waits for anyone.

use super::Server;
use super::call::{Answer, Call, OPEN_BODY_BYTES_MAX};
use super::dialect::plain;
use super::session;
use crate::http::{Client, Exchange, Reply, Stopper};
use serde::Serialize;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Watchers at the same time, whatever the number of workers.
const WATCHERS_MAX: usize = 8;
/// How often a watcher that waits looks up, and so the longest that its end goes unnoticed.
pub(super) const LOOK_UP_EVERY: Duration = Duration::from_millis(250);
/// How often a watcher's session is looked up.
const SESSION_CHECK_EVERY: Duration = Duration::from_secs(10);
/// Silence after which an event stream shows that it lives.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// Bytes handed to the front at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What makes an answer's body.
type Feed = Box<dyn FnOnce(&Server, &mut Outlet<'_>) -> Result<(), Over>>;

/// An answer that goes on.
pub(crate) struct Watched {
    /// `Content-Type`.
    pub(crate) content_type: &'static str,
    /// `Content-Disposition`, for a download: then an end before the last byte must not look like one.
    pub(crate) disposition: Option<&'static str>,
    /// Sends the body.
    pub(crate) feed: Feed,
}

impl Watched {
    /// An event stream.
    pub(crate) fn events(feed: impl FnOnce(&Server, &mut Outlet<'_>) -> Result<(), Over> + 'static) -> Watched {
        Watched { content_type: "text/event-stream; charset=utf-8", disposition: None, feed: Box::new(feed) }
    }
}

/// The watcher must end.
#[derive(Debug)]
pub(crate) struct Over;

/// The places of watchers.
pub(crate) struct Places {
    taken: AtomicUsize,
    max: usize,
}

impl Places {
    /// Half of the relay's workers at most: the others relay.
    pub(crate) fn new(relay_workers: usize) -> Places {
        Places { taken: AtomicUsize::new(0), max: WATCHERS_MAX.min(relay_workers / 2) }
    }

    /// Watchers now, and how many there may be.
    pub(crate) fn taken(&self) -> (usize, usize) {
        (self.taken.load(Ordering::Relaxed), self.max)
    }

    fn take(&self) -> Result<Taken<'_>, Answer> {
        let more = |taken: usize| (taken < self.max).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).map(|_| Taken(self)).map_err(|_| {
            let message = format!(
                "{} event streams and downloads are open, and no more may be (half of RELAY_WORKERS, at most \
                 {WATCHERS_MAX}): close a page or try again",
                self.max
            );
            plain(503, "Too many watchers", &message).with("Retry-After", "5")
        })
    }
}

/// A place, given back on drop.
struct Taken<'a>(&'a Places);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Knows whether a watcher still has a reason to go on.
struct Sentry<'a> {
    server: &'a Server,
    client: Client,
    door: Stopper,
    token: String,
    session_seen: Cell<Instant>,
}

impl Sentry<'_> {
    fn goes_on(&self) -> bool {
        if self.door.is_stopping() || self.client.is_gone() {
            return false;
        }
        if self.session_seen.get().elapsed() < SESSION_CHECK_EVERY {
            return true;
        }
        self.session_seen.set(Instant::now());
        session::is_alive(self.server, &self.token)
    }
}

/// Where a feed sends its bytes.
pub(crate) struct Outlet<'a> {
    reply: Reply,
    sentry: Sentry<'a>,
    last_sent: Instant,
}

impl Outlet<'_> {
    /// Sends bytes, waiting for a client that is slow to read as long as there is a reason to.
    ///
    /// # Errors
    /// There is none any more.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.look_up()?;
        for piece in bytes.chunks(PIECE_BYTES) {
            self.reply.write_while(piece, &|| self.sentry.goes_on()).map_err(|_| Over)?;
        }
        self.last_sent = Instant::now();
        Ok(())
    }

    /// Whether to go on; to be asked at least every [`LOOK_UP_EVERY`].
    ///
    /// # Errors
    /// No: the client has left, its session has ended, or the relay stops.
    pub(crate) fn look_up(&self) -> Result<(), Over> {
        if self.sentry.goes_on() { Ok(()) } else { Err(Over) }
    }

    /// Shows that an event stream lives, if nothing else has for a while.
    ///
    /// # Errors
    /// As for `send`.
    pub(crate) fn heartbeat(&mut self) -> Result<(), Over> {
        if self.last_sent.elapsed() >= HEARTBEAT_EVERY { self.send(b": heartbeat\n\n") } else { Ok(()) }
    }

    /// Waits, and looks up meanwhile.
    ///
    /// # Errors
    /// As for `look_up`.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<(), Over> {
        let end = Instant::now() + time;
        loop {
            self.look_up()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.heartbeat();
            }
            std::thread::sleep(left.min(LOOK_UP_EVERY));
        }
    }
}

/// Writes one event (HTML standard, section 9.2) behind a text. JSON has no line feeds, so its data is one line.
pub(crate) fn event(text: &mut String, name: &str, id: Option<u64>, data: &impl Serialize) {
    match serde_json::to_string(data) {
        Ok(data) => {
            let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
            text.push_str(&format!("event: {name}\n{id}data: {data}\n\n"));
        }
        Err(error) => log::error!("an event could not be written as JSON: {error}"),
    }
}

/// Serves one watcher on this worker, to its end.
pub(crate) fn serve(
    server: &Server,
    mut exchange: Exchange,
    open: fn(&Server, &Call) -> Result<Watched, Answer>,
    params: Vec<String>,
    request_id: &str,
) {
    let head = exchange.head_arc();
    let opened = session::admin(server, &head)
        .and_then(|_| Call::read(&mut exchange, head.clone(), params, request_id, OPEN_BODY_BYTES_MAX))
        .and_then(|call| open(server, &call))
        .and_then(|watched| Ok((watched, server.watchers.take()?)));
    let (watched, place) = match opened {
        Ok(opened) => opened,
        Err(refusal) => return server.answer(exchange, request_id, refusal),
    };
    let mut fields = server.fields.of(&head, request_id);
    fields.push("Content-Type", watched.content_type);
    // Proxies in front of the relay must not hold events back.
    fields.push("X-Accel-Buffering", "no");
    if let Some(disposition) = watched.disposition {
        fields.push("Content-Disposition", disposition);
    }
    server.registry.count(head.method(), head.path(), 200);
    let sentry = Sentry {
        server,
        client: exchange.client(),
        door: exchange.stopper(),
        token: session::raw_token(&head).unwrap_or_default(),
        session_seen: Cell::new(Instant::now()),
    };
    let reply = exchange.begin(200, fields, None);
    let mut outlet = Outlet { reply, sentry, last_sent: Instant::now() };
    // HEAD is told what GET would send, and nothing of it.
    let outcome = if head.method() == "HEAD" { Ok(()) } else { (watched.feed)(server, &mut outlet) };
    // Before the last byte: who has it may come again at once.
    drop(place);
    if outcome.is_ok() || watched.disposition.is_none() {
        outlet.reply.finish_now();
    }
}
