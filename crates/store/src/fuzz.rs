//! Doors for the fuzz targets into decoders that nothing else outside needs.

use crate::frame::{Next, Reader, has_frame_after, records};

/// A segment of the log behind its header, and the same bytes as the payload of one frame: a checksum would keep a fuzzer out.
pub fn log(data: &[u8]) {
    let mut reader = Reader::new(data, 0);
    while let Ok(Next::Frame(payload)) = reader.next() {
        let _ = records(&payload);
    }
    let _ = has_frame_after(data, 0, 0);
    let _ = records(data);
}
