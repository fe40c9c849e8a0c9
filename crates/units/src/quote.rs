//! Texts as Go prints them, since many a message and file of Kubernetes shows names and failures so: quotation marks as `%q`
//! has them, and why a connection was not made.

use std::fmt::Write;

/// Why a connection was not made, as it is told there: `connect: connection refused`.
pub fn dial_words(error: &std::io::Error) -> String {
    let words = error.to_string();
    match (error.raw_os_error(), words.split_once(" (os error")) {
        (Some(_), Some((words, _))) => format!("connect: {}", words.to_lowercase()),
        _ => words,
    }
}

/// A text as `%q` prints it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                // Writing into a String cannot fail.
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Error, ErrorKind};

    #[test]
    fn a_connection_that_was_not_made_is_told_of_without_the_number() {
        let words = |code| dial_words(&Error::from_raw_os_error(code));
        assert_eq!(words(111), "connect: connection refused");
        assert_eq!(words(113), "connect: no route to host");
        assert_eq!(dial_words(&Error::new(ErrorKind::NotFound, "no such host")), "no such host");
    }
}
