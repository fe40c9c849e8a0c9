//! Lists in protobuf. An envelope says first how long it is, so every object is written once to be measured; what was written is
//! kept as long as all lists together keep little, and written again for the client otherwise.

use crate::negotiate::View;
use crate::options::CHUNK_BYTES;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde_json::Value;
use std::io::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use stoa_kube::protobuf::List;
use stoa_kube::{Resource, Status};
use stoa_store::{Entries, Entry};

/// What all lists that are being sent keep together.
const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lists from this size on are measured on a thread where nobody else waits.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

static KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

/// A share of what may be kept, given back when the list is gone.
#[derive(Default)]
struct Kept {
    bytes: usize,
}

impl Kept {
    /// Takes more; `false`: there is none.
    fn take(&mut self, bytes: usize) -> bool {
        if KEPT_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes > KEPT_BYTES_MAX {
            KEPT_BYTES.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT_BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A list's body.
pub(crate) struct ListBody {
    list: List,
    head: Option<Bytes>,
    /// The first items, as they are sent.
    kept: std::vec::IntoIter<Bytes>,
    _share: Kept,
    /// Those after them.
    rest: std::vec::IntoIter<Entry>,
    tail: Option<Bytes>,
    /// What is still to come.
    left: usize,
}

/// Measures a list.
pub(crate) async fn list(
    resource: &'static Resource,
    view: View,
    metadata: Value,
    entries: Entries,
) -> Result<ListBody, Status> {
    let list = match view {
        View::Partial | View::PartialList => {
            List::new("meta.k8s.io/v1", "PartialObjectMetadataList", &metadata)
        }
        _ => List::new(&resource.api_version(), resource.list_kind, &metadata),
    };
    let list = list.map_err(|e| Status::internal(e.to_string()))?;
    let stored = entries.value_bytes();
    if stored < INLINE_BYTES_MAX {
        return measure(list, entries);
    }
    let measured = tokio::task::spawn_blocking(move || measure(list, entries)).await;
    measured.map_err(|e| Status::internal(e.to_string()))?
}

fn measure(list: List, entries: Entries) -> Result<ListBody, Status> {
    let (mut share, mut kept, mut rest) = (Kept::default(), Vec::new(), Vec::new());
    let mut items_bytes = 0;
    let mut chunk = Vec::new();
    for entry in entries {
        let start = chunk.len();
        put(&list, &mut chunk, &entry)?;
        let bytes = chunk.len() - start;
        items_bytes += bytes;
        if !rest.is_empty() || !share.take(bytes) {
            chunk.truncate(start);
            rest.push(entry);
        } else if chunk.len() >= CHUNK_BYTES {
            kept.push(std::mem::take(&mut chunk).into());
        }
    }
    if !chunk.is_empty() {
        kept.push(chunk.into());
    }
    let (head, tail) = (list.head(items_bytes), List::tail());
    let left = head.len() + items_bytes + tail.len();
    Ok(ListBody {
        list,
        head: Some(head),
        kept: kept.into_iter(),
        _share: share,
        rest: rest.into_iter(),
        tail: Some(tail),
        left,
    })
}

fn put(list: &List, out: &mut Vec<u8>, entry: &Entry) -> Result<(), Status> {
    let object: Value = serde_json::from_slice(&entry.value).map_err(|e| Status::internal(e.to_string()))?;
    list.put(out, &object).map_err(|e| Status::internal(format!("{}: {e}", entry.key.as_str())))
}

impl ListBody {
    fn chunk(&mut self) -> Option<Result<Bytes, Status>> {
        if let Some(ready) = self.head.take().or_else(|| self.kept.next()) {
            return Some(Ok(ready));
        }
        let mut out = Vec::new();
        while out.len() < CHUNK_BYTES {
            let Some(entry) = self.rest.next() else {
                out.extend_from_slice(&self.tail.take().unwrap_or_default());
                break;
            };
            if let Err(status) = put(&self.list, &mut out, &entry) {
                return Some(Err(status));
            }
        }
        (!out.is_empty()).then(|| Ok(out.into()))
    }
}

impl Body for ListBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(self.chunk().map(|chunk| {
            let chunk = chunk.map_err(|status| Error::other(status.message))?;
            self.left = self.left.saturating_sub(chunk.len());
            Ok(Frame::data(chunk))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use serde_json::json;
    use stoa_kube::{protobuf, resources};
    use stoa_store::Key;
    use stoa_units::Revision;

    #[tokio::test]
    async fn a_list_is_of_the_length_it_announced_kept_or_not() {
        let resource = resources().find("", "v1", "configmaps").unwrap();
        let entries = |count: usize| -> Entries {
            let one = |i: usize| {
                let object = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": format!("m{i}")},
                    "data": {"a": "x".repeat(i % 300)}});
                Entry {
                    key: Key::object("", "configmaps", "n", &i.to_string()),
                    value: object.to_string().into(),
                    created: Revision(1),
                    modified: Revision(1),
                }
            };
            (0..count).map(one).collect()
        };
        for (count, busy) in
            [(0, 0), (3, 0), (2000, 0), (2000, KEPT_BYTES_MAX - 100_000), (50, KEPT_BYTES_MAX)]
        {
            let mut others = Kept::default();
            assert!(others.take(busy));
            let meta = json!({"resourceVersion": "7"});
            let body = list(resource, View::Object, meta, entries(count)).await.unwrap();
            let said = body.size_hint().exact().unwrap();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(bytes.len() as u64, said);
            let value = protobuf::decode(&bytes).unwrap();
            assert_eq!(value["metadata"]["resourceVersion"], "7");
            let items = value["items"].as_array().map_or(0, Vec::len);
            assert_eq!(items, count);
        }
    }
}
