//! The scheduler API: calls as they come, requests as they are checked, events as they go.

use crate::agent::MasterInfo;
use crate::encoding::Encoding;
use crate::framework::{FrameworkInfo, Opaque};
use crate::json::{Blob, Double, Id, Int};
use crate::offer::{Filters, Offer, Operation};
use crate::resource::Resource;
use crate::task::{ExecutorId, KillPolicy, TaskStatus};
use stoa_units::{AgentId, FrameworkId, OfferId, TaskId};

names! {
    /// Which call.
    pub enum CallKind {
        /// Opens the event stream.
        Subscribe = "SUBSCRIBE",
        /// Ends the framework.
        Teardown = "TEARDOWN",
        /// Uses offers.
        Accept = "ACCEPT",
        /// Gives offers back.
        Decline = "DECLINE",
        /// Agrees to maintenance.
        AcceptInverseOffers = "ACCEPT_INVERSE_OFFERS",
        /// Objects to maintenance.
        DeclineInverseOffers = "DECLINE_INVERSE_OFFERS",
        /// Asks for offers again.
        Revive = "REVIVE",
        /// Kills a task.
        Kill = "KILL",
        /// Ends an executor.
        Shutdown = "SHUTDOWN",
        /// Confirms a status.
        Acknowledge = "ACKNOWLEDGE",
        /// Confirms an operation's status.
        AcknowledgeOperationStatus = "ACKNOWLEDGE_OPERATION_STATUS",
        /// Asks for tasks' states.
        Reconcile = "RECONCILE",
        /// Asks for operations' states.
        ReconcileOperations = "RECONCILE_OPERATIONS",
        /// Bytes to an executor.
        Message = "MESSAGE",
        /// Asks for resources.
        Request = "REQUEST",
        /// Wants no offers.
        Suppress = "SUPPRESS",
        /// Changes the framework.
        UpdateFramework = "UPDATE_FRAMEWORK",
        ; other Unknown = "UNKNOWN",
    }
}

message! {
    /// A call.
    pub struct Call {
        optional {
            /// Whose; absent on a first SUBSCRIBE.
            framework_id: Option<Id<FrameworkId>>,
            /// Which.
            #[serde(rename = "type")]
            kind: Option<CallKind>,
            /// For SUBSCRIBE.
            subscribe: Option<Subscribe>,
            /// For ACCEPT.
            accept: Option<Accept>,
            /// For DECLINE.
            decline: Option<Decline>,
            /// For ACCEPT_INVERSE_OFFERS.
            accept_inverse_offers: Option<InverseAnswer>,
            /// For DECLINE_INVERSE_OFFERS.
            decline_inverse_offers: Option<InverseAnswer>,
            /// For REVIVE.
            revive: Option<Roles>,
            /// For SUPPRESS.
            suppress: Option<Roles>,
            /// For KILL.
            kill: Option<Kill>,
            /// For SHUTDOWN.
            shutdown: Option<Shutdown>,
            /// For ACKNOWLEDGE.
            acknowledge: Option<Acknowledge>,
            /// For ACKNOWLEDGE_OPERATION_STATUS.
            acknowledge_operation_status: Option<AcknowledgeOperation>,
            /// For RECONCILE.
            reconcile: Option<Reconcile>,
            /// For RECONCILE_OPERATIONS.
            reconcile_operations: Option<ReconcileOperations>,
            /// For MESSAGE.
            message: Option<Message>,
            /// For REQUEST.
            request: Option<Opaque>,
            /// For UPDATE_FRAMEWORK.
            update_framework: Option<Subscribe>,
        }
    }
}

message! {
    /// SUBSCRIBE and UPDATE_FRAMEWORK.
    pub struct Subscribe {
        required {
            /// Who.
            framework_info: FrameworkInfo,
        }
        optional {
            /// Roles that want no offers for now.
            suppressed_roles: Vec<String>,
            /// Which agents a role wants offers of.
            offer_constraints: Option<Opaque>,
        }
    }
}

message! {
    /// ACCEPT.
    pub struct Accept {
        always {
            /// All of one agent and role.
            offer_ids: Vec<Id<OfferId>>,
            /// In order.
            operations: Vec<Operation>,
        }
        optional {
            /// For what is left.
            filters: Option<Filters>,
        }
    }
}

message! {
    /// DECLINE.
    pub struct Decline {
        always {
            /// Which.
            offer_ids: Vec<Id<OfferId>>,
        }
        optional {
            /// For how long.
            filters: Option<Filters>,
        }
    }
}

