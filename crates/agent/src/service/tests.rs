//! A whole agent against a leader of a few lines, over real TLS and HTTP/2.

use super::*;
use crate::testing::Scripted;
use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::PodStatus;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::convert::Infallible;
use stoa_pki::{Authority, Identity};
use stoa_units::{Clock, SystemClock};
use stoa_wire::{Channel, LogOptions, SESSION_PATH};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

/// Longer than anything here takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Both ends of a session: what the agent says, and the way down to it.
type Ends = (mpsc::Receiver<Packet<Up>>, mpsc::Sender<Packet<Down>>);

/// What the leader of a test sees and says.
struct Leader {
    /// Sessions that agents opened: what they say, and the way down.
    sessions: mpsc::Receiver<Ends>,
    /// Tunnels that agents opened: the number, and what came until the agent was done.
    tunnels: mpsc::Receiver<(String, Vec<Frame>)>,
    address: String,
    ca: String,
    node: Identity,
    _dir: tempfile::TempDir,
}

fn streamed<T: Send + 'static>(
    rx: mpsc::Receiver<T>,
    encode: impl Fn(T) -> Vec<Bytes> + Send + 'static,
) -> Body {
    use futures_util::{StreamExt, stream};
    let items = stream::unfold(rx, |mut rx| async move { rx.recv().await.map(|item| (item, rx)) });
    let chunks = items.flat_map(move |item| stream::iter(encode(item)));
    BodyExt::boxed_unsync(StreamBody::new(chunks.map(|b| Ok::<_, Infallible>(BodyFrame::data(b)))))
}

async fn read_session(mut body: Incoming, up: mpsc::Sender<Packet<Up>>) {
    let mut input = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        input.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(packet) = Packet::decode(&mut input).unwrap() {
            if up.send(packet).await.is_err() {
                return;
            }
        }
    }
}

async fn read_tunnel(mut body: Incoming) -> Vec<Frame> {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    while let Some(Ok(frame)) = body.frame().await {
        input.extend_from_slice(&frame.into_data().unwrap_or_default());
        while let Some(frame) = Frame::decode(&mut input).unwrap() {
            frames.push(frame);
        }
    }
    frames
}

impl Leader {
    async fn start() -> Leader {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemClock.now();
        let authority = Authority::load_or_create(dir.path(), now).unwrap();
        let server = authority.issue_server(now, &[], &["127.0.0.1".parse().unwrap()]).unwrap();
        let node = authority.issue_client(now, "system:node:n1", "system:nodes").unwrap();
        let certs: Vec<_> =
            CertificateDer::pem_slice_iter(server.cert_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(server.key_pem.as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certs, key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (session_tx, sessions) = mpsc::channel(4);
        let (tunnel_tx, tunnels) = mpsc::channel(4);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(tls) = acceptor.accept(tcp).await else { continue };
                let (sessions, tunnels) = (session_tx.clone(), tunnel_tx.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (sessions, tunnels) = (sessions.clone(), tunnels.clone());
                    async move { Ok::<_, Infallible>(answer(request, sessions, tunnels).await) }
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(tls), service),
                );
            }
        });
        Leader { sessions, tunnels, address, ca: authority.cert_pem().to_owned(), node, _dir: dir }
    }

    async fn session(&mut self) -> Session {
        let (up, down) = timeout(PATIENCE, self.sessions.recv()).await.unwrap().unwrap();
        Session { up, down }
    }
}

async fn answer(
    request: Request<Incoming>,
    sessions: mpsc::Sender<Ends>,
    tunnels: mpsc::Sender<(String, Vec<Frame>)>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    if path == SESSION_PATH {
        let (up, from_agent) = mpsc::channel(64);
        let (down, to_agent) = mpsc::channel::<Packet<Down>>(64);
        tokio::spawn(read_session(request.into_body(), up));
        sessions.send((from_agent, down)).await.unwrap();
        return Response::new(streamed(to_agent, |packet| {
            let (head, object) = packet.encode().unwrap();
            vec![head, object].into_iter().filter(|b| !b.is_empty()).collect()
        }));
    }
    // The answer ends when the agent's end is done, as the real leader's does.
    let (ends, end) = mpsc::channel::<Bytes>(1);
    tokio::spawn(async move {
        let frames = read_tunnel(request.into_body()).await;
        tunnels.send((path, frames)).await.unwrap();
        drop(ends);
    });
    let mut response = Response::new(streamed(end, |bytes| vec![bytes]));
    *response.status_mut() = StatusCode::OK;
    response
}

