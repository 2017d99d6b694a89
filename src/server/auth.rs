//! `/web/auth/*`: the admin's login and what a session can do to itself. Wording and bodies are the contract's (section 9).

use super::address;
use super::call::{Answer, Call};
use super::dialect::plain;
use super::session::{self, Life};
use super::throttle::Attempt;
use super::{SECURITY_LOG, Server};
use crate::error::Error;
use crate::model::time::iso;
use crate::store::Session;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;

type Outcome = Result<Answer, Answer>;

/// Cost of bcrypt, as in the original.
const BCRYPT_COST: u32 = 10;
/// Bcrypt reads no more of a password than this many bytes.
const PASSWORD_BYTES_MAX: usize = 72;
const PASSWORD_CHARACTERS_MIN: usize = 8;
const USERNAME_CHARACTERS_MAX: usize = 100;
/// A hash of nothing anyone knows: checked when the name is wrong, so that a wrong name takes as long as a wrong password.
const NOBODY: &str = "$2b$10$gMKTyJIrk1G9lteJh0ciQeqPxx6YSur94FPuxRSHa6BgL/op18egC";

/// Hashes a password for the database.
///
/// # Errors
/// No random numbers.
pub fn hash_password(password: &str) -> Result<String, Error> {
    bcrypt::hash(password, BCRYPT_COST).map_err(|error| Error::internal("hashing a password failed", error))
}

fn is_password(password: &str, hash: &str) -> bool {
    bcrypt::verify(password, hash).unwrap_or(false)
}

/// `POST /web/auth/login`.
pub(crate) fn login(server: &Server, call: &Call) -> Outcome {
    let failed = failure("Login failed");
    let text = |name: &str| call.text(name).filter(|text| !text.is_empty());
    let (Some(username), Some(password)) = (text("username"), text("password")) else {
        return Err(plain(400, "Missing credentials", "Username and password are required"));
    };
    let attempt = attempt(server, call, username)?;
    let hash = server.store.admin_password_hash(username).map_err(&failed)?;
    let is_right = is_password(password, hash.as_deref().unwrap_or(NOBODY));
    let token = match &hash {
        Some(hash) if is_right => server.store.create_session(username, hash).map_err(&failed)?,
        _ => None,
    };
    let Some(token) = token else {
        // A name that nobody has may be a password in the wrong field.
        let name = if hash.is_some() { username } else { "an unknown name" };
        log::warn!(target: SECURITY_LOG, "a login failed for {name:?} from {}", address_of(server, call));
        return Err(plain(401, "Invalid credentials", "Invalid username or password"));
    };
    attempt.succeeded();
    log::info!(target: SECURITY_LOG, "{username:?} logged in from {}", address_of(server, call));
    let timeout_ms = server.session_timeout_ms();
    let body = json!({
        "success": true, "token": token, "expiresIn": timeout_ms, "username": username, "message": "Login successful",
    });
    Ok(Answer::json(200, &body).with("Set-Cookie", cookie(&token, timeout_ms / 1000)))
}

/// `POST /web/auth/logout`.
pub(crate) fn logout(server: &Server, call: &Call) -> Outcome {
    if let Some(token) = session::raw_token(&call.head) {
        server.store.end_session(&token).map_err(failure("Logout failed"))?;
    }
    Ok(Answer::done("Logout successful").with("Set-Cookie", cookie("", 0)))
}

/// `GET /web/auth/user`.
pub(crate) fn user(server: &Server, call: &Call) -> Outcome {
    let (session, _) = current(server, call)?;
    let body = json!({
        "success": true,
        "message": "Signed in",
        "user": {
            "username": session.username,
            "loginTime": iso(session.login_at_ms),
            "lastActivity": iso(session.active_at_ms),
            // The file goes when the password is first changed.
            "isPasswordMadeUp": server.first_password_file.exists(),
        },
    });
    Ok(Answer::json(200, &body))
}

/// `POST /web/auth/refresh`: notes that a session is in use. It makes none.
pub(crate) fn refresh(server: &Server, call: &Call) -> Outcome {
    let (session, token) = current(server, call)?;
    server.store.touch_session(&session).map_err(failure("Token refresh failed"))?;
    let body = json!({
        "success": true, "token": token, "expiresIn": server.session_timeout_ms(), "message": "Session renewed",
    });
    Ok(Answer::json(200, &body))
}

