//! How long the statistics take on a large ledger: `cargo test --release --test load`, apart from the other tests because it
//! takes minutes. `LOAD_LINES` says how many lines there are to be, one million unless set; `LOAD_DATA` names a folder in
//! which the database stays, to be measured again.

// A measurement is one story, and a failed unwrap is its failure. The harness has more than is used here.
#![allow(clippy::unwrap_used, clippy::too_many_lines, dead_code, unreachable_pub)]

#[allow(unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;

use claude_relay::model::{Line, Tokens};
use claude_relay::store::{AccountDraft, KeyDraft, Opening, Store};
use harness::Relay;
use harness::client::fetch;
use harness::relay::{Start, query};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::path::PathBuf;
use std::time::Instant;

const KEY: &str = "a key for a measurement of 32 ch.";
const ZONE: &str = "Europe/Berlin";
const KEYS: usize = 5000;
const ACCOUNTS: usize = 200;
const DAY_MS: u64 = 86_400_000;
/// Lines that are written one by one, to see how many a second.
const LINES_SINGLY: u64 = 20_000;
/// Calls of each route.
const CALLS: usize = 21;
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

/// Keys and accounts, with limits that the list has to show.
fn people(store: &Store) -> (Vec<i64>, Vec<i64>) {
    let limit = Some(1_000_000_000_000_000);
    let drafts: Vec<KeyDraft> = (0..KEYS)
        .map(|number| KeyDraft {
            name: Some(format!("key {number}")),
            tags: Some(vec![format!("team {}", number % 40)]),
            daily_cost_limit: limit,
            weekly_cost_limit: limit,
            monthly_cost_limit: limit,
            total_cost_limit: limit,
            ..KeyDraft::default()
        })
        .collect();
    let keys = store.create_keys("cr_", &drafts).unwrap().iter().map(|(_, key)| key.seq).collect();
    let account = |number| {
        let draft = AccountDraft { name: Some(format!("account {number}")), ..AccountDraft::default() };
        store.create_account(&draft).unwrap().seq
    };
    (keys, (0..ACCOUNTS).map(account).collect())
}

/// Fills a folder: most lines in large transactions, the last ones as requests write them.
fn fill(store: &Store, lines: u64) {
    const AT_A_TIME: u64 = 50_000;
    let (keys, accounts) = people(store);
    let (now, mut dice) = (Timestamp::now().as_millisecond(), Dice(3));
    let mut line = |number: u64| {
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
        Line {
            request_id: format!("r{number}"),
            at_ms: now - age as i64,
            key_seq: keys[key],
            account_seq: accounts[dice.below(ACCOUNTS as u64) as usize],
            model: MODELS[dice.below(4) as usize].to_owned(),
            status: 200,
            tokens: Some(tokens),
            complete: true,
            ..Line::default()
        }
    };
    let singly = LINES_SINGLY.min(lines);
    let (start, mut number) = (Instant::now(), 0);
    while number < lines - singly {
        let end = (number + AT_A_TIME).min(lines - singly);
        store.record_all((number..end).map(&mut line).collect()).unwrap();
        number = end;
    }
    println!("{number} lines written in large transactions in {:?}", start.elapsed());
    let (start, cpu) = (Instant::now(), cpu_ms("self"));
    let last = (number..lines).map(|number| store.record(line(number))).last();
    last.unwrap().wait().unwrap();
    let (wall, cpu) = (start.elapsed().as_secs_f64() * 1000.0, cpu_ms("self") - cpu);
    let a_second = |ms: f64| singly as f64 * 1000.0 / ms;
    println!(
        "{singly} lines written as by requests: {:.0} a second, {:.0} a CPU second",
        a_second(wall),
        a_second(cpu)
    );
}

/// What a process has computed until now, milliseconds.
fn cpu_ms(process: &str) -> f64 {
    const TICK_MS: f64 = 10.0;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let figures: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (figures[11].parse::<f64>().unwrap() + figures[12].parse::<f64>().unwrap()) * TICK_MS
}

