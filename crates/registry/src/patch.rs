//! Patches: applied to the object as it stands, again and again if others write it meanwhile, and then judged as updates.

use crate::options::PATCH_TRIES_MAX;
use crate::update::{given_revision, read};
use crate::{Context, FieldValidation, Registry, Target, Written, convert, decode};
use bytes::Bytes;
use serde_json::{Map, Value};
use stoa_kube::{Cause, Object, Resource, Status, reason, schema};
use stoa_merge::{Force, Look, Manager};

/// The record of owners in an object's metadata.
const RECORD: &str = "managedFields";

/// How a patch is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// By the schema's merge keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// A patch.
#[derive(Clone, Debug)]
pub struct Patch {
    /// How it is meant.
    pub kind: PatchKind,
    /// The patch itself, JSON.
    pub body: Bytes,
}

impl Registry {
    /// Patches an object, or the part of it that a subresource covers.
    pub async fn patch(&self, ctx: &Context, target: Target<'_>, patch: &Patch) -> Result<Written, Status> {
        let resource = target.resource;
        let key = self.key(resource, target.namespace, target.name);
        let body = Body::read(ctx, resource, patch)?;
        let turn = self.quota_update_turn(target).await;
        for _ in 0..PATCH_TRIES_MAX {
            let Some(entry) = self.store().get(&key) else {
                match self.patch_absent(ctx, target, &body, turn.is_some()).await {
                    // Somebody else made it meanwhile: then it is there to be patched.
                    Err(status) if status.is(reason::ALREADY_EXISTS) => continue,
                    done => return done,
                }
            };
            let old = read(&entry)?;
            let patch = |is_shown: bool| -> Result<(Value, Managed), Status> {
                let is_whole = is_shown || body.may_see_record();
                let live = if is_whole { old.clone() } else { without_record(&old) };
                let mut served = convert::to_served(resource, live)?;
                // A patch may test the revision it was made for.
                served["metadata"]["resourceVersion"] = entry.modified.to_string().into();
                let (patched, record) = self.patched(ctx, target, &body, Some(served))?;
                let managed = match body {
                    Body::Apply(_) => Managed::Set(record),
                    _ => Managed::Track,
                };
                Ok((patched, managed))
            };
            let (patched, managed) = patch(false)?;
            // Who is refused is shown what the patch has made: it is made once more for him rather than kept for all.
            let shown = || patch(true).map(|(patched, _)| patched.to_string()).unwrap_or_default();
            let made = match &body {
                Body::Strategic(read) => decode::Made::Object(patched, read.as_ref().map_err(Clone::clone)?),
                Body::Apply(_) => decode::Made::Applied(patched),
                _ => decode::Made::Document(patched),
            };
            let (patched, warnings) = decode::patched(ctx, target, made, shown)?;
            decode::check_named(target, &patched)?;
            let patched = Object(convert::to_stored(resource, patched)?);
            if given_revision(resource, &patched)?.is_some_and(|r| r != entry.modified) {
                return Err(Status::conflict_modified(resource, target.name));
            }
            check_uid(resource, target, &old, &patched)?;
            let plan = self.plan_update(ctx, target, &entry, &old, patched.0, managed)?;
            if let Some(mut written) = self.carry_out(ctx, target, entry, plan).await? {
                written.warnings.splice(0..0, warnings);
                return Ok(written);
            }
        }
        Err(Status::conflict_modified(resource, target.name))
    }

    /// Only what is applied makes an object that is not there.
    async fn patch_absent(
        &self,
        ctx: &Context,
        target: Target<'_>,
        body: &Body,
        has_turn: bool,
    ) -> Result<Written, Status> {
        if !matches!(body, Body::Apply(_)) || !target.subresource.is_empty() {
            return Err(Status::not_found(target.resource, target.name));
        }
        self.check_may_create(ctx, target)?;
        let (object, managed) = self.patched(ctx, target, body, None)?;
        if let Some(uid) = object["metadata"]["uid"].as_str().filter(|uid| !uid.is_empty()) {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Status::conflict(target.resource, target.name, &why));
        }
        decode::check_namespace(target, &object)?;
        decode::check_named(target, &object)?;
        if has_turn {
            return self.create_in_turn(ctx, target, object, managed).await;
        }
        self.create_managed(ctx, target, object, managed).await
    }

    /// What a patch makes of an object, and of an apply the record of owners, as JSON.
    fn patched(
        &self,
        ctx: &Context,
        target: Target<'_>,
        body: &Body,
        now: Option<Value>,
    ) -> Result<(Value, Option<String>), Status> {
        let ty = schema::builtin().type_of(target.resource);
        match (body, now) {
            (Body::Apply(applied), live) => {
                let api_version = target.resource.api_version();
                let manager = manager(ctx, target, &api_version);
                let force = if ctx.force { Force::Yes } else { Force::No };
                let merged = stoa_merge::apply(live, applied, &manager, force, self.now(), ty)
                    .map_err(|e| e.to_status())?;
                if ctx.field_validation == FieldValidation::Strict && !ctx.body_problems.is_empty() {
                    return Err(Status::bad_request(ctx.body_problems.join(", ")));
                }
                Ok(merged)
            }
            (body, Some(now)) => Ok((body.applied_to(now, ty)?, None)),
            (_, None) => Err(Status::not_found(target.resource, target.name)),
        }
    }
}

