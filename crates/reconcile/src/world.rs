//! The world: what the store says, as of one revision, and what time it is.

use crate::daemon_set::Failures;
use crate::device_claim::{DeviceClaim, DeviceTemplate, Of};
use crate::flow_schema::level_of;
use crate::index::{PodIndex, Selecting};
use crate::meta::{selector, service_selector};
use crate::protection::{attributes_of_claim, attributes_of_volume};
use crate::service_cidr::address_of;
use crate::{Controller, Graph, Key, Pod, Table, TokenSecret, binder, route};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use stoa_kube::typed::{
    ClusterRole, ConfigMap, ControllerRevision, CronJob, DaemonSet, Deployment, EndpointSlice, Endpoints,
    FlowSchema, IPAddress, Job, Namespace, Node, PersistentVolume, PersistentVolumeClaim, ReplicaSet,
    ReplicationController, ResourceQuota, Service, ServiceCIDR, StatefulSet, Taint,
};
use stoa_kube::{Meta, Resource};
use stoa_units::{LabelSelector, NamespacedName, Time};

/// The name of the config map with the cluster's CA.
pub(crate) const ROOT_CA: &str = "kube-root-ca.crt";

/// What the store says.
#[derive(Clone, Debug)]
pub struct World {
    /// What time it is. Set before each look.
    pub now: Time,
    /// The cluster's CA certificate, published in every namespace.
    pub root_ca: String,
    /// Every object's metadata.
    pub graph: Graph,
    /// Pods.
    pub pods: Table<Pod>,
    /// Nodes.
    pub nodes: Table<Node>,
    /// Namespaces.
    pub namespaces: Table<Namespace>,
    /// Deployments.
    pub deployments: Table<Deployment>,
    /// ReplicaSets.
    pub replica_sets: Table<ReplicaSet>,
    /// StatefulSets.
    pub stateful_sets: Table<StatefulSet>,
    /// DaemonSets.
    pub daemon_sets: Table<DaemonSet>,
    /// Jobs.
    pub jobs: Table<Job>,
    /// CronJobs.
    pub cron_jobs: Table<CronJob>,
    /// ReplicationControllers.
    pub replication_controllers: Table<ReplicationController>,
    /// What DaemonSets and StatefulSets looked like.
    pub revisions: Table<ControllerRevision>,
    /// PodDisruptionBudgets.
    pub budgets: Table<PodDisruptionBudget>,
    /// ResourceQuotas.
    pub quotas: Table<ResourceQuota>,
    /// PersistentVolumes. Their owner is what they are for: a claim, or a class while they are free.
    pub volumes: Table<PersistentVolume>,
    /// PersistentVolumeClaims. Their owner is their volume, or the class in which they wait for one.
    pub claims: Table<PersistentVolumeClaim>,
    /// StorageClasses.
    pub storage_classes: Table<StorageClass>,
    /// Claims of devices. Their owner is the pod that they were made for.
    pub device_claims: Table<DeviceClaim>,
    /// Templates of claims of devices.
    pub device_templates: Table<DeviceTemplate>,
    /// Services. Their owner is their address.
    pub services: Table<Service>,
    /// Endpoints.
    pub endpoints: Table<Endpoints>,
    /// EndpointSlices.
    pub slices: Table<EndpointSlice>,
    /// Ranges of services' addresses.
    pub service_cidrs: Table<ServiceCIDR>,
    /// Flow schemas. Their owner is the level that they name.
    pub flow_schemas: Table<FlowSchema>,
    /// Addresses of services.
    pub addresses: Table<IPAddress>,
    /// Cluster roles.
    pub cluster_roles: Table<ClusterRole>,
    /// Secrets that hold a service account's token.
    pub token_secrets: Table<TokenSecret>,
    /// The config maps with the CA.
    pub root_cas: Table<ConfigMap>,
    pods_by_node: HashMap<String, BTreeSet<NamespacedName>>,
    pod_index: PodIndex,
    pub(crate) selecting: Selecting,
    pub(crate) daemon_failures: Failures,
    /// Since when a node that pods name has been absent.
    absent: HashMap<String, Time>,
    /// Since when nodes have had the `NoExecute` taints that do not say so themselves.
    tainted: HashMap<String, Vec<(Taint, Time)>>,
}

