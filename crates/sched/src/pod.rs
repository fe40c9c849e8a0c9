//! A pod as placement sees it. Whatever decides about nodes alone is its [`Shape`]; pods of one shape are placed alike.

use crate::plugins::volume_binding::Volumes;
use k8s_openapi::api::core::v1::NodeSelector;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;
use stoa_kube::typed::{Container, NodeSelectorTerm, Pod, PodSpec, Toleration};
use stoa_units::{
    HostPort, LabelSelector, NamespacedName, Operator, PortSet, Quantity, Requirement, Resources, Time,
    Transport,
};

/// Priorities from here on are the system's own.
const SYSTEM_PRIORITY_MIN: i32 = 2_000_000_000;

/// A required or preferred term of node affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NodeTerm {
    /// On the node's labels.
    pub labels: LabelSelector,
    /// On its fields: only `metadata.name` exists.
    pub fields: LabelSelector,
    /// A term without any requirement matches nothing.
    pub is_empty: bool,
}

/// A toleration, checked and comparable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tolerates {
    /// The taint's key; empty with `exists` means any.
    pub key: String,
    /// Whether the value does not matter.
    pub exists: bool,
    /// The value otherwise.
    pub value: String,
    /// The effect; empty means any.
    pub effect: String,
}

/// All about a pod that decides which node suits it, other pods aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// What it asks for. `ports` are its host ports.
    pub requests: Resources,
    /// `spec.nodeSelector`.
    pub node_selector: LabelSelector,
    /// Required node affinity: one of the terms, if there are any.
    pub required: Option<Vec<NodeTerm>>,
    /// Preferred node affinity with weights.
    pub preferred: Vec<(i32, NodeTerm)>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Tolerates>,
    /// The images of its containers.
    pub images: Vec<String>,
    /// Whether it names claims of devices.
    pub claims_devices: bool,
}

impl Shape {
    /// The nodes that the required affinity names, if each of its terms names some: no other is looked at.
    pub fn named_nodes(&self) -> Option<BTreeSet<&str>> {
        let mut all = BTreeSet::new();
        let terms = self.required.as_deref().filter(|t| !t.is_empty())?;
        for term in terms {
            let names = |r: &&Requirement| r.key == "metadata.name" && r.operator == Operator::In;
            let lists = term.fields.0.iter().filter(names);
            let sets = lists.map(|r| r.values.iter().map(String::as_str).collect::<BTreeSet<_>>());
            all.extend(sets.reduce(|a, b| a.intersection(&b).copied().collect())?);
        }
        Some(all)
    }

    /// The one node that the required affinity names, if it names one.
    pub fn only_node(&self) -> Option<&str> {
        let name = |term: &'_ NodeTerm| {
            let named = |r: &&Requirement| r.key == "metadata.name" && r.operator == Operator::In;
            term.fields.0.iter().position(|r| named(&r) && r.values.len() == 1)
        };
        let terms = self.required.as_deref()?;
        let mut names = terms.iter().map(|t| Some(t.fields.0[name(t)?].values[0].as_str()));
        let first = names.next()??;
        names.all(|n| n == Some(first)).then_some(first)
    }
}

/// A term of pod affinity or anti-affinity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodTerm {
    /// Which pods.
    pub selector: Option<Vec<(String, u8, Vec<String>)>>,
    /// In which namespaces.
    pub namespaces: Vec<String>,
    /// Or in namespaces with these labels.
    pub namespace_selector: Option<Vec<(String, u8, Vec<String>)>>,
    /// What counts as the same place.
    pub topology_key: String,
}

/// A topology spread constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Largest difference allowed.
    pub max_skew: i32,
    /// What counts as one domain.
    pub topology_key: String,
    /// Whether it is a filter (`DoNotSchedule`) or a score.
    pub required: bool,
    /// Which pods are counted.
    pub selector: LabelSelector,
    /// Below this many domains the least is taken as zero.
    pub min_domains: Option<i32>,
    /// Whether nodes that the pod's node affinity rules out count.
    pub honor_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left out.
    pub honor_taints: bool,
}

/// A claim that a pod names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimName {
    /// The claim's name.
    pub name: String,
    /// The volume that it is made for; none where the claim is there on its own.
    pub made_for: Option<String>,
}

fn claims(spec: &PodSpec, pod: &str) -> Vec<ClaimName> {
    let one = |v: &k8s_openapi::api::core::v1::Volume| match (&v.persistent_volume_claim, &v.ephemeral) {
        (Some(claim), _) => Some(ClaimName { name: claim.claim_name.clone(), made_for: None }),
        (None, Some(_)) => {
            Some(ClaimName { name: format!("{pod}-{}", v.name), made_for: Some(v.name.clone()) })
        }
        (None, None) => None,
    };
    spec.volumes.iter().flatten().filter_map(one).collect()
}

