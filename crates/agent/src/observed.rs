//! What the agent knows of one pod: its sandbox, and for each container what it does now, how it last ended and how
//! long it must wait. Plain data: the worker writes it, [`crate::plan`] and [`crate::status`] read it.

use crate::status::{RESTARTING_ALL, RESTARTING_ALL_WORDS};
use k8s_openapi::api::core::v1::ResourceRequirements;
use std::collections::BTreeMap;
use std::time::Duration;
use stoa_units::Time;

/// A container that keeps failing waits this long before its second restart, then twice as long each time, …
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// … up to this long.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// A container that ran this long has recovered, and waits no more.
const RECOVERED_AFTER: Duration = Duration::from_secs(600);

/// The pod's surroundings.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Sandbox {
    /// Nothing was made, or making it failed and is tried again then.
    Missing { retry_at: Option<Time> },
    /// Cgroup, namespaces, network and volumes are there.
    Ready { ips: Vec<String> },
    /// Everything was taken down.
    Removed,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) id: String,
    pub(crate) code: i32,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) started_at: Option<Time>,
    pub(crate) finished_at: Time,
}

/// What a container does now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Life {
    /// Not started yet.
    Absent,
    /// A start failed before there was a process.
    Refused { reason: String, message: String, retry_at: Time },
    /// Its command runs.
    Running { id: String, started_at: Time },
    /// Its command ended.
    Ended(Ended),
}

/// One container as seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) life: Life,
    /// How it ended the time before.
    pub(crate) last: Option<Ended>,
    /// How often it was started again.
    pub(crate) restarts: u32,
    /// Starts so far; names the log file.
    pub(crate) attempts: u32,
    /// How long it must rest after its end.
    pub(crate) backoff: Duration,
    /// How often its image was missed in a row.
    pub(crate) refusals: u32,
    /// The startup probe succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(crate) ready: bool,
    /// A kill is under way.
    pub(crate) killing: bool,
    /// Its postStart hook has not ended yet.
    pub(crate) hooking: bool,
    /// Resources that its cgroup has. Unknown of containers that an earlier version started.
    pub(crate) resources: Option<ResourceRequirements>,
    /// What its pod named for itself when those were set: it bounds a container that names no limit.
    pub(crate) of_pod: Option<ResourceRequirements>,
    /// Who it runs as: user, group and further groups.
    pub(crate) user: Option<(u32, u32, Vec<u32>)>,
    /// Digest of the image it runs.
    pub(crate) image_id: String,
    /// Name of that image, as the spec had it.
    pub(crate) image: String,
    /// The whole pod was sent back to its beginning, and this one has not started since.
    pub(crate) anew: bool,
    /// How its postStart hook failed, for which it is ended.
    pub(crate) hook_error: Option<String>,
    /// When it was to be tried again, had nothing been pushed meanwhile that might help.
    pub(crate) early: Option<Time>,
    /// It has just ended, and nobody was told yet.
    pub(crate) is_news: bool,
    /// It is being ended so that it starts again, not by itself.
    pub(crate) recycled: bool,
    /// It was ended so that it starts again and need not rest; this long must its next life after its end.
    pub(crate) at_once: Option<Duration>,
}

impl Default for Seen {
    fn default() -> Seen {
        Seen {
            life: Life::Absent,
            last: None,
            restarts: 0,
            attempts: 0,
            backoff: Duration::ZERO,
            refusals: 0,
            started: false,
            ready: false,
            killing: false,
            hooking: false,
            resources: None,
            of_pod: None,
            user: None,
            image_id: String::new(),
            image: String::new(),
            anew: false,
            hook_error: None,
            early: None,
            is_news: false,
            recycled: false,
            at_once: None,
        }
    }
}

impl Seen {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// Whether it is said to run: the first time, not before its postStart hook has ended.
    pub(crate) fn is_shown_running(&self) -> bool {
        self.is_running() && !(self.hooking && self.attempts <= 1)
    }

    /// Whether it runs and has done what it must do before those after it may start.
    pub(crate) fn has_started(&self) -> bool {
        self.is_running() && self.started && !self.hooking
    }

    pub(crate) fn running_id(&self) -> Option<&str> {
        match &self.life {
            Life::Running { id, .. } => Some(id),
            _ => None,
        }
    }

    pub(crate) fn ended(&self) -> Option<&Ended> {
        match &self.life {
            Life::Ended(e) => Some(e),
            _ => None,
        }
    }

    /// The id of the container that is or was, whatever it does.
    pub(crate) fn id(&self) -> Option<&str> {
        match &self.life {
            Life::Running { id, .. } => Some(id),
            Life::Ended(e) => Some(&e.id),
            Life::Absent | Life::Refused { .. } => None,
        }
    }

