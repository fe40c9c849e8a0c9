//! What the legacy endpoints show: one snapshot of the state, in the shapes that tools of Mesos' time read. Pods of the
//! Kubernetes side appear as tasks of a built-in framework, `kubernetes`, read from the same store.

use crate::framework::Framework;
use crate::master::Master;
use crate::pod::FRAMEWORK_LABEL;
use crate::report::{AGENT_CAPABILITIES, Viewer, held, is_offer, is_pod, object};
use crate::show::{Shape, Shown, Whole, WithTasks};
use crate::state::{Agent, State};
use crate::task::Task;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use stoa_authz::Action;
use stoa_kube::typed::Pod;
use stoa_ledger::{Ledger, PoolKind};
use stoa_mesos::mark::Format;
use stoa_mesos::resource::{flat, list};
use stoa_mesos::{Mark, Resource, TaskState};
use stoa_store::Key;
use stoa_units::{AgentId, NamespacedName, OfferId, Quantity, Resources, Time};

/// The name and id of the built-in framework.
pub(crate) const KUBERNETES: &str = "kubernetes";

/// A pod as a task of the built-in framework.
pub(crate) struct PodTask {
    pub id: String,
    pub namespace: String,
    pub name: String,
    pub role: String,
    pub agent: String,
    pub state: TaskState,
    pub resources: Resources,
    pub labels: Vec<(String, String)>,
    pub since: Option<f64>,
}

impl PodTask {
    pub fn full_name(&self) -> NamespacedName {
        NamespacedName::new(self.namespace.as_str(), self.name.as_str())
    }
}

fn seconds(at: Time) -> f64 {
    at.as_secs_f64()
}

/// `/version`, and the same keys in `/state`.
pub(crate) fn version(started: Time) -> Value {
    json!({
        "version": stoa_mesos::VERSION,
        "build_date": started.to_rfc3339_seconds(),
        "build_time": seconds(started),
        "build_user": "stoa",
    })
}

impl Master {
    /// The pods that are not frameworks' tasks and have a machine.
    pub fn pod_tasks(&self) -> Vec<PodTask> {
        let Ok((mut entries, _)) = self.read_all(&Key::prefix("", "pods", "")) else { return vec![] };
        {
            // Those of frameworks may be hundreds of thousands: they are known by name and need not be parsed.
            let state = self.state.lock();
            entries.retain(|e| {
                let name = NamespacedName::new(e.key.namespace(), e.key.name());
                !state.pods.contains_key(&name) && !state.executor_pods.contains_key(&name)
            });
        }
        let pods = entries.iter().filter_map(|e| serde_json::from_slice::<Pod>(&e.value).ok());
        pods.filter_map(|p| pod_task(&p)).collect()
    }

