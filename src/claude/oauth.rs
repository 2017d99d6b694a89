//! OAuth 2.0 messages (RFC 6749) as values: what is sent to the token endpoint and what its answer means.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use subtle::ConstantTimeEq;

/// The public client that subscription sign-ins are made for.
pub const CLIENT_ID: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";
/// Where the vendor shows the code that the admin copies; the client is registered with this address.
pub const REDIRECT_URI: &str = "https://platform.claude.com/oauth/code/callback";
/// What a sign-in asks for.
pub const SCOPES: &str = "org:create_api_key user:profile user:inference";
/// What was granted when the answer does not say.
pub const DEFAULT_SCOPES: [&str; 2] = ["user:inference", "user:profile"];
/// Shortest and longest code that can be one, in characters.
const CODE_LENGTH_MIN: usize = 10;
const CODE_LENGTH_MAX: usize = 4096;
/// The shortest text behind a URL's `#` that can be a state; those made here have 64 characters.
const STATE_LENGTH_MIN: usize = 32;
/// The most of a refusal's own words that is passed on, in characters.
const REFUSAL_CHARACTERS_MAX: usize = 300;

/// The S256 challenge of a PKCE verifier (RFC 7636 section 4.2).
pub fn challenge(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()))
}

/// The address that the admin's browser opens, its parameters in the original's order.
pub fn authorize_url(endpoint: &str, challenge: &str, state: &str) -> String {
    let mut url = endpoint.to_owned();
    let mut joint = if endpoint.contains('?') { '&' } else { '?' };
    for (name, value) in [
        ("code", "true"),
        ("client_id", CLIENT_ID),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT_URI),
        ("scope", SCOPES),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
        ("state", state),
    ] {
        url.push(joint);
        url.push_str(name);
        url.push('=');
        form_encode(&mut url, value);
        joint = '&';
    }
    url
}

/// The URL standard's form encoding: a blank is a plus sign.
fn form_encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => out.push(char::from(byte)),
            b' ' => out.push('+'),
            // Writing into a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// The reverse of [`form_encode`]; a percent sign that begins nothing stays as it is, as browsers read it.
fn form_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digit = |at: usize| tail.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        rest = tail;
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = &tail[2..];
            }
            (b'+', ..) => bytes.push(b' '),
            _ => bytes.push(first),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the admin pasted, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pasted {
    /// The authorization code.
    pub code: String,
    /// The state, where it came along.
    pub state: Option<String>,
}

impl Pasted {
    /// Whether the state that came along, if one did, is that of the sign-in (RFC 6749 section 10.12). Takes as long
    /// wherever the two differ.
    pub fn fits(&self, state: &str) -> bool {
        self.state.as_ref().is_none_or(|pasted| pasted.as_bytes().ct_eq(state.as_bytes()).into())
    }
}

/// Why a pasted text is no code.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreadable {
    /// Nothing was pasted.
    Empty,
    /// A URL without a code.
    UrlWithoutCode,
    /// Not a URL, though it begins like one.
    BadUrl,
    /// Too short or too long to be a code.
    Length,
    /// A code holds none of these characters.
    Characters,
}

/// Reads what was pasted: the whole callback URL, `code#state`, `code&state=…`, or the code alone.
///
/// # Errors
/// Why it is no code.
pub fn read_pasted(text: &str) -> Result<Pasted, Unreadable> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Unreadable::Empty);
    }
    if let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) {
        return read_callback_url(rest);
    }
    let end = text.find(['#', '&']).unwrap_or(text.len());
    let (code, rest) = text.split_at(end);
    if !(CODE_LENGTH_MIN..=CODE_LENGTH_MAX).contains(&code.chars().count()) {
        return Err(Unreadable::Length);
    }
    if !code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Err(Unreadable::Characters);
    }
    let state = match rest.strip_prefix('#') {
        Some(fragment) => {
            let first = fragment.split('&').next().unwrap_or_default();
            Some(first.strip_prefix("state=").unwrap_or(first).to_owned())
        }
        None => parameter(rest, "state"),
    };
    Ok(Pasted { code: code.to_owned(), state: state.filter(|state| !state.is_empty()) })
}

/// `rest` is what follows the scheme.
fn read_callback_url(rest: &str) -> Result<Pasted, Unreadable> {
    let (address, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let is_shown_code = !fragment.contains(['=', '&']) && fragment.len() >= STATE_LENGTH_MIN;
    let (place, query) = address.split_once('?').unwrap_or((address, ""));
    let host = place.split('/').next().unwrap_or_default();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || host.starts_with(':') || !host.bytes().all(is_host) || rest.contains(char::is_whitespace) {
        return Err(Unreadable::BadUrl);
    }
    let code = parameter(query, "code").filter(|code| !code.is_empty()).ok_or(Unreadable::UrlWithoutCode)?;
    if code.chars().count() > CODE_LENGTH_MAX {
        return Err(Unreadable::Length);
    }
    if code.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(Unreadable::Characters);
    }
    // The vendor's page shows `code#state`, and some paste the URL with that in it. Any other fragment means nothing.
    let state = parameter(query, "state").or_else(|| is_shown_code.then(|| fragment.to_owned()));
    Ok(Pasted { code, state: state.filter(|state| !state.is_empty()) })
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| form_decode(value))
}

