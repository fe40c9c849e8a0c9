//! Nodes.

use super::view::{View, condition, or, text};
use serde_json::Value;
use std::collections::BTreeSet;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";

pub(super) fn cells(view: View<'_>) -> Vec<Value> {
    let mut status = match condition(view.object, "Ready").map(|c| text(c, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if view.flag("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let address = |kind: &str| {
        let found = view.list("status.addresses").iter().find(|a| text(a, "type") == kind);
        Value::from(found.map_or("<none>", |a| text(a, "address")))
    };
    let info = |key: &str| Value::from(or(text(view.at("status.nodeInfo"), key), "<unknown>"));
    vec![
        view.name(),
        status.into(),
        roles(view).into(),
        view.age(),
        view.text("status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage"),
        info("kernelVersion"),
        info("containerRuntimeVersion"),
    ]
}

fn roles(view: View<'_>) -> String {
    let labels = view.at("metadata.labels").as_object();
    let roles: BTreeSet<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE_PREFIX) {
            Some(role) => Some(role),
            None if key == ROLE_LABEL => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    or(&roles.into_iter().collect::<Vec<_>>().join(","), "<none>").to_owned()
}
