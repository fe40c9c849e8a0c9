//! What may still change once a pod is there.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::field::{Errors, Path, indexed, name_error};
use super::{meta, pod, pod_diff, shown};
use crate::default::qos_class;
use crate::value::{at, int, items, items_mut, path, set, text};

const SPEC: Path<'static> = Path::root("spec");

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(subresource: &str, old: &Value, new: &Value, errors: &mut Errors) {
    pod::pod(new, errors);
    mirror(old, new, errors);
    let is_mirror = |o: &Value| at(at(at(o, "metadata"), "annotations"), pod::MIRROR).is_string();
    match subresource {
        "" => main(at(old, "spec"), at(new, "spec"), errors),
        // What an agent made by itself changes there; nothing else is said then, and of no field, which a stock server prints so.
        "ephemeralcontainers" if is_mirror(old) => {
            *errors = vec![Cause::forbidden("[]", "static pods do not support ephemeral containers")];
        }
        "ephemeralcontainers" => ephemeral(at(old, "spec"), at(new, "spec"), errors),
        "resize" if is_mirror(old) => {
            *errors = vec![Cause::forbidden("[]", "static pods cannot be resized")];
        }
        "resize" if text(at(at(old, "spec"), "os"), "name") == "windows" => {
            *errors = vec![Cause::forbidden("[]", "windows pods cannot be resized")];
        }
        "resize" => resized(old, new, errors),
        _ => {}
    }
}

/// What a node shows of a pod of its own remains that.
fn mirror(old: &Value, new: &Value, errors: &mut Errors) {
    let note = |pod: &Value| path(pod, &["metadata", "annotations", pod::MIRROR]).as_str().map(str::to_owned);
    let why = match (note(old), note(new)) {
        (old, new) if old == new => return,
        (Some(_), _) => "may not remove or update mirror pod annotation",
        (None, _) => "may not add mirror pod annotation",
    };
    let at = Path::root("metadata");
    errors.push(Cause::forbidden(at.child("annotations").key(pod::MIRROR), why));
}

