//! Prices: which rates hold for a request, and what it costs. The table of the repository is `prices.json` beside this
//! room's files; a downloaded one adds the models that it does not know and never overrides it, because its rates are
//! checked against the vendor's page and those of the download are not (see `tables`).
//!
//! A model is found by its exact name or an exact alias. A model that no table knows has no price, and no guess is made.

mod decimal;
mod overrides;
mod tables;

use super::cost::{Cost, DOLLAR};
use super::ledger::{Line, Tokens};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub use overrides::OVERRIDES_MAX;
pub use tables::{FETCHED_BYTES_MAX, Fault};

/// What a line may cost at most, in pico-dollars: a thousand dollars, more than ten times the largest real request. A line
/// beyond that comes from counts that cannot be true; it stays without a price rather than spoil every sum.
const LINE_COST_MAX: i64 = 1000 * DOLLAR;

/// Endings that clients put behind a model's name and that do not change its price.
const ENDINGS: [&str; 2] = ["[1m]", "-thinking"];

/// Rates of one model, in pico-dollars a token (a dollar per million tokens is 1,000,000).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Rates {
    /// Prompt tokens that no cache held.
    pub input: i64,
    /// Tokens the model writes.
    pub output: i64,
    /// Writes to the five-minute cache.
    pub write_5m: i64,
    /// Writes to the one-hour cache.
    pub write_1h: i64,
    /// Cache reads.
    pub read: i64,
}

/// Rates with what they apply to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct RateLine {
    /// The first instant they hold, Unix milliseconds.
    from_ms: i64,
    /// They hold for prompts of more tokens than this, cache reads and writes counted; for all tokens, output too.
    above: i64,
    rates: Rates,
}

/// What a sum of requests may cost at most, in pico-dollars: a hundred thousand dollars, so that sums of sums stay in range.
const SUM_COST_MAX: i64 = 100_000 * DOLLAR;

/// A multiplier as a ratio: 1.1 is eleven tenths.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Factor {
    numerator: i64,
    denominator: i64,
}

impl Factor {
    /// For people; no amount is computed with it.
    fn as_number(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }
}

const ONE: Factor = Factor { numerator: 1, denominator: 1 };
/// `service_tier: "batch"` halves everything.
const BATCH: Factor = Factor { numerator: 1, denominator: 2 };

/// The price of one model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Price {
    /// In rising order of precedence.
    lines: Vec<RateLine>,
    /// For `speed: "fast"`; `None` where the vendor names none.
    fast: Option<Factor>,
    /// By `inference_geo`; a place that is not named costs nothing extra.
    geo: Vec<(String, Factor)>,
    /// Pico-dollars a search.
    web_search: i64,
}

impl Price {
    /// The rates of a prompt of `prompt` tokens at an instant (Unix milliseconds).
    pub fn rates(&self, at_ms: i64, prompt: i64) -> Option<&Rates> {
        let applies = |line: &&RateLine| line.from_ms <= at_ms && (line.above == 0 || prompt > line.above);
        self.lines.iter().rev().find(applies).map(|line| &line.rates)
    }

    /// All its rates, in rising order of precedence: the first instant they hold (Unix milliseconds, the least number where
    /// there is none), the prompt's tokens that they hold above, and the rates.
    pub fn lines(&self) -> impl Iterator<Item = (i64, i64, &Rates)> {
        self.lines.iter().map(|line| (line.from_ms, line.above, &line.rates))
    }

    /// The multiplier of fast answers, if there is one.
    pub fn fast(&self) -> Option<f64> {
        self.fast.map(Factor::as_number)
    }

    /// The multipliers by place.
    pub fn geo(&self) -> impl Iterator<Item = (&str, f64)> {
        self.geo.iter().map(|(place, factor)| (place.as_str(), factor.as_number()))
    }

    /// Pico-dollars a search.
    pub fn web_search(&self) -> i64 {
        self.web_search
    }

