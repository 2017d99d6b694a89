//! A request to a handler, and its answer, as values: no handler sees a socket.

use super::dialect;
use super::form;
use crate::http::{Body, BodyError, Exchange, Head, Reply};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Largest body of an admin's request, in bytes: 10 MiB, as in the original.
pub(crate) const ADMIN_BODY_BYTES_MAX: u64 = 10 * 1024 * 1024;
/// Largest body of a request that anyone may make, in bytes: a stranger's JSON is not worth more memory.
pub(crate) const OPEN_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Largest export of the original that is taken as a body, in bytes.
const LARGE_BODY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// What is read past of a longer one, so that its client can read the refusal: many send all before they read anything.
const DISCARDED_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long such a body may take.
const LARGE_BODY_TIME_MAX: Duration = Duration::from_secs(300);
/// How long a body may take: the few control workers are not for waiting.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// A request to a handler.
pub(crate) struct Call {
    /// Its head.
    pub(crate) head: Arc<Head>,
    /// The other end of the socket, which may be a proxy; see `address`.
    pub(crate) peer: IpAddr,
    /// Path parameters, decoded, in the order of the pattern.
    pub(crate) params: Vec<String>,
    /// Its body: what JSON or a form said, else an empty object.
    pub(crate) body: Map<String, Value>,
}

impl Call {
    /// Reads the body of a request that has passed its guard.
    pub(crate) fn read(
        exchange: &mut Exchange,
        head: Arc<Head>,
        params: Vec<String>,
        request_id: &str,
        bytes_max: u64,
    ) -> Result<Call, Answer> {
        let mut call = Call { head, peer: exchange.peer().ip(), params, body: Map::new() };
        if !call.head.has_body() {
            return Ok(call);
        }
        let bytes = exchange.read_body(bytes_max, BODY_TIME_MAX).map_err(|error| {
            let limit = if bytes_max == OPEN_BODY_BYTES_MAX { "64KB" } else { "10MB" };
            body_refused(&error, limit)
        })?;
        let media_type = call.head.header("content-type").map(<[u8]>::to_ascii_lowercase).unwrap_or_default();
        let media_type = String::from_utf8_lossy(&media_type);
        check_coding(&call.head, &media_type, request_id)?;
        match media_type.split(';').next().unwrap_or_default().trim() {
            "application/json" if !bytes.is_empty() => {
                let value: Value = serde_json::from_slice(&bytes)
                    .map_err(|_| dialect::parse_fault(request_id, "The request body is not valid JSON"))?;
                call.body = match value {
                    Value::Object(members) => members,
                    Value::Array(_) => Map::new(),
                    _ => return Err(dialect::parse_fault(request_id, "The request body must be a JSON object")),
                };
            }
            "application/x-www-form-urlencoded" => {
                call.body = form::parse(&bytes).map_err(|fault| dialect::parse_fault(request_id, &fault.message()))?;
            }
            _ => {}
        }
        Ok(call)
    }

    /// The path parameter of a pattern that has one.
    pub(crate) fn id(&self) -> &str {
        self.params.first().map(String::as_str).unwrap_or_default()
    }

    /// A parameter of the query string, decoded; the last of its name.
    pub(crate) fn query(&self, name: &str) -> Option<String> {
        form::first(self.head.query()?, name)
    }

    /// A member of the body, unless it is absent or null.
    pub(crate) fn member(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    /// A member of the body that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.body.get(name).and_then(Value::as_str)
    }
}

/// Reads a large body of an admin's request that has passed its guard.
pub(crate) fn read_large(exchange: &mut Exchange, head: &Head) -> Result<Body, Answer> {
    let is_too_large = head.content_length().is_some_and(|length| length > LARGE_BODY_BYTES_MAX);
    let read = if is_too_large && !head.expects_continue() {
        // Whatever comes of it, the answer is the same.
        let _ = exchange.pour_body(DISCARDED_BYTES_MAX, LARGE_BODY_TIME_MAX, &mut |_| Ok(()));
        Err(BodyError::TooLarge)
    } else {
        exchange.read_body(LARGE_BODY_BYTES_MAX, LARGE_BODY_TIME_MAX)
    };
    read.map_err(|error| match error {
        BodyError::TooLarge => Answer::json(
            413,
            &json!({
                "error": "Payload Too Large", "limit": "64MB",
                "message": "An export may have at most 64 MB; read the Redis instead",
            }),
        ),
        error => body_refused(&error, "64MB"),
    })
}

/// Refuses a body that is compressed. No known client compresses what it sends, and what is not inflated needs no bound on
/// its inflated size.
pub(crate) fn check_uncompressed(head: &Head, request_id: &str) -> Result<(), Answer> {
    let coding = head.header("content-encoding").unwrap_or(b"identity");
    match coding.trim_ascii().eq_ignore_ascii_case(b"identity") {
        true => Ok(()),
        false => Err(dialect::unsupported(request_id, "The request body must not be compressed")),
    }
}

