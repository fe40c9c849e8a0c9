//! The book against a naive model: any interleaving of pods, offers, accepts, declines, kills and agent loss.

use crate::{Agent, Holder, Ledger, Short};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stoa_units::{AgentId, NamespacedName, OfferId, PortRange, PortSet, Resources};

fn amount(milli_cpu: u64, memory_bytes: u64) -> Resources {
    Resources { milli_cpu, memory_bytes, pods: 1, ..Resources::default() }
}

fn ports(begin: u16, end: u16) -> PortSet {
    PortSet::from_ranges([PortRange { begin, end }])
}

fn agent(id: &str) -> Agent {
    let capacity = Resources { pods: 10, ports: ports(31_000, 31_009), ..amount(4_000, 1_000) };
    Agent { id: id.into(), capacity, active: true }
}

fn pod(n: usize) -> Holder {
    Holder::Pod(NamespacedName::new(["web", "batch"][n % 2], format!("p{n}")))
}

fn offer(n: usize) -> Holder {
    Holder::Offer(OfferId::new(format!("o{n}")))
}

#[derive(Clone, Debug)]
enum Step {
    Register { agent: usize, milli_cpu: u64, active: bool },
    Lose { agent: usize },
    Bind { agent: usize, pod: usize, want: Resources },
    Observe { agent: usize, pod: usize, want: Resources },
    Kill { pod: usize },
    Offer { agent: usize, offer: usize, role: bool },
    Decline { offer: usize },
    Accept { offers: Vec<usize>, parts: Vec<(usize, Resources)> },
    Adopt { batch: bool },
}

fn want() -> impl Strategy<Value = Resources> {
    (0u64..2_500, 0u64..600, prop::option::of(0u16..14), 0u64..3).prop_map(|(cpu, mem, port, gpu)| {
        let mut r = amount(cpu, mem);
        r.ports = port.map_or(PortSet::EMPTY, |p| PortSet::one(30_998 + p));
        r.set_extended("gpu", gpu / 2 * 1_000);
        r
    })
}

fn step() -> impl Strategy<Value = Step> {
    let (agents, pods, offers) = (0..3usize, 0..8usize, 0..5usize);
    prop_oneof![
        (agents.clone(), 1_000u64..6_000, prop::bool::weighted(0.8))
            .prop_map(|(agent, milli_cpu, active)| Step::Register { agent, milli_cpu, active }),
        agents.clone().prop_map(|agent| Step::Lose { agent }),
        (agents.clone(), pods.clone(), want()).prop_map(|(agent, pod, want)| Step::Bind { agent, pod, want }),
        (agents.clone(), pods.clone(), want()).prop_map(|(agent, pod, want)| Step::Observe {
            agent,
            pod,
            want
        }),
        pods.clone().prop_map(|pod| Step::Kill { pod }),
        (agents, offers.clone(), any::<bool>()).prop_map(|(agent, offer, role)| Step::Offer {
            agent,
            offer,
            role
        }),
        offers.clone().prop_map(|offer| Step::Decline { offer }),
        (prop::collection::vec(offers, 1..3), prop::collection::vec((pods, want()), 0..4))
            .prop_map(|(offers, parts)| Step::Accept { offers, parts }),
        any::<bool>().prop_map(|batch| Step::Adopt { batch }),
    ]
}

/// What the book should say, kept as plain maps and summed from scratch at every question.
#[derive(Default)]
struct Model {
    agents: BTreeMap<AgentId, Agent>,
    claims: BTreeMap<Holder, (AgentId, Resources)>,
    /// Agents whose claims were forced, or whose capacity shrank: these alone may be over-committed.
    forced: BTreeSet<AgentId>,
}

impl Model {
    fn used(&self, id: &AgentId) -> Resources {
        self.claims.values().filter(|(a, _)| a == id).fold(Resources::default(), |s, (_, r)| s.plus(r))
    }
}

fn id(n: usize) -> AgentId {
    AgentId::new(format!("a{n}"))
}

