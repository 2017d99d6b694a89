//! The original's records as it stored them, and the nouns that they become. Every value was text there, and every one may be
//! missing, empty or something else than it should be.

use super::date;
use super::fields::Fields;
use crate::model::moved::{LaterKey, MovedKey};
use crate::model::remarks::{Change, Reason};
use crate::model::secret::hash_api_key;
use crate::model::time::{Buckets, TimeZone, parse};
use crate::model::{Tokens, Usage};

const DAY_MS: i64 = 86_400_000;
/// What a sanitised export has in the place of a secret.
pub(super) const REDACTED: &str = "[REDACTED]";

/// The hash that a key's record has, if it has one.
pub(super) fn hash(fields: &Fields, pepper: &str) -> Option<String> {
    match fields.text("apiKey") {
        "" => None,
        text if text.contains(REDACTED) => None,
        text if is_hash(text) => Some(text.to_ascii_lowercase()),
        // An export that was edited by hand may have keys in the clear, which the original's import hashes as well.
        clear => Some(hash_api_key(clear, pepper)),
    }
}

/// Whether a text has the form of a hash: SHA-256 in hex.
pub(super) fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A key as it is here, and which of its terms are not quite the same.
pub(super) fn key(id: &str, fields: &Fields, hash: Option<String>, now_ms: i64) -> (MovedKey, Vec<Change>) {
    let mut changes = Vec::new();
    let later = later(fields, &mut changes);
    // Where a life begins with its first use, its end follows from that.
    let expires_at = if later.is_activated_by_use { "" } else { fields.text("expiresAt") }.to_owned();
    let name = match fields.text("name") {
        "" => id,
        name => name,
    };
    let is_deleted = fields.is_true("isDeleted");
    let expires_at_ms = date::parse(&expires_at);
    let is_dated = expires_at_ms.is_some() || !date::looks_like_one(&expires_at);
    if !is_dated {
        changes.push(Change::NoDate);
    }
    let [token_limit, concurrency_limit, rate_limit_window, rate_limit_requests] =
        ["tokenLimit", "concurrencyLimit", "rateLimitWindow", "rateLimitRequests"]
            .map(|name| limit(fields.limit(name), &mut changes));
    let key = MovedKey {
        id: id.to_owned(),
        hash,
        name: name.to_owned(),
        description: fields.text("description").to_owned(),
        token_limit,
        concurrency_limit,
        rate_limit_window,
        rate_limit_requests,
        is_active: fields.is_true("isActive") && is_dated && may_use_claude(fields, &mut changes),
        claude_account_id: bound_account(fields, &mut changes),
        enable_model_restriction: fields.is_true("enableModelRestriction"),
        restricted_models: fields.texts("restrictedModels"),
        created_at_ms: fields.instant("createdAt").unwrap_or(now_ms),
        updated_at_ms: fields.instant("updatedAt"),
        last_used_at_ms: fields.instant("lastUsedAt"),
        expires_at_ms,
        expires_at,
        deleted_at_ms: is_deleted.then(|| fields.instant("deletedAt").unwrap_or(now_ms)),
        later,
    };
    if fields.is_true("enableClientRestriction") {
        changes.push(Change::AnyClient);
    }
    (key, changes)
}

/// A limit that was read, or none.
fn limit(read: Option<i64>, changes: &mut Vec<Change>) -> i64 {
    if read.is_none() && !changes.contains(&Change::Unreadable) {
        changes.push(Change::Unreadable);
    }
    read.unwrap_or(0)
}

/// Later versions serve other vendors too, and a key may be for those alone. Such a one gets no new right here.
fn may_use_claude(fields: &Fields, changes: &mut Vec<Change>) -> bool {
    let text = fields.text("permissions");
    let services: Vec<String> = serde_json::from_str(text).unwrap_or_else(|_| {
        text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    });
    let is_allowed = services.is_empty() || services.iter().any(|service| service == "claude" || service == "all");
    if !is_allowed {
        changes.push(Change::NoClaude);
    }
    is_allowed
}

