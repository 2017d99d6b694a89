//! The table, row by row: what was answered, and what becomes of the request and of the account.

use super::*;
use RestReason::{Authentication, Billing, Overloaded, Permission, RateLimit};

#[path = "../../../tests/it/verdicts/rows.rs"]
mod rows;

const NOW: i64 = 1_700_000_000_000;

type Fields = &'static [(&'static str, &'static str)];

fn rest(reason: RestReason, scope: &str, until_s: Option<i64>) -> Effect {
    Effect::Rest { reason, scope: Scope::parse(scope), until_ms: until_s.map(|s| s * 1000) }
}

#[test]
fn every_row_is_judged_as_the_facts_say() {
    let all = rows::rows(NOW / 1000);
    assert!(all.len() >= 60 && all.iter().all(|row| !row.source.is_empty()));
    for row in &all {
        let fields = row.fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let limits = RateLimits::read(fields, NOW);
        let facts = Facts {
            status: row.status,
            kind: &row.kind,
            message: &row.message,
            limits: &limits,
            may_refresh: row.may_refresh,
            family: Some("opus"),
            now_ms: NOW,
        };
        let action = match row.action.as_str() {
            "pass" => Action::Pass,
            "next" => Action::Next,
            "refresh" => Action::Refresh,
            other => panic!("{other}"),
        };
        let effect = match row.rest() {
            Some((reason, scope, end)) => {
                rest(RestReason::parse(reason).unwrap(), scope, end.map(|seconds| NOW / 1000 + seconds))
            }
            None if row.effect == "stop" => Effect::Stop,
            None => Effect::None,
        };
        let rows::Row { status, kind, message, fields, source, .. } = row;
        assert_eq!(judge(&facts), Verdict { action, effect }, "{status} {kind} {message:?} {fields:?} ({source})");
    }
}

#[test]
fn without_a_known_family_a_pause_is_the_accounts_and_a_models_window_is_nobodys() {
    let read = |fields: Fields| RateLimits::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())), NOW);
    let judge = |status, limits: &RateLimits| {
        judge(&Facts { status, kind: "", message: "", limits, may_refresh: false, family: None, now_ms: NOW }).effect
    };
    assert_eq!(judge(529, &read(&[])), rest(Overloaded, "account", None));
    assert_eq!(judge(429, &read(&[("retry-after", "2")])), rest(RateLimit, "account", Some(1_700_000_002)));
    let models = read(&[
        ("anthropic-ratelimit-unified-7d_oi-status", "rejected"),
        ("anthropic-ratelimit-unified-7d_oi-reset", "1700500000"),
    ]);
    assert_eq!(judge(429, &models), Effect::None);
}

#[test]
fn guesses_start_short_grow_and_are_bounded() {
    for reason in [RateLimit, Overloaded, Authentication, Billing, Permission, RestReason::Unreachable] {
        let lengths: Vec<i64> = (1..40).map(|failures| guessed_ms(reason, failures)).collect();
        assert!(lengths[0] <= 60_000 && lengths[1] == 2 * lengths[0], "{reason:?}");
        assert!(lengths.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(lengths.iter().all(|length| (5_000..=1_800_000).contains(length)));
        assert_eq!(guessed_ms(reason, 0), lengths[0]);
        assert_eq!(guessed_ms(reason, u32::MAX), lengths[38]);
    }
}

#[test]
fn an_error_event_counts_as_the_status_it_stands_for() {
    for (kind, status) in [
        ("overloaded_error", 529),
        ("rate_limit_error", 429),
        ("api_error", 500),
        ("authentication_error", 401),
        ("invalid_request_error", 400),
        ("something_new", 500),
    ] {
        assert_eq!(status_of_event(kind), status);
    }
}
