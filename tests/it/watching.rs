//! What an admin watches live: the log, what runs, the state of the system; and who may watch for how long.

use crate::harness::client::{Connection, fetch};
use crate::harness::events::Events;
use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::{Step, chunk, json, stream_head};
use crate::harness::{Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use serde_json::{Value, json as value};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn data(relay: &Relay, target: &str) -> Value {
    let response = relay.admin("GET", target, &Value::Null);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()["data"].clone()
}

/// A connection whose client takes in very little.
fn narrow(relay: &Relay) -> Connection {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&relay.address.into()).unwrap();
    Connection::over(socket.into())
}

/// Writes so many long lines into the log.
fn flood(relay: &Relay, lines: usize) {
    let target = format!("/health?{}", "x".repeat(8000));
    let mut connection = Connection::open(relay.address);
    for _ in 0..lines {
        connection.request("GET", &format!("/nothing/{}", &target[8..]), &[], b"");
        assert_eq!(connection.response().unwrap().status, 404);
    }
}

#[test]
fn the_log_is_read_with_filters_whatever_is_written_to_files() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let relay = Start::new().upstream(&upstream).with("LOG_LEVEL", "error").run();
    relay.add_api_key_account("first", "sk-ant-secret");
    let key = relay.add_key("somebody");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    relay.login(ADMIN.0, "wrong-password");
    assert!(!relay.log().contains("[INFO]") && !relay.log().contains("[WARN]"), "{}", relay.log());
    let lines = |query: &str| data(&relay, &format!("/admin/logs?{query}"))["lines"].as_array().unwrap().clone();
    let all = lines("");
    assert!(all.len() > 3 && all.iter().all(|line| line["level"] != "DEBUG"));
    let relayed = lines("q=RELAYED%20id");
    assert_eq!(relayed.len(), 1);
    assert_eq!((&relayed[0]["level"], &relayed[0]["target"]), (&value!("INFO"), &value!("claude_relay::relay::meter")));
    assert!(relayed[0]["message"].as_str().unwrap().contains("key=\"somebody\""));
    assert!(claude_relay::model::time::parse(relayed[0]["at"].as_str().unwrap()).is_some());
    let warnings = lines("level=warn");
    assert!(!warnings.is_empty() && warnings.iter().all(|line| line["level"] == "WARN" || line["level"] == "ERROR"));
    assert!(warnings.iter().any(|line| line["target"] == "claude_relay::security"));
    let last = lines("limit=1");
    assert_eq!((last.len(), &last[0]), (1, lines("").last().unwrap()));
    assert!(all.windows(2).all(|pair| pair[0]["id"].as_u64() < pair[1]["id"].as_u64()));
    for query in ["level=loud", "limit=0", "limit=1001", "limit=x", &format!("q={}", "x".repeat(201))] {
        for path in ["/admin/logs", "/admin/logs/stream"] {
            if path.ends_with("stream") && query.starts_with("limit") {
                continue;
            }
            let refused = relay.admin("GET", &format!("{path}?{query}"), &Value::Null);
            assert_eq!(refused.status, 400, "{path}?{query}");
            assert!(refused.json()["message"].is_string());
        }
    }
    assert_eq!(relay.admin("GET", "/admin/logs/stream?after=x", &Value::Null).status, 400);
    let text = relay.admin("GET", "/admin/logs?limit=1000", &Value::Null).text();
    for secret in [key.clear.as_str(), relay.token(), "sk-ant-secret", "wrong-password", ADMIN.1] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn the_log_names_what_was_deleted_and_restored() {
    let relay = Start::new().run();
    let (key, account) = (relay.add_key("somebody"), relay.add_api_key_account("first", "sk-ant-secret"));
    for (method, target) in [
        ("DELETE", format!("/admin/api-keys/{}", key.id)),
        ("POST", format!("/admin/api-keys/{}/restore", key.id)),
        ("DELETE", format!("/admin/claude-accounts/{account}")),
    ] {
        assert_eq!(relay.admin(method, &target, &Value::Null).status, 200, "{target}");
    }
    let log = data(&relay, "/admin/logs")["lines"].to_string().replace("\\\"", "'");
    for told in ["deleted API key 'somebody'", "restored API key 'somebody'", "deleted account 'first'"] {
        assert!(log.contains(told), "{told} is not in {log}");
    }
}

