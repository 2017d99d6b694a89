//! Table tests of `head`: what is read, what is refused, and that the pieces in which it comes do not matter.

use super::*;

fn scan_all(bytes: &[u8]) -> Scan {
    Scanner::default().step(bytes, 32 * 1024, 100)
}

/// Scans and parses as the door does.
fn read(bytes: &[u8]) -> Result<Head, u16> {
    match scan_all(bytes) {
        Scan::Complete(end) => Head::parse(&bytes[..end]).map_err(|fault| fault.status),
        Scan::Incomplete => Err(0),
        Scan::Refused(fault) => Err(fault.status),
    }
}

#[test]
fn a_plain_request_is_read() {
    let head = read(
        b"POST /v1/x?a=1?b HTTP/1.1\r\nHost: h:80\r\nX-One:  a b \r\nx-two:\r\nX-ONE: c\r\n\
                      Content-Length: 10000000000000\r\nX: \xff\t\r\n\r\n",
    )
    .unwrap();
    assert_eq!(head.method(), "POST");
    assert_eq!(head.target(), "/v1/x?a=1?b");
    assert_eq!(head.path(), "/v1/x");
    assert_eq!(head.query(), Some("a=1?b"));
    assert_eq!(head.header("x-one"), Some(&b"a b"[..]));
    assert_eq!(head.header("X-Two"), Some(&b""[..]));
    assert_eq!(head.header("nothing"), None);
    assert_eq!(head.header("x"), Some(&b"\xff"[..]));
    assert_eq!(head.content_length(), Some(10_000_000_000_000));
    assert!(head.has_body() && !head.is_chunked() && !head.is_http_1_0() && head.allows_keep_alive());
    let names: Vec<&str> = head.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["Host", "X-One", "x-two", "X-ONE", "Content-Length", "X"]);
}

