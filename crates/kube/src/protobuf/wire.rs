//! Protobuf's wire format: tagged fields one after the other.

use super::{Error, Result};

/// Bytes that are left to read.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

/// A field's value as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    /// No field of ours is of this type.
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Scalar<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8]> {
        match self {
            Scalar::Bytes(bytes) => Ok(bytes),
            _ => Err(Error::Malformed("a field has the wrong wire type")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Error::Malformed("a text is no UTF-8"))
    }

    /// Negative numbers are sent as their two's complement in 64 bits.
    pub(crate) fn int(self) -> Result<i64> {
        match self {
            Scalar::Varint(n) => Ok(n as i64),
            _ => Err(Error::Malformed("a field has the wrong wire type")),
        }
    }
}

impl<'a> Reader<'a> {
    /// The next field; `None` at the end.
    pub(crate) fn field(&mut self) -> Result<Option<(u32, Scalar<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number =
            u32::try_from(tag >> 3).map_err(|_| Error::Malformed("a field's number is too large"))?;
        let scalar = match tag & 7 {
            0 => Scalar::Varint(self.varint()?),
            1 => Scalar::Fixed64(self.fixed64()?),
            2 => {
                let len = usize::try_from(self.varint()?);
                Scalar::Bytes(self.take(len.map_err(|_| Error::Malformed("a field is too long"))?)?)
            }
            5 => {
                self.take(4)?;
                Scalar::Fixed32
            }
            _ => return Err(Error::Malformed("a field's wire type is unknown")),
        };
        Ok(Some((number, scalar)))
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64> {
        Ok(self.take(8)?.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    pub(crate) fn varint(&mut self) -> Result<u64> {
        let mut out = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            out |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(out);
            }
        }
        Err(Error::Malformed("a number is too long"))
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        if len > self.0.len() {
            return Err(Error::Malformed("the body ends within a field"));
        }
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(taken)
    }
}

/// How a field's value is written.
#[derive(Clone, Copy)]
pub(crate) enum Type {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

pub(crate) fn put_tag(out: &mut Vec<u8>, number: u32, ty: Type) {
    put_varint(out, u64::from(number) << 3 | ty as u64);
}

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, Type::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn put_int(out: &mut Vec<u8>, number: u32, n: i64) {
    put_tag(out, number, Type::Varint);
    put_varint(out, n as u64);
}
