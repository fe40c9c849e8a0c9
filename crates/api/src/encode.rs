//! Lists in the form that the client asked for.

mod protobuf;

use crate::gzip::Gzip;
use crate::list::{ListBody, Show};
use crate::negotiate::{Accepted, Encoding, Include, View, takes_gzip};
use crate::options::GZIP_BYTES_MIN;
use crate::respond::{Answer, object, with_body};
use crate::table;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderValue};
use http_body::Body;
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use stoa_kube::{Resource, Status};
use stoa_registry::List;
use stoa_units::Time;

/// A list as an answer.
pub(crate) async fn list(
    resource: &'static Resource,
    list: List,
    accepted: Accepted,
    include: Include,
    headers: &HeaderMap,
    now: Time,
) -> Result<Answer, Status> {
    if accepted.view == View::Partial {
        let what = format!("is a list ({})", go_type(resource, resource.list_kind));
        return Err(Status::not_so("PartialObjectMetadata", &what));
    }
    let mut meta = Map::new();
    meta.insert("resourceVersion".into(), list.revision.to_string().into());
    if let Some(token) = list.continue_ {
        meta.insert("continue".into(), token.into());
    }
    if let Some(n) = list.remaining {
        meta.insert("remainingItemCount".into(), n.into());
    }
    if accepted.encoding == Encoding::Protobuf {
        let body = protobuf::list(resource, accepted.view, meta.into(), list.entries).await?;
        let large = body.size_hint().lower() >= GZIP_BYTES_MIN as u64;
        return Ok(compressed(accepted, body, large, headers));
    }
    let body = match accepted.view {
        View::Object | View::Discovery => {
            let version = resource.api_version();
            let head = json!({"kind": resource.list_kind, "apiVersion": version, "metadata": meta});
            ListBody::of_objects(open(&head, "items").into(), list.entries, &version, resource.kind)
        }
        View::Partial | View::PartialList => {
            let head = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta});
            let show: Show = Box::new(|entry| table::partial(&entry.value));
            ListBody::shown(open(&head, "items").into(), list.entries, show)
        }
        View::Table => {
            let head = json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta,
                "columnDefinitions": table::columns(resource)});
            let show: Show =
                Box::new(move |entry| table::row(resource, &entry.value, include, now).to_string().into());
            ListBody::shown(open(&head, "rows").into(), list.entries, show)
        }
    };
    if accepted.encoding == Encoding::Yaml {
        let whole = body.collect().await.map_err(|e| Status::internal(e.to_string()))?;
        return Ok(object(200, Encoding::Yaml, whole.to_bytes()));
    }
    let large = body.about_bytes() >= GZIP_BYTES_MIN as u64;
    Ok(compressed(accepted, body, large, headers))
}

/// A body, compressed if it is large and the client takes that.
fn compressed(
    accepted: Accepted,
    body: impl Body<Data = Bytes, Error = std::io::Error> + Unpin + Send + 'static,
    large: bool,
    headers: &HeaderMap,
) -> Answer {
    let media_type = accepted.encoding.media_type();
    if large && takes_gzip(headers) {
        let mut answer = with_body(200, media_type, Gzip::new(body).boxed_unsync());
        answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        return answer;
    }
    with_body(200, media_type, body.boxed_unsync())
}

/// An object's text, left open for one more list.
fn open(head: &Value, field: &str) -> String {
    let mut text = head.to_string();
    text.pop();
    text.push_str(&format!(",\"{field}\":["));
    text
}

/// The type by which a stock server's code knows a kind, as its refusals say.
pub(crate) fn go_type(resource: &Resource, kind: &str) -> String {
    let package = match resource.group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    };
    format!("*{package}.{kind}")
}
