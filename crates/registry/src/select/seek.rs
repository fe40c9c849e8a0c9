//! Reads one value out of JSON bytes without building the rest of the document.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// The scalar at `path`, as text.
pub(super) fn text_at(bytes: &[u8], path: &[&str]) -> Option<String> {
    let mut found = Found::Text(None);
    run(bytes, path, &mut found);
    match found {
        Found::Text(text) => text,
        Found::Labels(_) => None,
    }
}

/// `metadata.labels`.
pub(super) fn labels_of(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = Found::Labels(BTreeMap::new());
    run(bytes, &["metadata", "labels"], &mut found);
    match found {
        Found::Labels(labels) => labels,
        Found::Text(_) => BTreeMap::new(),
    }
}

enum Found {
    Text(Option<String>),
    Labels(BTreeMap<String, String>),
}

fn run(bytes: &[u8], path: &[&str], found: &mut Found) {
    let mut de = serde_json::Deserializer::from_slice(bytes);
    // An error is how the search says that it is over: the rest of the object is never looked at.
    let _ = Seek { path, found }.deserialize(&mut de);
}

struct Seek<'p, 'f> {
    path: &'p [&'p str],
    found: &'f mut Found,
}

impl<'de> DeserializeSeed<'de> for Seek<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl Seek<'_, '_> {
    fn scalar(self, text: impl FnOnce() -> String) {
        if let (true, Found::Text(slot)) = (self.path.is_empty(), self.found) {
            *slot = Some(text());
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        self.scalar(|| v.to_string());
        Ok(())
    }
    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        self.scalar(|| v.to_string());
        Ok(())
    }
    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        self.scalar(|| v.to_string());
        Ok(())
    }
    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.scalar(|| v.to_string());
        Ok(())
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        self.scalar(|| v.to_string());
        Ok(())
    }
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.path.split_first() else {
            if let Found::Labels(labels) = self.found {
                while let Some((k, v)) = map.next_entry::<String, Option<String>>()? {
                    labels.insert(k, v.unwrap_or_default());
                }
            } else {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            }
            return Ok(());
        };
        while let Some(wanted) = map.next_key_seed(Key(first))? {
            if !wanted {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(Seek { path: rest, found: self.found })?;
            return Err(A::Error::custom("found"));
        }
        Err(A::Error::custom("absent"))
    }
}

/// Whether a map's key is the one sought, judged without keeping it.
struct Key<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<bool, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }
    fn visit_str<E: Error>(self, v: &str) -> Result<bool, E> {
        Ok(v == self.0)
    }
}
