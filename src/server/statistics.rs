//! `/admin` statistics over one period: the contract's JSON (sections 11.7 and 12.9 to 12.14). Days and months are those of
//! the configured zone, the same that the ledger counts by, and a range without use is empty.

use super::Server;
use super::accounts::rate_limit;
use super::call::{Answer, Call};
use super::dialect::{invalid, titled};
use super::keys::{ShownUsage, number};
use super::money;
use super::session::Admin;
use crate::model::time::{self, Buckets, iso, now_ms};
use crate::model::{Bill, PriceTable, Usage};
use crate::store::{KeyLabel, KeyUsage, Period};
use serde::Serialize;
use serde_json::{Value, json};

type Outcome = Result<Answer, Answer>;

const DAY_MS: i64 = 86_400_000;
/// The longest custom range, in days.
const RANGE_DAYS_MAX: i64 = 31;

/// `GET /admin/dashboard`.
pub(crate) fn dashboard(server: &Server, _: &Admin, _: &Call) -> Outcome {
    let failed = titled("Failed to get dashboard data");
    let (store, now) = (&server.store, now_ms());
    let keys = store.key_births().map_err(&failed)?;
    let accounts = store.accounts();
    let active = accounts.iter().filter(|account| account.is_active && account.status == "active").count();
    let standing = |seq| server.relay.standings().of(seq);
    let limited = accounts.iter().filter(|account| rate_limit(&standing(account.seq), now).is_some()).count();
    // As in the original: what was used today counts deleted keys, what was ever used does not.
    let ever = store.total(Period::Total, false).map_err(&failed)?;
    let today = store.total(Period::Day(now), true).map_err(&failed)?;
    let (rpm, tpm) = averages(&keys, &ever, now);
    Ok(Answer::data(json!({
        "overview": {
            "totalApiKeys": keys.len(),
            "activeApiKeys": keys.iter().filter(|(_, is_active)| *is_active).count(),
            "totalClaudeAccounts": accounts.len(),
            "activeClaudeAccounts": active,
            "rateLimitedClaudeAccounts": limited,
            "totalTokensUsed": ever.tokens.input + ever.tokens.output,
            "totalRequestsUsed": ever.requests,
            "totalInputTokensUsed": ever.tokens.input,
            "totalOutputTokensUsed": ever.tokens.output,
            "totalCacheCreateTokensUsed": ever.tokens.cache_creation(),
            "totalCacheReadTokensUsed": ever.tokens.cache_read,
            "totalAllTokensUsed": ever.tokens.all(),
        },
        "recentActivity": {
            "apiKeysCreatedToday": created_today(server, &keys, now),
            "requestsToday": today.requests,
            "tokensToday": today.tokens.input + today.tokens.output,
            "inputTokensToday": today.tokens.input,
            "outputTokensToday": today.tokens.output,
            "cacheCreateTokensToday": today.tokens.cache_creation(),
            "cacheReadTokensToday": today.tokens.cache_read,
        },
        "systemAverages": { "rpm": rpm, "tpm": tpm },
        "systemHealth": {
            "redisConnected": store.is_healthy(),
            "claudeAccountsHealthy": active > 0,
            "uptime": server.started.elapsed().as_secs_f64(),
        },
    })))
}

fn created_today(server: &Server, keys: &[(i64, bool)], now: i64) -> usize {
    let day = |at_ms| Buckets::of(at_ms, server.store.zone()).day;
    let today = day(now);
    keys.iter().filter(|(created_at_ms, _)| day(*created_at_ms) == today).count()
}

/// Requests and input and output tokens a minute since the oldest key was made, in whole days, to two decimals.
fn averages(keys: &[(i64, bool)], ever: &Usage, now: i64) -> (Value, Value) {
    let oldest = keys.iter().map(|(created_at_ms, _)| *created_at_ms).min().unwrap_or(now);
    let days = ((now - oldest) as f64 / DAY_MS as f64).ceil().max(1.0);
    let a_minute = |count: i64| number((count as f64 / (days * 1440.0) * 100.0).round() / 100.0);
    (a_minute(ever.requests), a_minute(ever.tokens.input + ever.tokens.output))
}

