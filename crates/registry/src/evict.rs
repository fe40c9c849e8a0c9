//! Evictions: a delete that a disruption budget may refuse.

use crate::update::read;
use crate::{Context, DeleteOptions, ListOptions, Registry, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_kube::{Cause, Object, Status, resources};
use stoa_units::{LabelSelector, Operator, Requirement, Time};

/// When to try again where the budget's controller has not looked at it yet.
const UNSEEN_RETRY_SECONDS: u32 = 10;
/// Pods whose disruption the budget's controller has not seen yet; beyond this it must catch up first.
const DISRUPTED_PODS_LEN_MAX: usize = 2000;

impl Registry {
    /// Answers `POST …/pods/<name>/eviction`.
    pub async fn evict(&self, ctx: &Context, target: Target<'_>, eviction: &Value) -> Result<Status, Status> {
        let mut options = DeleteOptions::parse(&eviction["deleteOptions"])?;
        if eviction["metadata"]["name"].as_str().is_some_and(|n| !n.is_empty() && n != target.name) {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let lost = "ignoreStoreReadErrorWithClusterBreakingPotential";
        if eviction["deleteOptions"][lost] == true {
            let why = "can not be set for pod eviction, try after removing the option";
            let causes = vec![Cause::invalid(format!("deleteOptions.{lost}"), true, why)];
            return Err(Status::invalid("Eviction", "policy", target.name, causes));
        }
        let place = Target { subresource: "", ..target };
        let entry = self.store().get(&self.key(target.resource, target.namespace, target.name));
        let entry = entry.ok_or_else(|| Status::not_found(target.resource, target.name))?;
        let pod = Object(read(&entry)?);
        let dry = ctx.is_dry_run() || options.dry_run;
        let paid = match needs_no_budget(&pod) {
            true => Paid::Nothing,
            false => self.spend_budget(dry, target.namespace, &pod).await?,
        };
        let mut seen = entry.modified;
        if !dry {
            seen = self
                .modify(&Context::system("eviction"), place.sub("status"), |pod| {
                    tell_why(pod, self.now());
                    Ok(())
                })
                .await?
                .revision;
        }
        // What was let go because it was not ready must not have become so meanwhile.
        if paid == Paid::Unhealthy && options.resource_version.is_none() {
            options.resource_version = Some(seen.to_string());
        }
        self.delete(ctx, place, &options).await?;
        Ok(Status::success(201))
    }

    async fn spend_budget(&self, dry: bool, namespace: &str, pod: &Object) -> Result<Paid, Status> {
        let Some(budgets) = resources().find("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Paid::Nothing);
        };
        let all = self.list(budgets, namespace, &ListOptions::all()).await?;
        let labels: BTreeMap<String, String> =
            pod.labels().iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect();
        let mut matching = Vec::new();
        for entry in &all.entries {
            let budget = read(entry)?;
            if selector(&budget["spec"]["selector"]).is_some_and(|s| s.matches(&labels)) {
                matching.push((entry.key.name().to_string(), budget));
            }
        }
        let (name, budget) = match matching.as_slice() {
            [] => return Ok(Paid::Nothing),
            [(name, budget)] => (name, budget),
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if !is_ready(pod) && spares_unhealthy(budget) {
            return Ok(Paid::Unhealthy);
        }
        let now = self.now().to_rfc3339_seconds();
        if dry {
            spend(&mut budget.clone(), name, pod.name(), &now)?;
            return Ok(Paid::Budget);
        }
        let system = Context::system("eviction");
        let target = Target::new(budgets, namespace, name).sub("status");
        self.modify(&system, target, |budget| spend(budget, name, pod.name(), &now)).await?;
        Ok(Paid::Budget)
    }
}

/// What an eviction cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Paid {
    /// No budget means the pod.
    Nothing,
    /// One of the budget's disruptions.
    Budget,
    /// Nothing: the pod is not ready, and such pods the budget lets go.
    Unhealthy,
}

fn is_ready(pod: &Object) -> bool {
    let all = pod.0["status"]["conditions"].as_array();
    all.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// Whether a budget lets pods go that are not ready: always, or while enough others are.
fn spares_unhealthy(budget: &Value) -> bool {
    if budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow" {
        return true;
    }
    let count = |f: &str| budget["status"][f].as_i64().unwrap_or(0);
    let desired = count("desiredHealthy");
    desired > 0 && count("currentHealthy") >= desired
}

/// Writes into a pod's conditions why it ends.
fn tell_why(pod: &mut Value, now: Time) {
    let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastTransitionTime": now.to_rfc3339_seconds(),
        "observedGeneration": pod["metadata"]["generation"]});
    let status = &mut pod["status"];
    if !status["conditions"].is_array() {
        status["conditions"] = json!([]);
    }
    let Some(all) = status["conditions"].as_array_mut() else { return };
    match all.iter_mut().find(|c| c["type"] == "DisruptionTarget") {
        Some(there) if there["status"] == "True" => {}
        Some(there) => *there = condition,
        None => all.push(condition),
    }
}

/// A pod that runs nowhere, or has ended, or is ending, costs no budget.
fn needs_no_budget(pod: &Object) -> bool {
    let phase = pod.0["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || pod.deletion_timestamp().is_some()
}

fn spend(budget: &mut Value, name: &str, pod: &str, now: &str) -> Result<(), Status> {
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    let status = &mut budget["status"];
    let observed = status["observedGeneration"].as_i64().unwrap_or(0);
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    if observed < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(why, UNSEEN_RETRY_SECONDS));
    }
    if status["disruptedPods"].as_object().is_some_and(|p| p.len() > DISRUPTED_PODS_LEN_MAX) {
        let why = format!("The disruption budget {name} has too many disrupted pods.");
        return Err(refused(why, UNSEEN_RETRY_SECONDS));
    }
    if allowed <= 0 {
        let healthy = status["currentHealthy"].as_i64().unwrap_or(0);
        let desired = status["desiredHealthy"].as_i64().unwrap_or(0);
        let why =
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(refused(why, 0));
    }
    status["disruptionsAllowed"] = (allowed - 1).into();
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.into();
    Ok(())
}

fn refused(why: String, retry_seconds: u32) -> Status {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let mut status = Status::too_many_requests(message, retry_seconds);
    status.details.get_or_insert_default().causes = vec![Cause::new("DisruptionBudget", "", why)];
    status
}

/// Reads a structured selector; one that is absent selects nothing.
pub(crate) fn selector(value: &Value) -> Option<LabelSelector> {
    let map = value.as_object()?;
    let mut terms = Vec::new();
    for (k, v) in map.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
        let values = vec![v.as_str()?.to_string()];
        terms.push(Requirement { key: k.clone(), operator: Operator::In, values });
    }
    for e in map.get("matchExpressions").and_then(Value::as_array).into_iter().flatten() {
        let operator = match e["operator"].as_str()? {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        let values = e["values"].as_array().into_iter().flatten();
        let values = values.filter_map(|v| v.as_str().map(String::from)).collect();
        terms.push(Requirement { key: e["key"].as_str()?.to_string(), operator, values });
    }
    Some(LabelSelector(terms))
}
