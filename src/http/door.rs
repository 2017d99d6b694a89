//! The door: one thread, one poll loop, every connection that waits.

use super::connection::{Connection, Received, Waiting};
use super::front::{Figures, Front, lock};
use super::pool::{self, Queue};
use super::{Fault, Limits, Pool, Service};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Event data of the two descriptors that are no connection.
const LISTENER: u64 = u64::MAX;
const WAKE: u64 = u64::MAX - 1;
/// How often deadlines are looked at; they end this much late at most.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Connections accepted in one go, before those that are open have their turn.
const ACCEPT_BATCH: usize = 64;
/// What one read of the door takes.
const SCRATCH_BYTES: usize = 16 * 1024;
/// Connections that the kernel keeps for us.
const BACKLOG: i32 = 1024;

/// How many threads serve.
#[derive(Clone, Copy, Debug)]
pub struct Workers {
    /// For relayed requests.
    pub relay: usize,
    /// For everything else.
    pub control: usize,
}

/// Stops the door, from any thread.
#[derive(Clone)]
pub struct Stopper {
    stop: Arc<StopState>,
}

struct StopState {
    is_asked: AtomicBool,
    wake: rustix::fd::OwnedFd,
}

impl Stopper {
    /// Tells the door to close.
    pub fn stop(&self) {
        self.stop.is_asked.store(true, Ordering::Relaxed);
        // Full means that the door is awake already.
        let _ = rustix::io::write(&self.stop.wake, &1_u64.to_ne_bytes());
    }

    /// Whether it has been told.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_asked.load(Ordering::Relaxed)
    }
}

/// Requests that were running when the door closed.
pub struct Drain {
    front: Arc<Front>,
}

impl Drain {
    /// Whether all have ended.
    pub fn is_complete(&self) -> bool {
        self.front.figures.serving() == 0
    }

    /// Waits for them, at most this long. Gives back whether all have ended.
    pub fn wait(&self, time: Duration) -> bool {
        let start = Instant::now();
        while !self.is_complete() && start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.is_complete()
    }
}

/// The door, bound and not yet open.
pub struct Door {
    listener: TcpListener,
    limits: Limits,
    figures: Arc<Figures>,
    stopper: Stopper,
}

impl Door {
    /// Listens on a host and port, the first of its addresses that can be had. Raises the limit of open files as far as
    /// this process may.
    ///
    /// # Errors
    /// The operating system's.
    pub fn bind(host: &str, port: u16, limits: Limits) -> io::Result<Door> {
        raise_file_limit();
        let mut failure = io::Error::new(ErrorKind::NotFound, "the host has no address");
        for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
            match listen(address) {
                Ok(listener) => {
                    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                    let stopper = Stopper { stop: Arc::new(StopState { is_asked: AtomicBool::new(false), wake }) };
                    return Ok(Door { listener, limits, figures: Arc::default(), stopper });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system's.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What it counts.
    pub fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Serves until it is stopped. Then the listener closes first, idle connections end, and answers in progress have
    /// `grace` to end.
    ///
    /// # Errors
    /// The operating system's, at the start: a thread or the poller cannot be had.
    pub fn run(self, service: Arc<dyn Service>, workers: Workers, grace: Duration) -> io::Result<Drain> {
        let limits = self.limits;
        let front = Arc::new(Front {
            limits,
            figures: self.figures,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            wake: self.stopper.stop.wake.try_clone()?,
            table: (0..limits.connections_max).map(|_| Mutex::new(None)).collect(),
            freed: Mutex::default(),
            ready: Mutex::default(),
            relay: Queue::new(workers.relay, 0),
            control: Queue::new(workers.control, limits.control_queue_max),
            is_stopping: AtomicBool::new(false),
            bodies_bytes: AtomicU64::new(0),
        });
        epoll::add(&front.epoll, &front.wake, EventData::new_u64(WAKE), EventFlags::IN)?;
        pool::start(&front, &service, Pool::Relay, workers.relay)?;
        pool::start(&front, &service, Pool::Control, workers.control)?;
        let mut open = Open {
            front: Arc::clone(&front),
            service,
            listener: Some(self.listener),
            is_listening: false,
            free: (0..limits.connections_max).rev().collect(),
            by_address: HashMap::new(),
            scratch: vec![0; SCRATCH_BYTES].into(),
            has_complained: false,
        };
        open.listen(true)?;
        open.serve(&self.stopper, grace)?;
        Ok(Drain { front })
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Protocol, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Every connection and every upstream is a file; the usual soft limit of 1024 is for programs that use select.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        log::debug!("the limit of open files stays as it is: {error}");
    }
}

/// The running loop.
struct Open {
    front: Arc<Front>,
    service: Arc<dyn Service>,
    listener: Option<TcpListener>,
    is_listening: bool,
    /// Places in the table that nobody has.
    free: Vec<usize>,
    by_address: HashMap<IpAddr, usize>,
    scratch: Box<[u8]>,
    /// Whether the log has been told of the present shortage.
    has_complained: bool,
}

impl Open {
    fn serve(&mut self, stopper: &Stopper, grace: Duration) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        let (mut next_sweep, mut end) = (Instant::now() + SWEEP_EVERY, None);
        loop {
            events.clear();
            let wait = next_sweep.saturating_duration_since(Instant::now());
            let time = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
            match epoll::wait(&self.front.epoll, rustix::buffer::spare_capacity(&mut events), Some(&time)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    WAKE => {
                        let _ = rustix::io::read(&self.front.wake, &mut [0; 8]);
                    }
                    slot => self.read(slot as usize),
                }
            }
            self.serve_ready();
            self.take_freed();
            if Instant::now() >= next_sweep {
                next_sweep = Instant::now() + SWEEP_EVERY;
                self.sweep();
            }
            if stopper.is_stopping() {
                let end = *end.get_or_insert_with(|| Instant::now() + grace);
                self.close_door();
                if self.front.figures.serving() == 0 || Instant::now() >= end {
                    return Ok(());
                }
                next_sweep = next_sweep.min(Instant::now() + Duration::from_millis(20));
            }
        }
    }

    /// Puts the listener into the poller or takes it out: at a limit it would be ready for ever and the loop would spin.
    fn listen(&mut self, is_listening: bool) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        if is_listening && !self.is_listening {
            epoll::add(&self.front.epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        } else if !is_listening && self.is_listening {
            epoll::delete(&self.front.epoll, listener)?;
        }
        self.is_listening = is_listening;
        Ok(())
    }

    /// Stops accepting until the next sweep. No error of accept ever ends the loop.
    fn pause(&mut self, reason: &dyn std::fmt::Display) {
        if !self.has_complained {
            self.has_complained = true;
            log::error!("no further connections for the moment: {reason}");
        }
        if let Err(error) = self.listen(false) {
            log::error!("the listener cannot be paused: {error}");
        }
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPT_BATCH {
            if self.free.is_empty() {
                self.take_freed();
            }
            let (Some(listener), false) = (&self.listener, self.free.is_empty()) else {
                return self.pause(&"as many are open as may be");
            };
            match listener.accept() {
                Ok((socket, peer)) => self.welcome(socket, peer),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => {
                        self.has_complained = false;
                        return;
                    }
                    ErrorKind::ConnectionAborted | ErrorKind::Interrupted => {}
                    // Files or memory are used up; they come back.
                    _ => return self.pause(&error),
                },
            }
        }
    }