/// Every statistic, the list of keys whole and by page, and the others of the pages.
fn targets(key: &str) -> Vec<String> {
    let now = Timestamp::now();
    let day = |ago: u64| {
        let at = Timestamp::from_millisecond(now.as_millisecond() - (ago * DAY_MS) as i64).unwrap();
        at.strftime("%Y-%m-%d").to_string()
    };
    let (month_ago, today) = (day(29), day(0));
    let fixed = [
        "/admin/dashboard",
        "/admin/usage-stats",
        "/admin/model-stats?period=daily",
        "/admin/model-stats?period=monthly",
        "/admin/usage-costs?period=today",
        "/admin/usage-costs?period=all",
        "/admin/usage-trend?granularity=day&days=7",
        "/admin/usage-trend?granularity=day&days=366",
        "/admin/usage-trend?granularity=hour",
        "/admin/api-keys-usage-trend?granularity=day&days=7",
        "/admin/api-keys-usage-trend?granularity=day&days=30",
        "/admin/api-keys-usage-trend?granularity=day&days=366",
        "/admin/api-keys-usage-trend?granularity=hour",
        "/admin/claude-accounts",
        "/admin/api-keys",
        "/admin/api-keys?limit=50",
        "/admin/api-keys?limit=200&offset=2000&sort=name",
        "/admin/api-keys?limit=50&search=team%203",
        "/admin/api-keys?limit=50&sort=totalCost",
    ];
    let mut targets: Vec<String> = fixed.map(str::to_owned).to_vec();
    targets.push(format!("/admin/api-keys-usage-trend?granularity=hour&startDate={month_ago}&endDate={today}"));
    targets.push(format!("/admin/api-keys/{key}/model-stats?period=monthly"));
    targets.push(format!("/admin/api-keys/{key}/model-stats?period=custom&startDate={month_ago}&endDate={today}"));
    targets
}

/// Asks for one target again and again; gives back the median, milliseconds.
fn measure(relay: &Relay, target: &str, shown: &str, coding: &str) -> f64 {
    let bearer = format!("Bearer {}", relay.token());
    let fields = [("Authorization", bearer.as_str()), ("Accept-Encoding", coding)];
    let process = relay.process.id().to_string();
    let cpu = cpu_ms(&process);
    let mut bytes = 0;
    let mut took: Vec<f64> = (0..CALLS)
        .map(|_| {
            let asked = Instant::now();
            let response = fetch(relay.address, "GET", target, &fields, b"");
            assert_eq!(response.status, 200, "{target}: {}", response.text());
            bytes = response.body.len();
            asked.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    let cpu = (cpu_ms(&process) - cpu) / CALLS as f64;
    took.sort_by(f64::total_cmp);
    let (least, median, worst) = (took[0], took[CALLS / 2], took[CALLS - 1]);
    let rss = relay.process_figure("VmRSS") >> 10;
    println!(
        "{median:7.1} median {least:7.1} least {worst:7.1} worst {cpu:6.1} CPU ms {:6} KB {rss:4} MB resident  {coding:8}  {shown}",
        bytes >> 10
    );
    median
}

fn main() {
    let lines = std::env::var("LOAD_LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(1_000_000);
    let start = Start::new().with("ENCRYPTION_KEY", KEY).with("SYSTEM_TIMEZONE", ZONE).with("LOG_LEVEL", "warn");
    let data_dir = std::env::var("LOAD_DATA").map_or_else(|_| start.folder.0.join("data"), PathBuf::from);
    let opening = Opening { data_dir: &data_dir, encryption_key: KEY, zone: TimeZone::get(ZONE).unwrap() };
    let opened = Instant::now();
    let store = Store::open(&opening).unwrap();
    println!("database opened, and migrated if it was an older one, in {:?}", opened.elapsed());
    if store.keys().unwrap().is_empty() {
        fill(&store, lines);
    }
    let key = store.keys().unwrap()[0].id.clone();
    store.checkpoint().unwrap();
    store.close();
    drop(store);
    let bytes = std::fs::metadata(data_dir.join("relay.db")).unwrap().len();
    let count = |table: &str| query(&data_dir.join("relay.db"), &format!("SELECT count(*) FROM {table}"))[0][0].clone();
    let (lines, rollups, by_key) = (count("ledger"), count("rollups"), count("key_use"));
    println!("database {} MB: ledger {lines:?}, rollups {rollups:?}, use of keys by time {by_key:?}", bytes >> 20);
    let relay = start.with("DATA_DIR", data_dir.to_str().unwrap()).run();
    println!("resident at the start: {} MB", relay.process_figure("VmRSS") >> 10);
    let mut slow = Vec::new();
    for target in targets(&key) {
        let shown = target.replace(&key, ":keyId");
        if measure(&relay, &target, &shown, "identity") > ROUTE_MS_MAX {
            slow.push(shown.clone());
        }
        if ["/admin/api-keys", "/admin/usage-stats"].contains(&target.as_str()) || target.contains("days=366") {
            measure(&relay, &target, &shown, "gzip");
        }
    }
    println!("resident at most: {} MB", relay.process_figure("VmHWM") >> 10);
    println!("slower than {ROUTE_MS_MAX} ms without compression: {slow:#?}");
}
