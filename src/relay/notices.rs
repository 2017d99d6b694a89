//! Telling an admin through a webhook what happened. A notice is put into a short queue and sent by a thread that lives only
//! while something is to be sent: no request and no job ever waits for a webhook.

use super::admit::Refused;
use super::upstream::{Call, Upstream};
use crate::error::Kind;
use crate::model::notice::{Happening, Hook, Notice};
use crate::model::time::{iso, now_ms};
use crate::model::{Account, AccountEvent, ApiKey, Budget, cost};
use crate::store::{Store, ToldLimit};
use serde_json::json;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Notices that wait; past that the oldest is dropped and counted.
const WAITING_MAX: usize = 200;
/// One try, with everything.
const TRY_TIME_MAX: Duration = Duration::from_secs(5);
/// The largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Pauses between tries; behind the last one a notice is given up.
const PAUSES: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(30),
    Duration::from_secs(120),
    Duration::from_secs(600),
];
/// How often the thread looks up while it waits for a pause's end.
const LOOK_UP_EVERY: Duration = Duration::from_millis(250);
/// Models without a price that are told of on one day, and limits that are remembered here as told.
const MODELS_MAX: usize = 200;
const LIMITS_MAX: usize = 4000;

/// What has become of the notices since the start.
#[derive(Clone, Debug, Default)]
pub struct NoticeFigures {
    /// Notices that wait.
    pub waiting: usize,
    /// Taken by the webhook.
    pub sent: u64,
    /// Given up.
    pub failed: u64,
    /// Dropped for newer ones.
    pub dropped: u64,
    /// When one was taken last, Unix milliseconds.
    pub sent_at_ms: Option<i64>,
    /// What went wrong last, and when, Unix milliseconds.
    pub error: Option<(String, i64)>,
}

/// What came of one try.
pub struct NoticeTrial {
    /// Whether the webhook took it.
    pub is_ok: bool,
    /// Status of its answer; 0 when there was none.
    pub status: u16,
    /// Milliseconds.
    pub latency_ms: u64,
    /// In words.
    pub message: String,
}

struct Pending {
    notice: Notice,
    /// What it says was reached, noted once the webhook has taken it.
    limit: Option<ToldLimit>,
    tries: usize,
    due: Instant,
}

#[derive(Default)]
struct State {
    hook: Option<Arc<Hook>>,
    waiting: VecDeque<Pending>,
    is_sending: bool,
    figures: NoticeFigures,
    /// Limits that were told of or are about to be, by key and name. The store knows those that were told before.
    limits: HashMap<(i64, &'static str), ToldLimit>,
    /// Models that were told of on one local day.
    models: (i64, HashSet<String>),
}

/// The queue and where it leads.
pub struct Notices {
    upstream: Arc<Upstream>,
    store: Arc<Store>,
    state: Mutex<State>,
}

enum Next {
    Send(Box<Pending>, Arc<Hook>),
    Wait(Duration),
    Nothing,
}

impl Notices {
    pub(super) fn new(upstream: Arc<Upstream>, store: Arc<Store>) -> Notices {
        Notices { upstream, store, state: Mutex::default() }
    }

    /// Sends what comes from now on to another webhook, or to none. What waits goes there, too.
    pub fn aim(&self, hook: Option<Hook>) {
        self.lock().hook = hook.map(Arc::new);
    }

    /// What has become of the notices.
    pub fn figures(&self) -> NoticeFigures {
        let state = self.lock();
        NoticeFigures { waiting: state.waiting.len(), ..state.figures.clone() }
    }

    /// Sends one now and waits for the answer, at most some seconds. `None` when there is no webhook.
    pub fn try_now(&self, notice: &Notice) -> Option<NoticeTrial> {
        let hook = self.lock().hook.clone()?;
        Some(self.send(&hook, notice))
    }

    /// Whether anybody is told of limits that are reached.
    pub(super) fn tells_of_limits(&self) -> bool {
        self.lock().wants(Happening::BudgetReached)
    }

    /// A key was refused because a limit is reached. Told once a key, limit and span, also over a restart.
    pub(super) fn limit_reached(self: &Arc<Self>, key: &ApiKey, reached: &Reached) {
        let Reached { name, counted, current, limit, ends_at_ms } = *reached;
        let told = ToldLimit { key_seq: key.seq, name, allowed: limit, ends_at_ms };
        let mut state = self.lock();
        if !state.wants(Happening::BudgetReached) || state.limits.get(&told.place()) == Some(&told) {
            return;
        }
        if state.limits.len() >= LIMITS_MAX {
            state.limits.clear();
        }
        state.limits.insert(told.place(), told.clone());
        drop(state);
        // From here on this is the only request that asks.
        match self.store.is_limit_told(&told) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => log::warn!("whether a reached limit was told is not known, it is told: {error}"),
        }
        let (used, allowed, sentence) = match counted {
            None => {
                let (used, allowed) = (cost::dollars_text(current), cost::dollars_text(limit));
                let sentence = format!("its {name} limit: {used} of {allowed}");
                (json!(cost::dollars(current)), json!(cost::dollars(limit)), sentence)
            }
            Some(what) => (json!(current), json!(limit), format!("its window limit of {what}: {current} of {limit}")),
        };
        let notice = Notice {
            event: Happening::BudgetReached,
            at_ms: now_ms(),
            account: None,
            key: Some((key.id.clone(), key.name.clone())),
            model: None,
            details: json!({
                "limit": name, "used": used, "allowed": allowed, "resetAt": ends_at_ms.map(iso),
            }),
            message: format!("Key {:?} has reached {sentence}", key.name),
        };
        self.raise(notice, Some(told));
    }

