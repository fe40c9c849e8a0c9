//! Flow schemas and priority levels: whose requests are served with what share.

use std::collections::HashSet;

use serde_json::{Value, json};
use stoa_kube::Cause;

use super::field::{Errors, Path, dns_label, dns_subdomain, indexed, required_text};
use super::internal;
use crate::value::{at, flag, has, int, is_empty, is_same, text, texts};

const SPEC: Path<'static> = Path::root("spec");
/// The schema that comes before all others, and the level that has no limit.
const EXEMPT: &str = "exempt";
/// The schema and the level for what no other wants.
const CATCH_ALL: &str = "catch-all";
const PRECEDENCE_MAX: i64 = 10_000;
const QUEUES_MAX: i64 = 10_000_000;
/// A request's hand of queues is dealt from one hash of so many bits.
const HASH_BITS: f64 = 60.0;
const VERBS: [&str; 9] =
    ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];

pub(super) fn schema(object: &Value, errors: &mut Errors) {
    let (spec, name) = (at(object, "spec"), text(at(object, "metadata"), "name"));
    let precedence = int(spec, "matchingPrecedence").unwrap_or(0);
    let why = match precedence {
        ..=0 => "must be a positive value".to_owned(),
        1 if name != EXEMPT => "only the schema named 'exempt' may have matchingPrecedence 1".to_owned(),
        1..=PRECEDENCE_MAX => String::new(),
        _ => format!("must not be greater than {PRECEDENCE_MAX}"),
    };
    if !why.is_empty() {
        errors.push(Cause::invalid(SPEC.child("matchingPrecedence"), precedence, &why));
    }
    if has(spec, "distinguisherMethod") {
        let method = text(at(spec, "distinguisherMethod"), "type");
        let known = ["ByNamespace", "ByUser"];
        if !known.contains(&method) {
            let path = SPEC.child("distinguisherMethod");
            errors.push(Cause::not_supported(path.child("type"), json!({"Type": method}), &known));
        }
    }
    let level = SPEC.child("priorityLevelConfiguration");
    match text(at(spec, "priorityLevelConfiguration"), "name") {
        "" => errors.push(Cause::required(level.child("name"), "must reference a priority level")),
        name => dns_subdomain(name, level.child("name"), errors),
    }
    let rules = SPEC.child("rules");
    for (i, rule) in indexed(spec, "rules") {
        rule_with_subjects(rule, rules.index(i), errors);
    }
    if let Some(fixed) = fixed_schema(name)
        && !is_same(spec, &fixed)
    {
        let why = format!("spec of '{name}' must equal the fixed value");
        errors.push(internal::invalid(SPEC, spec, "flowcontrol.v1.FlowSchemaSpec", &why));
    }
    status(object, errors);
}

/// What a schema says without which some request would be nobody's.
fn fixed_schema(name: &str) -> Option<Value> {
    let (precedence, groups): (i64, &[&str]) = match name {
        EXEMPT => (1, &["system:masters"]),
        CATCH_ALL => (PRECEDENCE_MAX, &["system:unauthenticated", "system:authenticated"]),
        _ => return None,
    };
    let subjects: Vec<Value> =
        groups.iter().map(|group| json!({"kind": "Group", "group": {"name": group}})).collect();
    let mut spec = json!({
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": precedence,
        "rules": [{
            "subjects": subjects,
            "resourceRules": [{
                "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
            }],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }],
    });
    if name == CATCH_ALL {
        spec["distinguisherMethod"] = json!({"type": "ByUser"});
    }
    Some(spec)
}

/// What a controller has to say of a schema or a level: of each type one thing.
pub(super) fn status(object: &Value, errors: &mut Errors) {
    let status = Path::root("status");
    let list = status.child("conditions");
    let mut seen = HashSet::new();
    for (i, condition) in indexed(at(object, "status"), "conditions") {
        let (kind, path) = (text(condition, "type"), list.index(i));
        if !seen.insert(kind) {
            errors.push(Cause::duplicate(path.child("type"), kind));
        }
        if kind.is_empty() {
            errors.push(Cause::required(path.child("type"), ""));
        }
    }
}

