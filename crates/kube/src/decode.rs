//! From a body to an object of a kind, as Go would read it and write it back: duplicate and unknown fields are found (and
//! unknown ones dropped), wrong types refused in Go's words, quantities and times put in canonical form, empty fields left out or
//! filled with zeros just as the kind's Go struct does. What clients then read is what a stock server would have sent.

mod complete;
mod embedded;
mod json;
mod restore;
mod scalar;
#[cfg(test)]
mod tests;
mod time;
mod union;

use crate::go;
use crate::schema::{Field, Kind, Type};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt::Write;

pub use json::{DEPTH_MAX, Parsed, parse};
pub use restore::restore_error;
pub use time::check_time;

/// How many unknown or duplicate fields are reported of one body; the stock server stops there too.
pub const PROBLEMS_MAX: usize = 100;

/// How much of a field's path a report shows: a body's keys may be as long as the body, and each could be reported.
const PATH_SHOWN_MAX: usize = 1_024;

/// A path or key for a report, quoted, shortened if need be.
pub fn shown(path: &str) -> String {
    let mut end = path.len().min(PATH_SHOWN_MAX);
    while !path.is_char_boundary(end) {
        end -= 1;
    }
    go::quote(&path[..end])
}

/// Why a body is no object of the kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is no JSON.
    #[error("{0}")]
    Syntax(String),
    /// A value has the wrong type or form. The text is Go's.
    #[error("{0}")]
    Type(String),
}

/// An object that was read, and what was odd about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The object, pruned and completed.
    pub value: Value,
    /// Unknown and duplicate fields in the stock server's words: `unknown field "spec.foo"`. A warning each, or, in strict
    /// validation, the error of [`strict_error`].
    pub problems: Vec<String>,
}

/// Reads a body as an object of the type.
pub fn decode(bytes: &[u8], ty: Type<'_>) -> Result<Decoded, DecodeError> {
    let Parsed { value, duplicates } = parse(bytes)?;
    let mut decoded = decode_value(value, ty)?;
    decoded.problems = merge_problems(duplicates, decoded.problems);
    Ok(decoded)
}

/// Puts duplicate and unknown fields into the order in which Go's decoder meets them in a body whose keys are sorted. What lies in
/// an unknown field it does not look at, and that such a field comes twice it does not say.
pub fn merge_problems(duplicates: Vec<String>, unknown: Vec<String>) -> Vec<String> {
    let path_of =
        |problem: &str| problem.split_once('"').map_or("", |(_, path)| path).trim_end_matches('"').to_owned();
    let skipped: HashSet<String> = unknown.iter().map(|problem| path_of(problem)).collect();
    let is_skipped = |path: &str| {
        let ends = path.char_indices().filter(|(_, c)| matches!(c, '.' | '[')).map(|(at, _)| at);
        ends.chain([path.len()]).any(|end| skipped.contains(&path[..end]))
    };
    // What a YAML parser says comes first.
    let (duplicates, mut said): (Vec<_>, Vec<_>) =
        duplicates.into_iter().partition(|problem| problem.starts_with("duplicate field "));
    let mut all: Vec<(Vec<Step>, String)> = duplicates
        .into_iter()
        .filter(|problem| !is_skipped(&path_of(problem)))
        .chain(unknown)
        .map(|problem| (steps(&path_of(&problem)), problem))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    said.extend(all.into_iter().map(|(_, problem)| problem));
    said.truncate(PROBLEMS_MAX);
    said
}

/// A step of a path: elements come by their places, fields by their names.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Element(usize),
    Field(String),
}

fn steps(path: &str) -> Vec<Step> {
    let parts = path.split(['.', '[']).filter(|part| !part.is_empty());
    let step = |part: &str| match part.strip_suffix(']').and_then(|index| index.parse().ok()) {
        Some(index) => Step::Element(index),
        None => Step::Field(part.to_owned()),
    };
    parts.map(step).collect()
}

/// Groups whose objects a stock server stores as JSON, or not at all; all others' go through its binary form.
const IN_JSON: [&str; 4] = ["apiextensions", "apiregistration", "authentication", "authorization"];

/// Checks, prunes and completes a value, such as the result of a patch.
pub fn decode_value(mut value: Value, ty: Type<'_>) -> Result<Decoded, DecodeError> {
    let group = ty.name().split('.').next().unwrap_or_default();
    // Lists are made for each answer.
    let is_stored = !IN_JSON.contains(&group) && !ty.short_name().ends_with("List");
    let mut pass = Pass { forgets_empty: is_stored, ..Pass::default() };
    match &mut value {
        Value::Object(map) => pass.structure(map, ty)?,
        other => {
            let text = format!(
                "json: cannot unmarshal {} into Go value of type {}",
                go::json_type(other),
                go_name(ty)
            );
            return Err(DecodeError::Type(text));
        }
    }
    Ok(Decoded { value, problems: pass.problems })
}

