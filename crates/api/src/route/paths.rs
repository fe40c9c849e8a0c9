//! Paths that are no API objects: discovery, version, health, metrics, schemas, keys.

use super::{health, zpages};
use crate::discovery::has_group;
use crate::metrics;
use crate::negotiate::{self, Accepted};
use crate::request::RequestInfo;
use crate::respond::{Answer, bytes, text, value};
use crate::state::State;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::json;
use stoa_kube::Status;

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
    // The list of all groups is no route of a group, and knows less of media types.
    if matches!(parts.as_slice(), ["api", ..] | ["apis", _, ..]) {
        negotiate::check_accepted(headers, &negotiate::SERVED)?;
    }
    match parts.as_slice() {
        [] => Ok(value(200, Default::default(), &json!({ "paths": index() }))),
        ["api"] => Ok(state.discovery.root(true, negotiate::accept_discovery(headers)?, headers)),
        ["apis"] => Ok(state.discovery.root(false, negotiate::accept_discovery(headers)?, headers)),
        ["api", version] => state.discovery.group_version("", version, accepted(headers)?),
        ["apis", group] if has_group(group) => state.discovery.group(group, accepted(headers)?),
        ["apis", group, version] if has_group(group) => {
            state.discovery.group_version(group, version, accepted(headers)?)
        }
        ["version"] => {
            negotiate::check_accepted(headers, &["application/json"])?;
            Ok(value(200, Default::default(), &state.discovery.version))
        }
        [kind @ ("healthz" | "livez" | "readyz")] => Ok(health::whole(state, kind, info)),
        [kind @ ("healthz" | "livez" | "readyz"), check @ ..] => {
            Ok(health::check(state, kind, &check.join("/")).unwrap_or_else(not_found))
        }
        ["statusz"] => zpages::statusz(state, headers),
        ["flagz"] => zpages::flagz(state, headers),
        ["metrics", "slis"] => {
            Ok(bytes(200, "text/plain; version=0.0.4; charset=utf-8", metrics::slis(state)))
        }
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

/// Documents that are no objects have neither table nor metadata.
fn accepted(headers: &HeaderMap) -> Result<Accepted, Status> {
    negotiate::accept_plain(headers)
}

/// The paths that lead somewhere.
pub(super) fn index() -> Vec<String> {
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
    let mut rest: Vec<String> = [
        "/flagz",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/statusz",
        "/version",
    ]
    .map(String::from)
    .to_vec();
    for kind in ["healthz", "livez", "readyz"] {
        rest.push(format!("/{kind}"));
        rest.extend(health::checks(kind).map(|check| format!("/{kind}/{check}")));
    }
    rest.sort();
    paths.extend(rest);
    paths
}

fn openid(state: &State) -> Result<Answer, Status> {
    let issuer = state.token_issuer.as_deref().ok_or_else(Status::unknown_path)?;
    let body = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/openid/v1/jwks"),
        "response_types_supported": ["id_token"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"]});
    Ok(value(200, Default::default(), &body))
}
