//! Clients in small, against every dialect, with an agent that the test plays itself.

use super::*;
use crate::negotiate::{Kind, negotiate};
use crate::spdy::frame::{self, Frame as Spdy};
use crate::spdy::headers::{Headers, Packer, Unpacker};
use crate::tunnel::OpenError;
use crate::wire::{Channel, Frame, TunnelRequest};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;
const FAILURE: &[u8] =
    br#"{"metadata":{},"status":"Failure","message":"command terminated with exit code 3"}"#;
const ALL: Wants = Wants { stdin: true, stdout: true, stderr: true, tty: false };
const TERMINAL: Wants = Wants { stdin: true, stdout: true, stderr: false, tty: true };

/// The far side of a tunnel.
struct Agent {
    input: mpsc::Receiver<Frame>,
    output: mpsc::Sender<Frame>,
}

impl Agent {
    async fn say(&self, channel: Channel, payload: &'static [u8]) {
        self.output.send(Frame::new(channel, payload)).await.expect("the tunnel is open");
    }

    async fn hear(&mut self) -> Option<(Channel, Bytes)> {
        self.input.recv().await.map(|frame| (frame.channel, frame.payload))
    }

    async fn expect(&mut self, channel: Channel, payload: &'static [u8]) {
        assert_eq!(self.hear().await, Some((channel, Bytes::from_static(payload))));
    }
}

fn tunnel() -> (Tunnel, Agent) {
    let (to_agent, input) = mpsc::channel(4);
    let (output, from_agent) = mpsc::channel(4);
    (Tunnel { input: to_agent, output: from_agent }, Agent { input, output })
}

fn accepted(kind: Kind, protocol: &'static str) -> Accepted {
    let web_socket =
        [("upgrade", "websocket"), ("sec-websocket-version", "13"), ("sec-websocket-key", "a2V5")];
    let mut headers = HeaderMap::new();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    if let Some(protocol) = protocol.strip_prefix("spdy:") {
        headers.insert("upgrade", HeaderValue::from_static("SPDY/3.1"));
        headers.insert("x-stream-protocol-version", HeaderValue::from_static(protocol));
    } else {
        for (name, value) in web_socket {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers.insert("sec-websocket-protocol", HeaderValue::from_static(protocol));
    }
    negotiate(&Method::GET, &headers, kind).expect("a dialect in common")
}

/// Whatever goes wrong, a test ends.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it does not hang")
}

async fn web_socket(io: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(io, Role::Client, None).await
}

fn binary(channel: u8, payload: &[u8]) -> Message {
    Message::Binary([&[channel], payload].concat().into())
}

async fn receive(client: &mut WebSocketStream<DuplexStream>) -> Message {
    soon(client.next()).await.expect("a message").expect("no error")
}

#[tokio::test]
async fn a_web_socket_of_the_fifth_version_carries_a_command() {
    let (near, far) = duplex(4096);
    let (tunnel, mut agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Exec, "v5.channel.k8s.io").command_over(far, tunnel, ALL));
    let mut client = web_socket(near).await;
    assert_eq!(receive(&mut client).await, binary(1, b""), "the stream is open");
    for message in [binary(0, b"hello"), binary(4, b"{\"Width\":80,\"Height\":24}"), binary(255, &[0])] {
        client.send(message).await.expect("sent");
    }
    soon(agent.expect(Channel::Stdin, b"hello")).await;
    soon(agent.expect(Channel::Resize, b"{\"Width\":80,\"Height\":24}")).await;
    soon(agent.expect(Channel::Close, &[0])).await;
    client.send(Message::Ping(Bytes::from_static(b"p"))).await.expect("sent");
    assert_eq!(receive(&mut client).await, Message::Pong(Bytes::from_static(b"p")));
    agent.say(Channel::Stdout, b"out").await;
    agent.say(Channel::Stderr, b"err").await;
    agent.say(Channel::Status, FAILURE).await;
    assert_eq!(receive(&mut client).await, binary(1, b"out"));
    assert_eq!(receive(&mut client).await, binary(2, b"err"));
    assert_eq!(receive(&mut client).await, binary(3, FAILURE));
    assert!(
        matches!(receive(&mut client).await, Message::Close(Some(close)) if u16::from(close.code) == 1000)
    );
    while let Some(Ok(_)) = soon(client.next()).await {}
    soon(served).await.expect("it ends");
}