fn rule_with_subjects(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    let subjects = path.child("subjects");
    if is_empty(rule, "subjects") {
        errors.push(Cause::required(subjects, "subjects must contain at least one value"));
    }
    for (i, s) in indexed(rule, "subjects") {
        subject(s, subjects.index(i), errors);
    }
    let (resources, paths) = (path.child("resourceRules"), path.child("nonResourceRules"));
    if is_empty(rule, "resourceRules") && is_empty(rule, "nonResourceRules") {
        let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.push(Cause::required(path, why));
    }
    for (i, r) in indexed(rule, "resourceRules") {
        resource_rule(r, resources.index(i), errors);
    }
    for (i, r) in indexed(rule, "nonResourceRules") {
        path_rule(r, paths.index(i), errors);
    }
}

/// The kinds of subjects, in which field each stands, and the order in which the others are refused.
const SUBJECTS: [(&str, &str); 3] =
    [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];

fn subject(subject: &Value, path: Path<'_>, errors: &mut Errors) {
    let kind = text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(k, _)| *k == kind) else {
        errors.push(Cause::not_supported(path.child("kind"), kind, &["Group", "ServiceAccount", "User"]));
        return;
    };
    let (named, place) = (at(subject, own), path.child(own));
    if named.is_null() {
        errors.push(Cause::required(place, &format!("{own} is required when subject kind is '{kind}'")));
    } else if *own == "serviceAccount" {
        match required_text(named, "name", place, errors) {
            None | Some("*") => {}
            Some(name) => dns_subdomain(name, place.child("name"), errors),
        }
        match text(named, "namespace") {
            "" => {
                let why = "must specify namespace for service account";
                errors.push(Cause::required(place.child("namespace"), why));
            }
            namespace => dns_label(namespace, place.child("namespace"), errors),
        }
    } else {
        required_text(named, "name", place, errors);
    }
    for (other, field) in SUBJECTS.iter().filter(|(k, f)| *k != kind && has(subject, f)) {
        let why = format!("{field} is forbidden when subject kind is not '{other}'");
        errors.push(Cause::forbidden(path.child(field), &why));
    }
}

/// A list that must hold something, and nothing beside `*`. Returns whether its elements are to be looked at.
fn wildcard_list(
    rule: &Value,
    key: &str,
    empty: &str,
    what: &str,
    path: Path<'_>,
    errors: &mut Errors,
) -> bool {
    let all: Vec<&str> = texts(rule, key).collect();
    if all.is_empty() {
        errors.push(Cause::required(path.child(key), empty));
    } else if all.contains(&"*") {
        if all.len() > 1 {
            let why = format!("if '*' is present, must not specify other {what}");
            errors.push(Cause::invalid(path.child(key), at(rule, key).clone(), &why));
        }
    } else {
        return true;
    }
    false
}

fn verbs(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    let look = wildcard_list(rule, "verbs", "verbs must contain at least one value", "verbs", path, errors);
    if look && texts(rule, "verbs").any(|v| !VERBS.contains(&v)) {
        errors.push(Cause::not_supported(path.child("verbs"), at(rule, "verbs").clone(), &VERBS));
    }
}

fn resource_rule(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let empty = "resource rules must supply at least one api group";
    wildcard_list(rule, "apiGroups", empty, "api groups", path, errors);
    let empty = "resource rules must supply at least one resource";
    wildcard_list(rule, "resources", empty, "resources", path, errors);
    if is_empty(rule, "namespaces") && flag(rule, "clusterScope") {
        return;
    }
    let empty = "resource rules that are not cluster scoped must supply at least one namespace";
    if wildcard_list(rule, "namespaces", empty, "namespaces", path, errors) {
        let list = path.child("namespaces");
        for (i, namespace) in texts(rule, "namespaces").enumerate() {
            if let Err(e) = stoa_units::check_dns_label(namespace) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {e}");
                errors.push(Cause::invalid(list.index(i), namespace, &why));
            }
        }
    }
}

fn path_rule(rule: &Value, path: Path<'_>, errors: &mut Errors) {
    verbs(rule, path, errors);
    let empty = "nonResourceURLs must contain at least one value";
    if wildcard_list(rule, "nonResourceURLs", empty, "non-resource URLs", path, errors) {
        let list = path.child("nonResourceURLs");
        for (i, url) in texts(rule, "nonResourceURLs").enumerate() {
            if let Some(why) = url_fault(url) {
                errors.push(Cause::invalid(list.index(i), url, why));
            }
        }
    }
}

fn url_fault(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    match url {
        "/" => None,
        "" => Some("must not be empty"),
        _ if !url.starts_with('/') => Some("must start with slash"),
        _ if url.contains(' ') => Some("must not contain white-space"),
        _ if url.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !url.ends_with("/*")) => {
            Some("wildcard can only do suffix matching")
        }
        _ => None,
    }
}

