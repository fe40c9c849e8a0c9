//! What may still change once a pod is there.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::field::{Errors, Path, dns_label, dns_subdomain, indexed, name_error, required_text};
use super::{affinity, container, pod, pod_diff, shown};
use crate::default::qos_class;
use crate::value::{at, has, int, is_empty, is_same, items, items_mut, path, set, text};

const SPEC: Path<'static> = Path::root("spec");

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(super) fn check(subresource: &str, old: &Value, new: &Value, errors: &mut Errors) {
    pod::pod(new, errors);
    if subresource != "resize" {
        notes(old, new, errors);
    }
    let is_mirror = |o: &Value| at(at(at(o, "metadata"), "annotations"), pod::MIRROR).is_string();
    match subresource {
        "" => main(at(old, "spec"), at(new, "spec"), errors),
        // What an agent made by itself changes there; nothing else is said then, and of no field, which a stock server prints so.
        "ephemeralcontainers" if is_mirror(old) => {
            errors.replace(Cause::forbidden("[]", "static pods do not support ephemeral containers"));
        }
        "ephemeralcontainers" => ephemeral(at(old, "spec"), at(new, "spec"), errors),
        "resize" if is_mirror(old) => {
            errors.replace(Cause::forbidden("[]", "static pods cannot be resized"));
        }
        "resize" if text(at(at(old, "spec"), "os"), "name") == "windows" => {
            errors.replace(Cause::forbidden("[]", "windows pods cannot be resized"));
        }
        "resize" => resized(old, new, errors),
        _ => {}
    }
}

/// Annotations that are the cluster's part of a pod remain what they were.
fn notes(old: &Value, new: &Value, errors: &mut Errors) {
    let root = Path::root("metadata");
    let list = root.child("annotations");
    let of = |pod: &'_ Value| path(pod, &["metadata", "annotations"]).clone();
    let (before, after) = (of(old), of(new));
    let what = |key: &str| match key {
        pod::MIRROR => Some("mirror pod annotation"),
        key if key.starts_with(pod::APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    for (key, value) in before.as_object().into_iter().flatten().filter(|(k, v)| at(&after, k) != *v) {
        if let (Some(what), true) = (what(key), value.is_string()) {
            errors.push(Cause::forbidden(list.key(key), &format!("may not remove or update {what}")));
        }
    }
    for (key, _) in after.as_object().into_iter().flatten().filter(|(k, _)| at(&before, k).is_null()) {
        if let Some(what) = what(key) {
            errors.push(Cause::forbidden(list.key(key), &format!("may not add {what}")));
        }
    }
    pod::notes(at(new, "metadata"), at(new, "spec"), list, errors);
}

/// A pod grows and shrinks within its class.
fn resized(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, spec) = (at(old, "spec"), at(new, "spec"));
    if qos_class(stored) != qos_class(spec) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(Cause::invalid(SPEC, text(at(new, "status"), "qosClass"), why));
    }
    let mut masked = spec.clone();
    whole_resized(stored, spec, &mut masked, errors);
    if !resized_in_order(stored, spec, errors) {
        return;
    }
    let pairs = |key: &'static str| items(stored, key).zip(items(spec, key)).enumerate();
    for key in ["initContainers", "containers"] {
        let list = SPEC.child(key);
        for (i, (stored, c)) in pairs(key) {
            let path = list.index(i);
            let (before, after) = (at(stored, "resources"), at(c, "resources"));
            taken_away(before, after, "resource", path.child("resources"), errors);
        }
    }
    for (c, stored) in items_mut(&mut masked, "containers").zip(items(stored, "containers")) {
        mask_container(c, stored);
        if !is_same(c, stored) {
            errors.push(Cause::forbidden(SPEC, "only cpu and memory resources are mutable"));
        }
    }
    let list = SPEC.child("initContainers");
    let inits = items_mut(&mut masked, "initContainers").zip(items(stored, "initContainers"));
    for (i, (c, stored)) in inits.enumerate() {
        let changed = !is_same(c, stored);
        mask_container(c, stored);
        if !is_same(c, stored) {
            let why = "only cpu and memory resources for init or sidecar containers are mutable";
            errors.push(Cause::forbidden(list.index(i), why));
        }
        if changed && text(c, "restartPolicy") != "Always" {
            let restarts = |p: &&Value| text(p, "restartPolicy") == "RestartContainer";
            for _ in items(c, "resizePolicy").filter(restarts) {
                let why =
                    "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
                errors.push(Cause::forbidden(list.index(i), why));
            }
        }
    }
    if errors.is_empty() && !is_same(&masked, stored) {
        errors.push(Cause::forbidden(SPEC, "only cpu and memory resources are mutable"));
    }
}

