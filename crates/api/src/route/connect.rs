//! `pods/exec`, `pods/attach` and `pods/portforward`: a connection that becomes a tunnel to the pod's agent.

use super::Asked;
use super::logs::{Pod, not_opened, open};
use crate::authz;
use crate::respond::{self, Answer, whole};
use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use std::sync::Arc;
use stoa_authz::Attributes;
use stoa_kube::{Status, reason};
use stoa_streams::wire::TunnelRequest;
use stoa_streams::{Accepted, Kind, OpenError, Refused, Wants, negotiate};
use stoa_units::AgentId;

/// Arguments of one command.
const COMMAND_LEN_MAX: usize = 4096;

/// Answers a request for a tunnel.
pub(super) async fn answer(asked: Asked<'_>, mut request: Request<Incoming>) -> Result<Answer, Status> {
    may_create(&asked)?;
    let kind = match asked.path.subresource.as_str() {
        "exec" => Kind::Exec,
        "attach" => Kind::Attach,
        _ => Kind::PortForward,
    };
    let pod = Pod::read(&asked)?;
    let node = pod.node()?;
    let accepted = negotiate(request.method(), request.headers(), kind).map_err(refused)?;
    let head = accepted.response();
    let upgrade = hyper::upgrade::on(&mut request);
    let closing = asked.state.closing.clone();
    match kind {
        Kind::PortForward => forward(&asked, &pod, AgentId::from(node), accepted, upgrade)?,
        _ => {
            let wants = wants(&asked);
            let tunnel = match open(&asked, &node, command(&asked, &pod, kind, wants)?).await {
                Ok(tunnel) => tunnel,
                // Clients show a text that is no `Status` as why there was no upgrade.
                Err(OpenError::Refused { code, message }) if (400..500).contains(&code) => {
                    return Ok(respond::text(code, message));
                }
                Err(error) => return Err(not_opened(error)),
            };
            tokio::spawn(async move {
                let Ok(upgraded) = upgrade.await else { return };
                tokio::select! {
                    () = accepted.serve_command(upgraded, tunnel, wants) => {}
                    () = closing.cancelled() => {}
                }
            });
        }
    }
    Ok(head.map(|()| whole(Bytes::new())))
}

/// A WebSocket can only be asked for with `GET`; to run a command takes the permission to create one all the same.
fn may_create(asked: &Asked<'_>) -> Result<(), Status> {
    let path = asked.path;
    let attributes = Attributes::resource("create", &path.group, &path.resource, &path.namespace, &path.name);
    authz::ask(&asked.state, &asked.user, &attributes.with_subresource(&path.subresource))
}

fn refused(e: Refused) -> Status {
    Status::failure(e.code, reason::BAD_REQUEST, e.message)
}

fn wants(asked: &Asked<'_>) -> Wants {
    let q = &asked.info.query;
    let (stdin, stdout, tty) = (q.is_true("stdin"), q.is_true("stdout"), q.is_true("tty"));
    // A terminal has one output.
    Wants { stdin, stdout, stderr: q.is_true("stderr") && !tty, tty }
}

fn command(asked: &Asked<'_>, pod: &Pod, kind: Kind, wants: Wants) -> Result<TunnelRequest, Status> {
    let q = &asked.info.query;
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err(Status::bad_request("you must specify at least one of stdin, stdout, stderr"));
    }
    let container = pod.container(q.text("container"))?;
    let (namespace, name) = (asked.path.namespace.clone(), asked.path.name.clone());
    let Wants { stdin, stdout, stderr, tty } = wants;
    if kind == Kind::Attach {
        return Ok(TunnelRequest::Attach {
            namespace,
            pod: name,
            uid: pod.uid(),
            container,
            stdin,
            stdout,
            stderr,
            tty,
        });
    }
    let command: Vec<String> = q.all("command").take(COMMAND_LEN_MAX).map(str::to_string).collect();
    if command.is_empty() {
        return Err(Status::bad_request("you must specify at least 1 command for the container"));
    }
    Ok(TunnelRequest::Exec {
        namespace,
        pod: name,
        uid: pod.uid(),
        container,
        command,
        stdin,
        stdout,
        stderr,
        tty,
    })
}

fn forward(
    asked: &Asked<'_>,
    pod: &Pod,
    agent: AgentId,
    accepted: Accepted,
    upgrade: hyper::upgrade::OnUpgrade,
) -> Result<(), Status> {
    let opener = asked.state.opener.clone();
    let opener = opener.ok_or_else(|| Status::service_unavailable("this server has no agents"))?;
    let ports: Result<Vec<u16>, _> =
        asked.info.query.all("ports").flat_map(|p| p.split(',')).map(str::parse).collect();
    let ports = ports.map_err(|_| Status::bad_request("ports must be numbers from 1 to 65535"))?;
    let (namespace, name, uid) = (asked.path.namespace.clone(), asked.path.name.clone(), pod.uid());
    let request = Arc::new(move |port: u16| TunnelRequest::PortForward {
        namespace: namespace.clone(),
        pod: name.clone(),
        uid: uid.clone(),
        port,
    });
    let closing = asked.state.closing.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        tokio::select! {
            () = accepted.serve_ports(upgraded, opener, agent, request, &ports) => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(())
}
