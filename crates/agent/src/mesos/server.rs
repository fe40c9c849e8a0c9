//! HTTP of the Mesos API: bounded connections, headers, bodies and waiting; which path means what; the executor's calls.

use super::access::{Asker, OperatorApi, Shut};
use super::executors::Refused;
use super::{figures, files, view};
use crate::shared::Shared;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stoa_authz::Action;
use stoa_mesos::Encoding;
use stoa_mesos::executor::{Call, Command, Request as Asked, Subscribe};
use stoa_mesos::json::to_ascii;
use stoa_mesos::task::ExecutorId;
use stoa_units::FrameworkId;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Open connections; more wait to be accepted. Every executor has one for its stream.
const CONNECTIONS_MAX: usize = 4_096;
/// Longest body of a request.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How long a request's headers may take, and its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How long a subscription waits for the agent to learn of the executor's pod, as after a restart.
const KNOWN_WAIT: Duration = Duration::from_secs(30);

/// By which way a connection came.
#[derive(Clone, Debug)]
pub(crate) enum Door {
    /// Loopback, where everybody of the machine comes from: executors.
    Executors,
    /// The gateway of the pods' network: executors with a network of their own.
    Pods,
    /// The operators' door of this agent, at an address. On loopback executors use it as well.
    Operators(Arc<OperatorApi>, SocketAddr),
    /// The master, on behalf of somebody whose rights it tells.
    Master(Asker),
}

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An answer in words.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text.into())).boxed_unsync());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// An answer in JSON.
pub(crate) fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(to_ascii(value))).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// JSON for a page of another origin, if it asked for that. The name is checked: it becomes part of a script.
fn jsonp(value: &Value, callback: Option<&String>) -> Response<Body> {
    let Some(name) = callback else { return json(value) };
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$')) {
        return text(StatusCode::BAD_REQUEST, "Invalid callback name");
    }
    let mut body = format!("{name}(").into_bytes();
    body.extend(to_ascii(value));
    body.extend_from_slice(b");");
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/javascript"));
    response
}

