//! How the registry asks admission.

use crate::{Context, Registry, Target};
use serde_json::Value;
use stoa_admit::{Operation, Request, UserRef};
use stoa_kube::Status;

impl Registry {
    /// Whether the cluster admits what is done to an object by a body of another kind: a binding, an eviction, a token.
    pub(crate) fn admit_subresource(
        &self,
        ctx: &Context,
        target: Target<'_>,
        body: &Value,
    ) -> Result<(), Status> {
        if ctx.is_internal() {
            return Ok(());
        }
        let request = request(self, ctx, target, Operation::Create);
        stoa_admit::check_subresource(&request, body, &self.world())
    }
}

pub(crate) fn request<'a>(
    registry: &'a Registry,
    ctx: &'a Context,
    target: Target<'a>,
    operation: Operation,
) -> Request<'a> {
    Request {
        operation,
        resource: target.resource,
        subresource: target.subresource,
        namespace: target.namespace,
        name: target.name,
        user: UserRef { name: &ctx.user.name, groups: &ctx.user.groups },
        now: registry.now(),
        dry_run: ctx.is_dry_run(),
        seed: rand::random(),
        policy: &registry.options().policy,
        notes: Some(&ctx.notes),
    }
}
