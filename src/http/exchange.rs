//! One request in the hands of a worker, and the wire under it on which the answer goes out.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::body::{self, Body, BodyError};
use super::conn::Conn;
use super::door::Stopper;
use super::fields::{BodyLength, Fields, Persistence, encode_head};
use super::front::{Front, is_would_block};
use super::head::Head;
use super::lock;
use super::pool::Seat;
use super::reply::Reply;

/// How often someone who sends to a slow client asks whether to go on.
const LOOK_UP_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// One request and its answer, owned by the worker. Dropped without an answer, it makes the front send 500 and close.
pub struct Exchange {
    wire: Wire,
}

impl Exchange {
    pub(super) fn new(front: Arc<Front>, conn: Box<Conn>, head: Arc<Head>, seat: Seat, home: Arc<Home>) -> Exchange {
        let unread = if head.has_body() { Unread::All } else { Unread::None };
        Exchange { wire: Wire { conn: Some(conn), front, head, seat, home, unread, is_begun: false, has_sent: false } }
    }

    /// The request's head.
    pub fn head(&self) -> &Head {
        &self.wire.head
    }

    /// The same, to be kept beyond the exchange.
    pub fn head_arc(&self) -> Arc<Head> {
        self.wire.head.clone()
    }

    /// The address of the other end of the socket, which may be a proxy's.
    pub fn peer(&self) -> SocketAddr {
        self.wire.conn.as_ref().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |conn| conn.peer)
    }

    /// The client's socket, to be looked at while the worker waits for something else.
    pub fn client(&self) -> Client {
        Client { stream: self.wire.conn.as_ref().map_or_else(Weak::new, |conn| Arc::downgrade(&conn.stream)) }
    }

    /// The door's stopper: what would go on without an end of its own looks at it.
    pub fn stopper(&self) -> Stopper {
        Stopper { bell: self.wire.front.bell.clone() }
    }

    /// Reads the whole body, of at most `bytes_max` bytes; a longer one that is announced is refused before anything is
    /// read. Tells a client that waits for it to go on (`Expect: 100-continue`, RFC 9110 section 10.1.1). Chunks are
    /// joined, trailers dropped. Empty if there is no body or it was read before. After an error the request can still
    /// be answered; the connection will be closed. `time_max` bounds it as a whole, beside the least rate.
    pub fn read_body(&mut self, bytes_max: u64, time_max: Duration) -> Result<Body, BodyError> {
        let wire = &mut self.wire;
        let Some(conn) = wire.conn.as_mut() else { return Err(BodyError::Gone) };
        match wire.unread {
            Unread::None => return Ok(Body::empty()),
            Unread::Part => return Err(BodyError::Malformed),
            Unread::All => wire.unread = Unread::Part,
        }
        let body = body::read(&wire.front, conn, &wire.head, bytes_max, time_max)?;
        wire.unread = Unread::None;
        Ok(body)
    }

    /// Reads the whole body as `read_body` does, and passes it on piece by piece: it is never in memory as a whole. An
    /// error of `sink` ends it with `NoRoom`.
    pub fn pour_body(
        &mut self,
        bytes_max: u64,
        time_max: Duration,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), BodyError> {
        let wire = &mut self.wire;
        let Some(conn) = wire.conn.as_mut() else { return Err(BodyError::Gone) };
        match wire.unread {
            Unread::None => return Ok(()),
            Unread::Part => return Err(BodyError::Malformed),
            Unread::All => wire.unread = Unread::Part,
        }
        body::pour(&wire.front, conn, &wire.head, bytes_max, time_max, sink)?;
        wire.unread = Unread::None;
        Ok(())
    }

    /// Sends one whole answer, head and body in one write. HEAD, 204 and 304 send no body; HEAD announces the length
    /// that the body has. Status: 200 to 599, anything else becomes 500.
    pub fn answer(mut self, status: u16, fields: Fields, body: &[u8]) -> io::Result<()> {
        let wire = &mut self.wire;
        wire.is_begun = true;
        let status = final_status(status);
        let length = match status {
            204 | 304 => BodyLength::Absent,
            _ => BodyLength::Known(body.len() as u64),
        };
        let persistence = wire.persistence(length);
        let head = encode_head(status, &fields, length, persistence);
        let omits_body = length == BodyLength::Absent || wire.head.is_head_method();
        let body = if omits_body { &[] } else { body };
        wire.send(&mut [IoSlice::new(&head), IoSlice::new(body)], true)?;
        wire.go_home(persistence);
        Ok(())
    }

    /// Starts an answer whose body comes in pieces. With a length, exactly so many bytes must be written; without one
    /// the body goes out in chunks (RFC 9112 section 7.1), to an HTTP/1.0 client as it is, ended by closing. The head
    /// goes out with the first write, or by `flush_head`. Status as in `answer`.
    pub fn begin(mut self, status: u16, fields: Fields, length: Option<u64>) -> Reply {
        let wire = &mut self.wire;
        wire.is_begun = true;
        let status = final_status(status);
        let length = match (status, length) {
            (204 | 304, _) => BodyLength::Absent,
            (_, Some(length)) => BodyLength::Known(length),
            (_, None) if wire.head.is_http_1_0() => BodyLength::UntilClose,
            (_, None) => BodyLength::Chunked,
        };
        let persistence = wire.persistence(length);
        let head = encode_head(status, &fields, length, persistence);
        let omits_body = length == BodyLength::Absent || wire.head.is_head_method();
        Reply::new(self.wire, head, length, omits_body, persistence)
    }
}