    /// `/state`, which is handed over to be written while nothing changes.
    pub fn view_state<R>(&self, viewer: Viewer<'_>, write: impl FnOnce(&Whole<'_>) -> R) -> R {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let head = self.view_head(&state);
        write(&Whole { master: self, viewer, state: &state, ledger: &ledger, pods: &pods, head })
    }

    fn view_head(&self, state: &State) -> Map<String, Value> {
        let info = self.info();
        let pid = info.pid.clone().unwrap_or_default();
        let active = state.agents.values().filter(|a| a.is_ready).count();
        let Value::Object(mut out) = version(self.started) else { return Map::new() };
        for (key, value) in [
            ("git_sha", json!("")),
            ("git_branch", json!("")),
            ("git_tag", json!(stoa_mesos::VERSION)),
            ("start_time", json!(seconds(self.started))),
            ("elected_time", json!(seconds(self.started))),
            ("id", json!(self.id)),
            ("pid", json!(pid)),
            ("hostname", json!(self.options.hostname)),
            ("capabilities", json!(["AGENT_UPDATE", "AGENT_DRAINING", "QUOTA_V2"])),
            ("activated_slaves", json!(active)),
            ("deactivated_slaves", json!(state.rules.deactivated.len())),
            ("unreachable_slaves", json!(state.agents.len() - active)),
            ("domain", self.domain()),
            ("leader", json!(pid)),
            ("leader_info", json!({"id": info.id, "pid": pid, "port": info.port, "hostname": info.hostname})),
            ("cluster", json!(self.options.cluster)),
            ("log_dir", json!("")),
            ("flags", json!(self.flags().into_iter().collect::<BTreeMap<_, _>>())),
        ] {
            out.insert(key.into(), value);
        }
        out
    }

    /// `/state-summary`.
    pub fn view_summary(&self, viewer: Viewer<'_>) -> Value {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let mut frameworks: Vec<Value> = state
            .frameworks
            .values()
            .filter(|f| !f.is_removed() && viewer.may_view_framework(f))
            .map(|f| {
                let mut out = view_framework(&state, f);
                for none in ["executors", "completed_executors"] {
                    out[none] = json!([]);
                }
                count_states(&mut out, f.tasks.values().map(|t| t.state));
                out
            })
            .collect();
        if viewer.may_view_pods() {
            let mut out = self.view_kubernetes(&pods);
            count_states(&mut out, pods.iter().map(|p| p.state));
            frameworks.push(out);
        }
        object([
            ("hostname", self.options.hostname.as_str().into()),
            ("cluster", self.options.cluster.as_str().into()),
            ("slaves", view_agents(&state, &ledger, &pods).collect::<Vec<_>>().into()),
            ("frameworks", frameworks.into()),
        ])
    }

    /// `/slaves`.
    pub fn view_slaves(&self, only: Option<&str>) -> Value {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let slaves = view_agents(&state, &ledger, &pods).filter(|s| only.is_none_or(|id| s["id"] == id));
        let slaves: Vec<Value> = slaves.collect();
        object([("slaves", slaves.into()), ("recovered_slaves", json!([]))])
    }

    /// `/frameworks`, which is handed over to be written while nothing changes.
    pub fn view_frameworks<R>(
        &self,
        only: Option<&str>,
        viewer: Viewer<'_>,
        write: impl FnOnce(&BTreeMap<&str, Vec<Shown<'_>>>) -> R,
    ) -> R {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        let (mut active, mut completed) = (Vec::new(), Vec::new());
        let is_meant = |f: &&Framework| only.is_none_or(|id| f.record.id.as_str() == id);
        for framework in state.frameworks.values().filter(is_meant).filter(|f| viewer.may_view_framework(f)) {
            let list = if framework.is_removed() { &mut completed } else { &mut active };
            list.push(Shown::Framework(WithTasks { state: &state, framework, viewer }));
        }
        if only.is_none_or(|id| id == KUBERNETES) && viewer.may_view_pods() {
            active.push(Shown::Kubernetes { master: self, pods: &pods });
        }
        let all = [
            ("frameworks", active),
            ("completed_frameworks", completed),
            ("unregistered_frameworks", Vec::new()),
        ];
        write(&BTreeMap::from(all))
    }

    /// Every task, oldest first, for `/tasks`.
    pub fn view_tasks(&self, framework: Option<&str>, task: Option<&str>, viewer: Viewer<'_>) -> Vec<Value> {
        let pods = self.pod_tasks();
        let state = self.state.lock();
        let mut all: Vec<(f64, Value)> = Vec::new();
        for f in state.frameworks.values() {
            let seen = f.tasks.values().filter(|t| viewer.may_view_task(f, t));
            all.extend(seen.map(|t| (seconds(t.record.launched), view_task(t, f))));
        }
        all.extend(
            pods.iter()
                .filter(|_| viewer.may_view_pods())
                .map(|p| (p.since.unwrap_or(0.0), view_pod_task(p))),
        );
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let is_wanted = |v: &Value| {
            framework.is_none_or(|id| v["framework_id"] == id) && task.is_none_or(|id| v["id"] == id)
        };
        all.into_iter().map(|(_, v)| v).filter(is_wanted).collect()
    }

    /// `/roles`.
    pub fn view_roles(&self, viewer: Viewer<'_>) -> Value {
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for f in state.frameworks.values().filter(|f| !f.is_removed()) {
            for role in f.record.info.subscribed_roles() {
                roles.entry(role).or_default().push(f.record.id.to_string());
            }
        }
        let given = self.options.weights.iter().map(|(role, _)| role);
        for role in given.chain(state.rules.weights.keys()).chain(state.rules.quotas.keys()) {
            roles.entry(role.clone()).or_default();
        }
        for (role, _) in ledger.usages() {
            roles.entry(role.to_string()).or_default();
        }
        let consumed = stoa_offers::consumption(&ledger);
        let one = |(name, frameworks): (String, Vec<String>)| {
            let usage = ledger.usage(&name);
            let quota = state.rules.quotas.get(&name).cloned().unwrap_or_default();
            // A nested role counts in the one above; what it consumes itself is shown all the same.
            let consumed = match name.contains('/') {
                true => usage.consumed(),
                false => consumed.get(name.as_str()).cloned().unwrap_or_default(),
            };
            json!({
                "name": name, "weight": state.weight_of(&self.options, &name), "frameworks": frameworks,
                "resources": flat(&usage.pods.plus(&usage.offers)), "offered": flat(&usage.offers),
                "allocated": flat(&usage.pods), "reserved": flat(&usage.reserved),
                "quota": {"role": name, "consumed": flat(&consumed), "guarantee": quota.guarantees, "limit": quota.limits},
            })
        };
        let seen = roles.into_iter().filter(|(role, _)| viewer.may(Action::ViewRole, role));
        json!({"roles": seen.map(one).collect::<Vec<_>>()})
    }

    fn domain(&self) -> Value {
        match &self.options.domain {
            Some((region, zone)) => {
                json!({"fault_domain": {"region": {"name": region}, "zone": {"name": zone}}})
            }
            None => json!({}),
        }
    }

    /// `/metrics/snapshot`.
    pub fn view_metrics(&self) -> Value {
        let state = self.state.lock();
        let ledger = self.ledger.lock();
        let mut out = Map::new();
        let mut put = |name: &str, value: f64| drop(out.insert(name.into(), value.into()));
        let live: Vec<&Framework> = state.frameworks.values().filter(|f| !f.is_removed()).collect();
        let connected = live.iter().filter(|f| f.is_connected()).count();
        put("master/elected", 1.0);
        put("master/uptime_secs", self.now().since(self.started).as_secs_f64());
        put("master/frameworks_connected", connected as f64);
        put("master/frameworks_active", connected as f64);
        put("master/frameworks_disconnected", (live.len() - connected) as f64);
        put("master/frameworks_inactive", (live.len() - connected) as f64);
        put("master/outstanding_offers", state.offers.len() as f64);
        let ready = state.agents.values().filter(|a| a.is_ready).count();
        put("master/slaves_connected", ready as f64);
        put("master/slaves_active", ready as f64);
        put("master/slaves_disconnected", (state.agents.len() - ready) as f64);
        put("master/slaves_inactive", (state.agents.len() - ready) as f64);
        let mut counts: BTreeMap<TaskState, usize> = BTreeMap::new();
        for task in state.frameworks.values().flat_map(|f| f.tasks.values()) {
            *counts.entry(task.state).or_default() += 1;
        }
        for s in TaskState::COUNTED {
            put(&format!("master/{}", s.metric()), counts.get(&s).copied().unwrap_or(0) as f64);
        }
        let away = state.frameworks.values().flat_map(|f| f.tasks.values()).filter(|t| t.is_unreachable);
        put("master/tasks_unreachable", away.count() as f64);
        put("master/slaves_unreachable", (state.agents.len() - ready) as f64);
        put("master/recovery_slave_removals", 0.0);
        for (name, value) in system() {
            put(&format!("system/{name}"), value);
        }
        let total = ledger.total();
        let used = ledger.agents().fold(Resources::default(), |sum, a| sum.plus(&ledger.used(a)));
        let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
        for (name, total, used) in [
            ("cpus", total.milli_cpu as f64 / 1000.0, used.milli_cpu as f64 / 1000.0),
            ("mem", mib(total.memory_bytes), mib(used.memory_bytes)),
            ("disk", mib(total.disk_bytes), mib(used.disk_bytes)),
            (
                "gpus",
                total.extended_milli("gpus") as f64 / 1000.0,
                used.extended_milli("gpus") as f64 / 1000.0,
            ),
        ] {
            put(&format!("master/{name}_total"), total);
            put(&format!("master/{name}_used"), used);
            put(&format!("master/{name}_percent"), if total > 0.0 { used / total } else { 0.0 });
        }
        out.into()
    }

    /// The built-in framework without its tasks.
    pub fn view_kubernetes(&self, pods: &[PodTask]) -> Value {
        let live = pods.iter().filter(|p| !p.state.is_terminal());
        let used = live.clone().fold(Resources::default(), |sum, p| sum.plus(&p.resources));
        let roles: std::collections::BTreeSet<&str> = pods.iter().map(|p| p.role.as_str()).collect();
        json!({
            "id": KUBERNETES, "name": KUBERNETES, "pid": "", "user": "root", "failover_timeout": 0.0,
            "checkpoint": true, "registered_time": seconds(self.started), "unregistered_time": 0.0,
            "active": true, "connected": true, "recovered": false, "hostname": self.options.hostname,
            "webui_url": "", "capabilities": ["MULTI_ROLE", "PARTITION_AWARE"], "roles": roles,
            "resources": flat(&used), "used_resources": flat(&used), "offered_resources": flat(&Resources::default()),
            "offers": [], "executors": [], "labels": [], "unreachable_tasks": [],
        })
    }
}