#[tokio::test]
async fn elder_channels_are_text_and_silent_on_success() {
    let (near, far) = duplex(4096);
    let (tunnel, mut agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Attach, "base64.channel.k8s.io").command_over(far, tunnel, ALL));
    let mut client = web_socket(near).await;
    assert_eq!(receive(&mut client).await, Message::text("1"));
    client.send(Message::text("0aGk=")).await.expect("sent");
    soon(agent.expect(Channel::Stdin, b"hi")).await;
    agent.say(Channel::Stdout, b"hi").await;
    agent.say(Channel::Status, SUCCESS).await;
    assert_eq!(receive(&mut client).await, Message::text("1aGk="));
    assert!(matches!(receive(&mut client).await, Message::Close(_)));
    while let Some(Ok(_)) = soon(client.next()).await {}
    soon(served).await.expect("it ends");
}

#[tokio::test]
async fn a_tunnel_that_breaks_is_a_failure_and_a_client_that_goes_ends_the_tunnel() {
    let (near, far) = duplex(4096);
    let (broken, agent) = tunnel();
    drop(agent);
    let served = tokio::spawn(accepted(Kind::Exec, "v4.channel.k8s.io").command_over(far, broken, ALL));
    let mut client = web_socket(near).await;
    assert_eq!(receive(&mut client).await, binary(1, b""));
    let last = receive(&mut client).await.into_data();
    assert_eq!(last[0], 3);
    assert!(String::from_utf8_lossy(&last).contains("the connection to the node was lost"));
    drop(client);
    soon(served).await.expect("it ends");

    let (near, far) = duplex(4096);
    let (tunnel, mut agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Exec, "v4.channel.k8s.io").command_over(far, tunnel, ALL));
    drop(near);
    soon(served).await.expect("it ends");
    assert_eq!(agent.hear().await, None);
}

#[tokio::test]
async fn a_log_is_sent_as_it_comes() {
    let (near, far) = duplex(4096);
    let (tunnel, agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Logs, "binary.k8s.io").logs_over(far, tunnel));
    let mut client = web_socket(near).await;
    agent.say(Channel::Stdout, b"a line\n").await;
    assert_eq!(receive(&mut client).await, Message::Binary(Bytes::from_static(b"a line\n")));
    agent.say(Channel::Status, SUCCESS).await;
    assert!(matches!(receive(&mut client).await, Message::Close(_)));
    while let Some(Ok(_)) = soon(client.next()).await {}
    soon(served).await.expect("it ends");
}

