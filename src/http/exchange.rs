//! One request and its answer, in the hands of a worker.

use super::Pool;
use super::body::{self, Body, BodyError};
use super::connection::{Client, Connection};
use super::fields::Fields;
use super::front::Front;
use super::head::Head;
use super::pool::Job;
use super::reply::{self, Reply};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// A place in a pool, given back early or on drop.
pub(super) struct Place {
    front: Arc<Front>,
    pool: Pool,
    is_taken: bool,
}

impl Place {
    /// Gives the place back. Done before the last bytes of an answer go out: a client that has them may come again at
    /// once, and must not be refused because this worker has not yet turned around.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.is_taken) {
            self.front.queue(self.pool).leave();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

/// A request that a worker serves.
pub struct Exchange {
    pub(super) front: Arc<Front>,
    pub(super) connection: Option<Box<Connection>>,
    pub(super) head: Arc<Head>,
    pub(super) place: Place,
    /// Whether bytes of the request's body may still come: then no further request can follow.
    pub(super) is_unread: bool,
}

impl Exchange {
    pub(super) fn new(front: Arc<Front>, pool: Pool, job: Job) -> Exchange {
        let place = Place { front: Arc::clone(&front), pool, is_taken: true };
        let is_unread = job.head.has_body();
        Exchange { front, connection: Some(job.connection), head: job.head, place, is_unread }
    }

    /// The request's head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The request's head, to be kept when the exchange is used up.
    pub fn head_arc(&self) -> Arc<Head> {
        Arc::clone(&self.head)
    }

    /// The other end of the connection: the client, or the reverse proxy in front.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.connection.as_ref().map(|connection| connection.peer)
    }

    /// The client's socket, to be watched while the worker waits for something else.
    pub fn client(&self) -> Option<Client> {
        self.connection.as_ref().map(|connection| connection.client())
    }

    /// Reads the whole body, at most `bytes_max` bytes. Who expects `100 Continue` is told now.
    ///
    /// # Errors
    /// It is too large, too slow, malformed or cut, or there is no memory for it.
    pub fn read_body(&mut self, bytes_max: u64) -> Result<Body, BodyError> {
        let connection = self.connection.as_mut().ok_or(BodyError::Gone)?;
        let body = body::read(&self.front, connection, &self.head, bytes_max)?;
        self.is_unread = false;
        Ok(body)
    }

    /// Gives a whole answer, head and body in one write.
    ///
    /// # Errors
    /// The client does not take it.
    pub fn answer(mut self, status: u16, fields: Fields, body: &[u8]) -> io::Result<()> {
        let Some(connection) = self.connection.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let may_stay = self.may_stay();
        match reply::send_whole(&connection, &self.head, status, &fields, body, may_stay, &mut self.place) {
            Ok(()) => {
                self.front.release(connection, may_stay);
                Ok(())
            }
            Err(error) => {
                self.front.abort(connection);
                Err(error)
            }
        }
    }

    /// Begins an answer whose body comes in pieces. With a length, exactly that many bytes must be written; without, the
    /// body is chunked (HTTP/1.0: ends with the connection).
    pub fn begin(mut self, status: u16, fields: Fields, length: Option<u64>) -> Reply {
        let connection = self.connection.take();
        Reply::new(self, connection, status, &fields, length)
    }

    /// Whether another request may follow on this connection.
    pub(super) fn may_stay(&self) -> bool {
        self.head.allows_keep_alive() && !self.is_unread && !self.front.is_stopping()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        self.place.leave();
        if std::thread::panicking() {
            return self.front.abort(connection);
        }
        log::error!("a request was left without an answer");
        let canned = super::Canned { status: 500, fields: Fields::new(), body: Vec::new() };
        self.front.refuse(connection, &canned, false);
    }
}
