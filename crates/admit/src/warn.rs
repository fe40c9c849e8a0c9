//! What the cluster takes but finds odd: the warnings that a write brings back besides the object.

mod definition;
mod pod;

use serde_json::Value;
use std::net::IpAddr;
use stoa_units::{Quantity, check_dns_label, check_label_value};

use crate::value::{at, has, is_empty, items, pairs, path, text, texts};
use crate::{Operation, Request};

/// Warnings of a new object, or of a changed one; of what is often changed by machines only where its specification has changed.
pub(crate) fn warnings(request: &Request<'_>, object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut out = Vec::new();
    if request.operation == Operation::Delete || !request.is_main() {
        return out;
    }
    let is_new = request.operation == Operation::Create;
    if is_new {
        name(request, object, &mut out);
    }
    let spec = at(object, "spec");
    let note = |key: &str| path(object, &["metadata", "annotations", key]).is_string();
    match (request.resource.group, request.resource.plural) {
        ("", "pods") if is_new => pod::pod(at(object, "metadata"), spec, None, &mut out),
        ("", "podtemplates") if old.is_some_and(|o| at(o, "template") == at(object, "template")) => {}
        ("", "podtemplates") => template(at(object, "template"), "template", &mut out),
        ("", "services") => service(object, &mut out),
        ("", "endpoints") => {
            for (i, subset) in items(object, "subsets").enumerate() {
                for list in ["addresses", "notReadyAddresses"] {
                    for (j, address) in items(subset, list).enumerate() {
                        ip(text(address, "ip"), &format!("subsets[{i}].{list}[{j}].ip"), &mut out);
                    }
                }
            }
        }
        ("discovery.k8s.io", "endpointslices") => slice(object, is_new, &mut out),
        ("", "nodes") if !is_empty(spec, "externalID") => {
            out.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        ("", "persistentvolumeclaims") => {
            if note(BETA_CLASS) {
                out.push(format!("metadata.annotations[{BETA_CLASS}]: {CLASS_FIELD}"));
            }
            claim(spec, "spec", &mut out);
        }
        ("", "persistentvolumes") => {
            if note(BETA_CLASS) {
                out.push(format!("metadata.annotations[{BETA_CLASS}]: {CLASS_FIELD}"));
            }
            if note(MOUNT_OPTIONS) {
                out.push(format!(
                    "metadata.annotations[{MOUNT_OPTIONS}]: deprecated since v1.31; use \"mountOptions\" attribute instead"
                ));
            }
            volume(spec, &mut out);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition::formats(object, old, &mut out),
        ("node.k8s.io", "runtimeclasses") => {
            let labels = pairs(at(object, "scheduling"), "nodeSelector").map(|(label, _)| label);
            out.extend(
                labels.filter_map(|l| old_label(l)).map(|why| format!("scheduling.nodeSelector: {why}")),
            );
        }
        ("storage.k8s.io", "storageclasses") => {
            for (i, term) in items(object, "allowedTopologies").enumerate() {
                for (j, e) in items(term, "matchLabelExpressions").enumerate() {
                    if let Some(why) = old_label(text(e, "key")) {
                        let place = format!("allowedTopologies[{i}].matchLabelExpressions[{j}].key");
                        out.push(format!("{place}: {why}"));
                    }
                }
            }
        }
        ("storage.k8s.io", "csistoragecapacities") => {
            let topology = at(object, "nodeTopology");
            node_term(topology, false, "nodeTopology", &mut out);
            for (label, _) in pairs(topology, "matchLabels") {
                if let Some(why) = old_label(label) {
                    out.push(format!("nodeTopology.matchLabels.{label}: {why}"));
                }
            }
        }
        ("storage.k8s.io", "csidrivers") => {
            let asked = |o: &Value| path(o, &["spec", "tokenRequests"]).clone();
            if !is_empty(spec, "tokenRequests")
                && !has(spec, "serviceAccountTokenInSecrets")
                && old.is_none_or(|o| asked(o) != asked(object))
            {
                out.push("spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes".to_owned());
            }
        }
        ("", "secrets") if text(object, "type") == "kubernetes.io/tls" => certificate(object, &mut out),
        ("", "serviceaccounts") => {
            let before = old.is_some_and(|o| path(o, &["metadata", "annotations", MOUNTABLE]).is_string());
            if note(MOUNTABLE) && !before {
                out.push(format!(
                    "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
                ));
            }
        }
        ("networking.k8s.io", "ingresses") if is_new && note("kubernetes.io/ingress.class") => {
            out.push("annotation \"kubernetes.io/ingress.class\" is deprecated, please use 'spec.ingressClassName' instead".to_owned());
        }
        _ if old.is_some_and(|o| at(o, "spec") == spec) => {}
        ("", "replicationcontrollers")
        | ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => template(at(spec, "template"), "spec.template", &mut out),
        ("batch", "cronjobs") => {
            let job = path(spec, &["jobTemplate", "spec", "template"]);
            template(job, "spec.jobTemplate.spec.template", &mut out);
        }
        _ => {}
    }
    out
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
const CLASS_FIELD: &str = "deprecated since v1.8; use \"storageClassName\" attribute instead";
const MOUNT_OPTIONS: &str = "volume.beta.kubernetes.io/mount-options";
const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

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
        let faults: Vec<&str> = e.all().collect();
        out.push(format!(
            "metadata.name: this is used in {what}, which can result in surprising behavior; a DNS label is recommended: [{}]",
            faults.join(" ")
        ));
    }
}

/// Addresses of a slice, save those that a controller has put right.
fn slice(object: &Value, is_new: bool, out: &mut Vec<String>) {
    if is_new && text(object, "addressType") == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    let labels = path(object, &["metadata", "labels"]);
    if matches!(
        text(labels, "endpointslice.kubernetes.io/managed-by"),
        "endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io"
    ) {
        return;
    }
    for (i, endpoint) in items(object, "endpoints").enumerate() {
        for (j, address) in texts(endpoint, "addresses").enumerate() {
            ip(address, &format!("endpoints[{i}].addresses[{j}]"), out);
        }
    }
}

fn template(template: &Value, place: &str, out: &mut Vec<String>) {
    pod::pod(at(template, "metadata"), at(template, "spec"), Some(place), out);
}

/// What became of labels of nodes.
const OLD_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

fn old_label(key: &str) -> Option<&'static str> {
    OLD_LABELS.iter().find(|(old, _)| *old == key).map(|(_, why)| *why)
}

