//! The verbs on API objects.

use super::{Asked, component_status, leases, subresources};
use crate::body;
use crate::negotiate::{self, Accepted, Content, Encoding, Include, View};
use crate::query::Query;
use crate::respond::{Answer, object, value, warn, warn_first, whole, with_body};
use crate::{encode, review, table, watch, yaml};
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Request};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::decode::{PROBLEMS_MAX, Parsed, shown};
use stoa_kube::{Cause, Resource, Status, reason};
use stoa_registry::{
    Change, Context, DeleteOptions, Deleted, FieldValidation, Initial, ListOptions, Patch, PatchKind,
    Persist, Selection, WatchOptions, Written, default_watch_timeout, parse_list_revision, parse_revision,
};

use stoa_streams::{Kind, Messages, is_upgrade};

/// Longest name of a field manager.
const FIELD_MANAGER_LEN_MAX: usize = 128;

/// Where a stock server's options are registered, as its refusals say.
const OPTIONS_SCHEME: &str = "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme/register.go:27";

/// Kinds whose delete answers with the object that was there rather than with a `Status`.
const DELETE_ANSWERS_OBJECT: [(&str, &str); 17] = [
    ("", "namespaces"),
    ("", "pods"),
    ("", "persistentvolumes"),
    ("", "persistentvolumeclaims"),
    ("", "podtemplates"),
    ("", "resourcequotas"),
    ("", "serviceaccounts"),
    ("", "services"),
    ("resource.k8s.io", "deviceclasses"),
    ("resource.k8s.io", "resourceclaims"),
    ("resource.k8s.io", "resourceclaimtemplates"),
    ("resource.k8s.io", "resourceslices"),
    ("storage.k8s.io", "csidrivers"),
    ("storage.k8s.io", "csinodes"),
    ("storage.k8s.io", "storageclasses"),
    ("storage.k8s.io", "volumeattachments"),
    ("storage.k8s.io", "volumeattributesclasses"),
];

/// Answers a request on an object or a collection.
pub(super) async fn answer(asked: Asked<'_>, mut request: Request<Incoming>) -> Result<Answer, Status> {
    let verb = asked.info.verb.as_str();
    let served = asked.resource.has_verb(verb) || (verb == "get" && asked.resource.has_verb("list"));
    // A stock server's routes of objects know no HEAD.
    if !served || request.method() == Method::HEAD {
        body::drain(request.into_body()).await;
        return Err(Status::method_not_allowed());
    }
    // Without a namespace, what has one is listed and watched only, and nothing of it is there by name.
    if asked.resource.namespaced && asked.path.namespace.is_empty() && !matches!(verb, "list" | "watch") {
        body::drain(request.into_body()).await;
        let is_listed = asked.resource.has_verb("list") && asked.path.name.is_empty();
        return Err(if is_listed { Status::method_not_allowed() } else { Status::unknown_path() });
    }
    let routed = match verb {
        // A collection is neither patched nor replaced, whatever the body.
        "update" | "patch" if asked.path.name.is_empty() => Err(Status::method_not_allowed()),
        _ => negotiate::check_routed(request.headers(), verb),
    };
    if let Err(status) = routed {
        body::drain(request.into_body()).await;
        return Err(status);
    }
    let (deprecated, notes) = (deprecation(asked.resource), asked.notes.clone());
    let answered = match verb {
        "get" | "list" if asked.resource.plural == "componentstatuses" => {
            component_status::answer(&asked, request.headers()).await
        }
        "get" => get(&asked, request.headers()).await,
        // Boxed one by one: the largest of them would be moved about for the smallest.
        "list" => Box::pin(list(&asked, request.headers())).await,
        "watch" => Box::pin(watch(&asked, &mut request)).await,
        "create" => Box::pin(create(asked, body::whole(request).await?)).await,
        "update" => Box::pin(update(asked, body::whole(request).await?)).await,
        "patch" => Box::pin(patch(asked, body::whole(request).await?)).await,
        "delete" => Box::pin(delete(asked, body::whole(request).await?)).await,
        "deletecollection" => Box::pin(delete_collection(asked, body::whole(request).await?)).await,
        _ => Err(Status::method_not_allowed()),
    };
    // What is said of the resource comes first, and who is refused hears it too.
    match answered {
        Ok(mut answer) => {
            warn_first(&mut answer, deprecated);
            Ok(answer)
        }
        Err(status) => {
            notes.precede_oddities(deprecated);
            Err(status)
        }
    }
}

