//! Field errors: everything wrong with an object at once, in the stock server's words and order.

mod address;
mod admission;
mod affinity;
mod autoscaler;
mod batch;
mod cluster;
mod config;
mod container;
mod core;
mod cron;
mod definition;
pub(crate) use definition::schema::each_schema;
mod device;
mod driver;
mod endpoint_slice;
mod endpoints;
mod errors;
mod field;
mod flow;
mod image;
pub use image::is_reserved_annotation;
mod ingress;
mod internal;
mod meta;
mod network;
mod network_policy;
mod pod;
mod pod_diff;
pub(crate) mod pod_resources;
mod pod_update;
mod probe;
mod quota;
mod rbac;
mod security;
mod selector;
mod service;
mod service_cidr;
mod shown;
mod source;
mod steps;
mod storage;
mod volume;
mod workload;

use serde_json::Value;
use stoa_kube::{Cause, Resource};

use crate::Request;
use errors::Errors;
use field::Path;

/// The API group of webhooks and policies.
const ADMISSION_GROUP: &str = "admissionregistration.k8s.io";

/// What is wrong with a new object.
pub fn validate_create(request: &Request<'_>, object: &Value) -> Vec<Cause> {
    let mut errors = Errors::default();
    // The metadata of budgets and events is judged only where the rest is right.
    if request.is_on("policy", "poddisruptionbudgets") || request.is_on("", "events") {
        check_kind(request, object, &mut errors);
        if errors.is_empty() {
            meta::check(request.resource, object, &mut errors);
        }
        return errors.into_causes();
    }
    meta::check(request.resource, object, &mut errors);
    check_kind(request, object, &mut errors);
    check_new(request, object, &mut errors);
    image::check(request, None, object, &mut errors);
    errors.into_causes()
}

