//! Definitions of custom resources: names, versions and the shape of their schemas.
//!
//! What all versions have in common is told of the definition as a whole (`spec.validation`), as the stock server does, which
//! keeps it in one place.

mod place;
pub(crate) mod schema;
mod structural;

use serde_json::Value;
use std::collections::HashSet;
use stoa_kube::Cause;
use stoa_units::check_dns_subdomain;

use super::field::{Errors, Path, dns_1035_label, immutable, indexed, name_error, one_of};
use super::{admission, internal};
use crate::value::{at, flag, has, is_empty, items, text, texts};
use schema::{Subresource, validation};

const SPEC: Path<'static> = Path::root("spec");
const TYPE: &str = "apiextensions.v1.CustomResourceDefinitionVersion";

/// A definition; `old` is what it was, null if it is new.
pub(super) fn definition(old: &Value, object: &Value, errors: &mut Errors) {
    let spec = at(object, "spec");
    let names = at(spec, "names");
    let (name, group) = (text(at(object, "metadata"), "name"), text(spec, "group"));
    if old.is_null() && !name.is_empty() && name != format!("{}.{group}", text(names, "plural")) {
        let why = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Cause::invalid(Path::root("metadata").child("name"), name, why));
    }
    match check_dns_subdomain(group) {
        _ if group.is_empty() => errors.push(Cause::required(SPEC.child("group"), "")),
        Err(e) => errors.push(Cause::invalid(SPEC.child("group"), group, e.0)),
        Ok(()) if !group.contains('.') => {
            errors.push(Cause::invalid(
                SPEC.child("group"),
                group,
                "should be a domain with at least one dot",
            ));
        }
        Ok(()) => {}
    }
    one_of(spec, "scope", &["Cluster", "Namespaced"], SPEC, errors);
    versions(spec, errors);
    let at_names = SPEC.child("names");
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(names, key).is_empty() {
            errors.push(Cause::required(at_names.child(key), ""));
        }
    }
    check_names(names, at_names, errors);
    if let Some(schema) = common(spec, "schema") {
        let mut versions = items(spec, "versions");
        let apart = match versions.any(|v| subresource(v) == Subresource::Status) {
            true => Subresource::Status,
            false => Subresource::None,
        };
        validation(schema, apart, SPEC.child("validation"), errors);
    }
    if let Some(v) = common(spec, "subresources") {
        subresources(v, SPEC.child("subresources"), errors);
    }
    if let Some(list) = common(spec, "additionalPrinterColumns") {
        columns(list, SPEC.child("additionalPrinterColumns"), errors);
    }
    if let Some(first) = items(spec, "versions").next().filter(|_| common(spec, "selectableFields").is_some())
    {
        selectable(first, SPEC.child("selectableFields"), errors);
    }
    let unpruned = flag(spec, "preserveUnknownFields");
    let strategy = text(at(spec, "conversion"), "strategy");
    let at_conversion = SPEC.child("conversion");
    if unpruned && has(spec, "conversion") && strategy != "None" {
        let why = "must be None if spec.preserveUnknownFields is true";
        errors.push(Cause::invalid(at_conversion.child("strategy"), strategy, why));
    }
    conversion(at(spec, "conversion"), at_conversion, errors);
    change(at(old, "spec"), spec, is_established(old), errors);
    status(object, errors);
    stored_versions(object, errors);
    approval(old, object, errors);
    if unpruned && !flag(at(old, "spec"), "preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Cause::invalid(SPEC.child("preserveUnknownFields"), true, why));
    }
}

fn subresource(version: &Value) -> Subresource {
    match has(at(version, "subresources"), "status") {
        true => Subresource::Status,
        false => Subresource::None,
    }
}

const SELECTABLE_MAX: usize = 8;

