use super::*;
use proptest::prelude::*;
use stoa_ledger::Agent;
use stoa_units::{NamespacedName, PortRange, PortSet};

struct World {
    ledger: Ledger,
    allocator: Allocator,
    now: Time,
    offers: Vec<(OfferId, Grant)>,
    counter: u64,
}

fn res(milli_cpu: u64, mem_mib: u64) -> Resources {
    Resources { milli_cpu, memory_bytes: mem_mib << 20, pods: 100, ..Default::default() }
}

impl World {
    fn new() -> World {
        World {
            ledger: Ledger::default(),
            allocator: Allocator::new(Options::default()),
            now: Time::EPOCH,
            offers: vec![],
            counter: 0,
        }
    }

    fn agent(&mut self, id: &str, capacity: Resources) {
        self.ledger.set_agent(Agent { id: id.into(), capacity, active: true });
    }

    fn framework(&mut self, id: &str, roles: &[&str]) {
        let wants =
            Subscription { roles: roles.iter().map(|r| r.to_string()).collect(), ..Default::default() };
        self.allocator.set_framework(&id.into(), wants);
        self.allocator.set_connected(&id.into(), true);
    }

    /// Plans, claims what was planned, and returns `framework agent` lines.
    fn cycle(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        for g in self.allocator.plan_offers(&self.ledger, self.now, self.counter) {
            self.counter += 1;
            let id = OfferId::from(format!("offer-{}", self.counter));
            self.ledger.claim_split(&g.agent, Holder::Offer(id.clone()), g.role.clone(), &g.split()).unwrap();
            self.allocator.charge(Holder::Offer(id.clone()), &g.framework, &g.role, &g.resources);
            lines.push(format!("{} {}", g.framework, g.agent));
            self.offers.push((id, g));
        }
        lines.sort();
        lines
    }

    fn drop_offer(&mut self, i: usize) -> Grant {
        let (id, g) = self.offers.remove(i);
        self.ledger.release(&Holder::Offer(id.clone()));
        self.allocator.discharge(&Holder::Offer(id));
        g
    }

    fn decline(&mut self, i: usize, seconds: Option<f64>) {
        let g = self.drop_offer(i);
        self.allocator.decline(&g.framework, &g.role, &g.agent, &g.split(), seconds, self.now);
    }

    /// Launches a pod on an offer; the rest is declined.
    fn accept(&mut self, i: usize, want: &Resources) {
        let (id, g) = self.offers.remove(i);
        self.counter += 1;
        let pod = Holder::Pod(NamespacedName::new(&*g.role, format!("p{}", self.counter)));
        let want = Resources { pods: 1, ..want.clone() };
        self.ledger
            .settle(std::slice::from_ref(&id), &[], &[(pod.clone(), Split::plain(want.clone()))])
            .unwrap();
        let rest = g.resources.minus(&want);
        self.allocator.discharge(&Holder::Offer(id));
        self.allocator.charge(pod, &g.framework, &g.role, &want);
        self.allocator.decline(&g.framework, &g.role, &g.agent, &Split::plain(rest), None, self.now);
    }

    fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus(Duration::from_secs(seconds));
    }
}

#[test]
fn the_whole_remainder_of_an_agent_is_one_offer() {
    let mut w = World::new();
    let mut capacity = res(4000, 8192);
    capacity.ports = PortSet::from_ranges([PortRange { begin: 31000, end: 32000 }]);
    w.agent("a1", capacity.clone());
    w.framework("f1", &["*"]);
    assert_eq!(w.cycle(), ["f1 a1"]);
    assert_eq!(w.offers[0].1.resources, Resources { pods: 0, ..capacity }, "pods are not what Mesos counts");
    assert_eq!(w.cycle(), [""; 0], "an offered agent is not offered again");
}

#[test]
fn a_declined_offer_returns_after_its_filter_expires() {
    let mut w = World::new();
    w.agent("a1", res(4000, 8192));
    w.framework("f1", &["*"]);
    w.cycle();
    w.decline(0, None);
    assert!(w.cycle().is_empty());
    w.wait(4);
    assert!(w.cycle().is_empty());
    w.wait(1);
    assert_eq!(w.cycle(), ["f1 a1"]);
    // Zero means no filter at all.
    w.decline(0, Some(0.0));
    assert_eq!(w.cycle(), ["f1 a1"]);
    // Less than the interval holds for the interval.
    w.decline(0, Some(0.001));
    assert!(w.cycle().is_empty());
    w.wait(1);
    assert_eq!(w.cycle(), ["f1 a1"]);
}