/// A pod to be placed, or one that is.
#[derive(Clone, Debug)]
pub struct PodInfo {
    /// Namespace and name.
    pub name: NamespacedName,
    /// Identity.
    pub uid: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `spec.priority`.
    pub priority: i32,
    /// Whether it may preempt others.
    pub may_preempt: bool,
    /// What decides about nodes.
    pub shape: Arc<Shape>,
    /// The hash of the shape, computed once.
    pub shape_hash: u64,
    /// Names of `spec.schedulingGates`.
    pub gates: Vec<String>,
    /// Topology spread.
    pub spread: Vec<Spread>,
    /// Required affinity to other pods.
    pub affinity: Vec<PodTerm>,
    /// Required anti-affinity to other pods.
    pub anti_affinity: Vec<PodTerm>,
    /// Preferred affinity; negative weights are anti-affinity.
    pub preferred_pods: Vec<(i32, PodTerm)>,
    /// The claims whose volumes it uses.
    pub claims: Vec<ClaimName>,
    /// What is known of them when it is placed.
    pub volumes: Arc<Volumes>,
    /// When it started, or was created: whom to evict last.
    pub started: Time,
}

impl PodInfo {
    /// Reads a pod.
    pub fn read(pod: &Pod) -> PodInfo {
        let meta = &pod.metadata;
        let spec = pod.spec.clone().unwrap_or_default();
        let namespace = meta.namespace.clone().unwrap_or_default();
        let labels = meta.labels.clone().unwrap_or_default();
        let shape = Shape {
            requests: requests(&spec),
            node_selector: LabelSelector::from_labels(spec.node_selector.iter().flatten()),
            required: required_terms(&spec),
            preferred: preferred_terms(&spec),
            tolerations: spec.tolerations.iter().flatten().map(tolerates).collect(),
            images: spec.containers.iter().filter_map(|c| c.image.clone()).collect(),
            claims_devices: spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()),
        };
        let mut hasher = DefaultHasher::new();
        shape.hash(&mut hasher);
        let (affinity, anti_affinity, preferred_pods) = pod_terms(&spec, &namespace, &labels);
        let started =
            pod.status.as_ref().and_then(|s| s.start_time.as_ref()).or(meta.creation_timestamp.as_ref());
        PodInfo {
            name: NamespacedName::new(namespace, meta.name.clone().unwrap_or_default()),
            uid: meta.uid.clone().unwrap_or_default().into(),
            priority: spec.priority.unwrap_or(0),
            may_preempt: spec.preemption_policy.as_deref() != Some("Never"),
            shape: Arc::new(shape),
            shape_hash: hasher.finish(),
            gates: spec.scheduling_gates.iter().flatten().map(|g| g.name.clone()).collect(),
            spread: spreads(&spec, &labels),
            affinity,
            anti_affinity,
            preferred_pods,
            claims: claims(&spec, meta.name.as_deref().unwrap_or_default()),
            volumes: Arc::default(),
            started: started.map_or(Time::EPOCH, |t| Time(t.0)),
            labels,
        }
    }

    /// Whether its fate depends on where other pods, or its volumes, are.
    pub fn is_constrained(&self) -> bool {
        !(self.spread.is_empty()
            && self.affinity.is_empty()
            && self.anti_affinity.is_empty()
            && self.preferred_pods.is_empty()
            && self.volumes.is_empty())
    }

    /// Whether it is one of the system's own, by priority.
    pub fn is_system(&self) -> bool {
        self.priority >= SYSTEM_PRIORITY_MIN
    }
}

/// What a pod asks for: the larger of its containers together (with sidecars) and each init container, plus overhead.
pub fn requests(spec: &PodSpec) -> Resources {
    let (mut main, mut init, mut sidecars) =
        (Resources::default(), Resources::default(), Resources::default());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add_requests(&mut sidecars, container);
        } else {
            raise(&mut init, container, &sidecars);
        }
    }
    for container in &spec.containers {
        add_requests(&mut main, container);
    }
    let mut all = main.plus(&sidecars).max(&init);
    if let Some(pod_level) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let mut stated = Resources::default();
        add(&mut stated, pod_level);
        // What is stated for the whole pod replaces the sum in that dimension.
        all.milli_cpu = if pod_level.contains_key("cpu") { stated.milli_cpu } else { all.milli_cpu };
        all.memory_bytes =
            if pod_level.contains_key("memory") { stated.memory_bytes } else { all.memory_bytes };
    }
    if let Some(overhead) = &spec.overhead {
        add(&mut all, overhead);
    }
    all.pods = 1;
    all.ports = host_ports(spec);
    all
}

