//! Everything else: namespaces and what they hold, access, admission, flow control, devices.

use super::human;
use super::view::{View, at, condition, count, list, or, shown, text};
use serde_json::Value;
use std::collections::BTreeSet;

const KINDS: [&str; 25] = [
    "Namespace",
    "ConfigMap",
    "Secret",
    "ServiceAccount",
    "ResourceQuota",
    "ComponentStatus",
    "RoleBinding",
    "ClusterRoleBinding",
    "CertificateSigningRequest",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "MutatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicyBinding",
    "PriorityClass",
    "Lease",
    "RuntimeClass",
    "FlowSchema",
    "PriorityLevelConfiguration",
    "DeviceClass",
    "ResourceClaimTemplate",
    "ResourceClaim",
    "ResourceSlice",
];

pub(super) fn knows(kind: &str) -> bool {
    KINDS.contains(&kind)
}

pub(super) fn cells(view: View<'_>, kind: &str) -> Vec<Value> {
    let name_and = |cells: Vec<Value>| [vec![view.name()], cells, vec![view.age()]].concat();
    match kind {
        "Namespace" => name_and(vec![view.text("status.phase").into()]),
        "ConfigMap" => name_and(vec![(count(view.object, "data") + count(view.object, "binaryData")).into()]),
        "Secret" => name_and(vec![view.text("type").into(), count(view.object, "data").into()]),
        "ResourceQuota" => quota(view),
        "ComponentStatus" => component(view),
        "RoleBinding" | "ClusterRoleBinding" => binding(view),
        "CertificateSigningRequest" => signing_request(view),
        "APIService" => api_service(view),
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
            name_and(vec![view.list("webhooks").len().into()])
        }
        "ValidatingAdmissionPolicy" => {
            name_and(vec![view.list("spec.validations").len().into(), param_kind(view)])
        }
        "MutatingAdmissionPolicy" => {
            name_and(vec![view.list("spec.mutations").len().into(), param_kind(view)])
        }
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => name_and(vec![
            view.text("spec.policyName").into(),
            or(view.text("spec.paramRef.name"), "<unset>").into(),
        ]),
        "PriorityClass" => priority_class(view),
        "Lease" => name_and(vec![view.text("spec.holderIdentity").into()]),
        "RuntimeClass" => name_and(vec![view.text("handler").into()]),
        "FlowSchema" => flow_schema(view),
        "PriorityLevelConfiguration" => priority_level(view),
        "ResourceClaim" => name_and(vec![claim_state(view).into()]),
        "ResourceSlice" => name_and(vec![
            or(view.text("spec.nodeName"), "<none>").into(),
            view.text("spec.driver").into(),
            view.text("spec.pool.name").into(),
        ]),
        _ => name_and(Vec::new()),
    }
}

fn quota(view: View<'_>) -> Vec<Value> {
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, hard) in view.at("status.hard").as_object().into_iter().flatten() {
        let used = view.at("status.used").get(resource).map_or("0".to_owned(), |u| shown(u, "0"));
        let line = format!("{resource}: {used}/{}", shown(hard, "0"));
        if resource.starts_with("limits") { limits.push(line) } else { requests.push(line) }
    }
    vec![view.name(), requests.join(", ").into(), limits.join(", ").into(), view.age()]
}

fn component(view: View<'_>) -> Vec<Value> {
    let health = view.list("conditions").iter().find(|c| text(c, "type") == "Healthy");
    let (status, message, error) = match health {
        Some(c) if text(c, "status") == "True" => ("Healthy", text(c, "message"), text(c, "error")),
        Some(c) => ("Unhealthy", text(c, "message"), text(c, "error")),
        None => ("Unknown", "", ""),
    };
    vec![view.name(), status.into(), message.into(), error.into()]
}

