//! Priority, tolerations and runtime class of a new pod.

use serde_json::{Value, json};
use stoa_kube::Status;

use crate::default::qos_class;
use crate::value::{at, ensure, ensure_list, flag, has, int, is_empty, items, pairs, path, set, text};
use crate::{Request, World};

/// `priorityClassName` becomes a number; without one, the cluster's default class counts.
pub(super) fn priority(request: &Request<'_>, pod: &mut Value, world: &dyn World) -> Result<(), Status> {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    let refuse = |why: String| Err(Status::forbidden(request.resource, request.name, &why));
    let name = text(spec, "priorityClassName").to_owned();
    let class = match name.as_str() {
        "" => default_class(world),
        _ => match world.get("scheduling.k8s.io", "priorityclasses", "", &name) {
            Some(class) => Some(class),
            None => return refuse(format!("no PriorityClass with name {name} was found")),
        },
    };
    let class = class.unwrap_or_default();
    let value = int(&class, "value").unwrap_or(0);
    let policy = match text(&class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    if int(spec, "priority").is_some_and(|given| given != value) {
        let given = int(spec, "priority").unwrap_or(0);
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        ));
    }
    let given = text(spec, "preemptionPolicy");
    if !given.is_empty() && given != policy {
        return refuse(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        ));
    }
    if name.is_empty() && has(&class, "metadata") {
        set(spec, "priorityClassName", text(at(&class, "metadata"), "name"));
    }
    set(spec, "priority", value);
    set(spec, "preemptionPolicy", policy);
    Ok(())
}

/// Of several classes that call themselves the default, the lowest counts.
fn default_class(world: &dyn World) -> Option<Value> {
    let classes = world.list("scheduling.k8s.io", "priorityclasses", "");
    classes.into_iter().filter(|c| flag(c, "globalDefault")).min_by_key(|c| int(c, "value"))
}

/// How long a pod stays on a node that is not ready or cannot be reached.
const TOLERATION_SECONDS: i64 = 300;

pub(super) fn tolerations(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return };
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerated = items(spec, "tolerations").any(|t| {
            (text(t, "key") == key || is_empty(t, "key"))
                && (text(t, "effect") == "NoExecute" || is_empty(t, "effect"))
        });
        if !tolerated && let Some(list) = ensure_list(spec, "tolerations") {
            list.push(json!({
                    "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
                }));
        }
    }
}

/// A runtime class has costs of its own and may run on some nodes only.
pub(super) fn runtime_class(request: &Request<'_>, pod: &mut Value, world: &dyn World) -> Result<(), Status> {
    let Some(spec) = pod.get_mut("spec").filter(|s| s.is_object()) else { return Ok(()) };
    let refuse =
        |why: &str| Err(Status::forbidden(request.resource, request.name, &format!("pod rejected: {why}")));
    let name = text(spec, "runtimeClassName").to_owned();
    let class = match name.as_str() {
        "" => Value::Null,
        _ => match world.get("node.k8s.io", "runtimeclasses", "", &name) {
            Some(class) => class,
            None => return refuse(&format!("RuntimeClass {name:?} not found")),
        },
    };
    let overhead = path(&class, &["overhead", "podFixed"]);
    if !is_empty(spec, "overhead") && at(spec, "overhead") != overhead {
        return refuse(match name.as_str() {
            "" => "Pod Overhead set without corresponding RuntimeClass defined Overhead",
            _ => "Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        });
    }
    if overhead.is_object() {
        set(spec, "overhead", overhead.clone());
    }
    for (key, value) in pairs(at(&class, "scheduling"), "nodeSelector") {
        let Some(selector) = ensure(spec, "nodeSelector") else { break };
        if selector.get(key).is_some_and(|v| v != value) {
            return refuse(
                "conflict: runtimeClass.scheduling.nodeSelector and pod.spec.nodeSelector have different values for the same key",
            );
        }
        set(selector, key, value.clone());
    }
    let extra: Vec<Value> = items(at(&class, "scheduling"), "tolerations").cloned().collect();
    if !extra.is_empty()
        && let Some(list) = ensure_list(spec, "tolerations")
    {
        let fresh: Vec<Value> = extra.into_iter().filter(|t| !list.contains(t)).collect();
        list.extend(fresh);
    }
    Ok(())
}

/// Limits may have been added since the status was made.
pub(super) fn requalify(pod: &mut Value) {
    let class = qos_class(at(pod, "spec"));
    if let Some(status) = ensure(pod, "status") {
        set(status, "qosClass", class);
    }
}
