//! Updates: of whole objects, of their status, and by the cluster's own components.

use crate::create::prune_empty;
use crate::error::Demand;
use crate::options::MODIFY_TRIES_MAX;
use crate::patch::{Managed, manager, take_managed};
use crate::{
    Change, Context, Prepared, Registry, Target, Written, admission, allocate, certificate, convert, decode,
    error,
};
use serde_json::Value;
use std::borrow::Cow;
use stoa_admit::Operation;
use stoa_kube::{Cause, Object, Resource, Status, schema};
use stoa_store::{Entry, Error};
use stoa_units::{Revision, Time};

/// Metadata that no update changes: it is what it was.
const KEPT_METADATA: [&str; 2] = ["uid", "creationTimestamp"];

/// What an update comes to before it is committed.
pub(crate) enum Plan {
    /// Nothing changes; what was odd about it is said all the same.
    Same(Vec<String>),
    /// The object is written, or removed because its last finalizer went.
    Write(Box<Prepared>),
}

impl Registry {
    /// Replaces an object, or the part of it that a subresource covers.
    pub async fn update(&self, ctx: &Context, target: Target<'_>, object: Value) -> Result<Written, Status> {
        let resource = target.resource;
        let key = self.key(resource, target.namespace, target.name);
        let (object, warnings) = decode::object(ctx, target, object)?;
        decode::check_named(target, &object)?;
        let mut object = Object(convert::to_stored(resource, object)?);
        let given = given_revision(resource, &object)?;
        place(target, &mut object);
        let _turn = self.quota_update_turn(target).await;
        for _ in 0..MODIFY_TRIES_MAX {
            let Some(entry) = self.store().get(&key) else {
                return self.update_absent(ctx, target, given, object).await;
            };
            let old = read(&entry)?;
            check_uid(ctx, target, &object, old["metadata"]["uid"].as_str().unwrap_or_default())?;
            check_revision(resource, target, given, &entry)?;
            // Who says what he has read has one try.
            let body = if given.is_some() { std::mem::take(&mut object.0) } else { object.0.clone() };
            let plan = self.plan_update(ctx, target, &entry, &old, body, Managed::Track)?;
            if let Some(mut written) = self.carry_out(ctx, target, entry, plan).await? {
                written.warnings.splice(0..0, warnings);
                return Ok(written);
            }
            if given.is_some() {
                break;
            }
        }
        Err(Status::conflict_modified(resource, target.name))
    }

    async fn update_absent(
        &self,
        ctx: &Context,
        target: Target<'_>,
        given: Option<Revision>,
        object: Object,
    ) -> Result<Written, Status> {
        let may_create = may_create_on_update(target);
        if may_create {
            // What is not there is nobody.
            check_uid(ctx, target, &object, "")?;
        }
        if !may_create || given.is_some() {
            return Err(Status::not_found(target.resource, target.name));
        }
        self.check_may_create(ctx, target)?;
        let object = convert::to_served(target.resource, object.0)?;
        if crate::quota::can_grow(target) {
            return self.create_in_turn(ctx, target, object, None).await;
        }
        self.create(ctx, target, object).await
    }

    /// Changes an object in its stored form, on behalf of the cluster's own components: `change` is called again on a newer
    /// object when another writer was faster.
    pub async fn modify(
        &self,
        ctx: &Context,
        target: Target<'_>,
        mut change: impl FnMut(&mut Value) -> Result<(), Status>,
    ) -> Result<Written, Status> {
        let key = self.key(target.resource, target.namespace, target.name);
        for _ in 0..MODIFY_TRIES_MAX {
            let entry = self.store().get(&key);
            let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
            let old = read(&entry)?;
            let mut new = old.clone();
            change(&mut new)?;
            let stored = convert::stored(target.resource).unwrap_or(target.resource);
            let warnings = decode::fields(ctx, stored, &mut new)?;
            let plan = self.plan_update(ctx, target, &entry, &old, new, Managed::Track)?;
            if let Some(mut written) = self.carry_out(ctx, target, entry, plan).await? {
                written.warnings.splice(0..0, warnings);
                return Ok(written);
            }
        }
        Err(Status::conflict_modified(target.resource, target.name))
    }

