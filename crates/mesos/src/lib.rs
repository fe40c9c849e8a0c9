//! The Mesos v1 vocabulary: the messages of the API in their proto2-JSON form, the same in protobuf, RecordIO framing, and
//! the checked forms that the rest of the house works with.
//!
//! What: plain structs, one module a corner of `mesos.proto`; [`scheduler::Call::check`] turns a decoded call into a
//! [`scheduler::Request`] in which every required part is present; [`resource::amount`] turns a resource list into
//! [`stoa_units::Resources`]. Why here: only this crate knows the wire's spelling. The second encoding is [`proto`], which
//! turns any message into its JSON form and back by a table (`data/v1.txt`), so that everything else knows one form only. What not: no transport, no policy, no clock.
//!
//! Rules of the mapping: snake_case names, enums as their names, `bytes` as base64, unknown fields ignored at every
//! depth, absent optional fields left out when writing, numbers accepted as numbers or as text.

#[macro_use]
mod message;

pub mod agent;
pub mod encoding;
pub mod executor;
pub mod framework;
pub mod json;
pub mod mark;
pub mod offer;
pub mod options;
pub mod plane;
pub mod proto;
pub mod recordio;
pub mod render;
pub mod resource;
pub mod scheduler;
pub mod task;
pub mod verbosity;

pub use agent::{Address, AgentInfo, MasterInfo};
pub use encoding::Encoding;
pub use framework::{Capability, FrameworkInfo};
pub use json::{Blob, Double, Id};
pub use mark::Mark;
pub use offer::{Filters, Offer, Operation};
pub use resource::Resource;
pub use task::{ExecutorId, Reason, Source, TaskInfo, TaskState, TaskStatus};
pub use verbosity::Verbosity;

/// The Mesos version this vocabulary answers as. Clients split it at the dots and parse each part as an integer, so it
/// must never carry a suffix.
pub const VERSION: &str = "1.11.0";
