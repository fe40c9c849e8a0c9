//! What the agent shows of itself in the shapes that Mesos' tools of old read: `/state`, `/containers`, `/flags`. Each asker
//! sees what the ACLs let them see.

use super::access::Asker;
use super::figures;
use super::tasks::{Container, Entry};
use crate::shared::Shared;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use stoa_authz::Action;
use stoa_mesos::resource::flat;
use stoa_units::{Quantity, Resources};

/// What agents are able to do, in Mesos' words.
const CAPABILITIES: [&str; 5] =
    ["MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESIZE_VOLUME", "AGENT_DRAINING"];

/// `/version`, and the same keys in `/state`.
pub(crate) fn version(shared: &Shared) -> Value {
    json!({
        "version": stoa_mesos::VERSION, "build_date": shared.started.to_rfc3339_seconds(),
        "build_time": shared.started.as_secs_f64(), "build_user": "stoa",
    })
}

/// The options that others may see, by Mesos' names.
pub(crate) fn flags(shared: &Shared) -> BTreeMap<&'static str, String> {
    let options = &shared.options;
    let mut out: BTreeMap<&'static str, String> = [
        ("attributes", options.attributes.clone().unwrap_or_default()),
        ("executor_registration_timeout", "1mins".to_owned()),
        ("executor_shutdown_grace_period", "5secs".to_owned()),
        ("hostname", shared.executors.hostname().to_owned()),
        ("ip", shared.host_ips.first().cloned().unwrap_or_default()),
        ("recover", "reconnect".to_owned()),
        ("recovery_timeout", "15mins".to_owned()),
        ("resources", options.resources.clone().unwrap_or_default()),
        ("sandbox_directory", "/mnt/mesos/sandbox".to_owned()),
        ("work_dir", options.data_dir.display().to_string()),
    ]
    .into();
    if let Some(address) = shared.executors.announced() {
        out.insert("port", address.port().to_string());
    }
    out
}

/// `/state`.
pub(crate) fn state(shared: &Shared, asker: &Asker) -> Value {
    let mut frameworks: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in shared.tasks.list().into_iter().filter(|e| asker.may_view_framework(e)) {
        frameworks.entry(entry.framework.clone()).or_default().push(entry);
    }
    let (live, completed): (Vec<_>, Vec<_>) =
        frameworks.values().partition(|entries| entries.iter().any(Entry::is_live));
    let view = |entries: &&Vec<Entry>| view_framework(shared, entries, asker);
    let total = resources(shared);
    let flags = if asker.may(Action::ViewFlags, "*") { flags(shared) } else { BTreeMap::new() };
    let mut out = version(shared);
    for (key, value) in [
        ("id", json!(shared.options.name)),
        ("pid", json!(pid(shared))),
        ("git_sha", json!("")),
        ("git_branch", json!("")),
        ("git_tag", json!(stoa_mesos::VERSION)),
        ("hostname", json!(shared.executors.hostname())),
        ("master_hostname", json!(master_host(shared))),
        ("start_time", json!(shared.started.as_secs_f64())),
        ("capabilities", json!(CAPABILITIES)),
        ("resources", flat(&total)),
        ("unreserved_resources", flat(&total)),
        ("unreserved_resources_full", json!(stoa_mesos::resource::list(&total, None))),
        ("reserved_resources", json!({})),
        ("reserved_resources_full", json!({})),
        ("attributes", attributes(shared)),
        ("domain", json!({})),
        ("log_dir", json!("")),
        ("resource_providers", json!([])),
        ("flags", json!(flags)),
        ("frameworks", live.iter().map(view).collect()),
        ("completed_frameworks", completed.iter().map(view).collect()),
    ] {
        out[key] = value;
    }
    out
}

fn master_host(shared: &Shared) -> String {
    let first = shared.options.masters.first().and_then(|m| m.parse::<http::Uri>().ok());
    first.and_then(|u| u.host().map(str::to_owned)).unwrap_or_default()
}

pub(crate) fn attributes(shared: &Shared) -> Value {
    let text = shared.options.attributes.as_deref().unwrap_or_default();
    let pairs = text.split(';').filter_map(|p| p.split_once(':'));
    let all: serde_json::Map<String, Value> =
        pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().into())).collect();
    all.into()
}

/// Where the agent's API is said to be.
pub(crate) fn pid(shared: &Shared) -> String {
    let endpoint = shared.executors.announced().map(|e| e.to_string()).unwrap_or_default();
    format!("slave(1)@{endpoint}")
}

/// What the machine gives to the pool.
pub(crate) fn resources(shared: &Shared) -> Resources {
    let mut out = Resources::default();
    for (name, text) in shared.allocatable.iter().filter(|(name, _)| *name != "pods") {
        if let Ok(q) = Quantity::parse(text) {
            out.add_quantity(name, &q);
        }
    }
    out
}

