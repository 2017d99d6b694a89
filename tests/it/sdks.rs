//! The official SDKs as clients: through all prefixes, with both kinds of credentials, whole and streamed.

use crate::harness::upstream::{Step, chunk, json, last_chunk, stream_head};
use crate::harness::{Relay, Upstream};
use crate::samples::{events, message};
use std::path::{Path, PathBuf};
use std::process::Command;

fn upstream() -> Upstream {
    Upstream::start(|request| {
        if request.json()["stream"] != true {
            return json(200, &message("claude-sonnet-4-5", 11, 7));
        }
        let mut steps = vec![stream_head()];
        for piece in events("claude-sonnet-4-5", 11, 7) {
            // A stream that is cut in the middle of an event, as a lost connection cuts it.
            if request.field("x-cut").is_some() && piece.contains("🙂") {
                steps.extend([chunk(&piece[..piece.len() / 2]), Step::Close]);
                return steps;
            }
            steps.push(chunk(piece));
        }
        steps.push(last_chunk());
        steps
    })
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn drive(program: &Path, script: &str) {
    assert!(program.is_absolute() == program.exists(), "{} is missing: run tests/prepare.sh", program.display());
    let upstream = upstream();
    let (relay, key) = Relay::with_upstream(&upstream);
    for prefix in ["/api", "/claude", ""] {
        let base = format!("http://{}{prefix}", relay.address);
        let output = Command::new(program)
            .arg(folder().join("sdk").join(script))
            .args([&base, &key.clear])
            .env("NO_PROXY", "127.0.0.1")
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{base}: {errors}\n{}", relay.log());
    }
    let complete =
        relay.count("SELECT count(*) FROM ledger WHERE complete = 1 AND input_tokens = 11 AND output_tokens = 7");
    let partial = relay.count("SELECT count(*) FROM ledger WHERE complete = 0");
    assert!(complete >= 12 && partial == 3, "{complete} complete, {partial} partial");
}

#[test]
fn the_python_sdk_cannot_tell_the_relay_from_the_api() {
    drive(&folder().join(".venv/bin/python"), "check.py");
}

#[test]
fn the_typescript_sdk_cannot_tell_the_relay_from_the_api() {
    drive(Path::new("node"), "check.mjs");
}
