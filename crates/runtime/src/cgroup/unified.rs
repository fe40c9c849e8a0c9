//! What only version 2 of the tree has: controllers that are handed down level by level, and files of its own.

use std::fs;
use std::io;
use std::path::Path;

use super::{limit_huge_pages, make_directory};
use crate::spec::Limits;

/// Controllers that pods are limited with, where the machine has them.
const CONTROLLERS: [&str; 6] = ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"];

/// Where what lives in the topmost cgroup goes when that has to hand controllers down.
const RESIDENTS: &str = "stoa-residents";

/// Passes over the residents: what forks while it is moved leaves its child behind.
const MOVE_PASSES_MAX: usize = 100;

/// What the topmost cgroup can hand down.
pub(super) fn controllers(mount: &Path) -> io::Result<Vec<&'static str>> {
    let had = fs::read_to_string(mount.join("cgroup.controllers"))?;
    Ok(CONTROLLERS.into_iter().filter(|c| had.split_whitespace().any(|h| h == *c)).collect())
}

/// The controllers that limits are set with.
pub(super) fn needed(limits: &Limits) -> Vec<&'static str> {
    let has_cpu = limits.cpu_shares.is_some() || limits.cpu_quota_us.is_some();
    let has_pages = limits.huge_pages.iter().flat_map(|pages| pages.values()).any(|bytes| *bytes > 0);
    let all = [
        ("cpu", has_cpu),
        ("cpuset", limits.cpuset_cpus.is_some()),
        ("memory", limits.memory_bytes.is_some()),
        ("pids", limits.pids.is_some()),
        ("hugetlb", has_pages),
    ];
    all.into_iter().filter(|(_, is_needed)| *is_needed).map(|(name, _)| name).collect()
}

/// Hands controllers down to what is below `directory`. Of those that cannot be, only the ones that are needed are an error.
pub(super) fn delegate(mount: &Path, directory: &Path, had: &[&str], needed: &[&str]) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let hand_down = |words: &str| match fs::write(&file, words) {
        // Only a machine's own topmost cgroup may do both, hand down and hold processes. That of a container, in which
        // we may be, is seen as topmost from within.
        Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) && directory == mount => {
            move_residents(mount)?;
            fs::write(&file, words)
        }
        other => other,
    };
    hand_down_each(had, needed, hand_down).map_err(|(name, e)| {
        let message = format!("cannot hand {name} down from {}: {e}", directory.display());
        io::Error::new(e.kind(), message)
    })
}

