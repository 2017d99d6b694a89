//! `/admin` statistics over time: the contract's JSON (sections 12.12 and 12.13), one item for each local day or hour. Every
//! range is bounded, and the buckets asked for are the buckets that the ledger writes.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::money;
use super::session::Admin;
use crate::model::cost::dollars_text;
use crate::model::moved::whole;
use crate::model::time::{self, iso, now_ms};
use crate::model::{Bill, Usage};
use crate::store::{Span, TrendKey};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

type Outcome = Result<Answer, Answer>;

/// Days of a trend that names none.
const DAYS: i64 = 7;
/// The longest trend by days; more are cut to it.
const DAYS_MAX: i64 = 366;
const HOUR_MS: i64 = 3_600_000;
/// The longest trend by hours, as in the original.
const HOURS_MAX: i64 = 24;
/// The longest trend by keys and hours, which the original did not bound.
const KEY_HOURS_MAX: i64 = 31 * 24;
/// Keys whose use is told apart in each item, the largest first.
const KEYS_MAX: usize = 100;
/// Keys that a page draws.
const TOP_KEYS: usize = 10;

/// The buckets of a trend, oldest first.
enum Buckets {
    Days(Vec<i64>),
    Hours(Vec<i64>),
}

impl Buckets {
    /// Reads the query. `hours_max` bounds a range of hours, and `too_long` is the refusal of a longer one.
    fn asked(server: &Server, call: &Call, hours_max: i64, too_long: &str) -> Result<(String, Buckets), Answer> {
        let granularity = call.query("granularity").unwrap_or_else(|| "day".to_owned());
        let (now, zone) = (now_ms(), server.store.zone());
        if granularity != "hour" {
            let days = call.query("days").and_then(|days| whole(&days)).filter(|days| *days != 0);
            let days = days.unwrap_or(DAYS).min(DAYS_MAX);
            return Ok((granularity, Buckets::Days(time::days_until(now, days, zone))));
        }
        let given = |name: &str| call.query(name).filter(|text| !text.is_empty());
        let (start, end) = match (given("startDate"), given("endDate")) {
            (Some(start), Some(end)) => (time::parse_in(&start, zone), time::parse_in(&end, zone)),
            _ => (Some(now - HOURS_MAX * HOUR_MS), Some(now)),
        };
        let (Some(start), Some(end)) = (start, end) else {
            return Ok((granularity, Buckets::Hours(Vec::new())));
        };
        if end.saturating_sub(start) > hours_max * HOUR_MS {
            return Err(invalid(too_long));
        }
        Ok((granularity, Buckets::Hours(time::hours_between(start, end, zone))))
    }

    fn list(&self) -> &[i64] {
        match self {
            Buckets::Days(buckets) | Buckets::Hours(buckets) => buckets,
        }
    }

    /// `None` when there are none.
    fn span(&self) -> Option<Span> {
        let (first, last) = (*self.list().first()?, *self.list().last()?);
        Some(match self {
            Buckets::Days(_) => Span::Days(first, last),
            Buckets::Hours(_) => Span::Hours(first, last),
        })
    }
}

/// `GET /admin/usage-trend`.
pub(crate) fn usage_trend(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let (granularity, buckets) = Buckets::asked(server, call, HOURS_MAX, "小时粒度查询时间范围不能超过24小时")?;
    let trend = buckets.span().map(|span| server.store.trend(span)).transpose();
    let trend = trend.map_err(titled("Failed to get usage trend"))?.unwrap_or_default();
    let is_by_day = matches!(buckets, Buckets::Days(_));
    let mut items = Vec::new();
    for bucket in buckets.list() {
        let bill = trend.get(bucket).copied().unwrap_or_default();
        let mut item = Map::new();
        if is_by_day {
            item.insert("date".to_owned(), json!(time::day_text(*bucket)));
        } else {
            item.insert("date".to_owned(), json!(time::hour_text(*bucket, server.store.zone())));
            item.insert("hour".to_owned(), json!(iso(bucket.saturating_mul(1000))));
        }
        let mut item = Value::Object(item);
        add_usage(&mut item, &bill);
        if is_by_day {
            item["formattedCost"] = json!(dollars_text(bill.cost.total()));
        }
        money::mark_unpriced(&mut item, &bill);
        items.push(item);
    }
    Ok(Answer::json(200, &json!({ "success": true, "data": items, "granularity": granularity })))
}

fn add_usage(item: &mut Value, bill: &Bill) {
    let Usage { requests, tokens } = &bill.usage;
    item["inputTokens"] = json!(tokens.input);
    item["outputTokens"] = json!(tokens.output);
    item["requests"] = json!(requests);
    item["cacheCreateTokens"] = json!(tokens.cache_creation());
    item["cacheReadTokens"] = json!(tokens.cache_read);
    item["totalTokens"] = json!(tokens.all());
    item["cost"] = money::dollars(bill.cost.total());
}

/// `GET /admin/api-keys-usage-trend`. Each item names the keys that used anything in it, of the hundred largest; a page draws
/// ten. All of some thousand keys would make an answer of many megabytes.
pub(crate) fn key_trend(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let (granularity, buckets) = Buckets::asked(server, call, KEY_HOURS_MAX, "Date range cannot exceed 31 days")?;
    let trend = buckets.span().map(|span| server.store.key_trend(span, KEYS_MAX)).transpose();
    let trend = trend.map_err(titled("Failed to get API keys usage trend"))?.unwrap_or_default();
    let mut used: HashMap<i64, Vec<(&TrendKey, i64)>> = HashMap::new();
    for key in &trend.largest {
        for (bucket, tokens) in &key.buckets {
            used.entry(*bucket).or_default().push((key, *tokens));
        }
    }
    let item = |bucket: &i64| {
        let (date, hour) = match buckets {
            Buckets::Days(_) => (Some(time::day_text(*bucket)), None),
            Buckets::Hours(_) => (None, Some(iso(bucket.saturating_mul(1000)))),
        };
        TrendItem { date, hour, api_keys: KeysUse(used.get(bucket).map_or(&[], Vec::as_slice)) }
    };
    Ok(Answer::json(
        200,
        &KeysTrend {
            success: true,
            data: buckets.list().iter().map(item).collect(),
            granularity: &granularity,
            top_api_keys: trend.largest.iter().take(TOP_KEYS).map(|key| key.id.as_str()).collect(),
            total_api_keys: trend.keys,
        },
    ))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeysTrend<'a> {
    success: bool,
    data: Vec<TrendItem<'a>>,
    granularity: &'a str,
    top_api_keys: Vec<&'a str>,
    total_api_keys: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TrendItem<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
    api_keys: KeysUse<'a>,
}

/// An object by key id, written as it is read: there may be tens of thousands of members.
struct KeysUse<'a>(&'a [(&'a TrendKey, i64)]);

impl Serialize for KeysUse<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Use<'a> {
            name: &'a str,
            tokens: i64,
        }
        let members = self.0.iter().map(|(key, tokens)| (&key.id, Use { name: &key.name, tokens: *tokens }));
        serializer.collect_map(members)
    }
}
