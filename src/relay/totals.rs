//! What has been relayed since the start, for whoever watches the process. The bill is the ledger's.

use super::pace::{Done, MINUTES, Pace};
use crate::model::Tokens;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Models that are counted by name: clients choose the names, so their number is bounded.
const MODELS_MAX: usize = 64;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The name under which all further models are counted.
const OTHER: &str = "other";

/// What one model was used for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ModelTotal {
    /// Tokens that were reported.
    pub tokens: Tokens,
    /// What they cost, pico-dollars.
    pub cost: i64,
    /// Answers that were billed without a price.
    pub unpriced: u64,
}

/// Use by model, and the pace of the last minutes.
#[derive(Debug, Default)]
pub struct Totals {
    models: Mutex<BTreeMap<String, ModelTotal>>,
    pace: Pace,
}

impl Totals {
    /// Counts one answer; `cost` is in pico-dollars, `None` for one that has no price. Called once a request, at its end.
    pub(super) fn add(&self, model: &str, tokens: &Tokens, cost: Option<i64>) {
        self.pace.add(tokens.all());
        let model = model.get(..NAME_BYTES_MAX).unwrap_or(model);
        let model = if model.len() > NAME_BYTES_MAX { OTHER } else { model };
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let is_room = models.len() < MODELS_MAX || models.contains_key(model);
        let sum = models.entry(if is_room { model } else { OTHER }.to_owned()).or_default();
        sum.tokens.input += tokens.input;
        sum.tokens.output += tokens.output;
        sum.tokens.cache_creation_5m += tokens.cache_creation_5m;
        sum.tokens.cache_creation_1h += tokens.cache_creation_1h;
        sum.tokens.cache_read += tokens.cache_read;
        sum.cost = sum.cost.saturating_add(cost.unwrap_or(0));
        sum.unpriced += u64::from(cost.is_none());
    }

    /// What ended in each of the last five minutes, oldest first; the last is the one that ends now.
    pub fn minutes(&self) -> [Done; MINUTES] {
        self.pace.minutes()
    }

    /// The sums so far, by model.
    pub fn by_model(&self) -> Vec<(String, ModelTotal)> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(model, total)| (model.clone(), *total)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_names_is_bounded() {
        let totals = Totals::default();
        let one = Tokens { input: 1, ..Tokens::default() };
        for number in 0..200 {
            totals.add(&format!("m{number}"), &one, Some(7));
        }
        totals.add("m0", &one, None);
        let sums = totals.by_model();
        assert_eq!(sums.len(), MODELS_MAX + 1);
        let of = |name: &str| sums.iter().find(|(model, _)| model == name).map(|(_, total)| total.tokens.input);
        assert_eq!((of("m0"), of(OTHER)), (Some(2), Some(200 - MODELS_MAX as i64)));
        let first = sums.iter().find(|(model, _)| model == "m0").map(|(_, total)| (total.cost, total.unpriced));
        assert_eq!(first, Some((7, 1)));
    }
}