/// The account that a key is bound to: one of a subscription before one of the Console, as there.
fn bound_account(fields: &Fields, changes: &mut Vec<Change>) -> String {
    let bound = match fields.text("claudeAccountId") {
        "" => fields.text("claudeConsoleAccountId"),
        bound => bound,
    };
    if bound.starts_with("group:") {
        changes.push(Change::NoGroup);
        return String::new();
    }
    bound.to_owned()
}

fn later(fields: &Fields, changes: &mut Vec<Change>) -> LaterKey {
    let is_own_week = fields.known("weeklyCostLimit").is_some();
    let week = if is_own_week { "weeklyCostLimit" } else { "weeklyOpusCostLimit" };
    let [daily_cost_limit, weekly_cost_limit, monthly_cost_limit, total_cost_limit, rate_limit_cost] =
        ["dailyCostLimit", week, "monthlyCostLimit", "totalCostLimit", "rateLimitCost"]
            .map(|name| limit(fields.dollars(name), changes));
    if weekly_cost_limit > 0 && !is_own_week {
        changes.push(Change::AllModels);
    }
    let mut activation_days = limit(fields.limit("activationDays"), changes);
    let is_in_hours = fields.text("activationUnit") == "hours";
    if is_in_hours {
        activation_days = (activation_days + 23) / 24;
    }
    activation_days = activation_days.min(3650);
    let activated_at_ms = fields.instant("activatedAt");
    // Once such a life has begun, its end stands in `expiresAt`, where an admin may have moved it.
    let is_begun = fields.is_true("isActivated") && !fields.text("expiresAt").is_empty();
    let end_ms = activated_at_ms.map(|start| start.saturating_add(activation_days * DAY_MS));
    let is_moved = is_begun && (end_ms.is_none() || end_ms != date::parse(fields.text("expiresAt")));
    let is_activated_by_use = fields.text("expirationMode") == "activation" && !is_moved;
    if is_in_hours && is_activated_by_use {
        changes.push(Change::WholeDays);
    }
    LaterKey {
        tags: fields.texts("tags"),
        daily_cost_limit,
        weekly_cost_limit,
        monthly_cost_limit,
        total_cost_limit,
        rate_limit_cost,
        allowed_models: fields.texts("allowedModels"),
        account_fallback: fields.is_true("accountFallback"),
        is_activated_by_use,
        activation_days,
        activated_at_ms,
    }
}

/// What a record of usage counts; `None` if it cannot be true. Before there was a split into input and output, the original
/// reads 30 and 70 of a hundred; here both are rounded down, and all time has the rest, so that its months never come to more.
pub(super) fn usage(fields: &Fields, is_total: bool) -> Option<Usage> {
    let count = |name: &str| {
        if is_total {
            let mut letters = name.chars();
            let first = letters.next().map(|letter| letter.to_ascii_uppercase());
            fields.count(&format!("total{}{}", first.into_iter().collect::<String>(), letters.as_str()))
        } else {
            fields.count(name)
        }
    };
    let mut tokens = Tokens {
        input: count("inputTokens")?,
        output: count("outputTokens")?,
        cache_creation_5m: count("cacheCreateTokens")?,
        cache_creation_1h: 0,
        cache_read: count("cacheReadTokens")?,
    };
    let unsplit = count("tokens")?;
    if unsplit > 0 && tokens.input + tokens.output == 0 {
        tokens.input = unsplit * 3 / 10;
        tokens.output = if is_total { unsplit - tokens.input } else { unsplit * 7 / 10 };
    }
    Some(Usage { requests: count("requests")?, tokens })
}

/// A month, a day or an hour as the original writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unit {
    Month,
    Day,
    Hour,
}

