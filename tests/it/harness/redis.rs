//! A real Redis on a free port, with the recorded database of the original.

use super::Folder;
use serde_json::Value;
use std::io::Read;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub const PASSWORD: &str = "p@ss/word:1";

/// A running Redis, ended on drop.
pub struct Redis {
    pub port: u16,
    /// Its certificate, if it speaks TLS.
    pub pem: Option<String>,
    _process: Started,
    _folder: Folder,
}

struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn url(port: u16, is_tls: bool) -> String {
    if is_tls {
        format!("rediss://:p%40ss%2Fword%3A1@localhost:{port}/0")
    } else {
        format!("redis://:p%40ss%2Fword%3A1@127.0.0.1:{port}/0")
    }
}

fn client(port: u16, pem: Option<&str>) -> redis::Client {
    let url = url(port, pem.is_some());
    match pem {
        None => redis::Client::open(url).unwrap(),
        Some(pem) => {
            let roots = redis::TlsCertificates { client_tls: None, root_cert: Some(pem.as_bytes().to_vec()) };
            redis::Client::build_with_tls(url, roots).unwrap()
        }
    }
}

/// A file of the recorded installation; those with `.gz` are unpacked.
pub fn original(name: &str) -> String {
    let path = format!("{}/tests/fixtures/original/{name}", env!("CARGO_MANIFEST_DIR"));
    let bytes = std::fs::read(&path).expect(&path);
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect(&path);
    } else {
        text = String::from_utf8(bytes).expect(&path);
    }
    text
}

pub fn original_json(name: &str) -> Value {
    serde_json::from_str(&original(name)).expect(name)
}

impl Redis {
    /// An empty one that asks for a password.
    pub fn start() -> Redis {
        Redis::launch(Folder::new(), |port| vec!["--port".to_owned(), port], None)
    }

    /// The same, over TLS alone.
    pub fn with_tls() -> Redis {
        let folder = Folder::new();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let pem = made.cert.pem();
        let file = |name: &str| folder.0.join(name).to_string_lossy().into_owned();
        let (certificate, key) = (file("redis.crt"), file("redis.key"));
        std::fs::write(&certificate, &pem).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let arguments = move |port: String| {
            let pairs = [
                ("--port", "0"),
                ("--tls-port", &port),
                ("--tls-cert-file", &certificate),
                ("--tls-key-file", &key),
                ("--tls-ca-cert-file", &certificate),
                ("--tls-auth-clients", "no"),
            ];
            pairs.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]).collect()
        };
        Redis::launch(folder, arguments, Some(pem))
    }

    fn launch(folder: Folder, arguments: impl Fn(String) -> Vec<String>, pem: Option<String>) -> Redis {
        // The port is free now; should another take it first, the server ends and the next try gets another.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let process = Command::new("redis-server")
                .args(arguments(port.to_string()))
                .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--requirepass", PASSWORD, "--dir", &folder.0.to_string_lossy()])
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            let mut started = Started(process);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(10) && started.0.try_wait().unwrap().is_none() {
                let pong: Result<String, _> =
                    client(port, pem.as_deref()).get_connection().and_then(|mut db| redis::cmd("PING").query(&mut db));
                if pong.is_ok_and(|pong| pong == "PONG") {
                    return Redis { port, pem, _process: started, _folder: folder };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("no Redis could be started");
    }

    /// One with everything that the original had stored, its sessions and states of the moment too.
    pub fn with_original() -> Redis {
        Redis::start().filled()
    }

    pub fn filled(self) -> Redis {
        let redis = self;
        let dump = original_json("redis-dump.json.gz");
        let mut pipeline = redis::pipe();
        for (name, record) in dump["keys"].as_object().unwrap() {
            match record["value"].as_object() {
                None => drop(pipeline.cmd("SET").arg(name).arg(record["value"].as_str().unwrap())),
                Some(fields) => {
                    let command = pipeline.cmd("HSET").arg(name);
                    for (field, value) in fields {
                        command.arg(field).arg(value.as_str().unwrap());
                    }
                }
            }
        }
        pipeline.exec(&mut redis.connection()).unwrap();
        redis
    }

    pub fn url(&self) -> String {
        url(self.port, self.pem.is_some())
    }

    pub fn connection(&self) -> redis::Connection {
        client(self.port, self.pem.as_deref()).get_connection().unwrap()
    }

    pub fn run(&self, command: &[&str]) {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut self.connection()).unwrap();
    }
}
