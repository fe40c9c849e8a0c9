//! The read-outs of the v1 operator API, in the messages' JSON form, filtered by what the asker may see.

use crate::framework::Framework;
use crate::master::Master;
use crate::rules::{Away, Machine, RoleQuota};
use crate::state::{Agent, State};
use crate::task::Task;
use crate::view::{KUBERNETES, PodTask};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stoa_authz::Action;
use stoa_ledger::{Holder, Ledger};
use stoa_mesos::mark::{Format, Mark};
use stoa_mesos::resource::list;
use stoa_units::{AgentId, Resources};

/// Whose eyes a report is for.
#[derive(Clone, Copy)]
pub(crate) struct Viewer<'a> {
    pub master: &'a Master,
    pub principal: Option<&'a str>,
}

impl Viewer<'_> {
    pub fn may(&self, action: Action, object: &str) -> bool {
        self.master.options.acls.may(self.principal, action, Some(object))
    }

    pub fn may_view_framework(&self, f: &Framework) -> bool {
        self.may(Action::ViewFramework, &f.record.info.user)
    }

    pub fn may_view_task(&self, f: &Framework, task: &Task) -> bool {
        self.may_view_framework(f) && self.may(Action::ViewTask, task_user(f, task))
    }

    pub fn may_view_pods(&self) -> bool {
        self.may(Action::ViewFramework, "root") && self.may(Action::ViewTask, "root")
    }
}

/// An object of parts that are moved into it. `json!` would copy each, which is all of the cluster here.
pub(crate) fn object<const N: usize>(parts: [(&str, Value); N]) -> Value {
    parts.into_iter().map(|(name, part)| (name.to_string(), part)).collect::<serde_json::Map<_, _>>().into()
}

/// As whom a task runs.
pub(crate) fn task_user<'a>(f: &'a Framework, task: &'a Task) -> &'a str {
    let own = task.record.task.command.as_ref().and_then(|c| c.user.as_deref());
    own.unwrap_or(&f.record.info.user)
}

/// What of an agent is used, and what is offered, each as a list with marks.
pub(crate) fn held(state: &State, ledger: &Ledger, id: &AgentId, of: fn(&Holder) -> bool) -> Vec<Value> {
    let mut plain = Resources::default();
    let mut drawn: BTreeMap<std::sync::Arc<str>, Resources> = BTreeMap::new();
    for (holder, _) in ledger.claims(id).filter(|(h, _)| of(h)) {
        plain = plain.plus(&ledger.unreserved(holder).unwrap_or_default());
        for (name, part) in ledger.draws(holder) {
            let sum = drawn.entry(name.clone()).or_default();
            *sum = sum.plus(part);
        }
    }
    let mut out = list(&plain, None);
    for (name, part) in drawn {
        if let Some(mark) = state.mark(id, &name) {
            out.extend(mark.list(&part, None, Format::Both));
        }
    }
    out.iter().filter_map(|r| serde_json::to_value(r).ok()).collect()
}

pub(crate) fn is_offer(holder: &Holder) -> bool {
    matches!(holder, Holder::Offer(_))
}

pub(crate) fn is_pod(holder: &Holder) -> bool {
    matches!(holder, Holder::Pod(_))
}

/// All of an agent: what is unreserved, and every pool.
pub(crate) fn total(state: &State, ledger: &Ledger, id: &AgentId) -> Vec<Value> {
    let mut rest = ledger.agent(id).map(|a| a.capacity).unwrap_or_default();
    let mut marked = Vec::new();
    for (name, pool) in ledger.pools(id) {
        if pool.kind != stoa_ledger::PoolKind::Spare {
            rest = rest.minus(&pool.total);
        }
        if let Some(mark) = state.mark(id, name) {
            marked.extend(mark.list(&pool.total, None, Format::Both));
        }
    }
    let mut out = list(&rest, None);
    out.extend(marked);
    out.iter().filter_map(|r| serde_json::to_value(r).ok()).collect()
}

/// The capabilities that agents are said to have.
pub(crate) const AGENT_CAPABILITIES: [&str; 5] =
    ["MULTI_ROLE", "HIERARCHICAL_ROLE", "RESERVATION_REFINEMENT", "RESIZE_VOLUME", "AGENT_DRAINING"];