message! {
    /// Roles; empty means all.
    pub struct Roles {
        optional {
            /// Several.
            roles: Vec<String>,
            /// One, as older clients send it.
            role: Option<String>,
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
            /// Where.
            agent_id: Option<Id<AgentId>>,
            /// How, instead of the task's own way.
            kill_policy: Option<KillPolicy>,
        }
    }
}

message! {
    /// SHUTDOWN.
    pub struct Shutdown {
        required {
            /// Which.
            executor_id: Id<ExecutorId>,
            /// Where.
            agent_id: Id<AgentId>,
        }
    }
}

message! {
    /// ACKNOWLEDGE.
    pub struct Acknowledge {
        required {
            /// Of which agent.
            agent_id: Id<AgentId>,
            /// Of which task.
            task_id: Id<TaskId>,
            /// Which status.
            uuid: Blob,
        }
    }
}

message! {
    /// ACCEPT_INVERSE_OFFERS and DECLINE_INVERSE_OFFERS.
    pub struct InverseAnswer {
        always {
            /// Which.
            inverse_offer_ids: Vec<Id<OfferId>>,
        }
        optional {
            /// For how long the framework is not asked again.
            filters: Option<Filters>,
        }
    }
}

message! {
    /// ACKNOWLEDGE_OPERATION_STATUS.
    pub struct AcknowledgeOperation {
        optional {
            /// Which status.
            uuid: Option<Blob>,
            /// Of which operation.
            operation_id: Option<Id<String>>,
            /// Of which agent.
            agent_id: Option<Id<AgentId>>,
            /// The whole status, as pymesos sends it.
            status: Option<Opaque>,
        }
    }
}

impl AcknowledgeOperation {
    /// The operation and the status of it that is confirmed.
    pub fn parts(&self) -> Option<(String, Vec<u8>)> {
        let status = self.status.as_ref();
        let given = status.and_then(|s| s["operation_id"]["value"].as_str());
        let id = self.operation_id.as_ref().map(|i| i.value.as_str()).or(given)?;
        let of_status = || serde_json::from_value::<Blob>(status?["uuid"]["value"].clone()).ok();
        let uuid = self.uuid.clone().or_else(of_status)?;
        Some((id.into(), uuid.0))
    }
}

message! {
    /// RECONCILE.
    pub struct Reconcile {
        always {
            /// Which; empty means all that live.
            tasks: Vec<ReconcileTask>,
        }
    }
}

message! {
    /// One task to reconcile.
    pub struct ReconcileTask {
        required {
            /// Which.
            task_id: Id<TaskId>,
        }
        optional {
            /// Where it was.
            agent_id: Option<Id<AgentId>>,
        }
    }
}

message! {
    /// RECONCILE_OPERATIONS.
    pub struct ReconcileOperations {
        always {
            /// Which.
            operations: Vec<ReconcileOperation>,
        }
    }
}

message! {
    /// One operation to reconcile.
    pub struct ReconcileOperation {
        required {
            /// Which.
            operation_id: Id<String>,
        }
        optional {
            /// Where.
            agent_id: Option<Id<AgentId>>,
        }
    }
}

message! {
    /// MESSAGE, both ways.
    pub struct Message {
        required {
            /// Of which agent.
            agent_id: Id<AgentId>,
            /// Which executor.
            executor_id: Id<ExecutorId>,
            /// The bytes.
            data: Blob,
        }
    }
}

/// A checked call: what the type announces is there.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Opens the event stream.
    Subscribe(Box<Subscribe>),
    /// Everything else comes from a framework that has an id.
    Of(FrameworkId, Box<Command>),
}

/// What a subscribed framework may ask for.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Ends the framework.
    Teardown,
    /// Uses offers.
    Accept(Accept),
    /// Gives offers back.
    Decline(Decline),
    /// Wants offers again in some roles; none means all.
    Revive(Vec<String>),
    /// Wants no offers in some roles; none means all.
    Suppress(Vec<String>),
    /// Kills a task.
    Kill(Kill),
    /// Ends an executor.
    Shutdown(Shutdown),
    /// Confirms a status.
    Acknowledge(Acknowledge),
    /// Asks for tasks' states.
    Reconcile(Reconcile),
    /// Asks for operations' states.
    ReconcileOperations(ReconcileOperations),
    /// Bytes to an executor.
    Message(Message),
    /// Changes the framework.
    UpdateFramework(Box<Subscribe>),
    /// Agrees to do without an agent.
    AcceptInverseOffers(InverseAnswer),
    /// Objects to that.
    DeclineInverseOffers(InverseAnswer),
    /// Confirms an operation's status.
    AcknowledgeOperation(AcknowledgeOperation),
    /// Accepted and without effect: requests for resources.
    Nothing(CallKind),
}

