//! The image of a container or of a volume that it mounts: present, pulled in a task of its own, or refused in a kubelet's words, with a growing wait
//! between attempts at what cannot be had.

use crate::container::{FoundImage, Refusal};
use crate::events::Kind;
use crate::observed::{BACKOFF_FIRST, BACKOFF_MAX, Life};
use crate::pod::{self, HOST_IMAGE, Part};
use crate::worker::{Nudge, RETRY_AFTER, Worker, place};
use k8s_openapi::api::core::v1::{Container, Secret};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use stoa_image::{Keyring, Reference};
use stoa_units::Time;
use stoa_volume::{Lookup, Objects};

/// A missing image is looked for this often: it may be imported by hand at any time.
const IMAGE_POLL: Duration = Duration::from_secs(2);
/// While back-off lasts, this often.
const BACKOFF_POLL: Duration = Duration::from_secs(5);
/// A pull says itself when it is done; this only bounds how long a lost word could hold a pod up.
const PULL_POLL: Duration = Duration::from_secs(3_600);

/// What a pull brought, or why not.
pub(crate) type Outcome = Result<(FoundImage, u64), String>;

/// Pulls of one pod, by what wants them, and how long each image rests.
#[derive(Default)]
pub(crate) struct Pulls {
    flights: HashMap<String, Flight>,
    backoffs: HashMap<String, Backoff>,
}

struct Flight {
    image: String,
    begun: Time,
    task: tokio::task::JoinHandle<()>,
    outcome: Option<Outcome>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        // What was fetched stays for the next attempt.
        self.task.abort();
    }
}

struct Backoff {
    wait: Duration,
    until: Time,
    error: String,
    told: bool,
}

fn waiting(pod: &k8s_openapi::api::core::v1::Pod, wait: Duration) -> (Refusal, Duration) {
    let has_init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref()).is_some_and(|l| !l.is_empty());
    let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
    (Refusal { reason, message: String::new() }, wait)
}

/// What an image is wanted for.
struct Want<'a> {
    /// Names the pull: a container, or a volume with [`VOLUME`] before it.
    key: String,
    /// The container that events point at; for a volume they are about the pod.
    at: Option<(Part, &'a str)>,
    reference: &'a str,
    policy: &'a str,
}

/// No container has such a name.
const VOLUME: &str = "volume/";

impl Worker {
    /// The image, or the words of a kubelet that cannot have it. None for the machine's own root.
    pub(crate) async fn find_image(
        &mut self,
        part: Part,
        container: &Container,
    ) -> Result<Option<FoundImage>, (Refusal, Duration)> {
        let reference = container.image.as_deref().unwrap_or_default();
        if reference == HOST_IMAGE {
            return Ok(None);
        }
        let want = Want {
            key: container.name.clone(),
            at: Some((part, &container.name)),
            reference,
            policy: container.image_pull_policy.as_deref().unwrap_or("IfNotPresent"),
        };
        self.obtain(&want).await.map(Some)
    }

