//! Litestream beside the relay, as the README describes it: the real program, to a replica in a folder.

use crate::harness::relay::Start;
use crate::harness::{Folder, Relay, Upstream, eventually, upstream};
use crate::samples::message;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const BODY: &[u8] = br#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

fn program() -> PathBuf {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin/litestream");
    assert!(program.exists(), "{} is missing: run tests/prepare.sh", program.display());
    program
}

struct Replicating(Child);

impl Drop for Replicating {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn replicate(relay: &Relay, replica: &str) -> Replicating {
    let child = Command::new(program())
        .args(["replicate", &relay.database().to_string_lossy(), replica])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Replicating(child)
}

/// Restores the replica into a folder; the lines of its ledger, or none while it is not there.
fn restore(replica: &str, folder: &Path) -> i64 {
    let database = folder.join("data/relay.db");
    std::fs::create_dir_all(database.parent().unwrap()).unwrap();
    let _ = std::fs::remove_file(&database);
    let output =
        Command::new(program()).args(["restore", "-o", &database.to_string_lossy(), replica]).output().unwrap();
    if !output.status.success() {
        return -1;
    }
    match crate::harness::relay::query(&database, "SELECT count(*) FROM ledger")[0][0] {
        rusqlite::types::Value::Integer(lines) => lines,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_relay_that_is_lost_goes_on_from_its_replica() {
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-5", 1000, 200)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let (kept, probe) = (Folder::new(), Folder::new());
    let replica = format!("file://{}", kept.0.join("replica").display());
    let replicating = replicate(&relay, &replica);
    for _ in 0..20 {
        assert_eq!(relay.message(&key, BODY).status, 200);
    }
    eventually("the replica has the first requests", || restore(&replica, &probe.0) == 20);
    for _ in 0..20 {
        assert_eq!(relay.message(&key, BODY).status, 200);
    }
    eventually("the replica has the rest", || restore(&replica, &probe.0) == 40);
    let keys = std::fs::read(relay.folder.0.join("data/encryption.key")).unwrap();
    relay.signal("-KILL");
    drop(replicating);
    drop(relay);

    // Another machine: the replica, and the key file, which Litestream does not have.
    let start = Start::new().upstream(&upstream);
    assert_eq!(restore(&replica, &start.folder.0), 40);
    std::fs::write(start.folder.0.join("data/encryption.key"), keys).unwrap();
    let relay = start.run();
    let replica = format!("file://{}", kept.0.join("next").display());
    let _replicating = replicate(&relay, &replica);
    assert_eq!(relay.message(&key, BODY).status, 200);
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 41);
    eventually("it is replicated again", || restore(&replica, &probe.0) == 41);
}
