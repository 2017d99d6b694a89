//! Accounts behind proxies: every kind carries the request, and a bad one never lets it out directly.

use crate::harness::Upstream;
use crate::harness::relay::Start;
use crate::harness::upstream::json;
use crate::samples::{REQUEST, message};
use serde_json::json as value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const USER: &str = "user@x";
pub const PASSWORD: &str = "p:/#%@ ss";

/// A proxy that notes where it was asked to connect to.
pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

pub fn proxy(handshake: fn(&mut TcpStream) -> Option<String>) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, log) = (client.unwrap(), Arc::clone(&log));
            std::thread::spawn(move || {
                let Some(target) = handshake(&mut client) else { return };
                log.lock().unwrap().push(target.clone());
                let Ok(server) = TcpStream::connect(&target) else { return };
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(std::net::Shutdown::Write);
                });
                let (mut from, mut to) = (server, client);
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    Proxy { address, asked }
}

/// SOCKS5 with user name and password (RFC 1928, RFC 1929).
pub fn socks5(client: &mut TcpStream) -> Option<String> {
    let read = |client: &mut TcpStream, length: usize| {
        let mut bytes = vec![0; length];
        client.read_exact(&mut bytes).ok().map(|()| bytes)
    };
    let greeting = read(client, 2)?;
    let methods = read(client, greeting[1].into())?;
    if !methods.contains(&2) {
        client.write_all(&[5, 0xff]).ok()?;
        return None;
    }
    client.write_all(&[5, 2]).ok()?;
    let length = read(client, 2)?[1];
    let user = read(client, length.into())?;
    let length = read(client, 1)?[0];
    let password = read(client, length.into())?;
    let is_known = user == USER.as_bytes() && password == PASSWORD.as_bytes();
    client.write_all(&[1, u8::from(!is_known)]).ok()?;
    if !is_known {
        return None;
    }
    let request = read(client, 4)?;
    let host = match request[3] {
        1 => read(client, 4)?.iter().map(u8::to_string).collect::<Vec<_>>().join("."),
        3 => {
            let length = read(client, 1)?[0];
            String::from_utf8(read(client, length.into())?).ok()?
        }
        _ => return None,
    };
    let port = read(client, 2)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
    Some(format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])))
}

/// An HTTP proxy with Basic credentials (RFC 9110 section 9.3.6).
pub fn connect(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    // user@x:p:/#%@ ss
    if !head.contains("Proxy-Authorization: Basic dXNlckB4OnA6LyMlQCBzcw==") {
        client.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n").ok()?;
        return None;
    }
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").ok()?;
    head.split(' ').nth(1).map(str::to_owned)
}

#[test]
fn every_kind_of_proxy_carries_the_request_with_its_credentials() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let by_name = format!("http://localhost:{}/v1/messages", upstream.address.port());
    let relay = Start::new().with("CLAUDE_API_URL", &by_name).run();
    for (kind, handshake, expected) in [
        ("socks5", socks5 as fn(&mut TcpStream) -> Option<String>, "127.0.0.1"),
        ("socks5h", socks5, "localhost"),
        ("http", connect, "localhost"),
    ] {
        let proxy = proxy(handshake);
        let settings = value!({ "type": kind, "host": "127.0.0.1", "port": proxy.address.port(), "username": USER, "password": PASSWORD });
        let account =
            relay.add_account(&value!({ "name": kind, "kind": "api_key", "apiKey": "sk-1", "proxy": settings }));
        let key = relay.add_key_with(&value!({ "name": kind, "claudeAccountId": account["id"] }));
        let response = relay.message(&key, REQUEST);
        assert_eq!(response.status, 200, "{kind}: {}", response.text());
        let asked = proxy.asked.lock().unwrap().clone();
        assert_eq!(asked, [format!("{expected}:{}", upstream.address.port())], "{kind}");
    }
}

