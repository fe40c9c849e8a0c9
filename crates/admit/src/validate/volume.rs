//! A pod's volumes.

use serde_json::Value;
use std::collections::{HashMap, HashSet};
use stoa_kube::Cause;
use stoa_units::check_dns_subdomain;

use super::container::{self, FILE_FIELDS, field_ref, resource_field_ref};
use super::field::{Errors, Path, descending_path, dns_label, indexed, one_of, quantity, required_text};
use super::source::{self, Of};
use super::storage;
use crate::value::{at, has, int, items, path as value_at, text};

/// Judges the volumes of a pod, or of a template where there is no `pod` yet. Returns those that are well-formed, by name.
pub(super) fn check<'v>(
    spec: &'v Value,
    pod: Option<&str>,
    list: Path<'_>,
    errors: &mut Errors,
) -> HashMap<&'v str, &'v Value> {
    let mut good: HashMap<&'v str, &'v Value> = HashMap::new();
    let pod = pod.unwrap_or_default();
    let made: HashSet<String> = items(spec, "volumes")
        .filter(|v| !pod.is_empty() && has(v, "ephemeral"))
        .map(|v| format!("{pod}-{}", text(v, "name")))
        .collect();
    for (i, volume) in indexed(spec, "volumes") {
        let path = list.index(i);
        let before = errors.len();
        let name = text(volume, "name");
        source::one(volume, &source::POD, path, errors, |kind, v, errors| {
            of_pod(kind, v, name, path, errors);
            if kind == "ephemeral" && !pod.is_empty() && !name.is_empty() {
                made_claim(pod, name, path, errors);
            }
        });
        if let Some(name) = required_text(volume, "name", path, errors) {
            dns_label(name, path.child("name"), errors);
        }
        if good.contains_key(name) {
            errors.push(Cause::duplicate(path.child("name"), name));
        }
        if errors.len() == before {
            good.insert(name, volume);
        }
        let claim = value_at(volume, &["persistentVolumeClaim", "claimName"]).as_str().unwrap_or_default();
        if made.contains(claim) {
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            let path = path.child("persistentVolumeClaim");
            errors.push(Cause::invalid(path.child("claimName"), claim, why));
        }
    }
    good
}

/// The claim that an ephemeral volume becomes is called after the pod and the volume.
fn made_claim(pod: &str, volume: &str, path: Path<'_>, errors: &mut Errors) {
    let claim = format!("{pod}-{volume}");
    if let Err(e) = check_dns_subdomain(&claim) {
        for why in e.all() {
            let why = format!("PVC name {}: {why}", stoa_units::quote(&claim));
            errors.push(Cause::invalid(path.child("name"), volume, &why));
        }
    }
}

