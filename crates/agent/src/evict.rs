//! Keeps the machine out of want: measures it, says what it is short of, collects images, and at last evicts pods, one at a
//! time, so that each loss is felt before the next.

use crate::collect::{Bounds, Collector, excess, insufficient, unneeded};
use crate::events::Kind;
use crate::limits;
use crate::machine::Machine;
use crate::node;
use crate::pod::{self, Part};
use crate::pressure::{self, Candidate, Conditions, Crossed, Share, Signal, Since, Threshold};
use crate::shared::{LivePod, Shared};
use crate::stats::{read_disk, read_machine};
use crate::storage_limit::{self, Used};
use k8s_openapi::api::core::v1::ResourceRequirements;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::{Quantity, Time};
use stoa_wire::NodeCondition;

/// How often the machine is measured.
pub(crate) const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// How often containers are sampled, in measures.
const SAMPLE_EVERY: u64 = 5;
/// How often the load is looked at where something is lent, in measures.
const LOAD_EVERY: u64 = 3;
/// How often the disk's images are looked at, in measures.
const COLLECT_EVERY: u64 = 15;
/// How often it is told that collecting them is not enough.
const INSUFFICIENT_EVERY: Duration = Duration::from_secs(300);
/// Files that are counted to say how much of the disk a pod uses.
const FILES_MAX: usize = 200_000;
/// How long a pod has whose end the machine cannot wait for.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How long an evicted pod's memory may take to come back before another one is looked for.
const SETTLE: Duration = Duration::from_secs(10);
/// How often it is told that the machine tries to help itself.
const ATTEMPTS_EVERY: Duration = Duration::from_secs(10);

/// What a measure led to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// Pods to end.
    pub(crate) victims: Vec<Victim>,
    /// The conditions are others than before.
    pub(crate) changed: bool,
}

/// A pod that has to go.
#[derive(Debug, PartialEq)]
pub(crate) struct Victim {
    pub(crate) uid: String,
    /// What it is told.
    pub(crate) message: String,
    /// What programs are told besides.
    pub(crate) notes: BTreeMap<String, String>,
    /// Whether it goes for the good of others, or for what it did itself.
    pub(crate) cause: Cause,
    /// How long it may take to end.
    pub(crate) grace: Duration,
}

/// For whose good a pod goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Others,
    ItsOwn,
}

/// See the module.
pub(crate) struct Keeper {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    ticks: u64,
    conditions: Conditions,
    since: Since,
    shown: Vec<NodeCondition>,
    settle_until: Option<Time>,
    attempt_told: Option<Time>,
    insufficient_told: Option<Time>,
    collector: Collector,
    /// The disk has no size, and that was said.
    is_sizeless: bool,
}

impl State {
    /// What is said of a disk of this size: once when it is none, until it is one again.
    fn note_size(&mut self, total: u64) -> Option<&'static str> {
        let is_new = total == 0 && !self.is_sizeless;
        self.is_sizeless = total == 0;
        is_new.then_some("invalid capacity 0 on image filesystem")
    }

    /// Whether another attempt to help itself is told.
    fn note_attempt(&mut self, now: Time) -> bool {
        note(&mut self.attempt_told, ATTEMPTS_EVERY, now)
    }
}

/// Whether something is told again that was told `last`.
fn note(last: &mut Option<Time>, every: Duration, now: Time) -> bool {
    let is_told = last.is_none_or(|at| now.since(at) >= every);
    if is_told {
        *last = Some(now);
    }
    is_told
}

impl Keeper {
    pub(crate) fn new(now: Time, hold: Duration) -> Keeper {
        let shown = Conditions::default().render(now, hold);
        Keeper { state: Mutex::new(State { shown, ..State::default() }) }
    }

    /// The node's conditions.
    pub(crate) fn conditions(&self) -> Vec<NodeCondition> {
        self.state.lock().shown.clone()
    }

