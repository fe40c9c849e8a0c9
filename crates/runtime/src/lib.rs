//! The native OCI runtime: containers without a daemon in between. A small helper process (`shim`) makes each container
//! with libcontainer, stays with it and outlives the agent; the agent's side is [`Runtime`], which starts helpers,
//! watches them by pidfd and reads back from disk what it once asked for. Not here: images (`image`), addresses
//! (`net`), volumes (`volume`) and any decision about restarts.
//!
//! Flow: `create_pod` (cgroup, namespaces, shm) → `start` (order on disk → helper → library → `launch` → exec) →
//! `exits` (helper ends → `exit.json`) → `remove` → `remove_pod`.

mod attach;
mod capability;
mod cgroup;
mod devices;
mod error;
pub mod exec;
mod executor;
mod features;
mod frame;
mod helper;
mod init;
mod launch;
mod layout;
mod lsm;
mod mount_point;
mod oci;
mod options;
pub mod pause;
mod pod;
mod process;
mod resident;
mod resize;
mod runtime;
mod seccomp;
pub mod shim;
pub mod spec;
pub mod state;
mod sweep;
pub mod users;

pub use attach::AttachSession;
pub use error::Error;
pub use exec::{ExecExit, ExecSession};
pub use features::Features;
pub use lsm::{Confinement, has_apparmor};
pub use options::Options;
pub use resident::release_code;
pub use runtime::Runtime;
pub use spec::*;
pub use state::*;
pub use sweep::destroy_all;

use std::pin::Pin;

/// A stream to read from.
pub type BoxRead = Pin<Box<dyn tokio::io::AsyncRead + Send>>;
/// A stream to write to.
pub type BoxWrite = Pin<Box<dyn tokio::io::AsyncWrite + Send>>;
