//! The opt-in plugin OwnerReferencesPermissionEnforcement: an owner's end is its dependants' end, and a dependant can make its owner
//! wait. Where it is enforced, naming owners takes the right to delete the object, and making them wait the right to set their
//! finalizers.

use crate::{Context, Registry, Target};
use serde_json::Value;
use std::collections::HashSet;
use stoa_admit::OwnerReferences;
use stoa_authz::Attributes;
use stoa_kube::{Resource, Status, resources};

impl Registry {
    /// Whether the caller may name the owners that the object names. `old` is what is being changed.
    pub(crate) fn check_owner_references(
        &self,
        ctx: &Context,
        target: Target<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        // What nodes report of their pods changes no metadata.
        let is_pod_status = target.subresource == "status" && is_pod(target.resource);
        if self.options().policy.owner_references == OwnerReferences::Free || ctx.privileged || is_pod_status
        {
            return Ok(());
        }
        let (new, was) = (owners(object), old.map(owners).unwrap_or_default());
        if new == was {
            return Ok(());
        }
        let refuse = |why: &str| Err(Status::forbidden(target.resource, target.name, why));
        // Who makes an object could have left it unmade: that is as good as deleting it.
        if old.is_some() {
            let Target { resource, namespace, name, subresource } = target;
            let delete = Attributes::resource("delete", resource.group, resource.plural, namespace, name)
                .with_subresource(subresource);
            if let Some(reason) = self.refusal(ctx, &delete) {
                return refuse(&format!(
                    "cannot set an ownerRef on a resource you can't delete: {reason}, <nil>"
                ));
            }
        }
        for owner in new.iter().filter(|o| blocks(o) && !blocked_before(o, was)) {
            let text = |key: &str| owner[key].as_str().unwrap_or_default();
            let (api_version, kind) = (text("apiVersion"), text("kind"));
            let Some(resource) = resources().find_object(api_version, kind) else {
                return refuse(&format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {api_version} Kind {kind}: no matches for kind {kind:?} in version {api_version:?}"
                ));
            };
            let namespace = if resource.namespaced { target.namespace } else { "" };
            let finalize =
                Attributes::resource("update", resource.group, resource.plural, namespace, text("name"))
                    .with_subresource("finalizers");
            if let Some(reason) = self.refusal(ctx, &finalize) {
                return refuse(&format!(
                    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: {reason}, <nil>"
                ));
            }
        }
        Ok(())
    }

    /// Why the caller may not do something, if that is so.
    fn refusal(&self, ctx: &Context, attributes: &Attributes<'_>) -> Option<String> {
        let decision = self.authorizer().authorize(&ctx.user, attributes);
        (!decision.is_allowed()).then(|| decision.reason().to_string())
    }
}

/// Owners that are named twice, in every word, are one; the writer is told. `when` says at what point that was seen.
pub(crate) fn drop_repeated(object: &mut Value, when: &str) -> Option<String> {
    let list = object.get_mut("metadata")?.get_mut("ownerReferences")?.as_array_mut()?;
    let mut seen = HashSet::with_capacity(list.len());
    let mut repeated = Vec::new();
    list.retain(|owner| {
        let is_new = seen.insert(owner.to_string());
        if !is_new {
            repeated.push(owner["uid"].as_str().unwrap_or_default().to_owned());
        }
        is_new
    });
    (!repeated.is_empty()).then(|| {
        format!(
            ".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: {}",
            repeated.join(", ")
        )
    })
}

fn is_pod(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == "pods"
}

fn owners(object: &Value) -> &[Value] {
    object["metadata"]["ownerReferences"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn blocks(owner: &Value) -> bool {
    owner["blockOwnerDeletion"] == Value::Bool(true)
}

fn blocked_before(owner: &Value, was: &[Value]) -> bool {
    was.iter().any(|o| o["uid"] == owner["uid"] && blocks(o))
}
