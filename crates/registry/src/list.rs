//! Reads: one object, or a page of a list at one revision. Values are the store's own bytes.

use crate::continue_token::Continue;
use crate::options::{CONTINUE_AGE_MAX, FUTURE_REVISION_WAIT, RANGE_PAGE_LEN};
use crate::{Initial, Registry, Selection, Target, convert, error};
use std::time::Duration;
use stoa_kube::{Cause, Resource, Status};
use stoa_store::{Entries, Entry, Error, Key, Range};
use stoa_units::{Revision, Time, quote};

/// How often a read looks whether a revision to come has come.
const FUTURE_REVISION_POLL: Duration = Duration::from_millis(20);

/// Whether a list shows the revision it names, or anything as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevisionMatch {
    /// Exactly that revision.
    Exact,
    /// That revision or a newer one.
    NotOlderThan,
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Which objects.
    pub selection: Selection,
    /// How many at most; 0 means all.
    pub limit: usize,
    /// The token of the page before; empty for the first.
    pub continue_: String,
    /// As of when; `None` means now.
    pub revision: Option<Revision>,
    /// How `revision` is meant.
    pub revision_match: Option<RevisionMatch>,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub struct List {
    /// The objects, in key order, in the served form.
    pub entries: Entries,
    /// As of when they were read.
    pub revision: Revision,
    /// Where the next page starts; `None` at the end.
    pub continue_: Option<String>,
    /// How many are left, unless a selector hides it.
    pub remaining: Option<u64>,
}

impl ListOptions {
    /// Everything, now.
    pub fn all() -> ListOptions {
        ListOptions::default()
    }

    /// Everything that matches, now.
    pub fn selecting(selection: Selection) -> ListOptions {
        ListOptions { selection, ..ListOptions::default() }
    }

    /// Checks the combination of parameters as a stock server does. `match_text` is the raw parameter.
    pub fn check_match(
        revision: &str,
        continue_: &str,
        match_text: &str,
        initial: Initial,
    ) -> Result<Option<RevisionMatch>, Status> {
        let field = "resourceVersionMatch";
        let mut causes = Vec::new();
        let found = match match_text {
            "Exact" => Some(RevisionMatch::Exact),
            "NotOlderThan" => Some(RevisionMatch::NotOlderThan),
            _ => None,
        };
        let is_named = !match_text.is_empty();
        if is_named && revision.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(Cause::forbidden(field, why));
        }
        if is_named && !continue_.is_empty() {
            let why = "resourceVersionMatch is forbidden when continue is provided";
            causes.push(Cause::forbidden(field, why));
        }
        if is_named && found.is_none() {
            causes.push(Cause::not_supported(field, match_text, &["Exact", "NotOlderThan", ""]));
        }
        if found == Some(RevisionMatch::Exact) && revision == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden(field, why));
        }
        if initial != Initial::ByRevision {
            causes.push(Cause::forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"));
        }
        if causes.is_empty() { Ok(found) } else { Err(invalid_options(causes)) }
    }
}

pub(crate) fn invalid_options(causes: Vec<Cause>) -> Status {
    Status::invalid("ListOptions", "meta.k8s.io", "", causes)
}

impl Registry {
    /// The key under which an object is stored.
    pub fn key(&self, resource: &Resource, namespace: &str, name: &str) -> Key {
        Key::object(resource.storage, resource.plural, namespace, name)
    }

    /// One object, in the served form.
    pub fn get(&self, target: Target<'_>) -> Result<Entry, Status> {
        let key = self.key(target.resource, target.namespace, target.name);
        let entry = self.store().get(&key).ok_or_else(|| Status::not_found(target.resource, target.name))?;
        Ok(served(target.resource, entry))
    }

