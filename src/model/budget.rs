//! Budgets: the spans of time that the cost of a key is bounded in, and where each of them ends.

use super::time::{Buckets, TimeZone, day_after, day_start_ms};

/// A span of time with a bound on a key's cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Budget {
    /// A local day.
    Daily,
    /// A local week, which begins on Monday.
    Weekly,
    /// A local month.
    Monthly,
    /// All time.
    Total,
}

impl Budget {
    /// All of them, the shortest first.
    pub const ALL: [Budget; 4] = [Budget::Daily, Budget::Weekly, Budget::Monthly, Budget::Total];

    /// The span that an instant falls into, as a number that no other span of this kind has.
    pub fn bucket(self, buckets: &Buckets) -> i64 {
        match self {
            Budget::Daily => buckets.day,
            Budget::Weekly => buckets.week,
            Budget::Monthly => buckets.month,
            Budget::Total => 0,
        }
    }

    /// The end of the span that an instant falls into, Unix milliseconds; `None` for the one that has none.
    pub fn ends_at_ms(self, at_ms: i64, zone: &TimeZone) -> Option<i64> {
        let buckets = Buckets::of(at_ms, zone);
        let next = match self {
            Budget::Daily => day_after(buckets.day, 1),
            Budget::Weekly => day_after(buckets.week, 7),
            Budget::Monthly if buckets.month % 100 == 12 => (buckets.month + 89) * 100 + 1,
            Budget::Monthly => (buckets.month + 1) * 100 + 1,
            Budget::Total => return None,
        };
        Some(day_start_ms(next, zone))
    }
}

/// What a key has spent in the spans that hold one instant, pico-dollars.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spent {
    /// This local day.
    pub daily: i64,
    /// This local week.
    pub weekly: i64,
    /// This local month.
    pub monthly: i64,
    /// Since the beginning.
    pub total: i64,
}

impl Spent {
    /// What was spent of one budget.
    pub fn of(&self, budget: Budget) -> i64 {
        match budget {
            Budget::Daily => self.daily,
            Budget::Weekly => self.weekly,
            Budget::Monthly => self.monthly,
            Budget::Total => self.total,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::{iso, parse};

    #[test]
    fn spans_end_where_the_zone_says_also_when_clocks_change() {
        use Budget::{Daily, Monthly, Weekly};
        for (zone, at, budget, end) in [
            ("Asia/Shanghai", "2026-11-24T15:59:59.999Z", Daily, "2026-11-24T16:00:00.000Z"),
            ("Asia/Shanghai", "2026-11-24T16:00:00Z", Daily, "2026-11-25T16:00:00.000Z"),
            // Clocks go forward on 29 March and back on 25 October, at two and at three in the morning.
            ("Europe/Berlin", "2026-03-28T23:00:00Z", Daily, "2026-03-29T22:00:00.000Z"),
            ("Europe/Berlin", "2026-10-24T22:00:00Z", Daily, "2026-10-25T23:00:00.000Z"),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", Daily, "2026-10-25T23:00:00.000Z"),
            ("Europe/Berlin", "2026-10-25T22:59:59Z", Weekly, "2026-10-25T23:00:00.000Z"),
            ("Europe/Berlin", "2026-10-25T23:00:00Z", Weekly, "2026-11-01T23:00:00.000Z"),
            ("Europe/Berlin", "2026-03-23T10:00:00Z", Weekly, "2026-03-29T22:00:00.000Z"),
            ("Europe/Berlin", "2026-10-12T10:00:00Z", Monthly, "2026-10-31T23:00:00.000Z"),
            ("Europe/Berlin", "2026-03-01T10:00:00Z", Monthly, "2026-03-31T22:00:00.000Z"),
            ("Etc/UTC", "2026-12-31T23:59:59Z", Monthly, "2027-01-01T00:00:00.000Z"),
            ("Etc/UTC", "2028-02-29T12:00:00Z", Monthly, "2028-03-01T00:00:00.000Z"),
            ("Etc/UTC", "2027-01-01T12:00:00Z", Weekly, "2027-01-04T00:00:00.000Z"),
            // Midnight is skipped: the day begins at one o'clock.
            ("America/Santiago", "2026-09-05T12:00:00Z", Daily, "2026-09-06T04:00:00.000Z"),
        ] {
            let tz = TimeZone::get(zone).unwrap();
            let at_ms = parse(at).unwrap();
            let found = budget.ends_at_ms(at_ms, &tz).unwrap();
            assert_eq!(iso(found), end, "{zone} {at} {budget:?}");
            let bucket = |at_ms| budget.bucket(&Buckets::of(at_ms, &tz));
            assert_eq!(bucket(found - 1), bucket(at_ms), "{zone} {at} {budget:?}");
            assert!(bucket(found) > bucket(at_ms), "{zone} {at} {budget:?}");
        }
        assert_eq!(Budget::Total.ends_at_ms(0, &TimeZone::UTC), None);
        let new_year = Buckets::of(parse("2027-01-01T12:00:00Z").unwrap(), &TimeZone::UTC);
        assert_eq!((new_year.day, new_year.week, new_year.month), (20_270_101, 20_261_228, 202_701));
    }
}
