//! Usage as the vendor reports it (upstream-facts 5.1): field by field, a later value replaces an earlier one.

use serde::Deserialize;

/// Token counts with the vendor's own field names. `input_tokens` does not include what caches held or took.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Prompt tokens that no cache held.
    pub input_tokens: u64,
    /// Tokens the model wrote.
    pub output_tokens: u64,
    /// Tokens written to the five-minute cache.
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
    /// What it used.
    pub usage: Usage,
}

/// A `usage` object on the wire. Every member may be absent or null.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wire {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default)]
    server_tool_use: Option<ServerToolUse>,
    #[serde(default)]
    service_tier: Option<String>,
    #[serde(default)]
    speed: Option<String>,
    #[serde(default)]
    inference_geo: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_5m_input_tokens: Option<u64>,
    #[serde(default)]
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct ServerToolUse {
    #[serde(default)]
    web_search_requests: Option<u64>,
}

impl Usage {
    /// Whether the upstream has reported any count.
    pub fn is_reported(&self) -> bool {
        self.is_reported
    }

    /// Takes over what a later report says. Counts are cumulative: they replace, they do not add.
    pub(super) fn merge(&mut self, wire: Wire) {
        let mut set = |count: &mut u64, value: Option<u64>| {
            if let Some(value) = value {
                *count = value;
                self.is_reported = true;
            }
        };
        set(&mut self.input_tokens, wire.input_tokens);
        set(&mut self.output_tokens, wire.output_tokens);
        set(&mut self.cache_read_input_tokens, wire.cache_read_input_tokens);
        let split = wire.cache_creation.map(|split| (split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens));
        match (split, wire.cache_creation_input_tokens) {
            (Some((five, hour)), total) if five.is_some() || hour.is_some() => {
                let hour = hour.unwrap_or_else(|| total.unwrap_or(0).saturating_sub(five.unwrap_or(0)));
                let five = five.unwrap_or_else(|| total.unwrap_or(hour).saturating_sub(hour));
                set(&mut self.cache_creation_5m_input_tokens, Some(five));
                set(&mut self.cache_creation_1h_input_tokens, Some(hour));
            }
            // A total that a split before has already explained says nothing new.
            (_, Some(total)) if total != self.cache_creation_5m_input_tokens + self.cache_creation_1h_input_tokens => {
                set(&mut self.cache_creation_5m_input_tokens, Some(total));
                set(&mut self.cache_creation_1h_input_tokens, Some(0));
            }
            (_, total) => self.is_reported |= total.is_some(),
        }
        if let Some(requests) = wire.server_tool_use.and_then(|tools| tools.web_search_requests) {
            self.web_search_requests = requests;
        }
        let replace = |text: &mut Option<String>, value: Option<String>| {
            if value.is_some() {
                *text = value;
            }
        };
        replace(&mut self.service_tier, wire.service_tier);
        replace(&mut self.speed, wire.speed);
        replace(&mut self.inference_geo, wire.inference_geo);
    }
}

/// Reads a whole answer. `None` when it is no JSON object or reports no usage.
pub fn from_message_json(body: &[u8]) -> Option<Reading> {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        model: Option<String>,
        usage: Wire,
    }
    let message: Message = serde_json::from_slice(body).ok()?;
    let mut usage = Usage::default();
    usage.merge(message.usage);
    usage.is_reported.then_some(Reading { model: message.model, usage })
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
        for (json, expected) in [
            (r#"{"model":"m","usage":{"input_tokens":1,"output_tokens":2}}"#, [1, 2, 0, 0, 0]),
            (
                r#"{"usage":{"input_tokens":1,"output_tokens":2,"cache_creation_input_tokens":9,"cache_read_input_tokens":3}}"#,
                [1, 2, 9, 0, 3],
            ),
            (
                r#"{"usage":{"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}}"#,
                [0, 2, 4, 5, 0],
            ),
            (
                r#"{"usage":{"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_1h_input_tokens":5}}}"#,
                [0, 2, 4, 5, 0],
            ),
            (
                r#"{"usage":{"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":5}}}"#,
                [0, 2, 5, 4, 0],
            ),
            (
                r#"{"usage":{"output_tokens":2,"cache_creation_input_tokens":9,"cache_creation":null,"input_tokens":null}}"#,
                [0, 2, 9, 0, 0],
            ),
        ] {
            assert_eq!(counts(&read(json).expect(json).usage), expected, "{json}");
        }
        for json in ["", "[]", "{", r#"{"usage":{}}"#, r#"{"usage":null}"#, r#"{"error":{}}"#] {
            assert_eq!(read(json), None, "{json}");
        }
    }

    #[test]
    fn later_reports_replace_field_by_field() {
        let mut usage = Usage::default();
        for json in [
            r#"{"input_tokens":10,"output_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5},"service_tier":"standard"}"#,
            r#"{"output_tokens":50,"input_tokens":null}"#,
            r#"{"output_tokens":70,"cache_creation_input_tokens":9,"server_tool_use":{"web_search_requests":2}}"#,
        ] {
            usage.merge(serde_json::from_str(json).unwrap());
        }
        assert_eq!(counts(&usage), [10, 70, 4, 5, 0]);
        assert_eq!((usage.web_search_requests, usage.service_tier.as_deref()), (2, Some("standard")));
    }
}
