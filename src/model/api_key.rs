//! An API key: what the relay issues to a person or a program, with its limits.

/// A key's record. The clear key is shown once, when it is made; only its hash is kept.
#[derive(Clone, Debug, Default)]
pub struct ApiKey {
    /// Row number: what the ledger refers to. Never used again for another key.
    pub seq: i64,
    /// Public identifier, a UUID.
    pub id: String,
    /// 1–100 characters.
    pub name: String,
    /// Up to 500 characters; may be empty.
    pub description: String,
    /// Tokens per window; 0 = none.
    pub token_limit: i64,
    /// Requests at the same time; 0 = none.
    pub concurrency_limit: i64,
    /// Length of the window in minutes; 0 = none.
    pub rate_limit_window: i64,
    /// Requests per window; 0 = none.
    pub rate_limit_requests: i64,
    /// The admin's switch.
    pub is_active: bool,
    /// The account that serves this key alone; empty = the shared pool.
    pub claude_account_id: String,
    /// Whether `restricted_models` is in force.
    pub enable_model_restriction: bool,
    /// Models this key may not use, by exact name.
    pub restricted_models: Vec<String>,
    /// Unix milliseconds.
    pub created_at_ms: i64,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
    /// Unix milliseconds of the last recorded usage.
    pub last_used_at_ms: Option<i64>,
    /// The end of the key's life as the admin wrote it; empty = never.
    pub expires_at: String,
    /// The same as an instant, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
}

impl ApiKey {
    /// Whether the key's life is over at `now_ms`.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|end| now_ms > end)
    }

    /// Whether this key may use a model. A request without a model passes: the upstream refuses it in its own words.
    pub fn allows_model(&self, model: Option<&str>) -> bool {
        let denied = |model: &str| self.restricted_models.iter().any(|name| name == model);
        !(self.enable_model_restriction && model.is_some_and(denied))
    }
}
