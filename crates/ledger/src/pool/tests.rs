use super::*;
use crate::Agent;
use stoa_units::{PortRange, PortSet};

fn cpu(milli_cpu: u64) -> Resources {
    Resources { milli_cpu, ..Resources::default() }
}

fn disk(disk_bytes: u64) -> Resources {
    Resources { disk_bytes, ..Resources::default() }
}

fn pool(role: &str, kind: PoolKind, total: Resources) -> Option<Pool> {
    Some(Pool { role: role.into(), kind, total })
}

fn ledger() -> (Ledger, AgentId) {
    let mut ledger = Ledger::default();
    let capacity = Resources {
        pods: 100,
        disk_bytes: 1000,
        ports: PortSet::from_ranges([PortRange { begin: 31_000, end: 31_009 }]),
        ..cpu(4000)
    };
    ledger.set_agent(Agent { id: "a".into(), capacity, active: true });
    (ledger, "a".into())
}

fn offer(n: u32) -> Holder {
    Holder::Offer(OfferId::new(format!("o{n}")))
}

fn pod(n: u32) -> Holder {
    Holder::Pod(stoa_units::NamespacedName::new("n", format!("p{n}")))
}

#[test]
fn what_is_reserved_is_free_for_nobody_else_and_returns_to_its_pool() {
    let (mut l, a) = ledger();
    let web: Arc<str> = "web".into();
    l.set_pool(&a, &web, pool("web", PoolKind::Divisible, cpu(3000)));
    assert_eq!(l.free(&a).milli_cpu, 1000);
    assert!(l.claim(&a, pod(1), &cpu(2000)).is_err());
    let split = Split { amount: cpu(2500), draws: vec![(web.clone(), cpu(2000))] };
    assert_eq!(l.claim_split(&a, pod(2), "web", &split), Ok(()));
    assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &web).milli_cpu), (500, 1000));
    let usage = l.usage("web");
    assert_eq!((usage.pods.milli_cpu, usage.drawn.milli_cpu, usage.reserved.milli_cpu), (2500, 2000, 3000));
    assert_eq!(usage.consumed().milli_cpu, 3500, "the reservation and half a processor beside it");
    l.release(&pod(2));
    assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &web).milli_cpu), (1000, 3000));
    l.set_pool(&a, &web, None);
    assert_eq!(l.free(&a).milli_cpu, 4000);
    assert_eq!(l.usages().count(), 0);
}

#[test]
fn the_order_in_which_a_new_leader_learns_things_does_not_matter() {
    let web: Arc<str> = "web".into();
    let facts: [fn(&mut Ledger, &AgentId, &Arc<str>); 3] = [
        |l, a, w| l.set_pool(a, w, pool("web", PoolKind::Divisible, cpu(2000))),
        |l, a, _| l.force_claim(a, pod(1), &cpu(1500)),
        |l, _, w| l.set_draws(&pod(1), vec![(w.clone(), cpu(1500))]),
    ];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut l, a) = ledger();
        for i in order {
            facts[i](&mut l, &a, &web);
        }
        // The pod is seen again with another request.
        l.force_claim(&a, pod(1), &cpu(1600));
        assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &web).milli_cpu), (1900, 500), "{order:?}");
    }
}

#[test]
fn a_volume_is_used_by_one_and_a_shared_one_by_many() {
    let (mut l, a) = ledger();
    let (own, shared): (Arc<str>, Arc<str>) = ("own".into(), "shared".into());
    l.set_pool(&a, &own, pool("web", PoolKind::Whole, disk(100)));
    l.set_pool(&a, &shared, pool("web", PoolKind::Shared, disk(200)));
    assert_eq!(l.free(&a).disk_bytes, 700);
    let with = |name: &Arc<str>, n| Split { amount: cpu(100), draws: vec![(name.clone(), disk(n))] };
    assert_eq!(l.claim_split(&a, pod(1), "web", &with(&own, 100)), Ok(()));
    assert_eq!(l.claim_split(&a, pod(2), "web", &with(&own, 100)), Err(Short::Pool(own.clone())));
    assert_eq!(l.claim_split(&a, pod(3), "web", &with(&shared, 200)), Ok(()));
    assert_eq!(l.claim_split(&a, pod(4), "web", &with(&shared, 200)), Ok(()));
    assert_eq!(l.pool_users(&a, &shared).count(), 2);
    assert_eq!(l.free(&a).disk_bytes, 700, "its space is the volume's, in use or not");
    assert_eq!(l.usage("web").pods.disk_bytes, 500, "yet it counts for its users");
    l.release(&pod(1));
    assert_eq!(l.pool_free(&a, &own), disk(100));
}

#[test]
fn an_accept_that_does_not_fit_changes_nothing() {
    let (mut l, a) = ledger();
    let web: Arc<str> = "web".into();
    let all = l.free(&a);
    l.claim_split(&a, offer(1), "web", &Split::plain(all)).unwrap();
    let before = (l.usage("web"), l.used(&a));
    let reserve = [(web.clone(), pool("web", PoolKind::Divisible, cpu(1000)))];
    let draw = |n, c| (pod(n), Split { amount: cpu(c), draws: vec![(web.clone(), cpu(c))] });
    assert!(l.settle(&["o1".into()], &reserve, &[draw(1, 600), draw(2, 600)]).is_err());
    assert_eq!((l.usage("web"), l.used(&a)), before);
    assert_eq!(l.settle(&["o1".into()], &reserve, &[draw(1, 600), draw(2, 300)]), Ok(()));
    assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &web).milli_cpu), (3000, 100));
    assert_eq!(l.unreserved(&pod(1)).unwrap().milli_cpu, 0);
}

#[test]
fn what_is_lent_is_beside_the_agent_and_counted_for_who_has_it() {
    let (mut l, a) = ledger();
    let spare: Arc<str> = "spare".into();
    l.set_pool(&a, &spare, pool("*", PoolKind::Spare, cpu(2000)));
    assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &spare).milli_cpu), (4000, 2000));
    assert_eq!(l.usages().count(), 0, "reserved for nobody");
    let split = Split { amount: Resources::default(), draws: vec![(spare.clone(), cpu(1500))] };
    assert_eq!(l.claim_split(&a, pod(1), "web", &split), Ok(()));
    assert_eq!((l.free(&a).milli_cpu, l.pool_free(&a, &spare).milli_cpu), (4000, 500));
    assert_eq!(l.usage("web").pods.milli_cpu, 1500);
    assert_eq!(l.claim_split(&a, pod(2), "web", &split), Err(Short::Pool(spare.clone())));
    // Less is lent from now on: who has it keeps it, and nobody gets more.
    l.set_pool(&a, &spare, pool("*", PoolKind::Spare, cpu(1000)));
    assert!(l.pool_free(&a, &spare).is_empty());
    l.release(&pod(1));
    assert_eq!(l.pool_free(&a, &spare).milli_cpu, 1000);
    l.set_pool(&a, &spare, None);
    assert_eq!((l.free(&a).milli_cpu, l.usages().count()), (4000, 0));
}
