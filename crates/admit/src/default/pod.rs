//! Defaults of pods and of pod templates, which share a pod's specification.

use serde_json::{Map, Value, json};
use stoa_units::Quantity;

use crate::validate::pod_resources;
use crate::value::{
    at, ensure, flag, has, is_empty, items_mut, pairs, remove, set, set_default, set_default_zero, text,
};

/// The lists of a pod's specification that hold containers.
pub(crate) const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Mode of files in volumes that are made of API objects: 0644.
const FILE_MODE: i64 = 0o644;
/// How long a projected service-account token lives, unless asked otherwise.
const TOKEN_SECONDS: i64 = 3600;

/// A pod: what templates get, and what only a pod does.
pub(super) fn pod(object: &mut Value) {
    if let Some(status) = object.get_mut("status").filter(|s| s.is_object()) {
        first_address(status);
    }
    let Some(spec) = object.get_mut("spec").filter(|s| s.is_object()) else { return };
    pod_spec(spec);
    set_default(spec, "enableServiceLinks", true);
    let host_network = flag(spec, "hostNetwork");
    for list in ["initContainers", "containers"] {
        for container in items_mut(spec, list) {
            requests_from_limits(container);
            if host_network {
                for port in items_mut(container, "ports") {
                    let number = at(port, "containerPort").clone();
                    set_default_zero(port, "hostPort", number);
                }
            }
        }
    }
    whole(spec);
}

/// A pod's address is the first of its addresses, and alone where the two contradict each other: who knows one only is believed.
fn first_address(status: &mut Value) {
    let one = text(status, "podIP").to_owned();
    let first = at(status, "podIPs").get(0).map(|address| text(address, "ip").to_owned());
    match first {
        Some(first) if one.is_empty() && !first.is_empty() => set(status, "podIP", first),
        first if !one.is_empty() && first.as_ref() != Some(&one) => {
            set(status, "podIPs", json!([{ "ip": one }]));
        }
        _ => {}
    }
}

/// A pod that says what it may have as a whole gets what it leaves open from its containers, or from its limits.
fn whole(spec: &mut Value) {
    let own = at(spec, "resources");
    if is_empty(own, "limits") && is_empty(own, "requests") {
        return;
    }
    let is_page = |name: &str| name.starts_with(pod_resources::PAGES);
    let of_containers = |spec: &Value, side: &str| {
        let amounts = pod_resources::aggregate(spec, side).into_iter();
        amounts.filter(|(name, _)| pod_resources::is_supported(name))
    };
    // Who asks for pages says how many.
    let is_open = |name: &str| is_page(name) && !has(at(own, "requests"), name);
    let pages: Vec<_> = of_containers(spec, "limits").filter(|(name, _)| is_open(name)).collect();
    if !pages.is_empty() {
        fill(spec, "limits", pages.into_iter().map(|(name, amount)| (name, amount.to_string().into())));
    }
    let limits: Vec<(String, Value)> =
        pairs(at(spec, "resources"), "limits").map(|(name, amount)| (name.clone(), amount.clone())).collect();
    if limits.is_empty() {
        return;
    }
    let asked: Vec<_> = of_containers(spec, "requests").filter(|(name, _)| !is_page(name)).collect();
    let asked = asked.into_iter().map(|(name, amount)| (name, amount.to_string().into()));
    let limits = limits.into_iter().filter(|(name, _)| pod_resources::is_supported(name));
    fill(spec, "requests", asked.chain(limits));
}

/// Adds amounts that a pod as a whole does not speak of itself.
fn fill(spec: &mut Value, side: &str, amounts: impl Iterator<Item = (String, Value)>) {
    let Some(own) = spec.get_mut("resources").and_then(|r| ensure(r, side)) else { return };
    for (name, amount) in amounts {
        set_default(own, &name, amount);
    }
}

/// The `template` of a workload.
pub(crate) fn pod_template(template: &mut Value) {
    if let Some(spec) = template.get_mut("spec").filter(|s| s.is_object()) {
        pod_spec(spec);
    }
}

