//! `nodes/<name>/proxy`: what an agent tells of itself. Nothing is dialled, so there is nothing that a node's address could
//! lead astray: the question goes down the agent's own session, and only to the paths that it knows.

use super::Asked;
use super::logs::open;
use crate::respond::{Answer, bytes};
use crate::state::State;
use ::bytes::BytesMut;
use std::time::Duration;
use stoa_kube::Status;
use stoa_streams::OpenError;
use stoa_streams::wire::{Channel, TunnelRequest};
use stoa_units::AgentId;

/// Bytes of one answer.
const ANSWER_LEN_MAX: usize = 64 << 20;
/// Where clients look for a kubelet.
const KUBELET_PORT: &str = "10250";
/// How long an agent may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a read.
pub(super) async fn answer(asked: Asked<'_>) -> Result<Answer, Status> {
    if asked.info.verb != "get" {
        return Err(Status::method_not_allowed());
    }
    let name = agent_of(&asked.path.name)?;
    // A node that does not exist is not found, whoever holds a session under its name.
    asked.state.registry.get(stoa_registry::Target::new(asked.resource, "", name))?;
    let path = asked.path.rest.clone();
    let media_type = match path.as_str() {
        "stats/summary" | "pods" | "configz" => "application/json",
        p if p.starts_with("metrics") => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let mut tunnel = open(&asked, name, TunnelRequest::Node { path }).await?;
    let whole = tokio::time::timeout(ANSWER_TIMEOUT, collect(&mut tunnel)).await;
    let whole = whole.map_err(|_| Status::service_unavailable("the node did not answer in time"))?;
    Ok(bytes(200, media_type, whole.ok_or_else(|| Status::internal("the node's answer broke off"))?))
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
        let request = TunnelRequest::Node { path: path.to_string() };
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
    fn a_node_is_named_with_a_kubelets_port_or_without() {
        for name in ["n", "n:10250", "n:", ":n:10250", "http:n:10250", "https:n:10250", "https:n:"] {
            assert_eq!(agent_of(name).unwrap(), "n", "{name}");
        }
        for name in ["n:22", "https:n:443", "ftp:n:10250", "a:b:c:d"] {
            assert_eq!(agent_of(name).unwrap_err().code, 400, "{name}");
        }
    }
}