pub(crate) fn drain_info(state: &State, id: &AgentId) -> Option<Value> {
    let drain = state.rules.drains.get(id)?;
    let mut config = json!({"mark_gone": drain.mark_gone});
    if let Some(grace) = drain.grace {
        config["max_grace_period"] = json!({"nanoseconds": grace});
    }
    Some(json!({"state": if drain.is_drained { "DRAINED" } else { "DRAINING" }, "config": config}))
}

pub(crate) fn domain(agent: &Agent) -> Option<Value> {
    let region = agent.region.as_ref()?;
    let zone = agent.zone.clone().unwrap_or_default();
    Some(json!({"fault_domain": {"region": {"name": region}, "zone": {"name": zone}}}))
}

pub(crate) fn v1_agent(state: &State, ledger: &Ledger, id: &AgentId, agent: &Agent) -> Value {
    let since = crate::watch::time_info(agent.since);
    let capabilities: Vec<Value> = AGENT_CAPABILITIES.iter().map(|c| json!({"type": c})).collect();
    let total = total(state, ledger, id);
    let mut out = json!({
        "agent_info": {"id": {"value": id.as_str()}, "hostname": agent.hostname, "port": agent.port(),
            "resources": total, "attributes": agent.attributes},
        "active": agent.is_ready && ledger.is_active(id), "deactivated": state.rules.deactivated.contains(id),
        "version": stoa_mesos::VERSION,
        "pid": agent.pid(),
        "registered_time": since, "reregistered_time": since, "total_resources": total,
        "allocated_resources": held(state, ledger, id, is_pod), "offered_resources": held(state, ledger, id, is_offer),
        "capabilities": capabilities,
    });
    if let Some(domain) = domain(agent) {
        out["agent_info"]["domain"] = domain;
    }
    if let Some(info) = drain_info(state, id) {
        out["drain_info"] = info;
        if let Some(drain) = state.rules.drains.get(id) {
            out["estimated_drain_start_time"] = json!(crate::watch::time_info(drain.started));
        }
    }
    out
}

pub(crate) fn v1_framework(state: &State, ledger: &Ledger, f: &Framework) -> Value {
    let mut used = Resources::default();
    for task in f.live_tasks() {
        used = used.plus(&task.record.resources);
    }
    let offers: Vec<Value> = f
        .offers
        .iter()
        .filter_map(|o| crate::cycle::render_offer(state, ledger, o))
        .filter_map(|o| serde_json::to_value(o).ok())
        .collect();
    let offered: Vec<Value> =
        offers.iter().flat_map(|o| o["resources"].as_array().cloned().unwrap_or_default()).collect();
    let mut out = json!({
        "framework_info": f.record.info, "active": f.is_connected(), "connected": f.is_connected(),
        "recovered": !f.is_connected() && !f.is_removed(),
        "registered_time": crate::watch::time_info(f.record.registered),
        "reregistered_time": crate::watch::time_info(f.record.reregistered),
        "allocated_resources": list(&used, None), "offered_resources": offered, "offers": offers,
    });
    if let Some(at) = f.record.removed {
        out["unregistered_time"] = json!(crate::watch::time_info(at));
    }
    if let Some(constraints) = &f.record.offer_constraints {
        out["offer_constraints"] = constraints.clone();
    }
    out
}

pub(crate) fn v1_task(f: &Framework, task: &Task) -> Value {
    let r = &task.record;
    let mut out = json!({
        "name": r.task.name, "task_id": r.task.task_id, "framework_id": {"value": r.framework},
        "agent_id": {"value": r.agent}, "state": task.state, "resources": r.task.resources,
        "statuses": task.statuses(), "user": task_user(f, task),
    });
    if let Some(s) = &task.status {
        out["status_update_state"] = json!(s.state);
        if let Some(uuid) = &s.uuid {
            out["status_update_uuid"] = json!(uuid);
        }
    }
    for (name, part) in [
        ("labels", serde_json::to_value(&r.task.labels)),
        ("discovery", serde_json::to_value(&r.task.discovery)),
        ("container", serde_json::to_value(&r.task.container)),
        ("health_check", serde_json::to_value(&r.task.health_check)),
        ("kill_policy", serde_json::to_value(&r.task.kill_policy)),
        ("limits", serde_json::to_value(&r.task.limits)),
    ] {
        match part {
            Ok(value) if !value.is_null() && value.as_object().is_none_or(|o| !o.is_empty()) => {
                out[name] = value;
            }
            _ => {}
        }
    }
    out
}

