//! Evictions: a delete that a disruption budget may refuse.

use crate::bind::set_condition;
use crate::decode::{self, Kind};
use crate::options::MODIFY_TRIES_MAX;
use crate::update::read;
use crate::{Context, DeleteOptions, ListOptions, Registry, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_kube::{Cause, Object, Status, reason, resources};
use stoa_units::{LabelSelector, Operator, Requirement, Time};

const EVICTION: Kind<'static> = ("policy", "v1", "Eviction");
/// The version that was before, which reads the same.
const EVICTION_BEFORE: &str = "policy/v1beta1";
/// When to try again where the budget's controller has not looked at it yet.
const UNSEEN_RETRY_SECONDS: u32 = 10;
/// Pods whose disruption the budget's controller has not seen yet; beyond this it must catch up first.
const DISRUPTED_PODS_LEN_MAX: usize = 2000;
/// An option of deletes that evictions do not know.
const LOST: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

impl Registry {
    /// Answers `POST …/pods/<name>/eviction`. Returns what to warn of.
    pub async fn evict(
        &self,
        ctx: &Context,
        target: Target<'_>,
        mut eviction: Value,
    ) -> Result<Vec<String>, Status> {
        if eviction["apiVersion"] == EVICTION_BEFORE {
            eviction["apiVersion"] = format!("{}/{}", EVICTION.0, EVICTION.1).into();
        }
        let (eviction, warnings) = decode::subresource(ctx, target, EVICTION, eviction)?;
        self.admit_subresource(ctx, target, &eviction)?;
        if eviction["metadata"]["name"] != target.name {
            return Err(Status::bad_request("name in URL does not match name in Eviction object"));
        }
        let options = &eviction["deleteOptions"];
        if options[LOST] == true {
            let why = "can not be set for pod eviction, try after removing the option";
            let causes = vec![Cause::invalid(format!("deleteOptions.{LOST}"), true, why)];
            return Err(Status::invalid(EVICTION.2, EVICTION.0, target.name, causes));
        }
        let dry = is_dry(ctx, options)?;
        // What is wrong with these is told before a budget is spent.
        let delete = &DeleteOptions::parse(options)?;
        let asked = Asked { place: Target { subresource: "", ..target }, options, delete, dry };
        self.evict_pod(ctx, asked).await?;
        Ok(warnings)
    }

    async fn evict_pod(&self, ctx: &Context, asked: Asked<'_>) -> Result<(), Status> {
        let place = asked.place;
        let given = asked.revision();
        let mut last = Status::conflict_modified(place.resource, place.name);
        for _ in 0..MODIFY_TRIES_MAX {
            let entry = self.store().get(&self.key(place.resource, place.namespace, place.name));
            let entry = entry.ok_or_else(|| Status::not_found(place.resource, place.name))?;
            let pod = Object(read(&entry)?);
            let seen = Some(entry.modified.to_string());
            if needs_no_budget(&pod) {
                // What is still to run must not have begun to meanwhile.
                let revision = given.clone().or_else(|| seen.filter(|_| !is_over(&pod)));
                match self.let_go(ctx, asked, revision).await {
                    Err(refused) if refused.is(reason::CONFLICT) && given.is_none() => last = refused,
                    done => return done,
                }
                continue;
            }
            let paid = self.spend_budget(asked.dry, place.namespace, &pod).await?;
            let Paid::Unhealthy(budget) = paid else { return self.let_go(ctx, asked, given).await };
            // What is let go because it is not ready must not have become so meanwhile.
            return match self.let_go(ctx, asked, seen).await {
                Err(refused) if refused.is(reason::CONFLICT) && given.is_none() => Err(unseen(&budget)),
                done => done,
            };
        }
        Err(last)
    }

    /// Tells the pod why it ends, and deletes it.
    async fn let_go(
        &self,
        ctx: &Context,
        asked: Asked<'_>,
        mut revision: Option<String>,
    ) -> Result<(), Status> {
        let place = asked.place;
        if !asked.dry {
            let uid = asked.demand("uid");
            let tell = |pod: &mut Value| {
                let found = pod["metadata"]["uid"].as_str().unwrap_or_default();
                if let Some(uid) = uid.filter(|uid| *uid != found) {
                    return Err(Status::conflict_uid(place.resource, place.name, uid, found));
                }
                let found = pod["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                if let Some(wanted) = revision.as_deref().filter(|r| *r != found) {
                    return Err(Status::conflict_revision(place.resource, place.name, wanted, found));
                }
                tell_why(pod, self.now());
                Ok(())
            };
            let told = self.modify(&Context::system("eviction"), place.sub("status"), tell).await?;
            // It was this write that moved the pod on.
            revision = revision.map(|_| told.revision.to_string());
        }
        let mut options = asked.delete.clone();
        options.dry_run |= asked.dry;
        options.resource_version = revision;
        self.delete(ctx, place, &options).await?;
        Ok(())
    }

    async fn spend_budget(&self, dry: bool, namespace: &str, pod: &Object) -> Result<Paid, Status> {
        let Some(budgets) = resources().find("policy", "v1", "poddisruptionbudgets") else {
            return Ok(Paid::Nothing);
        };
        let all = self.list(budgets, namespace, &ListOptions::all()).await?;
        let labels: BTreeMap<String, String> =
            pod.labels().iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_string()))).collect();
        let mut matching = Vec::new();
        for entry in all.entries {
            let budget = read(&entry)?;
            if selector(&budget["spec"]["selector"]).is_some_and(|s| s.matches(&labels)) {
                matching.push((entry.key.name().to_string(), budget));
            }
        }
        let (name, budget) = match matching.as_slice() {
            [] => return Ok(Paid::Nothing),
            [(name, budget)] => (name, budget),
            _ => {
                return Err(Status::failure(
                    500,
                    "",
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        };
        if !is_ready(pod) && spares_unhealthy(budget) {
            return Ok(Paid::Unhealthy(name.clone()));
        }
        let now = self.now();
        if dry {
            spend(&mut budget.clone(), name, pod.name(), now)?;
            return Ok(Paid::Budget);
        }
        let system = Context::system("eviction");
        let target = Target::new(budgets, namespace, name).sub("status");
        self.modify(&system, target, |budget| spend(budget, name, pod.name(), now)).await?;
        Ok(Paid::Budget)
    }
}

/// An eviction that was read.
#[derive(Clone, Copy)]
struct Asked<'a> {
    place: Target<'a>,
    /// How to delete, as it was sent.
    options: &'a Value,
    /// The same, read.
    delete: &'a DeleteOptions,
    dry: bool,
}

