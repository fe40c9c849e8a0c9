//! Watches: a store watch seen through a selector, with the objects that exist first where the client wants them, and
//! bookmarks that tell an idle client how far it has come.

use crate::list::{RevisionMatch, invalid_options};
use crate::options::{BOOKMARK_PERIOD, WATCH_TIMEOUT_MAX, WATCH_TIMEOUT_MIN};
use crate::{ListOptions, Registry, Selection, convert, error};
use bytes::Bytes;
use rand::Rng;
use serde_json::json;
use std::collections::VecDeque;
use std::pin::Pin;
use std::time::Duration;
use stoa_kube::{Cause, Object, Resource, Status};
use stoa_store::{Error, Event, EventKind, Key};
use stoa_units::Revision;
use tokio::time::{Instant, Sleep, sleep_until};

const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Whether the objects that exist come first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Initial {
    /// As a stock server decides: yes if no revision, or revision 0, is named.
    #[default]
    ByRevision,
    /// Yes (`sendInitialEvents=true`).
    Send,
    /// No (`sendInitialEvents=false`).
    Skip,
}

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Which objects.
    pub selection: Selection,
    /// After which revision; `None` means from now.
    pub revision: Option<Revision>,
    /// Whether the objects that exist come first.
    pub initial: Initial,
    /// Whether bookmarks are wanted.
    pub bookmarks: bool,
    /// After how long the watch ends by itself.
    pub timeout: Option<Duration>,
}

impl WatchOptions {
    /// What exists and then every change, without an end of its own.
    pub fn from_now(selection: Selection) -> WatchOptions {
        WatchOptions { selection, ..WatchOptions::default() }
    }

    /// Every change after a revision.
    pub fn after(revision: Revision, selection: Selection) -> WatchOptions {
        WatchOptions { selection, revision: Some(revision), ..WatchOptions::default() }
    }

    /// Checks the combination of parameters as a stock server does.
    pub fn check(initial: Initial, match_text: &str, continue_: &str) -> Result<(), Status> {
        let field = "resourceVersionMatch";
        let mut causes = Vec::new();
        if initial != Initial::ByRevision && match_text != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden(field, why));
        }
        if !match_text.is_empty() {
            if initial == Initial::ByRevision {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                causes.push(Cause::forbidden(field, why));
            }
            if match_text != "NotOlderThan" {
                causes.push(Cause::not_supported(field, match_text, &["NotOlderThan"]));
            }
            if !continue_.is_empty() {
                let why = "resourceVersionMatch is forbidden when continue is provided";
                causes.push(Cause::forbidden(field, why));
            }
        }
        if causes.is_empty() { Ok(()) } else { Err(invalid_options(causes)) }
    }
}

/// What happened to an object, as the watcher's selector sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WatchKind {
    /// It came into being or into the selection.
    Added,
    /// It changed.
    Modified,
    /// It was removed or left the selection.
    Deleted,
    /// Nothing happened up to here.
    Bookmark,
}

impl WatchKind {
    /// The word in a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            WatchKind::Added => "ADDED",
            WatchKind::Modified => "MODIFIED",
            WatchKind::Deleted => "DELETED",
            WatchKind::Bookmark => "BOOKMARK",
        }
    }
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchKind,
    /// The object in the served form, shared with all other watchers where the form is the stored one.
    pub object: Bytes,
    /// When it happened.
    pub revision: Revision,
}

/// A running watch. Dropping it ends it.
pub struct Watch {
    resource: &'static Resource,
    selection: Selection,
    /// Only this key, where the selector names one.
    only: Option<Key>,
    inner: stoa_store::Watch,
    after: Revision,
    queue: VecDeque<Result<WatchEvent, Status>>,
    bookmarks: bool,
    deadline: Option<Instant>,
    /// Rings for the next bookmark or at the deadline. Kept over all the waits between: setting one up costs more than an event.
    alarm: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("resource", &self.resource.plural).field("after", &self.after).finish()
    }
}

impl Registry {
    /// Watches objects; an empty namespace means all of them. A revision that is no longer kept shows as the first event's error.
    pub async fn watch(
        &self,
        resource: &'static Resource,
        namespace: &str,
        options: WatchOptions,
    ) -> Result<Watch, Status> {
        let mut prefix = Key::prefix(resource.storage, resource.plural, namespace);
        let only = options
            .selection
            .single_name()
            .filter(|name| (!namespace.is_empty() || !resource.namespaced) && !name.contains('/'))
            .map(|name| self.key(resource, namespace, name));
        if let Some(key) = &only {
            prefix = key.as_str().to_string();
        }
        let from_start = options.revision.is_none_or(|r| r == Revision::ZERO);
        let send = match options.initial {
            Initial::Send => true,
            Initial::Skip => false,
            Initial::ByRevision => from_start,
        };
        let mut queue = VecDeque::new();
        let after = if send {
            let list = self.list(resource, namespace, &initial_list(&options)).await?;
            queue.extend(list.entries.into_iter().map(|e| Ok(added(e.value, e.modified))));
            if options.bookmarks {
                queue.push_back(Ok(bookmark(resource, list.revision, true)));
            }
            list.revision
        } else {
            options.revision.filter(|_| !from_start).unwrap_or_else(|| self.store().revision())
        };
        // A revision to come is watched from now; its past is filtered out below.
        let from = after.min(self.store().revision());
        let (inner, over) = match self.store().watch(&prefix, from) {
            Ok(inner) => (inner, false),
            Err(Error::Compacted { oldest }) => {
                queue.push_back(Err(Status::too_old_revision(after.0, oldest.0)));
                (self.store().watch(&prefix, self.store().revision()).map_err(error::status)?, true)
            }
            Err(e) => return Err(error::status(e)),
        };
        let now = Instant::now();
        let deadline = options.timeout.map(|t| now + t.min(WATCH_TIMEOUT_MAX));
        Ok(Watch {
            resource,
            selection: options.selection,
            only,
            inner,
            after,
            queue,
            bookmarks: options.bookmarks,
            deadline,
            alarm: alarm(now, options.bookmarks, deadline).map(|at| Box::pin(sleep_until(at))),
            over,
        })
    }
}

