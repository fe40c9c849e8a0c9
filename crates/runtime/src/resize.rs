//! Other limits for what runs already, in the cgroup and in what is written down, so that a restarted agent finds what
//! holds now and not what was first asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Error;
use crate::layout::{read_json, write_json};
use crate::runtime::{Runtime, blocking};
use crate::shim::Order;
use crate::spec::{ContainerSpec, Limits, PodSpec};

impl Runtime {
    /// Sets other limits on a pod.
    pub async fn update_pod(&self, uid: &str, limits: Limits) -> Result<(), Error> {
        let spec =
            self.inner.pods.lock().get(uid).cloned().ok_or_else(|| Error::PodNotFound(uid.to_owned()))?;
        if spec.limits == limits {
            return Ok(());
        }
        let inner = self.inner.clone();
        blocking(move || {
            let cgroup = inner.pod_cgroup(&spec);
            inner.tree.update(&cgroup, &spec.limits, &limits).map_err(Error::io("limit cgroup", cgroup))?;
            let spec = PodSpec { limits, ..spec };
            let path = inner.layout.pod(&spec.uid).spec();
            write_json(&path, &spec).map_err(Error::io("write", path))?;
            inner.pods.lock().insert(spec.uid.clone(), spec);
            Ok(())
        })
        .await
    }

    /// Sets other limits on a running container, and other annotations beside it. Where nothing is said of CPUs it stays on
    /// those it has.
    pub async fn update(
        &self,
        id: &str,
        limits: Limits,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.change(
            id,
            move |before| Limits { cpuset_cpus: limits.cpuset_cpus.or(before.cpuset_cpus), ..limits },
            annotations,
        )
        .await
    }

    /// Moves a running container to other CPUs, in the kernel's list form.
    pub async fn update_cpus(&self, id: &str, cpus: &str) -> Result<(), Error> {
        let cpus = Some(cpus.to_owned());
        self.change(id, move |before| Limits { cpuset_cpus: cpus, ..before }, BTreeMap::new()).await
    }

    async fn change(
        &self,
        id: &str,
        change: impl FnOnce(Limits) -> Limits + Send + 'static,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (runtime, id) = (self.clone(), id.to_owned());
        blocking(move || {
            let inner = &runtime.inner;
            let _turn = inner.limiting.lock();
            let (_, spec, pod) = runtime.init_of(&id)?;
            let limits = change(spec.limits.clone());
            let cgroup = inner.cgroup(&pod, &spec.id);
            inner.tree.update(&cgroup, &spec.limits, &limits).map_err(Error::io("limit cgroup", cgroup))?;
            let mut spec = ContainerSpec { limits, ..(*spec).clone() };
            spec.annotations.extend(annotations);
            // What is on disk is what a restarted agent will know.
            let path = inner.layout.bundle(&spec.id).order();
            if let Some(order) = read_json::<Order>(&path) {
                let order = Order { spec: spec.clone(), ..order };
                write_json(&path, &order).map_err(Error::io("write", path))?;
            }
            if let Some(entry) = inner.containers.lock().get_mut(&spec.id.clone()) {
                entry.spec = Arc::new(spec);
            }
            Ok(())
        })
        .await
    }

    /// Limits all containers together.
    pub async fn limit_all(&self, limits: Limits) -> Result<(), Error> {
        let inner = self.inner.clone();
        blocking(move || {
            let parent = format!("/{}", inner.options.cgroup_parent);
            inner.tree.create(&parent, &limits).map_err(Error::io("limit cgroup", parent))
        })
        .await
    }

    /// The CPUs that containers may be given, in the kernel's list form; an error where none can be kept to some of them.
    pub async fn cpus(&self) -> Result<String, Error> {
        let inner = self.inner.clone();
        blocking(move || {
            let parent = format!("/{}", inner.options.cgroup_parent);
            inner.tree.cpus(&parent).map_err(Error::io("keep containers to CPUs by cgroup", parent))
        })
        .await
    }
}