/// What users of an old resource are told.
fn deprecation(resource: &Resource) -> &'static [&'static str] {
    match (resource.group, resource.plural) {
        ("", "endpoints") => &["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"],
        ("", "componentstatuses") => &["v1 ComponentStatus is deprecated in v1.19+"],
        _ => &[],
    }
}

async fn get(asked: &Asked<'_>, headers: &HeaderMap) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(headers)?;
    if asked.info.query.is_true("export") {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(why));
    }
    if let Some(revision) = parse_revision(asked.info.query.text("resourceVersion"))? {
        asked.state.registry.wait_for(revision).await?;
    }
    let entry = asked.state.registry.get(asked.target())?;
    let value = leases::freshen(&asked.state, asked.resource, asked.namespace(), entry.value);
    show(asked, accepted, 200, value)
}

/// One object in the form agreed on.
pub(super) fn show(asked: &Asked<'_>, accepted: Accepted, code: u16, bytes: Bytes) -> Result<Answer, Status> {
    show_as(asked, asked.resource, accepted, code, bytes)
}

/// The same for what is of another kind than what was asked, as a scale is.
pub(super) fn show_as(
    asked: &Asked<'_>,
    resource: &Resource,
    accepted: Accepted,
    code: u16,
    bytes: Bytes,
) -> Result<Answer, Status> {
    let now = asked.state.registry.clock().now();
    Ok(match accepted.view {
        View::Object | View::Discovery => object(code, accepted.encoding, bytes),
        View::Partial => object(code, accepted.encoding, table::partial(&bytes)),
        View::PartialList => {
            let what = format!("is not a list ({})", encode::go_type(resource, resource.kind));
            return Err(Status::not_so("PartialObjectMetadataList", &what));
        }
        View::Table => {
            let include = negotiate::include(asked.info.query.text("includeObject"))?;
            let revision = stoa_kube::Meta::read(&bytes).map(|m| m.resource_version).unwrap_or_default();
            let row = table::row(resource, &bytes, include, now);
            value(code, accepted.encoding, &table::table(resource, &revision, vec![row]))
        }
    })
}

pub(super) fn selection(asked: &Asked<'_>) -> Result<Selection, Status> {
    let q = &asked.info.query;
    Selection::parse(asked.resource, q.text("labelSelector"), q.text("fieldSelector"))
}

fn list_options(asked: &Asked<'_>) -> Result<ListOptions, Status> {
    let q = &asked.info.query;
    let (revision, token) = (q.text("resourceVersion"), q.text("continue"));
    // A list does not wait, but what it is told must be a number all the same.
    let (_, limit) = read_numbers(q)?;
    let how = q.text("resourceVersionMatch");
    let revision_match = ListOptions::check_match(revision, token, how, initial(q))?;
    Ok(ListOptions {
        selection: selection(asked)?,
        limit: usize::try_from(limit).unwrap_or(0),
        continue_: token.to_string(),
        // A token says for itself of which revision it is.
        revision: if token.is_empty() { parse_list_revision(revision)? } else { parse_revision(revision)? },
        revision_match,
    })
}

/// What must be readable before anything is judged: how long to watch, if said, and how much to list.
fn read_numbers(q: &Query) -> Result<(Option<i64>, i64), Status> {
    let (timeout, limit) = (q.number("timeoutSeconds")?, q.number("limit")?.unwrap_or(0));
    Selection::check_syntax(q.text("labelSelector"), q.text("fieldSelector"))?;
    Ok((timeout, limit))
}

/// Whether a watch is to begin with what exists.
fn initial(q: &Query) -> Initial {
    match q.get("sendInitialEvents") {
        None => Initial::ByRevision,
        Some(_) if q.is_true("sendInitialEvents") => Initial::Send,
        Some(_) => Initial::Skip,
    }
}

