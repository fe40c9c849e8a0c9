//! Tunnel requests and frames. A frame is one channel byte, a big-endian u32 length, and that many bytes; it crosses
//! an HTTP/2 stream, which does the flow control.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest payload of a frame.
pub const FRAME_LEN_MAX: usize = 64 * 1024;

/// What a frame's payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Channel {
    /// Standard input, or bytes of a forwarded port towards the pod.
    Stdin = 0,
    /// Standard output, log bytes, or bytes of a forwarded port from the pod.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// The end: a `Status` object in JSON (success, or failure with cause `ExitCode`).
    Status = 3,
    /// A terminal's new size: `{"Width":w,"Height":h}`.
    Resize = 4,
    /// The sender will send no more on the channel whose number is the payload's only byte.
    Close = 255,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub channel: Channel,
    /// The payload, at most [`FRAME_LEN_MAX`] bytes.
    pub payload: Bytes,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The channel's number is unknown.
    #[error("unknown channel {0}")]
    Channel(u8),
    /// The payload is longer than allowed.
    #[error("a frame of {0} bytes is too long")]
    Length(usize),
}

impl Channel {
    /// The channel of a number.
    pub fn from_number(n: u8) -> Result<Channel, FrameError> {
        Ok(match n {
            0 => Channel::Stdin,
            1 => Channel::Stdout,
            2 => Channel::Stderr,
            3 => Channel::Status,
            4 => Channel::Resize,
            255 => Channel::Close,
            n => return Err(FrameError::Channel(n)),
        })
    }
}

impl Frame {
    /// A frame; the payload must be within bounds, longer ones are cut by [`Frame::split`].
    pub fn new(channel: Channel, payload: impl Into<Bytes>) -> Frame {
        Frame { channel, payload: payload.into() }
    }

    /// As many frames as the payload needs, without copying it.
    pub fn split(channel: Channel, mut payload: Bytes) -> impl Iterator<Item = Frame> {
        std::iter::from_fn(move || {
            (!payload.is_empty()).then(|| {
                let n = payload.len().min(FRAME_LEN_MAX);
                Frame { channel, payload: payload.split_to(n) }
            })
        })
    }

    /// Appends the encoded frame.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(5 + self.payload.len());
        out.put_u8(self.channel as u8);
        out.put_u32(self.payload.len() as u32);
        out.put_slice(&self.payload);
    }

    /// Takes the first whole frame off `input`, if there is one.
    pub fn decode(input: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if input.len() < 5 {
            return Ok(None);
        }
        let channel = Channel::from_number(input[0])?;
        let len = u32::from_be_bytes([input[1], input[2], input[3], input[4]]) as usize;
        if len > FRAME_LEN_MAX {
            return Err(FrameError::Length(len));
        }
        if input.len() < 5 + len {
            return Ok(None);
        }
        input.advance(5);
        Ok(Some(Frame { channel, payload: input.split_to(len).freeze() }))
    }
}

/// How a node's answer begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeHead {
    /// The HTTP status.
    pub code: u16,
    /// Headers by their names in lower case.
    pub headers: BTreeMap<String, String>,
}

/// What a log reader asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// Keep sending as lines are written.
    pub follow: bool,
    /// The container's previous life.
    pub previous: bool,
    /// Prefix every line with its time.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail_lines: Option<u64>,
    /// Only lines of the last so many seconds.
    pub since_seconds: Option<u64>,
    /// Only lines from this RFC 3339 time on.
    pub since_time: Option<String>,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// `All` (default), `Stdout` or `Stderr`.
    pub stream: Option<String>,
}

/// What a tunnel is for. The pod is named by its uid as well, so that a namesake is never reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TunnelRequest {
    /// Runs a command in a container.
    Exec {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Uid of the pod.
        uid: String,
        /// Name of the container.
        container: String,
        /// The command and its arguments.
        command: Vec<String>,
        /// Whether standard input will be sent.
        stdin: bool,
        /// Whether standard output is wanted.
        stdout: bool,
        /// Whether standard error is wanted; never with a terminal.
        stderr: bool,
        /// Whether the command gets a terminal.
        tty: bool,
    },
    /// Attaches to a container's main process.
    Attach {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Uid of the pod.
        uid: String,
        /// Name of the container.
        container: String,
        /// Whether standard input will be sent.
        stdin: bool,
        /// Whether standard output is wanted.
        stdout: bool,
        /// Whether standard error is wanted.
        stderr: bool,
        /// Whether the container has a terminal.
        tty: bool,
    },
    /// Reads a container's log.
    Logs {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Uid of the pod.
        uid: String,
        /// Name of the container.
        container: String,
        /// What of it.
        options: LogOptions,
    },
    /// Asks something of the node itself: `stats/summary`, `metrics/resource`, `pods`, …. The answer is a [`NodeHead`] in JSON
    /// on [`Channel::Stderr`], the body on [`Channel::Stdout`], then the status.
    Node {
        /// The path below the node's proxy, with the slash at its end if there is one.
        path: String,
        /// `GET` where it says nothing.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        method: String,
        /// What follows the path's question mark, as it was sent.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        query: String,
    },
    /// One connection to a port in the pod's network namespace.
    PortForward {
        /// Namespace of the pod.
        namespace: String,
        /// Name of the pod.
        pod: String,
        /// Uid of the pod.
        uid: String,
        /// The port.
        port: u16,
    },
    /// The agent's custom Mesos executors: records of launches and kills down, of updates up.
    Executors,
    /// One HTTP connection to the agent's Mesos API, on behalf of somebody whom the master knows.
    MesosApi {
        /// What they may do: ACLs in Mesos' JSON, to be judged without a principal.
        acls: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn frames_survive_any_cut(payload in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..310) {
            let frame = Frame::new(Channel::Stdout, payload);
            let mut whole = BytesMut::new();
            frame.encode(&mut whole);
            let cut = cut.min(whole.len());
            let tail = whole.split_off(cut);
            let early = Frame::decode(&mut whole);
            if tail.is_empty() {
                prop_assert_eq!(early, Ok(Some(frame)));
            } else {
                prop_assert_eq!(early, Ok(None));
                whole.extend_from_slice(&tail);
                prop_assert_eq!(Frame::decode(&mut whole), Ok(Some(frame)));
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut b = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = Frame::decode(&mut b) {}
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_before_its_bytes_arrive() {
        let mut b = BytesMut::from(&[1u8, 0xff, 0, 0, 0][..]);
        assert_eq!(Frame::decode(&mut b), Err(FrameError::Length(0xff00_0000)));
    }
}
