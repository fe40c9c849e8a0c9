//! What a failed pod means for its job, and when enough indexes have succeeded.

use super::indexes::Indexes;
use crate::Pod;
use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyOnPodConditionsPattern,
    SuccessPolicy,
};

/// What a rule says about a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts towards the limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed.
    FailIndex,
    /// The job has failed; why.
    FailJob(String),
}

/// Judges a failed pod. The first rule that matches decides; without one it counts.
pub(super) fn judge(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Verdict {
    for (i, rule) in policy.into_iter().flat_map(|p| p.rules.iter().enumerate()) {
        let why = match (&rule.on_exit_codes, &rule.on_pod_conditions) {
            (Some(codes), _) => exit_code(codes, pod).map(|(container, code)| {
                format!("Container {container} for pod {}/{} failed with exit code {code} matching {} rule at index {i}",
                    pod.id.namespace, pod.id.name, rule.action)
            }),
            (None, Some(patterns)) => condition(patterns, pod).map(|kind| {
                format!("Pod {}/{} has condition {kind} matching {} rule at index {i}",
                    pod.id.namespace, pod.id.name, rule.action)
            }),
            (None, None) => None,
        };
        let Some(why) = why else { continue };
        return match rule.action.as_str() {
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            "FailJob" => Verdict::FailJob(why),
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

fn exit_code<'a>(wanted: &PodFailurePolicyOnExitCodesRequirement, pod: &'a Pod) -> Option<(&'a str, i32)> {
    let named = |c: &str| wanted.container_name.as_deref().is_none_or(|n| n == c);
    let listed = wanted.operator == "In";
    let failed = pod.exits.iter().filter(|e| e.code != 0 && named(&e.container));
    let mut found = failed.filter(|e| wanted.values.contains(&e.code) == listed);
    found.next().map(|e| (e.container.as_str(), e.code))
}

fn condition<'a>(wanted: &'a [PodFailurePolicyOnPodConditionsPattern], pod: &Pod) -> Option<&'a str> {
    let status =
        |p: &PodFailurePolicyOnPodConditionsPattern| p.status.clone().unwrap_or_else(|| "True".into());
    let holds = |p: &&PodFailurePolicyOnPodConditionsPattern| {
        pod.condition(&p.type_).is_some_and(|c| c.status == status(p))
    };
    wanted.iter().find(holds).map(|p| p.type_.as_str())
}

/// The first rule of a success policy that holds, in words.
pub(super) fn succeeded(policy: &SuccessPolicy, done: &Indexes, completions: u32) -> Option<String> {
    let enough = |have: usize, count: Option<i32>, all: usize| {
        have >= count.map_or(all, |c| usize::try_from(c).unwrap_or(0))
    };
    let holds = policy.rules.iter().position(|rule| match &rule.succeeded_indexes {
        Some(text) => {
            let wanted = Indexes::parse(text, completions);
            enough(done.common(&wanted), rule.succeeded_count, wanted.total())
        }
        None => rule.succeeded_count.is_some_and(|c| enough(done.total(), Some(c), 0)),
    });
    holds.map(|i| format!("Matched rules at index {i}"))
}
