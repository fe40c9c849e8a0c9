//! HorizontalPodAutoscalers: how many pods a workload should have, by what its pods use.
//!
//! The controllers' world knows nothing of what pods use, nor what was recommended a while ago: both are handed in
//! ([`Look`], [`Memory`]). [`Look::plan`] says what size is wanted and what is to be told, [`Plan::conclude`] what the
//! autoscaler's status says once the outcome of the rescaling is known.

mod limits;
mod replicas;

pub use limits::Memory;

use crate::Level;
use crate::disruption::describe;
use crate::meta::time;
use k8s_openapi::api::autoscaling::v2::{
    HorizontalPodAutoscaler, MetricIdentifier, MetricSpec, MetricTarget, ObjectMetricSource,
};
use replicas::{Count, Tolerance, metered};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_kube::typed::Pod;
use stoa_units::{Quantity, Time};

/// How often an autoscaler is looked at.
pub const SYNC_PERIOD: Duration = Duration::from_secs(15);

const ABLE: &str = "AbleToScale";
const ACTIVE: &str = "ScalingActive";
const LIMITED: &str = "ScalingLimited";

/// What is said where somebody asks for metrics that no API serves.
const NO_CUSTOM: &str = "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";

/// What a pod's containers used.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// The pod's name.
    pub pod: String,
    /// When it was measured.
    pub at: Time,
    /// Of how long it is the mean.
    pub window: Duration,
    /// Of each container, by its name: thousandths of each resource.
    pub containers: Vec<(String, BTreeMap<String, i64>)>,
}

impl Usage {
    /// Reads one of `metrics.k8s.io`.
    pub fn read(pod: &Value) -> Option<Usage> {
        let amounts = |used: &Value| {
            let all = used.as_object()?.iter();
            Some(all.filter_map(|(name, v)| Some((name.clone(), thousandths(v.as_str()?)?))).collect())
        };
        let containers = pod["containers"].as_array()?.iter();
        Some(Usage {
            pod: pod["metadata"]["name"].as_str()?.to_string(),
            at: Time::parse(pod["timestamp"].as_str()?)?,
            window: Duration::from_secs(pod["window"].as_str()?.strip_suffix('s')?.parse().ok()?),
            containers: containers
                .map(|c| Some((c["name"].as_str()?.to_string(), amounts(&c["usage"])?)))
                .collect::<Option<_>>()?,
        })
    }
}

/// The size of a workload.
#[derive(Clone, Debug, PartialEq)]
pub struct Size {
    /// How many pods it should have.
    pub wanted: i32,
    /// How many there are.
    pub found: i32,
    /// Which pods are its own, as text; empty if nobody says.
    pub selector: String,
}

/// What one look at an autoscaler is about.
pub struct Look<'a> {
    /// What time it is.
    pub now: Time,
    /// The autoscaler.
    pub autoscaler: &'a HorizontalPodAutoscaler,
    /// The workload's size, or why that is not known.
    pub size: Result<Size, String>,
    /// The workload's pods, by name.
    pub pods: Vec<Pod>,
    /// What they use, or why that is not known.
    pub usage: Result<Vec<Usage>, String>,
    /// All autoscalers that mean any of the pods, this one among them, as namespace and name.
    pub rivals: Vec<String>,
}

