//! Tasks: what a framework asks to run, and what it is told about it.

use crate::framework::{Labels, Opaque};
use crate::json::{Blob, Double, Id, Int};
use crate::offer::DurationInfo;
use crate::resource::{Resource, Scalar};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use stoa_units::{AgentId, FrameworkId, TaskId};

/// An executor's id, unique within its framework and agent. A command task's executor has the task's id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutorId(pub Arc<str>);

impl fmt::Display for ExecutorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&TaskId> for ExecutorId {
    fn from(id: &TaskId) -> Self {
        ExecutorId(id.0.clone())
    }
}

message! {
    /// A task to run.
    pub struct TaskInfo {
        required {
            /// Its name, for people.
            name: String,
            /// Its id, unique within the framework.
            task_id: Id<TaskId>,
            /// Where it runs.
            agent_id: Id<AgentId>,
        }
        always {
            /// What it takes.
            resources: Vec<Resource>,
        }
        optional {
            /// By how much it may exceed that, by resource name.
            limits: BTreeMap<String, Scalar>,
            /// A custom executor; excludes `command`.
            executor: Option<ExecutorInfo>,
            /// The command; excludes `executor`.
            command: Option<CommandInfo>,
            /// The container it runs in.
            container: Option<ContainerInfo>,
            /// How its health is seen.
            health_check: Option<Opaque>,
            /// A check that never kills.
            check: Option<Opaque>,
            /// How it is killed.
            kill_policy: Option<KillPolicy>,
            /// Bytes for the executor.
            data: Option<Blob>,
            /// Free-form.
            labels: Option<Labels>,
            /// For service discovery.
            discovery: Option<Opaque>,
            /// After which it is killed.
            max_completion_time: Option<DurationInfo>,
        }
    }
}

message! {
    /// How a task is killed.
    pub struct KillPolicy {
        optional {
            /// Between the polite signal and SIGKILL.
            grace_period: Option<DurationInfo>,
        }
    }
}

message! {
    /// A command.
    pub struct CommandInfo {
        optional {
            /// What is fetched before.
            uris: Vec<Opaque>,
            /// Variables.
            environment: Option<Environment>,
            /// Whether `value` goes through `/bin/sh -c`; true if unset.
            shell: Option<bool>,
            /// The shell command, or the executable.
            value: Option<String>,
            /// `argv`, if not through the shell.
            arguments: Vec<String>,
            /// As whom.
            user: Option<String>,
        }
    }
}

message! {
    /// Environment variables.
    pub struct Environment {
        always {
            /// In order.
            variables: Vec<Variable>,
        }
    }
}

message! {
    /// One variable.
    pub struct Variable {
        required {
            /// Its name.
            name: String,
        }
        optional {
            /// `VALUE` or `SECRET`.
            #[serde(rename = "type")]
            kind: Option<String>,
            /// Its value.
            value: Option<String>,
            /// Its secret.
            secret: Option<Opaque>,
        }
    }
}

message! {
    /// An executor.
    pub struct ExecutorInfo {
        required {
            /// Its id.
            executor_id: Id<ExecutorId>,
        }
        optional {
            /// `DEFAULT` or `CUSTOM`.
            #[serde(rename = "type")]
            kind: Option<String>,
            /// Whose.
            framework_id: Option<Id<FrameworkId>>,
            /// How it is started.
            command: Option<CommandInfo>,
            /// In what.
            container: Option<ContainerInfo>,
            /// What it takes itself.
            resources: Vec<Resource>,
            /// For people.
            name: Option<String>,
            /// For people.
            source: Option<String>,
            /// Bytes for it.
            data: Option<Blob>,
            /// How long it may take to end.
            shutdown_grace_period: Option<DurationInfo>,
            /// Free-form.
            labels: Option<Labels>,
        }
    }
}

names! {
    /// Which containerizer is asked for.
    pub enum ContainerKind {
        /// Docker's images and networks.
        Docker = "DOCKER",
        /// Mesos' own.
        Mesos = "MESOS",
    }
}

message! {
    /// A container.
    pub struct ContainerInfo {
        required {
            /// Which kind.
            #[serde(rename = "type")]
            kind: ContainerKind,
        }
        optional {
            /// What is mounted.
            volumes: Vec<Opaque>,
            /// Its host name.
            hostname: Option<String>,
            /// For `DOCKER`.
            docker: Option<DockerInfo>,
            /// For `MESOS`.
            mesos: Option<MesosContainerInfo>,
            /// The networks it joins.
            network_infos: Vec<NetworkInfo>,
            /// What is Linux' own about it.
            linux_info: Option<Opaque>,
            /// Limits of its processes.
            rlimit_info: Option<Opaque>,
            /// Whether it has a terminal.
            tty_info: Option<Opaque>,
        }
    }
}

