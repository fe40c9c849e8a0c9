//! `nodes/<name>/proxy`: what an agent tells of itself, its machine's logs too. Nothing is dialled, so there is nothing that a
//! node's address could lead astray: the question goes down the agent's own session, and only to the paths that it knows.

use super::Asked;
use super::logs::{body, not_opened, open};
use crate::respond::{Answer, with_body};
use crate::state::State;
use ::bytes::BytesMut;
use http::header::{
    ALLOW, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LAST_MODIFIED, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request};
use hyper::body::Incoming;
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_kube::Status;
use stoa_streams::OpenError;
use stoa_streams::wire::{Channel, NodeHead, TunnelRequest};
use stoa_units::AgentId;

/// Bytes of one answer.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// Where clients look for a kubelet.
const KUBELET_PORT: &str = "10250";
/// How long an agent may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers that a node may set: the answer is under the server's name, so it may say nothing about anything else there.
const HEADERS: [HeaderName; 6] =
    [CONTENT_TYPE, CONTENT_LENGTH, LAST_MODIFIED, LOCATION, ALLOW, X_CONTENT_TYPE_OPTIONS];

/// Answers a question to a node.
pub(super) async fn answer(asked: Asked<'_>, request: &Request<Incoming>) -> Result<Answer, Status> {
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return Err(Status::method_not_allowed());
    }
    let name = agent_of(&asked.path.name)?;
    // A node that does not exist is not found, whoever holds a session under its name.
    asked.state.registry.get(stoa_registry::Target::new(asked.resource, "", name))?;
    let mut path = asked.path.rest.clone();
    // Links in a page are relative to where it is.
    if !path.is_empty() && request.uri().path().ends_with('/') {
        path.push('/');
    }
    let (method, query) =
        (request.method().to_string(), request.uri().query().unwrap_or_default().to_string());
    let mut tunnel =
        open(&asked, name, TunnelRequest::Node { path, method, query }).await.map_err(not_opened)?;
    let begun = tokio::time::timeout(ANSWER_TIMEOUT, begin(&mut tunnel)).await;
    let begun = begun.map_err(|_| Status::service_unavailable("the node did not answer in time"))?;
    let (head, first) = begun.ok_or_else(|| Status::internal("the node's answer broke off"))?;
    let body = body(first, tunnel, asked.state.closing.clone());
    let mut answer = with_body(head.code, "text/plain; charset=utf-8", body);
    answer.headers_mut().remove(CONTENT_TYPE);
    for name in HEADERS {
        let value = head.headers.get(name.as_str()).filter(|v| name != LOCATION || is_near(v));
        if let Some(value) = value.and_then(|v| HeaderValue::from_str(v).ok()) {
            answer.headers_mut().insert(name, value);
        }
    }
    Ok(answer)
}

/// Whether a redirect stays below the directory of what was asked, or beside it.
fn is_near(location: &str) -> bool {
    let path = location.split('?').next().unwrap_or_default();
    let (_, below) = path.split_once('/').unwrap_or(("", path));
    !path.starts_with('/') && !path.contains('\\') && !path.contains(':') && !below.contains("..")
}

/// The head of an agent's answer, and what came of its body so far.
async fn begin(tunnel: &mut stoa_streams::Tunnel) -> Option<(NodeHead, ::bytes::Bytes)> {
    let plain = || NodeHead { code: 200, headers: BTreeMap::new() };
    loop {
        let frame = tunnel.output.recv().await?;
        match frame.channel {
            Channel::Stderr => {
                return Some((serde_json::from_slice(&frame.payload).ok()?, ::bytes::Bytes::new()));
            }
            // An agent of before says nothing of its answer.
            Channel::Stdout => return Some((plain(), frame.payload)),
            Channel::Status => return Some((plain(), ::bytes::Bytes::new())),
            _ => {}
        }
    }
}

/// The node of `name`, `name:port` or `scheme:name:port`. Tools name the port of a kubelet; nothing else of a node is reached.
fn agent_of(name: &str) -> Result<&str, Status> {
    let (node, port) = match name.split(':').collect::<Vec<_>>()[..] {
        [node] => return Ok(node),
        [node, port] | ["" | "http" | "https", node, port] => (node, port),
        _ => return Err(Status::bad_request(format!("invalid node request {name:?}"))),
    };
    match port {
        "" | KUBELET_PORT => Ok(node),
        _ => Err(Status::bad_request(format!(
            "port {port} of node {node:?} is not the agent's, {KUBELET_PORT}"
        ))),
    }
}

async fn collect(tunnel: &mut stoa_streams::Tunnel) -> Option<::bytes::Bytes> {
    let mut whole = BytesMut::new();
    while let Some(frame) = tunnel.output.recv().await {
        match frame.channel {
            Channel::Stdout if whole.len() + frame.payload.len() > ANSWER_LEN_MAX => return None,
            Channel::Stdout => whole.extend_from_slice(&frame.payload),
            Channel::Status => return Some(whole.freeze()),
            _ => {}
        }
    }
    None
}

/// Reads something of a node for this server's own use; none where the node cannot be asked.
pub(super) async fn read(state: &State, node: &str, path: &str) -> Option<::bytes::Bytes> {
    let opener = state.opener.as_ref()?;
    let ask = async {
        let request =
            TunnelRequest::Node { path: path.to_string(), method: String::new(), query: String::new() };
        let mut tunnel: stoa_streams::Tunnel =
            match opener.open(&AgentId::from(node.to_string()), request).await {
                Ok(tunnel) => tunnel,
                Err(OpenError::NotConnected(_)) => return None,
                Err(error) => {
                    tracing::debug!(node, %error, "a node does not tell its figures");
                    return None;
                }
            };
        collect(&mut tunnel).await
    };
    tokio::time::timeout(ANSWER_TIMEOUT, ask).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_leads_nobody_away() {
        for near in ["./", "log/", "../syslog", "a/?x=http://y", "a%3Ab/"] {
            assert!(is_near(near), "{near}");
        }
        for far in ["/", "//evil", "http://evil", "javascript:x", "../../..", "a/../../b", "\\\\evil"] {
            assert!(!is_near(far), "{far}");
        }
    }

    #[test]
    fn a_node_is_named_with_a_kubelets_port_or_without() {
        for name in ["n", "n:10250", "n:", ":n:10250", "http:n:10250", "https:n:10250", "https:n:"] {
            assert_eq!(agent_of(name).unwrap(), "n", "{name}");
        }
        for name in ["n:22", "https:n:443", "ftp:n:10250", "a:b:c:d"] {
            assert_eq!(agent_of(name).unwrap_err().code, 400, "{name}");
        }
    }
}