/// `GET /admin/usage-stats`. The original ignored `period`; here the keys come in the order of what they used in it: `daily`
/// (unless another is named), `monthly`, or anything else for all time.
pub(crate) fn usage_stats(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let failed = titled("Failed to get usage stats");
    let (store, now) = (&server.store, now_ms());
    let period = call.query("period").unwrap_or_else(|| "daily".to_owned());
    let keys = store.key_labels().map_err(&failed)?;
    let used = store.keys_bills(now).map_err(&failed)?;
    let mut stats: Vec<(&KeyLabel, KeyUsage)> = keys.iter().map(|key| (key, used.of(key.seq))).collect();
    stats.sort_by_key(|(_, usage)| {
        std::cmp::Reverse(match period.as_str() {
            "daily" => usage.daily.usage.tokens.all(),
            "monthly" => usage.monthly.usage.tokens.all(),
            _ => usage.total.usage.tokens.all(),
        })
    });
    let shown = stats.iter().map(|(key, usage)| KeyStats {
        key_id: &key.id,
        key_name: &key.name,
        usage: ShownUsage::new(usage, key.created_at_ms, now),
    });
    Ok(Answer::data(UsageStats { period: &period, stats: shown.collect() }))
}

#[derive(Serialize)]
struct UsageStats<'a> {
    period: &'a str,
    stats: Vec<KeyStats<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct KeyStats<'a> {
    key_id: &'a str,
    key_name: &'a str,
    usage: ShownUsage,
}

/// `GET /admin/model-stats`.
pub(crate) fn model_stats(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let now = now_ms();
    let period = call.query("period").unwrap_or_else(|| "daily".to_owned());
    let span = if period == "daily" { Period::Day(now) } else { Period::Month(now) };
    let mut models = server.store.models(span).map_err(titled("Failed to get model stats"))?;
    models.sort_by_key(|(_, bill)| std::cmp::Reverse(bill.cost.total()));
    let prices = server.store.prices();
    let items: Vec<Value> = models
        .iter()
        .map(|(model, bill)| {
            let Usage { requests, tokens } = &bill.usage;
            let mut item = json!({
                "model": model,
                "period": period,
                "requests": requests,
                "inputTokens": tokens.input,
                "outputTokens": tokens.output,
                "cacheCreateTokens": tokens.cache_creation(),
                "cacheReadTokens": tokens.cache_read,
                "allTokens": tokens.all(),
                "usage": {
                    "requests": requests,
                    "inputTokens": tokens.input,
                    "outputTokens": tokens.output,
                    "cacheCreateTokens": tokens.cache_creation(),
                    "cacheReadTokens": tokens.cache_read,
                    "totalTokens": tokens.all(),
                },
                "costs": money::costs(&bill.cost),
                "formatted": money::formatted(&bill.cost),
                "pricing": money::pricing(&prices, model, now),
            });
            money::mark_unpriced(&mut item, bill);
            item
        })
        .collect();
    Ok(Answer::data(items))
}

/// `GET /admin/api-keys/:keyId/model-stats`. A key that does not exist has used nothing, as in the original; one that was
/// deleted too, since its id can no longer be asked for.
pub(crate) fn key_model_stats(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let failed = titled("Failed to get API key model stats");
    let (store, now) = (&server.store, now_ms());
    let days = custom_days(server, call)?;
    let Some(key) = store.key_by_id(call.id()).map_err(&failed)? else {
        return Ok(Answer::data([(); 0]));
    };
    let models = match days {
        Asked::Days(days) => store.models_of_key_in_days(key.seq, &days),
        Asked::Today => store.models_of_key(key.seq, Period::Day(now)),
        Asked::ThisMonth => store.models_of_key(key.seq, Period::Month(now)),
    }
    .map_err(&failed)?;
    let mut models: Vec<_> = models.into_iter().collect();
    models.sort_by_key(|(_, bill)| std::cmp::Reverse(bill.usage.tokens.all()));
    let prices = store.prices();
    let items: Vec<Value> = models.iter().map(|(model, bill)| key_model(&prices, model, bill, now)).collect();
    Ok(Answer::data(items))
}

