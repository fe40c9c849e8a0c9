//! The flags about admission, and the files that they name: which plugins run beside those that always do, and how pods are judged
//! where a namespace says nothing.

use crate::cli::Admission;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::Path;
use stoa_admit::{OwnerReferences, PodSecurity, Policy};

/// What is off until it is asked for.
const OWNER_REFERENCES: &str = "OwnerReferencesPermissionEnforcement";
/// The plugin that takes a configuration.
const POD_SECURITY: &str = "PodSecurity";

/// What always runs; to ask for it changes nothing.
const ALWAYS: [&str; 18] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "NamespaceExists",
    "NamespaceLifecycle",
    "NodeRestriction",
    "PersistentVolumeClaimResize",
    POD_SECURITY,
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
];

/// What the flags decide.
pub fn policy(flags: &Admission) -> Result<Policy> {
    let mut policy = Policy::default();
    for plugin in flags.enable_admission_plugins.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        match plugin {
            OWNER_REFERENCES => policy.owner_references = OwnerReferences::Enforced,
            always if ALWAYS.contains(&always) => {}
            other => bail!(
                "--enable-admission-plugins: there is no plugin `{other}` to turn on\nhint: {OWNER_REFERENCES} is the one that is off by default"
            ),
        }
    }
    if let Some(path) = &flags.admission_control_config_file {
        policy.pod_security = pod_security(path)?;
    }
    Ok(policy)
}

fn read(path: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("{} is no YAML", path.display()))
}

/// Reads an AdmissionConfiguration, and the file that it names where it holds no configuration itself.
fn pod_security(path: &Path) -> Result<PodSecurity> {
    let (file, shown) = (read(path)?, path.display());
    let known = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
    if file["kind"] != "AdmissionConfiguration" || !known.iter().any(|v| file["apiVersion"] == *v) {
        bail!("{shown} is no AdmissionConfiguration of {}", known[0]);
    }
    let mut found = PodSecurity::default();
    for plugin in file["plugins"].as_array().into_iter().flatten() {
        let name = plugin["name"].as_str().unwrap_or_default();
        if name != POD_SECURITY {
            bail!("{shown}: the plugin `{name}` takes no configuration; {POD_SECURITY} does");
        }
        // Of a path and a configuration, the configuration counts, as on a stock server.
        let config = match (&plugin["configuration"], plugin["path"].as_str().filter(|p| !p.is_empty())) {
            (Value::Null, Some(other)) => read(&path.parent().unwrap_or(Path::new(".")).join(other))?,
            (config, _) => config.clone(),
        };
        found = match config {
            Value::Null => PodSecurity::default(),
            config => PodSecurity::parse(&config).map_err(|causes| {
                let all: Vec<String> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
                anyhow::anyhow!("{shown}: {}", all.join(", "))
            })?,
        };
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "{apiVersion: pod-security.admission.config.k8s.io/v1, kind: PodSecurityConfiguration, defaults: {enforce: baseline, enforce-version: v1.35}, exemptions: {usernames: [jane]}}";

    fn file(plugins: &str) -> Result<PodSecurity> {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("pods.yaml"), CONFIG)?;
        let path = dir.path().join("admission.yaml");
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins: ";
        std::fs::write(&path, format!("{head}{plugins}\n"))?;
        pod_security(&path)
    }

    #[test]
    fn a_configuration_is_read_in_place_or_from_its_own_file() {
        let inline = file(&format!("[{{name: PodSecurity, configuration: {CONFIG}}}]")).unwrap();
        assert_ne!(inline, PodSecurity::default());
        assert_eq!(file("[{name: PodSecurity, path: pods.yaml}]").unwrap(), inline);
        assert_eq!(file("[]").unwrap(), PodSecurity::default());
        for (plugins, why) in [
            ("[{name: PodSecurity, path: none.yaml}]", "cannot read"),
            ("[{name: EventRateLimit}]", "takes no configuration"),
            (
                "[{name: PodSecurity, configuration: {kind: PodSecurityConfiguration}}]",
                "apiVersion: Unsupported value",
            ),
        ] {
            let error = format!("{:#}", file(plugins).unwrap_err());
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn only_plugins_that_exist_are_turned_on() {
        let flags = |names: &[&str]| Admission {
            enable_admission_plugins: names.iter().map(|n| n.to_string()).collect(),
            admission_control_config_file: None,
        };
        assert_eq!(policy(&flags(&["NodeRestriction", "ResourceQuota"])).unwrap(), Policy::default());
        let policed = policy(&flags(&[OWNER_REFERENCES])).unwrap();
        assert_eq!(policed.owner_references, OwnerReferences::Enforced);
        assert!(policy(&flags(&["AlwaysPullImages"])).unwrap_err().to_string().contains("AlwaysPullImages"));
    }
}
