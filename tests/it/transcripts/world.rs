//! The relays that transcripts are replayed against, each with what its transcripts name: accounts, keys, sessions, and
//! an upstream that says what the recorded one said.

use super::recorded::{Answered, Recorded};
use crate::harness::client::Connection;
use crate::harness::relay::{ADMIN, Start};
use crate::harness::upstream::{self, Received, Step, chunk, last_chunk, send};
use crate::harness::{Relay, Upstream, eventually};
use crate::proxies::{PASSWORD, USER, connect, proxy, socks5};
use crate::samples::{events, message};
use claude_relay::model::time::{iso, now_ms};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Which relay a transcript needs.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// Keys, but no account.
    Empty,
    /// Accounts and keys of every kind.
    Main,
    /// `ENABLE_CORS=true`.
    OpenCors,
    /// Its admin's password is changed.
    Changing,
    /// Its upstream's answer is awaited for a moment only.
    Impatient,
    /// Nobody listens where its upstream should be.
    Refused,
    /// Its upstream's name leads nowhere.
    Unresolvable,
    /// It limits the requests of one address, and this address has used them up.
    Limited,
}

/// The table of set-ups: names begin so.
const PLACES: &[(&str, Place)] = &[
    ("metrics", Place::Empty),
    ("api-health-no-accounts", Place::Empty),
    ("messages-no-account", Place::Empty),
    ("messages-all-inactive", Place::Empty),
    ("dev-", Place::OpenCors),
    ("web-change-password-ok", Place::Changing),
    ("web-login-old-password", Place::Changing),
    ("web-logout-ok", Place::OpenCors),
    ("web-user-after-logout", Place::OpenCors),
    ("admin-after-logout", Place::OpenCors),
    ("upstream-timeout", Place::Impatient),
    ("upstream-refused", Place::Refused),
    ("upstream-enotfound", Place::Unresolvable),
    ("global-rate-limit", Place::Limited),
];

