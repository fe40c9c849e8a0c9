//! Where a volume comes from, a pod's or a persistent one: the rules of every source.

use serde_json::Value;
use stoa_kube::Cause;
use stoa_units::check_dns_label;

use super::field::{
    Errors, Path, dns_label, dns_subdomain, in_range, name_error, no_backsteps, optional_one_of,
    required_text,
};
use super::meta;
use crate::value::{at, flag, has, int, is_empty, pairs, text};

/// Whose source it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of<'a> {
    /// A pod's volume of this name.
    Pod(&'a str),
    /// A persistent volume of this name.
    Volume(&'a str),
}

/// The sources of a persistent volume, in the order in which they are looked for.
const PERSISTENT: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// The sources of a pod's volume, likewise. Those that pods alone have are [`super::volume`]'s to judge.
pub(super) const POD: [&str; 30] = [
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
];

/// What a stock server calls a source where there is one too many.
fn misnamed(kind: &str) -> &str {
    match kind {
        "cephfs" => "cephFS",
        "downwardAPI" => "downwarAPI",
        kind => kind,
    }
}

/// Exactly one source, which `judge` looks at.
pub(super) fn one<'v>(
    v: &'v Value,
    kinds: &[&'static str],
    path: Path<'_>,
    errors: &mut Errors,
    mut judge: impl FnMut(&'static str, &'v Value, &mut Errors),
) {
    let mut found = 0;
    for kind in kinds.iter().filter(|k| has(v, k)) {
        found += 1;
        // A stock server forgets to look at what else there is beside this one.
        let is_overlooked = *kind == "flexVolume" && kinds.contains(&"local");
        if found > 1 && !is_overlooked {
            let why = "may not specify more than 1 volume type";
            errors.push(Cause::forbidden(path.child(misnamed(kind)), why));
        } else {
            judge(kind, at(v, kind), errors);
        }
    }
    if found == 0 {
        errors.push(Cause::required(path, "must specify a volume type"));
    }
}

/// The one source of a persistent volume.
pub(super) fn persistent(spec: &Value, name: &str, path: Path<'_>, errors: &mut Errors) {
    one(spec, &PERSISTENT, path, errors, |kind, v, errors| {
        check(kind, v, Of::Volume(name), path, errors);
        if kind == "local" && !has(spec, "nodeAffinity") {
            errors.push(Cause::required(path.child("nodeAffinity"), "Local volume requires node affinity"));
        }
    });
}

fn all_required(v: &Value, keys: &[&str], path: Path<'_>, errors: &mut Errors) {
    for key in keys {
        required_text(v, key, path, errors);
    }
}

/// Rules of one source, which is a field of `path`.
pub(super) fn check(kind: &str, v: &Value, of: Of<'_>, path: Path<'_>, errors: &mut Errors) {
    let holder = path;
    let path = path.child(if kind == "gcePersistentDisk" { "persistentDisk" } else { kind });
    let is_persistent = matches!(of, Of::Volume(_));
    match kind {
        "hostPath" => host_path(v, path, errors),
        "gcePersistentDisk" => disk(v, "pdName", path, errors),
        "awsElasticBlockStore" => disk(v, "volumeID", path, errors),
        "nfs" => {
            all_required(v, &["server", "path"], path, errors);
            if !text(v, "path").starts_with('/') {
                errors.push(Cause::invalid(path.child("path"), text(v, "path"), "must be an absolute path"));
            }
        }
        "iscsi" => iscsi(v, of, holder, path, errors),
        "glusterfs" => {
            all_required(v, &["endpoints", "path"], path, errors);
            let key = "endpointsNamespace";
            match at(v, key).as_str().filter(|_| is_persistent) {
                None => {}
                Some("") => {
                    let why = "if the endpointnamespace is set, it must be a valid namespace name";
                    errors.push(Cause::invalid(path.child(key), "", why));
                }
                Some(namespace) => dns_label(namespace, path.child(key), errors),
            }
        }
        "flocker" => flocker(v, path, errors),
        "rbd" => {
            monitors(v, path, errors);
            required_text(v, "image", path, errors);
        }
        "cephfs" => monitors(v, path, errors),
        "cinder" => {
            required_text(v, "volumeID", path, errors);
            secret(v, is_persistent, path, errors);
        }
        "quobyte" => quobyte(v, path, errors),
        "fc" => fibre_channel(v, path, errors),
        "flexVolume" => {
            required_text(v, "driver", path, errors);
            let options = path.child("options");
            for (key, _) in pairs(v, "options") {
                let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
                let domain = format!(".{}", domain.to_lowercase());
                if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                    let why = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.push(Cause::invalid(options.key(key), key.as_str(), why));
                }
            }
        }
        "azureFile" => {
            all_required(v, &["secretName", "shareName"], path, errors);
            if is_persistent && at(v, "secretNamespace").as_str() == Some("") {
                errors.push(Cause::required(path.child("secretNamespace"), ""));
            }
        }
        "vsphereVolume" => all_required(v, &["volumePath"], path, errors),
        "photonPersistentDisk" => all_required(v, &["pdID"], path, errors),
        "portworxVolume" => all_required(v, &["volumeID"], path, errors),
        "scaleIO" => all_required(v, &["gateway", "system", "volumeName"], path, errors),
        "azureDisk" => azure_disk(v, path, errors),
        "storageos" => {
            if let Some(name) = required_text(v, "volumeName", path, errors) {
                dns_label(name, path.child("volumeName"), errors);
            }
            if !is_empty(v, "volumeNamespace") {
                dns_label(text(v, "volumeNamespace"), path.child("volumeNamespace"), errors);
            }
            secret(v, is_persistent, path, errors);
        }
        "local" => {
            if let Some(place) = required_text(v, "path", path, errors) {
                no_backsteps(place, path.child("path"), errors);
            }
        }
        "csi" => csi(v, of, path, errors),
        _ => {}
    }
}

