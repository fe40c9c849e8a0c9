//! A watch's body: one JSON line or one protobuf frame an event, for as long as the client reads.

mod frames;

use crate::negotiate::{Encoding, Include, View};
use crate::table;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::Value;
use std::sync::Arc;
use stoa_kube::{Resource, Status, protobuf};
use stoa_registry::{Watch, WatchEvent, WatchKind};
use stoa_streams::Body;
use stoa_units::Clock;
use tokio_util::sync::CancellationToken;

use crate::options::CHUNK_BYTES;

/// Shows events in the form that the client asked for.
pub(crate) struct Shown {
    pub(crate) resource: &'static Resource,
    pub(crate) view: View,
    pub(crate) encoding: Encoding,
    pub(crate) include: Include,
    pub(crate) clock: Arc<dyn Clock>,
    /// A table's columns are sent once.
    pub(crate) columns_sent: bool,
}

struct Stream {
    watch: Watch,
    shown: Shown,
    closing: CancellationToken,
    over: bool,
    /// Counts the open watch for as long as it lives.
    _open: crate::metrics::Open,
}

/// The body. It ends when the watch does, when the client goes, or when the door closes.
pub(crate) fn body(
    watch: Watch,
    shown: Shown,
    closing: CancellationToken,
    open: crate::metrics::Open,
) -> Body {
    let state = Stream { watch, shown, closing, over: false, _open: open };
    let frames = stream::unfold(state, |mut state| async move {
        let chunk = state.chunk().await?;
        Some((Ok(Frame::data(chunk)), state))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The events one by one, for a WebSocket. They end as the body does.
pub(crate) fn messages(
    watch: Watch,
    shown: Shown,
    closing: CancellationToken,
    open: crate::metrics::Open,
) -> impl futures_util::Stream<Item = Bytes> + Send {
    let state = Stream { watch, shown, closing, over: false, _open: open };
    stream::unfold(state, |mut state| async move {
        let message = state.message().await?;
        Some((message, state))
    })
}

impl Stream {
    async fn message(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let event = tokio::select! {
            event = self.watch.next() => event?,
            () = self.closing.cancelled() => return None,
        };
        let mut out = BytesMut::new();
        self.put(&mut out, event);
        if self.shown.encoding == Encoding::Protobuf {
            // A message needs no length before it.
            out.advance(protobuf::FRAME_HEAD_LEN.min(out.len()));
        }
        Some(out.freeze())
    }

    async fn chunk(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let first = tokio::select! {
            event = self.watch.next() => event?,
            () = self.closing.cancelled() => return None,
        };
        let mut out = BytesMut::new();
        self.put(&mut out, first);
        // What is there already goes into the same chunk.
        while !self.over && out.len() < CHUNK_BYTES {
            match self.watch.try_next() {
                Some(event) => self.put(&mut out, event),
                None => break,
            }
        }
        Some(out.freeze())
    }

    fn put(&mut self, out: &mut BytesMut, event: Result<WatchEvent, Status>) {
        match event {
            Ok(event) => {
                let object = self.shown.show(&event);
                if let Err(status) = self.write(out, event.kind.as_str(), &object) {
                    tracing::error!(why = status.message, "an object cannot be sent to a watcher");
                    self.put(out, Err(status));
                }
            }
            Err(status) => {
                self.over = true;
                // A status has a form in every encoding.
                let _ = self.write(out, "ERROR", &status.to_bytes());
            }
        }
    }

    fn write(&self, out: &mut BytesMut, kind: &'static str, object: &Bytes) -> Result<(), Status> {
        match self.shown.encoding {
            Encoding::Protobuf => out.put(&frames::frame(kind, object)?[..]),
            _ => line(out, kind, object),
        }
        Ok(())
    }
}

fn line(out: &mut BytesMut, kind: &str, object: &[u8]) {
    out.reserve(object.len() + 40);
    out.put(&b"{\"type\":\""[..]);
    out.put(kind.as_bytes());
    out.put(&b"\",\"object\":"[..]);
    out.put(object);
    out.put(&b"}\n"[..]);
}

impl Shown {
    fn show(&mut self, event: &WatchEvent) -> Bytes {
        match self.view {
            View::Object | View::Discovery => event.object.clone(),
            View::Partial | View::PartialList => table::partial(&event.object),
            View::Table => {
                let row = match event.kind {
                    WatchKind::Bookmark => {
                        let object: Value = serde_json::from_slice(&event.object).unwrap_or_default();
                        serde_json::json!({"cells": table::row(self.resource, b"{}", Include::None, self.clock.now())["cells"],
                            "object": object})
                    }
                    _ => table::row(self.resource, &event.object, self.include, self.clock.now()),
                };
                let mut table = table::table(self.resource, &event.revision.to_string(), vec![row]);
                if std::mem::replace(&mut self.columns_sent, true) {
                    table["columnDefinitions"] = Value::Null;
                }
                table.to_string().into()
            }
        }
    }
}
