//! The one owner of the HTTP client: its agents, proxies, roots, bounds and errors. Nothing else knows ureq.

use super::faults::{CLAUDE_API, CLIENT_GONE, translate};
use super::names::{CachedNames, Names};
use super::pooled::{self, PooledConnector};
use super::watch::{Departed, Watch, WatchConnector, under};
use crate::claude::headers::Field;
use crate::claude::limits::retry_at;
use crate::error::{Error, Kind, Result};
use crate::model::{Proxy, Sensitive};
use std::collections::VecDeque;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use ureq::http;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, SocksConnector, TcpConnector};
use ureq::{Agent, ProxyProtocol, Timeout};

/// Proxies whose agents are kept. Past that the oldest goes; its connections end with their requests.
const AGENTS_MAX: usize = 256;
/// Idle connections an agent keeps, in all and to one host: its pool is searched from end to end.
const IDLE_CONNECTIONS_MAX: usize = 48;
/// An idle connection is not used again after this time.
const IDLE_AGE: Duration = Duration::from_secs(60);
/// The input buffer also bounds the answer's head.
const INPUT_BUFFER_BYTES: usize = 32 * 1024;
const OUTPUT_BUFFER_BYTES: usize = 16 * 1024;
/// Sending a request's head and body; an upstream that does not read is no upstream.
const SEND_TIMEOUT: Duration = Duration::from_secs(300);
/// A whole exchange with a token endpoint or a price list.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// What tokens come from.
pub(super) const TOKEN_ENDPOINT: &str = "token endpoint";

/// How long each part of an exchange may take.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Finding an address; and then making a connection, with proxy and TLS.
    pub connect: Duration,
    /// From the request's last byte to the answer's head.
    pub first_byte: Duration,
    /// Silence within the answer's body.
    pub idle: Duration,
    /// All together.
    pub total: Duration,
}

/// A request to be made.
pub(super) struct Call<'a> {
    url: String,
    fields: Vec<Field<'a>>,
    /// `None` makes it a GET.
    body: Option<&'a [u8]>,
    proxy: Option<&'a Proxy>,
    /// What is called, in the words of errors.
    whom: &'static str,
}

