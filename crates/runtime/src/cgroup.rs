//! The pod part of the cgroup tree, on version 1 (one tree a controller) and version 2 alike: made, limited, read,
//! emptied and removed here.

mod unified;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::devices;
use crate::spec::{Limits, Qos};
use crate::state::{DiskIo, Pressure, Stall, Stats};

/// A tick in which version 1 counts time: a hundredth of a second.
const TICK_NS: u64 = 10_000_000;
/// Version 1 says this much or more where memory has no bound.
const UNBOUNDED: u64 = 1 << 62;

/// How often a busy directory is tried again; a killed process leaves its cgroup a moment after it is reaped.
const REMOVE_TRIES_MAX: u32 = 200;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);
const DEPTH_MAX: usize = 16;

/// One mounted hierarchy.
#[derive(Clone, Debug)]
struct Hierarchy {
    mount: PathBuf,
    /// Empty for version 2.
    controllers: Vec<String>,
}

/// All mounted hierarchies.
#[derive(Clone, Debug)]
pub(crate) struct Tree {
    hierarchies: Vec<Hierarchy>,
    unified: Option<PathBuf>,
}

impl Tree {
    /// Reads what is mounted.
    pub(crate) fn discover() -> io::Result<Tree> {
        let mut tree = Tree::parse(&fs::read_to_string("/proc/self/mountinfo")?);
        // On a hybrid machine the trees without controllers are systemd's way of telling services apart. Without
        // systemd they are of no use, and the version 2 one is dear to enter.
        if !tree.is_unified() && !Path::new("/run/systemd/system").exists() {
            tree.unified = None;
            tree.hierarchies.retain(|h| !h.controllers.iter().any(|c| c.starts_with("name=")));
        }
        Ok(tree)
    }

