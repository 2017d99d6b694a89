//! The table, row by row: what was answered, and what becomes of the request and of the account.

use super::*;
use RestReason::{Authentication, Billing, Overloaded, Permission, RateLimit};

const NOW: i64 = 1_700_000_000_000;

type Fields = &'static [(&'static str, &'static str)];

/// Status, `error.type`, message, fields, whether a refresh may help; then the action, the effect, and the fact's source.
type Case = (u16, &'static str, &'static str, Fields, bool, Action, Effect, &'static str);

const ERRORS: &str = "docs: Errors";
const LIMITS: &str = "docs: Rate limits";

fn rest(reason: RestReason, scope: &str, until_s: Option<i64>) -> Effect {
    Effect::Rest { reason, scope: Scope::parse(scope), until_ms: until_s.map(|s| s * 1000) }
}

fn check(cases: &[Case]) {
    for (status, kind, message, fields, may_refresh, action, effect, source) in cases {
        let limits = RateLimits::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())), NOW);
        let facts = Facts {
            status: *status,
            kind,
            message,
            limits: &limits,
            may_refresh: *may_refresh,
            family: Some("opus"),
            now_ms: NOW,
        };
        let found = judge(&facts);
        assert_eq!(
            found,
            Verdict { action: *action, effect: effect.clone() },
            "{status} {kind} {message:?} ({source})"
        );
    }
}

#[test]
fn what_is_about_the_request_passes_and_marks_nothing() {
    use Action::Pass;
    let none = || Effect::None;
    check(&[
        (200, "", "", &[], false, Pass, none(), ERRORS),
        (201, "", "", &[], true, Pass, none(), ERRORS),
        (302, "", "", &[], false, Pass, none(), "RFC 9110 15.4"),
        (400, "invalid_request_error", "max_tokens: required", &[], false, Pass, none(), ERRORS),
        (
            400,
            "invalid_request_error",
            "messages.1: Invalid `signature` in `thinking` block",
            &[],
            true,
            Pass,
            none(),
            "sub2api #2380",
        ),
        (
            400,
            "invalid_request_error",
            "prompt is too long: 210000 tokens > 200000 maximum",
            &[],
            false,
            Pass,
            none(),
            ERRORS,
        ),
        (400, "", "", &[], false, Pass, none(), ERRORS),
        (404, "not_found_error", "Not found", &[], false, Pass, none(), ERRORS),
        (404, "", "<html>no model here</html>", &[], false, Pass, none(), "a proxy's page is no word of the vendor's"),
        (405, "", "", &[], false, Pass, none(), "RFC 9110 15.5.6"),
        (408, "", "", &[], false, Pass, none(), "RFC 9110 15.5.9"),
        (409, "conflict", "", &[], false, Pass, none(), ERRORS),
        (410, "", "", &[], false, Pass, none(), "RFC 9110 15.5.11"),
        (413, "request_too_large", "Request exceeds the maximum size", &[], false, Pass, none(), ERRORS),
        (
            413,
            "",
            "<html>413 Request Entity Too Large</html>",
            &[],
            false,
            Pass,
            none(),
            "Cloudflare in front of the vendor",
        ),
        (415, "", "", &[], false, Pass, none(), "RFC 9110 15.5.16"),
        (422, "invalid_request_error", "", &[], false, Pass, none(), "RFC 9110 15.5.21"),
        (418, "", "", &[("retry-after", "9")], false, Pass, none(), "RFC 9110 15.5.19"),
    ]);
}

