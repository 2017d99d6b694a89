//! The ledger as an admin reads it: filters, pages, one line, and the download.

use crate::harness::client::Connection;
use crate::harness::relay::Start;
use crate::harness::upstream::{Step, chunk, json, stream_head};
use crate::harness::{Key, Relay, Upstream, eventually};
use crate::samples::{REQUEST, STREAM_REQUEST, events, message};
use serde_json::{Value, json as value};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A day in the past: 2026-01-02T00:00:00Z.
const DAY_MS: i64 = 1_767_312_000_000;

/// Puts lines into the ledger beside the running relay: number, arrival, key, account, model, status, complete.
fn seed(relay: &Relay, lines: impl Iterator<Item = (i64, i64, i64, i64, &'static str, i64, bool)>) {
    let mut db = rusqlite::Connection::open(relay.database()).unwrap();
    db.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let transaction = db.transaction().unwrap();
    for (number, at_ms, key, account, model, status, complete) in lines {
        transaction
            .prepare_cached(
                "INSERT INTO ledger (request_id, at_ms, key_seq, account_seq, model, stream, status, billed, complete,
                     input_tokens, output_tokens, cache_creation_5m_tokens, cache_creation_1h_tokens, cache_read_tokens,
                     web_search_requests, first_byte_ms, total_ms, cost_input, cost_output, cost_cache_write,
                     cost_cache_read, cost_web_search, price_version)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6, 1, ?7, 1, 2, 3, 4, 5, 0, 10, 20, 1000000, 2, 3, 4, 0, 'v')",
            )
            .unwrap()
            .execute((format!("r{number:010}"), at_ms, key, account, model, status, complete))
            .unwrap();
    }
    transaction.commit().unwrap();
}

fn seq(relay: &Relay, table: &str, id: &str) -> i64 {
    relay.count(&format!("SELECT seq FROM {table} WHERE id = '{id}'"))
}

fn page(relay: &Relay, query: &str) -> Value {
    let response = relay.admin("GET", &format!("/admin/requests?{query}"), &Value::Null);
    assert_eq!(response.status, 200, "{query}: {}", response.text());
    response.json()["data"].clone()
}

/// The request ids of a page.
fn ids(page: &Value) -> Vec<String> {
    let lines = page["requests"].as_array().unwrap();
    lines.iter().map(|line| line["requestId"].as_str().unwrap().to_owned()).collect()
}

/// All pages of a query: request ids in order, and how many answers it took.
fn all(relay: &Relay, query: &str) -> (Vec<String>, usize) {
    let (mut found, mut answers, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let query = query.trim_end_matches("&cursor=");
        let page = page(relay, &format!("{query}&cursor={cursor}"));
        assert!(page["scanned"].as_u64().unwrap() <= 20_000);
        found.extend(ids(&page));
        answers += 1;
        match page["nextCursor"].as_str() {
            None => return (found, answers),
            Some(next) => cursor = next.to_owned(),
        }
    }
}

fn with_two_keys() -> (Relay, [Key; 2], [String; 2]) {
    let relay = Start::new().with("SYSTEM_TIMEZONE", "Asia/Shanghai").run();
    let keys = [relay.add_key("mum"), relay.add_key("=dad")];
    let accounts = ["first", "second"].map(|name| relay.add_api_key_account(name, "sk-ant-secret"));
    (relay, keys, accounts)
}

