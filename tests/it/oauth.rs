//! Signing an account in: PKCE, codes and refresh tokens that work once, and refusals in the contract's words.

use crate::harness::relay::Start;
use crate::harness::upstream::{Received, Step, json};
use crate::harness::{Relay, Upstream};
use crate::samples::{REQUEST, message};
use claude_relay::claude::oauth::challenge;
use rusqlite::types::Value as Sql;
use serde_json::{Value, json as value};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const GENERATE: &str = "/admin/claude-accounts/generate-auth-url";
const EXCHANGE: &str = "/admin/claude-accounts/exchange-code";

/// What an authorization server remembers: the challenge and state of the last sign-in, and what has been used up.
#[derive(Default)]
struct Memory {
    challenge: String,
    state: String,
    spent: HashSet<String>,
    grants: u32,
}

/// An authorization server that checks PKCE, codes that work once, refresh tokens that rotate; and an API behind it.
fn authorization_server() -> (Upstream, Arc<Mutex<Memory>>) {
    let memory = Arc::new(Mutex::new(Memory::default()));
    let shared = Arc::clone(&memory);
    let upstream = Upstream::start(move |request| {
        if request.target == "/token" {
            token(&mut shared.lock().unwrap(), request)
        } else {
            json(200, &message("m", 1, 1))
        }
    });
    (upstream, memory)
}

fn token(memory: &mut Memory, request: &Received) -> Vec<Step> {
    let body = request.json();
    let member = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let refused = |why: &str| json(400, &value!({ "error": "invalid_grant", "error_description": why }).to_string());
    let used = match member("grant_type").as_str() {
        "authorization_code" => {
            if body.as_object().unwrap().len() != 6 || member("state") != memory.state {
                return refused("wrong request");
            }
            if member("redirect_uri") != "https://platform.claude.com/oauth/code/callback" {
                return refused("wrong redirect_uri");
            }
            if challenge(&member("code_verifier")) != memory.challenge {
                return refused("wrong verifier");
            }
            member("code")
        }
        "refresh_token" => member("refresh_token"),
        other => panic!("{other}"),
    };
    match used.as_str() {
        "policy-code-1" => return json(403, r#"{"type":"error","message":"forbidden by policy"}"#),
        "object-code-1" => return json(403, r#"{"error":{"type":"permission_error","message":"no"}}"#),
        "trouble-code-1" => return json(503, "busy"),
        "empty-code-1" => return json(200, "{}"),
        "echo-code-1" => return json(400, &format!("you sent {body}")),
        "reset-code-1" => return vec![Step::Reset],
        _ => {}
    }
    if used.starts_with("bad") || !memory.spent.insert(used) {
        return refused("Invalid authorization code");
    }
    memory.grants += 1;
    let turn = memory.grants;
    let scope = if member("code").starts_with("scoped") { value!("user:inference") } else { Value::Null };
    let answer = value!({ "access_token": format!("access-{turn}"), "refresh_token": format!("refresh-{turn}"), "expires_in": 28800, "scope": scope });
    json(200, &answer.to_string())
}

fn start(upstream: &Upstream) -> Relay {
    let at = |path: &str| format!("http://{}{path}", upstream.address);
    Start::new()
        .upstream(upstream)
        .with("OAUTH_TOKEN_URL", &at("/token"))
        .with("OAUTH_AUTHORIZE_URL", &at("/authorize"))
        .run()
}

/// Begins a sign-in, and plays the browser. Gives back the session's id and the state.
fn begin(relay: &Relay, memory: &Mutex<Memory>, body: &Value) -> (String, String) {
    let response = relay.admin("POST", GENERATE, body);
    assert_eq!(response.status, 200, "{}", response.text());
    let data = response.json()["data"].clone();
    let url = data["authUrl"].as_str().unwrap();
    let parameter = |name: &str| {
        let start = url.find(&format!("&{name}=")).unwrap() + name.len() + 2;
        url[start..].split('&').next().unwrap().to_owned()
    };
    let mut memory = memory.lock().unwrap();
    memory.challenge = parameter("code_challenge");
    memory.state = parameter("state");
    assert_eq!((memory.challenge.len(), memory.state.len()), (43, 64));
    (data["sessionId"].as_str().unwrap().to_owned(), memory.state.clone())
}

fn exchange(relay: &Relay, session: &str, code: &str) -> (u16, Value) {
    let response = relay.admin("POST", EXCHANGE, &value!({ "sessionId": session, "authorizationCode": code }));
    (response.status, response.json())
}

fn refused(status: u16, message: &str) -> (u16, Value) {
    (status, value!({ "error": "Failed to exchange authorization code", "message": message }))
}

/// A refusal in the contract's words, which pages read in `message`.
fn refusal(text: &str) -> Value {
    value!({ "error": text, "message": text })
}

#[test]
fn a_whole_sign_in_leads_to_relayed_requests_that_go_on_after_the_token_expires() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    let (session, state) = begin(&relay, &memory, &Value::Null);
    let (status, body) = exchange(&relay, &session, &format!("good-code-1#{state}"));
    assert_eq!(status, 200, "{body}");
    let tokens = body["data"]["claudeAiOauth"].clone();
    let keys: Vec<&str> = tokens.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["accessToken", "refreshToken", "expiresAt", "scopes", "isMax"]);
    assert_eq!((&tokens["accessToken"], &tokens["isMax"]), (&value!("access-1"), &value!(true)));
    assert_eq!(tokens["scopes"], value!(["user:inference", "user:profile"]));
    let life_ms = tokens["expiresAt"].as_i64().unwrap() - claude_relay::model::time::now_ms();
    assert!((28_790_000..=28_800_000).contains(&life_ms), "{life_ms}");
    // The page hands it on; here as if it had been long ago.
    let mut old = tokens;
    old["expiresAt"] = value!(1);
    let account = relay.add_account(&value!({ "name": "a", "claudeAiOauth": old }));
    let key = relay.add_key("k");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let received = upstream.received();
    assert_eq!(received.last().unwrap().field("authorization"), Some("Bearer access-2"));
    let exchange = received.iter().find(|request| request.json()["grant_type"] == "authorization_code").unwrap();
    assert!(exchange.field("user-agent").unwrap().starts_with("claude-relay/"));
    assert!(exchange.field("origin").is_none() && exchange.field("referer").is_none());
    // By hand, with the token that was rotated in.
    let refreshed = relay.admin(
        "POST",
        &format!("/admin/claude-accounts/{}/refresh", account["id"].as_str().unwrap()),
        &Value::Null,
    );
    let data = refreshed.json()["data"].clone();
    assert_eq!((refreshed.status, &data["success"]), (200, &value!(true)), "{}", refreshed.text());
    assert!(!refreshed.text().contains("access-3") && data["expiresAt"].as_str().unwrap().len() == 13);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    assert_eq!(upstream.received().last().unwrap().field("authorization"), Some("Bearer access-3"));
}

