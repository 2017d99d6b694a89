//! Usage as the vendor reports it: field by field, a later value replaces an earlier one.
//!
//! Nothing of prices here, and no I/O. What a field must not do is cost the others: a member of an unexpected type is
//! passed over, the rest is read.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Counts above this are taken as not reported: no answer has a million million tokens, and sums and products of what is
/// below stay far from the end of 64 bits.
pub const COUNT_MAX: u64 = 1 << 40;

/// What an answer has used so far, under the vendor's own field names. `input_tokens` does not include what caches held or
/// took.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Prompt tokens that no cache held.
    pub input_tokens: u64,
    /// Tokens the model wrote.
    pub output_tokens: u64,
    /// Tokens written to the five-minute cache; also those whose cache the upstream does not name.
    pub cache_creation_5m_input_tokens: u64,
    /// Tokens written to the one-hour cache.
    pub cache_creation_1h_input_tokens: u64,
    /// Prompt tokens read from a cache.
    pub cache_read_input_tokens: u64,
    /// Searches that are billed apart.
    pub web_search_requests: u64,
    /// `standard`, `priority` or `batch`.
    pub service_tier: Option<String>,
    /// `fast` in fast mode.
    pub speed: Option<String>,
    /// Where it was computed, if that has a price.
    pub inference_geo: Option<String>,
    is_reported: bool,
}

/// What an answer says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reading {
    /// The model that answered.
    pub model: Option<String>,
    /// The upstream's identifier of the message.
    pub message_id: Option<String>,
    /// What it used.
    pub usage: Usage,
}

/// A `usage` object on the wire. Every member may be absent or null.
#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    output_tokens: Option<&'a RawValue>,
    cache_creation_input_tokens: Option<&'a RawValue>,
    cache_read_input_tokens: Option<&'a RawValue>,
    cache_creation: Option<&'a RawValue>,
    server_tool_use: Option<&'a RawValue>,
    service_tier: Option<&'a RawValue>,
    speed: Option<&'a RawValue>,
    inference_geo: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct CacheCreation<'a> {
    #[serde(borrow)]
    ephemeral_5m_input_tokens: Option<&'a RawValue>,
    ephemeral_1h_input_tokens: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct ServerToolUse<'a> {
    #[serde(borrow)]
    web_search_requests: Option<&'a RawValue>,
}

impl Usage {
    /// Whether the upstream has reported any count.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Takes over what a later report, a `usage` object, says. Its counts are cumulative: they replace, they do not add.
    /// What is no object says nothing.
    pub fn merge(&mut self, report: &str) {
        let Ok(wire) = serde_json::from_str::<Wire<'_>>(report) else { return };
        let mut set = |field: &mut u64, value: Option<u64>| {
            if let Some(value) = value {
                *field = value;
                self.is_reported = true;
            }
        };
        set(&mut self.input_tokens, count(wire.input_tokens));
        set(&mut self.output_tokens, count(wire.output_tokens));
        set(&mut self.cache_read_input_tokens, count(wire.cache_read_input_tokens));
        let tools: ServerToolUse<'_> = object(wire.server_tool_use);
        set(&mut self.web_search_requests, count(tools.web_search_requests));
        let split: CacheCreation<'_> = object(wire.cache_creation);
        self.merge_cache_creation(
            count(wire.cache_creation_input_tokens),
            count(split.ephemeral_5m_input_tokens),
            count(split.ephemeral_1h_input_tokens),
        );
        for (field, value) in [
            (&mut self.service_tier, wire.service_tier),
            (&mut self.speed, wire.speed),
            (&mut self.inference_geo, wire.inference_geo),
        ] {
            if let Some(value) = text(value) {
                *field = Some(value);
            }
        }
    }

    /// A total and its split may come together, alone or in different events. What no split explains was written to the
    /// five-minute cache, the vendor's default; what is known of the one-hour cache stays known when a total is repeated.
    fn merge_cache_creation(&mut self, total: Option<u64>, five: Option<u64>, hour: Option<u64>) {
        if total.is_none() && five.is_none() && hour.is_none() {
            return;
        }
        self.is_reported = true;
        let known = self.cache_creation_1h_input_tokens;
        let hour = match (hour, five, total) {
            (Some(hour), _, _) => hour,
            (None, Some(five), Some(total)) => total.saturating_sub(five),
            (None, None, Some(total)) => known.min(total),
            (None, _, None) => known,
        };
        self.cache_creation_5m_input_tokens = match total {
            Some(total) => total.saturating_sub(hour).max(five.unwrap_or(0)),
            None => five.unwrap_or(self.cache_creation_5m_input_tokens),
        };
        self.cache_creation_1h_input_tokens = hour;
    }
}

/// Reads a whole answer, in one pass and without a tree. `None` when it is no JSON object or reports no count.
pub fn from_message_json(body: &[u8]) -> Option<Reading> {
    #[derive(Deserialize)]
    struct Message<'a> {
        #[serde(borrow)]
        model: Option<&'a RawValue>,
        id: Option<&'a RawValue>,
        usage: Option<&'a RawValue>,
    }
    let message: Message<'_> = serde_json::from_slice(body).ok()?;
    let mut usage = Usage::default();
    usage.merge(message.usage?.get());
    usage.is_reported.then(|| Reading { model: text(message.model), message_id: text(message.id), usage })
}

