//! Tables of placements: a cluster of three or so nodes, a pod, and where it goes or what the message says.

use crate::plugins::volume_binding::{Candidate, Volumes};
use crate::{
    Budget, Decision, Frontiers, NodeInfo, PodInfo, Preemption, Queue, Snapshot, Tried, node_terms, place,
    preempt,
};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use stoa_ledger::{Agent, Holder, Ledger};
use stoa_units::{AgentId, NamespacedName, PortSet, Time};

struct Cluster {
    snapshot: Snapshot,
    ledger: Ledger,
    frontiers: Frontiers,
}

fn node(name: &str, cpu: &str, extra: Value) -> Value {
    let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
        "status": {"allocatable": {"cpu": cpu, "memory": "4Gi", "pods": "4"}}});
    for (k, v) in extra.as_object().into_iter().flatten() {
        match k.as_str() {
            "labels" => {
                for (k, v) in v.as_object().into_iter().flatten() {
                    node["metadata"]["labels"][k] = v.clone();
                }
            }
            _ => node["spec"][k] = v.clone(),
        }
    }
    node
}

fn pod(name: &str, spec: Value) -> PodInfo {
    let mut pod = json!({"metadata": {"namespace": "default", "name": name, "uid": name, "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (k, v) in spec.as_object().into_iter().flatten() {
        match k.as_str() {
            "cpu" => pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": v}}),
            "port" => pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 1, "hostPort": v}]),
            "labels" => pod["metadata"]["labels"] = v.clone(),
            _ => pod["spec"][k] = v.clone(),
        }
    }
    PodInfo::read(&serde_json::from_value(pod).unwrap())
}

impl Cluster {
    fn new(nodes: &[Value]) -> Cluster {
        let mut c = Cluster {
            snapshot: Snapshot::new(),
            ledger: Ledger::new(PortSet::EMPTY),
            frontiers: Frontiers::new(),
        };
        nodes.iter().for_each(|n| c.add(n));
        c
    }

    fn add(&mut self, node: &Value) {
        let info = NodeInfo::read(&serde_json::from_value(node.clone()).unwrap());
        let agent = Agent { id: info.id.clone(), capacity: info.allocatable.clone(), active: true };
        self.ledger.set_agent(agent);
        self.snapshot.set_node(info);
    }

    fn decide(&mut self, pod: &PodInfo) -> String {
        self.snapshot.sync(&self.ledger);
        match place(&self.snapshot, &mut self.frontiers, pod) {
            Decision::Node { node, .. } => node.to_string(),
            Decision::Unschedulable(d) => d.message(&preempt(&self.snapshot, pod, &[])),
        }
    }

    fn run(&mut self, pod: PodInfo) -> String {
        let node = self.decide(&pod);
        let id = AgentId::from(node.as_str());
        self.ledger
            .claim(&id, Holder::Pod(pod.name.clone()), &pod.shape.requests)
            .expect("it was said to fit");
        self.snapshot.add_pod(Arc::new(pod), &id, false);
        node
    }
}

/// The plan of evictions, if there is one.
fn plan(c: &Cluster, pod: &PodInfo) -> Option<Preemption> {
    match preempt(&c.snapshot, pod, &[]) {
        Tried::Found(plan) => Some(plan),
        _ => None,
    }
}

#[test]
fn the_message_counts_reasons_as_the_stock_scheduler_does() {
    let taint = json!([{"key": "k", "value": "v", "effect": "NoSchedule"}]);
    let mut c = Cluster::new(&[
        node("n1", "1", json!({})),
        node("n2", "8", json!({"taints": taint})),
        node("n3", "8", json!({"taints": taint})),
    ]);
    assert_eq!(
        c.decide(&pod("big", json!({"cpu": "2"}))),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    c.run(pod("fill", json!({"cpu": "600m"})));
    assert_eq!(
        c.decide(&pod("half", json!({"cpu": "500m"}))),
        "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling."
    );
    let tolerant = json!({"cpu": "2", "tolerations": [{"key": "k", "operator": "Exists"}]});
    assert_eq!(c.decide(&pod("ok", tolerant)), "n2");
    let never = pod("n", json!({"cpu": "2", "preemptionPolicy": "Never"}));
    assert!(c.decide(&never).ends_with("preemption: not eligible due to preemptionPolicy=Never."));
    let mut none = Cluster::new(&[]);
    assert_eq!(none.decide(&pod("p", json!({}))), "no nodes available to schedule pods");
}

#[test]
fn a_pod_waits_for_devices_that_nobody_allocates() {
    let mut c = Cluster::new(&[node("n1", "4", json!({}))]);
    let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]});
    assert_eq!(
        c.decide(&pod("p", claims)),
        "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    );
    assert_eq!(c.decide(&pod("q", json!({"resourceClaims": []}))), "n1");
}

