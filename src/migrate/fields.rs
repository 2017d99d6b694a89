//! A record's fields as the original read them: every value was text, and JavaScript took out of it what it could.

use crate::model::cost;
use crate::model::moved::whole;
use crate::model::time::parse;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Counts that can be true; sums of them stay in range.
const COUNT_MAX: i64 = 1_000_000_000_000_000;
/// The largest limit that is taken over, in dollars.
const LIMIT_DOLLARS_MAX: f64 = 1_000_000.0;

/// The fields of a record.
pub(super) struct Fields(HashMap<String, String>);

impl From<HashMap<String, String>> for Fields {
    fn from(fields: HashMap<String, String>) -> Fields {
        Fields(fields)
    }
}

impl From<Map<String, Value>> for Fields {
    /// As they would be stored: JSON's null is the empty text, what is no text is written as JSON.
    fn from(members: Map<String, Value>) -> Fields {
        let text = |value| match value {
            Value::String(text) => text,
            Value::Null => String::new(),
            // JavaScript writes whole numbers without a fraction and without an exponent.
            Value::Number(number) => match number.as_f64() {
                Some(whole) if number.is_f64() && whole.fract() == 0.0 && whole.abs() < 1e18 => format!("{whole:.0}"),
                _ => number.to_string(),
            },
            other => other.to_string(),
        };
        Fields(members.into_iter().map(|(name, value)| (name, text(value))).collect())
    }
}

impl Fields {
    /// A field; empty if it is missing.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A field that may be missing.
    pub(super) fn known(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A limit: a whole number, 0 where there is none; `None` if it cannot be read.
    pub(super) fn limit(&self, name: &str) -> Option<i64> {
        match self.text(name).trim() {
            "" => Some(0),
            text => whole(text).map(|limit| limit.clamp(0, COUNT_MAX)),
        }
    }

    pub(super) fn instant(&self, name: &str) -> Option<i64> {
        parse(self.text(name))
    }

    /// A limit in dollars as pico-dollars, 0 where there is none; `None` if it cannot be read.
    pub(super) fn dollars(&self, name: &str) -> Option<i64> {
        let text = self.text(name).trim();
        if text.is_empty() {
            return Some(0);
        }
        let is_of_number = |letter: char| letter.is_ascii_digit() || "+-.eE".contains(letter);
        let end = text.find(|letter| !is_of_number(letter)).unwrap_or(text.len());
        // The longest beginning that is a number, as parseFloat takes it.
        let amount = (1..=end).rev().find_map(|end| text[..end].parse::<f64>().ok())?;
        // To a millionth of a dollar, as limits are kept here.
        let millionths = (amount.clamp(0.0, LIMIT_DOLLARS_MAX) * 1e6).round() as i64;
        Some(if amount > 0.0 { millionths.max(1) } else { 0 } * (cost::DOLLAR / 1_000_000))
    }

    /// The texts of a list, written as JSON; empty if it cannot be read, as it was there. What else is in it stops nothing, as
    /// no model's name was ever equal to it.
    pub(super) fn texts(&self, name: &str) -> Vec<String> {
        let list: Vec<Value> = serde_json::from_str(self.text(name)).unwrap_or_default();
        let text = |item| match item {
            Value::String(text) => Some(text),
            _ => None,
        };
        list.into_iter().filter_map(text).collect()
    }

    /// A count; `None` if it is none that can be true.
    pub(super) fn count(&self, name: &str) -> Option<i64> {
        match self.text(name) {
            "" => Some(0),
            text => whole(text).filter(|count| (0..=COUNT_MAX).contains(count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_texts_whatever_else_is_in_it() {
        for (text, expected) in [
            (r#"["claude-opus-4-20250514",null,5,["a"],"b"]"#, vec!["claude-opus-4-20250514", "b"]),
            ("[]", vec![]),
            ("null", vec![]),
            ("claude-opus-4-20250514", vec![]),
            ("", vec![]),
        ] {
            let fields = Fields::from(HashMap::from([("restrictedModels".to_owned(), text.to_owned())]));
            assert_eq!(fields.texts("restrictedModels"), expected, "{text}");
        }
    }

    #[test]
    fn limits_are_none_only_where_they_cannot_be_read() {
        let fields = Fields::from(
            serde_json::json!({
                "float": 60.0, "large": 1e15, "text": "12 requests", "word": "many", "empty": "", "null": null,
                "dollars": "2.5 USD", "small": 1e-6, "negative": "-1",
            })
            .as_object()
            .cloned()
            .unwrap_or_default(),
        );
        for (name, expected) in [
            ("float", Some(60)),
            ("large", Some(COUNT_MAX)),
            ("text", Some(12)),
            ("word", None),
            ("empty", Some(0)),
            ("null", Some(0)),
            ("absent", Some(0)),
            ("negative", Some(0)),
        ] {
            assert_eq!(fields.limit(name), expected, "{name}");
        }
        for (name, expected) in [
            ("dollars", Some(2_500_000_000_000)),
            ("small", Some(1_000_000)),
            ("float", Some(60 * cost::DOLLAR)),
            ("word", None),
            ("empty", Some(0)),
            ("negative", Some(0)),
        ] {
            assert_eq!(fields.dollars(name), expected, "{name}");
        }
    }
}
