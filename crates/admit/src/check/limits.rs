//! Limit ranges bound what a container, a pod or a claim may ask for.

use serde_json::Value;
use std::collections::BTreeMap;
use stoa_kube::Status;
use stoa_units::Quantity;

use super::quota::pod_resources;
use crate::value::{at, items, pairs, text};
use crate::{Request, World};

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn amounts(v: &Value, key: &str) -> Amounts {
    pairs(v, key).filter_map(|(k, v)| Some((k.clone(), Quantity::parse(v.as_str()?).ok()?))).collect()
}

pub(super) fn check_pod(request: &Request<'_>, pod: &Value, world: &dyn World) -> Result<(), Status> {
    let mut errors = Vec::new();
    for range in world.list("", "limitranges", request.namespace) {
        for limit in items(at(&range, "spec"), "limits") {
            let spec = at(pod, "spec");
            match text(limit, "type") {
                "Container" => {
                    for list in ["containers", "initContainers"] {
                        for container in items(spec, list) {
                            let resources = at(container, "resources");
                            let (requests, limits) =
                                (amounts(resources, "requests"), amounts(resources, "limits"));
                            compare(limit, "Container", &requests, &limits, &mut errors);
                        }
                    }
                }
                "Pod" => {
                    let (requests, limits) = (pod_resources(spec, "requests"), pod_resources(spec, "limits"));
                    compare(limit, "Pod", &requests, &limits, &mut errors);
                }
                _ => {}
            }
        }
    }
    refuse(request, errors)
}

pub(super) fn check_claim(request: &Request<'_>, claim: &Value, world: &dyn World) -> Result<(), Status> {
    let mut errors = Vec::new();
    let requests = amounts(at(at(claim, "spec"), "resources"), "requests");
    for range in world.list("", "limitranges", request.namespace) {
        for limit in
            items(at(&range, "spec"), "limits").filter(|l| text(l, "type") == "PersistentVolumeClaim")
        {
            let (min, max) = (amounts(limit, "min"), amounts(limit, "max"));
            for (name, amount) in &requests {
                if let Some(bound) = min.get(name).filter(|b| amount.nano() < b.nano()) {
                    errors.push(format!(
                        "minimum {name} usage per PersistentVolumeClaim is {bound}, but request is {amount}"
                    ));
                }
                if let Some(bound) = max.get(name).filter(|b| amount.nano() > b.nano()) {
                    errors.push(format!(
                        "maximum {name} usage per PersistentVolumeClaim is {bound}, but request is {amount}"
                    ));
                }
            }
        }
    }
    refuse(request, errors)
}

fn refuse(request: &Request<'_>, mut errors: Vec<String>) -> Result<(), Status> {
    errors.dedup();
    let why = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(Status::forbidden(request.resource, request.name, &why))
}

fn compare(limit: &Value, kind: &str, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, bound) in amounts(limit, "min") {
        let text = format!("minimum {name} usage per {kind} is {bound}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => errors.push(format!("{text}.  No request is specified")),
            (Some(r), _) if r.nano() < bound.nano() => errors.push(format!("{text}, but request is {r}")),
            (_, Some(l)) if l.nano() < bound.nano() => errors.push(format!("{text}, but limit is {l}")),
            _ => {}
        }
    }
    for (name, bound) in amounts(limit, "max") {
        let text = format!("maximum {name} usage per {kind} is {bound}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => errors.push(format!("{text}.  No limit is specified")),
            (_, Some(l)) if l.nano() > bound.nano() => errors.push(format!("{text}, but limit is {l}")),
            (Some(r), _) if r.nano() > bound.nano() => errors.push(format!("{text}, but request is {r}")),
            _ => {}
        }
    }
    for (name, bound) in amounts(limit, "maxLimitRequestRatio") {
        let text = format!("{name} max limit to request ratio per {kind} is {bound}");
        let positive = |q: Option<&Quantity>| q.filter(|q| !q.is_zero()).map(|q| q.nano() as f64);
        match (positive(requests.get(&name)), positive(limits.get(&name))) {
            (None, _) => errors.push(format!("{text}, but no request is specified or request is 0")),
            (_, None) => errors.push(format!("{text}, but no limit is specified or limit is 0")),
            (Some(r), Some(l)) => {
                let ratio = l / r;
                if ratio * 1e9 > bound.nano() as f64 {
                    errors.push(format!("{text}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}
