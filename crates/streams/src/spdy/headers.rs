//! Blocks of headers, compressed over the whole life of a connection in each direction.

use super::dictionary::DICTIONARY;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// Largest block, as it is on the wire.
const COMPRESSED_BYTES_MAX: usize = 16 * 1024;
/// Largest block, unpacked.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// Most headers in a block.
const HEADERS_LEN_MAX: usize = 64;

/// Why a block cannot be read. The connection cannot go on: the decompressor no longer knows where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("a block of headers is too large")]
    TooLarge,
    #[error("a block of headers cannot be decompressed")]
    Compression,
    #[error("a block of headers is malformed")]
    Malformed,
}

/// Names and values; names compare without regard to case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(String, String)>);

impl Headers {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Unpacks blocks of one direction.
pub(crate) struct Unpacker(Decompress);

impl Unpacker {
    pub(crate) fn new() -> Unpacker {
        Unpacker(Decompress::new(true))
    }

    pub(crate) fn unpack(&mut self, compressed: &[u8]) -> Result<Headers, HeaderError> {
        if compressed.len() > COMPRESSED_BYTES_MAX {
            return Err(HeaderError::TooLarge);
        }
        parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut out = Vec::new();
        loop {
            if out.len() >= BLOCK_BYTES_MAX {
                return Err(HeaderError::TooLarge);
            }
            out.reserve(4 * 1024);
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let step = self.0.decompress_vec(input, &mut out, FlushDecompress::Sync);
            input = input.get((self.0.total_in() - before_in) as usize..).ok_or(HeaderError::Compression)?;
            match step {
                Err(cause) if cause.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Compression)?;
                }
                Err(_) | Ok(Status::StreamEnd) => return Err(HeaderError::Compression),
                Ok(Status::Ok | Status::BufError) => {
                    let stuck = self.0.total_in() == before_in && self.0.total_out() == before_out;
                    if input.is_empty() && out.len() < out.capacity() {
                        return Ok(out);
                    }
                    if stuck {
                        return Err(HeaderError::Compression);
                    }
                }
            }
        }
    }
}

/// A count, then for each header the lengths and bytes of name and value.
fn parse(block: &[u8]) -> Result<Headers, HeaderError> {
    let mut rest = block;
    let count = number(&mut rest)?;
    if count > HEADERS_LEN_MAX {
        return Err(HeaderError::TooLarge);
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = text(&mut rest)?;
        let value = text(&mut rest)?;
        headers.push((name, value));
    }
    if rest.is_empty() { Ok(Headers(headers)) } else { Err(HeaderError::Malformed) }
}

fn number(rest: &mut &[u8]) -> Result<usize, HeaderError> {
    let (head, tail) = rest.split_first_chunk::<4>().ok_or(HeaderError::Malformed)?;
    *rest = tail;
    Ok(u32::from_be_bytes(*head) as usize)
}

fn text(rest: &mut &[u8]) -> Result<String, HeaderError> {
    let len = number(rest)?;
    let (head, tail) = rest.split_at_checked(len).ok_or(HeaderError::Malformed)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).map_err(|_| HeaderError::Malformed)
}

/// Packs blocks of one direction.
pub(crate) struct Packer(Compress);

impl Packer {
    pub(crate) fn new() -> Result<Packer, HeaderError> {
        let mut compress = Compress::new(Compression::fast(), true);
        compress.set_dictionary(&DICTIONARY).map_err(|_| HeaderError::Compression)?;
        Ok(Packer(compress))
    }

    pub(crate) fn pack(&mut self, headers: &Headers) -> Result<Vec<u8>, HeaderError> {
        let mut block = Vec::new();
        block.extend_from_slice(&(headers.0.len() as u32).to_be_bytes());
        for part in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            block.extend_from_slice(&(part.len() as u32).to_be_bytes());
            block.extend_from_slice(part.as_bytes());
        }
        let (mut input, mut out) = (&block[..], Vec::new());
        loop {
            out.reserve(1024);
            let before = self.0.total_in();
            let step = self.0.compress_vec(input, &mut out, FlushCompress::Sync);
            step.map_err(|_| HeaderError::Compression)?;
            input = input.get((self.0.total_in() - before) as usize..).ok_or(HeaderError::Compression)?;
            // Room left over means that everything has been flushed.
            if input.is_empty() && out.len() < out.capacity() {
                return Ok(out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        Headers(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn blocks_are_unpacked_in_the_order_in_which_they_were_packed() {
        let (mut packer, mut unpacker) = (Packer::new().expect("a packer"), Unpacker::new());
        for pairs in [
            &[("streamtype", "stdin")][..],
            &[],
            &[("streamtype", "data"), ("port", "8080"), ("requestid", "0")],
            &[("streamtype", "error"), ("port", "8080"), ("requestid", "0")],
        ] {
            let packed = packer.pack(&headers(pairs)).expect("packed");
            assert_eq!(unpacker.unpack(&packed), Ok(headers(pairs)));
        }
    }

    #[test]
    fn the_first_block_names_the_dictionary() {
        let packed = Packer::new().expect("a packer").pack(&headers(&[])).expect("packed");
        // zlib's header with the dictionary flag, then the dictionary's checksum.
        assert_eq!(packed[0], 0x78);
        assert_ne!(packed[1] & 0x20, 0);
        assert_eq!(packed[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
    }

    #[test]
    fn a_small_block_that_unpacks_to_a_large_one_is_refused() {
        let long = "x".repeat(10 * BLOCK_BYTES_MAX);
        let packed = Packer::new().expect("a packer").pack(&headers(&[("a", &long)])).expect("packed");
        assert!(packed.len() < COMPRESSED_BYTES_MAX);
        assert_eq!(Unpacker::new().unpack(&packed), Err(HeaderError::TooLarge));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_unpacker_panic_or_loop(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4)) {
            let mut unpacker = Unpacker::new();
            for block in blocks {
                if unpacker.unpack(&block).is_err() {
                    break;
                }
            }
        }

        #[test]
        fn a_damaged_block_is_an_error_or_other_headers(at in 0usize..60, bit in 0u8..8) {
            let good = headers(&[("streamtype", "data"), ("port", "80"), ("requestid", "7")]);
            let mut packed = Packer::new().expect("a packer").pack(&good).expect("packed");
            let at = at % packed.len();
            packed[at] ^= 1 << bit;
            let _ = Unpacker::new().unpack(&packed);
        }
    }
}
