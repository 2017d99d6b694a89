//! Every path in one table, each with its guard and its handler. The kind of handler *is* the guard: one that needs an
//! admin cannot be called without one, and a path that is not listed is not served.

use super::call::{Answer, Call, Download, Upload};
use super::session::Admin;
use super::watch::Watched;
use super::{
    Server, account_care, accounts, assets, auth, backup, cleanup, download, key_routes, keys, live, logs, metrics,
    migration, models, prices, requests, settings, sign_in, statistics, status, system, trends, usage,
};
use crate::http::Head;
use crate::model::ApiKey;
use crate::relay::Purpose;

type Outcome = Result<Answer, Answer>;
/// What prepares a download.
pub(crate) type Prepare = fn(&Server, &Admin, &Call) -> Result<Download, Answer>;

/// What serves a path, and behind which guard.
pub(crate) enum Handler {
    /// Everyone.
    Open(fn(&Server, &Call) -> Outcome),
    /// Everyone; what they send is not even read.
    Unread(fn() -> Answer),
    /// The admin.
    Admin(fn(&Server, &Admin, &Call) -> Outcome),
    /// The admin, for an answer that goes on: on a relay worker, in one of few places.
    Watch(fn(&Server, &Call) -> Result<Watched, Answer>),
    /// The admin, whose body is large and read by the handler itself.
    AdminBytes(fn(&Server, &Admin, &[u8]) -> Outcome),
    /// The admin, whose body goes to the disk as it comes.
    AdminUpload(fn(&Server, &Admin, &Head, &mut Upload<'_>) -> Outcome),
    /// The admin, who gets a file piece by piece.
    AdminDownload(Prepare),
    /// The holder of an API key, for reports: takes no permit.
    Key(fn(&Server, &ApiKey, &Call) -> Outcome),
    /// The same for what an upstream may be asked for: on a relay worker.
    KeyWaits(fn(&Server, &ApiKey, &Call) -> Outcome),
    /// The holder of an API key, for the main path: on a relay worker, with a permit.
    Relayed,
    /// The same for what is asked before a message: relayed and not billed.
    Counted,
}

/// Who may call a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Guard {
    /// Everyone.
    Open,
    /// The admin.
    Admin,
    /// The holder of an API key.
    Key,
}

impl Handler {
    /// What a relayed path asks of the upstream; `None` for paths that are not relayed.
    pub(crate) fn purpose(&self) -> Option<Purpose> {
        match self {
            Handler::Relayed => Some(Purpose::Message),
            Handler::Counted => Some(Purpose::CountTokens),
            Handler::Open(_)
            | Handler::Unread(_)
            | Handler::Admin(_)
            | Handler::AdminBytes(_)
            | Handler::AdminUpload(_)
            | Handler::AdminDownload(_)
            | Handler::Watch(_)
            | Handler::Key(_)
            | Handler::KeyWaits(_) => None,
        }
    }

