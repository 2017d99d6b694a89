//! `/admin/migrate`: moving in from the original. The work itself is `migrate`'s.

use super::Server;
use super::auth::hash_password;
use super::call::{Answer, Call};
use super::dialect::{invalid, plain, said, titled};
use super::session::Admin;
use crate::error::Kind;
use crate::migrate::{Cancelled, Request, Source};
use crate::model::Sensitive;
use crate::model::moved::{MovedAdmin, whole};
use crate::model::time::{now_ms, parse};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::sync::Arc;

type Outcome = Result<Answer, Answer>;

const KEY_CHARACTERS_MAX: usize = 1000;

/// The body of a request, of which an export is not parsed: it may be large.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(default)]
    source: Value,
    #[serde(default)]
    url: Value,
    #[serde(default)]
    ca_certificate: Option<String>,
    #[serde(borrow, default)]
    export: Option<&'a RawValue>,
    #[serde(default)]
    encryption_key: Value,
    #[serde(default)]
    dry_run: Value,
    #[serde(default)]
    timezone_offset: Value,
    #[serde(default)]
    sample_api_key: Value,
    #[serde(default)]
    init: Value,
}

/// `POST /admin/migrate`.
pub(crate) fn start(server: &Server, admin: &Admin, body: &[u8]) -> Outcome {
    let body: Body<'_> = serde_json::from_slice(body).map_err(|_| invalid("The request body must be a JSON object"))?;
    let request = request(&body)?;
    let started = server.migrations.start(Arc::clone(&server.store), request);
    let id = started.map_err(|error| match error.kind() {
        Kind::Limited => said(409, &error),
        _ => titled("Failed to start the migration")(error),
    })?;
    log::info!("{} began migration {id}", admin.username);
    Ok(Answer::data(json!({ "id": id })))
}

fn request(body: &Body<'_>) -> Result<Request, Answer> {
    let encryption_key = text(&body.encryption_key)
        .filter(|key| key.chars().count() <= KEY_CHARACTERS_MAX)
        .ok_or_else(|| invalid("encryptionKey is required"))?;
    let source = match body.source.as_str() {
        Some("redis") => Source::Redis {
            url: Sensitive::new(text(&body.url).ok_or_else(|| invalid("url is required"))?.to_owned()),
            roots: body.ca_certificate.clone().filter(|pem| !pem.is_empty()),
        },
        Some("json") => Source::Json(export(body.export)?),
        _ => return Err(invalid("source must be redis or json")),
    };
    let is_dry_run = match &body.dry_run {
        Value::Null => false,
        Value::Bool(is_dry_run) => *is_dry_run,
        _ => return Err(invalid("dryRun must be a boolean")),
    };
    Ok(Request {
        source,
        encryption_key: Sensitive::new(encryption_key.to_owned()),
        offset_hours: offset(&body.timezone_offset)?,
        sample: text(&body.sample_api_key).map(|key| Sensitive::new(key.to_owned())),
        admin: first_admin(&body.init)?,
        is_dry_run,
    })
}

/// Text that is there.
fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

/// An export as it is or as the text of its file.
fn export(raw: Option<&RawValue>) -> Result<Sensitive, Answer> {
    let required = || invalid("export is required: the content of an export file");
    let raw = raw.map(RawValue::get).ok_or_else(required)?;
    match raw.as_bytes().first() {
        Some(b'{') => Ok(Sensitive::new(raw.to_owned())),
        Some(b'"') => serde_json::from_str(raw).map(Sensitive::new).map_err(|_| required()),
        _ => Err(required()),
    }
}

/// The original's rule: the whole hours that it begins with, and its default for none and 0.
fn offset(value: &Value) -> Result<Option<i64>, Answer> {
    let hours = match value {
        Value::Null => Some(0),
        Value::Number(number) => number.as_f64().map(|hours| hours as i64),
        Value::String(text) if text.trim().is_empty() => Some(0),
        Value::String(text) => whole(text),
        _ => None,
    };
    match hours {
        Some(0) => Ok(None),
        Some(hours) if (-14..=14).contains(&hours) => Ok(Some(hours)),
        _ => Err(invalid("timezoneOffset must be a whole number from -14 to 14")),
    }
}

/// The admin of `data/init.json`, given as an object or as its text. Its password is in the clear there.
fn first_admin(init: &Value) -> Result<Option<MovedAdmin>, Answer> {
    let wrong = || invalid("init must be the content of data/init.json, with adminUsername and adminPassword");
    let members: Map<String, Value> = match init {
        Value::Null => return Ok(None),
        Value::String(text) if text.trim().is_empty() => return Ok(None),
        Value::String(text) => serde_json::from_str(text).map_err(|_| wrong())?,
        Value::Object(members) => members.clone(),
        _ => return Err(wrong()),
    };
    let member = |name: &str| members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(username), Some(password)) = (member("adminUsername"), member("adminPassword")) else {
        return Err(wrong());
    };
    let hash = hash_password(password).map_err(titled("Failed to start the migration"))?;
    Ok(Some(MovedAdmin {
        username: username.to_owned(),
        password_hash: Sensitive::new(hash),
        created_at_ms: member("initializedAt").and_then(parse).unwrap_or_else(now_ms),
    }))
}

/// `GET /admin/migrate`: those of this process, the newest first.
pub(crate) fn list(server: &Server, _: &Admin, _: &Call) -> Outcome {
    Ok(Answer::data(server.migrations.all()))
}

/// `GET /admin/migrate/:id`.
pub(crate) fn show(server: &Server, _: &Admin, call: &Call) -> Outcome {
    server.migrations.shown(call.id()).map(Answer::data).ok_or_else(unknown)
}

/// `DELETE /admin/migrate/:id`.
pub(crate) fn cancel(server: &Server, admin: &Admin, call: &Call) -> Outcome {
    match server.migrations.cancel(call.id()) {
        Cancelled::Yes => {
            log::info!("{} cancelled migration {}", admin.username, call.id());
            Ok(Answer::done("The migration is being cancelled"))
        }
        Cancelled::TooLate => Err(plain(409, "The migration has ended", "The migration has ended")),
        Cancelled::Unknown => Err(unknown()),
    }
}

fn unknown() -> Answer {
    plain(404, "Migration not found", "Migration not found")
}
