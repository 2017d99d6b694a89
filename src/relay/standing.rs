//! How each account stands: what it serves now, what of it rests, what its windows say, which conversations stay with it.
//!
//! All of it lives in memory behind one lock that is held for microseconds; the store keeps a copy for the next start.

use super::affinity::{AFFINITIES_MAX, Affinities};
use super::notices::Notices;
use crate::claude::limits::RateLimits;
use crate::claude::verdict::{self, Effect};
use crate::error::Result;
use crate::model::notice::Happening;
use crate::model::{Account, AccountEvent, Rest, RestReason, RestSource, Scope, Window};
use crate::store::{Conversation, Store};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The longest text of an upstream that is kept with a rest, in characters.
const MESSAGE_CHARS_MAX: usize = 300;
/// What windows say is written down at most so often, unless a status changes, milliseconds.
const WINDOWS_KEPT_EVERY_MS: i64 = 60_000;
/// The windows that headroom is measured by.
const MEASURED: [&str; 2] = ["5h", "7d"];

/// The reason of a refresh that failed for good.
pub(super) const SIGN_IN_OVER: &str = "sign_in_over";

/// How one account stands.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Requests that it serves now.
    pub in_flight: i64,
    /// Its rests, also those that are over and not yet followed by a success; at most one a scope.
    pub rests: Vec<Rest>,
    /// The vendor's windows.
    pub windows: Vec<Window>,
    /// When it was last chosen, as a count of choices: a clock that never stands still or runs backwards.
    pub(super) chosen: u64,
    windows_kept_ms: i64,
    /// What an admin was told of it.
    down: Down,
    /// What an admin was told of its refreshes.
    refresh_told: RefreshTold,
}

/// What was told of failed refreshes, the worse the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum RefreshTold {
    #[default]
    Nothing,
    Failing,
    Over,
}

/// Whether an account is out of service as a whole, the worse the greater.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
enum Down {
    #[default]
    No,
    Resting,
    Stopped,
}

impl Standing {
    /// The rest that keeps a request of a family away at `now_ms`: of several, the one that ends last.
    pub(super) fn resting(&self, family: Option<&str>, now_ms: i64) -> Option<&Rest> {
        let is_hard = |rest: &&Rest| !rest.reason.is_soft() && rest.until_ms > now_ms && rest.scope.covers(family);
        self.rests.iter().filter(is_hard).max_by_key(|rest| rest.until_ms)
    }

    /// Whether it serves nobody at `now_ms`.
    pub fn is_resting(&self, now_ms: i64) -> bool {
        self.resting(None, now_ms).is_some()
    }

    /// Until when it is put behind the others at `now_ms`, Unix milliseconds; `None` if it is not.
    pub(super) fn paused_until(&self, family: Option<&str>, now_ms: i64) -> Option<i64> {
        let is_soft = |rest: &&Rest| rest.reason.is_soft() && rest.until_ms > now_ms && rest.scope.covers(family);
        self.rests.iter().filter(is_soft).map(|rest| rest.until_ms).max()
    }

    /// Whether all of it rests at `now_ms`, for a reason that keeps every request away.
    fn rests_whole(&self, now_ms: i64) -> bool {
        self.rests.iter().any(|rest| rest.until_ms > now_ms && is_whole(rest.reason, &rest.scope))
    }

    /// What an admin is to be told of an event: each turn for the worse, and the one for the better, once.
    fn turn(&mut self, event: &AccountEvent) -> Option<Happening> {
        let reason = event.reason.as_deref().and_then(RestReason::parse);
        let scope = event.scope.as_deref().map(Scope::parse);
        let worse = match event.kind.as_str() {
            "stopped" => Down::Stopped,
            "rest" if reason.zip(scope).is_some_and(|(reason, scope)| is_whole(reason, &scope)) => Down::Resting,
            "recovered" | "wake" if self.down != Down::No && !self.rests_whole(event.at_ms) => {
                self.down = Down::No;
                return Some(Happening::AccountRecovered);
            }
            "refresh" => {
                self.refresh_told = RefreshTold::Nothing;
                return None;
            }
            "refresh_failed" => {
                let is_over = event.reason.as_deref() == Some(SIGN_IN_OVER);
                let worse = if is_over { RefreshTold::Over } else { RefreshTold::Failing };
                let is_news = worse > self.refresh_told;
                self.refresh_told = self.refresh_told.max(worse);
                return is_news.then_some(Happening::RefreshFailed);
            }
            _ => return None,
        };
        let is_news = worse > self.down;
        self.down = self.down.max(worse);
        is_news.then_some(Happening::AccountDown)
    }

    /// How much of its windows is used up, in tenths: accounts within a tenth of each other count as equal.
    pub(super) fn used_tenths(&self, now_ms: i64) -> u8 {
        let counts = |window: &&Window| {
            MEASURED.contains(&window.name.as_str()) && window.reset_at_ms.is_none_or(|reset| reset > now_ms)
        };
        let used = self.windows.iter().filter(counts).filter_map(|window| window.utilization).fold(0.0, f64::max);
        (used * 10.0) as u8
    }
}