#[test]
fn a_filter_ends_early_when_more_becomes_free() {
    let mut w = World::new();
    w.agent("a1", res(4000, 8192));
    let pod = Holder::Pod(NamespacedName::new("ns", "p"));
    w.ledger.claim(&"a1".into(), pod.clone(), &Resources { pods: 1, ..res(1000, 10) }).unwrap();
    w.framework("f1", &["*"]);
    w.cycle();
    w.decline(0, Some(1e9));
    assert!(w.cycle().is_empty());
    w.ledger.release(&pod);
    assert_eq!(w.cycle(), ["f1 a1"]);
}

#[test]
fn what_one_refuses_another_gets() {
    let mut w = World::new();
    w.agent("a1", res(4000, 8192));
    w.framework("f1", &["*"]);
    w.framework("f2", &["*"]);
    assert_eq!(w.cycle(), ["f1 a1"]);
    w.decline(0, None);
    assert_eq!(w.cycle(), ["f2 a1"]);
}

#[test]
fn suppress_and_revive_work_per_role() {
    let mut w = World::new();
    w.agent("a1", res(4000, 8192));
    w.framework("f1", &["x", "y"]);
    w.allocator.suppress(&"f1".into(), &["x".into()]);
    w.cycle();
    assert_eq!(&*w.offers[0].1.role, "y");
    w.allocator.suppress(&"f1".into(), &[]);
    assert_eq!(w.offers.len(), 1, "suppressing takes nothing back");
    w.decline(0, Some(1e9));
    w.wait(10);
    assert!(w.cycle().is_empty());
    // A revive clears the filter too.
    w.allocator.revive(&"f1".into(), &["y".into()]);
    assert_eq!(w.cycle(), ["f1 a1"]);
    assert_eq!(&*w.offers[0].1.role, "y");
}

#[test]
fn too_little_is_not_offered() {
    let mut w = World::new();
    w.agent("a1", res(9, 31));
    w.framework("f1", &["*"]);
    assert!(w.cycle().is_empty());
    w.agent("a1", res(10, 0));
    assert_eq!(w.cycle(), ["f1 a1"]);
    w.decline(0, Some(0.0));
    let least = BTreeMap::from([("*".to_string(), vec![res(2000, 0)])]);
    let wants = Subscription { roles: ["*".into()].into(), min_allocatable: least, ..Default::default() };
    w.allocator.set_framework(&"f1".into(), wants);
    assert!(w.cycle().is_empty());
}

#[test]
fn agents_with_gpus_go_only_to_frameworks_that_can_handle_them() {
    let mut w = World::new();
    let mut capacity = res(4000, 8192);
    capacity.set_extended("gpus", 1000);
    w.agent("a1", capacity);
    w.framework("f1", &["*"]);
    assert!(w.cycle().is_empty());
    let wants = Subscription { roles: ["*".into()].into(), takes_gpus: true, ..Default::default() };
    w.allocator.set_framework(&"f2".into(), wants);
    w.allocator.set_connected(&"f2".into(), true);
    assert_eq!(w.cycle(), ["f2 a1"]);
}

#[test]
fn an_inactive_or_held_agent_is_not_offered() {
    let mut w = World::new();
    w.agent("a1", res(4000, 8192));
    w.framework("f1", &["*"]);
    w.allocator.hold(&"a1".into(), Time::EPOCH.plus(Duration::from_secs(3)));
    assert!(w.cycle().is_empty());
    assert_eq!(w.allocator.next_ending(), Some(Time::EPOCH.plus(Duration::from_secs(3))));
    w.wait(3);
    assert_eq!(w.cycle(), ["f1 a1"]);
    w.decline(0, Some(0.0));
    w.ledger.set_agent(Agent { id: "a1".into(), capacity: res(4000, 8192), active: false });
    assert!(w.cycle().is_empty());
    w.ledger.set_agent(Agent { id: "a1".into(), capacity: res(4000, 8192), active: true });
    assert_eq!(w.cycle(), ["f1 a1"]);
}

