//! A pod's status as a kubelet writes it, computed from the spec and what is seen. Pure. Only the conditions that an
//! agent owns are in it; the leader's end merges them with those of others.

use crate::limits::{self, Side};
use crate::observed::{Doom, Ended, Life, Observed, Sandbox, Seen};
use crate::plan;
use crate::pod::{self, Part};
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, HostIP, ImageVolumeStatus, LinuxContainerUser, Pod, PodCondition, PodIP,
    PodStatus, ResourceRequirements, VolumeMount, VolumeMountStatus, VolumeStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time as MetaTime;
use std::collections::BTreeSet;
use std::time::Duration;
use stoa_units::Time;

/// Why a container ended whose command could not be run.
pub(crate) const START_ERROR: &str = "StartError";
/// Why a container waits, and how its last life ended, whose pod was sent back to its beginning.
pub(crate) const RESTARTING_ALL: &str = "RestartingAllContainers";
/// See [`RESTARTING_ALL`].
pub(crate) const RESTARTING_ALL_WORDS: &str =
    "The container is removed because RestartAllContainers in place";
/// Bytes of last words that all containers of a pod have together in its status; each has an equal part.
const LAST_WORDS_LEN_MAX: usize = 12 * 1024;

/// The status of a pod. `before` is what was last said, so that times of transitions stay.
pub(crate) fn compute(
    pod: &Pod,
    observed: &Observed,
    host_ips: &[String],
    before: Option<&PodStatus>,
    now: Time,
) -> PodStatus {
    if let Some(Doom::Rejected { reason, message }) = &observed.doom {
        return rejected(pod, observed, reason, message);
    }
    let phase = phase(pod, observed);
    let (reason, message) = match &observed.doom {
        // What still runs is not told to have failed.
        Some(Doom::Failed { reason, message } | Doom::Disrupted { reason, message, .. })
            if phase == "Failed" =>
        {
            (Some(reason.clone()), Some(message.clone()))
        }
        _ => (None, None),
    };
    let last_words_len_max = LAST_WORDS_LEN_MAX / pod::containers(pod).count().max(1);
    let is_over = matches!(phase, "Succeeded" | "Failed") && observed.doom.is_some();
    let missed = if is_over { missed(pod, observed) } else { BTreeSet::new() };
    let statuses = |of: fn(Part) -> bool| {
        let mut list: Vec<ContainerStatus> = pod::containers(pod)
            .filter(|(part, _)| of(*part))
            .map(|(part, c)| {
                let mut status = container_status(pod, part, c, observed, now);
                if missed.contains(c.name.as_str()) {
                    give_up(&mut status);
                }
                shorten(status.state.as_mut(), last_words_len_max);
                shorten(status.last_state.as_mut(), last_words_len_max);
                status
            })
            .collect();
        // The row of init containers has an order; all others are told by name.
        if !of(Part::Init) {
            list.sort_by(|a, b| a.name.cmp(&b.name));
        }
        (!list.is_empty()).then_some(list)
    };
    let ips: Vec<String> = match &observed.sandbox {
        Sandbox::Ready { ips } => ips.clone(),
        // A pod keeps telling the address it had, as long as it tells of containers.
        Sandbox::Missing { .. } | Sandbox::Removed => before
            .and_then(|b| b.pod_ips.as_ref())
            .map(|ips| ips.iter().map(|ip| ip.ip.clone()).collect())
            .unwrap_or_default(),
    };
    PodStatus {
        phase: Some(phase.to_owned()),
        reason,
        message,
        conditions: Some(conditions(pod, observed, phase, before, now)),
        container_statuses: statuses(|p| p == Part::Main),
        init_container_statuses: statuses(|p| matches!(p, Part::Init | Part::Sidecar)),
        ephemeral_container_statuses: statuses(|p| p == Part::Ephemeral),
        host_ip: host_ips.first().cloned(),
        host_ips: (!host_ips.is_empty())
            .then(|| host_ips.iter().map(|ip| HostIP { ip: ip.clone() }).collect()),
        pod_ip: ips.first().cloned(),
        pod_ips: (!ips.is_empty()).then(|| ips.iter().map(|ip| PodIP { ip: ip.clone() }).collect()),
        start_time: Some(MetaTime(whole_seconds(observed.started_at))),
        qos_class: Some(limits::qos_name(limits::qos(pod)).to_owned()),
        observed_generation: pod.metadata.generation,
        resources: Some(resources_of_pod(pod, observed)),
        allocated_resources: Some(limits::totals(pod, &pod::resources(pod), Side::Requests))
            .filter(|r| !r.is_empty()),
        ..PodStatus::default()
    }
}

