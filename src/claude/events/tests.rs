//! A recorded stream in all its spellings, cut everywhere; and streams that are not as they should be.

use super::*;

/// A recorded answer: thinking, text of several scripts, a tool call, pings, an unknown event, two deltas.
const RECORDED: &str = include_str!("../../../tests/fixtures/stream.sse");

type Facts<'a> = (Option<&'a str>, [u64; 6], bool, bool, bool);

const EXPECTED: Facts<'_> = (Some("claude-sonnet-4-5-20250929"), [472, 311, 1000, 2000, 30_000, 1], true, true, true);

fn scan<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Scanner {
    let mut scanner = Scanner::new();
    for piece in pieces {
        scanner.feed(piece);
    }
    scanner
}

fn facts(scanner: &Scanner) -> Facts<'_> {
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

fn variants() -> Vec<Vec<u8>> {
    let crlf = RECORDED.replace('\n', "\r\n");
    let cr = RECORDED.replace('\n', "\r");
    let unnamed: String =
        RECORDED.lines().filter(|line| !line.starts_with("event:")).map(|line| format!("{line}\n")).collect();
    let tight = RECORDED.replace("data: ", "data:").replace("event: ", "event:");
    let marked = format!("\u{feff}{RECORDED}");
    // The data of message_start and the deltas over several lines.
    let folded = RECORDED.replace(",\"usage\"", "\ndata: ,\"usage\"");
    // A name that means nothing; the data says what it is.
    let generic: String = RECORDED
        .lines()
        .map(|line| if line.starts_with("event:") { "event: message\n".to_owned() } else { format!("{line}\n") })
        .collect();
    let data_first =
        RECORDED.replace("event: message_stop\ndata: {\"type\":\"message_stop\"}", "data: {}\nevent: message_stop");
    [RECORDED.to_owned(), crlf, cr, unnamed, tight, marked, folded, generic, data_first]
        .map(String::into_bytes)
        .to_vec()
}

#[test]
fn a_stream_cut_at_any_byte_gives_the_same_reading() {
    for stream in variants() {
        assert_eq!(facts(&scan([&stream[..]])), EXPECTED, "{}", String::from_utf8_lossy(&stream));
        assert_eq!(facts(&scan(stream.chunks(1))), EXPECTED);
        for at in 0..stream.len() {
            let (one, two) = stream.split_at(at);
            let scanner = scan([one, two]);
            assert_eq!(facts(&scanner), EXPECTED, "cut at {at}");
            assert_eq!(scanner.message_id(), Some("msg_01XFDUDYJgAACzvnptvVoYEL"));
        }
        for size in [2, 3, 7, 64, 1000] {
            assert_eq!(facts(&scan(stream.chunks(size))), EXPECTED, "pieces of {size}");
        }
    }
}

#[test]
fn the_stop_is_told_once_where_the_line_end_that_completes_it_begins() {
    for stream in variants() {
        let last = if stream.ends_with(b"\r\n") { 2 } else { 1 };
        let end = stream.len() - last;
        assert_eq!(Scanner::new().feed(&stream).stop_at, Some(end));
        for at in 0..=stream.len() {
            let mut scanner = Scanner::new();
            let (one, two) = stream.split_at(at);
            let stops = (scanner.feed(one).stop_at, scanner.feed(two).stop_at);
            let expected = if end < at { (Some(end), None) } else { (None, Some(end - at)) };
            assert_eq!(stops, expected, "cut at {at} of {}", stream.len());
        }
    }
}

#[test]
fn a_stop_that_is_only_spoken_of_is_none() {
    let stream = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"text\":\"event: message_stop\"}\n\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"\\\"type\\\":\\\"message_stop\\\"\"}}\n\n: event: message_stop\n\nevent : message_stop\n\nevents: message_stop\n\nevent: message_stop";
    let scanner = scan([stream.as_bytes()]);
    assert!(!scanner.saw_stop() && !scanner.at_boundary());
}

#[test]
fn an_unfinished_stream_tells_what_was_reported_so_far() {
    let start = RECORDED.find("\n\n").unwrap() + 2;
    let scanner = scan([&RECORDED.as_bytes()[..start]]);
    assert!(scanner.saw_start() && !scanner.saw_stop() && scanner.at_boundary());
    assert_eq!((scanner.usage().input_tokens, scanner.usage().output_tokens), (472, 2));
    for at in 1..10 {
        assert!(!scan([&RECORDED.as_bytes()[..start + at]]).at_boundary());
    }
    let late = RECORDED.rfind("event: message_delta").unwrap();
    assert_eq!(scan([&RECORDED.as_bytes()[..late]]).usage().output_tokens, 150);
    assert_eq!(facts(&scan([&b""[..]])), (None, [0; 6], false, false, true));
}