pub(crate) fn v1_pod(p: &PodTask) -> Value {
    let labels: Vec<Value> = p.labels.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
    let status = json!({"task_id": {"value": p.id}, "state": p.state, "agent_id": {"value": p.agent},
        "timestamp": p.since.unwrap_or(0.0)});
    json!({
        "name": p.name, "task_id": {"value": p.id}, "framework_id": {"value": KUBERNETES},
        "agent_id": {"value": p.agent}, "state": p.state, "resources": list(&p.resources, None),
        "statuses": [status], "labels": {"labels": labels}, "user": "root",
    })
}

pub(crate) fn unavailability(away: &Away) -> Value {
    let mut out = json!({"start": {"nanoseconds": away.start}});
    if let Some(duration) = away.duration {
        out["duration"] = json!({"nanoseconds": duration});
    }
    out
}

/// A role's quota, as it was set.
pub(crate) fn quota_config(role: &str, quota: &RoleQuota) -> Value {
    let scalars = |amounts: &BTreeMap<String, f64>| -> BTreeMap<String, Value> {
        amounts.iter().map(|(name, v)| (name.clone(), json!({"value": v}))).collect()
    };
    json!({"role": role, "guarantees": scalars(&quota.guarantees), "limits": scalars(&quota.limits)})
}

/// The same in the shape of before limits.
pub(crate) fn quota_info(role: &str, quota: &RoleQuota) -> Value {
    let guarantee: Vec<Value> = quota
        .guarantees
        .iter()
        .map(|(name, v)| json!({"name": name, "type": "SCALAR", "scalar": {"value": v}, "role": "*"}))
        .collect();
    let mut out = json!({"role": role, "guarantee": guarantee});
    if let Some(principal) = &quota.principal {
        out["principal"] = json!(principal);
    }
    out
}

impl Master {
    /// A part of the read-outs by its name; `None` if there is no such part.
    pub fn report(&self, part: &str, viewer: Viewer<'_>) -> Option<Value> {
        Some(match part {
            "get_health" => json!({"healthy": true}),
            "get_version" => json!({"version_info": crate::view::version(self.started)}),
            "get_flags" => {
                let flags = self.flags();
                let flags = flags.iter().filter(|_| viewer.may(Action::ViewFlags, "*"));
                json!({"flags": flags.map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>()})
            }
            "get_metrics" => {
                let metrics = self.view_metrics();
                let metrics = metrics.as_object().into_iter().flatten();
                json!({"metrics": metrics.map(|(k, v)| json!({"name": k, "value": v})).collect::<Vec<_>>()})
            }
            "get_logging_level" => {
                json!({"level": self.options.verbosity.level(self.now())})
            }
            "get_master" => json!({"master_info": self.info(), "start_time": self.started.as_secs_f64(),
                "elected_time": self.started.as_secs_f64()}),
            "get_state" => self.report_state(viewer),
            "get_agents" => self.report_agents(&self.state.lock()),
            "get_frameworks" => self.report_frameworks(&self.state.lock(), viewer),
            "get_tasks" => {
                let pods = self.pod_tasks();
                report_tasks(&self.state.lock(), &pods, viewer)
            }
            "get_executors" => report_executors(&self.state.lock(), viewer),
            "get_operations" => json!({"operations": self.state.lock().view_operations()}),
            "get_roles" => self.report_roles(viewer),
            "get_weights" => {
                let weights = self.weights();
                let weights = weights.iter().filter(|(role, _)| viewer.may(Action::ViewRole, role));
                let one = |(role, weight): (&String, &f64)| json!({"role": role, "weight": weight});
                json!({"weight_infos": weights.map(one).collect::<Vec<_>>()})
            }
            "get_quota" => {
                let state = self.state.lock();
                let seen: Vec<(&String, &RoleQuota)> = state
                    .rules
                    .quotas
                    .iter()
                    .filter(|(role, _)| viewer.may(Action::GetQuota, role))
                    .collect();
                json!({"status": {
                    "infos": seen.iter().map(|(role, q)| quota_info(role, q)).collect::<Vec<_>>(),
                    "configs": seen.iter().map(|(role, q)| quota_config(role, q)).collect::<Vec<_>>(),
                }})
            }
            "get_maintenance_schedule" => json!({"schedule": self.view_schedule(viewer)}),
            "get_maintenance_status" => json!({"status": self.view_maintenance(viewer)}),
            _ => return None,
        })
    }

