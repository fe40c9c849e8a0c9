//! One pod of a stateful set: its name, labels, host name and volumes follow from its ordinal.

use super::{HASH, POD_INDEX, POD_NAME, Troupe};
use crate::meta::resource;
use crate::replica_set::from_template;
use crate::{Action, Announce, OnExists, Pod};
use serde_json::{Value, json};
use std::sync::Arc;

impl Troupe<'_> {
    pub(super) fn pod_name(&self, n: i64) -> String {
        format!("{}-{n}", self.id.name)
    }

    /// Makes a pod and, before it, its claims. Nothing while a claim of the pod that was here before is still going.
    pub(super) fn make(&mut self, n: i64) {
        if self.has_stale_claims(n) {
            return self.wait_for_claims();
        }
        self.make_claims(n);
        let name = self.pod_name(n);
        let (revision, template) = self.revision_of(n);
        let mut pod = from_template(&self.id, &template);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["labels"][POD_NAME] = json!(name);
        pod["metadata"]["labels"][POD_INDEX] = json!(n.to_string());
        pod["metadata"]["labels"][HASH] = json!(revision);
        pod["spec"]["hostname"] = json!(name);
        if let Some(service) = self.spec.service_name.as_deref().filter(|s| !s.is_empty()) {
            pod["spec"]["subdomain"] = json!(service);
        }
        let volumes = self.volumes(n, &pod["spec"]["volumes"]);
        if !volumes.is_empty() {
            pod["spec"]["volumes"] = volumes.into();
        }
        self.actions.push(Action::Create {
            resource: resource("", "pods"),
            namespace: self.id.namespace.clone(),
            object: pod,
            on_exists: OnExists::Fine,
            announce: Some(Announce {
                about: self.id.clone(),
                reason: "SuccessfulCreate",
                done: "Create Pod ".into(),
                end: format!(" in StatefulSet {} successful", self.id.name).into(),
                failed: "FailedCreate",
                error: format!("Create Pod {name} in StatefulSet {} failed error: ", self.id.name).into(),
            }),
        });
    }

    /// The volumes of the template; one of a claim's name is the claim.
    fn volumes(&self, n: i64, template: &Value) -> Vec<Value> {
        let mut out: Vec<Value> = Vec::new();
        for claim in self.spec.volume_claim_templates.iter().flatten() {
            let volume = claim.metadata.name.as_deref().unwrap_or_default();
            out.push(
                json!({"name": volume, "persistentVolumeClaim": {"claimName": self.claim_name(claim, n)}}),
            );
        }
        let taken: Vec<Value> = out.iter().map(|v| v["name"].clone()).collect();
        out.extend(
            template.as_array().into_iter().flatten().filter(|v| !taken.contains(&v["name"])).cloned(),
        );
        out
    }

    /// A pod that was taken over, or whose labels somebody changed, gets those by which it is found.
    pub(super) fn label(&mut self, n: i64, pod: &Arc<Pod>) {
        let wanted = [(POD_NAME, pod.id.name.to_string()), (POD_INDEX, n.to_string())];
        if wanted.iter().all(|(k, v)| pod.labels.get(*k) == Some(v)) {
            return;
        }
        let patch = json!({"metadata": {"labels": {POD_NAME: wanted[0].1, POD_INDEX: wanted[1].1}}});
        self.actions.push(Action::Patch { id: pod.id.clone(), subresource: "", patch });
    }

    /// Which revision a pod was made from.
    pub(super) fn revision_label(pod: &Pod) -> &str {
        pod.labels.get(HASH).map(String::as_str).unwrap_or_default()
    }
}