fn count_states(out: &mut Value, states: impl Iterator<Item = TaskState>) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in [
        "TASK_STAGING",
        "TASK_STARTING",
        "TASK_RUNNING",
        "TASK_KILLING",
        "TASK_FINISHED",
        "TASK_KILLED",
        "TASK_FAILED",
        "TASK_LOST",
        "TASK_ERROR",
    ] {
        counts.insert(name, 0);
    }
    for s in states {
        *counts.entry(s.as_str()).or_default() += 1;
    }
    for (name, n) in counts {
        out[name] = n.into();
    }
}

/// A framework without its tasks, offers and executors.
pub(crate) fn view_framework(state: &State, f: &Framework) -> Value {
    let info = &f.record.info;
    let used = f.live_tasks().fold(Resources::default(), |sum, t| sum.plus(&t.record.resources));
    let offered = f
        .offers
        .iter()
        .filter_map(|o| state.offers.get(o))
        .fold(Resources::default(), |sum, o| sum.plus(&o.resources));
    let mut out = json!({
        "id": f.record.id.as_str(), "name": info.name, "pid": "", "user": info.user,
        "failover_timeout": info.failover_timeout.map_or(0.0, |t| t.0),
        "checkpoint": info.checkpoint.unwrap_or(false),
        "registered_time": seconds(f.record.registered),
        "reregistered_time": seconds(f.record.reregistered),
        "unregistered_time": f.record.removed.map_or(0.0, seconds),
        "active": f.is_connected(), "connected": f.is_connected(),
        "recovered": !f.is_connected() && !f.is_removed(),
        "hostname": info.hostname.clone().unwrap_or_default(),
        "webui_url": info.webui_url.clone().unwrap_or_default(),
        "principal": info.principal.clone().unwrap_or_default(),
        "capabilities": info.capabilities.iter().map(|c| c.kind.as_str()).collect::<Vec<_>>(),
        "resources": flat(&used.plus(&offered)), "used_resources": flat(&used), "offered_resources": flat(&offered),
        "labels": info.labels.as_ref().map(|l| l.labels.clone()).unwrap_or_default(),
        "offer_constraints": f.record.offer_constraints.clone().unwrap_or_else(|| json!({})),
    });
    if info.has(stoa_mesos::Capability::MultiRole) {
        out["roles"] = info.subscribed_roles().into();
    } else {
        out["role"] = info.subscribed_roles().into_iter().next().unwrap_or_default().into();
    }
    out
}

