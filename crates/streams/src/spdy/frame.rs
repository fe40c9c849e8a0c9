//! Frames on the wire. An eight-byte head says what follows and how long it is; the length is checked before any of it is
//! read.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt};

const VERSION: u16 = 3;
/// Length of a frame's head.
pub(crate) const HEAD_LEN: usize = 8;
/// Largest payload that a peer may send at once; kubectl sends 32 KiB.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The sender sends no more on this stream.
pub(crate) const FLAG_FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// Why a stream is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reset {
    Protocol = 1,
    InvalidStream = 2,
    Refused = 3,
    Cancel = 5,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    Fine = 0,
    Protocol = 1,
}

/// A frame from a peer. Blocks of headers are still packed: they must be unpacked in the order in which they came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    SynStream {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    SynReply {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    Headers {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    RstStream {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// One that we have no use for: settings, windows, credentials.
    Other,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame is malformed: {0}")]
    Malformed(&'static str),
    #[error("a frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("the connection broke")]
    Io(#[from] std::io::Error),
}

/// Reads the next frame; `None` at the end.
pub(crate) async fn read(input: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, FrameError> {
    let mut head = [0; HEAD_LEN];
    if input.read(&mut head[..1]).await? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut head[1..]).await?;
    let len = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if len > PAYLOAD_BYTES_MAX {
        return Err(FrameError::TooLarge(len));
    }
    let mut payload = vec![0; len];
    input.read_exact(&mut payload).await?;
    parse(head, payload.into()).map(Some)
}

/// Takes a whole frame apart.
pub(crate) fn parse(head: [u8; HEAD_LEN], mut payload: Bytes) -> Result<Frame, FrameError> {
    let fin = head[4] & FLAG_FIN != 0;
    let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    if first & 0x8000_0000 == 0 {
        return if first == 0 {
            Err(FrameError::Malformed("data on stream 0"))
        } else {
            Ok(Frame::Data { stream: first, fin, data: payload })
        };
    }
    let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
    if version != VERSION {
        return Err(FrameError::Malformed("another version than 3"));
    }
    let mut number = || {
        let head = payload.split_off_front(4)?;
        head[..].try_into().ok().map(|bytes| u32::from_be_bytes(bytes) & 0x7fff_ffff)
    };
    let short = FrameError::Malformed("it is too short");
    Ok(match kind {
        SYN_STREAM => {
            let stream = number().ok_or(short)?;
            // The associated stream, then priority and slot: pushing is not for us.
            let block = (payload.len() >= 6).then(|| payload.slice(6..));
            Frame::SynStream { stream, fin, block: block.ok_or(FrameError::Malformed("it is too short"))? }
        }
        SYN_REPLY => Frame::SynReply { stream: number().ok_or(short)?, fin, block: payload },
        HEADERS => Frame::Headers { stream: number().ok_or(short)?, fin, block: payload },
        RST_STREAM => Frame::RstStream { stream: number().ok_or(short)? },
        PING => {
            let bytes = payload.get(..4).and_then(|b| b.try_into().ok()).ok_or(short)?;
            Frame::Ping { id: u32::from_be_bytes(bytes) }
        }
        GOAWAY => Frame::GoAway,
        _ => Frame::Other,
    })
}

trait SplitFront {
    fn split_off_front(&mut self, len: usize) -> Option<Bytes>;
}

impl SplitFront for Bytes {
    fn split_off_front(&mut self, len: usize) -> Option<Bytes> {
        (self.len() >= len).then(|| self.split_to(len))
    }
}

fn control(out: &mut Vec<u8>, kind: u16, flags: u8, len: usize) {
    out.extend_from_slice(&(0x8000 | VERSION).to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&((u32::from(flags) << 24) | len as u32).to_be_bytes());
}

pub(crate) fn put_syn_reply(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    control(out, SYN_REPLY, 0, 4 + block.len());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(block);
}

/// `data` must be shorter than 16 MiB.
pub(crate) fn put_data(out: &mut Vec<u8>, stream: u32, fin: bool, data: &[u8]) {
    let flags = if fin { FLAG_FIN } else { 0 };
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&((u32::from(flags) << 24) | data.len() as u32).to_be_bytes());
    out.extend_from_slice(data);
}