/// What is applied says what it is, to the letter.
pub(crate) fn check_applied(applied: &Value, api_version: &str, kind: &str) -> Result<(), Status> {
    let text = |key: &str| applied[key].as_str().unwrap_or_default();
    let found = match applied {
        Value::Object(_) | Value::Null => "",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    if !found.is_empty() {
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type map[string]interface {{}}"
        )));
    }
    if (text("apiVersion"), text("kind")) == (api_version, kind) {
        return Ok(());
    }
    let (group, version, kind) = match text("apiVersion").split('/').collect::<Vec<_>>()[..] {
        [version] => ("", version, text("kind")),
        [group, version] => (group, version, text("kind")),
        // Such a version is none, and then nothing is known.
        _ => ("", "", ""),
    };
    Err(Status::bad_request(format!("invalid object type: {group}/{version}, Kind={kind}")))
}

/// A patch demands nothing of the object's uid, it would set it.
fn check_uid(resource: &Resource, target: Target<'_>, old: &Value, new: &Object) -> Result<(), Status> {
    if new.uid().is_empty() || old["metadata"]["uid"] == new.uid() {
        return Ok(());
    }
    // Both the object's own rules and those of its metadata say so.
    let cause = Cause::invalid("metadata.uid", new.uid(), "field is immutable");
    Err(Status::invalid_object(resource, target.name, vec![cause.clone(), cause]))
}

/// What happens to the record of who owns which field.
pub(crate) enum Managed {
    /// It is kept where there is one, and this write is added. Objects that the cluster made for itself carry none: on these,
    /// fields are owned from the first apply on, and what was written before that belongs to `before-first-apply`.
    Track,
    /// It becomes this, which is JSON.
    Set(Option<String>),
}

/// Whom a write is recorded as.
pub(crate) fn manager<'a>(ctx: &'a Context, target: Target<'a>, api_version: &'a str) -> Manager<'a> {
    let name = if ctx.field_manager.is_empty() { "unknown" } else { &ctx.field_manager };
    Manager { name, api_version, subresource: target.subresource }
}

/// An object without its record, which is as large as the rest of it.
fn without_record(object: &Value) -> Value {
    let Some(map) = object.as_object() else { return object.clone() };
    let mut out = Map::new();
    for (key, value) in map {
        let value = match value.as_object().filter(|_| key == "metadata") {
            Some(meta) => {
                let kept = meta.iter().filter(|(key, _)| *key != RECORD);
                kept.map(|(key, value)| (key.clone(), value.clone())).collect()
            }
            None => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    Value::Object(out)
}

/// Takes the record out of an object, so that admission sees the object alone.
pub(crate) fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(RECORD)
}

/// A patch whose text was read.
pub(crate) enum Body {
    Json(Bytes, Look),
    Merge(Bytes, Look),
    /// What cannot be read is refused only once there is something to be patched.
    Strategic(Result<Value, Status>),
    Apply(Value),
}

impl Body {
    pub(crate) fn read(ctx: &Context, resource: &Resource, patch: &Patch) -> Result<Body, Status> {
        let look = if ctx.field_validation == FieldValidation::Ignore { Look::Plain } else { Look::Close };
        let parsed = || {
            let parsed = stoa_kube::decode::parse(&patch.body);
            parsed.map(|parsed| parsed.value).map_err(|e| Status::bad_request(e.to_string()))
        };
        match patch.kind {
            PatchKind::Json => Ok(Body::Json(patch.body.clone(), look)),
            PatchKind::Merge => Ok(Body::Merge(patch.body.clone(), look)),
            PatchKind::Strategic => Ok(Body::Strategic(parsed().map(|read| match read {
                // Go reads null into a map without entries.
                Value::Null => Value::Object(Default::default()),
                read => read,
            }))),
            PatchKind::Apply => {
                let value = parsed()?;
                check_applied(&value, &resource.api_version(), resource.kind)?;
                Ok(Body::Apply(value))
            }
        }
    }

    /// Whether the patch could test, copy or change the record of owners of what it is applied to.
    fn may_see_record(&self) -> bool {
        match self {
            Body::Json(..) | Body::Apply(_) => true,
            // A name can be written with escapes.
            Body::Merge(patch, _) => {
                patch.contains(&b'\\') || patch.windows(RECORD.len()).any(|w| w == RECORD.as_bytes())
            }
            Body::Strategic(patch) => patch
                .as_ref()
                .is_ok_and(|p| p["metadata"].as_object().is_some_and(|m| m.contains_key(RECORD))),
        }
    }

    /// Applies the patch to a document that nobody applies.
    pub(crate) fn applied_to(&self, document: Value, ty: schema::Type<'_>) -> Result<Value, Status> {
        match self {
            Body::Json(patch, look) => stoa_merge::json_patch(document, patch, *look),
            Body::Merge(patch, look) => stoa_merge::merge_patch(document, patch, *look),
            Body::Strategic(patch) => {
                stoa_merge::strategic(document, patch.as_ref().map_err(Clone::clone)?, ty)
            }
            Body::Apply(patch) => stoa_merge::strategic(document, patch, ty),
        }
        .map_err(|e| e.to_status())
    }
}
