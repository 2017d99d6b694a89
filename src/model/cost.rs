//! Money: whole pico-dollars, so that every rate times a count of tokens is exact and sums never drift.

/// Pico-dollars of one dollar.
pub const DOLLAR: i64 = 1_000_000_000_000;

/// What requests cost, in pico-dollars, by what it was paid for. An `i64` holds some nine million dollars.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Cost {
    /// Prompt tokens that no cache held.
    pub input: i64,
    /// Tokens the model wrote.
    pub output: i64,
    /// Cache writes of both lives.
    pub cache_write: i64,
    /// Cache reads.
    pub cache_read: i64,
    /// Web searches.
    pub web_search: i64,
}

impl Cost {
    /// Everything together.
    pub fn total(&self) -> i64 {
        self.input + self.output + self.cache_write + self.cache_read + self.web_search
    }

    /// Adds another cost to this one.
    pub fn add(&mut self, other: &Cost) {
        self.input += other.input;
        self.output += other.output;
        self.cache_write += other.cache_write;
        self.cache_read += other.cache_read;
        self.web_search += other.web_search;
    }
}

/// The double nearest to an amount, in dollars.
pub fn dollars(pico: i64) -> f64 {
    // Both are exact as doubles, so the division rounds once and correctly.
    if pico.unsigned_abs() <= 1 << 53 {
        return pico as f64 / DOLLAR as f64;
    }
    let sign = if pico < 0 { "-" } else { "" };
    let amount = pico.unsigned_abs();
    let unit = DOLLAR.unsigned_abs();
    // Reading decimal text rounds correctly; a division of two doubles rounds twice.
    format!("{sign}{}.{:012}", amount / unit, amount % unit).parse().unwrap_or_default()
}

/// An amount as the original writes it: two decimals from a dollar on, four from a tenth of a cent, else six. Rounded half
/// up on the exact value.
pub fn dollars_text(pico: i64) -> String {
    let decimals = match pico {
        DOLLAR.. => 2,
        1_000_000_000.. => 4,
        _ => 6,
    };
    let unit = 10_i64.pow(12 - decimals);
    // Rounds in 128 bits: half a unit more must not overflow.
    let rounded = (i128::from(pico.max(0)) + i128::from(unit / 2)) / i128::from(unit);
    let one = 10_i128.pow(decimals);
    format!("${}.{:0width$}", rounded / one, rounded % one, width = decimals as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_in_the_original_and_round_half_up() {
        for (pico, text, double) in [
            (0, "$0.000000", 0.0),
            (499_999, "$0.000000", 4.999_99e-7),
            (500_000, "$0.000001", 5e-7),
            (630_000_000, "$0.000630", 0.00063),
            (958_500_000, "$0.000959", 0.000_958_5),
            (999_999_999, "$0.001000", 0.000_999_999_999),
            (1_000_000_000, "$0.0010", 0.001),
            (188_850_000_000, "$0.1889", 0.18885),
            (999_999_999_999, "$1.0000", 0.999_999_999_999),
            (DOLLAR, "$1.00", 1.0),
            (1_005_000_000_000, "$1.01", 1.005),
            (1_234_567_890_000_000, "$1234.57", 1234.56789),
            (i64::MAX, "$9223372.04", 9_223_372.036_854_775),
        ] {
            assert_eq!(dollars_text(pico), text, "{pico}");
            assert!((dollars(pico) - double).abs() <= f64::EPSILON * double, "{pico}");
        }
        for pico in
            [1_i64, -1, 630_000_000, 36_339_000_000, 1 << 53, (1 << 53) - 1, (1 << 53) + 1, -9_007_199_254_740_993]
        {
            let text =
                format!("{}{}.{:012}", if pico < 0 { "-" } else { "" }, pico.abs() / DOLLAR, pico.abs() % DOLLAR);
            assert_eq!(dollars(pico).to_bits(), text.parse::<f64>().unwrap().to_bits(), "{pico}");
        }
        assert_eq!(dollars(180_030_000_000).to_string(), "0.18003");
        assert_eq!(dollars(800_000).to_string(), "0.0000008");
    }
}
