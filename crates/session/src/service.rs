//! The service: routes what comes to `/stoa/v1/`, keeps the hub current from the store, and notices nodes that are lost.

use crate::hub::Hub;
use crate::join::{JoinAuthority, JoinError};
use crate::tunnel::Pending;
use crate::{Options, node_events, nodes, stream, tunnel};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use stoa_registry::Registry;
use stoa_store::{Error, EventKind, Key, Range, Revision, Watch};
use stoa_streams::{Body, Extension};
use stoa_wire::{JOIN_PATH, JoinRequest, Referent, SESSION_PATH, TUNNELS_PATH};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Longest join request.
const JOIN_BYTES_MAX: usize = 64 * 1024;
/// How often lost sessions are looked for.
const LOST_PERIOD: Duration = Duration::from_secs(1);
/// What a node's user begins with; the node's name follows.
const NODE_USER_PREFIX: &str = "system:node:";
/// The group that nodes are in.
const NODE_GROUP: &str = "system:nodes";

pub(crate) struct Inner {
    pub(crate) registry: Arc<Registry>,
    pub(crate) options: Options,
    pub(crate) hub: Hub,
    pub(crate) tunnels: Pending,
    /// Held while a node is registered or marked as lost: addresses are chosen among those that no other has, and the mark
    /// never overtakes a registration.
    pub(crate) registering: tokio::sync::Mutex<()>,
    pub(crate) stopping: CancellationToken,
    /// The store's revision before any agent could come: what becomes of nodes is told from here on.
    pub(crate) begun: Revision,
    join: Option<Arc<dyn JoinAuthority>>,
    /// Nodes without a session, and since when.
    missing: Mutex<HashMap<String, Instant>>,
}

/// What the other services hold of this one: an [`Extension`] of the door and an opener of tunnels.
#[derive(Clone)]
pub struct Door(Arc<Inner>);

/// The leader's end of agents' sessions.
pub struct Service {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").finish_non_exhaustive()
    }
}

impl Service {
    /// A service over the registry; `join` judges machines that want to become nodes, if any may.
    pub fn new(registry: Arc<Registry>, options: Options, join: Option<Arc<dyn JoinAuthority>>) -> Service {
        Service {
            inner: Arc::new(Inner {
                begun: registry.store().revision(),
                registry,
                options,
                hub: Hub::default(),
                tunnels: Pending::default(),
                registering: tokio::sync::Mutex::default(),
                stopping: CancellationToken::new(),
                join,
                missing: Mutex::default(),
            }),
        }
    }

    /// What the Kubernetes door is given.
    pub fn door(&self) -> Door {
        Door(self.inner.clone())
    }

    /// Keeps sessions current until `shutdown`; then ends them.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let inner = self.inner;
        // After a start every node is missing; those that live come back within the grace period.
        match nodes::ready_names(&inner.registry) {
            Ok(names) => names.iter().for_each(|n| inner.lost(n)),
            Err(e) => tracing::warn!(error = %e.message, "the nodes cannot be read"),
        }
        tokio::select! {
            () = shutdown => {}
            () = follow_pods(&inner) => {}
            () = follow_objects(&inner, Referent::ConfigMap) => {}
            () = follow_objects(&inner, Referent::Secret) => {}
            () = follow_objects(&inner, Referent::Service) => {}
            () = follow_objects(&inner, Referent::EndpointSlice) => {}
            () = follow_objects(&inner, Referent::RuntimeClass) => {}
            () = follow_objects(&inner, Referent::ResourceClaim) => {}
            () = watch_missing(&inner) => {}
            () = node_events::follow(&inner) => {}
        }
        inner.stopping.cancel();
    }
}

impl Inner {
    /// A node's session is there.
    pub(crate) fn found(&self, node: &str) {
        self.missing.lock().remove(node);
    }

    /// A node's session is gone, for now.
    pub(crate) fn lost(&self, node: &str) {
        self.missing.lock().entry(node.to_string()).or_insert_with(Instant::now);
    }
}

/// Marks the nodes that stayed away for too long.
async fn watch_missing(inner: &Inner) {
    let mut ticks = tokio::time::interval(LOST_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let grace = inner.options.grace;
        let overdue: Vec<String> = inner
            .missing
            .lock()
            .iter()
            .filter(|(_, since)| since.elapsed() >= grace)
            .map(|(n, _)| n.clone())
            .collect();
        for name in overdue {
            // In turn with registration: a node that is just coming back is marked before it is ready again, never after.
            let _turn = inner.registering.lock().await;
            if inner.hub.session(&name).is_some() {
                inner.found(&name);
            }
            if !inner.missing.lock().contains_key(&name) {
                continue;
            }
            match nodes::write_lost(&inner.registry, &name).await {
                Ok(()) => {
                    tracing::warn!(node = name, "a node is lost: its agent did not come back in time");
                    inner.found(&name);
                }
                Err(e) => tracing::warn!(node = name, error = %e.message, "a lost node cannot be marked"),
            }
        }
    }
}

/// Opens a watch on `prefix` from now on, handing over what is there.
pub(crate) fn begin(
    inner: &Inner,
    prefix: &str,
    mut all: impl FnMut(&[stoa_store::Entry]),
) -> Result<Watch, Error> {
    let store = inner.registry.store();
    let page = store.range(Range { prefix, after: None, limit: 0, at: None })?;
    all(&page.entries);
    store.watch(prefix, page.revision)
}

