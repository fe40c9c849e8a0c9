//! Kubernetes quantities: `100m`, `1.5Gi`, `1e3`. Exact decimal arithmetic in 10⁻⁹ units, with the canonical form that
//! the API server writes back (`0.5` → `500m`, `1024Mi` → `1Gi`), observed on a stock server.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Why a text is no quantity. The wording is the stock server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the quantity's form at all.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Form,
    /// The number part cannot be read.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    /// The suffix is none of the known ones.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// How a quantity was written, which decides how it is written back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `12e6`.
    DecimalExponent,
    /// `12Mi`.
    BinarySi,
    /// `12M`.
    DecimalSi,
}

/// An exact quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
/// Binary quantities saturate here, as the stock server caps them at 2⁶³−1.
const BINARY_NANO_MAX: i128 = i64::MAX as i128 * NANO;
/// Others are as large as they say. Ours saturate here, far beyond anything that there is, so that sums cannot overflow.
const NANO_MAX: i128 = 10i128.pow(35);

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

impl Quantity {
    /// A whole number of units.
    pub fn from_value(v: i64) -> Quantity {
        Quantity { nano: i128::from(v) * NANO, format: Format::DecimalSi }
    }

    /// Thousandths.
    pub fn from_milli(v: i64) -> Quantity {
        Quantity { nano: i128::from(v) * (NANO / 1000), format: Format::DecimalSi }
    }