message! {
    /// Docker's part of a container.
    pub struct DockerInfo {
        required {
            /// The image.
            image: String,
        }
        optional {
            /// `HOST`, `BRIDGE`, `NONE` or `USER`.
            network: Option<String>,
            /// Published ports.
            port_mappings: Vec<Opaque>,
            /// Whether it sees the machine's devices.
            privileged: Option<bool>,
            /// Raw options of `docker run`.
            parameters: Vec<Opaque>,
            /// Whether the image is pulled each time.
            force_pull_image: Option<bool>,
        }
    }
}

message! {
    /// Mesos' part of a container.
    pub struct MesosContainerInfo {
        optional {
            /// The image; absent means the machine's own files.
            image: Option<Image>,
        }
    }
}

message! {
    /// An image.
    pub struct Image {
        optional {
            /// `DOCKER` or `APPC`.
            #[serde(rename = "type")]
            kind: Option<String>,
            /// A docker image.
            docker: Option<DockerImage>,
        }
    }
}

message! {
    /// A docker image.
    pub struct DockerImage {
        required {
            /// Its name.
            name: String,
        }
    }
}

message! {
    /// A network that a container is on.
    pub struct NetworkInfo {
        optional {
            /// Its addresses there.
            ip_addresses: Vec<IpAddress>,
            /// The network's name.
            name: Option<String>,
            /// Published ports.
            port_mappings: Vec<Opaque>,
            /// Free-form.
            labels: Option<Labels>,
        }
    }
}

message! {
    /// An address.
    pub struct IpAddress {
        optional {
            /// `IPv4` or `IPv6`.
            protocol: Option<String>,
            /// The address.
            ip_address: Option<String>,
        }
    }
}

names! {
    /// Where a task is in its life.
    pub enum TaskState {
        /// Accepted, not yet seen by the executor.
        Staging = "TASK_STAGING",
        /// The executor has it.
        Starting = "TASK_STARTING",
        /// It runs.
        Running = "TASK_RUNNING",
        /// It is being killed.
        Killing = "TASK_KILLING",
        /// It ended well.
        Finished = "TASK_FINISHED",
        /// It ended badly.
        Failed = "TASK_FAILED",
        /// It was killed.
        Killed = "TASK_KILLED",
        /// It could not be accepted.
        Error = "TASK_ERROR",
        /// It is lost.
        Lost = "TASK_LOST",
        /// It never reached the agent.
        Dropped = "TASK_DROPPED",
        /// Its agent does not answer.
        Unreachable = "TASK_UNREACHABLE",
        /// It is no more.
        Gone = "TASK_GONE",
        /// An operator declared its agent gone.
        GoneByOperator = "TASK_GONE_BY_OPERATOR",
        /// The master does not know it.
        Unknown = "TASK_UNKNOWN",
    }
}

impl TaskState {
    /// The states that the metrics of masters and agents count.
    pub const COUNTED: [TaskState; 10] = [
        TaskState::Staging,
        TaskState::Starting,
        TaskState::Running,
        TaskState::Killing,
        TaskState::Finished,
        TaskState::Failed,
        TaskState::Killed,
        TaskState::Error,
        TaskState::Lost,
        TaskState::Gone,
    ];

    /// The name of its metric, as in `master/tasks_running`.
    pub fn metric(self) -> String {
        format!("tasks_{}", self.as_str().trim_start_matches("TASK_").to_ascii_lowercase())
    }

    /// Whether nothing can follow.
    pub fn is_terminal(self) -> bool {
        use TaskState as S;
        matches!(
            self,
            S::Finished
                | S::Failed
                | S::Killed
                | S::Error
                | S::Lost
                | S::Dropped
                | S::Gone
                | S::GoneByOperator
        )
    }
}

names! {
    /// Who says so.
    pub enum Source {
        /// The master.
        Master = "SOURCE_MASTER",
        /// The agent.
        Agent = "SOURCE_AGENT",
        /// The executor.
        Executor = "SOURCE_EXECUTOR",
    }
}

