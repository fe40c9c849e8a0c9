//! The downward API: fields of a pod and resources of its containers as text, for files and environment variables.

use crate::{Error, Place};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use std::collections::BTreeMap;
use stoa_units::{Quantity, quote};

/// The text of a pod's field.
pub fn render_field(pod: &Pod, path: &str, place: &Place) -> Result<String, Error> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |s: &Option<String>| s.clone().unwrap_or_default();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => render_map(meta.labels.as_ref()),
        "metadata.annotations" => render_map(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => place.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => place.host_ips.join(","),
        "status.podIP" => place.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => place.pod_ips.join(","),
        other => {
            let (map, key) = split_subscript(other).ok_or_else(|| Error::Downward(other.to_owned()))?;
            let map = match map {
                "metadata.labels" => meta.labels.as_ref(),
                "metadata.annotations" => meta.annotations.as_ref(),
                _ => return Err(Error::Downward(other.to_owned())),
            };
            map.and_then(|m| m.get(key)).cloned().unwrap_or_default()
        }
    })
}

/// Whether a field is known only once the pod has its network.
pub fn is_of_network(path: &str) -> bool {
    matches!(path, "status.podIP" | "status.podIPs")
}

/// The text of a container's resource, divided and rounded up.
pub fn render_resource(
    pod: &Pod,
    selector: &ResourceFieldSelector,
    container: &str,
    place: &Place,
) -> Result<String, Error> {
    let name = selector.container_name.as_deref().filter(|n| !n.is_empty()).unwrap_or(container);
    let unknown = || Error::Downward(format!("{name}: {}", selector.resource));
    let container = find_container(pod, name).ok_or_else(|| Error::NoContainer(name.to_owned()))?;
    let (side, resource) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let own = match side {
        "limits" => resources.and_then(|r| r.limits.as_ref()),
        "requests" => resources.and_then(|r| r.requests.as_ref()),
        _ => return Err(unknown()),
    };
    let text = own.and_then(|m| m.get(resource)).map(|q| q.0.as_str()).or_else(|| {
        // Without a limit a container may use what the node can give.
        let node_wide = side == "limits" && matches!(resource, "cpu" | "memory" | "ephemeral-storage");
        node_wide.then(|| place.allocatable.get(resource).map(String::as_str)).flatten()
    });
    let amount = Quantity::parse(text.unwrap_or("0")).map_err(|_| unknown())?;
    let divisor = selector.divisor.as_ref().map_or("1", |q| q.0.as_str());
    let divisor = Quantity::parse(divisor).map_err(|_| unknown())?;
    let divisor = if divisor.is_zero() { 1_000_000_000 } else { divisor.nano() };
    Ok(((amount.nano().max(0) + divisor - 1) / divisor).to_string())
}

fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers.iter().chain(spec.init_containers.iter().flatten()).find(|c| c.name == name)
}

fn split_subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once('[')?;
    let key = rest.strip_suffix(']')?;
    let key = key
        .strip_prefix('\'')
        .and_then(|k| k.strip_suffix('\''))
        .or_else(|| key.strip_prefix('"').and_then(|k| k.strip_suffix('"')))?;
    Some((map, key))
}

fn render_map(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={}", quote(v))).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "default", "uid": "u", "labels": {"b": "2", "a": "say \"hi\"\n"}},
            "spec": {"nodeName": "n1", "containers": [{
                "name": "c", "resources": {"limits": {"cpu": "250m"}, "requests": {"memory": "33Mi"}}}]}
        }))
        .unwrap()
    }

    #[test]
    fn fields_read_as_a_kubelet_writes_them() {
        let place = Place { pod_ips: vec!["10.0.0.2".into()], ..Place::default() };
        for (path, want) in [
            ("metadata.name", "web"),
            ("metadata.labels", "a=\"say \\\"hi\\\"\\n\"\nb=\"2\""),
            ("metadata.labels['b']", "2"),
            ("metadata.annotations['none']", ""),
            ("spec.nodeName", "n1"),
            ("status.podIP", "10.0.0.2"),
        ] {
            assert_eq!(render_field(&pod(), path, &place).unwrap(), want, "{path}");
        }
        assert!(render_field(&pod(), "spec.containers", &place).is_err());
    }

    #[test]
    fn resources_are_divided_and_rounded_up() {
        let place =
            Place { allocatable: [("memory".to_owned(), "2Gi".to_owned())].into(), ..Place::default() };
        for (resource, divisor, want) in [
            ("limits.cpu", "1", "1"),
            ("limits.cpu", "1m", "250"),
            ("requests.memory", "1Mi", "33"),
            ("requests.memory", "0", "34603008"),
            ("limits.memory", "1Gi", "2"),
            ("requests.cpu", "1m", "0"),
        ] {
            let selector: ResourceFieldSelector =
                serde_json::from_value(json!({"resource": resource, "divisor": divisor})).unwrap();
            assert_eq!(
                render_resource(&pod(), &selector, "c", &place).unwrap(),
                want,
                "{resource}/{divisor}"
            );
        }
    }
}
