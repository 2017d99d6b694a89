//! Which header fields pass, in both directions.
//!
//! The relay is transparent: what the client sent goes up and what the upstream sent comes down, less what belongs to one
//! connection (RFC 9110 section 7.6.1), less the client's credentials, plus what the account's credential needs.

use crate::model::AccountKind;

/// Fields of one connection; never passed on. `content-length` is set anew by whoever frames the message.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The client's credentials and what tells of its network or of the page it is; never sent up.
const PRIVATE: [&str; 15] = [
    "api-key",
    "authorization",
    "cookie",
    "forwarded",
    "host",
    "origin",
    "referer",
    "true-client-ip",
    "via",
    "x-admin-token",
    "x-api-key",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-real-ip",
];

/// The same by their beginnings: what reverse proxies, platforms and browsers add.
const PRIVATE_PREFIXES: [&str; 8] =
    ["x-forwarded-", "x-original-forwarded-", "cf-", "fly-", "x-vercel-", "x-envoy-", "sec-fetch-", "sec-ch-"];

/// What tells of the upstream's servers, of its connection with the relay, or of whose account it is; never passed down.
const UPSTREAM_PRIVATE: [&str; 12] = [
    "alt-svc",
    "anthropic-organization-id",
    "cf-cache-status",
    "cf-ray",
    "date",
    "nel",
    "report-to",
    "server",
    "set-cookie",
    "set-cookie2",
    "via",
    "x-powered-by",
];

/// The beta flag without which the API refuses an OAuth token.
const OAUTH_BETA: &str = "oauth-2025-04-20";

/// What the relay calls itself when the client does not say who it is.
const USER_AGENT: &str = concat!("claude-relay/", env!("CARGO_PKG_VERSION"));

/// A header field, borrowed where it passes unchanged.
pub type Field<'a> = (&'a str, std::borrow::Cow<'a, [u8]>);

/// Whether a field belongs to one connection, by its name or because `Connection` names it.
fn is_hop_by_hop(name: &str, connection: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
        || connection.split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
}

fn starts_with_ignore_case(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && name.as_bytes()[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
}

/// All values of `Connection`, joined: the fields it names are hop-by-hop too.
fn connection<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let values: Vec<&[u8]> =
        fields.filter(|(name, _)| name.eq_ignore_ascii_case("connection")).map(|(_, value)| value).collect();
    values.join(&b","[..])
}

/// What Anthropic's own API keys begin with.
const ANTHROPIC_KEY_PREFIX: &str = "sk-ant-";

/// The fields to send up: the client's, then what the protocol needs.
pub fn upward<'a>(
    client: impl Iterator<Item = (&'a str, &'a [u8])> + Clone,
    kind: AccountKind,
    credential: &'a str,
    default_version: &'a str,
) -> Vec<Field<'a>> {
    let connection = connection(client.clone());
    let mut fields: Vec<Field<'a>> = Vec::with_capacity(24);
    let mut betas: Vec<&[u8]> = Vec::new();
    let (mut has_version, mut has_agent) = (false, false);
    for (name, value) in client {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        let stays = is_hop_by_hop(name, &connection)
            || PRIVATE.iter().any(|private| is(private))
            || PRIVATE_PREFIXES.iter().any(|start| starts_with_ignore_case(name, start))
            || is("accept-encoding");
        if stays {
            continue;
        }
        if is("anthropic-beta") {
            betas.push(value);
            continue;
        }
        has_version |= is("anthropic-version");
        has_agent |= is("user-agent");
        fields.push((name, value.into()));
    }
    if !has_version {
        fields.push(("anthropic-version", default_version.as_bytes().into()));
    }
    if !has_agent {
        fields.push(("user-agent", USER_AGENT.as_bytes().into()));
    }
    push_betas(&mut fields, betas, kind);
    // A compressed answer could not be metered.
    fields.push(("accept-encoding", b"identity"[..].into()));
    let is_key = kind == AccountKind::ApiKey;
    if is_key {
        fields.push(("x-api-key", credential.as_bytes().into()));
    }
    // Of the compatible services some read the one field and some the other; Anthropic's own keys go in the first alone.
    if !is_key || !credential.starts_with(ANTHROPIC_KEY_PREFIX) {
        fields.push(("authorization", format!("Bearer {credential}").into_bytes().into()));
    }
    fields
}

fn push_betas<'a>(fields: &mut Vec<Field<'a>>, betas: Vec<&'a [u8]>, kind: AccountKind) {
    let named = betas
        .iter()
        .flat_map(|value| value.split(|byte| *byte == b','))
        .any(|flag| flag.trim_ascii() == OAUTH_BETA.as_bytes());
    if kind == AccountKind::ApiKey || named {
        fields.extend(betas.into_iter().map(|value| ("anthropic-beta", value.into())));
        return;
    }
    let mut all = betas.join(&b","[..]);
    if !all.is_empty() {
        all.push(b',');
    }
    all.extend_from_slice(OAUTH_BETA.as_bytes());
    fields.push(("anthropic-beta", all.into()));
}

