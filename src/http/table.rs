//! Who has which connection. A connection that lies in the table is the door's; one that was taken out belongs to whoever
//! took it, and nobody else can touch it. Also the count of open connections, in all and per address.
//!
//! Sockets stay registered with epoll all their life, one-shot: an event disarms them, `lay_down` arms them again. An
//! event says only that looking may be worth while: by then the slot may be empty or hold another connection.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::fd::OwnedFd;

use super::conn::{Conn, Inbox, Phase};
use super::figures::Figures;
use super::head::Scanner;
use super::{Limits, lock};

const INTEREST: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ONESHOT);

/// All connections of the door.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) epoll: OwnedFd,
    slots: Vec<Mutex<Option<Box<Conn>>>>,
    register: Arc<Register>,
    /// Requests may no longer wait here; connections that are closing may.
    is_stopping: AtomicBool,
    /// Nothing may lie here: no door looks at it any more.
    is_shut: AtomicBool,
}

/// Why a connection was not taken in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    AddressFull,
    Epoll,
}

impl Table {
    pub(super) fn new(limits: &Limits, figures: Arc<Figures>) -> std::io::Result<Table> {
        let size = limits.connections_max.max(1);
        Ok(Table {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: (0..size).map(|_| Mutex::new(None)).collect(),
            register: Arc::new(Register {
                free: Mutex::new((0..size).rev().collect()),
                addresses: Mutex::new(HashMap::new()),
                per_address_max: limits.connections_per_address_max,
                figures,
            }),
            is_stopping: AtomicBool::new(false),
            is_shut: AtomicBool::new(false),
        })
    }

    pub(super) fn size(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_full(&self) -> bool {
        lock(&self.register.free).is_empty()
    }

    /// Takes an accepted connection in and waits for its first head until `deadline`.
    pub(super) fn take_in(&self, stream: TcpStream, peer: SocketAddr, deadline: Instant) -> Result<(), Refusal> {
        let place = Register::claim(&self.register, peer.ip())?;
        let slot = place.slot;
        let stream = Arc::new(stream);
        let (inbox, scanner) = (Inbox::default(), Scanner::default());
        let conn = Conn { stream, peer, inbox, scanner, phase: Phase::Fresh, deadline, place };
        let mut entry = lock(&self.slots[slot]);
        let conn = entry.insert(Box::new(conn));
        if epoll::add(&self.epoll, &*conn.stream, EventData::new_u64(slot as u64), INTEREST).is_err() {
            let conn = entry.take();
            drop(entry);
            drop(conn);
            return Err(Refusal::Epoll);
        }
        Ok(())
    }

    /// Gives a connection to the door, from any thread, without waking it: arming makes epoll look at once whether bytes
    /// came meanwhile. First it lies down, then it is armed, both under the slot's lock, so that the event finds it.
    pub(super) fn lay_down(&self, conn: Box<Conn>) {
        let slot = conn.place.slot;
        let mut entry = lock(&self.slots[slot]);
        let is_closing = matches!(conn.phase, Phase::Closing { .. });
        if self.is_shut.load(SeqCst) || (self.is_stopping.load(SeqCst) && !is_closing) {
            drop(entry);
            drop(conn);
            return;
        }
        let conn = entry.insert(conn);
        if epoll::modify(&self.epoll, &*conn.stream, EventData::new_u64(slot as u64), INTEREST).is_err() {
            let conn = entry.take();
            drop(entry);
            drop(conn);
        }
    }

    /// Takes a connection out, if one lies there.
    pub(super) fn take(&self, slot: usize) -> Option<Box<Conn>> {
        self.take_if(slot, |_| true)
    }

    /// Takes a connection out if it lies there and `wanted` says so.
    pub(super) fn take_if(&self, slot: usize, wanted: impl FnOnce(&Conn) -> bool) -> Option<Box<Conn>> {
        let mut entry = lock(self.slots.get(slot)?);
        if entry.as_ref().is_some_and(|conn| wanted(conn)) { entry.take() } else { None }
    }

    /// Closes all connections on which no answer is on its way, and refuses them from now on.
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, SeqCst);
        for slot in 0..self.size() {
            drop(self.take_if(slot, |conn| !matches!(conn.phase, Phase::Closing { .. })));
        }
    }

    /// Closes all connections that lie here, and refuses any from now on.
    pub(super) fn shut(&self) {
        self.is_shut.store(true, SeqCst);
        for slot in 0..self.size() {
            drop(self.take(slot));
        }
    }
}

/// Which slots are free, and how many connections each address has.
#[derive(Debug)]
struct Register {
    /// The slot that was freed last is taken first.
    free: Mutex<Vec<usize>>,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    per_address_max: usize,
    figures: Arc<Figures>,
}

impl Register {
    fn claim(register: &Arc<Register>, address: IpAddr) -> Result<Place, Refusal> {
        let network = network(address);
        if register.per_address_max > 0 {
            let mut addresses = lock(&register.addresses);
            let count = addresses.entry(network).or_insert(0);
            if *count >= register.per_address_max {
                return Err(Refusal::AddressFull);
            }
            *count += 1;
        }
        let Some(slot) = lock(&register.free).pop() else {
            register.leave(network);
            return Err(Refusal::Full);
        };
        register.figures.connections.fetch_add(1, Relaxed);
        Ok(Place { slot, network, register: register.clone() })
    }

    fn leave(&self, network: IpAddr) {
        if self.per_address_max == 0 {
            return;
        }
        let mut addresses = lock(&self.addresses);
        if let Some(count) = addresses.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&network);
            }
        }
    }
}

/// What counts as one address: an IPv6 client owns a whole /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

/// A connection's right to be open. Dropping it frees the slot.
#[derive(Debug)]
pub(super) struct Place {
    slot: usize,
    network: IpAddr,
    register: Arc<Register>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.register.leave(self.network);
        lock(&self.register.free).push(self.slot);
        self.register.figures.connections.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_per_address() {
        let limits = Limits { connections_max: 3, connections_per_address_max: 2, ..Limits::default() };
        let table = Table::new(&limits, Arc::default()).unwrap();
        let claim = |address: &str| Register::claim(&table.register, address.parse().unwrap());
        let first = claim("2001:db8::1").unwrap();
        let _second = claim("2001:db8::2").unwrap();
        assert_eq!(claim("2001:db8::3").unwrap_err(), Refusal::AddressFull);
        let _third = claim("10.0.0.1").unwrap();
        assert_eq!(claim("::ffff:10.0.0.1").unwrap_err(), Refusal::Full);
        drop(first);
        assert!(claim("2001:db8::3").is_ok());
        drop((_second, _third));
        assert!(lock(&table.register.addresses).is_empty());
        assert_eq!(table.register.figures.connections_open(), 0);
    }
}