#[test]
fn a_parent_role_competes_with_its_children_as_one_client() {
    let mut w = World::new();
    for i in 0..12 {
        w.agent(&format!("a{i:02}"), res(1000, 1024));
    }
    w.framework("p", &["eng"]);
    w.framework("c1", &["eng/dev"]);
    w.framework("c2", &["eng/ops"]);
    w.framework("other", &["sales"]);
    w.cycle();
    let count = |f: &str| w.offers.iter().filter(|(_, g)| g.framework.as_str() == f).count();
    assert_eq!((count("other"), count("p"), count("c1"), count("c2")), (6, 2, 2, 2));
}

#[test]
fn namespaces_count_in_the_same_tree() {
    let mut w = World::new();
    for i in 0..4 {
        w.agent(&format!("a{i}"), res(1000, 1024));
    }
    // The namespace already has half of everything, so its role yields to the other.
    for i in 0..2 {
        let pod = Holder::Pod(NamespacedName::new("shop", format!("p{i}")));
        w.ledger
            .claim(&format!("a{i}").as_str().into(), pod, &Resources { pods: 1, ..res(1000, 1024) })
            .unwrap();
    }
    w.framework("in", &["kubernetes/shop"]);
    w.framework("out", &["batch"]);
    assert_eq!(w.cycle(), ["out a2", "out a3"]);
    assert!((w.allocator.share("kubernetes") - 0.5).abs() < 1e-9);
}

#[test]
fn only_the_offers_that_are_needed_are_rescinded_and_the_greediest_first() {
    let mut w = World::new();
    w.agent("a1", res(4000, 4096));
    w.agent("a2", res(4000, 4096));
    let small = |m| Resources { pods: 1, ..res(m, 64) };
    for (offer, role, agent, amount) in
        [("o1", "poor", "a1", 1500), ("o2", "rich", "a1", 1500), ("o3", "rich", "a2", 4000)]
    {
        w.ledger.claim_for(&agent.into(), Holder::Offer(offer.into()), role, &small(amount)).unwrap();
    }
    w.framework("f", &["*"]);
    w.cycle();
    let need = small(2000);
    // The cycle offered the last 1000m of a1 to the default role, whose share is the least.
    assert_eq!(w.allocator.plan_rescind(&w.ledger, &"a1".into(), &small(500)).map(|v| v.len()), Some(1));
    let chosen = w.allocator.plan_rescind(&w.ledger, &"a1".into(), &need).unwrap();
    assert!(chosen.contains(&"o2".into()), "{chosen:?}");
    assert_eq!(chosen.len(), 2);
    assert_eq!(w.allocator.plan_rescind(&w.ledger, &"a1".into(), &small(5000)), None);
    assert_eq!(w.allocator.plan_rescind(&w.ledger, &"nowhere".into(), &need), None);
}

#[test]
fn nothing_changed_means_nothing_looked_at() {
    let mut w = World::new();
    for i in 0..100 {
        w.agent(&format!("a{i}"), res(1000, 1024));
    }
    w.framework("f1", &["*"]);
    assert_eq!(w.cycle().len(), 100);
    w.cycle();
    assert!(w.allocator.candidates.is_empty() && !w.allocator.is_all);
    w.decline(0, Some(0.0));
    w.allocator.look(&w.ledger);
    assert_eq!(w.allocator.candidates.len(), 1);
}

#[test]
fn shares_converge_to_the_weights() {
    let mut w = World::new();
    for i in 0..40 {
        w.agent(&format!("a{i:02}"), res(2000, 2048));
    }
    for (role, weight) in [("one", 1.0), ("two", 2.0), ("uno", 1.0)] {
        w.allocator.set_weight(role, weight);
        w.framework(role, &[role]);
    }
    // Everyone takes 500m out of each offer and gives the rest back at once, until all is used.
    for _ in 0..400 {
        if w.cycle().is_empty() {
            break;
        }
        while !w.offers.is_empty() {
            let (id, g) = w.offers.remove(0);
            w.counter += 1;
            let pod = Holder::Pod(NamespacedName::new(&*g.role, format!("p{}", w.counter)));
            let want = Resources { milli_cpu: 500, memory_bytes: 512 << 20, pods: 1, ..Default::default() };
            w.ledger
                .settle(std::slice::from_ref(&id), &[], &[(pod.clone(), Split::plain(want.clone()))])
                .unwrap();
            w.allocator.discharge(&Holder::Offer(id));
            w.allocator.charge(pod, &g.framework, &g.role, &want);
        }
    }
    let cpu = |role: &str| w.ledger.usage(role).pods.milli_cpu;
    assert_eq!(cpu("one") + cpu("two") + cpu("uno"), 80_000);
    assert!(cpu("two").abs_diff(40_000) <= 2_000, "{} {} {}", cpu("one"), cpu("two"), cpu("uno"));
    assert!(cpu("one").abs_diff(20_000) <= 2_000);
}

