//! Reading a pod's spec: which containers play which part, when each may be started again, how long killing takes.
//! Pure.

use k8s_openapi::api::core::v1::{
    Container, ContainerRestartRule, EphemeralContainer, Pod, PodSpec, ResourceRequirements,
};
use std::time::Duration;
use stoa_units::Time;
use stoa_wire::PodRef;

/// The image that stands for the machine's own root file system: Mesos tasks without an image.
pub(crate) const HOST_IMAGE: &str = "stoa.dev/host";
/// What a pod that says nothing gets between the signal to stop and the kill.
const GRACE_SECONDS_DEFAULT: i64 = 30;

/// What a pod names for itself, beside its containers.
pub(crate) fn resources(pod: &Pod) -> ResourceRequirements {
    pod.spec.as_ref().and_then(|s| s.resources.clone()).unwrap_or_default()
}

/// The part that a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Runs to its end before the next one starts.
    Init,
    /// Starts in the same row, then stays beside the main containers.
    Sidecar,
    /// What the pod is for.
    Main,
    /// Came later, to look at the others: never started again, and nothing depends on it.
    Ephemeral,
}

/// Stands in a container's restart policy for an ephemeral container; no API object carries it.
const EPHEMERAL: &str = "Ephemeral";

/// A pod as the API has it, with its ephemeral containers at the end of the row of init containers: from here on every
/// container is found in one way, and told apart by its [`Part`].
pub(crate) fn absorb_ephemeral(mut pod: Pod) -> Pod {
    let Some(spec) = &mut pod.spec else { return pod };
    let ephemeral: Vec<Container> = spec.ephemeral_containers.iter().flatten().map(as_container).collect();
    if !ephemeral.is_empty() {
        spec.init_containers.get_or_insert_default().extend(ephemeral);
    }
    pod
}

/// A pod whose mounts say what becomes of them: read-only with all that is below them *if possible* is yes or no here.
pub(crate) fn settle_mounts(mut pod: Pod, has_firm_mounts: bool) -> Pod {
    let settled = if has_firm_mounts { "Enabled" } else { "Disabled" };
    let Some(spec) = &mut pod.spec else { return pod };
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        for mode in
            container.volume_mounts.iter_mut().flatten().filter_map(|m| m.recursive_read_only.as_mut())
        {
            if mode == "IfPossible" {
                settled.clone_into(mode);
            }
        }
    }
    pod
}

fn as_container(e: &EphemeralContainer) -> Container {
    let e = e.clone();
    Container {
        args: e.args,
        command: e.command,
        env: e.env,
        env_from: e.env_from,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        name: e.name,
        restart_policy: Some(EPHEMERAL.to_owned()),
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        tty: e.tty,
        volume_mounts: e.volume_mounts,
        working_dir: e.working_dir,
        ..Container::default()
    }
}

/// The container whose processes an ephemeral one shall see.
pub(crate) fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let all = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
    let found = all.iter().find(|e| e.name == name)?;
    found.target_container_name.as_deref().filter(|t| !t.is_empty())
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    fn parse(text: Option<&str>) -> Restart {
        match text {
            Some("Never") => Restart::Never,
            Some("OnFailure") => Restart::OnFailure,
            _ => Restart::Always,
        }
    }

    /// Whether an end with this code calls for another start.
    pub(crate) fn wants(self, code: i32) -> bool {
        match self {
            Restart::Always => true,
            Restart::OnFailure => code != 0,
            Restart::Never => false,
        }
    }
}

/// The pod's name, namespace and uid.
pub(crate) fn reference(pod: &Pod) -> PodRef {
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    PodRef {
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        uid: text(&pod.metadata.uid),
    }
}

/// `name_namespace(uid)`, the form in which a kubelet's messages name a pod.
pub(crate) fn long_name(pod: &PodRef) -> String {
    format!("{}_{}({})", pod.name, pod.namespace, pod.uid)
}

pub(crate) fn spec(pod: &Pod) -> Option<&PodSpec> {
    pod.spec.as_ref()
}

/// Every container with its part: the row of init containers first.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = (Part, &Container)> {
    let spec = pod.spec.as_ref();
    let init = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).map(|c| {
        let part = match c.restart_policy.as_deref() {
            Some("Always") => Part::Sidecar,
            Some(EPHEMERAL) => Part::Ephemeral,
            _ => Part::Init,
        };
        (part, c)
    });
    init.chain(spec.into_iter().flat_map(|s| s.containers.iter()).map(|c| (Part::Main, c)))
}

