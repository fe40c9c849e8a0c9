//! Tunnels: the leader asks for one on the session, the agent answers with a stream of its own on the same connection, and
//! the two are joined here. HTTP/2 does the flow control; a queue of a few frames stands between.

use crate::options::TUNNEL_WAIT;
use crate::service::Inner;
use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use stoa_streams::{Body, OpenError, Opener, TUNNEL_QUEUE_LEN_MAX, Tunnel};
use stoa_units::AgentId;
use stoa_wire::{Down, Frame, Packet, TunnelRequest};
use tokio::sync::{mpsc, oneshot};

type Answer = Result<Tunnel, OpenError>;

/// Tunnels that were asked for and not answered yet.
#[derive(Default)]
pub(crate) struct Pending {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, (String, oneshot::Sender<Answer>)>>,
}

/// A tunnel that is waited for.
struct Asked<'a> {
    tunnels: &'a Pending,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.tunnels.waiting.lock().remove(&self.id);
    }
}

impl Pending {
    /// Takes a tunnel that `node` was asked for.
    fn take(&self, id: u64, node: &str) -> Option<oneshot::Sender<Answer>> {
        let mut waiting = self.waiting.lock();
        if waiting.get(&id).is_some_and(|(n, _)| n == node) {
            waiting.remove(&id).map(|(_, s)| s)
        } else {
            None
        }
    }

    /// The agent will not open it.
    pub(crate) fn refuse(&self, id: u64, node: &str, code: u16, message: String) {
        if let Some(sender) = self.take(id, node) {
            // Nobody waits any more: then nobody needs to know.
            let _ = sender.send(Err(OpenError::Refused { code, message }));
        }
    }

    /// The agent opened it: joins the request's and the answer's bodies to a tunnel.
    pub(crate) fn accept(&self, id: u64, node: &str, request: Request<Incoming>) -> Option<Response<Body>> {
        let sender = self.take(id, node)?;
        let (input, mut to_agent) = mpsc::channel::<Frame>(TUNNEL_QUEUE_LEN_MAX);
        let (from_agent, output) = mpsc::channel::<Frame>(TUNNEL_QUEUE_LEN_MAX);
        sender.send(Ok(Tunnel { input, output })).ok()?;
        // An answer that ends makes the server reset what the agent still sends: so it ends no earlier than that does.
        let (pumping, mut pumped) = oneshot::channel::<()>();
        tokio::spawn(async move {
            pump(request.into_body(), from_agent).await;
            drop(pumping);
        });
        let frames = async_stream(move |cx| match to_agent.poll_recv(cx) {
            Poll::Ready(Some(frame)) => {
                let mut bytes = BytesMut::new();
                frame.encode(&mut bytes);
                Poll::Ready(Some(Ok(BodyFrame::data(bytes.freeze()))))
            }
            Poll::Ready(None) => Pin::new(&mut pumped).poll(cx).map(|_| None),
            Poll::Pending => Poll::Pending,
        });
        Some(Response::new(StreamBody::new(frames).boxed_unsync()))
    }
}

/// A stream made of a poll function.
pub(crate) fn async_stream<T>(
    poll: impl FnMut(&mut std::task::Context<'_>) -> std::task::Poll<Option<T>>,
) -> impl futures_util::Stream<Item = T> {
    futures_util::stream::poll_fn(poll)
}

/// Moves frames from a body into a tunnel until either ends. A client that is gone ends it at once: a silent command would
/// otherwise hold the stream, and with it the door at shutdown, for as long as it runs.
async fn pump(mut body: Incoming, tunnel: mpsc::Sender<Frame>) {
    let mut rest = BytesMut::new();
    loop {
        let chunk = tokio::select! {
            chunk = body.frame() => chunk,
            () = tunnel.closed() => return,
        };
        let Some(Ok(chunk)) = chunk else { return };
        let Some(data) = chunk.data_ref() else { continue };
        rest.extend_from_slice(data);
        loop {
            match Frame::decode(&mut rest) {
                Ok(Some(frame)) => {
                    if tunnel.send(frame).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "a tunnel carried what is no frame");
                    return;
                }
            }
        }
    }
}

#[async_trait::async_trait]
impl Opener for Inner {
    async fn open(&self, agent: &AgentId, request: TunnelRequest) -> Result<Tunnel, OpenError> {
        let session =
            self.hub.session(agent.as_str()).ok_or_else(|| OpenError::NotConnected(agent.clone()))?;
        let broken = || OpenError::Broken(agent.clone());
        let id = self.tunnels.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.tunnels.waiting.lock().insert(id, (session.node.clone(), sender));
        // Also when the client goes away meanwhile: what nobody waits for is forgotten.
        let _asked = Asked { tunnels: &self.tunnels, id };
        let answered = tokio::time::timeout(TUNNEL_WAIT, async {
            // An agent that takes nothing in keeps this waiting too.
            match session.replies.send(Packet::bare(Down::Open { id, request })).await {
                Ok(()) => receiver.await,
                Err(_) => Ok(Err(broken())),
            }
        })
        .await;
        match answered {
            Ok(Ok(answer)) => answer,
            _ => Err(broken()),
        }
    }

    fn is_connected(&self, agent: &AgentId) -> bool {
        self.hub.session(agent.as_str()).is_some()
    }
}

/// The number at the end of a tunnel's path.
pub(crate) fn number(path: &str) -> Option<u64> {
    path.strip_prefix(stoa_wire::TUNNELS_PATH)?.parse().ok()
}

/// The answer to a tunnel that nobody asked for.
pub(crate) fn unknown() -> Response<Body> {
    crate::stream::plain(StatusCode::NOT_FOUND, "nobody waits for this tunnel")
}
