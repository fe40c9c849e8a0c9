//! One session's HTTP stream: packets in from the request's body, packets out in the answer's.

use crate::hub::{Item, Session};
use crate::options::OCCURRENCES_LEN_MAX;
use crate::service::Inner;
use crate::statuses::Statuses;
use crate::{mirror, nodes, occurrence};
use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::{Status, resources};
use stoa_registry::{Context, Target};
use stoa_store::{Entry, Key, Revision};
use stoa_streams::Body;
use stoa_wire::{Down, NodeReport, NodeTaint, Occurrence, PROTOCOL, Packet, PacketError, PodRef, Up};
use tokio::sync::mpsc;

/// How long an agent may take to say hello.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the stamps of a node's conditions have become old.
const STAMPS_EVERY: Duration = Duration::from_secs(60);
/// Packets that may wait in the answer's body; the rest waits as marks.
const PACKETS_LEN_MAX: usize = 16;

/// A short answer in words.
pub(crate) fn plain(code: StatusCode, text: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|e| match e {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response
}

/// Reads packets off a body.
struct Packets {
    body: Incoming,
    rest: BytesMut,
}

impl Packets {
    /// The next packet; `None` when the agent is gone.
    async fn next(&mut self) -> Result<Option<Packet<Up>>, PacketError> {
        loop {
            if let Some(packet) = Packet::decode(&mut self.rest)? {
                return Ok(Some(packet));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.rest.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

type Chunk = Result<BodyFrame<Bytes>, std::io::Error>;

/// Serves one session: answers once the agent has said a proper hello, then goes on in the background.
pub(crate) async fn serve(inner: Arc<Inner>, node: String, body: Incoming) -> Response<Body> {
    let mut packets = Packets { body, rest: BytesMut::new() };
    let hello = tokio::time::timeout(HELLO_WAIT, packets.next()).await;
    let report = match hello {
        Ok(Ok(Some(Packet { head: Up::Hello { protocol, node: named, report, .. }, .. }))) => {
            if protocol != PROTOCOL {
                return plain(
                    StatusCode::BAD_REQUEST,
                    &format!("this master speaks protocol {PROTOCOL}, not {protocol}"),
                );
            }
            if named != node {
                return plain(
                    StatusCode::FORBIDDEN,
                    &format!("the certificate is that of node {node}, not {named}"),
                );
            }
            report
        }
        Ok(Ok(_)) => return plain(StatusCode::BAD_REQUEST, "a session begins with a hello"),
        Ok(Err(e)) => return plain(StatusCode::BAD_REQUEST, &e.to_string()),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "no hello came"),
    };
    let registered = {
        let _turn = inner.registering.lock().await;
        let registered = nodes::register(&inner.registry, &inner.options, &node, &report).await;
        if registered.is_ok() {
            inner.found(&node);
        }
        registered
    };
    let pod_cidr = match registered {
        Ok(cidr) => cidr,
        Err(e) => {
            tracing::warn!(node, error = %e.message, "a node could not be registered");
            return plain(StatusCode::SERVICE_UNAVAILABLE, &e.message);
        }
    };
    let Ok((session, replies)) = inner.hub.connect(&node) else {
        inner.lost(&node);
        return plain(StatusCode::SERVICE_UNAVAILABLE, "this master serves too many agents");
    };
    tracing::info!(node, session = session.id, "an agent is connected");
    let (sender, mut chunks) = mpsc::channel::<Chunk>(PACKETS_LEN_MAX);
    let welcome = welcome(&inner, pod_cidr);
    let reports = tokio::sync::watch::Sender::new(*report);
    tokio::spawn(run(inner, session, packets, replies, sender, welcome, reports));
    let stream = crate::tunnel::async_stream(move |cx| chunks.poll_recv(cx));
    Response::new(StreamBody::new(stream).boxed_unsync())
}

fn welcome(inner: &Inner, pod_cidr: String) -> Packet<Down> {
    let o = &inner.options;
    Packet::bare(Down::Welcome {
        cluster: o.cluster_id.clone(),
        pod_cidr,
        cluster_cidr: o.cluster_cidr.clone(),
        service_cidr: o.service_cidr.clone(),
        dns: o.dns.clone(),
        domain: o.domain.clone(),
        api_host: o.api_host.clone(),
        api_port: o.api_port,
    })
}

/// A session's life: whichever of its parts ends first ends it.
async fn run(
    inner: Arc<Inner>,
    session: Arc<Session>,
    packets: Packets,
    replies: mpsc::Receiver<Packet<Down>>,
    sender: mpsc::Sender<Chunk>,
    welcome: Packet<Down>,
    reports: tokio::sync::watch::Sender<NodeReport>,
) {
    let statuses = Statuses::default();
    let (occurrences, occurred) = mpsc::channel(OCCURRENCES_LEN_MAX);
    let mut closed = session.closed.subscribe();
    let why = tokio::select! {
        why = read(&inner, &session, packets, &statuses, &occurrences, &reports) => why,
        why = write(&inner, &session, replies, sender, welcome) => why,
        () = statuses.write_all(&inner.registry, &inner.hub, &session.node) => "its statuses end".to_string(),
        () = write_occurrences(&inner, &session.node, occurred) => "its events end".to_string(),
        () = write_reports(&inner, &session, reports.subscribe()) => "its reports end".to_string(),
        _ = closed.wait_for(|c| *c) => "another session took its place".to_string(),
        () = inner.stopping.cancelled() => "the master stops".to_string(),
    };
    tracing::info!(node = session.node, session = session.id, why, "an agent is disconnected");
    if inner.hub.disconnect(&session) {
        inner.lost(&session.node);
    }
}

async fn write_occurrences(inner: &Inner, node: &str, mut occurred: mpsc::Receiver<Occurrence>) {
    while let Some(mut o) = occurred.recv().await {
        // What is told of a mirror is about the pod that it shows: by that one's uid clients look for it.
        if let Some(pod) = &mut o.pod
            && let Some(edition) = mirror::edition(&inner.registry, node, pod)
        {
            pod.uid = edition;
        }
        if let Err(e) = occurrence::write(&inner.registry, node, &o).await {
            tracing::debug!(node, error = %e.message, "an event was refused");
        }
    }
}

async fn write_reports(
    inner: &Inner,
    session: &Session,
    mut reports: tokio::sync::watch::Receiver<NodeReport>,
) {
    let node = &session.node;
    loop {
        tokio::select! {
            changed = reports.changed() => if changed.is_err() {
                return;
            },
            () = session.retell.notified() => {}
            // With nothing new to tell, that it still is so.
            () = tokio::time::sleep(STAMPS_EVERY) => {}
        }
        let report = reports.borrow_and_update().clone();
        if let Err(e) = nodes::write_report(&inner.registry, node, &report).await {
            tracing::warn!(node, error = %e.message, "a node's report was refused");
        }
    }
}

/// Takes in what the agent sends; returns why it ended.
async fn read(
    inner: &Inner,
    session: &Session,
    mut packets: Packets,
    statuses: &Statuses,
    occurrences: &mpsc::Sender<Occurrence>,
    reports: &tokio::sync::watch::Sender<NodeReport>,
) -> String {
    loop {
        let packet = match packets.next().await {
            Ok(Some(packet)) => packet,
            Ok(None) => return "the agent is gone".to_string(),
            Err(e) => return e.to_string(),
        };
        let taken = match packet.head {
            Up::Hello { .. } => return "it said hello twice".to_string(),
            Up::Node { report } => {
                reports.send_replace(*report);
                Ok(())
            }
            Up::Status { pod, passing: false } => statuses.set(pod, packet.object),
            Up::Status { pod, passing: true } => statuses.set_passing(pod, packet.object),
            Up::Stopped { pod } => statuses.stopped(pod),
            Up::Mirror { pod } => {
                let shown = mirror::show(&inner.registry, &session.node, &pod, &packet.object).await;
                note_mirror(&session.node, &pod, shown)
            }
            Up::MirrorGone { pod } => {
                let hidden = mirror::hide(&inner.registry, &session.node, &pod).await;
                note_mirror(&session.node, &pod, hidden)
            }
            Up::Event { occurrence } => {
                let own = occurrence.pod.as_ref().is_none_or(|p| inner.hub.is_bound(&session.node, p));
                if own && occurrences.try_send(*occurrence).is_err() {
                    tracing::debug!(
                        node = session.node,
                        "events come faster than they are written; one was dropped"
                    );
                }
                Ok(())
            }
            Up::Token { request, pod, service_account, audiences, expiration_seconds } => {
                let answer =
                    token(inner, &session.node, &pod, &service_account, &audiences, expiration_seconds);
                let answer = match answer {
                    Ok((token, expires)) => Down::Token { request, token, expires },
                    Err(message) => Down::TokenRefused { request, message },
                };
                if session.replies.send(Packet::bare(answer)).await.is_err() {
                    return "its answers end".to_string();
                }
                Ok(())
            }
            Up::TunnelRefused { id, code, message } => {
                inner.tunnels.refuse(id, &session.node, code, message);
                Ok(())
            }
        };
        if let Err(e) = taken {
            return e.to_string();
        }
    }
}

/// A mirror that cannot be written does not end the session: the pod runs all the same.
fn note_mirror(
    node: &str,
    pod: &PodRef,
    written: Result<(), Status>,
) -> Result<(), crate::statuses::TooMany> {
    if let Err(e) = written {
        tracing::warn!(node, pod = %pod.name, error = %e.message, "a mirror cannot be written");
    }
    Ok(())
}

/// A token for a pod's volume: only for the account of a pod that runs on that very node.
fn token(
    inner: &Inner,
    node: &str,
    pod: &PodRef,
    account: &str,
    audiences: &[String],
    seconds: u64,
) -> Result<(String, String), String> {
    if !inner.hub.uses_account(node, pod, account) {
        return Err(format!("pod {}/{} does not run here under {account}", pod.namespace, pod.name));
    }
    let resource = resources().find("", "v1", "serviceaccounts").ok_or("service accounts are unknown")?;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {
        "audiences": audiences, "expirationSeconds": seconds,
        "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": pod.name, "uid": pod.uid}}});
    let target = Target::new(resource, &pod.namespace, account).sub("token");
    let (answer, _) = inner
        .registry
        .create_token(&Context::system("session"), target, request)
        .map_err(|e: Status| e.message.clone())?;
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    Ok((text(&answer["status"]["token"]), text(&answer["status"]["expirationTimestamp"])))
}

/// Sends what the agent does not know; returns why it ended.
async fn write(
    inner: &Inner,
    session: &Session,
    mut replies: mpsc::Receiver<Packet<Down>>,
    sender: mpsc::Sender<Chunk>,
    welcome: Packet<Down>,
) -> String {
    let mut next = Some(welcome);
    let mut said = Said::default();
    loop {
        let packet = match next.take() {
            Some(packet) => packet,
            None => tokio::select! {
                biased;
                reply = replies.recv() => match reply {
                    Some(packet) => packet,
                    None => return "its answers end".to_string(),
                },
                item = take(session) => describe(inner, &session.node, &mut said, item),
            },
        };
        let (head, object) = match packet.encode() {
            Ok(parts) => parts,
            Err(e) => {
                tracing::warn!(node = session.node, error = %e, "an object is too large for an agent");
                continue;
            }
        };
        for part in [head, object].into_iter().filter(|p| !p.is_empty()) {
            if sender.send(Ok(BodyFrame::data(part))).await.is_err() {
                return "the connection is closed".to_string();
            }
        }
    }
}

async fn take(session: &Session) -> Item {
    loop {
        if let Some(item) = session.take() {
            return item;
        }
        session.wake.notified().await;
    }
}

/// What an agent judges by whether a pod belongs on its node.
#[derive(Clone, Debug, Default, PartialEq)]
struct Marks {
    labels: BTreeMap<String, String>,
    /// Those that let nobody run who does not tolerate them.
    taints: Vec<NodeTaint>,
}

impl Marks {
    fn read(node: &Value) -> Marks {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let labels = node["metadata"]["labels"].as_object().into_iter().flatten();
        let taints = node["spec"]["taints"].as_array().into_iter().flatten();
        Marks {
            labels: labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
            taints: taints
                .filter(|t| t["effect"] == "NoExecute")
                .map(|t| NodeTaint { key: text(&t["key"]), value: text(&t["value"]) })
                .collect(),
        }
    }
}

/// The marks of its node that an agent knows from this session, and the revision of the node that they were read from.
#[derive(Default)]
struct Said {
    at: Revision,
    marks: Option<Marks>,
}

impl Said {
    /// The node's marks if they are not those that were said. Read at the moment of sending, so that a pod never comes
    /// before a label that was set before it was bound.
    fn renew(&mut self, node: Option<Entry>) -> Option<Marks> {
        let node = node.filter(|n| n.modified != self.at)?;
        self.at = node.modified;
        let marks = Marks::read(&serde_json::from_slice(&node.value).ok()?);
        if self.marks.as_ref() == Some(&marks) {
            return None;
        }
        self.marks = Some(marks.clone());
        Some(marks)
    }
}

/// The state of a thing as it is now, with the store's own bytes.
fn describe(inner: &Inner, node: &str, said: &mut Said, item: Item) -> Packet<Down> {
    let store = inner.registry.store();
    match item {
        Item::Synced => Packet::bare(Down::Synced),
        Item::Pod(pod) => {
            let entry = store.get(&Key::object("", "pods", &pod.namespace, &pod.name));
            let own = entry.filter(|e| {
                let object: Option<Value> = serde_json::from_slice(&e.value).ok();
                object.is_some_and(|o| {
                    o["metadata"]["uid"] == pod.uid.as_str() && o["spec"]["nodeName"] == node
                })
            });
            match own {
                Some(entry) => {
                    let marks = said.renew(store.get(&Key::object("", "nodes", "", node)));
                    let (node_labels, node_taints) = marks.map(|m| (m.labels, m.taints)).unzip();
                    Packet::with(Down::Pod { pod, node_labels, node_taints }, entry.value)
                }
                None => Packet::bare(Down::PodGone { pod }),
            }
        }
        Item::Object(kind, namespace, name) => {
            // Judged again at the moment of sending: what no pod there needs any more is not shown.
            let needed = inner.hub.is_needed(node, kind, &namespace, &name);
            let entry =
                store.get(&Key::object(kind.group(), kind.plural(), &namespace, &name)).filter(|_| needed);
            match entry {
                Some(entry) => Packet::with(Down::Object { kind, namespace, name }, entry.value),
                None => Packet::bare(Down::ObjectGone { kind, namespace, name }),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_said_first_and_whenever_they_changed() {
        let node = |at: u64, labels: Value, taints: Value| {
            let object = json!({"metadata": {"labels": labels}, "spec": {"taints": taints}});
            let (key, value) = (Key::object("", "nodes", "", "n1"), object.to_string().into());
            Some(Entry { key, value, created: Revision(1), modified: Revision(at) })
        };
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let colour = |c: &str| BTreeMap::from([("colour".to_owned(), c.to_owned())]);
        let (none, blue) = (Marks::default(), Marks { labels: colour("blue"), taints: vec![] });
        let out = NodeTaint { key: "out".to_owned(), value: String::new() };
        let leaving = Marks { labels: colour("blue"), taints: vec![out] };
        let both = json!([taint("full", "NoSchedule"), taint("out", "NoExecute")]);
        let mut said = Said::default();
        assert_eq!(said.renew(None), None);
        assert_eq!(said.renew(node(1, Value::Null, Value::Null)), Some(none.clone()));
        assert_eq!(said.renew(node(1, Value::Null, Value::Null)), None);
        assert_eq!(said.renew(node(2, json!({"colour": "blue"}), Value::Null)), Some(blue.clone()));
        assert_eq!(said.renew(node(3, json!({"colour": "blue"}), Value::Null)), None, "its status changed");
        assert_eq!(said.renew(node(4, json!({"colour": "blue"}), both)), Some(leaving));
        assert_eq!(
            said.renew(node(5, json!({"colour": "blue"}), json!([taint("full", "NoSchedule")]))),
            Some(blue)
        );
        assert_eq!(said.renew(node(6, json!({}), json!([]))), Some(none));
    }
}
