use super::*;
use stoa_kube::resources;

const POD: &[u8] = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"labels":{"a":"b","c":"d"},"name":"p","namespace":"ns"},"spec":{"containers":[{"name":"x"}],"hostNetwork":true,"nodeName":"n1"},"status":{"phase":"Running"}}"#;

fn selected(plural: &str, labels: &str, fields: &str, bytes: &[u8]) -> bool {
    let resource = resources().find("", "v1", plural).unwrap();
    let key = Key::object("", plural, "ns", "p");
    Selection::parse(resource, labels, fields).unwrap().matches(&key, bytes)
}

#[test]
fn fields_and_labels_select_stored_pods() {
    for (labels, fields, want) in [
        ("", "", true),
        ("a=b", "", true),
        ("a=x", "", false),
        ("a=b", "spec.nodeName=n1", true),
        ("", "spec.nodeName!=n1", false),
        ("", "spec.nodeName=", false),
        ("", "spec.hostNetwork=true", true),
        ("", "status.phase=Running,metadata.name=p", true),
        ("", "metadata.namespace=other", false),
        ("", "status.podIP=", true),
    ] {
        assert_eq!(selected("pods", labels, fields, POD), want, "{labels} {fields}");
    }
    assert!(selected("nodes", "", "spec.unschedulable=false", b"{\"metadata\":{}}"));
}

#[test]
fn a_field_that_a_kind_does_not_have_is_refused_in_the_stock_words() {
    let said = |group: &str, version: &str, plural: &str| {
        let r = resources().find(group, version, plural).unwrap();
        Selection::parse(r, "", "spec.foo=x").unwrap_err().message
    };
    assert_eq!(said("", "v1", "pods"), "field label not supported: spec.foo");
    assert_eq!(
        said("", "v1", "configmaps"),
        "\"spec.foo\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    );
    assert_eq!(said("batch", "v1", "jobs"), "field label \"spec.foo\" not supported for Job");
    assert_eq!(said("events.k8s.io", "v1", "events"), "field label not supported: spec.foo");
    assert_eq!(
        said("resource.k8s.io", "v1", "resourceslices"),
        "field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: spec.foo"
    );
}

#[test]
fn only_what_is_in_a_namespace_or_knows_no_better_is_selected_by_it() {
    for (plural, may) in
        [("nodes", false), ("namespaces", false), ("persistentvolumes", true), ("pods", true)]
    {
        let r = resources().find("", "v1", plural).unwrap();
        assert_eq!(Selection::parse(r, "", "metadata.namespace=x").is_ok(), may, "{plural}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..64)) {
        let _ = text_at(&bytes, &["spec", "nodeName"]);
        let _ = labels_of(&bytes);
    }
}