    /// Whether serving may take minutes.
    pub(crate) fn is_long(&self) -> bool {
        self.purpose().is_some() || matches!(self, Handler::Watch(_) | Handler::KeyWaits(_))
    }
}

pub(crate) struct Route {
    method: &'static str,
    /// Segments; one that begins with `:` is a parameter.
    path: &'static str,
    pub(crate) handler: Handler,
}

const fn route(method: &'static str, path: &'static str, handler: Handler) -> Route {
    Route { method, path, handler }
}

static ROUTES: &[Route] = &[
    route("POST", "/api/v1/messages", Handler::Relayed),
    route("POST", "/claude/v1/messages", Handler::Relayed),
    route("POST", "/v1/messages", Handler::Relayed),
    route("POST", "/api/v1/messages/count_tokens", Handler::Counted),
    route("POST", "/claude/v1/messages/count_tokens", Handler::Counted),
    route("POST", "/v1/messages/count_tokens", Handler::Counted),
    route("POST", "/api/api/event_logging/batch", Handler::Unread(status::ignore)),
    route("POST", "/claude/api/event_logging/batch", Handler::Unread(status::ignore)),
    route("POST", "/api/event_logging/batch", Handler::Unread(status::ignore)),
    route("GET", "/api/v1/key-info", Handler::Key(key_routes::key_info)),
    route("GET", "/claude/v1/key-info", Handler::Key(key_routes::key_info)),
    route("GET", "/v1/key-info", Handler::Key(key_routes::key_info)),
    route("GET", "/api/v1/usage", Handler::Key(key_routes::usage)),
    route("GET", "/claude/v1/usage", Handler::Key(key_routes::usage)),
    route("GET", "/v1/usage", Handler::Key(key_routes::usage)),
    route("GET", "/api/v1/models", Handler::KeyWaits(models::list)),
    route("GET", "/claude/v1/models", Handler::KeyWaits(models::list)),
    route("GET", "/v1/models", Handler::KeyWaits(models::list)),
    route("GET", "/api/v1/models/:id", Handler::KeyWaits(models::one)),
    route("GET", "/claude/v1/models/:id", Handler::KeyWaits(models::one)),
    route("GET", "/v1/models/:id", Handler::KeyWaits(models::one)),
    route("GET", "/", Handler::Open(status::root)),
    route("HEAD", "/api", Handler::Open(status::probe)),
    route("HEAD", "/claude", Handler::Open(status::probe)),
    route("GET", "/api/api/hello", Handler::Open(status::hello)),
    route("GET", "/claude/api/hello", Handler::Open(status::hello)),
    route("GET", "/api/hello", Handler::Open(status::hello)),
    route("GET", "/health", Handler::Open(status::health)),
    route("GET", "/api/health", Handler::Open(status::api_health)),
    route("GET", "/metrics", Handler::Open(metrics::metrics)),
    route("POST", "/web/auth/login", Handler::Open(auth::login)),
    route("POST", "/web/auth/logout", Handler::Open(auth::logout)),
    route("POST", "/web/auth/change-password", Handler::Open(auth::change_password)),
    route("GET", "/web/auth/user", Handler::Open(auth::user)),
    route("POST", "/web/auth/refresh", Handler::Open(auth::refresh)),
    route("GET", "/web", Handler::Open(assets::index)),
    route("GET", "/web/about", Handler::Open(settings::about)),
    route("GET", "/web/assets/:file", Handler::Open(assets::asset)),
    // The pages, as web/src/router.ts lists them: each is the index.
    route("GET", "/web/welcome", Handler::Open(assets::index)),
    route("GET", "/web/accounts", Handler::Open(assets::index)),
    route("GET", "/web/accounts/:id", Handler::Open(assets::index)),
    route("GET", "/web/keys", Handler::Open(assets::index)),
    route("GET", "/web/keys/:id", Handler::Open(assets::index)),
    route("GET", "/web/requests", Handler::Open(assets::index)),
    route("GET", "/web/requests/:id", Handler::Open(assets::index)),
    route("GET", "/web/logs", Handler::Open(assets::index)),
    route("GET", "/web/system", Handler::Open(assets::index)),
    route("GET", "/web/system/:part", Handler::Open(assets::index)),
    route("GET", "/web/guide", Handler::Open(assets::index)),
    route("GET", "/web/key", Handler::Open(assets::index)),
    route("GET", "/admin/api-keys", Handler::Admin(keys::list)),
    route("POST", "/admin/api-keys", Handler::Admin(keys::create)),
    route("POST", "/admin/api-keys/batch", Handler::Admin(keys::create_many)),
    route("POST", "/admin/api-keys/:keyId/restore", Handler::Admin(keys::restore)),
    route("POST", "/admin/api-keys/:keyId/rotate", Handler::Admin(keys::rotate)),
    route("PUT", "/admin/api-keys/:keyId", Handler::Admin(keys::update)),
    route("DELETE", "/admin/api-keys/:keyId", Handler::Admin(keys::delete)),
    route("GET", "/admin/api-keys/:keyId/model-stats", Handler::Admin(statistics::key_model_stats)),
    route("GET", "/admin/dashboard", Handler::Admin(statistics::dashboard)),
    route("GET", "/admin/usage-stats", Handler::Admin(statistics::usage_stats)),
    route("GET", "/admin/model-stats", Handler::Admin(statistics::model_stats)),
    route("GET", "/admin/usage-costs", Handler::Admin(statistics::usage_costs)),
    route("GET", "/admin/usage", Handler::Admin(usage::usage)),
    route("GET", "/admin/usage-trend", Handler::Admin(trends::usage_trend)),
    route("GET", "/admin/api-keys-usage-trend", Handler::Admin(trends::key_trend)),
    route("GET", "/admin/claude-accounts", Handler::Admin(accounts::list)),
    route("POST", "/admin/claude-accounts", Handler::Admin(accounts::create)),
    route("POST", "/admin/claude-accounts/generate-auth-url", Handler::Admin(sign_in::generate)),
    route("POST", "/admin/claude-accounts/exchange-code", Handler::Admin(sign_in::exchange)),
    route("POST", "/admin/claude-accounts/:accountId/refresh", Handler::Admin(sign_in::refresh)),
    route("POST", "/admin/claude-accounts/:accountId/test", Handler::Admin(account_care::test)),
    route("POST", "/admin/proxies/test", Handler::Admin(account_care::test_proxy)),
    route("POST", "/admin/claude-accounts/:accountId/wake", Handler::Admin(account_care::wake)),
    route("GET", "/admin/claude-accounts/:accountId/events", Handler::Admin(account_care::events)),
    route("PUT", "/admin/claude-accounts/:accountId", Handler::Admin(accounts::update)),
    route("DELETE", "/admin/claude-accounts/:accountId", Handler::Admin(accounts::delete)),
    route("GET", "/admin/requests", Handler::Admin(requests::list)),
    route("GET", "/admin/requests.csv", Handler::Watch(download::requests_csv)),
    route("GET", "/admin/requests/running", Handler::Admin(live::running)),
    route("DELETE", "/admin/requests/running/:id", Handler::Admin(live::end)),
    route("GET", "/admin/requests/:id", Handler::Admin(requests::one)),
    route("GET", "/admin/live", Handler::Watch(live::live)),
    route("GET", "/admin/system", Handler::Admin(system::system)),
    route("GET", "/admin/logs", Handler::Admin(logs::list)),
    route("GET", "/admin/logs/stream", Handler::Watch(logs::stream)),
    route("GET", "/admin/settings", Handler::Admin(settings::show)),
    route("PUT", "/admin/settings", Handler::Admin(settings::update)),
    route("POST", "/admin/settings/webhook/test", Handler::Admin(settings::test_webhook)),
    route("GET", "/admin/prices", Handler::Admin(prices::show)),
    route("PUT", "/admin/prices", Handler::Admin(prices::update)),
    route("POST", "/admin/prices/refresh", Handler::Admin(prices::refresh)),
    route("POST", "/admin/cleanup", Handler::Admin(cleanup::cleanup)),
    route("GET", "/admin/export", Handler::AdminDownload(backup::export_sanitised)),
    route("POST", "/admin/export", Handler::AdminDownload(backup::export_full)),
    route("POST", "/admin/backup", Handler::AdminDownload(backup::backup)),
    route("POST", "/admin/restore", Handler::AdminUpload(backup::restore)),
    route("GET", "/admin/backups", Handler::Admin(backup::list)),
    route("POST", "/admin/backups", Handler::Admin(backup::snapshot)),
    route("GET", "/admin/migrate", Handler::Admin(migration::list)),
    route("POST", "/admin/migrate", Handler::AdminBytes(migration::start)),
    route("GET", "/admin/migrate/:migrationId", Handler::Admin(migration::show)),
    route("DELETE", "/admin/migrate/:migrationId", Handler::Admin(migration::cancel)),
];

/// Every route: method, path pattern, guard. For tests that must not forget a new one.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str, Guard)> {
    ROUTES.iter().map(|route| {
        let guard = match route.handler {
            Handler::Open(_) | Handler::Unread(_) => Guard::Open,
            Handler::Admin(_)
            | Handler::AdminBytes(_)
            | Handler::AdminUpload(_)
            | Handler::AdminDownload(_)
            | Handler::Watch(_) => Guard::Admin,
            Handler::Key(_) | Handler::KeyWaits(_) | Handler::Relayed | Handler::Counted => Guard::Key,
        };
        (route.method, route.path, guard)
    })
}