/// Refuses a body in a coding that is not read here.
fn check_coding(head: &Head, media_type: &str, request_id: &str) -> Result<(), Answer> {
    check_uncompressed(head, request_id)?;
    let charset = media_type.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("charset="));
    match charset.map(|charset| charset.trim_matches('"')) {
        None | Some("utf-8" | "utf8" | "us-ascii") => Ok(()),
        Some(_) => Err(dialect::unsupported(request_id, "The request body must be UTF-8")),
    }
}

/// The refusal of a body that could not be read. `limit` is how the original writes the bound.
pub(crate) fn body_refused(error: &BodyError, limit: &str) -> Answer {
    let (status, title, message) = match error {
        BodyError::TooLarge => {
            let body = json!({
                "error": "Payload Too Large", "message": "Request body size exceeds limit", "limit": limit,
            });
            return Answer::json(413, &body);
        }
        BodyError::TooSlow => (408, "Request Timeout", "The request body came too slowly"),
        BodyError::Malformed => (400, "Bad Request", "The request body is not framed as its head says"),
        BodyError::Gone => (400, "Bad Request", "The request body ended before its announced length"),
        BodyError::NoRoom => (503, "Service Unavailable", "Too many request bodies at the same time, try again"),
    };
    let answer = Answer::json(status, &json!({ "error": title, "message": message }));
    if status == 503 { answer.with("Retry-After", "1") } else { answer }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// `Content-Type`.
    pub(crate) content_type: &'static str,
    /// Further header fields.
    pub(crate) fields: Vec<(&'static str, String)>,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// An answer of JSON, compact, as the original writes it.
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Answer {
        let (status, body) = match serde_json::to_vec(body) {
            Ok(body) => (status, body),
            Err(error) => {
                log::error!("an answer could not be written as JSON: {error}");
                (500, br#"{"error":"Internal Server Error","message":"Something went wrong"}"#.to_vec())
            }
        };
        Answer { status, content_type: "application/json; charset=utf-8", fields: Vec::new(), body }
    }

    /// `{"success":true,"data":…}`.
    pub(crate) fn data(data: impl Serialize) -> Answer {
        #[derive(Serialize)]
        struct Envelope<T> {
            success: bool,
            data: T,
        }
        Answer::json(200, &Envelope { success: true, data })
    }

    /// `{"success":true,"message":…}`.
    pub(crate) fn done(message: &str) -> Answer {
        Answer::json(200, &json!({ "success": true, "message": message }))
    }

    /// An answer without a body.
    pub(crate) fn empty(status: u16) -> Answer {
        Answer { status, content_type: "", fields: Vec::new(), body: Vec::new() }
    }

    /// An answer that is no JSON.
    pub(crate) fn content(content_type: &'static str, body: Vec<u8>) -> Answer {
        Answer { status: 200, content_type, fields: Vec::new(), body }
    }

    /// Whether it has a header field of this name, as written here.
    pub(crate) fn sets(&self, name: &str) -> bool {
        self.fields.iter().any(|(set, _)| *set == name)
    }

    /// The same with a further header field.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }
}

/// What writes the content of a download.
pub(crate) type Content = Box<dyn FnOnce(&mut dyn Write) -> crate::error::Result<()>>;

/// An answer that is written piece by piece into a file of the admin's.
pub(crate) struct Download {
    /// The file's name; plain ASCII.
    pub(crate) file_name: String,
    /// `Content-Type`.
    pub(crate) content_type: &'static str,
    /// Writes it all. An error breaks the answer off, so that it never looks whole.
    pub(crate) write: Content,
}

/// Bytes that are sent together.
const PIECE_BYTES: usize = 64 * 1024;

/// Gathers what is written into pieces of a size that is worth a system call.
pub(crate) struct Pieces {
    reply: Reply,
    gathered: Vec<u8>,
}

impl Pieces {
    pub(crate) fn new(reply: Reply) -> Pieces {
        Pieces { reply, gathered: Vec::with_capacity(PIECE_BYTES) }
    }

    /// Ends the answer.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.reply.finish()
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.reply.write(&self.gathered)?;
        self.gathered.clear();
        Ok(())
    }
}

/// A body that is passed on as it comes.
pub(crate) struct Upload<'a> {
    exchange: &'a mut Exchange,
}

impl<'a> Upload<'a> {
    pub(crate) fn new(exchange: &'a mut Exchange) -> Upload<'a> {
        Upload { exchange }
    }

    /// Reads it all into `sink`. `limit` is how the bound is written.
    pub(crate) fn read(
        &mut self,
        bytes_max: u64,
        time_max: Duration,
        limit: &str,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Answer> {
        self.exchange.pour_body(bytes_max, time_max, sink).map_err(|error| body_refused(&error, limit))
    }
}

/// An id for one request: eleven base-36 characters, new each time.
pub(crate) fn request_id() -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    // Without random numbers nothing else of this program works either; an id that repeats is then the least harm.
    let mut rest = getrandom::u64().unwrap_or_default();
    let mut id = String::with_capacity(11);
    for _ in 0..11 {
        id.push(char::from(DIGITS[(rest % 36) as usize]));
        rest /= 36;
    }
    id
}
