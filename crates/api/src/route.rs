//! From a request to its answer: parse once, identify, authorize, and hand over to the handler of what was asked for.

mod component_status;
mod connect;
mod health;
mod leases;
mod logs;
mod metrics_group;
mod node_proxy;
mod objects;
mod openapi;
mod paths;
mod proxy;
mod subresources;
mod zpages;

use crate::flow::{self, Flow};
use crate::gzip::Gzip;
use crate::indent::{self, Indented};
use crate::negotiate::takes_gzip;
use crate::options::{AUDIT_ID_BYTES_MAX, GZIP_BYTES_MIN};
use crate::request::{RequestInfo, ResourcePath, Target};
use crate::respond::{Answer, refusal, warn};
use crate::state::State;
use crate::tls::Peer;
use crate::{authn, authz, body, impersonate, negotiate};
use futures_util::FutureExt;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, VARY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use stoa_admit::Annotations;
use stoa_authz::User;
use stoa_kube::{Resource, Status, resources};

/// Names the request in every answer.
const AUDIT_ID: &str = "audit-id";

/// Answers a request, whatever happens.
pub(crate) async fn serve(state: Arc<State>, peer: Arc<Peer>, request: Request<Incoming>) -> Answer {
    let _open = state.metrics.request();
    let (audit_id, zips) = (audit_id(request.headers()), takes_gzip(request.headers()));
    let mut flow = flow::CATCH_ALL;
    let (method, uri) = (request.method().clone(), request.uri().clone());
    // Who accepts nothing that we serve is told so as everybody is by default.
    let encoding = negotiate::accept(request.headers()).unwrap_or_default().encoding;
    let info = match RequestInfo::parse(&method, &uri) {
        Ok(info) => info,
        Err(status) => {
            let mut answer = refusal(&status, encoding);
            answer.headers_mut().insert(AUDIT_ID, unlike_others(audit_id));
            return answer;
        }
    };
    // What tells of the server itself is always for people, as on a stock server.
    let is_for_people = matches!(info.path.as_str(), "/" | "/version")
        || indent::is_wanted(info.query.text("pretty"), request.headers());
    // Boxed: the handlers' futures are large, and few of them are needed at once.
    let notes = Arc::new(Annotations::default());
    let handling = handle(state.clone(), peer, request, &info, &mut flow, &notes).boxed();
    let handled = AssertUnwindSafe(handling).catch_unwind().await;
    let mut answer = match handled {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => {
            let mut answer = refusal(&status, encoding);
            warn(&mut answer, &notes.take_oddities());
            answer
        }
        Err(_) => {
            state.metrics.panicked();
            tracing::error!(%method, path = %info.path, "a handler panicked");
            refusal(&Status::internal("the request's handler failed"), encoding)
        }
    };
    let notes = notes.take();
    if !notes.is_empty() {
        tracing::debug!(?audit_id, %method, path = %info.path, code = answer.status().as_u16(), ?notes, "noted for an audit");
    }
    let is_large = answer.body().size_hint().exact().is_some_and(|n| n >= GZIP_BYTES_MIN as u64);
    if may_indent(&info) && is_for_people {
        answer = indent(answer);
    }
    if zips && is_large && may_compress(&info) {
        answer = compress(answer);
    }
    answer.headers_mut().insert(AUDIT_ID, unlike_others(audit_id));
    flow.say(&state, answer.headers_mut());
    let known = info.resource().and_then(find);
    let verb = if info.resource().is_some() && known.is_none() { "other" } else { info.verb.as_str() };
    state.metrics.answered(verb, known.map_or("", |r| r.plural), answer.status().as_u16());
    answer
}

/// The id under which a request is spoken of: the client's own, or a new one.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(AUDIT_ID).filter(|v| !v.is_empty() && v.len() <= AUDIT_ID_BYTES_MAX);
    let new = || HeaderValue::from_str(&uuid::Uuid::new_v4().to_string());
    given.cloned().or_else(|| new().ok()).unwrap_or_else(|| HeaderValue::from_static("-"))
}