    /// When it may be started (again).
    pub(crate) fn may_start_at(&self) -> Option<Time> {
        match &self.life {
            Life::Absent => None,
            Life::Refused { retry_at, .. } => Some(*retry_at),
            Life::Running { .. } => None,
            Life::Ended(e) if self.at_once.is_some() => Some(e.finished_at),
            Life::Ended(e) => Some(e.finished_at.plus(self.rest(e))),
        }
    }

    /// How long it must rest after the end of its next life, if it rests this long before it.
    fn next_backoff(rested: Duration) -> Duration {
        if rested.is_zero() { BACKOFF_FIRST } else { (rested * 2).min(BACKOFF_MAX) }
    }

    fn rest(&self, ended: &Ended) -> Duration {
        let ran = ended.started_at.map_or(Duration::ZERO, |s| ended.finished_at.since(s));
        if ran >= RECOVERED_AFTER { Duration::ZERO } else { self.backoff }
    }

    /// Records a start.
    pub(crate) fn begin(&mut self, id: String, started_at: Time, image_id: String) {
        if let Life::Ended(ended) = std::mem::replace(&mut self.life, Life::Running { id, started_at }) {
            self.last = Some(ended);
        }
        // A start that was refused in between does not make the next one a first.
        if self.attempts > 0 {
            let rested = self.last.as_ref().map_or(Duration::ZERO, |ended| self.rest(ended));
            self.backoff = match self.at_once.take() {
                Some(backoff) => backoff,
                // It begins anew, and what was before does not count.
                None if self.anew => self.backoff,
                None => Self::next_backoff(rested),
            };
            self.restarts = self.restarts_next();
        }
        self.attempts += 1;
        self.refusals = 0;
        self.early = None;
        self.killing = false;
        self.anew = false;
        self.hook_error = None;
        self.image_id = image_id;
    }

    /// Whether it cannot be made of what the pod and the objects it refers to say.
    pub(crate) fn is_refused_config(&self) -> bool {
        matches!(&self.life, Life::Refused { reason, .. } if reason == "CreateContainerConfigError")
    }

    /// Whether it was refused in these words before, and tried again only because something was pushed that did not help.
    pub(crate) fn is_refused_alike(&self, words: &str) -> bool {
        self.early.is_some() && matches!(&self.life, Life::Refused { message, .. } if message == words)
    }

    /// How often it will have been started again, once it is started.
    pub(crate) fn restarts_next(&self) -> u32 {
        // Sending it back to its beginning was counted already.
        self.restarts + u32::from(self.attempts > 0 && !self.anew)
    }

    /// Forgets that it ran, but for how often: the pod begins again. How it ended is not told either, as a kubelet does not
    /// know it of what it removed.
    pub(crate) fn start_over(&mut self) {
        if let Life::Ended(ended) = std::mem::replace(&mut self.life, Life::Absent) {
            self.last = Some(Ended {
                id: String::new(),
                code: 137,
                signal: None,
                reason: RESTARTING_ALL.to_owned(),
                message: RESTARTING_ALL_WORDS.to_owned(),
                started_at: None,
                finished_at: ended.finished_at,
            });
            self.restarts += 1;
            (self.anew, self.is_news, self.at_once) = (true, true, None);
        }
        (self.started, self.ready, self.hooking) = (false, false, false);
    }

    /// Records an end. One that was ended so that it starts again rests only if it should still rest from the end before: of
    /// this end a kubelet does not know yet when it decides.
    pub(crate) fn end(&mut self, ended: Ended) {
        self.at_once = std::mem::take(&mut self.recycled)
            .then(|| match &self.last {
                None => Some(Duration::ZERO),
                Some(last) => {
                    let rest = self.rest(last);
                    (last.finished_at.plus(rest) <= ended.finished_at).then(|| Self::next_backoff(rest))
                }
            })
            .flatten();
        self.life = Life::Ended(ended);
        self.is_news = true;
        self.started = false;
        self.ready = false;
        self.killing = false;
        self.hooking = false;
    }
}

/// Why a pod is being ended before its containers end by themselves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Doom {
    /// Its object is to be deleted.
    Deleted,
    /// Its object is gone: nobody wants to hear of it.
    Gone,
    /// It ran longer than it may, or had failed before; it fails with these words.
    Failed { reason: String, message: String },
    /// This node never took it: nothing of it was made, and there is no more to tell.
    Rejected { reason: String, message: String },
    /// It has to go: it fails with these words, unless all of it ends well. Where that is for the good of others the condition
    /// says so, and nobody counts it as its own failure. Where the machine cannot wait for its own grace period, it has no
    /// longer than this.
    Disrupted { reason: String, message: String, condition: Option<String>, grace: Option<Duration> },
}