/// The keys of the recording, by how their clear text goes on after the prefix; and what they were made with.
const KEYS: &[(&str, &str)] = &[
    ("0bce69", r#"{"name":"minimal","tokenLimit":0}"#),
    ("83151c", r#"{"name":"deny","enableModelRestriction":true,"restrictedModels":["claude-opus-4-20250514"]}"#),
    ("88801b", r#"{"name":"one at a time","concurrencyLimit":1}"#),
    ("6eabfb", r#"{"name":"rate req","rateLimitWindow":5,"rateLimitRequests":2}"#),
    ("106fbe", r#"{"name":"rate tok","rateLimitWindow":5,"tokenLimit":100}"#),
    ("31d7f8", r#"{"name":"disabled","isActive":false}"#),
    ("3dbd46", r#"{"name":"expired","expiresAt":"2020-01-01T00:00:00.000Z"}"#),
];

/// Keys bound to an account of their own, by what is the matter with it.
const BOUND: &[(&str, &str)] = &[
    ("ce4a3a", "socks5"),
    ("882374", "http"),
    ("173c54", "socks5 refused"),
    ("356700", "http refused"),
    ("a2b736", "nobody"),
    ("b0dc7e", "inactive"),
];

/// The sessions of sign-ins in the recording, each with how a pasted code names its state, that state, and
/// whether it goes by a proxy.
const SIGN_INS: [(&str, &str, &str, bool); 2] = [
    ("5fa801d8-d225-46cd-83b9-9b8b8c80ccba", "#", "statefragment", false),
    ("0eaec83d-9377-448d-a2c7-887c4f317702", "&state=", "zzz", true),
];

/// What tells the granted tokens of the recording apart.
const GRANTED: [&str; 3] = [
    "b5d3a63709998a87a7fbf4b7cc4218eeaa9f08f9",
    "ffde107094526292fdd8b56a833576c38cd184a9",
    "b924f78fe7ca6f5782abd1e873b69a6876fb3514",
];

/// The limit of requests from one address that the original was recorded with, and the address that used it up.
const ADDRESS_LIMIT: u32 = 1000;
const LIMITED_ADDRESS: &str = "203.0.113.9";

pub fn place_of(name: &str) -> Place {
    PLACES.iter().find(|(start, _)| name.starts_with(start)).map_or(Place::Main, |(_, place)| *place)
}

/// How the upstream misbehaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Whole,
    Chunked,
    /// In pieces that split characters.
    Split,
    /// Without an end.
    Cut,
    Reset,
    Silent,
}

struct Reply {
    manner: Manner,
    answer: Answered,
    gate: Option<Arc<AtomicBool>>,
}

/// A running relay with its upstream, and what stands for what in a transcript.
pub struct World {
    pub relay: Relay,
    pub replaced: Vec<(String, String)>,
    upstream: Upstream,
    reply: Arc<Mutex<Reply>>,
}

impl World {
    pub fn start(place: Place) -> World {
        let nothing = Answered { status: 200, fields: Vec::new(), body: Vec::new() };
        let reply = Arc::new(Mutex::new(Reply { manner: Manner::Whole, answer: nothing, gate: None }));
        let script = Arc::clone(&reply);
        let upstream = Upstream::start(move |request| match request.target.as_str() {
            "/token" => token(request),
            _ => steps(&script.lock().unwrap(), request),
        });
        let token_url = format!("http://{}/token", upstream.address);
        let start = Start::new().upstream(&upstream).with("REQUEST_BODY_BYTES_MAX", "10485760");
        let start = start.with("OAUTH_TOKEN_URL", &token_url);
        let start = match place {
            Place::OpenCors | Place::Changing => start.with("ENABLE_CORS", "true"),
            Place::Impatient => start.with("UPSTREAM_FIRST_BYTE_TIMEOUT", "500"),
            Place::Refused => start.with("CLAUDE_API_URL", &format!("http://127.0.0.1:{}/v1/messages", closed_port())),
            Place::Unresolvable => start.with("CLAUDE_API_URL", "https://unresolvable.invalid/v1/messages"),
            Place::Limited => start.with("ADDRESS_RATE_LIMIT", &ADDRESS_LIMIT.to_string()).with("TRUST_PROXY", "true"),
            _ => start,
        };
        let relay = start.run();
        let mut world = World { relay, replaced: Vec::new(), upstream, reply };
        world.stand_for("Transcript-pw-1", ADMIN.1);
        world.stand_for("\"admin\"", &format!("\"{}\"", ADMIN.0));
        world.stand_for("username=admin&", &format!("username={}&", ADMIN.0));
        // A range around the day of the recording becomes one around today.
        let day = |days: i64| iso(now_ms() + days * 86_400_000)[..10].to_owned();
        let range = format!("startDate={}&endDate={}", day(-3), day(1));
        world.stand_for("startDate=2026-11-20&endDate=2026-11-24", &range);
        world.add_sessions();
        if place != Place::Empty {
            world.add_accounts();
        }
        world.add_keys(place);
        match place {
            Place::Main => world.add_sign_ins(),
            Place::Limited => world.use_up_address(),
            _ => {}
        }
        world
    }

    fn stand_for(&mut self, recorded: &str, ours: &str) {
        self.replaced.push((recorded.to_owned(), ours.to_owned()));
    }

    fn add_sessions(&mut self) {
        let token = self.relay.token().to_owned();
        for start in ["5b1879", "6b5fec"] {
            let recorded = recorded_hex("Bearer ", start);
            self.stand_for(&recorded, &token);
        }
        let second = self.relay.login(ADMIN.0, ADMIN.1).json()["token"].as_str().unwrap().to_owned();
        let recorded = recorded_hex("Bearer ", "041a7b");
        self.stand_for(&recorded, &second);
    }

    fn add_accounts(&mut self) {
        let account = |name: &str, more: Value| {
            let mut body = json!({ "name": name, "claudeAiOauth": {
                "accessToken": format!("sk-ant-oat01-{name}"), "refreshToken": "sk-ant-ort01-x",
                "expiresAt": 4_102_444_800_000_i64, "scopes": ["user:inference"],
            } });
            for (member, value) in more.as_object().unwrap() {
                body[member] = value.clone();
            }
            self.relay.add_account(&body)["id"].as_str().unwrap().to_owned()
        };
        let unrefreshable = json!({ "accessToken": "sk-ant-oat01-y", "expiresAt": 4_102_444_800_000_i64 });
        let proxy = json!({ "type": "http", "host": "127.0.0.1", "port": 3129, "username": "u", "password": "p" });
        let others = [
            ("5cd96e68-3ab8-4b1b-b976-400974272298", account("main", json!({}))),
            (
                "b4475414-49ea-45cb-b274-a86c35ff94d0",
                account("proxied", json!({ "accountType": "dedicated", "proxy": proxy })),
            ),
            ("9ebee0d5-c446-43d3-ae5b-611e54e3a7f6", account("to be refreshed", json!({ "accountType": "dedicated" }))),
            (
                "61e2b070-bcc6-4357-aa85-d3424168a876",
                account("not refreshable", json!({ "accountType": "dedicated", "claudeAiOauth": unrefreshable })),
            ),
            ("620698b2-05a8-4d62-b787-850981ef8ee3", account("to be deleted", json!({ "accountType": "dedicated" }))),
        ];
        for (recorded, ours) in others {
            self.stand_for(recorded, &ours);
        }
    }

    fn add_keys(&mut self, place: Place) {
        for (start, body) in KEYS {
            let key = self.relay.add_key_with(&serde_json::from_str(body).unwrap());
            let recorded = recorded_hex("cr_", start);
            self.stand_for(&format!("cr_{recorded}"), &key.clear);
            if *start == "0bce69" {
                self.stand_for("6fa0fec2-89bb-4d84-957d-2d6d26a8cc0e", &key.id);
            }
        }
        let spare = self.relay.add_key("to be deleted");
        self.stand_for("7df2ea62-9f36-4d24-be6b-9ef0168da3ed", &spare.id);
        if place == Place::Main {
            for (start, trouble) in BOUND {
                let account = self.add_bound(trouble);
                let key = self.relay.add_key_with(&json!({ "name": trouble, "claudeAccountId": account }));
                let recorded = recorded_hex("cr_", start);
                self.stand_for(&format!("cr_{recorded}"), &key.clear);
            }
        }
    }

    fn add_bound(&self, trouble: &str) -> String {
        let scheme = if trouble.starts_with("socks5") { "socks5" } else { "http" };
        let port = match scheme {
            "socks5" => proxy(socks5).address.port(),
            _ if trouble == "nobody" => closed_port(),
            _ => proxy(connect).address.port(),
        };
        let password = if trouble.ends_with("refused") { "wrong" } else { PASSWORD };
        let mut body = json!({
            "name": trouble, "kind": "api_key", "apiKey": "sk-1", "accountType": "dedicated",
            "proxy": { "type": scheme, "host": "127.0.0.1", "port": port, "username": USER, "password": password },
        });
        if trouble == "inactive" {
            body["proxy"] = Value::Null;
            body["isActive"] = false.into();
        }
        self.relay.add_account(&body)["id"].as_str().unwrap().to_owned()
    }

    fn add_sign_ins(&mut self) {
        for digits in GRANTED {
            for kind in ["sk-ant-oat01-", "sk-ant-ort01-"] {
                self.stand_for(&format!("{kind}NEW{digits}AAA"), &format!("{kind}new"));
            }
        }
        for (recorded, mark, state, is_proxied) in SIGN_INS {
            let port = proxy(socks5).address.port();
            let proxy = json!({
                "type": "socks5", "host": "127.0.0.1", "port": port, "username": USER, "password": PASSWORD,
            });
            let body = if is_proxied { json!({ "proxy": proxy }) } else { json!({}) };
            let begun = self.relay.admin("POST", "/admin/claude-accounts/generate-auth-url", &body).json();
            let text = |name: &str| begun["data"][name].as_str().unwrap().to_owned();
            self.stand_for(recorded, &text("sessionId"));
            let url = text("authUrl");
            let ours = url.rsplit_once("&state=").unwrap().1;
            self.stand_for(&format!("{mark}{state}"), &format!("{mark}{ours}"));
        }
    }

    fn use_up_address(&self) {
        let mut connection = Connection::open(self.relay.address);
        for _ in 0..ADDRESS_LIMIT {
            connection.request("GET", "/nothing", &[("X-Forwarded-For", LIMITED_ADDRESS)], b"");
            assert_eq!(connection.response().unwrap().status, 404);
        }
    }

    /// Ends what rests or is stopped since the exchange before: the original drew no conclusions. Where an exchange has ended the admin's own
    /// session, nothing is relayed any more.
    fn wake_all(&self) {
        let accounts = self.relay.admin("GET", "/admin/claude-accounts", &Value::Null).json();
        let accounts = accounts["data"].as_array().cloned().unwrap_or_default();
        let is_stopped =
            |account: &Value| account["errorMessage"].as_str().is_some_and(|text| text.contains("organization"));
        for account in accounts.iter().filter(|account| !account["rest"].is_null() || is_stopped(account)) {
            let path = format!("/admin/claude-accounts/{}/wake", account["id"].as_str().unwrap());
            assert_eq!(self.relay.admin("POST", &path, &Value::Null).status, 200);
        }
    }

    /// Sends the recorded request, after the upstream has been told what to say, and gives back what came.
    pub fn replay(&self, recorded: &Recorded) -> Option<Answered> {
        self.wake_all();
        self.instruct(recorded);
        let occupied = recorded.name.contains("concurrency-exceeded").then(|| self.occupy(recorded));
        if recorded.name.starts_with("messages-rate-limit") {
            self.use_up(recorded);
        }
        let mut connection = Connection::open(self.relay.address);
        let mut head = format!("{} {} HTTP/1.1\r\nHost: relay\r\n", recorded.method, recorded.target);
        for (name, value) in &recorded.fields {
            if !["host", "content-length"].iter().any(|own| name.eq_ignore_ascii_case(own)) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        let announced = recorded.fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        // A body that the recorder cut is too large to be read: the relay answers its head.
        let is_cut = recorded.body.ends_with(b" bytes]");
        match announced {
            Some((_, length)) if is_cut => head.push_str(&format!("Content-Length: {length}\r\n")),
            Some(_) => head.push_str(&format!("Content-Length: {}\r\n", recorded.body.len())),
            None => {}
        }
        head.push_str("\r\n");
        connection.send(head.as_bytes());
        if !is_cut {
            connection.send(&recorded.body);
        }
        let answer = if recorded.method == "HEAD" { connection.head() } else { connection.response() };
        if let Some((gate, running)) = occupied {
            gate.store(true, Ordering::Relaxed);
            running.join().unwrap();
        }
        if recorded.name == "admin-key-update-ok" {
            self.restore_key(recorded);
        }
        answer.ok().map(|answer| Answered { status: answer.status, fields: answer.fields, body: answer.body })
    }

    /// Takes back what the original ignored of an update [BUG 56]: other transcripts go on with this key.
    fn restore_key(&self, recorded: &Recorded) {
        let before = json!({ "name": "minimal", "isActive": true, "expiresAt": "", "tokenLimit": 0 });
        assert_eq!(self.relay.admin("PUT", &recorded.target, &before).status, 200);
    }

    /// Has the upstream say what it said when the exchange was recorded.
    fn instruct(&self, recorded: &Recorded) {
        let is_own = recorded.is_upstreams();
        let mut answer = match &recorded.answer {
            Some(answer) if is_own => answer.clone(),
            _ => Answered { status: 200, fields: Vec::new(), body: Vec::new() },
        };
        let is_text = std::str::from_utf8(&answer.body).is_ok_and(|text| !text.contains('\u{fffd}'));
        let is_whole = !recorded.name.ends_with("-cut") || recorded.name.contains("stream");
        if !is_own || !is_text || !is_whole || answer.is_body_omitted() {
            answer.body = if recorded.is_stream() {
                events("claude-sonnet-4-20250514", 60, 60).concat().into_bytes()
            } else {
                message("claude-sonnet-4-20250514", 60, 60).into_bytes()
            };
        }
        let manner = match recorded.name.trim_start_matches("upstream-") {
            "stream-cut" | "json-cut" => Manner::Cut,
            "utf8-split" => Manner::Split,
            "reset-json" | "reset-stream" => Manner::Reset,
            "timeout-json" | "timeout-stream" => Manner::Silent,
            "chunked-json" => Manner::Chunked,
            _ if recorded.is_stream() && answer.status == 200 => Manner::Chunked,
            _ => Manner::Whole,
        };
        *self.reply.lock().unwrap() = Reply { manner, answer, gate: None };
    }

    /// Starts a request of the same key that runs until the gate is opened.
    fn occupy(&self, recorded: &Recorded) -> (Arc<AtomicBool>, JoinHandle<()>) {
        let gate = Arc::new(AtomicBool::new(false));
        self.reply.lock().unwrap().gate = Some(Arc::clone(&gate));
        let before = self.upstream.received().len();
        let (address, fields) = (self.relay.address, recorded.fields.clone());
        let running = std::thread::spawn(move || {
            let key = fields.iter().find(|(name, _)| name == "x-api-key").unwrap();
            let fields = [("x-api-key", key.1.as_str()), ("Content-Type", "application/json")];
            crate::harness::client::fetch(address, "POST", "/api/v1/messages", &fields, crate::samples::REQUEST);
        });
        eventually("the first request runs", || self.upstream.received().len() > before);
        self.reply.lock().unwrap().gate = None;
        (gate, running)
    }

    /// Spends what the key's window allows.
    fn use_up(&self, recorded: &Recorded) {
        let key = recorded.fields.iter().find(|(name, _)| name == "x-api-key").unwrap();
        let fields = [("x-api-key", key.1.as_str()), ("Content-Type", "application/json")];
        for _ in 0..2 {
            self.relay.post("/api/v1/messages", &fields, crate::samples::REQUEST);
        }
    }
}

/// What the token endpoint says: it goes by the code, as the recorded one did.
fn token(request: &Received) -> Vec<Step> {
    let body = request.json();
    let code = body["code"].as_str().unwrap_or_default();
    if code.starts_with("badcode") {
        let refused = json!({ "error": "invalid_grant", "error_description": "Invalid authorization code" });
        return upstream::json(400, &refused.to_string());
    }
    if code.starts_with("objcode") {
        return upstream::json(403, r#"{"type":"error","message":"forbidden by policy"}"#);
    }
    let mut granted = json!({
        "access_token": "sk-ant-oat01-new", "refresh_token": "sk-ant-ort01-new", "expires_in": 28800,
        "scope": "user:inference user:profile",
    });
    if code.starts_with("noscope") {
        granted.as_object_mut().unwrap().remove("scope");
    }
    upstream::json(200, &granted.to_string())
}

/// What the upstream does for one request.
fn steps(reply: &Reply, request: &Received) -> Vec<Step> {
    if let Some(gate) = &reply.gate {
        let gate = Step::Gate(Arc::clone(gate));
        return [gate].into_iter().chain(upstream::json(200, &message("m", 1, 1))).collect();
    }
    let is_stream = String::from_utf8_lossy(&request.body).contains(r#""stream": true"#);
    let kind = reply.answer.field("content-type").unwrap_or_else(|| {
        if is_stream { "text/event-stream; charset=utf-8" } else { "application/json; charset=utf-8" }.to_owned()
    });
    let mut head = format!("HTTP/1.1 {} X\r\nContent-Type: {kind}\r\n", reply.answer.status);
    for name in ["request-id", "retry-after", "x-should-retry"] {
        if let Some(value) = reply.answer.field(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let body = &reply.answer.body;
    let length = format!("Content-Length: {}\r\n\r\n", body.len());
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    match reply.manner {
        Manner::Whole => vec![send(head + &length), send(body)],
        Manner::Chunked => vec![send(head + chunked), chunk(body), last_chunk()],
        Manner::Split => {
            let pieces = body.chunks(37).map(chunk);
            [send(head + chunked)].into_iter().chain(pieces).chain([last_chunk()]).collect()
        }
        Manner::Cut if is_stream => vec![send(head + chunked), chunk(body), Step::Close],
        Manner::Cut => vec![send(head + &length), send(&body[..body.len() / 2]), Step::Close],
        Manner::Reset => vec![Step::Reset],
        Manner::Silent => vec![Step::Wait(Duration::from_secs(2)), Step::Close],
    }
}

fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The 64 digits that begin so and follow `mark` in one of the transcripts.
fn recorded_hex(mark: &str, start: &str) -> String {
    static ALL: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let all = ALL.get_or_init(|| {
        let texts = super::recorded::names().into_iter().map(|name| {
            let bytes = std::fs::read(super::recorded::folder().join(format!("{name}.txt"))).unwrap();
            let request = bytes.split(|byte| *byte == b'\n').take(30).collect::<Vec<_>>().join(&b'\n');
            String::from_utf8_lossy(&request).into_owned()
        });
        texts.collect()
    });
    let at = all.find(&format!("{mark}{start}")).unwrap_or_else(|| panic!("{mark}{start} is in no transcript"));
    all[at + mark.len()..][..64].to_owned()
}
