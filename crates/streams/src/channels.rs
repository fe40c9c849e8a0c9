//! WebSocket dialects: the first byte of a message names its channel.

use crate::negotiate::{Encoding, Version};
use crate::status;
use crate::tunnel::Tunnel;
use crate::wire::{Channel, Frame};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

/// Largest message from a client; kubectl sends at most 32 KiB at once.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// What may wait in memory to be written to one client.
const WRITE_BUFFER_BYTES_MAX: usize = 2 << 20;
/// How often a quiet client is written to. One that has gone while its input was held back shows only in a write that fails.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long a client may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Output, error and status: what the server may write, lowest first.
const STDOUT: u8 = Channel::Stdout as u8;
const STDERR: u8 = Channel::Stderr as u8;
const STATUS: u8 = Channel::Status as u8;

/// Takes over a connection whose handshake is done.
pub(crate) async fn accept<IO: AsyncRead + AsyncWrite + Unpin>(io: IO) -> WebSocketStream<IO> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX))
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_BUFFER_BYTES_MAX);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// What a client sent on a channel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) channel: u8,
    pub(crate) payload: Bytes,
}

/// Makes a message.
pub(crate) fn encode(encoding: Encoding, channel: u8, payload: &[u8]) -> Message {
    match encoding {
        Encoding::Binary => {
            let mut out = BytesMut::with_capacity(1 + payload.len());
            out.put_u8(channel);
            out.put_slice(payload);
            Message::Binary(out.freeze())
        }
        Encoding::Base64 => {
            let mut out = String::with_capacity(1 + payload.len().div_ceil(3) * 4);
            out.push(char::from(b'0'.saturating_add(channel)));
            BASE64.encode_string(payload, &mut out);
            Message::text(out)
        }
    }
}

/// Takes a message apart; `None` if it is malformed. Pings and the like have no channel and are none of its business.
pub(crate) fn decode(encoding: Encoding, message: Message) -> Option<Said> {
    let mut bytes = message.into_data();
    if bytes.is_empty() {
        return None;
    }
    let channel = bytes.split_to(1)[0];
    match encoding {
        Encoding::Binary => Some(Said { channel, payload: bytes }),
        Encoding::Base64 => {
            let payload = BASE64.decode(&bytes).ok()?.into();
            Some(Said { channel: channel.checked_sub(b'0')?, payload })
        }
    }
}

/// What an agent sends next, with pings to the client while it is silent. `None` when the client does not take them.
async fn next_frame<S>(sink: &mut S, output: &mut mpsc::Receiver<Frame>) -> Option<Option<Frame>>
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    loop {
        match tokio::time::timeout(PING_INTERVAL, output.recv()).await {
            Ok(frame) => return Some(frame),
            Err(_) => sink.send(Message::Ping(Bytes::new())).await.ok()?,
        }
    }
}

/// Reads the next message that carries data. `None` when the client is gone or breaks the rules.
pub(crate) async fn next<S>(input: &mut S) -> Option<Message>
where
    S: Stream<Item = Result<Message, WsError>> + Unpin,
{
    loop {
        match input.next().await? {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => return Some(message),
            // Pongs are answered by the WebSocket itself.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Ok(Message::Close(_)) | Err(_) => return None,
        }
    }
}

/// Carries a command's streams until one side has ended.
pub(crate) async fn serve_command<IO>(
    io: IO,
    version: Version,
    encoding: Encoding,
    wants: crate::Wants,
    tunnel: Tunnel,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let Tunnel { input, output } = tunnel;
    let down = async {
        // An empty message tells the client that the stream is open, before there is any output.
        let first = if wants.stdout {
            STDOUT
        } else if wants.stderr {
            STDERR
        } else {
            STATUS
        };
        if sink.send(encode(encoding, first, &[])).await.is_ok() {
            send_output(&mut sink, version, encoding, output).await;
        }
    };
    let up = read_input(&mut stream, version, encoding, input);
    tokio::select! {
        () = down => finish(&mut sink, &mut stream).await,
        // The client has gone: what is left of the tunnel is dropped, which ends the far side.
        () = up => {}
    }
}

/// From client to agent. Returns when the client is gone.
async fn read_input<S>(stream: &mut S, version: Version, encoding: Encoding, input: mpsc::Sender<Frame>)
where
    S: Stream<Item = Result<Message, WsError>> + Unpin,
{
    while let Some(message) = next(stream).await {
        let Some(said) = decode(encoding, message) else { return };
        // What an agent no longer takes is read and dropped: its last output may still be on its way.
        for frame in to_frames(version, said) {
            let _ = input.send(frame).await;
        }
    }
}

