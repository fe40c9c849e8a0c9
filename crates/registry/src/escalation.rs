//! No one may hand out what they do not hold: roles and bindings are checked against the writer's own rules. And who may
//! change an object may not therefore make it.

use crate::{Context, Registry, Target};
use serde_json::Value;
use stoa_authz::{Attributes, RBAC_GROUP, Refusal, forbidden_message};
use stoa_kube::{Resource, Status};

impl Registry {
    /// An update or an apply that finds nothing makes the object: for that the caller needs the right to create, too.
    pub(crate) fn check_may_create(&self, ctx: &Context, target: Target<'_>) -> Result<(), Status> {
        if ctx.privileged {
            return Ok(());
        }
        let Target { resource, namespace, name, .. } = target;
        let attributes = Attributes::resource("create", resource.group, resource.plural, namespace, name);
        let decision = self.authorizer.authorize(&ctx.user, &attributes);
        if decision.is_allowed() {
            return Ok(());
        }
        let why = forbidden_message(&ctx.user, &attributes, decision.reason());
        Err(Status::forbidden_named(resource.plural, resource.group, name, &why))
    }

    pub(crate) fn check_escalation(
        &self,
        ctx: &Context,
        resource: &Resource,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        if ctx.privileged || resource.group != RBAC_GROUP {
            return Ok(());
        }
        let checked = self.authorizer.read(|a| match resource.plural {
            "roles" | "clusterroles" => a.rbac.check_role(&ctx.user, object, old),
            "rolebindings" | "clusterrolebindings" => a.rbac.check_binding(&ctx.user, object, old),
            _ => Ok(()),
        });
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        checked.map_err(|refusal| match refusal {
            Refusal::Forbidden(why) => Status::forbidden(resource, name, &why),
            Refusal::RoleNotFound(_) => {
                let role = &object["roleRef"];
                // Of a new binding a stock server says that it is not there itself, by the name of the role.
                let plural = match role["kind"].as_str() {
                    _ if old.is_none() => resource.plural,
                    Some("ClusterRole") => "clusterroles",
                    _ => "roles",
                };
                Status::not_found_named(plural, RBAC_GROUP, role["name"].as_str().unwrap_or_default())
            }
        })
    }
}
