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
    process: Child,
    _folder: Folder,
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
        // The port is free now; should another take it first, the server ends and the next try gets another.
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = Folder::new();
            let process = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .args(["--requirepass", PASSWORD, "--dir", &folder.0.to_string_lossy()])
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is installed");
            let mut redis = Redis { port, process, _folder: folder };
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(10) && redis.process.try_wait().unwrap().is_none() {
                let pong: Result<String, _> =
                    redis.client().get_connection().and_then(|mut db| redis::cmd("PING").query(&mut db));
                if pong.is_ok_and(|pong| pong == "PONG") {
                    return redis;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        panic!("no Redis could be started");
    }

    /// One with everything that the original had stored, its sessions and states of the moment too.
    pub fn with_original() -> Redis {
        let redis = Redis::start();
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
        format!("redis://:p%40ss%2Fword%3A1@127.0.0.1:{}/0", self.port)
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    pub fn connection(&self) -> redis::Connection {
        self.client().get_connection().unwrap()
    }

    pub fn run(&self, command: &[&str]) {
        redis::cmd(command[0]).arg(&command[1..]).exec(&mut self.connection()).unwrap();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
