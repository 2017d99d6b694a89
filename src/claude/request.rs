//! A shallow view of a request: the few members that the relay decides by; and the error bodies of the vendor's shape.
//!
//! The body itself is never rebuilt and no tree is made of it: it goes upstream byte for byte. What is wrong inside the
//! members that the relay does not look at is the upstream's to judge.

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// What the relay looks at. Of a member that is there twice the last counts, as in JavaScript's `JSON.parse`.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Shallow<'a> {
    /// The model asked for, if it is text.
    pub model: Option<Cow<'a, str>>,
    /// Where that text stands in the body, quotation marks included.
    pub model_at: Option<Range<usize>>,
    /// Whether the answer is to be a stream: only the boolean `true` says so.
    pub stream: bool,
    /// Whether `stream` is absent or a boolean.
    pub stream_is_boolean: bool,
    /// Whether there is a member `messages`, of whatever kind.
    pub has_messages: bool,
    /// Whether `messages` is an array.
    pub messages_is_array: bool,
    /// Whether that array has no items.
    pub messages_is_empty: bool,
    /// `metadata.user_id`, if it is text.
    pub user_id: Option<Cow<'a, str>>,
    /// `max_tokens`, if it is a whole number that fits.
    pub max_tokens: Option<u64>,
}

/// Why a body is no request: one sentence, with the place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Malformed(pub String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl<'a> Shallow<'a> {
    /// Reads a body in one pass. Depth costs no stack: serde_json passes over values that nobody wants (`IgnoredAny`,
    /// `RawValue`) in a loop, with one byte of memory for each level, so that its limit of 128 levels does not apply.
    ///
    /// # Errors
    /// The body is no JSON object (RFC 8259), or a member that the relay looks at is not UTF-8.
    pub fn read(body: &'a [u8]) -> Result<Shallow<'a>, Malformed> {
        let Members(mut found) = serde_json::from_slice(body).map_err(malformed)?;
        // Text in which an escape is wrong passes as a value and fails as text.
        if let Some(model) = found.model.take().filter(|model| model.get().starts_with('"')) {
            found.shallow.model = Some(as_text(model)?);
            // Borrowed from the body, so its place is the distance of their beginnings.
            let start = model.get().as_ptr().addr() - body.as_ptr().addr();
            found.shallow.model_at = Some(start..start + model.get().len());
        }
        if let Some(metadata) = found.metadata.take().filter(|metadata| metadata.get().starts_with('{')) {
            let Metadata { user_id } = serde_json::from_str(metadata.get()).unwrap_or_default();
            found.shallow.user_id = user_id.and_then(|user_id| as_text(user_id).ok());
        }
        Ok(found.shallow)
    }
}

fn malformed(error: serde_json::Error) -> Malformed {
    Malformed(error.to_string())
}

fn as_text(value: &RawValue) -> Result<Cow<'_, str>, Malformed> {
    let Text(text) = serde_json::from_str(value.get()).map_err(malformed)?;
    Ok(text)
}

/// Text that is borrowed where it has no escapes.
#[derive(Deserialize)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

#[derive(Default, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
}

/// The view in the making, with the members that are looked into once it is known that they are the last of their name.
#[derive(Default)]
struct Found<'a> {
    shallow: Shallow<'a>,
    model: Option<&'a RawValue>,
    metadata: Option<&'a RawValue>,
}

struct Members<'a>(Found<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Found::default();
                found.shallow.stream_is_boolean = true;
                while let Some(Text(name)) = map.next_key()? {
                    take_member(&name, &mut map, &mut found)?;
                }
                Ok(Members(found))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

fn take_member<'de, A: MapAccess<'de>>(name: &str, map: &mut A, found: &mut Found<'de>) -> Result<(), A::Error> {
    match name {
        "model" => found.model = Some(map.next_value()?),
        "metadata" => found.metadata = Some(map.next_value()?),
        "max_tokens" => found.shallow.max_tokens = map.next_value::<&RawValue>()?.get().parse().ok(),
        "stream" => {
            let stream = map.next_value::<&RawValue>()?.get();
            found.shallow.stream = stream == "true";
            found.shallow.stream_is_boolean = matches!(stream, "true" | "false");
        }
        "messages" => {
            let Length(length) = map.next_value()?;
            found.shallow.has_messages = true;
            found.shallow.messages_is_array = length.is_some();
            found.shallow.messages_is_empty = length == Some(0);
        }
        _ => {
            map.next_value::<IgnoredAny>()?;
        }
    }
    Ok(())
}

/// The number of items, if the value is an array.
struct Length(Option<usize>);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        /// Kinds of values that have no items.
        macro_rules! none {
            ($($method:ident: $kind:ty),*) => {
                $(fn $method<E>(self, _: $kind) -> Result<Length, E> { Ok(Length(None)) })*
            };
        }

        impl<'de> Visitor<'de> for Any {
            type Value = Length;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Length, A::Error> {
                let mut length = 0;
                while items.next_element::<IgnoredAny>()?.is_some() {
                    length += 1;
                }
                Ok(Length(Some(length)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Length, A::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Length(None))
            }

            fn visit_unit<E>(self) -> Result<Length, E> {
                Ok(Length(None))
            }

            none!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);
        }
        deserializer.deserialize_any(Any)
    }
}