/// Writes all controllers at once, and one by one if the kernel does not take them so: it takes all or none.
fn hand_down_each<'a>(
    had: &[&'a str],
    needed: &[&str],
    hand_down: impl Fn(&str) -> io::Result<()>,
) -> Result<(), (&'a str, io::Error)> {
    let words: Vec<String> = had.iter().map(|c| format!("+{c}")).collect();
    if words.is_empty() || hand_down(&words.join(" ")).is_ok() {
        return Ok(());
    }
    for (name, word) in had.iter().zip(&words) {
        match hand_down(word) {
            Err(error) if needed.contains(name) => return Err((name, error)),
            Err(error) => {
                tracing::debug!(controller = name, %error, "a cgroup controller cannot be handed down")
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Moves the processes of a cgroup into one below it.
pub(super) fn move_residents(directory: &Path) -> io::Result<()> {
    let below = directory.join(RESIDENTS);
    make_directory(&below)?;
    let list = || fs::read_to_string(directory.join("cgroup.procs"));
    let move_one = |pid: &str| {
        let mut file = fs::OpenOptions::new().append(true).open(below.join("cgroup.procs"))?;
        match io::Write::write_all(&mut file, format!("{pid}\n").as_bytes()) {
            // It ended meanwhile.
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            other => other,
        }
    };
    move_all(list, move_one)
        .map_err(|e| io::Error::new(e.kind(), format!("cannot empty {}: {e}", directory.display())))
}

/// Moves what is listed until nothing is.
fn move_all(
    mut list: impl FnMut() -> io::Result<String>,
    mut move_one: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    for _ in 0..MOVE_PASSES_MAX {
        let pids = list()?;
        if pids.trim().is_empty() {
            return Ok(());
        }
        pids.lines().try_for_each(&mut move_one)?;
    }
    Err(io::Error::other("processes keep coming"))
}

/// The weight that a kubelet gives for shares: 2 shares are 1, 1,024 are 100, 262,144 are 10,000, and between them a curve
/// through all three (the straight line of older runtimes made 39 of 1,024).
fn weight(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

pub(super) fn limit(directory: &Path, limits: &Limits) -> io::Result<()> {
    let set = |file: &str, value: String| {
        fs::write(directory.join(file), value)
            .map_err(|e| io::Error::new(e.kind(), format!("cannot set {file}: {e}")))
    };
    let amount = |n: i64| if n > 0 { n.to_string() } else { "max".to_owned() };
    if let Some(shares) = limits.cpu_shares {
        set("cpu.weight", weight(shares).to_string())?;
    }
    if let Some(quota) = limits.cpu_quota_us {
        set("cpu.max", format!("{} {}", amount(quota), limits.cpu_period_us.unwrap_or(100_000)))?;
    }
    if let Some(bytes) = limits.memory_bytes {
        set("memory.max", amount(bytes))?;
        // Memory is what was limited: swap must not make up for it. Kernels may lack it.
        if directory.join("memory.swap.max").exists() {
            set("memory.swap.max", if bytes > 0 { "0".to_owned() } else { "max".to_owned() })?;
        }
    }
    if let Some(pids) = limits.pids {
        set("pids.max", amount(pids))?;
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        set("cpuset.cpus", cpus.clone())?;
    }
    match &limits.huge_pages {
        Some(pages) => limit_huge_pages(directory, "max", pages),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Tree;
    use super::*;
    use crate::state::DiskIo;
    use std::cell::RefCell;
    use std::path::PathBuf;

    /// A machine with version 2 alone, made of plain files: what is written can be read back.
    struct Fake {
        dir: tempfile::TempDir,
        tree: Tree,
    }

    impl Fake {
        fn new(controllers: &str) -> Fake {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("cgroup.controllers"), controllers).unwrap();
            let tree = Tree { hierarchies: Vec::new(), unified: Some(dir.path().to_path_buf()) };
            Fake { dir, tree }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.path(path)).unwrap_or_default()
        }
    }

    const ALL: &str = "cpuset cpu io memory hugetlb pids rdma misc\n";

    #[test]
    fn shares_become_the_weights_of_a_kubelet() {
        let pairs = [
            (0, 1),
            (2, 1),
            (3, 2),
            (10, 4),
            (102, 17),
            (256, 35),
            (512, 59),
            (1024, 100),
            (2048, 174),
            (4096, 303),
        ];
        for (shares, expected) in pairs {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert_eq!((weight(262_143), weight(262_144), weight(u64::MAX)), (10_000, 10_000, 10_000));
        assert!((2..262_144).step_by(97).zip((99..).step_by(97)).all(|(a, b)| weight(a) <= weight(b)));
    }

    #[test]
    fn controllers_are_handed_down_all_the_way_but_not_by_the_last() {
        let fake = Fake::new(ALL);
        fake.tree.create("/stoa/burstable/podu/c", &Limits::default()).unwrap();
        let handed = "+cpu +cpuset +memory +pids +io +hugetlb";
        for directory in [".", "stoa", "stoa/burstable", "stoa/burstable/podu"] {
            assert_eq!(fake.read(&format!("{directory}/cgroup.subtree_control")), handed, "{directory:?}");
        }
        assert!(fake.path("stoa/burstable/podu/c").is_dir());
        assert!(!fake.path("stoa/burstable/podu/c/cgroup.subtree_control").exists());
        let poor = Fake::new("memory pids\n");
        poor.tree.create("/stoa/podu", &Limits::default()).unwrap();
        assert_eq!(poor.read("stoa/cgroup.subtree_control"), "+memory +pids");
    }

    #[test]
    fn every_limit_has_its_file() {
        let fake = Fake::new(ALL);
        let limits = Limits {
            cpu_shares: Some(512),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            memory_bytes: Some(64 << 20),
            pids: Some(100),
            cpuset_cpus: Some("0-1".into()),
            huge_pages: None,
        };
        fake.tree.create("/stoa/podu", &limits).unwrap();
        let read = |file: &str| fake.read(&format!("stoa/podu/{file}"));
        for (file, value) in [
            ("cpu.weight", "59"),
            ("cpu.max", "50000 100000"),
            ("memory.max", "67108864"),
            ("pids.max", "100"),
            ("cpuset.cpus", "0-1"),
            ("memory.oom.group", ""),
            ("memory.swap.max", ""),
        ] {
            assert_eq!(read(file), value, "{file}");
        }
        // The controller may not have been handed down.
        fake.tree.die_together("/stoa/podu").unwrap();
        assert!(!fake.path("stoa/podu/memory.oom.group").exists());
        fs::write(fake.path("stoa/podu/memory.oom.group"), "0").unwrap();
        fake.tree.die_together("/stoa/podu").unwrap();
        assert_eq!(read("memory.oom.group"), "1");
        // What is not limited any more is lifted.
        fs::write(fake.path("stoa/podu/memory.swap.max"), "0").unwrap();
        fake.tree.update("/stoa/podu", &limits, &Limits::default()).unwrap();
        let lifted = ["cpu.max", "memory.max", "memory.swap.max", "pids.max"].map(read);
        assert_eq!(lifted, ["max 100000", "max", "max", "max"]);
        fake.tree.update("/stoa/podu", &Limits::default(), &limits).unwrap();
        assert_eq!(["memory.max", "memory.swap.max"].map(read), ["67108864", "0"]);
    }

    #[test]
    fn memory_is_not_limited_below_what_is_in_use() {
        let fake = Fake::new(ALL);
        let limits = |bytes| Limits { memory_bytes: Some(bytes), ..Limits::default() };
        fake.tree.create("/p", &limits(1000)).unwrap();
        fs::write(fake.path("p/memory.current"), "900\n").unwrap();
        fs::write(fake.path("p/memory.stat"), "anon 300\nfile 600\ninactive_file 500\n").unwrap();
        fs::write(fake.path("p/memory.events"), "low 0\noom 3\noom_kill 2\n").unwrap();
        fs::write(fake.path("p/cpu.stat"), "usage_usec 7\nuser_usec 5\n").unwrap();
        fs::write(fake.path("p/pids.current"), "4\n").unwrap();
        fs::write(fake.path("p/pids.max"), "max\n").unwrap();
        assert_eq!(fake.tree.stats("/p").pressure, None);
        for what in ["cpu", "memory", "io"] {
            let some = format!("some avg10=0.50 avg60=12.34 avg300=0.00 total={}\n", what.len());
            fs::write(fake.path(&format!("p/{what}.pressure")), some).unwrap();
        }
        let full = "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=1.00 total=5\n";
        fs::write(fake.path("p/memory.pressure"), full).unwrap();
        let [cpu, memory, io] = fake.tree.stats("/p").pressure.unwrap();
        assert_eq!((cpu.some.averages, cpu.some.total_us, cpu.full.total_us), ([50, 1_234, 0], 3, 0));
        assert_eq!((memory.full.averages, memory.full.total_us, io.some.total_us), ([0, 0, 100], 5, 2));
        fs::write(fake.path("p/io.stat"), "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9\n252:16\n").unwrap();
        let io = DiskIo { device: (8, 0), bytes: [1, 2], operations: [3, 4] };
        assert_eq!(fake.tree.disk_io("/p"), [io]);
        let stats = fake.tree.stats("/p");
        assert_eq!((stats.memory_usage_bytes, stats.memory_working_set_bytes), (900, 400));
        assert_eq!(
            (stats.memory_rss_bytes, stats.cpu_usage_ns, stats.pids, stats.oom_kills),
            (300, 7_000, 4, 2)
        );
        let error = fake.tree.update("/p", &limits(1000), &limits(399)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        fake.tree.update("/p", &limits(1000), &limits(400)).unwrap();
        assert_eq!(fake.read("p/memory.max"), "400");
    }

    #[test]
    fn huge_pages_are_limited_by_size_and_those_that_nobody_asked_for_not_given() {
        let fake = Fake::new(ALL);
        fake.tree.create("/p", &Limits::default()).unwrap();
        let files = ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max", "hugetlb.1GB.max", "hugetlb.1GB.rsvd.max"];
        for file in files.iter().chain(&["hugetlb.2MB.current", "hugetlb.2MB.events"]) {
            fs::write(fake.path("p").join(file), "was").unwrap();
        }
        let pages = Limits { huge_pages: Some([(2 << 20, 4 << 20)].into()), ..Limits::default() };
        fake.tree.create("/p", &pages).unwrap();
        assert_eq!(files.map(|f| fake.read(&format!("p/{f}"))), ["4194304", "4194304", "0", "0"]);
        assert_eq!(fake.read("p/hugetlb.2MB.current"), "was");
    }

    #[test]
    fn whoever_lives_in_the_topmost_cgroup_moves_below_it_with_what_it_forks_meanwhile() {
        let (here, below) = (RefCell::new(vec![7, 8]), RefCell::new(Vec::new()));
        let list = || Ok(here.borrow().iter().map(|pid| format!("{pid}\n")).collect());
        let move_one = |pid: &str| {
            let pid: i32 = pid.parse().unwrap();
            here.borrow_mut().retain(|p| *p != pid);
            // Two generations of children.
            if pid < 20 {
                here.borrow_mut().push(pid + 10);
            }
            below.borrow_mut().push(pid);
            Ok(())
        };
        move_all(list, move_one).unwrap();
        assert_eq!(*below.borrow(), [7, 8, 17, 18, 27, 28]);
        // One that cannot be moved, as it is of another namespace, is not tried for ever.
        assert!(move_all(|| Ok("0\n".into()), |_| Ok(())).is_err());
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        assert!(move_all(|| Ok("1\n".into()), |_| Err(denied())).is_err());
    }

    #[test]
    fn a_controller_that_cannot_be_handed_down_is_missed_by_those_it_limits_only() {
        let limits = Limits {
            memory_bytes: Some(1 << 20),
            pids: Some(5),
            huge_pages: Some([(2 << 20, 0)].into()),
            ..Limits::default()
        };
        assert_eq!(needed(&limits), ["memory", "pids"]);
        let all = Limits {
            cpu_shares: Some(2),
            cpuset_cpus: Some("0".into()),
            huge_pages: Some([(2 << 20, 1)].into()),
            ..limits.clone()
        };
        assert_eq!(needed(&all), ["cpu", "cpuset", "memory", "pids", "hugetlb"]);
        // As the kernel is: all that is named in one write, or nothing.
        let handed = RefCell::new(Vec::new());
        let hand_down = |words: &str| {
            if words.split(' ').any(|w| w == "+cpu") {
                return Err(io::Error::from_raw_os_error(nix::libc::EINVAL));
            }
            handed.borrow_mut().extend(words.split(' ').map(str::to_owned));
            Ok(())
        };
        let had = ["cpu", "cpuset", "memory"];
        hand_down_each(&had, &needed(&limits), hand_down).unwrap();
        assert_eq!(*handed.borrow(), ["+cpuset", "+memory"]);
        assert_eq!(hand_down_each(&had, &needed(&all), hand_down).unwrap_err().0, "cpu");
    }

    #[test]
    fn the_cpus_to_be_had_are_those_that_are_effective_below() {
        let fake = Fake::new(ALL);
        assert!(fake.tree.cpus("/stoa").is_err());
        let probe = fake.path("stoa/cpuset-probe");
        fs::create_dir_all(&probe).unwrap();
        fs::write(probe.join("cpuset.cpus.effective"), "0-3\n").unwrap();
        // A plain directory with a file in it cannot be removed as a cgroup is; what was found out is told before that.
        assert!(fake.tree.cpus("/stoa").is_err());
        assert_eq!(fs::read_to_string(probe.join("cpuset.cpus")).unwrap(), "0-3");
    }

    /// The kernel's own rules, on whatever version 2 tree the machine has: it need not have controllers.
    #[test]
    fn a_real_tree_takes_processes_and_gives_them_up() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let Some(mount) = Tree::parse(&mounts).unified else { return };
        let tree = Tree { hierarchies: Vec::new(), unified: Some(mount.clone()) };
        let top = format!("/stoa-test-{}", std::process::id());
        let leaf = format!("{top}/besteffort/podu/c");
        let pages = Limits { huge_pages: Some([(2 << 20, 4 << 20)].into()), ..Limits::default() };
        if fs::create_dir(mount.join(top.trim_start_matches('/'))).is_err() {
            return; // Not root, or read-only.
        }
        tree.create(&leaf, &pages).unwrap();
        let directory = mount.join(leaf.trim_start_matches('/'));
        if directory.join("hugetlb.2MB.max").exists() {
            let limit = fs::read_to_string(directory.join("hugetlb.2MB.max")).unwrap();
            assert_eq!(limit.trim(), (4 << 20).to_string());
        }
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        fs::write(directory.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(tree.processes(&top), [child.id() as i32]);
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        tree.kill(&top);
        assert!(!reaper.join().unwrap().success());
        tree.remove(&top).unwrap();
        assert!(!mount.join(top.trim_start_matches('/')).exists());
    }
}