    /// The images of the volumes that a container mounts, by the volume's name.
    pub(crate) async fn find_volume_images(
        &mut self,
        container: &Container,
    ) -> Result<BTreeMap<String, FoundImage>, (Refusal, Duration)> {
        let pod = Arc::clone(&self.pod);
        let mut found = BTreeMap::new();
        for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            let Some(source) = &volume.image else { continue };
            if !container.volume_mounts.iter().flatten().any(|m| m.name == volume.name) {
                continue;
            }
            // What is mounted stays as it is for as long as the pod lives.
            if self.volumes.contains_key(&volume.name) {
                continue;
            }
            let want = Want {
                key: format!("{VOLUME}{}", volume.name),
                at: None,
                reference: source.reference.as_deref().unwrap_or_default(),
                policy: source.pull_policy.as_deref().unwrap_or("IfNotPresent"),
            };
            let image = self.obtain(&want).await?;
            found.insert(volume.name.clone(), image);
        }
        Ok(found)
    }

    async fn obtain(&mut self, want: &Want<'_>) -> Result<FoundImage, (Refusal, Duration)> {
        let reference = want.reference;
        if let Err(error) = Reference::parse(reference) {
            let message = format!("Failed to apply default image tag \"{reference}\": {error}");
            self.say(want, Kind::Warning, "InspectFailed", message.clone());
            self.say(want, Kind::Warning, "Failed", "Error: InvalidImageName".to_owned());
            return Err((Refusal { reason: "InvalidImageName", message }, BACKOFF_MAX));
        }
        if let Some(flight) = self.pulls.flights.get_mut(&want.key).filter(|f| f.image == reference) {
            let Some(outcome) = flight.outcome.take() else { return Err(waiting(&self.pod, PULL_POLL)) };
            let took = self.shared.now().since(flight.begun);
            self.pulls.flights.remove(&want.key);
            return self.pull_ended(want, outcome, took);
        }
        self.pulls.flights.remove(&want.key);
        let present = match self.shared.machine.image(reference).await {
            Ok(present) => present,
            Err(error) => {
                // A kubelet names there what it did not get.
                let message = format!("Failed to inspect image \"\": {error}");
                self.say(want, Kind::Warning, "InspectFailed", message.clone());
                self.say(want, Kind::Warning, "Failed", "Error: ImageInspectError".to_owned());
                return Err((Refusal { reason: "ImageInspectError", message }, BACKOFF_FIRST));
            }
        };
        if want.policy == "Never" {
            return match present {
                Some(image) => Ok(self.is_present(want, image)),
                None => {
                    let message =
                        format!("Container image \"{reference}\" is not present with pull policy of Never");
                    self.say(want, Kind::Warning, "ErrImageNeverPull", message.clone());
                    self.say(want, Kind::Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
                    Err((Refusal { reason: "ErrImageNeverPull", message }, IMAGE_POLL))
                }
            };
        }
        let ring = self.keyring(want)?;
        // A name without a registry that was given by hand is this machine's own: no registry knows better what it stands
        // for. One that names its registry is asked for there whenever the policy says so.
        let is_own =
            |i: &FoundImage| i.is_local && (want.policy != "Always" || !Reference::names_registry(reference));
        let good = |i: &FoundImage| {
            is_own(i) || want.policy != "Always" && self.shared.machine.admits(reference, &ring)
        };
        if let Some(image) = present.filter(good) {
            return Ok(self.is_present(want, image));
        }
        let now = self.shared.now();
        if let Some(backoff) = self.pulls.backoffs.get_mut(reference).filter(|b| b.until > now) {
            let message = format!("Back-off pulling image \"{reference}\": ErrImagePull: {}", backoff.error);
            let wait = backoff.until.since(now).min(BACKOFF_POLL);
            if !std::mem::replace(&mut backoff.told, true) {
                self.say(want, Kind::Normal, "BackOff", format!("Back-off pulling image \"{reference}\""));
                self.say(want, Kind::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
            }
            return Err((Refusal { reason: "ImagePullBackOff", message }, wait));
        }
        self.begin_pull(want, ring);
        Err(waiting(&self.pod, PULL_POLL))
    }

    fn say(&self, want: &Want<'_>, kind: Kind, reason: &'static str, message: String) {
        let at = want.at.map(|(part, name)| place(part, name));
        self.shared.recorder.record(&self.reference, at, kind, reason, message);
    }

    fn is_present(&self, want: &Want<'_>, image: FoundImage) -> FoundImage {
        // A try that something pushed brought about was told of this before.
        let seen = want.at.and_then(|(_, name)| self.observed.seen(name));
        if seen.is_some_and(|s| s.early.is_some() && s.is_refused_config()) {
            return image;
        }
        let message = format!(
            "Container image \"{}\" already present on machine and can be accessed by the pod",
            want.reference
        );
        self.say(want, Kind::Normal, "Pulled", message);
        image
    }

    fn begin_pull(&mut self, want: &Want<'_>, ring: Keyring) {
        self.say(want, Kind::Normal, "Pulling", format!("Pulling image \"{}\"", want.reference));
        let (machine, nudge) = (Arc::clone(&self.shared.machine), self.nudge.clone());
        let (wanted_by, image) = (want.key.clone(), want.reference.to_owned());
        let task = tokio::spawn(async move {
            let outcome = machine.pull(&image, ring).await;
            let _ = nudge.send(Nudge::Pulled { wanted_by, image, outcome: Box::new(outcome) }).await;
        });
        let flight =
            Flight { image: want.reference.to_owned(), begun: self.shared.now(), task, outcome: None };
        self.pulls.flights.insert(want.key.clone(), flight);
    }

    /// A pull is done: the container may be started, or its refusal be told.
    pub(crate) fn pulled(&mut self, wanted_by: &str, image: &str, outcome: Outcome) {
        let Some(flight) = self.pulls.flights.get_mut(wanted_by).filter(|f| f.image == image) else { return };
        flight.outcome = Some(outcome);
        let now = self.shared.now();
        for (name, seen) in &mut self.observed.containers {
            if let Life::Refused { retry_at, message, .. } = &mut seen.life
                && (name == wanted_by || wanted_by.starts_with(VOLUME) && message.is_empty())
            {
                *retry_at = now;
            }
        }
    }

    fn pull_ended(
        &mut self,
        want: &Want<'_>,
        outcome: Outcome,
        took: Duration,
    ) -> Result<FoundImage, (Refusal, Duration)> {
        let reference = want.reference;
        match outcome {
            Ok((image, size)) => {
                self.pulls.backoffs.remove(reference);
                let took = go_duration(took);
                let message = format!(
                    "Successfully pulled image \"{reference}\" in {took} ({took} including waiting). Image size: {size} bytes."
                );
                self.say(want, Kind::Normal, "Pulled", message);
                Ok(image)
            }
            Err(error) => {
                let now = self.shared.now();
                let wait = self
                    .pulls
                    .backoffs
                    .get(reference)
                    .map_or(BACKOFF_FIRST, |b| (b.wait * 2).min(BACKOFF_MAX));
                let backoff = Backoff { wait, until: now.plus(wait), error: error.clone(), told: false };
                self.pulls.backoffs.insert(reference.to_owned(), backoff);
                let message = format!("Failed to pull image \"{reference}\": {error}");
                self.say(want, Kind::Warning, "Failed", message);
                self.say(want, Kind::Warning, "Failed", "Error: ErrImagePull".to_owned());
                Err((Refusal { reason: "ErrImagePull", message: error }, IMAGE_POLL))
            }
        }
    }

    /// The credentials that the pod's pull secrets hold.
    fn keyring(&self, want: &Want<'_>) -> Result<Keyring, (Refusal, Duration)> {
        let mut ring = Keyring::default();
        let mut missing = Vec::new();
        let secrets = self.pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten());
        for secret in secrets.map(|s| s.name.as_str()).filter(|n| !n.is_empty()) {
            match self.shared.pushed.secret(&self.reference.namespace, secret) {
                Lookup::Found(found) => {
                    if let Err(error) = add_secret(&mut ring, &found) {
                        let message = format!("Secret \"{secret}\": {error}");
                        self.say(want, Kind::Warning, "FailedToRetrieveImagePullSecret", message);
                    }
                }
                Lookup::Absent => missing.push(secret),
                Lookup::Pending => return Err(waiting(&self.pod, RETRY_AFTER)),
            }
        }
        if !missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            self.shared.recorder.record(
                &self.reference,
                None,
                Kind::Warning,
                "FailedToRetrieveImagePullSecret",
                message,
            );
        }
        Ok(ring)
    }
}

