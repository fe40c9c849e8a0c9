//! Whom a change may concern. Generous where it is cheap: a look that finds nothing to do does nothing.

use crate::device_claim::{self, DeviceClaim, Of};
use crate::meta::{controller, is_deleting, labels};
use crate::service_cidr::ranges;
use crate::{Controller, Graph, Key, Member, Pod, World};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use stoa_kube::typed::{Node, ObjectMeta, ServiceCIDR};
use stoa_kube::{Meta, Resource};
use stoa_units::NamespacedName;

/// The controllers that look at objects of a resource themselves.
fn of(resource: &Resource) -> &'static [Controller] {
    match (resource.storage, resource.plural) {
        ("", "namespaces") => &[Controller::Namespace, Controller::RootCa, Controller::ServiceAccount],
        ("", "nodes") => &[Controller::NodeLifecycle, Controller::NodeTtl],
        ("", "services") => {
            &[Controller::Endpoints, Controller::EndpointsLegacy, Controller::EndpointsMirror]
        }
        // A slice's service is found as its owner.
        ("", "endpoints") => &[Controller::EndpointsLegacy, Controller::EndpointsMirror],
        ("", "persistentvolumeclaims") => &[Controller::ClaimBinding, Controller::ClaimProtection],
        ("", "persistentvolumes") => &[Controller::VolumeBinding, Controller::VolumeProtection],
        ("", "replicationcontrollers") => &[Controller::ReplicationController],
        ("", "resourcequotas") => &[Controller::Quota],
        ("apps", "deployments") => &[Controller::Deployment],
        ("apps", "replicasets") => &[Controller::ReplicaSet],
        ("apps", "statefulsets") => &[Controller::StatefulSet],
        ("apps", "daemonsets") => &[Controller::DaemonSet],
        ("autoscaling", "horizontalpodautoscalers") => &[Controller::Autoscaler],
        ("resource.k8s.io", "resourceclaims") => &[Controller::DeviceClaim],
        ("storage.k8s.io", "volumeattributesclasses") => &[Controller::AttributesProtection],
        ("batch", "jobs") => &[Controller::Job, Controller::JobTtl],
        ("batch", "cronjobs") => &[Controller::CronJob],
        ("policy", "poddisruptionbudgets") => &[Controller::Disruption],
        ("networking.k8s.io", "servicecidrs") => &[Controller::ServiceCidr],
        ("networking.k8s.io", "ipaddresses") => &[Controller::IpAddress],
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &[Controller::FlowSchema],
        _ => &[],
    }
}

/// The object's own controllers.
pub(crate) fn own(
    resource: &Resource,
    name: &NamespacedName,
    _owner: Option<&str>,
    keys: &mut BTreeSet<Key>,
) {
    let namespaces = resource.storage.is_empty() && resource.plural == "namespaces";
    for c in of(resource) {
        // The controllers of what every namespace has are keyed by the namespace.
        let key = match (c, namespaces) {
            (Controller::RootCa | Controller::ServiceAccount, true) => {
                Key::new(*c, name.name.clone(), name.name.clone())
            }
            _ => Key::new(*c, name.namespace.clone(), name.name.clone()),
        };
        keys.insert(key);
    }
    match (resource.storage, resource.plural, &*name.name) {
        ("", "configmaps", crate::world::ROOT_CA) => {
            keys.insert(Key::new(Controller::RootCa, name.namespace.clone(), name.namespace.clone()));
        }
        ("", "serviceaccounts", "default") => {
            keys.insert(Key::new(Controller::ServiceAccount, name.namespace.clone(), name.namespace.clone()));
        }
        ("rbac.authorization.k8s.io", "clusterroles", _) => {
            keys.insert(Key::new(Controller::ClusterRole, "", ""));
        }
        _ => {}
    }
}