/// The containers are those that they were, in the same order.
fn resized_in_order(stored: &Value, spec: &Value, errors: &mut Errors) -> bool {
    let found = errors.len();
    for key in ["containers", "initContainers"] {
        let list = SPEC.child(key);
        if items(stored, key).count() != items(spec, key).count() {
            let why = format!("{key} may not be added or removed on resize");
            errors.push(Cause::forbidden(list, &why));
            continue;
        }
        for (i, (before, after)) in items(stored, key).zip(items(spec, key)).enumerate() {
            if text(before, "name") != text(after, "name") {
                let path = list.index(i);
                let why = format!("{key} may not be renamed or reordered on resize");
                errors.push(Cause::forbidden(path.child("name"), &why));
            }
        }
    }
    errors.len() == found
}

/// What the pod has as a whole.
fn whole_resized(stored: &Value, spec: &Value, masked: &mut Value, errors: &mut Errors) {
    let (before, after) = (at(stored, "resources"), at(spec, "resources"));
    let is_set = |r: &Value| ["requests", "limits"].iter().any(|side| !is_empty(r, side));
    if !is_set(before) && !is_set(after) {
        return;
    }
    let path = SPEC.child("resources");
    if !before.is_null() && after.is_null() {
        return errors.push(Cause::forbidden(path, "pod-level resources cannot be removed"));
    }
    taken_away(before, after, "pod-level resource", path, errors);
    mask(masked, stored);
    let (now, then) = (at(masked, "resources"), at(stored, "resources"));
    if !is_same(now, then) {
        errors.push(Cause::forbidden(SPEC, "only cpu and memory resources are mutable at pod-level"));
    }
}

/// Amounts may change, but not vanish.
fn taken_away(before: &Value, after: &Value, what: &str, path: Path<'_>, errors: &mut Errors) {
    for side in ["requests", "limits"] {
        let mut names = at(before, side).as_object().into_iter().flatten();
        if names.any(|(name, _)| at(at(after, side), name).is_null()) {
            errors.push(Cause::forbidden(path.child(side), &format!("{what} {side} cannot be removed")));
        }
    }
}

/// As [`mask`], of a container: what it claims is judged elsewhere, here a stock server looks at amounts alone.
fn mask_container(c: &mut Value, stored: &Value) {
    if let Some(resources) = c.get_mut("resources") {
        crate::value::remove(resources, "claims");
    }
    mask(c, stored);
}

/// Takes back what may change of the resources of `v`: its processors and memory.
fn mask(v: &mut Value, stored: &Value) {
    let before = at(stored, "resources");
    let Some(resources) = v.get_mut("resources").filter(|r| r.is_object()) else { return };
    for side in ["requests", "limits"] {
        for name in ["cpu", "memory"] {
            let was = at(at(before, side), name);
            let Some(amounts) = crate::value::ensure(resources, side) else { continue };
            super::put(amounts, name, was.clone());
        }
        if is_empty(resources, side) {
            crate::value::remove(resources, side);
        }
    }
    if before.is_null() && resources.as_object().is_some_and(serde_json::Map::is_empty) {
        crate::value::remove(v, "resources");
    }
}

