//! The admin's guard. An [`Admin`] exists only as the proof of a session that a login has made and that is still alive.

use super::call::Answer;
use super::dialect::plain;
use super::{SECURITY_LOG, Server};
use crate::http::Head;
use crate::model::time::now_ms;
use crate::store::Session;

/// Lengths a token may have; what is outside is not looked up.
const TOKEN_LENGTH_MIN: usize = 32;
const TOKEN_LENGTH_MAX: usize = 512;
/// A session ends this many times its idle bound after its login, however busy it is.
pub(super) const ABSOLUTE_LIFE_FACTOR: i64 = 30;
/// A session's last use is written at most this often.
const TOUCH_EVERY_MS: i64 = 60_000;

/// Proof that the admin is calling.
pub(crate) struct Admin {
    /// Who it is.
    pub(crate) username: String,
}

/// A token, and whether the browser added it by itself.
struct Token {
    text: String,
    is_cookie: bool,
}

/// The token of a request: `Authorization`, else the cookie `adminToken`, else `X-Admin-Token`.
fn token(head: &Head) -> Option<Token> {
    let field = |name: &str| head.header(name).and_then(|value| std::str::from_utf8(value).ok());
    let bearer = field("authorization").map(without_bearer).filter(|text| !text.is_empty());
    if let Some(text) = bearer {
        return Some(Token { text: text.to_owned(), is_cookie: false });
    }
    if let Some(text) = field("cookie").and_then(admin_cookie) {
        return Some(Token { text: text.to_owned(), is_cookie: true });
    }
    let text = field("x-admin-token").map(str::trim).filter(|text| !text.is_empty())?;
    Some(Token { text: text.to_owned(), is_cookie: false })
}

fn admin_cookie(cookies: &str) -> Option<&str> {
    let pairs = cookies.split(';').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, value)| *name == "adminToken" && !value.is_empty())
        .map(|(_, value)| value)
}

/// The credential of an `Authorization` field: `Bearer` in any case is removed, a bare token is accepted.
pub(crate) fn without_bearer(value: &str) -> &str {
    let value = value.trim();
    match value.get(..6) {
        Some(scheme) if scheme.eq_ignore_ascii_case("bearer") => match value.as_bytes().get(6) {
            None => "",
            Some(b' ' | b'\t') => value[6..].trim(),
            Some(_) => value,
        },
        _ => value,
    }
}

/// The token a `/web/auth` route is called with, unchecked.
pub(crate) fn raw_token(head: &Head) -> Option<String> {
    token(head).map(|token| token.text)
}

/// The guard of all admin routes.
///
/// # Errors
/// The contract's 401s (section 10); 403 for a page of another origin that rides on the cookie; 500 if the store fails.
pub(crate) fn admin(server: &Server, head: &Head) -> Result<Admin, Answer> {
    check(server, head).inspect_err(|refusal| {
        log::warn!(target: SECURITY_LOG, "refused {} {:?} status={}", head.method(), head.path(), refusal.status);
    })
}

fn check(server: &Server, head: &Head) -> Result<Admin, Answer> {
    let Some(token) = token(head) else {
        return Err(plain(401, "Missing admin token", "Please provide an admin token"));
    };
    if !(TOKEN_LENGTH_MIN..=TOKEN_LENGTH_MAX).contains(&token.text.len()) {
        return Err(plain(401, "Invalid admin token format", "Admin token format is invalid"));
    }
    if token.is_cookie && !is_same_origin(head) {
        return Err(plain(403, "Forbidden", "This request must come from the relay's own pages"));
    }
    match alive(server, &token.text)? {
        Life::Alive(session) => Ok(Admin { username: session.username }),
        Life::Idle => Err(plain(401, "Session expired", "Admin session has expired due to inactivity")),
        Life::None => Err(plain(401, "Invalid admin token", "Invalid or expired admin session")),
    }
}

/// What became of a session.
pub(crate) enum Life {
    /// It may be used; its last use has been noted.
    Alive(Session),
    /// It was idle for too long and has been ended.
    Idle,
    /// There is none.
    None,
}

/// Looks a session up by its token and notes its use. Never makes one.
///
/// # Errors
/// The contract's 500 if the store fails.
pub(crate) fn alive(server: &Server, token: &str) -> Result<Life, Answer> {
    let failed = |error: crate::error::Error| {
        log::error!("a session could not be checked: {error}");
        plain(500, "Authentication error", "Internal server error during admin authentication")
    };
    let Some(session) = server.store.session(token).map_err(failed)? else {
        return Ok(Life::None);
    };
    let (now, idle_max) = (now_ms(), server.session_timeout_ms());
    if is_over(server, &session, now) {
        server.store.end_session(token).map_err(failed)?;
        return Ok(Life::Idle);
    }
    if now - session.active_at_ms > TOUCH_EVERY_MS.min(idle_max / 10) {
        server.store.touch_session(&session).map_err(failed)?;
    }
    Ok(Life::Alive(session))
}

/// Whether a session may still be used. Asking is no use of it: a page that is left open keeps nobody signed in.
pub(crate) fn is_alive(server: &Server, token: &str) -> bool {
    let now = now_ms();
    match server.store.session(token) {
        Ok(Some(session)) => !is_over(server, &session, now),
        Ok(None) => false,
        Err(error) => {
            log::error!("a session could not be checked: {error}");
            false
        }
    }
}

fn is_over(server: &Server, session: &Session, now_ms: i64) -> bool {
    let idle_max = server.session_timeout_ms();
    now_ms - session.login_at_ms > idle_max.saturating_mul(ABSOLUTE_LIFE_FACTOR)
        || now_ms - session.active_at_ms > idle_max
}

impl Server {
    /// How long a session may be idle, milliseconds.
    pub(crate) fn session_timeout_ms(&self) -> i64 {
        i64::try_from(self.config.admin_session_timeout_ms).unwrap_or(i64::MAX)
    }
}

/// Whether a request that changes something comes from the relay's own pages. What only reads may come from anywhere:
/// another origin cannot see the answer.
fn is_same_origin(head: &Head) -> bool {
    if matches!(head.method(), "GET" | "HEAD") {
        return true;
    }
    if let Some(site) = head.header("sec-fetch-site") {
        return site == b"same-origin";
    }
    let origin = head.header("origin").and_then(|origin| std::str::from_utf8(origin).ok());
    let host = head.header("host").and_then(|host| std::str::from_utf8(host).ok());
    match (origin.and_then(|origin| origin.split_once("://")), host) {
        (Some((_, origin_host)), Some(host)) => origin_host.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_scheme_is_removed_in_any_case() {
        for (value, expected) in [
            ("Bearer abc", "abc"),
            ("bearer\tabc", "abc"),
            ("BEARER   abc ", "abc"),
            ("abc", "abc"),
            ("Bearer", ""),
            ("Bearerabc", "Bearerabc"),
            ("", ""),
        ] {
            assert_eq!(without_bearer(value), expected, "{value}");
        }
        assert_eq!(admin_cookie("a=1; adminToken=t; b=2"), Some("t"));
        assert_eq!(admin_cookie("xadminToken=t; adminToken="), None);
    }
}
