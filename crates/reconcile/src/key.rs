//! What is to be looked at: a controller and one object of its kind.

use std::fmt;
use std::sync::Arc;

/// Every controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Controller {
    /// Classes of volumes' attributes that are named by claims and volumes.
    AttributesProtection,
    /// HorizontalPodAutoscalers.
    Autoscaler,
    /// Aggregated cluster roles.
    ClusterRole,
    /// Persistent volume claims, and which volume each gets.
    ClaimBinding,
    /// Persistent volume claims that are being deleted.
    ClaimProtection,
    /// Owners and what they own; the key's name is a uid.
    Collector,
    /// CronJobs.
    CronJob,
    /// DaemonSets.
    DaemonSet,
    /// Deployments.
    Deployment,
    /// Claims of devices.
    DeviceClaim,
    /// PodDisruptionBudgets.
    Disruption,
    /// EndpointSlices of a service.
    Endpoints,
    /// Endpoints of a service, the older form.
    EndpointsLegacy,
    /// What people write as a service's Endpoints, as slices.
    EndpointsMirror,
    /// Addresses of services, as objects; the key's name is the address.
    IpAddress,
    /// Flow schemas, and whether the level that each names is there.
    FlowSchema,
    /// Jobs.
    Job,
    /// Pods whose job is gone.
    JobPod,
    /// Jobs that are over.
    JobTtl,
    /// Namespaces that are being deleted.
    Namespace,
    /// Taints and pod readiness by a node's conditions.
    NodeLifecycle,
    /// For how long agents may keep what they read.
    NodeTtl,
    /// Pods that claim devices.
    PodDevices,
    /// Pods of nodes that are gone.
    PodCollector,
    /// Resource quotas.
    Quota,
    /// ReplicaSets.
    ReplicaSet,
    /// ReplicationControllers.
    ReplicationController,
    /// The config map with the cluster's CA in every namespace.
    RootCa,
    /// The `default` service account in every namespace.
    ServiceAccount,
    /// Ranges of services' addresses.
    ServiceCidr,
    /// StatefulSets.
    StatefulSet,
    /// Pods that do not tolerate their node's `NoExecute` taints.
    TaintEviction,
    /// Secrets that hold a service account's token.
    TokenSecret,
    /// Persistent volumes, and whether each is free.
    VolumeBinding,
    /// Persistent volumes that are being deleted.
    VolumeProtection,
}

impl Controller {
    /// The stock controller's name: who writes, and the `source` of its events.
    pub fn component(self) -> &'static str {
        match self {
            Controller::AttributesProtection => "volumeattributesclass-protection-controller",
            Controller::Autoscaler => "horizontal-pod-autoscaler",
            Controller::ClusterRole => "clusterrole-aggregation-controller",
            Controller::ClaimBinding | Controller::VolumeBinding => "persistentvolume-controller",
            Controller::ClaimProtection => "pvc-protection-controller",
            Controller::Collector => "generic-garbage-collector",
            Controller::CronJob => "cronjob-controller",
            Controller::DaemonSet => "daemonset-controller",
            Controller::Deployment => "deployment-controller",
            Controller::DeviceClaim | Controller::PodDevices => "resource_claim",
            Controller::Disruption => "disruption-controller",
            Controller::Endpoints => "endpointslice-controller",
            Controller::EndpointsLegacy => "endpoint-controller",
            Controller::EndpointsMirror => "endpointslice-mirroring-controller",
            Controller::FlowSchema => "api-priority-and-fairness-config-consumer-v1",
            Controller::IpAddress => "ipallocator-repair-controller",
            Controller::Job | Controller::JobPod => "job-controller",
            Controller::JobTtl => "ttl-after-finished-controller",
            Controller::Namespace => "namespace-controller",
            Controller::NodeLifecycle => "node-controller",
            Controller::NodeTtl => "ttl-controller",
            Controller::PodCollector => "pod-garbage-collector",
            Controller::Quota => "resourcequota-controller",
            Controller::ReplicaSet => "replicaset-controller",
            Controller::ReplicationController => "replication-controller",
            Controller::RootCa => "root-ca-cert-publisher",
            Controller::ServiceAccount => "service-account-controller",
            Controller::ServiceCidr => "service-cidr-controller",
            Controller::StatefulSet => "statefulset-controller",
            Controller::TaintEviction => "taint-eviction-controller",
            Controller::TokenSecret => "tokens-controller",
            Controller::VolumeProtection => "pv-protection-controller",
        }
    }
}

/// One object as one controller's concern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Whose concern.
    pub controller: Controller,
    /// The object's namespace, empty if it has none.
    pub namespace: Arc<str>,
    /// Its name; for the collector its uid.
    pub name: Arc<str>,
}

impl Key {
    /// Joins the three.
    pub fn new(controller: Controller, namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Key {
        Key { controller, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}/{}", self.controller, self.namespace, self.name)
    }
}