/// An object changed: its collector, and the controller of its owner.
pub(crate) fn changed(world: &World, meta: &Meta, before: Option<&Member>, keys: &mut BTreeSet<Key>) {
    let graph = &world.graph;
    if !meta.owner_references.is_empty() || meta.is_deleting() {
        keys.insert(Key::new(Controller::Collector, "", meta.uid.as_str()));
    }
    owners(graph, meta.owner_references.iter().map(|o| (o.uid.as_str(), o.controller)), keys);
    if let Some(before) = before {
        // An owner that this object had before may now be free to go.
        owners(graph, before.owners.iter().map(|o| (o.uid.as_str(), o.controller)), keys);
        if *before.id.uid != *meta.uid {
            dependents(graph, &before.id.uid, keys);
        }
    }
    if meta.is_deleting() {
        dependents(graph, &meta.uid, keys);
        namespace_of(world, &meta.namespace, keys);
    } else if before.is_none() {
        namespace_of(world, &meta.namespace, keys);
    }
    // What pods cost is looked at where they are: most of their changes are statuses that change nothing of it.
    let resized = matches!(meta.kind.as_str(), "Service" | "PersistentVolumeClaim");
    if meta.controller().is_none() && !meta.is_deleting() {
        takers(world, meta, keys);
    }
    if before.is_none() || resized {
        quotas(world, &meta.kind, &meta.namespace, keys);
    }
    storage(world, &meta.kind, &meta.namespace, &meta.name, keys);
    if meta.kind == "ServiceAccount" {
        tokens_of(world, &meta.namespace, &meta.name, keys);
    }
    if meta.kind == "ServiceCIDR" {
        ranges_that_go(world, |_| true, keys);
    }
    if meta.kind == LEVEL && before.is_none() {
        schemas_of(world, &meta.name, keys);
    }
    if meta.kind == "Node" && before.is_none() {
        keys.extend(world.daemon_sets.iter().filter_map(|d| {
            let m = &d.metadata;
            Some(Key::new(Controller::DaemonSet, m.namespace.as_deref()?, m.name.as_deref()?))
        }));
    }
}

/// An object is gone: its dependents, its owners, its namespace.
pub(crate) fn gone(world: &World, member: &Member, keys: &mut BTreeSet<Key>) {
    dependents(&world.graph, &member.id.uid, keys);
    owners(&world.graph, member.owners.iter().map(|o| (o.uid.as_str(), o.controller)), keys);
    namespace_of(world, &member.id.namespace, keys);
    storage(world, member.id.resource.kind, &member.id.namespace, &member.id.name, keys);
    quotas(world, member.id.resource.kind, &member.id.namespace, keys);
    if member.id.resource.kind == "ServiceAccount" {
        tokens_of(world, &member.id.namespace, &member.id.name, keys);
    }
    if member.id.resource.kind == LEVEL {
        schemas_of(world, &member.id.name, keys);
    }
    if member.id.resource.kind == "Job" {
        let pods = world.pods.owned_by(&member.id.uid);
        keys.extend(pods.map(|p| Key::new(Controller::JobPod, p.id.namespace.clone(), p.id.name.clone())));
    }
}

const LEVEL: &str = "PriorityLevelConfiguration";

/// The flow schemas that name a level.
fn schemas_of(world: &World, level: &str, keys: &mut BTreeSet<Key>) {
    let all = world.flow_schemas.owned_by(level);
    keys.extend(all.filter_map(|s| Some(Key::new(Controller::FlowSchema, "", s.metadata.name.as_deref()?))));
}

/// Claims and volumes that may be for each other.
fn storage(world: &World, kind: &str, namespace: &str, name: &str, keys: &mut BTreeSet<Key>) {
    let key = |c: Controller, m: &ObjectMeta| {
        Some(Key::new(c, m.namespace.as_deref().unwrap_or_default(), m.name.as_deref()?))
    };
    match kind {
        "PersistentVolumeClaim" => {
            let volumes = crate::binder::volumes_of(world, namespace, name);
            keys.extend(volumes.iter().filter_map(|v| key(Controller::VolumeBinding, &v.metadata)));
        }
        "PersistentVolume" => {
            let claims = crate::binder::claims_of(world, name);
            keys.extend(claims.iter().filter_map(|c| key(Controller::ClaimBinding, &c.metadata)));
        }
        _ => {}
    }
}

