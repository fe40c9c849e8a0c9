//! Whether a node is one for a daemon's pod: by name, by labels, by taints. Room does not count; a pod that finds none waits.

use stoa_kube::typed::{Node, NodeSelectorTerm, PodTemplateSpec, Taint, Toleration};
use stoa_units::{LabelSelector, Operator, Requirement};

/// What a node is to a daemon's pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fits {
    /// It should have one.
    Yes,
    /// It gets none, but one that runs there stays: the taint only keeps new pods off.
    Stay,
    /// It should have none.
    No,
}

/// Taints that a daemon's pod tolerates whatever its template says.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And this one too if it uses the host's network.
const TOLERATED_ON_HOST: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// One of the alternatives of a required node affinity.
struct Term {
    labels: LabelSelector,
    fields: LabelSelector,
}

/// What a template asks of nodes, read once.
pub(super) struct Fit {
    node_name: Option<String>,
    node_selector: LabelSelector,
    required: Option<Vec<Term>>,
    /// The tolerations of the pods: the template's and those that every daemon has.
    pub tolerations: Vec<Toleration>,
}

impl Fit {
    pub fn read(template: &PodTemplateSpec) -> Fit {
        let spec = template.spec.clone().unwrap_or_default();
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let mut tolerations = spec.tolerations.unwrap_or_default();
        let host = (spec.host_network == Some(true)).then_some(TOLERATED_ON_HOST);
        for (key, effect) in TOLERATED.into_iter().chain(host) {
            let added = Toleration {
                key: Some(key.into()),
                operator: Some("Exists".into()),
                effect: Some(effect.into()),
                ..Toleration::default()
            };
            let same = |t: &&mut Toleration| {
                t.key == added.key && t.effect == added.effect && t.operator == added.operator && is_blank(t)
            };
            match tolerations.iter_mut().find(same) {
                Some(t) => *t = added,
                None => tolerations.push(added),
            }
        }
        Fit {
            node_name: spec.node_name.filter(|n| !n.is_empty()),
            node_selector: LabelSelector::from_labels(spec.node_selector.iter().flatten()),
            required: required.map(|r| r.node_selector_terms.iter().map(term).collect()),
            tolerations,
        }
    }

    pub fn judge(&self, node: &Node) -> Fits {
        static NONE: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let labels = node.metadata.labels.as_ref().unwrap_or(&NONE);
        let wanted = self.node_name.as_deref().is_none_or(|n| n == name)
            && self.node_selector.matches(labels)
            && self.required.as_ref().is_none_or(|terms| {
                terms.iter().any(|t| {
                    let is_empty = t.labels.is_everything() && t.fields.is_everything();
                    !is_empty
                        && t.labels.matches(labels)
                        && t.fields.matches_with(|f| (f == "metadata.name").then_some(name))
                })
            });
        if !wanted {
            return Fits::No;
        }
        let taints = node.spec.as_ref().and_then(|s| s.taints.as_deref()).unwrap_or_default();
        let refused = |effect: &str| {
            taints
                .iter()
                .filter(|t| t.effect == effect)
                .any(|t| !self.tolerations.iter().any(|o| tolerates(o, t)))
        };
        match (refused("NoExecute"), refused("NoSchedule")) {
            (true, _) => Fits::No,
            (false, true) => Fits::Stay,
            (false, false) => Fits::Yes,
        }
    }
}

fn is_blank(t: &Toleration) -> bool {
    t.value.as_deref().unwrap_or_default().is_empty()
}

fn tolerates(t: &Toleration, taint: &Taint) -> bool {
    let text = |f: &Option<String>| f.clone().unwrap_or_default();
    let (key, exists) = (text(&t.key), t.operator.as_deref() == Some("Exists"));
    let effect = text(&t.effect);
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || text(&t.value) == text(&taint.value))
}

fn term(term: &NodeSelectorTerm) -> Term {
    let read = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>| {
        let all = list.iter().flatten().map(|r| Requirement {
            key: r.key.clone(),
            operator: match r.operator.as_str() {
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                "Gt" => Operator::Gt,
                "Lt" => Operator::Lt,
                _ => Operator::In,
            },
            values: r.values.clone().unwrap_or_default(),
        });
        LabelSelector(all.collect())
    };
    Term { labels: read(&term.match_expressions), fields: read(&term.match_fields) }
}
