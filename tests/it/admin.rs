//! What the admin does: sign in, accounts, keys; and what nobody else may.

use crate::harness::client::fetch;
use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::json;
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, message};
use serde_json::{Value, json as value};

fn relay() -> Relay {
    Start::new().run()
}

#[test]
fn signing_in_and_out_reads_as_in_the_contract() {
    let relay = relay();
    let bad = relay.login(ADMIN.0, "wrong");
    assert_eq!(
        (bad.status, bad.text().as_str()),
        (401, r#"{"error":"Invalid credentials","message":"Invalid username or password"}"#)
    );
    assert_eq!(relay.login("nobody", ADMIN.1).status, 401);
    let missing = relay.post("/web/auth/login", &[("Content-Type", "application/json")], b"{}");
    assert_eq!((missing.status, &missing.json()["error"]), (400, &"Missing credentials".into()));
    let number = br#"{"username":"keeper","password":12345678}"#;
    assert_eq!(relay.post("/web/auth/login", &[("Content-Type", "application/json")], number).status, 400);
    let form = relay.post(
        "/web/auth/login",
        &[("Content-Type", "application/x-www-form-urlencoded")],
        format!("username={}&password={}", ADMIN.0, ADMIN.1).as_bytes(),
    );
    assert_eq!(form.status, 200);
    let good = relay.login(ADMIN.0, ADMIN.1);
    let body = good.json();
    assert_eq!(
        (&body["success"], &body["expiresIn"], &body["username"]),
        (&true.into(), &86_400_000.into(), &ADMIN.0.into())
    );
    let token = body["token"].as_str().unwrap();
    assert!(token.len() == 64 && token.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let cookie = good.field("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
    let bearer = format!("Bearer {token}");
    let user = relay.get("/web/auth/user", &[("Authorization", &bearer)]);
    assert_eq!((user.status, &user.json()["user"]["username"]), (200, &ADMIN.0.into()));
    assert_eq!(relay.post("/web/auth/refresh", &[("Authorization", &bearer)], b"").json()["token"], token);
    assert_eq!(relay.post("/web/auth/logout", &[("Authorization", &bearer)], b"").status, 200);
    for (method, target) in [("GET", "/web/auth/user"), ("POST", "/web/auth/refresh")] {
        let response = fetch(relay.address, method, target, &[("Authorization", &bearer)], b"");
        assert_eq!((response.status, &response.json()["error"]), (401, &"Invalid token".into()), "{target}");
    }
}

#[test]
fn every_admin_route_is_closed_to_everyone_else() {
    let relay = relay();
    let key = relay.add_key("k");
    let old = relay.login(ADMIN.0, ADMIN.1).json()["token"].as_str().unwrap().to_owned();
    relay.post("/web/auth/logout", &[("Authorization", &format!("Bearer {old}"))], b"");
    let invented = "f".repeat(64);
    let credentials = ["", "short", &invented, &old, &key.clear, "admin_credentials", "Bearer admin_credentials"];
    let routes: Vec<_> =
        claude_relay::server::routes().filter(|(.., guard)| *guard == claude_relay::server::Guard::Admin).collect();
    assert!(routes.len() >= 8);
    for (method, pattern, _) in routes {
        let target: String =
            pattern.split('/').map(|part| if part.starts_with(':') { "x" } else { part }).collect::<Vec<_>>().join("/");
        for credential in credentials {
            let bearer = format!("Bearer {credential}");
            let cookie = format!("adminToken={credential}");
            for field in [
                ("Authorization", bearer.as_str()),
                ("X-Admin-Token", credential),
                ("Cookie", &cookie),
                ("x-api-key", credential),
            ] {
                let response = fetch(relay.address, method, &target, &[field], b"");
                let text = response.text();
                let expected = if field.0 == "Cookie" && method != "GET" && credential.len() >= 32 { 403 } else { 401 };
                assert_eq!(response.status, expected, "{method} {target} {field:?}: {text}");
            }
        }
        assert_eq!(fetch(relay.address, method, &target, &[], b"").status, 401);
    }
    // A session that the client made up is not made real by asking for its renewal.
    for target in ["/web/auth/refresh", "/web/auth/change-password"] {
        let bearer = format!("Bearer {invented}");
        assert_eq!(relay.post(target, &[("Authorization", &bearer)], b"{}").status, 401);
        assert_eq!(relay.get("/admin/api-keys", &[("Authorization", &bearer)]).status, 401);
    }
}

#[test]
fn a_cookie_serves_the_relays_own_pages_only() {
    let relay = relay();
    let cookie = format!("adminToken={}", relay.token());
    assert_eq!(relay.get("/admin/api-keys", &[("Cookie", &cookie)]).status, 200);
    let body = br#"{"name":"by cookie"}"#;
    let json = ("Content-Type", "application/json");
    let post = |fields: &[(&str, &str)]| relay.post("/admin/api-keys", fields, body).status;
    assert_eq!(post(&[("Cookie", &cookie), json]), 403);
    assert_eq!(post(&[("Cookie", &cookie), json, ("Origin", "http://elsewhere")]), 403);
    assert_eq!(post(&[("Cookie", &cookie), json, ("Sec-Fetch-Site", "cross-site"), ("Origin", "http://relay")]), 403);
    assert_eq!(post(&[("Cookie", &cookie), json, ("Origin", "http://relay")]), 200);
    assert_eq!(post(&[("Cookie", &cookie), json, ("Sec-Fetch-Site", "same-origin")]), 200);
}

#[test]
fn a_changed_password_ends_all_sessions_and_the_first_password_file() {
    let relay = Start::new().without("ADMIN_PASSWORD").run();
    eventually("the password is on the console", || relay.folder.0.join("data/init.json").exists());
    let first: Value = serde_json::from_slice(&std::fs::read(relay.folder.0.join("data/init.json")).unwrap()).unwrap();
    let first = first["adminPassword"].as_str().unwrap().to_owned();
    let token = relay.login(ADMIN.0, &first).json()["token"].as_str().unwrap().to_owned();
    let other = relay.login(ADMIN.0, &first).json()["token"].as_str().unwrap().to_owned();
    let change = |body: &Value| {
        let bearer = format!("Bearer {token}");
        let fields = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        relay.post("/web/auth/change-password", &fields, body.to_string().as_bytes())
    };
    for (body, error) in [
        (value!({}), "Missing required fields"),
        (value!({ "currentPassword": first, "newPassword": 12345678 }), "Missing required fields"),
        (value!({ "currentPassword": first, "newPassword": "short" }), "Password too short"),
        (value!({ "currentPassword": "wrong", "newPassword": "long enough" }), "Invalid current password"),
        (value!({ "currentPassword": first, "newPassword": "long enough", "newUsername": 5 }), "Invalid username"),
    ] {
        assert_eq!(change(&body).json()["error"], error, "{body}");
    }
    let changed = change(&value!({ "currentPassword": first, "newPassword": "long enough", "newUsername": " chief " }));
    assert_eq!((changed.status, &changed.json()["newUsername"]), (200, &"chief".into()));
    assert!(!relay.folder.0.join("data/init.json").exists());
    for token in [&token, &other] {
        assert_eq!(relay.get("/admin/api-keys", &[("Authorization", &format!("Bearer {token}"))]).status, 401);
    }
    assert_eq!(relay.login(ADMIN.0, &first).status, 401);
    assert_eq!(relay.login("chief", "long enough").status, 200);
}

#[test]
fn numbers_and_dates_are_read_as_the_original_reads_them() {
    let relay = relay();
    for (text, limit) in [("1e3", 1000), ("5.0", 5), ("0x10", 16), (" 7 ", 7)] {
        let created = relay.admin("POST", "/admin/api-keys", &value!({ "name": "a", "tokenLimit": text }));
        assert_eq!(created.json()["data"]["tokenLimit"], limit, "{text}");
    }
    let local = relay.admin("POST", "/admin/api-keys", &value!({ "name": "a", "expiresAt": "2099-01-01T00:00:00" }));
    assert_eq!(local.json()["data"]["expiresAt"], "2098-12-31T16:00:00.000Z", "in the relay's zone");
}

#[test]
fn keys_follow_the_rules_of_the_contract() {
    let relay = relay();
    for (body, error) in [
        (value!({}), "Name is required and must be a non-empty string"),
        (value!({ "name": "  " }), "Name is required and must be a non-empty string"),
        (value!({ "name": "x".repeat(101) }), "Name must be less than 100 characters"),
        (
            value!({ "name": "a", "description": "x".repeat(501) }),
            "Description must be a string with less than 500 characters",
        ),
        (value!({ "name": "a", "tokenLimit": -1 }), "Token limit must be a non-negative integer"),
        (value!({ "name": "a", "tokenLimit": "1e-3" }), "Token limit must be a non-negative integer"),
        (value!({ "name": "a", "concurrencyLimit": 1.5 }), "Concurrency limit must be a non-negative integer"),
        (value!({ "name": "a", "rateLimitWindow": 0 }), "Rate limit window must be a positive integer (minutes)"),
        (value!({ "name": "a", "rateLimitRequests": 0 }), "Rate limit requests must be a positive integer"),
        (value!({ "name": "a", "enableModelRestriction": null }), "Enable model restriction must be a boolean"),
        (value!({ "name": "a", "restrictedModels": "x" }), "Restricted models must be an array"),
        (value!({ "name": "a", "expiresAt": "soon" }), "Expiry must be an ISO 8601 date"),
        (value!({ "name": "a", "claudeAccountId": "nobody" }), "Claude account not found"),
    ] {
        let response = relay.admin("POST", "/admin/api-keys", &body);
        assert_eq!((response.status, &response.json()["error"]), (400, &error.into()), "{body}");
    }
    let created = relay.admin("POST", "/admin/api-keys", &value!({ "name": "defaults" }));
    let text = created.text();
    assert!(text.starts_with(r#"{"success":true,"data":{"id":""#), "{text}");
    let data = &created.json()["data"];
    assert!(data["apiKey"].as_str().unwrap().starts_with("cr_") && data["apiKey"].as_str().unwrap().len() == 67);
    assert_eq!(
        (&data["tokenLimit"], &data["isActive"], &data["expiresAt"]),
        (&1_000_000.into(), &true.into(), &"".into())
    );
    let target = format!("/admin/api-keys/{}", data["id"].as_str().unwrap());
    let update = value!({ "name": "renamed", "tokenLimit": "", "concurrencyLimit": "3", "rateLimitWindow": 0, "isActive": false });
    assert_eq!(
        relay.admin("PUT", &target, &update).text(),
        r#"{"success":true,"message":"API key updated successfully"}"#
    );
    let listed = relay.admin("GET", "/admin/api-keys", &Value::Null).json()["data"][0].clone();
    assert_eq!(
        (&listed["name"], &listed["tokenLimit"], &listed["concurrencyLimit"]),
        (&"renamed".into(), &1_000_000.into(), &3.into())
    );
    assert_eq!((&listed["isActive"], &listed["currentConcurrency"]), (&false.into(), &0.into()));
    assert!(listed.get("apiKey").is_none() && !listed.to_string().contains(data["apiKey"].as_str().unwrap()));
    for method in ["PUT", "DELETE"] {
        let missing = relay.admin(method, "/admin/api-keys/hash_map", &value!({ "name": "x" }));
        assert_eq!((missing.status, &missing.json()["message"]), (404, &"API key not found".into()));
    }
    assert_eq!(relay.admin("DELETE", &target, &Value::Null).status, 200);
    assert_eq!(relay.admin("GET", "/admin/api-keys", &Value::Null).json()["data"], value!([]));
}

#[test]
fn accounts_follow_the_contract_and_never_give_a_secret_back() {
    let relay = relay();
    let oauth = value!({ "accessToken": "sk-ant-oat01-aaa", "refreshToken": "sk-ant-ort01-bbb", "expiresAt": 1999999999999_i64, "scopes": ["user:inference", "user:profile"] });
    for (body, error) in [
        (value!({}), "Name is required"),
        (value!({ "name": "a", "accountType": "banana" }), "Invalid account type. Must be \"shared\" or \"dedicated\""),
        (value!({ "name": "a", "kind": "gold" }), "Kind must be one of: oauth, api_key, setup_token"),
        (value!({ "name": "a", "kind": "api_key" }), "An API key is required (apiKey)"),
        (value!({ "name": "a", "claudeAiOauth": {} }), "claudeAiOauth.accessToken is missing or invalid"),
        (
            value!({ "name": "a", "claudeAiOauth": { "accessToken": "a\nb" } }),
            "claudeAiOauth.accessToken is missing or invalid",
        ),
        (value!({ "name": "a", "baseUrl": "ftp://x" }), "Base URL must be an http or https URL without a query"),
        (
            value!({ "name": "a", "proxy": { "type": "ftp", "host": "h", "port": 1 } }),
            "Proxy type must be one of: socks5, socks5h, http, https",
        ),
        (value!({ "name": "a", "priority": 0 }), "Priority must be a whole number from 1 to 100"),
        (value!({ "name": "a", "isActive": "maybe" }), "isActive must be a boolean"),
    ] {
        let response = relay.admin("POST", "/admin/claude-accounts", &body);
        assert_eq!((response.status, &response.json()["error"]), (400, &error.into()), "{body}");
    }
    let proxy =
        value!({ "type": "socks5", "host": "127.0.0.1", "port": "1080", "username": "u", "password": "proxy-secret" });
    let made = relay.add_account(&value!({ "name": "oauth", "description": "d", "email": "someone@example.com", "claudeAiOauth": oauth, "proxy": proxy }));
    assert_eq!(
        (&made["status"], &made["expiresAt"], &made["email"]),
        (&"active".into(), &"1999999999999".into(), &"someone@example.com".into())
    );
    let target = format!("/admin/claude-accounts/{}", made["id"].as_str().unwrap());
    let list = || relay.admin("GET", "/admin/claude-accounts", &Value::Null);
    let listed = list().json()["data"][0].clone();
    assert_eq!((&listed["email"], &listed["accountType"]), (&"so***e@example.com".into(), &"shared".into()));
    assert_eq!(
        listed["rateLimitStatus"],
        value!({ "isRateLimited": false, "rateLimitedAt": null, "minutesRemaining": 0 })
    );
    for secret in ["proxy-secret", "sk-ant-oat01-aaa", "sk-ant-ort01-bbb"] {
        assert!(!list().text().contains(secret) && !made.to_string().contains(secret));
    }
    // What the list shows can be sent back as it is; the hidden password stays.
    let mut form = listed["proxy"].clone();
    form["port"] = 1081.into();
    assert_eq!(
        relay.admin("PUT", &target, &value!({ "name": "renamed", "proxy": form, "isActive": true })).status,
        200
    );
    let stored = relay.folder.0.join("data");
    let cipher = claude_relay::model::secret::Cipher::new(
        std::fs::read_to_string(stored.join("encryption.key")).unwrap().trim(),
    )
    .unwrap();
    let sealed = match &relay.query("SELECT proxy FROM accounts")[0][0] {
        rusqlite::types::Value::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    let opened: Value = serde_json::from_str(&cipher.open(&sealed).unwrap()).unwrap();
    assert_eq!((&opened["password"], &opened["port"]), (&"proxy-secret".into(), &1081.into()));
    assert_eq!(relay.admin("PUT", &target, &value!({ "proxy": null })).status, 200);
    assert_eq!(list().json()["data"][0]["proxy"], Value::Null);
    for body in [value!({ "name": null }), value!({ "accountType": "x" }), value!({ "isActive": null })] {
        assert_eq!(relay.admin("PUT", &target, &body).status, 400, "{body}");
    }
    for method in ["PUT", "DELETE"] {
        let missing = relay.admin(method, "/admin/claude-accounts/none", &value!({ "name": "x" }));
        assert_eq!((missing.status, &missing.json()["message"]), (404, &"Account not found".into()));
    }
    assert_eq!(
        relay.admin("DELETE", &target, &Value::Null).text(),
        r#"{"success":true,"message":"Claude account deleted successfully"}"#
    );
    assert_eq!(list().json()["data"], value!([]));
}

#[test]
fn health_pages_and_plumbing_answer() {
    let relay = relay();
    let health = relay.get("/health", &[]);
    assert_eq!((health.status, &health.json()["status"]), (200, &"healthy".into()));
    assert_eq!(relay.get("/api/health", &[]).status, 503);
    relay.add_api_key_account("a", "sk-1");
    assert_eq!(relay.get("/API/Health/", &[]).json()["activeAccounts"], 1);
    let root = relay.get("/", &[]);
    assert_eq!((root.status, root.field("location")), (302, Some("/web")));
    for target in ["/", "/api", "/claude"] {
        assert_eq!(fetch(relay.address, "HEAD", target, &[], b"").status, 200, "{target}");
    }
    // Claude Code's look whether it can reach the API, under each base URL.
    for target in ["/api/api/hello", "/claude/api/hello", "/api/hello"] {
        let probe = fetch(relay.address, "HEAD", target, &[], b"");
        assert_eq!((probe.status, relay.get(target, &[]).status), (200, 200), "{target}");
    }
    let page = relay.get("/web", &[]);
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(!page.field("content-security-policy").unwrap().contains("unsafe"));
    assert_eq!(relay.get("/web/assets/..%2f..%2fCargo.toml", &[]).status, 404);
    assert_eq!(fetch(relay.address, "OPTIONS", "/anything", &[], b"").status, 204);
    let broken = relay.post("/web/auth/login", &[("Content-Type", "application/json")], b"{");
    assert_eq!(broken.status, 400);
    assert!(broken.json()["requestId"].is_string());
}

#[test]
fn a_key_holder_sees_the_own_use_without_spending_any() {
    let upstream = Upstream::start(|_| json(200, &message("m", 5, 6)));
    let (relay, key) = Relay::with_upstream(&upstream);
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let by_key = [("x-api-key", key.clear.as_str())];
    for prefix in ["/api", "/claude", ""] {
        let info = relay.get(&format!("{prefix}/v1/key-info"), &by_key).json();
        assert_eq!(
            (&info["keyInfo"]["name"], &info["keyInfo"]["usage"]["total"]["allTokens"]),
            (&"somebody".into(), &81.into())
        );
        assert_eq!(relay.get(&format!("{prefix}/v1/usage"), &by_key).json()["usage"]["daily"]["requests"], 1);
    }
    assert_eq!(relay.get("/v1/usage", &[]).status, 401);
}

#[test]
fn what_strangers_send_is_bounded_and_what_a_caller_names_is_cut() {
    let upstream =
        Upstream::start(|_| json(400, r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#));
    let (relay, key) = Relay::with_upstream(&upstream);
    let large = format!(r#"{{"username":"{}"}}"#, "x".repeat(70_000));
    let fields = [("Content-Type", "application/json")];
    assert_eq!(relay.post("/web/auth/login", &fields, large.as_bytes()).status, 413);
    for prefix in ["/api", "/claude", ""] {
        let target = format!("{prefix}/api/event_logging/batch");
        assert_eq!(relay.post(&target, &fields, large.as_bytes()).text(), "{}", "{target}");
    }
    let body = format!(r#"{{"model":"{}","messages":[{{"role":"user","content":"x"}}]}}"#, "ü".repeat(100_000));
    assert_eq!(relay.message(&key, body.as_bytes()).status, 400);
    assert_eq!(relay.count("SELECT max(length(CAST(model AS BLOB))) FROM ledger"), 256);
    assert_eq!(upstream.received()[0].body, body.as_bytes(), "what goes up is not cut");
    for route in ["usage-trend", "api-keys-usage-trend"] {
        let target = format!("/admin/{route}?granularity=hour&startDate=300000000000000&endDate=253402200000000");
        let answer = relay.admin("GET", &target, &Value::Null);
        assert!(answer.status == 400 || answer.json()["data"] == value!([]), "{target}: {}", answer.text());
    }
}
