//! The allocator under the fixtures of Mesos' own benchmarks, with the figures that Mesos published beside ours:
//! `cargo run --release -p stoa-offers --example offers_bench [agents-max]`.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stoa_ledger::{Agent, Holder, Ledger, Split};
use stoa_offers::{Allocator, Grant, Options, Quota, Subscription};
use stoa_units::{AgentId, FrameworkId, NamespacedName, OfferId, PortRange, PortSet, Resources, Time};

struct World {
    ledger: Ledger,
    allocator: Allocator,
    now: Time,
    offers: Vec<(OfferId, Grant)>,
    counter: u64,
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

    fn agents(&mut self, n: usize, capacity: &Resources) {
        for i in 0..n {
            let id = AgentId::from(format!("agent-{i}"));
            self.ledger.set_agent(Agent { id, capacity: capacity.clone(), active: true });
        }
    }

    fn framework(&mut self, name: &str, role: &str) {
        let id = FrameworkId::from(name);
        let wants = Subscription { roles: [role.to_string()].into(), ..Subscription::default() };
        self.allocator.set_framework(&id, wants);
        self.allocator.set_connected(&id, true);
    }

    /// One round: the plan, and every grant booked. Returns the time of the plan alone and of all.
    fn round(&mut self) -> (Duration, Duration) {
        let start = Instant::now();
        let grants = self.allocator.plan_offers(&self.ledger, self.now, self.counter);
        let planned = start.elapsed();
        for g in grants {
            self.counter += 1;
            let id = OfferId::from(format!("offer-{}", self.counter));
            let holder = Holder::Offer(id.clone());
            self.ledger.claim_split(&g.agent, holder.clone(), g.role.clone(), &g.split()).unwrap();
            self.allocator.charge(holder, &g.framework, &g.role, &g.resources);
            self.offers.push((id, g));
        }
        (planned, start.elapsed())
    }

    fn decline_all(&mut self, seconds: f64) {
        for (id, g) in std::mem::take(&mut self.offers) {
            let holder = Holder::Offer(id);
            self.ledger.release(&holder);
            self.allocator.discharge(&holder);
            self.allocator.decline(&g.framework, &g.role, &g.agent, &g.split(), Some(seconds), self.now);
        }
    }

    /// Starts up to `n` tasks of a size on each offer; the rest is declined.
    fn launch(
        &mut self,
        take: &BTreeMap<&str, (usize, usize, Resources)>,
        left: &mut BTreeMap<String, usize>,
    ) -> usize {
        let mut launched = 0;
        for (id, g) in std::mem::take(&mut self.offers) {
            let kind = g.framework.as_str().split('-').next().unwrap_or_default();
            let (_, per_offer, size) = &take[kind];
            let open = left.get_mut(g.framework.as_str()).unwrap();
            let (mut parts, mut rest) = (vec![], g.resources.clone());
            while parts.len() < (*per_offer).min(*open) && rest.contains(size) {
                rest = rest.minus(size);
                self.counter += 1;
                let pod = Holder::Pod(NamespacedName::new(&*g.role, format!("p{}", self.counter)));
                parts.push((pod, Split::plain(Resources { pods: 1, ..size.clone() })));
            }
            *open -= parts.len();
            launched += parts.len();
            self.ledger.settle(std::slice::from_ref(&id), &[], &parts).unwrap();
            self.allocator.discharge(&Holder::Offer(id));
            for (pod, split) in parts {
                self.allocator.charge(pod, &g.framework, &g.role, &split.amount);
            }
            self.allocator.decline(&g.framework, &g.role, &g.agent, &Split::plain(rest), Some(5.0), self.now);
            if *open == 0 {
                self.allocator.suppress(&g.framework, &[]);
            }
        }
        launched
    }
}

