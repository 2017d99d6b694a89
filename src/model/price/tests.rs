//! The rules of prices, one by one, and what a download may do.

use super::*;
use crate::model::time::parse;

/// A million of each kind of token.
const MILLION: Tokens = Tokens {
    input: 1_000_000,
    output: 1_000_000,
    cache_creation_5m: 1_000_000,
    cache_creation_1h: 1_000_000,
    cache_read: 1_000_000,
};

fn line(model: &str, tokens: Tokens) -> Line {
    let at_ms = parse("2026-11-01T00:00:00Z").unwrap();
    Line { model: model.into(), at_ms, tokens: Some(tokens), ..Line::default() }
}

fn table() -> PriceTable {
    PriceTable::own().unwrap()
}

/// Input, output, writes, reads and searches in millionths of a dollar.
fn micros(line: &Line) -> Option<[i64; 5]> {
    let (cost, _) = table().cost(line)?;
    let kinds = [cost.input, cost.output, cost.cache_write, cost.cache_read, cost.web_search];
    assert!(kinds.iter().all(|pico| pico % 1_000_000 == 0), "{kinds:?}");
    Some(kinds.map(|pico| pico / 1_000_000))
}

/// The same of a million tokens of each kind, in cents.
fn cents(line: &Line) -> Option<[i64; 5]> {
    micros(line).map(|kinds| kinds.map(|micros| micros / 10_000))
}

#[test]
fn every_kind_has_its_rate() {
    for (model, expected) in [
        ("claude-fable-5", [1000, 5000, 3250, 100, 0]),
        ("claude-fable-5-1", [1000, 5000, 3250, 25, 0]),
        ("claude-opus-5-5", [400, 2000, 1300, 20, 0]),
        ("claude-opus-4-6", [500, 2500, 1625, 50, 0]),
        ("claude-opus-4-1-20250805", [1500, 7500, 4875, 150, 0]),
        ("claude-sonnet-4-5-20250929", [300, 1500, 975, 30, 0]),
        ("claude-haiku-4-5", [100, 500, 325, 10, 0]),
        ("claude-3-5-haiku-20241022", [80, 400, 260, 8, 0]),
        ("claude-3-opus-20240229", [1500, 7500, 4875, 150, 0]),
        ("claude-3-haiku-20240307", [25, 125, 80, 3, 0]),
    ] {
        assert_eq!(cents(&line(model, MILLION)), Some(expected), "{model}");
    }
}

#[test]
fn names_are_exact() {
    for name in [
        "claude-opus-4-6[1m]",
        "claude-opus-4-6-thinking",
        "claude-opus-4-6-20260205",
        "claude-sonnet-4-5[1m]",
        "claude-3-7-sonnet-latest",
        "claude-4-sonnet-20250514",
    ] {
        assert!(table().find(name).is_some(), "{name}");
    }
    for name in [
        "",
        "claude",
        "claude-opus",
        "claude-opus-4-6-preview",
        "Claude-Opus-4-6",
        "claude-opus-4-6[1m][1m]",
        "x[1m]",
        "gpt-5",
    ] {
        assert!(table().find(name).is_none(), "{name}");
        assert_eq!(table().cost(&line(name, MILLION)), None, "{name}");
    }
    let mut unread = line("claude-opus-4-6", MILLION);
    unread.tokens = None;
    assert_eq!(table().cost(&unread), None);
}

#[test]
fn a_tier_is_for_the_whole_prompt_and_all_its_tokens() {
    let prompt = |input, five, hour, read| {
        let tokens = Tokens { input, output: 10, cache_creation_5m: five, cache_creation_1h: hour, cache_read: read };
        table().cost(&line("claude-haiku-5-5", tokens)).unwrap().0
    };
    assert_eq!(prompt(100_000, 0, 0, 0), Cost { input: 10_000_000_000, output: 5_000_000, ..Cost::default() });
    assert_eq!(prompt(100_001, 0, 0, 0), Cost { input: 50_000_500_000, output: 25_000_000, ..Cost::default() });
    for (input, five, hour, read) in
        [(1, 100_000, 0, 0), (1, 0, 100_000, 0), (1, 0, 0, 100_000), (25_001, 25_000, 25_000, 25_000)]
    {
        let cost = prompt(input, five, hour, read);
        assert_eq!((cost.input, cost.output), (input * 500_000, 25_000_000));
        assert_eq!(cost.cache_write, five * 625_000 + hour * 1_000_000);
        assert_eq!(cost.cache_read, read * 50_000);
    }
}

#[test]
fn prices_change_with_the_day() {
    for (at, read) in [("2026-10-06T23:59:59.999Z", 20), ("2026-10-07T00:00:00Z", 10), ("2020-01-01", 20)] {
        let mut line = line("claude-sonnet-5-5", MILLION);
        line.at_ms = parse(at).unwrap();
        assert_eq!(cents(&line), Some([200, 1000, 650, read, 0]), "{at}");
    }
}