impl Unit {
    pub(super) fn parse(word: &str) -> Option<Unit> {
        match word {
            "monthly" => Some(Unit::Month),
            "daily" => Some(Unit::Day),
            "hourly" => Some(Unit::Hour),
            _ => None,
        }
    }

    /// The span's code and the bucket, as in the rollups. Days and months keep their names; an hour is told by the
    /// offset that the original counted with.
    pub(super) fn bucket(self, text: &str, offset_hours: i64, zone: &TimeZone) -> Option<(i64, i64)> {
        let day = |text: &str| -> Option<(i64, i64)> {
            let is_date = text.len() == 10 && text.is_ascii();
            let at_ms = parse(text).filter(|_| is_date)?;
            Some((text.replace('-', "").parse().ok()?, at_ms))
        };
        match self {
            Unit::Month => day(&format!("{text}-01")).map(|(day, _)| (1, day / 100)),
            Unit::Day => day(text).map(|(day, _)| (2, day)),
            Unit::Hour => {
                let (date, hour) = text.split_once(':')?;
                let hour: i64 = hour.parse().ok().filter(|_| hour.len() == 2)?;
                let (_, at_ms) = day(date).filter(|_| (0..24).contains(&hour))?;
                Some((3, Buckets::of(at_ms + (hour - offset_hours) * 3_600_000, zone).hour))
            }
        }
    }
}

