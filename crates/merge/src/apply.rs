//! Server-side apply: who wrote which field is kept in `metadata.managedFields`, so that an applier may change what is its own,
//! is told of a conflict where it would change another's, and takes away what it no longer applies. [`apply`] merges an applied
//! configuration, [`track_create`] and [`track_update`] record what an ordinary write has changed. The rules are those of the
//! stock server's structured merge.

mod combine;
mod compare;
mod created;
mod field_set;
mod managed;
mod place;
#[cfg(test)]
mod tests;
mod text;

use combine::{merge, remove};
use compare::{Changes, compare, field_set_of};
use field_set::FieldSet;
use managed::{Entry, Fields, Managed, Operation};
use place::Place;
use serde_json::{Map, Value, json};
use stoa_kube::decode;
use stoa_kube::schema::Type;
use stoa_kube::{Cause, Status};
use stoa_units::Time;

/// Who owned an object's fields before anybody applied anything.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, as `managedFields` names it.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The field manager's name.
    pub name: &'a str,
    /// The `apiVersion` of the request.
    pub api_version: &'a str,
    /// The subresource written through, or empty.
    pub subresource: &'a str,
}

/// What to do about fields of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Refuse.
    No,
    /// Take them.
    Yes,
}

/// Why a configuration was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It would change fields of other managers; one cause a field.
    #[error("{} of other managers", .0.len())]
    Conflict(Vec<Cause>),
    /// The configuration holds what no configuration may.
    #[error("{0}")]
    Malformed(String),
    /// The configuration does not have the form of its kind.
    #[error("{0}")]
    Untyped(String),
}

/// A configuration that does not fit its kind, in the words of the stock server.
fn untyped(applied: &Value, why: &str) -> ApplyError {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let meta = applied.get("metadata").unwrap_or(&Value::Null);
    let part = |v: &Value, key: &str| v.get(key).map(text).unwrap_or_default();
    let version = part(applied, "apiVersion");
    let slash = if version.contains('/') { "" } else { "/" };
    ApplyError::Untyped(format!(
        "failed to create typed patch object ({}/{}; {slash}{version}, Kind={}): {why}",
        part(meta, "namespace"),
        part(meta, "name"),
        part(applied, "kind")
    ))
}

impl ApplyError {
    /// The refusal to answer with.
    pub fn to_status(&self) -> Status {
        match self {
            ApplyError::Conflict(causes) => Status::apply_conflict(causes.clone()),
            ApplyError::Malformed(why) => Status::bad_request(why.clone()),
            // The stock server answers this as a failure of its own.
            ApplyError::Untyped(why) => Status::failure(500, "", why.clone()),
        }
    }
}

/// Applies a configuration to the live object, or makes a new one of it. `applied` is the body as it was sent, without any
/// defaults: what it names is what the manager owns. The result still has to be decoded, defaulted and validated; beside it is its
/// record of owners, as JSON.
pub fn apply(
    live: Option<Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: Force,
    now: Time,
    ty: Type<'_>,
) -> Result<(Value, Option<String>), ApplyError> {
    if applied.get("metadata").and_then(|m| m.get("managedFields")).is_some_and(|m| !m.is_null()) {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".to_owned()));
    }
    let place = Place::Struct(ty);
    let is_live = live.is_some();
    let (old, list) = live.map_or_else(|| (empty_object(applied, ty), None), split);
    let mut managed = Managed::stored(list.as_ref());
    if is_live && managed.is_empty() {
        // As if somebody had written all of it at once.
        let changes = compare(Some(&empty_object(&old, ty)), Some(&old), place);
        let whole = Manager { name: BEFORE_FIRST_APPLY, ..*manager };
        note(&mut managed, changes.stripped(ty, manager.subresource), &whole, now);
    }
    let bad = |why: String| untyped(applied, &why);
    let set = tracked(field_set_of(applied, place).map_err(bad)?, ty, manager.subresource);
    let mut merged = merge(Some(&old), applied, place).map_err(bad)?;
    let before = managed.take(manager, Operation::Apply);
    // What was applied before, is not applied now, and nobody else owns, goes. Mostly the same fields are applied again.
    if let Some(last) = before.as_ref().map(|e| e.fields.to_set()).filter(|last| *last != set) {
        let mut owned = set.clone();
        managed.entries().for_each(|e| owned.add(e.fields.to_set()));
        let gone = last.with_named_fields(place).without(&owned.with_named_fields(place));
        merged = remove(merged, &gone, place).unwrap_or_else(|| json!({}));
        // What the removal has emptied it has dropped; an empty list or map that is applied stays.
        merged = merge(Some(&merged), applied, place).map_err(bad)?;
    }

    let changes = compare(Some(&old), Some(&merged), place).stripped(ty, manager.subresource);
    if force == Force::No {
        let conflicts = managed.conflicts(&changes, manager.api_version);
        if !conflicts.is_empty() {
            return Err(ApplyError::Conflict(conflicts));
        }
    }
    managed.release(&changes, manager.api_version);
    let is_changed = old != merged;
    // An apply that changes nothing leaves its time alone.
    let time = if is_changed { Some(now.to_rfc3339_seconds().into()) } else { before.and_then(|e| e.time) };
    managed.put(Entry::of(manager, Operation::Apply, time, Fields::Set(set)));
    Ok((merged, managed.write()))
}

