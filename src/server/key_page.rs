//! A page of the list of keys: which of thousands are shown, and in which order. Without any of these queries the list is
//! whole, as in the original.

use super::Server;
use super::call::{Answer, Call};
use super::dialect::invalid;
use super::key_limits::{self, Used};
use crate::error::Result as Checked;
use crate::model::ApiKey;
use crate::store::{KeysUsage, WindowUse};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, HashMap};

/// Keys of a page that names no number.
const LIMIT: usize = 50;
/// Keys of the largest page.
const LIMIT_MAX: usize = 200;
/// Longest text that is searched for, in characters.
const SEARCH_CHARS_MAX: usize = 100;

/// What keys are ordered by.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Sort {
    CreatedAt,
    Name,
    LastUsedAt,
    ExpiresAt,
    DailyCost,
    MonthlyCost,
    TotalCost,
    TotalTokens,
    DailyRequests,
    /// How much is used of the limit that is nearest to its end.
    NearestLimit,
}

const SORTS: [(&str, Sort); 10] = [
    ("createdAt", Sort::CreatedAt),
    ("name", Sort::Name),
    ("lastUsedAt", Sort::LastUsedAt),
    ("expiresAt", Sort::ExpiresAt),
    ("dailyCost", Sort::DailyCost),
    ("monthlyCost", Sort::MonthlyCost),
    ("totalCost", Sort::TotalCost),
    ("totalTokens", Sort::TotalTokens),
    ("dailyRequests", Sort::DailyRequests),
    ("nearestLimit", Sort::NearestLimit),
];

/// One word for a key: what keeps it from being used, if anything does.
#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Active,
    Off,
    Expired,
    /// One of its limits has been reached, that of requests at a time aside.
    Reached,
}

const STATES: [(&str, State); 4] =
    [("active", State::Active), ("off", State::Off), ("expired", State::Expired), ("reached", State::Reached)];

/// A page that was asked for.
pub(super) struct Asked {
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// Words in small letters, each of which is to be found somewhere.
    search: Vec<String>,
    tag: String,
    state: Option<State>,
    sort: Sort,
    is_descending: bool,
}

/// Reads the query; `None` where the whole list is asked for.
pub(super) fn asked(call: &Call) -> Result<Option<Asked>, Answer> {
    let names = ["limit", "offset", "search", "sort", "order", "tag", "state"];
    let values = names.map(|name| call.query(name));
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let [limit, offset, search, sort, order, tag, state] = values;
    let limit = whole(limit, LIMIT).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let limit = limit.ok_or_else(|| invalid(&format!("limit must be a whole number from 1 to {LIMIT_MAX}")))?;
    let offset = whole(offset, 0).ok_or_else(|| invalid("offset must be a whole number"))?;
    let search = search.unwrap_or_default().to_lowercase();
    if search.chars().count() > SEARCH_CHARS_MAX {
        return Err(invalid(&format!("search must be at most {SEARCH_CHARS_MAX} characters")));
    }
    let search = search.split_whitespace().map(str::to_owned).collect();
    let sort = one_of("sort", sort.as_deref(), &SORTS)?.unwrap_or(Sort::CreatedAt);
    let state = one_of("state", state.as_deref(), &STATES)?;
    let is_descending = match order.as_deref() {
        None | Some("") => !matches!(sort, Sort::CreatedAt | Sort::Name | Sort::ExpiresAt),
        Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(invalid("order must be one of: asc, desc")),
    };
    Ok(Some(Asked { limit, offset, search, tag: tag.unwrap_or_default(), state, sort, is_descending }))
}

/// Reads a word of a list; none where it is absent or empty.
fn one_of<T: Copy>(name: &str, word: Option<&str>, words: &[(&str, T)]) -> Result<Option<T>, Answer> {
    let Some(word) = word.filter(|word| !word.is_empty()) else { return Ok(None) };
    let known = words.iter().find(|(known, _)| *known == word).map(|(_, value)| Some(*value));
    known.ok_or_else(|| {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        invalid(&format!("{name} must be one of: {}", all.join(", ")))
    })
}

fn whole(text: Option<String>, default: usize) -> Option<usize> {
    match text.as_deref() {
        None | Some("") => Some(default),
        Some(text) => text.parse().ok(),
    }
}

/// A page of keys.
pub(super) struct Cut {
    pub(super) keys: Vec<ApiKey>,
    /// How many there are on all pages.
    pub(super) total: usize,
    /// Every tag of every key, whether it is on a page or not.
    pub(super) tags: BTreeSet<String>,
}

/// What all keys have used, read only where a page depends on it.
struct Use<'a> {
    server: &'a Server,
    usage: KeysUsage,
    windows: HashMap<i64, WindowUse>,
}

impl Use<'_> {
    /// Millionths of the limit that is nearest to its end.
    fn nearest(&self, key: &ApiKey) -> Option<i64> {
        let used = Used {
            spent: self.usage.spent(key.seq),
            window: self.windows.get(&key.seq).copied(),
            running: self.server.relay.running(key.seq),
        };
        key_limits::nearest(key, &used)
    }
}

