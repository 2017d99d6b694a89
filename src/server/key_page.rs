//! A page of the list of keys: which of thousands are shown, and in which order. Without any of these queries the list is
//! whole, as in the original.

use super::call::{Answer, Call};
use super::dialect::invalid;
use crate::error::Result as Checked;
use crate::model::ApiKey;
use crate::store::Store;
use std::cmp::Reverse;

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
}

const SORTS: [(&str, Sort); 8] = [
    ("createdAt", Sort::CreatedAt),
    ("name", Sort::Name),
    ("lastUsedAt", Sort::LastUsedAt),
    ("expiresAt", Sort::ExpiresAt),
    ("dailyCost", Sort::DailyCost),
    ("monthlyCost", Sort::MonthlyCost),
    ("totalCost", Sort::TotalCost),
    ("totalTokens", Sort::TotalTokens),
];

/// A page that was asked for.
pub(super) struct Asked {
    pub(super) limit: usize,
    pub(super) offset: usize,
    /// In small letters.
    search: String,
    tag: String,
    sort: Sort,
    is_descending: bool,
}

/// Reads the query; `None` where the whole list is asked for.
pub(super) fn asked(call: &Call) -> Result<Option<Asked>, Answer> {
    let names = ["limit", "offset", "search", "sort", "order", "tag"];
    let values = names.map(|name| call.query(name));
    if values.iter().all(Option::is_none) {
        return Ok(None);
    }
    let [limit, offset, search, sort, order, tag] = values;
    let limit = whole(limit, LIMIT).filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let limit = limit.ok_or_else(|| invalid(&format!("limit must be a whole number from 1 to {LIMIT_MAX}")))?;
    let offset = whole(offset, 0).ok_or_else(|| invalid("offset must be a whole number"))?;
    let search = search.unwrap_or_default().trim().to_lowercase();
    if search.chars().count() > SEARCH_CHARS_MAX {
        return Err(invalid(&format!("search must be at most {SEARCH_CHARS_MAX} characters")));
    }
    let sort = match sort.as_deref() {
        None | Some("") => Sort::CreatedAt,
        Some(name) => {
            let known = SORTS.iter().find(|(known, _)| *known == name).map(|(_, sort)| *sort);
            known.ok_or_else(|| invalid(&format!("sort must be one of: {}", SORTS.map(|(name, _)| name).join(", "))))?
        }
    };
    let is_descending = match order.as_deref() {
        None | Some("") => !matches!(sort, Sort::CreatedAt | Sort::Name | Sort::ExpiresAt),
        Some("asc") => false,
        Some("desc") => true,
        Some(_) => return Err(invalid("order must be one of: asc, desc")),
    };
    Ok(Some(Asked { limit, offset, search, tag: tag.unwrap_or_default(), sort, is_descending }))
}

fn whole(text: Option<String>, default: usize) -> Option<usize> {
    match text.as_deref() {
        None | Some("") => Some(default),
        Some(text) => text.parse().ok(),
    }
}

impl Asked {
    /// The keys of the page, and how many there are on all pages.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn cut(&self, store: &Store, mut keys: Vec<ApiKey>, now_ms: i64) -> Checked<(Vec<ApiKey>, usize)> {
        keys.retain(|key| self.matches(key));
        self.order(store, &mut keys, now_ms)?;
        let total = keys.len();
        Ok((keys.into_iter().skip(self.offset).take(self.limit).collect(), total))
    }

    fn matches(&self, key: &ApiKey) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        let is_tagged = self.tag.is_empty() || key.tags.contains(&self.tag);
        let is_found = self.search.is_empty()
            || has(&key.name)
            || has(&key.description)
            || has(&key.id)
            || key.tags.iter().any(|tag| has(tag));
        is_tagged && is_found
    }

    /// Keys come oldest first, and those that are equal stay so.
    fn order(&self, store: &Store, keys: &mut [ApiKey], now_ms: i64) -> Checked<()> {
        match self.sort {
            Sort::CreatedAt => self.by(keys, |key| (key.created_at_ms, key.seq)),
            Sort::Name => self.by(keys, |key| key.name.to_lowercase()),
            Sort::LastUsedAt => self.by(keys, |key| key.last_used_at_ms),
            Sort::ExpiresAt => self.by(keys, |key| key.ends_at_ms().unwrap_or(i64::MAX)),
            Sort::DailyCost | Sort::MonthlyCost | Sort::TotalCost | Sort::TotalTokens => {
                let usage = store.keys_usage(now_ms)?;
                self.by(keys, |key| {
                    let used = usage.of(key.seq);
                    match self.sort {
                        Sort::DailyCost => used.daily.cost.total(),
                        Sort::MonthlyCost => used.monthly.cost.total(),
                        Sort::TotalCost => used.total.cost.total(),
                        _ => used.total.usage.tokens.all(),
                    }
                });
            }
        }
        Ok(())
    }

    fn by<T: Ord>(&self, keys: &mut [ApiKey], value: impl Fn(&ApiKey) -> T) {
        if self.is_descending {
            keys.sort_by_cached_key(|key| (Reverse(value(key)), key.seq));
        } else {
            keys.sort_by_cached_key(|key| (value(key), key.seq));
        }
    }
}
