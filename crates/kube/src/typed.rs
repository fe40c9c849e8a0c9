//! Typed views of objects for logic that only reads them. Whatever is written goes back as a JSON value, so that a field
//! which these structs do not know is never lost.

pub use k8s_openapi::api::apps::v1::{
    ControllerRevision, DaemonSet, Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec, StatefulSet,
};
pub use k8s_openapi::api::autoscaling::v1::Scale;
pub use k8s_openapi::api::batch::v1::{CronJob, Job};
pub use k8s_openapi::api::coordination::v1::Lease;
pub use k8s_openapi::api::core::v1::{
    Affinity, Binding, ConfigMap, Container, ContainerState, ContainerStatus, Endpoints, EnvVar, Event,
    LimitRange, Namespace, Node, NodeAffinity, NodeSelector, NodeSelectorTerm, ObjectReference,
    PersistentVolume, PersistentVolumeClaim, Pod, PodCondition, PodSpec, PodStatus, PodTemplateSpec, Probe,
    ReplicationController, ResourceQuota, ResourceRequirements, Secret, Service, ServiceAccount, ServicePort,
    Taint, Toleration, Volume, VolumeMount,
};
pub use k8s_openapi::api::discovery::v1::EndpointSlice;
pub use k8s_openapi::api::flowcontrol::v1::FlowSchema;
pub use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
pub use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
pub use k8s_openapi::api::scheduling::v1::PriorityClass;
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    Condition, DeleteOptions, LabelSelector, LabelSelectorRequirement, ObjectMeta, OwnerReference,
    Preconditions, Time,
};
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
