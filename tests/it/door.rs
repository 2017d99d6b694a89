//! The front over real sockets, with a toy service.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use claude_relay::http::*;

#[derive(Default)]
struct Toy {
    seen: Mutex<Vec<String>>,
    gone: AtomicUsize,
    errors: Mutex<Vec<BodyError>>,
}

impl Service for Toy {
    fn pool(&self, head: &Head) -> Pool {
        if head.path() == "/router-bug" {
            panic!("router");
        }
        if head.path().starts_with("/control") { Pool::Control } else { Pool::Relay }
    }

    fn serve(&self, mut exchange: Exchange) {
        self.seen.lock().unwrap().push(exchange.head().target().to_owned());
        let path = exchange.head().path().to_owned();
        let mut fields = Fields::new();
        fields.push("X-Toy", "yes");
        match path.as_str() {
            "/echo" => match exchange.read_body(32 << 20, Duration::from_secs(60)) {
                Ok(body) => drop(exchange.answer(200, fields, &body)),
                Err(error) => {
                    self.errors.lock().unwrap().push(error);
                    drop(exchange.answer(400, fields, format!("{error:?}").as_bytes()))
                }
            },
            "/stream" => {
                let mut reply = exchange.begin(200, fields, None);
                for piece in ["one", "", "two", "three"] {
                    reply.write(piece.as_bytes()).unwrap();
                }
                reply.finish().unwrap();
            }
            "/known" => {
                let mut reply = exchange.begin(200, fields, Some(6));
                assert!(!reply.has_sent());
                reply.flush_head().unwrap();
                assert!(reply.has_sent());
                reply.write(b"abc").unwrap();
                reply.write(b"def").unwrap();
                assert!(reply.write(b"g").is_err());
                reply.finish().unwrap();
            }
            "/short" => {
                let mut reply = exchange.begin(200, fields, Some(6));
                reply.write(b"abc").unwrap();
                assert!(reply.finish().is_err());
            }
            "/abort" => {
                let mut reply = exchange.begin(200, fields, None);
                reply.write(b"some").unwrap();
                sleep(Duration::from_millis(50));
            }
            "/slow" => {
                sleep(Duration::from_millis(400));
                drop(exchange.answer(200, fields, b"slow"));
            }
            "/big" => drop(exchange.answer(200, fields, &vec![b'x'; 4 << 20])),
            "/watch" => {
                let client = exchange.client();
                for _ in 0..200 {
                    if client.is_gone() {
                        self.gone.fetch_add(1, SeqCst);
                        return;
                    }
                    sleep(Duration::from_millis(5));
                }
                drop(exchange.answer(200, fields, b"still there"));
            }
            "/panic" => panic!("on purpose"),
            "/nothing" => {}
            "/no-content" => drop(exchange.answer(204, fields, b"ignored")),
            "/refuse" => drop(exchange.answer(401, fields, b"no")),
            _ => drop(exchange.answer(200, fields, path.as_bytes())),
        }
    }

    fn overloaded(&self, _: &Head) -> Canned {
        let mut fields = Fields::new();
        fields.push("Retry-After", "1");
        Canned { status: 529, fields, body: b"overloaded".to_vec() }
    }

    fn malformed(&self, fault: &Fault) -> Canned {
        Canned { status: fault.status, fields: Fields::new(), body: fault.message.into() }
    }
}

struct Running {
    address: SocketAddr,
    toy: Arc<Toy>,
    stopper: Stopper,
    figures: Arc<Figures>,
    thread: Option<JoinHandle<io::Result<Drain>>>,
}

fn start(limits: Limits, relay: usize, control: usize) -> Running {
    let door = Door::bind("127.0.0.1", 0, limits).unwrap();
    let (address, stopper, figures) = (door.local_addr().unwrap(), door.stopper(), door.figures());
    let toy = Arc::new(Toy::default());
    let service = toy.clone();
    let workers = Workers { relay, control };
    let thread = thread::spawn(move || door.run(service, workers, Duration::from_secs(5)));
    while figures.control_size() == 0 {
        sleep(Duration::from_millis(1));
    }
    Running { address, toy, stopper, figures, thread: Some(thread) }
}

fn start_default() -> Running {
    start(Limits::default(), 4, 2)
}

