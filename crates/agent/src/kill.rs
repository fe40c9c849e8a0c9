//! Ending one container: its preStop hook, the wait for those that need it, the signal that asks, the grace period, SIGKILL
//! to everything in it. A kill is over when the runtime reports the end, never before; until then it is repeated.

use crate::container;
use crate::events::Kind;
use crate::hooks;
use crate::machine::chain;
use crate::plan::Turn;
use crate::pod::{self, Part};
use crate::shared::Shared;
use crate::worker::{Nudge, RETRY_AFTER, Worker, place};
use std::sync::Arc;
use std::time::Duration;
use stoa_runtime::Error as RuntimeError;
use stoa_units::Time;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

/// Whatever its grace period is, and what its preStop hook and others took of it, a container gets this long to stop.
const GRACE_MIN: Duration = Duration::from_secs(2);

/// A kill under way. Dropping it stops the pursuit, not the container.
pub(crate) struct Killing {
    deadline: watch::Sender<Time>,
    turn: watch::Sender<Turn>,
    pursuit: AbortHandle,
}

impl Drop for Killing {
    fn drop(&mut self) {
        self.pursuit.abort();
    }
}

struct Pursuit {
    shared: Arc<Shared>,
    pod: Arc<k8s_openapi::api::core::v1::Pod>,
    name: String,
    id: String,
    signal: i32,
    ips: Vec<String>,
    deadline: watch::Receiver<Time>,
    turn: watch::Receiver<Turn>,
    floor: Duration,
    nudge: mpsc::Sender<Nudge>,
}

impl Worker {
    /// Begins to end a container, or hurries a kill that is under way.
    pub(crate) fn kill(&mut self, name: &str, grace: Duration, turn: Turn, message: &str) {
        let Some(id) = self.observed.seen(name).and_then(|s| s.running_id().map(str::to_owned)) else {
            return;
        };
        let deadline = self.shared.now().plus(grace);
        if let Some(killing) = self.killing.get(&id) {
            killing.deadline.send_if_modified(|at| {
                let sooner = deadline < *at;
                if sooner {
                    *at = deadline;
                }
                sooner
            });
            // Whose turn has come does not wait again.
            killing.turn.send_if_modified(|at| {
                let has_come = turn == Turn::Now && *at != Turn::Now;
                if has_come {
                    *at = Turn::Now;
                }
                has_come
            });
            return;
        }
        let part = pod::find(&self.pod, name).map_or(Part::Main, |(part, _)| part);
        self.shared.recorder.record(
            &self.reference,
            Some(place(part, name)),
            Kind::Normal,
            "Killing",
            message,
        );
        self.observed.seen_mut(name).killing = true;
        let (tx, rx) = watch::channel(deadline);
        let (turn, turns) = watch::channel(turn);
        let image_signal = self.stop_signals.get(name).map(String::as_str);
        let is_executor = crate::mesos::is_executor(&self.pod);
        let signal = if is_executor {
            // It hears of its end on its stream, and would take a signal for a crash: this one is ignored by everybody.
            nix::sys::signal::Signal::SIGCONT as i32
        } else {
            container::stop_signal(pod::find(&self.pod, name).map(|(_, c)| c), image_signal)
        };
        let pursuit = Pursuit {
            shared: Arc::clone(&self.shared),
            pod: Arc::clone(&self.pod),
            name: name.to_owned(),
            id: id.clone(),
            signal,
            ips: self.ips(),
            deadline: rx,
            turn: turns,
            floor: if is_executor { Duration::ZERO } else { GRACE_MIN },
            nudge: self.nudge.clone(),
        };
        let pursuit = tokio::spawn(pursuit.run()).abort_handle();
        self.killing.insert(id, Killing { deadline: tx, turn, pursuit });
    }
}

impl Worker {
    /// Shortens the time that is left to all containers that are being ended.
    pub(crate) fn hurry(&mut self, grace: Duration) {
        let running = self.observed.containers.iter().filter(|(_, seen)| seen.is_running() && seen.killing);
        let names: Vec<String> = running.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.kill(&name, grace, Turn::AfterOthers, "");
        }
    }
}

impl Pursuit {
    async fn run(mut self) {
        let begun = self.shared.now();
        let has_time = *self.deadline.borrow() > begun;
        let hook = pod::find(&self.pod, &self.name)
            .filter(|_| has_time)
            .and_then(|(_, c)| c.lifecycle.as_ref())
            .and_then(|l| l.pre_stop.clone());
        if let Some(hook) = hook {
            tokio::select! {
                outcome = hooks::run(&self.shared, &self.pod, &self.name, &self.id, &self.ips, &hook) => {
                    if let Err(error) = outcome {
                        tracing::info!(container = %self.name, %error, "a preStop hook failed");
                        let reference = pod::reference(&self.pod);
                        let part = pod::find(&self.pod, &self.name).map_or(Part::Main, |(part, _)| part);
                        self.shared.recorder.record(&reference, Some(place(part, &self.name)), Kind::Warning, "FailedPreStopHook", "PreStopHook failed");
                    }
                }
                () = reached(&self.shared, &mut self.deadline) => {}
            }
        }
        tokio::select! {
            // Where nobody can say any more that its turn has come, it has.
            _ = self.turn.wait_for(|turn| *turn == Turn::Now) => {}
            () = reached(&self.shared, &mut self.deadline) => {}
        }
        let floor = self.shared.now().plus(self.floor);
        self.ask().await;
        reached(&self.shared, &mut self.deadline).await;
        // It must be able to hear the signal.
        tokio::time::sleep(floor.since(self.shared.now())).await;
        self.insist().await;
    }

    async fn ask(&self) {
        if let Err(error) = self.shared.machine.kill(&self.id, self.signal).await {
            tracing::debug!(error = %chain(&error), id = %self.id, "cannot signal a container");
            self.check(&error).await;
        }
    }

    /// Kills until this task is aborted, which the end of the container does.
    async fn insist(&self) {
        let mut wait = RETRY_AFTER;
        loop {
            if let Err(error) = self.shared.machine.kill_all(&self.id).await {
                tracing::warn!(error = %chain(&error), id = %self.id, "cannot kill a container");
                self.check(&error).await;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(30));
            // An end that was missed is found by looking.
            let _ = self.nudge.send(Nudge::Resync).await;
        }
    }

    async fn check(&self, error: &RuntimeError) {
        if matches!(error, RuntimeError::NotFound(_) | RuntimeError::NotRunning(_)) {
            let _ = self.nudge.send(Nudge::Resync).await;
        }
    }
}

/// Waits until the deadline, which may come nearer meanwhile.
async fn reached(shared: &Shared, deadline: &mut watch::Receiver<Time>) {
    loop {
        let at = *deadline.borrow_and_update();
        let left = at.since(shared.now());
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            changed = deadline.changed() => {
                if changed.is_err() {
                    tokio::time::sleep(left).await;
                    return;
                }
            }
        }
    }
}