    /// A model without a price was used on a local day. Told once a day.
    pub(super) fn unpriced(self: &Arc<Self>, model: &str, day: i64) {
        let mut state = self.lock();
        if !state.wants(Happening::ModelUnpriced) {
            return;
        }
        if state.models.0 != day {
            state.models = (day, HashSet::new());
        }
        if state.models.1.len() >= MODELS_MAX || !state.models.1.insert(model.to_owned()) {
            return;
        }
        drop(state);
        let notice = Notice {
            event: Happening::ModelUnpriced,
            at_ms: now_ms(),
            account: None,
            key: None,
            model: Some(model.to_owned()),
            details: json!({}),
            message: format!(
                "Model {model:?} has no price: its requests are counted and cost nothing until it has one"
            ),
        };
        self.raise(notice, None);
    }

    /// Something happened to an account.
    pub(super) fn of_account(self: &Arc<Self>, happening: Happening, account: &Account, event: &AccountEvent) {
        let name = &account.name;
        let said = if event.message.is_empty() { String::new() } else { format!(": {}", event.message) };
        let is_rest = event.kind == "rest";
        let reason = if is_rest { event.reason.as_deref() } else { Some("stopped") };
        let (details, message) = match (happening, event.until_ms.map(iso)) {
            (Happening::AccountDown, Some(until)) => (
                json!({ "reason": reason, "until": until, "status": event.status }),
                format!("Account {name:?} rests until {until} ({}){said}", reason.unwrap_or_default()),
            ),
            (Happening::AccountDown, None) => (
                json!({ "reason": reason, "until": null, "status": event.status }),
                format!("Account {name:?} is stopped until an admin acts{said}"),
            ),
            (Happening::AccountRecovered, _) => (json!({}), format!("Account {name:?} is back")),
            _ => (json!({}), format!("The tokens of account {name:?} were not refreshed{said}")),
        };
        let account = Some((account.id.clone(), name.clone()));
        let notice = Notice { event: happening, at_ms: event.at_ms, account, key: None, model: None, details, message };
        self.raise(notice, None);
    }

    fn raise(self: &Arc<Self>, notice: Notice, limit: Option<ToldLimit>) {
        let mut state = self.lock();
        if !state.wants(notice.event) {
            return;
        }
        state.push(Pending { notice, limit, tries: 0, due: Instant::now() });
        if state.is_sending {
            return;
        }
        let notices = Arc::clone(self);
        let thread = std::thread::Builder::new().name("webhook".into()).stack_size(512 * 1024);
        match thread.spawn(move || notices.send_all()) {
            Ok(_) => state.is_sending = true,
            // It stays in the queue; the next notice tries again.
            Err(error) => log::error!("cannot start the webhook's thread: {error}"),
        }
    }

    /// Sends until nothing waits any more.
    fn send_all(&self) {
        loop {
            match self.next() {
                Next::Nothing => return,
                Next::Wait(time) => std::thread::sleep(time.min(LOOK_UP_EVERY)),
                Next::Send(pending, hook) => {
                    let tried = self.send(&hook, &pending.notice);
                    self.settle(*pending, &tried);
                }
            }
        }
    }

