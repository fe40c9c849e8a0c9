//! Network policies: which peers and ports they let through.

use serde_json::Value;
use stoa_kube::Cause;

use super::address;
use super::field::{Errors, Path, indexed, port_number, port_number_or_name};
use super::selector;
use crate::value::{at, has, int, text, texts};

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn network_policy(object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    selector::check(at(spec, "podSelector"), SPEC.child("podSelector"), errors);
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let list = SPEC.child(direction);
        for (i, rule) in indexed(spec, direction) {
            let path = list.index(i);
            let ports = path.child("ports");
            for (j, port) in indexed(rule, "ports") {
                policy_port(port, ports.index(j), errors);
            }
            let list = path.child(peers);
            for (j, peer) in indexed(rule, peers) {
                policy_peer(peer, list.index(j), errors);
            }
        }
    }
    let types = SPEC.child("policyTypes");
    if texts(spec, "policyTypes").count() > 2 {
        let why = "may not specify more than two policyTypes";
        errors.push(Cause::invalid(types, at(spec, "policyTypes").clone(), why));
        return;
    }
    for (i, kind) in texts(spec, "policyTypes").enumerate() {
        if !matches!(kind, "Egress" | "Ingress") {
            errors.push(Cause::not_supported(types.index(i), kind, &["Ingress", "Egress"]));
        }
    }
}

fn policy_port(port: &Value, path: Path<'_>, errors: &mut Errors) {
    let protocol = text(port, "protocol");
    if !matches!(protocol, "TCP" | "UDP" | "SCTP") {
        errors.push(Cause::not_supported(path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"]));
    }
    let at_end = path.child("endPort");
    match (at(port, "port"), int(port, "endPort")) {
        (Value::Null, Some(last)) => {
            let why = "may not be specified when `port` is not specified";
            errors.push(Cause::invalid(at_end, last, why));
        }
        (Value::Null, None) => {}
        (Value::Number(first), Some(last)) => {
            let first = first.as_i64().unwrap_or(0);
            port_number(first, path.child("port"), errors);
            if last < first {
                errors.push(Cause::invalid(at_end, first, "must be greater than or equal to `port`"));
            }
            port_number(last, at_end, errors);
        }
        (value, last) => {
            if let Some(last) = last {
                let why = "may not be specified when `port` is non-numeric";
                errors.push(Cause::invalid(at_end, last, why));
            }
            port_number_or_name(value, path.child("port"), errors);
        }
    }
}

fn policy_peer(peer: &Value, path: Path<'_>, errors: &mut Errors) {
    let selectors = has(peer, "podSelector") || has(peer, "namespaceSelector");
    for key in ["podSelector", "namespaceSelector"] {
        selector::check(at(peer, key), path.child(key), errors);
    }
    if has(peer, "ipBlock") {
        ip_block(at(peer, "ipBlock"), path.child("ipBlock"), errors);
        if selectors {
            errors.push(Cause::forbidden(path, "may not specify both ipBlock and another peer"));
        }
    } else if !selectors {
        errors.push(Cause::required(path, "must specify a peer"));
    }
}

fn ip_block(block: &Value, path: Path<'_>, errors: &mut Errors) {
    let cidr = text(block, "cidr");
    if cidr.is_empty() {
        return errors.push(Cause::required(path.child("cidr"), ""));
    }
    let Some(outer) = address::range(cidr, path.child("cidr"), errors) else { return };
    let list = path.child("except");
    for (i, except) in texts(block, "except").enumerate() {
        let Some(inner) = address::range(except, list.index(i), errors) else { continue };
        if !address::exceeds(&outer, &inner) {
            errors.push(Cause::invalid(list.index(i), except, "must be a strict subset of `cidr`"));
        }
    }
}
