//! Carries out plans through the registry.

use crate::recorder::{Note, Recorder};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use stoa_kube::{Resource, Status, reason, resources};
use stoa_reconcile::{Action, Announce, Key, Level, ObjectId, OnExists, Propagation};
use stoa_registry::{Change, Context, DeleteOptions, Registry, Target};
use stoa_units::{Clock, Revision, Time};

/// Deletes of one plan that run at the same time.
const DELETES_LEN_MAX: usize = 64;
/// Patches of one plan that run at the same time.
const PATCHES_LEN_MAX: usize = 64;

/// How long a token in a secret lives by itself: longer than any cluster. It dies with the secret and with the account.
const TOKEN_SECONDS: u64 = 1 << 32;

/// What carrying out a plan came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub key: Key,
    /// The highest revision that was written.
    pub written: Revision,
    pub failed: bool,
    /// When to look again.
    pub again: Option<Time>,
}

/// What workers share.
#[derive(Clone)]
pub(crate) struct Executor {
    pub registry: Arc<Registry>,
    pub recorder: Recorder,
    pub clock: Arc<dyn Clock>,
}

impl Executor {
    /// Carries out a plan, in order, until something fails.
    pub async fn carry_out(self, key: Key, actions: Vec<Action>) -> Outcome {
        let mut run = Run {
            ctx: Context::system(key.controller.component()),
            component: key.controller.component(),
            executor: &self,
            written: Revision::ZERO,
            moved: HashMap::new(),
            again: None,
        };
        let failed = match run.all(actions).await {
            Ok(()) => false,
            Err(status) => {
                // Somebody else was faster: looked at again soon, nothing to tell.
                if !status.is(reason::CONFLICT) {
                    tracing::warn!(%key, error = %status.message, "a plan failed");
                }
                true
            }
        };
        Outcome { written: run.written, failed, again: run.again, key }
    }
}

struct Run<'a> {
    ctx: Context,
    component: &'static str,
    executor: &'a Executor,
    written: Revision,
    /// Objects that this plan has written: their revision is not the one that was seen any more.
    moved: HashMap<Arc<str>, Revision>,
    again: Option<Time>,
}