pub(crate) fn view_offer(state: &State, id: &OfferId) -> Option<Value> {
    let o = state.offers.get(id)?;
    Some(json!({"id": id.as_str(), "framework_id": o.framework.as_str(), "slave_id": o.agent.as_str(),
        "allocation_info": {"role": &*o.role}, "resources": flat(&o.resources)}))
}

/// An executor in the flat form: whatever it is in v1, with ids as texts.
pub(crate) fn view_executor(e: &crate::report::Shown) -> Value {
    let mut out = e.info.clone();
    for id in ["executor_id", "framework_id"] {
        out[id] = out[id]["value"].take();
    }
    out["slave_id"] = e.agent.as_str().into();
    out["resources"] = flat(&e.resources);
    for key in ["name", "source"] {
        if out[key].is_null() {
            out[key] = "".into();
        }
    }
    out["labels"] = out["labels"]["labels"].as_array().cloned().unwrap_or_default().into();
    out
}

fn view_task(task: &Task, framework: &Framework) -> Value {
    serde_json::to_value(Shape { task, framework }).unwrap_or_default()
}

/// `/system/stats`: the machine that the master is on.
pub(crate) fn view_system() -> Value {
    let mut out = Map::new();
    for (name, value) in system() {
        let name = name.replace("load_", "avg_load_");
        out.insert(name, value.into());
    }
    out.into()
}

