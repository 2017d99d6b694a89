//! Connections that served before: what is looked at before one serves again, and when a failure on one is nobody's fault.
//!
//! A peer may close a connection that idles at any moment, also in the one between the last look and the next request. Such
//! a request was never served: it failed on a connection that had been used before, at once, and no byte of an answer came.
//! It is sent once more, on a connection of its own (RFC 9112 section 9.3.1, RFC 9110 section 9.2.2). ureq retries nothing.
//! The adapter lies above TLS, where the bytes of an answer are told from a farewell of TLS.

use super::watch::ClientLeft;
use std::cell::Cell;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use ureq::Error;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};

/// A peer that had closed says so within a round trip of the request's last byte. Later, it had begun to work on it.
const SHOWS_WITHIN: Duration = Duration::from_secs(5);

/// What the current thread's request has met so far.
#[derive(Clone, Copy, Default)]
struct Met {
    /// Whether any of it went out.
    is_sent: bool,
    /// Whether it is on its way for the second time.
    is_repeated: bool,
    /// When its last byte went out, if that was on a connection that had served before.
    sent_again_at: Option<Instant>,
    /// Whether anything was answered.
    is_answered: bool,
}

thread_local! {
    // As for the watch: ureq works on the thread that asked.
    static MET: Cell<Met> =
        const { Cell::new(Met { is_sent: false, is_repeated: false, sent_again_at: None, is_answered: false }) };
}

/// Called before a request is sent.
pub(super) fn begin() {
    MET.set(Met::default());
}

/// Whether the request that has just failed met a connection from the pool that its peer had closed. Then it may be sent once
/// more.
pub(super) fn was_closed_before(error: &Error) -> bool {
    let met = MET.get();
    let is_early = met.sent_again_at.is_some_and(|at| at.elapsed() < SHOWS_WITHIN) && !met.is_answered;
    let was_closed = is_early && is_end(error);
    MET.set(Met { is_repeated: was_closed, ..met });
    was_closed
}

/// Whether the peer may have served the thread's last request, or its first try, without an answer that was read.
pub(super) fn is_in_doubt(is_read: bool) -> bool {
    let met = MET.get();
    met.is_repeated || (met.is_sent && !is_read)
}

/// Whether an error is the end of the connection.
fn is_end(error: &Error) -> bool {
    let Error::Io(error) = error else { return false };
    let is_end = matches!(
        error.kind(),
        ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::NotConnected
            | ErrorKind::UnexpectedEof
    );
    is_end && !error.get_ref().is_some_and(|inner| inner.is::<ClientLeft>())
}

/// Wraps what the whole chain has made.
#[derive(Debug)]
pub(super) struct PooledConnector {
    /// Whether the agent's connections go through a CONNECT proxy.
    pub(super) has_tunnel: bool,
}

impl<In: Transport> Connector<In> for PooledConnector {
    type Out = Either<In, Pooled<In>>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        // For the way to a CONNECT proxy ureq runs the whole chain, too, with a configuration that names no proxy. The pool
        // holds what that becomes a part of, and one adapter is all it may ask.
        let is_part = self.has_tunnel && details.config.proxy().is_none();
        Ok(chained.map(|inner| match is_part {
            true => Either::A(inner),
            false => Either::B(Pooled { inner, has_served: false, is_probed: false }),
        }))
    }
}

/// A transport that knows whether it has served before.
#[derive(Debug)]
pub(super) struct Pooled<In> {
    inner: In,
    /// Whether the pool has had it.
    has_served: bool,
    /// Whether the pool has asked `is_open` since the last read.
    is_probed: bool,
}

impl<In: Transport> Transport for Pooled<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let sent = self.inner.transmit_output(amount, timeout);
        let sent_again_at = self.has_served.then(Instant::now);
        MET.set(Met { is_sent: true, sent_again_at, ..MET.get() });
        sent
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.is_probed = false;
        let is_some = self.inner.await_input(timeout)?;
        if is_some {
            MET.set(Met { is_answered: true, ..MET.get() });
        }
        Ok(is_some)
    }

    fn is_open(&mut self) -> bool {
        self.has_served = true;
        // ureq asks when a connection is given back and again before it is used; the second answer is the one that counts.
        if !self.is_probed {
            self.is_probed = true;
            return true;
        }
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