impl<'a> Asked<'a> {
    fn demand(&self, field: &str) -> Option<&'a str> {
        self.options["preconditions"][field].as_str().filter(|text| !text.is_empty())
    }

    fn revision(&self) -> Option<String> {
        self.demand("resourceVersion").map(String::from)
    }
}

/// Whether nothing is to be stored, which the query or the body may ask for.
fn is_dry(ctx: &Context, options: &Value) -> Result<bool, Status> {
    let asked: Vec<&str> =
        options["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if ctx.is_dry_run() && !asked.is_empty() && asked != ["All"] {
        let asked = asked.join(" ");
        let why = format!("Non-matching dry-run options in request and content: [All] and [{asked}]");
        return Err(Status::bad_request(why));
    }
    Ok(ctx.is_dry_run() || !asked.is_empty())
}

/// What an eviction cost.
enum Paid {
    /// No budget means the pod.
    Nothing,
    /// One of the budget's disruptions.
    Budget,
    /// Nothing: the pod is not ready, and such pods this budget lets go.
    Unhealthy(String),
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
        "message": "Eviction API: evicting", "lastProbeTime": null,
        "lastTransitionTime": now.to_rfc3339_seconds()});
    set_condition(&mut pod["status"], condition);
}

/// Whether a pod has ended or is ending.
fn is_over(pod: &Object) -> bool {
    let phase = pod.0["status"]["phase"].as_str().unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed") || pod.deletion_timestamp().is_some()
}

/// A pod that runs nowhere, or has ended, or is ending, costs no budget.
fn needs_no_budget(pod: &Object) -> bool {
    pod.0["status"]["phase"] == "Pending" || is_over(pod)
}

fn spend(budget: &mut Value, name: &str, pod: &str, now: Time) -> Result<(), Status> {
    let generation = budget["metadata"]["generation"].as_i64().unwrap_or(0);
    let status = &mut budget["status"];
    let observed = status["observedGeneration"].as_i64().unwrap_or(0);
    let allowed = status["disruptionsAllowed"].as_i64().unwrap_or(0);
    if observed < generation {
        return Err(unseen(name));
    }
    if allowed < 0 {
        return Err(broken(
            name,
            "pdb disruptions allowed is negative",
            "pdb disruptions allowed is negative",
        ));
    }
    if status["disruptedPods"].as_object().is_some_and(|p| p.len() > DISRUPTED_PODS_LEN_MAX) {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(broken(name, why, "too many pending evictions not confirmed by PDB controller"));
    }
    if allowed == 0 {
        return Err(refused(exhausted(name, status), 0));
    }
    status["disruptionsAllowed"] = (allowed - 1).into();
    if allowed == 1 {
        let condition = json!({"type": "DisruptionAllowed", "status": "False", "reason": "InsufficientPods",
            "message": "", "observedGeneration": observed, "lastTransitionTime": now.to_rfc3339_seconds()});
        set_condition(status, condition);
    }
    if !status["disruptedPods"].is_object() {
        status["disruptedPods"] = json!({});
    }
    status["disruptedPods"][pod] = now.to_rfc3339_seconds().into();
    Ok(())
}

/// Why a budget that is spent lets no pod go. Its counts tell nothing while its controller cannot count.
fn exhausted(name: &str, status: &Value) -> String {
    let count = |f: &str| status[f].as_i64().unwrap_or(0);
    let (healthy, desired) = (count("currentHealthy"), count("desiredHealthy"));
    let conditions = status["conditions"].as_array();
    let told = conditions.into_iter().flatten().find(|c| c["type"] == "DisruptionAllowed");
    let text = |field: &str| told.and_then(|c| c[field].as_str()).unwrap_or_default();
    let (why, message) = (text("reason"), text("message"));
    let is_told = text("status") == "False" && !message.is_empty();
    let not_now = format!("The disruption budget {name} does not allow evicting pods currently");
    match is_told {
        true if why == "SyncFailed" => format!("{not_now} because it failed sync: {message}"),
        _ if healthy <= desired => {
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
        }
        true => format!("{not_now} ({why}): {message}"),
        false => not_now,
    }
}

/// The budget's controller has not seen yet what the budget says.
fn unseen(name: &str) -> Status {
    let why = format!("The disruption budget {name} is still being processed by the server.");
    refused(why, UNSEEN_RETRY_SECONDS)
}

/// The budget is in a state in which it allows nothing, and waiting does not help.
fn broken(name: &str, why: &str, cause: &str) -> Status {
    let mut status = Status::forbidden_named("poddisruptionbudget", "policy", name, why);
    let told = format!("The disruption budget {name} does not allow evicting pods currently: {cause}");
    status.details.get_or_insert_default().causes = vec![Cause::new("DisruptionBudget", "", told)];
    status
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
