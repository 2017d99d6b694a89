//! A hostile network: none of this ends the process, leaks a thread, or lets one request be read as another.

use crate::harness::client::{Connection, fetch};
use crate::harness::relay::Start;
use crate::harness::upstream::json;
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn relay() -> (Upstream, Relay, Key) {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let (relay, key) = Relay::with_upstream(&upstream);
    (upstream, relay, key)
}

fn is_well(relay: &Relay, key: &Key) {
    assert_eq!(relay.message(key, REQUEST).status, 200);
    assert_eq!(relay.get("/health", &[]).status, 200);
}

#[test]
fn two_thousand_idle_connections_cost_little_and_disturb_nobody() {
    let (_upstream, relay, key) = relay();
    is_well(&relay, &key);
    let (threads, resident) = (relay.process_figure("Threads"), relay.process_figure("VmRSS"));
    let idle: Vec<TcpStream> = (0..2000).map(|_| TcpStream::connect(relay.address).unwrap()).collect();
    let start = Instant::now();
    is_well(&relay, &key);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(relay.process_figure("Threads"), threads);
    let more = relay.process_figure("VmRSS").saturating_sub(resident);
    assert!(more < 6 * 1024, "{more} kB for 2000 idle connections");
    drop(idle);
    is_well(&relay, &key);
}

#[test]
fn a_thousand_half_heads_end_at_the_deadline_and_good_requests_go_on() {
    let (_upstream, relay, key) = relay();
    let head = b"POST /v1/messages HTTP/1.1\r\nHost: relay\r\nx-slow: ";
    let mut dripping: Vec<TcpStream> = (0..1000)
        .map(|_| {
            let mut stream = TcpStream::connect(relay.address).unwrap();
            stream.write_all(head).unwrap();
            stream
        })
        .collect();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(16) && !dripping.is_empty() {
        let one = Instant::now();
        is_well(&relay, &key);
        assert!(one.elapsed() < Duration::from_secs(1), "a good request took {:?}", one.elapsed());
        dripping.retain_mut(|stream| stream.write_all(b"x").is_ok());
        std::thread::sleep(Duration::from_millis(900));
    }
    assert!(dripping.is_empty(), "{} half heads are still open after {:?}", dripping.len(), start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(8));
}

#[test]
fn heads_that_could_be_read_in_two_ways_are_refused_and_nothing_behind_them_is_served() {
    let (upstream, relay, key) = relay();
    let smuggled = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n",
        key.clear,
        REQUEST.len()
    );
    let smuggled = [smuggled.as_bytes(), REQUEST].concat();
    for (fields, status) in [
        ("Content-Length: 10000000000000", 413),
        ("Content-Length: 18446744073709551616", 400),
        ("Content-Length: -1", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: abc", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 30", 400),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked, gzip", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding : chunked", 400),
        ("X-Folded: a\r\n b", 400),
        ("Bad Name: x", 400),
    ] {
        let mut client = Connection::open(relay.address);
        client.send(
            format!("POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\n{fields}\r\n\r\n", key.clear).as_bytes(),
        );
        let _ = client.stream.write_all(&smuggled);
        let response = client.response().unwrap_or_else(|error| panic!("{fields}: {error}"));
        assert_eq!(response.status, status, "{fields}");
        let rest = client.rest().unwrap_or_default();
        assert!(rest.is_empty(), "{fields}: a second answer: {}", String::from_utf8_lossy(&rest));
    }
    for (head, status) in [
        ("GET /health HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET /he\u{1}alth HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("G@T /health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET http://elsewhere:80/health HTTP/1.1\r\nHost: a\r\n\r\n", 200),
        ("GET /health HTTP/1.0\r\n\r\n", 200),
    ] {
        let mut client = Connection::open(relay.address);
        client.send(head.as_bytes());
        assert_eq!(client.response().unwrap().status, status, "{head:?}");
    }
    assert!(upstream.received().is_empty());
    is_well(&relay, &key);
}

