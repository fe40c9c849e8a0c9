//! Changes in the core group: what is checked, in the order and as often as a stock server checks it, for a client sees the
//! causes in that order.

use serde_json::Value;

use super::field::{Errors, Path};
use super::meta::Faults;
use super::{cluster, config, endpoints, pod, pod_update, quota, service, storage, workload};
use crate::Request;
use crate::value::at;

/// A write of the object itself, or of a part of a pod's specification.
pub(super) fn change(request: &Request<'_>, old: &Value, new: &Value, meta: &Faults, errors: &mut Errors) {
    let whole = |errors: &mut Errors| meta.whole(errors);
    let changed = |errors: &mut Errors| meta.changed(errors);
    match request.resource.plural {
        "pods" => {
            changed(errors);
            whole(errors);
            pod_update::check(request.subresource, old, new, errors);
        }
        "podtemplates" => {
            changed(errors);
            pod::template(at(new, "template"), Path::root("template"), errors);
        }
        "replicationcontrollers" => {
            changed(errors);
            workload::replication_controller(new, errors);
        }
        "services" => {
            changed(errors);
            service::change(old, new, errors);
        }
        "endpoints" => {
            changed(errors);
            whole(errors);
            // What was stored by other rules may stay as it is.
            if at(old, "subsets") != at(new, "subsets") {
                endpoints::check(new, super::reach(request), errors);
            }
        }
        "nodes" => {
            whole(errors);
            cluster::node(new, errors);
            changed(errors);
            cluster::node_change(old, new, errors);
        }
        "persistentvolumes" => {
            for _ in 0..2 {
                whole(errors);
                storage::volume(new, errors);
            }
            storage::volume_change(old, new, errors);
        }
        "persistentvolumeclaims" => {
            changed(errors);
            whole(errors);
            storage::claim(new, errors);
            storage::claim_change(old, new, errors);
        }
        "resourcequotas" => {
            changed(errors);
            quota::quota(new, errors);
            quota::quota_change(old, new, errors);
        }
        "limitranges" => {
            whole(errors);
            quota::limit_range(new, errors);
        }
        "secrets" => {
            changed(errors);
            config::secret_change(old, new, errors);
            whole(errors);
            config::secret(new, errors);
        }
        "configmaps" => {
            changed(errors);
            config::config_map_change(old, new, errors);
            whole(errors);
            config::config_map(new, errors);
        }
        "serviceaccounts" => {
            changed(errors);
            whole(errors);
        }
        "namespaces" => {
            whole(errors);
            cluster::namespace(new, errors);
            changed(errors);
        }
        "events" => cluster::event(new, errors),
        _ => {}
    }
}
