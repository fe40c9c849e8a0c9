//! What an agent and the leader say to each other: session messages and tunnel frames.
//!
//! An agent dials the leader and keeps one HTTP/2 connection. On it runs one session stream (desired state down,
//! observed state up, as [`Packet`]s) and one stream a tunnel (exec, attach, logs, port-forward, as [`Frame`]s).
//! Nothing here does I/O; every length is checked before memory is given to it.

mod session;
mod tunnel;

pub use session::{
    Down, HEAD_LEN_MAX, HeldPod, JOIN_PATH, JoinRequest, JoinResponse, NodeCondition, NodeFeatures,
    NodeImage, NodeReport, NodeTaint, OBJECT_LEN_MAX, Occurrence, PODS_MAX, PROTOCOL, Packet, PacketError,
    PodRef, Referent, SESSION_PATH, TUNNELS_PATH, Up,
};
pub use tunnel::{Channel, FRAME_LEN_MAX, Frame, FrameError, LogOptions, NodeHead, TunnelRequest};
