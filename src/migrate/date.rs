//! Dates as the original read them: as `new Date(text)` of V8 does, which takes far more than ISO 8601. A time without an
//! offset was one of the server's zone, which was UTC unless it was set, and is read as UTC.

use crate::model::time;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
/// Names of offsets that are known, in hours.
const ZONES: [(&str, i64); 12] = [
    ("z", 0),
    ("ut", 0),
    ("utc", 0),
    ("gmt", 0),
    ("est", -5),
    ("edt", -4),
    ("cst", -6),
    ("cdt", -5),
    ("mst", -7),
    ("mdt", -6),
    ("pst", -8),
    ("pdt", -7),
];
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Further digits of a number change nothing.
const DIGITS_MAX: usize = 9;

/// Reads a date, Unix milliseconds; `None` is an invalid date.
pub(super) fn parse(text: &str) -> Option<i64> {
    let tokens = tokens(text.trim());
    let mut reading = Reading { tokens: &tokens, ..Reading::default() };
    while let Some(token) = reading.next() {
        reading.take(token)?;
    }
    reading.instant()
}

/// Whether a text that is no date was most likely meant as one: it has a year and something else.
pub(super) fn looks_like_one(text: &str) -> bool {
    let is_year =
        |run: &str| [4, 8, 14].contains(&run.len()) && (1900..2200).contains(&run[..4].parse().unwrap_or_default());
    let is_number = text.trim().bytes().all(|byte| byte.is_ascii_digit());
    !is_number && text.split(|letter: char| !letter.is_ascii_digit()).any(is_year)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    /// Its digits.
    Number(&'a str),
    /// Letters, and everything beyond ASCII.
    Word(&'a str),
    Symbol(u8),
}

/// Text in parentheses is a remark.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let is_word = |byte: u8| byte.is_ascii_alphabetic() || !byte.is_ascii();
    let (bytes, mut found, mut at, mut depth) = (text.as_bytes(), Vec::new(), 0, 0_usize);
    while at < bytes.len() {
        let end = |belongs: &dyn Fn(u8) -> bool| {
            bytes[at..].iter().position(|byte| !belongs(*byte)).map_or(bytes.len(), |length| at + length)
        };
        let (token, next) = match bytes[at] {
            byte if byte.is_ascii_digit() => {
                let next = end(&|byte| byte.is_ascii_digit());
                (Token::Number(&text[at..next]), next)
            }
            byte if is_word(byte) => {
                let next = end(&is_word);
                (Token::Word(&text[at..next]), next)
            }
            byte => (Token::Symbol(byte), at + 1),
        };
        match token {
            Token::Symbol(b'(') => depth += 1,
            Token::Symbol(b')') if depth > 0 => depth -= 1,
            token if depth == 0 => found.push(token),
            _ => {}
        }
        at = next;
    }
    found
}

/// What was read so far.
#[derive(Default)]
struct Reading<'a> {
    tokens: &'a [Token<'a>],
    /// Year, month and day in the order in which they were written.
    day: Vec<i64>,
    month: Option<i64>,
    /// Hour, minute, second, milliseconds.
    time: Vec<i64>,
    /// What "am" or "pm" adds.
    half: Option<i64>,
    sign: i64,
    offset_hours: Option<i64>,
    offset_minutes: Option<i64>,
    has_number: bool,
}

