//! An API key: what the relay issues to a person or a program, with its limits.

use super::Budget;

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
    /// The end of the key's life as the admin wrote it; empty = never. In force where the life is fixed.
    pub expires_at: String,
    /// The same as an instant, Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Up to 20 words of the admin's, 1–50 characters each.
    pub tags: Vec<String>,
    /// The only models that this key may use, by exact name; empty = all.
    pub allowed_models: Vec<String>,
    /// Pico-dollars a local day; 0 = none.
    pub daily_cost_limit: i64,
    /// Pico-dollars a local week, which begins on Monday; 0 = none.
    pub weekly_cost_limit: i64,
    /// Pico-dollars a local month; 0 = none.
    pub monthly_cost_limit: i64,
    /// Pico-dollars for all time; 0 = none.
    pub total_cost_limit: i64,
    /// Pico-dollars per window; 0 = none.
    pub rate_limit_cost: i64,
    /// What the key's life is counted from.
    pub expiration_mode: ExpirationMode,
    /// The life of a key that lives from its first use, in days of 24 hours.
    pub activation_days: i64,
    /// That first use, Unix milliseconds.
    pub activated_at_ms: Option<i64>,
    /// Whether a key that is bound to an account may be served by the shared pool when that account cannot.
    pub account_fallback: bool,
    /// When the key was taken out of service, Unix milliseconds.
    pub deleted_at_ms: Option<i64>,
}

/// What a key's life is counted from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ExpirationMode {
    /// It ends at an instant that the admin names.
    #[default]
    Fixed,
    /// It begins with the first use and lasts so many days.
    Activation,
}

impl ExpirationMode {
    /// As it is written in JSON and in the database.
    pub fn name(self) -> &'static str {
        match self {
            ExpirationMode::Fixed => "fixed",
            ExpirationMode::Activation => "activation",
        }
    }

    /// Reads what [`ExpirationMode::name`] writes.
    pub fn parse(text: &str) -> Option<ExpirationMode> {
        [ExpirationMode::Fixed, ExpirationMode::Activation].into_iter().find(|mode| mode.name() == text)
    }
}

const DAY_MS: i64 = 86_400_000;

impl ApiKey {
    /// The end of the key's life, Unix milliseconds; `None` = never, or not yet known because it was not used yet.
    pub fn ends_at_ms(&self) -> Option<i64> {
        match self.expiration_mode {
            ExpirationMode::Fixed => self.expires_at_ms,
            ExpirationMode::Activation => {
                let life_ms = self.activation_days.saturating_mul(DAY_MS);
                self.activated_at_ms.map(|start| start.saturating_add(life_ms))
            }
        }
    }

    /// Whether the key's life is over at `now_ms`.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.ends_at_ms().is_some_and(|end| now_ms > end)
    }

    /// Whether the key's life begins with its next use.
    pub fn awaits_activation(&self) -> bool {
        self.expiration_mode == ExpirationMode::Activation && self.activated_at_ms.is_none()
    }

    /// The limit of a budget, pico-dollars; 0 = none.
    pub fn cost_limit(&self, budget: Budget) -> i64 {
        match budget {
            Budget::Daily => self.daily_cost_limit,
            Budget::Weekly => self.weekly_cost_limit,
            Budget::Monthly => self.monthly_cost_limit,
            Budget::Total => self.total_cost_limit,
        }
    }

    /// The key's window, milliseconds; `None` where it has none, or where nothing is counted in it.
    pub fn window_ms(&self) -> Option<i64> {
        const MINUTE_MS: i64 = 60_000;
        let is_counted = self.rate_limit_requests > 0 || self.token_limit > 0 || self.rate_limit_cost > 0;
        (self.rate_limit_window > 0 && is_counted).then(|| self.rate_limit_window.saturating_mul(MINUTE_MS))
    }

    /// Whether this key may use a model. A request without a model passes: the upstream refuses it in its own words.
    pub fn allows_model(&self, model: Option<&str>) -> bool {
        let Some(model) = model else { return true };
        let is_in = |names: &[String]| names.iter().any(|name| name == model);
        let is_denied = self.enable_model_restriction && is_in(&self.restricted_models);
        !is_denied && (self.allowed_models.is_empty() || is_in(&self.allowed_models))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_must_be_allowed_and_not_denied() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (allowed, denied, is_in_force, model, expected) in [
            (names(&[]), names(&[]), false, Some("a"), true),
            (names(&["a"]), names(&[]), false, Some("a"), true),
            (names(&["a"]), names(&[]), false, Some("a-1"), false),
            (names(&["a"]), names(&[]), false, Some("A"), false),
            (names(&["a"]), names(&[]), false, None, true),
            (names(&["a", "b"]), names(&["b"]), true, Some("b"), false),
            (names(&["a", "b"]), names(&["b"]), false, Some("b"), true),
            (names(&[]), names(&["b"]), true, Some("b"), false),
            (names(&[]), names(&["b"]), true, Some("a"), true),
        ] {
            let key = ApiKey {
                allowed_models: allowed,
                restricted_models: denied,
                enable_model_restriction: is_in_force,
                ..ApiKey::default()
            };
            assert_eq!(key.allows_model(model), expected, "{key:?} {model:?}");
        }
    }

    #[test]
    fn a_life_ends_as_its_mode_says() {
        let fixed = ApiKey { expires_at_ms: Some(5), activated_at_ms: Some(0), ..ApiKey::default() };
        assert!(!fixed.is_expired(5) && fixed.is_expired(6) && !fixed.awaits_activation());
        let fresh = ApiKey {
            expiration_mode: ExpirationMode::Activation,
            activation_days: 2,
            expires_at_ms: Some(5),
            ..ApiKey::default()
        };
        assert!(!fresh.is_expired(i64::MAX) && fresh.awaits_activation());
        let used = ApiKey { activated_at_ms: Some(100), ..fresh };
        assert_eq!(used.ends_at_ms(), Some(100 + 2 * DAY_MS));
        assert!(!used.awaits_activation() && used.is_expired(101 + 2 * DAY_MS));
    }
}
