//! What door and workers share, and the two ways of a connection: to a worker, and from it after its answer.

use std::collections::VecDeque;
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::conn::{Conn, Phase};
use super::exchange::{Ending, Exchange, Home};
use super::fields::encode_canned;
use super::figures::Figures;
use super::head::{Head, Scan};
use super::pool::{CONTROL_QUEUE_MAX, Crew, Job, Seat};
use super::table::Table;
use super::{Canned, Fault, Limits, Pool, Service, lock};

/// How long, and for how many bytes, a closing connection is read past.
const CLOSING_TIME: Duration = Duration::from_secs(2);
const CLOSING_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes asked for by one receive of a lingering worker. Most heads are smaller.
const LINGER_BYTES: usize = 4096;

const UNANSWERED: Fault = Fault { status: 500, message: "The server failed to answer this request." };

/// Stops the door from any thread.
#[derive(Debug)]
pub(super) struct Bell {
    pub(super) eventfd: rustix::fd::OwnedFd,
    pub(super) is_stopping: AtomicBool,
}

impl Bell {
    /// Wakes the door, now or when it next waits.
    pub(super) fn ring(&self) {
        if let Err(error) = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes()) {
            log::debug!("eventfd: {error}");
        }
    }
}

pub(super) struct Front {
    pub(super) service: Arc<dyn Service>,
    pub(super) limits: Limits,
    pub(super) figures: Arc<Figures>,
    pub(super) table: Table,
    pub(super) bell: Arc<Bell>,
    /// Connections whose next head, or a part of it, came together with the last request.
    ready: Mutex<VecDeque<Box<Conn>>>,
    relay: Crew,
    control: Crew,
}

impl Front {
    pub(super) fn new(
        service: Arc<dyn Service>,
        limits: Limits,
        figures: Arc<Figures>,
        bell: Arc<Bell>,
        (relay, control): (usize, usize),
    ) -> std::io::Result<Front> {
        figures.relay.size.store(relay, SeqCst);
        figures.control.size.store(control, SeqCst);
        figures.control.queue_max.store(CONTROL_QUEUE_MAX, SeqCst);
        Ok(Front {
            table: Table::new(&limits, figures.clone())?,
            ready: Mutex::default(),
            relay: Crew::new(relay),
            control: Crew::new(control),
            service,
            limits,
            figures,
            bell,
        })
    }

