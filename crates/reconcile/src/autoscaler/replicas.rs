//! How many pods a metric asks for, given what those there are use, which of them are ready and which are not measured.

use super::Usage;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use stoa_kube::typed::{Container, Pod, Quantity as Amount};
use stoa_units::Time;

/// For so long after its start a pod's CPU counts only while it is ready, and from one window after that on.
const INITIALIZATION: Duration = Duration::from_secs(300);
/// A pod whose readiness last changed within this of its start has never been ready.
const READINESS_DELAY: Duration = Duration::from_secs(30);

/// How far from its target a ratio may be without anything being done about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tolerance {
    pub up: f64,
    pub down: f64,
}

impl Tolerance {
    pub const DEFAULT: f64 = 0.1;

    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What one pod uses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    milli: i64,
    at: Time,
    window: Duration,
}

/// What pods use, by their names.
pub(super) type Samples = BTreeMap<String, Sample>;

/// Of each pod what it uses of a resource, all its containers together or one of them.
pub(super) fn metered(
    usage: &Result<Vec<Usage>, String>,
    resource: &str,
    container: &str,
) -> Result<Samples, String> {
    let usage =
        usage.as_ref().map_err(|why| format!("unable to fetch metrics from resource metrics API: {why}"))?;
    if usage.is_empty() {
        return Err("no metrics returned from resource metrics API".into());
    }
    let of = |pod: &Usage| {
        let mut wanted =
            pod.containers.iter().filter(|(name, _)| container.is_empty() || name == container).peekable();
        wanted.peek()?;
        // A pod of which a part is not measured is not measured.
        wanted.try_fold(0i64, |sum, (_, used)| Some(sum.saturating_add(*used.get(resource)?)))
    };
    let sample =
        |pod: &Usage| Some((pod.pod.clone(), Sample { milli: of(pod)?, at: pod.at, window: pod.window }));
    Ok(usage.iter().filter_map(sample).collect())
}

/// One calculation.
pub(super) struct Count<'a> {
    pub now: Time,
    pub pods: &'a [Pod],
    pub resource: &'a str,
    /// Empty for all containers of a pod.
    pub container: &'a str,
    pub current: i32,
    pub tolerance: Tolerance,
}

/// Pods by what their figures are worth.
#[derive(Default)]
struct Groups<'a> {
    ready: usize,
    unready: BTreeSet<&'a str>,
    missing: BTreeSet<&'a str>,
    ignored: BTreeSet<&'a str>,
}

impl<'a> Count<'a> {
    /// By a target of so much for each pod. Returns the number of pods, and what each uses on average.
    pub fn by_value(&self, mut samples: Samples, target: i64) -> Result<(i32, i64), String> {
        let groups = self.sort(&mut samples)?;
        let ratio = |samples: &Samples| {
            let sum: i64 = samples.values().map(|s| s.milli).fold(0, i64::saturating_add);
            let mean = sum / i64::try_from(samples.len().max(1)).unwrap_or(i64::MAX);
            Ok((mean as f64 / target as f64, mean))
        };
        let (first, mean) = ratio(&samples)?;
        let stand_in = |_: &str| target;
        let replicas =
            self.settle(samples, &groups, first, stand_in, |s| ratio(s).map(|(ratio, _)| ratio))?;
        Ok((replicas, mean))
    }

    /// By a target in percent of what pods ask for. Returns the number of pods, how many percent they use, and how much each
    /// uses on average.
    pub fn by_utilization(&self, mut samples: Samples, target: i32) -> Result<(i32, i32, i64), String> {
        let groups = self.sort(&mut samples)?;
        let requests = self.requests()?;
        let ratio = |samples: &Samples| {
            let known = samples.iter().filter_map(|(name, s)| Some((s.milli, *requests.get(name.as_str())?)));
            let (mut used, mut asked, mut count) = (0i64, 0i64, 0i64);
            for (milli, request) in known {
                used = used.saturating_add(milli);
                asked = asked.saturating_add(request);
                count += 1;
            }
            if asked == 0 {
                return Err("no metrics returned matched known pods".to_string());
            }
            let percent = i32::try_from(used.saturating_mul(100) / asked).unwrap_or(i32::MAX);
            Ok((f64::from(percent) / f64::from(target), percent, used / count))
        };
        let (first, percent, mean) = ratio(&samples)?;
        // All that it asks for, or what is aimed at where that is more.
        let share = i64::from(target.max(100));
        let stand_in =
            |name: &str| requests.get(name).map_or(0, |request| request.saturating_mul(share) / 100);
        let again = |samples: &Samples| ratio(samples).map(|(ratio, _, _)| ratio);
        let replicas = self.settle(samples, &groups, first, stand_in, again)?;
        Ok((replicas, percent, mean))
    }

