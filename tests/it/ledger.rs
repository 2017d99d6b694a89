//! The bill: equal to what the upstream reported, whatever happens to the process.

use crate::harness::client::Connection;
use crate::harness::relay::{Start, query};
use crate::harness::upstream::{Step, chunk, json, last_chunk, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use rusqlite::types::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MODELS: [&str; 3] = ["claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-1"];

/// What an upstream reported, by account secret and model: requests, input, output.
type Reported = Arc<Mutex<BTreeMap<(String, String), [i64; 3]>>>;

/// An upstream whose every answer reports other numbers, as JSON or as a stream.
fn reporting(reported: &Reported, delay: Duration) -> Upstream {
    let (reported, number) = (Arc::clone(reported), AtomicU64::new(0));
    Upstream::start(move |request| {
        let turn = number.fetch_add(1, Ordering::Relaxed);
        let (input, output) = (100 + turn % 977, 1 + turn % 311);
        let model = request.json()["model"].as_str().unwrap().to_owned();
        let who = request.field("x-who").unwrap_or_default().to_owned();
        let mut sums = reported.lock().unwrap();
        let sum = sums.entry((who, model.clone())).or_default();
        *sum = [sum[0] + 1, sum[1] + input as i64, sum[2] + output as i64];
        if request.json()["stream"] != true {
            return json(200, &message(&model, input, output));
        }
        let mut steps = vec![stream_head()];
        for piece in events(&model, input, output) {
            steps.push(chunk(piece));
            if !delay.is_zero() {
                steps.push(Step::Wait(delay));
            }
        }
        steps.push(last_chunk());
        steps
    })
}

fn request(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","stream":{stream},"max_tokens":9,"messages":[{{"role":"user","content":"x"}}]}}"#)
}

/// Sends requests from several clients at once and counts the answers that each key saw finish.
fn load(relay: &Relay, keys: &[Key], clients: usize, each: usize, seen: &Arc<Mutex<BTreeMap<String, i64>>>) {
    std::thread::scope(|scope| {
        for client in 0..clients {
            let (address, seen) = (relay.address, Arc::clone(seen));
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for turn in 0..each {
                    let key = &keys[(client + turn) % keys.len()];
                    let body = request(MODELS[turn % MODELS.len()], turn % 2 == 0);
                    let fields = [("x-api-key", key.clear.as_str()), ("x-who", key.id.as_str())];
                    let head = format!(
                        "POST /api/v1/messages HTTP/1.1\r\nHost: r\r\n{}: {}\r\n{}: {}\r\nContent-Length: {}\r\n\r\n{body}",
                        fields[0].0, fields[0].1, fields[1].0, fields[1].1, body.len()
                    );
                    use std::io::Write;
                    if connection.stream.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                    let Ok(response) = connection.response() else { return };
                    assert_eq!(response.status, 200, "{}", response.text());
                    *seen.lock().unwrap().entry(key.id.clone()).or_default() += 1;
                }
            });
        }
    });
}

/// The ledger's sums by key and model, in the upstream's terms.
fn ledger(path: &std::path::Path) -> BTreeMap<(String, String), [i64; 3]> {
    let sql = "SELECT api_keys.id, model, count(*), sum(input_tokens), sum(output_tokens)
               FROM ledger JOIN api_keys ON api_keys.seq = key_seq WHERE billed = 1 GROUP BY 1, 2";
    query(path, sql).into_iter().map(by_key_and_model).collect()
}

fn rollups(path: &std::path::Path, span: i64) -> BTreeMap<(String, String), [i64; 3]> {
    let sql = format!(
        "SELECT api_keys.id, model, sum(requests), sum(input_tokens), sum(output_tokens)
         FROM rollups JOIN api_keys ON api_keys.seq = subject WHERE scope = 1 AND span = {span} GROUP BY 1, 2"
    );
    query(path, &sql).into_iter().map(by_key_and_model).collect()
}