    /// Judges an update. `old` and `new` are in the stored form; `entry` holds `old`.
    pub(crate) fn plan_update(
        &self,
        ctx: &Context,
        target: Target<'_>,
        entry: &Entry,
        old: &Value,
        new: Value,
        managed: Managed,
    ) -> Result<Plan, Status> {
        let stored = convert::stored(target.resource).unwrap_or(target.resource);
        let request = admission::request(self, ctx, Target { resource: stored, ..target }, Operation::Update);
        let world = self.world();
        let mut new = Object(new);
        let sent = take_managed(&mut new.0);
        keep_metadata(stored, old, &mut new);
        stoa_admit::default(stored, &mut new.0);
        stoa_admit::prepare_update(&request, old, &mut new.0);
        stoa_admit::mutate(&request, &mut new.0, &world)?;
        let allocates = allocate::is_allocated(stored) && target.subresource.is_empty();
        let allocation = match allocates {
            true => self.allocate_changed(ctx, old, &mut new.0)?,
            false => Default::default(),
        };
        let mut causes = stoa_admit::validate_update(&request, old, &new.0);
        if !causes.is_empty() {
            // What an older version has stored may lack what this one would set: that is no change of the writer's.
            let mut defaulted = old.clone();
            stoa_admit::default(stored, &mut defaulted);
            if defaulted != *old {
                causes = stoa_admit::validate_update(&request, &defaulted, &new.0);
            }
        }
        causes.splice(..0, stoa_admit::validate_devices(&request, Some(old), &new.0, &world));
        if (target.resource.group, target.resource.plural) == ("events.k8s.io", "events") {
            stoa_admit::validate_event(target.resource, Some(old), &new.0, &mut causes);
        }
        if certificate::is_request(stored) {
            causes.extend(self.check_request(ctx, target, &mut new.0, old)?);
        }
        if !causes.is_empty() {
            return Err(Status::invalid_object(stored, target.name, causes));
        }
        self.check_escalation(ctx, stored, &new.0, Some(old))?;
        self.check_owner_references(ctx, Target { resource: stored, ..target }, &new.0, Some(old))?;
        let warnings = stoa_admit::check(&request, &new.0, Some(old), &world)?;
        if should_delete(stored, old, &new) {
            let mut prepared = Prepared::remove(entry.key.clone(), entry.modified, new.0);
            prepared.deletes = if allocate::is_allocated(stored) { self.allocated(old) } else { Vec::new() };
            prepared.warnings = warnings;
            return Ok(Plan::Write(Box::new(prepared)));
        }
        let place = Target { resource: stored, ..target };
        let record = record(ctx, place, old, &new.0, managed, sent.as_ref(), request.now);
        if is_same(old, &new.0) && is_same_record(&old["metadata"]["managedFields"], record.as_deref()) {
            return Ok(Plan::Same(warnings));
        }
        let mut prepared = Prepared::put(entry.key.clone(), entry.modified, new.0, record.as_deref());
        (prepared.puts, prepared.deletes) = (allocation.puts, allocation.deletes);
        prepared.guards = allocation.guards;
        prepared.warnings = warnings;
        Ok(Plan::Write(Box::new(prepared)))
    }

