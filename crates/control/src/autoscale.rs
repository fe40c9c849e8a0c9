//! Looks at autoscalers, each at its pace: reads the size of its workload, asks what its pods use, has it decided upon, and
//! carries that out.

use crate::Meter;
use crate::execute::Executor;
use crate::flights::{Crashed, Flights};
use crate::recorder::Note;
use crate::service::Core;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_kube::typed::Pod;
use stoa_kube::{Resource, Status, reason, resources};
use stoa_reconcile::autoscaler::{Look, Memory, SYNC_PERIOD, Size, Usage};
use stoa_reconcile::{Controller, Key, ObjectId};
use stoa_registry::{Context, ListOptions, Selection, Target};
use stoa_units::{LabelSelector, Revision};

/// Autoscalers that are looked at at the same time.
const LOOKS_LEN_MAX: usize = 32;
/// What finds no place among them waits for this long.
const LATER: Duration = Duration::from_millis(200);
/// How often a rescaling is tried that somebody else was faster than.
const TRIES_MAX: usize = 5;

/// What is remembered of autoscalers.
#[derive(Default)]
pub(crate) struct Autoscaling {
    /// By namespace: a look asks for those beside it, and there may be very many elsewhere.
    known: HashMap<Arc<str>, HashMap<Key, Known>>,
    looks: Flights<(Key, Option<Known>)>,
}

#[derive(Clone, Default)]
pub(crate) struct Known {
    memory: Memory,
    /// Which pods it means, as far as it was found out.
    selector: Option<LabelSelector>,
}

impl Autoscaling {
    /// The next look that has come to its end.
    pub async fn next(&mut self) -> Option<Result<(Key, Option<Known>), Crashed>> {
        self.looks.next().await
    }

    /// What is known of one, and whom the others of its namespace mean.
    fn recall(&self, key: &Key) -> (Known, Vec<(Key, LabelSelector)>) {
        let Some(all) = self.known.get(&key.namespace) else { return Default::default() };
        let others = all.iter().filter(|(k, _)| *k != key);
        let others = others.filter_map(|(k, known)| Some((k.clone(), known.selector.clone()?))).collect();
        (all.get(key).cloned().unwrap_or_default(), others)
    }

    fn remember(&mut self, key: Key, known: Known) {
        self.known.entry(key.namespace.clone()).or_default().insert(key, known);
    }

    fn forget(&mut self, key: &Key) {
        if let Some(all) = self.known.get_mut(&key.namespace) {
            all.remove(key);
            if all.is_empty() {
                self.known.remove(&key.namespace);
            }
        }
    }
}

impl Core {
    /// Names a key. Autoscalers are looked at at their own pace, whatever happens.
    pub(crate) fn name(&mut self, key: Key) {
        match key.controller {
            Controller::Autoscaler => self.work.add_at(key, self.world.now.plus(SYNC_PERIOD)),
            _ => self.work.add(key),
        }
    }

    /// Begins a look at an autoscaler.
    pub(crate) fn start_autoscaling(&mut self, key: Key, executor: &Executor) {
        if self.autoscaling.looks.len() >= LOOKS_LEN_MAX {
            return self.work.add_at(key, self.clock.now().plus(LATER));
        }
        let (known, others) = self.autoscaling.recall(&key);
        let run = Run {
            known,
            others,
            ctx: Context::system(key.controller.component()),
            meter: self.meter.clone(),
            executor: executor.clone(),
            key: key.clone(),
        };
        self.work.start(key.clone());
        self.autoscaling.looks.start(key, run.look());
    }

    /// What became of a look.
    pub(crate) fn settle_autoscaling(&mut self, done: Result<(Key, Option<Known>), Crashed>) {
        let (key, known) = match done {
            Ok(done) => done,
            Err(Crashed(key)) => return self.look_again(key),
        };
        self.work.finish(key.clone(), Revision::ZERO, self.revision);
        match known {
            Some(known) => {
                self.autoscaling.remember(key.clone(), known);
                self.work.add_at(key, self.clock.now().plus(SYNC_PERIOD));
            }
            None => self.autoscaling.forget(&key),
        }
    }
}

/// One look.
struct Run {
    key: Key,
    known: Known,
    /// Whom the other autoscalers of the namespace mean.
    others: Vec<(Key, LabelSelector)>,
    ctx: Context,
    meter: Arc<dyn Meter>,
    executor: Executor,
}

impl Run {
    async fn look(mut self) -> (Key, Option<Known>) {
        match self.at().await {
            Ok(true) => (self.key, Some(self.known)),
            Ok(false) => (self.key, None),
            Err(status) => {
                tracing::debug!(autoscaler = %self.key, error = %status.message, "a look at an autoscaler failed");
                (self.key, Some(self.known))
            }
        }
    }

