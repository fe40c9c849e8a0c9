//! What clients of the Kubernetes door send.

use crate::choose;
use serde_json::{Value, json};
use stoa_admit::{Operation, Request, STOCK, UserRef, World};
use stoa_kube::{Resource, decode, resources, schema};
use stoa_merge::{Force, Manager};
use stoa_units::{FieldSelector, LabelSelector, Quantity, Time};

/// A body in any of its forms.
pub fn body(data: &[u8]) {
    stoa_api::fuzz::body(data);
}

/// Nothing but a namespace.
struct Bare;

impl World for Bare {
    fn get(&self, _: &str, plural: &str, _: &str, name: &str) -> Option<Value> {
        (plural == "namespaces").then(|| json!({"metadata": {"name": name}}))
    }

    fn list(&self, _: &str, _: &str, _: &str) -> Vec<Value> {
        Vec::new()
    }
}

fn kinds() -> Vec<&'static Resource> {
    resources().iter().collect()
}

/// A kind by its first byte, and an object of it through decoding, defaulting, admission and validation.
pub fn object(data: &[u8]) {
    let kinds = kinds();
    let Some((resource, text)) = choose(&kinds, data) else { return };
    let Ok(decoded) = decode::decode(text, schema::builtin().type_of(resource)) else { return };
    let mut object = decoded.value;
    stoa_admit::default(resource, &mut object);
    let request = Request {
        operation: Operation::Create,
        resource,
        subresource: "",
        namespace: if resource.namespaced { "ns" } else { "" },
        name: "x",
        user: UserRef { name: "jane", groups: &[] },
        now: Time::EPOCH,
        dry_run: false,
        seed: 1,
        policy: &STOCK,
        notes: None,
    };
    stoa_admit::prepare_create(&request, &mut object);
    if stoa_admit::mutate(&request, &mut object, &Bare).is_err() {
        return;
    }
    let _ = stoa_admit::validate_create(&request, &object);
    let _ = stoa_admit::check(&request, &object, None, &Bare);
    let old = object.clone();
    stoa_admit::prepare_update(&request, &old, &mut object);
    let _ = stoa_admit::validate_update(&request, &old, &object);
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"a": "b"},
            "finalizers": ["a/b", "c/d"]},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "env": [{"name": "A", "value": "1"}]}, {"name": "d", "image": "j"}], "volumes": [{"name": "v", "emptyDir": {}}]}}}})
}

/// A patch of a deployment, by its first byte of one kind or the other.
pub fn patch(data: &[u8]) {
    let Some((kind, text)) = choose(&[0, 1, 2], data) else { return };
    let document = deployment();
    let ty = schema::builtin().named("apps.v1.Deployment");
    match (kind, ty) {
        (0, _) => drop(stoa_merge::json_patch(document, text, stoa_merge::Look::Close)),
        (1, _) => drop(stoa_merge::merge_patch(document, text, stoa_merge::Look::Plain)),
        (_, Some(ty)) => {
            if let Ok(patch) = serde_json::from_slice::<Value>(text) {
                let _ = stoa_merge::strategic(document, &patch, ty);
            }
        }
        _ => {}
    }
}

/// A configuration that is applied to a deployment twice, between them an update; or, where the text holds `managedFields`, a
/// deployment with such a record.
pub fn apply(data: &[u8]) {
    let (Ok(applied), Some(ty)) =
        (serde_json::from_slice::<Value>(data), schema::builtin().named("apps.v1.Deployment"))
    else {
        return;
    };
    let manager = |name| Manager { name, api_version: "apps/v1", subresource: "" };
    let mut live = deployment();
    if applied["metadata"]["managedFields"].is_array() {
        live["metadata"]["managedFields"] = applied["metadata"]["managedFields"].clone();
    }
    let sent = live["metadata"]["managedFields"].clone();
    let Ok(first) =
        stoa_merge::apply(Some(live.clone()), &applied, &manager("a"), Force::Yes, Time::EPOCH, ty)
    else {
        let _ = stoa_merge::apply(Some(live), &deployment(), &manager("a"), Force::No, Time::EPOCH, ty);
        return;
    };
    let first = recorded(first);
    let sent = Some(&sent).filter(|sent| !sent.is_null());
    let record = stoa_merge::track_update(&first, &deployment(), sent, &manager("b"), Time::EPOCH, ty);
    let second = recorded((deployment(), record));
    let _ = stoa_merge::apply(Some(second), &applied, &manager("a"), Force::No, Time::EPOCH, ty);
    recorded((first.clone(), stoa_merge::track_create(&first, &manager("c"), Time::EPOCH, ty)));
}

/// An object with its record of owners, which is JSON whatever is in it.
fn recorded((mut object, record): (Value, Option<String>)) -> Value {
    if let Some(text) = record {
        object["metadata"]["managedFields"] = serde_json::from_str(&text).expect("a record is JSON");
    }
    object
}

/// Selectors of labels and of fields, and the token of a list.
pub fn selector(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(selector) = LabelSelector::parse(&text) {
        let shown = selector.to_string();
        assert!(
            LabelSelector::parse(&shown).is_ok(),
            "{shown:?} is what {text:?} reads as, and is no selector"
        );
    }
    let _ = FieldSelector::parse(&text);
    stoa_registry::fuzz::continue_token(data);
}

/// A quantity, which reads the same however often it is written.
pub fn quantity(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(read) = Quantity::parse(&text) {
        let shown = read.to_string();
        let again = Quantity::parse(&shown);
        assert!(
            again.is_ok_and(|q| q.nano() == read.nano()),
            "{text:?} reads as {shown:?}, which reads otherwise"
        );
    }
}
