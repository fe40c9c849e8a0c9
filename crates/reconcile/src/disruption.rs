//! PodDisruptionBudgets: how many of the pods that a budget means may be evicted now.

use crate::deployment::differs;
use crate::meta::{controller, id, resource, selector, time};
use crate::{Action, Controller, Key, Level, Member, Pod, World};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::typed::IntOrString;
use stoa_units::{LabelSelector, Time};

/// An eviction that was allowed but has deleted no pod for so long is taken to have come to nothing.
const EVICTION_AGE_MAX: Duration = Duration::from_secs(120);

/// Which pods a budget means: none without a selector, all of the namespace with an empty one.
pub fn selector_of(budget: &PodDisruptionBudget) -> Option<LabelSelector> {
    let wanted = budget.spec.as_ref()?.selector.as_ref()?;
    let bare = wanted.match_labels.iter().flatten().next().is_none()
        && wanted.match_expressions.iter().flatten().next().is_none();
    if bare { Some(LabelSelector::default()) } else { selector(wanted) }
}

/// Looks at one budget.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(budget) = world.budgets.get(&key.namespace, &key.name) else { return Vec::new() };
    let pods: Vec<&Arc<Pod>> = match selector_of(budget) {
        Some(s) => world.pods_matching(&key.namespace, &s).collect(),
        None => Vec::new(),
    };
    let (expected, desired) = match counts(world, budget, &pods) {
        Ok(counts) => counts,
        Err(why) => return allow_nothing(world, budget, &why),
    };
    let (disrupted, again) = disrupted(world, budget, &pods);
    let healthy = pods.iter().filter(|p| p.is_ready() && !p.deleting && !disrupted.contains_key(&*p.id.name));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let allowed = if expected == 0 { 0 } else { (healthy - desired).max(0) };
    let old = json!(budget.status);
    let mut status = json!({
        "observedGeneration": budget.metadata.generation,
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "conditions": conditions(world.now, budget, verdict(allowed), ""),
        "disruptedPods": disrupted,
    });
    // A merge would keep the pods that are to be forgotten.
    for gone in old["disruptedPods"].as_object().into_iter().flatten().map(|(k, _)| k) {
        if !disrupted.contains_key(gone) {
            status["disruptedPods"][gone] = Value::Null;
        }
    }
    let mut actions: Vec<Action> = again.map(|at| Action::Again { at }).into_iter().collect();
    let mut compared = status.clone();
    compared["disruptedPods"] = if disrupted.is_empty() { Value::Null } else { json!(disrupted) };
    let empty = old["disruptedPods"].as_object().is_some_and(Map::is_empty);
    let mut before = old;
    if empty {
        before["disruptedPods"] = Value::Null;
    }
    if differs(&before, &compared) {
        let id = id(resource("policy", "poddisruptionbudgets"), &budget.metadata);
        actions.push(Action::Patch {
            id: id.clone(),
            subresource: "status",
            patch: json!({"status": status}),
        });
        actions.extend(pods.iter().filter_map(|p| ambiguity(world, key, p)));
        actions.extend(remarks(budget, &pods).into_iter().map(|(level, reason, message)| Action::Event {
            about: id.clone(),
            level,
            reason,
            message,
        }));
    }
    actions
}

/// A pod that several budgets mean is evicted under none. The first of them says so, when its own numbers move.
fn ambiguity(world: &World, key: &Key, pod: &Pod) -> Option<Action> {
    let all = world.selecting.matching(&key.namespace, &pod.labels);
    let mut budgets: Vec<&Key> = all.iter().filter(|k| k.controller == Controller::Disruption).collect();
    budgets.sort();
    if budgets.len() < 2 || budgets[0] != key {
        return None;
    }
    let message = format!(
        "Pod {:?}/{:?} matches multiple PodDisruptionBudgets.  Chose {:?} arbitrarily.",
        pod.id.namespace, pod.id.name, key.name
    );
    let reason = "MultiplePodDisruptionBudgets";
    Some(Action::Event { about: pod.id.clone(), level: Level::Warning, reason, message })
}

/// What people should know who wonder about a budget's numbers.
fn remarks(budget: &PodDisruptionBudget, pods: &[&Arc<Pod>]) -> Option<(Level, &'static str, String)> {
    let spec = budget.spec.as_ref()?;
    if pods.is_empty() {
        return Some((Level::Normal, "NoPods", "No matching pods found".into()));
    }
    let by_scale =
        spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)));
    if !by_scale || pods.iter().all(|p| p.controller.is_some()) {
        return None;
    }
    let selector = spec.selector.as_ref().map_or_else(|| "nil".to_string(), describe);
    let message = format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    );
    Some((Level::Warning, "UnmanagedPods", message))
}

/// A selector as the stock controller's messages show it.
pub(crate) fn describe(selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(k, v)| format!("{k}: {v},"));
    let expressions = selector.match_expressions.iter().flatten().map(|e| {
        let values = e.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", e.key, e.operator)
    });
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{}}},MatchExpressions:[]LabelSelectorRequirement{{{}}},}}",
        labels.collect::<String>(),
        expressions.collect::<String>()
    )
}

