//! What is served: every path in one table, the guards, the admin's handlers, the pages, and the words of each refusal.

mod account_care;
mod account_draft;
mod accounts;
mod address;
mod assets;
mod auth;
mod backup;
mod call;
mod cleanup;
mod departed;
mod dialect;
mod download;
mod entity;
mod fields;
mod form;
mod key_draft;
mod key_limits;
mod key_page;
mod key_routes;
mod keys;
mod limiter;
mod live;
mod logs;
mod metrics;
mod migration;
mod models;
mod money;
mod prices;
mod process;
mod registry;
mod relayed;
mod requests;
mod router;
mod session;
mod settings;
mod sign_in;
mod statistics;
mod status;
mod system;
mod throttle;
mod trends;
mod usage;
mod watch;

pub use auth::hash_password;
pub use cleanup::{CLEANUPS, Cleanup};
pub use logs::LOG_TAIL;
pub use router::{Guard, routes};

use crate::config::Config;
use crate::error::Error;
use crate::http::{Canned, Exchange, Fault, Figures, Head, Pool, Service};
use crate::relay::Relay;
use crate::store::Store;
use call::{Answer, Call};
use router::{Found, Handler};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The target of log lines about the admin's door: logins, refusals, password changes. They have a file of their own.
pub const SECURITY_LOG: &str = "claude_relay::security";

