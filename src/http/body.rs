//! Request bodies: read by a worker, bounded in bytes, in time and, over all connections, in memory.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Limits;
use super::chunked::Decoder;
use super::conn::{Conn, receive};
use super::front::{Front, is_would_block};
use super::head::Head;

/// Bodies announced to be at most so long get their memory at once.
const MODEST_BYTES: usize = 1024 * 1024;
/// With what others begin. From there memory doubles as bytes come.
const FIRST_BYTES: usize = 64 * 1024;
/// Bytes received at once while decoding chunks.
const CHUNKED_RECEIVE_BYTES: usize = 16 * 1024;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// Longer than the caller of `read_body` allows.
    TooLarge,
    /// Slower than `Limits::body_rate_min`, or silent for `Limits::body_idle`.
    TooSlow,
    /// The chunks do not follow RFC 9112 section 7.1.
    Malformed,
    /// The client closed or reset the connection before the end.
    Gone,
    /// `Limits::bodies_in_flight_bytes_max` is used up, or memory is.
    NoRoom,
}

/// A whole request body. Its memory counts as in flight until it is dropped.
pub struct Body {
    bytes: Vec<u8>,
    _loan: Option<Loan>,
}

impl Body {
    pub(super) fn empty() -> Body {
        Body { bytes: Vec::new(), _loan: None }
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes taken from the budget of bodies in flight.
struct Loan {
    front: Arc<Front>,
    taken: u64,
}

impl Loan {
    fn grow(&mut self, more: usize) -> Result<(), BodyError> {
        let (more, max) = (more as u64, self.front.limits.bodies_in_flight_bytes_max);
        self.front
            .figures
            .bodies_bytes
            .fetch_update(SeqCst, SeqCst, |bytes| bytes.checked_add(more).filter(|bytes| *bytes <= max))
            .map_err(|_| BodyError::NoRoom)?;
        self.taken += more;
        Ok(())
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.front.figures.bodies_bytes.fetch_sub(self.taken, SeqCst);
    }
}

/// Reads the body that belongs to `head`. The connection's inbox is then at the first byte behind it.
#[inline(never)]
pub(super) fn read(
    front: &Arc<Front>,
    conn: &mut Conn,
    head: &Head,
    bytes_max: u64,
    time_max: Duration,
) -> Result<Body, BodyError> {
    let announced = head.content_length();
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(BodyError::TooLarge);
    }
    greet(conn, head)?;
    let now = Instant::now();
    let store = Store { bytes: Vec::new(), loan: Loan { front: front.clone(), taken: 0 } };
    let mut reader = Reader { limits: &front.limits, conn, started: now, time_max, last_came: now, store, poured: 0 };
    match announced {
        Some(length) => reader.read_known(usize::try_from(length).map_err(|_| BodyError::TooLarge)?)?,
        None => reader.read_chunked(usize::try_from(bytes_max).unwrap_or(usize::MAX))?,
    }
    Ok(Body { bytes: reader.store.bytes, _loan: Some(reader.store.loan) })
}

/// Reads the body that belongs to `head` into a sink, piece by piece.
pub(super) fn pour(
    front: &Arc<Front>,
    conn: &mut Conn,
    head: &Head,
    bytes_max: u64,
    time_max: Duration,
    sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> Result<(), BodyError> {
    let announced = head.content_length();
    if announced.is_some_and(|length| length > bytes_max) {
        return Err(BodyError::TooLarge);
    }
    greet(conn, head)?;
    let now = Instant::now();
    let store = Store { bytes: Vec::new(), loan: Loan { front: front.clone(), taken: 0 } };
    let mut reader = Reader { limits: &front.limits, conn, started: now, time_max, last_came: now, store, poured: 0 };
    reader.pour(announced, bytes_max, sink)
}

/// Tells a client that waits for it to send its body.
fn greet(conn: &mut Conn, head: &Head) -> Result<(), BodyError> {
    if head.expects_continue() && conn.inbox.is_empty() {
        conn.send_pieces(&[std::io::IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")], true)
            .map_err(|_| BodyError::Gone)?;
    }
    Ok(())
}

/// The body so far, and what it borrowed for its memory.
struct Store {
    bytes: Vec<u8>,
    loan: Loan,
}

impl Store {
    /// Makes room for `more` bytes, at least.
    fn reserve(&mut self, more: usize) -> Result<(), BodyError> {
        let wanted = self.bytes.len().saturating_add(more);
        if wanted > self.bytes.capacity() {
            self.loan.grow(wanted - self.bytes.capacity())?;
            self.bytes.try_reserve_exact(more).map_err(|_| BodyError::NoRoom)?;
        }
        Ok(())
    }
}

struct Reader<'a> {
    limits: &'a Limits,
    conn: &'a mut Conn,
    started: Instant,
    time_max: Duration,
    last_came: Instant,
    store: Store,
    /// Bytes that were passed on and are not in `store`.
    poured: u64,
}

impl Reader<'_> {
    fn read_known(&mut self, length: usize) -> Result<(), BodyError> {
        let here = self.conn.inbox.unread().len().min(length);
        self.store.reserve(if length <= MODEST_BYTES { length } else { FIRST_BYTES.max(here) })?;
        self.store.bytes.extend_from_slice(&self.conn.inbox.unread()[..here]);
        self.conn.inbox.consume(here);
        while self.store.bytes.len() < length {
            let has = self.store.bytes.len();
            if has == self.store.bytes.capacity() {
                self.store.reserve(has.min(length - has))?;
            }
            loop {
                match receive(&self.conn.stream, &mut self.store.bytes, false) {
                    Ok(0) => return Err(BodyError::Gone),
                    Ok(_) => break,
                    Err(error) if is_would_block(error) => self.wait()?,
                    Err(_) => return Err(BodyError::Gone),
                }
            }
            self.last_came = Instant::now();
        }
        // The vector may have had more room than asked for; what lies there belongs to the next request.
        let excess = self.store.bytes.split_off(length);
        if !excess.is_empty() {
            self.conn.inbox.append(&excess);
        }
        Ok(())
    }

    fn read_chunked(&mut self, bytes_max: usize) -> Result<(), BodyError> {
        let mut decoder = Decoder::new();
        loop {
            while !self.conn.inbox.is_empty() && !decoder.is_done() {
                let (taken, data) = decoder.step(self.conn.inbox.unread()).map_err(|_| BodyError::Malformed)?;
                let bytes = &self.store.bytes;
                if data.len() > bytes_max.saturating_sub(bytes.len()) {
                    return Err(BodyError::TooLarge);
                }
                if data.len() > bytes.capacity() - bytes.len() {
                    self.store.reserve(data.len().max(bytes.len()).max(1024))?;
                }
                self.store.bytes.extend_from_slice(data);
                self.conn.inbox.consume(taken);
            }
            if decoder.is_done() {
                return Ok(());
            }
            match self.conn.inbox.receive(&self.conn.stream, CHUNKED_RECEIVE_BYTES, false) {
                Ok(0) => return Err(BodyError::Gone),
                Ok(_) => self.last_came = Instant::now(),
                Err(error) if is_would_block(error) => self.wait()?,
                Err(_) => return Err(BodyError::Gone),
            }
        }
    }

    fn pour(
        &mut self,
        announced: Option<u64>,
        bytes_max: u64,
        sink: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), BodyError> {
        let mut decoder = Decoder::new();
        loop {
            while !self.conn.inbox.is_empty() {
                let unread = self.conn.inbox.unread();
                let (taken, data) = match announced {
                    Some(length) => {
                        let left = usize::try_from(length - self.poured).unwrap_or(usize::MAX);
                        let taken = unread.len().min(left);
                        (taken, &unread[..taken])
                    }
                    None => decoder.step(unread).map_err(|_| BodyError::Malformed)?,
                };
                self.poured += data.len() as u64;
                if self.poured > bytes_max {
                    return Err(BodyError::TooLarge);
                }
                sink(data).map_err(|_| BodyError::NoRoom)?;
                self.conn.inbox.consume(taken);
                if taken == 0 || decoder.is_done() {
                    break;
                }
            }
            if announced.map_or(decoder.is_done(), |length| self.poured == length) {
                return Ok(());
            }
            match self.conn.inbox.receive(&self.conn.stream, CHUNKED_RECEIVE_BYTES, false) {
                Ok(0) => return Err(BodyError::Gone),
                Ok(_) => self.last_came = Instant::now(),
                Err(error) if is_would_block(error) => self.wait()?,
                Err(_) => return Err(BodyError::Gone),
            }
        }
    }

    /// Waits for more bytes, until the average rate would fall below the least one.
    fn wait(&self) -> Result<(), BodyError> {
        let came = self.store.bytes.len() as u64 + self.poured;
        let earned = Duration::from_secs(came / self.limits.body_rate_min.max(1));
        let by_rate = self.started + self.limits.body_grace.max(earned).min(self.time_max);
        let left = by_rate.min(self.last_came + self.limits.body_idle).saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(BodyError::TooSlow);
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = [PollFd::new(&*self.conn.stream, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => Err(BodyError::TooSlow),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(BodyError::Gone),
        }
    }
}
