//! Step two: which account serves.

use crate::error::{Error, Kind, Result};
use crate::model::{Account, AccountType, ApiKey};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// When each account was last chosen, as a count of choices: a clock that never stands still or runs backwards.
#[derive(Debug, Default)]
pub(super) struct Turns {
    chosen: Mutex<(u64, HashMap<i64, u64>)>,
}

impl Turns {
    /// Chooses the account for a key: its own if it is bound, else the one of the pool with the best priority that was
    /// least recently used. A bound key never falls back to the pool: it was bound for a reason.
    ///
    /// # Errors
    /// No account can serve.
    pub(super) fn select(&self, accounts: &[Arc<Account>], key: &ApiKey) -> Result<Arc<Account>> {
        if !key.claude_account_id.is_empty() {
            return bound(accounts, key);
        }
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let (clock, turns) = &mut *chosen;
        let account = accounts
            .iter()
            .filter(|account| account.account_type == AccountType::Shared && account.schedulable)
            .filter(|account| account.is_usable())
            .min_by_key(|account| (account.priority, turns.get(&account.seq).copied().unwrap_or(0)))
            .ok_or_else(|| Error::new(Kind::NoAccount, "No active shared Claude accounts available"))?;
        *clock += 1;
        turns.insert(account.seq, *clock);
        if turns.len() > accounts.len() {
            turns.retain(|seq, _| accounts.iter().any(|account| account.seq == *seq));
        }
        Ok(Arc::clone(account))
    }
}

fn bound(accounts: &[Arc<Account>], key: &ApiKey) -> Result<Arc<Account>> {
    accounts
        .iter()
        .find(|account| account.id == key.claude_account_id && account.is_usable())
        .cloned()
        .ok_or_else(|| Error::new(Kind::NoAccount, "The account bound to this API key is not available"))
}