#[derive(Clone, Debug)]
enum Step {
    Cycle,
    Decline(usize, u8),
    Accept(usize, u64),
    Wait(u8),
    Suppress(usize),
    Revive(usize),
    Leave(usize),
    Join(usize),
    LoseAgent(usize),
    AddAgent(usize),
    Pod(usize, u64),
    KillPod(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Cycle),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(i, s)| Step::Decline(i, s)),
        3 => (any::<usize>(), 1u64..1500).prop_map(|(i, m)| Step::Accept(i, m)),
        2 => any::<u8>().prop_map(Step::Wait),
        1 => (0usize..3).prop_map(Step::Suppress),
        1 => (0usize..3).prop_map(Step::Revive),
        1 => (0usize..3).prop_map(Step::Leave),
        2 => (0usize..3).prop_map(Step::Join),
        1 => (0usize..4).prop_map(Step::LoseAgent),
        2 => (0usize..4).prop_map(Step::AddAgent),
        2 => (0usize..4, 1u64..1500).prop_map(|(a, m)| Step::Pod(a, m)),
        1 => any::<usize>().prop_map(Step::KillPod),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn no_interleaving_over_commits_an_agent_or_leaks_an_account(steps in prop::collection::vec(step(), 1..80)) {
        let mut w = World::new();
        let mut pods: Vec<Holder> = vec![];
        for i in 0..4 { w.agent(&format!("a{i}"), res(2000, 2048)); }
        for step in steps {
            match step {
                Step::Cycle => drop(w.cycle()),
                Step::Decline(i, s) if !w.offers.is_empty() => {
                    let i = i % w.offers.len();
                    w.decline(i, Some(f64::from(s)));
                }
                Step::Accept(i, m) if !w.offers.is_empty() => {
                    let i = i % w.offers.len();
                    let want = Resources { milli_cpu: m.min(w.offers[i].1.resources.milli_cpu), ..Default::default() };
                    w.accept(i, &want);
                }
                Step::Wait(s) => w.wait(u64::from(s)),
                Step::Suppress(f) => w.allocator.suppress(&format!("f{f}").into(), &[]),
                Step::Revive(f) => w.allocator.revive(&format!("f{f}").into(), &[]),
                Step::Leave(f) => {
                    let id: FrameworkId = format!("f{f}").into();
                    w.allocator.remove_framework(&id);
                    while let Some(i) = w.offers.iter().position(|(_, g)| g.framework == id) { w.drop_offer(i); }
                }
                Step::Join(f) => w.framework(&format!("f{f}"), &["r", if f == 0 { "r/s" } else { "q" }]),
                Step::LoseAgent(a) => {
                    let gone = w.ledger.remove_agent(&format!("a{a}").into());
                    for id in &gone { w.allocator.discharge(&Holder::Offer(id.clone())); }
                    w.offers.retain(|(id, _)| !gone.contains(id));
                }
                Step::AddAgent(a) => w.agent(&format!("a{a}"), res(2000, 2048)),
                Step::Pod(a, m) => {
                    w.counter += 1;
                    let pod = Holder::Pod(NamespacedName::new("ns", format!("p{}", w.counter)));
                    let want = Resources { milli_cpu: m, pods: 1, ..Default::default() };
                    if w.ledger.claim(&format!("a{a}").into(), pod.clone(), &want).is_ok() { pods.push(pod); }
                }
                Step::KillPod(i) if !pods.is_empty() => { w.ledger.release(&pods.swap_remove(i % pods.len())); }
                _ => {}
            }
            for a in 0..4 {
                let id: AgentId = format!("a{a}").into();
                if let Some(agent) = w.ledger.agent(&id) {
                    prop_assert!(agent.capacity.contains(&w.ledger.used(&id)));
                }
            }
        }
        // Everybody leaves: no account keeps anything.
        for f in 0..3 { w.allocator.remove_framework(&format!("f{f}").into()); }
        prop_assert!(w.allocator.charges.is_empty() && w.allocator.leaves.is_empty());
        prop_assert!(!w.allocator.tree.is_anybody_hungry());
    }
}