struct Session {
    up: mpsc::Receiver<Packet<Up>>,
    down: mpsc::Sender<Packet<Down>>,
}

impl Session {
    async fn say(&self, head: Down) {
        self.down.send(Packet::bare(head)).await.unwrap();
    }

    async fn welcome(&self) {
        self.say(Down::Welcome {
            cluster: "c".into(),
            pod_cidr: "10.0.0.0/24".into(),
            cluster_cidr: "10.0.0.0/16".into(),
            service_cidr: "10.1.0.0/16".into(),
            dns: String::new(),
            domain: "cluster.local".into(),
            api_host: String::new(),
            api_port: 0,
        })
        .await;
    }

    async fn pod(&self, pod: &Value) {
        let head = Down::Pod { pod: reference(pod), node_labels: None, node_taints: None };
        self.down.send(Packet::with(head, Bytes::from(pod.to_string()))).await.unwrap();
    }

    /// What the agent says next that `wanted` takes.
    async fn hear<T>(&mut self, wanted: impl Fn(&Packet<Up>) -> Option<T>) -> T {
        let listen = async {
            loop {
                let packet = self.up.recv().await.expect("the agent went away");
                if let Some(found) = wanted(&packet) {
                    return found;
                }
            }
        };
        timeout(PATIENCE, listen).await.expect("the agent did not say it")
    }

    async fn hear_phase(&mut self, wanted: &str) {
        self.hear(|packet| match &packet.head {
            Up::Status { .. } => {
                let status: PodStatus = serde_json::from_slice(&packet.object).unwrap();
                (status.phase.as_deref() == Some(wanted)).then_some(())
            }
            _ => None,
        })
        .await;
    }
}

fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c", "image": "img"}], "terminationGracePeriodSeconds": 1}})
}

fn reference(pod: &Value) -> PodRef {
    let text = |field: &str| pod["metadata"][field].as_str().unwrap().to_owned();
    PodRef { namespace: text("namespace"), name: text("name"), uid: text("uid") }
}

fn start(leader: &Leader, machine: &Arc<Scripted>, dir: &std::path::Path) -> CancellationToken {
    start_with(leader, machine, Options::new("n1", dir, "c"))
}

fn start_with(leader: &Leader, machine: &Arc<Scripted>, mut options: Options) -> CancellationToken {
    // Whatever the machine is short of on which the tests run.
    options.eviction_hard.clear();
    options.masters = vec![leader.address.clone()];
    options.ca_pem.clone_from(&leader.ca);
    options.cert_pem.clone_from(&leader.node.cert_pem);
    options.key_pem.clone_from(&leader.node.key_pem);
    let shutdown = CancellationToken::new();
    let service = Service::with_machine(options, Arc::clone(machine) as Arc<dyn Machine>);
    tokio::spawn(service.run(shutdown.clone()));
    shutdown
}

#[tokio::test]
async fn an_agent_runs_what_it_is_told_and_sweeps_the_rest_only_when_all_was_said() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    machine
        .create_pod(stoa_runtime::PodSpec {
            uid: "stray".into(),
            hostname: String::new(),
            network: stoa_runtime::Network::Host,
            ipc: Default::default(),
            pid: Default::default(),
            users: stoa_runtime::Users::Host,
            sysctls: Default::default(),
            qos: Default::default(),
            limits: Default::default(),
            shm_bytes: None,
            selinux: None,
            level: None,
        })
        .await
        .unwrap();
    let _stop = start(&leader, &machine, dir.path()).drop_guard();
    let mut session = leader.session().await;
    session.hear(|p| matches!(&p.head, Up::Hello { node, .. } if node == "n1").then_some(())).await;
    session.welcome().await;
    session.pod(&pod()).await;
    session.hear_phase("Running").await;
    assert!(machine.pods().contains("stray"), "swept before all was said");
    session.say(Down::Synced).await;
    session.say(Down::PodGone { pod: reference(&pod()) }).await;
    let clean = async {
        while !machine.pods().is_empty() || !machine.list().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, clean).await.expect("the machine is not clean");
}

