//! The requests that run: the list, and ending one of them.

use crate::harness::client::Connection;
use crate::harness::upstream::{Step, chunk, json, last_chunk, send, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How long ending may take.
const SOON: Duration = Duration::from_millis(1500);
const WORDS: &str = "The request was ended by the administrator";

fn running(relay: &Relay) -> Vec<Value> {
    let data = relay.admin("GET", "/admin/requests/running", &Value::Null).json()["data"].clone();
    let requests = data["requests"].as_array().unwrap().clone();
    assert_eq!(data["count"], requests.len());
    requests
}

fn open(relay: &Relay, key: &Key, target: &str, body: &[u8]) -> Connection {
    let mut connection = Connection::open(relay.address);
    connection.request("POST", target, &[("x-api-key", &key.clear), ("Content-Type", "application/json")], body);
    connection
}

/// Waits for the one request that runs, ends it, and gives it back.
fn end_the_one(relay: &Relay, state: &str) -> Value {
    eventually("it runs", || running(relay).first().is_some_and(|request| request["state"] == state));
    let request = running(relay).remove(0);
    let target = format!("/admin/requests/running/{}", request["id"].as_str().unwrap());
    assert_eq!(relay.admin("DELETE", &target, &Value::Null).status, 200);
    request
}

fn ledger(relay: &Relay, request: &Value) -> Value {
    let target = format!("/admin/requests/{}", request["id"].as_str().unwrap());
    relay.admin("GET", &target, &Value::Null).json()["data"].clone()
}

/// An upstream that says nothing, not even a head.
fn silent() -> Upstream {
    Upstream::start(|_| vec![Step::AwaitEnd(Arc::default())])
}

#[test]
fn a_request_that_waits_for_its_answer_is_listed_and_can_be_ended() {
    let upstream = silent();
    let (relay, key) = Relay::with_upstream(&upstream);
    assert!(running(&relay).is_empty());
    let mut connection = open(&relay, &key, "/v1/messages", STREAM_REQUEST);
    let request = end_the_one(&relay, "waiting for upstream");
    let start = Instant::now();
    let answer = connection.response().unwrap();
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((answer.status, &answer.json()["message"]), (503, &value!(WORDS)));
    assert_eq!(answer.field("x-should-retry"), Some("false"));
    assert_eq!(answer.field("x-request-id"), request["id"].as_str());
    for (name, expected) in [
        ("keyId", value!(key.id)),
        ("keyName", value!("somebody")),
        ("accountName", value!("first")),
        ("model", value!("claude-sonnet-4-5")),
        ("stream", value!(true)),
        ("purpose", value!("message")),
        ("bytes", value!(0)),
        ("tokens", value!({ "input": 0, "output": 0, "cacheCreate": 0, "cacheRead": 0, "total": 0 })),
    ] {
        assert_eq!(request[name], expected, "{name}");
    }
    let line = ledger(&relay, &request);
    assert_eq!((&line["status"], &line["complete"], &line["tokens"]), (&value!(503), &value!(false), &Value::Null));
    assert_eq!((&line["accountName"], &line["model"]), (&value!("first"), &value!("claude-sonnet-4-5")));
    eventually("nothing runs", || running(&relay).is_empty());
    assert!(relay.log().contains("ended the running request"));
}

#[test]
fn a_silent_stream_is_listed_with_what_it_reported_and_ends_with_an_error_event() {
    let upstream = Upstream::start(|_| {
        let mut events = events("claude-sonnet-4-5", 50, 5);
        // The last one is cut in its middle.
        vec![stream_head(), chunk(events.remove(0)), chunk(&events[2][..30]), Step::AwaitEnd(Arc::default())]
    });
    let (relay, _) = Relay::with_upstream(&upstream);
    let key = relay.add_key_with(&value!({ "name": "somebody", "concurrencyLimit": 1 }));
    let mut connection = open(&relay, &key, "/v1/messages", STREAM_REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    eventually("the events came", || running(&relay).first().is_some_and(|request| request["tokens"]["total"] == 121));
    let request = end_the_one(&relay, "streaming");
    let start = Instant::now();
    let mut text = String::new();
    while let Some(chunk) = connection.chunk().unwrap() {
        text.push_str(&String::from_utf8(chunk).unwrap());
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    let last = text.trim_end().rsplit("\n\n").next().unwrap();
    assert!(last.starts_with("event: error\ndata: {") && last.contains(WORDS), "{text}");
    assert_eq!(
        request["tokens"],
        value!({ "input": 50, "output": 1, "cacheCreate": 30, "cacheRead": 40, "total": 121 })
    );
    assert!(request["bytes"].as_u64().unwrap() > 100);
    let line = ledger(&relay, &request);
    assert_eq!((&line["status"], &line["outcome"]), (&value!(200), &value!("partial")));
    assert_eq!(line["tokens"]["total"], 121);
    // Its place is free as soon as its client has been told.
    assert_eq!(open(&relay, &key, "/v1/messages", STREAM_REQUEST).head().unwrap().status, 200);
}

#[test]
fn an_upstream_that_never_pauses_is_ended_as_well() {
    let upstream = Upstream::start(|_| {
        let mut steps = vec![stream_head(), chunk(events("m", 50, 5).remove(0))];
        for _ in 0..1000 {
            steps.push(chunk("event: ping\ndata: {\"type\": \"ping\"}\n\n"));
            steps.push(Step::Wait(Duration::from_millis(10)));
        }
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let mut connection = open(&relay, &key, "/v1/messages", STREAM_REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    let request = end_the_one(&relay, "streaming");
    let start = Instant::now();
    let mut last = Vec::new();
    while let Some(chunk) = connection.chunk().unwrap() {
        last = chunk;
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert!(String::from_utf8(last).unwrap().contains(WORDS));
    assert_eq!(ledger(&relay, &request)["outcome"], "partial");
}

#[test]
fn a_whole_answer_that_has_begun_is_aborted_and_one_that_has_not_is_refused() {
    let gate = Arc::new(AtomicBool::new(false));
    let body = message("m", 50, 5);
    let half = body.len() / 2;
    let upstream = Upstream::start(move |request| {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        let mut steps = vec![send(head)];
        if request.field("x-half").is_some() {
            // Two pieces: the relay holds the last one back.
            steps.push(send(&body[..half]));
            steps.push(Step::Wait(Duration::from_millis(100)));
            steps.push(send(&body[half..half + 1]));
        }
        steps.push(Step::Gate(Arc::clone(&gate)));
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    // Until its first piece is here, another account could still answer it.
    let mut connection = open(&relay, &key, "/v1/messages", REQUEST);
    let request = end_the_one(&relay, "waiting for upstream");
    let answer = connection.response().unwrap();
    assert_eq!((answer.status, &answer.json()["message"]), (503, &value!(WORDS)));
    let line = ledger(&relay, &request);
    assert_eq!((&line["status"], &line["complete"]), (&value!(503), &value!(false)));
    eventually("nothing runs", || running(&relay).is_empty());

    let mut connection = Connection::open(relay.address);
    let fields = [("x-api-key", key.clear.as_str()), ("x-half", "1")];
    connection.request("POST", "/v1/messages", &fields, REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    let request = end_the_one(&relay, "streaming");
    let start = Instant::now();
    assert!(connection.rest().is_err(), "it must not look whole");
    assert!(start.elapsed() < SOON);
    eventually("its line is there", || ledger(&relay, &request)["complete"] == false);
}

#[test]
fn what_does_not_run_cannot_be_ended_and_counting_tokens_leaves_no_line() {
    let upstream = silent();
    let (relay, key) = Relay::with_upstream(&upstream);
    let gone = relay.admin("DELETE", "/admin/requests/running/abcdefghijk", &Value::Null);
    assert_eq!((gone.status, &gone.json()["error"]), (404, &value!("Request not found")));
    let mut connection = open(&relay, &key, "/v1/messages/count_tokens", REQUEST);
    let request = end_the_one(&relay, "waiting for upstream");
    assert_eq!(request["purpose"], "count_tokens");
    assert_eq!(connection.response().unwrap().status, 503);
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 0);
}

#[test]
fn what_ends_by_itself_leaves_the_list() {
    let upstream = Upstream::start(|request| match request.field("x-what") {
        Some("reset") => vec![Step::Reset],
        Some("stream") => {
            let events = events("m", 50, 5).into_iter().map(chunk);
            std::iter::once(stream_head()).chain(events).chain([last_chunk()]).collect()
        }
        _ => json(200, &message("m", 50, 5)),
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    for (what, status) in [("reset", 502), ("stream", 200), ("whole", 200)] {
        let fields = [("x-api-key", key.clear.as_str()), ("x-what", what)];
        assert_eq!(relay.post("/v1/messages", &fields, REQUEST).status, status, "{what}");
        eventually("nothing runs", || running(&relay).is_empty());
    }
    assert_eq!(relay.message(&key, b"{}").status, 400);
    assert!(running(&relay).is_empty());
}

#[test]
fn an_answer_that_is_whole_already_is_not_spoiled_by_ending_it() {
    let upstream = Upstream::start(|_| {
        let events = events("m", 50, 5).into_iter().map(chunk);
        // It keeps the stream open behind the end of its message.
        std::iter::once(stream_head()).chain(events).chain([Step::AwaitEnd(Arc::default())]).collect()
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let mut connection = open(&relay, &key, "/v1/messages", STREAM_REQUEST);
    assert_eq!(connection.head().unwrap().status, 200);
    let mut text = String::new();
    while !text.contains("message_stop\"}\n\n") {
        text.push_str(&String::from_utf8(connection.chunk().unwrap().unwrap()).unwrap());
    }
    let request = end_the_one(&relay, "streaming");
    assert_eq!(connection.chunk().unwrap(), None, "nothing but the end follows");
    assert_eq!(ledger(&relay, &request)["outcome"], "ok");
    eventually("nothing runs", || running(&relay).is_empty());
}