    /// A page of objects; an empty namespace means all of them.
    pub async fn list(
        &self,
        resource: &Resource,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<List, Status> {
        let prefix = Key::prefix(resource.storage, resource.plural, namespace);
        if !options.continue_.is_empty() {
            return self.list_on(resource, &prefix, options);
        }
        let at = match (options.revision, options.revision_match) {
            (None | Some(Revision::ZERO), _) => None,
            (Some(revision), how) => {
                self.wait_for(revision).await?;
                (how == Some(RevisionMatch::Exact)).then_some(revision)
            }
        };
        // A limit without a match rule reads at the revision named, as etcd does for a paged list.
        let at = match (at, options.limit, options.revision, options.revision_match) {
            (None, 1.., Some(revision), None) if revision != Revision::ZERO => Some(revision),
            _ => at,
        };
        if let (Some(name), None, false) =
            (options.selection.single_name(), at, namespace.is_empty() && resource.namespaced)
        {
            return Ok(self.list_one(resource, namespace, name, options));
        }
        self.page(resource, &prefix, None, at, self.clock().now(), options)
            .map_err(|e| list_error(e, at.unwrap_or(Revision::ZERO)))
    }

    fn list_one(&self, resource: &Resource, namespace: &str, name: &str, options: &ListOptions) -> List {
        let revision = self.store().revision();
        let entry = self.store().get(&self.key(resource, namespace, name));
        let entry = entry.filter(|e| options.selection.matches(&e.key, &e.value));
        // The object may be newer than the revision read before it.
        let revision = entry.as_ref().map_or(revision, |e| e.modified.max(revision));
        let entries = entry.map(|e| served(resource, e)).into_iter().collect();
        List { entries, revision, continue_: None, remaining: None }
    }

    fn list_on(&self, resource: &Resource, prefix: &str, options: &ListOptions) -> Result<List, Status> {
        let token = Continue::decode(&options.continue_)
            .map_err(|e| Status::bad_request(format!("invalid continue token: {e}")))?;
        if options.revision.is_some_and(|r| r != Revision::ZERO) {
            return Err(Status::bad_request(
                "specifying resource version is not allowed when using continue",
            ));
        }
        let after = Key::from_text(format!("{prefix}{}", token.after));
        let now = self.clock().now();
        let expired = || {
            Status::expired_continue(Continue { at: None, after: token.after.clone(), begun: None }.encode())
        };
        // What a quiet cluster still remembers is not promised for longer than what a busy one does.
        let begun = token.begun.filter(|_| token.at.is_some()).unwrap_or(now);
        if now.since(begun) > CONTINUE_AGE_MAX && token.at.is_some_and(|at| at < self.store().revision()) {
            return Err(expired());
        }
        self.page(resource, prefix, Some(&after), token.at, begun, options).map_err(|e| match e {
            Error::Compacted { .. } => expired(),
            other => error::status(other),
        })
    }

    fn page(
        &self,
        resource: &Resource,
        prefix: &str,
        after: Option<&Key>,
        at: Option<Revision>,
        begun: Time,
        options: &ListOptions,
    ) -> Result<List, Error> {
        if options.selection.is_everything() {
            let page = self.store().hold(Range { prefix, after, limit: options.limit, at })?;
            let more = page.remaining > 0;
            return Ok(finish(
                resource,
                prefix,
                page.entries,
                page.revision,
                begun,
                Some(page.remaining),
                more,
            ));
        }
        let mut found = Entries::default();
        let mut after = after.cloned();
        let mut at = at;
        loop {
            let range = Range { prefix, after: after.as_ref(), limit: RANGE_PAGE_LEN, at };
            let page = self.store().hold(range)?;
            at = Some(page.revision);
            let matches = |e: &Entry| options.selection.matches(&e.key, &e.value);
            let looked_at = page.entries.select_into(&mut found, options.limit, matches);
            let is_more = page.remaining > 0 || looked_at < page.entries.len();
            if !is_more || (options.limit > 0 && found.len() == options.limit) {
                return Ok(finish(resource, prefix, found, page.revision, begun, None, is_more));
            }
            after = page.entries.last().map(|e| e.key);
        }
    }

    /// Waits a while for a revision to come.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), Status> {
        let deadline = tokio::time::Instant::now() + FUTURE_REVISION_WAIT;
        loop {
            let current = self.store().revision();
            if current >= revision {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Status::too_large_revision(revision.0, current.0));
            }
            tokio::time::sleep(FUTURE_REVISION_POLL).await;
        }
    }
}

/// The same for a list, whose refusal says more.
pub fn parse_list_revision(text: &str) -> Result<Option<Revision>, Status> {
    parse_revision(text).map_err(|e| Status::bad_request(format!("invalid resource version: {}", e.message)))
}

/// A resource version as clients write it; empty is none.
pub fn parse_revision(text: &str) -> Result<Option<Revision>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    Revision::parse(text).map(Some).ok_or_else(|| {
        // Digits that are no revision are too many.
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        let detail = format!("strconv.ParseUint: parsing {}: {why}", quote(text));
        Status::bad_request(Cause::invalid("resourceVersion", text, &detail).to_string())
    })
}

fn list_error(e: Error, at: Revision) -> Status {
    match e {
        Error::Compacted { oldest } => Status::too_old_revision(at.0, oldest.0),
        other => error::status(other),
    }
}

pub(crate) fn served(resource: &Resource, entry: Entry) -> Entry {
    Entry { value: convert::serve(resource, entry.value), ..entry }
}

fn finish(
    resource: &Resource,
    prefix: &str,
    mut entries: Entries,
    revision: Revision,
    begun: Time,
    remaining: Option<u64>,
    more: bool,
) -> List {
    let last = entries.last().map(|e| e.key.as_str().strip_prefix(prefix).unwrap_or_default().to_string());
    let continue_ = last
        .filter(|_| more)
        .map(|after| Continue { at: Some(revision), after, begun: Some(begun) }.encode());
    if resource.is_converted() {
        entries = entries.into_iter().map(|e| served(resource, e)).collect();
    }
    let remaining = remaining.filter(|_| continue_.is_some());
    List { entries, revision, continue_, remaining }
}
