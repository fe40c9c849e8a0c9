//! Deletes: at once, or by marking the object until its grace period is over and its finalizers have gone.

use crate::options::{DELETE_COLLECTION_LEN_MAX, MODIFY_TRIES_MAX};
use crate::update::read;
use crate::{
    Change, Context, ListOptions, Prepared, Registry, Snapshot, Target, Written, admission, allocate,
    convert, error,
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_admit::Operation;
use stoa_kube::{Cause, Object, Resource, Status};
use stoa_store::{Entry, Error};
use stoa_units::{Revision, Time};

/// Deletes of a collection that run at the same time, so that they share the store's commits.
const DELETE_COLLECTION_CONCURRENCY: usize = 64;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What becomes of what the object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// It is collected later.
    Background,
    /// It goes first.
    Foreground,
    /// It stays.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// How long the object may take to end; `None` means as long as it says itself.
    pub grace_period_seconds: Option<i64>,
    /// Only if the object is this one.
    pub uid: Option<String>,
    /// Only if the object is at this revision.
    pub resource_version: Option<String>,
    /// What becomes of what the object owns; `None` means what the object's finalizers say.
    pub propagation: Option<Propagation>,
    /// The same as it was said once: whether what the object owns stays.
    pub orphan_dependents: Option<bool>,
    /// Whether `dryRun=All` was asked for in the body.
    pub dry_run: bool,
}

impl DeleteOptions {
    /// At once.
    pub fn now() -> DeleteOptions {
        DeleteOptions { grace_period_seconds: Some(0), ..DeleteOptions::default() }
    }

    /// Reads the body of a delete.
    pub fn parse(body: &Value) -> Result<DeleteOptions, Status> {
        let text = |v: &Value| v.as_str().filter(|s| !s.is_empty()).map(str::to_string);
        let mut causes = Vec::new();
        let orphan = body["orphanDependents"].as_bool();
        let policy = body["propagationPolicy"].as_str();
        if let Some(policy) = policy.filter(|_| orphan.is_some()) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid("propagationPolicy", policy, detail));
        }
        let propagation = match policy {
            None => orphan.map(|o| if o { Propagation::Orphan } else { Propagation::Background }),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                causes.push(Cause::not_supported("propagationPolicy", other, &known));
                None
            }
        };
        let dry_run = match body["dryRun"].as_array().map(Vec::as_slice) {
            None | Some([]) => false,
            Some(all) if all.iter().all(|v| v == "All") => true,
            Some(other) => {
                causes.push(Cause::not_supported("dryRun", other.to_vec(), &["All"]));
                false
            }
        };
        if !causes.is_empty() {
            return Err(Status::invalid("DeleteOptions", "meta.k8s.io", "", causes));
        }
        Ok(DeleteOptions {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            propagation,
            orphan_dependents: orphan,
            dry_run,
        })
    }
}

/// What a delete came to.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object in the served form: its last state, or as it is marked.
    pub bytes: Bytes,
    /// Its name and uid, for the answer.
    pub name: String,
    /// See `name`.
    pub uid: String,
    /// The revision of the removal or the mark.
    pub revision: Revision,
    /// Whether the object is gone (`Deleted`), marked (`Updated`) or was marked before (`Unchanged`).
    pub change: Change,
}

/// What is to be done to the object.
enum Step {
    Remove,
    Mark,
    Nothing,
}

impl Registry {
    /// Deletes an object or begins to.
    pub async fn delete(
        &self,
        ctx: &Context,
        target: Target<'_>,
        options: &DeleteOptions,
    ) -> Result<Deleted, Status> {
        let key = self.key(target.resource, target.namespace, target.name);
        for _ in 0..MODIFY_TRIES_MAX {
            let entry = self.store().get(&key);
            let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
            if let Some(deleted) = self.try_delete(ctx, target, options, entry).await? {
                return Ok(deleted);
            }
        }
        Err(Status::conflict_modified(target.resource, target.name))
    }

