//! Limit ranges give containers the requests and limits that they lack.

use serde_json::Value;

use crate::value::{at, ensure, items, items_mut, pairs, set, text};
use crate::{Request, World};

const NOTE: &str = "kubernetes.io/limit-ranger";

pub(super) fn fill(request: &Request<'_>, pod: &mut Value, world: &dyn World) {
    for range in world.list("", "limitranges", request.namespace) {
        let mut notes = Vec::new();
        let (limits, requests) = container_defaults(&range);
        if limits.is_empty() && requests.is_empty() {
            continue;
        }
        if let Some(spec) = pod.get_mut("spec") {
            for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
                for container in items_mut(spec, list) {
                    let name = text(container, "name").to_owned();
                    for (side, defaults, word) in
                        [("requests", &requests, "request"), ("limits", &limits, "limit")]
                    {
                        let filled = fill_side(container, side, defaults);
                        if !filled.is_empty() {
                            notes.push(format!("{} {word} for {what} {name}", filled.join(", ")));
                        }
                    }
                }
            }
        }
        if notes.is_empty() {
            continue;
        }
        let annotations = ensure(pod, "metadata").and_then(|m| ensure(m, "annotations"));
        if let Some(annotations) = annotations {
            set(annotations, NOTE, format!("LimitRanger plugin set: {}", notes.join("; ")));
        }
    }
}

type Amounts = Vec<(String, Value)>;

/// Default limits and default requests of containers.
fn container_defaults(range: &Value) -> (Amounts, Amounts) {
    let (mut limits, mut requests) = (Vec::new(), Vec::new());
    for item in items(at(range, "spec"), "limits").filter(|i| text(i, "type") == "Container") {
        limits.extend(pairs(item, "default").map(|(k, v)| (k.clone(), v.clone())));
        requests.extend(pairs(item, "defaultRequest").map(|(k, v)| (k.clone(), v.clone())));
    }
    (limits, requests)
}

/// Fills one side and names what was filled, sorted.
fn fill_side(container: &mut Value, side: &str, defaults: &Amounts) -> Vec<String> {
    let missing: Vec<&(String, Value)> = defaults
        .iter()
        .filter(|(name, _)| at(at(at(container, "resources"), side), name).is_null())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let Some(amounts) = ensure(container, "resources").and_then(|r| ensure(r, side)) else {
        return Vec::new();
    };
    let mut filled = Vec::new();
    for (name, amount) in missing {
        set(amounts, name, amount.clone());
        filled.push(name.clone());
    }
    filled.sort();
    filled
}
