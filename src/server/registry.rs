//! Counters of what was answered, for `/metrics`. Written with atomics only: no request waits for another.

use super::router;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Upper bounds of the histograms' buckets, in milliseconds.
pub(crate) const BOUNDS_MS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 180_000, 600_000];

/// Statuses that are counted by themselves: those that the relay and its upstreams answer with. Others count by their class,
/// as an upstream may send any number.
const STATUSES: [u16; 21] =
    [200, 201, 204, 302, 304, 400, 401, 403, 404, 408, 413, 415, 422, 429, 431, 499, 500, 502, 503, 504, 529];
/// Classes of status: 1xx to 5xx.
const CLASSES: usize = 5;
const COUNTERS: usize = STATUSES.len() + CLASSES;

/// What was answered since the start.
pub(crate) struct Registry {
    /// By route, in the order of the router's table; the last is for what no route serves.
    answered: Vec<[AtomicU64; COUNTERS]>,
    relaying: AtomicU64,
    /// From a relayed request's arrival to the upstream's head.
    pub(crate) first_byte: Histogram,
    /// From a relayed request's arrival to its answer's end.
    pub(crate) total: Histogram,
}

impl Registry {
    pub(crate) fn new() -> Registry {
        let answered = (0..=router::routes().count()).map(|_| Default::default()).collect();
        Registry {
            answered,
            relaying: AtomicU64::new(0),
            first_byte: Histogram::default(),
            total: Histogram::default(),
        }
    }

    /// Counts an answer.
    pub(crate) fn count(&self, method: &str, path: &str, status: u16) {
        let route = router::number(method, path).unwrap_or(self.answered.len() - 1);
        let class = || STATUSES.len() + usize::from(status / 100).clamp(1, CLASSES) - 1;
        let counter = STATUSES.iter().position(|known| *known == status).unwrap_or_else(class);
        self.answered[route][counter].fetch_add(1, Relaxed);
    }

    /// Counts by route and status, such as `200` or `4xx`, without zeros. The route is a number of the router's table.
    pub(crate) fn answered(&self) -> impl Iterator<Item = (usize, String, u64)> + '_ {
        let shown = |counter: usize| match STATUSES.get(counter) {
            Some(status) => status.to_string(),
            None => format!("{}xx", counter - STATUSES.len() + 1),
        };
        self.answered.iter().enumerate().flat_map(move |(route, counters)| {
            counters
                .iter()
                .enumerate()
                .map(move |(counter, count)| (route, counter, count.load(Relaxed)))
                .filter(|(.., count)| *count > 0)
                .map(move |(route, counter, count)| (route, shown(counter), count))
        })
    }

    /// Notes a relayed request until the result is dropped.
    pub(crate) fn relay_runs(&self) -> Running<'_> {
        self.relaying.fetch_add(1, Relaxed);
        Running { registry: self, since: Instant::now(), is_answered: false }
    }

    /// Relayed requests that run now.
    pub(crate) fn relaying(&self) -> u64 {
        self.relaying.load(Relaxed)
    }
}

/// A relayed request that runs.
pub(crate) struct Running<'a> {
    registry: &'a Registry,
    since: Instant,
    is_answered: bool,
}

impl Running<'_> {
    /// The upstream's head is there.
    pub(crate) fn has_answer(&mut self) {
        self.is_answered = true;
        self.registry.first_byte.note(self.since.elapsed());
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.is_answered {
            self.registry.total.note(self.since.elapsed());
        }
        self.registry.relaying.fetch_sub(1, Relaxed);
    }
}

/// Durations in fixed buckets.
#[derive(Default)]
pub(crate) struct Histogram {
    /// How many fell under each bound and above the one before; the last bucket has no bound.
    buckets: [AtomicU64; BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

impl Histogram {
    fn note(&self, duration: Duration) {
        let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS_MS.len());
        self.buckets[bucket].fetch_add(1, Relaxed);
        self.sum_ms.fetch_add(ms, Relaxed);
    }

    /// Counts up to each bound, the last being all; and the sum in milliseconds.
    pub(crate) fn cumulative(&self) -> ([u64; BOUNDS_MS.len() + 1], u64) {
        let mut counts = [0; BOUNDS_MS.len() + 1];
        let mut sum = 0;
        for (count, bucket) in counts.iter_mut().zip(&self.buckets) {
            sum += bucket.load(Relaxed);
            *count = sum;
        }
        (counts, self.sum_ms.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_count_by_themselves_or_by_their_class() {
        let registry = Registry::new();
        for status in [200, 200, 529, 418, 299, 999] {
            registry.count("GET", "/nowhere", status);
        }
        let shown: Vec<(String, u64)> = registry.answered().map(|(_, status, count)| (status, count)).collect();
        let expected = [("200", 2), ("529", 1), ("2xx", 1), ("4xx", 1), ("5xx", 1)];
        assert_eq!(shown, expected.map(|(status, count)| (status.to_owned(), count)));
    }

    #[test]
    fn durations_fall_into_their_buckets() {
        let histogram = Histogram::default();
        for ms in [0, 50, 51, 700_000] {
            histogram.note(Duration::from_millis(ms));
        }
        let (counts, sum_ms) = histogram.cumulative();
        assert_eq!((counts[0], counts[1], counts[11], counts[12], sum_ms), (2, 3, 3, 4, 700_101));
    }
}