    /// Everything at one moment.
    pub fn report_state(&self, viewer: Viewer<'_>) -> Value {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        object([
            ("get_tasks", report_tasks(&state, &pods, viewer)),
            ("get_executors", report_executors(&state, viewer)),
            ("get_frameworks", self.report_frameworks(&state, viewer)),
            ("get_agents", self.report_agents(&state)),
        ])
    }

    fn report_agents(&self, state: &State) -> Value {
        let ledger = self.ledger.lock();
        let agents: Vec<Value> =
            state.agents.iter().map(|(id, agent)| v1_agent(state, &ledger, id, agent)).collect();
        object([("agents", agents.into()), ("recovered_agents", json!([]))])
    }

    fn report_frameworks(&self, state: &State, viewer: Viewer<'_>) -> Value {
        let ledger = self.ledger.lock();
        let (mut active, mut completed) = (Vec::new(), Vec::new());
        for f in state.frameworks.values().filter(|f| viewer.may_view_framework(f)) {
            let entry = v1_framework(state, &ledger, f);
            if f.is_removed() { completed.push(entry) } else { active.push(entry) }
        }
        if viewer.may_view_pods() {
            active.push(json!({
                "framework_info": {"id": {"value": KUBERNETES}, "name": KUBERNETES, "user": "root"},
                "active": true, "connected": true, "recovered": false,
            }));
        }
        object([
            ("frameworks", active.into()),
            ("completed_frameworks", completed.into()),
            ("recovered_frameworks", json!([])),
        ])
    }

    fn report_roles(&self, viewer: Viewer<'_>) -> Value {
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let mut roles: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for f in state.frameworks.values().filter(|f| !f.is_removed()) {
            for role in f.record.info.subscribed_roles() {
                roles.entry(role).or_default().insert(f.record.id.to_string());
            }
        }
        for name in self
            .options
            .weights
            .iter()
            .map(|(r, _)| r)
            .chain(state.rules.weights.keys())
            .chain(state.rules.quotas.keys())
        {
            roles.entry(name.clone()).or_default();
        }
        for (role, _) in ledger.usages() {
            roles.entry(role.to_string()).or_default();
        }
        let one = |(name, frameworks): (String, BTreeSet<String>)| {
            let usage = ledger.usage(&name);
            let frameworks: Vec<Value> = frameworks.into_iter().map(|f| json!({"value": f})).collect();
            json!({"name": name, "weight": state.weight_of(&self.options, &name), "frameworks": frameworks,
                "resources": list(&usage.pods.plus(&usage.offers), None)})
        };
        let seen = roles.into_iter().filter(|(name, _)| viewer.may(Action::ViewRole, name));
        json!({"roles": seen.map(one).collect::<Vec<_>>()})
    }

    /// Every role whose weight was set.
    pub fn weights(&self) -> BTreeMap<String, f64> {
        let mut out: BTreeMap<String, f64> = self.options.weights.iter().cloned().collect();
        out.extend(self.state.lock().rules.weights.clone());
        out
    }

    /// The options that others may see, by Mesos' names.
    pub fn flags(&self) -> Vec<(&'static str, String)> {
        let info = self.info();
        vec![
            ("allocation_interval", "1secs".into()),
            ("authenticate_frameworks", (self.options.anonymous == crate::Anonymous::Refuse).to_string()),
            ("authenticate_http_readonly", (self.options.anonymous == crate::Anonymous::Refuse).to_string()),
            ("authenticate_http_readwrite", (self.options.anonymous == crate::Anonymous::Refuse).to_string()),
            ("cluster", self.options.cluster.clone()),
            ("hostname", self.options.hostname.clone()),
            ("max_completed_frameworks", "50".into()),
            ("max_completed_tasks_per_framework", self.options.completed_tasks_max.to_string()),
            ("port", info.port.to_string()),
            ("version", "false".into()),
        ]
    }

    /// The maintenance schedule, as far as the viewer may see it.
    pub fn view_schedule(&self, viewer: Viewer<'_>) -> Value {
        let state = self.state.lock();
        let may = |m: &Machine| viewer.may(Action::GetMaintenanceSchedule, &m.hostname);
        let windows: Vec<Value> = state
            .rules
            .windows
            .iter()
            .filter_map(|w| {
                let machines: Vec<&Machine> = w.machines.iter().filter(|m| may(m)).collect();
                if machines.is_empty() {
                    return None;
                }
                Some(json!({"machine_ids": machines, "unavailability": unavailability(&w.away)}))
            })
            .collect();
        json!({"windows": windows})
    }

    /// Which machines are to be maintained and which are.
    pub fn view_maintenance(&self, viewer: Viewer<'_>) -> Value {
        let state = self.state.lock();
        let may = |m: &Machine| viewer.may(Action::GetMaintenanceStatus, &m.hostname);
        let scheduled = state.rules.windows.iter().flat_map(|w| &w.machines);
        let draining: Vec<Value> = scheduled
            .filter(|m| !state.rules.down.contains(m) && may(m))
            .map(|m| json!({"id": m, "statuses": state.inverse_statuses(m)}))
            .collect();
        let down: Vec<&Machine> = state.rules.down.iter().filter(|m| may(m)).collect();
        json!({"draining_machines": draining, "down_machines": down})
    }
}

