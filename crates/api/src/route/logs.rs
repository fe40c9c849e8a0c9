//! `pods/log`: a container's output, from its agent to the client as it comes.

use super::Asked;
use crate::respond::{Answer, bytes, whole, with_body};
use futures_util::stream;
use http::Request;
use http_body::Frame as BodyFrame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde_json::Value;
use stoa_kube::{Cause, Status, reason};
use stoa_streams::wire::{Channel, LogOptions, TunnelRequest};
use stoa_streams::{Kind, OpenError, Tunnel, is_upgrade, negotiate};
use stoa_units::AgentId;
use tokio_util::sync::CancellationToken;

/// Answers a read of a log.
pub(super) async fn answer(asked: Asked<'_>, mut incoming: Request<Incoming>) -> Result<Answer, Status> {
    let options = options(&asked)?;
    let pod = Pod::read(&asked)?;
    let container = pod.container(asked.info.query.text("container"))?;
    let node = pod.node()?;
    pod.check_started(&container, options.previous)?;
    let request = TunnelRequest::Logs {
        namespace: asked.path.namespace.clone(),
        pod: asked.path.name.clone(),
        uid: pod.uid(),
        container,
        options,
    };
    if is_upgrade(incoming.headers()) {
        return over_web_socket(&asked, &node, request, &mut incoming).await;
    }
    let tunnel = open(&asked, &node, request).await.map_err(not_opened)?;
    // A client that asks for a log gets it as plain text, whatever it says it accepts.
    first_byte(tunnel, asked.state.closing.clone()).await
}

async fn over_web_socket(
    asked: &Asked<'_>,
    node: &str,
    request: TunnelRequest,
    incoming: &mut Request<Incoming>,
) -> Result<Answer, Status> {
    let accepted = negotiate(incoming.method(), incoming.headers(), Kind::Logs)
        .map_err(|e| Status::failure(e.code, reason::BAD_REQUEST, e.message))?;
    let tunnel = open(asked, node, request).await.map_err(not_opened)?;
    let (head, upgrade) = (accepted.response(), hyper::upgrade::on(incoming));
    let closing = asked.state.closing.clone();
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        tokio::select! {
            () = accepted.serve_logs(upgraded, tunnel) => {}
            () = closing.cancelled() => {}
        }
    });
    Ok(head.map(|()| whole(bytes::Bytes::new())))
}

/// Opens a tunnel to the agent of a node.
pub(super) async fn open(asked: &Asked<'_>, node: &str, request: TunnelRequest) -> Result<Tunnel, OpenError> {
    let agent = AgentId::from(node);
    match &asked.state.opener {
        Some(opener) => opener.open(&agent, request).await,
        None => Err(OpenError::NotConnected(agent)),
    }
}

/// What a client is told of a tunnel that was not opened.
pub(super) fn not_opened(e: OpenError) -> Status {
    match e {
        OpenError::Refused { code: 404, message } => Status::failure(404, reason::NOT_FOUND, message),
        OpenError::Refused { code, message } if (400..500).contains(&code) => {
            Status::failure(code, reason::BAD_REQUEST, message)
        }
        OpenError::Refused { message, .. } => Status::internal(message),
        e @ (OpenError::NotConnected(_) | OpenError::Broken(_)) => Status::service_unavailable(e.to_string()),
    }
}

/// Waits for the agent's first word: an error before any output is still an answer of its own.
async fn first_byte(mut tunnel: Tunnel, closing: CancellationToken) -> Result<Answer, Status> {
    loop {
        match tunnel.output.recv().await {
            None => return Ok(bytes(200, "text/plain", "")),
            Some(frame) => match frame.channel {
                Channel::Stdout | Channel::Stderr => {
                    let body = body(frame.payload, tunnel, closing);
                    return Ok(with_body(200, "text/plain", body));
                }
                Channel::Status => {
                    return match failure(&frame.payload) {
                        Some(status) => Err(status),
                        None => Ok(bytes(200, "text/plain", "")),
                    };
                }
                _ => {}
            },
        }
    }
}

fn failure(payload: &[u8]) -> Option<Status> {
    let status: Status = serde_json::from_slice(payload).ok()?;
    (status.status == stoa_kube::Outcome::Failure).then_some(status)
}

