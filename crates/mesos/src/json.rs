//! The scalar types of the proto2-JSON mapping, as tolerant on reading as Mesos is: numbers may be text, doubles may be
//! `"Infinity"`, bytes are base64. Writing is compact and pure ASCII, which the plainest JSON clients rely on.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use std::io;

/// An id message, `{"value": …}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Id<T> {
    /// The id.
    pub value: T,
}

impl<T> Id<T> {
    /// Wraps an id.
    pub fn new(value: impl Into<T>) -> Self {
        Id { value: value.into() }
    }
}

impl<T> From<T> for Id<T> {
    fn from(value: T) -> Self {
        Id { value }
    }
}

/// A double. Not-a-number and the infinities are written as text.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct Double(pub f64);

impl Serialize for Double {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            v if v.is_nan() => s.serialize_str("NaN"),
            f64::INFINITY => s.serialize_str("Infinity"),
            f64::NEG_INFINITY => s.serialize_str("-Infinity"),
            v => s.serialize_f64(v),
        }
    }
}

impl<'de> Deserialize<'de> for Double {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Double;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_f64<E>(self, v: f64) -> Result<Double, E> {
                Ok(Double(v))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Double, E> {
                Ok(Double(v as f64))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Double, E> {
                Ok(Double(v as f64))
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Double, E> {
                match v {
                    "Infinity" | "inf" => Ok(Double(f64::INFINITY)),
                    "-Infinity" | "-inf" => Ok(Double(f64::NEG_INFINITY)),
                    "NaN" | "nan" => Ok(Double(f64::NAN)),
                    _ => v.parse().map(Double).map_err(|_| E::custom("not a number")),
                }
            }
        }
        d.deserialize_any(V)
    }
}

/// A 64-bit integer; a float without a fraction and decimal text are read too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Int(pub i64);

impl<'de> Deserialize<'de> for Int {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl Visitor<'_> for V {
            type Value = Int;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }
            fn visit_i64<E>(self, v: i64) -> Result<Int, E> {
                Ok(Int(v))
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Int, E> {
                i64::try_from(v).map(Int).map_err(|_| E::custom("integer out of range"))
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Int, E> {
                // 2⁵³ bounds the integers that a double carries exactly.
                if v.fract() == 0.0 && v.abs() <= 9_007_199_254_740_992.0 {
                    Ok(Int(v as i64))
                } else {
                    Err(E::custom("not an integer"))
                }
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Int, E> {
                v.parse().map(Int).map_err(|_| E::custom("not an integer"))
            }
        }
        d.deserialize_any(V)
    }
}

/// Python's encoder pads, some others do not: both are read.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Bytes, base64 on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        BASE64.decode(text.as_bytes()).map(Blob).map_err(|_| de::Error::custom("not base64"))
    }
}

/// An empty message whose presence is what counts (`revocable: {}`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Empty {}

struct Ascii;

impl serde_json::ser::Formatter for Ascii {
    fn write_string_fragment<W: io::Write + ?Sized>(&mut self, w: &mut W, fragment: &str) -> io::Result<()> {
        // What has to be escaped is rare: bytes are looked at many at a time before characters are.
        if fragment.bytes().all(|b| b < 0x7f) {
            return w.write_all(fragment.as_bytes());
        }
        let mut plain = 0;
        for (i, c) in fragment.char_indices().filter(|(_, c)| !c.is_ascii() || *c == '\u{7f}') {
            w.write_all(&fragment.as_bytes()[plain..i])?;
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(w, "\\u{unit:04x}")?;
            }
            plain = i + c.len_utf8();
        }
        w.write_all(&fragment.as_bytes()[plain..])
    }
}

/// Compact JSON in pure ASCII: no newline, everything beyond ASCII escaped.
pub fn to_ascii<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    // Writing into a vector cannot fail, and every type here has text keys: an error can only be a map with other keys.
    match value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, Ascii)) {
        Ok(()) => out,
        Err(_) => b"null".to_vec(),
    }
}

/// Durations as Mesos' flags write them: `10secs`, `5mins`, `1hrs`, `250ms`.
pub fn parse_duration(text: &str) -> Option<core::time::Duration> {
    let split = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "secs" => 1.0,
        "mins" => 60.0,
        "hrs" => 3600.0,
        "days" => 86_400.0,
        "weeks" => 604_800.0,
        _ => return None,
    };
    core::time::Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_every_form_that_clients_send() {
        for (text, want) in [("1", 1.0), ("1.5", 1.5), ("\"2.5\"", 2.5), ("4294967295", 4_294_967_295.0)] {
            assert_eq!(serde_json::from_str::<Double>(text).unwrap().0, want, "{text}");
        }
        assert!(serde_json::from_str::<Double>("\"Infinity\"").unwrap().0.is_infinite());
        assert!(serde_json::from_str::<Double>("\"NaN\"").unwrap().0.is_nan());
        assert!(serde_json::from_str::<Double>("\"x\"").is_err());
        for (text, want) in [("31000", 31000), ("31000.0", 31000), ("\"31000\"", 31000), ("-5", -5)] {
            assert_eq!(serde_json::from_str::<Int>(text).unwrap().0, want, "{text}");
        }
        for bad in ["1.5", "1e300", "18446744073709551615", "\"\"", "true"] {
            assert!(serde_json::from_str::<Int>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn infinities_are_text() {
        assert_eq!(to_ascii(&Double(f64::INFINITY)), b"\"Infinity\"");
        assert_eq!(to_ascii(&Double(8.0)), b"8.0");
    }

    #[test]
    fn bytes_are_base64_padded_or_not() {
        let b: Blob = serde_json::from_str("\"aGk=\"").unwrap();
        assert_eq!(b.0, b"hi");
        assert_eq!(serde_json::from_str::<Blob>("\"aGk\"").unwrap(), b);
        assert_eq!(to_ascii(&b), b"\"aGk=\"");
        assert!(serde_json::from_str::<Blob>("\"*\"").is_err());
    }

    #[test]
    fn records_are_ascii() {
        assert_eq!(to_ascii("a\"b\né😀\u{7f}"), br#""a\"b\n\u00e9\ud83d\ude00\u007f""#);
        let back: String = serde_json::from_slice(&to_ascii("é😀")).unwrap();
        assert_eq!(back, "é😀");
    }

    #[test]
    fn durations_are_read_as_flags_write_them() {
        for (text, want) in [
            ("10secs", Some(10_000)),
            ("250ms", Some(250)),
            ("1.5mins", Some(90_000)),
            ("5", None),
            ("-1secs", None),
            ("xsecs", None),
        ] {
            assert_eq!(parse_duration(text), want.map(core::time::Duration::from_millis), "{text}");
        }
    }
}
