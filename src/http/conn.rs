//! One connection: its socket, the bytes received and not yet used, and what the door waits for on it.
//!
//! Sockets are blocking. Whoever must not wait says so in each call (MSG_DONTWAIT).

use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, sockopt};

use super::head::{Scan, Scanner};
use super::table::Place;
use super::{Fault, Limits};

/// How long a worker that has answered waits for the next request of the same client before it turns to others.
pub(super) const LINGER: Duration = Duration::from_millis(2);

/// What a connection in the table waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted; no byte has come.
    Fresh,
    /// Between two requests.
    Idle,
    /// Some bytes of a head have come.
    Head,
    /// Our last byte is sent. Reading past at most so many bytes until the client closes, so that the kernel does not
    /// answer them with a reset, which would destroy the answer on its way (RFC 9112 section 9.6).
    Closing { left: usize },
}

/// One client's connection. Dropping it closes the socket and frees its place, in this order.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) stream: Arc<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) inbox: Inbox,
    pub(super) scanner: Scanner,
    pub(super) phase: Phase,
    /// When the phase ends by itself.
    pub(super) deadline: Instant,
    pub(super) place: Place,
}

impl Conn {
    /// Sets what every accepted socket needs. A client that is gone already shows at the first read.
    pub(super) fn prepare(stream: &TcpStream, limits: &Limits) {
        let user_timeout = u32::try_from(limits.write_deadline.as_millis()).unwrap_or(u32::MAX);
        let outcome = sockopt::set_tcp_nodelay(stream, true)
            .and_then(|()| sockopt::set_socket_timeout(stream, sockopt::Timeout::Send, Some(limits.write_deadline)))
            .and_then(|()| sockopt::set_socket_timeout(stream, sockopt::Timeout::Recv, Some(LINGER)))
            .and_then(|()| sockopt::set_tcp_user_timeout(stream, user_timeout))
            .and_then(|()| sockopt::set_socket_keepalive(stream, true))
            .and_then(|()| sockopt::set_tcp_keepidle(stream, Duration::from_secs(30)))
            .and_then(|()| sockopt::set_tcp_keepintvl(stream, Duration::from_secs(10)))
            .and_then(|()| sockopt::set_tcp_keepcnt(stream, 3));
        if let Err(error) = outcome {
            log::debug!("options of an accepted socket: {error}");
        }
    }

    /// Looks for a whole head in what was received.
    pub(super) fn scan(&mut self, limits: &Limits) -> Scan {
        if self.scanner.is_at_start() {
            // An empty line before a request line is to be passed over (RFC 9112 section 2.2).
            while self.inbox.unread().starts_with(b"\r\n") {
                self.inbox.consume(2);
            }
            if matches!(self.inbox.unread(), b"" | b"\r") {
                return Scan::Incomplete;
            }
        }
        self.scanner.step(self.inbox.unread(), limits.head_bytes_max, limits.headers_max)
    }

    /// Sends what fits into the socket's buffer now, and does not wait.
    pub(super) fn send_now(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        rustix::net::send(&*self.stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
    }

    /// Sends pieces in one call; waits for room if `waits`, at most as long as SO_SNDTIMEO says.
    pub(super) fn send_pieces(&self, pieces: &[IoSlice<'_>], waits: bool) -> rustix::io::Result<usize> {
        let flags = if waits { SendFlags::NOSIGNAL } else { SendFlags::NOSIGNAL | SendFlags::DONTWAIT };
        rustix::net::sendmsg(&*self.stream, pieces, &mut SendAncillaryBuffer::default(), flags)
    }

    /// Closes so that the client sees a failure and not an end: with a reset.
    pub(super) fn abort(self) {
        if let Err(error) = sockopt::set_socket_linger(&*self.stream, Some(Duration::ZERO)) {
            log::debug!("abort: {error}");
        }
    }
}

/// Bytes received and not yet used. Holds no memory when empty.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
}

impl Inbox {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Marks the first `count` unread bytes as used.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            *self = Inbox::default();
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.make_room(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Receives at most about `bytes_max` more bytes, without waiting or as long as SO_RCVTIMEO says. 0: the client has
    /// closed its side.
    pub(super) fn receive(&mut self, stream: &TcpStream, bytes_max: usize, waits: bool) -> rustix::io::Result<usize> {
        self.make_room(bytes_max);
        let received = receive(stream, &mut self.bytes, waits);
        if self.is_empty() {
            *self = Inbox::default();
        }
        received
    }

    fn make_room(&mut self, more: usize) {
        if self.start > 0 && self.bytes.capacity() - self.bytes.len() < more {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.reserve_exact(more);
    }
}

/// Receives into the spare capacity of `into`, of which there must be some.
pub(super) fn receive(stream: &TcpStream, into: &mut Vec<u8>, waits: bool) -> rustix::io::Result<usize> {
    let flags = if waits { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    if into.capacity() == into.len() {
        return Err(Errno::NOBUFS);
    }
    loop {
        match rustix::net::recv(stream, spare_capacity(into), flags) {
            Err(Errno::INTR) => {}
            other => return other.map(|(received, _)| received),
        }
    }
}

/// The fault of a head that did not come in time.
pub(super) const SLOW_HEAD: Fault = Fault { status: 408, message: "The request head did not come in time." };
