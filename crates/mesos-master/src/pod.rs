//! A task as a Pod. Pure: what the agent is told to run, in the pod's own words.

use crate::check;
use crate::mount::{self, Mounts};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use stoa_mesos::framework::FrameworkInfo;
use stoa_mesos::options::Options;
use stoa_mesos::render::{self, HOST_IMAGE, has_own_network};
use stoa_mesos::task::{CommandInfo, ContainerInfo, ExecutorInfo, TaskInfo};
use stoa_offers::{Group, Launch};
use stoa_units::{AgentId, FrameworkId, Resources, check_dns_label, check_label_value};

/// The one container of a task's pod.
pub(crate) const CONTAINER: &str = "task";
/// The one container of a custom executor's pod.
pub(crate) const EXECUTOR_CONTAINER: &str = "executor";
/// On pods: whose it is, and which task.
pub(crate) const FRAMEWORK_LABEL: &str = "stoa.dev/framework-id";
const TASK_LABEL: &str = "stoa.dev/task-id";
/// On pods of executors and task groups: under which executor.
const EXECUTOR_LABEL: &str = "stoa.dev/executor-id";
/// On pods of custom executors: the executor as it is told of itself.
const EXECUTOR_INFO: &str = "stoa.dev/executor-info";
/// On pods: the framework as it said of itself.
const FRAMEWORK_INFO: &str = "stoa.dev/framework-info";
/// On pods: what the agent fetches into the sandbox before a container starts, by container.
const FETCH: &str = "stoa.dev/fetch";
/// On pods: what of their agent's is lent to them. The agent ends such pods when its load is too high.
pub(crate) const LENT: &str = "stoa.dev/revocable";
/// On namespaces: which role pays for the pods in it.
pub(crate) const ROLE_LABEL: &str = "stoa.dev/role";
/// Between the polite signal and the kill, unless the task says otherwise: the command executor's own default.
const KILL_GRACE_SECONDS_DEFAULT: i64 = 3;
/// Between a custom executor's SHUTDOWN and its kill, unless it says otherwise.
const SHUTDOWN_GRACE_SECONDS_DEFAULT: i64 = 5;
/// The namespace of the default role.
const DEFAULT_NAMESPACE: &str = "mesos";

/// Where a task goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub framework: &'a FrameworkId,
    pub info: &'a FrameworkInfo,
    pub agent: &'a AgentId,
    pub role: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    /// Where the agent has persistent volumes.
    pub volumes_dir: Option<&'a str>,
}

/// One container of a pod.
struct Part<'a> {
    name: &'a str,
    command: Option<&'a CommandInfo>,
    container: Option<&'a ContainerInfo>,
    resources: Value,
    ports: &'a Resources,
    env: Vec<(&'static str, String)>,
    mounts: Mounts,
    options: Options,
    /// What is lent to it, and may be taken back.
    lent: Resources,
    /// Whose checks it has.
    task: Option<&'a TaskInfo>,
}

/// The pod of a task.
pub(crate) fn render_pod(place: Place<'_>, launch: &Launch) -> Result<Value, String> {
    let task = &launch.task;
    let id = task.task_id.value.as_str();
    let mut pod = render(place, &[task_part(place, CONTAINER, launch, id)?]);
    mark(&mut pod, TASK_LABEL, id);
    pod["metadata"]["annotations"]["stoa.dev/task-name"] = task.name.as_str().into();
    pod["spec"]["terminationGracePeriodSeconds"] = kill_grace_seconds(task).into();
    if let Some(limit) = task.max_completion_time.as_ref().map(|d| d.nanoseconds.0) {
        pod["spec"]["activeDeadlineSeconds"] = seconds_ceil(limit).max(1).into();
    }
    Ok(pod)
}

/// The pod of a task group: a container for each task, on one network and in one sandbox.
pub(crate) fn render_group(place: Place<'_>, group: &Group, names: &[String]) -> Result<Value, String> {
    let executor = &*group.executor.executor_id.value.0;
    let parts = group.launches.iter().zip(names).map(|(l, name)| task_part(place, name, l, executor));
    let mut pod = render(place, &parts.collect::<Result<Vec<_>, String>>()?);
    mark(&mut pod, EXECUTOR_LABEL, executor);
    let grace = group.launches.iter().map(|l| kill_grace_seconds(&l.task)).max();
    pod["spec"]["terminationGracePeriodSeconds"] = grace.unwrap_or(KILL_GRACE_SECONDS_DEFAULT).into();
    let limits = group.launches.iter().filter_map(|l| l.task.max_completion_time.as_ref());
    if let Some(limit) = limits.map(|d| d.nanoseconds.0).min() {
        pod["spec"]["activeDeadlineSeconds"] = seconds_ceil(limit).max(1).into();
    }
    Ok(pod)
}