#[test]
fn the_log_is_followed_live_and_from_where_a_reader_left() {
    let relay = Start::new().run();
    let mut stream = Events::open(&relay, "/admin/logs/stream?level=info&q=made%20api%20key");
    relay.add_key("one");
    relay.add_key("two");
    let first = stream.event();
    assert_eq!((first.name.as_str(), first.id), ("log", first.data["id"].as_u64()));
    assert!(first.data["message"].as_str().unwrap().contains("made API key \"one\""));
    assert_eq!(first.data["level"], "INFO");
    assert!(stream.event().data["message"].as_str().unwrap().contains("two"));
    // From a line on, however the browser says it; a list says what its last line was.
    let after = first.id.unwrap().to_string();
    let bearer = format!("Bearer {}", relay.token());
    let target = "/admin/logs/stream?q=made%20api%20key";
    for (target, fields) in [
        (format!("{target}&after={after}"), vec![("Authorization", bearer.as_str())]),
        (format!("{target}&after=5"), vec![("Authorization", bearer.as_str()), ("Last-Event-ID", after.as_str())]),
    ] {
        let mut resumed = Events::over(Connection::open(relay.address), &target, &fields);
        assert!(resumed.event().data["message"].as_str().unwrap().contains("two"), "{target}");
    }
    let last = data(&relay, "/admin/logs")["last"].as_u64().unwrap();
    let mut resumed = Events::open(&relay, &format!("{target}&after={last}"));
    relay.add_key("three");
    assert!(resumed.event().data["message"].as_str().unwrap().contains("three"));
    // A number that no line has yet begins with the next one.
    let mut ahead = Events::open(&relay, &format!("{target}&after={}", u64::MAX));
    relay.add_key("four");
    assert!(ahead.event().data["message"].as_str().unwrap().contains("four"));
}

#[test]
fn a_watcher_that_is_too_slow_is_told_how_many_lines_it_lost_and_costs_no_memory() {
    let relay = Start::new().run();
    let bearer = format!("Bearer {}", relay.token());
    let mut stream = Events::over(narrow(&relay), "/admin/logs/stream", &[("Authorization", &bearer)]);
    flood(&relay, 200);
    let before = relay.process_figure("VmRSS");
    flood(&relay, 2000);
    let after = relay.process_figure("VmRSS");
    assert!(after < before + 4096, "{before} kB, then {after} kB");
    relay.get("/marker", &[]);
    let (mut last, mut gaps, mut lost) = (None, 0, 0);
    loop {
        let event = stream.event();
        if event.name == "lost" {
            lost += event.data["lines"].as_u64().unwrap();
            continue;
        }
        let id = event.id.unwrap();
        gaps += last.map_or(0, |last| id - last - 1);
        last = Some(id);
        if event.data["message"].as_str().unwrap().contains("/marker") {
            break;
        }
    }
    assert!(lost > 0, "the ring has turned");
    assert_eq!(lost, gaps);
}

