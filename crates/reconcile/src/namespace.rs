//! A namespace that is being deleted: its pods go first, so that no program outlives what restrains it (policies, say), then everything
//! else in it, then the namespace.

use crate::deployment::differs;
use crate::meta::{id, is_deleting, resource, time};
use crate::{Action, Key, Member, Propagation, World};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_kube::typed::Namespace;

/// Objects deleted in one look; the next look takes the next ones.
const DELETES_LEN_MAX: usize = 500;

/// Looks at one namespace.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(namespace) = world.namespaces.get("", &key.name) else { return Vec::new() };
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.clone()).unwrap_or_default();
    if !is_deleting(&namespace.metadata) || finalizers.is_empty() {
        return Vec::new();
    }
    let content: Vec<&Member> = world.graph.in_namespace(&key.name).collect();
    let id = id(resource("", "namespaces"), &namespace.metadata);
    if content.is_empty() {
        let left: Vec<&String> = finalizers.iter().filter(|f| *f != "kubernetes").collect();
        if left.len() == finalizers.len() {
            return Vec::new();
        }
        let left = if left.is_empty() { Value::Null } else { json!(left) };
        return vec![Action::Patch {
            id,
            subresource: "finalize",
            patch: json!({"spec": {"finalizers": left}}),
        }];
    }
    let pods: Vec<&Member> = content.iter().copied().filter(|m| is_pod(m)).collect();
    let content = if pods.is_empty() { content } else { pods };
    let mut actions = vec![];
    let conditions = conditions(world, namespace, &content);
    let now = json!(namespace.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default());
    if differs(&json!({"conditions": now}), &json!({"conditions": conditions})) {
        let patch = json!({"status": {"conditions": conditions}});
        actions.push(Action::Patch { id, subresource: "status", patch });
    }
    let standing = content.iter().filter(|m| !m.deleting).take(DELETES_LEN_MAX);
    actions.extend(standing.map(|m| Action::Delete {
        id: m.id.clone(),
        propagation: Propagation::Background,
        grace_seconds: None,
        announce: None,
    }));
    actions
}

fn is_pod(member: &Member) -> bool {
    (member.id.resource.storage, member.id.resource.plural) == ("", "pods")
}

fn conditions(world: &World, namespace: &Namespace, content: &[&Member]) -> Vec<Value> {
    let (mut kinds, mut held) = (BTreeMap::<String, usize>::new(), BTreeMap::<&str, usize>::new());
    for m in content {
        let r = m.id.resource;
        *kinds.entry(format!("{}.{}", r.plural, r.storage)).or_default() += 1;
        for f in &m.finalizers {
            *held.entry(f).or_default() += 1;
        }
    }
    let list = |items: Vec<String>| items.join(", ");
    let remaining = list(kinds.iter().map(|(k, n)| format!("{k} has {n} resource instances")).collect());
    let finalizing = list(held.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect());
    let ok = |kind, reason, message: &str| (kind, "False", reason, message.to_string());
    let all = [
        ok(
            "NamespaceDeletionDiscoveryFailure",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        ok(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        ok(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            format!("Some resources are remaining: {remaining}"),
        ),
        if held.is_empty() {
            ok(
                "NamespaceFinalizersRemaining",
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            )
        } else {
            let message = format!("Some content in the namespace has finalizers remaining: {finalizing}");
            ("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", message)
        },
    ];
    let old = namespace.status.as_ref().and_then(|s| s.conditions.as_ref());
    all.into_iter()
        .map(|(kind, status, reason, message)| {
            let same = old.into_iter().flatten().find(|c| c.type_ == kind && c.status == status);
            let since = same.and_then(|c| c.last_transition_time.as_ref()).map_or(time(world.now), |t| json!(t));
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
        })
        .collect()
}