/// Accepts connections for ever.
pub(crate) async fn run(shared: Arc<Shared>, listener: TcpListener, door: Door) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            // Only executors come to the pods' door; everybody else's connection would be one less for them.
            Ok((_, peer))
                if matches!(door, Door::Pods) && !shared.tasks.is_executors(&peer.ip().to_string()) =>
            {
                tracing::debug!(%peer, "no executor has this address");
            }
            Ok((stream, peer)) => {
                // Records are small and wanted at once.
                let _ = stream.set_nodelay(true);
                let (shared, door) = (Arc::clone(&shared), door.clone());
                tokio::spawn(async move {
                    serve(shared, stream, door, Some(peer.ip())).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Out of descriptors, or the peer went before it was accepted.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Serves one connection.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    door: Door,
    peer: Option<IpAddr>,
) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (shared, door) = (Arc::clone(&shared), door.clone());
        async move { Ok::<_, Infallible>(handle(&shared, request, &door, peer).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended badly");
    }
}

async fn handle(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    door: &Door,
    peer: Option<IpAddr>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let path = normalize(parts.uri.path());
    match path {
        "/api/v1/executor" => {
            let trust = match (door, peer) {
                (Door::Executors, _) => Trust::Machine,
                (Door::Operators(_, at), _) if at.ip().is_loopback() => Trust::Machine,
                (Door::Pods, Some(peer)) => Trust::Pod(peer),
                (Door::Pods | Door::Operators(..) | Door::Master(_), _) => Trust::Nobody,
            };
            return executor_call(shared, &parts.method, &parts.headers, body, trust).await;
        }
        "/health" => return empty(StatusCode::OK),
        "/version" => return json(&view::version(shared)),
        _ => {}
    }
    let asker = match door {
        Door::Executors | Door::Pods => {
            return text(StatusCode::NOT_FOUND, format!("No such endpoint: {path}"));
        }
        Door::Master(asker) => asker.clone(),
        Door::Operators(api, at) => {
            let names = [shared.options.name.as_str(), shared.executors.hostname()];
            match api.admit(&parts.headers, at.ip(), &names) {
                Ok(asker) => asker,
                Err(Shut::Unknown) => return unauthorized(path, &parts.method),
                Err(Shut::Foreign) => {
                    let words = "The request was made by a page of another site, or names another machine";
                    return text(StatusCode::FORBIDDEN, words);
                }
            }
        }
    };
    match path {
        "/api/v1" | "/api/v1/operator" => super::operator::call(shared, &asker, &parts, body).await,
        path => legacy(shared, &asker, path, &parts).await,
    }
}

fn unauthorized(path: &str, method: &Method) -> Response<Body> {
    let is_write = path.starts_with("/api/v1") || *method == Method::POST;
    let realm = if is_write { "mesos-agent-readwrite" } else { "mesos-agent-readonly" };
    let mut response = empty(StatusCode::UNAUTHORIZED);
    if let Ok(value) = HeaderValue::from_str(&format!("Basic realm=\"{realm}\"")) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
    }
    response
}

fn not_allowed(allowed: &'static str, method: &Method) -> Response<Body> {
    let words = format!("Expecting one of {{ '{allowed}' }}, but received '{method}'");
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, words);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Those that are judged as a whole, by their path.
const JUDGED: [&str; 5] =
    ["/containers", "/files/debug", "/logging/toggle", "/metrics/snapshot", "/monitor/statistics"];

/// The endpoints of before the v1 API.
async fn legacy(
    shared: &Arc<Shared>,
    asker: &Asker,
    path: &str,
    parts: &http::request::Parts,
) -> Response<Body> {
    let is_read = parts.method == Method::GET || parts.method == Method::HEAD;
    if !is_read && path != "/logging/toggle" {
        return not_allowed("GET", &parts.method);
    }
    if JUDGED.contains(&path) && !asker.may(Action::GetEndpoint, path) {
        return empty(StatusCode::FORBIDDEN);
    }
    let query = files::parse_query(parts.uri.query().unwrap_or_default());
    let json = |value: &Value| jsonp(value, query.get("jsonp"));
    match path {
        "" => {
            text(StatusCode::OK, "stoa speaks the Mesos agent's API here: try /state, /containers, /api/v1\n")
        }
        "/state" => json(&view::state(shared, asker)),
        "/containers" => json(&view::containers(shared, asker)),
        "/monitor/statistics" => json(&view::statistics(shared, asker)),
        "/metrics/snapshot" | "/system/stats" => json(&figures::metrics(shared).into()),
        "/flags" if asker.may(Action::ViewFlags, "*") => {
            json(&serde_json::json!({"flags": view::flags(shared)}))
        }
        "/flags" => empty(StatusCode::FORBIDDEN),
        "/logging/toggle" => set_verbosity(shared, asker, &query),
        "/files/browse" | "/files/read" | "/files/download" | "/files/debug" => {
            let what = path.trim_start_matches("/files/");
            files::serve(shared, asker, what, &query).await
        }
        "/help" => text(StatusCode::OK, HELP),
        path => text(StatusCode::NOT_FOUND, format!("No such endpoint: {path}")),
    }
}

const HELP: &str = "/api/v1 /api/v1/executor /state /containers /monitor/statistics /metrics/snapshot /flags /version /health \
/files/browse /files/read /files/download /files/debug /logging/toggle\n";

fn set_verbosity(shared: &Shared, asker: &Asker, query: &files::Query) -> Response<Body> {
    if query.is_empty() {
        return text(StatusCode::OK, format!("{}\n", shared.options.verbosity.level(shared.now())));
    }
    if !asker.may(Action::SetLogLevel, "*") {
        return empty(StatusCode::FORBIDDEN);
    }
    let part = |name: &str| query.get(name).map(String::as_str);
    match stoa_mesos::verbosity::read_toggle(part("level"), part("duration")) {
        Ok((level, lasts)) => {
            shared.options.verbosity.set(level, lasts, shared.now());
            empty(StatusCode::OK)
        }
        Err(why) => text(StatusCode::BAD_REQUEST, why),
    }
}

/// The path without its aliases: trailing slash, `.json`, the process's name in front.
pub(crate) fn normalize(path: &str) -> &str {
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix(".json").unwrap_or(path);
    match path.strip_prefix("/slave(1)").or_else(|| path.strip_prefix("/slave%281%29")) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
        _ => path,
    }
}

