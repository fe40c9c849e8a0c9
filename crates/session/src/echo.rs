//! Tells a change that an agent must hear of from the echo of its own status: only `metadata` and `spec` concern it, the
//! conditions of others where the spec makes readiness depend on them, and the claims that others made for the pod.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Slim<'a> {
    #[serde(borrow)]
    metadata: BTreeMap<Cow<'a, str>, &'a RawValue>,
    #[serde(borrow)]
    spec: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Gated {
    spec: Gates,
    #[serde(default)]
    status: Conditions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gates {
    #[serde(default)]
    readiness_gates: Vec<Gate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Gate {
    condition_type: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Conditions {
    #[serde(default)]
    conditions: Vec<Condition>,
    #[serde(default)]
    resource_claim_statuses: serde_json::Value,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// What others say that a pod's readiness depends on, and which claims they made for it.
fn said_by_others(pod: &[u8]) -> Option<(Vec<(String, String)>, serde_json::Value)> {
    let pod: Gated = serde_json::from_slice(pod).ok()?;
    let wanted: Vec<String> = pod.spec.readiness_gates.into_iter().map(|g| g.condition_type).collect();
    let said = pod.status.conditions.into_iter().filter(|c| wanted.contains(&c.kind));
    Some((said.map(|c| (c.kind, c.status)).collect(), pod.status.resource_claim_statuses))
}

/// Whether two versions of a pod differ in nothing that its agent acts on. Both come from our own writer, which writes
/// equal values as equal bytes.
pub(crate) fn is_echo(before: &[u8], after: &[u8]) -> bool {
    let (Ok(mut a), Ok(mut b)) =
        (serde_json::from_slice::<Slim<'_>>(before), serde_json::from_slice::<Slim<'_>>(after))
    else {
        return false;
    };
    for key in ["resourceVersion", "managedFields"] {
        a.metadata.remove(key);
        b.metadata.remove(key);
    }
    let same = |x: Option<&RawValue>, y: Option<&RawValue>| x.map(RawValue::get) == y.map(RawValue::get);
    // Few pods have gates or claims: the others are not parsed again.
    let is_waiting = a.spec.is_some_and(|s| {
        ["\"readinessGates\"", "\"resourceClaims\""].iter().any(|field| s.get().contains(field))
    });
    (!is_waiting || said_by_others(before) == said_by_others(after))
        && same(a.spec, b.spec)
        && a.metadata.len() == b.metadata.len()
        && a.metadata.iter().all(|(k, v)| same(b.metadata.get(k).copied(), Some(v)))
}

#[cfg(test)]
mod tests {
    use super::is_echo;

    #[test]
    fn a_status_write_is_an_echo_and_nothing_else_is() {
        let pod = |rv: &str, meta: &str, spec: &str, status: &str| {
            format!(
                r#"{{"kind":"Pod","metadata":{{"name":"p"{meta},"resourceVersion":"{rv}"}},"spec":{{{spec}}},"status":{{{status}}}}}"#
            )
        };
        let old = pod("1", "", r#""a":1"#, "");
        assert!(is_echo(old.as_bytes(), pod("2", "", r#""a":1"#, r#""phase":"Running""#).as_bytes()));
        assert!(!is_echo(old.as_bytes(), pod("2", "", r#""a":2"#, "").as_bytes()));
        assert!(!is_echo(old.as_bytes(), pod("2", r#","deletionTimestamp":"t""#, r#""a":1"#, "").as_bytes()));
        assert!(!is_echo(old.as_bytes(), b"junk"));
        let gated = |status: &str| {
            pod(
                "1",
                "",
                r#""readinessGates":[{"conditionType":"g"}]"#,
                &format!(r#""conditions":[{status}]"#),
            )
        };
        let (shut, open) =
            (gated(r#"{"type":"g","status":"False"}"#), gated(r#"{"type":"g","status":"True"}"#));
        assert!(!is_echo(shut.as_bytes(), open.as_bytes()));
        let other = gated(r#"{"type":"g","status":"True"},{"type":"Ready","status":"True"}"#);
        assert!(is_echo(open.as_bytes(), other.as_bytes()));
        let claiming = |status: &str| pod("1", "", r#""resourceClaims":[{"name":"c"}]"#, status);
        let made = claiming(r#""resourceClaimStatuses":[{"name":"c","resourceClaimName":"p-c"}]"#);
        assert!(!is_echo(claiming("").as_bytes(), made.as_bytes()));
        assert!(is_echo(claiming("").as_bytes(), claiming(r#""phase":"Pending""#).as_bytes()));
    }
}
