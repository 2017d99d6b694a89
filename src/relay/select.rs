//! Step two: which account serves. The key's own if it is bound; the one its conversation stays with; else of the pool the
//! best by priority, then headroom, then requests in flight, then the one that was chosen longest ago.

use super::standing::{Inner, Seat, Standing, Standings};
use crate::error::{Error, Kind};
use crate::model::time::iso;
use crate::model::{Account, AccountType, ApiKey};
use crate::store::Conversation;
use std::fmt;
use std::sync::Arc;

/// What an account is wanted for.
pub(super) struct Wanted<'a> {
    /// Whose request it is.
    pub(super) key: &'a ApiKey,
    /// The family of the model that is asked for.
    pub(super) family: Option<&'a str>,
    /// The conversation it belongs to.
    pub(super) conversation: Option<Conversation>,
    /// Accounts that were tried for it.
    pub(super) tried: &'a [i64],
    /// Accounts that have used up what they may cost today.
    pub(super) over_budget: &'a [i64],
    /// The end of this local day, Unix milliseconds.
    pub(super) day_end_ms: Option<i64>,
}

/// An account that is to serve.
pub(super) struct Chosen {
    /// The account as it stood when it was chosen.
    pub(super) account: Arc<Account>,
    /// Its place among the account's requests.
    pub(super) seat: Seat,
    /// Why this one.
    pub(super) reason: &'static str,
}

/// What there is.
pub(super) enum Choice {
    /// An account.
    Serve(Chosen),
    /// The one that the conversation stays with is away until about this instant, Unix milliseconds.
    Away(i64),
    /// None.
    Nobody(Nobody),
}

/// Why no account can serve, as exact counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Nobody {
    is_bound: bool,
    all: u32,
    tried: u32,
    /// Stopped, switched off, without a credential, past their end.
    unusable: u32,
    resting: u32,
    busy: u32,
    over_budget: u32,
    /// The first end of a rest or of a spent day, Unix milliseconds.
    pub(super) until_ms: Option<i64>,
}

impl Nobody {
    /// Whether an account would serve if it had fewer requests now.
    pub(super) fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// Whether none is there that an admin would not first have to mend.
    pub(super) fn as_error(&self) -> Error {
        let message = match self.is_bound {
            true => "The account bound to this API key is not available",
            false => "No active shared Claude accounts available",
        };
        Error::new(Kind::NoAccount, message)
    }
}

impl fmt::Display for Nobody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Nobody { all, tried, unusable, resting, busy, over_budget, .. } = self;
        write!(
            f,
            "accounts={all} tried={tried} unusable={unusable} resting={resting} busy={busy} over_budget={over_budget}"
        )?;
        self.until_ms.map_or(Ok(()), |until| write!(f, " until={}", iso(until)))
    }
}

impl Standings {
    /// Chooses an account and takes a seat with it.
    pub(super) fn choose(self: &Arc<Self>, accounts: &[Arc<Account>], wanted: &Wanted<'_>, now_ms: i64) -> Choice {
        let is_bound = !wanted.key.claude_account_id.is_empty();
        match self.choose_from(accounts, wanted, is_bound, now_ms) {
            // The admin has allowed this key to leave its account.
            Choice::Nobody(_) if is_bound && wanted.key.account_fallback => {
                self.choose_from(accounts, wanted, false, now_ms)
            }
            choice => choice,
        }
    }

