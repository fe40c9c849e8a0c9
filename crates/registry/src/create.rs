//! Creates: from a client's body to a committed object.

use crate::options::GENERATE_NAME_TRIES_MAX;
use crate::patch::manager;
use crate::{
    Change, Context, Prepared, Registry, Target, Written, admission, allocate, certificate, convert, decode,
    error,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use stoa_admit::Operation;
use stoa_kube::{Cause, Object, Resource, Status, schema};
use stoa_store::{Error, Key};
use stoa_units::{Revision, Stamped, Time};

/// Metadata that only the server writes.
const SERVER_METADATA: [&str; 4] =
    ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields"];

impl Registry {
    /// Creates an object.
    pub async fn create(&self, ctx: &Context, target: Target<'_>, object: Value) -> Result<Written, Status> {
        self.create_managed(ctx, target, object, None).await
    }

    /// Creates an object with a record of who owns its fields, as JSON.
    pub(crate) async fn create_managed(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: Value,
        managed: Option<String>,
    ) -> Result<Written, Status> {
        let _turn = self.quota_turn(target.resource, target.namespace).await;
        self.create_in_turn(ctx, target, object, managed).await
    }

    /// The same, for a caller that has waited for the namespace's turn.
    pub(crate) async fn create_in_turn(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: Value,
        managed: Option<String>,
    ) -> Result<Written, Status> {
        let is_generated = is_generated(&object);
        // Where somebody is faster, a name or an address is drawn anew for what was sent. Everything else need not be kept.
        let sent = (is_generated || allocate::is_allocated(target.resource))
            .then(|| (object.clone(), managed.clone()));
        let mut prepared = self.prepare_managed(ctx, target, object, managed)?;
        for _ in 0..GENERATE_NAME_TRIES_MAX {
            if ctx.is_dry_run() {
                if self.store().get(&prepared.key).is_some() {
                    return Err(self.already_there(target, &prepared.key));
                }
                let bytes = unstamped(&prepared.stamped)?;
                return Ok(prepared.written(target.resource, bytes, Revision::ZERO, Change::Created));
            }
            match self.store().commit(prepared.to_txn()).await {
                Ok(mut commit) => {
                    let bytes = std::mem::take(&mut commit.values[0]);
                    prepared.warnings.dedup();
                    return Ok(prepared.written(target.resource, bytes, commit.revision, Change::Created));
                }
                Err(Error::Conflict { key, .. }) if key == prepared.key && !is_generated => {
                    return Err(self.already_there(target, &key));
                }
                // The name is taken, the namespace changed, or somebody took the address just drawn: look again.
                Err(Error::Conflict { .. }) => {}
                Err(e) => return Err(error::status(e)),
            }
            match sent.clone() {
                Some((object, managed)) => {
                    prepared = self.prepare_managed(ctx, target, object, managed)?;
                }
                None => self.check_again(ctx, target, &mut prepared)?,
            }
        }
        Err(Status::server_timeout(target.resource, "create", 1))
    }

    /// Judges a create once more because its namespace is no longer what it was: nothing else that was decided hangs on it.
    fn check_again(&self, ctx: &Context, target: Target<'_>, prepared: &mut Prepared) -> Result<(), Status> {
        let stored = convert::stored(target.resource).unwrap_or(target.resource);
        let place = Target { resource: stored, name: prepared.key.name(), ..target };
        let request = admission::request(self, ctx, place, Operation::Create);
        let guards = self.namespace_guard(target.resource, target.namespace);
        stoa_admit::check(&request, &prepared.object, None, &self.world())?;
        prepared.guards = guards;
        Ok(())
    }

    /// Takes an object through everything but the commit, so that the commit can be one of several in a transaction. A conflict
    /// on another key than the object's own means: prepare again.
    pub fn prepare_create(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: Value,
    ) -> Result<Prepared, Status> {
        self.prepare_managed(ctx, target, object, None)
    }

    fn prepare_managed(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: Value,
        managed: Option<String>,
    ) -> Result<Prepared, Status> {
        let resource = target.resource;
        let (object, mut warnings) = decode::object(ctx, target, object)?;
        let mut object = Object(convert::to_stored(resource, object)?);
        let stem = if object.name().is_empty() { object.generate_name().to_string() } else { String::new() };
        self.fill_metadata(target, &mut object)?;
        let name = object.name().to_string();
        let stored = convert::stored(resource).unwrap_or(resource);
        let place = Target { resource: stored, name: &name, ..target };
        let request = admission::request(self, ctx, place, Operation::Create);
        let world = self.world();
        let mut guards = self.namespace_guard(resource, target.namespace);
        stoa_admit::default(stored, &mut object.0);
        let managed = managed.or_else(|| created_by(ctx, place, &object.0, request.now));
        stoa_admit::prepare_create(&request, &mut object.0);
        // On a stock server a name is made up only when all that may change the object have seen it.
        let shown = if stem.is_empty() || !target.name.is_empty() { &name } else { &stem };
        let nameless = admission::request(self, ctx, Target { name: shown, ..place }, Operation::Create);
        stoa_admit::mutate(&nameless, &mut object.0, &world)?;
        let allocation = match allocate::is_allocated(stored) {
            true => self.allocate_new(ctx, &mut object.0)?,
            false => Default::default(),
        };
        guards.extend(allocation.guards);
        let mut causes = stoa_admit::validate_devices(&request, None, &object.0, &world);
        causes.extend(stoa_admit::validate_create(&request, &object.0));
        if (resource.group, resource.plural) == ("events.k8s.io", "events") {
            stoa_admit::validate_event(stored, None, &object.0, &mut causes);
        }
        if certificate::is_request(stored) {
            causes.extend(self.check_new_request(ctx, &mut object.0)?);
        }
        if causes.is_empty() && name.contains('/') {
            // Whatever a kind's own rules say: a slash would put the object under another's key.
            causes.push(Cause::invalid("metadata.name", name.as_str(), "may not contain '/'"));
        }
        if !causes.is_empty() {
            return Err(Status::invalid_object(stored, &name, causes));
        }
        self.check_escalation(ctx, stored, &object.0, None)?;
        self.check_owner_references(ctx, place, &object.0, None)?;
        warnings.extend(stoa_admit::check(&request, &object.0, None, &world)?);
        let key = self.key(resource, target.namespace, &name);
        Ok(Prepared {
            warnings,
            guards,
            puts: allocation.puts,
            ..Prepared::put(key, Revision::ZERO, object.0, managed.as_deref())
        })
    }

    /// The name is taken; whoever waits for it to be free is told that it soon will be.
    fn already_there(&self, target: Target<'_>, key: &Key) -> Status {
        let entry = self.store().get(key);
        let object = entry.and_then(|e| serde_json::from_slice::<Value>(&e.value).ok()).unwrap_or_default();
        let mut status = Status::already_exists(target.resource, key.name());
        if !object["metadata"]["deletionTimestamp"].is_null() {
            status.message.insert_str(0, "object is being deleted: ");
        }
        status
    }

    fn fill_metadata(&self, target: Target<'_>, object: &mut Object) -> Result<(), Status> {
        if object.resource_version().is_some() {
            return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
        }
        let generate = object.generate_name().to_string();
        let now = self.now().to_rfc3339_seconds();
        let meta = object.meta_mut();
        for field in SERVER_METADATA {
            meta.remove(field);
        }
        meta.remove("resourceVersion");
        if target.resource.namespaced {
            meta.insert("namespace".into(), target.namespace.into());
        } else {
            meta.remove("namespace");
        }
        if meta.get("name").and_then(Value::as_str).unwrap_or_default().is_empty() {
            match (target.name, generate.as_str()) {
                // A range of limits is the one kind that need not be called anything.
                ("", "") if (target.resource.group, target.resource.plural) == ("", "limitranges") => {
                    meta.insert("name".into(), uuid::Uuid::new_v4().to_string().into());
                }
                ("", "") => {}
                ("", stem) => {
                    meta.insert("name".into(), stoa_admit::generated_name(stem, rand::random()).into());
                }
                (name, _) => {
                    meta.insert("name".into(), name.into());
                }
            }
        }
        meta.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
        meta.insert("creationTimestamp".into(), now.into());
        prune_empty(meta);
        Ok(())
    }

    /// The demand that the namespace has not changed since admission looks at it.
    pub(crate) fn namespace_guard(&self, resource: &Resource, namespace: &str) -> Vec<(Key, Revision)> {
        if !resource.namespaced {
            return Vec::new();
        }
        let key = Key::object("", "namespaces", "", namespace);
        // An absent namespace is admission's to refuse.
        self.store().get(&key).map(|e| (key, e.modified)).into_iter().collect()
    }
}

/// An object as it would be stored, at no revision.
fn unstamped(stamped: &Stamped) -> Result<Bytes, Status> {
    let mut object = Object::read(&stamped.bytes).map_err(|e| Status::internal(e.to_string()))?;
    object.meta_mut().remove("resourceVersion");
    Ok(object.0.to_string().into())
}

/// Who owns the fields of an object that is created plainly, as JSON: its creator, of all that he has said and of the defaults. What
/// the cluster makes for itself carries no record, which would be as large as the object.
fn created_by(ctx: &Context, place: Target<'_>, object: &Value, now: Time) -> Option<String> {
    if ctx.is_internal() {
        return None;
    }
    let api_version = place.resource.api_version();
    let manager = manager(ctx, place, &api_version);
    let ty = schema::builtin().type_of(place.resource);
    stoa_merge::track_create(object, &manager, now, ty)
}

fn is_generated(object: &Value) -> bool {
    let text = |k: &str| object["metadata"][k].as_str().unwrap_or_default();
    text("name").is_empty() && !text("generateName").is_empty()
}

/// Empty metadata fields are no fields: a stock server leaves them out.
pub(crate) fn prune_empty(meta: &mut Map<String, Value>) {
    meta.retain(|_, v| match v {
        Value::Null => false,
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(m) => !m.is_empty(),
        _ => *v != json!(0),
    });
}