impl World {
    /// An empty world.
    pub fn new(now: Time, root_ca: impl Into<String>) -> World {
        World {
            now,
            root_ca: root_ca.into(),
            graph: Graph::default(),
            pods: Table::default(),
            nodes: Table::default(),
            namespaces: Table::default(),
            deployments: Table::default(),
            replica_sets: Table::default(),
            stateful_sets: Table::default(),
            daemon_sets: Table::default(),
            jobs: Table::default(),
            cron_jobs: Table::default(),
            replication_controllers: Table::default(),
            revisions: Table::default(),
            budgets: Table::default(),
            quotas: Table::default(),
            volumes: Table::default(),
            claims: Table::default(),
            storage_classes: Table::default(),
            device_claims: Table::default(),
            device_templates: Table::default(),
            services: Table::default(),
            endpoints: Table::default(),
            slices: Table::default(),
            service_cidrs: Table::default(),
            flow_schemas: Table::default(),
            addresses: Table::default(),
            cluster_roles: Table::default(),
            token_secrets: Table::default(),
            root_cas: Table::default(),
            pods_by_node: HashMap::new(),
            pod_index: PodIndex::default(),
            selecting: Selecting::default(),
            daemon_failures: Failures::default(),
            absent: HashMap::new(),
            tainted: HashMap::new(),
        }
    }

    /// An object was written. Returns whom that may concern.
    pub fn put(
        &mut self,
        resource: &'static Resource,
        bytes: &[u8],
    ) -> Result<BTreeSet<Key>, serde_json::Error> {
        let meta = Meta::read(bytes)?;
        let name = NamespacedName::new(meta.namespace.as_str(), meta.name.as_str());
        let mut keys = BTreeSet::new();
        // Read before anything changes, so that an object that cannot be read leaves the world as it was.
        self.put_typed(resource, &meta, name, bytes, &mut keys)?;
        let before = self.graph.put(resource, &meta);
        route::changed(self, &meta, before.as_ref(), &mut keys);
        Ok(keys)
    }

