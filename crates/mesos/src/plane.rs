//! What master and agent say to each other about custom executors, over one tunnel for each agent. Not part of Mesos: the
//! executor's pod goes the way of all pods; this carries what has no place in a pod: its tasks and their news.
//!
//! Whatever is said may be said again after the tunnel broke: launches and kills are known by the task, updates by their
//! uuid. The agent keeps every update until the master says that the scheduler has confirmed it.

use crate::json::{Blob, Double};
use crate::task::{ExecutorId, KillPolicy, TaskInfo, TaskStatus};
use serde::{Deserialize, Serialize};
use stoa_units::{FrameworkId, TaskId};

/// From the master to an agent. `pod` is the uid of the executor's pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Down {
    /// Run a task under an executor. Known tasks are left alone.
    Launch {
        /// Which executor.
        pod: String,
        /// Of which framework.
        framework: FrameworkId,
        /// The tasks.
        tasks: Vec<TaskInfo>,
    },
    /// Kill a task.
    Kill {
        /// Which executor.
        pod: String,
        /// Which task.
        task: TaskId,
        /// How, instead of the task's own way.
        #[serde(default)]
        policy: Option<KillPolicy>,
    },
    /// The scheduler has confirmed an update, or is no more.
    Acknowledge {
        /// Which executor.
        pod: String,
        /// Of which task.
        task: TaskId,
        /// Which update.
        uuid: Blob,
    },
    /// Bytes of the scheduler.
    Message {
        /// Which executor.
        pod: String,
        /// The bytes.
        data: Blob,
    },
    /// The framework wants the executor to end; its pod is deleted, too.
    Shutdown {
        /// Which executor.
        pod: String,
    },
    /// The executors of which something may still be said are these: whatever is kept of others can go.
    Known {
        /// Uids of their pods.
        pods: Vec<String>,
    },
}

/// From an agent to the master.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Up {
    /// News of a task; repeated on a new tunnel until acknowledged.
    Update {
        /// Which executor.
        pod: String,
        /// Of which framework.
        framework: FrameworkId,
        /// The news.
        status: Box<TaskStatus>,
    },
    /// Bytes for the scheduler.
    Message {
        /// Of which framework.
        framework: FrameworkId,
        /// Which executor.
        executor: ExecutorId,
        /// The bytes.
        data: Blob,
    },
    /// An executor ended; all updates of its tasks were said before.
    Exited {
        /// Which executor.
        pod: String,
        /// Of which framework.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// As `waitpid` says it.
        status: i32,
        /// When, in seconds since the epoch.
        at: Double,
    },
}

/// `waitpid`'s number for an exit code or a signal.
pub fn wait_status(code: i32, signal: Option<i32>) -> i32 {
    match signal {
        Some(n) if (1..128).contains(&n) => n,
        _ => (code & 0xff) << 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_as_waitpid_tells_it() {
        assert_eq!(wait_status(0, None), 0);
        assert_eq!(wait_status(3, None), 768);
        assert_eq!(wait_status(137, Some(9)), 9);
    }
}
