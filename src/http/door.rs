//! The door: one thread that accepts, reads heads without ever waiting for a client, admits requests to the pools, and
//! ends what takes too long. It sends only what fits into a socket's buffer at once.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::conn::{Conn, Phase};
use super::figures::Figures;
use super::front::{Bell, Front, is_would_block};
use super::pool;
use super::table::Refusal;
use super::{Limits, Pool, Service};

/// How often deadlines are looked at, and accepting is tried again after a pause.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// How often a stopping door looks whether all is done.
const DRAIN_INTERVAL: Duration = Duration::from_millis(10);
/// Connections accepted before others get a turn.
const ACCEPTS_MAX: usize = 64;
/// Connections that may wait in the kernel for being accepted.
const BACKLOG: i32 = 1024;
/// Bytes read from one connection before others get a turn.
const RECEIVE_BYTES: usize = 16 * 1024;
/// Want of file descriptors is logged at most so often.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// A bound listener, not yet served.
pub struct Door {
    listener: TcpListener,
    limits: Limits,
    bell: Arc<Bell>,
    figures: Arc<Figures>,
}

/// Worker threads of each pool, at least one each.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    /// Threads for requests that may take minutes; at least 1.
    pub relay: usize,
    /// Threads for short requests; at least 1.
    pub control: usize,
}

impl Door {
    /// Binds the first address of `host` that can be bound; port 0 means any. Raises the soft limit of open files to the
    /// hard one.
    pub fn bind(host: &str, port: u16, limits: Limits) -> io::Result<Door> {
        raise_open_files();
        let mut error = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for address in (host, port).to_socket_addrs()? {
            match listen(address) {
                Ok(listener) => {
                    let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                    let bell = Arc::new(Bell { eventfd, is_stopping: AtomicBool::new(false) });
                    return Ok(Door { listener, limits, bell, figures: Arc::default() });
                }
                Err(this) => error = this,
            }
        }
        Err(error)
    }

    /// The address clients reach it at.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// A handle that stops it from any thread.
    pub fn stopper(&self) -> Stopper {
        Stopper { bell: self.bell.clone() }
    }

    /// Its counters.
    pub fn figures(&self) -> Arc<Figures> {
        self.figures.clone()
    }

    /// Serves until stopped, on this thread. Then closes the listener and all connections without an answer on its way,
    /// lets answers end, the last on each connection, and waits up to `grace` for that. Fails if the workers
    /// cannot be started, or if epoll fails.
    pub fn run(self, service: Arc<dyn Service>, workers: Workers, grace: Duration) -> io::Result<Drain> {
        let sizes = (workers.relay.max(1), workers.control.max(1));
        let front = Arc::new(Front::new(service, self.limits, self.figures, self.bell, sizes)?);
        let started = pool::start(&front, Pool::Relay, "relay")
            .and_then(|_| pool::start(&front, Pool::Control, "control"))
            .and_then(|_| Doorman::new(front.clone(), self.listener));
        let outcome = started.and_then(|mut doorman| doorman.serve(grace));
        front.crew(Pool::Relay).close();
        front.crew(Pool::Control).close();
        front.table.shut();
        drop(front.take_ready());
        outcome.map(|()| Drain { figures: front.figures.clone() })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn raise_open_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            log::debug!("the limit of open files stays as it is: {error}");
        }
    }
}

/// Stops a door.
#[derive(Clone, Debug)]
pub struct Stopper {
    pub(super) bell: Arc<Bell>,
}

impl Stopper {
    /// Makes `Door::run` stop. Returns at once; may be called any number of times.
    pub fn stop(&self) {
        self.bell.is_stopping.store(true, SeqCst);
        self.bell.ring();
    }

    /// Whether `stop` was called.
    pub fn is_stopping(&self) -> bool {
        self.bell.is_stopping.load(SeqCst)
    }
}

/// What is left after a door has stopped: workers that are still answering.
pub struct Drain {
    figures: Arc<Figures>,
}

impl Drain {
    /// Whether all requests that were let in have been served.
    pub fn is_complete(&self) -> bool {
        self.figures.is_quiet()
    }