/// Run with `--ignored`: the budget is ten milliseconds in a release build.
#[test]
#[ignore = "a measurement"]
fn a_cycle_of_ten_thousand_agents_and_a_thousand_frameworks_is_quick() {
    let mut w = World::new();
    let mut capacity = res(24_000, 4096);
    capacity.ports = PortSet::from_ranges([PortRange { begin: 31000, end: 32000 }]);
    for i in 0..10_000 {
        w.agent(&format!("agent-{i}"), capacity.clone());
    }
    for i in 0..1_000 {
        w.framework(&format!("framework-{i}"), &["*"]);
    }
    let clock = stoa_units::SystemClock;
    let start = stoa_units::Clock::now(&clock);
    let grants = w.allocator.plan_offers(&w.ledger, w.now, 1);
    let took = stoa_units::Clock::now(&clock).since(start);
    assert_eq!(grants.len(), 10_000);
    println!("{took:?}");
}

// ---- quota, reservations, constraints

use crate::quota::Amounts;
use stoa_ledger::{Pool, PoolKind};

fn amounts(list: &[(&str, u64)]) -> Amounts {
    list.iter().map(|(n, v)| ((*n).into(), *v)).collect()
}

fn pool(role: &str, milli_cpu: u64) -> (Arc<str>, Option<Pool>) {
    let r = stoa_mesos::resource::Reservation {
        kind: Some("DYNAMIC".into()),
        role: Some(role.into()),
        principal: None,
        labels: None,
    };
    let mark = Mark { reservations: vec![r], ..Mark::default() };
    let total = Resources { milli_cpu, ..Default::default() };
    (mark.name(), Some(Pool { role: role.into(), kind: PoolKind::Divisible, total }))
}

#[test]
fn a_limit_chops_what_a_role_is_offered() {
    let mut w = World::new();
    w.agent("a1", res(4000, 4096));
    w.framework("f", &["eng/dev"]);
    let quota = Quota { limits: amounts(&[("cpus", 1500)]), ..Quota::default() };
    w.allocator.set_quota("eng", Some(quota));
    assert_eq!(w.cycle(), ["f a1"]);
    assert_eq!((w.offers[0].1.resources.milli_cpu, w.offers[0].1.resources.memory_bytes), (1500, 4 << 30));
    // What is left has no processors for the role, yet another role is offered it.
    w.accept(0, &res(1500, 64));
    w.framework("g", &["ops"]);
    w.wait(10);
    w.allocator.revive(&"f".into(), &[]);
    let lines = w.cycle();
    assert_eq!(lines.len(), 1);
    let g = &w.offers[0].1;
    let want = if g.framework.as_str() == "f" { 0 } else { 2500 };
    assert_eq!(g.resources.milli_cpu, want);
}

#[test]
fn a_guarantee_comes_first_and_is_kept_from_others() {
    let mut w = World::new();
    for i in 0..4 {
        w.agent(&format!("a{i}"), res(1000, 1024));
    }
    let quota = Quota { guarantees: amounts(&[("cpus", 2000)]), ..Quota::default() };
    w.allocator.set_quota("prod", Some(quota));
    // Nobody is there in the guaranteed role: half the cluster stays free for it.
    w.framework("batch", &["batch"]);
    w.cycle();
    let batch: u64 = w.offers.iter().map(|(_, g)| g.resources.milli_cpu).sum();
    assert_eq!(batch, 2000);
    w.framework("prod", &["prod"]);
    w.cycle();
    let prod: u64 = w
        .offers
        .iter()
        .filter(|(_, g)| g.framework.as_str() == "prod")
        .map(|(_, g)| g.resources.milli_cpu)
        .sum();
    assert_eq!(prod, 2000);
}

