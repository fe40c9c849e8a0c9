//! What may still change once a pod is there.

use serde_json::Value;
use stoa_kube::Cause;

use super::field::{Errors, Path, indexed};
use super::{meta, pod, pod_diff};
use crate::default::qos_class;
use crate::value::{at, int, items, items_mut, path, set, text};

const SPEC: Path<'static> = Path::root("spec");

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(subresource: &str, old: &Value, new: &Value, errors: &mut Errors) {
    mirror(old, new, errors);
    pod::pod(new, errors);
    match subresource {
        "" => main(at(old, "spec"), at(new, "spec"), errors),
        "ephemeralcontainers" => ephemeral(at(old, "spec"), at(new, "spec"), errors),
        "resize" => resized(old, new, errors),
        _ => {}
    }
}

/// What a node shows of a pod of its own remains that.
fn mirror(old: &Value, new: &Value, errors: &mut Errors) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    let note = |pod: &Value| path(pod, &["metadata", "annotations", MIRROR]).as_str().map(str::to_owned);
    let why = match (note(old), note(new)) {
        (old, new) if old == new => return,
        (Some(_), _) => "may not remove or update mirror pod annotation",
        (None, _) => "may not add mirror pod annotation",
    };
    let at = Path::root("metadata");
    errors.push(Cause::forbidden(at.child("annotations").key(MIRROR), why));
}

/// A pod grows and shrinks within its class.
fn resized(old: &Value, new: &Value, errors: &mut Errors) {
    let class = qos_class(at(old, "spec"));
    if class != qos_class(at(new, "spec")) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Cause::invalid(SPEC, class, why));
    }
}

fn main(old: &Value, new: &Value, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        if items(old, list).count() != items(new, list).count() {
            let why = "pod updates may not add or remove containers";
            errors.push(Cause::forbidden(SPEC.child(list), why));
            return;
        }
    }
    deadline(old, new, errors);
    let mut changed = new.clone();
    tolerations(old, new, errors);
    for gate in items(new, "schedulingGates") {
        if !items(old, "schedulingGates").any(|g| g == gate) {
            let why =
                format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            errors.push(Cause::forbidden(SPEC.child("schedulingGates"), &why));
        }
    }
    // What may change is put back, what then still differs may not.
    for list in ["containers", "initContainers"] {
        for (c, stored) in items_mut(&mut changed, list).zip(items(old, list)) {
            set(c, "image", at(stored, "image").clone());
        }
    }
    let mut free = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    if int(old, "terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && int(new, "terminationGracePeriodSeconds") == Some(1)
    {
        free.push("terminationGracePeriodSeconds");
    }
    // A pod that is held back may still narrow where it wants to run.
    if items(old, "schedulingGates").next().is_some() {
        free.extend(["nodeSelector", "affinity"]);
    }
    for key in free {
        crate::value::remove(&mut changed, key);
        if let Some(v) = old.get(key) {
            set(&mut changed, key, v.clone());
        }
    }
    if &changed != old {
        let why = format!("{UPDATABLE}\n{}", pod_diff::diff(old, &changed));
        errors.push(Cause::forbidden(SPEC, &why));
    }
}

fn deadline(old: &Value, new: &Value, errors: &mut Errors) {
    let path = SPEC.child("activeDeadlineSeconds");
    match (int(old, "activeDeadlineSeconds"), int(new, "activeDeadlineSeconds")) {
        (Some(before), Some(after)) if after > before => {
            errors.push(Cause::invalid(path, after, "must be less than or equal to previous value"));
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Cause::invalid(path, Value::Null, why));
        }
        _ => {}
    }
}

fn tolerations(old: &Value, new: &Value, errors: &mut Errors) {
    let same = |a: &Value, b: &Value| {
        ["key", "operator", "value", "effect"].iter().all(|k| text(a, k) == text(b, k))
    };
    for stored in items(old, "tolerations") {
        if !items(new, "tolerations").any(|t| same(t, stored)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            errors.push(Cause::forbidden(SPEC.child("tolerations"), why));
            return;
        }
    }
}

fn ephemeral(old: &Value, new: &Value, errors: &mut Errors) {
    let path = SPEC.child("ephemeralContainers");
    for stored in items(old, "ephemeralContainers") {
        let name = text(stored, "name");
        match items(new, "ephemeralContainers").find(|c| text(c, "name") == name) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(Cause::forbidden(path, &why));
            }
            Some(c) if c != stored => {
                let why = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.push(Cause::forbidden(path, &why));
            }
            Some(_) => {}
        }
    }
}

/// Whether a container of a pod that restarts nothing may start again all the same: its own policy or rules say so, or another
/// one's rules may send the whole pod back.
fn may_start_again(spec: &Value, name: &str) -> bool {
    let all = ["containers", "initContainers"].into_iter().flat_map(|list| items(spec, list));
    all.into_iter().any(|c| {
        let is_own = text(c, "name") == name;
        let rules = || items(c, "restartPolicyRules");
        is_own && (matches!(text(c, "restartPolicy"), "Always" | "OnFailure") || rules().next().is_some())
            || rules().any(|r| text(r, "action") == "RestartAllContainers")
    })
}

/// A status write: once a container is over, it stays over.
pub(super) fn check_status(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, status) = (at(old, "status"), at(new, "status"));
    let node = text(status, "nominatedNodeName");
    if !node.is_empty() {
        super::field::dns_subdomain(node, Path::root("status").child("nominatedNodeName"), errors);
    }
    if text(at(old, "spec"), "restartPolicy") == "Never" {
        let root = Path::root("status");
        let list = root.child("containerStatuses");
        for (i, c) in indexed(status, "containerStatuses") {
            let before = items(stored, "containerStatuses").find(|s| text(s, "name") == text(c, "name"));
            let ended = |c: &Value| at(at(c, "state"), "terminated").is_object();
            if before.is_some_and(ended) && !ended(c) && !may_start_again(at(old, "spec"), text(c, "name")) {
                let name = text(c, "name");
                let why = format!("may not be transitioned to non-terminated state: {name}");
                errors.push(Cause::forbidden(list.index(i).child("state"), &why));
            }
        }
    }
    meta::check_maps(at(new, "metadata"), Path::root("metadata"), errors);
}