impl<'a> Reading<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(*first)
    }

    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.first().copied()
    }

    fn skip(&mut self, symbol: u8) -> bool {
        let is_there = self.peek() == Some(Token::Symbol(symbol));
        if is_there {
            self.tokens = &self.tokens[1..];
        }
        is_there
    }

    fn take(&mut self, token: Token<'_>) -> Option<()> {
        match token {
            Token::Number(digits) => {
                self.has_number = true;
                self.number(number(digits))
            }
            Token::Word(word) => self.word(&word.to_ascii_lowercase()),
            Token::Symbol(sign @ (b'+' | b'-')) if self.is_utc() || !self.time.is_empty() => self.offset(sign),
            Token::Symbol(b'+' | b'-' | b')') if self.has_number => None,
            Token::Symbol(_) => Some(()),
        }
    }

    fn number(&mut self, number: i64) -> Option<()> {
        if self.skip(b':') {
            (self.time.len() < 4).then(|| self.time.push(number))?;
            return Some(());
        }
        let is_of_time = match self.time.len() {
            1 | 2 => number < 60,
            3 => number < 1000,
            _ => false,
        };
        if self.skip(b'.') && is_of_time {
            self.time.push(number);
            let Some(Token::Number(digits)) = self.next() else { return None };
            self.time.resize(3, 0);
            self.time.push(format!("{digits}00")[..3].parse().ok()?);
        } else if self.offset_hours.is_some() && self.offset_minutes.is_none() && number < 60 {
            self.offset_minutes = Some(number);
        } else if is_of_time {
            self.time.push(number);
            self.time.resize(4, 0);
            let is_end = match self.peek() {
                None => true,
                Some(Token::Symbol(symbol)) => symbol.is_ascii_whitespace() || symbol == b'+' || symbol == b'-',
                Some(Token::Word(word)) => word.eq_ignore_ascii_case("z"),
                Some(Token::Number(_)) => false,
            };
            is_end.then_some(())?;
        } else {
            (self.day.len() < 3).then(|| self.day.push(number))?;
            self.skip(b'-');
        }
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let month = word.get(..3).and_then(|start| MONTHS.iter().position(|month| *month == start));
        let zone = ZONES.iter().find(|(name, _)| *name == word);
        match (word, month, zone) {
            ("am", ..) if !self.time.is_empty() => self.half = Some(0),
            ("pm", ..) if !self.time.is_empty() => self.half = Some(12),
            (_, Some(month), _) => {
                self.month = Some(month as i64 + 1);
                self.skip(b'-');
            }
            (_, _, Some((_, hours))) if self.has_number => {
                self.sign = hours.signum();
                (self.offset_hours, self.offset_minutes) = (Some(hours.abs()), Some(0));
            }
            // ISO 8601's sign between a date and a time.
            ("t", ..) if self.day.len() == 3 && self.time.is_empty() => {}
            // Words before the first number say nothing; the day of the week is one.
            _ if self.has_number || matches!(self.peek(), Some(Token::Number(_))) => return None,
            _ => {}
        }
        Some(())
    }

    fn is_utc(&self) -> bool {
        (self.offset_hours, self.offset_minutes) == (Some(0), Some(0))
    }

    fn offset(&mut self, sign: u8) -> Option<()> {
        let digits = match self.peek() {
            Some(Token::Number(digits)) => digits,
            _ => "",
        };
        if !digits.is_empty() {
            self.next();
        }
        self.has_number = true;
        self.sign = if sign == b'-' { -1 } else { 1 };
        let value = number(digits);
        (self.offset_hours, self.offset_minutes) = match digits.len() {
            _ if self.peek() == Some(Token::Symbol(b':')) => (Some(value), None),
            1 | 2 => (Some(value), Some(0)),
            3 | 4 => (Some(value / 100), Some(value % 100)),
            _ => return None,
        };
        Some(())
    }

    fn instant(&self) -> Option<i64> {
        let mut parts = [1; 3];
        parts.get_mut(..self.day.len())?.copy_from_slice(&self.day);
        let is_day = |number: i64| (1..=31).contains(&number);
        let (mut year, month, day) = match self.month {
            _ if self.day.is_empty() => return None,
            None if is_day(parts[0]) => (parts[2], parts[0], parts[1]),
            None => (parts[0], parts[1], parts[2]),
            Some(month) if is_day(parts[0]) => (parts[1], month, parts[0]),
            Some(month) => (parts[0], month, parts[1]),
        };
        year += match year {
            0..50 => 2000,
            50..100 => 1900,
            _ => 0,
        };
        let first = time::parse(&format!("{year:04}-{month:02}-01"))?;
        // The thirtieth of February is one of March.
        let days = Some(day - 1).filter(|_| is_day(day))?;
        Some(first + days * 24 * HOUR_MS + self.time_of_day_ms()? - self.distance_ms())
    }

    fn time_of_day_ms(&self) -> Option<i64> {
        let mut time = [0; 4];
        time.get_mut(..self.time.len())?.copy_from_slice(&self.time);
        let [mut hour, minute, second, ms] = time;
        if let Some(half) = self.half {
            hour = Some(hour % 12 + half).filter(|_| (0..=12).contains(&hour))?;
        }
        let is_time = hour < 24 && minute < 60 && second < 60 || time == [24, 0, 0, 0];
        is_time.then_some(hour * HOUR_MS + minute * MINUTE_MS + second * 1000 + ms)
    }

    fn distance_ms(&self) -> i64 {
        self.sign * (self.offset_hours.unwrap_or(0) * HOUR_MS + self.offset_minutes.unwrap_or(0) * MINUTE_MS)
    }
}