#[test]
fn a_relayed_request_is_listed_with_all_that_is_known_of_it() {
    let upstream = Upstream::start(|_| json(200, &message("claude-sonnet-4-5", 50, 5)));
    let (relay, key) = Relay::with_upstream(&upstream);
    let sent = relay.message(&key, REQUEST);
    assert_eq!(sent.status, 200);
    let page = page(&relay, "");
    let line = &page["requests"][0];
    let request_id = sent.field("x-request-id").unwrap();
    let expected = value!({
        "requestId": request_id, "keyId": key.id, "keyName": "somebody", "keyDeleted": false, "accountName": "first",
        "accountDeleted": false, "model": "claude-sonnet-4-5", "stream": false, "status": 200, "complete": true,
        "outcome": "ok", "webSearchRequests": 0, "upstreamRequestId": "req_json", "serviceTier": "standard",
        "speed": null, "geo": null,
        "tokens": { "input": 50, "output": 5, "cacheCreate5m": 10, "cacheCreate1h": 20, "cacheRead": 40, "total": 125 },
        // 50 × 3, 5 × 15, 10 × 3.75 + 20 × 6, 40 × 0.3 dollars a million.
        "cost": { "input": 0.00015, "output": 0.000075, "cacheWrite": 0.0001575, "cacheRead": 0.000012, "webSearch": 0,
                  "total": 0.0003945 },
    });
    for (name, expected) in expected.as_object().unwrap() {
        assert_eq!(&line[name], expected, "{name}");
    }
    assert!(line["priceVersion"].is_string() && line["costText"].as_str().unwrap().starts_with("$0.0003"));
    assert_eq!((&page["nextCursor"], &page["scanned"]), (&Value::Null, &value!(1)));
    // One line, by its number and by what the client saw.
    for id in [line["id"].to_string(), request_id.to_owned()] {
        let one = relay.admin("GET", &format!("/admin/requests/{id}"), &Value::Null);
        assert_eq!((one.status, &one.json()["data"]), (200, line), "{id}");
    }
    for (id, status) in [("999", 404), ("abcdefghijk", 404), ("-1", 404), ("no%20id", 400), ("1.5", 400)] {
        let one = relay.admin("GET", &format!("/admin/requests/{id}"), &Value::Null);
        assert_eq!(one.status, status, "{id}: {}", one.text());
        assert!(one.json()["message"].is_string());
    }
}