fn register(ledger: &mut Ledger, model: &mut Model, n: usize, milli_cpu: u64, active: bool) {
    let mut a = agent(&id(n).0);
    a.active = active;
    a.capacity.milli_cpu = milli_cpu;
    a.capacity.set_extended("gpu", 2_000);
    ledger.set_agent(a.clone());
    if !a.capacity.contains(&Resources { ports: PortSet::EMPTY, ..model.used(&a.id) }) {
        model.forced.insert(a.id.clone());
    }
    model.agents.insert(a.id.clone(), a);
}

fn accept(ledger: &mut Ledger, model: &mut Model, offers: &[usize], parts: Vec<(usize, Resources)>) {
    let mut chosen: Vec<usize> = offers.to_vec();
    chosen.dedup();
    let ids: Vec<OfferId> = chosen.iter().map(|n| OfferId::new(format!("o{n}"))).collect();
    let named: Vec<(Holder, Resources)> = parts.into_iter().map(|(n, r)| (pod(n), r)).collect();
    let Ok(rest) = ledger.accept_all(&ids, named.clone()) else { return };
    let taken: Vec<_> =
        chosen.iter().map(|n| model.claims.remove(&offer(*n)).expect("was offered")).collect();
    let have = taken.iter().fold(Resources::default(), |s, (_, r)| s.plus(r));
    let spent = named.iter().fold(Resources::default(), |s, (_, r)| s.plus(r));
    assert!(have.contains(&spent), "an accept spent more than was offered");
    assert_eq!(rest, have.minus(&spent));
    for (holder, r) in named {
        assert!(model.claims.insert(holder, (taken[0].0.clone(), r)).is_none());
    }
}

fn apply(ledger: &mut Ledger, model: &mut Model, step: Step) {
    match step {
        Step::Register { agent, milli_cpu, active } => register(ledger, model, agent, milli_cpu, active),
        Step::Lose { agent } => {
            let withdrawn = ledger.remove_agent(&id(agent));
            model.agents.remove(&id(agent));
            for o in withdrawn {
                assert!(model.claims.remove(&Holder::Offer(o)).is_some());
            }
        }
        Step::Bind { agent, pod: n, want } => {
            if ledger.claim(&id(agent), pod(n), &want).is_ok() {
                assert!(model.claims.insert(pod(n), (id(agent), want)).is_none());
            }
        }
        Step::Observe { agent, pod: n, want } => {
            ledger.force_claim(&id(agent), pod(n), &want);
            model.claims.insert(pod(n), (id(agent), want));
            model.forced.insert(id(agent));
        }
        Step::Kill { pod: n } => {
            assert_eq!(ledger.release(&pod(n)).is_some(), model.claims.remove(&pod(n)).is_some());
        }
        Step::Offer { agent, offer: n, role } => {
            let free = ledger.free(&id(agent));
            let role = if role { "analytics" } else { "*" };
            if !free.is_empty() && ledger.claim_for(&id(agent), offer(n), role, &free).is_ok() {
                assert!(model.agents[&id(agent)].active, "an offer of an inactive agent");
                model.claims.insert(offer(n), (id(agent), free));
            }
        }
        Step::Decline { offer: n } => {
            assert_eq!(ledger.release(&offer(n)).is_some(), model.claims.remove(&offer(n)).is_some());
        }
        Step::Accept { offers, parts } => accept(ledger, model, &offers, parts),
        Step::Adopt { batch } => ledger.set_namespace_role("batch", batch.then_some("analytics")),
    }
}