    /// Commits a plan. `None`: another writer was faster.
    pub(crate) async fn carry_out(
        &self,
        ctx: &Context,
        target: Target<'_>,
        entry: Entry,
        plan: Plan,
    ) -> Result<Option<Written>, Status> {
        let prepared = match plan {
            Plan::Write(prepared) => prepared,
            Plan::Same(warnings) => {
                let bytes = convert::serve(target.resource, entry.value);
                let change = Change::Unchanged;
                return Ok(Some(Written { bytes, revision: entry.modified, change, warnings }));
            }
        };
        let change = if prepared.removes { Change::Deleted } else { Change::Updated };
        if ctx.is_dry_run() {
            let bytes = prepared.stamped.at(entry.modified);
            return Ok(Some(prepared.written(target.resource, bytes, entry.modified, change)));
        }
        match self.store().commit(prepared.to_txn()).await {
            Ok(mut commit) => {
                let bytes = std::mem::take(&mut commit.values[0]);
                Ok(Some(prepared.written(target.resource, bytes, commit.revision, change)))
            }
            Err(Error::Conflict { .. }) => Ok(None),
            Err(e) => Err(error::status(e)),
        }
    }
}

pub(crate) fn read(entry: &Entry) -> Result<Value, Status> {
    serde_json::from_slice(&entry.value)
        .map_err(|e| Status::internal(format!("{} is stored as no JSON: {e}", entry.key)))
}

/// The record of who owns which field, as JSON.
fn record(
    ctx: &Context,
    target: Target<'_>,
    old: &Value,
    new: &Value,
    managed: Managed,
    sent: Option<&Value>,
    now: Time,
) -> Option<String> {
    let live = Some(&old["metadata"]["managedFields"]).filter(|live| !live.is_null());
    // Of the object itself a client may rewrite the record: that is how kubectl hands fields over to server-side apply.
    let sent = sent.filter(|s| target.subresource.is_empty() && !s.is_null());
    match managed {
        Managed::Set(record) => record,
        Managed::Track if live.is_none() && sent.is_none() => None,
        // What the cluster reports of an object is nobody's to own, and is written far too often to be noted.
        Managed::Track if ctx.is_internal() && target.subresource == "status" => live.map(Value::to_string),
        Managed::Track => {
            let api_version = target.resource.api_version();
            let manager = manager(ctx, target, &api_version);
            let ty = schema::builtin().type_of(target.resource);
            stoa_merge::track_update(&as_counted(old, new), new, sent, &manager, now, ty)
        }
    }
}

/// The object as it was, with what counts its changes where it has got to: nobody has written that.
fn as_counted<'a>(old: &'a Value, new: &Value) -> Cow<'a, Value> {
    let count = |object: &Value| {
        object["metadata"]["annotations"]
            .get(stoa_admit::TEMPLATE_GENERATION)
            .filter(|n| !n.is_null())
            .cloned()
    };
    match (count(old), count(new)) {
        (Some(before), Some(after)) if before != after => {
            let mut old = old.clone();
            old["metadata"]["annotations"][stoa_admit::TEMPLATE_GENERATION] = after;
            Cow::Owned(old)
        }
        _ => Cow::Borrowed(old),
    }
}

fn is_same_record(old: &Value, new: Option<&str>) -> bool {
    match new {
        Some(new) => serde_json::to_string(old).is_ok_and(|old| old == new),
        None => old.is_null(),
    }
}

fn place(target: Target<'_>, object: &mut Object) {
    let meta = object.meta_mut();
    meta.insert("name".into(), target.name.into());
    if target.resource.namespaced {
        meta.insert("namespace".into(), target.namespace.into());
    }
}

/// The resource version that the client read, if it says so. Zero says nothing.
pub(crate) fn given_revision(resource: &Resource, object: &Object) -> Result<Option<Revision>, Status> {
    let text = object.meta().get("resourceVersion").and_then(Value::as_str).unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = Revision::parse(text).ok_or_else(|| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
        let cause = Cause::invalid("metadata.resourceVersion", text, &detail);
        Status::invalid_object(resource, object.name(), vec![cause])
    })?;
    Ok(Some(parsed).filter(|r| *r != Revision::ZERO))
}

