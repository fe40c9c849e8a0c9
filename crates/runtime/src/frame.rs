//! The little protocol on a container's attach socket: one kind byte, a big-endian length, the payload.

pub(crate) const HEADER_LEN: usize = 5;
/// A frame longer than this is a broken peer.
pub(crate) const PAYLOAD_LEN_MAX: usize = 64 * 1024;

/// Client → helper: bytes for stdin.
pub(crate) const STDIN: u8 = 0;
/// Helper → client: bytes of stdout.
pub(crate) const STDOUT: u8 = 1;
/// Helper → client: bytes of stderr.
pub(crate) const STDERR: u8 = 2;
/// Client → helper: no more stdin.
pub(crate) const STDIN_END: u8 = 3;
/// Client → helper: columns and rows, two big-endian u16.
pub(crate) const RESIZE: u8 = 4;

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes());
    out.extend_from_slice(payload);
}

/// Takes whole frames off the front of `buffer`; `Err` when the peer speaks something else.
pub(crate) fn drain(buffer: &mut Vec<u8>, mut each: impl FnMut(u8, &[u8])) -> Result<(), ()> {
    let mut at = 0;
    while let Some(header) = buffer.get(at..at + HEADER_LEN) {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > PAYLOAD_LEN_MAX {
            return Err(());
        }
        let Some(payload) = buffer.get(at + HEADER_LEN..at + HEADER_LEN + length) else { break };
        each(header[0], payload);
        at += HEADER_LEN + length;
    }
    buffer.drain(..at);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let mut all = Vec::new();
        put(&mut all, STDOUT, b"hello");
        put(&mut all, STDIN_END, b"");
        put(&mut all, RESIZE, &[0, 80, 0, 24]);
        for cut in 0..all.len() {
            let (mut buffer, mut seen) = (Vec::new(), Vec::new());
            for part in [&all[..cut], &all[cut..]] {
                buffer.extend_from_slice(part);
                drain(&mut buffer, |kind, payload| seen.push((kind, payload.to_vec()))).unwrap();
            }
            assert_eq!(
                seen,
                [(STDOUT, b"hello".to_vec()), (STDIN_END, vec![]), (RESIZE, vec![0, 80, 0, 24])]
            );
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_giant_frame_is_refused() {
        let mut buffer = vec![STDIN, 0xff, 0xff, 0xff, 0xff];
        assert!(drain(&mut buffer, |_, _| {}).is_err());
    }
}
