//! How often a password may be guessed.
//!
//! An address that has failed five times must wait, longer each time; nobody else waits with it. A user name that many
//! addresses fail with makes each of *them* wait from its first failure on; an address that has not failed is heard at
//! once. So nobody can lock the admin out: the first try from an address of the admin's own is always taken.

use super::address;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Failures of an address before it must wait.
const FREE_FAILURES: u32 = 5;
/// Failures are forgotten when an address has let this time pass in which it could have tried again.
const MEMORY: Duration = Duration::from_secs(900);
/// The first wait; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_secs(30);
const WAIT_MAX: Duration = Duration::from_secs(900);
/// The longest wait of an address that is known to stand for many clients.
const SHARED_WAIT_MAX: Duration = Duration::from_secs(5);
/// Failures with one name, from all addresses, that make it a name under attack.
const NAME_FAILURES: u32 = 20;
/// What an address waits after each failure with such a name.
const NAME_WAIT: Duration = Duration::from_secs(5);
/// Addresses and names that are remembered. Past that the one that failed longest ago goes.
const ADDRESSES_MAX: usize = 10_000;
const NAMES_MAX: usize = 1000;
/// Names that differ only after so many characters are counted as one.
const NAME_CHARACTERS_MAX: usize = 100;
/// Passwords that are hashed at the same time: each takes a core for a tenth of a second. One of them is for addresses that
/// have not failed, so that guessing does not keep the admin out.
const CHECKS_MAX: usize = 3;

/// The failures of one address or name.
#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// When the next try may be made; the time of the last one if at once.
    waits_until: Instant,
}

#[derive(Debug, Default)]
struct State {
    addresses: HashMap<IpAddr, Failures>,
    names: HashMap<String, Failures>,
    checks: usize,
}

/// The throttle of everything that checks a password.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    state: Mutex<State>,
}

/// A try that may be made. It counts as a failure from its start, so that many at once do not all pass; dropped, it stays one.
pub(crate) struct Attempt<'a> {
    throttle: &'a Throttle,
    address: IpAddr,
    name: String,
}

impl Throttle {
    /// Whether a try from an address with a name may be made now. `is_shared`: the address stands for many clients.
    ///
    /// # Errors
    /// How long to wait, at least a second.
    pub(crate) fn begin(&self, address: IpAddr, is_shared: bool, name: &str) -> Result<Attempt<'_>, Duration> {
        let wait_max = if is_shared { SHARED_WAIT_MAX } else { WAIT_MAX };
        self.begin_at(address, wait_max, name, Instant::now())
    }

    fn begin_at(&self, address: IpAddr, wait_max: Duration, name: &str, now: Instant) -> Result<Attempt<'_>, Duration> {
        let address = address::group(address);
        let name: String = name.chars().take(NAME_CHARACTERS_MAX).collect();
        let mut state = self.lock();
        let known = state.addresses.get(&address).copied().filter(|known| known.is_remembered(now));
        if let Some(wait) = known.and_then(|known| known.waits_until.checked_duration_since(now))
            && !wait.is_zero()
        {
            return Err(wait.max(Duration::from_secs(1)));
        }
        if state.checks >= CHECKS_MAX - usize::from(known.is_some()) {
            return Err(Duration::from_secs(1));
        }
        state.checks += 1;
        let of_name = state.names.get(&name).copied().filter(|known| known.is_remembered(now));
        let name_count = of_name.map_or(0, |known| known.count).saturating_add(1);
        let count = known.map_or(0, |known| known.count).saturating_add(1);
        let waits_until = now + wait(count, name_count > NAME_FAILURES).min(wait_max);
        remember(&mut state.names, name.clone(), Failures { count: name_count, waits_until: now }, NAMES_MAX);
        remember(&mut state.addresses, address, Failures { count, waits_until }, ADDRESSES_MAX);
        Ok(Attempt { throttle: self, address, name })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.waits_until) < MEMORY
    }
}

