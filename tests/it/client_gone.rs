//! A client that leaves: the upstream's request ends too, whatever the way to it, and what is known is billed.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, chunk, json, last_chunk, send, stream_head};
use crate::harness::{Relay, Upstream, eventually};
use crate::proxies::{PASSWORD, USER, connect, proxy, socks5};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use crate::tls::{start, tls_front};
use serde_json::{Value, json as value};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// When the client leaves, as what the upstream has sent by then.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    BeforeTheHead,
    InSilence,
    MidEvent,
}

fn upstream(moment: Moment, ended: &Arc<Mutex<Option<Instant>>>) -> Upstream {
    let (noted, pieces) = (Arc::clone(ended), events("m", 123, 9));
    Upstream::start(move |_| {
        let mut steps = Vec::new();
        if moment != Moment::BeforeTheHead {
            steps.extend([stream_head(), chunk(&pieces[0])]);
        }
        if moment == Moment::MidEvent {
            steps.push(chunk("event: content_block_delta\ndata: {\"type\":\"con"));
        }
        steps.push(Step::AwaitEnd(Arc::clone(&noted)));
        steps
    })
}

/// Sends a request, reads what is there, and leaves. Gives back when.
fn leave(relay: &Relay, upstream: &Upstream, moment: Moment, key: &str) -> Instant {
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", key)], STREAM_REQUEST);
    eventually("the upstream has the request", || !upstream.received().is_empty());
    if moment != Moment::BeforeTheHead {
        client.head().unwrap();
        client.chunk().unwrap();
    }
    std::thread::sleep(Duration::from_millis(50));
    Instant::now()
}

fn check(relay: &Relay, upstream: &Upstream, ended: &Mutex<Option<Instant>>, moment: Moment, proxy: &Value, way: &str) {
    relay.add_account(&value!({ "name": "a", "kind": "api_key", "apiKey": "sk-1", "proxy": proxy }));
    let key = relay.add_key("k");
    let left = leave(relay, upstream, moment, &key.clear);
    eventually("the upstream's connection ends", || ended.lock().unwrap().is_some());
    let took = ended.lock().unwrap().unwrap() - left;
    assert!(took < Duration::from_secs(1), "{way}, {moment:?}: {took:?}");
    eventually("the partial line", || relay.count("SELECT count(*) FROM ledger") == 1);
    let facts = relay.query("SELECT input_tokens, complete, billed FROM ledger");
    let (tokens, billed) = if moment == Moment::BeforeTheHead { (0, 0) } else { (123, 1) };
    assert_eq!(facts, [[tokens.into(), 0.into(), billed.into()]], "{way}, {moment:?}");
    eventually("its seat is free", || {
        let list = relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
        list["data"][0]["inFlight"] == 0
    });
}

#[test]
fn who_leaves_is_noticed_within_a_second_over_every_way_at_every_moment() {
    for moment in [Moment::BeforeTheHead, Moment::InSilence, Moment::MidEvent] {
        for secure in [false, true] {
            for kind in ["", "http", "socks5"] {
                let ended = Arc::default();
                let upstream = upstream(moment, &ended);
                let relay = if secure {
                    let (address, certificate) = tls_front(upstream.address);
                    start(address, Some(&certificate)).run()
                } else {
                    Start::new().upstream(&upstream).run()
                };
                let proxy = proxy(if kind == "http" { connect } else { socks5 });
                let settings = value!({ "type": kind, "host": "127.0.0.1", "port": proxy.address.port(), "username": USER, "password": PASSWORD });
                let settings = if kind.is_empty() { Value::Null } else { settings };
                let way = format!("{kind} {}", if secure { "with TLS" } else { "plain" });
                check(&relay, &upstream, &ended, moment, &settings, &way);
            }
        }
    }
}

#[test]
fn who_leaves_a_whole_answer_is_not_the_upstreams_fault() {
    let ended = Arc::new(Mutex::new(None));
    let noted = Arc::clone(&ended);
    let upstream = Upstream::start(move |_| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n";
        vec![send(head), send(r#"{"id":"msg_1","usage":{"#), Step::AwaitEnd(Arc::clone(&noted))]
    });
    let relay = Start::new().upstream(&upstream).run();
    relay.add_api_key_account("a", "sk-1");
    let key = relay.add_key("k");
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    eventually("the upstream has the request", || !upstream.received().is_empty());
    std::thread::sleep(Duration::from_millis(50));
    let left = Instant::now();
    drop(client);
    eventually("the upstream's connection ends", || ended.lock().unwrap().is_some());
    assert!(ended.lock().unwrap().unwrap() - left < Duration::from_secs(1));
    eventually("its line", || relay.count("SELECT count(*) FROM ledger") == 1);
    assert_eq!(relay.query("SELECT status, complete FROM ledger"), [[499.into(), 0.into()]]);
    assert!(!relay.log().contains("Connection reset"), "{}", relay.log());
}

#[test]
fn an_answer_is_read_on_for_the_bill_where_that_is_set() {
    let (pieces, is_slow) = (events("m", 123, 9), Arc::new(std::sync::atomic::AtomicBool::new(true)));
    let slow = Arc::clone(&is_slow);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![stream_head(), chunk(&pieces[0])];
        let is_slow = slow.load(std::sync::atomic::Ordering::Relaxed);
        steps.push(Step::Wait(Duration::from_millis(if is_slow { 1500 } else { 20_000 })));
        steps.extend(pieces[1..].iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let relay = Start::new().upstream(&upstream).with("CLIENT_GONE_DRAIN", "3000").run();
    relay.add_api_key_account("a", "sk-1");
    let key = relay.add_key("k");
    leave(&relay, &upstream, Moment::InSilence, &key.clear);
    eventually("the whole bill", || {
        relay.count("SELECT count(*) FROM ledger WHERE output_tokens = 9 AND complete = 1") == 1
    });
    // The bound ends it where the upstream does not.
    is_slow.store(false, std::sync::atomic::Ordering::Relaxed);
    let left = leave(&relay, &upstream, Moment::InSilence, &key.clear);
    eventually("the partial bill", || relay.count("SELECT count(*) FROM ledger WHERE complete = 0") == 1);
    assert!((2500..5500).contains(&left.elapsed().as_millis()), "{:?}", left.elapsed());
}

#[test]
fn no_further_account_is_asked_for_a_client_that_has_left_though_its_bill_is_waited_for() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let busy = Upstream::start(move |_| {
        let body = r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#;
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(529, body));
        steps
    });
    let good = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let relay = Start::new().upstream(&busy).with("CLIENT_GONE_DRAIN", "30000").run();
    relay.add_account(&value!({ "name": "busy", "kind": "api_key", "apiKey": "sk-1", "priority": 1 }));
    let url = format!("http://{}", good.address);
    relay.add_account(&value!({ "name": "good", "kind": "api_key", "apiKey": "sk-2", "baseUrl": url }));
    let key = relay.add_key("k");
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    eventually("the first account has the request", || !busy.received().is_empty());
    drop(client);
    // The relay looks for the client twice a second.
    std::thread::sleep(Duration::from_millis(1200));
    gate.store(true, Ordering::Relaxed);
    eventually("its line is there", || relay.count("SELECT count(*) FROM ledger") == 1);
    assert_eq!((busy.received().len(), good.received().len()), (1, 0));
}
