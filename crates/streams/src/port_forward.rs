//! Port-forwards: each connection to a port is a tunnel of its own.

use crate::negotiate::Encoding;
use crate::spdy::connection::Stream;
use crate::spdy::{Connection, Input, StreamInput, StreamOutput};
use crate::tunnel::{Opener, Tunnel};
use crate::wire::{Channel, Frame, TunnelRequest};
use crate::{channels, status};
use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{SinkExt, StreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use stoa_units::AgentId;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// Connections of which only one of the two streams has been opened yet.
const HALVES_LEN_MAX: usize = 64;
/// Ports of one request in the dialects of channels, which number them in one byte, two each.
const PORTS_LEN_MAX: usize = 64;
/// Messages that may wait to be written.
const WRITE_QUEUE_LEN_MAX: usize = 16;

/// Makes the request for a tunnel to a port.
pub type PortRequest = Arc<dyn Fn(u16) -> TunnelRequest + Send + Sync>;

/// Where connections go to.
pub(crate) struct Far {
    pub(crate) opener: Arc<dyn Opener>,
    pub(crate) agent: AgentId,
    pub(crate) request: PortRequest,
}

impl Far {
    async fn open(&self, port: u16) -> Result<Tunnel, String> {
        let opened = self.opener.open(&self.agent, (self.request)(port)).await;
        opened.map_err(|cause| format!("error forwarding port {port}: {cause}"))
    }
}

/// A connection whose client has opened one stream so far.
#[derive(Default)]
struct Half {
    data: Option<(StreamInput, StreamOutput)>,
    error: Option<(StreamInput, StreamOutput)>,
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    input: StreamInput,
    output: StreamOutput,
    error: StreamOutput,
    /// Clients finish it at once and send nothing on it.
    _error_input: StreamInput,
}

/// SPDY: the client opens an error stream and a data stream with the same request id for each connection.
pub(crate) async fn serve_streams<IO>(io: IO, far: Far)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (connection, driver) = Connection::new(io);
    let far = &far;
    let work = async move {
        let mut connection = connection;
        let mut halves: HashMap<String, Half> = HashMap::new();
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                stream = connection.next() => match stream {
                    Some(stream) => {
                        if let Some(pair) = match_up(&mut halves, stream).await {
                            running.push(forward(far, pair));
                        }
                    }
                    // The client ends it: by then there is nobody left to tell anything to.
                    None => break,
                },
                Some(()) = running.next() => {}
            }
        }
    };
    tokio::join!(driver, work);
}

