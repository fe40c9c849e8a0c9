//! Objects in protobuf, which kubectl's typed clients and client-go's controllers send and ask for. Objects are JSON values inside;
//! here they are read from and written as messages by one table of field numbers for all kinds (`data/protobuf.tsv`).
//!
//! What is read has the JSON form that Go would give it: a message says nothing of a field that is no pointer and has its zero
//! value, or says that value aloud; either way the field is left out where Go's JSON leaves it out.

mod read;
mod special;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod wire;
mod write;

use crate::schema::type_name;
use bytes::Bytes;
use serde_json::{Map, Value};
use table::Table;
use wire::{Reader, Scalar};

/// The media type of objects and lists.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of watches.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// How long the length before an event is.
pub const FRAME_HEAD_LEN: usize = 4;

/// What every envelope begins with.
const MAGIC: &[u8] = b"k8s\0";
/// How deep messages may nest: as deep as JSON may.
const DEPTH_MAX: usize = 128;
/// A list's items; its metadata is field 1.
const LIST_ITEMS: u32 = 2;

/// A field's number, by which fields stand in the order in which Go declares them; those of an embedded message come in its place.
pub fn field_number(message: &str, field: &str) -> Option<u32> {
    const EMBEDDED_MAX: u32 = 1 << 16;
    let table = table::builtin();
    table.fields(table.named(message)?).iter().find_map(|f| match (f.label, f.element) {
        (table::Label::Embedded, table::Element::Message(inner)) => {
            let inner = table.fields(inner).iter().find(|i| i.name == field)?;
            Some(f.number * EMBEDDED_MAX + inner.number)
        }
        _ => (f.name == field).then_some(f.number * EMBEDDED_MAX),
    })
}

/// Why something is no protobuf message, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no envelope.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Prefix,
    /// The kind has no message.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// The version that was said.
        api_version: String,
        /// The kind that was said.
        kind: String,
    },
    /// The bytes are not what they say.
    #[error("{0}")]
    Malformed(&'static str),
    /// A value is not of its field's type.
    #[error("{field} is no {expected}")]
    Mistyped {
        /// Where it is.
        field: &'static str,
        /// What belongs there.
        expected: &'static str,
    },
}

type Result<T> = std::result::Result<T, Error>;

fn find(table: &Table, api_version: &str, kind: &str) -> Result<table::Id> {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    // Options, statuses and partial objects are of no group of their own, and come under whichever they are meant for.
    let found = table.named(&type_name(group, version, kind));
    found
        .or_else(|| table.named(&format!("apis.meta.v1.{kind}")))
        .ok_or_else(|| Error::UnknownKind { api_version: api_version.into(), kind: kind.into() })
}

/// Reads an object from its envelope, which says of what kind it is.
pub fn decode(envelope: &[u8]) -> Result<Value> {
    decode_within(envelope, 0)
}