impl Run<'_> {
    async fn all(&mut self, actions: Vec<Action>) -> Result<(), Status> {
        let mut rest = actions.into_iter().peekable();
        while let Some(action) = rest.next() {
            match action {
                Action::Create { .. } => {
                    let mut run = vec![action];
                    while let Some(next) = rest.next_if(|a| matches!(a, Action::Create { .. })) {
                        run.push(next);
                    }
                    self.create_all(run).await?;
                }
                Action::Delete { .. } => {
                    let mut run = vec![action];
                    while let Some(next) = rest.next_if(|a| matches!(a, Action::Delete { .. })) {
                        run.push(next);
                    }
                    self.delete_all(run).await?;
                }
                Action::Patch { .. } => {
                    let (mut run, mut seen) = (Vec::new(), HashSet::new());
                    let mut next = Some(action);
                    while let Some(Action::Patch { id, subresource, patch }) = next {
                        let (kind, uid) = ((id.resource.kind, subresource), id.uid.clone());
                        seen.insert(uid);
                        run.push((id, subresource, patch));
                        next = rest.next_if(|a| may_go_with(a, kind, &seen));
                    }
                    self.patch_all(run).await?;
                }
                Action::Event { about, level, reason, message } => self.say(about, level, reason, message),
                Action::IssueToken { secret, account } => self.issue_token(&secret, &account).await?,
                Action::Recount { id } => self.recount(&id).await?,
                Action::Again { at } => self.again = Some(self.again.map_or(at, |a| a.min(at))),
            }
        }
        Ok(())
    }

    fn say(&self, about: ObjectId, level: Level, reason: &'static str, message: String) {
        let note = Note { about, level, reason, message, component: self.component, action: "" };
        self.executor.recorder.say(note);
    }

    fn saw(&mut self, revision: Revision) {
        self.written = self.written.max(revision);
    }

    /// Creates in batches of 1, 2, 4, …: where every one fails, as for lack of quota, few are tried.
    async fn create_all(&mut self, creates: Vec<Action>) -> Result<(), Status> {
        let mut rest = creates.into_iter();
        let mut size = 1;
        loop {
            let batch: Vec<Action> = rest.by_ref().take(size).collect();
            if batch.is_empty() {
                return Ok(());
            }
            size *= 2;
            let this = &*self;
            let results = join_all(batch.into_iter().map(|a| this.create(a))).await;
            self.take_all(results)?;
        }
    }

    /// Patches of different objects of one kind go out together: none of them waits for another.
    async fn patch_all(&mut self, patches: Vec<(ObjectId, &'static str, Value)>) -> Result<(), Status> {
        let mut rest = patches.into_iter();
        loop {
            let batch: Vec<_> = rest.by_ref().take(PATCHES_LEN_MAX).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let this = &*self;
            let run = batch.into_iter().map(|(id, sub, patch)| async move {
                let written = this.patch(&id, sub, patch).await;
                written.map(|w| w.map(|revision| (id.uid, revision)))
            });
            let mut failure = None;
            for result in join_all(run).await {
                match result {
                    Ok(None) => {}
                    Ok(Some((uid, revision))) => {
                        self.moved.insert(uid, revision);
                        self.saw(revision);
                    }
                    Err(status) => failure = Some(status),
                }
            }
            failure.map_or(Ok(()), Err)?;
        }
    }

    async fn delete_all(&mut self, deletes: Vec<Action>) -> Result<(), Status> {
        let mut rest = deletes.into_iter();
        loop {
            let batch: Vec<Action> = rest.by_ref().take(DELETES_LEN_MAX).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let this = &*self;
            let results = join_all(batch.into_iter().map(|a| this.delete(a))).await;
            self.take_all(results)?;
        }
    }

    fn take_all(&mut self, results: Vec<Result<Revision, Status>>) -> Result<(), Status> {
        let mut failure = None;
        for result in results {
            match result {
                Ok(revision) => self.saw(revision),
                Err(status) => failure = Some(status),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn create(&self, action: Action) -> Result<Revision, Status> {
        let Action::Create { resource, namespace, object, on_exists, announce } = action else {
            return Ok(Revision::ZERO);
        };
        let owner = object["metadata"]["ownerReferences"][0].clone();
        let target = Target::new(resource, &namespace, "");
        match self.executor.registry.create(&self.ctx, target, object).await {
            Ok(written) => {
                if let Some(a) = announce.filter(|a| !a.reason.is_empty()) {
                    let name = stoa_kube::Meta::read(&written.bytes).map(|m| m.name).unwrap_or_default();
                    self.say(a.about, Level::Normal, a.reason, format!("{}{name}{}", a.done, a.end));
                }
                Ok(written.revision)
            }
            Err(s) if s.is(reason::ALREADY_EXISTS) && on_exists == OnExists::Collision => {
                self.collide(&namespace, &owner).await
            }
            Err(s) if s.is(reason::ALREADY_EXISTS) => Ok(Revision::ZERO),
            Err(s) if is_gone(&s) && s.message.contains("being terminated") => Ok(Revision::ZERO),
            Err(s) => Err(self.tell_failure(announce, s).await),
        }
    }

    /// Says that something failed, and writes it into the status of a set that keeps such things there.
    async fn tell_failure(&self, announce: Option<Announce>, status: Status) -> Status {
        if let Some(a) = announce {
            if matches!(a.about.resource.plural, "replicasets" | "replicationcontrollers") {
                self.mark_failure(&a, &status).await;
            }
            self.say(a.about, Level::Warning, a.failed, format!("{}{}", a.error, status.message));
        }
        status
    }

    /// The condition that a set's clients look for. Whoever plans for the set takes it away when all is well again.
    async fn mark_failure(&self, announce: &Announce, status: &Status) {
        let about = &announce.about;
        let target = Target::new(about.resource, &about.namespace, &about.name).sub("status");
        let now = self.executor.clock.now().to_rfc3339_seconds();
        let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": announce.failed,
            "message": status.message, "lastTransitionTime": now});
        let mark = |set: &mut Value| {
            if set["metadata"]["uid"] != *about.uid {
                return Ok(());
            }
            match set["status"]["conditions"].as_array_mut() {
                Some(all) if all.iter().any(|c| c["type"] == condition["type"]) => {}
                Some(all) => all.push(condition.clone()),
                None => set["status"]["conditions"] = json!([condition]),
            }
            Ok(())
        };
        if let Err(e) = self.executor.registry.modify(&self.ctx, target, mark).await {
            tracing::debug!(set = %about.name, error = %e.message, "a failure was not written");
        }
    }

    async fn collide(&self, namespace: &str, owner: &Value) -> Result<Revision, Status> {
        let text = |f: &str| owner[f].as_str().unwrap_or_default();
        let Some(resource) = resources().find_object(text("apiVersion"), text("kind")) else {
            return Ok(Revision::ZERO);
        };
        let target = Target::new(resource, namespace, text("name")).sub("status");
        let raise = |v: &mut Value| {
            let count = v["status"]["collisionCount"].as_i64().unwrap_or(0) + 1;
            v["status"]["collisionCount"] = count.into();
            Ok(())
        };
        Ok(self.executor.registry.modify(&self.ctx, target, raise).await?.revision)
    }

    async fn delete(&self, action: Action) -> Result<Revision, Status> {
        let Action::Delete { id, propagation, grace_seconds, announce } = action else {
            return Ok(Revision::ZERO);
        };
        let options = DeleteOptions {
            grace_period_seconds: grace_seconds,
            uid: Some(id.uid.to_string()),
            propagation: match propagation {
                Propagation::Background => Some(stoa_registry::Propagation::Background),
                Propagation::Foreground => Some(stoa_registry::Propagation::Foreground),
                Propagation::Orphan => Some(stoa_registry::Propagation::Orphan),
                Propagation::Default => None,
            },
            ..DeleteOptions::default()
        };
        let target = Target::new(id.resource, &id.namespace, &id.name);
        match self.executor.registry.delete(&self.ctx, target, &options).await {
            Ok(deleted) => {
                if let Some(a) = announce {
                    self.say(a.about, Level::Normal, a.reason, format!("{}{}{}", a.done, id.name, a.end));
                }
                Ok(deleted.revision)
            }
            // Gone, or another object of that name: what was meant is not there.
            Err(s) if is_gone(&s) || s.is(reason::CONFLICT) => Ok(Revision::ZERO),
            Err(s) => Err(self.tell_failure(announce, s).await),
        }
    }

    /// A token for a secret: it lives as long as the secret does.
    async fn issue_token(&mut self, secret: &ObjectId, account: &str) -> Result<(), Status> {
        let Some(accounts) = resources().find("", "v1", "serviceaccounts") else { return Ok(()) };
        let registry = &self.executor.registry;
        let bound = json!({"apiVersion": "v1", "kind": "Secret", "name": secret.name, "uid": secret.uid});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"boundObjectRef": bound, "expirationSeconds": TOKEN_SECONDS, "audiences": []}});
        let target = Target::new(accounts, &secret.namespace, account);
        let token = match registry.create_token(&self.ctx, target, request) {
            Ok((answer, _)) => answer["status"]["token"].clone(),
            Err(s) if is_gone(&s) => return Ok(()),
            Err(s) => return Err(s),
        };
        let patch = json!({"stringData": {"token": token}});
        self.patch_all(vec![(secret.clone(), "", patch)]).await
    }

    async fn recount(&mut self, id: &ObjectId) -> Result<(), Status> {
        let target = Target::new(id.resource, &id.namespace, &id.name);
        match self.executor.registry.recount_quota(&self.ctx, target, &id.uid).await {
            // Nothing to wait for where nothing was written.
            Ok(written) if written.change == Change::Unchanged => Ok(()),
            Ok(written) => {
                self.saw(written.revision);
                Ok(())
            }
            Err(s) if is_gone(&s) => Ok(()),
            Err(s) => Err(s),
        }
    }

    /// The revision that was written, if anything was.
    async fn patch(
        &self,
        id: &ObjectId,
        subresource: &'static str,
        patch: Value,
    ) -> Result<Option<Revision>, Status> {
        let expected = self.moved.get(&id.uid).copied().unwrap_or(id.revision);
        let target = Target::new(id.resource, &id.namespace, &id.name).sub(subresource);
        let change = |object: &mut Value| {
            let meta = &object["metadata"];
            let at = meta["resourceVersion"].as_str().and_then(Revision::parse);
            if meta["uid"] != *id.uid || at != Some(expected) {
                return Err(moved_on(id.resource, &id.name));
            }
            merge(object, &patch);
            Ok(())
        };
        match self.executor.registry.modify(&self.ctx, target, change).await {
            // A plan that changes nothing is no reason for another look.
            Ok(written) if written.change == Change::Unchanged => Ok(None),
            Ok(written) => Ok(Some(written.revision)),
            Err(s) if is_gone(&s) => Ok(None),
            Err(s) => Err(s),
        }
    }
}

/// Whether a patch may go out with those before it: of the same kind, and of an object that is not among them.
fn may_go_with(action: &Action, kind: (&str, &str), seen: &HashSet<Arc<str>>) -> bool {
    matches!(action, Action::Patch { id, subresource, .. }
        if (id.resource.kind, *subresource) == kind && !seen.contains(&id.uid))
}

fn is_gone(status: &Status) -> bool {
    status.code() == 404 || status.message.contains("being terminated")
}

fn moved_on(resource: &Resource, name: &str) -> Status {
    Status::conflict_modified(resource, name)
}

/// RFC 7396.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in fields {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
