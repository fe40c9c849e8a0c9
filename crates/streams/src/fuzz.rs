//! Doors for the fuzz targets into decoders that nothing else outside needs.

use crate::channels;
use crate::negotiate::Encoding;
use crate::spdy::{frame, headers};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// A SPDY frame, and its bytes as a block of packed headers.
pub fn spdy(data: &[u8]) {
    if let Some((head, payload)) = data.split_first_chunk() {
        // A refusal is as good as a frame: what counts is to come back.
        let _ = frame::parse(*head, Bytes::copy_from_slice(payload));
    }
    let _ = headers::Unpacker::new().unpack(data);
}

/// A message on a WebSocket, in both encodings.
pub fn channels(data: &[u8]) {
    let _ = channels::decode(Encoding::Binary, Message::Binary(Bytes::copy_from_slice(data)));
    let _ = channels::decode(Encoding::Base64, Message::text(String::from_utf8_lossy(data).into_owned()));
}