fn decode_within(envelope: &[u8], depth: usize) -> Result<Value> {
    let mut reader = Reader(envelope.strip_prefix(MAGIC).ok_or(Error::Prefix)?);
    let (mut api_version, mut kind, mut raw) = ("", "", &[][..]);
    while let Some((number, scalar)) = reader.field()? {
        match (number, scalar) {
            (1, Scalar::Bytes(meta)) => {
                let mut meta = Reader(meta);
                while let Some((number, scalar)) = meta.field()? {
                    match number {
                        1 => api_version = scalar.text()?,
                        2 => kind = scalar.text()?,
                        _ => {}
                    }
                }
            }
            (2, Scalar::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let table = table::builtin();
    let mut map = Map::new();
    read::fill(&mut map, raw, find(table, api_version, kind)?, table, depth)?;
    map.insert("apiVersion".into(), api_version.into());
    map.insert("kind".into(), kind.into());
    Ok(Value::Object(map))
}

/// Writes an object into an envelope. Fields that its kind does not have are left out.
pub fn encode(object: &Value) -> Result<Bytes> {
    let mut out = Vec::with_capacity(512);
    put_envelope(&mut out, object)?;
    Ok(out.into())
}

fn put_envelope(out: &mut Vec<u8>, object: &Value) -> Result<()> {
    let (api_version, kind) = match (text(object, "apiVersion"), text(object, "kind")) {
        // Some of discovery's documents have no version in JSON; in an envelope they do.
        ("", kind) => ("v1", kind),
        both => both,
    };
    let table = table::builtin();
    let id = find(table, api_version, kind)?;
    put_head(out, api_version, kind);
    write::delimited(out, 2, |out| write::object(out, object, id, table, 0))?;
    put_tail(out);
    Ok(())
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The envelope up to the message.
fn put_head(out: &mut Vec<u8>, api_version: &str, kind: &str) {
    let mut meta = Vec::with_capacity(64);
    wire::put_bytes(&mut meta, 1, api_version.as_bytes());
    wire::put_bytes(&mut meta, 2, kind.as_bytes());
    out.extend_from_slice(MAGIC);
    wire::put_bytes(out, 1, &meta);
}

/// Content encoding and content type, empty, as a stock server writes them.
fn put_tail(out: &mut Vec<u8>) {
    wire::put_bytes(out, 3, b"");
    wire::put_bytes(out, 4, b"");
}

/// A list that is written an object at a time: what precedes its items says how long they are all together.
#[derive(Debug)]
pub struct List {
    head: (String, String),
    item: table::Id,
    metadata: Vec<u8>,
}

impl List {
    /// An empty list of that kind, with that metadata.
    pub fn new(api_version: &str, list_kind: &str, metadata: &Value) -> Result<List> {
        let table = table::builtin();
        let id = find(table, api_version, list_kind)?;
        let unknown = || Error::UnknownKind { api_version: api_version.into(), kind: list_kind.into() };
        let item = table.item(id).ok_or_else(unknown)?;
        let mut raw = Vec::new();
        let head = Value::Object(Map::from_iter([("metadata".to_string(), metadata.clone())]));
        write::object(&mut raw, &head, id, table, 0)?;
        Ok(List { head: (api_version.into(), list_kind.into()), item, metadata: raw })
    }

    /// Adds an object, which is of the list's kind, to the items in `out`.
    pub fn put(&self, out: &mut Vec<u8>, object: &Value) -> Result<()> {
        write::delimited(out, LIST_ITEMS, |out| write::object(out, object, self.item, table::builtin(), 1))
    }

    /// What precedes that many bytes of items.
    pub fn head(&self, items_bytes: usize) -> Bytes {
        let mut head = Vec::with_capacity(128 + self.metadata.len());
        put_head(&mut head, &self.head.0, &self.head.1);
        wire::put_tag(&mut head, 2, wire::Type::Bytes);
        wire::put_varint(&mut head, (self.metadata.len() + items_bytes) as u64);
        head.extend_from_slice(&self.metadata);
        head.into()
    }

    /// What follows the items.
    pub fn tail() -> Bytes {
        let mut tail = Vec::with_capacity(4);
        put_tail(&mut tail);
        tail.into()
    }
}

/// Writes a watch's event (`ADDED`, …) as a frame: its length in four bytes, most significant first, and the event.
pub fn put_watch_event(out: &mut Vec<u8>, kind: &str, object: &Value) -> Result<()> {
    let start = out.len();
    let framed = write_event(out, start, kind, object);
    if framed.is_err() {
        out.truncate(start);
    }
    framed
}

fn write_event(out: &mut Vec<u8>, start: usize, kind: &str, object: &Value) -> Result<()> {
    out.extend_from_slice(&[0; FRAME_HEAD_LEN]);
    wire::put_bytes(out, 1, kind.as_bytes());
    write::delimited(out, 2, |out| write::delimited(out, 1, |out| put_envelope(out, object)))?;
    let body = out.len() - start - FRAME_HEAD_LEN;
    let len = u32::try_from(body).map_err(|_| Error::Malformed("an event is too long"))?;
    out[start..start + FRAME_HEAD_LEN].copy_from_slice(&len.to_be_bytes());
    Ok(())
}
