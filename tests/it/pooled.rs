//! Connections that were kept: what happens when the other side has closed one, on every way to an upstream.

use crate::harness::relay::Start;
use crate::harness::upstream::{Step, json};
use crate::harness::{Key, Relay, Upstream};
use crate::proxies::{PASSWORD, USER, connect, proxy, socks5};
use crate::samples::{REQUEST, message};
use crate::tls::tls_front;
use serde_json::{Value, json as value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const WAYS: [&str; 5] = ["direct", "socks5", "socks5h", "http", "https"];

/// An upstream that does as it is told with one request after the other, and afterwards answers.
fn upstream(script: impl Fn(usize) -> Option<Vec<Step>> + Send + Sync + 'static) -> Upstream {
    let number = AtomicUsize::new(0);
    Upstream::start(move |_| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        script(number).unwrap_or_else(|| json(200, &message("m", 1, 1)))
    })
}

/// An answer, and the end of the connection that it came on.
fn last_answer(end: Step) -> Vec<Step> {
    let mut steps = json(200, &message("m", 1, 1));
    steps.extend([Step::Wait(Duration::from_millis(50)), end]);
    steps
}

/// A relay whose only account goes one way to an upstream, which may stand behind TLS.
fn relay(upstream: &Upstream, way: &str, is_tls: bool) -> (Relay, Key) {
    let start = Start::new();
    let mut roots = String::new();
    let mut front = |address| {
        let (address, root) = tls_front(address);
        roots.push_str(&root);
        address
    };
    let (scheme, address) = if is_tls { ("https", front(upstream.address)) } else { ("http", upstream.address) };
    let mut account = value!({ "name": "only", "kind": "api_key", "apiKey": "sk-1" });
    if way != "direct" {
        let proxy = proxy(if way.starts_with("socks") { socks5 } else { connect });
        let port = if way == "https" { front(proxy.address).port() } else { proxy.address.port() };
        account["proxy"] =
            value!({ "type": way, "host": "localhost", "port": port, "username": USER, "password": PASSWORD });
    }
    let url = format!("{scheme}://localhost:{}/v1/messages", address.port());
    let mut start = start.with("CLAUDE_API_URL", &url);
    if !roots.is_empty() {
        std::fs::write(start.folder.0.join("roots.pem"), roots).unwrap();
        start = start.with("UPSTREAM_CA_FILE", "roots.pem");
    }
    let relay = start.run();
    relay.add_account(&account);
    let key = relay.add_key("k");
    (relay, key)
}

/// The account's rest, if it has one.
fn rest(relay: &Relay) -> Value {
    relay.admin("GET", "/admin/claude-accounts", &Value::Null).json()["data"][0]["rest"].clone()
}

fn connections(upstream: &Upstream) -> usize {
    upstream.connections.load(Ordering::Relaxed)
}

#[test]
fn a_connection_serves_again_on_every_way() {
    for (way, is_tls) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let upstream = upstream(|_| None);
        let (relay, key) = relay(&upstream, way, is_tls);
        for _ in 0..3 {
            assert_eq!(relay.message(&key, REQUEST).status, 200, "{way}, TLS {is_tls}");
        }
        assert_eq!(connections(&upstream), 1, "{way}, TLS {is_tls}");
    }
}

#[test]
fn a_connection_that_was_closed_while_it_idled_is_not_noticed_by_the_client() {
    for (way, is_tls) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
        let upstream = upstream(|number| (number == 0).then(|| last_answer(Step::Close)));
        let (relay, key) = relay(&upstream, way, is_tls);
        assert_eq!(relay.message(&key, REQUEST).status, 200, "{way}, TLS {is_tls}");
        std::thread::sleep(Duration::from_millis(300));
        let second = relay.message(&key, REQUEST);
        assert_eq!(second.status, 200, "{way}, TLS {is_tls}: {}", second.text());
        assert_eq!((connections(&upstream), upstream.received().len()), (2, 2), "{way}, TLS {is_tls}");
        assert_eq!(rest(&relay), Value::Null, "{way}, TLS {is_tls}");
        // It was seen before anything was sent on it.
        assert!(!relay.log.lock().unwrap().contains("a pooled connection was closed"), "{way}, TLS {is_tls}");
    }
}