    /// Bytes, written with binary suffixes.
    pub fn from_bytes(v: u64) -> Quantity {
        Quantity { nano: i128::from(v) * NANO, format: Format::BinarySi }
    }

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let b = text.as_bytes();
        let mut i = 0;
        let negative = match b.first() {
            Some(b'-') => {
                i = 1;
                true
            }
            Some(b'+') => {
                i = 1;
                false
            }
            _ => false,
        };
        let start = i;
        while i < b.len() && (b[i].is_ascii_digit() || b[i] == b'.') {
            i += 1;
        }
        if i == start {
            return Err(QuantityError::Form);
        }
        let (number, suffix) = (&text[start..i], &text[i..]);
        // Letters that some suffix has, then a sign, then digits: nothing else gets as far as being no suffix.
        let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if !rest.bytes().all(|c| c.is_ascii_digit()) {
            return Err(QuantityError::Form);
        }
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return Err(QuantityError::Numeric);
        }
        let (format, exponent10, shift2) = Self::read_suffix(suffix)?;
        // Digits beyond the 64 that we keep can only matter below 10⁻⁹ or above the cap.
        if number.len() > 64 || exponent10.abs() > 40 {
            return Err(QuantityError::Numeric);
        }
        let mut nano: i128 = 0;
        let mut inexact = false;
        // value = digits × 10^(exponent − len(fraction)) × 2^shift, in nano: one more ×10⁹.
        let mut digits: i128 = 0;
        let mut scale = exponent10 + 9;
        let mut kept = 0;
        for (k, c) in whole.bytes().chain(fraction.bytes()).enumerate() {
            if kept >= 28 {
                inexact |= c != b'0';
                if k < whole.len() {
                    scale += 1;
                }
                continue;
            }
            digits = digits * 10 + i128::from(c - b'0');
            if digits != 0 {
                kept += 1;
            }
            if k >= whole.len() {
                scale -= 1;
            }
        }
        if digits != 0 {
            let mut v = digits;
            for _ in 0..scale.max(0) {
                v = v.saturating_mul(10).min(NANO_MAX * 10);
            }
            v = if shift2 > 0 { v.checked_mul(1i128 << shift2).unwrap_or(BINARY_NANO_MAX) } else { v };
            for _ in scale..0 {
                inexact |= v % 10 != 0;
                v /= 10;
            }
            nano = v;
        }
        // Anything finer than 10⁻⁹ is rounded away from zero, as the stock server does.
        if inexact {
            nano += 1;
        }
        nano = nano.min(if format == Format::BinarySi { BINARY_NANO_MAX } else { NANO_MAX });
        Ok(Quantity { nano: if negative { -nano } else { nano }, format })
    }

    fn read_suffix(s: &str) -> Result<(Format, i32, u32), QuantityError> {
        if let Some((_, e)) = DECIMAL.iter().find(|(n, _)| *n == s) {
            return Ok((Format::DecimalSi, *e, 0));
        }
        if let Some((_, sh)) = BINARY.iter().find(|(n, _)| *n == s) {
            return Ok((Format::BinarySi, 0, *sh));
        }
        if let Some(digits) = s.strip_prefix(['e', 'E']) {
            return digits
                .parse::<i32>()
                .map(|e| (Format::DecimalExponent, e, 0))
                .map_err(|_| QuantityError::Suffix);
        }
        Err(QuantityError::Suffix)
    }

    /// Units, rounded up; negatives are zero, and what no 64 bits hold is the most that they do.
    pub fn value_ceil(&self) -> u64 {
        u64::try_from((self.nano.clamp(0, BINARY_NANO_MAX) + NANO - 1) / NANO).unwrap_or(u64::MAX)
    }

    /// The same amount in whole thousandths, rounded up, in the same form.
    #[must_use]
    pub fn to_whole_milli(&self) -> Quantity {
        const MILLI: i128 = NANO / 1000;
        Quantity { nano: (self.nano + MILLI - 1).div_euclid(MILLI) * MILLI, ..*self }
    }

    /// Thousandths, rounded up; negatives are zero.
    pub fn milli_ceil(&self) -> u64 {
        u64::try_from((self.nano.max(0) + NANO / 1000 - 1) / (NANO / 1000)).unwrap_or(u64::MAX)
    }

    /// The exact amount in 10⁻⁹ units, for comparison and sums.
    pub fn nano(&self) -> i128 {
        self.nano
    }

    /// The sum, in the form of the left operand (or of the right one where the left is zero).
    #[must_use]
    pub fn plus(&self, other: &Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: (self.nano + other.nano).clamp(-NANO_MAX, NANO_MAX), format }
    }

    /// The difference, in the form of the left operand.
    #[must_use]
    pub fn minus(&self, other: &Quantity) -> Quantity {
        let format = if self.nano == 0 { other.format } else { self.format };
        Quantity { nano: (self.nano - other.nano).clamp(-NANO_MAX, NANO_MAX), format }
    }

    /// Whether it is below zero.
    pub fn is_negative(&self) -> bool {
        self.nano < 0
    }

    /// Whether it is zero.
    pub fn is_zero(&self) -> bool {
        self.nano == 0
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    /// By amount, then by form, so that equality and order agree.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nano.cmp(&other.nano).then((self.format as u8).cmp(&(other.format as u8)))
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that keeps it exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let whole = self.nano % NANO == 0;
        // A binary quantity below 1024, or with a fraction, is written in decimal form.
        if self.format == Format::BinarySi && whole && self.nano.abs() >= 1024 * NANO {
            let v = self.nano / NANO;
            let (suffix, shift) =
                BINARY.iter().rev().find(|(_, sh)| v % (1i128 << sh) == 0).copied().unwrap_or(("", 0));
            return write!(f, "{}{suffix}", v >> shift);
        }
        let (mut v, mut e) = (self.nano, -9i32);
        // There is no suffix beyond, but there are exponents.
        let last = if self.format == Format::DecimalExponent { i32::MAX } else { 18 };
        while v % 1000 == 0 && e < last {
            v /= 1000;
            e += 3;
        }
        match self.format {
            Format::DecimalExponent if e != 0 => write!(f, "{v}e{e}"),
            _ => {
                let suffix = DECIMAL.iter().find(|(_, x)| *x == e).map_or("", |(n, _)| n);
                write!(f, "{v}{suffix}")
            }
        }
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Quantity::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_back_in_canonical_form() {
        for (text, want) in [
            ("0.5", "500m"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("100Mi", "100Mi"),
            ("1G", "1G"),
            ("1000k", "1M"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("512", "512"),
            ("0.1Ki", "102400m"),
            ("-1", "-1"),
            ("+5", "5"),
            ("1n", "1n"),
            ("0.0000000001", "1n"),
            ("1048576", "1048576"),
            ("9223372036854775808", "9223372036854775808"),
            ("12345678901234567890123m", "12345678901234567890123m"),
            ("1e20", "100e18"),
            ("1e24", "1e24"),
            ("10000Ei", "9223372036854775807"),
            ("-10000Ei", "-9223372036854775807"),
        ] {
            assert_eq!(Quantity::parse(text).map(|q| q.to_string()).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in ["", "two", "1.2.3", "1Zi", "m", "1 Gi", "1e", "-", "."] {
            assert!(Quantity::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(Quantity::parse("two"), Err(QuantityError::Form));
    }

    #[test]
    fn rounding_is_upwards_and_huge_values_are_capped() {
        assert_eq!(Quantity::parse("1.1").map(|q| q.value_ceil()), Ok(2));
        assert_eq!(Quantity::parse("1u").map(|q| q.milli_ceil()), Ok(1));
        assert_eq!(Quantity::parse("99999999999E").map(|q| q.value_ceil()), Ok(i64::MAX as u64));
        assert_eq!(Quantity::parse("1e-12").map(|q| q.to_whole_milli().to_string()).as_deref(), Ok("1e-3"));
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_reads_back_as_the_same_amount(v in -10_000_000_000i64..10_000_000_000, s in 0usize..16) {
            let suffixes = ["", "m", "u", "k", "M", "G", "T", "Ki", "Mi", "Gi", "Ti", "e3", "E2", "n", "P", "Pi"];
            if let Ok(q) = Quantity::parse(&format!("{v}{}", suffixes[s])) {
                proptest::prop_assert_eq!(Quantity::parse(&q.to_string()).map(|r| r.nano()), Ok(q.nano()));
            }
        }

        #[test]
        fn no_text_panics(s in "[-+0-9.eEinumkKMGTPi]{0,40}") { let _ = Quantity::parse(&s); }
    }
}
