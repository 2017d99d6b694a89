//! Backup and restore: taken while the relay works, refused when anything is wrong, and certain when nothing is.

use crate::harness::relay::Start;
use crate::harness::{Relay, Upstream, eventually, upstream};
use crate::samples::message;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub const PASSPHRASE: &str = "correct horse battery";
const BODY: &[u8] = br#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

pub fn backup(relay: &Relay) -> Vec<u8> {
    let response = relay.admin("POST", "/admin/backup", &json!({ "passphrase": PASSPHRASE }));
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(response.field("content-disposition").unwrap().contains(".backup"));
    response.body
}

/// Everything that a backup must have.
fn content(path: &Path) -> Vec<(&'static str, Vec<Vec<Sql>>)> {
    let tables = ["accounts", "admins", "api_keys", "ledger", "meta", "rollups"];
    let rows = |table: &str| {
        let mut rows = crate::harness::relay::query(path, &format!("SELECT * FROM {table}"));
        rows.sort_by_key(|row| format!("{row:?}"));
        rows
    };
    tables.into_iter().map(|table| (table, rows(table))).collect()
}

/// The database is sound, and its sums are those of its lines.
fn assert_consistent(path: &Path) {
    let first = |sql: &str| crate::harness::relay::query(path, sql)[0][0].clone();
    assert_eq!(first("PRAGMA integrity_check"), Sql::Text("ok".into()));
    let sum = first("SELECT sum(requests) FROM rollups WHERE scope = 0 AND span = 0");
    assert_eq!(first("SELECT count(*) FROM ledger"), sum);
}

/// The folder is made by the process that comes back, before it listens.
fn await_restart(relay: &Relay) {
    eventually("it is back", || {
        restored_folder(relay).is_some() && std::net::TcpStream::connect(relay.address).is_ok()
    });
}

fn restored_folder(relay: &Relay) -> Option<PathBuf> {
    let entries = std::fs::read_dir(relay.folder.0.join("data")).unwrap();
    entries.map(|entry| entry.unwrap().path()).find(|path| path.to_string_lossy().contains("before-restore-"))
}

#[test]
fn a_backup_under_load_is_restored_into_another_folder_with_an_identical_ledger() {
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-5", 1000, 200)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let file = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..60).for_each(|_| assert_eq!(relay.message(&key, BODY).status, 200)));
        }
        eventually("some requests are done", || relay.count("SELECT count(*) FROM ledger") > 40);
        backup(&relay)
    });
    assert!(!file.windows(16).any(|window| window == b"SQLite format 3\0"));
    let lines = relay.count("SELECT count(*) FROM ledger");
    assert_eq!(lines, 240, "nobody was hindered");

    // It was taken in the middle of the load: it has the first lines, and their sums.
    let mut other = Start::new().upstream(&upstream).run();
    other.add_key("to be replaced");
    let response = other.restore(PASSPHRASE.replace(' ', "%20").as_str(), &file);
    assert_eq!(response.status, 200, "{}", response.text());
    let data = &response.json()["data"];
    assert_eq!((&data["keys"], &data["accounts"]), (&json!(1), &json!(1)));
    await_restart(&other);
    other.sign_in();
    assert_consistent(&other.database());
    let restored = other.count("SELECT count(*) FROM ledger");
    assert!((41..=240).contains(&restored), "{restored}");
    let first = format!("SELECT * FROM ledger ORDER BY id LIMIT {restored}");
    assert_eq!(other.query(&first), relay.query(&first));
    // The key that came with it works, and its account's secret opens.
    assert_eq!(other.message(&key, BODY).status, 200);
    let kept = restored_folder(&other).unwrap();
    assert_eq!(kept.file_name().unwrap().to_string_lossy(), data["keptAs"].as_str().unwrap());
    let names = crate::harness::relay::query(&kept.join("relay.db"), "SELECT name FROM api_keys");
    assert_eq!(names, [[Sql::Text("to be replaced".into())]], "the database of before is kept");
    assert!(kept.join("encryption.key").exists());

    // A backup of a quiet relay is the same to the letter.
    let before = content(&relay.database());
    let file = backup(&relay);
    let mut third = Start::new().run();
    assert_eq!(third.restore(&PASSPHRASE.replace(' ', "%20"), &file).status, 200);
    await_restart(&third);
    third.sign_in();
    assert_eq!(content(&third.database()), before);
}