    async fn try_delete(
        &self,
        ctx: &Context,
        target: Target<'_>,
        options: &DeleteOptions,
        entry: Entry,
    ) -> Result<Option<Deleted>, Status> {
        let stored = convert::stored(target.resource).unwrap_or(target.resource);
        let old = Object(read(&entry)?);
        check_preconditions(target, options, &entry, &old)?;
        let place = Target { resource: stored, ..target };
        let request = admission::request(self, ctx, place, Operation::Delete);
        stoa_admit::check(&request, &old.0, Some(&old.0), &Snapshot::new(self.store()))?;
        let mut new = old.clone();
        let propagation = options.propagation.or_else(|| by_default(ctx, target.resource, &old));
        let options = DeleteOptions { propagation, ..options.clone() };
        let step = plan(stored, &options, &mut new, self.now())?;
        let prepared = match step {
            Step::Nothing => {
                let uid = old.uid().to_string();
                return Ok(Some(Deleted {
                    bytes: convert::serve(target.resource, entry.value),
                    name: target.name.to_string(),
                    uid,
                    revision: entry.modified,
                    change: Change::Unchanged,
                }));
            }
            Step::Mark => Prepared::put(entry.key.clone(), entry.modified, new.0, None),
            Step::Remove => {
                let mut prepared = Prepared::remove(entry.key.clone(), entry.modified, new.0);
                if allocate::is_allocated(stored) {
                    prepared.deletes = self.allocated(&old.0);
                }
                prepared
            }
        };
        let change = if prepared.removes { Change::Deleted } else { Change::Updated };
        let (bytes, revision) = if ctx.is_dry_run() || options.dry_run {
            (prepared.stamped.at(entry.modified), entry.modified)
        } else {
            match self.store().commit(prepared.to_txn()).await {
                Ok(mut commit) => (std::mem::take(&mut commit.values[0]), commit.revision),
                Err(Error::Conflict { .. }) => return Ok(None),
                Err(e) => return Err(error::status(e)),
            }
        };
        let written: Written = prepared.written(target.resource, bytes, revision, change);
        Ok(Some(Deleted {
            bytes: written.bytes,
            name: target.name.to_string(),
            uid: old.uid().to_string(),
            revision,
            change,
        }))
    }

    /// Deletes all that is selected. Returns what was deleted or marked, in the served form.
    pub async fn delete_collection(
        &self,
        ctx: &Context,
        resource: &Resource,
        namespace: &str,
        list: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<Vec<Deleted>, Status> {
        let list = self.list(resource, namespace, list).await?;
        if list.entries.len() > DELETE_COLLECTION_LEN_MAX {
            return Err(Status::bad_request(format!(
                "more than {DELETE_COLLECTION_LEN_MAX} objects match; narrow the selector or set a limit"
            )));
        }
        let deletes: Vec<_> = list
            .entries
            .iter()
            .map(|e| async move {
                let target = Target::new(resource, e.key.namespace(), e.key.name());
                self.delete_if_there(ctx, target, options).await
            })
            .map(FutureExt::boxed)
            .collect();
        let done: Vec<Option<Deleted>> =
            stream::iter(deletes).buffered(DELETE_COLLECTION_CONCURRENCY).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }

    async fn delete_if_there(
        &self,
        ctx: &Context,
        target: Target<'_>,
        options: &DeleteOptions,
    ) -> Result<Option<Deleted>, Status> {
        match self.delete(ctx, target, options).await {
            Ok(deleted) => Ok(Some(deleted)),
            // Gone meanwhile: that is what was asked for.
            Err(status) if status.code() == 404 => Ok(None),
            Err(status) => Err(status),
        }
    }
}

fn check_preconditions(
    target: Target<'_>,
    options: &DeleteOptions,
    entry: &Entry,
    old: &Object,
) -> Result<(), Status> {
    // Namespaces are looked at by their own storage, which says it in its own words.
    let is_namespace = (target.resource.group, target.resource.plural) == ("", "namespaces");
    let fails = |what: &str, wanted: &str, found: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Status::conflict_named(target.resource.plural, "", target.name, &why)
    };
    if let Some(uid) = options.uid.as_deref().filter(|uid| *uid != old.uid()) {
        if is_namespace {
            return Err(fails("UID", uid, old.uid()));
        }
        return Err(Status::conflict_uid(target.resource, target.name, uid, old.uid()));
    }
    let actual = entry.modified.to_string();
    if let Some(wanted) = options.resource_version.as_deref().filter(|r| *r != actual) {
        if is_namespace {
            return Err(fails("ResourceVersion", wanted, &actual));
        }
        return Err(Status::conflict_revision(target.resource, target.name, wanted, &actual));
    }
    Ok(())
}

