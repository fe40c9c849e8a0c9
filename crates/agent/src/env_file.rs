//! Variables from a file that a container left in a volume (`fileKeyRef`): lines of `NAME='value'`, a small part of what a
//! POSIX shell reads, so that nothing is ever expanded. Pure.

/// Bytes of such a file; a scanner of whole lines would take less.
pub(crate) const FILE_LEN_MAX: u64 = 1 << 20;
/// Characters of a name.
pub(crate) const KEY_LEN_MAX: usize = 128;
/// Bytes of a value.
pub(crate) const VALUE_LEN_MAX: usize = 32 * 1024;

/// What the file says of `key`; the first that names it counts, and what is after it need not be right.
pub(crate) fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let bad = |number: usize, why: &str| {
        Err(format!("invalid environment variable format at line {number}: {why}"))
    };
    let mut lines = text.lines().enumerate().map(|(i, l)| (i + 1, l));
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else { return bad(number, "missing '='") };
        if name.trim_end_matches([' ', '\t']).is_empty() {
            return bad(number, "empty variable name");
        }
        if name.ends_with([' ', '\t']) {
            return bad(number, "whitespace before '=' is not allowed");
        }
        if value.starts_with([' ', '\t']) {
            // To a shell this is an empty value before a command.
            if name == key {
                return Ok(Some(String::new()));
            }
            continue;
        }
        let Some(mut rest) = value.strip_prefix('\'') else {
            return bad(number, "value must be enclosed in single quotes");
        };
        let mut whole = String::new();
        let mut number = number;
        let after = loop {
            if let Some((last, after)) = rest.split_once('\'') {
                whole.push_str(last);
                break after;
            }
            whole.push_str(rest);
            whole.push('\n');
            let Some((at, next)) = lines.next() else {
                return Err(format!(
                    "invalid environment variable format starting at line {number}: unclosed single quote"
                ));
            };
            (number, rest) = (at, next);
        };
        let after = after.trim_start_matches([' ', '\t']);
        if !after.is_empty() && !after.starts_with('#') {
            return bad(number, "unexpected content after closing quote");
        }
        if name == key {
            return Ok(Some(whole));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_as_a_shell_would_and_nothing_is_expanded() {
        let text =
            "# a comment\n\n  A='1'\nB='two $A' # and more\nC='x\n y'\nD= 'z'\nexport E='5'\nA='again'\n";
        for (key, want) in [
            ("A", Some("1")),
            ("B", Some("two $A")),
            ("C", Some("x\n y")),
            ("D", Some("")),
            ("export E", Some("5")),
            ("E", None),
        ] {
            assert_eq!(find(text, key).unwrap().as_deref(), want, "{key}");
        }
    }

    #[test]
    fn a_line_that_is_no_assignment_is_refused_by_its_number() {
        for (text, want) in [
            ("\nA", "at line 2: missing '='"),
            ("='x'", "at line 1: empty variable name"),
            ("A ='x'", "at line 1: whitespace before '='"),
            ("A=x", "at line 1: value must be enclosed"),
            ("A=\"x\"", "at line 1: value must be enclosed"),
            ("B='1'\nA='x", "starting at line 2: unclosed"),
            ("B='1'2\nA='x'", "at line 1: unexpected content"),
        ] {
            let error = find(text, "A").unwrap_err();
            assert!(error.contains(want), "{text:?}: {error}");
        }
        assert_eq!(find("A='1'\nbroken", "A").unwrap().as_deref(), Some("1"), "what comes later is not read");
    }

    proptest::proptest! {
        #[test]
        fn no_file_brings_it_down(text in "[A-C=' \t\n#x]{0,60}") {
            let _ = find(&text, "A");
        }
    }
}
