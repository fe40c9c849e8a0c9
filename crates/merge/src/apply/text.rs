//! JSON, piece by piece: a record of owners is written as text, for it is as large as the object and nobody looks into it again.

/// A string.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    // A string always serialises, and a Vec always takes more.
    let _ = serde_json::to_writer(out, text);
}

/// A member of an object with a string, unless that is empty.
pub(super) fn put_member(out: &mut Vec<u8>, name: &str, text: &str) {
    if !text.is_empty() {
        put_name(out, name);
        put(out, text);
    }
}

/// A member's name, whose value is to follow.
pub(super) fn put_name(out: &mut Vec<u8>, name: &str) {
    put_comma(out);
    put(out, name);
    out.push(b':');
}

/// What parts members and elements, but before the first.
pub(super) fn put_comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}
