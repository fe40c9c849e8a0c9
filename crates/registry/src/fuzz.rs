//! Doors for the fuzz targets into decoders that nothing else outside needs.

/// A token with which a list goes on.
pub fn continue_token(data: &[u8]) {
    let _ = crate::continue_token::Continue::decode(&String::from_utf8_lossy(data));
}
