//! Instants as this program keeps them: milliseconds since the Unix epoch, UTC; and the buckets that reports count by.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// An instant as the original writes it: `2026-11-23T00:11:08.235Z`.
pub fn iso(at_ms: i64) -> String {
    match Timestamp::from_millisecond(at_ms) {
        Ok(at) => at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => String::new(),
    }
}

/// An instant, or the empty string the original stores for "never".
pub fn iso_or_empty(at_ms: Option<i64>) -> String {
    at_ms.map(iso).unwrap_or_default()
}

/// Reads an instant as people and pages write it: RFC 3339 with any offset, a date alone (midnight UTC, as a JavaScript
/// date reads it), or milliseconds since the epoch. `None` when it is none of these.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return date.to_zoned_datetime(TimeZone::UTC).ok().map(|at| at.timestamp().as_millisecond());
    }
    if text.len() >= 11 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    None
}

/// The buckets of one instant in one time zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Buckets {
    /// The hour, as the instant (Unix seconds) at which that local hour began: unambiguous when clocks go back.
    pub hour: i64,
    /// The local day as the number `yyyymmdd`.
    pub day: i64,
    /// The local month as the number `yyyymm`.
    pub month: i64,
}

impl Buckets {
    /// The buckets that an instant falls into.
    pub fn of(at_ms: i64, zone: &TimeZone) -> Buckets {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = zone.to_datetime(at);
        let (year, month, day) = (i64::from(local.year()), i64::from(local.month()), i64::from(local.day()));
        let into_the_hour = i64::from(local.minute()) * 60 + i64::from(local.second());
        Buckets {
            hour: at.as_millisecond().div_euclid(1000) - into_the_hour,
            day: year * 10_000 + month * 100 + day,
            month: year * 100 + month,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_read_and_write_as_in_the_original() {
        for (text, expected) in [
            ("2026-11-23T00:11:08.235Z", Some(1_795_392_668_235)),
            ("2026-11-23T08:11:08.235+08:00", Some(1_795_392_668_235)),
            ("2026-11-23", Some(1_795_392_000_000)),
            ("1795392668235", Some(1_795_392_668_235)),
            ("soon", None),
            ("", None),
            ("2026-13-01", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(iso(1_795_392_668_235), "2026-11-23T00:11:08.235Z");
    }

    #[test]
    fn buckets_follow_the_zone_and_the_repeated_hour_stays_two() {
        let china = TimeZone::fixed(jiff::tz::Offset::constant(8));
        let late = Buckets::of(1_795_392_668_235 - 3_600_000, &china);
        assert_eq!((late.day, late.month), (20_261_123, 202_611));
        let berlin = TimeZone::get("Europe/Berlin").expect("bundled zone");
        let first = parse("2026-10-25T00:30:00Z").expect("instant");
        let second = first + 3_600_000;
        let (a, b) = (Buckets::of(first, &berlin), Buckets::of(second, &berlin));
        assert_eq!(a.day, b.day);
        assert_eq!(b.hour - a.hour, 3600);
    }
}
