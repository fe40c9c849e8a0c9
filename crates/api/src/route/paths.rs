//! Paths that are no API objects: discovery, version, health, metrics, schemas, keys.

use crate::discovery::has_group;
use crate::metrics;
use crate::negotiate::{self, Accepted, View};
use crate::request::RequestInfo;
use crate::respond::{Answer, bytes, text, value};
use crate::state::State;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use stoa_kube::Status;

/// What is looked at to say whether the server is well. The store answers reads from memory: if it can say its revision it is
/// there; and what must have happened at the start has happened once the door is open.
const CHECKS: [&str; 4] = ["ping", "log", "etcd", "poststarthook/rbac/bootstrap-roles"];
/// What else is looked at to say whether it is ready for requests.
const READY_CHECKS: [&str; 2] = ["informer-sync", "shutdown"];

/// Answers a path.
pub(super) fn answer(
    state: &State,
    method: &Method,
    headers: &HeaderMap,
    info: &RequestInfo,
) -> Result<Answer, Status> {
    let parts: Vec<&str> = info.path.split('/').filter(|p| !p.is_empty()).collect();
    // What a stock server serves beside its routes of objects takes any method.
    let is_routed = matches!(parts.as_slice(), ["api" | "apis" | "version" | ".well-known" | "openid", ..]);
    if is_routed && method != Method::GET {
        return Err(Status::method_not_allowed());
    }
    match parts.as_slice() {
        [] => Ok(index()),
        ["api"] => Ok(state.discovery.root(true, negotiate::accept(headers)?, headers)),
        ["apis"] => Ok(state.discovery.root(false, negotiate::accept(headers)?, headers)),
        ["api", version] => state.discovery.group_version("", version, accepted(headers)?),
        ["apis", group] if has_group(group) => state.discovery.group(group, accepted(headers)?),
        ["apis", group, version] if has_group(group) => {
            state.discovery.group_version(group, version, accepted(headers)?)
        }
        ["version"] => Ok(value(200, Default::default(), &state.discovery.version)),
        [kind @ ("healthz" | "livez" | "readyz"), check @ ..] => health(state, kind, check, info),
        ["metrics"] => Ok(bytes(200, "text/plain; version=0.0.4; charset=utf-8", metrics::render(state))),
        ["openapi", rest @ ..] => super::openapi::answer(rest, info, headers, state.registry.clock().now()),
        [".well-known", "openid-configuration"] => openid(state),
        ["openid", "v1", "jwks"] => {
            let keys = state.jwks.clone().ok_or_else(Status::unknown_path)?;
            Ok(bytes(200, "application/jwk-set+json", keys))
        }
        ["apis", group, ..] => nowhere(group),
        ["api", ..] => nowhere(""),
        _ => Ok(not_found()),
    }
}

/// The answer to a path below a group that leads nowhere: the routes of a group that is known say so themselves.
pub(super) fn nowhere(group: &str) -> Result<Answer, Status> {
    if has_group(group) { Err(Status::unknown_path()) } else { Ok(not_found()) }
}

fn not_found() -> Answer {
    let mut answer = text(404, "404 page not found\n");
    let name = HeaderName::from_static("x-content-type-options");
    answer.headers_mut().insert(name, HeaderValue::from_static("nosniff"));
    answer
}

/// Documents that are no objects have no table.
fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    Ok(Accepted { view: View::Object, ..negotiate::accept(headers)? })
}

fn index() -> Answer {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(String::from).to_vec();
    let mut groups: Vec<String> = Vec::new();
    for gv in stoa_kube::resources().group_versions().iter().filter(|gv| !gv.group.is_empty()) {
        groups.push(format!("/apis/{}", gv.group));
        groups.push(format!("/apis/{gv}"));
    }
    groups.sort();
    groups.dedup();
    paths.extend(groups);
    for path in [
        "/healthz",
        "/livez",
        "/metrics",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/readyz",
        "/version",
    ] {
        paths.push(path.to_string());
    }
    value(200, Default::default(), &json!({ "paths": paths }))
}

fn health(state: &State, kind: &str, check: &[&str], info: &RequestInfo) -> Result<Answer, Status> {
    let ready = (kind == "readyz").then_some(READY_CHECKS).into_iter().flatten();
    let all: Vec<&str> = CHECKS.into_iter().chain(ready).collect();
    let is_well = |name: &str| name != "shutdown" || !state.closing.is_cancelled();
    if !check.is_empty() {
        let name = check.join("/");
        let known = all.iter().find(|c| **c == name).ok_or_else(Status::unknown_path)?;
        return Ok(match is_well(known) {
            true => text(200, "ok"),
            false => text(500, "internal server error: reason withheld\n"),
        });
    }
    let excluded: Vec<&str> = info.query.all("exclude").collect();
    let mut lines = String::new();
    let mut failed = false;
    for name in &all {
        if excluded.contains(name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
        } else if is_well(name) {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            failed = true;
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    let unknown: Vec<String> =
        excluded.iter().filter(|e| !all.contains(e)).map(|e| format!("{e:?}")).collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(", ");
        lines.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unknown}\n"));
    }
    if failed {
        return Ok(text(500, format!("{lines}{kind} check failed\n")));
    }
    match info.query.get("verbose") {
        None => Ok(text(200, "ok")),
        Some(_) => Ok(text(200, format!("{lines}{kind} check passed\n"))),
    }
}

fn openid(state: &State) -> Result<Answer, Status> {
    let issuer = state.token_issuer.as_deref().ok_or_else(Status::unknown_path)?;
    let body = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]});
    Ok(value(200, Default::default(), &body))
}