/// What the pod as a whole has: its containers' sums, and before them what it names for itself as that was set last.
fn resources_of_pod(pod: &Pod, observed: &Observed) -> ResourceRequirements {
    let own = observed.resources.clone().unwrap_or_else(|| pod::resources(pod));
    let side = |side| Some(limits::totals(pod, &own, side)).filter(|map| !map.is_empty());
    ResourceRequirements {
        requests: side(Side::Requests),
        limits: side(Side::Limits),
        ..ResourceRequirements::default()
    }
}

/// A pod that this node never took has no containers, no conditions and no address.
fn rejected(pod: &Pod, observed: &Observed, reason: &str, message: &str) -> PodStatus {
    PodStatus {
        phase: Some("Failed".to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(format!("Pod was rejected: {message}")),
        start_time: Some(MetaTime(whole_seconds(observed.started_at))),
        qos_class: Some(limits::qos_name(limits::qos(pod)).to_owned()),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}

/// Containers whose time had come when their pod was ended, so that those that do not run are told as ones whose end nobody saw:
/// of the row of init containers each up to the last that was begun, and the first in any case; of the others each once the row
/// was through.
fn missed<'a>(pod: &'a Pod, observed: &Observed) -> BTreeSet<&'a str> {
    let name = |(_, c): (Part, &'a Container)| c.name.as_str();
    let row: Vec<&str> = pod::containers(pod)
        .filter(|(part, _)| matches!(part, Part::Init | Part::Sidecar))
        .map(name)
        .collect();
    let was_begun = |name: &&str| observed.seen(name).is_some_and(|s| s.attempts > 0);
    let last = row.iter().rposition(was_begun).unwrap_or(0);
    let is_through = plan::is_initialized(pod, observed);
    let mains = pod::containers(pod).filter(|(part, _)| *part == Part::Main && is_through);
    row.iter().take(last + 1).copied().chain(mains.map(name)).collect()
}

/// Tells of a container that never ran, or was to run again, how its pod's end found it.
fn give_up(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|s| s.waiting.is_some()) {
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    }
}

/// Cuts a container's last words.
fn shorten(state: Option<&mut ContainerState>, len_max: usize) {
    let terminated = state.and_then(|s| s.terminated.as_mut());
    if let Some(message) = terminated.and_then(|t| t.message.as_mut())
        && message.len() > len_max
    {
        message.truncate(message.floor_char_boundary(len_max));
    }
}

fn whole_seconds(t: Time) -> jiff::Timestamp {
    jiff::Timestamp::from_second(t.0.as_second()).unwrap_or(t.0)
}

fn meta_time(t: Time) -> MetaTime {
    MetaTime(whole_seconds(t))
}

