//! What a service needs allocated, for the caller that owns the address range and the port range, and the refusals that
//! such an allocation can end in.

use serde_json::Value;
use std::net::IpAddr;
use stoa_kube::Cause;

use crate::default::wants_node_ports;
use crate::value::{at, int, is_empty, items, set, text};

/// Which cluster address a service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// None at all: headless, or a name.
    None,
    /// Any free one.
    Any,
    /// This one.
    Exactly(IpAddr),
}

/// One node port that a service needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePort {
    /// The index in `spec.ports`.
    pub index: usize,
    /// The service's own port: the same number over several protocols shares one node port.
    pub port: i64,
    /// The node port asked for; none is zero.
    pub asked: i64,
}

/// What a service needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Its cluster address.
    pub address: Address,
    /// Its node ports.
    pub node_ports: Vec<NodePort>,
}

/// What a service object needs allocated. What it already names is a wish at its creation and a possession afterwards.
pub fn needs(object: &Value) -> Needs {
    let spec = at(object, "spec");
    let address = match (text(spec, "type"), text(spec, "clusterIP")) {
        ("ExternalName", _) | (_, "None") => Address::None,
        // The list alone is no way to ask for an address.
        (_, "") if !is_empty(spec, "clusterIPs") => Address::None,
        (_, "") => Address::Any,
        // What is no address, validation names.
        (_, ip) => ip.parse().map_or(Address::None, Address::Exactly),
    };
    let draws = wants_node_ports(spec);
    let has_any = matches!(text(spec, "type"), "NodePort" | "LoadBalancer");
    let ports = items(spec, "ports").enumerate().map(|(index, port)| NodePort {
        index,
        port: int(port, "port").unwrap_or(0),
        asked: int(port, "nodePort").unwrap_or(0),
    });
    // A balancer that needs none gets those that it asks for all the same.
    let node_ports = ports.filter(|p| has_any && (draws || p.asked != 0)).collect();
    Needs { address, node_ports }
}

/// Whether a service still waits for an address or a port.
pub fn needs_allocation(object: &Value) -> bool {
    let needs = needs(object);
    needs.address == Address::Any || needs.node_ports.iter().any(|p| p.asked == 0)
}

/// Writes the allocated address.
pub fn set_address(object: &mut Value, ip: IpAddr) {
    if let Some(spec) = object.get_mut("spec") {
        set(spec, "clusterIP", ip.to_string());
        set(spec, "clusterIPs", vec![Value::from(ip.to_string())]);
    }
}

/// Writes an allocated node port.
pub fn set_node_port(object: &mut Value, index: usize, port: i64) {
    let slot = object.pointer_mut("/spec/ports").and_then(|p| p.get_mut(index));
    if let Some(slot) = slot {
        set(slot, "nodePort", port);
    }
}

fn address_refused(object: &Value, ip: IpAddr, why: &str) -> Cause {
    let spec = at(object, "spec");
    let shown = if is_empty(spec, "clusterIPs") {
        Value::from(vec![Value::from(ip.to_string())])
    } else {
        at(spec, "clusterIPs").clone()
    };
    Cause::invalid("spec.clusterIPs", shown, &format!("failed to allocate IP {ip}: {why}"))
}

/// The address asked for lies outside the cluster's range.
pub fn address_outside(object: &Value, ip: IpAddr) -> Cause {
    address_refused(object, ip, "the provided network does not match the current range")
}

/// The address asked for lies outside the range, as a request is told that changes nothing.
pub fn address_not_in(object: &Value, ip: IpAddr, range: &str) -> Cause {
    let why = format!("the provided IP ({ip}) is not in the valid range. The range of valid IPs is {range}");
    address_refused(object, ip, &why)
}

/// The address asked for belongs to another service.
pub fn address_taken(object: &Value, ip: IpAddr) -> Cause {
    address_refused(object, ip, "provided IP is already allocated")
}

/// No address is free.
pub fn address_exhausted() -> Cause {
    Cause::internal("spec.clusterIPs", "failed to allocate a serviceIP: range is full")
}

/// The node port asked for lies outside the range.
pub fn node_port_outside(index: usize, port: i64, first: u16, last: u16) -> Cause {
    let why = format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
    Cause::invalid(format!("spec.ports[{index}].nodePort"), port, &why)
}

/// The node port asked for is in use.
pub fn node_port_taken(index: usize, port: i64) -> Cause {
    Cause::invalid(format!("spec.ports[{index}].nodePort"), port, "provided port is already allocated")
}

/// No node port is free.
pub fn node_port_exhausted(index: usize) -> Cause {
    Cause::internal(format!("spec.ports[{index}].nodePort"), "failed to allocate a nodePort: range is full")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn needs_follow_from_the_type() {
        for (spec, address, ports) in [
            (json!({"type": "ClusterIP", "ports": [{"port": 80}]}), Address::Any, 0),
            (json!({"type": "ClusterIP", "clusterIP": "None"}), Address::None, 0),
            (json!({"type": "ExternalName"}), Address::None, 0),
            (
                json!({"type": "NodePort", "clusterIP": "10.0.0.1", "ports": [{"port": 80}, {"port": 81}]}),
                Address::Exactly("10.0.0.1".parse().unwrap()),
                2,
            ),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}),
                Address::Any,
                0,
            ),
            (
                json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80, "nodePort": 30000}, {"port": 81}]}),
                Address::Any,
                1,
            ),
        ] {
            let got = needs(&json!({ "spec": spec }));
            assert!(got.node_ports.iter().all(|p| p.port >= 80), "{spec}");
            assert_eq!((got.address, got.node_ports.len()), (address, ports), "{spec}");
        }
    }
}