fn add_requests(to: &mut Resources, container: &Container) {
    if let Some(map) = container.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        add(to, map);
    }
}

/// What is needed while one more init container runs beside the sidecars. What it does not speak of itself is no more than what the
/// sidecars have in the end.
fn raise(init: &mut Resources, container: &Container, sidecars: &Resources) {
    let mut own = Resources::default();
    add_requests(&mut own, container);
    for (most, own, beside) in [
        (&mut init.milli_cpu, own.milli_cpu, sidecars.milli_cpu),
        (&mut init.memory_bytes, own.memory_bytes, sidecars.memory_bytes),
        (&mut init.disk_bytes, own.disk_bytes, sidecars.disk_bytes),
        (&mut init.pods, own.pods, sidecars.pods),
    ] {
        *most = (*most).max(own.saturating_add(beside));
    }
    for (name, milli) in own.extended {
        let milli = milli.saturating_add(sidecars.extended_milli(&name));
        if milli > init.extended_milli(&name) {
            init.set_extended(name, milli);
        }
    }
}

fn add(to: &mut Resources, map: &BTreeMap<String, stoa_kube::typed::Quantity>) {
    for (name, quantity) in map {
        if let Ok(q) = Quantity::parse(&quantity.0) {
            to.add_quantity(name, &q);
        }
    }
}

fn host_ports(spec: &PodSpec) -> PortSet {
    let sidecars =
        spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    PortSet::from_parts(ports.filter_map(|p| {
        Some(HostPort {
            port: u16::try_from(p.host_port?).ok().filter(|port| *port > 0)?,
            protocol: match p.protocol.as_deref() {
                Some("UDP") => Transport::Udp,
                Some("SCTP") => Transport::Sctp,
                _ => Transport::Tcp,
            },
            ip: p
                .host_ip
                .as_deref()
                .and_then(|ip| ip.parse().ok())
                .filter(|ip: &IpAddr| !ip.is_unspecified()),
        })
    }))
}

pub(crate) fn required_terms(spec: &PodSpec) -> Option<Vec<NodeTerm>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let selector = affinity.required_during_scheduling_ignored_during_execution.as_ref()?;
    Some(node_terms(selector))
}

/// The terms of a selector of nodes.
pub fn node_terms(selector: &NodeSelector) -> Vec<NodeTerm> {
    selector.node_selector_terms.iter().map(node_term).collect()
}

fn preferred_terms(spec: &PodSpec) -> Vec<(i32, NodeTerm)> {
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let terms = affinity.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    terms.into_iter().flatten().map(|t| (t.weight, node_term(&t.preference))).collect()
}

fn operator(text: &str) -> Option<Operator> {
    Some(match text {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::Gt,
        "Lt" => Operator::Lt,
        _ => return None,
    })
}

fn node_term(term: &NodeSelectorTerm) -> NodeTerm {
    let read = |list: &Option<Vec<k8s_openapi::api::core::v1::NodeSelectorRequirement>>| {
        LabelSelector(
            list.iter()
                .flatten()
                .map(|r| Requirement {
                    key: r.key.clone(),
                    // Validation lets no other operator through; one that slipped in matches nothing.
                    operator: operator(&r.operator).unwrap_or(Operator::In),
                    values: r.values.clone().unwrap_or_default(),
                })
                .collect(),
        )
    };
    let (labels, fields) = (read(&term.match_expressions), read(&term.match_fields));
    NodeTerm { is_empty: labels.0.is_empty() && fields.0.is_empty(), labels, fields }
}

pub(crate) fn tolerates(t: &Toleration) -> Tolerates {
    Tolerates {
        key: t.key.clone().unwrap_or_default(),
        exists: t.operator.as_deref() == Some("Exists"),
        value: t.value.clone().unwrap_or_default(),
        effect: t.effect.clone().unwrap_or_default(),
    }
}

type Meta = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A structured selector; `None` selects nothing.
pub(crate) fn selector(s: Option<&Meta>) -> Option<LabelSelector> {
    let s = s?;
    let mut out = LabelSelector::from_labels(s.match_labels.iter().flatten());
    out.0.extend(s.match_expressions.iter().flatten().map(|r| Requirement {
        key: r.key.clone(),
        operator: operator(&r.operator).unwrap_or(Operator::In),
        values: r.values.clone().unwrap_or_default(),
    }));
    Some(out)
}