/// What an address waits after its `count`th failure in a row.
fn wait(count: u32, is_name_attacked: bool) -> Duration {
    match count.checked_sub(FREE_FAILURES) {
        Some(doublings) => FIRST_WAIT.saturating_mul(1 << doublings.min(10)).min(WAIT_MAX),
        None if is_name_attacked => NAME_WAIT,
        None => Duration::ZERO,
    }
}

fn remember<K: std::hash::Hash + Eq + Clone>(
    map: &mut HashMap<K, Failures>,
    key: K,
    failures: Failures,
    entries_max: usize,
) {
    if map.len() >= entries_max && !map.contains_key(&key) {
        // An address that is waiting is kept before one that is not.
        let oldest = map.iter().min_by_key(|(_, known)| known.waits_until).map(|(key, _)| key.clone());
        if let Some(oldest) = oldest {
            map.remove(&oldest);
        }
    }
    map.insert(key, failures);
}

impl Attempt<'_> {
    /// The password was right: the address has failed no more. The name's failures were others' and stay.
    pub(crate) fn succeeded(self) {
        let mut state = self.throttle.lock();
        state.addresses.remove(&self.address);
        if let Some(known) = state.names.get_mut(&self.name) {
            known.count = known.count.saturating_sub(1);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.throttle.lock().checks -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

    fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 + number).into())
    }

    fn fail(throttle: &Throttle, address: IpAddr, now: Instant) -> Result<(), u64> {
        throttle.begin_at(address, WAIT_MAX, "admin", now).map(drop).map_err(|wait| wait.as_secs())
    }

    #[test]
    fn an_address_waits_longer_with_each_failure_and_nobody_waits_with_it() {
        let (throttle, mut now) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(fail(&throttle, HERE, now), Ok(()));
        }
        for seconds in [30, 60, 120, 240, 480, 900, 900] {
            assert_eq!(fail(&throttle, HERE, now), Err(seconds));
            assert!(fail(&throttle, HERE, now + Duration::from_secs(seconds - 1)).is_err());
            now += Duration::from_secs(seconds);
            assert_eq!(fail(&throttle, HERE, now), Ok(()));
        }
        assert_eq!(fail(&throttle, address(1), now), Ok(()));
        now += WAIT_MAX + MEMORY;
        for _ in 0..5 {
            assert_eq!(fail(&throttle, HERE, now), Ok(()), "forgotten");
        }
    }

    #[test]
    fn a_right_password_clears_its_address() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..4 {
            assert_eq!(fail(&throttle, HERE, now), Ok(()));
        }
        throttle.begin_at(HERE, WAIT_MAX, "admin", now).ok().unwrap().succeeded();
        for _ in 0..5 {
            assert_eq!(fail(&throttle, HERE, now), Ok(()));
        }
    }

    #[test]
    fn a_name_under_attack_slows_those_who_fail_and_not_who_comes_new() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..100 {
            assert_eq!(fail(&throttle, address(number), now), Ok(()));
        }
        assert_eq!(fail(&throttle, HERE, now), Ok(()), "the admin from elsewhere");
        assert_eq!(fail(&throttle, HERE, now), Err(5), "a slip of the finger costs seconds");
        assert_eq!(fail(&throttle, HERE, now + NAME_WAIT), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_checks_are_few_at_a_time() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            drop(throttle.begin_at(
                address(number),
                WAIT_MAX,
                &format!("n{number}"),
                now + Duration::from_millis(number.into()),
            ));
        }
        let state = throttle.lock();
        assert_eq!((state.addresses.len(), state.names.len(), state.checks), (ADDRESSES_MAX, NAMES_MAX, 0));
        drop(state);
        let attempts: Vec<_> = (0..9).filter_map(|_| throttle.begin_at(HERE, WAIT_MAX, "admin", now).ok()).collect();
        assert_eq!(attempts.len(), CHECKS_MAX - 1);
        assert!(throttle.begin_at(THERE, WAIT_MAX, "admin", now).is_ok(), "an address without a failure has a place");
    }
}
