//! The claims of a stateful set's pods. They outlive the pods, unless the set's retention policy says that they go with the
//! set or with a pod that is scaled away: then they are owned by it, and the collector does the rest.

use super::Troupe;
use crate::claim::{owners_but, set_owners};
use crate::meta::{owner_reference, resource};
use crate::{Action, Announce, Member, OnExists, Pod};
use serde_json::{Value, json};
use std::time::Duration;
use stoa_kube::OwnerRef;
use stoa_kube::typed::PersistentVolumeClaim;

/// How long to wait for a claim that is being deleted: it names its pod, not its set, so nothing else says when it is gone.
const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// Who is to own a claim.
enum Owner<'a> {
    Nobody,
    Set,
    Pod(&'a Pod),
}

impl Troupe<'_> {
    fn templates(&self) -> impl Iterator<Item = &PersistentVolumeClaim> {
        self.spec.volume_claim_templates.iter().flatten()
    }

    pub(super) fn claim_name(&self, template: &PersistentVolumeClaim, n: i64) -> String {
        format!("{}-{}-{n}", template.metadata.name.as_deref().unwrap_or_default(), self.id.name)
    }

    fn claim(&self, name: &str) -> Option<&Member> {
        self.world.graph.at(resource("", "persistentvolumeclaims"), &self.id.namespace, name)
    }

    fn goes_with(&self, what: fn(&Policy) -> Option<&String>) -> bool {
        let policy = self.spec.persistent_volume_claim_retention_policy.as_ref();
        policy.and_then(what).map(String::as_str) == Some("Delete")
    }

    fn goes_with_set(&self) -> bool {
        self.goes_with(|p| p.when_deleted.as_ref())
    }

    fn goes_with_pod(&self) -> bool {
        self.goes_with(|p| p.when_scaled.as_ref())
    }

    /// Makes the claims of an ordinal that are not there.
    pub(super) fn make_claims(&mut self, n: i64) {
        let missing: Vec<Value> = self
            .templates()
            .map(|t| (self.claim_name(t, n), t))
            .filter(|(name, _)| self.claim(name).is_none())
            .map(|(name, t)| self.claim_object(&name, t))
            .collect();
        let (set, pod) = (self.id.name.clone(), self.pod_name(n));
        for object in missing {
            let claim = object["metadata"]["name"].as_str().unwrap_or_default();
            let error = format!("Create Claim {claim} for Pod {pod} in StatefulSet {set} failed error: ");
            self.actions.push(Action::Create {
                resource: resource("", "persistentvolumeclaims"),
                namespace: self.id.namespace.clone(),
                object,
                on_exists: OnExists::Fine,
                announce: Some(Announce {
                    about: self.id.clone(),
                    reason: "SuccessfulCreate",
                    done: "Create Claim ".into(),
                    end: format!(" Pod {pod} in StatefulSet {set} success").into(),
                    failed: "FailedCreate",
                    error: error.into(),
                }),
            });
        }
    }

    fn claim_object(&self, name: &str, template: &PersistentVolumeClaim) -> Value {
        let mut labels = template.metadata.labels.clone().unwrap_or_default();
        labels.extend(self.spec.selector.match_labels.clone().unwrap_or_default());
        let mut metadata = json!({"name": name, "namespace": self.id.namespace, "labels": labels});
        if let Some(notes) = template.metadata.annotations.as_ref().filter(|a| !a.is_empty()) {
            metadata["annotations"] = json!(notes);
        }
        if let Some(finalizers) = template.metadata.finalizers.as_ref().filter(|f| !f.is_empty()) {
            metadata["finalizers"] = json!(finalizers);
        }
        if self.goes_with_set() {
            metadata["ownerReferences"] = json!([owner_reference(&self.id)]);
        }
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": template.spec})
    }

    /// Whether a claim of the ordinal belongs to an earlier pod of that name, or is going for another reason.
    pub(super) fn has_stale_claims(&self, n: i64) -> bool {
        let pod = self.pod_name(n);
        let of_pod = |o: &OwnerRef| o.kind == "Pod" && o.name == pod;
        let stale = |m: &Member| m.deleting || m.owners.iter().any(of_pod);
        self.templates().any(|t| self.claim(&self.claim_name(t, n)).is_some_and(stale))
    }

    pub(super) fn wait_for_claims(&mut self) {
        self.actions.push(Action::Again { at: self.world.now.plus(CLAIM_WAIT) });
    }

    /// Gives the claims of a pod that stays the owner that the policy says.
    pub(super) fn settle_claims(&mut self, n: i64) {
        let owner = if self.goes_with_set() { Owner::Set } else { Owner::Nobody };
        self.own_claims(n, &owner);
    }

    /// The same for pods that are to go: their claims may have to go with them.
    pub(super) fn settle_claims_of_surplus(&mut self) {
        for (n, pod) in self.surplus.clone() {
            let owner = match (self.goes_with_pod(), self.goes_with_set()) {
                (true, _) => Owner::Pod(&pod),
                (false, true) => Owner::Set,
                (false, false) => Owner::Nobody,
            };
            self.own_claims(n, &owner);
        }
    }

    fn own_claims(&mut self, n: i64, owner: &Owner<'_>) {
        let names: Vec<String> = self.templates().map(|t| self.claim_name(t, n)).collect();
        let pod = self.pod_name(n);
        for name in names {
            let Some(member) = self.claim(&name).filter(|m| !m.deleting) else { continue };
            let ours = |o: &OwnerRef| *o.uid == *self.id.uid || (o.kind == "Pod" && o.name == pod);
            let foreign = member.owners.iter().any(|o| o.controller && !ours(o));
            let mut owners = owners_but(member, ours);
            let wanted = match owner {
                Owner::Pod(pod) => Some(&pod.id),
                Owner::Set => Some(&self.id),
                Owner::Nobody => None,
            };
            // What somebody else controls is not ours to give away.
            owners.extend(wanted.filter(|_| !foreign).map(owner_reference));
            let now = member.owners.iter().map(|o| (o.uid.as_str(), o.controller));
            let then = owners
                .iter()
                .map(|o| (o["uid"].as_str().unwrap_or_default(), o["controller"].as_bool().unwrap_or(false)));
            if !now.eq(then) {
                let action = set_owners(&member.id, owners);
                self.actions.push(action);
            }
        }
    }
}

type Policy = k8s_openapi::api::apps::v1::StatefulSetPersistentVolumeClaimRetentionPolicy;