/// What Mesos published for the same fixture.
enum Mesos {
    /// So many seconds, measured as the words say.
    Seconds(f64, &'static str),
    Unpublished,
}

fn line(what: &str, ours: Duration, published: &Mesos) {
    let beside = match published {
        Mesos::Seconds(theirs, how) => {
            let ratio = theirs / ours.as_secs_f64().max(1e-9);
            format!("   Mesos {:.0} ms, {how}: {ratio:.1} times ours", theirs * 1e3)
        }
        Mesos::Unpublished => String::new(),
    };
    println!("{what:<58} {:>10.1} ms{beside}", ours.as_secs_f64() * 1e3);
}

fn agent() -> Resources {
    Resources {
        milli_cpu: 24_000,
        memory_bytes: 4 << 30,
        disk_bytes: 4 << 30,
        pods: 110,
        ports: PortSet::from_ranges([PortRange { begin: 31_000, end: 32_000 }]),
        ..Resources::default()
    }
}

fn main() {
    let agents_max = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(50_000);
    decline_offers(agents_max);
    multi_framework();
    quota();
}

/// Everybody declines everything: a round with all offers out, and one in which all filters hold.
fn decline_offers(agents_max: usize) {
    use Mesos::{Seconds, Unpublished};
    println!("\nDeclineOffers");
    for (agents, frameworks, published) in [
        (1_000, 50, Unpublished),
        (1_000, 100, Seconds(0.1, "1.8.0, at most")),
        (5_000, 500, Seconds(0.4, "1.8.0")),
        (10_000, 1_000, Seconds(1.06, "of 2018-09")),
        (20_000, 2_000, Seconds(3.8, "1.8.0")),
        (50_000, 100, Unpublished),
        (50_000, 6_000, Unpublished),
    ] {
        if agents > agents_max {
            continue;
        }
        let mut w = World::new();
        let start = Instant::now();
        w.agents(agents, &agent());
        let added = start.elapsed();
        for i in 0..frameworks {
            w.framework(&format!("f-{i}"), "*");
        }
        let (_, first) = w.round();
        let offers = w.offers.len();
        w.decline_all(1e6);
        let (_, again) = w.round();
        line(&format!("{agents} agents, {frameworks} frameworks: {offers} offers"), first, &published);
        line("  the round after everybody declined", again, &Mesos::Unpublished);
        let (_, given) = w.round();
        line("  the round after all was given away again", given, &Mesos::Unpublished);
        let (_, idle) = w.round();
        line("  a round in which nothing changed", idle, &Mesos::Unpublished);
        let theirs = if agents == 10_000 { Seconds(1.61, "of 2018-09") } else { Unpublished };
        line("  adding the agents", added, &theirs);
    }
}

/// Four that are like Marathon, five hundred like Jenkins, fifty like Spark's dispatcher, until all 19,500 tasks run.
fn multi_framework() {
    println!("\nMultiFrameworkAllocations");
    let mut w = World::new();
    let big = Resources { milli_cpu: 64_000, memory_bytes: 488 << 30, pods: 10_000, ..Resources::default() };
    w.agents(80, &big);
    let size = |milli_cpu, mib: u64| Resources { milli_cpu, memory_bytes: mib << 20, ..Resources::default() };
    let kinds: BTreeMap<&str, (usize, usize, Resources)> = BTreeMap::from([
        ("marathon", (4000, 100, size(70, 400))),
        ("jenkins", (5, 1, size(100, 4000))),
        ("spark", (20, 5, size(1000, 1000))),
    ]);
    let mut left = BTreeMap::new();
    for (kind, count) in [("marathon", 4), ("jenkins", 500), ("spark", 50)] {
        for i in 0..count {
            let name = format!("{kind}-{i}");
            w.framework(&name, kind);
            left.insert(name, kinds[kind].0);
        }
    }
    let (start, mut rounds, mut planning, mut launched) = (Instant::now(), 0, Duration::ZERO, 0);
    while launched < 19_500 && rounds < 10_000 {
        let (_, took) = w.round();
        planning += took;
        rounds += 1;
        launched += w.launch(&kinds, &mut left);
        w.now = w.now.plus(Duration::from_secs(1));
    }
    println!("  {launched} of 19500 tasks in {rounds} rounds");
    line("  a round", planning / rounds.max(1), &Mesos::Unpublished);
    // Mesos published no figure here, only that its test may take 30 s.
    line("  all rounds and launches", start.elapsed(), &Mesos::Unpublished);
}

/// Roles with quota, small and large, and the same without.
fn quota() {
    use Mesos::{Seconds, Unpublished};
    println!("\nLargeAndSmallQuota, NonQuotaVsQuota");
    for (small, large, published) in
        [(25, 5, Unpublished), (250, 50, Unpublished), (2500, 500, Seconds(15.3, "1.9"))]
    {
        let roles = small + large;
        let mut w = World::new();
        w.agents(roles, &agent());
        for i in 0..roles {
            let role = format!("role-{i}");
            w.framework(&format!("f-{i}"), &role);
            let cpus = if i < large { 24_000 * 5 } else { 6_000 };
            let guarantees = BTreeMap::from([("cpus".into(), cpus / 2)]);
            let limits = BTreeMap::from([("cpus".into(), cpus)]);
            w.allocator.set_quota(&role, Some(Quota { guarantees, limits }));
        }
        let (_, first) = w.round();
        line(
            &format!("{roles} agents, roles and frameworks with quota: {} offers", w.offers.len()),
            first,
            &published,
        );
        w.decline_all(1e6);
        let (_, again) = w.round();
        line("  the round after everybody declined", again, &Mesos::Unpublished);
    }
    for roles in [10, 100, 1000] {
        let mut took = vec![];
        for has_quota in [false, true] {
            let mut w = World::new();
            w.agents(roles * 2, &agent());
            for i in 0..roles {
                let role = format!("role-{i}");
                for f in 0..2 {
                    w.framework(&format!("f-{i}-{f}"), &role);
                }
                if has_quota {
                    let limits = BTreeMap::from([("cpus".into(), 24_000), ("mem".into(), 4 << 30)]);
                    w.allocator.set_quota(&role, Some(Quota { limits, ..Quota::default() }));
                }
            }
            took.push(w.round().1);
        }
        let ratio = took[1].as_secs_f64() / took[0].as_secs_f64().max(1e-9);
        line(
            &format!("{roles} roles, two agents and frameworks each, no quota"),
            took[0],
            &Mesos::Unpublished,
        );
        line(&format!("  with quota: {ratio:.1} times that"), took[1], &Mesos::Unpublished);
    }
}
