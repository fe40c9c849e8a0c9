//! What a pod's status means for its task. Pure: a pod in, an observation out, however many changes were missed.

use crate::task::{Rank, Record};
use stoa_kube::typed::{ContainerState, Pod};
use stoa_mesos::task::{ContainerStatus, IpAddress, NetworkInfo};
use stoa_mesos::{Id, Reason, Source, TaskState};

/// Waiting reasons after which a container will not start by itself.
const HOPELESS: [&str; 8] = [
    "InvalidImageName",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "StartError",
];
/// Ended reasons that say that the command never ran.
const NEVER_RAN: [&str; 3] = ["ContainerCannotRun", "StartError", "ContainerStatusUnknown"];

/// Whether the command was ever seen to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Never,
    Once,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observation {
    pub rank: Rank,
    /// The state, if the rank is the last.
    pub state: TaskState,
    pub message: Option<String>,
    pub reason: Option<Reason>,
    pub source: Source,
    pub has_run: Run,
    /// Whether the container answers its checks, while it runs.
    pub is_ready: bool,
    pub container: Option<ContainerStatus>,
}

impl Observation {
    fn at(rank: Rank, container: Option<ContainerStatus>) -> Observation {
        Observation {
            rank,
            state: TaskState::Staging,
            message: None,
            reason: None,
            source: Source::Executor,
            has_run: Run::Never,
            is_ready: false,
            container,
        }
    }

    fn ended(mut self, state: TaskState, message: String, reason: Option<Reason>) -> Observation {
        self.rank = Rank::Ended;
        self.state = state;
        self.message = Some(message);
        self.reason = reason;
        self
    }
}

/// Looks at a task's pod.
pub(crate) fn observe(record: &Record, pod: &Pod) -> Observation {
    let is_leaving = record.is_killed || pod.metadata.deletion_timestamp.is_some();
    observe_container(record.container(), is_leaving, pod)
}

/// Looks at a pod that is no task's.
pub(crate) fn observe_pod(container: &str, pod: &Pod) -> Observation {
    observe_container(container, pod.metadata.deletion_timestamp.is_some(), pod)
}

fn observe_container(name: &str, is_leaving: bool, pod: &Pod) -> Observation {
    let status = pod.status.as_ref();
    let container = status
        .and_then(|s| s.container_statuses.as_ref())
        .and_then(|all| all.iter().find(|c| c.name == name));
    let base = Observation::at(Rank::Staging, container_status(name, pod));
    let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
    let cause = status.and_then(|s| s.reason.as_deref()).unwrap_or_default();
    // Both are said before it ends, which may take as long as its grace period.
    let has_ended = matches!(phase, "Failed" | "Succeeded")
        || container.and_then(|c| c.state.as_ref()).is_some_and(|s| s.terminated.is_some());
    if matches!(cause, "Evicted" | "Preempting") && !is_leaving && has_ended {
        let mut seen = base;
        seen.source = Source::Agent;
        seen.has_run = Run::Once;
        let text = status.and_then(|s| s.message.clone()).unwrap_or_else(|| "Container preempted".into());
        // What was lent was taken back: nobody failed.
        let is_lent = pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(crate::pod::LENT));
        let state = if is_lent { TaskState::Gone } else { TaskState::Failed };
        return seen.ended(state, text, Some(Reason::ContainerPreempted));
    }
    if let Some(ContainerState { terminated: Some(end), .. }) = container.and_then(|c| c.state.as_ref()) {
        let mut seen = base;
        let why = end.reason.as_deref().unwrap_or_default();
        if NEVER_RAN.contains(&why) {
            seen.source = Source::Agent;
            let text = end.message.clone().unwrap_or_else(|| format!("Failed to launch container: {why}"));
            return seen.ended(TaskState::Failed, text, Some(Reason::ContainerLaunchFailed));
        }
        seen.has_run = Run::Once;
        let text = end_text(end.exit_code, end.signal, is_leaving);
        return if cause == "DeadlineExceeded" {
            seen.ended(TaskState::Failed, text, Some(Reason::MaxCompletionTimeReached))
        } else if why == "OOMKilled" {
            let text = end.message.clone().unwrap_or_else(|| "Memory limit exceeded".into());
            seen.ended(TaskState::Failed, text, Some(Reason::ContainerLimitationMemory))
        } else if end.exit_code == 0 {
            seen.ended(TaskState::Finished, text, None)
        } else if is_leaving {
            seen.ended(TaskState::Killed, text, None)
        } else {
            seen.ended(TaskState::Failed, text, None)
        };
    }
    if phase == "Failed" || phase == "Succeeded" {
        let mut seen = base;
        seen.source = Source::Agent;
        let text =
            status.and_then(|s| s.message.clone()).unwrap_or_else(|| format!("Pod ended: {phase} {cause}"));
        let (state, reason) = match cause {
            _ if is_leaving => (TaskState::Killed, Reason::TaskKilledDuringLaunch),
            "DeadlineExceeded" => (TaskState::Failed, Reason::MaxCompletionTimeReached),
            _ => (TaskState::Failed, Reason::ContainerLaunchFailed),
        };
        return seen.ended(state, text, Some(reason));
    }
    match container.and_then(|c| c.state.as_ref()) {
        Some(ContainerState { running: Some(_), .. }) => {
            let rank = if is_leaving { Rank::Killing } else { Rank::Running };
            let is_ready = container.is_some_and(|c| c.ready);
            Observation { has_run: Run::Once, is_ready, ..Observation::at(rank, base.container) }
        }
        Some(ContainerState { waiting: Some(w), .. })
            if w.reason.as_deref().is_some_and(|r| HOPELESS.contains(&r)) =>
        {
            let text = w.message.clone().or_else(|| w.reason.clone()).unwrap_or_default();
            let seen = Observation { source: Source::Agent, ..base };
            seen.ended(
                TaskState::Failed,
                format!("Failed to launch container: {text}"),
                Some(Reason::ContainerLaunchFailed),
            )
        }
        Some(_) => Observation::at(Rank::Starting, base.container),
        None if status.is_some_and(|s| s.start_time.is_some()) => {
            Observation::at(Rank::Starting, base.container)
        }
        None => base,
    }
}