fn number(digits: &str) -> i64 {
    let digits = digits.trim_start_matches('0');
    digits[..digits.len().min(DIGITS_MAX)].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::iso;

    #[test]
    fn dates_are_read_as_javascript_reads_them() {
        for (text, expected) in [
            ("2026-11-23T00:11:08.235Z", "2026-11-23T00:11:08.235Z"),
            ("2026-11-23T08:11:08.235+08:00", "2026-11-23T00:11:08.235Z"),
            ("2026-11-23T08:11:08+0530", "2026-11-23T02:41:08.000Z"),
            ("2026-11-23T08:11", "2026-11-23T08:11:00.000Z"),
            ("2026-11-23T24:00:00Z", "2026-11-24T00:00:00.000Z"),
            ("2020", "2020-01-01T00:00:00.000Z"),
            ("2020-01", "2020-01-01T00:00:00.000Z"),
            ("2020-01-05", "2020-01-05T00:00:00.000Z"),
            ("2020-1-5", "2020-01-05T00:00:00.000Z"),
            ("2020/01/05", "2020-01-05T00:00:00.000Z"),
            ("1/5/2020", "2020-01-05T00:00:00.000Z"),
            ("1/5/20, 3:04:05 PM", "2020-01-05T15:04:05.000Z"),
            ("05.01.2020", "2020-05-01T00:00:00.000Z"),
            ("2020-01-05 10:20:30", "2020-01-05T10:20:30.000Z"),
            ("2020-01-05 10:20:30.5 +0800", "2020-01-05T02:20:30.500Z"),
            ("2020-02-30", "2020-03-01T00:00:00.000Z"),
            ("Sun, 05 Jan 2020 00:00:00 GMT", "2020-01-05T00:00:00.000Z"),
            ("Sun Jan 05 2020 08:00:00 GMT+0800 (China Standard Time)", "2020-01-05T00:00:00.000Z"),
            ("January 5 2020", "2020-01-05T00:00:00.000Z"),
            ("Jan 5, 2020 12:30 AM EST", "2020-01-05T05:30:00.000Z"),
            ("5-Jan-2020", "2020-01-05T00:00:00.000Z"),
            (" 2020-01-05 ", "2020-01-05T00:00:00.000Z"),
        ] {
            assert_eq!(parse(text).map(iso).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "soon",
            "never",
            "1795392668235",
            "1795392668",
            "2026-13-01",
            "2020-01-05T25:00:00Z",
            "2020-01-32",
            "2026年12月31日",
            "20200105T000000Z",
            "2020-01-05 tomorrow",
            "é5",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_meant_as_a_date_is_told_from_what_was_not() {
        for (text, expected) in [
            ("2026-13-01", true),
            ("2026年12月31日", true),
            ("20200105T000000Z", true),
            ("1795392668235", false),
            ("soon", false),
            ("room 4711", false),
            ("", false),
        ] {
            assert_eq!(looks_like_one(text), expected, "{text}");
        }
    }
}
