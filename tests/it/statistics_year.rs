//! A year of lines in three zones: every route's figures equal an independent computation over the raw ledger, to the last
//! digit. Nothing here uses the program's own prices, buckets or sums.

use crate::harness::relay::{Start, query};
use crate::harness::{Folder, Relay};
use claude_relay::model::{Line, Tokens};
use claude_relay::store::{KeyDraft, Opening, Store};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use rusqlite::types::Value as Sql;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

const KEY: &str = "a key for a test of statistics 1";
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const MODELS: [&str; 6] = [
    "claude-opus-4-6",
    "claude-sonnet-4-5",
    "claude-haiku-5-5",
    "claude-3-haiku-20240307",
    "claude-sonnet-5-5",
    "house-1",
];

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as i64) % bound
    }
}

/// A ledger line as a test reads it: its costs are computed here.
#[derive(Clone, Debug)]
struct Raw {
    at_ms: i64,
    key: String,
    model: String,
    input: i64,
    output: i64,
    write: i64,
    read: i64,
    cost: Option<[i64; 4]>,
}

/// Sums: requests, input, output, cache writes, cache reads; then the four costs in pico-dollars.
type Sums = [i64; 9];

fn add(sums: &mut Sums, raw: &Raw) {
    let [a, b, c, d] = raw.cost.unwrap_or_default();
    for (sum, more) in sums.iter_mut().zip([1, raw.input, raw.output, raw.write, raw.read, a, b, c, d]) {
        *sum += more;
    }
}

fn sums<'a>(lines: impl Iterator<Item = &'a Raw>) -> Sums {
    let mut found = Sums::default();
    lines.for_each(|raw| add(&mut found, raw));
    found
}

fn grouped<'a, K: Ord>(lines: impl Iterator<Item = &'a Raw>, key: impl Fn(&Raw) -> K) -> BTreeMap<K, Sums> {
    let mut found = BTreeMap::new();
    lines.for_each(|raw| add(found.entry(key(raw)).or_default(), raw));
    found
}

/// The rules of the vendor's page, written down a second time: nano-dollars a token for input, output, 5m, 1h, read.
fn cost(model: &str, at_ms: i64, tokens: [i64; 5], batch: bool, us: bool) -> Option<[i64; 4]> {
    let [input, output, five, hour, read] = tokens;
    let rates = match model {
        "claude-opus-4-6" => [5000, 25_000, 6250, 10_000, 500],
        "claude-sonnet-4-5" => [3000, 15_000, 3750, 6000, 300],
        "claude-haiku-5-5" if input + five + hour + read > 100_000 => [500, 2500, 625, 1000, 50],
        "claude-haiku-5-5" => [100, 500, 125, 200, 10],
        "claude-3-haiku-20240307" => [250, 1250, 300, 500, 30],
        "claude-sonnet-5-5" if at_ms >= 1_791_331_200_000 => [2000, 10_000, 2500, 4000, 100],
        "claude-sonnet-5-5" => [2000, 10_000, 2500, 4000, 200],
        _ => return None,
    };
    let is_placed = us && ["claude-opus-4-6", "claude-haiku-5-5", "claude-sonnet-5-5"].contains(&model);
    let times = if is_placed { 11 } else { 10 } * if batch { 1 } else { 2 };
    let priced = |nano: i64| nano * 50 * times;
    Some([
        priced(input * rates[0]),
        priced(output * rates[1]),
        priced(five * rates[2] + hour * rates[3]),
        priced(read * rates[4]),
    ])
}

/// Fills a folder: lines of a year, more of them around a change of clocks and in the last days.
fn fill(folder: &Folder, zone: &TimeZone, now: i64) -> i64 {
    let data_dir = folder.0.join("data");
    let store = Store::open(&Opening { data_dir: &data_dir, encryption_key: KEY, zone: zone.clone() }).unwrap();
    let keys: Vec<i64> = (0..4)
        .map(|number| {
            let draft = KeyDraft { name: Some(format!("key {number}")), ..KeyDraft::default() };
            store.create_key("cr_", &draft).unwrap().1.seq
        })
        .collect();
    let at = Timestamp::from_millisecond(now).unwrap();
    let changed = zone.preceding(at).next().map_or(now - 30 * DAY_MS, |change| change.timestamp().as_millisecond());
    let changed = changed.max(now - 300 * DAY_MS);
    let mut dice = Dice(7);
    let mut receipts = Vec::new();
    for number in 0..6000_i64 {
        let at_ms = match number % 3 {
            0 => now - dice.below(365 * DAY_MS),
            1 => changed - 2 * DAY_MS + dice.below(4 * DAY_MS),
            _ => now - dice.below(2 * DAY_MS),
        };
        let line = line(&mut dice, at_ms, keys[(number % 4) as usize], number);
        receipts.push(store.record(line));
    }
    receipts.into_iter().for_each(|receipt| receipt.wait().unwrap());
    store.close();
    changed
}

