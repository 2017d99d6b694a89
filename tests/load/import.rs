//! How long a large import takes, how much memory it needs and how long it makes clients wait:
//! `cargo test --test import_load`, apart from the other tests because it takes minutes. `LOAD_KEYS` says how many keys there
//! are, 50,000 unless set; each has 40 records of usage.

// A measurement is one story, and a failed unwrap is its failure. The harness has more than is used here.
#![allow(clippy::unwrap_used, clippy::too_many_lines, dead_code, unreachable_pub)]

#[allow(unused_imports)]
#[path = "../it/harness/mod.rs"]
mod harness;
#[allow(unused_imports)]
#[path = "../it/samples.rs"]
mod samples;

use harness::redis::Redis;
use harness::relay::Start;
use harness::{Upstream, upstream};
use samples::message;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const MODELS: [&str; 2] = ["claude-sonnet-4-20250514", "us.anthropic.claude-opus-4-20250514-v1:0"];
const BODY: &[u8] = br#"{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

/// Fills a Redis with keys and, for each, one total, 3 months and 10 days, by model too; and the sums of all.
fn fill(redis: &Redis, keys: u64) {
    let mut connection = redis.connection();
    let months: Vec<String> = (8..11).map(|month| format!("2026-{month:02}")).collect();
    let days: Vec<String> = (1..11).map(|day| format!("2026-10-{day:02}")).collect();
    let record = |pipeline: &mut redis::Pipeline, name: String, total: bool, count: u64| {
        let command = pipeline.cmd("HSET").arg(name);
        for field in ["inputTokens", "outputTokens", "cacheCreateTokens", "cacheReadTokens", "requests"] {
            let field =
                if total { format!("total{}{}", field[..1].to_uppercase(), &field[1..]) } else { field.to_owned() };
            command.arg(field).arg(count);
        }
    };
    for first in (0..keys).step_by(200) {
        let mut pipeline = redis::pipe();
        for number in first..(first + 200).min(keys) {
            let id = format!("{number:08x}-0000-4000-8000-000000000000");
            pipeline
                .cmd("HSET")
                .arg(format!("apikey:{id}"))
                .arg(&["id", &id, "name", &format!("key {number}"), "isActive", "true"])
                .arg(&["apiKey", &format!("{number:064x}"), "createdAt", "2026-08-01T00:00:00.000Z"])
                .arg(&["tokenLimit", "0", "restrictedModels", "[]"]);
            record(&mut pipeline, format!("usage:{id}"), true, 60);
            for (unit, dates) in [("monthly", &months), ("daily", &days)] {
                for date in dates {
                    record(&mut pipeline, format!("usage:{unit}:{id}:{date}"), false, 20);
                    for model in MODELS {
                        record(&mut pipeline, format!("usage:{id}:model:{unit}:{model}:{date}"), false, 10);
                    }
                }
            }
        }
        pipeline.exec(&mut connection).unwrap();
    }
    let mut pipeline = redis::pipe();
    for (unit, dates) in [("monthly", &months), ("daily", &days)] {
        for date in dates {
            for model in MODELS {
                record(&mut pipeline, format!("usage:model:{unit}:{model}:{date}"), false, 10 * keys);
            }
        }
    }
    pipeline.exec(&mut connection).unwrap();
}

fn main() {
    let keys = std::env::var("LOAD_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(50_000);
    let (redis, start) = (Redis::start(), Instant::now());
    fill(&redis, keys);
    let records: u64 = redis::cmd("DBSIZE").query(&mut redis.connection()).unwrap();
    println!("{records} records of {keys} keys in Redis after {:?}", start.elapsed());
    let upstream = Upstream::start(|_| upstream::json(200, &message("claude-sonnet-4-5", 1000, 200)));
    let relay = Start::new().with("LOG_LEVEL", "warn").upstream(&upstream).run();
    relay.add_api_key_account("first", "sk-ant-first");
    let key = relay.add_key("client");
    println!("memory before: {} MB", relay.process_figure("VmRSS") / 1024);
    let body = json!({ "source": "redis", "url": redis.url(), "encryptionKey": "a key for a measurement" });
    let (is_over, longest_ms) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                assert_eq!(relay.message(&key, BODY).status, 200);
                longest_ms.fetch_max(asked.elapsed().as_millis() as u64, Ordering::Relaxed);
                served += 1;
                std::thread::sleep(Duration::from_millis(50));
            }
            served
        });
        let start = Instant::now();
        let id = relay.admin("POST", "/admin/migrate", &body).json()["data"]["id"].as_str().unwrap().to_owned();
        let mut phase = String::new();
        let state = loop {
            let state = relay.admin("GET", &format!("/admin/migrate/{id}"), &Value::Null).json()["data"].clone();
            if state["phase"] != phase.as_str() {
                phase = state["phase"].as_str().unwrap().to_owned();
                println!("{:8.1} s {phase}: {} of {}", start.elapsed().as_secs_f64(), state["done"], state["total"]);
            }
            if state["state"] != "running" {
                break state;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        is_over.store(true, Ordering::Relaxed);
        assert_eq!(state["state"], "done", "{state}");
        println!("{}", state["report"]["usage"]);
        println!("done after {:?}; meanwhile {} requests were served", start.elapsed(), client.join().unwrap());
    });
    println!("longest request meanwhile: {} ms", longest_ms.load(Ordering::Relaxed));
    println!("highest memory: {} MB", relay.process_figure("VmHWM") / 1024);
    println!("database: {} MB", std::fs::metadata(relay.database()).unwrap().len() >> 20);
    let imported = "SELECT sum(requests) FROM imported_usage WHERE scope = 1 AND span = 0";
    assert_eq!(relay.count(imported) as u64, 60 * keys);
}
