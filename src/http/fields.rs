//! The lines of an answer's head: status line, header fields, date. Bytes only, no sockets.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Canned;
use super::head::is_token_byte;

/// Names that say how an answer is framed or what becomes of its connection. The front alone writes them.
const FRAMING_NAMES: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "trailer", "transfer-encoding", "upgrade"];

/// Header fields of an answer, encoded as they will be sent.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    lines: Vec<u8>,
    has_date: bool,
}

impl Fields {
    /// No fields yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one field. Refuses, adding nothing and returning false: a name that is no token (RFC 9110 section 5.1), a
    /// value with a control byte other than HTAB (section 5.5), and the names of framing, which belong to the front
    /// (`Content-Length`, `Transfer-Encoding`, `Connection` and the other hop-by-hop ones). A `Date` pushed here takes
    /// the place of the front's own.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let value = value.as_ref();
        let is_token = !name.is_empty() && name.bytes().all(is_token_byte);
        let is_value = value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control());
        if !is_token || !is_value || FRAMING_NAMES.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return false;
        }
        self.has_date |= name.eq_ignore_ascii_case("date");
        self.lines.reserve(name.len() + value.len() + 4);
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
        true
    }
}

/// How the end of a body is told to the client (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    Known(u64),
    Chunked,
    /// Up to the end of the connection, for HTTP/1.0.
    UntilClose,
    /// No body and no field about one: 204 and 304.
    Absent,
}

/// What the head of an answer says about the connection afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Persistence {
    /// Stays open, which HTTP/1.1 need not be told.
    Silent,
    /// Stays open, and an HTTP/1.0 client has to be told.
    KeepAlive,
    Close,
}

/// Encodes the head of an answer, its empty line included.
pub(super) fn encode_head(status: u16, fields: &Fields, length: BodyLength, persistence: Persistence) -> Vec<u8> {
    let mut head = Vec::with_capacity(160 + fields.lines.len());
    head.extend_from_slice(b"HTTP/1.1 ");
    push_decimal(&mut head, u64::from(status));
    head.push(b' ');
    head.extend_from_slice(reason(status).as_bytes());
    head.extend_from_slice(b"\r\n");
    if !fields.has_date {
        head.extend_from_slice(b"Date: ");
        head.extend_from_slice(&date_now());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(&fields.lines);
    match length {
        BodyLength::Known(length) => {
            head.extend_from_slice(b"Content-Length: ");
            push_decimal(&mut head, length);
            head.extend_from_slice(b"\r\n");
        }
        BodyLength::Chunked => head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        BodyLength::UntilClose | BodyLength::Absent => {}
    }
    match persistence {
        Persistence::Silent => {}
        Persistence::KeepAlive => head.extend_from_slice(b"Connection: keep-alive\r\n"),
        Persistence::Close => head.extend_from_slice(b"Connection: close\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A whole answer after which the connection is closed.
pub(super) fn encode_canned(canned: &Canned, omits_body: bool) -> Vec<u8> {
    let length = BodyLength::Known(canned.body.len() as u64);
    let mut bytes = encode_head(canned.status, &canned.fields, length, Persistence::Close);
    if !omits_body {
        bytes.extend_from_slice(&canned.body);
    }
    bytes
}

fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The customary words for a status; clients ignore them (RFC 9112 section 4).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        529 => "Overloaded",
        _ => "",
    }
}

type DateText = [u8; 29];

/// The time of now as an IMF-fixdate (RFC 9110 section 5.6.7), made once a second and thread.
fn date_now() -> DateText {
    thread_local! {
        static CACHED: Cell<(u64, DateText)> = const { Cell::new((u64::MAX, [0; 29])) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    CACHED.with(|cached| {
        if cached.get().0 != now {
            cached.set((now, imf_fixdate(now)));
        }
        cached.get().1
    })
}

/// Writes seconds since 1970 as `Sun, 06 Nov 1994 08:49:37 GMT`, for the years 1970 to 9999.
fn imf_fixdate(seconds: u64) -> DateText {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let days = (seconds / 86_400).min(2_932_896); // 9999-12-31
    // Days to a date by eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12; // January is 0
    let year = era * 400 + year_of_era + u64::from(month < 2);

    let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let name = |names: &[u8], at: u64| [0, 1, 2].map(|i| names[at as usize * 3 + i]);
    text[0..3].copy_from_slice(&name(DAYS, days % 7));
    text[8..11].copy_from_slice(&name(MONTHS, month));
    let mut digits = |at: usize, count: usize, mut number: u64| {
        for place in (at..at + count).rev() {
            text[place] = b'0' + (number % 10) as u8;
            number /= 10;
        }
    };
    digits(5, 2, day);
    digits(12, 4, year);
    digits(17, 2, seconds / 3600 % 24);
    digits(20, 2, seconds / 60 % 60);
    digits(23, 2, seconds % 60);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_refuse_what_would_break_the_head() {
        let mut fields = Fields::new();
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("a\r\n", "x"),
            ("ä", "x"),
            ("a", "x\r\nb: c"),
            ("a", "x\n"),
            ("a", "x\0"),
            ("a", "x\x7f"),
            ("Content-Length", "5"),
            ("transfer-ENCODING", "chunked"),
            ("connection", "close"),
        ] {
            assert!(!fields.push(name, value), "{name:?}: {value:?}");
        }
        assert!(fields.lines.is_empty());
        assert!(fields.push("X-A", ""));
        assert!(fields.push("x-b", b"caf\xe9\tau lait"));
        assert_eq!(fields.lines, b"X-A: \r\nx-b: caf\xe9\tau lait\r\n");
    }

    #[test]
    fn a_date_of_the_caller_takes_the_place_of_our_own() {
        let mut fields = Fields::new();
        assert!(fields.push("date", "then"));
        let head = encode_head(200, &fields, BodyLength::Known(0), Persistence::Silent);
        assert_eq!(head, b"HTTP/1.1 200 OK\r\ndate: then\r\nContent-Length: 0\r\n\r\n");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_800, "Wed, 01 Mar 2000 00:00:00 GMT"),
            (1_704_067_199, "Sun, 31 Dec 2023 23:59:59 GMT"),
            (1_704_067_200, "Mon, 01 Jan 2024 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(imf_fixdate(seconds), *expected.as_bytes(), "{expected}");
        }
        imf_fixdate(u64::MAX);
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 1234, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}