#[test]
fn a_megabyte_in_one_header_line_is_cut_off() {
    let (_upstream, relay, key) = relay();
    let resident = relay.process_figure("VmRSS");
    let mut client = Connection::open(relay.address);
    let line = [b"GET /health HTTP/1.1\r\nHost: r\r\nX-Long: ".as_slice(), &vec![b'x'; 1024 * 1024]].concat();
    let _ = client.stream.write_all(&line);
    assert_eq!(client.response().unwrap().status, 431, "the refusal reaches a client that is still sending");
    let many = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    let mut client = Connection::open(relay.address);
    client.send(format!("GET /health HTTP/1.1\r\nHost: r\r\n{many}\r\n").as_bytes());
    assert_eq!(client.response().unwrap().status, 431);
    assert!(relay.process_figure("VmRSS").saturating_sub(resident) < 4 * 1024);
    is_well(&relay, &key);
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order_without_being_stored() {
    let (_upstream, relay, key) = relay();
    let resident = relay.process_figure("VmRSS");
    let client = TcpStream::connect(relay.address).unwrap();
    let mut writer = client.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        for number in 0..10_000 {
            let request = format!("GET /nowhere/{number} HTTP/1.1\r\nHost: r\r\n\r\n");
            writer.write_all(request.as_bytes()).unwrap();
        }
    });
    let mut reader = std::io::BufReader::new(client);
    let (mut seen, mut text) = (0, Vec::new());
    let mut piece = [0; 65536];
    let mut most = 0;
    while seen < 10_000 {
        let length = reader.read(&mut piece).unwrap();
        assert!(length > 0, "closed after {seen} answers");
        text.extend_from_slice(&piece[..length]);
        let wanted = |seen: usize| format!("Route /nowhere/{seen} not found").into_bytes();
        let mut start = 0;
        while let Some(at) = find(&text[start..], &wanted(seen)) {
            start += at + 1;
            seen += 1;
        }
        text.drain(..start);
        if seen % 1000 < 10 {
            most = most.max(relay.process_figure("VmRSS"));
            is_well(&relay, &key);
        }
    }
    writing.join().unwrap();
    assert!(most.saturating_sub(resident) < 4 * 1024, "{resident} kB before, {most} kB at most");
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[test]
fn an_upgrade_is_ignored_and_its_body_is_as_long_as_announced() {
    let (upstream, relay, key) = relay();
    let fields = [("Connection", "upgrade"), ("Upgrade", "websocket"), ("x-api-key", key.clear.as_str())];
    assert_eq!(relay.post("/v1/messages", &fields, REQUEST).status, 200);
    assert_eq!(upstream.received()[0].body, REQUEST);
    assert_eq!(upstream.received()[0].field("upgrade"), None);
}

#[test]
fn a_body_slower_than_the_minimum_rate_gives_its_worker_back() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let relay = Start::new().upstream(&upstream).with("RELAY_WORKERS", "2").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let head =
        format!("POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\nContent-Length: 100000\r\n\r\n", key.clear);
    let mut slow: Vec<Connection> = (0..2).map(|_| Connection::open(relay.address)).collect();
    for client in &mut slow {
        client.send(head.as_bytes());
    }
    let start = Instant::now();
    eventually("both workers are taken", || relay.message(&key, REQUEST).status == 529);
    loop {
        for client in &mut slow {
            let _ = client.stream.write_all(b"x");
        }
        std::thread::sleep(Duration::from_millis(500));
        if relay.message(&key, REQUEST).status == 200 {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(25), "slow bodies hold their workers");
    }
    assert!(start.elapsed() > Duration::from_secs(5));
}

#[test]
fn few_file_descriptors_under_a_burst_are_survived() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let mut start = Start::new().upstream(&upstream).with("RELAY_WORKERS", "8");
    start.files_max = Some(64);
    let relay = start.run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let threads = relay.process_figure("Threads");
    for _ in 0..3 {
        let burst: Vec<TcpStream> = (0..200).filter_map(|_| TcpStream::connect(relay.address).ok()).collect();
        std::thread::sleep(Duration::from_millis(300));
        drop(burst);
        eventually("normal service", || {
            let mut client = Connection::open(relay.address);
            client.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
            client.response().is_ok_and(|response| response.status == 200)
        });
    }
    assert_eq!(relay.process_figure("Threads"), threads);
}

#[test]
fn bursts_are_answered_whole() {
    let (_upstream, relay, _) = relay();
    for size in [50, 200, 500] {
        let mut clients: Vec<Connection> = (0..size).map(|_| Connection::open(relay.address)).collect();
        let start = Instant::now();
        for client in &mut clients {
            client.request("HEAD", "/", &[], b"");
        }
        for client in &mut clients {
            assert_eq!(client.head().unwrap().status, 200);
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{size} took {:?}", start.elapsed());
    }
}

#[test]
fn connections_are_kept_and_expectations_met() {
    let (upstream, relay, key) = relay();
    let mut client = Connection::open(relay.address);
    for _ in 0..50 {
        client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
        assert_eq!(client.response().unwrap().status, 200);
    }
    let expecting = |key: &str| {
        format!(
            "POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {key}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
            REQUEST.len()
        )
    };
    client.send(expecting(&key.clear).as_bytes());
    assert_eq!(client.head().unwrap().status, 100);
    client.send(REQUEST);
    assert_eq!(client.response().unwrap().status, 200);
    // Who may not be served is told before sending a body.
    let mut client = Connection::open(relay.address);
    client.send(expecting("cr_unknown-key").as_bytes());
    assert_eq!(client.response().unwrap().status, 401);
    let mut old = Connection::open(relay.address);
    old.send(
        format!("POST /v1/messages HTTP/1.0\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n", key.clear, REQUEST.len())
            .as_bytes(),
    );
    old.send(REQUEST);
    let response = old.response().unwrap();
    assert_eq!((response.status, response.field("transfer-encoding")), (200, None));
    assert!(old.rest().unwrap().is_empty(), "closed after one answer");
    let head = fetch(relay.address, "HEAD", "/health", &[], b"");
    assert!(head.field("content-length").is_some_and(|length| length != "0"));
    assert_eq!(upstream.received().len(), 52);
}
