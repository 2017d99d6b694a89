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

/// Tokens by model, and the pace of the last minutes.
#[derive(Debug, Default)]
pub struct Totals {
    models: Mutex<BTreeMap<String, Tokens>>,
    pace: Pace,
}

impl Totals {
    /// Counts one answer. Called once a request, at its end.
    pub(super) fn add(&self, model: &str, tokens: &Tokens) {
        self.pace.add(tokens.all());
        let model = model.get(..NAME_BYTES_MAX).unwrap_or(model);
        let model = if model.len() > NAME_BYTES_MAX { OTHER } else { model };
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        let is_room = models.len() < MODELS_MAX || models.contains_key(model);
        let sum = models.entry(if is_room { model } else { OTHER }.to_owned()).or_default();
        sum.input += tokens.input;
        sum.output += tokens.output;
        sum.cache_creation_5m += tokens.cache_creation_5m;
        sum.cache_creation_1h += tokens.cache_creation_1h;
        sum.cache_read += tokens.cache_read;
    }

    /// What ended in each of the last five minutes, oldest first; the last is the one that ends now.
    pub fn minutes(&self) -> [Done; MINUTES] {
        self.pace.minutes()
    }

    /// The sums so far, by model.
    pub fn by_model(&self) -> Vec<(String, Tokens)> {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.iter().map(|(model, tokens)| (model.clone(), *tokens)).collect()
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
            totals.add(&format!("m{number}"), &one);
        }
        totals.add("m0", &one);
        let sums = totals.by_model();
        assert_eq!(sums.len(), MODELS_MAX + 1);
        let of = |name: &str| sums.iter().find(|(model, _)| model == name).map(|(_, tokens)| tokens.input);
        assert_eq!((of("m0"), of(OTHER)), (Some(2), Some(200 - MODELS_MAX as i64)));
    }
}