fn line(dice: &mut Dice, at_ms: i64, key_seq: i64, number: i64) -> Line {
    let tokens = Tokens {
        input: dice.below(9000),
        output: dice.below(4000),
        cache_creation_5m: dice.below(20_000),
        cache_creation_1h: dice.below(30_000),
        cache_read: dice.below(120_000),
    };
    Line {
        request_id: format!("r{number}"),
        at_ms,
        key_seq,
        account_seq: 1,
        model: MODELS[dice.below(6) as usize].to_owned(),
        status: 200,
        // One in fifty reported nothing and must count nowhere.
        tokens: (dice.below(50) > 0).then_some(tokens),
        service_tier: (dice.below(5) == 0).then(|| "batch".to_owned()),
        inference_geo: (dice.below(3) == 0).then(|| "us".to_owned()),
        complete: true,
        ..Line::default()
    }
}

/// The billed lines, and the costs that stand in the ledger compared with those computed here.
fn read(relay: &Relay) -> Vec<Raw> {
    let sql = "SELECT ledger.at_ms, api_keys.id, model, input_tokens, output_tokens, cache_creation_5m_tokens,
                   cache_creation_1h_tokens, cache_read_tokens, coalesce(service_tier, ''), coalesce(inference_geo, ''),
                   cost_input, cost_output, cost_cache_write, cost_cache_read
               FROM ledger JOIN api_keys ON api_keys.seq = key_seq WHERE billed = 1";
    let whole = |value: &Sql| match value {
        Sql::Integer(number) => *number,
        other => panic!("{other:?}"),
    };
    let text = |value: &Sql| match value {
        Sql::Text(text) => text.clone(),
        other => panic!("{other:?}"),
    };
    query(&relay.database(), sql)
        .iter()
        .map(|row| {
            let tokens = [3, 4, 5, 6, 7].map(|column| whole(&row[column]));
            let (at_ms, model) = (whole(&row[0]), text(&row[2]));
            let cost = cost(&model, at_ms, tokens, text(&row[8]) == "batch", text(&row[9]) == "us");
            let kept = (row[10] != Sql::Null).then(|| [10, 11, 12, 13].map(|column| whole(&row[column])));
            assert_eq!(kept, cost, "{row:?}");
            let [input, output, five, hour, read] = tokens;
            Raw { at_ms, key: text(&row[1]), model, input, output, write: five + hour, read, cost }
        })
        .collect()
}

/// The double nearest to an amount.
fn dollars(pico: i64) -> f64 {
    format!("{pico}e-12").parse().unwrap()
}

fn get(relay: &Relay, target: &str) -> Value {
    let response = relay.admin("GET", target, &Value::Null);
    assert_eq!(response.status, 200, "{target}: {}", response.text());
    response.json()
}

/// Tokens under the names of the statistics.
fn assert_tokens(item: &Value, sums: &Sums, all: &str, at: &str) {
    let names = ["requests", "inputTokens", "outputTokens", "cacheCreateTokens", "cacheReadTokens"];
    for (name, expected) in names.iter().zip(sums) {
        assert_eq!(item[*name], *expected, "{at} {name}");
    }
    assert_eq!(item[all], sums[1..5].iter().sum::<i64>(), "{at} {all}");
}

fn assert_costs(item: &Value, sums: &Sums, names: [&str; 5], at: &str) {
    let total = sums[5..].iter().sum();
    let amounts = [sums[5], sums[6], sums[7], sums[8], total];
    for (name, expected) in names.iter().zip(amounts) {
        assert_eq!(item[*name].as_f64(), Some(dollars(expected)), "{at} {name}");
    }
}

const BY_KIND: [&str; 5] = ["input", "output", "cacheWrite", "cacheRead", "total"];
const TOTALS: [&str; 5] = ["inputCost", "outputCost", "cacheCreateCost", "cacheReadCost", "totalCost"];