#[test]
fn a_line_past_the_bound_is_skipped_and_the_next_events_are_read() {
    let at = RECORDED.find("event: message_delta").unwrap();
    for name in ["event: content_block_delta\n", "event: message_delta\n", "event: new\n", ""] {
        for line in ["data: {\"type\":\"content_block_delta\",\"x\":\"", "data: ", ": comment ", "unknown "] {
            let long = "x".repeat(2 * EVENT_BYTES_MAX);
            let stream = [&RECORDED[..at], name, line, &long, "\n\n", &RECORDED[at..]].concat();
            for size in [16 * 1024, stream.len()] {
                let mut scanner = Scanner::new();
                for piece in stream.as_bytes().chunks(size) {
                    scanner.feed(piece);
                    assert!(scanner.partial.capacity() + scanner.data.capacity() <= 2 * EVENT_BYTES_MAX);
                }
                assert_eq!(facts(&scanner), EXPECTED);
                assert!(scanner.partial.capacity() + scanner.data.capacity() <= 2 * KEPT_BYTES_MAX);
            }
        }
    }
}

#[test]
fn data_past_the_bound_is_not_read_in_part() {
    let line = format!("data: {}\n", " ".repeat(EVENT_BYTES_MAX / 4));
    let usage = "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n";
    let scanner = scan([line.repeat(5).as_bytes(), usage.as_bytes()]);
    assert_eq!((scanner.usage().output_tokens, scanner.at_boundary()), (0, true));
    let scanner = scan([line.repeat(5).as_bytes(), b"\n", usage.as_bytes()]);
    assert_eq!(scanner.usage().output_tokens, 5);
    let scanner = scan([b"event: error\n", line.repeat(5).as_bytes(), b"\n"]);
    assert_eq!(scanner.error(), Some(&StreamError::default()));
    let comment = format!("event: message_stop\n:{}\ndata: {{}}\n\n", "x".repeat(2 * EVENT_BYTES_MAX));
    assert!(scan(comment.as_bytes().chunks(1000)).saw_stop());
}

#[test]
fn content_that_a_piece_cuts_is_not_copied() {
    for name in ["event: content_block_delta\n", ""] {
        let mut scanner = Scanner::new();
        scanner.feed(name.as_bytes());
        scanner.feed(b"data: {\"type\": \"content_block_delta\",\"delta\":{\"text\":\"");
        assert_eq!((scanner.partial.len(), scanner.at_boundary()), (0, false));
        scanner.feed(b"more\"}}\n");
        assert_eq!((scanner.data.len(), scanner.at_boundary()), (0, false));
        scanner.feed(b"\n");
        assert!(scanner.at_boundary());
    }
}

#[test]
fn error_events_are_kept_in_whatever_shape() {
    for (stream, kind, message) in [
        (
            ": comment\nretry: 3\nid: 4\nevent: error\ndata: {\"type\":\"error\",\ndata: \"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded \\\"x\\\"\"}}\n\n",
            "overloaded_error",
            "Overloaded \"x\"",
        ),
        (
            "data:{\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":\"\\\"content_block\\\" ü\"}}\n\n",
            "api_error",
            "\"content_block\" ü",
        ),
        ("event: error\ndata: {\"error\":\"broken\"}\n\n", "", "broken"),
        ("event: error\ndata: upstream is gone\n\n", "", ""),
        ("event: error\n\n", "", ""),
    ] {
        for size in [1, 5, stream.len()] {
            let scanner = scan(stream.as_bytes().chunks(size));
            let expected = StreamError { kind: kind.into(), message: message.into() };
            assert_eq!(scanner.error(), Some(&expected), "{stream}");
            assert!(!scanner.saw_stop() && scanner.at_boundary());
        }
    }
}

#[test]
fn strange_lines_are_nothing() {
    let scanner = scan([&b"what is this\n\ndata\n\ndata: [DONE]\n\n:\n\n\r\r\n\n\xff\xfe: x\n\n{\"type\":\"message_stop\"}\n\ndata: {\"type\":\"message_delta\"\n\n"[..]]);
    assert_eq!(facts(&scanner), (None, [0; 6], false, false, true));
    assert_eq!(scanner.error(), None);
}

#[test]
fn usage_that_comes_only_at_the_end_is_read_and_odd_members_cost_only_themselves() {
    let stream = "data: {\"message\":{\"id\":7,\"model\":\"m\",\"usage\":{\"output_tokens\":0,\"speed\":[1]}},\"type\":\"message_start\"}\n\ndata: {\"usage\":{\"input_tokens\":5,\"output_tokens\":6.0,\"cache_read_input_tokens\":7,\"cache_creation_input_tokens\":\"x\"},\"delta\":{},\"type\":\"message_delta\"}\n\n";
    let scanner = scan([stream.as_bytes()]);
    assert_eq!(facts(&scanner), (Some("m"), [5, 6, 0, 0, 7, 0], true, false, true));
}
