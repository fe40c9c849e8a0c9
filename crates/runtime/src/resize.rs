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

    /// Sets other limits on a running container, and other annotations beside it.
    pub async fn update(
        &self,
        id: &str,
        limits: Limits,
        annotations: BTreeMap<String, String>,
    ) -> Result<(), Error> {
        let (_, spec, pod) = self.init_of(id)?;
        let inner = self.inner.clone();
        blocking(move || {
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
}