/// The record of an object after an ordinary write, as JSON: the fields that the write has changed are its manager's, and no longer
/// those of whoever owned them. `old` is the object before, `new` the object without a record, and `sent` the record that the writer
/// has sent with it, if he has.
pub fn track_update(
    old: &Value,
    new: &Value,
    sent: Option<&Value>,
    manager: &Manager<'_>,
    now: Time,
    ty: Type<'_>,
) -> Option<String> {
    let live = || Managed::stored(list_of(old));
    // A client may rewrite the book-keeping of the object itself, not through a subresource; an empty entry resets it.
    let mut managed = match Managed::sent(sent) {
        _ if !manager.subresource.is_empty() => live(),
        sent if sent.is_reset() => Managed::default(),
        sent if sent.is_empty() => live(),
        sent => sent,
    };
    // The book-keeping of the old object is compared with none, and falls away with what nobody owns.
    let changes = compare(Some(old), Some(new), Place::Struct(ty));
    note(&mut managed, changes.stripped(ty, manager.subresource), manager, now);
    managed.write()
}

/// The record of a new object, which has none yet, as JSON: whoever creates it owns all that it says, and the defaults.
pub fn track_create(new: &Value, manager: &Manager<'_>, now: Time, ty: Type<'_>) -> Option<String> {
    let (place, empty) = (Place::Struct(ty), empty_object(new, ty));
    // Through a subresource parts of the metadata are not written either.
    if !manager.subresource.is_empty() {
        return created_in_full(&empty, new, manager, now, ty);
    }
    let Ok(fields) = created::fields(&empty, new, place, managed::reset_by(ty.short_name(), "")) else {
        return created_in_full(&empty, new, manager, now, ty);
    };
    let time = now.to_rfc3339_seconds().into();
    let mut managed = Managed::default();
    managed.put(Entry::of(manager, Operation::Update, Some(time), Fields::Text(fields?)));
    managed.write()
}

/// The same by way of what has changed.
fn created_in_full(
    empty: &Value,
    new: &Value,
    manager: &Manager<'_>,
    now: Time,
    ty: Type<'_>,
) -> Option<String> {
    let mut managed = Managed::default();
    let changes = compare(Some(empty), Some(new), Place::Struct(ty));
    note(&mut managed, changes.stripped(ty, manager.subresource), manager, now);
    managed.write()
}

/// Gives a manager what it has changed, and takes it from everybody else.
fn note<'a>(managed: &mut Managed<'a>, changes: Changes, manager: &Manager<'a>, now: Time) {
    let time = now.to_rfc3339_seconds();
    if managed.renew(manager, &changes, &time) {
        return;
    }
    managed.release(&changes, manager.api_version);
    let mut taken = changes.added;
    taken.add(changes.modified);
    if taken.is_empty() {
        return;
    }
    let mut fields =
        managed.take(manager, Operation::Update).map(|e| e.fields.into_set()).unwrap_or_default();
    fields.add(taken);
    managed.put(Entry::of(manager, Operation::Update, Some(time.into()), Fields::Set(fields)));
}

/// The book-keeping of an object, as it stands there.
fn list_of(value: &Value) -> Option<&Value> {
    value.get("metadata")?.get("managedFields")
}

/// The object without its book-keeping, and that.
fn split(mut value: Value) -> (Value, Option<Value>) {
    let list =
        value.get_mut("metadata").and_then(Value::as_object_mut).and_then(|m| m.remove("managedFields"));
    (value, list)
}

/// What Go would write of an object of that kind in which nothing is set: a new object's fields are new beside this.
fn empty_object(of: &Value, ty: Type<'_>) -> Value {
    let mut map = Map::new();
    for key in ["apiVersion", "kind"] {
        map.extend(of.get(key).map(|v| (key.to_owned(), v.clone())));
    }
    map.insert("metadata".to_owned(), json!({}));
    let mut value = Value::Object(map);
    // Completing an empty object cannot meet a wrong type.
    let _ = decode::complete(&mut value, ty);
    value
}

/// The fields that nobody can own.
fn tracked(mut set: FieldSet, ty: Type<'_>, subresource: &str) -> FieldSet {
    set.subtract(managed::unowned());
    for path in managed::reset_by(ty.short_name(), subresource) {
        set.cut(path);
    }
    set
}

impl Changes {
    fn stripped(mut self, ty: Type<'_>, subresource: &str) -> Changes {
        self.removed.subtract(managed::unowned());
        Changes {
            added: tracked(self.added, ty, subresource),
            modified: tracked(self.modified, ty, subresource),
            removed: self.removed,
        }
    }
}
