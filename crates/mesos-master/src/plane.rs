//! The way to each agent that has custom executors: a tunnel of the agent's session, with records in both directions. It is
//! opened when it is wanted, begins with all that the agent must know, and is opened again when it breaks.

use crate::master::Master;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_mesos::plane::{Down, Up};
use stoa_mesos::recordio::{self, Decoder};
use stoa_streams::wire::{Channel, Frame, TunnelRequest};
use stoa_streams::{Opener, Tunnel};
use stoa_units::AgentId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How often it is looked for agents that want a way and have none.
const TICK: Duration = Duration::from_secs(1);
/// What waits to be said to an agent; a slower one is connected to again.
const QUEUE_LEN_MAX: usize = 4_096;

impl Master {
    /// Keeps ways open for ever.
    pub async fn run_planes(self: &Arc<Self>, opener: Arc<dyn Opener>) {
        let mut open: BTreeMap<AgentId, Way> = BTreeMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.planes_wanted.notified() => {}
            }
            open.retain(|_, way| !way.0.is_finished());
            let wanted: Vec<AgentId> = {
                let state = self.state.lock();
                let ready = state.agents.iter().filter(|(_, a)| a.is_ready).map(|(id, _)| id);
                ready.filter(|id| !open.contains_key(*id) && state.wants_plane(id)).cloned().collect()
            };
            for agent in wanted {
                let task = tokio::spawn(self.clone().run_plane(opener.clone(), agent.clone()));
                open.insert(agent, Way(task));
            }
        }
    }

    async fn run_plane(self: Arc<Self>, opener: Arc<dyn Opener>, agent: AgentId) {
        let tunnel = match opener.open(&agent, TunnelRequest::Executors).await {
            Ok(tunnel) => tunnel,
            Err(e) => {
                tracing::debug!(%agent, error = %e, "no way to an agent's executors yet");
                return;
            }
        };
        self.carry_plane(&agent, tunnel).await;
    }

    /// Carries one way until it breaks.
    pub async fn carry_plane(&self, agent: &AgentId, tunnel: Tunnel) {
        let Tunnel { input, mut output } = tunnel;
        let (queue, mut asked) = mpsc::channel::<Down>(QUEUE_LEN_MAX);
        let all = {
            let mut state = self.state.lock();
            // What is said from now on waits behind what is planned here.
            state.planes.insert(agent.clone(), queue.clone());
            state.plan_sync(agent)
        };
        tracing::info!(%agent, "the way to an agent's executors is open");
        let saying = async {
            for what in all {
                if !say(&input, &what).await {
                    return;
                }
            }
            while let Some(what) = asked.recv().await {
                if !say(&input, &what).await {
                    return;
                }
            }
        };
        let hearing = async {
            let mut decoder = Decoder::default();
            while let Some(frame) = output.recv().await {
                if frame.channel != Channel::Stdout {
                    continue;
                }
                decoder.push(&frame.payload);
                loop {
                    match decoder.next_record() {
                        Ok(Some(record)) => self.hear(agent, &record),
                        Ok(None) => break,
                        Err(error) => {
                            tracing::warn!(%agent, %error, "an agent says what is no record");
                            return;
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = saying => {}
            () = hearing => {}
        }
        let mut state = self.state.lock();
        if state.planes.get(agent).is_some_and(|q| q.same_channel(&queue)) {
            state.planes.remove(agent);
        }
    }

    /// Takes what an agent says. It speaks for its own executors only.
    fn hear(&self, agent: &AgentId, record: &[u8]) {
        let up: Up = match serde_json::from_slice(record) {
            Ok(up) => up,
            Err(error) => {
                tracing::warn!(%agent, %error, "an agent says what cannot be read");
                return;
            }
        };
        let now = self.now();
        let mut state = self.state.lock();
        match up {
            Up::Update { pod, framework, mut status } => {
                status.agent_id = Some(stoa_mesos::Id { value: agent.clone() });
                state.take_update(agent, &pod, framework, *status, now);
            }
            Up::Message { framework, executor, data } => {
                state.take_message(agent, &framework, executor, data);
            }
            Up::Exited { pod, status, .. } => state.end_executor(agent, &pod, status, now),
        }
        let has_freed = !state.freed.is_empty();
        drop(state);
        if has_freed { self.tell_ledger() } else { self.nudge() }
    }
}

async fn say(input: &mpsc::Sender<Frame>, what: &Down) -> bool {
    let record: Bytes = recordio::encode(&stoa_mesos::json::to_ascii(what));
    for frame in Frame::split(Channel::Stdin, record) {
        if input.send(frame).await.is_err() {
            return false;
        }
    }
    true
}

/// A way's task, ended with whoever holds it.
struct Way(JoinHandle<()>);

impl Drop for Way {
    fn drop(&mut self) {
        self.0.abort();
    }
}
