//! Tunnels from the Kubernetes door to an agent: exec, attach, logs and port-forward all become one bounded
//! pair of frame queues, whoever carries them.

use crate::wire::{Frame, TunnelRequest};
use stoa_units::AgentId;
use tokio::sync::mpsc;

/// Frames that may wait in one direction of a tunnel before the sender is held back.
pub const TUNNEL_QUEUE_LEN_MAX: usize = 16;

/// An open tunnel. Dropping it closes the far end.
#[derive(Debug)]
pub struct Tunnel {
    /// Towards the agent: standard input, resizes, closes.
    pub input: mpsc::Sender<Frame>,
    /// From the agent: standard output and error, the final status.
    pub output: mpsc::Receiver<Frame>,
}

/// Why no tunnel could be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The agent has no session with this leader.
    #[error("agent {0} is not connected")]
    NotConnected(AgentId),
    /// The agent refused: no such pod, container, or a wrong state.
    #[error("{message}")]
    Refused {
        /// The HTTP status that a kubelet would answer.
        code: u16,
        /// What the agent said.
        message: String,
    },
    /// The session broke while opening.
    #[error("the session with agent {0} broke")]
    Broken(AgentId),
}

/// Opens tunnels to agents.
#[async_trait::async_trait]
pub trait Opener: Send + Sync {
    /// Opens a tunnel for `request` on `agent`.
    async fn open(&self, agent: &AgentId, request: TunnelRequest) -> Result<Tunnel, OpenError>;
    /// Whether `agent` has a session now: its sign of life.
    fn is_connected(&self, _agent: &AgentId) -> bool {
        false
    }
}