fn main(old: &Value, new: &Value, errors: &mut Errors) {
    for list in ["containers", "initContainers"] {
        if items(old, list).count() != items(new, list).count() {
            let why = "pod updates may not add or remove containers";
            errors.push(Cause::forbidden(SPEC.child(list), why));
            return;
        }
        let path = SPEC.child(list);
        for (i, c) in indexed(new, list) {
            // That it has one was asked before, and is told once more.
            required_text(c, "image", path.index(i), errors);
            container::image(c, path.index(i), errors);
        }
    }
    if deadline(old, new, errors) == Deadline::Later {
        return;
    }
    let mut changed = new.clone();
    tolerations(old, new, errors);
    let gates = SPEC.child("schedulingGates");
    let known: HashSet<&Value> = items(old, "schedulingGates").collect();
    for (i, gate) in indexed(new, "schedulingGates") {
        if !known.contains(gate) {
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
    /// It was put off or is none, after which a stock server looks at nothing else.
    Later,
}

fn deadline(old: &Value, new: &Value, errors: &mut Errors) -> Deadline {
    let path = SPEC.child("activeDeadlineSeconds");
    match (int(old, "activeDeadlineSeconds"), int(new, "activeDeadlineSeconds")) {
        (_, Some(after)) if !(0..=i64::from(i32::MAX)).contains(&after) => {
            let why = super::field::range_message(0, i32::MAX.into());
            errors.push(Cause::invalid(path, after, &why));
            return Deadline::Later;
        }
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
    fn told(toleration: &Value) -> [&str; 4] {
        ["key", "operator", "value", "effect"].map(|key| text(toleration, key))
    }
    let kept: HashSet<[&str; 4]> = items(new, "tolerations").map(told).collect();
    if items(old, "tolerations").any(|stored| !kept.contains(&told(stored))) {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(Cause::forbidden(SPEC.child("tolerations"), why));
        return;
    }
    affinity::tolerations(new, SPEC.child("tolerations"), errors);
}

fn ephemeral(old: &Value, new: &Value, errors: &mut Errors) {
    let path = SPEC.child("ephemeralContainers");
    // Of several with one name, which is refused elsewhere, the first counts.
    let after: HashMap<&str, &Value> =
        items(new, "ephemeralContainers").rev().map(|c| (text(c, "name"), c)).collect();
    for stored in items(old, "ephemeralContainers") {
        let name = text(stored, "name");
        match after.get(name).copied() {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(Cause::forbidden(path, &why));
            }
            Some(c) if c != stored => {
                let diff = pod_diff::diff_of("core.v1.EphemeralContainer", stored, c);
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{diff}");
                errors.push(Cause::forbidden(path, &why));
            }
            Some(_) => {}
        }
    }
}

/// Which containers of a pod that restarts nothing may start again all the same: their own policy or rules say so, or another one's
/// rules may send the whole pod back.
struct Restarts<'v> {
    all: bool,
    names: HashSet<&'v str>,
}

impl<'v> Restarts<'v> {
    fn of(spec: &'v Value) -> Restarts<'v> {
        let containers = || ["containers", "initContainers"].into_iter().flat_map(|list| items(spec, list));
        let starts = |c: &&Value| {
            matches!(text(c, "restartPolicy"), "Always" | "OnFailure") || !is_empty(c, "restartPolicyRules")
        };
        Restarts {
            all: containers()
                .flat_map(|c| items(c, "restartPolicyRules"))
                .any(|rule| text(rule, "action") == "RestartAllContainers"),
            names: containers().filter(starts).map(|c| text(c, "name")).collect(),
        }
    }

    fn may_start(&self, name: &str) -> bool {
        self.all || self.names.contains(name)
    }
}

/// A status write: once a container is over, it stays over.
pub(super) fn check_status(old: &Value, new: &Value, errors: &mut Errors) {
    let (stored, status) = (at(old, "status"), at(new, "status"));
    notes(old, new, errors);
    let root = Path::root("status");
    let list = root.child("conditions");
    for (i, condition) in indexed(status, "conditions") {
        let (kind, path) = (text(condition, "type"), list.index(i));
        observed(condition, path, errors);
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            name_error(check_label_key(kind), kind, path.child("Type"), errors);
        }
    }
    let node = text(status, "nominatedNodeName");
    if !node.is_empty() && node != text(stored, "nominatedNodeName") {
        let path = root.child("nominatedNodeName");
        dns_subdomain(node, path, errors);
        if !is_empty(at(old, "spec"), "nodeName") {
            let why = "may not be set on pods that are already bound to a node";
            errors.push(Cause::forbidden(path, why));
        }
    }
    observed(status, root, errors);
    let class = text(status, "qosClass");
    if class != text(stored, "qosClass") {
        errors.push(Cause::immutable(root.child("qosClass"), class));
    }
    let spec = at(old, "spec");
    let restarts = Restarts::of(spec);
    for key in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        let policy = if key == "ephemeralContainerStatuses" { "Never" } else { text(spec, "restartPolicy") };
        ended(&restarts, policy, (stored, status), root.child(key), key, errors);
    }
    let list = root.child("resourceClaimStatuses");
    let known: HashSet<&str> = items(spec, "resourceClaims").map(|c| text(c, "name")).collect();
    let mut seen = HashSet::new();
    for (i, claim) in indexed(status, "resourceClaimStatuses") {
        let (name, path) = (text(claim, "name"), list.index(i));
        if !known.contains(name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            errors.push(Cause::invalid(path.child("name"), name, why));
        }
        if !seen.insert(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
        if has(claim, "resourceClaimName") {
            dns_subdomain(text(claim, "resourceClaimName"), path.child("resourceClaimName"), errors);
        }
    }
    extended(status, at(new, "spec"), root.child("extendedResourceClaimStatus"), errors);
    addresses(status, root.child("podIPs"), "podIPs", errors);
    let first = items(status, "hostIPs").next().map(|entry| text(entry, "ip"));
    if let Some(first) = first.filter(|first| *first != text(status, "hostIP")) {
        let list = root.child("hostIPs");
        let path = list.index(0);
        errors.push(Cause::invalid(path.child("ip"), first, "must be equal to `hostIP`"));
    }
    addresses(status, root.child("hostIPs"), "hostIPs", errors);
    let os = text(at(at(new, "spec"), "os"), "name");
    for (key, _) in STATUSES {
        users(status, key, os, root.child(key), errors);
    }
    for (key, list) in STATUSES {
        devices(status, key, at(new, "spec"), list, root.child(key), errors);
    }
}

/// Where containers tell of themselves, and where they are asked for.
const STATUSES: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

/// As whom containers began.
fn users(status: &Value, key: &str, os: &str, list: Path<'_>, errors: &mut Errors) {
    for (i, container) in indexed(status, key) {
        let user = at(container, "user");
        let (linux, path) = (at(user, "linux"), list.index(i));
        if linux.is_null() {
            continue;
        }
        let path = path.child("user");
        let path = path.child("linux");
        if os == "windows" {
            errors.push(Cause::forbidden(path, "cannot be set for a windows pod"));
            continue;
        }
        super::field::in_range(linux, "uid", 0, i32::MAX.into(), path, errors);
        super::field::in_range(linux, "gid", 0, i32::MAX.into(), path, errors);
        let groups = path.child("supplementalGroups");
        for (j, gid) in indexed(linux, "supplementalGroups") {
            let gid = gid.as_i64().unwrap_or_default();
            if !(0..=i64::from(i32::MAX)).contains(&gid) {
                let why = super::field::range_message(0, i32::MAX.into());
                errors.push(Cause::invalid(groups.index(j), gid, &why));
            }
        }
    }
}

/// How the devices that containers were given are.
fn devices(status: &Value, key: &str, spec: &Value, asked: &str, list: Path<'_>, errors: &mut Errors) {
    const HEALTH: [&str; 3] = ["Healthy", "Unhealthy", "Unknown"];
    if indexed(status, key).all(|(_, c)| is_empty(c, "allocatedResourcesStatus")) {
        return;
    }
    let by_name: HashMap<&str, (&Value, HashSet<String>)> =
        items(spec, asked).map(|c| (text(c, "name"), (c, device_names(c)))).collect();
    for (i, container) in indexed(status, key) {
        if is_empty(container, "allocatedResourcesStatus") {
            continue;
        }
        let path = list.index(i);
        let list = path.child("allocatedResourcesStatus");
        // A container that is gone is not asked.
        let wanted = by_name.get(text(container, "name"));
        for (j, resource) in indexed(container, "allocatedResourcesStatus") {
            let (name, path) = (text(resource, "name"), list.index(j));
            let why = match (wanted, name.starts_with("claim:")) {
                (Some((_, claims)), true) if !claims.contains(name) => {
                    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or 'claim:<claimName>' if request is empty"
                }
                (Some((c, _)), false) if !has(at(at(c, "resources"), "requests"), name) => {
                    "must match one of the container's resource requests"
                }
                _ => "",
            };
            if !why.is_empty() {
                errors.push(Cause::invalid(path.child("name"), name, why));
            }
            let (all, mut seen) = (path.child("resources"), HashSet::new());
            for (k, device) in indexed(resource, "resources") {
                let path = all.index(k);
                let (health, id) = (text(device, "health"), text(device, "resourceID"));
                if !HEALTH.contains(&health) {
                    errors.push(Cause::not_supported(path.child("health"), health, &HEALTH));
                }
                if !seen.insert(id) {
                    errors.push(Cause::duplicate(path.child("resourceID"), id));
                }
            }
        }
    }
}

/// By which names a container knows the devices of its claims.
fn device_names(container: &Value) -> HashSet<String> {
    let claims = items(at(container, "resources"), "claims");
    claims
        .map(|claim| match text(claim, "request") {
            "" => format!("claim:{}", text(claim, "name")),
            request => format!("claim:{}/{request}", text(claim, "name")),
        })
        .collect()
}

fn observed(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(n) = int(v, "observedGeneration").filter(|n| *n < 0) {
        errors.push(Cause::invalid(path.child("observedGeneration"), n, "must be a non-negative integer"));
    }
}

/// Devices that were asked for as if they were amounts.
fn extended(status: &Value, spec: &Value, path: Path<'_>, errors: &mut Errors) {
    let claim = at(status, "extendedResourceClaimStatus");
    if claim.is_null() {
        return;
    }
    let list = path.child("requestMappings");
    if is_empty(claim, "requestMappings") {
        errors.push(Cause::required(list, "at least one request mapping is required"));
    }
    // Of several with one name the first counts.
    let all = ["initContainers", "containers"].into_iter().flat_map(|key| items(spec, key).rev());
    let by_name: HashMap<&str, &Value> = all.map(|c| (text(c, "name"), c)).collect();
    let mut seen = HashSet::new();
    for (i, mapping) in indexed(claim, "requestMappings") {
        let at_mapping = list.index(i);
        let keys = ["containerName", "resourceName", "requestName"];
        let [container, resource, request] = keys.map(|key| text(mapping, key));
        match by_name.get(container) {
            None => {
                let why =
                    "must match the name of an entry in spec.initContainers.name or spec.containers.name";
                errors.push(Cause::invalid(at_mapping.child("containerName"), container, why));
            }
            Some(c) if at_resource(c, resource).is_null() => {
                let why = "must match the extended resource name of an entry in spec.initContainers.resources.requests or spec.containers.resources.requests";
                errors.push(Cause::invalid(at_mapping.child("resourceName"), resource, why));
            }
            Some(_) => {}
        }
        dns_label(request, path.child("requestName"), errors);
        if !seen.insert([container, resource, request]) {
            for key in keys {
                errors.push(Cause::duplicate(at_mapping.child(key), text(mapping, key)));
            }
        }
    }
    match text(claim, "resourceClaimName") {
        "" => errors.push(Cause::required(path.child("resourceClaimName"), "")),
        name => dns_subdomain(name, path.child("resourceClaimName"), errors),
    }
}

fn at_resource<'v>(c: &'v Value, name: &str) -> &'v Value {
    at(path(c, &["resources", "requests"]), name)
}