/// The names of a group's containers: the tasks' ids as far as they can be spelled.
pub(crate) fn container_names(group: &Group) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |(i, l): (usize, &Launch)| {
        let own = dashed(l.task.task_id.value.as_str(), 50);
        let name = if own.is_empty() || taken.contains(&own) { format!("task-{i}") } else { own };
        taken.insert(name.clone());
        name
    };
    group.launches.iter().enumerate().map(name).collect()
}

/// The pod of a custom executor. Its tasks are no part of it: they come and go while it runs. `lent` is what is lent to it and to
/// the task for which it is started.
pub(crate) fn render_executor(
    place: Place<'_>,
    info: &ExecutorInfo,
    amount: &Resources,
    lent: Resources,
) -> Result<Value, String> {
    let id = &*info.executor_id.value.0;
    let grace = shutdown_grace_seconds(info);
    let checkpoint = place.info.checkpoint.unwrap_or(false);
    let mut env = common_env(place, id);
    env.push(("MESOS_CHECKPOINT", u8::from(checkpoint).to_string()));
    env.push(("MESOS_HTTP_COMMAND_EXECUTOR", "0".into()));
    env.push(("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", format!("{grace}secs")));
    if checkpoint {
        env.push(("MESOS_RECOVERY_TIMEOUT", "15mins".into()));
        env.push(("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs".into()));
    }
    let options = options_of(info.container.as_ref())?;
    let mut resources = render::resources(&BTreeMap::new(), amount, &Resources::default());
    // Its tasks' memory is its own, and they come and go: no limit stays right.
    if let Some(limits) = resources["limits"].as_object_mut() {
        limits.remove("memory");
    }
    let part = Part {
        name: EXECUTOR_CONTAINER,
        command: info.command.as_ref(),
        container: info.container.as_ref(),
        resources,
        ports: amount,
        env,
        mounts: mount::mounts(
            "",
            info.container.as_ref(),
            [].into_iter(),
            place.volumes_dir,
            &options.volumes,
        )?,
        options,
        lent,
        task: None,
    };
    let mut pod = render(place, &[part]);
    mark(&mut pod, EXECUTOR_LABEL, id);
    pod["spec"]["terminationGracePeriodSeconds"] = grace.into();
    let whole = ExecutorInfo {
        framework_id: Some(stoa_mesos::Id { value: place.framework.clone() }),
        ..info.clone()
    };
    pod["metadata"]["annotations"][EXECUTOR_INFO] =
        String::from_utf8_lossy(&stoa_mesos::json::to_ascii(&whole)).into();
    Ok(pod)
}

/// Labels and annotates a pod with an id that a label may not be able to spell.
fn mark(pod: &mut Value, key: &str, id: &str) {
    pod["metadata"]["labels"][key] = label_safe(id).into();
    pod["metadata"]["annotations"][key] = id.into();
}

fn common_env(place: Place<'_>, executor: &str) -> Vec<(&'static str, String)> {
    vec![
        ("MESOS_EXECUTOR_ID", executor.into()),
        ("MESOS_FRAMEWORK_ID", place.framework.to_string()),
        ("MESOS_SLAVE_ID", place.agent.to_string()),
    ]
}

fn options_of(container: Option<&ContainerInfo>) -> Result<Options, String> {
    container.map_or_else(|| Ok(Options::default()), stoa_mesos::options::options)
}

fn task_part<'a>(
    place: Place<'_>,
    name: &'a str,
    launch: &'a Launch,
    executor: &str,
) -> Result<Part<'a>, String> {
    check::check(&launch.task)?;
    check_ports(&launch.task, &launch.resources)?;
    let marks = launch.marked.iter().map(|(mark, _)| mark);
    // Volumes of a pod's containers have different names.
    let prefix = if name == CONTAINER { String::new() } else { format!("{}-", short_hash(name)) };
    let container = launch.task.container.as_ref();
    let lent = launch.lent();
    let options = options_of(container)?;
    let mounts = mount::mounts(&prefix, container, marks, place.volumes_dir, &options.volumes)?;
    let mut env = vec![("MESOS_TASK_ID", launch.task.task_id.value.to_string())];
    env.extend(common_env(place, executor));
    Ok(Part {
        name,
        command: launch.task.command.as_ref(),
        container,
        resources: render::resources(&launch.task.limits, &launch.resources, &lent),
        ports: &launch.resources,
        env,
        mounts,
        options,
        lent,
        task: Some(&launch.task),
    })
}

