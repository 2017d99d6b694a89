//! What belongs to the body of a whole answer: its validator, its compression, and whether the client has it already.
//! Never for event streams and relayed answers: those pass as they come.

use super::call::Answer;
use crate::http::Head;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use std::io::Write;

/// Smaller bodies fit in the packets that carry the head, so compressing them gains nothing.
const COMPRESSED_BYTES_MIN: usize = 1024;
/// From here on time counts for more than the last tenth of the size.
const LARGE_BYTES: usize = 128 * 1024;
/// Bytes of the digest in a validator; as long as the original's.
const VALIDATOR_BYTES: usize = 20;

/// Adds the validator, answers 304 to a client that has the body already, and compresses for one that can take it.
pub(crate) fn finish(head: &Head, answer: &mut Answer) {
    if answer.body.is_empty() {
        return;
    }
    let etag = etag(&answer.body);
    let is_known = answer.status == 200
        && matches!(head.method(), "GET" | "HEAD")
        && head.header("if-none-match").is_some_and(|known| names(known, &etag));
    answer.fields.push(("ETag", etag));
    answer.fields.push(("Vary", "Accept-Encoding".to_owned()));
    if is_known {
        answer.status = 304;
        answer.body.clear();
        return;
    }
    // The pages' assets come compressed.
    if answer.sets("Content-Encoding") {
        return;
    }
    if answer.body.len() >= COMPRESSED_BYTES_MIN && is_compressible(answer.content_type) && accepts_gzip(head) {
        match gzip(&answer.body) {
            Ok(body) => {
                answer.body = body;
                answer.fields.push(("Content-Encoding", "gzip".to_owned()));
            }
            Err(error) => log::warn!("an answer could not be compressed and goes out as it is: {error}"),
        }
    }
}

/// A weak validator (RFC 9110 section 8.8.1): the compressed and the plain form share it.
fn etag(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    format!("W/\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(&digest[..VALIDATOR_BYTES]))
}

/// Whether `If-None-Match` names a validator, by the weak comparison.
fn names(known: &[u8], etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    std::str::from_utf8(known)
        .is_ok_and(|known| known.trim() == "*" || known.split(',').any(|tag| opaque(tag) == opaque(etag)))
}

fn is_compressible(content_type: &str) -> bool {
    ["text/", "application/json", "application/javascript", "image/svg+xml"]
        .iter()
        .any(|start| content_type.starts_with(start))
        && !content_type.starts_with("text/event-stream")
}

/// Whether the client takes gzip (RFC 9110 section 12.5.3): named, or covered by `*`, with a weight above zero.
pub(super) fn accepts_gzip(head: &Head) -> bool {
    let accepted = head.header("accept-encoding").and_then(|value| std::str::from_utf8(value).ok()).unwrap_or_default();
    let weight = |wanted: &str| {
        accepted.split(',').find_map(|part| {
            let mut parts = part.split(';').map(str::trim);
            let name = parts.next()?;
            let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
            name.eq_ignore_ascii_case(wanted).then(|| weight.unwrap_or(1.0))
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| weight > 0.0)
}

fn gzip(body: &[u8]) -> std::io::Result<Vec<u8>> {
    let level = if body.len() < LARGE_BYTES { Compression::new(5) } else { Compression::fast() };
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), level);
    encoder.write_all(body)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validators_compare_weakly() {
        let tag = etag(b"abc");
        assert!(tag.starts_with("W/\"3-") && tag.ends_with('"'));
        let strong = tag.trim_start_matches("W/");
        for (known, expected) in
            [(tag.as_str(), true), (strong, true), ("*", true), ("\"x\", W/\"y\"", false), ("", false)]
        {
            assert_eq!(names(known.as_bytes(), &tag), expected, "{known}");
        }
        assert!(names(format!("\"x\", {tag}").as_bytes(), &tag));
    }
}