    /// Takes out of the samples those that say nothing.
    fn sort(&self, samples: &mut Samples) -> Result<Groups<'a>, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let groups = self.group(samples);
        samples.retain(|name, _| {
            !groups.ignored.contains(name.as_str()) && !groups.unready.contains(name.as_str())
        });
        if samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".into());
        }
        Ok(groups)
    }

    fn group(&self, samples: &Samples) -> Groups<'a> {
        let mut groups = Groups::default();
        for pod in self.pods {
            let Some(name) = pod.metadata.name.as_deref() else { continue };
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
            if pod.metadata.deletion_timestamp.is_some() || phase == "Failed" {
                groups.ignored.insert(name);
            } else if phase == "Pending" {
                groups.unready.insert(name);
            } else if let Some(sample) = samples.get(name) {
                if self.resource == "cpu" && self.is_starting(pod, sample) {
                    groups.unready.insert(name);
                } else {
                    groups.ready += 1;
                }
            } else {
                groups.missing.insert(name);
            }
        }
        groups
    }

    /// Whether what a pod uses is of its start rather than of its work.
    fn is_starting(&self, pod: &Pod, sample: &Sample) -> bool {
        let status = pod.status.as_ref();
        let ready = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == "Ready"));
        let started = status.and_then(|s| s.start_time.as_ref()).map(|t| Time(t.0));
        let (Some(ready), Some(started)) = (ready, started) else { return true };
        let changed = ready.last_transition_time.as_ref().map_or(Time::EPOCH, |t| Time(t.0));
        let unready = ready.status == "False";
        if started.plus(INITIALIZATION) > self.now {
            unready || sample.at < changed.plus(sample.window)
        } else {
            unready && started.plus(READINESS_DELAY) > changed
        }
    }

    /// The number of pods, once those are thought of that are not measured or not ready: each is taken to use what speaks
    /// against a change. A change that they turn into its opposite is none.
    fn settle(
        &self,
        mut samples: Samples,
        groups: &Groups<'_>,
        ratio: f64,
        stand_in: impl Fn(&str) -> i64,
        again: impl Fn(&Samples) -> Result<f64, String>,
    ) -> Result<i32, String> {
        let unready_matter = !groups.unready.is_empty() && ratio > 1.0;
        if !unready_matter && groups.missing.is_empty() {
            return Ok(match self.tolerance.covers(ratio) {
                true => self.current,
                false => ceil(ratio * groups.ready as f64),
            });
        }
        let mut pretend = |name: &str, milli: i64| {
            let sample = Sample { milli, at: Time::EPOCH, window: Duration::ZERO };
            samples.insert(name.to_string(), sample);
        };
        for name in &groups.missing {
            if ratio < 1.0 {
                pretend(name, stand_in(name));
            } else if ratio > 1.0 {
                pretend(name, 0);
            }
        }
        if unready_matter {
            groups.unready.iter().for_each(|name| pretend(name, 0));
        }
        let new = again(&samples)?;
        let turned = (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0);
        if turned || self.tolerance.covers(new) {
            return Ok(self.current);
        }
        let replicas = ceil(new * samples.len() as f64);
        let turned = (new < 1.0 && replicas > self.current) || (new > 1.0 && replicas < self.current);
        Ok(if turned { self.current } else { replicas })
    }

    /// What each pod asks for, in thousandths.
    fn requests(&self) -> Result<BTreeMap<&'a str, i64>, String> {
        let mut out = BTreeMap::new();
        for pod in self.pods {
            let (Some(name), Some(spec)) = (pod.metadata.name.as_deref(), pod.spec.as_ref()) else {
                continue;
            };
            let whole = spec.resources.as_ref().and_then(|r| r.requests.as_ref()).filter(|r| !r.is_empty());
            let sidecars = spec.init_containers.iter().flatten();
            let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
            let containers = spec.containers.iter().chain(sidecars);
            let request = match whole.filter(|_| self.container.is_empty()) {
                Some(whole) => {
                    let of = |all: &BTreeMap<String, Amount>| all.get(self.resource).map(super::milli);
                    let parts: Vec<i64> = containers.filter_map(|c| of(requests_of(c)?)).collect();
                    let parts = (!parts.is_empty()).then(|| parts.iter().sum());
                    let overhead = spec.overhead.as_ref().and_then(of);
                    let sum = of(whole).or(parts).map(|n: i64| n + overhead.unwrap_or(0)).or(overhead);
                    sum.ok_or_else(|| {
                        format!("missing pod-level request for {} in Pod {name}", self.resource)
                    })?
                }
                None => self.sum(name, containers)?,
            };
            out.insert(name, request);
        }
        Ok(out)
    }

    fn sum<'b>(&self, pod: &str, containers: impl Iterator<Item = &'b Container>) -> Result<i64, String> {
        let mut sum = 0i64;
        for c in containers.filter(|c| self.container.is_empty() || c.name == self.container) {
            let amount = requests_of(c).and_then(|all| all.get(self.resource)).ok_or_else(|| {
                format!("missing request for {} in container {} of Pod {pod}", self.resource, c.name)
            })?;
            sum = sum.saturating_add(super::milli(amount));
            if !self.container.is_empty() {
                return Ok(sum);
            }
        }
        match self.container.is_empty() {
            true => Ok(sum),
            false => Err(format!("container {} not found in Pod {pod}", self.container)),
        }
    }
}

fn requests_of(container: &Container) -> Option<&BTreeMap<String, Amount>> {
    container.resources.as_ref()?.requests.as_ref()
}

/// Upwards, and within what fits.
fn ceil(n: f64) -> i32 {
    n.ceil() as i32
}