names! {
    /// Why a task is in a state.
    pub enum Reason {
        /// The agent went away.
        AgentDisconnected = "REASON_AGENT_DISCONNECTED",
        /// The agent was removed.
        AgentRemoved = "REASON_AGENT_REMOVED",
        /// The agent came back.
        AgentReregistered = "REASON_AGENT_REREGISTERED",
        /// The agent is not known.
        AgentUnknown = "REASON_AGENT_UNKNOWN",
        /// The command executor failed.
        CommandExecutorFailed = "REASON_COMMAND_EXECUTOR_FAILED",
        /// The container could not be started.
        ContainerLaunchFailed = "REASON_CONTAINER_LAUNCH_FAILED",
        /// A limit was passed.
        ContainerLimitation = "REASON_CONTAINER_LIMITATION",
        /// The disk limit was passed.
        ContainerLimitationDisk = "REASON_CONTAINER_LIMITATION_DISK",
        /// The memory limit was passed.
        ContainerLimitationMemory = "REASON_CONTAINER_LIMITATION_MEMORY",
        /// It had to make room.
        ContainerPreempted = "REASON_CONTAINER_PREEMPTED",
        /// The executor did not subscribe in time.
        ExecutorRegistrationTimeout = "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
        /// The executor ended.
        ExecutorTerminated = "REASON_EXECUTOR_TERMINATED",
        /// The framework was removed.
        FrameworkRemoved = "REASON_FRAMEWORK_REMOVED",
        /// The offers are not valid.
        InvalidOffers = "REASON_INVALID_OFFERS",
        /// It took too long.
        MaxCompletionTimeReached = "REASON_MAX_COMPLETION_TIME_REACHED",
        /// An answer to a question.
        Reconciliation = "REASON_RECONCILIATION",
        /// The resources are not known.
        ResourcesUnknown = "REASON_RESOURCES_UNKNOWN",
        /// The task group is not valid.
        TaskGroupInvalid = "REASON_TASK_GROUP_INVALID",
        /// The task is not valid.
        TaskInvalid = "REASON_TASK_INVALID",
        /// Killed before it ran.
        TaskKilledDuringLaunch = "REASON_TASK_KILLED_DURING_LAUNCH",
        /// It may not run.
        TaskUnauthorized = "REASON_TASK_UNAUTHORIZED",
        /// As Mesos names it: agent draining.
        AgentDraining = "REASON_AGENT_DRAINING",
        /// As Mesos names it: agent removed by operator.
        AgentRemovedByOperator = "REASON_AGENT_REMOVED_BY_OPERATOR",
        /// As Mesos names it: agent restarted.
        AgentRestarted = "REASON_AGENT_RESTARTED",
        /// As Mesos names it: container update failed.
        ContainerUpdateFailed = "REASON_CONTAINER_UPDATE_FAILED",
        /// As Mesos names it: executor reregistration timeout.
        ExecutorReregistrationTimeout = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
        /// As Mesos names it: executor unregistered.
        ExecutorUnregistered = "REASON_EXECUTOR_UNREGISTERED",
        /// As Mesos names it: gc error.
        GcError = "REASON_GC_ERROR",
        /// As Mesos names it: invalid frameworkid.
        InvalidFrameworkid = "REASON_INVALID_FRAMEWORKID",
        /// As Mesos names it: io switchboard exited.
        IoSwitchboardExited = "REASON_IO_SWITCHBOARD_EXITED",
        /// As Mesos names it: master disconnected.
        MasterDisconnected = "REASON_MASTER_DISCONNECTED",
        /// As Mesos names it: task check status updated.
        TaskCheckStatusUpdated = "REASON_TASK_CHECK_STATUS_UPDATED",
        /// As Mesos names it: task group unauthorized.
        TaskGroupUnauthorized = "REASON_TASK_GROUP_UNAUTHORIZED",
        /// As Mesos names it: task health check status updated.
        TaskHealthCheckStatusUpdated = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
        /// As Mesos names it: task unknown.
        TaskUnknown = "REASON_TASK_UNKNOWN",
        ; other Other = "REASON_OTHER",
    }
}

message! {
    /// What is known of a task's container.
    pub struct ContainerStatus {
        optional {
            /// The container's id.
            container_id: Option<Id<String>>,
            /// Its networks.
            network_infos: Vec<NetworkInfo>,
        }
    }
}

message! {
    /// A point in time.
    pub struct TimeInfo {
        required {
            /// Nanoseconds since the epoch.
            nanoseconds: Int,
        }
    }
}

message! {
    /// What is known of a task.
    pub struct TaskStatus {
        required {
            /// Which task.
            task_id: Id<TaskId>,
            /// In which state.
            state: TaskState,
        }
        optional {
            /// For people.
            message: Option<String>,
            /// Who says so.
            source: Option<Source>,
            /// Why.
            reason: Option<Reason>,
            /// Bytes of the executor.
            data: Option<Blob>,
            /// On which agent.
            agent_id: Option<Id<AgentId>>,
            /// Under which executor.
            executor_id: Option<Id<ExecutorId>>,
            /// Since when, in seconds since the epoch.
            timestamp: Option<Double>,
            /// Present if it must be acknowledged.
            uuid: Option<Blob>,
            /// What the health check says.
            healthy: Option<bool>,
            /// What the check says.
            check_status: Option<Opaque>,
            /// Free-form.
            labels: Option<Labels>,
            /// The container.
            container_status: Option<ContainerStatus>,
            /// Since when its agent does not answer.
            unreachable_time: Option<TimeInfo>,
        }
    }
}

impl TaskStatus {
    /// A status with nothing but a task and a state.
    pub fn new(task_id: TaskId, state: TaskState) -> TaskStatus {
        TaskStatus {
            task_id: Id { value: task_id },
            state,
            message: None,
            source: None,
            reason: None,
            data: None,
            agent_id: None,
            executor_id: None,
            timestamp: None,
            uuid: None,
            healthy: None,
            check_status: None,
            labels: None,
            container_status: None,
            unreachable_time: None,
        }
    }
}