#[test]
fn a_backup_that_is_wrong_in_any_way_is_refused_and_the_live_data_is_untouched() {
    let relay = Start::new().run();
    let key = relay.add_key("stays");
    let file = backup(&relay);
    relay.add_key("made since");
    let before = content(&relay.database());
    let passphrase = PASSPHRASE.replace(' ', "%20");
    let mut altered = file.clone();
    altered[file.len() / 2] ^= 1;
    let mut other_tag = file.clone();
    *other_tag.last_mut().unwrap() ^= 1;
    let wrong = "The passphrase is wrong or the file is damaged";
    let none = "This is not a backup of claude-relay";
    for (what, given, bytes, message) in [
        ("wrong passphrase", "another%20passphrase", file.as_slice(), wrong),
        ("altered", &passphrase, &altered, wrong),
        ("another tag", &passphrase, &other_tag, wrong),
        ("truncated", &passphrase, &file[..file.len() - 100], wrong),
        ("longer", &passphrase, &[file.as_slice(), b"x"].concat(), wrong),
        ("a head alone", &passphrase, &file[..60], none),
        ("empty", &passphrase, b"", none),
        ("something else", &passphrase, &[b'x'; 5000], none),
    ] {
        let response = relay.restore(given, bytes);
        assert_eq!((response.status, response.json()["message"].as_str()), (400, Some(message)), "{what}");
        let code = if message == wrong { "wrong_passphrase" } else { "no_backup" };
        assert_eq!(response.json()["code"], code, "{what}");
    }
    assert_eq!(relay.restore("", &file).status, 400);
    assert_eq!(relay.post("/admin/restore", &[("X-Backup-Passphrase", &passphrase)], &file).status, 401);
    let short = relay.admin("POST", "/admin/backup", &json!({ "passphrase": "short" }));
    assert_eq!(
        (short.status, short.json()["message"].as_str()),
        (400, Some("passphrase must be text of 12 to 1000 characters"))
    );
    // Another key in a setting would keep the relay from starting: told before, not after.
    let fixed = Start::new().with("ENCRYPTION_KEY", "a key that is a setting").run();
    let response = fixed.restore(&passphrase, &file);
    assert_eq!(response.status, 400);
    assert!(response.text().contains("The setting ENCRYPTION_KEY is another key"), "{}", response.text());

    assert_eq!(content(&relay.database()), before);
    assert_eq!(relay.get("/api/v1/key-info", &[("x-api-key", &key.clear)]).status, 200);
    let left: Vec<String> = std::fs::read_dir(relay.folder.0.join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("restore") || name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    for secret in [PASSPHRASE, "correct%20horse", "another%20passphrase"] {
        assert!(!relay.log().contains(secret));
    }
}

#[test]
fn snapshots_are_taken_by_the_schedule_and_by_hand_and_the_oldest_go() {
    let relay = Start::new().with("SNAPSHOTS_KEPT", "2").run();
    let list = || relay.admin("GET", "/admin/backups", &Value::Null).json()["data"].clone();
    eventually("the schedule takes one at the start", || list()["snapshots"].as_array().unwrap().len() == 1);
    relay.add_key("later");
    for _ in 0..3 {
        let response = relay.admin("POST", "/admin/backups", &json!({}));
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let data = list();
    assert_eq!((&data["intervalHours"], &data["keep"]), (&json!(24), &json!(2)));
    let snapshots = data["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2);
    let folder = relay.folder.0.join("data/backups");
    let path = folder.join(snapshots[0]["name"].as_str().unwrap());
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    assert_eq!(metadata.len(), snapshots[0]["bytes"].as_u64().unwrap());
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(crate::harness::relay::query(&path, "SELECT name FROM api_keys"), [[Sql::Text("later".into())]]);
}