async fn list(asked: &Asked<'_>, headers: &HeaderMap) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(headers)?;
    let include = negotiate::include(asked.info.query.text("includeObject"))?;
    let options = list_options(asked)?;
    let mut list = asked.state.registry.list(asked.resource, asked.namespace(), &options).await?;
    if leases::concerns(asked.resource, asked.namespace()) {
        let fresh = |value| leases::freshen(&asked.state, asked.resource, asked.namespace(), value);
        list.entries =
            list.entries.into_iter().map(|e| stoa_store::Entry { value: fresh(e.value), ..e }).collect();
    }
    let now = asked.state.registry.clock().now();
    encode::list(asked.resource, list, accepted, include, headers, now).await
}

async fn watch(asked: &Asked<'_>, request: &mut Request<Incoming>) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(request.headers())?;
    if accepted.encoding == Encoding::Yaml {
        return Err(Status::not_acceptable(&negotiate::STREAMED));
    }
    let q = &asked.info.query;
    let (timeout, _) = read_numbers(q)?;
    let initial = initial(q);
    WatchOptions::check(initial, q.text("resourceVersionMatch"), q.text("continue"))?;
    let mut fields = selection(asked)?;
    if !asked.path.name.is_empty() {
        // The old form of a watch may name one object.
        let terms = format!("metadata.name={}", asked.path.name);
        fields = Selection::parse(asked.resource, q.text("labelSelector"), &terms)?;
    }
    // A time that is over before it begins ends the watch at once; none at all is the server's to choose.
    let timeout = timeout.filter(|s| *s != 0);
    let timeout =
        timeout.map_or_else(default_watch_timeout, |s| Duration::from_secs(s.max(0).unsigned_abs()));
    let options = WatchOptions {
        selection: fields,
        revision: parse_revision(q.text("resourceVersion"))?,
        initial,
        bookmarks: q.is_true("allowWatchBookmarks"),
        timeout: Some(timeout),
    };
    let include = negotiate::include(q.text("includeObject"))?;
    let upgrade = is_upgrade(request.headers());
    let agreed = upgrade.then(|| stoa_streams::negotiate(request.method(), request.headers(), Kind::Events));
    let agreed = agreed.transpose().map_err(|e| Status::failure(e.code, reason::BAD_REQUEST, e.message))?;
    let registry = &asked.state.registry;
    let started = registry.watch(asked.resource, asked.namespace(), options).await?;
    let shown = watch::Shown {
        resource: asked.resource,
        view: accepted.view,
        encoding: accepted.encoding,
        include,
        clock: registry.clock().clone(),
        columns_sent: false,
    };
    let open = asked.state.metrics.watch();
    if let Some(agreed) = agreed {
        let form = match accepted.encoding {
            Encoding::Protobuf => Messages::Binary,
            _ => Messages::Text,
        };
        let messages = watch::messages(started, shown, asked.state.closing.clone(), open);
        let (head, upgrade) = (agreed.response(), hyper::upgrade::on(request));
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                agreed.serve_messages(upgraded, messages, form).await;
            }
        });
        return Ok(head.map(|()| whole(Bytes::new())));
    }
    let body = watch::body(started, shown, asked.state.closing.clone(), open);
    let media_type = match accepted.encoding {
        Encoding::Protobuf => stoa_kube::protobuf::WATCH_MEDIA_TYPE,
        encoding => encoding.media_type(),
    };
    Ok(with_body(200, media_type, body))
}

