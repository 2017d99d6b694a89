//! HTTP/1.1 towards clients: connections, heads, bodies, framing. Nothing here knows a path, a key or an account.
//!
//! One *door* thread owns the listener and every connection that is not being served: it accepts, reads heads without
//! blocking and keeps idle connections, so that an idle or half-open one costs a file descriptor and a small buffer. A
//! complete head goes to one of two fixed pools of *workers*; a worker reads the body, answers through the one writer, and
//! gives the connection back. A request that no worker is free for is answered by the door at once.
//!
//! Every wait and every buffer has its bound in [`Limits`].

mod body;
mod chunked;
mod connection;
mod door;
mod exchange;
mod fields;
mod front;
mod head;
mod pool;
mod reply;

pub use body::{Body, BodyError};
pub use connection::Client;
pub use door::{Door, Drain, Stopper, Workers};
pub use exchange::Exchange;
pub use fields::Fields;
pub use front::Figures;
pub use head::Head;
pub use reply::Reply;

use std::time::Duration;

/// Which pool serves a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pool {
    /// Requests that last as long as an upstream takes. Nothing queues here: the next one is refused.
    Relay,
    /// Everything that is over soon; a few may queue.
    Control,
}

/// What is served.
pub trait Service: Send + Sync + 'static {
    /// Which pool serves this request. Runs on the door thread: must not block.
    fn pool(&self, head: &Head) -> Pool;

    /// Serves one request on a worker. If it returns without an answer given, the front sends a 500 and closes.
    fn serve(&self, exchange: Exchange);

    /// The answer to a request that no worker is free for. The door sends it; the connection is then closed.
    fn overloaded(&self, head: &Head) -> Canned;

    /// The answer to a request that HTTP does not allow. The connection is then closed.
    fn malformed(&self, fault: &Fault) -> Canned;
}

/// A whole answer as a value.
#[derive(Clone, Debug)]
pub struct Canned {
    /// Status code.
    pub status: u16,
    /// Header fields.
    pub fields: Fields,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// 400, 408, 417, 431, 501 or 505.
    pub status: u16,
    /// One sentence for whoever wrote the client.
    pub message: &'static str,
}

/// The bounds of the front.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; past that the door stops accepting until one closes.
    pub connections_max: usize,
    /// Open connections of one address; the next one is closed at once. Behind a reverse proxy all have its address.
    pub connections_per_address_max: usize,
    /// Bytes of a request's head, line ends included.
    pub head_bytes_max: usize,
    /// Header fields of a request.
    pub fields_max: usize,
    /// From a head's first byte to its last.
    pub head_deadline: Duration,
    /// How long a connection may wait for its first or next request.
    pub idle_deadline: Duration,
    /// After the grace, a body must have come at this rate on average, in bytes a second.
    pub body_rate_min: u64,
    /// How long a body may be slower than that.
    pub body_grace: Duration,
    /// Memory for bodies in flight over all connections, in bytes.
    pub bodies_in_flight_bytes_max: u64,
    /// How long one write waits for a client that does not read.
    pub write_deadline: Duration,
    /// Requests that wait for a control worker.
    pub control_queue_max: usize,
    /// How long a connection is kept after its last answer, so that the client can read it.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 4096,
            connections_per_address_max: 3072,
            head_bytes_max: 32 * 1024,
            fields_max: 100,
            head_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(75),
            body_rate_min: 1024,
            body_grace: Duration::from_secs(10),
            bodies_in_flight_bytes_max: 256 * 1024 * 1024,
            write_deadline: Duration::from_secs(60),
            control_queue_max: 1024,
            linger: Duration::from_secs(1),
        }
    }
}