impl<'a> Call<'a> {
    /// A POST with the given fields.
    pub(super) fn post(url: String, fields: Vec<Field<'a>>, body: &'a [u8], proxy: Option<&'a Proxy>) -> Call<'a> {
        Call { url, fields, body: Some(body), proxy, whom: CLAUDE_API }
    }

    /// A POST of JSON by the relay itself.
    pub(super) fn json(whom: &'static str, url: &str, body: &'a [u8], proxy: Option<&'a Proxy>) -> Call<'a> {
        let fields = vec![
            ("content-type", b"application/json"[..].into()),
            ("accept", b"application/json"[..].into()),
            ("user-agent", concat!("claude-relay/", env!("CARGO_PKG_VERSION")).as_bytes().into()),
        ];
        Call { url: url.to_owned(), fields, body: Some(body), proxy, whom }
    }

    /// The same with a further field.
    pub(super) fn with(mut self, name: &'static str, value: String) -> Call<'a> {
        self.fields.push((name, value.into_bytes().into()));
        self
    }

    /// A GET with the given fields.
    pub(super) fn get_with(url: String, fields: Vec<Field<'a>>, proxy: Option<&'a Proxy>) -> Call<'a> {
        Call { url, fields, body: None, proxy, whom: CLAUDE_API }
    }

    /// A GET by the relay itself, directly.
    pub(super) fn get(whom: &'static str, url: &str) -> Call<'a> {
        Call { whom, ..Call::get_through(url, None) }
    }

    /// A GET of the API by the relay itself, through a proxy.
    pub(super) fn get_through(url: &str, proxy: Option<&'a Proxy>) -> Call<'a> {
        let agent = concat!("claude-relay/", env!("CARGO_PKG_VERSION")).as_bytes();
        Call::get_with(url.to_owned(), vec![("user-agent", agent.into())], proxy)
    }
}

/// An answer whose body is still to be read.
pub(super) struct Opened {
    /// Status code.
    pub(super) status: u16,
    /// Header fields as the upstream sent them.
    pub(super) fields: http::HeaderMap,
    body: ureq::BodyReader<'static>,
    watch: Watch,
    /// What was read before anybody asked for it.
    ahead: VecDeque<u8>,
    /// How that reading ended, if it failed.
    failed: Option<Error>,
}

/// How long the body of an error may take to be read before it is judged by what has come.
const ERROR_BODY_TIME_MAX: Duration = Duration::from_secs(5);

impl Opened {
    /// Reads up to `bytes_max` of the body before it is asked for, and gives back what has come. Whoever reads afterwards
    /// gets it first, and what went wrong behind it.
    pub(super) fn read_ahead(&mut self, bytes_max: usize) -> &[u8] {
        let (deadline, mut piece) = (self.watch.deadline, [0; 4096]);
        self.watch.deadline = deadline.min(Instant::now() + ERROR_BODY_TIME_MAX);
        while self.ahead.len() < bytes_max && self.failed.is_none() {
            match self.receive(&mut piece) {
                Ok(0) => break,
                Ok(length) => self.ahead.extend(&piece[..length]),
                Err(error) => self.failed = Some(error),
            }
        }
        self.watch.deadline = deadline;
        self.ahead.make_contiguous()
    }

    /// Waits for the first piece of the body, and gives it back. Whoever reads afterwards gets it too.
    ///
    /// # Errors
    /// As for reading.
    pub(super) fn first_piece(&mut self) -> Result<&[u8]> {
        let mut piece = vec![0; INPUT_BUFFER_BYTES / 2];
        let length = self.receive(&mut piece)?;
        piece.truncate(length);
        self.ahead = piece.into();
        Ok(self.ahead.make_contiguous())
    }

    /// Lets the answer say to come again at an instant (Unix milliseconds), unless it already names an earlier one.
    pub(super) fn retry_at_the_latest(&mut self, until_ms: i64, now_ms: i64) {
        let named = self.fields.get("retry-after").and_then(|value| retry_at(value.to_str().ok()?.trim(), now_ms));
        if named.is_none_or(|named_ms| named_ms > until_ms) {
            self.fields.insert("retry-after", (((until_ms - now_ms).max(0) + 999) / 1000).into());
        }
    }

    /// Whether the answer is an event stream.
    pub(super) fn is_event_stream(&self) -> bool {
        let value = self.fields.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.trim().get(..17).is_some_and(|start| start.eq_ignore_ascii_case("text/event-stream"))
    }

    /// Whether nobody waits for this answer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.watch.departed.as_ref().is_some_and(|departed| departed())
    }

    /// Reads what has come, at least one byte; 0 is the end.
    ///
    /// # Errors
    /// The upstream broke off or a bound is over; the client has left.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if !self.ahead.is_empty() {
            return self.ahead.read(buffer).map_err(|error| translate(ureq::Error::from(error), CLAUDE_API));
        }
        match self.failed.take() {
            Some(error) => Err(error),
            None => self.receive(buffer),
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize> {
        // The adapter looks up while it waits; an upstream that never pauses is bounded here.
        if Instant::now() >= self.watch.deadline {
            return Err(translate(ureq::Error::Timeout(Timeout::Global), CLAUDE_API));
        }
        let read = under(&self.watch, || self.body.read(buffer));
        // What breaks because the client has left is no fault of the upstream.
        read.map_err(|error| match self.is_abandoned() {
            true => Error::new(Kind::ClientGone, CLIENT_GONE),
            false => translate(ureq::Error::from(error), CLAUDE_API),
        })
    }
}

/// A whole answer.
pub(super) struct Fetched {
    /// Status code.
    pub(super) status: u16,
    /// Body.
    pub(super) body: Vec<u8>,
}

/// What came of a request that must not be made twice for nothing.
pub(super) struct Exchange {
    /// The answer.
    pub(super) answer: Result<Fetched>,
    /// Whether the other side may have served a try of it whose answer never came.
    pub(super) is_in_doubt: bool,
}

/// The HTTP client.
pub(super) struct Upstream {
    agents: Mutex<Vec<(Option<Proxy>, Agent)>>,
    names: Arc<Names>,
    roots: RootCerts,
    bounds: Bounds,
}

impl Upstream {
    /// A client that trusts Mozilla's roots, and those of a PEM file if one is given.
    ///
    /// # Errors
    /// The file cannot be read or holds no certificate.
    pub(super) fn new(bounds: Bounds, extra_roots: Option<&Path>) -> Result<Upstream> {
        let roots = match extra_roots {
            None => RootCerts::WebPki,
            Some(path) => roots_with(path)?,
        };
        Ok(Upstream { agents: Mutex::default(), names: Arc::default(), roots, bounds })
    }

    /// Makes a request and gives back its answer as soon as the head is there.
    ///
    /// # Errors
    /// No answer came; the client has left.
    pub(super) fn open(&self, call: &Call<'_>, departed: Option<Departed>) -> Result<Opened> {
        let watch = Watch { departed, deadline: Instant::now() + self.bounds.total };
        let response = under(&watch, || self.run(call, None))?;
        let (head, body) = response.into_parts();
        Ok(Opened {
            status: head.status.as_u16(),
            fields: head.headers,
            body: body.into_reader(),
            watch,
            ahead: VecDeque::new(),
            failed: None,
        })
    }

    /// Makes a request and reads its answer whole.
    ///
    /// # Errors
    /// No whole answer came in time, or it is larger than `bytes_max`.
    pub(super) fn fetch(&self, call: &Call<'_>, bytes_max: u64) -> Result<Fetched> {
        self.fetch_within(call, bytes_max, FETCH_TIMEOUT)
    }

    /// The same; also tells whether it may have been served unseen.
    pub(super) fn exchange(&self, call: &Call<'_>, bytes_max: u64) -> Exchange {
        let answer = self.fetch(call, bytes_max);
        let is_in_doubt = pooled::is_in_doubt(answer.is_ok());
        Exchange { answer, is_in_doubt }
    }

    /// The same within a time of the caller's own.
    ///
    /// # Errors
    /// As for [`Upstream::fetch`].
    pub(super) fn fetch_within(&self, call: &Call<'_>, bytes_max: u64, time_max: Duration) -> Result<Fetched> {
        let response = self.run(call, Some(time_max))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        response
            .into_body()
            .into_reader()
            .take(bytes_max + 1)
            .read_to_end(&mut body)
            .map_err(|error| translate(ureq::Error::from(error), call.whom))?;
        if body.len() as u64 > bytes_max {
            return Err(Error::new(Kind::Upstream, format!("the answer is larger than {bytes_max} bytes")));
        }
        Ok(Fetched { status, body })
    }

    /// Sends a request, and once more on a fresh connection if the one from the pool turns out to be closed.
    fn run(&self, call: &Call<'_>, time_max: Option<Duration>) -> Result<http::Response<ureq::Body>> {
        pooled::begin();
        let agent = self.agent(call.proxy)?;
        let sent = match send(&agent, call, time_max, false)? {
            Err(error) if pooled::was_closed_before(&error) => {
                log::debug!("a pooled connection was closed, the request goes out on a fresh one: {error}");
                send(&agent, call, time_max, true)?
            }
            sent => sent,
        };
        sent.map_err(|error| translate(error, call.whom))
    }

    /// The agent of a proxy. A proxy that cannot be used is an error, never a direct connection.
    fn agent(&self, proxy: Option<&Proxy>) -> Result<Agent> {
        let mut agents = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, agent)) = agents.iter().find(|(known, _)| known.as_ref() == proxy) {
            return Ok(agent.clone());
        }
        let agent = self.new_agent(proxy)?;
        if agents.len() >= AGENTS_MAX {
            agents.remove(0);
        }
        agents.push((proxy.cloned(), agent.clone()));
        Ok(agent)
    }

    fn new_agent(&self, proxy: Option<&Proxy>) -> Result<Agent> {
        let proxy = proxy.map(ureq_proxy).transpose()?;
        let is_tunnel = |proxy: &ureq::Proxy| matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
        let has_tunnel = proxy.as_ref().is_some_and(is_tunnel);
        let config = Agent::config_builder()
            // Not from the environment: only the account decides.
            .proxy(proxy)
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent("")
            .accept("")
            .accept_encoding("")
            .input_buffer_size(INPUT_BUFFER_BYTES)
            .output_buffer_size(OUTPUT_BUFFER_BYTES)
            .max_response_header_size(INPUT_BUFFER_BYTES)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .max_idle_age(IDLE_AGE)
            // ureq measures the lookup of the upstream's name by itself; that of a proxy's is a part of connecting.
            .timeout_resolve(Some(self.bounds.connect))
            .timeout_connect(Some(self.bounds.connect))
            .timeout_send_request(Some(SEND_TIMEOUT))
            .timeout_send_body(Some(SEND_TIMEOUT))
            .timeout_recv_response(Some(self.bounds.first_byte))
            .tls_config(TlsConfig::builder().root_certs(self.roots.clone()).build())
            .build();
        let chain =
            ().chain(SocksConnector::default())
                .chain(ConnectProxyConnector::default())
                .chain(TcpConnector::default())
                .chain(WatchConnector { idle: self.bounds.idle })
                .chain(RustlsConnector::default())
                .chain(PooledConnector { has_tunnel });
        Ok(Agent::with_parts(config, chain, CachedNames(Arc::clone(&self.names))))
    }
}

/// Sends a request; on a fresh connection if that is wanted. The inner error is the client's own.
fn send(
    agent: &Agent,
    call: &Call<'_>,
    time_max: Option<Duration>,
    is_fresh: bool,
) -> Result<std::result::Result<http::Response<ureq::Body>, ureq::Error>> {
    // No connection of the pool is young enough for a request that asks for age 0.
    let age = if is_fresh { Duration::ZERO } else { IDLE_AGE };
    let is_plain = time_max.is_none() && !is_fresh;
    Ok(match call.body {
        Some(body) if is_plain => agent.run(build(call, body)?),
        Some(body) => {
            let request = agent.configure_request(build(call, body)?);
            agent.run(request.timeout_global(time_max).max_idle_age(age).build())
        }
        None => {
            let request = agent.configure_request(build(call, ())?);
            agent.run(request.timeout_global(time_max).max_idle_age(age).build())
        }
    })
}

fn build<B>(call: &Call<'_>, body: B) -> Result<http::Request<B>> {
    let method = if call.body.is_some() { http::Method::POST } else { http::Method::GET };
    let mut request = http::Request::builder().method(method).uri(&call.url);
    for (name, value) in &call.fields {
        request = request.header(*name, &**value);
    }
    request.body(body).map_err(|error| {
        // What a client adds stands behind the question mark; what is wrong before it is the account's.
        let address = call.url.split('?').next().unwrap_or_default();
        match address.parse::<http::Uri>() {
            Err(_) => Error::from_source(Kind::Upstream, format!("The address of the {} is none", call.whom), error),
            Ok(_) => Error::from_source(
                Kind::Invalid,
                "the request cannot be sent on: a header field or the query is malformed",
                error,
            ),
        }
    })
}

fn ureq_proxy(proxy: &Proxy) -> Result<ureq::Proxy> {
    let bad = |error: ureq::Error| Error::from_source(Kind::Upstream, "The account's proxy is not usable", error);
    let protocol = ProxyProtocol::try_from(proxy.scheme.as_str()).map_err(bad)?;
    let host = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let mut builder = ureq::Proxy::builder(protocol).host(&host).port(proxy.port);
    if let Some(username) = &proxy.username {
        builder = builder.username(username);
    }
    if let Some(password) = proxy.password.as_ref().map(Sensitive::expose) {
        builder = builder.password(password);
    }
    builder.build().map_err(bad)
}

fn roots_with(path: &Path) -> Result<RootCerts> {
    let shown = path.display();
    let pem = std::fs::read(path)
        .map_err(|error| Error::internal(format!("UPSTREAM_CA_FILE {shown} cannot be read"), error))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in ureq::tls::parse_pem(&pem) {
        let item = item.map_err(|error| Error::internal(format!("UPSTREAM_CA_FILE {shown} is not PEM"), error))?;
        if let ureq::tls::PemItem::Certificate(certificate) = item {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(Error::new(Kind::Internal, format!("UPSTREAM_CA_FILE {shown} holds no certificate")));
    }
    let mozilla = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    certificates.extend(mozilla.map(|root| Certificate::from_der(root.as_ref())));
    Ok(RootCerts::from(certificates))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_found_in_time_ends_a_request_on_every_way() {
        let bound = Duration::from_millis(200);
        let long = Duration::from_secs(60);
        let bounds = Bounds { connect: bound, first_byte: long, idle: long, total: long };
        let hanging = Names::looked_up(|_, _| {
            std::thread::sleep(Duration::from_secs(60));
            Vec::new()
        });
        let upstream = Upstream { names: Arc::new(hanging), ..Upstream::new(bounds, None).unwrap() };
        for scheme in [None, Some("socks5"), Some("socks5h"), Some("http"), Some("https")] {
            let proxy = scheme.map(|scheme| Proxy {
                scheme: scheme.to_owned(),
                host: "proxy.test".to_owned(),
                port: 1080,
                username: None,
                password: None,
            });
            let call = Call::post("https://slow.test/v1/messages".to_owned(), Vec::new(), b"{}", proxy.as_ref());
            let start = Instant::now();
            let kind = upstream.open(&call, None).err().map(|error| error.kind());
            assert_eq!(kind, Some(Kind::UpstreamTimeout), "{scheme:?}");
            assert!((bound..Duration::from_secs(5)).contains(&start.elapsed()), "{scheme:?} {:?}", start.elapsed());
        }
        let departed: Departed = Arc::new(|| true);
        let bounds = Bounds { connect: long, ..bounds };
        let patient = Upstream { names: upstream.names, ..Upstream::new(bounds, None).unwrap() };
        let call = Call::post("https://slow.test/v1/messages".to_owned(), Vec::new(), b"{}", None);
        let kind = patient.open(&call, Some(departed)).err().map(|error| error.kind());
        assert_eq!(kind, Some(Kind::ClientGone));
    }
}
