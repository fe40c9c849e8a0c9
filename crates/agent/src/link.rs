//! The session: one HTTP/2 connection to a leader. What the agent has to say goes up in order; what the leader says comes
//! down and is handed to the [`Handler`]; each tunnel is a further stream of the same connection.

use crate::machine::chain;
use crate::options::Options;
use crate::tls;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::{Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame as BodyFrame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::ServerName;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use stoa_wire::{Down, Frame, Packet, SESSION_PATH, TUNNELS_PATH, TunnelRequest, Up};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// Messages that wait on their way up before their makers are held back.
const UP_QUEUE_LEN_MAX: usize = 64;
/// Frames that wait in one direction of a tunnel.
const TUNNEL_QUEUE_LEN_MAX: usize = 16;
/// Tunnels that an agent serves at once.
const TUNNELS_MAX: usize = 512;
/// A leader that answers no ping for this long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long the leader may take to end a tunnel whose agent's end is done.
const LINGER: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Room for one stream's bytes in flight.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Room for all of a connection's bytes in flight: one slow tunnel must not stop the session.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

type Body = BoxBody<Bytes, Infallible>;

/// Takes what the leader says.
#[async_trait::async_trait]
pub(crate) trait Handler: Send + Sync + 'static {
    /// A message, in order.
    async fn down(&self, packet: Packet<Down>);
    /// A tunnel is wanted: find its far end, or refuse.
    async fn open(&self, request: TunnelRequest) -> Result<crate::tunnels::Opened, crate::tunnels::Refused>;
    /// Carry it.
    async fn serve(
        &self,
        opened: crate::tunnels::Opened,
        input: mpsc::Receiver<Frame>,
        output: mpsc::Sender<Frame>,
    );
}

/// The way up of one session.
#[derive(Clone)]
pub(crate) struct Uplink(mpsc::Sender<Packet<Up>>);

impl Uplink {
    /// Says something; false once the session is over.
    pub(crate) async fn send(&self, packet: Packet<Up>) -> bool {
        self.0.send(packet).await.is_ok()
    }
}

fn body(packets: mpsc::Receiver<Packet<Up>>) -> Body {
    let packets = stream::unfold(packets, |mut rx| async move {
        let packet = rx.recv().await?;
        Some((packet, rx))
    });
    let chunks = packets.flat_map(|packet| {
        let parts = match packet.encode() {
            Ok((head, object)) => [head, object],
            Err(error) => {
                // Only a status beyond all bounds gets here; the session is worth more than it.
                tracing::error!(%error, "a message to the leader is too large");
                [Bytes::new(), Bytes::new()]
            }
        };
        stream::iter(parts).filter(|b| std::future::ready(!b.is_empty()))
    });
    BodyExt::boxed(StreamBody::new(chunks.map(|b| Ok::<_, Infallible>(BodyFrame::data(b)))))
}

/// Connects to one master and gives the sender of requests.
async fn connect(options: &Options, master: &str) -> Result<SendRequest<Body>, String> {
    let authority =
        master.strip_prefix("https://").ok_or_else(|| format!("{master:?} is no https address"))?;
    let authority = authority.trim_end_matches('/');
    let parsed: http::uri::Authority = authority.parse().map_err(|e| format!("{master:?}: {e}"))?;
    let (host, port) = (parsed.host().trim_matches(['[', ']']).to_owned(), parsed.port_u16().unwrap_or(6443));
    let tcp =
        TcpStream::connect((host.as_str(), port)).await.map_err(|e| format!("cannot reach {master}: {e}"))?;
    tcp.set_nodelay(true).map_err(|e| e.to_string())?;
    let config = tls::session_config(&options.ca_pem, &options.cert_pem, &options.key_pem)?;
    let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
    let tls = tls.map_err(|e| format!("cannot agree on TLS with {master}: {e}"))?;
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(tls))
        .await
        .map_err(|e| format!("cannot speak HTTP/2 with {master}: {}", chain(&e)))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %chain(&error), "the connection to the leader ended");
        }
    });
    Ok(sender)
}

fn request(master: &str, path: &str, body: Body) -> Result<Request<Body>, String> {
    let uri = format!("{}{path}", master.trim_end_matches('/'));
    Request::post(uri)
        .header(http::header::USER_AGENT, concat!("stoa-agent/", env!("CARGO_PKG_VERSION")))
        .body(body)
        .map_err(|e| e.to_string())
}