fn add_secret(ring: &mut Keyring, secret: &Secret) -> Result<(), stoa_image::KeyringError> {
    let data = |key: &str| secret.data.as_ref().and_then(|d| d.get(key)).map(|b| b.0.as_slice());
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            data(".dockerconfigjson").map_or(Ok(()), |b| ring.add_docker_config(b))
        }
        Some("kubernetes.io/dockercfg") => data(".dockercfg").map_or(Ok(()), |b| ring.add_legacy_config(b)),
        _ => Ok(()),
    }
}

/// All images that a pod's containers and volumes name.
pub(crate) fn of(pod: &k8s_openapi::api::core::v1::Pod) -> Vec<String> {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let volumes = volumes.filter_map(|v| v.image.as_ref()?.reference.clone());
    let mut all: Vec<String> =
        pod::containers(pod).filter_map(|(_, c)| c.image.clone()).chain(volumes).collect();
    all.sort();
    all.dedup();
    all
}

/// A duration as Go prints it, to the millisecond.
fn go_duration(d: Duration) -> String {
    let ms = d.as_millis();
    if ms < 1_000 {
        return format!("{ms}ms");
    }
    let (minutes, rest) = (ms / 60_000, ms % 60_000);
    let mut seconds = format!("{}.{:03}", rest / 1_000, rest % 1_000);
    while seconds.ends_with('0') {
        seconds.pop();
    }
    let seconds = seconds.trim_end_matches('.');
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_prints_them() {
        for (ms, want) in
            [(7, "7ms"), (1_000, "1s"), (1_250, "1.25s"), (61_003, "1m1.003s"), (3_600_000, "1h0m0s")]
        {
            assert_eq!(go_duration(Duration::from_millis(ms)), want);
        }
    }
}