    /// Measures, samples, collects; says whether the conditions changed and whether a pod has to go.
    pub(crate) async fn tick(&self, shared: &Arc<Shared>) -> Verdict {
        let ticks = {
            let mut state = self.state.lock();
            state.ticks += 1;
            state.ticks
        };
        if ticks % SAMPLE_EVERY == 1 {
            let shared = Arc::clone(shared);
            let looked =
                tokio::task::spawn_blocking(move || shared.sampler.look(&*shared.machine, shared.now()));
            let _ = looked.await;
        }
        if ticks % COLLECT_EVERY == 1 {
            self.collect(shared, None).await;
        }
        if ticks % LOAD_EVERY == 1
            && let Some(message) = overload(shared)
        {
            let victims = lent_to(shared, &message);
            if !victims.is_empty() {
                return Verdict { victims, changed: false };
            }
        }
        let crossed = look(shared);
        let now = shared.now();
        let hold = shared.options.pressure_hold;
        let (changed, settled, due) = {
            let mut state = self.state.lock();
            state.conditions.note(&crossed, now);
            let shown = state.conditions.render(now, hold);
            let changed = shown != state.shown;
            state.shown = shown;
            let due = state.since.due(&crossed, now);
            (changed, state.settle_until.is_none_or(|at| at <= now), due)
        };
        let mut victims = if ticks % SAMPLE_EVERY == 1 { over_limits(shared).await } else { Vec::new() };
        let Some(worst) = due.first().copied().filter(|_| settled) else {
            return Verdict { victims, changed };
        };
        if self.state.lock().note_attempt(now) {
            let message = format!("Attempting to reclaim {}", worst.threshold.signal.resource());
            shared.recorder.record_node(&shared.options.name, Kind::Warning, "EvictionThresholdMet", message);
        }
        // Images first: nobody misses what a registry can give again.
        if matches!(
            worst.threshold.signal,
            Signal::Disk | Signal::ImageDisk | Signal::Inodes | Signal::ImageInodes
        ) {
            self.collect(shared, Some(worst.wanted.saturating_sub(worst.left))).await;
            if !look(shared).iter().any(|c| c.threshold.signal == worst.threshold.signal) {
                return Verdict { victims, changed };
            }
        }
        let victim = find_victim(shared, &worst).await;
        if victim.is_some() {
            self.state.lock().settle_until = Some(now.plus(SETTLE));
        }
        victims.extend(victim);
        Verdict { victims, changed }
    }

    /// Removes images that are not needed: `bytes` of them, or as many as the bounds ask for.
    async fn collect(&self, shared: &Arc<Shared>, bytes: Option<u64>) {
        let images = shared.machine.stored_images().await;
        let used = used_images(shared, &images, &[]);
        let now = shared.now();
        let options = &shared.options;
        let disk = read_disk(&options.data_dir);
        let invalid = self.state.lock().note_size(disk.total);
        if let Some(message) = invalid {
            shared.recorder.record_node(&options.name, Kind::Warning, "InvalidDiskCapacity", message);
        }
        let bounds = Bounds { high: options.image_gc_high_percent, low: options.image_gc_low_percent };
        let is_urgent = bytes.is_some();
        let bytes = bytes.or_else(|| excess(disk.total, disk.available, bounds));
        let chosen = {
            let mut state = self.state.lock();
            state.collector.note(&images, &used, now);
            bytes.map(|b| state.collector.choose(&images, &used, b, now)).unwrap_or_default()
        };
        let before = disk.available;
        let Some(bytes) = bytes else { return };
        for id in chosen {
            match shared.machine.remove_image(&id).await {
                Ok(()) => tracing::info!(image = %id, "collected an image that nobody uses"),
                Err(error) => tracing::warn!(image = %id, %error, "cannot collect an image"),
            }
            if read_disk(&options.data_dir).available.saturating_sub(before) >= bytes {
                return;
            }
        }
        if !is_urgent && note(&mut self.state.lock().insufficient_told, INSUFFICIENT_EVERY, now) {
            let freed = read_disk(&options.data_dir).available.saturating_sub(before);
            let message = insufficient(disk.total, disk.available, freed);
            shared.recorder.record_node(&options.name, Kind::Warning, "FreeDiskSpaceFailed", message);
        }
    }
}

/// Why what is lent has to be taken back, if so.
fn overload(shared: &Shared) -> Option<String> {
    let bounds = shared.options.revocable_load_max;
    if bounds == [None; 2] {
        return None;
    }
    let text = std::fs::read_to_string("/proc/loadavg").ok()?;
    let mut loads = text.split_ascii_whitespace().skip(1).map_while(|w| w.parse::<f64>().ok());
    let over = ["5 minutes", "15 minutes"].into_iter().zip(bounds).find_map(|(span, max)| {
        let load = loads.next()?;
        max.filter(|max| load > *max).map(|max| (span, load, max))
    });
    let (span, load, max) = over?;
    Some(format!("The average load of {span} is {load}, above {max}: what was lent is taken back"))
}

