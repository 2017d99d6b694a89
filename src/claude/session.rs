//! Which conversation a request belongs to, so that it can stay with one account.
//!
//! In order: the session id of the header, the one inside `metadata.user_id`, a hash of what a conversation begins with. All
//! of it is the client's word, so it only ever counts together with the client's own key.

use super::request::Text;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::borrow::Cow;

/// Text of a conversation's beginning that is hashed, in bytes.
const TEXT_BYTES_MAX: usize = 64 * 1024;
/// The longest session id that is one, in bytes.
const ID_BYTES_MAX: usize = 256;
/// The first words of a block that Claude Code puts before the system prompt; it differs from version to version.
const ATTRIBUTION: &str = "x-anthropic-billing-header:";

/// A conversation of one key, as a hash: nothing of what a client sends is kept.
pub type Conversation = [u8; 16];

/// The conversation that a request of a key belongs to. `header` is `X-Claude-Code-Session-Id`, `user_id` is that of the
/// body's `metadata`. `None` when the request has nothing to tell it by. The body is read only if neither says anything.
pub fn conversation(key_seq: i64, header: Option<&[u8]>, user_id: Option<&str>, body: &[u8]) -> Option<Conversation> {
    let mut hasher = Sha256::new();
    hasher.update(key_seq.to_be_bytes());
    let header = header.map(<[u8]>::trim_ascii).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX);
    if let Some(id) = header {
        hasher.update(id);
    } else if let Some(id) = user_id.and_then(session_id) {
        hasher.update(id.as_bytes());
    } else {
        hasher.update([0]);
        if !hash_beginning(&mut hasher, body) {
            return None;
        }
    }
    let mut conversation = Conversation::default();
    conversation.copy_from_slice(&hasher.finalize()[..16]);
    Some(conversation)
}

/// The session inside `metadata.user_id`: `user_…_account_…_session_<id>`, or since Claude Code 2.1.78 JSON text with
/// `session_id`.
fn session_id(user_id: &str) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Parts<'a> {
        #[serde(borrow)]
        session_id: Cow<'a, str>,
    }
    let id = match user_id.trim_start().starts_with('{') {
        true => serde_json::from_str::<Parts<'_>>(user_id).ok()?.session_id,
        false => Cow::Borrowed(user_id.rsplit_once("_session_")?.1),
    };
    Some(id).filter(|id| !id.is_empty() && id.len() <= ID_BYTES_MAX)
}

/// What a conversation begins with.
#[derive(Deserialize)]
struct Beginning<'a> {
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<First<'a>>,
}

/// The first item of an array; the others are passed over.
struct First<'a>(Option<Message<'a>>);

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl<'de: 'a, 'a> Deserialize<'de> for First<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = First<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<First<'de>, A::Error> {
                let first = items.next_element::<Option<Message<'de>>>()?.flatten();
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

/// Hashes the texts of the system prompt and of the first message, which stay the same from turn to turn whatever marks of
/// caching move behind them. Gives back whether there was any text.
fn hash_beginning(hasher: &mut Sha256, body: &[u8]) -> bool {
    let Ok(beginning) = serde_json::from_slice::<Beginning<'_>>(body) else { return false };
    let mut left = TEXT_BYTES_MAX;
    let content = beginning.messages.and_then(|First(message)| message?.content);
    for texts in [beginning.system, content].into_iter().flatten() {
        hash_texts(hasher, texts, &mut left);
    }
    left < TEXT_BYTES_MAX
}

/// Hashes text, or the texts of an array of blocks.
fn hash_texts(hasher: &mut Sha256, value: &RawValue, left: &mut usize) {
    #[derive(Deserialize)]
    struct Block<'a> {
        #[serde(borrow)]
        text: Option<&'a RawValue>,
    }
    let mut update = |text: &RawValue| {
        let Ok(Text(text)) = serde_json::from_str(text.get()) else { return };
        if text.starts_with(ATTRIBUTION) {
            return;
        }
        let part = &text.as_bytes()[..text.len().min(*left)];
        hasher.update(part);
        *left -= part.len();
    };
    if value.get().starts_with('"') {
        update(value);
    } else if let Ok(blocks) = serde_json::from_str::<Vec<Option<Block<'_>>>>(value.get()) {
        blocks.iter().flatten().filter_map(|block| block.text).for_each(update);
    }
}

