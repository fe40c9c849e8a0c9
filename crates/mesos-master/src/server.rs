//! HTTP: bounded connections, headers, bodies and waiting; who is asking; which path means what.

use crate::master::Master;
use crate::options::Anonymous;
use crate::respond::{self, Body, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::AgentId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Open connections; more wait to be accepted. Every framework has one for its stream.
const CONNECTIONS_MAX: usize = 16_384;
/// Longest body of a request.
const BODY_BYTES_MAX: usize = 8 << 20;
/// How long a request's headers may take, and its body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Longest query that is taken apart.
const QUERY_LEN_MAX: usize = 8 << 10;

impl Master {
    /// Accepts connections for ever.
    pub async fn run_server(self: Arc<Self>, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let master = self.clone();
                    tokio::spawn(async move {
                        master.serve(stream).await;
                        drop(permit);
                    });
                }
                Err(e) => {
                    // Out of descriptors, or the peer went before it was accepted.
                    tracing::warn!(error = %e, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // Records are small and wanted at once.
        let _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
            let master = self.clone();
            // On its own: a call that was begun is carried out whole, though its caller may hang up meanwhile. Offers that
            // were taken would otherwise never return. And a panic is one call's.
            let handling = tokio::spawn(async move {
                match crate::proxy::split(request.uri().path()) {
                    Some((agent, inner)) => master.handle_proxied(&agent, &inner, request).await,
                    None => master.handle(request).await,
                }
            });
            async move {
                Ok::<_, Infallible>(handling.await.unwrap_or_else(|error| {
                    tracing::error!(%error, "a call was not answered");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "The call failed")
                }))
            }
        });
        let served = hyper::server::conn::http1::Builder::new()
            .timer(hyper_util::rt::TokioTimer::new())
            .header_read_timeout(REQUEST_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service)
            .await;
        if let Err(e) = served {
            tracing::debug!(error = %e, "a connection ended badly");
        }
    }

    /// A request for an agent's own API: checked here, answered there.
    async fn handle_proxied(
        &self,
        agent: &AgentId,
        inner: &str,
        request: Request<hyper::body::Incoming>,
    ) -> Response<Body> {
        if !self.is_addressed(request.headers()) {
            return text(
                StatusCode::FORBIDDEN,
                "The request was made by a page of another site, or names another machine",
            );
        }
        let principal = match self.authenticate(request.headers()) {
            Ok(None) if self.options.anonymous == Anonymous::Refuse => return unauthorized("/slave"),
            Ok(principal) => principal,
            Err(_) => return unauthorized("/slave"),
        };
        if !self.is_leading() {
            let asked = request.uri().path_and_query().map_or(inner, http::uri::PathAndQuery::as_str);
            return self.redirect(asked);
        }
        self.proxy(agent, inner, principal.as_deref(), request).await
    }

    /// Answers a request.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let path = normalize(parts.uri.path());
        if !self.is_addressed(&parts.headers) {
            return text(
                StatusCode::FORBIDDEN,
                "The request was made by a page of another site, or names another machine",
            );
        }
        let principal = match self.authenticate(&parts.headers) {
            Ok(principal) => principal,
            Err(_) => return unauthorized(&path),
        };
        let is_open = matches!(path.as_str(), "/health" | "/version");
        if !is_open && principal.is_none() && self.options.anonymous == Anonymous::Refuse {
            return unauthorized(&path);
        }
        if !self.is_leading() && !is_own(&path) {
            let asked = parts.uri.path_and_query().map_or(parts.uri.path(), http::uri::PathAndQuery::as_str);
            return self.redirect(asked);
        }
        let body = match read_body(body).await {
            Ok(body) => body,
            Err(response) => return *response,
        };
        match path.as_str() {
            "/api/v1/scheduler" => self.scheduler_call(&parts.method, &parts.headers, body, principal).await,
            "/api/v1" | "/api/v1/operator" => {
                self.operator_call(&parts.method, &parts.headers, body, principal.as_deref()).await
            }
            path => {
                let query = parts.uri.query().unwrap_or_default();
                self.legacy(&parts.method, path, query, &body, principal.as_deref()).await
            }
        }
    }

    fn is_addressed(&self, headers: &HeaderMap) -> bool {
        let (bind, name) = (self.options.bind.ip(), self.options.hostname.as_str());
        stoa_authz::is_addressed(headers, self.options.anonymous, bind, &[name])
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<Option<String>, stoa_authz::Wrong> {
        stoa_authz::authenticate(headers, self.options.anonymous, &self.options.credentials)
    }

    /// To the leader, protocol-relative as Mesos does it; the bare address where somebody asks for nothing else.
    pub fn redirect(&self, rest: &str) -> Response<Body> {
        let Some((host, port)) = self.leader() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected");
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let mut response = respond::empty(StatusCode::TEMPORARY_REDIRECT);
        if let Ok(location) = HeaderValue::from_str(&format!("//{host}:{port}{rest}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

/// What every master answers for itself, whether it leads or not.
fn is_own(path: &str) -> bool {
    matches!(
        path,
        "" | "/health"
            | "/version"
            | "/redirect"
            | "/flags"
            | "/help"
            | "/metrics/snapshot"
            | "/system/stats"
            | "/logging/toggle"
    ) || path.starts_with("/files/")
}

fn unauthorized(path: &str) -> Response<Body> {
    let realm = match path {
        "/api/v1/scheduler" => r#"Basic realm="mesos-master-scheduler""#,
        "/api/v1" | "/teardown" | "/reserve" | "/unreserve" | "/create-volumes" | "/destroy-volumes"
        | "/machine/down" | "/machine/up" => r#"Basic realm="mesos-master-readwrite""#,
        _ => r#"Basic realm="mesos-master-readonly""#,
    };
    let mut response = respond::empty(StatusCode::UNAUTHORIZED);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(realm));
    response
}

async fn read_body<B>(body: B) -> Result<Bytes, Box<Response<Body>>>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
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

/// The path without its aliases: trailing slash, `.json`, the process's name in front.
fn normalize(path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    path = path.strip_suffix(".json").unwrap_or(path);
    if let Some(rest) = path.strip_prefix("/master")
        && (rest.is_empty() || rest.starts_with('/'))
    {
        path = rest;
    }
    // A process's number, as in `/registrar(1)/registry`.
    path.replace("(1)", "")
}

/// Names and values of a query or a form.
pub(crate) fn parse_query(query: &str) -> HashMap<String, String> {
    if query.len() > QUERY_LEN_MAX {
        return HashMap::new();
    }
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(k, v)| (unescape(k), unescape(v))).collect()
}

fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_mean_the_same_path() {
        for (alias, path) in [
            ("/master/state", "/state"),
            ("/master/state.json", "/state"),
            ("/state/", "/state"),
            ("/master/frameworks/", "/frameworks"),
            ("/master/api/v1/scheduler", "/api/v1/scheduler"),
            ("/", ""),
            ("/master", ""),
            ("/masterful", "/masterful"),
            ("/metrics/snapshot", "/metrics/snapshot"),
        ] {
            assert_eq!(normalize(alias), path, "{alias}");
        }
    }

    #[test]
    fn queries_are_unescaped() {
        let q = parse_query("a=1%2F2&b=c+d&e=%zz&f");
        assert_eq!(q["a"], "1/2");
        assert_eq!(q["b"], "c d");
        assert_eq!(q["e"], "%zz");
        assert!(!q.contains_key("f"));
    }
}
