//! How the registry asks admission.

use crate::{Context, Registry, Target};
use stoa_admit::{Operation, Request, UserRef};

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
