//! The limits of a key as its holder and the admin see them: what is set, what is used of it, what is left and until when.

use super::money::dollars;
use crate::model::time::{TimeZone, iso};
use crate::model::{ApiKey, Budget, Spent};
use crate::store::WindowUse;
use serde::Serialize;
use serde_json::{Value, json};

/// What a key has used of its limits.
pub(super) struct Used {
    /// Of its budgets.
    pub(super) spent: Spent,
    /// Of the window it is in, if it is in one.
    pub(super) window: Option<WindowUse>,
    /// Requests that run now.
    pub(super) running: i64,
}

/// When the budgets of all keys begin anew, in the order of [`Budget::ALL`].
pub(super) struct Resets([Option<String>; 4]);

impl Resets {
    pub(super) fn after(now_ms: i64, zone: &TimeZone) -> Resets {
        Resets(Budget::ALL.map(|budget| budget.ends_at_ms(now_ms, zone).map(iso)))
    }
}

/// The limits of a key that are in force; the others are left out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    daily_cost_limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weekly_cost_limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    monthly_cost_limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_cost_limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_cost: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit_requests: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_limit: Option<Limit>,
}

/// One limit: dollars, or a count.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Limit {
    limit: Value,
    used: Value,
    remaining: Value,
    /// `None` where nothing is reset, or where no window has begun.
    reset_at: Option<String>,
}

impl Limit {
    /// `None` where there is no limit.
    fn new(limit: i64, used: i64, reset_at: Option<&String>, write: fn(i64) -> Value) -> Option<Limit> {
        (limit > 0).then(|| Limit {
            limit: write(limit),
            used: write(used),
            remaining: write((limit - used).max(0)),
            reset_at: reset_at.cloned(),
        })
    }
}

impl Limits {
    pub(super) fn new(key: &ApiKey, used: &Used, Resets(resets): &Resets) -> Limits {
        let [daily, weekly, monthly, total] = resets.each_ref();
        let budget = |budget: Budget, reset_at: &Option<String>| {
            Limit::new(key.cost_limit(budget), used.spent.of(budget), reset_at.as_ref(), dollars)
        };
        // Without a window nothing is counted, and these limits are not in force.
        let in_window = |limit| if key.rate_limit_window > 0 { limit } else { 0 };
        let window = used.window.unwrap_or_default();
        let window_end =
            used.window.zip(key.window_ms()).map(|(window, length)| window.start_ms.saturating_add(length));
        // The longest windows end at no instant that can be written.
        let window_end = window_end.map(iso).filter(|end| !end.is_empty());
        let count =
            |limit: i64, used: i64| Limit::new(in_window(limit), used, window_end.as_ref(), |count| json!(count));
        Limits {
            daily_cost_limit: budget(Budget::Daily, daily),
            weekly_cost_limit: budget(Budget::Weekly, weekly),
            monthly_cost_limit: budget(Budget::Monthly, monthly),
            total_cost_limit: budget(Budget::Total, total),
            rate_limit_cost: Limit::new(in_window(key.rate_limit_cost), window.cost, window_end.as_ref(), dollars),
            rate_limit_requests: count(key.rate_limit_requests, window.requests),
            token_limit: count(key.token_limit, window.tokens),
            concurrency_limit: Limit::new(key.concurrency_limit, used.running, None, |count| json!(count)),
        }
    }
}

/// The least that is left of a key's limits of cost, in dollars; null when it has none.
pub(super) fn remaining(key: &ApiKey, used: &Used) -> Value {
    let left = costs(key, used).map(|(limit, used)| (limit - used).max(0)).min();
    left.map_or(Value::Null, dollars)
}

/// A limit that is used up.
pub(super) const WHOLE: i64 = 1_000_000;

/// How much is used of the limit that is nearest to its end, in millionths; `None` for a key without limits. Requests at a
/// time come and go, and do not count.
pub(super) fn nearest(key: &ApiKey, used: &Used) -> Option<i64> {
    let window = used.window.unwrap_or_default();
    let counts = [(key.rate_limit_requests, window.requests), (key.token_limit, window.tokens)];
    let counts = counts.into_iter().filter(|(limit, _)| *limit > 0 && key.rate_limit_window > 0);
    let share = |(limit, used): (i64, i64)| i128::from(used.max(0)) * i128::from(WHOLE) / i128::from(limit);
    costs(key, used).chain(counts).map(share).max().map(|share| i64::try_from(share).unwrap_or(i64::MAX))
}

/// The limits of cost that are in force, each with what is used of it.
fn costs(key: &ApiKey, used: &Used) -> impl Iterator<Item = (i64, i64)> {
    let budgets = Budget::ALL.map(|budget| (key.cost_limit(budget), used.spent.of(budget)));
    // Without a window nothing is counted, and its limits are not in force.
    let window_limit = if key.rate_limit_window > 0 { key.rate_limit_cost } else { 0 };
    let all = budgets.into_iter().chain([(window_limit, used.window.unwrap_or_default().cost)]);
    all.filter(|(limit, _)| *limit > 0)
}