/// Pods that have what is lent.
fn lent_to(shared: &Shared, message: &str) -> Vec<Victim> {
    let live = shared.live.lock();
    let is_lent = |l: &&LivePod| {
        let notes = l.object.metadata.annotations.as_ref();
        let is_said = notes.is_some_and(|a| a.contains_key(node::REVOCABLE_ANNOTATION));
        l.is_active && (is_said || shared.executors.is_lent(&l.pod.uid))
    };
    let one = |l: &LivePod| Victim {
        uid: l.pod.uid.clone(),
        message: message.to_owned(),
        notes: BTreeMap::new(),
        cause: Cause::Others,
        grace: AT_ONCE,
    };
    live.values().filter(is_lent).map(one).collect()
}

fn look(shared: &Shared) -> Vec<Crossed> {
    let allotted = shared.allotted_memory();
    let used = if allotted > 0 { shared.machine.memory_used() } else { 0 };
    let measures = pressure::measure(&read_machine(), &read_disk(&shared.options.data_dir), allotted, used);
    let options = &shared.options;
    let all: Vec<Threshold> = options.eviction_hard.iter().chain(&options.eviction_soft).copied().collect();
    pressure::crossed(&all, &measures)
}

/// Removes every image that a registry could give again, save those that pods need and those named in `kept`.
///
/// # Errors
///
/// What could not be removed, and why; the others are gone.
pub(crate) async fn prune(shared: &Shared, kept: &[String]) -> Result<(), String> {
    let images = shared.machine.stored_images().await;
    let used = used_images(shared, &images, kept);
    let mut failures = Vec::new();
    for id in unneeded(&images, &used) {
        match shared.machine.remove_image(&id).await {
            Ok(()) => tracing::info!(image = %id, "pruned an image that nobody uses"),
            Err(error) => failures.push(format!("{id}: {error}")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

/// Ids of the images that pods of this node need, and of those that have one of the `further` names.
fn used_images(
    shared: &Shared,
    images: &[crate::collect::StoredImage],
    further: &[String],
) -> BTreeSet<String> {
    let canonical =
        |name: &str| stoa_image::Reference::parse(name).map_or_else(|_| name.to_owned(), |r| r.to_string());
    let live = shared.live.lock();
    let wanted: BTreeSet<String> = live
        .values()
        .filter(|l| l.connected)
        .flat_map(|l| crate::images::of(&l.object))
        .chain(further.iter().cloned())
        .map(|n| canonical(&n))
        .collect();
    images
        .iter()
        .filter(|i| i.names.iter().any(|n| wanted.contains(n)) || wanted.contains(&i.id))
        .map(|i| i.id.clone())
        .collect()
}

/// Pods that use more of the disk than their own limits allow.
async fn over_limits(shared: &Arc<Shared>) -> Vec<Victim> {
    let pods: Vec<LivePod> = {
        let live = shared.live.lock();
        let limited =
            live.values().filter(|l| l.connected && l.is_active && storage_limit::is_limited(&l.object));
        limited.cloned().collect()
    };
    let keep = Arc::clone(shared);
    let look = move || {
        let over = |l: &LivePod| {
            let message = storage_limit::exceeded(&l.object, &disk_use(&keep, l))?;
            let (uid, notes) = (l.pod.uid.clone(), BTreeMap::new());
            Some(Victim { uid, message, notes, cause: Cause::ItsOwn, grace: AT_ONCE })
        };
        pods.iter().filter_map(over).collect()
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

fn disk_use(shared: &Shared, live: &LivePod) -> Used {
    let mut used = Used::default();
    if let Ok(dir) = shared.volumes.pod_dir(&live.pod.uid) {
        let volumes =
            live.object.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| {
                v.empty_dir.as_ref().is_some_and(|d| d.medium.as_deref().is_none_or(str::is_empty))
            });
        used.shared = ["etc", "containers"].iter().map(|d| usage(&dir.join(d)).0).sum();
        used.volumes =
            volumes.map(|v| (v.name.clone(), usage(&dir.join("volumes").join(&v.name)).0)).collect();
    }
    for (name, container) in &live.containers {
        let upper = container.running.as_deref().and_then(|id| shared.machine.upper_dir(id));
        let logs = shared.logs_of(&live.pod).join(name);
        used.containers.insert(name.clone(), upper.iter().chain([&logs]).map(|d| usage(d).0).sum());
    }
    used
}

/// The pod that has to go, and what it is told.
async fn find_victim(shared: &Arc<Shared>, crossed: &Crossed) -> Option<Victim> {
    let signal = crossed.threshold.signal;
    // Who is being deleted and takes its time is as good as any, and better than one that nobody wants gone.
    let may_go = |l: &&LivePod| l.connected && (l.is_active || l.is_deleted);
    let pods: Vec<LivePod> = shared.live.lock().values().filter(may_go).cloned().collect();
    let keep = Arc::clone(shared);
    let measured =
        tokio::task::spawn_blocking(move || pods.iter().map(|p| candidate(&keep, p, signal)).collect());
    let candidates: Vec<Candidate> = measured.await.ok()?;
    let victim = pressure::rank(candidates).into_iter().next()?;
    let message = pressure::words(crossed, &victim);
    let is_soft = !crossed.threshold.grace.is_zero();
    let grace = if is_soft { shared.options.eviction_max_pod_grace.max(AT_ONCE) } else { AT_ONCE };
    let notes = pressure::notes(signal, &victim);
    Some(Victim { uid: victim.uid, message, notes, cause: Cause::Others, grace })
}

fn candidate(shared: &Shared, live: &LivePod, signal: Signal) -> Candidate {
    let machine: &dyn Machine = &*shared.machine;
    let pod = &*live.object;
    let resource = signal.resource();
    let asked = |r: Option<&ResourceRequirements>| {
        let text = r?.requests.as_ref()?.get(resource)?;
        Quantity::parse(&text.0).ok()
    };
    let mut out = Candidate {
        uid: live.pod.uid.clone(),
        priority: pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0),
        ..Candidate::default()
    };
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.contains_key("kubernetes.io/config.mirror")) {
        out.priority = pressure::CRITICAL_PRIORITY;
    }
    for (name, container) in &live.containers {
        let Some(id) = container.running.as_deref() else { continue };
        let used = match signal {
            Signal::Memory => machine.stats(id).map_or(0, |s| s.memory_working_set_bytes),
            Signal::Tasks => machine.stats(id).map_or(0, |s| s.pids),
            Signal::Disk | Signal::ImageDisk | Signal::Inodes | Signal::ImageInodes => {
                let dirs = [machine.upper_dir(id), Some(shared.logs_of(&live.pod).join(name))];
                let (bytes, files) =
                    dirs.iter().flatten().map(|d| usage(d)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
                if signal.is_counted() { files } else { bytes }
            }
        };
        out.used += used;
        // One that came to look at the others can ask for nothing, and is not blamed for that.
        if let Some((_, spec)) = pod::find(pod, name).filter(|(part, _)| *part != Part::Ephemeral) {
            let requested = asked(spec.resources.as_ref()).unwrap_or(Quantity::from_value(0));
            out.containers.push(Share { name: name.clone(), used, requested });
        }
    }
    match signal {
        Signal::Memory => {
            // Also what no container of it is charged for any more.
            out.used = machine.pod_stats(&live.pod.uid).map_or(out.used, |s| s.memory_working_set_bytes);
            out.requested = limits::claim(pod).1;
            let own = asked(pod.spec.as_ref().and_then(|s| s.resources.as_ref()));
            out.own = own.map(|requested| Share { name: live.pod.name.clone(), used: out.used, requested });
        }
        Signal::Tasks => {}
        Signal::Disk | Signal::ImageDisk | Signal::Inodes | Signal::ImageInodes => {
            if let Ok(dir) = shared.volumes.pod_dir(&live.pod.uid) {
                let (bytes, files) = usage(&dir.join("volumes"));
                out.used += if signal.is_counted() { files } else { bytes };
            }
            if !signal.is_counted() {
                out.requested = pod.spec.as_ref().map_or(0, |s| stoa_sched::requests(s).disk_bytes);
            }
        }
    }
    out
}

/// Bytes and files below a directory, on its own file system, without following a link.
pub(crate) fn usage(dir: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(top) = std::fs::symlink_metadata(dir) else { return (0, 0) };
    let (mut bytes, mut files) = (0, 0_u64);
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            if files as usize >= FILES_MAX {
                return (bytes, files);
            }
            let Ok(meta) = entry.metadata() else { continue };
            files += 1;
            bytes += meta.blocks() * 512;
            if meta.is_dir() && meta.dev() == top.dev() {
                todo.push(entry.path());
            }
        }
    }
    (bytes, files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_a_size_is_told_of_once_until_it_has_one_again() {
        let mut state = State::default();
        let said: Vec<bool> = [1, 0, 0, 7, 0].map(|total| state.note_size(total).is_some()).into();
        assert_eq!(said, [false, true, false, false, true]);
    }

    #[test]
    fn attempts_are_told_ten_seconds_apart() {
        let mut state = State::default();
        let told =
            [0, 2, 9, 10, 12, 25].map(|s| state.note_attempt(Time::EPOCH.plus(Duration::from_secs(s))));
        assert_eq!(told, [true, false, false, true, false, true]);
    }
}
