//! Why Go's `time.Parse` refuses a time, in its words: it names what is left of the text and the part of the layout that it
//! should have been.

use crate::go;
use stoa_units::Time;

/// A part of a layout.
enum Part {
    /// Text that stands as it is.
    Literal(&'static str),
    /// Digits: how many at least and at most, the highest number, and what it is called; the day's limit hangs on the month.
    Number(&'static str, usize, usize, u32, &'static str),
    /// A point and exactly six digits.
    Micros,
    /// `Z` or an offset.
    Zone,
}

use Part::{Literal, Micros, Number, Zone};

const DATE_TIME: [Part; 11] = [
    Number("2006", 4, 4, 9999, "year"),
    Literal("-"),
    Number("01", 2, 2, 12, "month"),
    Literal("-"),
    Number("02", 2, 2, 99, "day"),
    Literal("T"),
    Number("15", 1, 2, 23, "hour"),
    Literal(":"),
    Number("04", 2, 2, 59, "minute"),
    Literal(":"),
    Number("05", 2, 2, 59, "second"),
];

/// Why a text that stands for itself, as in a query, is no time; in the words that a client of a stock server reads.
pub fn check_time(text: &str) -> Result<(), String> {
    let is_whole = text.as_bytes().get(10) == Some(&b'T') && Time::parse(text).is_some();
    is_whole.then_some(()).ok_or_else(|| refusal(text, "2006-01-02T15:04:05Z07:00", false))
}

/// The text of the error for a time that does not follow the layout, which has microseconds or not.
pub(super) fn refusal(text: &str, layout: &str, has_micros: bool) -> String {
    let start = format!("parsing time {}", go::quote(text));
    let wanted = |rest: &str, element: &str| {
        format!(
            "{start} as {}: cannot parse {} as {}",
            go::quote(layout),
            go::quote(rest),
            go::quote(element)
        )
    };
    let mut rest = text;
    let tail = if has_micros { [Some(Micros), Some(Zone)] } else { [None, Some(Zone)] };
    for part in DATE_TIME.iter().chain(tail.iter().flatten()) {
        match part {
            Literal(literal) => match rest.strip_prefix(literal) {
                Some(after) => rest = after,
                None => return wanted(rest, literal),
            },
            Number(element, least, most, highest, what) => {
                let digits = rest.bytes().take(*most).take_while(u8::is_ascii_digit).count();
                if digits < *least {
                    return wanted(rest, element);
                }
                let (number, after) = rest.split_at(digits);
                let number: u32 = number.parse().unwrap_or(u32::MAX);
                let is_month_zero = *what == "month" && number == 0;
                if number > *highest || is_month_zero {
                    return format!("{start}: {what} out of range");
                }
                rest = after;
                // A fraction may follow though the layout has none.
                if *what == "second" && !has_micros && rest.starts_with(['.', ',']) {
                    let digits = rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
                    if digits > 0 {
                        rest = &rest[1 + digits..];
                    }
                }
            }
            Micros => {
                let digits = rest.bytes().skip(1).take(6).take_while(u8::is_ascii_digit).count();
                if !rest.starts_with(['.', ',']) || digits < 6 {
                    return wanted(rest, ".000000");
                }
                rest = &rest[7..];
            }
            Zone => match zone(rest) {
                Some(after) => rest = after,
                None => return wanted(rest, "Z07:00"),
            },
        }
    }
    if rest.is_empty() {
        // Everything is in its place, and there is no such day.
        format!("{start}: day out of range")
    } else {
        format!("{start}: extra text: {}", go::quote(rest))
    }
}

/// What follows a zone.
fn zone(text: &str) -> Option<&str> {
    if let Some(after) = text.strip_prefix('Z') {
        return Some(after);
    }
    let (offset, after) = text.split_at_checked(6)?;
    let b = offset.as_bytes();
    let is_offset =
        matches!(b[0], b'+' | b'-') && b[3] == b':' && [1, 2, 4, 5].iter().all(|at| b[*at].is_ascii_digit());
    is_offset.then_some(after)
}
