//! Taking over what an earlier agent left: containers that the runtime still holds are matched to their pod by its uid,
//! running ones are adopted, ended ones count as ended. Pure.

use crate::container::{NOTE_IMAGE, NOTE_IMAGE_ID, NOTE_POD_RESOURCES, NOTE_RESOURCES, NOTE_RESTARTS};
use crate::observed::{BACKOFF_FIRST, BACKOFF_MAX, Ended, Life, Observed};
use crate::pod;
use crate::status;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::time::Duration;
use stoa_runtime::{Container, State};
use stoa_units::Time;

/// What is known of a pod from the machine's containers and from the status last written.
pub(crate) fn observe(pod: &Pod, held: &[Container], now: Time) -> Observed {
    let started_at = pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or(now, |t| Time(t.0));
    let mut observed = Observed::new(started_at);
    for container in held {
        let spec = &container.spec;
        let attempts = spec.attempt + 1;
        if observed.seen(&spec.name).is_some_and(|s| s.attempts >= attempts) {
            continue;
        }
        let said = said_of(pod, &spec.name);
        let wanted = pod::find(pod, &spec.name).map(|(_, c)| c);
        let restarts =
            spec.annotations.get(NOTE_RESTARTS).and_then(|n| n.parse().ok()).unwrap_or(spec.attempt);
        let seen = observed.seen_mut(&spec.name);
        seen.attempts = attempts;
        seen.restarts = restarts;
        seen.backoff = backoff_after(restarts);
        seen.image_id = spec.annotations.get(NOTE_IMAGE_ID).cloned().unwrap_or_default();
        seen.image = spec.annotations.get(NOTE_IMAGE).cloned().unwrap_or_default();
        let noted = |note| spec.annotations.get(note).and_then(|n| serde_json::from_str(n).ok());
        seen.resources = noted(NOTE_RESOURCES);
        seen.of_pod = noted(NOTE_POD_RESOURCES);
        seen.user = Some((spec.user.uid, spec.user.gid, spec.user.additional_gids.clone()));
        seen.last = status::read_terminated(said.and_then(|s| s.last_state.as_ref()));
        seen.started =
            wanted.is_none_or(|c| c.startup_probe.is_none()) || said.is_some_and(|s| s.started == Some(true));
        seen.ready = wanted.is_none_or(|c| c.readiness_probe.is_none()) || said.is_some_and(|s| s.ready);
        seen.life = match &container.state {
            State::Creating => Life::Running { id: spec.id.clone(), started_at: now },
            State::Running { started_at, .. } => {
                Life::Running { id: spec.id.clone(), started_at: *started_at }
            }
            State::Exited(exit) => {
                (seen.started, seen.ready) = (false, false);
                Life::Ended(Ended {
                    id: exit.id.clone(),
                    code: exit.code,
                    signal: exit.signal,
                    reason: exit.reason.as_str().to_owned(),
                    message: exit.message.clone(),
                    started_at: exit.started_at,
                    finished_at: exit.finished_at,
                })
            }
        };
    }
    observed
}

fn said_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all =
        status.container_statuses.iter().flatten().chain(status.init_container_statuses.iter().flatten());
    all.chain(status.ephemeral_container_statuses.iter().flatten()).find(|c| c.name == name)
}

fn backoff_after(restarts: u32) -> Duration {
    match restarts {
        0 => Duration::ZERO,
        n => (BACKOFF_FIRST * 2_u32.saturating_pow(n.min(9) - 1)).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;
    use stoa_runtime::{ContainerSpec, Exit, ExitReason, Rootfs};

    fn held(name: &str, attempt: u32, state: State) -> Container {
        let mut spec = ContainerSpec::new(
            format!("{name}{attempt}"),
            "u",
            Rootfs::Layers { lower: vec![] },
            vec![],
            "/l",
        );
        spec.name = name.to_owned();
        spec.attempt = attempt;
        Container { spec: Arc::new(spec), state }
    }

    #[test]
    fn the_latest_life_of_each_container_is_taken_over() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"uid": "u"},
            "spec": {"containers": [{"name": "a", "readinessProbe": {}}, {"name": "b"}]},
            "status": {"startTime": "1970-01-01T00:00:05Z"}}))
        .unwrap();
        let exit = Exit {
            id: "b0".into(),
            pod_uid: "u".into(),
            code: 3,
            signal: None,
            reason: ExitReason::Error,
            message: String::new(),
            started_at: None,
            finished_at: Time::EPOCH,
        };
        let observed = observe(
            &pod,
            &[
                held("a", 2, State::Running { pid: 1, started_at: Time::EPOCH }),
                held("a", 1, State::Exited(exit.clone())),
                held("b", 0, State::Exited(exit)),
            ],
            Time::EPOCH,
        );
        let a = observed.seen("a").unwrap();
        assert_eq!(
            (a.running_id(), a.attempts, a.restarts, a.ready, a.started),
            (Some("a2"), 3, 2, false, true)
        );
        assert_eq!(a.backoff, Duration::from_secs(20));
        assert_eq!(observed.seen("b").unwrap().ended().unwrap().code, 3);
        assert_eq!(observed.started_at, Time::EPOCH.plus(Duration::from_secs(5)));
    }
}
