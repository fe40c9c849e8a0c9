//! The schema table: every field of every kind, in one dense arena. Defaulting, checks, patches, server-side apply and
//! OpenAPI walk it instead of having code for each kind. The built-in table is parsed once from `data/schema.tsv`, whose text it
//! borrows; a custom resource's schema owns its text and is otherwise the same structure.

mod load;
mod path;
#[cfg(test)]
mod tests;

use crate::resource::{Resource, Subresource};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::OnceLock;

pub use path::field_path;

const SCHEMA_TSV: &str = include_str!("../data/schema.tsv");

/// Longest name of a type that is looked up; none in the table is longer, which a test sees to.
const TYPE_NAME_LEN_MAX: usize = 128;

/// The built-in types.
pub fn builtin() -> &'static Schema {
    static TABLE: OnceLock<Schema> = OnceLock::new();
    TABLE.get_or_init(|| load::parse(SCHEMA_TSV))
}

/// A piece of the schema's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Span {
    at: u32,
    len: u16,
}

/// The shape of a value, with indices into the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Any,
    Open,
    Bool,
    Int32,
    Int64,
    Double,
    Text,
    Bytes,
    Time,
    MicroTime,
    Quantity,
    IntOrString,
    Struct(u32),
    List(u32),
    Map(u32),
}

/// How a list merges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// As a whole. The default.
    #[default]
    Atomic,
    /// As a set of scalars.
    Set,
    /// As a map by key fields.
    Map,
}

/// When Go leaves a field out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Omit {
    /// Never.
    #[default]
    Never,
    /// When it is `false`, 0, null, or an empty text, list or map; never a struct.
    Empty,
    /// Also when it is a struct of nothing but zeros.
    Zero,
}

/// What strategic merge does with a field, where it is not the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchStrategy {
    /// Lists merge by [`Field::merge_key`] (or as a set, without one).
    pub merge: bool,
    /// Keys that the patch does not name may be dropped by `$retainKeys`.
    pub retain_keys: bool,
    /// The value is replaced as a whole.
    pub replace: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flags {
    required: bool,
    list_type: ListType,
    patch: PatchStrategy,
    omit: Omit,
    atomic: bool,
    granular: bool,
    pointer: bool,
    written_unset: bool,
}

#[derive(Clone, Copy, Debug)]
struct FieldRow {
    name: Span,
    default: Span,
    keys: Span,
    merge_key: Span,
    enums: Span,
    go_type: Span,
    shape: Shape,
    flags: Flags,
}

#[derive(Clone, Copy, Debug)]
struct TypeRow {
    name: Span,
    unions: Span,
    first_field: u32,
    field_count: u32,
    /// What the type is when it is no struct: a time, a quantity, an open object.
    shape: Shape,
    atomic: bool,
    /// Unknown fields are kept (custom resources may ask for that).
    open: bool,
    /// Whether Go writes one of its fields although nobody set it.
    writes_unset: bool,
}

/// A table of types.
#[derive(Debug)]
pub struct Schema {
    text: Cow<'static, str>,
    types: Vec<TypeRow>,
    fields: Vec<FieldRow>,
    /// Element shapes of lists and maps, each once.
    elements: Vec<Shape>,
    by_name: HashMap<Box<str>, u32>,
}

/// A type of a [`Schema`]: a cheap handle.
#[derive(Clone, Copy)]
pub struct Type<'a> {
    schema: &'a Schema,
    id: u32,
}

/// A field of a [`Type`]: a cheap handle.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    schema: &'a Schema,
    row: &'a FieldRow,
}

