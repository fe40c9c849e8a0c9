//! A list's body: the envelope, and the objects' own bytes between commas, put together a chunk at a time as the client reads.
//! However large the list and however many read it, one chunk each is all the extra memory.

use crate::options::CHUNK_BYTES;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body, Frame};
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
    /// What the objects' bytes begin with and an element of a list does not: an opened object with its version and kind.
    envelope: String,
    /// An object that did not fit into the chunk before.
    next: Option<Bytes>,
    is_first: bool,
    /// How large the objects are as they are stored.
    stored_bytes: u64,
}

impl ListBody {
    /// Objects of a version and a kind as they are stored. The list's kind says theirs.
    pub(crate) fn of_objects(head: Bytes, entries: Entries, api_version: &str, kind: &str) -> ListBody {
        let envelope = format!("{{\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\",");
        ListBody { envelope, ..ListBody::new(head, entries, None) }
    }

    /// Objects in another form.
    pub(crate) fn shown(head: Bytes, entries: Entries, show: Show) -> ListBody {
        ListBody::new(head, entries, Some(show))
    }

    fn new(head: Bytes, entries: Entries, show: Option<Show>) -> ListBody {
        ListBody {
            head: Some(head),
            stored_bytes: entries.value_bytes(),
            entries: entries.into_iter(),
            tail: Some("]}\n"),
            show,
            envelope: String::new(),
            next: None,
            is_first: true,
        }
    }

    /// About how many bytes it will be.
    pub(crate) fn about_bytes(&self) -> u64 {
        self.stored_bytes
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
            if !std::mem::take(&mut self.is_first) {
                out.put_u8(b',');
            }
            let bytes = match &mut self.show {
                Some(show) => show(&entry),
                None if entry.value.starts_with(self.envelope.as_bytes()) && !self.envelope.is_empty() => {
                    out.put_u8(b'{');
                    entry.value.slice(self.envelope.len()..)
                }
                None => entry.value,
            };
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
        Poll::Ready(self.chunk().map(|c| Ok(Frame::data(c))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use stoa_store::Key;
    use stoa_units::Revision;

    fn entry(i: usize, len: usize) -> Entry {
        let rest = format!("\"metadata\":{{}},\"x\":\"{}\"}}", "x".repeat(len));
        Entry {
            key: Key::object("", "pods", "ns", &i.to_string()),
            value: format!("{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",{rest}").into(),
            created: Revision(1),
            modified: Revision(1),
        }
    }

    #[tokio::test]
    async fn a_streamed_list_is_whole_json_that_says_the_kind_once() {
        for sizes in [vec![], vec![1], vec![1, 2, 3], vec![40_000, 1, 40_000, 40_000], vec![1000; 500]] {
            let entries: Entries = sizes.iter().enumerate().map(|(i, n)| entry(i, *n)).collect();
            let body = ListBody::of_objects(Bytes::from_static(b"{\"items\":["), entries, "v1", "Pod");
            let said = body.about_bytes();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert!(said.abs_diff(bytes.len() as u64) <= 40 * sizes.len() as u64 + 20);
            let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            let items = value["items"].as_array().unwrap();
            assert_eq!(items.len(), sizes.len());
            assert!(items.iter().all(|item| item["metadata"].is_object() && item.get("kind").is_none()));
        }
    }
}
