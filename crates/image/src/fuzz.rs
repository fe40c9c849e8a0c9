//! Doors for the fuzz targets into decoders that nothing else outside needs.

use std::path::Path;

/// Bytes that an unpacked layer may have here.
const BYTES_MAX: u64 = 1 << 20;

/// An archive of images, and the same bytes as one layer. Both write below `dir`, which must be empty.
pub fn archive(data: &[u8], dir: &Path) -> std::io::Result<()> {
    let (staging, root) = (dir.join("staging"), dir.join("root"));
    std::fs::create_dir(&staging)?;
    std::fs::create_dir(&root)?;
    let _ = crate::archive::read(data, &staging);
    if let Ok(reader) = crate::archive::decompress(data) {
        let _ = crate::unpack::unpack(reader, &root, BYTES_MAX);
    }
    Ok(())
}