fn compare(ledger: &Ledger, model: &Model) {
    let mut sum = Resources::default();
    for n in 0..3 {
        let id = id(n);
        let claims: BTreeMap<_, _> = ledger.claims(&id).map(|(h, r)| (h.clone(), r.clone())).collect();
        let expected: BTreeMap<_, _> = model
            .claims
            .iter()
            .filter(|(_, (a, _))| *a == id)
            .map(|(h, (_, r))| (h.clone(), r.clone()))
            .collect();
        assert_eq!(claims, expected, "claims of {id}");
        assert_eq!(ledger.used(&id), model.used(&id), "sum of {id}");
        sum = sum.plus(&Resources { ports: PortSet::EMPTY, ..model.used(&id) });
        let Some(agent) = model.agents.get(&id) else { continue };
        if !model.forced.contains(&id) {
            let used = Resources { ports: PortSet::EMPTY, ..model.used(&id) };
            assert!(agent.capacity.contains(&used), "{id} is over-committed");
            let held: u32 = claims.values().map(|r| r.ports.len()).sum();
            assert_eq!(held, model.used(&id).ports.len(), "a port of {id} is held twice");
        }
        assert!(!ledger.free(&id).ports.intersects(&ports(31_005, 31_005)), "a reserved port is offered");
    }
    let total = ledger.usages().fold(Resources::default(), |s, (_, u)| s.plus(&u.pods).plus(&u.offers));
    assert_eq!(total, sum, "the roles' sums are the agents' sums");
    for port in 30_998..31_012 {
        let is_offered = model.agents.values().any(|a| a.capacity.ports.contains(port));
        assert_eq!(ledger.is_offerable(port), is_offered, "{port}");
    }
    let capacity = model.agents.values().fold(Resources::default(), |s, a| s.plus(&a.capacity));
    assert_eq!(*ledger.total(), Resources { ports: PortSet::EMPTY, ..capacity });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn no_interleaving_over_commits_an_agent_or_leaks_a_claim(steps in prop::collection::vec(step(), 1..80)) {
        let mut ledger = Ledger::new(PortSet::one(31_005));
        let mut model = Model::default();
        let (mut seen, mut at) = (BTreeMap::new(), 0);
        for step in steps {
            apply(&mut ledger, &mut model, step);
            compare(&ledger, &model);
            // A reader of the change log that looks only at what changed knows everything.
            for id in ledger.changes_since(at).expect("the log reaches back") {
                seen.insert(id.clone(), (ledger.agent(&id), ledger.free(&id)));
            }
            at = ledger.generation();
            for n in 0..3 {
                let now = (ledger.agent(&id(n)), ledger.free(&id(n)));
                let known = seen.get(&id(n)).cloned().unwrap_or_default();
                prop_assert_eq!(known, now);
            }
        }
        for holder in model.claims.keys() {
            ledger.release(holder);
        }
        prop_assert_eq!(ledger.usages().count(), 0);
        for n in 0..3 {
            prop_assert!(ledger.used(&id(n)).is_empty());
        }
    }
}

#[test]
fn a_pod_and_an_offer_cannot_both_have_the_last_piece() {
    let mut ledger = Ledger::new(PortSet::EMPTY);
    ledger.set_agent(agent("a1"));
    let a1 = AgentId::from("a1");
    let free = ledger.free(&a1);
    assert_eq!(ledger.claim_for(&a1, offer(1), "web", &free), Ok(()));
    let short = Short::Lacks { names: vec!["cpu".into(), "pods".into()] };
    assert_eq!(ledger.claim(&a1, pod(1), &amount(1, 0)), Err(short));
    assert_eq!(ledger.offers_in_the_way(&a1, &amount(1, 0)), Some(vec![OfferId::from("o1")]));
    assert_eq!(ledger.offers_in_the_way(&a1, &amount(4_001, 0)), None);
    ledger.release(&offer(1));
    assert_eq!(ledger.claim(&a1, pod(1), &amount(1, 0)), Ok(()));
    assert_eq!(ledger.usage("kubernetes/batch").pods.milli_cpu, 1);
}

