//! From an agreement to the code that speaks its dialect.

use crate::messages::{self, Messages};
use crate::negotiate::{Accepted, Dialect};
use crate::port_forward::PortRequest;
use crate::tunnel::{Opener, Tunnel};
use crate::{byte_stream::ByteStream, channels, command, port_forward};
use bytes::Bytes;
use futures_util::Stream;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use stoa_units::AgentId;
use tokio::io::{AsyncRead, AsyncWrite};

/// Which streams a command's client asked for, in the query of its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

impl Accepted {
    /// Carries a command or an attachment until one side has ended.
    pub async fn serve_command(self, upgraded: Upgraded, tunnel: Tunnel, wants: Wants) {
        self.command_over(TokioIo::new(upgraded), tunnel, wants).await;
    }

    /// Carries a log until it ends or the client goes.
    pub async fn serve_logs(self, upgraded: Upgraded, tunnel: Tunnel) {
        self.logs_over(TokioIo::new(upgraded), tunnel).await;
    }

    /// Sends items, a message each, until they end or the client goes.
    pub async fn serve_messages(self, upgraded: Upgraded, items: impl Stream<Item = Bytes>, form: Messages) {
        messages::serve(TokioIo::new(upgraded), items, form).await;
    }

    /// Forwards ports until the client goes: one tunnel a connection. `ports` are those that the request's query names;
    /// only dialects of channels need them.
    pub async fn serve_ports(
        self,
        upgraded: Upgraded,
        opener: Arc<dyn Opener>,
        agent: AgentId,
        request: PortRequest,
        ports: &[u16],
    ) {
        let far = port_forward::Far { opener, agent, request };
        self.ports_over(TokioIo::new(upgraded), far, ports).await;
    }

    pub(crate) async fn command_over<IO>(self, io: IO, tunnel: Tunnel, wants: Wants)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.dialect {
            Dialect::Channels(version, encoding) => {
                channels::serve_command(io, version, encoding, wants, tunnel).await;
            }
            Dialect::Spdy(version) => command::serve(io, version, wants, tunnel).await,
            Dialect::Plain(_) | Dialect::SpdyInWebSocket => wrong_kind(self.dialect),
        }
    }

    pub(crate) async fn logs_over<IO>(self, io: IO, tunnel: Tunnel)
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        match self.dialect {
            Dialect::Plain(encoding) => channels::serve_logs(io, encoding, tunnel).await,
            _ => wrong_kind(self.dialect),
        }
    }

    pub(crate) async fn ports_over<IO>(self, io: IO, far: port_forward::Far, ports: &[u16])
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self.dialect {
            Dialect::Spdy(_) => port_forward::serve_streams(io, far).await,
            Dialect::SpdyInWebSocket => {
                port_forward::serve_streams(ByteStream::new(channels::accept(io).await), far).await;
            }
            Dialect::Channels(_, encoding) => port_forward::serve_channels(io, encoding, far, ports).await,
            Dialect::Plain(_) => wrong_kind(self.dialect),
        }
    }
}

/// The connection is dropped: the caller negotiated for one kind and serves another.
fn wrong_kind(dialect: Dialect) {
    tracing::error!(?dialect, "a connection was negotiated for another kind of stream than is served");
}

#[cfg(test)]
mod tests;
