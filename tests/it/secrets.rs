//! No secret in the log, none in the clear on the disk.

use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::{Step, json};
use crate::harness::{Upstream, eventually};
use crate::samples::{REQUEST, message};
use serde_json::json as value;

#[test]
fn no_secret_is_in_the_log_at_any_level_nor_in_the_clear_in_the_data_folder() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/token" => {
            json(200, r#"{"access_token":"oat-rotated-secret","refresh_token":"ort-rotated-secret","expires_in":3600}"#)
        }
        _ if request.field("x-fail").is_some() => vec![Step::Reset],
        _ => json(200, &message("m", 1, 1)),
    });
    let mut relay = Start::new()
        .upstream(&upstream)
        .with("LOG_LEVEL", "silly")
        .with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address))
        .run();
    let mut secrets: Vec<String> = [
        ADMIN.1,
        "sk-ant-api-secret",
        "oat-first-secret",
        "ort-first-secret",
        "oat-rotated-secret",
        "ort-rotated-secret",
        "setup-token-secret",
        "proxy-password-secret",
        "account-password-secret",
        "mailbox-secret",
        "cookie-secret",
        "body-secret",
    ]
    .map(str::to_owned)
    .to_vec();
    relay.add_api_key_account("api", "sk-ant-api-secret");
    let oauth = relay.add_account(&value!({
        "name": "oauth", "email": "mailbox-secret@example.com", "password": "account-password-secret", "accountType": "dedicated",
        "claudeAiOauth": { "accessToken": "oat-first-secret", "refreshToken": "ort-first-secret", "expiresAt": 1, "scopes": [] },
    }));
    let proxied = relay.add_account(&value!({
        "name": "setup", "kind": "setup_token", "accountType": "dedicated", "claudeAiOauth": { "accessToken": "setup-token-secret" },
        "proxy": { "type": "http", "host": "127.0.0.1", "port": 9, "username": "u", "password": "proxy-password-secret" },
    }));
    let body = br#"{"messages":[{"role":"user","content":"body-secret"}]}"#;
    for account in [None, Some(&oauth), Some(&proxied)] {
        let key = relay
            .add_key_with(&value!({ "name": "k", "claudeAccountId": account.map(|account| account["id"].clone()) }));
        secrets.push(key.clear.clone());
        for fields in [
            vec![("x-api-key", key.clear.as_str())],
            vec![("api-key", key.clear.as_str()), ("x-fail", "1"), ("Cookie", "a=cookie-secret")],
        ] {
            relay.post("/v1/messages?x=1", &fields, body);
            relay.post("/v1/nothing", &fields, body);
        }
    }
    secrets.push(relay.token().to_owned());
    relay.message(&crate::harness::Key { id: String::new(), clear: "cr_unknown-key-secret".into() }, REQUEST);
    secrets.push("cr_unknown-key-secret".into());
    let key = std::fs::read_to_string(relay.folder.0.join("data/encryption.key")).unwrap();
    eventually("the log has lines", || relay.log().contains("relayed"));
    let used = upstream.received();
    assert!(used.iter().any(|request| request.field("authorization") == Some("Bearer oat-rotated-secret")));
    for secret in secrets.iter().map(String::as_str).chain([key.trim()]) {
        assert!(!relay.log().contains(secret), "{secret} is in the log");
    }
    relay.signal("-TERM");
    // Its database closes after its last log line.
    relay.process.wait().unwrap();
    eventually("the log has its last line", || relay.log().contains("stopped"));
    let files = |folder: &str| std::fs::read_dir(relay.folder.0.join(folder)).unwrap();
    let paths = files("data").chain(files("data/logs")).map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.is_file()) {
        let content = std::fs::read(&path).unwrap();
        for secret in &secrets {
            let is_in = content.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!is_in, "{secret} is in {}", path.display());
        }
    }
}