/// What a path leads to.
pub(crate) enum Found {
    /// A route and its decoded parameters.
    Route(&'static Route, Vec<String>),
    /// Any path, asked for its options.
    Options,
    /// No such route.
    Nothing,
    /// A parameter whose percent-encoding is broken.
    BadEncoding,
}

/// Finds the route: paths are case-insensitive, a trailing slash is accepted, every GET route answers HEAD.
pub(crate) fn find(method: &str, path: &str) -> Found {
    if method == "OPTIONS" {
        return Found::Options;
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    for route in ROUTES {
        if serves(route, method, path) {
            return parameters(route, path);
        }
    }
    Found::Nothing
}

/// The number of the route that serves a path, in the order of [`routes`].
pub(crate) fn number(method: &str, path: &str) -> Option<usize> {
    let path = path.strip_suffix('/').unwrap_or(path);
    ROUTES.iter().position(|route| serves(route, method, path))
}

fn serves(route: &Route, method: &str, path: &str) -> bool {
    let is_method = route.method == method || (method == "HEAD" && route.method == "GET");
    is_method && matches(route.path, path)
}

fn matches(pattern: &str, path: &str) -> bool {
    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
    let (mut expected, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (expected.next(), found.next()) {
            (None, None) => return true,
            (Some(expected), Some(found)) => {
                let fits =
                    if expected.starts_with(':') { !found.is_empty() } else { expected.eq_ignore_ascii_case(found) };
                if !fits {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

fn parameters(route: &'static Route, path: &str) -> Found {
    let pairs = route.path.split('/').zip(path.split('/'));
    let decoded: Option<Vec<String>> =
        pairs.filter(|(name, _)| name.starts_with(':')).map(|(_, value)| percent_decode(value)).collect();
    decoded.map_or(Found::BadEncoding, |params| Found::Route(route, params))
}

/// Decodes `%xx` (RFC 3986 section 2.1). `None` when it is broken or no UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        decoded.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(method: &str, path: &str) -> Option<&'static str> {
        match find(method, path) {
            Found::Route(route, _) => Some(route.path),
            _ => None,
        }
    }

    #[test]
    fn paths_are_found_as_the_original_finds_them() {
        for (method, path, expected) in [
            ("POST", "/api/v1/messages", Some("/api/v1/messages")),
            ("POST", "/API/V1/Messages/", Some("/api/v1/messages")),
            ("POST", "/v1/messages", Some("/v1/messages")),
            ("GET", "/v1/messages", None),
            ("POST", "/api/v1/messages/batches", None),
            ("HEAD", "/health", Some("/health")),
            ("GET", "/", Some("/")),
            ("HEAD", "/", Some("/")),
            ("GET", "//", None),
            ("GET", "/web/", Some("/web")),
            ("PUT", "/admin/api-keys/a%20b", Some("/admin/api-keys/:keyId")),
            ("PUT", "/admin/api-keys/", None),
            ("DELETE", "/admin/api-keys/a/b", None),
        ] {
            assert_eq!(pattern(method, path), expected, "{method} {path}");
        }
        assert!(matches!(find("PUT", "/admin/api-keys/%zz"), Found::BadEncoding));
        assert!(matches!(find("OPTIONS", "/anything"), Found::Options));
    }

    #[test]
    fn everything_under_admin_is_guarded() {
        for (method, path, guard) in routes() {
            assert_eq!(path.starts_with("/admin"), guard == Guard::Admin, "{method} {path}");
        }
    }
}
