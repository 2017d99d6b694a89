//! Every worker busy: the door still answers, at once.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, json};
use crate::harness::{Upstream, eventually};
use crate::samples::{REQUEST, message};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[test]
fn with_every_worker_busy_the_next_client_is_told_at_once_and_the_admin_is_served() {
    const WORKERS: usize = 8;
    let gate = Arc::new(AtomicBool::new(false));
    let opened = Arc::clone(&gate);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![Step::Gate(Arc::clone(&opened))];
        steps.extend(json(200, &message("m", 1, 1)));
        steps
    });
    let relay = Start::new().upstream(&upstream).with("RELAY_WORKERS", &WORKERS.to_string()).run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let mut running: Vec<Connection> = (0..WORKERS).map(|_| Connection::open(relay.address)).collect();
    for client in &mut running {
        client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], REQUEST);
    }
    eventually("all workers are busy", || upstream.received().len() == WORKERS);
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let refused = relay.message(&key, REQUEST);
        assert_eq!((refused.status, refused.field("retry-after")), (529, Some("1")));
        assert_eq!(refused.json()["error"]["type"], "overloaded_error");
        times.push(start.elapsed());
        let start = Instant::now();
        assert_eq!(relay.get("/health", &[]).status, 200);
        times.push(start.elapsed());
        let start = Instant::now();
        assert_eq!(relay.admin("GET", "/admin/api-keys", &serde_json::Value::Null).status, 200);
        times.push(start.elapsed());
    }
    // The other tests have these cores as well: now and then one answer of many may be late, not more.
    times.sort();
    assert!(times[times.len() * 9 / 10] < Duration::from_millis(100), "{times:?}");
    // A large body that nobody will read does not keep the refusal from its reader.
    let mut client = Connection::open(relay.address);
    let text = "x".repeat(3 * 1024 * 1024);
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: r\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n",
        key.clear,
        text.len()
    );
    client.send(head.as_bytes());
    assert_eq!(client.response().unwrap().status, 529);
    gate.store(true, Ordering::Relaxed);
    for client in &mut running {
        assert_eq!(client.response().unwrap().status, 200);
    }
    eventually("a worker is free", || relay.message(&key, REQUEST).status == 200);
}
