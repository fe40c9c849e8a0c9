//! Small things about objects that many controllers need: selectors, owners, conditions.

use crate::ObjectId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_kube::typed::{LabelSelector as Selector, ObjectMeta, OwnerReference, Service};
use stoa_kube::{Resource, resources};
use stoa_units::{LabelSelector, Operator, Requirement, Revision, Time};

/// A resource of the stock API by its stored group and plural. Every name passed here is in the table.
pub(crate) fn resource(group: &str, plural: &str) -> &'static Resource {
    static NONE: Resource = Resource {
        group: "",
        version: "",
        plural: "",
        kind: "",
        list_kind: "",
        singular: "",
        namespaced: false,
        short_names: &[],
        categories: &[],
        verbs: &[],
        subresources: &[],
        storage: "",
        storage_version: "",
    };
    resources().find_stored(group, plural).unwrap_or(&NONE)
}

pub(crate) fn id(resource: &'static Resource, meta: &ObjectMeta) -> ObjectId {
    ObjectId {
        resource,
        namespace: meta.namespace.as_deref().unwrap_or_default().into(),
        name: meta.name.as_deref().unwrap_or_default().into(),
        uid: meta.uid.as_deref().unwrap_or_default().into(),
        revision: meta.resource_version.as_deref().and_then(Revision::parse).unwrap_or_default(),
    }
}

/// A structured selector; none, and one without requirements, select nothing: that is what workload controllers want.
pub(crate) fn selector(s: &Selector) -> Option<LabelSelector> {
    let mut out = LabelSelector::from_labels(s.match_labels.iter().flatten());
    for r in s.match_expressions.iter().flatten() {
        let operator = match r.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        out.0.push(Requirement {
            key: r.key.clone(),
            operator,
            values: r.values.clone().unwrap_or_default(),
        });
    }
    Some(out).filter(|s| !s.is_everything())
}

/// The pods that a service means; none for one that has its endpoints from elsewhere.
pub(crate) fn service_selector(service: &Service) -> Option<LabelSelector> {
    let spec = service.spec.as_ref()?;
    let wanted = spec.selector.as_ref().filter(|s| !s.is_empty())?;
    (spec.type_.as_deref() != Some("ExternalName")).then(|| LabelSelector::from_labels(wanted))
}

pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

pub(crate) fn owned_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller(meta).is_some_and(|o| o.uid == uid)
}

/// The owner reference of a controlling owner, as stock controllers write it.
pub(crate) fn owner_reference(owner: &ObjectId) -> Value {
    json!({"apiVersion": owner.resource.api_version(), "kind": owner.resource.kind, "name": owner.name,
        "uid": owner.uid, "controller": true, "blockOwnerDeletion": true})
}

pub(crate) fn is_deleting(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}

pub(crate) fn created(meta: &ObjectMeta) -> Time {
    meta.creation_timestamp.as_ref().map_or(Time::EPOCH, |t| Time(t.0))
}

pub(crate) fn time(t: Time) -> Value {
    t.to_rfc3339_seconds().into()
}

pub(crate) fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn labels(meta: &ObjectMeta) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    meta.labels.as_ref().unwrap_or(&NONE)
}

/// A FNV-1a hash: small, and the same in every version and on every machine.
pub(crate) fn fnv(bytes: &[u8], seed: u32) -> u32 {
    bytes.iter().fold(seed ^ 0x811c_9dc5, |h, b| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193))
}

/// A hash in letters and digits that can spell no word, as stock names have it.
pub(crate) fn safe_hash(object: &Value, collisions: Option<i32>) -> String {
    const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut hash = fnv(object.to_string().as_bytes(), 0);
    if let Some(n) = collisions {
        hash = fnv(&n.to_le_bytes(), hash);
    }
    hash.to_string().bytes().map(|b| SAFE[usize::from(b) % SAFE.len()] as char).collect()
}
