//! Events in protobuf, shared: all watchers of an object are handed the same bytes, so it is written once for many of them.

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::VecDeque;
use std::sync::LazyLock;
use stoa_kube::{Status, protobuf};

/// Events that are kept: watchers are never far apart.
const KEPT_LEN_MAX: usize = 64;
/// Larger objects are not kept, so that what is kept stays small.
const KEPT_BYTES_MAX: usize = 64 * 1024;

struct Kept {
    /// Held, so that no other object comes to lie where it lies.
    object: Bytes,
    kind: &'static str,
    frame: Bytes,
}

static KEPT: LazyLock<Mutex<VecDeque<Kept>>> = LazyLock::new(Mutex::default);

/// An event as a frame.
pub(super) fn frame(kind: &'static str, object: &Bytes) -> Result<Bytes, Status> {
    let is_same =
        |k: &Kept| k.kind == kind && k.object.as_ptr() == object.as_ptr() && k.object.len() == object.len();
    if let Some(kept) = KEPT.lock().iter().rev().find(|k| is_same(k)) {
        return Ok(kept.frame.clone());
    }
    let value: Value = serde_json::from_slice(object).map_err(|e| Status::internal(e.to_string()))?;
    let mut frame = Vec::with_capacity(object.len());
    protobuf::put_watch_event(&mut frame, kind, &value).map_err(|e| Status::internal(e.to_string()))?;
    let frame = Bytes::from(frame);
    if object.len() <= KEPT_BYTES_MAX {
        let mut all = KEPT.lock();
        if all.len() >= KEPT_LEN_MAX {
            all.pop_front();
        }
        all.push_back(Kept { object: object.clone(), kind, frame: frame.clone() });
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_once_for_all_its_watchers() {
        let object = Bytes::from_static(br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#);
        let first = frame("ADDED", &object).unwrap();
        let again = frame("ADDED", &object.clone()).unwrap();
        assert_eq!(first.as_ptr(), again.as_ptr());
        let other = frame("DELETED", &object).unwrap();
        assert_ne!(first, other);
        let copy = Bytes::copy_from_slice(&object);
        assert_eq!(frame("ADDED", &copy).unwrap(), first);
        assert!(frame("ADDED", &Bytes::from_static(b"{}")).is_err());
    }
}
