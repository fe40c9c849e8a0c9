//! Lifecycle hooks: commands in the container, HTTP calls to it, or a pause. What a failed one said goes to the log, and that
//! of a postStart hook into the pod's status: it may be a server's answer, and an event is read by more people than that was
//! meant for.

use crate::events::Kind;
use crate::pod::{self, Part};
use crate::probe::{self, Fault, Output, exec_output};
use crate::shared::Shared;
use crate::worker::{Nudge, Worker, place};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};
use std::sync::Arc;
use std::time::Duration;
use stoa_units::quote;

/// An HTTP hook that answers nothing is given up after this.
const HTTP_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs a hook to its end. The error is in a kubelet's words.
pub(crate) async fn run(
    shared: &Shared,
    pod: &Pod,
    name: &str,
    id: &str,
    ips: &[String],
    hook: &LifecycleHandler,
) -> Result<(), String> {
    let whose =
        format!("for Container {} in Pod {}", quote(name), quote(&pod::long_name(&pod::reference(pod))));
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let words = command.join(" ");
        let (error, output) = match exec_output(shared, id, command).await {
            Ok(Output { code: 0, .. }) => return Ok(()),
            Ok(o) => {
                (format!("command '{words}' exited with {}: {}", o.code, o.stderr), o.stdout + &o.stderr)
            }
            Err(error) => (error, String::new()),
        };
        let output = quote(&output);
        return Err(format!(
            "Exec lifecycle hook ([{words}]) {whose} failed - error: {error}, message: {output}"
        ));
    }
    if let Some(http) = &hook.http_get {
        let container = pod::find(pod, name).map(|(_, c)| c);
        let call = probe::http_get(container, ips, http);
        let outcome = match tokio::time::timeout(HTTP_TIMEOUT, call).await {
            Ok(outcome) => outcome.map(drop).map_err(Fault::into_words),
            Err(_) => Err("the hook did not answer in time".to_owned()),
        };
        let path = http.path.as_deref().unwrap_or_default();
        return outcome.map_err(|e| format!("HTTP lifecycle hook ({path}) {whose} failed - error: {e}"));
    }
    if let Some(sleep) = &hook.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
    }
    Ok(())
}

/// Runs a container's postStart hook beside it; where it fails, the container is ended. The containers after it wait.
pub(crate) fn after_start(worker: &mut Worker, part: Part, container: &Container, id: &str) {
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.clone()) else { return };
    worker.observed.seen_mut(&container.name).hooking = true;
    let (shared, pod) = (Arc::clone(&worker.shared), Arc::clone(&worker.pod));
    let (name, id, ips) = (container.name.clone(), id.to_owned(), worker.ips());
    let (reference, nudge, grace) = (worker.reference.clone(), worker.nudge.clone(), pod::grace(&worker.pod));
    tokio::spawn(async move {
        if let Err(error) = run(&shared, &pod, &name, &id, &ips, &hook).await {
            tracing::info!(pod = %reference.name, container = %name, %error, "a postStart hook failed");
            shared.recorder.record(
                &reference,
                Some(place(part, &name)),
                Kind::Warning,
                "FailedPostStartHook",
                "PostStartHook failed",
            );
            let message = "FailedPostStartHook".to_owned();
            let _ = nudge.send(Nudge::Stop { container: name, id, grace, message, hook: Some(error) }).await;
        } else {
            let _ = nudge.send(Nudge::Hooked { container: name, id }).await;
        }
    });
}