/// What the query says about how to write.
pub(super) fn context(asked: &Asked<'_>, headers: &HeaderMap, kind: &str) -> Result<Context, Status> {
    let q = &asked.info.query;
    let mut ctx = Context::of(asked.user.clone());
    ctx.notes = asked.notes.clone();
    let mut causes = Vec::new();
    let is_apply = negotiate::is_apply(headers);
    if kind == "PatchOptions" && is_apply && q.text("fieldManager").is_empty() {
        causes.push(Cause::required("fieldManager", "is required for apply patch"));
    }
    if kind == "PatchOptions" && q.get("force").is_some() && !is_apply {
        causes.push(Cause::forbidden("force", "may not be specified for non-apply patch"));
    }
    let manager = if kind == "DeleteOptions" { "" } else { q.text("fieldManager") };
    if manager.len() > FIELD_MANAGER_LEN_MAX {
        causes.push(Cause::too_long("fieldManager", FIELD_MANAGER_LEN_MAX));
    }
    for (at, c) in manager.char_indices().filter(|(_, c)| c.is_control()) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(c));
        causes.push(Cause::invalid("fieldManager", manager, &why));
    }
    ctx.persist = match dry_run(q, &mut causes) {
        true => Persist::DryRun,
        false => Persist::Commit,
    };
    ctx.field_validation = match q.text("fieldValidation") {
        // A delete writes no fields.
        _ if kind == "DeleteOptions" => FieldValidation::Warn,
        "" | "Warn" => FieldValidation::Warn,
        "Ignore" => FieldValidation::Ignore,
        "Strict" => FieldValidation::Strict,
        other => {
            let known = ["", "Ignore", "Strict", "Warn"];
            causes.push(Cause::not_supported("fieldValidation", other, &known));
            FieldValidation::Warn
        }
    };
    if !causes.is_empty() {
        return Err(Status::invalid(kind, "meta.k8s.io", "", causes));
    }
    ctx.field_manager = match manager {
        // An apply must say who applies; every other write is known by the client's name.
        "" if !is_apply => agent(headers),
        named => named.to_string(),
    };
    ctx.force = q.is_true("force");
    Ok(ctx)
}

/// The client's name, up to its version.
fn agent(headers: &HeaderMap) -> String {
    let text = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    text.split('/').next().unwrap_or_default().chars().take(FIELD_MANAGER_LEN_MAX).collect()
}

fn dry_run(q: &Query, causes: &mut Vec<Cause>) -> bool {
    let asked: Vec<&str> = q.all("dryRun").collect();
    if asked.iter().any(|v| *v != "All") {
        causes.push(Cause::not_supported("dryRun", json!(asked), &["All"]));
    }
    !asked.is_empty()
}

/// Reads the body of a write.
pub(super) fn read_body(ctx: &mut Context, kind: &str, request: &Request<Bytes>) -> Result<Value, Status> {
    let content = negotiate::content(request.headers())?;
    let parsed = body::parse(request.body(), content, kind)?;
    ctx.body_problems = match (content, ctx.field_validation) {
        // What a YAML parser finds is one error, and as many warnings as it has lines.
        (Content::Yaml, FieldValidation::Strict) => yaml::strict(&parsed.problems).into_iter().collect(),
        _ => parsed.problems,
    };
    Ok(parsed.value)
}

fn written(asked: &Asked<'_>, accepted: Accepted, written: Written) -> Result<Answer, Status> {
    let code = if written.change == Change::Created { 201 } else { 200 };
    let mut answer = show(asked, accepted, code, written.bytes)?;
    warn(&mut answer, &written.warnings);
    Ok(answer)
}

async fn create(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    if !asked.path.name.is_empty() {
        return Err(Status::method_not_allowed());
    }
    let accepted = match is_virtual(&asked) {
        true => negotiate::accept_plain(request.headers())?,
        false => negotiate::accept_object(request.headers())?,
    };
    let mut ctx = context(&asked, request.headers(), "CreateOptions")?;
    let body = read_body(&mut ctx, asked.resource.kind, &request)?;
    let registry = &asked.state.registry;
    if asked.resource.plural == "bindings" {
        let done = registry.create_binding(&ctx, asked.target(), body).await?;
        return Ok(subresources::done_so(accepted, &done.warnings));
    }
    let kind = asked.resource.kind;
    let (state, user, path) = (&asked.state, &asked.user, asked.path);
    if is_virtual(&asked) {
        if let Some(token) = body["spec"]["token"].as_str() {
            state.prepare(token).await;
        }
        let reviewed = review::create(state, user, path, kind, body, accepted.encoding)?;
        return reviewed.ok_or_else(Status::method_not_allowed);
    }
    let done = registry.create(&ctx, asked.target(), body).await?;
    written(&asked, accepted, done)
}