#[test]
fn a_refused_credential_is_refreshed_once_and_then_rests_or_stops() {
    use Action::{Next, Refresh};
    let (none, stop) = (|| Effect::None, || Effect::Stop);
    check(&[
        (401, "authentication_error", "OAuth token has expired", &[], true, Refresh, none(), ERRORS),
        (401, "authentication_error", "token_expired", &[], true, Refresh, none(), ERRORS),
        (401, "authentication_error", "OAuth token has been revoked", &[], true, Refresh, none(), ERRORS),
        (401, "", "", &[], true, Refresh, none(), ERRORS),
        (
            401,
            "authentication_error",
            "OAuth token has expired",
            &[],
            false,
            Next,
            rest(Authentication, "account", None),
            ERRORS,
        ),
        (
            401,
            "authentication_error",
            "invalid x-api-key",
            &[],
            false,
            Next,
            rest(Authentication, "account", None),
            ERRORS,
        ),
        (
            401,
            "authentication_error",
            "OAuth token has been revoked",
            &[],
            false,
            Next,
            stop(),
            "CRS unauthorized state",
        ),
        (401, "authentication_error", "This API key HAS BEEN DISABLED", &[], false, Next, stop(), "CRS blocked state"),
        (401, "", "<html>", &[], false, Next, rest(Authentication, "account", None), ERRORS),
        (
            403,
            "permission_error",
            "OAuth token has been revoked. Please obtain a new token.",
            &[],
            true,
            Refresh,
            none(),
            "CRS blocked state",
        ),
        (
            403,
            "permission_error",
            "OAuth token has been revoked. Please obtain a new token.",
            &[],
            false,
            Next,
            stop(),
            "CRS blocked state",
        ),
        (
            403,
            "permission_error",
            "OAuth authentication is currently not allowed for this organization.",
            &[],
            true,
            Next,
            stop(),
            ERRORS,
        ),
        (403, "permission_error", "Your account has been disabled", &[], true, Next, stop(), ERRORS),
        (
            403,
            "permission_error",
            "Your API key does not have permission to use the specified resource",
            &[],
            false,
            Next,
            rest(Permission, "account", None),
            ERRORS,
        ),
        (
            403,
            "",
            "<html>Attention Required! | Cloudflare</html>",
            &[],
            true,
            Next,
            rest(Permission, "account", None),
            "Cloudflare in front of the vendor",
        ),
        (403, "", "", &[], false, Next, rest(Permission, "account", None), ERRORS),
        (
            400,
            "invalid_request_error",
            "This organization has been disabled.",
            &[],
            true,
            Next,
            stop(),
            "CRS blocked state",
        ),
        (
            400,
            "invalid_request_error",
            "Your credit balance is too low to access the Anthropic API",
            &[],
            false,
            Next,
            rest(Billing, "account", None),
            "docs: Billing",
        ),
        (402, "billing_error", "", &[], false, Next, rest(Billing, "account", None), ERRORS),
        (402, "", "<html>", &[], true, Next, rest(Billing, "account", None), ERRORS),
        (404, "not_found_error", "model: claude-opus-9", &[], false, Next, none(), ERRORS),
    ]);
}