#[test]
fn selectors_affinity_cordons_and_ports_decide() {
    let mut c = Cluster::new(&[
        node("n1", "4", json!({"labels": {"disk": "ssd", "gen": "3"}})),
        node("n2", "4", json!({"labels": {"disk": "hdd", "gen": "5"}})),
        node("n3", "4", json!({"unschedulable": true})),
    ]);
    let required = |e: Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [e]}}}})
    };
    let expr = |k, op, v| required(json!({"matchExpressions": [{"key": k, "operator": op, "values": v}]}));
    let preferred = json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
        [{"weight": 50, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd"]}]}}]}}});
    let none = "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector. no new claims to deallocate, preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling.";
    for (spec, want) in [
        (json!({"nodeSelector": {"disk": "hdd"}}), "n2"),
        (json!({"nodeSelector": {"disk": "tape"}}), none),
        (expr("gen", "Gt", json!(["4"])), "n2"),
        (expr("disk", "NotIn", json!(["hdd"])), "n1"),
        (
            required(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})),
            "n2",
        ),
        (required(json!({})), none),
        (preferred, "n2"),
        (
            json!({"tolerations": [{"operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": "n3"}}),
            "n3",
        ),
    ] {
        assert_eq!(c.decide(&pod("p", spec.clone())), want, "{spec}");
    }
    let first = c.run(pod("a", json!({"port": 80})));
    let second = c.run(pod("b", json!({"port": 80})));
    assert_ne!(first, second);
    assert_eq!(
        c.decide(&pod("c", json!({"port": 80}))),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't have free ports for the requested pod ports. no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
}

#[test]
fn pods_without_requests_are_spread_too_and_the_pod_limit_holds() {
    let mut c = Cluster::new(&[node("n1", "4", json!({})), node("n2", "4", json!({}))]);
    let mut on = [0, 0];
    for i in 0..8 {
        on[usize::from(c.run(pod(&format!("p{i}"), json!({}))) == "n2")] += 1;
    }
    assert_eq!(on, [4, 4]);
    assert!(c.decide(&pod("p9", json!({}))).starts_with("0/2 nodes are available: 2 Too many pods."));
}

#[test]
fn other_pods_attract_repel_and_spread() {
    let zone = |z: &str| json!({"labels": {"zone": z}});
    let mut c =
        Cluster::new(&[node("n1", "4", zone("a")), node("n2", "4", zone("b")), node("n3", "4", zone("b"))]);
    let term = json!({"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "zone"});
    let far =
        json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let near =
        json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}});
    let spread = json!({"labels": {"app": "s"}, "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "s"}}}]});
    assert_eq!(c.run(pod("first", near.clone())), "n1", "the first of a group may go anywhere");
    assert_eq!(c.run(pod("second", near)), "n1");
    assert_eq!(c.run(pod("third", far.clone())), "n2");
    assert!(c.decide(&pod("fourth", far)).contains("3 node(s) didn't match pod anti-affinity rules"));
    // The third pod wants its zone for itself: a plain pod that it means must stay out.
    assert_eq!(c.decide(&pod("plain", json!({}))), "n1");
    let zones: Vec<String> = (0..4)
        .map(|i| if c.run(pod(&format!("s{i}"), spread.clone())) == "n1" { "a" } else { "b" }.to_string())
        .collect();
    assert_eq!(zones.iter().filter(|z| *z == "a").count(), 2, "{zones:?}");
}

#[test]
fn what_is_remembered_never_changes_a_decision() {
    let nodes: Vec<Value> = (0..20).map(|i| node(&format!("n{i:02}"), "4", json!({}))).collect();
    let mut c = Cluster::new(&nodes);
    for i in 0..60 {
        let p = pod(&format!("p{i}"), json!({"cpu": format!("{}m", 100 + 150 * (i % 3))}));
        c.snapshot.sync(&c.ledger);
        let fresh = place(&c.snapshot, &mut Frontiers::new(), &p);
        assert_eq!(place(&c.snapshot, &mut c.frontiers, &p), fresh);
        c.run(p);
        if i % 7 == 0 {
            let gone = NamespacedName::new("default", format!("p{}", i / 2));
            c.ledger.release(&Holder::Pod(gone.clone()));
            c.snapshot.remove_pod(&gone);
        }
        if i == 30 {
            c.snapshot.remove_node(&"n03".into());
        }
    }
}

#[test]
fn the_cheapest_victims_are_chosen() {
    let mut c = Cluster::new(&[node("n1", "2", json!({})), node("n2", "2", json!({}))]);
    for (name, cpu, priority) in [("low1", "1", 1), ("low2", "1", 1), ("mid", "1", 5), ("low3", "1", 2)] {
        c.run(pod(name, json!({"cpu": cpu, "priority": priority})));
    }
    c.snapshot.sync(&c.ledger);
    assert_eq!(plan(&c, &pod("same", json!({"cpu": "1", "priority": 1}))), None);
    let cheapest = plan(&c, &pod("high", json!({"cpu": "1", "priority": 9}))).expect("a victim");
    assert_eq!((cheapest.victims.len(), &*cheapest.victims[0].0.name), (1, "low1"));
    assert_eq!(plan(&c, &pod("never", json!({"cpu": "3", "priority": 9}))), None);
    let meek = pod("meek", json!({"cpu": "1", "priority": 9, "preemptionPolicy": "Never"}));
    assert_eq!(plan(&c, &meek), None);
}

#[test]
fn room_that_is_made_for_a_pod_is_kept_from_those_that_do_not_come_before_it() {
    let mut c = Cluster::new(&[node("n1", "2", json!({})), node("n2", "1", json!({}))]);
    for name in ["low1", "low2", "low3"] {
        c.run(pod(name, json!({"cpu": "1", "priority": 1})));
    }
    c.snapshot.sync(&c.ledger);
    let high = Arc::new(pod("high", json!({"cpu": "2", "priority": 9})));
    let made = plan(&c, &high).expect("victims");
    assert_eq!((made.node.as_str(), made.victims.len()), ("n1", 2));
    c.snapshot.nominate(high.clone(), &made.node);
    // Those that were evicted end one after the other; what takes their place must not take the room.
    for (i, (victim, _)) in made.victims.iter().enumerate() {
        c.ledger.release(&Holder::Pod(victim.clone()));
        c.snapshot.remove_pod(victim);
        c.snapshot.sync(&c.ledger);
        let again = pod(&format!("again{i}"), json!({"cpu": "1", "priority": 1}));
        assert!(c.decide(&again).contains("2 Insufficient cpu"), "{}", c.decide(&again));
        let pinned = json!({"cpu": "1", "priority": 9, "nodeSelector": {"kubernetes.io/hostname": "n1"}});
        assert!(
            !c.decide(&pod("equal", pinned)).starts_with('n'),
            "nor one that came later with the same priority"
        );
        assert_eq!(plan(&c, &again), None);
    }
    assert_eq!(c.decide(&pod("higher", json!({"cpu": "1", "priority": 10}))), "n1");
    assert_eq!(c.decide(&high), "n1");
    // Elsewhere they may go.
    c.add(&node("n3", "1", json!({})));
    assert_eq!(c.decide(&pod("again", json!({"cpu": "1", "priority": 1}))), "n3");
    assert!(c.snapshot.withdraw(&high.name) && !c.snapshot.withdraw(&high.name));
    assert_eq!(c.decide(&pod("again", json!({"cpu": "2", "priority": 1}))), "n1");
}

#[test]
fn the_queue_orders_backs_off_and_wakes() {
    let name = |n: &str| NamespacedName::new("d", n);
    let step = crate::BACKOFF_MIN;
    // In steps of the first back-off.
    let at = |n: u32| Time::EPOCH.plus(step * n);
    let mut q = Queue::new();
    for (n, priority, since) in [("old", 0, 1), ("new", 0, 2), ("vip", 10, 3)] {
        q.add(name(n), priority, at(since));
    }
    let mut order = Vec::new();
    while let Some(n) = q.pop(at(10)) {
        q.park(&n, at(10));
        order.push(n.name.to_string());
    }
    assert_eq!(order, ["vip", "old", "new"]);
    assert_eq!(q.lens(), (0, 0, 3));
    q.move_parked(at(10));
    assert_eq!((q.pop(at(10)), q.next_wake()), (None, Some(at(11))));
    assert_eq!(q.pop(at(11)), Some(name("vip")));
    // An event while it was looked at: it is tried again, after a longer back-off.
    q.move_parked(at(11));
    q.park(&name("vip"), at(11));
    assert_eq!(q.next_wake(), Some(at(13)));
    q.remove(&name("vip"));
    assert!(!q.contains(&name("vip")));
    assert_eq!(q.pop(at(13)), Some(name("old")));
    q.retry(&name("old"), at(13));
    assert_eq!(q.pop(at(14)), Some(name("new")));
    let parked = at(14);
    q.park(&name("new"), parked);
    q.sweep(parked.plus(Duration::from_secs(386)));
    assert_eq!(q.lens(), (1, 1, 0));
}

#[test]
fn the_longest_back_off_is_reached_and_kept() {
    let pod = NamespacedName::new("d", "p");
    let mut q = Queue::new();
    q.add(pod.clone(), 0, Time::EPOCH);
    let mut now = Time::EPOCH;
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(q.pop(now), Some(pod.clone()));
        q.retry(&pod, now);
        let next = q.next_wake().expect("it backs off");
        waits.push(next.since(now));
        now = next;
    }
    assert!(waits.is_sorted());
    assert_eq!((waits[0], waits[1]), (crate::BACKOFF_MIN, crate::BACKOFF_MIN * 2));
    assert_eq!(waits[10..], [crate::BACKOFF_MAX; 2]);
}

#[test]
fn requests_are_the_larger_of_start_and_run() {
    let spec = json!({
        "containers": [{"name": "a", "resources": {"requests": {"cpu": "300m", "memory": "1Gi"}}},
                       {"name": "b", "resources": {"requests": {"cpu": "200m"}}, "ports": [{"containerPort": 1, "hostPort": 8080}]}],
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2", "memory": "1Mi"}}},
                           {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}],
        "overhead": {"cpu": "10m"},
    });
    let r = crate::requests(&serde_json::from_value(spec).unwrap());
    assert_eq!((r.milli_cpu, r.memory_bytes, r.pods), (2_010, 1 << 30, 1));
    assert_eq!(r.ports.widened(), PortSet::one(8080));
}