/// Kinds that are answered and never stored.
fn is_virtual(asked: &Asked<'_>) -> bool {
    matches!(asked.resource.group, "authorization.k8s.io" | "authentication.k8s.io")
}

async fn update(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(request.headers())?;
    let mut ctx = context(&asked, request.headers(), "UpdateOptions")?;
    let body = read_body(&mut ctx, asked.resource.kind, &request)?;
    let done = asked.state.registry.update(&ctx, asked.target(), body).await?;
    written(&asked, accepted, done)
}

/// Reads a patch.
pub(super) fn read_patch(ctx: &mut Context, request: Request<Bytes>) -> Result<Patch, Status> {
    let kind = negotiate::patch_kind(request.headers())?;
    let bytes = request.into_body();
    let bytes = match kind {
        // What is applied may be YAML, of which JSON is a part.
        // JSON that names nothing twice reads the same either way, and sooner as what it is.
        PatchKind::Apply if stoa_kube::decode::parse(&bytes).is_ok_and(|p| p.duplicates.is_empty()) => bytes,
        PatchKind::Apply => {
            let before = "error converting YAML to JSON: ";
            let parsed = yaml::parse(&bytes)
                .map_err(|e| Status::bad_request(format!("error decoding YAML: {before}{e}")))?;
            ctx.body_problems = match ctx.field_validation {
                FieldValidation::Strict => {
                    let why = yaml::strict(&parsed.problems);
                    why.map(|why| format!("error strict decoding YAML: {before}{why}")).into_iter().collect()
                }
                _ => parsed.problems,
            };
            parsed.value.to_string().into()
        }
        // What is no JSON is refused where it is carried out.
        _ => {
            let parsed = stoa_kube::decode::parse(&bytes);
            ctx.body_problems = parsed.map(|parsed| oddities(kind, parsed)).unwrap_or_default();
            bytes
        }
    };
    Ok(Patch { kind, body: bytes })
}

/// What is odd about a patch: fields that it names twice, and those that no operation of a JSON patch has.
fn oddities(kind: PatchKind, parsed: Parsed) -> Vec<String> {
    let mut found = parsed.duplicates;
    if kind != PatchKind::Json {
        return found;
    }
    let operations = parsed.value.as_array().into_iter().flatten().enumerate();
    for (i, key) in
        operations.flat_map(|(i, o)| o.as_object().into_iter().flatten().map(move |(k, _)| (i, k)))
    {
        if found.len() < PROBLEMS_MAX && !["op", "path", "from", "value"].contains(&key.as_str()) {
            found.push(format!("unknown field {}", shown(&format!("[{i}].{key}"))));
        }
    }
    found.iter_mut().for_each(|text| text.insert_str(0, "json patch "));
    found
}

async fn patch(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(request.headers())?;
    let mut ctx = context(&asked, request.headers(), "PatchOptions")?;
    let patch = read_patch(&mut ctx, request)?;
    let done = asked.state.registry.patch(&ctx, asked.target(), &patch).await?;
    written(&asked, accepted, done)
}

/// Delete options from the body, or from the query where there is none: the one or the other, never both.
fn delete_options(
    asked: &Asked<'_>,
    ctx: &mut Context,
    request: &Request<Bytes>,
) -> Result<DeleteOptions, Status> {
    let bytes = request.body();
    if !bytes.is_empty() {
        let value = read_delete_options(request)?;
        let options = DeleteOptions::parse(&value)?;
        ctx.persist = if options.dry_run { Persist::DryRun } else { Persist::Commit };
        return Ok(options);
    }
    let q = &asked.info.query;
    let mut value = json!({});
    if let Some(seconds) = q.number("gracePeriodSeconds")? {
        value["gracePeriodSeconds"] = seconds.into();
    }
    if q.get("propagationPolicy").is_some() {
        value["propagationPolicy"] = q.text("propagationPolicy").into();
    }
    if q.get("orphanDependents").is_some() {
        value["orphanDependents"] = q.is_true("orphanDependents").into();
    }
    for field in ["uid", "resourceVersion"].into_iter().filter(|_| asked.info.verb == "delete") {
        if !q.text(field).is_empty() {
            value["preconditions"][field] = q.text(field).into();
        }
    }
    DeleteOptions::parse(&value)
}