#[test]
fn a_limit_rests_what_it_counts_until_the_header_says() {
    use Action::Next;
    const U_STATUS: (&str, &str) = ("anthropic-ratelimit-unified-status", "rejected");
    const U_RESET: (&str, &str) = ("anthropic-ratelimit-unified-reset", "1700010000");
    const FIVE: (&str, &str) = ("anthropic-ratelimit-unified-5h-status", "rejected");
    const FIVE_OK: (&str, &str) = ("anthropic-ratelimit-unified-5h-status", "allowed");
    const FIVE_END: (&str, &str) = ("anthropic-ratelimit-unified-5h-reset", "1700010000");
    const WEEK: (&str, &str) = ("anthropic-ratelimit-unified-7d-status", "rejected");
    const WEEK_OK: (&str, &str) = ("anthropic-ratelimit-unified-7d-status", "allowed");
    const WEEK_END: (&str, &str) = ("anthropic-ratelimit-unified-7d-reset", "1700400000");
    const OI: (&str, &str) = ("anthropic-ratelimit-unified-7d_oi-status", "rejected");
    const OI_END: (&str, &str) = ("anthropic-ratelimit-unified-7d_oi-reset", "1700500000");
    const CLAIM: &str = "anthropic-ratelimit-unified-representative-claim";
    const EMPTY: (&str, &str) = ("anthropic-ratelimit-requests-remaining", "0");
    const EMPTY_END: (&str, &str) = ("anthropic-ratelimit-requests-reset", "2023-11-14T22:13:50Z");
    const FULL: (&str, &str) = ("anthropic-ratelimit-requests-remaining", "7");
    const R: &str = "rate_limit_error";
    let account = |until| rest(RateLimit, "account", Some(until));
    let opus = |until| rest(RateLimit, "opus", Some(until));
    let none = || Effect::None;
    check(&[
        (429, R, "", &[FIVE, FIVE_END, WEEK_OK, WEEK_END], true, Next, account(1_700_010_000), LIMITS),
        (429, R, "", &[FIVE_OK, FIVE_END, WEEK, WEEK_END], true, Next, account(1_700_400_000), LIMITS),
        (
            429,
            R,
            "",
            &[FIVE, FIVE_END, WEEK, WEEK_END],
            true,
            Next,
            account(1_700_400_000),
            "CLIProxyAPI: the latest of the rejected",
        ),
        (
            429,
            R,
            "",
            &[FIVE, FIVE_END, OI, OI_END],
            true,
            Next,
            account(1_700_010_000),
            "the account's own windows come first",
        ),
        (
            429,
            R,
            "",
            &[FIVE_OK, FIVE_END, WEEK_OK, WEEK_END, OI, OI_END],
            true,
            Next,
            opus(1_700_500_000),
            "CLIProxyAPI #5915",
        ),
        (429, R, "", &[U_STATUS, U_RESET], true, Next, account(1_700_010_000), LIMITS),
        (429, R, "", &[U_STATUS, U_RESET, (CLAIM, "five_hour")], true, Next, account(1_700_010_000), LIMITS),
        (429, R, "", &[U_STATUS, U_RESET, (CLAIM, "seven_day")], true, Next, account(1_700_010_000), LIMITS),
        (
            429,
            R,
            "",
            &[U_STATUS, U_RESET, (CLAIM, "seven_day_overage_included")],
            true,
            Next,
            opus(1_700_010_000),
            LIMITS,
        ),
        (429, R, "", &[U_STATUS, U_RESET, (CLAIM, "seven_day_opus")], true, Next, opus(1_700_010_000), LIMITS),
        (429, R, "", &[FIVE, FIVE_END, ("retry-after", "30")], true, Next, account(1_700_010_000), LIMITS),
        (429, R, "", &[FIVE], true, Next, none(), "no end: CRS 58d4210d"),
        (
            429,
            R,
            "",
            &[FIVE, ("anthropic-ratelimit-unified-5h-reset", "1600000000")],
            true,
            Next,
            none(),
            "an end that is over",
        ),
        (
            429,
            R,
            "",
            &[FIVE, ("anthropic-ratelimit-unified-5h-reset", "1900000000")],
            true,
            Next,
            none(),
            "an end past all windows",
        ),
        (429, R, "", &[FIVE, ("anthropic-ratelimit-unified-5h-reset", "soon")], true, Next, none(), "not a number"),
        (429, R, "", &[FIVE_OK, FIVE_END, WEEK_OK, WEEK_END], true, Next, none(), "nothing is rejected"),
        (429, R, "", &[("retry-after", "12")], false, Next, opus(1_700_000_012), "RFC 9110 10.2.3"),
        (
            429,
            R,
            "",
            &[("retry-after", "Tue, 14 Nov 2023 22:14:00 GMT")],
            false,
            Next,
            opus(1_700_000_040),
            "RFC 9110 10.2.3",
        ),
        (429, R, "", &[("retry-after", "0")], false, Next, none(), "at once"),
        (429, R, "", &[("retry-after", "-3")], false, Next, none(), "no wait"),
        (429, R, "", &[("retry-after", "999999999")], false, Next, none(), "past all windows"),
        (429, R, "", &[EMPTY, EMPTY_END], false, Next, opus(1_700_000_030), LIMITS),
        (429, R, "", &[EMPTY, EMPTY_END, ("retry-after", "5")], false, Next, opus(1_700_000_005), LIMITS),
        (429, R, "", &[FULL, EMPTY_END], false, Next, none(), "nothing is empty"),
        (429, R, "", &[], true, Next, none(), "CRS 58d4210d"),
        (
            429,
            R,
            "Extra usage is required for long context requests.",
            &[FIVE, FIVE_END],
            true,
            Next,
            none(),
            "CRS 2026-03-03",
        ),
        (429, R, "Long context beta is not yet available", &[("retry-after", "60")], true, Next, none(), "CRS 2026-02"),
        (429, "", "<html>Too many</html>", &[("retry-after", "12")], false, Next, opus(1_700_000_012), "RFC 6585 4"),
    ]);
}

#[test]
fn the_vendors_trouble_is_nobodys_fault() {
    use Action::Next;
    let none = || Effect::None;
    let pause = || rest(Overloaded, "opus", None);
    check(&[
        (500, "api_error", "Internal server error", &[], false, Next, none(), ERRORS),
        (500, "overloaded_error", "Overloaded", &[], false, Next, pause(), "sub2api #1552"),
        (501, "", "", &[], false, Next, none(), "RFC 9110 15.6.2"),
        (502, "", "<html>Bad Gateway</html>", &[], true, Next, none(), "Cloudflare in front of the vendor"),
        (503, "", "upstream connect error", &[("retry-after", "5")], false, Next, none(), "RFC 9110 15.6.4"),
        (503, "overloaded_error", "Overloaded", &[], false, Next, pause(), ERRORS),
        (504, "timeout_error", "", &[], false, Next, none(), ERRORS),
        (520, "", "<html>", &[], false, Next, none(), "Cloudflare 5xx"),
        (522, "", "<html>", &[], false, Next, none(), "Cloudflare 5xx"),
        (524, "", "<html>", &[], false, Next, none(), "Cloudflare 5xx"),
        (529, "overloaded_error", "Overloaded", &[], false, Next, pause(), ERRORS),
        (529, "", "", &[], true, Next, pause(), ERRORS),
        (599, "", "", &[], true, Next, none(), "unassigned"),
    ]);
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
