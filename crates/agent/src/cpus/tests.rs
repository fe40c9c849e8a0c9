use super::pool::Want;
use super::*;
use crate::pod::Part;
use crate::testing::Scripted;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use stoa_units::SystemClock;

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text).unwrap()
}

#[test]
fn sets_are_read_and_written_in_the_kernels_list_form() {
    for (text, shown) in
        [("", ""), ("0", "0"), ("3,1-2,0", "0-3"), (" 0-1 , 4,6-7\n", "0-1,4,6-7"), ("5,5", "5")]
    {
        assert_eq!(set(text).to_string(), shown, "{text:?}");
    }
    for bad in ["x", "1-", "-1", "3-1", "1,,2", "1,", "0-70000", "4294967295"] {
        assert!(CpuSet::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn whole_sockets_come_before_whole_cores_and_those_before_broken_ones() {
    // CPUs 0..7 are the first threads of eight cores in two sockets, 8..15 the second ones.
    let machine = Topology::of(2, 4, 2);
    for (free, reuse, count, chosen) in [
        ("0-15", "", 8, "0-3,8-11"),
        ("0-15", "", 2, "0,8"),
        ("1-7,9-15", "", 8, "4-7,12-15"),
        ("1-15", "", 3, "1,8-9"),
        ("1-15", "", 1, "8"),
        ("1-15", "", 2, "1,9"),
        ("0-3", "", 2, "0-1"),
        ("0-15", "5,13", 2, "5,13"),
        ("0-15", "6", 1, "6"),
    ] {
        assert_eq!(machine.choose(&set(free), &set(reuse), count), Some(set(chosen)), "{count} of {free}");
    }
    assert_eq!(machine.choose(&set("0-3"), &set(""), 5), None);
}

#[test]
fn the_kernels_directory_tells_which_cpus_share_a_core() {
    let dir = tempfile::tempdir().unwrap();
    for (cpu, core) in [(0, "0\n"), (1, "1\n"), (2, "0\n"), (3, "1\n")] {
        let at = dir.path().join(format!("cpu{cpu}/topology"));
        fs::create_dir_all(&at).unwrap();
        fs::write(at.join("core_id"), core).unwrap();
        fs::write(at.join("physical_package_id"), "-1\n").unwrap();
    }
    let machine = Topology::read(dir.path(), &set("0-3"));
    assert_eq!(machine, Topology::of(1, 2, 2));
    let bare = Topology::read(&dir.path().join("none"), &set("0-1"));
    assert_eq!(bare, Topology::of(1, 2, 1));
}

fn pod(uid: &str, spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": spec})).unwrap()
}

fn asking(name: &str, cpu: &str) -> Value {
    json!({"name": name, "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}, "requests": {"cpu": cpu, "memory": "1Mi"}}})
}

#[test]
fn only_whole_cpus_of_guaranteed_pods_are_somebodys_own() {
    let names = |spec: Value| -> Vec<(String, usize)> {
        wants(&pod("u", spec)).into_iter().map(|w| (w.container, w.count)).collect()
    };
    let whole = json!({"containers": [asking("a", "2"), asking("b", "1500m"), asking("c", "1000m")]});
    assert_eq!(names(whole), [("a".to_owned(), 2), ("c".to_owned(), 1)]);
    let burstable = json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}]});
    assert_eq!(names(burstable), []);
    let mixed = json!({"containers": [asking("a", "2"), {"name": "b"}]});
    assert_eq!(names(mixed), []);
    let by_pod =
        json!({"resources": {"limits": {"cpu": "2", "memory": "1Mi"}}, "containers": [asking("a", "2")]});
    assert_eq!(names(by_pod), []);
}

#[test]
fn what_an_init_container_had_is_used_again_and_a_sidecar_keeps_its_own() {
    let mut pool = Pool::new(Topology::of(1, 4, 1), set("0"));
    let want = |part, container: &str, count| Want { part, container: container.to_owned(), count };
    let wants = [
        want(Part::Init, "first", 3),
        want(Part::Sidecar, "beside", 1),
        want(Part::Init, "second", 2),
        want(Part::Main, "main", 2),
    ];
    pool.assign("u", &wants).unwrap();
    let of = |name: &str| pool.own("u", name).unwrap().to_string();
    assert_eq!([of("first"), of("beside"), of("second"), of("main")], ["1-3", "1", "2-3", "2-3"]);
    assert_eq!(pool.shared(), set("0"));
    let short = pool.clone().assign("v", &[want(Part::Main, "main", 1)]).unwrap_err();
    assert_eq!(short.to_string(), "not enough cpus available to satisfy request: requested=1, available=0");
    assert!(pool.release("u"));
    assert_eq!(pool.shared(), set("0-3"));
}

/// A pod's containers: part and number of CPUs, in the order in which they start.
fn any_wants() -> impl Strategy<Value = Vec<Want>> {
    let part = prop_oneof![Just(Part::Init), Just(Part::Sidecar)];
    let row = prop::collection::vec((part, 1_usize..5), 0..4);
    let main = prop::collection::vec((Just(Part::Main), 1_usize..5), 1..4);
    (row, main).prop_map(|(row, main)| {
        let all = row.into_iter().chain(main).enumerate();
        all.map(|(i, (part, count))| Want { part, container: format!("c{i}"), count }).collect()
    })
}

#[derive(Clone, Debug)]
enum Step {
    Come(u8, Vec<Want>),
    Go(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_u8..6, any_wants()).prop_map(|(uid, wants)| Step::Come(uid, wants)),
        (0_u8..6).prop_map(Step::Go),
    ]
}