    fn welcome(&mut self, socket: TcpStream, peer: SocketAddr) {
        let limits = &self.front.limits;
        let count = self.by_address.entry(peer.ip()).or_default();
        if limits.connections_per_address_max > 0 && *count >= limits.connections_per_address_max {
            return;
        }
        let set = socket.set_nodelay(true).and_then(|()| {
            socket.set_write_timeout(Some(limits.write_deadline))?;
            socket2::SockRef::from(&socket).set_keepalive(true)
        });
        let (Ok(()), Some(slot)) = (set, self.free.pop()) else { return };
        *count += 1;
        self.front.figures.connections.fetch_add(1, Ordering::Relaxed);
        self.front.adopt(Box::new(Connection::new(socket, peer, slot)));
    }

    /// Reads from a connection that may have something. The event only says "look": what is there decides.
    fn read(&mut self, slot: usize) {
        let taken = self.front.table.get(slot).and_then(|place| lock(place).take());
        let Some(mut connection) = taken else { return };
        let received = connection.receive(&mut self.scratch);
        match (received, connection.waiting) {
            (Received::End, _) => self.front.close(connection),
            (Received::Nothing, _) | (Received::Bytes(_), Waiting::Close(_)) => self.front.give_back(connection),
            (Received::Bytes(length), _) => {
                connection.buffer.extend_from_slice(&self.scratch[..length]);
                self.front.advance(connection, &*self.service);
            }
        }
    }

    /// Goes on with connections whose next request had come before the last answer was given. Each gets one request, then
    /// it is the turn of the others.
    fn serve_ready(&mut self) {
        let ready = std::mem::take(&mut *lock(&self.front.ready));
        for connection in ready {
            self.front.advance(connection, &*self.service);
        }
    }

    fn take_freed(&mut self) {
        for (slot, address) in lock(&self.front.freed).drain(..) {
            self.free.push(slot);
            if let Some(count) = self.by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    self.by_address.remove(&address);
                }
            }
        }
    }

    /// Ends what has waited for too long, and listens again after a pause.
    fn sweep(&mut self) {
        let now = Instant::now();
        for place in &self.front.table {
            let mut held = lock(place);
            let is_over = held.as_ref().is_some_and(|connection| match connection.waiting {
                Waiting::Idle(since) => now > since + self.front.limits.idle_deadline,
                Waiting::Head(end) | Waiting::Close(end) => now > end,
            });
            if !is_over {
                continue;
            }
            let Some(connection) = held.take() else { continue };
            drop(held);
            if matches!(connection.waiting, Waiting::Head(_)) {
                let fault = Fault { status: 408, message: "The request's head did not come in time." };
                self.front.refuse(connection, &self.service.malformed(&fault), true);
            } else {
                self.front.close(connection);
            }
        }
        if !self.is_listening && !self.free.is_empty() {
            self.has_complained = false;
            if let Err(error) = self.listen(true) {
                log::error!("the listener cannot be resumed: {error}");
            }
        }
    }

    /// Closes the listener and every connection that waits for a request.
    fn close_door(&mut self) {
        if self.listener.take().is_none() {
            return;
        }
        self.front.is_stopping.store(true, Ordering::Relaxed);
        for place in &self.front.table {
            let mut held = lock(place);
            if held.as_ref().is_some_and(|connection| !matches!(connection.waiting, Waiting::Close(_)))
                && let Some(connection) = held.take()
            {
                drop(held);
                self.front.close(connection);
            }
        }
    }
}