    fn parse(mountinfo: &str) -> Tree {
        let mut tree = Tree { hierarchies: Vec::new(), unified: None };
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let Some(mount) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
            let mut right = right.split(' ');
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            match kind {
                Some("cgroup") => {
                    let controllers = options
                        .split(',')
                        .filter(|o| !matches!(*o, "rw" | "ro" | "xattr" | "clone_children"));
                    tree.hierarchies
                        .push(Hierarchy { mount, controllers: controllers.map(str::to_owned).collect() });
                }
                Some("cgroup2") => tree.unified = Some(mount),
                _ => {}
            }
        }
        tree
    }

    /// Whether version 2 rules alone.
    pub(crate) fn is_unified(&self) -> bool {
        self.hierarchies.is_empty()
    }

    fn controller(&self, name: &str) -> Option<&Path> {
        self.hierarchies.iter().find(|h| h.controllers.iter().any(|c| c == name)).map(|h| h.mount.as_path())
    }

    /// Every mount point.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        self.hierarchies.iter().map(|h| h.mount.clone()).chain(self.unified.clone()).collect()
    }

    /// `(directory below /sys/fs/cgroup, directory of this cgroup)` for every hierarchy, to be shown in a container.
    pub(crate) fn views(&self, path: &str) -> Vec<(PathBuf, PathBuf)> {
        self.mounts()
            .into_iter()
            .map(|mount| {
                let inside = mount.strip_prefix("/sys/fs/cgroup").unwrap_or(Path::new("")).to_path_buf();
                let directory = join(&mount, path);
                (inside, directory)
            })
            .filter(|(_, directory)| directory.is_dir())
            .collect()
    }

    /// Makes a directory in every hierarchy and sets its limits.
    pub(crate) fn create(&self, path: &str, limits: &Limits) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            let has_cpuset = hierarchy.controllers.iter().any(|c| c == "cpuset");
            let mut directory = hierarchy.mount.clone();
            for segment in path.split('/').filter(|s| !s.is_empty()) {
                let parent = directory.clone();
                directory.push(segment);
                make_directory(&directory)?;
                if has_cpuset {
                    inherit_cpuset(&parent, &directory)?;
                }
            }
        }
        if let Some(mount) = &self.unified {
            let had = if self.is_unified() { unified::controllers(mount)? } else { Vec::new() };
            let needed = unified::needed(limits);
            let mut directory = mount.clone();
            for segment in path.split('/').filter(|s| !s.is_empty()) {
                unified::delegate(mount, &directory, &had, &needed)?;
                directory.push(segment);
                make_directory(&directory)?;
            }
            // Not the last one: a version 2 cgroup that delegates can hold no process of its own.
        }
        self.limit(path, limits)
    }

    /// Files of every hierarchy through which a thread that writes `0` joins. On version 1 that is `tasks`: unlike
    /// `cgroup.procs` it does not stop every other fork and exit on the machine for a moment.
    pub(crate) fn open_members(&self, path: &str) -> io::Result<Vec<fs::File>> {
        let legacy = self.hierarchies.iter().map(|h| join(&h.mount, path).join("tasks"));
        let unified = self.unified.iter().map(|mount| join(mount, path).join("cgroup.procs"));
        legacy.chain(unified).map(|file| fs::File::options().write(true).open(file)).collect()
    }

    /// Lets a cgroup use these devices only.
    pub(crate) fn confine_devices(&self, path: &str, rules: &[devices::Rule]) -> io::Result<()> {
        match (self.controller("devices"), &self.unified) {
            (Some(mount), _) => devices::apply_legacy(&join(mount, path), rules),
            (None, Some(mount)) => devices::apply_unified(&join(mount, path), rules),
            (None, None) => Err(io::Error::other("no cgroup controller for devices")),
        }
    }

    /// Sets other limits on what runs already. One that was set and is not any more is lifted. Memory below what is in
    /// use is refused: version 2 would kill for it.
    pub(crate) fn update(&self, path: &str, before: &Limits, after: &Limits) -> io::Result<()> {
        let lift = |was: bool| was.then_some(-1);
        let mut limits = after.clone();
        limits.cpu_quota_us = limits.cpu_quota_us.or(lift(before.cpu_quota_us.is_some()));
        limits.memory_bytes = limits.memory_bytes.or(lift(before.memory_bytes.is_some()));
        limits.pids = limits.pids.or(lift(before.pids.is_some()));
        if let Some(bytes) = limits.memory_bytes.and_then(|b| u64::try_from(b).ok())
            && before.memory_bytes.is_none_or(|b| u64::try_from(b).is_ok_and(|b| bytes < b))
        {
            let used = self.stats(path).memory_working_set_bytes;
            if used > bytes {
                let why = format!("attempting to set memory limit ({bytes}) below current usage ({used})");
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
            }
        }
        self.limit(path, &limits)
    }

    fn limit(&self, path: &str, limits: &Limits) -> io::Result<()> {
        if self.is_unified() {
            return match &self.unified {
                Some(mount) => unified::limit(&join(mount, path), limits),
                None => Ok(()),
            };
        }
        let set = |controller: &str, file: &str, value: String| match self.controller(controller) {
            Some(mount) => fs::write(join(mount, path).join(file), value),
            None => Ok(()),
        };
        if let Some(shares) = limits.cpu_shares {
            set("cpu", "cpu.shares", shares.to_string())?;
        }
        if let Some(period) = limits.cpu_period_us {
            set("cpu", "cpu.cfs_period_us", period.to_string())?;
        }
        if let Some(quota) = limits.cpu_quota_us {
            set("cpu", "cpu.cfs_quota_us", quota.to_string())?;
        }
        if let Some(bytes) = limits.memory_bytes
            && let Some(mount) = self.controller("memory")
        {
            limit_memory(&join(mount, path), bytes)?;
        }
        if let Some(pids) = limits.pids {
            set("pids", "pids.max", if pids > 0 { pids.to_string() } else { "max".into() })?;
        }
        if let Some(cpus) = &limits.cpuset_cpus {
            set("cpuset", "cpuset.cpus", cpus.clone())?;
        }
        match (self.controller("hugetlb"), &limits.huge_pages) {
            (Some(mount), Some(pages)) => limit_huge_pages(&join(mount, path), "limit_in_bytes", pages),
            _ => Ok(()),
        }
    }

    /// Has the kernel kill all of a cgroup when it kills for memory: half a container is of no use. Version 1 cannot, nor a
    /// cgroup that was not handed the controller.
    pub(crate) fn die_together(&self, path: &str) -> io::Result<()> {
        let Some(mount) = self.unified.as_ref().filter(|_| self.is_unified()) else { return Ok(()) };
        let file = join(mount, path).join("memory.oom.group");
        if file.exists() { fs::write(file, "1") } else { Ok(()) }
    }

    /// The CPUs that cgroups below one may be given. Tries it, as a controller that is there need not be to be had.
    pub(crate) fn cpus(&self, path: &str) -> io::Result<String> {
        let (mount, file) = match (self.controller("cpuset"), &self.unified) {
            (Some(mount), _) => (mount, "cpuset.effective_cpus"),
            (None, Some(mount)) if self.is_unified() => (mount.as_path(), "cpuset.cpus.effective"),
            _ => return Err(io::Error::other("the cgroup controller cpuset is not mounted")),
        };
        self.create(path, &Limits::default())?;
        let probe = format!("{path}/cpuset-probe");
        let tried = self.create(&probe, &Limits::default()).and_then(|()| {
            let directory = join(mount, &probe);
            let cpus = fs::read_to_string(directory.join(file))?.trim().to_owned();
            if cpus.is_empty() {
                return Err(io::Error::other(format!("{file} is empty")));
            }
            fs::write(directory.join("cpuset.cpus"), &cpus)?;
            Ok(cpus)
        });
        self.remove(&probe)?;
        tried.map_err(|cause| {
            io::Error::new(cause.kind(), format!("the cgroup controller cpuset is not to be had: {cause}"))
        })
    }

    /// The pids in this cgroup and below, from the hierarchy that a process joins first.
    pub(crate) fn processes(&self, path: &str) -> Vec<i32> {
        let mut pids = Vec::new();
        if let Some(mount) = self.mounts().first() {
            visit(&join(mount, path), DEPTH_MAX, &mut |directory| {
                let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
            });
        }
        pids
    }

    /// Kills all that is in it, again and again until nothing is: what forks while it is killed is killed too.
    pub(crate) fn kill(&self, path: &str) {
        for _ in 0..REMOVE_TRIES_MAX {
            if self.is_unified()
                && let Some(mount) = &self.unified
            {
                let _ = fs::write(join(mount, path).join("cgroup.kill"), "1");
            }
            let pids = self.processes(path);
            if pids.is_empty() {
                return;
            }
            for pid in pids {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            self.hurry(path);
            std::thread::sleep(REMOVE_PAUSE);
        }
    }

    /// Lets what was killed die. A group with a CPU limit may owe minutes of it (a fork bomb, on kernels that stop processes only
    /// on their way out of a system call), and the killed wait for that as the living do. So the limit of the group goes, and
    /// that of the one above, which others live in, is set anew, which forgives what it owes.
    pub(crate) fn hurry(&self, path: &str) {
        let (file, none) = match self.controller("cpu") {
            Some(_) => ("cpu.cfs_quota_us", "-1"),
            None => ("cpu.max", "max"),
        };
        let Some(mount) = self.controller("cpu").or(self.unified.as_deref()) else { return };
        let group = join(mount, path);
        // A group that is gone by now has nothing to hurry.
        let _ = fs::write(group.join(file), none);
        if let Some(above) = group.parent().map(|above| above.join(file))
            && let Ok(limit) = fs::read_to_string(&above)
        {
            let _ = fs::write(above, limit.trim());
        }
    }

    /// Removes a directory and those below it from every hierarchy. What still runs in it must have been killed.
    pub(crate) fn remove(&self, path: &str) -> io::Result<()> {
        let mut last = Ok(());
        for mount in self.mounts() {
            if let Err(error) = remove_directory(&join(&mount, path)) {
                last = Err(error);
            }
        }
        last
    }

    /// Directories directly below one, over all hierarchies.
    pub(crate) fn children(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = self
            .mounts()
            .iter()
            .filter_map(|mount| fs::read_dir(join(mount, path)).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// How often the kernel killed something in this cgroup for memory.
    pub(crate) fn oom_kills(&self, path: &str) -> u64 {
        let (file, directory) = match self.controller("memory") {
            Some(mount) => ("memory.oom_control", join(mount, path)),
            None => match &self.unified {
                Some(mount) => ("memory.events", join(mount, path)),
                None => return 0,
            },
        };
        field(&directory.join(file), "oom_kill").unwrap_or(0)
    }

    /// What it used.
    pub(crate) fn stats(&self, path: &str) -> Stats {
        let number = |directory: &Path, file: &str| {
            fs::read_to_string(directory.join(file))
                .ok()
                .and_then(|t| t.trim().parse::<u64>().ok())
                .unwrap_or(0)
        };
        let mut stats = Stats { oom_kills: self.oom_kills(path), ..Stats::default() };
        if self.is_unified() {
            let Some(mount) = &self.unified else { return stats };
            let directory = join(mount, path);
            stats.cpu_usage_ns = field(&directory.join("cpu.stat"), "usage_usec").unwrap_or(0) * 1_000;
            stats.memory_usage_bytes = number(&directory, "memory.current");
            let inactive = field(&directory.join("memory.stat"), "inactive_file").unwrap_or(0);
            stats.memory_working_set_bytes = stats.memory_usage_bytes.saturating_sub(inactive);
            stats.memory_rss_bytes = field(&directory.join("memory.stat"), "anon").unwrap_or(0);
            stats.pids = number(&directory, "pids.current");
            stats.pids_max = number(&directory, "pids.max");
            stats.pressure = pressure(&directory);
            let cpu = |name: &str| field(&directory.join("cpu.stat"), name).unwrap_or(0);
            stats.cpu_user_ns = cpu("user_usec") * 1_000;
            stats.cpu_system_ns = cpu("system_usec") * 1_000;
            stats.cpu_periods = [cpu("nr_periods"), cpu("nr_throttled"), cpu("throttled_usec") * 1_000];
            let memory = |name: &str| field(&directory.join("memory.stat"), name).unwrap_or(0);
            stats.memory_swap_bytes = number(&directory, "memory.swap.current");
            stats.memory_cache_bytes = memory("file");
            // Without a bound it says `max`.
            stats.memory_limit_bytes = number(&directory, "memory.max");
            stats.page_faults = ["pgfault", "pgmajfault"].map(memory);
            return stats;
        }
        if let Some(mount) = self.controller("cpuacct") {
            let directory = join(mount, path);
            stats.cpu_usage_ns = number(&directory, "cpuacct.usage");
            let ticks = |name: &str| field(&directory.join("cpuacct.stat"), name).unwrap_or(0) * TICK_NS;
            (stats.cpu_user_ns, stats.cpu_system_ns) = (ticks("user"), ticks("system"));
        }
        if let Some(mount) = self.controller("cpu") {
            let file = join(mount, path).join("cpu.stat");
            stats.cpu_periods =
                ["nr_periods", "nr_throttled", "throttled_time"].map(|name| field(&file, name).unwrap_or(0));
        }
        if let Some(mount) = self.controller("memory") {
            let directory = join(mount, path);
            stats.memory_usage_bytes = number(&directory, "memory.usage_in_bytes");
            let inactive = field(&directory.join("memory.stat"), "total_inactive_file").unwrap_or(0);
            stats.memory_working_set_bytes = stats.memory_usage_bytes.saturating_sub(inactive);
            stats.memory_rss_bytes = field(&directory.join("memory.stat"), "total_rss").unwrap_or(0);
            let memory = |name: &str| field(&directory.join("memory.stat"), name).unwrap_or(0);
            stats.memory_cache_bytes = memory("total_cache");
            stats.memory_swap_bytes = memory("total_swap");
            let limit = number(&directory, "memory.limit_in_bytes");
            stats.memory_limit_bytes = if limit < UNBOUNDED { limit } else { 0 };
            stats.page_faults = ["total_pgfault", "total_pgmajfault"].map(memory);
        }
        if let Some(mount) = self.controller("pids") {
            stats.pids = number(&join(mount, path), "pids.current");
            stats.pids_max = number(&join(mount, path), "pids.max");
        }
        // Where the controllers are of version 1, a tree of version 2 beside them may count this.
        stats.pressure = self.unified.as_ref().and_then(|mount| pressure(&join(mount, path)));
        stats
    }

    /// What went between it and disks.
    pub(crate) fn disk_io(&self, path: &str) -> Vec<DiskIo> {
        let mut all = BTreeMap::new();
        let read = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
        if self.is_unified() {
            if let Some(mount) = &self.unified {
                read_io(&read(join(mount, path).join("io.stat")), &mut all);
            }
        } else if let Some(mount) = self.controller("blkio") {
            let directory = join(mount, path);
            for (is_operations, file) in
                [(false, "io_service_bytes_recursive"), (true, "io_serviced_recursive")]
            {
                let text = read(directory.join(format!("blkio.throttle.{file}")));
                read_blkio(&text, is_operations, &mut all);
            }
        }
        all.into_values().collect()
    }

    /// Moves the calling process, which must have one thread only, in.
    pub(crate) fn join_self(&self, path: &str) -> io::Result<()> {
        for mut file in self.open_members(path)? {
            file.write_all(b"0")?;
        }
        Ok(())
    }
}

/// The cgroup of a pod, from the mount point of a hierarchy.
pub(crate) fn pod_path(parent: &str, qos: Qos, uid: &str) -> String {
    match qos.directory() {
        "" => format!("/{parent}/pod{uid}"),
        class => format!("/{parent}/{class}/pod{uid}"),
    }
}

fn join(mount: &Path, path: &str) -> PathBuf {
    mount.join(path.trim_start_matches('/'))
}

fn make_directory(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Limits memory, and with swap to the same: swap must not make up for what was limited. The sum may at no time be less than
/// its part, so the order depends on the direction.
fn limit_memory(directory: &Path, bytes: i64) -> io::Result<()> {
    let (memory, both) =
        (directory.join("memory.limit_in_bytes"), directory.join("memory.memsw.limit_in_bytes"));
    let text = bytes.to_string();
    // Kernels may not account for swap.
    if !both.exists() {
        return fs::write(memory, text);
    }
    if fs::write(&memory, &text).is_ok() {
        return fs::write(both, text);
    }
    fs::write(both, &text)?;
    fs::write(memory, text)
}

/// A version 1 cpuset takes no task until it has CPUs and memory nodes of its own.
fn inherit_cpuset(parent: &Path, child: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if fs::read_to_string(child.join(file))?.trim().is_empty() {
            fs::write(child.join(file), fs::read_to_string(parent.join(file))?)?;
        }
    }
    Ok(())
}

/// Limits every size of pages that the kernel has: `hugetlb.2MB.max`.
fn limit_huge_pages(directory: &Path, ending: &str, pages: &BTreeMap<u64, u64>) -> io::Result<()> {
    for entry in fs::read_dir(directory)?.flatten() {
        let name = entry.file_name();
        let size =
            name.to_str().and_then(|n| n.strip_prefix("hugetlb.")?.strip_suffix(ending)?.strip_suffix('.'));
        // Reserved pages too, where the kernel counts them: a reservation too many is an error to whoever asks for it, a
        // page too many kills.
        let size = size.map(|s| s.strip_suffix(".rsvd").unwrap_or(s));
        if let Some(size) = size.and_then(page_size) {
            fs::write(entry.path(), pages.get(&size).copied().unwrap_or(0).to_string())?;
        }
    }
    Ok(())
}

/// `2MB` as the kernel names its files.
fn page_size(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.len().checked_sub(2)?);
    let shift = match unit {
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// How those in a cgroup of version 2 were held up.
fn pressure(directory: &Path) -> Option<[Pressure; 3]> {
    let read = |what: &str| {
        let text = fs::read_to_string(directory.join(format!("{what}.pressure"))).ok()?;
        let stall = |kind: &str| text.lines().find_map(|line| read_stall(line.strip_prefix(kind)?));
        // What tells of none that held all of them up had none.
        Some(Pressure { some: stall("some ")?, full: stall("full ").unwrap_or_default() })
    };
    Some([read("cpu")?, read("memory")?, read("io")?])
}

/// `avg10=0.50 avg60=0.00 avg300=0.00 total=7`.
fn read_stall(text: &str) -> Option<Stall> {
    let mut stall = Stall::default();
    for (name, value) in text.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
        let hundredths = || value.parse::<f64>().ok().map(|percent| (percent * 100.0).round() as u32);
        match name {
            "avg10" => stall.averages[0] = hundredths()?,
            "avg60" => stall.averages[1] = hundredths()?,
            "avg300" => stall.averages[2] = hundredths()?,
            "total" => stall.total_us = value.parse().ok()?,
            _ => {}
        }
    }
    Some(stall)
}

type Io = BTreeMap<(u32, u32), DiskIo>;

fn io_of<'a>(all: &'a mut Io, device: &str) -> Option<&'a mut DiskIo> {
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    Some(all.entry(device).or_insert(DiskIo { device, ..DiskIo::default() }))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`.
fn read_io(text: &str, all: &mut Io) {
    for line in text.lines() {
        let Some((device, figures)) = line.split_once(' ') else { continue };
        let Some(io) = io_of(all, device) else { continue };
        for (name, value) in figures.split_ascii_whitespace().filter_map(|word| word.split_once('=')) {
            let to = match name {
                "rbytes" => &mut io.bytes[0],
                "wbytes" => &mut io.bytes[1],
                "rios" => &mut io.operations[0],
                "wios" => &mut io.operations[1],
                _ => continue,
            };
            *to = value.parse().unwrap_or(0);
        }
    }
}

/// `8:0 Read 1`.
fn read_blkio(text: &str, is_operations: bool, all: &mut Io) {
    for line in text.lines() {
        let [device, name, value] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] else { continue };
        let at = match name {
            "Read" => 0,
            "Write" => 1,
            _ => continue,
        };
        let Some(io) = io_of(all, device) else { continue };
        let to = if is_operations { &mut io.operations } else { &mut io.bytes };
        to[at] = value.parse().unwrap_or(0);
    }
}

/// Children first.
fn visit(directory: &Path, depth: usize, each: &mut dyn FnMut(&Path)) {
    if depth > 0
        && let Ok(entries) = fs::read_dir(directory)
    {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                visit(&entry.path(), depth - 1, each);
            }
        }
        each(directory);
    }
}

fn remove_directory(directory: &Path) -> io::Result<()> {
    let mut last = Ok(());
    visit(directory, DEPTH_MAX, &mut |path| {
        for _ in 0..REMOVE_TRIES_MAX {
            match fs::remove_dir(path) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => {
                    last = Err(error);
                    std::thread::sleep(REMOVE_PAUSE);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    last = Err(error);
                    return;
                }
                _ => {
                    last = Ok(());
                    return;
                }
            }
        }
    });
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hybrid_machine_has_its_controllers_in_their_own_trees() {
        let tree = Tree::parse(
            "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw\n",
        );
        assert!(!tree.is_unified());
        assert_eq!(tree.controller("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(tree.controller("memory"), None);
        assert_eq!(tree.mounts().len(), 3);
    }

    #[test]
    fn a_unified_machine_has_one() {
        let tree = Tree::parse("41 31 0:38 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n");
        assert!(tree.is_unified());
        assert_eq!(tree.mounts(), [PathBuf::from("/sys/fs/cgroup")]);
    }

    #[test]
    fn what_went_to_disks_is_read_of_both_versions() {
        let mut all = Io::new();
        read_blkio("8:0 Read 10\n8:0 Write 20\n8:0 Sync 5\n8:0 Total 30\nTotal 30\n", false, &mut all);
        read_blkio("8:0 Read 1\n8:0 Write 2\n252:16 Write 3\nTotal 6\n", true, &mut all);
        let other = DiskIo { device: (252, 16), operations: [0, 3], ..DiskIo::default() };
        let want = [DiskIo { device: (8, 0), bytes: [10, 20], operations: [1, 2] }, other];
        assert_eq!(all.into_values().collect::<Vec<_>>(), want);
    }

    #[test]
    fn a_pod_lives_under_its_class() {
        assert_eq!(pod_path("stoa-a", Qos::Burstable, "u1"), "/stoa-a/burstable/podu1");
        assert_eq!(pod_path("stoa-a", Qos::Guaranteed, "u1"), "/stoa-a/podu1");
    }
}