fn assert_models(data: &Value, expected: &BTreeMap<String, Sums>, at: &str) {
    let items = data.as_array().unwrap();
    assert_eq!(items.len(), expected.len(), "{at}");
    for item in items {
        let model = item["model"].as_str().unwrap();
        assert_tokens(item, &expected[model], "allTokens", at);
        assert_costs(&item["costs"], &expected[model], BY_KIND, at);
        assert_eq!(item.get("unpriced").is_some(), model == "house-1");
    }
}

struct Year {
    relay: Relay,
    zone: TimeZone,
    lines: Vec<Raw>,
    now: i64,
}

impl Year {
    fn local(&self, at_ms: i64, form: &str) -> String {
        self.zone.to_datetime(Timestamp::from_millisecond(at_ms).unwrap()).strftime(form).to_string()
    }

    fn day(&self, at_ms: i64) -> String {
        self.local(at_ms, "%Y-%m-%d")
    }

    fn of(&self, form: &'static str) -> impl Iterator<Item = &Raw> {
        let now = self.local(self.now, form);
        self.lines.iter().filter(move |raw| self.local(raw.at_ms, form) == now)
    }

    fn days(&self) {
        let expected = grouped(self.lines.iter(), |raw| self.day(raw.at_ms));
        let trend = get(&self.relay, "/admin/usage-trend?granularity=day&days=366");
        let items = trend["data"].as_array().unwrap();
        assert_eq!(items.len(), 366);
        let mut seen = 0;
        for item in items {
            let date = item["date"].as_str().unwrap();
            let sums = expected.get(date).copied().unwrap_or_default();
            assert_tokens(item, &sums, "totalTokens", date);
            assert_eq!(item["cost"].as_f64(), Some(dollars(sums[5..].iter().sum())), "{date}");
            seen += sums[0];
        }
        assert_eq!(seen, self.lines.len() as i64);
        let keys = get(&self.relay, "/admin/api-keys-usage-trend?days=366");
        let by_key = grouped(self.lines.iter(), |raw| (self.day(raw.at_ms), raw.key.clone()));
        for item in keys["data"].as_array().unwrap() {
            for (id, used) in item["apiKeys"].as_object().unwrap() {
                let sums = by_key[&(item["date"].as_str().unwrap().to_owned(), id.clone())];
                assert_eq!(used["tokens"], sums[1..5].iter().sum::<i64>());
            }
        }
        let items: usize =
            keys["data"].as_array().unwrap().iter().map(|item| item["apiKeys"].as_object().unwrap().len()).sum();
        assert_eq!((items, &keys["totalApiKeys"]), (by_key.len(), &4.into()));
    }

    /// The hours around an instant at which clocks may have changed.
    fn hours(&self, changed: i64) {
        let floor = |at_ms: i64| at_ms.div_euclid(HOUR_MS) * HOUR_MS;
        let iso =
            |at_ms: i64| Timestamp::from_millisecond(at_ms).unwrap().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let (start, end) = (floor(changed) - 12 * HOUR_MS, floor(changed) + 12 * HOUR_MS);
        let query = format!("granularity=hour&startDate={}&endDate={}", iso(start), iso(end));
        let trend = get(&self.relay, &format!("/admin/usage-trend?{query}"));
        let keys = get(&self.relay, &format!("/admin/api-keys-usage-trend?{query}"));
        let expected = grouped(self.lines.iter(), |raw| floor(raw.at_ms));
        let by_key = grouped(self.lines.iter(), |raw| (floor(raw.at_ms), raw.key.clone()));
        assert_eq!(trend["data"].as_array().unwrap().len(), 25);
        for (number, item) in trend["data"].as_array().unwrap().iter().enumerate() {
            let hour = start + number as i64 * HOUR_MS;
            let sums = expected.get(&hour).copied().unwrap_or_default();
            assert_eq!(
                (item["hour"].as_str().unwrap(), item["date"].as_str().unwrap()),
                (iso(hour).as_str(), self.local(hour, "%Y-%m-%d:%H").as_str())
            );
            assert_tokens(item, &sums, "totalTokens", "hour");
            assert_eq!(item["cost"].as_f64(), Some(dollars(sums[5..].iter().sum())));
            for (id, used) in keys["data"][number]["apiKeys"].as_object().unwrap() {
                assert_eq!(used["tokens"], by_key[&(hour, id.clone())][1..5].iter().sum::<i64>());
            }
        }
    }

