//! Which pod uses more of the disk than its limits allow: an emptyDir beyond its size, a container beyond its own limit, or all
//! of them together. Pure; who measures is the [`crate::evict`] keeper.

use crate::limits::{self, Side};
use crate::pod::{self, Part};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;
use stoa_units::Quantity;

/// Bytes that a pod uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Used {
    /// Of each emptyDir on the disk.
    pub(crate) volumes: BTreeMap<String, u64>,
    /// Of each container: what it wrote into its root, and its logs.
    pub(crate) containers: BTreeMap<String, u64>,
    /// Of the files that the agent keeps for all of them and they may write: `/etc/hosts`, last words.
    pub(crate) shared: u64,
}

const STORAGE: &str = "ephemeral-storage";

fn bytes(text: &Text) -> Option<u64> {
    Quantity::parse(&text.0).ok().map(|q| q.value_ceil())
}

fn limit(container: &Container) -> Option<&Text> {
    container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)
}

/// Limits of emptyDirs on the disk, by name.
fn volume_limits(pod: &Pod) -> impl Iterator<Item = (&str, &Text)> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    volumes.filter_map(|v| {
        let dir = v.empty_dir.as_ref()?;
        // One in memory is bounded by its mount.
        let is_disk = dir.medium.as_deref().unwrap_or_default().is_empty();
        Some((v.name.as_str(), dir.size_limit.as_ref().filter(|_| is_disk)?))
    })
}

/// Whether there is anything to measure for.
pub(crate) fn is_limited(pod: &Pod) -> bool {
    volume_limits(pod).next().is_some() || pod::containers(pod).any(|(_, c)| limit(c).is_some())
}

/// What the pod is told when it uses too much.
pub(crate) fn exceeded(pod: &Pod, used: &Used) -> Option<String> {
    for (name, text) in volume_limits(pod) {
        if used.volumes.get(name).copied().unwrap_or(0) > bytes(text).filter(|b| *b > 0).unwrap_or(u64::MAX) {
            return Some(format!("Usage of EmptyDir volume \"{name}\" exceeds the limit \"{}\". ", text.0));
        }
    }
    // Whoever names no limit adds nothing to the sum, and counts against it all the same.
    let limits = limits::totals(pod, &Default::default(), Side::Limits);
    let total: u64 = used.volumes.values().chain(used.containers.values()).chain([&used.shared]).sum();
    if let Some(limit) = limits.get(STORAGE)
        && bytes(limit).is_some_and(|most| total > most)
    {
        let shown = &limit.0;
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {shown}. "
        ));
    }
    pod::containers(pod).filter(|(part, _)| *part == Part::Main).find_map(|(_, c)| {
        let text = limit(c)?;
        let over = used.containers.get(&c.name).copied().unwrap_or(0) > bytes(text).filter(|b| *b > 0)?;
        over.then(|| {
            format!("Container {} exceeded its local ephemeral storage limit \"{}\". ", c.name, text.0)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_limit_is_held_and_told_in_a_kubelets_words() {
        let container = |name: &str, limit: &str| {
            let mut c = json!({"name": name, "image": "i"});
            if !limit.is_empty() {
                c["resources"] = json!({"limits": {"ephemeral-storage": limit}});
            }
            c
        };
        let pod = |size: &str, limits: [&str; 2]| -> Pod {
            let dir = if size.is_empty() { json!({}) } else { json!({"sizeLimit": size}) };
            serde_json::from_value(json!({"metadata": {}, "spec": {
                "containers": [container("a", limits[0]), container("b", limits[1])],
                "volumes": [{"name": "v", "emptyDir": dir}, {"name": "m", "emptyDir": {"medium": "Memory", "sizeLimit": "1"}}]}}))
            .unwrap()
        };
        let used = |v: u64, a: u64, b: u64| Used {
            volumes: [("v".to_owned(), v)].into(),
            containers: [("a".to_owned(), a), ("b".to_owned(), b)].into(),
            shared: 0,
        };
        let say = |p: &Pod, u: &Used| exceeded(p, u).unwrap_or_default();
        let free = pod("", ["", ""]);
        assert!(!is_limited(&free) && exceeded(&free, &used(u64::MAX / 4, 1, 1)).is_none());
        let sized = pod("1Mi", ["", ""]);
        assert!(is_limited(&sized) && exceeded(&sized, &used(1 << 20, 9, 9)).is_none());
        assert_eq!(
            say(&sized, &used((1 << 20) + 1, 0, 0)),
            "Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "
        );
        // What a container without a limit uses counts against the limit of the other.
        let half = pod("", ["1Ki", ""]);
        assert!(exceeded(&half, &used(0, 24, 1_000)).is_none());
        assert_eq!(
            say(&half, &used(0, 25, 1_000)),
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Ki. "
        );
        let wide = pod("", ["1Ki", "1Mi"]);
        assert_eq!(
            say(&wide, &used(0, 1_025, 0)),
            "Container a exceeded its local ephemeral storage limit \"1Ki\". "
        );
        let both = pod("", ["1Ki", "1Ki"]);
        assert_eq!(
            say(&both, &used(2_000, 100, 0)),
            "Pod ephemeral local storage usage exceeds the total limit of containers 2Ki. "
        );
        assert!(exceeded(&both, &Used { shared: 2_049, ..Used::default() }).is_some());
    }
}
