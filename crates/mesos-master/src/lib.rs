//! The Mesos door: the v1 scheduler API, offers and status updates over the shared ledger.
//!
//! What: [`Service`] listens on port 5050, keeps frameworks' event streams, makes offers, turns accepted tasks into Pods
//! and turns what becomes of those Pods into status updates that are repeated until the framework confirms them. Why like
//! this: a task *is* a Pod, so agents, accounting, logs and garbage collection are those of pods, and this crate only
//! translates. What not: it places nothing itself and talks to no agent.
//!
//! Flow: `server` reads a request → `scheduler` checks it → `subscribe`, `accept`, `command` change the `state` under
//! one lock and write to the store → `watch` sees the pods change → `observe` says what that means for the task →
//! `state` queues and sends the update. Tasks under custom executors have no pod of their own: `plane` carries their
//! launches and their news. `cycle` makes offers and does all that waits for time. Four kinds of records outlive the
//! process: the pods, `/stoa/frameworks/<id>`, `/stoa/executors/<pod>` and `/stoa/tasks/<framework>:<task>`.

mod accept;
mod agents;
mod by_agent;
mod check;
mod command;
mod cycle;
mod executor;
mod feed;
mod feedback;
mod files;
mod framework;
mod launch;
mod legacy;
mod maintenance;
mod master;
mod mount;
mod node_ports;
mod observe;
mod operator;
mod options;
mod persist;
mod plane;
mod pod;
mod pools;
mod proxy;
mod recover;
mod report;
mod respond;
mod rules;
mod scheduler;
mod server;
mod service;
mod sharing;
mod show;
mod state;
mod stream;
mod subscribe;
mod task;
mod view;
mod watch;

pub use master::Leader;
pub use options::{Anonymous, Credential, Options};
pub use service::{Error, Handle, Service};
pub use stoa_authz::Acls;
pub use stoa_mesos::Verbosity;

#[cfg(test)]
mod tests;