/// An error body of the vendor's shape (docs.anthropic.com, "Errors"): `{"type":"error","error":{"type":…,"message":…}}`.
pub fn error_json(kind: &str, message: &str) -> Vec<u8> {
    error_text(kind, message).into_bytes()
}

/// An error event of the vendor's shape, for a stream that has begun. It is well-formed only between two events.
pub fn error_event(kind: &str, message: &str) -> Vec<u8> {
    // JSON has no raw line ends, so one `data:` line holds it.
    format!("event: error\ndata: {}\n\n", error_text(kind, message)).into_bytes()
}

fn error_text(kind: &str, message: &str) -> String {
    serde_json::json!({ "type": "error", "error": { "type": kind, "message": message } }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Shallow<'_> {
        Shallow::read(body.as_bytes()).expect(body)
    }

    #[test]
    fn the_few_members_are_found_wherever_they_stand() {
        let found = read(
            r#" {"x":[{"model":"inner"}],"stream":true,"messages":[{"role":"user","content":[1,{"a":null}]},{}],
            "metadata":{"a":[1],"user_id":"user_1"},"model":"a\u0062","max_tokens": 4096 ,"y":{"stream":false}} "#,
        );
        assert_eq!((found.model.as_deref(), found.user_id.as_deref()), (Some("ab"), Some("user_1")));
        assert_eq!((found.stream, found.stream_is_boolean, found.max_tokens), (true, true, Some(4096)));
        assert!(found.has_messages && found.messages_is_array && !found.messages_is_empty);
        let Some(Cow::Borrowed("m")) = read(r#"{"model":"m"}"#).model else {
            panic!("text without escapes is not copied")
        };
    }

    #[test]
    fn members_of_another_kind_are_told_apart_and_never_an_error() {
        for (stream, is_true, is_boolean) in [
            ("true", true, true),
            ("false", false, true),
            ("\"true\"", false, false),
            ("1", false, false),
            ("null", false, false),
            ("[true]", false, false),
        ] {
            let body = format!("{{\"stream\":{stream}}}");
            let found = read(&body);
            assert_eq!((found.stream, found.stream_is_boolean), (is_true, is_boolean), "{stream}");
        }
        for messages in [r#"{"a":1}"#, r#""x""#, r#""\n""#, "null", "1.5", "-1", "true"] {
            let body = format!(r#"{{"messages":{messages}}}"#);
            assert!(read(&body).has_messages && !read(&body).messages_is_array, "{messages}");
        }
        assert!(read(r#"{"messages":[ ]}"#).messages_is_empty);
        let nothing = read("{}");
        assert_eq!(nothing, Shallow { stream_is_boolean: true, ..Shallow::default() });
        for other in ["1", "null", "{}", "[1]", "true", r#"{"user_id":1}"#, r#"{"user_id":null}"#, "1e999"] {
            let body = format!(r#"{{"model":{other},"metadata":{other},"max_tokens":{other}}}"#);
            let found = read(&body);
            assert_eq!((found.model, found.user_id), (None, None), "{other}");
        }
    }

    #[test]
    fn of_two_members_the_last_counts() {
        let found = read(
            r#"{"model":"a","stream":true,"messages":[],"metadata":{"user_id":"u"},"max_tokens":1,
            "model":"b","stream":false,"messages":[1],"metadata":null,"max_tokens":2}"#,
        );
        assert_eq!((found.model.as_deref(), found.stream, found.max_tokens), (Some("b"), false, Some(2)));
        assert_eq!((found.messages_is_empty, found.user_id), (false, None));
        assert_eq!(read(r#"{"model":"a","model":1}"#).model, None);
        let body = r#"{"model":"a","x":1, "model" : "b\u0063" }"#;
        assert_eq!(body.get(read(body).model_at.unwrap()), Some(r#""b\u0063""#));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in [
            "",
            "[]",
            "1",
            "null",
            "{",
            "{\"a\":1}x",
            "\"x\"",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":1,}",
            "{\"model\":\"\\ud800\"}",
        ] {
            assert!(Shallow::read(body.as_bytes()).is_err(), "{body}");
        }
        // Text that is looked at must be UTF-8; the rest is the upstream's to judge.
        assert!(Shallow::read(b"{\"model\":\"\xff\"}").is_err());
        assert!(Shallow::read(b"{\"messages\":[\"\xff\"]}").is_ok());
    }

    #[test]
    fn depth_overflows_no_stack() {
        for member in ["messages", "model", "metadata", "stream", "max_tokens", "other"] {
            for open in ["[", "{\"a\":"] {
                let close = if open == "[" { "]" } else { "}" };
                let depth = 300_000;
                let deep = format!("{{\"{member}\":{}1{}}}", open.repeat(depth), close.repeat(depth));
                let worker = std::thread::Builder::new().stack_size(128 * 1024);
                let read = worker.spawn(move || Shallow::read(deep.as_bytes()).is_ok()).unwrap();
                assert!(read.join().unwrap(), "{member}");
            }
        }
    }

    #[test]
    fn errors_have_the_vendors_shape() {
        let json = r#"{"type":"error","error":{"type":"api_error","message":"a\n\"b\" é"}}"#;
        assert_eq!(error_json("api_error", "a\n\"b\" é"), json.as_bytes());
        assert_eq!(error_event("api_error", "a\n\"b\" é"), format!("event: error\ndata: {json}\n\n").as_bytes());
    }
}
