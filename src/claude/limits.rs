//! The vendor's rate-limit header fields (docs.anthropic.com, "Rate limits", and what subscription accounts are sent):
//! what is used up, and when it begins anew.

use crate::model::{Scope, Window, time};

/// Fields of a subscription account.
const UNIFIED: &str = "anthropic-ratelimit-unified-";
/// Fields of an account that pays by use.
const METERED: &str = "anthropic-ratelimit-";
/// Windows and buckets that are kept of one answer; the vendor sends three and four.
const WINDOWS_MAX: usize = 8;
/// The longest name of a window, in bytes.
const NAME_BYTES_MAX: usize = 24;
/// An end further away than this is no end of the vendor's: its longest window has seven days.
const END_MAX_MS: i64 = 8 * 86_400_000;
/// Windows that count everything an account does; all others count some models.
const ACCOUNT_WINDOWS: [&str; 2] = ["5h", "7d"];

/// What an answer's header says of limits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RateLimits {
    /// The windows of a subscription.
    pub windows: Vec<Window>,
    /// The windows taken together: `allowed`, `allowed_warning` or `rejected`; empty if not told.
    pub status: String,
    /// When the deciding window begins anew, Unix milliseconds.
    pub reset_at_ms: Option<i64>,
    /// The deciding window: `five_hour`, `seven_day`, or one of some models.
    pub representative_claim: String,
    /// Requests and tokens a minute, of accounts that pay by use.
    pub buckets: Vec<Bucket>,
    /// `retry-after` (RFC 9110 section 10.2.3), as an instant, Unix milliseconds.
    pub retry_at_ms: Option<i64>,
}

/// One of the limits by the minute.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Bucket {
    /// `requests`, `tokens`, `input-tokens`, `output-tokens`.
    pub name: String,
    /// What is left.
    pub remaining: Option<i64>,
    /// When it is full again, Unix milliseconds.
    pub reset_at_ms: Option<i64>,
}

impl RateLimits {
    /// Reads the fields of an answer that came at `now_ms`. What cannot be read counts as not sent.
    pub fn read<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>, now_ms: i64) -> RateLimits {
        let mut limits = RateLimits::default();
        for (name, value) in fields {
            let Ok(value) = std::str::from_utf8(value).map(str::trim) else { continue };
            let name = name.to_ascii_lowercase();
            if name == "retry-after" {
                limits.retry_at_ms = retry_at(value, now_ms);
            } else if let Some(rest) = name.strip_prefix(UNIFIED) {
                limits.take_unified(rest, value, now_ms);
            } else if let Some(rest) = name.strip_prefix(METERED) {
                limits.take_bucket(rest, value);
            }
        }
        limits
    }

    fn take_unified(&mut self, name: &str, value: &str, now_ms: i64) {
        match name {
            "status" => self.status = word(value),
            "reset" => self.reset_at_ms = seconds(value),
            "representative-claim" => self.representative_claim = word(value),
            _ => {
                let Some((window, what)) = name.rsplit_once('-').filter(|(window, _)| *window != "overage") else {
                    return;
                };
                let Some(window) = self.window(window, now_ms) else { return };
                match what {
                    "status" => window.status = word(value),
                    "reset" => window.reset_at_ms = seconds(value),
                    "utilization" => window.utilization = share(value),
                    _ => {}
                }
            }
        }
    }

    /// The window of a name, made at its first field.
    fn window(&mut self, name: &str, now_ms: i64) -> Option<&mut Window> {
        let is_name =
            name.len() <= NAME_BYTES_MAX && !name.contains('-') && name.starts_with(|c: char| c.is_ascii_digit());
        if !is_name {
            return None;
        }
        if let Some(at) = self.windows.iter().position(|window| window.name == name) {
            return self.windows.get_mut(at);
        }
        if self.windows.len() >= WINDOWS_MAX {
            return None;
        }
        let window = Window {
            name: name.to_owned(),
            utilization: None,
            status: String::new(),
            reset_at_ms: None,
            seen_at_ms: now_ms,
        };
        self.windows.push(window);
        self.windows.last_mut()
    }

    fn take_bucket(&mut self, name: &str, value: &str) {
        let Some((name, what)) = name.rsplit_once('-').filter(|(name, _)| name.len() <= NAME_BYTES_MAX) else { return };
        let known = self.buckets.iter().position(|bucket| bucket.name == name);
        if known.is_none() && self.buckets.len() >= WINDOWS_MAX {
            return;
        }
        let at = known.unwrap_or_else(|| {
            self.buckets.push(Bucket { name: name.to_owned(), ..Bucket::default() });
            self.buckets.len() - 1
        });
        match what {
            "remaining" => self.buckets[at].remaining = value.parse().ok(),
            "reset" => self.buckets[at].reset_at_ms = time::parse(value),
            _ => {}
        }
    }

    /// What a refusal for a limit means: what of the account is used up, and until when, Unix milliseconds. `None` when no
    /// field tells an end that can be believed; then nothing is known to be used up.
    ///
    /// A subscription's windows come first: the latest end among the *rejected* ones that count the whole account, else among
    /// those of some models. After them `retry-after`, then the buckets that are empty; both count by family of models.
    pub fn exhausted(&self, family: Option<&str>, now_ms: i64) -> Option<(Scope, i64)> {
        let is_end = |end: &i64| (now_ms + 1..=now_ms + END_MAX_MS).contains(end);
        let of_family = family.map(|family| Scope::Family(family.to_owned()));
        let rejected = |whole: bool| {
            let of_kind = move |window: &&Window| ACCOUNT_WINDOWS.contains(&window.name.as_str()) == whole;
            let rejected = self.windows.iter().filter(|window| window.status == "rejected").filter(of_kind);
            rejected.filter_map(|window| window.reset_at_ms).filter(is_end).max()
        };
        if let Some(end) = rejected(true) {
            return Some((Scope::Account, end));
        }
        if let Some(end) = rejected(false) {
            return of_family.map(|scope| (scope, end));
        }
        if let Some(end) = self.reset_at_ms.filter(is_end).filter(|_| self.status == "rejected") {
            return match self.representative_claim.as_str() {
                "" | "five_hour" | "seven_day" => Some((Scope::Account, end)),
                _ => of_family.map(|scope| (scope, end)),
            };
        }
        let empty =
            self.buckets.iter().filter(|bucket| bucket.remaining == Some(0)).filter_map(|bucket| bucket.reset_at_ms);
        let end = self.retry_at_ms.filter(is_end).or_else(|| empty.filter(is_end).max())?;
        Some((of_family.unwrap_or(Scope::Account), end))
    }
}

