//! Writes Node objects: registers an agent that said hello, brings its status up to date, marks one that is lost.

use crate::{Options, node};
use serde_json::Value;
use stoa_kube::{Resource, Status, resources};
use stoa_registry::{Context, Registry, Target};
use stoa_store::{Key, Range};
use stoa_wire::NodeReport;

/// Where nodes' leases are.
const LEASE_NAMESPACE: &str = "kube-node-lease";

fn resource() -> Result<&'static Resource, Status> {
    resources().find("", "v1", "nodes").ok_or_else(|| Status::internal("the registry does not know nodes"))
}

fn all(registry: &Registry) -> Result<Vec<Value>, Status> {
    let prefix = Key::prefix("", "nodes", "");
    let range = Range { prefix: &prefix, after: None, limit: 0, at: None };
    let page = registry.store().range(range).map_err(|e| Status::internal(e.to_string()))?;
    Ok(page.entries.iter().filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
}

/// The first part of the cluster's addresses that no node has.
fn free_cidr(registry: &Registry, options: &Options) -> Result<String, Status> {
    let nodes = all(registry)?;
    let taken = nodes.iter().filter_map(|n| n["spec"]["podCIDR"].as_str());
    node::free_cidr(&options.cluster_cidr, options.node_prefix, taken)
        .ok_or_else(|| Status::internal(format!("no pod addresses are left in {}", options.cluster_cidr)))
}

/// Makes or renews the Node of an agent that said hello; returns the addresses of its pods. One call at a time, since
/// addresses are chosen among those that no other node has.
pub(crate) async fn register(
    registry: &Registry,
    options: &Options,
    name: &str,
    report: &NodeReport,
) -> Result<String, Status> {
    let (ctx, target) = (Context::system("session"), Target::new(resource()?, "", name));
    if registry.get(target).is_err() {
        let cidr = free_cidr(registry, options)?;
        let object = node::render(name, report, &cidr, registry.clock().now());
        match registry.create(&ctx, target, object).await {
            Ok(_) => {}
            Err(e) if e.is("AlreadyExists") => {}
            Err(e) => return Err(e),
        }
    }
    let mut given = String::new();
    let renew = registry.modify(&ctx, target, |object| {
        node::set_metadata(object, report);
        // A node that somebody made by hand has no addresses yet.
        if object["spec"]["podCIDR"].as_str().is_none_or(str::is_empty) {
            node::set_pod_cidr(object, &free_cidr(registry, options)?);
        }
        given = object["spec"]["podCIDR"].as_str().unwrap_or_default().to_string();
        Ok(())
    });
    renew.await?;
    write_report(registry, name, report).await?;
    if let Err(error) = make_lease(registry, name).await {
        // Nobody but people looks at it: the session is the sign of life.
        tracing::warn!(node = name, %error, "cannot make the node's lease");
    }
    Ok(given)
}

/// Makes the node's lease, once. It is never renewed in the store: whoever reads it sees when the session was last alive.
async fn make_lease(registry: &Registry, name: &str) -> Result<(), Status> {
    let leases = resources()
        .find("coordination.k8s.io", "v1", "leases")
        .ok_or_else(|| Status::internal("the registry does not know leases"))?;
    let target = Target::new(leases, LEASE_NAMESPACE, name);
    if registry.get(target).is_ok() {
        return Ok(());
    }
    let node = registry.get(Target::new(resource()?, "", name))?;
    let node: Value = serde_json::from_slice(&node.value).map_err(|e| Status::internal(e.to_string()))?;
    let object = node::render_lease(name, &node, registry.clock().now());
    match registry.create(&Context::system("session"), target, object).await {
        Err(e) if !e.is("AlreadyExists") => Err(e),
        _ => Ok(()),
    }
}

/// Brings a node's status up to date.
pub(crate) async fn write_report(registry: &Registry, name: &str, report: &NodeReport) -> Result<(), Status> {
    let (ctx, target) = (Context::system("session"), Target::new(resource()?, "", name).sub("status"));
    let now = registry.clock().now();
    let write = registry.modify(&ctx, target, |object| {
        node::set_status(object, report, now);
        Ok(())
    });
    write.await.map(drop)
}

/// Marks a node whose session is lost; a node that is gone needs no mark.
pub(crate) async fn write_lost(registry: &Registry, name: &str) -> Result<(), Status> {
    let (ctx, target) = (Context::system("session"), Target::new(resource()?, "", name).sub("status"));
    let now = registry.clock().now();
    let write = registry.modify(&ctx, target, |object| {
        node::set_unknown(object, now);
        Ok(())
    });
    match write.await {
        Err(e) if e.is("NotFound") => Ok(()),
        other => other.map(drop),
    }
}

/// The names of all nodes that are said to be ready.
pub(crate) fn ready_names(registry: &Registry) -> Result<Vec<String>, Status> {
    let ready = all(registry)?.into_iter().filter(node::is_ready);
    Ok(ready.filter_map(|n| n["metadata"]["name"].as_str().map(String::from)).collect())
}
