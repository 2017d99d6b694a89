//! `GET …/v1/models`: which models a key may ask for. It takes no permit and counts in no window.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::anthropic;
use crate::claude::models::{self, Page};
use crate::model::ApiKey;

type Outcome = Result<Answer, Answer>;

/// Models of one answer, unless it is asked for fewer or more, and at most; as the vendor's.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 1000;

fn bad(message: &str) -> Answer {
    anthropic(400, "invalid_request_error", message)
}

/// `GET …/v1/models`.
pub(crate) fn list(server: &Server, key: &ApiKey, call: &Call) -> Outcome {
    let limit = match call.query("limit") {
        None => LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| bad(&format!("limit: must be a whole number from 1 to {LIMIT_MAX}")))?,
    };
    let (after, before) = (call.query("after_id"), call.query("before_id"));
    let fields: Vec<(&str, &[u8])> = call.head.headers().collect();
    let found = server.relay.models(key, &fields);
    let page = Page { limit, after: after.as_deref(), before: before.as_deref() };
    let body = models::page(&found, page).map_err(|message| bad(&message))?;
    Ok(Answer::json(200, &body))
}

/// `GET …/v1/models/{id}`.
pub(crate) fn one(server: &Server, key: &ApiKey, call: &Call) -> Outcome {
    let fields: Vec<(&str, &[u8])> = call.head.headers().collect();
    let found = server.relay.model(key, &fields, call.id());
    // As the vendor writes it; whether there is one that this key may not use is nothing it needs to know.
    let missing = || anthropic(404, "not_found_error", &format!("model: {}", call.id()));
    found.map(|model| Answer::json(200, &model.as_json())).ok_or_else(missing)
}