/// What an agent sends, as it comes.
pub(super) fn body(first: bytes::Bytes, tunnel: Tunnel, closing: CancellationToken) -> crate::respond::Body {
    let state = (Some(first), tunnel, closing);
    let frames = stream::unfold(state, |(first, mut tunnel, closing)| async move {
        if let Some(first) = first {
            return Some((Ok(BodyFrame::data(first)), (None, tunnel, closing)));
        }
        loop {
            let frame = tokio::select! {
                frame = tunnel.output.recv() => frame?,
                () = closing.cancelled() => return None,
            };
            match frame.channel {
                Channel::Stdout | Channel::Stderr => {
                    return Some((Ok(BodyFrame::data(frame.payload)), (None, tunnel, closing)));
                }
                Channel::Status => return None,
                _ => {}
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

/// What of the log is wanted. First everything has to be readable, one field after the other, and then all of it right.
fn options(asked: &Asked<'_>) -> Result<LogOptions, Status> {
    let q = &asked.info.query;
    let since_seconds = q.number("sinceSeconds")?;
    let since_time = q.time("sinceTime")?;
    let (tail_lines, limit_bytes) = (q.number("tailLines")?, q.number("limitBytes")?);
    let mut causes = Vec::new();
    let mut natural = |name: &str, value: Option<i64>, least: i64| {
        let value = value?;
        if value < least {
            let detail =
                if least == 0 { "must be greater than or equal to 0" } else { "must be greater than 0" };
            causes.push(Cause::invalid(name, value, detail));
        }
        Some(value.unsigned_abs())
    };
    let tail_lines = natural("tailLines", tail_lines, 0);
    let limit_bytes = natural("limitBytes", limit_bytes, 1);
    let since_seconds = match since_time {
        None => natural("sinceSeconds", since_seconds, 1),
        Some(_) => since_seconds.map(i64::unsigned_abs),
    };
    if since_time.is_some() && since_seconds.is_some() {
        causes.push(Cause::forbidden("[]", "at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    if q.get("stream").is_some() {
        causes.push(Cause::forbidden("stream", "may not be specified"));
    }
    if !causes.is_empty() {
        return Err(Status::invalid("PodLogOptions", "", &asked.path.name, causes));
    }
    Ok(LogOptions {
        follow: q.is_true("follow"),
        previous: q.is_true("previous"),
        timestamps: q.is_true("timestamps"),
        tail_lines,
        since_seconds,
        since_time: since_time.flatten(),
        limit_bytes,
        stream: None,
    })
}

/// A pod that something is asked of.
pub(super) struct Pod(Value, String);

impl Pod {
    pub(super) fn read(asked: &Asked<'_>) -> Result<Pod, Status> {
        let entry = asked.state.registry.get(asked.target())?;
        let value = serde_json::from_slice(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Pod(value, asked.path.name.clone()))
    }

    pub(super) fn uid(&self) -> String {
        self.0["metadata"]["uid"].as_str().unwrap_or_default().to_string()
    }

    /// The node that the pod runs on.
    pub(super) fn node(&self) -> Result<String, Status> {
        match self.0["spec"]["nodeName"].as_str().unwrap_or_default() {
            "" => Err(Status::bad_request(format!("pod {} does not have a host assigned", self.1))),
            node => Ok(node.to_string()),
        }
    }

    fn names(&self, list: &str) -> Vec<&str> {
        let list = self.0["spec"][list].as_array().into_iter().flatten();
        list.filter_map(|c| c["name"].as_str()).collect()
    }

    /// The container asked for, or the only one beside those that run before it or for debugging.
    pub(super) fn container(&self, asked: &str) -> Result<String, Status> {
        let (pod, main) = (&self.1, self.names("containers"));
        let (init, debug) = (self.names("initContainers"), self.names("ephemeralContainers"));
        if !asked.is_empty() {
            let known = main.iter().chain(&init).chain(&debug).any(|n| *n == asked);
            return match known {
                true => Ok(asked.to_string()),
                false => Err(Status::bad_request(format!("container {asked} is not valid for pod {pod}"))),
            };
        }
        if let [one] = main.as_slice() {
            return Ok((*one).to_string());
        }
        let mut why =
            format!("a container name must be specified for pod {pod}, choose one of: [{}]", main.join(" "));
        for (kind, names) in [("init", init), ("debug", debug)] {
            if !names.is_empty() {
                why.push_str(&format!(" or one of the {kind} containers: [{}]", names.join(" ")));
            }
        }
        Err(Status::bad_request(why))
    }

    fn container_status(&self, name: &str) -> &Value {
        let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        let all = lists.iter().filter_map(|l| self.0["status"][*l].as_array()).flatten();
        all.into_iter().find(|c| c["name"] == name).unwrap_or(&Value::Null)
    }

    /// A container that has never run has no log.
    fn check_started(&self, container: &str, previous: bool) -> Result<(), Status> {
        let (pod, status) = (&self.1, self.container_status(container));
        if previous {
            return match status["lastState"]["terminated"].is_object()
                || status["restartCount"].as_i64() > Some(0)
            {
                true => Ok(()),
                false => Err(Status::bad_request(format!(
                    "previous terminated container {container:?} in pod {pod:?} not found"
                ))),
            };
        }
        let waiting = &status["state"]["waiting"];
        let ran = status["restartCount"].as_i64() > Some(0) || status["lastState"]["terminated"].is_object();
        if waiting.is_object() && !ran {
            let why = match waiting["reason"].as_str().unwrap_or("ContainerCreating") {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                reason => reason,
            };
            return Err(Status::bad_request(format!(
                "container {container:?} in pod {pod:?} is waiting to start: {why}"
            )));
        }
        if status.is_null() {
            return Err(Status::bad_request(format!(
                "container {container:?} in pod {pod:?} is waiting to start: ContainerCreating"
            )));
        }
        Ok(())
    }
}