/// A value that is text.
pub(super) fn text(value: Option<&RawValue>) -> Option<String> {
    serde_json::from_str(value?.get()).ok()
}

/// A value that is an object, else one without members.
fn object<'a, T: Default + Deserialize<'a>>(value: Option<&'a RawValue>) -> T {
    value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
}

/// A value that is a count. Some compatible upstreams write whole numbers with a fraction or an exponent.
fn count(value: Option<&RawValue>) -> Option<u64> {
    let text = value?.get();
    let number = text.parse().ok().or_else(|| {
        let number: f64 = text.parse().ok()?;
        // The range makes the conversion exact but for the fraction, which is cut off.
        (0.0..=COUNT_MAX as f64).contains(&number).then_some(number as u64)
    });
    number.filter(|number| *number <= COUNT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<Reading> {
        from_message_json(json.as_bytes())
    }

    fn counts(usage: &Usage) -> [u64; 5] {
        [
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_creation_5m_input_tokens,
            usage.cache_creation_1h_input_tokens,
            usage.cache_read_input_tokens,
        ]
    }

    #[test]
    fn whole_answers_are_read_and_everything_else_is_nothing() {
        for (usage, expected) in [
            (r#""input_tokens":1,"output_tokens":2"#, [1, 2, 0, 0, 0]),
            (r#""input_tokens":1,"cache_creation_input_tokens":9,"cache_read_input_tokens":3"#, [1, 0, 9, 0, 3]),
            (
                r#""cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}"#,
                [0, 0, 4, 5, 0],
            ),
            (r#""cache_creation_input_tokens":9,"cache_creation":{"ephemeral_1h_input_tokens":5}"#, [0, 0, 4, 5, 0]),
            (r#""cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":5}"#, [0, 0, 5, 4, 0]),
            (r#""cache_creation":{"ephemeral_5m_input_tokens":5}"#, [0, 0, 5, 0, 0]),
            (r#""cache_creation_input_tokens":9,"cache_creation":null,"input_tokens":null"#, [0, 0, 9, 0, 0]),
            // A split of zeros explains nothing.
            (
                r#""cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}"#,
                [0, 0, 9, 0, 0],
            ),
            // What is of the wrong type or beyond reason costs only itself.
            (
                r#""input_tokens":7.0,"output_tokens":-1,"cache_creation":[],"service_tier":3,"speed":{}"#,
                [7, 0, 0, 0, 0],
            ),
            (r#""input_tokens":18446744073709551615,"output_tokens":1e3,"server_tool_use":"x""#, [0, 1000, 0, 0, 0]),
        ] {
            let json = format!(r#"{{"id":"msg_1","model":"m","content":[{{"usage":1}}],"usage":{{{usage}}}}}"#);
            let reading = read(&json).expect(&json);
            assert_eq!(counts(&reading.usage), expected, "{json}");
            assert_eq!((reading.model.as_deref(), reading.message_id.as_deref()), (Some("m"), Some("msg_1")));
        }
        for json in ["", "[]", "{", r#"{"usage":{}}"#, r#"{"usage":null}"#, r#"{"usage":[1]}"#, r#"{"error":{}}"#] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn content_of_any_depth_or_encoding_does_not_hide_the_usage() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let mut body = format!(r#"{{"content":{deep},"x":""#).into_bytes();
        body.extend_from_slice(b"\xff\xfe\",\"usage\":{\"output_tokens\":3}}");
        assert_eq!(from_message_json(&body).unwrap().usage.output_tokens, 3);
    }

    #[test]
    fn later_reports_replace_field_by_field() {
        let mut usage = Usage::default();
        for (report, expected) in [
            (
                r#"{"input_tokens":10,"output_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5},"service_tier":"standard"}"#,
                [10, 1, 4, 5, 0],
            ),
            (r#"{"output_tokens":50,"input_tokens":null}"#, [10, 50, 4, 5, 0]),
            ("null", [10, 50, 4, 5, 0]),
            (r#"{"output_tokens":70,"cache_creation_input_tokens":9}"#, [10, 70, 4, 5, 0]),
            (r#"{"cache_creation_input_tokens":12,"server_tool_use":{"web_search_requests":2}}"#, [10, 70, 7, 5, 0]),
            (r#"{"output_tokens":60,"speed":"fast","inference_geo":"us","service_tier":null}"#, [10, 60, 7, 5, 0]),
        ] {
            usage.merge(report);
            assert_eq!(counts(&usage), expected, "{report}");
        }
        assert_eq!((usage.web_search_requests, usage.service_tier.as_deref()), (2, Some("standard")));
        assert_eq!((usage.speed.as_deref(), usage.inference_geo.as_deref()), (Some("fast"), Some("us")));
    }
}