/// How long a client's watch lives that names no timeout: spread out, so that clients do not all come back at once.
pub fn default_watch_timeout() -> Duration {
    WATCH_TIMEOUT_MIN.mul_f64(1.0 + rand::rng().random::<f64>())
}

fn initial_list(options: &WatchOptions) -> ListOptions {
    ListOptions {
        selection: options.selection.clone(),
        revision: options.revision,
        revision_match: options.revision.map(|_| RevisionMatch::NotOlderThan),
        ..ListOptions::default()
    }
}

fn added(object: Bytes, revision: Revision) -> WatchEvent {
    WatchEvent { kind: WatchKind::Added, object, revision }
}

fn bookmark(resource: &Resource, revision: Revision, ends_initial: bool) -> WatchEvent {
    let mut meta = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
    if ends_initial {
        meta["annotations"] = json!({ INITIAL_EVENTS_END: "true" });
    }
    let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": meta});
    WatchEvent { kind: WatchKind::Bookmark, object: object.to_string().into(), revision }
}

/// When a watch is next woken though nothing has happened.
fn alarm(now: Instant, bookmarks: bool, deadline: Option<Instant>) -> Option<Instant> {
    let bookmark = bookmarks.then(|| now + BOOKMARK_PERIOD);
    bookmark.into_iter().chain(deadline).min()
}

enum Woken {
    Batch(Result<stoa_store::Batch, Error>),
    Bookmark,
    Over,
}

impl Watch {
    /// The next event; `None` when the watch's time is up. After an error there is nothing more.
    pub async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            match self.wait().await {
                Woken::Batch(Ok(batch)) => self.take(&batch),
                Woken::Batch(Err(e)) => {
                    self.over = true;
                    return Some(Err(error::status(e)));
                }
                Woken::Bookmark => {
                    let next = alarm(Instant::now(), self.bookmarks, self.deadline);
                    if let (Some(alarm), Some(at)) = (&mut self.alarm, next) {
                        alarm.as_mut().reset(at);
                    }
                    let synced = self.inner.synced().max(self.after);
                    return Some(Ok(bookmark(self.resource, synced, false)));
                }
                Woken::Over => self.over = true,
            }
        }
    }

    /// An event that is already there, without waiting.
    pub fn try_next(&mut self) -> Option<Result<WatchEvent, Status>> {
        if self.queue.is_empty() && !self.over {
            match self.inner.try_next() {
                Ok(Some(batch)) => self.take(&batch),
                Ok(None) => {}
                Err(e) => {
                    self.over = true;
                    return Some(Err(error::status(e)));
                }
            }
        }
        self.queue.pop_front()
    }

    fn take(&mut self, batch: &stoa_store::Batch) {
        for event in &batch.events {
            if let Some(seen) = self.see(event) {
                self.queue.push_back(Ok(seen));
            }
        }
        self.after = self.after.max(batch.revision);
    }

    async fn wait(&mut self) -> Woken {
        let (alarm, deadline) = (&mut self.alarm, self.deadline);
        let rung = async {
            match alarm {
                Some(alarm) => alarm.as_mut().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = rung => match deadline {
                Some(at) if at <= Instant::now() => Woken::Over,
                _ => Woken::Bookmark,
            },
            batch = self.inner.next() => Woken::Batch(batch),
        }
    }

    fn see(&self, event: &Event) -> Option<WatchEvent> {
        if event.revision <= self.after || self.only.as_ref().is_some_and(|k| *k != event.key) {
            return None;
        }
        let everything = self.selection.is_everything();
        let selected = |bytes: &Bytes| everything || self.selection.matches_shared(&event.key, bytes);
        let was = event.previous.as_ref().is_some_and(selected);
        let is = event.kind == EventKind::Put && selected(&event.value);
        let kind = match (was, is) {
            (false, false) => return None,
            (false, true) => WatchKind::Added,
            (true, true) => WatchKind::Modified,
            (true, false) => WatchKind::Deleted,
        };
        let object = match (kind, event.kind, &event.previous) {
            // It left the selection: the watcher sees it as it last knew it, at the revision of its leaving.
            (WatchKind::Deleted, EventKind::Put, Some(previous)) => restamp(previous, event.revision),
            _ => event.value.clone(),
        };
        let object = convert::serve(self.resource, object);
        Some(WatchEvent { kind, object, revision: event.revision })
    }
}

fn restamp(bytes: &Bytes, revision: Revision) -> Bytes {
    match Object::read(bytes) {
        Ok(object) => object.to_stamped().at(revision),
        Err(_) => bytes.clone(),
    }
}