fn part<T>(part: Option<T>, name: &str) -> Result<T, String> {
    part.ok_or_else(|| format!("Expecting '{name}' to be present"))
}

fn roles(sub: Option<Roles>) -> Vec<String> {
    let Some(sub) = sub else { return vec![] };
    let mut roles = sub.roles;
    roles.extend(sub.role);
    roles
}

impl Call {
    /// Checks that what the type announces is there. The texts are Mesos'.
    pub fn check(self) -> Result<Request, String> {
        // A type that is not known is as good as none.
        let kind = part(self.kind.filter(|k| *k != CallKind::Unknown), "type")?;
        if kind == CallKind::Subscribe {
            let subscribe = part(self.subscribe, "subscribe")?;
            let outer = self.framework_id.map(|i| i.value).filter(|i| !i.as_str().is_empty());
            if outer.as_ref() != subscribe.framework_info.known_id() {
                return Err("'framework_id' differs from 'subscribe.framework_info.id'".into());
            }
            return Ok(Request::Subscribe(Box::new(subscribe)));
        }
        let id = part(self.framework_id, "framework_id")?.value;
        let command = match kind {
            CallKind::Teardown => Command::Teardown,
            CallKind::Accept => Command::Accept(part(self.accept, "accept")?),
            CallKind::Decline => Command::Decline(part(self.decline, "decline")?),
            CallKind::Revive => Command::Revive(roles(self.revive)),
            CallKind::Suppress => Command::Suppress(roles(self.suppress)),
            CallKind::Kill => Command::Kill(part(self.kill, "kill")?),
            CallKind::Shutdown => Command::Shutdown(part(self.shutdown, "shutdown")?),
            CallKind::Acknowledge => {
                let ack = part(self.acknowledge, "acknowledge")?;
                if ack.uuid.0.len() != 16 {
                    return Err(format!("Not a valid UUID: {} bytes instead of 16", ack.uuid.0.len()));
                }
                Command::Acknowledge(ack)
            }
            CallKind::Reconcile => Command::Reconcile(part(self.reconcile, "reconcile")?),
            CallKind::ReconcileOperations => {
                Command::ReconcileOperations(part(self.reconcile_operations, "reconcile_operations")?)
            }
            CallKind::Message => Command::Message(part(self.message, "message")?),
            CallKind::UpdateFramework => {
                let update = part(self.update_framework, "update_framework")?;
                if update.framework_info.known_id() != Some(&id) {
                    return Err("'framework_id' differs from 'update_framework.framework_info.id'".into());
                }
                Command::UpdateFramework(Box::new(update))
            }
            CallKind::Request => part(self.request, "request").map(|_| Command::Nothing(kind))?,
            CallKind::AcceptInverseOffers => {
                Command::AcceptInverseOffers(part(self.accept_inverse_offers, "accept_inverse_offers")?)
            }
            CallKind::DeclineInverseOffers => {
                Command::DeclineInverseOffers(part(self.decline_inverse_offers, "decline_inverse_offers")?)
            }
            CallKind::AcknowledgeOperationStatus => Command::AcknowledgeOperation(part(
                self.acknowledge_operation_status,
                "acknowledge_operation_status",
            )?),
            CallKind::Subscribe | CallKind::Unknown => return Err("Expecting 'type' to be present".into()),
        };
        Ok(Request::Of(id, Box::new(command)))
    }
}