/// The body that exchanges a code for tokens (RFC 6749 section 4.1.3, RFC 7636 section 4.5), as JSON.
pub fn exchange_request(code: &str, verifier: &str, state: &str) -> Vec<u8> {
    serde_json::json!({
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "code": code,
        "redirect_uri": REDIRECT_URI,
        "code_verifier": verifier,
        "state": state,
    })
    .to_string()
    .into_bytes()
}

/// A refusal of the token endpoint in its own words: `HTTP <status>: <error> - <description>` as far as it says so, else
/// what it said. Shortened, and without any of `secrets`, which it may quote.
pub fn refusal(status: u16, body: &[u8], secrets: &[&str]) -> String {
    let body = String::from_utf8_lossy(body);
    let mut said = match serde_json::from_str::<serde_json::Value>(&body) {
        Ok(value) => refusal_of_json(&value).unwrap_or_else(|| value.to_string()),
        Err(_) => body.trim().to_owned(),
    };
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        said = said.replace(secret, "***");
    }
    let said: String = said.chars().filter(|c| !c.is_control()).take(REFUSAL_CHARACTERS_MAX).collect();
    if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") }
}

/// `error` and `error_description` as RFC 6749 section 5.2 has them, or `type` and `message` inside `error`.
fn refusal_of_json(value: &serde_json::Value) -> Option<String> {
    let error = value.get("error").filter(|error| !error.is_null())?;
    let text = |of: &serde_json::Value, name: &str| of.get(name).and_then(|text| text.as_str()).map(str::to_owned);
    let (code, description) = match error.as_str() {
        Some(code) => (code.to_owned(), text(value, "error_description")),
        None => (text(error, "type").unwrap_or_else(|| error.to_string()), text(error, "message")),
    };
    Some(match description.filter(|description| !description.is_empty()) {
        Some(description) => format!("{code} - {description}"),
        None => code,
    })
}

/// What a token endpoint grants (RFC 6749 section 5.1).
#[derive(Debug, Eq, PartialEq)]
pub struct Grant {
    /// Access token.
    pub access_token: String,
    /// Refresh token, if it was rotated.
    pub refresh_token: Option<String>,
    /// Life of the access token, seconds.
    pub expires_in_s: Option<i64>,
    /// Scopes, if the answer names them.
    pub scopes: Vec<String>,
}

/// Why a token endpoint granted nothing.
#[derive(Debug, Eq, PartialEq)]
pub enum Denial {
    /// The refresh token is spent or revoked (`invalid_grant`, RFC 6749 section 5.2): only a new sign-in helps.
    InvalidGrant,
    /// Anything else, which may pass: the status, and the endpoint's own error code if it gave one.
    Other(String),
}

/// The body of a refresh (RFC 6749 section 6), as JSON, which is what this endpoint takes.
pub fn refresh_request(refresh_token: &str) -> Vec<u8> {
    serde_json::json!({
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": CLIENT_ID,
    })
    .to_string()
    .into_bytes()
}

/// Reads the token endpoint's answer.
///
/// # Errors
/// What was denied, in words that hold no token.
pub fn read_grant(status: u16, body: &[u8]) -> Result<Grant, Denial> {
    #[derive(Deserialize)]
    struct Granted {
        access_token: String,
        #[serde(default)]
        refresh_token: Option<String>,
        #[serde(default)]
        expires_in: Option<i64>,
        #[serde(default)]
        scope: Option<String>,
    }
    if status == 200 {
        let granted: Granted = serde_json::from_slice(body)
            .map_err(|_| Denial::Other("the token endpoint's answer holds no access token".to_owned()))?;
        return Ok(Grant {
            access_token: granted.access_token,
            refresh_token: granted.refresh_token.filter(|token| !token.is_empty()),
            expires_in_s: granted.expires_in,
            scopes: granted.scope.unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        });
    }
    match error_code(body) {
        Some(code) if code == "invalid_grant" => Err(Denial::InvalidGrant),
        Some(code) => Err(Denial::Other(format!("HTTP {status}: {code}"))),
        None => Err(Denial::Other(format!("HTTP {status}"))),
    }
}