#[test]
fn every_form_of_a_pasted_code_signs_in_and_a_session_does_so_once() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    for (turn, form) in
        ["{c}", "{c}#{s}", "{c}&state={s}", "https://platform.claude.com/oauth/code/callback?code={c}&state={s}"]
            .into_iter()
            .enumerate()
    {
        let (session, state) = begin(&relay, &memory, &value!({ "proxy": null }));
        let code = form.replace("{c}", &format!("scoped_code-{turn}")).replace("{s}", &state);
        let body = value!({ "sessionId": session, "callbackUrl": code, "authorizationCode": "ignored" });
        let response = relay.admin("POST", EXCHANGE, &body);
        assert_eq!(
            (response.status, &response.json()["data"]["claudeAiOauth"]["scopes"]),
            (200, &value!(["user:inference"])),
            "{form}"
        );
        let again = exchange(&relay, &session, "scoped_code-9");
        assert_eq!(again, (400, refusal("Invalid or expired OAuth session")));
    }
    assert_eq!(relay.count("SELECT count(*) FROM oauth_sessions"), 0);
}

#[test]
fn what_is_pasted_wrong_is_told_in_the_words_of_the_contract() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    let (session, _) = begin(&relay, &memory, &Value::Null);
    let missing = (400, refusal("Session ID and authorization code (or callback URL) are required"));
    for body in [value!({}), value!({ "sessionId": session }), value!({ "authorizationCode": "good-code-1" })] {
        let response = relay.admin("POST", EXCHANGE, &body);
        assert_eq!((response.status, response.json()), missing);
    }
    assert_eq!(exchange(&relay, "nope", "good-code-1"), (400, refusal("Invalid or expired OAuth session")));
    for (code, message) in [
        ("   ", "请提供有效的授权码或回调 URL"),
        ("abc", "授权码格式无效，请确保复制了完整的 Authorization Code"),
        ("abc def!! 0123456789", "授权码包含无效字符，请检查是否复制了正确的 Authorization Code"),
        ("http://", "无效的 URL 格式，请检查回调 URL 是否正确"),
        ("https://console.anthropic.com/oauth/code/callback?state=1", "回调 URL 中未找到授权码 (code 参数)"),
        ("good-code-1#another-state", "授权码与当前会话不匹配 (state 参数不一致)，请使用最新生成的授权链接"),
    ] {
        let expected = value!({ "error": "Failed to parse authorization input", "message": message });
        assert_eq!(exchange(&relay, &session, code), (400, expected), "{code}");
    }
    let number = relay.admin("POST", EXCHANGE, &value!({ "sessionId": session, "callbackUrl": 1234567890 }));
    assert_eq!(number.json()["message"], "请提供有效的授权码或回调 URL");
    assert!(upstream.received().is_empty());
    let bad_proxy = relay.admin("POST", GENERATE, &value!({ "proxy": { "type": "ftp", "host": "h", "port": 1 } }));
    assert_eq!(bad_proxy.status, 400);
}