    pub(super) fn crew(&self, pool: Pool) -> &Crew {
        match pool {
            Pool::Relay => &self.relay,
            Pool::Control => &self.control,
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.bell.is_stopping.load(SeqCst)
    }

    /// Connections to go on with, for the door.
    pub(super) fn take_ready(&self) -> VecDeque<Box<Conn>> {
        std::mem::take(&mut *lock(&self.ready))
    }

    fn push_ready(&self, conn: Box<Conn>) {
        let mut ready = lock(&self.ready);
        ready.push_back(conn);
        let is_first = ready.len() == 1;
        drop(ready);
        if is_first {
            self.bell.ring();
        }
    }

    /// Goes on with a connection that has received something: to a worker if its head is whole. Door thread only, as it
    /// never waits but for locks.
    pub(super) fn advance(&self, mut conn: Box<Conn>) {
        match conn.scan(&self.limits) {
            Scan::Incomplete => {
                self.await_head(&mut conn);
                self.table.lay_down(conn);
            }
            Scan::Refused(fault) => self.refuse_malformed(conn, &fault),
            Scan::Complete(end) => match take_head(&mut conn, end) {
                Ok(head) => self.admit(conn, head),
                Err(fault) => self.refuse_malformed(conn, &fault),
            },
        }
    }

    /// Starts the clock of a head at its first byte. That of the first head runs since accepting.
    fn await_head(&self, conn: &mut Conn) {
        if conn.inbox.is_empty() {
            return;
        }
        if conn.phase == Phase::Idle {
            conn.deadline = Instant::now() + self.limits.head_deadline;
        }
        conn.phase = Phase::Head;
    }

    fn admit(&self, conn: Box<Conn>, head: Head) {
        // The service's code must not be able to end the door.
        let Some(pool) = guarded(|| self.service.pool(&head)) else {
            return self.refuse_malformed(conn, &UNANSWERED);
        };
        match Seat::take(&self.figures, pool) {
            Some(seat) => self.crew(pool).submit(Job { conn, head: Arc::new(head), seat, pool }),
            None => self.refuse_overloaded(conn, pool, &head),
        }
    }

    fn refuse_overloaded(&self, conn: Box<Conn>, pool: Pool, head: &Head) {
        match pool {
            Pool::Relay => &self.figures.overloaded_relay,
            Pool::Control => &self.figures.overloaded_control,
        }
        .fetch_add(1, Relaxed);
        self.refuse(conn, guarded(|| self.service.overloaded(head)), head.is_head_method());
    }

    fn refuse_malformed(&self, conn: Box<Conn>, fault: &Fault) {
        self.figures.malformed.fetch_add(1, Relaxed);
        log::debug!("refused {}: {} {}", conn.peer, fault.status, fault.message);
        self.refuse(conn, guarded(|| self.service.malformed(fault)), false);
    }

    /// Tells a client that its head took too long.
    pub(super) fn refuse_slow_head(&self, conn: Box<Conn>) {
        self.figures.timed_out_heads.fetch_add(1, Relaxed);
        self.refuse(conn, guarded(|| self.service.malformed(&super::conn::SLOW_HEAD)), false);
    }

    /// One send that does not wait, then closing.
    fn refuse(&self, conn: Box<Conn>, canned: Option<Canned>, omits_body: bool) {
        let Some(canned) = canned else { return };
        if conn.send_now(&encode_canned(&canned, omits_body)).is_ok() {
            self.close_gently(conn);
        }
    }

    /// Ends our side and lets the door read past what the client still sends, for a short while.
    fn close_gently(&self, mut conn: Box<Conn>) {
        if conn.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let unread = conn.inbox.unread().len();
        conn.inbox.consume(unread);
        conn.phase = Phase::Closing { left: CLOSING_BYTES_MAX };
        conn.deadline = Instant::now() + CLOSING_TIME;
        self.table.lay_down(conn);
    }

    /// Serves one request, and may return the next one of the same client, which a short wait has brought. Its frame
    /// must not become part of the idle worker's.
    #[inline(never)]
    pub(super) fn serve(self: &Arc<Self>, job: Job, may_linger: bool) -> Option<Job> {
        let Job { conn, head, seat, pool } = job;
        let gauge = self.figures.gauge(pool);
        gauge.working.fetch_add(1, SeqCst);
        let home = Arc::new(Home::default());
        let exchange = Exchange::new(self.clone(), conn, head.clone(), seat, home.clone());
        if catch_unwind(AssertUnwindSafe(|| self.service.serve(exchange))).is_err() {
            self.figures.panics.fetch_add(1, Relaxed);
            log::error!("serving {} {} panicked", head.method(), head.path());
        }
        self.figures.served.fetch_add(1, Relaxed);
        let next = match home.leave() {
            Some((conn, Ending::KeepAlive)) if may_linger && conn.inbox.is_empty() && self.is_calm(pool) => {
                self.linger(conn, pool)
            }
            Some((conn, ending)) => {
                self.settle(conn, ending);
                None
            }
            None => None,
        };
        gauge.working.fetch_sub(1, SeqCst);
        next
    }

    /// Whether enough workers are idle for one to wait a little on a single client.
    fn is_calm(&self, pool: Pool) -> bool {
        let gauge = self.figures.gauge(pool);
        gauge.admitted.load(Relaxed) * 4 <= gauge.size.load(Relaxed) * 3 && !self.is_stopping()
    }

    /// Waits a moment for the next request on the connection, which saves a busy client two changes of threads.
    fn linger(&self, mut conn: Box<Conn>, pool: Pool) -> Option<Job> {
        let limits = &self.limits;
        match conn.inbox.receive(&conn.stream, LINGER_BYTES, true) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if is_would_block(error) => {
                self.settle(conn, Ending::KeepAlive);
                return None;
            }
            Err(_) => return None,
        }
        conn.scanner = super::head::Scanner::default();
        let Scan::Complete(end) = conn.scan(limits) else {
            self.settle(conn, Ending::KeepAlive);
            return None;
        };
        // Anything out of the ordinary is the door's: it looks at the same bytes again.
        let head = Head::parse(&conn.inbox.unread()[..end]).ok();
        let seat = match &head {
            Some(head) if guarded(|| self.service.pool(head)) == Some(pool) => Seat::take(&self.figures, pool),
            _ => None,
        };
        let (Some(head), Some(seat)) = (head, seat) else {
            self.settle(conn, Ending::KeepAlive);
            return None;
        };
        conn.inbox.consume(end);
        conn.scanner = super::head::Scanner::default();
        Some(Job { conn, head: Arc::new(head), seat, pool })
    }

    /// Does with a connection what its answer said would be done.
    pub(super) fn settle(&self, mut conn: Box<Conn>, ending: Ending) {
        match ending {
            Ending::Close => {}
            Ending::CloseGently => self.close_gently(conn),
            Ending::Unanswered => {
                let canned = guarded(|| self.service.malformed(&UNANSWERED));
                self.refuse(conn, canned, false);
            }
            Ending::KeepAlive => {
                conn.scanner = super::head::Scanner::default();
                conn.phase = Phase::Idle;
                conn.deadline = Instant::now() + self.limits.idle_deadline;
                // Bytes that were received already never make epoll look.
                if conn.inbox.is_empty() { self.table.lay_down(conn) } else { self.push_ready(conn) }
            }
        }
    }
}

/// Takes the head off the received bytes.
fn take_head(conn: &mut Conn, end: usize) -> Result<Head, Fault> {
    let head = Head::parse(&conn.inbox.unread()[..end]);
    conn.inbox.consume(end);
    conn.scanner = super::head::Scanner::default();
    head
}

/// Runs the service's code where a panic must not go further.
fn guarded<T>(call: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).inspect_err(|_| log::error!("the service panicked in the front")).ok()
}

pub(super) fn is_would_block(error: rustix::io::Errno) -> bool {
    error == rustix::io::Errno::AGAIN || error == rustix::io::Errno::WOULDBLOCK
}