fn check_revision(
    resource: &Resource,
    target: Target<'_>,
    given: Option<Revision>,
    entry: &Entry,
) -> Result<(), Status> {
    match given {
        Some(r) if r != entry.modified => Err(Status::conflict_modified(resource, target.name)),
        None if must_name_revision(resource) => {
            // Here a stock server speaks of the resource rather than of its kind, and of the number that it has read.
            let cause = Cause::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            Err(Status::invalid(resource.plural, resource.group, target.name, vec![cause]))
        }
        _ => Ok(()),
    }
}

fn check_uid(ctx: &Context, target: Target<'_>, new: &Object, found: &str) -> Result<(), Status> {
    if new.uid().is_empty() || new.uid() == found {
        return Ok(());
    }
    let place = (target.namespace, target.name);
    Err(error::precondition(ctx, target.resource, place, Demand::Uid, new.uid(), found))
}

fn keep_metadata(resource: &Resource, old: &Value, new: &mut Object) {
    let old = old["metadata"].as_object();
    let meta = new.meta_mut();
    for field in KEPT_METADATA {
        match old.and_then(|m| m.get(field)) {
            Some(v) => meta.insert(field.into(), v.clone()),
            None => meta.remove(field),
        };
    }
    // That an object dies, and how soon, is for a deletion to say; a writer who says it of a living one is refused by the rules.
    let was = |field: &str| old.and_then(|m| m.get(field)).filter(|v| !v.is_null()).cloned();
    if let Some(time) = was("deletionTimestamp") {
        meta.insert("deletionTimestamp".into(), time);
    }
    if let Some(grace) = was("deletionGracePeriodSeconds")
        && meta.get("deletionGracePeriodSeconds").is_none_or(Value::is_null)
    {
        meta.insert("deletionGracePeriodSeconds".into(), grace);
    }
    for field in ["managedFields", "selfLink", "resourceVersion"] {
        meta.remove(field);
    }
    if !resource.namespaced {
        meta.remove("namespace");
    }
    prune_empty(meta);
}

/// Kinds whose update needs the revision that was read: two writers that know nothing of each other would undo each other's
/// work.
fn must_name_revision(resource: &Resource) -> bool {
    matches!(
        (resource.group, resource.plural),
        ("coordination.k8s.io", "leases")
            | ("policy", "poddisruptionbudgets")
            | ("node.k8s.io", "runtimeclasses")
            | ("admissionregistration.k8s.io", _)
            | ("apiregistration.k8s.io", "apiservices")
            | ("apiextensions.k8s.io", "customresourcedefinitions")
            | ("storage.k8s.io", "csidrivers" | "csinodes" | "csistoragecapacities" | "volumeattachments")
    )
}

/// Kinds that an update creates when they are absent.
fn may_create_on_update(target: Target<'_>) -> bool {
    target.subresource.is_empty()
        && matches!(
            (target.resource.group, target.resource.plural),
            ("", "endpoints" | "events" | "limitranges" | "services")
                | ("events.k8s.io", "events")
                | ("coordination.k8s.io", "leases")
                | (
                    "rbac.authorization.k8s.io",
                    "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings"
                )
        )
}

/// Whether the last thing that held a dying object has gone.
pub(crate) fn should_delete(resource: &Resource, old: &Value, new: &Object) -> bool {
    let dying = new.deletion_timestamp().is_some() && new.finalizers().is_empty();
    let grace = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let held = resource.group.is_empty()
        && resource.plural == "namespaces"
        && new.0["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    dying && grace == 0 && !held
}

/// Whether two states are the same but for their revisions and their records of owners.
fn is_same(old: &Value, new: &Value) -> bool {
    let (Some(a), Some(b)) = (old.as_object(), new.as_object()) else { return old == new };
    a.len() == b.len()
        && a.iter().all(|(key, value)| match key.as_str() {
            "metadata" => said_in_metadata(old).eq(said_in_metadata(new)),
            key => b.get(key) == Some(value),
        })
}

fn said_in_metadata(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let fields = object["metadata"].as_object().into_iter().flatten();
    fields.filter(|(key, _)| !matches!(key.as_str(), "resourceVersion" | "managedFields"))
}