/// What it means that a pod is gone without having been seen to end.
pub(crate) fn observe_gone(
    record: &Record,
    last: Option<&Pod>,
    has_agent: bool,
    fate: TaskState,
) -> Observation {
    if let Some(seen) = last.map(|p| observe(record, p)).filter(|s| s.rank == Rank::Ended) {
        return seen;
    }
    let container = last.and_then(|pod| container_status(record.container(), pod));
    let has_run = last.map_or(Run::Never, |p| observe(record, p).has_run);
    let mut seen = Observation { has_run, ..Observation::at(Rank::Ended, container) };
    if has_agent {
        seen.ended(TaskState::Killed, "Command terminated with signal Killed".into(), None)
    } else {
        seen.source = Source::Master;
        let reason = match fate {
            TaskState::GoneByOperator => Reason::AgentRemovedByOperator,
            _ => Reason::AgentRemoved,
        };
        seen.ended(fate, format!("Agent {} removed", record.agent), Some(reason))
    }
}

fn container_status(name: &str, pod: &Pod) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.container_statuses.as_ref();
    let container = all.and_then(|all| all.iter().find(|c| c.name == name));
    let id = container
        .and_then(|c| c.container_id.as_deref())
        .map(|id| id.rsplit('/').next().unwrap_or(id).to_string());
    let ip = status.pod_ip.clone().filter(|ip| !ip.is_empty());
    if id.is_none() && ip.is_none() {
        return None;
    }
    let protocol = |ip: &str| if ip.contains(':') { "IPv6" } else { "IPv4" };
    let networks = ip.map(|ip| NetworkInfo {
        ip_addresses: vec![IpAddress { protocol: Some(protocol(&ip).into()), ip_address: Some(ip) }],
        name: None,
        port_mappings: vec![],
        labels: None,
    });
    Some(ContainerStatus {
        container_id: id.map(|value| Id { value }),
        network_infos: networks.into_iter().collect(),
    })
}

/// Mesos' words for how a command ended.
fn end_text(code: i32, signal: Option<i32>, is_leaving: bool) -> String {
    let signal = signal.filter(|s| *s > 0).or_else(|| {
        // A runtime that has no field for the signal says 128 + n; without a kill that may be the command's own code.
        (is_leaving && matches!(code, 137 | 143)).then_some(code - 128)
    });
    match signal {
        Some(n) => format!("Command terminated with signal {}", signal_name(n)),
        None => format!("Command exited with status {code}"),
    }
}

/// `strsignal`'s words.
fn signal_name(n: i32) -> String {
    let name = match n {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        11 => "Segmentation fault",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        _ => return format!("Unknown signal {n}"),
    };
    name.into()
}

#[cfg(test)]
mod tests;