/// `POST /web/auth/change-password`: also ends every session of the admin, this one included.
pub(crate) fn change_password(server: &Server, call: &Call) -> Outcome {
    let failed = failure("Change password failed");
    let (session, _) = current(server, call)?;
    let text = |name: &str| call.text(name).filter(|text| !text.is_empty());
    let (Some(before), Some(after)) = (text("currentPassword"), text("newPassword")) else {
        return Err(plain(400, "Missing required fields", "Current password and new password are required"));
    };
    if after.chars().count() < PASSWORD_CHARACTERS_MIN {
        return Err(plain(400, "Password too short", "New password must be at least 8 characters long"));
    }
    if after.len() > PASSWORD_BYTES_MAX {
        return Err(plain(400, "Password too long", "New password must be at most 72 bytes long"));
    }
    let username = match call.member("newUsername") {
        None => session.username.as_str(),
        Some(value) => match value.as_str().map(str::trim) {
            Some("") => session.username.as_str(),
            Some(name) if name.chars().count() <= USERNAME_CHARACTERS_MAX => name,
            _ => return Err(plain(400, "Invalid username", "New username must be text of at most 100 characters")),
        },
    };
    let attempt = attempt(server, call, &session.username)?;
    let hash = server.store.admin_password_hash(&session.username).map_err(&failed)?;
    if !hash.is_some_and(|hash| is_password(before, &hash)) {
        let address = address_of(server, call);
        log::warn!(target: SECURITY_LOG, "{:?} gave a wrong password to change it, from {address}", session.username);
        return Err(plain(401, "Invalid current password", "Current password is incorrect"));
    }
    attempt.succeeded();
    let hash = hash_password(after).map_err(&failed)?;
    server.store.change_admin(&session.username, username, &hash).map_err(&failed)?;
    forget_first_password(server);
    log::info!(target: SECURITY_LOG, "{:?} changed the password; the name is now {username:?}", session.username);
    let body = json!({
        "success": true, "message": "Password changed successfully. Please login again.", "newUsername": username,
    });
    Ok(Answer::json(200, &body).with("Set-Cookie", cookie("", 0)))
}

/// Where a request comes from, as far as it can be known: behind a proxy that is not trusted, the proxy.
fn address_of(server: &Server, call: &Call) -> IpAddr {
    address::of(call.peer, &call.head, server.config.trust_proxy)
}

/// A try of a password, if this address may make one now.
fn attempt<'a>(server: &'a Server, call: &Call, username: &str) -> Result<Attempt<'a>, Answer> {
    let trusts_proxy = server.config.trust_proxy;
    let address = address_of(server, call);
    let is_hidden = address::is_hidden(call.peer, &call.head, trusts_proxy);
    server.throttle.begin(address, is_hidden, username).map_err(|wait| {
        let advice = if is_hidden { "; behind a proxy, set TRUST_PROXY=true to tell clients apart" } else { "" };
        log::warn!("a password from {address} was not checked: too many tries{advice}");
        throttled(wait)
    })
}

fn throttled(wait: Duration) -> Answer {
    let seconds = wait.as_millis().div_ceil(1000);
    let body = json!({
        "error": "Too Many Requests",
        "message": format!("Too many failed attempts, try again in {seconds} seconds"),
        "retryAfter": u64::try_from(seconds).unwrap_or(u64::MAX),
    });
    Answer::json(429, &body).with("Retry-After", seconds.to_string())
}

/// The made-up password is of no use any more, and a password in the clear is a risk.
fn forget_first_password(server: &Server) {
    let path = &server.first_password_file;
    if let Err(error) = std::fs::remove_file(path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        log::error!("{} could not be removed, please do so: {error}", path.display());
    }
}

/// The session that a request is made with, and its token.
fn current(server: &Server, call: &Call) -> Result<(Session, String), Answer> {
    let Some(token) = session::raw_token(&call.head) else {
        return Err(plain(401, "No token provided", "Authentication required"));
    };
    match session::alive(server, &token)? {
        Life::Alive(session) => Ok((session, token)),
        Life::Idle | Life::None => Err(plain(401, "Invalid token", "Session expired or invalid")),
    }
}

fn failure(title: &'static str) -> impl Fn(Error) -> Answer {
    move |error| {
        log::error!("{title}: {error}");
        plain(500, title, "Internal server error")
    }
}

fn cookie(token: &str, max_age_s: i64) -> String {
    format!("adminToken={token}; Path=/; HttpOnly; SameSite=Strict; Max-Age={max_age_s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_is_checked_like_any_other() {
        assert!(!is_password("anything", NOBODY));
        bcrypt::verify("anything", NOBODY).expect("it parses, so that the check takes its time");
    }
}