/// Rules for what is new alone, and those that ask for what was there before.
fn check_new(request: &Request<'_>, o: &Value, errors: &mut Errors) {
    match (request.resource.group, request.resource.plural) {
        ("", "pods") => pod::create(o, errors),
        ("apps", "statefulsets") => workload::new_stateful_set(o, errors),
        ("autoscaling", "horizontalpodautoscalers") => autoscaler::autoscaler(&Value::Null, o, errors),
        ("batch", "cronjobs") => batch::new_cron_job(o, errors),
        (ADMISSION_GROUP, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            admission::webhooks(&Value::Null, o, errors);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => {
            definition::definition(&Value::Null, o, errors);
        }
        ("networking.k8s.io", "ingresses") => ingress::new_ingress(o, errors),
        ("storage.k8s.io", "volumeattachments") => driver::new_attachment(o, errors),
        // What devices a claim is for never changes, so that it is judged once.
        ("resource.k8s.io", "resourceclaims") => device::claim(o, errors),
        _ => {}
    }
}

/// What is wrong besides with an event that comes through `events.k8s.io`, both in the form in which events are stored; `old` is
/// what it was, if it was. What was found before is said in the words of that group.
pub fn validate_event(resource: &Resource, old: Option<&Value>, new: &Value, causes: &mut Vec<Cause>) {
    for cause in causes.iter_mut().filter(|cause| cause.field == "reportingComponent") {
        cause.field = "reportingController".to_owned();
    }
    if old.is_none() {
        // Its metadata is judged once more, and more strictly.
        causes.retain(|cause| !cause.field.starts_with("metadata"));
    }
    let mut errors = Errors::default();
    match old {
        None => cluster::new_event(resource, new, &mut errors),
        Some(old) => cluster::event_change(old, new, &mut errors),
    }
    causes.extend(errors.into_causes());
}

/// What is wrong with a claim on devices, or a template of claims, that only its namespace can tell: whether devices that somebody
/// else uses may be looked into. Comes before everything else.
pub fn validate_devices(
    request: &Request<'_>,
    old: Option<&Value>,
    new: &Value,
    world: &dyn crate::World,
) -> Vec<Cause> {
    let mut errors = Errors::default();
    if request.is_on("resource.k8s.io", request.resource.plural) {
        device::admin_access(request, old, new, world, &mut errors);
    }
    errors.into_causes()
}

/// What keeps a service from getting addresses, which are given out before all else is looked at; `old` is what it was, if it was.
pub fn validate_addresses(old: Option<&Value>, service: &Value) -> Vec<Cause> {
    let mut errors = Errors::default();
    service::addresses(old, service, &mut errors);
    errors.into_causes()
}

/// What is wrong with a scale of one of a resource's objects.
pub fn validate_scale(resource: &Resource, scale: &Value) -> Vec<Cause> {
    let mut errors = Errors::default();
    meta::named_as_domain(resource, scale, &mut errors);
    field::not_negative(&scale["spec"], "replicas", Path::root("spec"), &mut errors);
    errors.into_causes()
}

/// What is wrong with a change.
pub fn validate_update(request: &Request<'_>, old: &Value, new: &Value) -> Vec<Cause> {
    let mut errors = Errors::default();
    let meta = meta::Faults::of(request.resource, old, new);
    meta.common(&mut errors);
    match request.subresource {
        "" | "ephemeralcontainers" | "resize" => {
            if request.resource.group.is_empty() {
                core::change(request, old, new, &meta, &mut errors);
            } else {
                steps::change(request, old, new, &meta, &mut errors);
            }
            image::check(request, Some(old), new, &mut errors);
        }
        "finalize" => {
            meta.changed(&mut errors);
            cluster::finalized(new, &mut errors);
        }
        "status" | "approval" => {
            steps::status(request, old, new, &meta, &mut errors);
            image::annotations(request, Some(old), new, &mut errors);
        }
        _ => {}
    }
    errors.into_causes()
}

/// Rules of the kind, for a new object and for a changed one alike.
fn check_kind(request: &Request<'_>, o: &Value, errors: &mut Errors) {
    match (request.resource.group, request.resource.plural) {
        ("", "pods") => pod::pod(o, errors),
        ("", "podtemplates") => pod::template(&o["template"], Path::root("template"), errors),
        ("", "replicationcontrollers") => workload::replication_controller(o, errors),
        ("apps", "deployments") => workload::deployment(o, errors),
        ("apps", "replicasets") => workload::replica_set(o, errors),
        ("apps", "statefulsets") => workload::stateful_set(o, request.operation, errors),
        ("apps", "daemonsets") => workload::daemon_set(o, errors),
        ("apps", "controllerrevisions") => workload::controller_revision(o, errors),
        ("batch", "jobs") => batch::job(o, errors),
        ("policy", "poddisruptionbudgets") => workload::disruption_budget(o, errors),
        ("", "services") => service::service(o, errors),
        ("", "endpoints") => endpoints::check(o, reach(request), errors),
        ("discovery.k8s.io", "endpointslices") => endpoint_slice::slice(o, reach(request), errors),
        ("networking.k8s.io", "networkpolicies") => network_policy::network_policy(o, errors),
        ("networking.k8s.io", "ingressclasses") => ingress::ingress_class(o, errors),
        ("networking.k8s.io", "servicecidrs") => service_cidr::service_cidr(o, errors),
        ("networking.k8s.io", "ipaddresses") => service_cidr::address(o, errors),
        ("", "configmaps") => config::config_map(o, errors),
        ("", "secrets") => config::secret(o, errors),
        ("", "namespaces") => cluster::namespace(o, errors),
        ("", "nodes") => cluster::node(o, errors),
        ("" | "events.k8s.io", "events") => cluster::event(o, errors),
        ("", "resourcequotas") => quota::quota(o, errors),
        ("", "limitranges") => quota::limit_range(o, errors),
        ("coordination.k8s.io", "leases") => cluster::lease(o, errors),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class(o, errors),
        ("node.k8s.io", "runtimeclasses") => cluster::runtime_class(o, errors),
        (crate::RBAC_GROUP, "roles" | "clusterroles") => {
            rbac::role(o, request.resource.namespaced, errors);
        }
        (crate::RBAC_GROUP, "rolebindings" | "clusterrolebindings") => {
            rbac::binding(o, request.resource.namespaced, errors);
        }
        ("", "persistentvolumes") => storage::volume(o, errors),
        ("", "persistentvolumeclaims") => storage::claim(o, errors),
        ("storage.k8s.io", "storageclasses") => storage::class(o, errors),
        ("storage.k8s.io", "csidrivers") => driver::driver(o, errors),
        ("storage.k8s.io", "csinodes") => driver::node(o, errors),
        ("storage.k8s.io", "csistoragecapacities") => driver::capacity(o, errors),
        ("storage.k8s.io", "volumeattachments") => driver::attachment(o, errors),
        ("storage.k8s.io", "volumeattributesclasses") => driver::attributes_class(o, errors),
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => flow::schema(o, errors),
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => flow::level(o, errors),
        (ADMISSION_GROUP, "validatingadmissionpolicies") => admission::validating_policy(o, errors),
        (ADMISSION_GROUP, "validatingadmissionpolicybindings") => admission::validating_binding(o, errors),
        (ADMISSION_GROUP, "mutatingadmissionpolicies") => admission::mutating_policy(o, errors),
        (ADMISSION_GROUP, "mutatingadmissionpolicybindings") => admission::mutating_binding(o, errors),
        ("apiregistration.k8s.io", "apiservices") => admission::api_service(o, errors),
        ("resource.k8s.io", "deviceclasses") => device::class(&Value::Null, o, errors),
        ("resource.k8s.io", "resourceclaimtemplates") => device::template(o, errors),
        ("resource.k8s.io", "resourceslices") => device::slice(&Value::Null, o, errors),
        _ => {}
    }
}

/// Sets a field, or takes it away.
fn put(v: &mut Value, key: &str, value: Value) {
    match value {
        Value::Null => {
            crate::value::remove(v, key);
        }
        value => crate::value::set(v, key, value),
    }
}

/// The cluster itself may serve on a loopback address, as a cluster on one machine does.
fn reach(request: &Request<'_>) -> network::Reach {
    if request.user.is_internal() { network::Reach::Anywhere } else { network::Reach::Network }
}

/// Rules that compare a change with what is stored.
fn check_change(request: &Request<'_>, old: &Value, new: &Value, errors: &mut Errors) {
    match (request.resource.group, request.resource.plural) {
        ("apps", "deployments" | "replicasets" | "daemonsets") => {
            workload::selector_change(old, new, errors);
        }
        ("apps", "statefulsets") => workload::stateful_set_change(old, new, errors),
        ("apps", "controllerrevisions") => workload::controller_revision_change(old, new, errors),
        ("autoscaling", "horizontalpodautoscalers") => autoscaler::autoscaler(old, new, errors),
        ("batch", "jobs") => batch::job_change(old, new, errors),
        ("batch", "cronjobs") => batch::cron_job(old, new, errors),
        ("storage.k8s.io", "storageclasses") => storage::class_change(old, new, errors),
        ("storage.k8s.io", "csidrivers") => driver::driver_change(old, new, errors),
        ("storage.k8s.io", "csinodes") => driver::node_change(old, new, errors),
        ("storage.k8s.io", "csistoragecapacities") => driver::capacity_change(old, new, errors),
        ("storage.k8s.io", "volumeattachments") => driver::attachment_change(old, new, errors),
        ("storage.k8s.io", "volumeattributesclasses") => driver::attributes_class_change(old, new, errors),
        ("networking.k8s.io", "servicecidrs") => service_cidr::service_cidr_change(old, new, errors),
        ("networking.k8s.io", "ipaddresses") => service_cidr::address_change(old, new, errors),
        ("resource.k8s.io", "resourceclaims") => {
            internal::immutable(
                old,
                new,
                "spec",
                Path::root("spec"),
                "resource.v1.ResourceClaimSpec",
                errors,
            );
        }
        ("resource.k8s.io", "resourceclaimtemplates") => {
            let type_name = "resource.v1.ResourceClaimTemplateSpec";
            internal::immutable(old, new, "spec", Path::root("spec"), type_name, errors);
        }
        ("resource.k8s.io", "deviceclasses") => device::class(old, new, errors),
        ("resource.k8s.io", "resourceslices") => device::slice(old, new, errors),
        ("scheduling.k8s.io", "priorityclasses") => cluster::priority_class_change(old, new, errors),
        ("node.k8s.io", "runtimeclasses") => {
            field::immutable(old, new, Path::root("handler"), "handler", errors);
        }
        (ADMISSION_GROUP, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => {
            admission::webhooks(old, new, errors);
        }
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition::definition(old, new, errors),
        ("networking.k8s.io", "ingresses") => ingress::ingress(old, new, errors),
        ("networking.k8s.io", "ingressclasses") => ingress::ingress_class_change(old, new, errors),
        ("discovery.k8s.io", "endpointslices") => {
            field::immutable(old, new, Path::root("addressType"), "addressType", errors);
        }
        (crate::RBAC_GROUP, "rolebindings" | "clusterrolebindings") => {
            rbac::binding_change(old, new, errors);
        }
        _ => {}
    }
}

/// Rules of a status write.
fn check_status(request: &Request<'_>, old: &Value, new: &Value, errors: &mut Errors) {
    match (request.resource.group, request.resource.plural) {
        ("", "pods") => pod_update::check_status(old, new, errors),
        ("apps", "deployments") => workload::deployment_status(old, new, errors),
        ("apps", "statefulsets") => workload::stateful_set_status(old, new, errors),
        ("apps", "daemonsets") => workload::daemon_set_status(old, new, errors),
        ("batch", "jobs") => batch::job_status(old, new, errors),
        ("autoscaling", "horizontalpodautoscalers") => autoscaler::autoscaler_status(new, errors),
        ("policy", "poddisruptionbudgets") => workload::disruption_budget_status(new, errors),
        ("", "services") => service::status(old, new, errors),
        ("networking.k8s.io", "ingresses") => ingress::balancer_status(new, errors),
        ("apps", "replicasets") | ("", "replicationcontrollers") => {
            workload::replica_set_status(new, errors);
        }
        ("", "nodes") => cluster::node_change(old, new, errors),
        ("", "namespaces") => cluster::namespace_status(new, errors),
        ("", "persistentvolumeclaims") => storage::claim_status(new, errors),
        ("", "resourcequotas") => quota::amounts(new, "status", errors),
        ("storage.k8s.io", "volumeattachments") => driver::attachment_status(new, errors),
        ("resource.k8s.io", "resourceclaims") => device::claim_status(old, new, errors),
        ("flowcontrol.apiserver.k8s.io", _) => flow::status(new, errors),
        (ADMISSION_GROUP, "validatingadmissionpolicies") => admission::policy_status(new, errors),
        ("apiregistration.k8s.io", "apiservices") => admission::api_service_status(new, errors),
        ("apiextensions.k8s.io", "customresourcedefinitions") => definition::status(new, errors),
        _ => {}
    }
}
