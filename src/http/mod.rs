//! A small strict HTTP/1.1 front: one door thread, fixed pools of workers, no thread per connection.
//!
//! ```text
//! client ──► door ──(admission by counter)──► worker: Service::serve(Exchange) ──► door again, or closed
//!            listener, heads, deadlines,       body, answer: blocking, on the socket itself
//!            idle and closing connections
//! ```
//!
//! A connection has one owner at a time: it lies in the `table` (then it is the door's) or it was taken out of it (then it
//! belongs to whoever took it). One request at a time is served on a connection; bytes of a following one wait.
//!
//! | file | subject |
//! |---|---|
//! | `door` | the epoll loop: accepting, reading heads, deadlines, admission, stopping |
//! | `front` | what door and workers share, and what becomes of a connection after its answer |
//! | `table` | who has which connection; open connections in all and per address |
//! | `conn` | one connection and its received bytes |
//! | `pool` | workers, hand-off, seats |
//! | `head`, `chunked`, `fields` | pure: request heads, chunked bodies, heads of answers |
//! | `exchange`, `body`, `reply` | what a worker holds: the request, its body, its answer |
//! | `figures` | counters |
//!
//! Not here: paths, keys, accounts, or what any header means beyond framing. Linux only (epoll, eventfd).

mod body;
mod chunked;
mod conn;
mod door;
mod exchange;
mod fields;
mod figures;
mod front;
mod head;
mod pool;
mod reply;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use body::{Body, BodyError};
pub use door::{Door, Drain, Stopper, Workers};
pub use exchange::{Client, Exchange};
pub use fields::Fields;
pub use figures::Figures;
pub use head::Head;
pub use reply::Reply;

/// The two pools of workers. Each has its own threads, so that one being full leaves the other free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// Requests that may take minutes. No queue: when every worker is busy, the next client is told at once.
    Relay,
    /// Short requests. Up to 1024 of them wait for a worker.
    Control,
}

/// What is served. One value serves all threads.
pub trait Service: Send + Sync + 'static {
    /// Which pool serves this request. Called on the door thread, sometimes on a worker: it must not block.
    fn pool(&self, head: &Head) -> Pool;

    /// Serves one request on a worker thread. If the exchange is dropped without an answer, or this panics before one
    /// was begun, the client gets what `malformed` says for 500 and the connection is closed. What takes long belongs
    /// before the end of the answer: the worker counts as free from then on.
    fn serve(&self, exchange: Exchange);

    /// The answer that the door gives when the pool is full. The connection is then closed. It must not block, and it
    /// should be small: what does not fit into the socket's buffer is lost.
    fn overloaded(&self, head: &Head) -> Canned;

    /// The answer to a request that cannot be served: status 400, 408, 417, 431, 501 or 505, and 500 for a request that
    /// `serve` left unanswered. The connection is then closed. The same rules as for `overloaded`.
    fn malformed(&self, fault: &Fault) -> Canned;
}

/// A whole small answer.
#[derive(Clone, Debug)]
pub struct Canned {
    /// 200 to 599.
    pub status: u16,
    /// Header fields; framing is the front's.
    pub fields: Fields,
    /// Body.
    pub body: Vec<u8>,
}

/// Why a request cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The status that says so.
    pub status: u16,
    /// One English sentence that holds nothing of the request, fit to be shown to the client.
    pub message: &'static str,
}

/// Bounds of everything a client can make the front hold or wait for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections. Above it new ones wait in the kernel's backlog. The limit of open files bounds them as well,
    /// with the same effect. Default 4096.
    pub connections_max: usize,
    /// Open connections of one address (IPv6: one /64 network); further ones are closed at once. 0 means no such bound
    /// and is the default, because behind a proxy all clients have one address.
    pub connections_per_address_max: usize,
    /// Bytes of a request head, from its first byte to its empty line; then 431. Default 32 KiB.
    pub head_bytes_max: usize,
    /// Header fields of a request; then 431. Default 100.
    pub headers_max: usize,
    /// Time for a whole head, counted from its first byte, for the first head of a connection from accepting it; then
    /// 408, or just closing if no byte came. Checked four times a second. Default 10 s.
    pub head_deadline: Duration,
    /// Time for which a connection may stay open between requests. Default 75 s.
    pub idle_deadline: Duration,
    /// The least average rate of a body in bytes a second, counted from the start of `read_body`, after `body_grace`.
    /// Default 1024.
    pub body_rate_min: u64,
    /// Time in which the rate is not looked at. Default 10 s.
    pub body_grace: Duration,
    /// Time in which at least one byte of an unfinished body must come, whatever the average. Default 30 s.
    pub body_idle: Duration,
    /// Bytes of request bodies in memory over all connections. Default 256 MiB.
    pub bodies_in_flight_bytes_max: u64,
    /// Time for which one write waits for a client that does not read, and a little more than for which the kernel
    /// tries to reach one that does not acknowledge. Default 60 s.
    pub write_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            connections_max: 4096,
            connections_per_address_max: 0,
            head_bytes_max: 32 * 1024,
            headers_max: 100,
            head_deadline: Duration::from_secs(10),
            idle_deadline: Duration::from_secs(75),
            body_rate_min: 1024,
            body_grace: Duration::from_secs(10),
            body_idle: Duration::from_secs(30),
            bodies_in_flight_bytes_max: 256 * 1024 * 1024,
            write_deadline: Duration::from_secs(60),
        }
    }
}

/// Locks, and goes on with what a panicking thread left: no critical section in this room leaves a value half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