/// Where it is not known how many pods there should be, none may be evicted.
fn allow_nothing(world: &World, budget: &PodDisruptionBudget, why: &str) -> Vec<Action> {
    let failed = ("False", "SyncFailed");
    let status = json!({"disruptionsAllowed": 0, "conditions": conditions(world.now, budget, failed, why)});
    let old = json!(budget.status);
    if old["disruptionsAllowed"] == 0 && old["conditions"] == status["conditions"] {
        return Vec::new();
    }
    let id = id(resource("policy", "poddisruptionbudgets"), &budget.metadata);
    let about = id.clone();
    let message = format!("Failed to calculate the number of expected pods: {why}");
    let reason = "CalculateExpectedPodCountFailed";
    vec![
        Action::Patch { id, subresource: "status", patch: json!({"status": status}) },
        Action::Event { about, level: Level::Warning, reason, message },
    ]
}

/// How many pods there should be, and how many of them healthy.
fn counts(world: &World, budget: &PodDisruptionBudget, pods: &[&Arc<Pod>]) -> Result<(i32, i32), String> {
    let spec = budget.spec.clone().unwrap_or_default();
    let now = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    Ok(match (spec.max_unavailable, spec.min_available) {
        (Some(most), _) => {
            let expected = scale(world, pods)?;
            (expected, (expected - portion(&most, expected)).max(0))
        }
        (None, Some(IntOrString::Int(least))) => (now, least),
        (None, Some(least)) => {
            let expected = scale(world, pods)?;
            (expected, portion(&least, expected))
        }
        // One that says nothing allows nothing.
        (None, None) => (0, 0),
    })
}

fn portion(value: &IntOrString, total: i32) -> i32 {
    match value {
        IntOrString::Int(n) => *n,
        IntOrString::String(s) => {
            let percent = s.strip_suffix('%').and_then(|p| p.parse::<i64>().ok()).unwrap_or(0);
            i32::try_from((percent.saturating_mul(total.into()) + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

/// The pods that the controllers of these pods want in all. Pods of nobody count for nothing; one whose controller has no
/// scale, or is gone, leaves the number unknown.
fn scale(world: &World, pods: &[&Arc<Pod>]) -> Result<i32, String> {
    let (mut asked, mut counted) = (BTreeSet::new(), BTreeSet::new());
    let mut total = 0i32;
    for pod in pods {
        let Some(owner) = pod.controller.as_ref().filter(|o| asked.insert(o.uid.as_str())) else { continue };
        let member = world.graph.get(&owner.uid);
        let member = member.ok_or_else(|| format!("found no controllers for pod {:?}", pod.id.name))?;
        let (uid, replicas) = scale_of(world, member)?;
        if counted.insert(uid) {
            total = total.saturating_add(replicas);
        }
    }
    Ok(total)
}

/// Who decides how many pods there are, and how many.
fn scale_of(world: &World, member: &Member) -> Result<(Arc<str>, i32), String> {
    let (ns, name) = (&*member.id.namespace, &*member.id.name);
    let replicas = match member.id.resource.plural {
        "replicasets" => world.replica_sets.get(ns, name).map(|set| {
            let above = controller(&set.metadata).and_then(|o| world.graph.get(&o.uid));
            let deployment =
                above.and_then(|d| world.deployments.get(&d.id.namespace, &d.id.name).map(|x| (d, x)));
            match deployment {
                Some((id, d)) => (id.id.uid.clone(), d.spec.as_ref().and_then(|s| s.replicas)),
                None => (member.id.uid.clone(), set.spec.as_ref().and_then(|s| s.replicas)),
            }
        }),
        "statefulsets" => {
            let set = world.stateful_sets.get(ns, name);
            set.map(|s| (member.id.uid.clone(), s.spec.as_ref().and_then(|s| s.replicas)))
        }
        "replicationcontrollers" => {
            let set = world.replication_controllers.get(ns, name);
            set.map(|s| (member.id.uid.clone(), s.spec.as_ref().and_then(|s| s.replicas)))
        }
        _ => None,
    };
    match replicas {
        Some((uid, replicas)) => Ok((uid, replicas.unwrap_or(1))),
        None => Err(format!("{} does not implement the scale subresource", member.id.resource.qualified())),
    }
}

/// Pods whose eviction was allowed and is not seen yet, and when the first of them is forgotten.
fn disrupted(
    world: &World,
    budget: &PodDisruptionBudget,
    pods: &[&Arc<Pod>],
) -> (Map<String, Value>, Option<Time>) {
    let old = budget.status.as_ref().and_then(|s| s.disrupted_pods.clone()).unwrap_or_default();
    let (mut kept, mut next) = (Map::new(), None::<Time>);
    for pod in pods.iter().filter(|p| !p.deleting) {
        let Some(since) = old.get(&*pod.id.name).map(|t| Time(t.0)) else { continue };
        let until = since.plus(EVICTION_AGE_MAX);
        if until > world.now {
            kept.insert(pod.id.name.to_string(), time(since));
            next = Some(next.map_or(until, |n| n.min(until)));
        }
    }
    (kept, next)
}

fn verdict(allowed: i32) -> (&'static str, &'static str) {
    if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") }
}

fn conditions(now: Time, budget: &PodDisruptionBudget, verdict: (&str, &str), message: &str) -> Value {
    let old = budget.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let (status, reason) = verdict;
    let same = old.iter().find(|c| c.type_ == "DisruptionAllowed" && c.status == status);
    let since = same.map_or(now, |c| Time(c.last_transition_time.0));
    let mut all: Vec<Value> =
        old.iter().filter(|c| c.type_ != "DisruptionAllowed").map(|c| json!(c)).collect();
    all.push(json!({"type": "DisruptionAllowed", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": time(since), "observedGeneration": budget.metadata.generation}));
    all.into()
}

#[cfg(test)]
mod tests;