fn render(place: Place<'_>, parts: &[Part<'_>]) -> Value {
    let mut annotations = Map::new();
    annotations.insert(FRAMEWORK_LABEL.into(), place.framework.as_str().into());
    annotations.insert(ROLE_LABEL.into(), place.role.into());
    // Its agent tells by this whose it is, and executors are told it.
    let info = stoa_mesos::json::to_ascii(place.info);
    annotations.insert(FRAMEWORK_INFO.into(), String::from_utf8_lossy(&info).into());
    let named = parts.iter().find_map(|p| p.command.and_then(|c| c.user.as_deref()));
    let user = named.unwrap_or(&place.info.user);
    if !user.is_empty() {
        annotations.insert("stoa.dev/user".into(), user.into());
    }
    let fetch: Map<String, Value> = parts
        .iter()
        .filter_map(|p| Some((p.name, p.command.map(|c| &c.uris).filter(|u| !u.is_empty())?)))
        .map(|(name, uris)| (name.into(), uris.clone().into()))
        .collect();
    if !fetch.is_empty() {
        annotations.insert(FETCH.into(), Value::from(fetch).to_string().into());
    }
    let lent = parts.iter().fold(Resources::default(), |sum, p| sum.plus(&p.lent));
    if !lent.is_empty() {
        annotations.insert(LENT.into(), stoa_mesos::resource::text(&lent).into());
    }
    let is_on_host = !parts.iter().any(|p| has_own_network(p.container));
    let volumes: Vec<Value> = parts.iter().flat_map(|p| p.mounts.volumes.clone()).collect();
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": place.name,
            "namespace": place.namespace,
            "labels": {FRAMEWORK_LABEL: label_safe(place.framework.as_str())},
            "annotations": annotations,
        },
        "spec": {
            "nodeName": place.agent.as_str(),
            "restartPolicy": "Never",
            "hostNetwork": is_on_host,
            "dnsPolicy": if is_on_host { "Default" } else { "ClusterFirst" },
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            // What becomes of a task whose agent is lost is the framework's to decide.
            "tolerations": [{"operator": "Exists"}],
            "containers": parts.iter().map(|p| render_container(p, is_on_host)).collect::<Vec<_>>(),
        },
    });
    if !volumes.is_empty() {
        pod["spec"]["volumes"] = volumes.into();
    }
    for part in parts {
        for (key, value) in &part.options.annotations {
            pod["metadata"]["annotations"][key] = value.clone();
        }
        part.options.apply_pod(&mut pod["spec"]);
    }
    let hostname = parts.iter().find_map(|p| p.container?.hostname.as_deref());
    if let Some(name) = hostname.filter(|name| !is_on_host && check_dns_label(name).is_ok()) {
        pod["spec"]["hostname"] = name.into();
    }
    pod
}

/// Ports of the machine and the ports of the container that they lead to.
fn port_mappings(container: Option<&ContainerInfo>) -> Vec<(u64, u64, String)> {
    let docker = container.iter().flat_map(|c| &c.docker).flat_map(|d| &d.port_mappings);
    let networks = container.iter().flat_map(|c| &c.network_infos).flat_map(|n| &n.port_mappings);
    let one = |m: &Value| {
        let protocol = m["protocol"].as_str().unwrap_or("tcp").to_ascii_uppercase();
        Some((m["host_port"].as_u64()?, m["container_port"].as_u64()?, protocol))
    };
    docker.chain(networks).filter_map(one).collect()
}

/// Only ports that the task has may lead to it.
fn check_ports(task: &TaskInfo, has: &Resources) -> Result<(), String> {
    for (host, inner, protocol) in port_mappings(task.container.as_ref()) {
        let is_ours = u16::try_from(host).is_ok_and(|p| has.ports.contains(p));
        let is_valid = (1..=65_535).contains(&inner) && matches!(protocol.as_str(), "TCP" | "UDP");
        if !is_ours || !is_valid {
            return Err(format!(
                "Port mapping {host}:{inner}/{protocol} is not valid: the host port must be among the task's resources"
            ));
        }
    }
    Ok(())
}

