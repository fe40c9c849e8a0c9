//! Affinities and topology spread.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_label_key;

use super::field::{Errors, Path, in_range, indexed, name_error, one_of, required_text};
use super::{selector, shown};
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
        node_term(at(term, "preference"), path.child("preference"), errors);
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
        node_term(term, list.index(i), errors);
    }
}

fn node_term(term: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["matchExpressions", "matchFields"] {
        let list = path.child(key);
        for (i, e) in indexed(term, key) {
            let path = list.index(i);
            let values = texts(e, "values").count();
            match text(e, "operator") {
                "In" | "NotIn" if values == 0 => {
                    let why = "must be specified when `operator` is 'In' or 'NotIn'";
                    errors.push(Cause::required(path.child("values"), why));
                }
                "Exists" | "DoesNotExist" if values > 0 => {
                    let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                    errors.push(Cause::forbidden(path.child("values"), why));
                }
                "Gt" | "Lt" if values != 1 => {
                    let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
                    errors.push(Cause::required(path.child("values"), why));
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
                other => {
                    errors.push(Cause::invalid(
                        path.child("operator"),
                        other,
                        "not a valid selector operator",
                    ));
                }
            }
            if key == "matchExpressions" {
                name_error(check_label_key(text(e, "key")), text(e, "key"), path.child("key"), errors);
            } else if text(e, "key") != "metadata.name" {
                errors.push(Cause::invalid(
                    path.child("key"),
                    text(e, "key"),
                    "not a valid field selector key",
                ));
            }
        }
    }
}

fn pod_term(term: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["labelSelector", "namespaceSelector"] {
        selector::check(at(term, key), path.child(key), errors);
    }
    let list = path.child("namespaces");
    for (i, namespace) in texts(term, "namespaces").enumerate() {
        super::field::dns_label(namespace, list.index(i), errors);
    }
    topology_key(term, path, errors);
}

fn topology_key(v: &Value, path: Path<'_>, errors: &mut Errors) {
    match text(v, "topologyKey") {
        "" => errors.push(Cause::required(path.child("topologyKey"), "can not be empty")),
        key => name_error(check_label_key(key), key, path.child("topologyKey"), errors),
    }
}

/// Topology spread constraints.
pub(super) fn spread(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for (i, c) in indexed(spec, "topologySpreadConstraints") {
        let path = list.index(i);
        let skew = int(c, "maxSkew").unwrap_or(0);
        if skew <= 0 {
            errors.push(Cause::invalid(path.child("maxSkew"), skew, "must be greater than zero"));
        }
        topology_key(c, path, errors);
        one_of(c, "whenUnsatisfiable", &["DoNotSchedule", "ScheduleAnyway"], path, errors);
        if !seen.insert((text(c, "topologyKey"), text(c, "whenUnsatisfiable"))) {
            let pair = format!("{{{}, {}}}", text(c, "topologyKey"), text(c, "whenUnsatisfiable"));
            errors.push(Cause::duplicate(path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        in_range(c, "minDomains", 1, i32::MAX.into(), path, errors);
        selector::check(at(c, "labelSelector"), path.child("labelSelector"), errors);
    }
}

/// Tolerations.
pub(super) fn tolerations(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    for (i, t) in indexed(spec, "tolerations") {
        let path = list.index(i);
        let (key, operator, effect) = (text(t, "key"), text(t, "operator"), text(t, "effect"));
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
                let value = text(t, "value");
                name_error(stoa_units::check_label_value(value), value, path.child("operator"), errors);
            }
            "Exists" if !text(t, "value").is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(shown::invalid(path.child("operator"), t, shown::TOLERATION, why));
            }
            "Exists" => {}
            other => errors.push(Cause::not_supported(path.child("operator"), other, &["Equal", "Exists"])),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            errors.push(Cause::not_supported(path.child("effect"), effect, &EFFECTS));
        }
    }
}

/// What a taint may do.
pub(super) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

/// Key of a label and similar, where it must be there.
pub(super) fn qualified(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if let Some(name) = required_text(v, key, path, errors) {
        name_error(check_label_key(name), name, path.child(key), errors);
    }
}