impl Running {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Sends and reads until the end of the connection.
    fn talk(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_ref()).unwrap();
        rest(&mut stream)
    }

    fn seen(&self) -> Vec<String> {
        self.toy.seen.lock().unwrap().clone()
    }

    fn stop(&mut self) -> Drain {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.thread.is_some() && !thread::panicking() {
            assert!(self.stop().is_complete());
            assert_eq!(self.figures.bodies_in_flight_bytes(), 0);
            assert_eq!(self.figures.connections_open(), 0);
        }
    }
}

fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one answer with a Content-Length; returns head and body.
fn answer(stream: &mut TcpStream, omits_body: bool) -> (String, String) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream
            .read_exact(&mut byte)
            .unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&head)));
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length: usize =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; if omits_body { 0 } else { length }];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8_lossy(&body).into_owned())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

fn get_close(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let running = start_default();
    let mut stream = running.connect();
    for turn in 0..300 {
        stream.write_all(get(&format!("/{turn}")).as_bytes()).unwrap();
        let (head, body) = answer(&mut stream, false);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nDate: "), "{head}");
        assert!(head.contains("\r\nX-Toy: yes\r\n") && !head.contains("Connection"));
        assert_eq!(body, format!("/{turn}"));
        if turn % 100 == 0 {
            sleep(Duration::from_millis(20));
        }
    }
    stream.write_all(get_close("/last").as_bytes()).unwrap();
    assert!(rest(&mut stream).contains("\r\nConnection: close\r\n"));
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_order() {
    let running = start_default();
    let mut stream = running.connect();
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let all: String = (0..10_000).map(|turn| get(&format!("/{turn}"))).collect();
        writer.write_all(all.as_bytes()).unwrap();
        writer.write_all(get_close("/end").as_bytes()).unwrap();
    });
    // A neighbour is served meanwhile.
    let started = Instant::now();
    assert!(running.talk(get_close("/neighbour")).ends_with("/neighbour"));
    assert!(started.elapsed() < Duration::from_secs(1));
    let mut reader = io::BufReader::with_capacity(1 << 20, &mut stream);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    sender.join().unwrap();
    let bodies: Vec<&str> = all.split("HTTP/1.1 200 OK").skip(1).map(|one| one.rsplit_once('\n').unwrap().1).collect();
    assert_eq!(bodies.len(), 10_001, "{:?}", &all[all.len() - 400..]);
    assert!(bodies.iter().take(10_000).enumerate().all(|(turn, body)| *body == format!("/{turn}")));
}