#[tokio::test]
async fn a_pod_that_is_desired_no_more_keeps_nobody_out() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("n1", dir.path(), "c");
    options.pods_max = 1;
    let _stop = start_with(&leader, &machine, options).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    session.say(Down::Synced).await;
    for round in 0..20 {
        let mut pod = pod();
        pod["metadata"]["uid"] = json!(format!("u{round}"));
        session.pod(&pod).await;
        let phase = session.hear(|packet| match &packet.head {
            Up::Status { pod: of, .. } if *of == reference(&pod) => {
                let status: PodStatus = serde_json::from_slice(&packet.object).unwrap();
                status.phase.filter(|p| p != "Pending")
            }
            _ => None,
        });
        assert_eq!(phase.await, "Running", "in round {round}");
        session.say(Down::PodGone { pod: reference(&pod) }).await;
    }
}

#[tokio::test]
async fn a_pod_is_judged_by_the_labels_that_came_with_it() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let _stop = start(&leader, &machine, dir.path()).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    for (uid, label, expected) in [("u1", "blue", "Failed"), ("u2", "green", "Running")] {
        let mut pod = pod();
        pod["metadata"]["uid"] = json!(uid);
        pod["spec"]["nodeSelector"] = json!({"colour": "green"});
        let labels = [("colour".to_owned(), label.to_owned())].into();
        let head = Down::Pod { pod: reference(&pod), node_labels: Some(labels), node_taints: Some(vec![]) };
        session.down.send(Packet::with(head, Bytes::from(pod.to_string()))).await.unwrap();
        let status = session.hear(|packet| match &packet.head {
            Up::Status { pod: of, .. } if of.uid == uid => {
                let status: PodStatus = serde_json::from_slice(&packet.object).unwrap();
                (status.phase.as_deref() != Some("Pending")).then_some(status)
            }
            _ => None,
        });
        let status = status.await;
        assert_eq!(status.phase.as_deref(), Some(expected));
        assert_eq!(status.reason.as_deref(), (expected == "Failed").then_some("NodeAffinity"));
    }
}

#[tokio::test]
async fn a_node_says_whether_its_pods_are_kept_to_what_is_theirs() {
    let machine = Scripted::new(Arc::new(SystemClock));
    for (fails, expected) in [
        (false, ("Normal", "NodeAllocatableEnforced", "Updated Node Allocatable limit across pods")),
        (
            true,
            (
                "Warning",
                "FailedNodeAllocatableEnforcement",
                "Failed to update Node Allocatable Limits [\"stoa-c\"]: no container `the cgroup`",
            ),
        ),
    ] {
        let mut leader = Leader::start().await;
        let dir = tempfile::tempdir().unwrap();
        machine.is_stubborn_about_limits.store(fails, Ordering::SeqCst);
        let mut options = Options::new("n1", dir.path(), "c");
        options.resources = Some("cpus:4;mem:1024".to_owned());
        options.system_reserved = Some("cpus:1".to_owned());
        let _stop = start_with(&leader, &machine, options).drop_guard();
        let mut session = leader.session().await;
        session.welcome().await;
        let said = session
            .hear(|p| match &p.head {
                Up::Event { occurrence } if occurrence.reason.contains("Allocatable") => {
                    Some(occurrence.clone())
                }
                _ => None,
            })
            .await;
        assert_eq!((said.kind.as_str(), said.reason.as_str(), said.message.as_str()), expected);
        assert!(machine.log.lock().contains(&"all shares 3072".to_owned()));
    }
}

