//! The OpenAPI documents: made when first asked for, kept, and sent again only to those who do not have them.

use crate::discovery::kept;
use crate::gzip::compress;
use crate::negotiate;
use crate::options::GZIP_BYTES_MIN;
use crate::request::RequestInfo;
use crate::respond::{Answer, text};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, EXPIRES, LOCATION};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;
use stoa_kube::Status;
use stoa_kube::openapi::{self, Document};
use stoa_units::Time;

const JSON: &str = "application/json";
const V2: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V3: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
/// What a client asks for and what it is answered with: the spellings with an `@` are older, and client-go still has them.
const V2_SERVED: [(&str, &str); 3] =
    [(JSON, JSON), ("application/com.github.proto-openapi.spec.v2@v1.0+protobuf", V2), (V2, V2)];
const V3_SERVED: [(&str, &str); 3] =
    [(JSON, JSON), (V3, V3), ("application/com.github.proto-openapi.spec.v3@v1.0+protobuf", V3)];

/// What is named by its hash never changes; a year is the most that the protocol allows to say.
const IMMUTABLE_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The compressed forms by media type and hash: as many as there are documents.
static COMPRESSED: LazyLock<Mutex<BTreeMap<(&'static str, String), Bytes>>> = LazyLock::new(Mutex::default);

/// Answers a path below `/openapi`.
pub(super) fn answer(
    parts: &[&str],
    info: &RequestInfo,
    headers: &HeaderMap,
    now: Time,
) -> Result<Answer, Status> {
    match parts {
        ["v2"] => match picked(headers, &V2_SERVED) {
            Some(JSON) => document(headers, JSON, openapi::v2()),
            Some(media_type) => document(headers, media_type, openapi::v2_protobuf()),
            None => Ok(not_acceptable()),
        },
        // The index has one form, whatever is asked for.
        ["v3"] => document(headers, JSON, openapi::v3_index()),
        ["v3", path @ ..] => {
            let path = path.join("/");
            let Some(media_type) = picked(headers, &V3_SERVED) else { return Ok(not_acceptable()) };
            let found = match media_type {
                JSON => openapi::v3_document(&path),
                _ => openapi::v3_protobuf(&path),
            };
            let found = found.ok_or_else(Status::unknown_path)?;
            match info.query.get("hash").filter(|hash| !hash.is_empty()) {
                None => document(headers, media_type, found),
                Some(hash) if hash == found.hash => {
                    document(headers, media_type, found).map(|answer| immutable(answer, now))
                }
                Some(_) => moved(&path, &found.hash),
            }
        }
        _ => Err(Status::unknown_path()),
    }
}

fn picked(headers: &HeaderMap, served: &[(&str, &'static str)]) -> Option<&'static str> {
    let names: Vec<&str> = served.iter().map(|(name, _)| *name).collect();
    negotiate::pick(headers, &names).and_then(|at| served.get(at)).map(|(_, media_type)| *media_type)
}

fn document(
    headers: &HeaderMap,
    media_type: &'static str,
    document: &'static Document,
) -> Result<Answer, Status> {
    let etag = HeaderValue::from_str(&format!("\"{}\"", document.hash));
    let etag = etag.map_err(|e| Status::internal(e.to_string()))?;
    let large = document.bytes.len() >= GZIP_BYTES_MIN;
    let gzip = (large && negotiate::takes_gzip(headers)).then(|| compressed(media_type, document));
    Ok(kept(headers, media_type, &etag, &document.bytes, gzip.as_ref()))
}

/// A client need not ask again for what it named by its hash.
fn immutable(mut answer: Answer, now: Time) -> Answer {
    let expires = now.0.saturating_add(IMMUTABLE_FOR).unwrap_or(now.0);
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
    answer.headers_mut().extend(HeaderValue::from_str(&expires).ok().map(|at| (EXPIRES, at)));
    answer
}

/// The document has another hash by now.
fn moved(path: &str, hash: &str) -> Result<Answer, Status> {
    let url = format!("/openapi/v3/{path}?hash={hash}");
    let url = HeaderValue::from_str(&url).map_err(|e| Status::internal(e.to_string()))?;
    let mut answer = text(301, "");
    answer.headers_mut().insert(LOCATION, url);
    Ok(answer)
}

/// Nothing that is served here is wanted; a stock server says no more than that.
fn not_acceptable() -> Answer {
    let mut answer = text(406, "");
    answer.headers_mut().remove(CONTENT_TYPE);
    answer
}

fn compressed(media_type: &'static str, document: &Document) -> Bytes {
    let key = (media_type, document.hash.clone());
    if let Some(bytes) = COMPRESSED.lock().get(&key) {
        return bytes.clone();
    }
    // Not under the lock: others go on meanwhile, at worst one of them does the same work.
    let bytes = compress(&document.bytes);
    COMPRESSED.lock().insert(key, bytes.clone());
    bytes
}