/// Whether two containers of one pod may run at the same time, the first being before the second.
fn meet(before: &Want, after: &Want) -> bool {
    matches!((before.part, after.part), (Part::Sidecar, _) | (Part::Main, Part::Main))
}

fn check(pool: &Pool, all: &CpuSet, reserved: &CpuSet, pods: &HashMap<u8, Vec<Want>>) {
    let mut seen = CpuSet::default();
    for (uid, wants) in pods {
        let own = |w: &Want| pool.own(&uid.to_string(), &w.container).cloned().unwrap();
        for (i, want) in wants.iter().enumerate() {
            assert_eq!(own(want).len(), want.count);
            for other in &wants[i + 1..] {
                assert!(!meet(want, other) || (&own(want) & &own(other)).is_empty(), "{want:?} {other:?}");
            }
        }
        let of_pod: CpuSet = wants.iter().flat_map(|w| own(w).iter().collect::<Vec<_>>()).collect();
        assert!((&of_pod & &seen).is_empty(), "two pods have a CPU");
        seen = &seen | &of_pod;
    }
    assert!((&seen & reserved).is_empty(), "a reserved CPU is somebody's own");
    assert_eq!(&pool.shared(), &(all - &seen));
}

proptest! {
    #[test]
    fn no_cpu_is_in_two_containers_and_what_is_released_is_back(
        (sockets, cores, threads) in (1_u32..3, 1_u32..5, 1_u32..3),
        held_back in 0_usize..3,
        steps in prop::collection::vec(any_step(), 0..24),
    ) {
        let machine = Topology::of(sockets, cores, threads);
        let all = machine.cpus();
        let reserved = machine.choose(&all, &CpuSet::default(), held_back.min(all.len())).unwrap();
        let mut pool = Pool::new(machine.clone(), reserved.clone());
        let mut pods = HashMap::new();
        for step in steps {
            match step {
                Step::Come(uid, wants) if !pods.contains_key(&uid) => {
                    let before = pool.shared();
                    match pool.assign(&uid.to_string(), &wants) {
                        Ok(()) => { pods.insert(uid, wants); }
                        Err(short) => {
                            prop_assert!(short.requested > short.available);
                            prop_assert_eq!(pool.shared(), before, "a pod that was refused has something");
                        }
                    }
                }
                Step::Come(uid, wants) => {
                    // Asked again, nobody gets anything else.
                    let before = pool.assigned().clone();
                    let same = pods[&uid].clone();
                    prop_assert_eq!(pool.assign(&uid.to_string(), &same), Ok(()));
                    prop_assert_eq!(pool.assigned(), &before);
                    drop(wants);
                }
                Step::Go(uid) => {
                    prop_assert_eq!(pool.release(&uid.to_string()), pods.remove(&uid).is_some());
                }
            }
            check(&pool, &all, &reserved, &pods);
            let mut next = Pool::new(machine.clone(), reserved.clone());
            prop_assert_eq!(next.restore(&pool.shared(), pool.assigned().clone()), Ok(()));
            prop_assert_eq!(next.shared(), pool.shared());
        }
        for uid in pods.into_keys() {
            pool.release(&uid.to_string());
        }
        prop_assert_eq!(pool.shared(), all);
    }
}

fn options(dir: &Path) -> Options {
    let mut options = Options::new("n1", dir, "c");
    options.cpu_policy = CpuPolicy::Static;
    options.reserved_cpus = Some(set("0"));
    options
}