/// The pod's phase.
pub(crate) fn phase(pod: &Pod, observed: &Observed) -> &'static str {
    let winding_down = observed.doom.is_some();
    let fails = match observed.doom {
        Some(Doom::Failed { .. }) => true,
        // Who used the time that was left and ended well did not fail; yet a framework's task did not finish for that.
        Some(Doom::Disrupted { .. }) => crate::mesos::is_task(pod),
        _ => false,
    };
    if fails && observed.running() == 0 {
        return "Failed";
    }
    if plan::has_failed_init(pod, observed) {
        return "Failed";
    }
    let (mut waiting, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for (_, container) in pod::containers(pod).filter(|(part, _)| *part == Part::Main) {
        match observed.seen(&container.name) {
            Some(seen) if seen.is_shown_running() => running += 1,
            Some(Seen { life: Life::Ended(e), .. }) => {
                stopped += 1;
                succeeded += usize::from(e.code == 0);
            }
            Some(Seen { last: Some(_), .. }) => stopped += 1,
            _ => waiting += 1,
        }
    }
    if running == 0 && (winding_down || plan::is_finished(pod, observed)) && observed.running() == 0 {
        return match (waiting, stopped) {
            (0, s) if s == succeeded => "Succeeded",
            // A pod that is deleted before anything ran never ends by itself.
            (_, 0) => "Failed",
            _ => "Failed",
        };
    }
    // One that was sent back to its beginning waits for its row only while something of that runs.
    let is_behind = match begins_anew(pod, observed) {
        true => pod::containers(pod)
            .any(|(part, c)| part == Part::Init && observed.seen(&c.name).is_some_and(Seen::is_running)),
        false => !plan::is_initialized(pod, observed),
    };
    if waiting > 0 || is_behind {
        return "Pending";
    }
    "Running"
}

/// Whether the pod was through its row of init containers before it was sent back to its beginning.
fn begins_anew(pod: &Pod, observed: &Observed) -> bool {
    pod::containers(pod).any(|(part, c)| part == Part::Main && observed.seen(&c.name).is_some_and(|s| s.anew))
}

fn conditions(
    pod: &Pod,
    observed: &Observed,
    phase: &str,
    before: Option<&PodStatus>,
    now: Time,
) -> Vec<PodCondition> {
    let old = |kind: &str| {
        let known = before.or(pod.status.as_ref());
        known.and_then(|s| s.conditions.as_ref()).and_then(|c| c.iter().find(|c| c.type_ == kind))
    };
    let make = |kind: &str, verdict: &Verdict| {
        let status = if verdict.is_true { "True" } else { "False" };
        let same = old(kind).filter(|c| c.status == status).and_then(|c| c.last_transition_time.clone());
        let since = same.unwrap_or_else(|| meta_time(now));
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.map(str::to_owned),
            message: verdict.message.clone(),
            // Those of a resize are of a moment at which the node looked.
            last_probe_time: kind.starts_with("PodResize").then(|| since.clone()),
            last_transition_time: Some(since),
            observed_generation: pod.metadata.generation,
        }
    };
    let initialized = initialized(pod, observed, phase);
    let containers_ready = containers_ready(pod, observed, phase);
    let ready = readiness_gates(pod, &containers_ready);
    let sandbox = matches!(observed.sandbox, Sandbox::Ready { .. });
    let mut all = Vec::new();
    if let Some(pending) = &observed.resize_pending {
        let verdict = Verdict::why(true, pending.reason, Some(pending.message.clone()));
        all.push(make("PodResizePending", &verdict));
    }
    if observed.doom.is_none() && plan::needs_resize(pod, observed) {
        let error = observed.resize_error.clone();
        let verdict = Verdict { is_true: true, reason: error.as_ref().map(|_| "Error"), message: error };
        all.push(make("PodResizeInProgress", &verdict));
    }
    if let Some(Doom::Disrupted { condition: Some(message), .. }) = &observed.doom
        && matches!(phase, "Succeeded" | "Failed")
    {
        let verdict = Verdict::why(true, "TerminationByKubelet", Some(message.clone()));
        all.push(make("DisruptionTarget", &verdict));
    }
    all.extend([
        make("PodReadyToStartContainers", &Verdict::plain(sandbox)),
        make("Initialized", &initialized),
        make("Ready", &ready),
        make("ContainersReady", &containers_ready),
        make("PodScheduled", &Verdict::plain(true)),
    ]);
    if pod::may_restart_all(pod) {
        // The one condition that tells of no generation.
        let restarting = make("AllContainersRestarting", &restarting_all(pod, observed, phase));
        all.push(PodCondition { observed_generation: None, ..restarting });
    }
    all
}