    fn choose_from(
        self: &Arc<Self>,
        accounts: &[Arc<Account>],
        wanted: &Wanted<'_>,
        is_bound: bool,
        now_ms: i64,
    ) -> Choice {
        let mut inner = self.lock();
        let serves = |account: &Account| serves(account, wanted.key, is_bound);
        let mut nobody = Nobody { is_bound, ..Nobody::default() };
        let mut ready = Vec::new();
        for account in accounts.iter().filter(|account| serves(account)) {
            if nobody.counts(account, inner.accounts.get(&account.seq), wanted, now_ms) {
                ready.push(account);
            }
        }
        if let Some(choice) =
            self.pinned(&mut inner, accounts.iter().filter(|account| serves(account)), &ready, wanted, now_ms)
        {
            return choice;
        }
        let unknown = Standing::default();
        let best = ready.into_iter().min_by_key(|account| {
            let standing = inner.accounts.get(&account.seq).unwrap_or(&unknown);
            let is_paused = standing.paused_until(wanted.family, now_ms).is_some();
            (is_paused, account.priority, standing.used_tenths(now_ms), standing.in_flight, standing.chosen)
        });
        let reason = match (is_bound, wanted.key.claude_account_id.is_empty(), wanted.tried.is_empty()) {
            (true, _, _) => "bound",
            (false, false, _) => "fallback",
            (false, true, true) => "pool",
            (false, true, false) => "failover",
        };
        match best {
            Some(account) => Choice::Serve(self.seat(&mut inner, account, reason)),
            None => Choice::Nobody(nobody),
        }
    }

    /// The account that the conversation stays with, if it is ready or will be.
    fn pinned<'a>(
        self: &Arc<Self>,
        inner: &mut Inner,
        mut accounts: impl Iterator<Item = &'a Arc<Account>>,
        ready: &[&Arc<Account>],
        wanted: &Wanted<'_>,
        now_ms: i64,
    ) -> Option<Choice> {
        let pinned = inner.affinities.account(wanted.conversation.as_ref()?, now_ms)?;
        let standing = inner.accounts.get(&pinned);
        if let Some(account) = ready.iter().find(|account| account.seq == pinned) {
            let paused_until = standing.and_then(|standing| standing.paused_until(wanted.family, now_ms));
            return Some(match paused_until {
                None => Choice::Serve(self.seat(inner, account, "affinity")),
                Some(until_ms) => Choice::Away(until_ms),
            });
        }
        let account = accounts.find(|account| account.seq == pinned)?;
        let is_away = !account.is_usable() || account.is_expired(now_ms);
        if is_away || wanted.tried.contains(&pinned) || wanted.over_budget.contains(&pinned) {
            return None;
        }
        // It rests, or has no seat left: when one will be free, nobody knows.
        let rest = standing.and_then(|standing| standing.resting(wanted.family, now_ms));
        Some(Choice::Away(rest.map_or(now_ms, |rest| rest.until_ms)))
    }

    fn seat(self: &Arc<Self>, inner: &mut Inner, account: &Arc<Account>, reason: &'static str) -> Chosen {
        inner.clock += 1;
        let standing = inner.accounts.entry(account.seq).or_default();
        standing.chosen = inner.clock;
        Chosen { account: Arc::clone(account), seat: Seat::take(self, standing, account.seq), reason }
    }
}

/// Whether an account is there for a key at all.
fn serves(account: &Account, key: &ApiKey, is_bound: bool) -> bool {
    match is_bound {
        false => account.account_type == AccountType::Shared && account.schedulable,
        true => account.id == key.claude_account_id,
    }
}

impl Nobody {
    fn is_back_at(&mut self, at_ms: Option<i64>) {
        self.until_ms = self.until_ms.into_iter().chain(at_ms).min();
    }

    /// Counts an account; gives back whether it is ready.
    fn counts(&mut self, account: &Account, standing: Option<&Standing>, wanted: &Wanted<'_>, now_ms: i64) -> bool {
        self.all += 1;
        if wanted.tried.contains(&account.seq) {
            self.tried += 1;
        }
        let rest = standing.and_then(|standing| standing.resting(wanted.family, now_ms));
        if !account.is_usable() || account.is_expired(now_ms) {
            self.unusable += 1;
        } else if let Some(rest) = rest {
            self.resting += 1;
            self.is_back_at(Some(rest.until_ms));
        } else if wanted.over_budget.contains(&account.seq) {
            self.over_budget += 1;
            self.is_back_at(wanted.day_end_ms);
        } else if is_full(account, standing) {
            self.busy += u32::from(!wanted.tried.contains(&account.seq));
        } else {
            return !wanted.tried.contains(&account.seq);
        }
        false
    }
}

fn is_full(account: &Account, standing: Option<&Standing>) -> bool {
    account.max_concurrency > 0 && standing.is_some_and(|standing| standing.in_flight >= account.max_concurrency)
}