fn by_key_and_model(row: Vec<Value>) -> ((String, String), [i64; 3]) {
    match row.as_slice() {
        [Value::Text(key), Value::Text(model), Value::Integer(a), Value::Integer(b), Value::Integer(c)] => {
            ((key.clone(), model.clone()), [*a, *b, *c])
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_ledger_equals_what_the_upstream_reported_after_a_mixed_run() {
    let reported = Reported::default();
    let upstream = reporting(&reported, Duration::ZERO);
    let (relay, first) = Relay::with_upstream(&upstream);
    let keys = [first, relay.add_key("second"), relay.add_key("third")];
    let seen = Arc::default();
    load(&relay, &keys, 16, 75, &seen);
    assert_eq!(seen.lock().unwrap().values().sum::<i64>(), 1200);
    let reported = reported.lock().unwrap().clone();
    assert_eq!(ledger(&relay.database()), reported);
    for span in 0..=3 {
        assert_eq!(rollups(&relay.database(), span), reported, "span {span}");
    }
    let kinds =
        "SELECT sum(cache_creation_5m_tokens), sum(cache_creation_1h_tokens), sum(cache_read_tokens) FROM ledger";
    assert_eq!(relay.query(kinds), vec![vec![12_000.into(), 24_000.into(), 48_000.into()]]);
    let list = relay.admin("GET", "/admin/api-keys", &serde_json::Value::Null).json();
    for key in list["data"].as_array().unwrap() {
        let sums = reported.iter().filter(|((id, _), _)| *id == key["id"].as_str().unwrap());
        let [requests, input, output] =
            sums.fold([0; 3], |sum, (_, more)| [sum[0] + more[0], sum[1] + more[1], sum[2] + more[2]]);
        for bucket in ["total", "daily", "monthly"] {
            let usage = &key["usage"][bucket];
            assert_eq!(usage["requests"], requests);
            assert_eq!(usage["inputTokens"], input);
            assert_eq!(usage["outputTokens"], output);
            assert_eq!(usage["allTokens"], input + output + requests * 70);
        }
    }
}

#[test]
fn an_answer_that_a_client_saw_finish_survives_kill_9() {
    let reported = Reported::default();
    let upstream = reporting(&reported, Duration::from_millis(1));
    for round in 0..3 {
        let mut relay = Start::new().upstream(&upstream).run();
        relay.add_api_key_account("first", "sk-1");
        let keys = [relay.add_key("a"), relay.add_key("b")];
        let seen: Arc<Mutex<BTreeMap<String, i64>>> = Arc::default();
        std::thread::scope(|scope| {
            let (shared, counted) = (&relay, Arc::clone(&seen));
            let keys = &keys;
            scope.spawn(move || load(shared, keys, 12, 400, &counted));
            let enough = 150 + 120 * round;
            while seen.lock().unwrap().values().sum::<i64>() < enough {
                std::thread::sleep(Duration::from_millis(1));
            }
            relay.signal("-KILL");
        });
        relay.process.wait().unwrap();
        let path = relay.database();
        let kept: BTreeMap<String, i64> =
            ledger(&path).into_iter().fold(BTreeMap::new(), |mut kept, ((key, _), [requests, ..])| {
                *kept.entry(key).or_default() += requests;
                kept
            });
        for (key, seen) in seen.lock().unwrap().iter() {
            assert!(kept[key] >= *seen, "{key}: {seen} answers seen, {} in the ledger", kept[key]);
        }
        assert_eq!(query(&path, "PRAGMA integrity_check"), vec![vec![Value::Text("ok".into())]]);
    }
}

#[test]
fn the_end_of_a_stream_waits_for_its_line() {
    let pieces = events("m", 1, 2);
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    for turn in 1..=20 {
        let mut client = Connection::open(relay.address);
        client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
        client.head().unwrap();
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains("message_stop") {
            text.extend(client.chunk().unwrap().expect("more"));
        }
        assert_eq!(relay.count("SELECT count(*) FROM ledger WHERE complete = 1"), turn);
    }
}

#[test]
fn while_the_database_is_locked_no_answer_ends_and_none_is_lost() {
    let upstream = Upstream::start(|_| json(200, &message("m", 3, 4)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let database = rusqlite::Connection::open(relay.database()).unwrap();
    database.execute_batch("BEGIN IMMEDIATE").unwrap();
    let is_answered = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(relay.message(&key, REQUEST).status, 200);
            is_answered.store(true, Ordering::Relaxed);
        });
        eventually("the upstream has answered", || !upstream.received().is_empty());
        std::thread::sleep(Duration::from_millis(500));
        assert!(!is_answered.load(Ordering::Relaxed));
        database.execute_batch("ROLLBACK").unwrap();
    });
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 1);
}

#[test]
fn lines_past_their_retention_go_and_their_sums_stay() {
    let upstream = Upstream::start(|_| json(200, &message("m", 3, 4)));
    let start = || Start::new().upstream(&upstream).with("CLEANUP_INTERVAL", "1000");
    let relay = start().run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    for _ in 0..3 {
        assert_eq!(relay.message(&key, REQUEST).status, 200);
    }
    let database = rusqlite::Connection::open(relay.database()).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    let month_ago = claude_relay::model::time::now_ms() - 31 * 86_400_000;
    database.execute("UPDATE ledger SET at_ms = ?1 WHERE id <= 2", [month_ago]).unwrap();
    eventually("the old lines are gone", || relay.count("SELECT count(*) FROM ledger") == 1);
    assert_eq!(relay.count("SELECT requests FROM rollups WHERE scope = 1 AND span = 0"), 3);
    let listed = relay.admin("GET", "/admin/api-keys", &serde_json::Value::Null).json();
    assert_eq!(listed["data"][0]["usage"]["total"]["requests"], 3);
}
