//! What the operator of a cluster has decided about admission, and the notes that admission makes for an audit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use stoa_kube::Cause;

use crate::value::at;

/// Longest list of exemptions of one sort; more are a mistake in the making of the file.
const EXEMPTIONS_LEN_MAX: usize = 10_000;

/// The operator's decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// About the pod security standards.
    pub pod_security: PodSecurity,
    /// About who may name owners.
    pub owner_references: OwnerReferences,
}

/// Nothing is decided: everything is as a stock server has it.
pub static STOCK: Policy =
    Policy { pod_security: PodSecurity::STOCK, owner_references: OwnerReferences::Free };

/// Whether owners may be named by everybody who may write an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnerReferences {
    /// They may.
    #[default]
    Free,
    /// Only by those who may delete the object; and only those who may set the owner's finalizers can make it wait for the object.
    Enforced,
}

/// A level of the pod security standards, from the laxest to the strictest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything is allowed.
    #[default]
    Privileged,
    /// What is known to reach for the machine is not.
    Baseline,
    /// Only what is known to be harmless is.
    Restricted,
}

impl Level {
    pub(crate) fn parse(text: &str) -> Result<Level, &'static str> {
        match text {
            "privileged" => Ok(Level::Privileged),
            "baseline" => Ok(Level::Baseline),
            "restricted" => Ok(Level::Restricted),
            _ => Err("must be one of privileged, baseline, restricted"),
        }
    }
}

/// The version of the standards by which pods are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// The newest.
    #[default]
    Latest,
    /// As they stood in Kubernetes 1.x.
    Minor(u32),
}

impl Version {
    pub(crate) fn parse(text: &str) -> Result<Version, &'static str> {
        let why = "must be \"latest\" or \"v1.x\"";
        if text == "latest" {
            return Ok(Version::Latest);
        }
        let digits = text.strip_prefix("v1.").ok_or(why)?;
        let is_number =
            digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
        digits.parse().ok().filter(|_| is_number).map(Version::Minor).ok_or(why)
    }

    /// Whether what came with `v1.minor` is part of it.
    pub(crate) fn is_since(self, minor: u32) -> bool {
        match self {
            Version::Latest => true,
            Version::Minor(own) => own >= minor,
        }
    }
}

/// A level in a version, `baseline:latest`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LevelVersion {
    pub(crate) level: Level,
    pub(crate) version: Version,
}

impl fmt::Display for LevelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

/// What is refused, noted and told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    pub(crate) enforce: LevelVersion,
    pub(crate) audit: LevelVersion,
    pub(crate) warn: LevelVersion,
}

/// The cluster's levels where a namespace says nothing, and who is exempt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurity {
    pub(crate) defaults: Levels,
    namespaces: Vec<String>,
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
}

const PRIVILEGED: LevelVersion = LevelVersion { level: Level::Privileged, version: Version::Latest };

impl PodSecurity {
    const STOCK: PodSecurity = PodSecurity {
        defaults: Levels { enforce: PRIVILEGED, audit: PRIVILEGED, warn: PRIVILEGED },
        namespaces: Vec::new(),
        usernames: Vec::new(),
        runtime_classes: Vec::new(),
    };

    /// Reads a `PodSecurityConfiguration`.
    pub fn parse(config: &Value) -> Result<PodSecurity, Vec<Cause>> {
        let mut causes = Vec::new();
        let known =
            ["v1", "v1beta1", "v1alpha1"].map(|v| format!("pod-security.admission.config.k8s.io/{v}"));
        let version = at(config, "apiVersion");
        if !known.iter().any(|k| version == k) {
            let supported: Vec<&str> = known.iter().map(String::as_str).collect();
            causes.push(Cause::not_supported("apiVersion", version.clone(), &supported));
        }
        if at(config, "kind") != "PodSecurityConfiguration" {
            let kind = at(config, "kind").clone();
            causes.push(Cause::not_supported("kind", kind, &["PodSecurityConfiguration"]));
        }
        unknown(config, "", &["apiVersion", "kind", "defaults", "exemptions"], &mut causes);
        let (defaults, exemptions) = (at(config, "defaults"), at(config, "exemptions"));
        let modes = ["enforce", "enforce-version", "audit", "audit-version", "warn", "warn-version"];
        unknown(defaults, "defaults.", &modes, &mut causes);
        unknown(exemptions, "exemptions.", &["namespaces", "runtimeClasses", "usernames"], &mut causes);
        let mut mode = |name: &str| {
            let mut policy = LevelVersion::default();
            let mut fault = |key: &str, why: &str| {
                causes.push(Cause::invalid(format!("defaults.{key}"), at(defaults, key).clone(), why));
            };
            if let Some(text) = said(defaults, name) {
                Level::parse(text).map(|l| policy.level = l).unwrap_or_else(|why| fault(name, why));
            }
            let key = format!("{name}-version");
            if let Some(text) = said(defaults, &key) {
                Version::parse(text).map(|v| policy.version = v).unwrap_or_else(|why| fault(&key, why));
            }
            policy
        };
        let defaults = Levels { enforce: mode("enforce"), audit: mode("audit"), warn: mode("warn") };
        let is_label = |t: &str| stoa_units::check_dns_label(t).map_err(|e| e.to_string());
        let is_subdomain = |t: &str| stoa_units::check_dns_subdomain(t).map_err(|e| e.to_string());
        let namespaces = exempt(exemptions, "namespaces", is_label, &mut causes);
        let runtime_classes = exempt(exemptions, "runtimeClasses", is_subdomain, &mut causes);
        let usernames = exempt(exemptions, "usernames", |_| Ok(()), &mut causes);
        match causes.is_empty() {
            true => Ok(PodSecurity { defaults, namespaces, usernames, runtime_classes }),
            false => Err(causes),
        }
    }