/// How long to wait before a watch is opened again that could not be.
pub(crate) const REOPEN_WAIT: Duration = Duration::from_millis(200);

async fn follow_pods(inner: &Inner) {
    let prefix = Key::prefix("", "pods", "");
    loop {
        let begun = begin(inner, &prefix, |entries| inner.hub.reset(entries.iter().map(|e| &e.value[..])));
        let mut watch = match begun {
            Ok(watch) => watch,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "pods cannot be watched");
                tokio::time::sleep(REOPEN_WAIT).await;
                continue;
            }
        };
        loop {
            match watch.next().await {
                Ok(batch) => batch.events.iter().for_each(|e| inner.hub.pod_changed(e)),
                Err(Error::Closed) => return,
                Err(_) => break,
            }
        }
    }
}

async fn follow_objects(inner: &Inner, kind: Referent) {
    let prefix = Key::prefix(kind.group(), kind.plural(), "");
    loop {
        let tell = |e: &stoa_store::Event| match kind.is_shared() {
            true => inner.hub.shared_changed(kind, e.key.namespace(), e.key.name(), e.kind),
            false => inner.hub.object_changed(kind, e.key.namespace(), e.key.name()),
        };
        // What pods refer to is told with them; after a gap all is told again.
        let all = |entries: &[stoa_store::Entry]| {
            let names = entries.iter().map(|e| (e.key.namespace(), e.key.name()));
            match kind.is_shared() {
                true => inner.hub.reset_shared(kind, names.map(|(ns, n)| (ns.to_string(), n.to_string()))),
                false => names.for_each(|(ns, n)| inner.hub.object_changed(kind, ns, n)),
            }
        };
        let mut watch = match begin(inner, &prefix, all) {
            Ok(watch) => watch,
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, kind = kind.plural(), "objects cannot be watched");
                tokio::time::sleep(REOPEN_WAIT).await;
                continue;
            }
        };
        loop {
            match watch.next().await {
                Ok(batch) => batch.events.iter().filter(|e| is_change(e)).for_each(|e| tell(e)),
                Err(Error::Closed) => return,
                Err(_) => break,
            }
        }
    }
}

/// Whether an event says something new: a write of the same bytes does not.
fn is_change(event: &stoa_store::Event) -> bool {
    event.kind == EventKind::Delete || event.previous.as_ref() != Some(&event.value)
}

/// The node that an authenticated user is, if it is one.
fn node_of<'a>(user: &'a str, groups: &[String]) -> Option<&'a str> {
    let name = user.strip_prefix(NODE_USER_PREFIX)?;
    (!name.is_empty() && groups.iter().any(|g| g == NODE_GROUP)).then_some(name)
}

#[async_trait::async_trait]
impl Extension for Door {
    async fn handle(&self, user: &str, groups: &[String], request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_string();
        if request.method() != Method::POST {
            return stream::plain(StatusCode::METHOD_NOT_ALLOWED, "only POST is served here");
        }
        if path == JOIN_PATH {
            return join(&self.0, request).await;
        }
        let Some(node) = node_of(user, groups).map(String::from) else {
            return stream::plain(StatusCode::FORBIDDEN, "only nodes may open sessions");
        };
        if path == SESSION_PATH {
            return stream::serve(self.0.clone(), node, request.into_body()).await;
        }
        if path.starts_with(TUNNELS_PATH) {
            let accepted = tunnel::number(&path).and_then(|id| self.0.tunnels.accept(id, &node, request));
            return accepted.unwrap_or_else(tunnel::unknown);
        }
        stream::plain(StatusCode::NOT_FOUND, "there is nothing here")
    }
}

#[async_trait::async_trait]
impl stoa_streams::Opener for Door {
    async fn open(
        &self,
        agent: &stoa_units::AgentId,
        request: stoa_wire::TunnelRequest,
    ) -> Result<stoa_streams::Tunnel, stoa_streams::OpenError> {
        self.0.open(agent, request).await
    }

    fn is_connected(&self, agent: &stoa_units::AgentId) -> bool {
        self.0.is_connected(agent)
    }
}

async fn join(inner: &Inner, request: Request<Incoming>) -> Response<Body> {
    let Some(authority) = &inner.join else {
        return stream::plain(StatusCode::NOT_FOUND, "machines cannot join this cluster");
    };
    let Ok(body) = Limited::new(request.into_body(), JOIN_BYTES_MAX).collect().await else {
        return stream::plain(StatusCode::PAYLOAD_TOO_LARGE, "the join request is too long");
    };
    let request: JoinRequest = match serde_json::from_slice(&body.to_bytes()) {
        Ok(request) => request,
        Err(e) => {
            return stream::plain(StatusCode::BAD_REQUEST, &format!("the join request is malformed: {e}"));
        }
    };
    match authority.join(&request) {
        Ok(answer) => match serde_json::to_vec(&answer) {
            Ok(text) => Response::new(Full::new(Bytes::from(text)).map_err(|e| match e {}).boxed_unsync()),
            Err(e) => stream::plain(StatusCode::INTERNAL_SERVER_ERROR, &e.to_string()),
        },
        Err(e) => {
            let code = match &e {
                JoinError::Token => StatusCode::FORBIDDEN,
                JoinError::Malformed(_) => StatusCode::BAD_REQUEST,
                JoinError::Signing(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            stream::plain(code, &e.to_string())
        }
    }
}