#[tokio::test]
async fn containers_outlive_a_broken_session_and_all_is_said_again() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let _stop = start(&leader, &machine, dir.path()).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    session.pod(&pod()).await;
    session.say(Down::Synced).await;
    session.hear_phase("Running").await;
    drop(session);
    let mut session = leader.session().await;
    let held = session
        .hear(|p| match &p.head {
            Up::Hello { pods, .. } => Some(pods.clone()),
            _ => None,
        })
        .await;
    assert_eq!(held, [HeldPod { pod: reference(&pod()), running: 1 }]);
    session.welcome().await;
    session.pod(&pod()).await;
    session.say(Down::Synced).await;
    session.hear_phase("Running").await;
    assert_eq!(machine.starts(), 1);
}

#[tokio::test]
async fn a_container_that_ends_while_it_is_taken_over_is_known_to_have_ended() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let mut once = pod();
    once["spec"]["restartPolicy"] = json!("Never");
    let first = start(&leader, &machine, dir.path());
    let mut session = leader.session().await;
    session.welcome().await;
    session.pod(&once).await;
    session.say(Down::Synced).await;
    session.hear_phase("Running").await;
    first.cancel();
    while session.up.recv().await.is_some() {}
    let _stop = start(&leader, &machine, dir.path()).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    *machine.ends_once_seen.lock() = Some("c".to_owned());
    session.pod(&once).await;
    session.hear_phase("Succeeded").await;
}

#[tokio::test]
async fn a_resize_that_waits_takes_nobodys_room_after_a_restart_either() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let options = || {
        let mut options = Options::new("n1", dir.path(), "c");
        options.resources = Some("cpus:4;mem:1024".to_owned());
        options
    };
    let sized = |name: &str, cpu: &str| {
        let mut pod = pod();
        (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(name), json!(name));
        pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": cpu}});
        pod
    };
    async fn hear_end(session: &mut Session, pod: &Value) -> (String, Option<String>) {
        let status = session.hear(|packet| match &packet.head {
            Up::Status { pod: of, .. } if *of == reference(pod) => {
                let status: PodStatus = serde_json::from_slice(&packet.object).unwrap();
                status.phase.filter(|p| p != "Pending").map(|phase| (phase, status.message))
            }
            _ => None,
        });
        status.await
    }
    let first = start_with(&leader, &machine, options());
    let mut session = leader.session().await;
    session.welcome().await;
    for pod in [sized("other", "2"), sized("grows", "1")] {
        session.pod(&pod).await;
        assert_eq!(hear_end(&mut session, &pod).await.0, "Running");
    }
    first.cancel();
    while session.up.recv().await.is_some() {}
    let _stop = start_with(&leader, &machine, options()).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    // It has one CPU and waits for three, of which only two could ever be free now.
    let new = sized("new", "1");
    for pod in [&sized("other", "2"), &sized("grows", "3"), &new] {
        session.pod(pod).await;
    }
    assert_eq!(hear_end(&mut session, &new).await, ("Running".to_owned(), None));
}

#[tokio::test]
async fn a_tunnel_carries_everything_up_to_its_last_frame_and_a_stranger_is_refused() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let _stop = start(&leader, &machine, dir.path()).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    session.pod(&pod()).await;
    session.say(Down::Synced).await;
    session.hear_phase("Running").await;
    let log = &machine.list()[0].spec.log_path.clone();
    std::fs::write(log, "2026-01-01T00:00:00Z stdout F hello\n").unwrap();
    let logs = |uid: &str| TunnelRequest::Logs {
        namespace: "n".into(),
        pod: "p".into(),
        uid: uid.into(),
        container: "c".into(),
        options: LogOptions::default(),
    };
    session.say(Down::Open { id: 7, request: logs("u") }).await;
    let (path, frames) = timeout(PATIENCE, leader.tunnels.recv()).await.unwrap().unwrap();
    assert_eq!(path, "/stoa/v1/tunnels/7");
    let channels: Vec<Channel> = frames.iter().map(|f| f.channel).collect();
    assert_eq!(channels, [Channel::Stdout, Channel::Status]);
    assert_eq!(&frames[0].payload[..], b"hello\n");
    session.say(Down::Open { id: 8, request: logs("other") }).await;
    let code = session
        .hear(|p| match &p.head {
            Up::TunnelRefused { id: 8, code, .. } => Some(*code),
            _ => None,
        })
        .await;
    assert_eq!(code, 404);
}

