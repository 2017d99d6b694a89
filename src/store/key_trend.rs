//! Who used how much, and when. What thousands of keys used in a year is not added up from a million days: whole months and
//! a few days beside them say which keys are the largest, and only those are read day by day.

use super::Store;
use super::reports::Span;
use crate::error::Result;
use crate::model::time::{Buckets, TimeZone, day_after, day_start_ms, now_ms};
use rusqlite::Connection;
use std::collections::HashMap;

/// What keys have used in a span of time.
#[derive(Clone, Debug, Default)]
pub struct KeyTrend {
    /// Keys that used anything and are not deleted.
    pub keys: usize,
    /// The largest of them, largest first, as many as were asked for.
    pub largest: Vec<TrendKey>,
}

/// What one key has used in the buckets of a span.
#[derive(Clone, Debug, Default)]
pub struct TrendKey {
    /// The key's id.
    pub id: String,
    /// The key's name.
    pub name: String,
    /// Buckets and the tokens of all kinds that were used in them, in their order. Buckets without use are absent.
    pub buckets: Vec<(i64, i64)>,
}

/// Months, days or hours that are to be added to what keys have used, or taken off again. Both ends are included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Part {
    sign: i64,
    span: i64,
    first: i64,
    last: i64,
}

/// Half a month: beyond it, the month without the days that do not belong is less to read.
const DAYS_MAX: i64 = 15;

fn part(sign: i64, span: i64, first: i64, last: i64) -> Option<Part> {
    (first <= last).then_some(Part { sign, span, first, last })
}

/// What a row of days is the sum of. Nothing was used after `today`.
fn parts_of_days(first: i64, last: i64, today: i64) -> Vec<Part> {
    let (mut from_month, mut to_month) = (first / 100, last / 100);
    if from_month == to_month && last - first < 2 * DAYS_MAX {
        return part(1, 2, first, last).into_iter().collect();
    }
    let month_start = |month: i64| month * 100 + 1;
    let month_end = |month: i64| day_after(day_after(month * 100 + 28, 4) / 100 * 100 + 1, -1);
    let mut parts = Vec::new();
    if first % 100 > DAYS_MAX {
        parts.push(part(1, 2, first, month_end(from_month)));
        from_month = day_after(month_end(from_month), 1) / 100;
    } else {
        parts.push(part(-1, 2, month_start(from_month), first - 1));
    }
    if last < today && last % 100 <= DAYS_MAX {
        parts.push(part(1, 2, month_start(to_month), last));
        to_month = day_after(month_start(to_month), -1) / 100;
    } else if last < today {
        parts.push(part(-1, 2, last + 1, month_end(to_month)));
    }
    parts.push(part(1, 1, from_month, to_month));
    parts.into_iter().flatten().collect()
}

/// What a span is the sum of: hours only where a day does not belong to it as a whole.
fn parts(span: Span, today: i64, zone: &TimeZone) -> Vec<Part> {
    let (first, last) = match span {
        Span::Days(first, last) => return parts_of_days(first, last, today),
        Span::Hours(first, last) => (first, last),
    };
    let day = |hour: i64| Buckets::of(hour.saturating_mul(1000), zone).day;
    let start = |day: i64| day_start_ms(day, zone) / 1000;
    let (mut from_day, to_day) = (day(first), day_after(day(last), -1));
    if first > start(from_day) {
        from_day = day_after(from_day, 1);
    }
    if from_day > to_day {
        return part(1, 3, first, last).into_iter().collect();
    }
    let mut parts = parts_of_days(from_day, to_day, today);
    parts.extend(part(1, 3, first, start(from_day) - 1));
    parts.extend(part(1, 3, start(day(last)), last));
    parts
}

/// What every key has used in a part, added to what is known.
fn add(db: &Connection, part: Part, totals: &mut HashMap<i64, i64>) -> Result<()> {
    let sql = match part.span {
        1 => {
            "SELECT subject, input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
                 + cache_read_tokens
             FROM key_sums WHERE span = ?1 AND bucket BETWEEN ?2 AND ?3"
        }
        // Few, and all keys of an hour lie together.
        3 => {
            "SELECT subject, input_tokens + output_tokens + cache_creation_5m_tokens + cache_creation_1h_tokens
                 + cache_read_tokens
             FROM rollups WHERE scope = 1 AND span = ?1 AND bucket BETWEEN ?2 AND ?3"
        }
        // A look-up for each key that was ever used: the days of one key lie together.
        _ => {
            "SELECT ever.subject, (SELECT coalesce(sum(tokens), 0) FROM key_use
                 WHERE span = ?1 AND subject = ever.subject AND bucket BETWEEN ?2 AND ?3)
             FROM key_sums AS ever WHERE ever.span = 0 AND ever.bucket = 0"
        }
    };
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([part.span, part.first, part.last])?;
    while let Some(row) = rows.next()? {
        *totals.entry(row.get(0)?).or_default() += part.sign * row.get::<_, i64>(1)?;
    }
    Ok(())
}