fn host_path(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let Some(place) = required_text(v, "path", path, errors) else { return };
    no_backsteps(place, path.child("path"), errors);
    let types =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    optional_one_of(v, "type", &types, path, errors);
}

fn disk(v: &Value, name: &str, path: Path<'_>, errors: &mut Errors) {
    required_text(v, name, path, errors);
    if let Some(n) = int(v, "partition").filter(|n| !(0..=255).contains(n)) {
        errors.push(Cause::invalid(path.child("partition"), n, "must be between 1 and 255, inclusive"));
    }
}

fn monitors(v: &Value, path: Path<'_>, errors: &mut Errors) {
    if is_empty(v, "monitors") {
        errors.push(Cause::required(path.child("monitors"), ""));
    }
}

/// A secret by its name, of a persistent volume by its namespace too.
fn secret(v: &Value, is_persistent: bool, path: Path<'_>, errors: &mut Errors) {
    if has(v, "secretRef") {
        let keys: &[&str] = if is_persistent { &["name", "namespace"] } else { &["name"] };
        all_required(at(v, "secretRef"), keys, path.child("secretRef"), errors);
    }
}

const ISCSI_NAME_LEN_MAX: usize = 64;

fn iscsi(v: &Value, of: Of<'_>, holder: Path<'_>, path: Path<'_>, errors: &mut Errors) {
    let portal = required_text(v, "targetPortal", path, errors).unwrap_or_default();
    let name = match of {
        Of::Pod(name) | Of::Volume(name) => name,
    };
    let is_long = has(v, "initiatorName") && name.len() + 1 + portal.len() > ISCSI_NAME_LEN_MAX;
    let too_long = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
    let is_persistent = matches!(of, Of::Volume(_));
    if is_long && is_persistent {
        errors.push(Cause::invalid(path.child("targetportal"), portal, too_long));
    }
    let strange = if is_persistent {
        "must be valid format"
    } else {
        "must be valid format starting with iqn, eui, or naa"
    };
    if let Some(name) = required_text(v, "iqn", path, errors) {
        iscsi_name(name, strange, path.child("iqn"), errors);
    }
    in_range(v, "lun", 0, 255, path, errors);
    let wants_secret = flag(v, "chapAuthDiscovery") || flag(v, "chapAuthSession");
    if wants_secret && !has(v, "secretRef") {
        errors.push(Cause::required(path.child("secretRef"), ""));
    }
    if is_persistent && has(v, "secretRef") {
        required_text(at(v, "secretRef"), "name", path.child("secretRef"), errors);
    }
    if has(v, "initiatorName") {
        iscsi_name(text(v, "initiatorName"), strange, path.child("initiatorname"), errors);
    }
    if is_long && !is_persistent {
        errors.push(Cause::invalid(holder.child("name"), name, too_long));
    }
}

fn iscsi_name(name: &str, strange: &str, path: Path<'_>, errors: &mut Errors) {
    let is_alphanumeric = |s: &str| s.bytes().all(|b| b.is_ascii_alphanumeric());
    let serial = |len: usize| name.len() == 4 + len && name.get(4..).is_some_and(is_alphanumeric);
    let (is_formed, why) = match name.get(..3) {
        Some("iqn") => (is_qualified(name), "must be valid format"),
        Some("eui") => (serial(16), "must be valid format"),
        Some("naa") => (serial(32), "must be valid format"),
        _ => (false, strange),
    };
    if !is_formed {
        errors.push(Cause::invalid(path, name, why));
    }
}