impl Asked {
    /// The keys of the page.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn cut(&self, server: &Server, mut keys: Vec<ApiKey>, now_ms: i64) -> Checked<Cut> {
        let tags = keys.iter().flat_map(|key| key.tags.iter().cloned()).collect();
        keys.retain(|key| self.matches(key));
        let used = self.needed(server, &keys, now_ms)?;
        if let Some(state) = self.state {
            keys.retain(|key| self::state(key, &used, now_ms) == state);
        }
        self.order(&mut keys, &used);
        let total = keys.len();
        Ok(Cut { keys: keys.into_iter().skip(self.offset).take(self.limit).collect(), total, tags })
    }

    /// What the page depends on, and no more.
    fn needed<'a>(&self, server: &'a Server, keys: &[ApiKey], now_ms: i64) -> Checked<Use<'a>> {
        let is_by_limits =
            self.sort == Sort::NearestLimit || matches!(self.state, Some(State::Active | State::Reached));
        let is_by_use = !matches!(self.sort, Sort::CreatedAt | Sort::Name | Sort::LastUsedAt | Sort::ExpiresAt);
        let (usage, windows) = match (is_by_limits, is_by_use) {
            (true, _) => (server.store.keys_usage(now_ms)?, server.relay.windows(keys, now_ms)?),
            (false, true) => (server.store.keys_bills(now_ms)?, HashMap::new()),
            (false, false) => (KeysUsage::default(), HashMap::new()),
        };
        Ok(Use { server, usage, windows })
    }

    fn matches(&self, key: &ApiKey) -> bool {
        if !self.tag.is_empty() && !key.tags.contains(&self.tag) {
            return false;
        }
        if self.search.is_empty() {
            return true;
        }
        let mut text = [key.name.as_str(), &key.description, &key.id].join("\n");
        key.tags.iter().for_each(|tag| text.extend(["\n", tag]));
        let text = text.to_lowercase();
        self.search.iter().all(|word| text.contains(word))
    }

    /// Keys come oldest first, and those that are equal stay so.
    fn order(&self, keys: &mut [ApiKey], used: &Use<'_>) {
        let of = |key: &ApiKey| used.usage.of(key.seq);
        match self.sort {
            Sort::CreatedAt => self.by(keys, |key| (key.created_at_ms, key.seq)),
            Sort::Name => self.by(keys, |key| Name(key.name.to_lowercase())),
            Sort::LastUsedAt => self.by(keys, |key| key.last_used_at_ms),
            Sort::ExpiresAt => self.by(keys, |key| key.ends_at_ms().unwrap_or(i64::MAX)),
            Sort::DailyCost => self.by(keys, |key| of(key).daily.cost.total()),
            Sort::MonthlyCost => self.by(keys, |key| of(key).monthly.cost.total()),
            Sort::TotalCost => self.by(keys, |key| of(key).total.cost.total()),
            Sort::TotalTokens => self.by(keys, |key| of(key).total.usage.tokens.all()),
            Sort::DailyRequests => self.by(keys, |key| of(key).daily.usage.requests),
            Sort::NearestLimit => self.by(keys, |key| used.nearest(key)),
        }
    }

    fn by<T: Ord>(&self, keys: &mut [ApiKey], value: impl Fn(&ApiKey) -> T) {
        if self.is_descending {
            keys.sort_by_cached_key(|key| (Reverse(value(key)), key.seq));
        } else {
            keys.sort_by_cached_key(|key| (value(key), key.seq));
        }
    }
}

fn state(key: &ApiKey, used: &Use<'_>, now_ms: i64) -> State {
    if !key.is_active {
        State::Off
    } else if key.is_expired(now_ms) {
        State::Expired
    } else if used.nearest(key).is_some_and(|share| share >= key_limits::WHOLE) {
        State::Reached
    } else {
        State::Active
    }
}

/// A name in small letters, in the order in which people read them: `key 9` before `key 10`.
#[derive(Eq, PartialEq)]
struct Name(String);

impl Ord for Name {
    fn cmp(&self, other: &Name) -> Ordering {
        let (mut left, mut right) = (self.0.as_str(), other.0.as_str());
        while let (Some(first), Some(second)) = (left.chars().next(), right.chars().next()) {
            let order = if first.is_ascii_digit() && second.is_ascii_digit() {
                let (mine, theirs) = (number(&mut left), number(&mut right));
                mine.len().cmp(&theirs.len()).then_with(|| mine.cmp(theirs))
            } else {
                (left, right) = (&left[first.len_utf8()..], &right[second.len_utf8()..]);
                first.cmp(&second)
            };
            if order.is_ne() {
                return order;
            }
        }
        left.len().cmp(&right.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Name) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Takes the digits off that a text begins with, and gives them back without leading zeros.
fn number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn names_are_ordered_as_people_read_them() {
        let ordered = ["", "a", "a 1", "a 02", "a 2 b", "a 10", "a10", "aa", "b", "b007", "b7x", "ä", "王"];
        for (at, low) in ordered.iter().enumerate() {
            for high in &ordered[at + 1..] {
                assert!(Name((*low).to_owned()) < Name((*high).to_owned()), "{low} < {high}");
            }
        }
        assert!(Name("a 99999999999999999999998".to_owned()) < Name("a 99999999999999999999999".to_owned()));
    }
}