/// What is to be done, and what is to be told of it.
#[derive(Debug)]
pub struct Plan {
    /// The new size, if there is to be one, and why.
    pub rescale: Option<(i32, String)>,
    /// What happened, in order.
    pub events: Vec<(Level, &'static str, String)>,
    draft: Draft,
}

#[derive(Debug, Default)]
struct Draft {
    conditions: Vec<Value>,
    /// What the status says of sizes and metrics; nothing where it stays as it was.
    sizes: Option<(i32, i32)>,
    metrics: Value,
}

/// What went wrong with one metric: as an event and a condition have it, and as the sum of all has it.
struct Failure {
    reason: &'static str,
    message: String,
    told: String,
}

/// Why no metric is asked for: in the condition, and in the event.
struct Misdirected {
    condition: &'static str,
    message: String,
    event: &'static str,
    told: String,
}

/// What one metric comes to.
struct Proposal {
    replicas: i32,
    name: String,
    status: Value,
}

impl Draft {
    fn set(&mut self, now: Time, kind: &str, status: &str, reason: &str, message: &str) {
        let at = match self.conditions.iter().position(|c| c["type"] == kind) {
            Some(at) => at,
            None => {
                self.conditions.push(json!({ "type": kind }));
                self.conditions.len() - 1
            }
        };
        let condition = &mut self.conditions[at];
        if condition["status"] != status {
            condition["lastTransitionTime"] = time(now);
        }
        condition["status"] = status.into();
        condition["reason"] = reason.into();
        condition["message"] = message.into();
    }
}

impl Look<'_> {
    /// Decides. What is recommended now is remembered.
    pub fn plan(&self, memory: &mut Memory) -> Plan {
        let spec = &self.autoscaler.spec;
        let mut plan = Plan { rescale: None, events: Vec::new(), draft: Draft::default() };
        let old = self.autoscaler.status.as_ref();
        plan.draft.conditions =
            old.and_then(|s| s.conditions.as_ref()).into_iter().flatten().map(|c| json!(c)).collect();
        let size = match &self.size {
            Ok(size) => size,
            Err(why) => {
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {why}");
                plan.draft.set(self.now, ABLE, "False", "FailedGetScale", &message);
                plan.events.push((Level::Warning, "FailedGetScale", why.clone()));
                return plan;
            }
        };
        let able = "the HPA controller was able to get the target's current scale";
        plan.draft.set(self.now, ABLE, "True", "SucceededGetScale", able);
        memory.begin(size.wanted, self.now);
        let (least, most) = (spec.min_replicas.unwrap_or(1), spec.max_replicas);
        let current = size.wanted;
        let mut desired = current;
        let mut reason = String::new();
        if current == 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            plan.draft.set(self.now, ACTIVE, "False", "ScalingDisabled", message);
        } else if current > most {
            (desired, reason) = (most, "Current number of replicas above Spec.MaxReplicas".into());
        } else if current < least {
            (desired, reason) = (least, "Current number of replicas below Spec.MinReplicas".into());
        } else {
            let Some((proposed, metric)) = self.by_metrics(size, &mut plan) else {
                let desired = old.map_or(0, |s| s.desired_replicas);
                plan.draft.sizes = Some((current, desired));
                return plan;
            };
            reason = match proposed.cmp(&current) {
                std::cmp::Ordering::Greater => format!("{metric} above target"),
                std::cmp::Ordering::Less => "All metrics below target".into(),
                std::cmp::Ordering::Equal => String::new(),
            };
            desired = self.normalize(memory, &mut plan.draft, current, proposed.max(0));
        }
        plan.draft.sizes = Some((current, desired));
        plan.rescale = (desired != current).then_some((desired, reason));
        plan
    }

    /// Within the limits that the autoscaler sets, and at the pace that it allows.
    fn normalize(&self, memory: &mut Memory, draft: &mut Draft, current: i32, proposed: i32) -> i32 {
        let spec = &self.autoscaler.spec;
        let bounds = limits::Bounds {
            least: spec.min_replicas.unwrap_or(1),
            most: spec.max_replicas,
            current,
            now: self.now,
        };
        let limited = match &spec.behavior {
            None => bounds.by_rules(memory, proposed),
            Some(behavior) => bounds.by_behavior(memory, behavior, proposed),
        };
        match limited.stabilized {
            Some((reason, message)) => draft.set(self.now, ABLE, "True", reason, message),
            None => {
                draft.set(self.now, ABLE, "True", "ReadyForNewScale", "recommended size matches current size")
            }
        }
        let status = if limited.cut { "True" } else { "False" };
        draft.set(self.now, LIMITED, status, limited.reason.0, limited.reason.1);
        limited.replicas
    }

    /// The size that the most demanding metric asks for, and which that is; nothing if none can be trusted.
    fn by_metrics(&self, size: &Size, plan: &mut Plan) -> Option<(i32, String)> {
        let now = self.now;
        plan.draft.metrics = Value::Null;
        if let Some(wrong) = self.misdirected(size) {
            plan.draft.set(now, ACTIVE, "False", wrong.condition, &wrong.message);
            plan.events.push((Level::Warning, wrong.event, wrong.told.clone()));
            plan.events.push((Level::Warning, "FailedComputeMetricsReplicas", wrong.told));
            return None;
        }
        let specs = self.autoscaler.spec.metrics.as_deref().unwrap_or_default();
        let mut statuses = Vec::new();
        let mut best: Option<(i32, String)> = None;
        let mut failures = Vec::new();
        for spec in specs {
            match self.by_metric(spec, size) {
                Ok(proposal) => {
                    statuses.push(proposal.status);
                    if best.as_ref().is_none_or(|(most, _)| *most == 0 || proposal.replicas > *most) {
                        best = Some((proposal.replicas, proposal.name));
                    }
                }
                Err(failure) => {
                    plan.events.push((Level::Warning, failure.reason, failure.message.clone()));
                    failures.push(failure);
                    statuses.push(json!({"type": ""}));
                }
            }
        }
        plan.draft.metrics = statuses.into();
        let proposed = best.as_ref().map_or(0, |(n, _)| *n);
        if let Some(first) = failures.first()
            && (failures.len() >= specs.len() || proposed < size.wanted)
        {
            let message = format!("the HPA was unable to compute the replica count: {}", first.message);
            plan.draft.set(now, ACTIVE, "False", first.reason, &message);
            let sum = format!(
                "invalid metrics ({} invalid out of {}), first error is: {}",
                failures.len(),
                specs.len(),
                first.told
            );
            plan.events.push((Level::Warning, "FailedComputeMetricsReplicas", sum));
            return None;
        }
        let (_, metric) = best.clone()?;
        let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
        plan.draft.set(now, ACTIVE, "True", "ValidMetricFound", &message);
        best
    }

    /// Whose pods these are is in doubt.
    fn misdirected(&self, size: &Size) -> Option<Misdirected> {
        if size.selector.is_empty() {
            return Some(Misdirected {
                condition: "InvalidSelector",
                message: "the HPA target's scale is missing a selector".into(),
                event: "SelectorRequired",
                told: "selector is required".into(),
            });
        }
        (self.rivals.len() > 1).then(|| {
            let all = self.rivals.join(" ");
            let message =
                format!("pods by selector {} are controlled by multiple HPAs: [{all}]", size.selector);
            let reason = "AmbiguousSelector";
            Misdirected { condition: reason, message: message.clone(), event: reason, told: message }
        })
    }

    fn by_metric(&self, spec: &MetricSpec, size: &Size) -> Result<Proposal, Failure> {
        match spec.type_.as_str() {
            "Resource" => {
                let Some(source) = &spec.resource else { return Err(unknown(spec)) };
                let told = format!("failed to get {} resource metric value", source.name);
                let status = |current: Value| json!({"type": "Resource", "resource": {"name": source.name, "current": current}});
                self.by_resource(&source.name, "", &source.target, size, status)
                    .map_err(|why| failure("FailedGetResourceMetric", &told, why))
            }
            "ContainerResource" => {
                let Some(source) = &spec.container_resource else { return Err(unknown(spec)) };
                let told = format!("failed to get {} container metric value", source.container);
                let status = |current: Value| {
                    json!({"type": "ContainerResource", "containerResource": {"name": source.name,
                        "container": source.container, "current": current}})
                };
                self.by_resource(&source.name, &source.container, &source.target, size, status)
                    .map_err(|why| failure("FailedGetContainerResourceMetric", &told, why))
            }
            "Pods" => {
                let Some(source) = &spec.pods else { return Err(unknown(spec)) };
                let why = format!("unable to get metric {}: {NO_CUSTOM}", source.metric.name);
                Err(failure("FailedGetPodsMetric", "failed to get pods metric value", why))
            }
            "Object" => {
                let Some(source) = &spec.object else { return Err(unknown(spec)) };
                Err(self.by_object(source))
            }
            "External" => {
                let Some(source) = &spec.external else { return Err(unknown(spec)) };
                Err(self.by_external(&source.metric, &source.target))
            }
            _ => Err(unknown(spec)),
        }
    }

    fn by_object(&self, source: &ObjectMetricSource) -> Failure {
        let (object, metric) = (&source.described_object, &source.metric.name);
        // The words stand in the order in which the stock controller has them.
        let why = format!(
            "unable to get metric {metric}: {} on {} {}/{NO_CUSTOM}",
            object.kind,
            self.namespace(),
            object.name
        );
        let mut told = "failed to get object metric value".to_string();
        if source.target.type_ == "AverageValue" {
            told = format!("{told}: failed to get {metric} object metric");
        }
        failure("FailedGetObjectMetric", &told, why)
    }

    fn by_external(&self, metric: &MetricIdentifier, target: &MetricTarget) -> Failure {
        let (ns, name) = (self.namespace(), &metric.name);
        let selector = metric.selector.as_ref().map_or_else(|| "nil".to_string(), describe);
        let why = format!(
            "unable to get external metric {ns}/{name}/{selector}: unable to fetch metrics from external metrics API: the server could not find the requested resource (get {name}.external.metrics.k8s.io)"
        );
        let inner = match target.average_value {
            Some(_) => format!("failed to get {name} external metric"),
            None => format!("failed to get external metric {name}"),
        };
        failure(
            "FailedGetExternalMetric",
            &format!("failed to get {name} external metric value: {inner}"),
            why,
        )
    }

    fn namespace(&self) -> &str {
        self.autoscaler.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn by_resource(
        &self,
        resource: &str,
        container: &str,
        target: &MetricTarget,
        size: &Size,
        status: impl Fn(Value) -> Value,
    ) -> Result<Proposal, String> {
        let what = if target.average_value.is_some() { "usage" } else { "utilization" };
        let failed = |why: String| format!("failed to get {resource} {what}: {why}");
        let metered = metered(&self.usage, resource, container);
        let metered =
            metered.map_err(|why| failed(format!("unable to get metrics for resource {resource}: {why}")))?;
        let count = Count {
            now: self.now,
            pods: &self.pods,
            resource,
            container,
            current: size.wanted,
            tolerance: self.tolerance(),
        };
        if let Some(average) = &target.average_value {
            let (replicas, used) = count.by_value(metered, milli(average)).map_err(failed)?;
            let status = status(json!({"averageValue": quantity(resource, used)}));
            return Ok(Proposal { replicas, name: format!("{resource} resource"), status });
        }
        let Some(utilization) = target.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".into());
        };
        let (replicas, percent, used) = count.by_utilization(metered, utilization).map_err(failed)?;
        let of = if container.is_empty() { "" } else { " container" };
        Ok(Proposal {
            replicas,
            name: format!("{resource}{of} resource utilization (percentage of request)"),
            status: status(json!({"averageUtilization": percent, "averageValue": quantity(resource, used)})),
        })
    }

    fn tolerance(&self) -> Tolerance {
        let behavior = self.autoscaler.spec.behavior.as_ref();
        let of = |rules: Option<&k8s_openapi::api::autoscaling::v2::HPAScalingRules>| {
            let text = &rules?.tolerance.as_ref()?.0;
            Some(Quantity::parse(text).ok()?.nano() as f64 / 1e9)
        };
        Tolerance {
            up: of(behavior.and_then(|b| b.scale_up.as_ref())).unwrap_or(Tolerance::DEFAULT),
            down: of(behavior.and_then(|b| b.scale_down.as_ref())).unwrap_or(Tolerance::DEFAULT),
        }
    }
}