fn spreads(spec: &PodSpec, labels: &BTreeMap<String, String>) -> Vec<Spread> {
    let constraints = spec.topology_spread_constraints.iter().flatten();
    constraints
        .map(|c| {
            // No selector selects no pod: as a requirement that nothing can meet.
            let mut counted = selector(c.label_selector.as_ref()).unwrap_or_else(|| {
                LabelSelector(vec![Requirement {
                    key: String::new(),
                    operator: Operator::Exists,
                    values: vec![],
                }])
            });
            counted.0.extend(same_labels(c.match_label_keys.as_ref(), labels, Operator::In));
            Spread {
                max_skew: c.max_skew,
                topology_key: c.topology_key.clone(),
                required: c.when_unsatisfiable == "DoNotSchedule",
                selector: counted,
                min_domains: c.min_domains,
                honor_affinity: c.node_affinity_policy.as_deref() != Some("Ignore"),
                honor_taints: c.node_taints_policy.as_deref() == Some("Honor"),
            }
        })
        .collect()
}

fn same_labels<'a>(
    keys: Option<&'a Vec<String>>,
    labels: &'a BTreeMap<String, String>,
    operator: Operator,
) -> impl Iterator<Item = Requirement> + 'a {
    keys.into_iter().flatten().filter_map(move |k| {
        Some(Requirement { key: k.clone(), operator, values: vec![labels.get(k)?.clone()] })
    })
}

type Terms = (Vec<PodTerm>, Vec<PodTerm>, Vec<(i32, PodTerm)>);

fn pod_terms(spec: &PodSpec, namespace: &str, labels: &BTreeMap<String, String>) -> Terms {
    let read = |t: &k8s_openapi::api::core::v1::PodAffinityTerm| pod_term(t, namespace, labels);
    let affinity = spec.affinity.as_ref();
    let (near, far) =
        (affinity.and_then(|a| a.pod_affinity.as_ref()), affinity.and_then(|a| a.pod_anti_affinity.as_ref()));
    let required = near.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let anti = far.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let liked = near.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let disliked = far.and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
    let mut preferred: Vec<(i32, PodTerm)> =
        liked.into_iter().flatten().map(|t| (t.weight, read(&t.pod_affinity_term))).collect();
    preferred.extend(disliked.into_iter().flatten().map(|t| (-t.weight, read(&t.pod_affinity_term))));
    (
        required.into_iter().flatten().map(read).collect(),
        anti.into_iter().flatten().map(read).collect(),
        preferred,
    )
}

type Flat = Vec<(String, u8, Vec<String>)>;

fn pod_term(
    term: &k8s_openapi::api::core::v1::PodAffinityTerm,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> PodTerm {
    let flatten =
        |s: LabelSelector| -> Flat { s.0.into_iter().map(|r| (r.key, r.operator as u8, r.values)).collect() };
    let mut pods = selector(term.label_selector.as_ref());
    if let Some(s) = &mut pods {
        s.0.extend(same_labels(term.match_label_keys.as_ref(), labels, Operator::In));
        s.0.extend(same_labels(term.mismatch_label_keys.as_ref(), labels, Operator::NotIn));
    }
    let mut namespaces = term.namespaces.clone().unwrap_or_default();
    if namespaces.is_empty() && term.namespace_selector.is_none() {
        namespaces.push(namespace.to_string());
    }
    PodTerm {
        selector: pods.map(flatten),
        namespaces,
        namespace_selector: selector(term.namespace_selector.as_ref()).map(flatten),
        topology_key: term.topology_key.clone(),
    }
}

const OPERATORS: [Operator; 6] =
    [Operator::In, Operator::NotIn, Operator::Exists, Operator::DoesNotExist, Operator::Gt, Operator::Lt];

fn flat_matches(flat: &Flat, labels: &BTreeMap<String, String>) -> bool {
    flat.iter().all(|(key, op, values)| {
        let operator = OPERATORS.iter().find(|o| **o as u8 == *op).copied().unwrap_or(Operator::In);
        Requirement { key: key.clone(), operator, values: values.clone() }
            .matches(labels.get(key).map(String::as_str))
    })
}

impl PodTerm {
    /// Whether the term means this pod.
    pub fn matches(
        &self,
        namespace: &str,
        labels: &BTreeMap<String, String>,
        namespace_labels: Option<&BTreeMap<String, String>>,
    ) -> bool {
        let here = self.namespaces.iter().any(|n| n == namespace)
            || self
                .namespace_selector
                .as_ref()
                .is_some_and(|s| flat_matches(s, namespace_labels.unwrap_or(&BTreeMap::new())));
        here && self.selector.as_ref().is_some_and(|s| flat_matches(s, labels))
    }
}