fn render_container(part: &Part<'_>, is_on_host: bool) -> Value {
    let default = CommandInfo {
        uris: vec![],
        environment: None,
        shell: None,
        value: None,
        arguments: vec![],
        user: None,
    };
    let command = part.command.unwrap_or(&default);
    let mut container = json!({
        "name": part.name,
        "image": render::image(part.container).unwrap_or(HOST_IMAGE),
        "imagePullPolicy": render::pull_policy(part.container),
        "resources": part.resources,
    });
    let own = part.env.iter().map(|(name, value)| (*name, value.as_str()));
    let env = own.chain(part.options.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    render::command(&mut container, command, env);
    part.options.apply(&mut container);
    if !part.mounts.mounts.is_empty() {
        container["volumeMounts"] = part.mounts.mounts.clone().into();
    }
    if let Some(task) = part.task {
        check::add_probes(&mut container, task);
    }
    let ports = part.ports.ports.ranges().iter().flat_map(|r| r.begin..=r.end);
    let ports: Vec<Value> = if is_on_host {
        ports.map(|p| json!({"containerPort": p, "hostPort": p, "protocol": "TCP"})).collect()
    } else {
        let mappings = port_mappings(part.container).into_iter();
        mappings
            .map(|(host, inner, protocol)| json!({"containerPort": inner, "hostPort": host, "protocol": protocol}))
            .collect()
    };
    if !ports.is_empty() {
        container["ports"] = ports.into();
    }
    container
}

/// The task's grace period between the polite signal and the kill, in whole seconds.
pub(crate) fn kill_grace_seconds(task: &TaskInfo) -> i64 {
    let own = task.kill_policy.as_ref().and_then(|k| k.grace_period.as_ref());
    own.map_or(KILL_GRACE_SECONDS_DEFAULT, |d| seconds_ceil(d.nanoseconds.0))
}

/// The time that a custom executor has between SHUTDOWN and its kill, in whole seconds.
pub(crate) fn shutdown_grace_seconds(info: &ExecutorInfo) -> i64 {
    let own = info.shutdown_grace_period.as_ref();
    own.map_or(SHUTDOWN_GRACE_SECONDS_DEFAULT, |d| seconds_ceil(d.nanoseconds.0))
}

/// Nanoseconds in whole seconds, rounded up.
pub(crate) fn seconds_ceil(nanoseconds: i64) -> i64 {
    nanoseconds.max(0).div_euclid(1_000_000_000) + i64::from(nanoseconds.max(0) % 1_000_000_000 != 0)
}

/// A label's value for any text: the text itself if it may be one, else its hash.
pub(crate) fn label_safe(text: &str) -> String {
    if !text.is_empty() && check_label_value(text).is_ok() { text.into() } else { short_hash(text) }
}

fn short_hash(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().take(5).map(|b| format!("{b:02x}")).collect()
}

/// Lower case, everything that may not be in a DNS label as `-`, none at the ends.
fn dashed(text: &str, len_max: usize) -> String {
    let mut out: String = text
        .chars()
        .map(|c| c.to_ascii_lowercase())
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' })
        .take(len_max)
        .collect();
    while out.ends_with('-') {
        out.pop();
    }
    out.trim_start_matches('-').into()
}

/// A pod's name for a task. `salt` tells apart tasks that have the same id one after the other.
pub(crate) fn pod_name(framework: &FrameworkId, task: &str, salt: &str) -> String {
    let hash = short_hash(&format!("{framework}\0{task}\0{salt}"));
    let stem = dashed(task, 52);
    if stem.is_empty() { format!("task-{hash}") } else { format!("{stem}-{hash}") }
}

/// The namespaces in which a role's pods may live, in the order in which they are tried. The second never belongs to
/// anybody else; a hash keeps roles apart that only differ in what a namespace cannot spell.
pub(crate) fn namespaces(role: &str) -> [String; 2] {
    if role == "*" {
        return [DEFAULT_NAMESPACE.into(), format!("{DEFAULT_NAMESPACE}-{}", short_hash(role))];
    }
    let stem = dashed(role, 40);
    let own = format!("mesos-{stem}-{}", short_hash(role)).replace("--", "-");
    let is_exact = stem == role
        && check_dns_label(role).is_ok()
        && !role.starts_with("kube-")
        && role != DEFAULT_NAMESPACE;
    [if is_exact { role.into() } else { own.clone() }, own]
}

#[cfg(test)]
mod tests;