#[test]
fn a_pod_that_names_its_node_is_judged_on_that_node_alone() {
    let named = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let field = |values: Value| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]});
    let mut with_ssd = field(json!(["n2"]));
    with_ssd["matchExpressions"] = json!([{"key": "disk", "operator": "Exists"}]);
    let refused = "0/2 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity], 1 node(s) had untolerated taint(s).";
    let nowhere = "0/2 nodes are available: 2 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    let elsewhere = "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) didn't satisfy plugin(s) [NodeAffinity].";
    let taint = json!([{"key": "k", "operator": "Exists"}]);
    for (terms, tolerations, wanted) in [
        (json!([field(json!(["n1"]))]), json!([]), "n1"),
        (json!([field(json!(["n1"])), field(json!(["n1"]))]), json!([]), "n1"),
        (json!([field(json!(["n2"]))]), taint.clone(), "n2"),
        (json!([field(json!(["n2"]))]), json!([]), refused),
        (json!([with_ssd]), taint, elsewhere),
        (json!([field(json!(["n9"]))]), json!([]), nowhere),
        (json!([field(json!(["n1", "n2"]))]), json!([]), "n1"),
    ] {
        let tainted = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        let mut c = Cluster::new(&[node("n1", "4", json!({})), node("n2", "4", tainted)]);
        let mut spec = named(terms.clone());
        spec["tolerations"] = tolerations;
        let found = c.decide(&pod("p", spec));
        assert!(found.starts_with(wanted), "{terms}: {found}");
    }
}

