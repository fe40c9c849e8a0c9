//! The pods of this machine's own: those of its folder, started, replaced and ended as its files come, change and go, and the
//! standalone containers that operators of Mesos' kind have run here.

use super::Agent;
use crate::pod;
use crate::statics::{self, Stamp};
use k8s_openapi::api::core::v1::Pod;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use stoa_wire::PodRef;

/// How often the folder is looked at. Its files are few, and a look costs less than keeping a watch alive would.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn by_uid(pods: Vec<Pod>) -> HashMap<String, Pod> {
    pods.into_iter().filter_map(|p| Some((p.metadata.uid.clone()?, p))).collect()
}

impl Agent {
    /// Keeps to the folder, if there is one, and to the standalone containers.
    pub(super) async fn keep_static_pods(&self) {
        let dir = self.shared.options.static_pods_dir.clone();
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut standalone = self.shared.standalone.changes();
        let mut seen: Option<Vec<Stamp>> = None;
        let mut of_folder: HashMap<String, Pod> = HashMap::new();
        // Of the folder nothing is heard, it has to be looked at; with neither folder nor pods there is nothing to do.
        let mut is_idle = false;
        loop {
            tokio::select! {
                _ = ticks.tick(), if dir.is_some() || !is_idle => {}
                Ok(()) = standalone.changed() => {}
            }
            if let Some(dir) = dir.clone() {
                let (node, before) = (self.shared.options.name.clone(), seen.clone());
                let looked = tokio::task::spawn_blocking(move || {
                    let files = statics::list(&dir);
                    let pods = (before.as_ref() != Some(&files)).then(|| statics::read(&files, &node));
                    (files, pods)
                });
                let Ok((files, pods)) = looked.await else { continue };
                seen = Some(files);
                if let Some(pods) = pods {
                    of_folder = by_uid(pods);
                }
            }
            let mut wanted = by_uid(self.shared.standalone.pods());
            wanted.extend(of_folder.iter().map(|(uid, pod)| (uid.clone(), pod.clone())));
            self.follow(&wanted).await;
            is_idle = self.shared.statics.uids().len() == wanted.len();
            self.folder_read.cancel();
        }
    }

    async fn follow(&self, wanted: &HashMap<String, Pod>) {
        for uid in self.shared.statics.uids() {
            if wanted.contains_key(&uid) {
                continue;
            }
            tracing::info!(%uid, "a pod of this machine's own is wanted no more");
            let mirror = self.shared.statics.remove(&uid);
            self.gone(&uid).await;
            if let Some(mirror) = mirror {
                let _ = self.unmirror.try_send(mirror);
            }
        }
        self.reap();
        for (uid, pod) in wanted {
            let reference = pod::reference(pod);
            // The edition before has to go first: both have the same name, and may want the same ports.
            if self.shared.statics.has(uid) || self.is_held(&reference) {
                continue;
            }
            tracing::info!(pod = %reference.name, "a pod of this machine's own is begun");
            self.shared.statics.put(uid, pod.clone());
            self.begin(reference, Arc::new(self.settle(pod.clone())));
        }
    }

    fn is_held(&self, pod: &PodRef) -> bool {
        let workers = self.workers.lock();
        workers.values().any(|h| h.pod.namespace == pod.namespace && h.pod.name == pod.name)
    }

    /// The leader shows a pod by a mirror.
    pub(super) fn mirrored(&self, uid: &str, mirror: &PodRef, is_leaving: bool) {
        if !self.shared.statics.set_mirror(uid, mirror) {
            let _ = self.unmirror.try_send(mirror.clone());
            return;
        }
        if is_leaving {
            // It only mirrors: nothing has to be waited for.
            self.shared.outbox.put_stopped(mirror);
            return;
        }
        let own = PodRef { uid: uid.to_owned(), ..mirror.clone() };
        self.shared.outbox.say_again(&own);
    }
}