    fn models(&self) {
        for (period, form) in [("daily", "%Y-%m-%d"), ("monthly", "%Y-%m")] {
            let expected = grouped(self.of(form), |raw| raw.model.clone());
            let stats = get(&self.relay, &format!("/admin/model-stats?period={period}"));
            assert_models(&stats["data"], &expected, period);
            for key in self.keys() {
                let expected = grouped(self.of(form).filter(|raw| raw.key == key), |raw| raw.model.clone());
                let stats = get(&self.relay, &format!("/admin/api-keys/{key}/model-stats?period={period}"));
                assert_models(&stats["data"], &expected, period);
            }
        }
        let (first, last) = (self.day(self.now - 40 * DAY_MS), self.day(self.now - 11 * DAY_MS));
        let key = self.keys().remove(0);
        let within = |raw: &&Raw| raw.key == key && (&first..=&last).contains(&&self.day(raw.at_ms));
        let expected = grouped(self.lines.iter().filter(within), |raw| raw.model.clone());
        let target = format!("/admin/api-keys/{key}/model-stats?period=custom&startDate={first}&endDate={last}");
        assert_models(&get(&self.relay, &target)["data"], &expected, "custom");
    }

    fn costs(&self) {
        for (period, form) in [("today", "%Y-%m-%d"), ("monthly", "%Y-%m"), ("all", "")] {
            let expected = grouped(self.of(form), |raw| raw.model.clone());
            let costs = get(&self.relay, &format!("/admin/usage-costs?period={period}"));
            assert_costs(&costs["data"]["totalCosts"], &sums(self.of(form)), TOTALS, period);
            let models = costs["data"]["modelCosts"].as_array().unwrap();
            assert_eq!(models.len(), expected.len());
            for item in models {
                let sums = &expected[item["model"].as_str().unwrap()];
                assert_costs(&item["costs"], sums, BY_KIND, period);
                assert_eq!(
                    (&item["requests"], &item["usage"]["cache_creation_input_tokens"]),
                    (&sums[0].into(), &sums[3].into())
                );
            }
        }
    }

    fn totals(&self) {
        let data = get(&self.relay, "/admin/dashboard")["data"].clone();
        let (ever, today) = (sums(self.lines.iter()), sums(self.of("%Y-%m-%d")));
        assert_eq!(data["overview"]["totalRequestsUsed"], ever[0]);
        assert_eq!(data["overview"]["totalAllTokensUsed"], ever[1..5].iter().sum::<i64>());
        assert_eq!(data["recentActivity"]["requestsToday"], today[0]);
        assert_eq!(data["recentActivity"]["cacheReadTokensToday"], today[4]);
        let stats = get(&self.relay, "/admin/usage-stats?period=monthly");
        let mut last = i64::MAX;
        for item in stats["data"]["stats"].as_array().unwrap() {
            let key = item["keyId"].as_str().unwrap();
            for (bucket, form) in [("total", ""), ("daily", "%Y-%m-%d"), ("monthly", "%Y-%m")] {
                let expected = sums(self.of(form).filter(|raw| raw.key == key));
                assert_tokens(&item["usage"][bucket], &expected, "allTokens", bucket);
            }
            let monthly = item["usage"]["monthly"]["allTokens"].as_i64().unwrap();
            assert!(monthly <= last);
            last = monthly;
        }
    }

    fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.lines.iter().map(|raw| raw.key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }
}

fn check(name: &str) {
    let zone = TimeZone::get(name).unwrap();
    let now = Timestamp::now().as_millisecond();
    let start = Start::new().with("ENCRYPTION_KEY", KEY).with("SYSTEM_TIMEZONE", name);
    let changed = fill(&start.folder, &zone, now);
    let start = Start { folder: Arc::clone(&start.folder), ..start };
    let relay = start.run();
    let lines = read(&relay);
    assert!(lines.len() > 5500);
    let year = Year { relay, zone, lines, now };
    year.days();
    year.hours(changed);
    year.hours(now - 13 * HOUR_MS);
    year.models();
    year.costs();
    year.totals();
    // Past midnight the server's today is another; then these figures say nothing.
    assert_eq!(year.day(Timestamp::now().as_millisecond()), year.day(now), "midnight passed, run it again");
}

#[test]
fn a_year_adds_up_in_utc() {
    check("Etc/UTC");
}

#[test]
fn a_year_adds_up_eight_hours_east() {
    check("Asia/Singapore");
}

#[test]
fn a_year_adds_up_where_clocks_change() {
    check("Europe/Berlin");
}
