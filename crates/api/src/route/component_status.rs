//! Component statuses: kinds of old that nothing stores. All components live in this one process, so they are as well as it is.

use super::Asked;
use crate::encode;
use crate::negotiate;
use crate::respond::Answer;
use http::HeaderMap;
use serde_json::{Value, json};
use stoa_kube::{Object, Status};
use stoa_registry::List;
use stoa_store::{Entry, Key};
use stoa_units::Revision;

const NAMES: [&str; 3] = ["controller-manager", "etcd-0", "scheduler"];

fn object(name: &str) -> Value {
    json!({"kind": "ComponentStatus", "apiVersion": "v1", "metadata": {"name": name, "creationTimestamp": null},
        "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]})
}

/// Answers a get or a list.
pub(super) async fn answer(asked: &Asked<'_>, headers: &HeaderMap) -> Result<Answer, Status> {
    let accepted = negotiate::accept(headers)?;
    let name = asked.path.name.as_str();
    if !name.is_empty() {
        let known = NAMES.contains(&name);
        let found = known.then(|| object(name)).ok_or_else(|| Status::not_found(asked.resource, name))?;
        return super::objects::show(asked, accepted, 200, found.to_string().into());
    }
    let include = negotiate::include(asked.info.query.text("includeObject"))?;
    let selection = super::objects::selection(asked)?;
    let entry = |name: &&str| Entry {
        key: Key::object("", "componentstatuses", "", name),
        value: Object(object(name)).into_text().into(),
        created: Revision::ZERO,
        modified: Revision::ZERO,
    };
    let entries = NAMES.iter().map(entry).filter(|e| selection.matches(&e.key, &e.value)).collect();
    let registry = &asked.state.registry;
    let list = List { entries, revision: registry.store().revision(), continue_: None, remaining: None };
    encode::list(asked.resource, list, accepted, include, headers, registry.clock().now()).await
}
