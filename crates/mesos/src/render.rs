//! Commands, containers and resources in the words of a pod's specification, as whoever has them run by an agent needs them:
//! the master for tasks and executors, the agent for standalone containers. Pure.

use crate::Blob;
use crate::resource::Scalar;
use crate::task::{CommandInfo, ContainerInfo, Variable};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use stoa_units::Resources;

/// The image that stands for the agent's own files.
pub const HOST_IMAGE: &str = "stoa.dev/host";
/// Where the sandbox is in a container, in Mesos' words. The agent puts its own place in there.
pub const SANDBOX: &str = "/mnt/mesos/sandbox";
/// Memory limits below this are raised to it, as Mesos does: nothing starts with less.
const MEMORY_LIMIT_BYTES_MIN: u64 = 32 << 20;

/// Puts a command into a container: what it runs, and its environment, that of `env` first.
pub fn command<'a>(
    container: &mut Value,
    command: &CommandInfo,
    env: impl Iterator<Item = (&'a str, &'a str)>,
) {
    let value = command.value.as_deref().unwrap_or_default();
    let literals = |texts: &[String]| texts.iter().map(|t| literal(t)).collect::<Vec<_>>();
    if command.shell.unwrap_or(true) {
        container["command"] = json!(["/bin/sh", "-c", literal(value)]);
    } else if value.is_empty() {
        container["args"] = json!(literals(&command.arguments));
    } else {
        // `arguments` is argv, its first entry being the name by which the executable is called.
        container["command"] = json!([literal(value)]);
        container["args"] = json!(literals(command.arguments.get(1..).unwrap_or_default()));
    }
    let own = env.map(|(name, value)| json!({"name": name, "value": literal(value)}));
    let variables = command.environment.iter().flat_map(|e| &e.variables).map(variable);
    container["env"] = own.chain(variables).collect();
}

/// A variable; one that is a secret by reference is read from the Secret of that name beside the pod.
fn variable(v: &Variable) -> Value {
    let Some(secret) = v.secret.as_ref().filter(|_| v.kind.as_deref() == Some("SECRET")) else {
        return json!({"name": v.name, "value": literal(v.value.as_deref().unwrap_or_default())});
    };
    if let Some(name) = secret["reference"]["name"].as_str() {
        let key = secret["reference"]["key"].as_str().unwrap_or("value");
        return json!({"name": v.name, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}});
    }
    let data: Blob = serde_json::from_value(secret["value"]["data"].clone()).unwrap_or_default();
    json!({"name": v.name, "value": literal(&String::from_utf8_lossy(&data.0))})
}

/// Text that survives the expansion of `$(VAR)` in a pod's command and environment.
pub(crate) fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// The image that a container names; none where it is on the machine's own files.
pub fn image(container: Option<&ContainerInfo>) -> Option<&str> {
    let container = container?;
    let docker = container.docker.as_ref().map(|d| d.image.as_str());
    docker.or_else(|| container.mesos.as_ref()?.image.as_ref()?.docker.as_ref().map(|d| d.name.as_str()))
}

/// When the image is pulled, in a pod's words.
pub fn pull_policy(container: Option<&ContainerInfo>) -> &'static str {
    let docker = container.and_then(|c| c.docker.as_ref());
    if docker.is_some_and(|d| d.force_pull_image == Some(true)) { "Always" } else { "IfNotPresent" }
}

/// Whether a container has a network of its own, where all others share the machine's.
pub fn has_own_network(container: Option<&ContainerInfo>) -> bool {
    container.is_some_and(|c| {
        let docker = c.docker.as_ref().and_then(|d| d.network.as_deref());
        matches!(docker, Some("BRIDGE" | "USER")) || c.network_infos.iter().any(|n| n.name.is_some())
    })
}

/// Requests are what the ledger books. Memory is limited to it, as Mesos limits it; the processor is only shared by it. What is
/// `lent` is booked nowhere, and bounds all the same.
pub fn resources(beyond: &BTreeMap<String, Scalar>, want: &Resources, lent: &Resources) -> Value {
    let mut requests = Map::new();
    let mut limits = Map::new();
    if want.milli_cpu > 0 {
        requests.insert("cpu".into(), format!("{}m", want.milli_cpu).into());
    }
    if want.memory_bytes > 0 {
        requests.insert("memory".into(), want.memory_bytes.to_string().into());
        limits.insert("memory".into(), want.memory_bytes.max(MEMORY_LIMIT_BYTES_MIN).to_string().into());
    }
    if want.disk_bytes > 0 {
        requests.insert("ephemeral-storage".into(), want.disk_bytes.to_string().into());
    }
    // Said, for otherwise a request would be what the limit is.
    if lent.milli_cpu > 0 {
        requests.insert("cpu".into(), "0".into());
    }
    if lent.memory_bytes > 0 {
        requests.insert("memory".into(), "0".into());
        limits.insert("memory".into(), lent.memory_bytes.max(MEMORY_LIMIT_BYTES_MIN).to_string().into());
    }
    for (name, milli) in &want.extended {
        // Extended resources are whole numbers and equal to their limit.
        let amount = Value::from(milli.div_ceil(1000).to_string());
        requests.insert(name.to_string(), amount.clone());
        limits.insert(name.to_string(), amount);
    }
    if let Some(l) = beyond.get("cpus").filter(|l| l.value.0.is_finite()) {
        limits.insert("cpu".into(), format!("{}m", (l.value.0 * 1000.0).ceil() as u64).into());
    }
    if let Some(l) = beyond.get("mem") {
        if l.value.0.is_finite() {
            let bytes = (l.value.0 * 1_048_576.0) as u64;
            limits.insert("memory".into(), bytes.max(MEMORY_LIMIT_BYTES_MIN).to_string().into());
        } else {
            limits.remove("memory");
        }
    }
    json!({"requests": requests, "limits": limits})
}

/// A path in the container, or why not.
pub fn inside(path: &str) -> Result<String, String> {
    if path.is_empty() || path.contains('\0') || path.split('/').any(|p| p == "..") {
        return Err(format!("'{path}' is no valid container path"));
    }
    let path = path.trim_end_matches('/');
    match path.strip_prefix('/') {
        Some("") | None if path.is_empty() => Err("'/' is no valid container path".into()),
        Some(_) => Ok(path.into()),
        None => Ok(format!("{SANDBOX}/{}", path.trim_start_matches("./"))),
    }
}

/// Whether a volume's mode says so.
pub fn is_read_only(mode: &Value) -> bool {
    mode.as_str() == Some("RO")
}

/// A volume of a `ContainerInfo`: where its files come from, where the container has them, and whether to read only.
///
/// # Errors
///
/// Why it cannot be had.
pub fn volume(v: &Value) -> Result<(Value, String, bool), String> {
    let path = inside(v["container_path"].as_str().unwrap_or_default())?;
    let source = &v["source"];
    let host = source["host_path"]["path"].as_str().or_else(|| v["host_path"].as_str());
    let volume = match (host, source["type"].as_str()) {
        (Some(host), _) if host.starts_with('/') => {
            if host.split('/').any(|p| p == "..") {
                return Err(format!("'{host}' is no valid host path"));
            }
            json!({"hostPath": {"path": host}})
        }
        // A directory of the sandbox: empty at first and gone with the task.
        (Some(_), _) | (None, Some("SANDBOX_PATH")) | (None, None) => json!({"emptyDir": {}}),
        (None, Some(kind)) => return Err(format!("Volumes of type {kind} are not supported")),
    };
    Ok((volume, path, is_read_only(&v["mode"])))
}