fn read_delete_options(request: &Request<Bytes>) -> Result<Value, Status> {
    // A stock server takes options that it cannot read for its own failure, in the same words; they are the client's.
    let parsed = body::parse_plain(request.body(), negotiate::content(request.headers())?);
    let parsed = parsed.map_err(Status::bad_request)?;
    let text = |key: &str| parsed.value[key].as_str().unwrap_or_default();
    let version = text("apiVersion");
    // Every group has delete options of its own name.
    let version = if version.is_empty() { "meta.k8s.io/v1" } else { version };
    if !matches!(text("kind"), "" | "DeleteOptions") {
        let kind = text("kind");
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme {OPTIONS_SCHEME:?}"
        )));
    }
    match stoa_kube::schema::builtin().named("apis.meta.v1.DeleteOptions") {
        Some(ty) => {
            let read = stoa_kube::decode::decode_value(parsed.value, ty);
            Ok(read.map_err(|e| Status::bad_request(e.to_string()))?.value)
        }
        None => Ok(parsed.value),
    }
}

/// What the query says of a deletion, unless a body says it.
fn delete_context(asked: &Asked<'_>, request: &Request<Bytes>) -> Result<Context, Status> {
    if request.body().is_empty() {
        return context(asked, request.headers(), "DeleteOptions");
    }
    let mut ctx = Context::of(asked.user.clone());
    ctx.notes = asked.notes.clone();
    ctx.field_manager = agent(request.headers());
    Ok(ctx)
}

async fn delete(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(request.headers())?;
    let mut ctx = delete_context(&asked, &request)?;
    let options = delete_options(&asked, &mut ctx, &request)?;
    let deleted = asked.state.registry.delete(&ctx, asked.target(), &options).await?;
    let gone = deleted.change == Change::Deleted;
    let mut answer = if gone && !answers_object(&asked) {
        let status = Status::deleted(asked.resource, &deleted.name, &deleted.uid);
        object(200, accepted.encoding, status.to_bytes())
    } else {
        // Who asks in the old way for all that the object owns to go is told that it has not gone yet.
        let code = if !gone && options.orphan_dependents == Some(false) { 202 } else { 200 };
        show(&asked, accepted, code, deleted.bytes)?
    };
    warn(&mut answer, left_behind(&asked, &options));
    Ok(answer)
}

/// What a client may not know of jobs: their pods stay.
fn left_behind(asked: &Asked<'_>, options: &DeleteOptions) -> &'static [&'static str] {
    const WARNING: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
    match (asked.resource.group, asked.resource.plural) {
        ("batch", "jobs") if options.propagation.is_none() => &[WARNING],
        _ => &[],
    }
}

fn answers_object(asked: &Asked<'_>) -> bool {
    DELETE_ANSWERS_OBJECT.contains(&(asked.resource.group, asked.resource.plural))
}

async fn delete_collection(asked: Asked<'_>, request: Request<Bytes>) -> Result<Answer, Status> {
    let accepted = negotiate::accept_object(request.headers())?;
    let mut ctx = delete_context(&asked, &request)?;
    let list = list_options(&asked)?;
    let options = delete_options(&asked, &mut ctx, &request)?;
    let registry = &asked.state.registry;
    let deleted: Vec<Deleted> =
        registry.delete_collection(&ctx, asked.resource, asked.namespace(), &list, &options).await?;
    let entries = deleted.into_iter().map(|d| stoa_store::Entry {
        key: registry.key(asked.resource, asked.namespace(), &d.name),
        value: d.bytes,
        created: d.revision,
        modified: d.revision,
    });
    let page = stoa_registry::List {
        entries: entries.collect(),
        revision: registry.store().revision(),
        continue_: None,
        remaining: None,
    };
    let now = registry.clock().now();
    let mut answer =
        encode::list(asked.resource, page, accepted, Include::Metadata, request.headers(), now).await?;
    warn(&mut answer, left_behind(&asked, &options));
    Ok(answer)
}