/// Runs one session until it ends. `hello` is said first; `begin` then gets the way up and runs beside the reading.
pub(crate) async fn run<H: Handler, F: Future<Output = ()>>(
    options: &Options,
    master: &str,
    hello: Packet<Up>,
    handler: Arc<H>,
    begin: impl FnOnce(Uplink) -> F,
) -> Result<(), String> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(options, master));
    let mut sender = connecting.await.map_err(|_| format!("{master} does not answer"))??;
    let (tx, rx) = mpsc::channel(UP_QUEUE_LEN_MAX);
    tx.send(hello).await.map_err(|e| e.to_string())?;
    let answer = sender.send_request(request(master, SESSION_PATH, body(rx))?);
    let answer = tokio::time::timeout(CONNECT_TIMEOUT, answer)
        .await
        .map_err(|_| format!("{master} does not answer"))?;
    let answer = answer.map_err(|e| format!("{master}: {}", chain(&e)))?;
    if answer.status() != StatusCode::OK {
        let status = answer.status();
        let text = answer.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        return Err(format!("{master} answered {status}: {}", String::from_utf8_lossy(&text)));
    }
    let uplink = Uplink(tx);
    let tunnels = Tunnels {
        sender,
        master: master.to_owned(),
        uplink: uplink.clone(),
        permits: Arc::new(tokio::sync::Semaphore::new(TUNNELS_MAX)),
    };
    let reading = read(answer.into_body(), handler, tunnels);
    tokio::select! {
        outcome = reading => outcome,
        () = begin(uplink) => Err("the session's way up ended".to_owned()),
    }
}

async fn read<H: Handler>(mut incoming: Incoming, handler: Arc<H>, tunnels: Tunnels) -> Result<(), String> {
    let mut input = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|e| format!("the session broke: {}", chain(&e)))?;
        let Ok(data) = frame.into_data() else { continue };
        input.extend_from_slice(&data);
        while let Some(packet) = Packet::<Down>::decode(&mut input).map_err(|e| chain(&e))? {
            match packet.head {
                Down::Open { id, request } => tunnels.begin(id, request, Arc::clone(&handler)),
                _ => handler.down(packet).await,
            }
        }
    }
    Ok(())
}

struct Tunnels {
    sender: SendRequest<Body>,
    master: String,
    uplink: Uplink,
    permits: Arc<tokio::sync::Semaphore>,
}

impl Tunnels {
    fn begin<H: Handler>(&self, id: u64, wanted: TunnelRequest, handler: Arc<H>) {
        let (sender, master, uplink) = (self.sender.clone(), self.master.clone(), self.uplink.clone());
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        tokio::spawn(async move {
            let opened = match permit {
                Ok(permit) => handler.open(wanted).await.map(|opened| (opened, permit)),
                Err(_) => Err((503, "this node carries too many streams already".to_owned())),
            };
            match opened {
                Ok((opened, permit)) => {
                    if let Err(error) = carry(sender, &master, id, opened, handler).await {
                        tracing::debug!(%error, id, "a tunnel broke");
                    }
                    drop(permit);
                }
                Err((code, message)) => {
                    uplink.send(Packet::bare(Up::TunnelRefused { id, code, message })).await;
                }
            }
        });
    }
}

async fn carry<H: Handler>(
    mut sender: SendRequest<Body>,
    master: &str,
    id: u64,
    opened: crate::tunnels::Opened,
    handler: Arc<H>,
) -> Result<(), String> {
    let (out, frames) = mpsc::channel::<Frame>(TUNNEL_QUEUE_LEN_MAX);
    let frames = stream::unfold(frames, |mut rx| async move {
        let frame = rx.recv().await?;
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        Some((Ok::<_, Infallible>(BodyFrame::data(bytes.freeze())), rx))
    });
    let answer = sender.send_request(request(
        master,
        &format!("{TUNNELS_PATH}{id}"),
        BodyExt::boxed(StreamBody::new(frames)),
    )?);
    let answer = answer.await.map_err(|e| chain(&e))?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the leader answered {}", answer.status()));
    }
    let (into, input) = mpsc::channel(TUNNEL_QUEUE_LEN_MAX);
    let reading = read_frames(answer.into_body(), into);
    tokio::pin!(reading);
    let serving = handler.serve(opened, input, out);
    tokio::pin!(serving);
    let mut is_read = false;
    loop {
        tokio::select! {
            () = &mut serving => break,
            // The client's end may come early (half-close); only a broken stream ends the serving.
            outcome = &mut reading, if !is_read => {
                outcome?;
                is_read = true;
            }
        }
    }
    // Letting go of the answer now would reset the stream and lose what is still on its way up: the leader ends first.
    if !is_read {
        let _ = tokio::time::timeout(LINGER, reading).await;
    }
    Ok(())
}

/// Passes frames on; when nobody wants them any more, reads on to the end all the same.
async fn read_frames(body: Incoming, into: mpsc::Sender<Frame>) -> Result<(), String> {
    let mut chunks = body.into_data_stream().map_err(|e| chain(&e));
    let mut input = BytesMut::new();
    while let Some(chunk) = chunks.try_next().await? {
        input.extend_from_slice(&chunk);
        while let Some(frame) = Frame::decode(&mut input).map_err(|e| e.to_string())? {
            // Nobody listens any more: the rest is read all the same, for the stream's sake.
            let _ = into.send(frame).await;
        }
    }
    Ok(())
}