/// As much of a SPDY client as the tests need.
struct Client<IO> {
    io: IO,
    packer: Packer,
    unpacker: Unpacker,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Client<IO> {
    fn new(io: IO) -> Client<IO> {
        Client { io, packer: Packer::new().expect("a packer"), unpacker: Unpacker::new() }
    }

    async fn write(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        put(&mut out);
        self.io.write_all(&out).await.expect("written");
        self.io.flush().await.expect("flushed");
    }

    /// Opens a stream and waits for the reply.
    async fn open(&mut self, id: u32, headers: &[(&str, &str)]) {
        let headers = Headers(headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        let block = self.packer.pack(&headers).expect("packed");
        self.write(|out| frame::put_syn_stream(out, id, &block)).await;
        match self.read().await {
            Some(Spdy::SynReply { stream, block, .. }) => {
                assert_eq!(stream, id);
                assert_eq!(self.unpacker.unpack(&block), Ok(Headers::default()));
            }
            other => panic!("no reply but {other:?}"),
        }
    }

    async fn data(&mut self, id: u32, fin: bool, data: &[u8]) {
        self.write(|out| frame::put_data(out, id, fin, data)).await;
    }

    /// The next frame that is not about windows.
    async fn read(&mut self) -> Option<Spdy> {
        loop {
            match soon(frame::read(&mut self.io)).await.expect("a whole frame") {
                Some(Spdy::Other) => {}
                other => return other,
            }
        }
    }

    async fn expect_data(&mut self, id: u32, fin: bool, data: &'static [u8]) {
        let expected = Spdy::Data { stream: id, fin, data: Bytes::from_static(data) };
        assert_eq!(self.read().await, Some(expected));
    }
}

#[tokio::test]
async fn spdy_carries_a_command_on_one_stream_each() {
    let (near, far) = duplex(4096);
    let (tunnel, mut agent) = tunnel();
    let served =
        tokio::spawn(accepted(Kind::Exec, "spdy:v4.channel.k8s.io").command_over(far, tunnel, TERMINAL));
    let mut client = Client::new(near);
    for (id, kind) in [(1, "error"), (3, "stdin"), (5, "stdout"), (7, "resize")] {
        client.open(id, &[("streamtype", kind)]).await;
    }
    client.data(7, false, b"{\"Width\":80,\"Height\":24}\n{\"Width\":9").await;
    client.data(7, false, b"0,\"Height\":30}\n").await;
    soon(agent.expect(Channel::Resize, b"{\"Width\":80,\"Height\":24}")).await;
    soon(agent.expect(Channel::Resize, b"{\"Width\":90,\"Height\":30}")).await;
    client.data(3, false, b"hello").await;
    client.data(3, true, b"").await;
    soon(agent.expect(Channel::Stdin, b"hello")).await;
    soon(agent.expect(Channel::Close, &[0])).await;
    client.write(|out| frame::put_ping(out, 1)).await;
    assert_eq!(client.read().await, Some(Spdy::Ping { id: 1 }));
    agent.say(Channel::Stdout, b"out").await;
    agent.say(Channel::Status, FAILURE).await;
    client.expect_data(5, false, b"out").await;
    client.expect_data(1, false, FAILURE).await;
    client.expect_data(5, true, b"").await;
    client.expect_data(1, true, b"").await;
    assert_eq!(client.read().await, Some(Spdy::GoAway));
    assert_eq!(client.read().await, None);
    drop(client);
    soon(served).await.expect("it ends");
}

#[tokio::test]
async fn a_command_without_an_agent_or_a_client_ends() {
    let (near, far) = duplex(4096);
    let (broken, agent) = tunnel();
    drop(agent);
    let wants = Wants { stdout: true, ..Wants::default() };
    let served =
        tokio::spawn(accepted(Kind::Exec, "spdy:v3.channel.k8s.io").command_over(far, broken, wants));
    let mut client = Client::new(near);
    client.open(1, &[("streamtype", "error")]).await;
    client.open(3, &[("streamtype", "stdout")]).await;
    client.expect_data(1, false, b"the connection to the node was lost").await;
    drop(client);
    soon(served).await.expect("it ends");

    let (near, far) = duplex(4096);
    let (tunnel, mut agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Exec, "spdy:channel.k8s.io").command_over(far, tunnel, wants));
    drop(near);
    soon(served).await.expect("it ends");
    assert_eq!(agent.hear().await, None);
}

/// Answers on every port but 81 by sending back what it gets.
struct Echo;

#[async_trait::async_trait]
impl Opener for Echo {
    async fn open(&self, agent: &AgentId, request: TunnelRequest) -> Result<Tunnel, OpenError> {
        let TunnelRequest::PortForward { port, .. } = request else { panic!("not a port") };
        if port == 81 {
            return Err(OpenError::NotConnected(agent.clone()));
        }
        let (tunnel, mut far) = tunnel();
        tokio::spawn(async move {
            while let Some((channel, payload)) = far.hear().await {
                let answer = match channel {
                    Channel::Stdin => Frame::new(Channel::Stdout, payload),
                    _ => Frame::new(Channel::Status, SUCCESS),
                };
                if far.output.send(answer).await.is_err() {
                    return;
                }
            }
        });
        Ok(tunnel)
    }
}

fn far() -> port_forward::Far {
    let request = |port| TunnelRequest::PortForward {
        namespace: "default".into(),
        pod: "web".into(),
        uid: "u1".into(),
        port,
    };
    let agent = serde_json::from_value(serde_json::json!("a1")).expect("an id");
    port_forward::Far { opener: Arc::new(Echo), agent, request: Arc::new(request) }
}

async fn forward_ports<IO: AsyncRead + AsyncWrite + Unpin>(mut client: Client<IO>) {
    // Two connections at once, their streams interleaved, and one to a port that cannot be reached.
    client.open(1, &[("streamtype", "error"), ("port", "80"), ("requestid", "0")]).await;
    client.open(3, &[("streamtype", "error"), ("port", "82"), ("requestid", "1")]).await;
    client.data(1, true, b"").await;
    client.open(5, &[("streamtype", "data"), ("port", "80"), ("requestid", "0")]).await;
    client.data(5, false, b"to the first").await;
    client.expect_data(5, false, b"to the first").await;
    client.open(7, &[("streamtype", "data"), ("port", "82"), ("requestid", "1")]).await;
    client.data(7, false, b"to the second").await;
    client.expect_data(7, false, b"to the second").await;
    client.data(5, true, b"").await;
    client.expect_data(5, true, b"").await;
    client.expect_data(1, true, b"").await;
    client.open(9, &[("streamtype", "error"), ("port", "81"), ("requestid", "2")]).await;
    client.open(11, &[("streamtype", "data"), ("port", "81"), ("requestid", "2")]).await;
    client.expect_data(9, false, b"error forwarding port 81: agent a1 is not connected").await;
    assert_eq!(client.read().await, Some(Spdy::RstStream { stream: 11 }));
    client.expect_data(9, true, b"").await;
    // The other connection has not noticed.
    client.data(7, false, b"still here").await;
    client.expect_data(7, false, b"still here").await;
    client.io.shutdown().await.expect("shut");
}

#[tokio::test]
async fn spdy_forwards_many_connections() {
    let (near, end) = duplex(4096);
    let served =
        tokio::spawn(accepted(Kind::PortForward, "spdy:portforward.k8s.io").ports_over(end, far(), &[]));
    forward_ports(Client::new(near)).await;
    soon(served).await.expect("it ends");
}

#[tokio::test]
async fn spdy_in_a_web_socket_forwards_many_connections() {
    let (near, end) = duplex(4096);
    let dialect = accepted(Kind::PortForward, "SPDY/3.1+portforward.k8s.io");
    let served = tokio::spawn(dialect.ports_over(end, far(), &[]));
    forward_ports(Client::new(ByteStream::new(web_socket(near).await))).await;
    soon(served).await.expect("it ends");
}

#[tokio::test]
async fn channels_forward_the_ports_of_the_query() {
    let (near, end) = duplex(4096);
    let dialect = accepted(Kind::PortForward, "v4.channel.k8s.io");
    let served = tokio::spawn(async move { dialect.ports_over(end, far(), &[80, 81]).await });
    let mut client = web_socket(near).await;
    let mut first: Vec<_> = Vec::new();
    for _ in 0..5 {
        first.push(receive(&mut client).await);
    }
    for expected in [binary(0, &[80, 0]), binary(1, &[80, 0]), binary(2, &[81, 0]), binary(3, &[81, 0])] {
        assert!(first.contains(&expected), "{first:?}");
    }
    assert!(first.contains(&binary(3, b"error forwarding port 81: agent a1 is not connected")));
    client.send(binary(0, b"ping")).await.expect("sent");
    assert_eq!(receive(&mut client).await, binary(0, b"ping"));
    drop(client);
    soon(served).await.expect("it ends");
}

/// A stalled reader holds back the writer instead of filling memory.
#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_agent() {
    let (near, end) = duplex(4096);
    let (tunnel, agent) = tunnel();
    let served = tokio::spawn(accepted(Kind::Exec, "v5.channel.k8s.io").command_over(end, tunnel, ALL));
    let flood = async {
        loop {
            agent.output.send(Frame::new(Channel::Stdout, vec![b'x'; 64 * 1024])).await.expect("open");
        }
    };
    tokio::pin!(flood);
    // The agent can hand over a few frames, then it must wait: nothing more moves however often it is tried.
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            () = &mut flood => unreachable!(),
            () = tokio::task::yield_now() => {}
        }
    }
    assert_eq!(agent.output.capacity(), 0, "the queue is full and stays so");
    drop(near);
    soon(served).await.expect("it ends");
}

