//! Blocks of PEM as Go's `encoding/pem` finds them: what a stock server refuses or takes hangs on which blocks it sees.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block<'t> {
    /// What it says it is.
    pub(crate) label: &'t str,
    /// Whether lines of `name: value` come before its content.
    pub(crate) has_headers: bool,
    /// Its content.
    pub(crate) contents: Vec<u8>,
}

/// The blocks of a text, one after the other. What is no block, or none that can be read, is passed over.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (found, after) = read(begin(rest)?);
            rest = after;
            if found.is_some() {
                return found;
            }
        }
    })
}

/// What follows the next beginning of a block, which is that of a line, in a text that begins with a line.
fn begin(text: &str) -> Option<&str> {
    let is_begun = |at: &usize| *at == 0 || text[..*at].ends_with('\n');
    let at = text.match_indices(BEGIN).map(|(at, _)| at).find(is_begun)?;
    text.get(at + BEGIN.len()..)
}

/// A line without what is white at its end, and what follows it.
fn line(text: &str) -> (&str, &str) {
    let (line, rest) = text.split_once('\n').unwrap_or((text, ""));
    (line.strip_suffix('\r').unwrap_or(line).trim_end_matches([' ', '\t']), rest)
}

/// The block whose label begins a text, and where to look on.
fn read(text: &str) -> (Option<Block<'_>>, &str) {
    let (first, after_label) = line(text);
    let Some(label) = first.strip_suffix(DASHES) else { return (None, after_label) };
    let mut body = after_label;
    let mut has_headers = false;
    loop {
        let (header, next) = line(body);
        if !header.contains(':') {
            break;
        }
        (has_headers, body) = (true, next);
    }
    // An empty block ends where it begins.
    let end = match body.starts_with(END) && !has_headers {
        true => Some(0),
        false => body.match_indices(END).map(|(at, _)| at).find(|at| body[..*at].ends_with('\n')),
    };
    // Without an end there is no block further on either: looking for it again from each beginning would cost the square.
    let Some(end) = end else { return (None, "") };
    let (last, after) = line(&body[end + END.len()..]);
    if last.strip_suffix(DASHES) != Some(label) {
        return (None, after_label);
    }
    let letters: Vec<u8> = body[..end].bytes().filter(|b| !b" \t\r\n".contains(b)).collect();
    match STANDARD.decode(letters) {
        Ok(contents) => (Some(Block { label, has_headers, contents }), after),
        Err(_) => (None, after_label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(text: &str) -> Vec<(&str, bool, Vec<u8>)> {
        blocks(text).map(|b| (b.label, b.has_headers, b.contents)).collect()
    }

    #[test]
    fn blocks_are_found_between_lines_of_any_kind() {
        let one = "-----BEGIN A B-----\nAQID\n-----END A B-----\n";
        let a = ("A B", false, vec![1, 2, 3]);
        assert_eq!(seen(one), vec![a.clone()]);
        assert_eq!(seen(&format!("x\n{one}y\r\n\n{one}")), [a.clone(), a.clone()]);
        assert_eq!(seen(&one.replace('\n', "\r\n")), vec![a.clone()]);
        assert_eq!(seen("-----BEGIN A B-----  \n A Q\nI\tD \n-----END A B-----  "), vec![a.clone()]);
        assert_eq!(seen("-----BEGIN E-----\n-----END E-----\n"), [("E", false, vec![])]);
        let with = "-----BEGIN A B-----\nProc-Type: 4\nx:y\n\nAQID\n-----END A B-----\n";
        assert_eq!(seen(&format!("{with}{one}")), [("A B", true, vec![1, 2, 3]), a.clone()]);
        // What begins no line, has no end or none of its own, or holds what is no base64, is no block.
        for none in [
            "x-----BEGIN A B-----\nAQID\n-----END A B-----\n",
            "-----BEGIN A B-----\nAQID\n",
            "-----BEGIN A B-----\nAQID\n-----END A C-----\n",
            "-----BEGIN A B-----\nAQID\n-----END A B-----x\n",
            "-----BEGIN A B\nAQID\n-----END A B-----\n",
            "-----BEGIN A B-----\n?\n-----END A B-----\n",
            "-----BEGIN A B-----",
            "-----BEGIN A B-----\nx: y\n-----END A B-----\n",
        ] {
            assert_eq!(seen(none), [], "{none}");
            assert_eq!(seen(&format!("{none}\n{one}")).last(), Some(&a), "{none}");
        }
    }
}