/// Row numbers of the keys that used anything and are not deleted, the largest first.
fn largest(db: &Connection, mut used: HashMap<i64, i64>) -> Result<Vec<i64>> {
    let mut deleted = db.prepare_cached("SELECT seq FROM api_keys WHERE deleted_at_ms IS NOT NULL")?;
    let deleted = deleted.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    used.retain(|_, tokens| *tokens > 0);
    for seq in deleted {
        used.remove(&seq);
    }
    let mut keys: Vec<(i64, i64)> = used.into_iter().collect();
    keys.sort_unstable_by_key(|(seq, tokens)| (std::cmp::Reverse(*tokens), *seq));
    Ok(keys.into_iter().map(|(seq, _)| seq).collect())
}

fn trend_key(db: &Connection, seq: i64, columns: (i64, i64, i64)) -> Result<TrendKey> {
    let (span, first, last) = columns;
    let mut buckets = db.prepare_cached(
        "SELECT bucket, tokens FROM key_use
         WHERE span = ?1 AND subject = ?2 AND bucket BETWEEN ?3 AND ?4 AND tokens > 0 ORDER BY bucket",
    )?;
    let buckets = buckets
        .query_map([span, seq, first, last], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut names = db.prepare_cached("SELECT id, name FROM api_keys WHERE seq = ?1")?;
    let (id, name) = names.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(TrendKey { id, name, buckets })
}

impl Store {
    /// Who used how much in each bucket of a span; buckets are read for the largest `keys_max` keys.
    ///
    /// # Errors
    /// SQLite's.
    pub fn key_trend(&self, span: Span, keys_max: usize) -> Result<KeyTrend> {
        let today = Buckets::of(now_ms(), &self.zone).day;
        self.read(|db| {
            // One view of the database for all of it; nothing is changed.
            let view = db.unchecked_transaction()?;
            let mut totals = HashMap::new();
            for part in parts(span, today, &self.zone) {
                add(&view, part, &mut totals)?;
            }
            let keys = largest(&view, totals)?;
            let shown = keys.iter().take(keys_max);
            let largest = shown.map(|seq| trend_key(&view, *seq, span.columns())).collect::<Result<_>>()?;
            Ok(KeyTrend { keys: keys.len(), largest })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(first: i64, last: i64) -> Vec<i64> {
        let mut days = vec![first];
        while days[days.len() - 1] < last {
            days.push(day_after(days[days.len() - 1], 1));
        }
        days
    }

    /// How often each day and hour of a wide range is counted by parts.
    fn counted(parts: &[Part], day: i64, hour: i64) -> i64 {
        let at = |span| match span {
            1 => day / 100,
            2 => day,
            _ => hour,
        };
        parts.iter().filter(|part| (part.first..=part.last).contains(&at(part.span))).map(|part| part.sign).sum()
    }

    #[test]
    fn parts_count_every_day_of_a_range_once_and_no_other() {
        let year = days(20_250_101, 20_261_231);
        for first in year.iter().step_by(7) {
            for length in [0, 1, 5, 20, 29, 30, 31, 59, 90, 200, 365] {
                let last = day_after(*first, length);
                for today in [last, 20_271_231] {
                    let parts = parts_of_days(*first, last, today);
                    for day in year.iter().filter(|day| **day <= today) {
                        let expected = i64::from((*first..=last).contains(day));
                        assert_eq!(counted(&parts, *day, 0), expected, "{day} in {first}..={last}: {parts:?}");
                    }
                    let by_day = parts.iter().filter(|part| part.span == 2);
                    let read: usize = by_day.map(|part| days(part.first, part.last).len()).sum();
                    assert!(read <= 31, "{first}..={last}: {parts:?}");
                }
            }
        }
    }

    #[test]
    fn parts_count_every_hour_of_a_range_once_where_clocks_change() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for start_ms in [day_start_ms(20_261_020, &zone), day_start_ms(20_260_325, &zone)] {
            let start = start_ms / 1000;
            let hours: Vec<i64> = (0..24 * 14).map(|hour| start + hour * 3600).collect();
            for (from, to) in [(0, 0), (0, 23), (5, 40), (24, 24 * 9), (30, 24 * 9 + 3), (1, 60)] {
                let parts = parts(Span::Hours(hours[from], hours[to]), 20_271_231, &zone);
                for (number, hour) in hours.iter().enumerate() {
                    let day = Buckets::of(hour * 1000, &zone).day;
                    let expected = i64::from((from..=to).contains(&number));
                    assert_eq!(counted(&parts, day, *hour), expected, "{number} in {from}..={to}: {parts:?}");
                }
            }
        }
    }
}
