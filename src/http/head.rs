//! Request heads: finding where one ends, and reading it strictly (RFC 9112, sections 2 to 7).
//!
//! Strict means: where two readers could disagree about where a request ends, the request is refused. That is what
//! keeps a proxy in front of us and ourselves from seeing different requests in the same bytes (request smuggling).
//! No sockets here, and no knowledge of what a path or a header is for beyond framing.

use std::ops::Range;

use super::Fault;

const fn fault(status: u16, message: &'static str) -> Fault {
    Fault { status, message }
}

/// What a look at the bytes of a head so far has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The head goes on.
    Incomplete,
    /// The head is the first so many bytes, its empty line included.
    Complete(usize),
    /// It can become no head that we would serve.
    Refused(Fault),
}

/// Looks for the end of a head while it comes in, and reads every byte once only.
#[derive(Debug, Default, Clone)]
pub(super) struct Scanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

impl Scanner {
    /// Whether no byte of the head was looked at.
    pub(super) fn is_at_start(&self) -> bool {
        self.scanned == 0
    }

    /// Looks at the bytes that came since the last call. `bytes` starts where the head starts, each time.
    pub(super) fn step(&mut self, bytes: &[u8], bytes_max: usize, fields_max: usize) -> Scan {
        // A TLS greeting, say, holds no line end for a long while: its first byte tells.
        if self.scanned == 0 && bytes.first().is_some_and(|byte| !is_token_byte(*byte)) {
            return Scan::Refused(fault(400, "The request does not begin with a method."));
        }
        let window = &bytes[..bytes.len().min(bytes_max)];
        while let Some(at) = window[self.scanned..].iter().position(|byte| *byte == b'\n') {
            let newline = self.scanned + at;
            if newline == self.line_start || window[newline - 1] != b'\r' {
                return Scan::Refused(fault(400, "A line of the request head does not end with CR LF."));
            }
            let is_empty = newline == self.line_start + 1;
            self.scanned = newline + 1;
            self.line_start = self.scanned;
            if is_empty {
                return Scan::Complete(self.scanned);
            }
            self.lines += 1;
            // The request line is the first of them.
            if self.lines > fields_max + 1 {
                return Scan::Refused(fault(431, "The request has too many header fields."));
            }
        }
        self.scanned = window.len();
        if window.len() == bytes_max {
            return Scan::Refused(fault(431, "The request head is too large."));
        }
        Scan::Incomplete
    }
}

/// Where one header field lies in the head's bytes. A head is far smaller than 4 GiB.
#[derive(Debug, Clone, Copy)]
struct Field {
    name_start: u32,
    name_end: u32,
    value_start: u32,
    value_end: u32,
}

/// The head of one request: method, target, header fields, and what they say about the body.
#[derive(Debug)]
pub struct Head {
    raw: Vec<u8>,
    method: Range<usize>,
    target: Range<usize>,
    fields: Vec<Field>,
    framing: Framing,
}

/// What the fields of a head say about the message and the connection.
#[derive(Debug, Default, Clone, Copy)]
struct Framing {
    is_http_1_0: bool,
    content_length: Option<u64>,
    is_chunked: bool,
    expects_continue: bool,
    says_close: bool,
    says_keep_alive: bool,
}

impl Head {
    /// Reads a whole head, its empty line included, as `Scanner` found it.
    pub fn parse(raw: &[u8]) -> Result<Head, Fault> {
        let mut raw = raw.to_vec();
        let line_end =
            raw.windows(2).position(|pair| pair == b"\r\n").ok_or(fault(400, "The request has no request line."))?;
        let (method, target, is_http_1_0) = request_line(&raw[..line_end])?;
        let fields = field_lines(&raw, line_end + 2)?;
        let target = normal_target(&mut raw, &method, target)?;
        let mut head = Head { raw, method, target, fields, framing: Framing::default() };
        head.framing = framing(&head, is_http_1_0)?;
        Ok(head)
    }