/// Everything that handlers share.
pub struct Server {
    /// As they were at the start.
    pub(crate) config: Config,
    /// Those that an admin may change meanwhile.
    pub(crate) settings: settings::Settings,
    pub(crate) store: Arc<Store>,
    pub(crate) relay: Relay,
    pub(crate) figures: Arc<Figures>,
    pub(crate) started: Instant,
    /// Set when running answers must end now: the shutdown's grace is over.
    pub(crate) give_up: Arc<AtomicBool>,
    drains: Arc<departed::Drains>,
    /// The file with the made-up first password, removed when it is changed.
    pub(crate) first_password_file: PathBuf,
    pub(crate) throttle: throttle::Throttle,
    watchers: watch::Places,
    jobs: system::Jobs,
    migrations: crate::migrate::Migrations,
    address_limit: limiter::AddressLimit,
    registry: registry::Registry,
    fields: fields::Template,
    is_restarting: AtomicBool,
    stop: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Server {
    /// A server over its parts. What an admin has stored is laid over the configuration.
    ///
    /// # Errors
    /// The store's.
    pub fn new(
        sources: Config,
        store: Arc<Store>,
        relay: Relay,
        figures: Arc<Figures>,
    ) -> crate::error::Result<Server> {
        let settings = settings::Settings::load(sources, &store)?;
        relay.notices().aim(settings.hook());
        let config = Config::clone(&settings.now());
        let fields = fields::Template::new(config.enable_cors, config.port);
        let first_password_file = config.data_dir.join("init.json");
        let drain_time_max = Duration::from_millis(config.client_gone_drain_ms);
        let drains = Arc::new(departed::Drains::new(config.relay_workers, drain_time_max));
        let address_limit = limiter::AddressLimit::new(config.address_limit);
        let watchers = watch::Places::new(config.relay_workers);
        Ok(Server {
            config,
            settings,
            store,
            relay,
            figures,
            started: Instant::now(),
            give_up: Arc::default(),
            drains,
            first_password_file,
            throttle: throttle::Throttle::default(),
            watchers,
            jobs: system::Jobs::default(),
            migrations: crate::migrate::Migrations::default(),
            address_limit,
            registry: registry::Registry::new(),
            fields,
            is_restarting: AtomicBool::new(false),
            stop: OnceLock::new(),
        })
    }

    /// Ends running answers with an error that their clients can read.
    pub fn give_up(&self) {
        self.give_up.store(true, Ordering::Relaxed);
    }

    /// How often the background thread's jobs run, milliseconds.
    pub fn cleanup_interval_ms(&self) -> u64 {
        self.config.cleanup_interval_ms
    }

    /// Downloads the price table if it is configured and a day has passed since it last came. Gives back what was done, for
    /// the log; `None` if there was nothing to do. Without it, the prices that are there stay in force.
    ///
    /// # Errors
    /// The store's.
    pub fn refresh_prices(&self, now_ms: i64) -> crate::error::Result<Option<String>> {
        let url = &self.settings.now().pricing_url;
        if url.is_empty() {
            return Ok(None);
        }
        let fetched_at_ms = self.store.prices().fetched_at_ms();
        if fetched_at_ms.is_some_and(|at| (at..at + money::PRICES_LIFE_MS).contains(&now_ms)) {
            return Ok(None);
        }
        match self.relay.fetch_prices(url).and_then(|json| self.store.take_fetched_prices(&json, now_ms)) {
            Ok(names) => Ok(Some(format!("{names} names have a price"))),
            Err(error) => {
                log::warn!("the price table of PRICING_URL was not renewed: {error}");
                Ok(None)
            }
        }
    }

    /// Refreshes access tokens ahead of their end. Gives back how many.
    pub fn refresh_tokens(&self, now_ms: i64) -> usize {
        self.relay.refresh_ahead(now_ms)
    }

    /// Folds the write-ahead log into the database.
    ///
    /// # Errors
    /// The store's.
    pub fn checkpoint(&self) -> crate::error::Result<()> {
        self.store.checkpoint()
    }

    fn answer(&self, exchange: Exchange, request_id: &str, mut answer: Answer) {
        let head = exchange.head_arc();
        entity::finish(&head, &mut answer);
        let mut fields = if answer.sets("Cache-Control") {
            self.fields.of_kept(&head, request_id)
        } else {
            self.fields.of(&head, request_id)
        };
        for (name, value) in &answer.fields {
            fields.push(name, value);
        }
        if !answer.body.is_empty() {
            fields.push("Content-Type", answer.content_type);
        }
        self.registry.count(head.method(), head.path(), answer.status);
        log::debug!("answered id={request_id} {} {} status={}", head.method(), head.path(), answer.status);
        if let Err(error) = exchange.answer(answer.status, fields, &answer.body) {
            log::debug!("id={request_id} the client left before its answer: {error}");
        }
    }

    /// Runs a handler that answers with one value, behind its guard.
    fn handle(
        &self,
        exchange: &mut Exchange,
        handler: &Handler,
        params: Vec<String>,
        id: &str,
    ) -> Result<Answer, Answer> {
        let head = exchange.head_arc();
        match handler {
            Handler::Unread(serve) => Ok(serve()),
            Handler::Open(serve) => {
                let call = Call::read(exchange, head, params, id, call::OPEN_BODY_BYTES_MAX)?;
                serve(self, &call)
            }
            Handler::Admin(serve) => {
                let admin = session::admin(self, &head)?;
                let call = Call::read(exchange, head, params, id, call::ADMIN_BODY_BYTES_MAX)?;
                serve(self, &admin, &call)
            }
            Handler::AdminUpload(serve) => {
                let admin = session::admin(self, &head)?;
                serve(self, &admin, &head, &mut call::Upload::new(exchange))
            }
            Handler::AdminBytes(serve) => {
                let admin = session::admin(self, &head)?;
                serve(self, &admin, &call::read_large(exchange, &head)?)
            }
            Handler::Key(serve) | Handler::KeyWaits(serve) => {
                let key = relayed::identify(self, &head)?;
                let call = Call::read(exchange, head, params, id, call::ADMIN_BODY_BYTES_MAX)?;
                serve(self, &key, &call)
            }
            Handler::Relayed | Handler::Counted | Handler::Watch(_) | Handler::AdminDownload(_) => {
                Err(Answer::json(500, &serde_json::json!({ "error": "not reached" })))
            }
        }
    }
}

impl Service for Server {
    fn pool(&self, head: &Head) -> Pool {
        match router::find(head.method(), head.path()) {
            Found::Route(route, _) if route.handler.is_long() => Pool::Relay,
            _ => Pool::Control,
        }
    }

