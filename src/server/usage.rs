//! `GET /admin/usage`: everything that was used in one range, from one reading of the sums, so that all figures of a page
//! agree: in all, over time, by model and by key.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::money;
use super::session::Admin;
use crate::model::time::{self, Buckets, iso, now_ms};
use crate::model::{Bill, Usage};
use crate::store::Span;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

type Outcome = Result<Answer, Answer>;

/// The longest range by days.
const DAYS_MAX: i64 = 366;
/// The longest range by hours, in days.
const HOUR_DAYS_MAX: i64 = 31;
/// Keys that are told apart, the dearest first.
const KEYS_MAX: usize = 100;
const HOUR_MS: i64 = 3_600_000;

/// The buckets of a range, oldest first; never empty.
struct Range {
    buckets: Vec<i64>,
    is_by_hour: bool,
}

impl Range {
    /// Reads `from`, `to` (both inside) and `by`: the last seven days unless they say otherwise.
    fn asked(server: &Server, call: &Call) -> Result<Range, Answer> {
        let zone = server.store.zone();
        let given = |name: &str| call.query(name).filter(|text| !text.is_empty());
        let instant = |name: &str, default: i64| match given(name) {
            None => Ok(default),
            Some(text) => time::parse_in(&text, zone)
                .ok_or_else(|| invalid(&format!("{name} must be a date or an ISO 8601 instant"))),
        };
        let is_by_hour = match given("by").as_deref() {
            None | Some("day") => false,
            Some("hour") => true,
            Some(_) => return Err(invalid("by must be day or hour")),
        };
        let to = instant("to", now_ms())?;
        let from = instant("from", to.saturating_sub(6 * 24 * HOUR_MS))?;
        if from > to {
            return Err(invalid("from must not be after to"));
        }
        let (first, last) = (Buckets::of(from, zone).day, Buckets::of(to, zone).day);
        let days = time::days_apart(first, last) + 1;
        let days_max = if is_by_hour { HOUR_DAYS_MAX } else { DAYS_MAX };
        if days > days_max {
            return Err(invalid(&format!("The range must not be longer than {days_max} days")));
        }
        let buckets = if is_by_hour { time::hours_between(from, to, zone) } else { time::days_until(to, days, zone) };
        Ok(Range { buckets, is_by_hour })
    }

    fn span(&self) -> Span {
        let first = self.buckets.first().copied().unwrap_or_default();
        let last = self.buckets.last().copied().unwrap_or_default();
        if self.is_by_hour { Span::Hours(first, last) } else { Span::Days(first, last) }
    }

    /// How a bucket is named: `yyyy-mm-dd`, or the instant at which the hour begins.
    fn name(&self, bucket: i64) -> String {
        if self.is_by_hour { iso(bucket.saturating_mul(1000)) } else { time::day_text(bucket) }
    }
}

/// `GET /admin/usage?from&to&by&keyId`.
pub(crate) fn usage(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let failed = titled("Failed to get usage");
    let store = &server.store;
    let range = Range::asked(server, call)?;
    let key = match call.query("keyId").filter(|id| !id.is_empty()) {
        None => None,
        Some(id) => match store.key_by_id(&id).map_err(&failed)? {
            Some(key) => Some(key.seq),
            None => return Err(super::dialect::plain(404, "Failed to get usage", "API key not found")),
        },
    };
    let found = store.use_in(range.span(), key).map_err(&failed)?;
    let mut total = Bill::default();
    let mut over_time: HashMap<i64, Bill> = HashMap::new();
    let mut models: BTreeMap<&str, Bill> = BTreeMap::new();
    for (bucket, model, bill) in &found {
        total.add(bill);
        over_time.entry(*bucket).or_default().add(bill);
        models.entry(model).or_default().add(bill);
    }
    let mut models: Vec<_> = models.into_iter().collect();
    models.sort_by_key(|(_, bill)| std::cmp::Reverse((bill.cost.total(), bill.usage.tokens.all())));
    let keys = if key.is_some() { Vec::new() } else { store.keys_in(range.span(), KEYS_MAX).map_err(&failed)? };
    let prices = store.prices();
    let now = now_ms();
    Ok(Answer::data(json!({
        "from": range.buckets.first().map(|bucket| range.name(*bucket)),
        "to": range.buckets.last().map(|bucket| range.name(*bucket)),
        "by": if range.is_by_hour { "hour" } else { "day" },
        "timeZone": time::zone_name(store.zone()),
        "total": shown(&total),
        "series": range.buckets.iter().map(|bucket| {
            with(shown(&over_time.get(bucket).copied().unwrap_or_default()), &[("at", json!(range.name(*bucket)))])
        }).collect::<Vec<Value>>(),
        "models": models.iter().map(|(model, bill)| {
            with(shown(bill), &[("model", json!(model)), ("pricing", money::pricing(&prices, model, now))])
        }).collect::<Vec<Value>>(),
        "keys": keys.iter().map(|key| {
            let names = [("id", json!(key.id)), ("name", json!(key.name)), ("isDeleted", json!(key.is_deleted))];
            with(shown(&key.bill), &names)
        }).collect::<Vec<Value>>(),
    })))
}

fn shown(bill: &Bill) -> Value {
    let Usage { requests, tokens } = &bill.usage;
    let mut shown = json!({
        "requests": requests,
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "cacheCreateTokens": tokens.cache_creation(),
        "cacheReadTokens": tokens.cache_read,
        "allTokens": tokens.all(),
        "cost": money::dollars(bill.cost.total()),
        "costs": money::costs(&bill.cost),
    });
    money::mark_unpriced(&mut shown, bill);
    shown
}

fn with(mut item: Value, members: &[(&str, Value)]) -> Value {
    for (name, value) in members {
        item[*name] = value.clone();
    }
    item
}
