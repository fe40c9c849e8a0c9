//! What the files of pods take: measured when somebody asks, and no more than once a minute, since it means going through them.

use crate::evict::usage;
use crate::shared::{LivePod, Shared};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::Time;
use tokio::sync::Mutex;

/// So long what was measured stands, as with a kubelet.
const STANDS: Duration = Duration::from_secs(60);

/// Bytes and files by directory.
pub(crate) type Sizes = HashMap<PathBuf, (u64, u64)>;

/// See the module.
#[derive(Default)]
pub(crate) struct Measured(Mutex<Option<(Time, Arc<Sizes>)>>);

/// The directories of a pod: those of its volumes that are its own, by name, and by container what it wrote and its logs.
pub(crate) struct Places {
    pub(crate) volumes: Vec<(String, PathBuf)>,
    pub(crate) containers: Vec<(String, Option<PathBuf>, PathBuf)>,
    /// The files that the agent keeps for all of them.
    pub(crate) shared: Vec<PathBuf>,
}

impl Places {
    pub(crate) fn of(shared: &Shared, live: &LivePod) -> Places {
        let dir = shared.volumes.pod_dir(&live.pod.uid).ok();
        let volumes = live.object.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| {
            v.empty_dir.is_some()
                || v.config_map.is_some()
                || v.secret.is_some()
                || v.projected.is_some()
                || v.downward_api.is_some()
        });
        let containers = live.containers.iter().filter_map(|(name, c)| {
            let id = c.running.as_deref()?;
            Some((name.clone(), shared.machine.upper_dir(id), shared.logs_of(&live.pod).join(name)))
        });
        Places {
            volumes: volumes
                .filter_map(|v| Some((v.name.clone(), dir.as_ref()?.join("volumes").join(&v.name))))
                .collect(),
            containers: containers.collect(),
            shared: dir.iter().map(|dir| dir.join("etc")).collect(),
        }
    }

    fn into_all(self) -> impl Iterator<Item = PathBuf> {
        let containers =
            self.containers.into_iter().flat_map(|(_, upper, logs)| upper.into_iter().chain([logs]));
        self.volumes.into_iter().map(|(_, path)| path).chain(self.shared).chain(containers)
    }
}

/// What all pods' files take.
pub(crate) async fn measure(shared: &Shared) -> Arc<Sizes> {
    let mut measured = shared.measured.0.lock().await;
    let now = shared.now();
    if let Some((at, sizes)) = &*measured
        && now.since(*at) < STANDS
    {
        return Arc::clone(sizes);
    }
    let pods: Vec<LivePod> = shared.live.lock().values().filter(|l| l.connected).cloned().collect();
    let paths: Vec<PathBuf> = pods.iter().flat_map(|live| Places::of(shared, live).into_all()).collect();
    let look = move || paths.into_iter().map(|path| (path.clone(), usage(&path))).collect();
    let sizes: Arc<Sizes> = Arc::new(tokio::task::spawn_blocking(look).await.unwrap_or_default());
    *measured = Some((now, Arc::clone(&sizes)));
    sizes
}