#[tokio::test]
async fn who_has_what_outlives_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Scripted::new(Arc::new(SystemClock));
    let cpus = Cpus::open(&options(dir.path()), &*machine).await.unwrap();
    cpus.admit("u", &pod("u", json!({"containers": [asking("a", "2")]}))).unwrap();
    cpus.admit("v", &pod("v", json!({"containers": [{"name": "a"}]}))).unwrap();
    assert_eq!((cpus.of("u", "a").as_deref(), cpus.of("v", "a").as_deref()), (Some("1-2"), Some("0,3")));
    let refused = cpus.admit("w", &pod("w", json!({"containers": [asking("a", "2")]}))).unwrap_err();
    assert_eq!(refused, "not enough cpus available to satisfy request: requested=2, available=1");
    // As after a kill: nothing is told to the old one.
    let next = Cpus::open(&options(dir.path()), &*machine).await.unwrap();
    assert_eq!(next.of("u", "a").as_deref(), Some("1-2"));
    next.admit("u", &pod("u", json!({"containers": [asking("a", "2")]}))).unwrap();
    assert_eq!(next.of("u", "a").as_deref(), Some("1-2"));
    let mut other = options(dir.path());
    other.reserved_cpus = Some(set("1"));
    let error = Cpus::open(&other, &*machine).await.err().unwrap().to_string();
    assert!(error.contains("not all reserved cpus: \"1\" are present in defaultCpuSet: \"0,3\""), "{error}");
    next.retain(|uid| uid != "u");
    let last = Cpus::open(&other, &*machine).await.unwrap();
    assert_eq!(last.of("u", "a").as_deref(), Some("0-3"));
}

#[tokio::test]
async fn nothing_can_be_had_without_a_reserve() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Scripted::new(Arc::new(SystemClock));
    let open = async |reserved: Option<&str>, system: Option<&str>| {
        let mut options = options(dir.path());
        options.reserved_cpus = reserved.map(set);
        options.system_reserved = system.map(str::to_owned);
        let opened = Cpus::open(&options, &*machine).await;
        opened.map(|c| c.pool.unwrap().lock().clone()).map_err(|e| e.to_string())
    };
    for (reserved, system, why) in [
        (None, None, "the static policy requires reserved CPUs"),
        (Some(""), None, "the static policy requires reserved CPUs"),
        (None, Some("mem:512"), "the static policy requires reserved CPUs"),
        (Some("7"), None, "reserved CPUs 7 are not all among this machine's 0-3"),
        (None, Some("cpus:5"), "5 CPUs are to be reserved"),
    ] {
        let error = open(reserved, system).await.unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    let mut pool = open(None, Some("cpus:0.5")).await.unwrap();
    let want = |count| [Want { part: Part::Main, container: "a".to_owned(), count }];
    assert!(pool.assign("u", &want(4)).is_err());
    assert!(pool.assign("u", &want(3)).is_ok());
    assert_eq!(pool.shared(), set("0"));
}

#[tokio::test]
async fn everybody_runs_where_they_should_and_is_let_out_when_the_policy_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Scripted::new(Arc::new(SystemClock));
    for (uid, name) in [("u", "own"), ("v", "other")] {
        let lower = stoa_runtime::Rootfs::Layers { lower: vec![] };
        let mut spec = stoa_runtime::ContainerSpec::new(name, uid, lower, vec![], "/l");
        spec.name = name.to_owned();
        machine.start(spec).await.unwrap();
    }
    let moves = || -> Vec<String> {
        let mut log = machine.log.lock();
        let mut moves: Vec<String> =
            std::mem::take(&mut *log).into_iter().filter(|l| l.starts_with("move ")).collect();
        moves.sort();
        moves
    };
    let cpus = Cpus::open(&options(dir.path()), &*machine).await.unwrap();
    cpus.admit("u", &pod("u", json!({"containers": [asking("own", "2")]}))).unwrap();
    cpus.apply(&*machine).await;
    assert_eq!(moves(), ["move other to 0,3", "move own to 1-2"]);
    cpus.apply(&*machine).await;
    assert_eq!(moves(), [""; 0], "everybody is there already");
    machine.remove("own").await.unwrap();
    cpus.release("u");
    cpus.apply(&*machine).await;
    assert_eq!(moves(), ["move other to 0-3"]);
    cpus.admit("w", &pod("w", json!({"containers": [asking("own", "1")]}))).unwrap();
    cpus.apply(&*machine).await;
    assert_eq!(moves(), ["move other to 0,2-3"]);
    let mut without = options(dir.path());
    without.cpu_policy = CpuPolicy::None;
    let none = Cpus::open(&without, &*machine).await.unwrap();
    assert_eq!((moves(), none.of("v", "other")), (vec!["move other to 0-3".to_owned()], None));
    assert!(!dir.path().join(FILE).exists());
}