/// Whether a conversation's history holds thinking of the model, which is valid only with the account that it was made
/// with. Read off the raw bytes: a quotation mark inside a text is written with a backslash, so these are members' names
/// and values. A member of the same name elsewhere makes this say yes too often, which costs a short wait.
pub fn has_thinking(body: &[u8]) -> bool {
    let holds = |word: &[u8]| body.windows(word.len() + 1).any(|part| part[1..] == *word && part[0] != b'\\');
    holds(b"\"signature\"") || holds(b"\"redacted_thinking\"")
}

#[cfg(test)]
mod tests {
    use super::super::request::Shallow;
    use super::*;

    fn of(key_seq: i64, header: Option<&str>, body: &str) -> Option<Conversation> {
        let shallow = Shallow::read(body.as_bytes()).unwrap();
        conversation(key_seq, header.map(str::as_bytes), shallow.user_id.as_deref(), body.as_bytes())
    }

    #[test]
    fn a_session_id_tells_conversations_apart_and_keys_never_share_one() {
        let by_header = of(1, Some("s-1"), "{}").unwrap();
        assert_eq!(of(1, Some(" s-1 "), r#"{"messages":[{"content":"x"}]}"#), Some(by_header));
        assert_ne!(of(1, Some("s-2"), "{}"), Some(by_header));
        assert_ne!(of(2, Some("s-1"), "{}"), Some(by_header));
        let old = r#"{"metadata":{"user_id":"user_ab_account_cd_session_s-1"}}"#;
        let new = r#"{"metadata":{"user_id":"{\"device_id\":\"d\",\"account_uuid\":\"\",\"session_id\":\"s-1\"}"}}"#;
        assert_eq!((of(1, None, old), of(1, None, new)), (Some(by_header), Some(by_header)));
        for nothing in [
            "{}",
            r#"{"metadata":{"user_id":"somebody"}}"#,
            r#"{"metadata":{"user_id":"{\"session_id\":7}"}}"#,
            r#"{"metadata":{"user_id":"a_session_"},"messages":[null],"system":7}"#,
            r#"{"messages":[{"content":[null,{"text":9},{}]}],"system":[{"text":"x-anthropic-billing-header: v1"}]}"#,
        ] {
            assert_eq!(of(1, None, nothing), None, "{nothing}");
        }
    }

    #[test]
    fn what_a_conversation_begins_with_stays_the_same_while_it_grows() {
        let turn = |system: &str, marked: &str, more: &str| {
            format!(
                r#"{{"system":[{{"type":"text","text":"x-anthropic-billing-header: {system}"}},{{"type":"text","text":"You help."{marked}}}],
                "messages":[{{"role":"user","content":[{{"type":"text","text":"hi"}}]}}{more}]}}"#
            )
        };
        let first = of(1, None, &turn("v1", r#","cache_control":{"type":"ephemeral"}"#, ""));
        let second =
            of(1, None, &turn("v2", "", r#",{"role":"assistant","content":"yes"},{"role":"user","content":"go on"}"#));
        assert!(first.is_some());
        assert_eq!(first, second);
        assert_ne!(first, of(1, None, r#"{"system":"You help.","messages":[{"content":"ho"}]}"#));
        assert_eq!(first, of(1, None, r#"{"system":"You help.","messages":[{"content":"hi"}]}"#));
    }

    #[test]
    fn thinking_is_seen_in_members_and_not_in_texts() {
        for (messages, expected) in [
            (r#"[{"content":[{"type":"thinking","thinking":"x","signature":"abc"}]}]"#, true),
            (r#"[{"content":[{"type": "redacted_thinking","data":"abc"}]}]"#, true),
            (r#"[{"content":"the \"signature\" of a \"redacted_thinking\" block"}]"#, false),
            (r#"[{"content":"thinking"}]"#, false),
        ] {
            assert_eq!(has_thinking(messages.as_bytes()), expected, "{messages}");
        }
    }
}