    /// What a line costs. `None` where a rule that it needs is not known, or where its counts cannot be true.
    fn cost(&self, line: &Line, tokens: &Tokens) -> Option<Cost> {
        let prompt = tokens.input.checked_add(tokens.cache_creation_5m)?;
        let prompt = prompt.checked_add(tokens.cache_creation_1h)?.checked_add(tokens.cache_read)?;
        let rates = self.rates(line.at_ms, prompt)?;
        let fast = if line.speed.as_deref() == Some("fast") { self.fast? } else { ONE };
        let batch = if line.service_tier.as_deref() == Some("batch") { BATCH } else { ONE };
        let place = line.inference_geo.as_deref().unwrap_or_default();
        let geo = self.geo.iter().find(|(name, _)| name == place).map_or(ONE, |(_, factor)| *factor);
        let factors = [fast, batch, geo];
        let write = i128::from(tokens.cache_creation_5m) * i128::from(rates.write_5m)
            + i128::from(tokens.cache_creation_1h) * i128::from(rates.write_1h);
        let cost = Cost {
            input: multiplied(i128::from(tokens.input) * i128::from(rates.input), &factors)?,
            output: multiplied(i128::from(tokens.output) * i128::from(rates.output), &factors)?,
            cache_write: multiplied(write, &factors)?,
            cache_read: multiplied(i128::from(tokens.cache_read) * i128::from(rates.read), &factors)?,
            // A search has one price: no multiplier is about it.
            web_search: multiplied(i128::from(line.web_search_requests) * i128::from(self.web_search), &[])?,
        };
        (cost.total() <= LINE_COST_MAX).then_some(cost)
    }
}

/// An amount times all factors. They are multiplied before the one division, which rounds half up. With the rates of the
/// repository's table, whole multiples of 10,000, it never has to: the divisors are 2 and 10.
fn multiplied(amount: i128, factors: &[Factor]) -> Option<i64> {
    let (mut numerator, mut denominator) = (amount, 1_i128);
    for factor in factors {
        numerator = numerator.checked_mul(i128::from(factor.numerator))?;
        denominator = denominator.checked_mul(i128::from(factor.denominator))?;
    }
    let rounded = numerator.checked_add(denominator / 2)?.div_euclid(denominator);
    i64::try_from(rounded).ok().filter(|amount| (0..=LINE_COST_MAX).contains(amount))
}

/// A set of prices with the name it goes by in the ledger.
#[derive(Clone, Debug)]
struct Edition {
    version: String,
    prices: HashMap<String, Arc<Price>>,
    /// Pico-dollars a search.
    web_search: i64,
}

impl Edition {
    fn find(&self, model: &str) -> Option<&Arc<Price>> {
        self.prices.get(model).or_else(|| {
            let bare = ENDINGS.iter().find_map(|ending| model.strip_suffix(ending))?;
            self.prices.get(bare)
        })
    }
}

/// A price that was found.
#[derive(Clone, Debug)]
pub struct Found<'a> {
    /// The price.
    pub price: &'a Price,
    /// The edition it stands in, as the ledger names it.
    pub version: &'a str,
    /// Where that edition is from.
    pub source: PriceSource,
}

/// All prices that are known. It is replaced as a whole; a line is priced from one state of it.
#[derive(Clone, Debug)]
pub struct PriceTable {
    own: Edition,
    fetched: Option<(Edition, i64)>,
    overrides: Option<Edition>,
}

/// Where a price is from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PriceSource {
    /// The repository's table.
    BuiltIn,
    /// The download.
    Downloaded,
    /// The admin.
    Override,
}