/// By which of its fields a version's objects can be selected.
fn selectable(version: &Value, list: Path<'_>, errors: &mut Errors) {
    let schema = at(at(version, "schema"), "openAPIV3Schema");
    let mut seen = HashSet::new();
    for (i, field) in indexed(version, "selectableFields") {
        let path = list.index(i);
        let (at_place, told) = (path.child("jsonPath"), text(field, "jsonPath"));
        if told.is_empty() {
            errors.push(Cause::required(at_place, ""));
            continue;
        }
        match place::find(told, schema, place::Brackets::Refused) {
            Err(why) => errors.push(Cause::invalid(at_place, told, &format!("is an invalid path: {why}"))),
            Ok((found, names)) => {
                if names.first() == Some(&"metadata") {
                    errors.push(Cause::invalid(at_place, told, "must not point to fields in metadata"));
                }
                if !["string", "boolean", "integer"].contains(&text(found, "type")) {
                    let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                    errors.push(Cause::invalid(at_place, told, why));
                }
                if !seen.insert(names) {
                    errors.push(Cause::duplicate(at_place, told));
                }
            }
        }
    }
    if seen.len() > SELECTABLE_MAX {
        errors.push(Cause::too_many(list, seen.len(), SELECTABLE_MAX));
    }
}

/// What a definition's status says: of the names that were taken, what those that are wished for are held to. A stock server takes
/// whatever else it says.
pub(super) fn status(object: &Value, errors: &mut Errors) {
    let names = at(at(object, "status"), "acceptedNames");
    check_names(names, Path::root("status").child("acceptedNames"), errors);
}

fn is_established(object: &Value) -> bool {
    items(at(object, "status"), "conditions")
        .any(|c| text(c, "type") == "Established" && text(c, "status") == "True")
}

/// What is served under a name stays what it is.
fn change(old: &Value, spec: &Value, established: bool, errors: &mut Errors) {
    if old.is_null() {
        return;
    }
    let names = SPEC.child("names");
    let (was, is) = (at(old, "names"), at(spec, "names"));
    if established {
        immutable(old, spec, SPEC.child("scope"), "scope", errors);
        immutable(was, is, names.child("kind"), "kind", errors);
    }
    immutable(old, spec, SPEC.child("group"), "group", errors);
    immutable(was, is, names.child("plural"), "plural", errors);
}

/// What all versions say alike under a key.
fn common<'v>(spec: &'v Value, key: &str) -> Option<&'v Value> {
    let mut versions = items(spec, "versions").map(|v| at(v, key));
    let first = versions.next()?;
    (!first.is_null() && versions.all(|other| other == first)).then_some(first)
}

fn versions(spec: &Value, errors: &mut Errors) {
    let list = SPEC.child("versions");
    let unpruned = flag(spec, "preserveUnknownFields");
    for (i, version) in indexed(spec, "versions") {
        if !has(at(version, "schema"), "openAPIV3Schema") {
            let path = list.index(i);
            let schema = path.child("schema");
            errors.push(Cause::required(schema.child("openAPIV3Schema"), ""));
        }
    }
    if unpruned && has_defaults(spec) {
        let why = "must be false in order to use defaults in the schema";
        errors.push(Cause::invalid(SPEC.child("preserveUnknownFields"), true, why));
    }
    let mut names = HashSet::new();
    let (mut stored, mut unique) = (0, true);
    for (i, version) in indexed(spec, "versions") {
        let path = list.index(i);
        stored += usize::from(flag(version, "storage"));
        unique &= names.insert(text(version, "name"));
        name_error(dns_1035_label(text(version, "name")), text(version, "name"), path.child("name"), errors);
        if let Some(warning) = at(version, "deprecationWarning").as_str() {
            deprecation(warning, flag(version, "deprecated"), path.child("deprecationWarning"), errors);
        }
        if common(spec, "schema").is_none() {
            validation(at(version, "schema"), subresource(version), path.child("schema"), errors);
        }
        if common(spec, "subresources").is_none() {
            subresources(at(version, "subresources"), path.child("subresources"), errors);
        }
        if common(spec, "additionalPrinterColumns").is_none() {
            let list = path.child("additionalPrinterColumns");
            columns(at(version, "additionalPrinterColumns"), list, errors);
        }
        if common(spec, "selectableFields").is_none() {
            selectable(version, path.child("selectableFields"), errors);
        }
    }
    let shown = || {
        let shown: Vec<String> = items(spec, "versions").map(|v| internal::print(v, TYPE)).collect();
        format!("[{}]", shown.join(","))
    };
    let mut refuse = |why: &str| {
        let message = format!("Invalid value: {}: {why}", shown());
        errors.push(Cause::new("FieldValueInvalid", list, message));
    };
    if !unique {
        refuse("must contain unique version names");
    }
    if stored != 1 {
        refuse("must have exactly one version marked as storage version");
    }
    if let Some(first) = items(spec, "versions").next().map(|v| text(v, "name")).filter(|n| !n.is_empty()) {
        name_error(dns_1035_label(first), first, SPEC.child("version"), errors);
    }
}

