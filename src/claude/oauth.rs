//! OAuth 2.0 messages (RFC 6749) as values: what is sent to the token endpoint and what its answer means.

use serde::Deserialize;

/// The public client that subscription sign-ins are made for.
pub const CLIENT_ID: &str = "9d1c250a-e61b-44d9-88ed-5944d1962f5e";

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
}
