//! Notices: what an admin is told of through a webhook, and how it is written and signed. Nothing here sends anything.

use super::secret::{Sensitive, sign};
use super::time::iso;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

/// The longest text for a chat, in characters.
const TEXT_CHARS_MAX: usize = 1000;

/// What can be told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Happening {
    /// An account rests as a whole, or is stopped.
    AccountDown,
    /// It serves again.
    AccountRecovered,
    /// Its tokens were not refreshed.
    RefreshFailed,
    /// A key has spent a budget, or used its window up.
    BudgetReached,
    /// A model was used that has no price.
    ModelUnpriced,
    /// An admin tries the webhook.
    Test,
}

impl Happening {
    /// Those that can be chosen, in the order of their names' subjects.
    pub const CHOICE: [Happening; 5] = [
        Happening::AccountDown,
        Happening::AccountRecovered,
        Happening::RefreshFailed,
        Happening::BudgetReached,
        Happening::ModelUnpriced,
    ];

    /// The name used in settings and in what is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Happening::AccountDown => "account.down",
            Happening::AccountRecovered => "account.recovered",
            Happening::RefreshFailed => "account.refresh_failed",
            Happening::BudgetReached => "key.budget_reached",
            Happening::ModelUnpriced => "model.unpriced",
            Happening::Test => "test",
        }
    }

    /// Reads a comma-separated list of names, or `all`. `None` when it is none.
    pub fn parse_list(text: &str) -> Option<Vec<Happening>> {
        if text == "all" {
            return Some(Happening::CHOICE.to_vec());
        }
        let find = |name: &str| Happening::CHOICE.into_iter().find(|choice| choice.as_str() == name.trim());
        let named: Vec<Happening> = text.split(',').map(find).collect::<Option<_>>()?;
        Some(Happening::CHOICE.into_iter().filter(|choice| named.contains(choice)).collect())
    }
}

/// In whose form it is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preset {
    /// JSON for a program.
    #[default]
    Generic,
    /// Slack's incoming webhooks, which others understand, too.
    Slack,
    /// A bot of Feishu or Lark.
    Feishu,
}

impl Preset {
    /// The name used in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Preset::Generic => "generic",
            Preset::Slack => "slack",
            Preset::Feishu => "feishu",
        }
    }

    /// Reads the name used in settings.
    pub fn parse(name: &str) -> Option<Preset> {
        [Preset::Generic, Preset::Slack, Preset::Feishu].into_iter().find(|preset| preset.as_str() == name)
    }
}

/// Something to be told.
#[derive(Clone, Debug)]
pub struct Notice {
    /// What.
    pub event: Happening,
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Id and name of the account that it is about.
    pub account: Option<(String, String)>,
    /// Id and name of the key that it is about.
    pub key: Option<(String, String)>,
    /// The model that it is about.
    pub model: Option<String>,
    /// An object of members that belong to the event.
    pub details: Value,
    /// In words.
    pub message: String,
}

/// Where notices go. Its address and its secret are secrets.
#[derive(Clone, Debug)]
pub struct Hook {
    /// http or https.
    pub url: Sensitive,
    /// What is signed with.
    pub secret: Option<Sensitive>,
    /// The form.
    pub preset: Preset,
    /// What is told.
    pub events: Vec<Happening>,
    /// What this relay is called.
    pub relay: String,
}

impl Hook {
    /// Whether an event is told.
    pub fn wants(&self, event: Happening) -> bool {
        event == Happening::Test || self.events.contains(&event)
    }

    /// The body to send at an instant, Unix seconds.
    pub fn body(&self, notice: &Notice, at_s: i64) -> Vec<u8> {
        let named =
            |named: &Option<(String, String)>| named.as_ref().map(|(id, name)| json!({ "id": id, "name": name }));
        let body = match self.preset {
            Preset::Generic => json!({
                "event": notice.event.as_str(),
                "at": iso(notice.at_ms),
                "relay": self.relay,
                "account": named(&notice.account),
                "key": named(&notice.key),
                "model": notice.model,
                "details": notice.details,
                "message": notice.message,
            }),
            // A name must not call a whole channel.
            Preset::Slack => {
                let text = self.text(notice).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                json!({ "text": text })
            }
            Preset::Feishu => {
                let text = self.text(notice).replace('<', "＜");
                let mut body = json!({ "msg_type": "text", "content": { "text": text } });
                if let Some(secret) = &self.secret {
                    // Feishu's own rule: the key is the text, and nothing is signed with it.
                    let key = format!("{at_s}\n{}", secret.expose());
                    body["timestamp"] = json!(at_s.to_string());
                    body["sign"] = json!(STANDARD.encode(sign(key.as_bytes(), b"")));
                }
                body
            }
        };
        body.to_string().into_bytes()
    }

