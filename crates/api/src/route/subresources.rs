//! What lies below an object: its status, its scale, and what is done to it.

use super::objects::{context, read_body, read_patch, show, show_as};
use super::{Asked, connect, logs, node_proxy, proxy};
use crate::body;
use crate::negotiate::{self, Accepted, View};
use crate::respond::{Answer, value, warn};
use bytes::Bytes;
use http::{Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};
use stoa_kube::{Resource, Status};

/// Answers a request on a subresource.
pub(super) async fn answer(asked: Asked<'_>, request: Request<Incoming>) -> Result<Answer, Status> {
    let name = asked.path.subresource.as_str();
    let known = asked.resource.subresource(name).ok_or_else(Status::unknown_path)?;
    if asked.path.name.is_empty() || (!asked.path.rest.is_empty() && name != "proxy") {
        return Err(Status::unknown_path());
    }
    let verb = asked.info.verb.as_str();
    // What is proxied is the pod's to refuse.
    if (!known.verbs.contains(&verb) || request.method() == Method::HEAD) && name != "proxy" {
        body::drain(request.into_body()).await;
        return Err(Status::method_not_allowed());
    }
    // What a pod is connected to answers in its own form.
    if !matches!(name, "log" | "exec" | "attach" | "portforward" | "proxy")
        && let Err(status) = negotiate::check_routed(request.headers(), verb)
    {
        body::drain(request.into_body()).await;
        return Err(status);
    }
    match name {
        "scale" => scale(asked, body::whole(request).await?).await,
        "token" => token(asked, body::whole(request).await?).await,
        "binding" => binding(asked, body::whole(request).await?).await,
        "eviction" => eviction(asked, body::whole(request).await?).await,
        "log" => logs::answer(asked, request).await,
        "exec" | "attach" | "portforward" => connect::answer(asked, request).await,
        "proxy" if asked.resource.plural == "nodes" => node_proxy::answer(asked, &request).await,
        "proxy" => proxy::answer(asked, request).await,
        _ => part(asked, body::whole(request).await?).await,
    }
}

/// The kind of the subresource's bodies.
fn kind_of<'a>(asked: &Asked<'a>) -> &'a str {
    asked.resource.subresource(&asked.path.subresource).map_or(asked.resource.kind, |s| s.kind)
}

/// A part of the object itself, which a subresource covers: `status`, `finalize`, `approval`, `resize`, ….
async fn part(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept(request.headers())?;
    let registry = &asked.state.registry;
    let done = match asked.info.verb.as_str() {
        "get" => return show(&asked, accepted, 200, registry.get(asked.target())?.value),
        "update" => {
            let mut ctx = context(&asked, request.headers(), "UpdateOptions")?;
            let body = read_body(&mut ctx, kind_of(&asked), &request)?;
            registry.update(&ctx, asked.target(), body).await?
        }
        "patch" => {
            let mut ctx = context(&asked, request.headers(), "PatchOptions")?;
            let patch = read_patch(&mut ctx, request)?;
            registry.patch(&ctx, asked.target(), &patch).await?
        }
        _ => return Err(Status::method_not_allowed()),
    };
    let mut answer = show(&asked, accepted, 200, done.bytes)?;
    warn(&mut answer, &done.warnings);
    Ok(answer)
}

async fn scale(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept(request.headers())?;
    let registry = &asked.state.registry;
    let (scale, done) = match asked.info.verb.as_str() {
        "get" => return show_scale(&asked, accepted, &registry.get_scale(asked.target())?),
        "update" => {
            let mut ctx = context(&asked, request.headers(), "UpdateOptions")?;
            let body = read_body(&mut ctx, kind_of(&asked), &request)?;
            registry.update_scale(&ctx, asked.target(), body).await?
        }
        "patch" => {
            let mut ctx = context(&asked, request.headers(), "PatchOptions")?;
            let patch = read_patch(&mut ctx, request)?;
            registry.patch_scale(&ctx, asked.target(), &patch).await?
        }
        _ => return Err(Status::method_not_allowed()),
    };
    let mut answer = show_scale(&asked, accepted, &scale)?;
    warn(&mut answer, &done.warnings);
    Ok(answer)
}

/// Scales, as if they were objects of their own.
static SCALES: Resource = Resource {
    group: "autoscaling",
    version: "v1",
    plural: "scales",
    kind: "Scale",
    list_kind: "",
    singular: "scale",
    namespaced: true,
    short_names: &[],
    categories: &[],
    verbs: &[],
    subresources: &[],
    storage: "autoscaling",
    storage_version: "v1",
};

fn show_scale(asked: &Asked<'_>, accepted: Accepted, scale: &Value) -> Result<Answer, Status> {
    match accepted.view {
        // What is not stored has not been made into bytes.
        View::Object => Ok(plain(accepted, 200, scale)),
        _ => show_as(asked, &SCALES, accepted, 200, scale.to_string().into()),
    }
}

fn plain(accepted: Accepted, code: u16, body: &serde_json::Value) -> Answer {
    value(code, accepted.encoding, body)
}

async fn token(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept(request.headers())?;
    let mut ctx = context(&asked, request.headers(), "CreateOptions")?;
    let body = read_body(&mut ctx, kind_of(&asked), &request)?;
    let (made, warnings) = asked.state.registry.create_token(&ctx, asked.target(), body)?;
    let mut answer = plain(accepted, 201, &made);
    warn(&mut answer, &warnings);
    Ok(answer)
}

async fn binding(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept(request.headers())?;
    let mut ctx = context(&asked, request.headers(), "CreateOptions")?;
    let body = read_body(&mut ctx, kind_of(&asked), &request)?;
    let done = asked.state.registry.create_binding(&ctx, asked.target(), body).await?;
    Ok(done_so(accepted, &done.warnings))
}

async fn eviction(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept(request.headers())?;
    let mut ctx = context(&asked, request.headers(), "CreateOptions")?;
    let body = read_body(&mut ctx, kind_of(&asked), &request)?;
    let warnings = asked.state.registry.evict(&ctx, asked.target(), body).await?;
    Ok(done_so(accepted, &warnings))
}

/// The answer to what makes nothing that could be shown.
pub(super) fn done_so(accepted: Accepted, warnings: &[String]) -> Answer {
    let mut answer = plain(accepted, 201, &json!(Status::success(201)));
    warn(&mut answer, warnings);
    answer
}