/// When `retry-after` says to come again, Unix milliseconds: it holds seconds, or a date.
pub fn retry_at(value: &str, now_ms: i64) -> Option<i64> {
    if let Ok(seconds) = value.parse::<f64>() {
        let is_wait = seconds.is_finite() && seconds >= 0.0 && seconds <= (END_MAX_MS / 1000) as f64;
        return is_wait.then(|| now_ms + (seconds * 1000.0).ceil() as i64);
    }
    time::parse_http_date(value)
}

/// Unix seconds, as milliseconds.
fn seconds(value: &str) -> Option<i64> {
    value.parse::<i64>().ok()?.checked_mul(1000)
}

fn share(value: &str) -> Option<f64> {
    value.parse().ok().filter(|share: &f64| share.is_finite() && *share >= 0.0).map(|share| share.min(1.0))
}

/// A word of the vendor's, bounded.
fn word(value: &str) -> String {
    value.chars().take(64).collect::<String>().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    fn read(fields: &[(&str, &str)]) -> RateLimits {
        RateLimits::read(fields.iter().map(|(name, value)| (*name, value.as_bytes())), NOW)
    }

    fn unified(name: &str) -> String {
        format!("Anthropic-Ratelimit-Unified-{name}")
    }

    #[test]
    fn windows_of_a_subscription_are_read() {
        let names: Vec<String> =
            ["status", "reset", "representative-claim", "5h-status", "5h-reset", "5h-utilization", "7d_oi-utilization"]
                .map(unified)
                .to_vec();
        let values = ["allowed_warning", "1700003600", "five_hour", "allowed", "1700003600", "0.93", "1.7"];
        let fields: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(values).collect();
        let limits = read(&fields);
        assert_eq!((limits.status.as_str(), limits.reset_at_ms), ("allowed_warning", Some(1_700_003_600_000)));
        let five = &limits.windows[0];
        assert_eq!((five.name.as_str(), five.status.as_str(), five.utilization), ("5h", "allowed", Some(0.93)));
        assert_eq!((five.reset_at_ms, five.seen_at_ms), (Some(1_700_003_600_000), NOW));
        assert_eq!((limits.windows[1].name.as_str(), limits.windows[1].utilization), ("7d_oi", Some(1.0)));
        assert_eq!(limits.exhausted(Some("opus"), NOW), None, "nothing was rejected");
    }

    #[test]
    fn what_cannot_be_read_counts_as_not_sent() {
        let overlong = unified(&format!("{}-status", "7".repeat(30)));
        let many: Vec<(String, String)> =
            (0..50).map(|n| (unified(&format!("{n}h-status")), "rejected".into())).collect();
        let mut fields: Vec<(&str, &str)> = many.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        fields.extend([(overlong.as_str(), "rejected"), ("retry-after", "soon"), ("anthropic-ratelimit-", "x")]);
        let limits = read(&fields);
        assert_eq!((limits.windows.len(), limits.retry_at_ms), (WINDOWS_MAX, None));
        for value in ["-1", "NaN", "inf", "1e300", "", "Mon"] {
            assert_eq!(read(&[("retry-after", value)]).retry_at_ms, None, "{value}");
        }
        assert_eq!(read(&[("retry-after", "1.5")]).retry_at_ms, Some(NOW + 1500));
        let date = read(&[("retry-after", "Tue, 14 Nov 2023 22:14:00 GMT")]);
        assert_eq!(date.retry_at_ms, Some(1_700_000_040_000));
        for old in ["Tuesday, 14-Nov-23 22:14:00 GMT", "Tue Nov 14 22:14:00 2023"] {
            assert_eq!(read(&[("retry-after", old)]).retry_at_ms, Some(1_700_000_040_000), "{old}");
        }
        let limits = RateLimits::read([("retry-after", &b"\xff"[..])].into_iter(), NOW);
        assert_eq!(limits, RateLimits::default());
    }

    #[test]
    fn buckets_by_the_minute_are_read() {
        let limits = read(&[
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ("anthropic-ratelimit-input-tokens-reset", "2023-11-14T22:14:00Z"),
            ("anthropic-ratelimit-requests-remaining", "5"),
            ("anthropic-ratelimit-requests-reset", "2023-11-14T22:20:00Z"),
        ]);
        let scope = Scope::Family("opus".into());
        assert_eq!(limits.exhausted(Some("opus"), NOW), Some((scope, 1_700_000_040_000)));
        assert_eq!(limits.exhausted(None, NOW), Some((Scope::Account, 1_700_000_040_000)));
    }
}