    /// `X-Relay-Signature` of a body sent at an instant, Unix seconds; `None` without a secret.
    pub fn signature(&self, body: &[u8], at_s: i64) -> Option<String> {
        let secret = self.secret.as_ref()?;
        let signed = [format!("{at_s}.").as_bytes(), body].concat();
        Some(format!("t={at_s},v1={}", hex::encode(sign(secret.expose().as_bytes(), &signed))))
    }

    /// Whether the answer says that the notice was taken; else what it says instead.
    ///
    /// # Errors
    /// What is wrong, for the admin.
    pub fn judge(&self, status: u16, body: &[u8]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct Said {
            code: Option<i64>,
        }
        if !(200..300).contains(&status) {
            return Err(format!("The webhook answered with status {status}"));
        }
        let said: Option<Said> = serde_json::from_slice(body).ok();
        match said.and_then(|said| said.code).filter(|code| self.preset == Preset::Feishu && *code != 0) {
            Some(code) => Err(format!("The webhook answered with code {code}")),
            None => Ok(()),
        }
    }

    fn text(&self, notice: &Notice) -> String {
        let text = format!("[{}] {}", self.relay, notice.message);
        text.chars().filter(|letter| !letter.is_control()).take(TEXT_CHARS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(preset: Preset, secret: Option<&str>) -> Hook {
        let secret = secret.map(|secret| Sensitive::new(secret.to_owned()));
        let url = Sensitive::new("http://x/".into());
        Hook { url, secret, preset, events: vec![Happening::AccountDown], relay: "Home".into() }
    }

    fn notice() -> Notice {
        let account = Some(("id-1".to_owned(), "a<!channel>&".to_owned()));
        let message = "Account \"a<!channel>&\" rests".to_owned();
        let details = json!({});
        Notice { event: Happening::AccountDown, at_ms: 0, account, key: None, model: None, details, message }
    }

    #[test]
    fn each_form_is_written_as_its_readers_want_it() {
        let read = |hook: Hook| -> Value { serde_json::from_slice(&hook.body(&notice(), 1_700_000_000)).unwrap() };
        let generic = read(hook(Preset::Generic, Some("secret-1")));
        assert_eq!((&generic["event"], &generic["account"]["name"]), (&json!("account.down"), &json!("a<!channel>&")));
        assert_eq!((&generic["key"], &generic["at"]), (&Value::Null, &json!("1970-01-01T00:00:00.000Z")));
        let slack = read(hook(Preset::Slack, None));
        assert_eq!(slack, json!({ "text": "[Home] Account \"a&lt;!channel&gt;&amp;\" rests" }));
        let feishu = read(hook(Preset::Feishu, None));
        assert_eq!(feishu["content"]["text"], "[Home] Account \"a＜!channel>&\" rests");
        assert_eq!(feishu.get("sign"), None);
        let signed = read(hook(Preset::Feishu, Some("demo")));
        assert_eq!((&signed["timestamp"], signed["sign"].as_str().unwrap().len()), (&json!("1700000000"), 44));
    }

    #[test]
    fn signatures_are_those_of_the_published_vectors() {
        // RFC 4231, test cases 2 and 6: a short key, and one that is longer than the hash's block.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(sign(b"Jefe", b"what do ya want for nothing?")), expected);
        let expected = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(
            hex::encode(sign(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First")),
            expected
        );
        assert_eq!(hook(Preset::Generic, None).signature(b"x", 5), None);
        let signed = hook(Preset::Generic, Some("Jefe")).signature(b"x", 5).unwrap();
        assert_eq!(signed, format!("t=5,v1={}", hex::encode(sign(b"Jefe", b"5.x"))));
    }

    #[test]
    fn answers_are_judged_by_status_and_by_feishus_code() {
        let (generic, feishu) = (hook(Preset::Generic, None), hook(Preset::Feishu, None));
        assert!(generic.judge(204, b"").is_ok() && generic.judge(200, br#"{"code":9}"#).is_ok());
        assert!(generic.judge(302, b"").is_err() && generic.judge(500, b"").is_err());
        assert!(feishu.judge(200, br#"{"code":0}"#).is_ok() && feishu.judge(200, br#"{"code":19021}"#).is_err());
    }

    #[test]
    fn names_are_read_back() {
        assert_eq!(Happening::parse_list("all").unwrap().len(), 5);
        let some = Happening::parse_list("model.unpriced, account.down").unwrap();
        assert_eq!(some, [Happening::AccountDown, Happening::ModelUnpriced]);
        for wrong in ["", "test", "account.down,", "x"] {
            assert_eq!(Happening::parse_list(wrong), None, "{wrong}");
        }
        for preset in [Preset::Generic, Preset::Slack, Preset::Feishu] {
            assert_eq!(Preset::parse(preset.as_str()), Some(preset));
        }
        assert!(
            hook(Preset::Slack, None).wants(Happening::Test)
                && !hook(Preset::Slack, None).wants(Happening::ModelUnpriced)
        );
    }
}