#[test]
fn what_is_cut_refused_or_unpriced_says_so() {
    let upstream = Upstream::start(|request| match request.field("x-what").unwrap() {
        "cut" => {
            vec![stream_head(), chunk(events("claude-sonnet-4-5", 50, 5).remove(0)), Step::AwaitEnd(Arc::default())]
        }
        "refused" => json(429, r#"{"type":"error","error":{"type":"rate_limit_error","message":"x"}}"#),
        _ => json(200, &message("no-such-model", 1, 1)),
    });
    let (relay, key) = Relay::with_upstream(&upstream);
    let mut connection = Connection::open(relay.address);
    connection.request("POST", "/v1/messages", &[("x-api-key", &key.clear), ("x-what", "cut")], STREAM_REQUEST);
    assert!(connection.head().is_ok() && connection.chunk().unwrap().is_some());
    drop(connection);
    eventually("the cut line is there", || ids(&page(&relay, "status=partial")).len() == 1);
    for what in ["unpriced", "refused"] {
        relay.post("/v1/messages", &[("x-api-key", &key.clear), ("x-what", what)], REQUEST);
    }
    let of = |status: &str| page(&relay, &format!("status={status}"))["requests"].clone();
    let [partial, error, ok] = ["partial", "error", "ok"].map(of);
    for (lines, outcome, status) in [(&partial, "partial", 200), (&error, "error", 429), (&ok, "ok", 200)] {
        assert_eq!(lines.as_array().unwrap().len(), 1, "{outcome}");
        assert_eq!((&lines[0]["outcome"], &lines[0]["status"]), (&value!(outcome), &value!(status)));
    }
    assert_eq!(partial[0]["tokens"]["total"], 121);
    assert_eq!(
        (&ok[0]["cost"], &ok[0]["costText"], &ok[0]["priceVersion"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    assert_eq!((&error[0]["tokens"], &error[0]["cost"]), (&Value::Null, &Value::Null));
}

#[test]
fn filters_find_what_they_name_and_nothing_else() {
    let (relay, keys, accounts) = with_two_keys();
    let key = [seq(&relay, "api_keys", &keys[0].id), seq(&relay, "api_keys", &keys[1].id)];
    let account = [seq(&relay, "accounts", &accounts[0]), seq(&relay, "accounts", &accounts[1])];
    let hour = 3_600_000;
    seed(
        &relay,
        [
            (0, DAY_MS, key[0], account[0], "a", 200, true),
            (1, DAY_MS + hour, key[1], account[0], "b", 429, true),
            (2, DAY_MS + 2 * hour, key[0], account[1], "a", 200, false),
            (3, DAY_MS + 3 * hour, key[1], account[1], "b", 529, false),
            (4, DAY_MS + 4 * hour, key[0], account[1], "b", 200, true),
        ]
        .into_iter(),
    );
    let at = |hours: i64| (DAY_MS + hours * hour).to_string();
    for (query, expected) in [
        (String::new(), &[4, 3, 2, 1, 0][..]),
        (format!("keyId={}", keys[0].id), &[4, 2, 0]),
        (format!("accountId={}", accounts[1]), &[4, 3, 2]),
        (format!("keyId={}&accountId={}", keys[1].id, accounts[0]), &[1]),
        ("model=b".into(), &[4, 3, 1]),
        ("model=B".into(), &[]),
        ("status=ok".into(), &[4, 0]),
        ("status=error".into(), &[3, 1]),
        ("status=partial".into(), &[2]),
        ("status=200".into(), &[4, 2, 0]),
        ("status=529".into(), &[3]),
        (format!("status=error&keyId={}", keys[1].id), &[3, 1]),
        (format!("status=partial&keyId={}", keys[1].id), &[]),
        (format!("from={}&to={}", at(1), at(3)), &[2, 1]),
        (format!("to={}", at(0)), &[]),
        // The relay's zone is eight hours ahead.
        ("from=2026-01-02T10:00:00Z".into(), &[]),
        ("from=2026-01-02T02:00:00Z&to=2026-01-02T03:00:00Z".into(), &[2]),
        ("from=2026-01-02T10:00:00&to=2026-01-02T11:00:00".into(), &[2]),
        ("from=2026-01-02T10%3A00%3A00%2B08:00&status=ok".into(), &[4]),
        ("from=2026-01-02&to=2026-01-03".into(), &[4, 3, 2, 1, 0]),
        ("from=&to=&model=&status=&keyId=&cursor=".into(), &[4, 3, 2, 1, 0]),
    ] {
        let expected: Vec<String> = expected.iter().map(|number| format!("r{number:010}")).collect();
        assert_eq!(ids(&page(&relay, &query)), expected, "{query}");
        assert_eq!(all(&relay, &format!("limit=1&{query}")).0, expected, "{query} line by line");
    }
    for (query, status) in [
        ("status=fine", 400),
        ("status=99", 400),
        ("status=600", 400),
        ("from=soon", 400),
        ("to=2026-13-01", 400),
        ("limit=0", 400),
        ("limit=201", 400),
        ("limit=x", 400),
        ("cursor=x", 400),
        ("cursor=1-", 400),
        ("cursor=ffffffffffffffffffff-1", 400),
        ("keyId=nobody", 404),
        ("accountId=nobody", 404),
    ] {
        for path in ["/admin/requests", "/admin/requests.csv"] {
            let is_of_pages = query.starts_with("limit") || query.starts_with("cursor");
            let refused = relay.admin("GET", &format!("{path}?{query}"), &Value::Null);
            if path.ends_with(".csv") && is_of_pages {
                assert_eq!(refused.status, 200, "a download has no pages");
                continue;
            }
            assert_eq!(refused.status, status, "{path}?{query}: {}", refused.text());
            assert!(refused.json()["message"].is_string() && refused.json()["error"].is_string());
        }
    }
    let long = format!("model={}", "m".repeat(300));
    assert_eq!(relay.admin("GET", &format!("/admin/requests?{long}"), &Value::Null).status, 400);
}

#[test]
fn deleted_keys_and_accounts_keep_their_names_in_the_ledger() {
    let (relay, keys, accounts) = with_two_keys();
    let key = seq(&relay, "api_keys", &keys[0].id);
    let account = seq(&relay, "accounts", &accounts[0]);
    seed(&relay, [(0, DAY_MS, key, account, "a", 200, true), (1, DAY_MS + 1, key, 999, "a", 200, true)].into_iter());
    assert_eq!(relay.admin("DELETE", &format!("/admin/api-keys/{}", keys[0].id), &Value::Null).status, 200);
    assert_eq!(relay.admin("DELETE", &format!("/admin/claude-accounts/{}", accounts[0]), &Value::Null).status, 200);
    for query in [format!("keyId={}&to={}", keys[0].id, DAY_MS + 1), format!("accountId={}", accounts[0])] {
        let line = &page(&relay, &query)["requests"][0];
        assert_eq!((&line["keyName"], &line["keyDeleted"]), (&value!("mum"), &value!(true)));
        assert_eq!((&line["accountName"], &line["accountDeleted"]), (&value!("first"), &value!(true)));
        assert_eq!(line["accountId"], accounts[0]);
    }
    let unknown = &page(&relay, "")["requests"][0];
    assert_eq!((&unknown["accountId"], &unknown["accountName"]), (&Value::Null, &Value::Null));
}

#[test]
fn pages_neither_repeat_nor_miss_lines_while_lines_are_added() {
    let (relay, keys, accounts) = with_two_keys();
    let key = seq(&relay, "api_keys", &keys[0].id);
    let account = seq(&relay, "accounts", &accounts[0]);
    // Several lines of one millisecond, and lines that are written in another order than they came.
    let line = |number: i64| (number, DAY_MS + (number * 7 % 100) / 3, key, account, "a", 200, true);
    seed(&relay, (0..100).map(line));
    let before: BTreeSet<String> = all(&relay, "limit=200").0.into_iter().collect();
    assert_eq!(before.len(), 100);
    let (mut seen, mut cursor, mut added) = (Vec::new(), String::new(), 1000);
    loop {
        let page = page(&relay, &format!("limit=7&cursor={cursor}"));
        seen.extend(ids(&page));
        // New ones, late ones of the past, and ones of the very millisecond that the cursor stands in.
        let at_ms = page["requests"].as_array().unwrap().last().map(|line| line["at"].as_str().unwrap().to_owned());
        let here = claude_relay::model::time::parse(&at_ms.unwrap_or_default()).unwrap_or(DAY_MS);
        seed(
            &relay,
            [here, DAY_MS + 500, DAY_MS - 5].into_iter().map(|at_ms| {
                added += 1;
                (added, at_ms, key, account, "a", 200, true)
            }),
        );
        match page["nextCursor"].as_str() {
            Some(next) if seen.len() < 500 => cursor = next.to_owned(),
            _ => break,
        }
    }
    let once: BTreeSet<String> = seen.iter().cloned().collect();
    assert_eq!(once.len(), seen.len(), "a line came twice");
    assert!(once.is_superset(&before), "a line was missed");
}

#[test]
fn a_rare_line_is_found_by_asking_on_and_no_answer_looks_at_more_than_it_may() {
    let (relay, keys, accounts) = with_two_keys();
    let key = [seq(&relay, "api_keys", &keys[0].id), seq(&relay, "api_keys", &keys[1].id)];
    let account = seq(&relay, "accounts", &accounts[0]);
    let lines = (0..45_000).map(|number| {
        let is_rare = number == 10;
        let (model, key) = if is_rare { ("rare", key[1]) } else { ("a", key[0]) };
        (number, DAY_MS + number, key, account, model, if number == 20 { 500 } else { 200 }, true)
    });
    seed(&relay, lines);
    let rare = vec!["r0000000010".to_owned()];
    assert_eq!(all(&relay, "model=rare"), (rare.clone(), 3));
    let empty = page(&relay, "model=rare");
    assert!(ids(&empty).is_empty() && empty["nextCursor"].is_string());
    // What has an index is found at once.
    assert_eq!(all(&relay, &format!("keyId={}", keys[1].id)), (rare, 1));
    let failed = page(&relay, "status=error");
    assert_eq!((ids(&failed), &failed["scanned"]), (vec!["r0000000020".to_owned()], &value!(1)));
}

#[test]
fn a_download_of_twenty_thousand_lines_is_whole_and_costs_no_memory() {
    let (relay, keys, accounts) = with_two_keys();
    let key = [seq(&relay, "api_keys", &keys[0].id), seq(&relay, "api_keys", &keys[1].id)];
    let account = seq(&relay, "accounts", &accounts[0]);
    let models = ["a", "=cmd|' /C calc'!A0", "+x", "-x", "@x", "\tx", "with \"quotes\", and a comma"];
    seed(
        &relay,
        (0..20_000).map(|number| {
            let model = models[number as usize % models.len()];
            (number, DAY_MS + number, key[usize::from(number % 2 == 1)], account, model, 200, true)
        }),
    );
    // What one page costs is paid before.
    page(&relay, "limit=200");
    let before = relay.process_figure("VmRSS");
    let bearer = format!("Bearer {}", relay.token());
    let mut connection = Connection::open(relay.address);
    connection.request("GET", "/admin/requests.csv", &[("Authorization", &bearer)], b"");
    let mut csv = connection.head().unwrap();
    let mut most = 0;
    while let Some(chunk) = connection.chunk().unwrap() {
        csv.body.extend_from_slice(&chunk);
        csv.chunks.push(chunk);
        most = relay.process_figure("VmRSS").max(most);
    }
    assert_eq!((csv.status, csv.field("content-type")), (200, Some("text/csv; charset=utf-8")));
    assert_eq!(csv.field("content-disposition"), Some("attachment; filename=\"requests.csv\""));
    assert!(csv.chunks.len() > 40 && csv.body.len() > 3_000_000, "{} {}", csv.chunks.len(), csv.body.len());
    assert!(most < before + 2048, "{before} kB before, {most} kB at most, for {} bytes", csv.body.len());
    let text = csv.text();
    let rows: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(rows.len(), 20_002, "a header, the lines, and nothing behind the last line end");
    assert!(rows[0].starts_with("id,request_id,at,key_id,key_name,"));
    assert!(rows[20_001].is_empty());
    let columns = rows[0].split(',').count();
    let by_model = |model: &str| rows[1..].iter().filter(|row| row.contains(&format!(",{model},false,200,"))).count();
    for model in ["a", "'=cmd|' /C calc'!A0", "'+x", "'-x", "'@x", "'\tx", "\"with \"\"quotes\"\", and a comma\""] {
        assert!((2857..=2858).contains(&by_model(model)), "{model}: {}", by_model(model));
    }
    let last: Vec<&str> = rows[20_000].split(',').collect();
    assert_eq!((last.len(), last[1], last[2]), (columns, "r0000000000", "2026-01-02T00:00:00.000Z"));
    assert_eq!((last[4], last[6], last[7]), ("mum", "first", "a"));
    assert_eq!(last[12..18], ["1", "2", "3", "4", "5", "0"]);
    assert_eq!(
        last[18..25],
        ["0.000001000009", "0.000001", "0.000000000002", "0.000000000003", "0.000000000004", "0", "v"]
    );
    assert_eq!(rows[1].split(',').nth(4), Some("'=dad"), "a name is no formula either");
    // The filters are those of the list.
    let one = relay.get(&format!("/admin/requests.csv?to={}", DAY_MS + 1), &[("Authorization", &bearer)]);
    assert_eq!(one.text().split("\r\n").count(), 3);
    let head =
        crate::harness::client::fetch(relay.address, "HEAD", "/admin/requests.csv", &[("Authorization", &bearer)], b"");
    assert_eq!((head.status, head.field("content-type")), (200, csv.field("content-type")));
}

#[test]
fn a_download_ends_when_its_client_leaves() {
    let (relay, keys, accounts) = with_two_keys();
    let (key, account) = (seq(&relay, "api_keys", &keys[0].id), seq(&relay, "accounts", &accounts[0]));
    seed(&relay, (0..60_000).map(|number| (number, DAY_MS + number, key, account, "a", 200, true)));
    let bearer = format!("Bearer {}", relay.token());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&relay.address.into()).unwrap();
    let mut connection = Connection::over(socket.into());
    connection.request("GET", "/admin/requests.csv", &[("Authorization", &bearer)], b"");
    assert_eq!(connection.head().unwrap().status, 200);
    assert!(connection.chunk().unwrap().is_some());
    let busy = || {
        let system = relay.get("/metrics", &[("Accept", "text/plain")]).text();
        system.contains("claude_relay_workers_busy{pool=\"relay\"} 1")
    };
    std::thread::sleep(std::time::Duration::from_millis(600));
    assert!(busy(), "it waits for its client");
    drop(connection);
    eventually("the worker is free", || !busy());
}
