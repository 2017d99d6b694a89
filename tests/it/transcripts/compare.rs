//! What is compared of two answers, and how a difference is named.

use super::recorded::{Answered, Recorded};
use serde_json::Value;
use std::cmp::Reverse;

/// Fields whose value the contract fixes (sections 3.1 and 3.2, and what belongs to single answers).
const FIXED: &[&str] = &[
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "origin-agent-cluster",
    "referrer-policy",
    "strict-transport-security",
    "x-content-type-options",
    "x-dns-prefetch-control",
    "x-download-options",
    "x-frame-options",
    "x-permitted-cross-domain-policies",
    "x-xss-protection",
    "cache-control",
    "pragma",
    "expires",
    "content-security-policy",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
    "access-control-allow-credentials",
    "content-type",
    "location",
    "retry-after",
    "x-ratelimit-limit",
    "x-powered-by",
    "request-id",
    "x-should-retry",
];

/// Fields that change from answer to answer: only that they are there, and their shape.
const SHAPED: [&str; 4] = ["x-request-id", "etag", "x-ratelimit-reset", "x-ratelimit-remaining"];

/// Members of our JSON that the original's has not (the extended interface).
const EXTRA: &[&str] = &[
    "message",
    "kind",
    "baseUrl",
    "priority",
    "schedulable",
    "tokenExpiresAt",
    "modelMapping",
    "maxConcurrency",
    "inFlight",
    "expiresOn",
    "isExpired",
    "dailyCostLimit",
    "rest",
    "rests",
    "windows",
    "otherWindows",
    "usage",
    "boundKeys",
    "affinities",
    "scopes",
    "limits",
    "isValid",
    "planName",
    "remaining",
    "unit",
    "isPasswordMadeUp",
    "cost",
    "tags",
    "allowedModels",
    "dailyCostLimit",
    "weeklyCostLimit",
    "monthlyCostLimit",
    "totalCostLimit",
    "rateLimitCost",
    "expirationMode",
    "activationDays",
    "activatedAt",
    "accountFallback",
];

/// Members whose text is compared to the letter.
const WORDS: [&str; 9] =
    ["error", "message", "type", "code", "service", "limit", "accessToken", "refreshToken", "password"];

/// One difference: where it is, and both sides of it.
#[derive(Debug)]
pub struct Difference {
    pub place: String,
    pub recorded: String,
    pub got: String,
}

/// All differences between what was recorded and what came.
pub fn differences(recorded: &Recorded, got: Option<&Answered>) -> Vec<Difference> {
    let mut found = Vec::new();
    let (expected, got) = match (&recorded.answer, got) {
        (Some(expected), Some(got)) => (expected, got),
        (None, None) => return found,
        (expected, got) => {
            let shown =
                |answer: Option<&Answered>| answer.map_or("no answer".into(), |answer| answer.status.to_string());
            note(&mut found, "status", shown(expected.as_ref()), shown(got));
            return found;
        }
    };
    if expected.status != got.status {
        note(&mut found, "status", expected.status.to_string(), got.status.to_string());
    }
    fields(expected, got, &mut found);
    if recorded.method != "HEAD" && !expected.is_body_omitted() {
        body(expected, got, &mut found);
    }
    found
}

fn note(found: &mut Vec<Difference>, place: &str, recorded: String, got: String) {
    found.push(Difference { place: place.to_owned(), recorded, got });
}

fn fields(expected: &Answered, got: &Answered, found: &mut Vec<Difference>) {
    for name in FIXED.iter().copied() {
        let (recorded, ours) = (expected.field(name), got.field(name));
        if recorded != ours {
            note(found, &format!("field {name}"), format!("{recorded:?}"), format!("{ours:?}"));
        }
    }
    for name in SHAPED {
        let (recorded, ours) = (expected.field(name), got.field(name));
        if recorded.as_deref().map(shape) != ours.as_deref().map(shape) {
            note(found, &format!("field {name}"), format!("{recorded:?}"), format!("{ours:?}"));
        }
    }
    // Naming more than the original did is right: what it left out is a fault of caches.
    let names = |answer: &Answered| -> Vec<String> {
        let value = answer.field("vary").unwrap_or_default().to_ascii_lowercase();
        value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let ours = names(got);
    if names(expected).iter().any(|name| !ours.contains(name)) {
        note(found, "field vary", format!("{:?}", expected.field("vary")), format!("{:?}", got.field("vary")));
    }
}

/// Text with every run of letters and digits made one letter.
fn shape(text: &str) -> String {
    let mut shape = String::new();
    for c in text.chars().map(|c| if c.is_ascii_alphanumeric() || "+/_".contains(c) { 'a' } else { c }) {
        if c != 'a' || !shape.ends_with('a') {
            shape.push(c);
        }
    }
    shape
}

fn body(expected: &Answered, got: &Answered, found: &mut Vec<Difference>) {
    if expected.body.trim_ascii_end() == got.body.trim_ascii_end() {
        return;
    }
    let json = |answer: &Answered| serde_json::from_slice::<Value>(&answer.body).ok();
    match (json(expected), json(got)) {
        (Some(expected), Some(got)) => values("body", &expected, &got, found),
        _ => {
            let (recorded, ours) = (String::from_utf8_lossy(&expected.body), String::from_utf8_lossy(&got.body));
            note(found, "body", recorded.into_owned(), ours.into_owned());
        }
    }
}

fn values(place: &str, expected: &Value, got: &Value, found: &mut Vec<Difference>) {
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (name, value) in expected {
                let place = format!("{place}/{name}");
                match got.get(name) {
                    None => note(found, &place, value.to_string(), "no such member".into()),
                    Some(Value::String(ours)) if WORDS.contains(&name.as_str()) && value.is_string() => {
                        if value != ours.as_str() {
                            note(found, &place, value.to_string(), ours.clone());
                        }
                    }
                    Some(ours) => values(&place, value, ours, found),
                }
            }
            for (name, value) in got {
                if !expected.contains_key(name) && !EXTRA.contains(&name.as_str()) {
                    note(found, &format!("{place}/{name}"), "no such member".into(), value.to_string());
                }
            }
        }
        (Value::Array(expected), Value::Array(got)) => items(&format!("{place}/0"), expected, got, found),
        _ if kind(expected) == kind(got) => {}
        _ => note(found, place, expected.to_string(), got.to_string()),
    }
}

/// The first recorded item against the one of ours that is most like it: lists have no order.
fn items(place: &str, expected: &[Value], got: &[Value], found: &mut Vec<Difference>) {
    let Some(expected) = expected.first() else { return };
    let candidates = got.iter().map(|got| {
        let mut differences = Vec::new();
        values(place, expected, got, &mut differences);
        differences
    });
    // Of two with as many differences, the one that differs further inside.
    let depth = |found: &[Difference]| found.iter().map(|found| found.place.matches('/').count()).sum::<usize>();
    match candidates.min_by_key(|found| (found.len(), Reverse(depth(found)))) {
        Some(differences) => found.extend(differences),
        None => note(found, place, expected.to_string(), "empty".into()),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