#[test]
fn multipliers_stack_and_stay_exact() {
    let of = |model: &str, tier: &str, speed: &str, geo: &str| {
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let (service_tier, speed, inference_geo) = (text(tier), text(speed), text(geo));
        cents(&Line { service_tier, speed, inference_geo, web_search_requests: 2, ..line(model, MILLION) })
    };
    let opus = "claude-opus-4-6";
    assert_eq!(of(opus, "standard", "standard", "global"), Some([500, 2500, 1625, 50, 2]));
    assert_eq!(of(opus, "batch", "", ""), Some([250, 1250, 812, 25, 2]));
    assert_eq!(of(opus, "", "fast", ""), Some([3000, 15_000, 9750, 300, 2]));
    assert_eq!(of(opus, "", "", "us"), Some([550, 2750, 1787, 55, 2]));
    assert_eq!(of(opus, "", "fast", "us"), Some([3300, 16_500, 10_725, 330, 2]));
    assert_eq!(of("claude-opus-5-5", "", "fast", ""), Some([800, 4000, 2600, 40, 2]));
    // A model that has no such place is billed as it is; one that has no known fast price is not billed by a guess.
    assert_eq!(of("claude-opus-4-1", "", "", "us"), Some([1500, 7500, 4875, 150, 2]));
    assert_eq!(of("claude-opus-4-1", "", "fast", ""), None);
    let one = Tokens { input: 1, output: 1, cache_creation_5m: 1, cache_creation_1h: 1, cache_read: 1 };
    let line =
        Line { service_tier: Some("batch".into()), inference_geo: Some("us".into()), ..line("claude-haiku-5-5", one) };
    let expected =
        Cost { input: 55_000, output: 275_000, cache_write: 68_750 + 110_000, cache_read: 5_500, web_search: 0 };
    assert_eq!(table().cost(&line), Some((expected, "2026-11-24".to_owned())));
}

#[test]
fn amounts_round_half_up_and_counts_beyond_reason_have_no_price() {
    let third = Factor { numerator: 1, denominator: 3 };
    assert_eq!(
        [multiplied(4, &[third]), multiplied(5, &[third]), multiplied(3, &[BATCH])],
        [Some(1), Some(2), Some(2)]
    );
    for count in [1_i64 << 40, i64::MAX] {
        for tokens in [
            Tokens { output: count, ..Tokens::default() },
            Tokens { input: count, cache_read: count, ..Tokens::default() },
        ] {
            assert_eq!(table().cost(&line("claude-opus-4-6", tokens)), None, "{count}");
        }
    }
}

/// Two models that the repository does not know, one that it does, and entries to leave out.
const FETCHED: &str = r#"{
  "sample_spec": {"input_cost_per_token": "a description", "litellm_provider": "one of …"},
  "claude-next-1": {"input_cost_per_token": 3e-06, "output_cost_per_token": 0.000015,
    "cache_creation_input_token_cost": 3.75e-06, "cache_creation_input_token_cost_above_1hr": 6e-06,
    "cache_read_input_token_cost": 3e-07, "input_cost_per_token_above_200k_tokens": 6e-06,
    "output_cost_per_token_above_200k_tokens": 2.25e-05, "litellm_provider": "anthropic", "max_tokens": 64000},
  "house/next": {"input_cost_per_token": 1e-6, "output_cost_per_token": 5e-6, "litellm_provider": "anthropic"},
  "claude-opus-4-6": {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-3},
  "claude-odd": {"input_cost_per_token": 1e-13, "output_cost_per_token": 1e-3},
  "gpt-5": {"input_cost_per_token": 1e-6, "output_cost_per_token": 5e-6, "litellm_provider": "openai"},
  "claude-none": null
}"#;

#[test]
fn a_download_adds_models_and_overrides_none() {
    let own = table();
    let part = PriceTable::claude_part(FETCHED.as_bytes()).unwrap();
    assert!(part.len() < FETCHED.len() && !part.contains("gpt-5"));
    let both = own.with_fetched(part.as_bytes(), 0).unwrap();
    assert_eq!(own.with_fetched(FETCHED.as_bytes(), 0).unwrap().names(), both.names());
    assert_eq!(both.names(), own.names() + 2);
    let found = both.find("claude-next-1").unwrap();
    assert!(found.source == PriceSource::Downloaded);
    assert_eq!(found.version, "fetched 1970-01-01T00:00:00.000Z");
    let small = Rates { input: 3_000_000, output: 15_000_000, write_5m: 3_750_000, write_1h: 6_000_000, read: 300_000 };
    let large =
        Rates { input: 6_000_000, output: 22_500_000, write_5m: 7_500_000, write_1h: 12_000_000, read: 600_000 };
    assert_eq!(found.price.rates(0, 200_000), Some(&small));
    assert_eq!(found.price.rates(0, 200_001), Some(&large));
    let ruled = Rates { input: 1_000_000, output: 5_000_000, write_5m: 1_250_000, write_1h: 2_000_000, read: 100_000 };
    assert_eq!(both.find("house/next").unwrap().price.rates(0, 0), Some(&ruled));
    assert_eq!(both.find("claude-opus-4-6").unwrap().source, PriceSource::BuiltIn);
    assert_eq!(both.cost(&line("claude-opus-4-6", MILLION)), own.cost(&line("claude-opus-4-6", MILLION)));
    for name in ["gpt-5", "claude-odd", "claude-none", "sample_spec", "claude-next"] {
        assert!(both.find(name).is_none(), "{name}");
    }
}

#[test]
fn a_bad_download_is_refused_and_changes_nothing() {
    let good = table().with_fetched(FETCHED.as_bytes(), 7).unwrap();
    let large = vec![b' '; FETCHED_BYTES_MAX + 1];
    for bad in [&b""[..], b"[]", b"{}", b"<html>", b"{\"claude-x\":{}}", b"{\"claude-x\":1", &large] {
        assert!(good.with_fetched(bad, 8).is_err());
    }
    assert_eq!(good.fetched_at_ms(), Some(7));
    assert!(good.find("claude-next-1").is_some());
}