pub(super) fn level(object: &Value, errors: &mut Errors) {
    let (spec, name) = (at(object, "spec"), text(at(object, "metadata"), "name"));
    let ty = text(spec, "type");
    if (name == EXEMPT) != (ty == "Exempt") {
        let why = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.push(Cause::invalid(SPEC.child("type"), ty, why));
    }
    let (limited, exempt) = (SPEC.child("limited"), SPEC.child(EXEMPT));
    match ty {
        "Exempt" => {
            if has(spec, "limited") {
                errors.push(Cause::forbidden(limited, "must be nil if the type is not Limited"));
            }
            // What it does not say has defaults.
            shares(at(spec, EXEMPT), exempt, errors);
        }
        "Limited" => {
            if has(spec, EXEMPT) {
                errors.push(Cause::forbidden(exempt, "must be nil if the type is Limited"));
            }
            match has(spec, "limited") {
                true => limits(at(spec, "limited"), limited, errors),
                false => errors.push(Cause::required(limited, "must not be empty when type is Limited")),
            }
        }
        other => errors.push(Cause::not_supported(SPEC.child("type"), other, &["Exempt", "Limited"])),
    }
    fixed_level(name, spec, errors);
    status(object, errors);
}

/// The levels that are always there: of the one without a limit, only what others may borrow of it can be set.
fn fixed_level(name: &str, spec: &Value, errors: &mut Errors) {
    let (fixed, but) = match name {
        EXEMPT => (json!({"type": "Exempt"}), " except the 'spec.exempt' field"),
        CATCH_ALL => (
            json!({"type": "Limited", "limited": {
                "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"},
            }}),
            "",
        ),
        _ => return,
    };
    let mut said = spec.clone();
    if name == EXEMPT {
        crate::value::remove(&mut said, EXEMPT);
    }
    if !is_same(&said, &fixed) {
        let why = format!("spec of '{name}'{but} must equal the fixed value");
        let type_name = "flowcontrol.v1.PriorityLevelConfigurationSpec";
        errors.push(internal::invalid(SPEC, spec, type_name, &why));
    }
}

/// What a level is given, and how much of it others may use.
fn shares(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(n) = int(v, "nominalConcurrencyShares").filter(|n| *n < 0) {
        let place = path.child("nominalConcurrencyShares");
        errors.push(Cause::invalid(place, n, "must be a non-negative integer"));
    }
    super::field::in_range(v, "lendablePercent", 0, 100, path, errors);
}

fn limits(v: &Value, path: Path<'_>, errors: &mut Errors) {
    shares(v, path, errors);
    if let Some(n) = int(v, "borrowingLimitPercent").filter(|n| *n < 0) {
        let place = path.child("borrowingLimitPercent");
        errors.push(Cause::invalid(place, n, "if specified, must be a non-negative integer"));
    }
    let (response, path) = (at(v, "limitResponse"), path.child("limitResponse"));
    let place = path.child("queuing");
    match text(response, "type") {
        "Reject" if has(response, "queuing") => {
            errors.push(Cause::forbidden(place, "must be nil if limited.limitResponse.type is not Limited"));
        }
        "Reject" => {}
        "Queue" if has(response, "queuing") => queues(at(response, "queuing"), place, errors),
        "Queue" => {
            errors.push(Cause::required(place, "must not be empty if limited.limitResponse.type is Limited"));
        }
        other => errors.push(Cause::not_supported(path.child("type"), other, &["Queue", "Reject"])),
    }
}

fn queues(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let number = |key: &str| int(v, key).unwrap_or(0);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    let mut refuse = |key: &str, n: i64, why: &str| errors.push(Cause::invalid(path.child(key), n, why));
    if length <= 0 {
        refuse("queueLengthLimit", length, "must be positive");
    }
    if queues <= 0 {
        refuse("queues", queues, "must be positive");
    } else if queues > QUEUES_MAX {
        refuse("queues", queues, &format!("must not be greater than {QUEUES_MAX}"));
    }
    // Both are 32-bit numbers on the wire, which an f64 holds exactly.
    let bits = ((queues as f64).log2() * hand as f64).ceil();
    if hand <= 0 {
        refuse("handSize", hand, "must be positive");
    } else if hand > queues {
        refuse("handSize", hand, &format!("should not be greater than queues ({queues})"));
    } else if bits > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        refuse("handSize", hand, &why);
    }
}
