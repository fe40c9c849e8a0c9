//! What runs pods: deployments, sets, jobs, and what guards them.

use super::human;
use super::view::{
    View, at, condition, containers, format_labels, format_selector, or, selector_query, shown, text,
};
use serde_json::Value;
use stoa_units::Time;

const KINDS: [&str; 10] = [
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "PodTemplate",
    "ControllerRevision",
    "PodDisruptionBudget",
];

pub(super) fn knows(kind: &str) -> bool {
    KINDS.contains(&kind)
}

pub(super) fn cells(view: View<'_>, kind: &str) -> Vec<Value> {
    match kind {
        "Deployment" => deployment(view),
        "ReplicaSet" => replicas(view, format_selector(view.at("spec.selector"))),
        "ReplicationController" => replicas(view, format_labels(view.at("spec.selector"))),
        "StatefulSet" => stateful_set(view),
        "DaemonSet" => daemon_set(view),
        "Job" => job(view),
        "CronJob" => cron_job(view),
        "PodTemplate" => pod_template(view),
        "ControllerRevision" => controller_revision(view),
        _ => disruption_budget(view),
    }
}

fn ready_of_desired(view: View<'_>) -> Value {
    format!("{}/{}", view.number("status.readyReplicas"), view.number("spec.replicas")).into()
}

fn deployment(view: View<'_>) -> Vec<Value> {
    let (names, images) = containers(view.at("spec.template.spec"));
    vec![
        view.name(),
        ready_of_desired(view),
        view.number("status.updatedReplicas").into(),
        view.number("status.availableReplicas").into(),
        view.age(),
        names.into(),
        images.into(),
        selector_query(view.at("spec.selector")).into(),
    ]
}

fn replicas(view: View<'_>, selector: String) -> Vec<Value> {
    let (names, images) = containers(view.at("spec.template.spec"));
    vec![
        view.name(),
        view.number("spec.replicas").into(),
        view.number("status.replicas").into(),
        view.number("status.readyReplicas").into(),
        view.age(),
        names.into(),
        images.into(),
        selector.into(),
    ]
}

fn stateful_set(view: View<'_>) -> Vec<Value> {
    let (names, images) = containers(view.at("spec.template.spec"));
    vec![view.name(), ready_of_desired(view), view.age(), names.into(), images.into()]
}

fn daemon_set(view: View<'_>) -> Vec<Value> {
    let (names, images) = containers(view.at("spec.template.spec"));
    vec![
        view.name(),
        view.number("status.desiredNumberScheduled").into(),
        view.number("status.currentNumberScheduled").into(),
        view.number("status.numberReady").into(),
        view.number("status.updatedNumberScheduled").into(),
        view.number("status.numberAvailable").into(),
        format_labels(view.at("spec.template.spec.nodeSelector")).into(),
        view.age(),
        names.into(),
        images.into(),
        format_selector(view.at("spec.selector")).into(),
    ]
}

fn job(view: View<'_>) -> Vec<Value> {
    let succeeded = view.number("status.succeeded");
    let completions = match (view.at("spec.completions").as_i64(), view.number("spec.parallelism")) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |path: &str| view.at(path).as_str().and_then(Time::parse);
    let duration = match (time("status.startTime"), time("status.completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human::since(end.unwrap_or(view.now), start),
    };
    let (names, images) = containers(view.at("spec.template.spec"));
    vec![
        view.name(),
        job_status(view).into(),
        completions.into(),
        duration.into(),
        view.age(),
        names.into(),
        images.into(),
        format_selector(view.at("spec.selector")).into(),
    ]
}

fn job_status(view: View<'_>) -> &'static str {
    let is = |kind: &str| condition(view.object, kind).is_some_and(|c| text(c, "status") == "True");
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if view.is_deleting() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn cron_job(view: View<'_>) -> Vec<Value> {
    let suspend = match view.at("spec.suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match view.at("status.lastScheduleTime").is_string() {
        true => view.since("status.lastScheduleTime"),
        false => "<none>".to_owned(),
    };
    let (names, images) = containers(view.at("spec.jobTemplate.spec.template.spec"));
    vec![
        view.name(),
        view.text("spec.schedule").into(),
        or(view.text("spec.timeZone"), "<none>").into(),
        suspend.into(),
        view.list("status.active").len().into(),
        last.into(),
        view.age(),
        names.into(),
        images.into(),
        format_selector(view.at("spec.jobTemplate.spec.selector")).into(),
    ]
}

fn pod_template(view: View<'_>) -> Vec<Value> {
    let (names, images) = containers(view.at("template.spec"));
    vec![view.name(), names.into(), images.into(), format_labels(view.at("template.metadata.labels")).into()]
}

fn controller_revision(view: View<'_>) -> Vec<Value> {
    let owner =
        view.list("metadata.ownerReferences").iter().find(|o| at(o, "controller") == &Value::Bool(true));
    let controller = owner.map_or_else(
        || "<none>".to_owned(),
        |o| {
            let group = text(o, "apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
            let kind = crate::resource::qualify(text(o, "kind"), group).to_lowercase();
            format!("{kind}/{}", text(o, "name"))
        },
    );
    vec![view.name(), controller.into(), view.number("revision").into(), view.age()]
}

fn disruption_budget(view: View<'_>) -> Vec<Value> {
    vec![
        view.name(),
        shown(view.at("spec.minAvailable"), "N/A").into(),
        shown(view.at("spec.maxUnavailable"), "N/A").into(),
        view.number("status.disruptionsAllowed").into(),
        view.age(),
    ]
}