/// Containers that were over and are no more, in a pod that does not start them again.
fn ended(
    restarts: &Restarts<'_>,
    policy: &str,
    (stored, status): (&Value, &Value),
    list: Path<'_>,
    key: &str,
    errors: &mut Errors,
) {
    let is_over = |c: &Value| at(at(c, "state"), "terminated").is_object();
    // Of several with one name the first counts.
    let after: HashMap<&str, &Value> = items(status, key).rev().map(|c| (text(c, "name"), c)).collect();
    for (i, before) in indexed(stored, key).filter(|(_, c)| is_over(c)) {
        let name = text(before, "name");
        let code = int(at(at(before, "state"), "terminated"), "exitCode").unwrap_or(0);
        let starts = policy == "Always" || policy == "OnFailure" && code != 0;
        if !starts && after.get(name).is_some_and(|c| !is_over(c)) && !restarts.may_start(name) {
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
        super::address::ip(address, list.index(i), errors);
        families.push(address.contains(':'));
    }
    if families.len() > 2 || matches!(families[..], [a, b] if a == b) {
        let shown: Vec<Value> =
            items(status, key).map(|e| serde_json::json!({"IP": text(e, "ip")})).collect();
        let why = "may specify no more than one IP for each IP family";
        errors.push(Cause::invalid(list, shown, why));
    }
}
