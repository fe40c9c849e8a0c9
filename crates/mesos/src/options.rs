//! What a container asks for beyond image, command and volumes, in a pod's words: Docker's raw parameters, as `docker run` reads
//! them, and the parts of Mesos' containerizer that are about Linux. Pure; what has no counterpart is refused by name.

use crate::task::{ContainerInfo, DockerInfo};
use serde_json::{Map, Value, json};

/// See the module.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// Fields of the pod's specification.
    pub pod: Map<String, Value>,
    /// Annotations of the pod.
    pub annotations: Map<String, Value>,
    /// Variables of the environment, before those of the command.
    pub env: Vec<(String, String)>,
    /// Where files come from, where the container has them, and whether to read only.
    pub volumes: Vec<(Value, String, bool)>,
    /// Fields of the pod's container, …
    container: Map<String, Value>,
    /// … of its security context, …
    security: Map<String, Value>,
    /// … and of its limits.
    limits: Map<String, Value>,
    add: Vec<Value>,
    drop: Vec<Value>,
    /// What runs in place of the image's own entry point, the command being its arguments.
    entrypoint: Option<String>,
    /// Whether it is more than a process of the task's user: privileged, another user, or among the machine's processes.
    pub is_mighty: bool,
}

/// Of a container.
///
/// # Errors
///
/// The option that no pod has, or whose value makes no sense.
pub fn options(container: &ContainerInfo) -> Result<Options, String> {
    let mut out = Options::default();
    if container.tty_info.is_some() {
        out.container.insert("tty".into(), true.into());
    }
    if container.rlimit_info.is_some() {
        return Err("ContainerInfo.rlimit_info is not supported by this master".into());
    }
    if let Some(info) = &container.linux_info {
        linux(&mut out, info)?;
    }
    if let Some(docker) = &container.docker {
        if docker.privileged == Some(true) {
            out.security("privileged", true);
        }
        parameters(&mut out, docker)?;
    }
    if let Some(image) = crate::render::image(Some(container))
        && image
            .split(['@', ':'])
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(crate::render::HOST_IMAGE))
    {
        return Err(format!("{image} is no image"));
    }
    out.is_mighty = out.security.contains_key("privileged")
        || out.security.contains_key("runAsUser")
        || !out.add.is_empty()
        || ["hostPID", "hostIPC"].iter().any(|key| out.pod.contains_key(*key));
    Ok(out)
}

impl Options {
    /// Puts what is the container's own into it.
    pub fn apply(&self, container: &mut Value) {
        for (key, value) in &self.container {
            container[key] = value.clone();
        }
        for (key, value) in &self.limits {
            // What is asked for is had; docker's bound cannot be below it.
            let asked = container["resources"]["requests"][key].as_str().unwrap_or_default();
            let number = |text: &str| stoa_units::Quantity::parse(text).ok().map(|q| q.milli_ceil());
            let is_less = number(asked) > value.as_str().and_then(number);
            let bound = if is_less { asked.into() } else { value.clone() };
            container["resources"]["limits"][key] = bound;
        }
        if let Some(entrypoint) = &self.entrypoint {
            let words = ["command", "args"].map(|k| container[k].as_array().cloned().unwrap_or_default());
            container["command"] = json!([crate::render::literal(entrypoint)]);
            container["args"] = words.concat().into();
        }
        for (key, value) in &self.security {
            container["securityContext"][key] = value.clone();
        }
        for (list, names) in [("add", &self.add), ("drop", &self.drop)] {
            if !names.is_empty() {
                container["securityContext"]["capabilities"][list] = names.clone().into();
            }
        }
    }

    fn security(&mut self, key: &str, value: impl Into<Value>) {
        self.security.insert(key.into(), value.into());
    }

    /// Puts what is the pod's into its specification; lists of several containers add up.
    pub fn apply_pod(&self, spec: &mut Value) {
        for (key, value) in &self.pod {
            merge(&mut spec[key], value);
        }
    }

    fn push(map: &mut Map<String, Value>, key: &str, value: Value) {
        if let Value::Array(list) = map.entry(key).or_insert_with(|| json!([])) {
            list.push(value);
        }
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            more.iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (Value::Array(into), Value::Array(more)) => into.extend(more.iter().cloned()),
        (into, more) => *into = more.clone(),
    }
}

fn capability(name: &str) -> Value {
    let name = name.to_ascii_uppercase();
    name.strip_prefix("CAP_").unwrap_or(&name).into()
}

