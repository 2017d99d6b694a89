//! What the door and the workers share: the table of connections, the admission counters, the figures.

use super::connection::{Connection, Progress, Waiting};
use super::pool::{Job, Queue};
use super::{Limits, Pool, Service};
use rustix::event::epoll::{self, EventData, EventFlags};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the door asks to be told of a connection in its care: once, until it is armed again.
const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ONESHOT);

/// A lock whose holder may have panicked; what it guards is never half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts of what the front does.
#[derive(Debug, Default)]
pub struct Figures {
    pub(super) connections: AtomicUsize,
    pub(super) serving: AtomicUsize,
    pub(super) served: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Figures {
    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests that workers serve now.
    pub fn serving(&self) -> usize {
        self.serving.load(Ordering::Relaxed)
    }

    /// Requests that workers have served since the start.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Requests that the door refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The shared state.
pub(super) struct Front {
    pub(super) limits: Limits,
    pub(super) figures: Arc<Figures>,
    pub(super) epoll: OwnedFd,
    /// Wakes the door: a stop, or a request that is ready.
    pub(super) wake: OwnedFd,
    /// A connection that is here is the door's; one that is not is a worker's, or gone.
    pub(super) table: Vec<Mutex<Option<Box<Connection>>>>,
    /// Places that workers have given up since the door last looked, with the address that had them.
    pub(super) freed: Mutex<Vec<(usize, IpAddr)>>,
    /// Connections whose next head has already come, in the order in which they became free.
    pub(super) ready: Mutex<VecDeque<Box<Connection>>>,
    pub(super) relay: Queue,
    pub(super) control: Queue,
    pub(super) is_stopping: AtomicBool,
    /// Memory that bodies in flight have.
    pub(super) bodies_bytes: AtomicU64,
}

impl Front {
    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    pub(super) fn queue(&self, pool: Pool) -> &Queue {
        match pool {
            Pool::Relay => &self.relay,
            Pool::Control => &self.control,
        }
    }

    /// Puts a connection into the door's care. First it lies down, then it is armed, both under the place's lock: data
    /// that came meanwhile fires at once, and nobody needs to be woken.
    pub(super) fn give_back(&self, connection: Box<Connection>) {
        let slot = connection.slot;
        let mut place = lock(&self.table[slot]);
        let armed = epoll::modify(&self.epoll, &*connection.socket, EventData::new_u64(slot as u64), INTEREST);
        if armed.is_ok() {
            *place = Some(connection);
            return;
        }
        drop(place);
        self.close(connection);
    }

    /// Registers a new connection and puts it into the door's care.
    pub(super) fn adopt(&self, connection: Box<Connection>) {
        let slot = connection.slot;
        let mut place = lock(&self.table[slot]);
        let added = epoll::add(&self.epoll, &*connection.socket, EventData::new_u64(slot as u64), INTEREST);
        if added.is_ok() {
            *place = Some(connection);
            return;
        }
        drop(place);
        self.close(connection);
    }

    /// A worker has given the last answer it will give on this turn.
    pub(super) fn release(&self, mut connection: Box<Connection>, may_stay: bool) {
        if !may_stay || self.is_stopping() {
            return self.close_gently(connection);
        }
        connection.waiting = Waiting::Idle(Instant::now());
        if connection.buffer.is_empty() {
            return self.give_back(connection);
        }
        // Bytes of a pipelined request never wake epoll again: the door must be told.
        lock(&self.ready).push_back(connection);
        self.wake_door();
    }

    /// Ends a connection so that its client can still read the last answer: only the sending side is closed, what the
    /// client still sends is read and dropped for a while. Closing at once would destroy the answer with a reset.
    pub(super) fn close_gently(&self, mut connection: Box<Connection>) {
        if connection.socket.shutdown(std::net::Shutdown::Write).is_err() {
            return self.close(connection);
        }
        connection.buffer = Vec::new();
        connection.waiting = Waiting::Close(Instant::now() + self.limits.linger);
        self.give_back(connection);
    }

    /// Ends a connection so that its client cannot take what it got for a whole answer.
    pub(super) fn abort(&self, connection: Box<Connection>) {
        // A failure here means that the connection is broken already.
        let _ = socket2::SockRef::from(&*connection.socket).set_linger(Some(std::time::Duration::ZERO));
        self.close(connection);
    }

    pub(super) fn close(&self, connection: Box<Connection>) {
        // The socket may live on in a watcher for a moment; the poller must forget it now.
        let _ = epoll::delete(&self.epoll, &*connection.socket);
        let (slot, address) = (connection.slot, connection.peer.ip());
        drop(connection);
        self.figures.connections.fetch_sub(1, Ordering::Relaxed);
        lock(&self.freed).push((slot, address));
    }

    pub(super) fn wake_door(&self) {
        // Full means that it is awake already.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Goes on with the bytes that a connection has: waits for more, hands it to a worker, or refuses it.
    pub(super) fn advance(&self, mut connection: Box<Connection>, service: &dyn Service) {
        match connection.take_head(&self.limits) {
            Progress::Incomplete => self.give_back(connection),
            Progress::Refused(fault) => {
                self.refuse(connection, &service.malformed(&fault), true);
            }
            Progress::Complete(head) => {
                let queue = self.queue(service.pool(&head));
                if queue.admit() {
                    self.figures.serving.fetch_add(1, Ordering::Relaxed);
                    queue.push(Job { connection, head: Arc::new(head) });
                } else {
                    let canned = service.overloaded(&head);
                    self.refuse(connection, &canned, !head.is_head_method());
                }
            }
        }
    }

    /// Answers from the door: one send without waiting, then the connection ends.
    pub(super) fn refuse(&self, connection: Box<Connection>, canned: &super::Canned, with_body: bool) {
        self.figures.refused.fetch_add(1, Ordering::Relaxed);
        if super::reply::send_refusal(&connection, canned, with_body) {
            self.close_gently(connection);
        } else {
            self.close(connection);
        }
    }
}
