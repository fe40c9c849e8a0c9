//! A pod's volumes.

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;

use super::container::{FILE_FIELDS, config_key, field_ref, resource_field_ref};
use super::field::{
    Errors, NOT_NEGATIVE, Path, descending_path, dns_label, indexed, no_backsteps, optional_one_of, quantity,
    required_text,
};
use crate::value::{at, has, int, text};

pub(super) fn check(spec: &Value, list: Path<'_>, errors: &mut Errors) {
    let mut names = HashSet::new();
    for (i, volume) in indexed(spec, "volumes") {
        let path = list.index(i);
        sources(volume, path, errors);
        if let Some(name) = required_text(volume, "name", path, errors) {
            let before = errors.len();
            dns_label(name, path.child("name"), errors);
            if errors.len() == before && !names.insert(name) {
                errors.push(Cause::duplicate(path.child("name"), name));
            }
        }
    }
}

fn sources(volume: &Value, path: Path<'_>, errors: &mut Errors) {
    let mut found = 0;
    for (key, v) in volume.as_object().into_iter().flatten() {
        if key == "name" || v.is_null() {
            continue;
        }
        found += 1;
        let at_source = path.child(key);
        if found > 1 {
            errors.push(Cause::forbidden(at_source, "may not specify more than 1 volume type"));
        } else {
            source(key, v, at_source, errors);
        }
    }
    if found == 0 {
        errors.push(Cause::required(path, "must specify a volume type"));
    }
}

/// Rules of one source, of a pod's volume or of a persistent one.
pub(super) fn source(kind: &str, v: &Value, path: Path<'_>, errors: &mut Errors) {
    match kind {
        "emptyDir" => {
            if let Some(limit) = quantity(v, "sizeLimit").filter(|q| q.is_negative()) {
                let why = "SizeLimit field must be a valid resource quantity";
                errors.push(Cause::forbidden(
                    path.child("sizeLimit"),
                    &format!("{why}: {limit} {NOT_NEGATIVE}"),
                ));
            }
        }
        "hostPath" => host_path(v, path, errors),
        "secret" => {
            required_text(v, "secretName", path, errors);
            mode(v, "defaultMode", path, errors);
            key_items(v, path, errors);
        }
        "configMap" => {
            required_text(v, "name", path, errors);
            mode(v, "defaultMode", path, errors);
            key_items(v, path, errors);
        }
        "downwardAPI" => {
            mode(v, "defaultMode", path, errors);
            downward_items(v, path, errors);
        }
        "projected" => projected(v, path, errors),
        "persistentVolumeClaim" => {
            required_text(v, "claimName", path, errors);
        }
        "nfs" => {
            required_text(v, "server", path, errors);
            if let Some(p) = required_text(v, "path", path, errors).filter(|p| !p.starts_with('/')) {
                errors.push(Cause::invalid(path.child("path"), p, "must be an absolute path"));
            }
        }
        "iscsi" => {
            for key in ["targetPortal", "iqn"] {
                required_text(v, key, path, errors);
            }
            if let Some(lun) = int(v, "lun").filter(|n| !(0..=255).contains(n)) {
                errors.push(Cause::invalid(path.child("lun"), lun, "must be between 0 and 255, inclusive"));
            }
        }
        "csi" => {
            required_text(v, "driver", path, errors);
        }
        "image" => {
            required_text(v, "reference", path, errors);
            optional_one_of(v, "pullPolicy", &["Always", "IfNotPresent", "Never"], path, errors);
        }
        "gitRepo" => {
            required_text(v, "repository", path, errors);
            no_backsteps(text(v, "directory"), path.child("directory"), errors);
        }
        "ephemeral" => {
            if !has(v, "volumeClaimTemplate") {
                errors.push(Cause::required(path.child("volumeClaimTemplate"), ""));
            } else {
                let template = path.child("volumeClaimTemplate");
                super::storage::claim_spec(
                    at(at(v, "volumeClaimTemplate"), "spec"),
                    template.child("spec"),
                    errors,
                );
            }
        }
        // The remaining sources belong to storage plugins that this cluster does not run.
        _ => {}
    }
}

