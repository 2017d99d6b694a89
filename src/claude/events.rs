//! Reads usage off a stream of server-sent events while its bytes pass by untouched.
//!
//! The scanner sees each piece after the fact: it takes over nothing but the start of a line that a piece cuts, and it looks
//! inside four kinds of events only. A line longer than the bound is skipped, never held.

use super::usage::{Usage, Wire};
use serde::Deserialize;
use std::borrow::Cow;

/// The longest line that is read for its usage. Longer ones exist (tool input, signatures) and pass all the same.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// An `error` event of the upstream.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamError {
    /// `error.type`.
    pub kind: String,
    /// `error.message`.
    pub message: String,
}

/// What a piece has brought.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Where in this piece the event `message_stop` became complete: the offset behind the line end that dispatches it.
    /// What completes an answer must not be sent before its bill is written.
    pub stop_at: Option<usize>,
}

/// The events that tell of usage.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Start,
    Delta,
    Stop,
    Error,
    /// Any other: passed over unread.
    Other,
}

/// Reads a stream piece by piece.
#[derive(Debug, Default)]
pub struct Scanner {
    /// The start of a line that the last piece cut.
    partial: Vec<u8>,
    /// Whether the line in progress has outgrown the bound.
    is_skipping: bool,
    /// Whether the last piece ended with CR: an LF that follows belongs to it.
    ends_with_cr: bool,
    /// What the `event:` field of the event in progress says.
    kind: Option<Kind>,
    /// The data of the event in progress, if it may be one of those that are read.
    data: Vec<u8>,
    has_data: bool,
    /// Whether the event in progress has any field yet.
    is_within: bool,
    /// Whether anything has come at all: a byte order mark may only stand before it.
    is_begun: bool,
    model: Option<String>,
    usage: Usage,
    saw_start: bool,
    saw_stop: bool,
    error: Option<StreamError>,
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
            let (line, end) = (&piece[at..at + length], at + length);
            at = end + 1;
            if piece[end] == b'\r' {
                match piece.get(at) {
                    Some(b'\n') => at += 1,
                    Some(_) => {}
                    None => self.ends_with_cr = true,
                }
            }
            let had_stopped = self.saw_stop;
            self.take_line(line);
            if self.saw_stop && !had_stopped {
                progress.stop_at = Some(at);
            }
        }
        self.hold(&piece[at..]);
        progress
    }

    /// The model of the answer.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// What was reported so far.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// Whether `message_start` has come.
    pub fn saw_start(&self) -> bool {
        self.saw_start
    }

    /// Whether `message_stop` has come: the only sign of a whole answer.
    pub fn saw_stop(&self) -> bool {
        self.saw_stop
    }

    /// The error event, if one has come.
    pub fn error(&self) -> Option<&StreamError> {
        self.error.as_ref()
    }

    /// Whether the stream stands between two events, so that another one may be written.
    pub fn at_boundary(&self) -> bool {
        self.partial.is_empty() && !self.is_skipping && !self.is_within
    }

    /// Keeps the start of a line whose end is still to come.
    fn hold(&mut self, rest: &[u8]) {
        if rest.is_empty() || self.is_skipping {
            return;
        }
        if self.partial.len() + rest.len() > LINE_BYTES_MAX {
            self.partial = Vec::new();
            self.is_skipping = true;
            return;
        }
        self.partial.extend_from_slice(rest);
    }

    fn take_line(&mut self, end: &[u8]) {
        if self.is_skipping {
            self.is_skipping = false;
            // Its content is unknown, but the event in progress has a field now.
            self.is_within = true;
            return;
        }
        if self.partial.is_empty() {
            return self.read_line(end);
        }
        let mut line = std::mem::take(&mut self.partial);
        if line.len() + end.len() <= LINE_BYTES_MAX {
            line.extend_from_slice(end);
            self.read_line(&line);
        } else {
            self.is_within = true;
        }
        line.clear();
        // Kept for the next cut line, unless one huge line has made it large.
        if line.capacity() <= 64 * 1024 {
            self.partial = line;
        }
    }

    fn read_line(&mut self, line: &[u8]) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.is_begun => rest,
            _ => line,
        };
        self.is_begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        self.is_within = true;
        if let Some(name) = field(line, b"event") {
            self.kind = Some(match name {
                b"message_start" => Kind::Start,
                b"message_delta" => Kind::Delta,
                b"message_stop" => Kind::Stop,
                b"error" => Kind::Error,
                _ => Kind::Other,
            });
        } else if let Some(data) = field(line, b"data") {
            self.take_data(data);
        }
    }

    /// Keeps data only of an event that may be one of those that are read.
    fn take_data(&mut self, data: &[u8]) {
        let may_matter = match self.kind {
            Some(kind) => kind != Kind::Other,
            // Without a name the data itself says what it is; its start tells the many deltas apart without a parse.
            None => self.has_data || !mentions_content(data),
        };
        if !may_matter || self.data.len() + data.len() > LINE_BYTES_MAX {
            return;
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.has_data = true;
        self.data.extend_from_slice(data);
    }

    /// A blank line: the event is complete.
    fn dispatch(&mut self) {
        let kind = self.kind.take();
        self.is_within = false;
        if std::mem::take(&mut self.has_data) {
            let data = std::mem::take(&mut self.data);
            self.read_event(kind, &data);
            if data.capacity() <= 64 * 1024 {
                self.data = data;
                self.data.clear();
            }
        } else if kind == Some(Kind::Stop) {
            self.saw_stop = true;
        }
    }

    fn read_event(&mut self, kind: Option<Kind>, data: &[u8]) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            // Data that cannot be read still ends the message if its name says so.
            self.saw_stop |= kind == Some(Kind::Stop);
            return;
        };
        let kind = kind.unwrap_or(match event.r#type.as_deref() {
            Some("message_start") => Kind::Start,
            Some("message_delta") => Kind::Delta,
            Some("message_stop") => Kind::Stop,
            Some("error") => Kind::Error,
            _ => Kind::Other,
        });
        match kind {
            Kind::Start => {
                self.saw_start = true;
                if let Some(message) = event.message {
                    self.model = message.model.or(self.model.take());
                    self.usage.merge(message.usage.unwrap_or_default());
                }
            }
            Kind::Delta => self.usage.merge(event.usage.unwrap_or_default()),
            Kind::Stop => self.saw_stop = true,
            Kind::Error => {
                let error = event.error.unwrap_or_default();
                self.error = Some(StreamError {
                    kind: error.r#type.unwrap_or_default(),
                    message: error.message.unwrap_or_default(),
                });
            }
            Kind::Other => {}
        }
    }
}