/// `LinuxInfo`.
fn linux(out: &mut Options, info: &Value) -> Result<(), String> {
    let lists = ["effective_capabilities", "bounding_capabilities", "capability_info"];
    if let Some(list) = lists.iter().map(|name| &info[name]).find(|l| l.is_object()) {
        out.drop.push("ALL".into());
        for name in list["capabilities"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            out.add.push(capability(name));
        }
    }
    if info["share_pid_namespace"] == true {
        out.pod.insert("hostPID".into(), true.into());
    }
    match info["ipc_mode"].as_str() {
        Some("SHARE_PARENT") => drop(out.pod.insert("hostIPC".into(), true.into())),
        None | Some("UNKNOWN" | "PRIVATE") => {}
        Some(other) => return Err(format!("LinuxInfo.ipc_mode {other} is not supported by this master")),
    }
    if let Some(mib) = info["shm_size"].as_u64() {
        out.volumes.push(shared_memory(&format!("{mib}Mi")));
    }
    let seccomp = &info["seccomp"];
    if seccomp["unconfined"] == true {
        out.security("seccompProfile", json!({"type": "Unconfined"}));
    } else if let Some(name) = seccomp["profile_name"].as_str() {
        out.security("seccompProfile", json!({"type": "Localhost", "localhostProfile": name}));
    }
    Ok(())
}

fn shared_memory(size: &str) -> (Value, String, bool) {
    (json!({"emptyDir": {"medium": "Memory", "sizeLimit": size}}), "/dev/shm".into(), false)
}