fn host_path(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if let Some(p) = required_text(v, "path", path, errors) {
        no_backsteps(p, path.child("path"), errors);
    }
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    optional_one_of(v, "type", &types, path, errors);
}

fn mode(v: &Value, key: &str, path: Path<'_>, errors: &mut Errors) {
    if let Some(m) = int(v, key).filter(|m| !(0..=0o777).contains(m)) {
        let why = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.push(Cause::invalid(path.child(key), m, why));
    }
}

/// Keys of a config map or secret as files.
fn key_items(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("items");
    for (i, item) in indexed(v, "items") {
        let path = list.index(i);
        if let Some(key) = required_text(item, "key", path, errors) {
            config_key(key, path.child("key"), errors);
        }
        file_path(item, path, errors);
        mode(item, "mode", path, errors);
    }
}

/// A file's place in a volume. Names that begin with two dots are the volume's own.
fn file_path(item: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(p) = required_text(item, "path", path, errors) else { return };
    descending_path(p, path.child("path"), errors);
    if p.starts_with("..") && !p.starts_with("../") && p != ".." {
        errors.push(Cause::invalid(path.child("path"), p, "must not start with '..'"));
    }
}

fn downward_items(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let list = path.child("items");
    for (i, item) in indexed(v, "items") {
        let path = list.index(i);
        file_path(item, path, errors);
        mode(item, "mode", path, errors);
        match (has(item, "fieldRef"), has(item, "resourceFieldRef")) {
            (true, false) => field_ref(at(item, "fieldRef"), FILE_FIELDS, path.child("fieldRef"), errors),
            (false, true) => {
                let (v, path) = (at(item, "resourceFieldRef"), path.child("resourceFieldRef"));
                required_text(v, "containerName", path, errors);
                resource_field_ref(v, path, errors);
            }
            (true, true) => {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Cause::invalid(path, "resource", why));
            }
            (false, false) => {
                errors.push(Cause::required(path, "one of fieldRef and resourceFieldRef is required"));
            }
        }
    }
}

/// A token must live at least ten minutes.
const TOKEN_SECONDS_MIN: i64 = 600;
const TOKEN_SECONDS_MAX: i64 = 1 << 32;

fn projected(v: &Value, path: Path<'_>, errors: &mut Errors) {
    mode(v, "defaultMode", path, errors);
    let list = path.child("sources");
    let mut places: HashSet<String> = HashSet::new();
    for (i, source) in indexed(v, "sources") {
        let path = list.index(i);
        let kinds: Vec<&str> = source.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
        if kinds.len() > 1 {
            errors.push(Cause::forbidden(path, "may not specify more than 1 volume type per source"));
            continue;
        }
        let Some(kind) = kinds.first() else { continue };
        let (v, at_source) = (at(source, kind), path.child(kind));
        match *kind {
            "secret" | "configMap" => {
                required_text(v, "name", at_source, errors);
                key_items(v, at_source, errors);
            }
            "downwardAPI" => downward_items(v, at_source, errors),
            "serviceAccountToken" => {
                let seconds = int(v, "expirationSeconds").unwrap_or(TOKEN_SECONDS_MIN);
                let place = at_source.child("expirationSeconds");
                if seconds < TOKEN_SECONDS_MIN {
                    errors.push(Cause::invalid(
                        place,
                        seconds,
                        "may not specify a duration less than 10 minutes",
                    ));
                } else if seconds > TOKEN_SECONDS_MAX {
                    errors.push(Cause::invalid(
                        place,
                        seconds,
                        "may not specify a duration larger than 2^32 seconds",
                    ));
                }
                file_path(v, at_source, errors);
            }
            _ => {}
        }
        for place in places_of(v) {
            if !places.insert(place.to_owned()) {
                errors.push(Cause::invalid(path, place, "conflicting duplicate paths"));
            }
        }
    }
}

fn places_of(source: &Value) -> Vec<&str> {
    let own = at(source, "path").as_str();
    own.into_iter()
        .chain(indexed(source, "items").map(|(_, i)| text(i, "path")))
        .filter(|p| !p.is_empty())
        .collect()
}