/// Where a line ends: at the first CR or LF.
fn line_end(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r'))
}

/// The value of a field of this name, one blank behind the colon removed.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(name)?;
    match rest {
        [] => Some(rest),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// Whether data begins like a content event or a ping, which tell of no usage.
fn mentions_content(data: &[u8]) -> bool {
    let start = &data[..data.len().min(64)];
    let is_in = |text: &[u8]| start.windows(text.len()).any(|window| window == text);
    is_in(b"\"content_block") || is_in(b"\"ping\"")
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default)]
    r#type: Option<Cow<'a, str>>,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    usage: Option<Wire>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Message {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Wire>,
}

#[derive(Default, Deserialize)]
struct Failure {
    #[serde(default)]
    r#type: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A recorded answer: thinking, text of several scripts, a tool call, pings, an unknown event, two deltas.
    const RECORDED: &str = include_str!("../../tests/fixtures/stream.sse");

    fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Scanner {
        let mut scanner = Scanner::new();
        for piece in pieces {
            scanner.feed(piece);
        }
        scanner
    }

    fn facts(scanner: &Scanner) -> (Option<&str>, [u64; 6], bool, bool, bool) {
        let usage = scanner.usage();
        let counts = [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_creation_5m_input_tokens,
            usage.cache_creation_1h_input_tokens,
            usage.cache_read_input_tokens,
            usage.web_search_requests,
        ];
        (scanner.model(), counts, scanner.saw_start(), scanner.saw_stop(), scanner.at_boundary())
    }

    const EXPECTED: (Option<&str>, [u64; 6], bool, bool, bool) =
        (Some("claude-sonnet-4-5-20250929"), [472, 311, 1000, 2000, 30_000, 1], true, true, true);

