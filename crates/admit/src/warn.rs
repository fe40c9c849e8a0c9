//! What the cluster takes but finds odd: the warnings that a write brings back besides the object.

use serde_json::Value;
use std::collections::HashSet;
use stoa_units::{Quantity, check_dns_label};

use crate::value::{at, has, int, is_empty, items, pairs, path, text, texts};
use crate::{Operation, Request};

/// Warnings of a new object, or of one whose specification has changed.
pub(crate) fn warnings(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    let changes = old.is_none_or(|o| at(o, "spec") != at(object, "spec"));
    if request.operation == Operation::Delete || !request.is_main() || !changes {
        return out;
    }
    if request.operation == Operation::Create {
        name(request, object, &mut out);
    }
    let spec = at(object, "spec");
    match (request.resource.group, request.resource.plural) {
        ("", "pods") => pod(at(object, "metadata"), spec, "metadata", "spec", &mut out),
        ("", "podtemplates") => template(at(object, "template"), "template", &mut out),
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => template(at(spec, "template"), "spec.template", &mut out),
        ("batch", "cronjobs") => {
            let job = path(spec, &["jobTemplate", "spec", "template"]);
            template(job, "spec.jobTemplate.spec.template", &mut out);
        }
        ("", "services") => service(spec, &mut out),
        ("", "persistentvolumeclaims") => {
            fractions(at(spec, "resources"), "spec.resources", &mut out);
        }
        ("", "persistentvolumes") if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" => {
            out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
        ("networking.k8s.io", "ingresses")
            if request.operation == Operation::Create
                && path(object, &["metadata", "annotations", "kubernetes.io/ingress.class"]).is_string() =>
        {
            out.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".to_owned());
        }
        _ => {}
    }
    out
}

/// Names that pods take over become host names, which are labels.
fn name(request: &Request<'_>, object: &Value, out: &mut Vec<String>) {
    let what = match (request.resource.group, request.resource.plural) {
        ("", "pods") => "the Pod's hostname",
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "daemonsets")
        | ("batch", "jobs" | "cronjobs") => "Pod names and hostnames",
        _ => return,
    };
    if let Err(e) = check_dns_label(text(at(object, "metadata"), "name")) {
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{e}]"
        ));
    }
}

fn template(template: &Value, at_template: &str, out: &mut Vec<String>) {
    let (meta, spec) = (at(template, "metadata"), at(template, "spec"));
    pod(meta, spec, &format!("{at_template}.metadata"), &format!("{at_template}.spec"), out);
}

/// Labels that had a provisional name once: the old, since when, and the new.
const OLD_LABELS: [(&str, &str, &str); 5] = [
    ("beta.kubernetes.io/arch", "v1.14", "kubernetes.io/arch"),
    ("beta.kubernetes.io/os", "v1.14", "kubernetes.io/os"),
    ("failure-domain.beta.kubernetes.io/region", "v1.17", "topology.kubernetes.io/region"),
    ("failure-domain.beta.kubernetes.io/zone", "v1.17", "topology.kubernetes.io/zone"),
    ("beta.kubernetes.io/instance-type", "v1.17", "node.kubernetes.io/instance-type"),
];

fn old_label(key: &str, place: &str, out: &mut Vec<String>) {
    if let Some((_, since, instead)) = OLD_LABELS.iter().find(|(old, ..)| *old == key) {
        out.push(format!("{place}: deprecated since {since}; use {instead:?} instead"));
    }
}