    /// Waits for that, at most so long.
    pub fn wait(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        while !self.is_complete() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// The door thread's own state.
struct Doorman {
    front: Arc<Front>,
    listener: Option<TcpListener>,
    is_listening: bool,
    trouble_logged: Option<Instant>,
    scratch: Vec<u8>,
}

impl Doorman {
    fn new(front: Arc<Front>, listener: TcpListener) -> io::Result<Doorman> {
        let epoll = &front.table.epoll;
        epoll::add(epoll, &front.bell.eventfd, EventData::new_u64(BELL), EventFlags::IN)?;
        epoll::add(epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let scratch = vec![0; RECEIVE_BYTES];
        Ok(Doorman { front, listener: Some(listener), is_listening: true, trouble_logged: None, scratch })
    }

    fn serve(&mut self, grace: Duration) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut next_sweep = Instant::now() + SWEEP_INTERVAL;
        let mut stop_at: Option<Instant> = None;
        loop {
            self.turn(&mut events, next_sweep)?;
            for conn in self.front.take_ready() {
                self.front.advance(conn);
            }
            if self.front.is_stopping() && stop_at.is_none() {
                stop_at = Some(Instant::now() + grace);
                self.listener = None;
                self.is_listening = false;
                self.front.table.stop();
                next_sweep = Instant::now();
            }
            let now = Instant::now();
            if now >= next_sweep {
                self.sweep(now);
                next_sweep = now + if stop_at.is_some() { DRAIN_INTERVAL } else { SWEEP_INTERVAL };
            }
            if stop_at.is_some_and(|end| now >= end || self.is_drained()) {
                return Ok(());
            }
        }
    }

    /// Whether all answers are on their way and their connections closed.
    fn is_drained(&self) -> bool {
        self.front.figures.is_quiet() && self.front.figures.connections_open() == 0
    }

    /// Waits for events and deals with them.
    fn turn(&mut self, events: &mut Vec<Event>, next_sweep: Instant) -> io::Result<()> {
        // With no connections and the listener in place there is nothing to sweep.
        let may_sleep = self.is_listening && self.front.figures.connections_open() == 0;
        let left = next_sweep.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        events.clear();
        let timeout = if may_sleep { None } else { Some(&timeout) };
        match epoll::wait(&self.front.table.epoll, spare_capacity(events), timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in events.iter() {
            match event.data.u64() {
                LISTENER => self.accept(),
                BELL => {
                    let _ = rustix::io::read(&self.front.bell.eventfd, &mut [0u8; 8]);
                }
                slot => self.receive(usize::try_from(slot).unwrap_or(usize::MAX)),
            }
        }
        Ok(())
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = &self.listener else { return };
            if self.front.table.is_full() {
                return self.pause("the limit of connections is reached");
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    Conn::prepare(&stream, &self.front.limits);
                    let deadline = Instant::now() + self.front.limits.head_deadline;
                    if self.front.table.take_in(stream, peer, deadline) == Err(Refusal::AddressFull) {
                        self.front.figures.refused_addresses.fetch_add(1, Relaxed);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // EMFILE, ENFILE, ENOMEM and the like: others may go first.
                    _ => return self.pause(&error.to_string()),
                },
            }
        }
    }

    /// Takes the listener out of epoll, which would else report it without end. The sweep puts it back.
    fn pause(&mut self, why: &str) {
        let Some(listener) = &self.listener else { return };
        if epoll::delete(&self.front.table.epoll, listener).is_ok() {
            self.is_listening = false;
        }
        self.front.figures.accept_pauses.fetch_add(1, Relaxed);
        if self.trouble_logged.is_none_or(|last| last.elapsed() > LOG_INTERVAL) {
            self.trouble_logged = Some(Instant::now());
            log::warn!("not accepting connections for a while: {why}");
        }
    }

    fn resume(&mut self) {
        let Some(listener) = &self.listener else { return };
        if !self.is_listening && !self.front.table.is_full() {
            let data = EventData::new_u64(LISTENER);
            self.is_listening = epoll::add(&self.front.table.epoll, listener, data, EventFlags::IN).is_ok();
        }
    }

    /// Reads once from the connection in a slot, whatever the event said about it.
    fn receive(&mut self, slot: usize) {
        let Some(mut conn) = self.front.table.take(slot) else { return };
        let received = match rustix::net::recv(&*conn.stream, &mut self.scratch[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((received, _)) => received,
            Err(error) if is_would_block(error) || error == Errno::INTR => return self.front.table.lay_down(conn),
            Err(_) => return,
        };
        if received == 0 {
            return;
        }
        if let Phase::Closing { left } = conn.phase {
            if left > received {
                conn.phase = Phase::Closing { left: left - received };
                self.front.table.lay_down(conn);
            }
            return;
        }
        conn.inbox.append(&self.scratch[..received]);
        self.front.advance(conn);
    }

    /// Ends what has passed its deadline.
    fn sweep(&mut self, now: Instant) {
        for slot in 0..self.front.table.size() {
            let Some(conn) = self.front.table.take_if(slot, |conn| conn.deadline <= now) else { continue };
            if conn.phase == Phase::Head {
                self.front.refuse_slow_head(conn);
            }
        }
        self.resume();
    }
}
