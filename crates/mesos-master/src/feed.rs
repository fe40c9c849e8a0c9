//! The operator's event stream: a whole state first, then what changes, to everybody who asked and may see it. A reader that
//! does not keep up is cut off, and the one that has read longest makes room for one too many.

use crate::framework::Framework;
use crate::master::Master;
use crate::report::{Viewer, object, task_user, v1_agent, v1_framework, v1_pod, v1_task};
use crate::respond::{Body, stream};
use crate::state::{State, TaskKey};
use crate::stream::{self, HEARTBEAT_INTERVAL};
use crate::view::PodTask;
use bytes::Bytes;
use http::Response;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use stoa_authz::{Acls, Action};
use stoa_ledger::Ledger;
use stoa_mesos::{Encoding, TaskState, recordio};
use stoa_units::{AgentId, FrameworkId, NamespacedName};
use tokio::sync::mpsc;

/// Readers at a time.
const WATCHERS_MAX: usize = 1_000;

#[derive(Debug)]
struct Watcher {
    queue: mpsc::Sender<Bytes>,
    encoding: Encoding,
    principal: Option<String>,
}

/// Everybody who reads the stream.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    all: VecDeque<Watcher>,
    acls: Arc<Acls>,
    /// Pods that the readers know, while there are any.
    pods: HashMap<NamespacedName, TaskState>,
}

fn record(encoding: Encoding, event: &Value) -> Bytes {
    recordio::encode(&encoding.encode_value("master.Event", event))
}

impl Watchers {
    pub fn new(acls: Arc<Acls>) -> Watchers {
        Watchers { acls, ..Watchers::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Sends an event to those who may see what it is about: an action and its object, all of them.
    fn send(&mut self, event: &Value, needs: &[(Action, &str)]) {
        let acls = self.acls.clone();
        let mut written: [Option<Bytes>; 2] = [None, None];
        self.all.retain(|w| {
            let may =
                |(action, object): &(Action, &str)| acls.may(w.principal.as_deref(), *action, Some(object));
            if !needs.iter().all(may) {
                return !w.queue.is_closed();
            }
            let slot = usize::from(w.encoding == Encoding::Protobuf);
            let bytes = written[slot].get_or_insert_with(|| record(w.encoding, event)).clone();
            w.queue.try_send(bytes).is_ok()
        });
        if self.all.is_empty() {
            self.pods.clear();
        }
    }
}

impl State {
    /// A task is there.
    pub fn tell_task_added(&mut self, key: &TaskKey) {
        if self.watchers.is_empty() {
            return;
        }
        let Some((f, task)) = self.frameworks.get(&key.0).and_then(|f| Some((f, f.tasks.get(&key.1)?)))
        else {
            return;
        };
        let event = json!({"type": "TASK_ADDED", "task_added": {"task": v1_task(f, task)}});
        let (user, owner) = (task_user(f, task).to_string(), f.record.info.user.clone());
        self.watchers.send(&event, &[(Action::ViewTask, &user), (Action::ViewFramework, &owner)]);
    }

    /// A task's state is another.
    pub fn tell_task_updated(&mut self, key: &TaskKey) {
        if self.watchers.is_empty() {
            return;
        }
        let Some((f, task)) = self.frameworks.get(&key.0).and_then(|f| Some((f, f.tasks.get(&key.1)?)))
        else {
            return;
        };
        let Some(status) = &task.status else { return };
        let event = json!({"type": "TASK_UPDATED", "task_updated": {
            "framework_id": {"value": key.0}, "status": status, "state": task.state}});
        let (user, owner) = (task_user(f, task).to_string(), f.record.info.user.clone());
        self.watchers.send(&event, &[(Action::ViewTask, &user), (Action::ViewFramework, &owner)]);
    }

    /// A framework is there, again or changed.
    pub fn tell_framework(&mut self, ledger: &Ledger, id: &FrameworkId, kind: &str) {
        if self.watchers.is_empty() {
            return;
        }
        let Some(f) = self.frameworks.get(id) else { return };
        let part = kind.to_ascii_lowercase();
        let body = match kind {
            "FRAMEWORK_REMOVED" => json!({"framework_info": f.record.info}),
            _ => json!({"framework": v1_framework(self, ledger, f)}),
        };
        let mut event = json!({"type": kind});
        event[part] = body;
        let owner = f.record.info.user.clone();
        self.watchers.send(&event, &[(Action::ViewFramework, &owner)]);
    }

    /// An agent is there.
    pub fn tell_agent_added(&mut self, ledger: &Ledger, id: &AgentId) {
        if self.watchers.is_empty() {
            return;
        }
        let Some(agent) = self.agents.get(id) else { return };
        let event =
            json!({"type": "AGENT_ADDED", "agent_added": {"agent": v1_agent(self, ledger, id, agent)}});
        self.watchers.send(&event, &[]);
    }

    /// An agent is gone.
    pub fn tell_agent_removed(&mut self, id: &AgentId) {
        let event = json!({"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": id.as_str()}}});
        self.watchers.send(&event, &[]);
    }

    /// A pod of the other face, as a task.
    pub fn tell_pod(&mut self, name: &NamespacedName, pod: Option<PodTask>) {
        let needs = [(Action::ViewTask, "root"), (Action::ViewFramework, "root")];
        let Some(pod) = pod else {
            self.watchers.pods.remove(name);
            return;
        };
        let shown = v1_pod(&pod);
        let event = match self.watchers.pods.insert(name.clone(), pod.state) {
            None => json!({"type": "TASK_ADDED", "task_added": {"task": shown}}),
            Some(before) if before == pod.state => return,
            Some(_) => json!({"type": "TASK_UPDATED", "task_updated": {
                "framework_id": shown["framework_id"], "status": shown["statuses"][0], "state": pod.state}}),
        };
        self.watchers.send(&event, &needs);
    }
}

/// Whether a framework is new to those who read.
pub(crate) fn kind_of_arrival(known: Option<&Framework>) -> &'static str {
    match known {
        Some(_) => "FRAMEWORK_UPDATED",
        None => "FRAMEWORK_ADDED",
    }
}

impl Master {
    /// SUBSCRIBE of the operator API.
    pub fn watch_events(&self, encoding: Encoding, principal: Option<&str>) -> Response<Body> {
        let beat = record(encoding, &json!({"type": "HEARTBEAT"}));
        let pods = self.pod_tasks();
        let snapshot = self.report_state(Viewer { master: self, principal });
        let mut state = self.state.lock();
        let (queue, body) = stream::channel(&self.closings, beat.clone());
        let subscribed = object([
            ("get_state", snapshot),
            ("heartbeat_interval_seconds", HEARTBEAT_INTERVAL.as_secs_f64().into()),
        ]);
        let subscribed = object([("type", "SUBSCRIBED".into()), ("subscribed", subscribed)]);
        // The queue is new and has room for both.
        let _ = queue.try_send(record(encoding, &subscribed));
        let _ = queue.try_send(beat);
        if state.watchers.all.is_empty() {
            state.watchers.pods = pods.iter().map(|p| (p.full_name(), p.state)).collect();
        }
        if state.watchers.all.len() >= WATCHERS_MAX {
            state.watchers.all.pop_front();
        }
        state.watchers.all.push_back(Watcher { queue, encoding, principal: principal.map(String::from) });
        drop(state);
        stream(encoding, body.boxed_unsync())
    }
}
