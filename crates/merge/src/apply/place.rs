//! What the schema says of a place in an object, as far as ownership is concerned: whether it is one value or has parts, and
//! how the parts of a list are told apart.

use serde_json::Value;
use stoa_kube::schema::{Element, Field, Kind, ListType, Type};

/// A place in an object.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// One value: a scalar, or something that the schema calls atomic.
    Leaf,
    /// An object with known fields.
    Struct(Type<'a>),
    /// An object with any keys.
    Map(Element<'a>),
    /// A list of scalars, each of them an element by its value.
    Set,
    /// A list of objects, each of them an element by its key fields.
    Keyed(Field<'a>, Type<'a>),
}

impl<'a> Place<'a> {
    fn of_kind(kind: Kind<'a>) -> Place<'a> {
        match kind {
            Kind::Struct(ty) if !ty.is_atomic() => Place::Struct(ty),
            Kind::Map(element) => Place::Map(element),
            _ => Place::Leaf,
        }
    }

    fn of_field(field: Field<'a>) -> Place<'a> {
        match field.kind() {
            Kind::Struct(ty) if field.is_granular() => Place::Struct(ty),
            _ if field.is_atomic() => Place::Leaf,
            Kind::List(element) => match (field.list_type(), element.kind()) {
                (ListType::Set, _) => Place::Set,
                (ListType::Map, Kind::Struct(ty)) => Place::Keyed(field, ty),
                _ => Place::Leaf,
            },
            kind => Place::of_kind(kind),
        }
    }

    /// The place of a key of this object; `None` where the schema knows no such field.
    pub(super) fn key(self, name: &str) -> Option<Place<'a>> {
        match self {
            Place::Struct(ty) => match ty.field(name) {
                Some(field) => Some(Place::of_field(field)),
                None if ty.keeps_unknown() => Some(Place::Leaf),
                None => None,
            },
            Place::Map(element) => Some(Place::of_kind(element.kind())),
            _ => None,
        }
    }

    /// Of which kind the schema says the value of a key is, where it is one value.
    pub(super) fn scalar(self, name: &str) -> Option<Kind<'a>> {
        match self {
            Place::Struct(ty) => ty.field(name).map(Field::kind),
            Place::Map(element) => Some(element.kind()),
            _ => None,
        }
    }

    /// The place of an element of this list.
    pub(super) fn element(self) -> Place<'a> {
        match self {
            Place::Keyed(_, ty) => Place::of_kind(Kind::Struct(ty)),
            _ => Place::Leaf,
        }
    }

    /// The place that a path element leads to.
    pub(super) fn step(self, path_element: &str) -> Place<'a> {
        match path_element.strip_prefix("f:") {
            Some(name) => self.key(name).unwrap_or(Place::Leaf),
            None => self.element(),
        }
    }

    /// The path element by which an element of this list is told from the others.
    pub(super) fn element_name(self, element: &Value) -> Result<String, String> {
        let Place::Keyed(field, ty) = self else { return Ok(format!("v:{element}")) };
        match element {
            Value::Object(_) => {}
            Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
            _ => return Err("associative list with keys may not have non-map elements".to_owned()),
        }
        let mut keys = serde_json::Map::new();
        for key in field.map_keys() {
            let default =
                || ty.field(key).and_then(Field::default).and_then(|d| serde_json::from_str(d).ok());
            // One that is absent and has no default leaves it to the others to tell the elements apart.
            if let Some(value) = element.get(key).filter(|v| !v.is_null()).cloned().or_else(default) {
                keys.insert(key.to_owned(), value);
            }
        }
        if keys.is_empty() {
            let names: Vec<String> = field.map_keys().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                names.join(" ")
            ));
        }
        Ok(format!("k:{}", Value::Object(keys)))
    }
}
