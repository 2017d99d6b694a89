//! Starting, refusing to start, and stopping.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, chunk, json, last_chunk, stream_head};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

fn refusal(start: &Start) -> String {
    let output = start.command().output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_first_start_needs_no_settings_and_says_where_to_go() {
    let start =
        Start::new().without("ADMIN_USERNAME").without("ADMIN_PASSWORD").without("LOG_LEVEL").without("RELAY_WORKERS");
    let mut process = start.command().stdout(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the first password", || start.folder.0.join("data/init.json").exists());
    std::thread::sleep(Duration::from_millis(500));
    process.kill().unwrap();
    let output = process.wait_with_output().unwrap();
    let console = String::from_utf8(output.stdout).unwrap();
    let first: serde_json::Value =
        serde_json::from_slice(&std::fs::read(start.folder.0.join("data/init.json")).unwrap()).unwrap();
    for part in [
        "/web",
        "ANTHROPIC_BASE_URL=http://",
        first["adminUsername"].as_str().unwrap(),
        first["adminPassword"].as_str().unwrap(),
    ] {
        assert!(console.contains(part), "{part}: {console}");
    }
    for file in ["encryption.key", "init.json"] {
        let mode = std::fs::metadata(start.folder.0.join("data").join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[test]
fn faulty_settings_are_named_each_in_one_line() {
    let start = Start::new().with("PORT", "70000").with("CLAUDE_API_URL", "ftp://x").with("RELAY_WORKERS", "many");
    let refusal = refusal(&start);
    for name in ["PORT", "CLAUDE_API_URL", "RELAY_WORKERS"] {
        assert_eq!(refusal.lines().filter(|line| line.contains(name)).count(), 1, "{name}: {refusal}");
    }
    let checked = Start::new().command().arg("--check-config").output().unwrap();
    assert!(checked.status.success());
    let unknown = Start::new().command().arg("--what").output().unwrap();
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("unknown argument --what"));
}

#[test]
fn a_second_process_and_a_wrong_key_are_refused() {
    let relay = Start::new().run();
    let again = Start { folder: Arc::clone(&relay.folder), ..Start::new() };
    assert!(refusal(&again).contains("another claude-relay is using the data folder"));
    let folder = Arc::clone(&relay.folder);
    drop(relay);
    let wrong = Start { folder, ..Start::new().with("ENCRYPTION_KEY", "another key of thirty-two letters") };
    assert!(refusal(&wrong).contains("the encryption key is not the one this database was made with"));
}

#[test]
fn sigterm_closes_the_door_and_lets_running_answers_end() {
    let gate = Arc::new(AtomicBool::new(false));
    let (pieces, opened) = (events("m", 1, 2), Arc::clone(&gate));
    let upstream = Upstream::start(move |_| {
        let mut steps = vec![stream_head(), chunk(&pieces[0]), Step::Gate(Arc::clone(&opened))];
        steps.extend(pieces[1..].iter().map(chunk));
        steps.push(last_chunk());
        steps
    });
    let (mut relay, key) = Relay::with_upstream(&upstream);
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    client.head().unwrap();
    client.chunk().unwrap();
    relay.signal("-TERM");
    eventually("the door is closed", || std::net::TcpStream::connect(relay.address).is_err());
    gate.store(true, Ordering::Relaxed);
    let mut text = Vec::new();
    while let Some(piece) = client.chunk().unwrap() {
        text.extend(piece);
    }
    assert!(String::from_utf8(text).unwrap().contains("message_stop"));
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
    assert_eq!(relay.count("SELECT count(*) FROM ledger WHERE complete = 1"), 1);
}

#[test]
fn after_the_grace_running_streams_are_told_and_the_process_ends() {
    let pieces = events("m", 1, 2);
    let upstream =
        Upstream::start(move |_| vec![stream_head(), chunk(&pieces[0]), Step::Wait(Duration::from_secs(60))]);
    let mut relay = Start::new().upstream(&upstream).with("SHUTDOWN_GRACE", "300").run();
    relay.add_api_key_account("first", "sk-1");
    let key = relay.add_key("k");
    let mut client = Connection::open(relay.address);
    client.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    client.head().unwrap();
    client.chunk().unwrap();
    let start = Instant::now();
    relay.signal("-TERM");
    let last = String::from_utf8(client.chunk().unwrap().expect("an error event")).unwrap();
    assert!(last.contains("event: error") && last.contains("shutting down"), "{last}");
    assert_eq!(client.chunk().unwrap(), None);
    assert_eq!(relay.process.wait().unwrap().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(relay.count("SELECT count(*) FROM ledger WHERE complete = 0 AND billed = 1"), 1);
}

#[test]
fn what_was_made_is_there_after_a_kill() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let again = relay.kill_and_restart(Start::new().upstream(&upstream));
    assert_eq!(again.message(&key, REQUEST).status, 200);
}
