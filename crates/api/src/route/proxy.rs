//! `pods/proxy` and `services/proxy`: a request handed on to a pod, through the tunnel to its agent. Nothing else is ever dialled, so
//! that a name in a path cannot make this server talk to the machine's own network.

mod links;
mod way;

use super::Asked;
use super::logs::{not_opened, open};
use crate::authn::WEB_SOCKET_BEARER;
use crate::respond::{Answer, whole};
use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST,
    HeaderName, LOCATION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_PROTOCOL, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use links::{Linked, Page, Root};
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::Status;
use stoa_streams::wire::TunnelRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use way::{Scheme, Way};

/// How long a pod may take to agree on a cipher.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers that concern one connection only.
const HOP_BY_HOP: [HeaderName; 7] =
    [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// Headers that say who asks: they are for us alone, a pod could use them.
const CREDENTIALS: [&str; 2] = ["impersonate-", "x-remote-"];

/// Answers a request below an object's `proxy`.
pub(super) async fn answer(asked: Asked<'_>, request: Request<Incoming>) -> Result<Answer, Status> {
    let path = rest(request.uri().path(), asked.path.namespace.is_empty());
    if path.is_empty() && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(redirect(request.uri()));
    }
    let before = request.uri().path().len() - path.len();
    let base = request.uri().path()[..before].to_string();
    let path = if path.is_empty() { "/".to_string() } else { path.to_string() };
    let way = Way::find(&asked).await?;
    let tunnel = open(&asked, &way.node, way.request(&asked.path.namespace)).await;
    let stream = tunnel.map_err(|e| unreachable(&not_opened(e).message))?.into_bytes();
    let stream: Box<dyn Stream> = match way.scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => Box::new(secure(stream, &way.ip).await.map_err(|why| unreachable(&why))?),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| unreachable(&e.to_string()))?;
    let closing = asked.state.closing.clone();
    let done = closing.clone();
    tokio::spawn(async move {
        tokio::select! {
            ended = connection.with_upgrades() => drop(ended),
            () = done.cancelled() => {}
        }
    });
    let mut request = request;
    let ours = hyper::upgrade::on(&mut request);
    let outgoing = outgoing(request, &path, &way)?;
    let root = root(base, &outgoing, &way);
    let wants_upgrade = outgoing.headers().contains_key(UPGRADE);
    let response = sender.send_request(outgoing).await.map_err(|e| unreachable(&e.to_string()))?;
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if wants_upgrade => Ok(switch(response, ours, closing)),
        // Nobody asked for it: what follows on this connection would be nobody's.
        StatusCode::SWITCHING_PROTOCOLS => Err(unreachable("it switched protocols unasked")),
        _ => Ok(incoming(response, root)),
    }
}

/// What a pod is spoken to over.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS with a pod: it is reached through its own agent, and has no certificate that anybody could verify.
async fn secure<T: Stream>(stream: T, ip: &str) -> Result<impl Stream + use<T>, String> {
    let config = stoa_pki::unverified_client().map_err(|e| e.to_string())?;
    let name = ServerName::try_from(ip.to_string()).map_err(|e| e.to_string())?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let within = tokio::time::timeout(HANDSHAKE_TIMEOUT, connected).await;
    within.map_err(|_| "TLS handshake timeout".to_string())?.map_err(|e| e.to_string())
}

/// Where links of the program lead back to.
fn root<B>(base: String, request: &Request<B>, way: &Way) -> Root {
    let asked = request.headers().get("x-forwarded-host").and_then(|h| h.to_str().ok());
    Root { base, hosts: asked.map(String::from).into_iter().chain([way.host.clone()]).collect() }
}

/// What follows `/proxy`, as it was sent.
fn rest(path: &str, of_cluster: bool) -> &str {
    // /api/v1/namespaces/<namespace>/<plural>/<name>/proxy, or without a namespace.
    let segments = if of_cluster { 5 } else { 7 };
    let mut left = path;
    for _ in 0..segments {
        // As in the path that was judged, nothing between two slashes is no segment.
        let segment = left.trim_start_matches('/');
        left = &segment[segment.find('/').unwrap_or(segment.len())..];
    }
    left
}

/// Relative links of the first page need the slash.
fn redirect(uri: &http::Uri) -> Answer {
    let query = uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    if let Ok(location) = HeaderValue::from_str(&format!("{}/{query}", uri.path())) {
        answer.headers_mut().insert(LOCATION, location);
    }
    answer
}

fn unreachable(why: &str) -> Status {
    Status::service_unavailable(format!("error trying to reach service: {why}"))
}

fn strip(headers: &mut HeaderMap, keep_upgrade: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|n| n.trim().parse().ok())
        .collect();
    let upgrade = headers.get(UPGRADE).cloned().filter(|_| keep_upgrade && named.contains(&UPGRADE));
    for name in HOP_BY_HOP.iter().chain(&named) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    if let Some(upgrade) = upgrade {
        headers.insert(UPGRADE, upgrade);
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    }
}

/// A browser names its token among the protocols of a WebSocket: that one is between it and us.
fn hide_bearer(headers: &mut HeaderMap) {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|v| v.to_str().ok());
    let kept: Vec<&str> = offered
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|p| !p.is_empty() && !p.starts_with(WEB_SOCKET_BEARER))
        .collect();
    let kept = HeaderValue::from_str(&kept.join(", ")).ok().filter(|v| !v.is_empty());
    headers.remove(SEC_WEBSOCKET_PROTOCOL);
    if let Some(kept) = kept {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, kept);
    }
}

