//! The main path: what goes up, what comes down, and when.

use crate::harness::client::Connection;
use crate::harness::upstream::{Step, chunk, json, last_chunk, send, stream_head};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn streaming(pieces: Vec<String>) -> Upstream {
    Upstream::start(move |_| {
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.push(last_chunk());
        steps
    })
}

#[test]
fn a_message_passes_byte_for_byte_both_ways_under_all_prefixes_and_key_fields() {
    let body = message("claude-sonnet-4-5", 11, 7);
    let expected = body.clone();
    let upstream = Upstream::start(move |_| json(200, &body));
    let (relay, key) = Relay::with_upstream(&upstream);
    let bearer = format!("Bearer {}", key.clear);
    for prefix in ["/api", "/claude", ""] {
        for field in [("x-api-key", key.clear.as_str()), ("authorization", &bearer), ("api-key", &key.clear)] {
            let target = format!("{prefix}/v1/messages?beta=true");
            let response = relay.post(&target, &[field, ("anthropic-beta", "a,b"), ("x-app", "cli")], REQUEST);
            assert_eq!((response.status, response.text()), (200, expected.clone()), "{target}");
            assert_eq!(response.field("request-id"), Some("req_json"));
            assert_eq!(response.field("content-type"), Some("application/json"));
            assert!(response.field("x-request-id").is_some());
        }
    }
    let received = upstream.received();
    assert_eq!(received.len(), 9);
    for request in received {
        assert_eq!(request.body, REQUEST);
        assert_eq!(request.target, "/v1/messages?beta=true");
        assert_eq!(request.field("x-api-key"), Some("sk-ant-secret-of-first"));
        assert_eq!(request.field("authorization"), None);
        assert_eq!(request.field("api-key"), None);
        assert_eq!(request.field("anthropic-beta"), Some("a,b"));
        assert_eq!(request.field("anthropic-version"), Some("2023-06-01"));
        assert_eq!(request.field("accept-encoding"), Some("identity"));
        assert_eq!(request.field("x-app"), Some("cli"));
        assert!(!request.fields.iter().any(|(_, value)| value.contains(&key.clear)));
    }
}

