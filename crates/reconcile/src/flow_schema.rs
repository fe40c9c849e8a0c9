//! Flow schemas say in their status whether the level that they name is there. Requests are not sorted by them; whoever writes one
//! learns of a wrong name all the same.

use crate::meta::{id, resource, time};
use crate::{Action, Key, World};
use serde_json::{Value, json};
use stoa_kube::typed::FlowSchema;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const DANGLING: &str = "Dangling";

/// The level that a schema names.
pub(crate) fn level_of(schema: &FlowSchema) -> &str {
    schema.spec.as_ref().map_or("", |s| &s.priority_level_configuration.name)
}

/// Looks at one schema.
pub(crate) fn reconcile(world: &World, key: &Key) -> Vec<Action> {
    let Some(schema) = world.flow_schemas.get("", &key.name) else { return Vec::new() };
    let level = level_of(schema);
    let is_there = world.graph.at(resource(GROUP, "prioritylevelconfigurations"), "", level).is_some();
    let (status, reason, end) = match is_there {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {end}");
    let old = schema.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let (known, others): (Vec<_>, Vec<_>) = old.partition(|c| c.type_.as_deref() == Some(DANGLING));
    let known = known.first();
    if known.is_some_and(|c| c.status.as_deref() == Some(status) && c.message.as_ref() == Some(&message)) {
        return Vec::new();
    }
    // When it came to be so stays, if only another level is named.
    let since = known.filter(|c| c.status.as_deref() == Some(status)).map(|c| json!(c.last_transition_time));
    let mut all: Vec<Value> = others.into_iter().map(|c| json!(c)).collect();
    all.push(json!({"type": DANGLING, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| json!(time(world.now)))}));
    let id = id(resource(GROUP, "flowschemas"), &schema.metadata);
    vec![Action::Patch { id, subresource: "status", patch: json!({"status": {"conditions": all}}) }]
}

#[cfg(test)]
mod tests {
    use crate::stage::Stage;
    use crate::{Controller, Key};
    use serde_json::json;

    #[test]
    fn a_schema_says_whether_its_level_is_there() {
        let mut stage = Stage::new();
        let key = Key::new(Controller::FlowSchema, "", "s");
        let version = "flowcontrol.apiserver.k8s.io/v1";
        let schema = json!({"apiVersion": version, "kind": "FlowSchema", "metadata": {"name": "s"},
            "spec": {"priorityLevelConfiguration": {"name": "l"}}});
        assert!(stage.put(schema).contains(&key));
        stage.settle(&key);
        let told = |stage: &Stage| {
            let condition = &stage.get("flowschemas", "", "s")["status"]["conditions"][0];
            (condition["status"].clone(), condition["reason"].clone())
        };
        assert_eq!(told(&stage), (json!("True"), json!("NotFound")));
        let level = json!({"apiVersion": version, "kind": "PriorityLevelConfiguration", "metadata": {"name": "l"},
            "spec": {"type": "Exempt"}});
        assert!(stage.put(level).contains(&key));
        stage.settle(&key);
        assert_eq!(told(&stage), (json!("False"), json!("Found")));
        assert!(
            stage
                .remove("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations", "", "l")
                .contains(&key)
        );
        stage.settle(&key);
        assert_eq!(told(&stage), (json!("True"), json!("NotFound")));
    }
}
