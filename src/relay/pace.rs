//! How much is relayed at the moment: requests and tokens of the last five minutes.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Seconds that are counted together.
const BUCKET_S: u64 = 10;
/// Buckets of a minute.
const OF_A_MINUTE: usize = 6;
/// Minutes that are told of.
pub(super) const MINUTES: usize = 5;
const BUCKETS: usize = MINUTES * OF_A_MINUTE;

/// What ended within a time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Done {
    /// Requests.
    pub requests: u64,
    /// Their tokens of all kinds.
    pub tokens: u64,
}

/// A ring of buckets, each with the number of the ten seconds that it counts.
#[derive(Debug)]
pub(super) struct Pace {
    start: Instant,
    buckets: Mutex<[(u64, Done); BUCKETS]>,
}

impl Default for Pace {
    fn default() -> Pace {
        Pace { start: Instant::now(), buckets: Mutex::new([(0, Done::default()); BUCKETS]) }
    }
}

impl Pace {
    /// Counts a request that has ended.
    pub(super) fn add(&self, tokens: i64) {
        self.add_at(self.now(), u64::try_from(tokens).unwrap_or_default());
    }

    /// The last minutes, oldest first; the last is the one that ends now.
    pub(super) fn minutes(&self) -> [Done; MINUTES] {
        self.minutes_at(self.now())
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_secs() / BUCKET_S
    }

    fn add_at(&self, now: u64, tokens: u64) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, done) = &mut buckets[(now % BUCKETS as u64) as usize];
        if *number != now {
            (*number, *done) = (now, Done::default());
        }
        done.requests += 1;
        done.tokens = done.tokens.saturating_add(tokens);
    }

    fn minutes_at(&self, now: u64) -> [Done; MINUTES] {
        let buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut minutes = [Done::default(); MINUTES];
        for (number, done) in buckets.iter() {
            let age = now.saturating_sub(*number) as usize / OF_A_MINUTE;
            if let Some(minute) = MINUTES.checked_sub(age + 1).and_then(|minute| minutes.get_mut(minute)) {
                minute.requests += done.requests;
                minute.tokens = minute.tokens.saturating_add(done.tokens);
            }
        }
        minutes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_slide_and_what_is_older_is_forgotten() {
        let pace = Pace::default();
        let requests = |now| pace.minutes_at(now).map(|done| done.requests);
        assert_eq!(requests(0), [0; 5]);
        pace.add_at(0, 100);
        pace.add_at(5, 1);
        pace.add_at(6, 10);
        assert_eq!(requests(5), [0, 0, 0, 0, 3]);
        assert_eq!(requests(6), [0, 0, 0, 1, 2]);
        assert_eq!(pace.minutes_at(11)[3], Done { requests: 2, tokens: 101 });
        assert_eq!(requests(29), [2, 1, 0, 0, 0]);
        assert_eq!(requests(30), [2, 0, 0, 0, 0]);
        pace.add_at(30, 1);
        assert_eq!(requests(30), [2, 0, 0, 0, 1]);
        assert_eq!(requests(1000), [0; 5]);
    }
}