/// What a Redis key of the original holds.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Name<'a> {
    Key(&'a str),
    Account(&'a str),
    ConsoleAccount(&'a str),
    Admin,
    /// All time of a key.
    Total(&'a str),
    /// A bucket of time: the key (empty for all together), the model (empty for all together), the unit, its text.
    Usage(&'a str, &'a str, Unit, &'a str),
    /// Something else, and why it is left.
    Other(Reason),
}

/// Reads a Redis key. Model names may hold colons, so a name is read from both ends.
pub(super) fn name(text: &str) -> Name<'_> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "apikey" if rest == "hash_map" => Name::Other(Reason::Index),
        "apikey" if !rest.is_empty() && !rest.contains(':') => Name::Key(rest),
        "claude" if rest.strip_prefix("account:").is_some_and(|id| !id.is_empty() && !id.contains(':')) => {
            Name::Account(&rest["account:".len()..])
        }
        "admin" => Name::Admin,
        "session" => Name::Other(Reason::Session),
        "oauth" | "sticky_session" | "concurrency" | "rate_limit" | "global_rate_limit" => Name::Other(Reason::Moment),
        "claude_account" => Name::Other(Reason::UnreadAccount),
        "claude_console_account" if rest == "index" => Name::Other(Reason::Index),
        "claude_console_account" if !rest.is_empty() && !rest.contains(':') => Name::ConsoleAccount(rest),
        "usage" => usage_name(rest).unwrap_or(Name::Other(Reason::OtherFigures)),
        _ => Name::Other(Reason::Unknown),
    }
}

fn usage_name(rest: &str) -> Option<Name<'_>> {
    let Some((first, after)) = rest.split_once(':') else {
        return (!rest.is_empty()).then_some(Name::Total(rest));
    };
    if let Some(unit) = Unit::parse(first) {
        let (id, date) = after.split_once(':')?;
        return Some(Name::Usage(id, "", unit, date));
    }
    if first == "model" {
        return model_name("", after);
    }
    model_name(first, after.strip_prefix("model:")?)
}

fn model_name<'a>(id: &'a str, rest: &'a str) -> Option<Name<'a>> {
    let (word, after) = rest.split_once(':')?;
    let unit = Unit::parse(word)?;
    let mut at = after.rfind(':')?;
    if unit == Unit::Hour {
        at = after[..at].rfind(':')?;
    }
    let (model, date) = (&after[..at], &after[at + 1..]);
    (!model.is_empty()).then_some(Name::Usage(id, model, unit, date))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::tz::Offset;

    #[test]
    fn names_are_read_from_both_ends() {
        let model = "us.anthropic.claude-sonnet-4-20250514-v1:0";
        for (text, expected) in [
            ("apikey:1-2", Name::Key("1-2")),
            ("apikey:hash_map", Name::Other(Reason::Index)),
            ("claude:account:a", Name::Account("a")),
            ("usage:k", Name::Total("k")),
            ("usage:daily:k:2026-11-23", Name::Usage("k", "", Unit::Day, "2026-11-23")),
            ("usage:hourly:k:2026-11-23:08", Name::Usage("k", "", Unit::Hour, "2026-11-23:08")),
            (&format!("usage:model:daily:{model}:2026-11-23"), Name::Usage("", model, Unit::Day, "2026-11-23")),
            (
                &format!("usage:k:model:hourly:{model}:2026-11-23:08"),
                Name::Usage("k", model, Unit::Hour, "2026-11-23:08"),
            ),
            ("usage:k:model:monthly:模 型@1:2026-11", Name::Usage("k", "模 型@1", Unit::Month, "2026-11")),
            ("session:admin_credentials", Name::Other(Reason::Session)),
        ] {
            assert_eq!(name(text), expected, "{text}");
        }
        for text in
            ["usage:", "usage:cost:daily:k:2026-01-01", "usage:model:daily:2026-11-23", "usage:k:model:weekly:m:1"]
        {
            assert!(matches!(name(text), Name::Other(_)), "{text}");
        }
    }

    #[test]
    fn buckets_keep_their_days_and_hours_are_instants() {
        let (utc, india) = (TimeZone::UTC, TimeZone::fixed(Offset::from_seconds(19_800).expect("offset")));
        assert_eq!(Unit::Month.bucket("2026-11", 8, &utc), Some((1, 202_611)));
        assert_eq!(Unit::Day.bucket("2026-11-23", 8, &utc), Some((2, 20_261_123)));
        // 08:00 at +8 is midnight UTC.
        assert_eq!(Unit::Hour.bucket("2026-11-23:08", 8, &utc), Some((3, 1_795_392_000)));
        assert_eq!(Unit::Hour.bucket("2026-11-23:00", -5, &utc), Some((3, 1_795_392_000 + 5 * 3600)));
        assert_eq!(Unit::Hour.bucket("2026-11-23:08", 8, &india), Some((3, 1_795_392_000 - 1800)));
        for (unit, text) in [
            (Unit::Month, "2026-13"),
            (Unit::Day, "2026-02-30"),
            (Unit::Day, "20261123"),
            (Unit::Hour, "2026-11-23:24"),
            (Unit::Hour, "2026-11-23"),
            (Unit::Month, ""),
        ] {
            assert_eq!(unit.bucket(text, 8, &utc), None, "{text}");
        }
    }

    #[test]
    fn counts_that_cannot_be_true_are_none_and_old_ones_are_split() {
        let fields = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Fields::from(pairs.collect::<std::collections::HashMap<_, _>>())
        };
        let old = usage(&fields(&[("tokens", "105"), ("requests", "2")]), false).expect("counts");
        assert_eq!((old.tokens.input, old.tokens.output, old.requests), (31, 73, 2));
        let old = usage(&fields(&[("totalTokens", "105")]), true).expect("counts");
        assert_eq!((old.tokens.input, old.tokens.output), (31, 74));
        let whole = usage(&fields(&[("inputTokens", "7.0"), ("outputTokens", "9 tokens")]), false).expect("counts");
        assert_eq!((whole.tokens.input, whole.tokens.output), (7, 9));
        let total = usage(&fields(&[("totalInputTokens", "7"), ("totalTokens", "9"), ("totalRequests", "1")]), true);
        assert_eq!(total.expect("counts").tokens.input, 7);
        for wrong in ["-1", "NaN", "none", "99999999999999999999", "1000000000000001"] {
            assert_eq!(usage(&fields(&[("inputTokens", wrong)]), false), None, "{wrong}");
        }
    }
}