/// What a term asks of nodes; where its values are not judged, they are warned of.
fn node_term(term: &Value, values: bool, place: &str, out: &mut Vec<String>) {
    for (i, e) in items(term, "matchExpressions").enumerate() {
        let key = text(e, "key");
        if let Some(why) = old_label(key) {
            out.push(format!("{place}.matchExpressions[{i}].key: {key} is {why}"));
        }
        for (j, value) in texts(e, "values").enumerate().filter(|_| values) {
            if let Err(faults) = check_label_value(value) {
                let at_value = format!("{place}.matchExpressions[{i}].values[{j}]");
                out.extend(faults.all().map(|why| format!("{at_value}: {value} is invalid, {why}")));
            }
        }
    }
}

/// An address that could be written shorter.
fn ip(value: &str, place: &str, out: &mut Vec<String>) {
    if let Ok(IpAddr::V6(address)) = value.parse()
        && address.to_string() != value
    {
        out.push(format!(
            "{place}: IPv6 address {value:?} should be in RFC 5952 canonical format ({:?})",
            address.to_string()
        ));
    }
}

fn claim(spec: &Value, place: &str, out: &mut Vec<String>) {
    for side in ["requests", "limits"] {
        fraction(at(spec, "resources"), side, "storage", &format!("{place}.resources"), out);
    }
}

/// Nobody can give half a byte.
fn fraction(resources: &Value, side: &str, name: &str, place: &str, out: &mut Vec<String>) {
    let amounts = if side.is_empty() { resources } else { at(resources, side) };
    let Some(amount) = at(amounts, name).as_str() else { return };
    if Quantity::parse(amount).is_ok_and(|q| q.nano() % 1_000_000_000 != 0) {
        let dot = if side.is_empty() { "" } else { "." };
        out.push(format!(
            "{place}{dot}{side}[{name}]: fractional byte value {amount:?} is invalid, must be an integer"
        ));
    }
}

/// Plugins of volumes that are no more.
const GONE: [(&str, &str); 8] = [
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
];

/// The name by which a warning calls a volume's source.
fn spoken(source: &str) -> &str {
    if source == "storageos" { "storageOS" } else { source }
}

fn volume(spec: &Value, out: &mut Vec<String>) {
    if text(spec, "persistentVolumeReclaimPolicy") == "Recycle" {
        out.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
    }
    let required = path(spec, &["nodeAffinity", "required"]);
    for (i, term) in items(required, "nodeSelectorTerms").enumerate() {
        node_term(term, false, &format!("spec.nodeAffinity.required.nodeSelectorTerms[{i}]"), out);
    }
    for (source, why) in GONE.iter().filter(|(source, _)| has(spec, source)) {
        out.push(format!("spec.{}: {why}", spoken(source)));
    }
}

/// A certificate and its key that are none.
fn certificate(secret: &Value, out: &mut Vec<String>) {
    use base64::Engine;
    let holds = |key: &str| {
        let encoded = at(at(secret, "data"), key).as_str().unwrap_or_default();
        let decoded = base64::engine::general_purpose::STANDARD.decode(encoded).unwrap_or_default();
        String::from_utf8_lossy(&decoded).contains("-----BEGIN ")
    };
    if !holds("tls.crt") {
        out.push("tls: failed to find any PEM data in certificate input".to_owned());
    } else if !holds("tls.key") {
        out.push("tls: failed to find any PEM data in key input".to_owned());
    }
}

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

fn service(object: &Value, out: &mut Vec<String>) {
    let spec = at(object, "spec");
    let headless = text(spec, "type") == "ClusterIP" && text(spec, "clusterIP") == "None";
    let external = text(spec, "type") == "ExternalName";
    if path(object, &["metadata", "annotations", HINTS]).is_string() {
        out.push(format!("annotation {HINTS} is deprecated, please use {MODE} instead"));
    }
    for (i, address) in texts(spec, "clusterIPs").enumerate() {
        ip(address, &format!("spec.clusterIPs[{i}]"), out);
    }
    let has_external = !is_empty(spec, "externalIPs");
    if headless {
        for (field, is_set) in [
            ("loadBalancerIP", !is_empty(spec, "loadBalancerIP")),
            ("externalIPs", has_external),
            ("SessionAffinity", text(spec, "sessionAffinity") != "None"),
        ] {
            if is_set {
                out.push(format!("spec.{field} is ignored for headless services"));
            }
        }
    }
    for (i, address) in texts(spec, "externalIPs").enumerate() {
        ip(address, &format!("spec.externalIPs[{i}]"), out);
    }
    if has_external && !headless && !external {
        out.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    ip(text(spec, "loadBalancerIP"), "spec.loadBalancerIP", out);
    if external && has_external {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !external && !is_empty(spec, "externalName") {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        out.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
}
