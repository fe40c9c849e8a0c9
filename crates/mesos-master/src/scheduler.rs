//! `POST /api/v1/scheduler`: the transport's rules, in Mesos' order and with its words.

use crate::master::Master;
use crate::respond::{self, Body, text};
use crate::subscribe::Outcome;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use stoa_mesos::Encoding;
use stoa_mesos::scheduler::{Call, Command, Event, Request};

const STREAM_ID: &str = "mesos-stream-id";
/// Longest stream id that is compared at all.
const STREAM_ID_LEN_MAX: usize = 128;

/// The media type of a `Content-Type`, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// How the answer is to be written: JSON where both will do.
pub(crate) fn accepted(headers: &HeaderMap) -> Option<Encoding> {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).peekable();
    if accepted.peek().is_none() {
        return Some(Encoding::Json);
    }
    let kinds: Vec<String> = accepted
        .flat_map(|v| v.split(','))
        .filter_map(|part| {
            let mut parameters = part.split(';').map(str::trim);
            let kind = parameters.next().unwrap_or_default().to_ascii_lowercase();
            let is_refused = parameters.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            (!is_refused).then_some(kind)
        })
        .collect();
    [Encoding::Json, Encoding::Protobuf]
        .into_iter()
        .find(|e| kinds.iter().any(|k| k == e.media_type() || k == "application/*" || k == "*/*"))
}

pub(crate) const NOT_ACCEPTABLE: &str =
    "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";

/// Checks what every API call must have before its body is looked at, and says how the body is written.
pub(crate) fn check_call(method: &Method, headers: &HeaderMap) -> Result<Encoding, Box<Response<Body>>> {
    if method != Method::POST {
        let mut response = text(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("Expecting one of {{ 'POST' }}, but received '{method}'"),
        );
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
        return Err(Box::new(response));
    }
    match media_type(headers).as_deref() {
        None => Err(Box::new(text(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present"))),
        Some(kind) => Encoding::of(kind).ok_or_else(|| {
            Box::new(text(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Expecting 'Content-Type' of application/json or application/x-protobuf",
            ))
        }),
    }
}

impl Master {
    /// Answers a scheduler's call.
    pub async fn scheduler_call(
        &self,
        method: &Method,
        headers: &HeaderMap,
        body: Bytes,
        principal: Option<String>,
    ) -> Response<Body> {
        if !self.is_recovered() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "Master has not finished recovery");
        }
        let encoding = match check_call(method, headers) {
            Ok(encoding) => encoding,
            Err(response) => return *response,
        };
        let value = match encoding.decode("scheduler.Call", &body) {
            Ok(value) => value,
            Err(why) => return text(StatusCode::BAD_REQUEST, why),
        };
        let call: Call = match serde_json::from_value(value) {
            Ok(call) => call,
            Err(e) => {
                return text(
                    StatusCode::BAD_REQUEST,
                    format!("Failed to convert JSON into Call protobuf: {e}"),
                );
            }
        };
        match call.check() {
            Err(e) => text(StatusCode::BAD_REQUEST, format!("Failed to validate scheduler::Call: {e}")),
            Ok(Request::Subscribe(call)) => {
                let Some(encoding) = accepted(headers) else {
                    return text(StatusCode::NOT_ACCEPTABLE, NOT_ACCEPTABLE);
                };
                if headers.contains_key(STREAM_ID) {
                    return text(
                        StatusCode::BAD_REQUEST,
                        "Subscribe calls should not include the 'Mesos-Stream-Id' header",
                    );
                }
                stream(self.subscribe(*call, principal, encoding).await, encoding)
            }
            Ok(Request::Of(id, command)) => {
                if let Err((status, why)) = self.check_subscribed(&id, headers, principal.as_deref()) {
                    return text(status, why);
                }
                if matches!(*command, Command::ReconcileOperations(_)) && accepted(headers).is_none() {
                    return text(StatusCode::NOT_ACCEPTABLE, NOT_ACCEPTABLE);
                }
                let is_sync = matches!(*command, Command::UpdateFramework(_));
                match self.command(&id, *command).await {
                    Ok(()) if is_sync => respond::empty(StatusCode::OK),
                    Ok(()) => respond::empty(StatusCode::ACCEPTED),
                    Err(why) => text(StatusCode::BAD_REQUEST, why),
                }
            }
        }
    }

    fn check_subscribed(
        &self,
        id: &stoa_units::FrameworkId,
        headers: &HeaderMap,
        principal: Option<&str>,
    ) -> Result<(), (StatusCode, String)> {
        let bad = |why: String| Err((StatusCode::BAD_REQUEST, why));
        let state = self.state.lock();
        let Some(f) = state.frameworks.get(id).filter(|f| !f.is_removed()) else {
            return bad("Framework cannot be found".into());
        };
        if f.record.principal.as_deref() != principal {
            return bad(format!(
                "Authenticated principal '{}' does not match principal '{}' set in `FrameworkInfo`",
                principal.unwrap_or_default(),
                f.record.principal.as_deref().unwrap_or_default()
            ));
        }
        let Some(subscriber) = &f.subscriber else {
            return Err((StatusCode::FORBIDDEN, "Framework is not subscribed".into()));
        };
        let Some(given) = headers.get(STREAM_ID) else {
            return bad("All non-subscribe calls should include the 'Mesos-Stream-Id' header".into());
        };
        let given = given.to_str().unwrap_or_default();
        if given.len() > STREAM_ID_LEN_MAX || given != subscriber.stream_id {
            return bad(format!(
                "The stream ID '{}' included in this request didn't match the stream ID currently associated with framework ID {id}",
                given.chars().take(STREAM_ID_LEN_MAX).collect::<String>()
            ));
        }
        Ok(())
    }
}

fn stream(outcome: Outcome, encoding: Encoding) -> Response<Body> {
    let (body, id) = match outcome {
        Outcome::Stream(body, id) => (body.boxed_unsync(), id),
        Outcome::Refused(why) => {
            // A stream as any other, of one record: clients read chunks whatever comes in them.
            let record = Ok(Frame::data(Event::error(why).to_record(encoding)));
            let body = StreamBody::new(futures_util::stream::iter([record]));
            (body.boxed_unsync(), uuid::Uuid::new_v4().to_string())
        }
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(STREAM_ID, id);
    }
    response
}
