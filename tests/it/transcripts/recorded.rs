//! One recorded exchange with the original, as its file tells it.

use std::path::{Path, PathBuf};

/// A recorded request and what the original answered.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub name: String,
    pub method: String,
    pub target: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// None where the original never answered.
    pub answer: Option<Answered>,
}

/// An answer, recorded or got.
#[derive(Clone, Debug)]
pub struct Answered {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answered {
    /// All values of a field, joined as RFC 9110 section 5.3 allows.
    pub fn field(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// The recorder leaves large and compressed bodies out.
    pub fn is_body_omitted(&self) -> bool {
        self.body.starts_with(b"[body omitted:")
    }
}

impl Recorded {
    /// Whether the answer is the upstream's, passed on.
    pub fn is_upstreams(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.field("request-id").is_some())
    }

    pub fn is_stream(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        text.contains(r#""stream": true"#)
    }
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/transcripts")
}

/// All names, in the order in which they were recorded.
pub fn names() -> Vec<String> {
    let index = std::fs::read_to_string(folder().join("INDEX.md")).unwrap();
    let rows = index.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()?.strip_suffix(".txt"));
    rows.map(str::to_owned).collect()
}

/// Reads a transcript after each recorded text of `replaced` was replaced.
pub fn read(name: &str, replaced: &[(String, String)]) -> Recorded {
    let bytes = std::fs::read(folder().join(format!("{name}.txt"))).unwrap();
    let (_, rest) = cut(&bytes, b"=== request ===\n").unwrap();
    let (request, rest) = cut(rest, b"=== response (curl -i) ===\n").unwrap();
    let response = cut(rest, b"\n=== request as the upstream received it ===\n").map_or(rest, |(response, _)| response);
    let response = cut(response, b"=== curl exit").map_or(response, |(response, _)| response);
    let (request, response) = (replace(request, replaced), replace(response, replaced));
    let (head, body) = cut(&request, b"\n\n").unwrap();
    let (line, fields) = head_of(head);
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let body = body.strip_suffix(b"\n\n").or_else(|| body.strip_suffix(b"\n")).unwrap_or(body).to_vec();
    Recorded { name: name.to_owned(), method, target, fields, body, answer: answer_of(&response) }
}

fn answer_of(response: &[u8]) -> Option<Answered> {
    let response = match cut(response, b"HTTP/1.1 100 Continue\n\n") {
        Some((b"", rest)) => rest,
        _ => response,
    };
    let (head, body) = cut(response, b"\n\n")?;
    let (line, fields) = head_of(head);
    let status = line.split(' ').nth(1)?.parse().ok()?;
    // The recorder ends every answer with a line end of its own.
    let body = body.strip_suffix(b"\n").unwrap_or(body).to_vec();
    Some(Answered { status, fields, body })
}

fn head_of(head: &[u8]) -> (String, Vec<(String, String)>) {
    let text = String::from_utf8_lossy(head).into_owned();
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let fields = lines.filter_map(|line| line.split_once(':')).map(|(n, v)| (n.to_owned(), v.trim().to_owned()));
    (line, fields.collect())
}

fn cut<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes.windows(mark.len()).position(|window| window == mark)?;
    Some((&bytes[..at], &bytes[at + mark.len()..]))
}

fn replace(bytes: &[u8], replaced: &[(String, String)]) -> Vec<u8> {
    // Bodies that are no UTF-8 hold nothing to replace.
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
    replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to)).into_bytes()
}