#[test]
fn a_proxy_that_refuses_or_is_not_there_is_an_error_and_never_a_direct_connection() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let relay = Start::new().upstream(&upstream).run();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (socks, http) = (proxy(socks5), proxy(connect));
    for (kind, port) in [
        ("socks5", nobody),
        ("http", nobody),
        ("https", nobody),
        ("socks5", socks.address.port()),
        ("http", http.address.port()),
    ] {
        let settings =
            value!({ "type": kind, "host": "127.0.0.1", "port": port, "username": "wrong", "password": "wrong" });
        let account =
            relay.add_account(&value!({ "name": kind, "kind": "api_key", "apiKey": "sk-1", "proxy": settings }));
        let key = relay.add_key_with(&value!({ "name": kind, "claudeAccountId": account["id"] }));
        let response = relay.message(&key, REQUEST);
        assert_eq!(response.status, 502, "{kind} {port}: {}", response.text());
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn a_sign_in_goes_the_way_of_its_proxy_and_so_does_its_refresh() {
    let upstream = Upstream::start(|_| json(200, r#"{"access_token":"a","refresh_token":"r","expires_in":3600}"#));
    let token_url = format!("http://localhost:{}/token", upstream.address.port());
    let relay = Start::new().with("OAUTH_TOKEN_URL", &token_url).run();
    let proxy = proxy(socks5);
    let settings = value!({ "type": "socks5h", "host": "127.0.0.1", "port": proxy.address.port(), "username": USER, "password": PASSWORD });
    let begun = relay.admin("POST", "/admin/claude-accounts/generate-auth-url", &value!({ "proxy": settings })).json();
    let body = value!({ "sessionId": begun["data"]["sessionId"], "authorizationCode": "a-code-of-some-length" });
    let exchanged = relay.admin("POST", "/admin/claude-accounts/exchange-code", &body);
    assert_eq!(exchanged.status, 200, "{}", exchanged.text());
    let tokens = exchanged.json()["data"]["claudeAiOauth"].clone();
    let account = relay.add_account(&value!({ "name": "a", "claudeAiOauth": tokens, "proxy": settings }));
    let path = format!("/admin/claude-accounts/{}/refresh", account["id"].as_str().unwrap());
    assert_eq!(relay.admin("POST", &path, &serde_json::Value::Null).status, 200);
    // The second may ride on the connection of the first.
    let asked = proxy.asked.lock().unwrap().clone();
    assert!(!asked.is_empty() && asked.iter().all(|to| *to == format!("localhost:{}", upstream.address.port())));
    assert_eq!(upstream.received().len(), 2);
}

#[test]
fn a_proxy_can_be_tried_before_an_account_uses_it() {
    let upstream = Upstream::start(|_| json(404, "{}"));
    let relay = Start::new().upstream(&upstream).run();
    let good = proxy(socks5);
    let settings = |port: u16, password: &str| value!({ "type": "socks5", "host": "127.0.0.1", "port": port, "username": USER, "password": password });
    let tried = |body: &serde_json::Value| {
        let answer = relay.admin("POST", "/admin/proxies/test", body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["data"].clone()
    };
    let reached = tried(&value!({ "proxy": settings(good.address.port(), PASSWORD) }));
    assert_eq!((&reached["ok"], &reached["target"]), (&value!(true), &value!(format!("http://{}/", upstream.address))));
    assert_eq!(tried(&value!({ "proxy": settings(good.address.port(), "wrong") }))["ok"], false);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    assert_eq!(tried(&value!({ "proxy": settings(closed, PASSWORD) }))["ok"], false);
    // The form sends back a masked password.
    let account = relay.add_account(
        &value!({ "name": "a", "kind": "api_key", "apiKey": "k", "proxy": settings(good.address.port(), PASSWORD) }),
    );
    let list = relay.admin("GET", "/admin/claude-accounts", &serde_json::Value::Null).json();
    let masked = &list["data"][0]["proxy"];
    assert_ne!(masked["password"], PASSWORD);
    assert_eq!(tried(&value!({ "proxy": masked, "accountId": account["id"] }))["ok"], true);
    assert_eq!(relay.admin("POST", "/admin/proxies/test", &value!({})).status, 400);
    assert!(!relay.log().contains(PASSWORD));
}

#[test]
fn an_account_can_be_tested_and_says_what_is_wrong() {
    let upstream = Upstream::start(|request| match request.field("x-api-key") {
        Some("good") => json(200, &message("m", 1, 1)),
        _ => json(401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#),
    });
    let relay = Start::new().upstream(&upstream).run();
    for (key, ok, status, words) in [("good", true, 200, "answers"), ("bad", false, 401, "invalid x-api-key")] {
        let id = relay.add_api_key_account(key, key);
        let path = format!("/admin/claude-accounts/{id}/test");
        let tried = relay.admin("POST", &path, &value!({ "model": "claude-x" })).json()["data"].clone();
        assert_eq!(
            (&tried["ok"], &tried["status"], &tried["model"]),
            (&value!(ok), &value!(status), &value!("claude-x"))
        );
        assert!(tried["message"].as_str().unwrap().contains(words), "{tried}");
        assert_eq!(upstream.received().last().unwrap().json()["max_tokens"], 1);
    }
    assert_eq!(relay.count("SELECT count(*) FROM ledger"), 0, "it is on nobody's bill");
    assert_eq!(relay.admin("POST", "/admin/claude-accounts/none/test", &value!({})).status, 404);
}