/// A service came to an address or left one: the address, and the ranges that wait for the last to leave.
pub(crate) fn address(world: &World, old: Option<&str>, new: Option<&str>, keys: &mut BTreeSet<Key>) {
    if old == new {
        return;
    }
    for address in [old, new].into_iter().flatten().filter(|a| !a.is_empty()) {
        keys.insert(Key::new(Controller::IpAddress, "", address));
    }
    // Only who left can be the last.
    if let Some(left) = old.and_then(|address| address.parse::<IpAddr>().ok()) {
        ranges_that_go(world, |cidr| ranges(cidr).iter().any(|r| r.contains(&left)), keys);
    }
}

/// Those of the ranges that are being deleted that somebody asks for.
fn ranges_that_go(world: &World, wants: impl Fn(&ServiceCIDR) -> bool, keys: &mut BTreeSet<Key>) {
    let going = world.service_cidrs.iter().filter(|c| is_deleting(&c.metadata) && wants(c));
    keys.extend(
        going.filter_map(|c| Some(Key::new(Controller::ServiceCidr, "", c.metadata.name.as_deref()?))),
    );
}

/// Those who may take over a set or a revision that nobody controls.
fn takers(world: &World, meta: &Meta, keys: &mut BTreeSet<Key>) {
    let may: fn(Controller) -> bool = match meta.kind.as_str() {
        "ReplicaSet" => |c| c == Controller::Deployment,
        "ControllerRevision" => |c| matches!(c, Controller::DaemonSet | Controller::StatefulSet),
        _ => return,
    };
    let all = world.selecting.matching(&meta.namespace.as_str().into(), &meta.labels);
    keys.extend(all.into_iter().filter(|k| may(k.controller)));
}

/// The secrets with tokens of an account.
fn tokens_of(world: &World, namespace: &str, account: &str, keys: &mut BTreeSet<Key>) {
    let secrets = world.token_secrets.in_namespace(namespace).filter(|s| s.account == account);
    keys.extend(secrets.map(|s| Key::new(Controller::TokenSecret, namespace, s.id.name.clone())));
}

/// The quotas that may count an object that came, went or changed its size.
fn quotas(world: &World, kind: &str, namespace: &str, keys: &mut BTreeSet<Key>) {
    if namespace.is_empty() || kind == "Event" {
        return;
    }
    let names = world.quotas.in_namespace(namespace).filter_map(|q| q.metadata.name.as_deref());
    keys.extend(names.map(|n| Key::new(Controller::Quota, namespace, n)));
}

fn namespace_of(world: &World, namespace: &str, keys: &mut BTreeSet<Key>) {
    let dying = world.namespaces.get("", namespace).is_some_and(|n| n.metadata.deletion_timestamp.is_some());
    if dying {
        keys.insert(Key::new(Controller::Namespace, "", namespace));
    }
}

fn dependents(graph: &Graph, uid: &str, keys: &mut BTreeSet<Key>) {
    keys.extend(graph.dependents(uid).map(|d| Key::new(Controller::Collector, "", d.id.uid.clone())));
}

fn owners<'a>(graph: &Graph, owners: impl Iterator<Item = (&'a str, bool)>, keys: &mut BTreeSet<Key>) {
    for (uid, controls) in owners {
        let Some(owner) = graph.get(uid) else { continue };
        if owner.deleting {
            keys.insert(Key::new(Controller::Collector, "", uid));
        }
        if controls {
            for c in of(owner.id.resource) {
                keys.insert(Key::new(*c, owner.id.namespace.clone(), owner.id.name.clone()));
            }
        }
    }
}