/// The whole way through hyper: handshake, upgrade, and the first bytes.
#[tokio::test]
async fn hyper_hands_over_the_connection_after_the_handshake() {
    let cases: [(Kind, &str, &str, &[u8]); 2] = [
        (
            Kind::Exec,
            "GET /exec HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n",
            // The empty message on channel 1.
            &[0x82, 1, 1],
        ),
        (
            Kind::Exec,
            "POST /exec HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\
             x-stream-protocol-version: v4.channel.k8s.io\r\nx-stream-protocol-version: v3.channel.k8s.io\r\n\
             content-length: 0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: SPDY/3.1\r\n\
             x-stream-protocol-version: v4.channel.k8s.io\r\n",
            &[],
        ),
    ];
    for (kind, request, response, first) in cases {
        let (mut client, server) = duplex(4096);
        let service =
            hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| async move {
                let accepted = negotiate(request.method(), request.headers(), kind).expect("agreed");
                let response = accepted.response();
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move {
                    let (tunnel, _agent) = tunnel();
                    let upgraded = upgrade.await.expect("upgraded");
                    accepted.serve_command(upgraded, tunnel, ALL).await;
                });
                Ok::<_, std::convert::Infallible>(response.map(|()| http_body_util::Empty::<Bytes>::new()))
            });
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service);
        tokio::spawn(connection.with_upgrades());
        client.write_all(request.as_bytes()).await.expect("written");
        let mut got = Vec::new();
        while !got.ends_with(b"\r\n\r\n") {
            got.push(soon(client.read_u8()).await.expect("a byte"));
        }
        let got = String::from_utf8(got).expect("ASCII");
        assert!(got.starts_with(response), "{got}");
        let mut bytes = vec![0; first.len()];
        soon(client.read_exact(&mut bytes)).await.expect("the first bytes");
        assert_eq!(bytes, first);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Neither a panic nor a hang, whatever a client sends, in either wrapping.
    #[test]
    fn no_bytes_bring_a_connection_down_in_disorder(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        opened in any::<bool>(),
        protocol in prop_oneof![
            Just("spdy:portforward.k8s.io"),
            Just("SPDY/3.1+portforward.k8s.io"),
            Just("v4.channel.k8s.io")
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let (mut near, end) = duplex(64 * 1024);
            let served = tokio::spawn(async move {
                accepted(Kind::PortForward, protocol).ports_over(end, far(), &[80]).await;
            });
            let mut out = Vec::new();
            if opened {
                let headers = Headers(vec![("port".into(), "80".into()), ("streamtype".into(), "data".into())]);
                let block = Packer::new().expect("a packer").pack(&headers).expect("packed");
                frame::put_syn_stream(&mut out, 1, &block);
            }
            out.extend_from_slice(&bytes);
            near.write_all(&out).await.expect("written");
            drop(near);
            soon(served).await.expect("no panic");
        });
    }
}
