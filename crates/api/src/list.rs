//! A list's body: the envelope, and the objects' own bytes between commas, put together a chunk at a time as the client reads.
//! However large the list and however many read it, one chunk each is all the extra memory.

use crate::options::CHUNK_BYTES;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use std::io::Error;
use std::pin::Pin;
use std::task::{Context, Poll};
use stoa_store::{Entries, Entry, IntoEntries};

/// Objects from this size on are handed on as they are instead of being copied into the chunk.
const COPY_BYTES_MAX: usize = 16 * 1024;

/// How an object is shown in a list.
pub(crate) type Show = Box<dyn FnMut(&Entry) -> Bytes + Send>;

pub(crate) struct ListBody {
    head: Option<Bytes>,
    entries: IntoEntries,
    tail: Option<&'static str>,
    /// `None`: the object's own bytes.
    show: Option<Show>,
    /// An object that did not fit into the chunk before.
    next: Option<Bytes>,
    is_first: bool,
    /// What is still to come, where that is known.
    left: Option<u64>,
    /// How large the objects are as they are stored.
    stored_bytes: u64,
}

impl ListBody {
    pub(crate) fn new(head: Bytes, entries: Entries, show: Option<Show>) -> ListBody {
        let tail = "]}\n";
        let objects = entries.value_bytes();
        let commas = entries.len().saturating_sub(1) as u64;
        let left = show.is_none().then_some(head.len() as u64 + objects + commas + tail.len() as u64);
        ListBody {
            head: Some(head),
            entries: entries.into_iter(),
            tail: Some(tail),
            show,
            next: None,
            is_first: true,
            left,
            stored_bytes: objects,
        }
    }

    /// About how many bytes it will be: exactly, unless the objects are shown otherwise than they are stored.
    pub(crate) fn about_bytes(&self) -> u64 {
        self.left.unwrap_or(self.stored_bytes)
    }

    fn chunk(&mut self) -> Option<Bytes> {
        if let Some(large) = self.next.take() {
            return Some(large);
        }
        let mut out = BytesMut::new();
        if let Some(head) = self.head.take() {
            out.reserve(CHUNK_BYTES);
            out.put(head);
        }
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.entries.next() else {
                if let Some(tail) = self.tail.take() {
                    out.put(tail.as_bytes());
                }
                break;
            };
            let bytes = match &mut self.show {
                Some(show) => show(&entry),
                None => entry.value,
            };
            if !std::mem::take(&mut self.is_first) {
                out.put_u8(b',');
            }
            if bytes.len() > COPY_BYTES_MAX {
                // Never empty here except before a first object without a head, and then the object itself is the chunk.
                if out.is_empty() {
                    return Some(bytes);
                }
                self.next = Some(bytes);
                break;
            }
            out.put(bytes);
        }
        (!out.is_empty()).then(|| out.freeze())
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let chunk = self.chunk();
        if let (Some(left), Some(chunk)) = (&mut self.left, &chunk) {
            *left = left.saturating_sub(chunk.len() as u64);
        }
        Poll::Ready(chunk.map(|c| Ok(Frame::data(c))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use stoa_store::Key;
    use stoa_units::Revision;

    fn entry(i: usize, len: usize) -> Entry {
        Entry {
            key: Key::object("", "pods", "ns", &i.to_string()),
            value: format!("\"{}\"", "x".repeat(len)).into(),
            created: Revision(1),
            modified: Revision(1),
        }
    }

    #[tokio::test]
    async fn a_streamed_list_is_whole_json_of_the_length_it_announced() {
        for sizes in [vec![], vec![1], vec![1, 2, 3], vec![40_000, 1, 40_000, 40_000], vec![1000; 500]] {
            let entries: Entries = sizes.iter().enumerate().map(|(i, n)| entry(i, *n)).collect();
            let body = ListBody::new(Bytes::from_static(b"{\"items\":["), entries, None);
            let said = body.about_bytes();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, said);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["items"].as_array().unwrap().len(), sizes.len());
        }
    }
}