/// What a key's model statistics are asked for.
enum Asked {
    /// Local days; none when the range cannot be read.
    Days(Vec<i64>),
    Today,
    ThisMonth,
}

fn custom_days(server: &Server, call: &Call) -> Result<Asked, Answer> {
    let given = |name: &str| call.query(name).filter(|text| !text.is_empty());
    let period = call.query("period").unwrap_or_default();
    let (start, end) = match (period.as_str(), given("startDate"), given("endDate")) {
        ("daily", ..) => return Ok(Asked::Today),
        ("custom", Some(start), Some(end)) => (start, end),
        _ => return Ok(Asked::ThisMonth),
    };
    let zone = server.store.zone();
    let (Some(start), Some(end)) = (time::parse_in(&start, zone), time::parse_in(&end, zone)) else {
        return Ok(Asked::Days(Vec::new()));
    };
    if start > end {
        return Err(invalid("Start date must be before or equal to end date"));
    }
    let count = time::days_apart(Buckets::of(start, zone).day, Buckets::of(end, zone).day) + 1;
    if count > RANGE_DAYS_MAX {
        return Err(invalid("Date range cannot exceed 31 days"));
    }
    Ok(Asked::Days(time::days_until(end, count, zone)))
}

fn key_model(prices: &PriceTable, model: &str, bill: &Bill, now: i64) -> Value {
    let Usage { requests, tokens } = &bill.usage;
    let mut item = json!({
        "model": model,
        "requests": requests,
        "inputTokens": tokens.input,
        "outputTokens": tokens.output,
        "cacheCreateTokens": tokens.cache_creation(),
        "cacheReadTokens": tokens.cache_read,
        "allTokens": tokens.all(),
        "costs": money::costs(&bill.cost),
        "formatted": money::formatted(&bill.cost),
        "pricing": money::pricing(prices, model, now),
        "usingDynamicPricing": money::is_fetched(prices, model),
    });
    money::mark_unpriced(&mut item, bill);
    item
}

/// `GET /admin/usage-costs`.
pub(crate) fn usage_costs(server: &Server, _: &Admin, call: &Call) -> Outcome {
    let now = now_ms();
    let period = call.query("period").unwrap_or_else(|| "all".to_owned());
    let span = match period.as_str() {
        "today" => Period::Day(now),
        "monthly" => Period::Month(now),
        _ => Period::Total,
    };
    let mut models = server.store.models(span).map_err(titled("Failed to calculate usage costs"))?;
    models.sort_by_key(|(_, bill)| std::cmp::Reverse(bill.cost.total()));
    let prices = server.store.prices();
    let mut total = Bill::default();
    let mut costs = Vec::new();
    for (model, bill) in &models {
        total.add(bill);
        let tokens = &bill.usage.tokens;
        let mut item = json!({
            "model": model,
            "requests": bill.usage.requests,
            "usage": {
                "input_tokens": tokens.input,
                "output_tokens": tokens.output,
                "cache_creation_input_tokens": tokens.cache_creation(),
                "cache_read_input_tokens": tokens.cache_read,
            },
            "costs": money::costs(&bill.cost),
            "formatted": money::formatted(&bill.cost),
            "usingDynamicPricing": money::is_fetched(&prices, model),
        });
        money::mark_unpriced(&mut item, bill);
        costs.push(item);
    }
    let mut total_costs = money::total_costs(&total.cost);
    money::mark_unpriced(&mut total_costs, &total);
    let fetched_at = prices.fetched_at_ms();
    Ok(Answer::data(json!({
        "period": period,
        "totalCosts": total_costs,
        "modelCosts": costs,
        "pricingServiceStatus": {
            "initialized": true,
            "lastUpdated": fetched_at.map(iso),
            "modelCount": prices.names(),
            "nextUpdate": fetched_at.map(|at| iso(at + money::PRICES_LIFE_MS)),
        },
    })))
}