fn pod_spec(spec: &mut Value) {
    set_default_zero(spec, "dnsPolicy", "ClusterFirst");
    set_default_zero(spec, "restartPolicy", "Always");
    set_default(spec, "securityContext", Map::new());
    set_default(spec, "terminationGracePeriodSeconds", 30);
    set_default_zero(spec, "schedulerName", "default-scheduler");
    account_alias(spec);
    for list in CONTAINER_LISTS {
        items_mut(spec, list).for_each(container);
    }
    items_mut(spec, "volumes").for_each(volume);
}

/// `serviceAccount` is the old name of `serviceAccountName`: both are written, the new one wins.
pub(crate) fn account_alias(spec: &mut Value) {
    if is_empty(spec, "serviceAccountName") {
        match remove(spec, "serviceAccount") {
            Some(Value::String(old)) if !old.is_empty() => set(spec, "serviceAccountName", old),
            _ => return,
        }
    }
    let name = at(spec, "serviceAccountName").clone();
    set(spec, "serviceAccount", name);
}

fn container(c: &mut Value) {
    let policy = pull_policy(text(c, "image"));
    set_default_zero(c, "imagePullPolicy", policy);
    set_default_zero(c, "terminationMessagePath", "/dev/termination-log");
    set_default_zero(c, "terminationMessagePolicy", "File");
    set_default(c, "resources", Map::new());
    for side in ["limits", "requests"] {
        if let Some(amounts) = c.get_mut("resources").and_then(|r| r.get_mut(side)) {
            round_up(amounts);
        }
    }
    items_mut(c, "ports").for_each(|p| set_default_zero(p, "protocol", "TCP"));
    for env in items_mut(c, "env") {
        if let Some(from) = env.get_mut("valueFrom") {
            field_ref(from);
            if let Some(file) = from.get_mut("fileKeyRef") {
                set_default(file, "optional", false);
            }
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(p) = c.get_mut(probe).filter(|p| p.is_object()) {
            set_default_zero(p, "timeoutSeconds", 1);
            set_default_zero(p, "periodSeconds", 10);
            set_default_zero(p, "successThreshold", 1);
            set_default_zero(p, "failureThreshold", 3);
            handler(p);
        }
    }
    for hook in ["postStart", "preStop"] {
        if let Some(h) = c.get_mut("lifecycle").and_then(|l| l.get_mut(hook)) {
            handler(h);
        }
    }
}

fn handler(h: &mut Value) {
    if let Some(http) = h.get_mut("httpGet") {
        set_default_zero(http, "path", "/");
        set_default_zero(http, "scheme", "HTTP");
    }
    if let Some(grpc) = h.get_mut("grpc") {
        set_default(grpc, "service", "");
    }
}

fn field_ref(holder: &mut Value) {
    if let Some(field) = holder.get_mut("fieldRef") {
        set_default_zero(field, "apiVersion", "v1");
    }
}

/// Keys of a volume that are not its source.
fn is_source(key: &str) -> bool {
    key != "name"
}

fn volume(v: &mut Value) {
    let sourceless = v.as_object().is_some_and(|m| !m.iter().any(|(k, x)| is_source(k) && !x.is_null()));
    if sourceless {
        set(v, "emptyDir", Map::new());
    }
    volume_source(v);
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if let Some(s) = v.get_mut(source) {
            set_default(s, "defaultMode", FILE_MODE);
        }
    }
    if let Some(downward) = v.get_mut("downwardAPI") {
        items_mut(downward, "items").for_each(field_ref);
    }
    if let Some(projected) = v.get_mut("projected") {
        for source in items_mut(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                set_default(token, "expirationSeconds", TOKEN_SECONDS);
            }
            if let Some(downward) = source.get_mut("downwardAPI") {
                items_mut(downward, "items").for_each(field_ref);
            }
        }
    }
    if let Some(image) = v.get_mut("image") {
        let policy = pull_policy(text(image, "reference"));
        set_default_zero(image, "pullPolicy", policy);
    }
    if let Some(claim) = v.pointer_mut("/ephemeral/volumeClaimTemplate/spec") {
        set_default(claim, "volumeMode", "Filesystem");
    }
}