/// What the kernel says of this machine.
fn system() -> Vec<(String, f64)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let mut out = vec![("cpus_total".to_string(), cpus)];
    let load = read("/proc/loadavg");
    for (name, value) in ["1min", "5min", "15min"].iter().zip(load.split_whitespace()) {
        out.extend(value.parse().ok().map(|v| (format!("load_{name}"), v)));
    }
    let memory = read("/proc/meminfo");
    for (name, field) in [("mem_total_bytes", "MemTotal:"), ("mem_free_bytes", "MemFree:")] {
        let line = memory.lines().find_map(|l| l.strip_prefix(field));
        let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<f64>().ok());
        out.extend(kib.map(|kib| (name.to_string(), kib * 1024.0)));
    }
    out
}

pub(crate) fn view_pod_task(p: &PodTask) -> Value {
    let labels: Vec<Value> = p.labels.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
    json!({
        "id": p.id, "name": p.name, "framework_id": KUBERNETES, "executor_id": "", "slave_id": p.agent,
        "state": p.state.as_str(), "resources": flat(&p.resources), "limits": {}, "role": p.role, "user": "",
        "statuses": [{"state": p.state.as_str(), "timestamp": p.since.unwrap_or(0.0)}], "labels": labels,
    })
}

pub(crate) fn pod_task(pod: &Pod) -> Option<PodTask> {
    let meta = &pod.metadata;
    let labels = meta.labels.clone().unwrap_or_default();
    if labels.contains_key(FRAMEWORK_LABEL) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let agent = spec.node_name.clone().filter(|n| !n.is_empty())?;
    let status = pod.status.as_ref();
    let state = match status.and_then(|s| s.phase.as_deref()) {
        Some("Running") if meta.deletion_timestamp.is_some() => TaskState::Killing,
        Some("Running") => TaskState::Running,
        Some("Succeeded") => TaskState::Finished,
        Some("Failed") => TaskState::Failed,
        _ if status.is_some_and(|s| s.start_time.is_some()) => TaskState::Starting,
        _ => TaskState::Staging,
    };
    let mut resources = Resources { pods: 1, ..Default::default() };
    for container in &spec.containers {
        for (name, quantity) in container.resources.iter().filter_map(|r| r.requests.as_ref()).flatten() {
            if let Ok(q) = Quantity::parse(&quantity.0) {
                resources.add_quantity(name, &q);
            }
        }
    }
    let namespace = meta.namespace.clone().unwrap_or_default();
    let name = meta.name.clone().unwrap_or_default();
    Some(PodTask {
        id: format!("{namespace}.{name}"),
        role: format!("kubernetes/{namespace}"),
        namespace,
        name,
        agent,
        state,
        resources,
        labels: labels.into_iter().collect(),
        since: meta.creation_timestamp.as_ref().map(|t| t.0.as_nanosecond() as f64 / 1e9),
    })
}

/// Every agent with the numbers of its tasks, each made when it is asked for.
pub(crate) fn view_agents<'a>(
    state: &'a State,
    ledger: &'a Ledger,
    pods: &'a [PodTask],
) -> impl Iterator<Item = Value> + use<'a> {
    let mut states: HashMap<&str, Vec<TaskState>> = HashMap::with_capacity(state.agents.len());
    let of_tasks = state.frameworks.values().flat_map(|f| f.tasks.values());
    let of_tasks = of_tasks.map(|t| (t.record.agent.as_str(), t.state));
    for (agent, state) in of_tasks.chain(pods.iter().map(|p| (p.agent.as_str(), p.state))) {
        states.entry(agent).or_default().push(state);
    }
    state.agents.iter().map(move |(id, agent)| {
        let mut out = view_agent(state, id, agent, ledger);
        count_states(&mut out, states.remove(id.as_str()).into_iter().flatten());
        out
    })
}

