//! YAML into a value, within bounds: copies made by aliases count like everything else, so that a few lines cannot become
//! gigabytes. Of a key that a map names twice the last counts, and the place of each is told, as a stock server's parser tells it.

use crate::body::Parsed;
use crate::options::{BODY_BYTES_MAX, YAML_ALIASES_MAX, YAML_DEPTH_MAX, YAML_NODES_MAX};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;
use std::fmt;
use stoa_kube::decode;

/// What strict validation says before the places of duplicate keys.
const DUPLICATES: &str = "yaml: unmarshal errors:\n  ";

/// Parses one document. The problems are a line each: `line 3: key "a" already set in map`.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let budget = serde_saphyr::budget! {
        max_aliases: YAML_ALIASES_MAX,
        max_depth: YAML_DEPTH_MAX,
        max_nodes: YAML_NODES_MAX,
        max_documents: 1,
        max_total_scalar_bytes: BODY_BYTES_MAX,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        strict_booleans: true,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
    };
    let node: Result<Node, _> = serde_saphyr::from_slice_with_options(first_document(bytes), options);
    node.map(|node| node.0).map_err(|e| error(&e.to_string()))
}

/// The text up to where a second document begins: a stock server's parser reads the first and looks no further.
fn first_document(bytes: &[u8]) -> &[u8] {
    let mut at = 0;
    let mut has_content = false;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let rest = line.strip_prefix(b"---").or_else(|| line.strip_prefix(b"..."));
        let is_mark = rest.is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace));
        match line.trim_ascii().first() {
            _ if is_mark && has_content => return &bytes[..at],
            // What stands on the line of the mark is content already.
            _ if is_mark => has_content = rest.is_some_and(|rest| !rest.trim_ascii().is_empty()),
            None | Some(b'#' | b'%') => {}
            Some(_) => has_content = true,
        }
        at += line.len();
    }
    bytes
}

/// The problems as one error, which is how strict validation tells them.
pub(crate) fn strict(problems: &[String]) -> Option<String> {
    (!problems.is_empty()).then(|| format!("{DUPLICATES}{}", problems.join("\n  ")))
}

/// A parser's complaint in one line, the place before the reason: `yaml: line 3: mapping values are not allowed`. The first line
/// goes without saying.
fn error(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let placed = line.strip_prefix("line ").and_then(|rest| {
        let (place, why) = rest.split_once(": ")?;
        Some((place.split(' ').next()?, why))
    });
    match placed {
        Some(("1", why)) => format!("yaml: {why}"),
        Some((place, why)) => format!("yaml: line {place}: {why}"),
        None => format!("yaml: {line}"),
    }
}

/// A node of the document.
struct Node(Parsed);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Node, D::Error> {
        d.deserialize_any(NodeVisitor).map(Node)
    }
}

struct NodeVisitor;

fn scalar(value: Value) -> Parsed {
    Parsed { value, problems: Vec::new() }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_string<E: Error>(self, v: String) -> Result<Parsed, E> {
        Ok(scalar(v.into()))
    }

    fn visit_none<E: Error>(self) -> Result<Parsed, E> {
        Ok(Parsed::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Parsed, E> {
        Ok(Parsed::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Parsed, D::Error> {
        d.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Parsed, A::Error> {
        let (mut list, mut problems) = (Vec::new(), Vec::new());
        while let Some(Node(item)) = seq.next_element()? {
            list.push(item.value);
            collect(&mut problems, item.problems);
        }
        Ok(Parsed { value: Value::Array(list), problems })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Parsed, A::Error> {
        let (mut map, mut problems) = (Map::new(), Vec::new());
        while let Some(key) = entries.next_key::<String>()? {
            let entry: Spanned<Node> = entries.next_value()?;
            collect(&mut problems, entry.value.0.problems);
            if map.contains_key(&key) {
                let (line, key) = (entry.referenced.line(), decode::shown(&key));
                collect(&mut problems, vec![format!("line {line}: key {key} already set in map")]);
            }
            map.insert(key, entry.value.0.value);
        }
        Ok(Parsed { value: Value::Object(map), problems })
    }
}

fn collect(problems: &mut Vec<String>, more: Vec<String>) {
    let room = decode::PROBLEMS_MAX.saturating_sub(problems.len());
    problems.extend(more.into_iter().take(room));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_several_documents_the_first_counts() {
        for text in ["a: 1\n---\na: 2\n", "# x\n---\na: 1\n--- {a: 2}\n", "--- {a: 1}\n...\nb", "a: 1\n---"] {
            let parsed = parse(text.as_bytes()).map(|parsed| parsed.value);
            assert_eq!(parsed, Ok(serde_json::json!({"a": 1})), "{text}");
        }
        let long = "a: |\n  ---\n  x\nb: ---x\n";
        assert_eq!(first_document(long.as_bytes()), long.as_bytes());
    }

    #[test]
    fn the_last_of_two_keys_counts_and_each_repetition_has_its_place() {
        let text = "---\na: 1\nb:\n- c: x\n  c: [1, \"2\"]\nd: &d\n  e: null\nb:\n  f: 1.5\n  f: true\ng: *d\n1: one\n";
        let parsed = parse(text.as_bytes()).unwrap();
        let want = json!({"a": 1, "b": {"f": true}, "d": {"e": null}, "g": {"e": null}, "1": "one"});
        assert_eq!(parsed.value, want);
        let places = [(5, "c"), (10, "f"), (9, "b")];
        let told = places.map(|(line, key)| format!("line {line}: key {key:?} already set in map"));
        assert_eq!(parsed.problems, told);
        assert_eq!(strict(&parsed.problems[..2]).unwrap(), format!("{DUPLICATES}{}\n  {}", told[0], told[1]));
        assert_eq!(strict(&[]), None);
    }

    #[test]
    fn json_is_yaml_too() {
        let text = r#"{"a": [{"b": "no"}, -3, 18446744073709551615, false, null], "a": {}}"#;
        let parsed = parse(text.as_bytes()).unwrap();
        assert_eq!(parsed.value, json!({"a": {}}));
        assert_eq!(parsed.problems, ["line 1: key \"a\" already set in map"]);
        assert_eq!(parse(b"").unwrap().value, Value::Null);
        assert!(parse(b"a: b: c").is_err());
    }
}
