//! Pods. The status column follows the containers more than the phase: what people need to see is why a pod is not running.

use super::human;
use super::view::{View, at, list, number, or, text};
use serde_json::Value;
use stoa_units::Time;

/// What the containers have told so far.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Time>,
}

pub(super) fn cells(view: View<'_>) -> Vec<Value> {
    let summary = summarize(view);
    let restarts = match summary.last_restart {
        Some(then) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, human::since(view.now, then))
        }
        _ => summary.restarts.to_string(),
    };
    let ip = view.list("status.podIPs").first().map(|p| text(p, "ip")).unwrap_or_default();
    vec![
        view.name(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        view.age(),
        or(ip, "<none>").into(),
        or(view.text("spec.nodeName"), "<none>").into(),
        or(view.text("status.nominatedNodeName"), "<none>").into(),
        readiness_gates(view).into(),
    ]
}

fn summarize(view: View<'_>) -> Summary {
    let phase = view.text("status.phase");
    let mut summary = Summary {
        reason: or(view.text("status.reason"), phase).to_owned(),
        ready: 0,
        total: view.list("spec.containers").len(),
        restarts: 0,
        last_restart: None,
    };
    let is_condition = |kind: &str, key: &str, value: &str| {
        view.list("status.conditions").iter().any(|c| text(c, "type") == kind && text(c, key) == value)
    };
    if is_condition("PodScheduled", "reason", "SchedulingGated") {
        "SchedulingGated".clone_into(&mut summary.reason);
    }
    let sidecars: Vec<&str> = view
        .list("spec.initContainers")
        .iter()
        .filter(|c| text(c, "restartPolicy") == "Always")
        .map(|c| text(c, "name"))
        .collect();
    summary.total += sidecars.len();
    let initializing = summarize_init(view, &sidecars, &mut summary);
    if !initializing || is_condition("Initialized", "status", "True") {
        summarize_main(view, &sidecars, is_condition("Ready", "status", "True"), &mut summary);
    }
    if view.is_deleting() {
        if view.text("status.reason") == "NodeLost" {
            "Unknown".clone_into(&mut summary.reason);
        } else if !matches!(phase, "Succeeded" | "Failed") {
            "Terminating".clone_into(&mut summary.reason);
        }
    }
    summary
}

/// Counts a container's restarts and remembers when the last one was.
fn count_restarts(status: &Value, summary: &mut Summary) {
    summary.restarts += number(status, "restartCount");
    let finished = at(status, "lastState.terminated.finishedAt").as_str().and_then(Time::parse);
    summary.last_restart = summary.last_restart.max(finished);
}

/// Why a container ended: its reason, else its signal or exit code.
fn ending(terminated: &Value) -> String {
    match (text(terminated, "reason"), number(terminated, "signal")) {
        ("", 0) => format!("ExitCode:{}", number(terminated, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Looks at the init containers in order; whether one of them is not done yet.
fn summarize_init(view: View<'_>, sidecars: &[&str], summary: &mut Summary) -> bool {
    for (index, status) in view.list("status.initContainerStatuses").iter().enumerate() {
        count_restarts(status, summary);
        let terminated = at(status, "state.terminated");
        let waiting = text(status, "state.waiting.reason");
        if terminated.is_object() && number(terminated, "exitCode") == 0 {
            continue;
        }
        if sidecars.contains(&text(status, "name")) && at(status, "started") == &Value::Bool(true) {
            summary.ready += usize::from(at(status, "ready") == &Value::Bool(true));
            continue;
        }
        summary.reason = if terminated.is_object() {
            format!("Init:{}", ending(terminated))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{index}/{}", view.list("spec.initContainers").len())
        };
        return true;
    }
    false
}

/// Looks at the containers themselves; restarts of plain init containers no longer count.
fn summarize_main(view: View<'_>, sidecars: &[&str], is_ready: bool, summary: &mut Summary) {
    (summary.restarts, summary.last_restart) = (0, None);
    for status in view.list("status.initContainerStatuses") {
        if sidecars.contains(&text(status, "name")) {
            count_restarts(status, summary);
        }
    }
    let mut is_running = false;
    for status in view.list("status.containerStatuses").iter().rev() {
        count_restarts(status, summary);
        let terminated = at(status, "state.terminated");
        let waiting = text(status, "state.waiting.reason");
        if !waiting.is_empty() {
            waiting.clone_into(&mut summary.reason);
        } else if terminated.is_object() {
            summary.reason = ending(terminated);
        } else if at(status, "ready") == &Value::Bool(true) && at(status, "state.running").is_object() {
            is_running = true;
            summary.ready += 1;
        }
    }
    // Some containers are done and others run on: the pod is not completed.
    if summary.reason == "Completed" && is_running {
        (if is_ready { "Running" } else { "NotReady" }).clone_into(&mut summary.reason);
    }
}

fn readiness_gates(view: View<'_>) -> String {
    let gates = view.list("spec.readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let holds = |gate: &&Value| {
        let kind = text(gate, "conditionType");
        list(view.object, "status.conditions")
            .iter()
            .any(|c| text(c, "type") == kind && text(c, "status") == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}
