//! Ingresses, policies, slices and ranges: a good object, a change to it, and what is said.

use serde_json::{Value, json};

use super::kinds::table;
use super::rules::{causes, changes};

#[test]
fn ingresses_are_judged_whole() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let good = json!({"metadata": {"annotations": {}}, "spec": {"defaultBackend": backend, "ingressClassName": "c", "tls": [{}],
        "rules": [{"host": "a.b", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]}});
    table(
        "networking.k8s.io",
        "ingresses",
        "ns",
        &good,
        &[
            (
                "/spec/defaultBackend",
                json!({}),
                "spec.defaultBackend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                "/spec/defaultBackend",
                json!({"service": {"name": "s"}}),
                "spec.defaultBackend: Required value: port name or number is required",
            ),
            (
                "/spec/defaultBackend",
                json!({"service": {"name": "s", "port": {"number": 1, "name": "p"}}}),
                "spec.defaultBackend: Invalid value: \"\": cannot set both port name & port number",
            ),
            (
                "/spec/defaultBackend",
                json!({"resource": {"kind": "a/b"}}),
                "spec.defaultBackend.resource.kind: Invalid value: \"a/b\": may not contain '/'; spec.defaultBackend.resource.name: Required value",
            ),
            (
                "/spec/rules/0/http/paths/0/pathType",
                Value::Null,
                "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
            ),
            (
                "/spec/rules/0/host",
                json!("1.2.3.4"),
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            ),
            (
                "/spec/tls/0/secretName",
                json!("A"),
                "spec.tls[0].secretName: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
        ],
    );
    let mut noted = good.clone();
    noted["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "d"});
    assert_eq!(
        causes("networking.k8s.io", "ingresses", "ns", noted),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"d\": must match `ingressClassName` when both are specified"
        ]
    );
}

#[test]
fn a_class_keeps_its_controller() {
    let good = json!({"metadata": {}, "spec": {"controller": "a.b/c"}});
    table(
        "networking.k8s.io",
        "ingressclasses",
        "",
        &good,
        &[
            ("/spec/controller", json!(""), "spec.controller: Required value"),
            (
                "/spec/controller",
                json!("A/c"),
                "spec.controller: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
            (
                "/spec/parameters",
                json!({"scope": "Some"}),
                "spec.parameters.kind: Required value; spec.parameters.name: Required value; spec.parameters.scope: Unsupported value: \"Some\": supported values: \"Cluster\", \"Namespace\"",
            ),
        ],
    );
    assert_eq!(
        changes("networking.k8s.io", "ingressclasses", good, |o| o["spec"]["controller"] = json!("a.b/d")),
        ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
    );
    let good = json!({"metadata": {}, "spec": {"controller": "a.b/c"}});
    assert_eq!(
        changes("networking.k8s.io", "ingressclasses", good, |o| o["spec"] = json!({})),
        ["spec.controller: Invalid value: \"\": field is immutable", "spec.controller: Required value"]
    );
}

#[test]
fn policies_name_peers_and_ports() {
    let good = json!({"metadata": {}, "spec": {"podSelector": {}, "ingress": [
        {"ports": [{"port": 80}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]}});
    table(
        "networking.k8s.io",
        "networkpolicies",
        "ns",
        &good,
        &[
            (
                "/spec/ingress/0/ports/0",
                json!({"protocol": "ICMP"}),
                "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            ),
            (
                "/spec/ingress/0/ports/0",
                json!({"port": 80, "endPort": 70}),
                "spec.ingress[0].ports[0].endPort: Invalid value: 80: must be greater than or equal to `port`",
            ),
            (
                "/spec/ingress/0/ports/0",
                json!({"port": "http", "endPort": 70}),
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: may not be specified when `port` is non-numeric",
            ),
            (
                "/spec/ingress/0/from/0",
                json!({}),
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ),
            (
                "/spec/ingress/0/from/0",
                json!({"ipBlock": {"cidr": "10.0.0.1/8"}, "podSelector": {}}),
                "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length; spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            ),
            (
                "/spec/ingress/0/from/0/ipBlock/except",
                json!(["10.0.0.0/8", "x"]),
                "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`; spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                "/spec/policyTypes",
                json!(["Some"]),
                "spec.policyTypes[0]: Unsupported value: \"Some\": supported values: \"Ingress\", \"Egress\"",
            ),
        ],
    );
}

#[test]
fn slices_hold_addresses_of_one_kind() {
    let good = json!({"metadata": {}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"], "hints": {}}],
        "ports": [{"port": 80}]});
    table(
        "discovery.k8s.io",
        "endpointslices",
        "ns",
        &good,
        &[
            (
                "/endpoints/0/addresses",
                json!(["::1"]),
                "endpoints[0].addresses: Invalid value: \"::1\": must be an IPv4 address; endpoints[0].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ),
            (
                "/endpoints/0/addresses",
                json!(["010.0.0.1"]),
                "endpoints[0].addresses[0]: Invalid value: \"010.0.0.1\": must not have leading 0s",
            ),
            (
                "/endpoints/0/hints",
                json!({"forZones": [{"name": "a"}, {"name": "a"}]}),
                "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
            ),
            ("/ports", json!([{"name": "a"}, {"name": "a"}]), "ports[1].name: Duplicate value: \"a\""),
        ],
    );
    let six = json!({"metadata": {}, "addressType": "IPv6", "endpoints": [{"addresses": ["2001:db8::1"]}], "ports": [{"port": 80}]});
    let no_port_name = format!(
        "ports[0].appProtocol: Invalid value: \"\": name part must be non-empty; ports[0].appProtocol: Invalid value: \"\": {}",
        super::classes::QUALIFIED
    );
    table(
        "discovery.k8s.io",
        "endpointslices",
        "ns",
        &six,
        &[
            (
                "/endpoints/0/addresses",
                json!(["2001:db8::0001", "1.2.3.4"]),
                "endpoints[0].addresses[0]: Invalid value: \"2001:db8::0001\": must be in canonical form (\"2001:db8::1\"); endpoints[0].addresses: Invalid value: \"1.2.3.4\": must be an IPv6 address",
            ),
            ("/ports/0/appProtocol", json!(""), &no_port_name),
        ],
    );
    let named = json!({"metadata": {}, "addressType": "FQDN", "endpoints": [{"addresses": ["host"]}]});
    assert_eq!(
        causes("discovery.k8s.io", "endpointslices", "ns", named),
        [
            "endpoints[0].addresses[0]: Invalid value: \"host\": should be a domain with at least two segments separated by dots"
        ]
    );
}

#[test]
fn what_is_pointed_at_is_missing_or_wrong() {
    let slice =
        |port: Value| json!({"metadata": {}, "addressType": "IPv4", "endpoints": [], "ports": [port]});
    let path = |path: Value| {
        let backend = json!({"service": {"name": "s", "port": {"number": 1}}});
        let mut path = path;
        path["backend"] = backend;
        json!({"metadata": {}, "spec": {"rules": [{"http": {"paths": [path]}}]}})
    };
    for (group, plural, object, wanted) in [
        (
            "discovery.k8s.io",
            "endpointslices",
            slice(json!({"protocol": ""})),
            "ports[0].protocol: Unsupported value: \"\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "networking.k8s.io",
            "ingresses",
            path(json!({"path": "/", "pathType": ""})),
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
        ),
        (
            "networking.k8s.io",
            "ingresses",
            path(json!({"path": "/"})),
            "spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified",
        ),
    ] {
        assert_eq!(causes(group, plural, "ns", object), [wanted]);
    }
}

#[test]
fn ranges_and_addresses_have_one_form() {
    let good = json!({"metadata": {}, "spec": {"cidrs": ["10.0.0.0/24"]}});
    table(
        "networking.k8s.io",
        "servicecidrs",
        "",
        &good,
        &[
            (
                "/spec/cidrs",
                json!(["10.0.0.0/24", "10.1.0.0/24"]),
                "spec.cidrs: Invalid value: [\"10.0.0.0/24\",\"10.1.0.0/24\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
            ),
            (
                "/spec/cidrs",
                json!(["10.0.0.0/24", "x"]),
                "spec.cidrs[1]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            ),
            (
                "/spec/cidrs",
                json!(["10.0.0.0/24", "x", "y"]),
                "spec.cidrs: Invalid value: {\"CIDRs\":[\"10.0.0.0/24\",\"x\",\"y\"]}: may only hold up to 2 values",
            ),
            (
                "/spec/cidrs",
                json!(["2001:DB8::/64"]),
                "spec.cidrs[0]: Invalid value: \"2001:DB8::/64\": must be in canonical form (\"2001:db8::/64\")",
            ),
        ],
    );
    for (cidrs, want) in [
        (json!(["10.1.0.0/24"]), "spec.cidrs[0]: Invalid value: \"10.1.0.0/24\": field is immutable"),
        (json!(["10.0.0.0/24", "2001:db8::/64"]), ""),
        (json!([]), "spec.cidrs: Invalid value: []: field is immutable"),
    ] {
        let found =
            changes("networking.k8s.io", "servicecidrs", good.clone(), |o| o["spec"]["cidrs"] = cidrs);
        assert_eq!(found.join("; "), want);
    }
    let address = json!({"metadata": {}, "spec": {"parentRef": {"resource": "services"}}});
    assert_eq!(
        causes("networking.k8s.io", "ipaddresses", "", address.clone()),
        [
            "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.parentRef.name: Required value",
        ]
    );
    assert_eq!(
        changes("networking.k8s.io", "ipaddresses", address, |o| o["spec"]["parentRef"]["name"] = json!("s")),
        [
            "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            r#"spec.parentRef: Invalid value: {"Group":"","Resource":"services","Namespace":"","Name":"s"}: field is immutable"#,
        ]
    );
}