#[test]
fn a_pod_of_many_amounts_asks_for_its_largest_moment() {
    let container = |requests: Value, policy: &str| json!({"name": "c", "resources": {"requests": requests}, "restartPolicy": policy});
    let asks = |spec: Value| crate::pod::requests(&serde_json::from_value(spec).unwrap());
    let few = asks(json!({
        "containers": [container(json!({"cpu": "1", "a.b/c": "1"}), "")],
        "initContainers": [
            container(json!({"cpu": "3", "a.b/c": "1"}), ""),
            container(json!({"cpu": "1", "memory": "1", "a.b/d": "2"}), "Always"),
            container(json!({"cpu": "4", "a.b/d": "1"}), ""),
            container(json!({"cpu": "1"}), "Always"),
        ],
    }));
    let amounts = ["a.b/c", "a.b/d"].map(|name| few.extended_milli(name));
    assert_eq!((few.milli_cpu, few.memory_bytes, amounts), (5000, 1, [1000, 3000]));
    // Held against each other they would take minutes.
    let many: serde_json::Map<String, Value> = (0..LEN).map(|i| (format!("a.b/{i}"), "1".into())).collect();
    let mut inits = vec![container(many.into(), "Always")];
    inits.extend((0..LEN).map(|_| container(json!({}), "")));
    let containers: Vec<Value> = (0..LEN).map(|i| container(json!({format!("b.c/{i}"): "1"}), "")).collect();
    assert_eq!(asks(json!({"containers": containers, "initContainers": inits})).extended.len(), 2 * LEN);
}