/// Defaults of the sources that pods and persistent volumes have in common.
pub(super) fn volume_source(v: &mut Value) {
    let rows: [(&str, &[(&str, Value)]); 6] = [
        ("hostPath", &[("type", json!(""))]),
        ("iscsi", &[("iscsiInterface", json!("default"))]),
        ("scaleIO", &[("storageMode", json!("ThinProvisioned")), ("fsType", json!("xfs"))]),
        ("rbd", &[("pool", json!("rbd")), ("user", json!("admin")), ("keyring", json!("/etc/ceph/keyring"))]),
        (
            "azureDisk",
            &[
                ("cachingMode", json!("ReadWrite")),
                ("fsType", json!("ext4")),
                ("readOnly", json!(false)),
                ("kind", json!("Shared")),
            ],
        ),
        ("ephemeral", &[]),
    ];
    for (source, defaults) in rows {
        if let Some(s) = v.get_mut(source) {
            for (key, value) in defaults {
                set_default(s, key, value.clone());
            }
        }
    }
}

/// Nobody can account for less than a thousandth of anything.
pub(super) fn round_up(amounts: &mut Value) {
    const MILLI: i128 = 1_000_000;
    for amount in amounts.as_object_mut().into_iter().flat_map(|m| m.values_mut()) {
        let read = amount.as_str().and_then(|s| Quantity::parse(s).ok());
        if let Some(q) = read.filter(|q| q.nano() % MILLI != 0 && !q.is_negative()) {
            *amount = Value::from(q.to_whole_milli().to_string());
        }
    }
}

/// A limit is a request where none is given.
pub(crate) fn requests_from_limits(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    let limits: Vec<(String, Value)> =
        pairs(resources, "limits").map(|(k, v)| (k.clone(), v.clone())).collect();
    if limits.is_empty() {
        return;
    }
    if let Some(requests) = ensure(resources, "requests") {
        for (name, amount) in limits {
            set_default(requests, &name, amount);
        }
    }
}

/// `latest`, written or meant, may change at any time and is pulled always.
fn pull_policy(image: &str) -> &'static str {
    if image_tag(image) == Some("latest") { "Always" } else { "IfNotPresent" }
}

/// How long a reference may be without its registry, tag and digest.
const IMAGE_PATH_LEN_MAX: usize = 255;

