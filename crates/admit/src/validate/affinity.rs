//! Affinities and topology spread.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::{check_label_key, check_label_value};

use super::field::{Errors, Path, dns_label, dns_subdomain, indexed, name_error, optional_one_of};
use super::selector::{self, Subject};
use crate::value::{at, has, int, text, texts};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn check(affinity: &Value, path: Path<'_>, errors: &mut Errors) {
    let node = at(affinity, "nodeAffinity");
    let at_node = path.child("nodeAffinity");
    if has(node, REQUIRED) {
        let at_required = at_node.child(REQUIRED);
        node_selector(at(node, REQUIRED), at_required, errors);
    }
    let list = at_node.child(PREFERRED);
    for (i, term) in indexed(node, PREFERRED) {
        let path = list.index(i);
        weight(term, path, errors);
        node_term(at(term, "preference"), false, path.child("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let v = at(affinity, kind);
        let path = path.child(kind);
        let list = path.child(REQUIRED);
        for (i, term) in indexed(v, REQUIRED) {
            pod_term(term, list.index(i), errors);
        }
        let list = path.child(PREFERRED);
        for (i, term) in indexed(v, PREFERRED) {
            let path = list.index(i);
            weight(term, path, errors);
            pod_term(at(term, "podAffinityTerm"), path.child("podAffinityTerm"), errors);
        }
    }
}

fn weight(term: &Value, path: Path<'_>, errors: &mut Errors) {
    let weight = int(term, "weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.push(Cause::invalid(path.child("weight"), weight, "must be in the range 1-100"));
    }
}

/// Terms of which one must match, as nodes and persistent volumes have them.
pub(super) fn node_selector(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("nodeSelectorTerms");
    if indexed(v, "nodeSelectorTerms").next().is_none() {
        errors.push(Cause::required(list, "must have at least one node selector term"));
    }
    for (i, term) in indexed(v, "nodeSelectorTerms") {
        node_term(term, true, list.index(i), errors);
    }
}

/// What nodes a term asks for; `strict` looks at the values of labels too.
fn node_term(term: &Value, strict: bool, path: Path<'_>, errors: &mut Errors) {
    selector::expressions(term, Subject::Nodes { strict }, path, errors);
    let list = path.child("matchFields");
    for (i, e) in indexed(term, "matchFields") {
        node_field(e, list.index(i), errors);
    }
}

/// The name is the one field of a node that can be asked for.
fn node_field(e: &Value, path: Path<'_>, errors: &mut Errors) {
    match text(e, "operator") {
        "In" | "NotIn" if texts(e, "values").count() != 1 => {
            let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
            errors.push(Cause::required(path.child("values"), why));
        }
        "In" | "NotIn" => {}
        other => errors.push(Cause::invalid(path.child("operator"), other, "not a valid selector operator")),
    }
    match text(e, "key") {
        "metadata.name" => {
            let list = path.child("values");
            for (j, value) in texts(e, "values").enumerate() {
                dns_subdomain(value, list.index(j), errors);
            }
        }
        key => errors.push(Cause::invalid(path.child("key"), key, "not a valid field selector key")),
    }
}

fn pod_term(term: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        selector::check(at(term, key), path.child(key), errors);
    }
    for namespace in texts(term, "namespaces") {
        dns_label(namespace, path.child("namespace"), errors);
    }
    for key in ["matchLabelKeys", "mismatchLabelKeys"] {
        label_keys(term, key, key == "matchLabelKeys", path, errors);
    }
    let list = path.child("matchLabelKeys");
    let others: HashSet<&str> = texts(term, "mismatchLabelKeys").collect();
    for (i, key) in texts(term, "matchLabelKeys").enumerate() {
        if others.contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(Cause::invalid(list.index(i), key, why));
        }
    }
    let key = text(term, "topologyKey");
    if key.is_empty() {
        errors.push(Cause::required(path.child("topologyKey"), "can not be empty"));
    }
    name_error(check_label_key(key), key, path.child("topologyKey"), errors);
}

