//! A shallow view of a request: the few members that the relay decides by. The body itself is never rebuilt.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// What the relay looks at.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Shallow<'a> {
    /// The model asked for, if it is text.
    pub model: Option<Cow<'a, str>>,
    /// Whether the answer is to be a stream: only the boolean `true` says so.
    pub stream: bool,
    /// Whether `messages` is there and an array.
    pub messages_is_array: bool,
    /// Whether that array has no items.
    pub messages_is_empty: bool,
}

impl<'a> Shallow<'a> {
    /// Reads a body in one pass, without a tree. Of a member that is there twice the last counts, as in JavaScript.
    ///
    /// # Errors
    /// The body is no JSON object (RFC 8259), or nested deeper than 128 levels.
    pub fn read(body: &'a [u8]) -> Result<Shallow<'a>, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Shallow<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Shallow<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Shallow::default();
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        "model" => found.model = map.next_value::<Scalar<'de>>()?.text,
                        "stream" => found.stream = map.next_value::<Scalar<'de>>()?.is_true,
                        "messages" => {
                            let Length(length) = map.next_value()?;
                            found.messages_is_array = length.is_some();
                            found.messages_is_empty = length == Some(0);
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A value of any kind, of which text and `true` are told apart.
#[derive(Default)]
struct Scalar<'a> {
    text: Option<Cow<'a, str>>,
    is_true: bool,
}

/// The number of items, if the value is an array.
struct Length(Option<usize>);

/// Visitor methods for kinds of values that say nothing.
macro_rules! nothing {
    ($value:expr; $($method:ident: $kind:ty),*) => {
        $(fn $method<E>(self, _: $kind) -> Result<Self::Value, E> { Ok($value) })*
        fn visit_unit<E>(self) -> Result<Self::Value, E> { Ok($value) }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($value)
        }
    };
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Scalar { text: Some(Cow::Borrowed(text)), is_true: false })
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Scalar { text: Some(Cow::Owned(text.to_owned())), is_true: false })
            }

            fn visit_bool<E>(self, is_true: bool) -> Result<Self::Value, E> {
                Ok(Scalar { text: None, is_true })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::default())
            }

            nothing!(Scalar::default(); visit_i64: i64, visit_u64: u64, visit_f64: f64);
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut length = 0;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(Some(length)))
            }

            nothing!(Length(None); visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
        }
        deserializer.deserialize_any(Any)
    }
}

/// An error event of the vendor's shape, for a stream that has begun.
pub fn error_event(kind: &str, message: &str) -> Vec<u8> {
    let data = serde_json::json!({ "type": "error", "error": { "type": kind, "message": message } });
    format!("event: error\ndata: {data}\n\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_few_members_are_found_wherever_they_stand() {
        let body = br#"{"x":[{"model":"inner"}],"stream":true,"messages":[{"role":"user","content":[1,{"a":null}]},{}],"model":"a\u0062","y":{"stream":false}}"#;
        let found = Shallow::read(body).unwrap();
        assert_eq!(found.model.as_deref(), Some("ab"));
        assert!(found.stream && found.messages_is_array && !found.messages_is_empty);
        for (body, stream) in
            [("{\"stream\":\"true\"}", false), ("{\"stream\":1}", false), ("{\"stream\":false,\"stream\":true}", true)]
        {
            assert_eq!(Shallow::read(body.as_bytes()).unwrap().stream, stream, "{body}");
        }
        for body in
            [r#"{"messages":{"a":1}}"#, r#"{"messages":"x"}"#, r#"{"messages":null}"#, r#"{"messages":1.5}"#, "{}"]
        {
            assert!(!Shallow::read(body.as_bytes()).unwrap().messages_is_array, "{body}");
        }
        assert!(Shallow::read(br#"{"messages":[]}"#).unwrap().messages_is_empty);
        for model in ["1", "null", "{}", "[1]", "true"] {
            assert_eq!(Shallow::read(format!(r#"{{"model":{model}}}"#).as_bytes()).unwrap().model, None);
        }
    }

    #[test]
    fn what_is_no_object_is_refused_and_depth_overflows_no_stack() {
        for body in ["", "[]", "1", "{", "{\"a\":1}x", "\"x\"", "{\"a\":\"\u{1}\"}"] {
            assert!(Shallow::read(body.as_bytes()).is_err(), "{body}");
        }
        // Text that is looked at must be UTF-8; the rest is the upstream's to judge.
        assert!(Shallow::read(b"{\"model\":\"\xff\"}").is_err());
        let deep = format!("{{\"messages\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let worker = std::thread::Builder::new().stack_size(256 * 1024);
        let read = worker.spawn(move || Shallow::read(deep.as_bytes()).is_err()).unwrap();
        // Refused or skipped: either way without recursion that a client could drive.
        read.join().unwrap();
    }
}
