//! The executor API: what an executor says to its agent, and what it hears on its stream.

use crate::agent::AgentInfo;
use crate::framework::FrameworkInfo;
use crate::json::{Blob, Id};
use crate::offer::TaskGroupInfo;
use crate::task::{ExecutorId, ExecutorInfo, KillPolicy, TaskInfo, TaskStatus};
use stoa_units::{FrameworkId, TaskId};

names! {
    /// Which call.
    pub enum CallKind {
        /// Opens the event stream.
        Subscribe = "SUBSCRIBE",
        /// News of a task.
        Update = "UPDATE",
        /// Bytes for the scheduler.
        Message = "MESSAGE",
        /// Keeps a connection alive.
        Heartbeat = "HEARTBEAT",
        ; other Unknown = "UNKNOWN",
    }
}

message! {
    /// A call.
    pub struct Call {
        optional {
            /// Which executor.
            executor_id: Option<Id<ExecutorId>>,
            /// Of which framework.
            framework_id: Option<Id<FrameworkId>>,
            /// Which.
            #[serde(rename = "type")]
            kind: Option<CallKind>,
            /// For SUBSCRIBE.
            subscribe: Option<Subscribe>,
            /// For UPDATE.
            update: Option<Update>,
            /// For MESSAGE.
            message: Option<Message>,
        }
    }
}

message! {
    /// SUBSCRIBE.
    pub struct Subscribe {
        optional {
            /// Tasks that the executor has and of which no status was confirmed.
            unacknowledged_tasks: Vec<TaskInfo>,
            /// Statuses that were not confirmed.
            unacknowledged_updates: Vec<Update>,
        }
    }
}

message! {
    /// UPDATE.
    pub struct Update {
        required {
            /// The news.
            status: TaskStatus,
        }
    }
}

message! {
    /// MESSAGE, both ways.
    pub struct Message {
        required {
            /// The bytes.
            data: Blob,
        }
    }
}

/// A checked call: what the type announces is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Opens the event stream.
    Subscribe(Subscribe),
    /// News of a task.
    Update(Box<TaskStatus>),
    /// Bytes for the scheduler.
    Message(Blob),
    /// Nothing to do.
    Heartbeat,
}

/// Who calls, and what for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Which executor.
    pub executor: ExecutorId,
    /// Of which framework.
    pub framework: FrameworkId,
    /// What.
    pub command: Command,
}

fn part<T>(part: Option<T>, name: &str) -> Result<T, String> {
    part.ok_or_else(|| format!("Expecting '{name}' to be present"))
}

impl Call {
    /// Checks that what the type announces is there.
    pub fn check(self) -> Result<Request, String> {
        // A type that is not known is as good as none.
        let kind = part(self.kind.filter(|k| *k != CallKind::Unknown), "type")?;
        let executor = part(self.executor_id, "executor_id")?.value;
        let framework = part(self.framework_id, "framework_id")?.value;
        let command = match kind {
            CallKind::Subscribe => {
                let subscribe = part(self.subscribe, "subscribe")?;
                for update in &subscribe.unacknowledged_updates {
                    check_status(&update.status)?;
                }
                Command::Subscribe(subscribe)
            }
            CallKind::Update => {
                let status = part(self.update, "update")?.status;
                check_status(&status)?;
                Command::Update(Box::new(status))
            }
            CallKind::Message => Command::Message(part(self.message, "message")?.data),
            CallKind::Heartbeat => Command::Heartbeat,
            CallKind::Unknown => return Err("Expecting 'type' to be present".into()),
        };
        Ok(Request { executor, framework, command })
    }
}

/// An update is told apart by its uuid; staging is for the agent to say.
fn check_status(status: &TaskStatus) -> Result<(), String> {
    let uuid = part(status.uuid.as_ref(), "uuid")?;
    if uuid.0.len() != 16 {
        return Err(format!("Not a valid UUID: {} bytes instead of 16", uuid.0.len()));
    }
    if status.state == crate::task::TaskState::Staging {
        return Err("TASK_STAGING is not a state that executors may report".into());
    }
    Ok(())
}

/// An event, written with its `type` beside the part that the type announces.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "type")]
pub enum Event {
    /// First on a stream.
    #[serde(rename = "SUBSCRIBED")]
    Subscribed {
        /// The part.
        subscribed: Box<Subscribed>,
    },
    /// A task to run.
    #[serde(rename = "LAUNCH")]
    Launch {
        /// The part.
        launch: Box<Launch>,
    },
    /// Tasks to run together.
    #[serde(rename = "LAUNCH_GROUP")]
    LaunchGroup {
        /// The part.
        launch_group: LaunchGroup,
    },
    /// A task to kill.
    #[serde(rename = "KILL")]
    Kill {
        /// The part.
        kill: Kill,
    },
    /// The scheduler has confirmed a status.
    #[serde(rename = "ACKNOWLEDGED")]
    Acknowledged {
        /// The part.
        acknowledged: Acknowledged,
    },
    /// Bytes of the scheduler.
    #[serde(rename = "MESSAGE")]
    Message {
        /// The part.
        message: Message,
    },
    /// The executor must end.
    #[serde(rename = "SHUTDOWN")]
    Shutdown,
    /// The executor must give up.
    #[serde(rename = "ERROR")]
    Error {
        /// The part.
        error: crate::scheduler::ErrorPart,
    },
    /// The stream lives.
    #[serde(rename = "HEARTBEAT")]
    Heartbeat,
}