    fn put_typed(
        &mut self,
        resource: &'static Resource,
        meta: &Meta,
        name: NamespacedName,
        bytes: &[u8],
        keys: &mut BTreeSet<Key>,
    ) -> Result<(), serde_json::Error> {
        let owner = meta.controller().map(|o| o.uid.as_str());
        match (resource.storage, resource.plural) {
            ("", "pods") => {
                let pod = Pod::read(bytes)?;
                let node = pod.node.clone();
                let old = self.pods.put(name.clone(), pod, owner);
                self.move_pod(&name, old.as_deref().map(|p| p.node.as_str()), Some(&node));
                let new = self.pods.get(&name.namespace, &name.name).map(|p| &**p);
                self.pod_index.change(&name, old.as_deref(), new);
                self.note_failure(&name, old.as_deref());
                route::pod(self, &name, old.as_deref(), keys);
            }
            ("", "nodes") => {
                let node: Node = serde_json::from_slice(bytes)?;
                self.note_taints(&name.name, &node);
                let old = self.nodes.put(name.clone(), node, owner);
                self.absent.remove(&*name.name);
                route::node(self, &name.name, old.as_deref(), keys);
            }
            ("", "namespaces") => {
                drop(self.namespaces.put(name.clone(), serde_json::from_slice(bytes)?, owner))
            }
            ("", "services") => {
                let service: Service = serde_json::from_slice(bytes)?;
                let selects = service_selector(&service);
                self.selects(Controller::Endpoints, &name, selects);
                let address = address_of(&service).to_owned();
                let old = self.services.put(name.clone(), service, Some(&address));
                route::address(self, old.as_deref().map(address_of), Some(&address), keys);
            }
            ("networking.k8s.io", "servicecidrs") => {
                drop(self.service_cidrs.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            ("flowcontrol.apiserver.k8s.io", "flowschemas") => {
                let schema: FlowSchema = serde_json::from_slice(bytes)?;
                let level = level_of(&schema).to_owned();
                self.flow_schemas.put(name.clone(), schema, Some(&level));
            }
            ("networking.k8s.io", "ipaddresses") => {
                drop(self.addresses.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            ("", "endpoints") => {
                drop(self.endpoints.put(name.clone(), serde_json::from_slice(bytes)?, owner))
            }
            ("discovery.k8s.io", "endpointslices") => {
                drop(self.slices.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            ("", "configmaps") if &*name.name == ROOT_CA => {
                self.root_cas.put(name.clone(), serde_json::from_slice(bytes)?, owner);
            }
            ("", "secrets") => {
                if let Some(secret) = TokenSecret::read(meta, bytes)? {
                    keys.insert(Key::new(Controller::TokenSecret, name.namespace.clone(), name.name.clone()));
                    self.token_secrets.put(name.clone(), secret, None);
                }
            }
            ("", "persistentvolumes") => {
                let volume: PersistentVolume = serde_json::from_slice(bytes)?;
                let place = binder::volume_place(&volume);
                let old = self.volumes.put(name.clone(), volume, Some(&place));
                self.left_by_volume(&name, old.as_deref(), keys);
            }
            ("", "persistentvolumeclaims") => {
                let claim: PersistentVolumeClaim = serde_json::from_slice(bytes)?;
                let place = binder::waiting_place(&claim);
                let old = self.claims.put(name.clone(), claim, Some(&place));
                self.left_by_claim(&name, old.as_deref(), keys);
            }
            ("storage.k8s.io", "storageclasses") => {
                drop(self.storage_classes.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            ("resource.k8s.io", "resourceclaims") => {
                let claim = DeviceClaim::read(meta, bytes)?;
                let pod = claim.owner().map(|o| o.uid.clone());
                let old = self.device_claims.put(name.clone(), claim, pod.as_deref());
                route::device_claim(self, &name, old.as_deref(), keys);
            }
            ("resource.k8s.io", "resourceclaimtemplates") => {
                self.device_templates.put(name.clone(), DeviceTemplate::read(bytes)?, owner);
                route::device_template(self, &name, keys);
            }
            ("", "resourcequotas") => {
                drop(self.quotas.put(name.clone(), serde_json::from_slice(bytes)?, owner))
            }
            ("policy", "poddisruptionbudgets") => {
                let budget: PodDisruptionBudget = serde_json::from_slice(bytes)?;
                let selects = crate::disruption::selector_of(&budget);
                self.selects(Controller::Disruption, &name, selects);
                self.budgets.put(name.clone(), budget, owner);
            }
            ("apps", "deployments") => {
                let deployment: Deployment = serde_json::from_slice(bytes)?;
                let selects = deployment.spec.as_ref().and_then(|s| selector(&s.selector));
                self.selects(Controller::Deployment, &name, selects);
                self.deployments.put(name.clone(), deployment, owner);
            }
            ("apps", "controllerrevisions") => {
                drop(self.revisions.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            ("rbac.authorization.k8s.io", "clusterroles") => {
                drop(self.cluster_roles.put(name.clone(), serde_json::from_slice(bytes)?, owner));
            }
            _ => self.put_workload(resource, &name, bytes, owner)?,
        }
        route::own(resource, &name, owner, keys);
        Ok(())
    }

    /// Which classes of attributes a volume named until now.
    fn left_by_volume(
        &self,
        name: &NamespacedName,
        old: Option<&PersistentVolume>,
        keys: &mut BTreeSet<Key>,
    ) {
        let now = self.volumes.get("", &name.name).and_then(|v| attributes_of_volume(v));
        let old = old.and_then(attributes_of_volume).into_iter();
        route::left_attributes(old, |name| now == Some(name), keys);
    }

    /// Which classes of attributes a claim named until now.
    fn left_by_claim(
        &self,
        name: &NamespacedName,
        old: Option<&PersistentVolumeClaim>,
        keys: &mut BTreeSet<Key>,
    ) {
        let now = self.claims.get(&name.namespace, &name.name);
        let named = |name: &str| now.is_some_and(|c| attributes_of_claim(c).any(|n| n == name));
        route::left_attributes(old.into_iter().flat_map(attributes_of_claim), named, keys);
    }

    fn note_taints(&mut self, name: &str, node: &Node) {
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_ref()).into_iter().flatten();
        let old = self.tainted.remove(name).unwrap_or_default();
        let since = |t: &Taint| old.iter().find(|(o, _)| o == t).map_or(self.now, |(_, since)| *since);
        let new: Vec<_> = taints
            .filter(|t| t.effect == "NoExecute" && t.time_added.is_none())
            .map(|t| (t.clone(), since(t)))
            .collect();
        if !new.is_empty() {
            self.tainted.insert(name.to_owned(), new);
        }
    }

    /// Since when a node has had a taint: as it says, or since it was first seen.
    pub(crate) fn tainted_since(&self, node: &str, taint: &Taint) -> Time {
        let seen = self.tainted.get(node).into_iter().flatten().find(|(t, _)| t == taint);
        taint.time_added.as_ref().map(|t| Time(t.0)).or(seen.map(|(_, since)| *since)).unwrap_or(self.now)
    }

    /// Workloads: what makes pods, or what makes what makes pods.
    fn put_workload(
        &mut self,
        resource: &Resource,
        name: &NamespacedName,
        bytes: &[u8],
        owner: Option<&str>,
    ) -> Result<(), serde_json::Error> {
        match (resource.storage, resource.plural) {
            ("apps", "replicasets") => {
                let set: ReplicaSet = serde_json::from_slice(bytes)?;
                let selects = set.spec.as_ref().and_then(|s| selector(&s.selector));
                self.selects(Controller::ReplicaSet, name, selects);
                self.replica_sets.put(name.clone(), set, owner);
            }
            ("", "replicationcontrollers") => {
                let set: ReplicationController = serde_json::from_slice(bytes)?;
                let wanted = set.spec.as_ref().and_then(|s| s.selector.as_ref()).filter(|s| !s.is_empty());
                let selects = wanted.map(LabelSelector::from_labels);
                self.selects(Controller::ReplicationController, name, selects);
                self.replication_controllers.put(name.clone(), set, owner);
            }
            ("apps", "statefulsets") => {
                let set: StatefulSet = serde_json::from_slice(bytes)?;
                let selects = set.spec.as_ref().and_then(|s| selector(&s.selector));
                self.selects(Controller::StatefulSet, name, selects);
                self.stateful_sets.put(name.clone(), set, owner);
            }
            ("apps", "daemonsets") => {
                let set: DaemonSet = serde_json::from_slice(bytes)?;
                let selects = set.spec.as_ref().and_then(|s| selector(&s.selector));
                self.selects(Controller::DaemonSet, name, selects);
                self.daemon_sets.put(name.clone(), set, owner);
            }
            ("batch", "jobs") => {
                let job: Job = serde_json::from_slice(bytes)?;
                let selects = job.spec.as_ref().and_then(|s| selector(s.selector.as_ref()?));
                self.selects(Controller::Job, name, selects);
                self.jobs.put(name.clone(), job, owner);
            }
            ("batch", "cronjobs") => {
                drop(self.cron_jobs.put(name.clone(), serde_json::from_slice(bytes)?, owner))
            }
            _ => {}
        }
        Ok(())
    }

    fn selects(&mut self, controller: Controller, name: &NamespacedName, selector: Option<LabelSelector>) {
        self.selecting.set(&Key::new(controller, name.namespace.clone(), name.name.clone()), selector);
    }

    /// An object was removed. Returns whom that may concern.
    pub fn remove(&mut self, resource: &'static Resource, namespace: &str, name: &str) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let id = NamespacedName::new(namespace, name);
        let member = self.graph.remove(resource, namespace, name);
        match (resource.storage, resource.plural) {
            ("", "pods") => {
                let old = self.pods.remove(&id);
                self.move_pod(&id, old.as_deref().map(|p| p.node.as_str()), None);
                self.pod_index.change(&id, old.as_deref(), None);
                route::pod(self, &id, old.as_deref(), &mut keys);
            }
            ("", "nodes") => {
                let old = self.nodes.remove(&id);
                self.tainted.remove(name);
                self.absent.insert(name.to_string(), self.now);
                route::node(self, name, old.as_deref(), &mut keys);
            }
            ("", "namespaces") => drop(self.namespaces.remove(&id)),
            ("", "services") => {
                let old = self.services.remove(&id);
                self.selects(Controller::Endpoints, &id, None);
                route::address(self, old.as_deref().map(address_of), None, &mut keys);
            }
            ("", "persistentvolumes") => {
                let old = self.volumes.remove(&id);
                self.left_by_volume(&id, old.as_deref(), &mut keys);
            }
            ("", "persistentvolumeclaims") => {
                let old = self.claims.remove(&id);
                self.left_by_claim(&id, old.as_deref(), &mut keys);
            }
            ("resource.k8s.io", "resourceclaims") => {
                let old = self.device_claims.remove(&id);
                route::device_claim(self, &id, old.as_deref(), &mut keys);
            }
            _ => self.remove_typed(resource, &id),
        }
        if let Some(member) = member {
            let owner = member.owners.iter().find(|o| o.controller).map(|o| o.uid.as_str());
            route::own(resource, &id, owner, &mut keys);
            route::gone(self, &member, &mut keys);
        }
        keys
    }

    fn remove_typed(&mut self, resource: &Resource, id: &NamespacedName) {
        let selecting = match (resource.storage, resource.plural) {
            ("apps", "deployments") => self.deployments.remove(id).map(|_| Controller::Deployment),
            ("apps", "replicasets") => self.replica_sets.remove(id).map(|_| Controller::ReplicaSet),
            ("apps", "statefulsets") => self.stateful_sets.remove(id).map(|_| Controller::StatefulSet),
            ("apps", "daemonsets") => self.daemon_sets.remove(id).map(|_| Controller::DaemonSet),
            ("batch", "jobs") => self.jobs.remove(id).map(|_| Controller::Job),
            ("policy", "poddisruptionbudgets") => self.budgets.remove(id).map(|_| Controller::Disruption),
            ("", "replicationcontrollers") => {
                self.replication_controllers.remove(id).map(|_| Controller::ReplicationController)
            }
            _ => None,
        };
        if let Some(controller) = selecting {
            return self.selects(controller, id, None);
        }
        match (resource.storage, resource.plural) {
            ("", "endpoints") => drop(self.endpoints.remove(id)),
            ("discovery.k8s.io", "endpointslices") => drop(self.slices.remove(id)),
            ("networking.k8s.io", "servicecidrs") => drop(self.service_cidrs.remove(id)),
            ("networking.k8s.io", "ipaddresses") => drop(self.addresses.remove(id)),
            ("flowcontrol.apiserver.k8s.io", "flowschemas") => drop(self.flow_schemas.remove(id)),
            ("", "configmaps") if &*id.name == ROOT_CA => drop(self.root_cas.remove(id)),
            ("", "secrets") => drop(self.token_secrets.remove(id)),
            ("storage.k8s.io", "storageclasses") => drop(self.storage_classes.remove(id)),
            ("resource.k8s.io", "resourceclaimtemplates") => drop(self.device_templates.remove(id)),
            ("", "resourcequotas") => drop(self.quotas.remove(id)),
            ("apps", "controllerrevisions") => drop(self.revisions.remove(id)),
            ("batch", "cronjobs") => drop(self.cron_jobs.remove(id)),
            ("rbac.authorization.k8s.io", "clusterroles") => drop(self.cluster_roles.remove(id)),
            _ => {}
        }
    }

    /// A daemon's pod that fails is remembered, so that the next one waits.
    fn note_failure(&mut self, name: &NamespacedName, old: Option<&Pod>) {
        let Some(pod) = self.pods.get(&name.namespace, &name.name) else { return };
        let known = old.is_some_and(|o| o.phase == "Failed" && *o.id.uid == *pod.id.uid);
        if let Some(owner) =
            pod.controller.as_ref().filter(|o| o.kind == "DaemonSet" && pod.phase == "Failed" && !known)
        {
            self.daemon_failures.saw(&owner.uid, pod.target_node(), self.now);
        }
    }

    fn move_pod(&mut self, name: &NamespacedName, from: Option<&str>, to: Option<&str>) {
        if from == to {
            return;
        }
        if let Some(set) = from.and_then(|n| self.pods_by_node.get_mut(n)) {
            set.remove(name);
            if set.is_empty() {
                from.map(|n| self.pods_by_node.remove(n));
            }
        }
        if let Some(node) = to.filter(|n| !n.is_empty()) {
            self.pods_by_node.entry(node.to_string()).or_default().insert(name.clone());
            if self.nodes.get("", node).is_none() {
                self.absent.entry(node.to_string()).or_insert(self.now);
            }
        }
    }

    /// The pods bound to a node.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> {
        let names = self.pods_by_node.get(node).into_iter().flatten();
        names.filter_map(|n| self.pods.get(&n.namespace, &n.name))
    }

    /// The pods of a namespace that a selector means.
    pub fn pods_matching<'a>(
        &'a self,
        namespace: &str,
        selector: &LabelSelector,
    ) -> impl Iterator<Item = &'a Arc<Pod>> + use<'a> {
        self.pod_index.matching(&self.pods, namespace, selector).into_iter()
    }

    /// The pods that use a persistent volume claim.
    pub fn pods_using(&self, claim: &NamespacedName) -> impl Iterator<Item = &Arc<Pod>> {
        self.pod_index.using(claim).filter_map(|n| self.pods.get(&claim.namespace, n))
    }

    /// The pods that name a claim of devices, or a template of such, by name.
    pub(crate) fn pods_naming(&self, of: Of, name: &NamespacedName) -> impl Iterator<Item = &Arc<str>> {
        self.pod_index.naming(of, name.clone())
    }

    /// Since when a node that is absent has been so, as far as anybody remembers.
    pub fn absent_since(&self, node: &str) -> Option<Time> {
        self.absent.get(node).copied()
    }

    /// Every key there is to look at: for the sweep, and after a start.
    pub fn all_keys(&self) -> BTreeSet<Key> {
        route::all(self)
    }
}