/// The `error` member as RFC 6749 writes it, or the `type` inside it as the vendor's API does.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Code {
        Plain(String),
        Nested { r#type: String },
    }
    #[derive(Deserialize)]
    struct Refused {
        error: Code,
    }
    let refused: Refused = serde_json::from_slice(body).ok()?;
    let code = match refused.error {
        Code::Plain(code) | Code::Nested { r#type: code } => code,
    };
    // The code is a token of RFC 6749; anything longer is no code and may quote the request.
    (code.len() <= 64).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_token_endpoint_are_told_apart() {
        let granted = read_grant(
            200,
            br#"{"access_token":"a","refresh_token":"","expires_in":28800,"scope":"user:inference user:profile"}"#,
        )
        .expect("granted");
        assert_eq!(granted.refresh_token, None, "an empty refresh token keeps the old one");
        assert_eq!(granted.scopes.len(), 2);
        let denied = |status, body: &str| read_grant(status, body.as_bytes()).expect_err(body);
        assert_eq!(denied(400, r#"{"error":"invalid_grant"}"#), Denial::InvalidGrant);
        assert_eq!(denied(400, r#"{"error":{"type":"invalid_grant"}}"#), Denial::InvalidGrant);
        assert_eq!(denied(500, "oops"), Denial::Other("HTTP 500".into()));
        assert!(matches!(denied(200, "{}"), Denial::Other(_)));
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        // RFC 7636 appendix B.
        assert_eq!(
            challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
        );
        assert_eq!(
            authorize_url("https://claude.ai/oauth/authorize", "ch", "st"),
            "https://claude.ai/oauth/authorize?code=true&client_id=9d1c250a-e61b-44d9-88ed-5944d1962f5e\
             &response_type=code&redirect_uri=https%3A%2F%2Fplatform.claude.com%2Foauth%2Fcode%2Fcallback\
             &scope=org%3Acreate_api_key+user%3Aprofile+user%3Ainference&code_challenge=ch\
             &code_challenge_method=S256&state=st"
        );
        assert!(authorize_url("http://h/a?x=1", "c", "s").starts_with("http://h/a?x=1&code=true"));
    }

    #[test]
    fn every_form_of_a_pasted_code_is_read() {
        for (text, code, state) in [
            ("abcDEF_-12345", "abcDEF_-12345", None),
            ("  abcDEF_-12345\n", "abcDEF_-12345", None),
            ("abcDEF_-12345#st", "abcDEF_-12345", Some("st")),
            ("abcDEF_-12345#state=st&x=1", "abcDEF_-12345", Some("st")),
            ("abcDEF_-12345#", "abcDEF_-12345", None),
            ("abcDEF_-12345&state=s%20t", "abcDEF_-12345", Some("s t")),
            ("abcDEF_-12345&scope=x", "abcDEF_-12345", None),
            ("abcDEF_-12345&x#y", "abcDEF_-12345", None),
            ("https://h/cb?code=c1&state=st", "c1", Some("st")),
            ("http://h:1/cb?state=st&code=c%2B1", "c+1", Some("st")),
            ("https://h/cb?code=c1#0123456789abcdef0123456789abcdef", "c1", Some("0123456789abcdef0123456789abcdef")),
            ("https://h/cb?code=c1#frag", "c1", None),
            ("https://h/cb?code=c1#a=0123456789abcdef0123456789abcdef", "c1", None),
            ("https://h?code=c1", "c1", None),
            ("https://h?code=%zz%e4", "%zz\u{fffd}", None),
        ] {
            let pasted = read_pasted(text).expect(text);
            assert_eq!((pasted.code.as_str(), pasted.state.as_deref()), (code, state), "{text}");
        }
        for (text, expected) in [
            ("", Unreadable::Empty),
            ("  ", Unreadable::Empty),
            ("abc", Unreadable::Length),
            ("abc#0123456789", Unreadable::Length),
            ("授权码授权码", Unreadable::Length),
            ("abc def!! 0123456789", Unreadable::Characters),
            ("授权码授权码授权码授权码", Unreadable::Characters),
            ("http://", Unreadable::BadUrl),
            ("https:///cb?code=c", Unreadable::BadUrl),
            ("https://a b/?code=c", Unreadable::BadUrl),
            ("https://h/cb?state=1", Unreadable::UrlWithoutCode),
            ("https://h/cb?code=", Unreadable::UrlWithoutCode),
            ("https://h/cb?code=a%0ab", Unreadable::Characters),
        ] {
            assert_eq!(read_pasted(text), Err(expected), "{text}");
        }
        assert_eq!(read_pasted(&"a".repeat(5000)), Err(Unreadable::Length));
    }

    #[test]
    fn a_state_that_came_along_must_be_the_right_one() {
        let pasted = |state: Option<&str>| Pasted { code: "c".into(), state: state.map(str::to_owned) };
        for (state, fits) in [(None, true), (Some("st"), true), (Some("s"), false), (Some("sx"), false)] {
            assert_eq!(pasted(state).fits("st"), fits, "{state:?}");
        }
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words_without_secrets() {
        for (body, expected) in [
            (r#"{"error":"invalid_grant","error_description":"bad CODE"}"#, "HTTP 400: invalid_grant - bad ***"),
            (r#"{"error":"invalid_grant"}"#, "HTTP 400: invalid_grant"),
            (r#"{"error":{"type":"t","message":"m"}}"#, "HTTP 400: t - m"),
            (r#"{"error":{"x":1}}"#, r#"HTTP 400: {"x":1}"#),
            (
                r#"{"type":"error","message":"forbidden by policy"}"#,
                r#"HTTP 400: {"type":"error","message":"forbidden by policy"}"#,
            ),
            ("plain words", "HTTP 400: plain words"),
            ("", "HTTP 400"),
        ] {
            assert_eq!(refusal(400, body.as_bytes(), &["CODE", ""]), expected);
        }
        assert!(refusal(400, "x".repeat(9999).as_bytes(), &[]).len() < 400);
    }
}
