//! What agents, upgraded connections, images and our own disk hand us.

use bytes::BytesMut;
use stoa_image::Reference;
use stoa_wire::{Down, Frame, Packet, Up};

/// A frame of a SPDY connection.
pub fn spdy(data: &[u8]) {
    stoa_streams::fuzz::spdy(data);
}

/// A message of a WebSocket.
pub fn channels(data: &[u8]) {
    stoa_streams::fuzz::channels(data);
}

/// An archive of images, and a layer.
pub fn image(data: &[u8]) {
    // Without a directory there is nothing to try.
    if let Ok(dir) = tempfile::tempdir() {
        let _ = stoa_image::fuzz::archive(data, dir.path());
    }
}

/// The name of an image.
pub fn reference(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(reference) = Reference::parse(&text) {
        let shown = reference.to_string();
        assert!(Reference::parse(&shown).is_ok(), "{text:?} reads as {shown:?}, which is no reference");
    }
}

/// A segment of the store's log.
pub fn store_log(data: &[u8]) {
    stoa_store::fuzz::log(data);
}

/// What goes between an agent and its leader, either way, and the frames of a tunnel.
pub fn session(data: &[u8]) {
    let mut input = BytesMut::from(data);
    while let Ok(Some(_)) = Packet::<Up>::decode(&mut input) {}
    let mut input = BytesMut::from(data);
    while let Ok(Some(_)) = Packet::<Down>::decode(&mut input) {}
    let mut input = BytesMut::from(data);
    while let Ok(Some(_)) = Frame::decode(&mut input) {}
}
