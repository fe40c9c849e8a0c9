//! Resource quotas: what a namespace's objects use, and whether one more fits.
//!
//! Usage comes from the objects themselves rather than from a quota's status, so that it is never stale; the status
//! is for people, and [`usage`] computes it. Who keeps it as objects come and go need not count them every time.

mod evaluate;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use stoa_kube::Status;
use stoa_units::Quantity;

use super::limits::amounts;
use crate::value::{at, items, text, texts};
use crate::{Request, World};
pub(super) use evaluate::pod_resources;
use evaluate::{cost, counted_kinds, missing_requests};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// What a quota's namespace uses of each resource that the quota limits: the quota's `status.used`.
pub fn usage(quota: &Value, world: &dyn World) -> Amounts {
    if let Some(kept) = world.kept_usage(quota) {
        return kept;
    }
    let namespace = text(at(quota, "metadata"), "namespace");
    let mut used = nothing(quota);
    for (group, plural) in counted(quota) {
        for object in world.list(&group, &plural, namespace) {
            charge(quota, &group, &plural, &object, &mut used);
        }
    }
    used
}

/// What nobody uses, of each resource that the quota limits.
pub fn nothing(quota: &Value) -> Amounts {
    let hard = amounts(at(quota, "spec"), "hard");
    hard.into_keys().map(|name| (name, Quantity::from_value(0))).collect()
}

/// The kinds of which objects count, by group and plural.
pub fn counted(quota: &Value) -> BTreeSet<(String, String)> {
    counted_kinds(amounts(at(quota, "spec"), "hard").keys().map(String::as_str))
}

/// Adds what an object costs, if the quota counts it.
pub fn charge(quota: &Value, group: &str, plural: &str, object: &Value, used: &mut Amounts) {
    if in_scope(quota, plural, object) {
        change(used, &cost(group, plural, object), Quantity::plus);
    }
}

/// Takes off what an object has cost.
pub fn discharge(quota: &Value, group: &str, plural: &str, object: &Value, used: &mut Amounts) {
    if in_scope(quota, plural, object) {
        change(used, &cost(group, plural, object), Quantity::minus);
    }
}

fn change(total: &mut Amounts, by: &Amounts, how: impl Fn(&Quantity, &Quantity) -> Quantity) {
    for (name, sum) in total.iter_mut() {
        if let Some(amount) = by.get(name) {
            *sum = how(sum, amount);
        }
    }
}

pub(super) fn check(
    request: &Request<'_>,
    object: &Value,
    old: Option<&Value>,
    world: &dyn World,
) -> Result<(), Status> {
    if request.namespace.is_empty() {
        return Ok(());
    }
    let (group, plural) = (request.resource.group, request.resource.plural);
    for quota in world.list("", "resourcequotas", request.namespace) {
        let hard = amounts(at(&quota, "spec"), "hard");
        if !in_scope(&quota, plural, object) {
            continue;
        }
        let name = text(at(&quota, "metadata"), "name");
        let refuse = |why: String| Err(Status::forbidden(request.resource, request.name, &why));
        if plural == "pods"
            && group.is_empty()
            && old.is_none()
            && let Some(missing) = missing_requests(object, &hard)
        {
            return refuse(format!("failed quota: {name}: must specify {missing}"));
        }
        let before = old.map(|o| cost(group, plural, o)).unwrap_or_default();
        let mut delta: Amounts = cost(group, plural, object);
        delta.retain(|resource, amount| {
            if let Some(was) = before.get(resource) {
                *amount = amount.minus(was);
            }
            hard.contains_key(resource) && !amount.is_zero() && !amount.is_negative()
        });
        if delta.is_empty() {
            continue;
        }
        let used = usage(&quota, world);
        let over: Vec<&String> = delta
            .iter()
            .filter(|(resource, amount)| {
                let now = used.get(*resource).map_or(**amount, |u| u.plus(amount));
                hard.get(*resource).is_some_and(|h| now.nano() > h.nano())
            })
            .map(|(resource, _)| resource)
            .collect();
        if !over.is_empty() {
            let show = |amounts: &Amounts| {
                let shown: Vec<String> = over
                    .iter()
                    .filter_map(|r| amounts.get(*r).map(|amount| format!("{r}={amount}")))
                    .collect();
                shown.join(",")
            };
            return refuse(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                show(&delta),
                show(&used),
                show(&hard)
            ));
        }
    }
    Ok(())
}

/// Whether a quota counts this object. Scopes speak of pods, and one of them of claims.
fn in_scope(quota: &Value, plural: &str, object: &Value) -> bool {
    let spec = at(quota, "spec");
    let mut scopes: Vec<(String, String, Vec<String>)> =
        texts(spec, "scopes").map(|s| (s.to_owned(), "Exists".to_owned(), Vec::new())).collect();
    for e in items(at(spec, "scopeSelector"), "matchExpressions") {
        let values = texts(e, "values").map(str::to_owned).collect();
        scopes.push((text(e, "scopeName").to_owned(), text(e, "operator").to_owned(), values));
    }
    if scopes.is_empty() {
        return true;
    }
    let matches: fn(&str, &str, &[String], &Value) -> bool = match plural {
        "pods" => matches_scope,
        "persistentvolumeclaims" => claim_matches_scope,
        _ => return false,
    };
    scopes.iter().all(|(scope, operator, values)| matches(scope, operator, values, object))
}

/// Whether a claim's volume attributes are of a class that the scope is about: the one asked for, the one it has or the one it is on
/// its way to.
fn claim_matches_scope(scope: &str, operator: &str, values: &[String], claim: &Value) -> bool {
    let status = at(claim, "status");
    let names = [
        text(at(claim, "spec"), "volumeAttributesClassName"),
        text(status, "currentVolumeAttributesClassName"),
        text(at(status, "modifyVolumeStatus"), "targetVolumeAttributesClassName"),
    ];
    let mut names = names.into_iter().filter(|n| !n.is_empty()).peekable();
    let listed = |n: &str| values.iter().any(|v| v == n);
    match (scope, operator) {
        ("VolumeAttributesClass", "DoesNotExist") => names.peek().is_none(),
        ("VolumeAttributesClass", "In") => names.any(listed),
        ("VolumeAttributesClass", "NotIn") => names.peek().is_none() || names.any(|n| !listed(n)),
        ("VolumeAttributesClass", _) => names.peek().is_some(),
        _ => false,
    }
}

fn matches_scope(scope: &str, operator: &str, values: &[String], pod: &Value) -> bool {
    let spec = at(pod, "spec");
    let terminating = at(spec, "activeDeadlineSeconds").as_i64().is_some();
    let best_effort = || crate::default::qos_class(spec) == "BestEffort";
    match scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "CrossNamespacePodAffinity" => evaluate::crosses_namespaces(spec),
        "PriorityClass" => {
            let class = text(spec, "priorityClassName");
            let listed = values.iter().any(|v| v == class);
            match operator {
                "In" => listed,
                "NotIn" => !listed,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
