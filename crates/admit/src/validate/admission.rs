//! Who is asked before something is stored: webhooks, and policies with their bindings.

mod policy;
mod rule;
mod url;

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::{check_dns_subdomain, check_label_key};

use super::field::{
    Errors, Path, conditions, dns_1035_label, indexed, name_error, one_of, optional_one_of, range_message,
    required_text,
};
use super::selector;
use crate::cel;
use crate::value::{at, has, int, text, texts};
pub(super) use policy::{mutating_binding, mutating_policy, validating_binding, validating_policy};

const WEBHOOKS: Path<'static> = Path::root("webhooks");
/// Versions of reviews that the server speaks.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const WITHOUT_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const EFFECTS: [&str; 4] = ["None", "NoneOnDryRun", "Some", "Unknown"];

/// A configuration of webhooks; `old` is what it was, null if it is new. What was taken once stays.
pub(super) fn webhooks(old: &Value, object: &Value, errors: &mut Errors) {
    let stored = || indexed(old, "webhooks").map(|(_, hook)| hook);
    let known = |hook: &Value| texts(hook, "admissionReviewVersions").any(|v| REVIEWS.contains(&v));
    let speaks = stored().all(known);
    let harmless = stored().all(|hook| WITHOUT_EFFECTS.contains(&text(hook, "sideEffects")));
    let mut before = HashSet::new();
    let unique = stored().all(|hook| before.insert(text(hook, "name")));
    let mut names = HashSet::new();
    for (i, hook) in indexed(object, "webhooks") {
        let path = WEBHOOKS.index(i);
        webhook(hook, if harmless { &WITHOUT_EFFECTS } else { &EFFECTS }, path, errors);
        review_versions(hook, "admissionReviewVersions", speaks, path, errors);
        let name = text(hook, "name");
        if !names.insert(name) && unique && !name.is_empty() {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
    }
}

fn webhook(hook: &Value, effects: &[&str], path: Path<'_>, errors: &mut Errors) {
    qualified_domain(text(hook, "name"), path.child("name"), errors);
    let list = path.child("rules");
    indexed(hook, "rules").for_each(|(i, r)| rule::with_operations(r, list.index(i), errors));
    optional_one_of(hook, "failurePolicy", &["Fail", "Ignore"], path, errors);
    optional_one_of(hook, "matchPolicy", &["Equivalent", "Exact"], path, errors);
    if has(hook, "sideEffects") {
        optional_one_of(hook, "sideEffects", effects, path, errors);
    } else {
        let why = format!("must specify one of {}", effects.join(", "));
        errors.push(Cause::required(path.child("sideEffects"), &why));
    }
    if let Some(n) = int(hook, "timeoutSeconds").filter(|n| !(1..=30).contains(n)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.push(Cause::invalid(path.child("timeoutSeconds"), n, why));
    }
    for key in ["namespaceSelector", "objectSelector"] {
        selector::check(at(hook, key), path.child(key), errors);
    }
    optional_one_of(hook, "reinvocationPolicy", &["IfNeeded", "Never"], path, errors);
    client(at(hook, "clientConfig"), path.child("clientConfig"), errors);
    match_conditions(hook, Declares::default(), path, errors);
}

/// A name of at least three parts.
fn qualified_domain(name: &str, path: Path<'_>, errors: &mut Errors) {
    if name.is_empty() {
        errors.push(Cause::required(path, ""));
    } else if let Err(e) = check_dns_subdomain(name) {
        errors.push(Cause::invalid(path, name, e.0));
    } else if name.split('.').count() < 3 {
        let why = "should be a domain with at least three segments separated by dots";
        errors.push(Cause::invalid(path, name, why));
    }
}

/// Which versions of reviews a webhook understands.
pub(super) fn review_versions(v: &Value, key: &str, must_know: bool, path: Path<'_>, errors: &mut Errors) {
    let list = path.child(key);
    if texts(v, key).next().is_none() {
        return errors.push(Cause::required(list, &format!("must specify one of {}", REVIEWS.join(", "))));
    }
    let mut seen = HashSet::new();
    for (i, version) in texts(v, key).enumerate() {
        if seen.insert(version) {
            name_error(dns_1035_label(version), version, list.index(i), errors);
        } else {
            errors.push(Cause::invalid(list.index(i), version, "duplicate version"));
        }
    }
    if must_know && !REVIEWS.iter().any(|v| seen.contains(v)) {
        let why = format!("must include at least one of {}", REVIEWS.join(", "));
        errors.push(Cause::invalid(list, at(v, key).clone(), &why));
    }
}

/// Where a webhook is: at a URL or behind a service.
pub(super) fn client(v: &Value, path: Path<'_>, errors: &mut Errors) {
    match (has(v, "url"), has(v, "service")) {
        (true, false) => url::check(text(v, "url"), path.child("url"), errors),
        (false, true) => service(at(v, "service"), path.child("service"), errors),
        _ => errors.push(Cause::required(path, "exactly one of url or service is required")),
    }
}

fn service(v: &Value, path: Path<'_>, errors: &mut Errors) {
    for (key, why) in [("name", "service name is required"), ("namespace", "service namespace is required")] {
        if text(v, key).is_empty() {
            errors.push(Cause::required(path.child(key), why));
        }
    }
    if let Some(port) = int(v, "port").filter(|n| !(1..=65535).contains(n)) {
        let why = format!("port is not valid: {}", range_message(1, 65535));
        errors.push(Cause::invalid(path.child("port"), port, &why));
    }
    let place = text(v, "path");
    let at_path = path.child("path");
    match place {
        "" | "/" => return,
        "//" => return errors.push(Cause::invalid(at_path, place, "segment[0] may not be empty")),
        _ if !place.starts_with('/') => {
            errors.push(Cause::invalid(at_path, place, "must start with a '/'"));
        }
        _ => {}
    }
    let steps = place.get(1..).unwrap_or_default();
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            errors.push(Cause::invalid(at_path, place, &format!("segment[{i}] may not be empty")));
        } else if let Err(e) = check_dns_subdomain(step) {
            errors.push(Cause::invalid(at_path, place, &format!("segment[{i}]: {e}")));
        }
    }
}

