//! `kill -9` at any moment of an import and of a restore: the next start finds the database wholly before or wholly after.

use crate::backups::{PASSPHRASE, backup};
use crate::harness::client::Connection;
use crate::harness::redis::original_json;
use crate::harness::relay::Start;
use crate::moving_in::{from_export, migrate};
use rusqlite::types::Value as Sql;
use std::time::{Duration, Instant};

const KILLS: u64 = 50;

/// A moment that looks random and is another one each time, spread over `span`.
fn moment(number: u64, span: Duration) -> Duration {
    let spread = (number * 618_033_989) % 1_000_000_007;
    span.mul_f64(spread as f64 / 1_000_000_007.0)
}

fn assert_whole(relay: &crate::harness::Relay) {
    assert_eq!(relay.query("PRAGMA integrity_check")[0][0], Sql::Text("ok".into()));
    let left = std::fs::read_dir(relay.folder.0.join("data")).unwrap();
    for entry in left {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(!name.starts_with("restore.") && !name.starts_with("migration."), "{name} was left");
    }
}

#[test]
fn an_import_that_is_killed_at_any_moment_is_wholly_there_or_not_at_all() {
    let body = from_export("enhanced-decrypted.json.gz");
    let whole = Start::new().run();
    let start = Instant::now();
    assert_eq!(migrate(&whole, &body)["state"], "done");
    // Half of the moments are to lie behind its end.
    let span = start.elapsed() * 2;
    let rollups = whole.count("SELECT count(*) FROM rollups");
    let (mut before, mut after) = (0, 0);
    for number in 0..KILLS {
        let relay = Start::new().run();
        let response = relay.admin("POST", "/admin/migrate", &body);
        assert_eq!(response.status, 200);
        std::thread::sleep(moment(number, span));
        let relay = relay.kill_and_restart(Start::new());
        assert_whole(&relay);
        let counts = ["api_keys", "accounts", "rollups", "origins", "imported_hashes"]
            .map(|table| relay.count(&format!("SELECT count(*) FROM {table}")));
        if counts == [0; 5] {
            before += 1;
        } else {
            assert_eq!(counts, [whole.count("SELECT count(*) FROM api_keys"), 8, rollups, 1, 17]);
            after += 1;
        }
    }
    println!("{before} before, {after} after");
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}

#[test]
fn a_restore_that_is_killed_at_any_moment_is_wholly_there_or_not_at_all() {
    let source = Start::new().run();
    assert_eq!(migrate(&source, &from_export("enhanced-decrypted.json.gz"))["state"], "done");
    let file = backup(&source);
    let clear = original_json("expectations.json.gz")["apiKeys"]["default"]["apiKey"].as_str().unwrap().to_owned();
    let (mut before, mut after) = (0, 0);
    let mut took = Duration::from_millis(1500);
    for number in 0..KILLS {
        let relay = Start::new().run();
        let own = relay.add_key("own");
        let (address, start) = (relay.address, Instant::now());
        let answered = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                let fields = [("X-Backup-Passphrase", PASSPHRASE.replace(' ', "%20"))];
                let bearer = format!("Bearer {}", relay.token());
                let fields: Vec<(&str, &str)> = fields
                    .iter()
                    .map(|(name, value)| (*name, value.as_str()))
                    .chain([("Authorization", bearer.as_str())])
                    .collect();
                // The relay may be gone at any of these steps.
                let answered = Connection::try_open(address).is_some_and(|mut connection| {
                    connection.try_request("POST", "/admin/restore", &fields, &file).is_ok()
                        && connection.response().is_ok_and(|response| response.status == 200)
                });
                (answered, start.elapsed())
            });
            std::thread::sleep(moment(number, took));
            relay.signal("-KILL");
            asking.join().unwrap()
        });
        if answered.0 {
            // Up to some way into the restart.
            took = took.min(answered.1 * 3).max(answered.1 * 2);
        }
        let relay = relay.kill_and_restart(Start::new());
        assert_whole(&relay);
        let has = |clear: &str| relay.get("/api/v1/key-info", &[("x-api-key", clear)]).status == 200;
        match (has(&own.clear), has(&clear)) {
            (true, false) => {
                assert!(!answered.0, "what was promised was not done");
                assert_eq!(relay.count("SELECT count(*) FROM api_keys"), 1);
                before += 1;
            }
            (false, true) => {
                assert_eq!(relay.count("SELECT count(*) FROM api_keys WHERE deleted_at_ms IS NULL"), 17);
                after += 1;
            }
            found => panic!("{found:?}"),
        }
    }
    println!("{before} before, {after} after");
    assert!(before > 0 && after > 0, "{before} before, {after} after");
}