/// A container by its name.
pub(crate) fn find<'a>(pod: &'a Pod, name: &str) -> Option<(Part, &'a Container)> {
    containers(pod).find(|(_, c)| c.name == name)
}

/// The pod's own policy.
pub(crate) fn policy(pod: &Pod) -> Restart {
    Restart::parse(pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()))
}

/// Whether an end with this code calls for another start: by the first of the container's rules that fits, else by its
/// policy.
pub(crate) fn wants_restart(pod: &Pod, part: Part, container: &Container, code: i32) -> bool {
    match part {
        Part::Ephemeral => false,
        // Code 0 of an init container lets the next one start, whatever a rule says.
        Part::Init if code == 0 => false,
        _ => rule_for(container, code).is_some() || policy_of(pod, part, container).wants(code),
    }
}

/// Whether an end with this code sends the whole pod back to its first container.
pub(crate) fn restarts_all(part: Part, container: &Container, code: i32) -> bool {
    match part {
        Part::Ephemeral => false,
        Part::Init if code == 0 => false,
        _ => rule_for(container, code).is_some_and(|rule| rule.action == RESTART_ALL),
    }
}

/// Whether the pod may ever be sent back.
pub(crate) fn may_restart_all(pod: &Pod) -> bool {
    containers(pod).any(|(_, c)| c.restart_policy_rules.iter().flatten().any(|r| r.action == RESTART_ALL))
}

/// What a rule does to the whole pod, where `Restart` is for its own container.
const RESTART_ALL: &str = "RestartAllContainers";

/// The first of the container's rules that fits.
fn rule_for(container: &Container, code: i32) -> Option<&ContainerRestartRule> {
    let fits = |rule: &&ContainerRestartRule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let listed = codes.values.as_ref().is_some_and(|v| v.contains(&code));
        matches!(rule.action.as_str(), "Restart" | RESTART_ALL) && listed == (codes.operator == "In")
    };
    container.restart_policy_rules.iter().flatten().find(fits)
}

/// The policy that holds for one container.
fn policy_of(pod: &Pod, part: Part, container: &Container) -> Restart {
    match (part, policy(pod)) {
        (Part::Sidecar, _) => Restart::Always,
        (Part::Main, own) => container.restart_policy.as_deref().map_or(own, |p| Restart::parse(Some(p))),
        (Part::Init, own) => {
            match container.restart_policy.as_deref().map_or(own, |p| Restart::parse(Some(p))) {
                // An init container that succeeded is never run again.
                Restart::Always => Restart::OnFailure,
                own => own,
            }
        }
        (Part::Ephemeral, _) => Restart::Never,
    }
}

/// How long the pod's containers get to stop: what the deletion says, or the pod.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let meta = &pod.metadata;
    let from_deletion = meta.deletion_timestamp.as_ref().and(meta.deletion_grace_period_seconds);
    let own = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    let seconds = from_deletion.or(own).unwrap_or(GRACE_SECONDS_DEFAULT);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

pub(crate) fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.host_network) == Some(true)
}

/// Whether the API says that the pod has ended for good.
pub(crate) fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// When the pod must have ended, if it says so.
pub(crate) fn deadline(pod: &Pod, started_at: Time) -> Option<Time> {
    let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
    Some(started_at.plus(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_mount_that_is_to_be_firm_if_possible_is_or_is_not() {
        let mount =
            |mode: &str| json!({"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": mode});
        let all = json!([mount("IfPossible"), mount("Enabled"), mount("Disabled")]);
        let container = json!({"name": "c", "volumeMounts": all});
        let pod: Pod = serde_json::from_value(
            json!({"spec": {"containers": [container], "initContainers": [container]}}),
        )
        .unwrap();
        for (has_firm_mounts, settled) in [(true, "Enabled"), (false, "Disabled")] {
            let pod = settle_mounts(pod.clone(), has_firm_mounts);
            for (_, container) in containers(&pod) {
                let modes =
                    container.volume_mounts.iter().flatten().map(|m| m.recursive_read_only.as_deref());
                // What is asked for by all means fails where it cannot be.
                assert!(modes.eq([Some(settled), Some("Enabled"), Some("Disabled")]));
            }
        }
    }
}