#[test]
fn targets_are_reduced_to_a_path() {
    for (line, target) in [
        ("GET / ", "/"),
        ("GET //a/../b%20?q ", "//a/../b%20?q"),
        ("GET http://h/p?q ", "/p?q"),
        ("GET HTTP://h:8/ ", "/"),
        ("GET https://h ", "/"),
        ("GET http://h?q=/a ", "/?q=/a"),
        ("OPTIONS * ", "*"),
    ] {
        let head = read(format!("{line}HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(head.target(), target, "{line}");
    }
}

#[test]
fn connections_stay_open_as_the_client_asked() {
    for (version, connection, stays) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: x, CLOSE\r\n", false),
        ("1.1", "Connection: upgrade\r\nUpgrade: h2c\r\n", true),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
    ] {
        let head = read(format!("GET / HTTP/{version}\r\nHost: h\r\n{connection}\r\n").as_bytes()).unwrap();
        assert_eq!(head.allows_keep_alive(), stays, "{version} {connection}");
    }
}

#[test]
fn bad_request_lines_are_refused() {
    for (line, status) in [
        ("GET /", 400),
        ("GET  / HTTP/1.1", 400),
        ("GET / HTTP/1.1 ", 400),
        ("GET / x HTTP/1.1", 400),
        (" GET / HTTP/1.1", 400),
        ("G@T / HTTP/1.1", 400),
        ("GET\t/ HTTP/1.1", 400),
        ("GET /\u{e4} HTTP/1.1", 400),
        ("GET /\u{1} HTTP/1.1", 400),
        ("GET /#a HTTP/1.1", 400),
        ("GET a HTTP/1.1", 400),
        ("GET * HTTP/1.1", 400),
        ("GET ftp://h/ HTTP/1.1", 400),
        ("GET http:///a HTTP/1.1", 400),
        ("CONNECT h:443 HTTP/1.1", 400),
        ("GET / http/1.1", 400),
        ("GET / HTTP/1.1x", 400),
        ("GET / HTTP/x.1", 400),
        ("GET / HTTP/1", 400),
        ("GET / HTTP/1.2", 505),
        ("GET / HTTP/2.0", 505),
        ("GET / HTTP/0.9", 505),
        ("PRI * HTTP/2.0", 505),
        ("\u{16}\u{3}\u{1}", 400),
    ] {
        assert_eq!(read(format!("{line}\r\nHost: h\r\n\r\n").as_bytes()).err(), Some(status), "{line:?}");
    }
}

#[test]
fn bad_fields_are_refused() {
    for (fields, status) in [
        ("", 400),
        ("Host: a\r\nHost: a\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: a/b\r\n", 400),
        ("Host: u@a\r\n", 400),
        ("Host : a\r\n", 400),
        ("Host: a\r\n b\r\n", 400),
        (" Host: a\r\n", 400),
        ("Host: a\r\nX\r\n", 400),
        ("Host: a\r\n: x\r\n", 400),
        ("Host: a\r\nX: a\rb\r\n", 400),
        ("Host: a\r\nX: a\0b\r\n", 400),
        ("Host: a\r\nX: a\u{b}b\r\n", 400),
        ("Host: a\r\nX: a\nY: b\r\n", 400),
        ("Host: a\r\nX\u{e4}: a\r\n", 400),
        ("Host: a\r\nContent-Length: \r\n", 400),
        ("Host: a\r\nContent-Length: abc\r\n", 400),
        ("Host: a\r\nContent-Length: +5\r\n", 400),
        ("Host: a\r\nContent-Length: -5\r\n", 400),
        ("Host: a\r\nContent-Length: 5, 5\r\n", 400),
        ("Host: a\r\nContent-Length: 5 5\r\n", 400),
        ("Host: a\r\nContent-Length: 0x5\r\n", 400),
        ("Host: a\r\nContent-Length: 18446744073709551616\r\n", 400),
        ("Host: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Host: a\r\nContent-Length: 5\r\ncontent-length: 6\r\n", 400),
        ("Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: a\r\nTransfer-Encoding: gzip\r\n", 501),
        ("Host: a\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        ("Host: a\r\nTransfer-Encoding: chunked, identity\r\n", 501),
        ("Host: a\r\nTransfer-Encoding: xchunked\r\n", 501),
        ("Host: a\r\nTransfer-Encoding: \"chunked\"\r\n", 501),
        ("Host: a\r\nTransfer-Encoding:\r\n", 501),
        ("Host: a\r\nTransfer-Encoding : chunked\r\n", 400),
        ("Host: a\r\nTransfer-Encoding:\u{b}chunked\r\n", 400),
        ("Host: a\r\nTransfer-Encoding\r\n: chunked\r\n", 400),
        ("Host: a\r\nExpect: something\r\n", 417),
        ("Host: a\r\nExpect: 100-continue, x\r\n", 417),
    ] {
        let request = format!("POST / HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(read(request.as_bytes()).err(), Some(status), "{fields:?}");
    }
    let request = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(read(request).err(), Some(400));
    let request = b"POST / HTTP/1.0\r\nExpect: something\r\n\r\n";
    assert!(!read(request).unwrap().expects_continue());
    let request = b"POST / HTTP/1.1\r\nHost:\r\nExpect: 100-Continue\r\nTransfer-Encoding: Chunked \r\n\r\n";
    assert!(read(request).is_ok_and(|head| head.expects_continue() && head.is_chunked()));
}

#[test]
fn line_feeds_alone_are_refused_at_once() {
    for bytes in [&b"GET / HTTP/1.1\n"[..], b"\n", b"GET / HTTP/1.1\r\nHost: a\n", b"GET / HTTP/1.1\r\n\n"] {
        assert!(matches!(scan_all(bytes), Scan::Refused(fault) if fault.status == 400), "{bytes:?}");
    }
}

#[test]
fn a_head_is_found_wherever_it_is_split() {
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n";
    for first in 0..27 {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.step(&bytes[..first], 1000, 100), Scan::Incomplete, "{first}");
        assert_eq!(scanner.step(bytes, 1000, 100), Scan::Complete(27), "{first}");
    }
}

#[test]
fn large_heads_are_refused() {
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(101));
    assert!(matches!(scan_all(many.as_bytes()), Scan::Refused(fault) if fault.status == 431));
    let enough = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "a: b\r\n".repeat(99));
    assert!(read(enough.as_bytes()).is_ok());
    let long = format!("GET /{}", "a".repeat(40_000));
    assert!(matches!(scan_all(long.as_bytes()), Scan::Refused(fault) if fault.status == 431));
    let exact = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100));
    assert!(matches!(Scanner::default().step(exact.as_bytes(), exact.len(), 9), Scan::Complete(_)));
    assert!(matches!(Scanner::default().step(exact.as_bytes(), exact.len() - 1, 9), Scan::Refused(_)));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    // A small generator of pseudo-random mutations of a valid request.
    let valid = b"POST http://h/p?q HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nConnection: close, x\r\nX:\r\n\r\n";
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..50_000 {
        let mut bytes = valid.to_vec();
        for _ in 0..next() % 4 + 1 {
            let at = next() % bytes.len();
            match next() % 3 {
                0 => bytes[at] = next() as u8,
                1 => bytes.truncate(at + 1),
                _ => bytes.insert(at, b"\r\n :/?,\0\xff"[next() % 9]),
            }
        }
        if let Ok(head) = read(&bytes) {
            assert!(head.headers().all(|(name, _)| !name.is_empty()));
            assert!(head.target() == "*" || head.target().starts_with('/'));
        }
    }
}
