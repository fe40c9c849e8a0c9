//! Request bodies: read within bounds, parsed into values.

use crate::negotiate::Content;
use crate::options::{BODY_BYTES_MAX, BODY_READ_TIMEOUT};
use crate::yaml;
use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::time::Duration;
use stoa_kube::{Status, decode, protobuf};

/// What is read of a body that nobody wants, and for how long, so that the connection can go on.
const DRAIN_BYTES_MAX: usize = 256 * 1024;
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How much of a body that is no object is shown.
const SHOWN_BYTES_MAX: usize = 30;

/// Reads a request whole, before anything else is said about it: a connection on which a body is left unread cannot carry the
/// next request.
pub(crate) async fn whole(request: Request<Incoming>) -> Result<Request<Bytes>, Status> {
    let (parts, incoming) = request.into_parts();
    Ok(Request::from_parts(parts, read(incoming).await?))
}

/// Reads what is left of a body that nobody wants, if that is little.
pub(crate) async fn drain(body: Incoming) {
    let mut limited = Limited::new(body, DRAIN_BYTES_MAX);
    let reading = async { while let Some(Ok(_)) = limited.frame().await {} };
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
}

/// Reads a body.
async fn read(body: Incoming) -> Result<Bytes, Status> {
    let mut limited = Limited::new(body, BODY_BYTES_MAX);
    let mut out = BytesMut::new();
    let reading = async {
        while let Some(frame) = limited.frame().await {
            let frame = frame.map_err(|e| {
                if e.downcast_ref::<http_body_util::LengthLimitError>().is_some() {
                    Status::too_large(BODY_BYTES_MAX)
                } else {
                    Status::bad_request(format!("cannot read the request's body: {e}"))
                }
            })?;
            let Ok(data) = frame.into_data() else { continue };
            // Most bodies come in one piece, which is taken as it is.
            if out.is_empty() && limited.is_end_stream() {
                return Ok(data);
            }
            out.extend_from_slice(&data);
        }
        Ok(out.freeze())
    };
    match tokio::time::timeout(BODY_READ_TIMEOUT, reading).await {
        Ok(done) => done,
        Err(_) => Err(Status::timeout("the request's body did not arrive in time")),
    }
}

/// A value, and fields that the text names twice.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) value: Value,
    pub(crate) problems: Vec<String>,
}

/// Parses a body that should be of a kind.
pub(crate) fn parse(bytes: &[u8], content: Content, kind: &str) -> Result<Parsed, Status> {
    parse_plain(bytes, content).map_err(|why| {
        let shown = shown(bytes);
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({shown})"
        ))
    })
}

/// Parses a body; an error is the parser's own.
pub(crate) fn parse_plain(bytes: &[u8], content: Content) -> Result<Parsed, String> {
    let parsed = match content {
        Content::Json => decode::parse(bytes)
            .map(|parsed| Parsed { value: parsed.value, problems: parsed.duplicates })
            .map_err(|e| format!("couldn't get version/kind; json parse error: {e}")),
        Content::Yaml => yaml::parse(bytes),
        Content::Protobuf => protobuf::decode(bytes)
            .map(|value| Parsed { value, problems: Vec::new() })
            .map_err(|e| e.to_string()),
    };
    parsed.and_then(|parsed| check_shape(&parsed.value).map(|()| parsed))
}

/// What is looked at before anything else must be there to be looked at.
fn check_shape(value: &Value) -> Result<(), String> {
    let head = r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
    let refuse = |found: &Value, what: &str| {
        let found = match found {
            Value::Array(_) => "array",
            Value::String(_) => "string",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            _ => "object",
        };
        Err(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go {what}"
        ))
    };
    match value {
        Value::Object(map) => {
            let odd = ["apiVersion", "kind"]
                .into_iter()
                .find_map(|key| map.get(key).filter(|v| !v.is_string() && !v.is_null()).map(|v| (key, v)));
            let version = map.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
            match odd {
                Some((key, value)) => refuse(value, &format!("struct field .{key} of type string")),
                None if version.split('/').count() > 2 => {
                    Err(format!("unexpected GroupVersion string: {version}"))
                }
                None => Ok(()),
            }
        }
        Value::Null => Ok(()),
        other => refuse(other, &format!("value of type {head}")),
    }
}

/// The beginning of a body: text if it may be JSON, otherwise bytes in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    let (head, rest) = bytes.split_at(bytes.len().min(SHOWN_BYTES_MAX));
    let more = if rest.is_empty() { "" } else { " ..." };
    match head.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(head)),
        Some(_) => {
            let hexadecimal: String = head.iter().map(|b| format!("{b:02x}")).collect();
            format!("{hexadecimal}{more}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_parsed_within_bounds() {
        let ok = parse(b"a: 1\nb: [x, \"2\"]\n", Content::Yaml, "X").unwrap();
        assert_eq!(ok.value, json!({"a": 1, "b": ["x", "2"]}));
        assert_eq!(parse(br#"{"a":1,"a":2}"#, Content::Json, "X").unwrap().problems.len(), 1);
        let refused = |text: &str, content| parse(text.as_bytes(), content, "Pod").unwrap_err().message;
        let before = "the object provided is unrecognized (must be of type Pod): ";
        for (text, content, why) in [
            (
                "",
                Content::Json,
                "couldn't get version/kind; json parse error: unexpected end of JSON input (<empty>)",
            ),
            (
                "{",
                Content::Json,
                "couldn't get version/kind; json parse error: unexpected end of JSON input ({)",
            ),
            (
                "a: b: c",
                Content::Yaml,
                "yaml: mapping values are not allowed in this context (613a20623a2063)",
            ),
            (
                "x",
                Content::Protobuf,
                "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (78)",
            ),
            (
                r#"{"kind":5}"#,
                Content::Json,
                r#"couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({"kind":5})"#,
            ),
        ] {
            assert_eq!(refused(text, content), format!("{before}{why}"), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep.as_bytes(), Content::Json, "X").map_err(|s| s.code()).err(), Some(400));
        assert_eq!(parse(deep.as_bytes(), Content::Yaml, "X").map_err(|s| s.code()).err(), Some(400));
    }

    #[test]
    fn an_alias_bomb_is_refused_before_it_unfolds() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_string();
        for i in 1..12 {
            let copies = vec![format!("*a{}", i - 1); 9].join(",");
            bomb.push_str(&format!("a{i}: &a{i} [{copies}]\n"));
        }
        assert_eq!(parse(bomb.as_bytes(), Content::Yaml, "X").map_err(|s| s.code()).err(), Some(400));
    }
}