/// Why wanted resources are not given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ResizePending {
    /// `Deferred` or `Infeasible`.
    pub(crate) reason: &'static str,
    /// What an event calls it: what is short, where that may change.
    pub(crate) word: String,
    pub(crate) message: String,
}

/// One pod as seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandbox: Sandbox,
    pub(crate) containers: BTreeMap<String, Seen>,
    /// When the agent took the pod on.
    pub(crate) started_at: Time,
    pub(crate) doom: Option<Doom>,
    /// When its containers began to be ended.
    pub(crate) ending_since: Option<Time>,
    /// What the pod names for itself, as it was set last; nothing before its surroundings were made, and where what an
    /// earlier agent set could not be changed.
    pub(crate) resources: Option<ResourceRequirements>,
    /// Resources that the spec names and this node does not give yet.
    pub(crate) resize_pending: Option<ResizePending>,
    /// Why resources that were granted could not be set, and when that is tried again.
    pub(crate) resize_error: Option<String>,
    /// See `resize_error`.
    pub(crate) resize_retry_at: Option<Time>,
    /// Digests of the images that volumes show, by the volume's name.
    pub(crate) volume_images: BTreeMap<String, String>,
}

impl Observed {
    pub(crate) fn new(started_at: Time) -> Observed {
        Observed {
            sandbox: Sandbox::Missing { retry_at: None },
            containers: BTreeMap::new(),
            started_at,
            doom: None,
            ending_since: None,
            resources: None,
            resize_pending: None,
            resize_error: None,
            resize_retry_at: None,
            volume_images: BTreeMap::new(),
        }
    }

    pub(crate) fn seen(&self, name: &str) -> Option<&Seen> {
        self.containers.get(name)
    }

    pub(crate) fn seen_mut(&mut self, name: &str) -> &mut Seen {
        self.containers.entry(name.to_owned()).or_default()
    }

    pub(crate) fn running(&self) -> usize {
        self.containers.values().filter(|s| s.is_running()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Time {
        Time::EPOCH.plus(Duration::from_secs(s))
    }

    fn ended(from: u64, to: u64) -> Ended {
        Ended {
            id: "x".into(),
            code: 1,
            signal: None,
            reason: "Error".into(),
            message: String::new(),
            started_at: Some(at(from)),
            finished_at: at(to),
        }
    }

    #[test]
    fn a_start_refused_in_between_still_counts_as_a_restart() {
        let mut seen = Seen::default();
        seen.begin("x".into(), at(0), String::new());
        seen.last = Some(ended(0, 1));
        seen.life = Life::Refused { reason: String::new(), message: String::new(), retry_at: at(2) };
        seen.begin("y".into(), at(2), String::new());
        assert_eq!((seen.restarts, seen.attempts, seen.backoff), (1, 2, BACKOFF_FIRST));
    }

    #[test]
    fn a_container_that_is_ended_to_start_again_rests_from_its_earlier_end() {
        let mut seen = Seen::default();
        let mut starts = Vec::new();
        let mut now = 0;
        // Each life fails its probe after six seconds.
        for _ in 0..5 {
            seen.begin("x".into(), at(now), String::new());
            seen.recycled = true;
            seen.end(ended(now, now + 6));
            now = seen.may_start_at().unwrap().since(at(0)).as_secs();
            starts.push(now);
        }
        // The first is not known to have ended, the second does not rest after it, the third ends within its ten seconds.
        assert_eq!(starts, [6, 12, 28, 54, 100]);
    }

    #[test]
    fn a_crashing_container_rests_ten_seconds_then_twice_as_long_up_to_five_minutes() {
        let mut seen = Seen::default();
        let mut now = 0;
        let mut rests = Vec::new();
        seen.begin("x".into(), at(0), String::new());
        for _ in 0..8 {
            seen.end(ended(now, now + 1));
            let until = seen.may_start_at().unwrap().since(at(0)).as_secs();
            rests.push(until - now - 1);
            now = until;
            seen.begin("x".into(), at(now), String::new());
        }
        assert_eq!(rests, [0, 10, 20, 40, 80, 160, 300, 300]);
        seen.end(ended(now, now + 600));
        assert_eq!(seen.may_start_at(), Some(at(now + 600)));
        seen.begin("x".into(), at(now + 600), String::new());
        assert_eq!((seen.backoff, seen.restarts), (BACKOFF_FIRST, 9));
    }
}