/// Adds a stream to its other half; the pair when both are there.
async fn match_up(halves: &mut HashMap<String, Half>, stream: Stream) -> Option<Pair> {
    let Stream { headers, input, output } = stream;
    let port = headers.get("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    // Elder clients send no request id and open one pair after another.
    let id = headers.get("requestid").unwrap_or_default().to_owned();
    let (Some(port), Some(kind @ ("data" | "error"))) = (port, headers.get("streamtype")) else {
        output.reset().await;
        return None;
    };
    if !halves.contains_key(&id) && halves.len() >= HALVES_LEN_MAX {
        output.reset().await;
        return None;
    }
    let half = halves.entry(id.clone()).or_default();
    let place = if kind == "data" { &mut half.data } else { &mut half.error };
    if place.is_some() {
        output.reset().await;
        return None;
    }
    *place = Some((input, output));
    if half.data.is_none() || half.error.is_none() {
        return None;
    }
    let half = halves.remove(&id)?;
    let ((input, output), (error_input, error)) = (half.data?, half.error?);
    Some(Pair { port, input, output, error, _error_input: error_input })
}

async fn forward(far: &Far, pair: Pair) {
    let Pair { port, mut input, output, error, _error_input } = pair;
    match far.open(port).await {
        Ok(tunnel) => {
            if let Some(message) = pump(&mut input, &output, tunnel).await {
                let _ = error.send(message.into()).await;
            }
            output.finish().await;
        }
        Err(message) => {
            let _ = error.send(message.into()).await;
            output.reset().await;
        }
    }
    error.finish().await;
}

/// Carries one connection; returns what went wrong.
async fn pump(input: &mut StreamInput, output: &StreamOutput, tunnel: Tunnel) -> Option<String> {
    let Tunnel { input: to_pod, output: mut from_pod } = tunnel;
    let up = async {
        loop {
            match input.next().await {
                Input::Data(data) => {
                    for frame in Frame::split(Channel::Stdin, data) {
                        // What the pod no longer reads is dropped; it may still write.
                        let _ = to_pod.send(frame).await;
                    }
                }
                Input::Finished => {
                    let end = Bytes::from_static(&[Channel::Stdin as u8]);
                    let _ = to_pod.send(Frame::new(Channel::Close, end)).await;
                    return std::future::pending().await;
                }
                Input::Reset => return None,
            }
        }
    };
    let down = async {
        while let Some(frame) = from_pod.recv().await {
            match frame.channel {
                Channel::Stdout => output.send(frame.payload).await.ok()?,
                Channel::Close if frame.payload[..] == [Channel::Stdout as u8] => output.finish().await,
                Channel::Status => return status::failure(&frame.payload),
                _ => {}
            }
        }
        None
    };
    tokio::select! {
        end = up => end,
        end = down => end,
    }
}

/// WebSocket channels: the request names the ports; the i-th has data on channel 2i and errors on 2i+1, and the first message
/// on each is the port itself, little-endian.
pub(crate) async fn serve_channels<IO>(io: IO, encoding: Encoding, far: Far, ports: &[u16])
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = channels::accept(io).await.split();
    let ports = &ports[..ports.len().min(PORTS_LEN_MAX)];
    let (out, mut queue) = mpsc::channel::<Message>(WRITE_QUEUE_LEN_MAX);
    let (mut inputs, mut running) = (Vec::new(), FuturesUnordered::new());
    for (i, port) in ports.iter().enumerate() {
        let (to_port, input) = mpsc::channel(WRITE_QUEUE_LEN_MAX);
        inputs.push(to_port);
        running.push(forward_channel(&far, *port, i as u8 * 2, encoding, input, out.clone()));
    }
    drop(out);
    let down = async {
        while let Some(message) = queue.recv().await {
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let up = async {
        while let Some(message) = channels::next(&mut stream).await {
            let Some(said) = channels::decode(encoding, message) else { return };
            let is_data = said.channel % 2 == 0;
            if let Some(input) = inputs.get(said.channel as usize / 2).filter(|_| is_data) {
                for frame in Frame::split(Channel::Stdin, said.payload) {
                    let _ = input.send(frame).await;
                }
            }
        }
    };
    let forwards = async { while running.next().await.is_some() {} };
    tokio::select! {
        ((), ()) = async { tokio::join!(down, forwards) } => channels::finish(&mut sink, &mut stream).await,
        () = up => {}
    }
}

async fn forward_channel(
    far: &Far,
    port: u16,
    channel: u8,
    encoding: Encoding,
    mut input: mpsc::Receiver<Frame>,
    out: mpsc::Sender<Message>,
) {
    let say =
        async |channel: u8, payload: &[u8]| out.send(channels::encode(encoding, channel, payload)).await;
    for channel in [channel, channel + 1] {
        if say(channel, &port.to_le_bytes()).await.is_err() {
            return;
        }
    }
    let mut tunnel = match far.open(port).await {
        Ok(tunnel) => tunnel,
        Err(message) => {
            let _ = say(channel + 1, message.as_bytes()).await;
            return;
        }
    };
    let up = async {
        while let Some(frame) = input.recv().await {
            let _ = tunnel.input.send(frame).await;
        }
    };
    let down = async {
        while let Some(frame) = tunnel.output.recv().await {
            let goes_on = match frame.channel {
                Channel::Stdout => say(channel, &frame.payload).await.is_ok(),
                Channel::Status => {
                    if let Some(message) = status::failure(&frame.payload) {
                        let _ = say(channel + 1, message.as_bytes()).await;
                    }
                    false
                }
                _ => true,
            };
            if !goes_on {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}
