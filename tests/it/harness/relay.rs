//! The real binary, started on a free port with a folder of its own.

use super::client::{Response, fetch};
use super::{Folder, Upstream};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub const ADMIN: (&str, &str) = ("keeper", "correct-horse-battery");

/// A running relay.
pub struct Relay {
    pub address: SocketAddr,
    pub folder: Arc<Folder>,
    pub log: Arc<Mutex<String>>,
    pub process: Child,
    token: String,
}

/// A key made for a test.
#[derive(Clone, Debug)]
pub struct Key {
    pub id: String,
    pub clear: String,
}

/// How a relay is to be started.
pub struct Start {
    pub folder: Arc<Folder>,
    pub settings: Vec<(String, String)>,
    /// `ulimit -n` of the process.
    pub files_max: Option<u32>,
}

impl Start {
    pub fn new() -> Start {
        let settings = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("ADMIN_USERNAME", ADMIN.0),
            ("ADMIN_PASSWORD", ADMIN.1),
            ("LOG_LEVEL", "debug"),
            ("PRICING_URL", ""),
            ("RELAY_WORKERS", "32"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Start { folder: Arc::new(Folder::new()), settings, files_max: None }
    }

    pub fn with(mut self, name: &str, value: &str) -> Start {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Start {
        self.settings.retain(|(known, _)| known != name);
        self
    }

    pub fn upstream(self, upstream: &Upstream) -> Start {
        self.with("CLAUDE_API_URL", &upstream.url())
    }

    pub fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_claude-relay");
        let mut command = match self.files_max {
            None => Command::new(program),
            Some(max) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {max}; exec \"$0\""), program]);
                shell
            }
        };
        command.env_clear().current_dir(&self.folder.0).envs(self.settings.iter().cloned());
        command
    }

    pub fn run(self) -> Relay {
        let mut process =
            self.command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the relay starts");
        let log = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let sink = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|read| read > 0) {
                sink.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut console = String::new();
        while !console.contains("clients") {
            if out.read_line(&mut console).expect("console") == 0 {
                panic!("the relay ended: {console}{}", log.lock().unwrap());
            }
        }
        let address = console.split_whitespace().skip_while(|word| *word != "on").nth(1).unwrap().parse().unwrap();
        // Whatever it prints later must not block it.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let mut relay = Relay { address, folder: self.folder, log, process, token: String::new() };
        if self.settings.iter().any(|(name, _)| name == "ADMIN_PASSWORD") {
            relay.token = relay.login(ADMIN.0, ADMIN.1).json()["token"].as_str().expect("a token").to_owned();
        }
        relay
    }
}

impl Relay {
    /// A relay in front of an upstream, with one API-key account and one key.
    pub fn with_upstream(upstream: &Upstream) -> (Relay, Key) {
        let relay = Start::new().upstream(upstream).run();
        relay.add_api_key_account("first", "sk-ant-secret-of-first");
        let key = relay.add_key("somebody");
        (relay, key)
    }

    pub fn get(&self, target: &str, fields: &[(&str, &str)]) -> Response {
        fetch(self.address, "GET", target, fields, b"")
    }

    pub fn post(&self, target: &str, fields: &[(&str, &str)], body: &[u8]) -> Response {
        fetch(self.address, "POST", target, fields, body)
    }

    pub fn login(&self, username: &str, password: &str) -> Response {
        let body = json!({ "username": username, "password": password }).to_string();
        self.post("/web/auth/login", &[("Content-Type", "application/json")], body.as_bytes())
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// A request by the admin.
    pub fn admin(&self, method: &str, target: &str, body: &Value) -> Response {
        let bearer = format!("Bearer {}", self.token);
        let fields = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        fetch(self.address, method, target, &fields, body.as_bytes())
    }

    /// Signs in anew, as after a restore.
    pub fn sign_in(&mut self) {
        self.token = self.login(ADMIN.0, ADMIN.1).json()["token"].as_str().expect("a token").to_owned();
    }

    /// Sends a backup to be restored.
    pub fn restore(&self, passphrase: &str, file: &[u8]) -> Response {
        let bearer = format!("Bearer {}", self.token);
        let fields = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/octet-stream"),
            ("X-Backup-Passphrase", passphrase),
        ];
        self.post("/admin/restore", &fields, file)
    }

    pub fn add_account(&self, body: &Value) -> Value {
        let response = self.admin("POST", "/admin/claude-accounts", body);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["data"].clone()
    }

    pub fn add_api_key_account(&self, name: &str, secret: &str) -> String {
        let account = self.add_account(&json!({ "name": name, "kind": "api_key", "apiKey": secret }));
        account["id"].as_str().unwrap().to_owned()
    }

    pub fn add_key(&self, name: &str) -> Key {
        self.add_key_with(&json!({ "name": name }))
    }

    pub fn add_key_with(&self, body: &Value) -> Key {
        let response = self.admin("POST", "/admin/api-keys", body);
        assert_eq!(response.status, 200, "{}", response.text());
        let data = &response.json()["data"];
        Key { id: data["id"].as_str().unwrap().to_owned(), clear: data["apiKey"].as_str().unwrap().to_owned() }
    }

    /// A relayed request.
    pub fn message(&self, key: &Key, body: &[u8]) -> Response {
        let fields = [("x-api-key", key.clear.as_str()), ("Content-Type", "application/json")];
        self.post("/api/v1/messages", &fields, body)
    }

    pub fn database(&self) -> PathBuf {
        self.folder.0.join("data/relay.db")
    }

    /// Reads numbers from the database beside the running relay.
    pub fn query(&self, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
        query(&self.database(), sql)
    }

    pub fn count(&self, sql: &str) -> i64 {
        match self.query(sql)[0][0] {
            rusqlite::types::Value::Integer(number) => number,
            ref other => panic!("{other:?}"),
        }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// A figure of `/proc/<pid>/status`, for example `VmRSS` in kB or `Threads`.
    pub fn process_figure(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Kills it and starts another one on the same folder.
    pub fn kill_and_restart(mut self, start: Start) -> Relay {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let folder = Arc::clone(&self.folder);
        drop(self);
        Start { folder, ..start }.run()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn query(path: &Path, sql: &str) -> Vec<Vec<rusqlite::types::Value>> {
    let database = rusqlite::Connection::open(path).unwrap();
    database.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
    let mut statement = database.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}
