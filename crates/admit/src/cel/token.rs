//! The words and signs of an expression.

use super::Fault;

/// What a piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Word,
    /// A name in backticks.
    Quoted,
    Int,
    Uint,
    Float,
    Text,
    Bytes,
    Sign,
    End,
}

/// A piece of the text and where it begins, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub text: String,
    pub at: usize,
}

/// Words that the language keeps for later.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

const SIGNS: [&str; 25] = [
    "||", "&&", "<=", ">=", "==", "!=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}", ";",
];

/// The text in pieces, the end last.
pub(super) fn read(chars: &[char]) -> Result<Vec<Token>, Fault> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = chars.get(at).copied() {
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        if c == '/' && chars.get(at + 1) == Some(&'/') {
            at += chars[at..].iter().position(|c| *c == '\n').unwrap_or(chars.len() - at);
            continue;
        }
        let (kind, end) = piece(chars, at)?;
        out.push(Token { kind, text: chars[at..end].iter().collect(), at });
        at = end;
    }
    out.push(Token { kind: Kind::End, text: "<EOF>".to_owned(), at: chars.len() });
    Ok(out)
}

fn run(chars: &[char], from: usize, fits: impl Fn(char) -> bool) -> usize {
    from + chars[from.min(chars.len())..].iter().take_while(|c| fits(**c)).count()
}

fn piece(chars: &[char], at: usize) -> Result<(Kind, usize), Fault> {
    let c = chars[at];
    let unknown = |what: String| (at, format!("Syntax error: token recognition error at: '{what}'"));
    if let Some((quote, kind, raw)) = quoted(chars, at) {
        return match text_end(chars, quote, raw) {
            Some(end) => Ok((kind, end)),
            None => Err(unknown(chars[at..].iter().take(80).collect())),
        };
    }
    if c == '`' {
        let end = run(chars, at + 1, |c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c));
        return match chars.get(end) {
            Some('`') => Ok((Kind::Quoted, end + 1)),
            _ => Err(unknown(chars[at..end].iter().collect())),
        };
    }
    if c.is_ascii_alphabetic() || c == '_' {
        return Ok((Kind::Word, run(chars, at, |c| c.is_ascii_alphanumeric() || c == '_')));
    }
    if c.is_ascii_digit() || (c == '.' && chars.get(at + 1).is_some_and(char::is_ascii_digit)) {
        return Ok(number(chars, at));
    }
    let starts = |sign: &str| sign.chars().enumerate().all(|(i, s)| chars.get(at + i) == Some(&s));
    match SIGNS.iter().find(|sign| starts(sign)).filter(|sign| **sign != ";") {
        Some(sign) => Ok((Kind::Sign, at + sign.len())),
        None => Err(unknown(c.to_string())),
    }
}

/// Where the quote of a text stands, of what kind the text is, and whether it is taken as it stands.
fn quoted(chars: &[char], at: usize) -> Option<(usize, Kind, bool)> {
    let prefix = run(chars, at, |c| "rRbB".contains(c)) - at;
    let is_quote = matches!(chars.get(at + prefix), Some('"' | '\''));
    if prefix > 2 || !is_quote {
        return None;
    }
    let has = |letters: &str| chars[at..at + prefix].iter().any(|c| letters.contains(*c));
    Some((at + prefix, if has("bB") { Kind::Bytes } else { Kind::Text }, has("rR")))
}

/// The end of a text whose quote stands there.
fn text_end(chars: &[char], quote: usize, raw: bool) -> Option<usize> {
    let mark = chars[quote];
    let triple = chars.get(quote + 1) == Some(&mark) && chars.get(quote + 2) == Some(&mark);
    let mut at = quote + if triple { 3 } else { 1 };
    loop {
        match *chars.get(at)? {
            '\\' if !raw => at += 2,
            '\n' | '\r' if !triple => return None,
            c if c == mark && !triple => return Some(at + 1),
            c if c == mark && chars.get(at + 1) == Some(&mark) && chars.get(at + 2) == Some(&mark) => {
                return Some(at + 3);
            }
            _ => at += 1,
        }
    }
}

fn number(chars: &[char], at: usize) -> (Kind, usize) {
    let is_unsigned = |end: usize| matches!(chars.get(end), Some('u' | 'U'));
    if chars[at] == '0' && matches!(chars.get(at + 1), Some('x' | 'X')) {
        let end = run(chars, at + 2, |c| c.is_ascii_hexdigit());
        return if is_unsigned(end) { (Kind::Uint, end + 1) } else { (Kind::Int, end) };
    }
    let digits = |from: usize| run(chars, from, |c| c.is_ascii_digit());
    let mut end = digits(at);
    let mut kind = Kind::Int;
    if chars.get(end) == Some(&'.') && chars.get(end + 1).is_some_and(char::is_ascii_digit) {
        end = digits(end + 1);
        kind = Kind::Float;
    }
    if matches!(chars.get(end), Some('e' | 'E')) {
        let sign = usize::from(matches!(chars.get(end + 1), Some('+' | '-')));
        let last = digits(end + 1 + sign);
        if last > end + 1 + sign {
            return (Kind::Float, last);
        }
    }
    if kind == Kind::Int && is_unsigned(end) { (Kind::Uint, end + 1) } else { (kind, end) }
}
