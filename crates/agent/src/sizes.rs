//! What the files of pods take: measured when somebody asks, and no more than once a minute, since it means going through them.

use crate::evict::usage;
use crate::shared::{LivePod, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use stoa_units::Time;
use tokio::sync::watch;

/// So long what was measured stands, as with a kubelet.
const STANDS: Duration = Duration::from_secs(60);

/// Bytes and files by directory.
pub(crate) type Sizes = HashMap<PathBuf, (u64, u64)>;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Measured(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    latest: Option<(Time, Arc<Sizes>)>,
    /// A measuring that goes on: whoever asks meanwhile has part in it.
    under_way: Option<watch::Receiver<Option<Arc<Sizes>>>>,
}

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
    let paths = || {
        let pods: Vec<LivePod> = shared.live.lock().values().filter(|l| l.connected).cloned().collect();
        pods.iter().flat_map(|live| Places::of(shared, live).into_all()).collect()
    };
    let look = |paths: Vec<PathBuf>| paths.into_iter().map(|path| (path.clone(), usage(&path))).collect();
    shared.measured.get(shared.now(), paths, look).await
}

impl Measured {
    /// What `look` finds of the `paths`, or found a moment ago.
    async fn get(
        &self,
        now: Time,
        paths: impl FnOnce() -> Vec<PathBuf>,
        look: impl FnOnce(Vec<PathBuf>) -> Sizes + Send + 'static,
    ) -> Arc<Sizes> {
        let mut done = {
            let mut state = self.0.lock();
            if let Some((at, sizes)) = &state.latest
                && now.since(*at) < STANDS
            {
                return Arc::clone(sizes);
            }
            match &state.under_way {
                Some(done) => done.clone(),
                None => {
                    let (say, done) = watch::channel(None);
                    state.under_way = Some(done.clone());
                    let (paths, all) = (paths(), Arc::clone(&self.0));
                    // It comes to its end also where whoever asked is gone by then.
                    tokio::task::spawn_blocking(move || {
                        let sizes = Arc::new(look(paths));
                        *all.lock() = State { latest: Some((now, Arc::clone(&sizes))), under_way: None };
                        let _ = say.send(Some(sizes));
                    });
                    done
                }
            }
        };
        let sizes = done.wait_for(Option::is_some).await.ok().and_then(|sizes| sizes.clone());
        sizes.unwrap_or_else(|| {
            // It ended badly: the next who asks begins another.
            self.0.lock().under_way = None;
            Arc::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    fn at(s: u64) -> Time {
        Time::EPOCH.plus(Duration::from_secs(s))
    }

    fn none() -> Vec<PathBuf> {
        Vec::new()
    }

    #[tokio::test]
    async fn all_who_ask_share_one_measuring_and_nobody_waits_for_a_second() {
        let measured = Measured::default();
        let (go, gone) = mpsc::channel::<()>();
        let looks = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&looks);
        let slow = move |_| {
            gone.recv().unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            Sizes::from([(PathBuf::from("/a"), (1, 2))])
        };
        let first = tokio::spawn({
            let measured = measured.clone();
            async move { measured.get(at(0), none, slow).await }
        });
        while measured.0.lock().under_way.is_none() {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let measured = measured.clone();
            async move { measured.get(at(1), none, |_| panic!("a second measuring")).await }
        });
        // Whoever asked first may be gone before it is done.
        first.abort();
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        assert_eq!(second.await.unwrap()[&PathBuf::from("/a")], (1, 2));
        let again = measured.get(at(59), none, |_| panic!("it stands for a minute")).await;
        assert_eq!((again.len(), looks.load(Ordering::SeqCst)), (1, 1));
        assert!(measured.get(at(60), none, |_| Sizes::new()).await.is_empty());
    }

    #[tokio::test]
    async fn a_measuring_that_ends_badly_is_not_the_last() {
        let measured = Measured::default();
        assert!(measured.get(at(0), none, |_| panic!("of the test")).await.is_empty());
        let sizes = measured.get(at(0), none, |_| Sizes::from([(PathBuf::from("/a"), (1, 2))])).await;
        assert_eq!(sizes.len(), 1);
    }
}
