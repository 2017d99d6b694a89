//! Instants as this program keeps them: milliseconds since the Unix epoch, UTC; and the buckets that reports count by.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::fmt::{rfc2822, strtime};
use std::time::{SystemTime, UNIX_EPOCH};

pub use jiff::tz::TimeZone;

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
    if let Ok(date) = text.parse::<Date>()
        && text.len() == 10
    {
        return date.to_zoned_datetime(TimeZone::UTC).ok().map(|at| at.timestamp().as_millisecond());
    }
    if text.len() >= 11 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    None
}

/// Reads an instant as HTTP writes it, in the three forms that every recipient must take (RFC 9110 section 5.6.7):
/// `Sun, 06 Nov 1994 08:49:37 GMT`, and the two of old, `Sunday, 06-Nov-94 08:49:37 GMT` and `Sun Nov  6 08:49:37 1994`. A
/// year of two digits is one from 1969 to 2068.
pub fn parse_http_date(text: &str) -> Option<i64> {
    let old = |form: &str| TimeZone::UTC.to_timestamp(strtime::parse(form, text).ok()?.to_datetime().ok()?).ok();
    let at = rfc2822::parse(text).ok().map(|at| at.timestamp());
    let at = at.or_else(|| old("%A, %d-%b-%y %H:%M:%S GMT")).or_else(|| old("%a %b %e %H:%M:%S %Y"))?;
    Some(at.as_millisecond())
}

/// The buckets of one instant in one time zone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Buckets {
    /// The hour, as the instant (Unix seconds) at which that local hour began: unambiguous when clocks go back.
    pub hour: i64,
    /// The local day as the number `yyyymmdd`.
    pub day: i64,
    /// The local week as its Monday, in the form of a day.
    pub week: i64,
    /// The local month as the number `yyyymm`.
    pub month: i64,
}

impl Buckets {
    /// The buckets that an instant falls into.
    pub fn of(at_ms: i64, zone: &TimeZone) -> Buckets {
        let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = zone.to_datetime(at);
        let into_the_hour = i64::from(local.minute()) * 60 + i64::from(local.second());
        let day = number_of(local.date());
        Buckets {
            hour: at.as_millisecond().div_euclid(1000) - into_the_hour,
            day,
            week: day_after(day, -i64::from(local.weekday().to_monday_zero_offset())),
            month: day / 100,
        }
    }
}

/// Reads an instant that an admin names: as [`parse`] does, but a date or a time without an offset is meant in `zone`.
pub fn parse_in(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    // A time with an offset would also read as one without, and lose it.
    if let Ok(at) = text.parse::<Timestamp>() {
        return Some(at.as_millisecond());
    }
    match text.parse::<jiff::civil::DateTime>() {
        Ok(local) if text.len() >= 10 => zone.to_timestamp(local).ok().map(|at| at.as_millisecond()),
        _ => parse(text),
    }
}

/// The last `count` local days up to the one that holds an instant, as `yyyymmdd`, oldest first.
pub fn days_until(at_ms: i64, count: i64, zone: &TimeZone) -> Vec<i64> {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let mut day = zone.to_datetime(at).date();
    let mut days = Vec::new();
    for _ in 0..count {
        days.push(number_of(day));
        let Ok(before) = day.yesterday() else { break };
        day = before;
    }
    days.reverse();
    days
}

/// How many days lie between two local days (`yyyymmdd`); negative when the second is earlier.
pub fn days_apart(first: i64, second: i64) -> i64 {
    i64::from(date_of(first).duration_until(date_of(second)).as_hours() as i32 / 24)
}

/// The local day (`yyyymmdd`) that lies `count` days after another one, or before it where that is negative.
pub fn day_after(day: i64, count: i64) -> i64 {
    let date = date_of(day);
    date.checked_add(jiff::SignedDuration::from_hours(count.saturating_mul(24))).map_or(day, number_of)
}

/// The instant (Unix milliseconds) at which a local day (`yyyymmdd`) begins. Where clocks skip midnight, it begins later.
pub fn day_start_ms(day: i64, zone: &TimeZone) -> i64 {
    zone.to_timestamp(date_of(day).at(0, 0, 0, 0)).map_or(i64::MAX, Timestamp::as_millisecond)
}

fn number_of(date: Date) -> i64 {
    i64::from(date.year()) * 10_000 + i64::from(date.month()) * 100 + i64::from(date.day())
}

fn date_of(number: i64) -> Date {
    let part = |value: i64| i8::try_from(value).unwrap_or_default();
    let year = i16::try_from(number / 10_000).unwrap_or_default();
    Date::new(year, part(number / 100 % 100), part(number % 100)).unwrap_or_default()
}