/// A value that comes once: HTTP/2 does not put it into the table of headers to be referred to, where it would only drive out others.
fn unlike_others(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// What a pod says is the pod's to compress.
fn may_compress(info: &RequestInfo) -> bool {
    info.verb == "get" && info.resource().is_some_and(|r| !matches!(r.subresource.as_str(), "proxy" | "log"))
}

/// What is an object, or the news of one, and no stream of them.
fn may_indent(info: &RequestInfo) -> bool {
    match &info.target {
        Target::Resource(r) => info.verb != "watch" && !matches!(r.subresource.as_str(), "proxy" | "log"),
        Target::Path => ["/api", "/version"].iter().any(|p| info.path.starts_with(p)) || info.path == "/",
    }
}

/// Sets JSON that is not compressed out for people.
fn indent(answer: Answer) -> Answer {
    let is_json =
        answer.headers().get(CONTENT_TYPE).is_some_and(|t| t.as_bytes().starts_with(b"application/json"));
    if !is_json || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    answer.map(|body| Indented::new(body).boxed_unsync())
}

/// Compresses a large body that is not compressed yet.
fn compress(answer: Answer) -> Answer {
    if answer.status() != StatusCode::OK || answer.headers().contains_key(CONTENT_ENCODING) {
        return answer;
    }
    let mut answer = answer.map(|body| Gzip::new(body).boxed_unsync());
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    answer.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    answer
}

async fn handle(
    state: Arc<State>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
    info: &RequestInfo,
    flow: &mut Flow,
    notes: &Arc<Annotations>,
) -> Result<Answer, Status> {
    let user = match identify(&state, &peer, request.headers(), flow).await {
        Ok(user) => user,
        Err(status) => return refuse(request, status).await,
    };
    if let (Some(extension), true) = (&state.extension, info.path.starts_with("/stoa/v1/")) {
        // The extension judges for itself what its users may do: they are agents, known by certificate.
        return Ok(extension.handle(&user.name, &user.groups, request).await);
    }
    if let Err(status) = authz::authorize(&state, &user, info) {
        let encoding = negotiate::accept(request.headers()).unwrap_or_default().encoding;
        body::drain(request.into_body()).await;
        let mut answer = refusal(&status, encoding);
        answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        return Ok(answer);
    }
    match &info.target {
        Target::Path => {
            let answered = paths::answer(&state, request.method(), request.headers(), info);
            body::drain(request.into_body()).await;
            answered
        }
        Target::Resource(path) if path.group == metrics_group::GROUP => {
            Box::pin(metrics_group::answer(&state, path, info, request.headers())).await
        }
        Target::Resource(path) => {
            let found = find(path).filter(|resource| fits_scope(resource, path));
            let Some(resource) = found else {
                body::drain(request.into_body()).await;
                return paths::nowhere(&path.group);
            };
            let asked = Asked { state, user, resource, path, info, notes: notes.clone() };
            match path.subresource.as_str() {
                "" => objects::answer(asked, request).await,
                _ => Box::pin(subresources::answer(asked, request)).await,
            }
        }
    }
}

async fn identify(state: &State, peer: &Peer, headers: &HeaderMap, flow: &mut Flow) -> Result<User, Status> {
    let caller = authn::authenticate(state, peer, headers).await?;
    let user = impersonate::impersonate(state, caller, headers)?;
    *flow = flow::of(&user);
    Ok(user)
}

/// Refuses a request of which nobody has read the body.
async fn refuse(request: Request<Incoming>, status: Status) -> Result<Answer, Status> {
    body::drain(request.into_body()).await;
    Err(status)
}

/// What a handler of API objects is given.
pub(crate) struct Asked<'a> {
    pub(crate) state: Arc<State>,
    pub(crate) user: User,
    pub(crate) resource: &'static Resource,
    pub(crate) path: &'a ResourcePath,
    pub(crate) info: &'a RequestInfo,
    /// What is noted of the request for an audit.
    pub(crate) notes: Arc<Annotations>,
}

impl Asked<'_> {
    /// The object, as the registry names it.
    pub(crate) fn target(&self) -> stoa_registry::Target<'_> {
        let namespace = if self.resource.namespaced { self.path.namespace.as_str() } else { "" };
        stoa_registry::Target::new(self.resource, namespace, &self.path.name).sub(&self.path.subresource)
    }

    /// The namespace of objects; empty for cluster-scoped ones.
    pub(crate) fn namespace(&self) -> &str {
        if self.resource.namespaced { &self.path.namespace } else { "" }
    }
}

// Resources that are computed when they are read, never stored.
pub(crate) use metrics_group::{Figures, resources as computed, usage_of_pods};

fn find(path: &ResourcePath) -> Option<&'static Resource> {
    resources().find(&path.group, &path.version, &path.resource)
}

/// A namespaced object is not reached without its namespace, nor a cluster-scoped one through any.
fn fits_scope(resource: &Resource, path: &ResourcePath) -> bool {
    let is_namespace = resource.group.is_empty() && resource.plural == "namespaces";
    match (resource.namespaced, path.namespace.is_empty()) {
        (true, true) => path.name.is_empty(),
        (false, false) => is_namespace && path.name == path.namespace,
        _ => true,
    }
}
