//! The table of messages: `data/protobuf.tsv`, parsed once into two dense arrays that borrow its text, with what the schema
//! table knows of each field's Go type.

use crate::schema::{self, Field as SchemaField, Omit};
use std::collections::HashMap;
use std::sync::OnceLock;

const PROTOBUF_TSV: &str = include_str!("../../data/protobuf.tsv");

/// A message's place in the table.
pub(super) type Id = u16;

/// The messages of all kinds.
pub(super) fn builtin() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(PROTOBUF_TSV))
}

pub(super) struct Table {
    messages: Vec<Message>,
    fields: Vec<Field>,
    by_name: HashMap<&'static str, Id>,
    /// The message of JSON schemas, which those of schemas-or-something-else hold.
    pub(super) json_schema: Option<Id>,
}

pub(super) struct Message {
    name: &'static str,
    first_field: u16,
    field_count: u16,
    /// In JSON it is the list that is its only field.
    pub(super) is_list: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) label: Label,
    pub(super) element: Element,
    pub(super) zero: Zero,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Label {
    One,
    Repeated,
    /// From texts.
    Map,
    /// Its fields are its parent's in JSON.
    Embedded,
}

/// What Go's JSON makes of a zero value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Zero {
    /// It is there: Go can tell it from absence, or never leaves the field out.
    Kept,
    /// Left out if it is a scalar.
    Dropped,
    /// Left out also if it is a struct.
    DroppedWhole,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Text,
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    /// Go's text for it; nanoseconds in field 1.
    Duration,
    /// JSON text, in field 1.
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrTexts,
    Message(Id),
}

impl Table {
    pub(super) fn named(&self, name: &str) -> Option<Id> {
        self.by_name.get(name).copied()
    }

    pub(super) fn message(&self, id: Id) -> &Message {
        &self.messages[usize::from(id)]
    }

    /// A message's fields, by number.
    pub(super) fn fields(&self, id: Id) -> &[Field] {
        let message = self.message(id);
        let first = usize::from(message.first_field);
        self.fields.get(first..first + usize::from(message.field_count)).unwrap_or_default()
    }

    pub(super) fn field(&self, id: Id, number: u32) -> Option<&Field> {
        let fields = self.fields(id);
        let at = fields.binary_search_by_key(&number, |f| f.number).ok()?;
        fields.get(at)
    }

    /// The message of a list's items.
    pub(super) fn item(&self, list: Id) -> Option<Id> {
        match self.field(list, super::LIST_ITEMS)?.element {
            Element::Message(id) => Some(id),
            _ => None,
        }
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.messages.iter().map(|m| m.name)
    }
}

fn parse(text: &'static str) -> Table {
    let rows = || text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let mut by_name: HashMap<&'static str, Id> = HashMap::new();
    for head in rows().filter(|l| !l.starts_with('\t')) {
        let next = by_name.len() as Id;
        by_name.insert(head.split('\t').next().unwrap_or_default(), next);
    }
    let holders = holders(rows());
    let mut messages: Vec<Message> = Vec::with_capacity(by_name.len());
    let mut fields: Vec<Field> = Vec::new();
    for row in rows() {
        let Some(field) = row.strip_prefix('\t') else {
            let mut parts = row.split('\t');
            let name = parts.next().unwrap_or_default();
            let is_list = parts.next() == Some("list");
            messages.push(Message { name, first_field: fields.len() as u16, field_count: 0, is_list });
            continue;
        };
        let Some(message) = messages.last_mut() else { continue };
        let [number, name, label, ty] = field.split('\t').collect::<Vec<_>>()[..] else { continue };
        let (Ok(number), Some(element)) = (number.parse(), element(ty, &by_name)) else { continue };
        let label = match label {
            "r" => Label::Repeated,
            "m" => Label::Map,
            "i" => Label::Embedded,
            _ => Label::One,
        };
        let known = schema_field(message.name, name, &holders);
        fields.push(Field { number, name, label, element, zero: zero(known) });
        message.field_count += 1;
    }
    let json_schema = by_name.get("apiextensions.v1.JSONSchemaProps").copied();
    Table { messages, fields, by_name, json_schema }
}

/// Which message each embedded one is embedded in. If there are several, Go's types agree between them.
fn holders(rows: impl Iterator<Item = &'static str>) -> HashMap<&'static str, &'static str> {
    let mut out = HashMap::new();
    let mut message = "";
    for row in rows {
        match row.strip_prefix('\t').map(|f| f.split('\t').collect::<Vec<_>>()) {
            None => message = row.split('\t').next().unwrap_or_default(),
            Some(field) => {
                if let [_, _, "i", inner] = field[..] {
                    out.insert(inner, message);
                }
            }
        }
    }
    out
}

/// The field in the schema table, which knows an embedded struct's fields as those of its holder.
fn schema_field(
    message: &str,
    field: &str,
    holders: &HashMap<&'static str, &'static str>,
) -> Option<SchemaField<'static>> {
    let own = schema::builtin().named(message);
    let ty = own.or_else(|| schema::builtin().named(holders.get(message)?))?;
    ty.field(field)
}

fn zero(field: Option<SchemaField<'_>>) -> Zero {
    match field {
        Some(f) if f.is_pointer() || f.omit() == Omit::Never => Zero::Kept,
        Some(f) if f.omit() == Omit::Zero => Zero::DroppedWhole,
        _ => Zero::Dropped,
    }
}

fn element(ty: &str, by_name: &HashMap<&'static str, Id>) -> Option<Element> {
    Some(match ty {
        "string" => Element::Text,
        "bytes" => Element::Bytes,
        "bool" => Element::Bool,
        "int32" => Element::Int32,
        "int64" => Element::Int64,
        "double" => Element::Double,
        "apis.meta.v1.Time" => Element::Time,
        "apis.meta.v1.MicroTime" => Element::MicroTime,
        "api.resource.Quantity" => Element::Quantity,
        "apis.meta.v1.Duration" => Element::Duration,
        "util.intstr.IntOrString" => Element::IntOrString,
        "runtime.RawExtension" | "apis.meta.v1.FieldsV1" | "apiextensions.v1.JSON" => Element::Json,
        "apiextensions.v1.JSONSchemaPropsOrArray" => Element::SchemaOrArray,
        "apiextensions.v1.JSONSchemaPropsOrBool" => Element::SchemaOrBool,
        "apiextensions.v1.JSONSchemaPropsOrStringArray" => Element::SchemaOrTexts,
        name => Element::Message(*by_name.get(name)?),
    })
}