    /// Whether there is an autoscaler of that name.
    async fn at(&mut self) -> Result<bool, Status> {
        let Some(kind) = resources().find_stored("autoscaling", "horizontalpodautoscalers") else {
            return Ok(false);
        };
        let registry = self.executor.registry.clone();
        let key = self.key.clone();
        let target = Target::new(kind, &key.namespace, &key.name);
        let entry = match registry.get(target) {
            Ok(entry) => entry,
            Err(status) if status.code() == 404 => return Ok(false),
            Err(status) => return Err(status),
        };
        let unreadable = |e: serde_json::Error| Status::internal(format!("{key} cannot be read: {e}"));
        let stored: Value = serde_json::from_slice(&entry.value).map_err(unreadable)?;
        let autoscaler: HorizontalPodAutoscaler =
            serde_json::from_value(stored.clone()).map_err(unreadable)?;
        let found = self.size(&autoscaler);
        let size = found.clone().map(|(_, size)| size);
        let (mut pods, mut usage) = (Vec::new(), Ok(Vec::new()));
        let counts = |size: &&Size| size.wanted != 0 && !size.selector.is_empty();
        if let Some(size) = size.as_ref().ok().filter(counts) {
            pods = self.pods(&size.selector).await?;
            self.known.selector = LabelSelector::parse(&size.selector).ok();
            let told = self.meter.usage(&key.namespace, &size.selector).await;
            usage = told.map(|all| all.iter().filter_map(Usage::read).collect());
        }
        let rivals = self.rivals(&pods);
        let now = self.executor.clock.now();
        let look = Look { now, autoscaler: &autoscaler, size, pods, usage, rivals };
        let plan = look.plan(&mut self.known.memory);
        let outcome = match (&plan.rescale, found) {
            (Some((replicas, _)), Ok((workload, _))) => {
                let name = &autoscaler.spec.scale_target_ref.name;
                self.rescale(workload, name, *replicas).await
            }
            _ => Ok(()),
        };
        let (status, events) = plan.conclude(&look, &mut self.known.memory, &stored["status"], outcome);
        let about = ObjectId {
            resource: kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: autoscaler.metadata.uid.as_deref().unwrap_or_default().into(),
            revision: entry.modified,
        };
        for (level, reason, message) in events {
            let component = key.controller.component();
            let note = Note { about: about.clone(), level, reason, message, component, action: "" };
            self.executor.recorder.say(note);
        }
        if status != stored["status"] {
            let change = |v: &mut Value| {
                if v["metadata"]["uid"] == *about.uid {
                    v["status"] = status.clone();
                }
                Ok(())
            };
            registry.modify(&self.ctx, target.sub("status"), change).await?;
        }
        Ok(true)
    }

    /// The workload's kind and its size.
    fn size(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<(&'static Resource, Size), String> {
        let wanted = &autoscaler.spec.scale_target_ref;
        let group = wanted.api_version.as_deref().and_then(|v| v.split_once('/')).map_or("", |(g, _)| g);
        let kinds: Vec<_> =
            resources().iter().filter(|r| r.group == group && r.kind == wanted.kind).collect();
        let Some(kind) = kinds.iter().find(|r| r.subresource("scale").is_some()) else {
            return Err(match kinds.is_empty() {
                true => format!("no matches for kind {:?} in group {group:?}", wanted.kind),
                false => "the server could not find the requested resource".into(),
            });
        };
        let scale = self.executor.registry.get_scale(Target::new(kind, &self.key.namespace, &wanted.name));
        let scale = scale.map_err(|status| status.message)?;
        let number = |v: &Value| i32::try_from(v.as_i64().unwrap_or(0)).unwrap_or(i32::MAX);
        let size = Size {
            wanted: number(&scale["spec"]["replicas"]),
            found: number(&scale["status"]["replicas"]),
            selector: scale["status"]["selector"].as_str().unwrap_or_default().to_string(),
        };
        Ok((kind, size))
    }

    async fn pods(&self, selector: &str) -> Result<Vec<Pod>, Status> {
        let Some(pods) = resources().find("", "v1", "pods") else { return Ok(Vec::new()) };
        let options =
            ListOptions { selection: Selection::parse(pods, selector, "")?, ..ListOptions::default() };
        let list = self.executor.registry.list(pods, &self.key.namespace, &options).await?;
        Ok(list.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
    }

    /// The autoscalers that mean any of the pods, this one among them.
    fn rivals(&self, pods: &[Pod]) -> Vec<String> {
        let none = Default::default();
        let means = |selector: &LabelSelector| {
            pods.iter().any(|p| selector.matches(p.metadata.labels.as_ref().unwrap_or(&none)))
        };
        let others = self.others.iter().filter(|(_, selector)| means(selector)).map(|(key, _)| key);
        let mut all: Vec<String> =
            others.chain([&self.key]).map(|k| format!("{}/{}", k.namespace, k.name)).collect();
        all.sort();
        all
    }

    async fn rescale(&self, kind: &'static Resource, name: &str, replicas: i32) -> Result<(), String> {
        let registry = &self.executor.registry;
        let target = Target::new(kind, &self.key.namespace, name);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut scale = registry.get_scale(target).map_err(|s| s.message)?;
            scale["spec"] = json!({ "replicas": replicas });
            match registry.update_scale(&self.ctx, target.sub("scale"), scale).await {
                Ok(_) => return Ok(()),
                Err(s) if s.is(reason::CONFLICT) && tries < TRIES_MAX => {}
                Err(s) => return Err(s.message),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_its_own_namespace_are_an_autoscalers_rivals() {
        let key = |namespace: &str, n: &str| Key::new(Controller::Autoscaler, namespace, n);
        let known = Known { selector: LabelSelector::parse("a=b").ok(), ..Known::default() };
        let mut all = Autoscaling::default();
        for (namespace, name) in [("d", "one"), ("d", "two"), ("e", "one")] {
            all.remember(key(namespace, name), known.clone());
        }
        // One of which nothing is known yet means nobody.
        all.remember(key("d", "new"), Known::default());
        let (own, others) = all.recall(&key("d", "one"));
        assert!(own.selector.is_some());
        assert_eq!(others.into_iter().map(|(k, _)| k).collect::<Vec<_>>(), [key("d", "two")]);
        assert!(all.recall(&key("f", "one")).1.is_empty());
        for name in ["one", "two", "new"] {
            all.forget(&key("d", name));
        }
        assert_eq!(all.known.len(), 1);
    }
}
