//! Streaming protocols of the Kubernetes door: WebSocket channels and SPDY/3.1, and the tunnel that both are translated
//! into on the way to an agent.
//!
//! **What.** A client that wants to run a command, attach, forward a port or follow a log asks for an upgrade of its
//! HTTP/1.1 connection, in one of several dialects: `v5.channel.k8s.io` and its elders over WebSocket, SPDY/3.1 with one
//! stream for each of standard input, output, error and so on, or SPDY inside of a WebSocket (`kubectl port-forward`).
//! Behind this crate there is one language only: the frames of [`wire`], carried by a [`Tunnel`].
//!
//! **Flow of a command.**
//! 1. [`negotiate`] looks at the request's headers: an [`Accepted`] dialect, or [`Refused`] with what to answer.
//! 2. The caller opens the tunnel with its [`Opener`]; a failure is still a plain HTTP answer.
//! 3. The caller answers with [`Accepted::response`] (101), awaits hyper's upgrade in a task of its own, and there calls
//!    [`Accepted::serve_command`], which returns when either side has ended.
//!
//! Port-forwards open a tunnel for each connection, so [`Accepted::serve_ports`] is given the [`Opener`] instead.
//!
//! **What not.** No authentication, no authorisation, no look-up of pods: that has happened before. Nothing is buffered
//! without a bound, and a client that does not read is waited for, which holds back the agent through the tunnel.

mod byte_stream;
mod channels;
mod command;
mod extension;
#[doc(hidden)]
pub mod fuzz;
mod messages;
mod negotiate;
mod pipe;
mod port_forward;
mod serve;
mod spdy;
mod status;
mod tunnel;

pub use extension::{Body, Extension};
pub use messages::Messages;
pub use negotiate::{Accepted, Kind, Refused, is_upgrade, negotiate};
pub use port_forward::PortRequest;
pub use serve::Wants;
pub use stoa_wire as wire;
pub use tunnel::{OpenError, Opener, TUNNEL_QUEUE_LEN_MAX, Tunnel};
