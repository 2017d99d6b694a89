//! The proxy that an account is reached through.

use super::Sensitive;
use crate::told::sentences;
use serde::{Deserialize, Serialize};

/// Schemes that can carry an account's requests. `socks5` resolves names here, `socks5h` at the proxy.
const SCHEMES: [&str; 4] = ["socks5", "socks5h", "http", "https"];

/// What a list shows in place of a password that is set.
pub const MASK: &str = "********";

sentences! {
    /// What is wrong with a proxy.
    pub enum BadProxy {
        Shape "proxy_shape" => "Proxy must be an object with type, host and port",
        Type "proxy_type" { types: String } => "Proxy type must be one of: {types}",
        Host "proxy_host" => "Proxy host must be a host name or an IP address",
        Port "proxy_port" => "Proxy port must be a number from 1 to 65535",
        Login "proxy_login" => "Proxy username and password must be at most 255 bytes",
    }
}

/// An account's proxy, valid by construction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Proxy {
    /// One of `socks5`, `socks5h`, `http`, `https`.
    pub scheme: String,
    /// Host name or address, without brackets.
    pub host: String,
    /// 1–65535.
    pub port: u16,
    /// User name, if the proxy wants one.
    pub username: Option<String>,
    /// Password, if the proxy wants one.
    pub password: Option<Sensitive>,
}

/// The JSON form of the original: `{type, host, port (number or text), username, password}`.
#[derive(Deserialize, Serialize)]
struct Wire {
    r#type: String,
    host: String,
    port: serde_json::Value,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
}

impl Proxy {
    /// Reads the original's JSON form. A password that is absent, null, empty or the mask keeps that of `before`.
    ///
    /// # Errors
    /// Which member is wrong and what is allowed.
    pub fn from_json(json: &str, before: Option<&Proxy>) -> Result<Proxy, BadProxy> {
        let wire: Wire = serde_json::from_str(json).map_err(|_| BadProxy::Shape)?;
        let scheme = wire.r#type.to_ascii_lowercase();
        if !SCHEMES.contains(&scheme.as_str()) {
            return Err(BadProxy::Type { types: SCHEMES.join(", ") });
        }
        let host = wire.host.trim().trim_matches(['[', ']']).to_owned();
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
            return Err(BadProxy::Host);
        }
        let port = match &wire.port {
            serde_json::Value::Number(number) => number.as_u64(),
            serde_json::Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).ok_or(BadProxy::Port)?;
        let username = wire.username.filter(|name| !name.is_empty());
        let kept = before.and_then(|proxy| proxy.password.clone());
        let password = match wire.password {
            Some(password) if !password.is_empty() && password != MASK => Some(Sensitive::new(password)),
            _ => kept,
        };
        let too_long = |text: &str| text.len() > 255;
        if username.as_deref().is_some_and(too_long)
            || password.as_ref().is_some_and(|password| too_long(password.expose()))
        {
            return Err(BadProxy::Login);
        }
        Ok(Proxy { scheme, host, port, username, password })
    }

    /// The form that is stored (sealed): the original's JSON, with the password.
    pub fn to_stored(&self) -> String {
        self.to_wire(self.password.as_ref().map(|password| password.expose().to_owned()))
    }

    /// The form that a list shows: the password masked.
    pub fn to_shown(&self) -> String {
        self.to_wire(self.password.as_ref().map(|_| MASK.to_owned()))
    }

    fn to_wire(&self, password: Option<String>) -> String {
        let wire = Wire {
            r#type: self.scheme.clone(),
            host: self.host.clone(),
            port: self.port.into(),
            username: self.username.clone(),
            password,
        };
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_proxies_are_named_and_good_ones_read() {
        for (json, error) in [
            (r#"{"type":"ftp","host":"h","port":1}"#, "Proxy type"),
            (r#"{"type":"http","host":"","port":1}"#, "Proxy host"),
            (r#"{"type":"http","host":"a b","port":1}"#, "Proxy host"),
            (r#"{"type":"http","host":"a@b","port":1}"#, "Proxy host"),
            (r#"{"type":"http","host":"h","port":0}"#, "Proxy port"),
            (r#"{"type":"http","host":"h","port":"65536"}"#, "Proxy port"),
            (r#"{"type":"http","host":"h"}"#, "Proxy must be"),
            (r#""http://h:1""#, "Proxy must be"),
        ] {
            let found = Proxy::from_json(json, None).expect_err(json).to_string();
            assert!(found.starts_with(error), "{json}: {found}");
        }
        let proxy =
            Proxy::from_json(r#"{"type":"socks5","host":"::1","port":"1080","username":"u","password":"p@:/#"}"#, None)
                .expect("valid");
        assert_eq!(proxy.port, 1080);
        assert!(!proxy.to_shown().contains("p@"));
        let masked = Proxy::from_json(&proxy.to_shown(), Some(&proxy)).expect("valid");
        assert_eq!(masked, proxy, "a masked password is the one that was there");
    }
}
