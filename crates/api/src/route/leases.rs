//! Nodes' leases are read as if they were renewed all the time: the session with an agent is its sign of life, so nothing has
//! to be written for people and tools that look for it in `kube-node-lease`.

use crate::state::State;
use bytes::Bytes;
use serde_json::{Value, json};
use stoa_kube::Resource;
use stoa_units::{AgentId, Time};

const NAMESPACE: &str = "kube-node-lease";

/// Whether what is read there may be a node's lease.
pub(super) fn concerns(resource: &Resource, namespace: &str) -> bool {
    resource.group == "coordination.k8s.io"
        && resource.plural == "leases"
        && (namespace == NAMESPACE || namespace.is_empty())
}

/// The lease as it would be had its node renewed it just now, if the node is there.
pub(super) fn freshen(state: &State, resource: &Resource, namespace: &str, bytes: Bytes) -> Bytes {
    let Some(opener) = state.opener.as_ref().filter(|_| concerns(resource, namespace)) else { return bytes };
    let is_alive = |node: &str| opener.is_connected(&AgentId::from(node.to_string()));
    renew(&bytes, is_alive, state.registry.clock().now()).unwrap_or(bytes)
}

fn renew(bytes: &Bytes, is_alive: impl Fn(&str) -> bool, now: Time) -> Option<Bytes> {
    let mut lease: Value = serde_json::from_slice(bytes).ok()?;
    let name = lease["metadata"]["name"].as_str()?;
    if lease["metadata"]["namespace"] != NAMESPACE
        || lease["spec"]["holderIdentity"] != name
        || !is_alive(name)
    {
        return None;
    }
    lease["spec"]["renewTime"] = json!(now.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string());
    serde_json::to_vec(&lease).ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lease_of_a_node_that_is_there_is_fresh() {
        let lease = |namespace: &str, holder: &str| {
            Bytes::from(json!({"metadata": {"name": "n1", "namespace": namespace}, "spec": {"holderIdentity": holder, "renewTime": "old"}}).to_string())
        };
        let alive = |node: &str| node == "n1";
        let fresh = renew(&lease(NAMESPACE, "n1"), alive, Time::EPOCH).unwrap();
        assert!(std::str::from_utf8(&fresh).unwrap().contains("1970-01-01T00:00:00.000000Z"));
        assert!(renew(&lease(NAMESPACE, "n1"), |_| false, Time::EPOCH).is_none());
        assert!(renew(&lease("default", "n1"), alive, Time::EPOCH).is_none());
        assert!(renew(&lease(NAMESPACE, "someone"), alive, Time::EPOCH).is_none());
    }
}
