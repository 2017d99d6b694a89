//! The addresses of upstreams and proxies. The system's lookup blocks for as long as it likes: it has a thread of its own, one
//! a name however many requests wait for it, and nobody waits longer than the bound on connecting allows.

use super::watch::{STEP, look_up};
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::{Error, http};

/// How long a name's addresses are believed.
const RESOLVED_FOR: Duration = Duration::from_secs(60);
/// Names whose addresses are remembered.
const RESOLVED_MAX: usize = 64;
/// Names that are looked up at the same time, and so threads that a dead name server can hold.
const LOOKUPS_MAX: usize = 16;
/// Addresses that ureq takes for one name.
const ADDRESSES_MAX: usize = 16;
const STACK_BYTES: usize = 512 * 1024;

/// Host and port.
type Name = (String, u16);
/// The system's lookup, or a test's. None found is an empty list.
type Lookup = dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync;

/// Addresses that were looked up lately: ureq asks before every request, also when a pooled connection serves it.
pub(super) struct Names {
    state: Mutex<State>,
    lookup: Box<Lookup>,
}

#[derive(Default)]
struct State {
    known: HashMap<Name, (Instant, Vec<SocketAddr>)>,
    asked: HashMap<Name, Arc<Asked>>,
}

/// A lookup that runs.
#[derive(Default)]
struct Asked {
    found: Mutex<Option<Vec<SocketAddr>>>,
    is_over: Condvar,
}

impl Default for Names {
    fn default() -> Names {
        Names::looked_up(|host, port| (host, port).to_socket_addrs().map(Iterator::collect).unwrap_or_default())
    }
}

impl Names {
    /// Names that are looked up in a way of the caller's own.
    pub(super) fn looked_up(lookup: impl Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync + 'static) -> Names {
        Names { state: Mutex::default(), lookup: Box::new(lookup) }
    }

    fn addresses(self: &Arc<Self>, host: &str, port: u16, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let name = (host.to_owned(), port);
        let mut state = lock(&self.state);
        let fresh = state.known.get(&name).filter(|(at, _)| at.elapsed() < RESOLVED_FOR);
        if let Some((_, found)) = fresh {
            return Ok(found.clone());
        }
        let asked = match state.asked.get(&name) {
            Some(asked) => Arc::clone(asked),
            None => self.ask(&mut state, name)?,
        };
        drop(state);
        asked.wait(timeout)
    }

    /// Starts a lookup. It goes on when nobody waits for it any more, and what it finds serves the next.
    fn ask(self: &Arc<Self>, state: &mut State, name: Name) -> Result<Arc<Asked>, Error> {
        if state.asked.len() >= LOOKUPS_MAX {
            return Err(std::io::Error::other("too many names are being looked up").into());
        }
        let (names, asked, key) = (Arc::clone(self), Arc::new(Asked::default()), name.clone());
        let teller = Arc::clone(&asked);
        std::thread::Builder::new().name("lookup".into()).stack_size(STACK_BYTES).spawn(move || {
            let found = (names.lookup)(&name.0, name.1);
            names.learn(name, &found);
            *lock(&teller.found) = Some(found);
            teller.is_over.notify_all();
        })?;
        state.asked.insert(key, Arc::clone(&asked));
        Ok(asked)
    }

    fn learn(&self, name: Name, found: &[SocketAddr]) {
        let mut state = lock(&self.state);
        state.asked.remove(&name);
        if found.is_empty() {
            return;
        }
        if state.known.len() >= RESOLVED_MAX {
            state.known.clear();
        }
        state.known.insert(name, (Instant::now(), found.to_vec()));
    }
}

impl Asked {
    /// Waits for the end of a lookup, looking up for a client that leaves.
    fn wait(&self, timeout: NextTimeout) -> Result<Vec<SocketAddr>, Error> {
        let begun = Instant::now();
        let mut found = lock(&self.found);
        loop {
            if let Some(found) = &*found {
                return Ok(found.clone());
            }
            let left = timeout.after.saturating_sub(begun.elapsed());
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            let waited = self.is_over.wait_timeout(found, left.min(STEP));
            found = waited.unwrap_or_else(PoisonError::into_inner).0;
            look_up()?;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolver that an agent has: all share what is known.
pub(super) struct CachedNames(pub(super) Arc<Names>);

impl fmt::Debug for CachedNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CachedNames")
    }
}

impl Resolver for CachedNames {
    fn resolve(
        &self,
        uri: &http::Uri,
        _: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?.trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            Some("socks5" | "socks5h") => 1080,
            _ => 80,
        });
        let mut addresses = self.empty();
        for address in self.0.addresses(host, port, timeout)?.into_iter().take(ADDRESSES_MAX) {
            addresses.push(address);
        }
        if addresses.is_empty() { Err(Error::HostNotFound) } else { Ok(addresses) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};
    use ureq::Timeout;
    use ureq::unversioned::transport::time;

    fn within(milliseconds: u64) -> NextTimeout {
        let after = time::Duration::Exact(Duration::from_millis(milliseconds));
        NextTimeout { after, reason: Timeout::Resolve, ..NextTimeout::default() }
    }

    /// Names whose lookup ends when a test says so, and how often one was begun.
    fn slow() -> (Arc<Names>, Sender<Vec<SocketAddr>>, Arc<AtomicUsize>) {
        let (answer, answers) = channel();
        let (answers, begun) = (Mutex::new(answers), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let names = Names::looked_up(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            answers.lock().unwrap().recv().unwrap_or_default()
        });
        (Arc::new(names), answer, begun)
    }

    #[test]
    fn a_lookup_that_hangs_is_left_in_time_and_is_one_for_all_who_wait() {
        let (names, answer, begun) = slow();
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    let waited = names.addresses("slow.test", 443, within(200));
                    assert!(matches!(waited, Err(Error::Timeout(Timeout::Resolve))), "{waited:?}");
                });
            }
        });
        assert!((200..2000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        // What it finds at last serves the next one, and is believed for a while.
        let address: SocketAddr = "192.0.2.1:443".parse().unwrap();
        answer.send(vec![address]).unwrap();
        for _ in 0..3 {
            assert_eq!(names.addresses("slow.test", 443, within(5000)).unwrap(), [address]);
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_name_that_is_not_found_is_told_to_all_who_wait_and_asked_again_by_the_next() {
        let (names, answer, begun) = slow();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(names.addresses("none.test", 443, within(60_000)).unwrap(), []));
            }
            std::thread::sleep(Duration::from_millis(100));
            answer.send(Vec::new()).unwrap();
        });
        let first = begun.load(Ordering::SeqCst);
        assert_eq!(first, 1);
        assert!(names.addresses("none.test", 443, within(10)).is_err());
        assert_eq!(begun.load(Ordering::SeqCst), first + 1);
    }

    #[test]
    fn lookups_are_bounded_in_number_and_an_address_needs_none() {
        let (names, _answer, begun) = slow();
        for number in 0..LOOKUPS_MAX + 4 {
            assert!(names.addresses(&format!("{number}.test"), 80, within(1)).is_err());
        }
        let start = Instant::now();
        let refused = names.addresses("another.test", 80, within(60_000));
        assert!(matches!(refused, Err(Error::Io(_))) && start.elapsed() < Duration::from_secs(5), "{refused:?}");
        let literal = names.addresses("::1", 8080, within(0)).unwrap();
        assert_eq!(literal, ["[::1]:8080".parse().unwrap()]);
        assert!(begun.load(Ordering::SeqCst) <= LOOKUPS_MAX);
    }
}