/// A registry's host, and its port if it says one.
fn is_host(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    let label = |l: &str| {
        l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && l.starts_with(|c: char| c.is_ascii_alphanumeric())
            && l.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    host.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// The tag of an image reference: `latest` where neither tag nor digest is given, `None` for a digest without a tag and
/// for what is no reference.
fn image_tag(image: &str) -> Option<&str> {
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    // A colon after the last slash parts the tag; one before it is a registry's port.
    let slash = name.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match name[slash..].split_once(':') {
        Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
        None => (name, None),
    };
    let component = |c: &str| {
        c.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
            && c.starts_with(|x: char| x.is_ascii_alphanumeric())
            && c.ends_with(|x: char| x.is_ascii_alphanumeric())
    };
    let mut parts = name.split('/');
    let first = parts.next().unwrap_or_default();
    let is_domain = name.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let path = if is_domain { &name[first.len() + 1..] } else { name };
    let fits = if is_domain { is_host(first) } else { component(first) };
    if !fits || !parts.all(component) || path.len() > IMAGE_PATH_LEN_MAX {
        return None;
    }
    match (tag, digest) {
        (Some(tag), _) => Some(tag),
        (None, None) => Some("latest"),
        (None, Some(_)) => None,
    }
}

/// The quality of service class: what the kubelet and eviction go by.
pub(crate) fn qos_class(spec: &Value) -> &'static str {
    let mut any = false;
    let mut guaranteed = true;
    let consider = |resources: &Value, any: &mut bool, guaranteed: &mut bool| {
        for name in ["cpu", "memory"] {
            let amount = |side: &str| {
                at(resources, side)
                    .get(name)
                    .and_then(Value::as_str)
                    .and_then(|q| Quantity::parse(q).ok())
                    .filter(|q| !q.is_zero())
                    .map(|q| q.nano())
            };
            let (request, limit) = (amount("requests"), amount("limits"));
            *any |= request.is_some() || limit.is_some();
            *guaranteed &= limit.is_some() && (request == limit || request.is_none());
        }
    };
    if has(spec, "resources")
        && (has(at(spec, "resources"), "requests") || has(at(spec, "resources"), "limits"))
    {
        consider(at(spec, "resources"), &mut any, &mut guaranteed);
    } else {
        for list in ["initContainers", "containers"] {
            for c in crate::value::items(spec, list) {
                consider(at(c, "resources"), &mut any, &mut guaranteed);
            }
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_pulled_always() {
        for (image, want) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.2", "IfNotPresent"),
            ("localhost:5000/a/b", "Always"),
            ("localhost:5000/a/b:1", "IfNotPresent"),
            ("busybox@sha256:aa", "IfNotPresent"),
            ("Not An Image", "IfNotPresent"),
            ("", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), want, "{image}");
        }
    }

    #[test]
    fn amounts_are_rounded_up_to_a_thousandth() {
        let mut pod =
            json!({"spec": {"containers": [{"resources": {"limits": {"cpu": "100u", "memory": "1Gi"}}}]}});
        super::pod(&mut pod);
        let resources = &pod["spec"]["containers"][0]["resources"];
        assert_eq!(resources["limits"], json!({"cpu": "1m", "memory": "1Gi"}));
        assert_eq!(resources["requests"], resources["limits"]);
    }

    #[test]
    fn a_pod_as_a_whole_gets_what_it_leaves_open() {
        let containers = json!([
            {"name": "a", "image": "i", "resources": {"requests": {"cpu": "100m", "x.io/y": "1"}, "limits": {"hugepages-2Mi": "4Mi"}}},
            {"name": "b", "image": "i", "resources": {"requests": {"cpu": "200m"}}},
        ]);
        for (own, want) in [
            (
                json!({"limits": {"cpu": "1", "memory": "1Gi"}}),
                json!({"limits": {"cpu": "1", "memory": "1Gi", "hugepages-2Mi": "4Mi"},
                    "requests": {"cpu": "300m", "memory": "1Gi", "hugepages-2Mi": "4Mi"}}),
            ),
            (
                json!({"limits": {"cpu": "1", "hugepages-2Mi": "8Mi"}, "requests": {"cpu": "500m"}}),
                json!({"limits": {"cpu": "1", "hugepages-2Mi": "8Mi"}, "requests": {"cpu": "500m", "hugepages-2Mi": "8Mi"}}),
            ),
        ] {
            let mut o = json!({"spec": {"containers": containers, "resources": own}});
            pod(&mut o);
            assert_eq!(o["spec"]["resources"], want);
        }
        let pages = json!([{"name": "a", "image": "i", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}]);
        let plain = json!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]);
        // Who says nothing of the whole, or asks for pages of it, has said nothing that could be completed.
        for (containers, own) in [
            (&plain, json!({"requests": {"memory": "1Gi"}})),
            (&pages, json!({})),
            (&pages, json!({"requests": {"hugepages-2Mi": "8Mi"}})),
        ] {
            let mut o = json!({"spec": {"containers": containers, "resources": own}});
            pod(&mut o);
            assert_eq!(o["spec"]["resources"], own);
        }
    }

    #[test]
    fn quality_of_service_follows_requests_and_limits() {
        let pod = |r: Value| json!({"containers": [{"resources": r}]});
        for (resources, want) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (
                json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                "Guaranteed",
            ),
            (
                json!({"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}),
                "Burstable",
            ),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}), "Burstable"),
        ] {
            assert_eq!(qos_class(&pod(resources.clone())), want, "{resources}");
        }
    }
}