/// A pod changed or went: services that select it, sets that may adopt it, the controller of its deployment.
pub(crate) fn pod(world: &World, name: &NamespacedName, old: Option<&Pod>, keys: &mut BTreeSet<Key>) {
    let new = world.pods.get(&name.namespace, &name.name);
    let now = new.map(|p| &**p);
    let republished = old.map(published) != now.map(published);
    keys.extend(
        old.into_iter().flat_map(|p| device_claim::keys(p, now.is_none_or(|n| n.id.uid != p.id.uid))),
    );
    keys.extend(now.into_iter().flat_map(|p| device_claim::keys(p, false)));
    for pod in old.into_iter().chain(now) {
        for key in world.selecting.matching(&name.namespace, &pod.labels) {
            match key.controller {
                Controller::Endpoints if republished => publish(key, keys),
                Controller::Endpoints => {}
                Controller::Disruption => {
                    keys.insert(key);
                }
                // A deployment selects sets, not pods.
                Controller::Deployment => {}
                // Sets take over pods that belong to nobody.
                _ if pod.controller.is_none() && !pod.deleting => {
                    keys.insert(key);
                }
                _ => {}
            }
        }
        for claim in &pod.claims {
            keys.insert(Key::new(Controller::ClaimProtection, name.namespace.clone(), claim.as_str()));
            // A claim that waits for its first consumer says for whom.
            if old.is_none() && pod.node.is_empty() {
                keys.insert(Key::new(Controller::ClaimBinding, name.namespace.clone(), claim.as_str()));
            }
        }
        // A deployment that recreates waits for the last old pod.
        let set = pod.controller.as_ref().and_then(|o| world.graph.get(&o.uid)).map(|m| m.id.clone());
        if let Some(set) = set.filter(|id| id.resource.plural == "replicasets")
            && let Some(o) = world
                .replica_sets
                .get(&set.namespace, &set.name)
                .and_then(|r| controller(&r.metadata).map(|o| o.name.clone()))
        {
            keys.insert(Key::new(Controller::Deployment, name.namespace.clone(), o));
        }
    }
    if let (Some(old), Some(new)) = (old, now)
        && (old.generation, old.is_ended()) != (new.generation, new.is_ended())
    {
        quotas(world, "Pod", &name.namespace, keys);
    }
    if now.is_some_and(|p| crate::job_pod::is_orphan(world, p)) {
        keys.insert(Key::new(Controller::JobPod, name.namespace.clone(), name.name.clone()));
    }
    if let Some(pod) = now.filter(|p| !p.node.is_empty()) {
        let node = world.nodes.get("", &pod.node);
        if node.is_none_or(|n| pod.deleting && crate::pod_collector::is_out_of_service(n)) {
            keys.insert(Key::new(Controller::PodCollector, name.namespace.clone(), name.name.clone()));
        } else if old.is_none_or(|o| o.node != pod.node) && is_draining(world, &pod.node) {
            keys.insert(Key::new(Controller::TaintEviction, name.namespace.clone(), name.name.clone()));
        }
    }
}

/// A claim or a volume names a class of attributes no longer, which may be all that the class waited for.
pub(crate) fn left_attributes<'a>(
    old: impl Iterator<Item = &'a str>,
    new: impl Fn(&str) -> bool,
    keys: &mut BTreeSet<Key>,
) {
    keys.extend(
        old.filter(|name| !new(name)).map(|name| Key::new(Controller::AttributesProtection, "", name)),
    );
}

/// A claim of devices changed or went: the pods that name it, hold it or had it made.
pub(crate) fn device_claim(
    world: &World,
    name: &NamespacedName,
    old: Option<&DeviceClaim>,
    keys: &mut BTreeSet<Key>,
) {
    let now = world.device_claims.get(&name.namespace, &name.name).map(|c| &**c);
    let said = old.into_iter().chain(now).flat_map(|c| {
        let owner = c.owner().map(|o| o.name.as_str());
        c.held_by().chain(owner).map(Arc::<str>::from).collect::<Vec<_>>()
    });
    let naming = world.pods_naming(Of::Claim, name).cloned();
    keys.extend(said.chain(naming).map(|pod| Key::new(Controller::PodDevices, name.namespace.clone(), pod)));
}

/// A template of claims came or changed: the pods that wait for it.
pub(crate) fn device_template(world: &World, name: &NamespacedName, keys: &mut BTreeSet<Key>) {
    let pods = world.pods_naming(Of::Template, name);
    keys.extend(pods.map(|pod| Key::new(Controller::PodDevices, name.namespace.clone(), pod.clone())));
}

/// What services publish of a pod, and what decides whether they do.
#[derive(PartialEq)]
struct Published<'a> {
    of: [&'a str; 4],
    is: [bool; 3],
    ips: &'a [String],
    ports: &'a [crate::pod::Port],
    labels: &'a std::collections::BTreeMap<String, String>,
}

