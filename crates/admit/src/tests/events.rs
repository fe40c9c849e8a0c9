//! Events as they come through `events.k8s.io`, which is stricter than core.

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::request;
use super::rules::causes;
use crate::{Operation, validate_event};

fn faults(old: Option<&Value>, event: &Value) -> Vec<String> {
    let named = |event: &Value| {
        let mut event = event.clone();
        event["metadata"] = json!({"name": "e", "namespace": "ns"});
        event
    };
    let resource = request(Operation::Create, "", "events", "ns", "e").resource;
    let mut causes = Vec::new();
    validate_event(resource, old.map(named).as_ref(), &named(event), &mut causes);
    causes.iter().map(Cause::to_string).collect()
}

#[test]
fn a_new_event_has_nothing_of_the_old_style() {
    let good = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "source": {},
        "series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}});
    assert_eq!(faults(None, &good), Vec::<String>::new());
    let old = json!({"type": "Odd", "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 2, "source": {"host": "h"},
        "series": {"count": 1}});
    assert_eq!(
        faults(None, &old),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            "series.lastObservedTime: Required value",
            "eventTime: Required value",
            "type: Invalid value: \"\": has invalid value: Odd",
            "firstTimestamp: Invalid value: \"\": needs to be unset",
            "lastTimestamp: Invalid value: \"\": needs to be unset",
            "count: Invalid value: \"\": needs to be unset",
            "source: Invalid value: \"\": needs to be unset",
        ]
    );
}

#[test]
fn an_event_of_the_new_style_says_who_reports_what() {
    let event = json!({"metadata": {}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "involvedObject": {"kind": "Node", "namespace": "elsewhere"}, "message": "x".repeat(1025),
        "reportingInstance": "i".repeat(129), "reason": "R"});
    let found = causes("", "events", "ns", event);
    assert_eq!(
        found,
        [
            "reportingComponent: Required value",
            "reportingComponent: Invalid value: \"\": name part must be non-empty",
            "reportingComponent: Invalid value: \"\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            "reportingInstance: Invalid value: \"\": can have at most 128 characters",
            "action: Required value",
            "message: Invalid value: \"\": can have at most 1024 characters",
        ]
    );
    let mut told = vec![Cause::required("reportingComponent", "")];
    let good = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal"});
    validate_event(request(Operation::Create, "", "events", "ns", "e").resource, None, &good, &mut told);
    assert_eq!(told[0].field, "reportingController", "each group in its own words");
}

#[test]
fn what_an_event_told_stays_told() {
    let old = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "type": "Normal", "reason": "R", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "ns"}, "reportingComponent": "c.d/e"});
    let mut goes_on = old.clone();
    goes_on["series"] = json!({"count": 3, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
    goes_on["source"] = json!({});
    goes_on["count"] = json!(0);
    assert_eq!(faults(Some(&old), &goes_on), Vec::<String>::new());
    let mut other = old.clone();
    other["series"] = json!({"count": 1, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
    other["involvedObject"]["name"] = json!("q");
    other["reason"] = json!("S");
    other["count"] = json!(4);
    other["related"] = json!({"kind": "Node", "name": "n"});
    other["reportingComponent"] = json!("f");
    assert_eq!(
        faults(Some(&old), &other),
        [
            "series.count: Invalid value: \"\": should be at least 2",
            r#"involvedObject: Invalid value: {"Kind":"Pod","Namespace":"ns","Name":"q","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable"#,
            r#"reason: Invalid value: "S": field is immutable"#,
            "count: Invalid value: 4: field is immutable",
            r#"reason: Invalid value: "S": field is immutable"#,
            r#"related: Invalid value: {"Kind":"Node","Namespace":"","Name":"n","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable"#,
            r#"reportingController: Invalid value: "f": field is immutable"#,
        ]
    );
}

#[test]
fn events_and_budgets_take_any_finalizer_unless_the_group_is_strict() {
    let held = json!({"metadata": {"finalizers": ["x"]}, "involvedObject": {"namespace": "ns"}});
    assert_eq!(causes("", "events", "ns", held.clone()), Vec::<String>::new());
    let budget = json!({"metadata": {"finalizers": ["x"]}, "spec": {"minAvailable": 1}});
    assert_eq!(causes("policy", "poddisruptionbudgets", "ns", budget), Vec::<String>::new());
    let resource = request(Operation::Create, "", "events", "ns", "e").resource;
    let mut strict = held;
    strict["metadata"] = json!({"name": "e:1", "namespace": "ns", "finalizers": ["x"]});
    let mut told = vec![Cause::invalid("metadata.name", "e:1", "said before")];
    validate_event(resource, None, &strict, &mut told);
    let told: Vec<&str> = told.iter().map(|cause| cause.field.as_str()).collect();
    assert_eq!(told[..2], ["metadata.name", "metadata.finalizers[0]"]);
}