#[test]
fn a_stream_passes_byte_for_byte() {
    let pieces = events("claude-sonnet-4-5", 11, 7);
    let expected = pieces.concat();
    let upstream = streaming(pieces);
    let (relay, key) = Relay::with_upstream(&upstream);
    let response = relay.message(&key, STREAM_REQUEST);
    assert_eq!((response.status, response.text()), (200, expected));
    assert_eq!(response.field("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(response.field("content-encoding"), None);
    assert_eq!(upstream.received()[0].body, STREAM_REQUEST);
}

#[test]
fn the_first_event_arrives_before_the_upstream_sends_its_second() {
    let gate = Arc::new(AtomicBool::new(false));
    let (pieces, opened) = (events("m", 1, 2), Arc::clone(&gate));
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![stream_head(), chunk(&pieces[0]), Step::Gate(Arc::clone(&opened))];
        steps.extend(pieces[1..].iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    assert_eq!(client.head().unwrap().status, 200);
    let first = client.chunk().unwrap().expect("the first event");
    assert!(String::from_utf8(first).unwrap().contains("message_start"));
    gate.store(true, Ordering::Relaxed);
    let mut rest = Vec::new();
    while let Some(piece) = client.chunk().unwrap() {
        rest.extend(piece);
    }
    assert!(String::from_utf8(rest).unwrap().ends_with("data: {\"type\":\"message_stop\"}\n\n"));
}

#[test]
fn an_error_of_the_upstream_passes_as_it_is() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow"},"request_id":"req_9"}"#;
    let upstream = Upstream::start(move |_| {
        vec![
            send(format!(
                "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nretry-after: 12\r\n\
             anthropic-ratelimit-unified-status: rejected\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )),
            Step::Close,
        ]
    });
    for request in [REQUEST, STREAM_REQUEST] {
        let (relay, key) = Relay::with_upstream(&upstream);
        let response = relay.message(&key, request);
        assert_eq!((response.status, response.text().as_str()), (429, body));
        assert_eq!(response.field("retry-after"), Some("12"));
        assert_eq!(response.field("anthropic-ratelimit-unified-status"), Some("rejected"));
    }
}

#[test]
fn a_stream_that_breaks_off_ends_with_an_error_event_and_never_looks_whole() {
    for cut in ["orderly", "reset", "in the middle of an event"] {
        let pieces = events("m", 5, 9);
        let upstream = Upstream::start(move |_| {
            let mut steps = vec![stream_head(), chunk(&pieces[0]), chunk(&pieces[1])];
            match cut {
                "orderly" => steps.push(Step::Close),
                "reset" => steps.extend([Step::Wait(Duration::from_millis(50)), Step::Reset]),
                _ => steps.extend([chunk("event: content_block_delta\ndata: {\"type\":\"cont"), Step::Close]),
            }
            steps
        });
        let (relay, key) = Relay::with_upstream(&upstream);
        let response = relay.message(&key, STREAM_REQUEST);
        let text = response.text();
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        let data = last.strip_prefix("event: error\ndata: ").unwrap_or_else(|| panic!("{cut}: {text}"));
        let event: serde_json::Value = serde_json::from_str(data).expect("a well-formed event");
        assert_eq!((&event["type"], &event["error"]["type"]), (&"error".into(), &"api_error".into()));
        assert!(!text.contains("message_stop"));
        eventually("the partial bill", || relay.count("SELECT count(*) FROM ledger WHERE complete = 0") == 1);
        assert_eq!(relay.count("SELECT input_tokens FROM ledger"), 5);
    }
}

#[test]
fn what_breaks_behind_the_last_event_takes_nothing_from_the_answer() {
    let pieces = events("m", 5, 9);
    let expected = pieces.concat();
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.extend([Step::Wait(Duration::from_millis(50)), Step::Reset]);
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    assert_eq!(relay.message(&key, STREAM_REQUEST).text(), expected);
    assert_eq!(relay.count("SELECT count(*) FROM ledger WHERE complete = 1"), 1);
}

#[test]
fn a_key_for_one_request_at_a_time_is_never_refused_in_turn() {
    let pieces = events("m", 1, 1);
    let upstream = Upstream::start(move |request| {
        if request.json()["stream"] != true {
            return json(200, &message("m", 1, 1));
        }
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let relay = crate::harness::relay::Start::new().upstream(&upstream).with("RELAY_WORKERS", "1").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key_with(&serde_json::json!({ "name": "one", "concurrencyLimit": 1 }));
    let mut kept = Connection::open(relay.address);
    for turn in 0..200 {
        let body = if turn % 2 == 0 { REQUEST } else { STREAM_REQUEST };
        kept.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], body);
        assert_eq!(kept.response().unwrap().status, 200, "turn {turn}");
        assert_eq!(relay.message(&key, body).status, 200, "turn {turn} on a connection of its own");
    }
}

#[test]
fn a_json_answer_that_breaks_off_is_an_error_or_an_aborted_connection() {
    let upstream = Upstream::start(|_| {
        vec![
            send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{\"id\":"),
            Step::Close,
        ]
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let response = relay.message(&key, REQUEST);
    assert_eq!(response.status, 502);
    assert_eq!(response.json()["error"], "Upstream connection error");
    // A larger one has begun to flow when it breaks: then the connection must break as well.
    let upstream = Upstream::start(|_| {
        let part = "x".repeat(100_000);
        vec![
            send(format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900000\r\n\r\n{part}")),
            Step::Close,
        ]
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    assert!(client.response().is_err(), "a cut answer must not look whole");
}

#[test]
fn upstream_faults_have_the_statuses_that_clients_retry() {
    let silent = Upstream::start(|_| vec![Step::Wait(Duration::from_secs(5))]);
    let relay = crate::harness::relay::Start::new().upstream(&silent).with("UPSTREAM_FIRST_BYTE_TIMEOUT", "300").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let response = relay.message(&key, REQUEST);
    assert_eq!((response.status, &response.json()["error"]), (504, &"Upstream timeout".into()));

    let resetting = Upstream::start(|_| vec![Step::Reset]);
    let (relay, key) = Relay::with_upstream(&resetting);
    let response = relay.message(&key, REQUEST);
    assert_eq!((response.status, &response.json()["error"]), (502, &"Upstream connection error".into()));

    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay =
        crate::harness::relay::Start::new().with("CLAUDE_API_URL", &format!("http://{closed}/v1/messages")).run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let response = relay.message(&key, REQUEST);
    assert_eq!((response.status, &response.json()["error"]), (502, &"Upstream service unavailable".into()));
}

#[test]
fn silence_within_a_stream_is_bounded_and_told() {
    let upstream =
        Upstream::start(|_| vec![stream_head(), chunk(&events("m", 1, 1)[0]), Step::Wait(Duration::from_secs(5))]);
    let relay = crate::harness::relay::Start::new().upstream(&upstream).with("UPSTREAM_IDLE_TIMEOUT", "400").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let start = Instant::now();
    let text = relay.message(&key, STREAM_REQUEST).text();
    assert!(start.elapsed() < Duration::from_secs(3));
    assert!(text.contains("event: error\ndata: ") && text.contains("timeout_error"), "{text}");
}

#[test]
fn a_client_that_leaves_ends_the_upstream_request_and_is_billed_for_what_was_reported() {
    for sent in [0, 1, 4] {
        let ended = Arc::new(Mutex::new(None));
        let (noted, pieces) = (Arc::clone(&ended), events("m", 123, 9));
        let upstream = Upstream::start(move |_| {
            let mut steps = Vec::new();
            if sent > 0 {
                steps.push(stream_head());
                steps.extend(pieces[..sent].iter().map(chunk));
            }
            steps.push(Step::AwaitEnd(Arc::clone(&noted)));
            steps
        });
        let (relay, key) = Relay::with_upstream(&upstream);
        let mut client = Connection::open(relay.address);
        client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
        if sent > 0 {
            client.head().unwrap();
            client.chunk().unwrap();
        }
        eventually("the upstream has the request", || !upstream.received().is_empty());
        std::thread::sleep(Duration::from_millis(100));
        drop(client);
        let left = Instant::now();
        eventually("the upstream's connection ends", || ended.lock().unwrap().is_some());
        assert!(ended.lock().unwrap().unwrap() - left < Duration::from_secs(1), "after {sent} events");
        if sent > 0 {
            eventually("the partial line", || relay.count("SELECT count(*) FROM ledger") == 1);
            let facts = relay.query("SELECT input_tokens, complete, billed FROM ledger");
            assert_eq!(facts, vec![vec![123.into(), 0.into(), 1.into()]]);
        }
    }
}

#[test]
fn accounts_take_turns_and_a_bound_key_keeps_to_its_own() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let second = relay.add_api_key_account("second", "sk-second");
    for number in 0..4 {
        // Each begins a conversation of its own.
        let body = String::from_utf8_lossy(REQUEST).replace("Say", &format!("Say {number}"));
        assert_eq!(relay.message(&key, body.as_bytes()).status, 200);
    }
    let bound = relay.add_key_with(&serde_json::json!({ "name": "bound", "claudeAccountId": second }));
    for _ in 0..3 {
        assert_eq!(relay.message(&bound, REQUEST).status, 200);
    }
    let used: Vec<String> =
        upstream.received().iter().map(|request| request.field("x-api-key").unwrap().to_owned()).collect();
    let (one, two) = ("sk-ant-secret-of-first", "sk-second");
    assert_eq!(used, [one, two, one, two, two, two, two]);
    relay.admin("PUT", &format!("/admin/claude-accounts/{second}"), &serde_json::json!({ "isActive": false }));
    assert_eq!(relay.message(&bound, REQUEST).status, 503, "a bound key never falls back to the pool");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
}

#[test]
fn refusals_have_the_wording_of_the_contract() {
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(200, &message("m", 1, 1)));
        steps
    });
    let (relay, _) = Relay::with_upstream(&upstream);
    let refused = |fields: &[(&str, &str)], body: &[u8]| {
        let response = relay.post("/api/v1/messages", fields, body);
        (response.status, response.text())
    };
    let invalid = |message: &str| (401, format!(r#"{{"error":"Invalid API key","message":"{message}"}}"#));
    assert_eq!(refused(&[], REQUEST).0, 401);
    assert!(refused(&[], REQUEST).1.contains(r#""error":"Missing API key","message":"Please provide an API key"#));
    assert_eq!(
        refused(&[("x-api-key", "cr_1")], REQUEST).1,
        r#"{"error":"Invalid API key format","message":"API key format is invalid"}"#
    );
    assert_eq!(refused(&[("x-api-key", "sk-0123456789")], REQUEST), invalid("Invalid API key format"));
    assert_eq!(refused(&[("x-api-key", "cr_0123456789")], REQUEST), invalid("API key not found"));
    let key = relay.add_key_with(&serde_json::json!({
        "name": "limited", "concurrencyLimit": 1, "enableModelRestriction": true, "restrictedModels": ["claude-opus-4-1"],
    }));
    let by_key = [("x-api-key", key.clear.as_str())];
    for (body, message) in [
        (&b"{}"[..], "Missing or invalid field: messages (must be an array)"),
        (br#"{"messages":{}}"#, "Missing or invalid field: messages (must be an array)"),
        (br#"{"messages":[]}"#, "Messages array cannot be empty"),
        (b"[1]", "Missing or invalid field: messages (must be an array)"),
        // Without a content type it is no JSON to the original either.
        (b"{", "Missing or invalid field: messages (must be an array)"),
    ] {
        let expected = format!(r#"{{"error":"Invalid request","message":"{message}"}}"#);
        assert_eq!(refused(&by_key, body), (400, expected));
    }
    let malformed = refused(&[by_key[0], ("Content-Type", "application/json; charset=utf-8")], b"{");
    assert_eq!(malformed.0, 400);
    assert!(
        malformed.1.contains(r#""message":"Request body must be a valid JSON object","requestId""#),
        "{malformed:?}"
    );
    let opus = br#"{"model":"claude-opus-4-1","messages":[{"role":"user","content":"x"}]}"#;
    let forbidden = r#"{"error":{"type":"forbidden","message":"暂无该模型访问权限"}}"#;
    assert_eq!(refused(&by_key, opus), (403, forbidden.to_owned()));

    let mut running = Connection::open(relay.address);
    running.request("POST", "/v1/messages", &by_key, REQUEST);
    eventually("the first runs", || !upstream.received().is_empty());
    let second = relay.message(&key, REQUEST);
    let expected = r#"{"error":"Concurrency limit exceeded","message":"Too many concurrent requests. Limit: 1 concurrent requests","currentConcurrency":1,"concurrencyLimit":1}"#;
    assert_eq!((second.status, second.text().as_str()), (429, expected));
    gate.store(true, Ordering::Relaxed);
    assert_eq!(running.response().unwrap().status, 200);
    eventually("the permit is back", || relay.message(&key, REQUEST).status == 200);

    let update = |body| assert_eq!(relay.admin("PUT", &format!("/admin/api-keys/{}", key.id), &body).status, 200);
    update(serde_json::json!({ "expiresAt": "2020-01-01T00:00:00Z" }));
    assert_eq!(refused(&by_key, REQUEST), invalid("API key has expired"));
    update(serde_json::json!({ "isActive": false }));
    assert_eq!(refused(&by_key, REQUEST), invalid("API key is disabled"));
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{}", key.id), &serde_json::Value::Null).status, 200);
    assert_eq!(refused(&by_key, REQUEST), invalid("API key not found"));
}

#[test]
fn a_compressed_body_is_refused_for_what_it_is() {
    let upstream = streaming(events("m", 1, 1));
    let (relay, key) = Relay::with_upstream(&upstream);
    let fields =
        [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json"), ("Content-Encoding", "gzip")];
    let refused = relay.post("/api/v1/messages", &fields, b"\x1f\x8b\x08\x00");
    assert_eq!(refused.status, 415);
    assert_eq!(refused.json()["message"], "The request body must not be compressed");
    assert!(upstream.received().is_empty());
}

#[test]
fn without_an_account_the_admin_is_told_and_unknown_paths_are_told_in_the_contracts_words() {
    let relay = crate::harness::relay::Start::new().run();
    let key = relay.add_key("k");
    let response = relay.message(&key, REQUEST);
    assert_eq!(response.status, 503);
    assert_eq!(response.json()["message"], "No active shared Claude accounts available");
    for target in ["/api/v1/complete", "/claude/x", "/v1/nothing"] {
        let response = relay.post(target, &[], b"{}");
        let body = response.json();
        assert_eq!((response.status, &body["error"]), (404, &"Not Found".into()), "{target}");
        assert_eq!(body["message"], format!("Route {target} not found"));
    }
    let other = relay.get("/nowhere?x=1", &[]);
    assert_eq!((other.status, &other.json()["message"]), (404, &"Route /nowhere?x=1 not found".into()));
}

#[test]
fn large_bodies_pass_and_too_large_ones_are_refused() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let text = "x".repeat(20 * 1024 * 1024);
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{text}"}}]}}"#);
    assert_eq!(relay.message(&key, body.as_bytes()).status, 200);
    assert!(upstream.received()[0].body == body.as_bytes());
    let mut client = Connection::open(relay.address);
    client.send(
        format!(
            "POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\nContent-Length: 33554433\r\n\r\n",
            key.clear
        )
        .as_bytes(),
    );
    let refused = client.response().unwrap();
    assert_eq!(refused.status, 413);
    assert_eq!(refused.json()["error"], "Payload Too Large");
    // A body without a length arrives whole as well.
    let mut client = Connection::open(relay.address);
    client.send(
        format!(
            "POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            key.clear
        )
        .as_bytes(),
    );
    for piece in REQUEST.chunks(7) {
        client.send(format!("{:x}\r\n", piece.len()).as_bytes());
        client.send(piece);
        client.send(b"\r\n");
    }
    client.send(b"0\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 200);
    assert_eq!(upstream.received().last().unwrap().body, REQUEST);
}

#[test]
fn a_huge_event_is_passed_on_and_the_bill_is_still_exact() {
    let mut pieces = events("m", 3, 4);
    let huge = "y".repeat(5 * 1024 * 1024);
    pieces.insert(
        4,
        format!("event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"x\":\"{huge}\"}}\n\n"),
    );
    let expected = pieces.concat();
    let upstream = streaming(pieces);
    let (relay, key) = Relay::with_upstream(&upstream);
    let response = relay.message(&key, STREAM_REQUEST);
    assert!(response.body == expected.as_bytes());
    assert_eq!(
        relay.query("SELECT input_tokens, output_tokens, complete FROM ledger"),
        vec![vec![3.into(), 4.into(), 1.into()]]
    );
}