struct Verdict {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn plain(is_true: bool) -> Verdict {
        Verdict { is_true, reason: None, message: None }
    }

    fn why(is_true: bool, reason: &'static str, message: Option<String>) -> Verdict {
        Verdict { is_true, reason: Some(reason), message }
    }
}

fn initialized(pod: &Pod, observed: &Observed, phase: &str) -> Verdict {
    if phase == "Succeeded" {
        return Verdict::why(true, "PodCompleted", None);
    }
    if plan::is_initialized(pod, observed) || begins_anew(pod, observed) {
        return Verdict::plain(true);
    }
    let incomplete: Vec<&str> = pod::containers(pod)
        .filter(|(part, c)| match (part, observed.seen(&c.name)) {
            (Part::Main | Part::Ephemeral, _) => false,
            (Part::Init, seen) => seen.and_then(Seen::ended).is_none_or(|e| e.code != 0),
            (Part::Sidecar, seen) => !seen.is_some_and(|s| s.is_running() && s.started),
        })
        .map(|(_, c)| c.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    Verdict::why(false, "ContainersNotInitialized", Some(message))
}

fn restarting_all(pod: &Pod, observed: &Observed, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => Verdict::why(false, "PodCompleted", None),
        "Failed" => Verdict::why(false, "PodFailed", None),
        _ if plan::restarts_all(pod, observed) => {
            let why = "container exited with restart policy rule";
            Verdict::why(true, "RestartAllContainersStarted", Some(why.to_owned()))
        }
        _ => Verdict::plain(false),
    }
}

fn containers_ready(pod: &Pod, observed: &Observed, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::why(false, "PodCompleted", None),
        "Failed" => return Verdict::why(false, "PodFailed", None),
        _ => {}
    }
    let unready: Vec<&str> = pod::containers(pod)
        .filter(|(part, c)| {
            matches!(part, Part::Main | Part::Sidecar)
                && !observed.seen(&c.name).is_some_and(|s| s.has_started() && s.ready)
        })
        .map(|(_, c)| c.name.as_str())
        .collect();
    if unready.is_empty() {
        return Verdict::plain(true);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    Verdict::why(false, "ContainersNotReady", Some(message))
}

fn readiness_gates(pod: &Pod, containers_ready: &Verdict) -> Verdict {
    if !containers_ready.is_true {
        return Verdict {
            is_true: false,
            reason: containers_ready.reason,
            message: containers_ready.message.clone(),
        };
    }
    let given = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let complaints: Vec<String> = pod::spec(pod)
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten())
        .filter_map(|gate| match given.iter().find(|c| c.type_ == gate.condition_type) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {}",
                gate.condition_type, c.status
            )),
            Some(_) => None,
        })
        .collect();
    if complaints.is_empty() {
        Verdict::plain(true)
    } else {
        Verdict::why(false, "ReadinessGatesNotReady", Some(complaints.join(", ")))
    }
}

