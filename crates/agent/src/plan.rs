//! What to do next for one pod. Pure: the spec, what is seen and the time go in, actions and the time to look again
//! come out. Nothing is remembered between two calls, so it does not matter which event led here.

use crate::observed::{Doom, Life, Observed, Sandbox, Seen};
use crate::pod::{self, Part};
use k8s_openapi::api::core::v1::{Container, Pod};
use std::time::Duration;
use stoa_units::Time;

/// A pod that sends itself back to its beginning does so no faster than this, whatever it does.
const START_OVER_AFTER: Duration = Duration::from_secs(1);
/// Why a pod goes when the machine is short of something.
pub(crate) const EVICTED: &str = "Evicted";

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Make cgroup, namespaces, network and volumes.
    Prepare,
    /// Start a container.
    Start(String),
    /// Give running containers the resources that their spec now names.
    Resize,
    /// Ask a container to stop, and kill it after this long. Said again, it shortens the time that is left, or says that its
    /// turn has come.
    Kill { container: String, grace: Duration, turn: Turn },
    /// Every container has ended; all begin again from the first.
    StartOver,
    /// End the whole pod with these words.
    Fail { reason: String, message: String },
    /// Take everything down.
    TearDown,
}

/// When a container that is ended hears of it. Its preStop hook does not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Now,
    /// Once those have ended that need it, or its own time is over.
    AfterOthers,
}

/// Actions, and when to look again if nothing happens before.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake: Option<Time>,
}

impl Plan {
    fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }
}

/// Decides.
pub(crate) fn plan(pod: &Pod, observed: &Observed, now: Time) -> Plan {
    let mut plan = Plan::default();
    if observed.doom.is_some() || is_finished(pod, observed) {
        wind_down(pod, observed, &mut plan);
        return plan;
    }
    if let Some(deadline) = pod::deadline(pod, observed.started_at) {
        if deadline <= now {
            plan.actions.push(Action::Fail {
                reason: "DeadlineExceeded".into(),
                message: "Pod was active on the node longer than the specified deadline".into(),
            });
            return plan;
        }
        plan.wake_at(deadline);
    }
    match &observed.sandbox {
        Sandbox::Missing { retry_at: Some(at) } if *at > now => plan.wake_at(*at),
        Sandbox::Missing { .. } => plan.actions.push(Action::Prepare),
        Sandbox::Ready { .. } if restarts_all(pod, observed) => start_over(pod, observed, now, &mut plan),
        Sandbox::Ready { .. } => advance(pod, observed, now, &mut plan),
        Sandbox::Removed => {}
    }
    plan
}

/// Whether every container has ended and none is to be started again.
pub(crate) fn is_finished(pod: &Pod, observed: &Observed) -> bool {
    if has_failed_init(pod, observed) {
        return true;
    }
    if restarts_all(pod, observed) {
        return false;
    }
    let mut any = false;
    let done = pod::containers(pod).filter(|(part, _)| *part == Part::Main).all(|(part, c)| {
        any = true;
        let ended = observed.seen(&c.name).and_then(Seen::ended);
        ended.is_some_and(|e| !pod::wants_restart(pod, part, c, e.code))
    });
    any && done
}

/// Whether an init container failed and its pod may not try again.
pub(crate) fn has_failed_init(pod: &Pod, observed: &Observed) -> bool {
    // One that was ended so that all can begin again did not fail.
    !restarts_all(pod, observed) && any_failed_init(pod, observed)
}

fn any_failed_init(pod: &Pod, observed: &Observed) -> bool {
    pod::containers(pod).filter(|(part, _)| *part == Part::Init).any(|(part, c)| {
        let ended = observed.seen(&c.name).and_then(Seen::ended);
        ended.is_some_and(|e| e.code != 0 && !pod::wants_restart(pod, part, c, e.code))
    })
}

/// Whether the row of init containers is through: all ended well, all sidecars have started.
pub(crate) fn is_initialized(pod: &Pod, observed: &Observed) -> bool {
    has_started_main(pod, observed)
        || pod::containers(pod).all(|(part, c)| {
            let seen = observed.seen(&c.name);
            match part {
                Part::Main | Part::Ephemeral => true,
                Part::Sidecar => seen.is_some_and(Seen::has_started),
                Part::Init => seen.and_then(Seen::ended).is_some_and(|e| e.code == 0),
            }
        })
}

/// Whether a container ended in a way that sends the whole pod back to its beginning, while the pod is not being ended.
pub(crate) fn restarts_all(pod: &Pod, observed: &Observed) -> bool {
    observed.doom.is_none() && observed.ending_since.is_none() && causes(pod, observed).next().is_some()
}

fn causes<'a>(pod: &'a Pod, observed: &'a Observed) -> impl Iterator<Item = &'a Seen> {
    pod::containers(pod).filter_map(|(part, c)| {
        let seen = observed.seen(&c.name)?;
        seen.ended().is_some_and(|e| pod::restarts_all(part, c, e.code)).then_some(seen)
    })
}

/// Ends what still runs, at once and without its hook, then begins again, without the rest that one container would have to take,
/// as a kubelet does.
fn start_over(pod: &Pod, observed: &Observed, now: Time, plan: &mut Plan) {
    let running = pod::containers(pod)
        .filter(|(part, c)| *part != Part::Ephemeral && observed.seen(&c.name).is_some_and(Seen::is_running));
    let kills = running.map(|(_, c)| Action::Kill {
        container: c.name.clone(),
        grace: Duration::ZERO,
        turn: Turn::Now,
    });
    plan.actions.extend(kills);
    if plan.actions.is_empty() {
        let ends =
            causes(pod, observed).filter_map(|seen| Some(seen.ended()?.finished_at.plus(START_OVER_AFTER)));
        match ends.max() {
            Some(at) if at > now => plan.wake_at(at),
            _ => plan.actions.push(Action::StartOver),
        }
    }
}

