//! Places in a custom resource, as rules and selectable fields name them: `.spec.size`, or `.spec['size']`.

use serde_json::Value;

use crate::value::{at, is_empty};

/// Whether a field may be named in brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Brackets {
    Allowed,
    Refused,
}

/// The schema at a place, with the names on the way; or why there is none.
pub(super) fn find<'v, 'p>(
    place: &'p str,
    schema: &'v Value,
    brackets: Brackets,
) -> Result<(&'v Value, Vec<&'p str>), String> {
    let (mut schema, mut names, mut rest) = (schema, Vec::new(), place);
    let end = || "unexpected end of JSON path".to_owned();
    while let Some((token, after)) = next(rest) {
        rest = after;
        let name = match token {
            "[" if brackets == Brackets::Refused => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let (quoted, after) = next(rest).ok_or_else(end)?;
                let name = quoted.strip_prefix('\'').and_then(|q| q.strip_suffix('\''));
                let name = name.ok_or_else(|| format!("expected single quoted string but got {quoted}"))?;
                let (close, after) = next(after).ok_or_else(end)?;
                if close != "]" {
                    return Err(format!("expected ] but got {close}"));
                }
                rest = after;
                name
            }
            "." => {
                let (name, after) = next(rest).ok_or_else(end)?;
                rest = after;
                name
            }
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        let more = at(schema, "additionalProperties");
        let found = match is_empty(schema, "properties") {
            false => at(at(schema, "properties"), name),
            true => more,
        };
        if found.is_null() {
            return Err("does not refer to a valid field".to_owned());
        }
        schema = found;
        names.push(name);
    }
    Ok((schema, names))
}

/// The next part of a path and what follows: a separator, a name, or a name in quotes, which may hold separators.
fn next(place: &str) -> Option<(&str, &str)> {
    let first = place.chars().next()?;
    let len = match first {
        '.' | '[' | ']' => 1,
        '\'' => {
            let mut last = first;
            let quote = place.char_indices().skip(1).find(|(_, c)| {
                let closes = *c == '\'' && last != '\\';
                last = *c;
                closes
            });
            quote.map_or(place.len(), |(i, _)| i + 1)
        }
        _ => place.find(['.', '[', ']']).unwrap_or(place.len()),
    };
    Some(place.split_at(len))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_place_is_found_by_its_names() {
        let schema = json!({"properties": {
            "spec": {"properties": {"a.b": {"type": "string"}, "n": {"type": "integer"}}},
            "map": {"additionalProperties": {"type": "boolean"}},
        }});
        let kind = |place: &str| {
            find(place, &schema, Brackets::Allowed).map(|(found, _)| crate::value::text(found, "type"))
        };
        assert_eq!(kind(".spec.n"), Ok("integer"));
        assert_eq!(kind(".spec['a.b']"), Ok("string"));
        assert_eq!(kind(".map.whatever"), Ok("boolean"));
        for (place, why) in [
            ("spec", "expected [ or . but got: spec"),
            (".spec.x", "does not refer to a valid field"),
            (".", "unexpected end of JSON path"),
            (".spec[n]", "expected single quoted string but got n"),
            (".spec['n'", "unexpected end of JSON path"),
            (".spec['n'.", "expected ] but got ."),
        ] {
            assert_eq!(kind(place), Err(why.to_owned()), "{place}");
        }
        let refused = find(".spec['n']", &schema, Brackets::Refused);
        assert_eq!(refused, Err("array notation is not allowed".to_owned()));
    }
}