#[test]
fn reservations_are_offered_to_their_role_and_below_and_count_once() {
    let mut w = World::new();
    w.agent("a1", res(4000, 4096));
    let (name, reserved) = pool("eng", 1000);
    w.ledger.set_pool(&"a1".into(), &name, reserved);
    w.framework("ops", &["ops"]);
    assert_eq!(w.cycle(), ["ops a1"]);
    assert_eq!(w.offers[0].1.resources.milli_cpu, 3000);
    assert!(w.offers[0].1.draws.is_empty());
    w.framework("dev", &["eng/dev"]);
    assert_eq!(w.cycle(), ["dev a1"], "what is reserved is left");
    assert_eq!((w.offers[1].1.resources.milli_cpu, w.offers[1].1.draws.len()), (1000, 1));
    w.drop_offer(1);
    let g = w.drop_offer(0);
    w.allocator.decline(&g.framework, &g.role, &g.agent, &g.split(), Some(100.0), w.now);
    assert_eq!(w.cycle(), ["dev a1"]);
    assert_eq!(w.offers[0].1.resources.milli_cpu, 4000);
    w.drop_offer(0);
    assert_eq!(w.ledger.pool_free(&"a1".into(), &name).milli_cpu, 1000);
}

#[test]
fn agents_of_elsewhere_and_agents_not_wanted_are_not_offered() {
    let mut w = World::new();
    w.agent("far", res(1000, 1024));
    w.agent("near", res(1000, 1024));
    let facts =
        |hostname: &str, is_remote| Some(Facts { hostname: hostname.into(), is_remote, ..Facts::default() });
    w.allocator.set_facts(&"far".into(), facts("far", true));
    w.allocator.set_facts(&"near".into(), facts("near", false));
    w.framework("f", &["r"]);
    assert_eq!(w.cycle(), ["f near"]);
    let constraints = serde_json::json!({"role_constraints": {"r": {"groups": [{"attribute_constraints": [
        {"selector": {"pseudoattribute_type": "HOSTNAME"}, "predicate": {"text_equals": {"value": "far"}}}]}]}}});
    let wants = Subscription {
        roles: ["r".to_string()].into(),
        takes_remote: true,
        constraints: Constraints::parse(&constraints).unwrap(),
        ..Subscription::default()
    };
    w.drop_offer(0);
    w.allocator.set_framework(&"f".into(), wants);
    w.allocator.revive(&"f".into(), &[]);
    assert_eq!(w.cycle(), ["f far"]);
}

/// A namespace whose pods always wait and two frameworks that always want more, under churn: what each holds comes to what
/// their weights say, whoever was there first.
#[test]
fn a_namespace_and_two_frameworks_share_as_their_weights_say() {
    for seed in 0..4u64 {
        let mut w = World::new();
        for i in 0..10 {
            w.agent(&format!("a{i}"), res(4000, 4096));
        }
        for (role, weight) in [("kubernetes", 1.0), ("two", 2.0), ("one", 1.0)] {
            w.allocator.set_weight(role, weight);
        }
        w.framework("two", &["two"]);
        w.framework("one", &["one"]);
        let want = Resources { milli_cpu: 500, memory_bytes: 512 << 20, pods: 1, ..Default::default() };
        let mut running: Vec<Holder> = vec![];
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move |n: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % n.max(1) as u64) as usize
        };
        let mut sums = BTreeMap::from([("kubernetes/default", 0), ("two", 0), ("one", 0)]);
        for round in 0..1500 {
            for _ in 0..2.min(running.len()) {
                let gone = running.swap_remove(next(running.len()));
                w.ledger.release(&gone);
                w.allocator.discharge(&gone);
            }
            w.wait(1);
            w.cycle();
            // Pods take what is free, and what is offered and theirs to take.
            for _ in 0..8 {
                w.counter += 1;
                let pod = Holder::Pod(NamespacedName::new("default", format!("p{}", w.counter)));
                let agent: AgentId = format!("a{}", next(10)).into();
                if w.ledger.claim(&agent, pod.clone(), &want).is_err() {
                    let role = "kubernetes/default";
                    let plan = w.allocator.plan_rescind_for(&w.ledger, &agent, &want, role, &|_| false);
                    for offer in plan.unwrap_or_default() {
                        let at = w.offers.iter().position(|(id, _)| *id == offer).unwrap();
                        w.drop_offer(at);
                    }
                    if w.ledger.claim(&agent, pod.clone(), &want).is_err() {
                        continue;
                    }
                }
                w.allocator.look(&w.ledger);
                running.push(pod);
            }
            while !w.offers.is_empty() {
                let (id, g) = w.offers.remove(0);
                if !g.resources.contains(&Resources { pods: 0, ..want.clone() }) {
                    w.ledger.release(&Holder::Offer(id.clone()));
                    w.allocator.discharge(&Holder::Offer(id));
                    w.allocator.decline(&g.framework, &g.role, &g.agent, &g.split(), None, w.now);
                    continue;
                }
                w.counter += 1;
                let pod = Holder::Pod(NamespacedName::new(&*g.role, format!("t{}", w.counter)));
                w.ledger.set_namespace_role(&g.role, Some(&g.role));
                w.ledger
                    .settle(std::slice::from_ref(&id), &[], &[(pod.clone(), Split::plain(want.clone()))])
                    .unwrap();
                w.allocator.discharge(&Holder::Offer(id));
                w.allocator.charge(pod.clone(), &g.framework, &g.role, &want);
                running.push(pod);
            }
            for i in 0..10 {
                let agent: AgentId = format!("a{i}").into();
                assert!(w.ledger.used(&agent).milli_cpu <= 4000, "over-committed in round {round}");
            }
            if round >= 500 {
                for (role, sum) in &mut sums {
                    *sum += w.ledger.usage(role).pods.milli_cpu;
                }
            }
        }
        let total: u64 = sums.values().sum();
        for (role, fair) in [("kubernetes/default", 0.25), ("two", 0.5), ("one", 0.25)] {
            let has = sums[role] as f64 / total as f64;
            assert!((has - fair).abs() < 0.08, "seed {seed}: {role} has {has:.3} of {sums:?}");
        }
    }
}