impl Event {
    /// As a record of the stream.
    pub fn to_record(&self, encoding: crate::Encoding) -> bytes::Bytes {
        crate::recordio::encode(&encoding.encode("executor.Event", self))
    }
}

message! {
    /// SUBSCRIBED.
    pub struct Subscribed {
        required {
            /// The executor as its framework described it.
            executor_info: ExecutorInfo,
            /// The framework, with its id.
            framework_info: FrameworkInfo,
            /// The machine, with its id.
            agent_info: AgentInfo,
        }
        optional {
            /// The executor's container.
            container_id: Option<Id<String>>,
        }
    }
}

message! {
    /// LAUNCH.
    pub struct Launch {
        required {
            /// The task.
            task: TaskInfo,
        }
    }
}

message! {
    /// LAUNCH_GROUP.
    pub struct LaunchGroup {
        required {
            /// The tasks.
            task_group: TaskGroupInfo,
        }
    }
}

message! {
    /// KILL.
    pub struct Kill {
        required {
            /// Which.
            task_id: Id<TaskId>,
        }
        optional {
            /// How, instead of the task's own way.
            kill_policy: Option<KillPolicy>,
        }
    }
}

message! {
    /// ACKNOWLEDGED.
    pub struct Acknowledged {
        required {
            /// Of which task.
            task_id: Id<TaskId>,
            /// Which status.
            uuid: Blob,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::to_ascii;

    #[test]
    fn a_call_without_what_its_type_announces_is_refused() {
        let check = |text: &str| serde_json::from_str::<Call>(text).unwrap().check();
        for (text, want) in [
            ("{}", "Expecting 'type' to be present"),
            (r#"{"type":"UPDATE"}"#, "Expecting 'executor_id' to be present"),
            (r#"{"type":"UPDATE","executor_id":{"value":"e"}}"#, "Expecting 'framework_id' to be present"),
            (
                r#"{"type":"UPDATE","executor_id":{"value":"e"},"framework_id":{"value":"f"}}"#,
                "Expecting 'update' to be present",
            ),
            (
                r#"{"type":"UPDATE","executor_id":{"value":"e"},"framework_id":{"value":"f"},
                   "update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING"}}}"#,
                "Expecting 'uuid' to be present",
            ),
            (
                r#"{"type":"UPDATE","executor_id":{"value":"e"},"framework_id":{"value":"f"},
                   "update":{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","uuid":"aGk="}}}"#,
                "Not a valid UUID: 2 bytes instead of 16",
            ),
            (
                r#"{"type":"NEW","executor_id":{"value":"e"},"framework_id":{"value":"f"}}"#,
                "Expecting 'type' to be present",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), want, "{text}");
        }
    }

    #[test]
    fn a_subscription_may_bring_what_was_not_confirmed() {
        let text = r#"{"type":"SUBSCRIBE","executor_id":{"value":"e"},"framework_id":{"value":"f"},"subscribe":{
            "unacknowledged_tasks":[{"name":"n","task_id":{"value":"t"},"agent_id":{"value":"a"},"resources":[]}],
            "unacknowledged_updates":[{"status":{"task_id":{"value":"t"},"state":"TASK_RUNNING","timestamp":1.5,
              "uuid":"AAAAAAAAAAAAAAAAAAAAAA=="},"framework_id":{"value":"f"}}]}}"#;
        let request = serde_json::from_str::<Call>(text).unwrap().check().unwrap();
        let Command::Subscribe(subscribe) = request.command else { panic!("a subscription") };
        assert_eq!(subscribe.unacknowledged_tasks.len(), 1);
        assert_eq!(subscribe.unacknowledged_updates.len(), 1);
    }

    #[test]
    fn a_shutdown_has_no_part() {
        assert_eq!(to_ascii(&Event::Shutdown), br#"{"type":"SHUTDOWN"}"#);
        let kill = Event::Kill { kill: Kill { task_id: Id { value: "t".into() }, kill_policy: None } };
        assert_eq!(to_ascii(&kill), br#"{"type":"KILL","kill":{"task_id":{"value":"t"}}}"#);
    }
}
