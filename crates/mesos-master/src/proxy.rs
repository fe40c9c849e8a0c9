//! `/slave/<agent>/…`: an agent's own API, through the tunnel of its session. Here it is found out who asks; the agent, which
//! knows whose task is whose, is told which of the ACLs are about them and judges each task by those.

use crate::master::Master;
use crate::respond::{Body, text};
use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame as BodyFrame, Incoming};
use std::convert::Infallible;
use stoa_authz::Action;
use stoa_streams::wire::{Channel, Frame, TunnelRequest};
use stoa_streams::{OpenError, Opener, Tunnel};
use stoa_units::AgentId;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes between the HTTP client and the tunnel.
const BUFFER_LEN: usize = 64 << 10;

/// The agent and the rest of a path that leads to an agent.
pub(crate) fn split(path: &str) -> Option<(AgentId, String)> {
    let path = path.strip_prefix("/master").filter(|p| p.starts_with('/')).unwrap_or(path);
    let rest = path.strip_prefix("/slave/").or_else(|| path.strip_prefix("/agent/"))?;
    let (agent, inner) = rest.split_once('/').unwrap_or((rest, ""));
    (!agent.is_empty()).then(|| (AgentId::from(agent), format!("/{inner}")))
}

/// What an agent judges.
const ACTIONS: [Action; 23] = [
    Action::AccessMesosLog,
    Action::AccessSandbox,
    Action::AttachContainerInput,
    Action::AttachContainerOutput,
    Action::GetEndpoint,
    Action::KillNestedContainer,
    Action::KillStandaloneContainer,
    Action::LaunchNestedContainer,
    Action::LaunchNestedContainerSession,
    Action::LaunchStandaloneContainer,
    Action::PruneImages,
    Action::RemoveNestedContainer,
    Action::RemoveStandaloneContainer,
    Action::SetLogLevel,
    Action::ViewContainer,
    Action::ViewExecutor,
    Action::ViewFlags,
    Action::ViewFramework,
    Action::ViewRole,
    Action::ViewStandaloneContainer,
    Action::ViewTask,
    Action::WaitNestedContainer,
    Action::WaitStandaloneContainer,
];
/// Most that an agent is told of ACLs with one connection.
const ACLS_LEN_MAX: usize = 128 << 10;

impl Master {
    /// Passes a request on, body by body.
    pub async fn proxy(
        &self,
        agent: &AgentId,
        inner: &str,
        principal: Option<&str>,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let acls = self.options.acls.slice(principal, &ACTIONS).to_string();
        if acls.len() > ACLS_LEN_MAX {
            return text(StatusCode::FORBIDDEN, "The ACLs about this principal are too long for an agent");
        }
        if !self.state.lock().agents.contains_key(agent) {
            return text(StatusCode::NOT_FOUND, format!("No agent {agent}"));
        }
        let Some(opener) = self.opener.get() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "This master reaches no agents");
        };
        match self.pass(opener.as_ref(), agent, inner, acls, request).await {
            Ok(response) => response,
            Err(why) => text(StatusCode::BAD_GATEWAY, why),
        }
    }

    async fn pass(
        &self,
        opener: &dyn Opener,
        agent: &AgentId,
        inner: &str,
        acls: String,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, String> {
        let opened = opener.open(agent, TunnelRequest::MesosApi { acls }).await;
        let tunnel = opened.map_err(|e: OpenError| e.to_string())?;
        let (near, far) = tokio::io::duplex(BUFFER_LEN);
        tokio::spawn(carry(tunnel, far));
        let io = hyper_util::rt::TokioIo::new(near);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().map(|q| format!("?{q}")).unwrap_or_default();
        let uri: Uri = format!("{inner}{query}").parse().map_err(|e| format!("not a path: {e}"))?;
        let mut inside = Request::builder().method(parts.method).uri(uri).header(header::HOST, "agent");
        for (name, value) in &parts.headers {
            // The agent trusts the master, not what was shown to it.
            let is_ours =
                matches!(*name, header::HOST | header::AUTHORIZATION | header::CONNECTION | header::COOKIE);
            if !is_ours {
                inside = inside.header(name, value);
            }
        }
        let inside = inside.body(body).map_err(|e| e.to_string())?;
        let (mut head, body) = sender.send_request(inside).await.map_err(|e| e.to_string())?.into_parts();
        head.headers.remove(header::CONNECTION);
        Ok(Response::from_parts(head, passed(body)))
    }
}

/// The agent's answer; one that breaks off ends.
fn passed(body: Incoming) -> Body {
    let frames = futures_util::stream::unfold(Some(body), |body| async move {
        let mut body = body?;
        loop {
            let frame = body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                return Some((Ok::<_, Infallible>(BodyFrame::data(data)), Some(body)));
            }
        }
    });
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

/// Moves bytes between a tunnel and whoever speaks HTTP over it.
async fn carry(tunnel: Tunnel, far: impl AsyncRead + AsyncWrite) {
    let Tunnel { input, mut output } = tunnel;
    let (mut read, mut write) = tokio::io::split(far);
    let towards = async {
        let mut chunk = vec![0; BUFFER_LEN / 2];
        loop {
            match read.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    let frame = Frame::new(Channel::Stdin, Bytes::copy_from_slice(&chunk[..n]));
                    if input.send(frame).await.is_err() {
                        return;
                    }
                }
            }
        }
    };
    let back = async {
        while let Some(frame) = output.recv().await {
            if frame.channel == Channel::Stdout && write.write_all(&frame.payload).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = towards => {}
        () = back => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_agent() {
        for (path, want) in [
            ("/slave/n1/files/read", Some(("n1", "/files/read"))),
            ("/agent/n1/state", Some(("n1", "/state"))),
            ("/master/slave/n1", Some(("n1", "/"))),
            ("/slave/", None),
            ("/slaves", None),
            ("/slave(1)/state", None),
        ] {
            let found = split(path);
            let found = found.as_ref().map(|(a, p)| (a.as_str(), p.as_str()));
            assert_eq!(found, want, "{path}");
        }
    }
}