    /// What is due first. When nothing waits, the thread counts as ended.
    fn next(&self) -> Next {
        let mut state = self.lock();
        let Some(hook) = state.hook.clone() else {
            for pending in std::mem::take(&mut state.waiting) {
                state.forget(&pending);
            }
            state.is_sending = false;
            return Next::Nothing;
        };
        let first = state.waiting.iter().enumerate().min_by_key(|(_, pending)| pending.due);
        let Some((at, due)) = first.map(|(at, pending)| (at, pending.due)) else {
            state.is_sending = false;
            return Next::Nothing;
        };
        let left = due.saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return Next::Wait(left);
        }
        let pending = state.waiting.remove(at);
        pending.map_or(Next::Wait(left), |pending| Next::Send(Box::new(pending), hook))
    }

    fn settle(&self, pending: Pending, tried: &NoticeTrial) {
        if let Some(limit) = pending.limit.as_ref().filter(|_| tried.is_ok)
            && let Err(error) = self.store.note_limit_told(limit)
        {
            log::warn!("a limit that was told of may be told of again after a restart: {error}");
        }
        let mut state = self.lock();
        if tried.is_ok {
            state.figures.sent += 1;
            state.figures.sent_at_ms = Some(now_ms());
            return;
        }
        state.figures.error = Some((tried.message.clone(), now_ms()));
        let event = pending.notice.event.as_str();
        let tries = pending.tries + 1;
        let Some(pause) = PAUSES.get(pending.tries) else {
            state.figures.failed += 1;
            state.forget(&pending);
            log::warn!("a notice of {event} was given up after {tries} tries: {}", tried.message);
            return;
        };
        log::info!("a notice of {event} was not taken (try {tries}): {}", tried.message);
        state.push(Pending { tries, due: Instant::now() + *pause, ..pending });
    }

    /// One try. The address is a secret, so what the HTTP client says of a failure is not passed on.
    fn send(&self, hook: &Hook, notice: &Notice) -> NoticeTrial {
        let start = Instant::now();
        let at_s = now_ms() / 1000;
        let body = hook.body(notice, at_s);
        let signature = hook.signature(&body, at_s);
        let mut call = Call::json("webhook", hook.url.expose(), &body, None);
        if let Some(signature) = signature {
            call = call.with("x-relay-signature", signature);
        }
        let (status, outcome) = match self.upstream.fetch_within(&call, ANSWER_BYTES_MAX, TRY_TIME_MAX) {
            Ok(fetched) => (fetched.status, hook.judge(fetched.status, &fetched.body)),
            Err(error) if error.kind() == Kind::UpstreamTimeout => {
                (0, Err("The webhook gave no answer in time".to_owned()))
            }
            Err(_) => (0, Err("The webhook could not be reached".to_owned())),
        };
        NoticeTrial {
            is_ok: outcome.is_ok(),
            status,
            latency_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            message: outcome.err().unwrap_or_else(|| "The webhook took it".to_owned()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wants(&self, event: Happening) -> bool {
        self.hook.as_ref().is_some_and(|hook| hook.wants(event))
    }

    /// A notice is not sent: the limit that it tells of was not told.
    fn forget(&mut self, pending: &Pending) {
        if let Some(limit) = pending.limit.as_ref().filter(|limit| self.limits.get(&limit.place()) == Some(limit)) {
            self.limits.remove(&limit.place());
        }
    }

    fn push(&mut self, pending: Pending) {
        if self.waiting.len() >= WAITING_MAX {
            let oldest = self.waiting.iter().enumerate().min_by_key(|(_, pending)| pending.notice.at_ms);
            if let Some(dropped) = oldest.map(|(at, _)| at).and_then(|at| self.waiting.remove(at)) {
                self.forget(&dropped);
            }
            self.figures.dropped += 1;
        }
        self.waiting.push_back(pending);
    }
}

/// A limit that a key has reached: pico-dollars, or a count.
pub(super) struct Reached {
    name: &'static str,
    /// What is counted, where that is no money.
    counted: Option<&'static str>,
    current: i64,
    limit: i64,
    /// When a new span begins, Unix milliseconds; `None` = never.
    ends_at_ms: Option<i64>,
}

impl Reached {
    /// The limit that a request was refused for, if it was one of a span of time.
    pub(super) fn of(refused: &Refused) -> Option<Reached> {
        let (name, counted, current, limit, ends_at_ms) = match *refused {
            Refused::Budget { budget, current, limit, ends_at_ms } => {
                let name = match budget {
                    Budget::Daily => "daily",
                    Budget::Weekly => "weekly",
                    Budget::Monthly => "monthly",
                    Budget::Total => "total",
                };
                (name, None, current, limit, ends_at_ms)
            }
            Refused::WindowCost { current, limit, reset_at_ms } => ("window", None, current, limit, Some(reset_at_ms)),
            Refused::Requests { current, limit, reset_at_ms, .. } => {
                ("window_requests", Some("requests"), current, limit, Some(reset_at_ms))
            }
            Refused::Tokens { current, limit, reset_at_ms, .. } => {
                ("window_tokens", Some("tokens"), current, limit, Some(reset_at_ms))
            }
            _ => return None,
        };
        Some(Reached { name, counted, current, limit, ends_at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_notice_goes_where_too_many_wait() {
        let mut state = State::default();
        for number in 0..WAITING_MAX as i64 + 3 {
            let notice = Notice {
                event: Happening::Test,
                at_ms: number,
                account: None,
                key: None,
                model: None,
                details: json!({}),
                message: String::new(),
            };
            state.push(Pending { notice, limit: None, tries: 0, due: Instant::now() });
        }
        assert_eq!((state.waiting.len(), state.figures.dropped), (WAITING_MAX, 3));
        assert_eq!(state.waiting.front().map(|pending| pending.notice.at_ms), Some(3));
    }
}
