//! A client of event streams.

use super::Relay;
use super::client::Connection;
use serde_json::Value;
use std::time::{Duration, Instant};

/// An open event stream.
pub struct Events {
    pub connection: Connection,
    text: String,
}

/// An event, or a comment, which has no name.
#[derive(Debug)]
pub struct Event {
    pub name: String,
    pub id: Option<u64>,
    pub data: Value,
}

impl Events {
    /// Opens a stream as the admin.
    pub fn open(relay: &Relay, target: &str) -> Events {
        let bearer = format!("Bearer {}", relay.token());
        Events::over(Connection::open(relay.address), target, &[("Authorization", &bearer)])
    }

    /// Opens a stream on a connection.
    pub fn over(mut connection: Connection, target: &str, fields: &[(&str, &str)]) -> Events {
        connection.request("GET", target, fields, b"");
        let head = connection.head().unwrap();
        assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream; charset=utf-8")));
        assert_eq!(head.field("x-accel-buffering"), Some("no"));
        Events { connection, text: String::new() }
    }

    /// The next event or comment; `None` when the stream has ended, well or not.
    pub fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let mut found = Event { name: String::new(), id: None, data: Value::Null };
                for line in event.lines() {
                    match line.split_once(": ").unwrap_or((line, "")) {
                        ("event", name) => found.name = name.to_owned(),
                        ("id", id) => found.id = Some(id.parse().unwrap()),
                        ("data", data) => found.data = serde_json::from_str(data).unwrap(),
                        ("", comment) => found.data = comment.into(),
                        _ => panic!("{line}"),
                    }
                }
                self.text = rest.to_owned();
                return Some(found);
            }
            self.text.push_str(std::str::from_utf8(&self.connection.chunk().ok()??).unwrap());
        }
    }

    /// The next event that is no comment.
    pub fn event(&mut self) -> Event {
        loop {
            let event = self.next().expect("the stream goes on");
            if !event.name.is_empty() {
                return event;
            }
        }
    }

    /// Passes over events until one fits, for at most ten seconds.
    pub fn until(&mut self, what: &str, mut fits: impl FnMut(&Event) -> bool) -> Event {
        let start = Instant::now();
        loop {
            let event = self.event();
            if fits(&event) {
                return event;
            }
            assert!(start.elapsed() < Duration::from_secs(10), "never came: {what}");
        }
    }
}