#[test]
fn an_accept_takes_its_parts_and_frees_the_rest() {
    let mut ledger = Ledger::new(PortSet::EMPTY);
    ledger.set_agent(agent("a1"));
    let a1 = AgentId::from("a1");
    let free = ledger.free(&a1);
    ledger.claim_for(&a1, offer(1), "web", &free).expect("fits");
    let part = Resources { ports: PortSet::one(31_003), ..amount(1_000, 100) };
    let twice = vec![(pod(0), part.clone()), (pod(2), part.clone())];
    assert_eq!(ledger.accept(&"o1".into(), twice), Err(Short::Ports(PortSet::one(31_003))));
    let rest = ledger.accept(&"o1".into(), vec![(pod(0), part.clone())]).expect("fits");
    assert_eq!((rest.milli_cpu, rest.ports.len()), (3_000, 9));
    assert_eq!(ledger.usage("web").pods, Resources { ports: PortSet::EMPTY, ..part });
    assert_eq!(ledger.accept(&"o1".into(), vec![]), Err(Short::UnknownOffer("o1".into())));
}

#[test]
fn a_claim_outlives_its_agent_and_is_found_when_it_returns() {
    let mut ledger = Ledger::new(PortSet::EMPTY);
    let a1 = AgentId::from("a1");
    ledger.force_claim(&a1, pod(0), &amount(3_000, 10));
    ledger.set_agent(agent("a1"));
    assert_eq!(ledger.free(&a1).milli_cpu, 1_000);
    assert!(ledger.remove_agent(&a1).is_empty());
    assert_eq!(ledger.claim(&a1, pod(1), &amount(1, 1)), Err(Short::UnknownAgent(a1.clone())));
    ledger.set_agent(agent("a1"));
    assert_eq!(ledger.free(&a1).milli_cpu, 1_000);
}

#[test]
fn pages_of_agents_long_gone_are_forgotten_and_readers_told() {
    let mut ledger = Ledger::new(PortSet::EMPTY);
    for n in 0..10_000 {
        ledger.set_agent(agent(&format!("gone{n}")));
        ledger.remove_agent(&id_of(n));
    }
    assert_eq!(ledger.changes_since(0), None);
    let now = ledger.generation();
    assert_eq!(ledger.changes_since(now), Some(vec![]));
}

fn id_of(n: usize) -> AgentId {
    AgentId::new(format!("gone{n}"))
}

#[test]
fn a_ports_owner_is_a_service_a_task_or_nobody() {
    let mut ledger = Ledger::new(PortSet::EMPTY);
    let a = AgentId::from("a");
    let capacity = Resources { milli_cpu: 4000, ports: ports(31_000, 31_003), ..Resources::default() };
    ledger.set_agent(Agent { id: a.clone(), capacity, active: true });
    let of = |set: PortSet| Resources { milli_cpu: 1, ports: set, ..Resources::default() };
    let task = Holder::Pod(NamespacedName::new("mesos", "t"));
    ledger.claim(&a, task.clone(), &of(PortSet::one(31_000))).unwrap();
    let offer = OfferId::from("o");
    ledger.claim(&a, Holder::Offer(offer.clone()), &of(ports(31_001, 31_002))).unwrap();
    assert!(ledger.reserve_port(31_000).is_err(), "a task has it");
    assert_eq!(
        ledger.reserve_port(31_001).unwrap(),
        std::slice::from_ref(&offer),
        "the offer is to be taken back"
    );
    ledger.release(&Holder::Offer(offer.clone()));
    assert_eq!(ledger.free(&a).ports, ports(31_002, 31_003));
    assert!(ledger.claim(&a, Holder::Offer(offer), &of(PortSet::one(31_001))).is_err());
    ledger.unreserve_port(31_001);
    assert_eq!(ledger.free(&a).ports, ports(31_001, 31_003));
    assert!(ledger.is_offerable(31_003) && !ledger.is_offerable(30_000));
    // It is the agents' own business which ports they give; another agent may give the same.
    let narrow = Resources { milli_cpu: 4000, ports: ports(31_002, 31_002), ..Resources::default() };
    ledger.set_agent(Agent { id: "b".into(), capacity: narrow.clone(), active: true });
    ledger.set_agent(Agent { id: a.clone(), capacity: narrow, active: true });
    assert!(ledger.is_offerable(31_002) && !ledger.is_offerable(31_003));
    ledger.remove_agent(&a);
    assert!(ledger.is_offerable(31_002));
    ledger.remove_agent(&"b".into());
    assert!(!ledger.is_offerable(31_002));
}
