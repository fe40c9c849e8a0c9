//! OpenAPI documents of the built-in kinds, for `kubectl explain`, for clients that validate or compute patches by schema, and
//! for generators: v3 as a document per group-version behind an index, v2 as one document, each in JSON and in protobuf. They are
//! written from the schema table and the registry when first asked for, a fragment at a time, and kept as bytes.

mod definition;
mod operation;
mod protobuf;
#[cfg(test)]
mod tests;

use crate::protobuf::wire::put_bytes;
use crate::resource::{GroupVersion, resources};
use crate::schema::{self, Type};
use bytes::Bytes;
use protobuf::{encode, pair, v2, v3};
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use std::sync::OnceLock;

/// The version that the documents claim.
const VERSION: &str = "v1.36.0";

/// A document and the hash of its bytes, in upper-case hexadecimal, for ETags and for the `hash` parameter of the index.
#[derive(Debug)]
pub struct Document {
    /// JSON or protobuf.
    pub bytes: Bytes,
    /// SHA-512 of the JSON.
    pub hash: String,
}

impl Document {
    fn new(bytes: Vec<u8>) -> Document {
        let hash = hex::encode_upper(Sha512::digest(&bytes));
        Document { bytes: bytes.into(), hash }
    }
}

/// Which generation of OpenAPI is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// A reference to a definition.
    fn reference(self, name: &str) -> Value {
        match self {
            Dialect::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Dialect::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

/// The path of a group-version below `/openapi/v3/`, which is also its path in the API.
pub fn v3_path(gv: GroupVersion) -> String {
    if gv.group.is_empty() { format!("api/{}", gv.version) } else { format!("apis/{gv}") }
}

/// The index of `/openapi/v3`: each group-version's path and where its document is.
pub fn v3_index() -> &'static Document {
    static INDEX: OnceLock<Document> = OnceLock::new();
    INDEX.get_or_init(|| {
        let paths: serde_json::Map<String, Value> = resources()
            .group_versions()
            .iter()
            .map(|gv| {
                let path = v3_path(*gv);
                // Only the hash is kept of documents that nobody has asked for.
                let hash = match cached(*gv).and_then(OnceLock::get) {
                    Some(document) => document.hash.clone(),
                    None => Document::new(write_v3(*gv)).hash,
                };
                let url = format!("/openapi/v3/{path}?hash={hash}");
                (path, json!({"serverRelativeURL": url}))
            })
            .collect();
        Document::new(json!({"paths": paths}).to_string().into_bytes())
    })
}

fn cached(gv: GroupVersion) -> Option<&'static OnceLock<Document>> {
    static DOCUMENTS: OnceLock<Vec<(GroupVersion, OnceLock<Document>)>> = OnceLock::new();
    let all = DOCUMENTS
        .get_or_init(|| resources().group_versions().iter().map(|gv| (*gv, OnceLock::new())).collect());
    all.iter().find(|(of, _)| *of == gv).map(|(_, document)| document)
}

/// The v3 document at a path below `/openapi/v3/`: `api/v1`, `apis/apps/v1`.
pub fn v3_document(path: &str) -> Option<&'static Document> {
    let gv = resources().group_versions().iter().find(|gv| v3_path(**gv) == path)?;
    Some(cached(*gv)?.get_or_init(|| Document::new(write_v3(*gv))))
}

/// The v2 document.
pub fn v2() -> &'static Document {
    static V2: OnceLock<Document> = OnceLock::new();
    V2.get_or_init(|| Document::new(write_v2()))
}

/// A v3 document in protobuf. Its hash is that of the JSON form, as clients look for it by the index.
pub fn v3_protobuf(path: &str) -> Option<&'static Document> {
    static DOCUMENTS: OnceLock<Vec<(GroupVersion, OnceLock<Document>)>> = OnceLock::new();
    let all = DOCUMENTS
        .get_or_init(|| resources().group_versions().iter().map(|gv| (*gv, OnceLock::new())).collect());
    let (gv, document) = all.iter().find(|(gv, _)| v3_path(*gv) == path)?;
    Some(document.get_or_init(|| {
        let hash = match cached(*gv).and_then(OnceLock::get) {
            Some(json) => json.hash.clone(),
            None => Document::new(write_v3(*gv)).hash,
        };
        Document { bytes: write_v3_protobuf(*gv).into(), hash }
    }))
}

/// The v2 document in protobuf.
pub fn v2_protobuf() -> &'static Document {
    static V2: OnceLock<Document> = OnceLock::new();
    V2.get_or_init(|| Document { bytes: write_v2_protobuf().into(), hash: v2().hash.clone() })
}

/// The two large maps of a document.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Paths,
    Definitions,
}

/// Takes a document's entries one by one, so that never more than one of them is held as a tree.
type Put<'a> = &'a mut dyn FnMut(Section, &str, &Value);

/// Writes `…{"key":fragment,…}…` of both sections.
struct Json {
    out: Vec<u8>,
    section: Section,
    is_first: bool,
    between: &'static str,
}

impl Json {
    fn open(head: &str, between: &'static str) -> Json {
        Json { out: head.as_bytes().to_vec(), section: Section::Paths, is_first: true, between }
    }

