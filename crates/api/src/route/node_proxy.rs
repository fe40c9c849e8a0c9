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
/// How long an agent may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers a read.
pub(super) async fn answer(asked: Asked<'_>) -> Result<Answer, Status> {
    if asked.info.verb != "get" {
        return Err(Status::method_not_allowed());
    }
    // A node that does not exist is not found, whoever holds a session under its name.
    asked.state.registry.get(stoa_registry::Target::new(asked.resource, "", &asked.path.name))?;
    let path = asked.path.rest.clone();
    let media_type = match path.as_str() {
        "stats/summary" | "pods" | "configz" => "application/json",
        p if p.starts_with("metrics") => "text/plain; version=0.0.4; charset=utf-8",
        _ => "text/plain; charset=utf-8",
    };
    let mut tunnel = open(&asked, &asked.path.name, TunnelRequest::Node { path }).await?;
    let whole = tokio::time::timeout(ANSWER_TIMEOUT, collect(&mut tunnel)).await;
    let whole = whole.map_err(|_| Status::service_unavailable("the node did not answer in time"))?;
    Ok(bytes(200, media_type, whole.ok_or_else(|| Status::internal("the node's answer broke off"))?))
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