fn view_framework(shared: &Shared, entries: &[Entry], asker: &Asker) -> Value {
    let first = entries.first();
    let info = entries.iter().find_map(|e| e.framework_info.as_ref());
    let id = first.map_or("", |e| e.framework.as_str());
    let seen = entries.iter().filter(|e| asker.may_view_executor(e));
    let (live, completed): (Vec<&Entry>, Vec<&Entry>) = seen.partition(|e| e.is_live());
    let view = |e: &&Entry| view_executor(shared, e, asker);
    let mut out = json!({
        "id": id, "name": info.map_or(id, |i| i.name.as_str()),
        "user": first.map_or("", |e| e.framework_user.as_str()),
        "failover_timeout": info.and_then(|i| i.failover_timeout).map_or(0.0, |t| t.0),
        "checkpoint": info.and_then(|i| i.checkpoint).unwrap_or(false),
        "hostname": info.and_then(|i| i.hostname.clone()).unwrap_or_default(),
        "executors": live.iter().map(view).collect::<Vec<_>>(),
        "completed_executors": completed.iter().map(view).collect::<Vec<_>>(),
    });
    if let Some(info) = info {
        out["capabilities"] = info.capabilities.iter().map(|c| c.kind.as_str()).collect();
        if let Some(principal) = &info.principal {
            out["principal"] = principal.as_str().into();
        }
    }
    match info.filter(|i| i.has(stoa_mesos::Capability::MultiRole)) {
        Some(info) => out["roles"] = info.subscribed_roles().into(),
        None => out["role"] = first.map_or("*", |e| e.role.as_str()).into(),
    }
    out
}

/// A task of an entry, however it is run.
pub(crate) struct TaskView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: stoa_mesos::TaskState,
    pub(crate) resources: Value,
    pub(crate) flat: Value,
    pub(crate) since: Option<f64>,
    pub(crate) container: Option<String>,
}

/// The tasks of a pod: its containers, or what its executor was given.
pub(crate) fn tasks_of(shared: &Shared, entry: &Entry) -> Vec<TaskView> {
    if entry.is_executor {
        let all = shared.executors.tasks_of(&entry.uid);
        return all
            .into_iter()
            .map(|t| TaskView {
                id: t.id.to_string(),
                name: t.name,
                state: t.state,
                flat: flat(&t.amount),
                resources: json!(t.resources),
                since: None,
                container: None,
            })
            .collect();
    }
    let one = |c: &Container| TaskView {
        id: c.task.clone(),
        name: if entry.name.is_empty() { c.task.clone() } else { entry.name.clone() },
        state: c.state,
        flat: flat(&c.resources),
        resources: json!(stoa_mesos::resource::list(&c.resources, None)),
        since: c.since.map(|t| t.as_secs_f64()),
        container: c.id.clone(),
    };
    entry.containers.iter().map(one).collect()
}

fn view_executor(shared: &Shared, entry: &Entry, asker: &Asker) -> Value {
    let task = |t: &TaskView| {
        let statuses = t.since.map(|at| json!({"state": t.state.as_str(), "timestamp": at}));
        json!({"id": t.id, "name": t.name, "framework_id": entry.framework, "executor_id": entry.executor,
            "slave_id": shared.options.name, "state": t.state.as_str(), "role": entry.role, "resources": t.flat,
            "statuses": statuses.into_iter().collect::<Vec<_>>()})
    };
    let tasks = if asker.may_view_task(entry) { tasks_of(shared, entry) } else { vec![] };
    let pick = |is_over: bool| -> Vec<Value> {
        tasks.iter().filter(|t| t.state.is_terminal() == is_over).map(task).collect()
    };
    let info = entry.executor_info.as_ref();
    let name = info.and_then(|i| i.name.clone()).unwrap_or_else(|| entry.name.clone());
    let source = info.and_then(|i| i.source.clone()).unwrap_or_else(|| entry.executor.clone());
    json!({
        "id": entry.executor, "name": name, "source": source,
        "type": if entry.is_executor { "CUSTOM" } else { "DEFAULT" },
        "container": entry.uid, "directory": entry.directory.display().to_string(),
        "resources": flat(&entry.resources()), "role": entry.role, "labels": [],
        "tasks": pick(false), "queued_tasks": [], "completed_tasks": pick(true),
        // Where its output is, in the other face's words.
        "pod": {"namespace": entry.namespace, "name": entry.pod},
    })
}

/// `/containers`: one for each executor, as Mesos counts them.
pub(crate) fn containers(shared: &Shared, asker: &Asker) -> Value {
    let all = shared.tasks.containers();
    let live = all.iter().filter(|e| e.is_running() && asker.may_view_container(e));
    live.map(|e| {
        let mut out = usage(shared, e);
        out["container_id"] = e.container_id().into();
        out["status"] = status(e);
        out
    })
    .collect()
}

/// `/monitor/statistics`.
pub(crate) fn statistics(shared: &Shared, asker: &Asker) -> Value {
    let all = shared.tasks.list();
    all.iter().filter(|e| e.is_running() && asker.may_view_container(e)).map(|e| usage(shared, e)).collect()
}

fn usage(shared: &Shared, e: &Entry) -> Value {
    let mut out = json!({"statistics": figures::statistics(shared, e)});
    if !e.is_standalone {
        for (key, value) in [
            ("framework_id", &e.framework),
            ("executor_id", &e.executor),
            ("executor_name", &e.name),
            ("source", &e.executor),
        ] {
            out[key] = value.as_str().into();
        }
    }
    out
}

/// A container's status, as updates have it.
pub(crate) fn status(entry: &Entry) -> Value {
    let address =
        |ip: &String| json!({"protocol": if ip.contains(':') { "IPv6" } else { "IPv4" }, "ip_address": ip});
    let addresses: Vec<Value> = entry.ips.iter().map(address).collect();
    json!({"container_id": {"value": entry.container_id()}, "network_infos": [{"ip_addresses": addresses}]})
}