/// What may stand in a place.
#[derive(Clone, Copy, Debug)]
pub enum Kind<'a> {
    /// Any JSON.
    Any,
    /// An object with any contents.
    Open,
    /// `true` or `false`.
    Bool,
    /// A whole number of 32 bits.
    Int32,
    /// A whole number of 64 bits.
    Int64,
    /// A number.
    Double,
    /// A text.
    Text,
    /// Bytes in base64.
    Bytes,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 with microseconds.
    MicroTime,
    /// A quantity: `100m`.
    Quantity,
    /// A whole number or a text such as `25%`.
    IntOrString,
    /// An object with known fields.
    Struct(Type<'a>),
    /// A list.
    List(Element<'a>),
    /// An object with any keys.
    Map(Element<'a>),
}

/// The element type of a list or map: a cheap handle.
#[derive(Clone, Copy)]
pub struct Element<'a> {
    schema: &'a Schema,
    shape: Shape,
}

impl Schema {
    fn span(&self, span: Span) -> &str {
        let start = span.at as usize;
        self.text.get(start..start + usize::from(span.len)).unwrap_or_default()
    }

    fn kind(&self, shape: Shape) -> Kind<'_> {
        let element = |id: u32| Element {
            schema: self,
            shape: self.elements.get(id as usize).copied().unwrap_or(Shape::Any),
        };
        match shape {
            Shape::Any => Kind::Any,
            Shape::Open => Kind::Open,
            Shape::Bool => Kind::Bool,
            Shape::Int32 => Kind::Int32,
            Shape::Int64 => Kind::Int64,
            Shape::Double => Kind::Double,
            Shape::Text => Kind::Text,
            Shape::Bytes => Kind::Bytes,
            Shape::Time => Kind::Time,
            Shape::MicroTime => Kind::MicroTime,
            Shape::Quantity => Kind::Quantity,
            Shape::IntOrString => Kind::IntOrString,
            Shape::Struct(id) => Kind::Struct(Type { schema: self, id }),
            Shape::List(id) => Kind::List(element(id)),
            Shape::Map(id) => Kind::Map(element(id)),
        }
    }

    /// The type of that name: `core.v1.PodSpec`.
    pub fn named(&self, name: &str) -> Option<Type<'_>> {
        self.by_name.get(name).map(|id| Type { schema: self, id: *id })
    }

    /// The type of a kind.
    pub fn type_of_kind(&self, group: &str, version: &str, kind: &str) -> Option<Type<'_>> {
        // Every request asks this several times over: the name is put together without an allocation.
        let mut name = [0; TYPE_NAME_LEN_MAX];
        let mut len = 0;
        for part in [package(group), ".", version, ".", kind] {
            name.get_mut(len..len + part.len())?.copy_from_slice(part.as_bytes());
            len += part.len();
        }
        self.named(std::str::from_utf8(&name[..len]).ok()?)
    }

    /// The type of a resource's objects. Every built-in resource has one; an unknown one has the type of bare metadata.
    pub fn type_of(&self, resource: &Resource) -> Type<'_> {
        self.type_of_kind(resource.group, resource.version, resource.kind)
            .unwrap_or(Type { schema: self, id: 0 })
    }

    /// The type of a subresource's bodies, if they are objects with a schema.
    pub fn type_of_subresource(&self, subresource: &Subresource) -> Option<Type<'_>> {
        self.type_of_kind(subresource.group, subresource.version, subresource.kind)
    }

    /// All types, in the table's order.
    pub fn types(&self) -> impl Iterator<Item = Type<'_>> {
        (0..self.types.len()).map(|id| Type { schema: self, id: id as u32 })
    }
}

/// The table's name of a kind's type: the group's first label, the version and the kind.
pub fn type_name(group: &str, version: &str, kind: &str) -> String {
    format!("{}.{version}.{kind}", package(group))
}

/// How the table calls a group.
fn package(group: &str) -> &str {
    if group.is_empty() { "core" } else { group.split('.').next().unwrap_or(group) }
}

