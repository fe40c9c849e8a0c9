//! RecordIO: `<decimal length>\n<exactly that many bytes>`, nothing after the record. The length is never zero.
//! Decoding is incremental and bounded, since the lengths come from the outside.

use bytes::{Buf, Bytes, BytesMut};

/// Longest record that is read.
pub const RECORD_BYTES_MAX: usize = 16 << 20;
/// Longest decimal length that can denote a record within the bound.
const LENGTH_DIGITS_MAX: usize = 8;

/// Why a stream is no RecordIO.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The length is not a decimal number.
    #[error("Failed to decode length")]
    Length,
    /// The record is longer than is accepted.
    #[error("record of {bytes} bytes exceeds the limit of {bytes_max}")]
    TooLong {
        /// Its announced length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Frames one record.
pub fn encode(record: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(record.len() + LENGTH_DIGITS_MAX);
    out.extend_from_slice(record.len().to_string().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(record);
    out.into()
}

/// Takes records out of a stream of arbitrary pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
}

impl Decoder {
    /// Adds a piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next whole record, if it has arrived.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, Error> {
        let head = &self.buffer[..self.buffer.len().min(LENGTH_DIGITS_MAX + 1)];
        let Some(end) = head.iter().position(|b| *b == b'\n') else {
            return if head.len() > LENGTH_DIGITS_MAX || head.iter().any(|b| !b.is_ascii_digit()) {
                Err(Error::Length)
            } else {
                Ok(None)
            };
        };
        let digits = &head[..end];
        if digits.is_empty() || digits.iter().any(|b| !b.is_ascii_digit()) {
            return Err(Error::Length);
        }
        let bytes = digits.iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
        if bytes > RECORD_BYTES_MAX {
            return Err(Error::TooLong { bytes, bytes_max: RECORD_BYTES_MAX });
        }
        if self.buffer.len() < end + 1 + bytes {
            return Ok(None);
        }
        self.buffer.advance(end + 1);
        Ok(Some(self.buffer.split_to(bytes).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn records_survive_any_slicing(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), step in 1usize..9,
        ) {
            let stream: Vec<u8> = records.iter().flat_map(|r| encode(r).to_vec()).collect();
            let (mut decoder, mut got) = (Decoder::default(), Vec::new());
            for piece in stream.chunks(step) {
                decoder.push(piece);
                while let Some(r) = decoder.next_record().unwrap() { got.push(r.to_vec()); }
            }
            prop_assert_eq!(got, records);
        }

        #[test]
        fn no_stream_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next_record() {}
        }
    }

    #[test]
    fn a_bad_or_huge_length_is_refused() {
        for (text, want) in [
            (&b"x\nabc"[..], Error::Length),
            (b"\nabc", Error::Length),
            (b"123456789012", Error::Length),
            (b"99999999\n", Error::TooLong { bytes: 99_999_999, bytes_max: RECORD_BYTES_MAX }),
        ] {
            let mut d = Decoder::default();
            d.push(text);
            assert_eq!(d.next_record(), Err(want));
        }
    }
}