/// Kinds that are older than the collector, in the version that is: what they own stays unless somebody says otherwise. The cluster's
/// own components mean what they say.
fn by_default(ctx: &Context, resource: &Resource, object: &Object) -> Option<Propagation> {
    let is_old = matches!(
        (resource.group, resource.version, resource.plural),
        ("", "v1", "replicationcontrollers") | ("batch", "v1", "jobs")
    );
    let is_said = object.finalizers().iter().any(|f| matches!(*f, FOREGROUND | ORPHAN));
    (is_old && !is_said && !ctx.is_internal()).then_some(Propagation::Orphan)
}

/// Decides what to do and marks `object` accordingly.
fn plan(
    resource: &Resource,
    options: &DeleteOptions,
    object: &mut Object,
    now: Time,
) -> Result<Step, Status> {
    let is = |plural: &str| resource.group.is_empty() && resource.plural == plural;
    let refinalized = set_finalizers(object, options.propagation);
    if is("pods") && pod_grace(object, options)? > 0 {
        return Ok(plan_graceful(object, options, now, refinalized));
    }
    if is("namespaces") && !list_is_empty(&object.0["spec"]["finalizers"]) {
        // It is on its way out: that is what was asked for.
        if object.deletion_timestamp().is_some() {
            return Ok(Step::Nothing);
        }
        mark(object, now, 0);
        // Namespaces are given no time, not even none.
        object.meta_mut().remove("deletionGracePeriodSeconds");
        object.0["status"]["phase"] = "Terminating".into();
        return Ok(Step::Mark);
    }
    if object.finalizers().is_empty() {
        if is("pods") {
            mark_ended(object, now);
        }
        return Ok(Step::Remove);
    }
    let dying = object.deletion_timestamp().is_some()
        && object.meta().get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0;
    if !dying {
        mark(object, now, 0);
        return Ok(Step::Mark);
    }
    Ok(if refinalized { Step::Mark } else { Step::Nothing })
}

