//! Services, endpoints, ingresses and network policies.

use super::view::{View, at, first_of, format_labels, format_selector, list, number, or, shown, text};
use serde_json::Value;
use std::collections::BTreeSet;

const KINDS: [&str; 8] = [
    "Service",
    "Endpoints",
    "EndpointSlice",
    "Ingress",
    "IngressClass",
    "NetworkPolicy",
    "IPAddress",
    "ServiceCIDR",
];
/// How many hosts, ports or addresses fit a cell.
const ENTRIES_SHOWN_MAX: usize = 3;

pub(super) fn knows(kind: &str) -> bool {
    KINDS.contains(&kind)
}

pub(super) fn cells(view: View<'_>, kind: &str) -> Vec<Value> {
    match kind {
        "Service" => service(view),
        "Endpoints" => vec![view.name(), endpoints(view).into(), view.age()],
        "EndpointSlice" => endpoint_slice(view),
        "Ingress" => ingress(view),
        "IngressClass" => ingress_class(view),
        "NetworkPolicy" => vec![view.name(), format_selector(view.at("spec.podSelector")).into(), view.age()],
        "IPAddress" => ip_address(view),
        _ => vec![view.name(), strings(view.list("spec.cidrs")).join(",").into(), view.age()],
    }
}

fn strings(values: &[Value]) -> Vec<String> {
    values.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn load_balancer(view: View<'_>) -> Vec<String> {
    let addresses: BTreeSet<&str> = view
        .list("status.loadBalancer.ingress")
        .iter()
        .map(|i| or(text(i, "ip"), text(i, "hostname")))
        .filter(|a| !a.is_empty())
        .collect();
    addresses.into_iter().map(str::to_owned).collect()
}

fn service(view: View<'_>) -> Vec<Value> {
    let ports: Vec<String> = view.list("spec.ports").iter().map(service_port).collect();
    let address =
        view.list("spec.clusterIPs").first().and_then(Value::as_str).unwrap_or(view.text("spec.clusterIP"));
    vec![
        view.name(),
        view.text("spec.type").into(),
        or(address, "<none>").into(),
        external_address(view).into(),
        or(&ports.join(","), "<none>").into(),
        view.age(),
        format_labels(view.at("spec.selector")).into(),
    ]
}

fn service_port(port: &Value) -> String {
    let (number_, protocol) = (number(port, "port"), text(port, "protocol"));
    match number(port, "nodePort") {
        0 => format!("{number_}/{protocol}"),
        node_port => format!("{number_}:{node_port}/{protocol}"),
    }
}

fn external_address(view: View<'_>) -> String {
    let external = strings(view.list("spec.externalIPs"));
    match view.text("spec.type") {
        "ClusterIP" | "NodePort" => or(&external.join(","), "<none>").to_owned(),
        "LoadBalancer" => {
            let mut addresses = load_balancer(view);
            addresses.extend(external);
            or(&addresses.join(","), "<pending>").to_owned()
        }
        "ExternalName" => view.text("spec.externalName").to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// `address:port`, with brackets around an IPv6 address.
fn join_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

fn endpoints(view: View<'_>) -> String {
    let mut entries = Vec::new();
    for subset in view.list("subsets") {
        let addresses = || list(subset, "addresses").iter().map(|a| text(a, "ip"));
        let ports = list(subset, "ports");
        if ports.is_empty() {
            // A headless service may have no ports at all.
            entries.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            entries.extend(addresses().map(|a| join_port(a, number(port, "port"))));
        }
    }
    or(&first_of(&entries, ENTRIES_SHOWN_MAX), "<none>").to_owned()
}

fn endpoint_slice(view: View<'_>) -> Vec<Value> {
    let port = |p: &Value| match (at(p, "port").as_i64(), text(p, "name")) {
        (Some(number), _) => number.to_string(),
        (None, name) => or(name, "*").to_owned(),
    };
    let ports: Vec<String> = view.list("ports").iter().map(port).collect();
    let addresses: Vec<String> =
        view.list("endpoints").iter().flat_map(|e| strings(list(e, "addresses"))).collect();
    vec![
        view.name(),
        view.text("addressType").into(),
        or(&first_of(&ports, ENTRIES_SHOWN_MAX), "<unset>").into(),
        or(&first_of(&addresses, ENTRIES_SHOWN_MAX), "<unset>").into(),
        view.age(),
    ]
}

fn ingress(view: View<'_>) -> Vec<Value> {
    let hosts: Vec<String> = view
        .list("spec.rules")
        .iter()
        .map(|r| text(r, "host").to_owned())
        .filter(|h| !h.is_empty())
        .collect();
    let ports = if view.list("spec.tls").is_empty() { "80" } else { "80, 443" };
    vec![
        view.name(),
        or(view.text("spec.ingressClassName"), "<none>").into(),
        or(&first_of(&hosts, ENTRIES_SHOWN_MAX), "*").into(),
        load_balancer(view).join(",").into(),
        ports.into(),
        view.age(),
    ]
}

fn ingress_class(view: View<'_>) -> Vec<Value> {
    let parameters = view.at("spec.parameters");
    let shown_parameters = match parameters.is_object() {
        false => "<none>".to_owned(),
        true => {
            let kind = crate::resource::qualify(text(parameters, "kind"), text(parameters, "apiGroup"));
            format!("{kind}/{}", text(parameters, "name"))
        }
    };
    vec![view.name(), shown(view.at("spec.controller"), "").into(), shown_parameters.into(), view.age()]
}

fn ip_address(view: View<'_>) -> Vec<Value> {
    let parent = view.at("spec.parentRef");
    let part = |key: &str, before: &str| match text(parent, key) {
        "" => String::new(),
        said => format!("{before}{said}"),
    };
    let kind = format!("{}{}", part("resource", ""), part("group", ".")).to_lowercase();
    let shown = format!("{kind}{}{}", part("namespace", "/"), part("name", "/"));
    // A stock server adds its age, for which it has no column: here rows are as wide as the table.
    vec![view.name(), or(&shown, "<none>").into()]
}