    pub(crate) fn exempts_namespace(&self, name: &str) -> bool {
        self.namespaces.iter().any(|n| n == name)
    }

    pub(crate) fn exempts_user(&self, name: &str) -> bool {
        self.usernames.iter().any(|n| n == name)
    }

    pub(crate) fn exempts_runtime_class(&self, name: &str) -> bool {
        self.runtime_classes.iter().any(|n| n == name)
    }
}

/// What is said under a key; an empty text says nothing, and what is no text is told of as unreadable.
fn said<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    match at(map, key) {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text),
        _ => Some("?"),
    }
}

fn unknown(map: &Value, place: &str, known: &[&str], causes: &mut Vec<Cause>) {
    if !map.is_object() && !map.is_null() {
        causes.push(Cause::invalid(place.trim_end_matches('.'), map.clone(), "must be a map"));
    }
    for key in map.as_object().into_iter().flat_map(|m| m.keys()).filter(|k| !known.contains(&k.as_str())) {
        causes.push(Cause::forbidden(format!("{place}{key}"), "unknown field"));
    }
}

fn exempt(
    map: &Value,
    key: &str,
    check: impl Fn(&str) -> Result<(), String>,
    causes: &mut Vec<Cause>,
) -> Vec<String> {
    let list = match at(map, key) {
        Value::Array(list) => list.as_slice(),
        Value::Null => &[],
        other => {
            causes.push(Cause::invalid(format!("exemptions.{key}"), other.clone(), "must be a list"));
            &[]
        }
    };
    if list.len() > EXEMPTIONS_LEN_MAX {
        causes.push(Cause::too_many(format!("exemptions.{key}"), list.len(), EXEMPTIONS_LEN_MAX));
    }
    let mut out: Vec<String> = Vec::new();
    for (i, entry) in list.iter().take(EXEMPTIONS_LEN_MAX).enumerate() {
        let (field, text) = (format!("exemptions.{key}[{i}]"), entry.as_str().unwrap_or_default());
        if text.is_empty() {
            causes.push(Cause::required(field, ""));
        } else if let Err(why) = check(text) {
            causes.push(Cause::invalid(field, text, &why));
        } else if out.iter().any(|o| o == text) {
            causes.push(Cause::duplicate(field, text));
        } else {
            out.push(text.to_owned());
        }
    }
    out
}

/// What is noted of one request and outlives its refusal: annotations by their keys, which admission makes for whoever keeps an
/// audit, and what was odd about the body, for whoever sent it.
#[derive(Debug, Default)]
pub struct Annotations {
    notes: Mutex<BTreeMap<String, String>>,
    oddities: Mutex<Vec<String>>,
}

impl Annotations {
    /// Notes something. Said again, as when a write is tried again, it replaces what was said before.
    pub(crate) fn note(&self, key: String, value: String) {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
    }

    /// All that was noted, by key.
    pub fn take(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps what was odd about the body, so that whoever is refused for another reason hears of it all the same.
    pub fn keep_oddities(&self, oddities: &[String]) {
        *self.oddities.lock().unwrap_or_else(PoisonError::into_inner) = oddities.to_vec();
    }

    /// Puts what is said of the resource before what was odd about the body.
    pub fn precede_oddities(&self, words: &[&str]) {
        let mut oddities = self.oddities.lock().unwrap_or_else(PoisonError::into_inner);
        oddities.splice(0..0, words.iter().map(|word| (*word).to_owned()));
    }

    /// What was odd about the body.
    pub fn take_oddities(&self) -> Vec<String> {
        std::mem::take(&mut self.oddities.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
