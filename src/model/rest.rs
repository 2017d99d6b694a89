//! A rest: an account that is left alone for a while, for a reason, until an end. And the windows it is counted by.

/// Why an account rests.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestReason {
    /// A limit of the vendor's is used up.
    RateLimit,
    /// The vendor has too much to do.
    Overloaded,
    /// Its credential was refused.
    Authentication,
    /// Its money is used up.
    Billing,
    /// The vendor does not let it do this.
    Permission,
    /// It could not be reached, or its way to the vendor is broken.
    Unreachable,
}

/// All reasons, in the order in which they weigh.
const REASONS: [RestReason; 6] = [
    RestReason::RateLimit,
    RestReason::Overloaded,
    RestReason::Authentication,
    RestReason::Billing,
    RestReason::Permission,
    RestReason::Unreachable,
];

impl RestReason {
    /// The name used in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            RestReason::RateLimit => "rate_limit",
            RestReason::Overloaded => "overloaded",
            RestReason::Authentication => "authentication",
            RestReason::Billing => "billing",
            RestReason::Permission => "permission",
            RestReason::Unreachable => "unreachable",
        }
    }

    /// Reads the name used in JSON and in the database.
    pub fn parse(name: &str) -> Option<RestReason> {
        REASONS.into_iter().find(|reason| reason.as_str() == name)
    }

    /// Whether an account that rests for this is only put behind the others, and still used when there is no other: what is
    /// wrong may be over by now, be the same for all of them, or come of one client's requests.
    pub fn is_soft(self) -> bool {
        matches!(self, RestReason::Overloaded | RestReason::Permission | RestReason::Unreachable)
    }
}

/// Where the end of a rest is known from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RestSource {
    /// A header field of the upstream said so.
    Header,
    /// Nobody said so: it starts short and grows with each failure in a row.
    Guess,
}

impl RestSource {
    /// The name used in JSON and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            RestSource::Header => "header",
            RestSource::Guess => "guess",
        }
    }

    /// Reads the name used in JSON and in the database.
    pub fn parse(name: &str) -> Option<RestSource> {
        [RestSource::Header, RestSource::Guess].into_iter().find(|source| source.as_str() == name)
    }
}

/// What rests: the whole account, or what it offers of one family of models.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// Everything.
    Account,
    /// Models of one family, such as `opus`.
    Family(String),
}

impl Scope {
    /// The name used in JSON and in the database: `account`, or the family's.
    pub fn as_str(&self) -> &str {
        match self {
            Scope::Account => "account",
            Scope::Family(family) => family,
        }
    }

    /// Reads the name used in JSON and in the database.
    pub fn parse(name: &str) -> Scope {
        if name == "account" { Scope::Account } else { Scope::Family(name.to_owned()) }
    }

    /// Whether a request for a model of `family` is meant.
    pub fn covers(&self, family: Option<&str>) -> bool {
        match self {
            Scope::Account => true,
            Scope::Family(resting) => family == Some(resting),
        }
    }
}

/// One rest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rest {
    /// Why.
    pub reason: RestReason,
    /// What of the account.
    pub scope: Scope,
    /// Its beginning, Unix milliseconds.
    pub since_ms: i64,
    /// Its end, Unix milliseconds.
    pub until_ms: i64,
    /// Where the end is known from.
    pub source: RestSource,
    /// The upstream's own words, shortened; or what went wrong.
    pub message: String,
    /// Failures in a row that led here; a guessed end grows with it.
    pub failures: u32,
}

/// One of the vendor's windows, as its last answer told it.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// `5h`, `7d`, or another the vendor names.
    pub name: String,
    /// Share that is used up, 0–1, if told.
    pub utilization: Option<f64>,
    /// `allowed`, `allowed_warning` or `rejected`; empty if not told.
    pub status: String,
    /// When it begins anew, Unix milliseconds, if told.
    pub reset_at_ms: Option<i64>,
    /// When this was told, Unix milliseconds.
    pub seen_at_ms: i64,
}

/// One thing that happened to an account, as its history shows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AccountEvent {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// `rest`, `recovered`, `wake`, `refresh`, `refresh_failed`, `stopped`.
    pub kind: String,
    /// Why it rests.
    pub reason: Option<String>,
    /// What of it rests.
    pub scope: Option<String>,
    /// The rest's end, Unix milliseconds.
    pub until_ms: Option<i64>,
    /// Where the end is known from.
    pub source: Option<String>,
    /// Status of the upstream's answer, if there was one.
    pub status: Option<i64>,
    /// In words.
    pub message: String,
}

impl AccountEvent {
    /// An event without a rest.
    pub fn new(at_ms: i64, kind: &str, message: impl Into<String>) -> AccountEvent {
        AccountEvent { at_ms, kind: kind.to_owned(), message: message.into(), ..AccountEvent::default() }
    }

    /// The beginning of a rest.
    pub fn of_rest(rest: &Rest, status: Option<u16>) -> AccountEvent {
        AccountEvent {
            reason: Some(rest.reason.as_str().to_owned()),
            scope: Some(rest.scope.as_str().to_owned()),
            until_ms: Some(rest.until_ms),
            source: Some(rest.source.as_str().to_owned()),
            status: status.map(i64::from),
            ..AccountEvent::new(rest.since_ms, "rest", rest.message.clone())
        }
    }
}

/// The family of a model by its name: `claude-opus-4-5` and `claude-4-opus-20250514` are `opus`. The vendor counts some of
/// its limits by family. `None` for names that are not the vendor's.
pub fn family(model: &str) -> Option<&str> {
    const LETTERS_MAX: usize = 24;
    let rest = model.strip_prefix("claude-")?;
    let word =
        rest.split(['-', '.', '[', '@', ':']).find(|word| !word.starts_with(|first: char| first.is_ascii_digit()))?;
    let is_word = word.bytes().all(|byte| byte.is_ascii_lowercase());
    Some(word).filter(|word| is_word && (1..=LETTERS_MAX).contains(&word.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for reason in REASONS {
            assert_eq!(RestReason::parse(reason.as_str()), Some(reason));
        }
        for scope in [Scope::Account, Scope::Family("opus".into())] {
            assert_eq!(Scope::parse(scope.as_str()), scope);
        }
        assert_eq!(RestReason::parse("x"), None);
    }

    #[test]
    fn a_models_family_is_the_first_word_of_its_name() {
        for (model, expected) in [
            ("claude-opus-4-5-20251101", Some("opus")),
            ("claude-4-opus-20250514", Some("opus")),
            ("claude-3-5-haiku-latest", Some("haiku")),
            ("claude-3-haiku-20240307", Some("haiku")),
            ("claude-sonnet-4-5[1m]", Some("sonnet")),
            ("claude-fable-5.1", Some("fable")),
            ("claude-opus", Some("opus")),
            ("claude-4", None),
            ("claude-", None),
            ("claude-ÄÖ-1", None),
            ("gpt-4", None),
            ("", None),
        ] {
            assert_eq!(family(model), expected, "{model}");
        }
        assert!(Scope::Account.covers(None) && Scope::Family("opus".into()).covers(Some("opus")));
        assert!(!Scope::Family("opus".into()).covers(None) && !Scope::Family("opus".into()).covers(Some("haiku")));
    }
}
