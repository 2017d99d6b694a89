//! The relay beside a direct connection to the same upstream, in turn, several rounds: read the ratios, not the figures.
//! Client, upstream and relay share this machine's cores.

#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used)]

#[path = "it/harness/mod.rs"]
mod harness;
#[path = "it/samples.rs"]
mod samples;

use harness::client::Connection;
use harness::relay::Start;
use harness::upstream::{chunk, json, last_chunk, stream_head};
use harness::{Key, Relay, Upstream};
use samples::{events, message};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_millis(1500);
const DELTAS: usize = 50;

struct Run {
    per_second: f64,
    p50_us: u128,
    p99_us: u128,
}

fn main() {
    let upstream = Upstream::start(|request| {
        if request.field("x-stream").is_none() {
            return json(200, &message("claude-sonnet-4-5", 11, 7));
        }
        let mut pieces = events("claude-sonnet-4-5", 11, 7);
        let delta = pieces[3].clone();
        pieces.splice(3..3, std::iter::repeat_n(delta, DELTAS));
        let mut steps = vec![stream_head()];
        steps.extend(pieces.iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let relay = Start::new().upstream(&upstream).with("LOG_LEVEL", "info").with("RELAY_WORKERS", "128").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("bench");
    println!("idle: {} kB resident", relay.process_figure("VmRSS"));
    println!(
        "{:<24}{:>12}{:>12}{:>8}{:>14}{:>14}{:>16}",
        "", "direct/s", "relay/s", "ratio", "added p50 us", "added p99 us", "relay cpu us"
    );
    for (name, stream, clients) in [
        ("json, 1 client", false, 1),
        ("json, 16 clients", false, 16),
        ("stream, 1 client", true, 1),
        ("stream, 16 clients", true, 16),
    ] {
        measure(name, stream, clients, &upstream, &relay, &key);
    }
    println!("after: {} kB resident", relay.process_figure("VmRSS"));
    failover();
}

/// What a failing account adds to a request that another one serves, beside what its own answer takes.
fn failover() {
    let upstream = Upstream::start(|request| match request.field("x-api-key") {
        Some("bad") => json(500, r#"{"type":"error","error":{"type":"api_error","message":"no"}}"#),
        _ => json(200, &message("claude-sonnet-4-5", 11, 7)),
    });
    let start = |accounts: &[(&str, i64)]| {
        let relay = Start::new().upstream(&upstream).with("LOG_LEVEL", "warn").run();
        for (name, priority) in accounts {
            relay.add_account(
                &serde_json::json!({ "name": name, "kind": "api_key", "apiKey": name, "priority": priority }),
            );
        }
        let key = relay.add_key("bench");
        (relay, key)
    };
    let (good, good_key) = start(&[("good", 2)]);
    let (both, both_key) = start(&[("bad", 1), ("good", 2)]);
    let own = times(upstream.address, "/v1/messages", "bad");
    let alone = times(good.address, "/api/v1/messages", &good_key.clear);
    let after = times(both.address, "/api/v1/messages", &both_key.clear);
    let added = |at: usize| after[at].as_secs_f64() - alone[at].as_secs_f64() - own[at].as_secs_f64();
    let (middle, last) = (own.len() / 2, own.len() * 99 / 100);
    println!(
        "failover: {:.3} ms more than the failing account's own answer (p99 {:.3} ms)",
        added(middle) * 1e3,
        added(last) * 1e3
    );
}

/// Times of requests one after another, each of a conversation of its own, in order of length.
fn times(address: SocketAddr, target: &str, key: &str) -> Vec<Duration> {
    const REQUESTS: usize = 2000;
    let mut connection = Connection::open(address);
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|number| {
            let session = number.to_string();
            let fields =
                [("x-api-key", key), ("Content-Type", "application/json"), ("x-claude-code-session-id", &session)];
            let start = Instant::now();
            connection.request("POST", target, &fields, samples::REQUEST);
            connection.response().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}

fn measure(name: &str, stream: bool, clients: usize, upstream: &Upstream, relay: &Relay, key: &Key) {
    let (mut direct, mut relayed, mut cpu_us) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        direct.push(load(upstream.address, "/v1/messages", stream, clients, key));
        upstream.received.lock().unwrap().clear();
        let before = cpu(relay);
        let run = load(relay.address, "/api/v1/messages", stream, clients, key);
        cpu_us.push((cpu(relay) - before).as_micros() as f64 / (run.per_second * ROUND.as_secs_f64()));
        relayed.push(run);
        upstream.received.lock().unwrap().clear();
    }
    let (direct, relayed) = (median(direct), median(relayed));
    cpu_us.sort_by(f64::total_cmp);
    println!(
        "{name:<24}{:>12.0}{:>12.0}{:>8.2}{:>14}{:>14}{:>16.0}",
        direct.per_second,
        relayed.per_second,
        relayed.per_second / direct.per_second,
        relayed.p50_us.saturating_sub(direct.p50_us),
        relayed.p99_us.saturating_sub(direct.p99_us),
        cpu_us[ROUNDS / 2],
    );
}

fn median(mut runs: Vec<Run>) -> Run {
    runs.sort_by(|one, two| one.per_second.total_cmp(&two.per_second));
    runs.swap_remove(ROUNDS / 2)
}

fn load(address: SocketAddr, target: &str, stream: bool, clients: usize, key: &Key) -> Run {
    let end = Instant::now() + ROUND;
    let body = format!(
        r#"{{"model":"claude-sonnet-4-5","stream":{stream},"messages":[{{"role":"user","content":"{}"}}]}}"#,
        "x".repeat(2000)
    );
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let one = || {
            let mut connection = Connection::open(address);
            let mut fields = vec![("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
            if stream {
                fields.push(("x-stream", "1"));
            }
            let mut times = Vec::new();
            while Instant::now() < end {
                let start = Instant::now();
                connection.request("POST", target, &fields, body.as_bytes());
                assert_eq!(connection.response().unwrap().status, 200);
                times.push(start.elapsed());
            }
            times
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(one)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    times.sort();
    let at = |part: usize| times[(times.len() * part / 100).min(times.len() - 1)].as_micros();
    Run { per_second: times.len() as f64 / ROUND.as_secs_f64(), p50_us: at(50), p99_us: at(99) }
}

/// CPU time of the relay so far, in steps of 10 ms.
fn cpu(relay: &Relay) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", relay.process.id())).unwrap();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap())
        .collect();
    Duration::from_millis((fields[0] + fields[1]) * 10)
}
