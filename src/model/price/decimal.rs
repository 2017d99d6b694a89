//! Decimal numbers read exactly from their text, as JSON writes them (RFC 8259 section 6).

/// The value times ten to the power of `shift`, if that is a whole number in range and not negative.
pub(super) fn scaled(text: &str, shift: i32) -> Option<i64> {
    let text = text.trim();
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if whole.is_empty() || digits.len() > 60 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    let power = exponent.checked_add(shift)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let power = power.checked_add(i32::try_from(digits.len() - significant.len()).ok()?)?;
    let power = u32::try_from(power).ok()?;
    significant.parse::<i64>().ok()?.checked_mul(10_i64.checked_pow(power)?)
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn decimals_are_exact_or_nothing() {
        for (text, shift, expected) in [
            ("3e-06", 12, Some(3_000_000)),
            ("3E-6", 12, Some(3_000_000)),
            ("0.000003", 12, Some(3_000_000)),
            ("1.875e-05", 12, Some(18_750_000)),
            ("8e-8", 12, Some(80_000)),
            ("7.9999999999999996e-07", 12, None),
            ("1e-13", 12, None),
            ("10e-13", 12, Some(1)),
            ("0", 12, Some(0)),
            ("0.0e5", 12, Some(0)),
            ("1.10", 1, Some(11)),
            ("12.50", 6, Some(12_500_000)),
            ("1e+1", 0, Some(10)),
            ("-1", 0, None),
            ("1e99", 0, None),
            ("1e2147483647", 12, None),
            ("", 0, None),
            (".5", 1, None),
            ("null", 0, None),
            ("\"3\"", 0, None),
            ("9223372036854775808", 0, None),
        ] {
            assert_eq!(scaled(text, shift), expected, "{text}");
        }
    }
}