/// Whether a rest keeps every request away from its account.
fn is_whole(reason: RestReason, scope: &Scope) -> bool {
    !reason.is_soft() && *scope == Scope::Account
}

/// All of them.
pub struct Standings {
    store: Arc<Store>,
    pub(super) notices: Arc<Notices>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) clock: u64,
    pub(super) accounts: HashMap<i64, Standing>,
    pub(super) affinities: Affinities,
}

impl Standings {
    /// As they were kept.
    pub(super) fn load(store: Arc<Store>, notices: Arc<Notices>) -> Result<Standings> {
        let kept = store.standings(AFFINITIES_MAX)?;
        let mut accounts: HashMap<i64, Standing> = HashMap::new();
        for (seq, rest) in kept.rests {
            let standing = accounts.entry(seq).or_default();
            if is_whole(rest.reason, &rest.scope) {
                standing.down = Down::Resting;
            }
            standing.rests.push(rest);
        }
        for account in store.accounts().iter().filter(|account| account.status == "error") {
            accounts.entry(account.seq).or_default().down = Down::Stopped;
        }
        for (seq, window) in kept.windows {
            accounts.entry(seq).or_default().windows.push(window);
        }
        let inner = Inner { clock: 0, accounts, affinities: Affinities::of(kept.affinities) };
        Ok(Standings { store, notices, inner: Mutex::new(inner) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How an account stands now.
    pub fn of(&self, account_seq: i64) -> Standing {
        self.lock().accounts.get(&account_seq).cloned().unwrap_or_default()
    }

    /// Conversations that stay with an account.
    pub fn affinities_of(&self, account_seq: i64, now_ms: i64) -> usize {
        self.lock().affinities.of_account(account_seq, now_ms)
    }

    /// An account has served a request: guesses about it are over, and so are rests whose end has come.
    pub(super) fn succeeded(&self, account: &Account, family: Option<&str>, now_ms: i64) {
        let mut inner = self.lock();
        let is_news = |standing: &&mut Standing| !standing.rests.is_empty() || standing.down != Down::No;
        let Some(standing) = inner.accounts.get_mut(&account.seq).filter(is_news) else {
            return;
        };
        let is_over =
            |rest: &Rest| rest.scope.covers(family) && (rest.source == RestSource::Guess || rest.until_ms <= now_ms);
        let over: Vec<Scope> =
            standing.rests.iter().filter(|rest| is_over(rest)).map(|rest| rest.scope.clone()).collect();
        // A stop that an admin has ended, or a new sign-in, leaves no rest behind.
        let is_back = standing.down != Down::No && !standing.rests_whole(now_ms);
        if over.is_empty() && !is_back {
            return;
        }
        standing.rests.retain(|rest| !is_over(rest));
        drop(inner);
        log::info!("account {:?} serves again", account.name);
        if !over.is_empty() {
            self.store.forget_rests(account.seq, Some(over));
        }
        self.note(account, AccountEvent::new(now_ms, "recovered", "A request was answered"));
    }

    /// Takes note of what an answer's header says of the vendor's windows.
    pub(super) fn saw(&self, account: &Account, limits: &RateLimits, now_ms: i64) {
        if limits.windows.is_empty() {
            return;
        }
        let mut inner = self.lock();
        let standing = inner.accounts.entry(account.seq).or_default();
        let status =
            |windows: &[Window]| -> Vec<String> { windows.iter().map(|window| window.status.clone()).collect() };
        let is_due = now_ms - standing.windows_kept_ms >= WINDOWS_KEPT_EVERY_MS
            || status(&standing.windows) != status(&limits.windows);
        standing.windows.clone_from(&limits.windows);
        if is_due {
            standing.windows_kept_ms = now_ms;
            drop(inner);
            self.store.keep_windows(account.seq, limits.windows.clone());
        }
    }

    /// Notes that an account has served a conversation, which from now on stays with it.
    pub(super) fn pin(&self, conversation: Conversation, account_seq: i64, now_ms: i64) {
        let due = self.lock().affinities.used(conversation, account_seq, now_ms);
        if let Some(affinity) = due {
            self.store.keep_affinity(affinity);
        }
    }

    /// Does to an account what a verdict says. `status` is that of the upstream's answer, if there was one; `said` are its
    /// words.
    pub(super) fn apply(&self, account: &Account, effect: &Effect, status: Option<u16>, said: &str, now_ms: i64) {
        let message = shortened(said);
        match effect {
            Effect::None => {}
            Effect::Stop => self.stop(account, &message, status, now_ms),
            Effect::Rest { reason, scope, until_ms } => {
                let rest = Rest {
                    reason: *reason,
                    scope: scope.clone(),
                    since_ms: now_ms,
                    until_ms: until_ms.map_or(0, |end| end + jitter_ms(account.seq, end - now_ms)),
                    source: effect.source(),
                    message,
                    failures: 0,
                };
                self.rest(account, rest, status);
            }
        }
    }

    /// Lets an account rest, unless it already does for at least as long, or for a guess that was made meanwhile.
    fn rest(&self, account: &Account, mut rest: Rest, status: Option<u16>) {
        let mut inner = self.lock();
        let rests = &mut inner.accounts.entry(account.seq).or_default().rests;
        let before = rests.iter().position(|known| known.scope == rest.scope);
        if let Some(before) = before.map(|at| &rests[at]) {
            let is_running = before.until_ms > rest.since_ms;
            let is_known = rest.source == RestSource::Guess || before.until_ms >= rest.until_ms;
            if is_running && is_known && (!before.reason.is_soft() || rest.reason.is_soft()) {
                return;
            }
            if before.source == RestSource::Guess && before.reason == rest.reason {
                rest.failures = before.failures;
            }
        }
        rest.failures += 1;
        if rest.source == RestSource::Guess {
            rest.until_ms = rest.since_ms + verdict::guessed_ms(rest.reason, rest.failures);
        }
        match before {
            Some(at) => rests[at] = rest.clone(),
            None => rests.push(rest.clone()),
        }
        drop(inner);
        log::warn!(
            "account {:?} rests: reason={} scope={} for_s={} source={} status={} message={:?}",
            account.name,
            rest.reason.as_str(),
            rest.scope.as_str(),
            (rest.until_ms - rest.since_ms) / 1000,
            rest.source.as_str(),
            status.unwrap_or(0),
            rest.message,
        );
        self.store.keep_rest(account.seq, rest.clone());
        self.note(account, AccountEvent::of_rest(&rest, status));
    }

    fn stop(&self, account: &Account, message: &str, status: Option<u16>, now_ms: i64) {
        match self.store.stop_account(account, message) {
            Ok(true) => log::error!("account {:?} is stopped until an admin acts: {message}", account.name),
            // Of many requests that find it so, the first has stopped it; a late one says nothing of a new credential.
            Ok(false) => return,
            Err(error) => log::error!("account {:?} could not be stopped ({message}): {error}", account.name),
        }
        let event = AccountEvent::new(now_ms, "stopped", message);
        self.note(account, AccountEvent { status: status.map(i64::from), ..event });
    }

    /// An admin has given an account another credential: what ends from now on is another end, to be told again.
    pub fn signed_in(&self, account_seq: i64) {
        if let Some(standing) = self.lock().accounts.get_mut(&account_seq) {
            standing.refresh_told = RefreshTold::Nothing;
            // Not back before it has served.
            standing.down = standing.down.min(Down::Resting);
        }
    }

    /// Ends all rests of an account.
    pub fn wake(&self, account: &Account, now_ms: i64) {
        if let Some(standing) = self.lock().accounts.get_mut(&account.seq) {
            standing.rests.clear();
        }
        self.store.forget_rests(account.seq, None);
        self.note(account, AccountEvent::new(now_ms, "wake", "An admin ended the rest"));
    }

    /// Writes down what happened to an account: the one way in to its history.
    pub(super) fn note(&self, account: &Account, event: AccountEvent) {
        let happening = self.lock().accounts.entry(account.seq).or_default().turn(&event);
        if let Some(happening) = happening {
            self.notices.of_account(happening, account, &event);
        }
        self.store.note_account_event(account.seq, event);
    }

    /// Forgets accounts that are no more.
    pub(super) fn retain(&self, is_there: impl Fn(i64) -> bool) {
        self.lock().accounts.retain(|seq, standing| standing.in_flight > 0 || is_there(*seq));
    }

    /// Lets an account rest for not having been reached.
    pub(super) fn unreached(&self, account: &Account, message: &str, now_ms: i64) {
        let effect = Effect::Rest { reason: RestReason::Unreachable, scope: Scope::Account, until_ms: None };
        self.apply(account, &effect, None, message, now_ms);
    }
}

/// A request that an account serves; the seat is free again on drop.
pub(super) struct Seat {
    standings: Arc<Standings>,
    account_seq: i64,
}

impl Seat {
    /// Counts a request in, under the lock that chose the account.
    pub(super) fn take(standings: &Arc<Standings>, standing: &mut Standing, account_seq: i64) -> Seat {
        standing.in_flight += 1;
        Seat { standings: Arc::clone(standings), account_seq }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(standing) = self.standings.lock().accounts.get_mut(&self.account_seq) {
            standing.in_flight -= 1;
        }
    }
}

/// Some time more than the vendor said, so that not all accounts come back at once and no clock is a second early: a
/// twentieth of the rest, at most 30 s, spread by account.
fn jitter_ms(account_seq: i64, length_ms: i64) -> i64 {
    const SPREAD: i64 = 16;
    let most = (length_ms / 20).clamp(0, 30_000);
    most * (1 + account_seq.wrapping_mul(7).rem_euclid(SPREAD)) / SPREAD
}

fn shortened(said: &str) -> String {
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(MESSAGE_CHARS_MAX).collect()
}