const LEN: usize = 20_000;

#[test]
fn a_preemption_says_what_it_came_to_and_spares_budgets() {
    let mut c =
        Cluster::new(&[node("n1", "2", json!({})), node("n2", "2", json!({})), node("n3", "1", json!({}))]);
    for (name, on, priority) in [("a", "n1", 1), ("b", "n2", 5), ("c", "n3", 9)] {
        let on = json!({"kubernetes.io/hostname": on});
        c.run(pod(
            name,
            json!({"cpu": "1", "priority": priority, "labels": {"pod": name}, "nodeSelector": on}),
        ));
    }
    c.snapshot.sync(&c.ledger);
    let high = pod("high", json!({"cpu": "2", "priority": 9}));
    assert_eq!(plan(&c, &high).expect("a plan").node.as_str(), "n1");
    assert_eq!(c.decide(&high), "0/3 nodes are available: 3 Insufficient cpu.", "help is on its way");
    let keep = |name: &str, allowed: i32, disrupted: &[&str]| Budget {
        namespace: "default".into(),
        selector: stoa_units::LabelSelector::from_labels([(&"pod".to_string(), &name.to_string())]),
        allowed,
        disrupted: disrupted.iter().map(ToString::to_string).collect(),
    };
    let victim = |budgets: &[Budget]| match preempt(&c.snapshot, &high, budgets) {
        Tried::Found(plan) => plan.node.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(victim(&[keep("a", 0, &[])]), "n2");
    assert_eq!(victim(&[keep("a", 1, &[])]), "n1");
    assert_eq!(victim(&[keep("a", 0, &["a"])]), "n1", "it is counted already");
    assert_eq!(victim(&[keep("a", 0, &[]), keep("b", 0, &[])]), "n1", "where there is no other way");
    // Of each node what would still be in the way.
    assert_eq!(
        c.decide(&pod("vast", json!({"cpu": "2", "priority": 3, "port": 80}))),
        "0/3 nodes are available: 3 Insufficient cpu."
    );
    c.run(pod("d", json!({"cpu": "1", "priority": 9, "nodeSelector": {"kubernetes.io/hostname": "n1"}})));
    assert_eq!(
        c.decide(&pod("vast", json!({"cpu": "2", "priority": 3}))),
        "0/3 nodes are available: 3 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not helpful for scheduling."
    );
}

#[test]
fn evictions_make_way_for_company_too() {
    let mut c = Cluster::new(&[node("n1", "4", json!({}))]);
    let term =
        json!({"labelSelector": {"matchLabels": {"app": "a"}}, "topologyKey": "kubernetes.io/hostname"});
    let far = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}});
    c.run(pod("low", json!({"priority": 1, "affinity": far})));
    let high = pod("high", json!({"priority": 9, "affinity": far}));
    assert_eq!(plan(&c, &high).expect("a plan").victims[0].0.name.as_ref(), "low");
    let guarded = pod("guarded", json!({"priority": 9}));
    assert_eq!(plan(&c, &guarded).expect("a plan").victims.len(), 1);
}