/// How long a pod may take to end: what is asked for, or what it says itself; nothing if it does not run anywhere.
fn pod_grace(object: &Object, options: &DeleteOptions) -> Result<i64, Status> {
    let spec = &object.0["spec"];
    let own = spec["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    let unbound = spec["nodeName"].as_str().unwrap_or_default().is_empty();
    let ended = matches!(object.0["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let grace = match options.grace_period_seconds.unwrap_or(own) {
        n if n < 0 => 1,
        n => n,
    };
    // Longer than a century would overflow a timestamp.
    Ok(if unbound || ended { 0 } else { grace.min(3_153_600_000) })
}

fn plan_graceful(object: &mut Object, options: &DeleteOptions, now: Time, refinalized: bool) -> Step {
    let grace = pod_grace(object, options).unwrap_or(0);
    let before = object.meta().get("deletionGracePeriodSeconds").and_then(Value::as_i64);
    match (object.deletion_timestamp(), before) {
        (Some(ends), Some(before)) => {
            // Only a shorter time may be given to a pod that is already ending.
            if options.grace_period_seconds.is_none() || grace >= before {
                return if refinalized { Step::Mark } else { Step::Nothing };
            }
            let began =
                Time(ends.0.saturating_sub(jiff::SignedDuration::from_secs(before)).unwrap_or(ends.0));
            mark(object, began, grace);
        }
        _ => mark(object, now, grace),
    }
    Step::Mark
}

/// A pod goes through its end even if that takes no time: its last state says so.
fn mark_ended(object: &mut Object, now: Time) {
    let before = object.meta().get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    match object.deletion_timestamp() {
        None => mark(object, now, 0),
        Some(ends) if before > 0 => {
            let began = ends.0.saturating_sub(jiff::SignedDuration::from_secs(before));
            mark(object, Time(began.unwrap_or(ends.0)), 0);
        }
        Some(_) => {}
    }
}

fn mark(object: &mut Object, from: Time, grace: i64) {
    let ends = from.plus(Duration::from_secs(grace.max(0).unsigned_abs()));
    let first = object.deletion_timestamp().is_none();
    let generation = object.generation();
    let meta = object.meta_mut();
    meta.insert("deletionTimestamp".into(), ends.to_rfc3339_seconds().into());
    meta.insert("deletionGracePeriodSeconds".into(), grace.into());
    if first && generation > 0 {
        meta.insert("generation".into(), (generation + 1).into());
    }
}

/// Sets the collector's finalizers as the propagation wants them. Returns whether that changed anything.
fn set_finalizers(object: &mut Object, propagation: Option<Propagation>) -> bool {
    let Some(propagation) = propagation else { return false };
    let before: Vec<String> = object.finalizers().into_iter().map(String::from).collect();
    let mut after: Vec<String> =
        before.iter().filter(|f| *f != FOREGROUND && *f != ORPHAN).cloned().collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => after.push(FOREGROUND.to_string()),
        Propagation::Orphan => after.push(ORPHAN.to_string()),
    }
    if after == before {
        return false;
    }
    let meta = object.meta_mut();
    if after.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".into(), json!(after));
    }
    true
}

fn list_is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_twice_of_dependents_is_refused_whatever_it_says() {
        let said = |body: Value| {
            let refused = DeleteOptions::parse(&body).expect_err("refused").details.expect("details");
            refused.causes.into_iter().map(|c| c.message).collect::<Vec<_>>()
        };
        let known = r#"supported values: "Foreground", "Background", "Orphan", "nil""#;
        let unknown = |policy: &str| format!("Unsupported value: {policy:?}: {known}");
        let both = r#"Invalid value: "Bad": orphanDependents and deletionPropagation cannot be both set"#;
        assert_eq!(said(json!({"propagationPolicy": ""})), [unknown("")]);
        let body = json!({"propagationPolicy": "Bad", "orphanDependents": false});
        assert_eq!(said(body), [both.to_owned(), unknown("Bad")]);
    }

    #[test]
    fn a_pod_that_goes_at_once_says_when_it_went() {
        let resource = stoa_kube::resources().find("", "v1", "pods").unwrap();
        let now = Time::EPOCH.plus(Duration::from_secs(9));
        let pod = |meta: Value, phase: &str| {
            Object(json!({"metadata": meta, "spec": {"nodeName": "n"}, "status": {"phase": phase}}))
        };
        for (mut object, options, ends) in [
            (pod(json!({"generation": 1}), "Running"), DeleteOptions::now(), "1970-01-01T00:00:09Z"),
            (pod(json!({"generation": 1}), "Failed"), DeleteOptions::default(), "1970-01-01T00:00:09Z"),
            // What was said to last until then began so much earlier.
            (
                pod(
                    json!({"generation": 2, "deletionTimestamp": "1970-01-01T00:00:30Z", "deletionGracePeriodSeconds": 30}),
                    "Running",
                ),
                DeleteOptions::now(),
                "1970-01-01T00:00:00Z",
            ),
        ] {
            assert!(matches!(plan(resource, &options, &mut object, now), Ok(Step::Remove)));
            let meta = json!({"generation": 2, "deletionTimestamp": ends, "deletionGracePeriodSeconds": 0});
            assert_eq!(object.0["metadata"], meta);
        }
    }
}