/// Completes an object that our own code made: drops nulls and unknown fields, writes the zeros that Go would write.
pub fn complete(value: &mut Value, ty: Type<'_>) -> Result<(), DecodeError> {
    *value = decode_value(std::mem::take(value), ty)?.value;
    Ok(())
}

/// What strict validation answers with, to be wrapped by [`Status::undecodable`](crate::Status::undecodable).
pub fn strict_error(problems: &[String]) -> String {
    format!("strict decoding error: {}", problems.join(", "))
}

fn go_name(ty: Type<'_>) -> String {
    let mut parts = ty.name().rsplit('.');
    let (name, version) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{version}.{name}")
}

/// Where Go's decoder believes itself to be: the innermost struct, and the names of the fields down to here.
#[derive(Default)]
struct GoContext<'a> {
    structure: &'a str,
    fields: Vec<&'a str>,
}

#[derive(Default)]
struct Pass<'a> {
    problems: Vec<String>,
    path: String,
    go: GoContext<'a>,
    /// Whether the kind's storage cannot tell an empty list from none.
    forgets_empty: bool,
}

impl<'a> Pass<'a> {
    fn wrong_type(&self, found: &str, go_type: &str) -> DecodeError {
        let wanted = go_type.trim_start_matches('*');
        DecodeError::Type(format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {wanted}",
            self.go.structure,
            self.go.fields.join(".")
        ))
    }

    fn structure(&mut self, map: &mut Map<String, Value>, ty: Type<'a>) -> Result<(), DecodeError> {
        let outer = std::mem::replace(&mut self.go.structure, ty.short_name());
        let mut dropped: Vec<String> = Vec::new();
        for (key, value) in map.iter_mut() {
            match ty.field(key) {
                Some(field) => {
                    if self.field(value, field)? == Keep::No {
                        dropped.push(key.clone());
                    }
                }
                None if ty.keeps_unknown() => {}
                None => {
                    if self.problems.len() < PROBLEMS_MAX {
                        let path = crate::schema::field_path(&self.path, key);
                        self.problems.push(format!("unknown field {}", shown(&path)));
                    }
                    dropped.push(key.clone());
                }
            }
        }
        for key in dropped {
            map.remove(&key);
        }
        complete::fill(map, ty);
        self.go.structure = outer;
        Ok(())
    }

    fn field(&mut self, value: &mut Value, field: Field<'a>) -> Result<Keep, DecodeError> {
        if value.is_null() {
            return Ok(Keep::No);
        }
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(field.name());
        let fields = self.go.fields.len();
        self.go.fields.extend(embedded::between(self.go.structure, field.name()));
        self.go.fields.push(field.name());
        self.value(value, field.kind(), field.go_type())?;
        self.go.fields.truncate(fields);
        self.path.truncate(length);
        if self.forgets_empty && complete::is_forgotten(value, field) {
            *value = Value::Null;
            return Ok(Keep::Yes);
        }
        Ok(if value.is_null() || complete::is_left_out(value, field) { Keep::No } else { Keep::Yes })
    }

    fn value(&mut self, value: &mut Value, kind: Kind<'a>, go_type: &str) -> Result<(), DecodeError> {
        match (kind, &mut *value) {
            (Kind::Any | Kind::Open, _) => union::read(value, go_type),
            (Kind::Struct(ty), Value::Object(map)) => self.structure(map, ty),
            (Kind::List(element), Value::Array(list)) => {
                let inner = go_type.trim_start_matches('*').strip_prefix("[]").unwrap_or_default();
                let length = self.path.len();
                for (index, item) in list.iter_mut().enumerate() {
                    // Writing into a String cannot fail.
                    let _ = write!(self.path, "[{index}]");
                    self.element(item, element.kind(), inner)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (Kind::Map(element), Value::Object(map)) => {
                let inner = go_type.split_once(']').map_or("", |(_, inner)| inner);
                let length = self.path.len();
                for (key, item) in map.iter_mut() {
                    self.path.push('.');
                    self.path.push_str(key);
                    self.element(item, element.kind(), inner)?;
                    self.path.truncate(length);
                }
                Ok(())
            }
            (kind, _) => scalar::check(value, kind).map_err(|wrong| match wrong {
                scalar::Wrong::Type(found) => self.wrong_type(&found, scalar::go_type(kind, go_type)),
                scalar::Wrong::TypeFor(found, wanted) => self.wrong_type(&found, wanted),
                scalar::Wrong::Form(text) => DecodeError::Type(text),
            }),
        }
    }

    /// A null among the elements becomes the zero value, as in Go.
    fn element(&mut self, item: &mut Value, kind: Kind<'a>, go_type: &str) -> Result<(), DecodeError> {
        if item.is_null() && !go_type.starts_with('*') {
            // Bytes that were never set read back as none once they have been stored.
            *item = if matches!(kind, Kind::Bytes) { Value::from("") } else { complete::zero(kind) };
        }
        if item.is_null() { Ok(()) } else { self.value(item, kind, go_type) }
    }
}

#[derive(PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}
