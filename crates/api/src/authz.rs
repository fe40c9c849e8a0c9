//! May the caller do this: one question to the authorizer per request, about the very parse that the handler gets.

use crate::request::{RequestInfo, ResourcePath, Target};
use crate::state::State;
use stoa_authz::{Attributes, User, forbidden_message};
use stoa_kube::Status;
use stoa_units::{FieldSelector, Operator};

/// Refuses what the caller may not do.
pub(crate) fn authorize(state: &State, user: &User, info: &RequestInfo) -> Result<(), Status> {
    ask(state, user, &attributes(info))
}

/// Refuses `attributes` to `user` in the stock server's words.
pub(crate) fn ask(state: &State, user: &User, attributes: &Attributes<'_>) -> Result<(), Status> {
    let decision = state.registry.authorizer().authorize(user, attributes);
    if decision.is_allowed() {
        return Ok(());
    }
    if !attributes.is_resource() {
        return Err(Status::forbidden_path(&user.name, attributes.verb, attributes.path));
    }
    let why = forbidden_message(user, attributes, decision.reason());
    Err(Status::forbidden_named(attributes.resource, attributes.group, attributes.name, &why))
}

fn attributes(info: &RequestInfo) -> Attributes<'_> {
    match &info.target {
        Target::Path => Attributes::path(&info.verb, &info.path),
        Target::Resource(r) => Attributes {
            verb: &info.verb,
            group: &r.group,
            resource: &r.resource,
            subresource: &r.subresource,
            namespace: &r.namespace,
            name: name(r, &info.verb, &info.fields),
            path: &info.path,
            fields: Some(&info.fields),
        },
    }
}

/// A list or watch of one name is a question about that name.
fn name<'a>(r: &'a ResourcePath, verb: &str, fields: &'a FieldSelector) -> &'a str {
    if !r.name.is_empty() || !matches!(verb, "list" | "watch" | "deletecollection") {
        return &r.name;
    }
    let single = fields.0.iter().find(|t| t.field == "metadata.name" && t.operator == Operator::In);
    single.map_or("", |t| t.value.as_str())
}