    fn variants() -> Vec<Vec<u8>> {
        let crlf = RECORDED.replace('\n', "\r\n");
        let cr = RECORDED.replace('\n', "\r");
        let unnamed: String =
            RECORDED.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
        let tight = RECORDED.replace("data: ", "data:").replace("event: ", "event:");
        let marked = format!("\u{feff}{RECORDED}");
        [RECORDED.to_owned(), crlf, cr, unnamed, tight, marked].map(String::into_bytes).to_vec()
    }

    #[test]
    fn a_stream_cut_at_any_byte_gives_the_same_reading() {
        for stream in variants() {
            assert_eq!(facts(&scan([&stream[..]])), EXPECTED);
            assert_eq!(facts(&scan(stream.chunks(1))), EXPECTED);
            for at in 0..stream.len() {
                let (one, two) = stream.split_at(at);
                assert_eq!(facts(&scan([one, two])), EXPECTED, "cut at {at}");
            }
            for size in [2, 3, 7, 64, 1000] {
                assert_eq!(facts(&scan(stream.chunks(size))), EXPECTED, "pieces of {size}");
            }
        }
    }

    #[test]
    fn the_stop_is_told_in_the_piece_that_completes_it() {
        for stream in variants() {
            let mut scanner = Scanner::new();
            let mut stops = Vec::new();
            for (at, piece) in stream.chunks(1).enumerate() {
                if scanner.feed(piece).stop_at.is_some() {
                    stops.push(at);
                }
            }
            // With CRLF the CR of the blank line already completes the event.
            assert_eq!(stops.len(), 1);
            assert!(stops[0] + 2 >= stream.len() - 1);
            let whole = Scanner::new().feed(&stream).stop_at.unwrap();
            assert!(whole == stream.len(), "{whole} of {}", stream.len());
        }
    }

    #[test]
    fn an_unfinished_stream_tells_what_was_reported_so_far() {
        let start = RECORDED.find("\n\n").unwrap() + 2;
        let scanner = scan([&RECORDED.as_bytes()[..start]]);
        assert!(scanner.saw_start() && !scanner.saw_stop() && scanner.at_boundary());
        assert_eq!((scanner.usage().input_tokens, scanner.usage().output_tokens), (472, 2));
        let scanner = scan([&RECORDED.as_bytes()[..start + 10]]);
        assert!(!scanner.at_boundary());
        assert!(scan([&b"event: message_sto"[..]]).usage() == &Usage::default());
    }

    #[test]
    fn a_line_past_the_bound_is_skipped_and_the_next_events_are_read() {
        let huge = format!("event: content_block_delta\ndata: {}\n\n", "x".repeat(3 * LINE_BYTES_MAX));
        for name in ["content_block_delta", "message_delta"] {
            let at = RECORDED.find("event: message_delta").unwrap();
            let stream = [&RECORDED[..at], &huge.replace("content_block_delta", name), &RECORDED[at..]].concat();
            let mut scanner = Scanner::new();
            for piece in stream.as_bytes().chunks(16 * 1024) {
                scanner.feed(piece);
                assert!(scanner.partial.len() <= LINE_BYTES_MAX && scanner.data.len() <= LINE_BYTES_MAX);
            }
            assert_eq!(facts(&scanner), EXPECTED);
        }
    }

    #[test]
    fn an_error_event_is_kept_and_strange_lines_are_nothing() {
        let scanner = scan([&b": comment\nretry: 3\nevent: error\ndata: {\"type\":\"error\",\ndata: \"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\nwhat is this\n\ndata\n\ndata: [DONE]\n\n"[..]]);
        let expected = StreamError { kind: "overloaded_error".into(), message: "Overloaded".into() };
        assert_eq!(scanner.error(), Some(&expected));
        assert!(!scanner.saw_stop() && scanner.at_boundary());
    }

    #[test]
    fn usage_that_comes_only_at_the_end_is_read() {
        let stream = "data: {\"type\":\"message_start\",\"message\":{\"model\":\"m\"}}\n\ndata: {\"type\":\"message_delta\",\"delta\":{},\"usage\":{\"input_tokens\":5,\"output_tokens\":6,\"cache_read_input_tokens\":7}}\n\n";
        let scanner = scan([stream.as_bytes()]);
        assert_eq!(facts(&scanner), (Some("m"), [5, 6, 0, 0, 7, 0], true, false, true));
    }
}
