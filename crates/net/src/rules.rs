//! The cluster's nftables table on this machine: masquerade of what pods send out, host ports as destination rewrites,
//! and a guard that keeps pods off the host's loopback. Rendered whole and replaced in one transaction.

use crate::Error;
use crate::network::HostPort;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

/// The table's name.
pub(crate) fn table(id: &str) -> String {
    format!("stoa-{id}")
}

fn in_cidr(side: &str, cidr: Ipv4Net, op: &str) -> Value {
    json!({"match": {"op": op, "left": {"payload": {"protocol": "ip", "field": side}},
        "right": {"prefix": {"addr": cidr.network(), "len": cidr.prefix_len()}}}})
}

fn loopback(side: &str) -> Value {
    json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": side}},
        "right": {"prefix": {"addr": "127.0.0.0", "len": 8}}}})
}

pub(crate) fn on_link(key: &str, link: &str, op: &str) -> Value {
    json!({"match": {"op": op, "left": {"meta": {"key": key}}, "right": link}})
}

/// The whole table as one transaction: made if it is missing, emptied, filled.
pub(crate) fn render(id: &str, bridge: &str, cidr: Ipv4Net, ports: &[HostPort]) -> Value {
    let table = table(id);
    let chain = |name: &str, kind: &str, hook: &str, prio: i32| json!({"add": {"chain": {"family": "ip", "table": table, "name": name, "type": kind, "hook": hook, "prio": prio, "policy": "accept"}}});
    let rule = |chain: &str, expr: Vec<Value>| json!({"add": {"rule": {"family": "ip", "table": table, "chain": chain, "expr": expr}}});
    let mut out = vec![
        json!({"add": {"table": {"family": "ip", "name": table}}}),
        json!({"delete": {"table": {"family": "ip", "name": table}}}),
        json!({"add": {"table": {"family": "ip", "name": table}}}),
        chain("guard", "filter", "prerouting", -300),
        chain("prerouting", "nat", "prerouting", -100),
        chain("output", "nat", "output", -100),
        chain("postrouting", "nat", "postrouting", 100),
        chain("forward", "filter", "forward", 0),
        // Host ports on loopback need `route_localnet` on the bridge; without this guard pods could then reach the host's
        // own loopback services (CVE-2020-8558).
        rule("guard", vec![on_link("iifname", bridge, "=="), loopback("daddr"), json!({"drop": null})]),
        rule(
            "postrouting",
            vec![in_cidr("saddr", cidr, "=="), on_link("oifname", bridge, "!="), json!({"masquerade": null})],
        ),
        rule(
            "postrouting",
            vec![loopback("saddr"), on_link("oifname", bridge, "=="), json!({"masquerade": null})],
        ),
    ];
    for p in ports {
        // A pod that reaches itself through its host port: it would not take a packet from its own address.
        let itself = |side: &str| json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": side}}, "right": p.pod_ip}});
        out.push(rule("postrouting", vec![itself("saddr"), itself("daddr"), json!({"masquerade": null})]));
        for chain in ["prerouting", "output"] {
            let mut expr = vec![match p.host_ip {
                Some(ip) => {
                    json!({"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": ip}})
                }
                None => {
                    json!({"match": {"op": "==", "left": {"fib": {"result": "type", "flags": ["daddr"]}}, "right": "local"}})
                }
            }];
            expr.push(json!({"match": {"op": "==", "left": {"payload": {"protocol": p.protocol.name(), "field": "dport"}}, "right": p.host_port}}));
            expr.push(json!({"dnat": {"addr": p.pod_ip, "port": p.pod_port}}));
            out.push(rule(chain, expr));
        }
    }
    json!({ "nftables": out })
}

pub(crate) fn run(table: String, transaction: &Value) -> Result<(), Error> {
    nftables::helper::apply_ruleset_raw(
        &transaction.to_string(),
        nftables::helper::DEFAULT_NFT,
        nftables::helper::DEFAULT_ARGS,
    )
    .map(|_| ())
    .map_err(|e| Error::Rules { table, why: e.to_string() })
}

/// Replaces the table.
pub(crate) fn apply(id: &str, bridge: &str, cidr: Ipv4Net, ports: &[HostPort]) -> Result<(), Error> {
    run(table(id), &render(id, bridge, cidr, ports))
}

/// Removes a table; none is as good.
pub(crate) fn remove(name: &str) -> Result<(), Error> {
    let transaction = json!({"nftables": [
        {"add": {"table": {"family": "ip", "name": name}}},
        {"delete": {"table": {"family": "ip", "name": name}}},
    ]});
    run(name.to_string(), &transaction)
}
