//! What the interface has beyond the original's routes, and what HTTP itself asks of every answer.

use crate::harness::client::fetch;
use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::{Step, json};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn tokens_are_counted_by_the_upstream_and_not_billed() {
    let upstream = Upstream::start(|_| json(200, r#"{"input_tokens":2095}"#));
    let (relay, key) = Relay::with_upstream(&upstream);
    let by_key = [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
    for prefix in ["/api", "/claude", ""] {
        let answer = relay.post(&format!("{prefix}/v1/messages/count_tokens?beta=true"), &by_key, REQUEST);
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"input_tokens":2095}"#), "{prefix}");
    }
    for request in upstream.received() {
        assert_eq!(request.target, "/v1/messages/count_tokens?beta=true");
        assert_eq!((request.body.as_slice(), request.field("x-api-key")), (REQUEST, Some("sk-ant-secret-of-first")));
    }
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 0);
    assert_eq!(relay.post("/v1/messages/count_tokens", &[], REQUEST).status, 401);
}

#[test]
fn who_counts_tokens_takes_no_place_of_a_message() {
    let is_open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&is_open);
    let upstream = Upstream::start(move |request| match request.target.as_str() {
        "/v1/messages/count_tokens" => {
            [Step::Gate(Arc::clone(&gate))].into_iter().chain(json(200, r#"{"input_tokens":9}"#)).collect()
        }
        _ => json(200, &message("m", 1, 1)),
    });
    let (relay, _) = Relay::with_upstream(&upstream);
    let key = relay.add_key_with(&value!({ "name": "one", "concurrencyLimit": 1 }));
    let fields = [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
    let count = || relay.post("/v1/messages/count_tokens", &fields, REQUEST).status;
    std::thread::scope(|scope| {
        let first = scope.spawn(count);
        eventually("the first count is there", || upstream.received().len() == 1);
        assert_eq!(count(), 429, "counts have as many places as messages have");
        assert_eq!(relay.message(&key, REQUEST).status, 200);
        is_open.store(true, Ordering::Relaxed);
        assert_eq!(first.join().unwrap(), 200);
    });
    assert_eq!(count(), 200, "the place is free again");
}

#[test]
fn what_clients_tell_of_themselves_is_accepted_and_dropped() {
    let relay = Start::new().run();
    for prefix in ["/api", "/claude", ""] {
        let target = format!("{prefix}/api/event_logging/batch");
        let answer = relay.post(&target, &[("Content-Type", "application/json")], br#"{"events":[1]}"#);
        assert_eq!((answer.status, answer.text().as_str()), (200, "{}"), "{target}");
    }
}

#[test]
fn a_client_that_has_a_page_already_is_told_so() {
    let relay = Start::new().run();
    let page = relay.get("/web", &[]);
    let etag = page.field("etag").unwrap().to_owned();
    for method in ["GET", "HEAD"] {
        let again = fetch(relay.address, method, "/web", &[("If-None-Match", &etag)], b"");
        assert_eq!((again.status, again.body.len(), again.field("etag")), (304, 0, Some(etag.as_str())), "{method}");
    }
    assert_eq!(relay.get("/web", &[("If-None-Match", "W/\"0-0\"")]).status, 200);
    let head = fetch(relay.address, "HEAD", "/web", &[], b"");
    assert_eq!((head.status, head.field("content-length")), (200, page.field("content-length")));
}

#[test]
fn long_lists_and_pages_are_compressed_for_those_who_can_read_it_and_streams_never() {
    let upstream = Upstream::start(|_| json(200, &message(&"m".repeat(3000), 1, 1)));
    let (relay, key) = Relay::with_upstream(&upstream);
    for number in 0..10 {
        relay.add_key(&format!("key {number}"));
    }
    let bearer = format!("Bearer {}", relay.token());
    let list =
        |accepted: &str| relay.get("/admin/api-keys", &[("Authorization", &bearer), ("Accept-Encoding", accepted)]);
    let (plain, small) = (list("identity"), list("br;q=1.0, gzip;q=0.8"));
    assert_eq!((plain.field("content-encoding"), small.field("content-encoding")), (None, Some("gzip")));
    assert!(small.body.len() * 3 < plain.body.len());
    assert!(small.fields.iter().any(|(name, value)| name == "Vary" && value == "Accept-Encoding"));
    assert_eq!(small.field("etag"), plain.field("etag"));
    let mut inflated = Vec::new();
    std::io::copy(&mut flate2::read::GzDecoder::new(small.body.as_slice()), &mut inflated).unwrap();
    assert_eq!(inflated, plain.body);
    assert_eq!(list("gzip;q=0, *").field("content-encoding"), None);
    assert_eq!(relay.get("/api/health", &[("Accept-Encoding", "gzip")]).field("content-encoding"), None);
    let fields = [("x-api-key", key.clear.as_str()), ("Accept-Encoding", "gzip")];
    let relayed = relay.post("/api/v1/messages", &fields, REQUEST);
    assert_eq!((relayed.status, relayed.field("content-encoding")), (200, None));
}

#[test]
fn bodies_that_are_not_read_here_are_415() {
    let relay = Start::new().run();
    let login = |fields: &[(&str, &str)]| relay.post("/web/auth/login", fields, b"{}");
    for fields in [
        [("Content-Type", "application/json"), ("Content-Encoding", "gzip")],
        [("Content-Type", "application/json; charset=utf-16"), ("Accept", "*/*")],
    ] {
        let answer = login(&fields);
        assert_eq!(answer.status, 415, "{fields:?}");
        assert_eq!(answer.json()["requestId"].as_str(), answer.field("x-request-id"));
    }
    let named = [("Content-Type", "Application/JSON; Charset=\"UTF-8\""), ("Content-Encoding", "identity")];
    assert_eq!(login(&named).json()["error"], "Missing credentials");
}

#[test]
fn cleaning_up_removes_nothing_that_an_admin_made() {
    let relay = Start::new().run();
    let key = relay.add_key_with(&value!({ "name": "over", "expiresAt": "2020-01-01T00:00:00.000Z" }));
    let cleaned = relay.admin("POST", "/admin/cleanup", &Value::Null);
    assert_eq!(
        cleaned.text(),
        r#"{"success":true,"message":"Cleanup completed","data":{"expiredKeysRemoved":0,"errorAccountsReset":0}}"#
    );
    assert_eq!(relay.message(&key, REQUEST).json()["message"], "API key has expired");
    let counts = relay.get("/metrics", &[]).json();
    assert_eq!((&counts["totalApiKeys"], &counts["totalClaudeAccounts"]), (&1.into(), &0.into()));
}

#[test]
fn prometheus_reads_what_was_served_and_others_the_originals_json() {
    let upstream = Upstream::start(|_| json(200, &message("m\\\\1\\\"", 5, 6)));
    let (relay, key) = Relay::with_upstream(&upstream);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(relay.get("/no/such/route", &[]).status, 404);
    let accepts = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    let page = || relay.get("/metrics", &[("Accept", accepts)]);
    eventually("the request is over", || page().text().contains("claude_relay_relaying 0"));
    let page = page();
    assert_eq!(page.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = page.text();
    for line in [
        r#"claude_relay_http_requests_total{method="POST",route="/api/v1/messages",status="200"} 1"#,
        r#"claude_relay_http_requests_total{method="",route="none",status="404"} 1"#,
        "claude_relay_relaying 0",
        r#"claude_relay_request_seconds_bucket{le="+Inf"} 1"#,
        "claude_relay_first_byte_seconds_count 1",
        r#"claude_relay_tokens_total{model="m\\1\"",kind="output"} 6"#,
        r#"claude_relay_accounts{state="active"} 1"#,
        r#"claude_relay_workers{pool="relay"} 32"#,
        r#"claude_relay_refused_total{why="malformed"} 0"#,
        "claude_relay_ledger_waiting 0",
        "claude_relay_ledger_lag_seconds 0",
        "claude_relay_streams 0",
        r#"claude_relay_cost_dollars_total{model="m\\1\""} 0"#,
        r#"claude_relay_unpriced_answers_total{model="m\\1\""} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for name in ["process_cpu_seconds_total", "process_open_fds", "process_max_fds", "process_threads"] {
        let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
        assert!(found.is_some_and(|figure| figure > 0.0 || name.contains("cpu")), "{name} is not in\n{text}");
    }
    for accepts in ["*/*", "application/json", "application/json, text/plain"] {
        assert_eq!(relay.get("/metrics", &[("Accept", accepts)]).json()["totalApiKeys"], 1, "{accepts}");
    }
}

#[test]
fn a_metrics_token_closes_both_forms() {
    let relay = Start::new().with("METRICS_TOKEN", "a-token-of-sixteen").run();
    for accepts in ["*/*", "text/plain"] {
        let with = |token: &str| {
            let bearer = format!("Bearer {token}");
            relay.get("/metrics", &[("Accept", accepts), ("Authorization", &bearer)]).status
        };
        assert_eq!((with("a-token-of-sixteen"), with("a-token-of-sixteem"), with("")), (200, 401, 401), "{accepts}");
        assert_eq!(relay.get("/metrics", &[("Accept", accepts)]).status, 401);
    }
}

#[test]
fn the_log_is_kept_in_files_and_the_admins_door_has_one_of_its_own() {
    let relay = Start::new().run();
    assert_eq!(relay.login("some\nbody", "wrong").status, 401);
    assert_eq!(relay.login(ADMIN.0, "wrong").status, 401);
    relay.add_key("a\nb");
    assert_eq!(relay.get("/admin/api-keys", &[]).status, 401);
    let read = |kind: &str| {
        let folder = relay.folder.0.join("data/logs");
        let mut files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let path = files.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(kind)).unwrap();
        std::fs::read_to_string(path).unwrap()
    };
    for kind in ["security-20", "claude-relay-20"] {
        let text = read(kind);
        assert!(text.contains(r#"[WARN] a login failed for "an unknown name" from 127.0.0.1"#), "{text}");
        assert!(text.contains(r#"[WARN] a login failed for "keeper" from 127.0.0.1"#), "{text}");
        assert!(text.contains(r#"[WARN] refused GET "/admin/api-keys" status=401"#), "{text}");
    }
    assert!(!read("security-20").contains("answered id="));
    assert!(read("claude-relay-20").contains(r#"made API key "a\nb""#));
    assert!(!read("claude-relay-20").contains("wrong"));
}

#[test]
fn every_route_is_found_in_any_case_with_a_trailing_slash_and_by_head() {
    let relay = Start::new().run();
    let (bearer, key) = (format!("Bearer {}", relay.token()), relay.add_key("k"));
    for (method, pattern, guard) in claude_relay::server::routes().filter(|(method, ..)| *method == "GET") {
        let credential = match guard {
            claude_relay::server::Guard::Key => ("x-api-key", key.clear.as_str()),
            _ => ("Authorization", bearer.as_str()),
        };
        // The names of the pages' files change with their content; their own tests read them.
        let target = pattern.replace(":keyId", &key.id);
        if target.contains(':') {
            continue;
        }
        let head = fetch(relay.address, "HEAD", &target, &[credential], b"");
        if head.field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            // It never ends; its own tests read it.
            assert_eq!(head.status, 200, "{pattern}");
            continue;
        }
        let plain = fetch(relay.address, method, &target, &[credential], b"");
        if pattern != "/" {
            assert_eq!(head.status, plain.status, "{pattern}");
            assert_eq!(head.field("content-type"), plain.field("content-type"), "{pattern}");
            let other = format!("{}/", target.replace("/admin", "/ADMIN").replace("/api", "/Api"));
            assert_eq!(fetch(relay.address, method, &other, &[credential], b"").status, plain.status, "{other}");
        }
        assert_eq!(head.body.len(), 0);
        assert_ne!(plain.status, 404, "{pattern}");
    }
    assert_eq!(fetch(relay.address, "PATCH", "/health", &[], b"").status, 404);
}
