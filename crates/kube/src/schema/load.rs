//! Reads the schema table. Rows borrow the text; element shapes are shared; unknown names become "any", which a test forbids.

use super::{FieldRow, Flags, ListType, Omit, PatchStrategy, Schema, Shape, Span, TypeRow};
use std::borrow::Cow;
use std::collections::HashMap;

struct Loader {
    text: &'static str,
    types: Vec<TypeRow>,
    fields: Vec<FieldRow>,
    elements: Vec<Shape>,
    by_name: HashMap<Box<str>, u32>,
}

/// Parses the built-in table. Its text is a fact compiled in, so a malformed row is a bug that the tests find.
pub(super) fn parse(text: &'static str) -> Schema {
    let mut loader = Loader {
        text,
        types: Vec::with_capacity(600),
        fields: Vec::with_capacity(2300),
        elements: Vec::new(),
        by_name: HashMap::with_capacity(600),
    };
    loader.name_types();
    loader.read_fields();
    // Field names are sorted in the file but for a few with capitals; lookups need the byte order.
    for row in &loader.types {
        let first = row.first_field as usize;
        let fields = &mut loader.fields[first..first + row.field_count as usize];
        fields.sort_by_key(|f| &text[f.name.at as usize..f.name.at as usize + usize::from(f.name.len)]);
    }
    loader.types.shrink_to_fit();
    loader.fields.shrink_to_fit();
    Schema {
        text: Cow::Borrowed(text),
        types: loader.types,
        fields: loader.fields,
        elements: loader.elements,
        by_name: loader.by_name,
    }
}

/// A struct is never empty to Go's encoder.
fn is_never_empty(shape: Shape) -> bool {
    matches!(
        shape,
        Shape::Struct(_)
            | Shape::Time
            | Shape::MicroTime
            | Shape::Quantity
            | Shape::IntOrString
            | Shape::Open
    )
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'))
}

impl Loader {
    /// `part` must be a slice of the text.
    fn span(&self, part: &str) -> Span {
        let at = (part.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        Span { at: at as u32, len: part.len() as u16 }
    }

    fn name_types(&mut self) {
        for line in lines(self.text).filter(|l| !l.starts_with('\t')) {
            let mut columns = line.split('\t');
            let name = columns.next().unwrap_or_default();
            let shape = columns.next().unwrap_or_default();
            let flags = columns.next().unwrap_or_default();
            let id = self.types.len() as u32;
            let shape = match (name, shape) {
                ("apiextensions.v1.CustomResourceSubresourceStatus", _) | (_, "") => Shape::Struct(id),
                ("apis.meta.v1.MicroTime", _) => Shape::MicroTime,
                (_, "string:date-time") => Shape::Time,
                (_, "number|string") => Shape::Quantity,
                (_, "integer|string:int-or-string") => Shape::IntOrString,
                (_, "object") => Shape::Open,
                _ => Shape::Any,
            };
            let mut row = TypeRow {
                name: self.span(name),
                unions: Span::default(),
                first_field: 0,
                field_count: 0,
                shape,
                atomic: false,
                open: false,
                writes_unset: false,
            };
            for flag in flags.split(' ') {
                match flag.split_once('=') {
                    Some(("map-type", value)) => row.atomic = value == "atomic",
                    Some(("unions", value)) => row.unions = self.span(value),
                    _ => {}
                }
            }
            self.types.push(row);
            self.by_name.insert(name.into(), id);
        }
    }

    fn read_fields(&mut self) {
        let mut seen = 0;
        for line in lines(self.text) {
            match line.strip_prefix('\t') {
                None => {
                    self.types[seen].first_field = self.fields.len() as u32;
                    seen += 1;
                }
                Some(row) => {
                    let field = self.field(row);
                    self.fields.push(field);
                    let ty = &mut self.types[seen - 1];
                    ty.field_count += 1;
                    ty.writes_unset |= field.flags.written_unset;
                }
            }
        }
    }

    fn field(&mut self, row: &'static str) -> FieldRow {
        let columns: Vec<&'static str> = row.split('\t').collect();
        let column = |i: usize| columns.get(i).copied().unwrap_or_default();
        let shape = self.shape(column(1));
        let mut flags = Flags {
            required: column(2) == "required",
            list_type: match column(4) {
                "map" => ListType::Map,
                "set" => ListType::Set,
                _ => ListType::Atomic,
            },
            omit: match column(10) {
                "empty" => Omit::Empty,
                "zero" => Omit::Zero,
                _ => Omit::Never,
            },
            ..Flags::default()
        };
        let strategies = column(6);
        flags.patch = PatchStrategy {
            merge: strategies.split(',').any(|s| s == "merge"),
            retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
            replace: strategies.split(',').any(|s| s == "replace"),
        };
        let go_type = column(9);
        flags.pointer = go_type.starts_with('*');
        flags.written_unset = match flags.omit {
            _ if go_type.is_empty() => false,
            Omit::Never => true,
            Omit::Zero => false,
            Omit::Empty => !flags.pointer && is_never_empty(shape),
        };
        let mut enums = Span::default();
        for other in column(8).split(' ') {
            match other {
                "map-type=atomic" => flags.atomic = true,
                "map-type=granular" => flags.granular = true,
                text if text.starts_with("enum=") => enums = self.span(text),
                _ => {}
            }
        }
        FieldRow {
            name: self.span(column(0)),
            default: self.span(column(3)),
            keys: self.span(column(5)),
            merge_key: self.span(column(7)),
            enums,
            go_type: self.span(go_type),
            shape,
            flags,
        }
    }

    fn shape(&mut self, text: &str) -> Shape {
        if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let element = self.shape(inner);
            return Shape::List(self.element(element));
        }
        if let Some(inner) = text.strip_prefix("map<").and_then(|t| t.strip_suffix('>')) {
            let element = self.shape(inner);
            return Shape::Map(self.element(element));
        }
        match text {
            "string" => Shape::Text,
            "string:byte" => Shape::Bytes,
            "string:date-time" => Shape::Time,
            "boolean" => Shape::Bool,
            "integer:int32" => Shape::Int32,
            "integer:int64" => Shape::Int64,
            "number:double" => Shape::Double,
            "object" => Shape::Open,
            name => self.by_name.get(name).map_or(Shape::Any, |id| self.types[*id as usize].shape),
        }
    }

    fn element(&mut self, shape: Shape) -> u32 {
        match self.elements.iter().position(|e| *e == shape) {
            Some(at) => at as u32,
            None => {
                self.elements.push(shape);
                (self.elements.len() - 1) as u32
            }
        }
    }
}
