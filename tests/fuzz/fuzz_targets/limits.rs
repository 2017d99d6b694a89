//! Rate-limit header fields, and what is made of them.
#![no_main]

use claude_relay::claude::limits::RateLimits;
use claude_relay::claude::verdict::{Effect, Facts, judge};
use libfuzzer_sys::fuzz_target;

const NOW: i64 = 1_700_000_000_000;

fuzz_target!(|input: (u16, Vec<(String, Vec<u8>)>, String, bool)| {
    let (status, fields, message, may_refresh) = input;
    let prefixed: Vec<(String, &[u8])> =
        fields.iter().map(|(name, value)| (format!("anthropic-ratelimit-{name}"), value.as_slice())).collect();
    let fields = prefixed.iter().map(|(name, value)| (name.as_str(), *value));
    let retry = fields.clone().map(|(_, value)| ("retry-after", value)).take(1);
    let limits = RateLimits::read(fields.chain(retry), NOW);
    assert!(limits.windows.len() <= 8 && limits.buckets.len() <= 8);
    let facts = Facts { status, kind: "rate_limit_error", message: &message, limits: &limits, may_refresh, family: Some("opus"), now_ms: NOW };
    if let Effect::Rest { until_ms: Some(until), .. } = judge(&facts).effect {
        assert!((NOW + 1..=NOW + 8 * 86_400_000).contains(&until), "every rest has an end");
    }
});
