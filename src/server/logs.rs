//! `/admin/logs`: the last lines of the log, kept in memory, and the same live as an event stream.
//!
//! The lines are kept once, in a ring that all watchers read from, each at its own place. So a watcher costs no memory, and
//! one that is slower than the ring turns has lost lines, which it is told.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::invalid;
use super::requests::{given, number};
use super::session::Admin;
use super::watch::{LOOK_UP_EVERY, Outlet, Over, Watched, event};
use crate::model::time::{iso, now_ms};
use log::Level;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that are kept.
const LINES_MAX: usize = 2000;
/// Bytes of the lines that are kept, each counted with what it takes beside its text.
const BYTES_MAX: usize = 1024 * 1024;
/// What a line takes beside its text, in bytes.
const LINE_BYTES: usize = 128;
/// Lines of an answer that names no number.
const LIMIT: usize = 200;
/// Most lines of an answer.
const LIMIT_MAX: usize = 1000;
/// Longest text to look for, in characters.
const QUERY_CHARACTERS_MAX: usize = 200;
/// Lines that a watcher takes from the ring at a time.
const LINES_AT_A_TIME: usize = 64;

/// The log's last lines. There is one, as there is one log.
pub static LOG_TAIL: Tail = Tail::new();

/// A line of the log.
#[derive(Debug)]
struct Entry {
    id: u64,
    at_ms: i64,
    level: Level,
    target: String,
    message: String,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.target.len() + self.message.len() + LINE_BYTES
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "at": iso(self.at_ms),
            "level": self.level.as_str(),
            "target": self.target,
            "message": self.message,
        })
    }
}

/// A bounded ring of the log's last lines.
#[derive(Debug)]
pub struct Tail {
    ring: Mutex<Ring>,
    came: Condvar,
}

#[derive(Debug)]
struct Ring {
    lines: VecDeque<Arc<Entry>>,
    bytes: usize,
    /// Number of the first line of this process; 0 while there is none.
    first: u64,
    /// Number of the next line.
    next: u64,
    waiting: usize,
    /// Lines of ERROR and of WARN that have come since the start.
    errors: u64,
    warnings: u64,
}