/// The local hours from the one that holds `start_ms` to the one that holds `end_ms`, as the Unix seconds at which they
/// begin. The caller bounds the range. A day has 23 or 25 of them when clocks change.
pub fn hours_between(start_ms: i64, end_ms: i64, zone: &TimeZone) -> Vec<i64> {
    let last = Buckets::of(end_ms, zone).hour;
    let mut hour = Buckets::of(start_ms, zone).hour;
    let mut hours = Vec::new();
    while hour <= last && start_ms <= end_ms {
        hours.push(hour);
        // Where clocks change by half an hour, an hour after the beginning of a local hour is no beginning.
        let next = Buckets::of((hour + 3600) * 1000, zone).hour;
        hour = if next > hour { next } else { hour + 3600 };
    }
    hours
}

/// A local day (`yyyymmdd`) as `yyyy-mm-dd`.
pub fn day_text(day: i64) -> String {
    format!("{:04}-{:02}-{:02}", day / 10_000, day / 100 % 100, day % 100)
}

/// A local hour (the Unix second at which it begins) as `yyyy-mm-dd:hh`.
pub fn hour_text(hour: i64, zone: &TimeZone) -> String {
    let at = Timestamp::from_second(hour).unwrap_or(Timestamp::UNIX_EPOCH);
    zone.to_datetime(at).strftime("%Y-%m-%d:%H").to_string()
}

/// A zone by the name that browsers know it by: its name in the time zone database, else its distance such as `+08:00`.
pub fn zone_name(zone: &TimeZone) -> String {
    match zone.iana_name() {
        Some(name) => name.to_owned(),
        None => {
            let minutes = zone.to_offset(Timestamp::now()).seconds() / 60;
            let sign = if minutes < 0 { '-' } else { '+' };
            format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
        }
    }
}

/// The hours by which a zone's clocks are before UTC at an instant, rounded down to whole ones, and whether they are whole.
pub fn offset_hours(zone: &TimeZone, at_ms: i64) -> (i64, bool) {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    let seconds = i64::from(zone.to_offset(at).seconds());
    (seconds.div_euclid(3600), seconds % 3600 == 0)
}

/// The zone that is so many whole hours before UTC.
pub fn hours_from_utc(hours: i64) -> TimeZone {
    let offset = i8::try_from(hours).ok().and_then(|hours| jiff::tz::Offset::from_hours(hours).ok());
    TimeZone::fixed(offset.unwrap_or(jiff::tz::Offset::UTC))
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
    fn dates_of_http_are_read_in_all_three_forms() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(parse_http_date(text).map(iso).as_deref(), Some("1994-11-06T08:49:37.000Z"), "{text}");
        }
        let later = ["Sunday, 29-Nov-26 16:00:00 GMT", "Sun Nov 29 16:00:00 2026"];
        assert!(later.iter().all(|text| parse_http_date(text).map(iso).as_deref() == Some("2026-11-29T16:00:00.000Z")));
        for text in ["", "120", "Sun, 06-Nov-94", "Sunday, 06-Nov-94 08:49:37", "Sun Nov 31 08:49:37 1994", "soon"] {
            assert_eq!(parse_http_date(text), None, "{text}");
        }
    }

    #[test]
    fn ranges_follow_the_zone_and_its_changes_of_clocks() {
        let berlin = TimeZone::get("Europe/Berlin").expect("bundled zone");
        let at = |text: &str| parse_in(text, &berlin).expect(text);
        for (text, expected) in [
            ("2026-07-01", "2026-06-30T22:00:00.000Z"),
            ("2026-07-01 12:30:00", "2026-07-01T10:30:00.000Z"),
            ("2026-07-01T12:30", "2026-07-01T10:30:00.000Z"),
            ("2026-07-01T12:30:00Z", "2026-07-01T12:30:00.000Z"),
            ("2026-07-01T12:30:00+09:00", "2026-07-01T03:30:00.000Z"),
        ] {
            assert_eq!(iso(at(text)), expected, "{text}");
        }
        assert_eq!(parse_in("12:30", &berlin), None);
        for (from, to, hours) in [
            ("2026-10-25", "2026-10-25 23:59:59", 25),
            ("2026-03-29", "2026-03-29 23:59:59", 23),
            ("2026-03-30 10:59:00", "2026-03-30 12:00:00", 3),
            ("2026-03-30 12:00:00", "2026-03-30 10:00:00", 0),
        ] {
            let found = hours_between(at(from), at(to), &berlin);
            assert_eq!(found.len(), hours, "{from}");
            assert!(found.iter().all(|hour| Buckets::of(hour * 1000, &berlin).hour == *hour));
        }
        let twice = hours_between(at("2026-10-25T00:00:00Z"), at("2026-10-25T01:00:00Z"), &berlin);
        let texts: Vec<String> = twice.iter().map(|hour| hour_text(*hour, &berlin)).collect();
        assert_eq!(texts, ["2026-10-25:02", "2026-10-25:02"]);
        let days = days_until(at("2026-03-01 00:30:00"), 3, &berlin);
        assert_eq!(days, [20_260_227, 20_260_228, 20_260_301]);
        assert_eq!(day_text(20_260_301), "2026-03-01");
        for (first, second, apart) in
            [(20_260_228, 20_260_301, 1), (20_260_301, 20_260_228, -1), (20_250_101, 20_260_101, 365)]
        {
            assert_eq!(days_apart(first, second), apart);
        }
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
