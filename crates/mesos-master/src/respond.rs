//! Answers in HTTP's form. Only this file, `scheduler` and `server` know status codes.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use serde::Serialize;
use std::convert::Infallible;
use stoa_mesos::Encoding;

/// Any body.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

fn with(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).boxed_unsync());
    *response.status_mut() = status;
    if !content_type.is_empty() {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}

/// Plain text.
pub(crate) fn text(status: StatusCode, message: impl Into<String>) -> Response<Body> {
    with(status, "text/plain; charset=utf-8", message.into().into())
}

/// No body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    with(status, "", Bytes::new())
}

/// JSON.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Response<Body> {
    with(StatusCode::OK, "application/json", stoa_mesos::json::to_ascii(value).into())
}

/// A message of the API.
pub(crate) fn message(encoding: Encoding, name: &str, value: &serde_json::Value) -> Response<Body> {
    with(StatusCode::OK, encoding.media_type(), encoding.encode_value(name, value))
}

/// A body that goes on.
pub(crate) fn stream(encoding: Encoding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static(encoding.media_type());
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Bytes of a type.
pub(crate) fn bytes(content_type: &'static str, bytes: Bytes) -> Response<Body> {
    with(StatusCode::OK, content_type, bytes)
}

/// Why something that somebody asked for is not done.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It makes no sense.
    Bad(String),
    /// They may not.
    Forbidden,
    /// There is no such thing.
    NotFound(String),
    /// It does not go with what there is.
    Conflict(String),
    /// It could not be written.
    Failed(String),
}

impl Refusal {
    pub fn into_response(self) -> Response<Body> {
        match self {
            Refusal::Bad(why) => text(StatusCode::BAD_REQUEST, why),
            Refusal::Forbidden => empty(StatusCode::FORBIDDEN),
            Refusal::NotFound(why) => text(StatusCode::NOT_FOUND, why),
            Refusal::Conflict(why) => text(StatusCode::CONFLICT, why),
            Refusal::Failed(why) => text(StatusCode::SERVICE_UNAVAILABLE, why),
        }
    }
}

/// JSON for a page of another origin, if it asked for that. The name is checked: it becomes part of a script.
pub(crate) fn jsonp<T: Serialize + ?Sized>(value: &T, callback: Option<&str>) -> Response<Body> {
    let Some(name) = callback else { return json(value) };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')) {
        return text(StatusCode::BAD_REQUEST, "Invalid callback name");
    }
    let mut body = format!("{name}(").into_bytes();
    body.extend(stoa_mesos::json::to_ascii(value));
    body.extend_from_slice(b");");
    with(StatusCode::OK, "text/javascript", body.into())
}
