//! Addresses of web servers, judged before anybody calls them.

use std::net::Ipv6Addr;

/// Whether this is what a URL names a server by: a host name or an IPv6 address in brackets, with a port or without. A user
/// name and a password are refused: they would be logged.
pub fn is_authority(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, "443"),
    };
    let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    is_host && is_number && port.parse::<u16>().is_ok_and(|port| port != 0)
}

/// The base URL of an Anthropic-compatible service: http or https with a server and perhaps a path, without a query and
/// without slashes at its end. `None` when it is none.
pub fn base(text: &str) -> Option<String> {
    let text = text.trim().trim_end_matches('/');
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"))?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    // RFC 3986 section 3.3, without `@`.
    let is_of_path = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:%".contains(&byte);
    (is_authority(authority) && path.bytes().all(is_of_path)).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_have_a_server_and_perhaps_a_path() {
        for (text, expected) in [
            ("https://api.example.com", Some("https://api.example.com")),
            (" http://10.0.0.7:3000/api/ ", Some("http://10.0.0.7:3000/api")),
            ("http://[::1]:8080/a%20b//", Some("http://[::1]:8080/a%20b")),
            ("http://[::1]", Some("http://[::1]")),
            ("http://under_score", Some("http://under_score")),
            ("", None),
            ("http://", None),
            ("https:///v1", None),
            ("ftp://host", None),
            ("host", None),
            ("http://{host}", None),
            ("http://a|b", None),
            ("http://host/{path}", None),
            ("http://[::1", None),
            ("http://::1", None),
            ("http://[host]", None),
            ("http://host:", None),
            ("http://host:0", None),
            ("http://host:+80", None),
            ("http://host:99999", None),
            ("http://host:a", None),
            ("http://:80", None),
            ("http://user:word@host", None),
            ("http://host/?a=b", None),
            ("http://host/a b", None),
        ] {
            assert_eq!(base(text).as_deref(), expected, "{text}");
        }
    }
}
