//! Answers: framed, sent at once, and aborted so that a cut one never looks whole.

use super::Canned;
use super::connection::Connection;
use super::exchange::{Exchange, Place};
use super::fields::{BodyLength, Fields, Persistence, encode_head};
use super::head::Head;
use rustix::net::{SendFlags, send};
use std::io::{self, IoSlice, Write};
use std::net::TcpStream;

/// An answer up to this size fits into a socket's buffer: sending it does not wait for the client.
const SURELY_SENT_BYTES_MAX: usize = 16 * 1024;

/// How the body of an answer is framed.
fn framing(head: &Head, status: u16, length: Option<u64>) -> BodyLength {
    match (status, length) {
        (204 | 304, _) => BodyLength::Absent,
        (_, Some(length)) => BodyLength::Known(length),
        (_, None) if head.is_http_1_0() => BodyLength::UntilClose,
        (_, None) => BodyLength::Chunked,
    }
}

fn persistence(head: &Head, may_stay: bool) -> Persistence {
    match (may_stay, head.is_http_1_0()) {
        (false, _) => Persistence::Close,
        (true, true) => Persistence::KeepAlive,
        (true, false) => Persistence::Silent,
    }
}

/// Sends a whole answer.
pub(super) fn send_whole(
    connection: &Connection,
    head: &Head,
    status: u16,
    fields: &Fields,
    body: &[u8],
    may_stay: bool,
    place: &mut Place,
) -> io::Result<()> {
    let length = framing(head, status, Some(body.len() as u64));
    let encoded = encode_head(status, fields, length, persistence(head, may_stay));
    let body = if head.is_head_method() || length == BodyLength::Absent { &[] } else { body };
    if body.len() <= SURELY_SENT_BYTES_MAX {
        place.leave();
    }
    send_all(&connection.socket, &mut [IoSlice::new(&encoded), IoSlice::new(body)])
}

/// Sends a refusal without waiting. Gives back whether all of it went out.
pub(super) fn send_refusal(connection: &Connection, canned: &Canned, with_body: bool) -> bool {
    let length = BodyLength::Known(canned.body.len() as u64);
    let mut bytes = encode_head(canned.status, &canned.fields, length, Persistence::Close);
    if with_body {
        bytes.extend_from_slice(&canned.body);
    }
    send(&*connection.socket, &bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).is_ok_and(|sent| sent == bytes.len())
}

/// Sends slices in as few calls as the socket allows. Each call waits at most as long as the socket's send timeout.
fn send_all(mut socket: &TcpStream, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match socket.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => IoSlice::advance_slices(&mut slices, sent),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// An answer that is being given. Dropped before it is finished, it is aborted: the client sees its connection break.
pub struct Reply {
    exchange: Exchange,
    connection: Option<Box<Connection>>,
    /// The encoded head, until it is sent.
    head: Vec<u8>,
    framing: BodyLength,
    written: u64,
    has_body: bool,
    has_sent: bool,
    may_stay: bool,
}

impl Reply {
    pub(super) fn new(
        exchange: Exchange,
        connection: Option<Box<Connection>>,
        status: u16,
        fields: &Fields,
        length: Option<u64>,
    ) -> Reply {
        let framing = framing(&exchange.head, status, length);
        let may_stay = exchange.may_stay() && framing != BodyLength::UntilClose;
        let head = encode_head(status, fields, framing, persistence(&exchange.head, may_stay));
        let has_body = !exchange.head.is_head_method() && framing != BodyLength::Absent;
        Reply { exchange, connection, head, framing, written: 0, has_body, has_sent: false, may_stay }
    }

    /// Whether anything has been sent.
    pub fn has_sent(&self) -> bool {
        self.has_sent
    }

    /// Sends the head now, before any piece of the body.
    ///
    /// # Errors
    /// The client does not take it.
    pub fn flush_head(&mut self) -> io::Result<()> {
        self.send(b"", false)
    }

    /// Sends a piece of the body, framed, in one call; the first one together with the head.
    ///
    /// # Errors
    /// The client does not take it, or the piece is longer than what the announced length leaves.
    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        self.written += piece.len() as u64;
        if matches!(self.framing, BodyLength::Known(length) if self.written > length) {
            return Err(io::Error::other("the answer is longer than announced"));
        }
        self.send(piece, false)
    }

    /// Ends the answer and gives the connection back.
    ///
    /// # Errors
    /// The client does not take it, or the body is shorter than announced; both abort the connection.
    pub fn finish(mut self) -> io::Result<()> {
        if self.has_body && matches!(self.framing, BodyLength::Known(length) if self.written != length) {
            return Err(io::Error::other("the answer is shorter than announced"));
        }
        self.exchange.place.leave();
        self.send(b"", true)?;
        if let Some(connection) = self.connection.take() {
            self.exchange.front.release(connection, self.may_stay);
        }
        Ok(())
    }

    fn send(&mut self, piece: &[u8], is_last: bool) -> io::Result<()> {
        let Some(connection) = &self.connection else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let is_chunked = self.has_body && self.framing == BodyLength::Chunked;
        let piece = if self.has_body { piece } else { &[] };
        let size = if is_chunked && !piece.is_empty() { format!("{:x}\r\n", piece.len()) } else { String::new() };
        let end: &[u8] = match (is_chunked, piece.is_empty(), is_last) {
            (true, false, _) => b"\r\n",
            (true, true, true) => b"0\r\n\r\n",
            _ => b"",
        };
        let mut slices =
            [IoSlice::new(&self.head), IoSlice::new(size.as_bytes()), IoSlice::new(piece), IoSlice::new(end)];
        let sent = send_all(&connection.socket, &mut slices);
        self.has_sent = true;
        self.head = Vec::new();
        sent
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.exchange.front.abort(connection);
        }
    }
}