/// Sources that pods alone have; the others are those of persistent volumes.
fn of_pod(kind: &str, v: &Value, name: &str, holder: Path<'_>, errors: &mut Errors) {
    let path = holder.child(kind);
    match kind {
        "emptyDir" => {
            if quantity(v, "sizeLimit").is_some_and(|q| q.is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(Cause::forbidden(path.child("sizeLimit"), why));
            }
        }
        "secret" | "configMap" => {
            required_text(v, if kind == "secret" { "secretName" } else { "name" }, path, errors);
            mode(v, "defaultMode", path, errors);
            let list = path.child("items");
            for (i, item) in indexed(v, "items") {
                key_to_path(item, list.index(i), errors);
            }
        }
        "downwardAPI" => {
            mode(v, "defaultMode", path, errors);
            // A stock server tells of no file by its place.
            items(v, "items").for_each(|item| downward_file(item, path, errors));
        }
        "projected" => projected(v, path, errors),
        "persistentVolumeClaim" => {
            required_text(v, "claimName", path, errors);
        }
        "image" => {
            required_text(v, "reference", path, errors);
            one_of(v, "pullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
        }
        "gitRepo" => {
            required_text(v, "repository", path, errors);
            descending_path(text(v, "directory"), path.child("directory"), errors);
        }
        "ephemeral" => match at(v, "volumeClaimTemplate") {
            Value::Null => errors.push(Cause::required(path.child("volumeClaimTemplate"), "")),
            template => storage::claim_template(template, path.child("volumeClaimTemplate"), errors),
        },
        _ => source::check(kind, v, Of::Pod(name), holder, errors),
    }
}

fn mode(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if let Some(m) = int(v, key).filter(|m| !(0..=0o777).contains(m)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(Cause::invalid(path.child(key), m, why));
    }
}

/// A key of a config map or secret as a file.
fn key_to_path(item: &Value, path: Path<'_>, errors: &mut Errors) {
    required_text(item, "key", path, errors);
    required_text(item, "path", path, errors);
    local(text(item, "path"), path.child("path"), errors);
    mode(item, "mode", path, errors);
}

/// A file's place in a volume. Names that begin with two dots are the volume's own.
fn local(place: &str, path: Path<'_>, errors: &mut Errors) {
    descending_path(place, path, errors);
    if place.starts_with("..") && !place.starts_with("../") {
        errors.push(Cause::invalid(path, place, "must not start with '..'"));
    }
}

fn downward_file(item: &Value, path: Path<'_>, errors: &mut Errors) {
    required_text(item, "path", path, errors);
    local(text(item, "path"), path.child("path"), errors);
    if has(item, "fieldRef") {
        field_ref(at(item, "fieldRef"), FILE_FIELDS, path.child("fieldRef"), errors);
        if has(item, "resourceFieldRef") {
            let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.push(Cause::invalid(path, "resource", why));
        }
    } else if has(item, "resourceFieldRef") {
        let path = path.child("resourceFieldRef");
        resource_field_ref(at(item, "resourceFieldRef"), container::Of::Volume, path, errors);
    } else {
        errors.push(Cause::required(path, "one of fieldRef and resourceFieldRef is required"));
    }
    mode(item, "mode", path, errors);
}

/// A token must live at least ten minutes.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

fn projected(v: &Value, path: Path<'_>, errors: &mut Errors) {
    mode(v, "defaultMode", path, errors);
    let list = path.child("sources");
    let mut taken: HashSet<&str> = HashSet::new();
    for (i, source) in indexed(v, "sources") {
        let at_source = list.index(i);
        let mut found = 0;
        for kind in ["secret", "configMap", "downwardAPI", "serviceAccountToken"] {
            let v = at(source, kind);
            if v.is_null() {
                continue;
            }
            found += 1;
            let place = at_source.child(kind);
            match kind {
                "secret" | "configMap" => {
                    required_text(v, "name", place, errors);
                    let list = place.child("items");
                    for (j, item) in indexed(v, "items") {
                        key_to_path(item, list.index(j), errors);
                        take(&mut taken, text(item, "path"), text(v, "name"), path, errors);
                    }
                }
                "downwardAPI" => {
                    for item in items(v, "items") {
                        downward_file(item, place, errors);
                        take(&mut taken, text(item, "path"), text(item, "path"), path, errors);
                    }
                }
                _ => token(v, place, path, errors),
            }
        }
        if found > 1 {
            let why = "may not specify more than 1 volume type per source";
            errors.push(Cause::forbidden(at_source, why));
        }
    }
}

/// Two files cannot be in one place; what is shown is whose the second one is.
fn take<'v>(taken: &mut HashSet<&'v str>, place: &'v str, shown: &str, path: Path<'_>, errors: &mut Errors) {
    if !place.is_empty() && !taken.insert(place) {
        errors.push(Cause::invalid(path, shown, "conflicting duplicate paths"));
    }
}

/// A token of the pod's account. Where it is to be, a stock server says of the volume as a whole.
fn token(v: &Value, place: Path<'_>, volume: Path<'_>, errors: &mut Errors) {
    let seconds = int(v, "expirationSeconds").unwrap_or(0);
    if seconds < TOKEN_SECONDS_MIN {
        let why = "may not specify a duration less than 10 minutes";
        errors.push(Cause::invalid(place.child("expirationSeconds"), seconds, why));
    }
    if seconds > TOKEN_SECONDS_MAX {
        let why = "may not specify a duration larger than 2^32 seconds";
        errors.push(Cause::invalid(place.child("expirationSeconds"), seconds, why));
    }
    if let Some(file) = required_text(v, "path", volume, errors) {
        local(file, volume.child("path"), errors);
    }
}
