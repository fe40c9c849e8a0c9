//! Commands over SPDY: the client opens one stream for each of error, input, output, and sizes of its terminal.

use crate::negotiate::Version;
use crate::spdy::connection::Stream;
use crate::spdy::{Connection, Input, StreamInput, StreamOutput};
use crate::tunnel::Tunnel;
use crate::wire::{Channel, Frame};
use crate::{Wants, status};
use bytes::Bytes;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// How long a client may take to open its streams: that of a kubelet.
const STREAMS_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest message about a terminal's size.
const RESIZE_BYTES_MAX: usize = 256;

/// The streams of a command, each with the direction that matters.
#[derive(Default)]
struct Streams {
    error: Option<StreamOutput>,
    stdin: Option<StreamInput>,
    stdout: Option<StreamOutput>,
    stderr: Option<StreamOutput>,
    resize: Option<StreamInput>,
    /// The other directions, kept so that dropping them does not look like the end of a stream.
    _idle: Vec<StreamInput>,
}

/// Carries a command's streams until one side has ended.
pub(crate) async fn serve<IO>(io: IO, version: Version, wants: Wants, tunnel: Tunnel)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut connection, driver) = Connection::new(io);
    let mut driver = pin!(driver);
    let work = async {
        match tokio::time::timeout(STREAMS_TIMEOUT, streams(&mut connection, version, wants)).await {
            Ok(Some(streams)) => pump(streams, version, tunnel).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("a client did not open the streams that it asked for in time"),
        }
        connection.close().await;
    };
    let working = tokio::select! {
        () = &mut driver => false,
        () = work => true,
    };
    if working {
        // What was sent last must still reach the client.
        driver.await;
    }
}

/// Waits until the client has opened what it asked for.
async fn streams(connection: &mut Connection, version: Version, wants: Wants) -> Option<Streams> {
    let mut streams = Streams::default();
    let missing = |s: &Streams| {
        s.error.is_none()
            || (wants.stdin && s.stdin.is_none())
            || (wants.stdout && s.stdout.is_none())
            || (wants.stderr && !wants.tty && s.stderr.is_none())
            || (wants.tty && version >= Version::V3 && s.resize.is_none())
    };
    while missing(&streams) {
        let Stream { headers, input, output } = connection.next().await?;
        match headers.get("streamtype") {
            Some("error") if streams.error.is_none() => streams.error = Some(output),
            Some("stdout") if streams.stdout.is_none() => streams.stdout = Some(output),
            Some("stderr") if streams.stderr.is_none() => streams.stderr = Some(output),
            Some("stdin") if streams.stdin.is_none() => {
                streams.stdin = Some(input);
                continue;
            }
            Some("resize") if streams.resize.is_none() => {
                streams.resize = Some(input);
                continue;
            }
            _ => {
                output.reset().await;
                continue;
            }
        }
        streams._idle.push(input);
    }
    Some(streams)
}

async fn pump(streams: Streams, version: Version, tunnel: Tunnel) {
    let Streams { error, mut stdin, stdout, stderr, mut resize, _idle } = streams;
    let Tunnel { input, output } = tunnel;
    let up = async {
        tokio::join!(read_stdin(stdin.as_mut(), &input), read_sizes(resize.as_mut(), &input));
        // Input may end long before the command does.
        std::future::pending::<()>().await;
    };
    let down = write_output(output, version, error.as_ref(), stdout.as_ref(), stderr.as_ref());
    tokio::select! {
        () = up => {}
        () = down => {}
    }
    for stream in [stdout, stderr, error].into_iter().flatten() {
        stream.finish().await;
    }
}

async fn read_stdin(stdin: Option<&mut StreamInput>, input: &mpsc::Sender<Frame>) {
    let Some(stdin) = stdin else { return };
    loop {
        match stdin.next().await {
            Input::Data(data) => {
                for frame in Frame::split(Channel::Stdin, data) {
                    // An agent that takes no more may still have output: go on reading, or the client would block.
                    let _ = input.send(frame).await;
                }
            }
            Input::Finished => {
                let end = Bytes::from_static(&[Channel::Stdin as u8]);
                let _ = input.send(Frame::new(Channel::Close, end)).await;
                return;
            }
            Input::Reset => return,
        }
    }
}

/// Sizes are JSON objects one after another, in no particular relation to frames: each ends at its brace.
async fn read_sizes(resize: Option<&mut StreamInput>, input: &mpsc::Sender<Frame>) {
    let Some(resize) = resize else { return };
    let mut text = Vec::new();
    while let Input::Data(data) = resize.next().await {
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|b| *b == b'}') {
            let size: Vec<u8> = text.drain(..=end).collect();
            let size = Bytes::from(size.trim_ascii().to_vec());
            if size.len() <= RESIZE_BYTES_MAX {
                let _ = input.send(Frame::new(Channel::Resize, size)).await;
            }
        }
        if text.len() > RESIZE_BYTES_MAX {
            return;
        }
    }
}

async fn write_output(
    mut output: mpsc::Receiver<Frame>,
    version: Version,
    error: Option<&StreamOutput>,
    stdout: Option<&StreamOutput>,
    stderr: Option<&StreamOutput>,
) {
    loop {
        let frame = output.recv().await;
        let (status, over) = match frame {
            None => (Some(status::broken()), true),
            Some(Frame { channel: Channel::Status, payload }) => (Some(payload), true),
            Some(Frame { channel, payload }) => {
                let stream = match channel {
                    Channel::Stdout => stdout,
                    Channel::Stderr => stderr,
                    _ => None,
                };
                // A client may close one of them and still want the other.
                if let Some(stream) = stream {
                    let _ = stream.send(payload).await;
                }
                (None, false)
            }
        };
        if let (Some(status), Some(error)) = (status, error)
            && let Some(word) = status::last_word(version, &status)
        {
            let _ = error.send(word).await;
        }
        if over {
            return;
        }
    }
}