fn container_status(
    pod: &Pod,
    part: Part,
    container: &Container,
    observed: &Observed,
    now: Time,
) -> ContainerStatus {
    let seen = observed.seen(&container.name).cloned().unwrap_or_default();
    let restarting = observed.doom.is_none() && !plan::is_finished(pod, observed);
    let (state, last) = match &seen.life {
        Life::Running { started_at, .. } if seen.is_shown_running() => {
            (running(*started_at), seen.last.as_ref())
        }
        Life::Running { .. } => (waiting(first_wait(pod), None), seen.last.as_ref()),
        Life::Ended(e) => {
            let again = restarting && pod::wants_restart(pod, part, container, e.code);
            match seen.may_start_at() {
                // Why it was ended, and why it never ran, is told before that it rests.
                _ if again && seen.is_news && seen.hook_error.is_some() => {
                    (waiting("PostStartHookError", seen.hook_error.as_ref()), Some(e))
                }
                Some(at) if again && at > now && !seen.is_news => {
                    (crash_loop(pod, container, at.since(e.finished_at)), Some(e))
                }
                // Also while it is tried again at once: what never ran did not end.
                _ if again && e.reason == START_ERROR => {
                    (waiting("RunContainerError", Some(&e.message)), Some(e))
                }
                _ => (terminated(e), seen.last.as_ref()),
            }
        }
        Life::Refused { reason, message, .. } => (waiting(reason, Some(message)), seen.last.as_ref()),
        Life::Absent if seen.anew && seen.is_news => {
            (waiting(RESTARTING_ALL, Some(&RESTARTING_ALL_WORDS.to_owned())), seen.last.as_ref())
        }
        Life::Absent => (waiting(first_wait(pod), None), seen.last.as_ref()),
    };
    let is_running = seen.is_running();
    let ready = match part {
        Part::Init => seen.ended().is_some_and(|e| e.code == 0),
        Part::Ephemeral => false,
        _ => seen.has_started() && seen.ready,
    };
    let resources = seen.resources.clone().filter(|_| is_running).or_else(|| container.resources.clone());
    // As a kubelet tells it: of a container that there was, also where it names none; of no other.
    let was_made = seen.attempts > 0;
    let user = seen.user.as_ref().map(|(uid, gid, more)| {
        let groups = std::iter::once(gid).chain(more.iter().filter(|g| *g != gid));
        ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: i64::from(*uid),
                gid: i64::from(*gid),
                supplemental_groups: Some(groups.map(|g| i64::from(*g)).collect()),
            }),
        }
    });
    ContainerStatus {
        name: container.name.clone(),
        image: image_name(container, &seen),
        image_id: seen.image_id.clone(),
        container_id: seen
            .id()
            .or(seen.last.as_ref().map(|l| l.id.as_str()))
            .filter(|id| !id.is_empty())
            .map(container_id),
        ready,
        // Nobody waits for an ephemeral container.
        started: (part != Part::Ephemeral)
            .then(|| seen.is_shown_running() && (part == Part::Init || seen.started)),
        restart_count: i32::try_from(seen.restarts).unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.map_or_else(ContainerState::default, terminated)),
        resources: was_made.then(|| resources.unwrap_or_default()),
        allocated_resources: container
            .resources
            .as_ref()
            .filter(|_| was_made)
            .and_then(|r| r.requests.clone()),
        user: user.filter(|_| seen.id().is_some()),
        volume_mounts: volume_mounts(pod, container, observed),
        stop_signal: container.lifecycle.as_ref().and_then(|l| l.stop_signal.clone()),
        ..ContainerStatus::default()
    }
}

/// The image by the whole name that engines give it; before there is a container, and where only a digest names it, as the spec
/// has it.
fn image_name(container: &Container, seen: &Seen) -> String {
    let named = container.image.clone().unwrap_or_default();
    if seen.id().is_none() || seen.image_id.is_empty() {
        return named;
    }
    let named = if seen.image.is_empty() { named } else { seen.image.clone() };
    match stoa_image::Reference::parse(&named) {
        Ok(whole) if whole.digest().is_none() => whole.to_string(),
        _ => named,
    }
}

/// What is mounted, and how firmly read-only it is.
fn volume_mounts(pod: &Pod, container: &Container, observed: &Observed) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|m| !m.is_empty())?;
    let status = |m: &VolumeMount| {
        let read_only = m.read_only == Some(true);
        let firm = matches!(m.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
        VolumeMountStatus {
            name: m.name.clone(),
            mount_path: m.mount_path.clone(),
            read_only: read_only.then_some(true),
            recursive_read_only: read_only.then(|| if firm { "Enabled" } else { "Disabled" }.to_owned()),
            volume_status: image_of(pod, container, &m.name, observed),
        }
    };
    Some(mounts.iter().map(status).collect())
}