#[test]
fn answers_without_a_body_have_none() {
    let running = start_default();
    let mut stream = running.connect();
    for path in ["/abc", "/known", "/stream", "/no-content"] {
        stream.write_all(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        let (head, _) = answer(&mut stream, true);
        assert_eq!(head.contains("Content-Length: 4"), path == "/abc", "{head}");
        assert_eq!(head.contains("Content-Length: 6"), path == "/known", "{head}");
        assert_eq!(head.contains("Transfer-Encoding: chunked"), path == "/stream", "{head}");
    }
    stream.write_all(get("/no-content").as_bytes()).unwrap();
    assert!(answer(&mut stream, false).0.starts_with("HTTP/1.1 204 No Content\r\n"));
    stream.write_all(get_close("/x").as_bytes()).unwrap();
    assert!(rest(&mut stream).ends_with("\r\n\r\n/x"));
}

#[test]
fn streams_are_framed_for_the_version_of_the_client() {
    let running = start_default();
    let chunked = running.talk(get_close("/stream"));
    assert!(chunked.ends_with("\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"), "{chunked}");
    let raw = running.talk("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(raw.ends_with("\r\n\r\nonetwothree") && raw.contains("Connection: close"), "{raw}");
    assert!(!raw.contains("chunked"));
    let known = running.talk(get("/known") + &get_close("/stream"));
    assert!(known.contains("Content-Length: 6\r\n\r\nabcdefHTTP/1.1 200 OK"), "{known}");
    let old = running.talk("GET /known HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /known HTTP/1.0\r\n\r\n");
    assert!(old.contains("Connection: keep-alive\r\n\r\nabcdef") && old.contains("Connection: close\r\n\r\nabcdef"));
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let running = start_default();
    let mut stream = running.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(answer(&mut stream, false).0, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    assert_eq!(answer(&mut stream, false).1, "hello");
    // Refused from the head alone: no 100, and the connection ends, as the body may or may not follow.
    stream.write_all(head.replace("/echo", "/refuse").as_bytes()).unwrap();
    let all = rest(&mut stream);
    assert!(all.starts_with("HTTP/1.1 401") && all.contains("Connection: close"), "{all}");
}

#[test]
fn bodies_are_read_whatever_their_framing_and_pieces() {
    let running = start_default();
    let mut stream = running.connect();
    let chunked = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nT: 1\r\n\r\n";
    for step in [1, 7, 1000] {
        for piece in chunked.as_bytes().chunks(step) {
            stream.write_all(piece).unwrap();
            if step == 7 {
                sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(answer(&mut stream, false).1, "hello world");
    }
    // Two at once: the second must not be eaten with the first's body.
    stream.write_all(format!("{chunked}{chunked}").as_bytes()).unwrap();
    assert_eq!(answer(&mut stream, false).1, "hello world");
    assert_eq!(answer(&mut stream, false).1, "hello world");
    for length in [1, 20_000, 1 << 20, 5_000_000] {
        let body: String = (0..length).map(|at| (b'a' + (at % 23) as u8) as char).collect();
        let mut writer = stream.try_clone().unwrap();
        let head = format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
        let bytes = head + &body + &get("/next");
        let sender = thread::spawn(move || writer.write_all(bytes.as_bytes()).unwrap());
        assert!(answer(&mut stream, false).1 == body, "{length}");
        assert_eq!(answer(&mut stream, false).1, "/next");
        sender.join().unwrap();
    }
    // A body that is not read is passed over when it is here, and never taken for a request.
    let inner = get("/smuggled");
    let outer = format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{inner}", inner.len());
    stream.write_all((outer.clone() + &get_close("/b")).as_bytes()).unwrap();
    assert!(rest(&mut stream).ends_with("/b"));
    assert!(!running.seen().contains(&"/smuggled".to_owned()));
}

#[test]
fn ambiguous_requests_never_make_a_second_one_seen() {
    let running = start_default();
    let evil = get("/smuggled");
    for (fields, status) in [
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: abc\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 0\r\n", 400),
        ("Content-Length: 0\r\nContent-Length: 44\r\n", 400),
        ("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 44\r\n", 400),
        ("Transfer-Encoding: xchunked\r\n", 501),
        ("Transfer-Encoding: gzip, chunked\r\n", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 501),
        ("Transfer-Encoding : chunked\r\n", 400),
        ("Transfer-Encoding:\u{b}chunked\r\n", 400),
        ("X: y\r\n Transfer-Encoding: chunked\r\n", 400),
        ("X: y\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: other\r\n", 400),
        ("Expect: nonsense\r\n", 417),
    ] {
        for body in [evil.clone(), format!("0\r\n\r\n{evil}")] {
            let all = running.talk(format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}"));
            assert!(all.starts_with(&format!("HTTP/1.1 {status} ")), "{fields}: {all}");
            assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{fields}: {all}");
            assert!(all.contains("Connection: close"));
        }
    }
    // Chunks that are malformed, and bodies that were refused, end the connection too.
    for request in [
        format!("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n0\r\n\r\n{evil}"),
        format!("POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{evil}"),
        format!("POST /refuse HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{evil}"),
        format!("POST /refuse HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{evil}"),
    ] {
        let all = running.talk(&request);
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{request}: {all}");
    }
    assert!(!running.seen().contains(&"/smuggled".to_owned()));
    // An upgrade is an ordinary request with its ordinary body.
    let upgrade =
        "POST /echo HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi";
    let all = running.talk(format!("{upgrade}{}", get_close("/after")));
    assert!(all.contains("\r\n\r\nhiHTTP/1.1 200 OK") && all.ends_with("/after"));
    assert!(running.talk("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").starts_with("HTTP/1.1 505"));
}

#[test]
fn a_thousand_dripping_heads_end_at_the_deadline_and_disturb_nobody() {
    let limits = Limits { head_deadline: Duration::from_secs(2), ..Limits::default() };
    let running = start(limits, 4, 2);
    let started = Instant::now();
    let mut streams: Vec<TcpStream> = (0..1000).map(|_| running.connect()).collect();
    for byte in b"GE" {
        for stream in &mut streams {
            stream.write_all(&[*byte]).unwrap();
        }
        sleep(Duration::from_millis(600));
    }
    let asked = Instant::now();
    assert!(running.talk(get_close("/other")).ends_with("/other"));
    assert!(asked.elapsed() < Duration::from_millis(300));
    for stream in &mut streams {
        assert!(rest(stream).starts_with("HTTP/1.1 408 "));
    }
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!(running.figures.refused_slow_heads(), 1000);
}

#[test]
fn idle_connections_are_closed_silently_when_their_time_is_over() {
    let limits = Limits {
        head_deadline: Duration::from_millis(600),
        idle_deadline: Duration::from_millis(900),
        ..Limits::default()
    };
    let running = start(limits, 2, 1);
    let mut fresh = running.connect();
    let mut used = running.connect();
    used.write_all(get("/a").as_bytes()).unwrap();
    answer(&mut used, false);
    let started = Instant::now();
    assert_eq!(rest(&mut fresh), "");
    assert!(started.elapsed() < Duration::from_millis(900));
    // The clock of the second head starts with its first byte.
    sleep(Duration::from_millis(700).saturating_sub(started.elapsed()));
    used.write_all(b"G").unwrap();
    sleep(Duration::from_millis(400));
    used.write_all(&get("/b").as_bytes()[1..]).unwrap();
    assert_eq!(answer(&mut used, false).1, "/b");
    assert_eq!(rest(&mut used), "");
}

#[test]
fn two_thousand_idle_connections_are_kept_and_served() {
    let running = start_default();
    let mut streams: Vec<TcpStream> = (0..2000).map(|_| running.connect()).collect();
    while running.figures.connections_open() < 2000 {
        sleep(Duration::from_millis(5));
    }
    for at in (0..2000).step_by(97) {
        streams[at].write_all(get("/x").as_bytes()).unwrap();
        assert_eq!(answer(&mut streams[at], false).1, "/x");
    }
}

#[test]
fn slow_short_and_huge_bodies_are_refused_without_harm() {
    let limits = Limits {
        body_grace: Duration::from_millis(500),
        body_idle: Duration::from_secs(1),
        bodies_in_flight_bytes_max: 3 << 20,
        ..Limits::default()
    };
    let running = start(limits, 4, 2);
    let errors = || std::mem::take(&mut *running.toy.errors.lock().unwrap());
    let post = |length: &str| format!("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    let started = Instant::now();
    let mut slow = running.connect();
    slow.write_all(post("5000").as_bytes()).unwrap();
    let mut writer = slow.try_clone().unwrap();
    let dripping = thread::spawn(move || {
        while writer.write_all(b"x").is_ok() && started.elapsed() < Duration::from_secs(3) {
            sleep(Duration::from_millis(50));
        }
    });
    assert!(rest(&mut slow).contains("TooSlow"));
    assert!(started.elapsed() < Duration::from_secs(3));
    drop(slow);
    dripping.join().unwrap();
    for length in ["10000000000000", "18446744073709551615"] {
        assert!(running.talk(post(length)).contains("TooLarge"), "{length}");
    }
    assert!(running.talk(post("4000000") + &"x".repeat(4_000_000)).contains("NoRoom"));
    let mut cut = running.connect();
    cut.write_all(post("50").as_bytes()).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert!(rest(&mut cut).contains("Gone"));
    assert_eq!(errors().len(), 5);
    assert!(running.talk(post("2") + "ok" + &get_close("/a")).contains("\r\n\r\nokHTTP/1.1 200"));
}

#[test]
fn a_megabyte_of_head_is_refused() {
    let running = start_default();
    let line = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    assert!(running.talk(line).starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "a: b\r\n".repeat(200));
    assert!(running.talk(many).starts_with("HTTP/1.1 431 "));
    assert!(running.talk("\x16\x03\x01").starts_with("HTTP/1.1 400 "));
    assert!(running.talk(format!("\r\n\r\n{}", get_close("/x"))).ends_with("/x"));
}

#[test]
fn a_full_relay_is_told_at_once_and_control_goes_on() {
    let running = start(Limits::default(), 2, 1);
    let mut busy: Vec<TcpStream> = (0..2).map(|_| running.connect()).collect();
    for stream in &mut busy {
        stream.write_all(get("/slow").as_bytes()).unwrap();
    }
    while running.figures.relay_busy() < 2 {
        sleep(Duration::from_millis(1));
    }
    let started = Instant::now();
    // The body that nobody reads must not destroy the answer.
    let body = "x".repeat(1 << 20);
    let all = running.talk(format!("POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert!(all.starts_with("HTTP/1.1 529 Overloaded\r\n") && all.ends_with("overloaded"), "{all}");
    assert!(all.contains("Retry-After: 1") && all.contains("Connection: close"));
    assert!(running.talk(get_close("/control")).ends_with("/control"));
    assert!(started.elapsed() < Duration::from_millis(250), "{:?}", started.elapsed());
    for stream in &mut busy {
        assert_eq!(answer(stream, false).1, "slow");
    }
    assert_eq!(running.figures.refused_overloaded(Pool::Relay), 1);
    assert!(running.talk(get_close("/a")).ends_with("/a"));
}

#[test]
fn as_many_clients_as_workers_are_never_refused() {
    let running = Arc::new(start(Limits::default(), 4, 1));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let running = running.clone();
            thread::spawn(move || {
                let mut stream = running.connect();
                for turn in 0..1500 {
                    if client % 2 == 0 {
                        // A new connection as soon as the last answer is there.
                        let mut stream = running.connect();
                        stream.write_all(get("/n").as_bytes()).unwrap();
                        assert_eq!(answer(&mut stream, false).1, "/n", "{turn}");
                    } else {
                        let path = if turn % 2 == 0 { "/k" } else { "/known" };
                        stream.write_all(get(path).as_bytes()).unwrap();
                        assert!(answer(&mut stream, false).0.starts_with("HTTP/1.1 200"), "{turn}");
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(running.figures.refused_overloaded(Pool::Relay), 0);
}

#[test]
fn control_requests_queue_up_to_their_bound() {
    let running = start(Limits::default(), 1, 1);
    let mut streams: Vec<TcpStream> = (0..80).map(|_| running.connect()).collect();
    let mut first = running.connect();
    // Warm up, so that the worker and the door are both awake.
    first.write_all(b"POST /control HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").unwrap();
    answer(&mut first, false);
    for stream in &mut streams {
        stream.write_all(get_close("/control").as_bytes()).unwrap();
    }
    let answers: Vec<String> = streams.iter_mut().map(rest).collect();
    let served = answers.iter().filter(|all| all.starts_with("HTTP/1.1 200")).count();
    let refused = answers.iter().filter(|all| all.starts_with("HTTP/1.1 529")).count();
    assert_eq!(served + refused, 80);
    assert!(served >= 65);
}

#[test]
fn a_client_that_leaves_is_noticed_and_pipelined_bytes_are_not_leaving() {
    let running = start_default();
    let mut leaving = running.connect();
    leaving.write_all((get("/watch") + "GET /more").as_bytes()).unwrap();
    sleep(Duration::from_millis(100));
    assert_eq!(running.toy.gone.load(SeqCst), 0);
    drop(leaving);
    let mut half = running.connect();
    half.write_all(get("/watch").as_bytes()).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    sleep(Duration::from_millis(200));
    assert_eq!(running.toy.gone.load(SeqCst), 2);
    let mut staying = running.connect();
    staying.write_all(get("/watch").as_bytes()).unwrap();
    sleep(Duration::from_millis(50));
    staying.write_all(get_close("/more").as_bytes()).unwrap();
    let all = rest(&mut staying);
    assert!(all.contains("still there") && all.ends_with("/more"), "{all}");
}

#[test]
fn an_aborted_answer_is_an_error_and_not_an_end() {
    let running = start_default();
    for path in ["/abort", "/short"] {
        for version in ["1.0", "1.1"] {
            let mut stream = running.connect();
            stream.write_all(format!("GET {path} HTTP/{version}\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
            let mut bytes = Vec::new();
            let error = stream.read_to_end(&mut bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{path} {version}");
        }
    }
}

#[test]
fn a_panic_or_a_forgotten_answer_is_a_500_and_the_worker_lives() {
    let running = start(Limits::default(), 1, 1);
    for path in ["/panic", "/nothing", "/router-bug"] {
        for _ in 0..3 {
            let all = running.talk(get(path) + &get("/never"));
            assert!(all.starts_with("HTTP/1.1 500 ") && all.contains("Connection: close"), "{path}: {all}");
            assert_eq!(all.matches("HTTP/1.1").count(), 1);
        }
    }
    assert!(running.talk(get_close("/a")).ends_with("/a"));
    assert_eq!(running.figures.panics(), 3);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let limits = Limits { write_deadline: Duration::from_millis(500), body_rate_min: 100 << 20, ..Limits::default() };
    let running = start(limits, 1, 1);
    let mut stream = running.connect();
    // Enough answers to fill all buffers.
    for _ in 0..8 {
        stream.write_all(get("/big").as_bytes()).unwrap();
    }
    let started = Instant::now();
    sleep(Duration::from_millis(100));
    while running.figures.relay_busy() > 0 {
        assert!(started.elapsed() < Duration::from_secs(4));
        sleep(Duration::from_millis(10));
    }
    assert!(stream.read_to_end(&mut Vec::new()).is_err());
    assert!(running.talk(get_close("/big")).len() > 4 << 20);
}

#[test]
fn stopping_ends_the_idle_at_once_and_lets_answers_end() {
    let mut running = start_default();
    let mut idle = running.connect();
    idle.write_all(get("/a").as_bytes()).unwrap();
    answer(&mut idle, false);
    let mut busy = running.connect();
    busy.write_all(get("/slow").as_bytes()).unwrap();
    while running.figures.relay_busy() < 1 {
        sleep(Duration::from_millis(1));
    }
    let started = Instant::now();
    running.stopper.stop();
    assert!(running.stopper.is_stopping());
    assert_eq!(rest(&mut idle), "");
    assert!(started.elapsed() < Duration::from_millis(200));
    assert!(TcpStream::connect(running.address).is_err());
    let all = rest(&mut busy);
    assert!(all.ends_with("slow") && all.contains("Connection: close"), "{all}");
    drop(busy);
    let drain = running.stop();
    assert!(drain.is_complete() && drain.wait(Duration::ZERO));
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn a_stop_with_little_patience_says_what_is_left() {
    let door = Door::bind("localhost", 0, Limits::default()).unwrap();
    let (address, stopper) = (door.local_addr().unwrap(), door.stopper());
    let running = thread::spawn(move || {
        door.run(Arc::new(Toy::default()), Workers { relay: 1, control: 1 }, Duration::from_millis(50))
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(get("/slow").as_bytes()).unwrap();
    sleep(Duration::from_millis(100));
    stopper.stop();
    let drain = running.join().unwrap().unwrap();
    assert!(!drain.is_complete());
    assert!(!drain.wait(Duration::from_millis(1)));
    assert!(drain.wait(Duration::from_secs(2)));
    assert!(rest(&mut stream).ends_with("slow"));
}

#[test]
fn connections_above_the_limit_wait_and_are_served_later() {
    let limits = Limits { connections_max: 3, ..Limits::default() };
    let running = start(limits, 2, 1);
    let first: Vec<TcpStream> = (0..3).map(|_| running.connect()).collect();
    let mut waiting = running.connect();
    waiting.write_all(get("/w").as_bytes()).unwrap();
    sleep(Duration::from_millis(300));
    assert!(running.figures.accept_pauses() > 0);
    drop(first);
    assert_eq!(answer(&mut waiting, false).1, "/w");
}

#[test]
fn one_address_can_be_bounded() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let running = start(limits, 2, 1);
    let kept: Vec<TcpStream> = (0..2).map(|_| running.connect()).collect();
    let mut third = running.connect();
    assert_eq!(rest(&mut third), "");
    sleep(Duration::from_millis(20));
    assert_eq!(running.figures.refused_addresses(), 1);
    drop(kept);
    sleep(Duration::from_millis(50));
    assert!(running.talk(get_close("/a")).ends_with("/a"));
}