/// `iqn.YYYY-MM.domain:unit`.
fn is_qualified(name: &str) -> bool {
    let rest = || {
        let (date, rest) = name.strip_prefix("iqn.")?.split_at_checked(8)?;
        let is_date = date.bytes().enumerate().all(|(i, b)| match i {
            4 => b == b'-',
            7 => b == b'.',
            _ => b.is_ascii_digit(),
        });
        let (domain, unit) = rest.split_once(':').filter(|_| is_date)?;
        let is_domain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.');
        let is_unit = |c: char| !c.is_ascii_whitespace() && !",;*&$|".contains(c);
        let is_formed = !domain.is_empty() && domain.bytes().all(is_domain);
        (is_formed && !unit.is_empty() && unit.chars().all(is_unit)).then_some(())
    };
    rest().is_some()
}

fn flocker(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let name = text(v, "datasetName");
    match (name.is_empty(), is_empty(v, "datasetUUID")) {
        (true, true) => {
            errors.push(Cause::required(path, "one of datasetName and datasetUUID is required"));
        }
        (false, false) => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Cause::invalid(path, "resource", why));
        }
        _ => {}
    }
    if name.contains('/') {
        errors.push(Cause::invalid(path.child("datasetName"), name, "must not contain '/'"));
    }
}

const TENANT_LEN_MAX: usize = 64;

fn quobyte(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let why = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(v, "registry");
    if registry.is_empty() {
        errors.push(Cause::required(path.child("registry"), why));
    } else if text(v, "tenant").len() > TENANT_LEN_MAX {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        errors.push(Cause::required(path.child("tenant"), why));
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.push(Cause::invalid(path.child("registry"), registry, why));
        }
    }
    required_text(v, "volume", path, errors);
}

fn is_host_and_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        None => false,
        Some((host, _)) if host.starts_with('[') => host.ends_with(']'),
        Some((host, _)) => !host.contains([':', '[', ']']),
    }
}

fn fibre_channel(v: &Value, path: Path<'_>, errors: &mut Errors) {
    let (names, ids) = (!is_empty(v, "targetWWNs"), !is_empty(v, "wwids"));
    if !names && !ids {
        let why = "must specify either targetWWNs or wwids, but not both";
        errors.push(Cause::required(path.child("targetWWNs"), why));
    }
    if names && ids {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        errors.push(Cause::invalid(path.child("targetWWNs"), at(v, "targetWWNs").clone(), why));
    }
    if names && !has(v, "lun") {
        errors.push(Cause::required(path.child("lun"), "lun is required if targetWWNs is specified"));
    } else if names {
        in_range(v, "lun", 0, 255, path, errors);
    }
}

fn azure_disk(v: &Value, path: Path<'_>, errors: &mut Errors) {
    all_required(v, &["diskName", "diskURI"], path, errors);
    optional_one_of(v, "cachingMode", &["None", "ReadOnly", "ReadWrite"], path, errors);
    optional_one_of(v, "kind", &["Dedicated", "Managed", "Shared"], path, errors);
    let (prefix, form) = match at(v, "kind").as_str() {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => {
            ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
        }
    };
    let uri = text(v, "diskURI");
    if !uri.starts_with(prefix) {
        errors.push(Cause::not_supported(path.child("diskURI"), uri, &[form]));
    }
}

fn csi(v: &Value, of: Of<'_>, path: Path<'_>, errors: &mut Errors) {
    meta::driver_name(text(v, "driver"), path.child("driver"), errors);
    if let Of::Pod(_) = of {
        if has(v, "nodePublishSecretRef") {
            let reference = at(v, "nodePublishSecretRef");
            if let Some(name) = required_text(reference, "name", path.child("nodePublishSecretRef"), errors) {
                dns_subdomain(name, path.child("name"), errors);
            }
        }
        return;
    }
    required_text(v, "volumeHandle", path, errors);
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if has(v, key) {
            let (reference, path) = (at(v, key), path.child(key));
            if let Some(name) = required_text(reference, "name", path, errors) {
                dns_subdomain(name, path.child("name"), errors);
            }
            if let Some(namespace) = required_text(reference, "namespace", path, errors) {
                name_error(check_dns_label(namespace), namespace, path.child("namespace"), errors);
            }
        }
    }
}

/// Whether a volume can be had as a block device: it is a claim, or makes one.
pub(super) fn is_claim(volume: &Value) -> bool {
    has(volume, "persistentVolumeClaim") || has(volume, "ephemeral")
}
