//! The read-outs of the agent's v1 API, in the messages' JSON form, as far as the asker may see them.

use super::access::Asker;
use super::tasks::Entry;
use super::view;
use super::{figures, view::TaskView};
use crate::shared::Shared;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_authz::Action;

/// A read-out by its name in small letters; `None` if there is no such one. `part` is what the call says besides.
pub(crate) fn report(shared: &Shared, name: &str, part: &Value, asker: &Asker) -> Option<Value> {
    Some(match name {
        "get_health" => json!({"healthy": true}),
        "get_version" => json!({"version_info": view::version(shared)}),
        "get_flags" => {
            let all = view::flags(shared);
            let seen = all.iter().filter(|_| asker.may(Action::ViewFlags, "*"));
            json!({"flags": seen.map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()})
        }
        "get_metrics" => {
            let all = figures::metrics(shared);
            json!({"metrics": all.iter().map(|(k, v)| json!({"name": k, "value": v})).collect::<Vec<_>>()})
        }
        "get_logging_level" => json!({"level": shared.options.verbosity.level(shared.now())}),
        "get_state" => json!({"get_tasks": tasks(shared, asker), "get_executors": executors(shared, asker),
            "get_frameworks": frameworks(shared, asker)}),
        "get_tasks" => tasks(shared, asker),
        "get_executors" => executors(shared, asker),
        "get_frameworks" => frameworks(shared, asker),
        "get_containers" => containers(shared, part, asker),
        "get_operations" => json!({"operations": []}),
        "get_resource_providers" => json!({"resource_providers": []}),
        "get_agent" => {
            let mut info = json!(shared.executors.agent_info());
            info["resources"] = json!(stoa_mesos::resource::list(&view::resources(shared), None));
            let attributes = view::attributes(shared);
            let text = |(name, value): (&String, &Value)| json!({"name": name, "type": "TEXT", "text": {"value": value}});
            info["attributes"] = attributes.as_object().into_iter().flatten().map(text).collect();
            json!({"agent_info": info})
        }
        _ => return None,
    })
}

fn framework_info(entry: &Entry) -> Value {
    let mut info = match &entry.framework_info {
        Some(info) => json!(info),
        None => json!({"name": entry.framework, "user": entry.framework_user, "role": entry.role}),
    };
    info["id"] = json!({"value": entry.framework});
    info
}

fn frameworks(shared: &Shared, asker: &Asker) -> Value {
    let mut all: BTreeMap<String, (bool, Value)> = BTreeMap::new();
    for entry in shared.tasks.list().iter().filter(|e| asker.may_view_framework(e)) {
        let known = all.entry(entry.framework.clone()).or_insert_with(|| (false, framework_info(entry)));
        known.0 |= entry.is_live();
    }
    let pick = |live: bool| -> Vec<Value> {
        all.values().filter(|(l, _)| *l == live).map(|(_, info)| json!({"framework_info": info})).collect()
    };
    json!({"frameworks": pick(true), "completed_frameworks": pick(false)})
}

fn executor_info(entry: &Entry) -> Value {
    let mut info = match &entry.executor_info {
        Some(info) => json!(info),
        None => json!({"executor_id": {"value": entry.executor}, "type": "DEFAULT", "name": entry.name,
            "source": entry.executor, "resources": []}),
    };
    info["framework_id"] = json!({"value": entry.framework});
    info
}

fn executors(shared: &Shared, asker: &Asker) -> Value {
    let (mut live, mut over) = (Vec::new(), Vec::new());
    for entry in shared.tasks.list().iter().filter(|e| asker.may_view_executor(e)) {
        let list = if entry.is_live() { &mut live } else { &mut over };
        list.push(json!({"executor_info": executor_info(entry)}));
    }
    json!({"executors": live, "completed_executors": over})
}

fn task(shared: &Shared, entry: &Entry, t: &TaskView) -> Value {
    let agent = json!({"value": shared.options.name});
    let status = t.since.map(|at| {
        let mut status = json!({"task_id": {"value": t.id}, "state": t.state, "agent_id": agent, "timestamp": at,
            "executor_id": {"value": entry.executor}, "container_status": view::status(entry)});
        if let Some(id) = &t.container {
            status["container_status"]["container_id"] = json!({"value": id});
        }
        status
    });
    json!({"name": t.name, "task_id": {"value": t.id}, "framework_id": {"value": entry.framework},
        "executor_id": {"value": entry.executor}, "agent_id": agent, "state": t.state,
        "resources": t.resources, "statuses": status.into_iter().collect::<Vec<_>>(), "user": entry.user})
}

fn tasks(shared: &Shared, asker: &Asker) -> Value {
    let (mut queued, mut launched, mut over) = (Vec::new(), Vec::new(), Vec::new());
    for entry in shared.tasks.list().iter().filter(|e| asker.may_view_task(e)) {
        for t in view::tasks_of(shared, entry) {
            let list = match t.state {
                s if s.is_terminal() => &mut over,
                stoa_mesos::TaskState::Staging => &mut queued,
                _ => &mut launched,
            };
            list.push(task(shared, entry, &t));
        }
    }
    json!({"pending_tasks": [], "queued_tasks": queued, "launched_tasks": launched, "terminated_tasks": [],
        "completed_tasks": over})
}

fn containers(shared: &Shared, part: &Value, asker: &Asker) -> Value {
    let is_asked = |name: &str| part[name].as_bool().unwrap_or(false);
    let all = shared.tasks.containers();
    let live: Vec<&Entry> = all.iter().filter(|e| e.is_running() && asker.may_view_container(e)).collect();
    let whose = |e: &Entry, mut out: Value| {
        if !e.is_standalone {
            out["framework_id"] = json!({"value": e.framework});
            out["executor_id"] = json!({"value": e.executor});
            out["executor_name"] = e.name.as_str().into();
        }
        out
    };
    let shown = live.iter().filter(|e| !e.is_standalone || is_asked("show_standalone"));
    let mut out: Vec<Value> = shown
        .map(|e| {
            whose(
                e,
                json!({
                    "container_id": {"value": e.container_id()}, "container_status": view::status(e),
                    "resource_statistics": figures::statistics(shared, e),
                }),
            )
        })
        .collect();
    if is_asked("show_nested") {
        for id in shared.sessions.list() {
            // Whoever may not see what it is in does not see it either.
            if let Some(e) = live.iter().find(|e| e.is(&id.root().value)) {
                out.push(whose(e, json!({"container_id": id, "container_status": {"container_id": id}})));
            }
        }
    }
    json!({"containers": out})
}
