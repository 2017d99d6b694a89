//! How long the statistics take on a large ledger: `cargo test --test load`, apart from the other tests because it takes
//! minutes. `LOAD_LINES` says how many lines there are to be, one million unless set.

// A measurement is one story, and a failed unwrap is its failure. The harness has more than is used here.
#![allow(clippy::unwrap_used, clippy::too_many_lines, dead_code, unreachable_pub)]

#[allow(unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;

use claude_relay::model::{Line, Tokens};
use claude_relay::store::{AccountDraft, KeyDraft, Opening, Store};
use harness::relay::Start;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;
use std::time::Instant;

const KEY: &str = "a key for a measurement of 32 ch.";
const ZONE: &str = "Europe/Berlin";
const KEYS: usize = 5000;
const ACCOUNTS: usize = 200;
const DAY_MS: u64 = 86_400_000;
/// What is to be named as slow, milliseconds. Builds without optimization are slower by a factor of some.
const ROUTE_MS_MAX: f64 = 50.0;
const MODELS: [&str; 4] =
    ["claude-opus-4-6", "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001", "claude-haiku-5-5"];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn count(&mut self, bound: u64) -> i64 {
        self.below(bound) as i64
    }
}

/// Fills a folder and gives back the id of the key that was used most.
fn fill(data_dir: &std::path::Path, lines: u64) -> String {
    let zone = TimeZone::get(ZONE).unwrap();
    let store = Store::open(&Opening { data_dir, encryption_key: KEY, zone }).unwrap();
    let keys: Vec<(i64, String)> = (0..KEYS)
        .map(|number| {
            // Limits that are set are limits that the list has to show.
            let limit = Some(1_000_000_000_000_000);
            let draft = KeyDraft {
                name: Some(format!("key {number}")),
                daily_cost_limit: limit,
                weekly_cost_limit: limit,
                monthly_cost_limit: limit,
                total_cost_limit: limit,
                ..KeyDraft::default()
            };
            let key = store.create_key("cr_", &draft).unwrap().1;
            (key.seq, key.id)
        })
        .collect();
    let accounts: Vec<i64> = (0..ACCOUNTS)
        .map(|number| {
            let draft = AccountDraft { name: Some(format!("account {number}")), ..AccountDraft::default() };
            store.create_account(&draft).unwrap().seq
        })
        .collect();
    let (now, mut dice, mut last) = (Timestamp::now().as_millisecond(), Dice(3), None);
    for number in 0..lines {
        // A few keys are used much, most a little.
        let key = dice.below(KEYS as u64).min(dice.below(KEYS as u64)) as usize;
        let age = (lines - 1 - number) * 365 * DAY_MS / lines;
        let tokens = Tokens {
            input: dice.count(9000),
            output: dice.count(4000),
            cache_creation_5m: dice.count(20_000),
            cache_creation_1h: dice.count(30_000),
            cache_read: dice.count(120_000),
        };
        last = Some(store.record(Line {
            request_id: format!("r{number}"),
            at_ms: now - age as i64,
            key_seq: keys[key].0,
            account_seq: accounts[dice.below(ACCOUNTS as u64) as usize],
            model: MODELS[dice.below(4) as usize].to_owned(),
            status: 200,
            tokens: Some(tokens),
            complete: true,
            ..Line::default()
        }));
    }
    last.unwrap().wait().unwrap();
    store.close();
    keys[0].1.clone()
}

fn main() {
    let lines = std::env::var("LOAD_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(1_000_000);
    let start = Start::new().with("ENCRYPTION_KEY", KEY).with("SYSTEM_TIMEZONE", ZONE).with("LOG_LEVEL", "warn");
    let filling = Instant::now();
    let key = fill(&start.folder.0.join("data"), lines);
    println!("{lines} lines of {KEYS} keys and {ACCOUNTS} accounts written in {:?}", filling.elapsed());
    let relay = start.run();
    let bytes = std::fs::metadata(relay.database()).unwrap().len();
    println!("database {} MB, {} rollups", bytes >> 20, relay.count("SELECT count(*) FROM rollups"));
    let today = Timestamp::now().strftime("%Y-%m-%d").to_string();
    let month_ago = Timestamp::from_millisecond(Timestamp::now().as_millisecond() - 29 * DAY_MS as i64).unwrap();
    let month_ago = month_ago.strftime("%Y-%m-%d").to_string();
    let mut slow = Vec::new();
    for target in [
        "/admin/dashboard".to_owned(),
        "/admin/usage-stats".to_owned(),
        "/admin/model-stats?period=daily".to_owned(),
        "/admin/model-stats?period=monthly".to_owned(),
        "/admin/usage-costs?period=today".to_owned(),
        "/admin/usage-costs?period=all".to_owned(),
        "/admin/usage-trend?granularity=day&days=7".to_owned(),
        "/admin/usage-trend?granularity=day&days=366".to_owned(),
        "/admin/usage-trend?granularity=hour".to_owned(),
        "/admin/api-keys-usage-trend?granularity=day&days=7".to_owned(),
        "/admin/api-keys-usage-trend?granularity=day&days=30".to_owned(),
        "/admin/api-keys-usage-trend?granularity=day&days=366".to_owned(),
        "/admin/api-keys-usage-trend?granularity=hour".to_owned(),
        format!("/admin/api-keys-usage-trend?granularity=hour&startDate={month_ago}&endDate={today}"),
        format!("/admin/api-keys/{key}/model-stats?period=monthly"),
        format!("/admin/api-keys/{key}/model-stats?period=custom&startDate={month_ago}&endDate={today}"),
        "/admin/api-keys".to_owned(),
    ] {
        let mut took: Vec<f64> = (0..7)
            .map(|_| {
                let asked = Instant::now();
                let response = relay.admin("GET", &target, &Value::Null);
                assert_eq!(response.status, 200, "{target}: {}", response.text());
                asked.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        let first = took[0];
        took.sort_by(f64::total_cmp);
        let shown = target.replace(&key, ":keyId");
        println!("{:8.1} ms first {:8.1} ms median  {shown}", first, took[3]);
        if took[3] > ROUTE_MS_MAX {
            slow.push(shown);
        }
    }
    println!("slower than {ROUTE_MS_MAX} ms: {slow:#?}");
}