#[test]
fn a_refused_exchange_says_why_without_a_secret_and_may_be_tried_again() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    let (session, state) = begin(&relay, &memory, &Value::Null);
    for (code, status, message) in [
        ("bad-code-1", 400, "Token exchange failed: HTTP 400: invalid_grant - Invalid authorization code"),
        ("policy-code-1", 400, r#"Token exchange failed: HTTP 403: {"type":"error","message":"forbidden by policy"}"#),
        ("object-code-1", 400, "Token exchange failed: HTTP 403: permission_error - no"),
        ("trouble-code-1", 502, "Token exchange failed: HTTP 503: busy"),
        ("empty-code-1", 502, "Token exchange failed: the answer holds no access token"),
        ("reset-code-1", 502, "Token exchange failed: No response from server (network error or timeout)"),
    ] {
        assert_eq!(exchange(&relay, &session, code), refused(status, message), "{code}");
    }
    let (status, echoed) = exchange(&relay, &session, "echo-code-1");
    let verifier = upstream.received().last().unwrap().json()["code_verifier"].as_str().unwrap().to_owned();
    assert_eq!(status, 400);
    let shown = format!("{echoed}{}", relay.log());
    for secret in ["echo-code-1", state.as_str(), verifier.as_str()] {
        assert!(!shown.contains(secret), "{secret}");
    }
    let Sql::Text(kept) = relay.query("SELECT verifier FROM oauth_sessions")[0][0].clone() else { panic!() };
    assert!(kept.starts_with("v2:") && !kept.contains(&verifier), "the verifier is sealed");
    assert_eq!(exchange(&relay, &session, "good-code-1").0, 200);
    assert!(!relay.log().contains("good-code-1") && !relay.log().contains("access-1"));
}

#[test]
fn a_sign_in_outlives_a_restart_but_not_its_ten_minutes() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    let (first, _) = begin(&relay, &memory, &Value::Null);
    let (second, _) = begin(&relay, &memory, &Value::Null);
    let settings =
        Start::new().upstream(&upstream).with("OAUTH_TOKEN_URL", &format!("http://{}/token", upstream.address));
    let relay = relay.kill_and_restart(settings);
    let db = rusqlite::Connection::open(relay.database()).unwrap();
    db.execute("UPDATE oauth_sessions SET expires_at_ms = 1 WHERE id = ?1", [&first]).unwrap();
    let over = refusal("OAuth session has expired, please generate a new authorization URL");
    assert_eq!(exchange(&relay, &first, "good-code-1"), (400, over));
    assert_eq!(exchange(&relay, &first, "good-code-1"), (400, refusal("Invalid or expired OAuth session")));
    assert_eq!(exchange(&relay, &second, "good-code-1").0, 200);
}

#[test]
fn the_exchange_takes_the_proxy_of_its_session_or_none_at_all() {
    let (upstream, memory) = authorization_server();
    let relay = start(&upstream);
    let proxy = value!({ "proxy": { "type": "http", "host": "127.0.0.1", "port": 9, "username": "u", "password": "proxy-secret" } });
    let (session, _) = begin(&relay, &memory, &proxy);
    let message = "Token exchange failed: No response from server (network error or timeout)";
    assert_eq!(exchange(&relay, &session, "good-code-1"), refused(502, message));
    assert!(upstream.received().is_empty(), "no direct connection");
    assert!(!relay.log().contains("proxy-secret"));
    let kept = format!("{:?}", relay.query("SELECT * FROM oauth_sessions"));
    assert!(!kept.contains("proxy-secret"));
}

#[test]
fn a_refresh_by_hand_names_what_is_wrong_and_makes_no_ghosts() {
    let (upstream, _) = authorization_server();
    let relay = start(&upstream);
    let refresh = |id: &str| {
        let response = relay.admin("POST", &format!("/admin/claude-accounts/{id}/refresh"), &Value::Null);
        (response.status, response.json())
    };
    let failed = |message: &str| value!({ "error": "Failed to refresh token", "message": message });
    let account = |token: &str| {
        let made =
            relay.add_account(&value!({ "name": "n", "claudeAiOauth": { "accessToken": "a", "refreshToken": token } }));
        made["id"].as_str().unwrap().to_owned()
    };
    let status = |id: &str| relay.query(&format!("SELECT status FROM accounts WHERE id = '{id}'"))[0][0].clone();
    assert_eq!(refresh("11111111-2222-4333-8444-000000000000"), (404, failed("Account not found")));
    assert_eq!(relay.count("SELECT count(*) FROM accounts"), 0);
    let without = account("");
    assert_eq!(refresh(&without), (400, failed("No refresh token available - manual token update required")));
    let trouble = account("trouble-code-1");
    assert_eq!(refresh(&trouble), (502, failed("Token refresh failed: HTTP 503")));
    let cut = account("reset-code-1");
    assert_eq!(refresh(&cut).0, 502);
    let revoked = account("bad-token-1");
    assert_eq!(refresh(&revoked), (400, failed("The refresh token is no longer valid: sign in again")));
    for (id, expected) in [(without, "active"), (trouble, "active"), (cut, "active"), (revoked, "error")] {
        assert_eq!(status(&id), Sql::Text(expected.into()));
    }
}