// ---- spent roles stand aside

const ROLES: [&str; 5] = ["a", "a/x", "b", "b/y", "c"];

/// The plan as it is defined: every agent asks every framework in turn, and nobody stands aside.
fn plan_naively(a: &mut Allocator, ledger: &Ledger, now: Time, seed: u64) -> Vec<Grant> {
    a.end(now);
    a.look(ledger);
    let mut agents: Vec<(u64, AgentId)> =
        ledger.agents().map(|id| (scatter(id.as_str(), seed), id.clone())).collect();
    agents.sort_unstable();
    let quotas = a.quotas.clone();
    let mut quota = quota::Plan::new(&quotas, ledger);
    let (mut grants, mut taken) = (Vec::new(), HashSet::new());
    for stage in [Stage::Guarantees, Stage::Everybody] {
        for (_, agent) in &agents {
            if taken.contains(agent) {
                continue;
            }
            let plan = a.plan_agent(ledger, agent, now, &quota, &Parking::default(), stage);
            let Some((leaf, split)) = plan else { continue };
            let (framework, role) = (a.leaves[&leaf].framework.clone(), a.leaves[&leaf].role.clone());
            let amount = scalars(&split.amount);
            let drawn = split.draws.iter().fold(Resources::default(), |sum, (_, r)| sum.plus(r));
            quota.grant(&role, &amount.minus(&drawn));
            taken.insert(agent.clone());
            a.tree.charge_leaf(leaf, &amount);
            a.tree.grant(leaf, &amount);
            let (resources, draws) = (split.amount, split.draws);
            grants.push(Grant { framework, role, agent: agent.clone(), resources, draws });
        }
    }
    grants
}

#[derive(Clone, Debug)]
struct Limited {
    role: usize,
    cpus: Option<u64>,
    mem_mib: Option<u64>,
    guarantee: u64,
}

fn limited() -> impl Strategy<Value = Limited> {
    let amount = |max: u64| prop::option::of(prop_oneof![Just(0), 0..max]);
    (prop::sample::select(vec![0usize, 2, 4]), amount(3000), amount(3000), 0u64..1500)
        .prop_map(|(role, cpus, mem_mib, guarantee)| Limited { role, cpus, mem_mib, guarantee })
}

/// A framework's role, and the least it says it takes there, if it says anything.
fn member() -> impl Strategy<Value = (usize, Option<Vec<Resources>>)> {
    let least = prop::collection::vec((0u64..300, 0u64..200).prop_map(|(c, m)| res_plain(c, m)), 0..3);
    (0..ROLES.len(), prop::option::weighted(0.3, least))
}

