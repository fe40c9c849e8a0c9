//! Slices of Endpoints that people write for a service without a selector, for consumers that know slices only.

use super::pack::{Kept, Owner, Slices, Trigger, Wanted};
use super::{TRIGGERED, family};
use crate::meta::{id, labels, resource};
use crate::{Action, Key, World};
use k8s_openapi::api::discovery::v1::Endpoint;
use serde_json::{Value, json};
use stoa_kube::typed::Endpoints;
use stoa_units::Time;

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Addresses of a subset that are mirrored.
const ADDRESSES_LEN_MAX: usize = 1_000;
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const ELECTION: &str = "control-plane.alpha.kubernetes.io/leader";
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Looks at one Endpoints object.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(endpoints) = world.endpoints.get(&key.namespace, &key.name) else { return Vec::new() };
    let meta = &endpoints.metadata;
    if meta.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let service = world.services.get(&key.namespace, &key.name);
    let selects = |s: &stoa_kube::typed::Service| s.spec.as_ref().is_some_and(|s| s.selector.is_some());
    let mirrored = service.is_some_and(|s| !selects(s))
        && labels(meta).get(SKIP).map(String::as_str) != Some("true")
        && crate::meta::annotation(meta, ELECTION).is_none();
    let owner_id = id(resource("", "endpoints"), meta);
    let notes = meta.annotations.clone().unwrap_or_default();
    let owner = Owner {
        id: &owner_id,
        manager: MANAGER,
        labels: labels(meta).clone(),
        annotations: notes.into_iter().filter(|(k, _)| k != TRIGGERED && k != APPLIED).collect(),
        len_max: ADDRESSES_LEN_MAX,
        kept: Kept::Nothing,
    };
    let mut slices = Slices::of(world, &owner);
    if mirrored {
        want(&mut slices, endpoints);
    }
    slices.plan(&[], &Trigger { annotation: TRIGGERED, first: None })
}

fn want(slices: &mut Slices<'_, Mirrored>, endpoints: &Endpoints) {
    for subset in endpoints.subsets.iter().flatten() {
        let ports: Vec<Value> = subset
            .ports
            .iter()
            .flatten()
            .map(|p| {
                let mut out = json!({"name": p.name.as_deref().unwrap_or_default(), "port": p.port,
                    "protocol": p.protocol.as_deref().unwrap_or("TCP")});
                if let Some(app) = &p.app_protocol {
                    out["appProtocol"] = json!(app);
                }
                out
            })
            .collect();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten().map(|a| (a, false));
        for (address, ready) in ready.chain(unready).take(ADDRESSES_LEN_MAX) {
            let mut out = json!({"addresses": [address.ip], "conditions": {"ready": ready}});
            let optional = [
                ("hostname", json!(address.hostname)),
                ("nodeName", json!(address.node_name)),
                ("targetRef", json!(address.target_ref)),
            ];
            for (field, value) in optional {
                if !value.is_null() && value != "" {
                    out[field] = value;
                }
            }
            let group = slices.group(family(&address.ip), ports.clone());
            slices.want(group, Mirrored(out));
        }
    }
}

/// An address as somebody wrote it.
struct Mirrored(Value);

impl Wanted for Mirrored {
    fn identity(&self) -> &str {
        self.0["addresses"][0].as_str().unwrap_or_default()
    }

    fn published_identity(published: &Endpoint) -> &str {
        published.addresses.first().map(String::as_str).unwrap_or_default()
    }

    fn is(&self, published: &Endpoint) -> bool {
        self.0 == json!(published)
    }

    fn to_value(&self) -> Value {
        self.0.clone()
    }

    fn since(&self) -> Option<Time> {
        None
    }

    fn is_news(&self, _: &Endpoint) -> bool {
        true
    }
}