impl PriceTable {
    /// The price of a model, by its exact name or alias: the admin's own, else from the repository's table, else from the
    /// downloaded one.
    pub fn find(&self, model: &str) -> Option<Found<'_>> {
        self.editions().find_map(|(edition, source)| {
            edition.find(model).map(|price| Found { price, version: &edition.version, source })
        })
    }

    /// All names that have a price, with it: those of the admin first, then by name.
    pub fn all(&self) -> Vec<(&str, Found<'_>)> {
        let names: BTreeSet<&str> =
            self.editions().flat_map(|(edition, _)| edition.prices.keys()).map(String::as_str).collect();
        let mut all: Vec<_> = names.into_iter().filter_map(|name| Some((name, self.find(name)?))).collect();
        all.sort_by_key(|(_, found)| found.source != PriceSource::Override);
        all
    }

    /// The edition of the admin's own prices.
    pub fn overrides_edition(&self) -> Option<&str> {
        self.overrides.as_ref().map(|edition| edition.version.as_str())
    }

    /// Every Claude model that has a price, by all its names, sorted.
    pub fn models(&self) -> Vec<&str> {
        let names: BTreeSet<&str> =
            self.editions().flat_map(|(edition, _)| edition.prices.keys()).map(String::as_str).collect();
        names.into_iter().filter(|name| name.starts_with("claude-")).collect()
    }

    /// Whether two names are one model's.
    pub fn are_one(&self, first: &str, second: &str) -> bool {
        self.editions().any(|(edition, _)| match (edition.prices.get(first), edition.prices.get(second)) {
            (Some(first), Some(second)) => Arc::ptr_eq(first, second),
            _ => false,
        })
    }

    /// The strongest first.
    fn editions(&self) -> impl Iterator<Item = (&Edition, PriceSource)> {
        let overrides = self.overrides.as_ref().map(|edition| (edition, PriceSource::Override));
        let fetched = self.fetched.as_ref().map(|(edition, _)| (edition, PriceSource::Downloaded));
        overrides.into_iter().chain([(&self.own, PriceSource::BuiltIn)]).chain(fetched)
    }

    /// What a ledger line costs, and by which edition. `None` when it reports no usage or has no price.
    pub fn cost(&self, line: &Line) -> Option<(Cost, String)> {
        let found = self.find(&line.model)?;
        let cost = found.price.cost(line, line.tokens.as_ref()?)?;
        Some((cost, found.version.to_owned()))
    }

    /// The edition of the repository's table.
    pub fn edition(&self) -> &str {
        &self.own.version
    }

    /// What the requests of a sum cost that was counted elsewhere, at the rates of an instant (Unix milliseconds). How long
    /// each prompt was is not known of a sum: the rates are those of ordinary ones. `None` when the model has no price.
    pub fn cost_of_sum(&self, model: &str, at_ms: i64, tokens: &Tokens) -> Option<Cost> {
        let rates = self.find(model)?.price.rates(at_ms, 0)?;
        let amount =
            |count: i64, rate: i64| count.checked_mul(rate).filter(|amount| (0..=SUM_COST_MAX).contains(amount));
        let writes = amount(tokens.cache_creation_5m, rates.write_5m)?;
        Some(Cost {
            input: amount(tokens.input, rates.input)?,
            output: amount(tokens.output, rates.output)?,
            cache_write: writes.checked_add(amount(tokens.cache_creation_1h, rates.write_1h)?)?,
            cache_read: amount(tokens.cache_read, rates.read)?,
            web_search: 0,
        })
    }

    /// How many names have a price.
    pub fn names(&self) -> usize {
        let fetched = self.fetched.iter().flat_map(|(edition, _)| edition.prices.keys());
        let own = self.overrides.iter().flat_map(|edition| edition.prices.keys());
        let others = own.chain(fetched).filter(|name| !self.own.prices.contains_key(*name));
        self.own.prices.len() + others.collect::<BTreeSet<_>>().len()
    }

    /// When the downloaded prices came, Unix milliseconds.
    pub fn fetched_at_ms(&self) -> Option<i64> {
        self.fetched.as_ref().map(|(_, at_ms)| *at_ms)
    }
}

#[cfg(test)]
mod tests;
