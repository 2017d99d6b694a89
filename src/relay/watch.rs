//! Waiting for the upstream without forgetting the client: a transport around ureq's own.
//!
//! ureq waits in one blocking read. This adapter cuts that wait into steps; between two steps it asks whether the client
//! has left and whether a bound is over. It lies below TLS and above TCP, SOCKS and CONNECT, so one mechanism covers all of
//! them, before and after the head. A step that ends without a byte resumes cleanly.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport, time};
use ureq::{Error, Timeout};

/// How long one step waits: the longest that a client's leaving goes unnoticed.
pub(super) const STEP: Duration = Duration::from_millis(500);

/// Answers whether whoever waits for this request has left.
pub type Departed = Arc<dyn Fn() -> bool + Send + Sync>;

/// What the current thread's request must not outlive.
#[derive(Clone)]
pub(super) struct Watch {
    /// Whether the client has left.
    pub(super) departed: Option<Departed>,
    /// The end of the request's total bound.
    pub(super) deadline: Instant,
}

thread_local! {
    // ureq gives a transport nothing of the request it serves, but it works on the thread that asked.
    static CURRENT: RefCell<Option<Watch>> = const { RefCell::new(None) };
}

/// Runs a piece of a request under its watch.
pub(super) fn under<T>(watch: &Watch, work: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            CURRENT.set(None);
        }
    }
    CURRENT.set(Some(watch.clone()));
    let _reset = Reset;
    work()
}

/// The error that a read ends with when the client has left.
#[derive(Debug)]
pub(super) struct ClientLeft;

impl std::fmt::Display for ClientLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the client has left")
    }
}

impl std::error::Error for ClientLeft {}

/// Wraps whatever transport the chain has made.
#[derive(Debug)]
pub(super) struct WatchConnector {
    /// The longest silence within a body.
    pub(super) idle: Duration,
}

impl<In: Transport> Connector<In> for WatchConnector {
    type Out = Watched<In>;

    fn connect(&self, _: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Watched { inner, idle: self.idle }))
    }
}

/// A transport that looks up between steps.
#[derive(Debug)]
pub(super) struct Watched<In> {
    inner: In,
    idle: Duration,
}

impl<In: Transport> Transport for Watched<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        // Where ureq itself sets no bound, it is reading a body: what bounds that is silence.
        let (bound, reason) = if timeout.after.is_not_happening() {
            (self.idle, Timeout::RecvBody)
        } else {
            (*timeout.after, timeout.reason)
        };
        let start = Instant::now();
        loop {
            let left = bound.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Err(Error::Timeout(reason));
            }
            let step = NextTimeout { after: time::Duration::Exact(left.min(STEP)), ..timeout };
            match self.inner.await_input(step) {
                Err(Error::Timeout(_)) => look_up()?,
                other => return other,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

/// Fails when the current thread's request is not worth any more waiting.
pub(super) fn look_up() -> Result<(), Error> {
    CURRENT.with_borrow(|current| {
        let Some(watch) = current else { return Ok(()) };
        if watch.departed.as_ref().is_some_and(|departed| departed()) {
            return Err(Error::Io(io::Error::new(io::ErrorKind::ConnectionAborted, ClientLeft)));
        }
        if Instant::now() >= watch.deadline {
            return Err(Error::Timeout(Timeout::Global));
        }
        Ok(())
    })
}
