//! What the accounts have served: sums of the rollups, for a list of all of them.

use super::{Period, Store, rows};
use crate::error::Result;
use crate::model::Bill;
use rusqlite::named_params;
use std::collections::HashMap;

/// What all accounts have served, by row number, and how many keys are bound to each, by id.
#[derive(Default)]
pub struct AccountsUsage {
    today: HashMap<i64, Bill>,
    total: HashMap<i64, Bill>,
    bound_keys: HashMap<String, i64>,
}

impl AccountsUsage {
    /// What an account has served on this local day.
    pub fn today(&self, account_seq: i64) -> Bill {
        self.today.get(&account_seq).copied().unwrap_or_default()
    }

    /// What an account has served since the beginning.
    pub fn total(&self, account_seq: i64) -> Bill {
        self.total.get(&account_seq).copied().unwrap_or_default()
    }

    /// Keys that are bound to an account.
    pub fn bound_keys(&self, account_id: &str) -> i64 {
        self.bound_keys.get(account_id).copied().unwrap_or(0)
    }
}

impl Store {
    /// What all accounts have served until now.
    ///
    /// # Errors
    /// SQLite's.
    pub fn accounts_usage(&self, now_ms: i64) -> Result<AccountsUsage> {
        let bound_keys = self.read(|db| {
            let mut statement = db.prepare_cached(
                "SELECT claude_account_id, count(*) AS keys FROM api_keys
                 WHERE deleted_at_ms IS NULL AND claude_account_id <> '' GROUP BY claude_account_id",
            )?;
            let found = statement.query_map([], |row| Ok((row.get("claude_account_id")?, row.get("keys")?)))?;
            Ok(found.collect::<rusqlite::Result<_>>()?)
        })?;
        let (today, total) = (self.bills_by_account(Period::Day(now_ms))?, self.bills_by_account(Period::Total)?);
        Ok(AccountsUsage { today, total, bound_keys })
    }

    fn bills_by_account(&self, period: Period) -> Result<HashMap<i64, Bill>> {
        let (span, bucket) = self.bucket(period);
        self.read(|db| {
            let mut statement =
                db.prepare_cached("SELECT * FROM rollups WHERE scope = 2 AND span = :span AND bucket = :bucket")?;
            let mut bills: HashMap<i64, Bill> = HashMap::new();
            let found = statement.query_map(named_params! { ":span": span, ":bucket": bucket }, |row| {
                Ok((row.get("subject")?, rows::bill(row)?))
            })?;
            for row in found {
                let (subject, bill): (i64, Bill) = row?;
                bills.entry(subject).or_default().add(&bill);
            }
            Ok(bills)
        })
    }
}