fn outgoing(request: Request<Incoming>, path: &str, way: &Way) -> Result<Request<Incoming>, Status> {
    let (mut parts, body) = request.into_parts();
    let bad = |e: &dyn std::fmt::Display| Status::bad_request(e.to_string());
    let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
    let forwarded = HeaderValue::from_str(parts.uri.path()).map_err(|e| bad(&e))?;
    let asked_host = parts.uri.host().map(String::from);
    let asked_host = parts.headers.get(HOST).cloned().or_else(|| asked_host?.parse().ok());
    parts.uri = format!("{path}{query}").parse().map_err(|e| bad(&e))?;
    parts.version = Version::HTTP_11;
    strip(&mut parts.headers, true);
    parts.headers.remove(AUTHORIZATION);
    let secret: Vec<HeaderName> = parts
        .headers
        .keys()
        .filter(|k| CREDENTIALS.iter().any(|c| k.as_str().starts_with(c)))
        .cloned()
        .collect();
    for name in secret {
        parts.headers.remove(name);
    }
    hide_bearer(&mut parts.headers);
    // A browser's pages are rewritten, so they must be readable.
    let wants_page = |v: &HeaderValue| v.to_str().is_ok_and(|v| v.contains("text/html"));
    if parts.headers.get_all(ACCEPT).iter().any(wants_page) {
        parts.headers.remove(ACCEPT_ENCODING);
    }
    parts.headers.insert(HOST, HeaderValue::from_str(&way.host).map_err(|e| bad(&e))?);
    parts.headers.insert("x-forwarded-uri", forwarded);
    parts.headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
    if let Some(host) = asked_host {
        parts.headers.insert("x-forwarded-host", host);
    }
    Ok(Request::from_parts(parts, body))
}

fn incoming(response: Response<Incoming>, root: Root) -> Answer {
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers, false);
    // What a pod says about origins is about its own; ours would be meant.
    let about_origins: Vec<HeaderName> =
        parts.headers.keys().filter(|k| k.as_str().starts_with("access-control-")).cloned().collect();
    for name in about_origins {
        parts.headers.remove(name);
    }
    let text = |name: HeaderName| parts.headers.get(name).and_then(|v| v.to_str().ok());
    let is_page = text(CONTENT_TYPE)
        .and_then(|t| t.split(';').next())
        .is_some_and(|t| t.trim().eq_ignore_ascii_case("text/html"))
        && !parts.headers.contains_key(CONTENT_ENCODING);
    let moved = text(LOCATION).map(|l| root.lead(l));
    parts.version = Version::default();
    if let Some(moved) = moved {
        if let Some(Ok(led)) = moved.as_deref().map(HeaderValue::from_str) {
            parts.headers.insert(LOCATION, led);
        }
    } else if is_page {
        parts.headers.remove(CONTENT_LENGTH);
        let body = Linked::new(body, Page::new(root));
        return Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync());
    }
    Response::from_parts(parts, body.map_err(std::io::Error::other).boxed_unsync())
}

/// Joins the two connections once both have switched.
fn switch(
    mut response: Response<Incoming>,
    ours: hyper::upgrade::OnUpgrade,
    closing: CancellationToken,
) -> Answer {
    let theirs = hyper::upgrade::on(&mut response);
    let headers = std::mem::take(response.headers_mut());
    tokio::spawn(async move {
        let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
        let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
        tokio::select! {
            done = tokio::io::copy_bidirectional(&mut ours, &mut theirs) => drop(done),
            () = closing.cancelled() => {}
        }
    });
    let mut answer = Response::new(whole(Bytes::new()));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}

impl Way {
    fn request(&self, namespace: &str) -> TunnelRequest {
        TunnelRequest::PortForward {
            namespace: namespace.to_string(),
            pod: self.pod.clone(),
            uid: self.uid.clone(),
            port: self.port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_path_is_handed_on_as_it_was_sent() {
        for (path, of_cluster, want) in [
            ("/api/v1/namespaces/n/pods/p/proxy", false, ""),
            ("/api/v1/namespaces/n/pods/p/proxy/", false, "/"),
            ("/api/v1/namespaces/n/pods/p:80/proxy/a%2Fb//c/", false, "/a%2Fb//c/"),
            ("/api/v1/nodes/x/proxy/metrics", true, "/metrics"),
            ("/api//v1/nodes/x/proxy//metrics", true, "//metrics"),
            ("/api", true, ""),
        ] {
            assert_eq!(rest(path, of_cluster), want);
        }
    }

    #[test]
    fn a_token_among_the_protocols_stays_here() {
        let mut headers = HeaderMap::new();
        headers.append(SEC_WEBSOCKET_PROTOCOL, format!("chat, {WEB_SOCKET_BEARER}c2VjcmV0").parse().unwrap());
        headers.append(SEC_WEBSOCKET_PROTOCOL, "talk".parse().unwrap());
        hide_bearer(&mut headers);
        assert_eq!(headers[SEC_WEBSOCKET_PROTOCOL], "chat, talk");
        headers.insert(SEC_WEBSOCKET_PROTOCOL, format!("{WEB_SOCKET_BEARER}c2VjcmV0").parse().unwrap());
        hide_bearer(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn what_concerns_one_connection_or_us_alone_is_not_handed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, "x-mine, Upgrade".parse().unwrap());
        headers.insert(UPGRADE, "websocket".parse().unwrap());
        headers.insert("x-mine", "1".parse().unwrap());
        headers.insert("x-yours", "1".parse().unwrap());
        let mut plain = headers.clone();
        strip(&mut plain, false);
        assert_eq!(plain.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-yours"]);
        strip(&mut headers, true);
        assert_eq!(
            (headers.len(), &headers[UPGRADE], &headers[CONNECTION]),
            (3, &"websocket".parse().unwrap(), &"Upgrade".parse().unwrap())
        );
    }
}
