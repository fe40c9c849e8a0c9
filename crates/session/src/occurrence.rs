//! What an agent saw happen becomes an `Event`; the same occurrence seen again becomes a higher count of the same Event.

use serde_json::{Value, json};
use stoa_kube::{Status, resources};
use stoa_registry::{Context, Registry, Target};
use stoa_wire::Occurrence;

/// The Event object of an occurrence on `node`.
fn render(node: &str, o: &Occurrence) -> Value {
    let involved = match &o.pod {
        Some(p) => {
            let mut involved = json!({"apiVersion": "v1", "kind": "Pod", "namespace": p.namespace, "name": p.name, "uid": p.uid});
            if !o.field_path.is_empty() {
                involved["fieldPath"] = json!(o.field_path);
            }
            involved
        }
        None => json!({"kind": "Node", "name": node, "uid": node}),
    };
    let mut metadata = json!({"name": o.name, "namespace": namespace(o)});
    if !o.annotations.is_empty() {
        metadata["annotations"] = json!(o.annotations);
    }
    json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": metadata,
        "involvedObject": involved,
        "reason": o.reason, "message": o.message, "type": o.kind, "count": o.count,
        "firstTimestamp": o.first, "lastTimestamp": o.last,
        "source": {"component": "kubelet", "host": node},
        "reportingComponent": "kubelet", "reportingInstance": node,
    })
}

fn namespace(o: &Occurrence) -> &str {
    o.pod.as_ref().map_or("default", |p| &p.namespace)
}

/// Writes an occurrence.
pub(crate) async fn write(registry: &Registry, node: &str, o: &Occurrence) -> Result<(), Status> {
    let resource = resources()
        .find("", "v1", "events")
        .ok_or_else(|| Status::internal("the registry does not know events"))?;
    let ctx = Context::system("session");
    let target = Target::new(resource, namespace(o), &o.name);
    let seen = registry.modify(&ctx, target, |event| {
        event["count"] = json!(o.count);
        event["lastTimestamp"] = json!(o.last);
        event["message"] = json!(o.message);
        Ok(())
    });
    match seen.await {
        Err(e) if e.is("NotFound") => {
            registry.create(&ctx, Target { name: "", ..target }, render(node, o)).await.map(drop)
        }
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_the_container_and_the_machine() {
        let o = Occurrence {
            pod: Some(stoa_wire::PodRef { namespace: "ns".into(), name: "p".into(), uid: "u".into() }),
            field_path: "spec.containers{c}".into(),
            kind: "Normal".into(),
            reason: "Started".into(),
            message: "Started container c".into(),
            count: 2,
            first: "2026-01-01T00:00:00Z".into(),
            last: "2026-01-01T00:00:01Z".into(),
            name: "p.1".into(),
            annotations: Default::default(),
        };
        let e = render("n1", &o);
        assert!(e["metadata"].get("annotations").is_none());
        let noted = Occurrence { annotations: [("a".into(), "b".into())].into(), ..o.clone() };
        assert_eq!(render("n1", &noted)["metadata"]["annotations"], json!({"a": "b"}));
        assert_eq!(e["involvedObject"]["fieldPath"], "spec.containers{c}");
        assert_eq!(
            (&e["source"]["host"], &e["count"], &e["metadata"]["namespace"]),
            (&json!("n1"), &json!(2), &json!("ns"))
        );
    }
}
