//! One client's connection: its socket, what was read from it and not yet used, and what it is waiting for.

use super::head::{Head, Scan, Scanner};
use super::{Fault, Limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

/// What a connection in the door's care is waiting for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Waiting {
    /// For the first byte of a head, since then.
    Idle(Instant),
    /// For the rest of a head, until then.
    Head(Instant),
    /// For the client to read its last answer and close, until then.
    Close(Instant),
}

/// A connection. Whoever has it is the only one to read from or write to its socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: Arc<TcpStream>,
    pub(super) peer: SocketAddr,
    /// Its place in the table, for its whole life.
    pub(super) slot: usize,
    /// Bytes that were read and belong to the next head, or to the body in progress.
    pub(super) buffer: Vec<u8>,
    pub(super) waiting: Waiting,
    scanner: Scanner,
}

/// What the buffered bytes amount to.
pub(super) enum Progress {
    /// Not yet a head.
    Incomplete,
    /// A head; what follows it stays in the buffer.
    Complete(Head),
    /// Nothing that can be served.
    Refused(Fault),
}

impl Connection {
    pub(super) fn new(socket: TcpStream, peer: SocketAddr, slot: usize) -> Connection {
        Connection {
            socket: Arc::new(socket),
            peer,
            slot,
            buffer: Vec::new(),
            waiting: Waiting::Idle(Instant::now()),
            scanner: Scanner::default(),
        }
    }

    /// Looks whether the buffer holds a whole head, and takes it out.
    pub(super) fn take_head(&mut self, limits: &Limits) -> Progress {
        if let Waiting::Idle(_) = self.waiting {
            // Empty lines before a request are skipped (RFC 9112 section 2.2).
            while self.buffer.starts_with(b"\r\n") {
                self.buffer.drain(..2);
            }
            if self.buffer.is_empty() {
                return Progress::Incomplete;
            }
            self.waiting = Waiting::Head(Instant::now() + limits.head_deadline);
        }
        match self.scanner.step(&self.buffer, limits.head_bytes_max, limits.fields_max) {
            Scan::Incomplete => Progress::Incomplete,
            Scan::Refused(fault) => Progress::Refused(fault),
            Scan::Complete(length) => {
                let head = Head::parse(&self.buffer[..length]);
                self.scanner = Scanner::default();
                if self.buffer.len() == length {
                    // An idle connection keeps no memory.
                    self.buffer = Vec::new();
                } else {
                    self.buffer.drain(..length);
                }
                head.map_or_else(Progress::Refused, Progress::Complete)
            }
        }
    }

    /// Reads what is there, at most as much as the scratch holds, without waiting.
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> Received {
        match recv(&*self.socket, scratch, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Received::End,
            Ok((_, length)) => Received::Bytes(length),
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::End,
        }
    }

    pub(super) fn client(&self) -> Client {
        Client { socket: Arc::clone(&self.socket) }
    }
}

/// What one read has brought.
pub(super) enum Received {
    Nothing,
    Bytes(usize),
    End,
}

/// A client's socket, for whoever waits for something else on its behalf.
#[derive(Clone, Debug)]
pub struct Client {
    socket: Arc<TcpStream>,
}

impl Client {
    /// Whether the client has left: it has closed or reset its connection. One that has only ended its own side of it
    /// counts as gone, as with other proxies: nothing tells the two apart.
    pub fn is_gone(&self) -> bool {
        let mut sockets = [PollFd::new(&*self.socket, PollFlags::RDHUP)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // HUP and ERR are reported unasked.
        poll(&mut sockets, Some(&now)).is_ok_and(|ready| ready > 0)
    }
}