/// A pod grows and shrinks within its class.
fn resized(old: &Value, new: &Value, errors: &mut Errors) {
    let class = qos_class(at(old, "spec"));
    if class != qos_class(at(new, "spec")) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Cause::invalid(SPEC, class, why));
    }
    let kept = |path: &Path<'_>, stored: &Value, c: &Value, errors: &mut Errors| {
        for kind in ["requests", "limits"] {
            let (before, after) = (at(at(stored, "resources"), kind), at(at(c, "resources"), kind));
            if before.as_object().into_iter().flatten().any(|(name, _)| at(after, name).is_null()) {
                let why = format!("resource {kind} cannot be removed");
                errors.push(Cause::forbidden(path.child(kind), &why));
            }
        }
    };
    kept(&SPEC.child("resources"), at(old, "spec"), at(new, "spec"), errors);
    let pairs = |key: &'static str| items(at(old, "spec"), key).zip(items(at(new, "spec"), key)).enumerate();
    let is_sidecar = |c: &Value| text(c, "restartPolicy") == "Always";
    for key in ["initContainers", "containers"] {
        let list = SPEC.child(key);
        for (i, (stored, c)) in pairs(key).filter(|(_, (c, _))| key == "containers" || is_sidecar(c)) {
            let path = list.index(i);
            kept(&path.child("resources"), stored, c, errors);
        }
    }
    let else_than_cpu_and_memory = |c: &Value| {
        let resources = at(c, "resources");
        let rest = |kind: &str| -> Vec<(String, Value)> {
            let amounts = at(resources, kind).as_object().into_iter().flatten();
            let kept = amounts.filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
            kept.map(|(name, amount)| (name.clone(), amount.clone())).collect()
        };
        (rest("requests"), rest("limits"), at(resources, "claims").clone())
    };
    let same_rest =
        |stored: &Value, c: &Value| else_than_cpu_and_memory(stored) == else_than_cpu_and_memory(c);
    if !same_rest(at(old, "spec"), at(new, "spec")) {
        errors.push(Cause::forbidden(SPEC, "only cpu and memory resources are mutable"));
    }
    for (_, (stored, c)) in pairs("containers") {
        if !same_rest(stored, c) {
            errors.push(Cause::forbidden(SPEC, "only cpu and memory resources are mutable"));
        }
    }
    for (_, (stored, c)) in pairs("initContainers") {
        if is_sidecar(stored) && !same_rest(stored, c) {
            let why = "only cpu and memory resources for sidecar containers are mutable";
            errors.push(Cause::forbidden(SPEC, why));
        } else if !is_sidecar(stored) && stored != c {
            let why = "resources for non-sidecar init containers are immutable";
            errors.push(Cause::forbidden(SPEC, why));
        }
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
    if deadline(old, new, errors) == Deadline::Later {
        return;
    }
    let mut changed = new.clone();
    tolerations(old, new, errors);
    let gates = SPEC.child("schedulingGates");
    for (i, gate) in indexed(new, "schedulingGates") {
        if !items(old, "schedulingGates").any(|g| g == gate) {
            let why =
                format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "name"));
            errors.push(Cause::forbidden(gates.index(i).child("name"), &why));
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
        narrower_selector(old, new, errors);
        free.push("nodeSelector");
        narrower_affinity(old, new, errors);
        let only_nodes = |spec: &Value| {
            let affinity = at(spec, "affinity").as_object().into_iter().flatten();
            affinity.filter(|(k, _)| k.as_str() != "nodeAffinity").all(|(_, v)| v.is_null())
        };
        let other = |spec: &Value, key: &str| at(at(spec, "affinity"), key).clone();
        let rest = ["podAffinity", "podAntiAffinity"];
        if only_nodes(old) && only_nodes(new) || rest.iter().all(|k| other(old, k) == other(new, k)) {
            free.push("affinity");
        }
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

/// Adds nothing but further demands on a node's labels.
fn narrower_selector(old: &Value, new: &Value, errors: &mut Errors) {
    let (before, after) = (at(old, "nodeSelector"), at(new, "nodeSelector"));
    if before.as_object().into_iter().flatten().any(|(key, value)| at(after, key) != value) {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(Cause::invalid(SPEC.child("nodeSelector"), after.clone(), why));
    }
}

/// Adds nothing but further demands to those terms of which one must hold; where there were none, anything.
fn narrower_affinity(old: &Value, new: &Value, errors: &mut Errors) {
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |spec: &Value| -> Vec<Value> {
        items(at(at(at(spec, "affinity"), "nodeAffinity"), required), "nodeSelectorTerms").cloned().collect()
    };
    let (before, after) = (terms(old), terms(new));
    let affinity = SPEC.child("affinity");
    let nodes = affinity.child("nodeAffinity");
    let at_required = nodes.child(required);
    let list = at_required.child("nodeSelectorTerms");
    let refuse = |field: Path<'_>, shown: String, why: &str| {
        Cause::new("FieldValueInvalid", field, format!("Invalid value: {shown}: {why}"))
    };
    if !before.is_empty() && before.len() != after.len() {
        let shown: Vec<String> = after.iter().map(shown::node_term).collect();
        let shown = if after.is_empty() { "null".to_owned() } else { format!("[{}]", shown.join(",")) };
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return errors.push(refuse(list, shown, why));
    }
    for (i, (stored, term)) in before.iter().zip(&after).enumerate() {
        let count = |t: &Value, key: &str| items(t, key).count();
        let keys = ["matchExpressions", "matchFields"];
        let kept = keys.iter().all(|key| {
            items(stored, key).zip(items(term, key)).all(|(a, b)| a == b)
                && count(term, key) >= count(stored, key)
        });
        // A term without demands holds nowhere; with some it would.
        let opens =
            keys.iter().all(|key| count(stored, key) == 0) && keys.iter().any(|key| count(term, key) > 0);
        if !kept || opens {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(refuse(list.index(i), shown::node_term(term), why));
        }
    }
}