/// An event, written with its `type` beside the part that the type announces.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
#[serde(tag = "type")]
pub enum Event {
    /// First on a stream.
    #[serde(rename = "SUBSCRIBED")]
    Subscribed {
        /// The part.
        subscribed: Subscribed,
    },
    /// Resources.
    #[serde(rename = "OFFERS")]
    Offers {
        /// The part.
        offers: Offers,
    },
    /// Questions whether the framework can do without resources.
    #[serde(rename = "INVERSE_OFFERS")]
    InverseOffers {
        /// The part.
        inverse_offers: InverseOffers,
    },
    /// A question is no longer asked.
    #[serde(rename = "RESCIND_INVERSE_OFFER")]
    RescindInverseOffer {
        /// The part.
        rescind_inverse_offer: RescindInverse,
    },
    /// An offer is no longer valid.
    #[serde(rename = "RESCIND")]
    Rescind {
        /// The part.
        rescind: Rescind,
    },
    /// News of a task.
    #[serde(rename = "UPDATE")]
    Update {
        /// The part.
        update: Update,
    },
    /// News of an operation.
    #[serde(rename = "UPDATE_OPERATION_STATUS")]
    UpdateOperationStatus {
        /// The part.
        update_operation_status: UpdateOperationStatus,
    },
    /// Bytes of an executor.
    #[serde(rename = "MESSAGE")]
    Message {
        /// The part.
        message: Message,
    },
    /// An agent was lost, or an executor ended.
    #[serde(rename = "FAILURE")]
    Failure {
        /// The part.
        failure: Failure,
    },
    /// The scheduler must give up.
    #[serde(rename = "ERROR")]
    Error {
        /// The part.
        error: ErrorPart,
    },
    /// The stream lives.
    #[serde(rename = "HEARTBEAT")]
    Heartbeat,
}

message! {
    /// SUBSCRIBED.
    pub struct Subscribed {
        required {
            /// The framework's id from now on.
            framework_id: Id<FrameworkId>,
        }
        optional {
            /// How often a heartbeat comes.
            heartbeat_interval_seconds: Option<Double>,
            /// Who speaks.
            master_info: Option<MasterInfo>,
        }
    }
}

message! {
    /// OFFERS.
    pub struct Offers {
        always {
            /// The offers.
            offers: Vec<Offer>,
        }
    }
}

message! {
    /// INVERSE_OFFERS.
    pub struct InverseOffers {
        always {
            /// The questions.
            inverse_offers: Vec<Opaque>,
        }
    }
}

message! {
    /// RESCIND_INVERSE_OFFER.
    pub struct RescindInverse {
        required {
            /// Which.
            inverse_offer_id: Id<OfferId>,
        }
    }
}

message! {
    /// RESCIND.
    pub struct Rescind {
        required {
            /// Which.
            offer_id: Id<OfferId>,
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
    /// UPDATE_OPERATION_STATUS.
    pub struct UpdateOperationStatus {
        required {
            /// The news.
            status: OperationStatus,
        }
    }
}

message! {
    /// What is known of an operation.
    pub struct OperationStatus {
        required {
            /// `OPERATION_ERROR` and others.
            state: String,
        }
        optional {
            /// Which.
            operation_id: Option<Id<String>>,
            /// For people.
            message: Option<String>,
            /// What the operation's resources are now.
            converted_resources: Vec<Resource>,
            /// Present if it must be acknowledged.
            uuid: Option<Id<Blob>>,
            /// Where.
            agent_id: Option<Id<AgentId>>,
        }
    }
}

message! {
    /// FAILURE.
    pub struct Failure {
        optional {
            /// Which agent.
            agent_id: Option<Id<AgentId>>,
            /// Which executor, if it is not the agent that failed.
            executor_id: Option<Id<ExecutorId>>,
            /// The executor's raw wait status; always there beside `executor_id`.
            status: Option<Int>,
        }
    }
}

message! {
    /// ERROR.
    pub struct ErrorPart {
        required {
            /// Why.
            message: String,
        }
    }
}

impl Event {
    /// An ERROR.
    pub fn error(message: impl Into<String>) -> Event {
        Event::Error { error: ErrorPart { message: message.into() } }
    }

    /// A RESCIND.
    pub fn rescind(offer: OfferId) -> Event {
        Event::Rescind { rescind: Rescind { offer_id: Id { value: offer } } }
    }

    /// An INVERSE_OFFERS.
    pub fn inverse_offers(inverse_offers: Vec<Opaque>) -> Event {
        Event::InverseOffers { inverse_offers: InverseOffers { inverse_offers } }
    }

    /// A RESCIND_INVERSE_OFFER.
    pub fn rescind_inverse(offer: OfferId) -> Event {
        Event::RescindInverseOffer {
            rescind_inverse_offer: RescindInverse { inverse_offer_id: Id { value: offer } },
        }
    }

    /// An UPDATE.
    pub fn update(status: TaskStatus) -> Event {
        Event::Update { update: Update { status } }
    }

    /// The event as one framed record.
    pub fn to_record(&self, encoding: Encoding) -> bytes::Bytes {
        crate::recordio::encode(&encoding.encode("scheduler.Event", self))
    }
}

#[cfg(test)]
mod tests;
