//! The listener: accepts connections within bounds, shakes hands, and serves HTTP/1.1 and HTTP/2 on them until told to stop.

use crate::authn::TokenAuthenticator;
use crate::options::*;
use crate::respond::{Answer, whole};
use crate::state::State;
use crate::{Error, Options, cork, route, tls};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Method, Request, StatusCode};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde_json::Value;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::Status;
use stoa_registry::{Registry, Selection};
use stoa_streams::{Extension, Opener};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// How long accepting pauses after the system refused a connection, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the door leads to.
#[derive(Clone)]
pub struct Handles {
    /// The objects.
    pub registry: Arc<Registry>,
    /// Who knows bearer tokens, asked in order.
    pub tokens: Vec<Arc<dyn TokenAuthenticator>>,
    /// Who opens tunnels to agents, for logs and exec.
    pub opener: Option<Arc<dyn Opener>>,
    /// Who handles requests under `/stoa/v1/`.
    pub extension: Option<Arc<dyn Extension>>,
}

impl std::fmt::Debug for Handles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handles").finish_non_exhaustive()
    }
}

/// The door, open but not yet answering.
pub struct Service {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    state: Arc<State>,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    /// Listens. Connections wait until [`Service::run`].
    pub async fn bind(options: &Options, handles: Handles) -> Result<Service, Error> {
        let (config, verifiers) = tls::config(options)?;
        let listen = |cause| Error::Listen { address: options.bind, cause };
        let listener = TcpListener::bind(options.bind).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Arc::new(State::new(options, handles, verifiers, address)?);
        Ok(Service { listener, address, acceptor, state })
    }

    /// The address that is listened on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What pods use, for this program's own autoscalers.
    pub fn figures(&self) -> PodFigures {
        PodFigures(self.state.clone())
    }

    /// Answers until `shutdown`; then ends watches, lets requests finish for a while, and returns.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) {
        let connections = TaskTracker::new();
        let permits = Arc::new(Semaphore::new(CONNECTIONS_LEN_MAX));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepting = async {
                let permit = permits.clone().acquire_owned().await;
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accepting => accepted,
                () = &mut shutdown => break,
            };
            let (Ok((stream, peer)), Ok(permit)) = (accepted, permit) else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let (acceptor, state) = (self.acceptor.clone(), self.state.clone());
            connections.spawn(async move {
                let _permit = permit;
                let _open = state.metrics.connection();
                if let Err(why) = connection(acceptor, stream, state.clone()).await {
                    tracing::debug!(%peer, %why, "a connection ended");
                }
            });
        }
        self.state.closing.cancel();
        connections.close();
        if tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await.is_err() {
            tracing::info!(left = connections.len(), "connections were cut at shutdown");
        }
    }
}

/// What pods use, as `metrics.k8s.io` has it.
#[derive(Clone)]
pub struct PodFigures(Arc<State>);

impl PodFigures {
    /// Of the pods of a namespace that a selector means, those of which it is known.
    ///
    /// # Errors
    /// When the selector cannot be read.
    pub async fn of(&self, namespace: &str, selector: &str) -> Result<Vec<Value>, Status> {
        let pods = stoa_kube::resources().find("", "v1", "pods").ok_or_else(Status::unknown_path)?;
        route::usage_of_pods(&self.0, namespace, Selection::parse(pods, selector, "")?).await
    }
}

async fn connection(acceptor: TlsAcceptor, stream: TcpStream, state: Arc<State>) -> Result<(), String> {
    // Answers are small and wait for nobody: a delayed segment would only cost latency.
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let shaking = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
    let shaken = tokio::select! {
        shaken = shaking => shaken,
        // Nobody has asked for anything yet.
        () = state.closing.cancelled() => return Ok(()),
    };
    let stream = shaken.map_err(|_| "the handshake took too long")?.map_err(|e| e.to_string())?;
    let peer = Arc::new(tls::peer(stream.get_ref().1, &state));
    let handler = {
        let state = state.clone();
        service_fn(move |request: Request<Incoming>| {
            let (state, peer) = (state.clone(), peer.clone());
            async move {
                let is_head = request.method() == Method::HEAD;
                let answer = route::serve(state, peer, request).await;
                Ok::<_, Infallible>(if is_head { without_body(answer) } else { answer })
            }
        })
    };
    let builder = builder();
    let (stream, cork) = cork::cork(stream);
    let mut serving = std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), handler));
    tokio::select! {
        done = cork.drive(serving.as_mut()) => return done.map_err(|e| e.to_string()),
        () = state.closing.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    cork.drive(serving).await.map_err(|e| e.to_string())
}

/// An answer to HEAD: over HTTP/2 nobody else leaves the body out.
fn without_body(mut answer: Answer) -> Answer {
    // What a program answers to HEAD has no body already, and a length of its own or none.
    if let Some(len) = answer.body().size_hint().exact().filter(|len| *len > 0)
        && !answer.headers().contains_key(CONTENT_LENGTH)
        && answer.status() != StatusCode::SWITCHING_PROTOCOLS
    {
        answer.headers_mut().insert(CONTENT_LENGTH, len.into());
    }
    *answer.body_mut() = whole(Bytes::new());
    answer
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_READ_TIMEOUT)
        .max_headers(HEADERS_LEN_MAX)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_LEN_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_pending_accept_reset_streams(RESET_STREAMS_LEN_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BYTES_MAX)
        .keep_alive_interval(PING_PERIOD)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