/// What became of a pod's deadline.
#[derive(PartialEq)]
enum Deadline {
    Fine,
    /// It was put off, after which a stock server looks at nothing else.
    Later,
}

fn deadline(old: &Value, new: &Value, errors: &mut Errors) -> Deadline {
    let path = SPEC.child("activeDeadlineSeconds");
    match (int(old, "activeDeadlineSeconds"), int(new, "activeDeadlineSeconds")) {
        (Some(before), Some(after)) if after > before => {
            errors.push(Cause::invalid(path, after, "must be less than or equal to previous value"));
            return Deadline::Later;
        }
        (Some(_), None) => {
            let why = "must not update from a positive integer to nil value";
            errors.push(Cause::invalid(path, Value::Null, why));
        }
        _ => {}
    }
    Deadline::Fine
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
    let meta_path = Path::root("metadata");
    // The stock server looks for conditions there.
    let list = meta_path.child("conditions");
    for (i, condition) in indexed(status, "conditions") {
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            name_error(check_label_key(kind), kind, list.index(i).child("Type"), errors);
        }
    }
    let root = Path::root("status");
    let node = text(status, "nominatedNodeName");
    if !node.is_empty() && node != text(stored, "nominatedNodeName") {
        super::field::dns_subdomain(node, root.child("nominatedNodeName"), errors);
    }
    let class = text(status, "qosClass");
    if class != text(stored, "qosClass") {
        errors.push(Cause::immutable(root.child("qosClass"), class));
    }
    let spec = at(old, "spec");
    for key in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        let policy = if key == "ephemeralContainerStatuses" { "Never" } else { text(spec, "restartPolicy") };
        ended(spec, policy, (stored, status), root.child(key), key, errors);
    }
    let list = root.child("resourceClaimStatuses");
    let mut seen = std::collections::HashSet::new();
    for (i, claim) in indexed(status, "resourceClaimStatuses") {
        let (name, path) = (text(claim, "name"), list.index(i));
        if !items(spec, "resourceClaims").any(|c| text(c, "name") == name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Cause::invalid(path.child("name"), name, why));
        }
        if !seen.insert(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
    }
    for key in ["podIPs", "hostIPs"] {
        addresses(status, root.child(key), key, errors);
    }
    meta::check_maps(at(new, "metadata"), Path::root("metadata"), errors);
}

/// Containers that were over and are no more, in a pod that does not start them again.
fn ended(
    spec: &Value,
    policy: &str,
    (stored, status): (&Value, &Value),
    list: Path<'_>,
    key: &str,
    errors: &mut Errors,
) {
    let is_over = |c: &Value| at(at(c, "state"), "terminated").is_object();
    for (i, before) in indexed(stored, key).filter(|(_, c)| is_over(c)) {
        let name = text(before, "name");
        let code = int(at(at(before, "state"), "terminated"), "exitCode").unwrap_or(0);
        let starts = policy == "Always" || policy == "OnFailure" && code != 0;
        let after = items(status, key).find(|c| text(c, "name") == name);
        if !starts && after.is_some_and(|c| !is_over(c)) && !may_start_again(spec, name) {
            let why = "may not be transitioned to non-terminated state";
            errors.push(Cause::forbidden(list.index(i).child("state"), why));
        }
    }
}

/// One address of each family.
fn addresses(status: &Value, list: Path<'_>, key: &str, errors: &mut Errors) {
    let mut families = Vec::new();
    for (i, entry) in indexed(status, key) {
        let address = text(entry, "ip");
        super::field::ip(address, list.index(i), errors);
        families.push(address.contains(':'));
    }
    if families.len() > 2 || matches!(families[..], [a, b] if a == b) {
        let shown: Vec<Value> =
            items(status, key).map(|e| serde_json::json!({"IP": text(e, "ip")})).collect();
        let why = "may specify no more than one IP for each IP family";
        errors.push(Cause::invalid(list, shown, why));
    }
}