/// Reads a body within bounds.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, Box<Response<Body>>> {
    let read = tokio::time::timeout(REQUEST_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    match read {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(Box::new(text(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The body is longer than {BODY_BYTES_MAX} bytes"),
        ))),
        Ok(Err(_)) => Err(Box::new(text(StatusCode::BAD_REQUEST, "Failed to read the body"))),
        Err(_) => Err(Box::new(text(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time"))),
    }
}

/// What every API call must have before its body is looked at; how the body is written.
pub(crate) fn check_call(method: &Method, headers: &HeaderMap) -> Result<Encoding, Box<Response<Body>>> {
    if method != Method::POST {
        return Err(Box::new(not_allowed("POST", method)));
    }
    match media_type(headers, header::CONTENT_TYPE.as_str()).as_deref() {
        None => Err(Box::new(text(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present"))),
        Some(kind) => Encoding::of(kind).ok_or_else(|| {
            let words = "Expecting 'Content-Type' of application/json or application/x-protobuf";
            Box::new(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, words))
        }),
    }
}

/// The media type that a header names, without its parameters.
pub(crate) fn media_type(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// How an answer is to be written by a header: JSON where both will do.
pub(crate) fn accepted(headers: &HeaderMap, name: &str) -> Option<Encoding> {
    let all: Vec<&str> = headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).collect();
    if all.is_empty() {
        return Some(Encoding::Json);
    }
    let kinds = all.iter().flat_map(|v| v.split(',')).map(|part| {
        let kind = part.split(';').next().unwrap_or_default();
        kind.trim().to_ascii_lowercase()
    });
    let kinds: Vec<String> = kinds.collect();
    [Encoding::Json, Encoding::Protobuf]
        .into_iter()
        .find(|e| kinds.iter().any(|k| k == e.media_type() || k == "application/*" || k == "*/*"))
}

/// Whether an executor that shows no token is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Yes, as Mesos does unless told otherwise: the libraries of old do not know of tokens, and it came from this machine.
    Machine,
    /// If this address is its own: of the pods each has one, and the libraries of old are in them, too.
    Pod(IpAddr),
    /// No: it came from wherever.
    Nobody,
}

async fn executor_call(
    shared: &Arc<Shared>,
    method: &Method,
    headers: &HeaderMap,
    body: Incoming,
    trust: Trust,
) -> Response<Body> {
    let encoding = match check_call(method, headers) {
        Ok(encoding) => encoding,
        Err(response) => return *response,
    };
    let body = match read_body(body).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let value = match encoding.decode("executor.Call", &body) {
        Ok(value) => value,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let call: Call = match serde_json::from_value(value) {
        Ok(call) => call,
        Err(e) => {
            let words = format!("Failed to convert JSON into Call protobuf: {e}");
            return text(StatusCode::BAD_REQUEST, words);
        }
    };
    let Asked { executor, framework, command } = match call.check() {
        Ok(asked) => asked,
        Err(e) => {
            return text(StatusCode::BAD_REQUEST, format!("Failed to validate executor::Call: {e}"));
        }
    };
    if let Err(response) = authenticate(shared, headers, &framework, &executor, trust) {
        return *response;
    }
    let done = match command {
        Command::Subscribe(call) => {
            let Some(encoding) = accepted(headers, header::ACCEPT.as_str()) else {
                return text(StatusCode::NOT_ACCEPTABLE, NOT_ACCEPTABLE);
            };
            return subscribe(shared, &framework, &executor, call, encoding).await;
        }
        Command::Update(status) => shared.executors.update(&framework, &executor, *status, shared.now()),
        Command::Message(data) => shared.executors.message(&framework, &executor, data),
        Command::Heartbeat => Ok(()),
    };
    match done {
        Ok(()) => empty(StatusCode::ACCEPTED),
        Err(Refused::NotSubscribed) => text(StatusCode::FORBIDDEN, "Executor is not subscribed"),
        Err(Refused::Unknown) => unknown(shared, &framework),
    }
}

pub(crate) const NOT_ACCEPTABLE: &str =
    "Expecting 'Accept' to allow 'application/json' or 'application/x-protobuf'";

fn unknown(shared: &Shared, framework: &FrameworkId) -> Response<Body> {
    let what = if shared.executors.has_framework(framework) { "Executor" } else { "Framework" };
    text(StatusCode::BAD_REQUEST, format!("{what} cannot be found"))
}

/// An executor that shows a token must show its own.
fn authenticate(
    shared: &Shared,
    headers: &HeaderMap,
    framework: &FrameworkId,
    executor: &ExecutorId,
    trust: Trust,
) -> Result<(), Box<Response<Body>>> {
    let shown = headers.get(header::AUTHORIZATION);
    let is_believed = match trust {
        Trust::Machine => true,
        Trust::Pod(ip) => shared.tasks.is_at(framework.as_str(), &executor.0, &ip.to_string()),
        Trust::Nobody => false,
    };
    if shown.is_none() && is_believed {
        return Ok(());
    }
    let shown = shown.and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Bearer "));
    let own = shared.executors.token(framework, executor);
    // On this machine an executor may come before its pod is known; from elsewhere it has to come again.
    if (own.is_none() && trust == Trust::Machine) || (own.is_some() && shown == own.as_deref()) {
        return Ok(());
    }
    let mut response = empty(StatusCode::UNAUTHORIZED);
    let realm = HeaderValue::from_static(r#"Bearer realm="mesos-agent-executor""#);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    Err(Box::new(response))
}

/// Opens an executor's stream, once the agent knows of its pod.
async fn subscribe(
    shared: &Arc<Shared>,
    framework: &FrameworkId,
    executor: &ExecutorId,
    call: Subscribe,
    encoding: Encoding,
) -> Response<Body> {
    let mut changes = shared.executors.changes();
    let deadline = tokio::time::Instant::now() + KNOWN_WAIT;
    loop {
        match shared.executors.subscribe(framework, executor, call.clone(), encoding, shared.now()) {
            Ok(body) => {
                let mut response = Response::new(body.boxed_unsync());
                let kind = HeaderValue::from_static(encoding.media_type());
                response.headers_mut().insert(header::CONTENT_TYPE, kind);
                return response;
            }
            Err(_) => match tokio::time::timeout_at(deadline, changes.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => break,
            },
        }
    }
    unknown(shared, framework)
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn aliases_mean_the_same_path() {
        for (alias, path) in [
            ("/slave(1)/state", "/state"),
            ("/slave(1)/api/v1/executor", "/api/v1/executor"),
            ("/slave(1)", ""),
            ("/state.json", "/state"),
            ("/files/read/", "/files/read"),
            ("/slave(1)x", "/slave(1)x"),
        ] {
            assert_eq!(normalize(alias), path, "{alias}");
        }
    }
}