/// Which image a volume shows; what was said of one that an earlier agent mounted is said again.
fn image_of(pod: &Pod, container: &Container, volume: &str, observed: &Observed) -> Option<VolumeStatus> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.into_iter().find(|v| v.name == volume)?.image.as_ref()?;
    if let Some(id) = observed.volume_images.get(volume) {
        return Some(VolumeStatus { image: Some(ImageVolumeStatus { image_ref: id.clone() }) });
    }
    let said = pod.status.as_ref()?;
    let lists = [&said.container_statuses, &said.init_container_statuses, &said.ephemeral_container_statuses];
    let own = lists.into_iter().flatten().flatten().find(|c| c.name == container.name)?;
    own.volume_mounts.iter().flatten().find(|m| m.name == volume)?.volume_status.clone()
}

/// What a container waits for that was not made yet. As a kubelet tells it: also once the row of init containers is through.
fn first_wait(pod: &Pod) -> &'static str {
    let has_row = pod::containers(pod).any(|(p, _)| matches!(p, Part::Init | Part::Sidecar));
    if has_row { "PodInitializing" } else { "ContainerCreating" }
}

/// How the API names a container of this runtime.
pub(crate) fn container_id(id: &str) -> String {
    format!("stoa://{id}")
}

fn running(since: Time) -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning { started_at: Some(meta_time(since)) }),
        ..ContainerState::default()
    }
}

fn waiting(reason: &str, message: Option<&String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: message.filter(|m| !m.is_empty()).cloned(),
        }),
        ..ContainerState::default()
    }
}

fn crash_loop(pod: &Pod, container: &Container, rest: Duration) -> ContainerState {
    let message = format!(
        "back-off {} restarting failed container={} pod={}",
        go_duration(rest),
        container.name,
        pod::long_name(&pod::reference(pod))
    );
    waiting("CrashLoopBackOff", Some(&message))
}

/// Whole seconds in the form of Go's `Duration`: `10s`, `1m20s`, `5m0s`.
fn go_duration(d: Duration) -> String {
    match d.as_secs() {
        s @ 0..60 => format!("{s}s"),
        s => format!("{}m{}s", s / 60, s % 60),
    }
}

fn terminated(e: &Ended) -> ContainerState {
    let is_known = !e.id.is_empty();
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(&e.id).filter(|id| !id.is_empty()).map(|id| container_id(id)),
            exit_code: e.code,
            signal: None,
            reason: Some(e.reason.clone()),
            message: Some(e.message.clone()).filter(|m| !m.is_empty()),
            // What never ran is told to have begun at the epoch, as engines do; of what nobody saw nothing is told.
            started_at: is_known.then(|| meta_time(e.started_at.unwrap_or(Time::EPOCH))),
            finished_at: is_known.then(|| meta_time(e.finished_at)),
        }),
        ..ContainerState::default()
    }
}

/// How a container's last life is read back from a status that an earlier agent wrote.
pub(crate) fn read_terminated(state: Option<&ContainerState>) -> Option<Ended> {
    let t = state?.terminated.as_ref()?;
    let id = t.container_id.as_deref().unwrap_or_default();
    Some(Ended {
        id: id.strip_prefix("stoa://").unwrap_or(id).to_owned(),
        code: t.exit_code,
        signal: t.signal,
        reason: t.reason.clone().unwrap_or_default(),
        message: t.message.clone().unwrap_or_default(),
        started_at: t.started_at.as_ref().map(|t| Time(t.0)).filter(|t| *t != Time::EPOCH),
        finished_at: t.finished_at.as_ref().map_or(Time::EPOCH, |t| Time(t.0)),
    })
}

#[cfg(test)]
mod tests;