    /// The method as sent, in the client's case (methods are case-sensitive, RFC 9110 section 9.1).
    pub fn method(&self) -> &str {
        text(&self.raw[self.method.clone()])
    }

    /// The target as sent, `/path?query`, visible ASCII only and not decoded. The absolute form
    /// (`http://host/path`, RFC 9112 section 3.2.2) is reduced to this one; for OPTIONS it may be `*`.
    pub fn target(&self) -> &str {
        text(&self.raw[self.target.clone()])
    }

    /// The target up to its first `?`.
    pub fn path(&self) -> &str {
        self.target().split_once('?').map_or(self.target(), |(path, _)| path)
    }

    /// What follows the first `?` of the target; `Some("")` if nothing does.
    pub fn query(&self) -> Option<&str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The value of the first field of that name, whatever the case of either, without the space around it.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All fields, in order, names in the client's case. Values hold no control bytes but HTAB; they may hold
    /// bytes above 0x7f.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            (
                text(&self.raw[field.name_start as usize..field.name_end as usize]),
                &self.raw[field.value_start as usize..field.value_end as usize],
            )
        })
    }

    /// Whether the client speaks HTTP/1.0; else it is 1.1.
    pub fn is_http_1_0(&self) -> bool {
        self.framing.is_http_1_0
    }

    /// The announced length of the body in bytes. It may be any number: never reserve memory by it.
    pub fn content_length(&self) -> Option<u64> {
        self.framing.content_length
    }

    /// Whether the body comes in chunks (RFC 9112 section 7.1), its length unknown.
    pub fn is_chunked(&self) -> bool {
        self.framing.is_chunked
    }

    /// Whether at least one byte of body framing follows the head. Without a length and without chunks there is no
    /// body (RFC 9112 section 6.3).
    pub fn has_body(&self) -> bool {
        self.is_chunked() || self.content_length().is_some_and(|length| length > 0)
    }

    pub(super) fn is_head_method(&self) -> bool {
        self.method() == "HEAD"
    }

    /// Whether the client waits to be told to send its body.
    pub fn expects_continue(&self) -> bool {
        self.framing.expects_continue
    }

    /// Whether the client lets the connection stay open after the answer (RFC 9112 section 9.3).
    pub(super) fn allows_keep_alive(&self) -> bool {
        !self.framing.says_close && (!self.framing.is_http_1_0 || self.framing.says_keep_alive)
    }
}

/// Text that was checked to be ASCII when the head was read.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// A byte of a token (RFC 9110 section 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Method and target of a request line, and whether the version is 1.0 (RFC 9112 section 3).
fn request_line(line: &[u8]) -> Result<(Range<usize>, Range<usize>, bool), Fault> {
    const SHAPE: Fault = fault(400, "The request line is not of the form METHOD TARGET HTTP/1.1.");
    let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(SHAPE);
    };
    let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
    if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
        return Err(fault(400, "The method is not a token."));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) || target.contains(&b'#') {
        return Err(fault(400, "The request target holds bytes that do not belong there."));
    }
    let is_http_1_0 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            return Err(fault(505, "Only HTTP/1.1 and HTTP/1.0 are served here."));
        }
        _ => return Err(SHAPE),
    };
    Ok((0..first, first + 1..second, is_http_1_0))
}