/// Labels whose values the pod itself has, which the selector must leave alone.
fn label_keys(v: &Value, field: &str, apart: bool, path: Path<'_>, errors: &mut Errors) {
    let list = path.child(field);
    let selector = at(v, "labelSelector");
    if texts(v, field).next().is_some() && selector.is_null() {
        errors.push(Cause::forbidden(list, "must not be specified when labelSelector is not set"));
    }
    for (i, key) in texts(v, field).enumerate() {
        name_error(check_label_key(key), key, list.index(i), errors);
        // A pod's selector has got the demand that follows from the key, when the pod came to be.
        let named = indexed(selector, "matchExpressions").filter(|(_, e)| text(e, "key") == key).count();
        if apart && (has(at(selector, "matchLabels"), key) || named > 1) {
            errors.push(Cause::invalid(
                list.index(i),
                key,
                "exists in both matchLabelKeys and labelSelector",
            ));
        }
    }
}

/// Topology spread constraints.
pub(super) fn spread(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    for (i, c) in indexed(spec, "topologySpreadConstraints") {
        let path = list.index(i);
        let skew = int(c, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(Cause::invalid(path.child("maxSkew"), skew, "must be greater than zero"));
        }
        let (key, when) = (text(c, "topologyKey"), text(c, "whenUnsatisfiable"));
        if key.is_empty() {
            errors.push(Cause::required(path.child("topologyKey"), "can not be empty"));
        }
        if !["DoNotSchedule", "ScheduleAnyway"].contains(&when) {
            let supported = ["DoNotSchedule", "ScheduleAnyway"];
            errors.push(Cause::not_supported(path.child("whenUnsatisfiable"), when, &supported));
        }
        for (_, other) in indexed(spec, "topologySpreadConstraints").skip(i + 1) {
            if text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == when {
                let pair = format!("{{{key}, {when}}}");
                errors.push(Cause::duplicate(path.child("{topologyKey, whenUnsatisfiable}"), pair));
                break;
            }
        }
        if let Some(n) = int(c, "minDomains") {
            let path = path.child("minDomains");
            if n <= 0 {
                errors.push(Cause::invalid(path, n, "must be greater than zero"));
            }
            if when != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}");
                errors.push(Cause::invalid(path, n, &why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            optional_one_of(c, policy, &["Honor", "Ignore"], path, errors);
        }
        label_keys(c, "matchLabelKeys", true, path, errors);
        selector::check(at(c, "labelSelector"), path.child("labelSelector"), errors);
    }
}

/// Tolerations.
pub(super) fn tolerations(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    for (i, t) in indexed(spec, "tolerations") {
        let path = list.index(i);
        let (key, operator, effect) = (text(t, "key"), text(t, "operator"), text(t, "effect"));
        let value = text(t, "value");
        if !key.is_empty() {
            name_error(check_label_key(key), key, path.child("key"), errors);
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Cause::invalid(path.child("operator"), operator, why));
        }
        if int(t, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(Cause::invalid(path.child("effect"), effect, why));
        }
        match operator {
            "" | "Equal" => {
                if let Err(e) = check_label_value(value) {
                    let why: Vec<&str> = e.all().collect();
                    errors.push(Cause::invalid(path.child("operator"), value, &why.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(Cause::invalid(path.child("operator"), value, why));
            }
            "Exists" => {}
            // These compare numbers, a feature that is off on a stock server, whose answer names them all the same.
            "Lt" | "Gt" => {
                let named = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(Cause::not_supported(path.child("operator"), operator, &named));
            }
            other => errors.push(Cause::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(Cause::not_supported(path.child("effect"), effect, &EFFECTS));
        }
    }
}

/// Labels of nodes that have got another name, and the old one.
const RENAMED: [(&str, &str); 5] = [
    ("failure-domain.beta.kubernetes.io/zone", "topology.kubernetes.io/zone"),
    ("failure-domain.beta.kubernetes.io/region", "topology.kubernetes.io/region"),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ("beta.kubernetes.io/instance-type", "node.kubernetes.io/instance-type"),
];

/// Whether two node affinities of a volume ask for the same, the second perhaps by the new names of labels.
pub(super) fn is_renamed(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(key, old)| {
                    b.get(key).is_some_and(|new| {
                        let renamed = key == "key" && RENAMED.iter().any(|(x, y)| old == x && new == y);
                        renamed || is_renamed(old, new)
                    })
                })
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(old, new)| is_renamed(old, new))
        }
        (a, b) => a == b,
    }
}

/// What a taint may do.
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