fn has_started_main(pod: &Pod, observed: &Observed) -> bool {
    pod::containers(pod)
        .filter(|(part, _)| *part == Part::Main)
        .any(|(_, c)| observed.seen(&c.name).is_some_and(|s| s.attempts > 0 && !s.anew))
}

fn advance(pod: &Pod, observed: &Observed, now: Time, plan: &mut Plan) {
    if needs_resize(pod, observed) {
        match observed.resize_retry_at {
            Some(at) if at > now => plan.wake_at(at),
            _ => plan.actions.push(Action::Resize),
        }
    }
    for (part, container) in pod::containers(pod).filter(|(part, _)| *part == Part::Ephemeral) {
        start_if_due(pod, part, container, observed.seen(&container.name), now, plan);
    }
    advance_row(pod, observed, now, plan);
}

/// Whether the pod or a running container has other resources than the spec names.
pub(crate) fn needs_resize(pod: &Pod, observed: &Observed) -> bool {
    let of_pod = pod::resources(pod);
    // Nothing is known of what an earlier agent set and this one could not change.
    let is_unset = observed.resources.is_none() && observed.resize_error.is_some();
    if is_unset || observed.resources.as_ref().is_some_and(|r| *r != of_pod) {
        return true;
    }
    pod::containers(pod).filter(|(part, _)| *part != Part::Ephemeral).any(|(_, c)| {
        let seen = observed.seen(&c.name).filter(|s| s.is_running() && !s.killing);
        seen.is_some_and(|s| {
            s.resources.as_ref().is_some_and(|r| *r != c.resources.clone().unwrap_or_default())
                || s.of_pod.as_ref().is_some_and(|r| *r != of_pod)
        })
    })
}

fn advance_row(pod: &Pod, observed: &Observed, now: Time, plan: &mut Plan) {
    let initialized = is_initialized(pod, observed);
    let main_started = has_started_main(pod, observed);
    for (part, container) in pod::containers(pod) {
        let seen = observed.seen(&container.name);
        match part {
            Part::Init if initialized => {}
            Part::Init => {
                if seen.and_then(Seen::ended).is_some_and(|e| e.code == 0) {
                    continue;
                }
                start_if_due(pod, part, container, seen, now, plan);
                return;
            }
            Part::Sidecar => {
                start_if_due(pod, part, container, seen, now, plan);
                if !main_started && !seen.is_some_and(Seen::has_started) {
                    return;
                }
            }
            Part::Main if initialized => {
                start_if_due(pod, part, container, seen, now, plan);
                // What a hook sets up may be meant for the containers after it.
                if seen.is_none_or(|s| s.hooking) && container_has_hook(container) {
                    return;
                }
            }
            Part::Main | Part::Ephemeral => {}
        }
    }
}

fn container_has_hook(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some())
}

fn start_if_due(
    pod: &Pod,
    part: Part,
    container: &Container,
    seen: Option<&Seen>,
    now: Time,
    plan: &mut Plan,
) {
    let due = match seen {
        None => None,
        Some(seen) => match &seen.life {
            Life::Running { .. } => return,
            Life::Ended(e) if !pod::wants_restart(pod, part, container, e.code) => return,
            _ => seen.may_start_at(),
        },
    };
    match due {
        Some(at) if at > now => plan.wake_at(at),
        _ => plan.actions.push(Action::Start(container.name.clone())),
    }
}

/// A machine in want does not wait for the pod that it gives up.
fn grace(pod: &Pod, observed: &Observed) -> Duration {
    match &observed.doom {
        Some(Doom::Disrupted { grace: Some(most), .. }) => pod::grace(pod).min(*most),
        _ => pod::grace(pod),
    }
}

/// Kills what runs, then takes it all down. All are ended at once and share one grace period; yet a sidecar hears of it only
/// when the main containers and the sidecars after it have ended.
fn wind_down(pod: &Pod, observed: &Observed, plan: &mut Plan) {
    if observed.running() == 0 {
        if observed.sandbox != Sandbox::Removed {
            plan.actions.push(Action::TearDown);
        }
        return;
    }
    let grace = grace(pod, observed);
    let known: Vec<(Part, &str)> = pod::containers(pod).map(|(p, c)| (p, c.name.as_str())).collect();
    let running = |name: &str| observed.seen(name).is_some_and(Seen::is_running);
    let kill = |name: &str, turn| Action::Kill { container: name.to_owned(), grace, turn };
    let is_served = known.iter().any(|(part, name)| *part == Part::Main && running(name));
    let last_sidecar = known.iter().rev().find(|(part, name)| *part == Part::Sidecar && running(name));
    for (part, name) in known.iter().filter(|(_, name)| running(name)) {
        let waits =
            *part == Part::Sidecar && (is_served || last_sidecar.is_some_and(|(_, last)| last != name));
        plan.actions.push(kill(name, if waits { Turn::AfterOthers } else { Turn::Now }));
    }
    // A container that the spec no longer names is still ours to end.
    let strangers =
        observed.containers.iter().filter(|(n, s)| s.is_running() && !known.iter().any(|(_, k)| k == n));
    plan.actions.extend(strangers.map(|(name, _)| kill(name, Turn::Now)));
}

#[cfg(test)]
mod tests;