impl Tail {
    const fn new() -> Tail {
        let ring = Ring { lines: VecDeque::new(), bytes: 0, first: 0, next: 0, waiting: 0, errors: 0, warnings: 0 };
        Tail { ring: Mutex::new(ring), came: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a line. Its message must be bounded, and hold nothing that the log must not.
    pub fn push(&self, level: Level, target: &str, message: &str) {
        let mut ring = self.lock();
        if ring.first == 0 {
            // Numbers go on growing over restarts: no process logs a thousand lines a millisecond.
            ring.first = u64::try_from(now_ms()).unwrap_or(1).saturating_mul(1024);
            ring.next = ring.first;
        }
        let entry =
            Entry { id: ring.next, at_ms: now_ms(), level, target: target.to_owned(), message: message.to_owned() };
        ring.next += 1;
        match level {
            Level::Error => ring.errors += 1,
            Level::Warn => ring.warnings += 1,
            _ => {}
        }
        ring.bytes += entry.bytes();
        ring.lines.push_back(Arc::new(entry));
        while ring.lines.len() > LINES_MAX || ring.bytes > BYTES_MAX {
            let Some(oldest) = ring.lines.pop_front() else { break };
            ring.bytes -= oldest.bytes();
        }
        if ring.waiting > 0 {
            self.came.notify_all();
        }
    }

    /// How many lines of ERROR and of WARN have come since the start.
    pub(crate) fn faults(&self) -> (u64, u64) {
        let ring = self.lock();
        (ring.errors, ring.warnings)
    }

    /// The number that the next line will have.
    fn next(&self) -> u64 {
        self.lock().next
    }

    /// The newest lines that fit, oldest first.
    fn newest(&self, filter: &Filter, limit: usize) -> (Vec<Arc<Entry>>, u64) {
        let ring = self.lock();
        let (all, last) = (ring.lines.clone(), ring.next.saturating_sub(1));
        // Looking for text takes longer than whoever logs should wait.
        drop(ring);
        let mut found: Vec<_> = all.into_iter().rev().filter(|line| filter.fits(line)).take(limit).collect();
        found.reverse();
        (found, last)
    }

    /// The lines from a place on, at most so many, after waiting for one for at most `time`; and how many there were that
    /// are not kept any more. The place moves behind what was given out.
    fn from(&self, place: &mut u64, time: Duration) -> (Vec<Arc<Entry>>, u64) {
        let mut ring = self.lock();
        if *place >= ring.next {
            // A place that no line has yet, which somebody made up.
            *place = ring.next;
            ring.waiting += 1;
            let (mut after, _) = self.came.wait_timeout(ring, time).unwrap_or_else(PoisonError::into_inner);
            after.waiting -= 1;
            ring = after;
        }
        let oldest = ring.lines.front().map_or(ring.next, |line| line.id);
        // Lines of an earlier process are not lost to this watcher: nobody could have them.
        let lost = if *place >= ring.first { oldest.saturating_sub(*place) } else { 0 };
        let from = (*place).max(oldest);
        let skipped = usize::try_from(from - oldest).unwrap_or(usize::MAX);
        let lines: Vec<_> = ring.lines.iter().skip(skipped).take(LINES_AT_A_TIME).cloned().collect();
        *place = from + lines.len() as u64;
        (lines, lost)
    }
}

/// Which lines are asked for.
struct Filter {
    /// This severe or worse.
    level: Level,
    /// What the message or the target contains, in small letters.
    text: Option<String>,
}

impl Filter {
    fn read(call: &Call) -> Result<Filter, Answer> {
        let level = given(call, "level").map(|name| name.parse::<Level>()).transpose();
        let level = level.map_err(|_| invalid("level must be error, warn, info, debug or trace"))?;
        let text = given(call, "q");
        if text.as_ref().is_some_and(|text| text.chars().count() > QUERY_CHARACTERS_MAX) {
            return Err(invalid(&format!("q must have at most {QUERY_CHARACTERS_MAX} characters")));
        }
        Ok(Filter { level: level.unwrap_or(Level::Trace), text: text.map(|text| text.to_lowercase()) })
    }

    fn fits(&self, line: &Entry) -> bool {
        let contains = |text: &str| line.message.to_lowercase().contains(text) || line.target.contains(text);
        line.level <= self.level && self.text.as_deref().is_none_or(contains)
    }
}

/// `GET /admin/logs`.
pub(crate) fn list(_: &Server, _: &Admin, call: &Call) -> Result<Answer, Answer> {
    let (filter, limit) = (Filter::read(call)?, number(call, "limit", LIMIT, LIMIT_MAX)?);
    let (lines, last) = LOG_TAIL.newest(&filter, limit);
    let lines: Vec<Value> = lines.iter().map(|line| line.json()).collect();
    Ok(Answer::data(json!({ "lines": lines, "last": last })))
}

/// `GET /admin/logs/stream`.
pub(crate) fn stream(_: &Server, call: &Call) -> Result<Watched, Answer> {
    let filter = Filter::read(call)?;
    let resumed = call.head.header("last-event-id").and_then(|id| std::str::from_utf8(id).ok()?.trim().parse().ok());
    let after = match given(call, "after") {
        _ if resumed.is_some() => resumed,
        None => None,
        Some(text) => Some(text.parse::<u64>().map_err(|_| invalid("after must be the id of a line"))?),
    };
    let place = after.map_or_else(|| LOG_TAIL.next(), |after| after.saturating_add(1));
    Ok(Watched::events(move |_, outlet| follow(outlet, &filter, place)))
}

fn follow(outlet: &mut Outlet<'_>, filter: &Filter, mut place: u64) -> Result<(), Over> {
    // The head must not wait for the first line.
    outlet.send(b": log\n\n")?;
    loop {
        let (lines, lost) = LOG_TAIL.from(&mut place, LOOK_UP_EVERY);
        let mut text = String::new();
        if lost > 0 {
            event(&mut text, "lost", None, &json!({ "lines": lost }));
        }
        for line in lines.iter().filter(|line| filter.fits(line)) {
            event(&mut text, "log", Some(line.id), &line.json());
        }
        if text.is_empty() {
            outlet.look_up()?;
            outlet.heartbeat()?;
        } else {
            outlet.send(text.as_bytes())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Filter {
        Filter { level: Level::Trace, text: None }
    }

    #[test]
    fn the_ring_is_bounded_in_lines_and_in_bytes() {
        let tail = Tail::new();
        for number in 0..LINES_MAX + 10 {
            tail.push(Level::Info, "t", &number.to_string());
        }
        let (lines, last) = tail.newest(&all(), usize::MAX);
        assert_eq!((lines.len(), lines[0].message.as_str(), lines[LINES_MAX - 1].id), (LINES_MAX, "10", last));
        for _ in 0..LINES_MAX {
            tail.push(Level::Info, "t", &"x".repeat(8192));
        }
        let ring = tail.lock();
        assert!(ring.bytes <= BYTES_MAX && ring.lines.len() > 100 && ring.lines.len() < 130, "{}", ring.lines.len());
        assert_eq!(ring.bytes, ring.lines.iter().map(|line| line.bytes()).sum::<usize>());
    }

    #[test]
    fn a_watcher_gets_every_line_or_is_told_how_many_it_lost() {
        let tail = Tail::new();
        tail.push(Level::Info, "t", "before");
        let mut place = tail.next();
        assert_eq!(tail.from(&mut place, Duration::ZERO).0.len(), 0);
        for number in 0..100 {
            tail.push(Level::Info, "t", &number.to_string());
        }
        let mut got = Vec::new();
        for _ in 0..3 {
            let (lines, lost) = tail.from(&mut place, Duration::ZERO);
            assert_eq!(lost, 0);
            got.extend(lines.iter().map(|line| line.message.clone()));
        }
        assert_eq!(got, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
        for number in 0..LINES_MAX + 7 {
            tail.push(Level::Info, "t", &number.to_string());
        }
        let (lines, lost) = tail.from(&mut place, Duration::ZERO);
        assert_eq!((lost, lines[0].message.as_str()), (7, "7"));
        // A place of an earlier process begins with what there is.
        let mut old = 5;
        assert_eq!(tail.from(&mut old, Duration::ZERO).1, 0);
        let mut future = u64::MAX;
        assert_eq!(tail.from(&mut future, Duration::ZERO).0.len(), 0);
    }

    #[test]
    fn lines_are_filtered_by_severity_and_text() {
        let tail = Tail::new();
        tail.push(Level::Error, "claude_relay::a", "Disk FULL");
        tail.push(Level::Debug, "claude_relay::b", "disk fine");
        let found = |level, text: &str| {
            let filter = Filter { level, text: Some(text.to_owned()).filter(|text| !text.is_empty()) };
            tail.newest(&filter, 10).0.len()
        };
        for (level, text, count) in [
            (Level::Error, "", 1),
            (Level::Trace, "", 2),
            (Level::Trace, "disk", 2),
            (Level::Trace, "full", 1),
            (Level::Trace, "relay::b", 1),
            (Level::Warn, "relay::b", 0),
        ] {
            assert_eq!(found(level, text), count, "{level} {text}");
        }
    }
}