    fn serve(&self, mut exchange: Exchange) {
        let id = call::request_id();
        let head = exchange.head_arc();
        let counted = self.address_limit.count(exchange.peer().ip(), &head, self.config.trust_proxy);
        if let Err(refusal) = counted {
            return self.answer(exchange, &id, refusal);
        }
        let answer = match router::find(head.method(), head.path()) {
            Found::Route(route, params) => match (&route.handler, route.handler.purpose()) {
                (_, Some(purpose)) => return relayed::serve(self, exchange, purpose, &id),
                (Handler::Watch(open), _) => return watch::serve(self, exchange, *open, params, &id),
                (Handler::AdminDownload(prepare), _) => return self.download(exchange, *prepare, params, &id),
                (handler, None) => self.handle(&mut exchange, handler, params, &id).unwrap_or_else(|refusal| refusal),
            },
            Found::Options => Answer::empty(204),
            Found::Nothing => dialect::no_route(&head),
            Found::BadEncoding => dialect::bad_path(&id),
        };
        self.answer(exchange, &id, answer);
        self.restart_if_asked();
    }

    fn overloaded(&self, head: &Head) -> Canned {
        // No log line: this is the door's thread, which must not wait for a disk. The figures count it.
        self.canned(Some(head), dialect::overloaded(head))
    }

    fn malformed(&self, fault: &Fault) -> Canned {
        log::debug!("refused a malformed request: {}", fault.message);
        self.canned(None, dialect::malformed(fault))
    }
}

impl Server {
    /// Sends a file to the admin, piece by piece.
    fn download(&self, mut exchange: Exchange, prepare: router::Prepare, params: Vec<String>, id: &str) {
        let head = exchange.head_arc();
        let prepared = || {
            let admin = session::admin(self, &head)?;
            let call = Call::read(&mut exchange, Arc::clone(&head), params, id, call::ADMIN_BODY_BYTES_MAX)?;
            prepare(self, &admin, &call)
        };
        let download = match prepared() {
            Ok(download) => download,
            Err(refusal) => return self.answer(exchange, id, refusal),
        };
        let mut fields = self.fields.of(&head, id);
        fields.push("Content-Type", download.content_type);
        fields.push("Content-Disposition", format!("attachment; filename=\"{}\"", download.file_name));
        self.registry.count(head.method(), head.path(), 200);
        let mut pieces = call::Pieces::new(exchange.begin(200, fields, None));
        let sent = (download.write)(&mut pieces);
        // What breaks off is aborted, so that it never looks whole.
        if let Err(error) = sent.and_then(|()| pieces.finish().map_err(|error| Error::internal("not sent", error))) {
            log::warn!("id={id} the download of {} broke off: {error}", download.file_name);
        }
    }

    /// How the program is ended to be started anew.
    pub fn when_restarting(&self, stop: impl Fn() + Send + Sync + 'static) {
        if self.stop.set(Box::new(stop)).is_err() {
            log::error!("the way to restart was set twice");
        }
    }

    /// Whether the program is to be started anew when it has ended.
    pub fn is_restarting(&self) -> bool {
        self.is_restarting.load(Ordering::Relaxed)
    }

    pub(crate) fn restart_after_answer(&self) {
        self.is_restarting.store(true, Ordering::Relaxed);
    }

    fn restart_if_asked(&self) {
        if self.is_restarting()
            && let Some(stop) = self.stop.get()
        {
            stop();
        }
    }

    fn canned(&self, head: Option<&Head>, answer: Answer) -> Canned {
        let id = call::request_id();
        let mut fields = match head {
            Some(head) => self.fields.of(head, &id),
            None => self.fields.bare(&id),
        };
        for (name, value) in &answer.fields {
            fields.push(name, value);
        }
        fields.push("Content-Type", answer.content_type);
        Canned { status: answer.status, fields, body: answer.body }
    }
}