    fn put(&mut self, section: Section, key: &str, fragment: &Value) {
        if self.section != section {
            self.out.extend_from_slice(self.between.as_bytes());
            (self.section, self.is_first) = (section, true);
        }
        if !std::mem::take(&mut self.is_first) {
            self.out.push(b',');
        }
        // Values always serialise, and a Vec takes everything.
        let _ = serde_json::to_writer(&mut self.out, key);
        self.out.push(b':');
        let _ = serde_json::to_writer(&mut self.out, fragment);
    }

    fn close(mut self, tail: &str) -> Vec<u8> {
        self.out.extend_from_slice(tail.as_bytes());
        self.out
    }
}

/// What every document refers to besides the kinds themselves.
const COMMON: [&str; 4] = [
    "apis.meta.v1.DeleteOptions",
    "apis.meta.v1.Status",
    "apis.meta.v1.APIResourceList",
    "apis.meta.v1.WatchEvent",
];

fn entries_v3(gv: GroupVersion, put: Put<'_>) {
    let table = schema::builtin();
    let mut roots: Vec<Type<'static>> = COMMON.iter().filter_map(|name| table.named(name)).collect();
    for resource in resources().iter().filter(|r| r.group_version() == gv) {
        roots.push(table.type_of(resource));
        roots.extend(table.type_of_kind(gv.group, gv.version, resource.list_kind));
        roots.extend(resource.subresources.iter().filter_map(|s| table.type_of_subresource(s)));
        for (path, item) in operation::paths(resource, Dialect::V3) {
            put(Section::Paths, &path, &item);
        }
    }
    for ty in definition::reachable(roots) {
        put(Section::Definitions, &definition::name(ty), &definition::write(ty, Dialect::V3));
    }
    for (name, scalar) in definition::scalars(Dialect::V3) {
        put(Section::Definitions, &name, &scalar);
    }
}

fn entries_v2(put: Put<'_>) {
    for resource in resources().iter() {
        for (path, item) in operation::paths(resource, Dialect::V2) {
            put(Section::Paths, &path, &item);
        }
    }
    for ty in schema::builtin().types().filter(|ty| matches!(ty.kind(), schema::Kind::Struct(_))) {
        put(Section::Definitions, &definition::name(ty), &definition::write(ty, Dialect::V2));
    }
    for (name, scalar) in definition::scalars(Dialect::V2) {
        put(Section::Definitions, &name, &scalar);
    }
}

/// The way in, as every document tells it.
fn bearer_token() -> Value {
    json!({"BearerToken": {"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}})
}

fn write_v3(gv: GroupVersion) -> Vec<u8> {
    let head =
        format!(r#"{{"openapi":"3.0.0","info":{{"title":"Kubernetes","version":"{VERSION}"}},"paths":{{"#);
    let mut json = Json::open(&head, r#"},"components":{"schemas":{"#);
    entries_v3(gv, &mut |section, key, value| json.put(section, key, value));
    json.close(&format!(r#"}},"securitySchemes":{}}}}}"#, bearer_token()))
}

fn write_v2() -> Vec<u8> {
    let head =
        format!(r#"{{"swagger":"2.0","info":{{"title":"Kubernetes","version":"{VERSION}"}},"paths":{{"#);
    let mut json = Json::open(&head, r#"},"definitions":{"#);
    entries_v2(&mut |section, key, value| json.put(section, key, value));
    json.close(&format!(r#"}},"securityDefinitions":{},"security":[{{"BearerToken":[]}}]}}"#, bearer_token()))
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": VERSION})
}

fn write_v3_protobuf(gv: GroupVersion) -> Vec<u8> {
    let (mut paths, mut schemas) = (Vec::new(), Vec::new());
    entries_v3(gv, &mut |section, key, value| match section {
        Section::Paths => put_bytes(&mut paths, v3::PATH.pair, &pair(key, v3::PATH.shape, value)),
        Section::Definitions => put_bytes(&mut schemas, v3::SCHEMA.pair, &pair(key, v3::SCHEMA.shape, value)),
    });
    let mut components = Vec::new();
    put_bytes(&mut components, v3::SCHEMA.map, &schemas);
    components.extend(encode(&v3::COMPONENTS, &json!({"securitySchemes": bearer_token()})));
    let mut out = encode(&v3::DOCUMENT, &json!({"openapi": "3.0.0", "info": info()}));
    put_bytes(&mut out, v3::PATH.map, &paths);
    put_bytes(&mut out, v3::COMPONENTS_FIELD, &components);
    out
}

fn write_v2_protobuf() -> Vec<u8> {
    let (mut paths, mut definitions) = (Vec::new(), Vec::new());
    entries_v2(&mut |section, key, value| match section {
        Section::Paths => put_bytes(&mut paths, v2::PATH.pair, &pair(key, v2::PATH.shape, value)),
        Section::Definitions => {
            put_bytes(&mut definitions, v2::DEFINITION.pair, &pair(key, v2::DEFINITION.shape, value));
        }
    });
    let mut out = encode(&v2::DOCUMENT, &json!({"swagger": "2.0", "info": info()}));
    put_bytes(&mut out, v2::PATH.map, &paths);
    put_bytes(&mut out, v2::DEFINITION.map, &definitions);
    let tail = json!({"security": [{"BearerToken": []}], "securityDefinitions": bearer_token()});
    out.extend(encode(&v2::DOCUMENT, &tail));
    out
}