fn published(pod: &Pod) -> Published<'_> {
    Published {
        of: [&pod.id.uid, &pod.node, &pod.hostname.0, &pod.hostname.1],
        is: [pod.is_ready(), pod.is_ended(), pod.deleting],
        ips: &pod.ips,
        ports: &pod.ports,
        labels: &pod.labels,
    }
}

/// Both forms of what a service means.
fn publish(service: Key, keys: &mut BTreeSet<Key>) {
    keys.insert(Key { controller: Controller::EndpointsLegacy, ..service.clone() });
    keys.insert(service);
}

fn is_draining(world: &World, node: &str) -> bool {
    let taints = world.nodes.get("", node).and_then(|n| n.spec.as_ref()?.taints.as_ref());
    taints.into_iter().flatten().any(|t| t.effect == "NoExecute")
}

/// A node changed or went: its pods, where its taints or its existence changed.
pub(crate) fn node(world: &World, name: &str, old: Option<&Node>, keys: &mut BTreeSet<Key>) {
    let new = world.nodes.get("", name);
    let taints = |n: Option<&Node>| n.and_then(|n| n.spec.as_ref()?.taints.clone()).unwrap_or_default();
    let changed = taints(old) != taints(new.map(|n| &**n));
    let lost = new.is_some_and(|n| crate::pod_collector::is_out_of_service(n));
    for pod in world.pods_on(name) {
        if new.is_none() || (lost && pod.deleting) {
            keys.insert(Key::new(Controller::PodCollector, pod.id.namespace.clone(), pod.id.name.clone()));
        } else if changed {
            keys.insert(Key::new(Controller::TaintEviction, pod.id.namespace.clone(), pod.id.name.clone()));
        }
    }
    let zone = |n: Option<&Node>| n.map(|n| labels(&n.metadata).get("topology.kubernetes.io/zone").cloned());
    if zone(old) != zone(new.map(|n| &**n)) {
        for pod in world.pods_on(name) {
            let services = world.selecting.matching(&pod.id.namespace, &pod.labels);
            services
                .into_iter()
                .filter(|k| k.controller == Controller::Endpoints)
                .for_each(|k| publish(k, keys));
        }
    }
    let relabelled = old.map(|o| labels(&o.metadata)) != new.map(|n| labels(&n.metadata));
    if changed || relabelled || old.is_none() != new.is_none() {
        keys.extend(world.daemon_sets.iter().filter_map(|d| {
            let m = &d.metadata;
            Some(Key::new(Controller::DaemonSet, m.namespace.as_deref()?, m.name.as_deref()?))
        }));
    }
}

/// Everything.
pub(crate) fn all(world: &World) -> BTreeSet<Key> {
    let mut keys = BTreeSet::from([Key::new(Controller::ClusterRole, "", "")]);
    for member in world.graph.iter() {
        let id = &member.id;
        let name = NamespacedName { namespace: id.namespace.clone(), name: id.name.clone() };
        own(id.resource, &name, None, &mut keys);
        if !member.owners.is_empty() || member.deleting {
            keys.insert(Key::new(Controller::Collector, "", id.uid.clone()));
        }
    }
    for secret in world.token_secrets.iter() {
        keys.insert(Key::new(Controller::TokenSecret, secret.id.namespace.clone(), secret.id.name.clone()));
    }
    for service in world.services.iter() {
        let address = crate::service_cidr::address_of(service);
        if !address.is_empty() {
            keys.insert(Key::new(Controller::IpAddress, "", address));
        }
    }
    for pod in world.pods.iter() {
        keys.extend(device_claim::keys(pod, false));
        if crate::job_pod::is_orphan(world, pod) {
            keys.insert(Key::new(Controller::JobPod, pod.id.namespace.clone(), pod.id.name.clone()));
        }
    }
    for pod in world.pods.iter().filter(|p| !p.node.is_empty()) {
        if world.nodes.get("", &pod.node).is_none() {
            keys.insert(Key::new(Controller::PodCollector, pod.id.namespace.clone(), pod.id.name.clone()));
        } else if is_draining(world, &pod.node) {
            keys.insert(Key::new(Controller::TaintEviction, pod.id.namespace.clone(), pod.id.name.clone()));
        }
    }
    keys
}
