//! Placements a second, every node considered: `cargo run --release -p stoa-sched --example sched_bench [nodes] [pods]`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Instant;
use stoa_ledger::{Agent, Holder, Ledger};
use stoa_sched::{Decision, Frontiers, NodeInfo, PodInfo, Snapshot, place};
use stoa_units::{AgentId, PortSet, Resources};

fn main() {
    let arg =
        |n: usize, default: usize| std::env::args().nth(n).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (nodes, pods) = (arg(1, 5_000), arg(2, 100_000));
    for shapes in [1usize, 8, 64] {
        let (mut snapshot, mut ledger) = cluster(nodes);
        let waiting: Vec<Arc<PodInfo>> = (0..pods).map(|i| Arc::new(pod(i, i % shapes))).collect();
        let mut frontiers = Frontiers::new();
        let start = Instant::now();
        let mut bound = 0usize;
        for pod in &waiting {
            let Decision::Node { node, .. } = place(&snapshot, &mut frontiers, pod) else { continue };
            if ledger.claim(&node, Holder::Pod(pod.name.clone()), &pod.shape.requests).is_ok() {
                snapshot.add_pod(pod.clone(), &node, false);
                snapshot.sync(&ledger);
                bound += 1;
            }
        }
        let took = start.elapsed().as_secs_f64();
        println!(
            "{nodes} nodes, {shapes} shapes: {bound} of {pods} pods in {took:.3} s = {:.0} pods/s",
            bound as f64 / took
        );
    }
}

fn cluster(nodes: usize) -> (Snapshot, Ledger) {
    let (mut snapshot, mut ledger) = (Snapshot::new(), Ledger::new(PortSet::EMPTY));
    for i in 0..nodes {
        let allocatable =
            Resources { milli_cpu: 32_000, memory_bytes: 64 << 30, pods: 110, ..Resources::default() };
        let id = AgentId::from(format!("node-{i}"));
        ledger.set_agent(Agent { id: id.clone(), capacity: allocatable.clone(), active: true });
        snapshot.set_node(NodeInfo {
            labels: [("zone".to_string(), format!("z{}", i % 3))].into(),
            taints: Vec::new(),
            unschedulable: false,
            images: Default::default(),
            allocatable,
            id,
        });
    }
    snapshot.sync(&ledger);
    (snapshot, ledger)
}

fn pod(i: usize, shape: usize) -> PodInfo {
    let pod = serde_json::json!({
        "metadata": {"namespace": "default", "name": format!("pod-{i}"), "uid": format!("u{i}")},
        "spec": {"containers": [{"name": "c", "image": "pause",
            "resources": {"requests": {"cpu": format!("{}m", 100 + shape), "memory": "100Mi"}}}]},
    });
    PodInfo::read(&serde_json::from_value(pod).unwrap())
}
