//! Reading a request's body: bounded in size, rate and memory over all connections.

use super::chunked::Decoder;
use super::connection::Connection;
use super::front::Front;
use super::head::Head;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What is reserved for a body before any of it has come; the announced length is only a number.
const FIRST_BYTES: usize = 64 * 1024;
/// A body up to this length is reserved at once.
const EXACT_BYTES_MAX: u64 = 1024 * 1024;
/// One read of a chunked body.
const CHUNKED_READ_BYTES: usize = 16 * 1024;

/// A whole body. Its memory counts against the budget of bodies in flight until it is dropped.
pub struct Body {
    bytes: Vec<u8>,
    budget: Budget,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BodyError {
    /// It is larger than the caller allows.
    TooLarge,
    /// It came slower than the minimum rate.
    TooSlow,
    /// Its chunks do not follow the grammar (RFC 9112 section 7.1).
    Malformed,
    /// The client left before its end.
    Gone,
    /// The memory for bodies in flight is used up.
    NoRoom,
}

/// A share of the memory for bodies in flight.
struct Budget {
    front: Arc<Front>,
    taken: u64,
}

impl Budget {
    /// Raises the share to `bytes`, if there is room.
    fn raise(&mut self, bytes: usize) -> Result<(), BodyError> {
        let more = (bytes as u64).saturating_sub(self.taken);
        let max = self.front.limits.bodies_in_flight_bytes_max;
        let add = |all: u64| all.checked_add(more).filter(|sum| *sum <= max);
        self.front
            .bodies_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add)
            .map_err(|_| BodyError::NoRoom)?;
        self.taken += more;
        Ok(())
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.front.bodies_bytes.fetch_sub(self.taken, Ordering::Relaxed);
    }
}

/// Reads the body that a head announces.
pub(super) fn read(
    front: &Arc<Front>,
    connection: &mut Connection,
    head: &Head,
    bytes_max: u64,
) -> Result<Body, BodyError> {
    let budget = Budget { front: Arc::clone(front), taken: 0 };
    let mut body = Body { bytes: Vec::new(), budget };
    if !head.has_body() {
        return Ok(body);
    }
    if head.content_length().is_some_and(|length| length > bytes_max) {
        return Err(BodyError::TooLarge);
    }
    if head.expects_continue() && connection.buffer.is_empty() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n";
        send(&*connection.socket, interim, SendFlags::NOSIGNAL).map_err(|_| BodyError::Gone)?;
    }
    let pace = Pace { start: Instant::now(), grace: front.limits.body_grace, rate_min: front.limits.body_rate_min };
    match head.content_length() {
        Some(length) => read_length(connection, &mut body, length, &pace)?,
        None => read_chunked(connection, &mut body, bytes_max, &pace)?,
    }
    Ok(body)
}

fn read_length(connection: &mut Connection, body: &mut Body, length: u64, pace: &Pace) -> Result<(), BodyError> {
    let length_usize = usize::try_from(length).map_err(|_| BodyError::TooLarge)?;
    let first = if length <= EXACT_BYTES_MAX { length_usize } else { FIRST_BYTES.max(connection.buffer.len()) };
    body.budget.raise(first)?;
    body.bytes.reserve_exact(first);
    body.bytes.append(&mut connection.buffer);
    while body.bytes.len() < length_usize {
        if body.bytes.len() == body.bytes.capacity() {
            let larger = (body.bytes.capacity() * 2).min(length_usize);
            body.budget.raise(larger)?;
            body.bytes.reserve_exact(larger - body.bytes.len());
        }
        match recv(&*connection.socket, spare_capacity(&mut body.bytes), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(BodyError::Gone),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => pace.wait(connection, body.bytes.len())?,
            Err(_) => return Err(BodyError::Gone),
        }
    }
    // What came behind the body belongs to the next request.
    connection.buffer = body.bytes.split_off(length_usize);
    Ok(())
}

fn read_chunked(connection: &mut Connection, body: &mut Body, bytes_max: u64, pace: &Pace) -> Result<(), BodyError> {
    let mut decoder = Decoder::new();
    let mut input = std::mem::take(&mut connection.buffer);
    let mut received = input.len();
    loop {
        let mut at = 0;
        while at < input.len() && !decoder.is_done() {
            let (taken, data) = decoder.step(&input[at..]).map_err(|_| BodyError::Malformed)?;
            at += taken;
            if (body.bytes.len() + data.len()) as u64 > bytes_max {
                return Err(BodyError::TooLarge);
            }
            let wanted = body.bytes.len() + data.len();
            if wanted > body.bytes.capacity() {
                let larger = wanted.max(body.bytes.capacity() * 2).max(CHUNKED_READ_BYTES);
                body.budget.raise(larger)?;
                body.bytes.reserve_exact(larger - body.bytes.len());
            }
            body.bytes.extend_from_slice(data);
        }
        if decoder.is_done() {
            connection.buffer = input.split_off(at);
            return Ok(());
        }
        input.clear();
        input.reserve(CHUNKED_READ_BYTES);
        match recv(&*connection.socket, spare_capacity(&mut input), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(BodyError::Gone),
            Ok((_, length)) => received += length,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => pace.wait(connection, received)?,
            Err(_) => return Err(BodyError::Gone),
        }
    }
}

/// How fast a body must come.
struct Pace {
    start: Instant,
    grace: Duration,
    /// Bytes a second.
    rate_min: u64,
}

impl Pace {
    /// Waits for more, as long as `received` bytes justify.
    fn wait(&self, connection: &Connection, received: usize) -> Result<(), BodyError> {
        let earned = Duration::from_secs_f64(received as f64 / self.rate_min.max(1) as f64);
        let left = earned.max(self.grace).saturating_sub(self.start.elapsed());
        if left.is_zero() {
            return Err(BodyError::TooSlow);
        }
        let mut sockets = [PollFd::new(&*connection.socket, PollFlags::IN)];
        let time = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(&mut sockets, Some(&time)) {
            Ok(0) => Err(BodyError::TooSlow),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(_) => Err(BodyError::Gone),
        }
    }
}
