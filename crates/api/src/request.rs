//! What a request asks for, read off its method, path and query exactly once. The authorizer and the handler are both given this
//! very value: there is no second reading that could differ from the first.

use crate::options::{PATH_SEGMENTS_MAX, URI_BYTES_MAX};
use crate::query::{Plus, Query, decode};
use http::{Method, Uri};
use stoa_kube::Status;
use stoa_units::FieldSelector;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// API objects.
    Resource(ResourcePath),
    /// Anything else: discovery, health, version.
    Path,
}

/// The parts of a path to API objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcePath {
    /// The API group; empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// Empty for cluster-scoped objects and lists over all namespaces. Of a namespace's own path, that namespace.
    pub namespace: String,
    /// The plural.
    pub resource: String,
    /// The object's name; empty for collections.
    pub name: String,
    /// Empty for the object itself.
    pub subresource: String,
    /// What follows the subresource, for proxies.
    pub rest: String,
}

/// A request as it is authorized and handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestInfo {
    /// What is done: `get`, `list`, `watch`, `create`, …; for other paths the method in lower case.
    pub verb: String,
    /// To what.
    pub target: Target,
    /// The path as it is matched: segments joined, without escapes.
    pub path: String,
    /// The parameters.
    pub query: Query,
    /// The field selector, which narrows what a list is authorized for.
    pub fields: FieldSelector,
}

impl RequestInfo {
    /// Parses a request's method and URI.
    pub fn parse(method: &Method, uri: &Uri) -> Result<RequestInfo, Status> {
        let raw = uri.path();
        if raw.len() + uri.query().map_or(0, str::len) > URI_BYTES_MAX {
            return Err(Status::failure(414, "RequestURITooLong", "the request's URI is too long"));
        }
        let segments = segments(raw)?;
        let query = Query::parse(uri.query().unwrap_or_default())?;
        let path = format!("/{}", segments.join("/"));
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (target, forced) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => resource("", version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => resource(group, version, rest),
            _ => (Target::Path, None),
        };
        let fields = FieldSelector::parse(query.text("fieldSelector")).unwrap_or_default();
        let verb = match &target {
            Target::Path => method.as_str().to_ascii_lowercase(),
            Target::Resource(r) => forced.map_or_else(|| verb(method, r, &query), str::to_string),
        };
        Ok(RequestInfo { verb, target, path, query, fields })
    }

    /// The path to API objects, if that is what it is.
    pub fn resource(&self) -> Option<&ResourcePath> {
        match &self.target {
            Target::Resource(r) => Some(r),
            Target::Path => None,
        }
    }
}

/// Splits first and unescapes then, so that an escaped slash can never make a segment into two.
fn segments(path: &str) -> Result<Vec<String>, Status> {
    let mut out: Vec<String> = Vec::new();
    for raw in path.split('/').filter(|s| !s.is_empty()) {
        if is_proxied(&out) {
            // What follows is the pod's to read, as it was sent.
            out.push(raw.to_string());
            continue;
        }
        if out.len() == PATH_SEGMENTS_MAX {
            return Err(Status::bad_request("the path has too many segments"));
        }
        let segment = decode(raw, Plus::IsPlus)
            .ok_or_else(|| Status::bad_request(format!("invalid URL escape in {raw:?}")))?;
        if matches!(segment.as_str(), "." | "..") || segment.contains(['/', '\\', '\0']) {
            return Err(Status::bad_request(format!("invalid path segment {segment:?}")));
        }
        out.push(segment);
    }
    Ok(out)
}

/// Whether the path so far leads to a pod or service, and on to what it serves.
fn is_proxied(segments: &[String]) -> bool {
    let segments: Vec<&str> = segments.iter().take(7).map(String::as_str).collect();
    matches!(segments[..], ["api", "v1", "namespaces", _, "pods" | "services", _, "proxy"])
}

fn resource(group: &str, version: &str, rest: &[&str]) -> (Target, Option<&'static str>) {
    // The old form of a watch: /api/v1/watch/….
    let (rest, forced) = match rest {
        ["watch", rest @ ..] if !rest.is_empty() => (rest, Some("watch")),
        rest => (rest, None),
    };
    let mut path = ResourcePath { group: group.into(), version: version.into(), ..ResourcePath::default() };
    let below = match rest {
        ["namespaces", namespace, sub @ ("status" | "finalize")] => {
            path.namespace = (*namespace).into();
            path.resource = "namespaces".into();
            path.name = (*namespace).into();
            path.subresource = (*sub).into();
            return (Target::Resource(path), forced);
        }
        ["namespaces", namespace] => {
            path.namespace = (*namespace).into();
            path.resource = "namespaces".into();
            path.name = (*namespace).into();
            return (Target::Resource(path), forced);
        }
        ["namespaces", namespace, below @ ..] if !below.is_empty() => {
            path.namespace = (*namespace).into();
            below
        }
        below => below,
    };
    let part = |i: usize| below.get(i).map(|s| (*s).to_string()).unwrap_or_default();
    path.resource = part(0);
    path.name = part(1);
    path.subresource = part(2);
    path.rest = below.get(3..).unwrap_or_default().join("/");
    (Target::Resource(path), forced)
}

fn verb(method: &Method, path: &ResourcePath, query: &Query) -> String {
    let collection = path.name.is_empty();
    let verb = match *method {
        Method::GET | Method::HEAD if collection && query.is_true("watch") => "watch",
        Method::GET | Method::HEAD if collection => "list",
        Method::GET | Method::HEAD => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if collection => "deletecollection",
        Method::DELETE => "delete",
        _ => return method.as_str().to_ascii_lowercase(),
    };
    verb.to_string()
}

#[cfg(test)]
mod tests;
