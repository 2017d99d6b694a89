//! The header fields of every answer: security, caching, CORS in the original's two variants, the request's id.

use crate::http::{Fields, Head};

/// On every answer (contract section 3.1).
const ALWAYS: [(&str, &str); 11] = [
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Origin-Agent-Cluster", "?1"),
    ("Referrer-Policy", "strict-origin-when-cross-origin"),
    ("Strict-Transport-Security", "max-age=15552000; includeSubDomains"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-DNS-Prefetch-Control", "off"),
    ("X-Download-Options", "noopen"),
    ("X-Frame-Options", "DENY"),
    ("X-Permitted-Cross-Domain-Policies", "none"),
    ("X-XSS-Protection", "1; mode=block"),
];

/// On every answer that does not say itself how long it may be kept.
const UNCACHED: [(&str, &str); 3] =
    [("Cache-Control", "no-cache, no-store, must-revalidate"), ("Pragma", "no-cache"), ("Expires", "0")];

/// For pages: nothing from elsewhere, nothing inline.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self'; font-src 'self'; \
    img-src 'self' data:; connect-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'self'; \
    form-action 'self'";

/// What the original's pages and scripts may send across origins.
const CORS_LISTED: [(&str, &str); 5] = [
    ("Access-Control-Allow-Methods", "GET, POST, PUT, DELETE, OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Origin, X-Requested-With, Content-Type, Accept, Authorization, x-api-key, api-key, x-admin-token",
    ),
    ("Access-Control-Expose-Headers", "X-Request-ID, Content-Type"),
    ("Access-Control-Max-Age", "86400"),
    ("Access-Control-Allow-Credentials", "true"),
];

/// The port whose pages the original allows, whatever its own is (contract section 3.2).
const ORIGINAL_PORT: u16 = 3000;

/// The fields that do not depend on the request, encoded once.
pub(crate) struct Template {
    encoded: Fields,
    uncached: Fields,
    any_origin: bool,
    origins: Vec<String>,
}

impl Template {
    /// `any_origin` is `ENABLE_CORS`; otherwise pages on this machine are allowed: at the relay's own port, and at the one
    /// that the original had fixed.
    pub(crate) fn new(any_origin: bool, port: u16) -> Template {
        let mut encoded = Fields::new();
        for (name, value) in ALWAYS {
            encoded.push(name, value);
        }
        if any_origin {
            encoded.push("Access-Control-Allow-Origin", "*");
        } else {
            for (name, value) in CORS_LISTED {
                encoded.push(name, value);
            }
            encoded.push("Vary", "Origin");
        }
        let mut uncached = encoded.clone();
        for (name, value) in UNCACHED {
            uncached.push(name, value);
        }
        let origins = ["http://localhost", "https://localhost", "http://127.0.0.1", "https://127.0.0.1"];
        let origins =
            origins.iter().flat_map(|host| [ORIGINAL_PORT, port].map(|port| format!("{host}:{port}"))).collect();
        Template { encoded, uncached, any_origin, origins }
    }

    /// The fields of an answer to a request whose head is not known.
    pub(crate) fn bare(&self, request_id: &str) -> Fields {
        let mut fields = self.uncached.clone();
        fields.push("X-Request-ID", request_id);
        fields
    }

    /// The fields of an answer to `head`.
    pub(crate) fn of(&self, head: &Head, request_id: &str) -> Fields {
        self.complete(self.uncached.clone(), head, request_id, self.allowed_origin(head))
    }

    /// The same for an answer that says itself how long it may be kept.
    pub(crate) fn of_kept(&self, head: &Head, request_id: &str) -> Fields {
        self.complete(self.encoded.clone(), head, request_id, self.allowed_origin(head))
    }

    /// The same for a relayed event stream, which pages of every origin may read (contract section 13.7).
    pub(crate) fn of_stream(&self, head: &Head, request_id: &str) -> Fields {
        self.complete(self.uncached.clone(), head, request_id, (!self.any_origin).then_some(b"*"))
    }

    /// Which pages may read the answer, where that depends on the request.
    fn allowed_origin<'a>(&self, head: &'a Head) -> Option<&'a [u8]> {
        if self.any_origin {
            return None;
        }
        let Some(origin) = head.header("origin") else { return Some(b"*") };
        self.origins.iter().any(|known| known.as_bytes() == origin).then_some(origin)
    }

    fn complete(&self, mut fields: Fields, head: &Head, request_id: &str, origin: Option<&[u8]>) -> Fields {
        fields.push("X-Request-ID", request_id);
        if let Some(origin) = origin {
            fields.push("Access-Control-Allow-Origin", origin);
        }
        if self.any_origin && head.method() == "OPTIONS" {
            fields.push("Access-Control-Allow-Methods", "GET,HEAD,PUT,PATCH,POST,DELETE");
            fields.push("Vary", "Access-Control-Request-Headers");
            if let Some(asked) = head.header("access-control-request-headers") {
                fields.push("Access-Control-Allow-Headers", asked);
            }
        }
        let path = head.path();
        if path == "/" || path.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("/web")) {
            fields.push("Content-Security-Policy", CONTENT_SECURITY_POLICY);
        }
        fields
    }

    /// Whether every answer has this field already, so that the upstream's of the same name would be a second one.
    pub(crate) fn is_ours(name: &str) -> bool {
        let is_cors = name.get(..15).is_some_and(|start| start.eq_ignore_ascii_case("access-control-"));
        is_cors || ALWAYS.iter().chain(&UNCACHED).any(|(ours, _)| ours.eq_ignore_ascii_case(name))
    }
}
