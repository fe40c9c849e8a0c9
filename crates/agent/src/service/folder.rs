//! The pods of this machine's own folder: started, replaced and ended as its files come, change and go.

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

impl Agent {
    /// Keeps to the folder, if there is one.
    pub(super) async fn keep_static_pods(&self) {
        let Some(dir) = self.shared.options.static_pods_dir.clone() else {
            self.folder_read.cancel();
            return std::future::pending().await;
        };
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen: Option<Vec<Stamp>> = None;
        let mut wanted: HashMap<String, Pod> = HashMap::new();
        loop {
            ticks.tick().await;
            let (dir, node) = (dir.clone(), self.shared.options.name.clone());
            let before = seen.clone();
            let looked = tokio::task::spawn_blocking(move || {
                let files = statics::list(&dir);
                let pods = (before.as_ref() != Some(&files)).then(|| statics::read(&files, &node));
                (files, pods)
            });
            let Ok((files, pods)) = looked.await else { continue };
            seen = Some(files);
            if let Some(pods) = pods {
                wanted = pods.into_iter().filter_map(|p| Some((p.metadata.uid.clone()?, p))).collect();
            }
            self.follow_folder(&wanted).await;
            self.folder_read.cancel();
        }
    }

    async fn follow_folder(&self, wanted: &HashMap<String, Pod>) {
        for uid in self.shared.statics.uids() {
            if wanted.contains_key(&uid) {
                continue;
            }
            tracing::info!(%uid, "a manifest is gone");
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
            tracing::info!(pod = %reference.name, "a manifest is followed");
            self.shared.statics.put(uid, pod.clone());
            self.begin(reference, Arc::new(pod.clone()));
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