pub(crate) fn put_rst_stream(out: &mut Vec<u8>, stream: u32, why: Reset) {
    control(out, RST_STREAM, 0, 8);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&(why as u32).to_be_bytes());
}

pub(crate) fn put_ping(out: &mut Vec<u8>, id: u32) {
    control(out, PING, 0, 4);
    out.extend_from_slice(&id.to_be_bytes());
}

pub(crate) fn put_go_away(out: &mut Vec<u8>, last: u32, why: Goodbye) {
    control(out, GOAWAY, 0, 8);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(why as u32).to_be_bytes());
}

pub(crate) fn put_window_update(out: &mut Vec<u8>, stream: u32, credit: u32) {
    control(out, WINDOW_UPDATE, 0, 8);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&credit.to_be_bytes());
}

/// As a client would: only tests open streams.
#[cfg(test)]
pub(crate) fn put_syn_stream(out: &mut Vec<u8>, stream: u32, block: &[u8]) {
    control(out, SYN_STREAM, 0, 10 + block.len());
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&[0; 6]);
    out.extend_from_slice(block);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Vec<Result<Frame, String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let (mut input, mut out) = (bytes, Vec::new());
            loop {
                match read(&mut input).await {
                    Ok(Some(frame)) => out.push(Ok(frame)),
                    Ok(None) => return out,
                    Err(cause) => {
                        out.push(Err(cause.to_string()));
                        return out;
                    }
                }
            }
        })
    }

    #[test]
    fn frames_have_the_bytes_of_the_draft() {
        let mut out = Vec::new();
        put_ping(&mut out, 7);
        assert_eq!(out, [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
        out.clear();
        put_data(&mut out, 5, true, b"hi");
        assert_eq!(out, [0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i']);
        out.clear();
        put_rst_stream(&mut out, 3, Reset::Cancel);
        assert_eq!(out, [0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]);
        out.clear();
        put_go_away(&mut out, 9, Goodbye::Fine);
        assert_eq!(out, [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 9, 0, 0, 0, 0]);
        out.clear();
        put_syn_reply(&mut out, 1, b"zz");
        assert_eq!(out, [0x80, 3, 0, 2, 0, 0, 0, 6, 0, 0, 0, 1, b'z', b'z']);
        out.clear();
        put_window_update(&mut out, 1, 0x1_0000);
        assert_eq!(out, [0x80, 3, 0, 9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 1, 0, 0]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = Vec::new();
        put_syn_stream(&mut out, 1, b"block");
        put_data(&mut out, 1, false, b"x");
        put_ping(&mut out, 1);
        put_rst_stream(&mut out, 1, Reset::Refused);
        put_window_update(&mut out, 1, 5);
        put_go_away(&mut out, 1, Goodbye::Protocol);
        let expected = [
            Frame::SynStream { stream: 1, fin: false, block: Bytes::from_static(b"block") },
            Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"x") },
            Frame::Ping { id: 1 },
            Frame::RstStream { stream: 1 },
            Frame::Other,
            Frame::GoAway,
        ];
        assert_eq!(read_all(&out), expected.map(Ok));
    }

    #[test]
    fn what_is_no_frame_is_refused_before_its_payload_is_read() {
        let table: [(&[u8], &str); 4] = [
            (&[0, 0, 0, 1, 0, 0xff, 0xff, 0xff], "too large"),
            (&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1], "another version"),
            (&[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1], "too short"),
            (&[0, 0, 0, 0, 0, 0, 0, 0], "data on stream 0"),
        ];
        for (bytes, what) in table {
            let last = read_all(bytes).pop().expect("an answer").expect_err("an error");
            assert!(last.contains(what), "{last}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            read_all(&bytes);
        }

        #[test]
        fn no_control_frame_makes_the_parser_panic(kind in 0u16..16, flags in any::<u8>(), payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            control(&mut out, kind, flags, payload.len());
            out.extend_from_slice(&payload);
            let frames = read_all(&out);
            prop_assert!(frames.len() == 1);
        }
    }
}