/// The fields of the upstream's answer that the client is given.
pub fn downward<'a>(upstream: impl Iterator<Item = (&'a str, &'a [u8])>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    let fields: Vec<_> = upstream.collect();
    let connection = connection(fields.iter().copied());
    fields.into_iter().filter(move |(name, _)| {
        let is_private = UPSTREAM_PRIVATE.iter().any(|private| name.eq_ignore_ascii_case(private));
        !is_private && !is_hop_by_hop(name, &connection)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(client: &[(&str, &str)], kind: AccountKind) -> Vec<(String, String)> {
        sent_with(client, kind, if kind == AccountKind::ApiKey { "sk-ant-secret" } else { "secret" })
    }

    fn sent_with(client: &[(&str, &str)], kind: AccountKind, credential: &str) -> Vec<(String, String)> {
        let fields = client.iter().map(|(name, value)| (*name, value.as_bytes()));
        upward(fields, kind, credential, "2023-06-01")
            .into_iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), String::from_utf8_lossy(&value).into_owned()))
            .collect()
    }

    fn value<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
        fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn the_clients_credentials_and_hops_never_go_up() {
        let client = [
            ("Host", "relay"),
            ("X-Api-Key", "cr_1"),
            ("Authorization", "Bearer cr_1"),
            ("api-key", "cr_1"),
            ("Cookie", "adminToken=1"),
            ("x-admin-token", "1"),
            ("X-Forwarded-For", "1.2.3.4"),
            ("x-real-ip", "1.2.3.4"),
            ("Origin", "http://page.example"),
            ("Referer", "http://page.example/chat"),
            ("Sec-Fetch-Site", "cross-site"),
            ("Fly-Client-IP", "1.2.3.4"),
            ("x-envoy-external-address", "1.2.3.4"),
            ("Connection", "keep-alive, X-Hop"),
            ("X-Hop", "1"),
            ("TE", "trailers"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Expect", "100-continue"),
            ("Proxy-Authorization", "Basic x"),
            ("Accept-Encoding", "gzip, br"),
        ];
        let fields = sent(&client, AccountKind::ApiKey);
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["anthropic-version", "user-agent", "accept-encoding", "x-api-key"]);
        assert_eq!(value(&fields, "x-api-key"), Some("sk-ant-secret"));
        assert_eq!(value(&fields, "accept-encoding"), Some("identity"));
        assert!(value(&fields, "user-agent").is_some_and(|agent| agent.starts_with("claude-relay/")));
    }

    #[test]
    fn everything_else_passes_and_only_oauth_gets_its_flag() {
        let client = [
            ("User-Agent", "claude-cli/2.1"),
            ("anthropic-version", "2024-01-01"),
            ("anthropic-beta", "a, b"),
            ("x-stainless-lang", "js"),
            ("X-Claude-Code-Session-Id", "s"),
        ];
        let by_key = sent(&client, AccountKind::ApiKey);
        for (name, expected) in client {
            assert_eq!(value(&by_key, &name.to_ascii_lowercase()), Some(expected));
        }
        assert_eq!(value(&by_key, "authorization"), None);
        let by_other = sent_with(&client, AccountKind::ApiKey, "sk-other");
        assert_eq!(value(&by_other, "x-api-key"), Some("sk-other"));
        assert_eq!(value(&by_other, "authorization"), Some("Bearer sk-other"));
        for kind in [AccountKind::OAuth, AccountKind::SetupToken] {
            let by_token = sent(&client, kind);
            assert_eq!(value(&by_token, "anthropic-beta"), Some("a, b,oauth-2025-04-20"));
            assert_eq!(value(&by_token, "authorization"), Some("Bearer secret"));
            assert_eq!(value(&by_token, "x-api-key"), None);
        }
        let twice = sent(&[("anthropic-beta", "a, oauth-2025-04-20")], AccountKind::OAuth);
        assert_eq!(value(&twice, "anthropic-beta"), Some("a, oauth-2025-04-20"));
        let none = sent(&[], AccountKind::OAuth);
        assert_eq!(value(&none, "anthropic-beta"), Some("oauth-2025-04-20"));
    }

    #[test]
    fn hops_and_identity_of_the_upstream_never_come_down() {
        let upstream: [(&str, &[u8]); 12] = [
            ("content-type", b"application/json"),
            ("connection", b"close, x-hop"),
            ("x-hop", b"1"),
            ("transfer-encoding", b"chunked"),
            ("request-id", b"req_1"),
            ("keep-alive", b"timeout=5"),
            ("Date", b"Mon, 01 Jan 2001 00:00:00 GMT"),
            ("Server", b"cloudflare"),
            ("Set-Cookie", b"__cf_bm=1"),
            ("anthropic-organization-id", b"org-1"),
            ("X-Powered-By", b"x"),
            ("via", b"1.1 google"),
        ];
        let names: Vec<&str> = downward(upstream.into_iter()).map(|(name, _)| name).collect();
        assert_eq!(names, ["content-type", "request-id"]);
    }
}