#[test]
fn the_system_says_how_it_is_and_no_secret() {
    let upstream = Upstream::start(|_| json(200, &message("m", 1, 1)));
    let url = format!("{}?token=url-secret", upstream.url());
    let relay = Start::new().with("CLAUDE_API_URL", &url).with("SYSTEM_TIMEZONE", "Europe/Berlin").run();
    relay.add_key("k");
    let system = data(&relay, "/admin/system");
    assert_eq!(system["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&system["upstreamHost"], &system["timeZone"]),
        (&value!(upstream.address.to_string()), &value!("Europe/Berlin"))
    );
    assert_eq!(system["pools"]["relay"], value!({ "size": 32, "busy": 0 }));
    assert_eq!(system["counts"], value!({ "keys": 1, "accounts": 0, "accountsUsable": 0 }));
    assert_eq!(system["ledger"], value!({ "waiting": 0, "lines": 0 }));
    assert_eq!(system["watchers"], value!({ "open": 0, "max": 8 }));
    let resident = relay.process_figure("VmRSS") * 1024;
    let told = system["process"]["residentBytes"].as_u64().unwrap();
    assert!(told.abs_diff(resident) < 4 << 20, "{told} {resident}");
    assert_eq!(system["process"]["threads"], relay.process_figure("Threads"));
    let file = std::fs::metadata(relay.database()).unwrap().len();
    assert_eq!(system["database"]["fileBytes"], file);
    assert!(system["database"]["walBytes"].as_u64().unwrap() > 0);
    assert!(system["disk"]["freeBytes"].as_u64().unwrap() <= system["disk"]["totalBytes"].as_u64().unwrap());
    assert!(system["prices"]["edition"].is_string() && system["prices"]["names"].as_u64().unwrap() > 5);
    assert!(claude_relay::model::time::parse(system["startedAt"].as_str().unwrap()).is_some());
    // There is no account: that is what is wrong with it.
    assert_eq!(system["health"], "error");
    let check = |system: &Value, name: &str| {
        let checks = system["checks"].as_array().unwrap().clone();
        let found = checks.into_iter().find(|check| check["name"] == name).unwrap_or(Value::Null);
        assert!(found.is_null() || claude_relay::model::time::parse(found["checkedAt"].as_str().unwrap()).is_some());
        found["status"].clone()
    };
    assert_eq!((check(&system, "accounts"), check(&system, "database")), (value!("error"), value!("ok")));
    relay.add_api_key_account("first", "sk-ant-secret");
    let key = relay.add_key("other");
    assert_eq!(relay.message(&key, REQUEST).status, 200);
    let system = data(&relay, "/admin/system");
    assert_eq!((check(&system, "accounts"), &system["ledger"]["lines"]), (value!("ok"), &value!(1)));
    let accounts = system["checks"].as_array().unwrap().iter().find(|check| check["name"] == "accounts").unwrap();
    assert_eq!((&accounts["code"], &accounts["figures"]), (&value!("usable"), &value!({ "usable": 1, "all": 1 })));
    assert_eq!(accounts["message"], "1 of 1 can serve now");
    assert_eq!(system["counts"], value!({ "keys": 2, "accounts": 1, "accountsUsable": 1 }));
    eventually("a background job has run", || check(&data(&relay, "/admin/system"), "job:prices") == "ok");
    let text = system.to_string();
    for secret in ["url-secret", "sk-ant-secret", key.clear.as_str(), relay.token()] {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn what_runs_is_seen_live_and_nothing_is_sent_while_nothing_changes() {
    let upstream =
        Upstream::start(|_| vec![stream_head(), chunk(events("m", 50, 5).remove(0)), Step::AwaitEnd(Arc::default())]);
    let (relay, key) = Relay::with_upstream(&upstream);
    let start = Instant::now();
    let mut live = Events::open(&relay, "/admin/live");
    let first = live.event();
    assert!(start.elapsed() < Duration::from_millis(500), "the first comes at once");
    assert_eq!((first.name.as_str(), &first.data["running"]), ("live", &value!({ "count": 0, "requests": [] })));
    assert_eq!(first.data["minutes"].as_array().unwrap().len(), 5);
    let mut connection = Connection::open(relay.address);
    connection.request("POST", "/v1/messages", &[("x-api-key", &key.clear)], STREAM_REQUEST);
    assert!(connection.head().is_ok());
    let start = Instant::now();
    let seen = live.until("it runs", |event| event.data["running"]["requests"][0]["tokens"]["total"] == 121).data;
    assert!(start.elapsed() < Duration::from_secs(3));
    assert_eq!(seen["running"]["count"], 1);
    let request = &seen["running"]["requests"][0];
    assert_eq!((&request["keyName"], &request["state"]), (&value!("somebody"), &value!("streaming")));
    assert_eq!((&seen["accounts"][0]["name"], &seen["accounts"][0]["inFlight"]), (&value!("first"), &value!(1)));
    assert_eq!(seen["pools"]["relay"]["busy"], 2, "the watcher is the other one");
    // Seconds pass, but nothing happens: not every second is an event.
    let listened = Instant::now();
    live.connection.stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
    let mut count = 0;
    while listened.elapsed() < Duration::from_secs(4) && live.next().is_some() {
        count += 1;
    }
    assert!(count <= 1, "{count} events while nothing changed");
    drop(live);
    drop(connection);
    let mut live = Events::open(&relay, "/admin/live");
    let after = live.until("it was counted", |event| event.data["minutes"][4]["requests"] == 1).data;
    assert_eq!(after["minutes"][4], value!({ "requests": 1, "tokens": 121 }));
    assert_eq!(after["perMinute"], value!({ "requests": 0.2, "tokens": 24.2 }));
}

#[test]
fn watchers_are_few_and_a_place_is_free_as_soon_as_its_client_has_left() {
    let relay = Start::new().run();
    let cookie = format!("adminToken={}", relay.token());
    let mut open: Vec<Events> = (0..8)
        .map(|number| match number % 2 {
            0 => Events::open(&relay, "/admin/logs/stream"),
            _ => Events::over(Connection::open(relay.address), "/admin/live", &[("Cookie", &cookie)]),
        })
        .collect();
    for target in ["/admin/live", "/admin/logs/stream", "/admin/requests.csv"] {
        let refused = relay.admin("GET", target, &Value::Null);
        assert_eq!((refused.status, &refused.json()["error"]), (503, &value!("Too many watchers")), "{target}");
        assert!(refused.json()["message"].is_string() && refused.field("retry-after").is_some());
    }
    assert_eq!(data(&relay, "/admin/system")["watchers"], value!({ "open": 8, "max": 8 }));
    open.truncate(6);
    let start = Instant::now();
    eventually("places are free", || data(&relay, "/admin/system")["watchers"]["open"] == 6);
    assert!(start.elapsed() < Duration::from_millis(1200), "{:?}", start.elapsed());
    open.push(Events::open(&relay, "/admin/live"));
    assert_eq!(relay.admin("GET", "/admin/requests.csv", &Value::Null).status, 200);
    drop(open);
    eventually("all have left", || data(&relay, "/admin/system")["watchers"]["open"] == 0);
    // Who only asks with HEAD takes no place.
    let bearer = format!("Bearer {}", relay.token());
    for _ in 0..20 {
        let head = fetch(relay.address, "HEAD", "/admin/live", &[("Authorization", &bearer)], b"");
        assert_eq!((head.status, head.field("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    }
    assert_eq!(data(&relay, "/admin/system")["watchers"]["open"], 0);
    // Where there is hardly a worker, none is taken from relaying.
    let small = Start::new().with("RELAY_WORKERS", "1").run();
    assert_eq!(small.admin("GET", "/admin/live", &Value::Null).status, 503);
}

#[test]
fn watching_takes_a_session() {
    let relay = Start::new().run();
    for target in ["/admin/live", "/admin/logs/stream", "/admin/requests.csv"] {
        assert_eq!(relay.get(target, &[]).status, 401, "{target}");
        let forged = format!("adminToken={}", "f".repeat(64));
        assert_eq!(relay.get(target, &[("Cookie", &forged)]).status, 401, "{target}");
    }
    // It ends with its session, and others' go on.
    let token = relay.login(ADMIN.0, ADMIN.1).json()["token"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {token}");
    let mut ending =
        Events::over(Connection::open(relay.address), "/admin/logs/stream?level=error", &[("Authorization", &bearer)]);
    let mut staying = Events::open(&relay, "/admin/logs/stream?q=made%20api%20key");
    assert_eq!(relay.post("/web/auth/logout", &[("Authorization", &bearer)], b"").status, 200);
    let start = Instant::now();
    while ending.next().is_some() {}
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    relay.add_key("later");
    assert!(staying.event().data["message"].as_str().unwrap().contains("later"));
}

#[test]
fn a_silent_stream_shows_that_it_lives() {
    let relay = Start::new().run();
    let mut stream = Events::open(&relay, "/admin/logs/stream?level=error");
    assert_eq!(stream.next().unwrap().data, "log");
    let start = Instant::now();
    assert_eq!(stream.next().unwrap().data, "heartbeat");
    assert!((14..17).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
}

#[test]
fn open_watchers_do_not_delay_the_end() {
    let mut relay = Start::new().run();
    let bearer = format!("Bearer {}", relay.token());
    let mut streams: Vec<Events> = ["/admin/live", "/admin/logs/stream?q=nothing"]
        .map(|target| Events::open(&relay, target))
        .into_iter()
        .collect();
    // One of them reads nothing.
    let stuck = Events::over(narrow(&relay), "/admin/logs/stream", &[("Authorization", &bearer)]);
    flood(&relay, 1500);
    let start = Instant::now();
    relay.signal("-TERM");
    let status = relay.process.wait().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert!(status.success() && !relay.log().contains("requests still run after the grace"));
    for stream in &mut streams {
        while stream.next().is_some() {}
    }
    drop(stuck);
}