impl<'a> Type<'a> {
    fn row(self) -> &'a TypeRow {
        &self.schema.types[self.id as usize]
    }

    fn rows(self) -> &'a [FieldRow] {
        let row = self.row();
        let first = row.first_field as usize;
        self.schema.fields.get(first..first + row.field_count as usize).unwrap_or_default()
    }

    /// The table's name of it: `core.v1.PodSpec`.
    pub fn name(self) -> &'a str {
        self.schema.span(self.row().name)
    }

    /// The last part of its name, which is the Go struct's name: `PodSpec`.
    pub fn short_name(self) -> &'a str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// Its fields, sorted by name.
    pub fn fields(self) -> impl Iterator<Item = Field<'a>> {
        self.rows().iter().map(move |row| Field { schema: self.schema, row })
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<Field<'a>> {
        let rows = self.rows();
        let found = rows.binary_search_by(|row| self.schema.span(row.name).cmp(name)).ok()?;
        rows.get(found).map(|row| Field { schema: self.schema, row })
    }

    /// What it is: a struct, or one of the scalars that have a type name of their own.
    pub fn kind(self) -> Kind<'a> {
        match self.row().shape {
            Shape::Struct(_) => Kind::Struct(self),
            shape => self.schema.kind(shape),
        }
    }

    /// Whether server-side apply treats it as one value.
    pub fn is_atomic(self) -> bool {
        self.row().atomic
    }

    /// Whether fields that it does not name are kept.
    pub fn keeps_unknown(self) -> bool {
        self.row().open
    }

    /// Whether Go writes any of its fields although nobody set it.
    pub fn writes_unset(self) -> bool {
        self.row().writes_unset
    }

    /// Its unions in JSON, as OpenAPI shows them; mostly empty.
    pub fn unions(self) -> &'a str {
        self.schema.span(self.row().unions)
    }
}

impl PartialEq for Type<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.schema, other.schema) && self.id == other.id
    }
}

impl std::fmt::Debug for Type<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<'a> Field<'a> {
    /// Its key in JSON.
    pub fn name(self) -> &'a str {
        self.schema.span(self.row.name)
    }

    /// What may stand in it.
    pub fn kind(self) -> Kind<'a> {
        self.schema.kind(self.row.shape)
    }

    /// Whether OpenAPI calls it required.
    pub fn is_required(self) -> bool {
        self.row.flags.required
    }

    /// Its default in JSON as OpenAPI shows it (`""`, `0`, `{}` are Go's zero values rather than real defaults).
    pub fn default(self) -> Option<&'a str> {
        Some(self.schema.span(self.row.default)).filter(|d| !d.is_empty())
    }

    /// How it merges if it is a list.
    pub fn list_type(self) -> ListType {
        self.row.flags.list_type
    }

    /// The key fields of its elements if [`Field::list_type`] is a map.
    pub fn map_keys(self) -> impl Iterator<Item = &'a str> {
        self.schema.span(self.row.keys).split(',').filter(|k| !k.is_empty())
    }

    /// What strategic merge does with it.
    pub fn patch_strategy(self) -> PatchStrategy {
        self.row.flags.patch
    }

    /// The key field by which strategic merge matches its elements.
    pub fn merge_key(self) -> Option<&'a str> {
        Some(self.schema.span(self.row.merge_key)).filter(|k| !k.is_empty())
    }

    /// The values that OpenAPI lists for it; empty if any may stand there.
    pub fn enum_values(self) -> impl Iterator<Item = &'a str> {
        let text = self.schema.span(self.row.enums);
        // A leading comma is the empty text among the values; no text at all is no list.
        text.strip_prefix("enum=").into_iter().flat_map(|list| list.split(','))
    }

    /// Whether server-side apply treats this object or map as one value.
    pub fn is_atomic(self) -> bool {
        self.row.flags.atomic
    }

    /// Whether server-side apply is told to look inside although the type is atomic.
    pub fn is_granular(self) -> bool {
        self.row.flags.granular
    }

    /// Its Go type as Go prints it: `[]v1.Container`, `*int32`.
    pub fn go_type(self) -> &'a str {
        self.schema.span(self.row.go_type)
    }

    /// Whether Go can tell its absence from its zero value.
    pub fn is_pointer(self) -> bool {
        self.row.flags.pointer
    }

    /// Whether Go writes it although nobody set it. A schema that came from no Go type (a custom resource's) writes nothing by
    /// itself.
    pub fn is_written_unset(self) -> bool {
        self.row.flags.written_unset
    }

    /// When Go leaves it out.
    pub fn omit(self) -> Omit {
        self.row.flags.omit
    }
}

impl std::fmt::Debug for Field<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl<'a> Element<'a> {
    /// What may stand in each place.
    pub fn kind(self) -> Kind<'a> {
        self.schema.kind(self.shape)
    }
}

impl std::fmt::Debug for Element<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.kind())
    }
}
