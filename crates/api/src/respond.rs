//! Answers: bodies, headers, and what a refusal looks like.

use crate::negotiate::Encoding;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, RETRY_AFTER, WARNING};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use stoa_kube::Status;
pub(crate) use stoa_streams::Body;

/// Longest warning that is put into a header.
const WARNING_BYTES_MAX: usize = 1024;
/// All of them together, as a stock server bounds them.
const WARNINGS_BYTES_MAX: usize = 4 * 1024;

pub(crate) type Answer = Response<Body>;

/// A body that is there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of any type.
pub(crate) fn bytes(code: u16, media_type: &'static str, bytes: impl Into<Bytes>) -> Answer {
    with_body(code, media_type, whole(bytes))
}

/// An answer with any body.
pub(crate) fn with_body(code: u16, media_type: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    answer
}

/// An object that is there as JSON bytes, in the form agreed on.
pub(crate) fn object(code: u16, encoding: Encoding, json: Bytes) -> Answer {
    match encoding {
        Encoding::Json => bytes(code, encoding.media_type(), json),
        Encoding::Yaml => match to_yaml(&json) {
            Ok(text) => bytes(code, encoding.media_type(), text),
            Err(status) => refusal(&status, Encoding::Json),
        },
        Encoding::Protobuf => match serde_json::from_slice(&json) {
            Ok(read) => value(code, encoding, &read),
            Err(e) => refusal(&Status::internal(e.to_string()), Encoding::Json),
        },
    }
}

/// A value, in the form agreed on.
pub(crate) fn value(code: u16, encoding: Encoding, value: &Value) -> Answer {
    if encoding != Encoding::Protobuf {
        return object(code, encoding, value.to_string().into());
    }
    match stoa_kube::protobuf::encode(value) {
        Ok(message) => bytes(code, encoding.media_type(), message),
        Err(e) => refusal(&Status::internal(format!("cannot encode the answer: {e}")), Encoding::Json),
    }
}

/// A refusal, in the form agreed on.
pub(crate) fn refusal(status: &Status, encoding: Encoding) -> Answer {
    let mut answer = object(status.code(), encoding, status.to_bytes());
    if let Some(seconds) = status.retry_after_seconds() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if status.code() == 401 {
        // Tells clients which scheme is meant.
        let name = HeaderName::from_static("www-authenticate");
        answer.headers_mut().insert(name, HeaderValue::from_static("Bearer realm=\"stoa\""));
    }
    answer
}

/// Plain text.
pub(crate) fn text(code: u16, text: impl Into<String>) -> Answer {
    bytes(code, "text/plain; charset=utf-8", text.into())
}

fn to_yaml(json: &[u8]) -> Result<String, Status> {
    let value: Value = serde_json::from_slice(json).map_err(|e| Status::internal(e.to_string()))?;
    serde_saphyr::to_string(&value).map_err(|e| Status::internal(e.to_string()))
}

/// Adds `Warning: 299 - "…"` headers.
pub(crate) fn warn(answer: &mut Answer, warnings: &[impl AsRef<str>]) {
    let mut left = WARNINGS_BYTES_MAX;
    for warning in warnings {
        let warning = warning.as_ref();
        let mut end = warning.len().min(WARNING_BYTES_MAX);
        while !warning.is_char_boundary(end) {
            end -= 1;
        }
        let text = &warning[..end];
        if text.len() > left {
            return;
        }
        left -= text.len();
        let quoted: String = text
            .chars()
            .filter(|c| !c.is_control())
            .flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c]))
            .collect();
        let value = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes());
        // What was said once is not said again.
        if let Ok(value) = value
            && !answer.headers().get_all(WARNING).iter().any(|said| *said == value)
        {
            answer.headers_mut().append(WARNING, value);
        }
    }
}

/// The same before the warnings that the answer has.
pub(crate) fn warn_first(answer: &mut Answer, warnings: &[impl AsRef<str>]) {
    if warnings.is_empty() {
        return;
    }
    let later: Vec<HeaderValue> = answer.headers().get_all(WARNING).iter().cloned().collect();
    answer.headers_mut().remove(WARNING);
    warn(answer, warnings);
    for warning in later {
        if !answer.headers().get_all(WARNING).iter().any(|said| *said == warning) {
            answer.headers_mut().append(WARNING, warning);
        }
    }
}