#[test]
fn a_pod_that_waits_for_its_victims_evicts_no_others() {
    let mut c = Cluster::new(&[node("n1", "1", json!({})), node("n2", "1", json!({}))]);
    for name in ["low1", "low2"] {
        c.run(pod(name, json!({"cpu": "1", "priority": 1})));
    }
    let high = Arc::new(pod("high", json!({"cpu": "1", "priority": 9})));
    let chosen = plan(&c, &high).expect("a plan");
    c.snapshot.nominate(high.clone(), &chosen.node);
    let victim = Arc::new(pod(&chosen.victims[0].0.name, json!({"cpu": "1", "priority": 1})));
    c.snapshot.add_pod(victim, &chosen.node, true);
    assert_eq!(
        c.decide(&high),
        "0/2 nodes are available: 2 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to a terminating pod on the nominated node."
    );
}

#[test]
fn nodes_that_a_pod_does_not_name_are_not_looked_at() {
    let mut c = Cluster::new(&[node("n1", "1", json!({})), node("n2", "1", json!({"unschedulable": true}))]);
    let named = |names: Value| {
        let fields: Vec<Value> = names
            .as_array()
            .expect("a list")
            .iter()
            .map(|n| json!({"key": "metadata.name", "operator": "In", "values": n}))
            .collect();
        json!({"cpu": "2", "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": fields}]}}}})
    };
    assert_eq!(
        c.decide(&pod("daemon", named(json!([["n1"]])))),
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    assert_eq!(
        c.decide(&pod("torn", named(json!([["n1"], ["n2"]])))),
        "0/2 nodes are available: pod affinity terms conflict. not found"
    );
}

#[test]
fn volumes_decide_where_a_pod_goes() {
    let mut c = Cluster::new(&[node("n1", "1", json!({})), node("n2", "1", json!({}))]);
    let on = |name: &str| {
        let term = json!({"nodeSelectorTerms": [{"matchExpressions":
            [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}]});
        node_terms(&serde_json::from_value(term).expect("a selector"))
    };
    let with = |volumes: Volumes| PodInfo { volumes: Arc::new(volumes), ..pod("p", json!({})) };
    let free = |name: &str, from: Option<&str>| Candidate { name: name.into(), from: from.map(on) };
    let blocked = Volumes { blocked: Some("claims are unbound".into()), ..Volumes::default() };
    assert_eq!(c.decide(&with(blocked)), "0/2 nodes are available: claims are unbound. not found");
    assert_eq!(c.decide(&with(Volumes { bound: vec![on("n2")], ..Volumes::default() })), "n2");
    assert_eq!(
        c.decide(&with(Volumes { bound: vec![on("n1"), on("n2")], ..Volumes::default() })),
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity. no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
    );
    // Two claims cannot share the one volume of a node.
    let pair = |a, b| Volumes { waiting: vec![a, b], ..Volumes::default() };
    let here = || vec![free("v1", Some("n2"))];
    assert_eq!(c.decide(&with(pair(here(), vec![free("v1", Some("n2")), free("v2", None)]))), "n2");
    assert!(
        c.decide(&with(pair(here(), here()))).starts_with(
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind."
        )
    );
}
