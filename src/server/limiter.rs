//! The limit of requests from one address, off unless it is set: all who sit behind one address share it.
//!
//! As in the original: so many requests in 15 minutes from the first one, and who goes on is refused for 15 minutes more.
//! Unlike there it needs no store, so there is none whose failure would refuse everybody.

use super::address;
use super::call::Answer;
use super::dialect::again_in;
use crate::http::Head;
use crate::model::time::{iso, now_ms};
use serde_json::json;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Length of a window, and how long an address that went beyond it is refused.
const WINDOW: Duration = Duration::from_secs(900);
/// Addresses that are counted. Past that the oldest goes.
const ADDRESSES_MAX: usize = 100_000;
/// Refused addresses that are passed over when room is made.
const KEPT_TRIES: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Budget {
    used: u32,
    end: Instant,
}

#[derive(Debug, Default)]
struct State {
    budgets: HashMap<IpAddr, Budget>,
    /// The same addresses, those that came first in front.
    order: VecDeque<IpAddr>,
}

/// The limit and what has been used of it.
#[derive(Debug)]
pub(crate) struct AddressLimit {
    requests_max: u32,
    state: Mutex<State>,
}

impl AddressLimit {
    /// `requests_max` requests an address in 15 minutes; 0 is no limit.
    pub(crate) fn new(requests_max: u32) -> AddressLimit {
        AddressLimit { requests_max, state: Mutex::default() }
    }

    /// Counts a request, unless nothing is limited or its path is exempt.
    ///
    /// # Errors
    /// The contract's refusal (section 6).
    pub(crate) fn count(&self, peer: IpAddr, head: &Head, trusts_proxy: bool) -> Result<(), Answer> {
        let is_exempt = head.method() == "OPTIONS" || matches!(head.path(), "/health" | "/api/health");
        if self.requests_max == 0 || is_exempt {
            return Ok(());
        }
        let address = address::group(address::of(peer, head, trusts_proxy));
        self.count_at(address, Instant::now()).map_err(|wait| {
            log::warn!("refused {} {}: too many requests from {address}", head.method(), head.path());
            self.refusal(wait)
        })
    }

    fn count_at(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.budgets.contains_key(&address) {
            state.make_room(self.requests_max, now);
            state.order.push_back(address);
        }
        let fresh = Budget { used: 0, end: now + WINDOW };
        let budget = state.budgets.entry(address).or_insert(fresh);
        if budget.end <= now {
            *budget = fresh;
        }
        if budget.used > self.requests_max {
            return Err(budget.end - now);
        }
        budget.used += 1;
        if budget.used > self.requests_max {
            budget.end = now + WINDOW;
            return Err(WINDOW);
        }
        Ok(())
    }

    fn refusal(&self, wait: Duration) -> Answer {
        let seconds = match (wait.as_millis() + 500) / 1000 {
            0 => WINDOW.as_secs(),
            seconds => u64::try_from(seconds).unwrap_or(u64::MAX),
        };
        let reset_at_ms = now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        let body = json!({
            "error": "Too Many Requests",
            "message": "Too many requests from this IP, please try again later.",
            "retryAfter": seconds,
        });
        again_in(Answer::json(429, &body), seconds)
            .with("X-RateLimit-Limit", self.requests_max.to_string())
            .with("X-RateLimit-Remaining", "0")
            .with("X-RateLimit-Reset", iso(reset_at_ms))
    }
}

impl State {
    /// Makes room for one more address. One that is refused gets its place again, within reason.
    fn make_room(&mut self, requests_max: u32, now: Instant) {
        let mut tries = 0;
        while self.budgets.len() >= ADDRESSES_MAX {
            let Some(oldest) = self.order.pop_front() else { return self.budgets.clear() };
            let is_refused = |budget: &Budget| budget.used > requests_max && budget.end > now;
            if tries < KEPT_TRIES && self.budgets.get(&oldest).is_some_and(is_refused) {
                self.order.push_back(oldest);
                tries += 1;
            } else {
                self.budgets.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    #[test]
    fn a_window_ends_and_who_went_beyond_it_waits_from_then_on() {
        let (limit, start) = (AddressLimit::new(3), Instant::now());
        let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
        for _ in 0..3 {
            assert_eq!(limit.count_at(address(1), start), Ok(()));
        }
        assert_eq!(limit.count_at(address(2), minutes(1)), Ok(()));
        assert_eq!(limit.count_at(address(1), minutes(10)), Err(WINDOW));
        assert_eq!(limit.count_at(address(1), minutes(11)), Err(Duration::from_secs(14 * 60)));
        assert_eq!(limit.count_at(address(1), minutes(24)), Err(Duration::from_secs(60)));
        assert_eq!(limit.count_at(address(1), minutes(25)), Ok(()));
        assert_eq!(limit.count_at(address(2), minutes(17)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_a_flood_does_not_free_who_is_refused() {
        let (limit, now) = (AddressLimit::new(1), Instant::now());
        let _ = limit.count_at(address(0), now);
        assert_eq!(limit.count_at(address(0), now), Err(WINDOW));
        for number in 1..ADDRESSES_MAX as u32 + 50 {
            assert_eq!(limit.count_at(address(number), now), Ok(()));
        }
        assert_eq!(limit.count_at(address(0), now), Err(WINDOW));
        let state = limit.state.lock().unwrap();
        assert_eq!((state.budgets.len(), state.order.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
    }
}
