//! Offers, and what a scheduler may do with them.

use crate::agent::Attribute;
use crate::framework::Opaque;
use crate::json::{Double, Id, Int};
use crate::resource::{AllocationInfo, Resource, Scalar};
use crate::task::{ExecutorId, ExecutorInfo, TaskInfo};
use stoa_units::{AgentId, FrameworkId, OfferId};

message! {
    /// Resources of one agent, offered to one framework in one role.
    pub struct Offer {
        required {
            /// Its id.
            id: Id<OfferId>,
            /// To whom.
            framework_id: Id<FrameworkId>,
            /// Of which agent.
            agent_id: Id<AgentId>,
            /// The agent's name.
            hostname: String,
        }
        always {
            /// What is offered.
            resources: Vec<Resource>,
            /// What the agent says about itself. Clients index into it without looking whether it is there.
            attributes: Vec<Attribute>,
            /// Executors of this framework that run on the agent.
            executor_ids: Vec<Id<ExecutorId>>,
        }
        optional {
            /// Where the agent's API is.
            url: Option<Url>,
            /// Region and zone.
            domain: Option<Opaque>,
            /// The role it is offered to; only for frameworks with MULTI_ROLE.
            allocation_info: Option<AllocationInfo>,
            /// When the agent goes into maintenance.
            unavailability: Option<Opaque>,
        }
    }
}

message! {
    /// Where something is reached.
    pub struct Url {
        required {
            /// `http` or `https`.
            scheme: String,
            /// Where.
            address: crate::agent::Address,
        }
        optional {
            /// Under which path.
            path: Option<String>,
        }
    }
}

message! {
    /// What applies to the part of an offer that is not used.
    pub struct Filters {
        optional {
            /// For how long the same or less shall not be offered again.
            refuse_seconds: Option<Double>,
        }
    }
}

names! {
    /// What is done with offered resources.
    pub enum OperationKind {
        /// Starts tasks.
        Launch = "LAUNCH",
        /// Starts a task group.
        LaunchGroup = "LAUNCH_GROUP",
        /// Reserves.
        Reserve = "RESERVE",
        /// Gives a reservation back.
        Unreserve = "UNRESERVE",
        /// Makes persistent volumes.
        Create = "CREATE",
        /// Destroys persistent volumes.
        Destroy = "DESTROY",
        /// Grows a volume.
        GrowVolume = "GROW_VOLUME",
        /// Shrinks a volume.
        ShrinkVolume = "SHRINK_VOLUME",
        /// Makes a disk from raw storage.
        CreateDisk = "CREATE_DISK",
        /// Turns a disk into raw storage.
        DestroyDisk = "DESTROY_DISK",
        ; other Unknown = "UNKNOWN",
    }
}

message! {
    /// One operation on offered resources.
    pub struct Operation {
        required {
            /// Which.
            #[serde(rename = "type")]
            kind: OperationKind,
        }
        optional {
            /// Set by schedulers that want feedback on it.
            id: Option<Id<String>>,
            /// For LAUNCH.
            launch: Option<Launch>,
            /// For LAUNCH_GROUP.
            launch_group: Option<LaunchGroup>,
            /// For RESERVE.
            reserve: Option<Reserve>,
            /// For UNRESERVE.
            unreserve: Option<Unreserve>,
            /// For CREATE.
            create: Option<Volumes>,
            /// For DESTROY.
            destroy: Option<Volumes>,
            /// For GROW_VOLUME.
            grow_volume: Option<GrowVolume>,
            /// For SHRINK_VOLUME.
            shrink_volume: Option<ShrinkVolume>,
        }
    }
}

message! {
    /// Tasks to start.
    pub struct Launch {
        always {
            /// The tasks.
            task_infos: Vec<TaskInfo>,
        }
    }
}

message! {
    /// Reserves.
    pub struct Reserve {
        always {
            /// What it becomes.
            resources: Vec<Resource>,
        }
        optional {
            /// What it is made of; absent, the same with one reservation less.
            source: Vec<Resource>,
        }
    }
}

message! {
    /// Gives reservations back.
    pub struct Unreserve {
        always {
            /// What is given back, as it is.
            resources: Vec<Resource>,
        }
    }
}

message! {
    /// CREATE and DESTROY.
    pub struct Volumes {
        always {
            /// The volumes.
            volumes: Vec<Resource>,
        }
    }
}

message! {
    /// Makes a volume larger.
    pub struct GrowVolume {
        required {
            /// Which.
            volume: Resource,
            /// By what.
            addition: Resource,
        }
    }
}

message! {
    /// Makes a volume smaller.
    pub struct ShrinkVolume {
        required {
            /// Which.
            volume: Resource,
            /// By how much.
            subtract: Scalar,
        }
    }
}

message! {
    /// Tasks to start together under one executor.
    pub struct LaunchGroup {
        required {
            /// The executor.
            executor: ExecutorInfo,
            /// The tasks.
            task_group: TaskGroupInfo,
        }
    }
}

message! {
    /// Tasks that live and die together.
    pub struct TaskGroupInfo {
        always {
            /// The tasks.
            tasks: Vec<TaskInfo>,
        }
    }
}

message! {
    /// A span of time.
    pub struct DurationInfo {
        required {
            /// In nanoseconds.
            nanoseconds: Int,
        }
    }
}