/// What a client may say: input, sizes, and since the fifth version the end of its input. The rest is ignored.
fn to_frames(version: Version, said: Said) -> Vec<Frame> {
    let Said { channel, payload } = said;
    match Channel::from_number(channel) {
        Ok(Channel::Stdin) => Frame::split(Channel::Stdin, payload).collect(),
        Ok(Channel::Resize) if payload.len() <= 256 => vec![Frame::new(Channel::Resize, payload)],
        Ok(Channel::Close) if version >= Version::V5 && payload[..] == [Channel::Stdin as u8] => {
            vec![Frame::new(Channel::Close, payload)]
        }
        _ => Vec::new(),
    }
}

/// From agent to client. Returns when the agent has ended or the client does not take any more.
async fn send_output<S>(sink: &mut S, version: Version, encoding: Encoding, mut output: mpsc::Receiver<Frame>)
where
    S: Sink<Message, Error = WsError> + Unpin,
{
    loop {
        let Some(next) = next_frame(sink, &mut output).await else { return };
        let Some(frame) = next else {
            if let Some(word) = status::last_word(version, &status::broken()) {
                let _ = sink.send(encode(encoding, STATUS, &word)).await;
            }
            return;
        };
        let sent = match frame.channel {
            Channel::Stdout | Channel::Stderr => {
                sink.send(encode(encoding, frame.channel as u8, &frame.payload)).await
            }
            Channel::Status => {
                if let Some(word) = status::last_word(version, &frame.payload) {
                    let _ = sink.send(encode(encoding, STATUS, &word)).await;
                }
                return;
            }
            Channel::Stdin | Channel::Resize | Channel::Close => Ok(()),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Says goodbye and waits for the answer, so that no reset of the connection overtakes the last output.
pub(crate) async fn finish<K, S>(sink: &mut K, stream: &mut S)
where
    K: Sink<Message, Error = WsError> + Unpin,
    S: Stream<Item = Result<Message, WsError>> + Unpin,
{
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let goodbye = async {
        if sink.send(Message::Close(Some(close))).await.is_ok() {
            while let Some(Ok(_)) = stream.next().await {}
        }
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
}

/// Carries a log, one way.
pub(crate) async fn serve_logs<IO>(io: IO, encoding: Encoding, tunnel: Tunnel)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = accept(io).await.split();
    let Tunnel { input: _input, mut output } = tunnel;
    let down = async {
        while let Some(Some(frame)) = next_frame(&mut sink, &mut output).await {
            let message = match (frame.channel, encoding) {
                (Channel::Stdout | Channel::Stderr, Encoding::Binary) => Message::Binary(frame.payload),
                (Channel::Stdout | Channel::Stderr, Encoding::Base64) => {
                    Message::text(BASE64.encode(&frame.payload))
                }
                (Channel::Status, _) => return,
                _ => continue,
            };
            if sink.send(message).await.is_err() {
                return;
            }
        }
    };
    let up = async { while next(&mut stream).await.is_some() {} };
    tokio::select! {
        () = down => finish(&mut sink, &mut stream).await,
        () = up => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were_sent() {
        for encoding in [Encoding::Binary, Encoding::Base64] {
            for payload in [&b""[..], b"x", b"\x00\xff hello"] {
                let said = decode(encoding, encode(encoding, 2, payload));
                assert_eq!(said, Some(Said { channel: 2, payload: Bytes::copy_from_slice(payload) }));
            }
        }
        assert_eq!(encode(Encoding::Base64, 1, b"hi"), Message::text("1aGk="));
        assert_eq!(decode(Encoding::Base64, Message::text("1!!")), None);
        assert_eq!(decode(Encoding::Binary, Message::Binary(Bytes::new())), None);
    }

    #[test]
    fn only_the_fifth_version_closes_a_channel_and_only_input_is_taken() {
        let said = |channel, payload: &'static [u8]| Said { channel, payload: Bytes::from_static(payload) };
        assert_eq!(to_frames(Version::V5, said(255, &[0])), [Frame::new(Channel::Close, &[0][..])]);
        assert_eq!(to_frames(Version::V4, said(255, &[0])), []);
        assert_eq!(to_frames(Version::V5, said(255, &[1])), []);
        assert_eq!(to_frames(Version::V5, said(3, b"{}")), []);
        assert_eq!(to_frames(Version::V5, said(77, b"x")), []);
        assert_eq!(to_frames(Version::V4, said(4, b"{}")), [Frame::new(Channel::Resize, &b"{}"[..])]);
    }
}
