//! The agent's Mesos side: custom executors with their tasks, and the HTTP API that they and operators use.
//!
//! An executor is a pod like any other to the rest of the agent; [`Executors`] keeps what a pod has no place for: the
//! tasks that its framework gave it, the updates that the scheduler has not confirmed, and the executor's event stream.
//! `plane` carries these between here and the master, `server` between here and the executor, `journal` over the death
//! of this process.

mod access;
mod container_id;
mod download;
mod endpoint;
mod executor;
mod executors;
mod fetch;
mod figures;
mod files;
mod journal;
mod operator;
pub(crate) mod plane;
mod report;
mod server;
mod sessions;
mod standalone;
mod stream;
mod tasks;
mod view;

pub(crate) use access::Asker;
pub use access::OperatorApi;
pub(crate) use endpoint::{Endpoint, announced, bind_for_pods};
pub(crate) use executors::{CONTAINER, Executors, is_executor};
pub(crate) use fetch::{As, Fetched, Fetcher, uris};
pub(crate) use server::{Door, run, serve};
pub(crate) use sessions::Sessions;
pub(crate) use standalone::{CONTAINER_ID, Standalone, is_standalone};
pub(crate) use tasks::Tasks;

/// On the pods of Mesos tasks and executors.
const FRAMEWORK: &str = "stoa.dev/framework-id";

/// Whether a pod is a framework's, or a standalone container. Only the master and this agent may say so of a pod: admission
/// keeps the annotations from others.
pub(crate) fn is_task(pod: &k8s_openapi::api::core::v1::Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(FRAMEWORK)) || is_standalone(pod)
}
