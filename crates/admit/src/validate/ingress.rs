//! Ingresses, their classes, and where balancers of load are reached.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::{check_dns_label, check_dns_subdomain, check_path_segment};

use super::address;
use super::field::{
    Errors, Path, dns_subdomain, domain_prefixed_path, indexed, name_error, port_name_errors, port_number,
};
use crate::value::{at, has, int, is_empty, path, text, texts};

const SPEC: Path<'static> = Path::root("spec");

/// What of a stored ingress was taken when rules were laxer.
#[derive(Clone, Copy, Default)]
struct Lax {
    secret_names: bool,
    wildcard_rules: bool,
}

/// An ingress; `old` is what it was, null if it is new.
pub(super) fn ingress(old: &Value, object: &Value, errors: &mut Errors) {
    let lax = Lax {
        secret_names: indexed(at(old, "spec"), "tls").any(|(_, tls)| secret_fault(tls).is_some()),
        wildcard_rules: indexed(at(old, "spec"), "rules").any(|(_, rule)| {
            let mut found = Errors::default();
            rule_value(rule, SPEC, &mut found);
            text(rule, "host").contains('*') && !found.is_empty()
        }),
    };
    let spec = at(object, "spec");
    if is_empty(spec, "rules") && !has(spec, "defaultBackend") {
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(Cause::invalid(SPEC, at(spec, "rules").clone(), why));
    }
    if has(spec, "defaultBackend") {
        backend(at(spec, "defaultBackend"), SPEC.child("defaultBackend"), errors);
    }
    let list = SPEC.child("rules");
    for (i, rule) in indexed(spec, "rules") {
        let name = text(rule, "host");
        let path = list.index(i);
        if name.parse::<std::net::IpAddr>().is_ok() {
            errors.push(Cause::invalid(path.child("host"), name, "must be a DNS name, not an IP address"));
        }
        if !name.is_empty() {
            host(name, path.child("host"), errors);
        }
        if !(lax.wildcard_rules && name.contains('*')) {
            rule_value(rule, path, errors);
        }
    }
    let list = SPEC.child("tls");
    for (i, tls) in indexed(spec, "tls") {
        let path = list.index(i);
        let hosts = path.child("hosts");
        for (j, name) in texts(tls, "hosts").enumerate() {
            host(name, hosts.index(j), errors);
        }
        if let Some(why) = secret_fault(tls).filter(|_| !lax.secret_names) {
            errors.push(Cause::invalid(path.child("secretName"), text(tls, "secretName"), why));
        }
    }
    if has(spec, "ingressClassName") {
        dns_subdomain(text(spec, "ingressClassName"), SPEC.child("ingressClassName"), errors);
    }
}

fn secret_fault(tls: &Value) -> Option<&'static str> {
    let name = text(tls, "secretName");
    if name.is_empty() { None } else { check_dns_subdomain(name).err().map(|e| e.0) }
}

fn rule_value(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    if !has(rule, "http") {
        return;
    }
    let http = path.child("http");
    let paths = http.child("paths");
    if is_empty(at(rule, "http"), "paths") {
        errors.push(Cause::required(paths, ""));
    }
    for (j, p) in indexed(at(rule, "http"), "paths") {
        ingress_path(p, paths.index(j), errors);
    }
}

/// The old annotation for the class, which a new object may not have beside the field.
const CLASS_NOTE: &str = "kubernetes.io/ingress.class";

pub(super) fn new_ingress(object: &Value, errors: &mut Errors) {
    ingress(&Value::Null, object, errors);
    let note = path(object, &["metadata", "annotations", CLASS_NOTE]);
    let class = at(at(object, "spec"), "ingressClassName");
    if let Some(note) = note.as_str()
        && class.as_str().is_some_and(|class| class != note)
    {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(Cause::invalid(Path::root("annotations").child(CLASS_NOTE), note, why));
    }
}

fn host(name: &str, path: Path<'_>, errors: &mut Errors) {
    if !name.contains('*') {
        dns_subdomain(name, path, errors);
    } else if name.strip_prefix("*.").is_none_or(|rest| check_dns_subdomain(rest).is_err()) {
        errors.push(Cause::invalid(path, name, WILDCARD));
    }
}

