//! The defaults that depend on nothing but the field's absence.

use serde_json::{Map, Value};
use stoa_kube::Resource;

use crate::value::{set_default, set_default_zero};

/// A default value. `Zero…` also replaces Go's zero value, where Go cannot tell it from absence.
#[derive(Clone, Copy)]
enum D {
    /// A text; the empty text counts as absent.
    S(&'static str),
    /// A text behind a pointer, which may be empty: it is then judged as it is.
    P(&'static str),
    I(i64),
    /// A number whose zero counts as absent.
    Z(i64),
    B(bool),
    /// An empty object.
    O,
    /// The list `["<text>"]`.
    L(&'static str),
}

use D::{B, I, L, O, P, S, Z};

/// Path and default. `a.b[].c` walks into every element of the list `b`; a row applies where its parent is there.
type Row = (&'static str, D);

/// Rows of a kind, in the order in which they apply: a row may create the parent of a later one.
fn rows(group: &str, plural: &str, version: &str) -> &'static [Row] {
    match (group, plural) {
        ("", "services") => &[
            ("spec", O),
            ("spec.sessionAffinity", S("None")),
            ("spec.type", S("ClusterIP")),
            ("spec.ports[].protocol", S("TCP")),
            ("status", O),
            ("status.loadBalancer", O),
        ],
        ("", "namespaces") => &[("spec", O), ("status", O), ("status.phase", S("Active"))],
        ("", "nodes") => &[("spec", O), ("status", O)],
        ("", "secrets") => &[("type", S("Opaque"))],
        ("", "persistentvolumes") => &[
            ("spec.persistentVolumeReclaimPolicy", S("Retain")),
            ("spec.volumeMode", P("Filesystem")),
            ("status", O),
            ("status.phase", S("Pending")),
        ],
        ("", "persistentvolumeclaims") => {
            &[("spec.volumeMode", P("Filesystem")), ("status", O), ("status.phase", S("Pending"))]
        }
        ("", "events") => &[("source", O), ("reportingComponent", S("")), ("reportingInstance", S(""))],
        ("apps", "deployments") => &[
            ("spec.replicas", I(1)),
            ("spec.strategy", O),
            ("spec.strategy.type", S("RollingUpdate")),
            ("spec.revisionHistoryLimit", I(10)),
            ("spec.progressDeadlineSeconds", I(600)),
        ],
        ("apps", "replicasets") => &[("spec.replicas", I(1))],
        ("", "replicationcontrollers") => &[("spec.replicas", I(1))],
        ("apps", "statefulsets") => &[
            ("spec.replicas", I(1)),
            ("spec.podManagementPolicy", S("OrderedReady")),
            ("spec.updateStrategy", O),
            ("spec.updateStrategy.type", S("RollingUpdate")),
            ("spec.revisionHistoryLimit", I(10)),
            ("spec.persistentVolumeClaimRetentionPolicy", O),
            ("spec.persistentVolumeClaimRetentionPolicy.whenDeleted", S("Retain")),
            ("spec.persistentVolumeClaimRetentionPolicy.whenScaled", S("Retain")),
        ],
        ("apps", "daemonsets") => &[
            ("spec.updateStrategy", O),
            ("spec.updateStrategy.type", S("RollingUpdate")),
            ("spec.revisionHistoryLimit", I(10)),
        ],
        ("batch", "jobs") => JOB,
        ("batch", "cronjobs") => &[
            ("spec.concurrencyPolicy", S("Allow")),
            ("spec.suspend", B(false)),
            ("spec.successfulJobsHistoryLimit", I(3)),
            ("spec.failedJobsHistoryLimit", I(1)),
        ],
        ("autoscaling", "horizontalpodautoscalers") if version == "v1" => &[("spec.minReplicas", I(1))],
        ("autoscaling", "horizontalpodautoscalers") => &[("spec.minReplicas", I(1))],
        ("networking.k8s.io", "networkpolicies") => &[
            ("spec.podSelector", O),
            ("spec.ingress[].ports[].protocol", P("TCP")),
            ("spec.egress[].ports[].protocol", P("TCP")),
        ],
        ("networking.k8s.io", "ingresses") => &[("status", O), ("status.loadBalancer", O)],
        ("networking.k8s.io", "ingressclasses") => &[("spec.parameters.scope", P("Cluster"))],
        ("discovery.k8s.io", "endpointslices") => {
            &[("endpoints[].conditions", O), ("ports[].name", S("")), ("ports[].protocol", P("TCP"))]
        }
        ("rbac.authorization.k8s.io", "rolebindings" | "clusterrolebindings") => {
            &[("roleRef.apiGroup", S("rbac.authorization.k8s.io"))]
        }
        ("storage.k8s.io", "storageclasses") => {
            &[("reclaimPolicy", P("Delete")), ("volumeBindingMode", P("Immediate"))]
        }
        ("storage.k8s.io", "csidrivers") => &[
            ("spec.attachRequired", B(true)),
            ("spec.podInfoOnMount", B(false)),
            ("spec.volumeLifecycleModes", L("Persistent")),
            ("spec.storageCapacity", B(false)),
            ("spec.fsGroupPolicy", P("ReadWriteOnceWithFSType")),
            ("spec.requiresRepublish", B(false)),
            ("spec.seLinuxMount", B(false)),
        ],
        ("scheduling.k8s.io", "priorityclasses") => &[("preemptionPolicy", P("PreemptLowerPriority"))],
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => WEBHOOK,
        // Only mutating webhooks can be called again.
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => &WEBHOOK[..WEBHOOK.len() - 1],
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => POLICY,
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => POLICY,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings",
        ) => &[
            ("spec.matchResources.matchPolicy", P("Equivalent")),
            ("spec.matchResources.namespaceSelector", O),
            ("spec.matchResources.objectSelector", O),
            ("spec.matchResources.resourceRules[].scope", P("*")),
            ("spec.matchResources.excludeResourceRules[].scope", P("*")),
        ],
        ("apiextensions.k8s.io", "customresourcedefinitions") => &[
            ("spec.conversion", O),
            ("spec.conversion.strategy", S("None")),
            ("spec.conversion.webhook.clientConfig.service.port", I(443)),
        ],
        ("apiregistration.k8s.io", "apiservices") => &[("spec.service.port", I(443))],
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &[("spec.matchingPrecedence", Z(1000))],
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &[
            ("spec.limited.nominalConcurrencyShares", I(30)),
            ("spec.limited.lendablePercent", I(0)),
            ("spec.limited.limitResponse.queuing.queues", Z(64)),
            ("spec.limited.limitResponse.queuing.handSize", Z(8)),
            ("spec.limited.limitResponse.queuing.queueLengthLimit", Z(50)),
            ("spec.exempt.nominalConcurrencyShares", I(0)),
            ("spec.exempt.lendablePercent", I(0)),
        ],
        ("resource.k8s.io", "resourceclaims") => &[
            ("spec.devices.requests[].exactly.allocationMode", S("ExactCount")),
            ("spec.devices.requests[].firstAvailable[].allocationMode", S("ExactCount")),
            ("spec.devices.requests[].exactly.tolerations[].operator", S("Equal")),
            ("spec.devices.requests[].firstAvailable[].tolerations[].operator", S("Equal")),
        ],
        ("resource.k8s.io", "resourceclaimtemplates") => &[
            ("spec.spec.devices.requests[].exactly.allocationMode", S("ExactCount")),
            ("spec.spec.devices.requests[].firstAvailable[].allocationMode", S("ExactCount")),
            ("spec.spec.devices.requests[].exactly.tolerations[].operator", S("Equal")),
            ("spec.spec.devices.requests[].firstAvailable[].tolerations[].operator", S("Equal")),
        ],
        _ => &[],
    }
}

const JOB: &[Row] = &[
    ("spec.backoffLimit", I(6)),
    ("spec.completionMode", P("NonIndexed")),
    ("spec.suspend", B(false)),
    ("spec.manualSelector", B(false)),
];

const WEBHOOK: &[Row] = &[
    ("webhooks[].clientConfig.service.port", I(443)),
    ("webhooks[].failurePolicy", P("Fail")),
    ("webhooks[].matchPolicy", P("Equivalent")),
    ("webhooks[].namespaceSelector", O),
    ("webhooks[].objectSelector", O),
    ("webhooks[].timeoutSeconds", I(10)),
    ("webhooks[].rules[].scope", P("*")),
    ("webhooks[].reinvocationPolicy", P("Never")),
];

const POLICY: &[Row] = &[
    ("spec.failurePolicy", P("Fail")),
    ("spec.matchConstraints.matchPolicy", P("Equivalent")),
    ("spec.matchConstraints.namespaceSelector", O),
    ("spec.matchConstraints.objectSelector", O),
    ("spec.matchConstraints.resourceRules[].scope", P("*")),
    ("spec.matchConstraints.excludeResourceRules[].scope", P("*")),
];

/// Applies a kind's rows.
pub(super) fn apply(resource: &Resource, object: &mut Value) {
    for (path, default) in rows(resource.group, resource.plural, resource.version) {
        apply_row(object, path, *default);
    }
}

fn apply_row(v: &mut Value, path: &str, default: D) {
    match path.split_once('.') {
        None => match default {
            S(s) => set_default_zero(v, path, s),
            P(s) => set_default(v, path, s),
            I(n) => set_default(v, path, n),
            Z(n) => set_default_zero(v, path, n),
            B(b) => set_default(v, path, b),
            O => set_default(v, path, Map::new()),
            L(s) => set_default(v, path, vec![Value::from(s)]),
        },
        Some((key, rest)) => match key.strip_suffix("[]") {
            Some(key) => crate::value::items_mut(v, key).for_each(|e| apply_row(e, rest, default)),
            None => {
                if let Some(child) = v.get_mut(key) {
                    apply_row(child, rest, default);
                }
            }
        },
    }
}
