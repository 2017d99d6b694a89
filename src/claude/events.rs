//! Reads usage off a stream of server-sent events while its bytes pass by untouched.
//!
//! The scanner sees each piece as it came, in pieces cut anywhere, and neither changes nor holds it. It copies nothing but
//! the start of a line that a piece cuts and the data of the few events that tell of usage; both are bounded. What is longer
//! is skipped, never held, and the next event is read again. Lines are those of the HTML standard (9.2.6, "Interpreting an
//! event stream"): ended by LF, CR or CRLF, with an optional byte order mark in front of the first.

mod reading;

pub use reading::StreamError;

use super::usage::Usage;
use reading::{Kind, Reading, skim_kind};

/// The most that is held of one line, and of the data of one event, bytes. Longer ones exist (tool input, signatures); they
/// pass all the same, and none of those that tell of usage comes near.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Buffers above this are given back once their event is over, bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// What a piece has brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Set when this piece completes the event `message_stop`: the offset of the line end that completes it. The bytes
    /// before it may be sent at once; those from it on let the client see the message finish, so they wait until the bill
    /// is written. For CRLF it is the offset of the CR; the LF may be in the next piece.
    pub stop_at: Option<usize>,
}

/// Reads a stream piece by piece. What it has learned can be asked for at any time, also of a stream that was cut.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The start of a line that the last piece cut.
    partial: Vec<u8>,
    /// Whether the rest of the line in progress is passed over.
    is_skipping: bool,
    /// Whether the last piece ended with CR: an LF that follows belongs to it.
    ends_with_cr: bool,
    /// Whether any line has come: a byte order mark may only stand before the first.
    is_begun: bool,
    /// Whether the event in progress has a line.
    is_within: bool,
    /// What the `event:` field of the event in progress says.
    kind: Option<Kind>,
    /// The data of the event in progress, unless it is one that is passed over.
    data: Vec<u8>,
    has_data: bool,
    /// Whether data of the event in progress went past the bound, so that the rest cannot be read.
    is_oversize: bool,
    reading: Reading,
}

impl Scanner {
    /// A scanner at the start of a stream.
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// Takes note of the next piece.
    pub fn feed(&mut self, piece: &[u8]) -> Progress {
        let mut progress = Progress::default();
        let mut at = 0;
        if self.ends_with_cr && !piece.is_empty() {
            self.ends_with_cr = false;
            at = usize::from(piece[0] == b'\n');
        }
        while let Some(length) = line_end(&piece[at..]) {
            let end = at + length;
            let had_stopped = self.reading.saw_stop;
            self.take_line(&piece[at..end]);
            if self.reading.saw_stop && !had_stopped {
                progress.stop_at = Some(end);
            }
            at = end + 1;
            if piece[end] == b'\r' {
                match piece.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.ends_with_cr = true,
                }
            }
        }
        self.hold(&piece[at..]);
        progress
    }

    /// The model of the answer.
    pub fn model(&self) -> Option<&str> {
        self.reading.model.as_deref()
    }

    /// The upstream's identifier of the message.
    pub fn message_id(&self) -> Option<&str> {
        self.reading.message_id.as_deref()
    }

    /// What was reported so far.
    pub fn usage(&self) -> &Usage {
        &self.reading.usage
    }

    /// Whether `message_start` has come.
    pub fn saw_start(&self) -> bool {
        self.reading.saw_start
    }

    /// Whether `message_stop` has come: the only sign of a whole answer.
    pub fn saw_stop(&self) -> bool {
        self.reading.saw_stop
    }

    /// The last error event, if one has come. It may come after any other event, also after status 200.
    pub fn error(&self) -> Option<&StreamError> {
        self.reading.error.as_ref()
    }

    /// Whether the stream stands between two events: nothing has come since the last blank line, so that an event of the
    /// relay's own may be written.
    pub fn at_boundary(&self) -> bool {
        self.partial.is_empty() && !self.is_skipping && !self.is_within
    }

    /// Keeps the start of a line whose end is still to come, if the line may matter.
    fn hold(&mut self, rest: &[u8]) {
        if rest.is_empty() || self.is_skipping {
            return;
        }
        let start = if self.partial.is_empty() { rest } else { &self.partial };
        if field(start, b"data").is_some_and(|data| self.is_passed_over(data)) {
            self.kind = Some(Kind::Passed);
            self.skip();
        } else if self.partial.len() + rest.len() > EVENT_BYTES_MAX {
            self.is_oversize |= !start.starts_with(b":");
            self.skip();
        } else {
            self.partial.extend_from_slice(rest);
        }
    }

    fn skip(&mut self) {
        self.is_skipping = true;
        recycle(&mut self.partial);
    }

    /// Takes a line, or what was still missing of one.
    fn take_line(&mut self, end: &[u8]) {
        if !self.is_skipping && self.partial.is_empty() {
            // By far the most lines: whole within their piece, and read where they are.
            return self.read_line(end);
        }
        // Passes over the end, too, where the whole is too long or does not matter.
        self.hold(end);
        if std::mem::take(&mut self.is_skipping) {
            self.is_begun = true;
            self.is_within = true;
            return;
        }
        let mut line = std::mem::take(&mut self.partial);
        self.read_line(&line);
        recycle(&mut line);
        self.partial = line;
    }

    fn read_line(&mut self, line: &[u8]) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.is_begun => rest,
            _ => line,
        };
        self.is_begun = true;
        if line.is_empty() {
            return self.end_event();
        }
        self.is_within = true;
        // Comments, `id:`, `retry:` and what is unknown say nothing here.
        if let Some(name) = field(line, b"event") {
            self.kind = Some(Kind::of(name));
        } else if let Some(data) = field(line, b"data") {
            self.take_data(data);
        }
    }

    fn take_data(&mut self, data: &[u8]) {
        if self.is_passed_over(data) {
            self.kind = Some(Kind::Passed);
            return;
        }
        if self.data.len() + data.len() >= EVENT_BYTES_MAX {
            self.is_oversize = true;
        }
        if self.is_oversize {
            return;
        }
        // Several data lines of one event are one text, with line feeds in between.
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(data);
    }

    /// Whether data, or what is there of it, belongs to one of the many events that tell of no usage. Where the event has no
    /// name that says so, the first bytes of its data do: a delta is never parsed.
    fn is_passed_over(&self, data: &[u8]) -> bool {
        match self.kind {
            Some(Kind::Passed) => true,
            None | Some(Kind::Unknown) => !self.has_data && skim_kind(data) == Some(Kind::Passed),
            Some(_) => false,
        }
    }

    /// A blank line: the event is complete.
    fn end_event(&mut self) {
        let kind = self.kind.take();
        let is_readable = std::mem::take(&mut self.has_data) && !std::mem::take(&mut self.is_oversize);
        self.is_oversize = false;
        self.is_within = false;
        if kind != Some(Kind::Passed) {
            self.reading.take_event(kind, if is_readable { &self.data } else { &[] });
        }
        recycle(&mut self.data);
    }
}

/// Empties a buffer, and gives its memory back if one large event has blown it up.
fn recycle(buffer: &mut Vec<u8>) {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES_MAX);
}

/// Where a line ends: at the first CR or LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The value of a field of this name, one blank behind the colon removed.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match line.strip_prefix(name)? {
        [] => Some(&[]),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