/// What is said until both of these pods have ended: how they ended, and all events.
async fn hear_ends(session: &mut Session, names: [&str; 2]) -> (HashMap<String, PodStatus>, Vec<String>) {
    let (mut ends, mut events) = (HashMap::new(), Vec::new());
    while !names.iter().all(|name| ends.contains_key(*name)) {
        let packet = timeout(PATIENCE, session.up.recv()).await.expect("not both ended").unwrap();
        match packet.head {
            Up::Status { pod, .. } => {
                let status: PodStatus = serde_json::from_slice(&packet.object).unwrap();
                if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
                    ends.insert(pod.name, status);
                }
            }
            Up::Event { occurrence } => {
                let whose = occurrence.pod.map_or("node".to_owned(), |pod| pod.name);
                events.push(format!("{whose} {}: {}", occurrence.reason, occurrence.message));
            }
            _ => {}
        }
    }
    (ends, events)
}

fn named(name: &str, spec: Value) -> Value {
    let mut pod = pod();
    (pod["metadata"]["name"], pod["metadata"]["uid"]) = (json!(name), json!(name));
    spec.as_object().unwrap().iter().for_each(|(field, value)| pod["spec"][field] = value.clone());
    pod
}

#[tokio::test]
async fn a_machine_that_goes_down_ends_its_pods_in_its_time_and_takes_no_more() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("n1", dir.path(), "c");
    options.shutdown_grace = Duration::from_secs(3);
    let power_off = options.power_off.clone();
    let _stop = start_with(&leader, &machine, options).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    machine.stubborn.lock().insert("c".to_owned());
    session.pod(&named("stays", json!({"terminationGracePeriodSeconds": 600}))).await;
    session.hear_phase("Running").await;
    power_off.cancel();
    let is_unready = |p: &Packet<Up>| match &p.head {
        Up::Node { report } => report
            .conditions
            .iter()
            .any(|c| c.kind == "Ready" && c.message == "node is shutting down")
            .then_some(()),
        _ => None,
    };
    session.hear(is_unready).await;
    session.pod(&named("late", json!({}))).await;
    let (ends, _) = hear_ends(&mut session, ["stays", "late"]).await;
    let said = |name: &str| {
        let end = &ends[name];
        (end.phase.as_deref().unwrap(), end.reason.as_deref().unwrap(), end.message.as_deref().unwrap())
    };
    let words = "Pod was terminated in response to imminent node shutdown.";
    assert_eq!(said("stays"), ("Failed", "Terminated", words));
    let words = "Pod was rejected: Pod was rejected as the node is shutting down.";
    assert_eq!(said("late"), ("Failed", "NodeShutdown", words));
}

#[tokio::test]
async fn a_pod_that_makes_room_for_a_critical_one_hears_of_it() {
    let mut leader = Leader::start().await;
    let machine = Scripted::new(Arc::new(SystemClock));
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("n1", dir.path(), "c");
    options.resources = Some("cpus:1;mem:1024".to_owned());
    let _stop = start_with(&leader, &machine, options).drop_guard();
    let mut session = leader.session().await;
    session.welcome().await;
    let sized = json!([{"name": "c", "image": "img", "resources": {"requests": {"cpu": "1"}}}]);
    session.pod(&named("lesser", json!({"containers": sized}))).await;
    session.hear_phase("Running").await;
    session.pod(&named("critical", json!({"containers": sized, "priority": 2_000_000_000}))).await;
    let (ends, events) = hear_ends(&mut session, ["lesser", "lesser"]).await;
    let words = "Preempted in order to admit critical pod";
    assert_eq!(
        (ends["lesser"].reason.as_deref(), ends["lesser"].message.as_deref()),
        (Some("Preempting"), Some(words))
    );
    let target = ends["lesser"].conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(
        target.message.as_deref(),
        Some("Pod was preempted by Kubelet to accommodate a critical pod.")
    );
    assert!(events.contains(&format!("lesser Preempting: {words}")), "{events:?}");
}