const MATCH_CONDITIONS_MAX: usize = 64;

/// What an expression may ask about everywhere.
const DECLARED: [&str; 6] = ["object", "oldObject", "request", "namespaceObject", "authorizer", "variables"];

/// Which of the variables there are: parameters only where a policy has some, the authorizer not where a message is made.
#[derive(Clone, Copy, Default)]
struct Declares {
    params: bool,
    no_authorizer: bool,
}

/// The variables that there are.
fn declared(declares: Declares) -> Vec<&'static str> {
    let mut declared: Vec<&str> =
        DECLARED.into_iter().filter(|d| !(declares.no_authorizer && *d == "authorizer")).collect();
    if declares.params {
        declared.push("params");
    }
    declared
}

/// What an expression comes to, if it can be read.
fn found(text: &str, declares: Declares) -> Option<cel::Type> {
    cel::compile(text, &declared(declares)).ok()
}

/// An expression that comes to one of some types.
fn expression(text: &str, wanted: &[cel::Type], declares: Declares, path: Path<'_>, errors: &mut Errors) {
    let why = match cel::compile(text, &declared(declares)) {
        Err(e) => format!("compilation failed: {e}"),
        Ok(ty) if ty == cel::Type::Dyn || wanted.is_empty() || wanted.contains(&ty) => return,
        Ok(found) => match wanted {
            [one] => format!("must evaluate to {} but got {}", one.name(), found.whole_name()),
            many => {
                let names: Vec<&str> = many.iter().map(|t| t.name()).collect();
                format!("must evaluate to one of [{}] but got {}", names.join(" "), found.whole_name())
            }
        },
    };
    errors.push(Cause::invalid(path, text, &why));
}

fn match_conditions(v: &Value, declares: Declares, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("matchConditions");
    let count = indexed(v, "matchConditions").count();
    if count > MATCH_CONDITIONS_MAX {
        errors.push(Cause::too_many(list, count, MATCH_CONDITIONS_MAX));
    }
    let mut names = HashSet::new();
    for (i, condition) in indexed(v, "matchConditions") {
        let path = list.index(i);
        match text(condition, "expression").trim() {
            "" => errors.push(Cause::required(path.child("expression"), "")),
            text => expression(text, &[cel::Type::Bool], declares, path.child("expression"), errors),
        }
        match text(condition, "name") {
            "" => errors.push(Cause::required(path.child("name"), "")),
            name => {
                name_error(check_label_key(name), name, path.child("name"), errors);
                if !names.insert(name) {
                    errors.push(Cause::duplicate(path.child("name"), name));
                }
            }
        }
    }
}

/// What was found of a policy's expressions, and its conditions.
pub(super) fn policy_status(object: &Value, errors: &mut Errors) {
    let (status, root) = (at(object, "status"), Path::root("status"));
    let checked = root.child("typeChecking");
    let list = checked.child("expressionWarnings");
    for (i, warning) in indexed(at(status, "typeChecking"), "expressionWarnings") {
        for key in ["fieldRef", "warning"] {
            required_text(warning, key, list.index(i), errors);
        }
    }
    conditions(at(status, "conditions"), root.child("conditions"), errors);
}

