//! What events say: the kinds of events, and what is learned from those that tell of usage. Nothing of lines and pieces here.

use crate::claude::usage::{Usage, text};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How far into the data its type is looked for. The vendor writes it first.
const SKIM_BYTES: usize = 64;

/// An `error` event of the upstream. Both texts are empty if its data could not be read.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StreamError {
    /// `error.type`, such as `overloaded_error`.
    pub kind: String,
    /// `error.message`.
    pub message: String,
}

/// The events as the relay tells them apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Start,
    Delta,
    Stop,
    Error,
    /// One that never tells of usage: content and pings.
    Passed,
    /// A name that the relay does not know: the data says what it is.
    Unknown,
}

impl Kind {
    /// By the name of the event, which is also the `type` of its data.
    pub(super) fn of(name: &[u8]) -> Kind {
        match name {
            b"message_start" => Kind::Start,
            b"message_delta" => Kind::Delta,
            b"message_stop" => Kind::Stop,
            b"error" => Kind::Error,
            b"ping" => Kind::Passed,
            _ if name.starts_with(b"content_block_") => Kind::Passed,
            _ => Kind::Unknown,
        }
    }
}

/// The kind that data gives itself at its start; `None` if it does not show there.
pub(super) fn skim_kind(data: &[u8]) -> Option<Kind> {
    const NAME: &[u8] = b"\"type\"";
    let start = &data[..data.len().min(SKIM_BYTES)];
    let at = start.windows(NAME.len()).position(|window| window == NAME)?;
    let value = start[at + NAME.len()..].trim_ascii_start().strip_prefix(b":")?;
    let value = value.trim_ascii_start().strip_prefix(b"\"")?;
    let length = value.iter().position(|byte| *byte == b'"')?;
    Some(Kind::of(&value[..length]))
}

/// What was learned so far.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) model: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) usage: Usage,
    pub(super) saw_start: bool,
    pub(super) saw_stop: bool,
    pub(super) error: Option<StreamError>,
}

/// An event on the wire; each member is read by itself, so that an odd one costs only itself.
#[derive(Default, Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
    usage: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    usage: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    r#type: Option<&'a RawValue>,
    message: Option<&'a RawValue>,
}

impl Reading {
    /// Takes over what an event says. A name of its own outweighs the type in its data; data that cannot be read leaves
    /// what the name says: the message has ended, or an error has come.
    pub(super) fn take_event(&mut self, kind: Option<Kind>, data: &[u8]) {
        let event: Event<'_> = serde_json::from_slice(data).unwrap_or_default();
        let kind = match kind {
            None | Some(Kind::Unknown) => text(event.r#type).map_or(Kind::Unknown, |name| Kind::of(name.as_bytes())),
            Some(kind) => kind,
        };
        match kind {
            Kind::Start => self.take_start(event.message),
            Kind::Delta => self.take_usage(event.usage),
            Kind::Stop => self.saw_stop = true,
            Kind::Error => self.error = Some(failure(event.error)),
            Kind::Passed | Kind::Unknown => {}
        }
    }

    fn take_start(&mut self, message: Option<&RawValue>) {
        self.saw_start = true;
        let message: Message<'_> =
            message.and_then(|message| serde_json::from_str(message.get()).ok()).unwrap_or_default();
        self.model = text(message.model).or(self.model.take());
        self.message_id = text(message.id).or(self.message_id.take());
        self.take_usage(message.usage);
    }

    fn take_usage(&mut self, usage: Option<&RawValue>) {
        if let Some(usage) = usage {
            self.usage.merge(usage.get());
        }
    }
}

/// Some compatible upstreams give a text in place of the object.
fn failure(error: Option<&RawValue>) -> StreamError {
    match error.and_then(|error| serde_json::from_str::<Failure<'_>>(error.get()).ok()) {
        Some(Failure { r#type, message }) => {
            StreamError { kind: text(r#type).unwrap_or_default(), message: text(message).unwrap_or_default() }
        }
        None => StreamError { kind: String::new(), message: text(error).unwrap_or_default() },
    }
}
