//! Doors for the fuzz targets into decoders that nothing else outside needs.

use crate::body;
use crate::negotiate::Content;

/// A request's body in each form that it may have.
pub fn body(data: &[u8]) {
    for content in [Content::Json, Content::Yaml, Content::Protobuf] {
        // A refusal is as good as a value: what counts is to come back.
        let _ = body::parse(data, content, "Pod");
    }
}