/// Of the conditions of a service of the API only what holds is judged.
pub(super) fn api_service_status(object: &Value, errors: &mut Errors) {
    let (status, root) = (at(object, "status"), Path::root("status"));
    let list = root.child("conditions");
    for (i, condition) in indexed(status, "conditions") {
        let (status, known) = (text(condition, "status"), ["True", "False", "Unknown"]);
        if !known.contains(&status) {
            errors.push(Cause::not_supported(list.index(i).child("status"), status, &known));
        }
    }
}

/// A service that stands in for a group of the API.
pub(super) fn api_service(object: &Value, errors: &mut Errors) {
    const SPEC: Path<'static> = Path::root("spec");
    let spec = at(object, "spec");
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let want = format!("{version}.{group}");
    for key in ["generateName", "name"] {
        let name = text(at(object, "metadata"), key);
        // What is no name at all has been refused as that.
        if name != want && !name.is_empty() && stoa_units::check_path_segment(name).is_ok() {
            let why = format!("must be `spec.version+\".\"+spec.group`: {want:?}");
            errors.push(Cause::invalid(Path::root("metadata").child(key), name, &why));
        }
    }
    if group.is_empty() {
        if version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(Cause::required(SPEC.child("group"), why));
        }
    } else {
        name_error(check_dns_subdomain(group), group, SPEC.child("group"), errors);
    }
    name_error(dns_1035_label(version), version, SPEC.child("version"), errors);
    for (key, max) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let n = int(spec, key).unwrap_or(0);
        if !(1..=max).contains(&n) {
            let why = format!("must be positive and less than {max}");
            errors.push(Cause::invalid(SPEC.child(key), n, &why));
        }
    }
    let skips = crate::value::flag(spec, "insecureSkipTLSVerify");
    if !has(spec, "service") {
        if !text(spec, "caBundle").is_empty() {
            let shown = at(spec, "caBundle").clone();
            errors.push(Cause::invalid(
                SPEC.child("caBundle"),
                shown,
                "local APIServices may not have a caBundle",
            ));
        }
        if skips {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(Cause::invalid(SPEC.child("insecureSkipTLSVerify"), true, why));
        }
        return;
    }
    let service = at(spec, "service");
    let at_service = SPEC.child("service");
    for key in ["namespace", "name"] {
        if text(service, key).is_empty() {
            errors.push(Cause::required(at_service.child(key), ""));
        }
    }
    if let Some(port) = int(service, "port").filter(|n| !(1..=65535).contains(n)) {
        let why = format!("port is not valid: {}", range_message(1, 65535));
        errors.push(Cause::invalid(at_service.child("port"), port, &why));
    }
    if skips && !text(spec, "caBundle").is_empty() {
        let why = "may not be true if caBundle is present";
        errors.push(Cause::invalid(SPEC.child("insecureSkipTLSVerify"), true, why));
    }
}

/// The kinds that bindings and policies are about: an object of some version.
fn param_kind(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let version = text(v, "apiVersion");
    let at_version = path.child("apiVersion");
    match version.split('/').collect::<Vec<_>>()[..] {
        [""] => errors.push(Cause::required(at_version, "")),
        [version] => name_error(dns_1035_label(version), version, at_version, errors),
        [group, short] => {
            if !group.is_empty() {
                name_error(check_dns_subdomain(group), group, at_version, errors);
            }
            if short.is_empty() {
                errors.push(Cause::invalid(at_version, version, "version must be specified"));
            } else {
                name_error(dns_1035_label(short), short, at_version, errors);
            }
        }
        _ => {
            let why = format!("unexpected GroupVersion string: {version}");
            errors.push(Cause::invalid(at_version, version, &why));
        }
    }
    match text(v, "kind") {
        "" => errors.push(Cause::required(path.child("kind"), "")),
        kind => {
            if let Err(e) = dns_1035_label(&kind.to_ascii_lowercase()) {
                let why = format!("may have mixed case, but should otherwise match: {e}");
                errors.push(Cause::invalid(path.child("kind"), kind, &why));
            }
        }
    }
}

/// Where the parameters of a policy are.
fn param_ref(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if !v.is_object() {
        return;
    }
    let name = text(v, "name");
    let selects = has(v, "selector");
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        name_error(stoa_units::check_path_segment(name), name, path.child("name"), errors);
        if selects {
            errors.push(Cause::forbidden(path.child("name"), both));
        }
    }
    if selects {
        selector::check(at(v, "selector"), path.child("selector"), errors);
        if !name.is_empty() {
            errors.push(Cause::forbidden(path.child("selector"), both));
        }
    } else if name.is_empty() {
        errors.push(Cause::required(path, "one of name or selector must be specified"));
    }
    one_of(v, "parameterNotFoundAction", &["Deny", "Allow"], path, errors);
}