const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn ingress_path(p: &Value, path: Path<'_>, errors: &mut Errors) {
    let place = text(p, "path");
    match text(p, "pathType") {
        "" if !has(p, "pathType") => {
            return errors.push(Cause::required(path.child("pathType"), "pathType must be specified"));
        }
        "Exact" | "Prefix" => {
            if !place.starts_with('/') {
                errors.push(Cause::invalid(path.child("path"), place, "must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if place.contains(bad) {
                    let why = format!("must not contain '{bad}'");
                    errors.push(Cause::invalid(path.child("path"), place, &why));
                }
            }
            for bad in ["/..", "/."].into_iter().filter(|s| place.ends_with(s)) {
                errors.push(Cause::invalid(path.child("path"), place, &format!("cannot end with '{bad}'")));
            }
        }
        "ImplementationSpecific" => {
            if !place.is_empty() && !place.starts_with('/') {
                errors.push(Cause::invalid(path.child("path"), place, "must be an absolute path"));
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            errors.push(Cause::not_supported(path.child("pathType"), other, &known));
        }
    }
    backend(at(p, "backend"), path.child("backend"), errors);
}

fn backend(b: &Value, path: Path<'_>, errors: &mut Errors) {
    match (has(b, "service"), has(b, "resource")) {
        (true, true) => {
            errors.push(Cause::invalid(path, "", "cannot set both resource and service backends"));
        }
        (false, false) => errors.push(Cause::invalid(path, "", "resource or service backend is required")),
        (false, true) => reference(at(b, "resource"), path.child("resource"), ["", ""], errors),
        (true, false) => backend_service(at(b, "service"), path, errors),
    }
}

fn backend_service(service: &Value, path: Path<'_>, errors: &mut Errors) {
    let at_service = path.child("service");
    match text(service, "name") {
        "" => errors.push(Cause::required(at_service.child("name"), "")),
        name => name_error(check_dns_label(name), name, at_service.child("name"), errors),
    }
    let at_port = at_service.child("port");
    let port = at(service, "port");
    match (text(port, "name"), int(port, "number").unwrap_or(0)) {
        ("", 0) => errors.push(Cause::required(path, "port name or number is required")),
        ("", n) => port_number(n, at_port.child("number"), errors),
        (name, 0) => {
            for why in port_name_errors(name) {
                errors.push(Cause::invalid(at_port.child("name"), name, why));
            }
        }
        _ => errors.push(Cause::invalid(path, "", "cannot set both port name & port number")),
    }
}

/// An object of some group and kind; `why` is said of its kind and its name where they are missing.
fn reference(v: &Value, path: Path<'_>, why: [&str; 2], errors: &mut Errors) {
    if has(v, "apiGroup") {
        dns_subdomain(text(v, "apiGroup"), path.child("apiGroup"), errors);
    }
    for (key, why) in ["kind", "name"].into_iter().zip(why) {
        match text(v, key) {
            "" => errors.push(Cause::required(path.child(key), why)),
            name => name_error(check_path_segment(name), name, path.child(key), errors),
        }
    }
}

/// Longest name of a controller.
const CONTROLLER_LEN_MAX: usize = 250;

pub(super) fn ingress_class(object: &Value, errors: &mut Errors) {
    let controller = text(at(object, "spec"), "controller");
    if controller.len() > CONTROLLER_LEN_MAX {
        errors.push(Cause::too_long(SPEC.child("controller"), CONTROLLER_LEN_MAX));
    }
    domain_prefixed_path(controller, SPEC.child("controller"), errors);
    let parameters = path(object, &["spec", "parameters"]);
    if !parameters.is_object() {
        return;
    }
    let at_parameters = SPEC.child("parameters");
    reference(parameters, at_parameters, ["", ""], errors);
    let place = at_parameters.child("namespace");
    match text(parameters, "scope") {
        "Namespace" if !has(parameters, "namespace") => {
            errors.push(Cause::required(place, "`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => {
            let name = text(parameters, "namespace");
            name_error(check_dns_label(name), name, place, errors);
        }
        "Cluster" if has(parameters, "namespace") => {
            errors.push(Cause::forbidden(place, "`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        "" if !has(parameters, "scope") => errors.push(Cause::required(at_parameters.child("scope"), "")),
        other => {
            let known = ["Cluster", "Namespace"];
            errors.push(Cause::not_supported(at_parameters.child("scope"), other, &known));
        }
    }
}

/// A changed class, whose controller stays.
pub(super) fn ingress_class_change(old: &Value, new: &Value, errors: &mut Errors) {
    let controller = text(at(new, "spec"), "controller");
    if text(at(old, "spec"), "controller") != controller {
        errors.push(Cause::immutable(SPEC.child("controller"), controller));
    }
}

/// Where a balancer of load is reached: by addresses, and by names that are none.
pub(super) fn balancer_status(object: &Value, errors: &mut Errors) {
    let balancer = Path::root("status");
    let balancer = balancer.child("loadBalancer");
    let list = balancer.child("ingress");
    for (i, ingress) in indexed(at(at(object, "status"), "loadBalancer"), "ingress") {
        let path = list.index(i);
        if !text(ingress, "ip").is_empty() {
            address::ip(text(ingress, "ip"), path.child("ip"), errors);
        }
        let name = text(ingress, "hostname");
        if !name.is_empty() {
            dns_subdomain(name, path.child("hostname"), errors);
            if name.parse::<std::net::IpAddr>().is_ok() {
                let why = "must be a DNS name, not an IP address";
                errors.push(Cause::invalid(path.child("hostname"), name, why));
            }
        }
    }
}