/// An answer that ends a request; the front sends interim ones itself.
fn final_status(status: u16) -> u16 {
    if (200..600).contains(&status) { status } else { 500 }
}

/// A client's socket, seen from outside. Does not keep it open.
#[derive(Clone, Debug)]
pub struct Client {
    stream: Weak<TcpStream>,
}

impl Client {
    /// Whether the client has closed or reset its connection, by the state of TCP and not by what may lie unread: waiting
    /// bytes of a pipelined request do not hide it and are no sign of it. A client that closes only its sending half
    /// counts as gone, as with nginx: it cannot be told from one that left. Also true once the connection is closed
    /// here. One system call, which does not wait.
    pub fn is_gone(&self) -> bool {
        let Some(stream) = self.stream.upgrade() else { return true };
        let mut fds = [PollFd::new(&*stream, PollFlags::RDHUP)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR),
            Err(_) => false,
        }
    }
}

/// What becomes of the connection of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    KeepAlive,
    /// Nothing more can come from the client that we would miss.
    Close,
    /// It may still be sending.
    CloseGently,
    /// Nothing was sent.
    Unanswered,
}

/// Where a connection comes back to when its answer has ended: the worker that serves the request looks here afterwards.
#[derive(Debug, Default)]
pub(super) struct Home {
    state: Mutex<HomeState>,
}

#[derive(Debug, Default)]
enum HomeState {
    #[default]
    Open,
    Back(Box<Conn>, Ending),
    /// The worker has turned to other things.
    Left,
}

impl Home {
    /// What has come back by now. What comes later is settled by whoever brings it.
    pub(super) fn leave(&self) -> Option<(Box<Conn>, Ending)> {
        match std::mem::replace(&mut *lock(&self.state), HomeState::Left) {
            HomeState::Back(conn, ending) => Some((conn, ending)),
            HomeState::Open | HomeState::Left => None,
        }
    }
}

/// How much of the request's body is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    None,
    All,
    /// Where it ends is not known any more.
    Part,
}

/// The connection while a request is served: sends, and decides what becomes of it.
pub(super) struct Wire {
    conn: Option<Box<Conn>>,
    front: Arc<Front>,
    head: Arc<Head>,
    seat: Seat,
    home: Arc<Home>,
    unread: Unread,
    is_begun: bool,
    has_sent: bool,
}

impl Wire {
    pub(super) fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Whether the connection can serve another request, as the head of the answer will say. Bytes of an unread body must
    /// never be taken for a request: they are passed over if they are all here, else the connection ends.
    fn persistence(&mut self, length: BodyLength) -> Persistence {
        if self.unread == Unread::All
            && let (Some(conn), Some(announced)) = (self.conn.as_mut(), self.head.content_length())
            && announced <= conn.inbox.unread().len() as u64
        {
            conn.inbox.consume(announced as usize);
            self.unread = Unread::None;
        }
        let stays = self.head.allows_keep_alive()
            && self.unread == Unread::None
            && length != BodyLength::UntilClose
            && !self.front.is_stopping();
        match (stays, self.head.is_http_1_0()) {
            (false, _) => Persistence::Close,
            (true, true) => Persistence::KeepAlive,
            (true, false) => Persistence::Silent,
        }
    }