fn view_agent(state: &State, id: &AgentId, agent: &Agent, ledger: &Ledger) -> Value {
    let capacity = ledger.agent(id).map(|a| a.capacity).unwrap_or_default();
    let (mut used, mut offered) = (Resources::default(), Resources::default());
    for (holder, amount) in ledger.claims(id) {
        let sum = match holder {
            stoa_ledger::Holder::Offer(_) => &mut offered,
            stoa_ledger::Holder::Pod(_) => &mut used,
            stoa_ledger::Holder::Pool(..) => continue,
        };
        *sum = sum.plus(amount);
    }
    let attributes: Map<String, Value> = agent
        .attributes
        .iter()
        .map(|a| (a.name.clone(), a.text.as_ref().map(|t| t.value.clone()).unwrap_or_default().into()))
        .collect();
    let (mut reserved, mut reserved_full): (BTreeMap<String, Resources>, Map<String, Value>) =
        Default::default();
    let mut unreserved = capacity.clone();
    let lent_name = Mark::lent().name();
    let lent = ledger.pool(id, &lent_name).map(|p| p.total.clone()).unwrap_or_default();
    for (name, pool) in ledger.pools(id).filter(|(_, p)| p.kind != PoolKind::Spare) {
        unreserved = unreserved.minus(&pool.total);
        let sum = reserved.entry(pool.role.to_string()).or_default();
        *sum = sum.plus(&pool.total);
        let Some(mark) = state.mark(id, name) else { continue };
        let shown = mark.list(&pool.total, None, Format::Both);
        let shown = shown.iter().filter_map(|r| serde_json::to_value(r).ok());
        let full = reserved_full.entry(pool.role.to_string()).or_insert_with(|| json!([]));
        if let Some(full) = full.as_array_mut() {
            full.extend(shown);
        }
    }
    let reserved: BTreeMap<String, Value> =
        reserved.iter().map(|(role, r)| (role.clone(), flat(r))).collect();
    let mut full: Vec<Resource> = list(&unreserved, None);
    full.extend(Mark::lent().list(&lent, None, Format::Both));
    let of_lent = |of: fn(&stoa_ledger::Holder) -> bool| {
        let draws = ledger.claims(id).filter(|(h, _)| of(h)).flat_map(|(h, _)| ledger.draws(h));
        draws.filter(|(n, _)| *n == lent_name).fold(Resources::default(), |sum, (_, part)| sum.plus(part))
    };
    let mut out = json!({
        "id": id.as_str(), "hostname": agent.hostname, "port": agent.port(),
        "pid": agent.pid(), "attributes": attributes,
        "registered_time": seconds(agent.since), "reregistered_time": seconds(agent.since),
        "resources": with_lent(&capacity, &lent), "used_resources": with_lent(&used, &of_lent(is_pod)),
        "offered_resources": with_lent(&offered, &of_lent(is_offer)),
        "reserved_resources": reserved, "unreserved_resources": with_lent(&unreserved, &lent),
        "reserved_resources_full": reserved_full, "unreserved_resources_full": full,
        "used_resources_full": held(state, ledger, id, is_pod), "offered_resources_full": held(state, ledger, id, is_offer),
        "active": agent.is_ready && ledger.is_active(id), "deactivated": state.rules.deactivated.contains(id), "version": stoa_mesos::VERSION,
        "capabilities": AGENT_CAPABILITIES,
    });
    if let Some(domain) = crate::report::domain(agent) {
        out["domain"] = domain;
    }
    if let Some(info) = crate::report::drain_info(state, id) {
        out["drain_info"] = info;
    }
    out
}

/// As tools of old read it: what is lent has names of its own.
fn with_lent(plain: &Resources, lent: &Resources) -> Value {
    let mut out = flat(plain);
    for (name, value) in flat(lent).as_object().into_iter().flatten().filter(|(_, v)| v.as_f64() != Some(0.0))
    {
        out[format!("{name}_revocable")] = value.clone();
    }
    out
}