/// `512m` as Docker's options have it, in bytes.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let digits = text.trim_end_matches(['k', 'm', 'g', 't']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The options of `docker run`, each with a value.
fn parameters(out: &mut Options, docker: &DockerInfo) -> Result<(), String> {
    for parameter in &docker.parameters {
        let key = parameter["key"].as_str().unwrap_or_default();
        let value = parameter["value"].as_str().unwrap_or_default();
        let name = key.trim_start_matches('-');
        let bad = || format!("Docker parameter '{name}' has the invalid value '{value}'");
        let pair = |by: char| value.split_once(by).ok_or_else(bad);
        let is_set = match value {
            "" | "true" => true,
            "false" => false,
            _ if matches!(name, "privileged" | "read-only" | "init" | "rm" | "tty" | "t") => {
                return Err(bad());
            }
            _ => true,
        };
        match name {
            "env" | "e" => {
                let (name, value) = pair('=')?;
                out.env.push((name.into(), value.into()));
            }
            "label" | "l" => {
                // Docker's labels may say anything; a pod's annotations nearly so.
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                stoa_units::check_label_key(name).map_err(|_| bad())?;
                let owner = name.split_once('/').map_or("", |(prefix, _)| prefix);
                let is_ours = |domain: &str| owner == domain || owner.ends_with(&format!(".{domain}"));
                if ["stoa.dev", "kubernetes.io", "k8s.io"].into_iter().any(is_ours) {
                    return Err(bad());
                }
                out.annotations.insert(name.into(), value.into());
            }
            "volume" | "v" => {
                let mut parts = value.split(':');
                let (from, to) = (parts.next().unwrap_or_default(), parts.next());
                let modes: Vec<&str> = parts.next().unwrap_or_default().split(',').collect();
                let volume = json!({"mode": if modes.contains(&"ro") { "RO" } else { "RW" },
                    "container_path": to.unwrap_or(from), "host_path": to.map(|_| from)});
                out.volumes.push(crate::render::volume(&volume)?);
            }
            "tmpfs" => {
                let path = value.split(':').next().unwrap_or_default();
                let path = crate::render::inside(path)?;
                out.volumes.push((json!({"emptyDir": {"medium": "Memory"}}), path, false));
            }
            "shm-size" => {
                let size = bytes(value).ok_or_else(bad)?;
                out.volumes.push(shared_memory(&size.to_string()));
            }
            "hostname" | "h" => {
                stoa_units::check_dns_label(value).map_err(|_| bad())?;
                out.pod.insert("hostname".into(), value.into());
            }
            "workdir" | "w" => drop(out.container.insert("workingDir".into(), value.into())),
            "entrypoint" => out.entrypoint = Some(value.into()),
            "user" | "u" => {
                let (user, group) = value.split_once(':').map_or((value, None), |(u, g)| (u, Some(g)));
                out.security("runAsUser", user.parse::<u32>().map_err(|_| bad())?);
                if let Some(group) = group {
                    out.security("runAsGroup", group.parse::<u32>().map_err(|_| bad())?);
                }
            }
            "cap-add" => out.add.push(capability(value)),
            "cap-drop" => out.drop.push(capability(value)),
            "privileged" => out.security("privileged", is_set),
            "read-only" => out.security("readOnlyRootFilesystem", is_set),
            "tty" | "t" => drop(out.container.insert("tty".into(), is_set.into())),
            "security-opt" => match value.split_once(['=', ':']).unwrap_or((value, "true")) {
                ("no-new-privileges", flag) => out.security("allowPrivilegeEscalation", flag != "true"),
                ("seccomp", "unconfined") => out.security("seccompProfile", json!({"type": "Unconfined"})),
                _ => return Err(bad()),
            },
            "memory" | "m" => {
                let size = bytes(value).ok_or_else(bad)?;
                out.limits.insert("memory".into(), size.to_string().into());
            }
            "cpus" => {
                let cpus: f64 = value.parse().map_err(|_| bad())?;
                if !(cpus > 0.0 && cpus < 1e6) {
                    return Err(bad());
                }
                out.limits.insert("cpu".into(), format!("{}m", (cpus * 1000.0).ceil() as u64).into());
            }
            "pid" if value == "host" => drop(out.pod.insert("hostPID".into(), true.into())),
            "ipc" if value == "host" => drop(out.pod.insert("hostIPC".into(), true.into())),
            "pid" | "ipc" => return Err(bad()),
            "add-host" => {
                let (name, ip) = pair(':')?;
                Options::push(&mut out.pod, "hostAliases", json!({"ip": ip, "hostnames": [name]}));
            }
            "dns" | "dns-search" => {
                let field = if name == "dns" { "nameservers" } else { "searches" };
                if let Value::Object(config) = out.pod.entry("dnsConfig").or_insert_with(|| json!({})) {
                    Options::push(config, field, value.into());
                }
            }
            "sysctl" => {
                let (name, value) = pair('=')?;
                if let Value::Object(context) = out.pod.entry("securityContext").or_insert_with(|| json!({}))
                {
                    Options::push(context, "sysctls", json!({"name": name, "value": value}));
                }
            }
            // What they ask for is so anyway.
            "rm" | "init" if is_set => {}
            _ => return Err(format!("Docker parameter '{name}' is not supported by this master")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(options: &Options) -> Value {
        let mut container = json!({});
        options.apply(&mut container);
        container
    }

    fn read(container: Value) -> Result<Options, String> {
        options(&serde_json::from_value(container).unwrap())
    }

    fn docker(parameters: &[(&str, &str)]) -> Result<Options, String> {
        let list: Vec<Value> = parameters.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
        read(json!({"type": "DOCKER", "docker": {"image": "x", "parameters": list}}))
    }

    #[test]
    fn what_docker_run_takes_a_pod_has() {
        let out = docker(&[
            ("env", "A=b=c"),
            ("label", "team=web"),
            ("volume", "/etc/x:/y:ro"),
            ("volume", "/scratch"),
            ("shm-size", "64m"),
            ("user", "7:8"),
            ("cap-add", "CAP_NET_ADMIN"),
            ("cap-drop", "chown"),
            ("memory", "1g"),
            ("cpus", "0.5"),
            ("add-host", "db:10.0.0.1"),
            ("dns", "10.0.0.2"),
            ("sysctl", "net.ipv4.ip_local_port_range=1 2"),
            ("hostname", "web"),
            ("workdir", "/srv"),
            ("security-opt", "no-new-privileges"),
            ("pid", "host"),
            ("rm", "true"),
        ])
        .unwrap();
        assert_eq!(out.env, [("A".to_owned(), "b=c".to_owned())]);
        assert_eq!(out.annotations["team"], "web");
        assert_eq!(
            applied(&out),
            json!({
                "securityContext": {"runAsUser": 7, "runAsGroup": 8, "allowPrivilegeEscalation": false,
                    "capabilities": {"add": ["NET_ADMIN"], "drop": ["CHOWN"]}},
                "resources": {"limits": {"memory": "1073741824", "cpu": "500m"}}, "workingDir": "/srv",
            })
        );
        assert_eq!(
            Value::from(out.pod),
            json!({
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}], "dnsConfig": {"nameservers": ["10.0.0.2"]},
                "securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1 2"}]},
                "hostname": "web", "hostPID": true,
            })
        );
        let paths: Vec<(&str, bool)> = out.volumes.iter().map(|(_, p, ro)| (p.as_str(), *ro)).collect();
        assert_eq!(paths, [("/y", true), ("/scratch", false), ("/dev/shm", false)]);
    }

    #[test]
    fn what_no_pod_has_is_refused_by_name() {
        for (key, value) in [
            ("device", "/dev/x"),
            ("memory", "lots"),
            ("env", "A"),
            ("user", "web"),
            ("label", "stoa.dev/user=root"),
            ("label", "kubernetes.io/config.mirror=x"),
            ("hostname", "a.b"),
            ("volume", "/a/../b:/c"),
            ("privileged", "maybe"),
            ("cpus", "-1"),
            ("pid", "container:x"),
        ] {
            let why = docker(&[(key, value)]).unwrap_err();
            assert!(why.contains(key) || why.contains(value.split(':').next().unwrap()), "{why}");
        }
    }

    #[test]
    fn linux_parts_of_mesos_own_containers() {
        let out = read(json!({"type": "MESOS", "tty_info": {}, "linux_info": {
            "effective_capabilities": {"capabilities": ["NET_RAW"]}, "share_pid_namespace": true,
            "ipc_mode": "SHARE_PARENT", "shm_size": 32, "seccomp": {"unconfined": true}}}))
        .unwrap();
        assert_eq!(
            applied(&out),
            json!({"tty": true, "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
                "seccompProfile": {"type": "Unconfined"}}})
        );
        assert_eq!(Value::from(out.pod), json!({"hostPID": true, "hostIPC": true}));
        assert_eq!(out.volumes[0].0["emptyDir"]["sizeLimit"], "32Mi");
        assert!(read(json!({"type": "MESOS", "rlimit_info": {"rlimits": []}})).is_err());
    }
}