fn res_plain(milli_cpu: u64, mem_mib: u64) -> Resources {
    Resources { pods: 0, ..res(milli_cpu, mem_mib) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn a_plan_is_the_same_whether_spent_roles_stand_aside_or_not(
        sizes in prop::collection::vec((0u64..1200, 0u64..1200), 1..8),
        members in prop::collection::vec(member(), 1..7),
        quotas in prop::collection::vec(limited(), 0..4),
        pools in prop::collection::vec((any::<usize>(), 0..ROLES.len(), 1u64..300), 0..4),
        rounds in prop::collection::vec((any::<u64>(), any::<usize>(), any::<bool>()), 1..8),
    ) {
        let mut w = World::new();
        for (i, (milli_cpu, mem)) in sizes.iter().enumerate() {
            w.agent(&format!("a{i}"), res(milli_cpu + 300, *mem));
        }
        for (at, role, milli_cpu) in &pools {
            let (name, pool) = pool(ROLES[*role], *milli_cpu);
            w.ledger.set_pool(&format!("a{}", at % sizes.len()).into(), &name, pool);
        }
        for (i, (role, least)) in members.iter().enumerate() {
            let id: FrameworkId = format!("f{i}").into();
            let role = ROLES[*role].to_string();
            let min_allocatable = least.iter().map(|l| (role.clone(), l.clone())).collect();
            w.allocator.set_framework(&id, Subscription { roles: [role].into(), min_allocatable, ..Default::default() });
            w.allocator.set_connected(&id, true);
        }
        for q in &quotas {
            let limits = [("cpus", q.cpus), ("mem", q.mem_mib.map(|m| m << 20))];
            let limits = limits.into_iter().filter_map(|(n, v)| Some((n.into(), v?))).collect();
            let guarantees = amounts(&[("cpus", q.guarantee.min(q.cpus.unwrap_or(u64::MAX)))]);
            w.allocator.set_quota(ROLES[q.role], Some(Quota { guarantees, limits }));
        }
        for (seed, which, accept) in rounds {
            w.allocator.is_all = true;
            w.counter += 1;
            let want = plan_naively(&mut w.allocator.clone(), &w.ledger, w.now, seed);
            let got = w.allocator.clone().plan_offers(&w.ledger, w.now, seed);
            prop_assert_eq!(&got, &want);
            // The plan that is carried out leaves everybody in the order.
            w.cycle();
            prop_assert_eq!(w.allocator.tree.parked(), 0);
            if w.offers.is_empty() { continue; }
            let i = which % w.offers.len();
            let plain = w.offers[i].1.draws.is_empty();
            if accept && plain {
                let want = Resources { pods: 0, ports: Default::default(), ..w.offers[i].1.resources.clone() };
                let half = Resources { milli_cpu: want.milli_cpu / 2, ..want };
                w.accept(i, &half);
            } else {
                w.decline(i, Some(5.0));
            }
            w.wait(2);
        }
    }
}

#[test]
fn what_an_agent_lends_goes_to_those_who_give_it_back_and_counts_for_no_quota() {
    let mut w = World::new();
    w.agent("a1", res(1000, 1024));
    let total = Resources { milli_cpu: 2000, ..Default::default() };
    let mark = Mark::lent();
    w.ledger.set_pool(
        &"a1".into(),
        &mark.name(),
        Some(Pool { role: "*".into(), kind: PoolKind::Spare, total: total.clone() }),
    );
    w.framework("keeps", &["eng"]);
    assert_eq!(w.cycle(), ["keeps a1"]);
    assert!(w.offers[0].1.draws.is_empty(), "it could not give it back");
    w.accept(0, &res(1000, 1024));
    w.allocator.suppress(&"keeps".into(), &[]);
    // The limit is used up, what is lent is beside it.
    let quota = Quota { limits: amounts(&[("cpus", 1000)]), ..Quota::default() };
    w.allocator.set_quota("eng", Some(quota));
    let wants = Subscription { roles: ["eng".into()].into(), takes_revocable: true, ..Default::default() };
    w.allocator.set_framework(&"lends".into(), wants);
    w.allocator.set_connected(&"lends".into(), true);
    w.wait(10);
    assert_eq!(w.cycle(), ["lends a1"]);
    let offer = &w.offers[0].1;
    assert_eq!((offer.resources.milli_cpu, &offer.draws[..]), (0, &[(mark.name(), total)][..]));
    assert_eq!(w.cycle(), [""; 0], "it is lent once");
}