fn has_defaults(spec: &Value) -> bool {
    let mut found = false;
    for version in items(spec, "versions") {
        schema::each_schema(at(at(version, "schema"), "openAPIV3Schema"), &mut |s| {
            found |= has(s, "default");
        });
    }
    found
}

const WARNING_LEN_MAX: usize = 256;

fn deprecation(warning: &str, deprecated: bool, path: Path<'_>, errors: &mut Errors) {
    let mut refuse = |why: &str| errors.push(Cause::invalid(path, warning, why));
    if !deprecated {
        return refuse("can only be set for deprecated versions");
    }
    if warning.len() > WARNING_LEN_MAX {
        refuse("must be <= 256 characters long");
    }
    if warning.is_empty() {
        refuse("must not be an empty string");
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        refuse(&format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {i}"
        ));
    }
}

fn check_names(names: &Value, path: Path<'_>, errors: &mut Errors) {
    for key in ["plural", "singular"] {
        let name = text(names, key);
        if !name.is_empty() {
            name_error(dns_1035_label(name), name, path.child(key), errors);
        }
    }
    for key in ["kind", "listKind"] {
        let name = text(names, key);
        if let Err(e) = dns_1035_label(&name.to_ascii_lowercase())
            && !name.is_empty()
        {
            let why = format!("may have mixed case, but should otherwise match: {e}");
            errors.push(Cause::invalid(path.child(key), name, &why));
        }
    }
    let list = path.child("shortNames");
    for (i, name) in texts(names, "shortNames").enumerate() {
        name_error(dns_1035_label(name), name, list.index(i), errors);
    }
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(Cause::invalid(path.child("listKind"), kind, why));
    }
    let list = path.child("categories");
    for (i, name) in texts(names, "categories").enumerate() {
        name_error(dns_1035_label(name), name, list.index(i), errors);
    }
}

fn columns(list: &Value, path: Path<'_>, errors: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (i, column) in list.as_array().into_iter().flatten().enumerate() {
        let path = path.index(i);
        if text(column, "name").is_empty() {
            errors.push(Cause::required(path.child("name"), ""));
        }
        let why = format!("must be one of {}", TYPES.join(","));
        match text(column, "type") {
            "" => errors.push(Cause::required(path.child("type"), &why)),
            known if TYPES.contains(&known) => {}
            other => errors.push(Cause::invalid(path.child("type"), other, &why)),
        }
        let format = text(column, "format");
        if !format.is_empty() && !FORMATS.contains(&format) {
            let why = format!("must be one of {}", FORMATS.join(","));
            errors.push(Cause::invalid(path.child("format"), format, &why));
        }
        match text(column, "jsonPath") {
            "" => errors.push(Cause::required(path.child("JSONPath"), "")),
            place => {
                simple_path(place, path.child("JSONPath"), errors);
            }
        }
    }
}

/// Whether a path begins as one.
fn simple_path(place: &str, path: Path<'_>, errors: &mut Errors) -> bool {
    let good = place.starts_with('.');
    if !good {
        errors.push(Cause::invalid(path, place, "must be a simple json path starting with ."));
    }
    good
}