fn pod(meta: &Value, spec: &Value, at_meta: &str, at_spec: &str, out: &mut Vec<String>) {
    for (key, _) in pairs(spec, "nodeSelector") {
        old_label(key, &format!("{at_spec}.nodeSelector[{key}]"), out);
    }
    for (key, _) in pairs(meta, "annotations") {
        if key.starts_with("container.apparmor.security.beta.kubernetes.io/") {
            out.push(format!(
                "{at_meta}.annotations[{key}]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
            ));
        }
    }
    for (i, volume) in items(spec, "volumes").enumerate() {
        if has(volume, "gitRepo") {
            out.push(format!(
                "{at_spec}.volumes[{i}].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"
            ));
        }
    }
    let mut secrets = HashSet::new();
    for (i, secret) in items(spec, "imagePullSecrets").enumerate() {
        let name = text(secret, "name");
        if name.is_empty() {
            out.push(format!("{at_spec}.imagePullSecrets[{i}].name: invalid empty name \"\""));
        } else if !secrets.insert(name) {
            out.push(format!("{at_spec}.imagePullSecrets[{i}].name: duplicate name {name:?}"));
        }
    }
    for list in ["initContainers", "containers"] {
        for (i, c) in items(spec, list).enumerate() {
            container(c, &format!("{at_spec}.{list}[{i}]"), out);
        }
    }
    ports(spec, at_spec, out);
    if int(spec, "terminationGracePeriodSeconds").is_some_and(|s| s < 0) {
        out.push(format!(
            "{at_spec}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
}

fn container(c: &Value, place: &str, out: &mut Vec<String>) {
    fractions(at(c, "resources"), &format!("{place}.resources"), out);
    let mut names = HashSet::new();
    for (i, var) in items(c, "env").enumerate() {
        let name = text(var, "name");
        let extends = !has(var, "valueFrom") && text(var, "value").contains(&format!("$({name})"));
        if !names.insert(name) && !extends {
            out.push(format!(
                "{place}.env[{i}]: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

/// Nobody can give half a byte.
fn fractions(resources: &Value, place: &str, out: &mut Vec<String>) {
    for side in ["limits", "requests"] {
        for name in ["memory", "ephemeral-storage", "storage"] {
            let Some(amount) = at(at(resources, side), name).as_str() else { continue };
            if Quantity::parse(amount).is_ok_and(|q| q.nano() % 1_000_000_000 != 0) {
                out.push(format!(
                    "{place}.{side}[{name}]: fractional byte value {amount:?} is invalid, must be an integer"
                ));
            }
        }
    }
}

/// A port that is named twice does nothing the second time.
fn ports(spec: &Value, at_spec: &str, out: &mut Vec<String>) {
    let mut seen: Vec<(String, &Value)> = Vec::new();
    for (i, c) in items(spec, "containers").enumerate() {
        for (j, port) in items(c, "ports").enumerate() {
            let place = format!("{at_spec}.containers[{i}].ports[{j}]");
            let same = |p: &Value| {
                ["containerPort", "protocol", "hostPort", "hostIP"].iter().all(|k| at(p, k) == at(port, k))
            };
            if let Some((first, _)) = seen.iter().find(|(_, p)| same(p)) {
                out.push(format!("{place}: duplicate port definition with {first}"));
            }
            let name = text(port, "name");
            if let Some((first, _)) = seen.iter().find(|(_, p)| !name.is_empty() && text(p, "name") == name) {
                out.push(format!("{place}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"));
            }
            seen.push((place, port));
        }
    }
}

fn service(spec: &Value, out: &mut Vec<String>) {
    let external = text(spec, "type") == "ExternalName";
    let headless = text(spec, "clusterIP") == "None";
    let mut ignored = |field: &str, when: &str| out.push(format!("{field} is ignored when {when}"));
    if external && !is_empty(spec, "externalIPs") {
        ignored("spec.externalIPs", "spec.type is \"ExternalName\"");
    }
    if text(spec, "type") != "LoadBalancer" && !is_empty(spec, "loadBalancerIP") {
        ignored("spec.loadBalancerIP", "spec.type is not \"LoadBalancer\"");
    }
    let sticky = text(spec, "sessionAffinity") == "ClientIP";
    if external && sticky {
        ignored("spec.SessionAffinity", "spec.type is \"ExternalName\"");
    }
    if headless && !external && texts(spec, "externalIPs").next().is_some() {
        ignored("spec.externalIPs", "spec.clusterIP is \"None\"");
    }
    if headless && !external && sticky {
        ignored("spec.SessionAffinity", "spec.clusterIP is \"None\"");
    }
}