fn failure(reason: &'static str, told: &str, message: String) -> Failure {
    Failure { reason, told: format!("{told}: {message}"), message }
}

fn unknown(spec: &MetricSpec) -> Failure {
    let message = format!("unknown metric source type {:?}", spec.type_);
    Failure { reason: "InvalidMetricSourceType", told: message.clone(), message }
}

fn milli(quantity: &stoa_kube::typed::Quantity) -> i64 {
    thousandths(&quantity.0).unwrap_or(0)
}

fn thousandths(text: &str) -> Option<i64> {
    Some(i64::try_from(Quantity::parse(text).ok()?.milli_ceil()).unwrap_or(i64::MAX))
}

/// An amount as its kind is written: memory in powers of two.
fn quantity(resource: &str, milli: i64) -> String {
    if resource == "memory" && milli >= 1_024_000 {
        return Quantity::from_bytes(u64::try_from(milli).unwrap_or(0).div_ceil(1_000)).to_string();
    }
    Quantity::from_milli(milli).to_string()
}

impl Plan {
    /// The status that the autoscaler has now, given what it was; remembers that the workload was rescaled.
    pub fn conclude(
        mut self,
        look: &Look<'_>,
        memory: &mut Memory,
        old: &Value,
        outcome: Result<(), String>,
    ) -> (Value, Vec<(Level, &'static str, String)>) {
        let mut status = old.as_object().cloned().unwrap_or_default();
        let rescaled = self.rescale.take();
        if let Some((new, reason)) = &rescaled {
            let current = self.draft.sizes.map_or(0, |(current, _)| current);
            match &outcome {
                Ok(()) => {
                    let message = format!("the HPA controller was able to update the target scale to {new}");
                    self.draft.set(look.now, ABLE, "True", "SucceededRescale", &message);
                    let told = format!("New size: {new}; reason: {reason}");
                    self.events.push((Level::Normal, "SuccessfulRescale", told));
                    if let Some(behavior) = &look.autoscaler.spec.behavior {
                        memory.rescaled(behavior, current, *new, look.now);
                    }
                    status.insert("lastScaleTime".into(), time(look.now));
                }
                Err(why) => {
                    let message = format!("the HPA controller was unable to update the target scale: {why}");
                    self.draft.set(look.now, ABLE, "False", "FailedUpdateScale", &message);
                    let told = format!("New size: {new}; reason: {reason}; error: {why}");
                    self.events.push((Level::Warning, "FailedRescale", told));
                    let before = look.autoscaler.status.as_ref().map_or(0, |s| s.desired_replicas);
                    self.draft.sizes = Some((current, before));
                }
            }
        }
        if let Some((current, desired)) = self.draft.sizes {
            set_size(&mut status, current);
            status.insert("desiredReplicas".into(), desired.into());
            status.insert("currentMetrics".into(), self.draft.metrics);
            status.remove("observedGeneration");
        }
        status.insert("conditions".into(), self.draft.conditions.into());
        (status.into(), self.events)
    }
}

/// Zero is left out, as Go leaves it out.
fn set_size(status: &mut Map<String, Value>, current: i32) {
    match current {
        0 => drop(status.remove("currentReplicas")),
        _ => drop(status.insert("currentReplicas".into(), current.into())),
    }
}

#[cfg(test)]
mod tests;