fn report_tasks(state: &State, pods: &[PodTask], viewer: Viewer<'_>) -> Value {
    let (mut live, mut away, mut done) = (Vec::new(), Vec::new(), Vec::new());
    for f in state.frameworks.values() {
        for task in f.tasks.values().filter(|t| viewer.may_view_task(f, t)) {
            let list = match task.state.is_terminal() {
                true => &mut done,
                false if task.is_unreachable => &mut away,
                false => &mut live,
            };
            list.push(v1_task(f, task));
        }
    }
    for p in pods.iter().filter(|_| viewer.may_view_pods()) {
        let list = if p.state.is_terminal() { &mut done } else { &mut live };
        list.push(v1_pod(p));
    }
    object([
        ("tasks", live.into()),
        ("unreachable_tasks", away.into()),
        ("completed_tasks", done.into()),
        ("pending_tasks", json!([])),
        ("orphan_tasks", json!([])),
    ])
}

/// An executor as others see it.
pub(crate) struct Shown {
    /// As v1 says it.
    pub info: Value,
    pub agent: AgentId,
    pub resources: Resources,
    pub is_over: bool,
}

/// A framework's executors: custom ones, and those of task groups.
pub(crate) fn executors_of(state: &State, f: &Framework, viewer: Viewer<'_>) -> Vec<Shown> {
    let id = &f.record.id;
    let mut out = Vec::new();
    for record in state.executors.values().map(|e| &e.record).filter(|r| r.framework == *id) {
        let own = record.info.command.as_ref().and_then(|c| c.user.as_deref());
        if !viewer.may(Action::ViewExecutor, own.unwrap_or(&f.record.info.user)) {
            continue;
        }
        let mut info = serde_json::to_value(&record.info).unwrap_or_default();
        info["framework_id"] = json!({"value": id});
        let (agent, resources) = (record.agent.clone(), record.resources.clone());
        out.push(Shown { info, agent, resources, is_over: record.ended.is_some() });
    }
    let mut groups: BTreeMap<(&AgentId, String), bool> = BTreeMap::new();
    for task in f.tasks.values() {
        let crate::task::Part::Member { executor, .. } = &task.record.part else { continue };
        if viewer.may(Action::ViewExecutor, task_user(f, task)) {
            let is_over = groups.entry((&task.record.agent, executor.to_string())).or_insert(true);
            *is_over &= task.record.ended.is_some();
        }
    }
    for ((agent, executor), is_over) in groups {
        let info = json!({"executor_id": {"value": executor}, "type": "DEFAULT", "framework_id": {"value": id},
            "resources": []});
        out.push(Shown { info, agent: agent.clone(), resources: Resources::default(), is_over });
    }
    out
}

fn report_executors(state: &State, viewer: Viewer<'_>) -> Value {
    let frameworks = state.frameworks.values().filter(|f| viewer.may_view_framework(f));
    let live = frameworks.flat_map(|f| executors_of(state, f, viewer)).filter(|e| !e.is_over);
    let one = |e: Shown| json!({"executor_info": e.info, "agent_id": {"value": e.agent}});
    json!({"executors": live.map(one).collect::<Vec<_>>(), "orphan_executors": []})
}

impl State {
    /// What a pool's name means on an agent, the volume's mount included.
    pub fn mark(&self, agent: &AgentId, name: &str) -> Option<Mark> {
        self.marks.get(agent).and_then(|m| m.get(name)).cloned().or_else(|| Mark::parse(name))
    }

    pub fn weight_of(&self, options: &crate::Options, role: &str) -> f64 {
        let given = || options.weights.iter().find(|(r, _)| r == role).map(|(_, w)| *w);
        self.rules.weights.get(role).copied().or_else(given).unwrap_or(1.0)
    }
}