/// The field lines from `start` to the empty line. httparse refuses obs-fold, space before the colon, names that are
/// no tokens and control bytes in values; bare LF never gets here.
fn field_lines(raw: &[u8], start: usize) -> Result<Vec<Field>, Fault> {
    const BAD: Fault = fault(400, "A header field is malformed.");
    let lines = raw[start..].iter().filter(|byte| **byte == b'\n').count();
    let mut parsed = vec![httparse::EMPTY_HEADER; lines];
    let Ok(httparse::Status::Complete((length, parsed))) = httparse::parse_headers(&raw[start..], &mut parsed) else {
        return Err(BAD);
    };
    if start + length != raw.len() {
        return Err(BAD);
    }
    let offset = |part: &[u8]| (part.as_ptr() as usize).wrapping_sub(raw.as_ptr() as usize);
    let mut fields = Vec::with_capacity(parsed.len());
    for header in parsed.iter() {
        let value = header.value.trim_ascii();
        // An empty value may point anywhere.
        let value_start = if value.is_empty() { 0 } else { offset(value) };
        let name_start = offset(header.name.as_bytes());
        let at = |position: usize| u32::try_from(position).map_err(|_| BAD);
        let field = Field {
            name_start: at(name_start)?,
            name_end: at(name_start + header.name.len())?,
            value_start: at(value_start)?,
            value_end: at(value_start + value.len())?,
        };
        if field.name_end as usize > raw.len() || field.value_end as usize > raw.len() {
            return Err(BAD);
        }
        fields.push(field);
    }
    Ok(fields)
}

/// Reduces a target to the origin form. `http://host` has no path of its own, so one is written behind the head.
fn normal_target(raw: &mut Vec<u8>, method: &Range<usize>, target: Range<usize>) -> Result<Range<usize>, Fault> {
    let bytes = &raw[target.clone()];
    if bytes.starts_with(b"/") {
        return Ok(target);
    }
    if bytes == b"*" && &raw[method.clone()] == b"OPTIONS" {
        return Ok(target);
    }
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| bytes.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)))
        .ok_or(fault(400, "The request target is neither a path nor an http address."))?;
    let authority = &bytes[scheme.len()..];
    let length = authority.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(authority.len());
    if length == 0 {
        return Err(fault(400, "The request target names no host."));
    }
    let rest = target.start + scheme.len() + length..target.end;
    if raw.get(rest.start) == Some(&b'/') && !rest.is_empty() {
        return Ok(rest);
    }
    let start = raw.len();
    raw.push(b'/');
    raw.extend_from_within(rest);
    Ok(start..raw.len())
}

/// Reads what the fields say about body and connection, and refuses what two readers could read differently.
fn framing(head: &Head, is_http_1_0: bool) -> Result<Framing, Fault> {
    let mut found = Framing { is_http_1_0, ..Framing::default() };
    let mut hosts = 0;
    let mut codings = 0;
    for (name, value) in head.headers() {
        if name.eq_ignore_ascii_case("host") {
            hosts += 1;
            if !value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte)) {
                return Err(fault(400, "The Host field is malformed."));
            }
        } else if name.eq_ignore_ascii_case("content-length") {
            if found.content_length.is_some() {
                return Err(fault(400, "The request has more than one Content-Length."));
            }
            found.content_length = Some(length(value)?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            codings += 1;
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(fault(501, "The only transfer coding understood here is chunked."));
            }
        } else if name.eq_ignore_ascii_case("connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                found.says_close |= option.eq_ignore_ascii_case(b"close");
                found.says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if name.eq_ignore_ascii_case("expect") && !is_http_1_0 {
            // An HTTP/1.0 client cannot mean it (RFC 9110 section 10.1.1).
            if found.expects_continue || !value.eq_ignore_ascii_case(b"100-continue") {
                return Err(fault(417, "The only expectation met here is 100-continue."));
            }
            found.expects_continue = true;
        }
    }
    if hosts > 1 || (hosts == 0 && !is_http_1_0) {
        return Err(fault(400, "The request needs exactly one Host field."));
    }
    if codings > 1 || (codings == 1 && (is_http_1_0 || found.content_length.is_some())) {
        return Err(fault(400, "The length of the request body is ambiguous."));
    }
    found.is_chunked = codings == 1;
    Ok(found)
}

/// A Content-Length: digits and nothing else (RFC 9110 section 8.6), at most 2^64 - 1.
fn length(value: &[u8]) -> Result<u64, Fault> {
    const BAD: Fault = fault(400, "The Content-Length is not a number of bytes.");
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    text(value).parse().map_err(|_| BAD)
}

#[cfg(test)]
#[path = "head_tests.rs"]
mod tests;
