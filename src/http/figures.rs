//! Counters of the front, written by door and workers and read by anyone. No decisions here, except that a pool's gauge is
//! also what admission goes by.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};

use super::Pool;

/// How full one pool is.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    /// Worker threads.
    pub(super) size: AtomicUsize,
    /// Requests that may wait beyond the workers.
    pub(super) queue_max: AtomicUsize,
    /// Requests let in whose answer has not ended.
    pub(super) admitted: AtomicUsize,
    /// Workers inside `Service::serve`.
    pub(super) working: AtomicUsize,
}

/// What the front is doing and has done since its start. All counts are of their own; together they are no snapshot.
#[derive(Debug, Default)]
pub struct Figures {
    pub(super) relay: Gauge,
    pub(super) control: Gauge,
    pub(super) connections: AtomicUsize,
    pub(super) bodies_bytes: AtomicU64,
    pub(super) served: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) overloaded_relay: AtomicU64,
    pub(super) overloaded_control: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) timed_out_heads: AtomicU64,
    pub(super) refused_addresses: AtomicU64,
    pub(super) accept_pauses: AtomicU64,
}

impl Figures {
    pub(super) fn gauge(&self, pool: Pool) -> &Gauge {
        match pool {
            Pool::Relay => &self.relay,
            Pool::Control => &self.control,
        }
    }

    /// Whether no worker has anything to do.
    pub(super) fn is_quiet(&self) -> bool {
        [&self.relay, &self.control]
            .iter()
            .all(|gauge| gauge.admitted.load(SeqCst) == 0 && gauge.working.load(SeqCst) == 0)
    }

    /// Open connections, idle ones included.
    pub fn connections_open(&self) -> usize {
        self.connections.load(Relaxed)
    }

    /// Relay workers that are serving a request.
    pub fn relay_busy(&self) -> usize {
        self.relay.admitted.load(Relaxed).min(self.relay_size())
    }

    /// Relay workers.
    pub fn relay_size(&self) -> usize {
        self.relay.size.load(Relaxed)
    }

    /// Control workers that are serving a request.
    pub fn control_busy(&self) -> usize {
        self.control.admitted.load(Relaxed).min(self.control_size())
    }

    /// Requests waiting for a control worker.
    pub fn control_queued(&self) -> usize {
        self.control.admitted.load(Relaxed).saturating_sub(self.control_size())
    }

    /// Control workers.
    pub fn control_size(&self) -> usize {
        self.control.size.load(Relaxed)
    }

    /// Bytes of request bodies in memory.
    pub fn bodies_in_flight_bytes(&self) -> u64 {
        self.bodies_bytes.load(Relaxed)
    }

    /// Requests that a worker has served, whatever the answer.
    pub fn requests_served(&self) -> u64 {
        self.served.load(Relaxed)
    }

    /// Requests whose serving panicked.
    pub fn panics(&self) -> u64 {
        self.panics.load(Relaxed)
    }

    /// Requests refused because that pool was full.
    pub fn refused_overloaded(&self, pool: Pool) -> u64 {
        match pool {
            Pool::Relay => self.overloaded_relay.load(Relaxed),
            Pool::Control => self.overloaded_control.load(Relaxed),
        }
    }

    /// Requests refused because their head could not be served.
    pub fn refused_malformed(&self) -> u64 {
        self.malformed.load(Relaxed)
    }

    /// Heads that did not come in time.
    pub fn refused_slow_heads(&self) -> u64 {
        self.timed_out_heads.load(Relaxed)
    }

    /// Connections closed because their address had too many.
    pub fn refused_addresses(&self) -> u64 {
        self.refused_addresses.load(Relaxed)
    }

    /// How often accepting paused, for want of file descriptors or because of `connections_max`.
    pub fn accept_pauses(&self) -> u64 {
        self.accept_pauses.load(Relaxed)
    }
}