fn subresources(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let scale = at(v, "scale");
    if !scale.is_object() {
        return;
    }
    for (key, shown, roots, required) in [
        ("specReplicasPath", "scale.specReplicasPath", &[".spec"][..], true),
        ("statusReplicasPath", "scale.statusReplicasPath", &[".status"], true),
        ("labelSelectorPath", "scale.labelSelectorPath", &[".spec", ".status"], false),
    ] {
        let place = text(scale, key);
        if place.is_empty() {
            if required {
                errors.push(Cause::required(path.child(shown), ""));
            }
        } else if simple_path(place, path.child(shown), errors)
            && !roots.iter().any(|r| place.strip_prefix(r).is_some_and(|rest| rest.starts_with('.')))
        {
            let either = if roots.len() > 1 { "either " } else { "" };
            let why = format!("should be a json path under {either}{}", roots.join(" or "));
            errors.push(Cause::invalid(path.child(shown), place, &why));
        }
    }
}

fn conversion(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if !v.is_object() {
        return;
    }
    one_of(v, "strategy", &["None", "Webhook"], path, errors);
    let hook = at(v, "webhook");
    let at_client = path.child("webhookClientConfig");
    if text(v, "strategy") == "Webhook" {
        if has(hook, "clientConfig") {
            admission::client(at(hook, "clientConfig"), at_client, errors);
        } else {
            errors.push(Cause::required(at_client, "required when strategy is set to Webhook"));
        }
        if is_empty(hook, "conversionReviewVersions") {
            errors.push(Cause::required(path.child("conversionReviewVersions"), ""));
        } else {
            admission::review_versions(hook, "conversionReviewVersions", true, path, errors);
        }
        return;
    }
    let why = "should not be set when strategy is not set to Webhook";
    if has(hook, "clientConfig") {
        errors.push(Cause::forbidden(at_client, why));
    }
    if !is_empty(hook, "conversionReviewVersions") {
        errors.push(Cause::forbidden(path.child("conversionReviewVersions"), why));
    }
}

/// What is in the store can be read.
fn stored_versions(object: &Value, errors: &mut Errors) {
    let status = at(object, "status");
    let list = Path::root("status");
    let list = list.child("storedVersions");
    let shown = || at(status, "storedVersions").clone();
    if is_empty(status, "storedVersions") {
        return errors.push(Cause::invalid(list, shown(), "must have at least one stored version"));
    }
    let stored: HashSet<&str> = texts(status, "storedVersions").collect();
    let versions = || items(at(object, "spec"), "versions");
    let names: HashSet<&str> = versions().map(|v| text(v, "name")).collect();
    for name in versions().filter(|v| flag(v, "storage")).map(|v| text(v, "name")) {
        if !stored.contains(&name) && !errors.is_full() {
            errors.push(Cause::invalid(list, shown(), &format!("must have the storage version {name}")));
        }
    }
    for (i, name) in texts(status, "storedVersions").enumerate() {
        if !names.contains(name) {
            let why = format!(
                "missing from spec.versions; {name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {name} and removes {name} from status.storedVersions"
            );
            errors.push(Cause::invalid(list.index(i), name, &why));
        }
    }
}

/// Groups of the project's own domain say who has agreed to them.
fn approval(old: &Value, object: &Value, errors: &mut Errors) {
    const NOTE: &str = "api-approved.kubernetes.io";
    let group = text(at(object, "spec"), "group");
    let theirs = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|d| group.strip_suffix(d).is_some_and(|head| head.is_empty() || head.ends_with('.')));
    let note = text(at(at(object, "metadata"), "annotations"), NOTE);
    let was = text(at(at(old, "metadata"), "annotations"), NOTE);
    if !theirs
        || note.starts_with("https://")
        || note.starts_with("unapproved")
        || (old.is_object() && note == was)
    {
        return;
    }
    let meta = Path::root("metadata");
    let notes = meta.child("annotations");
    let why = "protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111";
    if note.is_empty() {
        return errors.push(Cause::required(notes.key(NOTE), why));
    }
    let why = format!(
        "protected groups must have approval annotation \"{NOTE}\" with either a URL or a reason starting with \"unapproved\", see https://github.com/kubernetes/enhancements/pull/1111"
    );
    errors.push(Cause::invalid(notes.key(NOTE), note, &why));
}