#[test]
fn a_connection_that_is_closed_as_a_request_goes_out_is_not_noticed_by_the_client() {
    for end in ["closed", "reset"] {
        for (way, is_tls) in WAYS.into_iter().flat_map(|way| [(way, false), (way, true)]) {
            let upstream = upstream(move |number| {
                (number == 1).then(|| vec![if end == "closed" { Step::Close } else { Step::Reset }])
            });
            let (relay, key) = relay(&upstream, way, is_tls);
            assert_eq!(relay.message(&key, REQUEST).status, 200, "{way}, TLS {is_tls}, {end}");
            let second = relay.message(&key, REQUEST);
            assert_eq!(second.status, 200, "{way}, TLS {is_tls}, {end}: {}", second.text());
            assert_eq!((connections(&upstream), upstream.received().len()), (2, 3), "{way}, TLS {is_tls}, {end}");
            assert_eq!(upstream.received()[1].body, upstream.received()[2].body);
            assert_eq!(rest(&relay), Value::Null, "{way}, TLS {is_tls}, {end}");
            assert_eq!(relay.count("SELECT max(attempts) FROM ledger"), 1, "{way}, TLS {is_tls}, {end}");
            assert_eq!(relay.message(&key, REQUEST).status, 200, "the fresh one is kept");
            assert_eq!(connections(&upstream), 2, "{way}, TLS {is_tls}, {end}");
        }
    }
}

#[test]
fn many_closed_connections_cost_one_fresh_one_each_request() {
    // Four idle connections, and each is closed at its next request.
    let upstream = upstream(|number| match number {
        0..4 => {
            let mut steps = vec![Step::Wait(Duration::from_millis(300))];
            steps.extend(json(200, &message("m", 1, 1)));
            Some(steps)
        }
        4 => Some(vec![Step::Reset]),
        _ => None,
    });
    let (relay, key) = relay(&upstream, "direct", false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(relay.message(&key, REQUEST).status, 200));
        }
    });
    assert_eq!(connections(&upstream), 4);
    assert_eq!(relay.message(&key, REQUEST).status, 200, "another old one is not tried");
    assert_eq!((connections(&upstream), upstream.received().len()), (5, 6));
}

#[test]
fn what_fails_on_a_fresh_connection_or_after_work_is_the_accounts_fault() {
    // Twice in a row: the second time on a fresh connection.
    let failing = upstream(|number| (number > 0).then(|| vec![Step::Reset]));
    let (first, key) = relay(&failing, "direct", false);
    assert_eq!(first.message(&key, REQUEST).status, 200);
    assert_eq!(first.message(&key, REQUEST).status, 502);
    assert_eq!(failing.received().len(), 3, "sent once more, and no more than that");
    assert_eq!(rest(&first)["reason"], "unreachable");
    // Not on the first use of a connection.
    let refusing = upstream(|_| Some(vec![Step::Reset]));
    let (second, key) = relay(&refusing, "direct", false);
    assert_eq!(second.message(&key, REQUEST).status, 502);
    assert_eq!(refusing.received().len(), 1);
    // Not once a byte of an answer has come, nor after so long a silence that it was at work.
    let half = || vec![Step::Send(b"HTTP/1.1 200 OK\r\nContent-".to_vec()), Step::Close];
    let late = || vec![Step::Wait(Duration::from_millis(5500)), Step::Close];
    for (end, steps) in [("half a head", half as fn() -> Vec<Step>), ("late", late)] {
        let ending = upstream(move |number| (number == 1).then(steps));
        let (third, key) = relay(&ending, "direct", false);
        assert_eq!(third.message(&key, REQUEST).status, 200);
        let begun = Instant::now();
        assert_eq!(third.message(&key, REQUEST).status, 502, "{end} {:?}", begun.elapsed());
        assert_eq!(ending.received().len(), 2, "{end}");
    }
}