    /// Sends all pieces, in one system call unless the client is slow to read. With `is_last` the answer ends with them:
    /// the worker's seat is given back before the client can know. An error is for ever.
    pub(super) fn send(&mut self, mut pieces: &mut [IoSlice<'_>], is_last: bool) -> io::Result<()> {
        let Some(conn) = self.conn.as_ref() else { return Err(io::ErrorKind::NotConnected.into()) };
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut waits = !is_last;
        let mut deadline = None;
        if is_last {
            self.seat.release();
        }
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            match conn.send_pieces(pieces, waits) {
                Ok(sent) => {
                    self.has_sent = true;
                    IoSlice::advance_slices(&mut pieces, sent);
                }
                Err(Errno::INTR) => continue,
                Err(error) if is_would_block(error) && !waits => {}
                Err(error) => {
                    let is_slow = is_would_block(error);
                    self.abort();
                    return Err(if is_slow { io::ErrorKind::TimedOut.into() } else { error.into() });
                }
            }
            if pieces.is_empty() {
                break;
            }
            // The slow way: wait for the client, but not for as long as it likes.
            if !waits {
                self.seat.retake();
                waits = true;
            }
            let limits = &self.front.limits;
            let by_rate = Duration::from_secs(length as u64 / limits.body_rate_min.max(1));
            let end = *deadline.get_or_insert_with(|| Instant::now() + limits.write_deadline + by_rate);
            if Instant::now() > end {
                self.abort();
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Sends all pieces, asking `goes_on` four times a second while the client does not read. It is given up for dead after
    /// `write_deadline` without taking a byte, or as soon as `goes_on` says no. An error is for ever.
    pub(super) fn send_while(&mut self, mut pieces: &mut [IoSlice<'_>], goes_on: &dyn Fn() -> bool) -> io::Result<()> {
        let Some(conn) = self.conn.as_ref() else { return Err(io::ErrorKind::NotConnected.into()) };
        let mut last_progress = Instant::now();
        IoSlice::advance_slices(&mut pieces, 0);
        while !pieces.is_empty() {
            let error = match conn.send_pieces(pieces, false) {
                Ok(sent) => {
                    self.has_sent = true;
                    last_progress = Instant::now();
                    IoSlice::advance_slices(&mut pieces, sent);
                    continue;
                }
                Err(Errno::INTR) => continue,
                Err(error) if !is_would_block(error) => io::Error::from(error),
                Err(_) if !goes_on() => io::ErrorKind::Interrupted.into(),
                Err(_) if last_progress.elapsed() > self.front.limits.write_deadline => io::ErrorKind::TimedOut.into(),
                Err(_) => {
                    let mut fds = [PollFd::new(&*conn.stream, PollFlags::OUT)];
                    match poll(&mut fds, Some(&LOOK_UP_EVERY)) {
                        Ok(_) | Err(Errno::INTR) => continue,
                        Err(error) => error.into(),
                    }
                }
            };
            self.abort();
            return Err(error);
        }
        Ok(())
    }

    /// Gives the connection back after a whole answer.
    pub(super) fn go_home(&mut self, persistence: Persistence) {
        let ending = match persistence {
            Persistence::Silent | Persistence::KeepAlive => Ending::KeepAlive,
            // It was the client who wanted to close, and all of its request is read.
            Persistence::Close if self.unread == Unread::None && !self.head.allows_keep_alive() => Ending::Close,
            Persistence::Close => Ending::CloseGently,
        };
        self.deliver(ending);
    }

    fn abort(&mut self) {
        if let Some(conn) = self.conn.take() {
            conn.abort();
        }
    }

    fn deliver(&mut self, ending: Ending) {
        let Some(conn) = self.conn.take() else { return };
        self.seat.release();
        let mut state = lock(&self.home.state);
        if matches!(*state, HomeState::Left) {
            drop(state);
            self.front.settle(conn, ending);
        } else {
            *state = HomeState::Back(conn, ending);
        }
    }
}

impl Drop for Wire {
    /// An answer that was begun and not ended must look like a failure to the client.
    fn drop(&mut self) {
        if !self.is_begun {
            self.deliver(Ending::Unanswered);
        } else {
            self.abort();
        }
    }
}