fn binding(view: View<'_>) -> Vec<Value> {
    let role = view.at("roleRef");
    let subjects = |kind: &str| {
        let of_kind = view.list("subjects").iter().filter(|s| text(s, "kind") == kind);
        let names = of_kind.map(|s| match (kind, text(s, "namespace")) {
            ("ServiceAccount", namespace) => format!("{namespace}/{}", text(s, "name")),
            _ => text(s, "name").to_owned(),
        });
        Value::from(names.collect::<Vec<_>>().join(", "))
    };
    vec![
        view.name(),
        format!("{}/{}", text(role, "kind"), text(role, "name")).into(),
        view.age(),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

fn signing_request(view: View<'_>) -> Vec<Value> {
    let has = |kind: &str| condition(view.object, kind).is_some();
    let mut state = match () {
        () if has("Denied") => "Denied".to_owned(),
        () if has("Approved") => "Approved".to_owned(),
        () => "Pending".to_owned(),
    };
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !view.text("status.certificate").is_empty() {
        state.push_str(",Issued");
    }
    let duration = view.at("spec.expirationSeconds").as_i64().map_or("<none>".to_owned(), human::duration);
    vec![
        view.name(),
        view.age(),
        or(view.text("spec.signerName"), "<none>").into(),
        view.text("spec.username").into(),
        duration.into(),
        state.into(),
    ]
}

fn api_service(view: View<'_>) -> Vec<Value> {
    let service = view.at("spec.service");
    let served_by = match service.is_object() {
        true => format!("{}/{}", text(service, "namespace"), text(service, "name")),
        false => "Local".to_owned(),
    };
    let available = match condition(view.object, "Available") {
        None => "Unknown".to_owned(),
        Some(c) if text(c, "status") == "True" || text(c, "reason").is_empty() => {
            text(c, "status").to_owned()
        }
        Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")),
    };
    vec![view.name(), served_by.into(), available.into(), view.age()]
}

fn param_kind(view: View<'_>) -> Value {
    let kind = view.at("spec.paramKind");
    match kind.is_object() {
        true => format!("{}/{}", text(kind, "apiVersion"), text(kind, "kind")).into(),
        false => "<unset>".into(),
    }
}

fn priority_class(view: View<'_>) -> Vec<Value> {
    vec![
        view.name(),
        view.number("value").into(),
        view.flag("globalDefault").into(),
        view.age(),
        or(view.text("preemptionPolicy"), "PreemptLowerPriority").into(),
    ]
}

fn flow_schema(view: View<'_>) -> Vec<Value> {
    let dangling = condition(view.object, "Dangling").map_or("?", |c| text(c, "status"));
    vec![
        view.name(),
        or(view.text("spec.priorityLevelConfiguration.name"), "<none>").into(),
        view.number("spec.matchingPrecedence").into(),
        or(view.text("spec.distinguisherMethod.type"), "<none>").into(),
        view.age(),
        dangling.into(),
    ]
}

fn priority_level(view: View<'_>) -> Vec<Value> {
    // Numbers stay numbers here, for clients that read them.
    let number = |v: &Value| if v.is_null() { Value::from("<none>") } else { v.clone() };
    let queuing = |key: &str| number(at(view.at("spec.limited.limitResponse.queuing"), key));
    vec![
        view.name(),
        view.text("spec.type").into(),
        number(view.at("spec.limited.nominalConcurrencyShares")),
        queuing("queues"),
        queuing("handSize"),
        queuing("queueLengthLimit"),
        view.age(),
    ]
}

fn claim_state(view: View<'_>) -> String {
    let mut states: BTreeSet<&str> = BTreeSet::new();
    if view.at("status.allocation").is_object() {
        states.insert("allocated");
        if !list(view.object, "status.reservedFor").is_empty() {
            states.insert("reserved");
        }
    } else if !view.is_deleting() {
        states.insert("pending");
    }
    if view.is_deleting() {
        states.insert("deleted");
    }
    states.into_iter().collect::<Vec<_>>().join(",")
}
